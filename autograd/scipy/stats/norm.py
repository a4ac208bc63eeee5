"""The normal distribution (scipy.stats.norm)."""

from typing import Any

from scipy.stats import norm as _norm

from ... import ops
from ._common import LOG_2_PI, density, log, of

__all__ = ["cdf", "logcdf", "logpdf", "logsf", "pdf", "sf"]


def _logpdf(x: Any, loc: Any = 0.0, scale: Any = 1.0) -> Any:
    z = (x - loc) / scale
    return -0.5 * (z * z + LOG_2_PI) - log(scale)


pdf, logpdf = of(_norm, "pdf", density(_logpdf)), of(_norm, "logpdf", _logpdf)
cdf = of(_norm, "cdf", lambda x, loc=0.0, scale=1.0: ops.ndtr((x - loc) / scale))
logcdf = of(_norm, "logcdf", lambda x, loc=0.0, scale=1.0: ops.log_ndtr((x - loc) / scale))
sf = of(_norm, "sf", lambda x, loc=0.0, scale=1.0: ops.ndtr((loc - x) / scale))
logsf = of(_norm, "logsf", lambda x, loc=0.0, scale=1.0: ops.log_ndtr((loc - x) / scale))
