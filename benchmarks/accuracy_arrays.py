"""The rows for ``accuracy`` that act on whole arrays: reductions, softmax, linear algebra, Fourier, convolution, losses.

    arrays("norm", lambda x: mp.sqrt(total(x * x)), at=VECTORS, torch=..., jax=...)

The reference works on NumPy arrays of mpmath's numbers; its gradient is a central difference at many digits along every
element (``accuracy_reference.differences``). Inputs are small, for that reason, and hard for another: entries whose squares
overflow or underflow, a large mean beside a small variance, logits of all sizes, ill-conditioned matrices.

Linear algebra, transforms, convolutions and normalisation are measured ``normwise``: in ulps of the largest element of the
result, which is what their algorithms promise; the others element by element.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import mpmath
import numpy as np
from mpmath import mp

Instances = Callable[[np.dtype, np.random.Generator], list[tuple[np.ndarray, ...]]]
ARRAYS: dict[str, "Arrays"] = {}


@dataclass
class Arrays:
    """One row (``name``, or ``row:variant``): its reference, its inputs, how each library is asked for it.

    ``ours`` is ``f(ops, *arrays)``; None: the row itself. ``untracked`` inputs are not differentiated.
    """

    name: str
    value: Callable
    at: Instances
    params: dict[str, Any] = field(default_factory=dict)
    torch: Any = None
    jax: Any = None
    ours: Callable | None = None
    normwise: bool = False
    untracked: tuple[int, ...] = ()
    digits: int = 200


def arrays(name: str, value: Callable, at: Instances, **more: Any) -> None:
    ARRAYS[name] = Arrays(name, value, at, **more)


def each(f: Callable) -> Callable:
    """An mpmath function on every element."""
    return lambda x: np.vectorize(f, otypes=[object])(x)


def total(x: np.ndarray, axis: int | None = None) -> Any:
    return np.sum(x, axis=axis)


exp, log, root = each(mp.exp), each(mp.log), each(mp.sqrt)

# ---- inputs ----


def numbers(*shapes: tuple[int, ...], count: int = 6, scale: float = 1.0, positive: bool = False) -> Instances:
    """Standard normal numbers (or uniform ones in [0.5, 1.5]), ``count`` times."""

    def of(dtype: np.dtype, rng: np.random.Generator) -> list[tuple[np.ndarray, ...]]:
        draw = (lambda s: rng.random(s) + 0.5) if positive else rng.standard_normal
        return [tuple((draw(s) * scale).astype(dtype) for s in shapes) for _ in range(count)]

    return of


def vectors(dtype: np.dtype, rng: np.random.Generator) -> list[tuple[np.ndarray, ...]]:
    """Norms' and moments' hard cases: huge, tiny, subnormal and mixed entries, a large mean."""
    info = np.finfo(dtype)
    huge, tiny = float(info.max) ** 0.7, float(info.tiny) ** 0.7
    base = rng.standard_normal((4, 12))
    found = [
        base[0],
        base[1] * huge,
        base[2] * tiny,
        np.where(np.arange(12) % 3, base[3], base[3] * 1e-9),
        1e4 + base[0] * 1e-2,
    ]
    found += [
        base[1] * float(info.tiny) * 0.3,
        base[2] * (float(info.max) / 50),
        rng.standard_normal(40),
        np.array([3.0]),
        np.array([1.0, 0.0, 0.0]),
    ]
    return [(x.astype(dtype),) for x in found]


def moments(dtype: np.dtype, rng: np.random.Generator) -> list[tuple[np.ndarray, ...]]:
    """As ``vectors``, without what overflows in a square, and with means far larger than the spread."""
    info, base = np.finfo(dtype), rng.standard_normal((6, 12))
    offsets = (0.0, 1.0, 30.0, 1e3, -2e4)
    found = [b + m for b, m in zip(base, offsets, strict=False)] + [
        base[5] * float(info.max) ** 0.4,
        base[5] * float(info.tiny) ** 0.4,
        rng.standard_normal(40),
    ]
    return [(x.astype(dtype),) for x in found]


def logits(dtype: np.dtype, rng: np.random.Generator) -> list[tuple[np.ndarray, ...]]:
    """Near each other, far apart, huge, and with a maximum that stands alone."""
    base = rng.standard_normal((5, 9))
    found = [
        base[0],
        base[1] * 20,
        base[2] * 1e4,
        base[3] + 1e5,
        np.where(np.arange(9) == 4, 60.0, base[4]),
        np.array([-800.0, -801.5, -803.0]),
        np.array([1.0, 1.0]),
        np.array([0.0, -40.0]),
    ]
    return [(x.astype(dtype),) for x in found]


def plain(dtype: np.dtype, rng: np.random.Generator) -> list[tuple[np.ndarray, ...]]:
    """Sums without cancellation: many positive numbers of one size, of many sizes, and huge ones."""
    found = [
        rng.random(200) + 0.1,
        np.exp(6 * rng.standard_normal(100)),
        np.full(300, 0.1),
        rng.random(12) * float(np.finfo(dtype).max) / 30,
        rng.random(20) * float(np.finfo(dtype).tiny),
    ]
    return [(x.astype(dtype),) for x in found]


def matrices(
    n: int,
    *more: tuple[int, ...],
    kinds: str = "random graded",
    symmetric: bool = False,
    definite: bool = False,
    count: int = 3,
) -> Instances:
    """Square matrices: random ones, and graded ones whose condition number is about a thousand."""

    def of(dtype: np.dtype, rng: np.random.Generator) -> list[tuple[np.ndarray, ...]]:
        found = []
        for kind in kinds.split() * count:
            a = rng.standard_normal((n, n))
            if kind == "graded":
                q, r = np.linalg.qr(a), np.linalg.qr(rng.standard_normal((n, n)))
                a = q[0] @ np.diag(np.geomspace(1, 1e-3, n)) @ r[0].T
            if definite:
                a = a @ a.T + 1e-2 * np.eye(n)
            if symmetric:
                a = (a + a.T) / 2
            found.append((a.astype(dtype), *(rng.standard_normal(s).astype(dtype) for s in more)))
        return found

    return of


# ---- reductions ----

along = lambda f: lambda x: np.array([f(x)], dtype=object)
arrays("sum", along(total), plain, torch=lambda t, x: x.sum(), jax=lambda j, x: x.sum())
arrays("mean", along(lambda x: total(x) / len(x)), plain, torch=lambda t, x: x.mean(), jax=lambda j, x: x.mean())
arrays("prod", along(np.prod), numbers((7,)), torch=lambda t, x: x.prod(), jax=lambda j, x: x.prod())
arrays("max", along(np.max), vectors, torch=lambda t, x: x.max(), jax=lambda j, x: x.max())
arrays("min", along(np.min), numbers((9,)), torch=lambda t, x: x.min(), jax=lambda j, x: x.min())


def variance(x: np.ndarray) -> Any:
    d = x - total(x) / len(x)
    return total(d * d) / len(x)


arrays("var", along(variance), moments, torch=lambda t, x: x.var(correction=0), jax=lambda j, x: x.var(), normwise=True)
arrays(
    "std",
    along(lambda x: mp.sqrt(variance(x))),
    moments,
    torch=lambda t, x: x.std(correction=0),
    jax=lambda j, x: x.std(),
    normwise=True,
)
arrays(
    "norm",
    along(lambda x: mp.sqrt(total(x * x))),
    vectors,
    torch=lambda t, x: t.linalg.vector_norm(x),
    jax=lambda j, x: j.numpy.linalg.norm(x),
)
arrays(
    "logsumexp",
    along(lambda x: mp.log(total(exp(x)))),
    logits,
    torch=lambda t, x: t.logsumexp(x, 0),
    jax=lambda j, x: j.nn.logsumexp(x),
)
arrays(
    "softmax",
    lambda x: exp(x) / total(exp(x)),
    logits,
    torch=lambda t, x: x.softmax(0),
    jax=lambda j, x: j.nn.softmax(x),
    normwise=True,
)
arrays(
    "log_softmax",
    lambda x: x - mp.log(total(exp(x))),
    logits,
    torch=lambda t, x: x.log_softmax(0),
    jax=lambda j, x: j.nn.log_softmax(x),
    normwise=True,
)
arrays(
    "cumsum",
    np.cumsum,
    numbers((30,), positive=True),
    torch=lambda t, x: x.cumsum(0),
    jax=lambda j, x: x.cumsum(),
    params={"axis": 0},
)
arrays(
    "cumprod",
    np.cumprod,
    numbers((9,), positive=True),
    torch=lambda t, x: x.cumprod(0),
    jax=lambda j, x: x.cumprod(),
    params={"axis": 0},
)
arrays(
    "sum_to",
    lambda x: total(x, 0),
    numbers((20, 3), positive=True),
    params={"shape": (3,)},
    torch=lambda t, x: x.sum_to_size(3),
    jax=lambda j, x: x.sum(0),
)


def scanned(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    out = [b[0]]
    for k in range(1, len(b)):
        out.append(a[k] * out[-1] + b[k])
    return np.array(out, dtype=object)


def _jax_scan(j: Any, a: Any, b: Any) -> Any:
    return j.lax.scan(lambda y, ab: (ab[0] * y + ab[1],) * 2, b[0] * 0, (a, b))[1]


arrays("linear_scan", scanned, numbers((8,), (8,), positive=True), jax=_jax_scan)

# ---- products ----

arrays(
    "matmul", np.dot, numbers((5, 20), (20, 4)), torch=lambda t, x, y: x @ y, jax=lambda j, x, y: x @ y, normwise=True
)
arrays(
    "linear",
    lambda x, w, b: np.dot(x, w.T) + b,
    numbers((4, 9), (5, 9), (5,)),
    torch=lambda t, *xs: t.nn.functional.linear(*xs),
    jax=lambda j, x, w, b: x @ w.T + b,
    normwise=True,
)
arrays(
    "outer",
    lambda x, y: np.outer(x, y),
    numbers((4,), (5,)),
    torch=lambda t, x, y: t.outer(x, y),
    jax=lambda j, x, y: j.numpy.outer(x, y),
    normwise=True,
)
arrays(
    "tensordot",
    lambda x, y: np.tensordot(x, y, 2),
    numbers((2, 3, 4), (3, 4, 2)),
    params={"axes": 2},
    torch=lambda t, x, y: t.tensordot(x, y, 2),
    jax=lambda j, x, y: j.numpy.tensordot(x, y, 2),
    normwise=True,
)
arrays(
    "einsum",
    lambda x, y, z: np.dot(np.dot(x, y), z),
    numbers((3, 4), (4, 3), (3, 2)),
    ours=lambda o, *xs: o.einsum("ij,jk,kl->il", *xs),
    torch=lambda t, *xs: t.einsum("ij,jk,kl->il", *xs),
    jax=lambda j, *xs: j.numpy.einsum("ij,jk,kl->il", *xs),
    normwise=True,
)

# ---- linear algebra ----


def _m(x: np.ndarray) -> Any:
    return mpmath.matrix(x.tolist())


def _a(x: Any) -> np.ndarray:
    return np.array(x.tolist(), dtype=object)


def adjugate(x: np.ndarray) -> np.ndarray:
    n = len(x)
    minor = lambda i, j: determinant(np.delete(np.delete(x, i, 0), j, 1))
    return np.array([[(-1) ** (i + j) * minor(j, i) for j in range(n)] for i in range(n)], dtype=object)


def determinant(x: np.ndarray) -> Any:
    """By Laplace's expansion: no pivots, so right for singular matrices too."""
    if len(x) == 1:
        return x[0, 0]
    return total(
        np.array([(-1) ** j * x[0, j] * determinant(np.delete(x[1:], j, 1)) for j in range(len(x))], dtype=object)
    )


def inverse(x: np.ndarray) -> np.ndarray:
    """By cofactors: exact up to rounding, whatever the pivots."""
    return adjugate(x) / determinant(x)


def cholesky(x: np.ndarray) -> np.ndarray:
    return _a(mp.cholesky(_m((x + x.T) / 2)))


def exponential(x: np.ndarray) -> np.ndarray:
    """The power series, of a small matrix whose norm is below 4: 120 terms leave 10⁻¹²⁶."""
    term = out = np.array([[mp.mpf(int(i == j)) for j in range(len(x))] for i in range(len(x))], dtype=object)
    for k in range(1, 120):
        term = np.dot(term, x) / k
        out = out + term
    return out


def orthogonal(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Q R with a negative diagonal of R, as Householder's reflections leave it for all columns but the last."""
    q, r = np.zeros_like(x), np.zeros((x.shape[1],) * 2, dtype=object) + mp.mpf(0)
    for j in range(x.shape[1]):
        v = x[:, j].copy()
        for i in range(j):
            r[i, j] = total(q[:, i] * x[:, j])
            v = v - r[i, j] * q[:, i]
        r[j, j] = mp.sqrt(total(v * v))
        q[:, j] = v / r[j, j]
    return q, r


arrays(
    "det",
    along(determinant),
    matrices(4),
    torch=lambda t, x: t.linalg.det(x),
    jax=lambda j, x: j.numpy.linalg.det(x),
    normwise=True,
)
arrays(
    "slogdet",
    along(lambda x: mp.log(abs(determinant(x)))),
    matrices(4),
    ours=lambda o, x: o.slogdet(x)[1],
    torch=lambda t, x: t.linalg.slogdet(x)[1],
    jax=lambda j, x: j.numpy.linalg.slogdet(x)[1],
    normwise=True,
)
arrays(
    "inv",
    inverse,
    matrices(4, kinds="random graded"),
    torch=lambda t, x: t.linalg.inv(x),
    jax=lambda j, x: j.numpy.linalg.inv(x),
    normwise=True,
)
arrays("adjugate", adjugate, matrices(3), normwise=True)
arrays(
    "solve",
    lambda a, b: np.dot(inverse(a), b),
    matrices(4, (4, 2)),
    torch=lambda t, a, b: t.linalg.solve(a, b),
    jax=lambda j, a, b: j.numpy.linalg.solve(a, b),
    normwise=True,
)
arrays(
    "solve_triangular", lambda a, b: np.dot(inverse(np.triu(a)), b), matrices(4, (4, 2), kinds="random"), params={"lower": False, "unit_diagonal": False},
    torch=lambda t, a, b: t.linalg.solve_triangular(a, b, upper=True), jax=lambda j, a, b: j.scipy.linalg.solve_triangular(a, b), normwise=True,
)  # fmt: skip
arrays(
    "pinv",
    lambda x: np.dot(inverse(np.dot(x.T, x)), x.T),
    numbers((5, 3)),
    torch=lambda t, x: t.linalg.pinv(x),
    jax=lambda j, x: j.numpy.linalg.pinv(x),
    normwise=True,
)
arrays(
    "cholesky",
    cholesky,
    matrices(4, definite=True),
    torch=lambda t, x: t.linalg.cholesky((x + x.T) / 2),
    jax=lambda j, x: j.numpy.linalg.cholesky(x),
    normwise=True,
)
arrays(
    "qr", lambda x: np.abs(orthogonal(x)[1]).ravel(), numbers((5, 3)), ours=lambda o, x: o.reshape(o.abs(o.qr(x)[1]), shape=(-1,)),
    torch=lambda t, x: t.linalg.qr(x)[1].abs().reshape(-1), jax=lambda j, x: j.numpy.abs(j.numpy.linalg.qr(x)[1]).reshape(-1), normwise=True,
)  # fmt: skip
arrays(
    "expm",
    exponential,
    numbers((3, 3)),
    torch=lambda t, x: t.linalg.matrix_exp(x),
    jax=lambda j, x: j.scipy.linalg.expm(x),
    normwise=True,
)
arrays(
    "svd", lambda x: np.array(sorted(map(mp.sqrt, mp.eigsy(_m(np.dot(x.T, x)), eigvals_only=True)), reverse=True), dtype=object), numbers((4, 3)), ours=lambda o, x: o.svd(x)[1],
    torch=lambda t, x: t.linalg.svdvals(x), jax=lambda j, x: j.numpy.linalg.svd(x, full_matrices=False)[1], normwise=True,
)  # fmt: skip
arrays(
    "eigh", lambda x: np.array(sorted(mp.eigsy(_m((x + x.T) / 2), eigvals_only=True)), dtype=object), matrices(4, symmetric=True, kinds="random"), ours=lambda o, x: o.eigh(x)[0],
    torch=lambda t, x: t.linalg.eigvalsh((x + x.T) / 2), jax=lambda j, x: j.numpy.linalg.eigh(x)[0], normwise=True,
)  # fmt: skip


def _eigenvalues(x: np.ndarray) -> tuple:
    """The power sums Σ λᵏ that the eigenvalues are compared by, so that their order does not matter; k = 1, 2, 3."""
    square = np.dot(x, x)
    return np.trace(x), np.trace(square), np.trace(np.dot(square, x))


arrays(
    "eig", _eigenvalues, matrices(4, kinds="random"), ours=lambda o, x: [o.real(o.sum(o.eig(x)[0] ** k)) for k in (1, 2, 3)],
    torch=lambda t, x: [(t.linalg.eigvals(x) ** k).sum().real for k in (1, 2, 3)], jax=lambda j, x: [(j.numpy.linalg.eigvals(x) ** k).sum().real for k in (1, 2, 3)], normwise=True,
)  # fmt: skip

# ---- Fourier: real and imaginary parts count as two outputs ----


def transform(sign: int, half: bool = False) -> Callable:
    def of(*parts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x = parts[0] + mp.j * parts[1] if len(parts) > 1 else parts[0]
        n = len(x)
        w = [mp.expjpi(mp.mpf(2 * sign * k) / n) for k in range(n)]
        y = [
            total(np.array([w[j * k % n] * x[j] for j in range(n)], dtype=object)) / (n if sign > 0 else 1)
            for k in range(n // 2 + 1 if half else n)
        ]
        return np.array([v.real for v in y], dtype=object), np.array([mp.im(v) for v in y], dtype=object)

    return of


def half_back(re: np.ndarray, im: np.ndarray) -> np.ndarray:
    """The inverse of a half spectrum of 12 points; the imaginary parts at its ends do not count."""
    n, out = 12, []
    for k in range(n):
        inside = [
            2 * (re[m] * mp.cospi(mp.mpf(2 * m * k) / n) - im[m] * mp.sinpi(mp.mpf(2 * m * k) / n)) for m in range(1, 6)
        ]
        out.append((re[0] + (-1) ** k * re[6] + mp.fsum(inside)) / n)
    return np.array(out, dtype=object)


SIGNALS = numbers((11,), (11,), count=4)
parts = lambda f, re, im: [f.real, f.imag]
for _name, _sign in (("fft", -1), ("ifft", 1)):
    arrays(
        f"{_name}n", transform(_sign), SIGNALS, ours=lambda o, a, b, _n=_name: [f(getattr(o, _n)(a + b * 1j)) for f in (o.real, o.imag)],
        torch=lambda t, a, b, _n=_name: parts(getattr(t.fft, _n)(t.complex(a, b)), a, b), jax=lambda j, a, b, _n=_name: parts(getattr(j.numpy.fft, _n)(j.lax.complex(a, b)), a, b), normwise=True,
    )  # fmt: skip
arrays(
    "rfft",
    transform(-1, half=True),
    numbers((12,), count=4),
    ours=lambda o, x: [f(o.rfft(x)) for f in (o.real, o.imag)],
    torch=lambda t, x: parts(t.fft.rfft(x), x, x),
    jax=lambda j, x: parts(j.numpy.fft.rfft(x), x, x),
    normwise=True,
)
arrays(
    "irfft",
    half_back,
    numbers((7,), (7,), count=4),
    ours=lambda o, a, b: o.irfft(a + b * 1j, n=12),
    torch=lambda t, a, b: t.fft.irfft(t.complex(a, b), n=12),
    jax=lambda j, a, b: j.numpy.fft.irfft(j.lax.complex(a, b), n=12),
    normwise=True,
)
