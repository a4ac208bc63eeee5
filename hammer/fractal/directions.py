"""Directions in which a function is looked at: standard normal vectors, for the leaves of a tree.

Quasi-random directions ("sobol") are points of a scrambled Sobol' sequence taken through the normal distribution's inverse
(Owen 1998; Sobol' 1967): each of them is standard normal, and n of them fill the space more evenly than independent ones
("gaussian"), so means over them are less noisy.
"""

import math
from typing import Any, Literal

import numpy as np
import optree
from scipy import special
from scipy.stats import qmc

from autograd import DiffTensor, backend
from autograd.ops import windows
from autograd.shapes import numpy_dtype, shape_of

Kind = Literal["sobol", "gaussian"]
Source = np.random.Generator | np.random.SeedSequence
"""A Generator is drawn from at every use; a SeedSequence gives the same numbers at every use."""


def generator(rng: Any, name: str) -> np.random.Generator:
    """The generator to draw from now."""
    if isinstance(rng, np.random.Generator):
        return rng
    if isinstance(rng, np.random.SeedSequence):
        same = np.random.SeedSequence(rng.entropy, spawn_key=rng.spawn_key, pool_size=rng.pool_size)
        return np.random.default_rng(same)  # a copy, for SciPy spawns from the sequence of a generator that it is given
    raise TypeError(
        f"{name}: rng must be a numpy.random.Generator (new directions at every call) or a numpy.random.SeedSequence (the same ones "
        f"at every call), not {type(rng).__name__}"
    )


def normal(n: int, size: int, rng: np.random.Generator, kind: Kind = "sobol") -> np.ndarray:
    """n standard normal vectors, float64 of shape (n, size).

    Raises:
        ValueError: for "sobol" a number that is no power of two, where its points are not balanced, or more than 21,201 elements.
    """
    if kind == "gaussian" or not size:
        return rng.standard_normal((n, size))
    if kind != "sobol":
        raise ValueError(f"directions must be 'sobol' or 'gaussian', not {kind!r}")
    if n & (n - 1):
        raise ValueError(
            f"n = {n}: quasi-random directions are balanced only in powers of two; write {1 << n.bit_length()}, or directions='gaussian'"
        )
    if size > qmc.Sobol.MAXDIM:
        raise ValueError(
            f"quasi-random directions exist up to {qmc.Sobol.MAXDIM:,} elements, and the argument has {size:,}; write directions='gaussian'"
        )
    points = qmc.Sobol(size, scramble=True, rng=rng).random(n)
    return special.ndtri(np.clip(points, 2.0**-33, 1 - 2.0**-33))  # type: ignore[no-any-return]


def directions(tree: Any, n: int, rng: np.random.Generator, kind: Kind, name: str) -> Any:
    """n standard normal directions for a tree of arrays: a tree like it with an axis more, the first, of length n.

    Each leaf has the dtype, the library and the device of the tree's. Raises TypeError for a leaf that is no real floating-point array.
    """
    leaves, spec = optree.tree_flatten(tree)  # type: ignore[arg-type,var-annotated]
    for i, leaf in enumerate(leaves):
        if not isinstance(leaf, float) and "float" not in str(getattr(leaf, "dtype", type(leaf).__name__)):
            raise TypeError(
                f"{name}: leaf {i} of the argument is {getattr(leaf, 'dtype', type(leaf).__name__)}; it must be a real floating-point array"
            )
    shapes = [shape_of(leaf) for leaf in leaves]
    sizes = [math.prod(shape) for shape in shapes]
    drawn = np.split(normal(n, sum(sizes), rng, kind), np.cumsum(sizes)[:-1], axis=1)
    return optree.tree_unflatten(
        spec,
        [_beside(part.reshape(n, *shape), leaf) for part, shape, leaf in zip(drawn, shapes, leaves, strict=True)],
    )


def _beside(array: np.ndarray, leaf: Any) -> Any:
    if isinstance(leaf, float):
        return array
    array = array.astype(numpy_dtype(leaf.dtype))
    return windows.constant(array, leaf) if isinstance(leaf, DiffTensor) or backend.is_array(leaf) else array
