"""scipy.linalg with derivatives: triangular, banded and Sylvester equations, the matrix root and exponential.

The Sylvester, banded and root solvers are SciPy's, with rules that call them again, so every order of derivative exists.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.linalg as _linalg

from .. import ops
from ..extend import defvjp, primitive
from ..numpy import linalg as _numpy_linalg
from ..numpy._face import array_of, face, raw

__all__ = [
    "LinAlgError", "block_diag", "cho_factor", "cho_solve", "cholesky", "det", "expm", "hankel", "inv", "lu_factor", "lu_solve",
    "pinv", "solve", "solve_banded", "solve_sylvester", "solve_triangular", "sqrtm", "toeplitz",
]  # fmt: skip

LinAlgError = _linalg.LinAlgError
hankel, toeplitz = _linalg.hankel, _linalg.toeplitz  # of plain arrays
cho_factor, cho_solve, lu_factor, lu_solve = _linalg.cho_factor, _linalg.cho_solve, _linalg.lu_factor, _linalg.lu_solve

# ---- over rows ----


def _triangular(
    a: Any, b: Any, trans: int | str = 0, lower: bool = False, unit_diagonal: bool = False,
    overwrite_b: bool = False, check_finite: bool = True,
) -> Any:  # fmt: skip
    return ops.solve_triangular(array_of(a), array_of(b), trans=trans, lower=lower, unit_diagonal=unit_diagonal)


def _cholesky(a: Any, lower: bool = False, overwrite_a: bool = False, check_finite: bool = True) -> Any:
    a = array_of(a)
    return ops.cholesky(a) if lower else ops.swapaxes(ops.cholesky(ops.conj(a)), -1, -2)


def _block_diag(*arrays: Any) -> Any:
    blocks = [array_of(a) for a in arrays]
    blocks = [ops.reshape(b, shape=(1,) * (2 - np.ndim(raw(b))) + tuple(np.shape(raw(b)))) for b in blocks]
    width, rows, done = sum(b.shape[1] for b in blocks), [], 0
    for b in blocks:
        rows.append(ops.pad(b, width=((0, 0), (done, width - done - b.shape[1]))))
        done += b.shape[1]
    return ops.concat(rows, axis=0)


def _like_numpy(name: str) -> Callable:
    """SciPy's function for plain arrays, NumPy's rule for tensors (SciPy's options for LAPACK have no meaning there)."""
    rule = getattr(_numpy_linalg, name)
    return face(getattr(_linalg, name), rule, name)


solve_triangular = face(_linalg.solve_triangular, _triangular, "solve_triangular")
cholesky = face(_linalg.cholesky, _cholesky, "cholesky")
block_diag = face(_linalg.block_diag, _block_diag, "block_diag")
expm = face(_linalg.expm, lambda A: ops.expm(array_of(A)), "expm")
det, inv, pinv, solve = (_like_numpy(name) for name in ("det", "inv", "pinv", "solve"))

# ---- equations that NumPy does not solve ----

solve_sylvester = primitive(_linalg.solve_sylvester)


def _t(x: Any) -> Any:
    return ops.swapaxes(x, -1, -2)


def _transposed_sylvester(a: Any, b: Any, g: Any) -> Any:
    """y with aᵀ y + y bᵀ = g: the gradient for the right side of a x + x b = q."""
    return solve_sylvester(_t(a), _t(b), g)


defvjp(
    solve_sylvester,
    lambda x, a, b, _q: lambda g: -ops.matmul(_transposed_sylvester(a, b, g), _t(x)),
    lambda x, a, b, _q: lambda g: -ops.matmul(_t(x), _transposed_sylvester(a, b, g)),
    lambda _x, a, b, _q: lambda g: _transposed_sylvester(a, b, g),
)

_root = primitive(lambda a: _linalg.sqrtm(a))
defvjp(_root, lambda x, _a: lambda g: _transposed_sylvester(x, x, g))


def sqrtm(A: Any) -> Any:
    """The principal square root of a matrix (n, n); see scipy.linalg.sqrtm. Its derivative needs a root without eigenvalues
    that add up to 0."""
    return _root(A)


_banded = primitive(lambda bands, ab, b: _linalg.solve_banded(bands, ab, b))


def solve_banded(l_and_u: tuple[int, int], ab: Any, b: Any) -> Any:
    """x with a x = b for a banded matrix, given by its diagonals ``ab[u + i - j, j] = a[i, j]``; see scipy.linalg.solve_banded.

    Args:
        l_and_u: how many diagonals below and above the main one are given.
        ab: (l + u + 1, n). Its corners outside the matrix are not read and have gradient 0.
        b: (n,) or (n, k).
    """
    lower, upper = (int(n) for n in l_and_u)
    return _banded((lower, upper), array_of(ab) if not isinstance(ab, list) else np.asarray(ab), b)


def _band_places(bands: tuple[int, int], n: int) -> tuple[np.ndarray, np.ndarray]:
    """For each element of ``ab`` the row of the matrix that it lies in, and whether that row exists."""
    lower, upper = bands
    rows = np.arange(n) + np.arange(lower + upper + 1)[:, None] - upper
    return np.clip(rows, 0, n - 1), (rows >= 0) & (rows < n)


def _band_transpose(bands: tuple[int, int], ab: Any) -> tuple[tuple[int, int], Any]:
    lower, upper = bands
    n = ab.shape[1]
    rows, there = _band_places((upper, lower), n)
    taken = ab[(lower + upper - np.arange(lower + upper + 1))[:, None], rows]
    return (upper, lower), ops.where(there, taken, 0.0)


def _banded_gradient(x: Any, bands: tuple[int, int], ab: Any, g: Any) -> Any:
    w = _banded(*_band_transpose(bands, ab), g)
    rows, there = _band_places(bands, ab.shape[1])
    products = w[rows] * x
    products = products if len(x.shape) == 1 else ops.sum(products, axis=-1)
    return ops.where(there, -products, 0.0)


defvjp(
    _banded,
    lambda x, bands, ab, _b: lambda g: _banded_gradient(x, bands, ab, g),
    lambda _x, bands, ab, _b: lambda g: _banded(*_band_transpose(bands, ab), g),
    argnums=(1, 2),
)
