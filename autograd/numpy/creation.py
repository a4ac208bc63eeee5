"""Making arrays: ``array`` and its relatives of lists that hold tensors, and functions that copy a shape."""

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import ops
from ._face import array_of, constant, face, holds, raw, rule
from .joining import concatenate


def array(
    object: Any, dtype: Any = None, *, copy: Any = True, order: str = "K", subok: bool = False, ndmin: int = 0
) -> Any:
    """numpy.array; of lists (of lists …) that hold tensors it is the tensor made of them."""
    if not holds(object):
        options = {"order": order, "subok": subok, "ndmin": ndmin}
        return np.array(object, dtype, copy=copy, **options)  # type: ignore[call-overload]
    made = array_of(object)
    made = ops.positive(made) if made is object else made
    made = made if dtype is None else ops.astype(made, dtype)
    missing = ndmin - len(made.shape)
    return constant(ops.reshape(made, shape=(1,) * missing + tuple(made.shape)) if missing > 0 else made)


def asarray(a: Any, dtype: Any = None, order: Any = None, *, copy: Any = None, **options: Any) -> Any:
    """numpy.asarray; a tensor stays itself."""
    if not holds(a):
        return np.asarray(a, dtype, order, copy=copy, **options)
    made = array_of(a)
    return constant(made if dtype is None else ops.astype(made, dtype))


def full(shape: Any, fill_value: Any, dtype: Any = None, order: str = "C", **options: Any) -> Any:
    """numpy.full, differentiable in ``fill_value``."""
    if not holds(fill_value):
        return np.full(raw(shape), fill_value, dtype, order, **options)  # type: ignore[call-overload]
    value = array_of(fill_value)
    value = value if dtype is None else ops.astype(value, dtype)
    return constant(ops.broadcast_to(value, shape=(shape,) if isinstance(shape, int | np.integer) else tuple(shape)))


@rule(np.linspace)
def linspace(
    start: Any, stop: Any, num: int = 50, endpoint: bool = True, retstep: bool = False, dtype: Any = None, axis: int = 0
) -> Any:
    start, stop = array_of(start), array_of(stop)
    parts = num - 1 if endpoint else num
    ndim = max(np.ndim(raw(start)), np.ndim(raw(stop)))
    kind = np.result_type(raw(start), raw(stop), 0.0)
    t = (np.arange(num, dtype=kind) / max(parts, 1)).reshape((num,) + (1,) * ndim)
    made = start * (1.0 - t) + stop * t  # both ends are exact
    made = made if axis == 0 else ops.moveaxis(made, 0, axis)
    made = made if dtype is None else ops.astype(made, dtype)
    return (made, (stop - start) / parts) if retstep else made


def _like(plain: Callable) -> Callable:
    return face(plain, lambda a, *args, **kwargs: plain(raw(array_of(a)), *map(raw, args), **kwargs))


zeros_like, ones_like, empty_like = _like(np.zeros_like), _like(np.ones_like), _like(np.empty_like)


@rule(np.full_like)
def full_like(
    a: Any, fill_value: Any, dtype: Any = None, order: str = "K", subok: bool = True, shape: Any = None
) -> Any:
    like = raw(array_of(a))
    return full(np.shape(like) if shape is None else shape, fill_value, like.dtype if dtype is None else dtype)


class _Joined:
    """``r_`` and ``c_``: arrays joined along an axis by indexing; see NumPy's documentation of them."""

    def __init__(self, plain: Any, columns: bool):
        self._plain, self._columns = plain, columns

    def __getitem__(self, key: Any) -> Any:
        parts = key if isinstance(key, tuple) else (key,)
        if not any(map(holds, parts)):
            return self._plain[key]
        if any(isinstance(p, str) for p in parts):
            raise TypeError("r_ and c_ with a tensor take no directive string; write concatenate, stack or reshape")
        made = [np.r_[p] if isinstance(p, slice) else array_of(p) for p in parts]
        made = [
            ops.reshape(np.asarray(m) if not hasattr(m, "shape") else m, shape=(-1,)) if not np.ndim(raw(m)) else m
            for m in made
        ]
        if self._columns:
            made = [ops.reshape(m, shape=(-1, 1)) if len(m.shape) == 1 else m for m in made]
        return concatenate(made, -1 if self._columns else 0)


r_, c_ = _Joined(np.r_, columns=False), _Joined(np.c_, columns=True)

FACES: dict[str, Any] = {
    "array": array, "asarray": asarray, "asanyarray": asarray, "ascontiguousarray": asarray, "full": full, "linspace": linspace,
    "zeros_like": zeros_like, "ones_like": ones_like, "empty_like": empty_like, "full_like": full_like, "r_": r_, "c_": c_,
}  # fmt: skip

# What a tensor says of itself, as plain values.
for _plain in (
    np.shape,
    np.ndim,
    np.size,
    np.iscomplexobj,
    np.isrealobj,
    np.result_type,
    np.may_share_memory,
    np.shares_memory,
):
    FACES[_plain.__name__] = face(_plain, lambda *args, _plain=_plain, **kwargs: _plain(*map(raw, args), **kwargs))
FACES["isscalar"] = face(np.isscalar, lambda element: np.isscalar(raw(element)))
