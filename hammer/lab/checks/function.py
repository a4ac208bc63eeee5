"""Checks a function's derivatives on drawn arguments, and shrinks what fails.

Calls are drawn by hypothesis, until one fails; ``shrink`` makes that small.
Points at which a function has no derivative, and those where rounding noise hides it, are counted, not failures: but a
function of which no point could be decided has not passed.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

import hypothesis
import numpy as np

from autograd.testing import check_grads
from autograd.testing.check import NotDifferentiable, Undecided, WrongDerivative

from .arguments import Arguments
from .shrink import Call, shrink


@dataclass(frozen=True)
class Checks:
    """What is checked on each call; see ``autograd.testing.check_grads``."""

    order: int = 2
    modes: tuple[str, ...] = ("rev", "fwd")
    rtol: float = 1e-6


@dataclass(frozen=True)
class Failure:
    """A call that fails, as small as it was found to be. ``kind`` is "wrong" for a derivative, or "raised"."""

    kind: str
    message: str
    call: Call


@dataclass
class Outcome:
    """What a function's check found. ``excused`` has, for each reason that a call decided nothing, how many there were and
    what the first of them said."""

    calls: int = 0
    failure: Failure | None = None
    excused: dict[str, tuple[int, str]] = field(default_factory=dict)

    @property
    def decided(self) -> int:
        """How many calls were checked to the end."""
        return self.calls - sum(n for n, _ in self.excused.values())

    @property
    def passed(self) -> bool:
        return self.failure is None and self.decided > 0


def check_function(
    fn: Callable,
    arguments: Arguments,
    checks: Checks,
    examples: int = 50,
    seed: int = 0,
    done: Callable[[int], None] = lambda calls: None,
) -> Outcome:
    """Check ``fn`` on drawn calls.

    Args:
        fn: called with keyword arguments.
        arguments: what they are drawn from.
        checks: what is checked.
        examples: how many calls are drawn.
        seed: of the draws.
        done: called with the number of calls after each.
    """
    outcome, names = Outcome(), [a.name for a in arguments.drawn]

    def judge(call: Call) -> Failure | None:
        """What is wrong with a call. NotDifferentiable or Undecided if that cannot be told."""
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                check_grads(
                    lambda *given: fn(**dict(zip(names, given, strict=True)), **arguments.values),
                    *call.values(), order=checks.order, modes=checks.modes, rtol=checks.rtol,
                )  # fmt: skip
        except (NotDifferentiable, Undecided):
            raise
        except WrongDerivative as error:
            return Failure("wrong", _named(error, names), call)
        except Exception as error:  # noqa: BLE001  (whatever the function raises is the finding)
            return Failure("raised", f"{type(error).__name__}: {_named(error, names)}", call)
        return None

    def fails(call: Call) -> bool:
        """Whether a call fails as the first one did."""
        try:
            found = judge(call)
        except (NotDifferentiable, Undecided):
            return False
        if found is None or outcome.failure is None or found.kind != outcome.failure.kind:
            return False
        outcome.failure = found
        return True

    def one(call: Call) -> None:
        outcome.calls += 1
        done(outcome.calls)
        try:
            outcome.failure = judge(call)
        except (NotDifferentiable, Undecided) as error:
            reason = "not differentiable" if isinstance(error, NotDifferentiable) else "undecided"
            count, first = outcome.excused.get(reason, (0, _named(error, names)))
            outcome.excused[reason] = count + 1, first
        if outcome.failure is not None:
            raise _Failed

    quiet = hypothesis.settings(
        max_examples=examples, database=None, deadline=None, phases=[hypothesis.Phase.generate], report_multiple_bugs=False,
        print_blob=False, suppress_health_check=list(hypothesis.HealthCheck),
    )  # fmt: skip
    try:
        hypothesis.seed(seed)(quiet(hypothesis.given(arguments.strategy())(one)))()
    except _Failed:
        assert outcome.failure is not None
        shrink(outcome.failure.call, arguments.drawn, fails)
    return outcome


class _Failed(Exception):
    """Ends the drawing of calls."""


def _named(error: Exception, names: list[str]) -> str:
    """What an error says, with the names of the arguments in place of their numbers."""
    message = str(error)
    for i, name in reversed(list(enumerate(names))):
        message = message.replace(f"argument {i}", name)
    return message
