"""Backward and the sum over ranks at the same time: a bucket is sent as soon as its gradients are there.

    optimizer.zero_grad()
    agents.backward(comm, loss(model(x), y), optimizer.params)      # .grad is the mean over the ranks
    optimizer.step()

A backward pass reaches the last parameters first, and ``autograd.lazy`` can run it in parts: here a part for each bucket of
gradients, from the last parameters to the first, and each bucket is under way while the next parts are computed. Bits do not
change: those of the gradients are those of ``backward()``, and those of the mean are those of
``all_reduce(comm, deterministic=False)`` with the same buckets.

Whether time is gained depends on the transport: MPI may work on what is under way only when it is called, which is done
between two parts. Smaller buckets begin sooner and are called for more often, and cost a message more each.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from autograd.gradients.scaling import number, whole
from autograd.lazy import LazyPass, gradients

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
    params = list(params)
    raws = [p.raw for p in params]
    layout = buckets_of(raws, whole("bucket_bytes", bucket_bytes))
    walk = LazyPass(loss)
    leaves = walk.leaves
    walk.defer()
    found: list[Any] = [None] * len(params)
    under_way: list[Pending] = []
    for bucket, members in enumerate(layout.members):
        for i, g in zip(members, gradients([params[i] for i in members]), strict=True):
            found[i] = g
        under_way.append(comm.all_reduce(layout.vector(bucket, found, weight)))
        for one in under_way:
            one.test()  # lets the transport work on it
    header = comm.all_reduce(np.array([weight, *(g is not None for g in found)], np.float64))
    _ = [leaf.grad for leaf in leaves]
    total, *used = header.wait().tolist()
    means = [one.wait() for one in under_way]
    if total == 0.0:
        used = [0.0] * len(params)
    else:
        for mean in means:
            mean /= total
    new = layout.unpack(means, [raw if there else None for raw, there in zip(raws, used, strict=True)])
    for p, mean in zip(params, new, strict=True):
        p.node.grad = mean
