"""Attention and transformers. Names, arguments, shapes and initial distributions are PyTorch's where PyTorch has the layer."""

import math
from typing import Any

import numpy as np

from .. import backend, ops
from ..tensor import DiffTensor
from . import init
from .init import Seed
from .layers import FLOAT32, Dropout, LayerNorm, Linear
from .module import Module, Parameter


def _masked(scores: Any, mask: Any, allowed: bool) -> Any:
    """Scores plus a mask of numbers; or -inf where a mask of truths is not ``allowed``."""
    raw = mask.raw if isinstance(mask, DiffTensor) else mask
    if np.dtype(str(raw.dtype).rpartition(".")[2]) != bool:
        return scores + mask
    return ops.where(raw if allowed else ~raw, scores, -math.inf)


def causal_mask(queries: int, keys: int, like: Any = None) -> Any:
    """The truths (queries, keys): a query may look at keys up to its own place. ``like``: an array of the library wanted."""
    mask = np.tril(np.ones((queries, keys), bool))
    if like is None or backend.xp(like) is np:
        return mask
    library = backend.xp(like)
    return library.asarray(mask) if library.__name__ == "cupy" else library.asarray(mask, device=like.device)


def scaled_dot_product_attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    *,
    rng: np.random.Generator | None = None,
) -> Any:
    """softmax(query keyᵀ · scale + mask) value over the last two axes (Vaswani et al. 2017, equation 1).

    Args:
        query: (..., L, E). key: (..., S, E). value: (..., S, V).
        attn_mask: broadcast to (..., L, S): numbers that are added, or truths that say which keys take part.
        dropout_p: the probability with which a weight is zeroed; needs ``rng``.
        is_causal: a query looks at keys up to its own place only; not together with ``attn_mask``.
        scale: 1/√E if None.

    Returns:
        (..., L, V). A query that may look at no key at all gets NaN.

    Raises:
        ValueError: a mask and ``is_causal`` together, or dropout without a generator.
    """
    return _attend(query, key, value, attn_mask, True, dropout_p, is_causal, scale, rng)[0]


def _attend(
    query: Any, key: Any, value: Any, mask: Any, allowed: bool, p: float, causal: bool, scale: float | None, rng: Any
) -> tuple[Any, Any]:
    if causal and mask is not None:
        raise ValueError("attention: give attn_mask or is_causal=True, not both")
    if p > 0.0 and rng is None:
        raise ValueError("attention: dropout needs rng, a numpy.random.Generator")
    # The queries are scaled rather than the scores: there are fewer of them.
    scaled = query * (1.0 / math.sqrt(query.shape[-1]) if scale is None else scale)
    scores = ops.matmul(scaled, ops.swapaxes(key, -1, -2))
    if causal:
        raw = scores.raw if isinstance(scores, DiffTensor) else scores
        mask, allowed = causal_mask(scores.shape[-2], scores.shape[-1], like=raw), True
    if mask is not None:
        scores = _masked(scores, mask, allowed)
    weights = ops.softmax(scores, axis=-1)
    if p > 0.0:
        weights = ops.dropout(weights, p, rng)
    return ops.matmul(weights, value), weights


class MultiheadAttention(Module):
    """Attention in several heads at once (Vaswani et al. 2017): project, attend in each head, join, project.

    ``output, weights = MultiheadAttention(embed_dim, num_heads)(query, key, value)``

    Args:
        embed_dim: E, of queries, keys, values and output.
        num_heads: a divisor of E.
        dropout: of the attention weights, in training.
        bias: whether the projections have one.
        batch_first: arrays are (N, L, E) instead of (L, N, E).
        rng: generator or seed of the weights, and of the dropout.
        dtype: of the parameters.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        batch_first: bool = False,
        *,
        rng: Seed = None,
        dtype: Any = FLOAT32,
    ):
        super().__init__()
        if num_heads < 1 or embed_dim % num_heads:
            raise ValueError(f"MultiheadAttention: embed_dim {embed_dim} does not divide into {num_heads} heads")
        if not 0.0 <= dropout <= 1.0:
            raise ValueError(f"MultiheadAttention: the dropout must be from 0 to 1, not {dropout}")
        self.embed_dim, self.num_heads, self.dropout, self.batch_first = embed_dim, num_heads, dropout, batch_first
        self.rng = rng = init.generator(rng)
        self.in_proj_weight = Parameter(init.xavier_uniform((3 * embed_dim, embed_dim), rng, dtype=dtype))
        self.register_parameter("in_proj_bias", Parameter(np.zeros(3 * embed_dim, dtype)) if bias else None)
        self.out_proj = Linear(embed_dim, embed_dim, bias, rng=rng, dtype=dtype)
        if self.out_proj.bias is not None:
            self.out_proj.bias.data = np.zeros(embed_dim, dtype)

    def forward(
        self,
        query: Any,
        key: Any,
        value: Any,
        need_weights: bool = True,
        attn_mask: Any = None,
        is_causal: bool = False,
    ) -> tuple[Any, Any]:
        """Attend.

        Args:
            query: (L, N, E). key, value: (S, N, E). With ``batch_first`` (N, L, E) and (N, S, E).
            need_weights: whether the weights are returned.
            attn_mask: broadcast to (N, heads, L, S), as (L, S) is: numbers that are added to the scores, or truths that
                say which keys are *left out* (as in PyTorch's layer; its function has it the other way round).
            is_causal: a query looks at keys up to its own place only; not together with ``attn_mask``.

        Returns:
            The output, shaped as the query, and the mean of the heads' weights (N, L, S) or None.

        Raises:
            ValueError: shapes that do not fit, or a mask and ``is_causal`` together.
        """
        for name, x in (("query", query), ("key", key), ("value", value)):
            if x.ndim != 3 or x.shape[2] != self.embed_dim:
                raise ValueError(
                    f"MultiheadAttention: {name} {tuple(x.shape)} must have three axes, the last {self.embed_dim}"
                )
        q, k, v = (self._heads(x) for x in self._projected(query, key, value))
        p = self.dropout if self.training else 0.0
        joined, weights = _attend(q, k, v, attn_mask, False, p, is_causal, None, self.rng)
        n, _, length, _ = joined.shape
        joined = ops.permute(joined, axes=(0, 2, 1, 3) if self.batch_first else (2, 0, 1, 3))
        shape = (n, length, self.embed_dim) if self.batch_first else (length, n, self.embed_dim)
        output = self.out_proj(ops.reshape(joined, shape=shape))
        return output, ops.mean(weights, axis=1) if need_weights else None

    def _projected(self, query: Any, key: Any, value: Any) -> tuple[Any, Any, Any]:
        weight, bias = self.in_proj_weight, self.in_proj_bias
        if query is key is value:  # one product instead of three
            return ops.split(ops.linear(query, weight, bias), sections=3, axis=2)
        weights = ops.split(weight, sections=3, axis=0)
        biases = (None,) * 3 if bias is None else ops.split(bias, sections=3, axis=0)
        q, k, v = (ops.linear(x, w, b) for x, w, b in zip((query, key, value), weights, biases, strict=True))
        return q, k, v

    def _heads(self, x: Any) -> Any:
        """x as (N, heads, length, E / heads)."""
        x = ops.reshape(x, shape=(*x.shape[:2], self.num_heads, self.embed_dim // self.num_heads))
        return ops.permute(x, axes=(0, 2, 1, 3) if self.batch_first else (1, 2, 0, 3))

    def extra_repr(self) -> str:
        return f"{self.embed_dim}, {self.num_heads}, dropout={self.dropout}, batch_first={self.batch_first}"


_ACTIVATIONS = {"relu": ops.relu, "gelu": ops.gelu}


class TransformerEncoderLayer(Module):
    """A transformer block: self-attention, then two linear layers, each added to its input and normalised.

    Args:
        d_model: E, numbers for each token.
        nhead: heads of the attention.
        dim_feedforward: width between the two linear layers.
        dropout: of the attention weights, between the linear layers, and of both branches, in training.
        activation: "relu" or "gelu".
        layer_norm_eps: of both normalisations.
        batch_first: arrays are (N, L, E) instead of (L, N, E).
        norm_first: normalise what enters a branch (Xiong et al. 2020) instead of the sum (Vaswani et al. 2017).
        rng: generator or seed of weights and dropout.
        dtype: of the parameters.
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str = "relu",
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        *,
        rng: Seed = None,
        dtype: Any = FLOAT32,
    ):
        super().__init__()
        if activation not in _ACTIVATIONS:
            raise ValueError(f'TransformerEncoderLayer: activation must be "relu" or "gelu", not {activation!r}')
        self.activation, self.norm_first = activation, norm_first
        rng = init.generator(rng)
        self.self_attn = MultiheadAttention(d_model, nhead, dropout, batch_first=batch_first, rng=rng, dtype=dtype)
        self.linear1 = Linear(d_model, dim_feedforward, rng=rng, dtype=dtype)
        self.dropout = Dropout(dropout, rng=rng)
        self.linear2 = Linear(dim_feedforward, d_model, rng=rng, dtype=dtype)
        self.norm1, self.norm2 = (LayerNorm(d_model, layer_norm_eps, dtype=dtype) for _ in range(2))

    def forward(self, src: Any, src_mask: Any = None, is_causal: bool = False) -> Any:
        """src (L, N, E) to the same shape; ``src_mask`` and ``is_causal`` as in ``MultiheadAttention``."""
        if self.norm_first:
            x = src + self._attention(self.norm1(src), src_mask, is_causal)
            return x + self._feed_forward(self.norm2(x))
        x = self.norm1(src + self._attention(src, src_mask, is_causal))
        return self.norm2(x + self._feed_forward(x))

    def _attention(self, x: Any, mask: Any, causal: bool) -> Any:
        return self.dropout(self.self_attn(x, x, x, False, mask, causal)[0])

    def _feed_forward(self, x: Any) -> Any:
        return self.dropout(self.linear2(self.dropout(_ACTIVATIONS[self.activation](self.linear1(x)))))

    def extra_repr(self) -> str:
        return f"activation={self.activation!r}, norm_first={self.norm_first}"


def sinusoids(length: int, dim: int, dtype: Any = FLOAT32) -> np.ndarray:
    """The fixed positional encoding (length, dim) of Vaswani et al. 2017, section 3.5: sin and cos of t / 10000^(2i/dim).

    Raises:
        ValueError: an odd dim.
    """
    if dim % 2:
        raise ValueError(f"sinusoids: dim must be even, not {dim}")
    angles = np.arange(length)[:, None] / 10000.0 ** (np.arange(0, dim, 2) / dim)
    return np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(length, dim).astype(dtype)


class PositionalEmbedding(Module):
    """x (N, L, E) plus a learned row for each place, of weight (max_len, E); normal with deviation ``std`` at first."""

    def __init__(self, max_len: int, embed_dim: int, std: float = 0.02, *, rng: Seed = None, dtype: Any = FLOAT32):
        super().__init__()
        self.max_len, self.embed_dim = max_len, embed_dim
        self.weight = Parameter(init.normal((max_len, embed_dim), init.generator(rng), std=std, dtype=dtype))

    def forward(self, x: Any) -> Any:
        if x.ndim != 3 or x.shape[2] != self.embed_dim or x.shape[1] > self.max_len:
            raise ValueError(
                f"PositionalEmbedding: input {tuple(x.shape)} must be (N, L, {self.embed_dim}) with L up to {self.max_len}"
            )
        return x + ops.getitem(self.weight, slice(x.shape[1]))

    def extra_repr(self) -> str:
        return f"{self.max_len}, {self.embed_dim}"
