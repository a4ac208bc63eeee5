"""The graph of a training step, or of a part of it, for what the optimizer's links do in some steps, and the plans that run it.

The graph's inputs are what is given (arguments and random arrays, or gradients), the tensors held, the state's arrays, and the
numbers. Its outputs are what the function returns and the new buffers, the new parameters (or, if links come after it, the
updates), the arrays of the state that change, and numbers of the state that were not known before.
"""

from collections.abc import Sequence
from itertools import pairwise
from operator import is_
from sys import getrefcount
from typing import Any

import numpy as np

from autograd import backend, ops
from autograd.gradients.base import Link
from autograd.optim import Optimizer
from autograd.shapes import numpy_dtype
from autograd.tape import Leaf
from autograd.tensor import DiffTensor

from .execute import class_of, make_plan, sharing
from .graph import UniversalGraph
from .ir import CONSTANT, INPUT, GraphError, Node, constant, described, input_node
from .links import LinkTrace
from .losses import TracedLoss
from .trace import Lowering


class Variant:
    """A graph and its plans, for some links of an optimizer.

    Args:
        links, states: the links, and a list of their states, whose numbers move on.
        source: what makes the gradients, a loss; or the shapes and dtypes of gradients that are given, None where there is none.
        applies: whether the links are the last, so that their updates are added to the parameters.
        constants: whether numbers that seem not to depend on the state are made constants.

    Raises:
        GraphError, NoValueError, TypeError, AttributeError: a link cannot be traced; the error's ``link`` is its place.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        links: Sequence[Link],
        states: list,
        source: TracedLoss | Sequence,
        applies: bool,
        constants: bool,
        exact: bool,
    ):
        self.optimizer, self.exact, self.applied = optimizer, exact, applies
        self.loss = source if isinstance(source, TracedLoss) else None
        raws = [p.raw for p in optimizer.params]
        grads: list[Any]
        params: list[Any]
        if isinstance(source, TracedLoss):
            grads, params, places = list(source.grads), source.params, source.param_places
            lowering, results = source.lowering(), source.made.graph.outputs
            given, self.nodes = list(source.inputs), list(source.held.values())
        else:
            grads = [None if k is None else DiffTensor.symbol(*k) for k in source]
            params = [DiffTensor.symbol(tuple(r.shape), numpy_dtype(r.dtype)) for r in raws]
            places, results = list(range(len(params))), ()
            found = {
                g.node: input_node(f"gradient:{i}", g.shape, g.dtype) for i, g in enumerate(grads) if g is not None
            }
            held = {p.node: input_node(f"parameter:{i}", p.shape, p.dtype) for i, p in enumerate(params)}
            lowering = Lowering(found | held)  # type: ignore[arg-type]
            given, self.nodes = list(found.values()), list(held.values())
        self.links = LinkTrace(links, states, grads, params, raws)
        self._held, self._given, self.count = len(self.nodes), len(given), len(results)
        for a in self.links.arrays:
            node = input_node(f"state:{'.'.join(map(str, a.path))}", a.symbol.shape, a.symbol.dtype)
            lowering.made[a.symbol.node] = node  # type: ignore[index]
            self.nodes.append(node)
        numbers = self._numbers(lowering, states, constants, class_of(raws) is np.ndarray)
        outputs = self._outputs(params, places)
        lowering.lowered([o.node for o in outputs if isinstance(o, DiffTensor) and o.raw is None])
        self.graph = UniversalGraph(
            [*given, *self.nodes, *numbers],
            [*results, *map(lowering.node, outputs)],
            name="update" if self.loss is None else f"training step of {self.loss.made.graph.name}",
            order=[*(() if self.loss is None else self.loss.made.graph.nodes), *lowering.order],
        ).optimize(exact)
        shared = sharing(self.graph.nodes, {n: n for n in self.graph.nodes if n.row in (INPUT, CONSTANT)})
        own = self.graph.outputs[self.count : self.count + len(self.moved)]
        self._shared = {i for i, n in zip(self.moved, own, strict=True) if n in shared and not applies}
        self._one = self.loss is not None and isinstance(self.loss.made.graph.tree[0], Node)
        self._has_numbers = any(not n.shape for n in self.nodes)
        self._plans: dict[type, Any] = {}
        self._class: type = np.ndarray
        self._last: list = []  # the arrays of the latest run
        self._states: list = []

    def _numbers(self, lowering: Lowering, states: list, constants: bool, numpy: bool) -> list[Node]:
        """The inputs for the numbers that are no constants. Other libraries than NumPy take Python's numbers only."""
        slots, values = self.links.slots, self.links.first
        kept = self.links.constants(states) if constants else [False] * len(slots)
        numbers = []
        for i, (slot, value) in enumerate(zip(slots, values, strict=True)):
            if kept[i]:
                node = constant(numpy_dtype(slot.dtype).type(value) if numpy else value)
            else:
                node = input_node(f"number:{i}", (), slot.dtype)
                numbers.append(node)
            lowering.made[slot.node] = node  # type: ignore[index]
        self._number_types = [n.dtype.type for n in numbers]
        self._varying = [i for i, k in enumerate(kept) if not k]
        self._constant = [i for i, k in enumerate(kept) if k]
        self._constants = [values[i] for i in self._constant]
        return numbers

    def _outputs(self, params: Sequence, places: Sequence[int | None]) -> list:
        """What is computed beside the function's results. Notes where it goes: ``writes``, and what a plan cannot write."""
        links = self.links
        self.moved = [i for i, u in enumerate(links.updates) if u is not None]
        changed = [i for i, a in enumerate(links.arrays) if a.new is not a.symbol]
        outputs: list = [links.updates[i] for i in self.moved]
        targets: list[int | None] = [None] * len(outputs)
        if self.applied:
            outputs = [_sum(params[i], u) for i, u in zip(self.moved, outputs, strict=True)]
            targets = [places[i] for i in self.moved]
        outputs += [links.arrays[i].new for i in changed] + [value for _, value in links.found]
        targets += [self._held + i for i in changed]
        self.writes: dict[int, int] = {}
        self._singles: list[tuple[int, int]] = []  # values without axes
        for k, target in enumerate(targets, self.count):
            if target is not None and self.nodes[target].shape:
                self.writes[k] = self._given + target
            elif target is not None:
                self._singles.append((k, target))
        return outputs

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
        written = {to - self._given for to in self.writes.values()}
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
