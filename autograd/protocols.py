"""NumPy's protocols: what ``numpy.sin(t)``, ``numpy.einsum(..., t)`` or ``numpy.add.reduce(t)`` do with a tensor.

``DiffTensor.__array_ufunc__`` and ``__array_function__`` come here. A function is looked up in the one table of rules that
``autograd.numpy`` is made of, a method of a ufunc among the rows below; what is in neither is refused, with the name of the
nearest function that is. So a gradient is never lost silently. Results that need no gradient (``numpy.argmax``) are plain.
"""

import difflib
import importlib
import sys
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from . import array_api, ops
from .numpy import RULES
from .numpy._face import array_of, raw, refuse_out
from .tensor import _UFUNCS, DiffTensor

REDUCTIONS: dict[str, Callable] = {
    "add": ops.sum, "multiply": ops.prod, "maximum": ops.max, "minimum": ops.min, "logaddexp": ops.logsumexp,
    "logical_and": ops.all, "logical_or": ops.any, "hypot": ops.norm,
}  # fmt: skip
"""``ufunc.reduce`` as a row."""
SCANS: dict[str, Callable] = {"add": ops.cumsum, "multiply": ops.cumprod}
"""``ufunc.accumulate`` as a row."""
STANDARD: dict[Any, Callable] = {
    getattr(np, name): getattr(array_api, name)
    for name in (
        "cumulative_prod",
        "cumulative_sum",
        "unique_all",
        "unique_counts",
        "unique_inverse",
        "unique_values",
        "unstack",
    )
    if hasattr(np, name)
} | {getattr(np.linalg, name): getattr(array_api.linalg, name) for name in ("cross", "tensordot", "vecdot")}
"""NumPy's functions that have the signature of the array API standard."""


def ufunc(function: np.ufunc, method: str, inputs: tuple, kwargs: dict[str, Any]) -> Any:
    """A ufunc, or one of its methods, with a tensor among its inputs (or as ``out``). TypeError if it has no derivative."""
    name = function.__name__
    if method == "at":
        _refuse(f"numpy.{name}.at changes its array in place; write t.at[index].add(values) or t.at[index].set(values)")
    if any(type(o) is DiffTensor for o in kwargs.get("out", ())):
        _refuse(f"numpy.{name}: a tensor cannot be changed in place; write t = numpy.{name}(...)")
    refuse_out(name if method == "__call__" else f"{name}.{method}", kwargs)
    given = {k: v for k, v in kwargs.items() if not _is_default(k, v)}
    dtype = given.pop("dtype", None)
    xs = [array_of(x) if dtype is None or not hasattr(x, "dtype") else ops.astype(x, dtype) for x in inputs]
    if method == "__call__":
        row = _row(function, name)
        where = given.pop("where", None)
        if where is not None:
            _refuse(
                f"numpy.{name} with where=... leaves elements undefined; write where(condition, {name}(...), other)"
            )
        _nothing_else(f"numpy.{name}", given)
        return row(*xs)
    if method == "outer":
        row = _row(function, f"{name}.outer")
        _nothing_else(f"numpy.{name}.outer", given)
        a, b = xs
        return row(ops.reshape(a, shape=tuple(np.shape(a)) + (1,) * np.ndim(b)) if np.ndim(b) else a, b)
    if method == "reduce":
        return _reduce(name, xs[0], given)
    if method == "accumulate" and name in SCANS:
        axis = given.pop("axis", 0)
        _nothing_else(f"numpy.{name}.accumulate", given)
        return SCANS[name](xs[0], axis=axis)
    if method == "reduceat" and name == "add":
        axis = given.pop("axis", 0)
        _nothing_else("numpy.add.reduceat", given)
        return _sums_between(xs[0], np.asarray(raw(xs[1])), axis)
    return _unsupported(f"{name}.{method}")


def _sums_between(x: Any, starts: np.ndarray, axis: int) -> Any:
    """The sum from each start to the next; where the next comes before, the element at the start alone, as NumPy has it."""
    n = x.shape[axis]
    if starts.size and not (starts.min() >= 0 and starts.max() < n):
        raise IndexError(f"numpy.add.reduceat: places from {starts.min()} to {starts.max()} in an axis of length {n}")
    lengths = np.maximum(np.append(starts[1:], n) - starts, 1)
    owners = np.repeat(np.arange(starts.size), lengths)
    places = np.arange(owners.size) - np.repeat(np.cumsum(lengths) - lengths - starts, lengths)
    shape = tuple(starts.size if a == axis % len(x.shape) else m for a, m in enumerate(x.shape))
    return ops.index_add(ops.take(x, places, axis=axis), owners, axis=axis, shape=shape)


def _row(function: np.ufunc, name: str) -> Callable:
    found = _UFUNCS.get(function.__name__) or RULES.get(function)
    if found is None and "scipy.special" in sys.modules:  # its functions are ufuncs too
        importlib.import_module("autograd.scipy.special")
        found = RULES.get(function)
    return found or _unsupported(name)


def _reduce(name: str, x: Any, given: dict[str, Any]) -> Any:
    row = REDUCTIONS.get(name)
    if row is None:
        _unsupported(f"{name}.reduce")
    axis, keepdims = given.pop("axis", 0), bool(given.pop("keepdims", False))
    where, initial = given.pop("where", None), given.pop("initial", None)
    _nothing_else(f"numpy.{name}.reduce", given)
    if where is not None or initial is not None:
        if name not in ("add", "multiply"):
            _refuse(f"numpy.{name}.reduce with where or initial has no derivative here; apply where(...) before")
        options = {k: v for k, v in (("where", where), ("initial", initial)) if v is not None}
        return RULES[np.sum if name == "add" else np.prod](x, axis, keepdims=keepdims, **options)
    return row(x, axis=axis, keepdims=keepdims)


def _is_default(key: str, value: Any) -> bool:
    return (
        (value is None and key != "axis") or (key == "where" and value is True) or key in ("casting", "order", "subok")
    )


def function(func: Callable, args: tuple, kwargs: dict[str, Any]) -> Any:
    """A function of NumPy with a tensor among its arguments. TypeError if it has no derivative."""
    rule = RULES.get(func) or STANDARD.get(func)
    if rule is None:
        _unsupported(f"{func.__module__.removeprefix('numpy').lstrip('.')}.{func.__name__}".lstrip("."))
    if "out" in kwargs:
        kwargs = dict(kwargs)
        refuse_out(func.__name__, kwargs)
    return rule(*args, **kwargs)


def _names() -> list[str]:
    return sorted(
        {
            f"{getattr(f, '__module__', None) or 'numpy'}.{f.__name__}".removeprefix("numpy.")
            for f in (*RULES, *STANDARD)
        }
    )


NEAREST = {
    "cov": "mean, matmul", "corrcoef": "mean, matmul, std", "interp": "where, take", "convolve": "autograd.scipy.signal.convolve",
    "correlate": "autograd.scipy.signal.convolve", "insert": "concatenate", "put": "t.at[index].set",
    "place": "where", "putmask": "where", "copyto": "where", "fill_diagonal": "where, eye", "put_along_axis": "t.at[index].set",
    "polyval": "Horner's rule", "vectorize": "autograd.vmap", "apply_along_axis": "autograd.vmap", "unique": "unique_values, sort",
    "modf": "trunc", "divmod": "floor_divide, remainder", "nanstd": "nanmean", "nanvar": "nanmean", "extract": "t[mask]",
    "block": "concatenate", "resize": "tile, reshape", "nancumsum": "nan_to_num, cumsum", "select": "where",
    "frexp": "exp2, log2", "ldexp": "exp2, multiply", "subtract.reduce": "add.reduce", "fmod": "remainder",
    "divide.reduce": "multiply.reduce", "maximum.accumulate": "sort", "multiply.reduceat": "split, prod", "save": "t.numpy()", "savetxt": "t.numpy()",
}  # fmt: skip
"""What to use instead of functions of which no relative has a similar name."""


def _unsupported(name: str) -> NoReturn:
    near = NEAREST.get(name) or ", ".join(difflib.get_close_matches(name, _names(), 2, 0.75))
    raise TypeError(
        f"numpy.{name} has no derivative here"
        + (f"; the nearest that has one: {near}" if near else "")
        + ". Pass t.numpy() if no gradient is wanted"
    )


def _refuse(message: str) -> NoReturn:
    raise TypeError(message)


def _nothing_else(name: str, given: dict[str, Any]) -> None:
    if given:
        raise TypeError(f"{name} takes no {', '.join(given)} for tensors")
