"""Going on without ranks that are lost: no step half applied, and the bits of a run that lost nobody.

MPI's User-Level Failure Mitigation (ULFM) tells the others that a rank is gone, lets them agree on something in spite of it, and
makes a communicator of those that are left. Open MPI has it:

    hammer agents launch --survive -n 4 CONFIG          # mpiexec --with-ft ulfm ...

    with agents.world(survive=True) as comm:            # Trainer(agents=Team(comm)) goes on by itself

In a loop of your own ``together`` runs what ranks do with each other before anything changes that lasts:

    def gradients():                                    # may run again, on fewer ranks
        optimizer.zero_grad()
        agents.backward(comm, loss(model(*mine(batch, comm))), optimizer.params)

    agents.together(comm, gradients)                    # all ranks that are left have it, or all do it again
    optimizer.step()

**No step is half applied.** An operation may succeed on some ranks and fail on others. So every rank tries, whoever finds a loss
calls off the operations of all (*revoke*), and then all that are left *agree* whether everyone has succeeded, which ULFM answers alike on
every rank, whatever happens meanwhile. Only after a yes something changes. After a no, the ranks that are left make a new
communicator (*shrink*), share the same batch out anew, and try again from the same parameters.

**Same bits.** With ``reduction.TreeSum`` a step's bits do not depend on the number of ranks, so those of the run do not depend on
how many were lost, or when. The price is one message more in each step, the agreement (measured by ``benchmarks/agents.py``).

A rank that raises, or waits for longer than ``timeout``, still ends the job: that is an error, not a loss. ``threads.run`` with
``survive=True`` has all of this without MPI: a rank that raises ``Killed`` is lost.
"""

import os
from collections.abc import Callable
from typing import Any, TypeVar

from .communicator import TIMEOUT, AgentsError, Communicator, Pending, RankLost
from .mpi import Mpi

T = TypeVar("T")

ENABLED = "OMPI_MCA_mpi_ft_enable"
"""The variable by which ``mpiexec --with-ft ulfm`` tells its ranks that there is ULFM."""
OPERATIONS = (
    "all_reduce",
    "all_reduce_in_place",
    "all_gather",
    "all_gather_now",
    "all_gather_bytes",
    "all_to_all",
    "exchange",
    "broadcast",
    "barrier",
)


def together(comm: Communicator, attempt: Callable[[], T], regroup: Callable[[list[int]], Any] | None = None) -> T:
    """What ``attempt()`` returns, once it has succeeded on every rank that is left; a plain call where nobody can be lost.

    Args:
        comm: the ranks; all of them call this.
        attempt: what they do together. It may run several times, so it changes nothing that lasts, and it reads ``comm.rank`` and
            ``comm.size`` anew each time.
        regroup: told of the lost ranks, as they were numbered at the start, before the next attempt.
    """
    while True:
        found: Any = None
        try:
            found, done = attempt(), True
        except RankLost:
            if not comm.survives:
                raise
            done = False
        if comm.size == 1 or not comm.survives:
            return found  # type: ignore[no-any-return]
        try:
            if comm.unanimous(done):
                return found  # type: ignore[no-any-return]
        except RankLost:
            pass  # on every rank
        lost = comm.shrink()
        if regroup is not None:
            regroup(lost)


def surviving() -> bool:
    """Whether this process was started with ULFM."""
    return os.environ.get(ENABLED, "") in ("1", "true")


class Survivor(Mpi):
    """All ranks of an MPI job, of which some may be lost.

    Args:
        timeout: as for ``Mpi``.

    Raises:
        AgentsError: this MPI, or this job, has no ULFM.
    """

    survives = True

    def __init__(self, timeout: float = TIMEOUT) -> None:
        if not surviving():
            raise AgentsError(
                "going on without a lost rank needs ULFM, which Open MPI 5 has and MPICH has not: start the ranks with "
                "hammer agents launch --survive, or mpiexec --with-ft ulfm"
            )
        os.environ.setdefault("OMPI_MCA_async_mpi_finalize", "1")  # the lost do not come to MPI's last barrier
        super().__init__(timeout)
        self._left = list(range(self.size))  # the ranks of this communicator, as they were numbered at the start
        self._called_off: list = []  # of communicators that are given up, what MPI may still write into

    def _guarded(self, call: Callable[[], T], comm: Any) -> T:
        """An MPI call on a communicator; if it fails because a rank is lost, everyone's operations on it are called off."""
        try:
            return call()
        except self._mpi.Exception as error:
            if not self._is_loss(error, comm):
                raise
            comm.Revoke()
            raise RankLost(f"rank {self.rank} of {self.size}: another rank is lost ({error})") from None

    def _is_loss(self, error: Any, comm: Any) -> bool:
        mpi = self._mpi
        if error.Get_error_class() in (mpi.ERR_PROC_FAILED, mpi.ERR_PROC_FAILED_PENDING, mpi.ERR_REVOKED):
            return True
        return comm.Is_revoked() or comm.Get_failed().Get_size() > 0  # some operations report a loss by other classes

    def unanimous(self, flag: bool) -> bool:
        with self._watchdog.waiting("unanimous"):
            return bool(self._guarded(lambda: self._comm.Agree(int(flag)), self._comm))

    def shrink(self) -> list[int]:
        self._called_off.append((self._comm, self._open))
        self._open = {}
        with self._watchdog.waiting("shrink"):
            smaller = self._comm.Shrink()
        old, new = self._comm.Get_group(), smaller.Get_group()
        places = self._mpi.Group.Translate_ranks(new, list(range(new.Get_size())), old)
        left = [self._left[place] for place in places]
        lost = sorted(set(self._left) - set(left))
        self._comm, self._left = smaller, left
        self.rank, self.size = smaller.Get_rank(), smaller.Get_size()
        return lost

    def close(self) -> None:
        try:
            super().close()
        except self._mpi.Exception as error:  # the run is over; whoever is lost now is not missed
            if not self._is_loss(error, self._comm):
                raise
        finally:
            self._watchdog.close()


def _guarding(name: str) -> Callable[..., Any]:
    start = getattr(Mpi, name)

    def call(self: Survivor, *args: Any, **options: Any) -> Any:
        comm = self._comm
        found = self._guarded(lambda: start(self, *args, **options), comm)
        if not isinstance(found, Pending):
            return found
        return Pending(lambda: self._guarded(found.wait, comm), lambda: self._guarded(found.test, comm))

    call.__name__, call.__doc__ = name, start.__doc__
    return call


for _name in OPERATIONS:
    setattr(Survivor, _name, _guarding(_name))
