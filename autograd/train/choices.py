"""What ``Trainer`` takes for a loss, an optimizer and a model, made into the things themselves."""

from collections.abc import Callable
from typing import Any

from .. import optim
from ..errors import unknown
from ..gradients import GradientTransform
from ..nn import Module, losses
from ..optim import Optimizer
from .state import Function

LOSSES: dict[str, Callable[..., Any]] = {
    "cross_entropy": losses.cross_entropy, "nll": losses.nll_loss, "mse": losses.mse_loss, "l1": losses.l1_loss,
    "huber": losses.huber_loss, "smooth_l1": losses.smooth_l1_loss, "bce": losses.binary_cross_entropy,
    "bce_with_logits": losses.binary_cross_entropy_with_logits,
}  # fmt: skip
"""Losses by the names that ``Trainer`` and configs know: functions ``loss(prediction, target) -> mean over the batch``."""
RECIPES: dict[str, Callable[..., GradientTransform]] = {
    "sgd": optim.sgd, "rmsprop": optim.rmsprop, "adam": optim.adam, "adamw": optim.adamw,
    "nadam": optim.nadam, "radam": optim.radam, "adamax": optim.adamax, "adagrad": optim.adagrad, "adadelta": optim.adadelta,
    "lion": optim.lion, "ademamix": optim.ademamix, "muon": optim.muon, "shampoo": optim.shampoo, "soap": optim.soap,
}  # fmt: skip
"""Optimizers by name."""


def named(kind: str, name: str, known: dict[str, Any]) -> Any:
    if name not in known:
        raise ValueError(unknown(kind, name, known))
    return known[name]


def model_and_optimizer(model: Any, optimizer: Any, lr: Any) -> tuple[Module, Optimizer]:
    if not callable(model):
        raise TypeError(f"Trainer: the model must be a Module or a function, not {type(model).__name__}")
    if isinstance(optimizer, Optimizer):
        return model if isinstance(model, Module) else Function(model, optimizer.params), optimizer
    if not isinstance(model, Module):
        raise TypeError(
            "Trainer: a model that is a function needs an Optimizer, which has its parameters: AdamW([w, b], lr=1e-3)"
        )
    if isinstance(optimizer, str):
        optimizer = named("optimizer", optimizer, RECIPES)(lr)
    if not isinstance(optimizer, GradientTransform):
        raise TypeError(
            f"Trainer: the optimizer must be an Optimizer, a gradient transform such as adamw(1e-3), or one of "
            f"{', '.join(RECIPES)}, not {type(optimizer).__name__} {optimizer!r:.60}"
        )
    return model, Optimizer([p for p in model.parameters() if p.requires_grad], optimizer)
