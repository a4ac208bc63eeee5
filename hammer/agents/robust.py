"""Aggregation that a minority of faulty or lying ranks cannot bend: ``aggregate(comm, rule)`` in place of the mean.

The rules are in ``rules``, what hostile ranks may send in ``attacks``.

**Worker momentum.** A rule sees one step, and an attack hidden in the honest ranks' noise bends every step a little in the same
direction ("a little is enough"). Ranks that send m ← β m + (1 − β) g instead (the first m is g) have less noise to hide in; the paper on centered
clipping shows that without it no rule that forgets converges. ``momentum=0.9`` is that β.

**Nothing that is not finite reaches the parameters.** A row with a NaN or an infinity in it is left out, whatever the rule, and
counted (``state["rejected"]``); f goes down by as many, for they are found. If no row is left, or what a rule makes of finite
rows overflows, there is no update.

**Cost.** Every rank gets every row and applies the rule itself, so all have the same bits without trusting one of them: n · b
bytes of memory, and b handed over, for gradients of b bytes.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from autograd.gradients import GradientTransform
from autograd.gradients.base import Link
from autograd.gradients.scaling import number

from .attacks import Attack
from .buckets import buckets_of
from .communicator import Communicator
from .rules import Rule


class _Aggregate(Link):
    def __init__(
        self,
        comm: Communicator,
        rule: Rule,
        momentum: float,
        attack: Attack | None,
        hostile: Sequence[int],
        key: list[int],
    ):
        self.comm, self.rule, self.momentum, self.key = comm, rule, momentum, key
        self.attack, self.hostile = attack, sorted(hostile)

    def start(self, params: list, spec: Any) -> dict:
        n, dtype = _length(params)
        state: dict[str, Any] = {"step": 0, "rejected": 0, "key": list(self.key), "center": np.zeros(n, dtype)}
        if self.momentum:
            state |= {"seen": 0, "momentum": np.zeros(n, dtype)}
        if self.attack is not None:
            state["attack"] = self.attack.start(len(self.hostile), n, dtype)
        return state

    def step(self, grads: list, state: Any, params: list, spec: Any, apply: bool = False) -> tuple[list, Any]:
        state["step"] += 1
        buckets = buckets_of(params)
        vector = np.concatenate(buckets.pack(grads)).astype(state["center"].dtype, copy=False)
        header = self.comm.all_gather(np.array([g is not None for g in grads]))
        if (
            self.momentum and np.isfinite(vector).all()
        ):  # what is not finite is sent as it is, and never comes into the memory
            if state["seen"]:
                state["momentum"] *= self.momentum
                state["momentum"] += (1.0 - self.momentum) * vector
            else:
                state["momentum"][...] = vector
            state["seen"] += 1
            vector = state["momentum"]
        rows = self.comm.all_gather_now(vector)
        rng = (
            np.random.Generator(np.random.Philox(key=state["key"], counter=[0, 0, 0, state["step"]]))
            if state["key"]
            else None
        )
        with np.errstate(over="ignore", invalid="ignore"):
            if self.attack is not None:
                honest = [r for r in range(self.comm.size) if r not in self.hostile]
                rows[self.hostile] = self.attack(rows[honest], rows[self.hostile], state["attack"], rng)
            whole_rows = np.isfinite(rows).all(axis=1)
            out = int((~whole_rows).sum())
            state["rejected"] += out
            total = self.rule(rows[whole_rows], state["center"], out, rng) if out < len(rows) else None
        if total is None or not np.isfinite(total).all():
            return [None] * len(params), state
        state["center"] = total = total.astype(state["center"].dtype, copy=False)
        used = header.wait().any(axis=0)
        ends = np.cumsum([n for n, _ in buckets.sizes])[:-1]
        like = [p if there else None for p, there in zip(params, used, strict=True)]
        return buckets.unpack(np.split(total.copy(), ends), like), state


def _length(params: list) -> tuple[int, np.dtype]:
    """Elements of all leaves, and the dtype that holds each of them."""
    sizes = buckets_of(params).sizes
    return sum(n for n, _ in sizes), np.result_type(np.float32, *(dtype for _, dtype in sizes))


def aggregate(
    comm: Communicator,
    rule: Rule,
    *,
    momentum: float = 0.0,
    attack: Attack | None = None,
    hostile: Sequence[int] = (),
    seed: np.random.SeedSequence | int | None = None,
) -> GradientTransform:
    """Let through what a rule makes of the ranks' gradients, the same bits on every rank.

    Args:
        comm: the ranks; each call takes one gradient from every one of them.
        rule: ``CoordinateMedian()``, ``CenteredClipping()``, …; see the module.
        momentum: β of the worker momentum, in [0, 1). It is in the state and each rank has its own: save every rank's.
        attack, hostile: for tests and studies: what the ranks of that list send instead, see ``attacks``. Every rank passes the same.
        seed: for rules and attacks that draw random numbers; the same on every rank.

    The state: ``"rejected"``, how many gradients were left out because they were not finite; ``"center"``, the last result.

    Raises:
        ValueError: too few ranks for the rule, hostile ranks that do not exist, or an attack without them.
        TypeError: something else than a rule.
    """
    if not isinstance(rule, Rule):
        raise TypeError(f"aggregate needs a rule, such as CoordinateMedian(), not {rule!r:.60}")
    rule.check(comm.size)
    beta = number("aggregate: momentum", momentum, "[0, 1)")
    if len(set(hostile)) != len(hostile) or not all(0 <= r < comm.size for r in hostile):
        raise ValueError(f"aggregate: hostile must be different ranks from 0 to {comm.size - 1}, not {list(hostile)}")
    if (attack is None) != (not hostile) or len(hostile) >= comm.size:
        raise ValueError("aggregate: an attack and its hostile ranks go together, and one rank at least must be honest")
    sequence = seed if isinstance(seed, np.random.SeedSequence) or seed is None else np.random.SeedSequence(seed)
    key = [] if sequence is None else sequence.generate_state(2, np.uint64).tolist()
    if attack is not None and attack.random and not key:
        raise ValueError(f"aggregate: {type(attack).__name__} draws random numbers: pass seed, the same on every rank")
    return _Aggregate(comm, rule, beta, attack, hostile, key).transform()
