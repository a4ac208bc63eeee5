"""A communicator that notes what every operation takes, tells of ranks that are behind, and makes a timeline.

    with agents.world() as world:
        comm = agents.Recorder(world)                   # in place of the communicator, wherever one goes
        ...
        comm.step()                                     # after each step; Team does it by itself
        timeline = comm.timeline()                      # all ranks together
        if comm.rank == 0:
            timeline.save_html("timeline.html")

An operation is noted with four moments: when it was called, when that call returned, when its result was asked for, and when it
was there. Between the last two this rank stands still; which part of that is waiting for a late rank, and which the
transport's, only shows beside the other ranks' notes (``timeline``).

*Stragglers.* Every so many steps the ranks compare how long they computed, in one message of 16 bytes. Where one took much longer
than the others, the first rank says so in one line.
"""

import contextlib
import json
import socket
import statistics
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from autograd.gradients.scaling import number, whole

from .communicator import Communicator, Pending, RankLost
from .timeline import RankNotes, Timeline

ROUNDS = 5
"""Barriers by which clocks of different machines are compared."""


class Recorder(Communicator):
    """Hands every operation on to another communicator, and notes its times.

    Args:
        comm: the communicator.
        every: steps from one comparison of the ranks to the next; None: ranks are not compared.
        behind: how many times as long as the others (their median) a rank must have computed to be named.
        most: operations, and steps, kept; of a longer run the last ones are.
        tell: what gets the line that names a rank; None: it is printed to stderr. Only the first rank's is called.
        clock: seconds, for tests.

    Raises:
        ValueError: a number out of range.
    """

    def __init__(
        self,
        comm: Communicator,
        *,
        every: int | None = 100,
        behind: float = 1.5,
        most: int = 100_000,
        tell: Callable[[str], object] | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ):
        super().__init__()
        self.comm, self.rank, self.size, self.sent, self.survives = comm, comm.rank, comm.size, comm.sent, comm.survives
        self.memory = comm.memory
        self.every = every if every is None else whole("every", every)
        self.behind, self._tell, self._clock = number("behind", behind, "[1, inf)"), tell or _printed, clock
        self._operations: deque[list] = deque(maxlen=whole("most", most))
        self._steps: deque[tuple[float, int]] = deque(maxlen=most)
        self._done, self._sent_before = 0, comm.sent
        self._count, self._inside, self._begin = 0, 0.0, clock()
        self._compared = self._begin, 0.0

    # ---- noting ----

    def _note(self, kind: str, start: Callable[[], Pending], source: Sequence[int] | None = None) -> Pending:
        before, called = self.comm.sent, self._clock()
        pending = start()
        self.sent, posted = self.comm.sent, self._clock()
        row = [self._count, kind, self.sent - before, self._done, called, posted, None, None, source]
        self._count += 1
        self._inside += posted - called
        self._operations.append(row)

        def finish() -> Any:
            asked = self._clock()
            result = pending.wait()
            done = self._clock()
            row[6], row[7] = asked, done
            self._inside += done - asked
            return result

        return Pending(finish, pending.test)

    def _at_once(self, kind: str, call: Callable[[], Any]) -> Any:
        """An operation that waits in its call: it is asked for when it is called."""
        before, called = self.comm.sent, self._clock()
        result = call()
        self.sent, done = self.comm.sent, self._clock()
        row = [self._count, kind, self.sent - before, self._done, called, called, called, done, None]
        self._count += 1
        self._inside += done - called
        self._operations.append(row)
        return result

    def all_reduce(self, x: np.ndarray, op: str = "sum") -> Pending:
        return self._note("all_reduce", lambda: self.comm.all_reduce(x, op))

    def all_reduce_in_place(self, x: np.ndarray, op: str = "sum") -> None:
        self._at_once("all_reduce", lambda: self.comm.all_reduce_in_place(x, op))

    def all_gather(self, x: np.ndarray) -> Pending:
        return self._note("all_gather", lambda: self.comm.all_gather(x))

    def all_gather_now(self, x: np.ndarray) -> np.ndarray:
        return self._at_once("all_gather", lambda: self.comm.all_gather_now(x))  # type: ignore[no-any-return]

    def all_gather_bytes(self, data: bytes) -> list[bytes]:
        return self._at_once("all_gather_bytes", lambda: self.comm.all_gather_bytes(data))  # type: ignore[no-any-return]

    def all_to_all(self, x: np.ndarray, counts: Sequence[int], sources: Sequence[int]) -> Pending:
        return self._note("all_to_all", lambda: self.comm.all_to_all(x, counts, sources))

    def exchange(self, x: np.ndarray, to: Sequence[int], source: Sequence[int]) -> Pending:
        return self._note("exchange", lambda: self.comm.exchange(x, to, source), list(source))

    def broadcast(self, x: np.ndarray, root: int = 0) -> np.ndarray:
        return self._at_once("broadcast", lambda: self.comm.broadcast(x, root))  # type: ignore[no-any-return]

    def barrier(self) -> None:
        self._at_once("barrier", self.comm.barrier)

    def unanimous(self, flag: bool) -> bool:
        return self._at_once("unanimous", lambda: self.comm.unanimous(flag))  # type: ignore[no-any-return]

    def shrink(self) -> list[int]:
        """Notes begin anew: those of the lost ranks are gone, and operations that were called off have no counterparts."""
        lost = self.comm.shrink()
        self.rank, self.size, self.sent = self.comm.rank, self.comm.size, self.comm.sent
        self._operations.clear()
        self._steps.clear()
        self._count, self._inside, self._begin = 0, 0.0, self._clock()
        self._compared = self._begin, 0.0
        return lost

    def __exit__(self, *exc: object) -> None:
        self.comm.__exit__(*exc)

    def close(self) -> None:
        self.comm.close()

    # ---- steps, and who is behind ----

    def step(self) -> None:
        """A step has ended. Every rank says so equally often."""
        self._steps.append((self._clock(), self.comm.sent - self._sent_before))
        self._done += 1
        if self.every is not None and self._done % self.every == 0 and self.size > 1:
            with contextlib.suppress(
                RankLost
            ):  # whoever trains finds that too, and is the one to go on without the rank
                self._compare()

    def _compare(self) -> None:
        now = self._clock()
        since, inside = self._compared
        seconds = now - since
        told = self.all_gather_now(np.array([seconds - (self._inside - inside), seconds]))
        self._compared = self._clock(), self._inside
        computed = told[:, 0].tolist()
        slow = int(np.argmax(computed))
        others = statistics.median(computed[:slow] + computed[slow + 1 :])
        if self.rank == 0 and computed[slow] > self.behind * others:
            first = self._done - (self.every or 0) + 1
            self._tell(
                f"steps {first} to {self._done}: rank {slow} is behind: it computed {computed[slow]:.3g} s of {told[slow, 1]:.3g} s, "
                f"the other{'s' * (self.size > 2)} {others:.3g} s, and waited about {computed[slow] - others:.3g} s for it"
            )

    # ---- the timeline ----

    def timeline(self) -> Timeline:
        """What all ranks have noted, on every rank; all of them call it."""
        end = self._clock()
        name = socket.gethostname()
        hosts = self.comm.all_gather_bytes(name.encode())
        shift = 0.0 if len(set(hosts)) == 1 else self._shift(hosts[0] == name.encode())
        own = {
            "begin": self._begin, "end": end, "shift": shift, "steps": list(self._steps), "count": self._done, "operations": list(self._operations),
        }  # fmt: skip
        found = [json.loads(data) for data in self.comm.all_gather_bytes(json.dumps(own).encode())]
        self.sent = self.comm.sent
        return Timeline([RankNotes.shifted(**one) for one in found])

    def _shift(self, beside: bool) -> float:
        """What to add to this clock to have that of the first rank: ranks leave a barrier at about the same moment."""
        apart = []
        for _ in range(ROUNDS):
            self.comm.barrier()
            clocks = self.comm.all_gather(np.array(self._clock())).wait()
            apart.append(float(clocks[0] - clocks[self.rank]))
        return 0.0 if beside else statistics.median(apart)


def _printed(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
