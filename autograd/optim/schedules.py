"""Learning rates as functions of the step: plain functions ``step -> lr``, where step 0 is the first update.

Any function of the step will do; these make the usual ones. ``ReduceOnPlateau`` (``plateau``) follows a metric instead.

    >>> from autograd.optim import adamw, schedules
    >>> rate = schedules.warmup_cosine(1e-3, warmup=100, steps=1000)
    >>> [round(rate(s), 6) for s in (0, 99, 550, 1000)]
    [1e-05, 0.001, 0.0005, 0.0]
    >>> recipe = adamw(rate)
"""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Literal

from ..gradients.scaling import Schedule, number, whole

__all__ = [
    "Schedule",
    "constant",
    "cosine",
    "exponential",
    "linear",
    "one_cycle",
    "step_decay",
    "warmup",
    "warmup_cosine",
    "warmup_linear",
]


def constant(lr: float) -> Schedule:
    """The same rate at every step."""
    rate = number("lr", lr)
    return lambda step: rate


def step_decay(lr: float, every: int, factor: float = 0.1) -> Schedule:
    """``lr · factor^⌊step / every⌋``."""
    rate, n, f = number("lr", lr), whole("every", every), number("factor", factor)
    return lambda step: rate * f ** (step // n)


def exponential(lr: float, factor: float) -> Schedule:
    """``lr · factor^step``."""
    return step_decay(lr, 1, factor)


def _descent(lr: float, steps: int, end: float, shape: Callable[[float], float]) -> Schedule:
    """From lr at step 0 to end at ``steps``, and end from then on; ``shape`` falls from 1 to 0 on [0, 1]."""
    rate, n, last = number("lr", lr), whole("steps", steps), number("end", end)
    return lambda step: last + (rate - last) * shape(min(step / n, 1.0))


_SHAPES: dict[str, Callable[[float], float]] = {
    "cos": lambda x: 0.5 * (1.0 + math.cos(math.pi * x)),
    "linear": lambda x: 1.0 - x,
}
"""Ways from 1 down to 0 on [0, 1]."""


def linear(lr: float, steps: int, end: float = 0.0) -> Schedule:
    """A straight line from ``lr`` at step 0 to ``end`` at step ``steps``; ``end`` from then on."""
    return _descent(lr, steps, end, _SHAPES["linear"])


def cosine(lr: float, steps: int, end: float = 0.0) -> Schedule:
    """Half a cosine wave from ``lr`` at step 0 to ``end`` at step ``steps``; ``end`` from then on (Loshchilov & Hutter 2017)."""
    return _descent(lr, steps, end, _SHAPES["cos"])


def warmup(steps: int, then: Schedule) -> Schedule:
    """Rise in equal parts to ``then(0)``, reached at the last of ``steps`` steps; then ``then``, from its step 0."""
    n = whole("steps", steps)
    return lambda step: then(0) * (step + 1) / n if step < n else then(step - n)


def warmup_cosine(lr: float, warmup: int, steps: int, end: float = 0.0) -> Schedule:
    """Linear warm-up over ``warmup`` steps, then a cosine that arrives at ``end`` at step ``steps``."""
    return _warm(lr, warmup, steps, end, cosine)


def warmup_linear(lr: float, warmup: int, steps: int, end: float = 0.0) -> Schedule:
    """Linear warm-up over ``warmup`` steps, then a straight line that arrives at ``end`` at step ``steps``."""
    return _warm(lr, warmup, steps, end, linear)


def one_cycle(
    max_lr: float,
    steps: int,
    pct_start: float = 0.3,
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
    anneal: Literal["cos", "linear"] = "cos",
    three_phase: bool = False,
) -> Schedule:
    """Up to ``max_lr`` and down again within ``steps`` steps (Smith & Topin 2018, in PyTorch's parametrisation).

    Args:
        max_lr: the highest rate.
        steps: all updates; from the last of them on the rate stays.
        pct_start: the share of the steps in which the rate rises, in (0, 1).
        div_factor: the rate starts at ``max_lr / div_factor``.
        final_div_factor: and ends at ``max_lr / div_factor / final_div_factor``.
        anneal: the shape of each phase, half a cosine wave ("cos") or a straight line.
        three_phase: whether the rate first falls to where it started, in as many steps as it rose, and only then to the end.
            ``pct_start`` is then at most one half.
    """
    high, n = number("max_lr", max_lr, "(0, inf)"), whole("steps", steps)
    share = number("pct_start", pct_start, "(0, 0.5]" if three_phase else "(0, 1)")
    low = high / number("div_factor", div_factor, "[1, inf)")
    end = low / number("final_div_factor", final_div_factor, "[1, inf)")
    if anneal not in _SHAPES:
        raise ValueError(f'anneal must be "cos" or "linear", not {anneal!r}')
    shape, rise = _SHAPES[anneal], share * n - 1
    corners = [(0.0, low), (rise, high), *([(2 * rise, low)] if three_phase else []), (n - 1.0, end)]

    def rate(step: int) -> float:
        for (a, first), (b, last) in pairwise(corners):
            if step <= b and a < b:
                return last + (first - last) * shape((step - a) / (b - a))
        return end

    return rate


def _warm(lr: float, rise: int, steps: int, end: float, descent: Callable[[float, int, float], Schedule]) -> Schedule:
    if whole("steps", steps) <= whole("warmup", rise):
        raise ValueError(f"steps counts the warm-up too, so it must be above warmup; got warmup={rise}, steps={steps}")
    return warmup(rise, descent(lr, steps - rise, end))
