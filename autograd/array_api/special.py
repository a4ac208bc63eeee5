"""SciPy's special functions on tensors, by SciPy's names: ``special.gammaln(t)``.

The standard has no such extension yet; SciPy looks for one in a namespace that it does not know, so that
``scipy.special.gammaln(t)`` (with SCIPY_ARRAY_API=1) keeps the gradient.
"""

from collections.abc import Callable

from ..numpy import RULES
from ..scipy import special as _faces

__all__ = list(_faces.__all__)


def __getattr__(name: str) -> Callable:
    if name not in __all__:
        raise AttributeError(f"autograd.array_api.special has no {name!r}; it has {', '.join(__all__)}")
    return RULES[getattr(_faces, name).fun]
