"""Directions beyond Adam's: each a kernel for one leaf, as in ``scaling``, which has what they share.

``t`` counts the updates of a leaf, 1 at the first; g is its gradient. Products, powers and roots of arrays are by element.
"""

import math
from collections.abc import Callable
from typing import Any

from .. import backend
from .base import GradientTransform, leafwise
from .scaling import moments, number, sqrt, squared, whole


def scale_by_nadam(
    b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8, momentum_decay: float = 4e-3
) -> GradientTransform:
    """Adam with Nesterov's momentum and a momentum that rises to b1 (Dozat 2016, with his schedule, as in PyTorch).

    ``μ_t = b1 (1 − ½ · 0.96^(t · momentum_decay))``, ``Π_t = μ_1 ⋯ μ_t``; the update is
    ``(μ_{t+1} m / (1 − Π_{t+1}) + (1 − μ_t) g / (1 − Π_t)) / (√v̂ + eps)``.
    """
    b1, b2, eps = number("b1", b1, "[0, 1)"), number("b2", b2, "[0, 1)"), number("eps", eps)
    decay = number("momentum_decay", momentum_decay)
    products = [1.0]  # Π_0, Π_1, …: a function of t, so no part of the state; they end where 1 − Π is 1

    def mu(t: int) -> float:
        return b1 * (1 - 0.5 * 0.96 ** (t * decay))

    def product(t: int) -> float:
        while len(products) <= t and products[-1] > 1e-20:
            products.append(products[-1] * mu(len(products)))
        return products[t] if t < len(products) else 0.0

    def kernel(g: Any, p: Any, t: int, m: Any, v: Any) -> Any:
        moments(g, m, v, b1, b2)
        root = sqrt(v)
        root *= (1 - b2**t) ** -0.5
        root += eps
        u = m * (mu(t + 1) / (1 - product(t + 1)))
        u += g * ((1 - mu(t)) / (1 - product(t)))
        return u / root

    return leafwise(kernel, ("m", "v"))


def scale_by_radam(b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8) -> GradientTransform:
    """Adam with its variance rectified (Liu et al. 2020, algorithm 2, with PyTorch's threshold 5).

    With ``ρ_∞ = 2 / (1 − b2) − 1`` and ``ρ_t = ρ_∞ − 2 t b2^t / (1 − b2^t)``, the update is m̂ while ρ_t ≤ 5, and then
    ``m̂ r_t √(1 − b2^t) / (√v + eps)``, ``r_t² = (ρ_t − 4)(ρ_t − 2) ρ_∞ / ((ρ_∞ − 4)(ρ_∞ − 2) ρ_t)``.
    """
    b1, b2, eps = number("b1", b1, "[0, 1)"), number("b2", b2, "[0, 1)"), number("eps", eps)
    longest = 2 / (1 - b2) - 1

    def kernel(g: Any, p: Any, t: int, m: Any, v: Any) -> Any:
        moments(g, m, v, b1, b2)
        c1, c2 = 1 - b1**t, 1 - b2**t
        length = longest - 2 * t * b2**t / c2
        if length <= 5:
            return m * (1 / c1)
        r2 = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
        root = sqrt(v)
        root += eps
        return m * (math.sqrt(r2 * c2) / c1) / root

    return leafwise(kernel, ("m", "v"))


def scale_by_adagrad(lr_decay: float = 0.0, initial: float = 0.0, eps: float = 1e-10) -> GradientTransform:
    """Divide by the root of the sum of all squares so far, ``g / (√(initial + Σ g²) + eps)`` (Duchi et al. 2011, diagonal).

    With ``lr_decay`` also by ``1 + (t − 1) lr_decay``, as in PyTorch.
    """
    decay, first, e = number("lr_decay", lr_decay), number("initial", initial), number("eps", eps)

    def kernel(g: Any, p: Any, t: int, total: Any) -> Any:
        total += g * g
        root = sqrt(total)
        root += e
        if decay:
            root *= 1 + (t - 1) * decay
        return g / root

    return leafwise(kernel, {"total": lambda p: backend.xp(p).full_like(p, first)})


def scale_by_adadelta(decay: float = 0.9, eps: float = 1e-6) -> GradientTransform:
    """Scale by the root mean square of past updates over that of gradients (Zeiler 2012, algorithm 1).

    ``u = g √(d + eps) / √(v + eps)``, where v and d are running means of g² and u² (d before this update).
    """
    a, e = number("decay", decay, "[0, 1]"), number("eps", eps)

    def kernel(g: Any, p: Any, t: int, v: Any, d: Any) -> Any:
        v *= a
        v += squared(g, 1 - a)
        u = sqrt(d + e) / sqrt(v + e) * g
        d *= a
        d += squared(u, 1 - a)
        return u

    return leafwise(kernel, ("v", "d"))


def scale_by_adamax(b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8) -> GradientTransform:
    """Adam with the infinity norm: ``m̂ / w``, ``w ← max(b2 w, |g| + eps)`` (Kingma & Ba 2015, algorithm 2, eps as in PyTorch)."""
    b1, b2, eps = number("b1", b1, "[0, 1)"), number("b2", b2, "[0, 1)"), number("eps", eps)

    def kernel(g: Any, p: Any, t: int, m: Any, w: Any) -> Any:
        m *= b1
        m += g * (1 - b1)
        w *= b2
        w[...] = backend.xp(g).maximum(w, abs(g) + eps)
        return m * (1 / (1 - b1**t)) / w

    return leafwise(kernel, ("m", "w"))


def scale_by_lion(b1: float = 0.9, b2: float = 0.99) -> GradientTransform:
    """The sign of an interpolated momentum (Chen et al. 2023, algorithm 2): ``sign(b1 m + (1 − b1) g)``, then ``m ← b2 m + (1 − b2) g``."""
    b1, b2 = number("b1", b1, "[0, 1)"), number("b2", b2, "[0, 1)")

    def kernel(g: Any, p: Any, t: int, m: Any) -> Any:
        u = m * b1
        u += g * (1 - b1)
        m *= b2
        m += g * (1 - b2)
        return backend.xp(u).sign(u)

    return leafwise(kernel, ("m",))


def scale_by_ademamix(
    b1: float = 0.9,
    b2: float = 0.999,
    b3: float = 0.9999,
    alpha: float = 5.0,
    eps: float = 1e-8,
    warmup: int | None = None,
) -> GradientTransform:
    """Adam with a second, slow momentum: ``(m̂ + α_t n) / (√v̂ + eps)`` (Pagliardini et al. 2024, algorithm 1).

    n is the running mean of the gradient with decay ``b3_t``, not corrected for its start at 0. Over the first ``warmup`` updates
    of a leaf α rises linearly from 0, and ``b3_t`` from b1 so that its half-life grows linearly (their appendix A.1).
    """
    b1, b2, eps = number("b1", b1, "[0, 1)"), number("b2", b2, "[0, 1)"), number("eps", eps)
    b3, alpha = number("b3", b3, "[0, 1)"), number("alpha", alpha)
    rise = None if warmup is None else whole("warmup", warmup)
    if rise and not 0.0 < b1 <= b3:
        raise ValueError(f"warmup raises b3 from b1, so 0 < b1 <= b3 is needed, not b1={b1!r} and b3={b3!r}")
    at = _slow_momentum(b1, b3, alpha, rise)

    def kernel(g: Any, p: Any, t: int, m: Any, v: Any, slow: Any) -> Any:
        moments(g, m, v, b1, b2)
        a, b = at(t)
        slow *= b
        slow += g * (1 - b)
        root = sqrt(v)
        root *= (1 - b2**t) ** -0.5
        root += eps
        u = m * (1 / (1 - b1**t))
        u += slow * a
        return u / root

    return leafwise(kernel, ("m", "v", "slow"))


def _slow_momentum(b1: float, b3: float, alpha: float, rise: float | None) -> Callable[[int], tuple[float, float]]:
    """(α_t, b3_t) as a function of t."""

    def at(t: int) -> tuple[float, float]:
        if rise is None or t >= rise:
            return alpha, b3
        x, low, high = t / rise, math.log(b1), math.log(b3)
        return x * alpha, min(math.exp(low * high / ((1 - x) * high + x * low)), b3)

    return at
