"""A small causal transformer that predicts the next character of the sonnets."""

from typing import Any

import numpy as np

from autograd import nn

from ..datasets import sonnets, windows
from ..problem import Problem, Supervised, Target, next_accuracy, next_cross_entropy
from ..seeds import Streams

LENGTH, WIDTH, HEADS = 16, 32, 4


class CharacterTransformer(nn.Module):
    """Embedding, places, a block that normalises first, normalisation, linear: (N, L) to logits (N, L, characters)."""

    def __init__(self, characters: int, rng: np.random.Generator, dtype: str):
        super().__init__()
        self.embedding = nn.Embedding(characters, WIDTH, rng=rng, dtype=dtype)
        self.places = nn.PositionalEmbedding(LENGTH, WIDTH, rng=rng, dtype=dtype)
        self.block = nn.TransformerEncoderLayer(
            WIDTH, HEADS, 2 * WIDTH, 0.0, "gelu", batch_first=True, norm_first=True, rng=rng, dtype=dtype
        )
        self.norm = nn.LayerNorm(WIDTH, dtype=dtype)
        self.head = nn.Linear(WIDTH, characters, rng=rng, dtype=dtype)

    def forward(self, ids: Any) -> Any:
        return self.head(self.norm(self.block(self.places(self.embedding(ids)), is_causal=True)))


def start(streams: Streams, dtype: str) -> Supervised:
    text, alphabet = sonnets()
    model = CharacterTransformer(len(alphabet), streams("init"), dtype)
    parts = windows(text, LENGTH, held=0.05)
    return Supervised(parts, model, next_cross_entropy, next_accuracy, batch_size=16, rng=streams("batches"))


PROBLEM = Problem(
    name="text_transformer",
    title="Transformer, characters",
    about="one causal block of width 32 with 4 heads over 16 characters, 62 different ones",
    data="Shakespeare's sonnets, in the package: the first 95 % to train on, the rest held out",
    start=start,
    steps=200,
    eval_every=10,
    batch_size=16,
    loss="held-out cross-entropy (nats for a character)",
    metric="accuracy",
    target=Target(
        2.49, "targets.yaml: 8 of 10 scoring seeds of adamw, the best baseline, reach it within 100 of 200 steps"
    ),
)
