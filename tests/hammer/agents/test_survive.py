"""Going on without lost ranks: whoever is lost, and when, the run ends with the bits of one that lost nobody."""

import json
import re

import numpy as np
import pytest
from mpi_jobs import needs_mpi, needs_ulfm, run
from test_team import LINKED, X, Y, fit, model

from autograd.train import CheckpointFolder, JSONLLogger, Trainer, load_state
from hammer import agents
from hammer.agents import Killed, RankLost, launch

STEPS = 3


class Strike:
    """Kills ranks: each of them at an operation, by its number, before or after it has been started."""

    def __init__(self, kills):
        self.kills = kills  # rank -> (number, after)

    def watch(self, comm):
        rank = comm.rank
        if rank not in self.kills:
            return comm
        left, after = self.kills[rank]

        def struck(start):
            def call(*args):
                nonlocal left
                left -= 1
                if left < 0 and not after:
                    raise Killed
                found = start(*args)
                if left < 0:
                    raise Killed
                return found

            return call

        for name in ("_start", "unanimous", "shrink"):
            setattr(comm, name, struck(getattr(comm, name)))
        return comm


def operations(ranks=3):
    """How many operations a rank takes part in."""

    def counted(comm):
        count, start, unanimous = [0], comm._start, comm.unanimous

        def more(call):
            def counting(*args):
                count[0] += 1
                return call(*args)

            return counting

        comm._start, comm.unanimous = more(start), more(unanimous)
        fit(comm, max_steps=STEPS)
        return count[0]

    return agents.run(ranks, counted, survive=True)[0]


@pytest.fixture(scope="module")
def alone():
    return fit(agents.Alone(), max_steps=STEPS)


def survivors(ranks, kills, **options):
    found = agents.run(ranks, lambda comm: fit(Strike(kills).watch(comm), max_steps=STEPS, **options), survive=True)
    assert [r for r in range(ranks) if found[r] is None] == sorted(kills)
    return [one for one in found if one is not None]


def same(found, alone):
    return all(bits == alone[0] and rows == alone[1] and step == alone[3] for bits, rows, _, step in found)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("rank", [0, 1, 2])
def test_a_rank_lost_in_any_operation_changes_no_bit(alone, rank, after):
    """With dropout, batch normalisation, AdamW and clipping. Half of the operations here, the other half for another rank."""
    count = operations()
    assert count > 20
    for number in range((rank + after) % 2, count, 2):
        assert same(survivors(3, {rank: (number, after)}), alone), number


def test_ranks_lost_together_and_one_after_the_other(alone):
    assert same(survivors(4, {0: (9, False), 2: (9, False)}), alone)
    assert same(survivors(4, {3: (5, True), 0: (14, False), 1: (23, False)}), alone)  # down to one
    assert same(
        survivors(3, {1: (10, False), 0: (15, False)}), alone
    )  # during the agreement on the first loss, or near it


def folder_that_kills(path, rank, step, after):
    class Folder(CheckpointFolder):
        def save(self, state, **about):
            if rank == 0 and about["step"] == step and not after:
                raise Killed
            found = super().save(state, **about)
            if rank == 0 and about["step"] == step:
                raise Killed
            return found

    return Folder(path, keep_last=99)


def test_the_next_rank_goes_on_with_logs_and_checkpoints(tmp_path):
    """The first rank is lost before or after it saves, or logs: every row is there once, and every checkpoint, with the
    parameters and random streams of a run that lost nobody."""

    def kept(comm, folder, kill=None, after=False):
        me = comm.rank

        class Log(JSONLLogger):
            def on_log(self, trainer, row):
                if me == 0 and kill == ("log", row["step"]) and not after:
                    raise Killed
                super().on_log(trainer, row)
                if me == 0 and kill == ("log", row["step"]):
                    raise Killed

        checkpoints = folder_that_kills(folder, comm.rank, kill[1] if kill and kill[0] == "save" else None, after)
        trainer = Trainer(
            model(), "cross_entropy", "adamw", lr=1e-2, agents=LINKED(comm), loggers=[Log(folder / "log.jsonl")], log_every=1,
            checkpoints=checkpoints, save_every=2,
        )  # fmt: skip
        trainer.fit((X, Y), epochs=2, batch_size=12)
        return trainer.state_dict()["place"]

    def seen(folder):
        rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        rows = [{k: v for k, v in row.items() if "second" not in k} for row in rows]
        saved = {}
        for one in CheckpointFolder(folder).saved():
            state = load_state(one.path)
            bits = {k: np.asarray(v).tobytes() for k, v in state["model"].items()}
            saved[one.step, one.metric] = bits, repr(state["streams"])
        return rows, saved

    (place,) = agents.run(1, kept, tmp_path / "alone")
    expected = seen(tmp_path / "alone")
    assert [row["step"] for row in expected[0]] == [1, 2, 3, 4, 5, 5, 6, 7, 8, 9, 10, 10] and len(expected[1]) == 7
    for kill in (("log", 1), ("log", 5), ("log", 10), ("save", 2), ("save", 5), ("save", 10)):
        for after in (False, True):
            folder = tmp_path / f"{kill[0]}{kill[1]}{after}"
            assert agents.run(3, kept, folder, kill, after, survive=True) == [None, place, place]
            assert seen(folder) == expected, (kill, after)


def test_one_line_says_who_is_lost(capsys):
    survivors(3, {1: (12, False)})
    said = capsys.readouterr().err
    assert re.fullmatch(
        r"step \d: rank 1 lost; 2 ranks go on from the same parameters, with 4 micro-batches between them\n", said
    )


def test_what_succeeded_on_some_ranks_only_is_done_again():
    """Rank 1 is lost after it has sent everything of the first operation, so the others have its result; the second tells."""
    tried = []

    def work(comm):
        def attempt():
            tried.append((comm.rank, comm.size))
            first = comm.all_reduce(np.ones(2)).wait()
            if comm.size == 3 and comm.rank == 1:
                raise Killed
            return first, comm.all_gather(np.array(comm.rank)).wait().tolist()

        lost = []
        first, ranks = agents.together(comm, attempt, lost.extend)
        return first.tolist(), ranks, lost

    assert agents.run(3, work, survive=True) == [([2.0, 2.0], [0, 1], [1]), None, ([2.0, 2.0], [0, 1], [1])]
    assert sorted(tried) == [(0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]


def test_an_agreement_is_the_same_for_all_that_are_left():
    def work(comm):
        if comm.rank == 3:
            raise Killed
        try:
            return comm.unanimous(True)
        except RankLost:
            comm.shrink()
        return comm.unanimous(comm.rank != 1), comm.unanimous(True), comm.size

    assert agents.run(4, work, survive=True) == [(False, True, 3)] * 3 + [None]
    assert agents.Alone().unanimous(True) and not agents.Alone().unanimous(False)


def test_a_rank_that_raises_is_no_loss():
    def work(comm):
        if comm.rank == 1:
            raise KeyError("broken")
        agents.together(comm, comm.barrier)

    with pytest.raises(KeyError, match="broken"):
        agents.run(3, work, survive=True)

    def killed(comm):
        if comm.rank == 1:
            raise Killed
        comm.barrier()

    with pytest.raises(Killed):
        agents.run(2, killed)
    with pytest.raises(RankLost):
        agents.run(2, killed, survive=True)
    with pytest.raises(agents.AgentsError, match="survive=True"):
        agents.run(2, lambda comm: comm.shrink())


def test_a_recorder_begins_anew_without_the_lost():
    def watched(comm):
        recorder = agents.Recorder(Strike({1: (20, False)}).watch(comm), every=2)
        bits = fit(recorder, max_steps=STEPS)[0]
        return bits, recorder.size, len(recorder.timeline().spans)

    found = agents.run(3, watched, survive=True)
    assert found[1] is None and found[0] == found[2] and found[0][1:] == (2, 2)
    assert found[0][0] == fit(agents.Alone(), max_steps=STEPS)[0]


# ---- MPI ----


def test_ulfm_is_asked_for_where_it_is():
    planned = lambda kind: launch.plan(3, ["a"], path="/bin/mpiexec", kind=kind, cores=4, root=False, survive=True)
    assert planned("openmpi").command == ["/bin/mpiexec", "--with-ft", "ulfm", "-n", "3", "a"]
    for kind in ("mpich", "openmpi4"):
        with pytest.raises(agents.AgentsError, match=f"needs ULFM, which Open MPI 5 has; /bin/mpiexec is of {kind}"):
            planned(kind)


def test_a_job_without_ulfm_is_told_how_to_have_it(monkeypatch):
    monkeypatch.setenv("PMI_SIZE", "2")
    monkeypatch.delenv("OMPI_MCA_mpi_ft_enable", raising=False)
    with pytest.raises(agents.AgentsError, match="hammer agents launch --survive"):
        agents.world(survive=True)
    assert isinstance(agents.world("alone", survive=True), agents.Alone)


TRAIN = """
import os, signal, sys
from pathlib import Path
from hammer import agents
from test_team import fit
from autograd.train import Callback

folder, moment, number, ranks = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), [int(r) for r in sys.argv[4].split(",")]

def die():
    os.kill(os.getpid(), signal.SIGKILL)

class Kill(Callback):
    def on_step_end(self, trainer):
        if moment == "compute" and trainer.step == number and me in ranks:
            die()

with agents.world(survive=True) as comm:
    me, left = comm.rank, number
    if moment == "send" and me in ranks:
        def strike():
            global left
            left -= 1
            if left == 0:
                die()
        def struck(start, waits):
            def call(*args):
                if waits:
                    strike()
                found = start(*args)
                if not waits:
                    strike()
                return found
            return call
        for name in ("all_reduce", "all_reduce_in_place", "all_gather", "all_gather_now", "all_to_all", "unanimous"):
            setattr(comm, name, struck(getattr(comm, name), name in ("all_reduce_in_place", "all_gather_now")))
    flush = os.fsync
    def flushed(file):
        global left
        left -= moment == "checkpoint"
        if left == 0 and me in ranks:
            die()
        flush(file)
    os.fsync = flushed
    bits, rows, _, step = fit(comm, folder, 2, save_every=2, callbacks=[Kill()])
    assert step == 10
    (folder / f"bits{me}").write_bytes(b"".join(bits[name] for name in sorted(bits)))
"""


@needs_ulfm
@pytest.mark.parametrize(
    ("moment", "number", "lost"),
    [("compute", 3, "1"), ("checkpoint", 2, "0"), ("send", 24, "0,2")],
)
def test_mpi_ranks_go_on_without_the_killed(tmp_path, moment, number, lost):
    done = run(3, TRAIN, tmp_path, moment, number, lost, survive=True)
    assert done.returncode == 0, done.stderr
    found = fit(agents.Alone())[0]
    bits = b"".join(found[name] for name in sorted(found))
    left = [r for r in range(3) if str(r) not in lost.split(",")]
    assert sorted(p.name for p in tmp_path.glob("bits*")) == [f"bits{r}" for r in left]
    assert all((tmp_path / f"bits{r}").read_bytes() == bits for r in left)
    said = [line for line in done.stderr.splitlines() if " lost; " in line]
    assert 1 <= len(said) <= len(lost.split(",")) and said[0].endswith("with 4 micro-batches between them"), done.stderr
    assert any(p.stem.endswith("epoch-2-step-10") for p in tmp_path.glob("*.safetensors"))


@needs_ulfm
def test_an_exception_still_ends_the_job(tmp_path):
    program = TRAIN.replace(
        "def die():\n    os.kill(os.getpid(), signal.SIGKILL)", "def die():\n    raise KeyError('broken')"
    )
    assert program != TRAIN
    done = run(3, program, tmp_path, "compute", 3, "1", survive=True)
    assert done.returncode != 0 and "rank 1 of 3 ends the job" in done.stderr and not list(tmp_path.glob("bits*"))


@needs_mpi
def test_mpi_ranks_without_ulfm_are_told_how_to_have_it():
    done = run(2, "from hammer import agents\nagents.world('mpi', survive=True)")
    assert done.returncode != 0 and "hammer agents launch --survive" in done.stderr
