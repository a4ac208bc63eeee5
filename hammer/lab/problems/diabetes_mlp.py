"""Regression on a small table of medical measurements."""

from autograd import nn

from ..datasets import diabetes, split, standardised
from ..problem import Problem, Supervised, Target, r_squared
from ..seeds import Streams


def start(streams: Streams, dtype: str) -> Supervised:
    parts = standardised(split(diabetes(), streams("split"), held=122, dtype=dtype))
    rng = streams("init")
    model = nn.Sequential(nn.Linear(10, 16, rng=rng, dtype=dtype), nn.Tanh(), nn.Linear(16, 1, rng=rng, dtype=dtype))
    return Supervised(parts, model, nn.losses.mse_loss, r_squared, batch_size=32, rng=streams("batches"))


PROBLEM = Problem(
    name="diabetes_mlp",
    title="Regression, diabetes",
    about="perceptron 10-16-1 with tanh, standardised inputs and target",
    data="scikit-learn load_diabetes: 320 to train on, 122 held out",
    start=start,
    steps=200,
    eval_every=5,
    batch_size=32,
    loss="held-out mean squared error",
    metric="R²",
    target=Target(
        0.582, "targets.yaml: 8 of 10 scoring seeds of adam, the best baseline, reach it within 100 of 200 steps"
    ),
)
