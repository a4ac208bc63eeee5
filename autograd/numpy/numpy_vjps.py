"""Helpers that derivative rules written for HIPS autograd use.

With us they are seldom needed: the engine itself sums a rule's result over broadcast axes and takes the real part where
the input is real.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import ops
from ._face import raw

Metadata = tuple[tuple[int, ...], int, Any, bool]


def metadata(A: Any) -> Metadata:
    """Shape, number of axes, dtype, and whether it is complex."""
    A = raw(A)
    return np.shape(A), np.ndim(A), np.result_type(A), np.iscomplexobj(A)


def unbroadcast(x: Any, target_meta: Metadata, broadcast_idx: int = 0) -> Any:
    """``x`` summed over the axes along which an array of that ``metadata`` was broadcast, and real if it is.

    ``broadcast_idx`` is 0 where new axes came in front, and -1 where they came at the end.
    """
    shape, ndim, _, is_complex = target_meta
    extra = np.ndim(raw(x)) - ndim
    if extra > 0:
        x = ops.sum(x, axis=tuple(range(extra)) if broadcast_idx == 0 else tuple(range(ndim, ndim + extra)))
    axes = tuple(i for i, n in enumerate(shape) if n == 1 and np.shape(raw(x))[i] != 1)
    x = ops.sum(x, axis=axes, keepdims=True) if axes else x
    return ops.real(x) if np.iscomplexobj(raw(x)) and not is_complex else x


def unbroadcast_f(target: Any, f: Callable) -> Callable:
    """The rule ``f``, its result brought back to the shape of ``target``."""
    meta = metadata(target)
    return lambda g: unbroadcast(f(g), meta)


def match_complex(target: Any, x: Any) -> Any:
    """``x`` made real or complex, as ``target`` is."""
    wanted, given = np.iscomplexobj(raw(target)), np.iscomplexobj(raw(x))
    return ops.real(x) if given and not wanted else x + 0j if wanted and not given else x


def replace_zero(x: Any, val: float) -> Any:
    """``x`` with its zeros replaced by a number."""
    return ops.where(ops.equal(x, 0), val, x)


def repeat_to_match_shape(g: Any, shape: tuple[int, ...], dtype: Any, axis: Any, keepdims: bool) -> tuple[Any, int]:
    """A reduced gradient stretched again over ``shape``, and how many elements each of its own stands for."""
    if shape == ():
        return g, 1
    axes = tuple(range(len(shape))) if axis is None else tuple(a % len(shape) for a in np.atleast_1d(axis))
    kept = tuple(1 if i in axes else n for i, n in enumerate(shape))
    return ops.broadcast_to(ops.reshape(g, shape=kept), shape=shape), int(np.prod([shape[a] for a in axes]))
