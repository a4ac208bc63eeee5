"""The regimes: how gradients come to an optimizer, on problems small enough to be run thousands of times.

A regime is a function of a seed and of whether the problem is a held-out one, and gives a ``Task``: the start, ``gradient(params, t)``, and
``loss(params)``, which is judged and free of the regime's noise. Held-out problems have other data and other dimensions.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np

Arrays = list[np.ndarray]


class Task(NamedTuple):
    start: Arrays
    gradient: Callable[[Arrays, int], Arrays]
    loss: Callable[[Arrays], float]


# ---- quadratics, with their axes turned, so that a gate per coordinate does not see them ----


def quadratic(seed: int, held: bool, noise: float = 0.0, drift: float = 0.0, kept: float = 1.0) -> Task:
    rng = np.random.default_rng([seed, 1])
    n = 60 if held else 100
    turn = np.linalg.qr(rng.standard_normal((n, n)))[0]
    kappa = 10 ** np.linspace(-2, 0, n)
    matrix = (turn * kappa) @ turn.T
    goal, way = np.zeros(n), rng.standard_normal(n) / np.sqrt(n)

    def gradient(params: Arrays, t: int) -> Arrays:
        goal[:] = drift * t * way
        g = matrix @ (params[0] - goal) + noise * (turn * np.sqrt(kappa)) @ rng.standard_normal(n) / np.sqrt(n)
        return [g / kept if rng.random() < kept else np.zeros(n)]

    def loss(params: Arrays) -> float:
        x = params[0] - goal
        return float(0.5 * x @ matrix @ x)

    return Task([rng.standard_normal(n)], gradient, loss)


def game(seed: int, held: bool, noise: float = 0.1) -> Task:
    """min_x max_y xᵀA y + a little curvature; the loss is the squared distance from the solution."""
    rng = np.random.default_rng([seed, 2])
    n = 6 if held else 10
    matrix = rng.standard_normal((n, n)) / np.sqrt(n)

    def gradient(params: Arrays, t: int) -> Arrays:
        x, y = params
        return [
            matrix @ y + 0.02 * x + noise * rng.standard_normal(n),
            -(matrix.T @ x) + 0.02 * y + noise * rng.standard_normal(n),
        ]

    return Task([rng.standard_normal(n) for _ in range(2)], gradient, lambda p: float(sum((a * a).sum() for a in p)))


# ---- a network: one hidden layer, softmax ----


@cache
def data(held: bool) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_breast_cancer, load_digits

    found = load_breast_cancer() if held else load_digits()
    x = (found.data - found.data.mean(0)) / (found.data.std(0) + 1e-9)
    return x, found.target


def forward(params: Arrays, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hidden values, probabilities, and the cross-entropy of each example."""
    a, b, c, d = params
    hidden = np.tanh(x @ a + b)
    scores = hidden @ c + d
    scores -= scores.max(1, keepdims=True)
    p = np.exp(scores)
    p /= p.sum(1, keepdims=True)
    return hidden, p, -np.log(p[np.arange(len(y)), y] + 1e-30)


def network(
    seed: int, held: bool, batch: int = 32, delay: int = 0, wrong: float = 0.0, agents: int = 1, drifts: bool = False
) -> Task:
    """The digits (held out: the breast-cancer data): 60 % to train on, the rest to judge by.

    Args:
        delay: how many steps old the parameters are that a gradient is of.
        wrong: the share of training labels that are drawn anew.
        agents: gradients come in turn from so many workers, each with a part of the data sorted by class.
        drifts: whether the classes' numbers move by one at every 100 steps, in training and judging.
    """
    rng = np.random.default_rng([seed, 3])
    x, labels = data(held)
    classes = int(labels.max()) + 1
    order = rng.permutation(len(x))
    train, judge = order[: int(0.6 * len(x))], order[int(0.6 * len(x)) :]
    seen = np.where(rng.random(len(x)) < wrong, rng.integers(0, classes, len(x)), labels)
    shards = [train] if agents == 1 else np.array_split(train[np.argsort(labels[train], kind="stable")], agents)
    past: list[Arrays] = []
    shift = [0]

    def gradient(params: Arrays, t: int) -> Arrays:
        shift[0] = t // 100 if drifts else 0
        past.append([p.copy() for p in params])
        old = past[max(0, len(past) - 1 - delay)]
        del past[: max(0, len(past) - 1 - delay)]
        some = rng.choice(shards[t % len(shards)], batch)
        a, y = x[some], (seen[some] + shift[0]) % classes
        hidden, p, _ = forward(old, a, y)
        p[np.arange(batch), y] -= 1
        p /= batch
        back = (p @ old[2].T) * (1 - hidden * hidden)
        return [a.T @ back, back.sum(0), hidden.T @ p, p.sum(0)]

    width = 32
    start = [
        rng.standard_normal((x.shape[1], width)) / np.sqrt(x.shape[1]), np.zeros(width),
        rng.standard_normal((width, classes)) / np.sqrt(width), np.zeros(classes),
    ]  # fmt: skip
    return Task(start, gradient, lambda p: float(forward(p, x[judge], (labels[judge] + shift[0]) % classes)[2].mean()))


REGIMES: dict[str, Callable[[int, bool], Task]] = {
    "quadratic, noise 0.1": lambda s, h: quadratic(s, h, noise=0.1),
    "quadratic, noise 3": lambda s, h: quadratic(s, h, noise=3.0),
    "drifting goal": lambda s, h: quadratic(s, h, noise=0.3, drift=0.02),
    "sparse rewards": lambda s, h: quadratic(s, h, noise=0.3, kept=0.1),
    "game": game,
    "network, batch 4": lambda s, h: network(s, h, batch=4),
    "network, batch 256": lambda s, h: network(s, h, batch=256),
    "delayed by 10": lambda s, h: network(s, h, delay=10),
    "40 % labels wrong": lambda s, h: network(s, h, wrong=0.4),
    "8 agents in turn": lambda s, h: network(s, h, agents=8),
    "moving classes": lambda s, h: network(s, h, drifts=True),
}


def task(regime: str, seed: int, held: bool) -> Any:
    return REGIMES[regime](seed, held)
