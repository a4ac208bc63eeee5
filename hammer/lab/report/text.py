"""Numbers as people read them: three digits, intervals, and what is infinite said in words."""

import math
from collections.abc import Mapping
from typing import Any

from ...drawing.numbers import number, power
from ..analysis import Estimate
from ..config import Config

__all__ = ["amount", "count", "estimate", "hyper", "number", "p_value", "plan", "power", "settings"]

_PREFIXES = ("n", "µ", "m", "", "k", "M", "G", "T", "P", "E")


def amount(value: float, unit: str = "", of: float | None = None) -> str:
    """Three significant digits with a prefix of the SI: 1.24 G, 132 MB. With ``of``, digits only, in the unit that ``of`` has."""
    scale = value if of is None else of
    if not math.isfinite(value) or not math.isfinite(scale):
        return number(value)
    scale = float(f"{scale:.2e}")  # 999.9 is 1 k
    thousands = min(max(math.floor(math.log10(abs(scale)) / 3), -3), 6) if scale else 0
    digits = f"{value / 1000.0**thousands:.3g}"
    if "e" in digits:
        digits = f"{float(digits):,.0f}" if abs(value) > abs(scale) else "0"
    return digits if of is not None else f"{digits} {_PREFIXES[thousands + 3]}{unit}".rstrip()


_UNITS = {"seconds": "s", "count": "", "joules": "J", "bytes": "B"}


def estimate(e: Estimate | None, show: str = "number") -> str:
    """``value [low, high]``, the ends in the unit of the value; a dash where there is none, "missed" where it is infinite."""
    if e is None:
        return "–"
    if math.isinf(e.value) and math.isinf(e.low):
        return "missed"
    if show in _UNITS:
        scale = next((x for x in (e.value, e.low) if math.isfinite(x)), 0.0)
        ends = [amount(x, of=scale) for x in (e.low, e.high)]
        if not math.isfinite(e.value):
            ends[0] = amount(e.low, _UNITS[show])
        return f"{amount(e.value, _UNITS[show])} [{ends[0]}, {ends[1]}]"
    shown = {"number": number, "score": lambda x: f"{x:.2f}"}[show]
    return f"{shown(e.value)} [{shown(e.low)}, {shown(e.high)}]"


def p_value(p: float) -> str:
    """A p-value: two significant digits, and nothing below 0.0001."""
    return "<0.0001" if p < 1e-4 else f"{p:.2g}"


def hyper(values: dict[str, float] | None) -> str:
    """``lr 0.00137``."""
    return "–" if values is None else ", ".join(f"{name} {value:.3g}" for name, value in values.items())


def settings(values: Mapping[str, Any]) -> str:
    """Options as words: ``momentum 0.9, vortex (gains 5 and 20)``."""

    def one(value: Any) -> str:
        if isinstance(value, Mapping):
            return f"({settings(value)})"
        return (
            " and ".join(map(one, value))
            if isinstance(value, tuple | list)
            else f"{value:g}"
            if type(value) is float
            else str(value)
        )

    return ", ".join(f"{name} {one(value)}" for name, value in values.items())


def count(n: int, what: str) -> str:
    """``1 seed``, ``2 seeds``."""
    return f"{n} {what}{'' if n == 1 else 's'}"


def plan(config: Config) -> str:
    """What each optimizer gets on each workload: ``8 settings × 2 tuning seeds, then 10 scoring seeds``."""
    scoring = count(config.seeds, "scoring seed")
    if config.rules == "tuned":
        return f"{count(config.trials, 'setting')} × {count(config.tuning_seeds, 'tuning seed')}, then {scoring}"
    longer = ", three times the step limit" if config.rules == "self-tuning" else ""
    return f"rules {config.rules}: published defaults, nothing tuned{longer}; {scoring}"
