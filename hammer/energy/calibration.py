"""Fit a technology table to this machine: a few workloads, their joules, and a regression.

    table = calibrate(meter)                       # with a counter
    runs = record(); save_runs("runs.json", runs)  # with a meter at the wall socket, first this,
    table = fit(runs, read_wall("watts.csv"))      # then, with what it logged, this

The workloads differ in what they do: nothing (static power), products of matrices that stay in the caches (float32, float64), and
copies within the caches and of more than they hold (memory). Joules are regressed on seconds, operations and bytes with
coefficients of at least 0 (Lawson & Hanson 1974); intervals are ± two standard errors of the ordinary least-squares fit over the
coefficients that came out above 0.
"""

import csv
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

from autograd.atomic import write_atomically

from .meter import Meter
from .technologies import Figure, Level, Technology

CACHED, STREAMED = 1 << 19, 1 << 27
"""Bytes that the copies go over: within a cache of 1 MB, and beyond any cache (128 MB)."""
TERMS = ("seconds", "float32", "float64", "cached", "streamed")


@dataclass(frozen=True)
class Run:
    """One workload, run for a while: when (seconds since 1970), what it did, and its joules if a meter told them."""

    name: str
    start: float
    end: float
    float32: float = 0.0
    float64: float = 0.0
    cached: float = 0.0
    streamed: float = 0.0
    joules: float | None = None

    @property
    def seconds(self) -> float:
        return self.end - self.start


def _idle() -> Callable[[], dict[str, float]]:
    def once() -> dict[str, float]:
        time.sleep(0.01)
        return {}

    return once


def _product(dtype: str, n: int = 256) -> Callable[[], dict[str, float]]:
    a = np.full((n, n), 0.5, dtype)
    out = np.empty_like(a)

    def once() -> dict[str, float]:
        np.matmul(a, a, out=out)
        return {dtype: 2.0 * n**3, "cached": 3.0 * a.nbytes}

    return once


def _copy(term: str, size: int) -> Callable[[], dict[str, float]]:
    source, target = np.ones(size // 16), np.zeros(size // 16)

    def once() -> dict[str, float]:
        np.copyto(target, source)
        return {term: 2.0 * source.nbytes}

    return once


def _mixed() -> Callable[[], dict[str, float]]:
    x = np.ones(STREAMED // 16, np.float32)
    out = np.empty_like(x)

    def once() -> dict[str, float]:
        np.multiply(x, x, out=out)
        return {"float32": float(x.size), "streamed": 2.0 * x.nbytes}

    return once


WORKLOADS: dict[str, Callable[[], Callable[[], dict[str, float]]]] = {
    "idle": _idle,
    "products, float32": lambda: _product("float32"),
    "products, float64": lambda: _product("float64"),
    "copies in the cache": lambda: _copy("cached", CACHED),
    "copies in memory": lambda: _copy("streamed", STREAMED),
    "squares in memory": _mixed,
}


def record(meter: Meter | None = None, seconds: float = 2.0, repeats: int = 3) -> list[Run]:
    """Run the workloads, interleaved.

    Args:
        meter: tells the joules of each run; None: a log of the wall socket will, so only times are kept.
        seconds: of each run. Counters change every millisecond, wall meters every second: give those 10 or more.
        repeats: runs of each workload.
    """
    if seconds <= 0 or repeats < 1:
        raise ValueError(f"record: seconds must be above 0 and repeats at least 1, not {seconds!r} and {repeats!r}")
    found = []
    for _ in range(repeats):
        for name, make in WORKLOADS.items():
            once = make()
            once()
            done = dict.fromkeys(TERMS[1:], 0.0)
            mark = None if meter is None else meter.mark()
            start = time.time()
            until = time.perf_counter() + seconds
            while time.perf_counter() < until:
                for term, amount in once().items():
                    done[term] += amount
            end = time.time()
            joules = None
            if meter is not None and mark is not None:
                reading = meter.since(mark)
                if reading.joules is None:
                    raise ValueError(f"calibrate: the meter does not measure here: {reading}")
                joules = reading.joules
            found.append(Run(name, start, end, **done, joules=joules))
    return found


def save_runs(path: str | Path, runs: Sequence[Run]) -> None:
    """Keep runs as JSON, for ``fit`` later."""
    write_atomically(Path(path), json.dumps([asdict(run) for run in runs], indent=1) + "\n")


def load_runs(path: str | Path) -> list[Run]:
    """Runs that ``save_runs`` kept. Raises ValueError for a file of something else."""
    try:
        return [Run(**one) for one in json.loads(Path(path).read_text("utf-8"))]
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} does not hold runs of calibrate: {error}") from error


# ---- a meter at the wall socket ----


@dataclass(frozen=True)
class Wall:
    """What a wall-socket meter has logged: seconds since 1970 and watts, (n,) each."""

    times: np.ndarray
    watts: np.ndarray

    def joules(self, start: float, end: float) -> float:
        """Between two times, by the trapezoid rule. Raises ValueError where the log does not reach, or has a gap of over 30 s."""
        t, w = self.times, self.watts
        if not (t[0] <= start <= end <= t[-1]):
            raise ValueError(
                f"the log goes from {t[0]:.0f} to {t[-1]:.0f}, which does not hold the run from {start:.0f} to {end:.0f}"
            )
        inside = (t > start) & (t < end)
        at = np.concatenate([[start], t[inside], [end]])
        if np.diff(np.concatenate([[t[t <= start][-1]], t[inside], [t[t >= end][0]]])).max() > 30.0:
            raise ValueError(f"the log has a gap of over 30 s between {start:.0f} and {end:.0f}")
        return float(np.trapezoid(np.interp(at, t, w), at))


def read_wall(path: str | Path) -> Wall:
    """A CSV with a header that names a column of times (``time``, seconds since 1970 or ISO 8601) and one of power (``watts``).

    Raises:
        ValueError: a column is missing, or a line cannot be read; the message names the line.
    """
    with Path(path).open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        names = {name.strip().lower(): name for name in rows.fieldnames or ()}
        if not {"time", "watts"} <= names.keys():
            raise ValueError(
                f"{path}: the header must name the columns time and watts; it has {', '.join(names) or 'none'}"
            )
        found = []
        for number, row in enumerate(rows, 2):
            try:
                watts = float(row[names["watts"]])
                found.append((_seconds(row[names["time"]]), watts))
                if not (math.isfinite(watts) and watts >= 0):
                    raise ValueError(f"{watts} watts")
            except (TypeError, ValueError) as error:
                raise ValueError(f"{path}, line {number}: {error}") from error
    columns = np.array(found, float).reshape(-1, 2)
    if len(columns) < 2 or (np.diff(columns[:, 0]) <= 0).any():
        raise ValueError(f"{path}: there must be two lines or more, each later than the one before")
    return Wall(columns[:, 0], columns[:, 1])


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        when = datetime.fromisoformat(text.strip())
        return when.timestamp()


# ---- the fit ----


@dataclass(frozen=True)
class Fit:
    """What came out.

    Attributes:
        table: the technology table.
        coefficients: joules a second, an operation or a byte, by term, with the standard error (None: at the bound 0).
        residual: root mean square of what the fit leaves, over the mean joules of a run.
    """

    table: Technology
    coefficients: dict[str, tuple[float, float | None]]
    residual: float

    def __str__(self) -> str:
        units = {"seconds": ("static power", 1.0, "W"), "float32": ("float32 operation", 1e12, "pJ"), "float64": ("float64 operation", 1e12, "pJ"), "cached": ("byte in the cache", 1e12, "pJ"), "streamed": ("byte in memory", 1e12, "pJ")}  # fmt: skip
        lines = []
        for term, (value, error) in self.coefficients.items():
            label, scale, unit = units[term]
            spread = "at its bound" if error is None else f"± {2 * scale * error:.2g}"
            lines.append(f"{label:<20}{scale * value:>12.4g} {unit:<3}{spread}")
        return "\n".join([*lines, f"the fit leaves {self.residual:.1%} (root mean square, of a run's mean joules)"])


def fit(runs: Sequence[Run], wall: Wall | None = None, name: str = "this machine") -> Fit:
    """The table that explains the runs' joules.

    Args:
        runs: of ``record``, of all workloads.
        wall: the log that has their joules; None: the runs have them.

    Raises:
        ValueError: runs without joules, or too few to tell the terms apart.
    """
    joules = [run.joules if wall is None else wall.joules(run.start, run.end) for run in runs]
    if any(j is None for j in joules):
        raise ValueError(
            "fit: the runs have no joules; give the log of a wall meter, or record them with a meter that measures"
        )
    y = np.array(joules, float)
    a = np.array([[getattr(run, term) for term in TERMS] for run in runs], float)
    scale = a.max(axis=0, initial=0.0)
    if len(runs) <= len(TERMS) or (scale == 0).any() or np.linalg.matrix_rank(a / scale) < len(TERMS):
        raise ValueError(
            f"fit: {len(runs)} runs do not tell {len(TERMS)} terms apart; record all workloads, twice or more"
        )
    from scipy.optimize import nnls  # not above: who only reads a meter need not wait for it

    x, _ = nnls(a / scale, y)
    inside = x > 0
    left = y - a / scale @ x
    free = max(1, len(y) - int(inside.sum()))
    errors: list[float | None] = [None] * len(TERMS)
    if inside.any():
        part = (a / scale)[:, inside]
        spread = np.sqrt(np.diag(np.linalg.inv(part.T @ part)) * (left @ left) / free)
        for place, error in zip(np.flatnonzero(inside), spread, strict=True):
            errors[place] = float(error / scale[place])
    found = {term: (float(value), error) for term, value, error in zip(TERMS, x / scale, errors, strict=True)}
    mean = float(y.mean())
    return Fit(_table(name, found), found, float(np.sqrt(np.mean(left**2)) / mean) if mean else math.inf)


def _table(name: str, found: dict[str, tuple[float, float | None]]) -> Technology:
    def figure(term: str, scale: float) -> Figure:
        value, error = found[term]
        low, high = (
            (None, None) if error is None else (scale * max(0.0, value - 2 * error), scale * (value + 2 * error))
        )
        return Figure(scale * value, "fitted", low, high)

    operations = {dtype: figure(dtype, 1e12) for dtype in ("float32", "float64")}
    levels = (Level("cache", 1 << 20, figure("cached", 8e12)), Level("memory", None, figure("streamed", 8e12)))
    about = "Fitted by hammer energy calibrate. An operation is the mean of an addition and a multiplication."
    return Technology(name, about, operations, operations, levels, figure("seconds", 1.0))


def calibrate(meter: Meter, seconds: float = 2.0, repeats: int = 3, name: str = "this machine") -> Fit:
    """``record`` and ``fit`` with a meter that measures."""
    return fit(record(meter, seconds, repeats), name=name)
