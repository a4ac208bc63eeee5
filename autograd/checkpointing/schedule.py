"""Which values of a chain to keep, within a budget of bytes.

To go backward through a chain of stages one needs their insides from last to first. A stage's inside is made from the
boundary before it, and a boundary from an earlier one, by running the stages between. For stages ``i`` to ``j`` (exclusive)
whose first boundary is in memory, with m bytes free, the least cost of running stages is (as in Beaumont et al. 2019,
"Optimal checkpointing for heterogeneous chains", arXiv 1911.13214)::

    C(i, i + 1, m) = cost of i,                              if m ≥ inside of i + work of i
    C(i, j, m) = min of
        cost of i + C(i + 1, j, m - inside of i)             keep the inside of i
        costs of i..k-1 + C(k, j, m - boundary k) + C(i, k, m)   over k: run on to k, and keep only the boundary there

The second line alone, with equal stages, is Revolve (Griewank & Walther 2000, Algorithm 799), whose cost has a closed form,
``binomial_cost``; the first line only makes it cheaper. Stages that are nearly equal are treated as equal: then C depends on
the length alone, and chains of a thousand stages are planned at once. Others are planned exactly up to 64 stages, and
longer chains of them in groups of stages that are kept or dropped together.

*Work* is what a stage needs in passing, running or in its backward pass: reckoned as ``WORK`` of its largest values.
"""

import bisect
import functools
import itertools
import math
from collections.abc import Sequence

import numpy as np

from .regions import Size

WORK = 4
"""Values of the largest size in a stage that its backward pass needs beside what it reads: cotangents and temporaries."""
LONGEST = 64  # stages of different sizes that are planned exactly
ALIKE = 0.8  # stages are nearly equal if they are so full on average, as a part of the largest
WASTE = 1.03
RESOLUTION = 256  # at least so many units of memory, unless a boundary is larger than that part


def binomial_cost(length: int, slots: int) -> int:
    """The least number of forward steps that reverse a chain with ``slots`` checkpoints, the first boundary among them.

    Steps that are run just to advance; the one that each step's backward pass takes is not counted (Griewank & Walther 2000,
    equation 3): r·n - β(s + 1, r - 1) with β(s, r) = C(s + r, s) and the least r with n ≤ β(s, r).

    Raises:
        ValueError: a length or number of slots below one.
    """
    if length < 1 or slots < 1:
        raise ValueError(f"binomial_cost: length and slots must be at least 1, not {length} and {slots}")
    r = 0
    while math.comb(slots + r, slots) < length:
        r += 1
    return r * length - (math.comb(slots + r, r - 1) if r else 0)


class Schedule:
    """The best plan for a chain within a budget (a ``Plan``).

    Args:
        sizes: of each stage.
        budget: bytes for what is kept, and for the work in passing.

    Attributes:
        cost: of all runs of stages, forward and backward, as a multiple of running each once.

    Raises:
        ValueError: the budget is too small; the message has the least that would do.
    """

    def __init__(self, sizes: Sequence[Size], budget: int):
        self.sizes, self.budget = tuple(sizes), budget
        self._starts, groups = _grouped(self.sizes)
        self.uniform = _alike(groups)
        if self.uniform:
            groups = [Size(*(max(column) for column in zip(*groups, strict=True)))] * len(groups)
        need = [g.inside + WORK * g.largest for g in groups]
        before = [groups[0].boundary if self.uniform else 0, *(g.boundary for g in groups[:-1])]
        self._unit = unit = _unit(
            budget, sorted(before)[len(before) // 2], [*need, *before, *(g.inside for g in groups)]
        )
        most = sum(g.inside for g in groups) + max(need) + (len(groups) + 2) * unit
        self._slots = math.floor(max(min(budget, most), 0) / unit + 1e-9)
        up = lambda values: [math.ceil(v / unit - 1e-9) for v in values]
        self._inside, self._before = up([g.inside for g in groups]), up(before)
        costs = [g.cost for g in groups]
        self._table = _Table(costs, self._inside, up(need), self._before, self._slots, self.uniform)
        found = float(self._table.best[len(groups), 0, -1])
        if not math.isfinite(found):
            least = max(n + b for n, b in zip(need, before if len(groups) > 1 else [0], strict=True))
            raise ValueError(
                f"checkpoint_sequential: a budget of {budget:,} bytes is too small for this chain and this input; the least "
                f"possible is {math.ceil(least * (1 + 4 / RESOLUTION)):,} bytes"
            )
        self.cost = found * max(costs) / sum(costs) if sum(costs) else 1.0

    @functools.cached_property
    def forward(self) -> list[tuple[bool, bool]]:
        """What is kept when the chain is recorded: of each stage its inside, and the boundary after it."""
        return self.steps(0, len(self.sizes), self.budget)

    def steps(self, start: int, stop: int, free: float) -> list[tuple[bool, bool]]:
        """How to come from the boundary before ``start`` to the inside of the last stage before ``stop``; see ``Plan``."""
        group, last = bisect.bisect(self._starts, start) - 1, bisect.bisect(self._starts, stop - 1) - 1
        left, at = min(self._slots, math.floor(free / self._unit + 1e-9)), start
        found: list[tuple[bool, bool]] = []
        while group < last:
            place = 0 if self.uniform else group
            choice = self._table.choice(last + 1 - group, place, left) if left >= 0 else -1
            if choice < 0:  # more is in memory than was planned: run on, and keep nothing on the way
                return found + [(False, False)] * (self._starts[last] - at) + _inside(stop - self._starts[last])
            group += max(choice, 1)
            n, at = self._starts[group] - at, self._starts[group]
            found += [(True, True)] * n if choice == 0 else [(False, False)] * (n - 1) + [(False, True)]
            left -= self._inside[place] if choice == 0 else self._before[0 if self.uniform else group]
        return found + _inside(stop - at)


def _unit(budget: int, typical: int, sizes: list[int]) -> float:
    """The unit in which memory is planned: a fraction of a typical boundary, the largest that wastes little by rounding."""
    if not typical:
        return max(budget, 1) / RESOLUTION
    finest = max(1, math.ceil(RESOLUTION * typical / max(budget, 1)))
    for parts in range(1, finest):
        unit = typical / parts
        up = max((math.ceil(v / unit - 1e-9) * unit / v for v in set(sizes) if v), default=1.0)
        if up <= WASTE and budget <= WASTE * math.floor(budget / unit + 1e-9) * unit:
            return unit
    return typical / finest


def _inside(stages: int) -> list[tuple[bool, bool]]:
    """Stages that are kept together, up to the one that the backward pass enters."""
    return [(True, True)] * (stages - 1) + [(True, False)]


class _Table:
    """C by length, first stage (one for all, if they are equal) and units of memory, as a multiple of the highest cost.

    Only costs are kept; ``choice`` finds again what attains one. (To note it for all would take several times as long as to
    find the costs.)
    """

    def __init__(
        self, costs: list[float], inside: list[int], need: list[int], before: list[int], slots: int, uniform: bool
    ):
        n, self._uniform, self._inside = len(costs), uniform, inside
        self._costs = np.asarray([c / (max(costs) or 1.0) for c in costs], np.float32)
        self._run = np.concatenate([[0.0], np.cumsum(self._costs, dtype=np.float64)])
        self.best = np.full((n + 1, 1 if uniform else n, slots + 1), np.inf, np.float32)
        self._lent = self.best.copy()  # C with so much less memory as the boundary before takes
        splits = np.empty((n, slots + 1), np.float32)
        on = self.best[:, 0].copy()  # of equal stages: the cost of running on over them, and C of their insides
        for d in range(1, n + 1):
            for i in range(1 if uniform else n - d + 1):
                best = self.best[d, i]
                if d == 1:
                    best[need[i] :] = self._costs[i]
                else:
                    cut = splits[: d - 1]
                    if uniform:
                        np.add(on[1:d], self._lent[d - 1 : 0 : -1, 0], out=cut)
                    else:
                        self._split(d, i, slice(None), cut)
                    np.minimum(cut.min(axis=0), self._kept(d, i), out=best)
                self._lent[d, i] = _less(best, before[i])
            if uniform:
                np.add(self.best[d, 0], self._run[d], out=on[d], casting="same_kind")

    def choice(self, d: int, i: int, units: int) -> int:
        """0 to keep the inside of the first stage, k to keep the boundary k stages on, -1 if nothing is possible."""
        if not math.isfinite(self.best[d, i, units]):
            return -1
        if d == 1:
            return 0
        cut = np.empty((d - 1, 1), np.float32)
        self._split(d, i, slice(units, units + 1), cut)
        k = int(cut[:, 0].argmin())
        left = units - self._inside[i]
        kept = self._costs[i] + self.best[d - 1, 0 if self._uniform else i + 1, left] if left >= 0 else np.inf
        return 0 if kept <= cut[k, 0] else k + 1

    def _kept(self, d: int, i: int) -> np.ndarray:
        """C if the inside of the first stage is kept."""
        return self._costs[i] + _less(self.best[d - 1, 0 if self._uniform else i + 1], self._inside[i])

    def _split(self, d: int, i: int, units: slice, out: np.ndarray) -> None:
        """C by the first boundary that is kept: k = 1 ... d - 1 stages on."""
        k = np.arange(1, d)
        np.add(self._lent[d - k, 0 if self._uniform else i + k, units], self.best[1:d, i, units], out=out)
        out += (self._run[i + k] - self._run[i]).astype(np.float32)[:, None]


def _less(values: np.ndarray, units: int) -> np.ndarray:
    """Values by units of memory, if so many units are taken away."""
    units = min(units, len(values))
    return np.concatenate([np.full(units, np.inf, np.float32), values[: len(values) - units]])


def _grouped(sizes: tuple[Size, ...]) -> tuple[list[int], list[Size]]:
    """The first stage of each group (and the number of stages), and the sizes of the groups."""
    n = len(sizes)
    if n <= LONGEST:
        return [*range(n), n], list(sizes)
    for p in range(1, 9):  # a chain often repeats a few layers
        starts = [*range(0, n, p), n]
        if _alike(groups := _joined(sizes, starts)):
            return starts, groups
    starts = [round(n * k / LONGEST) for k in range(LONGEST + 1)]
    return starts, _joined(sizes, starts)


def _joined(sizes: tuple[Size, ...], starts: list[int]) -> list[Size]:
    groups = [sizes[a:b] for a, b in itertools.pairwise(starts)]
    return [
        Size(sum(s.cost for s in g), sum(s.inside for s in g), g[-1].boundary, max(s.largest for s in g))
        for g in groups
    ]


def _alike(groups: Sequence[Size]) -> bool:
    """Whether groups are so nearly equal that all may be taken for the largest."""
    columns = [list(column) for column in zip(*groups, strict=True)]
    columns[2] = columns[2][:-1] or [0]  # what the last one hands on is not the chain's
    return all(sum(column) >= ALIKE * len(column) * max(column) for column in columns)
