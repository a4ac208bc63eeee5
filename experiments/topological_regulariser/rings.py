"""Two rings and a network that keeps them apart, with a certificate that it does. The theorem is in README.md."""

import itertools
import math
from typing import Any

import numpy as np

from autograd import grad, ops
from autograd.optim import adam
from hammer.topology import separation

POINTS, WIDTH, STEPS, WARM, RATE, WEIGHT = 100, 32, 500, 200, 0.02, 1.0
"""Samples of each ring; units of two hidden layers; steps, of which the first go without regulariser; Adam's rate; the regulariser's weight."""
CASES = {"nested": 2, "linked": 3}
"""Circles of radius 1 and 2 about one point of the plane; two circles of radius 1 in space that are a Hopf link."""
METHODS = ("labels alone", "regularised")
FRESH = 10_000


def ring(case: str, which: int, angles: np.ndarray) -> np.ndarray:
    """Points of one of the two rings, (n, 2) or (n, 3)."""
    c, s, zero = np.cos(angles), np.sin(angles), np.zeros(len(angles))
    if case == "nested":
        return (1.0 + which) * np.stack([c, s], axis=1)
    return np.stack([1.0 + c, zero, s] if which else [c, s, zero], axis=1)


def sampled(case: str, rng: np.random.Generator) -> tuple[list[np.ndarray], float, float]:
    """Samples of both rings; η, the longest distance of neighbours on a ring; ε, how far any point of a ring is from a sample at most."""
    rings, longest, cover = [], 0.0, 0.0
    for which in (0, 1):
        angles = 2 * np.pi * (np.arange(POINTS) + 0.3 * rng.uniform(-1, 1, POINTS)) / POINTS
        radius = 2.0 if case == "nested" and which else 1.0
        gap = float(np.diff(np.append(angles, angles[0] + 2 * np.pi)).max())
        longest, cover = max(longest, 2 * radius * math.sin(gap / 2)), max(cover, 2 * radius * math.sin(gap / 4))
        rings.append(ring(case, which, angles))
    return rings, longest, cover


def network(params: list, x: Any) -> Any:
    """(n, 1): tanh after each layer but the last; tanh is 1-Lipschitz."""
    for k in range(0, len(params), 2):
        x = ops.matmul(x, params[k]) + params[k + 1]
        if k + 2 < len(params):
            x = ops.tanh(x)
    return x


def log_lipschitz(params: list) -> Any:
    """The logarithm of the product of the weights' spectral norms, with its derivative: that of the largest singular value is u vᵀ."""
    total: Any = 0.0
    for w in params[::2]:
        u, _, v = np.linalg.svd(np.asarray(getattr(w, "raw", w)), full_matrices=False)
        total = total + ops.log(ops.sum(w * np.outer(u[:, 0], v[0])))
    return total


def kept_apart(case: str, method: str, seed: int, steps: int) -> dict[str, float]:
    """Train a network to tell the rings apart, and see what is certified and what is so."""
    rng = np.random.default_rng([seed, 0])
    (a, b), longest, cover = sampled(case, rng)
    x, side = np.concatenate([a, b]), np.repeat([-1.0, 1.0], POINTS)
    sizes = (CASES[case], WIDTH, WIDTH, 1)
    params = [p for m, n in itertools.pairwise(sizes) for p in (rng.standard_normal((m, n)) / math.sqrt(m), 0.1 * rng.standard_normal(n))]  # fmt: skip

    def loss(p: list, regularised: bool) -> Any:
        z = network(p, x)
        found = ops.sum(ops.softplus(-side * z[:, 0])) / len(side)
        return found + WEIGHT * (log_lipschitz(p) - ops.log(separation(z, 2))) if regularised else found

    transform, gradient = adam(1.0), grad(loss)
    state = transform.init(params)
    for step in range(steps):
        late = step >= WARM * steps // STEPS  # before, the gap is as likely within a ring as between them
        updates, state = transform.update(gradient(params, method == "regularised" and late), state, params)
        rate = 0.5 * (1 + math.cos(math.pi * step / steps)) * RATE
        params = [p + rate * u for p, u in zip(params, updates, strict=True)]
    bound, gap = math.exp(float(log_lipschitz(params))), float(separation(network(params, x), 2))
    angles = np.random.default_rng([seed, 1]).uniform(0, 2 * np.pi, FRESH)
    # a fresh point belongs to the sample whose image is nearest: on a line, among the neighbours in order
    line = network(params, x)[:, 0]
    order = np.argsort(line)
    middles, owner = (line[order][1:] + line[order][:-1]) / 2, side[order]
    wrong = [float((owner[np.searchsorted(middles, network(params, ring(case, k, angles))[:, 0])] != s).mean()) for k, s in ((0, -1.0), (1, 1.0))]  # fmt: skip
    return {
        "gap": gap, "bound": bound, "ratio": gap / (bound * max(longest, 2 * cover)), "wrong": sum(wrong) / 2,
        "longest": longest, "cover": cover,
    }  # fmt: skip


def kept_apart_by(case: str, method: str, steps: int, seeds: int) -> dict[str, Any]:
    """``kept_apart`` for each seed."""
    rows = [kept_apart(case, method, seed, steps) for seed in range(seeds)]
    return {key: np.array([row[key] for row in rows]) for key in rows[0]}
