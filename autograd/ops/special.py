"""Special functions: gamma, beta, error and zeta functions, and those of entropy and probability (``bessel`` has Bessel's).

Values come from SciPy (on the GPU from CuPy's copy of it). The array API standard has no special functions: for another
library only those have a kernel that can be written in its elementary functions, the others raise TypeError.

Derivatives are the relations of the Digital Library of Mathematical Functions (dlmf.nist.gov), quoted by equation, with
rows on the right side, so every order exists. Where one with respect to a parameter has no closed form (the shape of an
incomplete gamma or beta function, the exponent of zeta) asking for it is an error, never a silent zero. Poles keep their
infinities.

``gamma``, ``rgamma`` and ``loggamma`` take complex numbers to the first order of derivative (SciPy's polygamma does not),
``erfc`` and ``erfcx`` to every order.
"""

import math
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from .. import backend
from ..backend import xp
from ..shapes import Aval, numpy_dtype, same_float, shape_of, stretched_float
from ..table import Domain, op
from .activations import erfc, gaussian, sigmoid, softplus
from .elementwise import (
    FUNCTION,
    POSITIVE,
    abs,
    equal,
    exp,
    greater,
    less,
    log,
    log1p,
    logical_and,
    minimum,
    where,
)  # fmt: skip
from .layout import astype
from .precision import computed, real_float, result_float

__all__ = [
    "beta", "betainc", "betaln", "digamma", "entr", "erfc", "erfcinv", "erfcx", "erfinv", "expit", "gamma", "gammainc",
    "gammaincc", "gammaln", "kl_div", "log_expit", "log_ndtr", "log_sigmoid", "loggamma", "logit", "multigammaln", "ndtr",
    "ndtri", "polygamma", "psi", "rel_entr", "rgamma", "xlog1py", "xlogy", "zeta",
]  # fmt: skip

SPECIAL = 4 * FUNCTION  # FLOPs of a rational approximation or a short series
UNIT = Domain(0.1, 0.9)
ORDERS = Domain(0, 3, kind="int")
EITHER_SIDE = Domain(-2.6, 3.0, avoid=(-2.0, -1.0, 0.0), gap=0.2)
_ROOT_PI, _ROOT_2_PI = math.sqrt(math.pi), math.sqrt(2.0 * math.pi)


def _scipy(name: str, inputs: int, portable: Callable | None = None, due: Callable = result_float) -> Callable:
    """A kernel: SciPy's function of that name, or one written in the array API's functions for other libraries."""

    def run(*xs: Any) -> Any:
        if portable is not None and backend.special(xs[0]) is None:
            return portable(*xs)
        return getattr(_library(xs[0]), name)(*xs)

    kernels: Any = (lambda x: run(x), lambda x, y: run(x, y), lambda x, y, z: run(x, y, z))
    return computed(kernels[inputs - 1], due)


def _library(array: Any) -> Any:
    found = backend.special(array)
    if found is None:
        raise TypeError(
            f"{xp(array).__name__} has no special functions (the array API standard has none); use NumPy or CuPy"
        )
    return found


def _stretched(*xs: Any) -> Aval:
    """Broadcast shapes; integer orders and shapes do not widen the dtype."""
    return np.broadcast_shapes(*map(shape_of, xs)), real_float(*xs)


def _number(x: Any, g: Any) -> Any:
    """An order or shape in the dtype of the gradient, which integers would widen."""
    return astype(x, dtype=numpy_dtype(g.dtype))


def _unknown(row: str, parameter: str) -> Callable:
    """The rule for a parameter whose derivative has no closed form."""

    def fail() -> NoReturn:
        raise NotImplementedError(
            f"{row} has no derivative with respect to {parameter} here (it has no closed form); detach() it, or pass a number"
        )

    two: Callable = lambda _g, _z, _x, _y: fail()
    three: Callable = lambda _g, _o, _x, _y, _z: fail()
    return three if row == "betainc" else two


# ---- the gamma family ----


_AROUND_2 = [
    0.42278433509846713, 0.3224670334241132, -0.0673523010531981, 0.020580808427784546, -0.007385551028673986,
    0.0028905103307415234, -0.001192753911703261, 0.0005096695247430425, -0.00022315475845357939,
    9.945751278180853e-05, -4.492623673813314e-05, 2.050721277567069e-05, -9.439488275268397e-06,
    4.374866789907488e-06, -2.039215753801366e-06, 9.55141213040742e-07, -4.492469198764566e-07,
    2.1207184805554665e-07, -1.0043224823968099e-07, 4.7698101693639804e-08, -2.2711094608943164e-08,
    1.0838659214896955e-08, -5.183475041970047e-09, 2.4836745438024785e-09, -1.1921401405860912e-09,
    5.731367241678862e-10, -2.7595228851242334e-10, 1.330476437424449e-10,
]  # fmt: skip
"""log Γ(2 + u) = (1 - γ) u + Σ (-1)ᵏ (ζ(k) - 1) uᵏ / k from k = 2 (Abramowitz & Stegun 6.1.33): the factors of u, u², ..."""


_AROUND_3_HALVES = [
    -0.12078223763524522, 0.03648997397857652, 0.46740110027233966, -0.13813277403905333, 0.05871212641676822,
    -0.028952081888893543, 0.0154354841700493, -0.008622603929171286, 0.004965728809475818, -0.002920970458667952,
    0.00174503557579013, -0.001054915693867632, 0.0006437029830381486, -0.00039577153964650777, 0.0002448711904829441,
    -0.00015231593814270082, 9.517939662502588e-05, -5.97136233623377e-05, 3.759490926961219e-05,
    -2.3743185469209343e-05, 1.5036983408359218e-05, -9.547151192148187e-06, 6.07540647448469e-06,
    -3.87415183000977e-06, 2.4751447344295936e-06,
]  # fmt: skip
"""Taylor coefficients of log Γ at 3/2, between its zeros."""


def _log_gamma(name: str) -> Callable:
    """log Γ by SciPy, but by power series beside its zeros 1 and 2 and between them, and -log |x| where x is so small that 1 / x overflows."""

    def kernel(x: Any) -> Any:
        library, out = xp(x), getattr(_library(x), name)(x)
        if numpy_dtype(x.dtype) != np.float64:  # float32 is computed in double precision
            return out
        if library.any(near := (x > 0.5) & (x < 2.25)):
            above = x > 1.5
            u, series = library.where(near, x - library.where(above, 2.0, 1.0), 0.0), 0.0
            for c in reversed(_AROUND_2):
                series = (series + c) * u
            out = library.where(near & (u < 0.25) & (u > library.where(above, -0.25, -0.5)), library.where(above, series, series - library.log1p(u)), out)
            between, u = abs(x - 1.5) <= 0.25, library.clip(x - 1.5, -0.25, 0.25)
            series = 0.0
            for c in reversed(_AROUND_3_HALVES):
                series = series * u + c
            out = library.where(between, series, out)
        if library.any(tiny := (abs(x) < 1e-300) & (x != 0)):
            out = library.where(tiny, -library.log(library.where(tiny, abs(x), 1.0)), out)
        return out

    return computed(kernel)


def _digamma(x: Any) -> Any:
    """SciPy's ψ; left of -1/2 ψ(1 - x) - π cot πx (DLMF 5.5.4) instead, where x less the nearest integer, which is exact, keeps its
    digits near poles."""
    library, special = xp(x), _library(x)
    if numpy_dtype(x.dtype) != np.float64 or not library.any(left := x < -0.5):  # float32 is computed in double precision
        return special.psi(x)
    off = library.where(left, x - library.round(x), 0.25)
    mirrored = special.psi(1.0 - x) - math.pi / library.tan(math.pi * library.where(off == 0, 0.25, off))
    return library.where(left, library.where(off == 0, math.nan, mirrored), special.psi(library.where(left, 1.0, x)))


def _rgamma_rule(g: Any, y: Any, x: Any) -> Any:
    """-ψ/Γ; near 0, where ψ has a pole and 1/Γ a zero, the derivative of x / Γ(x + 1), which has neither."""
    near = less(abs(x), 0.25)
    beside = where(near, x + 1.0, 1.0)
    return g * where(near, rgamma(beside) * (1.0 - x * digamma(beside)), -(y * digamma(where(near, 1.0, x))))


gamma = op("gamma", _scipy("gamma", 1), same_float, lambda g, y, x: g * y * digamma(x), domain=EITHER_SIDE, flops=SPECIAL, doc="Γ(x). Γ' = Γ ψ (DLMF 5.2.2).")  # fmt: skip
gammaln = op("gammaln", _log_gamma("gammaln"), same_float, lambda g, _y, x: g * digamma(x), domain=EITHER_SIDE, flops=SPECIAL, complex=False, doc="log |Γ(x)|, for real x. Its derivative is ψ (DLMF 5.2.2).")  # fmt: skip
loggamma = op("loggamma", _log_gamma("loggamma"), same_float, lambda g, _y, x: g * digamma(x), domain=POSITIVE, flops=SPECIAL, doc="log Γ(x), NaN where Γ(x) < 0; use gammaln there. Its derivative is ψ (DLMF 5.2.2).")  # fmt: skip
rgamma = op("rgamma", _scipy("rgamma", 1), same_float, _rgamma_rule, domain=EITHER_SIDE, flops=SPECIAL, doc="1 / Γ(x). (1/Γ)' = -ψ/Γ (DLMF 5.2.2), NaN at -1, -2, ...")  # fmt: skip
digamma = op("digamma", computed(_digamma), same_float, lambda g, _y, x: g * polygamma(1, x), domain=EITHER_SIDE, flops=SPECIAL, complex=False, doc="ψ(x) = Γ'(x) / Γ(x). ψ' is the trigamma function (DLMF 5.15.1).")  # fmt: skip
psi = digamma


_EULER_MACLAURIN = [
    1 / 12, -1 / 720, 1 / 30240, -1 / 1209600, 1 / 47900160, -691 / 1307674368000, 1 / 74724249600, -3617 / 10670622842880000,
    43867 / 5109094217170944000, -174611 / 802857662698291200000,
]  # fmt: skip
"""B₂ₖ / (2k)!, k = 1, 2, ..."""


def _zeta(x: Any, y: Any) -> Any:
    """SciPy's ζ; for y below 16 the Euler-Maclaurin formula (DLMF 25.11.5) after twelve terms, which are added smallest first."""
    library, out = xp(y), _library(y).zeta(x, y)
    near = (x > 1.0) & (x < 64.0) & (y > 0.0) & (y < 16.0)
    if numpy_dtype(out.dtype) != np.float64 or not library.any(near):  # float32 is computed in double precision
        return out
    s, q = library.where(near, x, 2.0), library.where(near, y, 1.0)
    inverse = 1.0 / (q + 12.0)
    term = s * inverse
    rest = 0.5 + term * _EULER_MACLAURIN[0]
    for k, factor in enumerate(_EULER_MACLAURIN[1:], 1):
        term = term * ((s + (2 * k - 1)) * inverse) * ((s + 2 * k) * inverse)
        rest = rest + term * factor
    total = (q + 12.0) ** -s * ((q + 12.0) / (s - 1.0) + rest)
    for k in range(11, -1, -1):
        total = total + (q + k) ** -s
    return library.where(near, total, out)


def _zeta_above(x: Any, y: Any) -> Any:
    """ζ(x + 1, y) for the unrounded x + 1: the rest of the sum, r, is a factor y⁻ʳ (DLMF 25.11.43), for large y of many units."""
    above = x + 1.0
    return zeta(above, y) * (1.0 - (x - (above - 1.0)) * log(y))


polygamma = op(
    "polygamma", computed(lambda n, x: _library(x).polygamma(n, x), real_float), _stretched, None, lambda g, _z, n, x: g * polygamma(n + 1, x),
    domain=(ORDERS, Domain(-2.6, 3.0, avoid=(-2.0, -1.0, 0.0), gap=0.35)), flops=2 * SPECIAL, complex=False,
    doc="The n-th derivative of ψ, for integers n ≥ 0 (DLMF 5.15).",
)  # fmt: skip
zeta = op(
    "zeta", computed(_zeta, real_float), _stretched, _unknown("zeta", "the exponent"),
    lambda g, _z, x, y: -(g * _number(x, g) * _zeta_above(_number(x, g), y)),
    domain=(Domain(2, 4, kind="int"), POSITIVE), flops=SPECIAL, complex=False,
    doc="Hurwitz' ζ(x, y) = Σ (k + y)⁻ˣ. ∂ζ/∂y = -x ζ(x + 1, y) (DLMF 25.11.17); none with respect to x.",
)  # fmt: skip


def _digamma_less(x: Any, y: Any) -> Any:
    """ψ(x) - ψ(x + y); where y is small beside x, -y ψ'(x + y/2): all of the difference would cancel."""
    small = less(abs(y), abs(x) * 3e-5)
    return where(small, -(y * polygamma(1, where(small, x + 0.5 * y, 1.0))), digamma(x) - digamma(x + y))


beta = op(
    "beta", _scipy("beta", 2), stretched_float,
    lambda g, z, x, y: g * z * _digamma_less(x, y),
    lambda g, z, x, y: g * z * _digamma_less(y, x),
    domain=POSITIVE, flops=3 * SPECIAL, complex=False, doc="B(x, y) = Γ(x) Γ(y) / Γ(x + y) (DLMF 5.12.1).",
)  # fmt: skip
betaln = op(
    "betaln", _scipy("betaln", 2), stretched_float,
    lambda g, _z, x, y: g * _digamma_less(x, y),
    lambda g, _z, x, y: g * _digamma_less(y, x),
    domain=POSITIVE, flops=3 * SPECIAL, complex=False, doc="log |B(x, y)| (DLMF 5.12.1).",
)  # fmt: skip


def _gamma_density(g: Any, a: Any, x: Any) -> Any:
    """x^{a-1} e⁻ˣ / Γ(a) (DLMF 8.8.13), by logarithms: no part of it overflows before it does."""
    a = _number(a, g)
    return exp(xlogy(a - 1, x) - x - gammaln(a))


def _beta_density(g: Any, a: Any, b: Any, x: Any) -> Any:
    """x^{a-1} (1 - x)^{b-1} / B(a, b) (DLMF 8.17.1)."""
    a, b = _number(a, g), _number(b, g)
    return exp(xlogy(a - 1, x) + xlog1py(b - 1, -x) - betaln(a, b))


_SHAPE_AND_REAL = (Domain(1, 3, kind="int"), POSITIVE)
gammainc = op(
    "gammainc", _scipy("gammainc", 2, due=real_float), _stretched, _unknown("gammainc", "the shape (its first argument)"),
    lambda g, _z, x, y: g * _gamma_density(g, x, y), domain=_SHAPE_AND_REAL, flops=2 * SPECIAL, complex=False,
    doc="P(x, y) = γ(x, y) / Γ(x), the regularised lower incomplete gamma function of shape x. ∂P/∂y = y^{x-1} e⁻ʸ / Γ(x) "
    "(DLMF 8.8.13); none with respect to x.",
)  # fmt: skip
gammaincc = op(
    "gammaincc", _scipy("gammaincc", 2, due=real_float), _stretched, _unknown("gammaincc", "the shape (its first argument)"),
    lambda g, _z, x, y: -(g * _gamma_density(g, x, y)), domain=_SHAPE_AND_REAL, flops=2 * SPECIAL, complex=False,
    doc="Q(x, y) = 1 - P(x, y) (see gammainc), the regularised upper incomplete gamma function.",
)  # fmt: skip
betainc = op(
    "betainc", _scipy("betainc", 3, due=real_float), _stretched, _unknown("betainc", "a"), _unknown("betainc", "b"),
    lambda g, _z, x, y, z: g * _beta_density(g, x, y, z),
    domain=(Domain(1, 3, kind="int"), Domain(1, 3, kind="int"), UNIT), flops=2 * SPECIAL, complex=False,
    doc="I_z(x, y), the regularised incomplete beta function. ∂I/∂z = z^{x-1} (1 - z)^{y-1} / B(x, y) (DLMF 8.17.1); none with "
    "respect to x and y.",
)  # fmt: skip


def multigammaln(a: Any, d: int) -> Any:
    """log of the multivariate gamma function of dimension d, a real array of numbers > (d - 1)/2 (DLMF 35.3.4)."""
    total: Any = 0.25 * d * (d - 1) * math.log(math.pi)
    for j in range(d):
        total = total + gammaln(a - 0.5 * j)
    return total


def _log_ndtr(x: Any) -> Any:
    """SciPy's log Φ(x); where it would be the logarithm of a number near 1, log(1 - Φ(-x))."""
    library, special = xp(x), _library(x)
    positive = x > 0
    rest = 0.5 * special.erfcx(abs(x) * math.sqrt(0.5)) * gaussian(x, -0.5)  # Φ(-|x|)
    return library.where(positive, library.log1p(-rest), special.log_ndtr(library.where(positive, 0.0, x)))


def _quantile_slope(e: Any, y: Any, tail: Any) -> Any:
    """exp(q²) for the q that has erfc(q) = ``tail``, from a rounded y near it and ``e`` = exp(y²).

    Of a large y the rounding alone would be an error of y² units; so one step of Newton's method, which takes q - y to be
    -√π/2 (tail · e - erfcx(y)), goes into the exponent as 2 y (q - y)."""
    return e * (1.0 - _ROOT_PI * y * (tail * e - erfcx(y)))


# ---- the error function's family: DLMF 7.2.1, 7.17 and 7.10 ----

erfcx = op("erfcx", _scipy("erfcx", 1), same_float, lambda g, y, x: g * (2.0 * x * y - 2.0 / _ROOT_PI), domain=Domain(-2.5, 3.0), flops=SPECIAL, doc="exp(x²) erfc(x), for large x without underflow.")  # fmt: skip
erfinv = op("erfinv", _scipy("erfinv", 1), same_float, lambda g, y, x: g * _quantile_slope(gaussian(y, 1.0), abs(y), 1.0 - abs(x)) * (0.5 * _ROOT_PI), domain=Domain(-0.9, 0.9), flops=SPECIAL, complex=False, doc="The inverse of erf, on (-1, 1).")  # fmt: skip
erfcinv = op("erfcinv", _scipy("erfcinv", 1), same_float, lambda g, y, x: g * _quantile_slope(gaussian(y, 1.0), abs(y), minimum(x, 2.0 - x)) * (-0.5 * _ROOT_PI), domain=Domain(0.1, 1.9), flops=SPECIAL, complex=False, doc="The inverse of erfc, on (0, 2).")  # fmt: skip
ndtr = op("ndtr", _scipy("ndtr", 1), same_float, lambda g, _y, x: g * gaussian(x, -0.5) * (1.0 / _ROOT_2_PI), flops=2 * FUNCTION, complex=False, doc="The normal distribution function.")  # fmt: skip
log_ndtr = op("log_ndtr", computed(_log_ndtr), same_float, lambda g, _y, x: g * (2.0 / _ROOT_2_PI) / erfcx(x * -math.sqrt(0.5)), flops=2 * FUNCTION, complex=False, doc="The logarithm of the normal distribution function, for very negative x without underflow.")  # fmt: skip
ndtri = op("ndtri", _scipy("ndtri", 1), same_float, lambda g, y, x: g * _quantile_slope(gaussian(y, 0.5), abs(y) * math.sqrt(0.5), 2.0 * minimum(x, 1.0 - x)) * _ROOT_2_PI, domain=UNIT, flops=SPECIAL, complex=False, doc="The normal quantile function, on (0, 1).")  # fmt: skip

# ---- logistic functions ----

expit = sigmoid
logit = op(
    "logit", _scipy("logit", 1, lambda x: xp(x).log(x) - xp(x).log1p(-x)), same_float, lambda g, _y, x: g / (x * (1.0 - x)),
    domain=UNIT, flops=2 * FUNCTION, complex=False, doc="log(x / (1 - x)), the inverse of sigmoid, on (0, 1).",
)  # fmt: skip


def log_sigmoid(x: Any) -> Any:
    """log sigmoid(x), without underflow; also called ``log_expit``."""
    return -softplus(-x)


log_expit = log_sigmoid

# ---- x log x and entropies: 0 log 0 is 0 ----


def _portable_xlogy(x: Any, y: Any) -> Any:
    library = xp(x)
    return x * library.log(library.where((x == 0) & ~library.isnan(y), 1.0, y))


def _portable_xlog1py(x: Any, y: Any) -> Any:
    library = xp(x)
    return x * library.log1p(library.where((x == 0) & ~library.isnan(y), 0.0, y))


def _one_where_zero(x: Any, y: Any) -> Any:
    if isinstance(x, (int, float)):
        return y if x else 1.0
    return where(equal(x, 0), 1.0, y)


def _beside(y: Any, g: Any) -> Any:
    """A Python number in the dtype of the gradient, which its logarithm in double precision would widen; arrays as they are."""
    return _number(y, g) if type(y) in (int, float) else y


xlogy = op(
    "xlogy", _scipy("xlogy", 2, _portable_xlogy), stretched_float,
    lambda g, _z, _x, y: g * log(_beside(y, g)),
    lambda g, _z, x, y: g * (x / _one_where_zero(x, y)),
    domain=(Domain(), POSITIVE), flops=FUNCTION, complex=False, doc="x log y, 0 where x = 0.",
)  # fmt: skip
xlog1py = op(
    "xlog1py", _scipy("xlog1py", 2, _portable_xlog1py), stretched_float,
    lambda g, _z, _x, y: g * log1p(_beside(y, g)),
    lambda g, _z, x, y: g * (x / _one_where_zero(x, y + 1.0)),
    domain=(Domain(), Domain(-0.8, 3.0)), flops=FUNCTION, complex=False, doc="x log(1 + y), 0 where x = 0.",
)  # fmt: skip


def _portable_entr(x: Any) -> Any:
    library = xp(x)
    return library.where(x < 0, -math.inf, -x * library.log(library.where(x > 0, x, 1.0)))


def _portable_rel_entr(x: Any, y: Any) -> Any:
    """As SciPy: x log(x / y) for positive x and y, 0 for x = 0 ≤ y, NaN for NaN, infinity elsewhere."""
    library = xp(x)
    good = (x > 0) & (y > 0)
    ratio = library.where(good, x, 1.0) / library.where(good, y, 1.0)
    rest = library.where((x == 0) & (y >= 0), 0.0, math.inf + x * 0.0 + y * 0.0)
    return library.where(good, x * library.log(ratio), rest)


def _log_ratio(x: Any, y: Any) -> Any:
    """log(x / y): of near numbers by their small difference, and by two logarithms where the quotient is out of range."""
    ratio = x / y
    tiny = float(np.finfo(numpy_dtype(ratio.dtype)).tiny)
    near = less(abs(ratio - 1.0), 0.5)
    close = log1p(where(near, (x - y) / y, 0.0))
    inside = logical_and(greater(ratio, tiny), less(ratio, 1.0 / tiny))
    apart = where(inside, log(where(inside, ratio, 1.0)), log(x) - log(y))
    return where(near, close, apart)


entr = op(
    "entr", _scipy("entr", 1, _portable_entr), same_float, lambda g, _y, x: -(g * (log(x) + 1.0)),
    domain=POSITIVE, flops=FUNCTION, complex=False, doc="-x log x, 0 at 0, -inf below. Its derivative at 0 is inf.",
)  # fmt: skip
rel_entr = op(
    "rel_entr", _scipy("rel_entr", 2, _portable_rel_entr), stretched_float,
    lambda g, _z, x, y: g * (_log_ratio(x, y) + 1.0),
    lambda g, _z, x, y: -(g * (x / _one_where_zero(x, y))),
    domain=POSITIVE, flops=FUNCTION, complex=False, doc="x log(x / y), the terms of the relative entropy; 0 where x = 0.",
)  # fmt: skip
kl_div = op(
    "kl_div", _scipy("kl_div", 2, lambda x, y: _portable_rel_entr(x, y) - x + y), stretched_float,
    lambda g, _z, x, y: g * _log_ratio(x, y),
    lambda g, _z, x, y: g * _one_where_zero(x, (y - x) / _one_where_zero(x, y)),
    domain=POSITIVE, flops=FUNCTION, complex=False, doc="x log(x / y) - x + y, the terms of the Kullback-Leibler divergence.",
)  # fmt: skip
