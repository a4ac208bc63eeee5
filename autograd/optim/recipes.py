"""The baselines as chains of gradient transforms, step for step those of PyTorch 2.

``lr`` is a number or a schedule (``schedules``); the state keeps the current one under ``"lr"``.
"""

from ..gradients import GradientTransform, add_decayed_weights, chain, scale_by_adam, scale_by_lr, scale_by_rms, trace
from ..gradients.scaling import Schedule


def _when(wanted: object, *link: GradientTransform) -> tuple[GradientTransform, ...]:
    return link if wanted else ()


def sgd(
    lr: float | Schedule,
    momentum: float = 0.0,
    dampening: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
) -> GradientTransform:
    """Stochastic gradient descent with momentum (Sutskever et al. 2013, in PyTorch's form) and L2 regularisation."""
    return chain(
        *_when(weight_decay, add_decayed_weights(weight_decay)),
        *_when(momentum or nesterov, trace(momentum, dampening, nesterov)),
        scale_by_lr(lr),
    )


def rmsprop(
    lr: float | Schedule,
    alpha: float = 0.99,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    momentum: float = 0.0,
    centered: bool = False,
) -> GradientTransform:
    """RMSprop (Hinton 2012), centered if wanted (Graves 2013), with momentum on the scaled gradient."""
    return chain(
        *_when(weight_decay, add_decayed_weights(weight_decay)),
        scale_by_rms(alpha, eps, centered),
        *_when(momentum, trace(momentum)),
        scale_by_lr(lr),
    )


def adam(
    lr: float | Schedule,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    amsgrad: bool = False,
) -> GradientTransform:
    """Adam (Kingma & Ba 2015); weight decay is L2 regularisation, added before the moments."""
    return chain(
        *_when(weight_decay, add_decayed_weights(weight_decay)), scale_by_adam(*betas, eps, amsgrad), scale_by_lr(lr)
    )


def adamw(
    lr: float | Schedule,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.01,
    amsgrad: bool = False,
) -> GradientTransform:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019): each step also shrinks p by ``lr · weight_decay · p``."""
    return chain(
        scale_by_adam(*betas, eps, amsgrad), *_when(weight_decay, add_decayed_weights(weight_decay)), scale_by_lr(lr)
    )
