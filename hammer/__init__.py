"""Hammer: the experimental overlay on ``autograd``, and the laboratory that judges it (``hammer.lab``)."""

import importlib
from typing import Any

import autograd

if getattr(autograd, "__distribution__", None) != "hammer-grad":
    raise ImportError(
        f"hammer needs its own package 'autograd', but found another one at {autograd.__file__} (HIPS autograd has the same "
        "import name). Mend the environment with: pip uninstall -y autograd && pip install --force-reinstall --no-deps hammer-grad"
    )

__version__ = autograd.__version__
_LAZY = {
    "UniversalGraph": ".graph", "VortexGrad": ".vortex", "compile": ".graph", "graph": ".graph", "vortex": ".vortex",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        module = importlib.import_module(_LAZY[name], __name__)
        return module if _LAZY[name] == f".{name}" else getattr(module, name)
    raise AttributeError(f"module 'hammer' has no attribute {name!r}")
