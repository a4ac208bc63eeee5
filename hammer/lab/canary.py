"""The canary: a dozen fixed computations whose bits stand for the arithmetic of a process.

BLAS kernels, vector instructions and versions of libraries decide the last bits of a result. Instead of listing all that
might matter, the canary computes: matrix products, sums, exponentials, a contraction, a factorisation, on fixed inputs in
both precisions. Two processes whose canaries are equal are promised equal trials (a test holds the laboratory to it); where
the canaries differ, ``compare`` says by how many units in the last place, and in which computation.

It runs on one BLAS thread, as every trial does.
"""

import hashlib
from collections.abc import Mapping
from functools import cache

import numpy as np


def results() -> dict[str, np.ndarray]:
    """The computations' results, computed now."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"), np.errstate(all="ignore"):
        return _results()


def _results() -> dict[str, np.ndarray]:
    import scipy.linalg
    import scipy.special

    # The inputs are sums and products of small integers, so that they are the same wherever the canary runs.
    n = np.arange(64 * 300, dtype=np.int64)
    wide = ((n * 7919 + 104729) % 65521).reshape(64, 300) / 65536.0 - 0.5
    tall = ((n * 6007 + 15485863) % 65521).reshape(300, 64) / 65536.0 - 0.5
    line = ((n[:1000] * 5003 + 32452843) % 65521) / 65536.0 * 12.0 - 6.0
    single = [a.astype(np.float32) for a in (wide, tall, line)]
    gram = wide @ wide.T / 300.0 + np.eye(64)
    return {
        "gemm float32": single[0] @ single[1],
        "gemm float64": wide @ tall,
        "small gemm float32": single[0][:10, :33] @ single[1][:33, :7],
        "gemv float32": single[1] @ single[0][:, 0],
        "dot float64": np.atleast_1d(np.dot(wide.ravel(), tall.ravel())),
        "sum float32": single[0].sum(axis=1),
        "mean and variance float32": np.stack([single[1].mean(axis=0), single[1].var(axis=0)]),
        "exp float32": np.exp(single[2]),
        "exp float64": np.exp(line),
        "log, tanh and sin float32": np.stack([np.log(np.abs(single[2])), np.tanh(single[2]), np.sin(single[2])]),
        "sqrt, power and division float64": np.stack([np.sqrt(np.abs(line)), np.abs(line) ** 0.37, 1.0 / line]),
        "erf float64": scipy.special.erf(line),
        "einsum float32": np.einsum("ik,jk,k->ij", single[0][:16], single[0][16:32], single[0][32]),
        "cholesky float64": scipy.linalg.cholesky(gram, lower=True),
    }


def digest_of(values: Mapping[str, np.ndarray]) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of results."""
    found = hashlib.sha256()
    for name, array in values.items():
        found.update(f"{name}{array.dtype}{array.shape}".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()[:16]


@cache
def digest() -> str:
    """The canary of this process."""
    return digest_of(results())


def ulps(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The distance between floating-point numbers of one dtype, in units in the last place.

    The number of floating-point numbers from one to the other: 0 for equal bits and for the two zeros; NaN is at distance 0
    from any NaN, and farther from every number than numbers are from each other.

    Returns:
        The distances as float64, exact up to 2^53.
    """
    whole = np.dtype(f"i{a.dtype.itemsize}")

    def place(x: np.ndarray) -> np.ndarray:
        bits = np.ascontiguousarray(x).view(whole).reshape(x.shape)
        lowest = np.iinfo(whole).min
        return np.where(bits < 0, lowest - bits, bits)  # the order of the numbers; -0 falls on +0

    x, y = place(a), place(b)
    high, low = np.maximum(x, y), np.minimum(x, y)
    # A difference of two int64 can need 64 bits: it is taken without a sign, where it cannot overflow.
    unsigned = np.dtype(f"u{a.dtype.itemsize}")
    distance = (high.astype(unsigned) - low.astype(unsigned)).astype(np.float64)
    nans = np.isnan(a).astype(int) + np.isnan(b)
    return np.where(nans == 2, 0.0, np.where(nans == 1, np.inf, distance))


def compare(mine: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> str:
    """What differs between two canaries' results, as a clause."""
    if sorted(mine) != sorted(other) or any(
        mine[k].shape != other[k].shape or mine[k].dtype != other[k].dtype for k in mine
    ):
        return "the canaries are of different versions of Hammer"
    far = {name: float(ulps(mine[name], other[name]).max()) for name in mine}
    differ = {name: d for name, d in far.items() if d > 0}
    if not differ:
        return "no result differs"
    worst = max(differ, key=lambda name: differ[name])
    return f"{len(differ)} of {len(far)} results differ, by up to {differ[worst]:,.0f} ulp ({worst})"
