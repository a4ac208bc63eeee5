"""Rows of linear algebra: factorisations, singular values and eigenvalues.

All act on the last two axes, (..., m, n), and on batches of matrices. Kernels come from the array's own library (the
array API's ``linalg``). Derivative rules are written with rows, so that every order exists; they hold for complex matrices
too.

``cholesky`` and ``eigh`` act on the Hermitian part (x + xᴴ)/2 of their input, so the gradient is Hermitian, whichever
triangle a library reads.

What is not unique is not differentiable. Singular and eigenvectors are fixed up to a sign (real) or a phase (complex);
of complex ones only functions that do not depend on the phase have a gradient, and no check is made. Vectors of *equal*
singular or eigenvalues are fixed up to a rotation: the terms that would divide by the difference of values count as 0. So
gradients stay finite, and they are right for functions of the space that those vectors span; they are not for V f(w) Vᴴ,
which has in place of these terms f' (apply f to the matrix itself: ``inv``, ``expm``, ``matrix_power``). Gradients of the
values alone divide by nothing: that of Σ f(w) is always right, that of one among equal values is one choice of several.
Second derivatives of values involve the vectors, and have their limits.

Sources: Giles 2008, "Collected matrix derivative results for forward and reverse mode AD"; Murray 2016, arXiv 1602.07527
(cholesky); Walter & Lehmann 2018 (qr); Townsend 2016 and Wan & Zhang 2019, arXiv 1909.02659 (svd); Boeddeker et al. 2017,
arXiv 1701.00392 (complex eig).
"""

import builtins
import math
from typing import Any

from .. import backend
from ..backend import xp
from ..shapes import Aval, floating, real_dtype, result_dtype, shape_of
from ..table import op
from .elementwise import real, replace_zero
from .inverses import (
    _c,
    _column,
    _cubic,
    _h,
    _linalg,
    _matrices,
    _row,
    _same_square,
    _square,
    _t,
    solve,
    solve_triangular,
)
from .layout import concat, diagonal, put_diagonal, tril, triu
from .precision import complexed, computed

__all__ = ["cholesky", "eig", "eigh", "eigvals", "eigvalsh", "qr", "svd", "svdvals"]


def _hermitian(x: Any) -> Any:
    return (x + _h(x)) * 0.5


def _hermitian_part(x: Any) -> Any:
    """``_hermitian`` for the raw arrays of a kernel."""
    library = xp(x)
    flipped = library.matrix_transpose(x)
    return (x + (library.conj(flipped) if backend.is_complex(x.dtype) else flipped)) * 0.5


@computed
def _cholesky(x: Any) -> Any:
    return xp(x).linalg.cholesky(_hermitian_part(x))


# ---- factorisations ----


def _cholesky_rule(g: Any, y: Any, _x: Any) -> Any:
    """Q = L⁻ᵀ P L̄⁻¹ with P the lower triangle of Lᵀ ḡ, its diagonal halved; then the Hermitian part."""
    p = tril(_t(y) @ g)
    p = p - 0.5 * put_diagonal(diagonal(p), k=0, shape=tuple(p.shape[-2:]))
    right = solve_triangular(_t(y), p)
    return _hermitian(_t(solve_triangular(_h(y), _t(right))))


cholesky = op(
    "cholesky", _cholesky, _same_square, _cholesky_rule, flops=_cubic(1 / 3),
    doc="Lower triangular L with L Lᴴ = (x + xᴴ)/2, for positive definite matrices (..., n, n); others raise ValueError.",
)  # fmt: skip


def _qr_shapes(x: Any) -> list[Aval]:
    batch, m, n = _matrices(x)
    dtype, k = floating(result_dtype(x)), builtins.min(m, n)
    return [((*batch, m, k), dtype), ((*batch, k, n), dtype)]


def _qr_rule(g: Any, z: Any, x: Any) -> Any:
    """With M = ḡ_R Rᵀ - Qᵀ ḡ_Q: (ḡ_Q + Q̄ T) R⁻ᵀ, T the upper triangle of M copied, conjugated, to the lower.

    If x is wide its first m columns have Q as factor, and the rest of R is Qᴴ times the other columns.
    """
    gq, gr = g
    q, r = z
    m, n = x.shape[-2:]
    beyond = None
    if n > m:
        if gr is not None:
            beyond = _c(q) @ gr[..., m:]
            more = _c(x[..., m:] @ _t(gr[..., m:]))
            gq, gr = more if gq is None else gq + more, gr[..., :m]
        else:
            beyond = x[..., m:] * 0.0
        r = r[..., :m]
    t: Any = 0.0 if gr is None else gr @ _t(r)
    t = t if gq is None else t - _t(q) @ gq
    upper = triu(t, k=1)
    middle = put_diagonal(real(diagonal(t)), k=0, shape=tuple(t.shape[-2:]))
    d = _c(q) @ (upper + _h(upper) + middle)
    d = d if gq is None else d + gq
    d = _t(solve_triangular(r, _t(d)))
    return d if beyond is None else concat([d, beyond], axis=-1)


qr = op(
    "qr", _linalg("qr"), _qr_shapes, _qr_rule, outputs=2, flops=_cubic(4),
    doc="Q (..., m, k) with orthonormal columns and upper triangular R (..., k, n) with Q R = x (..., m, n), k = min(m, n). The "
    "derivative exists where the first k columns of x are independent.",
)  # fmt: skip


def _inverse_gaps(differences: Any) -> Any:
    """1 / difference for each pair of values; 0 where they are equal, as on the diagonal."""
    return 1.0 / replace_zero(differences, by=math.inf)


@computed
def _svd(x: Any) -> Any:
    return tuple(xp(x).linalg.svd(x, full_matrices=False))


def _svd_shapes(x: Any) -> list[Aval]:
    batch, m, n = _matrices(x)
    dtype, k = floating(result_dtype(x)), builtins.min(m, n)
    return [((*batch, m, k), dtype), ((*batch, k), real_dtype(dtype)), ((*batch, k, n), dtype)]


def _svd_rule(g: Any, z: Any, _x: Any) -> Any:
    """In the conjugate convention of Wan & Zhang 2019; the values' part alone divides by nothing."""
    gu, gs, gvh = g
    u, s, vh = z
    k = s.shape[-1]
    if gu is None and gvh is None:
        return _c((u * _row(gs)) @ vh)
    gaps = _inverse_gaps((_row(s) - _column(s)) * (_row(s) + _column(s)))
    inverse = 1.0 / replace_zero(s, by=math.inf)
    inner: Any = 0.0 if gs is None else put_diagonal(real(gs), k=0, shape=(k, k))
    left = right = None
    if gu is not None:
        left = _c(gu)
        turn = _h(u) @ left
        turn = turn - _h(turn)
        inner = inner + turn * gaps * _row(s)
        if gvh is not None and backend.is_complex(u.dtype):
            inner = inner + put_diagonal(diagonal(turn) * (0.5 * inverse), k=0, shape=(k, k))
    if gvh is not None:
        right = _c(gvh)
        turn = vh @ _h(right)
        inner = inner + _column(s) * ((turn - _h(turn)) * gaps)
    d = u @ inner @ vh
    if left is not None and u.shape[-2] > k:
        away = left * _row(inverse)
        d = d + (away - u @ (_h(u) @ away)) @ vh
    if right is not None and vh.shape[-1] > k:
        away = _column(inverse) * right
        d = d + u @ (away - (away @ _h(vh)) @ vh)
    return _c(d)


svd = op(
    "svd", _svd, _svd_shapes, _svd_rule, outputs=3, flops=_cubic(20),
    doc="U (..., m, k), S (..., k) in descending order and Vᴴ (..., k, n) with U diag(S) Vᴴ = x (..., m, n), k = min(m, n). The "
    "module's docstring says where vectors have a derivative; beside that a term that divides by a value of 0 counts as 0.",
)  # fmt: skip


def svdvals(x: Any) -> Any:
    """The singular values (..., min(m, n)) of matrices (..., m, n), in descending order."""
    return svd(x)[1]


# ---- eigenvalues ----


@computed
def _eigh(x: Any, *, uplo: str = "L") -> Any:
    library = xp(x)
    options = {"UPLO": uplo} if library.__name__ in ("numpy", "cupy") else {}
    return tuple(library.linalg.eigh(_hermitian_part(x), **options))


def _eigh_shapes(x: Any, **_: Any) -> list[Aval]:
    batch, n = _square(x)
    dtype = floating(result_dtype(x))
    return [((*batch, n), real_dtype(dtype)), (shape_of(x), dtype)]


def _eigh_rule(g: Any, z: Any, _x: Any, **_: Any) -> Any:
    gw, gv = g
    w, v = z
    if gv is None:
        return _c((v * _row(real(gw))) @ _h(v))
    inner = (_h(v) @ _c(gv)) * _inverse_gaps(_row(w) - _column(w))
    if gw is not None:
        inner = inner + put_diagonal(real(gw), k=0, shape=tuple(inner.shape[-2:]))
    return _hermitian(_c(v @ inner @ _h(v)))


eigh = op(
    "eigh", _eigh, _eigh_shapes, _eigh_rule, outputs=2, flops=_cubic(9),
    doc="Eigenvalues w (..., n), real and ascending, and orthonormal eigenvectors V (..., n, n), in columns, of (x + xᴴ)/2. The "
    "module's docstring says where vectors have a derivative. ``uplo``, \"L\" or \"U\", changes nothing but the phases of the vectors: it "
    "is the triangle that NumPy's and CuPy's solver is given to read.",
)  # fmt: skip


def eigvalsh(x: Any) -> Any:
    """The eigenvalues (..., n), real and ascending, of (x + xᴴ)/2, for matrices (..., n, n)."""
    return eigh(x)[0]


@computed
def _eig(x: Any) -> Any:
    library = xp(x)
    name = complexed(x.dtype).name
    return tuple(library.astype(o, getattr(library, name)) for o in library.linalg.eig(x))


def _eig_shapes(x: Any) -> list[Aval]:
    batch, n = _square(x)
    dtype = complexed(result_dtype(x))
    return [((*batch, n), dtype), (shape_of(x), dtype)]


def _eig_rule(g: Any, z: Any, _x: Any) -> Any:
    """In the conjugate convention: V⁻ᴴ (diag ḡ_w + (Vᴴḡ_V - VᴴV diag Re(Vᴴḡ_V)) / (wⱼ - wᵢ)*) Vᴴ."""
    gw, gv = g
    w, v = z
    vh = _h(v)
    if gv is None:
        return _c(solve(vh, _column(_c(gw)) * vh))
    along = vh @ _c(gv)
    inner = (along - (vh @ v) * _row(real(diagonal(along)))) * _c(_inverse_gaps(_row(w) - _column(w)))
    if gw is not None:
        inner = inner + put_diagonal(_c(gw), k=0, shape=tuple(inner.shape[-2:]))
    return _c(solve(vh, inner @ vh))


eig = op(
    "eig", _eig, _eig_shapes, _eig_rule, outputs=2, flops=_cubic(25),
    doc="Eigenvalues w (..., n) and eigenvectors V (..., n, n), columns of length 1, of any square matrices: x V = V diag(w). Both "
    "are complex, whatever x is. The module's docstring says where vectors have a derivative; a matrix that has no full set of "
    "eigenvectors has none.",
)  # fmt: skip


def eigvals(x: Any) -> Any:
    """The eigenvalues (..., n), complex, of square matrices (..., n, n)."""
    return eig(x)[0]
