"""numpy.fft with derivatives: NumPy's signatures over the rows of ``autograd.ops``."""

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import ops
from ._face import array_of, face

__all__ = [
    "fft", "fft2", "fftfreq", "fftn", "fftshift", "hfft", "ifft", "ifft2", "ifftn", "ifftshift", "ihfft", "irfft", "irfft2",
    "irfftn", "rfft", "rfft2", "rfftfreq", "rfftn",
]  # fmt: skip


def _of_array(row: Callable) -> Callable:
    return lambda a, *args, **kwargs: row(array_of(a), *args, **kwargs)


fft, ifft = face(np.fft.fft, _of_array(ops.fft)), face(np.fft.ifft, _of_array(ops.ifft))
fft2, ifft2 = face(np.fft.fft2, _of_array(ops.fft2)), face(np.fft.ifft2, _of_array(ops.ifft2))
fftn, ifftn = face(np.fft.fftn, _of_array(ops.fftn)), face(np.fft.ifftn, _of_array(ops.ifftn))
rfft, irfft = face(np.fft.rfft, _of_array(ops.rfft)), face(np.fft.irfft, _of_array(ops.irfft))
rfft2, irfft2 = face(np.fft.rfft2, _of_array(ops.rfft2)), face(np.fft.irfft2, _of_array(ops.irfft2))
rfftn, irfftn = face(np.fft.rfftn, _of_array(ops.rfftn)), face(np.fft.irfftn, _of_array(ops.irfftn))
hfft, ihfft = face(np.fft.hfft, _of_array(ops.hfft)), face(np.fft.ihfft, _of_array(ops.ihfft))
fftshift = face(np.fft.fftshift, lambda x, axes=None: ops.fftshift(array_of(x), axes))
ifftshift = face(np.fft.ifftshift, lambda x, axes=None: ops.ifftshift(array_of(x), axes))
fftfreq, rfftfreq = np.fft.fftfreq, np.fft.rfftfreq


def __getattr__(name: str) -> Any:
    raise AttributeError(f"autograd.numpy.fft has no {name!r}; it has {', '.join(__all__)}")
