"""Logistic regression on the digits: convex, smooth, 650 parameters."""

from autograd import nn

from ..datasets import digits, split
from ..problem import Problem, Supervised, Target, accuracy
from ..seeds import Streams


def start(streams: Streams, dtype: str) -> Supervised:
    parts = split(digits(), streams("split"), held=400, dtype=dtype)
    model = nn.Linear(64, 10, rng=streams("init"), dtype=dtype)
    return Supervised(parts, model, nn.losses.cross_entropy, accuracy, batch_size=64, rng=streams("batches"))


PROBLEM = Problem(
    name="digits_logistic",
    title="Logistic regression, digits",
    about="softmax regression 64-10 on 8×8 digits",
    data="scikit-learn load_digits: 1,397 to train on, 400 held out",
    start=start,
    steps=300,
    eval_every=5,
    batch_size=64,
    loss="held-out cross-entropy",
    metric="accuracy",
    target=Target(
        0.15, "targets.yaml: 8 of 10 scoring seeds of adam, the best baseline, reach it within 150 of 300 steps"
    ),
)
