"""What an interval of a difference allows one to say, and how many seeds would allow more.

A difference whose interval lies within ±delta is *practically equal* to none, which is what two one-sided tests at level
alpha find when the interval has the confidence 1 - 2 alpha (Schuirmann, J. Pharmacokinetics and Biopharmaceutics 15 (1987),
657; Lakens, "Equivalence tests", 2017). Otherwise it is *better* or *worse* if its interval excludes zero. What is left is
*undecided*: the data allow both.
"""

import math
from dataclasses import dataclass

import numpy as np

from .robust import interval

POWER = 0.8
"""The chance with which the stated number of seeds leads to a verdict, if the difference is what it seems to be."""


@dataclass(frozen=True)
class Verdict:
    """``word`` is "better", "worse", "equal" or "undecided"; ``needed`` the seeds an undecided case needs, if that is known."""

    word: str
    needed: int | None = None


def judge(
    difference: float, resampled: np.ndarray, seeds: int, confidence: float, equal_confidence: float, delta: float
) -> Verdict:
    """The verdict on one difference.

    Args:
        difference: the estimate; positive is better.
        resampled: its bootstrap resamples, (resamples,).
        seeds: how many seeds each optimizer has.
        confidence: of the interval that has to exclude zero.
        equal_confidence: of the interval that has to lie within ±``delta``; that of two one-sided tests is lower.
        delta: the largest difference that does not matter in practice.
    """
    low, high = interval(resampled, equal_confidence)
    if -delta < low and high < delta:
        return Verdict("equal")
    low, high = interval(resampled, confidence)
    if low > 0.0 or high < 0.0:
        return Verdict("better" if low > 0.0 else "worse")
    return Verdict("undecided", needed(difference, float(resampled.std()), seeds, confidence, equal_confidence, delta))


def needed(
    difference: float, error: float, seeds: int, confidence: float, equal_confidence: float, delta: float
) -> int | None:
    """About how many seeds would lead to a verdict with the chance ``POWER``, if the difference is what it seems to be.

    The standard error of n seeds is ``error * sqrt(seeds / n)``. With z the normal quantile, zero is excluded with the chance
    POWER once ``|difference| >= (z_{(1 + confidence)/2} + z_POWER) * standard error``, and equality is found once
    ``delta - |difference| >= (z_{(1 + equal_confidence)/2} + z_b) * standard error``, where b is POWER, or (1 + POWER)/2 for
    a difference of about zero, which can leave on both sides (Julious, Statistics in Medicine 23 (2004), 1921). The smaller of
    the two numbers is given.

    Returns:
        A number above ``seeds``; None where there is no error to go by, the difference is at delta and zero at once, or a
        confidence is 1.
    """
    from scipy.stats import norm

    if not error > 0.0:
        return None
    size = abs(difference)
    found = []
    if size > 0.0:
        found.append((norm.ppf((1.0 + confidence) / 2.0) + norm.ppf(POWER)) * error / size)
    if size < delta:
        both = norm.ppf((1.0 + POWER) / 2.0) if size < 0.5 * error else norm.ppf(POWER)
        found.append((norm.ppf((1.0 + equal_confidence) / 2.0) + both) * error / (delta - size))
    found = [each for each in found if math.isfinite(each)]  # an expanded confidence can round to 1
    if not found:
        return None
    return max(seeds + 1, math.ceil(seeds * float(min(found)) ** 2))
