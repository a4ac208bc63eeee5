"""Rows that reduce or scan along axes: sums, products, moments, extrema, norms, softmax, cumulative sums and products.

Conventions where a derivative does not exist: ``max`` and ``min`` share it equally among ties; ``norm`` of a zero vector
and ``std`` of equal values have derivative 0. ``prod`` and ``cumprod`` are exact where elements are 0.
"""

import builtins
import math
from typing import Any

import numpy as np

from .. import backend
from ..backend import xp
from ..shapes import (
    axes_of,
    kept,
    length,
    reduced,
    reduced_bool,
    reduced_float,
    reduced_index,
    reduced_real,
    result_dtype,
    same_float,
    shape_of,
    summed,
)  # fmt: skip
from ..table import Domain, op
from .elementwise import FUNCTION, ROOT, _not_zero, abs, conj, equal, exp, where
from .layout import broadcast_to, flip, moveaxis, pad, permute, reshape, roll

__all__ = [
    "all", "any", "argmax", "argmin", "cumprod", "cumsum", "linear_scan", "log_softmax", "logsumexp", "max", "mean", "min",
    "norm", "prod", "softmax", "std", "sum", "var",
]  # fmt: skip


def _each(factor: float) -> Any:
    """FLOPs per element of the input."""
    return lambda _y, x, **_: factor * math.prod(shape_of(x))


def _spread(g: Any, x: Any, axis: Any) -> Any:
    """A reduced gradient, stretched again over the shape of the input."""
    return broadcast_to(g if axis is None else reshape(g, shape=kept(x.shape, axis)), shape=x.shape)


def _kernel(name: str) -> Any:
    return lambda x, *, axis=None, keepdims=False: getattr(xp(x), name)(x, axis=axis, keepdims=keepdims)


sum = op("sum", _kernel("sum"), summed, lambda g, _y, _x, axis, keepdims: _spread(g, _x, axis), flops=_each(1), doc="The sum over axes (all if None).")
mean = op(
    "mean", _kernel("mean"), reduced_float, lambda g, _y, _x, axis, keepdims: _spread(g * (1.0 / builtins.max(length(_x.shape, axis), 1)), _x, axis),
    flops=_each(1), doc="The mean over axes (all if None).",
)  # fmt: skip


def _np_mean(x: Any, axis: Any, keepdims: bool) -> Any:
    if x.dtype.kind not in "fc" or x.dtype.itemsize < 4:
        return np.mean(x, axis=axis, keepdims=keepdims)
    n = x.size if axis is None else length(x.shape, axis)
    return np.add.reduce(x, axis=axis, keepdims=keepdims) / n if n else np.mean(x, axis=axis, keepdims=keepdims)


sum.row.kernels[np.ndarray] = lambda x, axis, keepdims: np.add.reduce(x, axis=axis, keepdims=keepdims)
mean.row.kernels[np.ndarray] = _np_mean


def _prod_rule(g: Any, _y: Any, x: Any, axis: Any, keepdims: bool) -> Any:
    """g times the product of the *other* elements, which is exact where elements are 0."""
    if not math.prod(x.shape):
        return broadcast_to(reshape(g, shape=kept(x.shape, axis)), shape=x.shape)
    axes = [a for a in range(x.ndim) if kept(x.shape, axis)[a] != x.shape[a] or (axis is None or a in np.atleast_1d(axis) % x.ndim)]
    order = tuple(a for a in range(x.ndim) if a not in axes) + tuple(axes)
    moved = permute(x, axes=order)
    rows = reshape(moved, shape=(-1, math.prod(x.shape[a] for a in axes)))
    before = _exclusive(rows)
    after = flip(_exclusive(flip(rows, axis=1)), axis=1)
    others = permute(reshape(before * after, shape=moved.shape), axes=tuple(np.argsort(order).tolist()))
    return others * reshape(g, shape=kept(x.shape, axis))


def _exclusive(rows: Any) -> Any:
    """Products of the elements before each one."""
    return _shift(cumprod(rows, axis=-1), 1.0)


def _shift(x: Any, first: float) -> Any:
    """The last axis moved by one place, ``first`` coming in."""
    if not x.shape[-1]:
        return x
    width = ((0, 0),) * (x.ndim - 1) + ((1, 0),)
    return pad(x[..., :-1], width=width, value=first)


prod = op("prod", _kernel("prod"), summed, _prod_rule, flops=_each(1), doc="The product over axes (all if None).")

# ---- moments ----


def _var(x: Any, *, axis: Any = None, keepdims: bool = False, correction: float = 0) -> Any:
    return xp(x).var(x, axis=axis, keepdims=keepdims, correction=correction)


def _std(x: Any, *, axis: Any = None, keepdims: bool = False, correction: float = 0) -> Any:
    return xp(x).std(x, axis=axis, keepdims=keepdims, correction=correction)


def _centred(x: Any, axis: Any, correction: float) -> Any:
    d = x - mean(x, axis=axis, keepdims=True)
    d = d - mean(d, axis=axis, keepdims=True)  # of a mean far larger than the spread the rounding is left, which counts
    return d * (1.0 / builtins.max(length(x.shape, axis) - correction, 1e-300))


var = op(
    "var", _var, reduced_real,
    lambda g, _y, x, axis, keepdims, correction: 2.0 * _spread(g, x, axis) * conj(_centred(x, axis, correction)),
    flops=_each(4), doc="The variance over axes, divided by n - correction.",
)  # fmt: skip
std = op(
    "std", _std, reduced_real,
    lambda g, y, x, axis, keepdims, correction: _spread(where(equal(y, 0), 0.0, g / _not_zero(y)), x, axis) * conj(_centred(x, axis, correction)),
    flops=_each(4), doc="The standard deviation over axes, divided by n - correction; derivative 0 where it is 0.",
)  # fmt: skip

# ---- extrema ----


def _extremum_rule(g: Any, y: Any, x: Any, axis: Any, keepdims: bool) -> Any:
    ties = where(equal(x, reshape(y, shape=kept(x.shape, axis))), 1.0, broadcast_to(x * 0.0, shape=x.shape))
    return ties * reshape(g / sum(ties, axis=axis, keepdims=keepdims), shape=kept(x.shape, axis))


max = op("max", _kernel("max"), reduced, _extremum_rule, flops=_each(1), complex=False, doc="The largest element over axes; ties share the derivative.")
min = op("min", _kernel("min"), reduced, _extremum_rule, flops=_each(1), complex=False, doc="The smallest element over axes; ties share the derivative.")
argmax = op("argmax", _kernel("argmax"), reduced_index, None, flops=_each(1), complex=False, precision="any", doc="The place of the first largest element along an axis (of all if None).")
argmin = op("argmin", _kernel("argmin"), reduced_index, None, flops=_each(1), complex=False, precision="any", doc="The place of the first smallest element along an axis (of all if None).")
all = op("all", _kernel("all"), reduced_bool, None, domain=Domain(kind="bool"), flops=_each(1), precision="any", doc="Whether all elements over axes are true.")
any = op("any", _kernel("any"), reduced_bool, None, domain=Domain(kind="bool"), flops=_each(1), precision="any", doc="Whether any element over axes is true.")

# ---- norms and softmax ----


def _norm(x: Any, *, axis: Any = None, keepdims: bool = False) -> Any:
    library = xp(x)
    size = abs(backend.inexact(x))
    return library.sqrt(library.sum(size * size, axis=axis, keepdims=keepdims))




def _np_norm(x: Any, axis: Any, keepdims: bool) -> Any:
    """``_norm``, and again with numbers scaled to 1 where squares have overflowed or underflowed."""
    with np.errstate(over="ignore", under="ignore"):
        out = _norm(x, axis=axis, keepdims=keepdims)
        info = np.finfo(out.dtype)
        if not x.size or ((out > info.tiny**0.5 / info.eps).all() and (out < math.inf).all()):
            return out
        size = np.abs(backend.inexact(x))
        top = np.max(size, axis=axis, keepdims=True)
        top = np.where((top > 0) & (top < math.inf), top, 1).astype(top.dtype)
        return _norm(size / top, axis=axis, keepdims=keepdims) * (top if keepdims else top.reshape(np.shape(out)))


norm = op(
    "norm", _norm, reduced_real, lambda g, y, x, axis, keepdims: conj(x) / _spread(_not_zero(y), x, axis) * _spread(g, x, axis),
    flops=_each(2), doc="The Euclidean norm over axes (all if None); its derivative at 0 is 0.",
)  # fmt: skip
norm.row.kernels[np.ndarray] = _np_norm


def _logsumexp(x: Any, *, axis: Any = None, keepdims: bool = False) -> Any:
    library = xp(x)
    top = library.max(x, axis=axis, keepdims=True) if math.prod(x.shape) else library.sum(x, axis=axis, keepdims=True) - math.inf
    top = library.where(library.isfinite(top), top, 0.0)
    total = library.log(library.sum(library.exp(x - top), axis=axis, keepdims=True)) + top
    return total if keepdims else backend.scalar(library.reshape(total, reduced(x, axis)[0]))




def _share_of(e: Any, axis: Any) -> Any:
    """e / Σ e: the sum is 1 but for the rounding of y, which is all too much where y is large."""
    return e / sum(e, axis=axis, keepdims=True)


logsumexp = op(
    "logsumexp", _logsumexp, reduced_float,
    lambda g, y, x, axis, keepdims: _spread(g, x, axis) * _share_of(exp(x - reshape(y, shape=kept(x.shape, axis))), axis),
    flops=_each(FUNCTION + 3), complex=False, doc="log Σ eˣ over axes, without overflow.",
)  # fmt: skip


def _shifted(x: Any, axis: int) -> Any:
    library = xp(x)
    return x - (np.maximum.reduce(x, axis=axis, keepdims=True) if type(x) is np.ndarray else library.max(x, axis=axis, keepdims=True))


def _total(x: Any, axis: int) -> Any:
    return np.add.reduce(x, axis=axis, keepdims=True) if type(x) is np.ndarray else xp(x).sum(x, axis=axis, keepdims=True)


def _softmax(x: Any, *, axis: int = -1) -> Any:
    e = xp(x).exp(_shifted(backend.inexact(x), axis))
    return e / _total(e, axis)


def _log_softmax(x: Any, *, axis: int = -1) -> Any:
    z = _shifted(backend.inexact(x), axis)
    return z - xp(x).log(_total(xp(x).exp(z), axis))


softmax = op(
    "softmax", _softmax, lambda x, axis: same_float(x),
    lambda g, y, _x, axis: _softmax_rule(g, y, axis),
    flops=FUNCTION + ROOT + 3, complex=False, doc="eˣ / Σ eˣ along an axis.",
)  # fmt: skip
log_softmax = op(
    "log_softmax", _log_softmax, lambda x, axis: same_float(x),
    lambda g, y, _x, axis: g - exp(y) * sum(g, axis=axis, keepdims=True),
    flops=FUNCTION + 4, complex=False, doc="x - log Σ eˣ along an axis.",
)  # fmt: skip


def _softmax_rule(g: Any, y: Any, axis: int) -> Any:
    gy = g * y
    return gy - y * sum(gy, axis=axis, keepdims=True)


# ---- scans ----

_LINEAR_SCAN = """The first-order linear recurrence yₖ = aₖ yₖ₋₁ + bₖ along an axis, from y₋₁ = 0.

a and b are broadcast: an ``a`` without the axis, or of length 1 along it, is the same at every step. With ``reverse`` it runs from the
end: yₖ = aₖ yₖ₊₁ + bₖ. One step follows another, as written, so results are those of the loop to the last bit (a parallel scan, as in
Martin & Cundy 2018, adds up in another order).
"""


def _cumulative(name: str) -> Any:
    def kernel(x: Any, *, axis: int | None = None) -> Any:
        library = xp(x)
        x = library.reshape(x, (-1,)) if axis is None else x
        return getattr(library, name)(x, axis=0 if axis is None else axis)

    return kernel


def _scanned(x: Any, axis: int | None = None, **_: Any) -> Any:
    shape = shape_of(x)
    return (math.prod(shape),) if axis is None else shape, summed(x)[1]


def _cumsum_rule(g: Any, _y: Any, _x: Any, axis: int | None) -> Any:
    a = 0 if axis is None else axis
    return reshape(flip(cumsum(flip(g, axis=a), axis=a), axis=a), shape=_x.shape)


cumsum = op("cumsum", _cumulative("cumulative_sum"), _scanned, _cumsum_rule, doc="Running sums along an axis (of the flattened array if None).")


def _cumprod_rule(g: Any, _y: Any, x: Any, axis: int | None) -> Any:
    """xₖ's derivative is (product before k) · sₖ with sₖ = gₖ + xₖ₊₁ sₖ₊₁: a linear scan, exact where elements are 0."""
    if not math.prod(x.shape):
        return reshape(g, shape=x.shape)
    flat = reshape(x, shape=(-1,)) if axis is None else x
    last = 0 if axis is None else axis % flat.ndim
    rows, gs = (moveaxis(a, last, -1) for a in (flat, g))
    d = _exclusive(rows) * _scan_back(gs, rows)
    return reshape(moveaxis(d, -1, last), shape=x.shape)


cumprod = op("cumprod", _cumulative("cumulative_prod"), _scanned, _cumprod_rule, doc="Running products along an axis (of the flattened array if None).")


def _scan_place(a: Any, b: Any, axis: int) -> tuple[tuple[int, ...], int]:
    """The shape of a linear scan, and its axis counted from the front."""
    shape = np.broadcast_shapes(shape_of(a), shape_of(b))
    return shape, axes_of(axis, len(shape))[0]


def _linear_scan(a: Any, b: Any, *, axis: int = -1, reverse: bool = False) -> Any:
    library = xp(b)
    shape, place = _scan_place(a, b, axis)
    if not shape[place]:
        return a * b
    dtype = getattr(library, result_dtype(a, b).name)
    a, b = (library.moveaxis(library.broadcast_to(library.astype(x, dtype), shape), place, 0) for x in (a, b))
    order = range(shape[place])[:: -1 if reverse else 1]
    out = [b[order[0], ...]]
    for k in order[1:]:
        out.append(a[k, ...] * out[-1] + b[k, ...])
    return library.stack(out[:: -1 if reverse else 1], axis=place)


LINE = 64
"""Bytes of a cache line. A step of a scan that reads less than that in one piece is slow."""


def _np_linear_scan(a: Any, b: Any, axis: int, reverse: bool) -> Any:
    """As above, each step written into the result. Where steps would be scattered over memory, the scan runs over a copy with its
    axis first."""
    shape, place = _scan_place(a, b, axis)
    out = np.empty(shape, result_dtype(a, b))
    if not out.size:
        return out
    direct = math.prod(shape[:place]) == 1 or math.prod(shape[place + 1 :]) * out.itemsize >= LINE
    y = np.moveaxis(out, place, 0) if direct else np.empty((shape[place], *shape[:place], *shape[place + 1 :]), out.dtype)
    y[...] = np.moveaxis(np.broadcast_to(b, shape), place, 0)
    factors = np.moveaxis(np.reshape(a, (1,) * (len(shape) - np.ndim(a)) + np.shape(a)), place, 0)
    factors = np.broadcast_to(factors if direct else np.ascontiguousarray(factors), (len(y), *factors.shape[1:]))
    steps = y if y.ndim > 1 else y[:, None]  # views, not numbers
    work = np.empty(steps.shape[1:], out.dtype)
    before = None
    for k in range(len(y))[:: -1 if reverse else 1]:
        now = steps[k]
        if before is not None:
            np.add(np.multiply(factors[k], before, out=work), now, out=now)
        before = now
    if not direct:
        out[...] = np.moveaxis(y, 0, place)
    return out


def _scan_back(g: Any, a: Any, axis: int = -1, reverse: bool = False) -> Any:
    """The scan's transpose, which runs the other way: tₖ = gₖ + aₖ₊₁ tₖ₊₁. What the roll brings round is not read."""
    place = axis % g.ndim - (g.ndim - a.ndim)
    if place >= 0 and a.shape[place] > 1:
        a = roll(a, shift=1 if reverse else -1, axis=place)
    return linear_scan(a, g, axis=axis, reverse=not reverse)


def _scan_factor_rule(g: Any, y: Any, a: Any, _b: Any, axis: int, reverse: bool) -> Any:
    """yₖ₋₁ tₖ; for a factor that is the same at all k only those that are not zero, which the engine sums."""
    t, place = _scan_back(g, a, axis, reverse), axis % g.ndim
    index = (slice(None),) * place
    first, rest = (*index, slice(None, -1), ...), (*index, slice(1, None), ...)
    before, after = (rest, first) if reverse else (first, rest)
    if place < g.ndim - a.ndim or a.shape[place - (g.ndim - a.ndim)] == 1:
        return y[before] * t[after]
    width = [(0, 0)] * g.ndim
    width[place] = (0, 1) if reverse else (1, 0)
    return pad(y[before], width=tuple(width)) * t if g.shape[place] else y * t


linear_scan = op(
    "linear_scan", _linear_scan, lambda a, b, axis, reverse: (_scan_place(a, b, axis)[0], result_dtype(a, b)),
    _scan_factor_rule,
    lambda g, _y, a, _b, axis, reverse: _scan_back(g, a, axis, reverse),
    flops=2, doc=_LINEAR_SCAN,
)  # fmt: skip
linear_scan.row.kernels[np.ndarray] = _np_linear_scan

