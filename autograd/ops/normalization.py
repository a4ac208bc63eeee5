"""Normalisation: ``standardize``, and batch, layer and group normalisation, which share it.

The Jacobian of ``standardize`` is symmetric and can be written with its output z alone, (I - 11ᵀ/n - zzᵀ/n) / √(var + ε)
(Ioffe & Szegedy 2015, section 3). Its middle part is the row ``project_out``, which is its own transpose; so the backward
pass neither keeps the input nor computes a mean twice, and derivatives of every order exist.
"""

import math
from typing import Any

import numpy as np

from ..backend import xp
from ..halves import half, is_half
from ..precision import beside
from ..shapes import kept, length, same_float, shape_of, stretched_float
from ..table import op
from .elementwise import add, multiply, rsqrt, sqrt, subtract
from .layout import broadcast_to, reshape
from .reduce import sum

__all__ = ["batch_norm", "group_norm", "layer_norm", "project_out", "standardize"]


def _per_element(factor: float) -> Any:
    """FLOPs per element of the first input."""
    return lambda _y, x, *_, **__: factor * math.prod(shape_of(x))


def _single(x: Any) -> Any:
    """Half precision as float32, in which squares do not overflow; anything else as it is."""
    return xp(x).astype(x, xp(x).float32) if is_half(x.dtype) else x


def _standardize(x: Any, *, axes: tuple[int, ...], eps: float = 1e-5) -> tuple:
    library, n, dtype = xp(x), max(length(x.shape, axes), 1), x.dtype
    x = _single(x)
    m = library.sum(x, axis=axes, keepdims=True) / n
    off = library.sum(x - m, axis=axes, keepdims=True) / n
    z = (x - m) - off
    m = m + off
    v = library.sum(z * z, axis=axes, keepdims=True) / n
    z = z / library.sqrt(v + eps)
    return (library.astype(z, dtype) if is_half(dtype) else z), m, v


def _np_variance(z: Any, axes: tuple[int, ...], n: int) -> Any:
    """The mean of the squares; for the last axis without an array of them."""
    if axes in ((-1,), (z.ndim - 1,)):
        return np.vecdot(z, z)[..., None] / n
    return np.add.reduce(z * z, axis=axes, keepdims=True) / n


_LARGE_MEAN = 4.0
"""In standard deviations. The rounding of a large mean shifts z as a whole, so a second mean is taken off
(Chan, Golub & LeVeque 1983); of a small one the pass over the data would gain nothing."""


def _np_standardize(x: Any, axes: tuple[int, ...], eps: float) -> tuple:
    n, dtype = max(length(x.shape, axes), 1), x.dtype
    x = _single(x)
    m = np.add.reduce(x, axis=axes, keepdims=True) / n
    z = x - m
    v = _np_variance(z, axes, n)
    if np.any(np.abs(m) > _LARGE_MEAN * np.sqrt(v)):
        off = np.add.reduce(z, axis=axes, keepdims=True) / n
        z -= off
        m, v = m + off, _np_variance(z, axes, n)
    z *= 1.0 / np.sqrt(v + eps)
    return (half(z, dtype) if is_half(dtype) else z), m, v


def _standardized(x: Any, axes: tuple[int, ...], eps: float) -> list:
    shape, dtype = same_float(x)
    statistics = np.dtype(np.float32) if is_half(dtype) else dtype
    return [(shape, dtype), (kept(shape, axes), statistics), (kept(shape, axes), statistics)]


def _standardize_rule(gs: Any, ys: Any, _x: Any, axes: tuple[int, ...], eps: float) -> Any:
    gz, gm, gv = gs
    z, _, v = ys
    n = 1.0 / max(length(_x.shape, axes), 1)
    d = None if gz is None else project_out(gz, z, axes=axes) * rsqrt(v + eps)
    if gv is not None:
        part = z * (gv * sqrt(v + eps) * (2.0 * n))
        d = part if d is None else d + part
    if gm is not None:
        part = broadcast_to(gm * n, shape=_x.shape)
        d = part if d is None else d + part
    return d


standardize = op(
    "standardize", _standardize, _standardized, _standardize_rule, outputs=3, flops=_per_element(7), complex=False,
    precision=("inputs", "float32", "float32"), doc="""z = (x - mean) / √(var + eps), with the mean and the (biased) variance over axes: the three of them.

    The mean and the variance keep the axes, with length 1; those of half precision are float32.""",
)  # fmt: skip


def _project_out(g: Any, z: Any, *, axes: tuple[int, ...]) -> Any:
    library, n = xp(g), 1.0 / max(length(g.shape, axes), 1)
    along = library.sum(g * z, axis=axes, keepdims=True) * n
    return g - library.sum(g, axis=axes, keepdims=True) * n - z * along


def _np_project_out(g: Any, z: Any, axes: tuple[int, ...]) -> Any:
    n = 1.0 / max(length(g.shape, axes), 1)
    if axes in ((-1,), (g.ndim - 1,)):
        along, product = np.vecdot(g, z)[..., None] * n, np.empty_like(g, dtype=np.result_type(g, z))
    else:
        product = g * z
        along = np.add.reduce(product, axis=axes, keepdims=True) * n
    np.multiply(z, along, out=product)
    product += np.add.reduce(g, axis=axes, keepdims=True) * n
    return np.subtract(g, product, out=product)


def _mean(x: Any, axes: tuple[int, ...]) -> Any:
    """The mean with the axes kept; of nothing 0."""
    return sum(x, axis=axes, keepdims=True) * (1.0 / max(length(x.shape, axes), 1))


project_out = op(
    "project_out", _project_out, stretched_float,
    lambda h, _y, _g, z, axes: project_out(h, z, axes=axes),
    lambda h, _y, g, z, axes: -(h * _mean(g * z, axes) + g * _mean(h * z, axes)),
    flops=_per_element(6), complex=False,
    precision="inputs", doc="g - mean(g) - z · mean(g z) over axes, for g and z of one shape: what ``standardize``, with output z, does to a small change.",
)  # fmt: skip
standardize.row.kernels[np.ndarray] = _np_standardize
project_out.row.kernels[np.ndarray] = _np_project_out


def _affine(name: str, z: Any, weight: Any, bias: Any, shape: tuple[int, ...], stretched: tuple[int, ...]) -> Any:
    """z · weight + bias, both of a shape (or None), which is stretched over z as another."""
    for what, value in (("weight", weight), ("bias", bias)):
        if value is not None and shape_of(value) != shape:
            raise ValueError(
                f"{name}: the {what} has shape {shape_of(value)}, the input {tuple(z.shape)} needs {shape}"
            )
    weight, bias = (p if p is None else beside(p, z) for p in (weight, bias))
    z = z if weight is None else multiply(z, weight if shape == stretched else reshape(weight, shape=stretched))
    return z if bias is None else add(z, bias if shape == stretched else reshape(bias, shape=stretched))


def _channels(name: str, x: Any, least: int = 2) -> tuple[int, tuple[int, ...]]:
    """The number of channels, and the shape that stretches one value for each of them."""
    if x.ndim < least:
        raise ValueError(f"{name}: input {tuple(x.shape)} needs the axes (N, C, ...)")
    return x.shape[1], (x.shape[1],) + (1,) * (x.ndim - 2)


def batch_norm(
    x: Any, mean: Any = None, var: Any = None, weight: Any = None, bias: Any = None, *, eps: float = 1e-5
) -> Any:
    """(x - mean) / √(var + eps) · weight + bias, for each channel of x (N, C, ...) (Ioffe & Szegedy 2015).

    Args:
        mean, var: of shape (C,); None: those of the batch, over all axes but the channels'.
        weight, bias: of shape (C,), or None.

    Raises:
        ValueError: shapes that do not fit.
    """
    n, stretched = _channels("batch_norm", x)
    if (mean is None) != (var is None):
        raise ValueError("batch_norm: give both the mean and the variance, or neither")
    if mean is None:
        z, _, _ = standardize(x, axes=(0, *range(2, x.ndim)), eps=eps)
        return _affine("batch_norm", z, weight, bias, (n,), stretched)
    for what, value in (("mean", mean), ("variance", var)):
        if shape_of(value) != (n,):
            raise ValueError(
                f"batch_norm: the {what} has shape {shape_of(value)}, the input {tuple(x.shape)} needs ({n},)"
            )
    scale = rsqrt(var + eps) if weight is None else multiply(rsqrt(var + eps), weight)
    shift = -multiply(mean, scale) if bias is None else subtract(bias, multiply(mean, scale))
    return _affine("batch_norm", x, scale, shift, (n,), stretched)


def layer_norm(
    x: Any, normalized_shape: int | tuple[int, ...], weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Any:
    """x standardized over its last axes, times weight, plus bias (Ba et al. 2016).

    Args:
        normalized_shape: the shape of the last axes; weight and bias have it too, or are None.

    Raises:
        ValueError: shapes that do not fit.
    """
    shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    if not shape or tuple(x.shape[-len(shape) :]) != shape:
        raise ValueError(f"layer_norm: input {tuple(x.shape)} does not end in the normalized shape {shape}")
    z, _, _ = standardize(x, axes=tuple(range(-len(shape), 0)), eps=eps)
    return _affine("layer_norm", z, weight, bias, shape, shape)


def group_norm(x: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    """x (N, C, ...) standardized over each of ``num_groups`` groups of channels of each sample (Wu & He 2018).

    Args:
        weight, bias: of shape (C,), or None.

    Raises:
        ValueError: shapes that do not fit, or channels that do not divide into the groups.
    """
    n, stretched = _channels("group_norm", x)
    if num_groups < 1 or n % num_groups:
        raise ValueError(
            f"group_norm: the {n} channels of input {tuple(x.shape)} do not divide into {num_groups} groups"
        )
    grouped = reshape(x, shape=(x.shape[0], num_groups, n // num_groups, *x.shape[2:]))
    z, _, _ = standardize(grouped, axes=tuple(range(2, grouped.ndim)), eps=eps)
    return _affine("group_norm", reshape(z, shape=tuple(x.shape)), weight, bias, (n,), stretched)
