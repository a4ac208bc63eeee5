"""numpy.linalg with derivatives: NumPy's signatures and result types over the rows of ``autograd.ops``.

Where vectors are not unique (equal singular or eigenvalues, signs, phases) see ``autograd.ops.decomposition``. A singular
or indefinite matrix raises ``LinAlgError`` with or without tensors.
"""

import functools
from collections.abc import Callable
from typing import Any, cast

import numpy as np

from .. import ops
from ._face import array_of, face, raw, rule, without_gradient
from .layout import diagonal as _diagonal
from .products import dot
from .reductions import _axis

LinAlgError = np.linalg.LinAlgError
_EighResult, _EigResult, _QRResult, _SlogdetResult, _SVDResult = (
    cast(Any, type(f(np.eye(1))))
    for f in (np.linalg.eigh, np.linalg.eig, np.linalg.qr, np.linalg.slogdet, np.linalg.svd)
)
"""NumPy's own named tuples."""


def _matrix_rule(plain: Callable) -> Callable[[Callable], Callable]:
    """``rule``, with NumPy's error where a matrix has no inverse or factor."""

    def decorate(function: Callable) -> Callable:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            try:
                return function(*args, **kwargs)
            except ValueError as error:
                if isinstance(error.__cause__, LinAlgError) and not isinstance(error, LinAlgError):
                    raise LinAlgError(str(error)) from error
                raise

        return face(plain, call)

    return decorate


def _t(x: Any) -> Any:
    return ops.swapaxes(x, -1, -2)


@_matrix_rule(np.linalg.inv)
def inv(a: Any) -> Any:
    return ops.inv(array_of(a))


@_matrix_rule(np.linalg.pinv)
def pinv(a: Any, rcond: Any = None, hermitian: bool = False, *, rtol: Any = None) -> Any:
    limit = rcond if rtol is None else rtol
    return ops.pinv(array_of(a)) if limit is None else ops.pinv(array_of(a), rtol=float(limit))


@_matrix_rule(np.linalg.det)
def det(a: Any) -> Any:
    return ops.det(array_of(a))


@_matrix_rule(np.linalg.slogdet)
def slogdet(a: Any) -> Any:
    return _SlogdetResult(*ops.slogdet(array_of(a)))


@_matrix_rule(np.linalg.solve)
def solve(a: Any, b: Any) -> Any:
    return ops.solve(array_of(a), array_of(b))


@_matrix_rule(np.linalg.cholesky)
def cholesky(a: Any, /, *, upper: bool = False) -> Any:
    a = array_of(a)
    lower = ops.cholesky(ops.conj(a) if upper else a)
    return _t(lower) if upper else lower


def _from_triangle(a: Any, uplo: str) -> Any:
    """The Hermitian matrix that NumPy reads out of one triangle; the gradient goes back into that triangle."""
    a = array_of(a)
    if uplo.upper() not in ("L", "U"):
        raise ValueError(f'UPLO must be "L" or "U", not {uplo!r}')
    strict, whole = (ops.tril(a, k=-1), ops.tril(a)) if uplo.upper() == "L" else (ops.triu(a, k=1), ops.triu(a))
    return whole + ops.conj(_t(strict))


@_matrix_rule(np.linalg.eigh)
def eigh(a: Any, UPLO: str = "L") -> Any:
    return _EighResult(*ops.eigh(_from_triangle(a, UPLO), uplo=UPLO.upper()))


@_matrix_rule(np.linalg.eigvalsh)
def eigvalsh(a: Any, UPLO: str = "L") -> Any:
    return ops.eigh(_from_triangle(a, UPLO))[0]


@_matrix_rule(np.linalg.eig)
def eig(a: Any) -> Any:
    a = array_of(a)
    w, v = ops.eig(a)
    if not np.iscomplexobj(raw(a)) and not np.any(raw(w).imag):  # NumPy answers in real numbers where it can
        w, v = ops.real(w), ops.real(v)
    return _EigResult(w, v)


@_matrix_rule(np.linalg.eigvals)
def eigvals(a: Any) -> Any:
    a = array_of(a)
    w = ops.eig(a)[0]
    return w if np.iscomplexobj(raw(a)) or np.any(raw(w).imag) else ops.real(w)


@_matrix_rule(np.linalg.qr)
def qr(a: Any, mode: str = "reduced") -> Any:
    if mode not in ("reduced", "r"):
        raise TypeError(f'qr: mode {mode!r} has no derivative here; "reduced" and "r" have one')
    q, r = ops.qr(array_of(a))
    return r if mode == "r" else _QRResult(q, r)


@_matrix_rule(np.linalg.svd)
def svd(a: Any, full_matrices: bool = True, compute_uv: bool = True, hermitian: bool = False) -> Any:
    a = array_of(a)
    if not compute_uv:
        return ops.svd(a)[1]
    if full_matrices and a.shape[-1] != a.shape[-2]:
        raise NotImplementedError(
            "svd: the extra vectors of full_matrices=True are not unique; write full_matrices=False"
        )
    return _SVDResult(*ops.svd(a))


@_matrix_rule(np.linalg.svdvals)
def svdvals(x: Any, /) -> Any:
    return ops.svd(array_of(x))[1]


@_matrix_rule(np.linalg.lstsq)
def lstsq(a: Any, b: Any, rcond: float | None = None) -> tuple:
    """As numpy.linalg.lstsq, by the pseudo-inverse; the singular values are constants."""
    a, b = array_of(a), array_of(b)
    values = np.linalg.svd(raw(a), compute_uv=False)
    limit = np.finfo(values.dtype).eps * max(a.shape) if rcond is None or rcond < 0 else rcond
    rank = int(np.sum(values > limit * values.max(initial=0.0)))
    x = ops.lstsq(a, b, rtol=float(limit))
    error = ops.matmul(a, x) - b
    residuals: Any = np.empty(0, values.dtype)
    if rank == a.shape[1] and a.shape[0] > a.shape[1]:
        residuals = ops.sum(ops.square(ops.abs(error)), axis=0)
        residuals = residuals if len(b.shape) > 1 else ops.reshape(residuals, shape=(1,))
    return x, residuals, rank, values


@_matrix_rule(np.linalg.matrix_power)
def matrix_power(a: Any, n: int) -> Any:
    return ops.matrix_power(array_of(a), int(n))


@rule(np.linalg.multi_dot)
def multi_dot(arrays: Any) -> Any:
    return ops.multi_dot([array_of(a) for a in arrays])


@rule(np.linalg.norm)
def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    """As numpy.linalg.norm. At 0 the Euclidean norm has the derivative 0 (in HIPS autograd it is NaN)."""
    x = array_of(x)
    ndim = len(x.shape)
    if axis is None and (ord is None or ndim == 1):
        axes: tuple[int, ...] = tuple(range(ndim))
    else:
        axes = (
            tuple(range(ndim)) if axis is None else (int(axis),) if np.ndim(axis) == 0 else tuple(int(a) for a in axis)
        )
    if ord is None or len(axes) == 1:
        return ops.vector_norm(x, 2 if ord is None else ord, axes, bool(keepdims))
    if len(axes) != 2:
        raise ValueError(f"norm: ord={ord!r} is defined over one axis or two, not over {axes}")
    return ops.matrix_norm(x, ord, axes, bool(keepdims))


@rule(np.linalg.vector_norm)
def vector_norm(x: Any, /, *, axis: Any = None, keepdims: bool = False, ord: Any = 2) -> Any:
    return ops.vector_norm(array_of(x), ord, _axis(axis), bool(keepdims))


@rule(np.linalg.matrix_norm)
def matrix_norm(x: Any, /, *, keepdims: bool = False, ord: Any = "fro") -> Any:
    return ops.matrix_norm(array_of(x), ord, (-2, -1), bool(keepdims))


trace = rule(np.linalg.trace)(lambda x, /, *, offset=0, dtype=None: ops.sum(_diagonal(x, offset, -2, -1), axis=-1))
diagonal = rule(np.linalg.diagonal)(lambda x, /, *, offset=0: _diagonal(x, offset, -2, -1))
matrix_transpose = rule(np.linalg.matrix_transpose)(lambda x, /: _t(x))
cond, matrix_rank = without_gradient(np.linalg.cond), without_gradient(np.linalg.matrix_rank)
matmul = face(np.linalg.matmul, lambda x1, x2, /: ops.matmul(array_of(x1), array_of(x2)))
outer = face(np.linalg.outer, lambda x1, x2, /: ops.outer(array_of(x1), array_of(x2)))

__all__ = [
    "LinAlgError", "cholesky", "cond", "det", "diagonal", "dot", "eig", "eigh", "eigvals", "eigvalsh", "inv", "lstsq", "matmul",
    "matrix_norm", "matrix_power", "matrix_rank", "matrix_transpose", "multi_dot", "norm", "outer", "pinv", "qr", "slogdet",
    "solve", "svd", "svdvals", "trace", "vector_norm",
]  # fmt: skip
