"""Compression of gradients: what a slow wire would carry, and what its losses do to training.

``compress(codec)`` puts every gradient through a codec (see ``codecs``): it is encoded, its bytes are counted, and what
the receiver would decode goes on. What a codec loses is not lost for good with *error feedback*:

    p = g + e,  Δ = C(p),  e ← p − Δ                 (``"ef"``; Seide et al. 2014, Karimireddy et al. 2019)
    Δ = C(g − w),  w ← w + Δ, and the update is w     (``"ef21"``; Richtárik, Sokolov & Fatkhullin 2021)

Both need a contraction, so an unbiased codec is multiplied by 1 / (1 + ω) first (see ``codecs``). The link has no
learning rate in it: put it before momentum and the learning rate, where gradients would be sent, and change rates
gently, because e is in units of the gradient.

Sparse gradients (``RowSparse``): the array of rows is encoded, and the places go along in the smallest unsigned
integers; e and w are kept for each row of the table, and taken up when the row is next used.

Randomness comes from the seed alone: a counter-based generator (Philox) whose key, with the number of the step, is in
the state. A saved state goes on bit for bit.
"""

from typing import Any

import numpy as np

from .. import backend
from ..shapes import numpy_dtype
from ..sparse import RowSparse, put_rows, take_rows
from .base import GradientTransform, Link, wide_zeros_like
from .codec import Codec, Payload, _places

__all__ = ["compress"]

FEEDBACK = (False, "ef", "ef21")


class _Compress(Link):
    def __init__(self, codec: Codec, feedback: str | bool, key: list[int]):
        self.codec, self.feedback, self.key = codec, feedback, key

    def start(self, params: list, spec: Any) -> dict:
        state: dict[str, Any] = {"step": 0, "bytes": 0, "dense_bytes": 0, "key": list(self.key), "codec": []}
        for i, p in enumerate(params):
            own = {} if p is None else self.codec.start(tuple(p.shape), numpy_dtype(p.dtype), self._rng(state, i))
            state["codec"].append(own)
        if self.feedback:
            state["memory"] = [p if p is None else wide_zeros_like(p) for p in params]
        return state

    def _rng(self, state: dict, leaf: int) -> np.random.Generator | None:
        """A stream of its own for each leaf and step."""
        if not self.codec.random:
            return None
        return np.random.Generator(np.random.Philox(key=state["key"], counter=[0, 0, leaf, state["step"]]))

    def step(self, grads: list, state: Any, params: list, spec: Any, apply: bool = False) -> tuple[list, Any]:
        state["step"] += 1
        return [g if g is None else self._sent(i, g, state) for i, g in enumerate(grads)], state

    def _sent(self, i: int, g: Any, state: dict) -> Any:
        sparse = type(g) is RowSparse
        x = g.rows if sparse else g
        memory: Any = state["memory"][i] if self.feedback else None
        kept = None if memory is None else take_rows(memory, g.indices) if sparse else memory
        if kept is not None:
            x = x + kept if self.feedback == "ef" else x - kept
        sent = self._through(i, x, g, state)
        if kept is not None:
            wide = sent if sent.dtype == kept.dtype else backend.xp(kept).astype(sent, kept.dtype)
            kept = x - wide if self.feedback == "ef" else kept + wide
            if sparse:
                put_rows(memory, g.indices, kept)
            else:
                memory[...] = kept
            if self.feedback == "ef21":
                sent = kept if kept.dtype == g.dtype else backend.xp(kept).astype(kept, g.dtype)
        return RowSparse._made(g.indices, sent, g.shape) if sparse else backend.scalar(sent)

    def _through(self, i: int, x: Any, g: Any, state: dict) -> Any:
        """What arrives of an array x, in the dtype and the place of the gradient g; the bytes are counted."""
        values = _host(x if x.dtype == g.dtype else backend.xp(x).astype(x, g.dtype))
        payload = self._encoded(i, values, state)
        state["bytes"] += payload.nbytes
        state["dense_bytes"] += values.nbytes
        if type(g) is RowSparse:
            places = len(values) * _places(g.shape[0]).itemsize
            state["bytes"] += places
            state["dense_bytes"] += places
        return backend.to_device(self._decoded(payload, values.shape, values.dtype), backend.place_of(x))

    def _encoded(self, i: int, values: np.ndarray, state: dict) -> Payload:
        return self.codec.encode(values, state["codec"][i], self._rng(state, i))

    def _decoded(self, payload: Payload, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """C(x), as a contraction where there is feedback."""
        decoded = self.codec.decode(payload, shape, dtype)
        if self.feedback and self.codec.unbiased:
            decoded *= 1.0 / (1.0 + self.codec.variance(decoded.size))
        return decoded


def _host(x: Any) -> np.ndarray:
    return np.asarray(backend.to_device(x, "cpu"))


def compress(
    codec: Codec, error_feedback: bool | str = True, seed: "np.random.SeedSequence | int | None" = None
) -> GradientTransform:
    """Send every gradient through a codec.

    Args:
        codec: of ``autograd.gradients.codecs``.
        error_feedback: True (or ``"ef"``), ``"ef21"``, or False; see the module.
        seed: for codecs that draw random numbers, and needed by them. Give every rank another one (``SeedSequence.spawn``)
            where their noise is to be independent.

    The state's ``"bytes"`` counts the bytes on the wire so far, ``"dense_bytes"`` those of the gradients as they are.

    Raises:
        TypeError: something else than a codec. ValueError: a codec that needs a seed without one, or an unknown feedback.
    """
    if not isinstance(codec, Codec):
        raise TypeError(f"compress needs a codec, such as codecs.TopK(0.01), not {codec!r:.60}")
    feedback = "ef" if error_feedback is True else error_feedback
    if feedback not in FEEDBACK:
        raise ValueError(f'error_feedback must be True, False, "ef" or "ef21", not {error_feedback!r}')
    if codec.random and seed is None:
        raise ValueError(
            f"{type(codec).__name__} draws random numbers: pass seed, a numpy.random.SeedSequence or an integer"
        )
    sequence = seed if isinstance(seed, np.random.SeedSequence) else np.random.SeedSequence(seed or 0)
    key = sequence.generate_state(2, np.uint64).tolist() if codec.random else []
    return _Compress(codec, feedback, key).transform()
