"""Batch: the array class of ``vmap``, one array that stands for an array in each example.

To an operation a ``Batch`` is an array like any other: it sits in ``DiffTensor.raw``, has the shape and dtype of *one*
example, and the tape records it without knowing. What it holds is the physical tensor with all examples along its first
axis. ``autograd.dispatch`` hands an operation on a ``Batch`` to ``autograd.batching.run``, which calls the row's batching
rule on the physical tensors.

Each call of ``vmap`` has a ``Level``. A batch of an inner ``vmap`` may hold batches of an outer one. The level's
``serial`` is taken from the numbering of the tape's nodes: what was tracked before is outside of this ``vmap``, and
constant to the functions transformed inside it.
"""

from typing import Any

import numpy as np

from . import backend
from .shapes import numpy_dtype
from .tape import next_serial


class Level:
    """One call of ``vmap``: ``size`` examples. ``quiet`` levels do not warn of rows that run example by example."""

    __slots__ = ("quiet", "serial", "size")

    def __init__(self, size: int, quiet: bool = False):
        self.size, self.quiet, self.serial = size, quiet, next_serial()


class Batch:
    """An array in each of a level's examples.

    Attributes:
        value: the physical tensor: the examples along the first axis, or (``mapped`` False) one array that all share.
        level: which ``vmap`` it belongs to.
        shape, dtype: of one example.
    """

    __slots__ = ("__weakref__", "dtype", "level", "mapped", "shape", "value")
    __hash__ = object.__hash__
    __array_ufunc__ = None  # NumPy's own arrays leave operators to this class

    def __init__(self, value: Any, level: Level, mapped: bool = True):
        self.value, self.level, self.mapped, self.dtype = value, level, mapped, value.dtype
        self.shape = tuple(value.shape[1:] if mapped else value.shape)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        """Elements of the physical tensor: what memory is counted by."""
        return self.value.size

    @property
    def device(self) -> str:
        return self.value.device

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("a tensor without axes has no length")
        return self.shape[0]

    def detached(self) -> "Batch":
        """The same, constant to all that is tracked outside."""
        return Batch(self.value.detach(), self.level, self.mapped)

    def __repr__(self) -> str:
        return f"Batch({self.level.size} × {self.dtype}{self.shape})"

    def _read(self, what: str, read: Any) -> Any:
        """The value, if all examples share it."""
        if not self.mapped:
            return read(self.value)
        raise TypeError(
            f"{what} inside vmap: the value differs between the {self.level.size} examples; compute it with operations of "
            "autograd.ops (where() or autograd.cond for a choice), or return it from the mapped function and read it outside"
        )

    def __bool__(self) -> bool:
        return self._read("bool()", bool)  # type: ignore[no-any-return]

    def __float__(self) -> float:
        return self._read("float()", float)  # type: ignore[no-any-return]

    def __int__(self) -> int:
        return self._read("int()", int)  # type: ignore[no-any-return]

    def __complex__(self) -> complex:
        return self._read("complex()", complex)  # type: ignore[no-any-return]

    def __index__(self) -> int:
        return self._read("an index", lambda x: x.__index__())  # type: ignore[no-any-return]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self._read("numpy.asarray()", lambda x: np.array(x.detach().numpy(), dtype=dtype, copy=copy))  # type: ignore[no-any-return]


def physical(array: Any) -> Any:
    """The raw array that holds all examples; a raw array itself if it is not a batch."""
    while type(array) is Batch:
        array = array.value.raw
    return array


class _Library:
    """What the engine asks of an array library, for batches. Everything else goes through rows."""

    __name__ = "autograd.batch"

    @staticmethod
    def asarray(x: Any, dtype: Any = None, copy: bool | None = None, device: Any = None) -> Any:
        return x if dtype is None or x.dtype == dtype else _Library.astype(x, dtype)

    @staticmethod
    def astype(x: Batch, dtype: Any) -> Any:
        return x.astype(dtype)  # type: ignore[attr-defined]

    @staticmethod
    def reshape(x: Batch, shape: tuple[int, ...]) -> Any:
        return x.reshape(shape)  # type: ignore[attr-defined]

    @staticmethod
    def ones_like(x: Batch) -> Any:
        return _Library.full(x, 1)

    @staticmethod
    def zeros_like(x: Batch) -> Any:
        return _Library.full(x, 0)

    @staticmethod
    def full(like: Batch, value: Any) -> Any:
        """One array for all examples, of the shape and dtype of one."""
        inner = physical(like)
        if inner is None or backend.xp(inner) is np:
            return backend.scalar(np.full(like.shape, value, numpy_dtype(like.dtype)))
        return backend.xp(inner).full(like.shape, value, dtype=like.dtype, device=inner.device)


backend.adopt(Batch, _Library())
