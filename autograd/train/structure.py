"""A state as JSON and arrays: what ``files`` stores, and what it makes of it again.

JSON has no tuples, no infinities, no keys but strings, and no arrays. An object whose first key starts with ``$`` stands for
one of these: ``$tuple``, ``$dict`` (pairs), ``$float`` (the eight bytes in hexadecimal), ``$int`` (of more than 64 bits, in
hexadecimal) or ``$array`` (the name of a tensor, with ``dtype`` and ``shape`` where it is stored as a view).
"""

import contextlib
import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .. import backend
from ..tensor import DiffTensor

DEPTH = 100
"""Levels of nesting that a state may have."""

STORED = {
    "bool": "BOOL", "int8": "I8", "int16": "I16", "int32": "I32", "int64": "I64", "uint8": "U8", "uint16": "U16",
    "uint32": "U32", "uint64": "U64", "float16": "F16", "bfloat16": "BF16", "float32": "F32", "float64": "F64",
}  # fmt: skip
"""Dtypes that every safetensors library stores as they are. Other arrays are stored as views, with a note of their dtype."""
_DTYPES = {stored: name for name, stored in STORED.items()}


class CheckpointError(ValueError):
    """A checkpoint that cannot be written or read; one line names the file and the reason. Nothing was overwritten."""


class DamagedCheckpoint(CheckpointError):
    """A file that is truncated, altered, or no checkpoint at all."""


def encode(value: Any, where: tuple, arrays: dict[str, np.ndarray], path: str) -> Any:
    """``value`` as JSON; its arrays go into ``arrays``, under names made of their places."""
    kind = type(value)
    if kind in (bool, str, type(None)):
        return value
    if kind is int:
        return value if -(2**63) <= value < 2**63 else {"$int": hex(value)}
    if kind is float:
        return value if math.isfinite(value) else {"$float": struct.pack(">d", value).hex()}
    if len(where) >= DEPTH:
        raise CheckpointError(
            f"{path}: {_place(where[:3])}… is nested more than {DEPTH} levels deep; does it hold itself?"
        )
    if isinstance(value, dict):
        items = [(key, encode(v, (*where, key), arrays, path)) for key, v in value.items()]
        if all(type(key) is str and not key.startswith("$") for key in value):
            return dict(items)
        return {"$dict": [[_key(key, where, path), v] for key, v in items]}
    if kind is list or kind is tuple:
        items = [encode(v, (*where, i), arrays, path) for i, v in enumerate(value)]
        return items if kind is list else {"$tuple": items}
    if isinstance(value, DiffTensor) or backend.is_array(value):
        return encode_array(value, where, arrays, path)
    raise CheckpointError(
        f"{path}: {_place(where)} is a {kind.__module__}.{kind.__qualname__}; a state holds dicts, lists, tuples, numbers, "
        "strings, None and arrays"
    )


def _key(key: Any, where: tuple, path: str) -> Any:
    """A dict's key as JSON."""
    if type(key) is tuple:
        return {"$tuple": [_key(part, where, path) for part in key]}
    if type(key) not in (str, int, float, bool, type(None)):
        raise CheckpointError(
            f"{path}: {_place(where)} has the key {key!r:.60}, a {type(key).__name__}; keys are strings, numbers, None or tuples of them"
        )
    return encode(key, where, {}, path)


def encode_array(value: Any, where: tuple, arrays: dict[str, np.ndarray], path: str) -> dict[str, Any]:
    raw = value.raw if isinstance(value, DiffTensor) else value
    if raw is None:
        raise CheckpointError(f"{path}: {_place(where)} is a symbolic tensor: it has no value to save")
    if isinstance(raw, np.ma.MaskedArray):
        raise CheckpointError(f"{path}: {_place(where)} is a masked array; save its data and its mask")
    array = np.asarray(raw if isinstance(raw, np.generic) else backend.to_device(raw, "cpu"), order="C")
    note: dict[str, Any] = {"$array": _name(where, arrays)}
    if isinstance(raw, np.generic):
        note["scalar"] = True
    if array.dtype.name not in STORED or not array.dtype.isnative:
        note["dtype"] = _dtype_name(array.dtype)
        _refuse_objects(array.dtype, f"{path}: {_place(where)}")
        parts = (
            {"complex64": np.float32, "complex128": np.float64}.get(array.dtype.name) if array.dtype.isnative else None
        )
        flat = array.reshape(array.shape if array.ndim else (1,))
        as_parts = (
            flat[..., None].view(parts or np.uint8) if array.size else np.empty((*flat.shape, 0), parts or np.uint8)
        )
        array = as_parts.reshape((*array.shape, as_parts.shape[-1]))
        note["shape"] = list(flat.shape if np.ndim(raw) else ())
    arrays[note["$array"]] = array
    return note


def decode(value: Any, tensors: Mapping[str, Mapping[str, Any]], path: Path, depth: int = 0) -> Any:
    """What ``encode`` was given.

    Raises:
        KeyError, TypeError, ValueError, struct.error: ``encode`` makes no such JSON.
        CheckpointError: a library is missing.
    """
    if not isinstance(value, dict | list):
        return value
    if depth > DEPTH:
        raise ValueError(f"nested more than {DEPTH} levels deep")
    inside = lambda inner: decode(inner, tensors, path, depth + 1)
    if isinstance(value, list):
        return [inside(v) for v in value]
    tag = next(iter(value), "")
    if not tag.startswith("$"):
        return {key: inside(v) for key, v in value.items()}
    content = value[tag]
    if tag == "$array":
        return decode_array(value, tensors[content], path)
    if tag == "$tuple":
        return tuple(inside(v) for v in content)
    if tag == "$dict":
        return {decode(key, {}, path): inside(v) for key, v in content}
    if tag == "$int":
        return int(content, 16)
    if tag == "$float":
        return struct.unpack(">d", bytes.fromhex(content))[0]
    raise ValueError(f"the tag {tag!r} is not known")


def decode_array(note: Mapping[str, Any], tensor: Mapping[str, Any], path: Path) -> Any:
    name = _DTYPES.get(tensor["dtype"])
    if name is None:
        raise ValueError(f"the stored dtype {tensor['dtype']} is not known")
    array = np.frombuffer(tensor["data"], _dtype(name, path)).reshape(tensor["shape"])
    if "dtype" in note:
        dtype = _dtype(note["dtype"], path)
        _refuse_objects(dtype, str(path))
        array = array.reshape(-1).view(dtype).reshape(note["shape"]) if array.size else np.empty(note["shape"], dtype)
    return array[()] if note.get("scalar") else array


def _dtype_name(dtype: np.dtype) -> str:
    """A name that makes the dtype again, here and on other machines."""
    return dtype.name if dtype.type.__module__.startswith("ml_dtypes") else dtype.str


def _dtype(name: str, path: Path) -> np.dtype:
    with contextlib.suppress(TypeError):
        return np.dtype(name)
    try:
        import ml_dtypes
    except ImportError:
        raise CheckpointError(f"{path}: holds {name} arrays; to read them: pip install ml_dtypes") from None
    return np.dtype(getattr(ml_dtypes, name))


def _refuse_objects(dtype: np.dtype, what: str) -> None:
    if dtype.hasobject or dtype.fields or dtype.subdtype or not dtype.itemsize:
        raise CheckpointError(f"{what} is an array of {dtype}; arrays of numbers, times and strings can be saved")


def _name(where: tuple, taken: Mapping[str, Any]) -> str:
    """The name of the array at a place: its keys, joined by dots, and a number where that name is taken."""
    name = ".".join(map(str, where)).encode("utf-8", "backslashreplace").decode()  # a lone surrogate is no UTF-8
    tries = (name, *(f"{name}~{n}" for n in range(2, len(taken) + 3)))
    return next(t for t in tries if t not in taken and t != "__metadata__")


def _place(where: tuple) -> str:
    return "state" + "".join(f"[{part!r:.60}]" for part in where)


def to_json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)
