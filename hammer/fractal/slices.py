"""Slices through a loss, in directions normalised to the filters of the parameters, and how rough they are by scale.

A network's loss does not change when a layer is scaled and the next one scaled back, so distances between parameters mean little. Li et al.
(2018, "Visualizing the Loss Landscape of Neural Nets", section 4) take a random direction whose every filter (the weights of one output unit)
has the norm of that filter of the parameters: then slices of different networks can be compared.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optree

from autograd import backend, ops, vmap
from autograd.gradients.scaling import number, whole

from ..drawing import colours, png
from .directions import directions as drawn


def filter_direction(params: Any, rng: np.random.Generator, axis: int = 0) -> Any:
    """A random direction for a tree of parameters, each filter of the norm of that filter of the parameters.

    A filter, the weights of one output, is what an index of ``axis`` selects, in leaves of two axes or more: 0 for weights (out, in, …), as those
    of ``autograd.nn`` are, -1 for (in, out). Leaves of fewer axes, biases and scales, do not move.
    """

    def one(p: Any, d: Any) -> Any:
        if len(p.shape) < 2:
            return d * 0.0
        xp = backend.xp(d)
        axes = tuple(a for a in range(len(p.shape)) if a != axis % len(p.shape))
        norm = lambda a: xp.sqrt(xp.sum(a * a, axis=axes, keepdims=True))
        size = norm(d)
        return d * (norm(p) / xp.where(size == 0, xp.ones_like(size), size))

    found = drawn(params, 1, rng, "gaussian", "filter_direction")
    return optree.tree_map(lambda p, d: one(p, d[0, ...]), _raw(params), found)


@dataclass(frozen=True)
class Slice:
    """Losses on a line or a square through parameters.

    Attributes:
        places: the multiples of the direction, (n,).
        values: the losses: (n,) for one direction, (n, n) for two, the first direction along the first axis.
    """

    places: np.ndarray
    values: np.ndarray

    def roughness(self, order: int = 2) -> "ScaleRoughness":
        """How the losses change with distance; see ``roughness_by_scale``."""
        return roughness_by_scale(self.values, float(self.places[1] - self.places[0]), order)

    def picture(self, scale: int = 1) -> bytes:
        """A PNG of a square slice: dark is low, by the logarithm of the height above the lowest point."""
        if self.values.ndim != 2:
            raise ValueError("picture: a slice along one direction is a curve, not an image; use two directions")
        above = self.values - np.nanmin(self.values)
        height = np.log1p(above / (np.nanmedian(above) or 1.0))
        return png(colours(height[::-1], 0.0, float(np.nanmax(height)) or 1.0), scale)


def landscape(
    loss: Callable[[Any], Any],
    params: Any,
    directions: Sequence[Any],
    span: float = 1.0,
    points: int = 65,
    chunk: int = 256,
) -> Slice:
    """The loss at ``params + a · d`` (or ``+ b · e``) for a, b from −span to span.

    Args:
        loss: a function of a tree of arrays that returns one number.
        params: the middle.
        directions: one or two trees like ``params``, for example of ``filter_direction``.
        span: how far, in multiples of the directions.
        points: on each side; odd numbers include the middle.
        chunk: how many losses are computed together, by ``vmap``.
    """
    if len(directions) not in (1, 2):
        raise ValueError(f"landscape: one or two directions, not {len(directions)}")
    reach, count = number("landscape: span", span, "(0, inf)"), whole("landscape: points", points, 2)
    places = np.linspace(-reach, reach, count)
    offsets = np.stack(np.meshgrid(*[places] * len(directions), indexing="ij"), axis=-1).reshape(-1, len(directions))
    centre = _raw(params)

    def at(offset: Any) -> Any:
        def moved(p: Any, *ds: Any) -> Any:
            for i, d in enumerate(ds):
                p = p + ops.astype(offset[i], p.dtype) * d
            return p

        return loss(optree.tree_map(moved, centre, *directions))

    together = vmap(at)
    found = [together(offsets[i : i + chunk]) for i in range(0, len(offsets), whole("landscape: chunk", chunk))]
    values = np.concatenate([np.asarray(getattr(f, "raw", f), np.float64) for f in found])
    return Slice(places, values.reshape((count,) * len(directions)))


def _raw(tree: Any) -> Any:
    return optree.tree_map(lambda p: getattr(p, "raw", p), tree)


@dataclass(frozen=True)
class ScaleRoughness:
    """Mean squared differences of a slice by distance, S(h) ~ h^{2 exponent}."""

    distances: np.ndarray
    structure: np.ndarray
    exponent: float


def roughness_by_scale(values: Any, spacing: float, order: int = 2) -> ScaleRoughness:
    """The structure function of equally spaced values along all their axes, at distances 1, 2, 4, … of the spacing.

    Args:
        values: real numbers of shape (n,) or (n, n), at least 5 along each axis.
        spacing: between neighbours.
        order: 1: S(h) = E |v(x + h) − v(x)|², whose exponent is at most 1; 2: of v(x + h) − 2 v(x) + v(x − h), at most 2 (a smooth
            function has 2, a curve with Hölder exponent H has H).

    Raises:
        ValueError: too few values, or constant ones.
    """
    array = np.asarray(values, float)
    if order not in (1, 2):
        raise ValueError(f"roughness_by_scale: order must be 1 or 2, not {order!r}")
    if not array.ndim or min(array.shape) < 5:
        raise ValueError(f"roughness_by_scale: at least 5 values along each axis are needed, not shape {array.shape}")
    step = number("roughness_by_scale: spacing", spacing, "(0, inf)")
    lags = [2**j for j in range(64) if order * 2**j <= (min(array.shape) - 1) // 2]
    structure = np.array([_structure(array, lag, order) for lag in lags])
    if len(lags) < 2 or not (structure > 0).all():
        raise ValueError("roughness_by_scale: the values do not differ, so they have no roughness")
    distances = step * np.array(lags)
    x = np.log(distances) - np.log(distances).mean()
    return ScaleRoughness(distances, structure, float(0.5 * x @ np.log(structure) / (x @ x)))


def _structure(array: np.ndarray, lag: int, order: int) -> float:
    found = []
    for axis in range(array.ndim):
        d = np.moveaxis(array, axis, 0)
        for _ in range(order):
            d = d[lag:] - d[:-lag]
        found.append(np.mean(d * d))
    return float(np.mean(found))
