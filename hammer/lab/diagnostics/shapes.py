"""Diagnostics whose difficulty is the function's shape."""

from typing import Any

import numpy as np

from autograd import ops

from .landscape import Diagnostic

N = 20
"""Coordinates (pairs of them for the monkey saddle): enough that random search does not help."""


def _near_zero(n: int, scale: float) -> Any:
    return lambda rng: rng.normal(scale=scale, size=n)


def _saddle(x: Any, _t: Any) -> Any:
    down, up = x[..., :N], x[..., N:]
    return 0.01 * ops.mean(0.25 * down**4 - 0.5 * down**2 + 0.5 * up**2, axis=-1)


def _monkey_saddle(x: Any, _t: Any) -> Any:
    a, b = x[..., :N], x[..., N:]
    r = a * a + b * b
    return 0.01 * ops.mean(a * a * a - 3.0 * a * b * b + 0.25 * r * r, axis=-1)


def _plateau(x: Any, _t: Any) -> Any:
    return ops.mean(1.0 - ops.exp(-0.5 * x * x), axis=-1)


def _cliff(x: Any, _t: Any) -> Any:
    wall = ops.maximum(ops.abs(x) - 1.0, 0.0)
    return ops.mean(0.05 * x * x + 1e4 * wall * wall, axis=-1)


_SCALES = np.repeat([1e-3, 1.0, 1e3], 7)


def _layer_scales(x: Any, _t: Any) -> Any:
    return 0.5 * ops.mean(_SCALES * (x - 1.0) ** 2, axis=-1)


_DIRECTION = np.where(np.arange(N) % 3 == 0, -1.0, 1.0) / np.sqrt(N)


def _scale_invariant(x: Any, _t: Any) -> Any:
    return 1.0 - ops.sum(x * _DIRECTION, axis=-1) / ops.sqrt(ops.sum(x * x, axis=-1))


def _moving(x: Any, t: Any) -> Any:
    target = 2.0 * np.sin(2.0 * np.pi * (t / 500.0 + np.arange(N) / N))
    return 0.05 * ops.mean((x - target) ** 2, axis=-1)


DIAGNOSTICS = (
    # The lowest value is -0.0025; a run that stays on the saddle ends at 0.
    Diagnostic("saddle", "start beside a saddle of 20 ways down and 20 up", _saddle, _near_zero(2 * N, 1e-4),
               (-2.0, 2.0), 500, -0.0024, "adam"),
    # The lowest value of a pair is -27/4.
    Diagnostic("monkey_saddle", "start beside 20 degenerate saddles, whose slope is quadratic", _monkey_saddle,
               _near_zero(2 * N, 1e-2), (-4.0, 4.0), 500, -0.064, "adam"),
    Diagnostic("plateau", "a plateau with slopes a ten-thousandth of the bowl's", _plateau,
               lambda rng: rng.choice([-1.0, 1.0], size=N) * rng.uniform(3.5, 4.5, size=N), (-5.0, 5.0), 500, 0.01, "adam"),
    Diagnostic("cliff", "a flat valley between walls 200,000 times as steep", _cliff,
               lambda rng: rng.choice([-1.0, 1.0], size=N) * rng.uniform(1.5, 2.5, size=N), (-3.0, 3.0), 500, 0.01, "adam"),
    Diagnostic("layer_scales", "three layers whose curvatures differ by a factor of a thousand each", _layer_scales,
               _near_zero(21, 0.1), (-3.0, 3.0), 500, 1e-4, "adam"),
    Diagnostic("scale_invariant", "a loss of the weights' direction only, and long weights", _scale_invariant,
               _near_zero(N, 20.0), (-20.0, 20.0), 500, 0.02, "adam"),
    Diagnostic("moving_target", "a minimum that moves in a circle", _moving, _near_zero(N, 0.1), (-2.0, 2.0), 1000, 0.005,
               "adam", tail=500),
)  # fmt: skip
