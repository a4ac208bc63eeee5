"""Hypothesis strategies: shapes, dtypes, broadcasting shapes, axes, index expressions, arrays from a row's domain, calls of
rows (``calls``) and random programs (``programs``).

``autograd.testing.calls`` builds calls of rows from them; they serve tests of your own functions as well. Shapes and
parameters are drawn by hypothesis, so that they shrink; the numbers come from a generator with a drawn seed.
"""

import importlib
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from ..backend import scalar
from ..table import REALS, Domain

try:
    from hypothesis import HealthCheck, given, settings
    from hypothesis import strategies as st
except ImportError:
    raise ImportError(
        'autograd.testing.strategies needs hypothesis; install it with: pip install "hammer-grad[test]"'
    ) from None

__all__ = [  # noqa: F822 (calls and programs are imported when first used)
    "HealthCheck", "arrays", "axes", "axis", "broadcasting", "calls", "dtypes", "generator", "given", "index_expressions",
    "programs", "settings", "shapes", "spread", "st",
]  # fmt: skip

Shape = tuple[int, ...]
Draw = Any


@lru_cache  # as the next ones: making a strategy costs more than drawing from it
def shapes(min_ndim: int = 0, max_ndim: int = 3, min_side: int = 0, max_side: int = 4) -> st.SearchStrategy[Shape]:
    """Shapes of small arrays; most of them are not empty."""
    sides = st.sampled_from([n for n in (2, 3, 1, 4, 2, 3, 1, 3, 2, 0) if min_side <= n <= max_side])
    return st.lists(sides, min_size=min_ndim, max_size=max_ndim).map(tuple)


@lru_cache
@st.composite
def broadcasting(draw: Draw, n: int, min_side: int = 0) -> list[Shape]:
    """``n`` shapes that broadcast together: axes of length 1 stretched, leading axes missing."""
    full = draw(shapes(min_side=min_side))
    found = []
    for _ in range(n):
        how = draw(st.sampled_from(["full", "full", "stretched", "shorter"]))
        shape = full[draw(st.integers(0, len(full))) :] if how == "shorter" else full
        ones = (
            draw(st.lists(st.booleans(), min_size=len(shape), max_size=len(shape)))
            if how != "full"
            else [False] * len(shape)
        )
        found.append(tuple(1 if one else k for one, k in zip(ones, shape, strict=True)))
    return found


def axis(ndim: int) -> st.SearchStrategy[int]:
    """One axis of an array of ``ndim`` axes, counted from either end."""
    return st.integers(-ndim, ndim - 1)


@lru_cache
@st.composite
def axes(draw: Draw, ndim: int, none: bool = True) -> Any:
    """What a reduction takes: None, an axis or a tuple of axes, counted from either end."""
    kinds = ["none"] * none + ["one", "some"] * (ndim > 0)
    kind = draw(st.sampled_from(kinds))
    if kind == "none":
        return None
    if kind == "one":
        return draw(axis(ndim))
    chosen = draw(st.lists(st.integers(0, ndim - 1), min_size=1, max_size=ndim, unique=True))
    return tuple(a - ndim if draw(st.booleans()) else a for a in chosen)


@st.composite
def arrays(draw: Draw, shapes: Sequence[Shape], domains: Domain | Sequence[Domain] = REALS) -> list[Any]:
    """float64, int64 or boolean arrays from domains. The inexact numbers of a call all differ, so that nothing ties."""
    domains = [domains] * len(shapes) if isinstance(domains, Domain) else list(domains)
    rng = generator(draw)
    found: list[Any] = [None] * len(shapes)
    for i, (shape, domain) in enumerate(zip(shapes, domains, strict=True)):
        if domain.kind == "bool":
            found[i] = rng.integers(0, 2, shape).astype(bool)
        elif domain.kind == "int":
            found[i] = rng.integers(int(domain.low), int(domain.high), shape, endpoint=True)
    for domain in {d for d in domains if d.kind == "inexact"}:
        places = [i for i, d in enumerate(domains) if d == domain]
        values, start = spread(rng, sum(math.prod(shapes[i]) for i in places), domain), 0
        for i in places:
            n = math.prod(shapes[i])
            found[i], start = values[start : start + n].reshape(shapes[i]), start + n
    return [scalar(np.asarray(a)) for a in found]


def generator(draw: Draw) -> np.random.Generator:
    """A NumPy generator with a drawn seed."""
    return np.random.default_rng(draw(st.integers(0, 2**32 - 1)))


def spread(rng: np.random.Generator, n: int, domain: Domain = REALS) -> np.ndarray:
    """``n`` numbers of a domain in random order, one from the middle of each n-th part of it."""
    ends = [domain.low]
    for point in sorted(domain.avoid):
        ends += [point - domain.gap, point + domain.gap]
    ends.append(domain.high)
    pieces = [(a, b) for a, b in zip(ends[0::2], ends[1::2], strict=True) if b > a]
    t = (rng.permutation(n) + rng.uniform(0.2, 0.8, n)) * (sum(b - a for a, b in pieces) / max(n, 1))
    x = np.zeros(n)
    for a, b in pieces:
        x = np.where((t >= 0) & (t <= b - a), a + t, x)
        t = t - (b - a)
        t = np.where(t <= 0, -1.0, t)
    return x


@st.composite
def index_expressions(draw: Draw, shape: Shape, repeats: bool = True) -> Any:
    """Index expressions that fit a shape: numbers, slices, None, ``...``, integer arrays and boolean masks, mixed.

    ``repeats=False`` leaves out integer arrays that name a place twice.
    """
    rng = generator(draw)
    if shape and draw(st.integers(0, 4)) == 0:  # one mask over the leading axes
        lead = draw(st.integers(1, len(shape)))
        return rng.integers(0, 2, shape[:lead]).astype(bool)
    parts: list[Any] = []
    used = draw(st.integers(0, len(shape)))
    advanced = draw(st.booleans())
    count = draw(st.integers(1, 3))
    for n in shape[:used]:
        kinds = (
            ["slice", "slice"] + ["number"] * (n > 0) + ["array"] * (advanced and (n > 0 if repeats else n >= count))
        )
        kind = draw(st.sampled_from(kinds))
        if kind == "slice":
            bounds = st.none() | st.integers(-n - 1, n + 1)
            parts.append(slice(draw(bounds), draw(bounds), draw(st.sampled_from([None, 1, 2, -1, -2]))))
        elif kind == "number":
            parts.append(draw(st.integers(-n, n - 1)))
        else:
            places = rng.integers(0, n, count) if repeats else rng.permutation(n)[:count]
            parts.append(np.where(rng.integers(0, 2, count) == 1, places - n, places))
    if draw(st.integers(0, 2)) == 0:
        parts.insert(draw(st.integers(0, len(parts))) if used == len(shape) else len(parts), Ellipsis)
    if draw(st.integers(0, 3)) == 0:
        parts.insert(draw(st.integers(0, len(parts))), None)
    return parts[0] if len(parts) == 1 and draw(st.booleans()) else tuple(parts)


def dtypes(kinds: str = "fc") -> st.SearchStrategy[np.dtype]:
    """NumPy dtypes of these kinds: "f" floating-point, "c" complex, "i" signed, "u" unsigned, "b" boolean; wide ones first."""
    found = [np.dtype(name) for kind in kinds for name in _DTYPES[kind]]
    return st.sampled_from(found)


_DTYPES = {
    "f": ("float64", "float32", "float16"),
    "c": ("complex128", "complex64"),
    "i": ("int64", "int32", "int16", "int8"),
    "u": ("uint64", "uint32", "uint16", "uint8"),
    "b": ("bool",),
}


def __getattr__(name: str) -> Any:
    if name in ("calls", "programs"):  # they import this module
        module = "calls" if name == "calls" else "generation"
        return getattr(importlib.import_module("." + module, __package__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
