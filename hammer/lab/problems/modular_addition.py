"""Modular addition: the network first learns the examples by heart and much later the rule ("grokking")."""

from typing import Any

import numpy as np

from autograd import DiffTensor, nn, ops

from ..datasets import Dataset, split
from ..problem import Problem, Supervised, accuracy
from ..seeds import Streams

MODULUS, WIDTH = 47, 256


class Adder(nn.Module):
    """relu(A[a] + B[b]) times a matrix: pairs (N, 2) of numbers below ``MODULUS`` to logits (N, MODULUS)."""

    def __init__(self, rng: np.random.Generator, dtype: str):
        super().__init__()
        self.a, self.b = (
            nn.Parameter(nn.init.normal((MODULUS, WIDTH), rng, std=MODULUS**-0.5, dtype=dtype)) for _ in range(2)
        )
        self.head = nn.Linear(WIDTH, MODULUS, bias=False, rng=rng, dtype=dtype)

    def forward(self, pairs: DiffTensor) -> Any:
        first, second = pairs.raw[:, 0], pairs.raw[:, 1]
        return self.head(ops.relu(ops.embedding(first, self.a) + ops.embedding(second, self.b)))


def start(streams: Streams, dtype: str) -> Supervised:
    pairs = np.indices((MODULUS, MODULUS)).reshape(2, -1).T
    data = Dataset("modular_addition", "every pair", pairs, pairs.sum(axis=1) % MODULUS)
    parts = split(data, streams("split"), held=len(pairs) // 2, dtype=dtype)
    model = Adder(streams("init"), dtype)
    return Supervised(parts, model, nn.losses.cross_entropy, accuracy, batch_size=512, rng=streams("batches"))


PROBLEM = Problem(
    name="modular_addition",
    title="Modular addition (grokking)",
    about="one hidden layer of 256 that learns (a + b) mod 47 from half of the pairs (Power et al. 2022)",
    data="every pair: 1,105 to train on, 1,104 held out",
    start=start,
    steps=3000,
    eval_every=50,
    batch_size=512,
    loss="held-out cross-entropy",
    metric="accuracy",
    target=None,
)
