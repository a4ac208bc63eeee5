"""Zeroth homology without gudhi: when the components of a filtered graph are born, and at which edge they die.

For points it is the minimum spanning tree: every component is born at 0, and the deaths are the lengths of the tree's edges.
Where vertices have births of their own, the *elder rule* says which of two components that meet dies: the younger one.
Edges of equal length are taken in the order of their numbers.
"""

from typing import Any

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import minimum_spanning_tree


def spanning_tree(d: np.ndarray) -> np.ndarray:
    """The edges of a minimum spanning tree of a full distance matrix, shortest first: (n − 1, 2) vertices.

    Prim's algorithm, O(n²). Edges of length 0 are edges like others (they are not in SciPy's sparse graphs), and infinite
    ones are none, so that there may be fewer.
    """
    n = len(d)
    edges: list[tuple[int, int]] = []
    if n == 0:
        return np.empty((0, 2), np.int64)
    outside = np.ones(n, bool)
    best, nearest = np.full(n, np.inf), np.zeros(n, np.int64)
    at, closer = 0, np.empty(n, bool)
    for _ in range(n - 1):
        outside[at] = False
        best[at] = np.inf
        row = d[at]
        np.less(row, best, out=closer)
        closer &= outside
        np.copyto(best, row, where=closer)
        nearest[closer] = at
        at = int(best.argmin())
        if best[at] == np.inf:  # another part, which no edge leads to
            at = int(outside.argmax())
        else:
            edges.append((int(nearest[at]), at))
    found = np.array(edges, np.int64).reshape(-1, 2)
    return found[np.argsort(d[found[:, 0], found[:, 1]], kind="stable")]


def spanning_forest(count: int, edges: np.ndarray, times: np.ndarray) -> np.ndarray:
    """The numbers of the edges of a minimum spanning forest of a graph, earliest first.

    Args:
        count: vertices.
        edges: (m, 2) vertices; parallel edges and loops are allowed.
        times: (m,), of any sign.
    """
    order = np.argsort(times, kind="stable")
    i, j = np.sort(edges[order], axis=1).T
    # The first of parallel edges is the earliest one. Ranks instead of times: none is zero, and none equals another.
    _, first = np.unique(i * count + j, return_index=True)
    first = first[i[first] != j[first]]
    tree = minimum_spanning_tree(csr_array((first + 1.0, (i[first], j[first])), shape=(count, count)))
    return order[np.sort(tree.data).astype(np.int64) - 1]


def merges(births: np.ndarray, edges: np.ndarray, times: np.ndarray) -> np.ndarray:
    """What the edges of a forest, earliest first, merge: (m, 3) of the vertex whose component dies, the one that it joins, and the edge.

    A component is named by its oldest vertex; of two that are equally old the one with the smaller number is older.
    """
    age = np.empty(len(births), np.int64)
    age[np.argsort(births, kind="stable")] = np.arange(len(births))
    ages, parent, oldest = age.tolist(), list(range(len(births))), list(range(len(births)))

    def root(v: int) -> int:
        while parent[v] != v:
            parent[v] = parent[parent[v]]
            v = parent[v]
        return v

    found: list[tuple[int, int, int]] = []
    size = [1] * len(births)
    for number in np.argsort(times, kind="stable").tolist():
        a, b = root(int(edges[number, 0])), root(int(edges[number, 1]))
        if a == b:
            continue
        young, old = (oldest[a], oldest[b]) if ages[oldest[a]] > ages[oldest[b]] else (oldest[b], oldest[a])
        found.append((young, old, number))
        if size[a] < size[b]:
            a, b = b, a
        parent[b] = a
        size[a] += size[b]
        oldest[a] = old
    return np.array(found, np.int64).reshape(-1, 3)


def labels(count: int, edges: Any) -> np.ndarray:
    """The component of each vertex of a graph: 0, 1, …, in the order of their first vertices."""
    tree = merges(np.zeros(count), np.asarray(edges, np.int64).reshape(-1, 2), np.zeros(len(edges)))
    joins = dict(tree[:, :2].tolist())
    found = np.arange(count)
    for v in range(count):  # a component joins one with a smaller first vertex
        found[v] = found[joins[v]] if v in joins else v
    return np.unique(found, return_inverse=True)[1]
