"""UniversalGraph: a program over the op table as a value, to be checked, differentiated, optimised, run and kept.

A graph is its outputs: what they do not reach is not there, so there is never dead code. Graphs do not change; everything that
is done to one (``grad``, ``optimize``, ``select``, ``bind``) gives another, which shares the nodes they have in common.

The other files of this folder each do one thing to graphs, and the methods here are thin: ``trace`` makes them of functions,
``builder`` of nodes; ``sizes`` lets a size be a symbol; ``passes`` and ``algebra`` rewrite them; ``execute`` runs them;
``show`` and ``view`` print and draw them, ``cost`` weighs them, ``profile`` times them, and ``files`` keeps them.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optree

from autograd import backend
from autograd.tensor import DiffTensor

from .ir import CONSTANT, INPUT, NUMBERS, GraphError, Node, described

_flatten: Callable[[Any], tuple[list[Any], Any]] = optree.tree_flatten  # type: ignore[assignment]


class UniversalGraph:
    """A graph with named inputs, parameters, and a tree of outputs.

    Attributes:
        nodes: all that the outputs need, each after those it is computed from.

    Args:
        inputs: the input nodes in the order of the arguments' leaves.
        outputs: what it computes, a tree (nested dicts, lists, tuples) of nodes.
        arguments: the tree of the positional arguments, with the input's place at each leaf (or a text, for
            an argument that is no array; see ``trace.fixed``); None: one argument for each input.
        parameters: further inputs that need not be given, by name: their values, arrays or (followed as they change) DiffTensors.
        name: for printing.
        order: nodes in the order of the program, as far as there is one. It is the order in which a node's uses are met, and so in
            which the parts of its gradient are added up.

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
        order: Iterable[Node] = (),
    ):
        self.inputs = tuple(inputs)
        self.name = name
        self.arguments = tuple(range(len(self.inputs))) if arguments is None else arguments
        self._plans: dict[tuple[type, bool], Any] = {}
        found, self._results = _flatten(outputs)
        for output in found:
            if not isinstance(output, Node) or output.several:
                raise GraphError(
                    f"{name}: an output is {output!r:.80}; outputs are nodes of one value (pick one of several)"
                )
        self.outputs: tuple[Node, ...] = tuple(found)
        reached = set(order_of(self.outputs))
        self.nodes: tuple[Node, ...] = tuple(order_of([*(n for n in order if n in reached), *self.outputs]))
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

    @classmethod
    def trace(cls, function: Callable, *specs: Any, name: str | None = None) -> Any:
        """The graph of a function, which is run once on symbolic tensors; nothing is computed.

        Args:
            function: of arrays, or trees of them, made of operations of ``autograd``; or a Module. It must not look at values.
            specs: for each argument a ``Spec``, or an example array or tensor, or a tree of them. Anything else (numbers,
                strings, functions, Modules) is passed as it is. A name among the sizes of a Spec, as "B", stands for a size
                that is known only when the graph runs: the result is then a ``SizedGraph``.
            name: for printing; None: the function's.

        The parameters and buffers of Modules that the function holds (by being one or a method of one, in its closure,
        globals, defaults or arguments) become the graph's parameters: their values are read when the graph runs.

        Raises:
            GraphError: inputs of an operation do not fit; the message has the operation, the shapes, the line of the source and
                the nodes that led there. Or a tracked tensor is used that is neither an argument nor a parameter.
            NoValueError: the function asks for a value, as an ``if`` on data does.
        """
        from .sizes import trace_sized
        from .trace import trace_once

        return trace_sized(function, specs, name) or trace_once(function, specs, name)

    # ---- what it is ----

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

    def with_outputs(
        self, outputs: Any, name: str | None = None, order: Iterable[Node] | None = None
    ) -> "UniversalGraph":
        """A graph of the same inputs and parameters with other outputs, a tree of nodes; ``order`` as above, None: as here."""
        return UniversalGraph(
            self.inputs,
            outputs,
            arguments=self.arguments,
            parameters={k: (n, self.parameters[k]) for k, n in self.parameter_nodes.items()},
            name=name or self.name,
            order=self.nodes if order is None else order,
        )

    def select(self, choose: Callable[[Any], Any]) -> "UniversalGraph":
        """The graph of some outputs: ``graph.select(lambda outputs: outputs["loss"])``. What only the others need goes."""
        return self.with_outputs(choose(self.tree))

    def map(self, change: Callable[[Node, tuple[Node, ...]], Node]) -> "UniversalGraph":
        """The graph with each node replaced: ``change(node, new_inputs)`` is called from the inputs on."""
        made: dict[Node, Node] = {}
        for node in self.nodes:
            made[node] = change(node, tuple([made[n] for n in node.inputs]))
        return self.with_outputs(self.rebuild(made[n] for n in self.outputs), order=made.values())

    # ---- what is done with it ----

    def __call__(self, *args: Any, **parameters: Any) -> Any:
        """The outputs for some arguments (arrays or tensors), as arrays; bit for bit what eager code computes.

        Args:
            args: as the traced function's. On symbolic tensors nothing runs: the graph becomes a part of what is traced.
            parameters: values to use in place of parameters' own, by name.

        Raises:
            GraphError: an argument does not fit.
        """
        from .execute import class_of, given_values

        if any(isinstance(x, DiffTensor) and x.raw is None for x in _flatten(args)[0]):
            return self._inlined(args, parameters)
        values = given_values(self, args, parameters)
        return self.rebuild(self.plan(class_of(values))(values))

    def plan(self, array_class: type = np.ndarray, exact: bool = True) -> Any:
        """The program that runs the graph on arrays of a class (see ``execute.make_plan``); made once."""
        from .execute import make_plan

        key = array_class, exact
        if key not in self._plans:
            self._plans[key] = make_plan(self, array_class, exact)
        return self._plans[key]

    def _inlined(self, args: tuple, parameters: dict[str, Any]) -> Any:
        from .trace import inline

        places, tree = _flatten(self.arguments)
        leaves = tree.flatten_up_to(args)
        values = {self.inputs[p]: leaf for p, leaf in zip(places, leaves, strict=True) if not isinstance(p, str)}
        for node, value in values.items():
            if tuple(value.shape) != node.shape or value.dtype != node.dtype:
                raise GraphError(
                    f"{self.name}: the input {node.name!r} is {described(node)}, the value given {value.dtype}{tuple(value.shape)}"
                )
        own = {**self.parameters, **parameters}
        return inline(self, values | {node: own[key] for key, node in self.parameter_nodes.items()})

    def grad(self, loss: Any = None, wrt: Any = None, value: bool = False) -> "UniversalGraph":
        """The graph of a gradient: a new graph of the same inputs, which can be differentiated again.

        Args:
            loss: which output: None (the only one), a key or place among the outputs, or a function of the tree of outputs that
                returns one of its nodes. It must be one real number.
            wrt: the name of an input or parameter, or several; None: every parameter that has gradients, or, of a graph
                without parameters, every such input.
            value: whether the outputs come too: the result is then the pair of them and the gradients.

        Returns:
            A graph whose output is the gradient (a dict of them by name, if ``wrt`` is not one name).

        Raises:
            GraphError: no such output or input, or one that has no gradient.
        """
        from .trace import gradient

        node = self._output(loss)
        names = [wrt] if isinstance(wrt, str) else list(self._differentiable() if wrt is None else wrt)
        nodes = [self.named(n) for n in names]
        found, order = gradient(self, node, nodes)
        result = found[0] if isinstance(wrt, str) else dict(zip(names, found, strict=True))
        return self.with_outputs(
            (self.tree, result) if value else result, f"grad of {self.name}", [*self.nodes, *order]
        )

    def optimize(self, exact: bool = True, watch: Callable[[str, Any], None] | None = None) -> "UniversalGraph":
        """The same computation with less: all passes of ``passes``, until nothing changes.

        Args:
            exact: whether results must keep every bit (for arguments in C order). If not, they may differ by rounding.
            watch: called as ``watch(pass_name, graph)`` after each pass that has changed something.
        """
        from .passes import optimize

        return optimize(self, exact, watch)

    def cost(self) -> Any:
        """FLOPs, bytes and arithmetic intensity, of each operation and in total, by the table (``cost.Cost``; print it)."""
        from .cost import cost

        return cost(self)

    def profile(self, *args: Any, repeats: int = 5, exact: bool = True, peaks: Any = None, **parameters: Any) -> Any:
        """The time that each step of the graph's plan takes on these arguments, beside its roofline (``profile.Profile``; print it).

        Args:
            args, parameters: as of a call.
            repeats: how often the plan is run step by step, and as a whole; times are medians.
            exact: which plan: as of ``plan``.
            peaks: a ``profile.Peaks``; None: measured once in a process, in about a second.
        """
        from .profile import profile

        return profile(self, args, parameters, repeats, exact, peaks)

    def to_dot(self) -> str:
        """The graph in the DOT language of Graphviz."""
        from .show import to_dot

        return to_dot(self)

    def to_mermaid(self) -> str:
        """The graph as a flowchart of Mermaid."""
        from .show import to_mermaid

        return to_mermaid(self)

    def to_html(self, backward: "UniversalGraph | None" = None, profile: Any = None) -> str:
        """The graph as one HTML page that needs no network: zoom, search, FLOPs, bytes, memory and source line of each node.

        Args:
            backward: a graph of the gradient of this one (not optimised, so that they have their nodes in common): what only it
                has is drawn beside, from the bottom up.
            profile: of either graph, to show the time of each operation.
        """
        from .view import to_html

        return to_html(self, backward, profile)

    def save_html(self, path: Path | str, backward: "UniversalGraph | None" = None, profile: Any = None) -> None:
        """Write the page that ``to_html`` makes to a file, as a whole or not at all."""
        from .view import save_html

        save_html(self, path, backward, profile)

    def save(self, path: Path | str) -> None:
        """Keep it as one file, with the present values of its parameters: JSON and arrays, versioned, checksummed, no code.

        Raises:
            CheckpointError: the name does not end with ``.safetensors``, or the disk refuses.
        """
        from .files import save, to_state

        save(path, to_state(self), self.parameters)

    @staticmethod
    def load(path: Path | str) -> Any:
        """The graph (or ``SizedGraph``) of a file that ``save`` has written. Parameters are arrays.

        Raises:
            CheckpointError: the file is damaged or cannot be read. GraphError: it holds something else, or another version.
        """
        from .files import load
        from .sizes import of_file

        return load(path, of_file)

    def _differentiable(self) -> list[str]:
        nodes = list(self.parameter_nodes.values()) or list(self.inputs)
        found = [n.name for n in nodes if backend.is_inexact(n.dtype) and self._is_trained(n.name)]
        if not found:
            raise GraphError(f"{self.name}: no input has a dtype with gradients; name one with wrt=")
        return found

    def _is_trained(self, name: str) -> bool:
        held = self.parameters.get(name)
        return not isinstance(held, DiffTensor) or held.requires_grad

    def _output(self, which: Any) -> Node:
        found = which(self.tree) if callable(which) else self.tree if which is None else None
        if which is not None and not callable(which):
            try:
                found = self.tree[which]
            except (KeyError, IndexError, TypeError):
                raise GraphError(f"{self.name}: there is no output {which!r}; the outputs are {self.tree}") from None
        if not isinstance(found, Node):
            raise GraphError(f"{self.name}: the loss must be one output; name it with loss=, of {self.tree}")
        return found

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
