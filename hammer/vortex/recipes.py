"""Optimizers with a bank in front: recipes, and their faces ``VortexSGD`` and ``VortexAdamW``."""

from collections.abc import Callable

from autograd.gradients import GradientTransform, add_decayed_weights, chain, leafwise
from autograd.gradients.scaling import Schedule, learning_rate, number
from autograd.optim import Optimizer, adamw
from autograd.optim.faces import made_by

from .filters import warn_above
from .settings import VortexGrad


def vortex_sgd(
    lr: float | Schedule = 1e-3,
    bank: VortexGrad = VortexGrad(),  # noqa: B008  (frozen)
    weight_decay: float = 0.0,
    largest_eigenvalue: float | None = None,
) -> GradientTransform:
    """Descent on h: ``p ← p − lr · h(g + weight_decay · p)``.

    Args:
        lr: a number, or a schedule.
        bank: the memories; see ``VortexGrad`` and ``hammer.vortex.presets``.
        weight_decay: L2 regularisation, added to the gradient before the memories, so that it is part of the quadratic.
        largest_eigenvalue: L, the largest curvature of the loss. Where it is given, a learning rate that is not below
            ``bank.max_stable_lr(L + weight_decay)`` is warned of once, with the number: at once, or when a schedule comes to it.
    """
    decay = number("weight_decay", weight_decay)
    before = [add_decayed_weights(decay)] if decay else []
    return chain(*before, bank(), _scale_by_lr(lr, bank, decay, largest_eigenvalue))


def _scale_by_lr(
    lr: float | Schedule, bank: VortexGrad, decay: float, largest_eigenvalue: float | None
) -> GradientTransform:
    """``scale_by_lr``, which warns of a rate that is not below the bound."""
    numbers, take = learning_rate(lr)
    warned = largest_eigenvalue is None
    if largest_eigenvalue is not None:
        curvature = number("largest_eigenvalue", largest_eigenvalue, "(0, inf)") + decay
        bound = bank.max_stable_lr(curvature)
        warned = warn_above(numbers["lr"], bound, curvature, stacklevel=5)

    def begin(state: dict) -> Callable:
        nonlocal warned
        rate = take(state)
        if not warned:
            warned = warn_above(rate, bound, curvature, stacklevel=5)
        return lambda g, p: g * -rate

    return leafwise(begin=begin, numbers=numbers)


def vortex_adamw(
    lr: float | Schedule = 1e-3,
    bank: VortexGrad = VortexGrad(),  # noqa: B008  (frozen)
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.01,
) -> GradientTransform:
    """AdamW on h instead of the gradient; both its moments are of h, and its decay is decoupled from the memories."""
    return chain(bank(), adamw(lr, betas, eps, weight_decay))


class VortexSGD(Optimizer):
    @made_by(vortex_sgd)
    def __init__(self) -> None: ...


class VortexAdamW(Optimizer):
    @made_by(vortex_adamw)
    def __init__(self) -> None: ...
