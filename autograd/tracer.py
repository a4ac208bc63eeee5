"""Looking behind a tensor, under the names of HIPS autograd: ``isbox``, ``getval``."""

from typing import Any

from .extend import Box, notrace_primitive, primitive, register_notrace
from .tape import Node
from .tensor import DiffTensor

__all__ = ["Box", "Node", "getval", "isbox", "notrace_primitive", "primitive", "register_notrace"]


def isbox(x: Any) -> bool:
    """Whether a value is a tensor (and not a plain array or number)."""
    return type(x) is DiffTensor


def getval(x: Any) -> Any:
    """The plain array of a tensor, whatever tracks it; anything else as it is. No gradient flows through it."""
    return x._value("getval()") if type(x) is DiffTensor else x
