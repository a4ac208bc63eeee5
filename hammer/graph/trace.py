"""Tracing: a function run once on symbolic tensors becomes a graph; a graph replayed on them is differentiated or inlined.

Nothing is computed: operations on symbolic tensors append nodes to the tape (``autograd.dispatch``), and ``Lowering`` turns the
tape's nodes into the graph's. A derivative is made the same way: the graph is replayed on symbols, the ordinary backward
pass runs over them with the ordinary rules, and what these append is lowered too, onto the forward nodes that are there.
"""

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import optree

from autograd import backend
from autograd.context import not_the_callers
from autograd.errors import NoValueError
from autograd.nn.module import Module
from autograd.shapes import numpy_dtype
from autograd.table import OPS
from autograd.tape import PICK, BackwardPass, Leaf, ancestors
from autograd.tape import Node as TapeNode
from autograd.tensor import DiffTensor

from .graph import UniversalGraph, is_number
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


def trace_once(function: Callable, specs: Sequence[Any], name: str | None = None) -> UniversalGraph:
    """The graph of a function of arguments of known sizes (see ``UniversalGraph.trace``)."""
    paths, leaves, tree = optree.tree_flatten_with_path(tuple(specs))  # type: ignore[arg-type,var-annotated]
    first = _argument_names(function, len(specs))
    given, inputs, places = list(leaves), [], []
    starts: dict[TapeNode, Node] = {}
    for i, (path, leaf) in enumerate(zip(paths, leaves, strict=True)):
        places.append(None)
        if isinstance(leaf, Spec) or isinstance(leaf, DiffTensor) or backend.is_array(leaf):
            label = getattr(leaf, "name", None) or ".".join([first[path[0]], *map(str, path[1:])])
            symbol = DiffTensor.symbol(tuple(leaf.shape), numpy_dtype(leaf.dtype))
            node = input_node(label, symbol.shape, symbol.dtype)
            given[i], starts[symbol.node] = symbol, node  # type: ignore[index]
            places[-1] = len(inputs)
            inputs.append(node)
    parameters: dict[str, tuple[Node, Any]] = {}
    taken = {n.name for n in inputs}
    with symbolic(_captured(function, leaves)) as captured:
        for label, tensor in captured:
            label = _free(label, taken)
            node = input_node(label, tensor.shape, tensor.dtype)
            starts[tensor.node], parameters[label] = node, (node, tensor)  # type: ignore[index]
        lowering = Lowering(starts)
        try:
            outputs = function(*optree.tree_unflatten(tree, given))
        except Exception as error:
            raise _explained(error, lowering) from error
        outputs = optree.tree_map(lowering.node, outputs)
    label = name or getattr(function, "__name__", type(function).__name__)
    arguments = optree.tree_unflatten(tree, places)
    return UniversalGraph(inputs, outputs, arguments=arguments, parameters=parameters, name=label)


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


def _explained(error: Exception, lowering: "Lowering") -> Exception:
    """The error of a traced function, with the chain of nodes that led there if an operation's inputs did not fit."""
    symbols = getattr(error, "symbols", None)
    if symbols is None:
        return error
    from autograd.context import caller

    try:
        nodes = lowering.lowered(symbols)
    except GraphError:
        return error
    where = _line_of(error) or caller()
    return GraphError("\n".join([str(error), f"  at {where}", *(f"  {line}" for line in chain_of(nodes))]))


def _line_of(error: BaseException) -> str | None:
    """The innermost line outside of the libraries that an error came through, as ``file:line in function``."""
    from autograd.context import _OURS

    found, trace = None, error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if not code.co_filename.startswith(tuple(_OURS)):
            found = f"{code.co_filename}:{trace.tb_lineno} in {code.co_name}"
        trace = trace.tb_next
    return found


# ---- parameters that a function holds ----


def _captured(function: Callable, leaves: Iterable[Any]) -> list[tuple[str, DiffTensor]]:
    """The tensors of the modules, and the tracked ones, that a function reaches by itself: of the module that it is or is a
    method of, in its closure, its globals, its defaults, or among its arguments."""
    found: dict[str, Any] = {}
    stack: list[Any] = [function]
    while stack:
        f = stack.pop()
        if isinstance(f, functools.partial):
            stack.append(f.func)
            found |= {f"argument{i}": v for i, v in enumerate(f.args)} | dict(f.keywords)
        elif inspect.ismethod(f):
            found[""] = f.__self__
            stack.append(f.__func__)
        elif inspect.isfunction(f):
            stack.append(getattr(f, "__wrapped__", None))
            closure = inspect.getclosurevars(f)
            held = {**closure.globals, **closure.nonlocals, **(f.__kwdefaults__ or {})}
            found |= held | {f"default{i}": v for i, v in enumerate(f.__defaults__ or ())}
            stack += [v for v in held.values() if inspect.isfunction(v) and v.__module__ == f.__module__ and v is not f]
        elif isinstance(f, Module):
            found[""] = f
    found |= {f"argument{i}": leaf for i, leaf in enumerate(leaves) if isinstance(leaf, Module)}
    modules = {name: v for name, v in found.items() if isinstance(v, Module)}
    tensors: dict[int, tuple[str, DiffTensor]] = {}
    for name, module in modules.items():
        prefix = f"{name}." if len(modules) > 1 and name else ""
        for label, t in (*module.named_parameters(), *module.named_buffers()):
            tensors.setdefault(id(t), (prefix + label, t))
    for name, v in found.items():
        if isinstance(v, DiffTensor) and isinstance(v.node, Leaf):
            tensors.setdefault(id(v), (name, v))
    return list(tensors.values())


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
    """

    def __init__(self, starts: Mapping[TapeNode, Node]):
        self.made: dict[TapeNode, Node] = dict(starts)
        self._constants: dict[int, tuple[Any, Node]] = {}  # the arrays are held, so that no other gets their id

    def node(self, value: Any) -> Node:
        """The node of what a traced function returned: a symbolic tensor, or a constant."""
        if isinstance(value, DiffTensor):
            if value.raw is None:
                return self.lowered([value.node])[0]
            if value.node is not None:
                raise self._captured(value.raw, None)
            value = value.raw
        if type(value) in (bool, int, float, complex) or backend.is_array(value):
            return self._constant(value)
        raise GraphError(
            f"a traced function returned {type(value).__name__} {value!r:.60}; it must return tensors, arrays or numbers, or "
            "nested dicts, lists and tuples of them"
        )

    def lowered(self, nodes: Sequence[Any]) -> list[Node]:
        made = self.made
        for node in reversed(ancestors([n for n in nodes if n not in made])):
            if node in made:
                continue
            row, source = node.row, getattr(node, "source", None)
            if row is None:
                raise GraphError(
                    f"a symbolic tensor {node.dtype}{node.shape} is used that is not one of the arguments; pass it as one"
                )
            if row is PICK:
                made[node] = pick(made[node.parents[0]], node.params["index"])
                continue
            base = OPS.get(row.name)
            if base is not None and base.kernels is row.kernels:
                row = base  # of a variadic row, its form for one number of inputs
            elif not hasattr(row, "infer"):
                raise GraphError(
                    f"{row.name} has a derivative rule of its own (custom_vjp or primitive) and is no operation of the table, so "
                    f"a graph cannot hold it; call {row.name}.fun, or build it of operations of the table"
                )
            inputs = [
                made[p] if x is None else self._constant(x) if p is None else self._raise(x, source)
                for x, p in zip(node.saved[1:], node.parents, strict=True)
            ]
            made[node] = apply(row, inputs, node.params, source)
        return [made[n] for n in nodes]

    def _constant(self, value: Any) -> Node:
        found = self._constants.get(id(value))
        if found is None:
            found = self._constants[id(value)] = (value, constant(value))
        return found[1]

    def _raise(self, raw: Any, source: str | None) -> Node:
        raise self._captured(raw, source)

    def _captured(self, raw: Any, source: str | None) -> GraphError:
        return GraphError(
            f"a tracked tensor of shape {tuple(raw.shape)} is used{f' at {source}' if source else ''} that is neither an argument nor a "
            "parameter of a module the function was seen to hold; pass it, or its module, as an argument, or detach() it to "
            "make its present value a constant"
        )


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


def gradient(graph: UniversalGraph, loss: Node, wrt: Sequence[Node]) -> list[Node]:
    """The nodes of the gradients of a scalar node with respect to some inputs.

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
    starts = _places(made)
    top = made[loss]
    found: dict = {}
    if isinstance(top, DiffTensor) and top.node is not None:
        found = BackwardPass([top], [made[n] for n in wrt if n in made]).run()
    lowering = Lowering(starts)
    nodes = []
    for n in wrt:
        d = found.get(made[n].node) if n in made else None
        nodes.append(zeros(n) if d is None else lowering.node(d))
    return nodes


def _places(made: Mapping[Node, Any]) -> dict[TapeNode, Node]:
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


__all__ = ["Lowering", "NoValueError", "Spec", "gradient", "inline", "is_number", "replay", "symbolic", "trace_once"]
