"""The codecs: top-k, random-k, threshold, sign, few bits, low rank. What a codec is says ``codec``.

NaN and infinity are not hidden: what they touch comes out as NaN or infinity. Encoding happens on the host.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from .base import TILE
from .codec import Codec, Layout, Payload, _amount, _kept, _places, _size, _working
from .scaling import number, whole

# ---- sparsification ----


@dataclass(frozen=True)
class TopK(Codec):
    """The k elements of largest magnitude (Aji & Heafield 2017). A contraction with δ = k / n.

    Args:
        amount: a fraction of the elements in (0, 1] (rounded up), or a whole number of them.
    """

    amount: float | int

    def __post_init__(self) -> None:
        _amount("TopK", self.amount)

    def layout(self, shape: tuple[int, ...], dtype: np.dtype) -> Layout:
        k = _kept(self.amount, _size(shape))
        return [(_places(_size(shape)), k), (dtype, k)]

    def encode(self, x: np.ndarray, state: dict[str, Any], rng: np.random.Generator | None = None) -> Payload:
        flat = x.reshape(-1)
        k = _kept(self.amount, flat.size)
        places = np.arange(flat.size)
        if k < flat.size:
            sizes = np.abs(flat)
            least = np.partition(sizes, flat.size - k)[flat.size - k]
            if np.isnan(least):  # NaN counts as largest, and there are k or more
                places = np.flatnonzero(np.isnan(sizes))[:k]
            else:
                places = np.flatnonzero(~(sizes < least))
                ties = np.flatnonzero(sizes[places] == least)
                places = np.delete(places, ties[len(ties) - (len(places) - k) :])  # the first of them are kept
        return Payload((places.astype(_places(flat.size)), flat[places]))

    def decode(self, payload: Payload, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        return _scattered(payload.arrays, shape, dtype)

    def contraction(self, n: int) -> float:
        return _kept(self.amount, n) / n if n else 1.0


def _scattered(parts: tuple[np.ndarray, ...], shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Zeros, with values at places."""
    places, values = parts
    out = np.zeros(_size(shape), dtype)
    out[places] = values
    return out.reshape(shape)


@dataclass(frozen=True)
class RandomK(Codec):
    """k elements drawn at random, times n / k (Wangni et al. 2018). Unbiased with ω = n / k − 1.

    Args:
        amount: a fraction of the elements in (0, 1] (rounded up), or a whole number of them.

    Places are not sent, but the 8 bytes of the seed from which the receiver draws them again; so both ends need the same
    NumPy.
    """

    amount: float | int
    random = True
    unbiased = True

    def __post_init__(self) -> None:
        _amount("RandomK", self.amount)

    def layout(self, shape: tuple[int, ...], dtype: np.dtype) -> Layout:
        return [(np.uint64, 1), (dtype, _kept(self.amount, _size(shape)))]

    def _drawn(self, seed: np.ndarray, n: int) -> np.ndarray:
        rng = np.random.Generator(np.random.Philox(key=int(seed[0])))
        return rng.choice(n, _kept(self.amount, n), replace=False, shuffle=False)

    def encode(self, x: np.ndarray, state: dict[str, Any], rng: np.random.Generator | None = None) -> Payload:
        flat = x.reshape(-1)
        seed = _needed(self, rng).integers(0, 2**64, 1, np.uint64)
        return Payload((seed, flat[self._drawn(seed, flat.size)]))

    def decode(self, payload: Payload, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        seed, values = payload.arrays
        n = _size(shape)
        return _scattered((self._drawn(seed, n), values * (n / max(values.size, 1))), shape, dtype)

    def variance(self, n: int) -> float:
        return n / _kept(self.amount, n) - 1.0 if n else 0.0


def _needed(codec: Codec, rng: np.random.Generator | None) -> np.random.Generator:
    if rng is None:
        raise ValueError(f"{type(codec).__name__} draws random numbers: pass rng, a numpy.random.Generator")
    return rng


@dataclass(frozen=True)
class Threshold(Codec):
    """The elements of magnitude above a threshold, however many (Strom 2015, with their values). Absolute error: n · threshold².

    Args:
        threshold: what is not above it in magnitude is dropped.
    """

    threshold: float

    def __post_init__(self) -> None:
        number("threshold", self.threshold)

    def layout(self, shape: tuple[int, ...], dtype: np.dtype) -> Layout:
        return [(_places(_size(shape)), None), (dtype, None)]

    def encode(self, x: np.ndarray, state: dict[str, Any], rng: np.random.Generator | None = None) -> Payload:
        flat = x.reshape(-1)
        places = np.flatnonzero(~(np.abs(flat) <= self.threshold))  # NaN goes, too
        return Payload((places.astype(_places(flat.size)), flat[places]))

    def decode(self, payload: Payload, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        return _scattered(payload.arrays, shape, dtype)

    def contraction(self, n: int) -> float:
        return 0.0


# ---- quantisation ----


_BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).view(bool)
"""The bits of every byte."""


@dataclass(frozen=True)
class Sign(Codec):
    """One bit for each element, its sign, and one scale: ``(‖x‖₁ / n) · sign(x)`` (Karimireddy et al. 2019; Seide et al. 2014).

    A contraction: ‖C(x) − x‖² = ‖x‖² − ‖x‖₁² / n exactly, so δ = ‖x‖₁² / (n ‖x‖²), at least 1 / n. Zero counts as positive.
    """

    def layout(self, shape: tuple[int, ...], dtype: np.dtype) -> Layout:
        return [(dtype, min(1, _size(shape))), (np.uint8, -(-_size(shape) // 8))]

    def encode(self, x: np.ndarray, state: dict[str, Any], rng: np.random.Generator | None = None) -> Payload:
        flat = x.reshape(-1)
        if not flat.size:
            return Payload((flat, np.zeros(0, np.uint8)))
        scale = np.mean(np.abs(flat), dtype=np.float64)
        return Payload((np.array([scale], x.dtype), np.packbits(flat >= 0)))

    def decode(self, payload: Payload, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        scale, bits = payload.arrays
        if not scale.size:
            return np.zeros(shape, dtype)
        signs = np.where(_BITS, scale, -scale).astype(dtype, copy=False)  # of the eight bits of every byte
        return signs.take(bits, axis=0).reshape(-1)[: _size(shape)].reshape(shape)

    def contraction(self, n: int) -> float:
        return 1.0 / n if n else 1.0


@dataclass(frozen=True)
class Quantize(Codec):
    """Stochastic rounding to ``2^bits − 1`` levels between ± the largest magnitude of a bucket (QSGD, Alistarh et al. 2017).

    Unbiased. With s = 2^(bits − 1) − 1 levels above 0, and d elements in a bucket, ω = min(d / (4 s²), √d / s): an element
    between two levels errs by (M/s)² · p (1 − p) on average, p its place between them and M ≤ ‖x‖ the largest magnitude.

    Args:
        bits: for each element, 2 to 8 (with 2 bits it is TernGrad, Wen et al. 2017).
        bucket: elements that share a scale.
    """

    bits: int = 4
    bucket: int = 512
    random = True
    unbiased = True

    def __post_init__(self) -> None:
        if isinstance(self.bits, bool) or self.bits not in range(2, 9):
            raise ValueError(f"bits must be a whole number from 2 to 8, not {self.bits!r}; for one bit there is Sign()")
        whole("bucket", self.bucket)

    @property
    def levels(self) -> int:
        """Levels above 0."""
        return 2 ** (self.bits - 1) - 1

    def layout(self, shape: tuple[int, ...], dtype: np.dtype) -> Layout:
        n = _size(shape)
        return [(dtype, -(-n // self.bucket)), (np.uint8, -(-n * self.bits // 8))]

    def encode(self, x: np.ndarray, state: dict[str, Any], rng: np.random.Generator | None = None) -> Payload:
        flat, generator = _working(x), _needed(self, rng)
        scales, codes = np.empty(-(-flat.size // self.bucket), x.dtype), np.empty(flat.size, np.uint8)
        for buckets, rows, part in self._blocks(flat, codes):
            scales[buckets] = self._rounded(rows, part, generator)
        return Payload((scales, packed(codes, self.bits)))

    def _blocks(self, *vectors: np.ndarray) -> Iterator[tuple]:
        """The buckets in turn, some at a time, so that what is made of them stays in the processor's cache: which they are,
        and for each vector a matrix whose rows they are."""
        d, n = self.bucket, vectors[0].size
        step = max(1, TILE // d)
        for a in range(0, n // d, step):
            b = min(a + step, n // d)
            yield slice(a, b), *(v[a * d : b * d].reshape(-1, d) for v in vectors)
        if n % d:
            yield slice(n // d, None), *(v[n // d * d :].reshape(1, -1) for v in vectors)

    def _rounded(self, x: np.ndarray, codes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Fill the codes of some buckets; returns their scales."""
        scales = np.abs(x).max(axis=1)
        y = x / np.where(np.isfinite(scales) & (scales > 0), scales, 1)[:, None]
        y[~np.isfinite(scales)] = 1  # the scale says the rest
        y *= self.levels
        low = np.floor(y)
        y -= low
        low += rng.random(y.shape, dtype=np.float64 if y.dtype == np.float64 else np.float32) < y
        low += self.levels
        codes[...] = low
        return scales

    def decode(self, payload: Payload, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        scales, data = payload.arrays
        n, wide = _size(shape), np.result_type(dtype, np.float32)
        steps, out = scales.astype(wide) / self.levels, np.empty(n, dtype)
        for buckets, codes, part in self._blocks(unpacked(data, self.bits, n), out):
            values = codes.astype(wide)
            values -= self.levels
            values *= steps[buckets, None]
            part[...] = values
        return out.reshape(shape)

    def variance(self, n: int) -> float:
        d, s = min(n, self.bucket), self.levels
        return min(d / (4 * s * s), math.sqrt(d) / s)


def packed(codes: np.ndarray, bits: int) -> np.ndarray:
    """Numbers below 2^bits as a string of bits, the lowest first: ⌈n · bits / 8⌉ bytes."""
    if 8 % bits:
        return np.packbits(np.unpackbits(codes[:, None], axis=1, count=bits, bitorder="little"), bitorder="little")
    if bits == 8:
        return codes
    per = 8 // bits
    padded = np.zeros((-(-codes.size // per), per), np.uint8)
    padded.reshape(-1)[: codes.size] = codes
    out = padded[:, 0].copy()
    for j in range(1, per):
        out |= padded[:, j] << np.uint8(bits * j)
    return out


def unpacked(data: np.ndarray, bits: int, n: int) -> np.ndarray:
    """The n numbers that ``packed`` packed."""
    if 8 % bits:
        each = np.unpackbits(data, count=n * bits, bitorder="little").reshape(n, bits)
        return np.packbits(each, axis=1, bitorder="little").reshape(-1)
    if bits == 8:
        return data
    per = 8 // bits
    out = np.empty((data.size, per), np.uint8)
    for j in range(per):
        np.bitwise_and(data >> np.uint8(bits * j), np.uint8(2**bits - 1), out=out[:, j])
    return out.reshape(-1)[:n]


# ---- low rank ----


@dataclass(frozen=True)
class PowerSGD(Codec):
    """A matrix as the product of two thin ones, by one step of power iteration (Vogels, Karimireddy & Jaggi 2019, algorithm 1).

    ``P = orth(M Q)``, ``Q = Mᵀ P``, and C(M) = P Qᵀ, the projection of M on the columns of P; so ‖C(M) − M‖² = ‖M‖² − ‖Q‖² ≤ ‖M‖².
    Q is kept for the next step (warm start). A column of it that vanished, or is not finite, is drawn anew. Axes
    after the first are taken together. What would be no shorter is sent as it is: vectors, and matrices with
    rank · (rows + columns) ≥ rows · columns.

    Args:
        rank: columns of P and Q.
    """

    rank: int = 2
    random = True

    def __post_init__(self) -> None:
        whole("rank", self.rank)

    def _sides(self, shape: tuple[int, ...]) -> tuple[int, int] | None:
        """Rows and columns, or None where the array is sent as it is."""
        if len(shape) < 2:
            return None
        rows, columns = shape[0], _size(shape[1:])
        return (rows, columns) if self.rank * (rows + columns) < rows * columns else None

    def start(self, shape: tuple[int, ...], dtype: np.dtype, rng: np.random.Generator | None) -> dict[str, Any]:
        sides = self._sides(shape)
        if sides is None:
            return {}
        q = _needed(self, rng).standard_normal((sides[1], self.rank))
        return {"q": q.astype(np.result_type(dtype, np.float32))}

    def layout(self, shape: tuple[int, ...], dtype: np.dtype) -> Layout:
        sides = self._sides(shape)
        return [(dtype, n * self.rank) for n in sides] if sides else [(dtype, _size(shape))]

    def encode(self, x: np.ndarray, state: dict[str, Any], rng: np.random.Generator | None = None) -> Payload:
        sides = self._sides(x.shape)
        if sides is None:
            return Payload((x.reshape(-1).copy(),))
        m, q = _working(x).reshape(sides), state["q"]
        norms = np.linalg.norm(q, axis=0)
        dead = ~((norms > 0) & np.isfinite(norms))
        if dead.any():
            q[:, dead] = _needed(self, rng).standard_normal((len(q), int(dead.sum())))
        p = np.linalg.qr(m @ q)[0]
        q[...] = (p.T @ m).T
        return Payload((p.astype(x.dtype).reshape(-1), q.astype(x.dtype).reshape(-1)))

    def decode(self, payload: Payload, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        if self._sides(shape) is None:
            return payload.arrays[0].reshape(shape).astype(dtype)
        p, q = (a.reshape(-1, self.rank).astype(np.result_type(dtype, np.float32), copy=False) for a in payload.arrays)
        product = p @ q.T if self.rank > 1 else p * q.T
        return product.astype(dtype, copy=False).reshape(shape)

    def contraction(self, n: int) -> float:
        return 0.0
