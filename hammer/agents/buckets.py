"""Gradients on their way to a wire: leaves packed into vectors (*buckets*), and unpacked again.

A message has a price of its own beside that of its bytes, so small leaves travel together. A bucket holds leaves of one
dtype, from the last parameter to the first, because that is the order in which a backward pass is done with them. The
layout depends on the parameters alone, so all ranks have the same. 16-bit leaves are summed, and sent, in float32.
"""

from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from autograd import backend
from autograd.shapes import numpy_dtype
from autograd.sparse import RowSparse

from .memory import Memory

BUCKET_BYTES = 4 << 20
"""Enough that a bucket's price is its bytes, and few enough that several are under way at once."""


class Buckets:
    """Where each leaf lies. Make it by ``buckets_of``.

    Attributes:
        sizes: for each bucket its number of elements and its dtype.
        members: for each bucket the numbers of its leaves, the last one first.
    """

    def __init__(self, leaves: Sequence[tuple[tuple[int, ...], str] | None], bucket_bytes: int):
        self.places: list[tuple[int, int, int] | None] = [None] * len(leaves)  # bucket, first element, elements
        self.sizes: list[tuple[int, np.dtype]] = []
        self.members: list[list[int]] = []
        open_: dict[np.dtype, int] = {}
        for i in reversed(range(len(leaves))):
            leaf = leaves[i]
            if leaf is None:
                continue
            dtype, n = wide(leaf[1]), prod(leaf[0])
            bucket = open_.get(dtype)
            if bucket is None or (self.sizes[bucket][0] + n) * dtype.itemsize > bucket_bytes:
                bucket = open_[dtype] = len(self.sizes)
                self.sizes.append((0, dtype))
                self.members.append([])
            first = self.sizes[bucket][0]
            self.places[i] = bucket, first, n
            self.members[bucket].append(i)
            self.sizes[bucket] = first + n, dtype

    def pack(self, leaves: Sequence[Any], weight: float = 1.0, memory: Memory | None = None) -> list[np.ndarray]:
        """The leaves times ``weight``, in vectors on the host that are the caller's; zeros stand for None."""
        return [self.vector(b, leaves, weight, memory) for b in range(len(self.sizes))]

    def vector(
        self, bucket: int, leaves: Sequence[Any], weight: float = 1.0, memory: Memory | None = None
    ) -> np.ndarray:
        """The vector of one bucket, as ``pack`` makes it; only the leaves in it are looked at."""
        vector = (np.empty if memory is None else memory.empty)(*self.sizes[bucket])
        for i in self.members[bucket]:
            _, first, n = self.places[i]  # type: ignore[misc]
            part, leaf = vector[first : first + n], leaves[i]
            if leaf is None:
                part[...] = 0
                continue
            flat = host(leaf).reshape(-1)
            if weight == 1.0:
                part[...] = flat
            else:
                np.multiply(flat.astype(part.dtype, copy=False), weight, out=part)
        return vector

    def unpack(self, vectors: Sequence[np.ndarray], like: Sequence[Any]) -> list:
        """Leaves of the shapes, dtypes and places of ``like``; None where that is None. They may share the vectors' memory."""
        leaves: list[Any] = []
        for p, place in zip(like, self.places, strict=True):
            if p is None or place is None:
                leaves.append(None)
                continue
            bucket, first, n = place
            array = vectors[bucket][first : first + n].reshape(tuple(p.shape))
            dtype = numpy_dtype(p.dtype)
            array = array if array.dtype == dtype else array.astype(dtype)
            leaves.append(backend.scalar(backend.to_device(array, backend.place_of(p))))
        return leaves


def buckets_of(params: Sequence[Any], bucket_bytes: int = BUCKET_BYTES) -> Buckets:
    """The layout of these parameters' gradients."""
    return _made(tuple(None if p is None else (tuple(p.shape), numpy_dtype(p.dtype).str) for p in params), bucket_bytes)


@lru_cache(maxsize=64)
def _made(leaves: tuple, bucket_bytes: int) -> Buckets:
    return Buckets(leaves, bucket_bytes)


def wide(dtype: Any) -> np.dtype:
    """What arrays of a dtype are summed in."""
    found = np.dtype(dtype)
    return found if found.itemsize > 2 else np.dtype(np.float32)


def host(g: Any) -> np.ndarray:
    """A gradient as a NumPy array; a sparse one as the dense array it stands for."""
    dense = g.dense() if type(g) is RowSparse else g
    return np.asarray(backend.to_device(dense, "cpu"))
