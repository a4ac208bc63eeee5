"""An ill-conditioned quadratic, turned so that no axis of the parameters is an axis of the bowl."""

import numpy as np

from autograd import DiffTensor, ops

from ..problem import Problem, Surface, Target
from ..seeds import Streams

DIMENSIONS, CONDITION = 32, 1e3


def start(streams: Streams, dtype: str) -> Surface:
    turn, _ = np.linalg.qr(streams("split").normal(size=(DIMENSIONS, DIMENSIONS)))
    hessian = ((turn * np.geomspace(1.0 / CONDITION, 1.0, DIMENSIONS)) @ turn.T).astype(dtype)

    def function(x: DiffTensor) -> DiffTensor:
        return 0.5 * ops.dot(x, ops.matmul(hessian, x))

    return Surface(function, streams("init").normal(size=DIMENSIONS).astype(dtype), np.zeros(DIMENSIONS))


PROBLEM = Problem(
    name="quadratic",
    title="Ill-conditioned quadratic",
    about="½ xᵀHx in 32 dimensions, condition number 1,000, randomly rotated; random starts",
    data="analytic, no noise",
    start=start,
    steps=500,
    eval_every=5,
    batch_size=None,
    loss="f(x)",
    metric="distance",
    target=Target(
        1.01e-5, "targets.yaml: 8 of 10 scoring seeds of adamw, the best baseline, reach it within 250 of 500 steps"
    ),
    dtype="float64",
)
