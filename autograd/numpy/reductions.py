"""NumPy's functions that reduce or scan along axes, as rows of the op table, with NumPy's signatures."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import ops
from ..shapes import axes_of, length
from ._face import array_of, rule, without_gradient


def _axis(axis: Any) -> Any:
    """An axis argument as Python numbers; DiffTensors and NumPy integers may be in it."""
    if axis is None:
        return None
    return tuple(int(a) for a in axis) if isinstance(axis, list | tuple | np.ndarray) else int(axis)


def _prepared(a: Any, dtype: Any = None) -> Any:
    a = array_of(a)
    return a if dtype is None else ops.astype(a, dtype)


def _masked(a: Any, where: Any, fill: float) -> Any:
    return a if where is True else ops.where(np.asarray(getattr(where, "raw", where), bool), a, fill)


@rule(np.sum)
def sum(
    a: Any, axis: Any = None, dtype: Any = None, keepdims: bool = False, initial: Any = 0, where: Any = True
) -> Any:
    total = ops.sum(_masked(_prepared(a, dtype), where, 0.0), axis=_axis(axis), keepdims=bool(keepdims))
    return total if type(initial) is int and initial == 0 else total + initial


@rule(np.prod)
def prod(
    a: Any, axis: Any = None, dtype: Any = None, keepdims: bool = False, initial: Any = 1, where: Any = True
) -> Any:
    product = ops.prod(_masked(_prepared(a, dtype), where, 1.0), axis=_axis(axis), keepdims=bool(keepdims))
    return product if type(initial) is int and initial == 1 else product * initial


@rule(np.mean)
def mean(a: Any, axis: Any = None, dtype: Any = None, keepdims: bool = False, *, where: Any = True) -> Any:
    a, axis = _prepared(a, dtype), _axis(axis)
    if where is True:
        return ops.mean(a, axis=axis, keepdims=bool(keepdims))
    mask = np.broadcast_to(np.asarray(getattr(where, "raw", where), bool), tuple(a.shape))
    count = np.sum(mask, axis=axis, keepdims=bool(keepdims)).astype(a.dtype)
    return ops.sum(_masked(a, mask, 0.0), axis=axis, keepdims=bool(keepdims)) / count


@rule(np.var)
def var(
    a: Any, axis: Any = None, dtype: Any = None, ddof: float = 0, keepdims: bool = False, *, correction: Any = None
) -> Any:
    n = ddof if correction is None else correction
    return ops.var(_prepared(a, dtype), axis=_axis(axis), keepdims=bool(keepdims), correction=n)


@rule(np.std)
def std(
    a: Any, axis: Any = None, dtype: Any = None, ddof: float = 0, keepdims: bool = False, *, correction: Any = None
) -> Any:
    n = ddof if correction is None else correction
    return ops.std(_prepared(a, dtype), axis=_axis(axis), keepdims=bool(keepdims), correction=n)


@rule(np.average)
def average(a: Any, axis: Any = None, weights: Any = None, returned: bool = False, *, keepdims: bool = False) -> Any:
    a, axis = array_of(a), _axis(axis)
    if weights is None:
        found = ops.mean(a, axis=axis, keepdims=keepdims)
        total: Any = float(length(tuple(a.shape), axis)) + found * 0.0
        return (found, total) if returned else found
    w = array_of(weights)
    if len(w.shape) == 1 and len(a.shape) > 1:
        if not isinstance(axis, int):
            raise TypeError("average: weights of one axis for an array of several need the axis to which they belong")
        w = ops.reshape(w, shape=tuple(-1 if i == axis % len(a.shape) else 1 for i in range(len(a.shape))))
        w = ops.broadcast_to(w, shape=tuple(a.shape))
    total = ops.sum(w, axis=axis, keepdims=keepdims)
    found = ops.sum(a * w, axis=axis, keepdims=keepdims) / total
    return (found, total + found * 0.0) if returned else found


@rule(np.max)
def max(a: Any, axis: Any = None, keepdims: bool = False) -> Any:
    return ops.max(array_of(a), axis=_axis(axis), keepdims=bool(keepdims))


@rule(np.min)
def min(a: Any, axis: Any = None, keepdims: bool = False) -> Any:
    return ops.min(array_of(a), axis=_axis(axis), keepdims=bool(keepdims))


amax = rule(np.amax)(
    lambda a, axis=None, keepdims=False: ops.max(array_of(a), axis=_axis(axis), keepdims=bool(keepdims))
)
amin = rule(np.amin)(
    lambda a, axis=None, keepdims=False: ops.min(array_of(a), axis=_axis(axis), keepdims=bool(keepdims))
)


@rule(np.ptp)
def ptp(a: Any, axis: Any = None, keepdims: bool = False) -> Any:
    return ops.ptp(array_of(a), _axis(axis), bool(keepdims))


@rule(np.cumsum)
def cumsum(a: Any, axis: Any = None, dtype: Any = None) -> Any:
    return ops.cumsum(_prepared(a, dtype), axis=_axis(axis))


@rule(np.cumprod)
def cumprod(a: Any, axis: Any = None, dtype: Any = None) -> Any:
    return ops.cumprod(_prepared(a, dtype), axis=_axis(axis))


@rule(np.quantile)
def quantile(a: Any, q: Any, axis: Any = None, *, keepdims: bool = False, method: str = "linear") -> Any:
    if method != "linear":
        raise TypeError(f'quantile: only method="linear" has a derivative here, not {method!r}')
    if type(q).__name__ == "DiffTensor":
        q = q.numpy()
    a, axes = array_of(a), axes_of(_axis(axis), len(array_of(a).shape))
    rest = tuple(i for i in range(len(a.shape)) if i not in axes)
    n = length(tuple(a.shape), axes)
    ordered = ops.sort(ops.reshape(ops.permute(a, axes=rest + axes), shape=(*(a.shape[i] for i in rest), n)), axis=-1)
    places = np.asarray(q, float) * (n - 1)
    low = np.floor(places).astype(int)
    weight = (places - low).astype(a.dtype)
    found = (
        ops.take(ordered, low, axis=-1) * (1.0 - weight)
        + ops.take(ordered, np.minimum(low + 1, n - 1), axis=-1) * weight
    )
    if keepdims:
        found = ops.reshape(found, shape=tuple(1 if i in axes else m for i, m in enumerate(a.shape)) + places.shape)
    front = tuple(range(len(found.shape) - places.ndim, len(found.shape)))
    return ops.permute(found, axes=front + tuple(i for i in range(len(found.shape)) if i not in front))


@rule(np.percentile)
def percentile(a: Any, q: Any, axis: Any = None, *, keepdims: bool = False, method: str = "linear") -> Any:
    return quantile(a, np.asarray(getattr(q, "raw", q)) / 100.0, axis, keepdims=keepdims, method=method)


@rule(np.median)
def median(a: Any, axis: Any = None, *, keepdims: bool = False) -> Any:
    return quantile(a, 0.5, axis, keepdims=keepdims)


def _without_nan(reduce: Callable, fill: float) -> Callable:
    def call(a: Any, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Any:
        a = _prepared(a, dtype)
        return reduce(ops.where(ops.isnan(a), fill, a), axis=_axis(axis), keepdims=bool(keepdims))

    return call


nansum = rule(np.nansum)(_without_nan(ops.sum, 0.0))
nanprod = rule(np.nanprod)(_without_nan(ops.prod, 1.0))
nanmax = rule(np.nanmax)(lambda a, axis=None, keepdims=False: _without_nan(ops.max, -math.inf)(a, axis, None, keepdims))
nanmin = rule(np.nanmin)(lambda a, axis=None, keepdims=False: _without_nan(ops.min, math.inf)(a, axis, None, keepdims))


@rule(np.nanmean)
def nanmean(a: Any, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Any:
    a = _prepared(a, dtype)
    return mean(a, axis, keepdims=keepdims, where=~np.isnan(getattr(a, "raw", a)))


@rule(np.trapezoid)
def trapezoid(y: Any, x: Any = None, dx: float = 1.0, axis: int = -1) -> Any:
    return ops.trapezoid(array_of(y), None if x is None else array_of(x), dx, axis)


FACES: dict[str, Callable] = {
    f.__name__: f
    for f in (
        sum, prod, mean, var, std, average, max, min, amax, amin, ptp, cumsum, cumprod, quantile, percentile, median, nansum,
        nanprod, nanmax, nanmin, nanmean, trapezoid,
    )
}  # fmt: skip
for _name in (
    "all", "any", "argmax", "argmin", "argsort", "argpartition", "argwhere", "nonzero", "flatnonzero", "count_nonzero",
    "searchsorted", "nanargmax", "nanargmin", "lexsort", "digitize", "histogram", "bincount", "unravel_index",
):  # fmt: skip
    FACES[_name] = without_gradient(getattr(np, _name))
