"""What agents need of a transport: a few collective operations on NumPy arrays, each started now and awaited later.

    with agents.world() as comm:                        # the ranks of an MPI job, or this process alone
        total = comm.all_reduce(np.ones(3)).wait()      # comm.size in every place

Three communicators have this interface: ``Alone`` (one rank, nothing installed), ``threads.Thread`` (ranks that are threads
of one process, for tests and for studies on one machine) and ``mpi.Mpi``. All ranks call the same operations in the same
order, as MPI demands; what is started first need not be awaited first.

*Bytes.* ``comm.sent`` counts the bytes this rank handed over: those of its array once for each receiver of ``exchange``
and ``all_to_all``, and once for any other operation, whatever the transport makes of it (a ring all-reduce of b bytes
moves 2 b (n − 1) / n of them out of every rank). On one rank nothing is sent.

*Failure.* A rank that raises inside ``with agents.world()`` ends the whole job, so that no other waits for it for ever; so does a
wait for a rank that has stopped answering, after ``TIMEOUT`` seconds. Where a communicator ``survives``, the loss of a rank that was
killed is a ``RankLost`` in the operations of the others, who may go on without it: see ``survive``.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np

from .memory import Memory

OPERATIONS: dict[str, Callable[..., Any]] = {"sum": np.add, "max": np.maximum, "min": np.minimum}
"""What ``all_reduce`` can combine arrays by."""


TIMEOUT = 600.0
"""Seconds that a rank waits for the others before it ends the job, unless told otherwise."""


class AgentsError(RuntimeError):
    """Agents cannot start, or can no longer work together; the message says what to do."""


class RankLost(AgentsError):
    """A rank that an operation needs is gone, or another rank has found that out and called the operation off."""


class Pending:
    """An operation that was started. ``wait()`` gives its result, as often as it is called."""

    def __init__(self, finish: Callable[[], Any], poll: Callable[[], bool] = lambda: True):
        self._finish: Callable[[], Any] | None = finish
        self._poll, self._result = poll, None

    def test(self) -> bool:
        """Whether ``wait()`` would return at once. Calling it also lets the transport work on what is under way."""
        return self._finish is None or self._poll()

    def wait(self) -> Any:
        if self._finish is not None:
            self._result, self._finish = self._finish(), None
        return self._result


class Communicator:
    """Some ranks that work together, seen from one of them.

    An array that is handed over must not be written to before the result is there: a transport may read it until then.

    Attributes:
        rank: this rank, from 0; ``shrink`` changes it.
        size: how many there are.
        sent: bytes this rank has handed over so far; see the module.
        survives: whether the ranks that are left can go on when one is lost.
        memory: where vectors come from that are needed anew in each step.
    """

    rank: int = 0
    size: int = 1
    survives: bool = False

    def __init__(self) -> None:
        self.sent = 0
        self.memory = Memory()

    def __deepcopy__(self, memo: dict) -> "Communicator":
        return self  # the ranks are what they are: a copy of a model that talks to them talks to the same ones

    def all_reduce(self, x: np.ndarray, op: str = "sum") -> Pending:
        """The sum (or "max", "min") over the ranks' arrays, of equal shape and dtype. In which order it is added up, and so
        its last bits, is the transport's choice; ``reduction.TreeSum`` is for sums whose bits matter."""
        raise NotImplementedError

    def all_reduce_in_place(self, x: np.ndarray, op: str = "sum") -> None:
        """``all_reduce`` into ``x`` itself (C-contiguous and writeable), and wait for it. Where nothing is left to be done meanwhile this
        is the quickest way: no new memory, and a transport's own shortest path. After an error ``x`` may hold anything."""
        x[...] = self.all_reduce(x, op).wait()

    def all_gather(self, x: np.ndarray) -> Pending:
        """The ranks' arrays, of equal shape and dtype, in one array with a first axis of ``size``."""
        raise NotImplementedError

    def all_gather_now(self, x: np.ndarray) -> np.ndarray:
        """``all_gather``, and wait for it: the quickest way where nothing is left to be done meanwhile."""
        return self.all_gather(x).wait()  # type: ignore[no-any-return]

    def all_gather_bytes(self, data: bytes) -> list[bytes]:
        """Every rank's bytes, of any lengths, in the order of the ranks."""
        raise NotImplementedError

    def all_to_all(self, x: np.ndarray, counts: Sequence[int], sources: Sequence[int]) -> Pending:
        """A part of a vector to every rank; the result is the vector of the parts that came, from rank 0 on, and is the caller's.

        Args:
            x: the parts, one after another, that of rank 0 first.
            counts: how many elements go to each rank.
            sources: how many come from each rank.
        """
        raise NotImplementedError

    def exchange(self, x: np.ndarray, to: Sequence[int], source: Sequence[int]) -> Pending:
        """Send an array to some ranks; the result is a dict of the arrays (of equal shape and dtype) that those of
        ``source`` sent here."""
        raise NotImplementedError

    def broadcast(self, x: np.ndarray, root: int = 0) -> np.ndarray:
        """The array of rank ``root``; every rank passes one of its shape and dtype."""
        raise NotImplementedError

    def barrier(self) -> None:
        """Wait until every rank is here."""
        self.all_gather(np.zeros(0, np.uint8)).wait()

    def agree(self, flag: bool) -> bool:
        """Whether any rank says True."""
        said = np.array(flag, np.int8)
        self.all_reduce_in_place(said, "max")
        return bool(said)

    def unanimous(self, flag: bool) -> bool:
        """Whether every rank says True. Where the communicator ``survives``, all ranks that are left get the same answer,
        or all of them a ``RankLost``, also when ranks are lost meanwhile and operations were called off before."""
        return not self.agree(not flag)

    def shrink(self) -> list[int]:
        """Go on without the ranks that are lost; all others call it. ``rank`` and ``size`` change, the order of ranks does not.

        Returns:
            The lost ones, as they were numbered at the start of the job.
        """
        raise AgentsError("these ranks cannot go on without one of them: agents.world(survive=True)")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the transport back."""


class Alone(Communicator):
    """One rank: every operation is the identity, and nothing is sent."""

    def all_reduce(self, x: np.ndarray, op: str = "sum") -> Pending:
        check_op(op)
        result = np.array(x)
        return Pending(lambda: result)

    def all_reduce_in_place(self, x: np.ndarray, op: str = "sum") -> None:
        check_op(op)

    def all_gather(self, x: np.ndarray) -> Pending:
        result = np.array(x)[None]
        return Pending(lambda: result)

    def all_gather_bytes(self, data: bytes) -> list[bytes]:
        return [bytes(data)]

    def all_to_all(self, x: np.ndarray, counts: Sequence[int], sources: Sequence[int]) -> Pending:
        check_parts(self, x, counts, sources)
        result = np.array(x)
        return Pending(lambda: result)

    def exchange(self, x: np.ndarray, to: Sequence[int], source: Sequence[int]) -> Pending:
        check_neighbours(self, to, source)
        return Pending(dict)

    def broadcast(self, x: np.ndarray, root: int = 0) -> np.ndarray:
        check_rank(self, root)
        return np.array(x)


def check_op(op: str) -> None:
    if op not in OPERATIONS:
        raise ValueError(f"all_reduce: op must be one of {', '.join(map(repr, OPERATIONS))}, not {op!r}")


def check_rank(comm: Communicator, rank: int) -> None:
    if not 0 <= rank < comm.size:
        raise ValueError(f"rank {rank} is not among the {comm.size} ranks, 0 to {comm.size - 1}")


def check_parts(comm: Communicator, x: np.ndarray, counts: Sequence[int], sources: Sequence[int]) -> None:
    if len(counts) != comm.size or len(sources) != comm.size:
        raise ValueError(
            f"all_to_all: {comm.size} ranks need as many counts and sources, not {len(counts)} and {len(sources)}"
        )
    if x.ndim != 1 or sum(counts) != len(x):
        raise ValueError(f"all_to_all: counts say {sum(counts)} elements in a vector, but x has the shape {x.shape}")
    if counts[comm.rank] != sources[comm.rank]:
        raise ValueError(
            f"all_to_all: this rank's part for itself has {counts[comm.rank]} elements, but sources expects {sources[comm.rank]}"
        )


def check_neighbours(comm: Communicator, to: Sequence[int], source: Sequence[int]) -> None:
    for ranks in (to, source):
        for other in ranks:
            check_rank(comm, other)
        if comm.rank in ranks or len(set(ranks)) < len(ranks):
            raise ValueError(
                f"exchange: the other ranks must be named once each, and not rank {comm.rank} itself: {list(ranks)}"
            )


# ---- which one ----

LAUNCHED = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_SIZE", "SLURM_STEP_NUM_TASKS")
"""Variables by which launchers (Open MPI; MPICH and its relatives; PMIx; srun) tell a process how many ranks there are."""


def launched() -> int:
    """How many ranks this process was started with; 1 where no launcher says."""
    found = [os.environ.get(name, "") for name in LAUNCHED]
    return max([int(n) for n in found if n.isdecimal()], default=1)


def world(kind: str = "auto", timeout: float = TIMEOUT, survive: bool = False) -> Communicator:
    """The communicator of all ranks of this job.

    Args:
        kind: "mpi"; "alone": this process by itself; "auto": MPI if a launcher (mpiexec, srun) started several ranks.
        timeout: the longest wait for other ranks, in seconds (math.inf: no limit). A longer one ends the whole job, after at
            most 1.125 times as long and 5 s more, with a line that says which rank waited, and where.
        survive: whether the others may go on when a rank is killed: see ``survive``.

    Raises:
        AgentsError: MPI is wanted, and mpi4py or an MPI library is missing; or ``survive``, and this MPI job has no ULFM.
        ValueError: another kind, or a timeout that is not more than 0.
    """
    if kind not in ("auto", "mpi", "alone"):
        raise ValueError(f'world: kind must be "auto", "mpi" or "alone", not {kind!r}')
    if not timeout > 0:
        raise ValueError(f"world: timeout must be more than 0 s, not {timeout!r}")
    if kind == "alone" or (kind == "auto" and launched() == 1):
        return Alone()
    if survive:
        from .survive import Survivor

        comm: Communicator = Survivor(timeout)
    else:
        from .mpi import Mpi

        comm = Mpi(timeout)
    if comm.size == 1 < launched():
        raise AgentsError(
            f"{launched()} processes were started, but MPI sees this one alone: the launcher is not of this MPI library. Use "
            'its own mpiexec, or srun --mpi=pmix; agents.world("alone") is for processes that do not work together'
        )
    return comm
