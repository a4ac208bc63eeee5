"""SciPy with derivatives, under its own names: ``integrate``, ``linalg``, ``misc``, ``signal``, ``special`` and ``stats``.

As in ``autograd.numpy`` each function is SciPy's own for plain arrays. The parts are imported when first used.
"""

import importlib
from typing import Any

_PARTS = ("integrate", "linalg", "misc", "signal", "special", "stats")
__all__ = list(_PARTS)


def __getattr__(name: str) -> Any:
    if name in _PARTS:
        return importlib.import_module("." + name, __name__)
    raise AttributeError(f"autograd.scipy has no {name!r}; it has {', '.join(_PARTS)}")
