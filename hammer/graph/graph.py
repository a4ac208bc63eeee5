"""UniversalGraph: a program over the op table as a value, to be checked, differentiated, optimised, run and kept.

A graph is its outputs: what they do not reach is not there, so there is never dead code. Graphs do not change; everything that
is done to one (``grad``, ``optimize``, ``select``, ``bind``) gives another, which shares the nodes they have in common.

The other files of this folder each do one thing to graphs, and the methods here are thin: ``trace`` makes them of functions,
``builder`` of nodes; ``sizes`` lets a size be a symbol; ``passes`` and ``algebra`` rewrite them; ``execute`` runs them;
``show``, ``cost`` and ``files`` print, weigh and keep them.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import optree

from autograd.tensor import DiffTensor

from .ir import CONSTANT, INPUT, NUMBERS, GraphError, Node, described

_flatten: Callable[[Any], tuple[list[Any], Any]] = optree.tree_flatten  # type: ignore[assignment]


class UniversalGraph:
    """A graph with named inputs, parameters, and a tree of outputs.

    Args:
        inputs: the input nodes in the order of the arguments' leaves.
        outputs: what it computes, a tree (nested dicts, lists, tuples) of nodes.
        arguments: the tree of the positional arguments, with a number at each leaf; None: one argument for each input.
        parameters: further inputs that need not be given, by name: their values, arrays or (followed as they change) DiffTensors.
        name: for printing.

    Raises:
        GraphError: two inputs have one name, an input is missing, or a parameter is of another shape or dtype.
    """

    def __init__(
        self,
        inputs: Sequence[Node],
        outputs: Any,
        *,
        arguments: Any = None,
        parameters: Mapping[str, tuple[Node, Any]] | None = None,
        name: str = "graph",
    ):
        self.inputs = tuple(inputs)
        self.name = name
        self.arguments = tuple(range(len(self.inputs))) if arguments is None else arguments
        found, self._results = _flatten(outputs)
        for output in found:
            if not isinstance(output, Node) or output.several:
                raise GraphError(
                    f"{name}: an output is {output!r:.80}; outputs are nodes of one value (pick one of several)"
                )
        self.outputs: tuple[Node, ...] = tuple(found)
        reached = set(self.nodes)
        self.parameters: dict[str, Any] = {}
        self.parameter_nodes: dict[str, Node] = {}
        for key, (node, value) in (parameters or {}).items():
            if node in reached:
                self.parameters[key], self.parameter_nodes[key] = value, node
        given = [*self.inputs, *self.parameter_nodes.values()]
        names = [n.name for n in given]
        for key in names:
            if names.count(key) > 1:
                raise GraphError(f"{name}: two inputs have the name {key!r}; give each a name of its own")
        for node in self.nodes:
            if node.row is INPUT and node not in given:
                raise GraphError(
                    f"{name}: its outputs need the input {node.name!r} {described(node)}, which is not among its inputs; "
                    f"it has {', '.join(map(repr, names)) or 'none'}"
                )

    # ---- what it is ----

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes that the outputs need, each after those it is computed from; the order depends on the graph alone."""
        return tuple(order_of(self.outputs))

    @property
    def tree(self) -> Any:
        """The outputs in their structure."""
        return self.rebuild(self.outputs)

    def rebuild(self, values: Iterable) -> Any:
        """Values, in the order of ``outputs``, in the outputs' structure."""
        return optree.tree_unflatten(self._results, list(values))

    @property
    def key(self) -> str:
        """A name for what is computed, in hexadecimal: equal for equal graphs, in every process."""
        import hashlib

        parts = [n.key for n in (*self.inputs, *self.parameter_nodes.values(), *self.outputs)]
        return hashlib.blake2b(b"".join(parts) + repr(self._results).encode(), digest_size=16).hexdigest()

    def __len__(self) -> int:
        """Operations: inputs, constants and picked outputs are not counted."""
        return sum(n.is_operation for n in self.nodes)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, UniversalGraph):
            return NotImplemented
        return self.key == other.key

    __hash__ = object.__hash__

    def named(self, name: str) -> Node:
        """The input or parameter of a name.

        Raises:
            GraphError: there is none.
        """
        for node in (*self.inputs, *self.parameter_nodes.values()):
            if node.name == name:
                return node
        known = [n.name for n in (*self.inputs, *self.parameter_nodes.values())]
        raise GraphError(
            f"{self.name}: no input has the name {name!r}; it has {', '.join(map(repr, known)) or 'no inputs'}"
        )

    def with_outputs(self, outputs: Any, name: str | None = None) -> "UniversalGraph":
        """A graph of the same inputs and parameters with other outputs, a tree of nodes."""
        return UniversalGraph(
            self.inputs,
            outputs,
            arguments=self.arguments,
            parameters={k: (n, self.parameters[k]) for k, n in self.parameter_nodes.items()},
            name=name or self.name,
        )

    def select(self, choose: Callable[[Any], Any]) -> "UniversalGraph":
        """The graph of some outputs: ``graph.select(lambda outputs: outputs["loss"])``. What only the others need goes."""
        return self.with_outputs(choose(self.tree))

    def map(self, change: Callable[[Node, tuple[Node, ...]], Node]) -> "UniversalGraph":
        """The graph with each node replaced: ``change(node, new_inputs)`` is called from the inputs on."""
        made: dict[Node, Node] = {}
        for node in self.nodes:
            made[node] = change(node, tuple([made[n] for n in node.inputs]))
        return self.with_outputs(self.rebuild(made[n] for n in self.outputs))

    def __str__(self) -> str:
        from .show import text

        return text(self)

    def __repr__(self) -> str:
        given = ", ".join(f"{n.name}: {described(n)}" for n in self.inputs)
        result = ", ".join(map(described, self.outputs))
        return f"<UniversalGraph {self.name}({given}) -> {result}: {len(self)} operations, {len(self.parameters)} parameters>"


def order_of(outputs: Iterable[Node]) -> list[Node]:
    """The nodes that outputs need, each after its inputs. No recursion: graphs are as deep as programs are long."""
    order: list[Node] = []
    done: set[Node] = set()
    for output in outputs:
        stack: list[tuple[Node, int]] = [(output, 0)]
        while stack:
            node, at = stack.pop()
            if node in done:
                continue
            if at < len(node.inputs):
                stack.append((node, at + 1))
                if node.inputs[at] not in done:
                    stack.append((node.inputs[at], 0))
            else:
                done.add(node)
                order.append(node)
    return order


def users_of(nodes: Iterable[Node]) -> dict[Node, list[Node]]:
    """For each node, those computed from it (once for each use)."""
    users: dict[Node, list[Node]] = {}
    for node in nodes:
        users.setdefault(node, [])
        for n in node.inputs:
            users[n].append(node)
    return users


def value_of(parameter: Any) -> Any:
    """A parameter's array as it is now."""
    return parameter.raw if isinstance(parameter, DiffTensor) else parameter


def is_number(node: Node) -> bool:
    """Whether a node is a constant Python number."""
    return node.row is CONSTANT and type(node.value) in NUMBERS
