"""Index arithmetic: where in memory an element of a term lies, as a linear form of loop indices.

An ``Index`` is ``(constant, ((variable, coefficient), ...))``; a variable is the number of an axis of the loop nest, or the name of an
integer that is known when the program runs only. A position is one index for each axis.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

from .lazy import Term

Index = tuple[int, tuple[tuple[Any, int], ...]]
Position = tuple[Index, ...]
ZERO: Index = (0, ())
VIEWS = frozenset(("permute", "stretch", "reshape", "slice"))


def fixed(value: int) -> Index:
    return (value, ())


def variable(name: Any) -> Index:
    return (0, ((name, 1),))


def combined(terms: Sequence[tuple[Index, int]], constant: int = 0) -> Index:
    """Σ coefficient · index + constant."""
    found: dict[Any, int] = {}
    for (offset, parts), factor in terms:
        constant += offset * factor
        for name, k in parts:
            found[name] = found.get(name, 0) + k * factor
    return constant, tuple(sorted(((n, k) for n, k in found.items() if k), key=lambda item: str(item[0])))


def contiguous(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides, in elements, of an array in C order."""
    strides, step = [], 1
    for n in reversed(shape):
        strides.append(step)
        step *= n
    return tuple(reversed(strides))


def groups(old: Sequence[int], new: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """The axes that a reshape turns into one another: the least groups of equal size. Axes of length 1 are left out,
    and of arrays without elements all."""
    if 0 in old or 0 in new:
        return []
    a = [i for i, n in enumerate(old) if n != 1]
    b = [j for j, n in enumerate(new) if n != 1]
    found = []
    i = j = 0
    while i < len(a) or j < len(b):
        left, right = [a[i]], [b[j]]
        p, q = old[a[i]], new[b[j]]
        i, j = i + 1, j + 1
        while p != q:
            if p < q:
                left.append(a[i])
                p *= old[a[i]]
                i += 1
            else:
                right.append(b[j])
                q *= new[b[j]]
                j += 1
        found.append((left, right))
    return found


def reshaped(old: Sequence[int], new: Sequence[int], at: Position) -> Position | None:
    """The position before a reshape of one after it; None if it is no linear form."""
    found = [ZERO] * len(old)
    for left, right in groups(old, new):
        if [old[i] for i in left] == [new[j] for j in right]:
            for i, j in zip(left, right, strict=True):
                found[i] = at[j]
            continue
        steps = contiguous([new[j] for j in right])
        flat = combined([(at[j], step) for j, step in zip(right, steps, strict=True)])
        if len(left) == 1:
            found[left[0]] = flat
        elif not flat[1]:
            rest = flat[0]
            for i, step in zip(left, contiguous([old[i] for i in left]), strict=True):
                found[i], rest = fixed(rest // step), rest % step
        else:
            return None
    return tuple(found)


def beneath(t: Term, at: Position) -> Position | None:
    """The position in a view's argument of one in the view; None for a reshape that is no linear form."""
    (x,) = t.args
    if t.op == "permute":
        found = [ZERO] * x.ndim
        for i, axis in enumerate(t.attrs):
            found[axis] = at[i]
        return tuple(found)
    if t.op == "stretch":
        return aligned(x.shape, at)
    if t.op == "slice":
        return tuple(combined([(p, step)], start) for p, (start, step) in zip(at, t.attrs, strict=True))
    return reshaped(x.shape, t.shape, at)


def aligned(shape: Sequence[int], at: Position) -> Position:
    """The position in an argument that is broadcast."""
    skip = len(at) - len(shape)
    return tuple(ZERO if n == 1 else p for n, p in zip(shape, at[skip:], strict=True))


def strided(t: Term, stored: Callable[[Term], bool]) -> tuple[Term, int, tuple[int, ...]]:
    """A term as a view of one that is stored in C order, or would be: that one, the offset and the strides in elements."""
    if t.op not in VIEWS or stored(t):
        return t, 0, contiguous(t.shape)
    (x,) = t.args
    base, offset, strides = strided(x, stored)
    if t.op == "permute":
        return base, offset, tuple(strides[a] for a in t.attrs)
    if t.op == "stretch":
        skip = t.ndim - x.ndim
        return base, offset, (0,) * skip + tuple(0 if n == 1 else s for n, s in zip(x.shape, strides, strict=True))
    if t.op == "slice":
        offset += sum(start * s for (start, _), s in zip(t.attrs, strides, strict=True))
        return base, offset, tuple(step * s for (_, step), s in zip(t.attrs, strides, strict=True))
    found = [0] * t.ndim
    for left, right in groups(x.shape, t.shape):
        for i, k in itertools.pairwise(left):
            if strides[i] != strides[k] * x.shape[k]:
                return x, 0, contiguous(t.shape)  # x has to be stored
        step = strides[left[-1]]
        for j in reversed(right):
            found[j] = step
            step *= t.shape[j]
    return base, offset, tuple(found)
