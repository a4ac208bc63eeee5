"""Statistics against values worked out by hand, and the verdict's honesty."""

import math

import numpy as np
import pytest
import scipy.stats

from hammer.lab import analysis, stats
from hammer.lab.analysis import Control, Estimate, Row
from hammer.lab.config import Config
from hammer.lab.evidence import Pairing
from hammer.lab.stats import Verdict

INF = math.inf


def test_interquartile_mean() -> None:
    assert stats.iqm(np.arange(1.0, 9.0)) == 4.5  # 3, 4, 5, 6
    assert stats.iqm(np.array([0.0, 1.0, 2.0, 100.0])) == 1.5
    assert stats.iqm(np.array([1.0, 2.0, 6.0])) == 3.0  # three quarters of a value are not cut
    assert stats.iqm(np.array([[1.0, 8.0], [2.0, 8.0], [3.0, 8.0], [90.0, 8.0]])).tolist() == [2.5, 8.0]


def test_quantiles_and_medians_of_infinite_values() -> None:
    values = np.array([1.0, 2.0, 3.0, INF])
    assert (
        stats.quantile(values, 0.25) == 1.0
        and stats.quantile(values, 0.75) == 3.0
        and stats.quantile(values, 1.0) == INF
    )
    assert stats.median(values) == 2.5 and stats.median(np.array([1.0, 2.0, INF, INF])) == INF


def test_speeds() -> None:
    steps = np.array([[[10.0, 20.0], [20.0, INF], [30.0, 40.0]]])  # one workload, three seeds, two optimizers
    unit = stats.units(steps)
    assert unit.tolist() == [20.0]  # medians are 20 and 40
    assert stats.speeds(steps, unit)[0].tolist() == [[2.0, 1.0], [1.0, 0.0], [20 / 30, 0.5]]


def test_speeds_where_medians_are_infinite_or_nothing_hits() -> None:
    steps = np.array([[[INF, 50.0], [INF, INF], [80.0, INF]], [[INF, INF]] * 3])
    unit = stats.units(steps)
    assert unit.tolist() == [50.0, INF]
    speeds = stats.speeds(steps, unit)
    assert speeds[0].tolist() == [[0.0, 1.0], [0.0, 0.0], [50 / 80, 0.0]]
    assert (speeds[1] == 0.0).all()


def test_a_target_met_at_the_start_counts_as_one_step() -> None:
    steps = np.array([[[0.0, 2.0]] * 3])
    assert stats.speeds(steps, stats.units(steps))[0, 0].tolist() == [1.0, 0.5]


def test_ranks_share_places_and_misses_are_last() -> None:
    assert stats.ranks(np.array([[[10.0, 5.0, 10.0, INF], [INF, 3.0, INF, INF]]])).tolist() == [
        [[2.5, 1.0, 2.5, 4.0], [3.0, 1.0, 3.0, 3.0]]
    ]


def test_bootstrap_is_stratified_and_paired() -> None:
    rng = np.random.default_rng(0)
    values = np.zeros((2, 5, 2))
    values[0] = 1.0  # a workload of constant values stays constant, whatever is drawn in the other
    values[1, :, 0] = np.arange(5.0)
    values[1, :, 1] = np.arange(5.0) + 0.25
    means = stats.bootstrap(values, stats.overall_mean, 500, rng)
    assert means.shape == (500, 2)
    assert np.allclose(means[:, 1] - means[:, 0], 0.125)  # the same seeds are drawn for both optimizers
    assert 0.5 <= means[:, 0].min() < means[:, 0].max() <= 2.5
    assert means[:, 0].std() == pytest.approx(np.arange(5.0).std() / math.sqrt(5) / 2, rel=0.15)


def test_overall_statistics_pool_workloads_and_seeds() -> None:
    values = np.arange(8.0).reshape(2, 4, 1)
    assert stats.overall_iqm(values).tolist() == [3.5]
    assert stats.overall_mean(values).tolist() == [3.5]
    assert stats.overall_iqm(np.stack([values, values + 1])).tolist() == [[3.5], [4.5]]


def test_intervals() -> None:
    resampled = np.arange(1.0, 1001.0)
    assert stats.interval(resampled, 0.75) == (125.0, 875.0)
    low, high = stats.median_interval(np.array([1.0, 2.0, 3.0, 4.0, INF]), 0.95, 2000, np.random.default_rng(0))
    assert low in (1.0, 2.0) and high == INF
    assert stats.median_interval(np.array([INF] * 4), 0.95, 100, np.random.default_rng(0)) == (INF, INF)
    assert stats.median_interval(np.array([7.0] * 4), 0.95, 100, np.random.default_rng(0)) == (7.0, 7.0)
    columns = np.array([[1.0, 2.0, 3.0, 4.0, INF], [10.0, 20.0, 30.0, 40.0, INF]]).T  # resamples draw rows
    lows, highs = stats.median_interval(columns, 0.95, 2000, np.random.default_rng(0))
    assert lows.tolist() == [low, 10 * low] and highs.tolist() == [INF, INF]


def test_the_median_interval_covers_the_median() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(200):
        low, high = stats.median_interval(rng.normal(size=15), 0.95, 300, rng)
        covered += low <= 0.0 <= high
    assert 175 <= covered <= 200


def row(name: str, lead: Estimate | None, hits: int = 9) -> Row:
    pair = None
    if lead is not None:
        word = "better" if lead.low > 0 else "equal" if lead.high < 0.05 else "undecided"
        seeds = 31 if word == "undecided" else None
        pair = Pairing("adam", name, lead, Estimate(0.5, 0.4, 0.6), Verdict(word, seeds), [])
    return Row(name, Estimate(0.9, 0.8, 1.0), Estimate(1.0, 1.0, 1.0), hits, 10, 0, pair)


def verdict(seeds: int, *leads: Estimate, control: Control | None = None, hits: int = 9, done: int = 10) -> str:
    rows = [
        row("adam", None, hits),
        *(row(name, lead, hits) for name, lead in zip(("sgd", "momentum"), leads, strict=False)),
    ]
    controls = [control] if control else []
    return analysis._verdict(Config(("quadratic",), ("adam", "sgd"), seeds=seeds), rows, controls, done, 10)


def test_the_verdict_says_no_more_than_the_intervals() -> None:
    clear, close = Estimate(0.3, 0.1, 0.5), Estimate(0.02, -0.1, 0.2)
    assert verdict(10, clear).startswith("Adam reaches the targets fastest")
    assert "The nearest is SGD (difference 0.30, interval 0.10 to 0.50)." in verdict(10, clear)
    unclear = verdict(10, clear, close)
    assert (
        unclear.startswith("No clear winner: Adam is ahead")
        and "10 seeds do not tell it from SGD with momentum" in unclear
    )
    assert unclear.endswith("; about 31 seeds would be needed.")
    equal = verdict(10, clear, Estimate(0.0, -0.01, 0.02))
    assert equal.startswith("No clear winner: ") and "practically equal (±0.05) to SGD with momentum" in equal
    assert verdict(4, clear).startswith("Not enough seeds: 4 for each workload")
    assert verdict(10, clear, hits=0).startswith("No verdict: no optimizer reached a target")
    assert verdict(10).startswith("No verdict: only one optimizer")
    assert verdict(10, clear, done=7).startswith("Unfinished: 7 of 10 trials are done.")
    differs, same = Estimate(0.3, 0.1, 0.4), Estimate(0.0, -0.1, 0.1)
    for kind, good, bad in (("A/A", same, differs), ("handicap", differs, same)):
        assert "A control did not behave: SGD" in verdict(10, clear, control=Control(kind, "sgd", bad))
        assert "control" not in verdict(10, clear, control=Control(kind, "sgd", good))


def test_no_number_of_seeds_reaches_certainty() -> None:
    assert stats.verdicts.needed(-0.02, 0.35, 2, 1.0, 1.0, 0.05) is None
    assert stats.verdicts.needed(-0.02, 0.35, 2, 1.0, 0.9, 0.05) is not None


def test_the_interval_of_a_mean_is_students():
    values = np.random.default_rng(4).standard_normal(8) + 1.0
    expected = scipy.stats.ttest_1samp(values, 0.0).confidence_interval(0.9)
    np.testing.assert_allclose(stats.mean_interval(values, 0.9), (values.mean(), expected.low, expected.high))


def test_a_curve_is_at_its_target_between_two_evaluations():
    falling = np.array([3.0, 2.0, 1.0])
    assert stats.reached(falling, 1.5, 10) == 25.0
    assert stats.reached(falling, 2.0, 10) == 20.0
    assert stats.reached(falling, 5.0, 10) == 10.0, "from the first evaluation on"
    assert stats.reached(falling, 0.5, 10) == 40.0, "not at all"
    assert stats.reached(-np.array([0.5, 0.9, 1.0]), -0.7, 20) == 30.0, "upwards, by the other sign"
    assert stats.reached(np.array([np.inf, 2.0]), 2.5, 10) == 20.0
    assert stats.reached(np.array([np.nan, np.nan]), 2.5, 10) == 30.0
