"""Distances between persistence diagrams: bottleneck and Wasserstein, exact, with the matching.

Diagrams are Diagram objects, or arrays (k, 2) of births and deaths. Points are compared by the maximum norm unless said otherwise, and a point that
is matched to none goes to the diagonal. What never dies is matched by birth, in order; if the numbers differ, the distance is infinite.

With recorded tensors the distance can be differentiated: the matching is a constant, which is right wherever it is the only best one.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from autograd import ops

from .diagram import Diagram, as_pairs, host_of, pick


@dataclass(frozen=True)
class Matching:
    """A distance and what it comes from.

    Attributes:
        distance: a number, or a tensor.
        pairs: (k, 2), a point of the first diagram and its partner in the second; −1 for the diagonal.
    """

    distance: Any
    pairs: np.ndarray


def wasserstein(first: Any, second: Any, order: float = 1.0, norm: float = np.inf) -> Any:
    """The Wasserstein distance (Σ ‖x − y‖ ** order) ** (1 / order) of the best matching.

    Args:
        first, second: diagrams of one dimension.
        order: at least 1.
        norm: of the plane: ``inf`` (that of the stability theorems), 2 or 1.
    """
    return wasserstein_matching(first, second, order, norm).distance


def wasserstein_matching(first: Any, second: Any, order: float = 1.0, norm: float = np.inf) -> Matching:
    """``wasserstein`` with the matching. Exact, by assignment: about (k₁ k₂ min(k₁, k₂)) time, k₁ k₂ memory.

    To leave all points to the diagonal costs Σ c(x) + Σ c(y); a pair saves c(x) + c(y) − c(x, y) of that. So the best matching is
    the assignment that saves most, in which nobody has to be matched: no points have to be added for the diagonal.
    """
    if not order >= 1 or order == np.inf:
        raise ValueError(
            f"wasserstein: order must be at least 1 and finite, not {order!r}; for infinity use bottleneck"
        )
    x, y = as_pairs(first, "wasserstein"), as_pairs(second, "wasserstein")
    a, b = host_of(x), host_of(y)
    alone_a, alone_b = _to_diagonal(a, norm) ** order, _to_diagonal(b, norm) ** order
    saved = alone_a[:, None] + alone_b - _between(a, b, norm) ** order
    rows, columns = linear_sum_assignment(np.maximum(saved, 0.0), maximize=True)
    together = saved[rows, columns] > 0
    pairs = _with_diagonal(rows[together], columns[together], len(a), len(b))
    essential = _essential(first, second)
    costs = _costs(x, y, pairs, norm)
    if essential is None:
        return Matching(np.inf, pairs)
    return Matching(
        ops.sum(ops.concat([costs, essential]) ** order) ** (1.0 / order)
        if order != 1
        else ops.sum(costs) + ops.sum(essential),
        pairs,
    )


def bottleneck(first: Any, second: Any) -> Any:
    """The bottleneck distance: the longest way of any point in the matching where that is shortest (maximum norm)."""
    return bottleneck_matching(first, second).distance


def bottleneck_matching(first: Any, second: Any) -> Matching:
    """``bottleneck`` with the matching. Exact: bisection over the finitely many ways there are.

    A matching within r exists if and only if one covers the points of the first diagram that are further than r from the diagonal and
    another those of the second: then one matching covers both (Mendelsohn & Dulmage 1958). Each is a maximum bipartite matching
    (Hopcroft–Karp) of few points with few neighbours.
    """
    x, y = as_pairs(first, "bottleneck"), as_pairs(second, "bottleneck")
    a, b = host_of(x), host_of(y)
    alone_a, alone_b, between = _to_diagonal(a, np.inf), _to_diagonal(b, np.inf), _between(a, b, np.inf)
    ways = np.unique(np.concatenate([[0.0], alone_a, alone_b, between.reshape(-1)]))
    low, high = 0, len(ways) - 1
    while low < high:
        middle = (low + high) // 2
        if _within(ways[middle], alone_a, alone_b, between) is None:
            low = middle + 1
        else:
            high = middle
    found = _within(ways[low], alone_a, alone_b, between)
    assert found is not None  # at the longest way everybody goes to the diagonal
    pairs = _with_diagonal(*found, len(a), len(b))
    essential = _essential(first, second)
    if essential is None:
        return Matching(np.inf, pairs)
    costs = ops.concat([_costs(x, y, pairs, np.inf), essential])
    if costs.shape[0] == 0:
        return Matching(0.0, pairs)
    longest = int(host_of(costs).argmax())
    return Matching(costs[longest], pairs)


def _within(
    r: float, alone_a: np.ndarray, alone_b: np.ndarray, between: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """A matching within r that covers all points further than r from the diagonal, as rows and columns; None: there is none."""
    far_a, far_b = np.nonzero(alone_a > r)[0], np.nonzero(alone_b > r)[0]
    near = between <= r
    partner_a = (
        maximum_bipartite_matching(csr_array(near[far_a]), perm_type="column") if near.size else np.full(len(far_a), -1)
    )
    if (partner_a < 0).any():
        return None
    partner_b = (
        maximum_bipartite_matching(csr_array(near.T[far_b]), perm_type="column")
        if near.size
        else np.full(len(far_b), -1)
    )
    if (partner_b < 0).any():
        return None
    return _union(
        dict(zip(far_a.tolist(), partner_a.tolist(), strict=True)),
        dict(zip(far_b.tolist(), partner_b.tolist(), strict=True)),
    )


def _union(forth: dict[int, int], back: dict[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """One matching that covers the rows of ``forth`` (row -> column) and the columns of ``back`` (column -> row)."""
    of_row, of_column = dict(forth), {column: row for row, column in forth.items()}
    for column in back:
        # An alternating path: the column takes its row in ``back``; the row's old column, if it must be covered, takes its own, and so on.
        at = column
        if at in of_column:
            continue
        while True:
            row = back[at]
            old = of_row.get(row)
            of_row[row], of_column[at] = at, row
            if old is None:
                break
            del of_column[old]
            if old not in back:
                break
            at = old
    rows = np.array(sorted(of_row), np.int64)
    return rows, np.array([of_row[row] for row in rows.tolist()], np.int64)


def _with_diagonal(rows: np.ndarray, columns: np.ndarray, n: int, m: int) -> np.ndarray:
    left, right = np.setdiff1d(np.arange(n), rows), np.setdiff1d(np.arange(m), columns)
    pairs = [
        np.stack([rows, columns], axis=1),
        np.stack([left, np.full_like(left, -1)], axis=1),
        np.stack([np.full_like(right, -1), right], axis=1),
    ]
    return np.concatenate(pairs).astype(np.int64)


def _to_diagonal(points: np.ndarray, norm: float) -> np.ndarray:
    """The distance of points from the diagonal: lifetime · 2 ** (1 / norm − 1)."""
    return (points[:, 1] - points[:, 0]) * _diagonal_factor(norm)


def _diagonal_factor(norm: float) -> float:
    if norm not in (1, 2, np.inf):
        raise ValueError(f"wasserstein: norm must be 1, 2 or infinity, not {norm!r}")
    return 0.5 if norm == np.inf else 2.0 ** (1.0 / norm - 1.0)


def _between(a: np.ndarray, b: np.ndarray, norm: float) -> np.ndarray:
    return (
        np.linalg.norm(a[:, None] - b[None, :], ord=norm, axis=2) if a.size and b.size else np.empty((len(a), len(b)))
    )


def _costs(x: Any, y: Any, pairs: np.ndarray, norm: float) -> Any:
    """The cost of each pair, as operations."""
    both = (pairs >= 0).all(axis=1)
    difference = pick(x, pairs[both, 0]) - pick(y, pairs[both, 1])
    if norm == np.inf:
        costs = ops.max(ops.abs(difference), axis=1)
    elif norm == 2:
        costs = ops.norm(difference, axis=1)
    else:
        costs = ops.sum(ops.abs(difference), axis=1)
    alone = [pick(z, pairs[~both & (pairs[:, k] >= 0), k]) for k, z in enumerate((x, y))]
    return ops.concat([costs, *((z[:, 1] - z[:, 0]) * _diagonal_factor(norm) for z in alone)])


def _essential(first: Any, second: Any) -> Any:
    """The costs of matching what never dies, or None if the numbers differ."""
    parts = [d.essential if isinstance(d, Diagram) else np.empty(0) for d in (first, second)]
    if parts[0].shape[0] != parts[1].shape[0]:
        return None
    x, y = (pick(p, np.argsort(host_of(p), kind="stable")) for p in parts)
    return ops.abs(x - y)
