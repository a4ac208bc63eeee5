"""Over seeds: robust centres, bootstrap intervals, ranks.

Runs are resampled seed by seed within each workload (a *stratified* bootstrap), and a seed is drawn for all optimizers
at once, because they are paired. Agarwal et al., "Deep reinforcement learning at the edge of the statistical precipice",
NeurIPS 2021, is the source of the interquartile mean with stratified intervals. Workloads are not resampled: the
intervals say how sure the result is on these workloads, not on others.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Estimate:
    """A number and its bootstrap interval."""

    value: float
    low: float
    high: float

    @property
    def above_zero(self) -> bool:
        return self.low > 0.0


Statistic = Callable[[np.ndarray], np.ndarray]


def quantile(values: np.ndarray, q: float, axis: int = 0) -> np.ndarray:
    """The smallest value that at least a share ``q`` of ``values`` does not exceed; sound for infinite values too."""
    return np.quantile(values, q, axis=axis, method="inverted_cdf")


def median(values: np.ndarray) -> np.ndarray:
    """Medians over the first axis; infinite if more than half of the values, or one of the two in the middle, is."""
    return np.median(values, axis=0)


def iqm(values: np.ndarray, axis: int = 0) -> np.ndarray:
    """Interquartile mean: the mean of what is left after the lowest and the highest quarter (rounded down) are cut."""
    from scipy.stats import trim_mean

    return trim_mean(values, 0.25, axis=axis)


def units(steps: np.ndarray) -> np.ndarray:
    """The unit of speed of each workload: the median steps of its fastest optimizer.

    Where every optimizer's median is infinite it is the fewest steps of any run; infinite if all of them are.

    Args:
        steps: steps to target, (workloads, seeds, optimizers), infinite where the target was missed.
    """
    medians = np.median(steps, axis=1).min(axis=1)
    return np.where(np.isfinite(medians), medians, steps.min(axis=(1, 2)))


def speeds(steps: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """Steps to target, (workloads, ...), as speeds: 1 is the unit's speed, 0 a missed target."""
    unit = unit.reshape(-1, *[1] * (steps.ndim - 1))
    hit = np.isfinite(steps)  # and then the unit is finite too; a target that the start meets counts as one step
    return np.where(hit, np.maximum(np.where(hit, unit, 1.0), 1.0) / np.maximum(steps, 1.0), 0.0)


def ranks(steps: np.ndarray) -> np.ndarray:
    """The rank of each optimizer within its workload and seed, 1 for the fewest steps; equals share their mean rank."""
    from scipy.stats import rankdata

    return rankdata(steps, axis=-1)


def overall_iqm(values: np.ndarray) -> np.ndarray:
    """(..., workloads, seeds, optimizers) -> (..., optimizers): interquartile mean over all runs of an optimizer."""
    return iqm(values.reshape(*values.shape[:-3], -1, values.shape[-1]), axis=-2)


def overall_mean(values: np.ndarray) -> np.ndarray:
    """(..., workloads, seeds, optimizers) -> (..., optimizers): mean over all runs of an optimizer."""
    return values.mean(axis=(-3, -2))


def bootstrap(values: np.ndarray, statistic: Statistic, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """The statistic of ``resamples`` stratified resamples of ``values``: (resamples, optimizers).

    Args:
        values: (workloads, seeds, optimizers).
        statistic: takes (..., workloads, seeds, optimizers) to (..., optimizers).
        resamples: how many.
        rng: the stream that draws them.
    """
    workloads, seeds, _ = values.shape
    drawn = rng.integers(seeds, size=(resamples, workloads, seeds))
    return statistic(values[np.arange(workloads)[:, None], drawn])


def interval(resampled: np.ndarray, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    """The percentile interval of resampled statistics (resamples, ...)."""
    tail = (1.0 - confidence) / 2.0
    return quantile(resampled, tail), quantile(resampled, 1.0 - tail)


def expanded(confidence: float, seeds: int, workloads: int = 1) -> float:
    """The confidence to ask a percentile interval for, so that it covers ``confidence`` with few seeds too.

    A resample of n seeds is less spread than the mean of n seeds by the factor sqrt((n-1)/n), and its deviation is itself
    uncertain: with n = 10 a plain 95 % interval covers about 90 %. The tail is made the one that a t interval with
    ``workloads * (seeds - 1)`` degrees of freedom would have (Hesterberg, "What teachers should know about the bootstrap",
    The American Statistician 69 (2015), 371: the expanded percentile interval).
    """
    from scipy.stats import norm, t

    if seeds < 2:
        return confidence
    reach = t.ppf((1.0 + confidence) / 2.0, workloads * (seeds - 1)) * np.sqrt(seeds / (seeds - 1))
    return float(1.0 - 2.0 * norm.sf(reach))


def mean_interval(values: np.ndarray, confidence: float = 0.95) -> tuple[float, float, float]:
    """The mean of numbers (n,), and its interval by Student's t: for differences on the same seeds, where there are few of them."""
    from scipy.stats import t

    mean, n = float(values.mean()), len(values)
    reach = t.ppf((1.0 + confidence) / 2.0, n - 1) * values.std(ddof=1) / np.sqrt(n)
    return mean, float(mean - reach), float(mean + reach)


def median_interval(
    values: np.ndarray, confidence: float, resamples: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Bootstrap percentile intervals of medians over the first axis of ``values`` (n, ...); their ends may be infinite.

    A resample draws whole rows. Returns the lower and the upper ends, each (...).
    """
    drawn = values[rng.integers(len(values), size=(resamples, len(values)))]
    return interval(np.median(drawn, axis=1), confidence)
