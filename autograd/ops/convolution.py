"""Convolution over any number of axes, and the two rows that are its transposes.

A convolution y = conv(x, w) is linear in x and in w, so ⟨g, conv(x, w)⟩ is linear in each of g, x and w. Its gradients are
the three rows of this file: with respect to g it is ``conv``, to x ``conv_transpose`` (the transposed convolution), to w
``conv_weight``. Each one's rules are the other two, so derivatives of every order exist.

Layouts are PyTorch's: input (N, C, ...), weight (C_out, C / groups, ...), output (N, C_out, ...), and "convolution" means
cross-correlation, as everywhere in deep learning (Goodfellow et al. 2016, equation 9.6).

On NumPy the work is done by BLAS on columns (im2col; Chellapilla et al. 2006), in an order of memory in which the batch
is the last axis: then the columns of stride 1 are copied in runs of (width · N) elements, and no product has a wasted
element. Results come back in PyTorch's order of axes as a view, so shapes never show it; NumPy's elementwise functions
keep the order of memory, and the next convolution or pooling finds it again. Batches of less than ``_FEW`` samples are
done one by one, in the usual order of memory.
"""

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ..backend import xp
from ..halves import half, is_half, single
from ..precision import beside
from ..shapes import result_dtype, shape_of
from ..table import op
from .elementwise import add
from .layout import reshape
from .windows import Lengths, Padding, Windows, lengths, padded, paddings, same_padding, transfer, windows, zeros

__all__ = ["conv", "conv1d", "conv2d", "conv_transpose", "conv_transpose2d", "conv_weight"]

_FEW = 8  # batches smaller than this are done sample by sample
_COLUMNS = 2 << 20  # bytes of columns made at a time: they stay in the caches, and a product is worth starting


@lru_cache(maxsize=1024)
def _fit(x: Lengths, w: Lengths, stride: Any, padding: Any, dilation: Any, groups: int) -> Windows:
    """The windows of a convolution of an input of shape x with a weight of shape w."""
    if len(x) != len(w) or len(x) < 3 or groups < 1 or x[1] != w[1] * groups or w[0] % groups:
        raise ValueError(
            f"input {x} and weight {w} do not fit with groups={groups}; needed are (N, C, ...) and (C_out, C / groups, ...) "
            "with as many axes, C and C_out divisible by groups"
        )
    try:
        return windows(x[2:], w[2:], stride, padding, dilation)
    except ValueError as error:
        raise ValueError(f"input {x} and weight {w}: {error}") from None


def _fit_out(y: Lengths, x: Lengths, w: Lengths, *params: Any) -> Windows:
    """As ``_fit``, when the output's shape y is given too."""
    found = _fit(x, w, *params)
    if y != (x[0], w[0], *found.out):
        raise ValueError(
            f"output {y}, input {x} and weight {w} do not fit; the output's shape would be {(x[0], w[0], *found.out)}"
        )
    return found


# ---- the kernels of the array API: one product for each element of the window ----


def _weights(w: Any, groups: int) -> Any:
    """The weight as (k, groups, C_out / groups, C / groups), k being the places in a window."""
    library = xp(w)
    return library.permute_dims(library.reshape(w, (groups, w.shape[0] // groups, w.shape[1], -1)), (3, 0, 1, 2))


def _grouped(x: Any, groups: int) -> Any:
    """(N, C, ...) as (N, groups, C / groups, places)."""
    return xp(x).reshape(x, (x.shape[0], groups, x.shape[1] // groups, math.prod(x.shape[2:])))


def _swapped(x: Any) -> Any:
    return xp(x).permute_dims(x, (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))


def _conv(x: Any, w: Any, *, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1) -> Any:
    fit = _fit(x.shape, w.shape, stride, padding, dilation, groups)
    x, weights, total = padded(x, fit), _weights(w, groups), None
    for k, at in enumerate(fit.offsets()):
        part = weights[k, ...] @ _grouped(x[(..., *at)], groups)
        total = part if total is None else total + part
    return xp(x).reshape(total, (x.shape[0], w.shape[0], *fit.out))


def _conv_transpose(
    g: Any, w: Any, *, size: Lengths, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Any:
    shape = (g.shape[0], w.shape[1] * groups, *size)
    fit = _fit_out(g.shape, shape, w.shape, stride, padding, dilation, groups)
    weights, g = _swapped(_weights(w, groups)), _grouped(g, groups)
    out = zeros(g, (*shape[:2], *fit.padded))
    for k, at in enumerate(fit.offsets()):
        out[(..., *at)] += xp(g).reshape(weights[k, ...] @ g, (*shape[:2], *fit.out))
    return out[fit.inside]


def _conv_weight(
    x: Any, g: Any, *, kernel: Lengths, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Any:
    shape = (g.shape[1], x.shape[1] // groups, *kernel)
    fit = _fit_out(g.shape, x.shape, shape, stride, padding, dilation, groups)
    library, x, g = xp(x), padded(x, fit), _grouped(g, groups)
    places = [library.sum(g @ _swapped(_grouped(x[(..., *at)], groups)), axis=0) for at in fit.offsets()]
    return library.reshape(library.stack(places, axis=-1), shape)


# ---- NumPy's kernels ----


def _empty(shape: Lengths, dtype: Any) -> np.ndarray:
    """An array (N, ...) with the batch last in memory, or first if there are few samples."""
    return np.moveaxis(np.empty((*shape[1:], shape[0]), dtype), -1, 0) if shape[0] >= _FEW else np.empty(shape, dtype)


def _ordered(x: np.ndarray) -> np.ndarray:
    """x (N, ...) in this order."""
    if (np.moveaxis(x, 0, -1) if len(x) >= _FEW else x).flags.c_contiguous:
        return x
    return transfer(_empty(x.shape, x.dtype), x)


def _padded(x: np.ndarray, fit: Windows) -> np.ndarray:
    """x in this order, with zeros around it."""
    if not fit.is_padded:
        return _ordered(x)
    out = _empty((*x.shape[:2], *fit.padded), x.dtype)
    out[...] = 0
    transfer(out[fit.inside], x)
    return out


def _blocks(*arrays: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
    """Arrays in this order, as contiguous views (..., n): all samples at once, or one after the other if there are few."""
    if len(arrays[0]) >= _FEW:
        yield tuple(np.moveaxis(a, 0, -1) for a in arrays)
    else:
        for i in range(len(arrays[0])):
            yield tuple(a[i][..., None] for a in arrays)


def _computed(*arrays: np.ndarray) -> tuple[list[np.ndarray], Any]:
    """The arrays in the dtype to compute in, and the dtype of the result: half precision is computed in float32."""
    dtype = result_dtype(*arrays)
    if is_half(dtype):
        return [single(a) for a in arrays], dtype
    return [a.astype(dtype, copy=False) for a in arrays], dtype


def _result(y: np.ndarray, dtype: Any) -> np.ndarray:
    return y if y.dtype == dtype else half(y, dtype)


def _runs(fit: Windows, channels: int, samples: int, itemsize: int) -> list[tuple[int, int]]:
    """The windows along the first axis in runs (start, count) of so many that their columns have ``_COLUMNS`` bytes."""
    each = channels * math.prod(fit.kernel) * math.prod(fit.out[1:]) * samples * itemsize
    parts = -(-fit.out[0] // max(_COLUMNS // max(each, 1), 1))
    length = -(-fit.out[0] // parts)
    return [(start, min(length, fit.out[0] - start)) for start in range(0, fit.out[0], length)]


def _is_product(fit: Windows) -> bool:
    """Whether the convolution is a matrix product as it stands: windows of one element, side by side."""
    return math.prod(fit.kernel) == math.prod(fit.stride) == 1 and not fit.is_padded


def _columns(x: np.ndarray, fit: Windows, groups: int) -> Iterator[tuple[int, int, np.ndarray]]:
    """For each run of windows (start, count) their columns (groups, C / groups · k, places · n), of a padded block (C, ..., n)."""
    channels, n = x.shape[0], x.shape[-1]
    if _is_product(fit):
        yield 0, fit.out[0], x.reshape(groups, channels // groups, -1)
        return
    steps = x.strides[1:-1]
    inside = tuple(s * d for s, d in zip(steps, fit.dilation, strict=True))
    between = tuple(s * d for s, d in zip(steps, fit.stride, strict=True))
    view = as_strided(
        x, (channels, *fit.kernel, *fit.out, n), (x.strides[0], *inside, *between, x.strides[-1]), writeable=False
    )
    lead = (slice(None),) * (1 + len(fit.kernel))
    runs = _runs(fit, channels, n, x.itemsize)
    buffer = _buffer((channels, *fit.kernel, runs[0][1], *fit.out[1:], n), x.dtype)
    for start, count in runs:
        columns = buffer((channels, *fit.kernel, count, *fit.out[1:], n))
        np.copyto(columns, view[(*lead, slice(start, start + count))])
        yield start, count, columns.reshape(groups, channels // groups * math.prod(fit.kernel), -1)


def _buffer(largest: Lengths, dtype: Any) -> Any:
    """One piece of memory as contiguous arrays of several shapes, one at a time."""
    memory = np.empty(math.prod(largest), dtype)
    return lambda shape: memory[: math.prod(shape)].reshape(shape)


def _rows(y: np.ndarray, start: int, count: int, groups: int) -> np.ndarray:
    """A run of windows of a block (C_out, ..., n) as a view (groups, C_out / groups, places · n)."""
    return np.reshape(y[:, start : start + count], (groups, y.shape[0] // groups, -1), copy=False)


def _np_conv(x: Any, w: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> Any:
    fit = _fit(x.shape, w.shape, stride, padding, dilation, groups)
    (x, w), dtype = _computed(x, w)
    y = _empty((x.shape[0], w.shape[0], *fit.out), w.dtype)
    weight = w.reshape(groups, w.shape[0] // groups, -1)
    for inner, outer in _blocks(_padded(x, fit), y):
        for start, count, columns in _columns(inner, fit, groups):
            np.matmul(weight, columns, out=_rows(outer, start, count, groups))
    return _result(y, dtype)


def _np_conv_transpose(g: Any, w: Any, size: Lengths, stride: Any, padding: Any, dilation: Any, groups: int) -> Any:
    shape = (g.shape[0], w.shape[1] * groups, *size)
    fit = _fit_out(g.shape, shape, w.shape, stride, padding, dilation, groups)
    (g, w), dtype = _computed(g, w)
    product, places = _is_product(fit), math.prod(fit.kernel)
    out = _empty((*shape[:2], *fit.padded), w.dtype)
    if not product:
        out[...] = 0
    weight = w.reshape(groups, w.shape[0] // groups, -1).swapaxes(1, 2)
    for outer, inner in _blocks(_ordered(g), out):
        n = outer.shape[-1]
        if product:
            np.matmul(weight, _rows(outer, 0, fit.out[0], groups), out=_rows(inner, 0, fit.out[0], groups))
            continue
        runs = _runs(fit, shape[1], n, w.itemsize)
        buffer = _buffer((shape[1], places, runs[0][1], *fit.out[1:], n), w.dtype)
        for start, count in runs:
            columns = buffer((shape[1], places, count, *fit.out[1:], n))
            values = _rows(outer, start, count, groups)
            np.matmul(weight, values, out=columns.reshape(groups, -1, values.shape[-1]))
            for k, at in enumerate(fit.offsets(start, count)):
                target = inner[(slice(None), *at)]
                np.add(target, columns[:, k], out=target)
    return _result(out[fit.inside], dtype)


def _np_conv_weight(x: Any, g: Any, kernel: Lengths, stride: Any, padding: Any, dilation: Any, groups: int) -> Any:
    shape = (g.shape[1], x.shape[1] // groups, *kernel)
    fit = _fit_out(g.shape, x.shape, shape, stride, padding, dilation, groups)
    (x, g), dtype = _computed(x, g)
    total = np.zeros((groups, shape[0] // groups, math.prod(shape[1:])), g.dtype)
    for inner, outer in _blocks(_padded(x, fit), _ordered(g)):
        for start, count, columns in _columns(inner, fit, groups):
            total += np.matmul(_rows(outer, start, count, groups), columns.swapaxes(1, 2))
    return _result(total.reshape(shape), dtype)


# ---- the rows ----


def _conv_shape(x: Any, w: Any, **params: Any) -> Any:
    fit = _fit(shape_of(x), shape_of(w), **params)
    return (x.shape[0], w.shape[0], *fit.out), result_dtype(x, w)


def _conv_transpose_shape(g: Any, w: Any, size: Lengths, groups: int, **params: Any) -> Any:
    shape = (g.shape[0], w.shape[1] * groups, *size)
    _fit_out(shape_of(g), shape, shape_of(w), *(params[k] for k in ("stride", "padding", "dilation")), groups)
    return shape, result_dtype(g, w)


def _conv_weight_shape(x: Any, g: Any, kernel: Lengths, groups: int, **params: Any) -> Any:
    shape = (g.shape[1], x.shape[1] // groups, *kernel)
    _fit_out(shape_of(g), shape_of(x), shape, *(params[k] for k in ("stride", "padding", "dilation")), groups)
    return shape, result_dtype(x, g)


def _products(y: Any, weight_shape: Lengths) -> float:
    return 2.0 * math.prod(shape_of(y)) * math.prod(weight_shape[1:])


conv = op(
    "conv", _conv, _conv_shape,
    lambda g, _y, _x, w, **params: conv_transpose(g, w, size=tuple(_x.shape[2:]), **params),
    lambda g, _y, x, _w, **params: conv_weight(x, g, kernel=tuple(_w.shape[2:]), **params),
    flops=lambda y, x, w, **_: _products(y, shape_of(w)),
    precision="low", doc="""The convolution of x (N, C, ...) with w (C_out, C / groups, ...), over any number of axes: (N, C_out, ...).

    ``stride`` and ``dilation`` are integers or a tuple with one for each axis, ``padding`` (with zeros) may also be a
    tuple of pairs (before, behind).""",
)  # fmt: skip
conv_transpose = op(
    "conv_transpose", _conv_transpose, _conv_transpose_shape,
    lambda h, _x, _g, w, size, **params: conv(h, w, **params),
    lambda h, _x, g, _w, size, **params: conv_weight(h, g, kernel=tuple(_w.shape[2:]), **params),
    flops=lambda x, g, w, **_: _products(g, shape_of(w)),
    precision="low", doc="""The transpose of ``conv`` with respect to its input: g (N, C_out, ...) and w (C_out, C / groups, ...) to (N, C, *size).

    ``size`` says which of the input sizes that ``conv`` would bring to g's is meant.""",
)  # fmt: skip
conv_weight = op(
    "conv_weight", _conv_weight, _conv_weight_shape,
    lambda h, _w, _x, g, kernel, **params: conv_transpose(g, h, size=tuple(_x.shape[2:]), **params),
    lambda h, _w, x, _g, kernel, **params: conv(x, h, **params),
    flops=lambda w, x, g, **_: _products(g, shape_of(w)),
    precision="low", doc="""The transpose of ``conv`` with respect to its weight: x (N, C, ...) and g (N, C_out, ...) to (C_out, C / groups, *kernel).""",
)  # fmt: skip
conv.row.kernels[np.ndarray] = _np_conv
conv_transpose.row.kernels[np.ndarray] = _np_conv_transpose
conv_weight.row.kernels[np.ndarray] = _np_conv_weight

# ---- what users call ----


def _biased(name: str, y: Any, bias: Any) -> Any:
    if bias is None:
        return y
    if shape_of(bias) != (y.shape[1],):
        raise ValueError(
            f"{name}: the bias has shape {shape_of(bias)}, the output {tuple(y.shape)} needs ({y.shape[1]},)"
        )
    return add(y, reshape(beside(bias, y), shape=(y.shape[1],) + (1,) * (y.ndim - 2)))


def _check_axes(name: str, x: Any, weight: Any, n: int) -> None:
    if len(shape_of(x)) != n + 2 or len(shape_of(weight)) != n + 2:
        raise ValueError(
            f"{name}: input {shape_of(x)} and weight {shape_of(weight)} do not fit; both need {n + 2} axes, the input (N, C, "
            f"{', '.join(('length',) if n == 1 else ('height', 'width'))})"
        )


def _convolved(
    name: str, n: int, x: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, groups: int
) -> Any:
    _check_axes(name, x, weight, n)
    stride, dilation = lengths(stride, n, "stride"), lengths(dilation, n, "dilation")
    if isinstance(padding, str):
        if padding not in ("same", "valid"):
            raise ValueError(f'{name}: padding must be numbers, "same" or "valid", not {padding!r}')
        padding = same_padding(weight.shape[2:], stride, dilation) if padding == "same" else 0
    y = conv(x, weight, stride=stride, padding=paddings(padding, n), dilation=dilation, groups=groups)
    return _biased(name, y, bias)


def conv1d(
    x: Any,
    weight: Any,
    bias: Any = None,
    *,
    stride: int | Lengths = 1,
    padding: Padding | str = 0,
    dilation: int | Lengths = 1,
    groups: int = 1,
) -> Any:
    """The convolution of x (N, C, L) with weight (C_out, C / groups, k) and bias (C_out,) or None: (N, C_out, L_out).

    Parameters as in ``conv2d``.
    """
    return _convolved("conv1d", 1, x, weight, bias, stride, padding, dilation, groups)


def conv2d(
    x: Any,
    weight: Any,
    bias: Any = None,
    *,
    stride: int | Lengths = 1,
    padding: Padding | str = 0,
    dilation: int | Lengths = 1,
    groups: int = 1,
) -> Any:
    """The convolution of x (N, C, H, W) with weight (C_out, C / groups, kh, kw) and bias (C_out,) or None.

    Args:
        stride: steps between windows; a number or one for each axis.
        padding: zeros around the input; a number, one for each axis, a pair (before, behind) for each axis, "valid"
            (none) or "same" (the output is as large as the input; stride 1 only).
        dilation: steps inside a window.
        groups: the channels are cut into so many groups, which are convolved separately.

    Returns: (N, C_out, H_out, W_out), with H_out = ⌊(H + padding - dilation (kh - 1) - 1) / stride⌋ + 1.

    Raises:
        ValueError: shapes that do not fit, or windows larger than the padded input.
    """
    return _convolved("conv2d", 2, x, weight, bias, stride, padding, dilation, groups)


def conv_transpose2d(
    x: Any,
    weight: Any,
    bias: Any = None,
    *,
    stride: int | Lengths = 1,
    padding: Padding = 0,
    output_padding: int | Lengths = 0,
    dilation: int | Lengths = 1,
    groups: int = 1,
) -> Any:
    """The transposed convolution of x (N, C, H, W) with weight (C, C_out / groups, kh, kw) and bias (C_out,) or None.

    It is the gradient of ``conv2d`` with respect to its input (Dumoulin & Visin 2016). ``padding`` takes that much off
    the output's border; ``output_padding``, smaller than the stride, adds rows and columns at the end.

    Returns: (N, C_out, H_out, W_out), with H_out = (H - 1) stride - padding + dilation (kh - 1) + output_padding + 1.

    Raises:
        ValueError: shapes that do not fit, or an output_padding that is too large.
    """
    _check_axes("conv_transpose2d", x, weight, 2)
    if x.shape[1] != weight.shape[0] or groups < 1 or x.shape[1] % groups:
        raise ValueError(
            f"conv_transpose2d: input {shape_of(x)} and weight {shape_of(weight)} do not fit with groups={groups}; needed are "
            "(N, C, H, W) and (C, C_out / groups, kh, kw), C divisible by groups"
        )
    stride, dilation, pairs = lengths(stride, 2, "stride"), lengths(dilation, 2, "dilation"), paddings(padding, 2)
    extra = lengths(output_padding, 2, "output_padding", least=0)
    if any(e >= s for e, s in zip(extra, stride, strict=True)):
        raise ValueError(f"conv_transpose2d: output_padding {extra} must be smaller than the stride {stride}")
    size = tuple(
        (n - 1) * s - a - b + d * (k - 1) + e + 1
        for n, k, s, d, (a, b), e in zip(x.shape[2:], weight.shape[2:], stride, dilation, pairs, extra, strict=True)
    )
    if any(n < 1 for n in size):
        raise ValueError(
            f"conv_transpose2d: input {shape_of(x)} and weight {shape_of(weight)} with padding {pairs} leave an output of {size}"
        )
    y = conv_transpose(x, weight, size=size, stride=stride, padding=pairs, dilation=dilation, groups=groups)
    return _biased("conv_transpose2d", y, bias)
