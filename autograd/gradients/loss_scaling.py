"""Dynamic loss scaling: float16's small gradients kept from becoming 0 (Micikevicius et al. 2018, section 3.2).

float16 has no numbers below 6e-8, and few below 6e-5. So the loss is multiplied by a large number, with which, the backward
pass being linear, all gradients are multiplied; the link ``unscale`` divides them again, in the float32 of the parameters,
before anything else looks at them. The number is as large as the gradients allow: it shrinks when they overflow, and
that step is called off; it grows after so many steps without.

    optimizer = Optimizer(model.parameters(), chain(unscale(), clip_by_global_norm(1.0), adamw(1e-3)))
    with autocast("fp16"):
        loss = loss_of(model(x), y)
    scale_loss(loss, optimizer.state).backward()
    optimizer.step()

bfloat16 has float32's range and needs none of this.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from .. import backend
from ..halves import is_half
from ..ops import astype
from .base import GradientTransform, Link
from .scaling import number
from .sparse import on_values, values

_LEAST = 2.0**-126  # gradients that overflow even so are NaN: no scale helps


class _Unscale(Link):
    may_skip = True
    undone = False  # whether gradients overflowed does not depend on what later links make of them

    def __init__(self, init_scale: float, growth: float, backoff: float, interval: int):
        self.init_scale, self.growth, self.backoff, self.interval = init_scale, growth, backoff, interval

    def start(self, params: list, spec: Any) -> dict:
        return {"loss_scale": self.init_scale, "good_steps": 0, "skips": 0}

    def step(self, grads: list, state: Any, params: list, spec: Any, apply: bool = False) -> tuple[list, Any]:
        scale = state["loss_scale"]
        if not all(_finite(g) for g in grads if g is not None):
            state["loss_scale"] = max(scale * self.backoff, _LEAST)
            state["good_steps"] = 0
            state["skips"] += 1
            return [None] * len(grads), state
        state["good_steps"] += 1
        if state["good_steps"] >= self.interval:
            state["loss_scale"], state["good_steps"] = scale * self.growth, 0
        return [g if g is None else on_values(lambda x: x * (1.0 / scale), g) for g in grads], state


def _finite(g: Any) -> bool:
    g = values(g)
    library = backend.xp(g)
    with np.errstate(over="ignore", invalid="ignore"):
        if math.isfinite(float(library.sum(g))):  # one fast pass; a sum of finite numbers may overflow as well
            return True
    return bool(library.all(library.isfinite(g)))


def unscale(
    init_scale: float = 2.0**16, growth: float = 2.0, backoff: float = 0.5, interval: int = 2000
) -> GradientTransform:
    """Divide gradients by the loss scale, and adapt it. Put it first in the chain: clipping must see true gradients.

    Args:
        init_scale: the first scale. Powers of two change no digits.
        growth: the factor, at least 1, after ``interval`` steps in a row without overflow.
        backoff: the factor, in (0, 1], after a step whose gradients hold an infinity or NaN. That step is called off: parameters,
            and the states of all other links, stay as they were.

    The state has ``"loss_scale"``, to multiply the next loss with (``scale_loss`` does), ``"good_steps"`` since it last
    changed, and ``"skips"``, the number of steps called off. If that goes up step after step, the gradients are not too
    large but NaN; look with ``AutogradContext(anomaly=True)``.
    """
    init_scale, backoff = number("init_scale", init_scale, "(0, inf)"), number("backoff", backoff, "(0, 1]")
    growth = number("growth", growth, "[1, inf)")
    if isinstance(interval, bool) or not isinstance(interval, (int, np.integer)) or interval < 1:
        raise ValueError(f"interval must be an integer of at least 1, not {interval!r}")
    return _Unscale(init_scale, growth, backoff, int(interval)).transform()


def loss_scale(state: Any) -> float:
    """The number to multiply the next loss with, from the state of a chain with ``unscale``; 1 if there is none in it.

    Raises:
        ValueError: groups of parameters (``partition``) with scales that differ; put one ``unscale`` before the partition.
    """
    found = set(_scales(state))
    if len(found) > 1:
        raise ValueError(
            f"loss_scale: the state holds several, {sorted(found)}; a loss has one scale, so put one unscale() first in the "
            "chain, before partition()"
        )
    return found.pop() if found else 1.0


def scale_loss(loss: Any, state: Any) -> Any:
    """The loss times ``loss_scale(state)``; in float32 if it is of half precision, in which the product would overflow."""
    scale = loss_scale(state)
    if scale == 1.0:
        return loss
    return (astype(loss, np.float32) if is_half(loss.dtype) else loss) * scale


def _scales(state: Any) -> Iterator[float]:
    if isinstance(state, dict) and "loss_scale" in state:
        yield float(state["loss_scale"])
    for part in state.values() if isinstance(state, dict) else state if isinstance(state, (list, tuple)) else ():
        if isinstance(part, (dict, list, tuple)):
            yield from _scales(part)
