"""Memories that decay: the kernel of one leaf, or of a tile of it.

A memory is kept as the sum ``M = Σ p^(t−s) g_s`` with pole p = β e^{iφ}, that is m / (1 − β), and its squares as
``V = Σ β^(t−s) (g_s² + ε)``: a pass over the memory less than for means. Of a complex sum the real part is in ``m``, the imaginary
one in ``n``. In these sums, with w = (1 − β^t) / (1 − β) the sum of the weights' magnitudes,

    m̂ = M / w,     v̂ + ε = V / w,     c = |M|² / (w V)
"""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from autograd import backend
from autograd.gradients.base import zeros_like

if TYPE_CHECKING:
    from .settings import VortexGrad


class Memory:
    """The arithmetic of one memory.

    Args:
        settings: of the bank.
        k: which of its memories.
    """

    def __init__(self, settings: "VortexGrad", k: int):
        self.beta, self.gain, self.corrected = settings.decays[k], settings.gains[k], settings.corrected[k]
        self.phase = settings.phases[k] if settings.phases else 0.0
        self.from_zero = settings.initial == "zero"
        self.per_tensor, self.factored = settings.gate == "tensor", settings.second_moment == "factored"
        self.gated, self.exponent, self.eps = settings.gate != "none", settings.exponent, settings.eps
        self.significance = settings.significance

    # ---- its buffers ----

    def buffers(self, k: int) -> dict[str, Callable[[Any], Any]]:
        """Names of the state arrays, and how they are made of a parameter."""
        found: dict[str, Callable[[Any], Any]] = {f"m{k}": zeros_like}
        if self.phase:
            found[f"n{k}"] = zeros_like
        if self.gated:
            found[f"v{k}"] = _number_like if self.per_tensor else _factors_like if self.factored else zeros_like
        return found

    # ---- what follows from the weights of the gradients so far ----

    def mass(self, t: int) -> float:
        """The sum of the weights' magnitudes, of m."""
        return 1 - self.beta**t if self.from_zero else 1.0

    def noise_floor(self, t: int) -> float:
        """c0: the sum of the squared weights over the square of their sum."""
        stationary = (1 - self.beta) / (1 + self.beta)
        if self.from_zero:
            return stationary * (1 + self.beta**t) / (1 - self.beta**t)
        first = self.beta ** (2 * (t - 1))
        return first + (1 - first) * stationary

    def is_closed(self, t: int) -> bool:
        """Whether the gate is closed whatever the gradients: one of them has nothing to agree with, and β = 0 remembers one."""
        return self.gated and (t == 1 or self.noise_floor(t) == 1.0)

    # ---- a step ----

    def remember(self, total: Any, x: Any, t: int) -> None:
        """``total ← β total + x``, in place."""
        if t == 1 and not self.from_zero:
            total += x * (1 / (1 - self.beta))
        total *= self.beta
        total += x

    def turn(self, real: Any, imaginary: Any, g: Any) -> None:
        """The same for a complex sum: turned by φ, shrunk by β."""
        a, b = self.beta * math.cos(self.phase), self.beta * math.sin(self.phase)
        crossed = real * b
        real *= a
        real -= imaginary * b
        real += g
        imaginary *= a
        imaginary += crossed

    def remember_squares(self, v: Any, square: Any, t: int) -> None:
        """Take in g² + ε: an array, its sum over the tensor, or its means over rows and columns."""
        if type(v) is dict:
            for name, part in v.items():
                self.remember(part, square[name], t)
        else:
            self.remember(v, square, t)

    def open_factor(self, t: int) -> float:
        """What M is multiplied by in h where the gate is open: λ (1 − β), over the mass if h uses m̂."""
        return self.gain * (1 - self.beta) / (self.mass(t) if self.corrected else 1.0)

    def share(self, t: int) -> float:
        """What a factor of M has to be multiplied by to be λ r."""
        return (self.mass(t) if self.corrected else 1.0) / (1 - self.beta)

    def coherence(self, m: Any, n: Any, v: Any, t: int) -> Any:
        """c times w, a new array (or number): |M|² / V."""
        power = m * m
        if n is not None:
            power += n * n
        if self.per_tensor:
            power = backend.xp(m).sum(power)
        power /= _product(v) if type(v) is dict else v
        return power

    def factor(self, m: Any, n: Any, v: Any, t: int) -> Any:
        """``open_factor`` times the resonance."""
        high = self.open_factor(t)
        if not self.gated:
            return high
        weight, floor = self.mass(t) / (1 - self.beta), self.noise_floor(t)
        xp, c = backend.xp(m), self.coherence(m, n, v, t)
        if self.significance is not None:
            return significant(xp, c, floor, self.significance, weight) * high
        top = high if self.exponent == 1.0 else 1.0  # with γ = 1 the factor goes into the constants: a pass less
        c *= top / (weight * (1 - floor))
        c -= top * floor / (1 - floor)
        c = xp.clip(c, 0.0, top)
        return c if self.exponent == 1.0 else c**self.exponent * high


def significant(xp: Any, c: Any, floor: float, errors: float, weight: float = 1.0) -> Any:
    """1 where a mean is more than so many standard errors from 0, else 0, in the dtype of c, which holds coherence times ``weight``.

    Of n = 1 / c0 gradients the squared error of the mean is about v (1 − c)/(n − 1), so t² = c (n − 1)/(1 − c).
    """
    least = errors**2 / (1 / floor - 1 + errors**2)
    return xp.where(c > weight * least, xp.ones_like(c), xp.zeros_like(c))


def kernel_of(settings: "VortexGrad", memories: Sequence[Memory]) -> tuple[Callable, dict[str, Callable[[Any], Any]]]:
    """The kernel of a bank, and its buffers."""
    direct, normalize, eps = settings.direct, settings.normalize, settings.eps
    gated, per_tensor = settings.gate != "none", settings.gate == "tensor"
    factored = settings.second_moment == "factored"
    buffers: dict[str, Callable[[Any], Any]] = {}
    for k, memory in enumerate(memories):
        buffers |= memory.buffers(k)
    places = {name: i for i, name in enumerate(buffers)}
    at = [(places[f"m{k}"], places.get(f"n{k}"), places.get(f"v{k}")) for k in range(len(memories))]

    def kernel(g: Any, p: Any, t: int, *arrays: Any) -> Any:
        square = _square(g, eps, per_tensor, factored) if gated else None
        h: Any = None
        total: Any = direct
        for memory, (i, *others) in zip(memories, at, strict=True):
            m = arrays[i]
            n, v = (None if x is None else arrays[x] for x in others)
            if n is None:
                memory.remember(m, g, t)
            else:
                memory.turn(m, n, g)
            if gated:
                memory.remember_squares(v, square, t)
            if memory.is_closed(t):
                continue
            factor = memory.factor(m, n, v, t)
            if normalize:
                total = total + factor * memory.share(t)
            if h is None:
                h = m * factor
            else:
                h += m * factor
        if h is None:
            h = g * direct
        elif direct == 1.0:
            h += g
        elif direct:
            h += g * direct
        return h / total if normalize else h

    return kernel, buffers


def _square(g: Any, eps: float, per_tensor: bool, factored: bool) -> Any:
    square = g * g
    if per_tensor:
        return backend.xp(g).sum(square) + eps
    square += eps
    if not factored or g.ndim < 2:
        return square
    xp = backend.xp(g)
    return {"rows": xp.mean(square, axis=-1, keepdims=True), "columns": xp.mean(square, axis=-2, keepdims=True)}


def _product(factors: dict[str, Any]) -> Any:
    """The array that rows and columns stand for: their product over the mean (Shazeer & Stern 2018, algorithm 4)."""
    rows = factors["rows"]
    return rows / backend.xp(rows).mean(rows, axis=-2, keepdims=True) * factors["columns"]


def _number_like(p: Any) -> Any:
    """A buffer of one number, in the parameter's dtype and library."""
    return zeros_like(backend.xp(p).sum(zeros_like(p)))


def _factors_like(p: Any) -> Any:
    """Buffers for the means over rows and columns of the last two axes; a parameter with fewer axes is kept whole."""
    if p.ndim < 2:
        return zeros_like(p)
    xp = backend.xp(p)
    return {
        "rows": zeros_like(xp.sum(p, axis=-1, keepdims=True)),
        "columns": zeros_like(xp.sum(p, axis=-2, keepdims=True)),
    }
