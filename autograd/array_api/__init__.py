"""The Python array API standard, version 2024.12, on tensors: ``x.__array_namespace__()``, or ``import autograd.array_api as xp``.

Code written against the standard computes with tensors, and so has gradients of every order, ``vmap`` and graphs:

    >>> import autograd.array_api as xp
    >>> from autograd import grad
    >>> def loss(w):
    ...     return xp.sum(xp.logaddexp(w, xp.zeros_like(w)))
    >>> grad(loss)(xp.asarray([0.0, 1.0])).numpy().round(6)
    array([0.5     , 0.731059])

Every function of the standard and of its extensions ``linalg`` and ``fft`` is here; each is a row of the op table, or several,
under the standard's name and signature. All return tensors. What is piecewise constant (comparisons, places, counts, casts to
integers) is a constant to the gradient; what has no gradient although it depends on a tracked tensor (the completing vectors of
``svd`` and ``qr``, the length of ``arange``) is refused with a TypeError. Arrays that are not tensors are taken as constants.

Where tensors differ from the standard, or go beyond it:

* **Tensors do not change.** ``x[i] = v`` raises a TypeError that names ``x.at[i].set(v)``. Code of others that must assign runs
  inside ``in_place()``, where an assignment is recorded like any operation (see ``assignment``). ``x += v`` rebinds ``x`` to a new
  tensor, so its dtype may widen, and other names of the old one do not see the change. ``empty`` is ``zeros``.
* **Mixed kinds** are promoted as NumPy does, where the standard leaves it open: integers with float32 give float64, ``int / int``
  gives float64, and a function such as ``exp`` takes integers.
* **asarray copies** arrays that it does not own, unless ``copy=False``; the standard would share them. ``from_dlpack`` shares.
* **Devices** are "cpu", and "cuda:N" for CuPy's. Inside ``vmap`` and in symbolic graphs there are no values, so that functions whose
  result's shape depends on them (``nonzero``, ``unique_all``, ``repeat`` by a tensor, masks) are refused.
* **Symmetric matrices**: ``cholesky`` and ``eigh`` take the Hermitian part of x, so that the gradient is Hermitian too.
* **Beyond it** ``special`` has SciPy's special functions: SciPy looks there.
"""

import importlib
import math
from typing import Any

from . import creation, elementwise, fft, linalg, manipulation, searching, statistics
from . import dtypes as _dtypes
from .assignment import in_place
from .creation import *  # noqa: F403
from .dtypes import *  # noqa: F403
from .dtypes import DTYPES
from .elementwise import *  # noqa: F403
from .info import Info
from .linalg import matmul, matrix_transpose, tensordot, vecdot
from .manipulation import *  # noqa: F403
from .searching import *  # noqa: F403
from .statistics import *  # noqa: F403

__array_api_version__ = "2024.12"
VERSIONS = ("2021.12", "2022.12", "2023.12", "2024.12")
"""The versions of the standard whose code runs here: each adds to the one before."""

e, inf, nan, newaxis, pi = math.e, math.inf, math.nan, None, math.pi
globals().update(DTYPES)

__all__ = [
    *creation.__all__, *_dtypes.__all__, *elementwise.__all__, *manipulation.__all__, *searching.__all__, *statistics.__all__,
    "matmul", "matrix_transpose", "tensordot", "vecdot", *DTYPES, "e", "inf", "nan", "newaxis", "pi", "fft", "linalg", "in_place",
    "__array_api_version__", "__array_namespace_info__",
]  # fmt: skip


def __array_namespace_info__() -> Info:
    """What the namespace can do: capabilities, devices and dtypes."""
    return Info()


def of_version(api_version: str | None) -> Any:
    """This namespace, if it serves code written for a version of the standard. ValueError if it does not."""
    if api_version is not None and api_version not in VERSIONS:
        raise ValueError(
            f"autograd.array_api follows the array API standard {', '.join(VERSIONS)}, not {api_version!r}"
        )
    return importlib.import_module(__name__)


def __getattr__(name: str) -> Any:
    if name == "special":
        return importlib.import_module(".special", __name__)
    hint = f"; autograd.ops has {name}" if hasattr(importlib.import_module("..ops", __name__), name) else ""
    raise AttributeError(f"the array API standard {__array_api_version__} has no {name!r}{hint}")
