"""What operators and functions on stand-ins for arrays (``proxies``) are on tensors: rows of the table, and a few more."""

from collections.abc import Callable
from typing import Any

import numpy as np

from autograd import backend, ops
from autograd.dispatch import function_of
from autograd.gradients.clipping import global_norm
from autograd.ops.windows import constant
from autograd.shapes import numpy_dtype, shape_of
from autograd.table import Row


def _row(name: str, kernel: Callable, infer: Callable, inputs: int, flops: float, **params: Any) -> Row:
    row = Row(name, kernel, infer, (None,) * inputs, flops, params=params)
    row.apply = function_of(row)
    return row


_like_first = lambda x, *_: (shape_of(x), numpy_dtype(x.dtype))
CLIPS = {
    (True, True): _row(
        "clip_between", lambda x, low, high: backend.scalar(backend.xp(x).clip(x, low, high)), _like_first, 3, 2
    ),
    (True, False): _row(
        "clip_below", lambda x, low: backend.scalar(backend.xp(x).clip(x, low, None)), _like_first, 2, 1
    ),
    (False, True): _row(
        "clip_above", lambda x, high: backend.scalar(backend.xp(x).clip(x, None, high)), _like_first, 2, 1
    ),
}
_NORMS: dict[int, Row] = {}


def norm_row(count: int) -> Row:
    """The common norm of some arrays (``gradients.clipping.global_norm``) as one operation, of float64."""
    if count not in _NORMS:
        _NORMS[count] = _row(
            "global_norm",
            lambda *xs, norm_type: backend.scalar(constant(np.asarray(global_norm(xs, norm_type)), xs[0])),
            lambda *_xs, norm_type: ((), np.dtype(np.float64)),
            count,
            lambda _out, *xs, norm_type: 2 * sum(int(np.prod(x.shape)) for x in xs),  # type: ignore[arg-type]
            norm_type=2.0,
        )
    return _NORMS[count]


# ---- what operators and functions are on tensors ----

BINARY: dict[str, Callable] = {
    "add": ops.add, "sub": ops.subtract, "mul": ops.multiply, "truediv": ops.divide, "pow": ops.power,
    "floordiv": ops.floor_divide, "mod": ops.remainder, "matmul": ops.matmul, "lt": ops.less, "le": ops.less_equal,
    "gt": ops.greater, "ge": ops.greater_equal, "eq": ops.equal, "ne": ops.not_equal, "and": ops.bitwise_and,
    "or": ops.bitwise_or, "xor": ops.bitwise_xor, "maximum": ops.maximum, "minimum": ops.minimum,
}  # fmt: skip
FIXED = frozenset(("pow", "floordiv", "mod", "matmul", "and", "or", "xor"))
"""Operations whose numbers are part of the graph: NumPy chooses a loop by the exponent of ``**``."""
UNARY: dict[str, Callable] = {
    "neg": ops.negative, "abs": ops.abs, "invert": ops.bitwise_invert, "sqrt": ops.sqrt, "sign": ops.sign,
    "square": ops.square, "exp": ops.exp, "log": ops.log, "isfinite": ops.isfinite, "isnan": ops.isnan,
    "isinf": ops.isinf, "tanh": ops.tanh,
}  # fmt: skip
UFUNC_NAMES = {
    "subtract": "sub", "multiply": "mul", "divide": "truediv", "true_divide": "truediv", "power": "pow",
    "less": "lt", "less_equal": "le", "greater": "gt", "greater_equal": "ge", "equal": "eq", "not_equal": "ne",
    "negative": "neg", "absolute": "abs",
}  # fmt: skip
VIEWS = frozenset((
    "reshape", "permute_dims", "matrix_transpose", "moveaxis", "squeeze", "expand_dims", "broadcast_to", "flip", "getitem",
))  # fmt: skip
"""Functions whose results NumPy may make views: what is done in place to one would have to be seen in the other."""
