"""Functions of vectors and matrices that are made of rows: traces, products, norms, powers, least squares."""

import builtins
import functools
import math
from collections.abc import Sequence
from typing import Any

from .. import backend
from ..backend import xp
from ..shapes import axes_of, shape_of
from ..tensor import DiffTensor
from .decomposition import svdvals
from .elementwise import abs, conj, not_equal, power, replace_zero, where
from .inverses import inv, pinv
from .layout import astype, diagonal, expand_dims, moveaxis, reshape, roll
from .linalg import matmul, tensordot
from .reduce import max, min, norm, sum

__all__ = [
    "cross", "inner", "kron", "lstsq", "matrix_norm", "matrix_power", "multi_dot", "trace", "vdot", "vecdot", "vector_norm",
]  # fmt: skip


def trace(x: Any, k: int = 0) -> Any:
    """The sums (...) of diagonal k of the last two axes of x (..., m, n)."""
    return sum(diagonal(x, k=k), axis=-1)


def kron(a: Any, b: Any) -> Any:
    """Kronecker's product: each element of a times all of b, shapes multiplied axis by axis (the shorter one is filled with
    leading 1s)."""
    first, second = shape_of(a), shape_of(b)
    ndim = builtins.max(len(first), len(second))
    first, second = (1,) * (ndim - len(first)) + first, (1,) * (ndim - len(second)) + second
    if not ndim:
        return a * b
    a = reshape(a, shape=tuple(n for m in first for n in (m, 1)))
    b = reshape(b, shape=tuple(n for m in second for n in (1, m)))
    return reshape(a * b, shape=tuple(m * n for m, n in zip(first, second, strict=True)))


def inner(a: Any, b: Any) -> Any:
    """The sum of products over the last axes of both; of numbers, the product."""
    return tensordot(a, b, axes=(-1, -1)) if shape_of(a) and shape_of(b) else a * b


def vdot(a: Any, b: Any) -> Any:
    """Σ āᵢ bᵢ over all elements, both taken as vectors."""
    return matmul(conj(reshape(a, shape=(-1,))), reshape(b, shape=(-1,)))


def vecdot(a: Any, b: Any, axis: int = -1) -> Any:
    """Σ āᵢ bᵢ along one axis; the other axes broadcast."""
    return sum(conj(a) * b, axis=axis)


def cross(a: Any, b: Any, axis: int = -1) -> Any:
    """The vector product of vectors of three components along an axis; the other axes broadcast."""
    for x in (a, b):
        if shape_of(x)[axis] != 3:
            raise ValueError(f"cross: vectors of 3 components are needed, not shape {shape_of(x)} along axis {axis}")
    return roll(a, shift=-1, axis=axis) * roll(b, shift=-2, axis=axis) - roll(a, shift=-2, axis=axis) * roll(
        b, shift=-1, axis=axis
    )


def multi_dot(arrays: Sequence[Any]) -> Any:
    """The matrix product of two or more matrices (the first and last may be vectors), in the order that costs least
    (Cormen et al., Introduction to Algorithms, section 15.2)."""
    if len(arrays) < 2:
        raise ValueError(f"multi_dot: two arrays or more are needed, not {len(arrays)}")
    shapes = [shape_of(x) for x in arrays]
    sizes = [
        1 if len(shapes[0]) == 1 else shapes[0][0],
        *(s[0] for s in shapes[1:]),
        1 if len(shapes[-1]) == 1 else shapes[-1][-1],
    ]

    @functools.cache
    def best(i: int, j: int) -> tuple[int, int]:
        """The cost of the product of i to j, and where to cut it."""
        if i == j:
            return 0, i
        return builtins.min(
            (best(i, k)[0] + best(k + 1, j)[0] + sizes[i] * sizes[k + 1] * sizes[j + 1], k) for k in range(i, j)
        )

    def joined(i: int, j: int) -> Any:
        k = best(i, j)[1]
        return arrays[i] if i == j else matmul(joined(i, k), joined(k + 1, j))

    return joined(0, len(arrays) - 1)


def matrix_power(x: Any, n: int) -> Any:
    """Square matrices (..., n, n) to an integer power, by repeated squaring; a negative one is a power of the inverse."""
    shape = shape_of(x)
    if len(shape) < 2 or shape[-1] != shape[-2]:
        raise ValueError(
            f"matrix_power: square matrices of shape (..., n, n) are needed, not an array of shape {shape}"
        )
    if n < 0:
        return matrix_power(inv(x), -n)
    if n == 0:
        raw = x.raw if isinstance(x, DiffTensor) else x
        if raw is None:
            raise ValueError("matrix_power: a symbolic matrix to the power 0 is a constant; write the identity matrix")
        library = xp(raw)
        where_ = {} if library.__name__ in ("numpy", "cupy") else {"device": raw.device}
        eye = library.eye(shape[-1], dtype=raw.dtype, **where_)
        return x * 0 + eye
    result = None
    while True:
        if n & 1:
            result = x if result is None else matmul(result, x)
        n >>= 1
        if not n:
            return result
        x = matmul(x, x)


def lstsq(a: Any, b: Any, rtol: float | None = None) -> Any:
    """The least-squares solution of smallest norm: z that minimises ‖a z - b‖, for a (..., m, n) and b (m,) or (..., m, k).

    Computed as pinv(a) b, so it is right for matrices of any rank; ``rtol`` is ``pinv``'s, and so is the condition for a
    derivative, that the rank does not change.
    """
    p = pinv(a, rtol=rtol)
    return matmul(p, b)


# ---- norms ----


def vector_norm(x: Any, ord: float = 2, axis: Any = None, keepdims: bool = False) -> Any:
    """(Σ |xᵢ|^ord)^(1/ord) over axes (all if None); inf and -inf are the largest and the smallest magnitude, 0 counts
    what is not 0. Where the norm is 0 its derivative is 0."""
    if ord == 2:
        return norm(x, axis=axis, keepdims=keepdims)
    if ord == 0:
        size = abs(x)
        return sum(
            astype(not_equal(size, 0), dtype=size.dtype if backend.is_inexact(size.dtype) else float),
            axis=axis,
            keepdims=keepdims,
        )
    if abs(ord) == math.inf:
        return (max if ord > 0 else min)(abs(x), axis=axis, keepdims=keepdims)
    if ord == 1:
        return sum(abs(x), axis=axis, keepdims=keepdims)
    size = abs(x)
    if ord < 0:
        return power(sum(power(size, ord), axis=axis, keepdims=keepdims), 1.0 / ord)
    zero = size == 0
    total = sum(where(zero, 0.0, power(where(zero, 1.0, size), ord)), axis=axis, keepdims=keepdims)
    return where(total == 0, 0.0, power(replace_zero(total, by=1.0), 1.0 / ord))


def matrix_norm(x: Any, ord: float | str = "fro", axis: tuple[int, int] = (-2, -1), keepdims: bool = False) -> Any:
    """A norm of matrices: "fro" (Frobenius), "nuc" (sum of singular values), 2 and -2 (largest and smallest singular value),
    1 and -1 (largest and smallest sum of magnitudes in a column), inf and -inf (in a row).

    The derivative of a singular value exists where it is not repeated; "nuc" has one where x has full rank.
    """
    rows, columns = (axes_of(a, len(shape_of(x)))[0] for a in axis)
    if rows == columns:
        raise ValueError(f"matrix_norm: axis {axis} names an axis twice")
    if ord == "fro":
        return norm(x, axis=(rows, columns), keepdims=keepdims)
    if ord in ("nuc", 2, -2):
        last = moveaxis(moveaxis(x, rows, -1), columns - (columns > rows), -1)
        values = svdvals(last)
        found = sum(values, axis=-1) if ord == "nuc" else max(values, axis=-1) if ord == 2 else min(values, axis=-1)
        return expand_dims(found, axis=(rows, columns)) if keepdims else found
    if ord not in (1, -1, math.inf, -math.inf):
        raise ValueError(f'matrix_norm: ord must be "fro", "nuc", 1, -1, 2, -2, inf or -inf, not {ord!r}')
    along, over = (rows, columns) if ord in (1, -1) else (columns, rows)
    sums = sum(abs(x), axis=along, keepdims=True)
    found = (max if ord > 0 else min)(sums, axis=over, keepdims=True)
    return (
        found
        if keepdims
        else reshape(found, shape=tuple(n for a, n in enumerate(shape_of(x)) if a not in (rows, columns)))
    )
