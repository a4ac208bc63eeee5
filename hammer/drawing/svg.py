"""The few shapes a chart needs, as SVG text: axes with few ticks, lines, bands, dots, words."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from .numbers import number, power

MOST_DECADES = 10
"""A logarithmic axis shows at most this many powers of ten below its top."""


@dataclass(frozen=True)
class Axis:
    """Data values from ``low`` to ``high`` laid onto pixels from ``start`` to ``end``."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        """The pixel of a value; what lies outside, infinite too, is put on the nearer end."""
        if math.isnan(value):
            return self.start
        value = min(max(value, self.low), self.high)
        if self.log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self, most: int = 5) -> list[float]:
        """At most about ``most`` round values within the axis."""
        if self.log:
            exponents = range(math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9) + 1)
            if len(exponents) >= 3:
                stride = math.ceil(len(exponents) / most)
                return [10.0**e for e in exponents if e % stride == 0]
            first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
            for mantissas in ((1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7)):
                values = [m * 10.0**e for e in range(first, last + 1) for m in mantissas]
                values = [v for v in values if self.low * 0.999 <= v <= self.high * 1.001]
                if len(values) >= 3:
                    return values[:: math.ceil(len(values) / most)]
        # Linear, or so short a piece of a logarithmic axis that it is nearly linear.
        step = _round_step((self.high - self.low) / most)
        return [i * step for i in range(math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9) + 1)]


def _round_step(raw: float) -> float:
    """The next of 1, 2, 5 times a power of ten that is not below ``raw``."""
    unit = 10.0 ** math.floor(math.log10(raw))
    return next(m * unit for m in (1, 2, 5, 10) if m * unit >= raw * 0.999)


def tick_text(value: float, log: bool) -> str:
    """A tick's label: powers of ten where the axis is logarithmic and the value very small or large."""
    exponent = math.log10(value) if log and value > 0 else 0.0
    if log and abs(exponent - round(exponent)) < 1e-9 and not -2 <= round(exponent) <= 3:
        return power(round(exponent))
    return number(value)


def span(values: Iterable[float], log: bool) -> tuple[float, float]:
    """The range of an axis that shows all finite ``values`` (positive ones, if logarithmic) with a little room."""
    kept = [v for v in values if math.isfinite(v) and (v > 0 or not log)]
    if not kept:
        return (0.1, 1.0) if log else (0.0, 1.0)
    low, high = min(kept), max(kept)
    if log:
        low = max(low, high * 10.0**-MOST_DECADES)
        room = max((high / low) ** 0.05, 1.05)
        return low / room, high * room
    room = 0.05 * (high - low) or 0.5
    return low - room, high + room


def line(xs: Sequence[float], ys: Sequence[float], css: str, title: str = "") -> str:
    """A line through points."""
    points = "L".join(f"{x:.1f} {y:.1f}" for x, y in zip(xs, ys, strict=True))
    return f'<path class="{css}" d="M{points}">{_title(title)}</path>'


def band(xs: Sequence[float], lows: Sequence[float], highs: Sequence[float], css: str) -> str:
    """The area between two lines."""
    forth = [f"{x:.1f} {y:.1f}" for x, y in zip(xs, lows, strict=True)]
    back = [f"{x:.1f} {y:.1f}" for x, y in zip(xs, highs, strict=True)][::-1]
    return f'<path class="{css}" d="M{"L".join(forth + back)}Z"/>'


def dot(x: float, y: float, radius: float, css: str, title: str = "") -> str:
    return f'<circle class="{css}" cx="{x:.1f}" cy="{y:.1f}" r="{radius}">{_title(title)}</circle>'


def words(x: float, y: float, text: str, css: str, anchor: str = "start") -> str:
    return f'<text class="{css}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _title(text: str) -> str:
    return f"<title>{escape(text)}</title>" if text else ""


def frame(x: Axis, y: Axis, x_label: str, x_ticks: int = 5) -> str:
    """Grid lines, tick labels and the name of the horizontal axis. ``y.start`` is the bottom."""
    parts = []
    for value in y.ticks():
        at = y.at(value)
        parts.append(line((x.start, x.end), (at, at), "grid"))
        parts.append(words(x.start - 6, at + 3.5, tick_text(value, y.log), "tick", "end"))
    for value in x.ticks(x_ticks):
        parts.append(line((x.at(value),) * 2, (y.start, y.start + 4), "axis"))
        parts.append(words(x.at(value), y.start + 16, tick_text(value, x.log), "tick", "middle"))
    parts.append(line((x.start, x.end), (y.start, y.start), "axis"))
    parts.append(words(x.end, y.start + 29, x_label, "label", "end"))
    return "".join(parts)


def every(values: np.ndarray, most: int) -> np.ndarray:
    """Indices of at most about ``most`` values, evenly spaced, the last one included."""
    stride = max(1, math.ceil(len(values) / most))
    return np.unique(np.append(np.arange(0, len(values), stride), len(values) - 1))
