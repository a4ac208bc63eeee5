"""Persistence of functions on a grid: slices and volumes of a loss, images, series of numbers.

Each number is the value of a cell (an interval, square, cube, …), and the sublevel set at t is the union of the cells with values up to
t, so that cells that share a corner are connected. Components are born at minima and die at the lowest saddle that leads to a deeper
one; loops of dimension (axes − 1) die at maxima. For superlevel sets take ``-values``.

``slices`` beside this file makes such grids of a loss.
"""

import importlib.util
from collections.abc import Sequence
from typing import Any

import numpy as np

from autograd import ops

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
