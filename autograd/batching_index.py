"""Batching rules of the rows that pick elements and put them back, and indices that differ between examples."""

import math
from typing import Any

import numpy as np

from . import backend, ops
from .batch import physical
from .batching import Call, spread
from .batching_rules import batches, flattened, inner, merged, widened
from .ops.index import _getitem
from .shapes import shape_of
from .tensor import DiffTensor


def _beside(index: Any, ndim: int) -> tuple[tuple, int]:
    """An index of one example as one of the physical array, and where it brings the examples' axis.

    NumPy puts the axes of index arrays first if something stands between them; so the examples come behind those.
    """
    parts = index if isinstance(index, tuple) else (index,)
    arrays = [p for p in parts if hasattr(p, "shape") and not (isinstance(p, np.generic) and p.dtype != bool)]
    if not arrays:
        return (slice(None), *parts), 0
    picks = [i for i, p in enumerate(parts) if hasattr(p, "shape") or isinstance(p, int)]
    together = picks == list(range(picks[0], picks[-1] + 1))
    lengths = [a.nonzero()[0].shape if a.dtype == bool else a.shape for a in arrays]
    return (slice(None), *parts), 0 if together else len(np.broadcast_shapes(*lengths))


@batches("getitem")
def _picked(call: Call, x: Any, *, index: Any) -> Any:
    index, at = _beside(index, x.ndim - 1)
    found = _getitem(x, index=index)
    return ops.moveaxis(found, at, 0) if at else found


@batches("scatter")
def _scatter(call: Call, x: Any, *, index: Any, shape: tuple[int, ...]) -> Any:
    index, at = _beside(index, len(shape))
    return call.apply(ops.moveaxis(x, 0, at) if at else x, index=index, shape=(call.size, *shape))


@batches("put")
def _put(call: Call, x: Any, values: Any, *, index: Any) -> Any:
    target = len(np.broadcast_to(np.empty((), bool), call.shape(0, x))[index].shape)
    if not call.mapped[0]:
        x = spread(x, call.size)
    index, at = _beside(index, x.ndim - 1)
    if call.mapped[1] or at:
        values = widened(values if call.mapped[1] else spread(values, call.size), target)
        values = ops.moveaxis(values, 0, at) if at else values
    return call.apply(x, values, index=index)


def _own_places(indices: Any, size: int, n: int) -> Any:
    """Places in each example's own part of an axis of ``size · n``."""
    _check_places(indices, n)
    start = ops.reshape(_numbers(size, indices), shape=(size, *(1,) * (indices.ndim - 1)))
    return ops.where(ops.less(indices, 0), indices + n, indices) + start * n


def _check_places(indices: Any, n: int) -> None:
    """Refuse places out of range: in a flattened array they would be those of a neighbour."""
    raw = physical(indices.raw if isinstance(indices, DiffTensor) else indices)
    if raw is not None and math.prod(raw.shape) and (int(raw.min()) < -n or int(raw.max()) >= n):
        raise IndexError(f"places from {int(raw.min())} to {int(raw.max())} in an axis of length {n}")


def gather(x: Any, index: Any) -> Any:
    """``x[index]`` with integers or integer arrays in the index that differ between the examples of ``vmap``."""
    parts = list(index if isinstance(index, tuple) else (index,))
    parts = [backend.asarray(p) if isinstance(p, list) else p for p in parts]
    named = sum(p is not None and p is not Ellipsis for p in parts)
    whole = [slice(None)] * (len(shape_of(x)) - named)
    dots = [i for i, p in enumerate(parts) if p is Ellipsis]
    at = dots[0] if dots else len(parts)
    parts = [*parts[:at], *whole, *parts[at + 1 :]]
    picks = [i for i, p in enumerate(parts) if hasattr(p, "dtype") or isinstance(p, int)]
    if len(dots) > 1 or picks != list(range(picks[0], picks[-1] + 1)):
        raise IndexError(
            "inside vmap, the integers and arrays of an index that differs between examples must stand side by side"
        )
    if any("int" not in str(getattr(parts[i], "dtype", "int")) for i in picks):
        raise IndexError(
            "inside vmap, an index that differs between examples must hold integers, not a mask: its length would differ too"
        )
    rest = tuple(slice(None) if i in picks else p for i, p in enumerate(parts))
    x = x if all(p == slice(None) for p in rest) else _getitem(x, index=rest)
    axis, lengths = picks[0], [shape_of(x)[i] for i in picks]
    places: Any = 0
    for i, n in zip(picks, lengths, strict=True):
        _check_places(np.asarray(parts[i]) if isinstance(parts[i], int) else parts[i], n)
        places = places * n + ops.where(ops.less(parts[i], 0), parts[i] + n, parts[i])
    return ops.take(x if len(picks) == 1 else ops.flatten(x, axis, axis + len(picks) - 1), places, axis=axis)


def _numbers(n: int, like: Any) -> Any:
    """0 to n - 1, where another tensor of integers is."""
    return ops.cumsum(ops.reshape(like, shape=(n, -1))[:, 0] * 0 + 1, axis=0) - 1 if like.size else np.zeros(n, int)


@batches("take")
def _take(call: Call, x: Any, indices: Any, *, axis: int | None) -> Any:
    if axis is None:
        x, axis = flattened(x) if call.mapped[0] else ops.ravel(x), 0
    ndim = x.ndim - call.mapped[0]
    if call.mapped == (True, False):
        return call.apply(x, indices, axis=inner(axis, ndim))
    a = axis % ndim
    if call.mapped == (False, True):
        found = call.apply(x, indices, axis=a)
        return ops.moveaxis(found, a, 0) if a else found
    x = ops.moveaxis(x, a + 1, 1)  # examples, the axis, the rest
    found = call.apply(merged(x), _own_places(indices, call.size, x.shape[1]), axis=0)
    k = indices.ndim - 1  # the places' axes go to where the axis was
    order = (0, *range(k + 1, k + 1 + a), *range(1, k + 1), *range(k + 1 + a, found.ndim))
    return ops.permute(found, axes=order) if a else found


@batches("index_add")
def _index_add(call: Call, x: Any, indices: Any, *, axis: int, shape: tuple[int, ...]) -> Any:
    a = axis % len(shape)
    if call.mapped == (True, False):
        return call.apply(x, indices, axis=a + 1, shape=(call.size, *shape))
    x, indices = call.spread(x, indices)
    k, n = indices.ndim - 1, shape[a]
    order = (0, *range(a + 1, a + 1 + k), *range(1, a + 1), *range(a + 1 + k, x.ndim))
    x = ops.permute(x, axes=order) if a else x
    rest = (*shape[:a], *shape[a + 1 :])
    found = call.apply(x, _own_places(indices, call.size, n), axis=0, shape=(call.size * n, *rest))
    found = ops.reshape(found, shape=(call.size, n, *rest))
    return ops.moveaxis(found, 1, a + 1) if a else found


@batches("take_along_axis", "scatter_along_axis")
def _along_axis(call: Call, x: Any, indices: Any, *, axis: int, **params: Any) -> Any:
    ndim = len(call.shape(0, x))
    return call.apply(*call.spread(x, indices), axis=inner(axis, ndim), **params)


@batches("searchsorted")
def _searchsorted(call: Call, x: Any, values: Any, *, side: str) -> Any:
    """If all examples search in one vector, that is one search; else a place is the number of elements that come before."""
    if call.mapped == (False, True):
        return call.apply(x, values, side=side)
    x, values = call.spread(x, values)
    a = ops.reshape(x, shape=(call.size, *(1,) * (values.ndim - 1), x.shape[1]))
    b = ops.expand_dims(values, axis=-1)
    before = _sorted_before(a, b) if side == "left" else ops.logical_not(_sorted_before(b, a))
    return ops.sum(ops.astype(before, np.int64), axis=-1, keepdims=False)


def _sorted_before(a: Any, b: Any) -> Any:
    """a < b in the order of sorting, where NaN comes last."""
    return ops.logical_or(ops.less(a, b), ops.logical_and(ops.isnan(b), ops.logical_not(ops.isnan(a))))
