"""Learning rates as functions of the step: plain functions ``step -> lr``, where step 0 is the first update.

Any function of the step will do; these make the usual ones.

    >>> from autograd.optim import adamw, schedules
    >>> rate = schedules.warmup_cosine(1e-3, warmup=100, steps=1000)
    >>> [round(rate(s), 6) for s in (0, 99, 550, 1000)]
    [1e-05, 0.001, 0.0005, 0.0]
    >>> recipe = adamw(rate)
"""

import math
from collections.abc import Callable
from typing import Any

from ..gradients.scaling import Schedule, number

__all__ = [
    "Schedule",
    "constant",
    "cosine",
    "exponential",
    "linear",
    "step_decay",
    "warmup",
    "warmup_cosine",
    "warmup_linear",
]


def _count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__") or value.__index__() < 1:
        raise ValueError(f"{name} must be a whole number of steps, at least 1, not {value!r}")
    return int(value)


def constant(lr: float) -> Schedule:
    """The same rate at every step."""
    rate = number("lr", lr)
    return lambda step: rate


def step_decay(lr: float, every: int, factor: float = 0.1) -> Schedule:
    """``lr · factor^⌊step / every⌋``."""
    rate, n, f = number("lr", lr), _count("every", every), number("factor", factor)
    return lambda step: rate * f ** (step // n)


def exponential(lr: float, factor: float) -> Schedule:
    """``lr · factor^step``."""
    return step_decay(lr, 1, factor)


def _descent(lr: float, steps: int, end: float, shape: Callable[[float], float]) -> Schedule:
    """From lr at step 0 to end at ``steps``, and end from then on; ``shape`` falls from 1 to 0 on [0, 1]."""
    rate, n, last = number("lr", lr), _count("steps", steps), number("end", end)
    return lambda step: last + (rate - last) * shape(min(step / n, 1.0))


def linear(lr: float, steps: int, end: float = 0.0) -> Schedule:
    """A straight line from ``lr`` at step 0 to ``end`` at step ``steps``; ``end`` from then on."""
    return _descent(lr, steps, end, lambda x: 1.0 - x)


def cosine(lr: float, steps: int, end: float = 0.0) -> Schedule:
    """Half a cosine wave from ``lr`` at step 0 to ``end`` at step ``steps``; ``end`` from then on (Loshchilov & Hutter 2017)."""
    return _descent(lr, steps, end, lambda x: 0.5 * (1.0 + math.cos(math.pi * x)))


def warmup(steps: int, then: Schedule) -> Schedule:
    """Rise in equal parts to ``then(0)``, reached at the last of ``steps`` steps; then ``then``, from its step 0."""
    n = _count("steps", steps)
    return lambda step: then(0) * (step + 1) / n if step < n else then(step - n)


def warmup_cosine(lr: float, warmup: int, steps: int, end: float = 0.0) -> Schedule:
    """Linear warm-up over ``warmup`` steps, then a cosine that arrives at ``end`` at step ``steps``."""
    return _warm(lr, warmup, steps, end, cosine)


def warmup_linear(lr: float, warmup: int, steps: int, end: float = 0.0) -> Schedule:
    """Linear warm-up over ``warmup`` steps, then a straight line that arrives at ``end`` at step ``steps``."""
    return _warm(lr, warmup, steps, end, linear)


def _warm(lr: float, rise: int, steps: int, end: float, descent: Callable[[float, int, float], Schedule]) -> Schedule:
    if _count("steps", steps) <= _count("warmup", rise):
        raise ValueError(f"steps counts the warm-up too, so it must be above warmup; got warmup={rise}, steps={steps}")
    return warmup(rise, descent(lr, steps - rise, end))
