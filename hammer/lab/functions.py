"""Classical test functions of optimization, with their minima, domains, starting points and gradients in closed form.

    >>> from hammer.lab import functions
    >>> booth = functions.get("booth")
    >>> float(booth(booth.minima[0])), booth.gradient(booth.minima[0]).tolist()
    (0.0, [0.0, 0.0])

A function takes a tensor or an array (n,), so the tape differentiates it; ``gradient`` is the same by hand, in NumPy: a
test holds the two against each other. Formulas, domains and minima are those of Jamil & Yang, "A literature survey of
benchmark functions for global optimization problems", 2013 (arXiv:1308.4008), where nothing else is said.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from autograd import ops

from .errors import unknown

Point = tuple[float, ...]


@dataclass(frozen=True)
class TestFunction:
    """A function with what is known about it.

    Attributes:
        name: as it is called in the field.
        value: the function, of a tensor or array (dimensions,).
        gradient: its gradient by hand, of an array (dimensions,).
        minima: every global minimum in the domain.
        minimum: the value there.
        domain: lowest and highest coordinate, the same for all or one pair for each.
        start: where a local method customarily starts.
        scalable: whether formula and minima hold in any number of dimensions.
    """

    __test__ = False  # it is no test of pytest's

    name: str
    value: Callable[[Any], Any]
    gradient: Callable[[np.ndarray], np.ndarray]
    minima: tuple[Point, ...]
    minimum: float
    domain: tuple[tuple[float, float], ...]
    start: Point
    scalable: bool = False

    def __call__(self, x: Any) -> Any:
        return self.value(x)

    @property
    def dimensions(self) -> int:
        return len(self.start)

    @property
    def box(self) -> np.ndarray:
        """The domain as (dimensions, 2)."""
        return np.broadcast_to(np.array(self.domain), (self.dimensions, 2))


_ALL: dict[str, TestFunction] = {}


def _function(
    name: str,
    value: Callable[[Any], Any],
    gradient: Callable[[np.ndarray], Any],
    *minima: Point,
    domain: tuple[tuple[float, float], ...] | tuple[float, float],
    start: Point,
    minimum: float = 0.0,
    scalable: bool = False,
) -> None:
    pairs: Any = domain if isinstance(domain[0], tuple) else (domain,)
    _ALL[name] = TestFunction(
        name, value, lambda x: np.array(gradient(x), float), minima, minimum, pairs, start, scalable
    )


def names() -> list[str]:
    """The functions' names."""
    return sorted(_ALL)


def get(name: str) -> TestFunction:
    """The function of a name.

    Raises:
        KeyError: there is none of this name; the message says which is near.
    """
    if name not in _ALL:
        raise KeyError(unknown("test function", name, names()))
    return _ALL[name]


# ---- bowls and valleys ----

_function("sphere", lambda x: ops.sum(x * x), lambda x: 2.0 * x,
          (0.0,) * 4, domain=(-5.12, 5.12), start=(3.0, -2.0, 1.0, 4.0), scalable=True)  # fmt: skip


def _rosenbrock(x: Any) -> Any:
    a, b = x[:-1], x[1:]
    return ops.sum(100.0 * (b - a * a) ** 2 + (1.0 - a) ** 2)


def _rosenbrock_gradient(x: np.ndarray) -> np.ndarray:
    g, valley = np.zeros_like(x), x[1:] - x[:-1] ** 2
    g[:-1] = -400.0 * x[:-1] * valley - 2.0 * (1.0 - x[:-1])
    g[1:] += 200.0 * valley
    return g


_function(
    "rosenbrock", _rosenbrock, _rosenbrock_gradient, (1.0, 1.0), domain=(-5.0, 10.0), start=(-1.2, 1.0), scalable=True
)


def _zakharov(x: Any) -> Any:
    s = ops.sum(x * (0.5 * np.arange(1, x.shape[0] + 1)))
    return ops.sum(x * x) + s**2 + s**4


def _zakharov_gradient(x: np.ndarray) -> np.ndarray:
    i = 0.5 * np.arange(1, len(x) + 1)
    s = i @ x
    return 2.0 * x + (2.0 * s + 4.0 * s**3) * i


_function(
    "zakharov", _zakharov, _zakharov_gradient, (0.0,) * 3, domain=(-5.0, 10.0), start=(1.0, 2.0, -1.0), scalable=True
)


def _dixon_price(x: Any) -> Any:
    i = np.arange(2, x.shape[0] + 1)
    return (x[0] - 1.0) ** 2 + ops.sum(i * (2.0 * x[1:] ** 2 - x[:-1]) ** 2)


def _dixon_price_gradient(x: np.ndarray) -> np.ndarray:
    i = np.arange(2, len(x) + 1)
    r, g = 2.0 * x[1:] ** 2 - x[:-1], np.zeros_like(x)
    g[0] = 2.0 * (x[0] - 1.0)
    g[1:] += 8.0 * i * r * x[1:]
    g[:-1] -= 2.0 * i * r
    return g


# x_i = 2^(2^(1-i) - 1), and with the last coordinate's sign changed.
_function("dixon_price", _dixon_price, _dixon_price_gradient, (1.0, 2.0**-0.5, 2.0**-0.75), (1.0, 2.0**-0.5, -(2.0**-0.75)),
          domain=(-10.0, 10.0), start=(5.0, 5.0, 5.0))  # fmt: skip


def _matyas(x: Any) -> Any:
    return 0.26 * (x[0] ** 2 + x[1] ** 2) - 0.48 * x[0] * x[1]


_function("matyas", _matyas, lambda x: 0.52 * x - 0.48 * x[::-1], (0.0, 0.0), domain=(-10.0, 10.0), start=(8.0, -6.0))


def _booth(x: Any) -> Any:
    return (x[0] + 2.0 * x[1] - 7.0) ** 2 + (2.0 * x[0] + x[1] - 5.0) ** 2


_function("booth", _booth, lambda x: (10.0 * x[0] + 8.0 * x[1] - 34.0, 8.0 * x[0] + 10.0 * x[1] - 38.0),
          (1.0, 3.0), domain=(-10.0, 10.0), start=(-5.0, -5.0))  # fmt: skip

_BEALE = np.array([1.5, 2.25, 2.625])


def _beale(x: Any) -> Any:
    return sum((c - x[0] * (1.0 - x[1] ** k)) ** 2 for k, c in enumerate(_BEALE.tolist(), 1))


def _beale_gradient(x: np.ndarray) -> Any:
    k = np.arange(1, 4)
    r = _BEALE - x[0] * (1.0 - x[1] ** k)
    return -2.0 * r @ (1.0 - x[1] ** k), 2.0 * r @ (x[0] * k * x[1] ** (k - 1))


_function("beale", _beale, _beale_gradient, (3.0, 0.5), domain=(-4.5, 4.5), start=(1.0, 1.0))


def _powell(x: Any) -> Any:
    a, b, c, d = (x[i] for i in range(4))
    return (a + 10.0 * b) ** 2 + 5.0 * (c - d) ** 2 + (b - 2.0 * c) ** 4 + 10.0 * (a - d) ** 4


def _powell_gradient(x: np.ndarray) -> Any:
    a, b, c, d = x
    p, q, r, s = 2.0 * (a + 10.0 * b), 10.0 * (c - d), 4.0 * (b - 2.0 * c) ** 3, 40.0 * (a - d) ** 3
    return p + s, 10.0 * p + r, q - 2.0 * r, -q - s


_function("powell", _powell, _powell_gradient, (0.0,) * 4, domain=(-4.0, 5.0), start=(3.0, -1.0, 0.0, 1.0))

# ---- several minima ----


def _himmelblau(x: Any) -> Any:
    return (x[0] ** 2 + x[1] - 11.0) ** 2 + (x[0] + x[1] ** 2 - 7.0) ** 2


def _himmelblau_gradient(x: np.ndarray) -> Any:
    p, q = x[0] ** 2 + x[1] - 11.0, x[0] + x[1] ** 2 - 7.0
    return 4.0 * x[0] * p + 2.0 * q, 2.0 * p + 4.0 * x[1] * q


_function("himmelblau", _himmelblau, _himmelblau_gradient, (3.0, 2.0), (-2.805118086952745, 3.131312518250573),
          (-3.779310253377747, -3.283185991286170), (3.584428340330492, -1.848126526964404),
          domain=(-5.0, 5.0), start=(0.0, 0.0))  # fmt: skip


def _three_hump_camel(x: Any) -> Any:
    return 2.0 * x[0] ** 2 - 1.05 * x[0] ** 4 + x[0] ** 6 / 6.0 + x[0] * x[1] + x[1] ** 2


_function("three_hump_camel", _three_hump_camel,
          lambda x: (4.0 * x[0] - 4.2 * x[0] ** 3 + x[0] ** 5 + x[1], x[0] + 2.0 * x[1]),
          (0.0, 0.0), domain=(-5.0, 5.0), start=(-1.0, -0.5))  # fmt: skip


def _six_hump_camel(x: Any) -> Any:
    a, b = x[0] ** 2, x[1] ** 2
    return (4.0 - 2.1 * a + a * a / 3.0) * a + x[0] * x[1] + (4.0 * b - 4.0) * b


_function("six_hump_camel", _six_hump_camel,
          lambda x: (8.0 * x[0] - 8.4 * x[0] ** 3 + 2.0 * x[0] ** 5 + x[1], x[0] - 8.0 * x[1] + 16.0 * x[1] ** 3),
          (0.08984201310031806, -0.7126564030207396), (-0.08984201310031806, 0.7126564030207396),
          minimum=-1.031628453489877, domain=((-3.0, 3.0), (-2.0, 2.0)), start=(1.5, 1.0))  # fmt: skip


def _goldstein_price(x: Any) -> Any:
    a, b = x[0], x[1]
    s, t = a + b + 1.0, 2.0 * a - 3.0 * b
    p = 19.0 - 14.0 * a + 3.0 * a * a - 14.0 * b + 6.0 * a * b + 3.0 * b * b
    q = 18.0 - 32.0 * a + 12.0 * a * a + 48.0 * b - 36.0 * a * b + 27.0 * b * b
    return (1.0 + s * s * p) * (30.0 + t * t * q)


def _goldstein_price_gradient(x: np.ndarray) -> Any:
    a, b = x
    s, t = a + b + 1.0, 2.0 * a - 3.0 * b
    p = 19.0 - 14.0 * a + 3.0 * a * a - 14.0 * b + 6.0 * a * b + 3.0 * b * b
    q = 18.0 - 32.0 * a + 12.0 * a * a + 48.0 * b - 36.0 * a * b + 27.0 * b * b
    u, v = 1.0 + s * s * p, 30.0 + t * t * q
    du = 2.0 * s * p + s * s * (-14.0 + 6.0 * a + 6.0 * b)  # for both coordinates
    dv_a = 4.0 * t * q + t * t * (-32.0 + 24.0 * a - 36.0 * b)
    dv_b = -6.0 * t * q + t * t * (48.0 - 36.0 * a + 54.0 * b)
    return du * v + u * dv_a, du * v + u * dv_b


_function("goldstein_price", _goldstein_price, _goldstein_price_gradient, (0.0, -1.0), minimum=3.0,
          domain=(-2.0, 2.0), start=(-0.5, 0.5))  # fmt: skip


def _mccormick(x: Any) -> Any:
    return ops.sin(x[0] + x[1]) + (x[0] - x[1]) ** 2 - 1.5 * x[0] + 2.5 * x[1] + 1.0


# cos(x + y) = -1/2 and x - y = 1.
_function("mccormick", _mccormick,
          lambda x: (math.cos(x[0] + x[1]) + 2.0 * (x[0] - x[1]) - 1.5, math.cos(x[0] + x[1]) - 2.0 * (x[0] - x[1]) + 2.5),
          (0.5 - math.pi / 3.0, -0.5 - math.pi / 3.0), minimum=-math.sqrt(0.75) - math.pi / 3.0,
          domain=((-1.5, 4.0), (-3.0, 4.0)), start=(2.0, 0.0))  # fmt: skip

_B, _C, _R, _S, _T = 5.1 / (4.0 * math.pi**2), 5.0 / math.pi, 6.0, 10.0, 1.0 / (8.0 * math.pi)


def _branin(x: Any) -> Any:
    return (x[1] - _B * x[0] ** 2 + _C * x[0] - _R) ** 2 + _S * (1.0 - _T) * ops.cos(x[0]) + _S


def _branin_gradient(x: np.ndarray) -> Any:
    r = 2.0 * (x[1] - _B * x[0] ** 2 + _C * x[0] - _R)
    return r * (_C - 2.0 * _B * x[0]) - _S * (1.0 - _T) * math.sin(x[0]), r


_function("branin", _branin, _branin_gradient, (-math.pi, 12.275), (math.pi, 2.275), (3.0 * math.pi, 2.475),
          minimum=_S * _T, domain=((-5.0, 10.0), (0.0, 15.0)), start=(6.0, 8.0))  # fmt: skip


def _easom(x: Any) -> Any:
    return -ops.cos(x[0]) * ops.cos(x[1]) * ops.exp(-((x[0] - math.pi) ** 2) - (x[1] - math.pi) ** 2)


def _easom_gradient(x: np.ndarray) -> np.ndarray:
    c, d = np.cos(x), x - math.pi
    return np.exp(-d @ d) * (np.sin(x) * c[::-1] + 2.0 * d * c[0] * c[1])


_function("easom", _easom, _easom_gradient, (math.pi, math.pi), minimum=-1.0, domain=(-100.0, 100.0), start=(2.0, 4.0))


def _styblinski_tang(x: Any) -> Any:
    return ops.sum(x**4 - 16.0 * x * x + 5.0 * x) * 0.5


_STYBLINSKI = -2.9035340277711770  # the lowest root of 4 x³ - 32 x + 5
_function("styblinski_tang", _styblinski_tang, lambda x: 2.0 * x**3 - 16.0 * x + 2.5,
          (_STYBLINSKI,) * 3, minimum=1.5 * (_STYBLINSKI**4 - 16.0 * _STYBLINSKI**2 + 5.0 * _STYBLINSKI),
          domain=(-5.0, 5.0), start=(0.0, -1.0, 1.0))  # fmt: skip

# ---- many minima ----


def _ackley(x: Any) -> Any:
    n = x.shape[0]
    away = ops.sqrt(ops.sum(x * x) / n)
    return 20.0 + math.e - 20.0 * ops.exp(-0.2 * away) - ops.exp(ops.sum(ops.cos(2.0 * math.pi * x)) / n)


def _ackley_gradient(x: np.ndarray) -> np.ndarray:
    n, away = len(x), math.sqrt(x @ x / len(x))
    waves = np.exp(np.cos(2.0 * math.pi * x).mean()) * 2.0 * math.pi * np.sin(2.0 * math.pi * x) / n
    return waves + (4.0 * math.exp(-0.2 * away) * x / (n * away) if away else 0.0)  # a cone: no gradient at its tip


_function(
    "ackley", _ackley, _ackley_gradient, (0.0,) * 3, domain=(-32.768, 32.768), start=(2.5, -1.5, 0.5), scalable=True
)


def _rastrigin(x: Any) -> Any:
    return ops.sum(10.0 + x * x - 10.0 * ops.cos(2.0 * math.pi * x))


_function("rastrigin", _rastrigin, lambda x: 2.0 * x + 20.0 * math.pi * np.sin(2.0 * math.pi * x),
          (0.0,) * 3, domain=(-5.12, 5.12), start=(2.2, -1.3, 3.7), scalable=True)  # fmt: skip


def _griewank(x: Any) -> Any:
    return 1.0 + ops.sum(x * x) / 4000.0 - ops.prod(ops.cos(x / np.sqrt(np.arange(1, x.shape[0] + 1))))


def _griewank_gradient(x: np.ndarray) -> np.ndarray:
    root = np.sqrt(np.arange(1, len(x) + 1))
    c = np.cos(x / root)
    others = np.array([np.prod(np.delete(c, i)) for i in range(len(x))])
    return x / 2000.0 + others * np.sin(x / root) / root


_function(
    "griewank",
    _griewank,
    _griewank_gradient,
    (0.0,) * 3,
    domain=(-600.0, 600.0),
    start=(20.0, -30.0, 10.0),
    scalable=True,
)


def _levy(x: Any) -> Any:
    w = 1.0 + (x - 1.0) * 0.25
    inner, last = w[:-1], w[-1]
    waves = ops.sum((inner - 1.0) ** 2 * (1.0 + 10.0 * ops.sin(math.pi * inner + 1.0) ** 2))
    end = (last - 1.0) ** 2 * (1.0 + ops.sin(2.0 * math.pi * last) ** 2)
    return ops.sin(math.pi * w[0]) ** 2 + waves + end


def _levy_gradient(x: np.ndarray) -> np.ndarray:
    w = 1.0 + (x - 1.0) * 0.25
    g, d, s = np.zeros_like(x), w - 1.0, np.sin(math.pi * w[:-1] + 1.0)
    g[:-1] = 2.0 * d[:-1] * (1.0 + 10.0 * s * s) + d[:-1] ** 2 * 20.0 * math.pi * s * np.cos(math.pi * w[:-1] + 1.0)
    turn = 2.0 * math.pi * w[-1]
    g[-1] = 2.0 * d[-1] * (1.0 + math.sin(turn) ** 2) + d[-1] ** 2 * 4.0 * math.pi * math.sin(turn) * math.cos(turn)
    g[0] += 2.0 * math.pi * math.sin(math.pi * w[0]) * math.cos(math.pi * w[0])
    return 0.25 * g


_function("levy", _levy, _levy_gradient, (1.0,) * 3, domain=(-10.0, 10.0), start=(-4.0, 5.0, 3.0), scalable=True)
