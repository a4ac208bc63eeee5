"""Who passes a diagnostic, and whether the diagnostic counts.

An optimizer tries ``TRIALS`` settings of the list that comparisons use, each on one tuning seed; the one with the lowest
judged loss runs on ``SEEDS`` fresh seeds, and passes if four fifths of them reach the goal. A diagnostic *counts* only if
random search (as many evaluations as all trials of an optimizer together have steps) and SGD with one setting, the
list's first, both fail, and its reference optimizer passes: otherwise it asks nothing, or too much.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from .. import optimizers, protocol
from ..seeds import Streams, indices
from .landscape import Diagnostic, descend, passes, random_search

TRIALS, SEEDS, SHARE = 8, 5, 0.8


@dataclass(frozen=True)
class Attempt:
    """What came out: the judged loss of each scoring seed, and the setting."""

    passed: bool
    losses: tuple[float, ...]
    hyper: dict[str, float]

    @property
    def reached(self) -> float:
        """The median of the judged losses."""
        return sorted(self.losses)[len(self.losses) // 2]


@dataclass(frozen=True)
class Controls:
    """The three controls of a diagnostic."""

    random: Attempt
    one_trial: Attempt
    reference: Attempt

    @property
    def counts(self) -> bool:
        return self.reference.passed and not self.random.passed and not self.one_trial.passed

    @property
    def fault(self) -> str | None:
        """Why the diagnostic does not count, or None."""
        wrong = [
            text
            for failed, text in (
                (self.random.passed, "random search passes"),
                (self.one_trial.passed, "SGD with one setting passes"),
                (not self.reference.passed, "the reference fails"),
            )
            if failed
        ]
        return " and ".join(wrong) or None


def _attempt(d: Diagnostic, run: Callable[[Streams], float], hyper: dict[str, float], root: int) -> Attempt:
    losses = tuple(run(Streams(root, d.name, i)) for i in indices("scoring", SEEDS))
    return Attempt(passes(d, losses, SHARE), losses, hyper)


def attempt(d: Diagnostic, optimizer: str, trials: int = TRIALS, root: int = 0) -> Attempt:
    """An optimizer's attempt, by its name, with ``trials`` settings."""
    entry, settings = optimizers.get(optimizer), protocol.candidates(optimizer, trials)
    (seed,) = indices("tuning", 1)

    def run(hyper: dict[str, float], streams: Streams) -> float:
        return descend(d, entry.transform(hyper), streams)

    best = settings[0] if trials == 1 else min(settings, key=lambda hyper: run(hyper, Streams(root, d.name, seed)))
    return _attempt(d, lambda streams: run(best, streams), best, root)


@cache
def controls(d: Diagnostic, root: int = 0) -> Controls:
    """Run the three controls of a diagnostic."""
    return Controls(
        random=_attempt(d, lambda streams: random_search(d, TRIALS * d.steps, streams), {}, root),
        one_trial=attempt(d, "sgd", trials=1, root=root),
        reference=attempt(d, d.reference, root=root),
    )
