"""How rough a gradient is, by scale: the exponent H of E |D_σ − D_{σ/2}|² ~ σ^{2H}.

H is about 2 where the third derivatives are bounded (a pair x ± σu cancels the first order), and H itself where the gradient is a
fractal with Hölder exponent H < 2: then a smaller scale does not make the gradient agree with itself faster than σ^H.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import optree

from autograd import backend, grad, vmap
from autograd.gradients.scaling import number, whole

from .directions import Kind, Source, directions, generator


class Roughness(NamedTuple):
    """How a gradient changes with the scale at which it is looked at.

    Attributes:
        exponent: H of all coordinates together; infinite where the gradient does not depend on the scale, as of a quadratic.
        by_coordinate: H of each coordinate: a tree like the argument.
        scales: the scales σ.
        structure: E |D_σ − D_{σ/2}|², summed over coordinates, at each of them.
    """

    exponent: float
    by_coordinate: Any
    scales: tuple[float, ...]
    structure: np.ndarray


def roughness(
    f: Callable, x: Any, scales: Sequence[float], n: int = 64, *, rng: Source, directions: Kind = "sobol"
) -> Roughness:
    """The roughness exponent of the gradient of f at x, over ``scales``.

    Args:
        f: a function of a tree of real floating-point arrays that returns one number.
        x: where.
        scales: two or more scales above 0; the gradient is taken at each and at half of each.
        n: directions u; D_σ = ½ [∇f(x + σu) + ∇f(x − σu)] of one direction, and E is the mean over directions.
        rng, directions: as for ``smooth``.

    Raises:
        ValueError: fewer than two scales, or one that is not above 0.
    """
    levels = [number(f"roughness: scales[{j}]", s, "(0, inf)") for j, s in enumerate(scales)]
    if len(set(levels)) < 2:
        raise ValueError(f"roughness: an exponent needs two different scales or more, not {list(scales)}")
    u = _directions(x, whole("roughness: n", n), rng, directions)

    def pair(v: Any, scale: float) -> Any:
        at = lambda sign: grad(f)(optree.tree_map(lambda a, b: a + sign * scale * b, x, v))
        return optree.tree_map(lambda a, b: 0.5 * (a + b), at(1.0), at(-1.0))

    found: dict[float, list[np.ndarray]] = {}
    for scale in dict.fromkeys(s for level in levels for s in (level, 0.5 * level)):
        leaves = optree.tree_leaves(vmap(lambda v, s=scale: pair(v, s))(u))
        found[scale] = [np.asarray(backend.to_device(getattr(a, "raw", a), "cpu")) for a in leaves]
    squares = [[_square(a, b) for a, b in zip(found[s], found[0.5 * s], strict=True)] for s in levels]
    slopes = [_slope(levels, np.stack(parts)) for parts in zip(*squares, strict=True)]
    total = np.array([sum(float(np.sum(part)) for part in parts) for parts in squares])
    spec = optree.tree_structure(x)  # type: ignore[arg-type]
    return Roughness(float(_slope(levels, total)), optree.tree_unflatten(spec, slopes), tuple(levels), total)


_directions = lambda x, n, rng, kind: directions(x, n, generator(rng, "roughness"), kind, "roughness")


def _square(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The mean square of the difference over the first axis; 0 where it is no more than rounding."""
    wide = (np.asarray(x, np.float64) for x in (a, b))
    mean = np.mean(np.square(next(wide) - next(wide)), axis=0)
    noise = 16.0 * np.finfo(a.dtype).eps
    return np.where(mean <= noise**2 * np.mean(np.square(np.asarray(a, np.float64)), axis=0), 0.0, mean)


def _slope(scales: Sequence[float], squares: np.ndarray) -> Any:
    """Half the slope of log squares on log scales, along the first axis; infinite where a square is 0."""
    t = np.log(scales) - np.mean(np.log(scales))
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = 0.5 * np.tensordot(t / np.sum(t * t), np.log(squares), axes=1)
    return np.where(np.any(squares == 0.0, axis=0), np.inf, slope)[()]
