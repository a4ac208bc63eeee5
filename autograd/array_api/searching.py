"""Searching, sorting and sets. Places and counts are constants; values that were found or sorted keep their gradient.

``nonzero`` and the ``unique_...`` functions have results whose shape depends on values: symbolic tensors, and those of
``vmap`` that differ between examples, are refused.
"""

from typing import Any, NamedTuple

import numpy as np

from .. import ops
from ..backend import xp
from ..shapes import numpy_dtype
from ..tensor import DiffTensor
from ._arrays import NUMBERS, tensor, value_of

__all__ = [
    "argmax", "argmin", "argsort", "count_nonzero", "nonzero", "searchsorted", "sort", "unique_all", "unique_counts", "unique_inverse",
    "unique_values", "where",
]  # fmt: skip


def argmax(x: Any, /, *, axis: int | None = None, keepdims: bool = False) -> DiffTensor:
    """The place of the first largest element along an axis (of all if None)."""
    return ops.argmax(tensor(x), axis=axis, keepdims=keepdims)


def argmin(x: Any, /, *, axis: int | None = None, keepdims: bool = False) -> DiffTensor:
    """The place of the first smallest element along an axis (of all if None)."""
    return ops.argmin(tensor(x), axis=axis, keepdims=keepdims)


def count_nonzero(x: Any, /, *, axis: Any = None, keepdims: bool = False) -> DiffTensor:
    x = tensor(x)
    true = x if numpy_dtype(x.dtype).kind == "b" else ops.not_equal(x, 0)
    return ops.sum(ops.astype(true, np.int64), axis=axis, keepdims=keepdims)


def nonzero(x: Any, /) -> tuple[DiffTensor, ...]:
    """The places of the elements that are not 0, a vector for each axis."""
    x = tensor(x)
    if not x.ndim:
        raise ValueError("nonzero: a tensor without axes has no places")
    raw = value_of(x, "nonzero")
    return tuple(DiffTensor._wrap(places, None) for places in xp(raw).nonzero(raw))


def searchsorted(x1: Any, x2: Any, /, *, side: str = "left", sorter: Any = None) -> DiffTensor:
    """Where the values x2 would have to be put into the vector x1, sorted or sorted by ``take(x1, sorter)``."""
    if side not in ("left", "right"):
        raise ValueError(f'searchsorted: side must be "left" or "right", not {side!r}')
    x1 = tensor(x1)
    x1 = x1 if sorter is None else ops.take(x1, tensor(sorter), axis=0)
    return ops.searchsorted(x1, x2 if type(x2) in NUMBERS else tensor(x2), side=side)


def where(condition: Any, x1: Any, x2: Any, /) -> DiffTensor:
    """x1 where the condition is true, x2 elsewhere; one of both, or both, may be a Python number."""
    x1, x2 = (x if type(x) in NUMBERS else tensor(x) for x in (x1, x2))
    return ops.where(tensor(condition), x1, x2)


# ---- sorting ----


def argsort(x: Any, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> DiffTensor:
    """The places that sort x along an axis; equal elements keep their order."""
    x = tensor(x)
    if not descending:
        return ops.argsort(x, axis=axis)
    backwards = ops.argsort(ops.flip(x, axis=axis), axis=axis)
    return x.shape[axis] - 1 - ops.flip(backwards, axis=axis)


def sort(x: Any, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> DiffTensor:
    """x in ascending or descending order along an axis."""
    found = ops.sort(tensor(x), axis=axis)
    return ops.flip(found, axis=axis) if descending else found


# ---- sets ----


class UniqueAll(NamedTuple):
    values: DiffTensor
    indices: DiffTensor
    inverse_indices: DiffTensor
    counts: DiffTensor


class UniqueCounts(NamedTuple):
    values: DiffTensor
    counts: DiffTensor


class UniqueInverse(NamedTuple):
    values: DiffTensor
    inverse_indices: DiffTensor


def unique_all(x: Any, /) -> UniqueAll:
    """The different values of x in ascending order, the places (in x as a vector) where each is first, for each element of x
    the place of its value, and how often each value comes. The gradient of a value goes to where it is first; NaNs differ."""
    x = tensor(x)
    raw = value_of(x, "unique_all")
    values, *places = (DiffTensor._wrap(found, None) for found in xp(raw).unique_all(raw))
    if x.node is not None:
        values = ops.take(x, places[0], axis=None)
    return UniqueAll(values, *places)


def unique_counts(x: Any, /) -> UniqueCounts:
    """``unique_all``'s values and counts."""
    found = unique_all(x)
    return UniqueCounts(found.values, found.counts)


def unique_inverse(x: Any, /) -> UniqueInverse:
    """``unique_all``'s values and, for each element of x, the place of its value."""
    found = unique_all(x)
    return UniqueInverse(found.values, found.inverse_indices)


def unique_values(x: Any, /) -> DiffTensor:
    """``unique_all``'s values."""
    return unique_all(x).values
