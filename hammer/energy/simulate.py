"""Simulated hardware, behind which the real code paths of ``counters`` run: a RAPL tree of files, and an NVML library.

machine = SimulatedRapl(folder)
source = rapl(machine.root, machine.read)
machine.spend(30.0)                 # the counters move, and wrap around as real ones do
machine.deny("package-0")           # from now on: permission denied
"""

import errno
from pathlib import Path
from typing import Any


class SimulatedRapl:
    """A powercap tree in a folder.

    Args:
        root: where it is made.
        packages: how many; each has a memory domain.
        span: microjoules after which a counter starts again (262,143 J, as many processors have).
        start: what the counters hold at first, in microjoules.
    """

    def __init__(self, root: Path, packages: int = 1, span: int = 262_143_328_850, start: int = 0):
        self.root, self.span = root, span
        self._zones: dict[str, Path] = {}
        self._denied: set[Path] = set()
        for i in range(packages):
            zones = {f"intel-rapl:{i}": f"package-{i}", f"intel-rapl:{i}:0": "core", f"intel-rapl:{i}:1": "dram"}
            for zone, name in zones.items():
                folder = root / zone
                folder.mkdir(parents=True)
                for file, value in (("name", name), ("max_energy_range_uj", span), ("energy_uj", start)):
                    (folder / file).write_text(f"{value}\n", "ascii")
                self._zones[name if name.startswith("package") else f"{name}-{i}"] = folder

    def spend(self, joules: float, domain: str = "package-0") -> None:
        """Let a domain use energy; a counter beyond its span wraps around."""
        file = self._zones[domain] / "energy_uj"
        file.write_text(f"{(int(file.read_text('ascii')) + round(1e6 * joules)) % self.span}\n", "ascii")

    def set(self, text: str, domain: str = "package-0") -> None:
        """Put any text into a counter's file."""
        (self._zones[domain] / "energy_uj").write_text(text, "ascii")

    def deny(self, domain: str = "package-0") -> None:
        """Refuse to let a counter be read, as the kernel does to users since 2020 (root passes file modes, so these are not used)."""
        self._denied.add(self._zones[domain] / "energy_uj")

    def remove(self, domain: str = "package-0") -> None:
        """Take the zone's counter away, as unloading the kernel's module does."""
        (self._zones[domain] / "energy_uj").unlink()

    def read(self, path: Path) -> str:
        if path in self._denied:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return path.read_text("ascii")


class SimulatedNvml:
    """The functions of NVML that ``counters.nvml`` calls, with NVML's own calling convention.

    Args:
        gpus: how many.
        counter: whether they have an energy counter; else a power sensor only, as before Volta.
    """

    def __init__(self, gpus: int = 1, counter: bool = True):
        self.gpus, self.counter = gpus, counter
        self.millijoules, self.milliwatts = [1_000_000] * gpus, [50_000] * gpus
        self.errors: dict[int | None, int] = {}
        """GPU -> the NVML error that its functions return from now on; None: of ``nvmlInit_v2``."""

    def nvmlInit_v2(self) -> int:
        return self.errors.get(None, 0)

    def nvmlDeviceGetCount_v2(self, count: Any) -> int:
        count._obj.value = self.gpus
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index: Any, handle: Any) -> int:
        handle._obj.value = index.value + 1  # a handle is opaque, and never null
        return self.errors.get(index.value, 0)

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: Any, millijoules: Any) -> int:
        gpu = handle.value - 1
        millijoules._obj.value = self.millijoules[gpu]
        return self.errors.get(gpu, 0 if self.counter else 3)

    def nvmlDeviceGetPowerUsage(self, handle: Any, milliwatts: Any) -> int:
        gpu = handle.value - 1
        milliwatts._obj.value = self.milliwatts[gpu]
        return self.errors.get(gpu, 0)
