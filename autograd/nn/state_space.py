"""A state-space layer: a linear dynamical system whose states do not mix, run over a sequence by one ``linear_scan``."""

import math
from typing import Any

import numpy as np

from .. import ops
from ..precision import beside
from . import init
from .init import Seed
from .layers import FLOAT32
from .module import Module, Parameter


class DiagonalSSM(Module):
    """A diagonal state-space model: h'(t) = A h(t) + B u(t), y(t) = 2 Re(C h(t)) + D u(t), with h = 0 at first.

    ``y = DiagonalSSM(channels, states)(x)`` for x (T, N, channels), or (N, T, channels) with ``batch_first``; y is shaped as x.

    Parametrisation: A = -exp(log_decay) + i frequency, diagonal, (states,); every h(t) decays, whatever the parameters are. B (2, states,
    channels) and C (2, channels, states) hold real and imaginary parts, D (channels,) is real. Each complex state stands for itself and
    its conjugate, hence the 2 (Gu et al. 2022, "On the Parameterization and Initialization of Diagonal State Space Models": S4D).
    All channels enter every state (Smith et al. 2023: S5), so the work is two matrix products and one scan of ``states`` numbers.

    Discretisation: exact for inputs that stay as they are for a step Δ = exp(log_step), (states,) (zero-order hold):
    h_k = Ā h_{k-1} + B̄ u_k, with Ā = exp(ΔA) and B̄ = (Ā - 1) / A · B; y_k = 2 Re(C h_k) + D u_k.

    Initialisation: A = -1/2 + iπn for n = 0, 1, ... (S4D-Lin); Δ log-uniform on ``steps``; the parts of B normal with variance
    1 / (2 channels), those of C with variance 1 / (2 states); D standard normal (Orvieto et al. 2023, "Resurrecting Recurrent Neural
    Networks for Long Sequences", have the same variances).

    Args:
        channels: numbers in an input, and in an output.
        states: complex numbers in a state.
        steps: the smallest and the largest Δ at first, as fractions of the unit of time in which A is given.
        batch_first: inputs and outputs are (N, T, channels).
        rng: generator or seed of the weights.
        dtype: of the parameters, which are real.

    Raises:
        ValueError: sizes or steps that are not positive, or an input whose shape does not fit.
    """

    def __init__(
        self,
        channels: int,
        states: int,
        steps: tuple[float, float] = (0.001, 0.1),
        batch_first: bool = False,
        *,
        rng: Seed = None,
        dtype: Any = FLOAT32,
    ):
        super().__init__()
        if channels < 1 or states < 1 or not 0.0 < steps[0] <= steps[1]:
            raise ValueError(
                f"DiagonalSSM: channels and states must be at least 1, and steps positive and ascending, not {channels}, {states} and {steps}"
            )
        self.channels, self.states, self.steps, self.batch_first = channels, states, tuple(steps), batch_first
        rng = init.generator(rng)
        self.log_decay = Parameter(np.full(states, math.log(0.5), dtype))
        self.frequency = Parameter((math.pi * np.arange(states)).astype(dtype))
        self.log_step = Parameter(init.uniform((states,), rng, math.log(steps[0]), math.log(steps[1]), dtype))
        self.B = Parameter(init.normal((2, states, channels), rng, 0.0, math.sqrt(0.5 / channels), dtype))
        self.C = Parameter(init.normal((2, channels, states), rng, 0.0, math.sqrt(0.5 / states), dtype))
        self.D = Parameter(init.normal((channels,), rng, dtype=dtype))

    def discretised(self) -> tuple[Any, Any]:
        """Ā (states,) and B̄ (states, channels), complex."""
        a = ops.multiply(self.frequency, 1j) - ops.exp(self.log_decay)
        moved = a * ops.exp(self.log_step)
        factor = ops.expand_dims(ops.expm1(moved) / a, axis=1)  # expm1: Ā is near 1 where Δ is small
        real, imag = (part[0] for part in ops.split(self.B, sections=2, axis=0))
        return ops.exp(moved), factor * (real + imag * 1j)

    def forward(self, x: Any) -> Any:
        if x.ndim != 3 or x.shape[2] != self.channels:
            order = "(N, T" if self.batch_first else "(T, N"
            raise ValueError(f"DiagonalSSM: input {tuple(x.shape)} must be {order}, {self.channels})")
        x = ops.swapaxes(x, 0, 1) if self.batch_first else x
        a, b = self.discretised()
        # complex numbers only in the scan: both products are of real matrices twice as large
        weight = ops.concat([ops.real(b), ops.imag(b)], axis=0)
        real, imag = ops.split(ops.linear(x, weight), sections=2, axis=2)
        h = ops.linear_scan(a, real + imag * 1j, axis=0)
        out, back = (part[0] for part in ops.split(ops.multiply(self.C, 2.0), sections=2, axis=0))
        y = ops.linear(ops.concat([ops.real(h), ops.imag(h)], axis=2), ops.concat([out, -back], axis=1))
        y = y + beside(self.D, x) * x
        return ops.swapaxes(y, 0, 1) if self.batch_first else y

    def extra_repr(self) -> str:
        return f"{self.channels}, {self.states}, steps={self.steps}, batch_first={self.batch_first}"
