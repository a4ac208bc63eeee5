"""Running a graph: a plan is the graph as straight-line Python over the rows' kernels, made once and called often.

A plan calls the kernels that eager code calls, on arrays of the same memory layout, so its results are equal to the last bit.
It saves what eager code spends around them: look-ups, tensors and tape. Values are let go at their last use, and elementwise
results are written over arrays that nobody reads any more (``out=``), where that changes neither bits nor layout:

* only ufuncs write into a given array, and only into one of the result's shape and dtype that a ufunc of this run made;
* a value that may be a view of another (what a kernel outside ``FRESH`` returns) keeps that one alive;
* chains of them on large arrays run tile by tile (``tiles``);
* memory order decides in which order a later sum adds up, so an input that is not in C order has NumPy choose the order.

A plan may also *write*: the value of an output goes into the array that was given for an input, as a training step's new
parameters do. Everything that reads the old value comes before that.

``plan.source`` is the program, to be read. An error in it names the operation, its inputs, and the line of the user's source.
"""

import contextlib
import operator
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import optree

from autograd import backend
from autograd.shapes import numpy_dtype

from .graph import UniversalGraph, is_number, value_of
from .ir import CONSTANT, INPUT, PICK, CompileWarning, GraphError, Node, described
from .tiles import Region, regions

UFUNCS: dict[Any, np.ufunc] = {
    operator.add: np.add, operator.sub: np.subtract, operator.mul: np.multiply, operator.truediv: np.true_divide,
    operator.neg: np.negative, operator.pos: np.positive, operator.abs: np.absolute, operator.floordiv: np.floor_divide,
    operator.mod: np.remainder, operator.eq: np.equal, operator.ne: np.not_equal, operator.lt: np.less,
    operator.le: np.less_equal, operator.gt: np.greater, operator.ge: np.greater_equal, operator.and_: np.bitwise_and,
    operator.or_: np.bitwise_or, operator.xor: np.bitwise_xor, operator.invert: np.invert,
    operator.lshift: np.left_shift, operator.rshift: np.right_shift,
}  # fmt: skip
"""The ufuncs that Python's operators are on NumPy's arrays. Not ``**``, which chooses among several by its exponent."""

FRESH = frozenset((
    "matmul", "linear", "sum", "mean", "prod", "max", "min", "var", "std", "norm", "logsumexp", "softmax", "log_softmax",
    "share", "cross_entropy", "cross_entropy_rule", "conv", "conv_weight", "conv_transpose", "scatter",
    "index_add", "sigmoid", "gelu", "silu", "stack", "argmax", "argmin",
))  # fmt: skip
"""Rows whose NumPy kernels return memory of their own, never a view of an input."""

VIEWS = frozenset(("reshape", "expand_dims", "squeeze"))
"""Rows whose results are in C order if their input is."""

SMALL = 1024
"""Bytes below which an array is neither written over nor let go before the run ends: it costs more than it saves."""
RECENT = 16
"""How many operations an array may wait, unread, to be written over; older ones are let go."""


def ufunc_of(node: Node, array_class: type = np.ndarray) -> np.ufunc | None:
    """The ufunc that computes a node on NumPy arrays, or None."""
    if not node.is_operation or array_class is not np.ndarray:
        return None
    kernel = node.row.kernels[np.ndarray]
    found = kernel if isinstance(kernel, np.ufunc) else UFUNCS.get(kernel)
    return found if found is not None and found.nout == 1 and not node.attributes else None


def may_be_view(node: Node) -> bool:
    """Whether a node's value may share memory with one of its inputs."""
    return node.row is PICK or (node.is_operation and ufunc_of(node) is None and node.op not in FRESH)


def last_uses(nodes: Sequence[Node], outputs: Iterable[Node]) -> tuple[dict[Node, int], dict[Node, int]]:
    """At which of the nodes each value is read last, by name, and through views of it; the outputs at ``len(nodes)``."""
    own = dict.fromkeys(outputs, len(nodes))
    for i, node in enumerate(nodes):
        for n in node.inputs:
            own[n] = max(own.get(n, 0), i)
    memory = dict(own)
    for node in reversed(nodes):
        if may_be_view(node):
            for n in node.inputs:
                memory[n] = max(memory[n], memory[node])
    return own, memory


def sharing(nodes: Iterable[Node], lying: Mapping[Node, Node]) -> dict[Node, set[Node]]:
    """For each node that may share memory with inputs, those; ``lying`` says in which input's memory some nodes lie."""
    shared: dict[Node, set[Node]] = {n: {at} for n, at in lying.items()}
    for node in nodes:
        if node not in shared and may_be_view(node):
            found = set().union(*(shared.get(n, ()) for n in node.inputs))
            if found:
                shared[node] = found
    return shared


def _copied(x: Any) -> Any:
    return backend.xp(x).asarray(x, copy=True)


def in_order(nodes: Iterable[Node]) -> set[Node]:
    """The nodes whose values are surely in C order, if the inputs are."""
    found: set[Node] = set()
    for node in nodes:
        if surely_in_order(node, found):
            found.add(node)
    return found


def surely_in_order(node: Node, found: set[Node]) -> bool:
    """Whether a node's value is surely in C order, if those found are and the inputs of the graph."""
    if is_number(node) or node.shape == () or node.row is INPUT:
        return True
    if node.row is CONSTANT:
        return getattr(node.value, "flags", None) is not None and bool(node.value.flags.c_contiguous)
    if node.op in ("matmul", "linear"):
        return node.ndim <= 2  # of stacks of matrices the axes before come in the order of the inputs'
    return (ufunc_of(node) is not None or node.op in VIEWS) and found.issuperset(node.inputs)


def make_plan(
    graph: UniversalGraph,
    array_class: type = np.ndarray,
    exact: bool = True,
    writes: Mapping[int, int] | None = None,
) -> Any:
    """What runs a graph: called with a list of raw arrays for the inputs and the parameters, it returns a tuple of the outputs.

    Args:
        graph: of known sizes.
        array_class: of the arrays that it will run on.
        exact: whether every bit must be that of the rows' kernels; else results may differ by rounding.
        writes: output's place -> input's place (parameters come after the inputs): the output's value is written into the array
            given for that input, which is what is returned for it. Other outputs are then copies where they could share its
            memory. The arrays given must not overlap.

    Raises:
        GraphError: a write between values of different shapes or dtypes, of a value without axes (a NumPy number cannot be
            written to), or two to one input.
    """
    if not exact and array_class is np.ndarray:
        native = _native(graph, writes)
        if native is not None:
            return native
    elif not exact and backend.namespace(array_class).__name__ == "cupy":
        from .cuda import CudaPlan, Unlowered

        with contextlib.suppress(Unlowered):
            return CudaPlan(graph, array_class, checked_writes(graph, writes or {}))
    return Plan(graph, array_class, writes=writes)


def _native(graph: UniversalGraph, writes: Mapping[int, int] | None) -> Any:
    """The plan as machine code; None where there is none, which is said once."""
    from .native import NativePlan, Unlowered, unavailable

    reason = unavailable()
    if reason is not None:
        if reason not in _told:
            _told.add(reason)
            warnings.warn(
                f"graphs run by NumPy, operation by operation, not as machine code: {reason}",
                CompileWarning,
                stacklevel=4,
            )
        return None
    try:
        return NativePlan(graph, checked_writes(graph, writes or {}))
    except Unlowered:
        return None


_told: set[str] = set()


def checked_writes(graph: UniversalGraph, writes: Mapping[int, int]) -> dict[int, int]:
    """The writes of a plan, found to be possible."""
    inputs = (*graph.inputs, *graph.parameter_nodes.values())
    for place, to in writes.items():
        value, into = graph.outputs[place], inputs[to]
        if value.shape != into.shape or value.dtype != into.dtype or not into.shape:
            raise GraphError(
                f"{graph.name}: output {place}, {described(value)}, cannot be written into the input {into.name!r}, "
                f"{described(into)}; both need one shape, of an axis or more, and one dtype"
            )
    if len(set(writes.values())) < len(writes):
        raise GraphError(f"{graph.name}: two outputs are to be written into one input: {dict(writes)}")
    return dict(writes)


class Plan:
    """A graph made ready to run on arrays of one class; ``make_plan`` makes it, and says what the arguments are.

    Args:
        reuse: whether elementwise results may be written over dead ones (NumPy's arrays only).

    Attributes:
        source: the program, as Python text.
    """

    def __init__(
        self,
        graph: UniversalGraph,
        array_class: type = np.ndarray,
        reuse: bool = True,
        writes: Mapping[int, int] | None = None,
    ):
        self.graph, self.array_class = graph, array_class
        self.reuse = reuse and array_class is np.ndarray
        self._inputs = (*graph.inputs, *graph.parameter_nodes.values())
        self.writes = checked_writes(graph, writes or {})
        self.var: dict[Node, str] = {n: f"x{i}" for i, n in enumerate(self._inputs)}
        self._names: dict[str, Any] = {}
        self._lines: dict[int, Node] = {}
        self.source = "\n".join(self._written()) + "\n"
        exec(
            compile(self.source, f"<plan of {graph.name}>", "exec"), self._names
        )  # text of ours: names and numbers only
        self._run: Callable = self._names["run"]
        self._plain: Plan | None = None  # for inputs that are not in C order

    def __call__(self, values: Sequence[Any]) -> tuple:
        """The outputs, as raw arrays, of raw arrays for the inputs and the parameters, which have their shapes and dtypes."""
        if self.reuse:
            for v in values:
                if not v.flags.c_contiguous:
                    if self._plain is None:
                        self._plain = Plan(self.graph, self.array_class, reuse=False, writes=self.writes)
                    return self._plain(values)
        try:
            return self._run(*values)  # type: ignore[no-any-return]
        except Exception as error:
            raise self._explained(error) from error

    def _explained(self, error: Exception) -> Exception:
        """An operation's error, with its inputs and the line of the source that asked for it."""
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code is not self._run.__code__:
            trace = trace.tb_next
        node = None if trace is None else self._lines.get(trace.tb_lineno)
        if trace is None or node is None or not node.is_operation:
            return error
        values = {**self._names, **trace.tb_frame.f_locals}
        failed = node.row.failure(error, tuple(values[self.var[n]] for n in node.inputs), dict(node.attributes))
        return type(failed)(f"{failed}\n  at {node.source}") if node.source else failed  # type: ignore[no-any-return]

    # ---- writing the program ----

    def _written(self) -> list[str]:
        nodes = self.graph.nodes
        self._regions: dict[Node, Region] = {}
        if self.reuse:
            order, self._regions = regions(nodes, self.graph.outputs, ufunc_of)
            nodes = tuple(order)
        inside = {n for n, region in self._regions.items() if n not in region.outputs}
        own, memory = last_uses(nodes, self.graph.outputs)
        ends: dict[int, list[Node]] = {}
        for n, i in own.items():
            ends.setdefault(i, []).append(n)
        donors = self._donors(nodes, memory) if self.reuse else {}
        self._in_order = in_order(nodes)
        given = set(donors.values())
        before: list[str] = []  # functions, of regions
        lines = [f"def run({', '.join(self.var[n] for n in self._inputs)}):"]
        done: list[Node] = []  # what is not needed any more
        for i, node in enumerate(nodes):
            if node.row is INPUT:
                continue
            if node.row is CONSTANT:
                self.var[node] = self._name("c", node.value)
                continue
            self.var[node] = f"v{i}"
            region = self._regions.get(node)
            done += [
                n for n in ends.get(i, ()) if n.row not in (INPUT, CONSTANT) and n not in given and n not in inside
            ]
            if region is not None:
                if node is region.nodes[-1]:
                    before += self._loop(region, donors, lines)
            else:
                lines.append("    " + self._statement(node, donors.get(node)))
                self._lines[len(lines)] = node
                done += [donors[node]] if node in donors and donors[node].row is not INPUT else []
            if region is None or node is region.nodes[-1]:
                done = [n for n in done if n.several or n.nbytes >= SMALL]
                if done:
                    lines.append(f"    del {', '.join(self.var[n] for n in done)}")
                done = []
        self._lines = {k + len(before): node for k, node in self._lines.items()}
        return before + lines + [f"    {line}" for line in self._ending(donors)]

    def _loop(self, region: Region, donors: dict[Node, Node], lines: list[str]) -> list[str]:
        """Add what runs a region to the program; returns the region's function."""
        name = f"tiles{len(self._names)}"
        into = {n: self.var[donors[n]] for n in region.outputs if n in donors}
        made = region.lines(name, self.var, into, lambda x: self._name("f", ufunc_of(x) if isinstance(x, Node) else x))
        arrays = [self.var[n] for n in region.arrays]
        targets = [v for v in dict.fromkeys(into.values()) if v not in arrays]
        given = ", ".join([*arrays, *(self.var[n] for n in region.numbers), *targets])
        call = f"{''.join(f'{self.var[n]}, ' for n in region.outputs)}= {name}({given})"
        checked = [self.var[n] for n in region.arrays if n not in self._in_order]
        if not checked:
            lines.append(f"    {call}")
            return made
        lines.append(f"    if {' and '.join(f'{v}.flags.c_contiguous' for v in checked)}:")
        lines += [f"        {call}", "    else:"]
        lines += [f"        {self._statement(n, None)}" for n in region.nodes]
        inside = [self.var[n] for n in region.nodes if n not in region.outputs]
        lines += [f"        del {', '.join(inside)}"] if inside else []
        return made

    def _ending(self, donors: dict[Node, Node]) -> list[str]:
        """The last lines: writes, and what is returned."""
        outputs = self.graph.outputs
        given = [self.var[n] for n in outputs]
        written = {self._inputs[to] for to in self.writes.values()}
        shares = sharing(self.graph.nodes, {n: n for n in written} | {n: d for n, d in donors.items() if d in written})
        before, after = [], []
        for place, node in enumerate(outputs):
            into = self._inputs[self.writes[place]] if place in self.writes else None
            there = into is not None and into in (node, donors.get(node))
            if node in shares and not there:
                given[place] = f"o{place}"  # what it shares memory with is written first
                before.append(f"o{place} = {self._name('f', _copied)}({self.var[node]})")
            if into is not None and into is not node:
                name = self.var[into]
                after.append(f"if {given[place]} is not {name}: " * there + f"{name}[...] = {given[place]}")
                given[place] = name
        return [*before, *after, f"return ({''.join(f'{name}, ' for name in given)})"]

    def _donors(self, nodes: Sequence[Node], memory: dict[Node, int]) -> dict[Node, Node]:
        """For each node that is written over the memory of a dead one, that one."""
        donors: dict[Node, Node] = {}
        free: dict[tuple, list[tuple[int, Node]]] = {}
        place_of = {n: i for i, n in enumerate(nodes)}
        for place, to in self.writes.items():  # an output into its input's array, if nothing reads that any more
            node, into = self.graph.outputs[place], self._inputs[to]
            if ufunc_of(node) is not None and node not in donors and memory.get(into, 0) <= place_of[node]:
                donors[node] = into
        dying: dict[int, list[Node]] = {}
        for n in nodes:
            if ufunc_of(n) is not None and n.nbytes >= SMALL and n not in self._regions:
                dying.setdefault(memory.get(n, len(nodes)), []).append(n)
        for i, node in enumerate(nodes):
            for n in dying.get(i, ()):  # at their last reader: a ufunc may write over what it reads
                free.setdefault((n.shape, n.dtype), []).append((i, n))
            if ufunc_of(node) is not None and node.nbytes >= SMALL and node not in donors and node not in self._regions:
                waiting = free.get((node.shape, node.dtype), [])
                while waiting:
                    since, n = waiting.pop()
                    if i - since <= RECENT:
                        donors[node] = n
                        break
        return donors

    def _statement(self, node: Node, donor: Node | None) -> str:
        var = self.var[node]
        if node.row is PICK:
            return f"{var} = {self.var[node.inputs[0]]}[{node.attributes['index']}]"
        names = [self.var[n] for n in node.inputs]
        parameters = [f"{k}={self._name('p', v)}" for k, v in node.attributes.items()]
        if donor is not None:
            checked = [n for n in dict.fromkeys((*node.inputs, donor)) if n not in self._in_order]
            condition = " and ".join(f"{self.var[n]}.flags.c_contiguous" for n in checked)
            out = f"({self.var[donor]} if {condition} else None)" if checked else self.var[donor]
            return f"{var} = {self._name('f', ufunc_of(node))}({', '.join(names)}, out={out})"
        kernel = self._name("f", node.row.kernels[self.array_class])
        first = f"[{', '.join(names)}]" if node.row.variadic else ", ".join(names)
        return f"{var} = {kernel}({', '.join([first, *parameters])})"

    def _name(self, letter: str, value: Any) -> str:
        name = f"{letter}{len(self._names)}"
        self._names[name] = value
        return name


def given_values(graph: UniversalGraph, args: Sequence[Any], named: dict[str, Any]) -> list[Any]:
    """Arguments, in their trees, and parameters, as a list of raw arrays for a plan: checked.

    Raises:
        GraphError: an argument is missing or one too many, or of another structure, shape or dtype than the graph's input.
    """
    arguments: Any = graph.arguments
    places, tree = optree.tree_flatten(arguments)
    found: list[Any] = [None] * len(graph.inputs)
    try:
        leaves: list[Any] = tree.flatten_up_to(tuple(args))  # type: ignore[arg-type]
    except ValueError as error:
        raise GraphError(
            f"{graph.name}: the arguments are not of the graph's structure, {_argument_names(graph)}: {error}"
        ) from None
    for place, leaf in zip(places, leaves, strict=True):
        if isinstance(place, str):
            check_fixed(graph.name, place, leaf)
        else:
            found[place] = getattr(leaf, "raw", leaf)
    own = {**graph.parameters, **named}
    unknown = set(named) - set(graph.parameters)
    if unknown:
        graph.named(min(unknown))  # raises, with the names that there are, unless it is an argument
        raise GraphError(f"{graph.name}: pass the input {min(unknown)!r} in its place, not by name")
    found += [value_of(own[name]) for name in graph.parameter_nodes]
    nodes = (*graph.inputs, *graph.parameter_nodes.values())
    for i, (value, node) in enumerate(zip(found, nodes, strict=True)):
        found[i] = value = backend.asarray(value) if not backend.is_array(value) or np.ndim(value) == 0 else value
        if tuple(value.shape) != node.shape or numpy_dtype(value.dtype) != node.dtype:
            raise GraphError(
                f"{graph.name}: the input {node.name!r} is {described(node)}, the value given {value.dtype}{tuple(value.shape)}"
            )
    return found


def _argument_names(graph: UniversalGraph) -> Any:
    return optree.tree_map(lambda p: p if isinstance(p, str) else graph.inputs[p].name, graph.arguments)  # type: ignore[arg-type]


def check_fixed(name: str, place: str, value: Any) -> None:
    """Refuse an argument that is no array and not the one that the graph was traced with."""
    from .trace import fixed

    if fixed(value) != place:
        raise GraphError(
            f"{name}: this graph was traced with the argument {place}, so it cannot be run with {fixed(value)}"
        )


def class_of(values: Iterable[Any]) -> type:
    """The class of array that a plan for these values runs on."""
    return next((type(v) for v in values if not isinstance(v, (np.ndarray, np.generic))), np.ndarray)
