"""What the scoring runs of several optimizers say beside their ranking: pairs, profiles, the tuning budget, the controls.

All of it is computed from steps to target, (workloads, seeds, optimizers), or from speeds made of them; ``stats`` has the
formulas, docs/protocol.md the rules.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from . import optimizers, protocol, stats
from .comparison import Comparison
from .config import Config
from .stats import Estimate, Verdict

FEWEST_SEEDS = 5
"""With fewer seeds than this no verdict is given: a bootstrap of so few values says next to nothing."""

MOST_SEEDS = 10_000
"""Above this a number of seeds that would be needed is not given as a number."""


@dataclass(frozen=True)
class OnWorkload:
    """A pair on one workload: the mean difference in speed, and the signed-rank p-value, plain and corrected."""

    workload: str
    difference: Estimate
    p: float
    corrected: float


@dataclass(frozen=True)
class Pairing:
    """Two optimizers. ``difference`` is the first one's speed score minus the second one's, ``improvement`` the probability
    that a run of the first is faster; the verdict is on the first one."""

    first: str
    second: str
    difference: Estimate
    improvement: Estimate
    verdict: Verdict
    workloads: list[OnWorkload]


@dataclass(frozen=True)
class Profiles:
    """Performance profiles: the share of workloads within each factor, with a band: (optimizers, taus); and the scores."""

    taus: np.ndarray
    share: np.ndarray
    low: np.ndarray
    high: np.ndarray
    scores: list[Estimate]


@dataclass(frozen=True)
class Control:
    """A comparison whose right answer is known: ``kind`` is "A/A" (an optimizer against itself on other seeds: no difference)
    or "handicap" (against itself at a tenth of its learning rate, on the same seeds: the handicapped one is slower)."""

    kind: str
    optimizer: str
    difference: Estimate

    @property
    def passed(self) -> bool:
        """Whether the right answer was found."""
        return (
            self.difference.above_zero
            if self.kind == "handicap"
            else self.difference.low <= 0.0 <= self.difference.high
        )


def said(control: Control) -> str:
    """A control's outcome as a clause."""
    title, passed = optimizers.get(control.optimizer).title, control.passed
    if control.kind == "A/A":
        return f"{title} {'does not differ' if passed else 'differs'} from itself on other seeds" + (
            "" if passed else ", so small differences here mean little"
        )
    return f"{title} at a tenth of its learning rate was {'found to be' if passed else 'not found to be'} slower"


def controls_sentence(config: Config, controls: Sequence[Control]) -> str:
    """Whether the controls behaved."""
    if not config.control:
        return "Controls were switched off in the config."
    if not controls:
        return "Controls: none yet; they need a baseline with a learning rate, and its scoring runs."
    if config.seeds < FEWEST_SEEDS:
        return f"Controls were run, but {config.seeds} seeds are too few to judge them."
    behaved = "Controls behaved" if all(c.passed for c in controls) else "Controls did not behave"
    return f"{behaved}: {'; '.join(map(said, controls))}."


def many(seeds: int) -> str:
    """A number of seeds that is an estimate."""
    return f"about {seeds:,}" if seeds <= MOST_SEEDS else f"more than {MOST_SEEDS:,}"


def estimates(
    values: np.ndarray, statistic: stats.robust.Statistic, confidence: float, resamples: int, rng: np.random.Generator
) -> list[Estimate]:
    """A statistic of each optimizer with its interval; ``values`` is (workloads, seeds, optimizers)."""
    low, high = stats.interval(stats.bootstrap(values, statistic, resamples, rng), confidence)
    return [Estimate(*map(float, e)) for e in zip(statistic(values), low, high, strict=True)]


def confidences(config: Config, workloads: int) -> tuple[float, float]:
    """What percentile intervals of differences are asked for: of a difference from zero, and of practical equality.

    Corrected for the number of pairs (Bonferroni) and expanded for few seeds; two one-sided tests at the same level ask for
    the interval of twice the tail. The controls are judged like a pair: they are there to show how far a pair's verdict goes.
    """
    count = len(config.optimizers)
    tail = (1.0 - config.confidence) / max(1, count * (count - 1) // 2)
    different, equal = (stats.expanded(1.0 - t, config.seeds, workloads) for t in (tail, 2.0 * tail))
    return different, equal


def pairings(config: Config, ranked: Sequence[str], steps: np.ndarray, rng: np.random.Generator) -> list[Pairing]:
    """Every pair of optimizers, the first in the order of the config."""
    names = config.optimizers
    values = stats.speeds(steps, stats.units(steps))
    scores, draws = stats.overall_iqm(values), stats.bootstrap(values, stats.overall_iqm, config.resamples, rng)
    places = [(i, j) for i in range(len(names)) for j in range(i + 1, len(names))]
    confidence, equal = confidences(config, len(ranked))
    found = []
    for i, j in places:
        difference, resampled = float(scores[i] - scores[j]), draws[:, i] - draws[:, j]
        low, high = stats.interval(resampled, confidence)

        def faster(values: np.ndarray, i: int = i, j: int = j) -> np.ndarray:
            return stats.improvement(values, i, j)[..., None]

        if scores[i] == scores[j] == 0.0:
            verdict = Verdict("undecided")  # too few runs of either reached a target: equal zeros say nothing
        else:
            verdict = stats.judge(difference, resampled, config.seeds, confidence, equal, config.delta)
            if config.seeds < FEWEST_SEEDS:
                verdict = Verdict("undecided", max(FEWEST_SEEDS, verdict.needed or 0))
        found.append(
            Pairing(
                names[i],
                names[j],
                Estimate(difference, float(low), float(high)),
                estimates(steps, faster, confidence, config.resamples, rng)[0],
                verdict,
                _workloads(config, ranked, values[..., i] - values[..., j], rng),
            )
        )
    return found


def _workloads(
    config: Config, ranked: Sequence[str], differences: np.ndarray, rng: np.random.Generator
) -> list[OnWorkload]:
    """A pair on each workload; ``differences`` in speed are (workloads, seeds). Holm's correction is for the workloads."""
    p = np.array([stats.signed_rank(d) for d in differences])
    confidence = stats.expanded(config.confidence, config.seeds)
    each = [estimates(d[None, :, None], stats.overall_mean, confidence, config.resamples, rng)[0] for d in differences]
    rows = zip(ranked, each, p, stats.holm(p), strict=True)
    return [OnWorkload(w, e, float(plain), float(corrected)) for w, e, plain, corrected in rows]


def seen_from(first: str, second: str, found: Sequence[Pairing]) -> Pairing:
    """The pairing of two optimizers, from the side of ``first``."""
    pair = next(p for p in found if {p.first, p.second} == {first, second})
    return pair if pair.first == first else turned(pair)


def turned(pair: Pairing) -> Pairing:
    """A pairing from the other side."""
    d, i = pair.difference, pair.improvement
    word = {"better": "worse", "worse": "better"}.get(pair.verdict.word, pair.verdict.word)
    return Pairing(
        pair.second,
        pair.first,
        _negated(d),
        Estimate(1.0 - i.value, 1.0 - i.high, 1.0 - i.low),
        Verdict(word, pair.verdict.needed),
        [replace(w, difference=_negated(w.difference)) for w in pair.workloads],
    )


def _negated(e: Estimate) -> Estimate:
    return Estimate(0.0 - e.value, 0.0 - e.high, 0.0 - e.low)


def profiles(config: Config, steps: np.ndarray, rng: np.random.Generator) -> Profiles:
    """Performance profiles over workloads, with pointwise bands over seeds, and AlgoPerf's score."""
    taus = np.geomspace(1.0, 2.0 * stats.TAU_MAX, 121)
    confidence = stats.expanded(config.confidence, config.seeds, len(steps))
    ratio = stats.ratios(steps)
    draws = stats.bootstrap(steps, stats.ratios, config.resamples, rng)  # (resamples, workloads, optimizers)
    low, high = stats.interval(_in_blocks(draws, taus), confidence)
    ends = stats.interval(stats.profile_score(draws), confidence)
    scores = [Estimate(*map(float, e)) for e in zip(stats.profile_score(ratio), *ends, strict=True)]
    return Profiles(taus, stats.profile(ratio, taus), low, high, scores)


def _in_blocks(draws: np.ndarray, taus: np.ndarray) -> np.ndarray:
    """The profile of each resample, computed for a few at a time: all comparisons at once would fill the memory."""
    return np.concatenate([stats.profile(block, taus) for block in np.array_split(draws, max(1, len(draws) // 200))])


def budget(tuned: Mapping[str, Sequence[Sequence[float]]], unit: np.ndarray) -> dict[str, np.ndarray]:
    """The expected speed, on the tuning seeds, of the best of k settings; averaged over workloads.

    Args:
        tuned: for each optimizer and workload, the median steps to target of each setting.
        unit: the unit of speed of each workload.

    Returns:
        For each optimizer (settings,), from k = 1 on.
    """
    return {
        name: np.mean([stats.best_of(speeds) for speeds in stats.speeds(np.array(steps), unit)], axis=0)
        for name, steps in tuned.items()
    }


def controls(
    comparison: Comparison,
    ranked: Sequence[str],
    steps: np.ndarray,
    targets: Mapping[str, float | None],
    rng: np.random.Generator,
) -> list[Control]:
    """The controls whose runs are complete."""
    config, unit, found = comparison.config, stats.units(steps), []
    for kind, phase, name in (
        ("A/A", "control", protocol.controlled(config)),
        ("handicap", "handicap", protocol.handicapped(config)),
    ):
        if name is None:
            continue
        again = [comparison.finished(getattr(comparison.pair(w, name), phase)) for w in ranked]
        if any(len(trials) < config.seeds for trials in again):
            continue
        other = np.array([[t.to_target(targets[w]) for t in trials] for w, trials in zip(ranked, again, strict=True)])
        both = np.stack([steps[:, :, config.optimizers.index(name)], other], axis=-1)
        found.append(Control(kind, name, control(config, stats.speeds(both, unit), kind == "handicap", rng)))
    return found


def control(config: Config, values: np.ndarray, paired: bool, rng: np.random.Generator) -> Estimate:
    """The difference in speed score of two runs of one optimizer.

    Args:
        config: for the confidence, which is that of a pair.
        values: their speeds, (workloads, seeds, 2).
        paired: whether both have the same seeds; else each side is resampled on its own.
        rng: the stream of the bootstrap.
    """
    sides = [values] if paired else [values[..., [i]] for i in (0, 1)]
    draws = np.concatenate([stats.bootstrap(v, stats.overall_iqm, config.resamples, rng) for v in sides], axis=1)
    low, high = stats.interval(draws[:, 0] - draws[:, 1], confidences(config, len(values))[0])
    score = stats.overall_iqm(values)
    return Estimate(float(score[0] - score[1]), float(low), float(high))
