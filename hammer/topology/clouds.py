"""Persistence of point clouds: gradients of examples, iterates of a run, activations, windows of a time series.

``rips`` takes points of any dimension, or distances; ``alpha`` takes points in few dimensions, where it has far fewer simplices. The
Rips complex at scale r has the simplices of diameter at most r, so that births and deaths are edge lengths; the alpha complex those
within balls of radius r, and its births and deaths are radii.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.cluster.hierarchy import linkage
from scipy.spatial import Delaunay, QhullError
from scipy.spatial.distance import squareform

from autograd import ops
from autograd.tensor import DiffTensor

from .components import spanning_tree
from .diagram import Diagram, beside, found_places, pick, plain
from .libraries import gudhi
from .metric import host, host_points, metric_of, ranked

ROUNDING = 1e-10
"""Of the points' extent: features of an alpha complex that live no longer are rounding errors of points on one sphere."""

FLAT = 1e-13
"""Relative size below which a direction of a simplex counts as none."""


def rips(
    points: Any,
    dimensions: Sequence[int] = (0, 1),
    metric: str = "euclidean",
    threshold: float = np.inf,
    places: bool | None = None,
) -> tuple[Diagram, ...]:
    """The persistence diagrams of the Vietoris–Rips complex of points, one for each of ``dimensions``.

    Args:
        points: (n, d), an array or DiffTensor; or with ``metric="precomputed"`` the symmetric matrix of distances (n, n).
        dimensions: of homology. Components (0) are a minimum spanning tree, which needs nothing else; the others need gudhi.
        metric: "euclidean" or "precomputed".
        threshold: the longest edge; what lives on there is essential.
        places: whether to find the edges of births and deaths too; None: for recorded tensors, whose derivative needs them.

    Returns:
        Diagrams by edge length, in the dtype of the points. With a recorded DiffTensor they can be differentiated; the distance of
        two equal points has the derivative 0.

    Raises:
        ImportError: a dimension above 0 without gudhi. ValueError: a point is not finite, or distances are none.

    About n² numbers of memory and, for loops, time that grows with n³: 2,000 points take seconds. For more, see ``farthest_points``.
    """
    wanted = _dimensions(dimensions, "rips")
    if not threshold > 0:
        raise ValueError(f"rips: threshold is the longest edge and must be above 0, not {threshold!r}")
    d = metric_of(points, metric, "rips")
    higher = [k for k in wanted if k > 0]
    if not found_places(points, places):
        found = {0: _single_linkage(d, threshold)} if 0 in wanted else {}
        if higher:
            library = gudhi("sklearn.rips_persistence", "rips with dimensions above 0")
            transform = library.RipsPersistence(higher, threshold, "full distance matrix", homology_coeff_field=2)
            found.update(
                zip(
                    higher, transform.fit_transform([d])[0] if len(d) else [np.empty((0, 2))] * len(higher), strict=True
                )
            )
        return tuple(plain(k, found[k], points) for k in wanted)
    made = {0: _components(points, d, metric, threshold)} if 0 in wanted else {}
    if higher:
        made.update(_loops(points, d, metric, threshold, higher))
    return tuple(made[k] for k in wanted)


def _single_linkage(d: np.ndarray, threshold: float) -> np.ndarray:
    """Births and deaths of components: the edges of a minimum spanning tree, by SciPy's compiled Prim."""
    lengths = linkage(squareform(d, checks=False), "single")[:, 2] if len(d) > 1 else np.empty(0)
    ends = np.where(lengths <= threshold, lengths, np.inf)
    return np.stack([np.zeros(len(d)), np.append(ends, np.inf)[: len(d)]], axis=1)


def _dimensions(dimensions: Sequence[int], what: str) -> list[int]:
    wanted = [int(k) for k in dimensions]
    if not wanted or min(wanted) < 0 or len(set(wanted)) < len(wanted):
        raise ValueError(
            f"{what}: dimensions are different whole numbers from 0 on, such as (0, 1), not {dimensions!r}"
        )
    return wanted


def _components(points: Any, d: np.ndarray, metric: str, threshold: float) -> Diagram:
    edges = spanning_tree(d)
    lengths = d[edges[:, 0], edges[:, 1]]
    edges = edges[(lengths > 0) & (lengths <= threshold)]
    parts = len(d) - int((lengths <= threshold).sum())
    places = np.stack([np.full_like(edges, -1), edges], axis=1)
    return _diagram(points, metric, 0, places, np.full((parts, 2), -1))


def _loops(points: Any, d: np.ndarray, metric: str, threshold: float, wanted: list[int]) -> dict[int, Diagram]:
    """Diagrams of dimensions above 0, from the ranks of the edges."""
    library = gudhi("sklearn.rips_persistence", "rips with dimensions above 0")
    if len(d) < 2:
        return {
            k: _diagram(points, metric, k, np.empty((0, 2, 2), np.int64), np.empty((0, 2), np.int64)) for k in wanted
        }
    lengths = squareform(d, checks=False)
    order, ranks = ranked(lengths)
    last = np.inf if threshold == np.inf else float((lengths <= threshold).sum()) + 0.5
    # With a threshold the library would take ranks for coordinates' distances; a full matrix of them it takes as it is.
    transform = library.RipsPersistence(
        wanted, threshold=last, input_type="full distance matrix", homology_coeff_field=2
    )
    (found,) = transform.fit_transform([squareform(ranks + 1.0)])
    i, j = np.triu_indices(len(d), 1)
    ends = np.stack([i[order], j[order]], axis=1)
    made = {}
    for k, diagram in zip(wanted, found, strict=True):
        lives = np.isfinite(diagram[:, 1])
        edges = ends[diagram[lives].astype(np.int64) - 1]
        spans = lengths[order[diagram[lives].astype(np.int64) - 1]]
        edges = edges[spans[:, 1] > spans[:, 0]]
        made[k] = _diagram(points, metric, k, edges, ends[diagram[~lives, 0].astype(np.int64) - 1])
    return made


def _diagram(points: Any, metric: str, dimension: int, places: np.ndarray, essential: np.ndarray) -> Diagram:
    """The diagram with its numbers picked from the points: places (k, 2, 2) and (m, 2). Components are born at 0, whatever the points."""
    k = len(places)
    if dimension == 0:
        deaths = _edge_lengths(points, metric, places[:, 1])
        return Diagram(
            0, ops.stack([deaths * 0.0, deaths], axis=1), beside(np.zeros(len(essential)), deaths), places, essential
        )
    values = _edge_lengths(points, metric, np.concatenate([places.reshape(-1, 2), essential]))
    return Diagram(dimension, ops.reshape(values[: 2 * k], (k, 2)), values[2 * k :], places, essential)


def _edge_lengths(points: Any, metric: str, edges: np.ndarray) -> Any:
    """(m,) distances as operations on the points."""
    x = points if "float" in str(getattr(points, "dtype", "")) else host(points, "rips")
    if metric == "precomputed":
        n = x.shape[0]
        return pick(ops.reshape(x, (n * n,)), edges[:, 0] * n + edges[:, 1])
    return ops.norm(pick(x, edges[:, 0]) - pick(x, edges[:, 1]), axis=1)


def alpha(points: Any, dimensions: Sequence[int] = (0, 1)) -> tuple[Diagram, ...]:
    """The persistence diagrams of the alpha complex of points in few dimensions, by radius; needs gudhi.

    Its sub-complex at r has the shape of the union of balls of radius r around the points (the nerve theorem), so that the diagrams are those
    of the Čech complex, from about n simplices in the plane and n to n² in space. Points that are equal are one point.

    Args:
        points: (n, d), of d at most 4 or so. A recorded DiffTensor is refused: this has no derivative; ``rips`` has.
        dimensions: of homology.

    Raises:
        ImportError: without gudhi. ValueError: fewer than d + 2 points, or all on one hyperplane.

    The triangulation is SciPy's (Qhull); values of simplices are computed here, after Edelsbrunner & Mücke (1994): the radius of the
    smallest circumscribed ball, or, where that has another point inside, the least value of the simplices around it.
    """
    wanted = _dimensions(dimensions, "alpha")
    if isinstance(points, DiffTensor) and points.node is not None:
        raise TypeError("alpha: has no derivative; use rips, or points.detach()")
    x = host_points(points, "alpha")
    library = gudhi("", "alpha")
    scale = float(np.ptp(x, axis=0).max(initial=0.0))
    try:
        cells = Delaunay(x).simplices
    except (QhullError, ValueError):
        raise ValueError(
            f"alpha: {len(x)} points of shape {x.shape} have no triangulation: they are too few, or lie on one hyperplane; use rips"
        ) from None
    tree = library.SimplexTree()
    for simplices, values in _alpha_values(x, np.unique(np.sort(cells, axis=1), axis=0).astype(np.int64)):
        tree.insert_batch(np.ascontiguousarray(simplices.T), values)
    tree.make_filtration_non_decreasing()
    tree.compute_persistence(homology_coeff_field=2, min_persistence=0.0)
    made = []
    for k in wanted:
        found = np.asarray(tree.persistence_intervals_in_dimension(k)).reshape(-1, 2)
        lives = np.isfinite(found[:, 1])
        lasts = found[:, 1] > found[:, 0] + ROUNDING * scale
        made.append(Diagram(k, found[lives & lasts], found[~lives, 0]))
    return tuple(made)


def _alpha_values(x: np.ndarray, simplices: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Simplices of each dimension, vertices first, with the radii at which they come."""
    found = []
    values = _spheres(x, simplices)[1]
    while simplices.shape[1] > 1:
        found.append((simplices, values))
        faces = np.concatenate([np.delete(simplices, j, axis=1) for j in range(simplices.shape[1])])
        opposite = simplices.T.ravel()
        faces, number = np.unique(faces, axis=0, return_inverse=True)
        number = number.ravel()
        centres, radii = _spheres(x, faces)
        inside = np.linalg.norm(x[opposite] - centres[number], axis=1) < radii[number] * (1 - 1e-12)
        covered = np.zeros(len(faces), bool)
        np.logical_or.at(covered, number, inside)
        least = np.full(len(faces), np.inf)
        np.minimum.at(least, number, np.tile(values, simplices.shape[1]))
        simplices, values = faces, np.where(covered, least, radii)
    found.append((simplices, values))
    return found[::-1]


def _spheres(x: np.ndarray, simplices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centres (m, d) and radii (m,) of the smallest spheres through the vertices of simplices."""
    first = x[simplices[:, 0]]
    if simplices.shape[1] == 1:
        return first, np.zeros(len(simplices))
    sides = x[simplices[:, 1:]] - first[:, None]
    gram = sides @ sides.transpose(0, 2, 1)
    squares = np.diagonal(gram, axis1=1, axis2=2)
    shares = (np.linalg.pinv(gram, rcond=FLAT, hermitian=True) @ squares[:, :, None] / 2)[:, :, 0]
    to_centre = np.einsum("mk,mkd->md", shares, sides)
    return first + to_centre, np.linalg.norm(to_centre, axis=1)
