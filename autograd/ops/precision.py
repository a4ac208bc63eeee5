"""The precision that kernels of linear algebra and special functions compute in.

LAPACK, FFT libraries and SciPy's special functions know single and double precision only, and widen what they are given
by rules of their own. ``computed`` makes a kernel keep the table's promise: float32 stays float32, float16 is computed
in float32 and rounded, integers and booleans count as float64.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import backend
from ..backend import xp
from ..shapes import floating, numpy_dtype, result_dtype

HALF, SINGLE = np.dtype(np.float16), np.dtype(np.float32)


def cast(x: Any, dtype: np.dtype) -> Any:
    """A raw array in another dtype."""
    if numpy_dtype(x.dtype) == dtype:
        return x
    return x.astype(dtype) if hasattr(x, "astype") else xp(x).astype(x, getattr(xp(x), dtype.name))


def result_float(*xs: Any) -> np.dtype:
    """NumPy's result of the dtypes, and float64 for integers and booleans."""
    return floating(result_dtype(*xs))


def real_float(*xs: Any) -> np.dtype:
    """As ``result_float``, but beside a floating-point array one of integers (an order, a shape) does not widen."""
    inexact = [x for x in xs if hasattr(x, "dtype") and backend.is_inexact(x.dtype)]
    return result_float(*(inexact or xs))


def computed(kernel: Callable, due: Callable[..., np.dtype] = result_float) -> Callable:
    """The kernel, with all its inputs made arrays of one floating-point dtype, single precision or more; what it returns is
    rounded to the precision ``due(*inputs)``."""

    @functools.wraps(kernel)  # the table reads inputs and parameters from the signature
    def run(*xs: Any, **params: Any) -> Any:
        dtype = due(*xs)
        wide = SINGLE if dtype == HALF else dtype
        like = next((x for x in xs if hasattr(x, "dtype")), None)
        out = kernel(*(cast(x, wide) if hasattr(x, "dtype") else _array(x, wide, like) for x in xs), **params)
        if isinstance(out, tuple):
            return tuple(_rounded(o, dtype) for o in out)
        return _rounded(out, dtype)

    return run


def _array(x: Any, dtype: np.dtype, like: Any) -> Any:
    """A Python number as an array beside another."""
    library = np if like is None else xp(like)
    if library.__name__ in ("numpy", "cupy"):
        return dtype.type(x)
    return library.full((), x, dtype=getattr(library, dtype.name), device=like.device)


def _rounded(out: Any, due: np.dtype) -> Any:
    found = numpy_dtype(out.dtype)
    if found.kind == "f" and found.itemsize != np.finfo(due).bits // 8:
        return cast(out, np.dtype(f"f{np.finfo(due).bits // 8}"))
    return backend.scalar(out)


def complexed(dtype: Any) -> np.dtype:
    """The complex dtype of the same precision (of single precision, for float16: there is no smaller one)."""
    dtype = floating(dtype)
    return dtype if dtype.kind == "c" else np.dtype(f"c{max(2 * dtype.itemsize, 8)}")
