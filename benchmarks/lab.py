"""The laboratory: how long comparisons take, whether trials come out with the same bits everywhere, whether it survives kills.

``--quick`` does less of each (and keeps below 50 seconds on idle cores). Seconds are this machine's and depend on what else it does;
everything else is a count. ``--reference`` measures only how long a step of each problem takes and writes the table that
`hammer compare` estimates times from where its store knows nothing yet.
"""

import argparse
import importlib.util
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import finish, machine, table
from workers import ROOT

SMALL = "workloads: [quadratic, rosenbrock]\noptimizers: [momentum, adam]\ntrials: 2\ntuning_seeds: 1\nseeds: 2\nsteps: 200\ntargets: derived\nresamples: 100\n"

MPI = {  # for Open MPI as root and with more ranks than cores; MPICH needs the last one only
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "PRTE_MCA_hwloc_default_binding_policy": "none",
    "OMPI_MCA_mtl": "^ofi",
    "OMPI_MCA_btl": "^ofi",
    "MPIR_CVAR_ENABLE_HEAVY_YIELD": "1",
}


def hammer(folder: Path, *arguments: str, before: tuple[str, ...] = ()) -> subprocess.Popen:
    """The command, started in a folder and in a process group of its own."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    env = {**os.environ, **MPI, "PYTHONPATH": os.pathsep.join(paths)}
    command = [*before, sys.executable, "-m", "hammer.lab", *arguments]
    return subprocess.Popen(
        command,
        cwd=folder,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finished(folder: Path, *arguments: str, before: tuple[str, ...] = ()) -> tuple[str, float]:
    """Run the command to its end: what it said, and the seconds it took."""
    started = time.perf_counter()
    process = hammer(folder, *arguments, before=before)
    said, _ = process.communicate()
    if process.returncode not in (0, 1):
        raise RuntimeError(f"hammer {' '.join(arguments)} ended with {process.returncode}: {said}")
    return said, time.perf_counter() - started


def processor_seconds() -> float:
    """Of all processes that have ended below this one."""
    spent = os.times()
    return spent.children_user + spent.children_system


def bits(store: Path) -> dict[str, str]:
    from hammer.lab.store import Store

    there = Store(store)
    found = {key: there.load(key) for key in there.all_keys()}
    return {key: loaded[0]["bits"] for key, loaded in found.items() if loaded is not None}


def killed(folder: Path, kills: int) -> tuple[int, int]:
    """Kill sweeps at random moments and resume each: how many end with the bits of the one in ``executors`` that was left alone."""
    whole, good, rng = bits(folder / "processes"), 0, random.Random(0)
    for number in range(kills):
        store = f"killed{number}"
        process = hammer(folder, "compare", "small.yaml", "--store", store)
        wanted, deadline = rng.randrange(1, len(whole)), time.monotonic() + 120
        while len(trials(folder / store)) < wanted and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        finished(folder, "compare", "small.yaml", "--store", store)
        good += bits(folder / store) == whole
    return good, kills


def trials(store: Path) -> list[Path]:
    from hammer.lab.store import Store

    return [Store(store).path(key) for key in Store(store).all_keys()]


def corrupted(store: Path, scratch: Path, stores: int) -> tuple[int, int]:
    """Damage a copy of a store in one to four files: in how many copies is each damaged file named and skipped, and nothing else lost."""
    from hammer.lab.store import Store

    good, sound = 0, bits(store)
    for number in range(stores):
        rng, folder = random.Random(number), scratch / str(number)
        folder.mkdir(parents=True)
        for path in trials(store):
            (folder / path.name).write_bytes(path.read_bytes())
        hit = rng.sample(trials(folder), rng.randint(1, 4))
        for path in hit:
            data = path.read_bytes()
            at = rng.randrange(len(data))
            path.write_bytes(
                rng.choice(
                    [b"", data[:at], rng.randbytes(len(data)), data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]]
                )
            )
        there = Store(folder)
        found = {key: there.load(key) for key in there.all_keys()}
        read = {key: loaded[0]["bits"] for key, loaded in found.items() if loaded is not None}
        named = {path for path in hit if any(line.startswith(f"{path}: damaged") for line in there.complaints)}
        good += named == {*hit} and read == {key: b for key, b in sound.items() if folder / f"{key}.npz" not in hit}
    return good, stores


def executors(folder: Path) -> tuple[int, int]:
    """How many executors give the bytes that the first one gives: serial, processes and, where mpiexec and mpi4py are, mpi."""
    (folder / "small.yaml").write_text(SMALL)
    run = ("compare", "small.yaml", "--executor")
    finished(folder, *run, "serial", "--store", "serial")
    finished(folder, *run, "processes", "--store", "processes")
    found = [content(folder / "serial"), content(folder / "processes")]
    mpiexec = shutil.which(
        "mpiexec", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    )
    if mpiexec and importlib.util.find_spec("mpi4py"):
        finished(folder, *run, "mpi", "--store", "mpi", before=(mpiexec, "-n", "3"))
        found.append(content(folder / "mpi"))
    return sum(one == found[0] for one in found), len(found)


def content(store: Path) -> dict[str, dict[str, bytes]]:
    """Every array of every trial in a store that is not a time."""
    from hammer.lab.store import Store
    from hammer.lab.trial import TIMES

    there = Store(store)
    found = {key: there.load(key) for key in there.all_keys()}
    assert found and None not in found.values()
    return {
        k: {n: a.tobytes() for n, a in loaded[1].items() if n not in TIMES} for k, loaded in found.items() if loaded
    }


def reference() -> None:
    """Write the processor seconds of a step of each problem, evaluations included."""
    from threadpoolctl import threadpool_limits

    from hammer.lab import problems, trial
    from hammer.lab.trial import TrialSpec

    seconds = {}
    for problem in map(problems.get, problems.names()):
        with threadpool_limits(1):
            for steps in (1, min(problem.steps, 2 * problem.eval_every)):  # the first loads the data
                spec = TrialSpec(problem.name, "adam", {"lr": 0.001}, 0, 0, steps, problem.eval_every, problem.dtype)
                before = time.process_time()
                trial.run(spec)
                spent = time.process_time() - before
        seconds[problem.name] = float(f"{spent / steps:.3g}")
        print(f"{problem.name}: {1000 * seconds[problem.name]:.3g} ms")
    about = f"seconds of a step with Adam, evaluations included, on one core of {machine()['cpu']}; written by benchmarks/lab.py --reference"
    path = ROOT / "hammer" / "lab" / "data" / "seconds_per_step.json"
    path.write_text(json.dumps({"about": about, "seconds": seconds}, indent=1) + "\n")


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--quick", action="store_true", help="do less; no report is written unless --out is given")
    p.add_argument("--out", type=Path, help="folder for the report (default reports/benchmarks)")
    p.add_argument("--reference", action="store_true", help="measure the steps of each problem and nothing else")
    options = p.parse_args()
    sys.path.insert(0, str(ROOT))
    if options.reference:
        reference()
        return
    suite, again, kills, stores = ("smoke", 3, 1, 8) if options.quick else ("light", 20, 20, 100)
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="hammer-lab-") as name:
        folder = Path(name)
        for first in dict.fromkeys(("smoke", suite)):
            before = processor_seconds()
            _, figures[f"{first}_s"] = finished(folder, "bench", "--suite", first)
            figures[f"{first}_cpu_s"] = processor_seconds() - before
        _, figures["cached_s"] = finished(folder, "bench", "--suite", suite)
        said, _ = finished(folder, "reproduce", suite, "--trials", str(again), "--seed", "0")
        good, wanted = re.findall(r"(\d+) of (\d+) trials? bit-identical", said)[-1]
        figures["reproduced"] = f"{good}/{wanted}"
        figures["corrupted"] = "{}/{}".format(*corrupted(folder / "runs", folder / "damaged", stores))
        figures["executors_equal"] = "{}/{}".format(*executors(folder))
        figures["killed"] = "{}/{}".format(*killed(folder, kills))
    figures = {key: round(value, 2) if isinstance(value, float) else value for key, value in figures.items()}
    about = machine()
    what = {
        "smoke_s": "seconds of `hammer bench --suite smoke`, nothing in the store", "light_s": "seconds of `hammer bench --suite light`, nothing of it in the store",
        "smoke_cpu_s": "processor seconds of it, which other work on the machine does not change much", "light_cpu_s": "processor seconds of it",
        "cached_s": f"seconds of `hammer bench --suite {suite}` again, all trials in the store and the report there",
        "reproduced": "drawn trials that `hammer reproduce` found bit-identical",
        "corrupted": "damaged stores with each damaged file named and skipped and no other trial lost",
        "executors_equal": "executors (serial, processes and, where it is installed, mpi) with equal bytes",
        "killed": "sweeps killed with SIGKILL at a random moment and resumed, with the bits of one left alone",
    }  # fmt: skip
    lines = [
        f"Machine: {about['cpu']}, {about['cores']} cores, {about['system']}, load average {about['load']} at the end; Python {sys.version.split()[0]}.",
        "",
        *table(["figure", "value"], [[what[key], figures[key]] for key in figures]),
    ]
    print("\n".join(lines))
    finish(options, "lab", lines, figures)


if __name__ == "__main__":
    main()
