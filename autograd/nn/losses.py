"""Losses, as functions and as modules. Names, arguments and conventions are PyTorch's.

Each takes an input and a target and reduces the losses of all positions by ``reduction``: "mean" (the default), "sum" or
"none". They are stable at extreme inputs: values and gradients are finite wherever the exact ones are.
"""

from typing import Any

from .. import backend, ops
from ..ops.nn import check_places
from ..shapes import shape_of
from ..tensor import DiffTensor
from .module import Module

REDUCTIONS = ("mean", "sum", "none")


def _reduced(losses: Any, reduction: str) -> Any:
    if reduction == "mean":
        return ops.mean(losses)
    if reduction == "sum":
        return ops.sum(losses)
    if reduction == "none":
        return losses
    raise ValueError(f"reduction {reduction!r} is not known; it may be {', '.join(REDUCTIONS)}")


def _same_shape(name: str, x: Any, target: Any) -> Any:
    """The target, as an array; of the input's shape: broadcasting here is nearly always a mistake."""
    target = target if hasattr(target, "dtype") else backend.asarray(target)
    if shape_of(x) != shape_of(target):
        raise ValueError(
            f"{name}: input {shape_of(x)} and target {shape_of(target)} differ in shape; reshape one of them"
        )
    return target


def _difference(name: str, x: Any, target: Any) -> Any:
    return ops.subtract(x, _same_shape(name, x, target))


def mse_loss(x: Any, target: Any, reduction: str = "mean") -> Any:
    """(x - target)²."""
    return _reduced(ops.square(_difference("mse_loss", x, target)), reduction)


def l1_loss(x: Any, target: Any, reduction: str = "mean") -> Any:
    """|x - target|; derivative 0 at 0."""
    return _reduced(ops.abs(_difference("l1_loss", x, target)), reduction)


def _huber(d: Any, delta: float) -> Any:
    near = ops.clip(d, low=-delta, high=delta)
    return near * (d - 0.5 * near)  # d²/2 inside, ±delta (d ∓ delta/2) outside, and no square that could overflow


def huber_loss(x: Any, target: Any, reduction: str = "mean", delta: float = 1.0) -> Any:
    """With d = x - target: d²/2 where |d| ≤ delta, else delta (|d| - delta/2) (Huber 1964)."""
    if not delta > 0:
        raise ValueError(f"huber_loss: delta must be positive, not {delta}")
    return _reduced(_huber(_difference("huber_loss", x, target), delta), reduction)


def smooth_l1_loss(x: Any, target: Any, reduction: str = "mean", beta: float = 1.0) -> Any:
    """With d = x - target: d²/(2 beta) where |d| < beta, else |d| - beta/2 (Girshick 2015). beta = 0 is l1_loss."""
    if not beta >= 0:
        raise ValueError(f"smooth_l1_loss: beta must not be negative, and is {beta}")
    if beta == 0:
        return l1_loss(x, target, reduction)
    return _reduced(_huber(_difference("smooth_l1_loss", x, target), beta) * (1.0 / beta), reduction)


def _weighted_mean(losses: Any, target: Any, weight: Any) -> Any:
    """PyTorch's: divided by the sum of the targets' weights, not by their number."""
    return ops.divide(ops.sum(losses), ops.sum(ops.take(weight, target, axis=0)))


def nll_loss(log_probabilities: Any, target: Any, weight: Any = None, reduction: str = "mean") -> Any:
    """-log p of the target class; with a weight for each class, times that, and the mean is the weighted one.

    Args:
        log_probabilities: (N, C), (N, C, d1, ...) or (C,).
        target: integers from 0 to C - 1, of that shape without the axis of the C classes.
        weight: (C,) or None.
    """
    axis, n = _class_axis("nll_loss", log_probabilities, weight)
    target = target if hasattr(target, "dtype") else backend.asarray(target)
    wanted = shape_of(log_probabilities)[:axis] + shape_of(log_probabilities)[axis + 1 :]
    if shape_of(target) != wanted:
        raise ValueError(
            f"nll_loss: input {shape_of(log_probabilities)} and target {shape_of(target)} do not fit; the target needs {wanted}"
        )
    check_places("nll_loss", target, n, "classes")
    picked = ops.take_along_axis(log_probabilities, ops.expand_dims(target, axis=axis), axis=axis)
    losses = -ops.squeeze(picked, axis=axis)
    if weight is None:
        return _reduced(losses, reduction)
    losses = ops.multiply(losses, ops.take(weight, target, axis=0))
    return _weighted_mean(losses, target, weight) if reduction == "mean" else _reduced(losses, reduction)


def _class_axis(name: str, x: Any, weight: Any) -> tuple[int, int]:
    if not shape_of(x):
        raise ValueError(f"{name}: the input needs an axis of classes")
    axis = 1 if len(shape_of(x)) > 1 else 0
    n = shape_of(x)[axis]
    if weight is not None and shape_of(weight) != (n,):
        raise ValueError(
            f"{name}: the weight has shape {shape_of(weight)}, the {n} classes of input {shape_of(x)} need ({n},)"
        )
    return axis, n


def cross_entropy(
    logits: Any,
    target: Any,
    weight: Any = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    axis: int | None = None,
) -> Any:
    """-Σ q log softmax(logits): see ``autograd.ops.cross_entropy``. With a weight and integer targets the mean is weighted."""
    target = target if hasattr(target, "dtype") else backend.asarray(target)
    losses = ops.cross_entropy(logits, target, weight, axis=axis, label_smoothing=label_smoothing)
    if reduction == "mean" and weight is not None and not backend.is_inexact(target.dtype):
        return _weighted_mean(losses, target, weight)
    return _reduced(losses, reduction)


def binary_cross_entropy(p: Any, target: Any, reduction: str = "mean") -> Any:
    """-target log p - (1 - target) log(1 - p), for probabilities p; logarithms are not taken below -100."""
    return _reduced(ops.binary_cross_entropy(p, _same_shape("binary_cross_entropy", p, target)), reduction)


def binary_cross_entropy_with_logits(logits: Any, target: Any, reduction: str = "mean", pos_weight: Any = None) -> Any:
    """The binary cross-entropy of sigmoid(logits); ``pos_weight`` multiplies the positive part and broadcasts."""
    target = _same_shape("binary_cross_entropy_with_logits", logits, target)
    return _reduced(ops.binary_cross_entropy_with_logits(logits, target, pos_weight), reduction)


# ---- the same as modules ----


class _Loss(Module):
    """A loss as a module; ``reduction`` is "mean", "sum" or "none"."""

    def __init__(self, reduction: str = "mean"):
        super().__init__()
        if reduction not in REDUCTIONS:
            raise ValueError(
                f"{type(self).__name__}: reduction {reduction!r} is not known; it may be {', '.join(REDUCTIONS)}"
            )
        self.reduction = reduction

    def extra_repr(self) -> str:
        return f"reduction={self.reduction!r}"


class MSELoss(_Loss):
    """The squared error; see ``mse_loss``."""

    def forward(self, x: Any, target: Any) -> Any:
        return mse_loss(x, target, self.reduction)


class L1Loss(_Loss):
    """The absolute error; see ``l1_loss``."""

    def forward(self, x: Any, target: Any) -> Any:
        return l1_loss(x, target, self.reduction)


class SmoothL1Loss(_Loss):
    """The squared error near 0, the absolute error from ``beta`` on; see ``smooth_l1_loss``."""

    def __init__(self, reduction: str = "mean", beta: float = 1.0):
        super().__init__(reduction)
        self.beta = beta

    def forward(self, x: Any, target: Any) -> Any:
        return smooth_l1_loss(x, target, self.reduction, self.beta)


class HuberLoss(_Loss):
    """Huber's loss; see ``huber_loss``."""

    def __init__(self, reduction: str = "mean", delta: float = 1.0):
        super().__init__(reduction)
        self.delta = delta

    def forward(self, x: Any, target: Any) -> Any:
        return huber_loss(x, target, self.reduction, self.delta)


class NLLLoss(_Loss):
    """The negative log likelihood of log probabilities (after LogSoftmax); see ``nll_loss``."""

    weight: DiffTensor | None

    def __init__(self, weight: Any = None, reduction: str = "mean"):
        super().__init__(reduction)
        self.register_buffer("weight", weight)

    def forward(self, log_probabilities: Any, target: Any) -> Any:
        return nll_loss(log_probabilities, target, self.weight, self.reduction)


ClassNLLLoss = NLLLoss


class CrossEntropyLoss(_Loss):
    """The cross-entropy of logits; see ``cross_entropy``."""

    weight: DiffTensor | None

    def __init__(self, weight: Any = None, reduction: str = "mean", label_smoothing: float = 0.0):
        super().__init__(reduction)
        self.register_buffer("weight", weight)
        self.label_smoothing = label_smoothing

    def forward(self, logits: Any, target: Any) -> Any:
        return cross_entropy(logits, target, self.weight, self.reduction, self.label_smoothing)


class BCELoss(_Loss):
    """The binary cross-entropy of probabilities; see ``binary_cross_entropy``."""

    def forward(self, p: Any, target: Any) -> Any:
        return binary_cross_entropy(p, target, self.reduction)


class BCEWithLogitsLoss(_Loss):
    """The binary cross-entropy of logits; see ``binary_cross_entropy_with_logits``."""

    pos_weight: DiffTensor | None

    def __init__(self, reduction: str = "mean", pos_weight: Any = None):
        super().__init__(reduction)
        self.register_buffer("pos_weight", pos_weight)

    def forward(self, logits: Any, target: Any) -> Any:
        return binary_cross_entropy_with_logits(logits, target, self.reduction, self.pos_weight)
