"""Numbers of half precision on NumPy: float16 and bfloat16, to float32 and back, quickly and rounded to nearest even.

NumPy converts float16 element by element. Here that is integer arithmetic and one multiplication on tiles that stay in the
cache, two to three times faster (van der Zijp 2008 has the idea), with the same bits: subnormal numbers included; what is not
finite, or overflows, goes NumPy's way. bfloat16 is a dtype of ml_dtypes, whose conversions are fast; NumPy cannot name it
before ml_dtypes is imported.
"""

import importlib
from typing import Any

import numpy as np

SINGLE, HALF = np.dtype(np.float32), np.dtype(np.float16)
TILE = 32768
"""Elements converted at a time."""

_SCALE = np.float32(2.0**112)  # between the biases of the exponents of float32 and float16
_EXPONENT, _LEAST = (
    np.int32(0x7F800000),
    np.int32(113 << 23),
)  # float32's exponent bits; those of float16's least normal number
_NOT_FINITE = np.int16(0x7C00)  # float16's exponent bits, all set
_GRID = np.int32((13 << 23) | (1 << 22))  # from the exponent bits of x to 1.5 · 2¹³ times its power of two


def half_dtype(name: str) -> np.dtype:
    """NumPy's dtype for "fp16" or "bf16".

    Raises:
        ImportError: "bf16" without ml_dtypes.
    """
    if name == "fp16":
        return HALF
    try:
        return np.dtype(importlib.import_module("ml_dtypes").bfloat16)
    except ImportError:
        raise ImportError(
            'precision "bf16" needs ml_dtypes, which gives NumPy the dtype bfloat16; install it with: '
            'pip install "hammer-grad[precision]"'
        ) from None


def is_half(dtype: Any) -> bool:
    """Whether a dtype, of any library, is float16 or bfloat16."""
    return dtype == HALF if isinstance(dtype, np.dtype) and dtype.kind != "V" else str(dtype).endswith("float16")


def single(x: Any) -> Any:
    """A NumPy array, or scalar, of half precision as float32, exactly."""
    if type(x) is not np.ndarray or x.dtype != HALF or x.size < 1024 or (flat := _flat(x)) is None:
        return x.astype(SINGLE)
    out = np.empty_like(x, SINGLE)
    target, bits, exponents = _flat(out), flat.view(np.int16), np.empty(TILE, np.int16)
    for a in range(0, flat.size, TILE):
        part = target[a : a + TILE]
        exponent = exponents[: part.size]
        np.bitwise_and(bits[a : a + TILE], _NOT_FINITE, out=exponent)
        if np.maximum.reduce(exponent) == _NOT_FINITE:
            part[...] = flat[a : a + TILE]
            continue
        word = part.view(np.int32)
        word[...] = bits[a : a + TILE]  # the sign is extended, over bits that the mask clears
        np.left_shift(word, 13, out=word)
        np.bitwise_and(word, np.int32(-0x70002000), out=word)
        np.multiply(part, _SCALE, out=part)
    return out


def half(x: Any, dtype: np.dtype) -> Any:
    """A NumPy array, or scalar, rounded to half precision; what is too large becomes infinite, without a warning."""
    if type(x) is not np.ndarray or x.dtype != SINGLE or dtype != HALF or x.size < 1024 or (flat := _flat(x)) is None:
        with np.errstate(over="ignore", under="ignore"):
            return x.astype(dtype)
    out = np.empty_like(x, dtype)
    target = _flat(out).view(np.uint16)
    steps, values = np.empty(TILE, np.int32), np.empty(TILE, SINGLE)
    for a in range(0, flat.size, TILE):
        part = flat[a : a + TILE]
        step, value = steps[: part.size], values[: part.size]
        if not _round(part, step, value, 143):  # from 65520 on the result is 65536, whose bits are infinity's
            with np.errstate(over="ignore"):
                target[a : a + TILE] = part.astype(HALF).view(np.uint16)
            continue
        np.multiply(value, 1.0 / _SCALE, out=value)
        word, sign = value.view(np.uint32), step.view(np.uint32)
        np.right_shift(part.view(np.uint32), 16, out=sign)
        np.bitwise_and(sign, 0x8000, out=sign)
        np.right_shift(word, 13, out=word)
        np.bitwise_or(word, sign, out=word)
        target[a : a + TILE] = word
    return out


def rounded(x: Any, dtype: np.dtype) -> Any:
    """float32 numbers rounded to those that half precision has, as float32 still: ``single(half(x, dtype))`` in one pass."""
    if type(x) is not np.ndarray or x.dtype != SINGLE or x.size < 1024 or (flat := _flat(x)) is None:
        return single(half(x, dtype))
    out = np.empty_like(x)
    target, steps = _flat(out), np.empty(TILE, np.int32)
    for a in range(0, flat.size, TILE):
        part, value = flat[a : a + TILE], target[a : a + TILE]
        if dtype != HALF or not _round(part, steps[: part.size], value, 142):
            with np.errstate(over="ignore", under="ignore"):
                value[...] = part.astype(dtype)
    return out


def _round(x: np.ndarray, step: np.ndarray, out: np.ndarray, limit: int) -> bool:
    """Round to float16's numbers: adding 1.5 · 2¹³ times the power of two of x leaves the processor 11 bits to round to.

    False, and nothing done, if an exponent (biased, as float32's) reaches the limit.
    """
    np.bitwise_and(x.view(np.int32), _EXPONENT, out=step)
    if np.maximum.reduce(step) >= limit << 23:
        return False
    np.maximum(step, _LEAST, out=step)
    np.add(step, _GRID, out=step)
    large = step.view(SINGLE)
    np.add(x, large, out=out)
    np.subtract(out, large, out=out)
    return True


def _infinity(x: np.ndarray) -> int:
    return 0x7C00 if x.dtype == HALF else 0x7F80


def above_zero(x: np.ndarray) -> Any:
    """Where an array of half precision is greater than 0, by its bits: NumPy would convert each element."""
    return (x.view(np.int16) - np.int16(1)).view(np.uint16) < np.uint16(_infinity(x))


def without_negative(x: np.ndarray) -> Any:
    """An array of half precision with its negative numbers, minus infinity included, replaced by 0; NaN stays."""
    bits = x.view(np.int16)
    return np.multiply(bits, bits > np.int16(_infinity(x) - 0x8000), dtype=np.int16).view(x.dtype)


def is_half_array(x: Any) -> bool:
    """Whether a value is a NumPy array, not a scalar, of half precision."""
    return type(x) is np.ndarray and x.dtype.itemsize == 2 and is_half(x.dtype)


def _flat(x: np.ndarray) -> Any:
    """The elements in the order of memory, as a view; None if they do not lie side by side."""
    if x.flags.c_contiguous:
        return x.reshape(-1)
    order = sorted(range(x.ndim), key=lambda a: -x.strides[a])
    moved = x.transpose(order)
    return moved.reshape(-1) if moved.flags.c_contiguous else None
