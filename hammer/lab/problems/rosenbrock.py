"""Rosenbrock's function: a curved valley, steep across and nearly flat along."""

import numpy as np

from autograd import DiffTensor

from ..problem import Problem, Surface, Target
from ..seeds import Streams


def function(x: DiffTensor) -> DiffTensor:
    """(1 - x₀)² + 100 (x₁ - x₀²)², whose minimum is 0 at (1, 1). Rosenbrock, The Computer Journal 3 (1960), 175."""
    a, b = x
    return (1.0 - a) ** 2 + 100.0 * (b - a * a) ** 2


def start(streams: Streams, dtype: str) -> Surface:
    near = np.array([-1.2, 1.0]) + streams("init").normal(scale=0.2, size=2)
    return Surface(function, near.astype(dtype), np.ones(2))


PROBLEM = Problem(
    name="rosenbrock",
    title="Rosenbrock's valley",
    about="Rosenbrock's function in 2 dimensions, started near (-1.2, 1)",
    data="analytic, no noise",
    start=start,
    steps=800,
    eval_every=5,
    batch_size=None,
    loss="f(x)",
    metric="distance",
    target=Target(
        5.13e-3, "targets.yaml: 8 of 10 scoring seeds of momentum, the best baseline, reach it within 400 of 800 steps"
    ),
    dtype="float64",
)
