"""The multivariate normal distribution (scipy.stats.multivariate_normal), by Cholesky's factor of the covariance."""

from typing import Any

import numpy as np
from scipy.stats import multivariate_normal as _normal

from ... import ops
from ...numpy._face import array_of, raw
from ._common import LOG_2_PI, density, of

__all__ = ["entropy", "logpdf", "pdf"]


def _matrix(cov: Any, n: int) -> Any:
    """A covariance as a matrix: a number stands for a multiple of the identity, a vector for a diagonal."""
    shape = np.shape(raw(cov))
    if len(shape) == 2:
        return cov
    return np.eye(n, dtype=getattr(cov, "dtype", None)) * (cov if not shape else ops.reshape(cov, shape=(1, -1)))


def _logpdf(x: Any, mean: Any = None, cov: Any = 1.0, allow_singular: bool = False) -> Any:
    """x: (..., k), or (n,) numbers if the distribution has one dimension."""
    k = max(np.shape(raw(cov))[-1] if np.ndim(raw(cov)) else 1, np.size(raw(mean)) if mean is not None else 1)
    if not np.ndim(raw(cov)) and mean is None and np.ndim(raw(x)):
        k = np.shape(raw(x))[-1]
    deviation = x if mean is None else x - mean
    shape = tuple(np.shape(raw(deviation)))
    if k == 1 and (not shape or shape[-1] != 1):
        deviation, shape = ops.reshape(deviation, shape=(*shape, 1)), (*shape, 1)
    rows = ops.reshape(deviation, shape=(-1, k))
    cov = _matrix(cov, k)
    if allow_singular:
        return ops.reshape(_singular(rows, cov), shape=shape[:-1])
    factor = ops.cholesky(cov)
    z = ops.solve_triangular(factor, ops.swapaxes(rows, 0, 1), lower=True)
    logdet = ops.sum(ops.log(ops.diagonal(factor)))
    return ops.reshape(-0.5 * (ops.sum(z * z, axis=0) + k * LOG_2_PI) - logdet, shape=shape[:-1])


def _singular(rows: Any, cov: Any) -> Any:
    """The density on the covariance's range; the covariance is a constant, as its rank must not change."""
    if getattr(cov, "node", None) is not None:
        raise NotImplementedError("multivariate_normal: with allow_singular the covariance has no derivative")
    values, vectors = np.linalg.eigh(raw(cov))
    there = values > values.max() * max(cov.shape) * np.finfo(values.dtype).eps * 1e3
    z = ops.matmul(rows, vectors[:, there] / np.sqrt(values[there]))
    front = float(np.sum(np.log(values[there]))) + int(there.sum()) * LOG_2_PI
    return -0.5 * (ops.sum(z * z, axis=1) + front)


def _entropy(mean: Any = None, cov: Any = 1.0) -> Any:
    n = np.size(raw(mean)) if mean is not None and np.ndim(raw(mean)) else 1
    cov = _matrix(array_of(cov), n)
    return 0.5 * (cov.shape[-1] * (LOG_2_PI + 1.0)) + ops.sum(ops.log(ops.diagonal(ops.cholesky(cov))))


pdf, logpdf = of(_normal, "pdf", density(_logpdf)), of(_normal, "logpdf", _logpdf)
entropy = of(_normal, "entropy", _entropy)
