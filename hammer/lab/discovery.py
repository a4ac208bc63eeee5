"""A user's own problems and optimizers, in any folder: ``FOLDER/problems/NAME.py`` and ``FOLDER/optimizers/NAME.py``.

A problem's file defines ``PROBLEM`` (a ``hammer.lab.problem.Problem``), an optimizer's ``OPTIMIZER`` (a
``hammer.lab.optimizers.Entry``), both of the file's name; `hammer new` writes such files. `--from FOLDER` names the
folders. They are kept in the environment variable HAMMER_FROM, separated as PATH is, so that worker processes look in
the same ones; it may also be set by hand. The files are run, as any Python file that is imported.
"""

import contextlib
import importlib.util
import os
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from .errors import UsageError

VARIABLE = "HAMMER_FROM"
WHAT = {"problems": "PROBLEM", "optimizers": "OPTIMIZER"}
"""The kinds, which are names of folders too, and what a file of each defines."""


def folders() -> list[Path]:
    """The folders to look in."""
    return [Path(part) for part in os.environ.get(VARIABLE, "").split(os.pathsep) if part]


@contextlib.contextmanager
def looking_in(given: Sequence[Path]) -> Iterator[None]:
    """Inside, these folders are looked in before those of the environment variable.

    Raises:
        UsageError: a folder that does not exist, or holds neither ``problems`` nor ``optimizers``.
    """
    for folder in given:
        if not folder.is_dir():
            raise UsageError(f"--from: {folder} is not a folder")
        if not any((folder / kind).is_dir() for kind in WHAT):
            raise UsageError(
                f"--from: {folder} has neither a folder problems nor a folder optimizers; `hammer new` makes them"
            )
    before = os.environ.get(VARIABLE)
    wanted = [*dict.fromkeys(str(folder.resolve()) for folder in (*given, *folders()))]
    if wanted:
        os.environ[VARIABLE] = os.pathsep.join(wanted)
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(VARIABLE, None)
        else:
            os.environ[VARIABLE] = before


def files(kind: str) -> dict[str, Path]:
    """The files of a kind by the name of what they define; of two with one name, that of the folder named first."""
    found: dict[str, Path] = {}
    for folder in folders():
        for path in sorted((folder / kind).glob("*.py")):
            if not path.stem.startswith("_"):
                found.setdefault(path.stem, path)
    return found


def code_of(path: Path) -> list[Path]:
    """What a file may depend on: itself and every other Python file beside it."""
    return sorted(path.parent.glob("*.py"))


def load(kind: str, path: Path, wanted: type) -> Any:
    """What a file defines.

    Raises:
        UsageError: the file defines no such thing, or one of another name. What the file itself raises goes on up.
    """
    return _load(kind, path, path.stat().st_mtime_ns, wanted)


@cache
def _load(kind: str, path: Path, _changed: int, wanted: type) -> Any:
    name = f"hammer_from_{kind}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path}: cannot be imported as a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    found = getattr(module, WHAT[kind], None)
    if not isinstance(found, wanted):
        raise UsageError(f"{path}: must define {WHAT[kind]}, of the class {wanted.__module__}.{wanted.__name__}")
    if found.name != path.stem:
        raise UsageError(f"{path}: describes {found.name!r}; file and {WHAT[kind]} must have one name")
    return found
