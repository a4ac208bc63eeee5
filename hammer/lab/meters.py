"""Meters of a trial that are not part of its bits: peak memory, and energy where a counter is readable."""

import sys
from pathlib import Path
from typing import Any

PICOJOULES = (2.3, 12.5)
"""Of the estimate: for a floating-point operation (the mean of a float32 addition, 0.9, and multiplication, 3.7) and for a
byte moved (100 for 8 bytes from a cache of 1 MB), in 45 nm; Horowitz, "Computing's energy problem", ISSCC 2014. It leaves
out instructions, Python and idling, so it is a lower bound that orders methods by their arithmetic."""


def estimate(flops: Any, moved: Any) -> Any:
    """Joules of so many floating-point operations and bytes (numbers or arrays) by that model: an estimate, never a measurement."""
    return 1e-12 * (PICOJOULES[0] * flops + PICOJOULES[1] * moved)


class Joules:
    """The energy counters of the processor packages (Linux powercap), which count all that runs on the machine.

    ``source`` names them; None where none can be read.
    """

    def __init__(self, root: Path = Path("/sys/class/powercap")):
        self._files: list[list[Any]] = []
        self.joules = 0.0
        for zone in sorted(root.glob("*-rapl:*")):
            try:
                if (zone / "name").read_text().startswith("package"):
                    size = int((zone / "max_energy_range_uj").read_text())
                    self._files.append([zone / "energy_uj", size, int((zone / "energy_uj").read_text())])
            except (OSError, ValueError):  # not readable for this user
                continue
        self.source = f"RAPL, {len(self._files)} packages" if self._files else None

    def read(self) -> float:
        """Joules since the start; NaN where they are not measured. A counter may wrap once between two readings."""
        if not self._files:
            return float("nan")
        for entry in self._files:
            now = int(entry[0].read_text())
            self.joules += 1e-6 * ((now - entry[2]) % entry[1] if now < entry[2] else now - entry[2])
            entry[2] = now
        return self.joules


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
