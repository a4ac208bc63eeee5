"""Later first-order methods as chains: Lion, AdEMAMix, Lookahead around any chain, and the schedule-free ones."""

from ..gradients import (
    GradientTransform,
    add_decayed_weights,
    chain,
    scale_by_ademamix,
    scale_by_lion,
    scale_by_rms,
    schedule_free,
    slow_weights,
)
from ..gradients.scaling import Schedule
from .recipes import regularised, when


def lion(
    lr: float | Schedule = 1e-4, betas: tuple[float, float] = (0.9, 0.99), weight_decay: float = 0.0
) -> GradientTransform:
    """Lion, the sign of a momentum, with decoupled weight decay (Chen et al. 2023). Good rates are 3 to 10 times smaller than AdamW's."""
    return regularised(scale_by_lion(*betas), lr, weight_decay, decoupled=True)


def ademamix(
    lr: float | Schedule = 1e-3,
    betas: tuple[float, float, float] = (0.9, 0.999, 0.9999),
    alpha: float = 5.0,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    warmup: int | None = None,
) -> GradientTransform:
    """AdamW with a second, slow momentum (Pagliardini et al. 2024). ``warmup``: the steps over which it comes in; they take all of training."""
    return regularised(scale_by_ademamix(*betas, alpha, eps, warmup), lr, weight_decay, decoupled=True)


def lookahead(transform: GradientTransform, k: int = 5, alpha: float = 0.5) -> GradientTransform:
    """Lookahead around any chain: every k steps slow weights move the part ``alpha`` of the way, and the parameters go
    back to them (Zhang et al. 2019). Judge the model at the slow weights, inside ``Optimizer.evaluation()``."""
    return chain(transform, slow_weights(k, alpha))


def schedule_free_sgd(
    lr: float | Schedule = 1.0,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    warmup_steps: int = 0,
    r: float = 0.0,
    weight_lr_power: float = 2.0,
) -> GradientTransform:
    """SGD with averaging in place of a schedule (Defazio et al. 2024). Judge the model inside ``Optimizer.evaluation()``."""
    return chain(
        *when(weight_decay, add_decayed_weights(weight_decay)),
        schedule_free(lr, momentum, warmup_steps, r, weight_lr_power),
    )


def schedule_free_adamw(
    lr: float | Schedule = 2.5e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    warmup_steps: int = 0,
    r: float = 0.0,
    weight_lr_power: float = 2.0,
) -> GradientTransform:
    """AdamW with averaging in place of a schedule (Defazio et al. 2024). Judge the model inside ``Optimizer.evaluation()``."""
    return chain(
        scale_by_rms(betas[1], eps, corrected=True),
        *when(weight_decay, add_decayed_weights(weight_decay)),
        schedule_free(lr, betas[0], warmup_steps, r, weight_lr_power),
    )
