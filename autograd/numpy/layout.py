"""NumPy's functions that move, repeat, pick and order elements, as rows of the op table, with NumPy's signatures."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import ops
from ._face import array_of, raw, rule
from .reductions import _axis

_ints = _axis  # shapes, repetitions and orders are read as axes are


def _backwards(x: Any) -> Any:
    return ops.permute(x, axes=None)


def _c_order(name: str, order: str | None) -> None:
    if order not in (None, "C", "K", "A"):
        raise TypeError(f"{name}: a tensor has no memory order {order!r}; leave order out, or use transposes")


@rule(np.reshape)
def reshape(a: Any, /, shape: Any = None, order: str = "C", *, newshape: Any = None, copy: Any = None) -> Any:
    a, shape = array_of(a), _ints(newshape if shape is None else shape)
    if order == "F":
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        return _backwards(ops.reshape(_backwards(a), shape=shape[::-1]))
    _c_order("reshape", order)
    return ops.reshape(a, shape=shape)


@rule(np.ravel)
def ravel(a: Any, order: str = "C") -> Any:
    a = array_of(a)
    if order != "F":
        _c_order("ravel", order)
    return ops.ravel(_backwards(a) if order == "F" else a)


@rule(np.transpose)
def transpose(a: Any, axes: Any = None) -> Any:
    return ops.permute(array_of(a), axes=_ints(axes))


permute_dims = transpose


@rule(np.swapaxes)
def swapaxes(a: Any, axis1: int, axis2: int) -> Any:
    return ops.swapaxes(array_of(a), int(axis1), int(axis2))


@rule(np.moveaxis)
def moveaxis(a: Any, source: Any, destination: Any) -> Any:
    a = array_of(a)
    n = len(a.shape)
    sources, places = ([int(i) % n for i in np.atleast_1d(raw(v))] for v in (source, destination))
    order = [i for i in range(n) if i not in sources]
    for place, axis in sorted(zip(places, sources, strict=True)):
        order.insert(place, axis)
    return ops.permute(a, axes=tuple(order))


@rule(np.rollaxis)
def rollaxis(a: Any, axis: int, start: int = 0) -> Any:
    a = array_of(a)
    n = len(a.shape)
    axis, start = axis % n, start + n if start < 0 else start
    return ops.moveaxis(a, axis, start - 1 if start > axis else start)


@rule(np.expand_dims)
def expand_dims(a: Any, axis: Any) -> Any:
    return ops.expand_dims(array_of(a), axis=_ints(axis))


@rule(np.squeeze)
def squeeze(a: Any, axis: Any = None) -> Any:
    return ops.squeeze(array_of(a), axis=_ints(axis))


@rule(np.broadcast_to)
def broadcast_to(array: Any, shape: Any, subok: bool = False) -> Any:
    shape = _ints(shape)
    return ops.broadcast_to(array_of(array), shape=(shape,) if isinstance(shape, int) else shape)


@rule(np.broadcast_arrays)
def broadcast_arrays(*args: Any, subok: bool = False) -> tuple:
    xs = [array_of(a) for a in args]
    shape = np.broadcast_shapes(*(np.shape(raw(x)) for x in xs))
    return tuple(ops.broadcast_to(x, shape=shape) for x in xs)


@rule(np.meshgrid)
def meshgrid(*xi: Any, copy: bool = True, sparse: bool = False, indexing: str = "xy") -> tuple:
    n = len(xi)
    xs = [ops.reshape(array_of(x), shape=(1,) * i + (-1,) + (1,) * (n - i - 1)) for i, x in enumerate(xi)]
    if indexing == "xy" and n > 1:
        xs = [ops.swapaxes(x, 0, 1) for x in xs]
    return tuple(xs) if sparse else broadcast_arrays(*xs)


def _atleast(n: int) -> Callable:
    def one(a: Any) -> Any:
        a = array_of(a)
        shape = tuple(np.shape(raw(a)))
        if len(shape) >= n:
            return a
        full = (1,) * (n - len(shape)) + shape
        if n == 3 and len(shape) in (
            1,
            2,
        ):  # NumPy's order: a vector lies along the middle axis, a matrix keeps its axes
            full = (1, *shape, 1) if len(shape) == 1 else (*shape, 1)
        return ops.reshape(a, shape=full)

    return lambda *arrays: one(arrays[0]) if len(arrays) == 1 else tuple(map(one, arrays))


atleast_1d, atleast_2d, atleast_3d = (
    rule(f)(_atleast(n)) for n, f in ((1, np.atleast_1d), (2, np.atleast_2d), (3, np.atleast_3d))
)

# ---- reversing, repeating, padding ----


@rule(np.flip)
def flip(m: Any, axis: Any = None) -> Any:
    return ops.flip(array_of(m), axis=_ints(axis))


@rule(np.flipud)
def flipud(m: Any) -> Any:
    return ops.flip(array_of(m), axis=0)


@rule(np.fliplr)
def fliplr(m: Any) -> Any:
    return ops.flip(array_of(m), axis=1)


@rule(np.rot90)
def rot90(m: Any, k: int = 1, axes: Sequence[int] = (0, 1)) -> Any:
    return ops.rot90(array_of(m), int(k), (axes[0], axes[1]))


@rule(np.roll)
def roll(a: Any, shift: Any, axis: Any = None) -> Any:
    a, shift, axis = array_of(a), _ints(shift), _ints(axis)
    if axis is None:
        return ops.reshape(ops.roll(ops.ravel(a), shift=shift, axis=0), shape=tuple(a.shape))
    return ops.roll(a, shift=shift, axis=axis)


@rule(np.tile)
def tile(A: Any, reps: Any) -> Any:
    return ops.tile(array_of(A), reps=_ints(reps))


@rule(np.repeat)
def repeat(a: Any, repeats: Any, axis: int | None = None) -> Any:
    a, repeats = array_of(a), np.asarray(raw(repeats))
    if repeats.size == 1:
        return ops.repeat(a, repeats=int(repeats.reshape(())), axis=axis)
    n = a.size if axis is None else a.shape[axis]
    return ops.take(a, np.repeat(np.arange(n), repeats), axis=axis)


@rule(np.pad)
def pad(array: Any, pad_width: Any, mode: str = "constant", **options: Any) -> Any:
    array = array_of(array)
    ndim = len(array.shape)
    width = np.broadcast_to(np.asarray(raw(pad_width), int), (ndim, 2)) if ndim else np.zeros((0, 2), int)
    pairs = tuple((int(a), int(b)) for a, b in width)
    if mode == "constant":
        value = raw(options.pop("constant_values", 0))
        if options or np.ndim(value):
            raise TypeError(
                f"pad: one number for constant_values is differentiated here, not {value!r} {options or ''}"
            )
        return ops.pad(array, width=pairs, value=value)
    if mode not in ("edge", "reflect", "symmetric", "wrap"):
        raise TypeError(
            f"pad: mode {mode!r} has no derivative here; constant, edge, reflect, symmetric and wrap have one"
        )
    for axis, pair in enumerate(pairs):
        if pair != (0, 0):
            array = ops.take(array, np.pad(np.arange(array.shape[axis]), pair, mode, **options), axis=axis)  # type: ignore[call-overload]
    return array


# ---- diagonals and triangles ----


@rule(np.diagonal)
def diagonal(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    a = array_of(a)
    n = len(a.shape)
    rest = tuple(i for i in range(n) if i not in (axis1 % n, axis2 % n))
    return ops.diagonal(ops.permute(a, axes=(*rest, axis1 % n, axis2 % n)), k=int(offset))


@rule(np.trace)
def trace(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None) -> Any:
    total = ops.sum(diagonal(a, offset, axis1, axis2), axis=-1)
    return total if dtype is None else ops.astype(total, dtype)


@rule(np.diag)
def diag(v: Any, k: int = 0) -> Any:
    return ops.diag(array_of(v), int(k))


@rule(np.diagflat)
def diagflat(v: Any, k: int = 0) -> Any:
    return ops.diag(ops.ravel(array_of(v)), int(k))


@rule(np.tril)
def tril(m: Any, k: int = 0) -> Any:
    return ops.tril(array_of(m), k=int(k))


@rule(np.triu)
def triu(m: Any, k: int = 0) -> Any:
    return ops.triu(array_of(m), k=int(k))


# ---- picking and ordering ----


@rule(np.take)
def take(a: Any, indices: Any, axis: int | None = None, mode: str = "raise") -> Any:
    a, places = array_of(a), np.asarray(raw(indices))
    if mode != "raise":
        n = int(np.prod(a.shape)) if axis is None else a.shape[axis]
        places = places % n if mode == "wrap" else np.clip(places, 0, n - 1)
    return ops.take(a, places, axis=axis)


@rule(np.take_along_axis)
def take_along_axis(arr: Any, indices: Any, axis: int | None = -1) -> Any:
    arr, places = array_of(arr), np.asarray(raw(indices))
    return (
        ops.take_along_axis(ops.ravel(arr), places, axis=0)
        if axis is None
        else ops.take_along_axis(arr, places, axis=axis)
    )


@rule(np.compress)
def compress(condition: Any, a: Any, axis: int | None = None) -> Any:
    return ops.take(array_of(a), np.flatnonzero(np.asarray(raw(condition))), axis=axis)


@rule(np.delete)
def delete(arr: Any, obj: Any, axis: int | None = None) -> Any:
    arr = array_of(arr)
    arr = ops.ravel(arr) if axis is None else arr
    axis = 0 if axis is None else axis
    return ops.take(arr, np.delete(np.arange(arr.shape[axis]), raw(obj)), axis=axis)


@rule(np.sort)
def sort(a: Any, axis: int | None = -1, kind: Any = None, *, stable: Any = None) -> Any:
    a = array_of(a)
    return ops.sort(ops.ravel(a), axis=-1) if axis is None else ops.sort(a, axis=int(axis))


@rule(np.partition)
def partition(a: Any, kth: Any, axis: int | None = -1, kind: str = "introselect") -> Any:
    a = array_of(a)
    a, axis = (ops.ravel(a), -1) if axis is None else (a, axis)
    return ops.take_along_axis(a, np.argpartition(raw(a), kth, axis), axis=axis)  # type: ignore[arg-type]


@rule(np.copy)
def copy(a: Any, order: str = "K", subok: bool = False) -> Any:
    _c_order("copy", order)
    return ops.positive(array_of(a))


@rule(np.astype)
def astype(x: Any, dtype: Any, /, *, copy: bool = True, device: Any = None) -> Any:
    return ops.astype(x, dtype)


def make_diagonal(D: Any, offset: int = 0, axis1: int = -1, axis2: int = -2) -> Any:
    """Matrices with the last axis of ``D`` on diagonal ``offset``: the transpose of ``diagonal`` (a function of HIPS autograd)."""
    n = np.ndim(raw(D)) + 1
    if {axis1 % n, axis2 % n} != {n - 2, n - 1}:
        raise TypeError(
            f"make_diagonal: the diagonal goes into the last two axes, not {axis1} and {axis2}; use moveaxis"
        )
    if axis1 % n > axis2 % n:
        offset = -offset
    m = np.shape(raw(D))[-1] + abs(offset)
    return ops.layout.put_diagonal(array_of(D), k=offset, shape=(m, m))


FACES: dict[str, Callable] = {
    f.__name__: f
    for f in (
        reshape,
        ravel,
        transpose,
        swapaxes,
        moveaxis,
        rollaxis,
        expand_dims,
        squeeze,
        broadcast_to,
        broadcast_arrays,
        meshgrid,
        atleast_1d,
        atleast_2d,
        atleast_3d,
        flip,
        flipud,
        fliplr,
        rot90,
        roll,
        tile,
        repeat,
        pad,
        diagonal,
        trace,
        diag,
        diagflat,
        tril,
        triu,
        take,
        take_along_axis,
        compress,
        delete,
        sort,
        partition,
        copy,
        astype,
        make_diagonal,
    )
}
FACES |= {
    "permute_dims": permute_dims,
    "matrix_transpose": rule(np.matrix_transpose)(lambda x: ops.swapaxes(x, -1, -2)),
}
