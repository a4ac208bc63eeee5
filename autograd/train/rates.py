"""Learning rates by a config's ``scheduler`` section: functions of the step, of one run's length."""

import math
from typing import Any

from ..optim import schedules
from .callbacks import Callback


def one_cycle(
    max_lr: float,
    steps: int,
    pct_start: float = 0.3,
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
    anneal: str = "cos",
    three_phase: bool = False,
) -> schedules.Schedule:
    """Up to ``max_lr`` and down again (Smith & Topin 2018), step for step PyTorch's OneCycleLR.

    Args:
        max_lr: the highest rate.
        steps: of the whole cycle.
        pct_start: the share of the steps in which the rate rises.
        div_factor: the first rate is ``max_lr / div_factor``.
        final_div_factor: the last one is the first ``/ final_div_factor``.
        anneal: "cos" or "linear": the shape of rise and fall.
        three_phase: whether the fall mirrors the rise, and a third phase goes from the first rate to the last.
    """
    first = max_lr / div_factor
    last = first / final_div_factor
    top = pct_start * steps - 1.0
    if three_phase:
        ends = [(top, first, max_lr), (2.0 * top, max_lr, first), (steps - 1.0, first, last)]
    else:
        ends = [(top, first, max_lr), (steps - 1.0, max_lr, last)]

    def rate(step: int) -> float:
        begin = 0.0
        for n, (end, a, b) in enumerate(ends, 1):
            if step <= end or n == len(ends):
                share = 1.0 if end <= begin else min((step - begin) / (end - begin), 1.0)
                return b + (a - b) * 0.5 * (1.0 + math.cos(math.pi * share)) if anneal == "cos" else a + (b - a) * share
            begin = end
        raise AssertionError

    return rate


def schedule(scheduler: Any, lr: float, steps_per_epoch: int, steps: int) -> schedules.Schedule | None:
    """The rate as a function of the step; None where it is constant but for what callbacks do (ReduceLROnPlateau).

    Args:
        scheduler: the section of a config.
        lr: the rate that it starts from.
        steps_per_epoch: optimizer steps of an epoch.
        steps: of the whole run.
    """
    s, rise = scheduler, scheduler.warmup_steps
    if s.type == "ReduceLROnPlateau":
        return None
    if s.type == "OneCycleLR":
        return one_cycle(
            s.max_lr or lr, steps, s.pct_start, s.div_factor, s.final_div_factor, s.anneal, s.three_phase
        )
    if s.type == "constant":
        then = schedules.constant(lr)
    elif s.type == "StepLR":
        then = schedules.step_decay(lr, s.step_size * steps_per_epoch, s.factor)
    else:
        shape = schedules.cosine if s.type == "CosineAnnealingLR" else schedules.linear
        then = shape(lr, max(steps - rise, 1), s.min_lr)
    if rise:
        return schedules.warmup(rise, then)
    return None if s.type == "constant" else then


class WarmUp(Callback):
    """Constant learning rates rise in equal parts over the first ``steps`` steps; what else changes them stays in force."""

    def __init__(self, steps: int):
        super().__init__()
        self.steps = steps
        self.state = {"set": [], "full": []}

    def on_gradients(self, trainer: Any) -> None:
        if trainer.step >= self.steps:
            return
        places, state = trainer.rates(), self.state
        state["full"] = state["full"] or [place["lr"] for place in places]
        for i, place in enumerate(places):
            if state["set"] and place["lr"] != state["set"][i]:
                state["full"][i] *= place["lr"] / state["set"][i]
            place["lr"] = state["full"][i] * ((trainer.step + 1) / self.steps)
        state["set"] = [place["lr"] for place in places]
