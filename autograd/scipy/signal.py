"""scipy.signal.convolve with derivatives, over chosen axes (HIPS autograd's form of it)."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import ops
from ..numpy._face import array_of, constant

__all__ = ["convolve"]


def convolve(
    A: Any,
    B: Any,
    axes: Sequence[Sequence[int]] | None = None,
    dot_axes: Sequence[Sequence[int]] = ((), ()),
    mode: str = "full",
) -> Any:
    """The convolution of two arrays of any number of axes.

    Args:
        A, B: the arrays.
        axes: the axes of A and those of B to convolve, paired; all of them if None.
        dot_axes: the axes of A and those of B to multiply and sum, paired.
        mode: "full" (length m + n - 1), "valid" (|m - n| + 1) or "same" (A's length m, the middle of "full").

    Returns:
        An array whose axes are those of A that are neither convolved nor summed, then those of B, then the convolved ones.
    """
    if mode not in ("full", "valid", "same"):
        raise ValueError(f'convolve: mode must be "full", "valid" or "same", not {mode!r}')
    a, b = (x if hasattr(x, "shape") else np.asarray(x) for x in (array_of(A), array_of(B)))
    m, n = len(a.shape), len(b.shape)
    if axes is None:
        if m != n:
            raise ValueError(f"convolve: arrays of {m} and {n} axes; say with axes=... which to convolve")
        axes = (range(m), range(n))
    conv = [(i % m, j % n) for i, j in zip(*axes, strict=True)]
    dots = [(i % m, j % n) for i, j in zip(*dot_axes, strict=True)]
    if mode == "valid":
        larger = {np.sign(a.shape[i] - b.shape[j]) for i, j in conv} - {0}
        if len(larger) > 1:
            raise ValueError("convolve: in mode 'valid' one array must be at least as long along every convolved axis")
    free_a = [i for i in range(m) if i not in {x for x, _ in conv + dots}]
    free_b = [j for j in range(n) if j not in {y for _, y in conv + dots}]
    a = ops.permute(a, axes=(*free_a, *(i for i, _ in dots), *(i for i, _ in conv)))
    b = ops.permute(b, axes=(*(j for _, j in dots), *(j for _, j in conv), *free_b))
    first = len(free_a) + len(dots)
    b = ops.flip(b, axis=tuple(range(len(dots), len(dots) + len(conv)))) if conv else b
    for k in range(len(conv)):  # each convolved axis of A becomes two: place in the result, place in the window
        axis = first + 2 * k
        a = _windows(a, axis, b.shape[len(dots) + k], mode)
    inner = [*range(len(free_a), first), *(first + 2 * k + 1 for k in range(len(conv)))]
    found = ops.tensordot(a, b, axes=(tuple(inner), tuple(range(len(dots) + len(conv)))))
    order = (
        *range(len(free_a)),
        *range(len(found.shape) - len(free_b), len(found.shape)),
        *range(len(free_a), len(free_a) + len(conv)),
    )
    return constant(ops.permute(found, axes=order))


def _windows(x: Any, axis: int, n: int, mode: str) -> Any:
    """x, padded with zeros, in windows of length n along an axis: those that the mode asks for."""
    m = x.shape[axis]
    start, count = {"full": (0, m + n - 1), "same": ((n - 1) // 2, m), "valid": (min(m, n) - 1, abs(m - n) + 1)}[mode]
    x = ops.pad(x, width=tuple((n - 1, n - 1) if i == axis else (0, 0) for i in range(len(x.shape))))
    return ops.take(x, start + np.arange(count)[:, None] + np.arange(n), axis=axis)
