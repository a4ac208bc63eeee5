"""Initialisers: arrays of random weights, drawn from an explicit generator.

Each takes a shape and a ``numpy.random.Generator`` and returns a new NumPy array. Weights have the shape (out, in, ...);
their *fan in* is the number of products that are summed into one output, in · (places in a kernel), and their *fan out*
out · (places in a kernel).
"""

import math
from typing import Any

import numpy as np

Shape = tuple[int, ...]
Seed = np.random.Generator | np.random.SeedSequence | int | None


def generator(rng: Seed) -> np.random.Generator:
    """A generator from what layers take as ``rng``: one as it is, a seed, or None for a fresh one of the system's."""
    return np.random.default_rng(rng)


def fans(shape: Shape) -> tuple[int, int]:
    """Fan in and fan out of a weight.

    Raises:
        ValueError: the shape has less than two axes.
    """
    if len(shape) < 2:
        raise ValueError(f"fan in and fan out need a weight of two axes or more, (out, in, ...), not {tuple(shape)}")
    places = math.prod(shape[2:])
    return shape[1] * places, shape[0] * places


def gain(nonlinearity: str, slope: float = 0.01) -> float:
    """The factor by which weights before a nonlinearity are scaled so that activations keep their variance.

    ``slope`` is leaky_relu's. Values as in PyTorch: 5/3 for tanh, √2 for relu, √(2 / (1 + slope²)) for leaky_relu.
    """
    known = {
        "linear": 1.0, "sigmoid": 1.0, "tanh": 5.0 / 3.0, "relu": math.sqrt(2.0),
        "leaky_relu": math.sqrt(2.0 / (1.0 + slope * slope)), "selu": 0.75,
    }  # fmt: skip
    if nonlinearity not in known:
        raise ValueError(f"nonlinearity {nonlinearity!r} is not known; it may be {', '.join(known)}")
    return known[nonlinearity]


def uniform(
    shape: Shape, rng: np.random.Generator, low: float = 0.0, high: float = 1.0, dtype: Any = np.float32
) -> np.ndarray:
    """Uniform on [low, high)."""
    return rng.uniform(low, high, shape).astype(dtype)


def normal(
    shape: Shape, rng: np.random.Generator, mean: float = 0.0, std: float = 1.0, dtype: Any = np.float32
) -> np.ndarray:
    """Normal with a mean and a standard deviation."""
    return rng.normal(mean, std, shape).astype(dtype)


def _fan(shape: Shape, mode: str) -> int:
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f'mode must be "fan_in" or "fan_out", not {mode!r}')
    return max(fans(shape)[mode == "fan_out"], 1)


def kaiming_uniform(
    shape: Shape,
    rng: np.random.Generator,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    dtype: Any = np.float32,
) -> np.ndarray:
    """Uniform on ±gain √(3 / fan), for layers before a rectifier (He et al. 2015); ``a`` is leaky_relu's slope."""
    bound = gain(nonlinearity, a) * math.sqrt(3.0 / _fan(shape, mode))
    return uniform(shape, rng, -bound, bound, dtype)


def kaiming_normal(
    shape: Shape,
    rng: np.random.Generator,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    dtype: Any = np.float32,
) -> np.ndarray:
    """Normal with standard deviation gain / √fan (He et al. 2015, equation 10); ``a`` is leaky_relu's slope."""
    return normal(shape, rng, 0.0, gain(nonlinearity, a) / math.sqrt(_fan(shape, mode)), dtype)


def xavier_uniform(shape: Shape, rng: np.random.Generator, gain: float = 1.0, dtype: Any = np.float32) -> np.ndarray:
    """Uniform on ±gain √(6 / (fan in + fan out)) (Glorot & Bengio 2010, equation 16)."""
    bound = gain * math.sqrt(6.0 / max(sum(fans(shape)), 1))
    return uniform(shape, rng, -bound, bound, dtype)


def xavier_normal(shape: Shape, rng: np.random.Generator, gain: float = 1.0, dtype: Any = np.float32) -> np.ndarray:
    """Normal with standard deviation gain √(2 / (fan in + fan out)) (Glorot & Bengio 2010)."""
    return normal(shape, rng, 0.0, gain * math.sqrt(2.0 / max(sum(fans(shape)), 1)), dtype)


def orthogonal(shape: Shape, rng: np.random.Generator, gain: float = 1.0, dtype: Any = np.float32) -> np.ndarray:
    """gain times a random matrix (out, rest) with orthonormal rows, or columns if it is tall (Saxe et al. 2014).

    Uniform over such matrices: Q of the QR decomposition of a normal matrix, its signs set by R's diagonal.
    """
    fans(shape)
    rows, columns = shape[0], math.prod(shape[1:])
    q, r = np.linalg.qr(rng.normal(size=(max(rows, columns), min(rows, columns))))
    q = q * np.where(np.diagonal(r) < 0, -1.0, 1.0)
    return (gain * (q if rows >= columns else q.T)).reshape(shape).astype(dtype)
