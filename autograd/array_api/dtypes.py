"""Dtypes, and the functions about them. A dtype is NumPy's ``numpy.dtype``, which is what tensors have."""

from typing import Any, NamedTuple

import numpy as np

from .. import backend, ops
from ..shapes import numpy_dtype
from ..tensor import DiffTensor
from ._arrays import NUMBERS, tensor

NAMES = (
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32", "float64", "complex64", "complex128",
)  # fmt: skip
DTYPES = {name: np.dtype(name) for name in NAMES}

__all__ = ["astype", "can_cast", "finfo", "iinfo", "isdtype", "result_type"]


class FloatInfo(NamedTuple):
    """Limits of a floating-point dtype (of the parts of a complex one)."""

    bits: int
    eps: float
    max: float
    min: float
    smallest_normal: float
    dtype: np.dtype


class IntInfo(NamedTuple):
    """Limits of an integer dtype."""

    bits: int
    max: int
    min: int
    dtype: np.dtype


def _dtype(value: Any) -> np.dtype:
    return numpy_dtype(value.dtype if type(value) is DiffTensor or backend.is_array(value) else value)


def astype(x: Any, dtype: Any, /, *, copy: bool = True, device: str | None = None) -> DiffTensor:
    """x in another dtype. To integers or booleans it is a constant to the gradient.

    Raises:
        TypeError: a complex tensor is to become real; say which part, with ``real(x)`` or ``imag(x)``.
    """
    x, dtype = tensor(x), numpy_dtype(dtype)
    if backend.is_complex(x.dtype) and not backend.is_complex(dtype):
        raise TypeError(f"astype: a complex tensor does not become {dtype}; write real(x), imag(x) or abs(x) before")
    same = numpy_dtype(x.dtype) == dtype
    found = x if same and not copy else ops.astype(x, dtype)
    return found if device is None else found.to_device(device)


def can_cast(from_: Any, to: Any, /) -> bool:
    """Whether values of a dtype (or of a tensor's) fit another one, by the standard's rules of promotion."""
    return np.can_cast(_dtype(from_), numpy_dtype(to))


def result_type(*arrays_and_dtypes: Any) -> np.dtype:
    """The dtype that tensors, dtypes and Python numbers are promoted to. Kinds that the standard does not mix are mixed as
    NumPy does: integers with floats become float64 unless they are Python numbers."""
    return np.result_type(*(x if type(x) in NUMBERS else _dtype(x) for x in arrays_and_dtypes))


def isdtype(dtype: Any, kind: Any) -> bool:
    """Whether a dtype is of a kind: "bool", "signed integer", "unsigned integer", "integral", "real floating",
    "complex floating" or "numeric"; another dtype; or one of a tuple of these."""
    if isinstance(kind, tuple):
        return any(isdtype(dtype, k) for k in kind)
    return bool(np.isdtype(numpy_dtype(dtype), kind if isinstance(kind, str) else numpy_dtype(kind)))


def finfo(type: Any, /) -> FloatInfo:
    """Limits of a floating-point or complex dtype, or of a tensor's."""
    found = np.finfo(_dtype(type))
    limits = (float(found.eps), float(found.max), float(found.min), float(found.smallest_normal))
    return FloatInfo(int(found.bits), *limits, np.dtype(found.dtype))


def iinfo(type: Any, /) -> IntInfo:
    """Limits of an integer dtype, or of a tensor's."""
    found = np.iinfo(_dtype(type))
    return IntInfo(found.bits, int(found.max), int(found.min), found.dtype)
