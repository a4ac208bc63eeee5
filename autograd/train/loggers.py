"""Loggers: callbacks that write rows of numbers to the terminal, a file, TensorBoard or Weights & Biases.

A trainer counts the rows it has logged, and the count is part of its checkpoints. A run that goes on from a checkpoint
tells its loggers the count, and what a killed run had written after that checkpoint is dropped before more is
appended: no row is there twice.
"""

import csv
import importlib
import io
import json
import math
import os
import sys
from pathlib import Path
from typing import Any, TextIO

from ..atomic import write_atomically
from .callbacks import Callback


def _needs(package: str, what: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError:
        raise ImportError(f"{what} needs the package {package}; install it with: pip install {package}") from None


class _FileLogger(Callback):
    """Rows as lines of a file; a fresh run moves an older run's file aside, to NAME.1, NAME.2 and so on."""

    heading = 0  # lines before the first row

    def __init__(self, path: str | os.PathLike):
        super().__init__()
        self.path = Path(path)
        self._file: TextIO | None = None

    def on_fit_start(self, trainer: Any) -> None:
        self.on_fit_end(trainer)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            if trainer.logged == 0:
                self._move_aside()
            else:
                lines = self.path.read_text("utf-8").splitlines(keepends=True)
                kept = [line for line in lines if line.endswith("\n")][: self.heading + trainer.logged]
                if kept != lines:
                    write_atomically(self.path, "".join(kept))
        self._open()

    def _move_aside(self) -> None:
        if self.path.stat().st_size:
            n = 1
            while (older := self.path.with_name(f"{self.path.name}.{n}")).exists():
                n += 1
            self.path.rename(older)

    def _open(self) -> None:
        self._file = open(self.path, "a", encoding="utf-8", newline="")  # noqa: SIM115  (closed in on_fit_end)

    def on_log(self, trainer: Any, row: dict[str, Any]) -> None:
        if self._file is None:
            self.on_fit_start(trainer)
        line = self.line(row)  # which may open another file
        assert self._file is not None
        self._file.write(line)
        self._file.flush()  # what was written survives a kill of this process

    def line(self, row: dict[str, Any]) -> str:
        raise NotImplementedError

    def on_fit_end(self, trainer: Any) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


class JSONLLogger(_FileLogger):
    """One JSON object a line. NaN and infinities are null, so that every JSON reader can read it."""

    def line(self, row: dict[str, Any]) -> str:
        finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
        return json.dumps(finite) + "\n"


class CSVLogger(_FileLogger):
    """A table: a line of column names, then one line a row. A value of a new name gets a new column at the end."""

    heading = 1

    def __init__(self, path: str | os.PathLike):
        super().__init__(path)
        self._columns: list[str] = []

    def _open(self) -> None:
        self._columns = []
        if self.path.exists():
            with open(self.path, encoding="utf-8", newline="") as file:
                self._columns = next(csv.reader(file), [])
        super()._open()

    def line(self, row: dict[str, Any]) -> str:
        new = [name for name in row if name not in self._columns]
        if new:
            self._widen(new)
        return _csv_line([row.get(name, "") for name in self._columns])

    def _widen(self, new: list[str]) -> None:
        assert self._file is not None
        self._file.close()
        with open(self.path, encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file))
        self._columns += new
        write_atomically(
            self.path, _csv_line(self._columns) + "".join(_csv_line(r + [""] * len(new)) for r in rows[1:])
        )
        super()._open()


def _csv_line(values: list[Any]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow(values)
    return out.getvalue()


class TensorBoardLogger(Callback):
    """Scalars for TensorBoard, written by tensorboardX.

    Raises:
        ImportError: tensorboardX is not installed.
    """

    def __init__(self, folder: str | os.PathLike = "runs"):
        super().__init__()
        self._library = _needs("tensorboardX", "TensorBoardLogger")
        self.folder, self._writer = str(folder), None

    def on_fit_start(self, trainer: Any) -> None:
        # What was written after the checkpoint is purged by TensorBoard itself when it reads this mark.
        purge = trainer.step + 1 if trainer.logged else None
        self._writer = self._library.SummaryWriter(self.folder, purge_step=purge)

    def on_log(self, trainer: Any, row: dict[str, Any]) -> None:
        if self._writer is None:
            self.on_fit_start(trainer)
        for name, value in row.items():
            if isinstance(value, float):
                self._writer.add_scalar(
                    name.replace("train_", "train/", 1).replace("val_", "val/", 1), value, row["step"]
                )  # type: ignore[attr-defined]

    def on_fit_end(self, trainer: Any) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


class WandbLogger(Callback):
    """Weights & Biases; a run that goes on from a checkpoint goes on as the same run there.

    Args:
        project, entity: where the run is listed.
        config: what is shown beside it.

    Raises:
        ImportError: wandb is not installed.
    """

    def __init__(self, project: str, entity: str | None = None, config: dict[str, Any] | None = None):
        super().__init__()
        self._library = _needs("wandb", "WandbLogger")
        self.project, self.entity, self.config = project, entity, config or {}
        self.state = {"id": ""}
        self._run: Any = None

    def on_fit_start(self, trainer: Any) -> None:
        known = self.state["id"] or None
        self._run = self._library.init(
            project=self.project, entity=self.entity, config=self.config, id=known, resume="must" if known else None
        )
        self.state["id"] = str(self._run.id)

    def on_log(self, trainer: Any, row: dict[str, Any]) -> None:
        if self._run is None:
            self.on_fit_start(trainer)
        self._run.log({k: v for k, v in row.items() if k != "step"}, step=row["step"])

    def on_fit_end(self, trainer: Any) -> None:
        if self._run is not None:
            self._run.finish()
            self._run = None


class ConsoleLogger(Callback):
    """A line for each epoch, and on a terminal, where rich is installed, a progress bar within it.

    Args:
        file: where to write; None: standard error.
        progress: whether to show the bar; None: if ``file`` is a terminal.
    """

    def __init__(self, file: TextIO | None = None, progress: bool | None = None):
        super().__init__()
        self.file, self.progress = file, progress
        self._bar: Any = None
        self._task: Any = None

    def on_fit_start(self, trainer: Any) -> None:
        file = self.file or sys.stderr
        if not (file.isatty() if self.progress is None else self.progress):
            return
        try:
            progress, console = importlib.import_module("rich.progress"), importlib.import_module("rich.console")
        except ImportError:
            if self.progress:
                raise ImportError(
                    "the progress bar needs the package rich; install it with: pip install rich"
                ) from None
            return
        self._bar = progress.Progress(
            *progress.Progress.get_default_columns(), console=console.Console(file=file), transient=True
        )
        self._bar.start()
        self._task = None

    def on_step_end(self, trainer: Any) -> None:
        if self._bar is None:
            return
        if self._task is None:
            self._task = self._bar.add_task("", total=trainer.batches)
        self._bar.update(
            self._task,
            completed=trainer.batch,
            total=trainer.batches,
            description=f"epoch {trainer.epoch + 1}/{trainer.epochs}  loss {trainer.last['loss']:.4g}",
        )

    def on_log(self, trainer: Any, row: dict[str, Any]) -> None:
        if "train_loss" in row:  # the row of an epoch
            self._print(describe(row, trainer.epochs))

    def on_fit_end(self, trainer: Any) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        if trainer.stopped:
            self._print(f"stopped: {trainer.stopped}")

    def _print(self, line: str) -> None:
        if self._bar is not None:
            self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            print(line, file=self.file or sys.stderr, flush=True)


def describe(row: dict[str, Any], epochs: int) -> str:
    """An epoch's row as one line."""
    left_out = ("epoch", "step", "seconds", "examples_per_second")
    values = "  ".join(f"{k} {v:.4g}" for k, v in row.items() if isinstance(v, (int, float)) and k not in left_out)
    return f"epoch {row['epoch']}/{epochs}  {values}  ({row['seconds']:.1f} s)"
