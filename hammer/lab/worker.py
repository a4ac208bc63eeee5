"""What a worker does: it runs trials on one BLAS thread each, and stores each one itself as soon as it is finished.

So whatever happens to the command that asked for it, what is finished is on disk. ``executors`` decides in which process.
"""

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from . import canary, trial
from .environment import THREAD_VARIABLES, blas
from .store import Store
from .trial import TrialSpec


@dataclass(frozen=True)
class Task:
    """A trial to run, and the hash of the code it runs, which is part of its key."""

    key: str
    spec: TrialSpec
    code: str


@dataclass
class Worker:
    """A process that runs trials.

    Args:
        folder: where they are stored.
        environment: what each record says about versions and machine.
        stopped: asked while a trial runs; once it says yes, the trial is left.
    """

    folder: Path
    environment: dict[str, Any]
    stopped: Callable[[], bool] = lambda: False
    _blas: list[dict[str, Any]] | None = field(default=None, init=False)

    def run(self, task: Task) -> dict[str, Any] | None:
        """Run a trial and store it, unless another command that shares the store has done so meanwhile.

        Returns:
            Its record without the arrays; status "error" if it raised an error; None if it was stopped.
        """
        if self.stopped():
            return None
        store = Store(self.folder)
        if (there := store.record(task.key)) is not None:
            return there
        started = datetime.now(UTC).isoformat(timespec="seconds")
        record: dict[str, Any] = {"key": task.key, "spec": task.spec.described(), "started": started, "code": task.code}
        try:
            self._check()
            before = time.perf_counter()
            outcome, arrays = trial.run(task.spec, self.stopped)
            record["elapsed_seconds"] = (
                time.perf_counter() - before
            )  # with evaluations and set-up: what a plan reckons with
            record |= {**outcome, "environment": {**self.environment, "blas": self._blas}}
            store.save(record, arrays)
        except trial.Stopped:
            return None
        except Exception as error:  # noqa: BLE001  (whatever a problem or an optimizer raises is this trial's result; a full disk too)
            said = f"{type(error).__name__}: {error}"
            return {**record, "status": "error", "error": said, "traceback": traceback.format_exc()}
        return record

    def _check(self) -> None:
        """Find out on what BLAS this process computes, and that its bits are those of the command."""
        if self._blas is None:
            self._blas = blas()
        if canary.digest() != self.environment["canary"]:
            raise RuntimeError(
                f"this worker computes with other bits than the command that started it (canary {canary.digest()}, not "
                f"{self.environment['canary']}): set OPENBLAS_CORETYPE and the like in the environment, not in the program"
            )


def end_with_parent() -> None:
    """From now on this process ends when the one that started it is gone: after a SIGKILL nobody else would end it."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)  # files are written under another name first, so that none is left half-written

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """Processes started inside have one BLAS thread from their first import on."""
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def one_blas_thread_here() -> Iterator[None]:
    """This process has one BLAS thread inside, in the libraries that are loaded already and in those that are loaded later."""
    from threadpoolctl import threadpool_limits

    with one_blas_thread(), threadpool_limits(1):
        yield
