"""Talking every H steps instead of every step: local SGD and DiLoCo as the last link of a chain.

Each rank trains by itself with the links before; every H steps the ranks' parameters x_r become one again:

    Δ = anchor − mean over ranks of x_r,   anchor ← anchor + outer(Δ),   x_r ← anchor        anchor: the last common parameters

``outer`` is any gradient transform. ``sgd(1.0)`` is plain averaging (local SGD, Stich 2019); ``sgd(0.7, 0.9, nesterov=True)``
with AdamW inside is DiLoCo (Douillard et al. 2023). With ``fragments=k`` the leaves are k groups that take turns, so that no step
sends everything (Streaming DiLoCo, Douillard et al. 2025, without its delayed application).

    chain(adamw(1e-3), agents.local_steps(comm, 20, sgd(0.7, 0.9, nesterov=True)))

The state of the links before is each rank's own: save every rank's. Between two meetings parameters differ from rank to rank;
at a meeting they become equal bit for bit, in ``Optimizer`` (a transform called outside of one returns x − p, and p + (x − p) may
differ from x in the last bit).

``share_state`` lets ranks keep their own parameters, fast memories and settings, and share what is slow: named buffers of a
transform's state, such as the slow memories of a ``hammer.vortex`` bank, become the ranks' mean every H steps.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from autograd import backend
from autograd.gradients import GradientTransform, apply_updates
from autograd.gradients.base import APPLIED, Link, link_of
from autograd.gradients.scaling import whole

from .buckets import BUCKET_BYTES, buckets_of
from .communicator import Communicator
from .reduction import TreeSum


class _LocalSteps(Link):
    undone = False

    def __init__(self, comm: Communicator, every: int, outer: GradientTransform, fragments: int):
        self.comm, self.every, self.fragments = comm, every, fragments
        self.outer, self.tree = link_of(outer), TreeSum(comm, comm.size)

    def start(self, params: list, spec: Any) -> dict:
        return {"count": 0, "anchor": [_copy(p) for p in params], "outer": self.outer.start(params, spec)}

    def step(self, grads: list, state: Any, params: list, spec: Any, apply: bool = False) -> tuple[list, Any]:
        state["count"] += 1
        due = self._due(state["count"], params)
        if not any(due):
            return grads, state
        anchor = state["anchor"]
        moved = [a if there else None for a, there in zip(self._differences(grads, params, anchor), due, strict=True)]
        mean = mean_over_ranks(self.comm, self.tree, moved)
        outer, state["outer"] = self.outer.step(mean, state["outer"], anchor, spec)
        updates = list(grads)
        for i, there in enumerate(due):
            if there and params[i] is not None:
                anchor[i] = _copy(apply_updates(anchor[i], outer[i]))
                updates[i] = placed(params[i], anchor[i], apply)
        return updates, state

    def _due(self, count: int, params: list) -> list[bool]:
        """Which leaves meet after this step. Group j of k does in steps that leave j · H / k, rounded down, when divided by H."""
        group = fragments_of(params, self.fragments)
        turn = [(j * self.every // self.fragments) % self.every for j in range(self.fragments)]
        return [j is not None and count % self.every == turn[j] for j in group]

    @staticmethod
    def _differences(updates: list, params: list, anchor: list) -> list:
        moved = []
        for u, p, a in zip(updates, params, anchor, strict=True):
            moved.append(None if p is None else a - apply_updates(p, u))
        return moved


def fragments_of(params: list, fragments: int) -> list[int | None]:
    """The group of each leaf: neighbours together, groups of about as many elements."""
    sizes = [0 if p is None else int(np.prod(p.shape)) for p in params]
    total, before, group = max(sum(sizes), 1), 0, []
    for p, n in zip(params, sizes, strict=True):
        group.append(None if p is None else min(fragments - 1, int((before + n / 2) * fragments / total)))
        before += n
    return group


def mean_over_ranks(comm: Communicator, tree: TreeSum, leaves: list) -> list:
    """The mean of the ranks' leaves, the same bits on every rank; None stays None, on all ranks alike."""
    buckets = buckets_of(leaves, BUCKET_BYTES)
    under_way = [tree.start([vector]) for vector in buckets.pack(leaves, memory=comm.memory)]
    for one in under_way:
        one.gather()
    means = [one.finish() for one in under_way]
    for mean in means:
        mean /= comm.size
    return buckets.unpack(means, leaves)


def placed(p: Any, new: Any, apply: bool) -> Any:
    """The update that turns ``p`` into ``new``: in place, exactly, where that is asked for and can be done."""
    if apply and type(p) is np.ndarray and p.flags.writeable:
        p[...] = new
        return APPLIED
    return backend.scalar(new - p)


def _copy(p: Any) -> Any:
    return p if p is None else backend.xp(p).asarray(p, copy=True)


def local_steps(comm: Communicator, every: int, outer: GradientTransform, *, fragments: int = 1) -> GradientTransform:
    """The last link of a chain whose ranks meet every so many steps; see the module.

    Args:
        comm: the ranks; all begin with equal parameters (``share_parameters``).
        every: H, steps from one meeting to the next.
        outer: what makes a step of the ranks' mean movement, such as ``sgd(0.7, 0.9, nesterov=True)``.
        fragments: groups of leaves that take turns, at most H.

    Raises:
        ValueError: a number out of range, or more fragments than steps.
    """
    whole("every", every)
    if whole("fragments", fragments) > every:
        raise ValueError(f"local_steps: {fragments} fragments cannot take turns in {every} steps; use at most as many")
    return _LocalSteps(comm, every, outer, fragments).transform()


class _SharedState(Link):
    undone = False

    def __init__(self, comm: Communicator, inner: GradientTransform, names: Sequence[str], every: int):
        self.comm, self.inner, self.names, self.every = comm, link_of(inner), list(names), every
        self.tree = TreeSum(comm, comm.size)

    def start(self, params: list, spec: Any) -> dict:
        state = self.inner.start(params, spec)
        there = [k for k, v in state.items() if isinstance(v, list) and k != "t"] if isinstance(state, dict) else []
        for name in self.names:
            if name not in there:
                raise ValueError(
                    f"share_state: the transform's state has no buffers {name!r}; it has {', '.join(there) or 'none'}"
                )
        return {"count": 0, "inner": state}

    def step(self, grads: list, state: Any, params: list, spec: Any, apply: bool = False) -> tuple[list, Any]:
        updates, inner = self.inner.step(grads, state["inner"], params, spec)
        state["inner"], state["count"] = inner, state["count"] + 1
        if state["count"] % self.every == 0:
            for name in self.names:
                inner[name] = [_copy(mean) for mean in mean_over_ranks(self.comm, self.tree, inner[name])]
        return updates, state


def share_state(
    comm: Communicator, transform: GradientTransform, names: Sequence[str], every: int = 1
) -> GradientTransform:
    """A transform of which the ranks share some buffers: every so many steps these become the ranks' mean, bit for bit.

        slow = agents.share_state(comm, vortex(decays=(0.9, 0.99), gains=(0.5, 0.5)), ["m1"], every=10)

    Args:
        comm: the ranks; all of them step equally often.
        transform: one transform, not a chain, such as ``hammer.vortex.vortex(...)``, whose memory k is the buffers ``m{k}`` and
            ``v{k}`` (and ``n{k}``, if it has a phase).
        names: of the buffers; all others stay each rank's own.
        every: steps from one exchange to the next.

    A memory that is linear in the gradients is then, where they are shared in every step, the memory of the ranks' mean gradient.

    Raises:
        ValueError: no such buffers, when the state is made.
    """
    return _SharedState(comm, transform, names, whole("every", every)).transform()


def share_parameters(comm: Communicator, params: Any, root: int = 0) -> None:
    """Give every rank the parameters of one, bit for bit.

    Args:
        params: DiffTensors, in the same order on every rank.
        root: the rank whose values they get.

    Call it before the Optimizer is made: ``local_steps`` remembers where the parameters began.
    """
    for p in list(params):
        value = np.asarray(backend.to_device(p.raw, "cpu"), order="C")
        got = comm.broadcast(value.view(np.uint8) if value.ndim else value, root)
        new = got.view(value.dtype) if value.ndim else got
        if comm.rank != root:
            p.renew()
            p.raw = backend.scalar(backend.to_device(new.reshape(value.shape), backend.place_of(p.raw)))
