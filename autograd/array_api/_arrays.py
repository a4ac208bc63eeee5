"""What the families of the namespace share: how arguments become tensors, and where constants are put."""

from typing import Any

import numpy as np

from .. import backend
from ..batch import Batch, physical
from ..context import current
from ..shapes import numpy_dtype
from ..tensor import DiffTensor

NUMBERS = (bool, int, float, complex)
"""Python's numbers; beside a tensor they take its dtype, as far as their kind allows."""


def tensor(x: Any) -> DiffTensor:
    """An argument as a tensor: arrays are copied, anything else is a TypeError."""
    if type(x) is DiffTensor:
        return x
    if backend.is_array(x):
        return DiffTensor(x)
    raise TypeError(
        f"the functions of autograd.array_api take tensors, not {type(x).__name__}; make one with asarray(), or of another "
        "library's array with from_dlpack()"
    )


def operands(*xs: Any) -> list:
    """Arguments of which all but one may be Python numbers."""
    found = [x if type(x) in NUMBERS else tensor(x) for x in xs]
    if not any(type(x) is DiffTensor for x in found):
        raise TypeError("a tensor is needed among the arguments, not Python numbers alone; make one with asarray()")
    return found


def number(value: Any, name: str) -> Any:
    """An argument that must be a plain number: a tensor of one element gives its value, unless it is tracked."""
    if type(value) is DiffTensor:
        if value.node is not None:
            raise TypeError(f"{name} has no gradient here, and this tensor is tracked; write {name}.detach()")
        return value.item()
    return value


def value_of(x: DiffTensor, name: str) -> Any:
    """The raw array, for a function whose result has a shape that depends on values."""
    raw = x._value(name)
    return raw._read(name, lambda shared: value_of(shared, name)) if type(raw) is Batch else raw


def dtype_of(dtype: Any) -> np.dtype | None:
    return None if dtype is None else numpy_dtype(dtype)


def default_float() -> np.dtype:
    """The dtype of Python floats: the context's, or float64."""
    context = current()
    return np.dtype(np.float64 if context is None or context.dtype is None else context.dtype)


def constant(array: Any, device: str | None = None) -> DiffTensor:
    """A new NumPy array as a constant on a device; that of the context, or the CPU, if None."""
    return DiffTensor(array, device="cpu" if device == "symbolic" else device, copy=False)


def beside(x: DiffTensor, array: np.ndarray, device: str | None = None) -> DiffTensor:
    """A new NumPy array as a constant of the library, and on the device, of x."""
    raw = physical(x.raw)
    if device is not None or raw is None:
        return constant(array, device or "cpu")
    return DiffTensor._wrap(backend.scalar(backend.to_device(array, backend.place_of(raw))), None)
