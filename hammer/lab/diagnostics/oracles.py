"""Diagnostics whose difficulty is what happens to the gradient on its way to the optimizer."""

from typing import Any

import numpy as np

from autograd import ops

from .landscape import Diagnostic

N = 20
_CURVATURES = np.geomspace(0.01, 1.0, N)


def _quadratic(x: Any, _t: Any) -> Any:
    return 0.5 * ops.mean(_CURVATURES * (x - 1.0) ** 2, axis=-1)


def _isotropic(x: Any, _t: Any) -> Any:
    return 0.5 * ops.mean((x - 1.0) ** 2, axis=-1)


def _zeros(_rng: np.random.Generator) -> np.ndarray:
    return np.zeros(N)


def _heavy_tailed(g: np.ndarray, _places: list, rng: np.random.Generator) -> np.ndarray:
    """Noise of Student's t distribution with 1.2 degrees of freedom: it has a mean, and no variance."""
    return g + 0.02 * rng.standard_t(1.2, size=N)


_RARITY = np.geomspace(1.0, 0.02, N)


def _sparse(g: np.ndarray, _places: list, rng: np.random.Generator) -> np.ndarray:
    """Coordinates are seen as rarely as words: the last in one step of fifty."""
    return np.where(rng.random(N) < _RARITY, g, 0.0)


def _quantised(g: np.ndarray, _places: list, rng: np.random.Generator) -> np.ndarray:
    """Stochastic rounding to seven values, -3 to 3 times a third of the largest (QSGD, Alistarh et al. 2017)."""
    unit = np.abs(g).max() / 3.0
    return np.floor(g / unit + rng.random(N)) * unit if unit > 0.0 else g


PERIOD, RARE = 1000, 1150.0
"""Reddi et al., "On the convergence of Adam and beyond" (ICLR 2018): a gradient of ``RARE`` in one step of ``PERIOD``, and
-1 in all others. The sum over a period is positive, so -1 is best; a second moment that forgets in 1,000 steps makes the
rare gradient count for too little."""


def _reddi(x: Any, t: Any) -> Any:
    slopes = np.where((t + np.arange(N) * (PERIOD // N)) % PERIOD == PERIOD - 1, RARE, -1.0)
    return ops.mean(slopes * x, axis=-1)


def _on_average(x: Any, _t: Any) -> Any:
    return ops.mean(x, axis=-1)


DIAGNOSTICS = (
    Diagnostic("heavy_tails", "gradient noise without a variance", _isotropic, _zeros, (-3.0, 3.0), 500, 0.08, "adam",
               spoil=_heavy_tailed),
    Diagnostic("delay", "gradients that are ten steps old", _quadratic, _zeros, (-3.0, 3.0), 500, 1e-3, "adam", delay=10),
    Diagnostic("sparse", "coordinates seen in one step of one to fifty", _isotropic, _zeros, (-3.0, 3.0), 500, 1e-3, "adam",
               spoil=_sparse),
    Diagnostic("quantised", "gradients rounded at random to seven values", _quadratic, _zeros, (-3.0, 3.0), 500, 1e-3,
               "adam", spoil=_quantised),
    Diagnostic("reddi", "Reddi's counter-example: a rare large gradient outweighs all others", _reddi, _zeros, (-1.0, 1.0),
               6000, -0.3, "sgd", judged=_on_average, project=lambda x: np.clip(x, -1.0, 1.0), tail=PERIOD),
)  # fmt: skip
