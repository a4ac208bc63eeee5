"""Worker processes: trials run in fresh processes with one BLAS thread each, as many at a time as there are jobs.

Even one job has its own process, so that the number of jobs changes nothing a trial can see. A worker stores each trial
itself as soon as it is finished: if the comparison is stopped or killed, what is finished is on disk.
"""

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from . import canary, trial
from .environment import THREAD_VARIABLES, blas, code_version
from .store import Store
from .trial import TrialSpec

_stop: Any = None
_environment: dict[str, Any] = {}


def _initialise(stop: Any, environment: dict[str, Any]) -> None:
    """Runs first in each worker."""
    global _stop, _environment
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of the terminal; the parent decides
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)
    _stop, _environment = stop, {**environment, "blas": blas()}
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Ends this process when the comparison's is gone: after a SIGKILL nobody else would, and it would wait for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)  # files are written under another name first, so that none is left half-written


def _work(key: str, spec: TrialSpec, folder: Path) -> dict[str, Any] | None:
    """Run a trial and store it. Returns its record without the arrays; None if it was stopped half-way."""
    if _stop.is_set():
        return None
    record: dict[str, Any] = {
        "key": key,
        "spec": spec.described(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    try:
        if canary.digest() != _environment["canary"]:
            raise RuntimeError(
                f"this worker computes with other bits than the command that started it (canary {canary.digest()}, not "
                f"{_environment['canary']}): set OPENBLAS_CORETYPE and the like in the environment, not in the program"
            )
        record["code"] = code_version(spec.problem)
        outcome, arrays = trial.run(spec, _stop.is_set)
        record |= {**outcome, "environment": _environment}
        Store(folder).save(record, arrays)
    except trial.Stopped:
        return None
    except Exception as error:  # noqa: BLE001  (whatever a problem or an optimizer raises is this trial's result; a full disk too)
        said = f"{type(error).__name__}: {error}"
        return {**record, "status": "error", "error": said, "traceback": traceback.format_exc()}
    return record


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


Queued = tuple[str, TrialSpec]
Done = Callable[[dict[str, Any]], None]


class Workers:
    """Runs trials, calling ``done(record)`` in this process after each. ``done`` may submit more.

    Args:
        jobs: how many trials run at a time.
        folder: where the trials are stored.
        environment: what each record says about versions and machine.
    """

    def __init__(self, jobs: int, folder: Path, environment: dict[str, Any]):
        self.jobs, self.folder, self.environment = jobs, folder, environment
        self._queue: deque[Queued] = deque()

    def submit(self, key: str, spec: TrialSpec) -> None:
        """Put a trial into the queue."""
        self._queue.append((key, spec))

    def run(self, done: Done) -> None:
        """Work the queue off. A KeyboardInterrupt stops the workers, hands over what they finished, and goes on up."""
        while self._queue:
            # If a worker dies, all trials that were in its pool are lost. Each gets a pool to itself; if that dies too,
            # the trial is at fault.
            for key, spec in self._drain(self._queue, self.jobs, done):
                if self._drain(deque([(key, spec)]), 1, done):
                    message = "the worker process died while it ran this trial (out of memory, or a crash in a library)"
                    done({"key": key, "spec": spec.described(), "status": "error", "error": message})

    def _drain(self, queue: deque[Queued], jobs: int, done: Done) -> list[Queued]:
        """Run what is queued in one pool of workers. Stops early, and returns the trials lost, when a worker dies."""
        context = multiprocessing.get_context("spawn")
        stop = context.Event()
        pending: dict[Future, Queued] = {}
        lost: list[Queued] = []
        with one_blas_thread(), ProcessPoolExecutor(jobs, context, _initialise, (stop, self.environment)) as pool:
            try:
                while pending or (queue and not lost):
                    while queue and not lost and len(pending) < 2 * jobs:
                        item = queue.popleft()
                        try:
                            pending[pool.submit(_work, *item, self.folder)] = item
                        except BrokenProcessPool:
                            lost.append(item)
                    lost += _collect(pending, done)
            except BaseException:  # an interruption, or an error of done(): stop the workers, and raise it again
                stop.set()
                pool.shutdown(wait=True, cancel_futures=True)
                _collect({future: item for future, item in pending.items() if not future.cancelled()}, done)
                raise
        return lost


def _collect(pending: dict[Future, Queued], done: Done) -> list[Queued]:
    """Hand over the trials that are finished, waiting for the first one. Returns those that were lost."""
    lost = []
    finished, _ = wait(pending, return_when=FIRST_COMPLETED)
    for future in finished:
        item = pending.pop(future)
        try:
            record = future.result()
        except BrokenProcessPool:
            lost.append(item)
            continue
        if record is not None:
            done(record)
    return lost
