"""Distances between points, and few points that stand for many, with the error that this makes.

Points are arrays of shape (n, d) of any library; they are worked on in float64 on the host.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial.distance import pdist, squareform

from autograd import backend
from autograd.batch import Batch
from autograd.errors import NoValueError
from autograd.tensor import DiffTensor

FEW_COORDINATES = 16
"""Up to so many, differences are taken one by one, so that equal distances are equal numbers."""

CANCELLATION = 1e-6
"""Squared distances below this share of the points' squared norms are taken from differences, not from products."""


def host(values: Any, what: str) -> np.ndarray:
    """The numbers of an array or DiffTensor in float64 on the host.

    Raises:
        TypeError: they are no real numbers, or a tensor has none. ValueError: one is NaN or infinite.
    """
    raw = values.raw if isinstance(values, DiffTensor) else values
    if isinstance(values, DiffTensor) and (raw is None or type(raw) is Batch):
        raise NoValueError(
            f"{what}: which pairs there are depends on the values, so it works neither on symbolic tensors nor inside vmap "
            "or a compiled function; call it on each example, outside"
        )
    array = np.asarray(backend.to_device(raw, "cpu") if backend.is_array(raw) else raw)
    if array.dtype.kind not in "fiub" and "float" not in str(array.dtype):
        raise TypeError(f"{what}: needs real numbers, not {array.dtype}")
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        bad = int(array.size - np.isfinite(array).sum())
        raise ValueError(
            f"{what}: {bad} of {array.size} values are NaN or infinite; drop them, or clip them first (numpy.minimum(values, top))"
        )
    return array


def ranked(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The places of numbers in ascending order, those of equal ones in order of place; and the rank, from 0, of each place. Both flat."""
    line = values.reshape(-1)
    order = np.argsort(line)  # several times faster than a stable sort, and the same where no two are equal
    ascending = line[order]
    if (ascending[1:] == ascending[:-1]).any():
        order = np.argsort(line, kind="stable")
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order))
    return order, ranks


def host_points(points: Any, what: str) -> np.ndarray:
    """Points in float64 on the host, (n, d)."""
    x = host(points, what)
    if x.ndim != 2:
        raise ValueError(f"{what}: points must have shape (number, coordinates), not {x.shape}; reshape them first")
    return x


def distances(points: Any) -> np.ndarray:
    """Euclidean distances between all points, symmetric, with zeros on the diagonal: (n, n), float64.

    With many coordinates they come from a matrix product where that loses no digits, so that they are exact to about 1e-10
    of their size; with few, from differences.
    """
    x = host_points(points, "distances")
    if x.shape[1] <= FEW_COORDINATES or len(x) < 3:
        return squareform(pdist(x)) if len(x) > 1 else np.zeros((len(x), len(x)))
    x = x - x.mean(axis=0)
    product = x @ x.T
    norms = product.diagonal()
    scale = norms[:, None] + norms
    square = scale - 2.0 * product
    rows, columns = np.nonzero(np.triu(square < CANCELLATION * scale, 1))
    chunk = max(1, 2**22 // x.shape[1])
    for start in range(0, len(rows), chunk):
        i, j = rows[start : start + chunk], columns[start : start + chunk]
        difference = x[i] - x[j]
        square[i, j] = square[j, i] = np.einsum("ij,ij->i", difference, difference)
    np.fill_diagonal(square, 0.0)
    upper = np.triu(np.sqrt(np.maximum(square, 0.0)), 1)
    return upper + upper.T


def metric_of(points: Any, metric: str, what: str) -> np.ndarray:
    """The distance matrix of points ("euclidean"), or the one that is given ("precomputed"), checked."""
    if metric == "euclidean":
        return distances(host_points(points, what))
    if metric != "precomputed":
        raise ValueError(f'{what}: metric must be "euclidean" or "precomputed", not {metric!r}')
    d = host(points, what)
    if d.ndim != 2 or d.shape[0] != d.shape[1]:
        raise ValueError(f"{what}: a distance matrix is square; this one has shape {d.shape}")
    if (d < 0).any() or d.diagonal().any() or not np.array_equal(d, d.T):
        raise ValueError(
            f"{what}: a distance matrix is symmetric, not negative, and zero on its diagonal; this one is not"
        )
    return d


@dataclass(frozen=True)
class Landmarks:
    """Points picked one after another, each the farthest from those before (Gonzalez 1985).

    Attributes:
        indices: their places among the points, in the order of picking: (k,).
        radii: radii[i] is the greatest distance of any point from the nearest of the first i + 1 landmarks: (k,).
    """

    indices: np.ndarray
    radii: np.ndarray

    @property
    def radius(self) -> float:
        """The greatest distance of any point from the nearest landmark: their Hausdorff distance."""
        return float(self.radii[-1])

    @property
    def rips_bound(self) -> float:
        """The Rips diagrams (by edge length) of all points and of the landmarks have at most this bottleneck distance.

        Twice the radius: d_B ≤ 2 d_GH ≤ 2 d_H (Chazal, de Silva & Oudot 2014). Persistence landscapes, whose sup norm
        is at most d_B (Bubenik 2015), have the same bound.
        """
        return 2.0 * self.radius

    @property
    def alpha_bound(self) -> float:
        """The same for alpha complexes, by radius: d_B ≤ d_H (Cohen-Steiner, Edelsbrunner & Harer 2007)."""
        return self.radius


def farthest_points(points: Any, count: int, start: int = 0, metric: str = "euclidean") -> Landmarks:
    """Landmarks by farthest-point sampling; the radius is at most twice the smallest that ``count`` points can have.

    Args:
        points: (n, d), or with ``metric="precomputed"`` a distance matrix (n, n).
        count: how many, between 1 and n.
        start: the place of the first one.
    """
    x = host_points(points, "farthest_points")
    n = len(x)
    if not 1 <= count <= n:
        raise ValueError(f"farthest_points: count must be between 1 and the number of points, {n}, not {count}")
    if not -n <= start < n:
        raise ValueError(f"farthest_points: start={start} is no place among {n} points")
    if metric == "precomputed":
        metric_of(points, metric, "farthest_points")
    elif metric != "euclidean":
        raise ValueError(f'farthest_points: metric must be "euclidean" or "precomputed", not {metric!r}')
    near = np.full(n, np.inf)
    indices, radii = np.empty(count, np.int64), np.empty(count)
    at = start % n
    for k in range(count):
        indices[k] = at
        row = x[at] if metric == "precomputed" else np.sqrt(np.square(x - x[at]).sum(axis=1))
        np.minimum(near, row, out=near)
        at = int(near.argmax())
        radii[k] = near[at]
    return Landmarks(indices, radii)
