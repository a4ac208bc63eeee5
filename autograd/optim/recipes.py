"""The classic methods as chains of gradient transforms, step for step those of PyTorch 2.

``lr`` is a number or a schedule (``schedules``); the state keeps the current one under ``"lr"``. Later methods are in
``modern``, those that see matrices or curvature in ``second_order``.
"""

from ..gradients import (
    GradientTransform,
    add_decayed_weights,
    chain,
    scale_by_adadelta,
    scale_by_adagrad,
    scale_by_adam,
    scale_by_adamax,
    scale_by_lr,
    scale_by_nadam,
    scale_by_radam,
    scale_by_rms,
    trace,
)
from ..gradients.scaling import Schedule


def when(wanted: object, *link: GradientTransform) -> tuple[GradientTransform, ...]:
    return link if wanted else ()


def regularised(
    direction: GradientTransform, lr: float | Schedule, weight_decay: float, decoupled: bool = False
) -> GradientTransform:
    """A direction, weight decay (before it as L2 regularisation, after it decoupled) and the learning rate."""
    decay = when(weight_decay, add_decayed_weights(weight_decay))
    return chain(direction, *decay, scale_by_lr(lr)) if decoupled else chain(*decay, direction, scale_by_lr(lr))


def sgd(
    lr: float | Schedule = 1e-3,
    momentum: float = 0.0,
    dampening: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
) -> GradientTransform:
    """Stochastic gradient descent with momentum (Sutskever et al. 2013, in PyTorch's form) and L2 regularisation.

    ``momentum`` alone is the heavy ball (Polyak 1964); with ``nesterov`` it is Nesterov's accelerated gradient (1983).
    """
    return chain(
        *when(weight_decay, add_decayed_weights(weight_decay)),
        *when(momentum or nesterov, trace(momentum, dampening, nesterov)),
        scale_by_lr(lr),
    )


def rmsprop(
    lr: float | Schedule = 1e-2,
    alpha: float = 0.99,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    momentum: float = 0.0,
    centered: bool = False,
) -> GradientTransform:
    """RMSprop (Hinton 2012), centered if wanted (Graves 2013), with momentum on the scaled gradient."""
    return chain(
        *when(weight_decay, add_decayed_weights(weight_decay)),
        scale_by_rms(alpha, eps, centered),
        *when(momentum, trace(momentum)),
        scale_by_lr(lr),
    )


def adam(
    lr: float | Schedule = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    amsgrad: bool = False,
) -> GradientTransform:
    """Adam (Kingma & Ba 2015); weight decay is L2 regularisation, added before the moments."""
    return regularised(scale_by_adam(*betas, eps, amsgrad), lr, weight_decay)


def adamw(
    lr: float | Schedule = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.01,
    amsgrad: bool = False,
) -> GradientTransform:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019): each step also shrinks p by ``lr · weight_decay · p``."""
    return regularised(scale_by_adam(*betas, eps, amsgrad), lr, weight_decay, decoupled=True)


def nadam(
    lr: float | Schedule = 2e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    momentum_decay: float = 4e-3,
    decoupled_weight_decay: bool = False,
) -> GradientTransform:
    """Adam with Nesterov's momentum (Dozat 2016)."""
    return regularised(scale_by_nadam(*betas, eps, momentum_decay), lr, weight_decay, decoupled_weight_decay)


def radam(
    lr: float | Schedule = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled_weight_decay: bool = False,
) -> GradientTransform:
    """Adam with its variance rectified, which makes warm-up unnecessary (Liu et al. 2020)."""
    return regularised(scale_by_radam(*betas, eps), lr, weight_decay, decoupled_weight_decay)


def adamax(
    lr: float | Schedule = 2e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> GradientTransform:
    """Adam with the infinity norm (Kingma & Ba 2015, section 7.1)."""
    return regularised(scale_by_adamax(*betas, eps), lr, weight_decay)


def adagrad(
    lr: float | Schedule = 1e-2,
    lr_decay: float = 0.0,
    weight_decay: float = 0.0,
    initial_accumulator_value: float = 0.0,
    eps: float = 1e-10,
) -> GradientTransform:
    """Adagrad, diagonal (Duchi et al. 2011)."""
    return regularised(scale_by_adagrad(lr_decay, initial_accumulator_value, eps), lr, weight_decay)


def adadelta(
    lr: float | Schedule = 1.0, rho: float = 0.9, eps: float = 1e-6, weight_decay: float = 0.0
) -> GradientTransform:
    """Adadelta (Zeiler 2012)."""
    return regularised(scale_by_adadelta(rho, eps), lr, weight_decay)
