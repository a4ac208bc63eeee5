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
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .. import backend

Vector = np.ndarray
NOT_FOR_COMPLEX = (TypeError, ValueError, RuntimeError, np.exceptions.ComplexWarning)
"""What a function that does not take complex numbers raises when it is given some."""
LADDER = 12  # steps 2⁻³, 2⁻⁵, … of the direction; the directions have the size of x, so these are relative steps
SURE = 1e-11  # relative error at which the ladder is left early


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
        second: another estimate that contradicts this one, where long and short steps do and it is not known which were
            deceived: the long ones by a function that bends within them, or the short ones by one that rounds to float32.
    """

    value: Vector
    error: Vector
    moved: Vector
    kink: Vector
    left: Vector
    right: Vector
    method: str
    second: "Estimate | None" = None


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


def _inside(f: Callable[[Vector], Vector], x: Vector) -> Callable[[Vector], Vector]:
    """f, with NaN in the place of values that it refuses to compute: a step that leaves the domain of f is too long."""
    centre = f(x)

    def value(at: Vector) -> Vector:
        try:
            return f(at)
        except (ValueError, ArithmeticError):
            return np.full(centre.shape, math.nan)

    return value


def _noise(f: Callable[[Vector], Vector], x: Vector, v: Vector, bits: int, step: float | None = None) -> Vector:
    """The rounding noise of f at x: the spread of its values at seven nearly equal points, by their differences."""
    step = 2.0 ** (4 - bits // 2) if step is None else step
    values = np.stack([f(x + (i * step) * v) for i in range(-3, 4)])
    level = np.zeros(values.shape[1:])
    for k in range(1, 7):
        values = np.diff(values, axis=0)
        if k >= 3:
            gamma = math.factorial(k) ** 2 / math.factorial(2 * k)
            level = np.maximum(level, np.sqrt(gamma * np.mean(values * values, axis=0)))
    return level


def differences(f: Callable[[Vector], Vector], x: Vector, v: Vector, bits: int = 53) -> Estimate:
    """The derivative of f at x along v by extrapolated central differences; ``bits`` is the precision f computes in.

    Long steps can deceive where f oscillates or saturates within them: what they say must agree with the shortest steps,
    within the noise of those, or shorter ladders are tried, and what the long steps said is the ``second`` estimate.
    """
    f = _inside(f, x)
    with np.errstate(all="ignore"):
        first = found = _ladder(f, x, v, bits, 3, _noise(f, x, v, bits))
        if bits < 53 or np.all(found.error <= SURE * np.abs(found.value)) or found.kink.any():
            return found
        noise = np.fmax(_noise(f, x, v, bits, 2.0**-34), 2.0 ** (1 - bits) * np.abs(f(x)))
        h = 2.0**-28
        probe, floor = (f(x + h * v) - f(x - h * v)) / (2 * h), 8 * noise / h
        for start in (13, 21):
            deceived = np.abs(found.value - probe) > 8 * found.error + floor + 1e-3 * np.abs(probe)
            if not deceived.any():
                break
            found = _ladder(f, x, v, bits, start, noise)
        return found if found is first else replace(found, second=first)


def _ladder(f: Callable[[Vector], Vector], x: Vector, v: Vector, bits: int, start: int, noise: Vector) -> Estimate:
    """Extrapolated central differences at steps 2**-start, a quarter of that, …"""
    centre, h = f(x), 1.0
    best = np.zeros(centre.shape)
    error = np.full(centre.shape, math.inf)
    moved, bends = np.zeros(centre.shape), []
    previous: list[Vector] = []
    plus = minus = centre
    for k in range(LADDER):
        h = 2.0 ** (-start - 2 * k)
        plus, minus = f(x + h * v), f(x - h * v)
        row = [(plus - minus) / (2 * h)]
        moved = np.fmax(moved, np.abs(row[0]))
        floor = np.maximum(noise, 2.0**-bits * np.maximum(np.abs(plus), np.abs(minus))) / h
        for j, before in enumerate(previous):
            row.append(row[j] + (row[j] - before) / (16.0 ** (j + 1) - 1))
            found = np.maximum(np.abs(row[-1] - row[-2]), np.abs(row[-1] - before)) + floor
            better = found < error  # false where something is not finite
            best, error = np.where(better, row[-1], best), np.where(better, found, error)
        previous = row
        bends.append(np.abs(plus - 2 * centre + minus) / h)
        if k >= 3 and np.all(error <= SURE * np.abs(best)):
            break
    # the second difference over h falls with h where f is smooth, and stays the same where it has a kink at x
    b0, b1, b2 = bends[-3:]
    visible = np.maximum(1e3 * 2.0**-bits * np.abs(centre) / h, 1e-4 * moved)
    kink = (np.abs(b2 - b1) < 0.01 * b1) & (np.abs(b1 - b0) < 0.01 * b0) & (b2 > visible)
    return Estimate(best, error, moved, kink, (centre - minus) / h, (plus - centre) / h, "differences")


def plausible(f: Callable[[Vector], Vector], x: Vector, v: Vector, e: Estimate, bits: int = 53) -> bool:
    """Whether two differences, extrapolated, agree with an estimate: a quick look, which may say no where it is right."""
    f = _inside(f, x)
    with np.errstate(all="ignore"):
        found, size = [], np.zeros(e.value.shape)
        for h in (2.0**-8, 2.0**-10):
            plus, minus = f(x + h * v), f(x - h * v)
            found.append((plus - minus) / (2 * h))
            size = np.maximum(np.abs(plus), np.abs(minus))
        d = (16 * found[1] - found[0]) / 15
        gap = np.abs(d - e.value) - 1e-6 * np.maximum(np.abs(d), np.abs(e.value))
        if np.all(gap <= 2.0 ** (15 - bits) * size):
            return True
        # f may be a small difference of large terms: its noise is measured, at a scale at which it does not bend
        noise = np.fmin(_noise(f, x, v, bits), _noise(f, x, v, bits, 2.0 ** (19 - bits)))
        return bool(np.all(gap <= 2.0**13 * noise))


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
