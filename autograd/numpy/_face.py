"""How a name of NumPy becomes a differentiable function.

Each function of ``autograd.numpy`` is a *face*: called without tensors it is NumPy's own function, called with one it is
a *rule*, which has NumPy's signature and calls rows of the op table. A rule is entered once, here, and serves twice:
``autograd.numpy.sum(t)`` through the face, and ``numpy.sum(t)`` through NumPy's protocols (``autograd.protocols``).

Two conventions follow HIPS autograd. A list or tuple that holds tensors counts as an array made of them. And the result
of a face that is constant (a comparison, an index, anything computed without recording) is a plain array.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import ops
from ..batch import Batch
from ..tensor import DiffTensor

RULES: dict[Any, Callable] = {}
"""The rule of each NumPy function that tensors may be passed to."""


def holds(value: Any) -> bool:
    """Whether a value is a tensor, or a list or tuple (of lists …) with a tensor in it."""
    kind = type(value)
    return kind is DiffTensor or ((kind is list or kind is tuple) and any(map(holds, value)))


def constant(value: Any) -> Any:
    """A result as users of a face get it: tensors that are not tracked become plain arrays."""
    if type(value) is DiffTensor:
        return value if value.node is not None or value.raw is None or type(value.raw) is Batch else value.raw
    if isinstance(value, list | tuple):
        parts = [constant(v) for v in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    return value


def raw(value: Any) -> Any:
    """A value with its tensors (also those in lists and tuples) replaced by their arrays."""
    if type(value) is DiffTensor:
        return value._value("a function without derivative")
    return type(value)(map(raw, value)) if type(value) is list or type(value) is tuple else value


def array_of(value: Any) -> Any:
    """A tensor or an array: lists and tuples are joined, numbers stay numbers."""
    kind = type(value)
    if kind is list or kind is tuple:
        return ops.stack([_sized(array_of(v)) for v in value], axis=0) if holds(value) else np.asarray(value)
    return value


def _sized(value: Any) -> Any:
    return value if hasattr(value, "shape") else np.asarray(value)[()]


def refuse_out(name: str, kwargs: dict[str, Any]) -> None:
    """Take ``out=None`` out of the keywords; any other ``out`` is a TypeError."""
    out = kwargs.pop("out", None)
    if any(o is not None for o in (out if isinstance(out, tuple) else (out,))):
        raise TypeError(
            f"{name}: a value made from tensors cannot be written into a plain array, as out=... or += would; "
            f"write a = {name}(...)"
        )


def face(plain: Callable, rule: Callable, name: str = "", protocol: bool = True) -> Callable:
    """The function ``plain`` and its differentiable rule as one function, entered into the protocols' table if ``protocol``."""
    name = name or plain.__name__

    def call(*args: Any, **kwargs: Any) -> Any:
        for a in args:
            kind = type(a)
            if kind is DiffTensor or ((kind is list or kind is tuple) and holds(a)):
                break
        else:
            if not kwargs or not any(map(holds, kwargs.values())):
                return plain(*args, **kwargs)
        if "out" in kwargs:
            refuse_out(name, kwargs)
        return constant(rule(*args, **kwargs))

    if protocol:
        RULES.setdefault(plain, rule)
    call.__name__ = call.__qualname__ = name
    call.__doc__ = f"{name}, differentiable: see the documentation of NumPy or SciPy for the arguments."
    call.fun = plain  # type: ignore[attr-defined]
    return call


def rule(plain: Callable) -> Callable[[Callable], Callable]:
    """Decorator: the rule of a NumPy function; gives back the face. Arguments in which NumPy takes arrays come as tensors,
    arrays, numbers, or lists of them."""
    return lambda function: face(plain, function)


def of_arrays(row: Callable, count: int) -> Callable:
    """The rule of a function of ``count`` arrays that is a row itself."""

    @functools.wraps(row)
    def call(*args: Any, dtype: Any = None) -> Any:
        xs = [array_of(a) for a in args[:count]]
        result = row(*xs, *args[count:])
        return result if dtype is None else ops.astype(result, dtype)

    return call


def without_gradient(plain: Callable) -> Callable:
    """The face of a function whose result does not depend smoothly on its arguments: computed on their values."""
    return face(plain, lambda *args, **kwargs: plain(*map(raw, args), **{k: raw(v) for k, v in kwargs.items()}))
