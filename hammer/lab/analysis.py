"""What a comparison's trials say: tables, intervals and the verdict. Everything a report shows is computed here."""

import math
from dataclasses import dataclass

import numpy as np

from . import evidence, optimizers, problems, protocol, stats
from .comparison import Comparison
from .config import Config
from .evidence import FEWEST_SEEDS, Control, Pairing, Profiles
from .protocol import Pair, Trial
from .stats import Estimate


@dataclass(frozen=True)
class Setting:
    """One setting on the tuning seeds: its median final loss, median steps to the target, and how many runs failed."""

    hyper: dict[str, float]
    loss: float
    steps: float
    failed: int


@dataclass(frozen=True)
class Curve:
    """Median and quartiles of the judged loss over the scoring seeds, at each evaluation.

    ``spent`` is what had been spent until then, the median over the seeds, by the names in ``AXES``; it lacks what was not
    counted or measured.
    """

    step: np.ndarray
    median: np.ndarray
    low: np.ndarray
    high: np.ndarray
    spent: dict[str, np.ndarray]


AXES = {
    "steps": "steps",
    "cpu_seconds": "processor seconds",
    "flops": "FLOPs",
    "joules": "joules",
    "joules_estimate": "joules, estimated from FLOPs and bytes",
}
"""What a loss may be drawn over."""

RUN_COSTS = ("cpu_seconds", "wall_seconds", "flops", "bytes_moved", "state_bytes", "peak_bytes", "mpi_bytes")
"""What a run is said to cost."""

PER_STEP = ("cpu_seconds", "wall_seconds", "flops", "bytes_moved")
"""Those of them that are given for a step."""


@dataclass(frozen=True)
class Cell:
    """One optimizer on one workload, over its scoring runs.

    ``to_target`` has what was spent until the target, by the names of ``protocol.COSTS``, ``costs`` what a run costs, by those
    of ``RUN_COSTS``; both are medians with intervals, and lack what was not measured or counted.
    """

    hyper: dict[str, float] | None
    tuning: list[Setting]
    runs: int
    hits: int
    failed: int
    to_target: dict[str, Estimate]
    final: Estimate | None
    metric: float
    costs: dict[str, Estimate]
    curve: Curve | None

    @property
    def steps(self) -> Estimate | None:
        """Steps to the target; None without runs."""
        return self.to_target.get("steps")


@dataclass(frozen=True)
class Row:
    """One line of the ranking. ``lead`` is the leader's case against this optimizer; None for the leader."""

    optimizer: str
    speed: Estimate
    rank: Estimate
    hits: int
    runs: int
    failed: int
    lead: Pairing | None


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
    pairings: list[Pairing]
    profiles: Profiles | None
    budget: dict[str, np.ndarray]
    friedman: tuple[float, float] | None
    controls: list[Control]
    phases: dict[str, str]
    failures: list[Trial]
    peaks_since: set[str | None]
    verdict: str
    trial_seconds: float

    @property
    def energy(self) -> str:
        """Which joules there are: "joules" if a counter was readable, else "joules_estimate", those of the model."""
        curves = [cell.curve for cell in self.cells.values() if cell.curve is not None]
        return "joules" if any("joules" in curve.spent for curve in curves) else "joules_estimate"

    @property
    def sent_nothing(self) -> bool:
        """Whether it is known of every run that it sent nothing by MPI."""
        sent = [cell.costs.get("mpi_bytes") for cell in self.cells.values() if cell.costs]
        return all(e is not None and e.high == 0 for e in sent)

    @property
    def to_target(self) -> dict[str, str]:
        """The costs that are shown until the target, and what they are called."""
        shown = ("steps", "cpu_seconds", "flops", self.energy)
        return {name: AXES[name].removesuffix(" from FLOPs and bytes") for name in shown}


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
    pairings: list[Pairing] = []
    controls: list[Control] = []
    profiles, budget, friedman = None, {}, None
    if ranked:
        steps = np.array([[[t.to_target(values[w]) for t in scoring[w, o]] for o in config.optimizers] for w in ranked])
        steps = steps.transpose(0, 2, 1)  # workloads, seeds, optimizers
        pairings = evidence.pairings(config, ranked, steps, rng)
        ranking = _ranking(config, ranked, steps, cells, pairings, rng)
        profiles = evidence.profiles(config, steps, rng)
        if len(config.optimizers) > 1:
            friedman = stats.friedman(np.median(steps, axis=1), config.resamples, rng)
        controls = evidence.controls(comparison, ranked, steps, values, rng)
        tuned = {o: [[setting.steps for setting in cells[w, o].tuning] for w in ranked] for o in config.optimizers}
        budget = evidence.budget(tuned, stats.units(steps)) if config.tuning_seeds else {}
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
        pairings=pairings,
        profiles=profiles,
        budget=budget,
        friedman=friedman,
        controls=controls,
        phases=comparison.phases,
        failures=[t for t in trials if t.status != "finished"],
        peaks_since={t.record.get("peak_since") for t in trials if t.arrays},
        verdict=_verdict(config, ranking, controls, len(trials), comparison.total),
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


def _medians(columns: dict[str, list[float]], config: Config, rng: np.random.Generator) -> dict[str, Estimate]:
    """The median of each column over runs, with its interval; a resample draws runs, for all columns at once. A column with
    a NaN, which was not measured in every run, is left out."""
    known = {name: values for name, values in columns.items() if values and not np.isnan(values).any()}
    if not known:
        return {}
    table = np.array([*known.values()]).T
    ends = stats.median_interval(table, config.confidence, config.resamples, rng)
    return {name: Estimate(*map(float, e)) for name, *e in zip(known, stats.median(table), *ends, strict=True)}


def _spent(trials: list[Trial]) -> dict[str, np.ndarray]:
    found = {}
    for name in AXES:
        rows = [t.spent(name) for t in trials]
        if all(row is not None for row in rows) and not (name == "joules_estimate" and "joules" in found):
            found[name] = np.median(np.array(rows, float), axis=0)
    return found


def _run_costs(trial: Trial) -> dict[str, float]:
    record = trial.record
    found = {name: float(math.nan if record.get(name) is None else record[name]) for name in RUN_COSTS}
    steps = record["steps"] or math.nan
    return {name: value / steps if name in PER_STEP else value for name, value in found.items()}


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
    to_target = {name: [t.to_target(target, name) for t in runs] for name in protocol.COSTS}
    with_arrays = [t for t in runs if t.arrays]
    curve = None
    if with_arrays:
        losses = np.array([t.arrays["loss"] for t in with_arrays])
        step = with_arrays[0].arrays["eval_step"]
        low, median, high = (stats.quantile(losses, q) for q in (0.25, 0.5, 0.75))
        curve = Curve(step, median, low, high, _spent(with_arrays))
    costs = [_run_costs(t) for t in with_arrays if t.record["steps"]]
    return Cell(
        hyper=None if state.chosen is None else state.settings[state.chosen],
        tuning=tuning,
        runs=len(runs),
        hits=sum(map(math.isfinite, to_target["steps"])),
        failed=sum(t.status != "finished" for t in runs),
        to_target=_medians(to_target, config, rng),
        costs=_medians({name: [c[name] for c in costs] for name in RUN_COSTS}, config, rng),
        final=_medians({"final": [t.final_loss for t in runs]}, config, rng).get("final"),
        metric=float(np.median([t.arrays["metric"][-1] for t in with_arrays])) if with_arrays else np.nan,
        curve=curve,
    )


def _ranking(
    config: Config,
    ranked: tuple[str, ...],
    steps: np.ndarray,
    cells: dict[Pair, Cell],
    pairings: list[Pairing],
    rng: np.random.Generator,
) -> list[Row]:
    values, places = stats.speeds(steps, stats.units(steps)), stats.ranks(steps)
    confidence = stats.expanded(config.confidence, config.seeds, len(ranked))
    speed = evidence.estimates(values, stats.overall_iqm, confidence, config.resamples, rng)
    rank = evidence.estimates(places, stats.overall_mean, confidence, config.resamples, rng)
    order = sorted(range(len(speed)), key=lambda i: (-speed[i].value, rank[i].value))
    leader = config.optimizers[order[0]]

    def of(name: str, count: str) -> int:
        return sum(getattr(cells[w, name], count) for w in ranked)

    return [
        Row(
            optimizer=name,
            speed=speed[i],
            rank=rank[i],
            hits=of(name, "hits"),
            runs=of(name, "runs"),
            failed=of(name, "failed"),
            lead=None if name == leader else evidence.seen_from(leader, name, pairings),
        )
        for i, name in ((i, config.optimizers[i]) for i in order)
    ]


def _verdict(config: Config, ranking: list[Row], controls: list[Control], done: int, total: int) -> str:
    """A few sentences that say no more than the intervals allow."""
    parts = []
    if done < total:
        parts.append(f"Unfinished: {done} of {total} trials are done.")
    parts.append(_sentence(config, ranking))
    if config.seeds >= FEWEST_SEEDS:
        parts += [f"A control did not behave: {evidence.said(c)}." for c in controls if not c.passed]
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
        d = row.lead.difference
        return f"{title[row.optimizer]} (difference {d.value:.2f}, interval {d.low:.2f} to {d.high:.2f})"

    def of(word: str) -> list[Row]:
        return [row for row in others if row.lead is not None and row.lead.verdict.word == word]

    equal, undecided = of("equal"), of("undecided")
    if not equal and not undecided:
        nearest = min(others, key=lambda row: row.lead.difference.value if row.lead else 0.0)
        return f"{first} reaches the targets fastest, with a speed score of {leader.speed.value:.2f}. The nearest is {shown(nearest)}."
    sentence = f"No clear winner: {first} is ahead with a speed score of {leader.speed.value:.2f}"
    if equal:
        sentence += f", but practically equal (±{config.delta:g}) to {_listed([shown(row) for row in equal])}"
    if undecided:
        sentence += f"{' and' if equal else ', but'} {config.seeds} seeds do not tell it from {_listed([shown(row) for row in undecided])}"
    needed = [row.lead.verdict.needed for row in undecided if row.lead is not None and row.lead.verdict.needed]
    if needed:
        sentence += f"; {evidence.many(max(needed))} seeds would be needed"
    return sentence + "."


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
