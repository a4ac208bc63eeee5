"""Models for configs. A builder gets, if it takes them, ``shape`` (of one input), ``outputs``, ``rng``, ``dropout`` and ``embed_size``."""

import math
from typing import Any

import numpy as np

from autograd import nn, ops
from autograd.train.config import ConfigError


def mlp(
    hidden: tuple[int, ...] = (64,), *, shape: tuple[int, ...], outputs: int, rng: np.random.Generator, dropout: float
) -> nn.Module:
    """A multi-layer perceptron: linear, ReLU and dropout for each hidden layer, and a linear layer."""
    layers: list[nn.Module] = [nn.Flatten()]
    width = math.prod(shape)
    for n in hidden:
        layers += [nn.Linear(width, n, rng=rng), nn.ReLU(), *([nn.Dropout(dropout, rng=rng)] if dropout else [])]
        width = n
    return nn.Sequential(*layers, nn.Linear(width, outputs, rng=rng))


def cnn(
    channels: tuple[int, ...] = (16, 32),
    hidden: int = 128,
    kernel_size: int = 3,
    log_softmax: bool = False,
    *,
    shape: tuple[int, ...],
    outputs: int,
    rng: np.random.Generator,
    dropout: float,
) -> nn.Module:
    """Convolution, batch normalisation, ReLU and max pooling for each of ``channels``; linear, ReLU, dropout, linear.

    With ``log_softmax`` it ends in log-probabilities, for the loss nll; otherwise in logits, for cross_entropy.
    """
    if len(shape) != 3:
        raise ConfigError(
            f"model.architecture: cnn needs images (channels, height, width), not inputs of shape {shape}; mlp takes any"
        )
    depth, height, width = shape
    layers: list[nn.Module] = []
    for n in channels:
        layers += [
            nn.Conv2d(depth, n, kernel_size, padding=kernel_size // 2, rng=rng),
            nn.BatchNorm2d(n),
            nn.ReLU(),
            nn.MaxPool2d(2),
        ]
        even = 1 - kernel_size % 2
        depth, height, width = n, (height + even) // 2, (width + even) // 2
    if height < 1 or width < 1:
        raise ConfigError(
            f"model.architecture: images of {shape[1]}×{shape[2]} are too small to be halved {len(channels)} times"
        )
    layers += [nn.Flatten(), nn.Linear(depth * height * width, hidden, rng=rng), nn.ReLU()]
    layers += [nn.Dropout(dropout, rng=rng)] if dropout else []
    layers += [nn.Linear(hidden, outputs, rng=rng)]
    return nn.Sequential(*layers, *([nn.LogSoftmax(1)] if log_softmax else []))


class NextWord(nn.Module):
    """A neural language model of a few words' context (Bengio et al. 2003), at all places of a sequence at once.

    Inputs (N, T) are numbers of words, outputs (N, words, T) scores of the next word; each depends on the ``context`` words up
    to its place. Before the first word there are zeros.
    """

    def __init__(self, words: int, embed: int, hidden: int, context: int, dropout: float, rng: np.random.Generator):
        super().__init__()
        self.context = context
        self.embedding = nn.Embedding(words, embed, rng=rng)
        self.mix = nn.Conv1d(embed, hidden, context, rng=rng)
        self.drop = nn.Dropout(dropout, rng=rng)
        self.out = nn.Conv1d(hidden, words, 1, rng=rng)

    def forward(self, ids: Any) -> Any:
        x = ops.moveaxis(self.embedding(ids), -1, 1)
        x = ops.pad(x, ((0, 0), (0, 0), (self.context - 1, 0)))
        return self.out(self.drop(ops.relu(self.mix(x))))


def next_word(
    context: int = 4, hidden: int = 128, *, outputs: int, rng: np.random.Generator, dropout: float, embed_size: int
) -> nn.Module:
    """Scores of the next word from the last ``context`` words: embedding, convolution over them, ReLU, dropout, linear."""
    return NextWord(outputs, embed_size, hidden, context, dropout, rng)
