"""The links that optimizers are made of: scaling, weight decay, momentum, second moments.

Every link is a kernel for one leaf (see ``base``): constants are Python floats, so float32 stays float32, and buffers are
changed in place by ``*=`` and ``+=``, which every array library has.
"""

import math
from collections.abc import Callable
from typing import Any

from .. import backend
from .base import GradientTransform, leafwise

Schedule = Callable[[int], float]


def number(name: str, value: Any, interval: str = "[0, inf)") -> float:
    """``value`` as a Python float inside an interval; otherwise an error that names the setting."""
    if isinstance(value, (bool, str)) or not hasattr(value, "__float__"):
        raise TypeError(f"{name} must be a number in {interval}, not {type(value).__name__} {value!r:.40}")
    x = float(value)
    low, high = map(float, interval[1:-1].split(","))
    if not ((low < x or (x == low and interval[0] == "[")) and (x < high or (x == high and interval[-1] == "]"))):
        raise ValueError(f"{name} must be in {interval}, not {value!r}")
    return x


def whole(name: str, value: Any, least: int = 1) -> int:
    """``value`` as an int of at least ``least``; otherwise an error that names the setting."""
    if isinstance(value, bool) or not hasattr(value, "__index__") or value.__index__() < least:
        raise ValueError(f"{name} must be a whole number, at least {least}, not {value!r}")
    return int(value)


def scale(factor: float) -> GradientTransform:
    """Multiply by a number."""
    f = number("factor", factor, "(-inf, inf)")
    return leafwise(lambda g, p: g * f)


def scale_by_lr(lr: float | Schedule) -> GradientTransform:
    """Multiply by minus the learning rate: what turns a direction of ascent into an update.

    Args:
        lr: a number, or a schedule: a function of the step, 0 at the first update.

    The state's ``"lr"`` is the learning rate of the next update. Set it between updates to change it: for good, or,
    with a schedule, for one update.
    """
    numbers, take = learning_rate(lr)

    def begin(state: dict) -> Callable:
        factor = -take(state)
        return lambda g, p: g * factor

    return leafwise(begin=begin, numbers=numbers)


def learning_rate(lr: float | Schedule) -> tuple[dict[str, Any], Callable[[dict], float]]:
    """For links that have a learning rate: the numbers that their state keeps of it, and a function that reads the rate of
    this update from the state and moves a schedule on."""
    if not callable(lr):
        return {"lr": number("lr", lr)}, lambda state: float(state["lr"])

    def take(state: dict) -> float:
        now = float(state["lr"])
        state["step"] += 1
        state["lr"] = number("the schedule's lr", lr(state["step"]))
        return now

    return {"lr": number("the schedule's lr", lr(0)), "step": 0}, take


def add_decayed_weights(weight_decay: float) -> GradientTransform:
    """Add ``weight_decay · p``: before the moments it is L2 regularisation, after them decoupled decay (Loshchilov & Hutter 2019)."""
    wd = number("weight_decay", weight_decay)
    return leafwise(lambda g, p: g + p * wd)


def trace(momentum: float, dampening: float = 0.0, nesterov: bool = False) -> GradientTransform:
    """Momentum: ``m ← momentum · m + (1 − dampening) · g``, where the first m is g itself, as in PyTorch.

    The update is m, or ``g + momentum · m`` with ``nesterov``, which needs momentum and no dampening.
    """
    mu, fresh = number("momentum", momentum), 1.0 - number("dampening", dampening)
    if nesterov and (mu == 0.0 or fresh != 1.0):
        raise ValueError(
            f"nesterov needs momentum above 0 and dampening 0, not momentum {momentum!r} and dampening {dampening!r}"
        )

    def kernel(g: Any, p: Any, t: int, m: Any) -> Any:
        if t == 1:
            m += g
        else:
            m *= mu
            m += g if fresh == 1.0 else g * fresh
        return g + m * mu if nesterov else backend.scalar(m)

    return leafwise(kernel, ("m",))


def scale_by_rms(
    decay: float = 0.99, eps: float = 1e-8, centered: bool = False, corrected: bool = False
) -> GradientTransform:
    """Divide by the running root mean square, ``g / (√v + eps)`` with ``v ← decay · v + (1 − decay) · g²`` (Hinton 2012).

    ``centered`` subtracts the square of the running mean from v: a running standard deviation (Graves 2013, eq. 38 to 45).
    ``corrected`` divides v by ``1 − decay^t``, as Adam does; not with ``centered``, whose first deviation would be 0.
    """
    a, e = number("decay", decay, "[0, 1)" if corrected else "[0, 1]"), number("eps", eps)
    if centered and corrected:
        raise ValueError("scale_by_rms: with both centered and corrected the first standard deviation is 0; choose one")

    def kernel(g: Any, p: Any, t: int, v: Any, mean: Any = None) -> Any:
        v *= a
        v += squared(g, 1 - a)
        if centered:
            mean *= a
            mean += g * (1 - a)
            root = sqrt(backend.xp(v).clip(v - mean * mean, 0.0, None))  # rounding can take it below 0
        else:
            root = sqrt(v)
        if corrected:
            root *= (1 - a**t) ** -0.5
        root += e
        return g / root

    return leafwise(kernel, ("v", "mean") if centered else ("v",))


def moments(g: Any, m: Any, v: Any, b1: float, b2: float) -> None:
    """``m ← b1 m + (1 − b1) g`` and ``v ← b2 v + (1 − b2) g²``, in place."""
    m *= b1
    m += g * (1 - b1)
    v *= b2
    v += squared(g, 1 - b2)


def scale_by_adam(b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8, amsgrad: bool = False) -> GradientTransform:
    """Adam's direction ``m̂ / (√v̂ + eps)`` with bias-corrected moments (Kingma & Ba 2015, algorithm 1).

    ``amsgrad`` uses the largest v so far, then corrects it for bias, as PyTorch does (Reddi et al. 2018, without their
    omission of the correction).
    """
    b1, b2, eps = number("b1", b1, "[0, 1)"), number("b2", b2, "[0, 1)"), number("eps", eps)

    def kernel(g: Any, p: Any, t: int, m: Any, v: Any, largest: Any = None) -> Any:
        moments(g, m, v, b1, b2)
        if amsgrad:
            largest[...] = backend.xp(v).maximum(largest, v)
        c1 = 1 - b1**t
        root = sqrt(largest if amsgrad else v)
        root *= c1 / math.sqrt(1 - b2**t)  # m̂ / (√v̂ + eps) with one division by an array and none by a number
        root += eps * c1
        return m / root

    return leafwise(kernel, ("m", "v", "largest") if amsgrad else ("m", "v"))


def squared(g: Any, weight: float) -> Any:
    square = g * g
    square *= weight
    return square


def sqrt(x: Any) -> Any:
    return backend.xp(x).sqrt(x)
