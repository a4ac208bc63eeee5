"""Finished runs read back: a report's folder, the archive made of one, or a store of trials.

A report and its archive hold the same files, and the archive a ``manifest.json`` with the SHA-256 of each. Nothing is
unpacked or unpickled: files are read by the names that a report has.
"""

import csv
import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from . import optimizers, problems
from .errors import UsageError, unknown
from .store import Store
from .trial import TrialSpec

MANIFEST = "manifest.json"
ARRAYS = ("train_loss", "loss", "metric")
"""The arrays of a trial that a report keeps and that are not times."""

Reader = Callable[[str], bytes]
"""Gives a report's file by its name."""


@dataclass(frozen=True)
class Stored:
    """A trial as it was stored. ``code`` and ``data`` are the first 16 digits of the hashes, or "" where they are unknown."""

    key: str
    spec: TrialSpec
    phase: str
    status: str
    diverged_at: int | None
    bits: str
    code: str
    data: str
    canary: str
    arrays: dict[str, np.ndarray] = field(repr=False)


@dataclass
class Run:
    """The trials of a run: ``keys`` of those that can be run again, ``load`` for one of them.

    ``canary`` has the results of the run's canary, if they were kept; ``complaints`` a line for each damaged file.
    """

    source: Path
    keys: list[str]
    load: Callable[[str], Stored | None]
    canaries: Callable[[str], dict[str, np.ndarray] | None]
    complaints: list[str]


def open_run(name: str) -> Run:
    """The run of a name: a path, or the name of a report in ``reports``.

    Raises:
        UsageError: there is no such run, or one of its files is damaged.
    """
    path = _found(name)
    if path.is_file() or (path / "trials.csv").exists():
        return _report(path, _reader(path))
    store = _store(path)
    if not store.keys:
        raise UsageError(f"{path}: neither a report (it has no trials.csv) nor a store (it has no trials)")
    return store


def report_files(name: str) -> tuple[Path, Reader]:
    """Where a report or an archive is, and what reads its files.

    Raises:
        UsageError: there is no such report, or the archive is damaged; and by the reader: a file is missing or damaged.
    """
    path = _found(name)
    if path.is_dir() and not (path / "trials.csv").exists():
        raise UsageError(f"{path}: not a report's folder (it has no trials.csv); {unknown('report', name, _reports())}")
    return path, _reader(path)


def _found(name: str) -> Path:
    path = next((p for p in (Path(name), Path("reports") / name) if p.exists()), None)
    if path is None:
        raise UsageError(f"{name}: no such file or folder; {unknown('report', name, _reports())}")
    return path


def _reports() -> list[str]:
    return sorted(p.parent.name for p in Path("reports").glob("*/trials.csv"))


def _reader(path: Path) -> Reader:
    return _archive(path) if path.is_file() else lambda file: _read(path, file)


def _read(folder: Path, file: str) -> bytes:
    try:
        return (folder / file).read_bytes()
    except OSError as error:
        raise UsageError(f"{folder / file}: cannot be read: {error.strerror}") from None


def _archive(path: Path) -> Reader:
    """Reads a file of an archive, after its checksum was compared."""
    try:
        with zipfile.ZipFile(path) as archive:
            content = {name: archive.read(name) for name in archive.namelist()}
            manifest = json.loads(content[MANIFEST])["files"]
    except KeyError:
        raise UsageError(f"{path}: not an archive of `hammer export` (it has no {MANIFEST})") from None
    except (zipfile.BadZipFile, NotImplementedError, OSError, EOFError, ValueError, TypeError) as error:
        raise UsageError(f"{path}: damaged, or not an archive of `hammer export` ({error})") from None
    except zlib.error as error:  # a member whose compressed bytes are damaged
        raise UsageError(f"{path}: damaged ({error})") from None

    def read(file: str) -> bytes:
        if file not in content or file not in manifest:
            raise UsageError(f"{path}: the file {file} is not in it")
        if hashlib.sha256(content[file]).hexdigest() != manifest[file]:
            raise UsageError(f"{path}: the file {file} in it is damaged: its checksum does not fit")
        return content[file]

    return read


def _report(path: Path, read: Reader) -> Run:
    try:
        rows = {row["key"]: row for row in csv.DictReader(io.StringIO(read("trials.csv").decode()))}
        canary = json.loads(read("environment.json"))["canary"]
        with np.load(io.BytesIO(read("curves.npz")), allow_pickle=False) as file:
            curves = dict(file)
        with np.load(io.BytesIO(read("canary.npz")), allow_pickle=False) as file:
            results = dict(file)
        places: dict[str, tuple[str, int]] = {}
        for name in curves:
            if name.endswith(".key"):
                places |= {key: (name.removesuffix(".key"), i) for i, key in enumerate(curves[name].tolist())}
        keys = [key for key in rows if key in places]
        specs = {key: spec_of_row(rows[key]) for key in keys}
    except (KeyError, ValueError, TypeError, zipfile.BadZipFile) as error:
        raise UsageError(f"{path}: not a report that trials can be run again from, or damaged ({error!r})") from None

    def load(key: str) -> Stored:
        row, (workload, place) = rows[key], places[key]
        arrays = {name: curves[f"{workload}.{name}"][place] for name in ARRAYS}
        return Stored(
            key,
            specs[key],
            row["phase"],
            row["status"],
            int(row["diverged_at"]) if row["diverged_at"] else None,
            row["bits"],
            row["code"],
            row["data"],
            canary,
            arrays | {"eval_step": curves[f"{workload}.eval_step"]},
        )

    return Run(path, keys, load, lambda digest: results if digest == canary else None, [])


def spec_of_row(row: dict[str, str]) -> TrialSpec:
    """The spec in a line of ``trials.csv``."""
    pairs = (item.split("=") for item in row["hyper"].split(";") if item)
    return _checked(
        TrialSpec(
            row["workload"],
            row["optimizer"],
            {name: float(value) for name, value in pairs},
            int(row["root"]),
            int(row["seed_index"]),
            int(row["step_limit"]),
            int(row["eval_every"]),
            row["dtype"],
        )
    )


def _checked(spec: TrialSpec) -> TrialSpec:
    if spec.problem not in problems.names():
        raise UsageError(unknown("workload", spec.problem, problems.names()))
    if spec.optimizer not in optimizers.names():
        raise UsageError(unknown("optimizer", spec.optimizer, optimizers.names()))
    return spec


def _store(folder: Path) -> Run:
    store = Store(folder)

    def load(key: str) -> Stored | None:
        found = store.load(key)
        if found is None:
            return None
        record, arrays = found
        spec: dict[str, Any] = {k: v for k, v in record["spec"].items() if k != "fixed"}
        return Stored(
            key,
            _checked(TrialSpec(**spec)),
            "",
            record["status"],
            record["diverged_at"],
            record["bits"],
            record["code"][:16],
            (record["data"] or "")[:16],
            record["environment"]["canary"],
            arrays,
        )

    return Run(folder, store.all_keys(), load, store.canary, store.complaints)
