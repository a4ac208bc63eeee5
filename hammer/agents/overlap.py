"""Backward and the sum over ranks at the same time: a bucket is sent as soon as its gradients are there.

    optimizer.zero_grad()
    agents.backward(comm, loss(model(x), y), optimizer.params)      # .grad is the mean over the ranks
    optimizer.step()

A backward pass reaches the last parameters first, and ``autograd.early`` hands each gradient over when it is complete. Buckets are
filled from the last parameters to the first, and each leaves when it is full, while the walk goes on; the last, with which there is
little left to do meanwhile, is summed by the transport's shortest path. Bits do not change: those of the gradients are those of
``backward()``, and those of the mean are those of ``all_reduce(comm, deterministic=False)`` with the same buckets, where the
transport adds up both alike.

Whether time is gained depends on the transport: MPI may work on what is under way only when it is called, which is done
between two gradients. Smaller buckets begin sooner and are called for more often, and cost a message more each.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from autograd.early import EarlyPass
from autograd.gradients.scaling import number, whole
from autograd.lazy import added
from autograd.tape import Leaf

from .buckets import buckets_of
from .communicator import Communicator, Pending

OVERLAPPED_BYTES = 1 << 20


def backward(
    comm: Communicator, loss: Any, params: Sequence[Any], *, weight: float = 1.0, bucket_bytes: int = OVERLAPPED_BYTES
) -> None:
    """``loss.backward()``, after which ``.grad`` of the parameters is the weighted mean over the ranks, the same on every rank.

    Args:
        comm: the ranks; all of them call this.
        loss: a scalar tensor.
        params: the parameters, in the same order on every rank. What their ``.grad`` had before is added to this rank's part. Other
            leaves get their own gradient, as by ``loss.backward()``.
        weight: of this rank's gradients, such as its number of examples.
        bucket_bytes: gradients are sent together up to so many bytes.

    A parameter without gradient on one rank counts as zero there; without any, its ``.grad`` is None. If all weights are 0, every
    ``.grad`` is None. Gradients of 16 bits are summed and sent in float32, sparse ones as dense arrays.

    Raises:
        ValueError: a weight or size out of range, and what ``loss.backward()`` raises.
    """
    number("weight", weight, "[0, inf)")
    params = [p for p in params if p.node is not None]  # others are frozen
    raws = [p.raw for p in params]
    layout = buckets_of(raws, whole("bucket_bytes", bucket_bytes))
    walk = EarlyPass(loss)
    there = set(walk.leaves)
    weights = comm.all_reduce(np.array(weight, np.float64))
    places = {p.node: i for i, p in enumerate(params)}
    nothing: list[Any] = [None] * len(params)
    found = [p.grad for p in params]
    missing = [sum(params[i].node in there for i in members) for members in layout.members]
    home = {i: bucket for bucket, members in enumerate(layout.members) for i in members}
    under_way: list[Pending] = []

    def send() -> None:
        """Start with the next bucket; the order is the same on every rank, whatever gradients each has."""
        bucket = len(under_way)
        share = weight / (float(weights.wait()) or 1.0)
        vector = layout.vector(bucket, found if share else nothing, share, comm.memory)
        if bucket + 1 == len(missing):  # there is little left to be computed meanwhile
            comm.all_reduce_in_place(vector)
            under_way.append(Pending(lambda: vector))
        else:
            under_way.append(comm.all_reduce(vector))

    def ready(leaf: Leaf, gradient: Any) -> None:
        i = places.get(leaf)
        if i is None:
            leaf.grad = added(leaf.grad, gradient)
            return
        found[i] = added(found[i], gradient)
        missing[home[i]] -= 1
        for one in under_way:
            one.test()  # lets the transport work on it
        while len(under_way) < len(missing) and not missing[len(under_way)]:
            send()

    walk.tell(ready)
    while len(under_way) < len(missing):  # some parameters have no gradient here
        send()
    used = np.array([g is not None for g in (found if weight else nothing)], np.int8)
    comm.all_reduce_in_place(used, "max")
    means = [one.wait() for one in under_way]
    new = layout.unpack(means, [raw if there else None for raw, there in zip(raws, used.tolist(), strict=True)])
    for p, mean in zip(params, new, strict=True):
        p.node.grad = mean
