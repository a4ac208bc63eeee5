"""Strategies of the rows for neural networks: convolutions, poolings, normalisation and losses."""

import math
from typing import Any

import numpy as np

from ..backend import scalar
from ..ops.windows import windows
from ..shapes import axes_of
from ..table import Row
from .calls import exempt, strategy
from .strategies import Draw, arrays, axis, broadcasting, generator, shapes, st


def _fit(draw: Draw, dilated: bool) -> tuple[tuple, tuple, dict]:
    """Sizes of the input, of a window and of the output, and the parameters that make it so."""
    n = draw(st.sampled_from([1, 2, 2]))
    kernel = tuple(draw(st.integers(1, 3)) for _ in range(n))
    dilation = tuple(draw(st.sampled_from([1, 1, 2])) for _ in range(n)) if dilated else (1,) * n
    stride = tuple(draw(st.integers(1, 3)) for _ in range(n))
    if dilated:
        padding = tuple((draw(st.integers(0, 2)), draw(st.integers(0, 2))) for _ in range(n))
    else:  # a pooling's padding is at most half of its window
        padding = tuple((draw(st.integers(0, k // 2)), draw(st.integers(0, k // 2))) for k in kernel)
    least = [max(d * (k - 1) + 1 - a - b, 1) for k, d, (a, b) in zip(kernel, dilation, padding, strict=True)]
    size = tuple(m + draw(st.integers(0, 3)) for m in least)
    params = {"stride": stride, "padding": padding, **({"dilation": dilation} if dilated else {"kernel": kernel})}
    return size, kernel, params


@strategy("conv", "conv_transpose", "conv_weight")
def _conv(draw: Draw, row: Row) -> tuple[tuple, dict]:
    size, kernel, params = _fit(draw, dilated=True)
    if draw(st.integers(0, 3)) == 0 and len(set(params["stride"])) == 1:
        params["stride"] = params["stride"][0]
    groups = draw(st.sampled_from([1, 1, 2]))
    samples, channels, outputs = (
        draw(st.sampled_from([1, 2, 3, 0])),
        groups * draw(st.integers(1, 2)),
        groups * draw(st.integers(1, 2)),
    )
    out = windows(size, kernel, params["stride"], params["padding"], params["dilation"]).out
    x, w, y = (samples, channels, *size), (outputs, channels // groups, *kernel), (samples, outputs, *out)
    params["groups"] = groups
    if row.name == "conv":
        return tuple(draw(arrays([x, w]))), params
    if row.name == "conv_transpose":
        return tuple(draw(arrays([y, w]))), {**params, "size": size}
    return tuple(draw(arrays([x, y]))), {**params, "kernel": kernel}


@strategy("max_pool", "avg_pool", "spread_window", "place_window", "pick_window")
def _pool(draw: Draw, row: Row) -> tuple[tuple, dict]:
    size, kernel, params = _fit(draw, dilated=False)
    lead = (draw(st.sampled_from([1, 2, 0])), draw(st.integers(1, 2)))
    x, y = (*lead, *size), (*lead, *windows(size, kernel, params["stride"], params["padding"]).out)
    if row.name in ("max_pool", "avg_pool"):
        return tuple(draw(arrays([x]))), params
    if row.name == "spread_window":
        return tuple(draw(arrays([y]))), {**params, "size": size}
    places = scalar(np.asarray(generator(draw).integers(0, math.prod(kernel), y)))
    if row.name == "place_window":
        return (draw(arrays([y]))[0], places), {**params, "size": size}
    return (draw(arrays([x]))[0], places), params


@strategy("standardize", "project_out")
def _standardize(draw: Draw, row: Row) -> tuple[tuple, dict]:
    shape = draw(shapes(min_ndim=1))
    chosen = draw(st.lists(st.integers(0, len(shape) - 1), min_size=1, unique=True))
    params: dict[str, Any] = {"axes": tuple(a - len(shape) if draw(st.booleans()) else a for a in chosen)}
    if row.name == "standardize":
        return tuple(draw(arrays([shape]))), {**params, "eps": draw(st.sampled_from([1e-5, 0.1]))}
    return tuple(draw(arrays([shape, shape]))), params


@strategy("cross_entropy", "cross_entropy_rule")
def _cross_entropy(draw: Draw, row: Row) -> tuple[tuple, dict]:
    shape = draw(shapes(min_ndim=1, min_side=1))
    a = draw(axis(len(shape)))
    (k,) = axes_of(a, len(shape))
    target = shape[:k] + shape[k + 1 :]
    classes = scalar(np.asarray(generator(draw).integers(0, shape[k], target)))
    params = {"axis": a, "smoothing": draw(st.sampled_from([0.0, 0.1]))}
    if row.name == "cross_entropy":
        return (draw(arrays([shape], row.domain[0]))[0], classes), params
    return (*draw(arrays([target, shape], row.domain[:2])), classes), params


@strategy("binary_cross_entropy")
def _binary_cross_entropy(draw: Draw, row: Row) -> tuple[tuple, dict]:
    return tuple(draw(arrays(draw(broadcasting(2)), row.domain))), {}


exempt(
    "float16",
    "standardize",
    reason="the mean and the variance of float16 are float32, in which squares do not overflow",
)
