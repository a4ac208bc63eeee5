"""The Poisson distribution (scipy.stats.poisson). Derivatives are with respect to the mean; counts are constants."""

from typing import Any

from scipy.stats import poisson as _poisson

from ... import ops
from ...numpy._face import raw
from ._common import density, of, within

__all__ = ["cdf", "logpmf", "pmf"]


def _logpmf(k: Any, mu: Any, loc: Any = 0.0) -> Any:
    n = raw(k) - raw(loc)
    inside = ops.logical_and(ops.equal(n, ops.floor(n)), ops.greater_equal(n, 0.0))
    return within(inside, lambda n: ops.xlogy(n, mu) - mu - ops.gammaln(n + 1.0), n, 0.0, -float("inf"))


def _cdf(k: Any, mu: Any, loc: Any = 0.0) -> Any:
    n = ops.floor(raw(k) - raw(loc))
    return within(ops.greater_equal(n, 0.0), lambda n: ops.gammaincc(n + 1.0, mu), n, 0.0, 0.0)


pmf, logpmf, cdf = of(_poisson, "pmf", density(_logpmf)), of(_poisson, "logpmf", _logpmf), of(_poisson, "cdf", _cdf)
