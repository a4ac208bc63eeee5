"""Kills, stops and breaks single ranks of MPI training jobs, and looks at what becomes of the others and of the run.

The run: an MLP with batch normalisation and dropout, AdamW, batches in 4 micro-batches on 2 or 3 ranks (``agents.Team``), a
checkpoint every third step. The script starts its own ranks with ``mpiexec`` (``hammer.agents.launch``); without MPI it says so.

* **Kills**: SIGKILL to a random rank at a random moment: in its forward pass (*compute*), between the start of an operation and
  its end (*send*), or in the middle of writing a checkpoint (*checkpoint*, the first rank). The job must end by
  itself, with an error and no process left (a *clean stop*), every checkpoint on the disk must be whole, and the run must go
  on from the newest, on another number of ranks, to the bits of a run that was never stopped (an *exact resume*).
* **Losses**: the same kills in jobs that survive them (Open MPI's ULFM; left out with another MPI). The other ranks must go on to the
  end, with exit code 0 and a line that names the lost rank, and each of them must end with the state of a run that lost nobody, to
  the last bit (*survived*).
* **Exceptions**: at the same moments a rank raises instead, in a checkpoint as a full disk does. The job must end, with the
  rank and its exception named.
* **Stops**: a rank gets SIGSTOP, so that nobody sees that it is gone. The others must end the job when they have waited for
  ``timeout`` seconds.

A job that has not ended after a minute is a *hang*, and is ended by the script. The last line is JSON.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import common
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
MOMENTS = ("compute", "send", "checkpoint")
EXAMPLES, BATCH, MICRO_BATCHES, SAVE_EVERY = 512, 64, 4, 3
TIMEOUT, PATIENCE, LIMIT, GRACE = 4.0, 30.0, 60.0, 5.0
"""Seconds: a rank waits for another, and in a job that survives; a job may take; its processes have to be gone after its end."""
QUICK_SECONDS = 28


# ---- a rank ----


class Fault:
    """Strikes once: when its moment comes for the given time, on the given rank."""

    def __init__(self, what: dict[str, Any] | None, rank: int):
        self.what, self.left = what, what["number"] if what and what["rank"] == rank else 0

    def at(self, moment: str) -> None:
        if self.left and self.what is not None and self.what["moment"] == moment:
            self.left -= 1
            if self.left == 0:
                self._strike(moment)

    def _strike(self, moment: str) -> None:
        assert self.what is not None
        if self.what["how"] == "raise":
            raise OSError(28, "No space left on device") if moment == "checkpoint" else KeyError("broken on purpose")
        os.kill(os.getpid(), signal.SIGSTOP if self.what["how"] == "stop" else signal.SIGKILL)


def train(folder: Path, epochs: int, what: dict[str, Any] | None) -> None:
    """The run, from its newest checkpoint if there is one; at the end each rank's state is in ``final-RANK.safetensors``
    (RANK as at the start)."""
    from autograd import nn
    from autograd.train import ArrayDataset, CheckpointFolder, Loader, Trainer, save_state
    from hammer import agents

    survive = agents.survive.surviving()
    with agents.world(timeout=PATIENCE if survive else TIMEOUT, survive=survive) as comm:
        me = comm.rank
        (folder / f"pid-{os.getpid()}").touch()
        fault = Fault(what, comm.rank)
        watch_operations(comm, fault)
        rng = np.random.default_rng(0)
        y = rng.integers(0, 4, EXAMPLES)
        x = (2 * np.eye(8)[y] + rng.standard_normal((EXAMPLES, 8))).astype(np.float32)
        hidden = [nn.Linear(8, 32, rng=rng), nn.BatchNorm1d(32), nn.ReLU()]
        model = nn.Sequential(*hidden, nn.Dropout(0.3, rng=np.random.default_rng(1)), nn.Linear(32, 4, rng=rng))

        class Struck(Trainer):
            def compute(self, batch: Any) -> tuple[Any, Any, Any]:
                found = super().compute(batch)
                fault.at("compute")
                return found

        trainer = Struck(
            model, "cross_entropy", "adamw", lr=1e-2, metrics=["accuracy"], agents=agents.Team(comm, MICRO_BATCHES),
            checkpoints=CheckpointFolder(folder / "checkpoints", keep_last=2), save_every=SAVE_EVERY,
        )  # fmt: skip
        trainer.fit(Loader(ArrayDataset(x, y), BATCH, shuffle=True, seed=1), epochs=epochs, resume=True)
        save_state(folder / f"final-{me}.safetensors", trainer.state_dict())


def watch_operations(comm: Any, fault: Fault) -> None:
    """Let the fault strike between the start and the end of an operation, and in the middle of writing a checkpoint."""

    def struck(name: str, operation: Any) -> Any:
        # one that waits has no such moment: it strikes before, so that the others wait for a rank that does not come
        waits = name in ("all_reduce_in_place", "all_gather_now")

        def call(*args: Any) -> Any:
            if waits:
                fault.at("send")
            found = operation(*args)
            if not waits:
                fault.at("send")
            return found

        return call

    for name in ("all_reduce", "all_reduce_in_place", "all_gather", "all_gather_now", "all_to_all", "unanimous"):
        setattr(comm, name, struck(name, getattr(comm, name)))
    flush = os.fsync

    def flushed(file: Any) -> None:  # the temporary file is written, and has not taken its name yet
        fault.at("checkpoint")
        flush(file)

    os.fsync = flushed


# ---- jobs ----


def job(folder: Path, epochs: int, ranks: int, what: dict[str, Any] | None = None) -> dict[str, Any]:
    """Run the ranks: exit code, seconds, what was printed, whether it had to be ended, and processes left over."""
    from hammer.agents import launch

    command = [sys.executable, __file__, "--rank", str(folder), "--epochs", str(epochs), "--fault", json.dumps(what)]
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    settings = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    if ranks > 1:
        plan = launch.plan(ranks, command, survive=what is not None and what["how"] == "lose")
        command, settings = plan.command, settings | plan.settings
    began = time.monotonic()
    process = subprocess.Popen(
        command, env=settings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    hung = False
    try:
        said, _ = process.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        hung = True
        said = ended(process, folder)
    seconds = time.monotonic() - began
    left = remaining(folder)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return {"code": process.returncode, "seconds": seconds, "said": said, "hung": hung, "left": len(left)}


def ended(process: subprocess.Popen, folder: Path) -> str:
    """End a job that hangs, and its ranks; what it has printed."""
    for pid in [*pids(folder), process.pid]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return process.communicate()[0] or ""


def pids(folder: Path) -> list[int]:
    return [int(p.name.partition("-")[2]) for p in folder.glob("pid-*")]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with contextlib.suppress(OSError):  # only Linux has this file
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return True


def remaining(folder: Path) -> list[int]:
    """Ranks that are still there some seconds after their job."""
    end = time.monotonic() + GRACE
    while True:
        left = [pid for pid in pids(folder) if alive(pid)]
        if not left or time.monotonic() > end:
            break
        time.sleep(0.05)
    for p in folder.glob("pid-*"):
        p.unlink()
    return left


def outcome(folder: Path, ranks: Sequence[int]) -> list[Any]:
    """The ranks' states at the end, without times."""
    from resume import timeless

    from autograd.train import load_state

    return [timeless(load_state(folder / f"final-{rank}.safetensors")) for rank in ranks]


def whole(folder: Path) -> bool:
    """Whether every checkpoint of the folder can be loaded."""
    from autograd.train import CheckpointError, load_state

    try:
        for path in (folder / "checkpoints").glob("*.safetensors"):
            load_state(path)
    except CheckpointError as error:
        print(error)
        return False
    return True


def fault(how: str, k: int, epochs: int, ranks: int, rng: np.random.Generator) -> dict[str, Any]:
    """A fault of a kind: its rank, its moment, and at which of the moments it strikes."""
    moment = MOMENTS[k % len(MOMENTS)] if how != "stop" else MOMENTS[k % 2]
    steps = epochs * -(-EXAMPLES // BATCH)
    number = {"compute": steps, "send": 3 * steps, "checkpoint": steps // SAVE_EVERY}[moment]  # it has at least so many
    rank = 0 if moment == "checkpoint" else int(rng.integers(ranks))
    return {"how": how, "moment": moment, "rank": rank, "number": int(rng.integers(1, number + 1))}


def trial(folder: Path, epochs: int, ranks: int, again: int, what: dict[str, Any], expected: Any) -> dict[str, Any]:
    """One fault, and the run that goes on: with the ranks that are left, or after it from a checkpoint."""
    folder.mkdir()
    done = job(folder, epochs, ranks, what)
    if what["how"] == "lose":
        left = [rank for rank in range(ranks) if rank != what["rank"]]
        row = what | {
            "ranks": ranks,
            "again": len(left),
            "hung": done["hung"],
            "seconds": done["seconds"],
            "whole": whole(folder),
        }
        row["clean"] = (
            not done["hung"] and done["code"] == 0 and not done["left"] and f"rank {what['rank']} lost" in done["said"]
        )
        row["exact"] = row["clean"] and outcome(folder, left) == [expected] * len(left)
        if not row["exact"]:
            print(done["code"], done["said"][-3000:], sep="\n")
        return row
    clean = not done["hung"] and done["code"] != 0 and not done["left"] and not list(folder.glob("final-*"))
    if what["how"] == "raise":
        clean = clean and f"rank {what['rank']} of {ranks} ends the job" in done["said"]
    if what["how"] == "stop":
        clean = clean and "for another rank in" in done["said"]
    row = {
        **what, "ranks": ranks, "again": again, "hung": done["hung"], "clean": clean, "seconds": done["seconds"], "whole": whole(folder),
    }  # fmt: skip
    after = job(folder, epochs, again)
    row["exact"] = after["code"] == 0 and outcome(folder, range(again)) == [expected] * again
    if not clean or not row["exact"]:
        print(done["said"][-3000:], after["said"][-3000:], sep="\n---- and then ----\n")
    return row


def main() -> None:
    sys.path.insert(0, str(ROOT))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="end within 50 seconds: few faults, and no report unless --out is given"
    )
    parser.add_argument("--kills", type=int, help="default 20; with --quick 2")
    parser.add_argument("--losses", type=int, help="default 20; with --quick 2")
    parser.add_argument("--exceptions", type=int, help="default 20; with --quick 2")
    parser.add_argument("--stops", type=int, help="default 4; with --quick 1")
    parser.add_argument("--seed", type=int, default=0, help="of the ranks and moments")
    parser.add_argument("--out", type=Path, help="folder for the report (default reports/benchmarks)")
    for name, kind in (("--rank", Path), ("--epochs", int), ("--fault", json.loads)):
        parser.add_argument(name, type=kind, help=argparse.SUPPRESS)
    options = parser.parse_args()
    epochs = options.epochs or (2 if options.quick else 4)
    if options.rank is not None:
        train(options.rank, epochs, options.fault)
        return
    from hammer.agents import AgentsError, launch

    began = time.monotonic()
    try:
        kind = launch.implementation(launch.mpiexec())
    except AgentsError as error:
        print(f"left out: {error}")
        common.finish(options, "agents_faults", [f"Left out: {error}."], {"kills": 0, "left_out": str(error)})
        return
    counts = {
        how: (default, quick)[options.quick] if given is None else given
        for how, given, default, quick in (
            ("kill", options.kills, 20, 2), ("lose", options.losses, 20, 2), ("raise", options.exceptions, 20, 2),
            ("stop", options.stops, 4, 1),
        ) if how != "lose" or kind == "openmpi"
    }  # fmt: skip
    plan = [(how, k) for how, n in counts.items() for k in range(n)]
    plan.sort(key=lambda one: one[1])  # so that a quick run that ends early has some of each
    rng, rows = np.random.default_rng(options.seed), []
    with tempfile.TemporaryDirectory() as temporary:
        reference = Path(temporary, "whole")
        reference.mkdir()
        if job(reference, epochs, 1)["code"]:
            raise SystemExit("the run without faults failed")
        (expected,) = outcome(reference, [0])
        for number, (how, k) in enumerate(plan):
            if options.quick and time.monotonic() - began > QUICK_SECONDS:
                break
            ranks = 2 + number % 2
            what = fault(how, k, epochs, ranks, rng)
            rows.append(trial(Path(temporary, str(number)), epochs, ranks, 1 + number % 3, what, expected))
            row = rows[-1]
            print(
                f"{how} rank {row['rank']} of {ranks}, {row['moment']} {row['number']}: {'no' if how == 'lose' else 'clean'} stop {row['clean']} "
                f"in {row['seconds']:.1f} s, exact on {row['again']} {row['exact']}",
                flush=True,
            )
    report(options, rows, kind, time.monotonic() - began)
    if not all(row["clean"] and row["whole"] and row["exact"] for row in rows):
        raise SystemExit(1)


def report(options: argparse.Namespace, rows: list[dict[str, Any]], kind: str, seconds: float) -> None:
    count = lambda how, what: sum(row[what] for row in rows if row["how"] == how)
    figures: dict[str, Any] = {"mpi": kind}
    for how, name in (("kill", "kills"), ("lose", "losses"), ("raise", "exceptions"), ("stop", "stops")):
        figures[name] = sum(row["how"] == how for row in rows)
        figures |= (
            {"losses_survived": count(how, "exact")} if how == "lose"
            else {f"{name}_clean": count(how, "clean"), f"{name}_exact_resume": count(how, "exact")}
        )  # fmt: skip
    longest = [row["seconds"] for row in rows if not row["hung"]]
    figures |= {
        "checkpoints_whole": sum(row["whole"] for row in rows), "hangs": sum(row["hung"] for row in rows),
        "longest_job": round(max(longest, default=0.0), 1), "seconds": round(seconds, 1),
    }  # fmt: skip
    about = common.machine()
    yes = lambda flag: "yes" if flag else "no"
    lines = [(__doc__ or "").strip().rpartition(" The last line")[0], ""]
    lines += [
        f"Machine: {about['cpu']}, {about['cores']} cores, {about['system']}; MPI: {kind}. A rank waits {TIMEOUT:g} s for another. "
        f"{len(rows)} jobs with a fault, {figures['hangs']} hangs, the longest {figures['longest_job']} s from its start. Seconds for all: {seconds:.0f}.",
        "",
    ]
    lines += common.table(
        ["fault", "moment", "number", "rank", "of", "as it must end", "checkpoints whole", "goes on with ranks", "same bits"],
        [
            [r["how"], r["moment"], str(r["number"]), str(r["rank"]), str(r["ranks"]), yes(r["clean"]), yes(r["whole"]), str(r["again"]), yes(r["exact"])]
            for r in rows
        ],
    )  # fmt: skip
    extra = "".join(
        f" --{name} {n}"
        for name in ("kills", "losses", "exceptions", "stops")
        if (n := getattr(options, name)) is not None
    )
    options.command = f"python benchmarks/agents_faults.py --seed {options.seed}{extra}"
    common.finish(options, "agents_faults", lines, figures)


if __name__ == "__main__":
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    main()
