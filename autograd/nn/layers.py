"""Layers with parameters or state. Names, arguments, shapes and initial distributions are PyTorch's.

Each layer that draws random numbers takes ``rng``: a ``numpy.random.Generator``, which several layers may share, a seed, or
None for a fresh one. ``dtype`` is that of the parameters (float32 by default).
"""

import functools
import math
from typing import Any

import numpy as np

from .. import ops
from ..batch import Batch
from ..effects import recorded
from ..errors import NoValueError
from ..ops.windows import Lengths, Padding, lengths
from ..precision import beside
from ..tensor import DiffTensor
from . import init
from .init import Seed
from .module import Module, Parameter

FLOAT32 = np.dtype(np.float32)


class _Weighted(Module):
    """A layer with a weight (out, in, ...) and a bias, both uniform on ±1/√(fan in) at first."""

    weight: DiffTensor
    bias: DiffTensor | None

    def _start(self, shape: Lengths, outputs: int, bias: bool, rng: Seed, dtype: Any) -> None:
        rng, bound = init.generator(rng), 1.0 / math.sqrt(max(init.fans(shape)[0], 1))
        self.weight = Parameter(init.uniform(shape, rng, -bound, bound, dtype))
        self.register_parameter(
            "bias", Parameter(init.uniform((outputs,), rng, -bound, bound, dtype)) if bias else None
        )


class Linear(_Weighted):
    """y = x weightᵀ + bias, for x (..., in_features), weight (out_features, in_features) and bias (out_features,)."""

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, *, rng: Seed = None, dtype: Any = FLOAT32
    ):
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self._start((out_features, in_features), out_features, bias, rng, dtype)

    def forward(self, x: Any) -> Any:
        return ops.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class _Conv(_Weighted):
    """What the convolutions share; ``axes`` is the number of spatial axes."""

    axes: int

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Lengths,
        stride: int | Lengths = 1,
        padding: Padding | str = 0,
        dilation: int | Lengths = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        rng: Seed = None,
        dtype: Any = FLOAT32,
    ):
        super().__init__()
        if groups < 1 or in_channels % groups or out_channels % groups:
            raise ValueError(
                f"{type(self).__name__}: {in_channels} input and {out_channels} output channels do not divide into {groups} groups"
            )
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = lengths(kernel_size, self.axes, "kernel_size")
        self.stride, self.dilation = lengths(stride, self.axes, "stride"), lengths(dilation, self.axes, "dilation")
        self.padding = padding
        self._start((*self._channels(), *self.kernel_size), out_channels, bias, rng, dtype)

    def _channels(self) -> Lengths:
        return self.out_channels, self.in_channels // self.groups

    def _settings(self) -> dict[str, Any]:
        return {"stride": self.stride, "padding": self.padding, "dilation": self.dilation, "groups": self.groups}

    def extra_repr(self) -> str:
        shown = {"kernel_size": self.kernel_size, **self._settings(), "bias": self.bias is not None}
        return f"{self.in_channels}, {self.out_channels}, " + ", ".join(f"{k}={v!r}" for k, v in shown.items())


class Conv1d(_Conv):
    """The convolution of x (N, in_channels, L) with a learned weight (out_channels, in_channels / groups, kernel_size).

    Arguments as in ``Conv2d``.
    """

    axes = 1

    def forward(self, x: Any) -> Any:
        return ops.conv1d(x, self.weight, self.bias, **self._settings())


class Conv2d(_Conv):
    """The convolution of x (N, in_channels, H, W) with a learned weight (out_channels, in_channels / groups, kh, kw).

    ``Conv2d(in_channels, out_channels, kernel_size, stride=1, padding=0, dilation=1, groups=1, bias=True)``; see
    ``autograd.ops.conv2d`` for the meaning of each and the output's shape.
    """

    axes = 2

    def forward(self, x: Any) -> Any:
        return ops.conv2d(x, self.weight, self.bias, **self._settings())


class ConvTranspose2d(_Conv):
    """The transposed convolution of x (N, in_channels, H, W), weight (in_channels, out_channels / groups, kh, kw).

    Arguments in PyTorch's order; see ``autograd.ops.conv_transpose2d``.
    """

    axes = 2

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Lengths,
        stride: int | Lengths = 1,
        padding: Padding = 0,
        output_padding: int | Lengths = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: int | Lengths = 1,
        *,
        rng: Seed = None,
        dtype: Any = FLOAT32,
    ):
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, rng=rng, dtype=dtype
        )
        self.output_padding = lengths(output_padding, 2, "output_padding", least=0)

    def _channels(self) -> Lengths:
        return self.in_channels, self.out_channels // self.groups

    def _settings(self) -> dict[str, Any]:
        return {**super()._settings(), "output_padding": self.output_padding}

    def forward(self, x: Any) -> Any:
        return ops.conv_transpose2d(x, self.weight, self.bias, **self._settings())


class _Affine(Module):
    """A layer with a weight of ones and a bias of zeros at first, or neither."""

    weight: DiffTensor | None
    bias: DiffTensor | None

    def _start(self, shape: Lengths, affine: bool, dtype: Any) -> None:
        self.register_parameter("weight", Parameter(np.ones(shape, dtype)) if affine else None)
        self.register_parameter("bias", Parameter(np.zeros(shape, dtype)) if affine else None)


class _BatchNorm(_Affine):
    """Batch normalisation of each channel; ``ndims`` are the numbers of axes that the input may have."""

    ndims: tuple[int, ...]
    running_mean: DiffTensor | None
    running_var: DiffTensor | None
    num_batches_tracked: DiffTensor | None

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        dtype: Any = FLOAT32,
    ):
        super().__init__()
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self._start((num_features,), affine, dtype)
        self.register_buffer("running_mean", np.zeros(num_features, dtype) if track_running_stats else None)
        self.register_buffer("running_var", np.ones(num_features, dtype) if track_running_stats else None)
        self.register_buffer("num_batches_tracked", np.int64(0) if track_running_stats else None)

    def forward(self, x: Any) -> Any:
        if x.ndim not in self.ndims or x.shape[1] != self.num_features:
            wanted = " or ".join(f"{n} axes" for n in self.ndims)
            raise ValueError(
                f"{type(self).__name__}({self.num_features}): input {tuple(x.shape)} needs {wanted}, (N, {self.num_features}, ...)"
            )
        if not self.training and self.running_mean is not None:
            return ops.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        x = x if isinstance(x, DiffTensor) else DiffTensor(x, copy=False)
        n = x.size // self.num_features
        if n == 1:
            raise ValueError(
                f"{type(self).__name__}: input {tuple(x.shape)} has one value for each channel; training needs more"
            )
        z, mean, var = ops.standardize(x, axes=(0, *range(2, x.ndim)), eps=self.eps)
        if self.training and self.running_mean is not None and n:
            self._observe(mean, var, n)
        if self.weight is None:
            return z
        weight, bias = (ops.reshape(beside(p, z), mean.shape[1:]) for p in (self.weight, self.bias))
        return z * weight + bias

    def _observe(self, mean: DiffTensor, var: DiffTensor, n: int) -> None:
        """Move the running statistics towards a batch's; the running variance is that divided by n - 1."""
        effects = recorded() if mean.raw is None else None
        if type(mean.raw) is Batch or (mean.raw is None and effects is None):
            raise NoValueError(
                f"{type(self).__name__} is training, and an input that is symbolic, or inside vmap, has no statistics to "
                "track; call eval(), or make it with track_running_stats=False"
            )
        put: Any = self.__setattr__ if effects is None else functools.partial(effects.update, self)
        count = ops.add(self.num_batches_tracked, 1)
        put("num_batches_tracked", count)
        rate = self.momentum
        if rate is None:
            rate = 1.0 / int(count) if effects is None else 1.0 / ops.astype(count, np.float64)
        put("running_mean", self._moved(self.running_mean, mean.detach(), rate))
        put("running_var", self._moved(self.running_var, ops.multiply(var.detach(), n / (n - 1)), rate))

    def _moved(self, old: Any, seen: Any, rate: Any) -> Any:
        kept = 1.0 - rate
        if isinstance(rate, DiffTensor):  # of a trace; it takes the dtype of what it meets, as a Python number does
            kept, rate = ops.astype(kept, old.dtype), ops.astype(rate, old.dtype)
        return old * kept + seen.reshape(self.num_features).astype(old.dtype) * rate

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.weight is not None}, "
            f"track_running_stats={self.running_mean is not None}"
        )


class BatchNorm1d(_BatchNorm):
    """Batch normalisation of x (N, C) or (N, C, L) (Ioffe & Szegedy 2015).

    In training each channel is standardized with its own mean and variance over the batch, which also move the running
    statistics by ``momentum`` (None: their cumulative average); in evaluation the running statistics take their place. Then
    it is multiplied by weight (C,) and bias (C,) is added, if ``affine``.
    """

    ndims = (2, 3)


class BatchNorm2d(_BatchNorm):
    """Batch normalisation of x (N, C, H, W); see ``BatchNorm1d``."""

    ndims = (4,)


class ChannelwiseScaling(Module):
    """y = gamma x + beta with a gamma and a beta for each channel of x (N, C, ...); gamma is 1 and beta 0 at first."""

    def __init__(self, num_channels: int, *, dtype: Any = FLOAT32):
        super().__init__()
        self.num_channels = num_channels
        self.gamma = Parameter(np.ones(num_channels, dtype))
        self.beta = Parameter(np.zeros(num_channels, dtype))

    def forward(self, x: Any) -> Any:
        if x.ndim < 2 or x.shape[1] != self.num_channels:
            raise ValueError(
                f"ChannelwiseScaling({self.num_channels}): input {tuple(x.shape)} needs (N, {self.num_channels}, ...)"
            )
        shape = (self.num_channels,) + (1,) * (x.ndim - 2)
        gamma, beta = (ops.reshape(beside(p, x), shape) for p in (self.gamma, self.beta))
        return ops.multiply(x, gamma) + beta

    def extra_repr(self) -> str:
        return str(self.num_channels)


class LayerNorm(_Affine):
    """x standardized over its last axes, which have ``normalized_shape``, times weight, plus bias (Ba et al. 2016)."""

    def __init__(
        self,
        normalized_shape: int | Lengths,
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        *,
        dtype: Any = FLOAT32,
    ):
        super().__init__()
        self.normalized_shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        self.eps = eps
        self._start(self.normalized_shape, elementwise_affine, dtype)

    def forward(self, x: Any) -> Any:
        return ops.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.weight is not None}"


class GroupNorm(_Affine):
    """x (N, num_channels, ...) standardized over each group of channels of each sample, times weight, plus bias (Wu & He 2018)."""

    def __init__(
        self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True, *, dtype: Any = FLOAT32
    ):
        super().__init__()
        if num_groups < 1 or num_channels % num_groups:
            raise ValueError(f"GroupNorm: {num_channels} channels do not divide into {num_groups} groups")
        self.num_groups, self.num_channels, self.eps = num_groups, num_channels, eps
        self._start((num_channels,), affine, dtype)

    def forward(self, x: Any) -> Any:
        return ops.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.weight is not None}"


class Embedding(Module):
    """The rows of a learned weight (num_embeddings, embedding_dim) at integer ids; standard normal at first.

    With ``sparse`` the weight's ``.grad`` is a ``RowSparse`` of the rows that were used, and optimizers update those rows
    only: see ``autograd.gradients.sparse`` for what that means for momentum and weight decay.
    """

    def __init__(
        self, num_embeddings: int, embedding_dim: int, *, sparse: bool = False, rng: Seed = None, dtype: Any = FLOAT32
    ):
        super().__init__()
        self.num_embeddings, self.embedding_dim, self.sparse = num_embeddings, embedding_dim, sparse
        self.weight = Parameter(init.normal((num_embeddings, embedding_dim), init.generator(rng), dtype=dtype))

    def forward(self, ids: Any) -> Any:
        return ops.embedding(ids, self.weight, self.sparse)

    def extra_repr(self) -> str:
        return f"{self.num_embeddings}, {self.embedding_dim}" + ", sparse=True" * self.sparse


class Dropout(Module):
    """In training, each element is zeroed with probability p and the others divided by 1 - p; otherwise the identity."""

    def __init__(self, p: float = 0.5, *, rng: Seed = None):
        super().__init__()
        if not 0.0 <= p <= 1.0:
            raise ValueError(f"Dropout: the probability must be from 0 to 1, not {p}")
        self.p, self.rng = p, init.generator(rng)

    def forward(self, x: Any) -> Any:
        return ops.dropout(x, self.p, self.rng) if self.training else x

    def extra_repr(self) -> str:
        return f"p={self.p}"
