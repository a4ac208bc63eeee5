"""Modular addition: the network first learns the examples by heart, and the rule only later ("grokking").

A squared activation, the squared error and weight decay on two examples of five make the delay short enough to run: with
Adam at 0.01 every training pair is right after 50 steps, a sixth of the held-out ones after 200, and all after 400. Without
the penalty the rule is not found within the step limit, which is why it is a part of the loss and not of an optimizer.
"""

from typing import Any

import numpy as np

from autograd import DiffTensor, nn, ops

from ..datasets import Dataset, split
from ..problem import Problem, Supervised, Target, accuracy
from ..seeds import Streams

MODULUS, WIDTH, TRAINED_ON, PENALTY = 31, 128, 384, 1e-3


class Adder(nn.Module):
    """(A[a] + B[b])² times a matrix: pairs (N, 2) of numbers below ``MODULUS`` to outputs (N, MODULUS)."""

    def __init__(self, rng: np.random.Generator, dtype: str):
        super().__init__()
        self.a, self.b = (
            nn.Parameter(nn.init.normal((MODULUS, WIDTH), rng, std=MODULUS**-0.5, dtype=dtype)) for _ in range(2)
        )
        self.head = nn.Parameter(nn.init.normal((WIDTH, MODULUS), rng, std=WIDTH**-0.5, dtype=dtype))

    def forward(self, pairs: DiffTensor) -> Any:
        first, second = pairs.raw[:, 0], pairs.raw[:, 1]
        hidden = ops.embedding(first, self.a) + ops.embedding(second, self.b)
        return ops.matmul(hidden * hidden, self.head)


class Penalised(Supervised):
    """Trained on the loss and ½ ``PENALTY`` times the sum of the squared parameters; judged by the loss alone."""

    def loss(self) -> DiffTensor:
        squares = sum(ops.sum(p * p) for p in self.parameters)
        return super().loss() + 0.5 * PENALTY * squares


def squared_error(prediction: Any, y: np.ndarray) -> Any:
    """The squared distance of the outputs (N, MODULUS) from the right classes' indicators, a mean over the examples."""
    wrong = prediction - np.eye(MODULUS, dtype=prediction.dtype)[y]
    return ops.sum(wrong * wrong) / len(y)


def start(streams: Streams, dtype: str) -> Supervised:
    pairs = np.indices((MODULUS, MODULUS)).reshape(2, -1).T
    data = Dataset("modular_addition", "every pair", pairs, pairs.sum(axis=1) % MODULUS)
    parts = split(data, streams("split"), held=len(pairs) - TRAINED_ON, dtype=dtype)
    model = Adder(streams("init"), dtype)
    return Penalised(parts, model, squared_error, accuracy, batch_size=TRAINED_ON, rng=streams("batches"))


PROBLEM = Problem(
    name="modular_addition",
    title="Modular addition (grokking)",
    about="one hidden layer of 128 squares that learns (a + b) mod 31 from 40 % of the pairs, with weight decay (Power et al. 2022, Gromov 2023)",
    data="every pair: 384 to train on, all at once, 577 held out",
    start=start,
    steps=1000,
    eval_every=20,
    batch_size=TRAINED_ON,
    loss="held-out squared error",
    metric="accuracy",
    target=Target(
        0.0489, "targets.yaml: 8 of 10 scoring seeds of adamw, the best baseline, reach it within 500 of 1000 steps"
    ),
)
