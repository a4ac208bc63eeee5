"""Links that limit gradients, and what happens when a gradient is not finite.

``clip_by_global_norm`` scales all gradients by one factor, ``clip_by_parameter_norm`` each parameter's by its own,
``clip_by_value`` bounds every element, ``clip_adaptively`` bounds each unit's gradient by the size of its weights. All
keep the norm before clipping in their state, under ``"norm"``, and take a policy for norms that are not finite:

* ``nonfinite="keep"``: the gradients pass as they are, and whoever reads the state's norm can see it;
* ``nonfinite="skip"``: no update this step, parameters and the states of all other links stay as they were (see
  ``base``), and the state's ``"skips"`` goes up by one;
* ``nonfinite="raise"``: a FloatingPointError that names the gradient. Links before this one have seen the step then.

``clip_grad_norm_`` is for loops that have no chain.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from .. import backend
from ..lazy import gradients
from ..tensor import DiffTensor
from .base import GradientTransform, Link
from .scaling import number
from .sparse import RowSparse, on_values, take_rows, values

POLICIES = ("keep", "skip", "raise")


def global_norm(leaves: Iterable[Any], norm_type: float = 2.0) -> float:
    """The norm of all arrays together, as if they were one vector; None counts nothing.

    Args:
        leaves: arrays of any supported library, sparse gradients, or None.
        norm_type: 1, 2 or ``math.inf``.

    Squares are summed in double precision over blocks of 4,096 elements (NumPy), so the result is good to about 1e-6 for
    float32 arrays of any length, and the same for any number of BLAS threads. Where squares overflow or vanish, the
    arrays are scaled first. Magnitudes (norm 1) are summed in double precision throughout.
    """
    arrays = [values(g) for g in leaves if g is not None]
    own = getattr(backend.xp(arrays[0]), "global_norm", None) if arrays else None
    if own is not None:  # arrays that are traced know it as one operation
        return own(arrays, norm_type)  # type: ignore[no-any-return]
    if norm_type != 2.0:
        _checked_type(norm_type)
        parts = [_sum_of_magnitudes(g) if norm_type == 1.0 else _largest(g) for g in arrays]
        return sum(parts) if norm_type == 1.0 else math.nan if any(map(math.isnan, parts)) else max(parts, default=0.0)
    total = sum(map(_sum_of_squares, arrays))
    if 1e-30 < total < math.inf or math.isnan(total) or not arrays:
        return math.sqrt(total)
    largest = max(map(_largest, arrays))
    if largest == 0.0 or math.isinf(largest):
        return largest
    return largest * math.sqrt(sum(_sum_of_squares(g / largest) for g in arrays))


def _checked_type(norm_type: Any) -> float:
    if isinstance(norm_type, bool) or norm_type not in (1, 2, math.inf):
        raise ValueError(f"norm_type must be 1, 2 or math.inf, not {norm_type!r}")
    return float(norm_type)


def _largest(g: Any) -> float:
    return float(backend.xp(g).max(abs(g))) if math.prod(g.shape) else 0.0


def _sum_of_magnitudes(g: Any) -> float:
    library = backend.xp(g)
    return float(library.sum(abs(g), dtype=library.float64))


def _sum_of_squares(g: Any) -> float:
    g = _widened(g)
    with np.errstate(over="ignore"):  # global_norm looks at the result
        if type(g) is not np.ndarray:
            return float(backend.xp(g).sum(g * g))
        flat = g.reshape(-1)
        return sum(float(np.dot(part, part)) for part in (flat[a : a + 4096] for a in range(0, flat.size, 4096)))


def _widened(g: Any) -> Any:
    return backend.xp(g).astype(g, backend.xp(g).float32) if "16" in str(g.dtype) else g


class _Clip(Link):
    """Measures, sees to norms that are not finite, then limits."""

    undone = False  # what it keeps is a report

    def __init__(self, nonfinite: str, measure: Callable[[list], Any], limit: Callable[[list, Any, list], list]):
        if nonfinite not in POLICIES:
            raise ValueError(f"nonfinite must be one of {', '.join(map(repr, POLICIES))}, not {nonfinite!r}")
        self.policy, self.measure, self.limit = nonfinite, measure, limit
        self.may_skip = nonfinite == "skip"

    def start(self, params: list, spec: Any) -> dict:
        norm = self.measure([None] * len(params))
        return {"norm": norm, "skips": 0}

    def step(self, grads: list, state: Any, params: list, spec: Any, apply: bool = False) -> tuple[list, Any]:
        state["norm"] = norm = self.measure(grads)
        if self.policy != "keep" and not all(map(math.isfinite, norm if isinstance(norm, list) else (norm,))):
            if self.policy == "skip":
                state["skips"] += 1
                return [None] * len(grads), state
            raise FloatingPointError(_not_finite(grads, params))
        return self.limit(grads, norm, params), state


def _not_finite(grads: list, params: list) -> str:
    bad = [i for i, g in enumerate(grads) if g is not None and not math.isfinite(global_norm([g]))]
    if not bad:
        return "clip: every gradient is finite, but their common norm is beyond the largest float"
    kinds = f"NaN or infinity in the gradient of leaf {bad[0]}, of shape {tuple(params[bad[0]].shape)}"
    return (
        f"clip: {kinds} ({len(bad)} of {len(grads)} leaves); AutogradContext(anomaly=True) finds the operation, "
        'nonfinite="skip" leaves such steps out'
    )


def _factor(norm: Any, bound: float) -> Any:
    """What brings a norm down to its bound; None where there is nothing to do: it is below, or not finite."""
    if isinstance(norm, float | int):
        return bound / norm if bound < norm < math.inf else None
    return backend.xp(norm).where((norm > bound) & (norm < math.inf), bound / norm, 1.0)  # known when a graph runs


def _scaled(g: Any, factor: Any) -> Any:
    return g if g is None or factor is None else g * factor


def clip_by_global_norm(max_norm: float, norm_type: float = 2.0, nonfinite: str = "keep") -> GradientTransform:
    """Scale all gradients by one factor so that their common norm is at most ``max_norm`` (Pascanu et al. 2013).

    Args:
        max_norm: the bound.
        norm_type: 2, 1 or ``math.inf``, as in ``global_norm``.
        nonfinite: "keep", "skip" or "raise"; see the module.

    The state's ``"norm"`` is the norm before clipping. Where it is not finite, and kept, the gradients stay as they are.
    """
    bound, kind = number("max_norm", max_norm), _checked_type(norm_type)
    return _Clip(
        nonfinite,
        lambda grads: global_norm(grads, kind),
        lambda grads, norm, params: [_scaled(g, factor) for factor in (_factor(norm, bound),) for g in grads],
    ).transform()


def clip_by_parameter_norm(max_norm: float, norm_type: float = 2.0, nonfinite: str = "keep") -> GradientTransform:
    """Scale each parameter's gradient by a factor of its own so that its norm is at most ``max_norm``.

    The arguments are those of ``clip_by_global_norm``; the state's ``"norm"`` is a list with the norm of each gradient (0
    where there is none).
    """
    bound, kind = number("max_norm", max_norm), _checked_type(norm_type)
    return _Clip(
        nonfinite,
        lambda grads: [global_norm([g], kind) for g in grads],
        lambda grads, norms, params: [_scaled(g, _factor(norm, bound)) for g, norm in zip(grads, norms, strict=True)],
    ).transform()


def clip_by_value(limit: float, nonfinite: str = "keep") -> GradientTransform:
    """Bring every element into [−limit, limit]. The state's ``"norm"`` is the largest magnitude before (the norm of order inf).

    With ``nonfinite="keep"`` an infinity becomes ±limit, and NaN stays NaN.
    """
    bound = number("limit", limit)
    return _Clip(
        nonfinite,
        lambda grads: global_norm(grads, math.inf),
        lambda grads, norm, params: [
            g if g is None else on_values(lambda x: backend.xp(x).clip(x, -bound, bound), g) for g in grads
        ],
    ).transform()


def clip_adaptively(clipping: float = 0.01, eps: float = 1e-3, nonfinite: str = "keep") -> GradientTransform:
    """Adaptive gradient clipping: the gradient of a unit has at most ``clipping`` times the norm of the unit's weights.

    From Brock, De, Smith & Simonyan 2021 (High-performance large-scale image recognition without normalization, eq. 3):
    ``g_u ← clipping · max(‖w_u‖, eps) / ‖g_u‖ · g_u`` wherever ‖g_u‖ is above that. A unit is a row of a weight, all that
    feeds one output: everything but the first axis. What has fewer than two axes is one unit.

    Args:
        clipping: the largest ratio of the norms.
        eps: the least norm that weights are taken to have, so that those that start at zero can move.
        nonfinite: "keep", "skip" or "raise"; see the module.

    The state's ``"norm"`` is a list with the L2 norm of each gradient before clipping (0 where there is none). The paper
    leaves the last layer's weights unclipped: use ``partition`` for that.
    """
    ratio, least = number("clipping", clipping), number("eps", eps, "(0, inf)")

    def limit(grads: list, norms: Any, params: list) -> list:
        return [g if g is None else _adapted(g, p, ratio, least) for g, p in zip(grads, params, strict=True)]

    return _Clip(nonfinite, lambda grads: [global_norm([g]) for g in grads], limit).transform()


def _adapted(g: Any, p: Any, ratio: float, least: float) -> Any:
    if type(g) is RowSparse:
        weights = take_rows(p, g.indices) if p.ndim > 1 else p
        return g.map(lambda rows: _adapted(rows, weights, ratio, least))
    library = backend.xp(g)
    bound = library.clip(_unit_norms(p), least, None) * ratio
    norm = _unit_norms(g)
    over = (norm > bound) & library.isfinite(norm)
    if not library.any(over):
        return g
    factor = library.where(over, bound / library.where(over, norm, library.ones_like(norm)), library.ones_like(norm))
    return g * backend.scalar(library.astype(factor, g.dtype))


def _unit_norms(x: Any) -> Any:
    """The L2 norm of each row, with axes of length 1 for the others; of what has fewer than two axes, the norm of it all."""
    x = _widened(x)
    library, axes, keep = backend.xp(x), tuple(range(1, x.ndim)) if x.ndim > 1 else None, x.ndim > 1
    if not math.prod(x.shape):
        return library.sum(x, axis=axes, keepdims=keep)
    largest = library.max(abs(x), axis=axes, keepdims=keep)
    unit = library.where((largest > 0) & library.isfinite(largest), largest, library.ones_like(largest))
    x = x / unit  # squares neither overflow nor vanish
    return library.sqrt(library.sum(x * x, axis=axes, keepdims=keep)) * unit


def clip_grad_norm_(
    parameters: Iterable[DiffTensor] | DiffTensor, max_norm: float, norm_type: float = 2.0, nonfinite: str = "keep"
) -> float:
    """Scale the ``.grad`` of all parameters by one factor so that their common norm is at most ``max_norm``.

    For loops that clip between ``backward()`` and ``step()``, as PyTorch's function of that name does; an optimizer
    whose chain begins with ``clip_by_global_norm`` needs it not.

    Args:
        parameters: tensors, of which those without a gradient are passed over.
        max_norm, norm_type: as in ``clip_by_global_norm``.
        nonfinite: where the norm is not finite: "keep" the gradients, "skip" the step (every ``.grad`` becomes None, so
            ``step()`` does nothing), or "raise" a FloatingPointError.

    Returns:
        The norm before clipping; 0 if no parameter has a gradient.
    """
    tensors = [parameters] if isinstance(parameters, DiffTensor) else list(parameters)
    tensors = [p for p, g in zip(tensors, gradients(tensors), strict=True) if g is not None]
    rule = clip_by_global_norm(max_norm, norm_type, nonfinite)
    given, values = [p.grad for p in tensors], [p.raw for p in tensors]
    updates, state = rule.update(given, rule.init(values), values)
    for p, old, new in zip(tensors, given, updates, strict=True):
        if new is not old:
            p.grad = new
    return float(state["norm"])
