"""Rows of linear algebra: matmul and its relatives, and einsum."""

import math
from typing import Any

import numpy as np

from .. import backend
from ..backend import xp
from ..shapes import axes_of, product, result_dtype, shape_of
from ..table import op
from .layout import broadcast_to, diagonal, expand_dims, moveaxis, permute, reshape, swapaxes

__all__ = ["dot", "einsum", "linear", "matmul", "outer", "tensordot"]


def _transposed(x: Any) -> Any:
    return x.T if x.ndim == 2 else swapaxes(x, -1, -2)


def _flat(x: Any) -> Any:
    """All axes but the last as one."""
    return x if x.ndim == 2 else reshape(x, shape=(math.prod(x.shape[:-1]), x.shape[-1]))


def _dense(x: Any) -> Any:
    """x, copied if it is a stretched view, as the gradient of a sum is: NumPy multiplies those without BLAS."""
    return np.ascontiguousarray(x) if type(x) is np.ndarray and 0 in x.strides else x


def _times(x: Any, y: Any) -> Any:
    """x @ y for rules, which NumPy's arrays come to as they are: as one product where y is a matrix, see ``_np_matmul``."""
    x = _dense(x)
    if x.ndim < 3 or y.ndim != 2:
        return x @ y
    return reshape(_flat(x) @ y, shape=(*x.shape[:-1], y.shape[1]))


def _left(g: Any, _z: Any, _x: Any, y: Any) -> Any:
    if y.ndim == 1:
        return g * y if _x.ndim == 1 else expand_dims(g, axis=-1) * y
    if _x.ndim == 1:
        return (y @ expand_dims(g, axis=-1))[..., 0]
    return _times(g, _transposed(y))


def _right(g: Any, _z: Any, x: Any, _y: Any) -> Any:
    if x.ndim == 1:
        return x * g if _y.ndim == 1 else expand_dims(x, axis=-1) * expand_dims(g, axis=-2)
    if _y.ndim == 1:
        return (_transposed(x) @ expand_dims(g, axis=-1))[..., 0]
    if _y.ndim == 2:
        return _flat(x).T @ _flat(_dense(g))
    return _transposed(x) @ _dense(g)


def _products(_z: Any, x: Any, _y: Any, **_: Any) -> float:
    return 2.0 * math.prod(shape_of(_z)) * (shape_of(x)[-1] if shape_of(x) else 1)


matmul = op("matmul", "matmul", product, _left, _right, flops=_products, precision="low", doc="The matrix product, with NumPy's rules for vectors and batches of matrices.")


def _np_matmul(x: Any, y: Any) -> Any:
    """NumPy multiplies a stack of matrices one by one; by a single matrix, all their rows at once are up to seven times as fast."""
    x, y = _dense(x), _dense(y)
    if x.ndim > 2 and y.ndim == 2 and x.shape[-1] == y.shape[0]:
        rows = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
        return np.matmul(rows, y).reshape(*x.shape[:-1], y.shape[1])
    return np.matmul(x, y)


matmul.row.kernels[np.ndarray] = _np_matmul


def _linear_shape(x: Any, weight: Any, bias: Any) -> Any:
    a, w, b = shape_of(x), shape_of(weight), shape_of(bias)
    if len(w) != 2 or not a or a[-1] != w[1] or b != w[:1]:
        raise ValueError(f"linear: input {a}, weight {w} and bias {b} do not fit; needed are (..., k), (n, k) and (n,)")
    return (*a[:-1], w[0]), result_dtype(x, weight, bias)


def _linear(x: Any, weight: Any, bias: Any) -> Any:
    y = x @ xp(weight).permute_dims(weight, (1, 0))
    if y.dtype == bias.dtype:
        y += bias
        return y
    return y + bias


_linear_row = op(
    "linear", _linear, _linear_shape,
    lambda g, _y, _x, weight, _b: _times(g, weight),
    lambda g, _y, x, _w, _b: _flat(_dense(g)).T @ _flat(x),
    lambda g, _y, _x, _w, _b: g,
    flops=lambda y, x, w, b: _products(y, x, w) + math.prod(shape_of(y)), precision="low",
)  # fmt: skip


def _np_linear(x: Any, weight: Any, bias: Any) -> Any:
    y = _np_matmul(x, weight.T)
    return np.add(y, bias, out=y) if y.ndim and y.dtype == bias.dtype else y + bias


_linear_row.row.kernels[np.ndarray] = _np_linear


def linear(x: Any, weight: Any, bias: Any = None) -> Any:
    """x @ weightᵀ + bias, for x (..., k), weight (n, k), bias (n,) or None."""
    return _linear_row(x, weight, bias) if bias is not None else matmul(x, permute(weight, axes=(1, 0)))


linear.row = _linear_row.row  # type: ignore[attr-defined]

outer = op(
    "outer", lambda x, y: xp(x).reshape(x, (-1, 1)) * xp(y).reshape(y, (1, -1)),
    lambda x, y: ((math.prod(shape_of(x)), math.prod(shape_of(y))), result_dtype(x, y)),
    lambda g, _z, _x, y: reshape(g @ reshape(y, shape=(-1,)), shape=_x.shape),
    lambda g, _z, x, _y: reshape(reshape(x, shape=(-1,)) @ g, shape=_y.shape),
    precision="low", doc="All products of an element of x with one of y, as a matrix (both are flattened first).",
)  # fmt: skip


def _contracted(x: Any, y: Any, axes: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """tensordot's axes as two tuples of numbers from 0, in the order of pairing."""
    m, n = len(shape_of(x)), len(shape_of(y))
    if isinstance(axes, int):
        return tuple(range(m - axes, m)), tuple(range(axes))
    first, second = ((a,) if isinstance(a, int) else tuple(a) for a in axes)
    axes_of(first, m), axes_of(second, n)
    return tuple(a % m for a in first), tuple(a % n for a in second)


def _free(x: Any, axes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(a for a in range(len(shape_of(x))) if a not in axes)


def _tensordot_shape(x: Any, y: Any, axes: Any) -> Any:
    first, second = _contracted(x, y, axes)
    a, b = shape_of(x), shape_of(y)
    if [a[i] for i in first] != [b[i] for i in second]:
        raise ValueError(f"tensordot: shapes {a} and {b} do not fit over axes {first} and {second}")
    return tuple(a[i] for i in _free(x, first)) + tuple(b[i] for i in _free(y, second)), result_dtype(x, y)


def _tensordot_left(g: Any, _z: Any, _x: Any, y: Any, axes: Any) -> Any:
    first, second = _contracted(_x, y, axes)
    free_x, free_y = _free(_x, first), _free(y, second)
    d = tensordot(g, y, axes=(tuple(range(len(free_x), g.ndim)), free_y))  # axes: free_x, then second in y's order
    order = free_x + tuple(first[second.index(a)] for a in sorted(second))
    return permute(d, axes=tuple(np.argsort(order).tolist()))


def _tensordot_right(g: Any, _z: Any, x: Any, _y: Any, axes: Any) -> Any:
    first, second = _contracted(x, _y, axes)
    free_x, free_y = _free(x, first), _free(_y, second)
    d = tensordot(x, g, axes=(free_x, tuple(range(len(free_x)))))  # axes: first in x's order, then free_y
    order = tuple(second[first.index(a)] for a in sorted(first)) + free_y
    return permute(d, axes=tuple(np.argsort(order).tolist()))


tensordot = op(
    "tensordot", lambda x, y, *, axes=2: backend.scalar(xp(x).tensordot(x, y, axes=_contracted(x, y, axes))), _tensordot_shape,
    _tensordot_left, _tensordot_right,
    flops=lambda z, x, y, axes: 2.0 * math.prod(shape_of(z)) * math.prod(shape_of(x)[a] for a in _contracted(x, y, axes)[0]),
    precision="low", doc="The sum of products over pairs of axes: the last ``axes`` of x with the first of y, or two sequences of axes.",
)  # fmt: skip


def dot(x: Any, y: Any) -> Any:
    """NumPy's dot: a product with a number, the matrix product up to two axes, else over x's last and y's second last axis."""
    if not shape_of(x) or not shape_of(y):
        return x * y
    if x.ndim <= 2 and y.ndim <= 2:
        return matmul(x, y)
    return tensordot(x, y, axes=(-1, -2 if y.ndim > 1 else -1))


# ---- einsum ----


def einsum(subscripts: str, *operands: Any) -> Any:
    """Einstein's summation in NumPy's notation: ``einsum("bij,bjk->bik", x, y)``; ``...`` stands for broadcast axes.

    Computed pairwise through matmul, smallest intermediate first.
    """
    inputs, output = _parse(subscripts, [len(shape_of(x)) for x in operands])
    sizes: dict[str, int] = {}
    for labels, x in zip(inputs, operands, strict=True):
        for label, n in zip(labels, shape_of(x), strict=True):
            if sizes.setdefault(label, n) != n and 1 not in (n, sizes[label]):
                raise ValueError(f"einsum {subscripts!r}: index {label!r} has lengths {sizes[label]} and {n}")
            sizes[label] = n if sizes[label] == 1 else sizes[label]
    clean, arrays = [], []
    for labels, x in zip(inputs, operands, strict=True):
        full = tuple(sizes[label] for label in labels)
        x = x if shape_of(x) == full else broadcast_to(x, shape=full)
        for label in sorted(set(labels)):
            while labels.count(label) > 1:  # a repeated index is a diagonal
                i, j = [k for k, other in enumerate(labels) if other == label][:2]
                x = diagonal(moveaxis(moveaxis(x, j, -1), i, -2))
                labels = "".join(c for k, c in enumerate(labels) if k not in (i, j)) + label
        clean.append(labels)
        arrays.append(x)
    return _einsum_row(arrays, subscripts=",".join(clean) + "->" + output)


def _parse(subscripts: str, ndims: list[int]) -> tuple[list[str], str]:
    """Subscripts for each operand and the output, with a letter for each axis that ``...`` stands for."""
    text = subscripts.replace(" ", "")
    left, arrow, output = text.partition("->")
    inputs = left.split(",")
    if len(inputs) != len(ndims):
        raise ValueError(f"einsum {subscripts!r}: {len(inputs)} operands in the subscripts, {len(ndims)} given")
    spare = [c for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz" if c not in text]
    longest = max([n - len(s) + 3 for s, n in zip(inputs, ndims, strict=True) if "..." in s], default=0)
    dots = "".join(spare[:longest])
    inputs = [s.replace("...", dots[longest - (n - len(s) + 3) :]) if "..." in s else s for s, n in zip(inputs, ndims, strict=True)]
    for s, n in zip(inputs, ndims, strict=True):
        if len(s) != n or (not s.isalpha() and s):
            raise ValueError(f"einsum {subscripts!r}: subscripts {s!r} for an operand of {n} axes")
    if arrow:
        if dots and "..." not in output:
            raise ValueError(f"einsum {subscripts!r}: the output has no ... for the axes that ... stands for; to sum over them name them")
        output = output.replace("...", dots)
    else:
        joined = "".join(inputs)
        output = dots + "".join(sorted(c for c in set(joined) if joined.count(c) == 1 and c not in dots))
    if len(set(output)) != len(output) or not set(output) <= set("".join(inputs)):
        raise ValueError(f"einsum {subscripts!r}: the output's indices must be some of the inputs', each once")
    return inputs, output


def _sizes(xs: Any, inputs: list[str]) -> dict[str, int]:
    return {label: n for x, labels in zip(xs, inputs, strict=True) for label, n in zip(labels, shape_of(x), strict=True)}


def _einsum(xs: Any, *, subscripts: str) -> Any:
    left, _, output = subscripts.partition("->")
    terms = list(zip(left.split(","), xs, strict=True))
    sizes = _sizes(xs, left.split(","))
    while len(terms) > 1:
        i, j = min(
            ((i, j) for i in range(len(terms)) for j in range(i + 1, len(terms))),
            key=lambda ij: math.prod(sizes[c] for c in _remaining(terms, *ij, output)),
        )
        labels = _remaining(terms, i, j, output)
        joined = _contract(*terms[i], *terms[j], labels)
        terms = [t for k, t in enumerate(terms) if k not in (i, j)] + [(labels, joined)]
    labels, x = terms[0]
    library = xp(x)
    gone = tuple(i for i, c in enumerate(labels) if c not in output)
    x = library.sum(x, axis=gone, dtype=x.dtype) if gone else x
    rest = [c for c in labels if c in output]
    return backend.scalar(x) if not rest else library.permute_dims(x, tuple(rest.index(c) for c in output))


def _remaining(terms: list, i: int, j: int, output: str) -> str:
    """The indices of two terms that are needed after they are joined."""
    later = set(output).union(*(labels for k, (labels, _) in enumerate(terms) if k not in (i, j)))
    return "".join(c for c in dict.fromkeys(terms[i][0] + terms[j][0]) if c in later)


def _contract(a: str, x: Any, b: str, y: Any, out: str) -> Any:
    """Two terms joined by one matmul: shared indices that stay are its batch, those that go its inner axis."""
    library = xp(x)

    def alone(labels: str, other: str, array: Any) -> tuple[str, Any]:
        gone = tuple(i for i, c in enumerate(labels) if c not in other and c not in out)
        return "".join(c for c in labels if c in other or c in out), library.sum(array, axis=gone, dtype=array.dtype) if gone else array

    (a, x), (b, y) = alone(a, b, x), alone(b, a, y)
    sizes = {**dict(zip(a, x.shape, strict=True)), **dict(zip(b, y.shape, strict=True))}
    batch = [c for c in a if c in b and c in out]
    inner = [c for c in a if c in b and c not in out]
    rows, columns = [c for c in a if c not in b], [c for c in b if c not in a]

    def arranged(labels: str, array: Any, *groups: list[str]) -> Any:
        order = tuple(labels.index(c) for group in groups for c in group)
        return library.reshape(library.permute_dims(array, order), tuple(math.prod(sizes[c] for c in group) for group in groups))

    z = library.matmul(arranged(a, x, batch, rows, inner), arranged(b, y, batch, inner, columns))
    found = [*batch, *rows, *columns]
    z = library.reshape(z, tuple(sizes[c] for c in found))
    return library.permute_dims(z, tuple(found.index(c) for c in out))


def _einsum_shape(*xs: Any, subscripts: str) -> Any:
    left, _, output = subscripts.partition("->")
    sizes = _sizes(xs, left.split(","))
    return tuple(sizes[c] for c in output), result_dtype(*xs)


def _einsum_rule(g: Any, _z: Any, xs: Any, index: int, subscripts: str) -> Any:
    """The same sum with the gradient in the place of the operand; an index that only it had is broadcast."""
    left, _, output = subscripts.partition("->")
    inputs = left.split(",")
    wanted, others = inputs[index], [(s, x) for i, (s, x) in enumerate(zip(inputs, xs, strict=True)) if i != index]
    known = set(output).union(*(s for s, _ in others))
    there = "".join(c for c in wanted if c in known)
    d = _einsum_row([g, *(x for _, x in others)], subscripts=",".join([output, *(s for s, _ in others)]) + "->" + there)
    sizes = _sizes(xs, inputs)
    d = reshape(d, shape=tuple(sizes[c] if c in known else 1 for c in wanted))
    return d if len(there) == len(wanted) else broadcast_to(d, shape=tuple(sizes[c] for c in wanted))


def _einsum_flops(_z: Any, *xs: Any, subscripts: str) -> float:
    sizes = _sizes(xs, subscripts.partition("->")[0].split(","))
    return float(len(xs)) * math.prod(sizes.values())


_einsum_row = op("einsum", _einsum, _einsum_shape, _einsum_rule, variadic=True, flops=_einsum_flops, precision="low")
einsum.row = _einsum_row.row  # type: ignore[attr-defined]
