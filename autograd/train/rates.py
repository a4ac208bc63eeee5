"""Learning rates by a config's ``scheduler`` section: functions of the step, of one run's length."""

from typing import Any

from ..optim import schedules
from ..optim.schedules import Schedule


def schedule(scheduler: Any, lr: float, steps_per_epoch: int, steps: int) -> Schedule | None:
    """The rate as a function of the step; None where it is constant but for reductions on a plateau.

    Args:
        scheduler: the section of a config.
        lr: the rate that it starts from.
        steps_per_epoch: optimizer steps of an epoch.
        steps: of the whole run.
    """
    s, rise = scheduler, scheduler.warmup_steps
    if s.type == "OneCycleLR":
        peak = s.max_lr or lr
        return schedules.one_cycle(peak, steps, s.pct_start, s.div_factor, s.final_div_factor, s.anneal, s.three_phase)
    if s.type in ("constant", "ReduceLROnPlateau"):
        return schedules.warmup(rise, schedules.constant(lr)) if rise else None
    if s.type == "StepLR":
        then = schedules.step_decay(lr, s.step_size * steps_per_epoch, s.factor)
    else:
        shape = schedules.cosine if s.type == "CosineAnnealingLR" else schedules.linear
        then = shape(lr, max(steps - rise, 1), s.min_lr)
    return schedules.warmup(rise, then) if rise else then
