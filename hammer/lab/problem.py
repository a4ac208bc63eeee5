"""A problem: data, model, loss, batch size, initialisation, metric, frozen target and step limit.

A problem is described by a ``Problem``; ``problem.start(streams, dtype)`` gives a ``Task``, one run of it with its own
weights and batches. ``Supervised`` is the task of every problem that learns from a dataset, ``Surface`` that of a
function to minimise. The problems themselves are the files of ``hammer.lab.problems``.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from autograd import DiffTensor, no_grad

from .datasets import Split
from .seeds import Streams


class Task(Protocol):
    """One run of a problem, before its first step."""

    parameters: list[DiffTensor]

    def loss(self) -> DiffTensor:
        """The recorded loss of the next batch."""
        ...

    def evaluate(self) -> tuple[float, float]:
        """The loss that is judged, and the metric, at the present parameters."""
        ...


@dataclass(frozen=True)
class Target:
    """A frozen target: the judged loss to reach, and how the number was set."""

    loss: float
    set_by: str


@dataclass(frozen=True)
class Problem:
    """What is compared on. ``steps`` is the step limit, the same for every optimizer; ``eval_every`` counts steps."""

    name: str
    title: str
    about: str
    data: str
    start: Callable[[Streams, str], Task]
    steps: int
    eval_every: int
    batch_size: int | None
    loss: str
    metric: str
    target: Target
    dtype: str = "float32"


class Supervised:
    """Minimise ``loss(model(x), y)`` over batches of a dataset; judged on its held-out part.

    Args:
        parts: the data.
        model: an ``autograd.nn.Module``.
        loss: ``loss(prediction, y) -> scalar tensor``.
        metric: ``metric(prediction, y) -> number``, on raw arrays.
        batch_size: examples per step; each epoch is a fresh permutation and what does not fill a batch is left out.
        rng: the stream of the batches.
    """

    def __init__(
        self, parts: Split, model: Any, loss: Callable, metric: Callable, batch_size: int, rng: np.random.Generator
    ):
        self.parts, self.model, self._loss, self.metric = parts, model, loss, metric
        self.parameters = list(model.parameters())
        self._batches = _batches(len(parts.x), batch_size, rng)
        self._held = DiffTensor(parts.x_held, copy=False)

    def loss(self) -> DiffTensor:
        chosen = next(self._batches)
        return self._loss(self.model(DiffTensor(self.parts.x[chosen], copy=False)), self.parts.y[chosen])

    def evaluate(self) -> tuple[float, float]:
        self.model.eval()
        with no_grad():
            prediction = self.model(self._held)
            loss = self._loss(prediction, self.parts.y_held)
        self.model.train()
        return float(loss), float(self.metric(prediction.raw, self.parts.y_held))


def _batches(count: int, size: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    while True:
        order = rng.permutation(count)
        for first in range(0, count - size + 1, size):
            yield order[first : first + size]


class Surface:
    """Minimise ``function(x)`` from ``start``; the metric is the distance to ``minimum``."""

    def __init__(self, function: Callable[[DiffTensor], DiffTensor], start: np.ndarray, minimum: np.ndarray):
        self.function, self.minimum = function, minimum
        self.parameters = [DiffTensor(start, requires_grad=True)]

    def loss(self) -> DiffTensor:
        return self.function(self.parameters[0])

    def evaluate(self) -> tuple[float, float]:
        with no_grad():
            loss = self.function(self.parameters[0])
        return float(loss), float(np.linalg.norm(self.parameters[0].raw - self.minimum))


def accuracy(prediction: np.ndarray, y: np.ndarray) -> float:
    """The share of examples whose largest output, of (N, classes), is the right class of (N,)."""
    return float(np.mean(np.argmax(prediction, axis=1) == y))


def r_squared(prediction: np.ndarray, y: np.ndarray) -> float:
    """The share of the variance of ``y`` that the prediction explains; both (N, 1)."""
    return float(1.0 - np.sum((prediction - y) ** 2) / np.sum((y - y.mean(axis=0)) ** 2))
