"""The matrix product of the BLAS that NumPy itself was built with: its addresses, for generated code to call."""

import ctypes
import functools
from dataclasses import dataclass

import numpy as np

NAMES = (("scipy_cblas_{}gemm64_", "i64", "scipy_openblas_{}_num_threads64_"), ("cblas_{}gemm64_", "i64", "openblas_{}_num_threads64_"), ("scipy_cblas_{}gemm", "i32", "scipy_openblas_{}_num_threads"))  # fmt: skip
"""OpenBLAS's names for them in NumPy's wheels and in other builds of NumPy, and how wide its integers are."""


@dataclass(frozen=True)
class Blas:
    """Addresses of functions of OpenBLAS.

    Attributes:
        integer: LLVM's type of its integers.
        gemm: of ``cblas_?gemm`` for float32 and float64.
        get_threads, set_threads: of the functions that say and set how many threads it uses.
    """

    integer: str
    gemm: dict[str, int]
    get_threads: int
    set_threads: int


@functools.cache
def blas() -> Blas | None:
    """NumPy's BLAS, or None where it is not OpenBLAS."""
    try:
        library = ctypes.CDLL(np._core._multiarray_umath.__file__)  # type: ignore[attr-defined]
    except OSError:
        return None
    for name, integer, threads in NAMES:
        try:
            gemm = {
                dtype: _address(library, name.format(letter)) for dtype, letter in (("float32", "s"), ("float64", "d"))
            }
            return Blas(
                integer, gemm, _address(library, threads.format("get")), _address(library, threads.format("set"))
            )
        except AttributeError:
            continue
    return None


def _address(library: ctypes.CDLL, name: str) -> int:
    value = ctypes.cast(getattr(library, name), ctypes.c_void_p).value
    assert value is not None
    return value
