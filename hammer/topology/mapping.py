"""Mapper: a cloud as a graph of overlapping clusters. Exploratory: it shows shapes to look into, and proves none.

    graph = mapper(points, lens=points[:, 0], intervals=10, overlap=0.3)
    graph.parts, graph.loops, [len(m) for m in graph.members]

A *lens* gives every point one number or a few. Its range is covered by intervals (boxes) that overlap; the points over each are clustered by
themselves; clusters are nodes, and two that share points are joined (Singh, Mémoli & Carlsson 2007). What comes out depends on the lens,
the cover and the clustering: a shape that stays while they change deserves a second look, by ``rips`` for instance.
"""

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.sparse import csr_array
from scipy.spatial.distance import squareform

from autograd.gradients.scaling import number, whole

from .components import labels
from .metric import host, metric_of

BINS = 10
"""Of the histogram of edges in which the first gap is looked for."""


@dataclass(frozen=True)
class MapperGraph:
    """The clusters of a cloud and which of them share points.

    Attributes:
        members: for each node the numbers of its points, ascending.
        edges: (m, 2), nodes that share at least one point, the smaller number first.
        cells: (nodes, lenses), the number of the interval of each lens over which the node lies.
        lens: (nodes, lenses), the mean of the lens over the node's points.
    """

    members: tuple[np.ndarray, ...]
    edges: np.ndarray
    cells: np.ndarray
    lens: np.ndarray

    def labels(self) -> np.ndarray:
        """(nodes,), the connected part of each node: 0, 1, …"""
        return labels(len(self.members), self.edges)

    @property
    def parts(self) -> int:
        """How many connected parts the graph has."""
        return int(self.labels().max(initial=-1)) + 1

    @property
    def loops(self) -> int:
        """How many independent cycles the graph has: edges − nodes + parts."""
        return len(self.edges) - len(self.members) + self.parts

    @property
    def degrees(self) -> np.ndarray:
        """(nodes,), how many edges each node has: 1 at the end of a branch, 3 and more where branches meet."""
        return np.bincount(self.edges.ravel(), minlength=len(self.members))

    def __repr__(self) -> str:
        return (
            f"MapperGraph({len(self.members)} nodes, {len(self.edges)} edges, {self.parts} parts, {self.loops} loops)"
        )


def mapper(
    points: Any,
    lens: Any,
    intervals: int = 10,
    overlap: float = 0.3,
    cut: float | None = None,
    metric: str = "euclidean",
) -> MapperGraph:
    """The Mapper graph of points.

    Args:
        points: (n, d), or with ``metric="precomputed"`` the symmetric matrix of distances (n, n).
        lens: (n,) or (n, lenses): a coordinate, a density, a loss, the distance from a point, …; of several, boxes are products of intervals.
        intervals: of equal length, along each lens.
        overlap: the share of an interval that it has in common with the next, in (0, 1/2].
        cut: the distance up to which points of one interval are chained into a cluster (single linkage). None: found for each by the rule
            of the paper: the histogram of the edges of the minimum spanning tree, in ``BINS`` bins, is cut at the first
            empty bin above its shortest edge. Bins here go from 0 to the diameter of the points, not over the edges only, so that
            evenly spaced points stay together.
        metric: "euclidean" or "precomputed".

    Raises:
        ValueError: a lens that has not one number for each point, or a setting out of range.

    Takes n² numbers of memory.
    """
    whole("mapper: intervals", intervals)
    number("mapper: overlap", overlap, "(0, 0.5]")
    if cut is not None:
        number("mapper: cut", cut)
    d = metric_of(points, metric, "mapper")
    values = host(lens, "mapper: lens")
    if values.ndim not in (1, 2) or len(values) != len(d):
        raise ValueError(f"mapper: the lens must have a number (or a row) for each of {len(d)} points, not shape {values.shape}")  # fmt: skip
    values = values[:, None] if values.ndim == 1 else values
    inside = [_over(values[:, k], intervals, overlap) for k in range(values.shape[1])]
    members, cells = [], []
    for cell in itertools.product(range(intervals), repeat=len(inside)):
        chosen = np.nonzero(np.logical_and.reduce([part[i] for part, i in zip(inside, cell, strict=True)]))[0]
        if len(chosen) == 0:
            continue
        group = _clusters(d[np.ix_(chosen, chosen)], cut)
        members += [chosen[group == k] for k in range(int(group.max()) + 1)]
        cells += [cell] * (int(group.max()) + 1)
    means = np.array([values[m].mean(axis=0) for m in members]).reshape(-1, values.shape[1])
    return MapperGraph(
        tuple(members), _sharing(members, len(d)), np.array(cells, np.int64).reshape(-1, values.shape[1]), means
    )


def _over(values: np.ndarray, intervals: int, overlap: float) -> np.ndarray:
    """(intervals, n): which points lie over each interval, ends included; the first and the last reach the ends of the range."""
    if len(values) == 0:
        return np.zeros((intervals, 0), bool)
    low, high = float(values.min()), float(values.max())
    if low == high:
        return np.arange(intervals)[:, None] == np.zeros(len(values), np.int64)
    place = (values - low) / (high - low)  # from 0 to 1 exactly
    length = 1.0 / (intervals - (intervals - 1) * overlap)
    starts = np.arange(intervals)[:, None] * length * (1.0 - overlap)
    ends = np.append(starts[:-1] + length, [[1.0]], axis=0)
    return (starts <= place) & (place <= ends)


def _clusters(d: np.ndarray, cut: float | None) -> np.ndarray:
    """The cluster of each point by single linkage: 0, 1, …, in the order of their first points."""
    if len(d) == 1:
        return np.zeros(1, np.int64)
    tree = linkage(squareform(d, checks=False), "single")
    found = fcluster(tree, _gap(tree[:, 2], float(d.max())) if cut is None else cut, "distance")
    _, first, group = np.unique(found, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[group.reshape(-1)]


def _gap(lengths: np.ndarray, diameter: float) -> float:
    """Where the histogram of edges has its first empty bin above the shortest edge; infinite if there is none below the longest."""
    counts, ends = np.histogram(lengths, BINS, (0.0, diameter))
    filled = np.nonzero(counts)[0]
    empty = np.nonzero(counts[filled[0] : filled[-1]] == 0)[0]
    return float(ends[filled[0] + empty[0]]) if len(empty) else np.inf


def _sharing(members: list[np.ndarray], count: int) -> np.ndarray:
    """(m, 2), the pairs of nodes that have a point in common."""
    sizes = [len(m) for m in members]
    if not sizes:
        return np.empty((0, 2), np.int64)
    rows = np.repeat(np.arange(len(members)), sizes)
    table = csr_array((np.ones(len(rows)), (rows, np.concatenate(members))), shape=(len(members), count))
    common = (table @ table.T).tocoo()
    upper = common.row < common.col
    edges = np.stack([common.row[upper], common.col[upper]], axis=1).astype(np.int64)
    return edges[np.lexsort((edges[:, 1], edges[:, 0]))]
