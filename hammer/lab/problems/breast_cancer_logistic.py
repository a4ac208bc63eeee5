"""Logistic regression with an L2 penalty: strongly convex, two classes, 31 parameters."""

from typing import Any

import numpy as np

from autograd import nn, ops

from ..datasets import breast_cancer, split, standardised
from ..problem import Problem, Supervised, Target, binary_accuracy
from ..seeds import Streams

PENALTY = 1e-2


def start(streams: Streams, dtype: str) -> Supervised:
    parts = standardised(split(breast_cancer(), streams("split"), held=169, dtype=dtype), targets=False)
    model = nn.Linear(30, 1, rng=streams("init"), dtype=dtype)

    weight: Any = model.weight

    def loss(logits: Any, y: np.ndarray) -> Any:
        penalty = (0.5 * PENALTY) * ops.sum(weight * weight)
        return nn.losses.binary_cross_entropy_with_logits(logits, y) + penalty

    return Supervised(parts, model, loss, binary_accuracy, batch_size=32, rng=streams("batches"))


PROBLEM = Problem(
    name="breast_cancer_logistic",
    title="L2 logistic regression, breast cancer",
    about="logistic regression on 30 standardised measurements with the penalty 0.005 ‖w‖²",
    data="scikit-learn load_breast_cancer: 400 to train on, 169 held out",
    start=start,
    steps=300,
    eval_every=5,
    batch_size=32,
    loss="held-out cross-entropy with the penalty",
    metric="accuracy",
    target=Target(
        0.135, "targets.yaml: 8 of 10 scoring seeds of momentum, the best baseline, reach it within 150 of 300 steps"
    ),
)
