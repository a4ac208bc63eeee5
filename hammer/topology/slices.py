"""A loss seen on a grid around parameters, in the plane in which a run went, and on the line between two sets of parameters.

plane = trajectory_plane(trajectory.points(), params)       # or random_directions(params, 2, rng)
seen = loss_landscape(loss, params, plane.directions, plane.box(), path=plane.path)
cubical(seen.values), basins(seen.values), pictures.landscape(seen)
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optree

from autograd import backend
from autograd.context import no_grad
from autograd.tensor import DiffTensor

from .collect import flat
from .metric import host, host_points


@dataclass(frozen=True)
class Landscape:
    """A loss on a grid around parameters.

    Attributes:
        values: the loss, one axis for each direction; float64.
        coordinates: for each axis the coefficients of its direction.
        path: the places of a run's iterates in these coordinates, (iterates, axes), first one first; None: of no run.
    """

    values: np.ndarray
    coordinates: tuple[np.ndarray, ...]
    path: np.ndarray | None = None


def as_landscape(landscape: Any) -> Landscape:
    """A landscape with two axes: a Landscape, or an array whose cells count from 0 along each axis."""
    if not isinstance(landscape, Landscape):
        values = host(landscape, "landscape")
        landscape = Landscape(values, tuple(np.arange(n, dtype=np.float64) for n in values.shape))
    if landscape.values.ndim != 2 or landscape.values.size == 0:
        raise ValueError(f"landscape: a slice with two axes is shown, not one of shape {landscape.values.shape}")
    return landscape


def random_directions(
    params: Any, count: int, rng: np.random.Generator, normalize: str = "filter", axis: int = 0
) -> list:
    """Gaussian directions in parameter space, as trees like ``params``.

    Args:
        params: a tree of arrays.
        count: how many.
        rng: where they come from.
        normalize: "filter": see ``fractal.filter_direction`` (Li et al. 2018, "Visualizing the loss landscape of neural nets", section 4);
            "layer": each array the norm of the parameter's; "none".
        axis: whose index selects a filter: 0 for weights (out, in, …), as those of ``autograd.nn`` are; -1 for (in, out).
    """
    if normalize not in ("filter", "layer", "none"):
        raise ValueError(f'random_directions: normalize must be "filter", "layer" or "none", not {normalize!r}')
    if count < 1:
        raise ValueError(f"random_directions: count must be at least 1, not {count!r}")
    if normalize == "filter":
        from ..fractal import filter_direction  # with SciPy's statistics, which nothing else here waits for

        return [filter_direction(params, rng, axis) for _ in range(count)]

    def one(p: Any) -> np.ndarray:
        p = host(p, "random_directions")
        d = rng.standard_normal(p.shape)
        if normalize == "none":
            return d
        return d * (float(np.linalg.norm(p)) / max(float(np.linalg.norm(d)), 1e-300))

    return [optree.tree_map(one, params) for _ in range(count)]


@dataclass(frozen=True)
class TrajectoryPlane:
    """The plane through the last iterate of a run that shows most of its way.

    Attributes:
        directions: two trees like the parameters, orthogonal and of norm 1: what ``loss_landscape`` takes.
        path: (iterates, 2), the iterates' places in the plane (their orthogonal projections); the parameters are at 0, 0.
        explained: (2,), the shares of the iterates' variance along the two directions. What is left is off the plane, and there the
            loss at a place of the path is not the loss that the run had.
    """

    directions: list
    path: np.ndarray
    explained: np.ndarray

    def box(self, margin: float = 0.2) -> list[tuple[float, float]]:
        """The range of the path along each direction and ``margin`` times its extent more at either side, for ``loss_landscape``."""
        low, high = self.path.min(axis=0), self.path.max(axis=0)
        room = margin * (high - low)
        return [(float(a), float(b)) for a, b in zip(low - room, high + room, strict=True)]


def trajectory_plane(points: Any, params: Any) -> TrajectoryPlane:
    """The plane of the two principal components of a run's iterates (Li et al. 2018, section 7).

    Args:
        points: (iterates, numbers), such as ``Trajectory.points()``; at least three.
        params: the tree of arrays that the plane goes through, the last iterate as a rule; its numbers are those of a point, in the
            order of ``flat``.

    Raises:
        ValueError: another number of numbers, or iterates that lie on one line.

    It takes a singular value decomposition by way of the iterates' products, iterates² · numbers. Signs are such that the first iterate has
    no negative coordinate. A random walk in many dimensions shows a smooth arc too (Antognini & Sohl-Dickstein 2018): a curve of this path says little.
    """
    x = host_points(points, "trajectory_plane")
    leaves, structure = optree.tree_flatten(params)
    centre = flat(params)
    if x.shape[1] != len(centre):
        raise ValueError(f"trajectory_plane: a point has {x.shape[1]} numbers, but the parameters {len(centre)}")
    if len(x) < 3:
        raise ValueError(f"trajectory_plane: a plane takes at least 3 iterates, not {len(x)}")
    centred = x - x.mean(axis=0)
    squares, shares = np.linalg.eigh(centred @ centred.T)
    if not squares[-2] > 1e-12 * squares[-1]:
        raise ValueError("trajectory_plane: the iterates lie on one line, or are all equal; there is no plane of them")
    axes = (centred.T @ shares[:, :-3:-1] / np.sqrt(squares[:-3:-1])).T
    path = (x - centre) @ axes.T
    signs = np.where(path[0] < 0, -1.0, 1.0)
    ends = np.cumsum([0, *(int(np.prod(leaf.shape)) for leaf in leaves)])
    directions = [
        optree.tree_unflatten(
            structure, [a[i:j].reshape(leaf.shape) for leaf, i, j in zip(leaves, ends[:-1], ends[1:], strict=True)]
        )
        for a in axes * signs[:, None]
    ]
    return TrajectoryPlane(directions, path * signs, squares[:-3:-1] / squares.clip(0.0).sum())


def loss_landscape(
    loss: Callable[[Any], Any],
    params: Any,
    directions: Sequence,
    radius: float | Sequence[tuple[float, float]] = 1.0,
    resolution: int = 41,
    path: np.ndarray | None = None,
) -> Landscape:
    """The loss at ``params + Σ c_k directions[k]`` for all coefficients c of a grid: resolution ** axes calls.

    Args:
        loss: ``loss(params) -> number``.
        params: a tree of arrays or DiffTensors. They are not changed; the loss gets arrays of the same dtypes.
        directions: trees like ``params``, one for each axis; see ``random_directions`` and ``trajectory_plane``.
        radius: how far to go along each: from −radius to radius; or (low, high) for each direction.
        resolution: points along each axis; an odd number has the parameters themselves in the middle of [−radius, radius].
        path: what the Landscape's ``path`` is to be.
    """
    if not directions:
        raise ValueError("loss_landscape: needs at least one direction, see random_directions")
    if resolution < 2:
        raise ValueError(f"loss_landscape: resolution must be at least 2, not {resolution!r}")
    given: Any = radius
    ranges = [(-given, given)] * len(directions) if np.ndim(given) == 0 else [(low, high) for low, high in given]
    if len(ranges) != len(directions) or not all(low < high for low, high in ranges):
        raise ValueError(
            f"loss_landscape: radius is a number above 0, or (low, high) for each direction, not {radius!r}"
        )
    lines = tuple(np.linspace(low, high, resolution) for low, high in ranges)
    values = np.empty((resolution,) * len(directions))
    with no_grad():
        for place in np.ndindex(values.shape):
            at = [float(line[i]) for line, i in zip(lines, place, strict=True)]
            values[place] = float(loss(_moved(params, directions, at)))
    return Landscape(values, lines, path)


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
