"""Gossip: every rank averages with its neighbours only, and no message goes to all.

    x_r ← Σ_s W_rs (x_s + u_s)        u: the update that the links before made of rank s's own gradient

(decentralised SGD: Lian et al. 2017, in the order adapt, then combine). W, the *mixing matrix*, is doubly stochastic, so the
mean over ranks moves by the mean update; without updates the ranks' distance from their mean shrinks by |λ₂|, the second
largest singular value of W, in every step. ``Mixing`` checks the one and reports the other.

    mixing = agents.ring(comm.size)                     # mixing.gap == 1 - |λ₂|
    chain(sgd(0.1), agents.gossip(comm, mixing))
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from autograd.gradients import GradientTransform, apply_updates
from autograd.gradients.base import Link

from .buckets import buckets_of
from .communicator import Communicator
from .local import placed


class Mixing:
    """A mixing matrix.

    Args:
        weights: n × n; row r has the weights by which rank r averages, entry s for what rank s sends.

    Attributes:
        weights: the matrix, float64.
        second: |λ₂|, the largest singular value on the vectors whose sum is 0: what is left of the ranks' disagreement.
        gap: 1 − |λ₂|, the spectral gap; 0 where the graph is not connected.

    Raises:
        ValueError: not square, a negative or infinite weight, or a row or column whose sum is not 1.
    """

    def __init__(self, weights: Any):
        w = np.array(weights, np.float64)
        if w.ndim != 2 or w.shape[0] != w.shape[1] or not w.size:
            raise ValueError(f"Mixing: the matrix must be square, not of shape {w.shape}")
        if not np.isfinite(w).all() or (w < 0).any():
            raise ValueError("Mixing: the weights must be finite and not negative")
        for axis, what in ((1, "row"), (0, "column")):
            sums = w.sum(axis=axis)
            odd = int(np.argmax(np.abs(sums - 1.0)))
            if abs(sums[odd] - 1.0) > 1e-9:
                raise ValueError(
                    f"Mixing: {what} {odd} adds up to {sums[odd]:.6g}, not 1; the matrix must be doubly stochastic, or ranks drift "
                    "to another mean (agents.metropolis(neighbours) makes one for any undirected graph)"
                )
        self.weights = w
        self.second = float(np.linalg.norm(w - 1.0 / len(w), 2))
        self.gap = 1.0 - self.second

    @property
    def size(self) -> int:
        return len(self.weights)

    def sources(self, rank: int) -> list[int]:
        """The other ranks that a rank hears."""
        return [s for s in np.flatnonzero(self.weights[rank]).tolist() if s != rank]

    def receivers(self, rank: int) -> list[int]:
        """The other ranks that hear a rank."""
        return [r for r in np.flatnonzero(self.weights[:, rank]).tolist() if r != rank]

    def __repr__(self) -> str:
        most = max((len(self.receivers(r)) for r in range(self.size)), default=0)
        return f"Mixing({self.size} ranks, at most {most} neighbours, spectral gap {self.gap:.4g})"


def metropolis(neighbours: Sequence[Iterable[int]]) -> Mixing:
    """Metropolis weights 1 / (1 + max(dᵣ, dₛ)) on an undirected graph (Xiao, Boyd & Kim 2007).

    Args:
        neighbours: for each rank the ranks it is connected with.

    Raises:
        ValueError: an edge that is there in one direction only.
    """
    n = len(neighbours)
    sets = [set(map(int, near)) - {r} for r, near in enumerate(neighbours)]
    w = np.zeros((n, n))
    for r, near in enumerate(sets):
        for s in near:
            if not 0 <= s < n or r not in sets[s]:
                raise ValueError(f"metropolis: rank {r} names {s} as a neighbour, but not the other way round")
            w[r, s] = 1.0 / (1 + max(len(near), len(sets[s])))
        w[r, r] = 1.0 - w[r].sum()
    return Mixing(w)


def ring(size: int) -> Mixing:
    """Each rank and its two neighbours in a circle, each with weight 1/3 (of 2 ranks: 1/2)."""
    return metropolis([{(r - 1) % size, (r + 1) % size} for r in range(size)])


def torus(rows: int, columns: int) -> Mixing:
    """A grid whose edges are joined: four neighbours, weight 1/5 each."""
    at = lambda i, j: (i % rows) * columns + j % columns
    return metropolis(
        [{at(i - 1, j), at(i + 1, j), at(i, j - 1), at(i, j + 1)} for i in range(rows) for j in range(columns)]
    )


def exponential(size: int) -> Mixing:
    """Each rank hears those 1, 2, 4, … places before it, ⌈log₂ n⌉ of them, all with equal weights (Ying et al. 2021). Directed."""
    hops = [2**k for k in range(max(size - 1, 0).bit_length())]
    w = np.eye(size)
    for r in range(size):
        for hop in hops:
            w[r, (r - hop) % size] += 1.0
    return Mixing(w / (len(hops) + 1))


def complete(size: int) -> Mixing:
    """Everybody with everybody: the mean in one step, |λ₂| = 0."""
    return Mixing(np.full((size, size), 1.0 / size))


class _Gossip(Link):
    undone = False

    def __init__(self, comm: Communicator, mixing: Mixing):
        self.comm, self.mixing = comm, mixing
        self.to, self.source = mixing.receivers(comm.rank), mixing.sources(comm.rank)

    def start(self, params: list, spec: Any) -> dict:
        return {"step": 0}

    def step(self, grads: list, state: Any, params: list, spec: Any, apply: bool = False) -> tuple[list, Any]:
        state["step"] += 1
        buckets = buckets_of(params)
        moved = [None if p is None else apply_updates(p, u) for p, u in zip(params, grads, strict=True)]
        vectors = buckets.pack(moved, memory=self.comm.memory)
        under_way = [self.comm.exchange(vector, self.to, self.source) for vector in vectors]
        row, mixed = self.mixing.weights[self.comm.rank], []
        for own, pending in zip(vectors, under_way, strict=True):
            came = pending.wait() | {self.comm.rank: own}
            total = np.zeros_like(own)
            for s in sorted(came):  # in the order of the ranks, whoever came first
                total += float(row[s]) * came[s]
            mixed.append(total)
        new = buckets.unpack(mixed, params)
        return [None if p is None else placed(p, x, apply) for p, x in zip(params, new, strict=True)], state


def gossip(comm: Communicator, mixing: Mixing) -> GradientTransform:
    """The last link of a chain whose ranks average their parameters with their neighbours' in every step.

    Args:
        comm: the ranks; every one of them steps.
        mixing: the weights, for as many ranks; see ``ring``, ``torus``, ``exponential``, ``metropolis``, ``Mixing``.

    Raises:
        ValueError: a matrix for another number of ranks.
    """
    if mixing.size != comm.size:
        raise ValueError(f"gossip: the mixing matrix is for {mixing.size} ranks, and there are {comm.size}")
    return _Gossip(comm, mixing).transform()
