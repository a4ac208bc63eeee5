"""Packing: a tree of tensors as one NumPy vector and back, for solvers that know nothing else.

Solvers work on values only: what is packed is constant to the gradient. Inside ``vmap`` the vector holds all examples, so
a solver handles them together.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import optree

from . import backend, ops
from .batch import Batch, Level, physical
from .shapes import numpy_dtype
from .tensor import DiffTensor

_flatten: Callable[[Any], tuple[list[Any], Any]] = optree.tree_flatten  # type: ignore[assignment]


def tensor(x: Any) -> DiffTensor:
    """An array, a number or a tensor as a tensor; Python integers become floating-point."""
    if isinstance(x, DiffTensor):
        return x
    array = backend.asarray(x)
    return DiffTensor._wrap(array if hasattr(x, "dtype") else backend.inexact(array), None)


def _levels(raw: Any) -> list[Level]:
    found = []
    while type(raw) is Batch:
        found.append(raw.level)
        raw = raw.value.raw
    return found


class Packing:
    """How the leaves of a tree lie in a vector.

    Args:
        tree: a tree of floating-point or complex tensors, arrays or numbers.
        others: trees whose levels of ``vmap`` the packed values will have too.
    """

    def __init__(self, tree: Any, *others: Any):
        leaves, self.tree = _flatten(tree)
        leaves = [tensor(x) for x in leaves]
        every = [*leaves, *(x for other in others for x in _flatten(other)[0] if isinstance(x, DiffTensor))]
        self.levels = sorted({n for x in every for n in _levels(x.raw)}, key=lambda level: level.serial)
        self.sizes = tuple(level.size for level in self.levels)
        self.shapes = [tuple(x.shape) for x in leaves]
        self.dtypes = [x.dtype for x in leaves]
        self.likes = [physical(x.raw) for x in leaves]
        if any(like is None for like in self.likes):
            raise TypeError("a solver needs values: it cannot run on symbolic tensors")
        for dtype in self.dtypes:
            if not backend.is_inexact(dtype):
                raise TypeError(f"floating-point or complex arrays are needed, not {dtype}; use .astype(float)")
        self.dtype = np.result_type(*(numpy_dtype(d) for d in self.dtypes)) if leaves else np.dtype(float)
        self.eps = float(np.finfo(self.dtype).eps)  # type: ignore[type-var]

    @functools.cached_property
    def size(self) -> int:
        """The length of the vector."""
        return int(np.prod(self.sizes)) * sum(int(np.prod(s)) for s in self.shapes)

    def pack(self, tree: Any) -> np.ndarray:
        """The values of a tree of this structure and these shapes, as a vector on the host."""
        leaves, structure = _flatten(tree)
        if structure != self.tree:
            raise ValueError(f"expected a value of structure {self.tree}, not {structure}")
        parts = [np.zeros(0, self.dtype)]
        for x, shape in zip(leaves, self.shapes, strict=True):
            x = tensor(x).detach()
            if tuple(x.shape) != shape:
                raise ValueError(f"expected a value of shape {shape}, not {tuple(x.shape)}")
            if self.levels:  # whatever is the same for all examples is stretched over them
                x = ops.add(x, self._wrap(np.zeros(self.sizes, numpy_dtype(x.dtype))))
            parts.append(np.asarray(backend.to_device(physical(x.raw), "cpu")).reshape(-1))
        return np.concatenate(parts).astype(self.dtype if self.dtype.kind == "c" else np.float64, copy=False)

    def unpack(self, vector: np.ndarray) -> Any:
        """The tree of constant tensors that a vector stands for."""
        leaves, start = [], 0
        for shape, dtype, like in zip(self.shapes, self.dtypes, self.likes, strict=True):
            full = (*self.sizes, *shape)
            n = int(np.prod(full))
            part = vector[start : start + n].reshape(full).astype(numpy_dtype(dtype))
            leaves.append(self._wrap(_on_device_of(backend.scalar(part), like)))
            start += n
        return optree.tree_unflatten(self.tree, leaves)

    def _wrap(self, array: Any) -> DiffTensor:
        found = DiffTensor._wrap(backend.scalar(array), None)
        for level in self.levels:
            found = DiffTensor._wrap(Batch(found, level), None)
        return found


def _on_device_of(array: Any, like: Any) -> Any:
    library = backend.xp(like)
    if library is np:
        return array
    return library.asarray(array) if library.__name__ == "cupy" else library.asarray(array, device=like.device)


def is_tracked(x: Any) -> bool:
    """Whether a value depends on anything tracked, here or outside of a ``vmap``."""
    while isinstance(x, DiffTensor):
        if x.node is not None:
            return True
        x = x.raw.value if type(x.raw) is Batch else None
    return False
