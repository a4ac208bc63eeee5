"""ReduceOnPlateau: a learning rate that falls when a metric has stopped improving."""

import math
from collections.abc import Mapping
from typing import Any, Literal

from ..gradients.scaling import Schedule, number, whole
from .optimizer import Optimizer


class ReduceOnPlateau:
    """Multiplies the learning rates of an optimizer by ``factor`` when a metric has not improved for ``patience`` observations.

    After as many observations without improvement, the next one reduces the rates, as PyTorch's ReduceLROnPlateau does. A NaN is
    no improvement. All groups are reduced alike, none below ``min_lr``.

    Args:
        factor: in (0, 1).
        patience: observations without improvement that are waited out.
        threshold: how much better counts as an improvement: a share of the best value, or a difference.
        threshold_mode: "rel" or "abs", which of the two.
        cooldown: observations after a reduction in which none counts as bad.
        min_lr: rates do not fall below it; a rate that is below it already stays as it is.
        mode: whether a smaller ("min") or a larger ("max") metric is better.

    An optimizer whose rate is a number keeps the reduced one. Where a schedule goes on (a warm-up), make it with ``over``:

    >>> import numpy as np
    >>> from autograd import DiffTensor
    >>> from autograd.optim import SGD, schedules
    >>> plateau = ReduceOnPlateau(factor=0.5, patience=1)
    >>> rate = plateau.over(schedules.warmup(10, schedules.constant(0.1)))
    >>> optimizer = SGD([DiffTensor(np.zeros(3), requires_grad=True)], lr=rate)
    >>> [plateau.observe(loss, optimizer) for loss in (1.0, 1.0, 1.0)]
    [False, False, True]
    >>> rate(20)
    0.05
    """

    def __init__(
        self,
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: Literal["rel", "abs"] = "rel",
        cooldown: int = 0,
        min_lr: float = 0.0,
        mode: Literal["min", "max"] = "min",
    ):
        self.factor = number("factor", factor, "(0, 1)")
        self.patience, self.cooldown = whole("patience", patience, 0), whole("cooldown", cooldown, 0)
        self.threshold, self.min_lr = number("threshold", threshold), number("min_lr", min_lr)
        for name, value, allowed in (
            ("threshold_mode", threshold_mode, ("rel", "abs")),
            ("mode", mode, ("min", "max")),
        ):
            if value not in allowed:
                raise ValueError(f"{name} must be {allowed[0]!r} or {allowed[1]!r}, not {value!r}")
        self.relative, self.sign = threshold_mode == "rel", 1.0 if mode == "min" else -1.0
        self.best, self.bad, self.cooling, self.scale = self.sign * math.inf, 0, 0, 1.0

    def observe(self, metric: float, optimizer: Optimizer) -> bool:
        """Take in a value of the metric; reduce the optimizer's rates if it is time. Returns whether it was."""
        value = float(metric)
        if self._better(value):
            self.best, self.bad = value, 0
        else:
            self.bad += 1
        if self.cooling:
            self.cooling -= 1
            self.bad = 0
        if self.bad <= self.patience:
            return False
        self.scale *= self.factor
        self.cooling, self.bad = self.cooldown, 0
        for place in optimizer.rates():
            place["lr"] = self._reduced(place["lr"], self.factor)
        return True

    def over(self, schedule: Schedule) -> Schedule:
        """The schedule with the reductions so far, and those to come, in it."""
        return lambda step: self._reduced(schedule(step), self.scale)

    def _reduced(self, lr: float, factor: float) -> float:
        return min(lr, max(lr * factor, self.min_lr))

    def _better(self, value: float) -> bool:
        margin = self.threshold * abs(self.best) if self.relative else self.threshold
        if math.isinf(self.best):
            return self.sign * value < self.sign * self.best
        return self.sign * (self.best - value) > margin

    # ---- saving ----

    def state_dict(self) -> dict[str, Any]:
        """What changes: the best value, the counts, and the product of the reductions."""
        return {"best": self.best, "bad": self.bad, "cooling": self.cooling, "scale": self.scale}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Take over a state made by ``state_dict``.

        Raises:
            KeyError: entries that are missing or unknown; nothing is changed then.
        """
        if saved.keys() != self.state_dict().keys():
            raise KeyError(f"load_state_dict: needs {', '.join(self.state_dict())}; got {', '.join(map(str, saved))}")
        self.best, self.scale = float(saved["best"]), float(saved["scale"])
        self.bad, self.cooling = int(saved["bad"]), int(saved["cooling"])
