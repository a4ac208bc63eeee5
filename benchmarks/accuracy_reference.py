"""What ``accuracy`` measures with: trustworthy values by mpmath, and errors in units in the last place.

A reference is evaluated at 60 decimal digits and again at doubled precision until two evaluations agree to 25 digits, so
cancellation inside a formula cannot spoil it: it only costs another doubling. A zero must stay one at 1400 digits.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import mpmath
import numpy as np
from mpmath import mp

DIGITS, EVERYTHING, LARGEST = 60, 1400, 8000  # no square of a float64 is lost beside 1 at 1400 digits
AGREE = mpmath.mpf(10) ** -25


class Undecided(Exception):
    """No two precisions agreed on a value: the point lies on a singularity of the reference, or too close to one."""


def _agree(a: Any, b: Any) -> bool:
    if not (mp.isfinite(a) and mp.isfinite(b)):
        return False
    return abs(a - b) <= AGREE * abs(b)


def _exact(value: Any) -> Any:
    """A NumPy number as an mpf; Python's integers and anything else as they are."""
    return mpmath.mpf(float(value)) if isinstance(value, (float, np.floating)) else value


def certain(f: Callable, *inputs: Any, digits: int = DIGITS) -> list:
    """The numbers that ``f(*inputs)`` returns (one, or a sequence), each right to 25 digits.

    Args:
        f: a function by mpmath's; called several times, at rising precision.
        inputs: numbers, taken as exact.

    Raises:
        Undecided: there is no such value, or it would take more than 8000 digits.
    """
    before: list | None = None
    while digits <= LARGEST:
        with mp.workdps(digits):
            try:
                found = f(*map(_exact, inputs))
            except (ZeroDivisionError, ValueError, OverflowError, mp.NoConvergence) as error:
                raise Undecided(f"{inputs}: {error}") from None
            now = [mpmath.mpmathify(v) for v in (found if isinstance(found, (list, tuple)) else [found])]
            if any(isinstance(v, mpmath.mpc) for v in now):
                raise Undecided(f"{inputs}: the value is complex")
            if before is not None and all(map(_agree, before, now)):
                if all(now) or digits >= EVERYTHING:
                    return now
                digits = EVERYTHING // 2  # a zero may only be what cancellation left
        before, digits = now, 2 * digits
    raise Undecided(f"{inputs}: no two precisions agree")


def spacing(true: Any, dtype: Any) -> Any:
    """The distance of neighbouring floating-point numbers at ``true``: of the smallest ones at numbers below them."""
    info = np.finfo(dtype)
    exponent = mpmath.frexp(true)[1] - 1 if true else int(info.minexp)
    return mpmath.ldexp(1, min(max(exponent, int(info.minexp)), int(info.maxexp) - 1) - int(info.nmant))


def ulps(found: float, true: Any, dtype: Any, unit: Any = None) -> float:
    """|found - true| in units in the last place of ``true`` (or in ``unit``). Correct rounding is at most 0.5.

    Infinity stands for the first power of two that is too large to be finite: it is right where ``true`` rounds to it.
    NaN, and infinity where ``true`` is finite, are wrong by infinity.
    """
    found = float(found)
    unit = spacing(true, dtype) if unit is None else unit
    info = np.finfo(dtype)
    beyond = mpmath.ldexp(1, int(info.maxexp))
    largest = mpmath.mpf(float(info.max))
    overflows = abs(true) >= (beyond + largest) / 2
    if math.isnan(found):
        return math.inf
    if math.isinf(found):
        return 0.0 if overflows and (found > 0) == (true > 0) else math.inf
    if overflows:
        true = beyond if true > 0 else -beyond
    with mp.workdps(DIGITS):
        return float(abs(mpmath.mpf(found) - true) / unit)


def worst(found: Sequence[float], true: Sequence[Any], dtype: Any, normwise: bool = False) -> tuple[float, int]:
    """The largest error in ulps of numbers whose true values are known (None: left out), and its place.

    ``normwise`` counts in ulps of the largest true value instead of each one's own: what backward-stable algorithms of linear
    algebra promise.
    """
    known = [t for t in true if t is not None]
    unit = spacing(max(map(abs, known), default=0), dtype) if normwise else None
    error, place = 0.0, 0
    for i, (f, t) in enumerate(zip(found, true, strict=True)):
        if t is not None and (e := ulps(f, t, dtype, unit)) > error:
            error, place = e, i
    return error, place


def differences(f: Callable, flat: list, cotangent: list, digits: int = 120) -> list:
    """The gradient of Σ cotangent · f(flat) by central differences of width 10⁻⁴⁰ at 120 digits: right to 60 or more.

    The width is relative to elements larger than 1 or small and not 0. For functions that are smooth there.
    """
    out = []
    with mp.workdps(digits):
        total = lambda xs: mpmath.fsum(c * v for c, v in zip(cotangent, f(xs), strict=True))
        for i, x in enumerate(flat):
            h = mpmath.mpf(10) ** -40 * (abs(x) if x else 1)
            there = lambda sign, i=i, x=x, h=h: total([*flat[:i], x + sign * h, *flat[i + 1 :]])
            out.append((there(1) - there(-1)) / (2 * h))
    return out
