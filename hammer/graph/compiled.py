"""``hammer.compile``: a function that is traced when it meets new shapes, and run as a plan when it has met them before.

A call whose arguments, parameters and modes look like those of an earlier one (the guard) runs that one's plan. What it returns is
tracked like what the function itself returns: its backward pass is a plan too, of the gradient's graph, cut where the cotangents
come in; what that needs of the forward pass is kept, and nothing else.
"""

import functools
import warnings
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import optree

from autograd import backend
from autograd.context import AutogradContext, current
from autograd.custom import custom_vjp
from autograd.effects import Effects
from autograd.errors import NoValueError
from autograd.nn.module import Module
from autograd.ops import windows
from autograd.shapes import numpy_dtype
from autograd.tape import BackwardPass
from autograd.tensor import DiffTensor

from .execute import class_of, make_plan
from .graph import UniversalGraph
from .held import captured, holders_of, tensors_among
from .ir import CONSTANT, CompileWarning, GraphError, Node, input_node
from .passes import rebuilt
from .trace import Lowering, Spec, Traced, line_of, replay, traced, zeros


def compile(function: Callable | None = None, *, exact: bool = True, cache: int = 64, fallback: bool = True) -> Any:
    """A function that computes what ``function`` does, from graphs of it: traced once for each signature, then run as plans.

    Args:
        function: of tensors, arrays, or trees of them, made of operations of ``autograd``; or a Module. Its Modules (see
            ``UniversalGraph.trace``) may be trained, and switched between modes. Arrays that it holds are constants.
        exact: whether every bit must be that of the uncompiled function (for arguments in C order). If not, results may
            differ by rounding.
        cache: how many signatures are kept; the one used longest ago goes first.
        fallback: whether a function that cannot be traced runs uncompiled, after one ``CompileWarning`` that says why and
            where; else that is an error.

    Returns:
        A ``Compiled``; without ``function`` a decorator. A signature is the structure of the arguments, the shapes and dtypes of
        arrays, the values of everything else, the modules' modes, and the context's precision.
    """
    if function is None:
        return functools.partial(compile, exact=exact, cache=cache, fallback=fallback)
    return Compiled(function, exact, cache, fallback)


class Compiled:
    """A compiled function; see ``compile``.

    Attributes:
        function: the function itself.
        traces: how often it was traced.
        reason: why it runs uncompiled, or None.
    """

    def __init__(self, function: Callable, exact: bool, cache: int, fallback: bool):
        if cache < 1:
            raise ValueError(f"compile: the cache needs room for one signature or more, not {cache}")
        self.function, self.exact, self.size, self.fallback = function, exact, cache, fallback
        self.traces = 0
        self.reason: str | None = None
        self._entries: OrderedDict[Any, _Entry] = OrderedDict()
        self._held = _Held(function)
        functools.update_wrapper(self, function if hasattr(function, "__name__") else type(function), updated=())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.reason is not None:
            return self.function(*args, **kwargs)
        leaves, tree = optree.tree_flatten((args, kwargs))  # type: ignore[arg-type,var-annotated]
        context = current()
        if any(isinstance(x, DiffTensor) and x.raw is None for x in leaves) or (context is not None and context.levels):
            return self.function(*args, **kwargs)  # inside another trace, or vmap: it becomes a part of that
        held = (
            self._held.tensors() if not any(isinstance(x, Module) for x in leaves) else captured(self.function, leaves)
        )
        modes = tuple([m.training for m in self._held.modules]) + tuple(
            m.training for x in leaves if isinstance(x, Module) for m in x.modules()
        )
        key = (
            tree,
            tuple([_guard(x) for x in leaves]),
            tuple([_guard(t) for _, t in held]),
            modes,
            self._held.changes,
            context and context.low,
        )
        entry = self._entries.get(key)
        if entry is None:
            try:
                entry = self._entries[key] = self._traced(leaves, tree, held)
            except (GraphError, NoValueError) as error:
                return self._uncompiled(error, args, kwargs)
            if len(self._entries) > self.size:
                self._entries.popitem(last=False)
        else:
            self._entries.move_to_end(key)
        return entry.run(leaves, [t for _, t in held])

    def _traced(self, leaves: list, tree: Any, held: list) -> "_Entry":
        self.traces += 1
        specs = [
            Spec(tuple(x.shape), numpy_dtype(x.dtype), f"x{i}") if _is_array(x) else x for i, x in enumerate(leaves)
        ]

        def flat(*given: Any) -> Any:
            args, kwargs = optree.tree_unflatten(tree, given)
            return self.function(*args, **kwargs)

        made = traced(flat, specs, getattr(self, "__name__", "compiled"), held, Effects())
        return _Entry(made, [i for i, x in enumerate(leaves) if _is_array(x)], held, self.exact)

    def _uncompiled(self, error: Exception, args: tuple, kwargs: dict) -> Any:
        name = getattr(self, "__name__", "the function")
        reason = f"{name} cannot be compiled: {error}"
        where = line_of(error)
        reason += f"\n  at {where}" if where and where not in reason else ""
        if not self.fallback:
            raise GraphError(reason) from error
        self.reason = reason
        self._entries.clear()
        warnings.warn(f"{reason}\nIt runs uncompiled.", CompileWarning, stacklevel=3)
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        state = "runs uncompiled" if self.reason else f"{len(self._entries)} signatures"
        return f"<compiled {getattr(self, '__name__', 'function')}: {state}>"


class _Held:
    """The tensors of a function's Modules, looked up anew only when a module, a member or what the function refers to is another.

    ``changes`` counts how often a setting of a module (a rate, a flag, a random generator) was found to be another.
    """

    def __init__(self, function: Callable):
        self.function = function
        self.modules: list[Module] = []
        self.changes = 0
        self._settings: list[tuple[dict, str, Any]] = []
        self._places: list[tuple[Any, Any, Any]] = []
        self._members: list[tuple[dict, str, Any]] = []
        self._counts: list[tuple[dict, int]] = []
        self._found: list[tuple[str, DiffTensor]] | None = None

    def tensors(self) -> list[tuple[str, DiffTensor]]:
        if self._found is None or not self._fresh():
            self._look()
        for members, name, value in self._settings:
            if members.get(name) is not value:
                self.changes += 1
                self._settings = self._settings_now()
                break
        return self._found or []

    def _fresh(self) -> bool:
        for container, key, value in self._places:
            if (container.cell_contents if key is None else container.get(key)) is not value:
                return False
        for members, name, value in self._members:
            if members.get(name) is not value:
                return False
        return all(len(members) == n for members, n in self._counts)

    def _look(self) -> None:
        holders, self._places = holders_of(self.function)
        found = {id(m): m for v in holders.values() if isinstance(v, Module) for m in v.modules()}
        self.modules = list(found.values())
        self._members = [(m.__dict__, name, m.__dict__[name]) for m in self.modules for name in m._members]
        self._counts = [(m._members, len(m._members)) for m in self.modules]
        self._found = tensors_among(holders)
        settings = self._settings_now()
        if [v for *_, v in settings] != [v for *_, v in self._settings]:
            self.changes += 1
        self._settings = settings

    def _settings_now(self) -> list[tuple[dict, str, Any]]:
        """Numbers that are no counts, flags, texts and generators of the modules: what traces were made with."""
        return [
            (m.__dict__, name, value)
            for m in self.modules
            for name, value in vars(m).items()
            if name != "training" and isinstance(value, (bool, float, str, np.random.Generator))
        ]


def _is_array(x: Any) -> bool:
    return isinstance(x, DiffTensor) or backend.is_array(x)


def _guard(x: Any) -> Any:
    """What of an argument the trace depends on."""
    if type(x) is DiffTensor:
        raw = x.raw
        return DiffTensor, raw.shape, raw.dtype, type(raw)
    if type(x) is np.ndarray:
        return np.ndarray, x.shape, x.dtype
    if backend.is_array(x):
        return np.ndarray, tuple(x.shape), x.dtype, type(x)
    try:
        hash(x)
    except TypeError:
        raise TypeError(
            f"compile: an argument is a {type(x).__name__}, whose value cannot be compared with that of the next call; pass arrays, "
            "numbers, strings, or trees of them"
        ) from None
    return type(x), x


class _Entry:
    """The plans of one signature."""

    def __init__(self, made: Traced, places: list[int], held: list, exact: bool):
        self.made, self.places, self.exact = made, places, exact
        self.graph = graph = made.graph.optimize(exact)
        index = {id(t): i for i, (_, t) in enumerate(held)}
        self.held_places = [index[id(t)] for t in graph.parameters.values()]
        self.buffers = [index[id(t)] for t in made.updates]
        self.nodes = [*graph.inputs, *graph.parameter_nodes.values()]
        self.forward: dict[type, Any] = {}
        self.cut: dict[tuple[int, ...], _Cut] = {}
        self.has_parameters = bool(held)

    def run(self, leaves: list, held: list) -> Any:
        array = leaves[self.places[0]] if self.places else held[0] if held else None
        random = [windows.constant(make(), array) for make in self.made.draws]
        given = [leaves[i] for i in self.places] + random + [held[i] for i in self.held_places]
        context = current()
        recording = context is None or context.recording
        tracked = tuple(
            i for i, x in enumerate(given) if recording and isinstance(x, DiffTensor) and x.node is not None
        )
        if tracked and any(backend.is_inexact(o.dtype) for o in self.graph.outputs):
            if tracked not in self.cut:
                self.cut[tracked] = _Cut(self.made, self.graph, self.nodes, tracked, self.exact)
            return self._ended(self.cut[tracked](given), held)
        values = [backend.scalar(x.raw if isinstance(x, DiffTensor) else x) for x in given]
        cls = class_of(values)
        if cls not in self.forward:
            self.forward[cls] = make_plan(self.graph, cls, self.exact)
        outputs = self.forward[cls](values)
        if self.has_parameters or any(isinstance(x, DiffTensor) for x in given):
            outputs = [DiffTensor._wrap(backend.asarray(o), None) for o in outputs]
        return self._ended(outputs, held)

    def _ended(self, outputs: Sequence, held: list) -> Any:
        """What the function returns, after its buffers got their new values."""
        for i, new in zip(self.buffers, outputs[len(outputs) - len(self.buffers) :], strict=True):
            held[i].raw = new.raw
        return self.graph.rebuild(outputs)[0]


class _Cut:
    """A function's forward and backward plans, for some of its inputs being tracked.

    The backward graph begins at the cotangents of the outputs and at what it reads of the forward pass, the residuals. It is
    made from the tape, before equal values become one, so that gradients are added up as eager code does.
    """

    def __init__(self, made: Traced, graph: UniversalGraph, inputs: list[Node], tracked: tuple[int, ...], exact: bool):
        self.inputs, self.tracked, self.exact = inputs, tracked, exact
        lowering = Lowering(made.lowering.made, made.lowering.since, custom=True)
        self.active = [
            k
            for k, r in enumerate(made.results)
            if isinstance(r, DiffTensor) and r.raw is None and backend.is_inexact(r.dtype)
        ]
        outputs = [made.results[k] for k in self.active]
        seeds = [input_node(f"cotangent{k}", o.shape, o.dtype) for k, o in zip(self.active, outputs, strict=True)]
        symbols = [DiffTensor.symbol(s.shape, s.dtype) for s in seeds]
        lowering.made |= {s.node: n for s, n in zip(symbols, seeds, strict=True)}  # type: ignore[misc]
        wanted = [inputs[i] for i in tracked]
        starts = [DiffTensor._wrap(None, made.symbols[n]) for n in wanted]
        with AutogradContext(precision="fp32"):  # as eager rules run: mixed precision is one of the forward pass
            found = BackwardPass(outputs, starts).run(symbols) if outputs else {}
        grads = [
            lowering.node(found[s.node]) if s.node in found else zeros(n) for n, s in zip(wanted, starts, strict=True)
        ]
        order = [*made.graph.nodes, *lowering.order]
        whole = UniversalGraph([*inputs, *seeds], grads, name=f"backward of {graph.name}", order=order).optimize(exact)
        late: set[Node] = set()  # what depends on the cotangents
        for node in whole.nodes:
            if node in seeds or not late.isdisjoint(node.inputs):
                late.add(node)
        read = dict.fromkeys(n for node in whole.nodes if node in late for n in node.inputs if n not in late)
        read |= dict.fromkeys(n for n in whole.outputs if n not in late)
        # a PICK of a cotangent-free operation is itself free of them, so what is read has one value
        self.residuals = [n for n in read if n.row is not CONSTANT]
        stand_ins = {n: input_node(f"kept{i}", n.shape, n.dtype) for i, n in enumerate(self.residuals)}

        parts: dict[Node, Node] = {}
        for node in whole.nodes:
            if node in late or node in stand_ins or node.row is CONSTANT:
                parts[node] = stand_ins.get(node) or rebuilt(node, tuple([parts[n] for n in node.inputs]))
        self.whole = whole
        self.forward = UniversalGraph(inputs, (*graph.outputs, *self.residuals), name=graph.name)
        self.backward = UniversalGraph(
            [*stand_ins.values(), *seeds], [parts[n] for n in whole.outputs], name=whole.name
        )
        self.count = len(graph.outputs)
        self.has_custom = made.lowering.has_custom or lowering.has_custom
        self.function = custom_vjp(self._plain).defvjp(self._forward, self._backward)

    def __call__(self, given: list) -> list:
        out = self.function(*[x if isinstance(x, DiffTensor) else DiffTensor(x, copy=False) for x in given])
        return list(out)

    def _run(self, graph: UniversalGraph, given: Sequence[Any]) -> list:
        values = [backend.scalar(x.raw if isinstance(x, DiffTensor) else x) for x in given]
        return [DiffTensor._wrap(backend.asarray(o), None) for o in graph.plan(class_of(values), self.exact)(values)]

    def _plain(self, *given: Any) -> tuple:
        return tuple(self._run(self.forward, given)[: self.count])

    def _forward(self, *given: Any) -> tuple:
        out = self._run(self.forward, given)
        return tuple(out[: self.count]), (given, tuple(out[self.count :]))

    def _backward(self, kept: tuple, cotangents: tuple) -> tuple:
        given, residuals = kept
        seeds = [cotangents[k] for k in self.active]
        if any(isinstance(x, DiffTensor) and x.node is not None for x in (*given, *seeds)):
            # the backward pass is itself recorded: its operations are, one by one, from the inputs on
            if self.has_custom:
                raise GraphError(
                    f"{self.whole.name}: it has a function with a derivative rule of its own (custom_vjp), so it cannot be "
                    "differentiated again when it is compiled; take higher derivatives of the function itself, or inside of it"
                )
            made: dict[Node, Any] = dict(zip(self.whole.inputs, (*given, *seeds), strict=True))
            replay(self.whole.nodes, made)
            found = [made[n] for n in self.whole.outputs]
        else:
            found = self._run(self.backward, [*residuals, *seeds])
        by_place = dict(zip(self.tracked, found, strict=True))
        return tuple(by_place.get(i) for i in range(len(self.inputs)))
