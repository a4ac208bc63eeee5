"""Sets and signals whose dimension is known, to try estimators on."""

from typing import Any

import numpy as np

from autograd.gradients.scaling import number, whole


def fractional_brownian(n: int, hurst: float, rng: np.random.Generator) -> np.ndarray:
    """n samples of fractional Brownian motion with the Hurst exponent 0 < H < 1: float64 of shape (n,), of dimension 2 − H.

    Its increments are exact (circulant embedding: Davies & Harte 1987; Wood & Chan 1994) and have variance 1.
    """
    h, count = number("fractional_brownian: hurst", hurst, "(0, 1)"), whole("fractional_brownian: n", n)
    k = np.arange(count + 1, dtype=np.float64)
    covariance = 0.5 * (np.abs(k + 1) ** (2 * h) - 2 * k ** (2 * h) + np.abs(k - 1) ** (2 * h))
    eigenvalues = np.fft.fft(np.concatenate([covariance, covariance[-2:0:-1]])).real
    size = len(eigenvalues)
    noise = rng.standard_normal(size) + 1j * rng.standard_normal(size)
    increments = np.fft.fft(np.sqrt(np.maximum(eigenvalues, 0.0) / size) * noise).real
    return np.cumsum(increments[:count])


def sierpinski_carpet(level: int) -> np.ndarray:
    """The carpet after ``level`` divisions: booleans of shape (3^level, 3^level), of dimension log 8 / log 3 = 1.8928."""
    return _repeated(np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], bool), whole("sierpinski_carpet: level", level))


def sierpinski_triangle(level: int) -> np.ndarray:
    """The triangle after ``level`` divisions: booleans of shape (2^level, 2^level), of dimension log 3 / log 2 = 1.5850."""
    return _repeated(np.array([[1, 0], [1, 1]], bool), whole("sierpinski_triangle: level", level))


def _repeated(pattern: np.ndarray, level: int) -> Any:
    made = np.ones((1, 1), bool)
    for _ in range(level):
        made = np.kron(made, pattern).astype(bool)
    return made


def sierpinski_points(n: int, rng: np.random.Generator) -> np.ndarray:
    """n independent points of the uniform measure on the Sierpinski triangle: float64 of shape (n, 2)."""
    corners = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    digits = rng.integers(0, 3, size=(whole("sierpinski_points: n", n), 40))
    return corners[digits].transpose(0, 2, 1) @ 0.5 ** np.arange(1, 41)  # type: ignore[no-any-return]
