"""A worker process for each library, and interleaved timing of them.

Each library runs in a process of its own (``serve``), which loads nothing but that library and obeys commands, one line
of JSON each, over a pipe. The script that was started (the parent) tells the workers in turn to run one short block of
one case, round after round (``interleave``), so that a change of the machine's speed meets all libraries alike. HIPS
autograd has our import name, so its worker runs on the interpreter of another virtual environment; in everything else it
is a worker like the others.

A worker only needs Python and its own library: this module imports nothing outside the standard library at the top.
"""

import argparse
import contextlib
import importlib
import importlib.util
import json
import os
import platform
import select
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
HIPS_HOME = Path(__file__).resolve().parent / ".venv-hips"
LIBRARIES = ("ours", "torch", "jax", "mygrad", "hips")
TITLES = {
    "ours": "Hammer", "ours_eager": "Hammer (eager)", "torch": "PyTorch (eager)", "torch_compile": "PyTorch (torch.compile)",
    "jax": "JAX (jit)", "mygrad": "MyGrad", "hips": "HIPS autograd",
}  # fmt: skip
OURS = ("ours", "ours_eager")
_MODULES = {
    "ours": "autograd", "ours_eager": "autograd", "torch": "torch", "torch_compile": "torch", "jax": "jax", "mygrad": "mygrad",
    "hips": "autograd",
}  # fmt: skip


class Missing(Exception):
    """A library, or something in it that a case needs, is not there; the message says what. The case is left out."""


# ---- the worker's side ----


def load(library: str) -> dict[str, Any]:
    """Import a library into this process. Returns what the parent prints of it. Raises ``Missing``."""
    if library in OURS:
        sys.path.insert(0, str(ROOT))  # the code beside this script, whatever is installed
    name = _MODULES[library]
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        raise Missing(f"{TITLES[library]} cannot be imported by {os.path.basename(sys.executable)}: {error}") from None
    if (getattr(module, "__distribution__", None) == "hammer-grad") != (library in OURS) and name == "autograd":
        raise Missing(f"the package 'autograd' of this interpreter is not {TITLES[library]}")
    import numpy

    version = getattr(module, "__version__", None)
    if version is None:
        from importlib.metadata import version as installed

        version = installed(name)
    return {
        "version": str(version),
        "numpy": numpy.__version__,
        "python": platform.python_version(),
        "pools": pools(library),
    }


def pools(library: str = "") -> list[str]:
    """The thread pools (BLAS, OpenMP) of this process, with kernel and number of threads."""
    found = []
    with contextlib.suppress(ImportError):  # threadpoolctl is not needed in HIPS's environment
        from threadpoolctl import threadpool_info

        for pool in threadpool_info():
            kernel = f" {pool['architecture']}" if pool.get("architecture") else ""
            found.append(
                f"{pool['internal_api']} {pool.get('version') or ''}{kernel}, {pool['num_threads']} threads".replace(
                    " ,", ","
                )
            )
    if _MODULES.get(library) == "torch":
        import torch

        found.append(f"torch.get_num_threads() = {torch.get_num_threads()}")
    return sorted(set(found))


class _State:
    """State of a worker process: its cases and how often each is called in a block."""

    def __init__(self, build: Callable[[str, str], Callable[[], Any]], library: str):
        self.build, self.library = build, library
        self.cases: dict[str, Callable[[], Any]] = {}
        self.calls: dict[str, int] = {}
        self.limits: dict[str, float] = {}

    def prepare(self, case: str, seconds: float, checks: int) -> dict[str, Any]:
        """Build a case, note what its first calls return, and find how many calls make a block of ``seconds``."""
        run = self.cases[case] = self.build(self.library, case)
        values = [run() for _ in range(max(checks, 1))]
        took = min(_timed(run, 1, 0.0) for _ in range(2))
        self.calls[case] = max(1, round(seconds / took))
        self.limits[case] = 2 * seconds
        return {"values": [float(v) for v in values[:checks]], "calls": self.calls[case]}

    def forget(self, case: str) -> None:
        """Let go of a case and its memory."""
        self.cases.pop(case, None)

    def time(self, case: str) -> float:
        """Seconds for one call: the fastest of up to five parts of a block, after one untimed call.

        Other processes interrupt for some milliseconds at a time: of five short parts one is usually left alone. A part
        that takes far longer than planned (threads waiting for each other on busy cores) is cut short.
        """
        run, calls = self.cases[case], self.calls[case]
        run()
        parts = min(5, calls)
        return min(_timed(run, calls // parts, self.limits[case] / parts) for _ in range(parts))


def _timed(run: Callable[[], Any], calls: int, limit: float) -> float:
    """Seconds for one call, as the mean of ``calls`` calls, or of fewer if they take longer than ``limit`` seconds."""
    clock = time.perf_counter
    start = now = clock()
    done = 0
    while done < calls and (now - start <= limit or not done):
        run()
        now = clock()
        done += 1
    return (now - start) / done


def serve(library: str, build: Callable[[str, str], Callable[[], Any]], **commands: Callable[..., Any]) -> None:
    """Obey the parent until it closes the pipe.

    ``build(library, case)`` returns what one call of the case runs; ``commands`` are further commands by name.
    """
    answers = os.fdopen(os.dup(1), "w")  # what libraries print must not come between the answers
    os.dup2(2, 1)
    state = _State(build, library)
    known: dict[str, Callable] = {
        "load": lambda: load(library),
        "prepare": state.prepare,
        "time": state.time,
        "forget": state.forget,
        **commands,
    }
    for line in sys.stdin:
        message = json.loads(line)
        try:
            answer: dict[str, Any] = {"ok": known[message.pop("do")](**message)}
        except Missing as error:
            answer = {"missing": str(error)}
        except Exception:  # noqa: BLE001 - nothing is swallowed: the parent raises it again with the traceback
            answer = {"error": traceback.format_exc()}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


# ---- the parent's side ----


class Worker:
    """A worker process as the parent sees it. ``send`` and ``receive`` are apart, so that workers can prepare together."""

    def __init__(self, library: str, script: str, python: str, threads: int, arguments: Sequence[str] = ()):
        self.library = library
        self.info: dict[str, Any] = {}
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH" or library != "hips"}
        for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
            environment[name] = str(threads)
        if threads == 1:
            environment["XLA_FLAGS"] = environment.get("XLA_FLAGS", "") + " --xla_cpu_multi_thread_eigen=false"
        environment.setdefault("JAX_PLATFORMS", "cpu")
        environment.setdefault(
            "TORCHINDUCTOR_FORCE_DISABLE_CACHES", "1"
        )  # so that what compiling takes can be measured
        environment.setdefault("KINETO_LOG_LEVEL", "99")  # PyTorch's profiler tells stderr that it starts
        self._process = subprocess.Popen([python, script, "--worker", library, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True)  # fmt: skip

    def send(self, do: str, **message: Any) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **message}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise RuntimeError(self._ended()) from None

    def receive(self, timeout: float = 300.0) -> Any:
        """The answer. Raises ``Missing`` as the worker did, RuntimeError if it failed or ended, TimeoutError."""
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], timeout)[0]:
            self._process.kill()
            raise TimeoutError(f"the {self.library} worker gave no answer within {timeout:.0f} s")
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(self._ended())
        answer = json.loads(line)
        if "missing" in answer:
            raise Missing(answer["missing"])
        if "error" in answer:
            raise RuntimeError(f"the {self.library} worker failed:\n{answer['error']}")
        return answer["ok"]

    def ask(self, do: str, **message: Any) -> Any:
        self.send(do, **message)
        return self.receive()

    def _ended(self) -> str:
        return f"the {self.library} worker ended with exit code {self._process.wait()} before it answered"

    def ran(self) -> int | None:
        """Nanoseconds of processor time that the threads of the process have used so far; None where Linux does not say."""
        folder = Path(f"/proc/{self._process.pid}/task")
        total = 0
        for thread in folder.glob("*/schedstat"):
            with contextlib.suppress(OSError):  # a thread may end meanwhile
                total += int(thread.read_text().split()[0])
        return total if folder.exists() else None

    def close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def hips_python(given: str | None, make: bool) -> str:
    """The interpreter for HIPS autograd. Raises ``Missing``."""
    if given:
        if not os.access(given, os.X_OK):
            raise Missing(f"the interpreter {given!r} named for HIPS autograd is not there")
        return given
    python = HIPS_HOME / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if make and not python.exists():
        import numpy

        subprocess.run([sys.executable, "-m", "venv", str(HIPS_HOME)], check=True)
        subprocess.run(
            [str(python), "-m", "pip", "install", "--quiet", "autograd", f"numpy=={numpy.__version__}", "scipy"],
            check=True,
        )
    if not python.exists():
        raise Missing(
            "no environment for HIPS autograd; make one with --make-hips, or name its interpreter with --hips-python"
        )
    return str(python)


@contextlib.contextmanager
def start(
    options: argparse.Namespace, script: str, arguments: Sequence[str] = ()
) -> Iterator[tuple[dict[str, Worker], dict[str, str]]]:
    """Start the workers asked for. Yields them by library, and the reasons why the others are left out."""
    started: dict[str, Worker] = {}
    left_out: dict[str, str] = {}
    try:
        for library in options.libraries.split(","):
            if library not in TITLES:
                raise SystemExit(f"--libraries: {library!r} is not known; choose from {', '.join(TITLES)}")
            try:
                python = hips_python(options.hips_python, options.make_hips) if library == "hips" else sys.executable
                if library != "hips" and library not in OURS and importlib.util.find_spec(_MODULES[library]) is None:
                    raise Missing(f"{TITLES[library]} is not installed (extra 'peers')")
                started[library] = Worker(library, script, python, options.threads, arguments)
                started[library].send("load")
            except Missing as error:
                left_out[library] = str(error)
        for library in list(started):
            try:
                started[library].info = started[library].receive()
            except Missing as error:
                left_out[library] = str(error)
                started.pop(library).close()
        yield started, left_out
    finally:
        for worker in started.values():
            worker.close()


def prepare(
    running: dict[str, Worker], cases: Sequence[str], seconds: float, checks: int = 1
) -> tuple[dict[str, dict[str, list[float]]], dict[str, str]]:
    """Let all workers build all cases. Returns ``{case: {library: first values}}`` and what is left out ("case, library": reason)."""
    values: dict[str, dict[str, list[float]]] = {case: {} for case in cases}
    left_out = {}
    for case in cases:
        for worker in running.values():
            worker.send("prepare", case=case, seconds=seconds, checks=checks)
        for library, worker in running.items():
            try:
                values[case][library] = worker.receive()["values"]
            except Missing as error:
                left_out[f"{case}, {library}"] = str(error)
    return values, left_out


def settled(workers: Iterable[Worker], limit: float = 0.5) -> None:
    """Wait until no worker uses the processor any more: threads of a pool spin for a while when they have nothing to do."""
    workers = list(workers)
    end = time.monotonic() + limit
    before = [w.ran() for w in workers]
    while time.monotonic() < end:
        time.sleep(0.01 if None not in before else limit / 10)
        now = [w.ran() for w in workers]
        if None in now or all(b - a < 1_000_000 for a, b in zip(before, now, strict=True)):
            return
        before = now


def interleave(
    running: dict[str, Worker],
    values: dict[str, dict[str, list[float]]],
    rounds: int,
    deadline: float,
    pause: float = 0.0,
    settle: bool = False,
) -> dict[str, dict[str, list[float]]]:
    """Seconds for one call, ``{case: {library: [one figure for each round]}}``.

    In each round every case is run by every library in turn, starting with another library each time. ``pause`` seconds
    go before a block, in which the thread pool of the library before can fall asleep; ``settle``: as many as it takes (see
    ``settled``). No round starts after ``deadline`` (as of ``time.monotonic()``), except the first.
    """
    seconds: dict[str, dict[str, list[float]]] = {
        case: {library: [] for library in there} for case, there in values.items()
    }
    for r in range(rounds):
        if r and time.monotonic() > deadline:
            break
        for case, there in seconds.items():
            order = list(there)
            k = r % len(order) if order else 0
            for library in order[k:] + order[:k]:
                time.sleep(pause)
                if settle:
                    settled(running.values())
                there[library].append(running[library].ask("time", case=case))
    return seconds
