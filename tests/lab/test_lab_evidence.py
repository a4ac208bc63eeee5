"""Profiles, paired tests, verdicts and the budget curve: against tables worked out by hand, enumeration, and SciPy."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats

from hammer.lab import stats

INF = math.inf


def test_profile_of_a_table_worked_out_by_hand() -> None:
    # Three workloads, one seed, three optimizers; the third workload is reached by none.
    steps = np.array([[[10.0, 20.0, 40.0]], [[30.0, 15.0, INF]], [[INF, INF, INF]]])
    ratio = stats.ratios(steps)
    assert ratio.tolist() == [[1.0, 2.0, 4.0], [2.0, 1.0, INF], [INF, INF, INF]]
    taus = np.array([1.0, 1.99, 2.0, 4.0])
    assert stats.profile(ratio, taus).tolist() == pytest.approx(
        np.array([[1, 1, 2, 2], [1, 1, 2, 2], [0, 0, 0, 1]]) / 3
    )
    # Areas: (3 + 2 + 0)/3, (2 + 3 + 0)/3 and 0, of a length of 3.
    assert stats.profile_score(ratio).tolist() == pytest.approx([5 / 9, 5 / 9, 0.0])


def test_a_profile_counts_the_median_run_of_a_workload() -> None:
    steps = np.array([[[10.0, 30.0], [20.0, 10.0], [INF, 20.0]]])
    assert stats.ratios(steps).tolist() == [[1.0, 1.0]]
    assert stats.ratios(steps[None] * 2.0).shape == (1, 1, 2)
    assert stats.ratios(np.array([[[0.0, 2.0]]])).tolist() == [[1.0, 2.0]]  # met at the start: one step


def test_the_score_is_the_area_under_the_profile() -> None:
    rng = np.random.default_rng(0)
    ratio = stats.ratios(rng.integers(10, 100, size=(7, 3, 4)).astype(float))
    taus = np.linspace(1.0, stats.TAU_MAX, 300_001)
    area = np.trapezoid(stats.profile(ratio, taus), taus) / (stats.TAU_MAX - 1.0)
    assert stats.profile_score(ratio) == pytest.approx(area, abs=1e-4)


def test_probability_of_improvement_by_hand() -> None:
    one = np.array([[[1.0, 2.0], [3.0, 4.0]]])  # 1<2, 1<4, 3>2, 3<4
    assert stats.improvement(one, 0, 1) == 0.75 and stats.improvement(one, 1, 0) == 0.25
    missed = np.array([[[INF, INF], [5.0, INF]]])  # equal, equal, faster, faster
    assert stats.improvement(missed, 0, 1) == 0.75
    assert stats.improvement(np.concatenate([one, missed[:, ::-1, ::-1]]), 0, 1) == 0.5
    rng = np.random.default_rng(1)
    steps = rng.integers(0, 12, size=(5, 9, 2)).astype(float)
    u = [scipy.stats.mannwhitneyu(w[:, 1], w[:, 0]).statistic / 81 for w in steps]
    assert stats.improvement(steps, 0, 1) == pytest.approx(np.mean(u))
    assert stats.improvement(np.stack([steps, steps[:, ::-1]]), 0, 1).shape == (2,)


def enumerated(differences: np.ndarray) -> float:
    kept = differences[differences != 0]
    ranks = scipy.stats.rankdata(np.abs(kept))
    sums = np.array([ranks @ signs for signs in itertools.product((0, 1), repeat=len(kept))])
    seen = ranks @ (kept > 0)
    return float(min(1.0, 2 * min(np.mean(sums <= seen), np.mean(sums >= seen))))


def test_signed_rank_against_scipy_and_enumeration() -> None:
    rng = np.random.default_rng(2)
    for n in (1, 2, 5, 10, 25):
        values = rng.normal(0.4, 1.0, size=n)
        assert stats.signed_rank(values) == pytest.approx(
            scipy.stats.wilcoxon(values, method="exact").pvalue, rel=1e-12
        )
    for _ in range(20):
        tied = rng.integers(-3, 6, size=9).astype(float)
        assert stats.signed_rank(tied) == pytest.approx(enumerated(tied), rel=1e-12)
    assert stats.signed_rank(np.zeros(4)) == 1.0
    assert stats.signed_rank(np.arange(1.0, 11.0)) == 2 / 1024  # all ten of one sign
    assert stats.signed_rank(np.array([1.0, 2.0, -3.0, 4.0])) == 0.625  # sum of negatives 3: 5 of 16 signs, doubled


def test_holm_by_hand() -> None:
    # The smallest times 3, the next times 2 (0.06), and the last no less than that.
    assert stats.holm(np.array([0.01, 0.04, 0.03])).tolist() == pytest.approx([0.03, 0.06, 0.06])
    assert stats.holm(np.array([0.5, 0.6])).tolist() == [1.0, 1.0]
    assert stats.holm(np.array([0.2])).tolist() == [0.2]


def test_holm_against_the_definition() -> None:
    """Step down: the smallest is held against alpha/n, the next against alpha/(n-1), until one is not rejected."""
    rng = np.random.default_rng(12)
    for n in (1, 3, 8):
        p = rng.uniform(size=n) ** 4
        for alpha in (0.01, 0.05, 0.3):
            rejected = np.zeros(n, bool)
            for step, i in enumerate(np.argsort(p)):
                if p[i] > alpha / (n - step):
                    break
                rejected[i] = True
            assert ((stats.holm(p) <= alpha) == rejected).all()


def test_the_bootstrap_draws_from_all_resamples_alike() -> None:
    # Three seeds: 27 resamples, and the mean of each is known. The percentile interval is that of these 27.
    values = np.array([0.0, 1.0, 5.0])
    means = np.array([np.mean(drawn) for drawn in itertools.product(values, repeat=3)])
    draws = stats.bootstrap(values[None, :, None], stats.overall_mean, 40_000, np.random.default_rng(10))[:, 0]
    for mean, count in zip(*np.unique(means.round(9), return_counts=True), strict=True):
        assert np.mean(np.isclose(draws, mean)) == pytest.approx(count / 27, abs=0.01)
    low, high = stats.interval(draws, 0.9)
    assert (low, high) == pytest.approx(
        (1 / 3, 11 / 3)
    )  # 1/27 of the means are 0, 4/27 at most 1/3; likewise 5 and 11/3


def test_the_bootstrap_against_scipy() -> None:
    rng = np.random.default_rng(11)
    values = rng.gamma(2.0, size=20)
    draws = stats.bootstrap(values[None, :, None], stats.overall_iqm, 20_000, rng)
    found = [float(end[0]) for end in stats.interval(draws, 0.9)]
    oracle = scipy.stats.bootstrap(
        (values,), stats.iqm, confidence_level=0.9, n_resamples=20_000, method="percentile", rng=rng
    )
    assert found == pytest.approx([*oracle.confidence_interval], abs=0.04)
    assert float(draws.std()) == pytest.approx(oracle.standard_error, rel=0.03)


@pytest.mark.peers
def test_the_expanded_interval_is_the_t_interval_of_statsmodels() -> None:
    weights = pytest.importorskip("statsmodels.stats.weightstats")
    rng = np.random.default_rng(13)
    for n in (5, 10, 30):
        values = rng.normal(size=n)
        low, high = weights.DescrStatsW(values).tconfint_mean(alpha=0.05)
        # The bootstrap's own spread is the deviation over n, divided by the root of n.
        reach = scipy.stats.norm.ppf((1.0 + stats.expanded(0.95, n)) / 2.0) * values.std() / math.sqrt(n)
        assert (values.mean() - reach, values.mean() + reach) == pytest.approx((low, high), rel=1e-9)


@pytest.mark.peers
def test_the_number_of_seeds_against_statsmodels() -> None:
    power = pytest.importorskip("statsmodels.stats.power")
    for effect in (0.3, 0.8):
        oracle = power.normal_sample_size_one_tail(effect, stats.POWER, 0.05 / 2)
        # 4 seeds with the standard error of a deviation of 1; nothing within delta, so only zero can be excluded
        assert stats.needed(effect, 1.0 / math.sqrt(4), 4, 0.95, 0.90, 0.0) == math.ceil(oracle)


@pytest.mark.peers
def test_practical_equality_against_two_one_sided_tests_of_statsmodels() -> None:
    weights = pytest.importorskip("statsmodels.stats.weightstats")
    rng = np.random.default_rng(14)
    words = []
    for shift in np.linspace(-0.3, 0.3, 25):
        d = rng.normal(shift, 0.4, size=40)
        draws = stats.bootstrap(d[None, :, None], stats.overall_mean, 4000, rng)[:, 0]
        levels = (stats.expanded(c, 40) for c in (0.95, 0.90))
        verdict = stats.judge(float(d.mean()), draws, 40, *levels, delta=0.2)
        p, *_ = weights.DescrStatsW(d).ttost_mean(-0.2, 0.2)
        if abs(p - 0.05) > 0.02:  # the bootstrap is not the normal distribution: near the line both may be right
            words.append(verdict.word)
            assert (verdict.word == "equal") == (p < 0.05)
    assert {"equal", "better", "worse"} <= set(words)


@pytest.mark.peers
def test_holm_against_statsmodels() -> None:
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    rng = np.random.default_rng(3)
    for n in (1, 2, 7, 30):
        p = rng.uniform(size=n) ** 3
        p[: n // 3] = p[0]
        assert stats.holm(p) == pytest.approx(multitest.multipletests(p, method="holm")[1], rel=1e-12)


def test_friedman_against_scipy_enumeration_and_by_hand() -> None:
    rng = np.random.default_rng(4)
    for n, k in ((6, 3), (13, 4), (40, 5)):
        values = rng.integers(0, 8, size=(n, k)).astype(float)
        statistic, p = stats.friedman(values, 20_000, rng)
        oracle = scipy.stats.friedmanchisquare(*values.T)
        assert statistic == pytest.approx(oracle.statistic, rel=1e-12)
        if n == 40:  # where the chi-square distribution holds
            assert p == pytest.approx(oracle.pvalue, abs=0.02)
    # Rank sums 5, 8, 11: 12/(4*3*4) * (25 + 64 + 121) - 3*4*4 = 4.5.
    table = np.array([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [1.0, INF, 2.0], [2.0, 1.0, 3.0]])
    statistic, p = stats.friedman(table, 40_000, rng)
    orders = list(itertools.permutations((1, 2, 3)))
    sums = np.array([np.sum(rows, axis=0) for rows in itertools.product(orders, repeat=4)])
    assert statistic == pytest.approx(4.5)
    assert p == pytest.approx(np.mean(3 / 12 * (sums**2).sum(axis=1) - 48 >= 4.5 - 1e-9), abs=0.01)
    assert stats.friedman(np.ones((5, 3)), 100, rng) == (0.0, 1.0)
    # Two optimizers in the same order on two workloads: half of the four tables agree as well.
    assert stats.friedman(np.array([[1.0, INF]] * 2), 20_000, rng) == (2.0, pytest.approx(0.5, abs=0.02))


def test_best_of_k_is_the_mean_over_all_subsets() -> None:
    values = np.random.default_rng(5).uniform(size=7)
    values[2] = values[5]
    found = stats.best_of(values)
    for k in range(1, 8):
        assert found[k - 1] == pytest.approx(np.mean([max(s) for s in itertools.combinations(values, k)]), rel=1e-12)
    assert stats.best_of(np.array([3.0])).tolist() == [3.0]
    assert (np.diff(stats.best_of(np.random.default_rng(6).uniform(size=300))) >= -1e-12).all()


def test_verdicts() -> None:
    draws = np.random.default_rng(7).normal(size=4000)

    def judge(difference: float, error: float) -> stats.Verdict:
        return stats.judge(difference, difference + error * draws, 10, 0.95, 0.90, delta=0.05)

    assert judge(0.3, 0.1) == stats.Verdict("better") and judge(-0.3, 0.1) == stats.Verdict("worse")
    assert judge(0.0, 0.01) == stats.Verdict("equal")
    assert judge(0.02, 0.005) == stats.Verdict("equal")  # not zero, but too small to matter
    undecided = judge(0.1, 0.1)
    # (1.96 + 0.842) standard errors: 10 * (2.802 * 0.1 / 0.1)^2
    assert undecided.word == "undecided" and undecided.needed == pytest.approx(79, abs=4)
    assert stats.needed(0.1, 0.1, 10, 0.95, 0.90, 0.05) == math.ceil(10 * 2.8016**2)
    # For equality (1.645 + 1.282) * error / delta: a difference of zero can leave on both sides.
    assert stats.needed(0.0, 0.05, 10, 0.95, 0.90, 0.05) == math.ceil(10 * 2.9264**2)
    assert stats.needed(0.0, 0.0, 10, 0.95, 0.90, 0.05) is None
    assert stats.needed(0.05, 0.001, 10, 0.95, 0.90, 0.05) == 11  # at least one more than there are


def test_the_stated_number_of_seeds_gives_the_stated_power() -> None:
    rng = np.random.default_rng(8)
    n, effect = 10, 0.4  # of a standard deviation
    needed = stats.needed(effect, 1.0 / math.sqrt(n), n, 0.95, 0.90, 0.0)
    assert needed == math.ceil(2.8016**2 / effect**2)
    p = scipy.stats.ttest_1samp(rng.normal(effect, 1.0, size=(4000, needed)), 0.0, axis=1).pvalue
    assert np.mean(p < 0.05) == pytest.approx(stats.POWER, abs=0.04)


def test_expanded_intervals_cover_what_plain_ones_do_not() -> None:
    rng = np.random.default_rng(9)
    covered = {"plain": 0, "expanded": 0}
    trials = 600
    for _ in range(trials):
        values = rng.normal(size=(1, 8, 1))
        draws = stats.bootstrap(values, stats.overall_mean, 1000, rng)
        for name, confidence in (("plain", 0.95), ("expanded", stats.expanded(0.95, 8))):
            low, high = stats.interval(draws, confidence)
            covered[name] += bool(low[0] <= 0.0 <= high[0])
    assert covered["plain"] / trials < 0.92 < 0.93 < covered["expanded"] / trials < 0.975
    assert stats.expanded(0.95, 8) > stats.expanded(0.95, 8, 6) > stats.expanded(0.95, 100, 6) > 0.95
    assert stats.expanded(0.95, 1) == 0.95
