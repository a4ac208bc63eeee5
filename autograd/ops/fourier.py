"""Discrete Fourier transforms: four rows (``fftn``, ``ifftn``, ``rfft``, ``irfft``) and the family made of them.

All are linear. ``fftn`` and ``ifftn`` are their own transposes; ``rfft`` and ``irfft`` are each other's, up to conjugation
and a factor 2 between the ends of the half spectrum. Rows neither cut nor pad: the functions do that before.

``norm`` is NumPy's: "backward" (or None: the inverse is divided by n), "ortho" (both by √n) or "forward" (the transform by
n). float32 gives complex64, as NumPy 2 does, and so does float16, there being no smaller complex dtype.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import backend
from ..backend import xp
from ..shapes import Aval, axes_of, floating, real_dtype, result_dtype, shape_of
from ..table import op
from .elementwise import conj, real
from .layout import concat, pad, roll
from .precision import cast, complexed, computed

__all__ = [
    "fft", "fft2", "fftn", "fftshift", "hfft", "ifft", "ifft2", "ifftn", "ifftshift", "ihfft", "irfft", "irfft2", "irfftn", "rfft",
    "rfft2", "rfftn",
]  # fmt: skip

Lengths = Sequence[int] | None
Axes = Sequence[int] | None
_SWAPPED = {"backward": "forward", "ortho": "ortho", "forward": "backward", None: "forward"}


def _swapped(norm: str | None) -> str:
    """The norm with which the transform back has the same factor."""
    if norm not in _SWAPPED:
        raise ValueError(f'norm must be "backward", "ortho" or "forward", not {norm!r}')
    return _SWAPPED[norm]


def _at(axis: int, ndim: int, start: Any, stop: Any) -> tuple:
    return (slice(None),) * (axis % ndim) + (slice(start, stop), Ellipsis)


def _resized(x: Any, n: int | None, axis: int) -> Any:
    """x cut, or padded with zeros, at the end of an axis."""
    a = axes_of(axis, len(shape_of(x)))[0]
    length = x.shape[a]
    if n is None or n == length:
        return x
    if n < 1:
        raise ValueError(f"a transform of length {n} is not possible; n must be at least 1")
    if n < length:
        return x[_at(a, x.ndim, None, n)]
    return pad(x, width=((0, 0),) * a + ((0, n - length),) + ((0, 0),) * (x.ndim - a - 1))


def _work(factor: float, transformed: Callable) -> Callable:
    """FLOPs: so many times N log₂ n, for N numbers in all and n in each transform."""

    def flops(y: Any, x: Any, **params: Any) -> float:
        full, axes = transformed(y, x, **params)
        return factor * math.prod(full) * math.log2(max(math.prod(full[a] for a in axes), 2))

    return flops


# ---- complex transforms ----


def _complex_kernel(name: str) -> Callable:
    @computed
    def kernel(x: Any, *, axes: tuple[int, ...], norm: str | None = "backward") -> Any:
        x = cast(x, complexed(x.dtype)) if xp(x) is not np or not axes else x
        return getattr(xp(x).fft, name)(x, axes=axes, norm=norm or "backward") if axes else x

    return kernel


def _complex_shape(x: Any, axes: tuple[int, ...], norm: str | None) -> Aval:
    axes_of(axes, len(shape_of(x)))
    return shape_of(x), complexed(result_dtype(x))


_fftn = op(
    "fftn", _complex_kernel("fftn"), _complex_shape, lambda g, _y, _x, axes, norm: _fftn(g, axes=axes, norm=norm),
    flops=_work(5, lambda y, _x, axes, norm: (shape_of(y), axes)),
)  # fmt: skip
_ifftn = op(
    "ifftn", _complex_kernel("ifftn"), _complex_shape, lambda g, _y, _x, axes, norm: _ifftn(g, axes=axes, norm=norm),
    flops=_work(5, lambda y, _x, axes, norm: (shape_of(y), axes)),
)  # fmt: skip


# ---- real transforms: one axis, the last in a family ----


def _between(h: Any, n: int, axis: int, factor: float) -> Any:
    """A half spectrum, multiplied except at its ends: frequency 0 and, if n is even, n/2 have no partner."""
    end = (n + 1) // 2
    first, middle, last = (h[_at(axis, h.ndim, *ends)] for ends in ((None, 1), (1, end), (end, None)))
    return concat([first, middle * factor, last], axis=axis)


@computed
def _rfft_kernel(x: Any, *, axis: int = -1, norm: str | None = "backward") -> Any:
    if backend.is_complex(x.dtype):
        raise TypeError(f"a real array is needed, not one of dtype {x.dtype}; use fft")
    return xp(x).fft.rfft(x, axis=axis, norm=norm or "backward")


def _halved(shape: tuple[int, ...], axis: int, n: int) -> tuple[int, ...]:
    a = axes_of(axis, len(shape))[0]
    return (*shape[:a], n, *shape[a + 1 :])


_rfft = op(
    "rfft", _rfft_kernel, lambda x, axis, norm: (_halved(shape_of(x), axis, shape_of(x)[axis] // 2 + 1), complexed(result_dtype(x))),
    lambda g, _y, _x, axis, norm: _irfft(_between(conj(g), _x.shape[axis], axis, 0.5), n=_x.shape[axis], axis=axis, norm=_swapped(norm)),
    flops=_work(2.5, lambda _y, x, axis, norm: (shape_of(x), (axis,))), complex=False,
)  # fmt: skip


@computed
def _irfft_kernel(x: Any, *, n: int, axis: int = -1, norm: str | None = "backward") -> Any:
    return xp(x).fft.irfft(cast(x, complexed(x.dtype)), n=n, axis=axis, norm=norm or "backward")


def _irfft_shape(x: Any, n: int, axis: int, norm: str | None) -> Aval:
    return _halved(shape_of(x), axis, n), real_dtype(floating(result_dtype(x)))


_irfft = op(
    "irfft", _irfft_kernel, _irfft_shape,
    lambda g, _y, _x, n, axis, norm: conj(_between(_rfft(real(g), axis=axis, norm=_swapped(norm)), n, axis, 2.0)),
    flops=_work(2.5, lambda y, _x, n, axis, norm: (shape_of(y), (axis,))),
)  # fmt: skip


# ---- the family ----


def _all_axes(x: Any, s: Lengths, axes: Axes) -> tuple[Any, tuple[int, ...]]:
    """x cut or padded to the lengths, and the axes as numbers from 0. With lengths and no axes these are the last ones."""
    ndim = len(shape_of(x))
    if axes is None:
        axes = range(ndim) if s is None else range(ndim - len(s), ndim)
    axes = tuple(axes)
    axes_of(axes, ndim)
    if s is not None:
        if len(s) != len(axes):
            raise ValueError(f"{len(s)} lengths {tuple(s)} were given for {len(axes)} axes {axes}")
        for n, a in zip(s, axes, strict=True):
            x = _resized(x, None if n == -1 else n, a)
    return x, tuple(a % ndim for a in axes)


def _some_axes(x: Any, s: Lengths, axes: Axes) -> tuple[Any, tuple[int, ...]]:
    x, axes = _all_axes(x, s, axes)
    if not axes:
        raise ValueError("a real transform needs at least one axis")
    return x, axes


def fftn(x: Any, s: Lengths = None, axes: Axes = None, norm: str | None = None) -> Any:
    """The complex transform over several axes (all if None), of x cut or padded with zeros to the lengths ``s``."""
    x, axes = _all_axes(x, s, axes)
    return _fftn(x, axes=axes, norm=norm)


def ifftn(x: Any, s: Lengths = None, axes: Axes = None, norm: str | None = None) -> Any:
    """The inverse of ``fftn``."""
    x, axes = _all_axes(x, s, axes)
    return _ifftn(x, axes=axes, norm=norm)


def fft(x: Any, n: int | None = None, axis: int = -1, norm: str | None = None) -> Any:
    """yₖ = Σⱼ xⱼ exp(-2πi jk/n) along an axis, of x cut or padded with zeros to length n."""
    return _fftn(_resized(x, n, axis), axes=(axis,), norm=norm)


def ifft(x: Any, n: int | None = None, axis: int = -1, norm: str | None = None) -> Any:
    """The inverse of ``fft``: xⱼ = 1/n Σₖ yₖ exp(2πi jk/n)."""
    return _ifftn(_resized(x, n, axis), axes=(axis,), norm=norm)


def fft2(x: Any, s: Lengths = None, axes: Axes = (-2, -1), norm: str | None = None) -> Any:
    """``fftn`` over the last two axes."""
    return fftn(x, s, axes, norm)


def ifft2(x: Any, s: Lengths = None, axes: Axes = (-2, -1), norm: str | None = None) -> Any:
    """``ifftn`` over the last two axes."""
    return ifftn(x, s, axes, norm)


def rfft(x: Any, n: int | None = None, axis: int = -1, norm: str | None = None) -> Any:
    """``fft`` of a real array: its first n // 2 + 1 elements, the others being their conjugates."""
    return _rfft(_resized(x, n, axis), axis=axis, norm=norm)


def irfft(x: Any, n: int | None = None, axis: int = -1, norm: str | None = None) -> Any:
    """The inverse of ``rfft``: a real array of length n (2 (m - 1) for m elements, if None). Imaginary parts at the ends of
    the half spectrum, frequencies 0 and n/2, count as 0."""
    n = 2 * (x.shape[axis] - 1) if n is None else n
    if n < 1:
        raise ValueError(f"a transform of length {n} is not possible; n must be at least 1")
    return _irfft(_resized(x, n // 2 + 1, axis), n=n, axis=axis, norm=norm)


def rfftn(x: Any, s: Lengths = None, axes: Axes = None, norm: str | None = None) -> Any:
    """``fftn`` of a real array: along the last of the axes the first n // 2 + 1 elements."""
    x, axes = _some_axes(x, s, axes)
    half = _rfft(x, axis=axes[-1], norm=norm)
    return _fftn(half, axes=axes[:-1], norm=norm) if axes[1:] else half


def irfftn(x: Any, s: Lengths = None, axes: Axes = None, norm: str | None = None) -> Any:
    """The inverse of ``rfftn``: a real array; along the last of the axes of length s[-1] (2 (m - 1) for m elements)."""
    last = None if s is None else s[-1]
    x, axes = _some_axes(x, None if s is None else (*s[:-1], -1), axes)
    x = _ifftn(x, axes=axes[:-1], norm=norm) if axes[1:] else x
    return irfft(x, None if last == -1 else last, axes[-1], norm)


def rfft2(x: Any, s: Lengths = None, axes: Axes = (-2, -1), norm: str | None = None) -> Any:
    """``rfftn`` over the last two axes."""
    return rfftn(x, s, axes, norm)


def irfft2(x: Any, s: Lengths = None, axes: Axes = (-2, -1), norm: str | None = None) -> Any:
    """``irfftn`` over the last two axes."""
    return irfftn(x, s, axes, norm)


def hfft(x: Any, n: int | None = None, axis: int = -1, norm: str | None = None) -> Any:
    """The transform, real and of length n, of a signal with Hermitian symmetry, given its first half."""
    return irfft(conj(x), n, axis, _swapped(norm))


def ihfft(x: Any, n: int | None = None, axis: int = -1, norm: str | None = None) -> Any:
    """The inverse of ``hfft``: n // 2 + 1 elements."""
    return conj(rfft(x, n, axis, _swapped(norm)))


def fftshift(x: Any, axes: int | Axes = None) -> Any:
    """x with the frequency 0 moved from the first place to the middle, along axes (all if None)."""
    return _shifted(x, axes, lambda n: n // 2)


def ifftshift(x: Any, axes: int | Axes = None) -> Any:
    """The inverse of ``fftshift``."""
    return _shifted(x, axes, lambda n: -(n // 2))


def _shifted(x: Any, axes: int | Axes, places: Callable[[int], int]) -> Any:
    chosen = axes_of(axes, len(shape_of(x)))
    return roll(x, shift=tuple(places(x.shape[a]) for a in chosen), axis=chosen) if chosen else x


for _name, _row in (("fftn", _fftn), ("ifftn", _ifftn), ("rfft", _rfft), ("irfft", _irfft)):
    globals()[_name].row = _row.row
