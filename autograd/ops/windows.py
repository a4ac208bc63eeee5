"""Windows: how the windows of a convolution or a pooling lie over the spatial axes of an array.

``conv`` and ``pool`` share this: reading the parameters, the shapes, padding, and where each element of a window is.
"""

import itertools
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from ..backend import xp
from ..batch import physical
from ..tensor import DiffTensor

Lengths = tuple[int, ...]
Padding = int | tuple[int, ...] | tuple[tuple[int, int], ...]


class Windows(NamedTuple):
    """Windows over spatial axes, one number for each axis.

    Attributes:
        size: lengths of the input; ``low`` and ``high`` are the padding before and behind it.
        kernel, stride, dilation: lengths of a window, steps between windows, steps inside a window.
        out: how many windows there are.
    """

    size: Lengths
    low: Lengths
    high: Lengths
    kernel: Lengths
    stride: Lengths
    dilation: Lengths
    out: Lengths

    @property
    def padded(self) -> Lengths:
        return tuple(n + a + b for n, a, b in zip(self.size, self.low, self.high, strict=True))

    @property
    def inside(self) -> tuple[Any, ...]:
        """The index of the input in the padded input, for arrays whose last axes are the spatial ones."""
        return (..., *(slice(a, a + n) for n, a in zip(self.size, self.low, strict=True)))

    @property
    def is_padded(self) -> bool:
        return self.padded != self.size

    @property
    def overlaps(self) -> bool:
        return any(k > s for k, s in zip(self.kernel, self.stride, strict=True))

    @property
    def tiles(self) -> bool:
        """Whether every element of the input is in exactly one window, and nothing else is."""
        whole = tuple(n * k for n, k in zip(self.out, self.kernel, strict=True))
        return self.stride == self.kernel and self.size == whole and not self.is_padded

    def offsets(self, start: int = 0, count: int | None = None) -> list[tuple[slice, ...]]:
        """For each place in a window, in row-major order, the elements of the padded input that are there.

        ``start`` and ``count`` limit them to some of the windows along the first axis.
        """
        out = self.out if count is None else (count, *self.out[1:])
        begin = (start * self.stride[0],) + (0,) * (len(out) - 1)
        axes = [
            [slice(b + i * d, b + i * d + (n - 1) * s + 1, s) for i in range(k)]
            for b, k, s, d, n in zip(begin, self.kernel, self.stride, self.dilation, out, strict=True)
        ]
        return list(itertools.product(*axes))


def _is_count(value: Any, least: int) -> bool:
    return isinstance(value, (int, np.integer)) and int(value) >= least


def lengths(value: Any, n: int, name: str, least: int = 1) -> Lengths:
    """A parameter as one integer for each of n axes."""
    values = (value,) * n if isinstance(value, (int, np.integer)) else tuple(value)
    if len(values) != n or not all(_is_count(v, least) for v in values):
        raise ValueError(f"{name} must be an integer of at least {least}, or {n} of them, not {value!r}")
    return tuple(map(int, values))


def paddings(value: Any, n: int) -> tuple[tuple[int, int], ...]:
    """Padding as a pair (before, behind) for each of n axes: given as a number, a number for each, or a pair for each."""
    values = (value,) * n if isinstance(value, (int, np.integer)) else tuple(value)
    pairs = [(v, v) if isinstance(v, (int, np.integer)) else tuple(v) for v in values]
    if len(pairs) != n or not all(len(p) == 2 and _is_count(p[0], 0) and _is_count(p[1], 0) for p in pairs):
        raise ValueError(f"padding must be an integer of at least 0, {n} of them or {n} pairs, not {value!r}")
    return tuple((int(p[0]), int(p[1])) for p in pairs)


@lru_cache(maxsize=1024)
def windows(size: Lengths, kernel: Any, stride: Any, padding: Any, dilation: Any = 1) -> Windows:
    """The windows over axes of lengths ``size``; parameters are integers or tuples of them.

    Raises:
        ValueError: a parameter is not what it must be, or no window fits into the padded input.
    """
    n = len(size)
    kernel, stride, dilation = (
        lengths(v, n, name) for v, name in ((kernel, "kernel"), (stride, "stride"), (dilation, "dilation"))
    )
    low, high = zip(*paddings(padding, n), strict=True) if n else ((), ())
    spans = tuple(d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True))
    free = tuple(m + a + b - w for m, a, b, w in zip(size, low, high, spans, strict=True))
    if any(f < 0 for f in free):
        raise ValueError(
            f"windows of {spans} (kernel {kernel}, dilation {dilation}) are larger than the input's {size} "
            f"with padding {tuple(zip(low, high, strict=True))}"
        )
    return Windows(
        size, low, high, kernel, stride, dilation, tuple(f // s + 1 for f, s in zip(free, stride, strict=True))
    )


def same_padding(kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """The padding with which stride 1 keeps the lengths; an odd rest goes behind."""
    if any(s != 1 for s in stride):
        raise ValueError(f'padding="same" needs stride 1, not {tuple(stride)}')
    total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    return tuple((t // 2, t - t // 2) for t in total)


def zeros(like: Any, shape: Lengths, filled: bool = True) -> Any:
    """Zeros of a shape, of the library, device, dtype and (NumPy) memory order of another array.

    They need not be zeros if ``filled`` is false: every element will be assigned to.
    """
    library = xp(like)
    if library is np:
        return (np.zeros_like if filled else np.empty_like)(like, shape=shape)
    where = {} if library.__name__ == "cupy" else {"device": like.device}
    return library.zeros(shape, dtype=like.dtype, **where)


def transfer(target: np.ndarray, x: np.ndarray) -> np.ndarray:
    """``target[...] = x`` for arrays (N, ...) whose orders of memory may differ; returns the target.

    Transposing eight samples at a time is up to four times faster than all at once: a sample's length is often a multiple
    of 4096 bytes, and then more lines of the source than that do not fit into the first cache together.
    """
    if x.strides[0] == x.itemsize and target.strides[0] == target.itemsize:  # the batch is last in both: no transposing
        np.copyto(target, x)
        return target
    for n in range(0, x.shape[0], 8):
        np.copyto(target[n : n + 8], x[n : n + 8])
    return target


def aligned(x: Any, like: Any) -> Any:
    """x in the memory order of another NumPy array of its shape: elementwise work on two orders is several times slower."""
    if type(x) is not np.ndarray or x.size < 1000 or _order(x) == _order(like):
        return x
    return transfer(np.empty_like(like, dtype=x.dtype), x)


def _order(x: np.ndarray) -> Lengths:
    return tuple(s // x.itemsize for s in x.strides)


def constant(array: np.ndarray, like: Any) -> Any:
    """A host array in the library and on the device of another array or tensor (NumPy's for a symbolic one)."""
    like = physical(like.raw if isinstance(like, DiffTensor) else like)
    library = np if like is None else xp(like)
    if library is np:
        return array
    return library.asarray(array) if library.__name__ == "cupy" else library.asarray(array, device=like.device)


def padded(x: Any, w: Windows, value: float | None = None) -> Any:
    """x, of shape (N, C, ...), with its spatial axes padded with ``value`` (0 if None)."""
    if not w.is_padded:
        return x
    out = zeros(x, (*x.shape[:2], *w.padded))
    if value is not None:
        out[...] = value
    out[w.inside] = x
    return out
