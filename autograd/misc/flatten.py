"""Trees of arrays as one vector, and back."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import optree

from .. import backend, ops
from ..tensor import DiffTensor


def flatten(value: Any) -> tuple[Any, Callable[[Any], Any]]:
    """A tree (lists, tuples, dicts) of arrays and numbers as one vector, and the function that makes the tree again.

    Dicts go by their sorted keys. The parts come back in their own shapes and floating dtypes (integers as float64). Both
    directions are differentiable.
    """
    leaves, tree = optree.tree_flatten(value)
    parts = [x if isinstance(x, DiffTensor) else backend.asarray(x) for x in leaves]
    shapes = [tuple(p.shape) for p in parts]
    dtypes = [p.dtype if backend.is_inexact(p.dtype) else np.dtype(float) for p in parts]
    ends = np.cumsum([math.prod(s) for s in shapes], dtype=int).tolist()

    def unflatten(vector: Any) -> Any:
        """The tree that the elements of a vector make."""
        vector = vector if hasattr(vector, "shape") else np.asarray(vector)
        total = ends[-1] if ends else 0
        if tuple(vector.shape) != (total,):
            raise ValueError(
                f"unflatten: a vector of {total} elements is needed, not an array of shape {tuple(vector.shape)}"
            )
        cut = [ops.reshape(vector[end - math.prod(s) : end], shape=s) for end, s in zip(ends, shapes, strict=True)]
        made = [c if c.dtype == t else ops.astype(c, t) for c, t in zip(cut, dtypes, strict=True)]
        return optree.tree_unflatten(tree, [m.copy() if isinstance(m, np.ndarray) else m for m in made])

    vector = ops.concat([ops.reshape(p, shape=(-1,)) for p in parts], axis=0) if parts else np.zeros(0)
    vector = ops.astype(vector, float) if not backend.is_inexact(vector.dtype) else vector
    return vector, unflatten


def flatten_func(func: Callable, example: Any) -> tuple[Callable, Callable, Any]:
    """A function of trees as one of vectors: the new function, ``unflatten``, and the example as a vector."""
    vector, unflatten = flatten(example)
    return (lambda x, *args: flatten(func(unflatten(x), *args))[0]), unflatten, vector
