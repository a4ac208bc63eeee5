"""What the namespace can do: the object that ``__array_namespace_info__()`` returns."""

import importlib
import importlib.util
from typing import Any

import numpy as np

from ._arrays import default_float
from .dtypes import DTYPES, isdtype


class Info:
    """The standard's inspection functions."""

    def capabilities(self) -> dict[str, Any]:
        """Data-dependent shapes exist, except inside ``vmap`` and in symbolic graphs."""
        return {"boolean indexing": True, "data-dependent shapes": True, "max dimensions": 64}

    def default_device(self) -> str:
        return "cpu"

    def devices(self) -> list[str]:
        """The CPU, and the GPUs that CuPy finds."""
        found = ["cpu"]
        if importlib.util.find_spec("cupy") is not None:
            cuda = importlib.import_module("cupy").cuda
            if cuda.is_available():
                found += [f"cuda:{i}" for i in range(cuda.runtime.getDeviceCount())]
        return found

    def default_dtypes(self, *, device: str | None = None) -> dict[str, np.dtype]:
        """Those of Python's numbers; inside an ``AutogradContext(dtype=...)`` its dtype for floats."""
        real = default_float()
        index = np.dtype(np.int64)
        return {
            "real floating": real,
            "complex floating": np.dtype(np.complex64 if real.itemsize <= 4 else np.complex128),
            "integral": index,
            "indexing": index,
        }

    def dtypes(self, *, device: str | None = None, kind: Any = None) -> dict[str, np.dtype]:
        """The dtypes of a kind (see ``isdtype``), or all, by name."""
        return {name: dtype for name, dtype in DTYPES.items() if kind is None or isdtype(dtype, kind)}
