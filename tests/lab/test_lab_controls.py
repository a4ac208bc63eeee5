"""The controls' own error rates, by simulation: how often A/A raises a false alarm, and how surely a handicap is found.

Runs are made up: steps to target are log-normal, as measured ones nearly are, counted in steps of five as evaluations
are; some problems are much noisier than others, and some runs miss the target.
"""

from dataclasses import replace

import numpy as np
import pytest

from hammer.lab import evidence, stats
from hammer.lab.config import Config

TWO = Config(("quadratic",), ("adam", "sgd"), resamples=500)
FOUR = replace(TWO, optimizers=("adam", "sgd", "momentum", "vortex"))
WORKLOADS = 8
NOISE = {"even": np.full(WORKLOADS, 0.3), "uneven": np.geomspace(0.03, 0.6, WORKLOADS)}


def speeds(
    rng: np.random.Generator,
    seeds: int,
    noise: np.ndarray,
    slower: float = 1.0,
    paired: float = 0.0,
    misses: float = 0.0,
) -> np.ndarray:
    """Two runs of one optimizer as speeds, (workloads, seeds, 2); the second needs ``slower`` times the steps.

    ``paired`` is the correlation of the logarithms of a seed's two runs, ``misses`` the share of runs that miss.
    """
    common, own = rng.normal(size=(len(noise), seeds, 1)), rng.normal(size=(len(noise), seeds, 2))
    log = 4.5 + noise[:, None, None] * (np.sqrt(paired) * common + np.sqrt(1.0 - paired) * own)
    steps = 5.0 * np.rint(np.exp(log) * [1.0, slower] / 5.0)
    missed = rng.uniform(size=steps.shape) < misses
    unit = np.exp(4.5) * np.linspace(0.4, 1.0, len(noise))  # on some workloads another optimizer is the fastest
    return stats.speeds(np.where(missed, np.inf, steps), unit)


def alarms(config: Config, noise: np.ndarray, draws: int, paired: bool = False, **made: float) -> tuple[float, float]:
    """The share of simulated reports in which the first is found to be faster, and that in which it is slower."""
    rng = np.random.default_rng(5)
    found = [
        evidence.control(config, speeds(rng, config.seeds, noise, paired=0.5 if paired else 0.0, **made), paired, rng)
        for _ in range(draws)
    ]
    return sum(e.low > 0.0 for e in found) / draws, sum(e.high < 0.0 for e in found) / draws


@pytest.mark.parametrize("seeds", [5, 10])
@pytest.mark.parametrize("noise", NOISE)
def test_a_a_raises_false_alarms_as_rarely_as_promised(seeds: int, noise: str) -> None:
    # 5 % of 300 reports are 15; a rate of 5 % gives more than 27 in one simulation of a thousand.
    assert 0.01 <= sum(alarms(replace(TWO, seeds=seeds), NOISE[noise], 300)) <= 0.09


def test_with_more_pairs_there_are_fewer_false_alarms() -> None:
    # Each of six pairs is judged at 0.05 / 6, and the control with them: 2.5 of 300; more than 8 in one of a thousand.
    assert sum(alarms(replace(FOUR, seeds=5), NOISE["even"], 300)) <= 0.027


def test_missed_targets_raise_no_false_alarms() -> None:
    assert sum(alarms(replace(TWO, seeds=5), NOISE["even"], 300, misses=0.3)) <= 0.09


def test_pairs_on_the_same_seeds_raise_false_alarms_as_rarely() -> None:
    assert 0.01 <= sum(alarms(replace(TWO, seeds=5), NOISE["uneven"], 300, paired=True)) <= 0.09


@pytest.mark.parametrize("seeds", [5, 10])
def test_a_handicap_is_found(seeds: int) -> None:
    # A tenth of the learning rate costs more than twice the steps on these problems: found in every report.
    assert alarms(replace(FOUR, seeds=seeds), NOISE["uneven"], 100, paired=True, slower=2.0) == (1.0, 0.0)


def test_what_power_there_is() -> None:
    """Twice the steps, with three runs of ten lost on both sides; and a tenth more steps: found surely only with more seeds."""
    for made in ({"slower": 2.0, "misses": 0.3}, {"slower": 1.1}):
        few, many = (alarms(replace(FOUR, seeds=n), NOISE["even"], 60, paired=True, **made)[0] for n in (5, 40))
        assert few < 0.6 < 0.9 < many
