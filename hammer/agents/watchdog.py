"""No wait is for ever: a thread that ends a rank whose wait for the others has taken too long.

MPI lets a rank wait without limit for one that has stopped answering: stuck in a loop, stopped by a signal, on a machine
that is gone while the launcher has not seen it. ``mpi.Mpi`` says here when a wait begins and when it is over; ``Watchdog`` looks at
it a few times within the limit, and ends the rank when it is passed. A rank that waits is in the MPI library and cannot
raise, so the thread ends the whole job.

    watchdog = Watchdog(600.0, end)                     # end("all_reduce", 600.2) is called at most once
    with watchdog.waiting("all_reduce"):
        request.Wait()
"""

import math
import threading
import time
from collections.abc import Callable
from typing import Self

LOOKS = 8
"""How often it looks within the limit: a wait ends after at most (1 + 1/8) times the limit."""


class Watchdog:
    """Watches the waits of one rank, from a thread of its own; one wait at a time.

    Args:
        seconds: the longest that a wait may take; infinity: there is no limit, and no thread.
        end: called in the watching thread, with the name of the wait and the seconds it has taken so far.

    Attributes:
        since: when the present wait began (``time.monotonic()``) and its name; None outside of one. ``waiting`` sets it; where a
            microsecond counts, it may be set directly.

    Raises:
        ValueError: not more than 0 seconds.
    """

    def __init__(self, seconds: float, end: Callable[[str, float], object]):
        if not seconds > 0:
            raise ValueError(f"the longest wait for other ranks must be more than 0 s, not {seconds!r}")
        self.seconds, self._end = seconds, end
        self.since: tuple[float, str] | None = None
        self._over = threading.Event()
        if math.isfinite(seconds):
            threading.Thread(target=self._watch, daemon=True, name="watchdog of agents").start()

    def waiting(self, what: str) -> Self:
        """``with watchdog.waiting(what): ...``: inside, this rank waits for others, in what the message calls ``what``."""
        self.since = time.monotonic(), what
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.since = None

    def close(self) -> None:
        """Stop watching."""
        self._over.set()

    def _watch(self) -> None:
        while not self._over.wait(self.seconds / LOOKS):
            since = self.since
            if since is not None and time.monotonic() - since[0] > self.seconds:
                self._end(since[1], time.monotonic() - since[0])
                return
