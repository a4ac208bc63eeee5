"""Shape and dtype rules: what an operation's output will be, before it is computed.

A rule is called as ``rule(*inputs, **params)`` where an input is anything with ``shape`` and ``dtype``, or a Python
number (which never widens a dtype, as in NumPy 2). It returns ``(shape, dtype)``, or a list of such pairs for an
operation with several outputs. Dtypes are NumPy's.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

Aval = tuple[tuple[int, ...], Any]
BOOL, INT = np.dtype(bool), np.dtype(np.int64)


def shape_of(x: Any) -> tuple[int, ...]:
    return tuple(getattr(x, "shape", ()))


def numpy_dtype(dtype: Any) -> np.dtype:
    """NumPy's dtype for a dtype of any library."""
    try:
        return np.dtype(dtype)
    except TypeError:
        return np.dtype(str(dtype).rpartition(".")[2])


def result_dtype(*xs: Any) -> np.dtype:
    dtypes = [numpy_dtype(x.dtype) if hasattr(x, "dtype") else x for x in xs]
    if any(isinstance(d, np.dtype) and d.kind == "V" for d in dtypes):  # NumPy knows too little of bfloat16
        own = [d for d in dtypes if isinstance(d, np.dtype) and d.kind == "V"]
        widening = [d for d in dtypes if isinstance(d, (np.dtype, complex)) and np.result_type(d).kind in "fc"]
        return np.result_type(np.float32, *widening) if widening else own[0]
    return np.result_type(*dtypes)


def floating(dtype: Any) -> np.dtype:
    """The dtype in which a function such as exp returns: integers and booleans become float64."""
    dtype = numpy_dtype(dtype)
    return dtype if dtype.kind in "fcV" else np.dtype(np.float64)


def ufunc_floating(dtype: Any) -> np.dtype:
    """The dtype in which NumPy's own exp returns: of integers and booleans the smallest float that holds them all."""
    dtype = numpy_dtype(dtype)
    return np.result_type(dtype, np.float16) if dtype.kind in "biu" else dtype


def counting(dtype: Any) -> np.dtype:
    """The dtype in which NumPy multiplies a number by itself: booleans become int8."""
    dtype = numpy_dtype(dtype)
    return np.dtype(np.int8) if dtype.kind == "b" else dtype


def real_dtype(dtype: Any) -> np.dtype:
    dtype = numpy_dtype(dtype)
    return np.dtype(f"f{dtype.itemsize // 2}") if dtype.kind == "c" else dtype


# ---- elementwise ----


def stretched(*xs: Any, **_: Any) -> Aval:
    """Broadcast shapes, promoted dtypes."""
    return np.broadcast_shapes(*map(shape_of, xs)), result_dtype(*xs)


def stretched_float(*xs: Any, **_: Any) -> Aval:
    return np.broadcast_shapes(*map(shape_of, xs)), floating(result_dtype(*xs))


def stretched_ufunc(*xs: Any, **_: Any) -> Aval:
    return np.broadcast_shapes(*map(shape_of, xs)), ufunc_floating(result_dtype(*xs))


def stretched_counting(*xs: Any, **_: Any) -> Aval:
    return np.broadcast_shapes(*map(shape_of, xs)), counting(result_dtype(*xs))


def compared(*xs: Any, **_: Any) -> Aval:
    return np.broadcast_shapes(*map(shape_of, xs)), BOOL


def same(x: Any, **_: Any) -> Aval:
    return shape_of(x), result_dtype(x)


def same_float(x: Any, **_: Any) -> Aval:
    return shape_of(x), floating(result_dtype(x))


def same_ufunc(x: Any, **_: Any) -> Aval:
    return shape_of(x), ufunc_floating(result_dtype(x))


def same_counting(x: Any, **_: Any) -> Aval:
    return shape_of(x), counting(result_dtype(x))


def same_real(x: Any, **_: Any) -> Aval:
    return shape_of(x), real_dtype(result_dtype(x))


def same_bool(x: Any, **_: Any) -> Aval:
    return shape_of(x), BOOL


# ---- axes ----


def axes_of(axis: int | Sequence[int] | None, ndim: int) -> tuple[int, ...]:
    """Axes as a sorted tuple of numbers from 0; None is all of them."""
    if axis is None:
        return tuple(range(ndim))
    axes = (axis,) if isinstance(axis, (int, np.integer)) else tuple(axis)
    for a in axes:
        if not -ndim <= a < ndim:
            raise ValueError(f"axis {a} is out of range for an array of {ndim} axes")
    found = tuple(sorted(a % ndim for a in axes))
    if len(set(found)) < len(found):
        raise ValueError(f"axis {axis} names an axis twice")
    return found


def kept(shape: tuple[int, ...], axis: Any) -> tuple[int, ...]:
    """The shape with the axes reduced to length one."""
    axes = axes_of(axis, len(shape))
    return tuple(1 if i in axes else n for i, n in enumerate(shape))


def reduced_shape(shape: tuple[int, ...], axis: Any, keepdims: bool) -> tuple[int, ...]:
    axes = axes_of(axis, len(shape))
    return kept(shape, axis) if keepdims else tuple(n for i, n in enumerate(shape) if i not in axes)


def length(shape: tuple[int, ...], axis: Any) -> int:
    """How many elements are reduced into one."""
    return math.prod(shape[a] for a in axes_of(axis, len(shape)))


def reduced(x: Any, axis: Any = None, keepdims: bool = False, **_: Any) -> Aval:
    return reduced_shape(shape_of(x), axis, keepdims), result_dtype(x)


def reduced_float(x: Any, axis: Any = None, keepdims: bool = False, **_: Any) -> Aval:
    return reduced_shape(shape_of(x), axis, keepdims), floating(result_dtype(x))


def reduced_real(x: Any, axis: Any = None, keepdims: bool = False, **_: Any) -> Aval:
    return reduced_shape(shape_of(x), axis, keepdims), real_dtype(floating(result_dtype(x)))


def summed(x: Any, axis: Any = None, keepdims: bool = False, **_: Any) -> Aval:
    """As ``reduced``; booleans and small integers are added up as 64-bit ones."""
    dtype = result_dtype(x)
    if dtype.kind in "bi":
        dtype = INT
    return reduced_shape(shape_of(x), axis, keepdims), np.dtype(np.uint64) if dtype.kind == "u" else dtype


def reduced_bool(x: Any, axis: Any = None, keepdims: bool = False, **_: Any) -> Aval:
    return reduced_shape(shape_of(x), axis, keepdims), BOOL


def reduced_index(x: Any, axis: Any = None, keepdims: bool = False, **_: Any) -> Aval:
    return reduced_shape(shape_of(x), axis, keepdims), INT


# ---- layout ----


def reshaped(x: Any, shape: Any) -> Aval:
    old = shape_of(x)
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    if -1 in shape:
        rest = -math.prod(shape)
        if rest <= 0 or math.prod(old) % rest:
            raise ValueError(f"reshape: cannot reshape {old} into {shape}")
        shape = tuple(math.prod(old) // rest if n == -1 else n for n in shape)
    if math.prod(shape) != math.prod(old):
        raise ValueError(f"reshape: cannot reshape {old} ({math.prod(old)} elements) into {shape} ({math.prod(shape)})")
    return shape, result_dtype(x)


def product(x: Any, y: Any) -> Aval:
    """matmul's rule, vectors included."""
    a, b = shape_of(x), shape_of(y)
    if not a or not b:
        raise ValueError(f"matmul: needs arrays of one axis or more, not shapes {a} and {b}; use * for numbers")
    inner = b[-2] if len(b) > 1 else b[0]
    if a[-1] != inner:
        raise ValueError(f"matmul: shapes {a} and {b} do not fit: {a[-1]} columns against {inner} rows")
    batch = np.broadcast_shapes(a[:-2], b[:-2])
    return batch + (a[-2:-1] if len(a) > 1 else ()) + (b[-1:] if len(b) > 1 else ()), result_dtype(x, y)
