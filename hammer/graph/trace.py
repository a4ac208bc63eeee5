"""Tracing: a function run once on symbolic tensors becomes a graph; a graph replayed on them is differentiated or inlined.

Nothing is computed: operations on symbolic tensors append nodes to the tape (``autograd.dispatch``), and ``Lowering`` turns the
tape's nodes into the graph's. A derivative is made the same way: the graph is replayed on symbols, the ordinary backward
pass runs over them with the ordinary rules, and what these append is lowered too, onto the forward nodes that are there.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import optree

from autograd import backend
from autograd.context import not_the_callers
from autograd.effects import Effects, recording
from autograd.nn.module import Module
from autograd.shapes import numpy_dtype
from autograd.table import OPS
from autograd.tape import PICK, BackwardPass, Leaf, ancestors, next_serial
from autograd.tape import Node as TapeNode
from autograd.tensor import DiffTensor

from .graph import UniversalGraph
from .held import captured
from .ir import CONSTANT, INPUT, GraphError, Node, apply, chain_of, constant, described, input_node, pick

not_the_callers(__file__)  # the lines of source in messages are those of the code that is traced


@dataclass(frozen=True)
class Spec:
    """What an argument of a traced function will be.

    Args:
        shape: sizes; a name, as "B", stands for a size that is known when the graph runs.
        dtype: of the elements.
        name: the input's name; None: that of the function's parameter.
    """

    shape: tuple[int | str, ...]
    dtype: Any = np.float32
    name: str | None = None


class Fixed(Leaf):
    """A symbol that stands for a constant, so that nothing is computed from it while a graph is built."""

    __slots__ = ("value",)

    def __init__(self, value: Any):
        super().__init__(tuple(value.shape), numpy_dtype(value.dtype))
        self.value = value


@dataclass(frozen=True)
class Traced:
    """A traced function: its graph, and the tape that this was lowered from.

    Attributes:
        results: the leaves of what the function returned.
        symbols: the tape's node of each input.
        draws: what draws the random arrays, anew for each run; they are the graph's last inputs.
        updates: the buffers that get new values, which are the graph's last outputs.
    """

    graph: UniversalGraph
    lowering: "Lowering"
    results: tuple[Any, ...]
    symbols: Mapping[Node, TapeNode]
    draws: tuple[Callable[[], Any], ...] = ()
    updates: tuple[DiffTensor, ...] = ()


def trace_once(
    function: Callable,
    specs: Sequence[Any],
    name: str | None = None,
    held: Sequence[tuple[str, DiffTensor]] | None = None,
) -> UniversalGraph:
    """The graph of a function of arguments of known sizes (see ``UniversalGraph.trace``)."""
    return traced(function, specs, name, held).graph


def traced(
    function: Callable,
    specs: Sequence[Any],
    name: str | None = None,
    held: Sequence[tuple[str, DiffTensor]] | None = None,
    effects: Effects | None = None,
) -> Traced:
    """A function traced on arguments of known sizes.

    Args:
        held: the tensors that are the function's parameters, by name; None: those that it is found to hold.
        effects: what takes up random numbers that are drawn and buffers that change; None: they cannot be traced. With it
            the graph's outputs are a pair, the function's and the list of new buffers, and it may lack rules (see ``Lowering``).
    """
    paths, leaves, tree = optree.tree_flatten_with_path(tuple(specs))  # type: ignore[arg-type,var-annotated]
    first = _argument_names(function, len(specs))
    given: list[Any] = list(leaves)
    inputs: list[Node] = []
    places: list[int | str] = []
    starts: dict[TapeNode, Node] = {}
    for i, (path, leaf) in enumerate(zip(paths, leaves, strict=True)):
        places.append(fixed(leaf))
        if isinstance(leaf, (Spec, DiffTensor)) or backend.is_array(leaf):
            label = getattr(leaf, "name", None) or ".".join([first[path[0]], *map(str, path[1:])])
            symbol = DiffTensor.symbol(tuple(leaf.shape), numpy_dtype(leaf.dtype))
            node = input_node(label, symbol.shape, symbol.dtype)
            given[i], starts[symbol.node] = symbol, node  # type: ignore[index]
            places[-1] = len(inputs)
            inputs.append(node)
    parameters: dict[str, tuple[Node, Any]] = {}
    taken = {n.name for n in inputs}
    unique = {id(t): (label, t) for label, t in reversed(captured(function, leaves) if held is None else held)}
    with symbolic([*reversed(unique.values())]) as tensors:
        for label, tensor in tensors:
            label = _free(label, taken)
            node = input_node(label, tensor.shape, tensor.dtype)
            starts[tensor.node], parameters[label] = node, (node, tensor)  # type: ignore[index]
        lowering = Lowering(starts, custom=effects is not None)
        changed: list[tuple[DiffTensor, DiffTensor]] = []
        try:
            with recording(effects):
                outputs = function(*optree.tree_unflatten(tree, given))
        except Exception as error:
            raise explained(error, lowering, None) from error
        finally:
            changed = [] if effects is None else effects.restored()
        results = tuple(optree.tree_leaves(outputs))
        draws = () if effects is None else tuple(effects.draws)
        for i, (_, symbol) in enumerate(draws):
            inputs.append(input_node(_free(f"random{i}", taken), symbol.shape, symbol.dtype))
            lowering.made[symbol.node] = starts[symbol.node] = inputs[-1]  # type: ignore[index]
        values = [new for _, new in changed]
        lowering.lowered(
            [r.node for r in (*results, *values) if isinstance(r, DiffTensor) and r.raw is None]
        )  # all in the tape's order
        outputs = optree.tree_map(lowering.node, outputs if effects is None else (outputs, values))  # type: ignore[arg-type]
    label = name or str(getattr(function, "__name__", type(function).__name__))
    arguments = optree.tree_unflatten(tree, places)
    graph = UniversalGraph(
        inputs, outputs, arguments=arguments, parameters=parameters, name=label, order=lowering.order
    )
    symbols = {n: t for t, n in starts.items()}
    return Traced(graph, lowering, results, symbols, tuple(make for make, _ in draws), tuple(b for b, _ in changed))


def fixed(value: Any) -> str:
    """What stands in the tree of arguments for one that is no array: the graph is that of this value alone."""
    return repr(value) if isinstance(value, (bool, int, float, complex, str)) else type(value).__qualname__


def _argument_names(function: Callable, count: int) -> list[str]:
    target = function.forward if isinstance(function, Module) else function
    try:
        parameters = list(inspect.signature(target).parameters.values())
    except (TypeError, ValueError):  # a builtin
        parameters = []
    names = []
    for i in range(count):
        p = parameters[min(i, len(parameters) - 1)] if parameters else None
        if p is None or p.kind == p.VAR_POSITIONAL or i >= len(parameters):
            names.append(f"{p.name if p is not None else 'x'}{i}")
        else:
            names.append(p.name)
    return names


def _free(name: str, taken: set[str]) -> str:
    """A name that is not taken yet; then it is."""
    found, k = name, 1
    while found in taken:
        found, k = f"{name}_{k}", k + 1
    taken.add(found)
    return found


def explained(error: Exception, lowering: "Lowering", line: str | None) -> Exception:
    """The error of a traced function, with the chain of nodes that led there if an operation's inputs did not fit.

    ``line`` is the line of the source to blame; None: the innermost of the user's that the error came through.
    """
    symbols = getattr(error, "symbols", None)
    if symbols is None:
        return error
    try:
        nodes = lowering.lowered(symbols)
    except GraphError:
        return error
    where = line or line_of(error)
    at = [f"  at {where}"] if where else []
    return GraphError("\n".join([str(error), *at, *(f"  {line}" for line in chain_of(nodes))]))


def line_of(error: BaseException) -> str | None:
    """The innermost line outside of the libraries that an error came through, as ``file:line in function``."""
    from autograd.context import _OURS

    found, trace = None, error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if not code.co_filename.startswith(tuple(_OURS)):
            found = f"{code.co_filename}:{trace.tb_lineno} in {code.co_name}"
        trace = trace.tb_next
    return found


# ---- symbols ----


@contextmanager
def symbolic(tensors: Sequence[tuple[str, DiffTensor]]) -> Iterator[Sequence[tuple[str, DiffTensor]]]:
    """A block in which some tensors are symbolic; afterwards they are what they were."""
    before = [(t, t.raw, t.node) for _, t in tensors]
    try:
        for t, raw, _ in before:
            t.raw, t.node = None, Leaf(tuple(raw.shape), numpy_dtype(raw.dtype))
        yield tensors
    finally:
        for t, raw, node in before:
            t.raw, t.node = raw, node


# ---- from the tape to the graph ----


class Lowering:
    """Turns nodes of the tape into nodes of the graph.

    Args:
        starts: what is lowered already: inputs, and nodes that a replayed graph has.
        since: the serial number of the tape at which tracing began; None: it begins now.
        custom: whether functions with derivative rules of their own may take part. The graph has what they compute and not their
            rules, so it must not be differentiated: its derivative has to be made on the tape.

    Attributes:
        has_custom: whether such functions did.
    """

    def __init__(self, starts: Mapping[TapeNode, Node], since: int | None = None, custom: bool = False):
        self.custom, self.has_custom = custom, False
        self.made: dict[TapeNode, Node] = dict(starts)
        self.since = next_serial() if since is None else since
        self.order: list[Node] = []  # the nodes made, in the tape's order
        self._constants: dict[int, tuple[Any, Node]] = {}  # the arrays are held, so that no other gets their id

    def node(self, value: Any) -> Node:
        """The node of what a traced function returned: a symbolic tensor, or a constant."""
        if isinstance(value, DiffTensor):
            if value.raw is None:
                return self.lowered([value.node])[0]
            if value.node is not None:
                return self._tracked(value.raw, value.node, None)
            value = value.raw
        if type(value) in (bool, int, float, complex) or backend.is_array(value):
            return self._constant(value)
        raise GraphError(
            f"a traced function returned {type(value).__name__} {value!r:.60}; it must return tensors, arrays or numbers, or "
            "nested dicts, lists and tuples of them"
        )

    def lowered(self, nodes: Sequence[Any]) -> list[Node]:
        made = self.made
        for node in self._symbols(nodes):
            row, source = node.row, getattr(node, "source", None)
            if isinstance(node, Fixed):
                made[node] = self._constant(node.value)
                continue
            if row is None:
                raise self._captured(node, source)
            if row is PICK:
                primal = _primal(node)
                if primal is not None:
                    if not self.custom:
                        raise self._custom(node.parents[0].row.name)
                    self.has_custom = True
                made[node] = pick(made[node.parents[0]], node.params["index"]) if primal is None else self.node(primal)
                continue
            base = OPS.get(row.name)
            if base is not None and base.kernels is row.kernels:
                row = base  # of a variadic row, its form for one number of inputs
            elif not hasattr(row, "infer"):
                raise self._custom(row.name)
            inputs = [
                made[p] if x is None else self._constant(x) if p is None else self._tracked(x, p, source)
                for x, p in zip(node.saved[1:], node.parents, strict=True)
            ]
            made[node] = apply(row, inputs, node.params, source)
            self.order.append(made[node])
        return [made[n] for n in nodes]

    def _symbols(self, nodes: Sequence[TapeNode]) -> list[TapeNode]:
        """The symbolic nodes that some depend on and that are not lowered yet, oldest first."""
        order = [n for n in dict.fromkeys(nodes) if n not in self.made]
        seen = set(order)
        for node in order:  # the list grows while it is walked
            primal = _primal(node)
            values: tuple = (None,) if node.row is PICK else node.saved[1:]
            parents = node.parents if primal is None else (primal.node,) if primal.raw is None else ()
            for x, p in zip(values[: len(parents)], parents, strict=True):
                if x is None and p not in seen and p not in self.made:
                    seen.add(p)
                    order.append(p)
        return sorted(order, key=lambda n: n.serial)

    @staticmethod
    def _custom(name: str) -> GraphError:
        return GraphError(
            f"{name} has a derivative rule of its own (custom_vjp or primitive) and is no operation of the table, so "
            f"a graph cannot hold it; call {name}.fun, or build it of operations of the table"
        )

    def _constant(self, value: Any) -> Node:
        found = self._constants.get(id(value))
        if found is None:
            found = self._constants[id(value)] = (value, constant(value))
        return found[1]

    def _tracked(self, raw: Any, node: TapeNode, source: str | None) -> Node:
        """The constant for an array that something tracks: a variable of a derivative within the traced function. One that was
        there before is refused: it will change."""
        if any(n.row is None and n.serial < self.since for n in ancestors([node])):
            raise self._captured(raw, source)
        return self._constant(raw)

    def _captured(self, raw: Any, source: str | None) -> GraphError:
        return GraphError(
            f"a tracked tensor of shape {tuple(raw.shape)} is used{f' at {source}' if source else ''} that is neither an argument nor a "
            "parameter of a module the function was seen to hold; pass it, or its module, as an argument, or detach() it to "
            "make its present value a constant"
        )


def _primal(node: TapeNode) -> DiffTensor | None:
    """Of an output of a function with a rule of its own: the value that this was computed as."""
    if node.row is not PICK:
        return None
    outputs = getattr(node.parents[0].row, "primal", None)
    return None if outputs is None else outputs[node.params["index"]]


# ---- from the graph to the tape ----


def replay(nodes: Iterable[Node], made: dict[Node, Any]) -> None:
    """Run nodes through the table's functions, on whatever ``made`` holds for the inputs: symbols, tensors or arrays."""
    for node in nodes:
        if node in made:
            continue
        if node.row is CONSTANT:
            made[node] = node.value
        elif node.row is PICK:
            made[node] = made[node.inputs[0]][node.attributes["index"]]
        elif node.row is INPUT:
            raise GraphError(f"no value was given for the input {node.name!r}")
        else:
            inputs = [made[n] for n in node.inputs]
            given = (inputs,) if node.row.variadic else inputs
            made[node] = node.row.apply(*given, **node.attributes)


def gradient(graph: UniversalGraph, loss: Node, wrt: Sequence[Node]) -> tuple[list[Node], list[Node]]:
    """The nodes of the gradients of a scalar node with respect to some inputs, and the nodes made for them in their order.

    A value that the graph has once gets its gradient once, where eager code that computes it twice adds up two.

    Raises:
        GraphError: the loss is not one real number, or an input is of a dtype that has no gradient.
    """
    if loss.shape != () or np.dtype(loss.dtype).kind == "c":
        raise GraphError(f"grad: the loss must be one real number, not {described(loss)}; reduce it, with sum or mean")
    for node in wrt:
        if not backend.is_inexact(node.dtype):
            raise GraphError(
                f"grad: the input {node.name!r} is of {node.dtype}; only floating-point and complex values have gradients"
            )
    made: dict[Node, Any] = {n: DiffTensor.symbol(n.shape, n.dtype) for n in graph.nodes if n.row is INPUT}
    replay(graph.nodes, made)
    starts = places_of(made)
    top = made[loss]
    found: dict = {}
    if isinstance(top, DiffTensor) and top.node is not None:
        seed = DiffTensor.symbol((), top.dtype)  # a symbol, so that nothing is computed from it here
        starts[seed.node] = constant(np.ones((), top.dtype)[()])  # type: ignore[index]
        found = BackwardPass([top], [made[n] for n in wrt if n in made]).run([seed])
    lowering = Lowering(starts)
    nodes = []
    for n in wrt:
        d = found.get(made[n].node) if n in made else None
        nodes.append(zeros(n) if d is None else lowering.node(d))
    return nodes, lowering.order


def places_of(made: Mapping[Node, Any]) -> dict[TapeNode, Node]:
    """Which node of the graph each node of the tape is, after a replay."""
    starts: dict[TapeNode, Node] = {}
    for node, value in made.items():
        if isinstance(value, DiffTensor) and value.node is not None:
            starts[value.node] = node
        elif node.several:
            for v in value:
                if isinstance(v, DiffTensor) and v.node is not None:
                    starts[v.node.parents[0]] = node
    return starts


def zeros(like: Node) -> Node:
    """Zeros of a node's shape and dtype."""
    zero = constant(np.zeros((), like.dtype)[()])
    return zero if like.shape == () else apply(OPS["broadcast_to"], [zero], {"shape": like.shape})


def inline(graph: UniversalGraph, values: Mapping[Node, Any]) -> Any:
    """A graph's outputs on symbolic tensors (or any mixture with arrays): it becomes a part of what is being traced."""
    made = dict(values)
    replay(graph.nodes, made)
    return graph.rebuild(made[n] for n in graph.outputs)
