"""Clouds to take the persistence of: windows of a series, gradients of examples, iterates of a run, activations.

Each function returns an array of points, (number, coordinates), for ``rips``, ``alpha`` or ``ph_dimension``.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import optree

from autograd import per_example_gradients
from autograd.context import no_grad
from autograd.tensor import DiffTensor

from .clouds import rips
from .diagram import host_of
from .metric import farthest_points, host


def sliding_windows(series: Any, dimension: int, delay: int = 1, standardize: bool = False) -> np.ndarray:
    """The sliding-window embedding of a time series: (windows, (dimension + 1) · channels).

    Args:
        series: (time,) or (time, channels).
        dimension: M: a window holds x(t), x(t + delay), …, x(t + M · delay).
        delay: steps between its entries.
        standardize: whether each window loses its mean and is divided by its norm (Perea & Harer 2015), so that neither drift nor
            amplitude counts. A window that is constant becomes 0.
    """
    x = host(series, "sliding_windows")
    if x.ndim not in (1, 2):
        raise ValueError(f"sliding_windows: a series has shape (time,) or (time, channels), not {x.shape}")
    if dimension < 1 or delay < 1:
        raise ValueError(f"sliding_windows: dimension and delay must be at least 1, not {dimension!r} and {delay!r}")
    x = x.reshape(len(x), -1)
    count = len(x) - dimension * delay
    if count < 1:
        raise ValueError(
            f"sliding_windows: a window takes {dimension * delay + 1} steps, and the series has {len(x)}; lower dimension or delay"
        )
    windows = np.stack([x[k * delay : k * delay + count] for k in range(dimension + 1)], axis=1)
    if standardize:
        windows = windows - windows.mean(axis=1, keepdims=True)
        size = np.sqrt(np.square(windows).sum(axis=(1, 2), keepdims=True))
        windows = windows / np.where(size > 0, size, 1.0)
    return windows.reshape(count, -1)


def periodicity(series: Any, dimension: int, delay: int = 1, landmarks: int = 300) -> float:
    """How periodic a time series is, from 0 to 1: the longest life of a loop of its standardised windows, divided by √3.

    √3 is the limit for windows of a pure sine as they get denser and M grows (Perea & Harer 2015); with p windows in a period it is
    lower by 2 sin(π/p). Take ``dimension · delay`` near the period. Needs gudhi.

    Args:
        landmarks: more windows than this are thinned to so many, by farthest points, which changes the result by at most
            4 · radius / √3.
    """
    windows = sliding_windows(series, dimension, delay, standardize=True)
    if len(windows) > landmarks:
        windows = windows[farthest_points(windows, landmarks).indices]
    (loops,) = rips(windows, (1,))
    return float(host_of(loops.lifetimes).max(initial=0.0) / np.sqrt(3.0))


def flat(tree: Any, batched: bool = False) -> np.ndarray:
    """The numbers of a tree of arrays as one vector, (P,); of a tree of arrays that share a first axis, (n, P)."""
    leaves: list[Any] = optree.tree_leaves(tree)
    if not leaves:
        raise ValueError("flat: there is no array in the tree")
    arrays = [host(leaf, "flat") for leaf in leaves]
    if not batched:
        return np.concatenate([a.reshape(-1) for a in arrays])
    return np.concatenate([a.reshape(len(a), -1) for a in arrays], axis=1)


def gradient_cloud(loss: Callable, params: Any, *examples: Any) -> np.ndarray:
    """The gradients of the examples of a batch, a point each: (examples, parameters). See ``autograd.per_example_gradients``."""
    return flat(per_example_gradients(loss, params, *examples), batched=True)


def activation_clouds(model: Any, *inputs: Any, names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """What the modules of a model put out for a batch: name -> (examples, features).

    Args:
        model: an ``autograd.nn.Module``; it runs once, in evaluation mode and without recording.
        inputs: what it is called with.
        names: of modules, as in ``model.named_modules()``; None: all that have none inside them.

    Raises:
        KeyError: a name that is no module's. ValueError: a module that did not run.
    """
    modules = dict(model.named_modules())
    if names is None:
        names = [name for name, module in modules.items() if not list(module.children())]
    for name in names:
        if name not in modules:
            raise KeyError(
                f"activation_clouds: the model has no module {name!r}; it has {', '.join(map(repr, modules))}"
            )
    found: dict[str, np.ndarray] = {}

    def keep(name: str) -> Callable:
        def hook(_module: Any, _args: tuple, output: Any) -> None:
            found[name] = flat(output.detach() if isinstance(output, DiffTensor) else output, batched=True)

        return hook

    removers = [modules[name].register_forward_hook(keep(name)) for name in names]
    try:
        with model.evaluating(), no_grad():
            model(*inputs)
    finally:
        for remove in removers:
            remove()
    for name in names:
        if name not in found:
            raise ValueError(f"activation_clouds: the module {name!r} did not run")
    return {name: found[name] for name in names}


class Trajectory:
    """The last iterates of a run as points: ``add`` parameters (or gradients) after each step, then ``points()``.

    Args:
        length: how many to keep; older ones are dropped.
        dtype: in which to keep them.
    """

    def __init__(self, length: int = 1000, dtype: Any = np.float32):
        if length < 1:
            raise ValueError(f"Trajectory: length must be at least 1, not {length!r}")
        self.length, self.dtype, self.added = length, np.dtype(dtype), 0
        self._ring: np.ndarray | None = None

    def add(self, tree: Any) -> None:
        """Keep a copy of the numbers of a tree of arrays or DiffTensors."""
        point = flat(tree)
        if self._ring is None:
            self._ring = np.empty((self.length, len(point)), self.dtype)
        if len(point) != self._ring.shape[1]:
            raise ValueError(f"Trajectory: this point has {len(point)} numbers, those before {self._ring.shape[1]}")
        self._ring[self.added % self.length] = point
        self.added += 1

    def points(self) -> np.ndarray:
        """(kept, numbers), oldest first."""
        if self._ring is None:
            return np.empty((0, 0), self.dtype)
        if self.added <= self.length:
            return self._ring[: self.added].copy()
        return np.roll(self._ring, -(self.added % self.length), axis=0)
