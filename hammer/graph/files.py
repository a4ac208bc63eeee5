"""Graphs as plain data, and as files.

``to_state`` makes of a graph nested dicts, lists and tuples of numbers, strings and arrays; ``from_state`` makes the graph of
them again, checking every operation as it is built. A file is that state in one safetensors file, written whole or not at all,
versioned and checksummed, by what writes checkpoints (``autograd.train.files``). Nothing in a file is ever run: operations
are looked up in the op table by their names.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import EllipsisType
from typing import Any

import numpy as np
import optree

from autograd import backend
from autograd.errors import unknown
from autograd.halves import half_dtype
from autograd.table import OPS, Row
from autograd.tape import PICK

from .graph import UniversalGraph, value_of
from .ir import CONSTANT, INPUT, GraphError, Node, apply, constant, form_of, input_node, node_of, pick

VERSION = 1
KIND = "universal graph"


def to_state(graph: UniversalGraph) -> dict[str, Any]:
    """A graph as plain data, without the values of its parameters."""
    nodes = list(dict.fromkeys([*graph.inputs, *graph.parameter_nodes.values(), *graph.nodes]))
    place = {node: i for i, node in enumerate(nodes)}
    return {
        "kind": KIND,
        "version": VERSION,
        "name": graph.name,
        "nodes": [_node_state(node, place) for node in nodes],
        "inputs": [place[n] for n in graph.inputs],
        "parameters": {name: place[n] for name, n in graph.parameter_nodes.items()},
        "arguments": graph.arguments,
        "outputs": graph.rebuild(place[n] for n in graph.outputs),
    }


def _node_state(node: Node, place: Mapping[Node, int]) -> dict[str, Any]:
    if node.is_operation and node.op not in OPS:
        raise GraphError(f"{node.op} is no operation of the op table, so a graph that has it cannot be kept")
    many = node.several
    return {
        "op": node.op,
        "form": form_of(node.row),
        "attributes": {k: encoded(v) for k, v in node.attributes.items()},
        "inputs": [place[n] for n in node.inputs],
        "shape": [list(s) for s in node.shape] if many else list(node.shape),
        "dtype": [np.dtype(d).name for d in node.dtype] if many else np.dtype(node.dtype).name,
        "value": encoded(node.value),
    }


def encoded(value: Any) -> Any:
    """An attribute, or a constant's value, as plain data: what a state cannot hold becomes a dict of one entry."""
    if isinstance(value, tuple):
        return tuple(map(encoded, value))
    if isinstance(value, complex) and not isinstance(value, np.generic):
        return {"complex": (value.real, value.imag)}
    if isinstance(value, np.dtype):
        return {"dtype": value.name}
    if isinstance(value, slice):
        return {"slice": (value.start, value.stop, value.step)}
    if isinstance(value, EllipsisType):
        return {"ellipsis": True}
    if isinstance(value, np.ndarray) and value.flags.f_contiguous and not value.flags.c_contiguous:
        return {"transposed": value.T}  # memory order is part of what a constant is: sums depend on it
    return value


def decoded(value: Any) -> Any:
    """What ``encoded`` was given."""
    if isinstance(value, tuple):
        return tuple(map(decoded, value))
    if not isinstance(value, dict):
        return value
    ((kind, inner),) = value.items()
    if kind == "complex":
        return complex(*inner)
    if kind == "dtype":
        return dtype_of(inner)
    if kind == "slice":
        return slice(*inner)
    if kind == "transposed":
        return inner.T
    if kind == "ellipsis":
        return Ellipsis
    raise GraphError(f"the graph has a value of the unknown kind {kind!r}")


def dtype_of(name: str) -> np.dtype:
    """The dtype of a name, bfloat16 included."""
    return half_dtype("bf16") if name == "bfloat16" else np.dtype(name)


def row_of(name: str, form: tuple[str, ...]) -> Row:
    """The row of a name, in the form of mixed precision that two dtypes name.

    Raises:
        GraphError: the table has no such row.
    """
    if name not in OPS:
        raise GraphError(unknown("operation", name, OPS))
    row = OPS[name]
    if not form:
        return row
    from autograd.dispatch import function_of
    from autograd.precision import _form

    low, due = form
    found = _form(row, dtype_of(low) if low else None, dtype_of(due))
    if found.apply is row.apply:
        found.apply = function_of(found)
    return found  # type: ignore[no-any-return]


def from_state(state: Mapping[str, Any], parameters: Mapping[str, Any], checked: bool = True) -> UniversalGraph:
    """The graph of plain data.

    Args:
        parameters: the parameters' values by name.
        checked: whether shapes and dtypes are inferred anew, and compared with those stated; else they are believed.

    Raises:
        GraphError: of another version, or an operation that is unknown, does not fit its inputs, or gives something else.
    """
    if state.get("kind") != KIND or state.get("version") != VERSION:
        raise GraphError(
            f"this is a {state.get('kind', 'state of something else')} of version {state.get('version')}; graphs of version {VERSION} are read"
        )
    nodes: list[Node] = []
    for entry in state["nodes"]:
        node = (_checked if checked else _believed)(entry, [nodes[i] for i in entry["inputs"]])
        stated = _stated(entry)
        if (node.shape, node.dtype) != stated:
            raise GraphError(
                f"node {len(nodes)}, {node.op}: the graph says {stated}, but it is {(node.shape, node.dtype)}"
            )
        nodes.append(node)
    return UniversalGraph(
        [nodes[i] for i in state["inputs"]],
        optree.tree_map(nodes.__getitem__, state["outputs"]),
        arguments=state["arguments"],
        parameters={name: (nodes[i], parameters[name]) for name, i in state["parameters"].items()},
        name=state["name"],
        order=nodes,
    )


def _stated(entry: Mapping[str, Any]) -> tuple:
    if isinstance(entry["dtype"], list):
        return tuple(map(tuple, entry["shape"])), tuple(map(dtype_of, entry["dtype"]))
    return tuple(entry["shape"]), dtype_of(entry["dtype"])


def _checked(entry: Mapping[str, Any], inputs: list[Node]) -> Node:
    op, attributes = entry["op"], {k: decoded(v) for k, v in entry["attributes"].items()}
    if op == INPUT.name:
        return input_node(attributes["name"], *_stated(entry))
    if op == CONSTANT.name:
        return constant(decoded(entry["value"]))
    if op == PICK.name:
        return pick(inputs[0], attributes["index"])
    row = row_of(op, tuple(entry["form"]))
    wanted = set(row.params)
    if set(attributes) != wanted:
        raise GraphError(f"{op}: the graph has the parameters {sorted(attributes)}, the operation {sorted(wanted)}")
    return apply(row, inputs, attributes)


def _believed(entry: Mapping[str, Any], inputs: list[Node]) -> Node:
    kinds: dict[str, Any] = {INPUT.name: INPUT, CONSTANT.name: CONSTANT, PICK.name: PICK}
    row = kinds.get(entry["op"]) or row_of(entry["op"], tuple(entry["form"]))
    attributes = {k: decoded(v) for k, v in entry["attributes"].items()}
    value = decoded(entry["value"])
    if backend.is_array(value):
        value = backend.freeze(backend.asarray(value, copy=True))
    shape, dtype = _stated(entry)
    return node_of(row, attributes, tuple(inputs), shape, dtype, value, None)


def save(path: Path | str, state: Mapping[str, Any], parameters: Mapping[str, Any]) -> None:
    """Write a graph's state and the present values of its parameters to one file, whose name ends with ``.safetensors``.

    Raises:
        CheckpointError: the disk refuses, or a library is missing.
    """
    from autograd.train.files import save_state

    values = {name: value_of(v) for name, v in parameters.items()}
    save_state(path, {"graph": dict(state), "values": values}, {"kind": KIND, "version": VERSION})


def load(path: Path | str, make: Callable[[Mapping, Mapping], Any]) -> Any:
    """What ``make(state, parameters)`` makes of a file of ``save``.

    Raises:
        CheckpointError: the file is damaged or cannot be read. GraphError: it is of another kind or version, or makes no sense.
    """
    from autograd.train.files import load_state

    content = load_state(path)
    if "graph" not in content:
        raise GraphError(f"{path}: this is a checkpoint, but not of a graph")
    try:
        return make(content["graph"], content["values"])
    except GraphError as error:
        raise GraphError(f"{path}: {error}") from None
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise GraphError(f"{path}: the graph makes no sense ({type(error).__name__}: {error})") from error
