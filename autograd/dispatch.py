"""How a row is called: the function that users know an operation by.

A call takes the raw arrays out of its tensors, runs the kernel of their array class, and, if an input is tracked, leaves a
node behind that keeps what the derivative rules read. Three functions do that. ``_general`` handles everything: any
number of inputs, parameters, contexts, symbolic tensors, arrays of ours and of others. ``_unary`` and ``_binary`` are the
same thing straightened out for the common case (tensors and Python numbers, no context, all parameters by name); what
else they meet they pass on. Called without any tensor, as derivative rules call them in a first-order backward pass, all three
just run the kernel.
"""

import importlib
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from . import backend, batching, precision
from .backend import HOST_SCALARS
from .batch import Batch
from .context import caller, current
from .tape import PICK, Node, Spec, next_serial
from .tensor import DiffTensor

if TYPE_CHECKING:
    from .table import Row

_new_tensor, _new_node = DiffTensor.__new__, Node.__new__
_NO_PARAMS: dict[str, Any] = {}


def function_of(row: "Row") -> Callable:
    """The function that calls a row."""
    general = _general(row)
    if row.variadic or row.outputs != 1 or len(row.vjps) > 2 or (len(row.vjps) == 2 and row.params):
        return general
    return _unary(row, general) if len(row.vjps) == 1 else _binary(row, general)


def _general(row: "Row") -> Callable:
    n, kernels, count, variadic, single = len(row.vjps), row.kernels, len(row.params), row.variadic, row.outputs == 1

    def apply(*args: Any, **params: Any) -> Any:
        this = row
        if variadic:
            args, extra = tuple(args[0]), args[1:]
            this = row.of_arity(len(args))
            if extra or len(params) != count:
                params = _bind(row, 1, extra, params)
        elif len(args) != n or len(params) != count:
            args, params = args[:n], _bind(row, len(args[:n]), args[n:], params)
        raw: list[Any] = []
        parents: list[Node | None] = []
        mask = foreign = 0  # bits of the inputs that are tracked, and of those whose arrays are not ours
        tensors = symbolic = False
        cls: type = np.ndarray
        bit = 1
        for a in args:
            node = None
            kind = type(a)
            if kind is DiffTensor:
                tensors, node, a = True, a.node, a.raw
                kind = type(a)
                if node is not None:
                    mask |= bit
                    if a is None:
                        symbolic = True
                    elif kind not in HOST_SCALARS and cls is not Batch:
                        cls = kind
                elif kind not in HOST_SCALARS and cls is not Batch:
                    cls = kind
            elif kind not in HOST_SCALARS:
                if kind is list or kind is tuple:
                    a = backend.asarray(a)
                else:
                    cls = kind if cls is not Batch else cls
                    foreign |= bit
            raw.append(a)
            parents.append(node)
            bit += bit
        context = current() if tensors else None
        if mask and context is not None and context.levels and batching.lift(raw, parents, context.levels):
            mask, cls = sum(1 << i for i, p in enumerate(parents) if p is not None), Batch
        if context is not None and context.low is not None and cls is not Batch:
            chosen, cast = precision.form(this, args, context.low)
            if chosen is not this:
                if chosen.apply is this.apply:
                    chosen.apply = _general(chosen)
                return chosen.apply(cast, **params) if variadic else chosen.apply(*cast, **params)
        if symbolic and cls is not Batch:
            out = _symbolic(this, raw, parents, params)
            return out if context is None or context.recording else _stopped(out)
        try:
            if cls is Batch:
                out = batching.run(row, raw, params)
            else:
                out = kernels[cls](raw, **params) if variadic else kernels[cls](*raw, **params)
        except Exception as error:
            if cls is Batch and not isinstance(error, (IndexError, TypeError, ValueError)):
                raise  # an operation on the physical arrays has said it
            raise row.failure(error, tuple(raw), params) from error
        if not tensors:
            return out
        mask &= this.differentiable if context is None or context.recording else 0
        node = _record(this, raw, parents, mask, foreign, out, params) if mask else None
        if context is not None and context.keeper is not None:
            context.keeper.recorded(this, node, raw, parents, foreign, params, out)
        if single:
            result: Any = _new_tensor(DiffTensor)
            result.raw, result.node = out, node
        else:
            result = tuple(_pick(o, node, i) for i, o in enumerate(out))
        if context is not None and cls is not Batch:  # what batches do is seen when it is done
            context.saw(row, tuple(raw), params, (out,) if single else out, (result,) if single else result)
        return result

    return apply


def _record(row: "Row", raw: list, parents: list, mask: int, foreign: int, out: Any, params: dict) -> Node:
    """The node of a call. An array that is not ours could change before it is read: a copy is kept of it."""
    keeps = row.keeps(mask)
    saved = [out if keeps[0] else None]
    for i, a in enumerate(raw):
        if keeps[i + 1]:
            saved.append(backend.xp(a).asarray(a, copy=True) if foreign >> i & 1 else a)
        elif parents[i] is not None:
            saved.append(parents[i])
        else:
            saved.append(a if type(a) in HOST_SCALARS else Spec(a.shape, a.dtype))
    node = _new_node(Node)
    node.row, node.saved, node.params, node.hooks = row, tuple(saved), params, None
    if mask + 1 == 1 << len(raw):
        node.parents = tuple(parents)
    else:
        node.parents = tuple([p if mask >> i & 1 else None for i, p in enumerate(parents)])
    if row.outputs == 1:
        node.shape, node.dtype = out.shape, out.dtype
    else:
        node.shape, node.dtype = tuple(o.shape for o in out), tuple(o.dtype for o in out)
    node.serial = next_serial()
    return node


def _pick(out: Any, node: Node | None, index: int) -> DiffTensor:
    """One output of several: a tensor whose node takes that output from the operation's node."""
    if node is None or not backend.is_inexact(node.dtype[index]):
        return DiffTensor._wrap(out, None)
    return DiffTensor._wrap(out, Node(PICK, (node,), (), {"index": index}, node.shape[index], node.dtype[index]))


def _symbolic(row: "Row", raw: list, parents: list, params: dict) -> Any:
    """Append a graph node: nothing is computed. It knows its source line, as does the error of inputs that do not fit."""
    inputs = [p if a is None else a for a, p in zip(raw, parents, strict=True)]
    try:
        inferred = row.infer(*inputs, **params)
    except Exception as error:
        failed = row.failure(error, tuple(inputs), params)
        failed.symbols = [p for p in parents if p is not None]  # type: ignore[attr-defined]
        raise failed from error
    if row.outputs == 1:
        node = Node(row, tuple(parents), (None, *raw), params, *inferred)
        node.source = caller()
        return DiffTensor._wrap(None, node)
    shapes, dtypes = zip(*inferred, strict=True)
    node = Node(row, tuple(parents), ((None,) * len(shapes), *raw), params, shapes, dtypes)
    node.source = caller()
    return tuple(
        DiffTensor._wrap(None, Node(PICK, (node,), (), {"index": i}, shape, dtype))
        for i, (shape, dtype) in enumerate(inferred)
    )


def _stopped(out: Any) -> Any:
    """Symbolic outputs of a block that records nothing: no gradient may flow back through them."""
    stop = importlib.import_module(".custom", __package__).stop_gradient.row
    return tuple(_stopped(o) for o in out) if isinstance(out, tuple) else _symbolic(stop, [None], [out.node], {})


def _bind(row: "Row", given: int, extra: tuple, params: dict) -> dict:
    """All parameters by name: those passed by position, those passed by keyword, and the defaults of the rest."""
    names = tuple(row.params)
    if given < len(row.vjps) or len(extra) > len(names):
        wanted = f"{len(row.vjps)} array{'s' * (len(row.vjps) != 1)}" + (
            f" and then {', '.join(names)}" if names else ""
        )
        raise TypeError(f"{row.name}() takes {wanted}; {given + len(extra)} arguments were given")
    bound = {**row.params, **dict(zip(names, extra, strict=False)), **params}
    for key in params:
        if key not in row.params:
            raise TypeError(
                f"{row.name}() has no parameter {key!r}" + (f"; it has {', '.join(names)}" if names else "")
            )
        if key in names[: len(extra)]:
            raise TypeError(f"{row.name}() got {key!r} both by position and by name")
    for key, value in bound.items():
        if value is inspect.Parameter.empty:
            raise TypeError(f"{row.name}() needs the parameter {key!r}")
    return bound


def _unary(row: "Row", general: Callable) -> Callable:
    kernels, differentiable, count = row.kernels, row.differentiable, len(row.params)
    keeps_out, keeps_x = row.keeps(1)

    def apply(x: Any, *others: Any, **params: Any) -> Any:
        kind = type(x)
        if others or len(params) != count:
            return general(x, *others, **params)
        if kind is DiffTensor:
            raw, parent = x.raw, x.node
            if raw is None or current() is not None:
                return general(x, **params)
        elif kind is np.ndarray or kind in HOST_SCALARS:
            raw = x
        else:
            return general(x, **params)
        try:
            out = kernels[type(raw)](raw, **params)
        except Exception as error:
            raise row.failure(error, (raw,), params) from error
        if raw is x:
            return out
        result = _new_tensor(DiffTensor)
        result.raw = out
        if parent is None or not differentiable:
            result.node = None
            return result
        result.node = node = _new_node(Node)
        node.row, node.parents, node.params, node.hooks = row, (parent,), params, None
        node.saved = (out if keeps_out else None, raw if keeps_x else parent)
        node.shape, node.dtype, node.serial = out.shape, out.dtype, next_serial()
        return result

    return apply


def _binary(row: "Row", general: Callable) -> Callable:
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
        elif type(y) is DiffTensor and (type(x) is float or type(x) is int):
            a, p, b, q = x, None, y.raw, y.node
        elif type(x) is np.ndarray and (type(y) is np.ndarray or type(y) is float or type(y) is int):
            a, b, p, q = x, y, None, None
        else:
            return general(x, y)
        if a is None or b is None:
            return general(x, y)
        cls = type(a)
        if cls is not np.ndarray and cls in HOST_SCALARS:
            cls = type(b)
        try:
            out = kernels[cls](a, b)
        except Exception as error:
            raise row.failure(error, (a, b), {}) from error
        if a is x and b is y:  # no tensor at all
            return out
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
        node.row, node.parents, node.params, node.hooks = row, (p, q), _NO_PARAMS, None
        node.saved = (out if keeps_out else None, a, b)
        node.shape, node.dtype, node.serial = out.shape, out.dtype, next_serial()
        return result

    return apply
