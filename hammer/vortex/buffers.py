"""Memories that keep gradients as they are: the last ones ("window"), or those of largest norm ("critical").

With n gradients kept, m̂ is their mean, v̂ the mean of their squares plus ε, and under noise the coherence m̂² / v̂ is 1/n on
average; resonance and h are then those of any memory. A window holds the last C gradients, this one included (Grokfast-MA). A
critical memory (McRae, Malviya, et al., "Memory augmented optimizers for deep learning", ICLR 2022) is read before it takes in
this gradient, as in their released code: a gradient enters while there is room, then in place of the one of lowest priority if its norm is
larger; a priority is the norm at first, and decays by β at every step.

What is kept depends on values, so these memories run uncompiled between the two plans of a compiled step.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from autograd import backend
from autograd.gradients.base import zeros_like

from .bank import significant

if TYPE_CHECKING:
    from .settings import VortexGrad


def kernel_of(settings: "VortexGrad", kept: Sequence[int]) -> tuple[Callable, dict[str, Callable[[Any], Any]]]:
    """The kernel of a bank of such memories, and its buffers; ``kept``: which of the settings' memories take part."""
    critical, direct, normalize = settings.memory == "critical", settings.direct, settings.normalize
    bank = [(settings.decays[k], settings.gains[k], settings.capacities[k], settings.corrected[k]) for k in kept]
    buffers: dict[str, Callable[[Any], Any]] = {
        f"past{i}": partial(_gradients, capacity) for i, (_, _, capacity, _) in enumerate(bank)
    }
    if critical:
        buffers |= {f"priority{i}": partial(_numbers, capacity) for i, (_, _, capacity, _) in enumerate(bank)}

    def kernel(g: Any, p: Any, t: int, *arrays: Any) -> Any:
        h: Any = g * direct
        total: Any = direct
        for i, (beta, gain, capacity, corrected) in enumerate(bank):
            past = arrays[i]
            if critical:
                count = min(t - 1, capacity)
            else:
                past[(t - 1) % capacity, ...] = g
                count = min(t, capacity)
            if count and (count == capacity or not settings.wait):
                mean, r = _read(past, count, settings)
                share = gain * r * (1.0 if corrected else count / capacity)
                h += mean * share
                total = total + gain * r
            if critical:
                _take_in(past, arrays[len(bank) + i], g, count, beta)
        return h / total if normalize else h

    return kernel, buffers


def coherence(past: Any, count: int, settings: "VortexGrad") -> tuple[Any, Any]:
    """The mean of the gradients kept, and the coherence."""
    mean, square = past[0, ...] * 1.0, None
    if settings.gate != "none":
        square = mean * mean
    for j in range(1, count):
        x = past[j, ...]
        mean += x
        if square is not None:
            square += x * x
    mean *= 1 / count
    if square is None:
        return mean, None
    power, square = mean * mean, square * (1 / count)
    if settings.gate == "tensor":
        xp = backend.xp(mean)
        power, square = xp.sum(power), xp.sum(square)
    return mean, power / (square + settings.eps)


def _read(past: Any, count: int, settings: "VortexGrad") -> tuple[Any, Any]:
    """The mean, and the resonance."""
    mean, c = coherence(past, count, settings)
    if c is None:
        return mean, 1.0
    if count == 1:
        return mean, 0.0
    if settings.significance is not None:
        return mean, significant(backend.xp(past), c, 1 / count, settings.significance)
    r = backend.xp(past).clip((c - 1 / count) * (count / (count - 1)), 0.0, 1.0)
    return mean, r if settings.exponent == 1.0 else r**settings.exponent


def _take_in(past: Any, priority: Any, g: Any, count: int, beta: float) -> None:
    """Put a gradient into the buffer if there is room or its norm is larger than the lowest priority; then all decay."""
    xp = backend.xp(past)
    norm = xp.sqrt(xp.sum(g * g))
    slot = count
    if count == past.shape[0]:
        slot = int(xp.argmin(priority))
        if not float(norm) > float(priority[slot]):
            slot = -1
    if slot >= 0:
        past[slot, ...] = g
        priority[slot] = norm
    priority *= beta


def _gradients(count: int, p: Any) -> Any:
    """Room for so many gradients of a parameter."""
    return backend.xp(p).stack([zeros_like(p)] * count)


def _numbers(count: int, p: Any) -> Any:
    """Room for so many numbers, in the parameter's dtype and library."""
    return _gradients(count, backend.xp(p).sum(zeros_like(p)))
