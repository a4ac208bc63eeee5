"""The gamma distribution (scipy.stats.gamma)."""

from typing import Any

from scipy.stats import gamma as _gamma

from ... import ops
from ._common import density, gammaln, log, of, within

__all__ = ["cdf", "logpdf", "pdf"]


def _logpdf(x: Any, a: Any, loc: Any = 0.0, scale: Any = 1.0) -> Any:
    z = (x - loc) / scale
    shape = lambda z: ops.xlogy(a - 1.0, z) - z - gammaln(a) - log(scale)
    return within(ops.greater_equal(z, 0.0), shape, z, 1.0, -float("inf"))


def _cdf(x: Any, a: Any, loc: Any = 0.0, scale: Any = 1.0) -> Any:
    z = (x - loc) / scale
    return within(ops.greater(z, 0.0), lambda z: ops.gammainc(a, z), z, 1.0, 0.0)


pdf, logpdf, cdf = of(_gamma, "pdf", density(_logpdf)), of(_gamma, "logpdf", _logpdf), of(_gamma, "cdf", _cdf)
