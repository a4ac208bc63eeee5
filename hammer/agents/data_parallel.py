"""Data parallel training: every rank computes the gradients of some of a step's examples, and all step alike.

``all_reduce(comm, micro_batches=M)`` is to ranks what ``accumulate(k)`` is to time: a link that gathers a step's M
micro-batches, wherever they are computed, and lets their weighted mean through. What comes after it (clipping, momentum, the
learning rate) sees what one process would have seen, on every rank the same, so parameters stay equal without being sent.

    parts = agents.Shares(comm, micro_batches=8)
    optimizer = Optimizer(model.parameters(), chain(agents.all_reduce(comm, 8), adamw(1e-3)))
    for batch in loader.batches(epoch):                 # the same loader on every rank
        for x, y in parts(batch, optimizer.state):      # this rank's micro-batches of the batch
            optimizer.zero_grad()
            loss(model(x), y).backward()
            optimizer.step()                            # steps after the last of them

The sum is that of ``reduction.TreeSum``: its bits do not depend on the number of ranks, on the sizes of buckets, or on which
message comes first. ``deterministic=False`` leaves the order to MPI's own all-reduce and takes one gradient from
each rank and step (with ``accumulate`` before it); the tree's price beside it is in ``reduction`` and measured by
``benchmarks/agents.py``.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import optree

from autograd.gradients import GradientTransform
from autograd.gradients.accumulation import _accumulators
from autograd.gradients.base import Link
from autograd.gradients.scaling import number, whole

from .buckets import BUCKET_BYTES, buckets_of
from .communicator import Communicator
from .reduction import TreeSum, push, share


class _TreeReduce(Link):
    undone = False  # its mean is on every rank by then

    def __init__(self, comm: Communicator, slots: int, bucket_bytes: int):
        self.comm, self.slots, self.bucket_bytes = comm, slots, bucket_bytes
        self.own, self.most = share(slots, comm.size, comm.rank), len(share(slots, comm.size, 0))
        self.tree = TreeSum(comm, slots)

    def start(self, params: list, spec: Any) -> dict:
        # The numbers that ``weigh`` sets are those of ``accumulate``. Between steps nothing in here depends on the rank.
        return {
            "count": 0,
            "weight": 1.0,
            "total": 0.0,
            "last": False,
            "sums": [],
            "spans": [],
            "weights": [],
            "used": [],
        }

    def step(self, grads: list, state: Any, params: list, spec: Any, apply: bool = False) -> tuple[list, Any]:
        self._gather(grads, number("the weight of a micro-batch", state["weight"], "[0, inf)"), state, params)
        while state["last"] and state["count"] < len(self.own):
            self._gather([None] * len(params), 0.0, state, params)
        if state["count"] < len(self.own):
            return [None] * len(grads), state
        updates = self._reduced(state, params)
        state.update(count=0, total=0.0, last=False, sums=[], spans=[], weights=[], used=[])
        return updates, state

    def _gather(self, grads: list, weight: float, state: dict, params: list) -> None:
        """Add one micro-batch's gradients to this rank's part of the tree."""
        slot = self.own[state["count"]]
        vectors = buckets_of(params, self.bucket_bytes).pack(
            grads if weight else [None] * len(grads), weight, self.comm.memory
        )
        nodes = [(a, b, sums) for (a, b), sums in zip(state["spans"], state["sums"], strict=True)]
        push(nodes, slot, slot + 1, vectors, self.slots, _added)
        state["spans"], state["sums"] = [[a, b] for a, b, _ in nodes], [sums for _, _, sums in nodes]
        used = state["used"] or [0] * len(grads)
        state["used"] = [max(u, int(bool(weight) and g is not None)) for u, g in zip(used, grads, strict=True)]
        state["weights"].append(weight)
        state["total"] += weight
        state["count"] += 1

    def _reduced(self, state: dict, params: list) -> list:
        buckets = buckets_of(params, self.bucket_bytes)
        weights = [*state["weights"], *[0.0] * (self.most - len(self.own))]
        said = self.comm.all_gather_now(np.array(weights + state["used"], np.float64))
        under_way = [self.tree.start([sums[b] for sums in state["sums"]]) for b in range(len(buckets.sizes))]
        total = math.fsum(said[:, : self.most].ravel())  # exact, so in any order
        for one in under_way:
            one.gather()
        means = [one.finish() for one in under_way]
        if total == 0.0:  # no rank had an example
            return [None] * len(params)
        for mean in means:
            mean /= total
        used: list[bool] = said[:, self.most :].any(axis=0).tolist()  # type: ignore[assignment]
        return buckets.unpack(means, [p if there else None for p, there in zip(params, used, strict=True)])


def _added(into: list, vectors: list) -> list:
    for a, b in zip(into, vectors, strict=True):
        a += b
    return into


class _PlainReduce(Link):
    undone = False

    def __init__(self, comm: Communicator, bucket_bytes: int):
        self.comm, self.bucket_bytes = comm, bucket_bytes

    def start(self, params: list, spec: Any) -> dict:
        return {"count": 0, "weight": 1.0, "total": 0.0, "last": False, "sums": []}

    def step(self, grads: list, state: Any, params: list, spec: Any, apply: bool = False) -> tuple[list, Any]:
        weight = number("the weight of a rank's gradients", state["weight"], "[0, inf)")
        state["last"] = False
        buckets = buckets_of(params, self.bucket_bytes)
        grads = grads if weight else [None] * len(grads)  # what an empty share may hold is nobody's business
        header = np.array([weight, *(g is not None for g in grads)], np.float64)
        self.comm.all_reduce_in_place(header)
        total, *used = header.tolist()
        if total == 0.0:
            return [None] * len(params), state
        means = []
        for bucket in range(len(buckets.sizes)):  # one by one: what has just been packed is near the processor
            means.append(buckets.vector(bucket, grads, weight / total, self.comm.memory))
            self.comm.all_reduce_in_place(means[-1])
        return buckets.unpack(means, [p if there else None for p, there in zip(params, used, strict=True)]), state


def all_reduce(
    comm: Communicator,
    micro_batches: int | None = None,
    *,
    deterministic: bool = True,
    bucket_bytes: int = BUCKET_BYTES,
) -> GradientTransform:
    """Let the weighted mean over the ranks' gradients through, the same on every rank.

    Args:
        comm: the ranks; every one of them steps, with a gradient.
        micro_batches: how many gradients make a step, over all ranks; each rank brings ``share(micro_batches, size, rank)`` of
            them in that order, and nothing goes through before. Needed, and only taken, where ``deterministic``.
        deterministic: whether the bits of the mean are those of any other number of ranks; see the module. If not, each call
            is a step, and takes one gradient from every rank.
        bucket_bytes: leaves are sent together up to so many bytes.

    ``weigh(state, examples)`` of ``autograd.gradients`` sets the weight of the next gradients (1.0 at first; it stays as set),
    and with ``last=True`` the rest of this rank's micro-batches count as empty. A weight of 0 in the state is an empty
    micro-batch. A parameter without gradient on one rank counts as zero there; without any, it gets no update. Gradients of
    16 bits are summed and sent in float32, sparse ones as dense arrays. Between steps the state has no arrays, so it can be
    saved on one number of ranks and loaded on another.

    Raises:
        ValueError: fewer micro-batches than ranks, or micro_batches given or missing against ``deterministic``.
    """
    whole("bucket_bytes", bucket_bytes)
    if not deterministic:
        if micro_batches is not None:
            raise ValueError(
                "all_reduce: micro_batches orders a deterministic sum; leave it out, and put accumulate(k) before"
            )
        return _PlainReduce(comm, bucket_bytes).transform()
    if micro_batches is None:
        raise ValueError(
            "all_reduce: say how many micro_batches a step has over all ranks (8 serves 1, 2, 4 and 8 ranks best), or deterministic=False"
        )
    return _TreeReduce(comm, enough(micro_batches, comm), bucket_bytes).transform()


def enough(micro_batches: int, comm: Communicator) -> int:
    if whole("micro_batches", micro_batches) < comm.size:
        raise ValueError(
            f"micro_batches must be at least the number of ranks, so that each has one: {micro_batches} for {comm.size} ranks"
        )
    return micro_batches


class Shares:
    """Cuts batches into micro-batches and gives each rank its own: an exact epoch on any number of ranks.

    Every rank goes through the same batches of the same loader; none is left out or seen twice, whatever their number, and
    where an epoch is saved and gone on with does not depend on it.

    Args:
        comm: the ranks.
        micro_batches: parts of a batch, as for ``all_reduce``; they differ by at most one example, larger ones first.

    Attributes:
        own: the numbers of this rank's micro-batches.
        most: the most that any rank has.
    """

    def __init__(self, comm: Communicator, micro_batches: int):
        self.comm, self.micro_batches = comm, enough(micro_batches, comm)
        self.own, self.most = share(micro_batches, comm.size, comm.rank), len(share(micro_batches, comm.size, 0))

    def spans(self, examples: int) -> list[tuple[int, int]]:
        """First example, and the one after the last, of each of this rank's micro-batches; equal where it has none."""
        each, more = divmod(examples, self.micro_batches)
        return [(each * s + min(s, more), each * (s + 1) + min(s + 1, more)) for s in self.own]

    def sizes(self, examples: int) -> list[list[int]]:
        """How many examples every rank's micro-batches have."""
        each, more = divmod(examples, self.micro_batches)
        ranks = [share(self.micro_batches, self.comm.size, rank) for rank in range(self.comm.size)]
        return [[each + (slot < more) for slot in own] for own in ranks]

    def __call__(self, batch: Any, state: Any) -> Iterator[Any]:
        """This rank's micro-batches of a batch, each with its weight set in the optimizer's state.

        Of a batch with fewer examples than there are micro-batches, the empty ones are its first example with weight 0: what
        is computed for it is dropped, but the rank takes part in the sum.

        Args:
            batch: a tuple, dict or single array; what is in it has one length.
            state: of the optimizer, whose chain has an ``all_reduce``.

        Raises:
            ValueError: lengths that differ, an empty batch, no ``all_reduce`` in the state, or one that waits for more micro-batches.
        """
        places = [place for place in _accumulators(state) if "spans" in place]
        if not places:
            raise ValueError(
                "Shares: this state has no all_reduce(comm, micro_batches); put it into the optimizer's chain"
            )
        if any(place["count"] for place in places):
            raise ValueError(
                "Shares: the step of the batch before is not finished; give all_reduce and Shares the same number of micro_batches, and "
                "call optimizer.step() for each micro-batch"
            )
        for start, stop in self.spans(examples(batch)):
            for place in places:
                place["weight"] = float(stop - start)
            yield part(batch, start, stop) if start < stop else part(batch, 0, 1)


def _is_leaf(x: Any) -> bool:
    return not isinstance(x, (tuple, dict))


def examples(batch: Any) -> int:
    """How many examples a batch has."""
    lengths = sorted({len(leaf) for leaf in optree.tree_leaves(batch, is_leaf=_is_leaf)})  # type: ignore[arg-type]
    if len(lengths) != 1 or not lengths[0]:
        raise ValueError(f"every array of a batch needs the same number of examples, at least 1, not {lengths}")
    return lengths[0]


def part(batch: Any, start: int, stop: int) -> Any:
    """Some examples of a batch."""
    return optree.tree_map(
        lambda x: x[start:stop] if isinstance(x, list) else x[start:stop, ...], batch, is_leaf=_is_leaf
    )
