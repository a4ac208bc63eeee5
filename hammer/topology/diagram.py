"""Diagram: when the features of one dimension are born and die, and which numbers of the input say so.

Every birth and every death is a number of the input: a cell's value, or the distance of two points. So a diagram is made in two
steps. First the pairing is found, on plain numbers: which of them belong together. Then those numbers are *picked* from the input by
operations of ``autograd.ops``. If the input is a recorded DiffTensor, so are ``pairs`` and ``essential``, and whatever is computed of
them (total persistence, distances, images) has derivatives of every order; the pairing is a constant of them. That is the derivative
wherever no two numbers of the input are equal (Gameiro, Hiraoka & Obayashi 2016; Carrière et al. 2021). Where two
are, the order of their places decides, as if the earlier were smaller by a hair: one limit of the derivatives nearby.

To have the places from libraries that only return values, the filtration is made of *ranks*, 1, 2, …, in the place of values: the pairs are
the same, and a rank is a place.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from autograd import backend, ops
from autograd.tensor import DiffTensor


@dataclass(frozen=True)
class Diagram:
    """The persistence diagram of one dimension.

    Attributes:
        dimension: 0 for components, 1 for loops, 2 for voids.
        pairs: (k, 2), births and deaths of the features that die, births below deaths.
        essential: (m,), births of those that never die.
        places: where they were asked for, or needed: of landscapes (k, 2, axes), the indices of the cells at which each is born and dies; of points (k, 2, 2), the ends of the two
            edges, with −1, −1 for the birth of a component. Else None.
        essential_places: the same of ``essential``.
    """

    dimension: int
    pairs: Any
    essential: Any = field(default_factory=lambda: np.empty(0))
    places: np.ndarray | None = None
    essential_places: np.ndarray | None = None

    def __len__(self) -> int:
        """How many features there are, those that never die included."""
        return int(self.pairs.shape[0] + self.essential.shape[0])

    @property
    def lifetimes(self) -> Any:
        """(k,), deaths minus births."""
        return self.pairs[:, 1] - self.pairs[:, 0]

    def array(self) -> np.ndarray:
        """Births and deaths as libraries have them: (k + m, 2) float64, with infinity for the deaths of what never dies."""
        pairs, essential = host_of(self.pairs), host_of(self.essential)
        return np.concatenate([pairs, np.stack([essential, np.full(len(essential), np.inf)], axis=1)])

    def longest(self, count: int) -> "Diagram":
        """The ``count`` pairs that live longest, longest first, and all that is essential."""
        order = np.argsort(-(host_of(self.pairs) @ [-1.0, 1.0]), kind="stable")[:count]
        return self._of(order)

    def above(self, lifetime: float) -> "Diagram":
        """The pairs that live longer than ``lifetime``, and all that is essential."""
        return self._of(np.nonzero(host_of(self.pairs) @ [-1.0, 1.0] > lifetime)[0])

    def _of(self, order: np.ndarray) -> "Diagram":
        pairs = pick(self.pairs, order)
        places = None if self.places is None else self.places[order]
        return Diagram(self.dimension, pairs, self.essential, places, self.essential_places)

    def __repr__(self) -> str:
        return f"Diagram(dimension {self.dimension}: {self.pairs.shape[0]} pairs, {self.essential.shape[0]} essential)"


def host_of(values: Any) -> np.ndarray:
    """The numbers of an array or tensor in float64 on the host."""
    raw = values.raw if isinstance(values, DiffTensor) else values
    return np.asarray(backend.to_device(raw, "cpu") if backend.is_array(raw) else raw).astype(np.float64)


def pick(x: Any, places: np.ndarray) -> Any:
    """``x[places]`` along the first axis, as an operation; the places are put where ``x`` is."""
    raw = x.raw if isinstance(x, DiffTensor) else x
    if not isinstance(raw, np.ndarray):
        places = backend.to_device(places, backend.place_of(raw))
    return ops.take(x, places, axis=0)


def found_places(given: Any, places: bool | None) -> bool:
    """Whether to find the places of births and deaths: if asked to, or if their derivative may be wanted."""
    return bool(places) or (isinstance(given, DiffTensor) and given.node is not None)


def plain(dimension: int, found: np.ndarray, given: Any) -> Diagram:
    """A library's births and deaths, infinite ones included, as a Diagram in the dtype and library of what was given."""
    like = given if "float" in str(getattr(given, "dtype", "")) else found
    lives = np.isfinite(found[:, 1])
    pairs = beside(found[lives & (found[:, 1] > found[:, 0])], like)
    return Diagram(dimension, pairs, beside(found[~lives, 0], like))


def beside(values: np.ndarray, like: Any, integer: bool = False) -> Any:
    """An array in the library, on the device and (unless of integers) in the dtype of another."""
    raw = like.raw if isinstance(like, DiffTensor) else like
    values = values if integer else values.astype(str(raw.dtype).rpartition(".")[2])
    return backend.to_device(values, backend.place_of(raw))


def as_pairs(diagram: Any, what: str) -> Any:
    """The pairs of a Diagram, or (k, 2) births and deaths that were given as an array.

    Raises:
        ValueError: another shape, NaN, an infinite birth or death, or a death before its birth.
    """
    pairs = diagram.pairs if isinstance(diagram, Diagram) else diagram
    if not backend.is_array(pairs.raw if isinstance(pairs, DiffTensor) else pairs):
        pairs = np.asarray(pairs, np.float64).reshape(-1, 2) if len(pairs) == 0 else np.asarray(pairs, np.float64)
    if len(pairs.shape) != 2 or pairs.shape[1] != 2:
        raise ValueError(f"{what}: a diagram has shape (features, 2), births and deaths, not {tuple(pairs.shape)}")
    if not isinstance(diagram, Diagram):
        values = host_of(pairs)
        if not np.isfinite(values).all():
            raise ValueError(
                f"{what}: there are infinite deaths or NaN in the array; leave them out, or make a Diagram(dimension, pairs, essential)"
            )
        if (values[:, 1] < values[:, 0]).any():
            raise ValueError(f"{what}: a death comes before its birth; rows are (birth, death)")
    return pairs
