"""Where in one arena each value of a program lies: a static memory plan, made from sizes and lifetimes alone.

A buffer is live from the step that first writes it to the step that last reads it; two buffers may share bytes if no
step has both of them live. To find the smallest arena is NP-hard (dynamic storage allocation), so ``plan`` takes
the best of three greedy orders, each with best-fit placement and a few repairs: by size and by breadth are the offset calculations of
Pisarchyk & Lee (2020, "Efficient memory management for deep neural net inference"); by extent, the bytes times the
steps, is for training steps, where long-lived activations and short-lived gradients have the same sizes. ``optimum`` is the
smallest arena there is, for programs small enough to look at every order; it tells how far from that a plan is.

Nothing here knows about graphs: a planner calls ``plan`` with what its liveness analysis found, and an executor
allocates ``Plan.peak`` bytes once and makes a view at each offset.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

ALIGNMENT = 64
"""Bytes of a cache line, which vector instructions like a buffer to start on."""


_TRIES, _WORK = 32, 4_000  # orders tried anew after the first, and placements that may cost


class Buffer(NamedTuple):
    """``size`` bytes that are live at the steps ``first`` to ``last``, both included."""

    size: int
    first: int
    last: int


@dataclass(frozen=True)
class Plan:
    """Offsets in bytes, one for each buffer in the order given, and what they add up to.

    Attributes:
        offsets: where each buffer starts; multiples of the alignment.
        peak: bytes of the arena.
        bound: the most bytes live at one step, below which no arena can be; ``bound <= peak <= naive``.
        naive: bytes if nothing were shared.
    """

    offsets: tuple[int, ...]
    peak: int
    bound: int
    naive: int


def plan(buffers: Sequence[tuple[int, int, int]], alignment: int = 1) -> Plan:
    """Place buffers ``(size, first, last)`` in one arena: the best of the greedy orders.

    Args:
        buffers: bytes, first step and last step of each; a buffer of no bytes is placed at 0.
        alignment: what each offset, and so each size, is rounded up to (see ``ALIGNMENT``).

    Raises:
        ValueError: a negative size, a last step before the first, or an alignment below 1.
    """
    rounded = _checked(buffers, alignment)
    bound, naive = lower_bound(rounded), sum(b.size for b in rounded)
    best = min((_tried(rounded, order(rounded), bound) for order in ORDERS.values()), key=lambda found: found[0])
    return Plan(tuple(best[1]), best[0], bound, naive)


def _tried(buffers: Sequence[Buffer], order: list[int], bound: int) -> tuple[int, list[int]]:
    """Peak and offsets by an order, mended for a while: what lies on top, and so sets the peak, chooses first next time."""
    best: tuple[int, list[int]] | None = None
    for _ in range(1 + min(_TRIES, _WORK // max(len(buffers), 1))):
        offsets = _place(buffers, order)
        tops = [o + b.size for o, b in zip(offsets, buffers, strict=True)]
        peak = max(tops, default=0)
        if best is None or peak < best[0]:
            best = peak, offsets
        if best[0] == bound:
            break
        highest = tops.index(peak)
        order = [highest, *(i for i in order if i != highest)]
    assert best is not None
    return best


def _checked(buffers: Sequence[tuple[int, int, int]], alignment: int) -> list[Buffer]:
    if alignment < 1:
        raise ValueError(f"plan: the alignment must be 1 byte or more, not {alignment}")
    for i, (size, first, last) in enumerate(buffers):
        if size < 0 or last < first:
            raise ValueError(
                f"plan: buffer {i} has {size} bytes from step {first} to {last}; sizes cannot be negative, nor can a "
                "buffer end before it starts"
            )
    return [Buffer(-(-size // alignment) * alignment, first, last) for size, first, last in buffers]


def lower_bound(buffers: Sequence[tuple[int, int, int]]) -> int:
    """The most bytes that are live at one step."""
    return max(breadths(buffers).values(), default=0)


def breadths(buffers: Sequence[tuple[int, int, int]]) -> dict[int, int]:
    """Bytes live at each step at which a buffer starts (in between they can only become fewer)."""
    changes: dict[int, int] = {}
    for size, first, last in buffers:
        changes[first] = changes.get(first, 0) + size
        changes[last + 1] = changes.get(last + 1, 0) - size
    live, found = 0, {}
    for step in sorted(changes):
        live += changes[step]
        found[step] = live
    starts = {first for _, first, _ in buffers}
    return {step: size for step, size in found.items() if step in starts}


# ---- orders: which buffer chooses its place first ----


def by_size(buffers: Sequence[Buffer]) -> list[int]:
    """The largest first; of equal ones the one live for longer."""
    return sorted(range(len(buffers)), key=lambda i: (-buffers[i].size, buffers[i].first - buffers[i].last, i))


def by_breadth(buffers: Sequence[Buffer]) -> list[int]:
    """Those of the step with the most live bytes first, the largest of them first; then those of the next step."""
    largest = by_size(buffers)
    rest, order = set(largest), []
    for step, _ in sorted(breadths(buffers).items(), key=lambda item: -item[1]):
        chosen = [i for i in largest if i in rest and buffers[i].first <= step <= buffers[i].last]
        order += chosen
        rest.difference_update(chosen)
        if not rest:
            break
    return order


def by_extent(buffers: Sequence[Buffer]) -> list[int]:
    """The largest product of bytes and steps first."""
    return sorted(range(len(buffers)), key=lambda i: (-buffers[i].size * (buffers[i].last - buffers[i].first + 1), i))


ORDERS: dict[str, Callable[[Sequence[Buffer]], list[int]]] = {
    "size": by_size,
    "breadth": by_breadth,
    "extent": by_extent,
}


def _place(buffers: Sequence[Buffer], order: Sequence[int]) -> list[int]:
    """Offsets: each buffer in turn takes the smallest gap that it fits, among those placed whose lives meet its own."""
    offsets = [0] * len(buffers)
    start, end, first, last = np.empty((4, len(order)), np.int64)  # of those placed so far
    n = 0
    for i in order:
        size, begins, ends = buffers[i]
        if not size:
            continue
        met = np.flatnonzero((first[:n] <= ends) & (last[:n] >= begins))
        met = met[start[met].argsort()]
        tops = np.concatenate(([0], np.maximum.accumulate(end[met])))
        gaps = start[met] - tops[:-1]
        fits = np.flatnonzero(gaps >= size)
        at = int(tops[fits[gaps[fits].argmin()]] if fits.size else tops[-1])
        offsets[i] = at
        start[n], end[n], first[n], last[n] = at, at + size, begins, ends
        n += 1
    return offsets


# ---- the smallest arena there is ----


def optimum(buffers: Sequence[tuple[int, int, int]], alignment: int = 1, limit: int = 10) -> int:
    """Bytes of the smallest arena that holds the buffers, by branch and bound over all orders.

    Some smallest arena can be filled from the bottom: taken in the order of its offsets, each buffer lies directly upon
    the highest one below it whose life meets its own. So it is enough to try each order in that way.

    Raises:
        ValueError: more than ``limit`` buffers (the time grows with the factorial of the number), or bad buffers.
    """
    rounded = [b for b in _checked(buffers, alignment) if b.size]
    if len(rounded) > limit:
        raise ValueError(
            f"optimum: {len(rounded)} buffers are too many to try all orders of; raise limit (now {limit}) and wait, "
            "or compare with lower_bound()"
        )
    n = len(rounded)
    meets = [[a.first <= b.last and b.first <= a.last for b in rounded] for a in rounded]
    bound, best = lower_bound(rounded), plan(rounded).peak
    offsets = [0] * n

    def search(left: list[int], lowest: int, peak: int) -> None:
        """Try to place those left, none below ``lowest``: offsets come in rising order."""
        nonlocal best
        if not left:
            best = peak
            return
        placed = [i for i in range(n) if i not in left]
        for i in left:
            at = max((offsets[j] + rounded[j].size for j in placed if meets[i][j]), default=0)
            top = max(peak, at + rounded[i].size)
            if at < lowest or top >= best:
                continue
            offsets[i] = at
            search([j for j in left if j != i], at, top)
            if best == bound:
                return

    if best > bound:
        search(list(range(n)), 0, 0)
    return best
