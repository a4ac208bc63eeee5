"""The laboratory: how long a smoke comparison takes, whether trials come out with the same bits, whether it survives kills.

``--quick`` does less of each (and keeps below 50 seconds on idle cores). Seconds are this machine's and depend on what else it does;
everything else is a count.
"""

import argparse
import os
import random
import re
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


def hammer(folder: Path, *arguments: str) -> subprocess.Popen:
    """The command, started in a folder and in a process group of its own."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "hammer.lab", *arguments]
    return subprocess.Popen(
        command,
        cwd=folder,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finished(folder: Path, *arguments: str) -> tuple[str, float]:
    """Run the command to its end: what it said, and the seconds it took."""
    before = time.perf_counter()
    process = hammer(folder, *arguments)
    said, _ = process.communicate()
    if process.returncode not in (0, 1):
        raise RuntimeError(f"hammer {' '.join(arguments)} ended with {process.returncode}: {said}")
    return said, time.perf_counter() - before


def bits(store: Path) -> dict[str, str]:
    from hammer.lab.store import Store

    there = Store(store)
    found = {key: there.load(key) for key in there.all_keys()}
    return {key: loaded[0]["bits"] for key, loaded in found.items() if loaded is not None}


def killed(folder: Path, kills: int) -> tuple[int, int]:
    """Kill sweeps at random moments and resume each: how many end with the bits of one that was left alone."""
    (folder / "small.yaml").write_text(SMALL)
    finished(folder, "compare", "small.yaml", "--store", "whole")
    whole, good, rng = bits(folder / "whole"), 0, random.Random(0)
    for number in range(kills):
        store = f"killed{number}"
        process = hammer(folder, "compare", "small.yaml", "--store", store)
        wanted, deadline = rng.randrange(1, len(whole)), time.monotonic() + 120
        while (
            len(list((folder / store).glob("*.json"))) < wanted
            and process.poll() is None
            and time.monotonic() < deadline
        ):
            time.sleep(0.002)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        finished(folder, "compare", "small.yaml", "--store", store)
        good += bits(folder / store) == whole
    return good, kills


def corrupted(store: Path, scratch: Path, stores: int) -> tuple[int, int]:
    """Damage a copy of a store in one to four files: in how many copies is each damaged file named and no sound trial lost."""
    from hammer.lab.store import Store

    good = 0
    for number in range(stores):
        rng, folder = random.Random(number), scratch / str(number)
        folder.mkdir(parents=True)
        for path in store.glob("[0-9a-f]*"):
            (folder / path.name).write_bytes(path.read_bytes())
        trials = sorted(path for path in folder.iterdir() if not path.name.startswith("canary"))
        hit = rng.sample(trials, rng.randint(1, 4))
        for path in hit:
            data = path.read_bytes()
            at = rng.randrange(len(data))
            path.write_bytes(
                rng.choice([b"", data[:at], rng.randbytes(len(data)), data[:at] + b"\xff" + data[at + 1 :] + b"\0"])
            )
        there = Store(folder)
        lost = {key for key in there.all_keys() if there.load(key) is None}
        # A trial whose record is damaged is not read further, so that of its two files only that one is named.
        named = {path.stem for path in hit if any(line.startswith(f"{path}: damaged") for line in there.complaints)}
        good += lost == named == {path.stem for path in hit}
    return good, stores


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--quick", action="store_true", help="do less; no report is written unless --out is given")
    p.add_argument("--out", type=Path, help="folder for the report (default reports/benchmarks)")
    options = p.parse_args()
    sys.path.insert(0, str(ROOT))
    trials, kills, stores = (3, 1, 20) if options.quick else (20, 20, 100)
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="hammer-lab-") as name:
        folder = Path(name)
        _, figures["smoke_s"] = finished(folder, "compare", "smoke")
        _, figures["cached_s"] = finished(folder, "compare", "smoke")
        said, _ = finished(folder, "reproduce", "smoke", "--trials", str(trials), "--seed", "0")
        good, wanted = re.findall(r"(\d+) of (\d+) trials? bit-identical", said)[-1]
        figures["reproduced"] = f"{good}/{wanted}"
        figures["corrupted"] = "{}/{}".format(*corrupted(folder / "runs", folder / "damaged", stores))
        figures["killed"] = "{}/{}".format(*killed(folder, kills))
    figures = {key: round(value, 2) if isinstance(value, float) else value for key, value in figures.items()}
    about = machine()
    what = {
        "smoke_s": "seconds of `hammer compare smoke`, nothing in the store", "cached_s": "seconds of the same again, all trials in the store",
        "reproduced": "drawn trials that `hammer reproduce` found bit-identical", "corrupted": "damaged stores with each damaged file named and no sound trial lost",
        "killed": "sweeps killed with SIGKILL at a random moment and resumed, with the bits of one left alone",
    }  # fmt: skip
    lines = [
        f"Machine: {about['cpu']}, {about['cores']} cores, {about['system']}, load average {about['load']} at the end; Python {sys.version.split()[0]}.",
        "",
        *table(["figure", "value"], [[what[key], figures[key]] for key in what]),
    ]
    print("\n".join(lines))
    finish(options, "lab", lines, figures)


if __name__ == "__main__":
    main()
