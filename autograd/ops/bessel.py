"""Bessel functions: J, Y and I, the modified ones also damped by e^{-|x|}.

Values come from SciPy or CuPy, as those of ``special``. C' = (C_{ν-1} - C_{ν+1}) / 2 for J and Y (DLMF 10.6.1) and
I' = (I_{ν-1} + I_{ν+1}) / 2 (DLMF 10.29.1), so derivatives of every order exist; one with respect to ν, the order of the function,
has no closed form, and asking for it is an error.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..backend import xp
from ..shapes import numpy_dtype, same_float
from ..table import Domain, op
from .elementwise import abs, greater, less, logical_and, sign, where
from .precision import computed, real_float
from .special import ORDERS, POSITIVE, SPECIAL, _library, _scipy, _stretched, _unknown

__all__ = [
    "i0", "i0e", "i1", "i1e", "iv", "ive", "j0", "j1", "jn", "jv", "y0", "y1", "yn", "yv",
]  # fmt: skip


def _iv(x: Any, y: Any) -> Any:
    """SciPy's I; it is NaN where y is subnormal, and there 0 for orders above 1."""
    library, out = xp(y), _library(y).iv(x, y)
    vanishing = library.isnan(out) & (abs(y) < 1e-300) & (x > 1)
    return library.where(vanishing, 0.0, out) if library.any(vanishing) else out


def _damped(order: int, end: float) -> Callable:
    """e^{-|x|} I of order 0 or 1: SciPy's, but by the power series (DLMF 10.25.2), whose terms are all positive, where |x| < ``end``
    and SciPy's Chebyshev series are off by up to 8 units."""
    name, terms = f"i{order}e", range(int(1.7 * end) + 12, 0, -1)

    def kernel(x: Any) -> Any:
        library, out, size = xp(x), getattr(_library(x), name)(x), abs(x)
        if numpy_dtype(x.dtype) != np.float64 or not library.any(near := size < end):  # float32 is computed in double precision
            return out
        quarter, rest = library.where(near, 0.25 * x * x, 0.0), 0.0
        for k in terms:
            rest = (rest + 1.0) * (quarter / (k * (k + order)))
        damp = library.exp(-size)
        return library.where(near, (damp + damp * rest) * (0.5 * x if order else 1.0), out)

    return computed(kernel)


def _second(i0_: Any, i1_: Any, x: Any, i: Callable, end: float) -> Any:
    """I₂ of x, by I₀ - 2 I₁/x (DLMF 10.29.1) from 2 to ``end``, where SciPy's ``i`` of order 2 is less accurate."""
    large = logical_and(greater(abs(x), 2.0), less(abs(x), end))
    return where(large, i0_ - i1_ / where(large, 0.5 * x, 1.0), i(2, where(large, 0.0, x)))


def _i1_rule(g: Any, y: Any, x: Any) -> Any:
    zeroth, end = i0(x), 700.0 if numpy_dtype(x.dtype) == np.float64 else 85.0  # there I₀ is still finite
    return g * (0.5 * (zeroth + _second(zeroth, y, x, iv, end)))


def _i1e_rule(g: Any, y: Any, x: Any) -> Any:
    zeroth = i0e(x)
    return g * (0.5 * (zeroth + _second(zeroth, y, x, ive, math.inf)) - sign(x) * y)


_ORDER = "the order (its first argument)"
_ORDER_AND_REAL, _ORDER_AND_POSITIVE = (ORDERS, Domain()), (ORDERS, POSITIVE)
j0 = op("j0", _scipy("j0", 1), same_float, lambda g, _y, x: -(g * j1(x)), flops=SPECIAL, complex=False, doc="The Bessel function J₀. J₀' = -J₁ (DLMF 10.6.3).")  # fmt: skip
j1 = op("j1", _scipy("j1", 1), same_float, lambda g, _y, x: g * (0.5 * (j0(x) - jv(2, x))), flops=SPECIAL, complex=False, doc="The Bessel function J₁ (DLMF 10.6.1).")  # fmt: skip
y0 = op("y0", _scipy("y0", 1), same_float, lambda g, _y, x: -(g * y1(x)), domain=POSITIVE, flops=SPECIAL, complex=False, doc="The Bessel function Y₀. Y₀' = -Y₁ (DLMF 10.6.3).")  # fmt: skip
y1 = op("y1", _scipy("y1", 1), same_float, lambda g, _y, x: g * (0.5 * (y0(x) - yv(2, x))), domain=POSITIVE, flops=SPECIAL, complex=False, doc="The Bessel function Y₁ (DLMF 10.6.1).")  # fmt: skip
i0 = op("i0", _scipy("i0", 1), same_float, lambda g, _y, x: g * i1(x), flops=SPECIAL, complex=False, doc="The modified Bessel function I₀. I₀' = I₁ (DLMF 10.29.3).")  # fmt: skip
i1 = op("i1", _scipy("i1", 1), same_float, _i1_rule, flops=SPECIAL, complex=False, doc="The modified Bessel function I₁ (DLMF 10.29.1).")  # fmt: skip
i0e = op("i0e", _damped(0, 2.0), same_float, lambda g, y, x: g * (i1e(x) - sign(x) * y), domain=Domain(avoid=(0.0,)), flops=SPECIAL, complex=False, doc="e^{-|x|} I₀(x) (DLMF 10.29.3); the derivative of |x| at 0 counts as 0.")  # fmt: skip
i1e = op("i1e", _damped(1, 8.0), same_float, _i1e_rule, domain=Domain(avoid=(0.0,)), flops=SPECIAL, complex=False, doc="e^{-|x|} I₁(x) (DLMF 10.29.1).")  # fmt: skip
jv = op("jv", _scipy("jv", 2, due=real_float), _stretched, _unknown("jv", _ORDER), lambda g, _z, x, y: g * (0.5 * (jv(x - 1, y) - jv(x + 1, y))), domain=_ORDER_AND_REAL, flops=SPECIAL, complex=False, doc="The Bessel function J of order x at y (DLMF 10.6.1); no derivative with respect to the order.")  # fmt: skip
yv = op("yv", _scipy("yv", 2, due=real_float), _stretched, _unknown("yv", _ORDER), lambda g, _z, x, y: g * (0.5 * (yv(x - 1, y) - yv(x + 1, y))), domain=_ORDER_AND_POSITIVE, flops=SPECIAL, complex=False, doc="The Bessel function Y of order x at y > 0 (DLMF 10.6.1); no derivative with respect to the order.")  # fmt: skip
iv = op("iv", computed(_iv, real_float), _stretched, _unknown("iv", _ORDER), lambda g, _z, x, y: g * (0.5 * (iv(x - 1, y) + iv(x + 1, y))), domain=_ORDER_AND_REAL, flops=SPECIAL, complex=False, doc="The modified Bessel function I of order x at y (DLMF 10.29.1); no derivative with respect to the order.")  # fmt: skip
ive = op("ive", _scipy("ive", 2, due=real_float), _stretched, _unknown("ive", _ORDER), lambda g, z, x, y: g * (0.5 * (ive(x - 1, y) + ive(x + 1, y)) - sign(y) * z), domain=(ORDERS, Domain(avoid=(0.0,))), flops=SPECIAL, complex=False, doc="e^{-|y|} times the modified Bessel function I of order x at y (DLMF 10.29.1).")  # fmt: skip
jn, yn = jv, yv
