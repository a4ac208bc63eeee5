"""The graph's nodes: an immutable, hash-consed, static single assignment form of a program over the op table.

A ``Node`` is one value: ``(op, attributes, inputs) -> shape, dtype``. Its ``key`` is a digest of exactly that, inputs by
their keys. Equal computations *are* one object, so common subexpressions are found by building, graphs are compared by keys,
and a key names the same computation in another process. The line of source that made a node stands beside its key.

Besides the rows of the op table there are three kinds of nodes: ``INPUT`` (it has a name), ``CONSTANT`` (an array, or a Python
number, which does not widen the dtype of what it meets), and ``PICK`` (one value of an operation with several outputs; such
an operation is a node whose ``shape`` and ``dtype`` are tuples of its outputs').
"""

import hashlib
import struct
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import EllipsisType, MappingProxyType
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

from autograd import backend
from autograd.shapes import numpy_dtype
from autograd.table import OPS, Row
from autograd.tape import PICK

NUMBERS = (bool, int, float, complex)
"""Python's numbers: as constants they are weak, that is, they do not widen a dtype."""


class GraphError(ValueError):
    """A graph that cannot be made, checked or run as asked. The message says where, and what to write instead."""


class CompileWarning(UserWarning):
    """Something does not run compiled as was asked. The warning says why, and, of a function that cannot be traced, which line."""


class _Kind:
    """What stands in the place of a row in nodes that are no operations."""

    def __init__(self, name: str):
        self.name = name

    def __repr__(self) -> str:
        return f"<{self.name}>"


INPUT, CONSTANT = _Kind("input"), _Kind("constant")


class Node:
    """One value of a graph; made by ``input_node``, ``constant`` and ``apply``, never changed, and one object for equal ones.

    Attributes:
        row: the row of the op table (or a form of it, see ``autograd.precision``), ``INPUT``, ``CONSTANT`` or ``PICK``.
        attributes: the operation's parameters, all of them, by name; read-only.
        inputs: the nodes that are computed from.
        shape, dtype: of the value; tuples of them for an operation with several outputs. A Python number has shape ().
        value: of a constant: a read-only array, or a Python number.
        source: ``file:line in function`` of the line that made the node first, or None. Not part of what the node is.
        key: 16 bytes, a digest of the operation, the attributes and the inputs' keys.
    """

    __slots__ = ("__weakref__", "attributes", "dtype", "inputs", "key", "row", "shape", "source", "value")

    row: Any
    attributes: Mapping[str, Any]
    inputs: tuple["Node", ...]
    shape: Any
    dtype: Any
    value: Any
    source: str | None
    key: bytes

    @property
    def op(self) -> str:
        """The operation's name: of a row, or "input", "constant" or "output" (of an operation with several)."""
        return self.row.name  # type: ignore[no-any-return]

    @property
    def name(self) -> str:
        """Of an input: its name."""
        return self.attributes["name"]  # type: ignore[no-any-return]

    @property
    def is_operation(self) -> bool:
        """Whether a row computes it: it is no input, no constant, and not one output picked from several."""
        return isinstance(self.row, Row)

    @property
    def several(self) -> bool:
        """Whether it has several outputs, so that ``PICK`` nodes stand for its values."""
        return self.is_operation and self.row.outputs != 1

    @property
    def operand(self) -> Any:
        """What the table's rules are given for it as an input: itself, or, of a constant, the value."""
        return self.value if self.row is CONSTANT else self

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        """Elements of the value."""
        size = 1
        for n in self.shape:
            size *= n
        return size

    @property
    def nbytes(self) -> int:
        """Bytes of the value (of all outputs together, where there are several); 0 for a Python number."""
        if self.row is CONSTANT and type(self.value) in NUMBERS:
            return 0
        if self.several:
            return sum(_bytes(s, d) for s, d in zip(self.shape, self.dtype, strict=True))
        return _bytes(self.shape, self.dtype)

    def __repr__(self) -> str:
        return f"<{self.op} {described(self)}>"

    def __reduce__(self) -> Any:
        raise TypeError("nodes are not pickled; use UniversalGraph.save(path)")

    def __copy__(self) -> "Node":
        return self

    def __deepcopy__(self, _memo: Any) -> "Node":
        return self


def _bytes(shape: Sequence[int], dtype: Any) -> int:
    return int(np.prod(shape, dtype=np.int64)) * numpy_dtype(dtype).itemsize


def described(node: Node) -> str:
    """dtype and shape, as "float32(8, 64)"; of a number its value."""
    if node.row is CONSTANT and type(node.value) in NUMBERS:
        return repr(node.value)
    if node.several:
        return "(" + ", ".join(f"{d}{_told(s)}" for s, d in zip(node.shape, node.dtype, strict=True)) + ")"
    return f"{node.dtype}{_told(node.shape)}"


def _told(shape: Sequence) -> str:
    return f"({', '.join(map(str, shape))}{',' * (len(shape) == 1)})"


# ---- making nodes ----

_known: WeakValueDictionary[bytes, Node] = WeakValueDictionary()
_lock = threading.Lock()


def input_node(name: str, shape: Sequence[int], dtype: Any, source: str | None = None) -> Node:
    """A value that is given when the graph runs. Inputs of one name, shape and dtype are one."""
    shape = tuple(shape)
    return node_of(INPUT, {"name": name}, (), shape, numpy_dtype(dtype), None, source)


def constant(value: Any, source: str | None = None) -> Node:
    """A value that is part of the graph: an array of any library (copied), or a Python number."""
    if type(value) in NUMBERS:
        return node_of(CONSTANT, {}, (), (), np.dtype(type(value)), value, source)
    array = backend.asarray(value, copy=True)
    return node_of(CONSTANT, {}, (), tuple(array.shape), numpy_dtype(array.dtype), backend.freeze(array), source)


def apply(row: Row, inputs: Iterable[Node], attributes: Mapping[str, Any], source: str | None = None) -> Node:
    """The value of an operation, inferred by its row and not computed.

    Raises:
        GraphError: the inputs do not fit. It names the operation, the shapes and the source, and the nodes that led there.
    """
    inputs = tuple(inputs)
    if inputs and all(type(n.value) in NUMBERS for n in inputs):  # their result is an array, and so are they
        inputs = tuple(constant(np.asarray(n.value)[()], n.source) for n in inputs)
    attributes = frozen_attributes(attributes, row.name)
    operands = [n.operand for n in inputs]
    try:
        inferred = row.infer(*operands, **attributes)
    except Exception as error:
        raise failure(row, inputs, attributes, error, source) from error
    shape: Any
    dtype: Any
    if row.outputs == 1:
        shape, dtype = _shape(inferred[0]), numpy_dtype(inferred[1])
    else:
        shape, dtype = (tuple(part) for part in zip(*((_shape(s), numpy_dtype(d)) for s, d in inferred), strict=True))
    return node_of(row, attributes, inputs, shape, dtype, None, source)


def pick(node: Node, index: int) -> Node:
    """One output of an operation with several."""
    return node_of(PICK, {"index": index}, (node,), node.shape[index], node.dtype[index], None, node.source)


def node_of(
    row: Any, attributes: Mapping[str, Any], inputs: tuple, shape: Any, dtype: Any, value: Any, source: str | None
) -> Node:
    """The node with these parts, whose shape and dtype are taken as they are said to be."""
    digest = hashlib.blake2b(digest_size=16)
    for part in (row.name, *form_of(row), dict(attributes), value, shape, dtype):
        for piece in _encoded(part):
            digest.update(piece)
    for n in inputs:
        digest.update(n.key)
    key = digest.digest()
    with _lock:
        node = _known.get(key)
        if node is None:
            node = _known[key] = Node()
            node.row, node.attributes, node.inputs = row, MappingProxyType(dict(attributes)), inputs
            node.shape, node.dtype, node.value, node.source, node.key = shape, dtype, value, source, key
    return node


def _shape(shape: Any) -> tuple[int, ...]:
    return tuple(n if type(n) is int else int(n) for n in shape)


# ---- rows and their forms ----


def form_of(row: Any) -> tuple[str, ...]:
    """What beside its name says which form of a row it is: nothing, or the two dtypes of a form of mixed precision."""
    base = OPS.get(row.name)
    if base is None or row is base or not isinstance(row, Row):
        return ()
    for (low, due), form in base.forms.items():
        if form.kernels is row.kernels:
            return ("" if low is None else low.name, due.name)
    return ()


# ---- attributes ----


def frozen_attributes(attributes: Mapping[str, Any], op: str) -> dict[str, Any]:
    """Attributes that cannot change any more: lists become tuples, types dtypes, arrays read-only copies."""
    return {name: _frozen(value, op, name) for name, value in attributes.items()}


def _frozen(value: Any, op: str, name: str) -> Any:
    if value is None or type(value) in (bool, int, float, complex, str, EllipsisType) or isinstance(value, np.dtype):
        return value
    if isinstance(value, (list, tuple)):
        return tuple(_frozen(v, op, name) for v in value)
    if isinstance(value, slice):
        return slice(*(_frozen(v, op, name) for v in (value.start, value.stop, value.step)))
    if isinstance(value, np.generic):
        return value
    if isinstance(value, type) and (issubclass(value, np.generic) or value in NUMBERS):
        return np.dtype(value)
    if backend.is_array(value):
        return backend.freeze(backend.asarray(value, copy=True))
    if isinstance(value, (int, float)):  # a subclass, as a symbolic size
        return value
    raise GraphError(
        f"{op}: the parameter {name} is a {type(value).__module__}.{type(value).__qualname__}; a graph's parameters are numbers, "
        "strings, dtypes, slices, arrays, and tuples of them"
    )


def _encoded(value: Any) -> Iterator[bytes]:
    """Bytes that are equal exactly for equal values of equal type (-0.0 is not 0.0, 1 is not True)."""
    kind = type(value)
    if kind is float:
        yield b"f" + struct.pack("<d", value)
    elif kind is complex:
        yield b"c" + struct.pack("<dd", value.real, value.imag)
    elif kind is tuple:
        yield b"(%d" % len(value)
        for v in value:
            yield from _encoded(v)
    elif kind is dict:
        yield b"{%d" % len(value)
        for k in sorted(value):
            yield from _encoded(k)
            yield from _encoded(value[k])
    elif kind is slice:
        yield b"s"
        yield from _encoded((value.start, value.stop, value.step))
    elif isinstance(value, np.dtype):
        yield b"d" + value.name.encode() + b";"
    elif isinstance(value, (np.ndarray, np.generic)):
        yield b"a" + value.dtype.name.encode() + repr(value.shape).encode() + b"g" * isinstance(value, np.generic)
        yield np.ascontiguousarray(value).tobytes()
    elif backend.is_array(value):
        yield backend.xp(value).__name__.encode()
        yield from _encoded(np.asarray(backend.to_device(value, "cpu")))
    else:
        text = repr(value).encode()
        yield b"%s:%d:" % (kind.__name__.encode(), len(text)) + text


# ---- what went wrong, and where ----

CHAIN = 6
"""How many nodes that led to an error its message shows."""


def failure(row: Any, inputs: Sequence[Node], attributes: Mapping, error: Exception, source: str | None) -> GraphError:
    """The error for an operation whose inputs do not fit: operation, shapes, source, and the chain of nodes that led there."""
    given = ", ".join([*map(described, inputs), *(f"{k}={v!r}" for k, v in attributes.items())])
    lines = [f"{row.name}({given}): {error}"]
    if source is not None:
        lines.append(f"  at {source}")
    lines += [f"  {line}" for line in chain_of(inputs)]
    return GraphError("\n".join(lines))


def chain_of(nodes: Iterable[Node], limit: int = CHAIN) -> list[str]:
    """The nodes that led to some nodes, those nearest first, one a line."""
    order = list(dict.fromkeys(nodes))
    lines: list[str] = []
    for node in order:  # the list grows while it is walked: breadth first
        if len(lines) == limit:
            return [*lines, "…"]
        if node.row is CONSTANT and type(node.value) in NUMBERS:
            continue
        name = f" {node.name!r}" if node.row is INPUT else ""
        lines.append(f"from {node.op}{name} {described(node)}" + (f", {node.source}" if node.source else ""))
        order += [n for n in node.inputs if n not in order]
    return lines
