"""Checkpoints: parts of a computation whose insides are not kept, but made again when the backward pass arrives.

A ``Chain`` is a row of *stages*, each a function of what the one before returned. A stage's inside is dropped when the
stage ends; what is carried from one stage to the next, the *boundary*, is kept or not, as the chain's plan says. When the
backward pass reads from a stage, the chain goes back to the nearest boundary that it has, and runs the rows from there on.
``checkpoint`` is a chain of one stage. Chains nest: the stage around remakes an inner chain's inputs, and passes its inside.
"""

import functools
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import optree

from ..context import AutogradContext, current
from ..tape import Node, Spec, next_serial, remaking
from ..tensor import DiffTensor
from .replay import MISSING, Held, Keeper, Key, Recipe, Ref, again, bytes_of, key_of, nbytes, part, recipe_of


class Stage:
    """One stage: its nodes (weakly), what rules read of its values, and what the next stage takes from it."""

    __slots__ = ("boundary", "first", "nodes", "read")

    def __init__(self) -> None:
        self.first = next_serial()
        self.nodes: list[weakref.ref[Node]] = []
        self.read: set[Key] = set()
        self.boundary: tuple[Key, ...] = ()


class Size(NamedTuple):
    """What a plan must know of a stage.

    ``cost`` of computing it (see ``row_cost``); bytes of its ``inside``, which is what rules read of its values and what
    it hands on; bytes of the ``boundary``, which is what it hands on; and of its ``largest`` value.
    """

    cost: float
    inside: int
    boundary: int
    largest: int


class Plan(Protocol):
    """What of a chain is kept."""

    def steps(self, start: int, stop: int, free: float) -> list[tuple[bool, bool]]:
        """How to come from a boundary to a stage, the last of [start, stop), with so many bytes free.

        Of each stage whether its inside is kept, and whether the boundary after it is.
        """


class Boundaries:
    """The plan that keeps all boundaries, and the inside of no stage but the one that is wanted."""

    def steps(self, start: int, stop: int, _free: float) -> list[tuple[bool, bool]]:
        return [(False, True)] * (stop - start - 1) + [(True, False)]


class Chain(Keeper):
    """A row of stages, while they are recorded and when they are made again.

    Args:
        plan: what is kept; None: nothing at first, until ``plan`` is set.
        forward: of each stage whether its inside, and the boundary after it, are kept when it is recorded.
        budget: bytes that may be held, where the plan asks for it.
    """

    def __init__(self, plan: Plan | None, forward: Callable[[int], tuple[bool, bool]], budget: float = float("inf")):
        super().__init__()
        context = current()
        outer = None if context is None else context.keeper
        self.outer: Chain | None = outer if isinstance(outer, Chain) else None
        self.outer_stage = 0 if self.outer is None else self.outer.group
        self.plan, self.forward, self.budget = plan, forward, budget
        self.stages: list[Stage] = []
        self.held = Held()
        self.open = False
        self.calls = 0
        """Rows called again."""

    # ---- recording ----

    @contextmanager
    def stage(self) -> Iterator[Stage]:
        """The block in which a stage is recorded. It must ``carry`` what it hands to the next."""
        here = Stage()
        self.stages.append(here)
        self.open = True
        try:
            with Keeping(self):
                yield here
        finally:
            self.open = False
            self._made.clear()
            self._leave(*self.forward(len(self.stages) - 1))

    def carry(self, tree: Any) -> None:
        """What the stage that is open returns: the boundary to the next."""
        keys = []
        for x in optree.tree_leaves(tree):  # type: ignore[arg-type]
            if isinstance(x, DiffTensor):
                ref, owner = self._place(x.raw, x.node)
                if ref is not None and owner is self:
                    self.held.put(ref.key, x.raw)
                    keys.append(ref.key)
        self.stages[-1].boundary = tuple(dict.fromkeys(keys))

    def _leave(self, inside: bool, boundary: bool) -> None:
        """Drop what is not kept of the last stage, and the boundary before it if that is not kept."""
        stage = self.stages[-1]
        dropped: set[Key] = set()
        if len(self.stages) > 1 and not any(self.forward(len(self.stages) - 2)):
            dropped.update(self.stages[-2].boundary)
        if not inside:
            dropped.update(k for k in self.held if k[0] >= stage.first)
        for key in dropped.difference(stage.boundary):
            self.held.drop(key)
        self.held.sort()

    def size(self) -> Size:
        """What a plan must know of the stage that is open, once it has been carried on."""
        stage = self.stages[-1]
        nodes = [n for n in (r() for r in stage.nodes) if n is not None]
        return Size(
            sum(map(row_cost, nodes)),
            bytes_of(self.held.get(k) for k in self.held if k[0] >= stage.first),
            bytes_of(self.held.get(k) for k in stage.boundary),
            max((nbytes(x) for n in nodes for x in specs(n)), default=0),
        )

    @property
    def group(self) -> int:
        return len(self.stages) - 1

    def _within(self, chain: "Chain") -> bool:
        here: Chain | None = self
        while here is not None and here is not chain:
            here = here.outer
        return here is not None

    def reach(self, node: Node) -> "Chain | None":
        recipe = recipe_of(node)
        maker = recipe.keeper
        if isinstance(maker, Chain) and maker._within(self):
            if node.serial >= self.stages[-1].first:
                return self
            if len(self.stages) > 1 and any(node.serial == k[0] for k in self.stages[-2].boundary):
                return self
        return None if self.outer is None else self.outer.reach(node)

    def want(self, key: Key, value: Any) -> None:
        self.stages[-1].read.add(key)
        self.held.put(key, value)

    def lend(self, key: Key) -> None:
        self.stages[-1].read.add(key)

    def note(self, node: Node, _recipe: Recipe, _value: Any) -> None:
        chain: Chain | None = self
        while chain is not None:
            chain.stages[-1].nodes.append(weakref.ref(node))
            chain = chain.outer

    # ---- making again ----

    def value(self, key: Key) -> Any:
        chain: Chain | None = self
        while chain is not None:
            found = chain.held.get(key)
            if found is not MISSING:
                return found
            chain = chain.outer
        return MISSING

    def saved(self, node: Node, recipe: Recipe) -> tuple:
        found = self._gather(recipe)
        if found is None:
            self.restore(recipe.group, node.serial)
            found = self._gather(recipe)
            assert found is not None, node
        chain: Chain | None = self
        while chain is not None:
            if not chain.open:
                chain.held.drop_from(node.serial)  # the pass goes down from here
            chain = chain.outer
        return found

    def _gather(self, recipe: Recipe) -> tuple | None:
        found = []
        for s in recipe.slots:
            if type(s) is Ref or type(s) is tuple:
                s = self.value(key_of(s))
                if s is MISSING:
                    return None
            found.append(s)
        return tuple(found)

    def restore(self, group: int, serial: int) -> None:
        """Have the inside of a stage in memory, up to a node."""
        remaking(self)
        if not self.open:
            self.held.drop_from(serial)
        start = group
        while start and not all(k in self.held for k in self.stages[start - 1].boundary):
            start -= 1
        plan = self.plan or _BOUNDARIES
        env: dict[Key, Any] = {}
        steps = plan.steps(start, group + 1, self.budget - self.held.bytes)
        for j, (inside, boundary) in zip(range(start, group + 1), steps, strict=True):
            env = self._run(j, env, inside, boundary, serial)

    def _run(self, j: int, env: dict[Key, Any], inside: bool, boundary: bool, last: int) -> dict[Key, Any]:
        """Call the rows of a stage again, up to the node ``last``. ``env`` has the boundary before it, as far as that is not
        held; returns the boundary after it."""
        stage = self.stages[j]
        nodes = [n for n in (r() for r in stage.nodes) if n is not None]
        kept = {k for k in stage.read if k[0] <= last} if inside else set()
        if boundary:
            kept.update(k for k in stage.boundary if k[0] <= last)
        after: dict[Key, Any] = {}
        goals: dict[int, list[Key]] = {}  # what is wanted, by the node that computes it
        for key in sorted(kept.union(k for k in stage.boundary if k[0] <= last)):
            if key[0] >= stage.first:
                goals.setdefault(key[0], []).append(key)
            else:  # it came with the boundary before
                value = env.get(key, MISSING)
                if value is not MISSING and key in kept:
                    self.held.put(key, value)
                if key in stage.boundary:
                    after[key] = self.value(key) if value is MISSING else value
        uses = {serial: len(keys) for serial, keys in goals.items()}
        for node in reversed(nodes):  # only what leads to something wanted is computed
            if node.serial in uses:
                for x in recipe_of(node).inputs:
                    if type(x) is Ref and x.key[0] >= stage.first:
                        uses[x.key[0]] = uses.get(x.key[0], 0) + 1
        made: dict[int, Any] = {}
        for node in nodes:
            if node.serial not in uses:
                continue
            places = recipe_of(node).inputs
            inputs = [self._input(x, stage, made, env) if type(x) is Ref else x for x in places]
            made[node.serial] = out = again(node, inputs)
            self.calls += 1
            for key in goals.get(node.serial, ()):
                if key in kept:
                    self.held.put(key, part(out, key[1]))
                if key in stage.boundary:
                    after[key] = part(out, key[1])
            done = [x.key[0] for x in places if type(x) is Ref and x.key[0] >= stage.first]
            for serial in (*done, *(k[0] for k in goals.get(node.serial, ()))):
                uses[serial] -= 1
                if not uses[serial]:
                    del made[serial]
            del inputs, out
        return after

    def _input(self, ref: Ref, stage: Stage, made: dict[int, Any], env: dict[Key, Any]) -> Any:
        if ref.key[0] in made:
            return part(made[ref.key[0]], ref.index)
        found = env[ref.key] if ref.key in env else self.value(ref.key)
        if found is MISSING:  # the stage around this chain has it, once it is itself restored
            assert self.outer is not None, ref.node
            self.outer.restore(self.outer_stage, stage.first)
            found = self.value(ref.key)
            assert found is not MISSING, ref.node
        return found

    def rest(self) -> None:
        """A backward pass is over: only boundaries are kept."""
        below = self.stages[-1].first if self.open else float("inf")
        keep = {k for stage in self.stages for k in stage.boundary}
        for key in [k for k in self.held if k[0] < below and k not in keep]:
            self.held.drop(key)


_BOUNDARIES = Boundaries()


class Keeping(AutogradContext):
    """The context of a keeper's block."""

    def __init__(self, keeper: Keeper):
        super().__init__()
        self._own = keeper

    def __enter__(self) -> "Keeping":
        super().__enter__()
        self.keeper = self._own
        return self


def checkpoint(fun: Callable) -> Callable:
    """``fun``, whose intermediate values are not kept but computed again in the backward pass: memory for time
    (Chen et al. 2016, arXiv 1604.06174).

    What the operations inside of ``fun`` would keep for the backward pass is dropped when it returns. The backward pass runs
    the *operations* again, on the same inputs; ``fun`` itself is called once. So it may be anything: a Module, a
    function that reads parameters from its surroundings, draws random numbers (dropout masks are drawn again from a copy of
    their generator; other arrays of random numbers are kept), or moves running statistics, which happens once. Arguments
    and results may be trees. Values and gradients, of every order, are equal to the plain ones to the last bit. Checkpoints
    nest; they work inside other transforms, and around them.

    Kept are what ``fun`` takes in, arrays that it makes without operations of tensors, and what functions with rules of
    their own (``custom_vjp``, ``primitive``) keep.
    """

    @functools.wraps(fun, updated=())
    def checkpointed(*args: Any, **kwargs: Any) -> Any:
        if not checkpointing():
            return fun(*args, **kwargs)
        with Chain(None, lambda _: (False, False)).stage():
            return fun(*args, **kwargs)

    return checkpointed


def checkpointing() -> bool:
    """Whether a checkpoint has an effect here: no other kind of keeper sees to memory."""
    context = current()
    return context is None or bool(context.keeper is None or isinstance(context.keeper, Chain))


def specs(node: Node) -> list[Spec]:
    """Shape and dtype of each output of a node."""
    if isinstance(node.dtype, tuple):
        return [Spec(s, d) for s, d in zip(node.shape, node.dtype, strict=True)]
    return [Spec(node.shape, node.dtype)]


def row_cost(node: Node) -> float:
    """What a call of a node's row costs: the larger of floating-point operations and bytes moved (see ``Row.cost``)."""
    outputs = specs(node)
    out = tuple(outputs) if isinstance(node.dtype, tuple) else outputs[0]
    inputs = [specs(x.node)[max(x.index, 0)] if type(x) is Ref else x for x in recipe_of(node).inputs]
    return float(max(node.row.cost(out, *inputs, **node.params)))
