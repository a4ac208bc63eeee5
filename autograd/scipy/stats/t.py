"""Student's t distribution (scipy.stats.t). The distribution function has no derivative with respect to ``df``."""

import math
from collections.abc import Callable
from typing import Any

import scipy.special as _special
from scipy.stats import t as _student

from ... import ops
from ...extend import defvjp, primitive
from ._common import density, gammaln, log, of

__all__ = ["cdf", "logcdf", "logpdf", "pdf"]


def _logpdf(x: Any, df: Any, loc: Any = 0.0, scale: Any = 1.0) -> Any:
    z, half = (x - loc) / scale, 0.5 * (df + 1.0)
    front = gammaln(half) - gammaln(0.5 * df) - 0.5 * (log(df) + math.log(math.pi))
    return front - log(scale) - half * ops.log1p(z * z / df)


@primitive
def _stdtr(df: Any, z: Any) -> Any:
    """The distribution function. Through the incomplete beta function its derivative at 0 would be 0 · ∞."""
    return _special.stdtr(df, z)


def _slope(_ans: Any, df: Any, z: Any) -> Callable:
    return lambda g: g * ops.exp(_logpdf(z, df))


defvjp(_stdtr, _slope, argnums=(1,))

pdf, logpdf = of(_student, "pdf", density(_logpdf)), of(_student, "logpdf", _logpdf)
cdf = of(_student, "cdf", lambda x, df, loc=0.0, scale=1.0: _stdtr(df, (x - loc) / scale))
logcdf = of(_student, "logcdf", lambda x, df, loc=0.0, scale=1.0: ops.log(_stdtr(df, (x - loc) / scale)))
