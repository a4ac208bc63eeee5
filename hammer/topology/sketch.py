"""Sketches: a few random sums that stand for many numbers, so that points of a run can be kept and compared.

Each coordinate (of at most ``COORDINATES``, drawn once) is added with a random sign to one of ``width`` sums (Charikar, Chen &
Farach-Colton 2002), which keeps squared distances right on average, with a relative deviation of about √(2 / width). A sketch is a
linear function, and the same for the same seed, width and number of coordinates.
"""

from typing import Any

import numpy as np

from autograd import backend
from autograd.sparse import RowSparse

COORDINATES = 65536


class Sketch:
    """Makes points of lists of arrays. With no more than ``width`` numbers they are those numbers.

    Attributes:
        length: how many numbers the last list had; None before the first.
    """

    def __init__(self, width: int, seed: int):
        self.width, self.seed = width, seed
        self.length: int | None = None
        self._drawn: tuple[np.ndarray, np.ndarray, np.ndarray, int] | None = None

    def __call__(self, arrays: list) -> np.ndarray:
        """The point of arrays of any library, dense or ``RowSparse``: (min(width, numbers),), float64. None is left out."""
        lines = [_line(a) for a in arrays if a is not None]
        starts = np.cumsum([0, *(len(line) for line in lines)])
        self.length = n = int(starts[-1])
        if n <= self.width:
            return np.concatenate([_numbers(line) for line in lines] or [np.zeros(0)])
        if self._drawn is None or self._drawn[3] != n:
            rng = np.random.default_rng(self.seed)
            taken = np.sort(rng.choice(n, min(n, COORDINATES), replace=False))
            signs = rng.choice([-1.0, 1.0], len(taken)) * np.sqrt(n / len(taken))
            self._drawn = taken, rng.integers(0, self.width, len(taken)), signs, n
        taken, buckets, signs, _ = self._drawn
        ends = np.searchsorted(taken, starts)
        parts = [
            _numbers(line[taken[a:b] - start])
            for line, start, a, b in zip(lines, starts[:-1], ends[:-1], ends[1:], strict=True)
        ]
        return np.bincount(buckets, weights=np.concatenate(parts) * signs, minlength=self.width)


def _line(array: Any) -> Any:
    """The array's numbers as one line on the host."""
    dense = array.dense() if isinstance(array, RowSparse) else array
    return backend.to_device(dense, "cpu").reshape(-1)


def _numbers(line: Any) -> np.ndarray:
    return np.asarray(line, np.float64)
