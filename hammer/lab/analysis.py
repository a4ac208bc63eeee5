"""What a comparison's trials say: tables, intervals and the verdict. Everything a report shows is computed here."""

import math
from dataclasses import dataclass

import numpy as np

from . import optimizers, problems, protocol, stats
from .comparison import Comparison
from .config import Config
from .protocol import Pair, Trial

FEWEST_SEEDS = 5
"""With fewer seeds than this no verdict is given: a bootstrap of so few values says next to nothing."""


@dataclass(frozen=True)
class Estimate:
    """A number and its bootstrap interval."""

    value: float
    low: float
    high: float

    @property
    def above_zero(self) -> bool:
        return self.low > 0.0


@dataclass(frozen=True)
class Setting:
    """One setting on the tuning seeds: its median final loss, median steps to the target, and how many runs failed."""

    hyper: dict[str, float]
    loss: float
    steps: float
    failed: int


@dataclass(frozen=True)
class Curve:
    """Median and quartiles of the judged loss over the scoring seeds, at each evaluation."""

    step: np.ndarray
    median: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True)
class Cell:
    """One optimizer on one workload."""

    hyper: dict[str, float] | None
    tuning: list[Setting]
    runs: int
    hits: int
    failed: int
    steps: Estimate | None
    seconds: Estimate | None
    final: Estimate | None
    metric: float
    step_milliseconds: float
    curve: Curve | None


@dataclass(frozen=True)
class Row:
    """One line of the ranking. ``lead`` is the leader's speed score minus this one's; None for the leader."""

    optimizer: str
    speed: Estimate
    rank: Estimate
    hits: int
    runs: int
    failed: int
    lead: Estimate | None


@dataclass(frozen=True)
class Control:
    """The A/A control: an optimizer against itself on other seeds."""

    optimizer: str
    difference: Estimate

    @property
    def passed(self) -> bool:
        """Whether no difference was found, which is the truth."""
        return self.difference.low <= 0.0 <= self.difference.high


@dataclass(frozen=True)
class Summary:
    """All results of a comparison."""

    config: Config
    done: int
    total: int
    reused: int
    targets: dict[str, tuple[float, str] | None]
    cells: dict[Pair, Cell]
    ranked_workloads: tuple[str, ...]
    ranking: list[Row]
    control: Control | None
    failures: list[Trial]
    verdict: str
    trial_seconds: float


def summarise(comparison: Comparison) -> Summary:
    """Compute a summary of the trials that are finished."""
    config = comparison.config
    rng = np.random.default_rng(np.random.SeedSequence(config.seed, spawn_key=(0,)))  # of the bootstrap only
    scoring = {pair: comparison.finished(comparison.pair(*pair).scoring) for pair in comparison.pairs}
    targets = {workload: _target(config, workload, scoring) for workload in config.workloads}
    values = {workload: target[0] if target else None for workload, target in targets.items()}
    cells = {pair: _cell(comparison, pair, scoring[pair], values[pair[0]], rng) for pair in comparison.pairs}
    ranked = tuple(w for w in config.workloads if all(cells[w, o].runs == config.seeds for o in config.optimizers))

    ranking: list[Row] = []
    control = None
    if ranked:
        steps = np.array(
            [[[t.to_target(values[w])[0] for t in scoring[w, o]] for o in config.optimizers] for w in ranked]
        )
        steps = steps.transpose(0, 2, 1)  # workloads, seeds, optimizers
        ranking = _ranking(config, ranked, steps, cells, rng)
        control = _control(comparison, ranked, steps, values, rng)
    trials = [trial for _, trial in comparison.ordered()]
    return Summary(
        config=config,
        done=len(trials),
        total=comparison.total,
        reused=len(comparison.reused),
        targets=targets,
        cells=cells,
        ranked_workloads=ranked,
        ranking=ranking,
        control=control,
        failures=[t for t in trials if t.status != "finished"],
        verdict=_verdict(config, ranking, control, len(trials), comparison.total),
        trial_seconds=sum(t.record.get("wall_seconds", 0.0) for t in trials),
    )


def _target(config: Config, workload: str, scoring: dict[Pair, list[Trial]]) -> tuple[float, str] | None:
    frozen = problems.get(workload).target if config.targets == "frozen" else None
    if frozen is not None:
        return frozen.loss, frozen.set_by
    runs = {o: scoring[workload, o] for o in config.optimizers if len(scoring[workload, o]) == config.seeds}
    derived = protocol.derived_target(runs)
    if derived is None:
        return None
    loss, best = derived
    needed = math.ceil(protocol.REACHED_BY * config.seeds)
    how = f"reached by {needed} of {config.seeds} scoring seeds of {best}, the best baseline of this comparison, within half the step limit"
    return loss, how


def _median(values: list[float], config: Config, rng: np.random.Generator) -> Estimate:
    array = np.array(values)
    return Estimate(stats.median(array), *stats.median_interval(array, config.confidence, config.resamples, rng))


def _cell(
    comparison: Comparison, pair: Pair, runs: list[Trial], target: float | None, rng: np.random.Generator
) -> Cell:
    config, state = comparison.config, comparison.pair(*pair)
    tuning = []
    for hyper, planned in zip(state.settings, state.tuning, strict=True):
        trials = comparison.finished(planned)
        if trials:
            steps, loss = protocol.rating(trials, target)
            tuning.append(Setting(hyper, loss, steps, sum(t.status != "finished" for t in trials)))
    to_target = [t.to_target(target) for t in runs]
    with_arrays = [t for t in runs if t.arrays]
    curve = None
    if with_arrays:
        losses = np.array([t.arrays["loss"] for t in with_arrays])
        step = with_arrays[0].arrays["eval_step"]
        curve = Curve(step, stats.quantile(losses, 0.5), stats.quantile(losses, 0.25), stats.quantile(losses, 0.75))
    rates = [t.record["wall_seconds"] / t.record["steps"] for t in with_arrays if t.record["steps"]]
    return Cell(
        hyper=None if state.chosen is None else state.settings[state.chosen],
        tuning=tuning,
        runs=len(runs),
        hits=int(sum(np.isfinite(steps) for steps, _ in to_target)),
        failed=sum(t.status != "finished" for t in runs),
        steps=_median([steps for steps, _ in to_target], config, rng) if runs else None,
        seconds=_median([seconds for _, seconds in to_target], config, rng) if runs else None,
        final=_median([t.final_loss for t in runs], config, rng) if runs else None,
        metric=float(np.median([t.arrays["metric"][-1] for t in with_arrays])) if with_arrays else np.nan,
        step_milliseconds=1000.0 * float(np.median(rates)) if rates else np.nan,
        curve=curve,
    )


def _ranking(
    config: Config, ranked: tuple[str, ...], steps: np.ndarray, cells: dict[Pair, Cell], rng: np.random.Generator
) -> list[Row]:
    values = stats.speeds(steps, stats.units(steps))
    places = stats.ranks(steps)
    speed, rank = stats.overall_iqm(values), stats.overall_mean(places)
    speeds = stats.bootstrap(values, stats.overall_iqm, config.resamples, rng)
    speed_low, speed_high = stats.interval(speeds, config.confidence)
    rank_low, rank_high = stats.interval(
        stats.bootstrap(places, stats.overall_mean, config.resamples, rng), config.confidence
    )
    order = sorted(range(len(speed)), key=lambda i: (-speed[i], rank[i]))
    leader = order[0]
    # The leader is compared with every other optimizer: Bonferroni's correction keeps the confidence for all at once.
    corrected = 1.0 - (1.0 - config.confidence) / max(1, len(order) - 1)
    lead_low, lead_high = stats.interval(speeds[:, [leader]] - speeds, corrected)

    leads = [Estimate(*map(float, e)) for e in zip(speed[leader] - speed, lead_low, lead_high, strict=True)]

    def of(name: str, count: str) -> int:
        return sum(getattr(cells[w, name], count) for w in ranked)

    return [
        Row(
            optimizer=name,
            speed=Estimate(float(speed[i]), float(speed_low[i]), float(speed_high[i])),
            rank=Estimate(float(rank[i]), float(rank_low[i]), float(rank_high[i])),
            hits=of(name, "hits"),
            runs=of(name, "runs"),
            failed=of(name, "failed"),
            lead=None if i == leader else leads[i],
        )
        for i, name in ((i, config.optimizers[i]) for i in order)
    ]


def _control(
    comparison: Comparison,
    ranked: tuple[str, ...],
    steps: np.ndarray,
    targets: dict[str, float | None],
    rng: np.random.Generator,
) -> Control | None:
    config, name = comparison.config, protocol.controlled(comparison.config)
    if name is None:
        return None
    again = {w: comparison.finished(comparison.pair(w, name).control) for w in ranked}
    if any(len(trials) < config.seeds for trials in again.values()):
        return None
    unit = stats.units(steps)
    column = config.optimizers.index(name)
    first = stats.speeds(steps[:, :, [column]], unit)
    second = stats.speeds(np.array([[[t.to_target(targets[w])[0]] for t in again[w]] for w in ranked]), unit)
    draws = [stats.bootstrap(values, stats.overall_iqm, config.resamples, rng) for values in (first, second)]
    low, high = stats.interval(draws[0] - draws[1], config.confidence)
    difference = float((stats.overall_iqm(first) - stats.overall_iqm(second))[0])
    return Control(name, Estimate(difference, float(low[0]), float(high[0])))


def _verdict(config: Config, ranking: list[Row], control: Control | None, done: int, total: int) -> str:
    """One or two sentences that say no more than the intervals allow."""
    parts = []
    if done < total:
        parts.append(f"Unfinished: {done} of {total} trials are done.")
    parts.append(_sentence(config, ranking))
    if control is not None and not control.passed:
        who = optimizers.get(control.optimizer).title
        parts.append(
            f"The A/A control failed: {who} differs from itself on other seeds, so small differences here mean little."
        )
    return " ".join(parts)


def _sentence(config: Config, ranking: list[Row]) -> str:
    if not ranking:
        return "No verdict: no workload has all its scoring runs yet."
    if len(ranking) == 1:
        return "No verdict: only one optimizer was compared."
    if not any(row.hits for row in ranking):
        return "No verdict: no optimizer reached a target within the step limit."
    title = {row.optimizer: optimizers.get(row.optimizer).title for row in ranking}
    leader, others = ranking[0], ranking[1:]
    first = title[leader.optimizer]
    if config.seeds < FEWEST_SEEDS:
        return f"Not enough seeds: {config.seeds} for each workload, and at least {FEWEST_SEEDS} are needed for a verdict. {first} is ahead so far."

    def shown(row: Row) -> str:
        assert row.lead is not None
        return f"{title[row.optimizer]} (difference {row.lead.value:.2f}, interval {row.lead.low:.2f} to {row.lead.high:.2f})"

    open_cases = [row for row in others if row.lead is not None and not row.lead.above_zero]
    if not open_cases:
        nearest = min(others, key=lambda row: row.lead.value if row.lead else 0.0)
        return f"{first} reaches the targets fastest, with a speed score of {leader.speed.value:.2f}. The nearest is {shown(nearest)}."
    names = [shown(row) for row in open_cases]
    listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    return f"No clear winner: {first} is ahead with a speed score of {leader.speed.value:.2f}, but {config.seeds} seeds do not tell it from {listed}."
