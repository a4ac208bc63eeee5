"""Topological terms of a loss: sums over diagrams that pull features to where they are wanted.

    loss = cross_entropy(model(x), y) + 0.1 * connectivity(features, parts=1)

They have derivatives of every order in the points or values, at all inputs of which no two distances (or values) are equal.
"""

from typing import Any

from .clouds import rips
from .diagram import Diagram
from .landscapes import cubical
from .matching import wasserstein
from .summaries import total_persistence


def connectivity(points: Any, parts: int = 1, power: float = 1.0) -> Any:
    """What keeps points from being ``parts`` clusters: the sum of lifetime ** power of all components but the ``parts`` longest-lived.

    Lower it to gather them into that many. One component never dies and counts as one of the ``parts``. Needs no gudhi.
    """
    if parts < 1:
        raise ValueError(f"connectivity: parts must be at least 1, not {parts!r}")
    return total_persistence(rips(points, (0,))[0], power, skip=parts - 1)


def separation(points: Any, parts: int) -> Any:
    """How far apart ``parts`` clusters are: the shortest life of the ``parts − 1`` longest-lived components. Raise it (loss = −separation).

    It is the width of the gap that has to be bridged before there are fewer than ``parts`` components. Needs no gudhi.
    """
    if parts < 2:
        raise ValueError(f"separation: parts must be at least 2, not {parts!r}")
    (components,) = rips(points, (0,))
    lives = components.longest(parts - 1).lifetimes
    if lives.shape[0] < parts - 1:
        raise ValueError(
            f"separation: the points have only {lives.shape[0] + 1} different places, fewer than {parts} parts"
        )
    return lives[parts - 2]


def spread(points: Any, power: float = 0.5) -> Any:
    """The sum of lifetime ** power of components: with a power below 1 greatest if points are evenly spread. Raise it."""
    return total_persistence(rips(points, (0,))[0], power)


def prescribed(diagram: Diagram, features: int, power: float = 2.0) -> Any:
    """How far a diagram is from having ``features`` pairs: lifetime ** power of all but the longest-lived, less that of those.

    Hu et al. 2019 ("Topology-preserving deep image segmentation") with births and deaths left free.
    """
    if features < 0:
        raise ValueError(f"prescribed: features must be at least 0, not {features!r}")
    all_of_them = total_persistence(diagram, power)
    others = total_persistence(diagram, power, skip=features) if features else all_of_them
    return 2.0 * others - all_of_them


def to_target(diagram: Diagram, target: Any, order: float = 2.0) -> Any:
    """The Wasserstein distance of a diagram to a target, to the power ``order``; zero and smooth where it is reached."""
    return wasserstein(diagram, target, order) ** order


def smoothness(values: Any, keep: int = 0) -> Any:
    """The total persistence of a grid's components and (where there are such) holes, without the ``keep`` longest-lived of each: its clutter."""
    diagrams = cubical(values)
    total = total_persistence(diagrams[0], skip=keep)
    for diagram in diagrams[1:]:
        total = total + total_persistence(diagram, skip=keep)
    return total
