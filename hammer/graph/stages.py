"""The parts of a training step: a loss traced with its gradients, and stages, plans that take gradients through an optimizer's links.

A stage has a graph for each thing that its links do (``_Variant``): the first update of a momentum is another program than the
later ones. At each step the links' code is replayed (``links``), which finds the variant, and its numbers.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from operator import is_
from sys import getrefcount
from typing import Any

import numpy as np

from autograd import backend, ops
from autograd.context import AutogradContext
from autograd.effects import Effects
from autograd.gradients.base import Link, _Chain
from autograd.lazy import gradients
from autograd.ops.index import _SPARSE_TAKE
from autograd.optim import Optimizer
from autograd.shapes import numpy_dtype
from autograd.sparse import RowSparse
from autograd.tape import BackwardPass, Leaf, ancestors
from autograd.tensor import DiffTensor

from .compiled import _is_array
from .execute import class_of, make_plan, sharing
from .graph import UniversalGraph
from .ir import CONSTANT, INPUT, GraphError, Node, constant, described, input_node
from .links import UNTRACEABLE, LinkTrace, links_of
from .proxies import Mismatch
from .trace import Lowering, Spec, Traced, traced

VARIANTS = 12
"""How many graphs a stage may have, for links that do different things at different steps."""

Told = Callable[[int, Link, Exception], None]
"""Called with a link that cannot be traced, its place in the chain, and why."""


class TracedLoss:
    """A loss function traced: its graph, and the gradients of the optimizer's parameters.

    Args:
        function: of the leaves of the arguments.
        leaves: these, arrays and other things.
        held: the tensors that it holds, the optimizer's parameters among them, by name.
        seeded: whether the loss's cotangent is an input of its own, the last; else it is 1.

    Attributes:
        arrays: which of the leaves are arrays.
        held: which of the held tensors the graph reads, by their places, and the nodes that stand for them.
        params: the symbols of the optimizer's parameters; None for those that the loss does not reach.
        grads: their gradients; None where there is none.
        updates: which of the held tensors are buffers that get new values, by their places.
        dtype: of the loss.

    Raises:
        GraphError, NoValueError: it cannot be traced, or its first result is not one real number.
    """

    def __init__(
        self,
        function: Callable,
        leaves: list,
        held: Sequence[tuple[str, DiffTensor]],
        optimizer: Optimizer,
        name: str,
        seeded: bool = False,
    ):
        self.arrays = [i for i, x in enumerate(leaves) if _is_array(x)]
        specs = [
            Spec(tuple(x.shape), numpy_dtype(x.dtype), f"x{i}") if _is_array(x) else x for i, x in enumerate(leaves)
        ]
        self.made: Traced = traced(function, specs, name, held, Effects())
        graph, results = self.made.graph, self.made.results
        place_of = {id(t): i for i, (_, t) in enumerate(held)}
        self.held = {place_of[id(graph.parameters[label])]: node for label, node in graph.parameter_nodes.items()}
        self.updates = [place_of[id(buffer)] for buffer in self.made.updates]
        symbols = {i: DiffTensor._wrap(None, self.made.symbols[node]) for i, node in self.held.items()}
        self.params = [symbols.get(place_of[id(p)]) for p in optimizer.params]
        order = {place: k for k, place in enumerate(self.held)}
        self.param_places = [order.get(place_of[id(p)]) for p in optimizer.params]
        loss = results[0] if results else None
        if not isinstance(loss, DiffTensor) or loss.raw is not None or loss.node is None:
            raise GraphError("what it returns first, the loss, does not depend on anything that is tracked")
        if loss.shape != () or numpy_dtype(loss.dtype).kind != "f":
            raise GraphError(
                f"what it returns first, the loss, is {loss.dtype}{tuple(loss.shape)}; it must be one real number: reduce it, "
                "with mean or sum"
            )
        if any(n.row is _SPARSE_TAKE and isinstance(n.parents[0], Leaf) for n in ancestors([loss.node])):
            raise GraphError("an embedding has sparse=True: its gradient is a RowSparse, which graphs do not have")
        wanted = [s for s, p in zip(self.params, optimizer.params, strict=True) if s is not None and p.node is not None]
        self.dtype = numpy_dtype(loss.dtype)
        seed = DiffTensor.symbol((), loss.dtype)
        self.inputs = list(graph.inputs)
        # a constant would be NumPy's, and so would what is computed from constants alone
        self.seeded = seeded or class_of([p.raw for p in optimizer.params]) is not np.ndarray
        if self.seeded:
            self.inputs.append(input_node("seed", (), loss.dtype))
        self._seed = seed.node, self.inputs[-1] if self.seeded else constant(np.ones((), loss.dtype)[()])
        with AutogradContext(precision="fp32"):  # as eager rules run: mixed precision is one of the forward pass
            found = BackwardPass([loss], wanted).run([seed]) if wanted else {}
        self.grads = [None if s is None else found.get(s.node) for s in self.params]  # type: ignore[arg-type]
        if all(g is None for g in self.grads):
            raise GraphError("the loss reaches no parameter of the optimizer")

    def lowering(self) -> Lowering:
        """A lowering that goes on from the function's graph."""
        lowering = Lowering(self.made.lowering.made, self.made.lowering.since, custom=True)
        lowering.made[self._seed[0]] = self._seed[1]  # type: ignore[index]
        return lowering


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
        self._variants: list[_Variant] = []
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

    def _variant(self, before: list) -> tuple["_Variant", list]:
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
                    variant = _Variant(self, self._states)
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


class _Variant:
    """A stage's graph for what its links do in some steps, and its plans.

    The graph's inputs are what is given (arguments and random arrays, or gradients), the tensors held, the state's arrays, and
    the numbers. Its outputs are what the function returns and the new buffers, the new parameters (or, if links come
    after it, the updates), the arrays of the state that change, and numbers of the state that were not known before.
    """

    def __init__(self, stage: Stage, states: list):
        self.optimizer, self.exact, self.loss = stage.optimizer, stage.exact, stage.loss
        params = self.optimizer.params
        if self.loss is None:
            grads: list = [None if k is None else DiffTensor.symbol(*k) for k in stage.kinds]
            symbols: list = [DiffTensor.symbol(tuple(p.shape), numpy_dtype(p.dtype)) for p in params]
            given = {g.node: input_node(f"gradient{i}", g.shape, g.dtype) for i, g in enumerate(grads) if g is not None}
            held = {p.node: input_node(f"parameter{i}", p.shape, p.dtype) for i, p in enumerate(symbols)}
            results: Sequence = ()
            lowering, before = Lowering(given | held), []
            inputs, self.nodes = list(given.values()), list(held.values())
            param_places: list = list(range(len(params)))
        else:
            grads, symbols, param_places = self.loss.grads, self.loss.params, self.loss.param_places
            graph = self.loss.made.graph
            lowering, before, results = self.loss.lowering(), list(graph.nodes), graph.outputs
            inputs, self.nodes = list(self.loss.inputs), list(self.loss.held.values())
        links = stage.links[stage.start : stage.stop]
        self.links = traced_links = LinkTrace(links, states, grads, symbols, [p.raw for p in params])
        first = len(self.nodes)
        for a in traced_links.arrays:
            node = input_node(f"state.{'.'.join(map(str, a.path))}", a.symbol.shape, a.symbol.dtype)
            lowering.made[a.symbol.node] = node  # type: ignore[index]
            self.nodes.append(node)
        kept = traced_links.constants(states) if stage.constants else [False] * len(traced_links.slots)
        numpy = class_of([p.raw for p in params]) is np.ndarray  # other libraries take Python's numbers only
        numbers = []
        for i, (slot, value) in enumerate(zip(traced_links.slots, traced_links.first, strict=True)):
            if kept[i]:
                number = numpy_dtype(slot.dtype).type(value) if numpy else value
                lowering.made[slot.node] = constant(number)  # type: ignore[index]
            else:
                lowering.made[slot.node] = node = input_node(f"number{i}", (), slot.dtype)  # type: ignore[index]
                numbers.append(node)
        self._number_types = [n.dtype.type for n in numbers]
        self._varying = [i for i, k in enumerate(kept) if not k]
        self._constant = [i for i, k in enumerate(kept) if k]
        self._constants = [traced_links.first[i] for i in self._constant]

        # outputs, and where they go
        self.applied = stage.stop == len(stage.links) and stage.steps
        self.count = len(results)
        self.moved = [i for i, u in enumerate(traced_links.updates) if u is not None]
        changed = [i for i, a in enumerate(traced_links.arrays) if a.new is not a.symbol]
        outputs: list = [traced_links.updates[i] for i in self.moved]
        targets: list[int | None] = [None] * len(outputs)
        if self.applied:
            outputs = [_sum(symbols[i], u) for i, u in zip(self.moved, outputs, strict=True)]
            targets = [param_places[i] for i in self.moved]
        outputs += [traced_links.arrays[i].new for i in changed] + [value for _, value in traced_links.found]
        targets += [first + i for i in changed]
        lowering.lowered([o.node for o in outputs if isinstance(o, DiffTensor) and o.raw is None])
        writes: dict[int, int] = {}
        self._singles: list[tuple[int, int]] = []  # outputs without axes, which cannot be written by a plan
        for k, target in enumerate(targets, self.count):
            if target is not None and self.nodes[target].shape:
                writes[k] = len(inputs) + target
            elif target is not None:
                self._singles.append((k, target))
        self.writes = writes
        self.graph = UniversalGraph(
            [*inputs, *self.nodes, *numbers],
            [*results, *map(lowering.node, outputs)],
            name="update" if self.loss is None else f"training step of {self.loss.made.graph.name}",
            order=[*before, *lowering.order],
        ).optimize(self.exact)
        shared = sharing(self.graph.nodes, {n: n for n in self.graph.nodes if n.row in (INPUT, CONSTANT)})
        own = self.graph.outputs[self.count : self.count + len(self.moved)]
        self._shared = {i for i, n in zip(self.moved, own, strict=True) if n in shared and not self.applied}
        self._one = self.loss is not None and isinstance(self.loss.made.graph.tree[0], Node)
        self._held = first
        self._has_numbers = any(not n.shape for n in self.nodes)
        self._plans: dict[type, Any] = {}
        self._class: type = np.ndarray
        self._last: list = []
        self._states: list = []

    @property
    def source(self) -> str:
        return getattr(self._plans.get(self._class), "source", "")

    def numbers(self, states: list) -> list:
        """The numbers of the next step; the state's own move on. Mismatch: the links do something else."""
        self._bind(states)
        return self.links.numbers(self._bound)

    def is_for(self, numbers: list) -> bool:
        """Whether the numbers that were taken for constants are what they were."""
        return [numbers[i] for i in self._constant] == self._constants

    def _bind(self, states: list) -> None:
        if states is not self._states:
            self._bound = self.links.bind(states)
            self._arrays = [_place(states, a.path) for a in self.links.arrays]
            self._found = [_place(states, path) for path, _ in self.links.found]
            self._states = states

    def run(
        self,
        given: list,
        tensors: Sequence[DiffTensor],
        buffers: Sequence[DiffTensor],
        seeds: Sequence,
        states: list,
        numbers: list,
    ) -> tuple[Any, list | None]:
        """One step; see ``Stage``."""
        self._bind(states)
        arrays = [t.raw for t in tensors] + [container[key] for container, key in self._arrays]
        if len(arrays) != len(self._last) or not all(map(is_, arrays, self._last)):
            arrays = self._last = self._checked(arrays, given, tensors)
        if self.loss is not None:
            given = [*given, *(make() for make in self.loss.made.draws), *seeds]
        if self._class is np.ndarray:
            numbers = [kind(numbers[i]) for kind, i in zip(self._number_types, self._varying, strict=True)]
        else:
            numbers = [numbers[i] for i in self._varying]
            given = [self._here(x) for x in given]
        if self._has_numbers:
            arrays = [backend.scalar(x) for x in arrays]
        outputs = self._plans[self._class]([*given, *arrays, *numbers])
        return self._ended(outputs, tensors, buffers)

    def _ended(
        self, outputs: tuple, tensors: Sequence[DiffTensor], buffers: Sequence[DiffTensor]
    ) -> tuple[Any, list | None]:
        """What is left to do when the plan has run."""
        for k, target in self._singles:
            self._put_single(target, outputs[k], tensors)
        for (container, key), value in zip(self._found, outputs[len(outputs) - len(self._found) :], strict=True):
            container[key] = float(value)
        updates: list | None = None
        params = self.optimizer.params
        if self.applied:
            for i in self.moved:
                p = params[i]
                if self.loss is None:
                    p.renew()
                elif type(p.node) is not Leaf or p.node.grad is not None or getrefcount(p.node) > 2:
                    p.grad = None  # not read: a pending one would be computed
                    p.renew()  # graphs that used the old value are refused; there are none if nothing else knows the leaf
        else:
            updates = [None] * len(params)
            for i, u in zip(self.moved, outputs[self.count :], strict=False):
                updates[i] = u.copy() if i in self._shared else u
        if self.loss is None:
            return None, updates
        own = self.count - len(buffers)
        for buffer, value in zip(buffers, outputs[own : self.count], strict=True):
            buffer.raw = value
        if buffers or self._singles:
            self._last = [t.raw for t in tensors] + [container[key] for container, key in self._arrays]
        if self._one:
            return DiffTensor._wrap(backend.asarray(outputs[0]), None), updates
        results = [DiffTensor._wrap(backend.asarray(o), None) for o in outputs[: self.count]]
        return self.loss.made.graph.rebuild(results)[0], updates

    def _put_single(self, target: int, value: Any, tensors: Sequence[DiffTensor]) -> None:
        if target < self._held:
            tensors[target].raw = value
            return
        container, key = self._arrays[target - self._held]
        if isinstance(container[key], np.generic):
            container[key] = value
        else:
            container[key][...] = value

    def _here(self, x: Any) -> Any:
        """What is on the host, where the parameters are."""
        if isinstance(x, np.generic):
            x = np.asarray(x)
        return backend.to_device(x, self._where) if type(x) is np.ndarray else x

    def _checked(self, arrays: list, given: list, tensors: Sequence[DiffTensor]) -> list:
        """Arrays that were not seen before: of the shapes and dtypes of the graph, on one place, and apart from each other."""
        for x, node in zip(arrays, self.nodes, strict=True):
            if tuple(x.shape) != node.shape or numpy_dtype(x.dtype) != node.dtype:
                raise GraphError(
                    f"{self.graph.name}: {node.name!r} was {described(node)} and is {x.dtype}{tuple(x.shape)} now; make another step"
                )
        self._class = class_of([*arrays, *given])
        if self._class is not np.ndarray:
            self._where = backend.place_of(next(x for x in arrays if type(x) is self._class))
        if self._class not in self._plans:
            self._plans[self._class] = make_plan(self.graph, self._class, self.exact, self.writes)
        arrays = list(arrays)
        first = len(self.graph.inputs) - len(self._number_types) - len(self.nodes)
        written = {to - first for to in self.writes.values()}
        for i in written:
            if type(arrays[i]) is np.ndarray and not arrays[i].flags.writeable:  # memory that is not ours to change
                if i >= self._held:
                    raise GraphError(f"{self.graph.name}: {self.nodes[i].name!r} is read-only")
                arrays[i] = tensors[i].raw = arrays[i].copy()
        _refuse_overlaps([*arrays, *given], written, self.graph.name)
        return arrays


def _place(states: list, path: tuple) -> tuple[Any, Any]:
    """The container at a path, and the key in it."""
    found: Any = states
    for key in path[:-1]:
        found = found[key]
    return found, path[-1]


def _sum(p: DiffTensor, u: DiffTensor) -> DiffTensor:
    """A parameter and its update, as ``Optimizer.step`` adds them: in the parameter's dtype."""
    total = ops.add(p, u)
    return total if total.dtype == p.dtype else ops.astype(total, dtype=p.dtype)


def _refuse_overlaps(arrays: list, written: set[int], name: str) -> None:
    """Refuse arrays of which one would be written and another would see it."""
    spans = sorted(
        (*np.lib.array_utils.byte_bounds(x), i) for i, x in enumerate(arrays) if type(x) is np.ndarray and x.size
    )
    for (_, end, i), (begin, _, j) in pairwise(spans):
        if begin < end and (i in written or j in written):
            raise GraphError(
                f"{name}: two of its arrays share memory, of which one is changed in place; copy one of them"
            )
