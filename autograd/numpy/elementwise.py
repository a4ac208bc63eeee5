"""NumPy's functions that act on each element, as rows of the op table."""

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import ops
from ._face import array_of, face, of_arrays, rule, without_gradient

ONE = {
    "abs": ops.abs, "absolute": ops.abs, "acos": ops.acos, "acosh": ops.acosh, "arccos": ops.acos, "arccosh": ops.acosh,
    "arcsin": ops.asin, "arcsinh": ops.asinh, "arctan": ops.atan, "arctanh": ops.atanh, "asin": ops.asin, "asinh": ops.asinh,
    "atan": ops.atan, "atanh": ops.atanh, "conj": ops.conj, "conjugate": ops.conj, "cos": ops.cos, "cosh": ops.cosh,
    "exp": ops.exp, "expm1": ops.expm1, "fabs": ops.abs, "log": ops.log, "log10": ops.log10, "log1p": ops.log1p,
    "log2": ops.log2, "negative": ops.negative, "positive": ops.positive, "real": ops.real, "imag": ops.imag,
    "reciprocal": ops.reciprocal, "sin": ops.sin, "sinh": ops.sinh, "sqrt": ops.sqrt, "square": ops.square, "tan": ops.tan,
    "tanh": ops.tanh, "exp2": ops.exp2, "cbrt": ops.cbrt, "sinc": ops.sinc, "deg2rad": ops.deg2rad, "radians": ops.deg2rad,
    "rad2deg": ops.rad2deg, "degrees": ops.rad2deg, "i0": ops.i0,
}  # fmt: skip
TWO = {
    "add": ops.add, "subtract": ops.subtract, "multiply": ops.multiply, "divide": ops.divide, "true_divide": ops.divide,
    "power": ops.power, "pow": ops.power, "float_power": ops.power, "mod": ops.remainder, "remainder": ops.remainder,
    "maximum": ops.maximum, "minimum": ops.minimum, "logaddexp": ops.logaddexp, "hypot": ops.hypot, "arctan2": ops.atan2,
    "atan2": ops.atan2, "logaddexp2": ops.logaddexp2, "fmax": ops.fmax, "fmin": ops.fmin, "copysign": ops.copysign,
    "heaviside": ops.heaviside, "nextafter": ops.nextafter,
}  # fmt: skip
CONSTANT = (
    "ceil", "floor", "rint", "trunc", "fix", "round", "around", "sign", "signbit", "floor_divide", "isfinite", "isinf",
    "isnan", "isneginf", "isposinf", "isreal", "iscomplex", "isclose", "allclose", "array_equal", "array_equiv", "equal",
    "not_equal", "greater", "greater_equal", "less", "less_equal", "logical_and", "logical_or", "logical_xor",
    "logical_not", "bitwise_and", "bitwise_or", "bitwise_xor", "invert", "left_shift", "right_shift",
)  # fmt: skip
"""Piecewise constant functions: their derivative is zero wherever it exists."""

FACES: dict[str, Callable] = {}
for _names, _count in ((ONE, 1), (TWO, 2)):
    for _name, _row in _names.items():
        FACES[_name] = face(getattr(np, _name), of_arrays(_row, _count), _name)
for _name in CONSTANT:
    FACES[_name] = without_gradient(getattr(np, _name))


@rule(np.clip)
def clip(a: Any, a_min: Any = None, a_max: Any = None, *, min: Any = None, max: Any = None) -> Any:
    a, low, high = array_of(a), a_min if min is None else min, a_max if max is None else max
    if all(b is None or isinstance(b, int | float) for b in (low, high)):
        return ops.clip(a, low=low, high=high)
    a = a if low is None else ops.maximum(a, array_of(low))
    return a if high is None else ops.minimum(a, array_of(high))


@rule(np.nan_to_num)
def nan_to_num(
    x: Any, copy: bool = True, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None
) -> Any:
    return ops.nan_to_num(array_of(x), nan, posinf, neginf)


@rule(np.angle)
def angle(z: Any, deg: bool = False) -> Any:
    return ops.angle(array_of(z), deg)


@rule(np.real_if_close)
def real_if_close(a: Any, tol: float = 100) -> Any:
    a = array_of(a)
    return a if np.iscomplexobj(np.real_if_close(a.raw, tol)) else ops.real(a)


def where(condition: Any, *choices: Any, **named: Any) -> Any:
    """numpy.where, differentiable in x and y; with the condition alone, the places where it holds.

    As in HIPS autograd a choice between Python numbers gives a Python number (or a list of them).
    """
    choices = (*choices, *(named.pop(name) for name in ("x", "y") if name in named))
    found = _where(condition, *choices, **named)
    python = all(map(_is_python, (condition, *choices)))
    return found.tolist() if python and isinstance(found, np.ndarray) else found


def _is_python(value: Any) -> bool:
    return (isinstance(value, bool | int | float | complex) and not isinstance(value, np.generic)) or (
        isinstance(value, list | tuple) and all(map(_is_python, value))
    )


def _where_rule(condition: Any, x: Any = None, y: Any = None) -> Any:
    if x is None and y is None:
        return np.nonzero(getattr(condition, "raw", condition))
    if x is None or y is None:
        raise ValueError("where: either both or neither of x and y should be given")
    condition = array_of(condition)
    if "bool" not in str(getattr(condition, "dtype", "bool")):
        condition = ops.not_equal(condition, 0)
    return ops.where(condition, array_of(x), array_of(y))


_where = face(np.where, _where_rule)


@rule(np.select)
def select(condlist: Any, choicelist: Any, default: Any = 0) -> Any:
    result = array_of(default)
    for condition, choice in list(zip(condlist, choicelist, strict=True))[::-1]:
        result = ops.where(array_of(condition), array_of(choice), result)
    return result


FACES |= {
    "angle": angle,
    "clip": clip,
    "nan_to_num": nan_to_num,
    "real_if_close": real_if_close,
    "where": where,
    "select": select,
}
