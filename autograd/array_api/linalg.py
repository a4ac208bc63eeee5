"""The extension ``linalg``: rows of the op table under the standard's names. Matrices are the last two axes.

``autograd.ops.decomposition`` says where singular and eigenvectors have a derivative. ``cholesky`` and the functions of
symmetric matrices act on the Hermitian part of what they are given, and their gradients are Hermitian.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from .. import ops
from ..backend import is_complex, xp
from ..shapes import numpy_dtype, result_dtype
from ..tensor import DiffTensor
from ._arrays import number, tensor, value_of
from .statistics import sum

__all__ = [
    "cholesky", "cross", "det", "diagonal", "eigh", "eigvalsh", "inv", "matmul", "matrix_norm", "matrix_power", "matrix_rank",
    "matrix_transpose", "outer", "pinv", "qr", "slogdet", "solve", "svd", "svdvals", "tensordot", "trace", "vecdot", "vector_norm",
]  # fmt: skip


class EighResult(NamedTuple):
    eigenvalues: DiffTensor
    eigenvectors: DiffTensor


class QRResult(NamedTuple):
    Q: DiffTensor
    R: DiffTensor


class SlogdetResult(NamedTuple):
    sign: DiffTensor
    logabsdet: DiffTensor


class SVDResult(NamedTuple):
    U: DiffTensor
    S: DiffTensor
    Vh: DiffTensor


# ---- products ----


def matmul(x1: Any, x2: Any, /) -> DiffTensor:
    """The matrix product, with NumPy's rules for vectors and batches of matrices."""
    return ops.matmul(tensor(x1), tensor(x2))


def matrix_transpose(x: Any, /) -> DiffTensor:
    x = tensor(x)
    if x.ndim < 2:
        raise ValueError(f"matrix_transpose: a tensor of {x.ndim} axes holds no matrices")
    return ops.swapaxes(x, -1, -2)


def tensordot(x1: Any, x2: Any, /, *, axes: int | Sequence[Sequence[int]] = 2) -> DiffTensor:
    """The sum of products over pairs of axes: the last ``axes`` of x1 with the first of x2, or two sequences of axes."""
    axes = axes if isinstance(axes, int) else tuple(tuple(side) for side in axes)
    return ops.tensordot(tensor(x1), tensor(x2), axes=axes)


def vecdot(x1: Any, x2: Any, /, *, axis: int = -1) -> DiffTensor:
    """Σ x̄1 x2 along an axis; the others broadcast."""
    x1, x2 = tensor(x1), tensor(x2)
    for x in (x1, x2):
        if not -x.ndim <= axis < x.ndim or x.shape[axis] != x1.shape[axis]:
            raise ValueError(
                f"vecdot: shapes {x1.shape} and {x2.shape} have no vectors of one length along axis {axis}"
            )
    return sum(ops.conj(x1) * x2, axis=axis, dtype=result_dtype(x1, x2))


def outer(x1: Any, x2: Any, /) -> DiffTensor:
    """All products of an element of one vector with one of another."""
    x1, x2 = tensor(x1), tensor(x2)
    if (x1.ndim, x2.ndim) != (1, 1):
        raise ValueError(f"outer: two vectors are needed, not shapes {x1.shape} and {x2.shape}")
    return ops.outer(x1, x2)


def cross(x1: Any, x2: Any, /, *, axis: int = -1) -> DiffTensor:
    """The vector product of vectors of three components along an axis; the others broadcast."""
    return ops.cross(tensor(x1), tensor(x2), axis)


# ---- parts, norms, powers ----


def diagonal(x: Any, /, *, offset: int = 0) -> DiffTensor:
    return ops.diagonal(tensor(x), k=offset)


def trace(x: Any, /, *, offset: int = 0, dtype: Any = None) -> DiffTensor:
    return sum(diagonal(x, offset=offset), axis=-1, dtype=dtype)


def vector_norm(x: Any, /, *, axis: Any = None, keepdims: bool = False, ord: float = 2) -> DiffTensor:
    """(Σ |xᵢ|^ord)^(1/ord) over axes (all if None); see ``autograd.ops.vector_norm``."""
    return ops.vector_norm(tensor(x), number(ord, "ord"), axis, keepdims)


def matrix_norm(x: Any, /, *, keepdims: bool = False, ord: float | str | None = "fro") -> DiffTensor:
    """A norm of matrices: "fro", "nuc", 1, -1, 2, -2, inf or -inf; see ``autograd.ops.matrix_norm``."""
    return ops.matrix_norm(tensor(x), "fro" if ord is None else ord, (-2, -1), keepdims)


def matrix_power(x: Any, n: int, /) -> DiffTensor:
    return ops.matrix_power(tensor(x), n)


def matrix_rank(x: Any, /, *, rtol: Any = None) -> DiffTensor:
    """How many singular values are larger than ``rtol`` times the largest (max(m, n) · eps if None); a constant."""
    x = tensor(x)
    if rtol is None:
        rtol = max(x.shape[-2:]) * float(xp(0.0).finfo(numpy_dtype(x.dtype)).eps)
    values = ops.svdvals(x.detach() if x.raw is not None else x)
    bound = ops.max(values, axis=-1, keepdims=True) * (
        ops.expand_dims(tensor(rtol), axis=-1) if hasattr(rtol, "shape") else rtol
    )
    return sum(ops.astype(values > bound, "int64"), axis=-1)


# ---- inverses and systems ----


def inv(x: Any, /) -> DiffTensor:
    """The inverse of square matrices. A singular one raises ValueError."""
    return ops.inv(tensor(x))


def pinv(x: Any, /, *, rtol: Any = None) -> DiffTensor:
    """The pseudo-inverse; singular values up to ``rtol`` (a number, or a tensor of one for each matrix) times the largest are 0."""
    return ops.pinv(tensor(x), rtol=value_of(rtol, "pinv") if type(rtol) is DiffTensor else rtol)


def solve(x1: Any, x2: Any, /) -> DiffTensor:
    """z with x1 z = x2, for square matrices x1 and right sides x2: a vector, or matrices. A singular x1 raises ValueError."""
    return ops.solve(tensor(x1), tensor(x2))


def det(x: Any, /) -> DiffTensor:
    return ops.det(tensor(x))


def slogdet(x: Any, /) -> SlogdetResult:
    """Sign (a phase, if complex) and logarithm of the absolute value of the determinant."""
    return SlogdetResult(*ops.slogdet(tensor(x)))


# ---- factorisations ----


def cholesky(x: Any, /, *, upper: bool = False) -> DiffTensor:
    """Lower triangular L with L Lᴴ = x, or with ``upper`` U = Lᴴ, for positive definite x."""
    lower = ops.cholesky(tensor(x))
    if not upper:
        return lower
    flipped = ops.swapaxes(lower, -1, -2)
    return ops.conj(flipped) if is_complex(flipped.dtype) else flipped


def eigh(x: Any, /) -> EighResult:
    """Eigenvalues, real and ascending, and orthonormal eigenvectors, in columns, of Hermitian matrices."""
    return EighResult(*ops.eigh(tensor(x)))


def eigvalsh(x: Any, /) -> DiffTensor:
    """The eigenvalues, real and ascending, of Hermitian matrices."""
    return ops.eigvalsh(tensor(x))


def svdvals(x: Any, /) -> DiffTensor:
    """The singular values in descending order."""
    return ops.svdvals(tensor(x))


def svd(x: Any, /, *, full_matrices: bool = True) -> SVDResult:
    """U, S and Vᴴ with U diag(S) Vᴴ = x. TypeError for a tracked x that is not square and ``full_matrices``: the vectors that
    complete a basis are not unique, so they have no gradient."""
    x = tensor(x)
    if full_matrices and x.shape[-2] != x.shape[-1]:
        return SVDResult(
            *_complete(x, "svd", "full_matrices=False", lambda raw: xp(raw).linalg.svd(raw, full_matrices=True))
        )
    return SVDResult(*ops.svd(x))


def qr(x: Any, /, *, mode: str = "reduced") -> QRResult:
    """Q with orthonormal columns and upper triangular R with Q R = x; in mode "complete" Q is square. TypeError for a tracked
    tall x in that mode: the columns that complete Q are not unique, so they have no gradient."""
    x = tensor(x)
    if mode not in ("reduced", "complete"):
        raise ValueError(f'qr: mode must be "reduced" or "complete", not {mode!r}')
    if mode == "complete" and x.shape[-2] > x.shape[-1]:
        return QRResult(*_complete(x, "qr", 'mode="reduced"', lambda raw: xp(raw).linalg.qr(raw, mode="complete")))
    return QRResult(*ops.qr(x))


def _complete(x: DiffTensor, name: str, instead: str, kernel: Callable) -> list[DiffTensor]:
    """A factorisation with more vectors than x determines: of constants only."""
    if x.node is not None:
        raise TypeError(
            f"{name}: the vectors that complete a basis are not unique and have no gradient; write {instead}"
        )
    return [DiffTensor._wrap(found, None) for found in kernel(value_of(x, name))]
