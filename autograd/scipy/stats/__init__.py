"""scipy.stats with derivatives: the distributions beta, chi2, dirichlet, gamma, multivariate_normal, norm, poisson and t.

Each is a module whose functions have SciPy's arguments. They are SciPy's own for plain arrays; for tensors they are
formulas over rows of the op table, in logarithms where a density may underflow.
"""

from . import beta, chi2, dirichlet, gamma, multivariate_normal, norm, poisson, t

__all__ = ["beta", "chi2", "dirichlet", "gamma", "multivariate_normal", "norm", "poisson", "t"]
