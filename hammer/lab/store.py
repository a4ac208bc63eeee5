"""Trials on disk: a folder of finished trials, each under the key of everything that decides its bits.

A trial is two files: ``KEY.npz`` (its arrays, without pickle) and ``KEY.json`` (its record, with the array file's
SHA-256 and its own), so that a damaged file is never taken for a result. Each is written to a temporary file and renamed,
the JSON last: a trial is there when its JSON is. Several comparisons may share a store, also at the same time.
"""

import hashlib
import io
import json
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from autograd.atomic import write_atomically


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: one text for one value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def key_of(value: Any) -> str:
    """The first 24 hexadecimal digits of the SHA-256 of ``canonical(value)``."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:24]


def npz(arrays: dict[str, np.ndarray]) -> bytes:
    """Arrays as the bytes of an ``.npz`` file; equal arrays give equal bytes."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


class Store:
    """The trials in ``folder``. ``complaints`` collects a line for each file that was there but could not be used."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.complaints: list[str] = []

    def save(self, record: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """Store a finished trial under ``record["key"]``."""
        data = npz(arrays)
        key = record["key"]
        write_atomically(self.folder / f"{key}.npz", data)
        sealed = {**record, "sha256": hashlib.sha256(data).hexdigest()}
        sealed["record_sha256"] = _seal(sealed)
        write_atomically(self.folder / f"{key}.json", json.dumps(sealed, indent=1, ensure_ascii=False))

    def load(self, key: str) -> tuple[dict[str, Any], dict[str, np.ndarray]] | None:
        """A trial's record and arrays, or None if it is not there or damaged (then ``complaints`` says how)."""
        path = self.folder / f"{key}.json"
        try:
            text = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            self._damaged(path, error)
            return None
        try:
            record = json.loads(text)
            if record["key"] != key or record["record_sha256"] != _seal(record):
                raise ValueError("its checksum does not fit")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            self._damaged(path, error)
            return None
        path = path.with_suffix(".npz")
        try:
            data = path.read_bytes()
            if record["sha256"] != hashlib.sha256(data).hexdigest():
                raise ValueError("its checksum does not fit")
            with np.load(io.BytesIO(data), allow_pickle=False) as file:
                return record, dict(file)
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            self._damaged(path, error)
            return None

    def all_keys(self) -> list[str]:
        """The keys of the trials that are there, damaged or not."""
        return sorted(path.stem for path in self.folder.glob("[0-9a-f]*.json"))

    def keep_canary(self, digest: str, results: dict[str, np.ndarray]) -> None:
        """Keep what the canary computed, so that a machine with another one can be told how far apart they are."""
        path = self.folder / f"canary-{digest}.npz"
        if not path.exists():
            write_atomically(path, npz(results))

    def canary(self, digest: str) -> dict[str, np.ndarray] | None:
        """What a canary computed, or None if it was not kept or is damaged."""
        path = self.folder / f"canary-{digest}.npz"
        try:
            with np.load(path, allow_pickle=False) as file:
                return dict(file)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            self._damaged(path, error)
            return None

    def _damaged(self, path: Path, error: Exception) -> None:
        self.complaints.append(f"{path}: damaged ({str(error) or type(error).__name__})")


def _seal(record: dict[str, Any]) -> str:
    """The SHA-256 of a record without its own checksum."""
    kept = {name: value for name, value in record.items() if name != "record_sha256"}
    return hashlib.sha256(canonical(kept).encode()).hexdigest()
