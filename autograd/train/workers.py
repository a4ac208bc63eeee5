"""Worker processes that keep the order of their tasks and survive one another's death.

The parent holds the list of tasks. Each worker has a pipe of its own and a few tasks ahead; results are given out in the
order of the tasks, whichever comes first. When a worker dies (out of memory, a crash inside a library) its pipe closes: the
parent says so once, starts another one, and gives it the dead one's tasks. A task that was held by three workers as
they died is taken for the cause. Workers end when the parent's end of the pipe is closed, also if the parent is killed.
"""

import contextlib
import multiprocessing
import signal
import traceback
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import connection
from typing import Any

AHEAD = 2
"""Tasks that each worker holds: one in work, the others waiting, so that it never waits for the parent."""
DEATHS = 3
"""Workers that may die with one task."""


class WorkerError(RuntimeError):
    """A worker raised an error, or workers died with one task again and again."""


def _serve(pipe: Any, make: Callable[[Any], Any]) -> None:
    """What a worker does until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of the terminal; the parent decides
    with contextlib.suppress(EOFError, OSError):
        while True:
            ticket, task = pipe.recv()
            try:
                answer = (ticket, True, make(task))
            except Exception as error:  # noqa: BLE001  (whatever a dataset raises is told to the parent, which raises it)
                text = f"{type(error).__name__}: {error}"
                answer = (ticket, False, (text, traceback.format_exc()))
            pipe.send(answer)


class _Worker:
    def __init__(self, make: Callable[[Any], Any]):
        context = multiprocessing.get_context("spawn")  # a fork copies locks that other threads hold
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, make), daemon=True)
        self.process.start()
        theirs.close()
        self.held: deque[int] = deque()  # numbers of tasks sent and not yet answered

    def end(self) -> None:
        self.pipe.close()
        self.process.terminate()
        self.process.join()


class Pool:
    """``count`` worker processes that compute ``make(task)``; ``make``, tasks and results must be picklable."""

    def __init__(self, make: Callable[[Any], Any], count: int):
        self.make, self._told, self._run = make, False, 0
        self._workers = [_Worker(make) for _ in range(count)]
        self.close = weakref.finalize(self, _end, self._workers)

    @property
    def pids(self) -> list[int | None]:
        """Process ids of the workers."""
        return [w.process.pid for w in self._workers]

    def map(self, tasks: Sequence[Any]) -> Iterator[Any]:
        """The results of all tasks in their order. One run at a time: starting another ends the one before."""
        self._run += 1
        run, done, deaths, given = self._run, {}, {}, 0  # type: tuple[int, dict[int, Any], dict[int, int], int]
        for worker in self._workers:
            worker.held.clear()
        for wanted in range(len(tasks)):
            while wanted not in done:
                if run != self._run:
                    raise RuntimeError("these batches were left for those of another epoch; use one iterator at a time")
                for worker in self._workers:
                    while len(worker.held) < AHEAD and given < len(tasks):
                        worker.held.append(given)
                        self._send(worker, run, given, tasks)
                        given += 1
                for pipe in connection.wait([w.pipe for w in self._workers]):
                    place = next(i for i, w in enumerate(self._workers) if w.pipe is pipe)
                    worker = self._workers[place]
                    try:
                        (ticket, number), good, result = worker.pipe.recv()
                    except (EOFError, OSError):
                        self._replace(place, run, tasks, deaths)
                        continue
                    if ticket == run:  # what is left of an earlier run is thrown away
                        worker.held.remove(number)
                        done[number] = good, result
            good, result = done.pop(wanted)
            if not good:
                raise WorkerError(f"a worker process could not make a batch: {result[0]}\n\nIn the worker: {result[1]}")
            yield result

    def _send(self, worker: _Worker, run: int, number: int, tasks: Sequence[Any]) -> None:
        with contextlib.suppress(OSError):  # it has died: its pipe says so when it is read
            worker.pipe.send(((run, number), tasks[number]))

    def _replace(self, place: int, run: int, tasks: Sequence[Any], deaths: dict[int, int]) -> None:
        dead = self._workers[place]
        dead.end()
        code = dead.process.exitcode
        first = dead.held[0] if dead.held else None  # tasks are worked on in order, so this is the one that was in work
        if first is not None:
            deaths[first] = deaths.get(first, 0) + 1
            if deaths[first] >= DEATHS:
                raise WorkerError(
                    f"{DEATHS} worker processes died (the last with exit code {code}) while they made batch {first}: "
                    "look for a crash or for too little memory, with workers=0"
                )
        if not self._told:
            self._told = True
            warnings.warn(
                f"a worker process died (exit code {code}); its batches are made again by a new one, with the same result",
                RuntimeWarning,
                stacklevel=4,
            )
        self._workers[place] = fresh = _Worker(self.make)
        for number in dead.held:
            fresh.held.append(number)
            self._send(fresh, run, number, tasks)


def _end(workers: list[_Worker]) -> None:
    for worker in workers:
        worker.end()
