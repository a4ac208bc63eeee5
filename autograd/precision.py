"""Mixed precision: what a policy, ``AutogradContext(precision="bf16")``, makes of the rows of the op table.

Which precision an operation has under a policy says the column ``precision`` of its row (Micikevicius et al. 2018; the
classes are those of PyTorch's autocast):

* ``"low"``, products and convolutions: inputs rounded to the policy's half precision, products added up in float32, the
  result rounded to half precision;
* ``"float32"``, what a row has that says nothing: computed in float32, and the result is float32;
* ``"inputs"``, elementwise arithmetic and activations: computed in float32, and rounded to half precision once if all
  inputs have it; beside float32 the result is float32;
* ``"any"``: values are moved, chosen or compared: nothing is computed, so nothing is changed.

A row with several outputs may name one class for each. float64, complex numbers and integers are left alone.

A row that is affected runs in another *form*, a row of its own with the same name: its kernels bring their inputs to float32
and round their outputs, and so do its derivative rules with the gradients. So a derivative is computed in float32
and rounded once, what is kept for it is of half precision, and a policy costs nothing where there is none. On NumPy
half precision is computed in float32, by BLAS, and overflows to infinity without a warning (anomaly mode finds it);
other libraries have kernels of their own for products of half precision.

Parameters stay float32 ("master weights"): leaves and constants are rounded within the operation, which keeps the leaf
itself, not a copy, and gives it a float32 gradient. The float32 result of another operation that meets a "low" row is cast
by a recorded ``astype``, so that what is kept of it is half as large. Rounding has the derivative of the identity.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import backend, tape
from .backend import xp
from .batch import Batch
from .context import AutogradContext
from .halves import SINGLE, half, is_half, rounded, single
from .shapes import numpy_dtype
from .tape import Leaf, Node, Spec
from .tensor import DiffTensor

__all__ = ["autocast", "beside", "form"]


def autocast(precision: str) -> AutogradContext:
    """A block (or a decorated function) whose operations run with mixed precision: ``AutogradContext(precision=precision)``.

    Args:
        precision: "bf16", "fp16", or "fp32", which is no mixed precision, also inside a block that has it.

    Open it around the model and the loss; call ``backward()`` inside or outside. With "fp16" scale the loss (see
    ``autograd.gradients.unscale``), or small gradients become 0.

    Raises:
        ImportError: "bf16" without ml_dtypes. ValueError: another name.
    """
    return AutogradContext(precision=precision)


def beside(parameter: Any, x: Any) -> Any:
    """A float32 parameter in the half precision of an activation that it must not widen; else the parameter as it is."""
    if is_half(x.dtype) and parameter.dtype == SINGLE:
        return tape.rows.astype(parameter, dtype=x.dtype)
    return parameter


def form(row: Any, args: Sequence[Any], low: np.dtype) -> tuple[Any, Sequence[Any]]:
    """The form in which a row runs under the policy of a half precision ``low``, and the arguments to call it with.

    It is the row itself if the policy does not change it. A new form's ``apply`` is still the row's.
    """
    kinds = row.precision
    if kinds == "any":
        return row, args
    dtypes = [numpy_dtype(a.dtype) for a in args if hasattr(a, "dtype")]
    halves = {d for d in dtypes if is_half(d)}
    if kinds == "low":
        if not dtypes or any(d != SINGLE and d not in halves for d in dtypes):
            return row, args
        cast = [tape.rows.astype(a, dtype=low) if _is_result(a) and a.dtype != low else a for a in args]
        return _form(row, low, low), cast
    if not halves or any(backend.is_inexact(d) and d != SINGLE and d not in halves for d in dtypes):
        return row, args
    same = len(halves) == 1 and SINGLE not in dtypes
    return _form(row, None, halves.pop() if same else SINGLE), args


def _is_result(a: Any) -> bool:
    return isinstance(a, DiffTensor) and a.node is not None and not isinstance(a.node, Leaf)


def _form(row: Any, low: np.dtype | None, due: np.dtype) -> Any:
    """The form whose inputs are rounded to ``low`` (None: not rounded), and whose outputs are of the dtype ``due`` (where
    the row's class is "float32", of float32)."""
    found = row.forms.get((low, due))
    if found is None:
        found = copy.copy(row)
        found.precision, found.forms, found.batch = "any", {}, None
        found._of_arity = {len(row.vjps): found}
        found.kernels = _Kernels(row, low, due)
        found.infer = _inference(row, due)
        found.vjps = tuple(rule and _rule(rule, i, low) for i, rule in enumerate(row.vjps))
        row.forms[low, due] = found
    return found


# ---- values on their way in and out ----


def _widened(x: Any, low: np.dtype | None) -> Any:
    """A value as float32 if it is of half precision; and rounded to ``low`` before."""
    kind = type(x)
    if kind in (tuple, list):
        return kind([_widened(part, low) for part in x])
    if x is None or isinstance(x, (Spec, Node, Leaf)) or not hasattr(x, "dtype"):
        return x
    if isinstance(x, (np.ndarray, np.generic)):
        x = single(x) if (was := x.dtype) != SINGLE and is_half(was) else x
        return rounded(x, low) if low is not None and was != low and x.dtype == SINGLE else x
    was = numpy_dtype(x.dtype)
    if not is_half(was) and was != SINGLE:
        return x
    if low is not None and was != low:
        x = _cast(x, low)
    return _cast(x, SINGLE) if is_half(numpy_dtype(x.dtype)) else x


def _narrowed(x: Any, due: np.dtype) -> Any:
    """A float32 value in the dtype due; any other value as it is."""
    if not hasattr(x, "dtype") or due == SINGLE or numpy_dtype(x.dtype) != SINGLE:
        return x
    return half(x, due) if isinstance(x, (np.ndarray, np.generic)) else _cast(x, due)


def _cast(x: Any, dtype: np.dtype) -> Any:
    if isinstance(x, (DiffTensor, Batch, np.ndarray, np.generic)):
        return tape.rows.astype(x, dtype=dtype)
    library = xp(x)
    known = dtype if library.__name__ == "cupy" else getattr(library, dtype.name, None)
    if known is None:
        raise TypeError(f"{library.__name__} has no dtype {dtype.name}; use a policy of float32 for its arrays")
    return library.astype(x, known)


# ---- the parts of a form ----


def _kinds(row: Any) -> tuple[str, ...]:
    return row.precision if isinstance(row.precision, tuple) else (row.precision,)


def _dues(row: Any, due: np.dtype, count: int) -> list[np.dtype]:
    kinds = _kinds(row)
    return [SINGLE if kind == "float32" else due for kind in (kinds if len(kinds) > 1 else kinds * count)]


class _Kernels(dict):
    """The kernels of a form, made from the row's when a class is first met."""

    def __init__(self, row: Any, low: np.dtype | None, due: np.dtype):
        super().__init__()
        self.row, self.low, self.due = row, low, due

    def __missing__(self, cls: type) -> Callable:
        plain, low = self.row.kernels[cls], self.low
        native = not issubclass(cls, (np.ndarray, np.generic))

        def brought(x: Any) -> Any:
            if native and low is not None and hasattr(x, "dtype"):
                return x if numpy_dtype(x.dtype) == low else _cast(x, low)
            return _widened(x, low)

        def run(*xs: Any, **params: Any) -> Any:
            with np.errstate(over="ignore", invalid="ignore"):
                out = (
                    plain([brought(x) for x in xs[0]], **params)
                    if self.row.variadic
                    else plain(*map(brought, xs), **params)
                )
            if isinstance(out, tuple):
                return tuple(map(_narrowed, out, _dues(self.row, self.due, len(out))))
            return _narrowed(out, _dues(self.row, self.due, 1)[0])

        self[cls] = run
        return run


def _inference(row: Any, due: np.dtype) -> Callable:
    def infer(*xs: Any, **params: Any) -> Any:
        wide = [Spec(x.shape, SINGLE) if hasattr(x, "dtype") and is_half(numpy_dtype(x.dtype)) else x for x in xs]
        found = row.infer(*wide, **params)
        if row.outputs == 1:
            return found[0], _due(found[1], _dues(row, due, 1)[0])
        return [(shape, _due(dtype, d)) for (shape, dtype), d in zip(found, _dues(row, due, len(found)), strict=True)]

    return infer


def _due(dtype: Any, due: np.dtype) -> Any:
    return due if dtype == SINGLE else dtype


def _rule(rule: Callable, index: int, low: np.dtype | None) -> Callable:
    """A derivative rule that computes in float32, on what was rounded as the kernel did, and rounds the gradient once: to the
    input's dtype, and to ``low``."""

    def run(g: Any, out: Any, *xs: Any, **params: Any) -> Any:
        x = xs[index]
        wide = _widened(g, low)
        with np.errstate(over="ignore", invalid="ignore"):
            d = rule(wide, _widened(out, None), *[_widened(a, low) for a in xs], **params)
            if d is wide and d is not g and d.shape == x.shape and g.dtype == x.dtype:  # the rule of an addition, say
                return g
            d = tape.match(d, tuple(x.shape), SINGLE if is_half(numpy_dtype(x.dtype)) else x.dtype)
        if is_half(numpy_dtype(x.dtype)):
            return _narrowed(d, numpy_dtype(x.dtype))
        return d if low is None else _single_rounded(d, low)

    return run


def _single_rounded(d: Any, low: np.dtype) -> Any:
    return rounded(d, low) if isinstance(d, (np.ndarray, np.generic)) else _cast(_cast(d, low), SINGLE)
