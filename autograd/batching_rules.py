"""Batching rules of the op table's rows, by family; ``autograd.batching`` says what a rule is.

Most of them move parameters past the new first axis. A shared input is left as it is where the row can use it so: a
shared matrix makes one large product of many small ones.
"""

import math
import string
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import ops
from .batching import Call
from .ops import activations as _activations
from .ops import bessel as _bessel
from .ops import elementwise as _elementwise
from .ops import special as _special
from .ops.layout import _pairs, _squeezed
from .ops.linalg import _contracted, _einsum_row
from .shapes import reshaped, shape_of
from .table import OPS

Axes = int | Sequence[int] | None


def batches(*names: str) -> Callable[[Callable], Callable]:
    """Enter ``rule(call, *inputs, **params)`` as the batching rule of the named rows."""

    def enter(rule: Callable) -> Callable:
        for name in names:
            OPS[name].batch = rule
        return rule

    return enter


def inner(axis: Axes, ndim: int) -> Any:
    """An axis (or several) of one example of ``ndim`` axes, as an axis of the physical array."""
    if axis is None:
        return tuple(range(1, ndim + 1))
    if isinstance(axis, (int, np.integer)):
        if not -ndim <= axis < ndim:
            raise ValueError(f"axis {axis} is out of range for an array of {ndim} axes")
        return axis % ndim + 1
    return tuple(inner(a, ndim) for a in axis)


def aligned(call: Call, *xs: Any) -> list:
    """Inputs that broadcast as they do in one example: axes of length 1 come after the examples' axis where one lacks some."""
    ndim = max(len(call.shape(i, x)) for i, x in enumerate(xs))
    return [widened(x, ndim) if m and x.ndim <= ndim else x for x, m in zip(xs, call.mapped, strict=True)]


def widened(x: Any, ndim: int) -> Any:
    """Axes of length 1 put in after the first, until there are ``ndim`` others."""
    shape = shape_of(x)
    return x if len(shape) > ndim else ops.reshape(x, shape=(shape[0], *(1,) * (ndim + 1 - len(shape)), *shape[1:]))


def flattened(x: Any) -> Any:
    """Each example as a vector."""
    shape = shape_of(x)
    return x if len(shape) == 2 else ops.reshape(x, shape=(shape[0], math.prod(shape[1:])))


def merged(x: Any, axis: int = 0) -> Any:
    """The examples' axis made one with an axis of the examples, counted without it."""
    x = ops.moveaxis(x, 0, axis) if axis else x
    return ops.flatten(x, axis, axis + 1)


def parted(x: Any, size: int, length: int, axis: int = 0) -> Any:
    """The opposite of ``merged``, for an axis of some length in one example."""
    shape = shape_of(x)
    x = ops.reshape(x, shape=(*shape[:axis], size, length, *shape[axis + 1 :]))
    return ops.moveaxis(x, axis, 0) if axis else x


# ---- elementwise ----


def elementwise(call: Call, *xs: Any, **params: Any) -> Any:
    """The rule of every row that acts on each element of its broadcast inputs."""
    return call.apply(*aligned(call, *xs), **params)


batches(
    *(n for n in (*_elementwise.__all__, *_activations.__all__, *_special.__all__, *_bessel.__all__) if n in OPS),
    "astype",
    "to_device",
)(elementwise)

# ---- reductions and scans ----


def _at_least_vectors(x: Any) -> Any:
    return ops.expand_dims(x, axis=1) if x.ndim == 1 else x


@batches("sum", "mean", "prod", "var", "std", "max", "min", "all", "any", "norm", "logsumexp")
def _reduced(call: Call, x: Any, *, axis: Any, keepdims: bool, **params: Any) -> Any:
    if x.ndim == 1:
        return call.apply(_at_least_vectors(x), axis=1, keepdims=False, **params)
    return call.apply(x, axis=inner(axis, x.ndim - 1), keepdims=keepdims, **params)


@batches("argmax", "argmin")
def _extremum(call: Call, x: Any, *, axis: Any, keepdims: bool) -> Any:
    if axis is not None:
        return call.apply(x, axis=inner(axis, x.ndim - 1), keepdims=keepdims)
    found = call.apply(flattened(x), axis=1, keepdims=False)
    return ops.reshape(found, shape=(call.size, *(1,) * (x.ndim - 1))) if keepdims else found


@batches("softmax", "log_softmax", "sort", "argsort")
def _along(call: Call, x: Any, *, axis: int) -> Any:
    return call.apply(x, axis=inner(axis, x.ndim - 1))


@batches("cumsum", "cumprod")
def _scanned(call: Call, x: Any, *, axis: int | None) -> Any:
    return call.apply(flattened(x), axis=1) if axis is None else call.apply(x, axis=inner(axis, x.ndim - 1))


@batches("linear_scan")
def _linear_scan(call: Call, a: Any, b: Any, *, axis: int, reverse: bool) -> Any:
    ndim = max(len(call.shape(i, x)) for i, x in enumerate((a, b)))
    return call.apply(*aligned(call, a, b), axis=inner(axis, ndim), reverse=reverse)


# ---- layout ----


@batches("reshape")
def _reshape(call: Call, x: Any, *, shape: Any) -> Any:
    wanted, _ = reshaped(_one(call, x), shape)
    return call.apply(x, shape=(call.size, *wanted))


class _One:
    """The shape and dtype of one example."""

    def __init__(self, shape: tuple[int, ...], dtype: Any):
        self.shape, self.dtype = shape, dtype


def _one(call: Call, x: Any) -> Any:
    return _One(call.shape(0, x), x.dtype)


@batches("permute")
def _permute(call: Call, x: Any, *, axes: Any) -> Any:
    order = tuple(reversed(range(x.ndim - 1))) if axes is None else axes
    return call.apply(x, axes=(0, *inner(tuple(order), x.ndim - 1)))


@batches("sum_to")
def _sum_to(call: Call, x: Any, *, shape: tuple[int, ...]) -> Any:
    full = (call.size, *(1,) * (x.ndim - 1 - len(shape)), *shape)
    return ops.reshape(call.apply(x, shape=full), shape=(call.size, *shape))


@batches("broadcast_to")
def _broadcast_to(call: Call, x: Any, *, shape: tuple[int, ...]) -> Any:
    return call.apply(widened(x, len(tuple(shape))), shape=(call.size, *shape))


@batches("squeeze")
def _squeeze(call: Call, x: Any, *, axis: Any) -> Any:
    return ops.reshape(x, shape=(call.size, *_squeezed(tuple(x.shape[1:]), axis)))


@batches("expand_dims")
def _expand_dims(call: Call, x: Any, *, axis: Any) -> Any:
    return call.apply(x, axis=inner(axis, x.ndim - 1 + (1 if isinstance(axis, int) else len(axis))))


@batches("concat")
def _concat(call: Call, *xs: Any, axis: int) -> Any:
    arrays = call.spread(*xs)
    return call.apply(arrays, axis=inner(axis, arrays[0].ndim - 1))


@batches("stack")
def _stack(call: Call, *xs: Any, axis: int) -> Any:
    arrays = call.spread(*xs)
    return call.apply(arrays, axis=inner(axis, arrays[0].ndim))


@batches("split")
def _split(call: Call, x: Any, *, sections: Any, axis: int) -> Any:
    return call.apply(x, sections=sections, axis=inner(axis, x.ndim - 1))


@batches("pad")
def _pad(call: Call, x: Any, *, width: Any, value: float) -> Any:
    return call.apply(x, width=((0, 0), *_pairs(width, x.ndim - 1)), value=value)


@batches("flip")
def _flip(call: Call, x: Any, *, axis: Any) -> Any:
    return call.apply(x, axis=inner(axis, x.ndim - 1))


@batches("roll")
def _roll(call: Call, x: Any, *, shift: Any, axis: Any) -> Any:
    if axis is None:
        return ops.reshape(call.apply(flattened(x), shift=shift, axis=1), shape=tuple(x.shape))
    return call.apply(x, shift=shift, axis=inner(axis, x.ndim - 1))


@batches("tile")
def _tile(call: Call, x: Any, *, reps: Any) -> Any:
    reps = (reps,) if isinstance(reps, int) else tuple(reps)
    x = widened(x, len(reps))
    return call.apply(x, reps=(1, *(1,) * (x.ndim - 1 - len(reps)), *reps))


@batches("repeat")
def _repeat(call: Call, x: Any, *, repeats: int, axis: int | None) -> Any:
    if axis is None:
        return call.apply(flattened(x), repeats=repeats, axis=1)
    return call.apply(x, repeats=repeats, axis=inner(axis, x.ndim - 1))


@batches(
    "tril", "triu", "diagonal", "put_diagonal",
    "inv", "pinv", "adjugate", "det", "slogdet", "cholesky", "qr", "svd", "eigh", "eig", "expm",
)  # fmt: skip
def _last_axes(call: Call, x: Any, **params: Any) -> Any:
    return call.apply(x, **params)


# ---- products ----


@batches("matmul")
def _matmul(call: Call, x: Any, y: Any) -> Any:
    (a, b), (mx, my) = (len(call.shape(i, v)) for i, v in enumerate((x, y))), call.mapped
    if not my and b <= 2:  # one product for all examples
        return call.apply(x, y)
    if not mx and b == 1 and a <= 2:
        return call.apply(y, x if a == 1 else ops.permute(x, axes=(1, 0)))
    if not mx and a <= 2 and b == 2:
        return call.apply(x, y)
    if a == 1:
        x = ops.expand_dims(x, axis=-2)
    if b == 1:
        y = ops.expand_dims(y, axis=-1)
    ndim = max(a, b, 2)
    z = call.apply(widened(x, ndim) if mx else x, widened(y, ndim) if my else y)
    gone = (a == 1) * [-2] + (b == 1) * [-1]
    return ops.squeeze(z, axis=tuple(gone)) if gone else z


@batches("linear")
def _linear(call: Call, x: Any, weight: Any, bias: Any) -> Any:
    if call.mapped[1:] == (False, False):
        return call.apply(x, weight, bias)
    mx, mw, mb = call.mapped
    transposed = ops.swapaxes(weight, -1, -2)
    z = _matmul(Call(OPS["matmul"], call.level, (mx, mw)), x, transposed) if mx or mw else x @ transposed
    return elementwise(Call(OPS["add"], call.level, (mx or mw, mb)), z, bias)


@batches("outer")
def _outer(call: Call, x: Any, y: Any) -> Any:
    x, y = (flattened(v) if m else ops.ravel(v) for v, m in zip((x, y), call.mapped, strict=True))
    return ops.expand_dims(x, axis=-1) * ops.expand_dims(y, axis=-2)


@batches("tensordot")
def _tensordot(call: Call, x: Any, y: Any, *, axes: Any) -> Any:
    a, b = (len(call.shape(i, v)) for i, v in enumerate((x, y)))
    first, second = _contracted(_One(call.shape(0, x), x.dtype), _One(call.shape(1, y), y.dtype), axes)
    letters = string.ascii_letters[1:]
    left, right = list(letters[:a]), list(letters[a : a + b])
    for i, j in zip(first, second, strict=True):
        right[j] = left[i]
    out = [c for i, c in enumerate(left) if i not in first] + [c for j, c in enumerate(right) if j not in second]
    return _summed(call, [x, y], ["".join(left), "".join(right)], "".join(out))


@batches("einsum")
def _einsum(call: Call, *xs: Any, subscripts: str) -> Any:
    left, _, output = subscripts.partition("->")
    return _summed(call, xs, left.split(","), output)


def _summed(call: Call, xs: Sequence, inputs: list[str], output: str) -> Any:
    """einsum with one index more, that of the examples."""
    new = next(c for c in string.ascii_letters if c not in output + "".join(inputs))
    terms = [new * m + labels for m, labels in zip(call.mapped, inputs, strict=True)]
    return _einsum_row(list(xs), subscripts=",".join(terms) + "->" + new + output)


# ---- convolution, pooling, normalisation, losses ----


@batches("conv")
def _conv(call: Call, x: Any, w: Any, *, groups: int, **params: Any) -> Any:
    if call.mapped == (True, False):  # examples as samples
        return parted(call.apply(merged(x), w, groups=groups, **params), call.size, x.shape[1])
    if call.mapped == (False, True) and groups == 1:  # examples as output channels
        return parted(call.apply(x, merged(w), groups=1, **params), call.size, w.shape[1], 1)
    x, w = call.spread(x, w)  # examples as groups
    return parted(call.apply(merged(x, 1), merged(w), groups=groups * call.size, **params), call.size, w.shape[1], 1)


@batches("conv_transpose")
def _conv_transpose(call: Call, g: Any, w: Any, *, groups: int, **params: Any) -> Any:
    if call.mapped == (True, False):
        return parted(call.apply(merged(g), w, groups=groups, **params), call.size, g.shape[1])
    g, w = call.spread(g, w)
    return parted(
        call.apply(merged(g, 1), merged(w), groups=groups * call.size, **params), call.size, w.shape[2] * groups, 1
    )


@batches("conv_weight")
def _conv_weight(call: Call, x: Any, g: Any, *, groups: int, **params: Any) -> Any:
    x, g = call.spread(x, g)
    return parted(call.apply(merged(x, 1), merged(g, 1), groups=groups * call.size, **params), call.size, g.shape[2])


@batches("max_pool", "avg_pool", "spread_window", "place_window", "pick_window")
def _windows(call: Call, *xs: Any, **params: Any) -> Any:
    inputs = call.spread(*xs)
    n = inputs[0].shape[1]
    out = call.apply(*map(merged, inputs), **params)
    return tuple(parted(o, call.size, n) for o in out) if isinstance(out, tuple) else parted(out, call.size, n)


@batches("standardize", "project_out")
def _normalized(call: Call, *xs: Any, axes: tuple[int, ...], **params: Any) -> Any:
    return call.apply(
        *call.spread(*xs), axes=inner(axes, max(len(call.shape(i, x)) for i, x in enumerate(xs))), **params
    )


@batches("cross_entropy", "cross_entropy_rule")
def _cross_entropy(call: Call, *xs: Any, axis: int, **params: Any) -> Any:
    ndim = max(len(call.shape(i, x)) for i, x in enumerate(xs))
    return call.apply(*call.spread(*xs), axis=inner(axis, ndim), **params)


# ---- linear algebra and Fourier transforms ----


@batches("solve", "solve_triangular")
def _solve(call: Call, a: Any, b: Any, **params: Any) -> Any:
    (m, n), (ma, mb) = (len(call.shape(i, v)) for i, v in enumerate((a, b))), call.mapped
    if n == 1 and not mb:
        return call.apply(a, b, **params)
    if n == 1 and not ma and m == 2:  # one matrix for all
        return ops.permute(call.apply(a, ops.permute(b, axes=(1, 0)), **params), axes=(1, 0))
    if n == 1:
        b = ops.expand_dims(b, axis=-1)
    ndim = max(m, n, 2)
    z = call.apply(widened(a, ndim) if ma else a, widened(b, ndim) if mb else b, **params)
    return ops.squeeze(z, axis=-1) if n == 1 else z


@batches("fftn", "ifftn")
def _fourier(call: Call, x: Any, *, axes: Any, norm: Any) -> Any:
    return call.apply(x, axes=inner(axes, x.ndim - 1), norm=norm)


@batches("rfft", "irfft")
def _real_fourier(call: Call, x: Any, *, axis: int, **params: Any) -> Any:
    return call.apply(x, axis=inner(axis, x.ndim - 1), **params)
