"""Rows that pick elements and put them back: indexing, take, scatter, sort.

Picking and putting are each other's transpose, so each pair differentiates itself. Index arrays are constants. Adding
to repeated places adds up; ``put`` (``t.at[index].set``) is defined for places that do not repeat.
"""

import importlib
import math
from dataclasses import replace
from typing import Any

import numpy as np

from .. import backend
from ..backend import xp
from ..batch import Batch
from ..halves import half, is_half_array, single
from ..shapes import INT, axes_of, result_dtype, same, shape_of
from ..sparse import RowSparse, add_rows, zeros
from ..table import Domain, op
from ..tape import Leaf
from ..tensor import DiffTensor
from .elementwise import where
from .layout import reshape

__all__ = [
    "At", "argsort", "getitem", "index_add", "put", "scatter", "scatter_add", "scatter_along_axis", "searchsorted", "sort", "take", "take_along_axis",
]  # fmt: skip

PLACES = Domain(0, 0, kind="int")

# ---- any index expression: getitem and its transpose ----


def _raw_index(index: Any) -> Any:
    """An index expression with tensors and lists replaced by arrays."""
    if isinstance(index, tuple):
        return tuple(_raw_index(i) for i in index)
    if isinstance(index, DiffTensor):
        index = index._value("an index")
        if type(index) is Batch:
            raise _MappedIndexError(
                "an index that differs between the examples of vmap is possible in x[index] and take(); here use "
                "scatter_add(), or where() with a condition"
            )
    if isinstance(index, list):
        return np.asarray(index, dtype=None if len(index) else int)
    return index.copy() if type(index) is np.ndarray else index  # the caller may change it before the backward pass


def _is_basic(index: Any) -> bool:
    """Whether an index has no arrays: then it is a view and no element comes twice."""
    parts = index if isinstance(index, tuple) else (index,)
    return all(p is None or p is Ellipsis or isinstance(p, (slice, int, np.integer)) for p in parts)


def _host_index(index: Any) -> Any:
    if isinstance(index, tuple):
        return tuple(_host_index(i) for i in index)
    return backend.to_device(index, "cpu") if backend.is_array(index) else index


def _indexed_shape(shape: tuple[int, ...], index: Any) -> tuple[int, ...]:
    return np.broadcast_to(np.empty((), bool), shape)[_host_index(index)].shape


_getitem = op(
    "getitem", lambda x, *, index: x[index], lambda x, index: (_indexed_shape(shape_of(x), index), result_dtype(x)),
    lambda g, _y, _x, index: scatter(g, index=index, shape=tuple(_x.shape)), flops=0, precision="any",
)  # fmt: skip


def getitem(x: Any, index: Any) -> Any:
    """x[index], for any index expression of NumPy: numbers, slices, None, ..., integer and boolean arrays."""
    try:
        raw = _raw_index(index)
    except _MappedIndexError:
        return importlib.import_module("autograd.batching_index").gather(x, index)
    return _getitem(x, index=raw)


class _MappedIndexError(TypeError):
    """An index holds a batch of ``vmap``, so it cannot be a parameter of a row."""


getitem.row = _getitem.row  # type: ignore[attr-defined]


def _scatter(x: Any, *, index: Any, shape: tuple[int, ...]) -> Any:
    out = zeros(x, shape)
    index, x = _assignable(out, index, x)
    if _is_basic(index) or (backend.is_array(index) and index.dtype == bool and type(x) is np.ndarray):
        out[index] = x
        return out
    if is_half_array(x):  # a sum is one of float32, rounded at its end
        return half(_scatter(single(x), index=index, shape=shape), x.dtype)
    library = xp(x)
    if hasattr(library, "add") and hasattr(library.add, "at"):
        library.add.at(out, index, x)
        return out
    places = library.reshape(library.arange(math.prod(shape), device=out.device), shape)[index]
    return library.reshape(_add_at(x, places, math.prod(shape)), shape)


def _add_at(x: Any, places: Any, n: int) -> Any:
    """A vector of length n with the elements of x added at flat places."""
    library = xp(x)
    if is_half_array(x):  # a sum is one of float32, rounded at its end
        return half(_add_at(single(x), places, n), x.dtype)
    places, x = library.reshape(places, (-1,)), library.reshape(x, (-1,))
    if hasattr(library, "add") and hasattr(library.add, "at"):
        out = zeros(x, (n,))
        library.add.at(out, places, x)
        return out
    # no scatter in the array API: multiply by the matrix of places
    return library.astype(library.arange(n, device=x.device)[:, None] == places[None, :], x.dtype) @ x


def _assignable(out: Any, index: Any, values: Any) -> tuple[Any, Any]:
    """An index expression, and values for it, without None: the array API cannot assign through new axes."""
    library = xp(out)
    if library.__name__ in ("numpy", "cupy") or not isinstance(index, tuple) or all(p is not None for p in index):
        return index, values
    short = tuple(p for p in index if p is not None)
    return short, library.reshape(library.broadcast_to(values, out[index].shape), out[short].shape)


scatter = op(
    "scatter", _scatter, lambda x, index, shape: (tuple(shape), result_dtype(x)), lambda g, _y, _x, index, shape: _getitem(g, index=index),
    precision="inputs", doc="An array of zeros of a shape, with x added at an index.",
)  # fmt: skip


def _put(x: Any, values: Any, *, index: Any) -> Any:
    out = xp(x).asarray(x, copy=True)
    index, values = _assignable(out, index, values)
    out[index] = values
    return out


put = op(
    "put", _put, lambda x, values, index: (shape_of(x), result_dtype(x)),
    lambda g, _z, _x, _v, index: where(_mark(g, index), 0.0, g),
    lambda g, _z, _x, _v, index: _getitem(g, index=index),
    flops=0, precision="inputs", doc="A copy of x with values at an index; places must not repeat.",
)  # fmt: skip


def _mark(g: Any, index: Any) -> Any:
    """A mask of the places that an index names."""
    mask = np.zeros(g.shape, bool)
    mask[_host_index(index)] = True
    raw = g.raw if isinstance(g, DiffTensor) else g
    return mask if raw is None or xp(raw) is np else xp(raw).asarray(mask, device=raw.device)


class At:
    """``t.at[index].set(values)`` and ``t.at[index].add(values)``: changed copies, in place of assignment."""

    __slots__ = ("index", "tensor")

    def __init__(self, tensor: Any, index: Any = None):
        self.tensor, self.index = tensor, index

    def __getitem__(self, index: Any) -> "At":
        return At(self.tensor, _raw_index(index))

    def set(self, values: Any) -> Any:
        """A copy with ``values`` at the index. Places must not repeat."""
        return put(self.tensor, values, index=self.index)

    def add(self, values: Any) -> Any:
        """A copy with ``values`` added at the index; repeated places add up."""
        shape = _indexed_shape(self.tensor.shape, self.index)
        values = values if shape_of(values) == shape else self.tensor.detach()[self.index] * 0.0 + values
        return self.tensor + scatter(values, index=self.index, shape=tuple(self.tensor.shape))


# ---- along one axis, by an array of places: take and its transpose ----


def _take(x: Any, indices: Any, *, axis: int | None = None) -> Any:
    library = xp(x)
    if axis is None:
        x, axis = library.reshape(x, (-1,)), 0
    taken = library.take(x, library.reshape(indices, (-1,)), axis=axis)
    return backend.scalar(library.reshape(taken, _taken(x.shape, indices.shape, axis)))


def _taken(shape: tuple[int, ...], places: tuple[int, ...], axis: int) -> tuple[int, ...]:
    a = axes_of(axis, len(shape))[0]
    return (*shape[:a], *places, *shape[a + 1 :])


def _take_shape(x: Any, indices: Any, axis: int | None) -> Any:
    shape = (math.prod(shape_of(x)),) if axis is None else shape_of(x)
    return _taken(shape, shape_of(indices), axis or 0), result_dtype(x)


def _take_rule(g: Any, _y: Any, _x: Any, indices: Any, axis: int | None) -> Any:
    shape = (math.prod(_x.shape),) if axis is None else tuple(_x.shape)
    d = index_add(g, indices, axis=axis or 0, shape=shape)
    return d if axis is not None else reshape(d, shape=tuple(_x.shape))


take = op(
    "take", _take, _take_shape, _take_rule, None, domain=(Domain(), PLACES), flops=0,
    precision="any", doc="Elements (or slices along ``axis``) of x at integer places; the places' shape stands for the axis. Embedding is ``take(weight, ids, axis=0)``.",
)  # fmt: skip
for _class in (np.ndarray, np.int64, np.int32):
    take.row.kernels[_class] = lambda x, indices, axis: np.take(x, indices, axis=axis)  # type: ignore[attr-defined]


def _sparse_rule(g: Any, _y: Any, _x: Any, indices: Any, axis: int | None) -> Any:
    """The rows that were taken, where the gradient ends here and is not recorded; otherwise the dense one."""
    if not isinstance(_x, Leaf) or isinstance(g, (DiffTensor, Batch)):
        return _take_rule(g, _y, _x, indices, axis)
    library = xp(g)
    rows = library.reshape(g, (-1, *_x.shape[1:]))
    return RowSparse.summed(library.reshape(indices, (-1,)), rows, tuple(_x.shape))


_SPARSE_TAKE = replace(take.row, vjps=(_sparse_rule, None))  # type: ignore[attr-defined]
_SPARSE_TAKE.kernels, _SPARSE_TAKE.apply = take.row.kernels, take  # type: ignore[attr-defined]


def sparse_take(x: Any, indices: Any) -> Any:
    """``take(x, indices, axis=0)`` whose gradient, where x is a leaf, is a RowSparse of the rows that were taken."""
    y = take(x, indices, axis=0)
    node = getattr(y, "node", None)
    if node is not None and node.row is take.row:  # type: ignore[attr-defined]
        node.row = _SPARSE_TAKE
    return y


def _index_add(x: Any, indices: Any, *, axis: int, shape: tuple[int, ...]) -> Any:
    library = xp(x)
    a = axes_of(axis, len(shape))[0]
    n, before, after = shape[a], math.prod(shape[:a]), math.prod(shape[a + 1 :])
    places = library.reshape(indices, (-1,))
    m = places.shape[0]
    places = library.where(places < 0, places + n, places)
    rows = library.reshape(library.permute_dims(library.reshape(x, (before, m, after)), (1, 0, 2)), (m, before * after))
    out = half(add_rows(single(rows), places, n), x.dtype) if is_half_array(rows) else add_rows(rows, places, n)
    return library.reshape(library.permute_dims(library.reshape(out, (n, before, after)), (1, 0, 2)), shape)


index_add = op(
    "index_add", _index_add, lambda x, indices, axis, shape: (tuple(shape), result_dtype(x)),
    lambda g, _y, _x, indices, axis, shape: take(g, indices, axis=axis), None,
    domain=(Domain(), PLACES), precision="inputs", doc="The transpose of take: zeros of a shape, with slices of x added at integer places along an axis.",
)  # fmt: skip


def scatter_add(x: Any, indices: Any, updates: Any, axis: int = 0) -> Any:
    """x with ``updates`` (shaped like ``take(x, indices, axis)``) added at integer places along an axis."""
    return x + index_add(updates, indices, axis=axis, shape=tuple(x.shape))


# ---- one place for each element: take_along_axis and its transpose ----


def _along_shape(x: Any, indices: Any, axis: int) -> Any:
    a, shape, places = axes_of(axis, len(shape_of(x)))[0], shape_of(x), shape_of(indices)
    return np.broadcast_shapes(shape[:a], places[:a]) + (places[a],) + np.broadcast_shapes(shape[a + 1 :], places[a + 1 :]), result_dtype(x)


def _take_along(x: Any, indices: Any, *, axis: int = -1) -> Any:
    return xp(x).take_along_axis(x, indices, axis=axis)


take_along_axis = op(
    "take_along_axis", _take_along, _along_shape,
    lambda g, _y, _x, indices, axis: scatter_along_axis(g, indices, axis=axis, n=_x.shape[axis]), None,
    domain=(Domain(), PLACES), flops=0, precision="any", doc="For each element of ``indices`` the element of x at that place along the axis.",
)  # fmt: skip


def _scatter_along(x: Any, indices: Any, *, axis: int, n: int) -> Any:
    library = xp(x)
    a = axis % x.ndim
    order = (*(i for i in range(x.ndim) if i != a), a)
    rows = library.permute_dims(x, order)
    places = library.permute_dims(library.broadcast_to(indices, x.shape), order)
    lead, m = rows.shape[:-1], rows.shape[-1]
    count = math.prod(lead)
    where_ = {} if library.__name__ in ("numpy", "cupy") else {"device": x.device}
    places = library.reshape(library.where(places < 0, places + n, places), (count, m)) + library.arange(count, **where_)[:, None] * n
    out = library.reshape(_add_at(library.reshape(rows, (-1,)), places, count * n), (*lead, n))
    return library.permute_dims(out, tuple(np.argsort(order).tolist()))


def _scatter_along_shape(x: Any, indices: Any, axis: int, n: int) -> Any:
    shape, a = shape_of(x), axes_of(axis, len(shape_of(x)))[0]
    return (*shape[:a], n, *shape[a + 1 :]), result_dtype(x)


scatter_along_axis = op(
    "scatter_along_axis", _scatter_along, _scatter_along_shape,
    lambda g, _y, _x, indices, axis, n: take_along_axis(g, indices, axis=axis), None,
    domain=(Domain(), PLACES), precision="inputs", doc="The transpose of take_along_axis: zeros, n along the axis, with each element of x added at its place.",
)  # fmt: skip

# ---- order ----

argsort = op(
    "argsort", lambda x, *, axis=-1: xp(x).argsort(x, axis=axis, stable=True), lambda x, axis: (shape_of(x), INT), None,
    flops=0, complex=False, precision="any", doc="The places that sort x along an axis (stable).",
)  # fmt: skip
sort = op(
    "sort", lambda x, *, axis=-1: xp(x).sort(x, axis=axis, stable=True), lambda x, axis: same(x),
    lambda g, _y, x, axis: scatter_along_axis(g, argsort(x, axis=axis), axis=axis, n=x.shape[axis]),
    flops=0, complex=False, precision="any", doc="x in ascending order along an axis (stable).",
)  # fmt: skip
searchsorted = op(
    "searchsorted", lambda x, values, *, side="left": xp(x).searchsorted(x, values, side=side), lambda x, values, side: (shape_of(values), INT),
    None, None, flops=lambda y, x, values, side: math.prod(shape_of(values)) * math.log2(max(shape_of(x)[0], 2)), complex=False,
    precision="any", doc='Where values would have to be put into the sorted vector x to keep it sorted: before equal ones (side "left") or behind them ("right").',
)  # fmt: skip
