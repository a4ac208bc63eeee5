"""One interface for everything that tells joules: a ``Meter`` reads one ``Source`` and cuts time into windows.

    with Meter(rapl()) as meter:
        with meter.window("epoch"):
            with meter.window("step") as step:
                ...
    step.reading           # joules, seconds, source, uncertainty
    meter.totals()         # by path: "epoch", "epoch/step"

A *source* counts joules of named domains (processor packages, memory, GPUs, or the terms of a model) since it was opened. It is
chosen once: a meter never changes its source, and a domain that cannot be read any more stays lost, so that its joules are
None ("not measured") from then on instead of a guess. Faults are kept as text, and never end the run that is measured.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, Self

Kind = Literal["measured", "modelled", "not measured"]


class Unavailable(RuntimeError):
    """A source cannot be used on this machine; the message says why, and what would help."""


@dataclass(frozen=True)
class Reading:
    """What a window, or the time since the start, took.

    Attributes:
        joules: the sum over the domains; None: not measured, because there is no source or a domain was lost.
        seconds: None if the clock went backwards.
        source: what told the joules, in words.
        kind: "measured" (by a counter), "modelled" (worked out from counted operations), or "not measured".
        uncertainty: joules by which the value may be off because counters are brought up to date at intervals. It says nothing of the
            counter's own error. None: not known.
        domains: joules of each domain, None for those that were lost.
        faults: what went wrong so far, in words.
    """

    joules: float | None
    seconds: float | None
    source: str
    kind: Kind
    uncertainty: float | None = None
    domains: Mapping[str, float | None] = field(default_factory=dict)
    faults: tuple[str, ...] = ()

    @property
    def watts(self) -> float | None:
        """Mean power."""
        return None if self.joules is None or not self.seconds else self.joules / self.seconds

    def carbon(self, intensity: float) -> float | None:
        """Grams of CO2-equivalent for an intensity of the electricity in grams per kWh, which the reader states: nothing is looked up."""
        return None if self.joules is None else grams(self.joules, intensity)

    def __str__(self) -> str:
        if self.joules is None:
            return f"not measured ({'; '.join((self.source, *self.faults))})"
        spread = "" if self.uncertainty is None else f" ± {self.uncertainty:.2g}"
        return f"{self.joules:.4g}{spread} J, {self.kind}: {self.source}"


def grams(joules: float, intensity: float) -> float:
    """Grams of CO2-equivalent of so many joules at ``intensity`` grams per kWh."""
    if not 0 <= intensity < 1e5:
        raise ValueError(
            f"carbon: the intensity is in grams of CO2-equivalent per kWh, from 0 up; {intensity!r} is not"
        )
    return joules / 3.6e6 * intensity


class Source:
    """What counts joules. ``read`` gives those of each domain since the source was opened, None for a lost domain."""

    name = "nothing"
    kind: Kind = "not measured"
    poll_every: float | None = None
    """Seconds within which the source must be read again, or counts may be lost; None: at any time."""

    def __init__(self) -> None:
        self.faults: list[str] = []

    def read(self) -> dict[str, float | None]:
        return {}

    def uncertainty(self, joules: Mapping[str, float | None], seconds: float | None) -> float | None:
        """Joules by which the value of a window may be off; see ``Reading``."""
        return None

    def close(self) -> None:
        """Give back what the source holds."""


class NotMeasured(Source):
    """No source at all: every reading says so, and why."""

    def __init__(self, why: str = "no meter was asked for"):
        super().__init__()
        self.name = why


class Window:
    """A stretch of time; ``reading`` is there when it has ended."""

    def __init__(self, path: str):
        self.path = path
        self.reading: Reading | None = None


@dataclass
class Total:
    """The windows of one path, added up. ``joules`` is None as soon as one of them was not measured."""

    count: int = 0
    joules: float | None = 0.0
    seconds: float = 0.0


class Meter:
    """Reads a source in nested windows.

    Args:
        source: what counts; None: nothing, and every reading is "not measured".
        clock: seconds, for tests; it should be one that does not go back.
        poll: seconds between readings in a thread of its own; None: what the source needs; 0: no thread.

    It may be used from several threads; windows of different threads may overlap.
    """

    def __init__(
        self, source: Source | None = None, *, clock: Callable[[], float] = time.perf_counter, poll: float | None = None
    ):
        self.source = NotMeasured() if source is None else source
        self._clock, self._poll = clock, self.source.poll_every if poll is None else poll
        self._lock, self._stop = threading.RLock(), threading.Event()
        self._thread: threading.Thread | None = None
        self._entered = 0
        self._open = threading.local()
        self._totals: dict[str, Total] = {}
        self._start = self.mark()

    # ---- reading ----

    def mark(self) -> tuple[float, dict[str, float | None]]:
        """The clock and the joules of each domain now: what a window begins with."""
        with self._lock:
            domains = self.source.read()
            return self._clock(), domains

    def since(self, mark: tuple[float, dict[str, float | None]]) -> Reading:
        """What was spent since ``mark`` was taken."""
        return self.between(mark, self.mark())

    def between(self, begin: tuple[float, dict], end: tuple[float, dict]) -> Reading:
        """What was spent between two marks."""
        source = self.source
        faults = tuple(source.faults)
        seconds: float | None = end[0] - begin[0]
        if end[0] < begin[0]:
            seconds, faults = None, (*faults, "the clock went backwards, so seconds are not known")
        spent = {name: _difference(begin[1].get(name), value) for name, value in end[1].items()}
        known = bool(spent) and all(value is not None for value in spent.values())
        joules = sum(spent.values()) if known else None  # type: ignore[arg-type]
        spread = None if joules is None else source.uncertainty(spent, seconds)
        return Reading(joules, seconds, source.name, source.kind, spread, spent, faults)

    def read(self) -> Reading:
        """What was spent since the meter was made."""
        return self.since(self._start)

    @contextmanager
    def window(self, name: str) -> Iterator[Window]:
        """Measure a with-block. Windows of one thread nest; a path is the names of those that are open, joined by "/"."""
        stack = self._stack()
        window = Window("/".join((*stack, name)))
        begin = self.mark()
        stack.append(name)
        try:
            yield window
        finally:
            window.reading = self.since(begin)
            stack.pop()
            with self._lock:
                total = self._totals.setdefault(window.path, Total())
                total.count += 1
                total.seconds += window.reading.seconds or 0.0
                known = total.joules is not None and window.reading.joules is not None
                total.joules = total.joules + window.reading.joules if known else None  # type: ignore[operator]

    def totals(self) -> dict[str, Total]:
        """The ended windows by path. A window's own joules include those of the windows inside it."""
        with self._lock:
            return dict(self._totals)

    def _stack(self) -> list[str]:
        if not hasattr(self._open, "names"):
            self._open.names = []
        return self._open.names

    # ---- polling ----

    def __enter__(self) -> Self:
        self._entered += 1
        if self._poll and self._thread is None:
            self._stop.clear()
            self._thread = threading.Thread(target=self._keep_reading, name="hammer-energy", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_exc: Any) -> None:
        self._entered -= 1
        if self._entered:  # another block goes on with it
            return
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        with self._lock:
            self.source.close()

    def _keep_reading(self) -> None:
        while not self._stop.wait(self._poll):
            self.mark()


def _difference(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else after - before
