"""Operators and methods of DiffTensor: each is a row (or a function over rows) under the name that users expect.

A row assigned as an attribute of the class becomes its method without a further Python frame.
"""

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import tape, tensor
from ..batch import Batch
from ..tensor import DiffTensor
from . import activations, index, layout, linalg, reduce
from . import elementwise as e


def _reflected(row: Callable) -> Callable:
    return lambda self, other: row(other, self)


def _power(self: Any, exponent: Any) -> Any:
    return e.square(self) if type(exponent) is int and exponent == 2 else e.power(self, exponent)


def _reshape(self: Any, *shape: Any, order: str = "C") -> Any:
    if order != "C":
        return _numpy("reshape")(self, shape[0] if len(shape) == 1 else shape, order=order)
    return layout.reshape(self, shape=shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape)


def _transpose(self: Any, *axes: Any) -> Any:
    return layout.permute(self, axes=None if not axes else axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes)


def _moment(row: Callable) -> Callable:
    """``var`` or ``std``, which NumPy's users ask for with ``ddof``, the array API's with ``correction``."""

    def method(self: Any, axis: Any = None, keepdims: bool = False, correction: float = 0, *, ddof: float | None = None) -> Any:
        return row(self, axis=axis, keepdims=keepdims, correction=correction if ddof is None else ddof)

    return method


def _clip(self: Any, low: Any = None, high: Any = None, *, min: Any = None, max: Any = None) -> Any:
    low, high = low if min is None else min, high if max is None else max
    numbers = all(b is None or isinstance(b, int | float) for b in (low, high))
    return e.clip(self, low=low, high=high) if numbers else _numpy("clip")(self, low, high)


def _ravel(self: Any, order: str = "C") -> Any:
    return layout.ravel(self) if order == "C" else _numpy("ravel")(self, order=order)


def _astype(self: Any, dtype: Any, copy: bool = True) -> Any:
    return layout.astype(self, dtype)  # never in place, so copy makes no difference


def _numpy(name: str) -> Callable:
    """A method of NumPy's arrays: the rule of ``autograd.numpy`` for the function of that name."""

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        rules = importlib.import_module("autograd.numpy").RULES
        return rules[getattr(np, name)](self, *args, **kwargs)

    return method


def _compress(self: Any, condition: Any, axis: int | None = None) -> Any:
    return _numpy("compress")(condition, self, axis)


_NUMPY_METHODS = "argpartition conjugate copy diagonal nonzero ptp searchsorted trace"
_BINARY = {
    "add": e.add, "sub": e.subtract, "mul": e.multiply, "truediv": e.divide, "floordiv": e.floor_divide, "mod": e.remainder,
    "pow": e.power, "matmul": linalg.matmul, "and": e.bitwise_and, "or": e.bitwise_or, "xor": e.bitwise_xor,
    "lshift": e.bitwise_left_shift, "rshift": e.bitwise_right_shift,
}  # fmt: skip
_PLAIN = {
    "__neg__": e.negative, "__pos__": e.positive, "__abs__": e.abs, "__invert__": e.bitwise_invert, "__pow__": _power,
    "__eq__": e.equal, "__ne__": e.not_equal, "__lt__": e.less, "__le__": e.less_equal, "__gt__": e.greater,
    "__ge__": e.greater_equal, "__getitem__": index.getitem, "reshape": _reshape, "transpose": _transpose,
    "astype": _astype, "ravel": _ravel, "clip": _clip, "std": _moment(reduce.std), "var": _moment(reduce.var),
}  # fmt: skip
_METHODS = (
    (e, "abs exp log sqrt square sin cos tan tanh conj round"),
    (activations, "sigmoid relu"),
    (reduce, "sum mean prod max min argmax argmin all any norm cumsum cumprod logsumexp softmax log_softmax"),
    (layout, "flatten squeeze expand_dims swapaxes moveaxis broadcast_to repeat tile split flip roll"),
    (index, "take argsort"),
    (linalg, "dot"),
)

for _class in (DiffTensor, Batch):  # derivative rules meet batches as raw arrays
    for _name, _row in _BINARY.items():
        setattr(_class, f"__{_name}__", _row)
        setattr(_class, f"__r{_name}__", _reflected(_row))
    for _name, _row in _PLAIN.items():
        setattr(_class, _name, _row)
    for _module, _names in _METHODS:
        for _name in _names.split():
            setattr(_class, _name, getattr(_module, _name))
    for _name in ("real", "imag"):
        setattr(_class, _name, property(getattr(e, _name)))
    _class.T = property(lambda self: layout.permute(self, axes=None))  # type: ignore[attr-defined]
    _class.mT = property(lambda self: layout.swapaxes(self, -1, -2))  # type: ignore[attr-defined]
for _name in _NUMPY_METHODS.split():
    setattr(DiffTensor, _name, _numpy(_name))
DiffTensor.compress = _compress  # type: ignore[attr-defined]
DiffTensor.at = property(index.At)  # type: ignore[attr-defined]

tensor._UFUNCS.update(e.UFUNCS, **activations.UFUNCS, matmul=linalg.matmul)
tensor._to_device, tape.rows = layout.to_device, layout
