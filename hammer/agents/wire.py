"""Compression between ranks: the mean of what the ranks' gradients become on a narrow wire.

``compressed(comm, codec)`` is ``autograd.gradients.compress`` with other ranks at the far end of the wire. Each rank encodes its
gradient (with its own error feedback, by the same code), every rank gets every payload, and decodes and averages them in
the order of the ranks, so that all have the same bits:

    Δ_r = C(g_r + e_r),  e_r ← g_r + e_r − Δ_r,  the update is mean Δ_r                    ("ef")
    Δ_r = C(g_r − w_r),  w_r ← w_r + Δ_r,  G ← G + mean Δ_r,  the update is G = mean w_r     ("ef21")

With "ef", SGD's parameters minus lr · mean e_r are those of SGD that was sent everything: what is lost is only late.

**Bytes.** ``state["bytes"]`` counts those of this rank's payloads; ``comm.sent`` has them too, and 8 for each leaf that say how long
its payload is. Each rank gets n − 1 payloads, where a plain all-reduce of b bytes moves 2 b (n − 1) / n: compression wins where
a payload is shorter than 2 b / n. Memories are each rank's own: save every rank's state.
"""

from typing import Any

import numpy as np

from autograd import backend
from autograd.gradients import GradientTransform
from autograd.gradients.base import link_of
from autograd.gradients.codec import Codec, Payload
from autograd.gradients.compression import _Compress, compress
from autograd.shapes import numpy_dtype

from .buckets import host, wide
from .communicator import Communicator

ABSENT = -1
"""The length of a payload that is not there."""


class _Compressed(_Compress):
    undone = False

    def __init__(self, comm: Communicator, link: _Compress):
        super().__init__(link.codec, link.feedback, link.key)
        self.comm = comm
        self._payloads: dict[int, Payload] = {}  # of the step under way

    def start(self, params: list, spec: Any) -> dict:
        state = super().start([p if p is None else host(p) for p in params], spec)
        if self.feedback == "ef21":
            state["mean"] = [p if p is None else np.zeros(tuple(p.shape), wide(numpy_dtype(p.dtype))) for p in params]
        return state

    def _encoded(self, i: int, values: np.ndarray, state: dict) -> Payload:
        self._payloads[i] = found = super()._encoded(i, values, state)
        return found

    def step(self, grads: list, state: Any, params: list, spec: Any, apply: bool = False) -> tuple[list, Any]:
        kinds = [p if p is None else numpy_dtype(p.dtype) for p in params]
        dense = [g if g is None else host(g).astype(k, copy=False) for g, k in zip(grads, kinds, strict=True)]
        self._payloads = {}
        super().step(dense, state, params, spec)  # encodes, counts, and keeps what is lost
        lengths = np.array([self._payloads[i].nbytes if i in self._payloads else ABSENT for i in range(len(params))])
        header = self.comm.all_gather(lengths)
        data = self.comm.all_gather_bytes(b"".join(payload.to_bytes() for payload in self._payloads.values()))
        updates: list[Any] = [None] * len(params)
        for i, total in self._sums(data, header.wait(), params, kinds).items():
            mean = total / self.comm.size
            if self.feedback == "ef21":
                state["mean"][i] = mean = state["mean"][i] + mean
            updates[i] = backend.scalar(backend.to_device(np.asarray(mean, kinds[i]), backend.place_of(params[i])))
        return updates, state

    def _sums(self, data: list[bytes], lengths: np.ndarray, params: list, kinds: list) -> dict[int, Any]:
        """For each leaf that some rank sent, the sum of what arrived."""
        sums: dict[int, Any] = {}
        for sent, sizes in zip(data, lengths.tolist(), strict=True):
            at = 0
            for i, n in enumerate(sizes):
                if n == ABSENT:
                    continue
                shape, dtype = tuple(params[i].shape), kinds[i]
                came = self._decoded(self.codec.from_bytes(sent[at : at + n], shape, dtype), shape, dtype)
                came = came.astype(wide(dtype), copy=False)
                sums[i] = sums[i] + came if i in sums else came
                at += n
        return sums


def compressed(
    comm: Communicator,
    codec: Codec,
    error_feedback: bool | str = True,
    seed: "np.random.SeedSequence | int | None" = None,
) -> GradientTransform:
    """Let the mean of the ranks' gradients through, sent by a codec; each call takes one gradient from every rank.

    Args:
        comm: the ranks.
        codec, error_feedback: as for ``compress``.
        seed: for codecs that draw random numbers; every rank passes the same, and draws other numbers.

    Sparse gradients are sent as dense arrays. A rank without a gradient for a leaf counts as zero there.

    Raises:
        What ``compress`` raises.
    """
    sequence = seed if isinstance(seed, np.random.SeedSequence) or seed is None else np.random.SeedSequence(seed)
    if sequence is not None:
        sequence = np.random.SeedSequence(sequence.entropy, spawn_key=(*sequence.spawn_key, comm.rank))
    link = link_of(compress(codec, error_feedback, sequence))
    assert isinstance(link, _Compress)
    return _Compressed(comm, link).transform()
