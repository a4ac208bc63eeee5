"""A deep autoencoder: eight layers with a narrow middle, long a test of optimizers (Martens 2010)."""

import itertools

from autograd import nn

from ..datasets import Dataset, digits, split
from ..problem import Problem, Supervised, Target, r_squared
from ..seeds import Streams

WIDTHS = (64, 48, 32, 16, 6, 16, 32, 48, 64)


def start(streams: Streams, dtype: str) -> Supervised:
    images = digits()
    data = Dataset("digits", images.source, images.x, images.x)
    parts = split(data, streams("split"), held=400, dtype=dtype)
    rng = streams("init")
    layers: list[nn.Module] = []
    for i, (inputs, outputs) in enumerate(itertools.pairwise(WIDTHS)):
        if i:
            layers.append(nn.Tanh())
        layers.append(nn.Linear(inputs, outputs, rng=rng, dtype=dtype))
    model = nn.Sequential(*layers)
    return Supervised(parts, model, nn.losses.mse_loss, r_squared, batch_size=64, rng=streams("batches"))


PROBLEM = Problem(
    name="digits_autoencoder",
    title="Deep autoencoder, digits",
    about="perceptron 64-48-32-16-6-16-32-48-64 with tanh that reproduces 8×8 digits",
    data="scikit-learn load_digits: 1,397 to train on, 400 held out",
    start=start,
    steps=400,
    eval_every=10,
    batch_size=64,
    loss="held-out mean squared error",
    metric="R²",
    target=Target(
        0.033, "targets.yaml: 8 of 10 scoring seeds of adam, the best baseline, reach it within 200 of 400 steps"
    ),
)
