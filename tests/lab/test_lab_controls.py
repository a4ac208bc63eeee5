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
    # Of 400 reports 5 % are 20; a rate of 5 % gives more than 33 in one simulation of a thousand.
    one_pair = sum(alarms(replace(TWO, seeds=seeds), NOISE[noise], 400))
    assert 0.01 <= one_pair <= 0.0825
    # With six pairs each is judged at 0.05/6: 3.3 of 400; more than 10 in one of a thousand.
    assert sum(alarms(replace(FOUR, seeds=seeds), NOISE[noise], 400)) <= 0.025


def test_missed_targets_raise_no_false_alarms() -> None:
    assert sum(alarms(replace(TWO, seeds=5), NOISE["even"], 400, misses=0.3)) <= 0.0825


def test_pairs_on_the_same_seeds_raise_false_alarms_as_rarely() -> None:
    assert 0.01 <= sum(alarms(replace(TWO, seeds=5), NOISE["uneven"], 400, paired=True)) <= 0.0825


@pytest.mark.parametrize("seeds", [5, 10])
def test_a_handicap_is_found(seeds: int) -> None:
    # A tenth of the learning rate costs at least twice the steps on these problems: found in every report.
    assert alarms(replace(FOUR, seeds=seeds), NOISE["uneven"], 100, paired=True, slower=2.0) == (1.0, 0.0)
    # With a third of the runs lost on both sides it is found too.
    assert alarms(replace(FOUR, seeds=seeds), NOISE["even"], 100, paired=True, slower=2.0, misses=0.3)[0] >= 0.8


def test_more_seeds_find_smaller_differences() -> None:
    few, many = (alarms(replace(FOUR, seeds=n), NOISE["even"], 100, paired=True, slower=1.1)[0] for n in (5, 20))
    assert few < 0.5 < 0.9 < many
