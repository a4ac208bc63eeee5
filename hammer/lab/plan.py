"""How long a comparison may take, from what its trials took before.

A trial's time is seconds per step times its steps. Seconds per step come from the store's finished trials: those of the same
problem, optimizer and dtype, or else of the same problem; for a problem that the store knows nothing of, from the times of
the reference machine (``data/seconds_per_step.json``), and the estimate says so. A user's own problem that has not run yet
has no estimate, and that is said too.
"""

import json
import statistics
import time
from collections import defaultdict
from collections.abc import Iterable
from functools import cache
from importlib import resources

from . import protocol
from .comparison import Comparison
from .index import Index, Indexed
from .protocol import Trial
from .trial import TrialSpec

ENOUGH = 32
"""A median of this many trials is not improved by more."""

AROUND = 8.0
"""Seconds that the first import in each worker and the report take, about."""

Kind = tuple[str, str, str]
"""Problem, optimizer and dtype."""


class Plan:
    """What is left of a comparison, in trials and seconds.

    Args:
        comparison: whose finished trials are taken from the store first.
        at_a_time: how many trials run at a time, each as fast as alone.
    """

    def __init__(self, comparison: Comparison, at_a_time: int):
        self.comparison, self.at_a_time = comparison, at_a_time
        self._rates: dict[Kind, list[float]] = defaultdict(list)
        for row in Index(comparison.store).rows():
            self._learn(row)
        for pair in comparison.pairs:
            comparison.missing(*pair)
        self.started = time.time()

    def _learn(self, row: Indexed) -> None:
        rates = self._rates[row.problem, row.optimizer, row.dtype]
        if row.done and len(rates) < ENOUGH:
            rates.append(row.seconds / row.done)

    def finished(self, trial: Trial) -> None:
        """A trial has ended: learn from it."""
        record = trial.record
        if record["status"] != "error":
            spec = record["spec"]
            rates = self._rates[spec["problem"], spec["optimizer"], spec["dtype"]]
            rates.append(record["elapsed_seconds"] / max(1, record["steps"]))
            del rates[:-ENOUGH]

    def seconds(self) -> tuple[float, list[str], bool]:
        """The time that the missing trials may take.

        Returns:
            Seconds, of those trials that an estimate is known for; the problems for which none is; and whether any of it
            comes from the reference machine.
        """
        total, unknown, elsewhere = 0.0, [], False
        for spec, count in self._missing():
            rate, of_reference = self._rate((spec.problem, spec.optimizer, spec.dtype))
            if rate is None:
                unknown.append(spec.problem)
            else:
                total += count * spec.steps * rate
                elsewhere |= of_reference
        return total / self.at_a_time, [*dict.fromkeys(unknown)], elsewhere

    def _missing(self) -> Iterable[tuple[TrialSpec, int]]:
        """How many trials of each pair are missing, with the spec of one of them; all of a pair have as many steps."""
        config, done = self.comparison.config, self.comparison.trials
        controlled = (protocol.controlled(config), protocol.handicapped(config))
        for workload, optimizer in self.comparison.pairs:
            state = self.comparison.pair(workload, optimizer)
            tuning = sum(map(len, state.tuning))
            wanted = tuning + config.seeds * (1 + controlled.count(optimizer))
            count = wanted - sum(key in done for key, _ in state.planned)
            if count:
                yield state.planned[0][1], count

    def _rate(self, kind: Kind) -> tuple[float | None, bool]:
        if rates := self._rates.get(kind):
            return statistics.median(rates), False
        similar = [
            r
            for (problem, _, dtype), rates in self._rates.items()
            if (problem, dtype) == (kind[0], kind[2])
            for r in rates
        ]
        if similar:
            return statistics.median(similar), False
        return _reference().get(kind[0]), True

    def said(self) -> str:
        """The estimate in words."""
        seconds, unknown, elsewhere = self.seconds()
        if unknown and not seconds:
            return f"unknown: {', '.join(unknown)} never ran here"
        said = f"about {duration(seconds + AROUND)}"
        if elsewhere:
            said += " (by the times of the reference machine, where this one has none yet)"
        if unknown:
            said += f", and an unknown time for {', '.join(unknown)}, which never ran here"
        return said


def duration(seconds: float) -> str:
    """A time for people: 20 s, 3 min, 2 h 10 min."""
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


@cache
def _reference() -> dict[str, float]:
    text = (resources.files(__package__) / "data" / "seconds_per_step.json").read_text(encoding="utf-8")
    return json.loads(text)["seconds"]
