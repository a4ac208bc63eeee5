"""``VortexGrad``: the settings of a bank of memories, which are checked once, make the transform, and know what follows from them."""

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from autograd import backend
from autograd.gradients import GradientTransform, identity, scale
from autograd.gradients.base import Leafwise, Link, _Chain, link_of
from autograd.gradients.scaling import number, whole

from . import bank, buffers, filters
from .filters import Resonance

Gate = Literal["coordinate", "tensor", "none"]

CHOICES = {
    "gate": ("coordinate", "tensor", "none"),
    "initial": ("zero", "gradient"),
    "memory": ("exponential", "window", "critical"),
    "second_moment": ("full", "factored"),
}


@dataclass(frozen=True)
class VortexGrad:
    """The settings of a bank of memories; call it to make the gradient transform.

    Args:
        decays: β_k of each memory, in [0, 1). A window has no use for it; a critical memory's priorities decay by it.
        gains: λ_k of each memory, at least 0. A memory of gain 0 is left out.
        direct: a0, the gain of the gradient itself, at least 0.
        gate: whether resonance is taken per "coordinate", per "tensor", or is 1 ("none").
        exponent: γ, above 0. Larger values open the gate later.
        normalize: whether to divide by a0 + Σ λ_k r_k, so that a constant gradient keeps its size.
        bias_correction: whether h uses m̂_k or m_k; one choice, or one for each memory. Coherence always uses m̂_k. Of windows and
            critical memories that are not full, m̂ is the mean of what they hold, m its sum over the capacity.
        initial: what a memory holds before the first gradient: "zero", or that "gradient" itself. Its weights then sum to
            one from the start, so nothing is corrected, and c0_k = w + (1 − w)(1 − β_k)/(1 + β_k) with w = β_k^(2(t−1)).
        eps: ε, above 0, in units of the gradient squared: coherence fades where |g| is not well above √ε.
        phases: φ_k of each memory, radians per step; none is all 0. With another phase a memory answers to gradients that turn by
            φ a step, as those of games do, and keeps one more array.
        memory: what the memories are: "exponential" as above, or the mean of the last gradients ("window") or of those of largest norm
            ("critical"); see ``buffers``.
        capacity: how many gradients a window or a critical memory keeps; one number, or one for each memory.
        wait: whether a window or a critical memory counts only once it is full.
        second_moment: "factored" keeps v_k as the means over rows and columns of a leaf's last two axes, whose product over
            their mean stands for it (Shazeer & Stern 2018): one array a memory instead of two, for a gate per coordinate.
        significance: None, or how many standard errors a memory's mean has to be from 0: then r_k is 1 where it is more (Student's
            t² = c (n − 1)/(1 − c) of n = 1/c0 gradients is above its square), else 0, and γ has no say.

    State of each parameter: a count and, for each memory, ``m0, m1, …`` of its shape (the sums m / (1 − β)), with a phase ``n0, …`` for
    the imaginary parts, and ``v0, …`` (of its shape for "coordinate", two thin arrays if factored, a number for "tensor", absent for
    "none"); ``past0, …`` and ``priority0, …`` where gradients are kept.

    Raises:
        ValueError, TypeError: a setting out of range, or two that contradict each other; the message names them.
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
    phases: Sequence[float] = ()
    memory: Literal["exponential", "window", "critical"] = "exponential"
    capacity: int | Sequence[int] = 5
    wait: bool = False
    second_moment: Literal["full", "factored"] = "full"
    significance: float | None = None

    def __post_init__(self) -> None:
        checked: dict[str, Any] = {
            "decays": _numbers("decays", self.decays, "[0, 1)"),
            "gains": _numbers("gains", self.gains, "[0, inf)"),
            "phases": _numbers("phases", self.phases, "(-inf, inf)"),
            "direct": number("vortex: direct", self.direct),
            "exponent": number("vortex: exponent", self.exponent, "(0, inf)"),
            "eps": number("vortex: eps", self.eps, "(0, inf)"),
        }
        if self.significance is not None:
            checked["significance"] = number("vortex: significance", self.significance, "(0, inf)")
        count = len(checked["gains"])
        flags, capacity = self.bias_correction, self.capacity
        checked["bias_correction"] = (flags,) * count if isinstance(flags, bool) else tuple(map(bool, flags))
        sizes = [capacity] * count if not isinstance(capacity, (list, tuple)) else capacity
        checked["capacity"] = tuple(whole("vortex: capacity", c) for c in sizes)
        for name in ("decays", "bias_correction", "capacity", *(["phases"] if checked["phases"] else [])):
            if len(checked[name]) != count:
                raise ValueError(
                    f"vortex: there are {count} gains, one for each memory, but {len(checked[name])} entries in {name}"
                )
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"vortex: {name} must be one of {', '.join(map(repr, allowed))}, not {getattr(self, name)!r}"
                )
        if self.normalize and checked["direct"] == 0.0 and (self.gate != "none" or not any(checked["gains"])):
            raise ValueError(
                "vortex: normalize divides by a0 + Σ λ r, which is 0 where every gate is closed; set direct above 0"
            )
        turning = any(checked["phases"])
        for wrong, why in (
            (turning and self.memory != "exponential", f"phases belong to decaying memories, not to memory={self.memory!r}"),
            (turning and self.initial == "gradient", 'initial="gradient" is for memories without a phase'),
            (self.memory != "exponential" and self.initial == "gradient", f"memory={self.memory!r} starts empty; leave initial out"),
            (self.significance is not None and (self.gate == "none" or self.exponent != 1.0),
             "significance is a rule for the gate: it needs one, and takes the place of exponent"),
            (self.wait and self.memory == "exponential", "wait is for windows and critical memories: others are never full"),
            (self.normalize and checked["direct"] == 0.0 and self.memory != "exponential",
             "normalize divides by a0 + Σ λ r, which is 0 while a memory that keeps gradients is empty; set direct above 0"),
            (self.second_moment == "factored" and (self.gate != "coordinate" or self.memory != "exponential"),
             'second_moment="factored" needs gate="coordinate" and decaying memories: others keep no array of squares'),
        ):  # fmt: skip
            if wrong:
                raise ValueError(f"vortex: {why}")
        for name, value in checked.items():
            object.__setattr__(self, name, value)  # frozen for everyone else

    @property
    def corrected(self) -> tuple[bool, ...]:
        """``bias_correction`` of each memory."""
        return self.bias_correction  # type: ignore[return-value]

    @property
    def capacities(self) -> tuple[int, ...]:
        """``capacity`` of each memory."""
        return self.capacity  # type: ignore[return-value]

    @property
    def kept(self) -> list[int]:
        """The memories that take part: those with a gain."""
        return [k for k, gain in enumerate(self.gains) if gain > 0.0]

    # ---- the transform ----

    def __call__(self) -> GradientTransform:
        """The gradient transform."""
        kept = self.kept
        if not kept:
            return identity() if self.direct == 1.0 or self.normalize else scale(self.direct)
        if self.memory == "exponential":
            kernel, made = bank.kernel_of(self, [bank.Memory(self, k) for k in kept])
        else:
            kernel, made = buffers.kernel_of(self, kept)
        elementwise = self.memory == "exponential" and self.gate != "tensor" and self.second_moment == "full"
        return VortexLink(self, kept, kernel, made, elementwise).transform()

    def buffers_per_parameter(self, shape: Sequence[int] = (1024, 1024)) -> float:
        """How many arrays of a parameter's size the state of a parameter of this shape is: what the memories cost.

        Two of a memory with a gate per coordinate, one and a bit if factored, one with a gate per tensor or none, one more with a
        phase; ``capacity`` of a memory that keeps gradients. AdamW, for comparison, keeps two.
        """
        like = np.broadcast_to(np.float32(0), tuple(shape))
        found = links_in(self())
        if not found:
            return 0.0
        ((_, link),) = found
        parts = [make(like) for make in link.buffers.values()]
        arrays = [a for part in parts for a in (part.values() if isinstance(part, dict) else [part])]
        return sum(a.size for a in arrays) / max(like.size, 1)

    # ---- what follows for a fixed resonance ----

    def dc_gain(self, resonance: Resonance = 1.0) -> float:
        """H(1), the gain for a gradient that does not change: a0 + Σ λ_k r_k for φ = 0 (1 if normalized).

        Args:
            resonance: r in [0, 1], of all memories or one for each.
        """
        return filters.gain_at(self, 1, resonance)

    def nyquist_gain(self, resonance: Resonance = 1.0) -> float:
        """H(−1), the gain for a gradient that changes sign at every step: a0 + Σ λ_k r_k (1 − β_k)/(1 + β_k) for φ = 0."""
        return filters.gain_at(self, -1, resonance)

    def frequency_response(self, omega: Any, resonance: Resonance = 1.0) -> np.ndarray:
        """H(e^{iω}), complex128 of the shape of ``omega``: the gain and phase for gradients that turn by ω radians a step."""
        return filters.response(self, omega, resonance)

    def max_stable_lr(self, largest_eigenvalue: float, resonance: Resonance | None = None) -> float:
        """The bound on the learning rate of plain descent on h: 2 / (L · H(−1)) for memories without a phase.

        On a quadratic whose eigenvalues lie in (0, L], with resonance fixed, descent on h is stable if and only if its
        learning rate is below the bound (a theorem for real poles; windows and memories with a phase are searched for it, and the
        answer is checked with eigenvalues). Infinite where nothing is ever unstable.

        Args:
            largest_eigenvalue: L, above 0.
            resonance: r in [0, 1]; None: 1 without a gate, else the smallest bound over r in [0, 1] (with phases or windows: over
                r in {0, 1} of each memory, which is not proven to be all). A resonance that moves during training is outside
                the theorem.
        """
        limit = number("max_stable_lr: largest_eigenvalue", largest_eigenvalue, "(0, inf)")
        return filters.largest_step(self, resonance) / limit

    def bode(self, resonance: Resonance = 1.0) -> str:
        """A Bode plot of the filter, an SVG picture: its gain in decibels and its phase in degrees over frequency."""
        from .pictures import bode

        return bode(self, resonance)

    # ---- what it has seen ----

    def coherence(self, state: Any) -> list[list[Any]]:
        """The coherence c of every memory after the steps so far, and of each leaf: ``coherence(...)[k][leaf]``.

        Args:
            state: the state of this bank's transform, or an ``Optimizer`` whose chain has it.

        Returns:
            An array of the leaf's shape, or a number for a gate per tensor; None of a leaf that has had no gradient. Memories of gain 0
            are left out.

        Raises:
            ValueError: a bank without a gate keeps no squares; an optimizer without this bank.
        """
        if self.gate == "none":
            raise ValueError('vortex: gate="none" keeps no squares to know a coherence by')
        own = state if isinstance(state, dict) else state_of(self, state)
        found = []
        for i, k in enumerate(self.kept):
            row: list[Any] = []
            for leaf, t in enumerate(own["t"]):
                if self.memory != "exponential":
                    count = min(t, self.capacities[k])
                    row.append(buffers.coherence(own[f"past{i}"][leaf], count, self)[1] if count else None)
                    continue
                memory, n = bank.Memory(self, k), own.get(f"n{i}")
                if not t:
                    row.append(None)
                    continue
                c = memory.coherence(own[f"m{i}"][leaf], None if n is None else n[leaf], own[f"v{i}"][leaf], t)
                row.append(backend.scalar(c * ((1 - memory.beta) / memory.mass(t))))
            found.append(row)
        return found

    def noise_floor(self, k: int, t: int) -> float:
        """c0 of memory k after t gradients."""
        if self.memory == "exponential":
            return bank.Memory(self, k).noise_floor(t)
        return 1 / min(t, self.capacities[k])


class VortexLink(Leafwise):
    """The link that a bank makes."""

    def __init__(self, settings: VortexGrad, kept: list[int], kernel: Callable, made: dict, elementwise: bool):
        super().__init__(lambda _state: kernel, made, {}, elementwise)
        self.settings, self.kept = settings, kept


def links_in(transform: Any) -> list[tuple[tuple[int, ...], VortexLink]]:
    """The links of banks in a transform or an optimizer, each with the keys that lead to its state."""

    def look(link: Link, path: tuple[int, ...]) -> list[tuple[tuple[int, ...], VortexLink]]:
        if isinstance(link, VortexLink):
            return [(path, link)]
        parts = enumerate(link.links) if isinstance(link, _Chain) else ()
        return [found for i, part in parts for found in look(part, (*path, i))]

    link = getattr(transform, "_link", None)
    return look(link if isinstance(link, Link) else link_of(transform), ())


def state_of(settings: VortexGrad, optimizer: Any) -> dict:
    """The state of a bank's link in an optimizer."""
    if not hasattr(optimizer, "_link"):
        raise TypeError(
            f"coherence: give it the state of the bank's transform or an Optimizer, not {type(optimizer).__name__}"
        )
    for path, link in links_in(optimizer):
        if link.settings == settings:
            state = optimizer.state
            for key in path:
                state = state[key]
            return state  # type: ignore[no-any-return]
    raise ValueError("coherence: the optimizer's chain does not have this bank as one of its links")


def vortex(*args: Any, **settings: Any) -> GradientTransform:
    """The gradient transform of ``VortexGrad`` with these settings: ``vortex(...)`` is ``VortexGrad(...)()``."""
    return VortexGrad(*args, **settings)()


vortex.__signature__ = inspect.signature(VortexGrad).replace(return_annotation=GradientTransform)  # type: ignore[attr-defined]


def _numbers(name: str, values: Any, interval: str) -> tuple[float, ...]:
    if isinstance(values, str) or not hasattr(values, "__iter__"):
        raise TypeError(f"vortex: {name} must be a sequence of numbers, one for each memory, not {values!r:.60}")
    found = tuple(number(f"vortex: {name}[{k}]", v, interval) for k, v in enumerate(values))
    return tuple(math.remainder(v, 2 * math.pi) for v in found) if name == "phases" else found
