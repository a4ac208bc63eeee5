"""Operators and methods of DiffTensor: each is a row (or a function over rows) under the name that users expect.

A row assigned as an attribute of the class becomes its method without a further Python frame.
"""

from collections.abc import Callable
from typing import Any

from .. import tape, tensor
from ..tensor import DiffTensor
from . import elementwise as e
from . import index, layout, linalg, reduce


def _reflected(row: Callable) -> Callable:
    return lambda self, other: row(other, self)


def _power(self: Any, exponent: Any) -> Any:
    return e.square(self) if type(exponent) is int and exponent == 2 else e.power(self, exponent)


def _reshape(self: Any, *shape: Any) -> Any:
    return layout.reshape(self, shape=shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape)


def _transpose(self: Any, *axes: Any) -> Any:
    return layout.permute(self, axes=None if not axes else axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes)


_BINARY = {
    "add": e.add, "sub": e.subtract, "mul": e.multiply, "truediv": e.divide, "floordiv": e.floor_divide, "mod": e.remainder,
    "pow": e.power, "matmul": linalg.matmul, "and": e.bitwise_and, "or": e.bitwise_or, "xor": e.bitwise_xor,
}  # fmt: skip
_PLAIN = {
    "__neg__": e.negative, "__pos__": e.positive, "__abs__": e.abs, "__invert__": e.bitwise_invert, "__pow__": _power,
    "__eq__": e.equal, "__ne__": e.not_equal, "__lt__": e.less, "__le__": e.less_equal, "__gt__": e.greater,
    "__ge__": e.greater_equal, "__getitem__": index.getitem, "reshape": _reshape, "transpose": _transpose,
}  # fmt: skip
_METHODS = (
    (e, "abs exp log sqrt square sin cos tan tanh sigmoid relu clip conj round"),
    (reduce, "sum mean prod var std max min argmax argmin all any norm cumsum cumprod logsumexp softmax log_softmax"),
    (layout, "astype flatten ravel squeeze expand_dims swapaxes moveaxis broadcast_to repeat tile split flip roll"),
    (index, "take argsort"),
    (linalg, "dot"),
)

for _name, _row in _BINARY.items():
    setattr(DiffTensor, f"__{_name}__", _row)
    setattr(DiffTensor, f"__r{_name}__", _reflected(_row))
for _name, _row in _PLAIN.items():
    setattr(DiffTensor, _name, _row)
for _module, _names in _METHODS:
    for _name in _names.split():
        setattr(DiffTensor, _name, getattr(_module, _name))
for _name in ("real", "imag"):
    setattr(DiffTensor, _name, property(getattr(e, _name)))
DiffTensor.T = property(layout.permute)  # type: ignore[attr-defined]
DiffTensor.mT = property(lambda self: layout.swapaxes(self, -1, -2))  # type: ignore[attr-defined]
DiffTensor.at = property(index.At)  # type: ignore[attr-defined]

tensor._UFUNCS.update(e.UFUNCS, matmul=linalg.matmul)
tensor._to_device, tape.rows = layout.to_device, layout
