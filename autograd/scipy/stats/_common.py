"""What the distributions share."""

import math
from collections.abc import Callable
from typing import Any

from ... import ops
from ...numpy._face import array_of, face

LOG_2_PI = math.log(2.0 * math.pi)


def of(distribution: Any, name: str, rule: Callable) -> Callable:
    """SciPy's method for plain arrays, and the rule for tensors: its arguments come as tensors, arrays or numbers."""

    def call(*args: Any, **kwargs: Any) -> Any:
        return rule(*map(array_of, args), **{k: array_of(v) for k, v in kwargs.items()})

    return face(getattr(distribution, name), call, name, protocol=False)


def log(x: Any) -> Any:
    """The logarithm; of a Python number it is one too, so that float32 stays float32."""
    return math.log(x) if isinstance(x, int | float) and x > 0 else ops.log(x)


def gammaln(x: Any) -> Any:
    return math.lgamma(x) if isinstance(x, int | float) and x > 0 else ops.gammaln(x)


def betaln(a: Any, b: Any) -> Any:
    numbers = all(isinstance(v, int | float) and v > 0 for v in (a, b))
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b) if numbers else ops.betaln(a, b)


def within(inside: Any, formula: Callable[[Any], Any], x: Any, safe: float, outside: float) -> Any:
    """formula(x) where ``inside`` holds, elsewhere a constant; ``safe`` stands for x there, so that no NaN arises."""
    return ops.where(inside, formula(ops.where(inside, x, safe)), outside)


def density(logarithm: Callable) -> Callable:
    """The density whose logarithm is given."""
    return lambda *args, **kwargs: ops.exp(logarithm(*args, **kwargs))
