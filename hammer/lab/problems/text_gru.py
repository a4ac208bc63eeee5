"""A recurrent network that predicts the next character of the sonnets."""

from typing import Any

import numpy as np

from autograd import nn

from ..datasets import sonnets, windows
from ..problem import Problem, Supervised, Target, next_accuracy, next_cross_entropy
from ..seeds import Streams

LENGTH, WIDTH = 16, 32


class CharacterGRU(nn.Module):
    """Embedding, GRU, linear: characters (N, L) to logits (N, L, characters)."""

    def __init__(self, characters: int, rng: np.random.Generator, dtype: str):
        super().__init__()
        self.embedding = nn.Embedding(characters, 16, rng=rng, dtype=dtype)
        self.gru = nn.GRU(16, WIDTH, batch_first=True, rng=rng, dtype=dtype)
        self.head = nn.Linear(WIDTH, characters, rng=rng, dtype=dtype)

    def forward(self, ids: Any) -> Any:
        return self.head(self.gru(self.embedding(ids))[0])


def start(streams: Streams, dtype: str) -> Supervised:
    text, alphabet = sonnets()
    model = CharacterGRU(len(alphabet), streams("init"), dtype)
    parts = windows(text, LENGTH, held=0.05)
    return Supervised(parts, model, next_cross_entropy, next_accuracy, batch_size=16, rng=streams("batches"))


PROBLEM = Problem(
    name="text_gru",
    title="GRU, characters",
    about="embedding(16)-GRU(32)-linear over 16 characters, 62 different ones",
    data="Shakespeare's sonnets, in the package: the first 95 % to train on, the rest held out",
    start=start,
    steps=150,
    eval_every=10,
    batch_size=16,
    loss="held-out cross-entropy (nats for a character)",
    metric="accuracy",
    target=Target(
        2.31, "targets.yaml: 8 of 10 scoring seeds of rmsprop, the best baseline, reach it within 75 of 150 steps"
    ),
)
