"""The hard inputs of ``accuracy``: numbers of one dtype near all that goes wrong in floating point.

``ladder`` climbs from the smallest subnormal number to the largest finite one; ``crowd`` lies in ranges where functions
bend; ``near`` closes in on a singularity, a zero or a seam from both sides. All are reproducible, and all are exactly
numbers of the dtype.
"""

import math
from collections.abc import Callable, Iterable

import numpy as np


def ladder(dtype: np.dtype, rungs: int = 24) -> list[float]:
    """Positive numbers: subnormal, near underflow, powers of two times random numbers, near overflow."""
    info, rng = np.finfo(dtype), np.random.default_rng(20)
    low, high = math.log2(float(info.tiny)), math.log2(float(info.max))
    steps = [
        float(2.0 ** min(e + u, high - 1e-3))
        for e, u in zip(np.linspace(low, high - 1, rungs), rng.random(rungs), strict=True)
    ]
    small = float(info.smallest_subnormal)
    ends = [
        small,
        3 * small,
        0.3 * float(info.tiny),
        float(info.tiny),
        float(info.eps) / 3,
        float(info.eps) * 5,
        0.99 * float(info.max),
        float(info.max),
    ]
    return [*ends, *steps]


def crowd(count: int, *ranges: tuple[float, float], seed: int = 21) -> list[float]:
    """``count`` random numbers of each range, the first drawn uniformly, the second near its ends as well."""
    rng = np.random.default_rng(seed)
    return [float(x) for low, high in ranges for x in low + (high - low) * rng.random(count)]


def near(*points: float) -> Callable[[np.dtype], list[float]]:
    """Numbers that close in on each point from both sides, down to its neighbours."""

    def of(dtype: np.dtype) -> list[float]:
        found = []
        for p in points:
            p = dtype.type(p)
            found += [float(p), float(np.nextafter(p, dtype.type(np.inf))), float(np.nextafter(p, dtype.type(-np.inf)))]
            bits = np.finfo(dtype).nmant
            for k in (3, 6, 9, 12, 16, bits // 2, bits - 3):
                step = 1.37 * 2.0**-k * (abs(float(p)) or 1.0)
                found += [float(p) + step, float(p) - step]
        return found

    return of


def both(values: Iterable[float]) -> list[float]:
    """The numbers and their negatives."""
    values = list(values)
    return [*values, *(-v for v in values)]


def clean(values: Iterable[float], dtype: np.dtype, inside: Callable[[float], bool] = lambda x: True) -> list[float]:
    """The different numbers, rounded to the dtype, that are finite and inside a domain; in ascending order."""
    with np.errstate(over="ignore"):
        rounded = {float(dtype.type(v)) for v in values}
    return sorted(v for v in rounded if math.isfinite(v) and inside(v))


def reals(dtype: np.dtype, count: int) -> list[float]:
    """Of all sizes and both signs; crowds where the elementary functions bend and saturate."""
    return [
        0.0,
        *both([*ladder(dtype), *crowd(count, (0, 0.02), (0, 1), (0, 4), (0, 20), (0, 120), (0, 1000)), 0.5, 1.0, 2.0]),
    ]


def pairs(first: list[float], second: list[float], count: int, seed: int = 22) -> list[tuple[float, float]]:
    """``count`` pairs of them at random, and pairs of neighbours in size."""
    rng = np.random.default_rng(seed)
    found = [
        (first[i], second[j])
        for i, j in zip(rng.integers(0, len(first), count), rng.integers(0, len(second), count), strict=True)
    ]
    close = [
        (a, second[min(range(len(second)), key=lambda j, a=a: abs(second[j] - a))])
        for a in first[:: max(1, 2 * len(first) // count)]
    ]
    return [*found, *close]
