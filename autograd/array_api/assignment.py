"""``x[i] = v`` for code that cannot do without it: inside ``in_place()`` it gives the tensor a new value, and a new node.

A tensor is a handle; the tape's nodes hold raw arrays and never point at tensors. So an assignment can be what ``x.at[i].set(v)``
is, a new array on the tape, with the handle moved on to it: whatever was recorded before keeps the old value, and the
gradient flows both to what was there and to what was put in. No array is ever written to, which costs a copy of ``x`` for each
assignment.

What it cannot be is the default. Who holds the same tensor sees it change, and a transform that was given a function holds
that function's arguments. So it has to be asked for, and only for tensors that were made inside the block.
"""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import numpy as np

from .. import backend, ops
from ..ops.index import _host_index, _is_basic, _raw_index
from ..shapes import numpy_dtype, shape_of
from ..tape import Leaf, next_serial
from ..tensor import DiffTensor

_entered: ContextVar[int | None] = ContextVar("in_place", default=None)
"""The number in the order of the tape's nodes at which the innermost block was entered."""


@contextlib.contextmanager
def in_place() -> Iterator[None]:
    """A block (or a decorated function) in which ``x[i] = v`` works, for foreign code such as SciPy's::

        with xp.in_place():
            z = scipy.stats.zscore(t)

    The assignment is recorded: gradients flow to ``v`` and to what is left of ``x``. Only tensors that are constant, or that were
    computed inside the block, can be assigned to; leaves, and results from outside, raise TypeError: copy them first, with
    ``asarray(x, copy=True)``. Views do not exist: after ``y = x[0]`` an assignment to ``y`` does not change ``x``.
    """
    token = _entered.set(next_serial())
    try:
        yield
    finally:
        _entered.reset(token)


def assign(x: DiffTensor, index: Any, value: Any) -> None:
    """``x[index] = value``; see ``in_place``."""
    entered = _entered.get()
    if entered is None:
        raise TypeError(
            "a tensor cannot be changed in place; write t = t.at[index].set(value), or t = where(condition, value, t); code of others "
            "that must assign runs inside autograd.array_api.in_place()"
        )
    if x.node is not None and (isinstance(x.node, Leaf) or x.node.serial < entered):
        raise TypeError(
            "in_place: this tensor is a leaf or was computed outside of the block, so others may hold it; copy it first, with "
            "asarray(x, copy=True)"
        )
    value = value if type(value) is DiffTensor or not backend.is_array(value) else DiffTensor(value)
    found = _replaced(x, index, value)
    if found.node is None and (x.node is not None or getattr(value, "node", None) is not None):
        raise TypeError(
            f"in_place: the assignment to a tensor of {x.dtype} would lose the gradient of the value, or of the tensor inside "
            "no_grad(); write .detach() if that is meant"
        )
    x.raw, x.node = found.raw, found.node


def _replaced(x: DiffTensor, index: Any, value: Any) -> DiffTensor:
    """x with a value at an index, as a new tensor of its dtype."""
    dtype = numpy_dtype(x.dtype)
    if type(value) is DiffTensor and numpy_dtype(value.dtype) != dtype:
        value = ops.astype(value, dtype)
    if _is_mask(index, x) and shape_of(value) == ():  # the one that needs no values of the mask
        return ops.astype(ops.where(index, value, x), dtype)
    raw = _raw_index(index)
    if not _is_basic(raw):
        places = np.arange(x.size).reshape(x.shape)[_host_index(raw)]
        if np.unique(places).size < places.size:
            raise ValueError("in_place: the index names a place twice, so which value stays is not defined")
    found = ops.put(x, value, index=raw)
    return found if found.raw is None else DiffTensor._wrap(backend.scalar(found.raw), found.node)


def _is_mask(index: Any, x: DiffTensor) -> bool:
    return type(index) is DiffTensor and numpy_dtype(index.dtype).kind == "b" and index.shape == x.shape
