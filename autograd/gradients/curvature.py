"""L-BFGS: a direction from the last few changes of parameters and gradients.

Unlike the other links this one looks at all leaves together, as one vector. ``scale_by_lbfgs`` is the link; the functions on its
state serve ``optim.LBFGS`` too, which adds a line search. The state is of fixed size, so that it can be saved and loaded at any
time: the last ``memory`` pairs are rows of two matrices, written in turn.
"""

import math
from typing import Any

import numpy as np

from .. import backend
from .base import GradientTransform, Link
from .scaling import whole


def flatten(leaves: list, dtype: Any) -> Any:
    """All leaves as one vector; a leaf None is left out."""
    arrays = [x for x in leaves if x is not None]
    if not arrays:
        raise ValueError("L-BFGS: there are no parameters")
    xp = backend.xp(arrays[0])
    return xp.concat([xp.asarray(xp.reshape(x, (-1,)), dtype=dtype) for x in arrays])


def unflatten(vector: Any, leaves: list) -> list:
    """The parts of a vector in the shapes and dtypes of ``leaves``."""
    xp, parts, end = backend.xp(vector), [], 0
    for leaf in leaves:
        part = leaf
        if leaf is not None:
            begin, end = end, end + math.prod(leaf.shape)
            part = backend.scalar(xp.asarray(xp.reshape(vector[begin:end], leaf.shape), dtype=leaf.dtype))
        parts.append(part)
    return parts


def start(params: list, memory: int) -> dict[str, Any]:
    """The state before the first gradient."""
    first = next((p for p in params if p is not None), np.zeros(0))
    double = any("64" in str(p.dtype) for p in params if p is not None)
    xp = backend.xp(first)
    zeros = flatten([p if p is None else xp.zeros_like(p) for p in params], xp.float64 if double else xp.float32)
    return {
        "x": zeros, "g": xp.zeros_like(zeros), "s": xp.stack([zeros] * memory), "y": xp.stack([zeros] * memory),
        "curvature": [0.0] * memory, "pairs": 0, "scale": 1.0, "t": 0,
    }  # fmt: skip


def remember(state: dict[str, Any], x: Any, g: Any) -> None:
    """Take over a point and its gradient. The pair with the last point is kept if it shows curvature above rounding."""
    if state["t"]:
        s, y = x - state["x"], g - state["g"]
        curvature, square = float(s @ y), float(y @ y)
        if curvature > 2.2e-16 * square:  # as in L-BFGS-B (Byrd et al. 1995); false for NaN
            slot = state["pairs"] % len(state["curvature"])
            state["s"][slot, :], state["y"][slot, :] = s, y
            state["curvature"][slot] = curvature
            state["scale"] = curvature / square
            state["pairs"] += 1
    state["x"][...], state["g"][...] = x, g
    state["t"] += 1


def direction(state: dict[str, Any]) -> Any:
    """The inverse Hessian's estimate times the last gradient: two loops over the pairs (Nocedal & Wright 2006, algorithm 7.4).

    At the first point it is ``g · min(1, 1 / ‖g‖₁)``, as in Schmidt's minFunc and PyTorch.
    """
    q = state["g"] * 1.0
    if state["t"] == 1:
        size = float(backend.xp(q).sum(abs(q)))
        return q * min(1.0, 1.0 / size) if size else q
    memory = len(state["curvature"])
    slots = [k % memory for k in range(max(0, state["pairs"] - memory), state["pairs"])]
    factors = {}
    for slot in reversed(slots):
        factors[slot] = float(state["s"][slot, :] @ q) / state["curvature"][slot]
        q -= state["y"][slot, :] * factors[slot]
    q *= state["scale"]
    for slot in slots:
        q += state["s"][slot, :] * (factors[slot] - float(state["y"][slot, :] @ q) / state["curvature"][slot])
    return q


def with_zeros(grads: list, params: list) -> list:
    """The gradients, and zeros where a parameter has none."""
    return [
        backend.xp(p).zeros_like(p) if g is None and p is not None else g for g, p in zip(grads, params, strict=True)
    ]


class _LBFGS(Link):
    def __init__(self, memory: int):
        self.memory = memory

    def start(self, params: list, spec: Any) -> dict:
        return start(params, self.memory)

    def step(self, grads: list, state: Any, params: list, spec: Any, apply: bool = False) -> tuple[list, Any]:
        dtype = state["x"].dtype
        remember(state, flatten(params, dtype), flatten(with_zeros(grads, params), dtype))
        updates = unflatten(direction(state), params)
        return [None if g is None else u for g, u in zip(grads, updates, strict=True)], state


def scale_by_lbfgs(memory: int = 10) -> GradientTransform:
    """Multiply the gradient, of all leaves together, by L-BFGS's estimate of the inverse Hessian (Liu & Nocedal 1989).

    With ``scale_by_lr(1.0)`` after it this is L-BFGS with a fixed step, for gradients without noise; ``optim.LBFGS`` has a
    line search. All leaves belong to one array library and device. A leaf without gradient is not moved, and counts as having the gradient 0.

    State: ``2 · memory + 2`` arrays of the size of all parameters together (float64 if one of them is, else float32).
    """
    return _LBFGS(whole("memory", memory)).transform()
