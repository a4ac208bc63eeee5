"""Persistent-homology dimension of a set of points: how the length of spanning trees of samples grows with their number.

For n points that fill a set of dimension d evenly, E_α(n) = Σ lifetime^α over H0 (edges of the minimum spanning tree) grows as
n^((d − α)/d) (Steele 1988; Schweinhart 2020). So the slope m of ln E over ln n gives d = α / (1 − m). Birdal et al. 2021 ("Intrinsic
dimension, persistent homology and generalization in neural networks") apply it to the last iterates of training.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import squareform

from .metric import metric_of


@dataclass(frozen=True)
class PHDimension:
    """A persistent-homology dimension.

    Attributes:
        dimension: the estimate, from the mean of ln E over the repeats; infinite where the slope is 1 or more.
        low, high: the least and greatest of the estimates of single repeats: what drawing other samples of the same points does to
            it. It says nothing of points that are not there.
        sizes: the sample sizes n.
        energies: (repeats, sizes), E_α(n).
        slope: m.
    """

    dimension: float
    low: float
    high: float
    sizes: np.ndarray
    energies: np.ndarray
    slope: float


def ph_dimension(
    points: Any,
    rng: np.random.Generator,
    sizes: Sequence[int] = tuple(range(200, 1000, 50)),
    alpha: float = 1.0,
    repeats: int = 1,
    metric: str = "euclidean",
) -> PHDimension:
    """The persistent-homology dimension of degree 0 of points.

    Args:
        points: (n, d), n at least the largest size; with ``metric="precomputed"`` their distances (n, n).
        rng: draws the samples: each repeat takes the points in a random order, and of these the first n.
        sizes: of the samples; at least two.
        alpha: α > 0. The estimate cannot fall below it.
        repeats: how often to do it.

    Known sets, 1,000 points, the defaults: line 1.0, square 1.9 to 2.0, cube 2.8, circle 1.0, Brownian path 2.1 to 2.3, Sierpiński triangle 1.6 (tests):
    low for cubes, as points near the boundary have fewer neighbours.
    """
    wanted = np.array(sorted({int(n) for n in sizes}))
    if len(wanted) < 2 or wanted[0] < 2:
        raise ValueError(f"ph_dimension: needs at least two sizes, all from 2 on, not {sizes!r}")
    if not alpha > 0 or repeats < 1:
        raise ValueError(f"ph_dimension: alpha must be above 0 and repeats at least 1, not {alpha!r} and {repeats!r}")
    d = metric_of(points, metric, "ph_dimension")
    if len(d) < wanted[-1]:
        raise ValueError(
            f"ph_dimension: there are {len(d)} points, fewer than the largest size, {wanted[-1]}; give smaller sizes"
        )
    energies = np.empty((repeats, len(wanted)))
    for r in range(repeats):
        order = rng.permutation(len(d))
        for k, n in enumerate(wanted):
            part = squareform(d[np.ix_(order[:n], order[:n])], checks=False)
            energies[r, k] = np.sum(linkage(part, "single")[:, 2] ** alpha)  # the edges of a minimum spanning tree
    if not (energies > 0).all():
        raise ValueError("ph_dimension: all points of a sample are equal: it has no dimension")
    slopes = [_slope(wanted, row) for row in np.log(energies)]
    slope = _slope(wanted, np.log(energies).mean(axis=0))
    each = [_dimension(m, alpha) for m in slopes]
    return PHDimension(_dimension(slope, alpha), min(each), max(each), wanted, energies, slope)


def _slope(sizes: np.ndarray, logs: np.ndarray) -> float:
    return float(np.polyfit(np.log(sizes), logs, 1)[0])


def _dimension(slope: float, alpha: float) -> float:
    return alpha / (1.0 - slope) if slope < 1.0 else float("inf")
