"""Grids of whole trainings as one program, and zooms into the boundary between those that converge and those that do not.

    training = descent(loss, (w0, w1), steps=100)                       # two groups of parameters, a learning rate for each
    grid = Grid(Axis(-3, 6), Axis(-3, 6), pixels=129)                    # log10 learning rates
    field = boundary(training, grid)                                     # 16,641 trainings
    field.dimension(), field.picture()

Sohl-Dickstein (2024, "The boundary of neural network trainability is fractal") looked at such grids. The step of a training is written for
one network; ``vmap`` makes it one of many, a graph of that (``hammer.graph``) becomes machine code, and the grid is done in chunks whose
activations stay in the processor's cache, a chunk a thread. A training has converged if the mean of the last losses, divided by the first, is below 1.
"""

import contextlib
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import optree

from autograd import backend, value_and_grad, vmap
from autograd.errors import NoValueError
from autograd.gradients.scaling import number, whole

from ..drawing import colours, png
from ..graph import GraphError, Spec, UniversalGraph, compile
from ..graph.native import NativePlan, Unlowered, unavailable
from ..graph.native.plan import cores
from .dimension import Estimate, box_counting


@dataclass(frozen=True)
class Axis:
    """An axis of a grid: coordinates from ``low`` to ``high``, ends included; with ``log`` the setting is 10^coordinate."""

    low: float
    high: float
    log: bool = True

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"axis: low must be below high, and both finite, not {self.low} and {self.high}")

    def settings(self, pixels: int) -> np.ndarray:
        """The settings at ``pixels`` equally spaced coordinates, float64."""
        coordinates = np.linspace(self.low, self.high, pixels)
        return 10.0**coordinates if self.log else coordinates

    def window(self, place: float, width: float) -> "Axis":
        """The part about a place (0 is low, 1 is high), of a width relative to this axis."""
        middle, half = self.low + place * (self.high - self.low), 0.5 * width * (self.high - self.low)
        return replace(self, low=middle - half, high=middle + half)


@dataclass(frozen=True)
class Grid:
    """A square grid of settings (x, y); 2^k + 1 pixels a side make 2^k × 2^k cells, which boxes of every power of two cover."""

    x: Axis
    y: Axis
    pixels: int = 129

    def __post_init__(self) -> None:
        whole("grid: pixels", self.pixels, 2)

    def points(self) -> tuple[np.ndarray, np.ndarray]:
        """The settings of all pixels, two arrays of shape (pixels²,), by rows: x goes fastest, both rise."""
        x, y = np.meshgrid(self.x.settings(self.pixels), self.y.settings(self.pixels))
        return x.ravel(), y.ravel()

    def window(self, column: float, row: float, width: float) -> "Grid":
        """The grid of the same pixels about a place (in [0, 1]²)."""
        return replace(self, x=self.x.window(column, width), y=self.y.window(row, width))


@dataclass(frozen=True)
class Training:
    """A training of one network, as a function of two settings.

    Attributes:
        start: ``start(x, y) -> state``, a tree of arrays (for example the first parameters).
        step: ``step(state, x, y) -> (state, loss)``; the loss is that before the step.
        steps: how many.
        tail: of how many last losses the mean decides, at most ``steps``.
    """

    start: Callable[[Any, Any], Any]
    step: Callable[[Any, Any, Any], tuple[Any, Any]]
    steps: int
    tail: int = 20

    def __post_init__(self) -> None:
        if not 1 <= whole("training: tail", self.tail) <= whole("training: steps", self.steps):
            raise ValueError(
                f"training: the last {self.tail} losses of {self.steps} steps decide; tail must be at most steps"
            )


def descent(loss: Callable[[Any], Any], params: tuple, steps: int, tail: int = 20) -> Training:
    """Gradient descent on two groups of parameters, whose learning rates are the settings x and y.

    Args:
        loss: ``loss((first, second)) -> number``; each group is an array or a tree of them.
        params: the two groups at the start.
        steps, tail: see ``Training``.
    """
    if not isinstance(params, tuple) or len(params) != 2:
        raise TypeError("descent: params must be a tuple of two groups of parameters, one for each learning rate")

    def step(state: Any, x: Any, y: Any) -> tuple[Any, Any]:
        value, gradients = value_and_grad(loss)(state)
        moved = tuple(
            optree.tree_map(lambda p, g, rate=rate: p - rate * g, group, gradient)
            for group, gradient, rate in zip(state, gradients, (x, y), strict=True)
        )
        return moved, value

    return Training(lambda _x, _y: params, step, steps, tail)


@dataclass(frozen=True)
class Field:
    """What became of a grid of trainings.

    Attributes:
        grid: where.
        ratio: the mean of the last losses over the first loss, infinite if it is no number: float64 of shape (pixels, pixels), rows y, columns x.
        speed: how soon: the mean over steps of min(1, v/v_0) of a training that converged, of min(1, v_0/v) of one that did not; in [0, 1].
    """

    grid: Grid
    ratio: np.ndarray
    speed: np.ndarray

    @property
    def converged(self) -> np.ndarray:
        """Which trainings converged: booleans of shape (pixels, pixels)."""
        return self.ratio < 1.0

    def edges(self) -> np.ndarray:
        """Which cells between four pixels hold trainings of both kinds: booleans of shape (pixels − 1, pixels − 1)."""
        c = self.converged
        corners = c[:-1, :-1], c[1:, :-1], c[:-1, 1:], c[1:, 1:]
        return np.logical_or.reduce(corners) & ~np.logical_and.reduce(corners)

    @property
    def density(self) -> float:
        """The share of cells that are edges."""
        return float(self.edges().mean())

    def dimension(self) -> Estimate:
        """The box-counting dimension of the edges."""
        return box_counting(self.edges())

    def picture(self, scale: int = 1) -> bytes:
        """A PNG: blue where trainings converged, orange where not, paler the slower; y rises upwards.

        Each kind is shaded by rank, so that differences show at any zoom.
        """
        shade = np.zeros(self.ratio.shape)
        for kind, sign in ((self.converged, -1.0), (~self.converged, 1.0)):
            speed = self.speed[kind]
            if speed.size:
                _, place = np.unique(speed, return_inverse=True)
                rank = np.ones(speed.size) if place.max() == 0 else 1.0 - place / place.max()
                shade[kind] = sign * (0.15 + 0.85 * rank.reshape(speed.shape))
        return png(colours(shade[::-1], -1.0, 1.0, "diverging"), scale)


def boundary(
    training: Training | Callable,
    grid: Grid,
    *,
    chunk: int = 32,
    compiled: bool = True,
    threads: int | None = None,
) -> Field:
    """Run a grid of trainings.

    Args:
        training: a ``Training`` (or ``descent(...)``), or a function ``train(x, y) -> losses`` of one network that returns all its losses, of
            shape (steps,), as an array; the last 20 of them (or all) decide.
        grid: the settings.
        chunk: how many networks are trained together. As many as fit the cache are fastest; it changes results by rounding at most.
        compiled: whether the step becomes machine code.
        threads: how many chunks are trained at a time; None: as many as there are cores (``HAMMER_THREADS`` overrides it).

    Raises:
        ValueError: losses of another shape.
    """
    x, y = grid.points()
    ratio, speed = Trainings(training, min(whole("boundary: chunk", chunk), len(x)), compiled, threads)(x, y)
    return Field(grid, ratio.reshape(grid.pixels, grid.pixels), speed.reshape(grid.pixels, grid.pixels))


class Trainings:
    """Many trainings, a fixed number of networks at a time. Called with settings, it returns their ratios and speeds, see ``Field``.

    Each thread trains a chunk of its own, by a program of one thread: threads that wait for nobody use busy cores better than
    threads that meet after every operation. Arguments as for ``boundary``.
    """

    def __init__(self, training: Training | Callable, size: int, compiled: bool = True, threads: int | None = None):
        self.training, self.size, self.compiled = training, size, compiled
        self.threads = cores() if threads is None else whole("threads", threads)
        if not (isinstance(training, Training) and compiled and _Program.possible()):
            self.threads = 1  # other steps keep Python's lock, or have threads of their own
        self._free: list[Callable] = []  # runs that no thread uses now

    def __call__(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        losses = self.losses(x, y)
        tail = min(self.training.tail if isinstance(self.training, Training) else 20, len(losses))
        with np.errstate(all="ignore"):
            relative = losses / losses[0]
            ratio = relative[-tail:].mean(axis=0)
            ratio = np.where(np.isnan(ratio), np.inf, ratio)
            relative = np.where(np.isnan(relative), np.inf, relative)
            faster, slower = np.minimum(1.0, relative), np.minimum(1.0, 1.0 / relative)
            return ratio, np.where(ratio < 1.0, faster.mean(axis=0), slower.mean(axis=0))

    def losses(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The losses of all steps: float64 of shape (steps, networks)."""
        parts = [(x[i : i + self.size], y[i : i + self.size]) for i in range(0, len(x), self.size)]
        if min(self.threads, len(parts)) == 1:
            found = [self._chunk(part) for part in parts]
        else:
            with ThreadPoolExecutor(min(self.threads, len(parts))) as pool:
                found = list(pool.map(self._chunk, parts))
        return np.concatenate(found, axis=1)

    def _chunk(self, part: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        n = len(part[0])
        fill = np.minimum(np.arange(self.size), n - 1)  # the last chunk is filled up with its last network
        x, y = part[0][fill], part[1][fill]
        with np.errstate(all="ignore"):  # that some diverge is the point
            if not isinstance(self.training, Training):
                found = _array(vmap(self.training)(x, y)).T
                if found.ndim != 2:
                    raise ValueError(
                        f"boundary: a training must return its losses, of shape (steps,), not of shape {found.T.shape[1:]}"
                    )
                return found[:, :n]
            state = vmap(self.training.start)(x, y)
            run = self._free.pop() if self._free else self._run(state, x, y)
            found = run(state, x, y)
            self._free.append(run)
        return found[:, :n]

    def _run(self, state: Any, x: np.ndarray, y: np.ndarray) -> Callable:
        """What runs all steps of a chunk."""
        assert isinstance(self.training, Training)
        step, steps = vmap(self.training.step), self.training.steps
        if self.compiled and _Program.possible():
            with contextlib.suppress(
                GraphError, NoValueError, Unlowered
            ):  # ``compile`` says why, and runs it otherwise
                return _Program(step, steps, state, x, y)
        together = compile(step, exact=False) if self.compiled else step

        def run(state: Any, x: np.ndarray, y: np.ndarray) -> np.ndarray:
            found = np.empty((steps, self.size))
            for t in range(steps):
                state, value = together(state, x, y)
                _check(value, self.size)
                found[t] = _array(value)
            return found

        return run


class _Program:
    """All steps of a chunk by machine code of one thread, which writes the new state over the old."""

    @staticmethod
    def possible() -> bool:
        return unavailable() is None

    def __init__(self, step: Callable, steps: int, state: Any, x: np.ndarray, y: np.ndarray):
        self.steps = steps
        leaves, tree = optree.tree_flatten(state)
        given = [_host(leaf) for leaf in leaves] + [x, y]

        def flat(*arrays: Any) -> list:
            after, value = step(optree.tree_unflatten(tree, arrays[:-2]), *arrays[-2:])
            return [*optree.tree_leaves(after), value]

        specs = [Spec(tuple(a.shape), a.dtype, f"x{i}") for i, a in enumerate(given)]
        graph = UniversalGraph.trace(flat, *specs).optimize(exact=False)
        _check(graph.outputs[-1], len(x))
        self.plan = NativePlan(graph, {i: i for i in range(len(leaves))}, threads=1)

    def __call__(self, state: Any, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        values = [np.array(_host(leaf), order="C") for leaf in optree.tree_leaves(state)] + [x, y]
        return self.plan.repeat(values, self.steps)


def _check(loss: Any, networks: int) -> None:
    if tuple(loss.shape) != (networks,):
        raise ValueError(f"boundary: the loss of one network must be a number, not of shape {tuple(loss.shape)[1:]}")


def _host(value: Any) -> np.ndarray:
    return np.asarray(backend.to_device(getattr(value, "raw", value), "cpu"))


def _array(value: Any) -> np.ndarray:
    return np.asarray(_host(value), np.float64)


@dataclass(frozen=True)
class Zoom:
    """A path of fields, each a window into the one before. ``dense`` says whether it ended because edges filled it."""

    fields: list[Field] = field(default_factory=list)
    dense: bool = False

    def dimensions(self) -> list[Estimate]:
        """The dimension at each level that has edges in two sizes of boxes or more."""
        return [f.dimension() for f in self.fields if f.edges().any()]


def zoom(
    training: Training | Callable,
    first: Field | Grid,
    seed: int,
    levels: int = 6,
    factor: float = 8.0,
    *,
    most: float = 0.5,
    chunk: int = 32,
    compiled: bool = True,
    known: Sequence[Field] = (),
) -> Zoom:
    """Zoom into the boundary by a policy that leaves nothing to choose.

    Each level is a window, ``factor`` times smaller, about a cell drawn evenly from the edges of the level before. The path ends after
    ``levels`` windows, where there is no edge, or where more than ``most`` of the cells are edges: there the pixels no longer resolve the
    boundary, and box counting would only count pixels. The cells follow from the seed.

    Args:
        training: as for ``boundary``.
        first: level 0: a field, or the grid of one.
        seed: of the path.
        levels: windows after level 0.
        known: fields of this path that were computed before, from level 1 on; it goes on after them.
        chunk, compiled: as for ``boundary``.

    Returns:
        A ``Zoom``; ``fields[0]`` is level 0.
    """
    ratio = number("zoom: factor", factor, "(1, inf)")
    limit = number("zoom: most", most, "(0, 1]")
    fields = [first if isinstance(first, Field) else boundary(training, first, chunk=chunk, compiled=compiled)]
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    for level in range(whole("zoom: levels", levels, 0)):
        here = fields[-1]
        rows, columns = np.nonzero(here.edges())
        if not len(rows):
            return Zoom(fields)
        if here.density > limit:
            return Zoom(fields, dense=True)
        i, cells = int(rng.integers(len(rows))), here.grid.pixels - 1
        window = here.grid.window((columns[i] + 0.5) / cells, (rows[i] + 0.5) / cells, 1.0 / ratio)
        if level < len(known):
            if known[level].grid != window:
                raise ValueError(
                    f"zoom: known[{level}] is not the window of this path: {known[level].grid} instead of {window}"
                )
            fields.append(known[level])
        else:
            fields.append(boundary(training, window, chunk=chunk, compiled=compiled))
    return Zoom(fields, fields[-1].density > limit)
