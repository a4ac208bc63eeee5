"""Whether a report is still what its comparison would write, so that a second run of a finished one takes a second.

Beside a finished report lies ``made_of.json``: a hash of all that the report was computed from besides its trials (the
config, every source file of ``autograd`` and ``hammer``, a user's own problems and optimizers, library versions, the
canary), the SHA-256 of each trial's file in the store, and that of each file of the report. A report is *current* if all of
these are computed again and are the same: then the trials' keys, which are hashes of a part of this, would be the same
too, every trial is in the store, and the statistics would come out as they stand. Otherwise everything is done anew.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import autograd
import hammer
from autograd.atomic import write_atomically

from . import discovery, environment
from .config import Config
from .store import Store, key_of

FILE = "made_of.json"


@dataclass(frozen=True)
class Shown:
    """What the command prints of a finished comparison. ``head`` and ``rows`` are the ranking, as text."""

    name: str
    head: list[str]
    rows: list[list[str]]
    verdict: str
    controls: str
    done: int
    total: int


def inputs(config: Config, command: str) -> str:
    """The hash of all that a report is made of besides its trials; ``command`` stands in it."""
    packages = [Path(package.__file__).parent for package in (autograd, hammer) if package.__file__]
    sources = [f for p in packages for f in sorted(p.rglob("*")) if f.is_file() and f.suffix != ".pyc"]
    sources += [
        f for folder in discovery.folders() for kind in discovery.WHAT for f in sorted((folder / kind).glob("*.py"))
    ]
    made = {
        "config": config.to_yaml(),
        "command": command,
        "arithmetic": environment.arithmetic(),
        "files": _hashes(sources),
    }
    return key_of(made)


def _hashes(files: Iterable[Path]) -> list[list[str]]:
    return [[str(f), hashlib.sha256(f.read_bytes()).hexdigest()] for f in files]


def current(folder: Path, made_of: str, store: Store) -> Shown | None:
    """What to print of the report in ``folder`` if it is current; None if it has to be made anew."""
    try:
        found = json.loads((folder / FILE).read_text(encoding="utf-8"))
        trials, files, shown = found["trials"], found["files"], Shown(**found["shown"])
        if found["inputs"] != made_of or store.seals(trials) != trials:
            return None
        if any(hashlib.sha256((folder / name).read_bytes()).hexdigest() != was for name, was in files.items()):
            return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # not there, or damaged: then it is made anew
        return None
    return shown


def keep(folder: Path, made_of: str, store: Store, keys: list[str], shown: Shown) -> None:
    """Note what the report in ``folder``, which is complete, was made of."""
    files = {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in sorted(folder.iterdir()) if _ours(f)}
    content: dict[str, Any] = {"inputs": made_of, "files": files, "shown": asdict(shown), "trials": store.seals(keys)}
    write_atomically(folder / FILE, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def _ours(path: Path) -> bool:
    return path.is_file() and path.name != FILE and not path.name.startswith(".")
