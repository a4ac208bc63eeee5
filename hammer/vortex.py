"""VortexGrad: a bank of gradient memories, each let through as far as its gradients agree.

For every parameter and every memory k with decay β_k and gain λ_k, after t gradients g_1 … g_t:

    m_k ← β_k m_k + (1 − β_k) g            the memory, 0 at first; bias-corrected m̂_k = m_k / (1 − β_k^t)
    v_k ← β_k v_k + (1 − β_k) g²           mean square,            v̂_k = v_k / (1 − β_k^t)
    c_k = m̂_k² / (v̂_k + ε)  ∈ [0, 1]       coherence: 1 if all gradients were equal (Cauchy–Schwarz)
    c0_k = (1 − β_k)(1 + β_k^t) / ((1 + β_k)(1 − β_k^t))
                                           what c_k is on average if the gradients are noise (independent, mean zero)
    r_k = clip((c_k − c0_k) / (1 − c0_k), 0, 1)^γ, and 0 at t = 1
                                           resonance: how far the memory is above the noise
    h   = a0 g + Σ_k λ_k r_k m̂_k           what goes on to the optimizer

The resonance is taken per coordinate, per tensor (sums of m̂² and v̂ over the tensor in c), or not at all (r = 1). ``normalize``
divides h by a0 + Σ λ_k r_k. The gain is bounded, |h_i| ≤ (a0 + Σ λ_k) max over s ≤ t of |g_s,i|, and with all gains 0 and
a0 = 1 the transform is the identity, bit for bit. Known methods are special cases with fixed resonance (``gate="none"``): see
docs/vortex.md. Without a gate and with decays fixed, h is a linear filter of the gradients; ``dc_gain``, ``nyquist_gain`` and
``max_stable_lr`` are its properties.

``VortexGrad`` holds the settings and makes the transform; ``vortex(...)`` does both in one call. It is a link like any
other: ``chain(vortex(), adamw(1e-3))``.
"""

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from autograd import backend
from autograd.gradients import GradientTransform, identity, leafwise, scale
from autograd.gradients.base import zeros_like
from autograd.gradients.scaling import number

Gate = Literal["coordinate", "tensor", "none"]


@dataclass(frozen=True)
class VortexGrad:
    """The settings of a bank of memories; call it to make the gradient transform.

    Args:
        decays: β_k of each memory, in [0, 1).
        gains: λ_k of each memory, at least 0. A memory of gain 0 is left out.
        direct: a0, the gain of the gradient itself, at least 0.
        gate: whether resonance is taken per "coordinate", per "tensor", or is 1 ("none").
        exponent: γ, above 0. Larger values open the gate later.
        normalize: whether to divide by a0 + Σ λ_k r_k, so that a constant gradient keeps its size.
        bias_correction: whether h uses m̂_k or m_k; one choice, or one for each memory. Coherence always uses m̂_k.
        initial: what a memory holds before the first gradient: "zero", or that "gradient" itself. Its weights then sum to
            one from the start, so nothing is corrected, and c0_k = w + (1 − w)(1 − β_k)/(1 + β_k) with w = β_k^(2(t−1)).
        eps: ε, above 0, in units of the gradient squared: coherence fades where |g| is not well above √ε.

    State of each parameter: a count and, for each memory, ``m0, m1, …`` of its shape and ``v0, v1, …`` (of its shape for
    "coordinate", a number for "tensor", absent for "none").

    Raises:
        ValueError, TypeError: a setting out of range; the message names it.
    """

    decays: Sequence[float] = (0.98, 0.998)
    gains: Sequence[float] = (5.0, 20.0)
    direct: float = 1.0
    gate: Gate = "coordinate"
    exponent: float = 1.0
    normalize: bool = False
    bias_correction: bool | Sequence[bool] = True
    initial: Literal["zero", "gradient"] = "zero"
    eps: float = 1e-12

    def __post_init__(self) -> None:
        checked: dict[str, Any] = {
            "decays": _numbers("decays", self.decays, "[0, 1)"),
            "gains": _numbers("gains", self.gains, "[0, inf)"),
            "direct": number("vortex: direct", self.direct),
            "exponent": number("vortex: exponent", self.exponent, "(0, inf)"),
            "eps": number("vortex: eps", self.eps, "(0, inf)"),
        }
        count = len(checked["gains"])
        flags = self.bias_correction
        checked["bias_correction"] = (flags,) * count if isinstance(flags, bool) else tuple(map(bool, flags))
        for name in ("decays", "bias_correction"):
            if len(checked[name]) != count:
                raise ValueError(
                    f"vortex: there are {count} gains, one for each memory, but {len(checked[name])} entries in {name}"
                )
        for name, allowed in (("gate", ("coordinate", "tensor", "none")), ("initial", ("zero", "gradient"))):
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"vortex: {name} must be one of {', '.join(map(repr, allowed))}, not {getattr(self, name)!r}"
                )
        if self.normalize and checked["direct"] == 0.0 and (self.gate != "none" or not any(checked["gains"])):
            raise ValueError(
                "vortex: normalize divides by a0 + Σ λ r, which is 0 where every gate is closed; set direct above 0"
            )
        for name, value in checked.items():
            object.__setattr__(self, name, value)  # frozen for everyone else

    def dc_gain(self, resonance: float = 1.0) -> float:
        """H(1), the gain for a gradient that does not change: a0 + Σ λ_k r (1 if normalized), for a fixed resonance r of all memories."""
        return self._response(resonance, lambda _beta: 1.0)

    def nyquist_gain(self, resonance: float = 1.0) -> float:
        """H(−1), the gain for a gradient that changes sign at every step: a0 + Σ λ_k r (1 − β_k)/(1 + β_k)."""
        return self._response(resonance, lambda beta: (1 - beta) / (1 + beta))

    def max_stable_lr(self, largest_eigenvalue: float) -> float:
        """The bound 2 / (L · H(−1)) on the learning rate of plain descent on h.

        On a quadratic whose eigenvalues lie in (0, L], with resonance fixed, descent on h is stable if and only if its
        learning rate is below 2 / (L · H(−1)). With a gate this is the smallest such bound over r in [0, 1]; a resonance
        that moves during training is outside the theorem. Infinite where H(−1) is 0.
        """
        high = max(self.nyquist_gain(r) for r in ((1.0,) if self.gate == "none" else (0.0, 1.0)))
        limit = number("max_stable_lr: largest_eigenvalue", largest_eigenvalue, "(0, inf)")
        return 2 / (limit * high) if high else math.inf

    def _response(self, resonance: float, of: Callable[[float], float]) -> float:
        r = number("resonance", resonance, "[0, 1]")
        response = self.direct + sum(r * gain * of(beta) for beta, gain in zip(self.decays, self.gains, strict=True))
        total = self.direct + sum(r * gain for gain in self.gains)
        return response / total if self.normalize and total else response

    def __call__(self) -> GradientTransform:
        """The gradient transform."""
        settings = zip(self.decays, self.gains, self.bias_correction, strict=True)  # type: ignore[arg-type]
        bank = [_Memory(beta, gain, corrected, self) for beta, gain, corrected in settings if gain > 0.0]
        direct, normalize, gated, per_tensor = self.direct, self.normalize, self.gate != "none", self.gate == "tensor"
        if not bank:
            return identity() if direct == 1.0 or normalize else scale(direct)

        def kernel(g: Any, p: Any, t: int, *arrays: Any) -> Any:
            h = g * direct
            total: Any = direct
            square = g * g if gated else None
            if per_tensor:
                square = backend.xp(g).sum(square)
            memories, squares = arrays[: len(bank)], arrays[len(bank) :] or (None,) * len(bank)
            for memory, m, v in zip(bank, memories, squares, strict=True):
                memory.remember(m, g, t)
                factor = memory.resonance(m, v, square, t) if gated else memory.factor(t)
                if normalize:
                    total = total + factor * (memory.mass(t) if memory.corrected else 1.0)
                h += m * factor
            return h / total if normalize else h

        buffers: dict[str, Callable[[Any], Any]] = {f"m{k}": zeros_like for k in range(len(bank))}
        if gated:
            buffers |= {f"v{k}": _zero if per_tensor else zeros_like for k in range(len(bank))}
        return leafwise(kernel, buffers, elementwise=not per_tensor)


def vortex(*args: Any, **settings: Any) -> GradientTransform:
    """The gradient transform of ``VortexGrad`` with these settings: ``vortex(...)`` is ``VortexGrad(...)()``."""
    return VortexGrad(*args, **settings)()


vortex.__signature__ = inspect.signature(VortexGrad).replace(return_annotation=GradientTransform)  # type: ignore[attr-defined]


class _Memory:
    """The arithmetic of one memory, for a leaf or a tile of it."""

    def __init__(self, beta: float, gain: float, corrected: bool, settings: VortexGrad):
        self.beta, self.gain, self.corrected = beta, gain, corrected
        self.from_zero, self.per_tensor = settings.initial == "zero", settings.gate == "tensor"
        self.exponent, self.eps = settings.exponent, settings.eps

    def mass(self, t: int) -> float:
        """The sum of the weights of the gradients so far."""
        return 1 - self.beta**t if self.from_zero else 1.0

    def noise_floor(self, t: int) -> float:
        """c0: the sum of the squared weights over the square of their sum."""
        stationary = (1 - self.beta) / (1 + self.beta)
        if self.from_zero:
            return stationary * (1 + self.beta**t) / (1 - self.beta**t)
        first = self.beta ** (2 * (t - 1))
        return first + (1 - first) * stationary

    def remember(self, average: Any, x: Any, t: int) -> None:
        """``average ← β average + (1 − β) x``, in place."""
        if t == 1 and not self.from_zero:
            average += x
        average *= self.beta
        average += x * (1 - self.beta)

    def factor(self, t: int) -> float:
        """What m is multiplied by in h where the gate is open: λ, over the mass if h uses m̂."""
        return self.gain / self.mass(t) if self.corrected else self.gain

    def resonance(self, m: Any, v: Any, square: Any, t: int) -> Any:
        """r times ``factor``, after v has taken in the square of the gradient (its sum over the tensor for a gate per tensor)."""
        self.remember(v, square, t)
        floor, mass, high = self.noise_floor(t), self.mass(t), self.factor(t)
        if t == 1 or floor == 1.0:  # one gradient has nothing to agree with; nor has a memory of one gradient, β = 0
            return 0.0
        xp, power = backend.xp(v), m * m
        c = xp.sum(power) if self.per_tensor else power
        c /= v + self.eps * mass  # c · mass = m² / (v + ε mass)
        top = high if self.exponent == 1.0 else 1.0  # with γ = 1 the factor goes into the constants: a pass less
        c *= top / (mass * (1 - floor))
        c -= top * floor / (1 - floor)
        r = xp.clip(c, 0.0, top)
        return r if self.exponent == 1.0 else r**self.exponent * high


def _zero(p: Any) -> Any:
    """A state buffer of one number, in the parameter's dtype and library."""
    return zeros_like(backend.xp(p).sum(zeros_like(p)))


def _numbers(name: str, values: Any, interval: str) -> tuple[float, ...]:
    if isinstance(values, str) or not hasattr(values, "__iter__"):
        raise TypeError(f"vortex: {name} must be a sequence of numbers, one for each memory, not {values!r:.60}")
    return tuple(number(f"vortex: {name}[{k}]", v, interval) for k, v in enumerate(values))
