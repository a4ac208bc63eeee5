"""Communicators: one interface, three transports. The same program runs on each; MPI where it is installed."""

import sys

import numpy as np
import pytest
from mpi_jobs import needs_mpi, run

from hammer import agents
from hammer.agents import communicator
from hammer.agents.communicator import Communicator


def everything(comm: Communicator) -> None:
    """Every operation once, with results that can be told apart; runs on any transport and number of ranks."""
    n, me = comm.size, comm.rank
    mine = np.arange(3, dtype=np.float32) + me
    total, most = comm.all_reduce(mine), comm.all_reduce(np.array(me), "max")
    gathered = comm.all_gather(mine)
    assert gathered.wait().dtype == np.float32 and gathered.wait().tolist() == [[r, r + 1, r + 2] for r in range(n)]
    assert total.wait().tolist() == [n * k + n * (n - 1) / 2 for k in range(3)] and most.wait().shape == ()
    assert most.wait() == n - 1 and total.test()
    assert comm.all_gather_bytes(b"x" * me) == [b"x" * r for r in range(n)]
    parts = [np.full(other + 1, 10 * me + other) for other in range(n)]
    came = comm.all_to_all(np.concatenate(parts), [other + 1 for other in range(n)], [me + 1] * n).wait()
    assert came.reshape(n, me + 1).tolist() == [[10 * other + me] * (me + 1) for other in range(n)]
    assert comm.all_gather_now(np.array([me, 7])).tolist() == [[r, 7] for r in range(n)]
    right, left = [(me + 1) % n] * (n > 1), [(me - 1) % n] * (n > 1)
    assert {k: v.tolist() for k, v in comm.exchange(np.array([me]), right, left).wait().items()} == {
        r: [r] for r in left
    }
    assert comm.broadcast(np.array([me, 1.5]), n - 1).tolist() == [n - 1, 1.5]
    together, largest = np.arange(3.0) + me, np.array(me)
    comm.all_reduce_in_place(together)
    comm.all_reduce_in_place(largest, "max")
    assert together.tolist() == [n * k + n * (n - 1) / 2 for k in range(3)] and largest == n - 1
    with pytest.raises(ValueError, match="op must be one of 'sum', 'max', 'min', not 'mean'"):
        comm.all_reduce_in_place(together, "mean")
    assert comm.agree(me == 0) and not comm.agree(False)
    comm.barrier()
    mine[:] = -1  # what was sent is a copy, or has arrived
    assert comm.sent == 0 if n == 1 else comm.sent > 0


@pytest.mark.parametrize("size", [1, 2, 5])
def test_threads(size):
    agents.run(size, everything)


def test_alone():
    with agents.world("alone") as comm:
        everything(comm)
    with agents.world() as comm:
        assert type(comm) is agents.Alone


def test_bytes_are_counted():
    def sent(comm):
        counts = []
        x = np.zeros(10, np.float32)
        others = [r for r in range(comm.size) if r != comm.rank]
        for call in (
            lambda: comm.all_reduce(x).wait(), lambda: comm.all_gather(x).wait(), lambda: comm.all_gather_bytes(b"abc"),
            lambda: comm.exchange(x, others, others).wait(), lambda: comm.all_to_all(np.tile(x, comm.size), [10] * comm.size, [10] * comm.size).wait(),
            lambda: comm.broadcast(x, 1), lambda: comm.all_reduce_in_place(x),
        ):  # fmt: skip
            before = comm.sent
            call()
            counts.append(comm.sent - before)
        return counts

    assert agents.run(3, sent) == [[40, 40, 3, 80, 80, 40 * (r == 1), 40] for r in range(3)]


def test_what_is_posted_is_a_copy():
    def post(comm):
        x = np.full(2, float(comm.rank))
        found = comm.all_gather(x)
        x[:] = -1
        return found.wait().tolist()

    assert agents.run(2, post) == [[[0, 0], [1, 1]]] * 2


# ---- mistakes and failures ----


def test_an_error_on_one_rank_ends_all():
    ended = []

    def fail(comm):
        if comm.rank == 1:
            raise KeyError("lost")
        try:
            comm.barrier()
        except agents.AgentsError as error:
            ended.append(str(error))
            raise

    with pytest.raises(KeyError, match="lost"):
        agents.run(3, fail)
    assert len(ended) == 2 and all("rank 1 stopped with KeyError" in e for e in ended)


def test_different_operations_are_named():
    with pytest.raises(agents.AgentsError, match=r"rank \d calls (all_reduce|all_gather)\("):
        agents.run(2, lambda comm: (comm.all_reduce if comm.rank else comm.all_gather)(np.ones(2)).wait())
    with pytest.raises(agents.AgentsError, match=r"\(2,\).*\(3,\)|\(3,\).*\(2,\)"):
        agents.run(2, lambda comm: comm.all_gather(np.ones(2 + comm.rank)).wait())
    with pytest.raises(agents.AgentsError, match="expects"):
        agents.run(2, lambda comm: comm.exchange(np.ones(1), [], [1 - comm.rank]).wait())


def test_a_rank_that_stays_away_is_named():
    with pytest.raises(agents.AgentsError, match=r"ranks \[1\] did not come within 0.1 s"):
        agents.run(2, lambda comm: comm.rank or comm.barrier(), timeout=0.1)


def test_wrong_arguments():
    comm = agents.Alone()
    with pytest.raises(ValueError, match="'sum', 'max', 'min'"):
        comm.all_reduce(np.ones(1), "mean")
    with pytest.raises(ValueError, match="rank 1 is not among the 1 ranks"):
        comm.broadcast(np.ones(1), 1)
    with pytest.raises(ValueError, match="as many counts"):
        comm.all_to_all(np.ones(2), [], [])
    with pytest.raises(ValueError, match="counts say 3 elements in a vector"):
        comm.all_to_all(np.ones(2), [3], [2])
    with pytest.raises(ValueError, match="sources expects 3"):
        comm.all_to_all(np.ones(2), [2], [3])
    with pytest.raises(ValueError, match='"auto", "mpi" or "alone"'):
        agents.world("serial")
    with pytest.raises(ValueError, match="timeout must be more than 0 s"):
        agents.world(timeout=0)
    with pytest.raises(ValueError, match="not rank 0 itself"):
        agents.run(2, lambda comm: comm.exchange(np.ones(1), [comm.rank], []))


def test_launchers_are_seen(monkeypatch):
    for name in communicator.LAUNCHED:
        monkeypatch.delenv(name, raising=False)
    assert communicator.launched() == 1
    for name in communicator.LAUNCHED:
        monkeypatch.setenv(name, "3")
        assert communicator.launched() == 3
        monkeypatch.delenv(name)


def test_without_mpi_there_is_one_clear_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(agents.AgentsError, match=r'pip install "hammer-grad\[mpi\]"'):
        agents.world("mpi")


# ---- MPI ----

PROGRAM = """
import sys
from test_communicator import everything
from hammer import agents
with agents.world() as comm:
    everything(comm)
    if len(sys.argv) > 1 and comm.rank == 1:
        raise KeyError("lost")
    comm.barrier()
    print("whole", comm.size, flush=True)
"""


@needs_mpi
@pytest.mark.parametrize("n", [1, 3])
def test_mpi_does_what_threads_do(n):
    done = run(n, PROGRAM)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("whole") == n  # the ranks' lines may run into each other


@needs_mpi
def test_an_error_on_one_mpi_rank_ends_all():
    """The others wait at a barrier; a job that hangs runs into the time limit."""
    done = run(3, PROGRAM, "fail")
    assert done.returncode != 0 and "rank 1 of 3 ends the job" in done.stderr and "KeyError: 'lost'" in done.stderr
    assert "whole" not in done.stdout
