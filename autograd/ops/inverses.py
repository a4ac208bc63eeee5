"""Rows of linear algebra: inverses, linear systems, determinants, the matrix exponential.

All act on the last two axes, (..., m, n), and on batches of matrices. Kernels come from the array's own library (the
array API's ``linalg``); the matrix exponential from SciPy, or from CuPy's copy of it. Derivative rules are written with
rows, so that every order exists; they hold for complex matrices too. The factorisations are in ``decomposition``.

Sources: Giles 2008, "Collected matrix derivative results for forward and reverse mode AD"; Golub & Pereyra 1973 (pinv);
Mathias 1996 (expm).
"""

import builtins
import importlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import backend
from ..backend import xp
from ..shapes import Aval, floating, real_dtype, result_dtype, shape_of
from ..table import Domain, op
from .elementwise import abs, conj, floor, imag, log2, real, replace_zero
from .layout import concat, swapaxes, tril, triu
from .more import exp2
from .precision import computed
from .reduce import max, sum

__all__ = ["adjugate", "det", "expm", "inv", "pinv", "slogdet", "solve", "solve_triangular"]

# ---- shapes, costs and transposes ----


def _matrices(x: Any) -> tuple[tuple[int, ...], int, int]:
    """Batch axes, rows and columns."""
    shape = shape_of(x)
    if len(shape) < 2:
        raise ValueError(f"matrices of shape (..., m, n) are needed, not an array of shape {shape}")
    return shape[:-2], shape[-2], shape[-1]


def _square(x: Any) -> tuple[tuple[int, ...], int]:
    batch, m, n = _matrices(x)
    if m != n:
        raise ValueError(f"square matrices of shape (..., n, n) are needed, not an array of shape {shape_of(x)}")
    return batch, n


def _same_square(x: Any, **_: Any) -> Aval:
    _square(x)
    return shape_of(x), floating(result_dtype(x))


def _cubic(factor: float) -> Callable:
    """FLOPs of a factorisation of (..., m, n): so many times max · min²."""

    def flops(_y: Any, x: Any, *_: Any, **__: Any) -> float:
        m, n = shape_of(x)[-2:]
        return factor * math.prod(shape_of(x)[:-2]) * m * n * builtins.min(m, n)

    return flops


def _t(x: Any) -> Any:
    return swapaxes(x, -1, -2)


def _c(x: Any) -> Any:
    return conj(x) if backend.is_complex(x.dtype) else x


def _h(x: Any) -> Any:
    return _c(_t(x))


def _column(v: Any) -> Any:
    return v[..., :, None]


def _row(v: Any) -> Any:
    return v[..., None, :]


def _linalg(name: str) -> Callable:
    """A kernel: the library's function of that name."""

    @computed
    def kernel(x: Any) -> Any:
        out = getattr(xp(x).linalg, name)(x)
        return tuple(out) if isinstance(out, tuple) else out

    return kernel


# ---- inverses and linear systems ----

inv = op(
    "inv", _linalg("inv"), _same_square, lambda g, y, _x: -(_t(y) @ g @ _t(y)), flops=_cubic(2),
    doc="The inverse of square matrices (..., n, n). A singular matrix raises ValueError.",
)  # fmt: skip


def _solved(a: Any, b: Any, **_: Any) -> Aval:
    batch, n = _square(a)
    shape = shape_of(b)
    rows = shape[0] if len(shape) == 1 else _matrices(b)[1]
    if rows != n:
        raise ValueError(
            f"solve: matrices of shape {shape_of(a)} and right sides of shape {shape} do not fit: {n} rows against {rows}"
        )
    dtype = floating(result_dtype(a, b))
    return ((*batch, n) if len(shape) == 1 else (*np.broadcast_shapes(batch, shape[:-2]), n, shape[-1])), dtype


def _solve_flops(_z: Any, a: Any, b: Any, **_: Any) -> float:
    return _cubic(2 / 3)(_z, a) + 2.0 * math.prod(shape_of(_z)) * shape_of(a)[-1]


def _against(gb: Any, z: Any, b: Any) -> Any:
    """-g zᵀ, the gradient for a matrix, where g is the gradient for the right side, a vector if it has one axis."""
    return -(_column(gb) * _row(z)) if b.ndim == 1 else -(gb @ _t(z))


solve = op(
    "solve", computed(lambda a, b: xp(a).linalg.solve(a, b)), _solved,
    lambda g, z, a, _b: _against(_solve_transposed(a, g, _b), z, _b),
    lambda g, _z, a, _b: _solve_transposed(a, g, _b),
    flops=_solve_flops,
    doc="z with a z = b, for square matrices a (..., n, n) and right sides b: (n,), or matrices (..., n, k). A singular a raises ValueError.",
)  # fmt: skip


def _solve_transposed(a: Any, g: Any, b: Any) -> Any:
    """a⁻ᵀ g; a batch of vectors g, which came of one vector b, is solved as matrices of one column."""
    return solve(_t(a), _column(g))[..., 0] if b.ndim == 1 else solve(_t(a), g)


@computed
def _solve_triangular(a: Any, b: Any, *, lower: bool = False, unit_diagonal: bool = False) -> Any:
    library = xp(a)
    a = library.tril(a) if lower else library.triu(a)
    if (
        unit_diagonal
    ):  # the array API has no triangular solver: the general one has to do, and 1s to be put on the diagonal
        n = a.shape[-1]
        where = {} if library.__name__ in ("numpy", "cupy") else {"device": a.device}
        eye = library.eye(n, dtype=a.dtype, **where)
        a = library.where(eye != 0, eye, a)
    return library.linalg.solve(a, b)


@computed
def _np_solve_triangular(a: Any, b: Any, *, lower: bool, unit_diagonal: bool) -> Any:
    if a.ndim == 2 and b.ndim <= 2 and a.size and b.size:
        linalg = importlib.import_module("scipy.linalg")
        return linalg.solve_triangular(a, b, lower=lower, unit_diagonal=unit_diagonal, check_finite=False)
    return _solve_triangular(a, b, lower=lower, unit_diagonal=unit_diagonal)


def _triangle(x: Any, lower: bool, unit_diagonal: bool) -> Any:
    k = 1 if unit_diagonal else 0
    return tril(x, k=-k) if lower else triu(x, k=k)


_solve_triangular_row = op(
    "solve_triangular", _solve_triangular, _solved,
    lambda g, z, a, _b, lower, unit_diagonal: _triangle(_against(_back_substituted(a, g, _b, lower, unit_diagonal), z, _b), lower, unit_diagonal),
    lambda g, _z, a, _b, lower, unit_diagonal: _back_substituted(a, g, _b, lower, unit_diagonal),
    flops=lambda z, a, _b, **_: float(math.prod(shape_of(z)) * shape_of(a)[-1]),
)  # fmt: skip
_solve_triangular_row.row.kernels[np.ndarray] = _np_solve_triangular


def _back_substituted(a: Any, g: Any, b: Any, lower: bool, unit_diagonal: bool) -> Any:
    vector = b.ndim == 1
    d = _solve_triangular_row(_t(a), _column(g) if vector else g, lower=not lower, unit_diagonal=unit_diagonal)
    return d[..., 0] if vector else d


def solve_triangular(a: Any, b: Any, trans: int | str = 0, lower: bool = False, unit_diagonal: bool = False) -> Any:
    """z with a z = b (``trans`` 0 or "N"), aᵀ z = b (1 or "T") or aᴴ z = b (2 or "C"), for triangular a.

    Args:
        a: matrices (..., n, n), of which the lower (``lower``) or upper triangle is read, and without the diagonal, which
            then counts as 1, if ``unit_diagonal``.
        b: a vector (n,) or matrices (..., n, k).
    """
    if trans not in (0, 1, 2, "N", "T", "C"):
        raise ValueError(f'solve_triangular: trans must be 0, 1, 2, "N", "T" or "C", not {trans!r}')
    if trans in (2, "C"):
        a = conj(a)
    if trans not in (0, "N"):
        a, lower = _t(a), not lower
    return _solve_triangular_row(a, b, lower=lower, unit_diagonal=unit_diagonal)


solve_triangular.row = _solve_triangular_row.row  # type: ignore[attr-defined]


@computed
def _pinv(x: Any, *, rtol: float | None = None) -> Any:
    eps = float(xp(x).finfo(x.dtype).eps)
    return xp(x).linalg.pinv(x, rtol=builtins.max(x.shape[-2:]) * eps if rtol is None else rtol)


def _pinv_rule(g: Any, p: Any, x: Any, rtol: float | None) -> Any:
    """Golub & Pereyra 1973, eq. 4.12, transposed; in the conjugate convention, so that it reads as in the paper."""
    gh, ph = _t(g), _h(p)  # (ḡ)ᴴ
    if x.shape[-2] <= x.shape[-1]:
        k = gh @ p
        kph = k @ ph
        d = kph - _h(p @ k) - (x @ p) @ kph + (ph @ p) @ (gh - k @ x)
    else:
        k = p @ gh
        phk = ph @ k
        d = phk - _h(k @ p) + (gh - x @ k) @ p @ ph - (phk @ p) @ x
    return _c(d)


def _pinv_shape(x: Any, rtol: float | None) -> Aval:
    batch, m, n = _matrices(x)
    return (*batch, n, m), floating(result_dtype(x))


pinv = op(
    "pinv", _pinv, _pinv_shape, _pinv_rule, flops=_cubic(22),
    doc="The Moore-Penrose inverse (..., n, m) of matrices (..., m, n). Singular values up to ``rtol`` (max(m, n) · eps if None) "
    "times the largest count as 0. The derivative is right where the rank does not change.",
)  # fmt: skip

# ---- determinants ----


@computed
def _adjugate(x: Any) -> Any:
    """By singular values, x = U S Vᴴ: adj x = det(U) det(Vᴴ) V diag(Π_{j≠i} sⱼ) Uᴴ; nothing is divided by, so singular
    matrices are no exception."""
    library = xp(x)
    n = x.shape[-1]
    if not math.prod(x.shape):
        return library.asarray(x, copy=True)
    u, s, vh = library.linalg.svd(x, full_matrices=False)
    ones = s[..., :1] * 0.0 + 1.0
    before = library.concat([ones, library.cumulative_prod(s, axis=-1)[..., : n - 1]], axis=-1)
    after = library.flip(
        library.concat([ones, library.cumulative_prod(library.flip(s, axis=-1), axis=-1)[..., : n - 1]], axis=-1),
        axis=-1,
    )
    sign = library.linalg.det(u) * library.linalg.det(vh)
    others = before * after
    if backend.is_complex(x.dtype):
        u, vh, others = library.conj(u), library.conj(vh), library.astype(others, x.dtype)
    return (
        library.matmul(library.matrix_transpose(vh) * others[..., None, :], library.matrix_transpose(u))
        * sign[..., None, None]
    )


def _adjugate_rule(g: Any, y: Any, x: Any) -> Any:
    """d adj x = (tr(adj x dx) adj x - adj x dx adj x) / det x."""
    yt = _t(y)
    return (yt * sum(g * y, axis=(-1, -2), keepdims=True) - yt @ g @ yt) / det(x)[..., None, None]


adjugate = op(
    "adjugate", _adjugate, _same_square, _adjugate_rule, flops=_cubic(26), complex=False,  # complex matrices are right, but have rounding noise in complex steps
    doc="The transposed matrix of cofactors, det(x) x⁻¹, which singular matrices (..., n, n) have too. Its derivative "
    "(the second one of det) is computed by dividing by det(x), and is not finite at singular matrices.",
)  # fmt: skip
det = op(
    "det", _linalg("det"), lambda x: (_square(x)[0], floating(result_dtype(x))),
    lambda g, _y, x: g[..., None, None] * _t(adjugate(x)), flops=_cubic(2 / 3),
    doc="The determinant of square matrices (..., n, n). Its gradient, the cofactors, is right for singular matrices too.",
)  # fmt: skip


def _slogdet_rule(g: Any, z: Any, x: Any) -> Any:
    """With t = tr(x⁻¹ dx): d logabsdet = Re t and d sign = i sign Im t, which is 0 for real matrices."""
    sign, _ = z
    g_sign, g_log = g
    factor = None if g_log is None else real(g_log)
    if g_sign is not None and backend.is_complex(x.dtype):
        turn = imag(g_sign * sign) * 1j
        factor = turn if factor is None else factor + turn
    if factor is None:
        return x * 0.0
    return factor[..., None, None] * _t(inv(x))


def _slogdet_shapes(x: Any) -> list[Aval]:
    batch, _ = _square(x)
    dtype = floating(result_dtype(x))
    return [(batch, dtype), (batch, real_dtype(dtype))]


slogdet = op(
    "slogdet", _linalg("slogdet"), _slogdet_shapes, _slogdet_rule, outputs=2, flops=_cubic(2 / 3),
    doc="Sign (a phase, if complex) and logarithm of the absolute value of the determinant, two arrays of shape (...).",
)  # fmt: skip

# ---- the exponential ----


_PADE = (
    64764752532480000.0, 32382376266240000.0, 7771770303897600.0, 1187353796428800.0, 129060195264000.0, 10559470521600.0,
    670442572800.0, 33522128640.0, 1323241920.0, 40840800.0, 960960.0, 16380.0, 182.0, 1.0,
)  # fmt: skip
"""The numerator of the Padé approximant [13/13] of exp, by rising powers (Higham 2005, eq. 2.3); the denominator is it at -x."""
_PADE_RADIUS = 5.371920351148152


@computed
def _expm(x: Any) -> Any:
    """Scaling and squaring (Higham 2005, algorithm 2.3, with the approximant of degree 13 always)."""
    _square(x)
    library, b = xp(x), _PADE
    if not math.prod(x.shape):
        return library.asarray(x, copy=True)
    norm = library.max(library.sum(abs(x), axis=-2, keepdims=True), axis=-1, keepdims=True)
    halvings = library.ceil(library.log2(library.clip(norm / _PADE_RADIUS, 1.0, None)))
    halvings = library.where(library.isfinite(halvings), halvings, 0.0)
    x = x / 2.0**halvings
    place = {} if library.__name__ in ("numpy", "cupy") else {"device": x.device}
    one = library.eye(x.shape[-1], dtype=x.dtype, **place)
    x2 = x @ x
    x4 = x2 @ x2
    x6 = x4 @ x2
    odd = x @ (x6 @ (b[13] * x6 + b[11] * x4 + b[9] * x2) + b[7] * x6 + b[5] * x4 + b[3] * x2 + b[1] * one)
    even = x6 @ (b[12] * x6 + b[10] * x4 + b[8] * x2) + b[6] * x6 + b[4] * x4 + b[2] * x2 + b[0] * one
    out = library.linalg.solve(even - odd, even + odd)
    for k in builtins.range(int(library.max(halvings))):
        out = library.where(halvings > k, out @ out, out)
    return out


def _expm_rule(g: Any, _y: Any, x: Any) -> Any:
    """The upper right block of exp [[xᵀ, ḡ], [0, xᵀ]] (Mathias 1996, theorem 2.1). A large ḡ would be taken for a large
    matrix and cost accuracy, so it is brought to size 1 before, by a power of 2 that floor makes a constant."""
    n, xt = x.shape[-1], _t(x)
    if not math.prod(x.shape):
        return g
    size = exp2(floor(log2(replace_zero(max(abs(g), axis=(-1, -2), keepdims=True), by=1.0))))
    block = concat([concat([xt, g / size], axis=-1), concat([x * 0.0, xt], axis=-1)], axis=-2)
    return expm(block)[..., :n, n:] * size


expm = op(
    "expm", _expm, _same_square, _expm_rule, flops=_cubic(30), domain=Domain(-1.0, 1.0),
    doc="The matrix exponential Σ xᵏ / k! of square matrices (..., n, n) (Higham 2005, scaling and squaring).",
)  # fmt: skip
