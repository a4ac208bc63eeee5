"""Pooling over any number of axes, and the rows that are its transposes.

``max_pool`` returns, beside the maxima, which place of its window each one came from: 0 for the window's first element in
row-major order, and so on. Its gradient puts each value back there (``place_window``), and the transpose of that picks
them out again (``pick_window``). ``avg_pool`` and ``spread_window`` are each other's transpose.

All of them work on one place of all windows at a time, as slices, so they run on every array library, and keep NumPy's
order of memory (see ``convolution``).
"""

import math
from typing import Any

import numpy as np

from ..backend import xp
from ..halves import half, is_half_array, single
from ..shapes import floating, numpy_dtype, result_dtype, shape_of
from ..table import Domain, op
from .elementwise import where
from .windows import Lengths, Padding, Windows, aligned, constant, lengths, padded, paddings, windows, zeros

__all__ = ["avg_pool", "avg_pool2d", "max_pool", "max_pool2d", "pick_window", "place_window", "spread_window"]


def _fit(x: Lengths, kernel: Any, stride: Any, padding: Any) -> Windows:
    if len(x) < 3:
        raise ValueError(f"input {x} needs the axes (N, C, ...)")
    try:
        found = windows(x[2:], kernel, stride, padding)
    except ValueError as error:
        raise ValueError(f"input {x}: {error}") from None
    if any(2 * max(p) > k for p, k in zip(zip(found.low, found.high, strict=True), found.kernel, strict=True)):
        raise ValueError(f"input {x}: padding {padding} is more than half of the kernel {found.kernel}")
    return found


def _fit_out(y: Lengths, x: Lengths, *params: Any) -> Windows:
    found = _fit(x, *params)
    if y != (*x[:2], *found.out):
        raise ValueError(f"output {y} and input {x} do not fit; the output's shape would be {(*x[:2], *found.out)}")
    return found


def _place_dtype(fit: Windows) -> Any:
    places = math.prod(fit.kernel)
    return np.dtype(np.uint8 if places <= 1 << 8 else np.uint16 if places <= 1 << 16 else np.int64)


def _lowest(x: Any) -> Any:
    name = str(x.dtype)
    return -math.inf if "float" in name else False if "bool" in name else xp(x).iinfo(x.dtype).min


def _max_pool(x: Any, *, kernel: Any, stride: Any, padding: Any = 0) -> tuple:
    fit = _fit(x.shape, kernel, stride, padding)
    library, x = xp(x), padded(x, fit, _lowest(x))
    kind = getattr(library, _place_dtype(fit).name)
    best: Any = None
    for k, at in enumerate(fit.offsets()):
        value = x[(..., *at)]
        if best is None:
            best, place = value, library.zeros_like(value, dtype=kind)
            continue
        place = library.where(value > best, k, place)
        best = library.maximum(best, value)
    return library.asarray(best, copy=True) if len(fit.offsets()) == 1 else best, place


def _np_max_pool(x: Any, kernel: Any, stride: Any, padding: Any) -> tuple:
    if is_half_array(x):
        best, place = _np_max_pool(single(x), kernel, stride, padding)
        return half(best, x.dtype), place
    fit = _fit(x.shape, kernel, stride, padding)
    first, *others = fit.offsets()
    x = padded(x, fit, _lowest(x))
    best = x[(..., *first)].copy(order="K")
    place = np.zeros_like(best, _place_dtype(fit))
    for k, at in enumerate(others, 1):
        value = x[(..., *at)]
        larger = value > best
        larger = larger.view(np.uint8) if place.dtype == np.uint8 else larger.astype(place.dtype)
        larger *= place.dtype.type(k)
        np.maximum(place, larger, out=place)  # k grows, so this is the last place that was better than all before it
        np.maximum(best, value, out=best)
    return best, place


def _place_window(g: Any, place: Any, *, size: Lengths, kernel: Any, stride: Any, padding: Any = 0) -> Any:
    fit = _fit_out(g.shape, (*g.shape[:2], *size), kernel, stride, padding)
    if fit.overlaps and is_half_array(g):  # a sum is one of float32, rounded at its end
        return half(_place_window(single(g), place, size=size, kernel=kernel, stride=stride, padding=padding), g.dtype)
    g = aligned(g, place)
    out = zeros(g, (*g.shape[:2], *fit.padded), filled=not fit.tiles)
    for k, at in enumerate(fit.offsets()):
        part = where(place == k, g, 0.0)
        if fit.overlaps:
            out[(..., *at)] += part
        else:
            out[(..., *at)] = part
    return out[fit.inside]


def _pick_window(x: Any, place: Any, *, kernel: Any, stride: Any, padding: Any = 0) -> Any:
    fit = _fit_out(place.shape, x.shape, kernel, stride, padding)
    x = padded(x, fit)
    picked = zeros(x, place.shape)
    for k, at in enumerate(fit.offsets()):
        picked = where(place == k, x[(..., *at)], picked)
    return picked


def _avg_pool(x: Any, *, kernel: Any, stride: Any, padding: Any = 0) -> Any:
    fit = _fit(x.shape, kernel, stride, padding)
    x = padded(x, fit)
    first, *others = (x[(..., *at)] for at in fit.offsets())
    total = first
    for value in others:
        if total is first:
            total = first + value
        else:
            total += value
    return total * (1.0 / math.prod(fit.kernel))


def _spread_window(g: Any, *, size: Lengths, kernel: Any, stride: Any, padding: Any = 0) -> Any:
    fit = _fit_out(g.shape, (*g.shape[:2], *size), kernel, stride, padding)
    g = g * (1.0 / math.prod(fit.kernel))
    out = zeros(g, (*g.shape[:2], *fit.padded), filled=not fit.tiles)
    for at in fit.offsets():
        if fit.overlaps:
            out[(..., *at)] += g
        else:
            out[(..., *at)] = g
    return out[fit.inside]


# ---- the rows ----


def _max_pool_shape(x: Any, **params: Any) -> Any:
    fit = _fit(shape_of(x), **params)
    return [((*x.shape[:2], *fit.out), result_dtype(x)), ((*x.shape[:2], *fit.out), _place_dtype(fit))]


def _pooled_shape(x: Any, *_: Any, **params: Any) -> Any:
    return (*x.shape[:2], *_fit(shape_of(x), **params).out), floating(result_dtype(x))


def _unpooled_shape(g: Any, *_: Any, size: Lengths, **params: Any) -> Any:
    shape = (*g.shape[:2], *size)
    _fit_out(shape_of(g), shape, *(params[k] for k in ("kernel", "stride", "padding")))
    return shape, result_dtype(g)


def _spread_shape(g: Any, **params: Any) -> Any:
    shape, dtype = _unpooled_shape(g, **params)
    return shape, floating(dtype)


def _per_place(y: Any, *_: Any, kernel: Any, **__: Any) -> float:
    y = y[0] if isinstance(y, tuple) else y
    return math.prod(shape_of(y)) * math.prod(lengths(kernel, len(shape_of(y)) - 2, "kernel"))


max_pool = op(
    "max_pool", _max_pool, _max_pool_shape,
    lambda gs, ys, _x, **params: place_window(gs[0], ys[1], size=tuple(_x.shape[2:]), **params),
    outputs=2, flops=_per_place, complex=False,
    precision="any", doc="""The maximum over windows of x (N, C, ...), and the place in its window where it is: two arrays (N, C, ...).

    Places count a window's elements in row-major order; the first maximum wins. Padding is with minus infinity. NaN wins.""",
)  # fmt: skip
place_window = op(
    "place_window", _place_window, _unpooled_shape,
    lambda h, _x, _g, place, size, **params: pick_window(h, place, **params), None,
    domain=(Domain(), Domain(0, 3, kind="int")), flops=lambda _x, g, _p, kernel, **__: _per_place(g, kernel=kernel),
    precision="any", doc="""Zeros (N, C, *size) with each element of g added at its place in its window: the transpose of ``pick_window``.""",
)  # fmt: skip
pick_window = op(
    "pick_window", _pick_window,
    lambda x, place, **params: (_pooled_shape(x, **params)[0], result_dtype(x)),
    lambda g, _y, _x, place, **params: place_window(g, place, size=tuple(_x.shape[2:]), **params), None,
    domain=(Domain(), Domain(0, 3, kind="int")), flops=_per_place,
    precision="any", doc="""The element of each window of x (N, C, ...) that is at a given place in it (0 where that is padding).""",
)  # fmt: skip
avg_pool = op(
    "avg_pool", _avg_pool, _pooled_shape,
    lambda g, _y, _x, **params: spread_window(g, size=tuple(_x.shape[2:]), **params),
    flops=_per_place, precision="inputs", doc="The mean over windows of x (N, C, ...), padding included as zeros.",
)  # fmt: skip
spread_window = op(
    "spread_window", _spread_window, _spread_shape, lambda h, _x, _g, size, **params: avg_pool(h, **params),
    flops=lambda _x, g, kernel, **__: _per_place(g, kernel=kernel),
    precision="inputs", doc="Zeros (N, C, *size) with each element of g spread evenly over its window: the transpose of ``avg_pool``.",
)  # fmt: skip
max_pool.row.kernels[np.ndarray] = _np_max_pool

# ---- what users call ----


def _params(name: str, x: Any, kernel_size: Any, stride: Any, padding: Any, n: int) -> dict[str, Any]:
    if len(shape_of(x)) != n + 2:
        raise ValueError(f"{name}: input {shape_of(x)} needs {n + 2} axes, (N, C, height, width)")
    kernel = lengths(kernel_size, n, "kernel_size")
    return {
        "kernel": kernel,
        "stride": kernel if stride is None else lengths(stride, n, "stride"),
        "padding": paddings(padding, n),
    }


def max_pool2d(x: Any, kernel_size: int | Lengths, stride: int | Lengths | None = None, padding: Padding = 0) -> Any:
    """The maximum over windows of x (N, C, H, W).

    Args:
        kernel_size: the windows' height and width, or one number for both.
        stride: steps between windows (the kernel size if None).
        padding: minus infinities around the input, at most half of the kernel size.

    At ties the first maximum, in row-major order, has the whole derivative.

    Raises:
        ValueError: x has not four axes, or no window fits.
    """
    return max_pool(x, **_params("max_pool2d", x, kernel_size, stride, padding, 2))[0]


def avg_pool2d(
    x: Any,
    kernel_size: int | Lengths,
    stride: int | Lengths | None = None,
    padding: Padding = 0,
    *,
    count_include_pad: bool = True,
) -> Any:
    """The mean over windows of x (N, C, H, W).

    Args:
        kernel_size: the windows' height and width, or one number for both.
        stride: steps between windows (the kernel size if None).
        padding: zeros around the input, at most half of the kernel size.
        count_include_pad: whether the padding counts as elements; if not, each sum is divided by the number of elements
            of x in its window.

    Raises:
        ValueError: x has not four axes, or no window fits.
    """
    params = _params("avg_pool2d", x, kernel_size, stride, padding, 2)
    y = avg_pool(x, **params)
    if count_include_pad or not any(map(any, params["padding"])):
        return y
    share = avg_pool(np.ones((1, 1, *x.shape[2:]), numpy_dtype(y.dtype)), **params)
    return y / constant(share, y)
