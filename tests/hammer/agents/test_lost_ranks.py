"""Lost ranks without ULFM: no wait is longer than its limit, and what ends a job says so."""

import re
import threading
import time

import pytest
from mpi_jobs import needs_mpi, run

from hammer.agents.watchdog import Watchdog


def test_a_wait_that_takes_too_long_is_ended_once():
    ended, told = [], threading.Event()

    def end(what, seconds):
        ended.append((what, seconds))
        told.set()

    watchdog = Watchdog(0.1, end)
    with watchdog.waiting("all_reduce"):
        assert told.wait(5.0)
        time.sleep(0.3)
    assert [what for what, _ in ended] == ["all_reduce"] and ended[0][1] > 0.1


def test_short_waits_and_long_work_are_left_alone():
    ended = []
    watchdog = Watchdog(0.2, lambda *said: ended.append(said))
    for _ in range(4):
        with watchdog.waiting("barrier"):
            time.sleep(0.08)
    time.sleep(0.4)  # work: nobody waits
    watchdog.close()
    with watchdog.waiting("barrier"):
        time.sleep(0.4)
    assert ended == []


def test_a_limit_must_be_a_time():
    for seconds in (0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="more than 0 s"):
            Watchdog(seconds, print)
    before = threading.active_count()
    Watchdog(float("inf"), print)
    assert threading.active_count() == before


PROGRAM = """
import os, signal, sys, time
import numpy as np
from hammer import agents

with agents.world(timeout=3.0) as comm:
    comm.barrier()
    if comm.rank == 1:
        if sys.argv[1] == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)
    comm.all_reduce(np.ones(3)).wait()
    print("whole", flush=True)
"""


@needs_mpi
def test_a_rank_that_stops_answering_ends_the_job_in_bounded_time():
    began = time.monotonic()
    done = run(3, PROGRAM, "sleep", seconds=50)
    assert done.returncode != 0 and "whole" not in done.stdout
    assert re.search(
        r"has waited [34] s for another rank in (all_reduce|barrier)", done.stderr
    )  # ranks may begin apart
    assert time.monotonic() - began < 45  # 3 s of waiting, and the start of the job


@needs_mpi
def test_a_killed_rank_ends_the_job_before_the_limit():
    done = run(3, PROGRAM, "kill", seconds=50)
    assert done.returncode != 0 and "whole" not in done.stdout and "waited" not in done.stderr
