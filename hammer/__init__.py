"""Hammer: the experimental overlay on ``autograd``, and the laboratory that judges it (``hammer.lab``).

Importing this loads nothing else, not even ``autograd`` (so that `hammer --help` is quick): that the package of this name
is Hammer's own is read from its file.
"""

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any


def _ours() -> tuple[bool, str | None]:
    """Whether the package ``autograd`` is Hammer's own, and where it is."""
    if "autograd" in sys.modules:
        package = sys.modules["autograd"]
        return getattr(package, "__distribution__", None) == "hammer-grad", getattr(package, "__file__", None)
    found = importlib.util.find_spec("autograd")
    if found is None or found.origin is None:
        return False, None
    return '__distribution__ = "hammer-grad"' in Path(found.origin).read_text(encoding="utf-8"), found.origin


_found, _where = _ours()
if not _found:
    raise ImportError(
        f"hammer needs its own package 'autograd', but found another one at {_where} (HIPS autograd has the same "
        "import name). Mend the environment with: pip uninstall -y autograd && pip install --force-reinstall --no-deps hammer-grad"
    )

_LAZY = {
    "HammerContext": ".context", "UniversalGraph": ".graph", "VortexAdamW": ".vortex", "VortexGrad": ".vortex", "VortexSGD": ".vortex",
    "compile": ".graph", "energy": ".energy", "fractal": ".fractal", "graph": ".graph", "training_step": ".graph", "vortex": ".vortex",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        module = importlib.import_module(_LAZY[name], __name__)
        return module if _LAZY[name] == f".{name}" else getattr(module, name)
    if name == "__version__":
        return importlib.import_module("autograd").__version__
    raise AttributeError(f"module 'hammer' has no attribute {name!r}")
