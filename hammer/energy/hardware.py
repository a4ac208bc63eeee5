"""The processor's own event counters, by Linux's ``perf_event_open``: instructions, cycles, cache misses of this process.

    with EventCounters() as events:
        before = events.read()
        ...
        spent = events.read() - before     # spent["instructions"], spent.bandwidth()

They are not joules. They say why a step takes energy (how far it is from memory), and calibration may use them.
"""

import ctypes
import errno
import os
import platform
import struct
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from .meter import Unavailable

_CALL = {"x86_64": 298, "AMD64": 298, "aarch64": 241, "arm64": 241, "riscv64": 241, "ppc64le": 319, "s390x": 331}
_HARDWARE, _SOFTWARE = 0, 1
EVENTS = {
    "cycles": (_HARDWARE, 0), "instructions": (_HARDWARE, 1), "cache_references": (_HARDWARE, 2), "cache_misses": (_HARDWARE, 3),
    "branches": (_HARDWARE, 4), "branch_misses": (_HARDWARE, 5),
    "cpu_clock_ns": (_SOFTWARE, 0), "task_clock_ns": (_SOFTWARE, 1), "page_faults": (_SOFTWARE, 2), "context_switches": (_SOFTWARE, 3),
}  # fmt: skip
"""Name -> type and number in the kernel's ABI (linux/perf_event.h)."""
LINE = 64
"""Bytes of a cache line."""


@dataclass(frozen=True)
class Counts:
    """Events and seconds; ``a - b`` is what came between two readings.

    ``running`` is the share of the time for which the events had a counter of the processor; where there are more events than
    counters, the kernel takes turns and the counts are scaled up.
    """

    events: Mapping[str, float]
    seconds: float
    running: float = 1.0

    def __getitem__(self, name: str) -> float:
        return self.events[name]

    def __sub__(self, before: "Counts") -> "Counts":
        spent = {name: value - before.events[name] for name, value in self.events.items()}
        return Counts(spent, self.seconds - before.seconds, min(self.running, before.running))

    def bandwidth(self) -> float | None:
        """Bytes a second from memory, as last-level cache misses times a line of 64 bytes: an estimate, without prefetches and
        writes. None without that event."""
        misses = self.events.get("cache_misses")
        return None if misses is None or not self.seconds else LINE * misses / self.seconds


class EventCounters:
    """Counters of events of this process and the threads that it starts later.

    Args:
        events: names of ``EVENTS``.
        kernel: whether time in the kernel counts; it needs rights.

    Raises:
        Unavailable: the system is not Linux, does not allow it, or the (virtual) machine has no such counter; the message says which.
        ValueError: an unknown event.
    """

    def __init__(
        self,
        events: Sequence[str] = ("instructions", "cycles", "cache_references", "cache_misses"),
        kernel: bool = False,
    ):
        self.names, self._files = tuple(events), list[int]()
        unknown = sorted(set(events) - EVENTS.keys())
        if unknown:
            raise ValueError(f"EventCounters: there is no event {unknown[0]!r}; there are {', '.join(EVENTS)}")
        number = _CALL.get(platform.machine())
        if platform.system() != "Linux" or number is None:
            raise Unavailable(f"perf_event_open: not on {platform.system()} {platform.machine()}")
        libc = ctypes.CDLL(None, use_errno=True)
        try:
            for name in self.names:
                self._files.append(_open(libc, number, name, kernel))
        except Unavailable:
            self.close()
            raise

    def read(self) -> Counts:
        """What has been counted since the counters were opened."""
        found, share = {}, 1.0
        for name, file in zip(self.names, self._files, strict=True):
            value, enabled, running = struct.unpack("QQQ", os.read(file, 24))
            found[name] = value * enabled / running if running else float("nan")
            share = min(share, running / enabled if enabled else 1.0)
        return Counts(found, time.perf_counter(), share)

    def close(self) -> None:
        """Close the counters; they cannot be read afterwards."""
        while self._files:
            os.close(self._files.pop())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: Any) -> None:
        self.close()


def available() -> dict[str, str | None]:
    """Each event of ``EVENTS``: None if it can be counted here, or in one line why not."""
    found: dict[str, str | None] = {}
    for name in EVENTS:
        try:
            EventCounters((name,)).close()
            found[name] = None
        except Unavailable as error:
            found[name] = str(error)
    return found


def _open(libc: Any, number: int, name: str, kernel: bool) -> int:
    kind, config = EVENTS[name]
    size = 64  # PERF_ATTR_SIZE_VER0: all that is set here
    inherit, no_kernel, no_hypervisor = 1 << 1, 0 if kernel else 1 << 5, 1 << 6
    layout = struct.pack("IIQQQQQ", kind, size, config, 0, 0, 1 | 2, inherit | no_kernel | no_hypervisor)
    attributes = ctypes.create_string_buffer(layout, size)
    file = libc.syscall(number, attributes, 0, -1, -1, 0)
    if file >= 0:
        return file
    code = ctypes.get_errno()
    if code in (errno.EACCES, errno.EPERM):
        level = Path("/proc/sys/kernel/perf_event_paranoid")
        said = (
            f" (perf_event_paranoid is {level.read_text('ascii').strip()}; 2 or less allows it)"
            if level.exists()
            else ""
        )
        raise Unavailable(f"perf_event_open: counting {name} is not permitted{said}")
    if code in (errno.ENOENT, errno.EOPNOTSUPP, errno.ENODEV):
        raise Unavailable(f"perf_event_open: this machine has no counter of {name} (virtual machines often hide them)")
    raise Unavailable(f"perf_event_open: counting {name} failed: {os.strerror(code)}")
