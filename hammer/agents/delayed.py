"""Delayed updates: a gradient's mean is used some steps after it was sent, so nobody waits for it.

    x_{t+1} = x_t − lr · mean over ranks of g_r(x_{t−s})        s: the staleness

Every rank sends its gradient as soon as it has it, and steps with the mean of those sent s steps ago, which has had s steps of
computing to arrive. The staleness is a bound and is kept exactly: no rank is ever further ahead of another than s steps,
and which gradients a step uses does not depend on who was faster. The first s steps change nothing, and the last s gradients of a
run are not used.

    chain(agents.delayed(comm, 2), sgd(0.05))

**What it costs.** On a quadratic of largest curvature L, SGD with delayed gradients is stable for lr · L < 2 sin(π / (4 s + 2)): 2, 1,
0.62, 0.45, 0.35 for s = 0 … 4 (``stable_rate``), so the learning rate may have to go down by about 2 s. Momentum lowers it further.
"""

import math
from typing import Any

import numpy as np

from autograd.gradients import GradientTransform
from autograd.gradients.base import Link
from autograd.gradients.scaling import whole

from .buckets import BUCKET_BYTES, Buckets, buckets_of
from .communicator import Communicator, Pending


class _Delayed(Link):
    undone = False  # other ranks have the gradient by then

    def __init__(self, comm: Communicator, staleness: int, bucket_bytes: int):
        self.comm, self.staleness, self.bucket_bytes = comm, staleness, bucket_bytes
        self._under_way: dict[int, tuple[list, list[Pending]]] = {}  # by step: what was sent, and its sums

    def start(self, params: list, spec: Any) -> dict:
        zeros = [np.zeros(n, dtype) for n, dtype in self._layout(params).sizes]
        header = np.zeros(len(params), np.float32)
        sent = [[header.copy(), *(z.copy() for z in zeros)] for _ in range(self.staleness)]
        return {"count": 0, "sent": sent}

    def step(self, grads: list, state: Any, params: list, spec: Any, apply: bool = False) -> tuple[list, Any]:
        now, layout = state["count"], self._layout(params)
        header = np.array([g is not None for g in grads], np.float32)
        vectors, due = [header, *layout.pack(grads, memory=self.comm.memory)], now - self.staleness
        if self.staleness:
            self._catch_up(state)
            state["sent"][now % self.staleness] = vectors
        self._send(now, vectors)
        state["count"] += 1
        if due < 0:
            return [None] * len(params), state
        _, pending = self._under_way.pop(due)
        used, *sums = [one.wait() for one in pending]
        means = [total / total.dtype.type(self.comm.size) for total in sums]
        like = [p if there else None for p, there in zip(params, used, strict=True)]
        return layout.unpack(means, like), state

    def _layout(self, params: list) -> Buckets:
        return buckets_of(params, self.bucket_bytes)

    def _send(self, step: int, vectors: list) -> None:
        self._under_way[step] = vectors, [self.comm.all_reduce(v) for v in vectors]

    def _catch_up(self, state: dict) -> None:
        """Send again what this link has not sent itself: the state comes from a file, or belongs to another run."""
        first = max(0, state["count"] - self.staleness)
        expected = {step: state["sent"][step % self.staleness] for step in range(first, state["count"])}
        there = {step: sent for step, (sent, _) in self._under_way.items()}
        if there.keys() == expected.keys() and all(there[s] is expected[s] for s in expected):
            return
        self._under_way = {}
        for step, vectors in expected.items():
            self._send(step, vectors)


def delayed(comm: Communicator, staleness: int, *, bucket_bytes: int = BUCKET_BYTES) -> GradientTransform:
    """Let the mean over the ranks' gradients of ``staleness`` steps ago through; each call takes one gradient from every rank.

    Args:
        comm: the ranks; all of them step equally often.
        staleness: s; 0 is the mean of this step, ``all_reduce(comm, deterministic=False)`` with equal weights.
        bucket_bytes: leaves are sent together up to so many bytes.

    A rank without a gradient for a leaf counts as zero there. The state has what this rank has sent and not used: save every
    rank's. In which order the ranks' gradients are added up is the transport's choice.

    Raises:
        ValueError: a staleness that is no whole number of at least 0.
    """
    return _Delayed(comm, whole("staleness", staleness, 0), whole("bucket_bytes", bucket_bytes)).transform()


def stable_rate(staleness: int, curvature: float = 1.0) -> float:
    """The learning rate below which SGD with gradients of so many steps ago is stable on a quadratic: 2 sin(π / (4 s + 2)) / L."""
    return 2.0 * math.sin(math.pi / (4 * whole("staleness", staleness, 0) + 2)) / curvature
