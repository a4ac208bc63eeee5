"""The theory of the linear filter that a bank without a gate is: frequency response, gains, and the largest stable step.

The filter's transfer function, with r_k fixed, is ``H(z) = a0 + Σ λ_k r_k W_k(z)``, over ``a0 + Σ λ_k r_k`` if normalized. A decaying
memory has ``W(z) = (1 − β)(1 − β cos φ z⁻¹) / (1 − 2 β cos φ z⁻¹ + β² z⁻²)``, which is ``(1 − β) / (1 − β z⁻¹)`` for φ = 0; a window
of C gradients ``W(z) = (1 + z⁻¹ + … + z^(1−C)) / C``. Bias correction is about the first steps and does not matter here.

Descent on h with learning rate η, on a quadratic of curvature ℓ, is the linear map with the characteristic equation
``z − 1 + s H(z) = 0``, s = η ℓ. It is stable for small s, and stays so until a root comes to the unit circle. With real poles in
[0, 1) that happens at z = −1 alone, so ``s < 2 / H(−1)`` is necessary and sufficient (the proof is in docs/vortex.md). Other filters
are searched for their first crossing, and the answer is checked with the eigenvalues of the map.
"""

import itertools
import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .settings import VortexGrad

Resonance = float | Sequence[float]

TURNS = 4096
"""Frequencies at which a filter is looked at for crossings, at least."""
CHECKED = 64
"""Steps s below the bound at which the eigenvalues are computed."""


class StabilityWarning(UserWarning):
    """A learning rate at or above the proven bound of stability."""


def response(bank: "VortexGrad", omega: Any, resonance: Resonance = 1.0) -> np.ndarray:
    """H(e^{iω}), complex128, of the shape of ``omega`` (radians per step)."""
    z = np.exp(-1j * np.asarray(omega, np.float64))  # z⁻¹
    total, found = bank.direct, np.full(z.shape, bank.direct, np.complex128)
    for k, r in enumerate(resonances(bank, resonance)):
        gain = bank.gains[k] * r
        total += gain
        if bank.memory == "window":
            found += gain * np.polynomial.polynomial.polyval(z, np.full(bank.capacities[k], 1 / bank.capacities[k]))
        else:
            beta, phase = bank.decays[k], bank.phases[k] if bank.phases else 0.0
            a, b = beta * math.cos(phase), beta * math.sin(phase)
            found += gain * (
                (1 - beta) * (1 - a * z) / ((1 - a * z) ** 2 + (b * z) ** 2) if b else (1 - beta) / (1 - a * z)
            )
    return found / total if bank.normalize and total else found


def gain_at(bank: "VortexGrad", z: int, resonance: Resonance) -> float:
    """H(z) at z = 1 or −1."""
    total, found = bank.direct, bank.direct
    for k, r in enumerate(resonances(bank, resonance)):
        gain = bank.gains[k] * r
        total += gain
        if bank.memory == "window":
            count = bank.capacities[k]
            found += gain * (1.0 if z == 1 else (count % 2) / count)
            continue
        beta, phase = bank.decays[k], bank.phases[k] if bank.phases else 0.0
        if phase:
            a = beta * math.cos(phase) * z
            found += gain * (1 - beta) * (1 - a) / (1 - 2 * a + beta * beta)
        else:
            found += gain * (1.0 if z == 1 else (1 - beta) / (1 + beta))
    return found / total if bank.normalize and total else found


def resonances(bank: "VortexGrad", resonance: Resonance) -> list[float]:
    """r of every memory."""
    if bank.memory == "critical":
        raise ValueError(
            "vortex: a critical memory chooses gradients by their norm; it is no linear filter and has no frequency response or bound"
        )
    given = [resonance] * len(bank.gains) if isinstance(resonance, (int, float)) else list(resonance)
    if len(given) != len(bank.gains):
        raise ValueError(f"resonance: one number, or one for each of the {len(bank.gains)} memories, not {len(given)}")
    if not all(0 <= r <= 1 for r in given):
        raise ValueError(f"resonance must be in [0, 1], not {resonance!r}")
    return [float(r) for r in given]


def largest_step(bank: "VortexGrad", resonance: Resonance | None) -> float:
    """The largest s such that descent is stable for every η ℓ below it; None: the smallest one over resonances."""
    gated = bank.gate != "none"
    if bank.memory == "exponential" and not any(bank.phases):
        choices: list[Resonance] = [resonance] if resonance is not None else [0.0, 1.0] if gated else [1.0]
        high = max(gain_at(bank, -1, r) for r in choices)  # H(−1) is monotonic in every r: its largest is at an end
        return 2 / high if high > 0 else math.inf
    if resonance is None and gated:
        return min(_crossing(bank, corner) for corner in itertools.product((0.0, 1.0), repeat=len(bank.gains)))
    return _crossing(bank, resonances(bank, 1.0 if resonance is None else resonance))


def _crossing(bank: "VortexGrad", r: Sequence[float]) -> float:
    """The smallest s > 0 at which a root is on the unit circle.

    On it, ``s H = 1 − e^{iω} = 2 sin(ω/2) e^{i(ω−π)/2}``: H turned back by that angle has to be real and positive.
    """
    from scipy.optimize import brentq

    def turned(omega: Any) -> Any:
        return response(bank, omega, r) * np.exp(0.5j * (math.pi - np.asarray(omega)))

    places = [np.linspace(0, math.pi, max([TURNS, *(40 * c for c in bank.capacities)])), np.geomspace(1e-9, 1, 600)]
    for beta, phase in zip(bank.decays, bank.phases or (0.0,) * len(bank.gains), strict=True):
        around = (1 - beta) * np.geomspace(1e-3, 1e3, 400)
        centre = abs(math.remainder(phase, 2 * math.pi))
        places += [centre - around, centre + around, np.array([centre])]
    omega = np.unique(np.concatenate(places))
    omega = omega[(omega > 0) & (omega < math.pi)]
    imaginary = turned(omega).imag
    found = [2 / high] if (high := gain_at(bank, -1, r)) > 0 else []
    for i in np.flatnonzero(np.diff(np.sign(imaginary)) != 0):
        w = brentq(lambda x: float(turned(x).imag), omega[i], omega[i + 1], xtol=1e-15, rtol=8.9e-16)
        if (real := float(turned(w).real)) > 0:
            found.append(2 * math.sin(w / 2) / real)
    bound = min(found, default=math.inf)
    top = bound if math.isfinite(bound) else 1e3
    for share in np.linspace(1 / CHECKED, 1 - 1e-4, CHECKED):
        if spectral_radius(bank, share * top, r) > 1 + 1e-7:
            raise RuntimeError(
                f"vortex: no crossing was found below s = {bound:g}, but at s = {share * top:g} an eigenvalue is outside the unit "
                "circle; please report these settings"
            )
    return bound


def spectral_radius(bank: "VortexGrad", step: float, resonance: Resonance = 1.0) -> float:
    """Of the linear map (x, memories) → (x, memories) that a step of descent on h is, for a quadratic with η ℓ = ``step``."""
    return float(abs(np.linalg.eigvals(step_map(bank, step, resonance))).max())


def step_map(bank: "VortexGrad", step: float, resonance: Resonance = 1.0) -> np.ndarray:
    """The matrix of that map, in units where ℓ = 1: g = x, and x ← x − step · h."""
    rs = resonances(bank, resonance)
    blocks: list[
        tuple[np.ndarray, np.ndarray, np.ndarray]
    ] = []  # memory ← A memory + b g, and h += c · memory (the new one)
    total = bank.direct
    for k, r in enumerate(rs):
        gain = bank.gains[k] * r
        total += gain
        if bank.memory == "window":
            n = bank.capacities[k]
            blocks.append((np.eye(n, k=-1), np.eye(n)[0], np.full(n, gain / n)))
        else:
            beta, phase = bank.decays[k], bank.phases[k] if bank.phases else 0.0
            a, b = beta * math.cos(phase), beta * math.sin(phase)
            turn = np.array([[a, -b], [b, a]]) if phase else np.array([[a]])
            size = len(turn)
            blocks.append((turn, (1 - beta) * np.eye(size)[0], gain * np.eye(size)[0]))
    size = 1 + sum(len(a) for a, _, _ in blocks)
    found, h = np.zeros((size, size)), np.zeros(size)
    h[0], at = bank.direct, 1
    for move, enter, out in blocks:
        here = slice(at, at + len(move))
        found[here, here], found[here, 0] = move, enter
        h[here] += out @ move
        h[0] += out @ enter
        at += len(move)
    found[0] = -step * (h / total if bank.normalize and total else h)
    found[0, 0] += 1
    return found


def warn_above(lr: float, bound: float, largest_eigenvalue: float, stacklevel: int = 2) -> bool:
    """Warn if a learning rate is not below the bound; returns whether it was not."""
    if lr < bound:
        return False
    warnings.warn(
        f"the learning rate {lr:g} is not below {bound:.6g}, the largest for which descent is stable on a quadratic with eigenvalues up to "
        f"{largest_eigenvalue:g} (2 / (L H(−1)) for real poles): it diverges there",
        StabilityWarning,
        stacklevel=stacklevel + 1,
    )
    return True
