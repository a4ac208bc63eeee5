"""What ``hammer check`` shows on the terminal."""

import os
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich import box
from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from autograd.testing.blame import WrongOp
from autograd.testing.rows import CHECKS

from ..progress import console
from ..report.text import count
from .arguments import DOMAINS, Argument, Arguments
from .counterexample import source
from .function import Checks, Outcome
from .report import Run, counts_of
from .table import RowOutcome


def say(text: str = "") -> None:
    """Print text as it is."""
    console().print(text, markup=False, soft_wrap=True)


class Counter:
    """A bar that counts drawn calls, on a terminal only; a context manager."""

    def __init__(self, total: int):
        self.console = console()
        columns = (TextColumn("calls"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self.bar = Progress(*columns, console=self.console, transient=True)
        self.total = total

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self.bar.start()
            self.task = self.bar.add_task("calls", total=self.total)
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        self.bar.stop()

    def done(self, calls: int) -> None:
        if self.console.is_terminal:
            self.bar.update(self.task, completed=calls)


def plan_of_function(target: str, arguments: Arguments, checks: Checks, examples: int, seed: int) -> None:
    """Say what will be checked."""
    given = [_argument(a) for a in arguments.drawn] + [f"{k}={source(v)}" for k, v in arguments.values.items()]
    say(f"{target}({', '.join(given)})")
    modes = " and ".join({"rev": "reverse", "fwd": "forward"}[m] for m in checks.modes)
    orders = "order 1" if checks.order == 1 else f"orders 1 to {checks.order}"
    say(f"{count(examples, 'call')}; {modes} mode, {orders}, relative error up to {checks.rtol:g}; seed {seed}")


def _argument(a: Argument) -> str:
    shape = "any shape" if a.shape is None else "()" if not a.shape else ",".join(map(str, a.shape))
    name = next((n for n, d in DOMAINS.items() if d == a.domain), f"{a.domain.low:g}:{a.domain.high:g}")
    dtype = "" if a.dtype == "float64" or a.domain.kind != "inexact" else f" {a.dtype}"
    return f"{a.name}: {shape} {name}{dtype}"


def outcome_of_function(outcome: Outcome, wrong: list[WrongOp], test: str) -> None:
    """Say what was found: the verdict, the counter-example, the operation at fault, and the test."""
    for reason, (n, first) in outcome.excused.items():
        say(f"{reason} at {count(n, 'call')}; the first: {first}")
    failure = outcome.failure
    if failure is None:
        verdict = "passed" if outcome.passed else "not passed: nothing could be decided; choose another --domain"
        say(f"{verdict}: {outcome.decided} of {count(outcome.calls, 'call')} checked")
        return
    what = "wrong derivative" if failure.kind == "wrong" else "the function raised an error"
    say(f"FAILED, {what}, at call {outcome.calls}; the smallest call found:\n")
    for name, value in failure.call.items():
        say(f"    {name} = {source(value)}")
    say(f"\n{failure.message}")
    if failure.kind == "raised":
        say("if these arguments are not what the function is for, say what is, with --shape, --domain and --value")
    elif wrong:
        say(f"\nthe operation that is wrong: {_op(wrong[0])}")
        for other in wrong[1:]:
            say(f"also wrong: {_op(other)}")
    else:
        say(
            "\nno operation is wrong on its own: the gradient is lost between them, as by .numpy(), .detach(), stop_gradient, "
            "or a number taken out of a tensor"
        )
    say(f"\na test to paste:\n\n{test}")


def _op(op: WrongOp) -> str:
    where, at, rest = op.where.rpartition(":")
    place = os.path.relpath(where) + at + rest if where else op.where
    given: list[Any] = [*map(source, op.inputs), *(f"{k}={source(v)}" for k, v in op.params.items())]
    return f"{op.name}({', '.join(given)}) at {place}\n    {op.message}"


class LiveTable:
    """Checks × (rows, times made, exempt, failed), as rows are finished; one line a row where there is no terminal."""

    def __init__(self, rows: int, examples: int, jobs: int):
        self.console, self.rows = console(), rows
        say(f"{count(rows, 'row')} of the op table, {count(examples, 'drawn call')} each; {jobs} at a time")
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self.bar = Progress(*columns, console=self.console)
        self.task = self.bar.add_task("rows", total=rows)
        self.outcomes: list[RowOutcome] = []
        self.live = Live(self._view(), console=self.console, refresh_per_second=4, transient=True)

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        if self.console.is_terminal:
            self.live.stop()

    def add(self, outcome: RowOutcome) -> None:
        """A row is finished."""
        self.outcomes.append(outcome)
        if self.console.is_terminal:
            self.bar.update(self.task, completed=len(self.outcomes), description=f"{outcome.row:<22}")
            self.live.update(self._view())
        if outcome.failed:
            say(f"{outcome.row}: FAILED: {outcome.failed}")
        elif not self.console.is_terminal:
            made = sum(map(bool, outcome.ran.values()))
            say(
                f"[{len(self.outcomes)}/{self.rows}] {outcome.row}: {count(outcome.calls, 'call')}, {count(made, 'check')}, "
                f"{outcome.seconds:.1f} s"
            )

    def _view(self) -> Group:
        return Group(table_of_checks(self.outcomes), self.bar)


def table_of_checks(outcomes: list[RowOutcome]) -> Table:
    """How often each check was made, on how many rows, and how many are exempt or failed."""
    table = Table(box=box.SIMPLE_HEAD)
    for i, head in enumerate(("check", "rows", "made", "exempt", "failed")):
        table.add_column(head, justify="right" if i else "left", no_wrap=True)
    for check in CHECKS:
        counts = counts_of(check, outcomes)
        table.add_row(check, *counts, style=None if counts[-1] == "0" else "red")
    return table


def outcome_of_table(run: Run, page: Path) -> None:
    """Say what was found in the op table, and where the report is."""
    console().print(table_of_checks(list(run.outcomes)))
    for o in run.failures:
        say(f"FAILED: {o.row}: {o.failed}\n{o.message}\n")
        if o.test:
            say(f"a test to paste:\n\n{o.test}")
    say(run.verdict)
    say(f"{run.seconds:.0f} s. Report: {page}")
