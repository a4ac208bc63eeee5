"""Recurring jobs: which batch size a job that comes again and again should use, learned over its runs (Zeus).

You, Chung and Chowdhury, "Zeus: understanding and optimizing GPU energy consumption of DNN training", NSDI 2023: a run's cost weighs joules
to the target against time to the target, batch sizes are arms of a bandit played by Thompson sampling over Gaussian beliefs, and a
run that costs ``stop`` times the best one so far is ended.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from autograd.atomic import write_atomically


def cost(joules: float, seconds: float, eta: float, max_watts: float) -> float:
    """η · joules + (1 − η) · MAXPOWER · seconds, both to the target. η = 1 counts joules alone, 0 time alone."""
    if not (0 <= eta <= 1 and max_watts >= 0):
        raise ValueError(f"cost: eta must be from 0 to 1 and max_watts at least 0, not {eta!r} and {max_watts!r}")
    return eta * joules + (1 - eta) * max_watts * seconds


class RecurringJob:
    """Chooses the batch size of each run, and says when to give a run up.

    Args:
        batches: the batch sizes to choose from.
        eta, max_watts: see ``cost``.
        stop: a run is given up at this many times the lowest cost so far.
        least: runs of each arm before beliefs decide; their spread is what Thompson sampling draws by.

    The belief in an arm's mean cost is Gaussian: the mean of its finished runs, with the variance of one run (pooled over the arms, so
    that an arm with two alike runs is not believed to be exact) over their number. A batch size that did not reach the target in any
    of its first runs is dropped; a given-up run otherwise counts at the cost at which it was given up.
    """

    def __init__(
        self, batches: Sequence[int], eta: float = 0.5, max_watts: float = 0.0, stop: float = 2.0, least: int = 2
    ):
        if not batches or len(set(batches)) < len(batches) or min(batches) < 1:
            raise ValueError(f"RecurringJob: batches must be different numbers of at least 1, not {list(batches)!r}")
        if not (stop > 1 and least >= 1):
            raise ValueError(f"RecurringJob: stop must be above 1 and least at least 1, not {stop!r} and {least!r}")
        cost(0.0, 0.0, eta, max_watts)
        self.eta, self.max_watts, self.stop, self.least = eta, max_watts, stop, least
        self.runs: dict[int, list[tuple[float, bool]]] = {int(b): [] for b in batches}
        """Batch size -> cost of each run, and whether it reached the target."""

    @property
    def best(self) -> float:
        """The lowest cost of a run that reached the target; infinite before there is one."""
        return min((c for runs in self.runs.values() for c, reached in runs if reached), default=math.inf)

    @property
    def limit(self) -> float:
        """The cost at which the present run is given up."""
        return self.stop * self.best

    def choose(self, rng: np.random.Generator) -> int:
        """The batch size of the next run."""
        alive = {
            b: runs for b, runs in self.runs.items() if len(runs) < self.least or any(reached for _, reached in runs)
        }
        if not alive:
            raise ValueError(
                "RecurringJob: no batch size has reached the target; look at the learning rate, or the target"
            )
        for b, runs in alive.items():
            if len(runs) < self.least:
                return b
        left = [c - np.mean([c for c, _ in runs]) for runs in alive.values() for c, _ in runs]
        spread = math.sqrt(float(np.sum(np.square(left))) / max(1, len(left) - len(alive)))
        drawn = {
            b: float(rng.normal(np.mean([c for c, _ in runs]), spread / math.sqrt(len(runs))))
            for b, runs in alive.items()
        }
        return min(drawn, key=lambda b: drawn[b])

    def observe(self, batch: int, joules: float, seconds: float, reached: bool) -> float:
        """A run of this batch size has ended, at the target or given up. Returns its cost."""
        if batch not in self.runs:
            raise ValueError(f"RecurringJob: {batch!r} is none of the batch sizes {', '.join(map(str, self.runs))}")
        found = cost(joules, seconds, self.eta, self.max_watts)
        if not (math.isfinite(found) and found >= 0):
            raise ValueError(f"RecurringJob: a run's cost must be finite and at least 0, not {found!r}")
        self.runs[batch].append((found, bool(reached)))
        return found

    def hopeless(self, joules: float, seconds: float) -> bool:
        """Whether a run that has spent so much should be given up."""
        return cost(joules, seconds, self.eta, self.max_watts) >= self.limit

    def save(self, path: str | Path) -> None:
        """Keep it between runs, as JSON."""
        state = {"eta": self.eta, "max_watts": self.max_watts, "stop": self.stop, "least": self.least}
        write_atomically(
            Path(path), json.dumps(state | {"runs": {str(b): r for b, r in self.runs.items()}}, indent=1) + "\n"
        )

    @classmethod
    def load(cls, path: str | Path) -> "RecurringJob":
        """What ``save`` kept. Raises ValueError for a file of something else."""
        try:
            data: dict[str, Any] = json.loads(Path(path).read_text("utf-8"))
            runs = {int(b): [(float(c), bool(r)) for c, r in runs] for b, runs in data.pop("runs").items()}
            job = cls(list(runs), **data)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} does not hold a recurring job: {error}") from error
        job.runs = runs
        return job
