"""What a diagnostic is, and one run of it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from autograd import DiffTensor
from autograd.optim import Optimizer

from ..seeds import Streams

Spoil = Callable[[np.ndarray, list[np.ndarray], np.random.Generator], np.ndarray]
"""``spoil(gradient, places, rng)``: the gradient that an optimizer is given; ``places`` are the parameters of all steps so far."""


@dataclass(frozen=True)
class Diagnostic:
    """A function, a start, and what must be reached.

    Attributes:
        name: as the command shows it.
        about: the difficulty, in a few words.
        value: ``value(x, t)``, of points (..., n) at step t, a number or an array (..., 1): an array (...), written with
            ``autograd.ops``.
        start: draws the first parameters (n,).
        box: random search draws evenly from this interval in each coordinate.
        steps: the step limit.
        goal: the judged loss that passes: the mean of ``judged`` over the last ``tail`` steps.
        reference: the baseline that must pass for the diagnostic to count.
        judged: what is judged, if not ``value``.
        spoil: what happens to the gradient on the way, if anything.
        project: what happens to the parameters after a step, if anything.
        delay: the gradient is that of the parameters so many steps ago.
        tail: over how many of the last steps the judged loss is averaged.
    """

    name: str
    about: str
    value: Callable[[Any, Any], Any]
    start: Callable[[np.random.Generator], np.ndarray]
    box: tuple[float, float]
    steps: int
    goal: float
    reference: str
    judged: Callable[[Any, Any], Any] | None = None
    spoil: Spoil | None = None
    project: Callable[[np.ndarray], np.ndarray] | None = None
    delay: int = 0
    tail: int = 1

    def judge(self, x: np.ndarray, t: Any) -> Any:
        """The judged loss at points (..., n)."""
        return (self.judged or self.value)(x, t)


def descend(diagnostic: Diagnostic, transform: Any, streams: Streams) -> float:
    """Run a gradient transform on a diagnostic; the judged loss, infinite if it diverges."""
    with np.errstate(all="ignore"):  # overflow is how a run diverges
        return _descend(diagnostic, transform, streams)


def _descend(d: Diagnostic, transform: Any, streams: Streams) -> float:
    rng = streams("noise")
    x = DiffTensor(d.start(streams("init")), requires_grad=True)
    optimizer = Optimizer([x], transform)
    places: list[np.ndarray] = []
    seen: list[float] = []
    for t in range(d.steps):
        places.append(np.array(x.raw))
        place = DiffTensor(places[max(0, t - d.delay)], requires_grad=True)
        d.value(place, t).backward()
        g = place.grad
        x.grad = g if d.spoil is None else d.spoil(g, places, rng)
        optimizer.step()
        if d.project is not None:
            x.data = d.project(np.array(x.raw))
        if not np.isfinite(x.raw).all():
            return math.inf
        if t >= d.steps - d.tail:
            with optimizer.evaluation():
                seen.append(float(d.judge(x.raw, t)))
    loss = float(np.mean(seen))
    return loss if math.isfinite(loss) else math.inf


def random_search(d: Diagnostic, evaluations: int, streams: Streams) -> float:
    """The judged loss of the best of ``evaluations`` random points; which is best, the loss of the moment decides.

    They are drawn in runs of ``steps``, so that each is seen at a step of its own.
    """
    rng = streams("init")
    n = len(d.start(streams("init")))
    best, least = None, math.inf
    for first in range(0, evaluations, d.steps):
        points = rng.uniform(*d.box, size=(min(d.steps, evaluations - first), n))
        values = d.value(points, np.arange(len(points))[:, None])
        i = int(np.argmin(values))
        if values[i] < least:
            best, least = points[i], float(values[i])
    assert best is not None
    last = np.arange(d.steps - d.tail, d.steps)[:, None]
    return float(np.mean(d.judge(np.broadcast_to(best, (d.tail, n)), last)))


def passes(d: Diagnostic, losses: Sequence[float], share: float) -> bool:
    """Whether at least ``share`` of the runs reached the goal."""
    return sum(loss <= d.goal for loss in losses) >= share * len(losses)
