"""The beta distribution (scipy.stats.beta)."""

from typing import Any

from scipy.stats import beta as _beta

from ... import ops
from ._common import betaln, density, log, of, within

__all__ = ["cdf", "logpdf", "pdf"]


def _logpdf(x: Any, a: Any, b: Any, loc: Any = 0.0, scale: Any = 1.0) -> Any:
    z = (x - loc) / scale
    inside = ops.logical_and(ops.greater_equal(z, 0.0), ops.less_equal(z, 1.0))
    shape = lambda z: ops.xlog1py(b - 1.0, -z) + ops.xlogy(a - 1.0, z) - betaln(a, b) - log(scale)
    return within(inside, shape, z, 0.5, -float("inf"))


def _cdf(x: Any, a: Any, b: Any, loc: Any = 0.0, scale: Any = 1.0) -> Any:
    return ops.betainc(a, b, ops.clip((x - loc) / scale, low=0.0, high=1.0))


pdf, logpdf, cdf = of(_beta, "pdf", density(_logpdf)), of(_beta, "logpdf", _logpdf), of(_beta, "cdf", _cdf)
