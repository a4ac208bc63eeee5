"""The array API's functions for terms. A function that is missing here is one that is not lowered."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from autograd import backend

from .lazy import (
    Term,
    Unlowered,
    axes_of,
    cast,
    compare,
    concat,
    divide,
    elementwise,
    expand_dims,
    flip,
    floating,
    iota,
    logical,
    number,
    permute,
    power,
    reduce,
    reshape,
    roll,
    squeeze,
    stack,
    stretch,
    take_along_axis,
    where,
)


def _sum(x: Term, axis: Any = None, keepdims: bool = False, dtype: Any = None) -> Term:
    if x.dtype.kind == "b" or dtype not in (None, x.dtype):
        x = cast(x, dtype or np.int64)
    return reduce("add", x, axis, keepdims)


def _mean(x: Term, axis: Any = None, keepdims: bool = False) -> Term:
    n = math.prod(x.shape[a] for a in axes_of(axis, x.ndim))
    return _sum(x, axis, keepdims) / n


def _var(x: Term, axis: Any = None, correction: float = 0.0, keepdims: bool = False) -> Term:
    n = math.prod(x.shape[a] for a in axes_of(axis, x.ndim))
    if n <= correction:
        raise Unlowered("a variance of too few elements")
    z = x - _mean(x, axis, True)
    return _sum(z * z, axis, keepdims) / (n - correction)


def _logaddexp(x: Any, y: Any) -> Term:
    top = elementwise("maximum", x, y)
    return top + floating("log1p", floating("exp", -abs(x - y)))


def _isfinite(x: Term) -> Term:
    return abs(x) < math.inf


def _clip(x: Term, low: Any = None, high: Any = None) -> Term:
    x = x if low is None else elementwise("maximum", x, low)
    return x if high is None else elementwise("minimum", x, high)


def _sign(x: Term) -> Term:
    return where(x > 0, 1.0, where(x < 0, -1.0, x)) if x.dtype.kind == "f" else _refuse("sign of integers")


def _refuse(what: str) -> Any:
    raise Unlowered(what)


def _full(x: Term, value: Any, dtype: Any = None) -> Term:
    return stretch(number(x.pool, value, dtype or x.dtype), x.shape)


def _triangle(keep: str) -> Callable:
    def kernel(x: Term, k: int = 0) -> Term:
        rows = iota(x, x.ndim - 2, x.ndim, x.shape[-2])
        columns = iota(x, x.ndim - 1, x.ndim, x.shape[-1])
        return where(columns - rows <= k if keep == "lower" else columns - rows >= k, x, 0)

    return kernel


class _Namespace:
    """The functions of the array API that terms have. What is missing here is not lowered."""

    __name__ = "hammer.graph.native"
    bool = np.dtype(np.bool)
    uint8, int32, int64 = np.dtype(np.uint8), np.dtype(np.int32), np.dtype(np.int64)
    float32, float64 = np.dtype(np.float32), np.dtype(np.float64)
    inf, pi, e, nan, newaxis = math.inf, math.pi, math.e, math.nan, None
    finfo, iinfo, result_type, broadcast_shapes = np.finfo, np.iinfo, np.result_type, staticmethod(np.broadcast_shapes)

    def __getattr__(self, name: str) -> Any:
        raise Unlowered(f"terms have no {name}")


terms = _Namespace()
for _name in ("exp", "log", "sqrt", "tanh", "log1p", "expm1", "sin", "cos", "floor", "ceil", "trunc"):
    setattr(terms, _name, lambda x, _name=_name: floating(_name, x))
for _name in ("add", "subtract", "multiply", "maximum", "minimum"):
    setattr(terms, _name, lambda x, y, _name=_name: elementwise(_name, x, y))
for _name in ("less", "less_equal", "greater", "greater_equal", "equal", "not_equal"):
    setattr(terms, _name, lambda x, y, _name=_name: compare(_name, x, y))
for _name in ("and", "or", "xor"):
    setattr(terms, f"logical_{_name}", lambda x, y, _name=_name: logical(_name, x, y))
for _name, _function in {
    "sum": _sum, "mean": _mean, "var": _var, "divide": divide, "pow": power, "power": power, "where": where, "clip": _clip,
    "std": lambda x, **given: floating("sqrt", _var(x, **given)),
    "max": lambda x, axis=None, keepdims=False: reduce("maximum", x, axis, keepdims),
    "min": lambda x, axis=None, keepdims=False: reduce("minimum", x, axis, keepdims),
    "negative": lambda x: -x, "positive": lambda x: x, "abs": abs, "square": lambda x: x * x, "reciprocal": lambda x: 1.0 / x,
    "sign": _sign, "isnan": lambda x: x != x, "isfinite": _isfinite, "isinf": lambda x: abs(x) == math.inf,
    "logical_not": lambda x: ~x, "logaddexp": _logaddexp, "reshape": reshape, "permute_dims": permute, "broadcast_to": stretch,
    "roll": roll, "expand_dims": expand_dims, "squeeze": squeeze, "flip": flip, "concat": concat, "stack": stack,
    "take_along_axis": take_along_axis, "astype": lambda x, dtype, copy=True: cast(x, dtype),
    "asarray": lambda x, dtype=None, copy=None, device=None: x if dtype is None else cast(x, dtype),
    "zeros_like": lambda x, dtype=None: _full(x, 0, dtype), "ones_like": lambda x, dtype=None: _full(x, 1, dtype),
    "full_like": _full, "tril": _triangle("lower"), "triu": _triangle("upper"),
    "matrix_transpose": lambda x: permute(x, (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2)),
    "moveaxis": lambda x, a, b: permute(x, _moved(x.ndim, a, b)), "real": lambda x: x, "conj": lambda x: x,
    "log2": lambda x: floating("log", x) * (1.0 / math.log(2.0)), "log10": lambda x: floating("log", x) * (1.0 / math.log(10.0)),
}.items():  # fmt: skip
    setattr(terms, _name, _function)


def _moved(ndim: int, a: int, b: int) -> tuple[int, ...]:
    order = [i for i in range(ndim) if i != a % ndim]
    order.insert(b % ndim, a % ndim)
    return tuple(order)


backend.adopt(Term, terms)
