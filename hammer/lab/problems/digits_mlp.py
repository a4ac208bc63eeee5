"""A multi-layer perceptron on the digits: small, not convex."""

from autograd import nn

from ..datasets import digits, split
from ..problem import Problem, Supervised, Target, accuracy
from ..seeds import Streams


def start(streams: Streams, dtype: str) -> Supervised:
    parts = split(digits(), streams("split"), held=400, dtype=dtype)
    rng = streams("init")
    layers = (nn.Linear(64, 64, rng=rng, dtype=dtype), nn.ReLU(), nn.Linear(64, 32, rng=rng, dtype=dtype), nn.ReLU())
    model = nn.Sequential(*layers, nn.Linear(32, 10, rng=rng, dtype=dtype))
    return Supervised(parts, model, nn.losses.cross_entropy, accuracy, batch_size=32, rng=streams("batches"))


PROBLEM = Problem(
    name="digits_mlp",
    title="MLP, digits",
    about="perceptron 64-64-32-10 with ReLU on 8×8 digits",
    data="scikit-learn load_digits: 1,397 to train on, 400 held out",
    start=start,
    steps=300,
    eval_every=5,
    batch_size=32,
    loss="held-out cross-entropy",
    metric="accuracy",
    target=Target(
        0.219, "targets.yaml: 8 of 10 scoring seeds of adamw, the best baseline, reach it within 150 of 300 steps"
    ),
)
