"""Python's containers and type questions for code that is traced, under the names of HIPS autograd.

Trees of tensors are plain lists, tuples and dicts here, so the containers are Python's own. ``isinstance`` and ``type``
answer for the array in a tensor.
"""

import builtins
from typing import Any

from .tensor import DiffTensor

__all__ = ["DictBox", "SequenceBox", "dict", "isinstance", "list", "tuple", "type"]

dict, list, tuple = builtins.dict, builtins.list, builtins.tuple
DictBox = dict
SequenceBox = list | tuple


def isinstance(value: Any, kinds: Any) -> bool:
    """Whether a value, or the array in a tensor, is of a class: ``isinstance(t, numpy.ndarray)`` holds for a tensor of
    NumPy's with axes, ``isinstance(t, float)`` for one of a float64 number."""
    return builtins.isinstance(value, kinds) or (
        builtins.type(value) is DiffTensor and builtins.isinstance(value.raw, kinds)
    )


def type(value: Any, *more: Any) -> Any:
    """The class of a value, or of the array in a tensor."""
    return (
        builtins.type(value, *more)
        if more
        else builtins.type(value.raw if builtins.type(value) is DiffTensor else value)
    )
