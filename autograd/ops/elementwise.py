"""Rows that act on each element: arithmetic, comparisons, functions of one variable (``activations`` has those of networks).

Conventions where a derivative does not exist, chosen so that no NaN arises and documented with the function:
``sqrt``, ``abs``, ``hypot``, ``atan2`` have derivative 0 at their singular point 0; ``power`` has derivative 0 with
respect to the base where the exponent is 0, and with respect to the exponent where the base is 0; ``maximum`` and
``minimum`` share it equally at ties; ``clip`` passes it on both bounds. Poles keep their infinity: ``log(x)`` has derivative inf at 0.

Costs in FLOPs per element count an addition, multiplication or comparison 1, a division or square root 4, and a
transcendental function 10, which is about what vectorised implementations spend.
"""

import cmath
import math
import operator
from typing import Any

import numpy as np

from .. import backend
from ..backend import xp
from ..halves import is_half
from ..shapes import (
    compared,
    floating,
    result_dtype,
    same,
    same_bool,
    same_counting,
    same_float,
    same_real,
    same_ufunc,
    shape_of,
    stretched,
    stretched_counting,
    stretched_float,
    stretched_ufunc,
)
from ..table import Domain, op

__all__ = [
    "abs", "acos", "acosh", "add", "asin", "asinh", "atan", "atan2", "atanh", "bitwise_and", "bitwise_invert",
    "bitwise_left_shift", "bitwise_or", "bitwise_right_shift", "bitwise_xor", "ceil", "clip", "conj", "cos", "cosh", "divide",
    "dropout_mask", "equal", "exp", "expm1", "floor", "floor_divide", "greater", "greater_equal",
    "hypot", "imag", "isfinite", "isinf", "isnan", "less", "less_equal", "log", "log1p", "log2", "log10",
    "logaddexp", "logical_and", "logical_not", "logical_or", "logical_xor", "maximum", "minimum", "multiply", "negative",
    "nextafter", "not_equal", "positive", "power", "real", "reciprocal", "remainder", "replace_zero", "round",
    "rsqrt", "share", "sign", "signbit", "sin", "sinh", "sqrt", "square", "subtract", "tan",
    "tanh", "trunc", "where",
]  # fmt: skip

POSITIVE = Domain(0.2, 3.0)
INSIDE = Domain(-0.9, 0.9)
NOT_ZERO = Domain(avoid=(0.0,))
ANGLES = Domain(-1.2, 1.2)
COUNTS = Domain(-5, 5, kind="int")
PLACES = Domain(0, 6, kind="int")
BOOLS = Domain(kind="bool")
ROOT, FUNCTION = 4, 10  # FLOPs of a square root or division, and of a transcendental function

# ---- arithmetic ----

add = op("add", operator.add, stretched, lambda g, _z, _x, _y: g, lambda g, _z, _x, _y: g, precision="inputs", doc="x + y.")
subtract = op("subtract", operator.sub, stretched, lambda g, _z, _x, _y: g, lambda g, _z, _x, _y: -g, precision="inputs", doc="x - y.")
multiply = op("multiply", operator.mul, stretched, lambda g, _z, _x, y: g * y, lambda g, _z, x, _y: g * x, precision="inputs", doc="x · y.")
divide = op(
    "divide", operator.truediv, stretched_float,
    lambda g, _z, _x, y: g / y,
    lambda g, z, _x, y: -(g * z / y),
    domain=(Domain(), NOT_ZERO), flops=ROOT, precision="inputs", doc="x / y.",
)  # fmt: skip
negative = op("negative", operator.neg, same, lambda g, _y, _x: -g, precision="inputs", doc="-x.")
positive = op("positive", operator.pos, same, lambda g, _y, _x: g, precision="inputs", doc="+x.")
square = op("square", "square", same_counting, lambda g, _y, x: g * x * 2.0, doc="x².")
reciprocal = op("reciprocal", lambda x: 1.0 / x, same_float, lambda g, y, _x: -(g * y * y), domain=NOT_ZERO, flops=ROOT, doc="1 / x.")
floor_divide = op("floor_divide", operator.floordiv, stretched_counting, None, None, domain=(Domain(), NOT_ZERO), complex=False, doc="floor(x / y); a constant to the gradient.")
remainder = op(
    "remainder", operator.mod, stretched_counting,
    lambda g, _z, _x, _y: g,
    lambda g, _z, x, y: -(g * floor_divide(x, y)),
    domain=(Domain(5.2, 5.8), Domain(2.2, 2.5)), flops=ROOT, complex=False, precision="inputs", doc="x mod y, with the sign of y.",
)  # fmt: skip


_NUMBER = (np.generic, int, float, complex)


def _power(x: Any, y: Any) -> Any:
    """``x ** y``; of NumPy scalars as of arrays without axes: their own operator takes the C library's function, whose last bits are
    others where NumPy has vector instructions (AVX-512)."""
    if isinstance(x, np.generic) and isinstance(y, _NUMBER):
        return operator.pow(np.asarray(x), y)
    if isinstance(y, np.generic) and isinstance(x, _NUMBER):
        return operator.pow(x, np.asarray(y))
    return x**y


def _power_base(g: Any, _z: Any, x: Any, y: Any) -> Any:
    if isinstance(y, (int, float, complex)):
        return g * 0.0 if y == 0 else g if y == 1 else g * (y * _power(x, y - 1))
    return g * (y * _power(x, where(equal(y, 0), 1, y - 1)))


def _power_exponent(g: Any, z: Any, x: Any, _y: Any) -> Any:
    if isinstance(x, (int, float, complex)) and not isinstance(x, np.generic):  # a Python number: it must not widen float32
        return g * z * (0.0 if x == 0 else math.log(x) if not isinstance(x, complex) and x > 0 else cmath.log(x))
    return g * z * log(_not_zero(x))


power = op(
    "power", _power, stretched_counting, _power_base, _power_exponent,
    domain=(POSITIVE, Domain()), flops=FUNCTION,
    doc="x to the power y. Derivatives are 0 for the base where y = 0 and for the exponent where x = 0.",
)  # fmt: skip

nextafter = op("nextafter", "nextafter", stretched_ufunc, lambda g, _z, _x, _y: g, None, complex=False, precision="any", doc="The number that can be represented next to x, towards y: x to the gradient.")

# ---- comparison and logic: constants to the gradient ----

equal = op("equal", operator.eq, compared, None, None, precision="any", doc="x == y.")
not_equal = op("not_equal", operator.ne, compared, None, None, precision="any", doc="x != y.")
less = op("less", operator.lt, compared, None, None, complex=False, precision="any", doc="x < y.")
less_equal = op("less_equal", operator.le, compared, None, None, complex=False, precision="any", doc="x <= y.")
greater = op("greater", operator.gt, compared, None, None, complex=False, precision="any", doc="x > y.")
greater_equal = op("greater_equal", operator.ge, compared, None, None, complex=False, precision="any", doc="x >= y.")
logical_and = op("logical_and", "logical_and", compared, None, None, domain=BOOLS, precision="any", doc="x and y, for booleans.")
logical_or = op("logical_or", "logical_or", compared, None, None, domain=BOOLS, precision="any", doc="x or y, for booleans.")
logical_xor = op("logical_xor", "logical_xor", compared, None, None, domain=BOOLS, precision="any", doc="x or y but not both, for booleans.")
logical_not = op("logical_not", "logical_not", same_bool, None, domain=BOOLS, precision="any", doc="not x, for booleans.")
bitwise_and = op("bitwise_and", operator.and_, stretched, None, None, domain=COUNTS, precision="any", doc="x & y, for integers and booleans.")
bitwise_or = op("bitwise_or", operator.or_, stretched, None, None, domain=COUNTS, precision="any", doc="x | y, for integers and booleans.")
bitwise_xor = op("bitwise_xor", operator.xor, stretched, None, None, domain=COUNTS, precision="any", doc="x ^ y, for integers and booleans.")
bitwise_left_shift = op("bitwise_left_shift", operator.lshift, stretched, None, None, domain=(COUNTS, PLACES), precision="any", doc="x · 2ʸ, for integers: its bits moved y places to the left.")
bitwise_right_shift = op("bitwise_right_shift", operator.rshift, stretched, None, None, domain=(COUNTS, PLACES), precision="any", doc="floor(x / 2ʸ), for integers: its bits moved y places to the right.")
bitwise_invert = op("bitwise_invert", operator.invert, same, None, domain=COUNTS, precision="any", doc="~x, for integers and booleans.")
isnan = op("isnan", "isnan", same_bool, None, precision="any", doc="Where x is NaN.")
isinf = op("isinf", "isinf", same_bool, None, precision="any", doc="Where x is infinite.")
isfinite = op("isfinite", "isfinite", same_bool, None, precision="any", doc="Where x is neither NaN nor infinite.")
signbit = op("signbit", "signbit", same_bool, None, domain=NOT_ZERO, complex=False, precision="any", doc="Where the sign bit of x is set: x < 0, or x is -0.")
sign = op("sign", "sign", same, None, domain=NOT_ZERO, complex=False, precision="inputs", doc="-1, 0 or 1; a constant to the gradient.")
floor = op("floor", "floor", same, None, complex=False, precision="inputs", doc="The integer below; a constant to the gradient.")
ceil = op("ceil", "ceil", same, None, complex=False, precision="inputs", doc="The integer above; a constant to the gradient.")
round = op("round", "round", lambda x: (same_ufunc if result_dtype(x).kind == "b" else same)(x), None, complex=False, precision="inputs", doc="The nearest integer, ties to even; a constant to the gradient.")
trunc = op("trunc", "trunc", same, None, complex=False, precision="inputs", doc="The integer towards 0; a constant to the gradient.")

# ---- choice ----



def _where(c: Any, x: Any, y: Any) -> Any:
    return backend.scalar(xp(c).where(c, x, y))


def _np_where(c: Any, x: Any, y: Any) -> Any:
    """``where`` for NumPy. Its own takes a branch for each element, so zeroing a large array by a mask, which the rules
    of relu, max and clip do, is done on the bits instead: ten times faster, with the same result."""
    if type(c) is np.bool:
        kind = type(y) if type(x) is float or type(x) is int else type(x)
        if kind in _INEXACT and (type(x) in (kind, float, int) and type(y) in (kind, float, int)):
            return kind(x if c else y)
        return backend.scalar(np.where(c, x, y))
    if (type(y) is float or type(y) is int) and y == 0 and type(x) is np.ndarray and x.size > 1000:
        bits = _INTEGERS.get(x.dtype, np.int16 if is_half(x.dtype) else None)
        if bits is not None and c.shape == x.shape and c.dtype == bool:
            kept = c.view(np.int8).astype(bits)
            kept *= x.view(bits)
            return kept.view(x.dtype)
    return backend.scalar(np.where(c, x, y))


_INEXACT = {np.float16, np.float32, np.float64, np.complex64, np.complex128}
_INTEGERS = {np.dtype(f"f{n}"): np.dtype(f"i{n}") for n in (2, 4, 8)}

where = op(
    "where", _where,
    lambda c, x, y: (stretched(c, x, y)[0], stretched(x, y)[1]),
    None,
    lambda g, _z, c, _x, _y: where(c, g, 0.0),
    lambda g, _z, c, _x, _y: where(c, 0.0, g),
    domain=(BOOLS, Domain(), Domain()), precision="inputs", doc="x where the condition c is true, y elsewhere.",
)  # fmt: skip


def _share(g: Any, x: Any, y: Any) -> Any:
    larger = x > y
    library = xp(larger)
    g = backend.inexact(g) if hasattr(g, "dtype") else library.full_like(larger, g, dtype=library.float64)
    return backend.scalar(library.where(larger, g, library.where(x == y, 0.5 * g, 0.0)))


def _np_share(g: Any, x: Any, y: Any) -> Any:
    g = backend.inexact(g)
    if type(g) is not np.ndarray and not np.ndim(x) and not np.ndim(y):
        return type(g)(g if x > y else 0.5 * g if x == y else 0.0)
    out = _np_where(x > y, g, 0.0)
    ties = x == y
    if np.ndim(out) == 0:
        return backend.scalar(np.where(ties, 0.5 * g, out))
    if ties.any():  # rare: two passes less in the common case
        np.copyto(out, 0.5 * g, where=ties)
    return out


share = op(
    "share", _share, lambda g, x, y: (stretched(g, x, y)[0], floating(result_dtype(g))),
    lambda h, _z, _g, x, y: share(h, x, y), None, None,
    domain=(Domain(), Domain(), Domain()), complex=False,
    precision="inputs", doc="What x has of the gradient g of the larger one of x and y: all of it, half of it at ties, or nothing.",
)  # fmt: skip
share.row.kernels[np.ndarray] = _np_share
maximum = op(
    "maximum", "maximum", stretched,
    lambda g, _z, x, y: share(g, x, y),
    lambda g, _z, x, y: share(g, y, x),
    complex=False, precision="inputs", doc="The larger of x and y; at ties each has half of the derivative.",
)  # fmt: skip
minimum = op(
    "minimum", "minimum", stretched,
    lambda g, _z, x, y: share(g, y, x),
    lambda g, _z, x, y: share(g, x, y),
    complex=False, precision="inputs", doc="The smaller of x and y; at ties each has half of the derivative.",
)  # fmt: skip


def _clip(x: Any, *, low: float | None = None, high: float | None = None) -> Any:
    return backend.scalar(xp(x).clip(x, low, high))


def _clipped(g: Any, _y: Any, x: Any, low: float | None, high: float | None) -> Any:
    if low is not None:
        g = where(greater_equal(x, low), g, 0.0)
    return g if high is None else where(less_equal(x, high), g, 0.0)


clip = op(
    "clip", _clip, lambda x, low, high: (shape_of(x), result_dtype(x, *(b for b in (low, high) if b is not None))),
    _clipped, domain=Domain(avoid=(-1.0, 1.0)), complex=False, precision="inputs", doc="x limited to [low, high] (numbers or None).",
)  # fmt: skip

# ---- roots, exponentials and logarithms ----

sqrt = op(
    "sqrt", "sqrt", same_ufunc, lambda g, y, _x: 0.5 * g / replace_zero(y, by=math.inf),
    domain=POSITIVE, flops=ROOT, doc="The square root; its derivative at 0 is taken as 0.",
)  # fmt: skip
rsqrt = op("rsqrt", lambda x: 1.0 / xp(x).sqrt(x), same_ufunc, lambda g, y, x: -0.5 * (g * y / x), domain=POSITIVE, flops=2 * ROOT, doc="1 / √x.")
exp = op("exp", "exp", same_ufunc, lambda g, y, _x: g * y, flops=FUNCTION, doc="eˣ.")
expm1 = op("expm1", "expm1", same_ufunc, lambda g, _y, x: g * exp(x), flops=FUNCTION, doc="eˣ - 1, accurate near 0.")
log = op("log", "log", same_ufunc, lambda g, _y, x: g / x, domain=POSITIVE, flops=FUNCTION, doc="The natural logarithm.")
log1p = op("log1p", "log1p", same_ufunc, lambda g, _y, x: g / (x + 1.0), domain=Domain(-0.8, 3.0), flops=FUNCTION, doc="log(1 + x), accurate near 0.")
log2 = op("log2", "log2", same_ufunc, lambda g, _y, x: g * (1.0 / math.log(2.0)) / x, domain=POSITIVE, flops=FUNCTION, doc="The logarithm to base 2.")
log10 = op("log10", "log10", same_ufunc, lambda g, _y, x: g * (1.0 / math.log(10.0)) / x, domain=POSITIVE, flops=FUNCTION, doc="The logarithm to base 10.")
logaddexp = op(
    "logaddexp", "logaddexp", stretched_ufunc,
    lambda g, z, x, _y: g * exp(x - z),
    lambda g, z, _x, y: g * exp(y - z),
    flops=2 * FUNCTION, complex=False, doc="log(eˣ + eʸ), without overflow.",
)  # fmt: skip



def _np_logaddexp(x: Any, y: Any) -> Any:
    """NumPy's, in double precision for float32: where the result is near 0 it is the small difference of larger numbers."""
    if np.result_type(x, y) != np.float32:
        return np.logaddexp(x, y)
    return np.logaddexp(x, y, dtype=np.float64).astype(np.float32)


logaddexp.row.kernels[np.ndarray] = _np_logaddexp

# ---- trigonometric and hyperbolic functions ----

sin = op("sin", "sin", same_ufunc, lambda g, _y, x: g * cos(x), flops=FUNCTION, doc="The sine (radians).")
cos = op("cos", "cos", same_ufunc, lambda g, _y, x: -(g * sin(x)), flops=FUNCTION, doc="The cosine (radians).")
tan = op("tan", "tan", same_ufunc, lambda g, y, _x: g * (y * y + 1.0), domain=ANGLES, flops=FUNCTION, doc="The tangent (radians).")
asin = op("asin", "asin", same_ufunc, lambda g, _y, x: g * rsqrt((1.0 - x) * (x + 1.0)), domain=INSIDE, flops=FUNCTION, doc="The inverse sine.")
acos = op("acos", "acos", same_ufunc, lambda g, _y, x: -(g * rsqrt((1.0 - x) * (x + 1.0))), domain=INSIDE, flops=FUNCTION, doc="The inverse cosine.")
atan = op("atan", "atan", same_ufunc, lambda g, _y, x: g / (x * x + 1.0), flops=FUNCTION, domain=INSIDE, doc="The inverse tangent.")
sinh = op("sinh", "sinh", same_ufunc, lambda g, _y, x: g * cosh(x), flops=FUNCTION, doc="The hyperbolic sine.")
cosh = op("cosh", "cosh", same_ufunc, lambda g, _y, x: g * sinh(x), flops=FUNCTION, doc="The hyperbolic cosine.")
tanh = op("tanh", "tanh", same_ufunc, lambda g, y, _x: g * (1.0 - y * y), domain=ANGLES, flops=FUNCTION, precision="inputs", doc="The hyperbolic tangent.")
asinh = op("asinh", "asinh", same_ufunc, lambda g, _y, x: g * rsqrt(x * x + 1.0), domain=INSIDE, flops=FUNCTION, doc="The inverse hyperbolic sine.")
acosh = op("acosh", "acosh", same_ufunc, lambda g, _y, x: g * rsqrt(x - 1.0) * rsqrt(x + 1.0), domain=Domain(1.2, 4.0), flops=FUNCTION, doc="The inverse hyperbolic cosine.")
atanh = op("atanh", "atanh", same_ufunc, lambda g, _y, x: g / ((1.0 - x) * (x + 1.0)), domain=INSIDE, flops=FUNCTION, doc="The inverse hyperbolic tangent.")
atan2 = op(
    "atan2", "atan2", stretched_ufunc,
    lambda g, _z, x, y: g * _over_square(y, hypot(x, y)),
    lambda g, _z, x, y: -(g * _over_square(x, hypot(x, y))),
    domain=(Domain(), NOT_ZERO), flops=FUNCTION, complex=False,
    doc="The angle of the point with ordinate x and abscissa y; derivatives are 0 at the origin.",
)  # fmt: skip


def _over_square(x: Any, radius: Any) -> Any:
    """x / radius², whose square would overflow or underflow where the quotient does not."""
    radius = _not_zero(radius)
    return x / radius / radius


hypot = op(
    "hypot", "hypot", stretched_ufunc,
    lambda g, z, x, _y: g * x / _not_zero(z),
    lambda g, z, _x, y: g * y / _not_zero(z),
    domain=(Domain(), NOT_ZERO), flops=2 + ROOT, complex=False, precision="inputs", doc="√(x² + y²), without overflow; derivatives are 0 at the origin.",
)  # fmt: skip


def _replace_zero(x: Any, *, by: float) -> Any:
    return backend.scalar(xp(x).where(x == 0, xp(x).full_like(x, by), x))


def _np_replace_zero(x: Any, by: float) -> Any:
    if type(x) is not np.ndarray:  # a NumPy scalar
        return x.dtype.type(by) if x == 0 else x
    out = x.copy()
    np.copyto(out, by, where=x == 0)  # zeros are rare: several times faster than where()
    return out


replace_zero = op(
    "replace_zero", _replace_zero, lambda x, by: same(x), lambda g, _y, x, by: where(equal(x, 0), 0.0, g),
    domain=NOT_ZERO, precision="inputs", doc="x, with its zeros replaced by a number: what keeps NaN out of derivatives at singular points.",
)  # fmt: skip
replace_zero.row.kernels[np.ndarray] = _np_replace_zero


def _not_zero(x: Any) -> Any:
    return replace_zero(x, by=1.0)


# ---- complex numbers ----


def _if_complex(name: str) -> Any:
    return lambda x: getattr(xp(x), name)(x) if backend.is_complex(getattr(x, "dtype", type(x).__name__)) else x


def _imag(x: Any) -> Any:
    return xp(x).imag(x) if backend.is_complex(x.dtype) else backend.scalar(xp(x).zeros_like(x))


abs = op(
    "abs", operator.abs, same_real,
    lambda g, y, x: g * (conj(x) / _not_zero(y) if backend.is_complex(x.dtype) else sign(x)),
    domain=NOT_ZERO, precision="inputs", doc="The magnitude; its derivative at 0 is 0.",
)  # fmt: skip
real = op("real", _if_complex("real"), same_real, lambda g, _y, _x: g, precision="inputs", doc="The real part.")
imag = op("imag", _imag, same_real, lambda g, _y, _x: g * -1j if backend.is_complex(_x.dtype) else g * 0.0, precision="inputs", doc="The imaginary part.")
conj = op("conj", _if_complex("conj"), same, lambda g, _y, _x: conj(g), precision="inputs", doc="The complex conjugate.")

dropout_mask = op(
    "dropout_mask", lambda x, mask, *, scale: backend.scalar(xp(mask).where(mask, x * scale, 0.0)), lambda x, mask, scale: (stretched(x, mask)[0], result_dtype(x, scale)),
    lambda g, _y, _x, mask, scale: dropout_mask(g, mask, scale=scale), None,
    domain=(Domain(), BOOLS), flops=2, precision="inputs", doc="scale · x where the mask is true, else 0: dropout, once the mask is drawn.",
)  # fmt: skip

UFUNCS = {
    "add": add, "subtract": subtract, "multiply": multiply, "divide": divide, "negative": negative, "positive": positive,
    "power": power, "square": square, "reciprocal": reciprocal, "floor_divide": floor_divide,
    "remainder": remainder, "equal": equal, "not_equal": not_equal, "less": less, "less_equal": less_equal,
    "greater": greater, "greater_equal": greater_equal, "logical_and": logical_and, "logical_or": logical_or,
    "logical_xor": logical_xor, "logical_not": logical_not, "bitwise_and": bitwise_and, "bitwise_or": bitwise_or,
    "bitwise_xor": bitwise_xor, "invert": bitwise_invert, "left_shift": bitwise_left_shift, "right_shift": bitwise_right_shift,
    "nextafter": nextafter, "signbit": signbit, "isnan": isnan, "isinf": isinf, "isfinite": isfinite,
    "sign": sign, "floor": floor, "ceil": ceil, "rint": round, "trunc": trunc, "maximum": maximum, "minimum": minimum,
    "sqrt": sqrt, "exp": exp, "expm1": expm1, "log": log, "log1p": log1p, "log2": log2, "log10": log10,
    "logaddexp": logaddexp, "sin": sin, "cos": cos, "tan": tan, "arcsin": asin, "arccos": acos, "arctan": atan,
    "sinh": sinh, "cosh": cosh, "tanh": tanh, "arcsinh": asinh, "arccosh": acosh, "arctanh": atanh, "arctan2": atan2,
    "hypot": hypot, "absolute": abs, "fabs": abs, "conjugate": conj,
}  # fmt: skip
"""Rows by the name of the NumPy ufunc that they differentiate."""

where.row.kernels[np.ndarray] = where.row.kernels[np.bool] = _np_where
for _class in (np.float16, np.float32, np.float64, np.complex64, np.complex128):
    square.row.kernels[_class] = lambda x: x * x
