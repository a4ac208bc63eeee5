"""A problem: data, model, loss, batch size, initialisation, metric, frozen target and step limit.

A problem is described by a ``Problem``; ``problem.start(streams, dtype)`` gives a ``Task``, one run of it with its own
weights and batches. ``Supervised`` is the task of every problem that learns from a dataset, ``Surface`` that of a
function to minimise. The problems themselves are the files of ``hammer.lab.problems``.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from autograd import DiffTensor, no_grad, ops

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
    """What is compared on. ``steps`` is the step limit, the same for every optimizer; ``eval_every`` counts steps.

    ``target`` is None as long as no run has set one: then each comparison derives its own (docs/protocol.md, rule 5).
    """

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
    target: Target | None
    dtype: str = "float32"


class Supervised:
    """Minimise ``loss(model(x), y)`` over batches of a dataset; judged on its held-out part.

    Args:
        parts: the data, of the dtype that the model takes.
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


def binary_accuracy(logits: np.ndarray, y: np.ndarray) -> float:
    """The share of logits, of (N, 1), with the sign that ``y`` (0 or 1) asks for."""
    return float(np.mean((logits > 0) == (y > 0.5)))


def next_accuracy(prediction: np.ndarray, y: np.ndarray) -> float:
    """The share of places of (N, L) at which the largest output, of (N, L, classes), is the right class."""
    return float(np.mean(np.argmax(prediction, axis=-1) == y))


def next_cross_entropy(prediction: Any, y: np.ndarray) -> Any:
    """The mean cross-entropy over the places of sequences: prediction (N, L, classes), y (N, L) integers."""
    return ops.mean(ops.cross_entropy(prediction, y, axis=2))


def psnr(prediction: np.ndarray, y: np.ndarray) -> float:
    """The peak signal-to-noise ratio in decibels of values with the range 1: -10 log₁₀ of the mean squared error."""
    return float(-10.0 * np.log10(np.mean((prediction - y) ** 2)))


def r_squared(prediction: np.ndarray, y: np.ndarray) -> float:
    """The share of the variance of ``y`` over the examples that the prediction explains; both (N, outputs)."""
    return float(1.0 - np.sum((prediction - y) ** 2) / np.sum((y - y.mean(axis=0)) ** 2))
