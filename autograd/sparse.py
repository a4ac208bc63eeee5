"""RowSparse: the gradient of a weight of which few rows were used.

``nn.Embedding(..., sparse=True)`` leaves one in its weight's ``.grad``: the numbers of the rows that were looked up, and
their gradients. It has a shape and a dtype like the array it stands for, sums, scales, and is never made dense unasked:
``.dense()`` does that. ``autograd.gradients.sparse`` says how it travels through gradient transforms.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from . import backend
from .halves import half, is_half, single


class RowSparse:
    """An array of zeros but for some rows (slices along the first axis).

    Args:
        indices: integers (k,), the places of the rows, from 0 to ``shape[0] - 1``. Rows of a repeated place are summed,
            in the order in which they are given.
        rows: an array (k, *shape[1:]).
        shape: the shape of the whole.

    Attributes:
        indices: the places, int64, ascending, each once.
        rows, shape: as above.

    Raises:
        TypeError: indices that are not integers. ValueError: shapes that do not fit. IndexError: a place that is outside.
    """

    __slots__ = ("indices", "rows", "shape")
    __array_ufunc__ = None  # NumPy's arrays leave + and * to the methods below

    def __init__(self, indices: Any, rows: Any, shape: tuple[int, ...]):
        rows = backend.asarray(rows)
        library, self.shape = backend.xp(rows), tuple(shape)
        indices = indices if backend.is_array(indices) else np.asarray(indices, np.int64 if len(indices) == 0 else None)
        if "int" not in str(indices.dtype):
            raise TypeError(f"RowSparse: indices must be integers, not {indices.dtype}")
        k = math.prod(indices.shape)
        if tuple(indices.shape) != (k,) or tuple(rows.shape) != (k, *self.shape[1:]) or not self.shape:
            raise ValueError(
                f"RowSparse: indices {tuple(indices.shape)} and rows {tuple(rows.shape)} do not fit the shape {self.shape}; "
                "for k indices the rows have the shape (k, *shape[1:])"
            )
        if k and not 0 <= int(library.min(indices)) <= int(library.max(indices)) < self.shape[0]:
            raise IndexError(f"RowSparse: an index is outside 0 to {self.shape[0] - 1}")
        self.indices, self.rows = _coalesced(indices, rows)

    @classmethod
    def _made(cls, indices: Any, rows: Any, shape: tuple[int, ...]) -> "RowSparse":
        """From parts that are right already."""
        self = object.__new__(cls)
        self.indices, self.rows, self.shape = indices, rows, shape
        return self

    @classmethod
    def summed(cls, indices: Any, rows: Any, shape: tuple[int, ...]) -> "RowSparse":
        """As the constructor, of arrays of one library that are known to fit."""
        return cls._made(*_coalesced(indices, rows), shape)

    @property
    def dtype(self) -> Any:
        return self.rows.dtype

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the indices and the rows."""
        return sum(
            math.prod(x.shape) * np.dtype(str(x.dtype).rpartition(".")[2]).itemsize for x in (self.indices, self.rows)
        )

    @property
    def device(self) -> Any:
        return self.rows.device

    def map(self, function: Callable[[Any], Any]) -> "RowSparse":
        """The same places with ``function(rows)``."""
        return self._made(self.indices, function(self.rows), self.shape)

    def dense(self) -> Any:
        """The whole array, zeros included."""
        return put_rows(zeros(self.rows, self.shape), self.indices, self.rows)

    def __mul__(self, factor: Any) -> "RowSparse":
        return self.map(lambda rows: rows * _number(factor, "*"))

    __rmul__ = __mul__

    def __truediv__(self, divisor: Any) -> "RowSparse":
        return self.map(lambda rows: rows / _number(divisor, "/"))

    def __neg__(self) -> "RowSparse":
        return self.map(lambda rows: -rows)

    def __add__(self, other: Any) -> Any:
        """With another: the union of the places. With an array: a new array."""
        if not isinstance(other, RowSparse):
            if not backend.is_array(other) or tuple(other.shape) != self.shape:
                raise TypeError(f"RowSparse of shape {self.shape} + {_what(other)}: add an array of that shape")
            return self.added_to(backend.xp(other).asarray(other, copy=True))
        if self.shape != other.shape:
            raise ValueError(
                f"RowSparse of shape {self.shape} + RowSparse of shape {other.shape}: the shapes must be equal"
            )
        concat = backend.xp(self.rows).concat
        return self.summed(concat([self.indices, other.indices]), concat([self.rows, other.rows]), self.shape)

    __radd__ = __add__

    def added_to(self, array: Any) -> Any:
        """``array`` plus this, in the array's dtype and, where it can be written to, in its place. Only rows are touched."""
        library = backend.xp(array)
        if type(array) is np.ndarray and not array.flags.writeable:
            array = array.copy()
        return put_rows(array, self.indices, library.astype(take_rows(array, self.indices) + self.rows, array.dtype))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        raise TypeError(
            "a RowSparse gradient does not become dense by itself; write .dense(), or use .indices and .rows"
        )

    def __repr__(self) -> str:
        return f"RowSparse({len(self.indices)} of {self.shape[0]} rows, shape={self.shape}, dtype={self.dtype})"


def _number(value: Any, sign: str) -> Any:
    if (backend.is_array(value) and tuple(value.shape)) or not hasattr(value, "__float__"):
        raise TypeError(f"RowSparse {sign} {_what(value)}: only numbers; work on .rows, or on .dense()")
    return value


def _what(value: Any) -> str:
    return f"{type(value).__name__} of shape {tuple(value.shape)}" if hasattr(value, "shape") else type(value).__name__


# ---- rows of arrays of any library ----


def zeros(like: Any, shape: tuple[int, ...]) -> Any:
    """Zeros in the dtype, library and place of an array."""
    library = backend.xp(like)
    place = {} if library.__name__ in ("numpy", "cupy") else {"device": like.device}
    return library.zeros(shape, dtype=like.dtype, **place)


def take_rows(x: Any, indices: Any) -> Any:
    return backend.xp(x).take(x, indices, axis=0)


def put_rows(x: Any, indices: Any, rows: Any) -> Any:
    """Write rows into an array at places that do not repeat; returns the array."""
    if _scatters(backend.xp(x)):
        x[indices] = rows
        return x
    library = backend.xp(x)  # no writing by index in the array API: multiply by the matrix of places
    hit = places(indices, x.shape[0], x)
    whole = library.reshape(library.astype(hit, rows.dtype) @ library.reshape(rows, (rows.shape[0], -1)), x.shape)
    x[...] = library.where(library.reshape(library.any(hit, axis=1), (-1, *[1] * (x.ndim - 1))), whole, x)
    return x


def places(indices: Any, n: int, like: Any) -> Any:
    """The matrix (n, k) that is True where the column's index is the row's number."""
    library = backend.xp(like)
    return library.arange(n, device=like.device)[:, None] == indices[None, :]


def _scatters(library: Any) -> bool:
    return hasattr(library, "add") and hasattr(library.add, "at")


def add_rows(rows: Any, indices: Any, n: int) -> Any:
    """Rows (k, d) summed by place into an array (n, d)."""
    library = backend.xp(rows)
    if library is np and is_half(rows.dtype):  # a sum is one of float32, rounded at its end
        return half(add_rows(single(rows), indices, n), rows.dtype)
    if not _scatters(library):
        return library.astype(places(indices, n, rows), rows.dtype) @ rows
    out = zeros(rows, (n, rows.shape[1]))
    if library is np and rows.shape[1] > 1:
        if len(indices):
            where, sums = _runs(rows, indices)
            out[where] = sums
    elif library is np:
        np.add.at(out[:, 0], indices, rows[:, 0])
    else:
        library.add.at(out, indices, rows)
    return out


def _runs(rows: np.ndarray, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The places that occur and the sums of their rows: sorted, then added up in runs (several times faster than
    ``np.add.at`` on rows)."""
    order = np.argsort(indices, kind="stable")
    ordered = indices[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    return ordered[starts], np.add.reduceat(rows[order], starts, axis=0)


def _coalesced(indices: Any, rows: Any) -> tuple[Any, Any]:
    library = backend.xp(rows)
    indices = library.astype(indices, library.int64)
    if not indices.shape[0]:
        return indices, rows
    if library is np:
        return _runs(rows, indices)
    found = library.unique_inverse(indices)
    sums = add_rows(
        library.reshape(rows, (rows.shape[0], -1)), library.reshape(found.inverse_indices, (-1,)), found.values.shape[0]
    )
    return found.values, library.reshape(sums, (-1, *rows.shape[1:]))


class _Library:
    """What the engine asks of an array library, for sparse gradients."""

    __name__ = "autograd.sparse"

    @staticmethod
    def asarray(x: RowSparse, dtype: Any = None, copy: bool | None = None) -> RowSparse:
        library = backend.xp(x.rows)
        return RowSparse._made(
            library.asarray(x.indices, copy=copy), library.asarray(x.rows, dtype=dtype, copy=copy), x.shape
        )

    @staticmethod
    def astype(x: RowSparse, dtype: Any) -> RowSparse:
        return x.map(lambda rows: backend.xp(rows).astype(rows, dtype))

    @staticmethod
    def isdtype(dtype: Any, kind: Any) -> bool:
        return bool(np.isdtype(np.dtype(str(dtype).rpartition(".")[2]), kind))

    @staticmethod
    def isfinite(x: RowSparse) -> RowSparse:
        return x.map(lambda rows: backend.xp(rows).isfinite(rows))

    @staticmethod
    def all(x: RowSparse) -> Any:
        """Of the rows that are there."""
        return backend.xp(x.rows).all(x.rows)


backend.adopt(RowSparse, _Library())
