"""NumPy with derivatives: ``import autograd.numpy as np`` in place of ``import numpy as np``.

Every function is NumPy's own as long as no tensor comes in, and a row of the op table (or several) when one does; see
``autograd.numpy._face``. What has no derivative is NumPy's own object, from an explicit list (``constants``). The names are
those of NumPy and of HIPS autograd.
"""

import importlib
from typing import Any

import numpy as _np

from . import constants, creation, elementwise, fft, joining, layout, linalg, products, random, reductions  # noqa: F401
from ._face import RULES  # noqa: F401 - the protocols' table

_FAMILIES = (constants, creation, elementwise, joining, layout, products, reductions)
for _family in _FAMILIES:
    globals().update(_family.FACES)
__version__ = _np.__version__
__all__ = sorted({name for family in _FAMILIES for name in family.FACES} | {"fft", "linalg", "random"})


def __getattr__(name: str) -> Any:
    if name in ("numpy_boxes", "numpy_vjps"):
        return importlib.import_module("." + name, __name__)
    message = f"autograd.numpy has no {name!r}"
    if hasattr(_np, name):
        message += "; numpy has: call it as numpy." + name + " on plain arrays"
    raise AttributeError(message)
