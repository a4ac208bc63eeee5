"""Haar wavelets, and gradients taken apart into resolutions across parameters and across time.

The Haar transform (Haar 1910; Mallat 1989) halves a signal again and again: each pair becomes its sum and its difference over √2, and
the sums are the next, coarser signal. It is orthonormal, so it keeps the energy and is undone exactly.

Both gradient transforms multiply resolutions by gains; with gains of 1 they change nothing. ``scale_by_resolution`` sees each parameter as
a signal in the order of its elements; ``scale_by_resolution_over_time`` sees the gradients so far, through means of the last 1, 2, 4, …
of them (the Haar transform without decimation, "à trous": Holschneider et al. 1989).
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from autograd import backend, ops
from autograd.gradients import GradientTransform, leafwise
from autograd.gradients.scaling import number, whole

_ROOT = math.sqrt(0.5)


class Haar(NamedTuple):
    """A signal's Haar coefficients.

    Attributes:
        approximation: of the coarsest resolution.
        details: from the finest to the coarsest; together with the approximation as many numbers as the signal had.
        axis: the axis they lie along.
    """

    approximation: Any
    details: tuple
    axis: int


def haar(x: Any, levels: int | None = None, axis: int = -1) -> Haar:
    """The orthonormal Haar transform along an axis, of any length.

    Args:
        x: a floating-point array or tensor; it is differentiable.
        levels: how often to halve; None: until one number is left. Where a length is odd, the last element goes on as it is.
        axis: the axis of the signal.

    Raises:
        ValueError: no such axis, an empty signal, or more levels than there are halvings.
    """
    if not len(x.shape) or not -len(x.shape) <= axis < len(x.shape):
        raise ValueError(f"haar: there is no axis {axis} in an array of shape {tuple(x.shape)}")
    length = int(x.shape[axis])
    if not length:
        raise ValueError(f"haar: an array of shape {tuple(x.shape)} has no samples along axis {axis}")
    most = (length - 1).bit_length()
    count = most if levels is None else whole("haar: levels", levels, 0)
    if count > most:
        raise ValueError(f"haar: {length} samples can be halved {most} times, not {count}")
    at = _taker(len(x.shape), axis)
    details = []
    for _ in range(count):
        n = int(x.shape[axis])
        even, odd = x[at(0, n - n % 2, 2)], x[at(1, n, 2)]
        details.append((even - odd) * _ROOT)
        coarse = (even + odd) * _ROOT
        x = ops.concat([coarse, x[at(n - 1, n, 1)]], axis=axis) if n % 2 else coarse
    return Haar(x, tuple(details), axis)


def inverse_haar(coefficients: Haar) -> Any:
    """The signal of Haar coefficients."""
    x, axis = coefficients.approximation, coefficients.axis
    at, place = _taker(len(x.shape), axis), axis % len(x.shape)
    for d in reversed(coefficients.details):
        n, whole_ = int(d.shape[axis]), int(x.shape[axis])
        if whole_ - n not in (0, 1):
            raise ValueError(f"inverse_haar: {n} details do not fit an approximation of {whole_}")
        coarse = x[at(0, n, 1)]
        pairs = ops.stack([(coarse + d) * _ROOT, (coarse - d) * _ROOT], axis=place + 1)
        shape = tuple(2 * n if i == place else int(s) for i, s in enumerate(x.shape))
        made = ops.reshape(pairs, shape=shape)
        x = ops.concat([made, x[at(n, whole_, 1)]], axis=axis) if whole_ > n else made
    return x


def _taker(ndim: int, axis: int) -> Callable[[int, int, int], tuple]:
    place = axis % ndim
    return lambda start, stop, step: tuple(slice(start, stop, step) if i == place else slice(None) for i in range(ndim))


def _gains(name: str, gains: Sequence[float]) -> list[float]:
    found = [number(f"{name}: gains[{j}]", gain, "(-inf, inf)") for j, gain in enumerate(gains)]
    if not found:
        raise ValueError(f"{name}: gains must hold one number or more, the last for the coarsest resolution")
    return found


def scale_by_resolution(gains: Sequence[float]) -> GradientTransform:
    """Multiply the Haar resolutions of each parameter's gradient by gains.

    Args:
        gains: of the details from the finest on, and last of the approximation: ``(0, 0, 1)`` keeps the means of blocks of four neighbours.
            A gradient is a signal in C order; one too short for all levels ends earlier, with the last gain.
    """
    factors = _gains("scale_by_resolution", gains)

    def kernel(g: Any, p: Any) -> Any:
        size = math.prod(g.shape)
        levels = min(len(factors) - 1, (size - 1).bit_length() if size else 0)
        if not levels:
            return g * factors[-1]
        found = haar(ops.reshape(g, shape=(size,)), levels)
        details = tuple(d * gain for d, gain in zip(found.details, factors, strict=False))
        return ops.reshape(inverse_haar(Haar(found.approximation * factors[-1], details, -1)), shape=tuple(g.shape))

    return leafwise(kernel, elementwise=False)


def scale_by_resolution_over_time(gains: Sequence[float]) -> GradientTransform:
    """Multiply the resolutions of the gradients over time by gains.

    With a_0 = g_t and a_j the mean of the last 2^j gradients, g_t = Σ (a_{j−1} − a_j) + a_J; the parts of this sum are multiplied by
    ``gains``, from the finest on, a_J by the last. Before the first gradient the past is that gradient.

    State of each parameter: a count, and 2^J − 1 arrays of its shape, J = len(gains) − 1.
    """
    factors = _gains("scale_by_resolution_over_time", gains)

    def kernel(g: Any, p: Any, t: int, *delays: Any) -> Any:
        mean: Any = g
        total: Any = g * 0.0
        for delay, gain in zip(delays, factors, strict=False):
            if t == 1:
                delay[...] = mean
            place = (t - 1) % delay.shape[0]
            coarser = (mean + delay[place, ...]) * 0.5
            delay[place, ...] = mean
            total = total + (mean - coarser) * gain
            mean = coarser
        return total + mean * factors[-1]

    def line(length: int) -> Callable[[Any], Any]:
        def zeros(p: Any) -> Any:
            xp = backend.xp(p)
            device = {} if xp.__name__ in ("numpy", "cupy") else {"device": p.device}
            return xp.zeros((length, *p.shape), dtype=p.dtype, **device)

        return zeros

    if len(factors) == 1:
        return leafwise(lambda g, p: g * factors[0])
    return leafwise(kernel, {f"a{j}": line(2**j) for j in range(len(factors) - 1)}, elementwise=False)
