"""What arithmetic and memory cost in a technology: tables, and the joules of counted work.

    E = Σ operations · e_operation(dtype) + bytes / 8 · e_memory(level) + static power · seconds

A table is a JSON file: picojoules of an addition and a multiplication by dtype, of an access of 64 bits by level of the memory
hierarchy, and watts that flow whatever is done. Each figure carries a mark: "read" in the source named, "recalled" and not checked
against it, "derived" as its note says, or "fitted" by ``calibrate``. Tables of 45 nm and 7 nm are shipped.

What such a table leaves out (fetching and decoding instructions, the interpreter, wires across the chip) is most of what a real
processor spends, so uncalibrated joules are a lower bound that orders programs by their arithmetic and their traffic.
"""

import functools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from autograd.atomic import write_atomically

MARKS = ("read", "recalled", "derived", "fitted")


@dataclass(frozen=True)
class Figure:
    """A figure with its origin; ``low`` and ``high`` bound it where the source gives a range or a fit an interval."""

    value: float
    mark: str
    low: float | None = None
    high: float | None = None
    note: str = ""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.value) and self.value >= 0):
            raise ValueError(f"a figure of a technology must be finite and at least 0, not {self.value!r}")
        if self.mark not in MARKS:
            raise ValueError(f"the mark of a figure must be one of {', '.join(MARKS)}, not {self.mark!r}")


@dataclass(frozen=True)
class Level:
    """A level of the memory hierarchy: what holds up to ``size`` bytes (None: the last), and picojoules of 64 bits from it."""

    name: str
    size: int | None
    access: Figure


@dataclass(frozen=True)
class Technology:
    """A table.

    Attributes:
        name, about: of the table, with its source.
        add, multiply: picojoules by dtype: "float32", …; "int" stands for integers and bools.
        memory: the levels, from the smallest.
        static: watts whatever is done.
    """

    name: str
    about: str
    add: Mapping[str, Figure]
    multiply: Mapping[str, Figure]
    memory: tuple[Level, ...]
    static: Figure = field(default=Figure(0.0, "derived"))

    def __post_init__(self) -> None:
        sizes = [level.size for level in self.memory]
        if not sizes or sizes[-1] is not None or None in sizes[:-1] or sizes[:-1] != sorted(sizes[:-1]):  # type: ignore[type-var]
            raise ValueError(
                f"technology {self.name!r}: memory must list levels by size, and the last, and only it, have none"
            )
        if "float32" not in self.add or "float32" not in self.multiply:
            raise ValueError(f"technology {self.name!r}: it has no figures for float32")

    def operation(self, dtype: str = "float32") -> float:
        """Picojoules of a floating-point operation: the mean of an addition and a multiplication, which come in pairs in products.

        A dtype that the table does not have is charged as the next wider one that it has, or else as its widest.
        """
        key = _key(dtype)
        found = self._at(self.add, key), self._at(self.multiply, key)
        return 0.5 * (found[0] + found[1])

    def _at(self, figures: Mapping[str, Figure], key: str) -> float:
        for name in _WIDER[_WIDER.index(key) :] if key in _WIDER else (key,):
            if name in figures:
                return figures[name].value
        return figures["float32"].value

    def level(self, working_set: float) -> Level:
        """The smallest level that holds so many bytes."""
        return next(level for level in self.memory if level.size is None or working_set <= level.size)

    def joules(
        self, flops: float, moved: float, dtype: str = "float32", working_set: float | None = None
    ) -> tuple[float, float]:
        """Joules of arithmetic and of memory traffic.

        Args:
            flops: operations of ``dtype``.
            moved: bytes read and written.
            working_set: bytes that the work goes over, which decide the level that they come from; None: ``moved``.
        """
        access = self.level(moved if working_set is None else working_set).access.value
        return 1e-12 * flops * self.operation(dtype), 1e-12 * moved / 8 * access

    def save(self, path: str | Path) -> None:
        """Write the table as JSON, as a whole or not at all."""
        write_atomically(Path(path), json.dumps(_plain(self), indent=1) + "\n")


_WIDER = ["bfloat16", "float16", "float32", "float64"]


@functools.lru_cache(maxsize=64)
def _key(dtype: str) -> str:
    name = {"complex64": "float32", "complex128": "float64", "longdouble": "float64", "float128": "float64"}.get(
        dtype, dtype
    )
    return "int" if name.startswith(("int", "uint", "bool")) else name


def technology(name: str | Path) -> Technology:
    """A shipped table, "45nm" or "7nm", or one from a file (of ``calibrate``, or of your own).

    Raises:
        ValueError: neither a shipped name nor a file, or a file that is no table; the message says what is wrong.
    """
    shipped = resources.files(__package__) / "tables" / f"{name}.json"
    where = shipped if shipped.is_file() else Path(name)
    if not where.is_file():
        raise ValueError(f"technology: {str(name)!r} is neither a shipped table (45nm, 7nm) nor a file")
    try:
        return _table(json.loads(where.read_text("utf-8")))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        said = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"technology: {name}: {said}") from error


def _table(data: Mapping[str, Any]) -> Technology:
    levels = tuple(Level(one["name"], one["bytes"], _figure(one, "pj")) for one in data["memory"])
    add, multiply = ({name: _figure(one, "pj") for name, one in data[kind].items()} for kind in ("add", "multiply"))
    return Technology(data["name"], data["about"], add, multiply, levels, _figure(data["static_watts"], "watts"))


def _figure(data: Mapping[str, Any], unit: str) -> Figure:
    low, high = data.get("low"), data.get("high")
    return Figure(float(data[unit]), data["mark"], low, high, data.get("note", ""))


def _plain(table: Technology) -> dict[str, Any]:
    def one(figure: Figure, unit: str) -> dict[str, Any]:
        rest = {"low": figure.low, "high": figure.high, "note": figure.note or None}
        return {unit: figure.value, "mark": figure.mark} | {k: v for k, v in rest.items() if v is not None}

    return {
        "name": table.name,
        "about": table.about,
        "add": {name: one(figure, "pj") for name, figure in table.add.items()},
        "multiply": {name: one(figure, "pj") for name, figure in table.multiply.items()},
        "memory": [{"name": level.name, "bytes": level.size} | one(level.access, "pj") for level in table.memory],
        "static_watts": one(table.static, "watts"),
    }
