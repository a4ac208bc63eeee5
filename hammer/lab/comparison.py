"""Running a comparison: which trials are needed, which are there already, and the rest through the workers.

What a comparison needs follows from its config and from the trials that are finished: the tuning trials first; when
those of a pair (workload, optimizer) are complete, its winner's scoring trials. So an interrupted comparison resumes by
being run again, and a finished one only reads its trials.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import protocol
from .config import Config
from .executors import Serial
from .protocol import Pair, Trial
from .store import Store
from .trial import TrialSpec

Planned = tuple[str, TrialSpec]
"""A trial's key and spec."""


@dataclass
class PairState:
    """The trials of one optimizer on one workload. ``chosen`` is None until the tuning trials are complete."""

    settings: list[dict[str, float]]
    tuning: list[list[Planned]]
    chosen: int | None
    scoring: list[Planned]
    control: list[Planned]
    handicap: list[Planned]

    @property
    def phases(self) -> list[tuple[str, list[Planned]]]:
        """All of them, by what they are for."""
        tuning = [planned for setting in self.tuning for planned in setting]
        return [("tuning", tuning), ("scoring", self.scoring), ("control", self.control), ("handicap", self.handicap)]

    @property
    def planned(self) -> list[Planned]:
        """All of them."""
        return [planned for _, trials in self.phases for planned in trials]


class Comparison:
    """A comparison and the trials that are finished so far.

    Args:
        config: what to compare.
        store: where trials are kept and looked for.
        key: the key of a trial's spec.
    """

    def __init__(self, config: Config, store: Store, key: Callable[[TrialSpec], str] = protocol.key):
        self.config, self.store, self._key = config, store, key
        self.trials: dict[str, Trial] = {}
        self.reused: set[str] = set()
        self.phases: dict[str, str] = {}
        """What each trial is for, by its key: "tuning", "scoring", "control" or "handicap"."""
        self._pairs: dict[Pair, PairState] = {}
        self._looked_up: set[str] = set()
        self._submitted: set[str] = set()

    @property
    def pairs(self) -> list[Pair]:
        return [(workload, optimizer) for workload in self.config.workloads for optimizer in self.config.optimizers]

    @property
    def total(self) -> int:
        """The number of trials that the comparison consists of."""
        c = self.config
        tuning = sum(len(protocol.settings(c, optimizer)) for optimizer in c.optimizers) * c.tuning_seeds
        controls = sum(name is not None for name in (protocol.controlled(c), protocol.handicapped(c)))
        return len(c.workloads) * (tuning + (len(c.optimizers) + controls) * c.seeds)

    @property
    def complete(self) -> bool:
        return len(self.trials) == self.total

    def pair(self, workload: str, optimizer: str) -> PairState:
        """The trials of a pair, as far as they are known."""
        state = self._pairs.get((workload, optimizer))
        if state is None:
            tuning = [[*map(self._planned, specs)] for specs in protocol.tuning_specs(self.config, workload, optimizer)]
            settings = protocol.settings(self.config, optimizer)
            state = self._pairs[workload, optimizer] = PairState(settings, tuning, None, [], [], [])
            self._note(state)
        if state.chosen is None and all(key in self.trials for setting in state.tuning for key, _ in setting):
            tuned = [[self.trials[key] for key, _ in setting] for setting in state.tuning]
            state.chosen = protocol.winner(tuned, protocol.target_of(self.config, workload))
            best = state.settings[state.chosen]
            state.scoring = [*map(self._planned, protocol.specs(self.config, workload, optimizer, best, "scoring"))]
            if optimizer == protocol.controlled(self.config):
                state.control = [*map(self._planned, protocol.specs(self.config, workload, optimizer, best, "control"))]
            if optimizer == protocol.handicapped(self.config):
                slow = protocol.handicap(best)  # on the scoring seeds, so that it is paired with the tuned runs
                state.handicap = [
                    *map(self._planned, protocol.specs(self.config, workload, optimizer, slow, "scoring"))
                ]
            self._note(state)
        return state

    def _planned(self, spec: TrialSpec) -> Planned:
        return self._key(spec), spec

    def _note(self, state: PairState) -> None:
        self.phases |= {key: phase for phase, trials in state.phases for key, _ in trials}

    def finished(self, planned: list[Planned]) -> list[Trial]:
        """Those of the planned trials that are finished."""
        return [self.trials[key] for key, _ in planned if key in self.trials]

    def ordered(self) -> list[tuple[str, Trial]]:
        """The finished trials with their keys, in the order of the config."""
        planned = [key for pair in self.pairs for key, _ in self.pair(*pair).planned]
        return [(key, self.trials[key]) for key in planned if key in self.trials]

    def missing(self, workload: str, optimizer: str) -> list[Planned]:
        """The trials of a pair that can be run now. Those that are in the store are taken from there first."""
        while True:
            # After each look the pair is asked again: it knows more once its tuning trials are complete.
            wanted = [(key, spec) for key, spec in self.pair(workload, optimizer).planned if key not in self.trials]
            fresh = [key for key, _ in wanted if key not in self._looked_up]
            if not fresh:
                return wanted
            for key in fresh:
                self._looked_up.add(key)
                found = self.store.load(key)
                if found is not None:
                    self.trials[key] = Trial(*found)
                    self.reused.add(key)

    def run(self, workers: Serial, finished: Callable[[Trial], None]) -> None:
        """Have what is missing run by an executor; ``finished`` is called after each trial.

        Raises:
            KeyboardInterrupt: on Ctrl-C, after the workers have stopped. What was finished is in ``trials``.
        """

        def submit(workload: str, optimizer: str) -> None:
            for key, spec in self.missing(workload, optimizer):
                if key not in self._submitted:
                    self._submitted.add(key)
                    workers.submit(key, spec)

        def done(record: dict[str, Any]) -> None:
            trial = Trial(record, {})
            if record["status"] != "error":
                stored = self.store.load(record["key"])
                lost = {**record, "status": "error", "error": "its files could not be read back"}
                trial = Trial(*stored) if stored else Trial(lost, {})
            self.trials[record["key"]] = trial
            submit(record["spec"]["problem"], record["spec"]["optimizer"])
            finished(trial)

        for pair in self.pairs:
            submit(*pair)
        workers.run(done)
