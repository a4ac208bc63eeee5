"""Codec: a lossy encoding of gradients, with the exact number of bytes that goes over a wire. ``codecs`` has them.

A codec turns an array into a ``Payload`` and back. A payload is a few packed NumPy arrays; its ``nbytes`` is the length of
``to_bytes()``, and ``from_bytes`` reads it again, knowing (as all ranks do) the codec, the shape and the dtype. Values
go in the gradient's own dtype, places in the smallest unsigned integers that can hold them.

What is known of the error of ``C(x)``, x of n elements:

* *unbiased* codecs (``RandomK``, ``Quantize``): E C(x) = x and E‖C(x) − x‖² ≤ ω ‖x‖², ω = ``variance(n)``. Times
  1 / (1 + ω) they are contractions too (Richtárik et al. 2021), which is how error feedback uses them;
* *contractions* (``TopK``, ``Sign``, ``PowerSGD``): ‖C(x) − x‖² ≤ (1 − δ) ‖x‖², δ = ``contraction(n)``;
* ``Threshold`` has an absolute bound instead: ‖C(x) − x‖² ≤ n · threshold² (Sahu et al. 2021), and never more than ‖x‖².
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from .scaling import number


@dataclass(frozen=True, eq=False)
class Payload:
    """What goes over the wire: packed arrays, one after the other.

    Attributes:
        arrays: flat NumPy arrays.
    """

    arrays: tuple[np.ndarray, ...]

    @property
    def nbytes(self) -> int:
        """Bytes on the wire."""
        return sum(a.nbytes for a in self.arrays)

    def to_bytes(self) -> bytes:
        """The bytes, little-endian, without any header."""
        return b"".join(a.astype(a.dtype.newbyteorder("<"), copy=False).tobytes() for a in self.arrays)


Layout = list[tuple[Any, int | None]]
"""Dtype and length of each array of a payload; None where the length depends on the data (equal for all such arrays)."""


class Codec:
    """A lossy encoding. Subclasses define ``layout``, ``encode``, ``decode`` and what is known of the error."""

    random: ClassVar[bool] = False
    """Whether ``encode`` draws from ``rng``."""
    unbiased: ClassVar[bool] = False

    def start(self, shape: tuple[int, ...], dtype: np.dtype, rng: np.random.Generator | None) -> dict[str, Any]:
        """The state of the codec for one parameter: a tree of arrays and numbers; most need none."""
        return {}

    def layout(self, shape: tuple[int, ...], dtype: np.dtype) -> Layout:
        """What a payload for such an array consists of."""
        raise NotImplementedError

    def encode(self, x: np.ndarray, state: dict[str, Any], rng: np.random.Generator | None = None) -> Payload:
        """The payload of a floating-point array; the state may be changed in place."""
        raise NotImplementedError

    def decode(self, payload: Payload, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """C(x): a new array of that shape and dtype."""
        raise NotImplementedError

    def variance(self, n: int) -> float:
        """ω of an unbiased codec, for n elements."""
        raise TypeError(f"{type(self).__name__} is biased: it has no variance bound; see contraction(n)")

    def contraction(self, n: int) -> float:
        """δ, for n elements; of an unbiased codec after multiplication by 1 / (1 + ω)."""
        return 1.0 / (1.0 + self.variance(n))

    def wire_bytes(self, shape: tuple[int, ...], dtype: Any) -> int | None:
        """The length of every payload for such an array, or None where it depends on the data."""
        layout = self.layout(shape, np.dtype(dtype))
        if any(count is None for _, count in layout):
            return None
        return sum(np.dtype(kind).itemsize * (count or 0) for kind, count in layout)

    def from_bytes(self, data: bytes, shape: tuple[int, ...], dtype: Any) -> Payload:
        """The payload that ``to_bytes`` wrote.

        Raises:
            ValueError: the data have another length than a payload for such an array.
        """
        layout = [(np.dtype(kind), count) for kind, count in self.layout(shape, np.dtype(dtype))]
        fixed = sum(kind.itemsize * count for kind, count in layout if count is not None)
        each = sum(kind.itemsize for kind, count in layout if count is None)
        rest = len(data) - fixed
        if rest < 0 or (rest % each if each else rest):
            expected = f"{fixed} bytes" + (f" and a multiple of {each}" if each else "")
            raise ValueError(
                f"{type(self).__name__}: {len(data)} bytes are no payload of a {np.dtype(dtype)} array of shape {shape}; that has {expected}"
            )
        arrays, at = [], 0
        for kind, count in layout:
            n = rest // each if count is None else count
            found = np.frombuffer(data, kind.newbyteorder("<"), n, at)
            arrays.append(found.astype(kind, copy=False))
            at += found.nbytes
        return Payload(tuple(arrays))


def _size(shape: tuple[int, ...]) -> int:
    return math.prod(shape)


def _places(n: int) -> np.dtype:
    """The smallest unsigned integers that hold the places of n elements."""
    return np.dtype(np.min_scalar_type(max(n - 1, 0)))


def _working(x: np.ndarray) -> np.ndarray:
    """The elements as a vector in float32 or wider."""
    flat = np.ascontiguousarray(x).reshape(-1)
    return flat.astype(np.float32) if flat.dtype.itemsize < 4 else flat


def _amount(name: str, value: Any) -> float | int:
    if isinstance(value, int) and not isinstance(value, bool):
        if value < 1:
            raise ValueError(f"{name}: an amount must be a fraction in (0, 1] or a count from 1, not {value}")
        return value
    return number(f"{name}: an amount that is no count", value, "(0, 1]")


def _kept(amount: float | int, n: int) -> int:
    return min(n, amount if isinstance(amount, int) else math.ceil(amount * n))
