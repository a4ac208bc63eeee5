"""Events of the processor and the kernel. Most virtual machines have none of the processor's: the kernel's own run the same code."""

import ctypes
import errno
import mmap
import os
import platform
import struct
import time
from typing import Any

import pytest

from hammer.energy import EventCounters, Unavailable
from hammer.energy.hardware import EVENTS, Counts, available


def test_events_of_this_process() -> None:
    try:
        events = EventCounters(("task_clock_ns", "page_faults"))
    except Unavailable as error:
        pytest.skip(str(error))
    with events:
        before = events.read()
        until = time.process_time() + 0.02
        while time.process_time() < until:
            pass
        spent = events.read() - before
    assert 0.01e9 < spent["task_clock_ns"] < 5e9 and spent.bandwidth() is None
    assert not events._files


def test_page_faults_are_those_of_touched_pages() -> None:
    try:
        events = EventCounters(("page_faults", "task_clock_ns"), kernel=False)
    except Unavailable as error:
        pytest.skip(str(error))
    pages, size = 500, mmap.PAGESIZE
    with events, mmap.mmap(-1, pages * size) as memory:
        if hasattr(mmap, "MADV_NOHUGEPAGE"):
            memory.madvise(mmap.MADV_NOHUGEPAGE)
        before = events.read()
        for i in range(pages):
            memory[i * size] = 1
        spent = events.read() - before
    assert pages <= spent["page_faults"] < 1.5 * pages and spent.running == 1.0 and spent.seconds > 0


@pytest.mark.skipif(platform.system() != "Linux", reason="perf_event_open is Linux's")
@pytest.mark.parametrize(
    ("code", "said"),
    [
        (errno.EACCES, "counting cycles is not permitted"),
        (errno.EPERM, "counting cycles is not permitted"),
        (errno.ENOENT, "this machine has no counter of cycles"),
        (errno.EOPNOTSUPP, "this machine has no counter of cycles"),
        (errno.ENOSYS, "counting cycles failed: Function not implemented"),
    ],
)
def test_why_an_event_is_not_counted_is_told_in_a_line(monkeypatch: pytest.MonkeyPatch, code: int, said: str) -> None:
    opened: list[int] = []

    class Kernel:
        def syscall(self, _number: int, attributes: Any, *_rest: int) -> int:
            if struct.unpack_from("I4xQ", attributes) == EVENTS["cycles"]:
                ctypes.set_errno(code)
                return -1
            opened.append(os.open(os.devnull, os.O_RDONLY))
            return opened[-1]

    monkeypatch.setattr(ctypes, "CDLL", lambda *_args, **_kwargs: Kernel())
    with pytest.raises(Unavailable, match=said) as caught:
        EventCounters(("instructions", "cycles"))
    assert "\n" not in str(caught.value)
    with pytest.raises(OSError):  # the counter that was open is closed again
        os.fstat(opened[0])
    there = available()
    assert said in (there.pop("cycles") or "") and set(there.values()) == {None}


def test_no_counters_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    with pytest.raises(Unavailable, match="perf_event_open: not on Darwin"):
        EventCounters()
    assert all(why is not None for why in available().values())


def test_events_that_are_not_there() -> None:
    with pytest.raises(ValueError, match="no event 'joules'"):
        EventCounters(("joules",))
    assert Counts({"cache_misses": 1e6}, 0.5).bandwidth() == 128e6
    for name in EVENTS:
        try:
            EventCounters((name,)).close()
        except Unavailable as error:
            assert name in str(error) or "not on" in str(error)
