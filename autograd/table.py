"""The op table: a row becomes a function.

A *row* is everything there is to know about an operation: its forward kernel, its shape-and-dtype rule, one derivative
rule for each input, its cost, and the domain that its tests draw from::

    mul = op("mul", operator.mul, stretched,
             lambda g, _z, _x, y: g * y,
             lambda g, _z, x, _y: g * x)

A derivative rule is called as ``rule(g, output, *inputs, **params)`` and returns the vector-Jacobian product for its
input (complex numbers: the transpose without conjugation, as in HIPS autograd and JAX). It is ordinary arithmetic on
array-likes, and runs on three kinds of them: on raw arrays it is the first-order backward pass; on tensors it records
itself, so that derivatives of every order exist; on symbolic tensors it appends graph nodes. So a rule uses operators
and other rows only, never NumPy. Three conventions keep rules short:

* **Names say what is kept.** A parameter whose name starts with an underscore is not kept for the backward pass; the
  rule may read its ``shape``, ``dtype`` and ``ndim`` (of an input; of the output nothing).
* **The engine sums over broadcast axes** and rounds to the input's dtype; a rule returns the shape of the output.
* **A forward kernel that is a string** is looked up, when an array class is first met, in that array's own library.
  ``row.kernels[cls] = function`` overrides it for one array class.
"""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

import numpy as np

from . import backend
from .context import current
from .shapes import shape_of
from .tape import PICK, Leaf, Node, Spec, next_serial
from .tensor import DiffTensor

OPS: dict[str, "Row"] = {}
"""Every row by name."""


class Kernels(dict):
    """Forward kernels by array class, found when a class is first met."""

    def __init__(self, forward: str | Callable):
        super().__init__()
        self.forward = forward

    def __missing__(self, cls: type) -> Callable:
        library = backend.namespace(cls)
        self[cls] = found = attrgetter(self.forward)(library) if isinstance(self.forward, str) else self.forward
        return found


@dataclass(frozen=True)
class Domain:
    """Where an operation's tests draw an input from: real numbers in [low, high] at least ``gap`` away from ``avoid``.

    ``kind`` is "inexact" for differentiable inputs, else "bool" or "int".
    """

    low: float = -3.0
    high: float = 3.0
    avoid: tuple[float, ...] = ()
    gap: float = 0.1
    kind: str = "inexact"


REALS = Domain()


@dataclass(eq=False)
class Row:
    """A row of the op table. See the module's docstring for the columns."""

    name: str
    forward: str | Callable
    infer: Callable
    vjps: tuple[Callable | None, ...]
    flops: float | Callable = 1.0
    domain: tuple[Domain, ...] = (REALS,)
    outputs: int | None = 1  # None: a tuple whose length the parameters decide
    variadic: bool = False
    complex: bool = True
    params: dict[str, Any] = field(default_factory=dict)
    kernels: Kernels = field(init=False, repr=False)
    apply: Callable = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.kernels = Kernels(self.forward)
        self.reads = tuple(None if rule is None else _reads(rule, len(self.vjps)) for rule in self.vjps)
        self._keeps: dict[int, tuple[bool, ...]] = {}
        self._of_arity: dict[int, Row] = {}
        self.differentiable = sum(1 << i for i, rule in enumerate(self.vjps) if rule is not None)

    def keeps(self, mask: int) -> tuple[bool, ...]:
        """Whether the output and each input are kept, if the inputs whose bits are set in ``mask`` are tracked."""
        found = self._keeps.get(mask)
        if found is None:
            read = set().union(*(r for i, r in enumerate(self.reads) if r is not None and mask >> i & 1))
            found = self._keeps[mask] = tuple(i in read for i in range(len(self.vjps) + 1))
        return found

    def of_arity(self, n: int) -> "Row":
        """A variadic row's form for ``n`` inputs."""
        found = self._of_arity.get(n)
        if found is None:
            (rule,) = self.vjps
            found = Row(self.name, self.forward, self.infer, (rule,) * n, self.flops, self.domain, complex=self.complex, params=self.params)
            keeps_output, keeps_inputs = (_names(rule)[i][0] != "_" for i in (1, 2))
            found.reads = ({*([0] if keeps_output else ()), *(range(1, n + 1) if keeps_inputs else ())},) * n
            found.vjps = tuple(_spread(rule, i) for i in range(n))
            found.kernels, found.apply = self.kernels, self.apply
            self._of_arity[n] = found
        return found

    def cost(self, output: Any, *inputs: Any, **params: Any) -> tuple[float, int]:
        """Floating-point operations and bytes moved (each input read and each output written once) of one call.

        ``output`` and ``inputs`` are anything with a shape and dtype; ``output`` is a tuple for several outputs.
        """
        outputs = output if isinstance(output, tuple) else (output,)
        flops = self.flops(output, *inputs, **params) if callable(self.flops) else self.flops * _size(outputs[0])
        moved = sum(_size(x) * np.dtype(x.dtype).itemsize for x in (*outputs, *inputs) if hasattr(x, "dtype"))
        return float(flops), moved

    def failure(self, error: Exception, inputs: tuple, params: dict) -> Exception:
        """The error to raise instead of ``error``: the same type, naming the operation, its inputs and parameters."""
        given = ", ".join([*(f"{x.dtype}{shape_of(x)}" if hasattr(x, "dtype") else repr(x) for x in inputs), *(f"{k}={v!r}" for k, v in params.items())])
        message = f"{self.name}({given}): {error}"
        kind = next((k for k in (np.exceptions.AxisError, IndexError, ValueError, TypeError) if isinstance(error, k)), None)
        return RuntimeError(message) if kind is None else (ValueError if kind is np.exceptions.AxisError else kind)(message)

    def __repr__(self) -> str:
        return f"<row {self.name}>"


def _size(x: Any) -> int:
    return math.prod(shape_of(x))


def _names(rule: Callable) -> list[str]:
    return [p.name for p in inspect.signature(rule).parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]


def _reads(rule: Callable, inputs: int) -> set[int]:
    """What a rule reads, by its parameters' names: 0 is the output, i the i-th input."""
    return {i for i, name in enumerate(_names(rule)[1 : inputs + 2]) if name[0] != "_"}


def _spread(rule: Callable, index: int) -> Callable:
    return lambda g, out, *xs, **params: rule(g, out, xs, index, **params)


def op(name: str, forward: str | Callable, infer: Callable, *vjps: Callable | None, doc: str = "", domain: Any = REALS, **columns: Any) -> Callable:
    """Enter a row into the table and return it as a function.

    Args:
        name: the operation's name, unique in the table.
        forward: a name in the array's own library, or a function of arrays. Its keyword parameters are the
            operation's, with their defaults.
        infer: ``(*inputs, **params) -> (shape, dtype)``, for values not yet computed (see ``autograd.shapes``).
        vjps: for each input its derivative rule, or None if it has no gradient.
        doc: the public docstring.
        domain: what the tests draw inputs from: a ``Domain`` for all inputs or a tuple of one for each.
        columns: ``flops`` (a number per element of the output, or a function of output, inputs and params),
            ``outputs`` (how many; None for a tuple whose length depends on the parameters), ``variadic`` (any number of inputs, passed as a sequence; the one rule is called
            as ``rule(g, out, xs, index, **params)``), ``complex`` (whether complex inputs are allowed).
    """
    if name in OPS:
        raise ValueError(f"the op table has a row {name!r} already")
    signature = inspect.signature(forward) if callable(forward) and not isinstance(forward, np.ufunc) and forward.__module__ != "_operator" else None
    params = {p.name: p.default for p in signature.parameters.values() if p.kind is p.KEYWORD_ONLY} if signature else {}
    row = Row(name, forward, infer, vjps, domain=domain if isinstance(domain, tuple) else (domain,) * len(vjps), params=params, **columns)
    general = _general(row)
    row.apply = general if params or row.variadic or row.outputs != 1 or len(vjps) > 2 else (_unary if len(vjps) == 1 else _binary)(row, general)
    row.apply.__name__ = row.apply.__qualname__ = name
    row.apply.__doc__ = doc or None
    row.apply.row = row  # type: ignore[attr-defined]
    OPS[name] = row
    return row.apply


# ---- a row as a function ----
# `_general` does everything. `_unary` and `_binary` are the same thing straightened out for the common case (tensors or
# Python numbers, no parameters, no context); whatever else they meet they pass on to `_general`.

_new_tensor, _new_node = DiffTensor.__new__, Node.__new__
_NOTHING: dict = {}


def _general(row: Row) -> Callable:
    n, kernels, defaults = len(row.vjps), row.kernels, row.params
    names = tuple(defaults)

    def apply(*args: Any, **params: Any) -> Any:
        if row.variadic:
            args, extra = tuple(args[0]), args[1:]
            this = row.of_arity(len(args))
        else:
            args, extra = (args, ()) if len(args) == n else (args[:n], args[n:])
            this = row
        if extra or len(params) != len(defaults):
            params = _bind(row, len(args) if not row.variadic else n, extra, params)
        raw, parents, mask, foreign, bit, tensors, symbolic, cls = [], [], 0, 0, 1, False, False, np.ndarray
        for a in args:
            node = None
            if type(a) is DiffTensor:
                tensors, node, a = True, a.node, a.raw
                if node is not None:
                    mask |= bit
                    symbolic = symbolic or a is None
            elif isinstance(a, (list, tuple)) or (isinstance(a, np.ndarray) and a.ndim == 0):
                a = backend.asarray(a)
            elif type(a) not in backend.HOST_SCALARS:
                foreign |= bit
            if type(a) not in backend.HOST_SCALARS:
                cls = type(a)
            raw.append(a)
            parents.append(node)
            bit += bit
        context = current() if tensors else None
        if context is not None and not context.recording and not symbolic:
            mask = 0
        mask &= this.differentiable
        if symbolic:
            return _symbolic(this, raw, parents, params)
        try:
            out = kernels[cls](raw, **params) if row.variadic else kernels[cls](*raw, **params)
        except Exception as error:
            raise row.failure(error, tuple(raw), params) from error
        if not tensors:
            return out
        node = None
        if mask:
            keep = this.keeps(mask)
            saved = [
                a if kept or type(a) in backend.HOST_SCALARS else p if p is not None else Spec(a.shape, a.dtype)
                for a, p, kept in zip(raw, parents, keep[1:], strict=True)
            ]
            if foreign:  # an array that is not ours could change before it is read: keep a copy
                for i in range(len(saved)):
                    if foreign >> i & 1 and keep[i + 1]:
                        saved[i] = backend.xp(saved[i]).asarray(saved[i], copy=True)
            shape, dtype = (out.shape, out.dtype) if row.outputs == 1 else (tuple(o.shape for o in out), tuple(o.dtype for o in out))
            node = Node(this, tuple(p if mask >> i & 1 else None for i, p in enumerate(parents)), (out if keep[0] else None, *saved), params, shape, dtype)
        if row.outputs == 1:
            result = DiffTensor._wrap(out, node)
            handles = (result,)
        else:
            result = handles = tuple(_pick(o, node, i) for i, o in enumerate(out))
        if context is not None:
            context.saw(row, tuple(raw), params, (out,) if row.outputs == 1 else out, handles)
        return result

    if defaults:
        inputs = [inspect.Parameter(p, inspect.Parameter.POSITIONAL_OR_KEYWORD) for p in (["arrays"] if row.variadic else list(_input_names(row)))]
        given = [inspect.Parameter(k, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=d) for k, d in defaults.items()]
        apply.__signature__ = inspect.Signature(inputs + given)  # type: ignore[attr-defined]
    return apply


def _input_names(row: Row) -> tuple[str, ...]:
    if callable(row.forward):
        names = tuple(p.name for p in inspect.signature(row.forward).parameters.values() if p.kind is not p.KEYWORD_ONLY)
        if len(names) == len(row.vjps):
            return names
    return tuple("xyzuvw"[: len(row.vjps)])


def _bind(row: Row, n: int, extra: tuple, params: dict) -> dict:
    """All parameters by name: those passed by position, those passed by keyword, and the defaults of the rest."""
    names = tuple(row.params)
    if n < len(row.vjps) or len(extra) > len(names):
        raise TypeError(f"{row.name}() takes {len(row.vjps)} arrays" + (f" and then {', '.join(names)}" if names else "") + f"; {n + len(extra)} were given")
    given = dict(zip(names, extra, strict=False))
    for key in params:
        if key not in row.params or key in given:
            raise TypeError(f"{row.name}() has no parameter {key!r}" + (f"; it has {', '.join(names)}" if names else "") if key not in row.params else f"{row.name}() got {key!r} twice")
    bound = {**row.params, **given, **params}
    for key, value in bound.items():
        if value is inspect.Parameter.empty:
            raise TypeError(f"{row.name}() needs the parameter {key!r}")
    return bound


def _pick(out: Any, node: Node | None, index: int) -> DiffTensor:
    if node is None or not backend.is_inexact(node.dtype[index]):
        return DiffTensor._wrap(out, None)
    return DiffTensor._wrap(out, Node(PICK, (node,), (), {"index": index}, node.shape[index], node.dtype[index]))


def _symbolic(row: Row, raw: list, parents: list, params: dict) -> Any:
    """Append a graph node: nothing is computed."""
    inferred = row.infer(*(p if a is None else a for a, p in zip(raw, parents, strict=True)), **params)
    if row.outputs == 1:
        return DiffTensor._wrap(None, Node(row, tuple(parents), (None, *raw), params, *inferred))
    shapes, dtypes = zip(*inferred, strict=True)
    node = Node(row, tuple(parents), ((None,) * len(shapes), *raw), params, shapes, dtypes)
    return tuple(DiffTensor._wrap(None, Node(PICK, (node,), (), {"index": i}, s, t)) for i, (s, t) in enumerate(inferred))


def _unary(row: Row, general: Callable) -> Callable:
    kernels, differentiable = row.kernels, row.differentiable
    keeps_out, keeps_x = row.keeps(1)

    def apply(x: Any, *others: Any, **params: Any) -> Any:
        if type(x) is not DiffTensor or others or params or current() is not None:
            return general(x, *others, **params)
        raw, parent = x.raw, x.node
        if raw is None:
            return general(x)
        try:
            out = kernels[type(raw)](raw)
        except Exception as error:
            raise row.failure(error, (raw,), {}) from error
        result = _new_tensor(DiffTensor)
        result.raw = out
        if parent is None or not differentiable:
            result.node = None
            return result
        result.node = node = _new_node(Node)
        node.row, node.parents, node.params, node.hooks = row, (parent,), _NOTHING, None
        node.saved = (out if keeps_out else None, raw if keeps_x else parent)
        node.shape, node.dtype, node.serial = out.shape, out.dtype, next_serial()
        return result

    return apply


def _binary(row: Row, general: Callable) -> Callable:
    kernels, differentiable = row.kernels, row.differentiable
    keeps = [row.keeps(mask) for mask in range(4)]

    def apply(x: Any, y: Any, *others: Any, **params: Any) -> Any:
        if others or params or current() is not None:
            return general(x, y, *others, **params)
        if type(x) is DiffTensor:
            a, p = x.raw, x.node
            if type(y) is DiffTensor:
                b, q = y.raw, y.node
            elif type(y) is float or type(y) is int:
                b, q = y, None
            else:
                return general(x, y)
        elif type(x) is float or type(x) is int:
            if type(y) is not DiffTensor:
                return general(x, y)
            a, p, b, q = x, None, y.raw, y.node
        else:
            return general(x, y)
        if a is None or b is None:
            return general(x, y)
        cls = type(a)
        if cls is float or cls is int:
            cls = type(b)
        try:
            out = kernels[cls](a, b)
        except Exception as error:
            raise row.failure(error, (a, b), {}) from error
        result = _new_tensor(DiffTensor)
        result.raw = out
        mask = differentiable & ((p is not None) + 2 * (q is not None))
        if not mask:
            result.node = None
            return result
        keeps_out, keeps_a, keeps_b = keeps[mask]
        if not keeps_a:
            a = p if p is not None else a if x is a else Spec(a.shape, a.dtype)
        if not keeps_b:
            b = q if q is not None else b if y is b else Spec(b.shape, b.dtype)
        result.node = node = _new_node(Node)
        node.row, node.parents, node.params, node.hooks = row, (p, q), _NOTHING, None
        node.saved = (out if keeps_out else None, a, b)
        node.shape, node.dtype, node.serial = out.shape, out.dtype, next_serial()
        return result

    return apply


def leaf(array: Any) -> Leaf:
    """A new leaf for a raw array. Only floating-point and complex arrays have gradients."""
    if not backend.is_inexact(array.dtype):
        raise TypeError(f"only floating-point and complex arrays have gradients, not {array.dtype}; convert with .astype(float)")
    return Leaf(array.shape, array.dtype)


