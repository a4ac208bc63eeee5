"""The parts of a batch on their way into a model and out of it."""

from typing import Any

from .. import backend
from ..halves import is_half, single
from ..tensor import DiffTensor


def count(target: Any) -> int:
    """The number of examples of a batch."""
    shape = getattr(target, "shape", None)
    return int(shape[0]) if shape else len(target) if hasattr(target, "__len__") else 1


def length(data: Any) -> int | None:
    """The number of batches of an epoch, where it is known."""
    try:
        return len(data)
    except TypeError:
        return None


def tensor(part: Any) -> Any:
    return DiffTensor(part, copy=False) if backend.is_array(part) else part


def beside(part: Any, like: Any) -> Any:
    """An array on the device of the parameters; anything else as it is."""
    raw = part.raw if isinstance(part, DiffTensor) else part
    if raw is None and part is not None:
        return part  # a symbolic tensor: it is traced
    if not backend.is_array(raw) or type(raw) is type(like):
        return raw
    return backend.to_device(raw, backend.place_of(like))


def host(x: Any) -> Any:
    raw = x.raw if isinstance(x, DiffTensor) else x
    raw = backend.to_device(raw, "cpu") if backend.is_array(raw) else raw
    return single(raw) if backend.is_array(raw) and is_half(raw.dtype) else raw
