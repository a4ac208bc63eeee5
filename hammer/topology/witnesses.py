"""The lazy witness complex: few landmarks as vertices, all points as witnesses of their edges (de Silva & Carlsson 2004).

With n landmarks and N points it costs n² N distances and the persistence of n points, and sees finer than the Rips complex of the landmarks
alone, as the other points say which landmarks are neighbours. It is an approximation without a bound in general; ``farthest_points`` has one.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist

from autograd.gradients.scaling import whole
from autograd.tensor import DiffTensor

from .clouds import rips
from .diagram import Diagram
from .metric import Landmarks, host_points

CHUNK = 2**22
"""Numbers of a table that is held at a time."""


def witness_times(points: Any, landmarks: Landmarks | Any, nearest: int = 1) -> np.ndarray:
    """When the edge of each two landmarks comes: the least R with a witness w for which max(d(a, w), d(b, w)) ≤ R + m(w).

    Args:
        points: (N, d), the witnesses; landmarks are among them.
        landmarks: what ``farthest_points`` returns, or their places among the points: n different whole numbers.
        nearest: ν: m(w) is the distance of w from its ν-th nearest landmark; 0: m = 0.

    Returns:
        (n, n), symmetric, zeros on the diagonal, float64; a table of distances for ``rips``, though no metric.

    With ν = 0 the time of an edge is between half its length and its length, if all points are landmarks.
    """
    if isinstance(points, DiffTensor) and points.node is not None:
        raise TypeError("witness: has no derivative; use rips, or points.detach()")
    x = host_points(points, "witness")
    places = np.asarray(landmarks.indices if isinstance(landmarks, Landmarks) else landmarks)
    if places.ndim != 1 or places.dtype.kind not in "iu" or len(np.unique(places)) < len(places):
        raise ValueError(
            "witness: landmarks are different places among the points, such as farthest_points(points, 50)"
        )
    if len(places) and not (places.min() >= 0 and places.max() < len(x)):
        raise ValueError(f"witness: landmarks must be places from 0 to {len(x) - 1}, the number of points less one")
    n = len(places)
    whole("witness: nearest", nearest, 0)
    if nearest > n:
        raise ValueError(f"witness: nearest must be at most the number of landmarks, {n}, not {nearest}")
    found = np.full((n, n), np.inf)
    step = max(1, CHUNK // max(n, 1))
    for start in range(0, len(x) if n else 0, step):
        d = cdist(x[places], x[start : start + step])  # landmarks × witnesses
        free = np.partition(d, nearest - 1, axis=0)[nearest - 1] if nearest else np.zeros(d.shape[1])
        for a in range(n):
            np.minimum(found[a], (np.maximum(d[a], d) - free).min(axis=1), out=found[a])
    return np.maximum(found, 0.0)  # a landmark is a witness of itself, so that the diagonal is 0


def witness(
    points: Any,
    landmarks: Landmarks | Any,
    dimensions: Sequence[int] = (0, 1),
    nearest: int = 1,
    threshold: float = np.inf,
) -> tuple[Diagram, ...]:
    """The persistence diagrams of the lazy witness complex, by R, one for each of ``dimensions``.

    Args:
        points, landmarks, nearest: see ``witness_times``. 1 is the usual choice; 2 gives the edges of the first neighbours at R = 0.
        dimensions: of homology; those above 0 need gudhi.
        threshold: the largest R.

    A simplex comes with the last of its edges.
    """
    return rips(witness_times(points, landmarks, nearest), dimensions, "precomputed", threshold)
