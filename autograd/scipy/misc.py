"""``autograd.scipy.misc.logsumexp``: where programs written for old SciPy look for it."""

from .special import logsumexp

__all__ = ["logsumexp"]
