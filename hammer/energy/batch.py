"""Which batch size reaches a target for the fewest joules.

Steps to a target fall with the batch size, S(b) = S_min (1 + B/b) (McCandlish et al. 2018), and a step takes e0 + e1 b joules: e0 for what
does not depend on the batch (the update, reading the weights, waiting), e1 for an example. So

    J(b) = S_min (1 + B/b)(e0 + e1 b),     b* = √(B e0/e1),     J(b*) = S_min (√e0 + √(B e1))².
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class StepEnergy:
    """Joules of a step: ``fixed`` + ``each`` · examples."""

    fixed: float
    each: float

    def __post_init__(self) -> None:
        if not (self.fixed >= 0 and self.each >= 0 and 0 < self.fixed + self.each < math.inf):
            raise ValueError(
                f"StepEnergy: fixed and each must be at least 0, and not both 0, not {self.fixed!r} and {self.each!r}"
            )

    def __call__(self, batch: float) -> float:
        return self.fixed + self.each * batch

    @classmethod
    def fit(cls, batches: Sequence[float], joules: Sequence[float]) -> "StepEnergy":
        """From measured steps of two or more batch sizes; least squares of relative errors, as large steps also err by more."""
        b, y = np.asarray(batches, float), np.asarray(joules, float)
        if len(set(batches)) < 2 or (y <= 0).any():
            raise ValueError("StepEnergy.fit: give joules above 0 of steps of at least two batch sizes")
        a = np.stack([1 / y, b / y], axis=1)
        (fixed, each), *_ = np.linalg.lstsq(a, np.ones(len(y)), rcond=None)
        if fixed < 0:  # what the bounds allow
            fixed, each = 0.0, a[:, 1].sum() / (a[:, 1] ** 2).sum()
        elif each < 0:
            fixed, each = a[:, 0].sum() / (a[:, 0] ** 2).sum(), 0.0
        return cls(float(fixed), float(each))


@dataclass(frozen=True)
class StepsToTarget:
    """S(b) = ``least`` (1 + ``noise_scale``/b)."""

    least: float
    noise_scale: float

    def __call__(self, batch: float) -> float:
        return self.least * (1 + self.noise_scale / batch)

    @classmethod
    def fit(cls, batches: Sequence[float], steps: Sequence[float]) -> "StepsToTarget":
        """From steps found at two or more batch sizes, each with its learning rate tuned; least squares of relative errors."""
        b, y = np.asarray(batches, float), np.asarray(steps, float)
        if len(set(batches)) < 2 or not (np.isfinite(y).all() and (y > 0).all()):
            raise ValueError("StepsToTarget.fit: give finite steps above 0 of at least two batch sizes")
        a = np.stack([1 / y, 1 / (b * y)], axis=1)
        (least, product), *_ = np.linalg.lstsq(a, np.ones(len(y)), rcond=None)
        if least <= 0:
            raise ValueError("StepsToTarget.fit: steps fall faster than 1/b over these batch sizes, which the model cannot do; try larger ones")  # fmt: skip
        return cls(float(least), float(max(product, 0.0) / least))


def joules_to_target(batch: float, steps: StepsToTarget, energy: StepEnergy) -> float:
    """J(b)."""
    return steps(batch) * energy(batch)


def best_batch(noise_scale: float, energy: StepEnergy) -> float:
    """b* = √(B e0/e1), a real number of at least 1; infinite if no signal shows (B infinite) or examples cost nothing."""
    if noise_scale < 0:
        raise ValueError(f"best_batch: the noise scale must be at least 0, not {noise_scale!r}")
    if not energy.fixed or not noise_scale:
        return 1.0
    return max(1.0, math.sqrt(noise_scale * energy.fixed / energy.each)) if energy.each else math.inf


def least_joules(steps: StepsToTarget, energy: StepEnergy) -> float:
    """J(b*) in closed form."""
    return steps.least * (math.sqrt(energy.fixed) + math.sqrt(steps.noise_scale * energy.each)) ** 2


def saving(now: float, then: float, noise_scale: float, energy: StepEnergy) -> float:
    """J(then)/J(now): what the joules to any target are multiplied by if the batch size changes from ``now`` to ``then``."""
    if math.isinf(noise_scale):  # steps go as 1/b
        return energy(then) / then / (energy(now) / now)
    steps = StepsToTarget(1.0, noise_scale)
    return joules_to_target(then, steps, energy) / joules_to_target(now, steps, energy)


def accumulation(batch: int, most: int, once: float, energy: StepEnergy) -> tuple[int, float]:
    """Into how many micro-batches a batch is split so that each holds ``most`` examples or fewer, and the joules of such a step.

    Every micro-batch pays ``energy.fixed`` but for its part ``once``, which a step pays once (the optimizer's update). So
    accumulation never costs less than one large batch: it is for batches that do not fit.
    """
    if not (0 <= once <= energy.fixed and batch >= 1 and most >= 1):
        raise ValueError(
            "accumulation: batch and most must be at least 1, and once from 0 to the fixed joules of a step"
        )
    parts = math.ceil(batch / most)
    return parts, parts * (energy.fixed - once) + once + energy.each * batch
