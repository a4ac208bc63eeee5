"""NumPy's products and differences of arrays (dot, einsum, kron, cross, diff, gradient, …), as rows of the op table."""

import string
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import ops
from ._face import array_of, face, of_arrays, raw, rule
from .reductions import _axis

matmul = face(np.matmul, of_arrays(ops.matmul, 2))
dot = face(np.dot, of_arrays(ops.dot, 2))
outer = face(np.outer, of_arrays(ops.outer, 2))


vdot = face(np.vdot, of_arrays(ops.vdot, 2))
kron = face(np.kron, of_arrays(ops.kron, 2))


@rule(np.inner)
def inner(a: Any, b: Any, /) -> Any:
    a, b = array_of(a), array_of(b)
    return a * b if not np.ndim(raw(a)) or not np.ndim(raw(b)) else ops.inner(a, b)


@rule(np.tensordot)
def tensordot(a: Any, b: Any, axes: Any = 2) -> Any:
    a, b = array_of(a), array_of(b)
    axes = axes if isinstance(axes, int | np.integer) else tuple(_axis(side) for side in axes)
    if not np.ndim(raw(a)) or not np.ndim(raw(b)):
        if axes not in (0, ((), ())):
            raise ValueError(f"tensordot: axes={axes} of a number")
        return a * b
    return ops.tensordot(a, b, axes=int(axes) if isinstance(axes, np.integer) else axes)


@rule(np.vecdot)
def vecdot(x1: Any, x2: Any, /, axis: int = -1) -> Any:
    return ops.vecdot(array_of(x1), array_of(x2), axis)


@rule(np.einsum)
def einsum(*operands: Any, optimize: Any = False) -> Any:
    if isinstance(operands[0], str):
        return ops.einsum(operands[0], *map(array_of, operands[1:]))
    # the other notation: array, list of axis numbers, array, list, ..., and perhaps the output's list
    letters = string.ascii_letters
    spell = lambda labels: "".join("..." if label is Ellipsis else letters[label] for label in labels)
    pairs, rest = operands[: len(operands) // 2 * 2], operands[len(operands) // 2 * 2 :]
    left = ",".join(spell(labels) for labels in pairs[1::2])
    return ops.einsum(left + ("->" + spell(rest[0]) if rest else ""), *map(array_of, pairs[0::2]))


@rule(np.cross)
def cross(a: Any, b: Any, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: int | None = None) -> Any:
    if axis is not None:
        axisa = axisb = axisc = axis
    a, b = ops.moveaxis(array_of(a), axisa, -1), ops.moveaxis(array_of(b), axisb, -1)
    return ops.moveaxis(ops.cross(a, b), -1, axisc)


@rule(np.diff)
def diff(a: Any, n: int = 1, axis: int = -1, prepend: Any = None, append: Any = None) -> Any:
    a = array_of(a)
    one = tuple(1 if i == axis % len(a.shape) else m for i, m in enumerate(a.shape))

    def end(value: Any) -> Any:
        if value is None:
            return None
        value = array_of(value) if hasattr(value, "shape") or isinstance(value, list) else np.asarray(value)
        return value if np.ndim(raw(value)) else ops.broadcast_to(value, shape=one)

    return ops.diff(a, int(n), int(axis), end(prepend), end(append))


@rule(np.ediff1d)
def ediff1d(ary: Any, to_end: Any = None, to_begin: Any = None) -> Any:
    return ops.ediff1d(array_of(ary), *(None if e is None else array_of(e) for e in (to_end, to_begin)))


@rule(np.gradient)
def gradient(f: Any, *varargs: Any, axis: Any = None, edge_order: int = 1) -> Any:
    found = ops.gradient(array_of(f), *map(raw, varargs), axis=_axis(axis), edge_order=edge_order)
    return tuple(found) if isinstance(found, list) else found


FACES: dict[str, Callable] = {
    f.__name__: f
    for f in (matmul, dot, outer, vdot, inner, tensordot, vecdot, einsum, kron, cross, diff, ediff1d, gradient)
}
