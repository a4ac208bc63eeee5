"""A convolutional network with batch normalisation that tells textures apart."""

from autograd import nn

from ..datasets import Split, textures
from ..problem import Problem, Supervised, Target, accuracy
from ..seeds import Streams


def start(streams: Streams, dtype: str) -> Supervised:
    patches = textures()
    parts = Split(patches.x.astype(dtype), patches.y, patches.x_held.astype(dtype), patches.y_held)
    rng = streams("init")
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, stride=2, padding=1, bias=False, rng=rng, dtype=dtype),  # 16×16 to 8×8
        nn.BatchNorm2d(8, dtype=dtype),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1, bias=False, rng=rng, dtype=dtype),  # 8×8 to 4×4
        nn.BatchNorm2d(16, dtype=dtype),
        nn.ReLU(),
        nn.AvgPool2d(4),
        nn.Flatten(),
        nn.Linear(16, 5, rng=rng, dtype=dtype),
    )
    return Supervised(parts, model, nn.losses.cross_entropy, accuracy, batch_size=32, rng=streams("batches"))


PROBLEM = Problem(
    name="textures_cnn",
    title="CNN with batch norm, textures",
    about="conv(8)-bn-conv(16)-bn-mean-linear on 16×16 patches of sky, temple, shrubs, petals and leaves",
    data="scikit-learn load_sample_image: 2,262 patches to train on, 606 held out, from other parts",
    start=start,
    steps=200,
    eval_every=10,
    batch_size=32,
    loss="held-out cross-entropy",
    metric="accuracy",
    target=Target(
        0.75, "targets.yaml: 8 of 10 scoring seeds of rmsprop, the best baseline, reach it within 100 of 200 steps"
    ),
)
