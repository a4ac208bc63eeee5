"""Meters of a trial that are not part of its bits: peak memory, and energy where a counter is readable."""

import sys
from pathlib import Path
from typing import Any, Self

from hammer.energy import Meter, Unavailable, rapl, technology
from hammer.energy.counters import POWERCAP

_TABLE = technology("45nm")
PICOJOULES = (_TABLE.operation("float32"), _TABLE.level(1 << 20).access.value / 8)
"""Of the estimate: for a floating-point operation (the mean of a float32 addition, 0.9, and multiplication, 3.7) and for a
byte moved (100 for 8 bytes from a cache of 1 MB), in 45 nm; Horowitz, "Computing's energy problem", ISSCC 2014. It leaves
out instructions, Python and idling, so it is a lower bound that orders methods by their arithmetic."""


def estimate(flops: Any, moved: Any) -> Any:
    """Joules of so many floating-point operations and bytes (numbers or arrays) by that model: an estimate, never a measurement."""
    return 1e-12 * (PICOJOULES[0] * flops + PICOJOULES[1] * moved)


class Joules:
    """The energy counters of the processor packages and their memory, which count all that runs on the machine.

    ``source`` names them; None where none can be read. Use it as a context: a counter that wraps around is polled meanwhile.
    """

    def __init__(self, root: Path = POWERCAP):
        try:
            self._meter = Meter(rapl(root))
        except Unavailable:
            self._meter = Meter()
        self.source = None if self._meter.source.kind == "not measured" else self._meter.source.name

    def __enter__(self) -> Self:
        self._meter.__enter__()
        return self

    def __exit__(self, *exc: Any) -> None:
        self._meter.__exit__(*exc)

    def read(self) -> float:
        """Joules since the start; NaN where they are not measured, or not any more."""
        joules = self._meter.read().joules
        return float("nan") if joules is None else joules


def mpi_bytes(own: bool) -> int | None:
    """Bytes that a trial has sent by MPI while it trained.

    Trials are one process each, so the built-in problems and optimizers send nothing. What a person's ``own`` code does is not
    measured: None, unless MPI is not loaded at all. Tasks and records that the MPI executor sends are not the trial's.
    """
    return None if own and "mpi4py.MPI" in sys.modules else 0


class PeakMemory:
    """The largest resident memory of this process since the meter was made, where Linux can start it anew; else since
    the process began. ``since`` says which."""

    def __init__(self) -> None:
        try:
            Path("/proc/self/clear_refs").write_text("5")
            self.since = "trial"
        except OSError:
            self.since = "process"

    def read(self) -> int | None:
        """Bytes; None where the system does not tell."""
        try:
            lines = Path("/proc/self/status").read_text().splitlines()
            return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
        except (OSError, StopIteration):
            if sys.platform == "win32":
                return None
            import resource

            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            return peak if sys.platform == "darwin" else 1024 * peak
