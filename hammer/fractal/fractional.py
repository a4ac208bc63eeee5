"""Derivatives of fractional order, of signals and as memories of gradients.

The Grünwald–Letnikov derivative of order α of a signal x with time step h is a weighted sum over the past (Podlubny 1999, section 2.2)::

    D^α x_t = h^−α Σ_k w_k x_{t−k},        w_0 = 1,  w_k = w_{k−1} (1 − (α + 1) / k)

α = 0 is the signal, 1 its difference, −1 its cumulative sum, and w^a ∗ w^b = w^{a+b}. For −1 < α < 0 the weights fall like a power,
w_k ~ k^{−α−1} / Γ(−α): a memory that forgets more slowly than any exponential. ``fractional_memory`` is that memory of gradients, exact
over a window; ``power_law_memory`` is the same from a few exponential memories, with a stated error.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from scipy import optimize

from autograd import backend, ops
from autograd.gradients import GradientTransform, leafwise
from autograd.gradients.scaling import number, whole
from autograd.ops import windows

from ..vortex import vortex


def fractional_weights(alpha: float, n: int) -> np.ndarray:
    """The first n Grünwald–Letnikov weights of order ``alpha``: (−1)^k binomial(α, k), float64 of shape (n,)."""
    a, count = number("fractional_weights: alpha", alpha, "(-inf, inf)"), whole("fractional_weights: n", n)
    return np.concatenate([[1.0], np.cumprod(1.0 - (a + 1.0) / np.arange(1, count))])


def fractional_difference(x: Any, alpha: float, step: float = 1.0, axis: int = -1) -> Any:
    """The Grünwald–Letnikov derivative of order ``alpha`` of a signal that is 0 before it begins.

    Args:
        x: a real floating-point array or tensor; it is differentiable.
        alpha: the order; below 0 it is an integral.
        step: the time h between samples, above 0.
        axis: the axis of time.

    Returns:
        Like x. It is computed by the fast Fourier transform, so its error is one of rounding relative to the largest values.
    """
    h = number("fractional_difference: step", step, "(0, inf)")
    n = _length(x, axis, "fractional_difference", 1)
    return _convolved(x, fractional_weights(alpha, n) * h**-alpha, axis)


def caputo(x: Any, alpha: float, step: float = 1.0, axis: int = -1) -> Any:
    """The Caputo derivative of order 0 < α < 1 by the L1 scheme (Oldham & Spanier 1974; Lin & Xu 2007, eq. 3.1)::

        D^α x_t = h^−α / Γ(2 − α) Σ_k b_k (x_{t−k} − x_{t−k−1}),        b_k = (k + 1)^{1−α} − k^{1−α}

    It is exact on straight lines, of error O(h^{2−α}) on functions with two derivatives, and 0 at the first sample and on constants.
    The arguments are those of ``fractional_difference``.
    """
    a = number("caputo: alpha", alpha, "(0, 1)")
    h = number("caputo: step", step, "(0, inf)")
    n = _length(x, axis, "caputo", 2)
    powers = np.arange(n, dtype=np.float64) ** (1.0 - a)
    kernel = np.diff(powers) * (h**-a / math.gamma(2.0 - a))
    before = [(0, 0)] * len(x.shape)
    before[axis] = (1, 0)
    past = tuple(slice(None, -1) if i == axis % len(x.shape) else slice(None) for i in range(len(x.shape)))
    future = tuple(slice(1, None) if i == axis % len(x.shape) else slice(None) for i in range(len(x.shape)))
    return ops.pad(_convolved(ops.subtract(x[future], x[past]), kernel, axis), before)


def _length(x: Any, axis: int, name: str, least: int) -> int:
    if "float" not in str(getattr(x, "dtype", type(x).__name__)) or not len(x.shape):
        raise TypeError(
            f"{name}: a signal is a real floating-point array with an axis of time, not {getattr(x, 'dtype', type(x).__name__)}"
        )
    if not -len(x.shape) <= axis < len(x.shape):
        raise ValueError(f"{name}: there is no axis {axis} in a signal of shape {tuple(x.shape)}")
    if x.shape[axis] < least:
        raise ValueError(f"{name}: {x.shape[axis]} samples along axis {axis}; at least {least} are needed")
    return int(x.shape[axis])


def _convolved(x: Any, kernel: np.ndarray, axis: int) -> Any:
    """x convolved with a kernel of its length along an axis: what the past of each sample sums up to."""
    n = len(kernel)
    size = 1 << (2 * n - 1).bit_length()
    place = [1] * len(x.shape)
    place[axis] = size // 2 + 1
    spectrum = np.fft.rfft(kernel, size).reshape(place)
    if "float32" in str(x.dtype):
        spectrum = spectrum.astype(np.complex64)
    full = ops.irfft(ops.multiply(ops.rfft(x, n=size, axis=axis), windows.constant(spectrum, x)), n=size, axis=axis)
    return full[tuple(slice(n) if i == axis % len(x.shape) else slice(None) for i in range(len(x.shape)))]


def fractional_memory(alpha: float, window: int) -> GradientTransform:
    """The Grünwald–Letnikov derivative of order ``alpha`` of the gradients over time, as a gradient transform.

    h_t = Σ w_k g_{t−k} over k < ``window``: exact for the first ``window`` steps, and then without what is older. State of each parameter: a
    count, and ``window`` gradients. For −1 < α < 0 it is a memory with a power-law kernel; ``power_law_memory`` needs much less state.
    """
    count = whole("fractional_memory: window", window)
    weights = fractional_weights(alpha, count)

    def kernel(g: Any, p: Any, t: int, past: Any) -> Any:
        here = (t - 1) % count
        past[here, ...] = g
        h = g * float(weights[0])
        for k in range(1, min(t, count)):
            h = h + past[(here - k) % count, ...] * float(weights[k])
        return h

    def gradients(p: Any) -> Any:
        xp = backend.xp(p)
        device = {} if xp.__name__ in ("numpy", "cupy") else {"device": p.device}
        return xp.zeros((count, *p.shape), dtype=p.dtype, **device)

    return leafwise(kernel, {"past": gradients}, elementwise=False)


class PowerLaw(NamedTuple):
    """A power-law kernel as a sum of exponentials, w_k ≈ direct · [k = 0] + Σ c_j p_j^k.

    Attributes:
        poles: p_j, in [0, 1), rising.
        gains: c_j, at least 0.
        direct: what is added at k = 0, at least 0.
        error: the largest relative error over 0 ≤ k < horizon, measured at every k.
    """

    poles: np.ndarray
    gains: np.ndarray
    direct: float
    error: float

    def weights(self, n: int) -> np.ndarray:
        """The first n weights of the sum."""
        found = np.power(self.poles, np.arange(n)[:, None]) @ self.gains
        found[0] += self.direct
        return found


def power_law(alpha: float, horizon: int, memories: int = 8) -> PowerLaw:
    """Exponential memories whose sum is the kernel of order ``alpha``, −1 < α < 0, over ``horizon`` steps.

    The weights are moments of a positive measure, w_k = sin(πa)/π ∫ p^k p^{a−1} (1 − p)^{−a} dp with a = −α, so positive gains exist. The poles
    are spaced evenly in log (1 − p), from 1/2 to 1/(4 · horizon); the gains are the least squares of the relative error, not below 0.

    Args:
        alpha: the order of the kernel.
        horizon: over how many steps it is to hold; afterwards the sum falls off exponentially.
        memories: how many exponentials; the error falls about geometrically with their number (8 for 1,000 steps: below 2 %).
    """
    a = -number("power_law: alpha", alpha, "(-1, 0)")
    count, steps = whole("power_law: memories", memories), whole("power_law: horizon", horizon, 2)
    weights = fractional_weights(-a, steps)
    odds = np.append(np.geomspace(0.1, steps, count - 1), 50.0 * steps) if count > 2 else np.geomspace(2, steps, count)
    poles = odds / (1.0 + odds)
    k = np.unique(np.concatenate([np.arange(min(steps, 64)), np.geomspace(1, steps - 1, 400).astype(int)]))
    columns = np.concatenate([np.power(poles, k[:, None]), (k == 0)[:, None]], axis=1)
    found, _ = optimize.nnls(columns / weights[k, None], np.ones(len(k)), maxiter=100 * count)
    made = PowerLaw(poles, found[:-1], float(found[-1]), 0.0)
    return made._replace(error=float(np.max(np.abs(made.weights(steps) / weights - 1.0))))


def power_law_memory(alpha: float, horizon: int, memories: int = 8) -> GradientTransform:
    """``fractional_memory`` of order −1 < α < 0 by exponential memories: a bank of ``hammer.vortex`` without a gate.

    Its weights are those of ``power_law``, which states their error. State of each parameter: a count, and one array of its shape for each
    memory whose gain is not 0.
    """
    kernel = power_law(alpha, horizon, memories)
    gains = kernel.gains / (1.0 - kernel.poles)  # a memory of the bank is (1 − p) Σ p^k g
    return vortex(
        tuple(kernel.poles), tuple(gains), direct=kernel.direct, gate="none", bias_correction=False, initial="zero"
    )
