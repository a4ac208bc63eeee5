"""Performance profiles: how often an optimizer is within a factor of the best one.

Dolan & Moré, "Benchmarking optimization software with performance profiles", Mathematical Programming 91 (2002), 201.
The score is AlgoPerf's benchmark score: the area under the profile from 1 to ``TAU_MAX``, as a share of the whole (Dahl et
al., "Benchmarking neural network training algorithms", 2023; as there, a workload counts by the median of
its runs).
"""

import numpy as np

TAU_MAX = 4.0
"""The largest factor that counts for the score, AlgoPerf's."""


def ratios(steps: np.ndarray) -> np.ndarray:
    """How many times the steps of the workload's best optimizer each one needs, medians over seeds.

    Args:
        steps: steps to target, (..., workloads, seeds, optimizers), infinite where the target was missed.

    Returns:
        (..., workloads, optimizers), at least 1; infinite where the median run misses the target.
    """
    medians = np.maximum(np.median(steps, axis=-2), 1.0)  # a target that the start meets counts as one step
    best = medians.min(axis=-1, keepdims=True)
    return np.where(np.isfinite(medians), medians / np.where(np.isfinite(best), best, 1.0), np.inf)


def profile(ratio: np.ndarray, taus: np.ndarray) -> np.ndarray:
    """The share of workloads with a ratio of at most ``tau``: (..., workloads, optimizers) -> (..., optimizers, taus)."""
    return (ratio[..., None] <= taus).mean(axis=-3)


def profile_score(ratio: np.ndarray, tau_max: float = TAU_MAX) -> np.ndarray:
    """The area under the profile from 1 to ``tau_max``, divided by ``tau_max - 1``; exact, without a grid.

    A workload with the ratio r adds the length on which it counts, ``max(0, tau_max - r)``.

    Args:
        ratio: (..., workloads, optimizers), as ``ratios`` gives it.

    Returns:
        (..., optimizers), from 0 to 1.
    """
    return np.maximum(tau_max - ratio, 0.0).mean(axis=-2) / (tau_max - 1.0)
