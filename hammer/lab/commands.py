"""``hammer compare``, ``hammer bench`` and ``hammer list``."""

import argparse
import os
import shlex
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from . import canary, config, current, discovery, environment, optimizers, problems
from .config import SHIPPED, Config
from .errors import UsageError, missing, unknown
from .store import Store


def compare(arguments: argparse.Namespace) -> int:
    """Run a comparison and write its report; returns the exit code."""
    _need_libraries()
    if arguments.executor == "mpi":
        from .executors import on_first_rank

        return on_first_rank(lambda: _compare(_config(arguments), arguments))
    return _compare(_config(arguments), arguments)


def bench(arguments: argparse.Namespace) -> int:
    """Run a shipped suite; returns the exit code."""
    arguments.what, arguments.workloads = [arguments.suite, *arguments.optimizers], None
    return compare(arguments)


def _compare(chosen: Config, arguments: argparse.Namespace) -> int:
    from .plan import Plan
    from .progress import Progress, show

    if arguments.jobs is not None and arguments.jobs < 1:
        raise UsageError(f"--jobs: must be a whole number of at least 1; got {arguments.jobs}")
    started = time.perf_counter()
    folder, store = arguments.out / chosen.name, Store(arguments.store)
    if not arguments.dry_run:
        writable("--out", folder)
        writable("--store", store.folder)
        store.keep_canary(canary.digest(), canary.results())
    again = command_of(folder)
    made_of = current.inputs(chosen, again)
    shown = current.current(folder, made_of, store)
    jobs, at_a_time = _jobs(arguments)
    if shown is not None:
        progress = Progress(chosen, shown.total, jobs)
        progress.plan(shown.total, store.folder, None)
        if not arguments.dry_run:
            show(shown, folder / "index.html", time.perf_counter() - started, [])
        return 0

    from . import analysis, report
    from .comparison import Comparison
    from .executors import EXECUTORS
    from .sweep import Sweep

    comparison = Comparison(chosen, store)
    progress = Progress(chosen, comparison.total, jobs)
    with environment.code_hashes(store.folder / "code.json"):
        plan = Plan(comparison, at_a_time)
    progress.plan(len(comparison.reused), store.folder, plan)
    if arguments.dry_run:
        return 0

    machine, interrupted = environment.describe(), False
    sweep = Sweep(comparison, plan)

    def finished(trial: Any) -> None:
        plan.finished(trial)
        sweep.note()
        progress.finished(comparison, trial)

    try:
        with sweep, progress:
            progress.start(len(comparison.trials))
            comparison.run(EXECUTORS[arguments.executor](jobs, store.folder, machine), finished)
    except KeyboardInterrupt:
        interrupted = True
    when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    made = {**machine, "made": when, "jobs": jobs, "executor": arguments.executor}
    made["seconds"] = round(time.perf_counter() - started, 1)
    summary = analysis.summarise(comparison)
    try:
        page = report.write(folder, comparison, summary, made, again)
        shown = report.shown(summary)
        failed = any(t.status == "error" for t in summary.failures)
        if comparison.complete and not failed:
            current.keep(folder, made_of, store, [*comparison.trials], shown)
    except OSError as error:
        raise UsageError(
            f"--out: cannot write the report to {folder}: {error.strerror}; finished trials are in {store.folder}"
        ) from None
    show(shown, page, time.perf_counter() - started, store.complaints)
    if interrupted:
        return 130
    return 1 if failed else 0


def _jobs(arguments: argparse.Namespace) -> tuple[int, int]:
    """How many trials are handed out at a time, and how many of them run at a time as fast as alone."""
    if arguments.executor == "mpi":
        from .executors import ranks

        return ranks(), ranks()
    cores = environment.usable_cores()
    jobs = 1 if arguments.executor == "serial" else arguments.jobs or cores
    return jobs, min(jobs, cores)


def command_of(folder: Path) -> str:
    """The command that makes the report in a folder again."""
    again = ["hammer", "compare", str(folder / "config.yaml")]
    for own in discovery.folders():
        again += ["--from", str(own)]
    if folder.parent != Path("reports"):
        again += ["--out", str(folder.parent)]
    return shlex.join(again)


def listing(arguments: argparse.Namespace) -> int:
    """Print the problems ("workloads" is the configs' word for them) or the optimizers there are, or both."""
    from .report import text

    if arguments.what != "optimizers":
        for problem in map(problems.get, problems.names()):
            target = f"target {problem.target.loss:g}" if problem.target else "no frozen target"
            print(f"{problem.name:<23} {problem.about}; {problem.steps} steps, {target} ({problem.loss})")
    if arguments.what is None:
        print()
    if arguments.what in (None, "optimizers"):
        width = max(map(len, optimizers.names())) + 2
        for entry in map(optimizers.get, optimizers.names()):
            fixed = f"; fixed: {text.settings(entry.fixed)}" if entry.fixed else ""
            print(f"{entry.name:<{width}}{entry.title}; {entry.searched}{fixed}")
    return 0


def _need_libraries() -> None:
    lacking = environment.missing_libraries()
    if lacking:
        raise UsageError(missing(lacking))


def _config(arguments: argparse.Namespace) -> Config:
    names: list[str] = [name for name in arguments.what if name in optimizers.names()]
    others: list[str] = [name for name in arguments.what if name not in optimizers.names()]
    if len(others) > 1:
        if strange := [name for name in others if not _is_config(name)]:
            raise UsageError(unknown("config or optimizer", strange[0], [*SHIPPED, *optimizers.names()]))
        raise UsageError(f"one config at most; got {' and '.join(others)}")
    base = _read(others[0]) if others else config.shipped("quick")
    workloads, where = _workloads(arguments.workloads)
    name = arguments.name
    if name is None and (names or workloads or arguments.rules):
        # not the config's name, which is another comparison's: its report would be lost
        parts = [*([base.name] if others or not names else []), *names, *(["on", where] if where else [])]
        parts += [arguments.rules] if arguments.rules else []
        name = "-".join(parts)[:80].rstrip("-._")
    options: dict[str, Any] = {
        "name": name,
        "rules": arguments.rules,
        "trials": arguments.trials,
        "seeds": arguments.seeds,
    }
    return config.override(base, options | {"optimizers": names or None, "workloads": workloads})


def _workloads(given: str | None) -> tuple[list[str] | None, str]:
    """The problems that an option names, one by one or by a suite's name, and what to call them in a report's name."""
    if given is None:
        return None, ""
    if given in SHIPPED and given not in problems.names():
        return [*config.shipped(given).workloads], given
    names = given.split(",")
    for i, name in enumerate(names):
        if name not in problems.names():
            suites = SHIPPED if len(names) == 1 else ()
            kind = "problem or suite" if suites else "problem"
            raise UsageError(f"--problems[{i}]: {unknown(kind, name, [*suites, *problems.names()])}")
    return names, "-".join(names)


def _is_config(name: str) -> bool:
    return name in SHIPPED or Path(name).exists() or os.sep in name or bool(Path(name).suffix)


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
