"""What thread ranks do in the other tests, two MPI ranks do to the same bits (a sum of two has one order)."""

import hashlib
import math
import re

import pytest
import test_delayed
import test_overlap
import test_population
import test_statistics
from mpi_jobs import needs_mpi, run

from hammer import agents


def all_of_it(comm):
    """Everything that agents can do beside what ``test_launch`` runs, as one hash for this rank."""
    found = [
        test_delayed.descend(comm, 2, 7)[0].tobytes(),
        test_overlap.overlapped(comm, 200),
        repr(test_population.agent(comm, [[1.0, 0.5], [math.nan, 2.0], [3.0, 4.0]])[0]),
        repr(test_population.remembered(comm, ["m1"], 2)),
        repr(sorted((k, v.tobytes()) for k, v in test_statistics.train(comm)[0].items())),
    ]
    recorder = agents.Recorder(comm, every=None)
    test_overlap.overlapped(recorder, 1)
    timeline = recorder.timeline()
    assert {s.kind for lane in timeline.spans for s in lane} >= {"compute", "communicate"} and len(
        timeline.spans
    ) == comm.size
    return hashlib.sha256(repr(found).encode()).hexdigest()


PROGRAM = """
import test_more_on_mpi
from hammer import agents
with agents.world() as comm:
    print(f"hash {comm.rank} {test_more_on_mpi.all_of_it(comm)}", flush=True)
"""


@needs_mpi
@pytest.mark.parametrize("ranks", [1, 2])
def test_mpi_ranks_have_the_bits_of_threads(ranks):
    done = run(ranks, PROGRAM)
    assert done.returncode == 0, done.stderr
    said = {
        int(rank): found for rank, found in re.findall(r"hash (\d) ([0-9a-f]{64})", done.stdout)
    }  # lines may run together
    assert [said[rank] for rank in range(ranks)] == agents.run(ranks, all_of_it)
