"""Optimizers that descend on the loss smoothed at a scale which falls over time.

    from autograd.optim import schedules
    optimizer = FractalSGD(model.parameters(), lr=0.1, sigma=schedules.step_decay(0.5, every=100, factor=0.5), seed=0)
    for batch in data:
        optimizer.step(lambda: loss(model(batch.x), batch.y))

``FractalOptimizer`` puts the gradient of ``multiscale`` in front of any chain. The scale, like a learning rate, is in the state, and the
directions of a step follow from the seed and the number of the step, so a run that was saved goes on to the same bits.
"""

from collections.abc import Callable, Iterable
from typing import Any, Literal

import numpy as np

from autograd import DiffTensor, value_and_grad
from autograd.gradients import GradientTransform, chain, leafwise
from autograd.gradients.scaling import Schedule, number, whole
from autograd.optim import Optimizer, adamw, sgd

from .directions import Kind
from .smoothing import Combine, dyadic, multiscale


class FractalOptimizer(Optimizer):
    """Steps parameters along the gradient of the loss seen at several scales (see ``multiscale``).

    Args:
        params: the parameters: DiffTensors that are leaves.
        transform: what turns the gradients into updates, for example ``adamw(1e-3)``.
        sigma: the coarsest scale, in units of the parameters: a number, or a schedule, a function of the step.
        seed: an integer or a SeedSequence, from which the directions of every step follow.
        levels: how many scales σ, σ/2, σ/4, …; for "coarse" σ alone is used.
        combine, n, order, directions: as for ``multiscale``; "sobol" pays for few parameters, and takes its time for thousands.

    Attributes:
        state: as ``Optimizer`` has it; its first part holds ``"sigma"``, the scale of the next step, and ``"step"``.
    """

    def __init__(
        self,
        params: Iterable[DiffTensor],
        transform: GradientTransform,
        *,
        sigma: float | Schedule,
        seed: int | np.random.SeedSequence,
        levels: int = 1,
        combine: Combine = "coarse",
        n: int = 16,
        order: Literal[0, 1] = 1,
        directions: Kind = "gaussian",
    ):
        schedule: Schedule = sigma if callable(sigma) else lambda _step: sigma  # type: ignore[return-value]
        self._levels = whole("levels", levels)
        self._seed = seed if isinstance(seed, np.random.SeedSequence) else np.random.SeedSequence(seed)
        self._settings: dict[str, Any] = {"combine": combine, "n": n, "order": order, "directions": directions}
        multiscale(sum, (1.0,), rng=self._seed, **self._settings)  # bad settings are refused now
        super().__init__(params, chain(_scale(schedule), transform))

    @property
    def sigma(self) -> float:
        """The coarsest scale of the next step."""
        return float(self.state[0]["sigma"])

    def step(self, loss: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """One update.

        Args:
            loss: a function without arguments that computes the loss, a real number, from the parameters as they are when it is called.
                It does not call ``backward``. It is called once (for order 0 twice, per scale), with all perturbed parameters as a
                batch of ``vmap``, inside of which values cannot be read.

        Returns:
            The loss, averaged over what was looked at.
        """
        if loss is None:
            raise TypeError(
                f"{type(self).__name__}.step needs the loss as a function: optimizer.step(lambda: loss(model(x), y))"
            )
        place = self.state[0]
        seed = np.random.SeedSequence(self._seed.entropy, spawn_key=(*self._seed.spawn_key, int(place["step"])))
        scales = dyadic(place["sigma"], self._levels) if place["sigma"] > 0 else (0.0,)
        seen = multiscale(lambda values: self._at(values, loss), scales, rng=seed, **self._settings)
        value, gradients = value_and_grad(seen)([p.raw for p in self.params])
        super().step(gradients)
        return value

    def _at(self, values: list, loss: Callable[[], Any]) -> Any:
        """The loss at other values of the parameters."""
        before = [(p.raw, p.node) for p in self.params]
        try:
            for p, value in zip(self.params, values, strict=True):
                p.raw, p.node = value.raw, value.node
            return loss()
        finally:
            for p, (raw, node) in zip(self.params, before, strict=True):
                p.raw, p.node = raw, node


def _scale(schedule: Schedule) -> GradientTransform:
    """A link that changes no gradient and keeps the scale."""

    def checked(step: int) -> float:
        return number("sigma", schedule(step))

    def begin(state: dict) -> Callable:
        state["step"] += 1
        state["sigma"] = checked(state["step"])
        return lambda g, p: g

    return leafwise(begin=begin, numbers={"sigma": checked(0), "step": 0})


class FractalSGD(FractalOptimizer):
    """``FractalOptimizer`` in front of ``sgd``: graduated optimization (Hazan et al. 2016) where sigma falls. ``options`` are sgd's."""

    def __init__(self, params: Iterable[DiffTensor], lr: float | Schedule = 1e-3, **options: Any):
        own, theirs = _parted(options)
        super().__init__(params, sgd(lr, **theirs), **own)


class FractalAdamW(FractalOptimizer):
    """``FractalOptimizer`` in front of ``adamw``; ``options`` are adamw's."""

    def __init__(self, params: Iterable[DiffTensor], lr: float | Schedule = 1e-3, **options: Any):
        own, theirs = _parted(options)
        super().__init__(params, adamw(lr, **theirs), **own)


_OWN = ("sigma", "seed", "levels", "combine", "n", "order", "directions")


def _parted(options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options of ``FractalOptimizer``, and those of the recipe."""
    return {k: v for k, v in options.items() if k in _OWN}, {k: v for k, v in options.items() if k not in _OWN}
