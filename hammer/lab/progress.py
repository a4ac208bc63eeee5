"""What `hammer compare` shows: the plan, the progress, and the table at the end.

On a terminal rich draws a bar; otherwise there is one line for each trial.
"""

from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table

from . import optimizers, problems
from .comparison import Comparison
from .config import Config
from .current import Shown
from .plan import Plan
from .protocol import Trial
from .report import text
from .seeds import phase_of


def console() -> Console:
    """Standard output; where it is not a terminal, tables may be wide."""
    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=140)


class Progress:
    """Shows a comparison at work; a context manager around ``Comparison.run``."""

    def __init__(self, config: Config, total: int, jobs: int):
        self.config, self.total, self.jobs = config, total, jobs
        self.console = console()
        self.live = self.console.is_terminal
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        self.bar = Bar(*columns, console=self.console)
        self.failed = 0
        self._task: Any = None

    def plan(self, reused: int, store: Path, plan: Plan | None) -> None:
        """Say what will be run, and how long it may take."""
        c, total = self.config, self.total
        self._print(
            f"{c.name}: {text.count(len(c.optimizers), 'optimizer')} on {text.count(len(c.workloads), 'workload')}, "
            f"{text.plan(c)}"
        )
        self._print(
            f"{total} trials, {reused} of them done already in {store}; {self.jobs} at a time, one BLAS thread each"
        )
        if plan is not None and reused < total:
            self._print(f"estimated time: {plan.said()}")

    def start(self, done: int) -> None:
        """The trials start."""
        if self.live:
            self.bar.start()
            self._task = self.bar.add_task("starting", total=self.total, completed=done)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self.live:
            self.bar.stop()
        if kind is KeyboardInterrupt:
            self._print("interrupted: writing a report of what is done")

    def finished(self, comparison: Comparison, trial: Trial) -> None:
        """A trial has ended."""
        done, total, spec = len(comparison.trials), self.total, trial.record["spec"]
        self.failed += trial.status != "finished"
        if self.live:
            where = f"{problems.get(spec['problem']).title}, {optimizers.get(spec['optimizer']).title}"
            failed = f" ({self.failed} diverged or failed)" if self.failed else ""
            self.bar.update(self._task, completed=done, description=f"{where:<44}{failed}")
            return
        phase, (_, index) = comparison.phases[trial.record["key"]], phase_of(spec["index"])
        if trial.status == "error":
            result = f"error: {trial.record['error']}"
        else:
            result = (
                f"loss {text.number(trial.final_loss)}"
                if trial.status == "finished"
                else f"diverged after {trial.record['diverged_at']} steps"
            )
            result += f", {trial.record['wall_seconds']:.2f} s"
        self._print(
            f"[{done}/{total}] {spec['problem']} {spec['optimizer']} {text.hyper(spec['hyper'])} {phase} {index}: {result}"
        )

    def _print(self, line: str) -> None:
        self.console.print(line, markup=False, soft_wrap=True)


def show(shown: Shown, page: Path, seconds: float, complaints: list[str]) -> None:
    """Print the ranking, the verdict and where the report is."""
    out = console()
    if shown.rows:
        columns = range(len(shown.head)) if out.width >= 105 else (0, 1, 4, 5)  # the report has the others
        table = Table(title=f"{shown.name}: speed to the targets", title_justify="left", box=box.SIMPLE_HEAD)
        for i in columns:
            table.add_column(shown.head[i], justify="right" if i else "left", no_wrap=True)
        for row in shown.rows:
            table.add_row(*(row[i] for i in columns))
        out.print(table)
    for line in complaints:
        out.print(f"store: {line}; what was lost is run again", markup=False, soft_wrap=True)
    out.print(shown.verdict, markup=False)
    out.print(shown.controls, markup=False)
    out.print(f"{shown.done} of {shown.total} trials, {seconds:.0f} s. Report: {page}", markup=False, soft_wrap=True)
