"""Digits with few labels: features of each class pulled to one distance of neighbours (Hofer et al. 2020), or not."""

import itertools
import math
from functools import cache
from typing import Any

import numpy as np
from scipy.stats import qmc

from autograd import grad, ops
from autograd.optim import adamw
from hammer.topology import rips

CLASSES, LABELS, HIDDEN, FEATURES, STEPS = 10, 10, 64, 32, 300
"""LABELS of each class."""
POOL, VALIDATION = 800, 397
TRIALS, TUNING, SEEDS = 24, 3, 24
APART = 1e3
"""Between classes, in a coordinate of its own: farther than features are, so that no edge of a class's tree leaves it."""
SPACE = {"rate": (1e-3, 3e-2), "decay": (1e-4, 1.0), "weight": (1e-3, 1.0), "beta": (0.3, 10.0)}
"""Log-uniform. Without the regulariser the first two count."""
METHODS = ("plain", "regularised")


@cache
def digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    return ((x - x.mean()) / x.std())[order], y[order]


def drawn(seed: int) -> np.ndarray:
    """Places of LABELS examples of each class in the pool, class by class."""
    rng = np.random.default_rng([seed, 0])
    y = digits()[1][:POOL]
    return np.concatenate([rng.choice(np.flatnonzero(y == c), LABELS, replace=False) for c in range(CLASSES)])


def features(params: list, x: Any) -> Any:
    w, b, v, c = params[:4]
    return ops.relu(ops.matmul(ops.relu(ops.matmul(x, w) + b), v) + c)


def scores(params: list, x: Any) -> Any:
    return ops.matmul(features(params, x), params[4]) + params[5]


def densified(z: Any, beta: float) -> Any:
    """Mean |death − β| over the components of each class's features but the last (Hofer et al. 2020, eq. 9)."""
    marks = APART * np.repeat(np.arange(CLASSES), LABELS)[:, None]
    (components,) = rips(ops.concat([z, marks], axis=1), (0,))
    deaths = components.pairs[:, 1][: -(CLASSES - 1)]  # ascending; the last ones join the classes
    return ops.sum(ops.abs(deaths - beta)) / deaths.shape[0]


def error(method: str, settings: dict[str, float], seed: int, held: slice, steps: int) -> float:
    """Share of held-out digits that a network is wrong about which was trained on few labels."""
    x, y = digits()
    places, rng = drawn(seed), np.random.default_rng([seed, 1])
    mine, labels = x[places], np.eye(CLASSES)[y[places]]
    sizes = (64, HIDDEN, FEATURES, CLASSES)
    params = [p for m, n in itertools.pairwise(sizes) for p in (rng.standard_normal((m, n)) * math.sqrt(2 / m), np.zeros(n))]  # fmt: skip

    def loss(p: list) -> Any:
        z = features(p, mine)
        fit = -ops.sum(ops.log_softmax(ops.matmul(z, p[4]) + p[5], axis=-1) * labels) / len(labels)
        return fit + settings["weight"] * densified(z, settings["beta"]) if method == "regularised" else fit

    transform, gradient = adamw(settings["rate"], weight_decay=settings["decay"]), grad(loss)
    state = transform.init(params)
    for _ in range(steps):
        updates, state = transform.update(gradient(params), state, params)
        params = [p + u for p, u in zip(params, updates, strict=True)]
    return float((scores(params, x[held]).argmax(axis=1) != y[held]).mean())


def points(trials: int) -> list[dict[str, float]]:
    """The settings that are tried: the same scrambled Halton points for both methods."""
    low, high = np.log(np.array([*SPACE.values()])).T
    drawn = np.exp(low + (high - low) * qmc.Halton(len(SPACE), rng=np.random.default_rng(0)).random(trials))
    return [dict(zip(SPACE, map(float, row), strict=True)) for row in drawn]


def tuned(method: str, trials: int, steps: int) -> dict[str, Any]:
    """The settings with the lowest mean error on the validation part over the tuning seeds."""
    held = slice(POOL, POOL + VALIDATION)
    tried = points(trials)
    errors = np.array([[error(method, one, 1000 + s, held, steps) for s in range(TUNING)] for one in tried])
    return {"errors": errors, **tried[int(errors.mean(axis=1).argmin())]}


def judged(method: str, settings: list[float], steps: int, seeds: int) -> dict[str, Any]:
    """Errors of fresh seeds on the test part."""
    given = dict(zip(SPACE, settings, strict=True))
    return {"errors": np.array([error(method, given, s, slice(POOL + VALIDATION, None), steps) for s in range(seeds)])}
