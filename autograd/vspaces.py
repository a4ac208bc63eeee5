"""Vector spaces of values: zeros, basis vectors and inner products of arrays and of trees of arrays (HIPS's ``vspace``).

Complex arrays are vectors of twice as many real numbers, as in HIPS autograd.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import optree

from . import ops
from .backend import is_complex
from .tensor import DiffTensor

_LEAF: Any = optree.tree_flatten(0.0)[1]  # type: ignore[arg-type]


class VSpace:
    """The space in which a value lives: its structure, shapes and dtypes.

    Attributes:
        shape, ndim, dtype: those of the array; of a tree the trees of them (``ndim`` is None).
        size: how many real numbers make a vector.
        iscomplex: whether any of them belongs to a complex one.
    """

    def __init__(self, value: Any):
        leaves, self.tree = optree.tree_flatten(value)  # type: ignore[arg-type]
        self._specs: list[tuple[tuple[int, ...], Any]] = []
        for leaf in leaves:
            leaf = leaf if isinstance(leaf, DiffTensor) else np.asarray(leaf)
            if not isinstance(leaf, DiffTensor) and leaf.dtype.kind not in "biufc":
                raise TypeError(f"{value!r:.60} is no vector: it holds {leaf.dtype} {leaf!r:.40}")
            dtype = np.dtype(float) if leaf.dtype.kind in "biu" else leaf.dtype
            self._specs.append((tuple(leaf.shape), dtype))
        self._single = len(leaves) == 1 and self.tree == _LEAF
        self.shape = self._rebuild([shape for shape, _ in self._specs])
        self.dtype = self._rebuild([dtype for _, dtype in self._specs])
        self.ndim = len(self.shape) if self._single else None
        self.iscomplex = any(is_complex(dtype) for _, dtype in self._specs)
        self.size = sum(math.prod(shape) * (2 if is_complex(dtype) else 1) for shape, dtype in self._specs)

    def _rebuild(self, leaves: list) -> Any:
        return leaves[0] if self._single else optree.tree_unflatten(self.tree, leaves)

    def _made(self, make: Callable) -> Any:
        return self._rebuild([make(shape, dtype)[()] for shape, dtype in self._specs])

    def zeros(self) -> Any:
        """The zero vector."""
        return self._made(lambda shape, dtype: np.zeros(shape, dtype))

    def ones(self) -> Any:
        """All ones; 1 + i where it is complex."""
        return self._made(lambda shape, dtype: np.full(shape, 1 + 1j if is_complex(dtype) else 1, dtype))

    def standard_basis(self) -> Iterator[Any]:
        """The unit vectors, one after the other; for complex elements 1 and then i."""
        for k, (shape, dtype) in enumerate(self._specs):
            for place in np.ndindex(*shape):
                for unit in (1, 1j) if is_complex(dtype) else (1,):
                    leaves = [np.zeros(s, t) for s, t in self._specs]
                    leaves[k][place] = unit
                    yield self._rebuild([leaf[()] for leaf in leaves])

    def randn(self, rng: "np.random.Generator | None" = None) -> Any:
        """A vector of normal random numbers, from ``rng`` (a fresh generator of seed 0 if None)."""
        rng = np.random.default_rng(0) if rng is None else rng

        def draw(shape: tuple, dtype: Any) -> np.ndarray:
            x = rng.standard_normal(shape)
            return np.asarray(x + 1j * rng.standard_normal(shape) if is_complex(dtype) else x).astype(dtype)

        return self._made(draw)

    def add(self, x: Any, y: Any) -> Any:
        """x + y, leaf by leaf."""
        return optree.tree_map(lambda a, b: a + b, x, y)

    def mut_add(self, x: Any, y: Any) -> Any:
        """x + y; x may be None for zero. Nothing is changed in place."""
        return y if x is None else self.add(x, y)

    def scalar_mul(self, x: Any, a: Any) -> Any:
        """a · x."""
        return optree.tree_map(lambda v: v * a, x)

    def inner_prod(self, x: Any, y: Any) -> Any:
        """The inner product of x and y as vectors of real numbers."""
        total: Any = 0.0
        for a, b in zip(optree.tree_leaves(x), optree.tree_leaves(y), strict=True):
            if isinstance(a, DiffTensor) or isinstance(b, DiffTensor):
                total = total + ops.real(ops.sum(ops.conj(a) * b))
            else:
                total = total + np.real(np.vdot(a, b))
        return total

    def covector(self, x: Any) -> Any:
        """The gradient that belongs to a vector: its conjugate."""
        return optree.tree_map(lambda v: ops.conj(v) if hasattr(v, "dtype") and is_complex(v.dtype) else np.conj(v) if isinstance(v, complex) else v, x)  # fmt: skip

    def __eq__(self, other: object) -> bool:
        return isinstance(other, VSpace) and (self.tree, self._specs) == (other.tree, other._specs)

    def __hash__(self) -> int:
        return hash(tuple(self._specs))

    def __repr__(self) -> str:
        return f"VSpace(shape={self.shape}, dtype={self.dtype})"


def vspace(value: Any) -> VSpace:
    """The vector space of a number, an array, a tensor, or a tree of them. TypeError if it holds anything else."""
    return VSpace(value)


class SparseObject:
    """A gradient that is zero but for a part: ``mut_add(A)`` adds that part to an array ``A`` in place and returns it."""

    __slots__ = ("mut_add", "vs")

    def __init__(self, vs: VSpace, mut_add: Callable[[Any], Any]):
        self.vs, self.mut_add = vs, mut_add

    def dense(self) -> Any:
        """The whole gradient."""
        return self.mut_add(optree.tree_map(np.array, self.vs.zeros()))
