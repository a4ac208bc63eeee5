"""``hammer check TARGET``: the op table, or one function; returns the exit code."""

import argparse
import importlib
import importlib.util
import os
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .. import environment
from ..commands import writable
from ..errors import UsageError, unknown

ONLY_FUNCTION = ("shape", "domain", "dtype", "value", "order", "modes", "rtol", "seed")
ONLY_TABLE = ("rows", "jobs", "out", "name")


def check(arguments: argparse.Namespace) -> int:
    """Check what ``arguments.target`` names: 0 if all is right, 1 if something is wrong."""
    lacking = [name for name in ("hypothesis", "rich") if not environment.find(name)]
    if lacking:
        raise UsageError(f'needs {" and ".join(lacking)}; install with: pip install "hammer-grad[lab]"')
    if arguments.examples is not None and arguments.examples < 1:
        raise UsageError(f"--examples: must be a whole number of at least 1; got {arguments.examples}")
    table = arguments.target == "autograd"
    for option in ONLY_FUNCTION if table else ONLY_TABLE:
        if getattr(arguments, option) not in (None, []):
            raise UsageError(
                f"--{option}: is for {'a function, MODULE:FUNCTION' if table else 'the op table, autograd'}"
            )
    return _check_table(arguments) if table else _check_function(arguments)


def load(target: str) -> tuple[Callable, str, str, str]:
    """The function that ``MODULE:FUNCTION`` or ``FILE.py:FUNCTION`` names; also how a test imports it: module, name, and a
    comment on the import."""
    place, colon, name = target.rpartition(":")
    if not colon or not place or not name:
        raise UsageError(f"{target!r} names no function; write autograd, MODULE:FUNCTION or FILE.py:FUNCTION")
    file = Path(place) if place.endswith(".py") else None
    if file is not None and not file.is_file():
        raise UsageError(f"{place}: there is no such file")
    folder = str(Path.cwd() if file is None else file.parent.resolve())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    module_name = place if file is None else file.stem
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name and place.startswith(error.name):
            raise UsageError(f"there is no module {error.name!r} here or among the installed ones") from None
        raise UsageError(f"importing {place} failed: {type(error).__name__}: {error}") from error
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            public = [n for n in vars(found) if not n.startswith("_")] if hasattr(found, "__dict__") else []
            raise UsageError(
                f"{place}: {unknown('function', part, [n for n in public if callable(getattr(found, n))])}"
            )
        found = getattr(found, part)
    if not callable(found):
        raise UsageError(f"{target}: is a {type(found).__name__}, not a function")
    note = "" if file is None else f"  # {os.path.relpath(file)}: its folder must be on the path"
    return found, module_name, name, note


def _check_function(arguments: argparse.Namespace) -> int:
    from . import show
    from .arguments import arguments_of
    from .counterexample import culprits, paste_function
    from .function import Checks, check_function

    fn, module, name, note = load(arguments.target)
    drawn = arguments_of(fn, arguments.shape, arguments.domain, arguments.dtype, arguments.value)
    checks = Checks(
        Checks.order if arguments.order is None else arguments.order,
        Checks.modes if arguments.modes is None else tuple(arguments.modes.split(",")),
        Checks.rtol if arguments.rtol is None else arguments.rtol,
    )
    if checks.order < 1:
        raise UsageError(f"--order: must be at least 1; got {checks.order}")
    if not checks.modes or not set(checks.modes) <= set(Checks.modes):
        raise UsageError(f"--modes: must be rev, fwd or rev,fwd; got {arguments.modes!r}")
    if not 0 < checks.rtol < 1:
        raise UsageError(f"--rtol: must be between 0 and 1; got {checks.rtol}")
    examples, seed = arguments.examples or 50, arguments.seed or 0
    show.plan_of_function(arguments.target, drawn, checks, examples, seed)
    with show.Counter(examples) as counter:
        outcome = check_function(fn, drawn, checks, examples, seed, counter.done)
    failure = outcome.failure
    wrong = [] if failure is None or failure.kind != "wrong" else culprits(fn, failure, drawn.values, checks.rtol)
    test = "" if failure is None else paste_function(module, name, failure, drawn.values, checks, note)
    show.outcome_of_function(outcome, wrong, test)
    return 0 if outcome.passed else 1


def _check_table(arguments: argparse.Namespace) -> int:
    from autograd import OPS

    from . import report, show
    from .table import RowOutcome, check_rows

    rows = list(OPS) if arguments.rows is None else arguments.rows.split(",")
    for name in rows:
        if name not in OPS:
            raise UsageError(f"--rows: {unknown('row', name, OPS) if len(name) > 2 else f'unknown row {name!r}'}")
    if arguments.jobs is not None and arguments.jobs < 1:
        raise UsageError(f"--jobs: must be a whole number of at least 1; got {arguments.jobs}")
    out, name = arguments.out or Path("reports"), arguments.name or "check"
    folder = out / name
    writable("--out", folder)
    examples, jobs = arguments.examples or 25, arguments.jobs or environment.usable_cores()
    outcomes: dict[str, RowOutcome] = {}
    machine, start, interrupted = environment.describe(), time.perf_counter(), False
    with show.LiveTable(len(rows), examples, jobs) as live:

        def done(outcome: RowOutcome) -> None:
            outcomes[outcome.row] = outcome
            live.add(outcome)

        try:
            check_rows(rows, examples, jobs, done)
        except KeyboardInterrupt:
            interrupted = True
    again = ["hammer", "check", "autograd", "--examples", str(examples)]
    again += ["--rows", arguments.rows] if arguments.rows else []
    seconds = time.perf_counter() - start
    in_order = [outcomes[row] for row in rows if row in outcomes]
    run = report.Run(in_order, len(rows), examples, jobs, seconds, machine, shlex.join(again))
    show.outcome_of_table(run, report.write(folder, run))
    if interrupted:
        return 130
    return 0 if run.complete == len(rows) else 1
