"""Cross-entropy of logits and of probabilities, embedding and dropout.

``cross_entropy`` takes logits and integer classes to losses and keeps the probabilities, from which its gradient,
softmax minus target, is one subtraction (the row ``cross_entropy_rule``).
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import backend
from ..backend import xp
from ..batch import physical
from ..context import current
from ..effects import recorded
from ..errors import NoValueError
from ..halves import is_half, single
from ..shapes import axes_of, kept, result_dtype, same_float, shape_of, stretched_float
from ..table import Domain, op
from ..tensor import DiffTensor
from .activations import softplus
from .elementwise import (
    FUNCTION,
    ROOT,
    add,
    dropout_mask,
    greater,
    less,
    log,
    log1p,
    maximum,
    multiply,
    replace_zero,
    where,
)  # fmt: skip
from .index import PLACES, sparse_take, take, take_along_axis
from .layout import expand_dims, reshape, squeeze
from .reduce import _softmax_rule, log_softmax, mean, sum
from .windows import constant

__all__ = [
    "binary_cross_entropy", "binary_cross_entropy_with_logits", "cross_entropy", "cross_entropy_rule", "dropout", "embedding",
]  # fmt: skip


def _per_element(factor: float) -> Any:
    """FLOPs per element of the first input."""
    return lambda _y, x, *_, **__: factor * math.prod(shape_of(x))


def check_places(name: str, places: Any, n: int, what: str) -> None:
    """Refuse places that are not integers from 0 to n - 1: negative ones would silently count from the end.

    Only NumPy arrays are looked at: symbolic places have no values, and reading those on a device would wait for it.
    """
    places = physical(places.raw if isinstance(places, DiffTensor) else places)
    if places is None:
        return
    if not (places.dtype.kind in "iu" if isinstance(places.dtype, np.dtype) else "int" in str(places.dtype)):
        raise TypeError(f"{name}: {what} must be integers, not {places.dtype}")
    if xp(places) is not np or not places.size:
        return
    if np.maximum.reduce(places.view(_UNSIGNED[places.dtype.itemsize]), axis=None) >= n:
        raise IndexError(
            f"{name}: {what} must be from 0 to {n - 1}; there are some from {places.min()} to {places.max()}"
        )


_UNSIGNED = {n: np.dtype(f"u{n}") for n in (1, 2, 4, 8)}  # a negative number looks huge in them


def _check_target(x: Any, target: Any, axis: int) -> int:
    """The class axis, counted from 0."""
    (a,) = axes_of(axis, len(shape_of(x)))
    if shape_of(target) != shape_of(x)[:a] + shape_of(x)[a + 1 :]:
        raise ValueError(
            f"logits {shape_of(x)} with classes along axis {a} and target {shape_of(target)} do not fit; the target needs "
            f"the shape {shape_of(x)[:a] + shape_of(x)[a + 1 :]}"
        )
    return a


def _cross_entropy(x: Any, target: Any, *, axis: int = -1, smoothing: float = 0.0) -> tuple:
    a = _check_target(x, target, axis)
    check_places("cross_entropy", target, x.shape[a], "classes")
    library = xp(x)
    z = x - library.max(x, axis=a, keepdims=True)
    e = library.exp(z)
    total = library.sum(e, axis=a, keepdims=True)
    losses = library.log(total) - (1.0 - smoothing) * library.take_along_axis(
        z, library.expand_dims(target, axis=a), axis=a
    )
    if smoothing:
        losses = losses - smoothing * library.mean(z, axis=a, keepdims=True)
    return library.squeeze(losses, axis=a), e / total


def _at(target: Any, a: int) -> tuple:
    """The index of each target's element, the class axis being a."""
    if target.ndim == 1:
        return (np.arange(target.shape[0]), target) if a else (target, np.arange(target.shape[0]))
    index = list(np.indices(target.shape, sparse=True))
    index.insert(a, target)
    return tuple(index)


def _np_cross_entropy(x: Any, target: Any, axis: int, smoothing: float) -> tuple:
    a = _check_target(x, target, axis)
    check_places("cross_entropy", target, x.shape[a], "classes")
    dtype = x.dtype
    if is_half(dtype):
        x = single(x)
    z = x - np.maximum.reduce(x, axis=a, keepdims=True)
    picked = z[_at(target, a)]
    if smoothing:
        picked = (1.0 - smoothing) * picked + smoothing * np.mean(z, axis=a)
    p = np.exp(z, out=z)
    total = np.add.reduce(p, axis=a, keepdims=True)
    p /= total
    losses = np.log(total).reshape(picked.shape) - picked
    return backend.scalar(losses.astype(dtype, copy=False)), p.astype(dtype, copy=False)


def _cross_entropy_shape(x: Any, target: Any, axis: int, smoothing: float) -> list:
    _check_target(x, target, axis)
    shape, dtype = same_float(x)
    return [(shape_of(target), dtype), (shape, dtype)]


def _cross_entropy_vjp(gs: Any, ys: Any, _x: Any, target: Any, axis: int, smoothing: float) -> Any:
    g, gp = gs
    d = None if g is None else cross_entropy_rule(g, ys[1], target, axis=axis, smoothing=smoothing)
    if gp is None:
        return d
    part = _softmax_rule(gp, ys[1], axis)
    return part if d is None else d + part


_cross_entropy_row = op(
    "cross_entropy", _cross_entropy, _cross_entropy_shape, _cross_entropy_vjp, None,
    domain=(Domain(), PLACES), outputs=2, flops=_per_element(FUNCTION + ROOT + 3), complex=False,
    doc="Losses and probabilities of logits and integer classes along an axis.",
)  # fmt: skip


def _rule(g: Any, p: Any, target: Any, *, axis: int = -1, smoothing: float = 0.0) -> Any:
    (a,) = axes_of(axis, p.ndim)
    library, n = xp(p), p.shape[a]
    ids = library.reshape(library.arange(n, dtype=target.dtype, **_place(target)), (n,) + (1,) * (p.ndim - a - 1))
    hit = library.astype(ids == library.expand_dims(target, axis=a), p.dtype)
    return library.expand_dims(g, axis=a) * (p - (1.0 - smoothing) * hit - smoothing / n)


def _place(x: Any) -> dict[str, Any]:
    return {} if xp(x).__name__ in ("numpy", "cupy") else {"device": x.device}


def _np_rule(g: Any, p: Any, target: Any, axis: int, smoothing: float) -> Any:
    (a,) = axes_of(axis, p.ndim)
    stretched = g.reshape(kept(p.shape, a))
    d = p * stretched
    if smoothing:
        d -= stretched * (smoothing / p.shape[a])
        g = g * (1.0 - smoothing)
    d[_at(target, a)] -= g
    return d


def _rule_for_g(h: Any, _y: Any, _g: Any, p: Any, target: Any, axis: int, smoothing: float) -> Any:
    (a,) = axes_of(axis, p.ndim)
    at_target = squeeze(take_along_axis(h, expand_dims(target, axis=a), axis=a), axis=a)
    return sum(h * p, axis=a) - (1.0 - smoothing) * at_target - smoothing * mean(h, axis=a)


cross_entropy_rule = op(
    "cross_entropy_rule", _rule, lambda g, p, target, **_: (shape_of(p), result_dtype(g, p)),
    _rule_for_g,
    lambda h, _y, g, _p, _target, axis, smoothing: h * expand_dims(g, axis=axes_of(axis, _p.ndim)[0]),
    None,
    domain=(Domain(), Domain(0.1, 0.9), PLACES), flops=2, complex=False,
    doc="The gradient of cross-entropy: g · (p - target), for g of the losses' shape and p the probabilities.",
)  # fmt: skip
_cross_entropy_row.row.kernels[np.ndarray] = _np_cross_entropy
cross_entropy_rule.row.kernels[np.ndarray] = _np_rule


def cross_entropy(
    logits: Any, target: Any, weight: Any = None, *, axis: int | None = None, label_smoothing: float = 0.0
) -> Any:
    """-Σ q log softmax(logits) along the class axis, for each position: not reduced. Stable at any logits.

    Args:
        logits: (N, C), (N, C, d1, ...) or (C,).
        target: integers from 0 to C - 1, of the shape of the logits without the class axis: q is 1 there and 0 elsewhere.
            Or q itself, of the shape of the logits and their dtype.
        weight: a factor for each class, (C,), or None.
        axis: the class axis; None: axis 1, or 0 if there is no other.
        label_smoothing: s in [0, 1]: q becomes (1 - s) q + s / C (Szegedy et al. 2016).

    Raises:
        ValueError: shapes that do not fit. TypeError: a target that is not numbers of these kinds. IndexError: a class
        out of range (looked for in NumPy arrays only).
    """
    if not 0.0 <= label_smoothing <= 1.0:
        raise ValueError(f"cross_entropy: label_smoothing must be from 0 to 1, not {label_smoothing}")
    axis = (1 if len(shape_of(logits)) > 1 else 0) if axis is None else axes_of(axis, len(shape_of(logits)))[0]
    n = shape_of(logits)[axis]
    if weight is not None and shape_of(weight) != (n,):
        raise ValueError(
            f"cross_entropy: the weight has shape {shape_of(weight)}, the {n} classes of logits {shape_of(logits)} need ({n},)"
        )
    if not hasattr(target, "dtype"):
        target = backend.asarray(target)
    dense = backend.is_inexact(target.dtype)
    if weight is None and not dense:
        return _cross_entropy_row(logits, target, axis=axis, smoothing=label_smoothing)[0]
    if weight is not None and not dense and not label_smoothing:
        return multiply(_cross_entropy_row(logits, target, axis=axis, smoothing=0.0)[0], take(weight, target, axis=0))
    terms = -log_softmax(logits, axis=axis)
    if weight is not None:
        terms = multiply(terms, reshape(weight, shape=(n,) + (1,) * (logits.ndim - axis - 1)))
    if dense:
        if shape_of(target) != shape_of(logits):
            raise ValueError(
                f"cross_entropy: probabilities {shape_of(target)} for logits {shape_of(logits)}; the shapes must be equal"
            )
        picked = sum(multiply(terms, target), axis=axis)
    else:
        _check_target(logits, target, axis)
        check_places("cross_entropy", target, n, "classes")
        picked = squeeze(take_along_axis(terms, expand_dims(target, axis=axis), axis=axis), axis=axis)
    return (
        picked if not label_smoothing else (1.0 - label_smoothing) * picked + label_smoothing * mean(terms, axis=axis)
    )


cross_entropy.row = _cross_entropy_row.row  # type: ignore[attr-defined]


# ---- cross-entropy of probabilities ----


def _log(p: Any) -> Any:
    """log p, but not below -100."""
    return maximum(where(greater(p, 0), log(replace_zero(p, by=1.0)), -100.0), -100.0)


def _log_rest(p: Any) -> Any:
    """log(1 - p), accurate near 0, but not below -100."""
    below = less(p, 1)
    return maximum(where(below, log1p(-where(below, p, 0.0)), -100.0), -100.0)


def _binary_cross_entropy(p: Any, target: Any) -> Any:
    if xp(p) is np and not np.all((p >= 0) & (p <= 1)):  # elsewhere, looking would wait for the device
        raise ValueError(
            "the probabilities must be from 0 to 1; for logits use binary_cross_entropy_with_logits, which is also more accurate"
        )
    return -(target * _log(p) + (1.0 - target) * _log_rest(p))


def _least(dtype: Any) -> float:
    return 6.2e-5 if "float16" in str(dtype) else 1e-12


binary_cross_entropy = op(
    "binary_cross_entropy", _binary_cross_entropy, stretched_float,
    lambda g, _y, p, target: g * (p - target) / maximum(p * (1.0 - p), _least(p.dtype)),
    lambda g, _y, p, _t: g * (_log_rest(p) - _log(p)),
    domain=(Domain(0.05, 0.95), Domain(0.05, 0.95)), flops=2 * FUNCTION + 5, complex=False,
    doc="""-target log p - (1 - target) log(1 - p), for probabilities p. As in PyTorch, the logarithms are not taken below
    -100, and the derivative divides by max(p (1 - p), 1e-12).

    Raises ValueError: p, on the host, has elements that are not in [0, 1].""",
)  # fmt: skip


def binary_cross_entropy_with_logits(logits: Any, target: Any, pos_weight: Any = None) -> Any:
    """The binary cross-entropy of sigmoid(logits), for each element: not reduced. Stable and accurate at any logits.

    Args:
        target: numbers in [0, 1], of the logits' shape.
        pos_weight: a factor for the positive part, which broadcasts with the target; or None.
    """
    positive, negative = multiply(target, softplus(-logits)), multiply(1.0 - target, softplus(logits))
    return add(negative, positive if pos_weight is None else multiply(pos_weight, positive))


# ---- embedding and dropout ----


def embedding(ids: Any, weight: Any, sparse: bool = False) -> Any:
    """The rows of weight (n, d) at integer ids of any shape: (*ids.shape, d).

    Args:
        sparse: whether ``backward()`` leaves in the ``.grad`` of weight, if that is a leaf, a ``RowSparse`` of the rows
            that were used. Where weight is used otherwise too, the sum is dense; so are the gradients that function
            transforms return, and recorded ones.

    Raises:
        IndexError: an id that is not from 0 to n - 1. TypeError: ids that are not integers.
    """
    ids = ids if hasattr(ids, "dtype") else backend.asarray(ids)
    check_places("embedding", ids, shape_of(weight)[0], "ids")
    return sparse_take(weight, ids) if sparse else take(weight, ids, axis=0)


def _rewound(rng: "np.random.Generator") -> Callable[[], "np.random.Generator"]:
    """What makes a generator that draws what ``rng`` is about to draw, and leaves ``rng`` alone."""
    kind, state = type(rng.bit_generator), rng.bit_generator.state

    def copy() -> "np.random.Generator":
        bits = kind()
        bits.state = state
        return np.random.Generator(bits)

    return copy


def dropout(x: Any, p: float, rng: "np.random.Generator") -> Any:
    """x with each element zeroed with probability p, and the others divided by 1 - p (Srivastava et al. 2014).

    The mask is drawn from ``rng``, on the host.

    Raises:
        ValueError: p is not in [0, 1]. NoValueError: x is symbolic, and the trace keeps no effects (see ``autograd.effects``).
    """
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"dropout: the probability must be from 0 to 1, not {p}")
    if p == 0.0:
        return x
    scale = 1.0 / (1.0 - p) if p < 1.0 else 0.0
    if isinstance(x, DiffTensor) and x.raw is None:
        effects, size = recorded(), x.shape
        if effects is None:
            raise NoValueError("dropout: a graph draws no random numbers; call eval(), or pass dropout_mask() a mask that is an argument")
        return dropout_mask(x, effects.draw(lambda: rng.random(size, dtype=np.float32) >= p, size, bool), scale=scale)
    context, shape = current(), shape_of(x)
    again = None if context is None or context.keeper is None or not shape else _rewound(rng)
    mask = constant(rng.random(shape, dtype=np.float32) >= p, x)
    if again is not None and context is not None:
        place = backend.place_of(mask)
        context.keeper.drawn(mask, lambda: backend.to_device(again().random(shape, dtype=np.float32) >= p, place))
    if isinstance(x, DiffTensor):
        mask = DiffTensor._wrap(mask, None)  # ours: it need not be copied to be kept
    return dropout_mask(x, mask, scale=scale)
