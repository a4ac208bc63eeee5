"""The extension ``fft``: rows of the op table under the standard's names and signatures."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import ops
from ..tensor import DiffTensor
from ._arrays import constant, default_float, dtype_of, number, tensor

__all__ = [
    "fft", "fftfreq", "fftn", "fftshift", "hfft", "ifft", "ifftn", "ifftshift", "ihfft", "irfft", "irfftn", "rfft", "rfftfreq", "rfftn",
]  # fmt: skip

Lengths = Sequence[int] | None


def fft(x: Any, /, *, n: int | None = None, axis: int = -1, norm: str = "backward") -> DiffTensor:
    """The transform along an axis, of x cut or padded with zeros to length n."""
    return ops.fft(tensor(x), n, axis, norm)


def ifft(x: Any, /, *, n: int | None = None, axis: int = -1, norm: str = "backward") -> DiffTensor:
    """The inverse of ``fft``."""
    return ops.ifft(tensor(x), n, axis, norm)


def fftn(x: Any, /, *, s: Lengths = None, axes: Lengths = None, norm: str = "backward") -> DiffTensor:
    """The transform over several axes (all if None), of x cut or padded with zeros to the lengths s."""
    return ops.fftn(tensor(x), s, axes, norm)


def ifftn(x: Any, /, *, s: Lengths = None, axes: Lengths = None, norm: str = "backward") -> DiffTensor:
    """The inverse of ``fftn``."""
    return ops.ifftn(tensor(x), s, axes, norm)


def rfft(x: Any, /, *, n: int | None = None, axis: int = -1, norm: str = "backward") -> DiffTensor:
    """``fft`` of a real tensor: its first n // 2 + 1 elements."""
    return ops.rfft(tensor(x), n, axis, norm)


def irfft(x: Any, /, *, n: int | None = None, axis: int = -1, norm: str = "backward") -> DiffTensor:
    """The inverse of ``rfft``: a real tensor of length n, or 2 (m - 1) for m elements."""
    return ops.irfft(tensor(x), n, axis, norm)


def rfftn(x: Any, /, *, s: Lengths = None, axes: Lengths = None, norm: str = "backward") -> DiffTensor:
    """``fftn`` of a real tensor: along the last of the axes the first n // 2 + 1 elements."""
    return ops.rfftn(tensor(x), s, axes, norm)


def irfftn(x: Any, /, *, s: Lengths = None, axes: Lengths = None, norm: str = "backward") -> DiffTensor:
    """The inverse of ``rfftn``."""
    return ops.irfftn(tensor(x), s, axes, norm)


def hfft(x: Any, /, *, n: int | None = None, axis: int = -1, norm: str = "backward") -> DiffTensor:
    """The transform, real and of length n, of a signal with Hermitian symmetry, given its first half."""
    return ops.hfft(tensor(x), n, axis, norm)


def ihfft(x: Any, /, *, n: int | None = None, axis: int = -1, norm: str = "backward") -> DiffTensor:
    """The inverse of ``hfft``."""
    return ops.ihfft(tensor(x), n, axis, norm)


def fftfreq(n: int, /, *, d: float = 1.0, dtype: Any = None, device: str | None = None) -> DiffTensor:
    """The frequencies of ``fft`` of n samples, d apart."""
    found = np.fft.fftfreq(n, number(d, "d"))
    return constant(found.astype(dtype_of(dtype) or default_float()), device)


def rfftfreq(n: int, /, *, d: float = 1.0, dtype: Any = None, device: str | None = None) -> DiffTensor:
    """The frequencies of ``rfft`` of n samples, d apart."""
    found = np.fft.rfftfreq(n, number(d, "d"))
    return constant(found.astype(dtype_of(dtype) or default_float()), device)


def fftshift(x: Any, /, *, axes: Any = None) -> DiffTensor:
    """x with the frequency 0 moved from the first place to the middle, along axes (all if None)."""
    return ops.fftshift(tensor(x), axes)


def ifftshift(x: Any, /, *, axes: Any = None) -> DiffTensor:
    """The inverse of ``fftshift``."""
    return ops.ifftshift(tensor(x), axes)
