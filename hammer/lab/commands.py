"""``hammer compare`` and ``hammer list``."""

import argparse
import os
import shlex
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from . import analysis, canary, config, discovery, environment, optimizers, problems, report
from .comparison import Comparison
from .config import SHIPPED, Config
from .errors import UsageError, missing, unknown
from .store import Store


def compare(arguments: argparse.Namespace) -> int:
    """Run a comparison and write its report; returns the exit code."""
    _need_libraries()
    from .progress import Progress, show_summary

    chosen = _config(arguments)
    if arguments.jobs is not None and arguments.jobs < 1:
        raise UsageError(f"--jobs: must be a whole number of at least 1; got {arguments.jobs}")
    folder, store = arguments.out / chosen.name, Store(arguments.store)
    if not arguments.dry_run:
        writable("--out", folder)
        writable("--store", store.folder)
        store.keep_canary(canary.digest(), canary.results())
    jobs = arguments.jobs or environment.usable_cores()
    comparison = Comparison(chosen, store)
    progress = Progress(comparison, jobs)
    for pair in comparison.pairs:
        comparison.missing(*pair)  # takes from the store what is there
    progress.plan(store.folder)
    if arguments.dry_run:
        return 0

    started, interrupted = time.perf_counter(), False
    machine = environment.describe()
    try:
        with progress:
            comparison.run(jobs, machine, progress.finished)
    except KeyboardInterrupt:
        interrupted = True
    when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    made = {**machine, "made": when, "jobs": jobs, "seconds": round(time.perf_counter() - started, 1)}
    summary = analysis.summarise(comparison)
    again = ["hammer", "compare", str(folder / "config.yaml")]
    for own in discovery.folders():
        again += ["--from", str(own)]
    if arguments.out != Path("reports"):
        again += ["--out", str(arguments.out)]
    try:
        page = report.write(folder, comparison, summary, made, shlex.join(again))
    except OSError as error:
        raise UsageError(
            f"--out: cannot write the report to {folder}: {error.strerror}; finished trials are in {store.folder}"
        ) from None
    show_summary(summary, page, time.perf_counter() - started, store.complaints)
    if interrupted:
        return 130
    return 1 if any(t.status == "error" for t in summary.failures) else 0


def listing(what: str) -> int:
    """Print the problems ("workloads" is the configs' word for them) or the optimizers there are."""
    if what != "optimizers":
        for problem in map(problems.get, problems.names()):
            target = f"target {problem.target.loss:g}" if problem.target else "no frozen target"
            print(f"{problem.name:<23} {problem.about}; {problem.steps} steps, {target} ({problem.loss})")
    else:
        for entry in map(optimizers.get, optimizers.names()):
            fixed = f"; fixed: {report.text.settings(entry.fixed)}" if entry.fixed else ""
            print(f"{entry.name:<18}{entry.title}; {entry.searched}{fixed}")
    return 0


def _need_libraries() -> None:
    lacking = environment.missing_libraries()
    if lacking:
        raise UsageError(missing(lacking))


def _config(arguments: argparse.Namespace) -> Config:
    names: list[str] = [name for name in arguments.what if name in optimizers.names()]
    others: list[str] = [name for name in arguments.what if name not in optimizers.names()]
    if len(others) > 1:
        raise UsageError(
            f"one config at most; {' and '.join(map(repr, others))} are not optimizers ({', '.join(optimizers.names())})"
        )
    base = _read(others[0]) if others else config.shipped("quick")
    options: dict[str, Any] = {"name": arguments.name, "trials": arguments.trials, "seeds": arguments.seeds}
    options |= {
        "rules": arguments.rules,
        "optimizers": names or None,
        "workloads": arguments.workloads.split(",") if arguments.workloads is not None else None,
    }
    return config.override(base, options)


def _read(name: str) -> Config:
    if name in SHIPPED and not Path(name).is_file():
        return config.shipped(name)
    path = Path(name)
    if path.is_dir():
        raise UsageError(f"{name}: is a folder; a YAML file is needed")
    if not path.exists():
        if os.sep in name or path.suffix:
            raise UsageError(f"{name}: there is no such file")
        raise UsageError(
            f"{name}: no such file; {unknown('config or optimizer', name, [*SHIPPED, *optimizers.names()])}"
        )
    return config.load(path)


def writable(option: str, path: Path) -> None:
    """Make a folder and check that files can be written to it."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise UsageError(f"{option}: cannot write to the folder {path}: {error.strerror}") from None
