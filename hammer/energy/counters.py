"""Energy counters and power sensors of the machine: RAPL, hwmon (ARM, AMD, Apple), a counter file of your own, NVML, zeus.

Each function opens a ``Source`` or raises ``Unavailable`` with the reason. A ``Counters`` source holds domains of two sorts: a
``Counter`` is a number that only grows, and may wrap around; a ``Sensor`` tells watts, which are summed up over time
(trapezoid rule), so it must be polled. A value that cannot be, because it would need more power than ``watts``, or a gap so long that a
counter may have wrapped more than once, loses the domain: joules are never made up.
"""

import ctypes
import importlib
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .meter import NotMeasured, Source, Unavailable

POWERCAP, HWMON = Path("/sys/class/powercap"), Path("/sys/class/hwmon")
MOST_WATTS = 1000.0
"""More than a domain can take: the bound that tells a counter's wrap-around from a reset or a long gap."""


class Counter:
    """A counter of joules.

    Args:
        name: of the domain.
        count: reads the counter; OSError and ValueError lose the domain.
        unit: joules of one count.
        span: counts after which it starts again from 0; None: it never does.
        update: seconds from one change of the counter to the next: a window may miss, or have too much, that time at each end.
        watts: the most that the domain can take.
    """

    def __init__(
        self, name: str, count: Callable[[], int], unit: float, span: int | None = None, update: float = 1e-3,
        watts: float = MOST_WATTS,
    ):  # fmt: skip
        self.name, self.count, self.unit, self.span, self.update, self.watts = name, count, unit, span, update, watts
        self.joules: float | None = 0.0
        self._last, self._time = count(), 0.0

    def start(self, now: float) -> None:
        self._time = now

    def advance(self, now: float) -> None:
        """Take in what was counted since the last call. Raises ValueError or OSError where that cannot be told."""
        value, gap = self.count(), now - self._time
        grown = value - self._last
        if gap < 0 and self.span is not None:
            raise ValueError("the clock went backwards, so whether the counter wrapped around is not known")
        if self.span is not None and gap * self.watts >= self.span * self.unit:
            raise ValueError(
                f"it was not read for {gap:.4g} s and may have wrapped around more than once; have the meter poll it"
            )
        if grown < 0 and self.span is not None:
            grown += self.span
        if grown < 0 or grown * self.unit > self.watts * (max(gap, 0.0) + 1.0):
            raise ValueError(
                f"it went from {self._last} to {value} in {gap:.3g} s, which is no use of energy: a reset?"
            )
        self.joules += grown * self.unit  # type: ignore[operator]
        self._last, self._time = value, now

    def spread(self, joules: float, seconds: float) -> float:
        return 2 * self.unit + min(joules, 2 * self.update * joules / seconds if seconds else joules)


class Sensor:
    """A sensor of watts, summed up between readings. Its spread is how much the two ends of each interval differ."""

    update = 0.1

    def __init__(self, name: str, watts: Callable[[], float]):
        self.name, self.power = name, watts
        self.joules: float | None = 0.0
        self._last, self._time, self._differ = watts(), 0.0, 0.0

    def start(self, now: float) -> None:
        self._time = now

    def advance(self, now: float) -> None:
        power, gap = self.power(), now - self._time
        if gap < 0:
            raise ValueError("the clock went backwards")
        self.joules += 0.5 * (self._last + power) * gap  # type: ignore[operator]
        self._differ += 0.5 * abs(self._last - power) * gap
        self._last, self._time = power, now

    def spread(self, joules: float, seconds: float) -> float:
        share = joules / self.joules if self.joules else 0.0
        return share * self._differ


class Counters(Source):
    """Domains of counters and sensors that are read together.

    Args:
        name: of the source, for labels.
        domains: what to read.
        poll_every: see ``Source``.
        clock: seconds that do not go back.
        faults: what was there but cannot be read.
    """

    kind = "measured"

    def __init__(
        self, name: str, domains: Sequence[Counter | Sensor], poll_every: float | None = None,
        clock: Callable[[], float] = time.monotonic, faults: Sequence[str] = (),
    ):  # fmt: skip
        super().__init__()
        self.name, self.domains, self.poll_every, self._clock = name, tuple(domains), poll_every, clock
        self.faults = list(faults)
        now = clock()
        for domain in self.domains:
            domain.start(now)

    def read(self) -> dict[str, float | None]:
        now = self._clock()
        for domain in self.domains:
            if domain.joules is None:
                continue
            try:
                domain.advance(now)
            except (OSError, ValueError) as error:
                domain.joules = None
                self.faults.append(f"{domain.name} is not measured any more: {_said(error)}")
        return {domain.name: domain.joules for domain in self.domains}

    def uncertainty(self, joules: Mapping[str, float | None], seconds: float | None) -> float | None:
        if seconds is None or any(value is None for value in joules.values()):
            return None
        return sum(domain.spread(joules[domain.name] or 0.0, seconds) for domain in self.domains)


class Together(Source):
    """Several measured sources as one: their domains side by side."""

    kind = "measured"

    def __init__(self, sources: Sequence[Source]):
        self.sources = tuple(sources)
        self.name = " + ".join(s.name for s in self.sources)
        polls = [s.poll_every for s in self.sources if s.poll_every is not None]
        self.poll_every = min(polls) if polls else None
        self._names: list[frozenset[str]] = [frozenset() for _ in self.sources]

    @property
    def faults(self) -> list[str]:  # type: ignore[override]
        return [fault for s in self.sources for fault in s.faults]

    def read(self) -> dict[str, float | None]:
        parts = [source.read() for source in self.sources]
        self._names = [frozenset(part) for part in parts]
        return {name: joules for part in parts for name, joules in part.items()}

    def uncertainty(self, joules: Mapping[str, float | None], seconds: float | None) -> float | None:
        parts = [
            source.uncertainty({k: v for k, v in joules.items() if k in names}, seconds)
            for source, names in zip(self.sources, self._names, strict=True)
        ]
        return None if any(p is None for p in parts) else sum(parts)  # type: ignore[arg-type]

    def close(self) -> None:
        for source in self.sources:
            source.close()


def _said(error: Exception) -> str:
    return f"{error.strerror} ({error.filename})" if isinstance(error, OSError) and error.strerror else str(error)


def _text(path: Path) -> str:
    return path.read_text("ascii")


# ---- counter files ----


def rapl(
    root: Path = POWERCAP, read: Callable[[Path], str] = _text, clock: Callable[[], float] = time.monotonic
) -> Counters:
    """The counters of the processor packages and of the memory beside them (Linux powercap; Intel, and AMD from Zen on).

    They count all that runs on the machine. Cores and graphics are part of the package and not counted again. The counters change
    about every millisecond (Intel SDM vol. 3B, "Package RAPL Domain") and wrap around at ``max_energy_range_uj``: the meter
    polls them.

    Raises:
        Unavailable: there are none, or they cannot be read by this user.
    """
    domains: list[Counter] = []
    closed: list[str] = []
    polls = []
    for zone in sorted(root.glob("*-rapl:*")):
        try:
            name = read(zone / "name").strip()
            if not name.startswith(("package", "dram")):
                continue
            if name == "dram":
                name = f"dram-{zone.name.split(':')[1]}"
            span = int(read(zone / "max_energy_range_uj"))
            domains.append(Counter(name, lambda zone=zone: int(read(zone / "energy_uj")), 1e-6, span))  # type: ignore[misc]
            polls.append(min(60.0, 1e-6 * span / MOST_WATTS / 4))
        except (OSError, ValueError) as error:
            closed.append(f"{zone.name}: {_said(error)}")
    if not domains:
        help_ = "; let this user read energy_uj, by a udev rule or as root" if closed else ""
        raise Unavailable(f"RAPL: {'; '.join(closed) or f'no counters under {root}'}{help_}")
    return Counters(f"RAPL ({', '.join(d.name for d in domains)})", domains, min(polls), clock, closed)


def hwmon(
    root: Path = HWMON, read: Callable[[Path], str] = _text, clock: Callable[[], float] = time.monotonic
) -> Counters:
    """Energy counters (``energy*_input``, microjoules) and, on chips without any, power sensors (``power*_input``, microwatts) of the
    kernel's hwmon interface: boards and processors of ARM, AMD (amd_energy) and Apple (macsmc, under Linux).

    Sensors may overlap (a rail and the whole board), which only a person can know: name the wanted ones with ``counter_file``
    where that is so. One total ("Total System Power" and the like) is taken alone.
    """
    domains: list[Counter | Sensor] = []
    closed: list[str] = []
    for chip in sorted(root.glob("hwmon*")):
        try:
            name = read(chip / "name").strip()
            energies, powers = sorted(chip.glob("energy*_input")), sorted(chip.glob("power*_input"))
            labels = {path: _label(path, read) for path in (*energies, *powers)}
            whole = [path for path in (*energies, *powers) if "total" in labels[path].lower()]
            if whole:
                energies, powers = [p for p in whole if p in energies][:1], [p for p in whole if p in powers][:1]
            domains += [
                Counter(f"{name} {labels[path]}", lambda p=path: int(read(p)), 1e-6, None, 1e-2)  # type: ignore[misc]
                for path in energies
            ]
            domains += [
                Sensor(f"{name} {labels[path]}", lambda p=path: 1e-6 * int(read(p)))  # type: ignore[misc]
                for path in (() if energies else powers)
            ]
        except (OSError, ValueError) as error:
            closed.append(f"{chip.name}: {_said(error)}")
    if not domains:
        raise Unavailable(f"hwmon: {'; '.join(closed) or f'no energy counter or power sensor under {root}'}")
    poll = 0.1 if any(isinstance(d, Sensor) for d in domains) else None
    return Counters(f"hwmon ({', '.join(d.name for d in domains)})", domains, poll, clock, closed)


def _label(path: Path, read: Callable[[Path], str]) -> str:
    label = path.with_name(path.name.replace("_input", "_label"))
    return read(label).strip() if label.exists() else path.name.removesuffix("_input")


def counter_file(
    path: str | Path, unit: float, span: int | None = None, update: float = 1e-3, watts: float = MOST_WATTS, *,
    read: Callable[[Path], str] = _text, clock: Callable[[], float] = time.monotonic,
) -> Counters:  # fmt: skip
    """A file that holds a growing number: ``unit`` joules a count, starting again after ``span`` counts; see ``Counter``. Give ``watts`` if what
    it counts can take more than a kilowatt."""
    where = Path(path)
    try:
        counter = Counter(where.name, lambda: int(read(where)), unit, span, update, watts)
    except (OSError, ValueError) as error:
        raise Unavailable(f"{where}: {_said(error)}") from error
    poll = None if span is None else min(60.0, span * unit / watts / 4)
    return Counters(f"counter file {where}", [counter], poll, clock)


# ---- GPUs ----

NVML_ERRORS = {
    1: "NVML is not initialised", 2: "invalid argument", 3: "not supported by this GPU", 4: "no permission", 6: "not found",
    9: "the driver is not loaded", 12: "the NVML library was not found", 13: "a function is missing from this NVML",
    15: "the GPU is lost (it fell off the bus)", 16: "the GPU must be reset", 17: "the operating system blocked the GPU", 999: "unknown error",
}  # fmt: skip


def nvml(library: Any = None, clock: Callable[[], float] = time.monotonic) -> Counters:
    """NVIDIA GPUs, all that the driver shows: the energy counter (Volta and later), else the power sensor.

    Args:
        library: the loaded NVML; None: the driver's own. A simulated one has the same functions (``simulate.SimulatedNvml``).

    Raises:
        Unavailable: no library, no driver, no GPU; the message says which.
    """
    if library is None:
        try:
            library = ctypes.CDLL("nvml.dll" if hasattr(ctypes, "windll") else "libnvidia-ml.so.1")
        except OSError as error:
            raise Unavailable(f"NVML: the driver's library is not there ({error})") from None
    try:
        _call(library, "nvmlInit_v2")
        count = ctypes.c_uint()
        _call(library, "nvmlDeviceGetCount_v2", ctypes.byref(count))
        domains: list[Counter | Sensor] = []
        closed: list[str] = []
        for index in range(count.value):
            try:
                handle = ctypes.c_void_p()
                _call(library, "nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index), ctypes.byref(handle))
                domains.append(_gpu(library, handle, index))
            except OSError as error:
                closed.append(f"GPU {index}: {error.strerror}")
    except OSError as error:
        raise Unavailable(f"NVML: {error.strerror}") from None
    if not domains:
        raise Unavailable(f"NVML: {'; '.join(closed) or 'no GPU'}")
    poll = 0.1 if any(isinstance(d, Sensor) for d in domains) else None
    return Counters(f"NVML ({', '.join(d.name for d in domains)})", domains, poll, clock, closed)


def _gpu(library: Any, handle: Any, index: int) -> Counter | Sensor:
    def energy() -> int:
        millijoules = ctypes.c_ulonglong()
        _call(library, "nvmlDeviceGetTotalEnergyConsumption", handle, ctypes.byref(millijoules))
        return millijoules.value

    def power() -> float:
        milliwatts = ctypes.c_uint()
        _call(library, "nvmlDeviceGetPowerUsage", handle, ctypes.byref(milliwatts))
        return 1e-3 * milliwatts.value

    try:
        return Counter(f"gpu-{index}", energy, 1e-3, None, update=0.1)
    except OSError as error:
        if error.errno not in (3, 13):  # an old GPU has no energy counter
            raise
        return Sensor(f"gpu-{index} (power)", power)


def _call(library: Any, name: str, *arguments: Any) -> None:
    function = getattr(library, name, None)
    code = 13 if function is None else function(*arguments)
    if code:
        raise OSError(code, NVML_ERRORS.get(code, f"NVML error {code}"))


class _Zeus(Source):
    kind = "measured"

    def __init__(self, monitor: Any):
        super().__init__()
        self.name, self._monitor, self._turn = "zeus", monitor, 0
        self._joules: dict[str, float] = {}
        self._lost = False
        monitor.begin_window("hammer-0", sync_execution=False)

    def read(self) -> dict[str, float | None]:
        if not self._lost:
            try:
                window, self._turn = f"hammer-{self._turn}", self._turn + 1
                found = self._monitor.end_window(window, sync_execution=False)
                self._monitor.begin_window(f"hammer-{self._turn}", sync_execution=False)
            except Exception as error:  # noqa: BLE001  (whatever a backend of another project raises, the run goes on)
                self._lost = True
                self.faults.append(f"zeus is not measured any more: {type(error).__name__}: {error}")
            else:
                for kind, energies in (
                    ("gpu", found.gpu_energy),
                    ("cpu", found.cpu_energy),
                    ("dram", found.dram_energy),
                ):
                    for index, joules in (energies or {}).items():
                        name = f"{kind}-{index}"
                        self._joules[name] = self._joules.get(name, 0.0) + joules
        if self._lost:
            return dict.fromkeys(self._joules or ("zeus",))
        return dict(self._joules)


def zeus(**options: Any) -> Source:
    """The ``ZeusMonitor`` of the package zeus, as a source. ``options`` go to it (``gpu_indices``, ``cpu_indices``, …).

    Its windows are cut at each reading, so what is spent between the end of one and the start of the next (microseconds) is lost.
    """
    try:
        monitor = importlib.import_module("zeus.monitor").ZeusMonitor
    except ImportError as error:
        raise Unavailable(f"zeus: {error}; pip install zeus") from None
    try:
        return _Zeus(monitor(**options))
    except Exception as error:
        raise Unavailable(f"zeus: {type(error).__name__}: {error}") from error


# ---- whatever there is ----

SOURCES: dict[str, Callable[[], Source]] = {"rapl": rapl, "nvml": nvml, "hwmon": hwmon, "zeus": zeus}


def find(*names: str) -> Source:
    """The sources of these names that work here, read together; by default RAPL (else hwmon) and NVML.

    Where none works the source is "not measured", and its name says why. The choice is made once, here.

    Raises:
        ValueError: a name that is none of ``SOURCES``.
    """
    found: list[Source] = []
    why: list[str] = []
    for name in names or ("rapl", "hwmon", "nvml"):
        if name not in SOURCES:
            raise ValueError(f"energy: there is no source {name!r}; there are {', '.join(SOURCES)}")
        if not names and name == "hwmon" and found:
            continue  # hwmon may show the same package again
        try:
            found.append(SOURCES[name]())
        except Unavailable as error:
            why.append(str(error))
    if not found:
        return NotMeasured("; ".join(why))
    return found[0] if len(found) == 1 else Together(found)
