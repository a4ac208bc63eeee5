"""The Dirichlet distribution (scipy.stats.dirichlet)."""

from typing import Any

from scipy.stats import dirichlet as _dirichlet

from ... import ops
from ._common import density, of

__all__ = ["logpdf", "pdf", "rvs"]

rvs = _dirichlet.rvs


def _logpdf(x: Any, alpha: Any) -> Any:
    """x: (k,) or (k, n), or with k - 1 rows: the last share is then what is left to 1. alpha: (k,)."""
    if x.shape[0] + 1 == alpha.shape[0]:
        x = ops.concat([x, 1.0 - ops.sum(x, axis=0, keepdims=True)], axis=0)
    front = ops.gammaln(ops.sum(alpha)) - ops.sum(ops.gammaln(alpha))
    powers = ops.reshape(alpha - 1.0, shape=(-1,) + (1,) * (len(x.shape) - 1))
    return front + ops.sum(ops.xlogy(powers, x), axis=0)


pdf, logpdf = of(_dirichlet, "pdf", density(_logpdf)), of(_dirichlet, "logpdf", _logpdf)
