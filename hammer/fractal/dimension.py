"""Estimates of fractal dimensions and scaling exponents, each the slope of a line in logarithms, with an interval.

An interval says what its ``Estimate`` says it does. Of a picture (``box_counting``) there is one, so it is the interval of the fitted
slope. Of a signal (``higuchi``, ``dfa``) it comes from estimates on segments, of points (``correlation_dimension``) from leaving out groups of
them: these are intervals over other samples of the same process. None of them knows of the estimator's own bias at finite scales.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import spatial, special

from autograd.gradients.scaling import number, whole


@dataclass(frozen=True)
class Estimate:
    """An exponent.

    Attributes:
        value: the estimate.
        low, high: its interval.
        scales, measures: the points of the line whose slope (or minus it) is the value, not in logarithms.
    """

    value: float
    low: float
    high: float
    scales: np.ndarray
    measures: np.ndarray

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def _slope(scales: Any, measures: Any) -> tuple[float, float]:
    """The slope of log measures on log scales, and its standard error from the residuals."""
    x, y = np.log(np.asarray(scales, float)), np.log(np.asarray(measures, float))
    x = x - x.mean()
    slope = float(x @ y / (x @ x))
    rest = y - y.mean() - slope * x
    return slope, math.sqrt(float(rest @ rest) / max(len(x) - 2, 1) / float(x @ x))


def _around(value: float, error: float, freedom: int, confidence: float, scales: Any, measures: Any) -> Estimate:
    reach = float(special.stdtrit(max(freedom, 1), 0.5 + confidence / 2)) * error
    return Estimate(value, value - reach, value + reach, np.asarray(scales), np.asarray(measures))


def box_counting(mask: Any, base: int = 2, sizes: Sequence[int] | None = None, confidence: float = 0.95) -> Estimate:
    """The box-counting dimension of the true elements of an array.

    Args:
        mask: an array of booleans of one axis or more.
        base: boxes have sides 1, base, base², …, as long as four fit along the shortest axis (two at least are used).
        sizes: sides of boxes in elements, instead.
        confidence: of the interval of the fitted slope.

    Raises:
        ValueError: nothing is true, or fewer than two sizes.
    """
    array = np.asarray(mask, bool)
    if not array.ndim or not array.any():
        raise ValueError(
            f"box_counting: no element of an array of shape {array.shape} is true, so there is nothing to cover"
        )
    if sizes is None:
        step = whole("box_counting: base", base, 2)
        most = max(step, min(array.shape) // 4)
        sizes = [step**j for j in range(64) if step**j <= most]
    sides = [whole(f"box_counting: sizes[{i}]", s) for i, s in enumerate(sizes)]
    if len(set(sides)) < 2:
        raise ValueError(f"box_counting: a slope needs two sizes of boxes or more, not {list(sizes)}")
    counts = [_boxes(array, side) for side in sides]
    slope, error = _slope(sides, counts)
    return _around(-slope, error, len(sides) - 2, _confidence(confidence), sides, counts)


def _boxes(array: np.ndarray, side: int) -> int:
    array = np.pad(array, [(0, -n % side) for n in array.shape])
    shape = [m for n in array.shape for m in (n // side, side)]
    return int(np.count_nonzero(array.reshape(shape).any(axis=tuple(range(1, 2 * array.ndim, 2)))))


def higuchi(x: Any, longest: int | None = None, segments: int = 8, confidence: float = 0.95) -> Estimate:
    """Higuchi's dimension of the graph of a signal (Higuchi 1988): 2 − H for fractional Brownian motion.

    L(k) is the length of the signal seen at every k-th sample, L(k) ~ k^−D, for k = 1, 2, … up to ``longest``.

    Args:
        x: real numbers of shape (n,).
        longest: the largest k; n / (8 · segments), but at least 4, if None.
        segments: how many parts the interval is taken from.
        confidence: of the interval.

    Raises:
        ValueError: a signal too short for its segments, or a constant one.
    """
    signal = _signal("higuchi", x)
    count = whole("higuchi: segments", segments, 2)
    k_max = max(4, len(signal) // (8 * count)) if longest is None else whole("higuchi: longest", longest, 2)
    ks = np.unique(np.geomspace(1, k_max, 24).astype(int))
    return _by_segments(
        "higuchi", signal, count, 2 * k_max + 2, confidence, lambda part: (ks, _lengths(part, ks)), -1.0
    )


def _lengths(x: np.ndarray, ks: np.ndarray) -> np.ndarray:
    n = len(x)
    found = []
    for k in ks:
        lengths = [np.abs(np.diff(x[m::k])).sum() * (n - 1) / (((n - 1 - m) // k) * k) / k for m in range(k)]
        found.append(np.mean(lengths))
    return np.array(found)


def dfa(
    x: Any, order: int = 1, shortest: int = 8, longest: int | None = None, segments: int = 8, confidence: float = 0.95
) -> Estimate:
    """Detrended fluctuation analysis (Peng et al. 1994): the exponent of F(s) ~ s^α; for the increments of fBm α = H.

    F(s) is the root mean square of what is left of the summed signal in windows of s samples when a polynomial is taken away.

    Args:
        x: real numbers of shape (n,), such as noise; 0.5 is white, 1 is 1/f, 1.5 Brownian.
        order: of the polynomial.
        shortest, longest: of the windows; ``longest`` is n / (4 · segments), but at least 4 · shortest, if None.
        segments, confidence: as for ``higuchi``.
    """
    signal = _signal("dfa", x)
    degree, count = whole("dfa: order", order, 0), whole("dfa: segments", segments, 2)
    low = whole("dfa: shortest", shortest, degree + 2)
    high = max(4 * low, len(signal) // (4 * count)) if longest is None else whole("dfa: longest", longest, low + 1)
    sizes = np.unique(np.geomspace(low, high, 16).astype(int))
    return _by_segments(
        "dfa", signal, count, high, confidence, lambda part: (sizes, _fluctuations(part, sizes, degree)), 1.0
    )


def _fluctuations(x: np.ndarray, sizes: np.ndarray, degree: int) -> np.ndarray:
    profile = np.cumsum(x - x.mean())
    found = []
    for s in sizes:
        windows = profile[: len(profile) // s * s].reshape(-1, s)
        basis = np.linalg.qr(np.vander(np.linspace(-1, 1, s), degree + 1))[0]
        rest = windows - windows @ basis @ basis.T
        found.append(math.sqrt(np.mean(rest * rest)))
    return np.array(found)


def _by_segments(
    name: str, x: np.ndarray, count: int, least: int, confidence: float, measure: Any, sign: float
) -> Estimate:
    length = len(x) // count
    if length < least:
        raise ValueError(
            f"{name}: {count} segments of {len(x)} samples have {length} each; {least} are needed: use fewer or shorter scales"
        )
    scales, measures = measure(x)
    if not (measures > 0).all():
        raise ValueError(f"{name}: a signal that is constant (or a polynomial) has no exponent")
    value = sign * _slope(scales, measures)[0]
    parts = [measure(x[i * length : (i + 1) * length]) for i in range(count)]
    values = [sign * _slope(*part)[0] for part in parts if (part[1] > 0).all()]
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.inf
    return _around(value, error, len(values) - 1, _confidence(confidence), scales, measures)


def correlation_dimension(
    points: Any, radii: Sequence[float] | None = None, groups: int = 10, confidence: float = 0.95
) -> Estimate:
    """The correlation dimension of points (Grassberger & Procaccia 1983): C(r) ~ r^D is the share of pairs closer than r.

    Args:
        points: real numbers of shape (n, d).
        radii: two or more radii; if None, twelve between those within which 0.1 % and 3 % of pairs lie.
        groups: how many groups are left out in turn for the interval (jackknife).
        confidence: of the interval.

    Raises:
        ValueError: fewer than 50 points, equal ones only, or radii within which there is no pair.
    """
    cloud = np.asarray(points, float)
    if cloud.ndim != 2 or len(cloud) < 50 or not np.isfinite(cloud).all():
        raise ValueError(
            f"correlation_dimension: needs finite points of shape (n, d) with n of at least 50, not {cloud.shape}"
        )
    count = whole("correlation_dimension: groups", groups, 2)
    if radii is None:
        some = cloud[:: max(1, len(cloud) // 1500)]
        low, high = np.quantile(spatial.distance.pdist(some), [0.001, 0.03])
        if not low > 0:
            raise ValueError("correlation_dimension: more than 0.1 % of the pairs are equal points; give radii")
        radii = np.geomspace(low, high, 12).tolist()
    reaches = np.array([number(f"correlation_dimension: radii[{i}]", r, "(0, inf)") for i, r in enumerate(radii)])
    if len(set(reaches)) < 2:
        raise ValueError(f"correlation_dimension: a slope needs two radii or more, not {list(radii)}")
    # pairs within and between groups, counted once, make every leave-one-out count by subtraction
    trees = [spatial.cKDTree(cloud[i::count]) for i in range(count)]
    pairs = np.zeros((count, count, len(reaches)))
    for i, a in enumerate(trees):
        for j in range(i, count):
            pairs[i, j] = a.count_neighbors(trees[j], reaches) - (a.n if i == j else 0)
            pairs[j, i] = pairs[i, j]
    total = pairs.sum(axis=(0, 1))
    without = [total - 2 * pairs[i].sum(axis=0) + pairs[i, i] for i in range(count)]
    if not (np.array(without) > 0).all():
        raise ValueError(f"correlation_dimension: there are no pairs closer than {reaches.min():g}; use larger radii")
    n = len(cloud)
    value = _slope(reaches, total)[0]
    values = [_slope(reaches, w)[0] for w in without]
    error = math.sqrt((count - 1) / count * float(np.sum((np.array(values) - np.mean(values)) ** 2)))
    return _around(value, error, count - 1, _confidence(confidence), reaches, total / (n * (n - 1)))


def _signal(name: str, x: Any) -> np.ndarray:
    signal = np.asarray(x, float)
    if signal.ndim != 1 or not np.isfinite(signal).all():
        raise ValueError(f"{name}: a signal is an array of finite numbers of shape (n,), not of shape {signal.shape}")
    return signal


def _confidence(value: float) -> float:
    return number("confidence", value, "(0, 1)")
