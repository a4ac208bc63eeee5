"""Strategies of the rows of linear algebra, Fourier transforms and special functions, and what these rows are exempt from.

Matrices are drawn well inside the set where a row is differentiable: far from singular, definite, or with values apart.
"""

import numpy as np

from ..ops import bessel, conj, more, special
from ..table import OPS, Row
from .calls import UNIQUE, _elementwise, exempt, strategy
from .strategies import Draw, Shape, arrays, axis, broadcasting, generator, shapes, st

# ---- matrices ----


def _batch(draw: Draw) -> Shape:
    return draw(shapes(max_ndim=1, max_side=3))


def _order(draw: Draw) -> int:
    return draw(st.sampled_from([2, 3, 1, 3, 0]))


def _noise(draw: Draw, shape: Shape, size: float = 0.4) -> np.ndarray:
    return size * generator(draw).uniform(-1.0, 1.0, shape)


def _diagonal(draw: Draw, batch: Shape, n: int) -> np.ndarray:
    """Diagonal matrices with numbers from 1.5 on, all at least 1.2 apart, in random order."""
    rng = generator(draw)
    values = 1.5 + 1.6 * np.arange(n) + rng.uniform(0.0, 0.4, (*batch, n))
    return rng.permuted(values, axis=-1)[..., None] * np.eye(n)


def _regular(draw: Draw, batch: Shape, n: int) -> np.ndarray:
    """Matrices that are well conditioned and not symmetric, some of them with a negative determinant."""
    found = _diagonal(draw, batch, n) + _noise(draw, (*batch, n, n))
    return found * generator(draw).choice([-1.0, 1.0], (*batch, n, 1))


@strategy("inv", "det", "slogdet", "adjugate")
def _invertible(draw: Draw, row: Row) -> tuple[tuple, dict]:
    n = _order(draw)
    if (
        row.name == "adjugate"
    ):  # of a number it is 1, of a 2×2 matrix linear: its second derivatives drown in rounding noise
        n = max(n, 3)
    return (_regular(draw, _batch(draw), n),), {}


@strategy("eig")
def _diagonalisable(draw: Draw, row: Row) -> tuple[tuple, dict]:
    batch, n = _batch(draw), _order(draw)  # by Gershgorin's theorem the eigenvalues are real and apart
    return (_diagonal(draw, batch, n) + _noise(draw, (*batch, n, n), 0.25),), {}


@strategy("cholesky", "eigh")
def _definite(draw: Draw, row: Row) -> tuple[tuple, dict]:
    batch, n = _batch(draw), _order(draw)
    return (_diagonal(draw, batch, n) + _noise(draw, (*batch, n, n), 0.25),), {}


@strategy("expm")
def _small(draw: Draw, row: Row) -> tuple[tuple, dict]:
    n = draw(st.sampled_from([2, 1, 0]))
    return tuple(draw(arrays([(*_batch(draw), n, n)], row.domain[0]))), {}


@strategy("svd", "qr", "pinv")
def _rectangular(draw: Draw, row: Row) -> tuple[tuple, dict]:
    batch, m, n = _batch(draw), _order(draw), _order(draw)
    k = max(m, n)
    x = (_diagonal(draw, batch, k) + _noise(draw, (*batch, k, k), 0.3))[..., :m, :n]
    if row.name == "pinv":
        return (x,), {"rtol": draw(st.sampled_from([None, 1e-3]))}
    if min(m, n) and row.name == "svd":  # put the large numbers where they are not cut off
        kept = _diagonal(draw, batch, min(m, n))
        x = _noise(draw, (*batch, m, n), 0.2)
        x[..., : min(m, n), : min(m, n)] += kept
    if min(m, n) and row.name == "qr":
        x[..., : min(m, n), : min(m, n)] += 2.0 * np.eye(min(m, n))
    return (x,), {}


def _right_sides(draw: Draw, n: int) -> tuple[Shape, Shape]:
    """The batch axes of matrices, and the shape of right sides."""
    left, right = (s[-1:] for s in draw(broadcasting(2)))
    return (left, (n,)) if draw(st.integers(0, 2)) == 0 else (left, (*right, n, draw(st.integers(0, 3))))


@strategy("solve")
def _system(draw: Draw, row: Row) -> tuple[tuple, dict]:
    n = _order(draw)
    batch, b = _right_sides(draw, n)
    return (_regular(draw, batch, n), *draw(arrays([b]))), {}


@strategy("solve_triangular")
def _triangular(draw: Draw, row: Row) -> tuple[tuple, dict]:
    n = _order(draw)
    batch, b = _right_sides(draw, n)
    params = {"lower": draw(st.booleans()), "unit_diagonal": draw(st.booleans())}
    return (_regular(draw, batch, n), *draw(arrays([b]))), params


# ---- Fourier transforms ----

_NORMS = st.sampled_from(["backward", "ortho", "forward", None])


@strategy("fftn", "ifftn")
def _transform(draw: Draw, row: Row) -> tuple[tuple, dict]:
    shape = draw(shapes(min_ndim=1, min_side=1))
    chosen = draw(st.lists(st.integers(0, len(shape) - 1), max_size=len(shape), unique=True))
    axes = tuple(a - len(shape) if draw(st.booleans()) else a for a in chosen)
    return tuple(draw(arrays([shape]))), {"axes": axes, "norm": draw(_NORMS)}


@strategy("rfft", "irfft")
def _real_transform(draw: Draw, row: Row) -> tuple[tuple, dict]:
    shape = draw(shapes(min_ndim=1, max_ndim=2, max_side=3))
    a, n = draw(axis(len(shape))), draw(st.integers(1, 6))
    k = a % len(shape)
    shape = (*shape[:k], n if row.name == "rfft" else n // 2 + 1, *shape[k + 1 :])
    return tuple(draw(arrays([shape]))), {"axis": a, "norm": draw(_NORMS), **({} if row.name == "rfft" else {"n": n})}


# ---- special functions and the rest ----

SPECIAL = [name for name in (*special.__all__, *bessel.__all__) if name in OPS]
strategy(*SPECIAL, *(name for name in more.__all__ if name in OPS))(_elementwise)

exempt(
    "float16",
    "irfft",
    reason="its input counts as complex, and no complex dtype is as small as float16: the output is float32",
)
exempt("kernel on device", "expm", reason="the host reads how often the matrix is to be squared")
exempt(
    "kernel on device", *sorted({*SPECIAL} - {"entr", "erfc", "kl_div", "logit", "rel_entr", "xlog1py", "xlogy"}),
    reason="the array API has no special functions",
)  # fmt: skip


# ---- complex vectors are unique up to a phase: what is unique are products in which phases cancel ----


UNIQUE["svd"] = lambda u, s, vh: (s, u[..., :, :, None] * vh[..., None, :, :])
UNIQUE["eig"] = UNIQUE["eigh"] = lambda w, v: (w, v[..., :, None, :] * conj(v)[..., None, :, :])
