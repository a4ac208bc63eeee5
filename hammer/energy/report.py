"""What a ledger found: rows of joules by phase, layer and operation; a table, JSON, and a flame graph as one HTML page."""

import html
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from autograd.atomic import write_atomically

from .meter import Reading, grams

SHOWN = 30


@dataclass
class Row:
    """An operation of a layer in a phase. Where not every step was watched, calls and work are scaled up from those that were.

    ``op`` ends with ′ for a derivative rule. ``joules`` is None where they are not measured.
    """

    phase: str
    layer: str
    op: str
    calls: float
    seconds: float
    joules: float | None
    flops: float
    bytes: float


@dataclass(frozen=True)
class Report:
    """Joules of a run.

    Attributes:
        rows: the parts; their joules and seconds add up to the whole.
        whole: the meter's reading from beginning to end.
        steps, watched: training steps, and those whose operations were heard one by one.
        own_seconds: about what hearing operations took: the phase "listening", and slower calls of operations.
        budget: the share of the time that it might take; None: no limit.
    """

    rows: tuple[Row, ...]
    whole: Reading
    steps: int
    watched: int
    own_seconds: float
    budget: float | None

    @property
    def joules(self) -> float | None:
        return self.whole.joules

    @property
    def seconds(self) -> float:
        return sum(row.seconds for row in self.rows)

    def by(self, *names: str) -> dict[Any, float | None]:
        """Joules by "phase", "layer", "op", or several of them as a tuple; the largest first."""
        unknown = set(names) - {"phase", "layer", "op"}
        if unknown or not names:
            raise ValueError(f'by: "phase", "layer" or "op", not {", ".join(map(repr, sorted(unknown))) or "nothing"}')
        found: dict[Any, float] = defaultdict(float)
        for row in self.rows:
            if row.joules is None:
                return dict.fromkeys({_key(r, names) for r in self.rows})
            found[_key(row, names)] += row.joules
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    def carbon(self, intensity: float) -> float | None:
        """Grams of CO2-equivalent at ``intensity`` grams per kWh, which the reader states."""
        return None if self.joules is None else grams(self.joules, intensity)

    def __str__(self) -> str:
        order = sorted(self.rows, key=lambda r: -(r.seconds if r.joules is None else r.joules))
        lines = [
            f"{'phase':<14}{'layer':<26}{'operation':<22}{'calls':>10}{'seconds':>11}{'joules':>12}{'part':>8}{'FLOPs':>12}{'bytes':>12}"
        ]
        whole = self.joules
        for row in order[:SHOWN]:
            joules = "–" if row.joules is None else f"{row.joules:.4g}"
            part = f"{row.joules / whole:.1%}" if whole and row.joules is not None else "–"
            lines.append(
                f"{row.phase:<14.13}{row.layer or '–':<26.25}{row.op:<22.21}{row.calls:>10,.0f}{row.seconds:>11.4g}{joules:>12}{part:>8}"
                f"{row.flops:>12.3g}{row.bytes:>12.3g}"
            )
        if len(order) > SHOWN:
            lines.append(f"… and {len(order) - SHOWN} more")
        phases = ", ".join(f"{k} {'–' if v is None else f'{v:.4g} J'}" for k, v in self.by("phase").items())
        return "\n".join([*lines, f"phases: {phases}", f"whole: {self.whole}", *self._notes()])

    def _notes(self) -> list[str]:
        notes = []
        if self.watched < self.steps:
            notes.append(
                f"operations were heard in {self.watched:,} of {self.steps:,} steps; the others are taken to be alike"
            )
        if self.whole.kind == "measured":
            notes.append(
                "joules of operations are their phase's, shared out by seconds: counters are too slow for single ones"
            )
        return notes

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {
            "whole": asdict(self.whole) | {"domains": dict(self.whole.domains)},
            "steps": self.steps,
            "watched": self.watched,
            "own_seconds": self.own_seconds,
            "rows": [asdict(row) for row in self.rows],
        }

    def save_json(self, path: str | Path) -> None:
        """Write ``as_dict`` as JSON."""
        write_atomically(Path(path), json.dumps(self.as_dict(), indent=1) + "\n")

    def save_html(self, path: str | Path, title: str = "Energy") -> None:
        """Write a flame graph: one page that needs no network. Widths are joules, or seconds where joules are not measured.

        From top to bottom: the run, phases, layers by the dots of their paths, operations. A click zooms.
        """
        measured = self.joules is not None and all(row.joules is not None for row in self.rows)
        tree = _tree(self.rows, measured)
        about = [str(self.whole), *self._notes()]
        page = (resources.files(__package__) / "flame.html").read_text("utf-8")
        data = json.dumps({"tree": tree, "unit": "J" if measured else "s"}).replace("</", "<\\/")
        page = page.replace("TITLE", html.escape(title)).replace("ABOUT", html.escape(" · ".join(about)))
        write_atomically(Path(path), page.replace('"DATA"', data))


def _key(row: Row, names: Sequence[str]) -> Any:
    return getattr(row, names[0]) if len(names) == 1 else tuple(getattr(row, name) for name in names)


def _tree(rows: Sequence[Row], joules: bool) -> dict[str, Any]:
    root: dict[str, Any] = {"name": "run", "value": 0.0, "inside": {}}
    for row in rows:
        value = (row.joules if joules else row.seconds) or 0.0
        place = root
        place["value"] += value
        for name in (row.phase, *(row.layer.split(".") if row.layer else ()), row.op):
            place = place["inside"].setdefault(name, {"name": name, "value": 0.0, "inside": {}})
            place["value"] += value
    return _listed(root)


def _listed(node: dict[str, Any]) -> dict[str, Any]:
    inside = sorted(node["inside"].values(), key=lambda n: -n["value"])
    return {"name": node["name"], "value": node["value"], "inside": [_listed(n) for n in inside]}
