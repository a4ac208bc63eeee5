"""NumPy's functions that join arrays and cut them, as rows of the op table, with NumPy's signatures."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import ops
from ..tensor import DiffTensor
from ._face import array_of, face, rule
from .layout import atleast_1d, atleast_2d, atleast_3d

# ---- joining: lists that hold tensors are the common case ----


def _joiner(plain: Callable) -> Callable[[Callable], Callable]:
    """``rule`` for functions of a sequence of arrays, which may also be an iterator (as HIPS autograd allows)."""

    def decorate(function: Callable) -> Callable:
        of_sequence = face(plain, function)

        @functools.wraps(of_sequence)
        def call(arrays: Any, *args: Any, **kwargs: Any) -> Any:
            return of_sequence(arrays if hasattr(arrays, "__len__") else list(arrays), *args, **kwargs)

        return call

    return decorate


def _parts(arrays: Any) -> list:
    return [array_of(a) if type(a) in (DiffTensor, list, tuple) else np.asarray(a) for a in arrays]


@_joiner(np.concatenate)
def concatenate(arrays: Any, axis: int | None = 0, dtype: Any = None, casting: str = "same_kind") -> Any:
    parts = _parts(arrays)
    if axis is None:
        parts, axis = [ops.ravel(p) for p in parts], 0
    joined = ops.concat(parts, axis=int(axis))
    return joined if dtype is None else ops.astype(joined, dtype)


concat = concatenate


@_joiner(np.stack)
def stack(arrays: Any, axis: int = 0, dtype: Any = None, casting: str = "same_kind") -> Any:
    joined = ops.stack(_parts(arrays), axis=int(axis))
    return joined if dtype is None else ops.astype(joined, dtype)


@_joiner(np.vstack)
def vstack(tup: Any, *, dtype: Any = None, casting: str = "same_kind") -> Any:
    return concatenate([atleast_2d(a) for a in _parts(tup)], 0, dtype)


@_joiner(np.hstack)
def hstack(tup: Any, *, dtype: Any = None, casting: str = "same_kind") -> Any:
    parts = [atleast_1d(a) for a in _parts(tup)]
    return concatenate(parts, 0 if len(parts[0].shape) == 1 else 1, dtype)


@_joiner(np.dstack)
def dstack(tup: Any) -> Any:
    return concatenate([atleast_3d(a) for a in _parts(tup)], 2)


@_joiner(np.column_stack)
def column_stack(tup: Any) -> Any:
    return concatenate([ops.reshape(a, shape=(-1, 1)) if len(a.shape) < 2 else a for a in _parts(tup)], 1)


@rule(np.append)
def append(arr: Any, values: Any, axis: int | None = None) -> Any:
    return concatenate([array_of(arr), array_of(values)], axis)


def row_stack(tup: Any, *, dtype: Any = None, casting: str = "same_kind") -> Any:
    """vstack under its older name."""
    return vstack(tup, dtype=dtype, casting=casting)


# ---- cutting ----


@rule(np.array_split)
def array_split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list:
    ary = array_of(ary)
    n = ary.shape[axis]
    cuts = indices_or_sections
    if isinstance(cuts, int | np.integer):
        each, extra = divmod(n, int(cuts))
        cuts = np.cumsum([each + 1] * extra + [each] * (int(cuts) - extra))[:-1]
    return list(ops.split(ary, sections=tuple(int(c) for c in cuts), axis=int(axis)))


@rule(np.split)
def split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list:
    cuts = indices_or_sections
    cuts = int(cuts) if isinstance(cuts, int | np.integer) else tuple(int(c) for c in cuts)
    return list(ops.split(array_of(ary), sections=cuts, axis=int(axis)))


@rule(np.vsplit)
def vsplit(ary: Any, indices_or_sections: Any) -> list:
    return split(ary, indices_or_sections, 0)


@rule(np.hsplit)
def hsplit(ary: Any, indices_or_sections: Any) -> list:
    ary = array_of(ary)
    return split(ary, indices_or_sections, 0 if len(ary.shape) == 1 else 1)


@rule(np.dsplit)
def dsplit(ary: Any, indices_or_sections: Any) -> list:
    return split(ary, indices_or_sections, 2)


FACES: dict[str, Callable] = {
    f.__name__: f
    for f in (
        concatenate,
        stack,
        vstack,
        hstack,
        dstack,
        column_stack,
        row_stack,
        append,
        array_split,
        split,
        vsplit,
        hsplit,
        dsplit,
    )
}
FACES["concat"] = concat
