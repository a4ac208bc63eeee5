"""Links that limit gradients. The global norm is of the whole tree, so it comes before anything leaf by leaf can go on."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from .. import backend
from .base import GradientTransform, Link, leafwise
from .scaling import number


def clip_by_value(limit: float) -> GradientTransform:
    """Bring every element into [−limit, limit]."""
    bound = number("limit", limit)
    return leafwise(lambda g, p: backend.xp(g).clip(g, -bound, bound))


def global_norm(leaves: Iterable[Any]) -> float:
    """The L2 norm of all arrays together, as if they were one vector; None counts nothing.

    Squares are summed in double precision over blocks of 4,096 elements (NumPy), so the result is good to about 1e-6 for
    float32 arrays of any length, and the same for any number of BLAS threads. Where squares overflow or vanish, the
    arrays are scaled first.
    """
    arrays = [g for g in leaves if g is not None]
    total = sum(map(_sum_of_squares, arrays))
    if 1e-30 < total < math.inf or math.isnan(total) or not arrays:
        return math.sqrt(total)
    largest = max((float(backend.xp(g).max(abs(g))) for g in arrays if math.prod(g.shape)), default=0.0)
    if largest == 0.0 or math.isinf(largest):
        return largest
    return largest * math.sqrt(sum(_sum_of_squares(g / largest) for g in arrays))


def _sum_of_squares(g: Any) -> float:
    if "16" in str(g.dtype):
        g = backend.xp(g).astype(g, backend.xp(g).float32)
    with np.errstate(over="ignore"):  # global_norm looks at the result
        if type(g) is not np.ndarray:
            return float(backend.xp(g).sum(g * g))
        flat = g.reshape(-1)
        return sum(float(np.dot(part, part)) for part in (flat[a : a + 4096] for a in range(0, flat.size, 4096)))


class _ClipByGlobalNorm(Link):
    def __init__(self, max_norm: float):
        self.max_norm = max_norm

    def start(self, params: list, spec: Any) -> dict:
        return {"norm": 0.0}

    def step(self, grads: list, state: Any, params: list, spec: Any, apply: bool = False) -> tuple[list, Any]:
        state["norm"] = norm = global_norm(grads)
        if self.max_norm < norm < math.inf:
            factor = self.max_norm / norm
            grads = [g if g is None else g * factor for g in grads]
        return grads, state


def clip_by_global_norm(max_norm: float) -> GradientTransform:
    """Scale all gradients by one factor so that their common L2 norm is at most ``max_norm`` (Pascanu et al. 2013).

    The state's ``"norm"`` is the norm before clipping. Where it is not finite, the gradients stay as they are.
    """
    return _ClipByGlobalNorm(number("max_norm", max_norm)).transform()
