"""The rules of a comparison ("Hammer rules", docs/protocol.md): who gets which trials, which setting wins, what is a hit.

1. Under the rules "tuned" every optimizer gets the same ``trials`` points of one scrambled Halton list, mapped onto its own
   declared range; under "default" and "self-tuning" it has one setting, its published defaults, on every workload.
2. The setting that wins on the tuning seeds runs again on fresh scoring seeds, the same for every optimizer.
3. The step limit and the number of trials are the same for every optimizer.
4. A run that misses the target, diverges or raises an error counts as infinitely slow, and is never left out.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from . import discovery, meters, optimizers, problems
from .config import Config
from .environment import arithmetic, code_version
from .seeds import indices
from .store import key_of
from .trial import TrialSpec

MOST_DIMENSIONS = 8
"""The length of a point of the list; an entry uses the first few coordinates, one for each hyper-parameter searched."""

REACHED_BY, REACHED_WITHIN = 0.8, 0.5
"""A derived target is reached by this share of the best baseline's scoring seeds within this share of the step limit.

Half of the steps leave room for slower optimizers to reach it too, instead of all counting as equally lost.
"""

SELF_TUNING_STEPS = 3
"""How many times the step limit a run has that has to find its settings itself, in place of the runs that tuning would take.

That of AlgoPerf's self-tuning ruleset in its first competition (v0.5; v0.6 gives 1.5 times).
"""

HANDICAP = 0.1
"""What the handicap control multiplies a tuned learning rate by."""

COSTS = ("steps", "cpu_seconds", "flops", "joules", "joules_estimate", "seconds")
"""What a trial spends on its way; ``seconds`` are those of the clock on the wall."""

Pair = tuple[str, str]
"""A workload and an optimizer."""


@dataclass(frozen=True)
class Trial:
    """A finished trial: its record and arrays. ``arrays`` is empty if it raised an error."""

    record: dict[str, Any]
    arrays: dict[str, np.ndarray] = field(repr=False)

    @property
    def status(self) -> str:
        """ "finished", "diverged" or "error"."""
        return self.record["status"]

    @property
    def final_loss(self) -> float:
        """The judged loss at the step limit; infinite after a divergence or an error."""
        return float(self.arrays["loss"][-1]) if self.arrays else math.inf

    def best_loss(self, within: float = 1.0) -> float:
        """The lowest judged loss in the first ``within`` of the step limit; infinite after a divergence or an error."""
        if self.status != "finished":
            return math.inf
        step = self.arrays["eval_step"]
        return float(self.arrays["loss"][step <= within * step[-1]].min())

    def spent(self, cost: str) -> np.ndarray | None:
        """What had been spent at each evaluation: one of ``COSTS``. None if it was not measured or counted."""
        if cost == "joules_estimate":
            flops, moved = self.spent("flops"), self.spent("bytes_moved")
            return None if flops is None or moved is None else meters.estimate(flops, moved)
        found = self.arrays.get("eval_step" if cost == "steps" else cost)
        return None if found is None or np.isnan(found).any() else found

    def to_target(self, target: float | None, cost: str = "steps") -> float:
        """What was spent until the first evaluation at or below ``target``: steps, or another of ``COSTS``. Infinite if there is
        none or an error was raised; NaN if it was not measured or counted."""
        spent = self.spent(cost)
        if spent is None:
            return math.nan if self.arrays else math.inf
        reached = np.flatnonzero(self.arrays["loss"] <= (-math.inf if target is None else target))
        return float(spent[reached[0]]) if len(reached) else math.inf


@cache
def halton(count: int) -> np.ndarray:
    """The first ``count`` points of the scrambled Halton list, (count, MOST_DIMENSIONS) in the unit cube.

    The list is nested (more trials keep the first ones) and fixed: it does not depend on the comparison's seed.
    Owen, "A randomized Halton algorithm in R", 2017 (scipy.stats.qmc.Halton).
    """
    from scipy.stats import qmc

    return qmc.Halton(MOST_DIMENSIONS, scramble=True, rng=np.random.default_rng(2017)).random(count)


def candidates(optimizer: str, count: int) -> list[dict[str, float]]:
    """The settings that an optimizer is tuned over."""
    space = optimizers.get(optimizer).space
    return [{name: space[name].at(u) for name, u in zip(space, point, strict=False)} for point in halton(count)]


def settings(config: Config, optimizer: str) -> list[dict[str, float]]:
    """What an optimizer is run with on every workload: the settings it is tuned over, or the one it has untuned."""
    entry = optimizers.get(optimizer)
    if config.rules == "tuned" and entry.space:
        return candidates(optimizer, config.trials)
    return [{name: entry.defaults[name] for name in entry.space}]


def step_limit(config: Config, workload: str) -> int:
    """How many steps every run of a workload has."""
    steps = problems.get(workload).steps if config.steps is None else config.steps
    return steps * (SELF_TUNING_STEPS if config.rules == "self-tuning" else 1)


def specs(config: Config, workload: str, optimizer: str, hyper: dict[str, float], phase: str) -> list[TrialSpec]:
    """The trials of one setting in one phase: "tuning", "scoring" or "control"."""
    problem, steps = problems.get(workload), step_limit(config, workload)
    count = config.tuning_seeds if phase == "tuning" else config.seeds
    dtype = config.dtype or problem.dtype
    return [
        TrialSpec(workload, optimizer, hyper, config.seed, index, steps, problem.eval_every, dtype)
        for index in indices(phase, count)
    ]


def tuning_specs(config: Config, workload: str, optimizer: str) -> list[list[TrialSpec]]:
    """The tuning trials of a pair, setting by setting."""
    return [specs(config, workload, optimizer, hyper, "tuning") for hyper in settings(config, optimizer)]


def controlled(config: Config) -> str | None:
    """The optimizer of the A/A control: the first baseline that is compared."""
    return next((name for name in config.optimizers if optimizers.get(name).baseline), None) if config.control else None


def handicapped(config: Config) -> str | None:
    """The optimizer of the handicap control: Adam if it is compared, else the first baseline with a learning rate."""
    if not config.control:
        return None
    able = [name for name in config.optimizers if optimizers.get(name).baseline and "lr" in optimizers.get(name).space]
    return "adam" if "adam" in able else next(iter(able), None)


def handicap(hyper: dict[str, float]) -> dict[str, float]:
    """A setting with its learning rate made ten times smaller."""
    return {**hyper, "lr": float(f"{HANDICAP * hyper['lr']:.6g}")}


def key(spec: TrialSpec) -> str:
    """The name of a trial: the hash of all that decides its bits."""
    own = [problems.own_file(spec.problem), optimizers.own_file(spec.optimizer)]
    files = [file for path in own if path is not None for file in discovery.code_of(path)]
    code = code_version(spec.problem, tuple(files)) if files else code_version(spec.problem)
    return key_of({"spec": spec.described(), "code": code, "arithmetic": arithmetic()})


def target_of(config: Config, workload: str) -> float | None:
    """The workload's frozen target, or None if this comparison derives it from its own scoring runs, as it does for a
    workload that has none."""
    target = problems.get(workload).target if config.targets == "frozen" else None
    return None if target is None else target.loss


def rating(trials: Sequence[Trial], target: float | None) -> tuple[float, float]:
    """What settings are chosen by, the lower the better: median steps to the target, then median final loss."""
    return statistics.median(t.to_target(target) for t in trials), statistics.median(t.final_loss for t in trials)


def winner(tuned: Sequence[Sequence[Trial]], target: float | None) -> int:
    """The index of the best setting on the tuning seeds; the earlier one of equals. A lone setting needs no runs to win."""
    return 0 if len(tuned) == 1 else min(range(len(tuned)), key=lambda i: rating(tuned[i], target))


def derived_target(scoring: Mapping[str, Sequence[Trial]]) -> tuple[float, str] | None:
    """A target from scoring runs, and the baseline that set it; None if no baseline gets anywhere.

    For each baseline: the largest of its ``ceil(0.8 n)`` lowest losses within half the step limit, so that at least 80 %
    of its seeds reach it. The target is the lowest of these.
    """
    reached = {}
    for name, runs in scoring.items():
        if optimizers.get(name).baseline and runs:
            losses = sorted(t.best_loss(REACHED_WITHIN) for t in runs)
            reached[name] = losses[math.ceil(REACHED_BY * len(losses)) - 1]
    best = min(reached, key=lambda name: reached[name], default=None)
    return None if best is None or not math.isfinite(reached[best]) else (reached[best], best)
