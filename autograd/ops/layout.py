"""Rows that move elements without computing: reshape, permute, broadcast, join, split, repeat, triangles, casts.

All are linear, so their rules read shapes only and nothing is kept for the backward pass.
"""

import builtins
import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import backend
from ..backend import xp
from ..halves import SINGLE, half, is_half, is_half_array, single
from ..shapes import axes_of, numpy_dtype, reshaped, result_dtype, same, shape_of, summed
from ..table import op
from ..tensor import DiffTensor
from .elementwise import add, conj, imag, real

__all__ = [
    "astype", "broadcast_to", "concat", "conj", "diag", "diagonal", "expand_dims", "flatten", "flip", "imag", "moveaxis", "pad",
    "permute", "ravel", "real", "repeat", "reshape", "roll", "split", "squeeze", "stack", "sum_to", "swapaxes", "tile", "to_device",
    "transpose", "tril", "triu",
]  # fmt: skip

# ---- casts and moves ----


def _astype(x: Any, *, dtype: Any) -> Any:
    if not hasattr(x, "dtype"):
        return np.dtype(dtype).type(x)
    library = xp(x)
    if backend.is_complex(x.dtype) and not backend.is_complex(numpy_dtype(dtype)):
        x = library.real(x)
    return library.astype(x, getattr(library, str(numpy_dtype(dtype)), dtype))


_astype_row = op("astype", _astype, lambda x, dtype: (shape_of(x), numpy_dtype(dtype)), lambda g, _y, _x, dtype: g if backend.is_inexact(numpy_dtype(dtype)) else g * 0.0, flops=0, precision="any", doc="x in another dtype.")


def astype(x: Any, dtype: Any) -> Any:
    """x in another dtype. To integers or booleans it is a constant to the gradient; complex to real keeps the real part."""
    if backend.is_complex(getattr(x, "dtype", "")) and not backend.is_complex(numpy_dtype(dtype)):
        x = real(x)
    if isinstance(x, DiffTensor) and x.raw is not None and not backend.is_inexact(numpy_dtype(dtype)):
        x = x.detach()
    return _astype_row(x, dtype=dtype)


def _np_astype(x: Any, dtype: Any) -> Any:
    """The cast; those between float32 and half precision are faster than NumPy's."""
    kind = numpy_dtype(dtype)
    if not hasattr(x, "dtype") or not (x.dtype == SINGLE or kind == SINGLE):
        return _astype(x, dtype=kind)
    return half(x, kind) if is_half(kind) else single(x) if is_half(x.dtype) else _astype(x, dtype=kind)


_astype_row.row.kernels[np.ndarray] = _np_astype
astype.row = _astype_row.row  # type: ignore[attr-defined]


def _to_device(x: Any, *, device: Any, source: Any) -> Any:
    return backend.to_device(x, device)


_to_device_row = op("to_device", _to_device, lambda x, **_: same(x), lambda g, _y, _x, device, source: _to_device_row(g, device=source, source=device), flops=0, precision="any")


def to_device(x: Any, device: str) -> Any:
    """x on another device: "cpu", "cuda" or "cuda:N"; its gradient moves back."""
    raw = x.raw if isinstance(x, DiffTensor) else x
    return _to_device_row(x, device=device, source=backend.place_of(raw) if backend.is_array(raw) else x.device)


# ---- shape ----

reshape = op(
    "reshape", lambda x, *, shape: backend.scalar(xp(x).reshape(x, (shape,) if isinstance(shape, int) else tuple(shape))), reshaped,
    lambda g, _y, _x, shape: reshape(g, shape=_x.shape), flops=0, precision="any", doc="x with another shape; one length may be -1.",
)  # fmt: skip


def _order(axes: Any, ndim: int) -> tuple[int, ...]:
    order = tuple(reversed(range(ndim))) if axes is None else tuple(a % ndim for a in axes)
    if sorted(order) != list(range(ndim)):
        raise ValueError(f"axes {axes} are not an order of the {ndim} axes")
    return order


def _inverse(order: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(map(order.index, range(len(order))))


permute = op(
    "permute", lambda x, *, axes=None: xp(x).permute_dims(x, _order(axes, x.ndim)),
    lambda x, axes: (tuple(shape_of(x)[a] for a in _order(axes, len(shape_of(x)))), result_dtype(x)),
    lambda g, _y, _x, axes: permute(g, axes=axes and _inverse(_order(axes, _x.ndim))),
    flops=0, precision="any", doc="x with its axes in another order (reversed if None).",
)  # fmt: skip
permute.row.kernels[np.ndarray] = lambda x, axes=None: x.transpose(axes)  # type: ignore[attr-defined]


def _sum_to(x: Any, *, shape: tuple[int, ...]) -> Any:
    if is_half_array(x):  # a sum is one of float32, rounded at its end
        return half(_sum_to(single(x), shape=shape), x.dtype)
    extra = x.ndim - len(shape)
    if x.shape[extra:] == shape and type(x) is np.ndarray:
        return np.add.reduce(x, axis=tuple(range(extra)) if extra != 1 else 0) if extra else x
    axes = tuple(i for i, n in enumerate(x.shape) if i < extra or (shape[i - extra] == 1 and n != 1))
    library = xp(x)
    total = (np.add.reduce if library is np else library.sum)(x, axis=axes) if axes else x
    return total if tuple(total.shape) == tuple(shape) else backend.scalar(library.reshape(total, tuple(shape)))


sum_to = op(
    "sum_to", _sum_to, lambda x, shape: (tuple(shape), (same if shape_of(x) == tuple(shape) else summed)(x)[1]), lambda g, _y, _x, shape: broadcast_to(g, shape=_x.shape),
    flops=lambda _y, x, **_: math.prod(shape_of(x)), doc="The transpose of broadcasting: x summed over the axes along which ``shape`` was stretched.",
)  # fmt: skip
broadcast_to = op(
    "broadcast_to", lambda x, *, shape: backend.scalar(xp(x).broadcast_to(x, tuple(shape))), lambda x, shape: (tuple(shape), result_dtype(x)),
    lambda g, _y, _x, shape: sum_to(g, shape=_x.shape), flops=0, precision="any", doc="x stretched to a shape by NumPy's broadcasting rules (a view, if it is large).",
)  # fmt: skip


def _np_broadcast_to(x: Any, shape: Any) -> Any:
    shape = tuple(shape)
    if math.prod(shape) > 16384:
        return np.broadcast_to(x, shape)
    out = np.empty(shape, x.dtype)  # making the view takes longer than filling a small array
    out[...] = x
    return out


for _class in (np.ndarray, np.float16, np.float32, np.float64, np.complex64, np.complex128):
    broadcast_to.row.kernels[_class] = _np_broadcast_to


def swapaxes(x: Any, axis1: int, axis2: int) -> Any:
    """x with two axes exchanged."""
    order = list(range(x.ndim))
    order[axis1], order[axis2] = order[axis2], order[axis1]
    return permute(x, axes=tuple(order))


def moveaxis(x: Any, source: int, destination: int) -> Any:
    """x with one axis moved to another place."""
    order = [a for a in range(x.ndim) if a != source % x.ndim]
    order.insert(destination % x.ndim, source % x.ndim)
    return permute(x, axes=tuple(order))


def transpose(x: Any, axes: Sequence[int] | None = None) -> Any:
    """x with its axes in another order (reversed if None)."""
    return permute(x, axes=axes)


def ravel(x: Any) -> Any:
    """x as a vector."""
    return reshape(x, shape=(-1,)) if math.prod(shape_of(x)) else reshape(x, shape=(0,))


def flatten(x: Any, start: int = 0, end: int = -1) -> Any:
    """x with the axes from ``start`` to ``end`` (inclusive) made one."""
    shape = tuple(x.shape)
    start, end = start % len(shape), end % len(shape)
    return reshape(x, shape=shape[:start] + (math.prod(shape[start : end + 1]),) + shape[end + 1 :])


def _squeezed(shape: tuple[int, ...], axis: Any) -> tuple[int, ...]:
    axes = tuple(i for i, n in enumerate(shape) if n == 1) if axis is None else axes_of(axis, len(shape))
    if any(shape[a] != 1 for a in axes):
        raise ValueError(f"squeeze: axis {axis} of shape {shape} is not of length 1")
    return tuple(n for i, n in enumerate(shape) if i not in axes)


squeeze = op(
    "squeeze", lambda x, *, axis=None: backend.scalar(xp(x).reshape(x, _squeezed(x.shape, axis))),
    lambda x, axis: (_squeezed(shape_of(x), axis), result_dtype(x)), lambda g, _y, _x, axis: reshape(g, shape=_x.shape),
    flops=0, precision="any", doc="x without the axes of length 1 (all of them if None).",
)  # fmt: skip


def _expanded(shape: tuple[int, ...], axis: Any) -> tuple[int, ...]:
    axes = axes_of(axis, len(shape) + (1 if isinstance(axis, int) else len(axis)))
    rest = iter(shape)
    return tuple(1 if i in axes else next(rest) for i in range(len(shape) + len(axes)))


expand_dims = op(
    "expand_dims", lambda x, *, axis: xp(x).reshape(x, _expanded(x.shape, axis)),
    lambda x, axis: (_expanded(shape_of(x), axis), result_dtype(x)), lambda g, _y, _x, axis: reshape(g, shape=_x.shape),
    flops=0, precision="any", doc="x with new axes of length 1 at the places ``axis`` of the result.",
)  # fmt: skip

# ---- joining and splitting ----


def _offsets(xs: Any, axis: int) -> list[int]:
    return [0, *np.cumsum([x.shape[axis] for x in xs]).tolist()]


def _slice(axis: int, ndim: int, start: Any, stop: Any, step: Any = None) -> tuple:
    return (slice(None),) * (axis % ndim) + (slice(start, stop, step), ...)


def _concat_shape(*xs: Any, axis: int = 0) -> Any:
    shapes = [shape_of(x) for x in xs]
    a = axes_of(axis, len(shapes[0]))[0]
    if len({s[:a] + s[a + 1 :] for s in shapes}) != 1:
        raise ValueError(f"concat: shapes {shapes} differ in another axis than {axis}")
    return shapes[0][:a] + (builtins.sum(s[a] for s in shapes),) + shapes[0][a + 1 :], result_dtype(*xs)


def _concat_rule(g: Any, _z: Any, _xs: Any, index: int, axis: int) -> Any:
    start, stop = _offsets(_xs, axis)[index : index + 2]
    return g[_slice(axis, g.ndim, start, stop)]


concat = op(
    "concat", lambda xs, *, axis=0: xp(xs[0]).concat(xs, axis=axis), _concat_shape, _concat_rule,
    variadic=True, flops=0, precision="any", doc="Arrays joined along an existing axis.",
)  # fmt: skip


def _stack_shape(*xs: Any, axis: int = 0) -> Any:
    shapes = [shape_of(x) for x in xs]
    if len(set(shapes)) != 1:
        raise ValueError(f"stack: shapes {shapes} differ")
    a = axes_of(axis, len(shapes[0]) + 1)[0]
    return shapes[0][:a] + (len(xs),) + shapes[0][a:], result_dtype(*xs)


stack = op(
    "stack", lambda xs, *, axis=0: xp(xs[0]).stack([xp(xs[0]).asarray(x) for x in xs], axis=axis), _stack_shape,
    lambda g, _z, _xs, index, axis: g[(slice(None),) * (axis % g.ndim) + (index, ...)],
    variadic=True, flops=0, precision="any", doc="Arrays of one shape joined along a new axis.",
)  # fmt: skip


def _bounds(n: int, sections: Any) -> list[int]:
    if isinstance(sections, int):
        if sections < 1 or n % sections:
            raise ValueError(f"split: an axis of length {n} does not divide into {sections} equal parts; pass the places to cut at")
        return list(range(0, n + 1, n // sections)) if n else [0] * (sections + 1)
    return [0, *(builtins.min(max(s + n if s < 0 else s, 0), n) for s in sections), n]


def _split(x: Any, *, sections: Any, axis: int = 0) -> tuple:
    bounds = _bounds(x.shape[axis], sections)
    return tuple(x[_slice(axis, x.ndim, a, max(a, b))] for a, b in itertools.pairwise(bounds))


def _split_shapes(x: Any, sections: Any, axis: int) -> Any:
    shape, a = list(shape_of(x)), axes_of(axis, len(shape_of(x)))[0]
    bounds = _bounds(shape[a], sections)
    return [((*shape[:a], max(v - u, 0), *shape[a + 1 :]), result_dtype(x)) for u, v in itertools.pairwise(bounds)]


def _split_rule(gs: Any, _ys: Any, _x: Any, sections: Any, axis: int) -> Any:
    """The parts' gradients joined; a part that was not used has none, and stands as zeros.

    Places to cut at that fall back, as NumPy allows, make parts that overlap: then the gradients are added up.
    """
    a, bounds = axis % _x.ndim, _bounds(_x.shape[axis], sections)

    def padded(g: Any, before: int, after: int) -> Any:
        return pad(g, width=((0, 0),) * a + ((before, after),) + ((0, 0),) * (_x.ndim - a - 1), value=0.0)

    pieces = list(zip(gs, itertools.pairwise(bounds), strict=True))
    if bounds != sorted(bounds):
        parts = [padded(g, u, _x.shape[a] - max(u, v)) for g, (u, v) in pieces if g is not None]
        return functools.reduce(add, parts)
    some = next(g for g in gs if g is not None)
    empty = some[_slice(axis, some.ndim, 0, 0)]
    return concat([padded(empty, 0, v - u) if g is None else g for g, (u, v) in pieces], axis=axis)


split = op(
    "split", _split, _split_shapes, _split_rule, outputs=None, flops=0,
    precision="any", doc="x cut along an axis, into so many equal parts or at the given places: a tuple of arrays.",
)  # fmt: skip

# ---- padding, reversing, repeating ----


def _pairs(width: Any, ndim: int) -> tuple[tuple[int, int], ...]:
    """NumPy's three ways of giving pad widths, as one pair for each axis."""
    if isinstance(width, int):
        return ((width, width),) * ndim
    pairs = tuple((w, w) if isinstance(w, int) else tuple(w) for w in width)
    if len(pairs) == 2 and all(isinstance(w, int) for w in width):
        return (tuple(width),) * ndim
    if len(pairs) == 1:
        pairs = pairs * ndim
    if len(pairs) != ndim:
        raise ValueError(f"pad: {len(pairs)} pairs of widths for an array of {ndim} axes")
    return pairs


def _pad(x: Any, *, width: Any, value: float = 0.0) -> Any:
    pairs = _pairs(width, x.ndim)
    library = xp(x)
    shape = tuple(n + a + b for n, (a, b) in zip(x.shape, pairs, strict=True))
    where = {} if library.__name__ in ("numpy", "cupy") else {"device": x.device}
    out = library.full(shape, value, dtype=x.dtype, **where) if value else library.zeros(shape, dtype=x.dtype, **where)
    out[tuple(slice(a, a + n) for n, (a, _) in zip(x.shape, pairs, strict=True))] = x
    return out


pad = op(
    "pad", _pad, lambda x, width, value: (tuple(n + a + b for n, (a, b) in zip(shape_of(x), _pairs(width, len(shape_of(x))), strict=True)), result_dtype(x)),
    lambda g, _y, _x, width, value: g[tuple(slice(a, a + n) for n, (a, _) in zip(_x.shape, _pairs(width, _x.ndim), strict=True))],
    flops=0, precision="any", doc="x with a border of ``value``; widths as a number, a pair, or a pair for each axis.",
)  # fmt: skip
flip = op("flip", lambda x, *, axis=None: xp(x).flip(x, axis=axis), lambda x, axis: same(x), lambda g, _y, _x, axis: flip(g, axis=axis), flops=0, precision="any", doc="x with its elements in reverse order along the axes.")


def _opposite(shift: Any) -> Any:
    return -shift if isinstance(shift, int) else tuple(-s for s in shift)


roll = op(
    "roll", lambda x, *, shift, axis=None: xp(x).roll(x, shift, axis=axis), lambda x, **_: same(x),
    lambda g, _y, _x, shift, axis: roll(g, shift=_opposite(shift), axis=axis), flops=0, precision="any", doc="x with its elements moved in a circle along the axes.",
)  # fmt: skip


def _tiled(shape: tuple[int, ...], reps: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The repetitions and the old shape, both with as many axes as the result."""
    reps = (reps,) if isinstance(reps, int) else tuple(reps)
    ndim = max(len(reps), len(shape))
    return (1,) * (ndim - len(reps)) + reps, (1,) * (ndim - len(shape)) + shape


def _tile_rule(g: Any, _y: Any, _x: Any, reps: Any) -> Any:
    counts, old = _tiled(tuple(_x.shape), reps)
    g = reshape(g, shape=tuple(n for pair in zip(counts, old, strict=True) for n in pair))
    return reshape(sum_to(g, shape=tuple(n for pair in zip((1,) * len(old), old, strict=True) for n in pair)), shape=_x.shape)


tile = op(
    "tile", lambda x, *, reps: xp(x).tile(x, (reps,) if isinstance(reps, int) else tuple(reps)),
    lambda x, reps: (tuple(a * b for a, b in zip(*_tiled(shape_of(x), reps), strict=True)), result_dtype(x)), _tile_rule,
    flops=0, precision="any", doc="x repeated as a whole, so many times along each axis.",
)  # fmt: skip


def _repeat_rule(g: Any, _y: Any, _x: Any, repeats: int, axis: int | None) -> Any:
    shape = (math.prod(_x.shape),) if axis is None else tuple(_x.shape)
    a = 0 if axis is None else axis % len(shape)
    g = reshape(g, shape=shape[: a + 1] + (repeats,) + shape[a + 1 :])
    return reshape(sum_to(g, shape=shape[: a + 1] + (1,) + shape[a + 1 :]), shape=_x.shape)


def _repeated(x: Any, repeats: int, axis: int | None) -> Any:
    shape = (math.prod(shape_of(x)),) if axis is None else shape_of(x)
    a = axes_of(0 if axis is None else axis, len(shape))[0]
    return shape[:a] + (shape[a] * repeats,) + shape[a + 1 :], result_dtype(x)


repeat = op(
    "repeat", lambda x, *, repeats, axis=None: xp(x).repeat(x, repeats, axis=axis), _repeated, _repeat_rule,
    flops=0, precision="any", doc="Each element (or slice along ``axis``) repeated so many times.",
)  # fmt: skip

# ---- triangles and diagonals ----

tril = op("tril", lambda x, *, k=0: xp(x).tril(x, k=k), lambda x, k: same(x), lambda g, _y, _x, k: tril(g, k=k), flops=0, precision="any", doc="The lower triangle of the last two axes, up to diagonal k; 0 above.")
triu = op("triu", lambda x, *, k=0: xp(x).triu(x, k=k), lambda x, k: same(x), lambda g, _y, _x, k: triu(g, k=k), flops=0, precision="any", doc="The upper triangle of the last two axes, from diagonal k; 0 below.")


def _band(rows: int, columns: int, k: int) -> tuple[int, int, int]:
    """Where diagonal k starts in a matrix (row, column), and how long it is."""
    row, column = max(-k, 0), max(k, 0)
    return row, column, max(builtins.min(rows - row, columns - column), 0)


def _diagonal(x: Any, *, k: int = 0) -> Any:
    row, column, n = _band(*x.shape[-2:], k)
    flat = xp(x).reshape(x, (*x.shape[:-2], x.shape[-2] * x.shape[-1]))
    start, step = row * x.shape[-1] + column, x.shape[-1] + 1
    return flat[..., start : start + (n - 1) * step + 1 : step] if n else flat[..., :0]


def _put_diagonal(x: Any, *, k: int, shape: tuple[int, int]) -> Any:
    row, column, n = _band(*shape, k)
    library = xp(x)
    where = {} if library.__name__ in ("numpy", "cupy") else {"device": x.device}
    out = library.zeros((*x.shape[:-1], shape[0] * shape[1]), dtype=x.dtype, **where)
    start, step = row * shape[1] + column, shape[1] + 1
    if n:
        out[..., start : start + (n - 1) * step + 1 : step] = x
    return library.reshape(out, (*x.shape[:-1], *shape))


diagonal = op(
    "diagonal", _diagonal, lambda x, k: ((*shape_of(x)[:-2], _band(*shape_of(x)[-2:], k)[2]), result_dtype(x)),
    lambda g, _y, _x, k: put_diagonal(g, k=k, shape=tuple(_x.shape[-2:])), flops=0, precision="any", doc="Diagonal k of the last two axes.",
)  # fmt: skip
put_diagonal = op(
    "put_diagonal", _put_diagonal, lambda x, k, shape: ((*shape_of(x)[:-1], *shape), result_dtype(x)),
    lambda g, _y, _x, k, shape: diagonal(g, k=k), flops=0, precision="any", doc="Matrices of a shape with x on diagonal k and 0 elsewhere.",
)  # fmt: skip


def diag(x: Any, k: int = 0) -> Any:
    """Diagonal k of a matrix, or, of a vector, the matrix that has it there."""
    if x.ndim == 1:
        n = x.shape[0] + builtins.abs(k)
        return put_diagonal(x, k=k, shape=(n, n))
    return diagonal(x, k=k)
