"""The elementwise rows for ``accuracy``: what each computes and its derivatives, by mpmath, and where that is hard.

    function("sin", mp.sin, mp.cos, at=one(near(math.pi, ...)))

gives the row's name, its value and one derivative for each input (None: the row has none, and the input is a constant), then
the points. The peers' functions are found under the row's name unless another is given here.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from accuracy_points import clean, crowd, near, pairs, reals
from mpmath import mp

Points = Callable[[np.dtype, int], list[tuple[float, ...]]]
FUNCTIONS: dict[str, "Function"] = {}


@dataclass
class Function:
    """One elementwise row (``name``, or ``row:variant``) with its reference, its hard points and its peers."""

    name: str
    value: Callable
    slopes: tuple[Callable | None, ...]
    at: Points
    params: dict[str, Any] = field(default_factory=dict)
    torch: Any = ""
    jax: Any = ""


def function(name: str, value: Callable, *slopes: Callable | None, at: Points, **more: Any) -> None:
    FUNCTIONS[name] = Function(name, value, slopes, at, **more)


def one(
    *extra: Callable, inside: Callable[[float], bool] = lambda x: True, ranges: tuple = (), wide: bool = True
) -> Points:
    """Points of one variable: reals of all sizes (if ``wide``), ranges to crowd, and places to close in on."""

    def of(dtype: np.dtype, count: int) -> list[tuple[float, ...]]:
        found = reals(dtype, count) if wide else []
        found += crowd(2 * count, *ranges)
        for more in extra:
            found += more(dtype)
        return [(x,) for x in clean(found, dtype, inside)]

    return of


def two(
    first: Points,
    second: Points,
    *extra: tuple[float, float],
    inside: Callable[[float, float], bool] = lambda x, y: True,
    many: int = 14,
) -> Points:
    """Points of two variables: pairs of those of one variable, and some more."""

    def of(dtype: np.dtype, count: int) -> list[tuple[float, ...]]:
        x, y = ([p[0] for p in f(dtype, count)] for f in (first, second))
        found = [*pairs(x, y, many * count), *((float(dtype.type(a)), float(dtype.type(b))) for a, b in extra)]
        return sorted({p for p in found if inside(*p) and all(map(math.isfinite, p))})

    return of


def grid(
    *axes: list[float], extra: list[tuple[float, ...]] | None = None, inside: Callable[..., bool] = lambda *x: True
) -> Points:
    """All combinations of numbers, and some points more."""

    if extra is None:
        extra = []

    def of(dtype: np.dtype, count: int) -> list[tuple[float, ...]]:
        found = [
            tuple(map(float, p))
            for p in np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(axes)).astype(dtype)
        ]
        found += [tuple(float(dtype.type(x)) for x in p) for p in extra]
        found = [p for p in dict.fromkeys(found) if inside(*p)]
        return found if count > 6 else found[:: max(1, len(found) // 40)]

    return of


REALS = one()
POSITIVE = one(inside=lambda x: x > 0)
NOT_ZERO = one(inside=lambda x: x != 0)
MULTIPLES = [math.pi * k / 2 for k in (1, 2, 3, 4, 7, 22, 355, 710, 104348, 1e6, 1e8)]
ANGLES = one(near(*MULTIPLES), ranges=((0, 7), (1e3, 1e6)))
PLANE = two(REALS, REALS)
ZERO = lambda *x: mp.mpf(0)
ONE = lambda *x: mp.mpf(1)

# ---- arithmetic ----

function("add", lambda x, y: x + y, ONE, ONE, at=PLANE)
function("subtract", lambda x, y: x - y, ONE, lambda x, y: -ONE(), at=PLANE)
function("multiply", lambda x, y: x * y, lambda x, y: y, lambda x, y: x, at=PLANE)
function("divide", lambda x, y: x / y, lambda x, y: 1 / y, lambda x, y: -x / y**2, at=two(REALS, NOT_ZERO))
function("negative", lambda x: -x, lambda x: -ONE(), at=REALS)
function("positive", lambda x: x, ONE, at=REALS)
function("square", lambda x: x * x, lambda x: 2 * x, at=REALS)
function("reciprocal", lambda x: 1 / x, lambda x: -1 / x**2, at=NOT_ZERO)
function(
    "floor_divide",
    lambda x, y: mp.floor(x / y),
    None,
    None,
    at=two(REALS, NOT_ZERO, (7, 2), (-7, 2), (1, 0.1), (-1, 0.1)),
)
function(
    "remainder",
    lambda x, y: x - y * mp.floor(x / y),
    ONE,
    lambda x, y: -mp.floor(x / y),
    at=two(REALS, NOT_ZERO, (7, 2), (-7, 2), (1, 0.1), (-1, 0.1)),
)
function(
    "power", lambda x, y: x**y, lambda x, y: y * x ** (y - 1), lambda x, y: x**y * mp.log(x), torch="pow",
    at=two(POSITIVE, one(ranges=((-3, 3),)), *((x, y) for x in (-2.5, -1.0, -1e-3, 0.37, 1.0001, 3.0) for y in (-3, -2, -1, 1, 2, 3, 7, 0.5)), (1 + 1e-7, 1e7), (1 - 1e-7, 1e9), (0.0, 2.0), (0.0, 3.0), many=20),
)  # fmt: skip

# ---- comparison, rounding and choice: exact ----

for _name, _test in {
    "equal": lambda x, y: x == y,
    "not_equal": lambda x, y: x != y,
    "less": lambda x, y: x < y,
    "less_equal": lambda x, y: x <= y,
    "greater": lambda x, y: x > y,
    "greater_equal": lambda x, y: x >= y,
}.items():
    function(
        _name,
        lambda x, y, _test=_test: mp.mpf(int(_test(x, y))),
        None,
        None,
        at=two(REALS, REALS, (1, 1), (0.0, -0.0)),
        torch={"equal": "eq", "not_equal": "ne"}.get(_name, ""),
    )
HALVES = one(near(0.5, 1.5, 2.5, 1.0, 1e6 + 0.5), inside=lambda x: True)
function("sign", mp.sign, None, at=REALS)
function("floor", mp.floor, None, at=HALVES)
function("ceil", mp.ceil, None, at=HALVES)
function("round", mp.nint, None, at=HALVES)
function("trunc", lambda x: mp.sign(x) * mp.floor(abs(x)), None, at=HALVES)
UNTIED = two(REALS, REALS, inside=lambda x, y: x != y)
function("maximum", max, lambda x, y: mp.mpf(int(x > y)), lambda x, y: mp.mpf(int(y > x)), at=UNTIED)
function("minimum", min, lambda x, y: mp.mpf(int(x < y)), lambda x, y: mp.mpf(int(y < x)), at=UNTIED)
function(
    "clip",
    lambda x: min(max(x, -1), 1),
    lambda x: mp.mpf(int(abs(x) < 1)),
    at=one(inside=lambda x: abs(x) != 1),
    params={"low": -1.0, "high": 1.0},
    torch=lambda t, x: t.clip(x, -1.0, 1.0),
    jax=lambda j, x: j.numpy.clip(x, -1.0, 1.0),
)
function("abs", abs, mp.sign, at=NOT_ZERO)
function("relu", lambda x: max(x, mp.mpf(0)), lambda x: mp.mpf(int(x > 0)), at=NOT_ZERO)
function(
    "leaky_relu",
    lambda x: x if x > 0 else x / 4,
    lambda x: mp.mpf(1 if x > 0 else 0.25),
    at=NOT_ZERO,
    params={"slope": 0.25},
    torch=lambda t, x: t.nn.functional.leaky_relu(x, 0.25),
    jax=lambda j, x: j.nn.leaky_relu(x, 0.25),
)
function(
    "copysign",
    lambda x, y: abs(x) * (mp.sign(y) or 1),
    lambda x, y: mp.sign(x) * mp.sign(y),
    None,
    at=two(NOT_ZERO, NOT_ZERO),
)
function("replace_zero", lambda x: x, ONE, at=NOT_ZERO, params={"by": 1.0}, torch=None, jax=None)

# ---- roots, exponentials and logarithms ----

AROUND_1 = one(near(1.0), inside=lambda x: x > 0)
function("sqrt", mp.sqrt, lambda x: 1 / (2 * mp.sqrt(x)), at=POSITIVE)
function("rsqrt", lambda x: 1 / mp.sqrt(x), lambda x: -1 / (2 * x * mp.sqrt(x)), at=POSITIVE)
function("cbrt", lambda x: mp.sign(x) * mp.cbrt(abs(x)), lambda x: 1 / (3 * mp.cbrt(abs(x)) ** 2), at=NOT_ZERO)
EXPONENTS = one(near(math.log(2), 88.72, -87.33, -103.9, 709.78, -708.39, -745.1), inside=lambda x: abs(x) < 1e6)
function("exp", mp.exp, mp.exp, at=EXPONENTS)
function("exp2", lambda x: mp.mpf(2) ** x, lambda x: mp.mpf(2) ** x * mp.log(2), at=EXPONENTS)
function("expm1", mp.expm1, mp.exp, at=EXPONENTS)
function("log", mp.log, lambda x: 1 / x, at=AROUND_1)
function("log2", lambda x: mp.log(x, 2), lambda x: 1 / (x * mp.log(2)), at=AROUND_1)
function("log10", mp.log10, lambda x: 1 / (x * mp.log(10)), at=AROUND_1)
function("log1p", mp.log1p, lambda x: 1 / (1 + x), at=one(near(-1.0, 0.0), inside=lambda x: x > -1))
function(
    "logaddexp", lambda x, y: mp.log(mp.exp(x) + mp.exp(y)), lambda x, y: 1 / (1 + mp.exp(y - x)), lambda x, y: 1 / (1 + mp.exp(x - y)),
    at=two(EXPONENTS, EXPONENTS, *((x, x + d) for x in (-1000.0, -30.0, -0.7, 0.5, 40.0, 5000.0) for d in (0, 1e-3, 0.1, 1, 5, 12, 18, 40, 90)), (-0.6931472, -0.6931471), (-40, -1e-18), (-3, -0.0511)),
)  # fmt: skip

# ---- trigonometric and hyperbolic functions ----

SMALL_ANGLES = one(near(*MULTIPLES), inside=lambda x: abs(x) < 1e15)
function("sin", mp.sin, mp.cos, at=ANGLES)
function("cos", mp.cos, lambda x: -mp.sin(x), at=ANGLES)
function("tan", mp.tan, lambda x: mp.sec(x) ** 2, at=ANGLES)
INSIDE = one(near(1.0, -1.0, 0.5), inside=lambda x: abs(x) < 1)
function("asin", mp.asin, lambda x: 1 / mp.sqrt((1 - x) * (1 + x)), at=INSIDE)
function("acos", mp.acos, lambda x: -1 / mp.sqrt((1 - x) * (1 + x)), at=INSIDE)
function("atan", mp.atan, lambda x: 1 / (1 + x * x), at=one(near(1.0)))
HYPERBOLIC = one(near(88.7, 89.4, 709.7, 710.4), inside=lambda x: abs(x) < 1e5)
function("sinh", mp.sinh, mp.cosh, at=HYPERBOLIC)
function("cosh", mp.cosh, mp.sinh, at=HYPERBOLIC)
function(
    "tanh",
    mp.tanh,
    lambda x: mp.sech(x) ** 2,
    at=one(ranges=((-10, 10), (-45, 45), (-370, 370)), inside=lambda x: abs(x) < 1e6),
)
function("asinh", mp.asinh, lambda x: 1 / mp.sqrt(1 + x * x), at=REALS)
function("acosh", mp.acosh, lambda x: 1 / mp.sqrt((x - 1) * (x + 1)), at=one(near(1.0), inside=lambda x: x > 1))
function("atanh", mp.atanh, lambda x: 1 / ((1 - x) * (1 + x)), at=INSIDE)
function(
    "atan2",
    lambda x, y: mp.atan2(x, y),
    lambda x, y: y / (x * x + y * y),
    lambda x, y: -x / (x * x + y * y),
    at=two(REALS, NOT_ZERO, (1e-30, -1e30), (1e-25, 1e25), (3e38, 3e38), (1e-40, 1e-40)),
    torch="atan2",
)
function(
    "hypot",
    lambda x, y: mp.sqrt(x * x + y * y),
    lambda x, y: x / mp.sqrt(x * x + y * y),
    lambda x, y: y / mp.sqrt(x * x + y * y),
    at=two(NOT_ZERO, REALS, (3e38, 1e38), (1e-40, 2e-40), (3, 4)),
)
function(
    "sinc",
    mp.sincpi,
    lambda x: (mp.cospi(x) - mp.sincpi(x)) / x if x else mp.mpf(0),
    at=one(near(1.0, 2.0, -3.0, 0.25, 1.4303), inside=lambda x: abs(x) < 1e6),
)

# ---- activations and the error function ----

SIGMOID = lambda x: 1 / (1 + mp.exp(-x))
TAILS = one(near(-37.0, 20.0, -8.3), ranges=((-120, 120), (-9, 9), (-40, 40)), inside=lambda x: abs(x) < 1e6)
function("sigmoid", SIGMOID, lambda x: mp.exp(-x) / (1 + mp.exp(-x)) ** 2, at=TAILS)
function("softplus", lambda x: mp.log1p(mp.exp(x)), SIGMOID, at=TAILS)
function(
    "silu",
    lambda x: x * SIGMOID(x),
    lambda x: SIGMOID(x) * (1 + x * SIGMOID(-x)),
    at=one(near(-1.2784645, -37.0), ranges=((-120, 120), (-9, 9)), inside=lambda x: abs(x) < 1e6),
)
function(
    "elu",
    lambda x: x if x > 0 else mp.expm1(x),
    lambda x: mp.exp(x) if x < 0 else mp.mpf(1),
    at=one(ranges=((-40, 1),), inside=lambda x: x != 0 and abs(x) < 1e6),
)
PHI, DENSITY = lambda x: mp.erfc(-x / mp.sqrt(2)) / 2, lambda x: mp.exp(-x * x / 2) / mp.sqrt(2 * mp.pi)
NORMAL = one(near(-5.0, -0.75179), ranges=((-14, 14), (-39, 39), (-5, 5)), inside=lambda x: abs(x) < 1e6)
function(
    "gelu",
    lambda x: x * PHI(x),
    lambda x: PHI(x) + x * DENSITY(x),
    at=NORMAL,
    jax=lambda j, x: j.nn.gelu(x, approximate=False),
)


def _gelu_tanh(x: Any) -> Any:
    return x / (1 + mp.exp(-2 * mp.sqrt(2 / mp.pi) * (x + mp.mpf("0.044715") * x**3)))


def _gelu_tanh_slope(x: Any) -> Any:
    root = 2 * mp.sqrt(2 / mp.pi)
    e = mp.exp(-root * (x + mp.mpf("0.044715") * x**3))
    return 1 / (1 + e) + x * e / (1 + e) ** 2 * root * (1 + 3 * mp.mpf("0.044715") * x * x)


function(
    "gelu:tanh",
    _gelu_tanh,
    _gelu_tanh_slope,
    at=NORMAL,
    params={"approximate": "tanh"},
    torch=lambda t, x: t.nn.functional.gelu(x, approximate="tanh"),
    jax=lambda j, x: j.nn.gelu(x, approximate=True),
)
GAUSS = lambda x: 2 * mp.exp(-x * x) / mp.sqrt(mp.pi)
ERRORS = one(near(0.5, 1.0, -3.0), ranges=((-6, 6), (0, 28)), inside=lambda x: abs(x) < 1e6)
function("erf", mp.erf, GAUSS, at=ERRORS)
function("erfc", mp.erfc, lambda x: -GAUSS(x), at=ERRORS)
function(
    "erfcx",
    lambda x: mp.exp(x * x) * mp.erfc(x),
    lambda x: 2 * x * mp.exp(x * x) * mp.erfc(x) - 2 / mp.sqrt(mp.pi),
    at=one(near(0.5, 10.0), ranges=((-9, 9), (0, 30), (0, 400)), inside=lambda x: -27 < x < 1e6),
)
function(
    "erfinv",
    mp.erfinv,
    lambda x: mp.sqrt(mp.pi) / 2 * mp.exp(mp.erfinv(x) ** 2),
    at=one(near(1.0, -1.0, 0.5), ranges=((-1, 1),), wide=False, inside=lambda x: abs(x) < 1),
    jax="erf_inv",
)


def _erfcinv(x: Any) -> Any:
    return mp.erfinv(1 - x)


function(
    "erfcinv",
    _erfcinv,
    lambda x: -mp.sqrt(mp.pi) / 2 * mp.exp(_erfcinv(x) ** 2),
    at=one(
        near(0.5, 1.0, 2.0),
        lambda d: [10.0**-k for k in (2, 3, 5, 8, 15, 25, 36)],
        ranges=((0, 2),),
        wide=False,
        inside=lambda x: 0 < x < 2,
    ),
)
function("ndtr", PHI, DENSITY, at=NORMAL)
function("log_ndtr", lambda x: mp.log(PHI(x)), lambda x: DENSITY(x) / PHI(x), at=NORMAL)


def _ndtri(p: Any) -> Any:
    return mp.sqrt(2) * mp.erfinv(2 * p - 1)


function(
    "ndtri",
    _ndtri,
    lambda p: 1 / DENSITY(_ndtri(p)),
    at=one(
        near(0.5, 1.0, 0.135335),
        lambda d: [10.0**-k for k in (2, 3, 5, 8, 15, 25, 36)],
        ranges=((0, 1),),
        wide=False,
        inside=lambda p: 0 < p < 1,
    ),
)

# ---- gamma, beta and zeta functions ----

POLES = near(-1.0, -2.0, -3.0, -7.0)
function(
    "gamma",
    mp.gamma,
    lambda x: mp.gamma(x) * mp.psi(0, x),
    at=one(
        near(1.0, 2.0, 1.4616321449683623),
        POLES,
        ranges=((-8, 8), (-40, 40), (0, 172)),
        inside=lambda x: x != 0 and abs(x) < 1e3,
    ),
)
GAMMALN = {
    "at": one(
        near(1.0, 2.0, 1.4616321449683623, -2.4570247382208, -3.143580888349),
        POLES,
        ranges=((-8, 8), (-100, 100)),
        inside=lambda x: x != 0 and x > -1e4,
    )
}
function("gammaln", lambda x: mp.re(mp.loggamma(x)), lambda x: mp.psi(0, x), torch="lgamma", **GAMMALN)
function(
    "loggamma",
    mp.loggamma,
    lambda x: mp.psi(0, x),
    at=one(near(1.0, 2.0, 1.4616321449683623), ranges=((0, 8), (0, 100)), inside=lambda x: x > 0),
    torch="lgamma",
    jax="gammaln",
)
function(
    "rgamma",
    mp.rgamma,
    lambda x: -mp.rgamma(x) * mp.psi(0, x),
    at=one(
        near(1.0, 2.0, 1.4616321449683623),
        POLES,
        ranges=((-8, 8), (-40, 40), (0, 172)),
        inside=lambda x: x != 0 and abs(x) < 1e3,
    ),
)
function(
    "digamma",
    lambda x: mp.psi(0, x),
    lambda x: mp.psi(1, x),
    at=one(
        near(1.0, 1.4616321449683623, -0.50408), POLES, ranges=((-8, 8), (0, 100)), inside=lambda x: x != 0 and x > -1e4
    ),
)
function(
    "polygamma", lambda n, x: mp.psi(int(n), x), None, lambda n, x: mp.psi(int(n) + 1, x),
    at=grid([1, 2, 3, 5], [-3.3, -2.5, -0.6, 1e-3, 0.02, 0.3, 0.8, 1, 1.7, 3, 6.3, 11, 25, 60, 200, 1e4]),
    torch=lambda t, n, x: t.cat([t.polygamma(int(k), v[None]) for k, v in zip(n.tolist(), x, strict=True)]),
)  # fmt: skip
function(
    "zeta",
    lambda s, a: mp.zeta(s, a),
    None,
    lambda s, a: -s * mp.zeta(s + 1, a),
    at=grid([1.01, 1.5, 2, 3, 7.5, 20, 50], [1e-3, 0.1, 0.7, 1, 2.5, 9, 30, 500, 1e5]),
)
SHAPES = [1e-3, 0.1, 0.6, 1, 2.5, 8, 30, 77.7, 300]
LARGE = [(1e4, 2e4), (1e6, 3.0), (2.0, 1e7), (1e-10, 1e5), (1e-8, 1e-9), (150.5, 0.01)]
function(
    "beta",
    mp.beta,
    lambda x, y: mp.beta(x, y) * (mp.psi(0, x) - mp.psi(0, x + y)),
    lambda x, y: mp.beta(x, y) * (mp.psi(0, y) - mp.psi(0, x + y)),
    at=grid(SHAPES, SHAPES, extra=LARGE),
)
function(
    "betaln", lambda x, y: mp.loggamma(x) + mp.loggamma(y) - mp.loggamma(x + y), lambda x, y: mp.psi(0, x) - mp.psi(0, x + y), lambda x, y: mp.psi(0, y) - mp.psi(0, x + y),
    at=grid(SHAPES, SHAPES, extra=LARGE, inside=lambda x, y: (x, y) != (1, 1)),
)  # fmt: skip
INCOMPLETE = [
    (0.5, 1e-10),
    (3, 1e-5),
    (2, 40),
    (5, 100),
    (100, 100),
    (100, 60),
    (100, 150),
    (1000, 1010),
    (1000, 900),
    (30, 5),
    (0.01, 20),
    (1.5, 80),
]
GAMMA_DENSITY = lambda a, x: mp.exp((a - 1) * mp.log(x) - x - mp.loggamma(a))
function(
    "gammainc",
    lambda a, x: mp.gammainc(a, 0, x, regularized=True),
    None,
    GAMMA_DENSITY,
    at=grid([0.1, 0.7, 1, 2.5, 10, 40], [1e-3, 0.2, 1, 3, 9.5, 15, 38, 50], extra=INCOMPLETE),
)
function(
    "gammaincc",
    lambda a, x: mp.gammainc(a, x, mp.inf, regularized=True),
    None,
    lambda a, x: -GAMMA_DENSITY(a, x),
    at=grid([0.1, 0.7, 1, 2.5, 10, 40], [1e-3, 0.2, 1, 3, 9.5, 15, 38, 50], extra=INCOMPLETE),
)
function(
    "betainc", lambda a, b, x: mp.betainc(a, b, 0, x, regularized=True), None, None, lambda a, b, x: x ** (a - 1) * (1 - x) ** (b - 1) / mp.beta(a, b),
    at=grid([0.2, 1, 3.5, 20, 100], [0.3, 1, 4.5, 60], [1e-6, 0.05, 0.4, 0.81, 0.999]), jax="betainc",
)  # fmt: skip

# ---- Bessel functions ----

WAVES = one(
    near(2.404825557695773, 5.520078110286311, 3.831705970207512, 7.01558666981562, 1.841183781, 5.0, 8.0, 25.0),
    ranges=((-12, 12), (-60, 60), (0, 2000)),
    inside=lambda x: x != 0 and abs(x) < 1e6,
)
WAVES_RIGHT = one(
    near(0.8935769662791675, 3.957678419314858, 2.197141326031017, 5.429681040794135, 5.0),
    ranges=((0, 12), (0, 60), (0, 2000)),
    inside=lambda x: 1e-300 < x < 1e6,
)
function("j0", lambda x: mp.besselj(0, x), lambda x: -mp.besselj(1, x), at=WAVES, torch="bessel_j0", jax=None)
function(
    "j1",
    lambda x: mp.besselj(1, x),
    lambda x: (mp.besselj(0, x) - mp.besselj(2, x)) / 2,
    at=WAVES,
    torch="bessel_j1",
    jax=None,
)
function("y0", lambda x: mp.bessely(0, x), lambda x: -mp.bessely(1, x), at=WAVES_RIGHT, torch="bessel_y0", jax=None)
function(
    "y1",
    lambda x: mp.bessely(1, x),
    lambda x: (mp.bessely(0, x) - mp.bessely(2, x)) / 2,
    at=WAVES_RIGHT,
    torch="bessel_y1",
    jax=None,
)
GROWING = one(near(8.0, 0.5), ranges=((-10, 10), (-90, 90), (-700, 700)), inside=lambda x: x != 0 and abs(x) < 710)
DAMPED = one(near(8.0, 0.5), ranges=((-10, 10), (-90, 90), (-700, 700)), inside=lambda x: x != 0 and abs(x) < 1e6)
IE = lambda n, x: mp.exp(-abs(x)) * mp.besseli(n, x)
IE_SLOPE = lambda n, x: (
    mp.exp(-abs(x))
    * (
        mp.besseli(n, x, derivative=0) * 0
        + (mp.besseli(n - 1, x) + mp.besseli(n + 1, x)) / 2
        - mp.sign(x) * mp.besseli(n, x)
    )
)
function("i0", lambda x: mp.besseli(0, x), lambda x: mp.besseli(1, x), at=GROWING)
function("i1", lambda x: mp.besseli(1, x), lambda x: (mp.besseli(0, x) + mp.besseli(2, x)) / 2, at=GROWING)
function("i0e", lambda x: IE(0, x), lambda x: IE_SLOPE(0, x), at=DAMPED)
function("i1e", lambda x: IE(1, x), lambda x: IE_SLOPE(1, x), at=DAMPED)
ORDERS, PLACES = [0, 1, 2, 5, 20, 0.5, 2.7], [0.02, 0.4, 1.3, 3.3, 7.7, 15, 43, 100, 331.7]
function(
    "jv",
    mp.besselj,
    None,
    lambda n, x: (mp.besselj(n - 1, x) - mp.besselj(n + 1, x)) / 2,
    at=grid(ORDERS, PLACES),
    torch=None,
    jax=None,
)
function(
    "yv",
    mp.bessely,
    None,
    lambda n, x: (mp.bessely(n - 1, x) - mp.bessely(n + 1, x)) / 2,
    at=grid(ORDERS, PLACES),
    torch=None,
    jax=None,
)
function(
    "iv",
    mp.besseli,
    None,
    lambda n, x: (mp.besseli(n - 1, x) + mp.besseli(n + 1, x)) / 2,
    at=grid(ORDERS, PLACES),
    torch=None,
    jax=None,
)
function("ive", IE, None, IE_SLOPE, at=grid(ORDERS, PLACES), torch=None, jax=None)

# ---- logistic functions, entropies and losses ----

UNIT = one(near(0.5, 1.0), ranges=((0, 1),), inside=lambda p: 0 < p < 1)
function("logit", lambda p: mp.log(p / (1 - p)), lambda p: 1 / (p * (1 - p)), at=UNIT)
function(
    "xlogy", lambda x, y: x * mp.log(y), lambda x, y: mp.log(y), lambda x, y: x / y, at=two(REALS, AROUND_1, (0.0, 2.0))
)
function(
    "xlog1py",
    lambda x, y: x * mp.log1p(y),
    lambda x, y: mp.log1p(y),
    lambda x, y: x / (1 + y),
    at=two(REALS, one(near(-1.0, 0.0), inside=lambda y: y > -1), (0.0, 2.0)),
)
function(
    "entr",
    lambda x: -x * mp.log(x),
    lambda x: -(mp.log(x) + 1),
    at=one(near(1.0, math.exp(-1)), inside=lambda x: x > 0),
)
BESIDE = two(
    POSITIVE,
    POSITIVE,
    *((x, x * (1 + d)) for x in (0.03, 0.6, 1.0, 20.0) for d in (1e-6, -1e-4, 0.01, -0.2, 1.0)),
    inside=lambda x, y: 1e-30 < x < 1e30 and 1e-30 < y < 1e30,
    many=40,
)
function(
    "rel_entr",
    lambda x, y: x * mp.log(x / y),
    lambda x, y: mp.log(x / y) + 1,
    lambda x, y: -x / y,
    at=BESIDE,
    torch=None,
)
function(
    "kl_div",
    lambda x, y: x * mp.log(x / y) - x + y,
    lambda x, y: mp.log(x / y),
    lambda x, y: 1 - x / y,
    at=BESIDE,
    torch=None,
)
PROBABILITIES = one(
    near(1.0, 0.5), lambda d: [1e-11, 1e-7, 1e-4], wide=False, ranges=((0, 1),), inside=lambda p: 1e-11 <= p < 1
)
function(
    "binary_cross_entropy", lambda p, t: -(t * mp.log(p) + (1 - t) * mp.log1p(-p)), lambda p, t: (p - t) / (p * (1 - p)), lambda p, t: mp.log1p(-p) - mp.log(p),
    at=two(PROBABILITIES, one(wide=False, ranges=((0, 1),), inside=lambda t: True), (0.3, 0.0), (0.3, 1.0), (1e-6, 0.0), (0.999999, 1.0), (0.7, 0.69999)),
    torch=lambda t, p, target: t.nn.functional.binary_cross_entropy(p, target, reduction="none"), jax=None,
)  # fmt: skip
