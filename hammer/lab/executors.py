"""Where trials run: in this process, in worker processes, or on the ranks of an MPI job. All give equal bytes.

``Processes`` is the standard library's pool of spawned processes, as many as there are jobs; even one job has its own, so
that a crash in a library costs a trial and not the command. ``Serial`` needs no second process: for a debugger or a
profiler. ``Mpi`` uses ``mpi4py.futures`` and any number of machines that share the store's folder.

loky's pool was considered: what it has beside the standard one (it survives the death of a worker, and is kept between
calls) is a few lines here, where a dead worker has to be traced to the trial that killed it anyway, and workers must end
with a command that was killed, which loky's do not promise.
"""

import contextlib
import multiprocessing
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from .environment import code_version, find
from .errors import UsageError, missing
from .trial import TrialSpec
from .worker import Task, Worker, end_with_parent, one_blas_thread, one_blas_thread_here

Done = Callable[[dict[str, Any]], None]


class Serial:
    """Runs trials one after the other in this process, calling ``done(record)`` after each. ``done`` may submit more.

    Args:
        jobs: how many trials run at a time, where that is more than one.
        folder: where the trials are stored.
        environment: what each record says about versions and machine.
    """

    def __init__(self, jobs: int, folder: Path, environment: dict[str, Any]):
        self.jobs, self.folder, self.environment = jobs, folder, environment
        self._queue: deque[Task] = deque()

    def submit(self, key: str, spec: TrialSpec) -> None:
        """Put a trial into the queue."""
        self._queue.append(Task(key, spec, code_version(spec.problem)))

    def run(self, done: Done) -> None:
        """Work the queue off. A KeyboardInterrupt leaves the running trials, hands over what is finished, and goes on up."""
        worker = Worker(self.folder, self.environment)
        with one_blas_thread_here():
            while self._queue:
                record = worker.run(self._queue.popleft())
                if record is not None:
                    with _undivided():
                        done(record)


class Processes(Serial):
    """Runs trials in processes of their own, ``jobs`` at a time."""

    def run(self, done: Done) -> None:
        while self._queue:
            # If a worker dies, all trials that were in its pool are lost. Each gets a pool to itself; if that dies too,
            # the trial is at fault.
            for task in self._drain(self._queue, self.jobs, done):
                if self._drain(deque([task]), 1, done):
                    message = "the worker process died while it ran this trial (out of memory, or a crash in a library)"
                    done({"key": task.key, "spec": task.spec.described(), "status": "error", "error": message})

    def _drain(self, queue: deque[Task], jobs: int, done: Done) -> list[Task]:
        """Run what is queued in one pool of workers. Stops early, and returns the trials lost, when a worker dies."""
        context = multiprocessing.get_context("spawn")
        stop = context.Event()
        given = (stop, self.folder, self.environment)
        with one_blas_thread(), ProcessPoolExecutor(jobs, context, _start_process, given) as pool:
            return _feed(pool, queue, 2 * jobs, done, stop.set)


class Mpi(Serial):
    """Runs trials on the ranks of an MPI job other than the first, which is this process; see ``on_first_rank``."""

    def run(self, done: Done) -> None:
        _feed(_pool, self._queue, 2 * ranks(), done, lambda: None, (self.folder, self.environment))


def ranks() -> int:
    """How many ranks of the MPI job run trials."""
    assert _pool is not None, "on_first_rank has not been called"
    _pool.bootup(wait=True)
    return _pool.num_workers


EXECUTORS: dict[str, type[Serial]] = {"serial": Serial, "processes": Processes, "mpi": Mpi}
"""By the names that the command knows them by."""

_pool: Any = None  # of the MPI job, in its first rank
_worker: Worker | None = None  # of this process, if it is a worker


def _feed(
    pool: Executor, queue: deque[Task], ahead: int, done: Done, stop: Callable[[], None], given: tuple = ()
) -> list[Task]:
    """Hand a pool what is queued, at most ``ahead`` trials at a time. Returns the trials lost when a worker dies."""
    pending: dict[Future, Task] = {}
    lost: list[Task] = []
    try:
        while pending or (queue and not lost):
            while queue and not lost and len(pending) < ahead:
                task = queue.popleft()
                try:
                    pending[pool.submit(_work, task, *given)] = task
                except BrokenProcessPool:
                    lost.append(task)
            lost += _collect(pending, done)
    except BaseException:  # an interruption, or an error of done(): stop the workers, and raise it again
        stop()
        for future in pending:
            future.cancel()
        running = {future: task for future, task in pending.items() if not future.cancelled()}
        while running:
            _collect(running, done)
        raise
    return lost


def _collect(pending: dict[Future, Task], done: Done) -> list[Task]:
    """Hand over the trials that are finished, waiting for the first one. Returns those that were lost."""
    lost = []
    finished, _ = wait(pending, return_when=FIRST_COMPLETED)
    with _undivided():
        for future in finished:
            task = pending.pop(future)
            try:
                record = future.result()
            except BrokenProcessPool:
                lost.append(task)
                continue
            if record is not None:
                done(record)
    return lost


@contextlib.contextmanager
def _undivided() -> Iterator[None]:
    """A block that Ctrl-C does not break off: KeyboardInterrupt is raised at its end. A finished trial is never half handed over."""
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    ):
        yield  # somebody else handles the signal
        return
    pressed = threading.Event()
    signal.signal(signal.SIGINT, lambda *_: pressed.set())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if pressed.is_set():
        raise KeyboardInterrupt


def _work(task: Task, *given: Any) -> dict[str, Any] | None:
    """Run a trial in this worker. A process of a pool was told folder and environment at its start, an MPI rank is each time."""
    global _worker
    if _worker is None or (given and (_worker.folder, _worker.environment) != given):
        _worker = Worker(*given)
    return _worker.run(task)


def _start_process(stop: Any, folder: Path, environment: dict[str, Any]) -> None:
    """Runs first in each process of a pool."""
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of the terminal; the parent decides
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)
    _worker = Worker(folder, environment, stop.is_set)
    end_with_parent()


# ---- MPI ----


def on_first_rank(command: Callable[[], int]) -> int:
    """Run a command in the first rank of this MPI job, while the other ranks run the trials it hands out.

    Every rank calls this; ``mpiexec -n 5 hammer compare quick --executor mpi`` has four workers.

    Raises:
        UsageError: mpi4py or its MPI library is missing, or the job has one rank only.
    """
    global _pool
    if not find("mpi4py"):
        raise UsageError(f"--executor mpi: {missing(['mpi4py'], 'mpi')}")
    try:
        from mpi4py import MPI
        from mpi4py.futures import MPICommExecutor
    except (ImportError, RuntimeError) as error:  # mpi4py finds no MPI library
        said = str(error).strip().splitlines()[0]
        raise UsageError(
            f"--executor mpi: mpi4py cannot load an MPI library ({said}); {missing(['one'], 'mpi')}"
        ) from None
    if MPI.COMM_WORLD.Get_size() < 2:
        raise UsageError(
            "--executor mpi: this MPI job has one rank, and the first one only hands out trials; start it as in: "
            "mpiexec -n 3 hammer compare quick --executor mpi"
        )
    if MPI.COMM_WORLD.Get_rank() > 0:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # mpiexec sends it to every rank; the first one decides
    with one_blas_thread_here(), MPICommExecutor(MPI.COMM_WORLD, root=0) as pool:
        if pool is None:  # a worker, and the trials have ended
            return 0
        _pool = pool
        try:
            return command()
        finally:
            _pool = None
            sys.stdout.flush()
