"""Functions of each element: rows of the op table under the standard's names."""

from collections.abc import Callable
from typing import Any

from .. import backend, ops
from ..tensor import DiffTensor
from ._arrays import NUMBERS, operands, tensor
from .dtypes import astype

ONE = (
    "abs", "acos", "acosh", "asin", "asinh", "atan", "atanh", "bitwise_invert", "ceil", "conj", "cos", "cosh", "exp", "expm1",
    "floor", "imag", "isfinite", "isinf", "isnan", "log", "log10", "log1p", "log2", "logical_not", "negative", "positive", "real",
    "reciprocal", "round", "signbit", "sin", "sinh", "sqrt", "square", "tan", "tanh", "trunc",
)  # fmt: skip
TWO = (
    "add", "atan2", "bitwise_and", "bitwise_left_shift", "bitwise_or", "bitwise_right_shift", "bitwise_xor", "copysign", "divide",
    "equal", "floor_divide", "greater", "greater_equal", "hypot", "less", "less_equal", "logaddexp", "logical_and", "logical_or",
    "logical_xor", "maximum", "minimum", "multiply", "nextafter", "not_equal", "pow", "remainder", "subtract",
)  # fmt: skip

__all__ = [*ONE, *TWO, "clip", "sign"]


def _of_one(name: str, row: Callable) -> Callable:
    def call(x: Any, /) -> DiffTensor:
        return row(x if type(x) is DiffTensor else tensor(x))

    call.__name__ = call.__qualname__ = name
    call.__doc__ = row.__doc__
    return call


def _of_two(name: str, row: Callable) -> Callable:
    def call(x1: Any, x2: Any, /) -> DiffTensor:
        if type(x1) is not DiffTensor or type(x2) is not DiffTensor:
            x1, x2 = operands(x1, x2)
        return row(x1, x2)

    call.__name__ = call.__qualname__ = name
    call.__doc__ = (row.__doc__ or "") + " One of both may be a Python number."
    return call


for _name in ONE:
    globals()[_name] = _of_one(_name, getattr(ops, _name))
for _name in TWO:
    globals()[_name] = _of_two(_name, ops.power if _name == "pow" else getattr(ops, _name))


def sign(x: Any, /) -> DiffTensor:
    """-1, 0 or 1, a constant to the gradient; of complex numbers x / |x|, or 0, which has a gradient."""
    x = tensor(x)
    return x / ops.replace_zero(ops.abs(x), by=1.0) if backend.is_complex(x.dtype) else ops.sign(x)


def clip(x: Any, /, min: Any = None, max: Any = None) -> DiffTensor:
    """x limited to [min, max]: numbers, tensors or None. Tensors take x's dtype; where x equals one each has half of the
    derivative, while numbers leave it to x."""
    x = tensor(x)
    if all(bound is None or type(bound) in NUMBERS for bound in (min, max)):
        return ops.clip(x, low=min, high=max)
    for bound, row in ((min, ops.maximum), (max, ops.minimum)):
        if bound is not None:
            x = row(x, bound if type(bound) in NUMBERS else astype(tensor(bound), x.dtype, copy=False))
    return x
