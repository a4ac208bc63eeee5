"""The chi-squared distribution (scipy.stats.chi2): a gamma distribution of shape df/2 and scale 2."""

from typing import Any

from scipy.stats import chi2 as _chi2

from ._common import density, of
from .gamma import _cdf as _gamma_cdf
from .gamma import _logpdf as _gamma_logpdf

__all__ = ["cdf", "logpdf", "pdf"]


def _logpdf(x: Any, df: Any, loc: Any = 0.0, scale: Any = 1.0) -> Any:
    return _gamma_logpdf(x, df * 0.5, loc, 2.0 * scale)


def _cdf(x: Any, df: Any, loc: Any = 0.0, scale: Any = 1.0) -> Any:
    return _gamma_cdf(x, df * 0.5, loc, 2.0 * scale)


pdf, logpdf, cdf = of(_chi2, "pdf", density(_logpdf)), of(_chi2, "logpdf", _logpdf), of(_chi2, "cdf", _cdf)
