"""Basins of a landscape and the tree in which they merge, without gudhi.

Two cells that share a corner are neighbours. Every cell belongs to the basin of the minimum that steepest descent reaches from it; a
basin's cells below any level are connected by such paths, so components of sublevel sets are unions of basins, and only the lowest
pass between two basins matters. Finding basins and passes is vectorised; the loop over merges is as long as there are minima.
"""

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

from .components import merges, spanning_forest
from .metric import host, ranked


@dataclass(frozen=True)
class Basins:
    """The minima of a landscape, deepest-lasting first, and how their basins merge as the level rises.

    Attributes:
        minima: (b, axes), indices of the minima's cells. The first is the global one; the others come in the order in which they die, last first.
        births: (b,), the values there.
        saddles: (b − 1, axes), the cells at which minima[1:] merge into an older basin.
        deaths: (b − 1,), the values there: the heights of the passes.
        parents: (b − 1,), the number of the minimum into whose component minima[1:] merge, always an earlier one.
        labels: an integer array like the values: the number of the basin of each cell.
    """

    minima: np.ndarray
    births: np.ndarray
    saddles: np.ndarray
    deaths: np.ndarray
    parents: np.ndarray
    labels: np.ndarray

    @property
    def depths(self) -> np.ndarray:
        """(b,), how far each minimum lies below the pass to a deeper one; infinite for the global minimum."""
        return np.concatenate([[np.inf], self.deaths - self.births[1:]])

    def count(self, depth: float = 0.0) -> int:
        """How many basins are deeper than ``depth``."""
        return int((self.depths > depth).sum())


def basins(values: Any) -> Basins:
    """The basins of a grid of numbers of any number of axes; equal values count as if the cell that comes first were lower.

    So a plateau has one minimum. A basin of depth 0 can only be the effect of equal values elsewhere.
    """
    grid = host(values, "basins")
    if grid.ndim == 0 or grid.size == 0:
        raise ValueError(f"basins: needs a grid with at least one axis and one cell, not shape {grid.shape}")
    size, shape = grid.size, grid.shape
    order, rank = ranked(grid)
    ranks = rank.reshape(shape)
    pairs = _shifts(grid.ndim)

    lowest = ranks.copy()  # the rank of each cell's lowest neighbour
    for here, there in pairs:
        np.minimum(lowest[here], ranks[there], out=lowest[here])
        np.minimum(lowest[there], ranks[here], out=lowest[there])
    down = lowest.reshape(-1)[order]  # by rank: the rank that descent goes to
    while True:
        further = down[down]
        if np.array_equal(further, down):
            break
        down = further
    bottoms = np.nonzero(down == np.arange(size))[0]  # ranks of minima, ascending
    number = np.empty(size, np.int64)
    number[bottoms] = np.arange(len(bottoms))
    basin = number[down][rank].reshape(shape)

    edges, passes = [np.empty((0, 2), np.int64)], [np.empty(0, np.int64)]
    for here, there in pairs:
        a, b = basin[here], basin[there]
        differ = a != b
        edges.append(np.stack([a[differ], b[differ]], axis=1))
        passes.append(np.maximum(ranks[here], ranks[there])[differ])
    edge, height = np.concatenate(edges), np.concatenate(passes)
    kept = spanning_forest(len(bottoms), edge, height)
    tree = merges(bottoms, edge[kept], height[kept])[::-1]  # the last to die first

    younger = np.concatenate([[0], tree[:, 0]])  # basin 0 has the smallest rank: the global minimum
    place = np.empty(len(bottoms), np.int64)
    place[younger] = np.arange(len(bottoms))
    minima, saddles = order[bottoms[younger]], order[height[kept][tree[:, 2]]]
    flat = grid.reshape(-1)
    at = lambda places: np.stack(np.unravel_index(places, shape), axis=-1)
    return Basins(at(minima), flat[minima], at(saddles), flat[saddles], place[tree[:, 1]], place[basin])


def _shifts(axes: int) -> list[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """Pairs of slices that put each cell beside each of its neighbours, each pair of neighbours once."""
    found = []
    for step in itertools.product((-1, 0, 1), repeat=axes):
        if step > (0,) * axes:
            here = tuple(slice(max(-s, 0), -s if s > 0 else None) for s in step)
            there = tuple(slice(max(s, 0), s if s < 0 else None) for s in step)
            found.append((here, there))
    return found
