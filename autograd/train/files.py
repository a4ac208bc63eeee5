"""One checkpoint, one file: arrays as safetensors tensors, everything else as JSON in the header, a checksum over both.

A file is written beside its place, flushed to the disk and renamed: at any time, whatever is killed, the name stands for the
old file or the new one. Nothing in a file is ever run: there is no pickle, and ``torch.save`` files are refused. Any program
that reads safetensors can read the arrays, under the names of their places in the state: ``model.0.weight``.

The header's ``__metadata__`` has one entry, ``hammer checkpoint 1``: the SHA-256 of the text after it, a blank, and the text,
JSON with ``about``, a few facts that ``folder`` reads without the arrays; ``arrays``, the SHA-256 of the arrays with their
names, dtypes and shapes; and ``state`` (see ``structure``). Equal states give equal files.

    >>> import tempfile, numpy as np
    >>> path = Path(tempfile.mkdtemp()) / "run.safetensors"
    >>> save_state(path, {"model": {"w": np.ones(3, np.float32)}, "best": float("inf"), "shape": (2, 3)})
    >>> load_state(path)
    {'model': {'w': array([1., 1., 1.], dtype=float32)}, 'best': inf, 'shape': (2, 3)}
"""

import hashlib
import io
import json
import os
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..atomic import replacing
from .structure import STORED, CheckpointError, DamagedCheckpoint, decode, encode, to_json

FORMAT = "hammer checkpoint 1"
SUFFIX = ".safetensors"


def save_state(path: Path | str, state: Mapping[str, Any], about: Mapping[str, Any] | None = None) -> None:
    """Write a state to one file, as a whole or not at all.

    Args:
        path: a name that ends with ``.safetensors``, in a folder that is there. A file of that name is replaced.
        state: nested dicts, lists and tuples of None, booleans, integers of any size, floats (NaN and infinities too),
            strings, and arrays or tensors of any supported library (stored from the host).
        about: facts to be read without the arrays, by ``read_about``: a dict of the same values without arrays.

    Raises:
        CheckpointError: a value that cannot be stored (the message has its path), a missing library, or the disk's refusal.
    """
    path = Path(path)
    if path.suffix != SUFFIX:
        raise CheckpointError(f"{path}: the name of a checkpoint ends with {SUFFIX}")
    arrays: dict[str, np.ndarray] = {}
    facts: dict[str, np.ndarray] = {}
    content = {
        "about": encode(dict(about or {}), (), facts, str(path)),
        "state": encode(dict(state), (), arrays, str(path)),
        "arrays": _digest_of((name, STORED[a.dtype.name], a.shape, _bytes_of(a)) for name, a in arrays.items()),
    }
    if facts:
        raise CheckpointError(f"{path}: about[{min(facts)!r}] is an array; arrays belong into the state")
    text = to_json(content)
    _write(path, arrays, {FORMAT: f"{hashlib.sha256(text.encode()).hexdigest()} {text}"})


def load_state(path: Path | str) -> dict[str, Any]:
    """The state in a file of ``save_state``, after checking all of it. Arrays are NumPy's, with the dtypes and shapes saved.

    Raises:
        DamagedCheckpoint: the file is truncated, altered, or something else; the message says what, and what to do.
        CheckpointError: it cannot be read, or a library is missing.
    """
    path = Path(path)
    data = _contents(path)
    content = _header(path, io.BytesIO(data).read, len(data))
    tensors = _tensors(path, data)
    del data
    stated = ((name, t["dtype"], t["shape"], t["data"]) for name, t in tensors.items())
    if content.get("arrays") != _digest_of(stated):
        raise DamagedCheckpoint(f"{path}: its arrays were altered after it was saved: their checksum does not fit")
    return _decoded(content, "state", tensors, path)


def read_about(path: Path | str) -> dict[str, Any]:
    """The facts given to ``save_state``. Reads the header only, and checks that the file is as long as the header says.

    Raises:
        DamagedCheckpoint, CheckpointError: as ``load_state``, as far as the header shows it.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            content = _header(path, file.read, size)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from None
    return _decoded(content, "about", {}, path)


def _decoded(content: Mapping[str, Any], part: str, tensors: Mapping[str, Any], path: Path) -> dict[str, Any]:
    try:
        found = decode(content[part], tensors, path)
    except CheckpointError:
        raise
    except (
        KeyError,
        IndexError,
        TypeError,
        ValueError,
        OverflowError,
        RecursionError,
        AttributeError,
        struct.error,
    ) as error:
        raise DamagedCheckpoint(f"{path}: its {part} makes no sense ({type(error).__name__}: {_line(error)})") from None
    if not isinstance(found, dict):
        raise DamagedCheckpoint(f"{path}: its {part} is a {type(found).__name__}, not names and values")
    return found


# ---- checksums ----


def _bytes_of(array: np.ndarray) -> Any:
    return array.reshape(-1).view(np.uint8).data if array.size else b""


def _digest_of(tensors: Iterable[tuple[str, str, Iterable[int], Any]]) -> str:
    """SHA-256 over the tensors in the order of their names: name, dtype and shape, then the bytes.

    Each part has its length before it, so that no two sets of tensors have the same text.
    """
    digest = hashlib.sha256()
    for name, dtype, shape, content in sorted(tensors, key=_first):
        for part in (to_json([name, dtype, list(shape)]).encode(), content):
            digest.update(b"%d:" % len(part))
            digest.update(part)
    return digest.hexdigest()


def _first(parts: Sequence[Any]) -> Any:
    return parts[0]


# ---- the disk ----


def _library() -> Any:
    try:
        import safetensors.numpy
    except ImportError:
        raise CheckpointError('checkpoints need safetensors; install with: pip install "hammer-grad[train]"') from None
    return safetensors


def _write(path: Path, arrays: Mapping[str, np.ndarray], header: Mapping[str, str]) -> None:
    library = _library()
    try:
        with replacing(path, temporary_of(path)) as temporary:
            library.numpy.save_file(dict(arrays), temporary, metadata=dict(header))
    except (OSError, library.SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else _line(error)
        raise CheckpointError(f"{path}: cannot be written: {reason}") from None


def temporary_of(path: Path) -> Path:
    """The file that ``save_state(path, …)`` writes before it has its name. It is left behind only by a process that is killed."""
    return path.with_name(f".{path.name}.tmp")


def _contents(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except IsADirectoryError:
        raise CheckpointError(f"{path}: is a folder; name a checkpoint in it") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from None


_FOREIGN = {
    b"PK\x03\x04": "a ZIP archive, as torch.save and numpy.savez write; what torch.save wrote holds a pickle, which can run any "
    "code and is never read: load it with torch.load(..., weights_only=True) where you trust it, and save its tensors with "
    "safetensors.torch.save_file",
    b"\x80": "a pickle, as old torch.save and pickle.dump write; a pickle can run any code and is never read: save arrays, not "
    "objects, with save_state or safetensors",
    b"\x89HDF": "an HDF5 file, as Keras writes; save its arrays with safetensors.numpy.save_file",
    b"\x93NUMPY": "a NumPy array file (.npy); a checkpoint is written by save_state",
    b"\x1f\x8b": "a gzip file; decompress it first",
    b"{": "a text file (JSON?); a checkpoint is written by save_state",
}


def _header(path: Path, read: Callable[[int], bytes], size: int) -> dict[str, Any]:
    """What the header says, after checking what can be checked without the arrays. ``read(n)`` gives the next n bytes."""
    if not size:
        raise DamagedCheckpoint(f"{path}: is empty")
    first = read(9)
    length = int.from_bytes(first[:8], "little")
    if first[8:] != b"{"[: max(0, size - 8)]:  # what every safetensors file has there
        what = next(
            (what for magic, what in _FOREIGN.items() if first.startswith(magic)),
            "not a safetensors file, or a damaged one",
        )
        raise DamagedCheckpoint(f"{path}: is {what}")
    if length > size - 8:
        raise DamagedCheckpoint(f"{path}: truncated inside the header, or damaged ({size} bytes)")
    try:
        header = json.loads((first[8:] + read(length - 1)).decode("utf-8"))
        entries = header.pop("__metadata__", {})
        end = int(max((t["data_offsets"][1] for t in header.values()), default=0))
        formats = [name for name in entries if name.startswith("hammer checkpoint")]
        text = entries.get(FORMAT, "")
        digest, _, content = text.partition(" ")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError, RecursionError):
        raise DamagedCheckpoint(
            f"{path}: its header cannot be read; it is damaged, or not a safetensors file"
        ) from None
    if 8 + length + end != size:
        what = "truncated" if size < 8 + length + end else "longer than its header says"
        raise DamagedCheckpoint(f"{path}: {what}: {size} bytes, not {8 + length + end}")
    if not formats:
        raise _foreign(path)
    if formats != [FORMAT]:
        raise DamagedCheckpoint(
            f"{path}: its format is {formats[0]!r:.60}, and this version reads {FORMAT!r}; was it saved by a newer version?"
        )
    if digest != hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest() or entries.keys() != {FORMAT}:
        raise DamagedCheckpoint(f"{path}: its header was altered after it was saved: its checksum does not fit")
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DamagedCheckpoint(f"{path}: its header makes no sense ({_line(error)})") from None
    return found if isinstance(found, dict) else {}


def _foreign(path: Path) -> DamagedCheckpoint:
    return DamagedCheckpoint(
        f"{path}: a safetensors file of another program: it has arrays, but no state of a run; read them with "
        "safetensors.numpy.load_file and give them to model.load_state_dict"
    )


def _tensors(path: Path, data: bytes) -> dict[str, Any]:
    library = _library()
    try:
        return dict(library.deserialize(data))
    except library.SafetensorError as error:
        raise DamagedCheckpoint(f"{path}: its header does not fit its arrays: {_line(error)}") from None


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
