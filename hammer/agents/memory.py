"""Memory that is used again: a step's vectors are as long as those of the step before.

The system hands out large vectors page by page, as they are first written, which takes as long as summing them over two ranks.
``Memory`` keeps what it made, and gives it out again once no array looks at it any more: not a view of it either, so that an
optimizer, or whoever else, may keep what it was given for as long as it likes.
"""

import weakref

import numpy as np

LEAST_BYTES = 1 << 16
"""Smaller vectors are new ones: they come from memory that the process has."""
MOST_KEPT = 64
"""Vectors without a user that are kept, so that layouts that nobody uses any more do not hold memory for ever."""


class Memory:
    """Where the vectors of one user come from; for one thread at a time."""

    def __init__(self) -> None:
        self._free: list[np.ndarray] = []
        self._lent: dict[int, tuple[weakref.ref, np.ndarray]] = {}
        self._count = 0

    def empty(self, length: int, dtype: np.dtype) -> np.ndarray:
        """A vector of any content, as ``np.empty`` makes it."""
        if length * dtype.itemsize < LEAST_BYTES:
            return np.empty(length, dtype)
        for i, block in enumerate(self._free):
            if block.size == length and block.dtype == dtype:
                del self._free[i]
                break
        else:
            block = np.empty(length, dtype)
        # Views of an array refer to the array at the root of its memory, or, where that memory is no array's, to the array itself.
        # So the array that is given out lives for as long as any view of it.
        vector = np.frombuffer(block.data, dtype)
        self._count += 1
        number = self._count
        self._lent[number] = weakref.ref(vector, lambda _: self._back(number)), block
        return vector

    def _back(self, number: int) -> None:
        _, block = self._lent.pop(number)
        self._free.append(block)
        del self._free[:-MOST_KEPT]
