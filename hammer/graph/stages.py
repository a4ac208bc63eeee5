"""Stages of a training step: plans that take gradients through an optimizer's links, and links that run as they are between them.

A stage has a graph for each thing that its links do (``variants``): the first update of a momentum is another program than the
later ones. At each step the links' code is replayed (``links``), which finds the graph, and its numbers.
"""

import warnings
from collections.abc import Callable, Sequence
from operator import is_
from typing import Any

import numpy as np

from autograd import backend
from autograd.context import AutogradContext
from autograd.gradients.base import Link, _Chain
from autograd.lazy import gradients
from autograd.optim import Optimizer
from autograd.shapes import numpy_dtype
from autograd.sparse import RowSparse
from autograd.tensor import DiffTensor

from .compiled import CompileWarning
from .ir import GraphError
from .links import UNTRACEABLE, links_of
from .losses import TracedLoss
from .proxies import Mismatch
from .variants import Variant

VARIANTS = 12
"""How many graphs a stage may have, for links that do different things at different steps."""

Told = Callable[[int, Link, Exception], None]
"""Called with a link that cannot be traced, its place in the chain, and why."""


class Update:
    """``optimizer.step(grads)``, compiled: ``update(grads)``, with gradients (or None) in the order of the parameters.

    Parameters and state are afterwards what they are after ``optimizer.step(grads)``. Links that cannot be traced run as
    they are, between plans.

    Args:
        exact: whether every bit must be that of the uncompiled step.
        told: called about each link that cannot be traced.

    Attributes:
        reason: why all links run uncompiled, or None.
    """

    def __init__(self, optimizer: Optimizer, exact: bool = True, told: Told | None = None):
        self.optimizer, self.exact = optimizer, exact
        self.told: Told = told or (lambda place, link, error: None)
        self.reason: str | None = None
        if type(optimizer).step is not Optimizer.step:
            self.reason = f"{type(optimizer).__name__} has a step of its own"
        self._stages: dict[tuple, Stage] = {}

    def __call__(self, grads: list) -> None:
        if self.reason is not None:
            self.optimizer.step(grads)
            return
        if self.optimizer._evaluating:
            raise RuntimeError("step: the parameters are those of evaluation(); step after its with-block has ended")
        gradients(self.optimizer.params)  # pending ones need the parameters as they are now
        if any(g is not None for g in grads):
            self.from_link(0, grads)

    def from_link(self, place: int, grads: list) -> None:
        """Run the links from a place on, on what those before it made of the gradients."""
        optimizer = self.optimizer
        count = len(links_of(optimizer._link))
        while place < count and any(g is not None for g in grads):
            if any(type(g) is RowSparse for g in grads):
                run_links(optimizer, place, count, grads)
                return
            key = place, tuple([None if g is None else (tuple(g.shape), numpy_dtype(g.dtype)) for g in grads])
            stage = self._stages.get(key)
            if stage is None:
                stage = self._stages[key] = Stage(optimizer, place, self.exact, self.told, kinds=key[1])
            updates: list | None = grads
            if stage.stop > place:
                try:
                    updates = stage.run_gradients(grads)
                except GraphError as error:
                    self.reason = str(error)
                    warnings.warn(f"{error}\nThe optimizer runs uncompiled.", CompileWarning, stacklevel=3)
                    run_links(optimizer, place, count, grads)
                    return
            if stage.stop == place:  # perhaps only now
                stop = count if stage.all_of_them else place + 1
                updates, place = run_links(optimizer, place, stop, grads), stop
            else:
                place = stage.stop
            if updates is None:
                return
            grads = updates


def run_links(optimizer: Optimizer, start: int, stop: int, grads: list) -> list:
    """Run some of an optimizer's links as they are; the last one's updates are added to the parameters."""
    links = links_of(optimizer._link)
    if stop - start == len(links):
        optimizer.step(grads)
        return []
    states = list(optimizer.state)
    raws = [p.raw for p in optimizer.params]
    for i in range(start, stop):
        grads, states[i] = links[i].step(grads, states[i], raws, optimizer._spec)
        if all(g is None for g in grads):
            break
    optimizer.state = tuple(states)
    if stop == len(links):
        optimizer.apply(grads)
    return grads


class Stage:
    """A plan that takes gradients through the links from ``start`` on, as far as they are traced, to ``stop``.

    Args:
        start: the place of the first link.
        loss: what makes the gradients, in the same plan; else they are given, of ``kinds``, their shapes and dtypes.
        steps: whether there is a step at all; else the plan ends with the gradients.

    Attributes:
        all_of_them: whether all links have to run uncompiled, because one may call the step off after others have run.
        source: the program of the latest plan, where it is one.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        start: int,
        exact: bool,
        told: Told,
        loss: TracedLoss | None = None,
        kinds: Sequence[Any] = (),
        steps: bool = True,
    ):
        self.optimizer, self.start, self.exact, self.loss = optimizer, start, exact, loss
        self.kinds, self.steps, self._told = kinds, steps, told
        self.links = links_of(optimizer._link)
        self.stop, self.all_of_them = len(self.links) if steps else 0, False
        self.constants = True  # whether numbers that do not depend on the state are made constants
        self._variants: list[Variant] = []
        self._states: list = []
        self._holders: list = []
        for i in range(start, self.stop):
            if self.links[i].may_skip:
                self._end_at(i, GraphError("it may call the step off, which depends on values"))
                break

    @property
    def source(self) -> str:
        return self._variants[0].source if self._variants else ""

    def _end_at(self, place: int, error: Exception) -> None:
        self._told(place, self.links[place], error)
        self.stop = place
        skips = any(link.may_skip for link in self.links[place:])
        if skips and any(link.undone for link in self.links[self.start : place]):
            self.stop, self.all_of_them = self.start, True

    def run_loss(
        self, leaves: list, held: Sequence[tuple[str, DiffTensor]], seed: Any = None
    ) -> tuple[Any, list | None]:
        """Forward, backward and links, for the leaves of the arguments. ``seed(dtype)`` gives the loss's cotangent, where it is
        ``seeded``; None: 1.

        Returns:
            What the function returns, and the updates, in the order of the parameters; None if they are applied.
        """
        loss = self.loss
        assert loss is not None
        given = [backend.scalar(x.raw if type(x) is DiffTensor else x) for x in [leaves[i] for i in loss.arrays]]
        seeds = [loss.dtype.type(1) if seed is None else seed(loss.dtype)] if loss.seeded else []
        return self._run(given, [held[i][1] for i in loss.held], [held[i][1] for i in loss.updates], seeds)

    def run_gradients(self, grads: list) -> list | None:
        """The links, on gradients. Returns the updates; None if they are applied."""
        return self._run([backend.scalar(g) for g in grads if g is not None], self.optimizer.params, ())[1]

    def _run(
        self, given: list, tensors: Sequence[DiffTensor], buffers: Sequence[DiffTensor], seeds: Sequence = ()
    ) -> tuple[Any, list | None]:
        states = self._own_states()
        if len(states) != len(self._states) or not all(map(is_, states, self._states)):
            self._states, self._holders = states, [h for s in states for h in _number_holders(s)]
        before = [h.copy() for h in self._holders]
        try:
            variant, numbers = self._variant(before)
            return variant.run(given, tensors, buffers, seeds, self._states, numbers)
        except BaseException:
            self._restore(before)
            raise

    def _own_states(self) -> list:
        state = self.optimizer.state
        return list(state[self.start : self.stop]) if isinstance(self.optimizer._link, _Chain) else [state][: self.stop]

    def _variant(self, before: list) -> tuple[Variant, list]:
        """The graph of what the links do in this step, and the numbers."""
        for variant in self._variants:
            try:
                numbers = variant.numbers(self._states)
            except Mismatch:
                self._restore(before)
                continue
            if variant.is_for(numbers):
                return variant, numbers
            self._restore(before)
            self.constants = False  # what the links make of numbers depends on more than the state
            self._variants.remove(variant)
            break
        if len(self._variants) == VARIANTS:
            raise GraphError(
                f"the optimizer's links did {VARIANTS} different things in as many steps, too many for graphs"
            )
        while True:
            try:
                with AutogradContext(precision="fp32"):  # the links' arithmetic is that of their arrays
                    variant = Variant(
                        self.optimizer,
                        self.links[self.start : self.stop],
                        self._states,
                        self.kinds if self.loss is None else self.loss,
                        self.steps and self.stop == len(self.links),
                        self.constants,
                        self.exact,
                    )
            except UNTRACEABLE as error:
                self._restore(before)
                if not hasattr(error, "link"):
                    raise
                self._end_at(self.start + error.link, error)
                self._states = self._states[: self.stop - self.start]
            else:
                self._variants.insert(0, variant)
                return variant, variant.links.first

    def _restore(self, before: list) -> None:
        for holder, old in zip(self._holders, before, strict=True):
            if isinstance(holder, dict):
                holder.update(old)
            else:
                holder[:] = old


def _number_holders(tree: Any) -> list:
    """The dicts and lists of a state that hold anything but arrays and other containers."""
    if not isinstance(tree, (dict, list, tuple)):
        return []
    parts = list(tree.values()) if isinstance(tree, dict) else list(tree)
    found = [h for part in parts for h in _number_holders(part)]
    if not isinstance(tree, tuple) and not all(isinstance(x, (dict, list, tuple, np.ndarray)) for x in parts):
        found.append(tree)
    return found
