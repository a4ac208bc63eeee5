"""Sums, moments, extrema and scans, truth values and differences: rows of the op table under the standard's names."""

from typing import Any

import numpy as np

from .. import ops
from ..shapes import numpy_dtype
from ..tensor import DiffTensor
from ._arrays import beside, number, tensor

__all__ = [
    "all", "any", "cumulative_prod", "cumulative_sum", "diff", "max", "mean", "min", "prod", "std", "sum", "var",
]  # fmt: skip


def _in(x: Any, dtype: Any) -> DiffTensor:
    """x in a dtype to add up in, or the sum in it: rows add up small integers as 64-bit ones. None leaves all as it is."""
    x = tensor(x)
    return x if dtype is None or numpy_dtype(x.dtype) == numpy_dtype(dtype) else ops.astype(x, numpy_dtype(dtype))


def sum(x: Any, /, *, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> DiffTensor:
    """The sum over axes (all if None), in a dtype; small integers are added up as 64-bit ones if None."""
    return _in(ops.sum(_in(x, dtype), axis=axis, keepdims=keepdims), dtype)


def prod(x: Any, /, *, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> DiffTensor:
    """The product over axes (all if None), in a dtype; small integers are multiplied as 64-bit ones if None."""
    return _in(ops.prod(_in(x, dtype), axis=axis, keepdims=keepdims), dtype)


def mean(x: Any, /, *, axis: Any = None, keepdims: bool = False) -> DiffTensor:
    return ops.mean(tensor(x), axis=axis, keepdims=keepdims)


def var(x: Any, /, *, axis: Any = None, correction: float = 0.0, keepdims: bool = False) -> DiffTensor:
    """The variance over axes (all if None), divided by n - correction."""
    return ops.var(tensor(x), axis=axis, keepdims=keepdims, correction=number(correction, "correction"))


def std(x: Any, /, *, axis: Any = None, correction: float = 0.0, keepdims: bool = False) -> DiffTensor:
    """The standard deviation over axes (all if None), with n - correction."""
    return ops.std(tensor(x), axis=axis, keepdims=keepdims, correction=number(correction, "correction"))


def max(x: Any, /, *, axis: Any = None, keepdims: bool = False) -> DiffTensor:
    """The largest element over axes (all if None); ties share the derivative."""
    return ops.max(tensor(x), axis=axis, keepdims=keepdims)


def min(x: Any, /, *, axis: Any = None, keepdims: bool = False) -> DiffTensor:
    """The smallest element over axes (all if None); ties share the derivative."""
    return ops.min(tensor(x), axis=axis, keepdims=keepdims)


def all(x: Any, /, *, axis: Any = None, keepdims: bool = False) -> DiffTensor:
    return ops.all(tensor(x), axis=axis, keepdims=keepdims)


def any(x: Any, /, *, axis: Any = None, keepdims: bool = False) -> DiffTensor:
    return ops.any(tensor(x), axis=axis, keepdims=keepdims)


# ---- scans ----


def _scan(row: Any, first: int, x: Any, axis: int | None, dtype: Any, include_initial: bool) -> DiffTensor:
    x = _in(x, dtype)
    if axis is None and x.ndim != 1:
        raise ValueError(f"{row.__name__}: a tensor of {x.ndim} axes needs an axis")
    axis = 0 if axis is None else axis
    found = _in(row(x, axis=axis), dtype)
    if not include_initial:
        return found
    shape = list(found.shape)
    shape[axis] = 1
    return ops.concat([beside(found, np.full(shape, first, numpy_dtype(found.dtype))), found], axis=axis)


def cumulative_sum(
    x: Any, /, *, axis: int | None = None, dtype: Any = None, include_initial: bool = False
) -> DiffTensor:
    """Running sums along an axis, which only a vector may leave out; from 0 on with ``include_initial``."""
    return _scan(ops.cumsum, 0, x, axis, dtype, include_initial)


def cumulative_prod(
    x: Any, /, *, axis: int | None = None, dtype: Any = None, include_initial: bool = False
) -> DiffTensor:
    """Running products along an axis, which only a vector may leave out; from 1 on with ``include_initial``."""
    return _scan(ops.cumprod, 1, x, axis, dtype, include_initial)


def diff(x: Any, /, *, axis: int = -1, n: int = 1, prepend: Any = None, append: Any = None) -> DiffTensor:
    """The n-th differences of neighbours along an axis, of x with ``prepend`` and ``append`` (tensors, or None) at its ends."""
    ends = (None if end is None else tensor(end) for end in (prepend, append))
    return ops.diff(tensor(x), n, axis, *ends)
