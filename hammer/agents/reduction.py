"""Sums with the same bits on any number of ranks.

Floating-point addition is not associative, so a sum whose order depends on the number of ranks has other last bits on
another number. Here the order belongs to the *work*: a step consists of M micro-batches (slots), and their values are added
up along one binary tree over the slots 0 … M−1, whose node k of level l is the sum over the slots [k 2^l, (k+1) 2^l) below M.
Each rank has a run of neighbouring slots (``share``) and adds up what subtrees lie in it whole; then

    all to all   every rank gets the ranks' subtrees for one piece of the vector,
    sum          and goes on along the same tree,
    all gather   and the pieces are put together.

(Of small vectors every rank gets all subtrees at once and adds up the tree by itself.)

**Cost.** Where the slots of every rank are one subtree (as when M and the number of ranks n are powers of two) a rank hands
over (n − 1) / n · b bytes and then b / n, b those of the vector, and 2 (n − 1) / n · b pass every wire: exactly what a ring
all-reduce moves. Otherwise a rank has several subtrees, at most 2 log₂ M of them; ``tree_cost`` says how many bytes that makes:
8 slots on 3 ranks cost 1.33 times the plain sum, 16 on 3 ranks 1.67, 24 on 3 ranks 1, 24 on 4 ranks 1.5. Nothing is
rounded that a serial sum would not round, and no second precision is needed (an integer sum in fixed point, which has the
same property, takes 8 bytes for each float32, and an agreement on the scale first).

The bits also need equal values in the slots: a micro-batch's gradient must not depend on which rank computes it. With the
same program, libraries, number of BLAS threads and kind of processor it does not.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .communicator import Communicator, Pending

SMALL_BYTES = 1 << 16
"""Subtrees of all ranks together up to this size go to every rank in one message: two would take longer than the bytes."""

Nodes = list[tuple[int, int, Any]]
"""Sums over the slots [start, stop), in order."""


def share(slots: int, size: int, rank: int) -> range:
    """The slots of a rank: neighbouring ones, as even as can be, the larger shares at the lower ranks."""
    each, more = divmod(slots, size)
    start = rank * each + min(rank, more)
    return range(start, start + each + (rank < more))


def push(nodes: Nodes, start: int, stop: int, value: Any, slots: int, add: Callable[[Any, Any], Any]) -> None:
    """Append the sum over the slots [start, stop), a node of the tree, and add up whatever is whole then."""
    while nodes:
        left, end, other = nodes[-1]
        width = end - left
        if end != start or left % (2 * width) or stop != min(left + 2 * width, slots):
            break
        nodes.pop()
        start, value = left, add(other, value)
    nodes.append((start, stop, value))


def subtrees(slots: int, size: int, rank: int) -> list[tuple[int, int]]:
    """The nodes that a rank's slots add up to."""
    nodes: Nodes = []
    for slot in share(slots, size, rank):
        push(nodes, slot, slot + 1, None, slots, lambda _a, _b: None)
    return [(start, stop) for start, stop, _ in nodes]


def tree_cost(slots: int, size: int) -> float:
    """The bytes that a ``TreeSum`` moves between ranks, divided by those that a ring all-reduce of the same vector moves."""
    if size == 1:
        return 1.0
    sent = sum(len(subtrees(slots, size, rank)) + 1 for rank in range(size))
    return sent / (2 * size)


class TreeSum:
    """The sum, over the slots of all ranks, of one vector; see the module. ``start`` sends, ``finish`` gives the sum.

    Args:
        comm: the ranks.
        slots: M; all ranks pass the same.
    """

    def __init__(self, comm: Communicator, slots: int):
        self.comm, self.slots = comm, slots
        self._theirs = [subtrees(slots, comm.size, rank) for rank in range(comm.size)]
        self._most = max(map(len, self._theirs))
        self._order = self._additions(range(sum(map(len, self._theirs))))
        blocks = [rank * self._most + i for rank, spans in enumerate(self._theirs) for i in range(len(spans))]
        self._order_of_blocks = self._additions(blocks)  # as many rows for every rank

    def _additions(self, rows: Sequence[int]) -> list[tuple[int, int]]:
        """The tree as sums of rows of a matrix: row a becomes a + b, and row 0 the total. ``rows`` says where each subtree is."""
        order: list[tuple[int, int]] = []

        def note(a: int, b: int) -> int:
            order.append((a, b))
            return a

        nodes: Nodes = []
        for (start, stop), row in zip(itertools.chain(*self._theirs), rows, strict=True):
            push(nodes, start, stop, row, self.slots, note)
        return order

    def start(self, nodes: Sequence[np.ndarray]) -> "Reduction":
        """Start with this rank's subtrees (``subtrees``), vectors of equal length and dtype, which may be overwritten."""
        return Reduction(self, nodes)


class Reduction:
    """A ``TreeSum`` under way. Call ``gather`` and then ``finish``; several reductions may be under way at once."""

    def __init__(self, plan: TreeSum, nodes: Sequence[np.ndarray]):
        self.plan, comm, theirs = plan, plan.comm, plan._theirs
        if len(nodes) != len(theirs[comm.rank]):
            raise ValueError(f"TreeSum: rank {comm.rank} has {len(theirs[comm.rank])} subtrees, not {len(nodes)}")
        self.length, self.dtype = len(nodes[0]), nodes[0].dtype
        self._whole: Any = None
        self._gathered: Pending | None = None
        most = plan._most
        if comm.size == 1:
            self._whole = nodes[0]  # one rank has the whole tree
        elif comm.size == 2 and most == 1:
            comm.all_reduce_in_place(nodes[0])  # a + b is b + a, so here any sum is the tree's
            self._whole = nodes[0]
        elif comm.size * most * self.length * self.dtype.itemsize <= SMALL_BYTES:
            padding = [np.zeros(self.length, self.dtype)] * (most - len(nodes))
            came = comm.all_gather_now(np.concatenate([*nodes, *padding]))
            self._whole = _sum(came.reshape(comm.size * most, self.length), plan._order_of_blocks)
        else:
            self._send(nodes)

    def _send(self, nodes: Sequence[np.ndarray]) -> None:
        comm = self.plan.comm
        self.piece = -(-self.length // comm.size)
        ends = [min(r * self.piece, self.length) for r in range(comm.size + 1)]
        lengths = [stop - start for start, stop in itertools.pairwise(ends)]
        self._mine = lengths[comm.rank]
        if len(nodes) == 1:
            parts = nodes[0]
        else:
            parts, at = comm.memory.empty(len(nodes) * self.length, self.dtype), 0
            for start, stop in itertools.pairwise(ends):
                for node in nodes:
                    parts[at : at + stop - start] = node[start:stop]
                    at += stop - start
        sources = [self._mine * len(spans) for spans in self.plan._theirs]
        self._parts = comm.all_to_all(parts, [len(nodes) * n for n in lengths], sources)

    def gather(self) -> None:
        """Add up this rank's piece, and start sending it to all."""
        if self._whole is not None or self._gathered is not None:
            return
        order = self.plan._order
        total = _sum(self._parts.wait().reshape(len(order) + 1, self._mine), order)
        if self._mine < self.piece:
            total = np.append(total, np.zeros(self.piece - self._mine, self.dtype))
        self._gathered = self.plan.comm.all_gather(total)

    def finish(self) -> np.ndarray:
        """The sum, a vector."""
        self.gather()
        if self._whole is None:
            assert self._gathered is not None
            self._whole = self._gathered.wait().reshape(-1)[: self.length]
        return self._whole  # type: ignore[no-any-return]


def _sum(rows: np.ndarray, order: list[tuple[int, int]]) -> np.ndarray:
    """The sum of the rows of a matrix in an order of ``TreeSum``; they are overwritten."""
    for a, b in order:
        into = rows[a]
        np.add(into, rows[b], into)
    return rows[0]  # type: ignore[no-any-return]
