"""``hammer run FOLDER``: a study, which is a claim, a way to be wrong, and Python that decides.

The folder's ``study.py`` defines

    TITLE, CLAIM, FALSIFIED_IF      one line each
    def run(work: Work) -> Outcome

``run`` does its work in *parts*: ``work.part(name, function, **settings)`` returns what ``function(**settings)`` returns, and keeps
it in the store, so that a study which was interrupted goes on with the part it was in. A part is made anew when its settings or
the Python files of the folder change. ``work.parts`` makes several, in processes if ``--jobs`` says so.

The report (``summary.md``, ``results.json`` and pictures, in a folder of the study's name) states claim, verdict, figures and seconds.
A claim that turns out false is a result: the command then ends with 0 too.
"""

import argparse
import contextlib
import hashlib
import importlib.util
import inspect
import json
import math
import re
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np

import autograd
import hammer
from autograd.atomic import write_atomically
from autograd.train.files import load_state, read_about, save_state
from autograd.train.structure import CheckpointError

from . import environment
from .errors import UsageError
from .report.markdown import table
from .report.text import number
from .worker import end_with_parent, one_blas_thread

FILE = "study.py"
VERDICTS = {"holds": "The claim holds", "falsified": "The claim is false", "undecided": "Undecided"}


@dataclass(frozen=True)
class Table:
    """A table of a report: cells are text or numbers."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[Any]]


@dataclass(frozen=True)
class Outcome:
    """What a study found.

    Args:
        verdict: "holds", "falsified" or "undecided", about the claim.
        summary: what was found, a sentence or a few.
        figures: name -> number (or a list or dict of numbers), for ``results.json``.
        tables: for the report.
        pictures: file name -> the text of an SVG or the bytes of a PNG; the first stands at the report's head.
        notes: paragraphs at its end: what was not done, what the reader must know.
    """

    verdict: Literal["holds", "falsified", "undecided"]
    summary: str
    figures: Mapping[str, Any]
    tables: Sequence[Table] = ()
    pictures: Mapping[str, str | bytes] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.verdict not in VERDICTS:
            raise ValueError(f"outcome: verdict must be one of {', '.join(map(repr, VERDICTS))}, not {self.verdict!r}")
        for name in self.pictures:
            if Path(name).name != name or Path(name).suffix not in (".svg", ".png"):
                raise ValueError(f"outcome: a picture is a file NAME.svg or NAME.png, not {name!r}")


class Work:
    """What a study's ``run`` is given.

    Attributes:
        quick: whether to do a small version that ends within seconds. Its verdict is not the study's.
        folder: where parts are stored; a long part may keep checkpoints of its own there.
        seconds: what the parts took to compute, also those that an earlier command made.
    """

    def __init__(self, study: Path, store: Path, quick: bool = False, jobs: int = 1):
        self.study, self.quick, self.jobs = study, quick, jobs
        self.folder = store / "studies" / study.resolve().name / ("quick" if quick else "full")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.seconds = 0.0
        self.libraries: set[str] = set()
        self._code = code_of(study)

    def part(self, name: str, function: Callable[..., Any], **settings: Any) -> Any:
        """The result of ``function(**settings)``, computed once.

        Args:
            name: of the part; letters, digits, and ``.-_``; equal names in a study are one part.
            function: of the study's file, at its top level. It returns nested dicts, lists and tuples of numbers, strings and arrays.
                If it has a parameter ``folder``, it is given a folder of its own for checkpoints.
            settings: numbers, strings and lists of them; a part with other settings is made anew.
        """
        return self.parts(function, {name: settings})[name]

    def parts(self, function: Callable[..., Any], settings: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """The results of ``function`` for several parts: name -> settings. Those that are missing run in ``jobs`` processes."""
        lacking = [name for name in settings if not self._is_made(name, settings[name])]
        tasks = [self._task(name, function, settings[name]) for name in lacking]
        if min(self.jobs, len(tasks)) > 1:
            self._in_processes(tasks)
        else:
            for task in tasks:
                print(f"  {task.name}: {_make(task):.1f} s", flush=True)
        found = {}
        for name in settings:
            state = load_state(self._file(name))
            self.seconds += state["seconds"]
            self.libraries.add(read_about(self._file(name))["library"])
            found[name] = state["result"]
        return found

    def _in_processes(self, tasks: "list[_Task]") -> None:
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor, as_completed

        count, context = min(self.jobs, len(tasks)), multiprocessing.get_context("spawn")
        with one_blas_thread(), ProcessPoolExecutor(count, context, end_with_parent) as pool:
            running = {pool.submit(_make, task): task for task in tasks}
            try:
                for done in as_completed(running):
                    print(f"  {running[done].name}: {done.result():.1f} s", flush=True)
            except BaseException:  # the parts that wait are not to be begun; the error goes on up
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _file(self, name: str) -> Path:
        if not re.fullmatch(r"[\w.\-]+", name) or name.startswith("."):
            raise ValueError(f"part {name!r}: a name has letters, digits and .-_ only")
        return self.folder / f"{name}.safetensors"

    def _task(self, name: str, function: Callable[..., Any], settings: Mapping[str, Any]) -> "_Task":
        made = getattr(function, "__name__", "")
        if not made.isidentifier():
            raise ValueError(f"part {name}: its function must be a def of the study's file, not {made or function!r}")
        return _Task(self.study, name, self._file(name), made, dict(settings), self._code)

    def _is_made(self, name: str, settings: Mapping[str, Any]) -> bool:
        path = self._file(name)
        if not path.exists():
            return False
        try:
            about = read_about(path)
        except CheckpointError as error:
            print(f"  {name}: made again, because {error}", flush=True)
            return False
        return about.get("settings") == _plain(settings) and about.get("code") == self._code


@dataclass(frozen=True)
class _Task:
    study: Path
    name: str
    file: Path
    function: str
    settings: dict[str, Any]
    code: str


def _make(task: _Task) -> float:
    """Compute a part and store it; returns its seconds. In any process."""
    function = getattr(load(task.study), task.function)
    given = dict(task.settings)
    if "folder" in inspect.signature(function).parameters:
        folder = task.file.with_suffix("")
        folder.mkdir(exist_ok=True)
        given["folder"] = folder
    start = time.perf_counter()
    result = function(**given)
    seconds = time.perf_counter() - start
    about = {"settings": _plain(task.settings), "code": task.code, "library": library_code()}
    save_state(task.file, {"result": result, "seconds": seconds}, about)
    return seconds


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as JSON has them, so that those stored and those given compare."""
    return json.loads(json.dumps(dict(settings)))  # type: ignore[no-any-return]


def code_of(study: Path) -> str:
    """A hash of the Python files of a study's folder."""
    return _hash(sorted(study.glob("*.py")), study)


def library_code() -> str:
    """A hash of the sources of autograd and hammer."""
    roots = [Path(str(package.__file__)).parent for package in (autograd, hammer)]
    return _hash([file for root in roots for file in sorted(root.rglob("*.py"))], roots[0].parent)


def _hash(files: Sequence[Path], root: Path) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(str(file.relative_to(root)).encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def load(study: Path) -> Any:
    """The module of a study's file, which is run as any Python file that is imported.

    Raises:
        UsageError: there is none, or it lacks something that a study has.
    """
    path = (study / FILE).resolve()
    if not path.is_file():
        raise UsageError(f"{study}: is a folder without a {FILE}; give a config file, or a study's folder")
    name = f"hammer_study_{path.parent.name}"
    if getattr(sys.modules.get(name), "__file__", None) == str(path):
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None  # it ends with .py
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(path.parent))  # a study of several files imports those beside it
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        sys.path.remove(str(path.parent))
    for wanted, kind in (("TITLE", str), ("CLAIM", str), ("FALSIFIED_IF", str), ("run", Callable)):
        if not isinstance(getattr(module, wanted, None), kind):  # type: ignore[arg-type]
            del sys.modules[name]
            raise UsageError(f"{path}: a study defines TITLE, CLAIM, FALSIFIED_IF and run(work); {wanted} is missing")
    return module


def run_study(arguments: argparse.Namespace) -> int:
    """Run the study in a folder and write its report; returns the exit code."""
    study = Path(arguments.config)
    if arguments.settings or arguments.print_config:
        raise UsageError(f"{study}: a study takes no settings and has no config; change its {FILE}")
    if arguments.jobs < 1:
        raise UsageError(f"--jobs: must be a whole number of at least 1; got {arguments.jobs}")
    module = load(study)
    name = study.resolve().name
    out = arguments.out or (arguments.store / "quick" if arguments.quick else Path("reports"))
    for option, folder in (("--out", out / name), ("--store", arguments.store)):
        with _refusing(option, folder):
            folder.mkdir(parents=True, exist_ok=True)
    work = Work(study, arguments.store, arguments.quick, arguments.jobs)
    print(f"{module.TITLE}{' (quick: not the study itself)' if arguments.quick else ''}", flush=True)
    start = time.perf_counter()
    try:
        outcome = module.run(work)
    except KeyboardInterrupt:
        again = shlex.join(["hammer", *sys.argv[1:]]) if sys.argv[1:2] == ["run"] else f"hammer run {study}"
        print(f"interrupted; finished parts are kept in {work.folder}; to go on:\n  {again}", file=sys.stderr)
        return 130
    elapsed = time.perf_counter() - start
    with _refusing("--out", out / name):
        write(out / name, module, outcome, work, elapsed)
    print(f"{'The small version' if work.quick else VERDICTS[outcome.verdict]}: {outcome.summary}")
    print(f"{work.seconds:.0f} s of computing, {elapsed:.0f} s now; report: {out / name / 'summary.md'}")
    return 0


@contextlib.contextmanager
def _refusing(option: str, folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(f"{option}: cannot write to {folder}: {error.strerror}") from None


def write(folder: Path, module: Any, outcome: Outcome, work: Work, elapsed: float) -> None:
    """Write the report's files; a file of the same name is replaced."""
    about = environment.describe()
    seconds = max(work.seconds, elapsed)
    record = {
        "title": module.TITLE, "claim": module.CLAIM, "falsified_if": module.FALSIFIED_IF, "quick": work.quick,
        "verdict": outcome.verdict, "summary": outcome.summary, "figures": _figures(outcome.figures),
        "seconds": round(seconds, 1), "made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "study": work._code, "libraries_of_parts": sorted(work.libraries),
        "machine": {k: about[k] for k in ("hammer", "python", "system", "cpu", "cores", "libraries", "blas")},
    }  # fmt: skip
    for name, content in outcome.pictures.items():
        write_atomically(folder / name, content)
    write_atomically(folder / "results.json", json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    write_atomically(folder / "summary.md", _markdown(module, outcome, work, about, seconds))


def _markdown(module: Any, outcome: Outcome, work: Work, about: dict[str, Any], seconds: float) -> str:
    parts = [f"# {module.TITLE}"]
    if work.quick:
        parts.append("**A quick run: smaller than the study, and no verdict on its claim.**")
    names = [*outcome.pictures]
    parts += [f"![{module.TITLE}]({name})" for name in names[:1]]
    parts += [f"**Claim.** {module.CLAIM}", f"**Falsified if** {module.FALSIFIED_IF}"]
    parts.append(f"**{'Of the small version' if work.quick else VERDICTS[outcome.verdict]}.** {outcome.summary}")
    for one in outcome.tables:
        rows = [[cell if isinstance(cell, str) else number(cell) for cell in row] for row in one.rows]
        parts += [f"## {one.title}", table([*one.head], rows)]
    parts += [f"![{Path(name).stem.replace('_', ' ')}]({name})" for name in names[1:]]
    parts += list(outcome.notes)
    if len(work.libraries) > 1:
        parts.append(f"Its parts were computed with {len(work.libraries)} different states of the library's code.")
    libraries = ", ".join(f"{n} {v}" for n, v in about["libraries"].items() if n in ("numpy", "scipy") and v)
    parts.append(
        f"{seconds:.0f} s of computing ({about['cpu']}; Hammer {about['hammer']}, {about['python']}, {libraries}). Again with:"
    )
    parts.append(f"```sh\nhammer run experiments/{work.study.resolve().name}{' --quick' if work.quick else ''}\n```")
    return "\n\n".join(parts) + "\n"


def _figures(value: Any) -> Any:
    """Numbers as JSON can hold them: NumPy's become Python's, what is not finite becomes text."""
    if isinstance(value, Mapping):
        return {str(k): _figures(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_figures(v) for v in value]
    if isinstance(value, np.ndarray | np.generic):
        return _figures(value.tolist())
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
