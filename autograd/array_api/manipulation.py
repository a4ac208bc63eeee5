"""Functions that move elements without computing, and that pick them: rows of the op table under the standard's names."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import backend, ops
from ..tensor import DiffTensor
from ._arrays import beside, tensor, value_of

__all__ = [
    "broadcast_arrays", "broadcast_to", "concat", "expand_dims", "flip", "moveaxis", "permute_dims", "repeat", "reshape", "roll",
    "squeeze", "stack", "take", "take_along_axis", "tile", "unstack",
]  # fmt: skip

Axes = int | Sequence[int]


def broadcast_to(x: Any, /, shape: Any) -> DiffTensor:
    return ops.broadcast_to(tensor(x), shape=tuple(shape))


def broadcast_arrays(*arrays: Any) -> list[DiffTensor]:
    xs = [tensor(x) for x in arrays]
    shape = np.broadcast_shapes(*(x.shape for x in xs))
    return [x if x.shape == shape else ops.broadcast_to(x, shape=shape) for x in xs]


def reshape(x: Any, /, shape: Any, *, copy: bool | None = None) -> DiffTensor:
    """x with another shape; one length may be -1. ``copy=False`` raises ValueError where NumPy would have to copy."""
    x, shape = tensor(x), (shape,) if isinstance(shape, int) else tuple(shape)
    if copy is False and type(x.raw) is np.ndarray:
        np.reshape(x.raw, shape, copy=False)
    found = ops.reshape(x, shape=shape)
    return ops.astype(found, x.dtype) if copy else found


def expand_dims(x: Any, /, axis: int) -> DiffTensor:
    """x with a new axis of length 1. IndexError if there is no such place."""
    x = tensor(x)
    if not -x.ndim - 1 <= axis <= x.ndim:
        raise IndexError(f"expand_dims: there is no place {axis} among {x.ndim} axes")
    return ops.expand_dims(x, axis=axis)


def squeeze(x: Any, /, axis: Axes) -> DiffTensor:
    """x without axes of length 1. ValueError if one is longer."""
    return ops.squeeze(tensor(x), axis=axis)


def permute_dims(x: Any, /, axes: Sequence[int]) -> DiffTensor:
    return ops.permute(tensor(x), axes=tuple(axes))


def moveaxis(x: Any, source: Axes, destination: Axes, /) -> DiffTensor:
    """x with one axis, or several, moved to other places."""
    x = tensor(x)
    sources, places = [(a,) if isinstance(a, int) else tuple(a) for a in (source, destination)]
    if len(sources) != len(places):
        raise ValueError(f"moveaxis: {len(sources)} axes do not go to {len(places)} places")
    moves = {_axis(p, x.ndim): _axis(s, x.ndim) for s, p in zip(sources, places, strict=True)}
    rest = iter(a for a in range(x.ndim) if a not in moves.values())
    return ops.permute(x, axes=tuple(moves[a] if a in moves else next(rest) for a in range(x.ndim)))


def _axis(axis: int, ndim: int) -> int:
    if not -ndim <= axis < ndim:
        raise IndexError(f"axis {axis} is out of range for a tensor of {ndim} axes")
    return axis % ndim


def flip(x: Any, /, *, axis: Axes | None = None) -> DiffTensor:
    return ops.flip(tensor(x), axis=axis)


def roll(x: Any, /, shift: Axes, *, axis: Axes | None = None) -> DiffTensor:
    """x with its elements moved in a circle along axes (of all in a row if None)."""
    return ops.roll(tensor(x), shift=shift, axis=axis)


def tile(x: Any, repetitions: Sequence[int], /) -> DiffTensor:
    return ops.tile(tensor(x), reps=tuple(repetitions))


def repeat(x: Any, repeats: Any, /, *, axis: int | None = None) -> DiffTensor:
    """Each element (or slice along ``axis``) repeated: so many times, or as often as a tensor of integers says for each."""
    x = tensor(x)
    if isinstance(repeats, int):
        return ops.repeat(x, repeats=repeats, axis=axis)
    counts = np.asarray(backend.to_device(value_of(tensor(repeats), "repeat"), "cpu"))
    places = np.repeat(np.arange(x.size if axis is None else x.shape[axis]), counts)
    return ops.take(x, beside(x, places), axis=axis)


def concat(arrays: Sequence[Any], /, *, axis: int | None = 0) -> DiffTensor:
    """Tensors joined along an existing axis; flattened before if None."""
    xs = [tensor(x) for x in arrays]
    return ops.concat(xs, axis=axis) if axis is not None else ops.concat([ops.ravel(x) for x in xs], axis=0)


def stack(arrays: Sequence[Any], /, *, axis: int = 0) -> DiffTensor:
    return ops.stack([tensor(x) for x in arrays], axis=axis)


def unstack(x: Any, /, *, axis: int = 0) -> tuple[DiffTensor, ...]:
    """The slices of x along an axis."""
    x = tensor(x)
    before = (slice(None),) * _axis(axis, x.ndim)
    return tuple(x[(*before, i, ...)] for i in range(x.shape[axis]))


def take(x: Any, indices: Any, /, *, axis: int | None = None) -> DiffTensor:
    """Slices of x at integer places along an axis, which only a vector may leave out."""
    x = tensor(x)
    if axis is None and x.ndim != 1:
        raise ValueError(f"take: a tensor of {x.ndim} axes needs an axis")
    return ops.take(x, tensor(indices), axis=0 if axis is None else axis)


def take_along_axis(x: Any, indices: Any, /, *, axis: int = -1) -> DiffTensor:
    """For each element of ``indices`` the element of x at that place along the axis."""
    return ops.take_along_axis(tensor(x), tensor(indices), axis=axis)
