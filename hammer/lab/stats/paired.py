"""Optimizers on the same seeds: how often one is faster, and tests of whether that can be chance."""

import numpy as np


def improvement(steps: np.ndarray, a: int, b: int) -> np.ndarray:
    """The probability that a run of optimizer ``a`` is faster than a run of ``b``, averaged over workloads.

    The Mann–Whitney statistic of each workload divided by the number of pairs of runs; equals count one half (Agarwal et
    al., "Deep reinforcement learning at the edge of the statistical precipice", NeurIPS 2021).

    Args:
        steps: steps to target, (..., workloads, seeds, optimizers), infinite where the target was missed.

    Returns:
        (...,), from 0 to 1.
    """
    from scipy.stats import rankdata

    seeds = steps.shape[-2]
    ranks = rankdata(np.concatenate([steps[..., a], steps[..., b]], axis=-1), axis=-1)
    beaten = ranks[..., seeds:].sum(axis=-1) - seeds * (seeds + 1) / 2.0  # pairs in which a's run is the faster one
    return beaten.mean(axis=-1) / seeds**2


def signed_rank(differences: np.ndarray) -> float:
    """The two-sided p-value of Wilcoxon's signed-rank test, exact with ties too.

    Zeros are left out (Wilcoxon's own rule); equal magnitudes share their mean rank; the distribution of the statistic over
    all 2^n signs of these ranks is counted, not approximated. Wilcoxon, Biometrics Bulletin 1 (1945), 80.

    Args:
        differences: of the pairs, (n,), finite.
    """
    from scipy.stats import rankdata

    kept = differences[differences != 0.0]
    if len(kept) == 0:
        return 1.0
    doubled = np.rint(2.0 * rankdata(np.abs(kept))).astype(np.int64)  # mean ranks are whole or half
    total = int(doubled.sum())
    chance = np.zeros(total + 1)  # of each sum of the ranks with a positive sign
    chance[0] = 1.0
    for rank in doubled:
        shifted = np.zeros_like(chance)
        shifted[rank:] = chance[: total + 1 - rank]
        chance = 0.5 * (chance + shifted)
    positive = int(doubled[kept > 0].sum())
    tail = min(positive, total - positive)  # the distribution is symmetric
    return min(1.0, 2.0 * float(chance[: tail + 1].sum()))


def holm(p: np.ndarray) -> np.ndarray:
    """p-values (n,) corrected for all n of them: reject where the result is at most alpha. Holm, Scand. J. Stat. 6 (1979), 65."""
    order = np.argsort(p, kind="stable")
    corrected = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    result = np.empty(len(p))
    result[order] = np.minimum(corrected, 1.0)
    return result


def friedman(values: np.ndarray, resamples: int, rng: np.random.Generator) -> tuple[float, float]:
    """Whether any optimizer differs from the others across workloads: Friedman's chi-square, and a permutation p-value.

    Equals share their mean rank, and the statistic is corrected for them. With a handful of workloads its distribution is far
    from chi-square, and Iman and Davenport's F calls full agreement of two workloads certain; so the order of the optimizers
    is drawn anew within each workload, and the p-value is the share of draws with a statistic as large, the table itself
    counted among them. Friedman, JASA 32 (1937), 675; Demšar, JMLR 7 (2006), 1.

    Args:
        values: (workloads, optimizers), lower is better; infinite values rank last.
        resamples: how many times the orders are drawn.
        rng: the stream that draws them.

    Returns:
        The statistic and the p-value; (0, 1) where all optimizers are equal.
    """
    from scipy.stats import rankdata

    n, k = values.shape
    ranks = rankdata(values, axis=1) - (k + 1) / 2.0
    spread = float((ranks**2).sum())  # n k (k² - 1) / 12 less what ties take away
    if spread == 0.0:
        return 0.0, 1.0
    drawn = rng.permuted(np.broadcast_to(ranks, (resamples, n, k)), axis=2).sum(axis=1)
    sums = (ranks.sum(axis=0) ** 2).sum()
    reached = int(((drawn**2).sum(axis=1) >= sums * (1.0 - 1e-12)).sum())
    return float((k - 1) * sums / spread), (1 + reached) / (1 + resamples)
