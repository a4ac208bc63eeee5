"""The rest of NumPy's elementwise functions and differences that have derivatives: a few rows, and functions over rows."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import backend
from ..backend import xp
from ..shapes import axes_of, floating, result_dtype, same_float, shape_of, stretched_float
from ..table import Domain, op
from .elementwise import (
    FUNCTION,
    abs,
    atan2,
    clip,
    cos,
    equal,
    greater,
    imag,
    isinf,
    isnan,
    less,
    logaddexp,
    logical_and,
    maximum,
    minimum,
    real,
    replace_zero,
    round,
    sign,
    where,
)
from .layout import concat, flip, permute, reshape
from .precision import computed
from .reduce import max, min, sum

__all__ = [
    "angle",
    "cbrt",
    "copysign",
    "deg2rad",
    "diff",
    "ediff1d",
    "exp2",
    "fliplr",
    "flipud",
    "fmax",
    "fmin",
    "gradient",
    "heaviside",
    "logaddexp2",
    "nan_to_num",
    "ptp",
    "rad2deg",
    "rot90",
    "sinc",
    "trapezoid",
]  # fmt: skip

# ---- rows ----


@computed
def _cbrt(x: Any) -> Any:
    library = xp(x)
    return library.sign(x) * library.abs(x) ** (1.0 / 3.0)


@computed
def _sinc(x: Any) -> Any:
    library = xp(x)
    near = library.round(x)
    sign = 1.0 - 2.0 * (near % 2.0)
    z = library.where(x == 0, 1.0, x) * math.pi
    return backend.scalar(library.where(x == 0, 1.0, sign * library.sin((x - near) * math.pi) / z))


def _cos_pi(x: Any) -> Any:
    """cos πx, accurate for large x: whole turns are taken off before π, which is rounded, comes in."""
    return cos(math.pi * (x - 2.0 * round(0.5 * x)))


_SMALL = 0.25  # where |x| is smaller the rule of sinc would subtract nearly equal numbers


def _sinc_rule(g: Any, y: Any, x: Any) -> Any:
    """(cos πx - sinc x) / x (DLMF 10.51.2, j₀' = -j₁); near 0 its power series Σ (-1)ᵏ π²ᵏ 2k x²ᵏ⁻¹ / (2k + 1)!."""
    square = clip(x * x, low=None, high=_SMALL * _SMALL)
    series: Any = 0.0
    for k in range(11, 0, -1):
        series = series * square + (-1) ** k * math.pi ** (2 * k) * 2 * k / math.factorial(2 * k + 1)
    small = less(abs(x), _SMALL)
    return g * where(small, series * x, (_cos_pi(x) - y) / replace_zero(x, by=1.0))


exp2 = op("exp2", computed(lambda x: 2.0**x), same_float, lambda g, y, _x: g * y * math.log(2.0), flops=FUNCTION, doc="2 to the power x.")  # fmt: skip
cbrt = op("cbrt", _cbrt, same_float, lambda g, y, _x: g / (3.0 * y * y), domain=Domain(avoid=(0.0,)), flops=FUNCTION, complex=False, doc="The real cube root; its derivative at 0 is inf.")  # fmt: skip
sinc = op("sinc", _sinc, same_float, _sinc_rule, flops=FUNCTION, complex=False, doc="sin(πx) / (πx), 1 at 0.")
copysign = op(
    "copysign", computed(lambda x, y: xp(x).copysign(x, y)), stretched_float, lambda g, _z, x, y: g * copysign(sign(x), sign(x) * y), None,
    domain=Domain(avoid=(0.0,)), complex=False, precision="inputs", doc="|x| with the sign of y; a constant with respect to y.",
)  # fmt: skip
exp2.row.kernels[np.ndarray] = computed(lambda x: np.exp2(x))
cbrt.row.kernels[np.ndarray] = computed(lambda x: np.cbrt(x))

# ---- elementwise functions over rows ----


def deg2rad(x: Any) -> Any:
    """Degrees in radians."""
    return x * (math.pi / 180.0)


def rad2deg(x: Any) -> Any:
    """Radians in degrees."""
    return x * (180.0 / math.pi)


def angle(x: Any, deg: bool = False) -> Any:
    """The angle of complex numbers with the positive real axis, in radians (or degrees); its derivative at 0 is 0."""
    found = atan2(imag(x), real(x))
    return rad2deg(found) if deg else found


def fmax(x: Any, y: Any) -> Any:
    """The larger of x and y; a number where the other is NaN. At ties each has half of the derivative."""
    return where(isnan(x), y, where(isnan(y), x, maximum(x, y)))


def fmin(x: Any, y: Any) -> Any:
    """The smaller of x and y; a number where the other is NaN. At ties each has half of the derivative."""
    return where(isnan(x), y, where(isnan(y), x, minimum(x, y)))


def logaddexp2(x: Any, y: Any) -> Any:
    """log₂(2ˣ + 2ʸ), without overflow."""
    scale = math.log(2.0)
    return logaddexp(x * scale, y * scale) * (1.0 / scale)


def heaviside(x: Any, h0: Any) -> Any:
    """0 where x < 0, h0 where x = 0, 1 where x > 0; its derivative with respect to x is 0 everywhere."""
    return where(equal(x, 0), h0, where(isnan(x), x * 0.0, where(greater(x, 0), 1.0, x * 0.0)))


def nan_to_num(x: Any, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None) -> Any:
    """x with NaN and infinities replaced by numbers (the largest of the dtype if None), which are constants."""
    top = float(np.finfo(floating(result_dtype(x))).max)
    x = where(isnan(x), nan, x)
    x = where(logical_and(isinf(x), greater(x, 0)), top if posinf is None else posinf, x)
    return where(logical_and(isinf(x), less(x, 0)), -top if neginf is None else neginf, x)


# ---- differences and rearrangements ----


def ptp(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """The largest element minus the smallest, over axes (all if None)."""
    return max(x, axis=axis, keepdims=keepdims) - min(x, axis=axis, keepdims=keepdims)


def _part(x: Any, axis: int, start: int | None, stop: int | None) -> Any:
    return x[(slice(None),) * axis + (slice(start, stop), Ellipsis)]


def diff(x: Any, n: int = 1, axis: int = -1, prepend: Any = None, append: Any = None) -> Any:
    """The n-th differences of neighbours along an axis, of x with ``prepend`` and ``append`` (arrays, or None) at its ends."""
    a = axes_of(axis, len(shape_of(x)))[0]
    if n < 0:
        raise ValueError(f"diff: n must be 0 or more, not {n}")
    if prepend is not None or append is not None:
        x = concat([part for part in (prepend, x, append) if part is not None], axis=a)
    for _ in range(n):
        x = _part(x, a, 1, None) - _part(x, a, None, -1)
    return x


def ediff1d(x: Any, to_end: Any = None, to_begin: Any = None) -> Any:
    """The differences of neighbours in x as a vector, between ``to_begin`` and ``to_end`` (arrays, or None)."""
    found = diff(reshape(x, shape=(-1,)))
    parts = [None if e is None else reshape(e, shape=(-1,)) for e in (to_begin, found, to_end)]
    return found if to_begin is to_end is None else concat([e for e in parts if e is not None], axis=0)


def gradient(x: Any, *spacing: float, axis: int | Sequence[int] | None = None, edge_order: int = 1) -> Any:
    """Numerical derivatives by central differences, one-sided at the edges (as ``numpy.gradient``).

    Args:
        x: values at equally spaced points.
        spacing: the distance between points: none (1), a number, or one for each axis.
        axis: one axis, several, or all (None).
        edge_order: 1 or 2, the order of accuracy at the edges.

    Returns:
        An array for one axis, else a list with one for each; of x's shape.
    """
    ndim = len(shape_of(x))
    axes = tuple(range(ndim)) if axis is None else (axis,) if isinstance(axis, int) else tuple(axis)
    axes_of(axes, ndim)
    if edge_order not in (1, 2):
        raise ValueError(f"gradient: edge_order must be 1 or 2, not {edge_order}")
    if len(spacing) not in (0, 1, len(axes)) or any(np.ndim(h) for h in spacing):
        raise ValueError(
            f"gradient: spacing must be a number, or one for each of the {len(axes)} axes; coordinates are not supported"
        )
    steps = tuple(spacing) * (len(axes) if len(spacing) == 1 else 1) or (1.0,) * len(axes)
    found = [_gradient(x, a % ndim, h, edge_order) for a, h in zip(axes, steps, strict=True)]
    return found[0] if len(found) == 1 else found


def _gradient(x: Any, a: int, h: float, edge_order: int) -> Any:
    n = shape_of(x)[a]
    if n < edge_order + 1:
        raise ValueError(f"gradient: axis {a} has {n} points; edge_order {edge_order} needs {edge_order + 1}")

    def at(i: int) -> Any:
        return _part(x, a, i, i + 1 or None)

    inside = (_part(x, a, 2, None) - _part(x, a, None, -2)) * (0.5 / h)
    if edge_order == 1:
        first, last = (at(1) - at(0)) * (1.0 / h), (at(-1) - at(-2)) * (1.0 / h)
    else:
        first = (-1.5 * at(0) + 2.0 * at(1) - 0.5 * at(2)) * (1.0 / h)
        last = (1.5 * at(-1) - 2.0 * at(-2) + 0.5 * at(-3)) * (1.0 / h)
    return concat([first, inside, last], axis=a)


def trapezoid(y: Any, x: Any = None, dx: float = 1.0, axis: int = -1) -> Any:
    """The integral along an axis by the trapezoidal rule, at points x (a vector, or of y's shape) or ``dx`` apart."""
    a = axes_of(axis, len(shape_of(y)))[0]
    if x is None:
        step: Any = dx
    elif len(shape_of(x)) == 1:
        step = reshape(diff(x), shape=(1,) * a + (-1,) + (1,) * (len(shape_of(y)) - a - 1))
    else:
        step = diff(x, axis=a)
    return sum((_part(y, a, 1, None) + _part(y, a, None, -1)) * 0.5 * step, axis=a)


def flipud(x: Any) -> Any:
    """x with its first axis reversed."""
    return flip(x, axis=0)


def fliplr(x: Any) -> Any:
    """x with its second axis reversed."""
    return flip(x, axis=1)


def rot90(x: Any, k: int = 1, axes: tuple[int, int] = (0, 1)) -> Any:
    """x turned k times by 90° in the plane of two axes, from the first towards the second."""
    ndim = len(shape_of(x))
    a, b = (axes_of(i, ndim)[0] for i in axes)
    if a == b:
        raise ValueError(f"rot90: axes {axes} name an axis twice")
    k %= 4
    if k == 0:
        return x
    if k == 2:
        return flip(x, axis=(a, b))
    order = list(range(ndim))
    order[a], order[b] = b, a
    return permute(flip(x, axis=b), axes=tuple(order)) if k == 1 else flip(permute(x, axes=tuple(order)), axis=b)
