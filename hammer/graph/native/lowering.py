"""From a graph to terms: what is fused into loops, and what is a step of its own.

A row is lowered by its kernel for array libraries, run on terms (``lazy``), unless it is in ``ROWS``. A row that cannot be
lowered becomes a ``call`` of its kernel for NumPy. So any graph of supported dtypes has a program; how much of it is compiled is
a matter of speed, not of meaning.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from autograd import backend
from autograd.ops.convolution import _fit as convolution_fit
from autograd.ops.layout import _pairs
from autograd.ops.pooling import _fit as pooling_fit

from ..graph import UniversalGraph, is_number
from ..ir import CONSTANT, INPUT, PICK, Node, form_of
from . import lazy, namespace  # noqa: F401 (terms are adopted there)
from .lazy import (
    DTYPES,
    Term,
    Unlowered,
    cast,
    elementwise,
    expand_dims,
    floating,
    iota,
    permute,
    reshape,
    stretch,
    take_along_axis,
    term,
    where,
)


@dataclass(eq=False)
class Call:
    """A step of its own: a product of matrices, a convolution, or a row's kernel for NumPy.

    Attributes:
        kind: "gemm", "conv", "conv_weight", "conv_transpose", "scan" or "python".
        args: the terms it reads.
        outputs: those it makes.
        node: of the graph, where the kernel for NumPy is called.
        given: what else the kind needs.
    """

    kind: str
    args: tuple[Term, ...]
    outputs: list[Term] = field(default_factory=list)
    node: Node | None = None
    given: Any = None


@dataclass(eq=False)
class Lowered:
    """A graph in terms.

    Attributes:
        pool: all terms, each after its arguments.
        inputs: the buffers of the graph's inputs and parameters, in their order.
        constants: array constants, by their buffer.
        outputs: one term for each output of the graph.
        calls: by the term of their first output.
        checks: inputs that are used as indices, which must be within [0, n): pairs of input number and n, and the row's name.
        apart: rows that their own kernels do.
        checked: whether what is used as an index is to be compared with its bounds before the program runs.
    """

    pool: dict = field(default_factory=dict)
    inputs: list[Term] = field(default_factory=list)
    constants: dict[Term, np.ndarray] = field(default_factory=dict)
    outputs: list[Term] = field(default_factory=list)
    calls: dict[Term, Call] = field(default_factory=dict)
    checks: list[tuple[int, int, str]] = field(default_factory=list)
    apart: frozenset[str] = frozenset()
    checked: bool = True

    def call(
        self, kind: str, args: Sequence[Term], outputs: Sequence[tuple], node: Node | None = None, given: Any = None
    ) -> list[Term]:
        """The outputs of a step, each ``(shape, dtype)``."""
        number = len(self.calls)
        made = [
            term(self.pool, "call", args, shape, dtype, (kind, number, k)) for k, (shape, dtype) in enumerate(outputs)
        ]
        self.calls[made[0]] = Call(kind, tuple(args), made, node, given)
        return made


def lowered(graph: UniversalGraph, apart: frozenset[str] = frozenset(), checked: bool = True) -> Lowered:
    """The terms of a graph. Rows with a name in ``apart`` become calls of their own kernels. Indices that are computed cannot be
    checked before the program runs: without ``checked``, none but constants are.

    Raises:
        Unlowered: it has values of other dtypes than those in ``lazy.DTYPES``.
    """
    done = Lowered(apart=apart, checked=checked)
    values: dict[Node, Any] = {}
    for i, node in enumerate((*graph.inputs, *graph.parameter_nodes.values())):
        values[node] = term(done.pool, "buffer", (), node.shape, node.dtype, ("input", i))
        done.inputs.append(values[node])
    for node in graph.nodes:
        if node.row is INPUT:
            if node not in values:
                raise Unlowered(f"no value is given for the input {node.name!r}")
        elif node.row is CONSTANT:
            values[node] = _constant(done, node)
        elif node.row is PICK:
            values[node] = values[node.inputs[0]][node.attributes["index"]]
        else:
            values[node] = _lower(done, node, [values[n] for n in node.inputs])
    for node in graph.outputs:
        value = values[node]
        done.outputs.append(value if isinstance(value, Term) else lazy.number(done.pool, value, node.dtype))
    return done


def _constant(done: Lowered, node: Node) -> Any:
    if is_number(node):
        if isinstance(node.value, complex):
            raise Unlowered("a complex number")
        return node.value
    array = np.asarray(backend.to_device(node.value, "cpu"))
    if array.ndim == 0:
        return lazy.number(done.pool, array[()], array.dtype)
    if array.dtype not in DTYPES:
        raise Unlowered(f"a constant of {array.dtype}")
    bits = np.ascontiguousarray(array).reshape(-1).view(f"u{array.itemsize}")
    if (
        array.dtype.kind == "f" and bits.size > 1 and (bits == bits[0]).all()
    ):  # as a cotangent that comes from a mean: no memory is read for it
        return stretch(lazy.number(done.pool, array.flat[0], array.dtype), array.shape)
    made = term(done.pool, "buffer", (), array.shape, array.dtype, ("constant", len(done.constants)))
    done.constants[made] = np.ascontiguousarray(array)
    return made


def _lower(done: Lowered, node: Node, inputs: list[Any]) -> Any:
    avals = list(zip(node.shape, node.dtype, strict=True)) if node.several else [(node.shape, node.dtype)]
    try:
        if form_of(node.row) or not any(isinstance(x, Term) for x in inputs) or node.op in done.apart:
            raise Unlowered("a form of mixed precision, or of constants, or a row that is to be apart")
        found = ROWS.get(node.op)
        if found is not None:
            made = found(done, *inputs, **node.attributes)
        else:
            made = node.row.kernels[Term](*([inputs] if node.row.variadic else inputs), **node.attributes)
        several = list(made) if node.several else [made]
        if [(m.shape, m.dtype) for m in several] != avals:
            raise Unlowered(f"{node.op} would become another shape or dtype")
        return several if node.several else made
    except (Unlowered, AttributeError, IndexError, KeyError, NotImplementedError, TypeError, ValueError):
        pass  # not a kernel for terms: the one for NumPy does it
    args = [
        x if isinstance(x, Term) else lazy.number(done.pool, x, n.dtype)
        for x, n in zip(inputs, node.inputs, strict=True)
    ]
    made = done.call("python", args, avals, node)
    return made if node.several else made[0]


# ---- rows with a lowering of their own ----


def _matmul(done: Lowered, a: Term, b: Term) -> Term:
    if a.dtype != b.dtype or a.dtype.kind != "f" or not a.size or not b.size:
        raise Unlowered("a product of such matrices")
    if a.ndim == 1:
        out = _matmul(done, reshape(a, (1, a.shape[0])), b)
        return reshape(out, (*out.shape[:-2], out.shape[-1])) if b.ndim > 1 else reshape(out, out.shape[1:])
    if b.ndim == 1:
        out = _matmul(done, a, reshape(b, (b.shape[0], 1)))
        return reshape(out, out.shape[:-1])
    m, k, n = a.shape[-2], a.shape[-1], b.shape[-1]
    if b.ndim == 2 and a.ndim > 2:
        return reshape(_matmul(done, reshape(a, (-1, k)), b), (*a.shape[:-1], n))
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    a, b = stretch(a, (*batch, m, k)), stretch(b, (*batch, k, n))
    return done.call("gemm", (a, b), [((*batch, m, n), a.dtype)])[0]


def _conv(kind: str) -> Callable:
    def lower(done: Lowered, x: Term, y: Term, **given: Any) -> Term:
        params = {
            name: given.get(name, default)
            for name, default in (("stride", 1), ("padding", 0), ("dilation", 1), ("groups", 1))
        }
        if kind == "conv":
            whole, weight = x.shape, y.shape
            out: tuple[int, ...] = (whole[0], weight[0], *convolution_fit(whole, weight, **params).out)
        elif kind == "conv_transpose":
            whole, weight = (x.shape[0], y.shape[1] * params["groups"], *given["size"]), y.shape
            out = whole
        else:
            whole, weight = x.shape, (y.shape[1], x.shape[1] // params["groups"], *given["kernel"])
            out = weight
        fit = convolution_fit(whole, weight, **params)
        if (
            len(whole) != 4
            or params["groups"] != 1
            or x.dtype != y.dtype
            or x.dtype != np.float32
            or math.prod(fit.kernel) > 121
            or not math.prod(fit.out)
        ):
            raise Unlowered("a convolution of this kind")
        return done.call(kind, (x, y), [(out, x.dtype)], given=(fit, whole, weight))[0]

    return lower


def _cross_entropy(done: Lowered, x: Term, target: Term, axis: int = -1, smoothing: float = 0.0) -> tuple[Term, Term]:
    axis %= x.ndim
    _checked(done, target, x.shape[axis], "cross_entropy")
    z = x - lazy.reduce("maximum", x, axis, True)
    e = floating("exp", z)
    total = lazy.reduce("add", e, axis, True)
    losses = floating("log", total) - (1.0 - smoothing) * take_along_axis(z, expand_dims(target, axis), axis)
    if smoothing:
        losses = losses - lazy.reduce("add", z, axis, True) * (smoothing / x.shape[axis])
    return lazy.squeeze(losses, axis), e / total


def _cross_entropy_rule(done: Lowered, g: Term, p: Term, target: Term, axis: int = -1, smoothing: float = 0.0) -> Term:
    axis %= p.ndim
    n = p.shape[axis]
    _checked(done, target, n, "cross_entropy")
    hit = iota(p, axis, p.ndim, n) == expand_dims(target, axis)
    share = where(hit, np.dtype(p.dtype).type(1.0 - smoothing), 0.0)
    d = p - share
    return (d - smoothing / n if smoothing else d) * expand_dims(g, axis)


def _linear_scan(done: Lowered, a: Term, b: Term, axis: int = -1, reverse: bool = False) -> Term:
    dtype, shape = np.result_type(a.dtype, b.dtype), np.broadcast_shapes(a.shape, b.shape)
    if dtype.kind != "f" or not math.prod(shape):
        raise Unlowered(f"a scan of {dtype}")
    a, b = (stretch(cast(x, dtype), shape) for x in (a, b))
    return done.call("scan", (a, b), [(shape, dtype)], given=(axis % len(shape), reverse))[0]


def _pad(done: Lowered, x: Term, width: Any, value: float = 0.0) -> Term:
    return lazy.pad(x, _pairs(width, x.ndim), value)


def _checked(done: Lowered, index: Term, n: int, name: str) -> None:
    """Have an index compared with its bounds before the program runs."""
    if index.op != "buffer":
        if done.checked:
            raise Unlowered("an index that is computed")
    elif index.attrs[0] == "input":
        check = (index.attrs[1], n, name)
        if check not in done.checks:
            done.checks.append(check)
    elif done.constants[index].min() < 0 or done.constants[index].max() >= n:
        raise Unlowered("an index out of bounds, which the kernel for NumPy will say")


def _tiles(x_shape: tuple, kernel: Any, stride: Any, padding: Any) -> tuple[int, ...]:
    """The sizes of windows that lie side by side and cover everything."""
    fit = pooling_fit(x_shape, kernel, stride, padding)
    k = tuple(fit.kernel)
    if fit.is_padded or any(o * a != n for o, a, n in zip(fit.out, k, x_shape[2:], strict=True)) or not fit.tiles:
        raise Unlowered("windows that overlap, or leave something out")
    return k


def _max_pool(done: Lowered, x: Term, kernel: Any, stride: Any, padding: Any = 0) -> tuple[Term, Term]:
    k = _tiles(x.shape, kernel, stride, padding)
    values = [
        x[(..., *(slice(int(a), None, n) for a, n in zip(np.unravel_index(i, k), k, strict=True)))]
        for i in range(math.prod(k))
    ]
    best, place = values[0], stretch(lazy.number(x.pool, 0, np.uint8), values[0].shape)
    for i, value in enumerate(values[1:], 1):
        place = where(value > best, np.uint8(i), place)
        best = elementwise("maximum", best, value)
    return best, place


def _place_window(done: Lowered, g: Term, place: Term, size: Any, kernel: Any, stride: Any, padding: Any = 0) -> Term:
    k = _tiles((*g.shape[:2], *size), kernel, stride, padding)
    ndim = 2 + 2 * len(k)
    axes = [2 + 2 * i + 1 for i in range(len(k))]
    here = None
    for a, n in zip(axes, k, strict=True):
        here = iota(g, a, ndim, n) if here is None else here * n + iota(g, a, ndim, n)
    assert here is not None
    spread = where(expand_dims(place, axes) == cast(here, np.uint8), expand_dims(g, axes), 0.0)
    return reshape(spread, (*g.shape[:2], *size))


def _gelu(done: Lowered, x: Term, approximate: str = "none") -> Term:
    if approximate == "tanh":
        u = 2.0 * math.sqrt(2.0 / math.pi) * (x + 0.044715 * x * x * x)
        return x * floating("sigmoid", u)
    return 0.5 * x * floating("erfc", x * -math.sqrt(0.5))


def _function(name: str) -> Callable:
    return lambda done, x: floating(name, x)


ROWS: dict[str, Callable] = {
    "matmul": _matmul, "conv": _conv("conv"), "conv_weight": _conv("conv_weight"), "conv_transpose": _conv("conv_transpose"),
    "cross_entropy": _cross_entropy, "cross_entropy_rule": _cross_entropy_rule, "max_pool": _max_pool, "place_window": _place_window,
    "gelu": _gelu, "erf": _function("erf"), "erfc": _function("erfc"), "sigmoid": _function("sigmoid"),
    "relu": lambda done, x: elementwise("maximum", x, 0.0),
    "silu": lambda done, x: x * floating("sigmoid", x),
    "linear_scan": _linear_scan, "pad": _pad,
    "linear": lambda done, x, w, b: _matmul(done, x, permute(w, (1, 0))) + b,
    "outer": lambda done, x, y: reshape(x, (-1, 1)) * reshape(y, (1, -1)),
    "getitem": lambda done, x, index: lazy.getitem(x, index),
    "stop_gradient": lambda done, x: x,
}  # fmt: skip
