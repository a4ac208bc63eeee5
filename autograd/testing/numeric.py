"""Derivatives found by evaluating a function only: what the derivative rules are held against.

Everything here is about a function ``f`` of a real vector that returns a real vector, and its derivative at ``x`` along a
direction ``v``. Both methods return an ``Estimate``: the derivative of each component of the output together with how
far it may be off, measured on the function itself. No comparison made with it needs an absolute tolerance.

* ``differences``: central differences at a ladder of steps, extrapolated to step zero (Richardson 1911; the choice of
  the entry with the smallest error estimate is Ridders 1982). Rounding noise is measured by differencing values at
  nearly equal points (Moré & Wild 2011, "Estimating computational noise").
* ``complex_step``: Im f(x + ihv) / h with a tiny h, which subtracts nothing and so loses nothing (Squire & Trapp 1998).
  It is valid for analytic functions only; ``analytic`` decides that for a row of the op table.
"""

import math
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import backend

Vector = np.ndarray
NOT_FOR_COMPLEX = (TypeError, ValueError, RuntimeError, np.exceptions.ComplexWarning)
"""What a function that does not take complex numbers raises when it is given some."""
LADDER = 12  # steps 2⁻³, 2⁻⁵, … of the direction; the directions have the size of x, so these are relative steps
SURE, VAGUE = 1e-11, 1e-2  # relative errors at which the ladder is left early, and at which larger steps are tried too


@dataclass(frozen=True)
class Estimate:
    """A directional derivative of each component of the output, shape (m,).

    Attributes:
        value: the derivative.
        error: how far ``value`` may be from the truth, as far as evaluations can tell.
        moved: the largest difference quotient seen: how much the function changes along the direction at all.
        kink: where one-sided derivatives differ: there is no derivative.
        left, right: the one-sided difference quotients at the smallest step.
        method: what to call it in a message.
    """

    value: Vector
    error: Vector
    moved: Vector
    kink: Vector
    left: Vector
    right: Vector
    method: str


def rounded(x: np.ndarray, bits: int) -> np.ndarray:
    """x with the last few bits of each number cleared, so that x ± hv is exact for the steps h taken here."""
    mantissa, exponent = np.frexp(x)
    scale = 2.0 ** (bits - 9)
    return np.ldexp(np.round(mantissa * scale) / scale, exponent)


def sizes(x: np.ndarray) -> np.ndarray:
    """For each number a power of two of its size; for zeros that of the largest number beside it, or 1."""
    magnitude = np.abs(x)
    top = magnitude.max(initial=0.0)
    magnitude = np.where(magnitude > 0, magnitude, top if top > 0 else 1.0)
    return 2.0 ** np.floor(np.log2(magnitude))


def direction(rng: np.random.Generator, size: Vector) -> Vector:
    """A random direction with entries of the given sizes, in steps of 1/16, none of them zero."""
    return size * rng.integers(4, 17, size.shape) / 16.0 * rng.choice([-1.0, 1.0], size.shape)


def _noise(f: Callable[[Vector], Vector], x: Vector, v: Vector, bits: int) -> Vector:
    """The rounding noise of f at x: the spread of its values at seven nearly equal points, by their differences."""
    step = 2.0 ** (4 - bits // 2)
    values = np.stack([f(x + (i * step) * v) for i in range(-3, 4)])
    level = np.zeros(values.shape[1:])
    for k in range(1, 7):
        values = np.diff(values, axis=0)
        if k >= 3:
            gamma = math.factorial(k) ** 2 / math.factorial(2 * k)
            level = np.maximum(level, np.sqrt(gamma * np.mean(values * values, axis=0)))
    return level


class _Ladder:
    """Central differences at falling steps and, for each component, the extrapolation with the smallest error estimate."""

    def __init__(self, f: Callable[[Vector], Vector], x: Vector, v: Vector, bits: int):
        self.f, self.x, self.v, self.bits = f, x, v, bits
        self.centre, self.noise = f(x), _noise(f, x, v, bits)
        self.best, self.error = np.zeros(self.centre.shape), np.full(self.centre.shape, math.inf)
        self.moved = np.zeros(self.centre.shape)

    def descend(self, powers: Iterable[int]) -> None:
        """Steps 2**power, each a quarter of the one before, until all components are certain."""
        previous: list[Vector] = []
        self.bends: list[Vector] = []
        for k, power in enumerate(powers):
            self.h = h = 2.0**power
            self.plus, self.minus = plus, minus = self.f(self.x + h * self.v), self.f(self.x - h * self.v)
            row = [(plus - minus) / (2 * h)]
            self.moved = np.fmax(self.moved, np.abs(row[0]))
            floor = np.maximum(self.noise, 2.0**-self.bits * np.maximum(np.abs(plus), np.abs(minus))) / h
            for j, before in enumerate(previous):
                row.append(row[j] + (row[j] - before) / (16.0 ** (j + 1) - 1))
                error = np.maximum(np.abs(row[-1] - row[-2]), np.abs(row[-1] - before)) + floor
                better = error < self.error  # false where something is not finite
                self.best, self.error = np.where(better, row[-1], self.best), np.where(better, error, self.error)
            previous = row
            self.bends.append(np.abs(plus - 2 * self.centre + minus) / h)
            if k >= 3 and np.all(self.error <= SURE * np.abs(self.best)):
                break

    def ascend(self, powers: Iterable[int]) -> None:
        """Larger steps, each four times the one before, for components that are uncertain: x may be small beside what f
        feels, and then f's noise drowns small steps. A component stops where that makes it less certain."""
        active = self.error > VAGUE * np.abs(self.best)
        before = self.f(self.x + 2.0**-3 * self.v) - self.f(self.x - 2.0**-3 * self.v)
        for power in powers:
            h = 2.0**power
            plus, minus = self.f(self.x + h * self.v), self.f(self.x - h * self.v)
            small, large = before * (2.0 / h), (plus - minus) / (2 * h)
            value = small + (small - large) / 15.0
            floor = np.maximum(self.noise, 2.0**-self.bits * np.maximum(np.abs(plus), np.abs(minus))) * (4.0 / h)
            error = np.abs(value - small) + floor
            active &= (error < self.error) & ~(np.abs(value - self.best) > 4 * self.error)
            self.best, self.error = np.where(active, value, self.best), np.where(active, error, self.error)
            before = plus - minus
            if not active.any():
                break

    def kinks(self) -> Vector:
        """Where f has a kink at x: the second difference over h stays the same; it falls with h where f is smooth."""
        b0, b1, b2 = self.bends[-3:]
        visible = np.maximum(1e3 * 2.0**-self.bits * np.abs(self.centre) / self.h, 1e-4 * self.moved)
        return (np.abs(b2 - b1) < 0.01 * b1) & (np.abs(b1 - b0) < 0.01 * b0) & (b2 > visible)


def differences(f: Callable[[Vector], Vector], x: Vector, v: Vector, bits: int = 53) -> Estimate:
    """The derivative of f at x along v by extrapolated central differences; ``bits`` is the precision f computes in."""
    with np.errstate(all="ignore"):
        ladder = _Ladder(f, x, v, bits)
        ladder.descend(range(-3, -3 - 2 * LADDER, -2))
        kink, left, right = (
            ladder.kinks(),
            (ladder.centre - ladder.minus) / ladder.h,
            (ladder.plus - ladder.centre) / ladder.h,
        )
        if np.any(ladder.error > VAGUE * np.abs(ladder.best)):
            ladder.ascend(range(-1, 20, 2))
        return Estimate(ladder.best, ladder.error, ladder.moved, kink, left, right, "differences")


def plausible(f: Callable[[Vector], Vector], x: Vector, v: Vector, e: Estimate, bits: int = 53) -> bool:
    """Whether two differences, extrapolated, agree with an estimate: a quick look, which may say no where it is right."""
    with np.errstate(all="ignore"):
        found, size = [], np.zeros(e.value.shape)
        for h in (2.0**-8, 2.0**-10):
            plus, minus = f(x + h * v), f(x - h * v)
            found.append((plus - minus) / (2 * h))
            size = np.maximum(np.abs(plus), np.abs(minus))
        d = (16 * found[1] - found[0]) / 15
        return bool(
            np.all(np.abs(d - e.value) <= 1e-6 * np.maximum(np.abs(d), np.abs(e.value)) + 2.0 ** (15 - bits) * size)
        )


def complex_step(f: Callable[[Vector], Vector], x: Vector, v: Vector, bits: int = 53) -> Estimate:
    """The derivative of an analytic f at x along v, for an f that takes a complex vector and returns one."""
    with np.errstate(all="ignore"):
        nudge, found = 2.0 ** (5 - bits), []
        for k, h in enumerate((2.0**-70, 1.3 * 2.0**-70, 1.7 * 2.0**-70)):  # three roundings of one and the same
            found.append(f(x + k * nudge * v + 1j * h * v).imag / h)
        spread = np.ptp(np.stack(found), axis=0) + 2.0 ** (1 - bits) * np.abs(found[0])
        none = np.zeros(found[0].shape, bool)
        return Estimate(found[0], spread, np.abs(found[0]), none, found[0], found[0], "complex step")


def analytic(row: Any, inputs: tuple, params: dict) -> bool:
    """Whether a row is an analytic function of its inexact inputs, here: it runs on complex ones and satisfies the
    Cauchy-Riemann equations (its derivative along an imaginary direction is i times that along the real one)."""
    if not row.complex:
        return False
    moving = [backend.is_array(a) and np.dtype(a.dtype).kind in "fc" for a in inputs]
    if not any(moving):
        return True
    rng = np.random.default_rng(0)
    steps = [
        sizes(np.abs(a)) * rng.uniform(0.5, 1.0, np.shape(a)) if m else 0 for a, m in zip(inputs, moving, strict=True)
    ]

    def at(t: complex) -> list[np.ndarray]:
        moved = [a + t * s if m else a for a, s, m in zip(inputs, steps, moving, strict=True)]
        out = row.apply(moved, **params) if row.variadic else row.apply(*moved, **params)
        return [np.asarray(o) for o in (out if isinstance(out, tuple) else (out,))]

    h = 2.0**-12
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("error", np.exceptions.ComplexWarning)
            up, down, left, right = at(h), at(-h), at(1j * h), at(-1j * h)
    except NOT_FOR_COMPLEX:
        return False
    for a, b, c, d in zip(up, down, left, right, strict=True):
        if a.dtype.kind not in "fc":
            if not all(np.array_equal(a, other) for other in (b, c, d)):
                return False
            continue
        real, imaginary, noise = a - b, (c - d) / 1j, 1e-12 * (np.abs(a) + np.abs(c))
        if c.dtype.kind != "c" or np.any(np.abs(real - imaginary) > 1e-4 * (np.abs(real) + np.abs(imaginary)) + noise):
            return False
    return True
