"""The ranks of an MPI job, by mpi4py: an existing engine below the interface of ``communicator``.

Messages go through a duplicate of ``COMM_WORLD``, so that they never meet those of a program's own. Arrays are sent from
their own memory, without pickling. A rank that leaves the ``with`` block by an exception prints it and aborts the job: the
others, which may wait in a collective operation, end with it. (MPI itself would let them wait for ever.) A rank that was
killed ends the job by the launcher, which sees it at once; a wait for one that only stopped answering ends the job after
``timeout`` seconds (``watchdog``).
"""

import os
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from time import monotonic
from typing import Any

import numpy as np

from .communicator import (
    OPERATIONS,
    TIMEOUT,
    AgentsError,
    Communicator,
    Pending,
    check_neighbours,
    check_op,
    check_parts,
    check_rank,
)
from .watchdog import Watchdog

TAG = 1
MOST_OPEN = 256
"""Operations under way, after which it is looked which of them are over though nobody has asked for them."""
GRACE = 5.0
"""Seconds that MPI has to abort the job before a rank kills itself, which makes the launcher end the others."""


def library() -> Any:
    """mpi4py's module ``MPI``.

    Raises:
        AgentsError: it, or the MPI library that it needs, is not installed.
    """
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # RuntimeError: mpi4py finds no MPI library
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise AgentsError(
            f'agents on several ranks need mpi4py and an MPI library ({said}): pip install "hammer-grad[mpi]"; '
            'agents.world("alone") runs in this process, without'
        ) from None
    return MPI


class Mpi(Communicator):
    """All ranks of the MPI job that this process is one of.

    Args:
        timeout: the longest wait for other ranks, in seconds; a longer one ends the job.
    """

    def __init__(self, timeout: float = TIMEOUT) -> None:
        super().__init__()
        self._watchdog = Watchdog(timeout, self._lost)
        self._open: dict[int, tuple[list, Any, tuple]] = {}  # operations under way, with their memory
        self._started = 0
        self._mpi = library()
        self._in_place, self._types = self._mpi.IN_PLACE, {"f": self._mpi.FLOAT, "d": self._mpi.DOUBLE}
        self._comm = self._mpi.COMM_WORLD.Dup()
        self._operations = {op: getattr(self._mpi, op.upper()) for op in OPERATIONS}
        self.rank, self.size = self._comm.Get_rank(), self._comm.Get_size()

    def _count(self, nbytes: int) -> None:
        self.sent += nbytes if self.size > 1 else 0

    def _pending(self, what: str, requests: list, result: Any, *alive: Any) -> Pending:
        """``alive`` and the result are what MPI reads and writes: kept until it has, though nobody may wait for it."""
        request = self._mpi.Request
        if len(self._open) >= MOST_OPEN:
            self._open = {n: one for n, one in self._open.items() if not request.Testall(one[0])}
        number, self._started = self._started, self._started + 1
        self._open[number] = requests, result, alive
        one = requests[0] if len(requests) == 1 else None
        wait = one.Wait if one is not None else lambda: request.Waitall(requests)

        def finish() -> Any:
            self._watchdog.since = monotonic(), what
            try:
                wait()
            finally:
                self._watchdog.since = None
            self._open.pop(number, None)
            return result

        return Pending(finish, one.Test if one is not None else lambda: request.Testall(requests))

    def all_reduce(self, x: np.ndarray, op: str = "sum") -> Pending:
        check_op(op)
        x = np.asarray(x, order="C")
        result = self.memory.empty(x.size, x.dtype).reshape(x.shape)
        self._count(x.nbytes)
        return self._pending("all_reduce", [self._comm.Iallreduce(x, result, self._operations[op])], result, x)

    def all_reduce_in_place(self, x: np.ndarray, op: str = "sum") -> None:
        operation = self._operations.get(op)
        if operation is None:
            check_op(op)
        watchdog, kind = self._watchdog, self._types.get(x.dtype.char)
        watchdog.since = monotonic(), "all_reduce"
        try:  # a small message takes a few microseconds, so does finding out the type of its elements, and every call here
            self._comm.Allreduce(self._in_place, x if kind is None else (x, kind), operation)
        finally:
            watchdog.since = None
        if self.size > 1:
            self.sent += x.nbytes

    def all_gather(self, x: np.ndarray) -> Pending:
        x = np.asarray(x, order="C")
        result = self.memory.empty(self.size * x.size, x.dtype).reshape(self.size, *x.shape)
        self._count(x.nbytes)
        return self._pending("all_gather", [self._comm.Iallgather(x, result)], result, x)

    def all_gather_now(self, x: np.ndarray) -> np.ndarray:
        x = np.asarray(x, order="C")
        result = self.memory.empty(self.size * x.size, x.dtype).reshape(self.size, *x.shape)
        with self._watchdog.waiting("all_gather"):
            self._comm.Allgather(x, result)
        self._count(x.nbytes)
        return result

    def all_gather_bytes(self, data: bytes) -> list[bytes]:
        lengths = np.empty(self.size, np.int64)
        with self._watchdog.waiting("all_gather_bytes"):
            self._comm.Allgather(np.array([len(data)], np.int64), lengths)
            result = np.empty(int(lengths.sum()), np.uint8)
            self._comm.Allgatherv(np.frombuffer(data, np.uint8), [result, lengths.tolist()])
        self._count(len(data))
        ends = np.cumsum(lengths)
        return [result[end - n : end].tobytes() for n, end in zip(lengths, ends, strict=True)]

    def all_to_all(self, x: np.ndarray, counts: Sequence[int], sources: Sequence[int]) -> Pending:
        check_parts(self, x, counts, sources)
        x = np.ascontiguousarray(x)
        result = self.memory.empty(sum(sources), x.dtype)
        self._count(x.nbytes - counts[self.rank] * x.itemsize)
        request = self._comm.Ialltoallv([x, list(counts)], [result, list(sources)])
        return self._pending("all_to_all", [request], result, x)

    def exchange(self, x: np.ndarray, to: Sequence[int], source: Sequence[int]) -> Pending:
        check_neighbours(self, to, source)
        x = np.array(x, order="C")
        result = {other: np.empty_like(x) for other in source}
        self._count(x.nbytes * len(to))
        requests = [self._comm.Irecv(buffer, other, TAG) for other, buffer in result.items()]
        requests += [self._comm.Isend(x, other, TAG) for other in to]

        return self._pending("exchange", requests, result, x)

    def broadcast(self, x: np.ndarray, root: int = 0) -> np.ndarray:
        check_rank(self, root)
        result = np.array(x, order="C")
        with self._watchdog.waiting("broadcast"):
            self._comm.Bcast(result, root)
        self._count(result.nbytes if self.rank == root else 0)
        return result

    def barrier(self) -> None:
        with self._watchdog.waiting("barrier"):
            self._comm.Barrier()  # a gathering of nothing would not wait: MPI need not send empty messages

    def __exit__(self, *exc: object) -> None:
        if exc[0] is None or self.size == 1:
            self.close()
            return
        self._abort("".join(traceback.format_exception(*exc)))  # type: ignore[call-overload]

    def _lost(self, what: str, seconds: float) -> None:
        self._abort(
            f"it has waited {seconds:.0f} s for another rank in {what}: that rank is stuck, gone, or far behind. Go on from the "
            "last checkpoint; world(timeout=...) sets the limit\n"
        )

    def _abort(self, why: str) -> None:
        print(f"rank {self.rank} of {self.size} ends the job:\n{why}", file=sys.stderr, flush=True)
        sys.stdout.flush()
        last = threading.Timer(GRACE, os.kill, [os.getpid(), signal.SIGKILL])
        last.daemon = True
        last.start()
        self._mpi.COMM_WORLD.Abort(1)

    def close(self) -> None:
        for requests, *_ in self._open.values():  # what was started and never asked for
            with self._watchdog.waiting("close"):
                self._mpi.Request.Waitall(requests)
        self._open = {}
        self._watchdog.close()
        if self._comm != self._mpi.COMM_NULL:
            self._comm.Free()
