"""The statistics of comparisons. Everything here takes arrays and gives numbers; what they mean is in docs/protocol.md.

``robust`` has centres, ranks and bootstrap intervals over seeds; ``profiles`` performance profiles and their score;
``paired`` two or more optimizers on the same seeds: probability of improvement, signed-rank and Friedman tests, Holm's
correction; ``verdicts`` what an interval allows one to say, and how many seeds would allow more; ``budget`` what a
smaller tuning budget would have found; ``curves`` when a run reached a target, between two evaluations.
"""

from .budget import best_of
from .curves import reached
from .paired import friedman, holm, improvement, signed_rank
from .profiles import TAU_MAX, profile, profile_score, ratios
from .robust import (
    Estimate,
    bootstrap,
    expanded,
    interval,
    iqm,
    mean_interval,
    median,
    median_interval,
    overall_iqm,
    overall_mean,
    quantile,
    ranks,
    speeds,
    units,
)
from .verdicts import POWER, Verdict, judge, needed

__all__ = [
    "POWER",
    "TAU_MAX",
    "Estimate",
    "Verdict",
    "best_of",
    "bootstrap",
    "expanded",
    "friedman",
    "holm",
    "improvement",
    "interval",
    "iqm",
    "judge",
    "mean_interval",
    "median",
    "median_interval",
    "needed",
    "overall_iqm",
    "overall_mean",
    "profile",
    "profile_score",
    "quantile",
    "ranks",
    "ratios",
    "reached",
    "signed_rank",
    "speeds",
    "units",
]
