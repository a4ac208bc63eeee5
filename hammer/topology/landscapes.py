"""Persistence of functions on a grid: slices and volumes of a loss, images, series of numbers.

Each number is the value of a cell (an interval, square, cube, …), and the sublevel set at t is the union of the cells with values up to
t, so that cells that share a corner are connected. Components are born at minima and die at the lowest saddle that leads to a deeper
one; loops of dimension (axes − 1) die at maxima. For superlevel sets take ``-values``.

``loss_landscape`` evaluates a loss around parameters, and ``loss_path`` between two of them.
"""

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optree

from autograd import backend, ops
from autograd.context import no_grad
from autograd.tensor import DiffTensor

from .basins import basins
from .clouds import _dimensions
from .diagram import Diagram, found_places, pick, plain
from .libraries import gudhi
from .metric import host, ranked


def cubical(values: Any, dimensions: Sequence[int] | None = None, places: bool | None = None) -> tuple[Diagram, ...]:
    """The persistence diagrams of the sublevel sets of a grid of cells, one for each of ``dimensions``.

    Args:
        values: an array or DiffTensor with an axis for each dimension of the grid; all finite.
        dimensions: of homology; None: 0 to the number of axes less one. Components (0) need nothing else, and are
            faster with gudhi; the others need it.
        places: whether to find the cells of births and deaths too; None: for recorded tensors, whose derivative needs them.

    Returns:
        Diagrams in the dtype of the values. With a recorded DiffTensor they can be
        differentiated: the derivative of a birth or death is 1 at its cell.

    Raises:
        ImportError: a dimension above 0 without gudhi. ValueError: a value is not finite, or the grid is empty.

    One and two axes are fast; three and more are far slower. To find places takes most of the time where it is done: cells are sorted.
    """
    grid = host(values, "cubical")
    if grid.ndim == 0 or grid.size == 0:
        raise ValueError(f"cubical: needs a grid with at least one axis and one cell, not shape {grid.shape}")
    wanted = _dimensions(range(grid.ndim) if dimensions is None else dimensions, "cubical")
    shape = grid.shape
    if not found_places(values, places) and (wanted != [0] or importlib.util.find_spec("gudhi") is not None):
        library = gudhi("sklearn.cubical_persistence", "cubical with dimensions above 0")
        (diagrams,) = library.CubicalPersistence(wanted, homology_coeff_field=2).fit_transform([grid])
        return tuple(plain(k, diagram, values) for k, diagram in zip(wanted, diagrams, strict=True))
    if wanted == [0]:
        tree = basins(grid)
        flat = [np.ravel_multi_index(tuple(places.T), shape) for places in (tree.minima, tree.saddles)]
        found = {0: (np.stack([flat[0][1:], flat[1]], axis=1), flat[0][:1])}
    else:
        found = _cubical_ranks(grid, wanted)
    x = values if hasattr(values, "dtype") and "float" in str(values.dtype) else grid
    line = ops.reshape(x, (grid.size,))
    made = []
    for k in wanted:
        pairs, essential = found[k]
        heights = grid.reshape(-1)[pairs]
        pairs = pairs[heights[:, 1] > heights[:, 0]]
        cells = np.stack(np.unravel_index(pairs, shape), axis=-1)
        points = ops.reshape(pick(line, pairs.reshape(-1)), (len(pairs), 2))
        made.append(
            Diagram(k, points, pick(line, essential), cells, np.stack(np.unravel_index(essential, shape), axis=-1))
        )
    return tuple(made)


def _cubical_ranks(grid: np.ndarray, dimensions: list[int]) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Flat places of pairs, and of what is essential, for each dimension, from the ranks of the cells."""
    library = gudhi("sklearn.cubical_persistence", "cubical with dimensions above 0")
    order, ranks = ranked(grid)
    transform = library.CubicalPersistence(dimensions, homology_coeff_field=2)
    (diagrams,) = transform.fit_transform([ranks.astype(np.float64).reshape(grid.shape)])
    found = {}
    for k, diagram in zip(dimensions, diagrams, strict=True):
        lives = np.isfinite(diagram[:, 1])
        found[k] = order[diagram[lives].astype(np.int64)], order[diagram[~lives, 0].astype(np.int64)]
    return found


# ---- the loss around parameters and between them ----


@dataclass(frozen=True)
class Landscape:
    """A loss on a grid around parameters.

    Attributes:
        values: the loss, one axis for each direction; float64.
        coordinates: for each axis the coefficients of its direction.
    """

    values: np.ndarray
    coordinates: tuple[np.ndarray, ...]


def random_directions(params: Any, count: int, rng: np.random.Generator, normalize: str = "filter") -> list:
    """Gaussian directions in parameter space, as trees like ``params``.

    Args:
        params: a tree of arrays.
        count: how many.
        rng: where they come from.
        normalize: "filter": each slice along a parameter's last axis (the weights of one output of ``nn.Linear``: its weight is
            (in, out)) gets the norm of the parameter's own, and vectors get zero (Li et al. 2018, "Visualizing the loss landscape
            of neural nets", section 4); "layer": each array the norm of the parameter's; "none".
    """
    if normalize not in ("filter", "layer", "none"):
        raise ValueError(f'random_directions: normalize must be "filter", "layer" or "none", not {normalize!r}')
    if count < 1:
        raise ValueError(f"random_directions: count must be at least 1, not {count!r}")

    def one(p: Any) -> np.ndarray:
        p = host(p, "random_directions")
        d = rng.standard_normal(p.shape)
        if normalize == "none":
            return d
        if normalize == "layer":
            return d * (float(np.linalg.norm(p)) / max(float(np.linalg.norm(d)), 1e-300))
        if p.ndim < 2:
            return np.zeros_like(d)
        axes = tuple(range(p.ndim - 1))
        size = lambda x: np.sqrt(np.square(x).sum(axis=axes, keepdims=True))
        return d * (size(p) / np.maximum(size(d), 1e-300))

    return [optree.tree_map(one, params) for _ in range(count)]


def loss_landscape(
    loss: Callable[[Any], Any], params: Any, directions: Sequence, radius: float = 1.0, resolution: int = 41
) -> Landscape:
    """The loss at ``params + Σ c_k directions[k]`` for all coefficients of a grid over [−radius, radius]: resolution ** axes calls.

    Args:
        loss: ``loss(params) -> number``.
        params: a tree of arrays or DiffTensors. They are not changed; the loss gets arrays of the same dtypes.
        directions: trees like ``params``, one for each axis; see ``random_directions``.
        radius: how far to go along each.
        resolution: points along each axis; an odd number has the parameters themselves in the middle.
    """
    if not directions:
        raise ValueError("loss_landscape: needs at least one direction, see random_directions")
    if resolution < 2:
        raise ValueError(f"loss_landscape: resolution must be at least 2, not {resolution!r}")
    line: np.ndarray = np.linspace(-radius, radius, resolution)
    values = np.empty((resolution,) * len(directions))
    with no_grad():
        for place in np.ndindex(values.shape):
            values[place] = float(loss(_moved(params, directions, [float(line[i]) for i in place])))
    return Landscape(values, (line,) * len(directions))


@dataclass(frozen=True)
class Path:
    """A loss along a straight line between two points of parameter space.

    Attributes:
        values: the loss at equal steps from the first end to the second.
        barrier: the highest rise of the loss above the straight line between its values at the ends, at least 0 (Frankle et
            al. 2020, "Linear mode connectivity", section 2).
        saddle: how far a level has to rise above the higher end until both ends are in one component of the sublevel set; the
            same as ``max(values) − max(values at the ends)``.
    """

    values: np.ndarray
    barrier: float
    saddle: float


def loss_path(loss: Callable[[Any], Any], start: Any, end: Any, points: int = 25) -> Path:
    """The loss on the straight line from the parameters ``start`` to ``end``, and the barrier on it."""
    if points < 3:
        raise ValueError(f"loss_path: points must be at least 3, not {points!r}")
    direction = optree.tree_map(lambda a, b: host(b, "loss_path") - host(a, "loss_path"), start, end)
    along = np.linspace(0.0, 1.0, points)
    with no_grad():
        values = np.array([float(loss(_moved(start, [direction], [t]))) for t in along])
    rise = values - ((1 - along) * values[0] + along * values[-1])
    return Path(values, float(max(rise.max(), 0.0)), float(values.max() - max(values[0], values[-1])))


def _moved(params: Any, directions: Sequence, coefficients: Sequence) -> Any:
    """The parameters plus a combination of directions, in the parameters' own dtypes and library."""

    def one(p: Any, *ds: Any) -> Any:
        raw = p.raw if isinstance(p, DiffTensor) else p
        moved = host(raw, "params")
        for c, d in zip(coefficients, ds, strict=True):
            if tuple(d.shape) != tuple(raw.shape):
                raise ValueError(
                    f"a direction has another shape than its parameter, {tuple(d.shape)} for {tuple(raw.shape)}"
                )
            moved = moved + c * host(d, "direction")
        return backend.to_device(moved.astype(str(raw.dtype).rpartition(".")[2]), backend.place_of(raw))

    return optree.tree_map(one, params, *directions)
