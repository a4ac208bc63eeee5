"""Trials on disk: a folder of finished trials, each under the key of everything that decides its bits.

A trial is one file, ``KEY.npz``: its arrays (without pickle) and its record (``record.json`` in the same zip). The last 64
bytes, which are the zip's comment, are the SHA-256 of all bytes before them, so that a damaged file is never taken for a
result. Files are written under another name, flushed and renamed: a trial is there whole or not at all, and two
comparisons that run one trial at the same time leave the one or the other. So several may share a store.

The files are the truth. ``index`` keeps a table of them, which may be deleted at any time.
"""

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from autograd.atomic import write_atomically

RECORD = "record.json"
SEAL = 64
"""The length of the checksum at a file's end: the hexadecimal digits of a SHA-256."""


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


def sealed(record: dict[str, Any], arrays: dict[str, np.ndarray]) -> bytes:
    """A trial as the bytes of its file."""
    buffer = io.BytesIO(npz(arrays))
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED) as out:
        entry = zipfile.ZipInfo(RECORD, (1980, 1, 1, 0, 0, 0))
        entry.compress_type = zipfile.ZIP_DEFLATED
        out.writestr(entry, json.dumps(record, indent=1, ensure_ascii=False))
        out.comment = b"0" * SEAL
    content = buffer.getvalue()[:-SEAL]
    return content + hashlib.sha256(content).hexdigest().encode()


def opened(data: bytes) -> np.lib.npyio.NpzFile:
    """The arrays and the record in the bytes of a trial's file.

    Raises:
        ValueError: the bytes are damaged.
    """
    if len(data) <= SEAL or data[-SEAL:] != hashlib.sha256(data[:-SEAL]).hexdigest().encode():
        raise ValueError("its checksum does not fit")
    try:
        return np.load(io.BytesIO(data), allow_pickle=False)
    except (OSError, EOFError, zipfile.BadZipFile) as error:  # sealed, but by something else
        raise ValueError(f"not a trial: {error}") from None


class Store:
    """The trials in ``folder``. ``complaints`` collects a line for each file that was there but could not be used."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.complaints: list[str] = []

    def path(self, key: str) -> Path:
        """The file of a trial."""
        return self.folder / f"{key}.npz"

    def save(self, record: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """Store a finished trial under ``record["key"]``. One that is there and sound stays: its times are in reports."""
        if Store(self.folder).record(record["key"]) is None:
            write_atomically(self.path(record["key"]), sealed(record, arrays))

    def load(self, key: str) -> tuple[dict[str, Any], dict[str, np.ndarray]] | None:
        """A trial's record and arrays, or None if it is not there or damaged (then ``complaints`` says how)."""
        read = self._read(key)
        if read is None:
            return None
        with read as file:
            return json.loads(bytes(file[RECORD])), {name: file[name] for name in file.files if name != RECORD}

    def record(self, key: str) -> dict[str, Any] | None:
        """A trial's record without its arrays, or None as from ``load``."""
        read = self._read(key)
        if read is None:
            return None
        with read as file:
            return json.loads(bytes(file[RECORD]))

    def _read(self, key: str) -> np.lib.npyio.NpzFile | None:
        path = self.path(key)
        try:
            file = opened(path.read_bytes())
            if RECORD not in file.files or json.loads(bytes(file[RECORD])).get("key") != key:
                raise ValueError("it is another trial's, or none")
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            self._damaged(path, error)
            return None
        return file

    def seals(self, keys: Sequence[str]) -> dict[str, str]:
        """The checksum of each trial's file, computed from its bytes; trials that are not there are left out."""
        found = {}
        for key in keys:
            try:
                data = self.path(key).read_bytes()
            except OSError:
                continue
            found[key] = hashlib.sha256(data).hexdigest()
        return found

    def all_keys(self) -> list[str]:
        """The keys of the trials that are there, damaged or not."""
        return sorted(path.stem for path in self.folder.glob("[0-9a-f]*.npz") if not path.stem.startswith("canary"))

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
