"""SIREN: an image as a function of place, by a network whose activations are sines."""

from typing import Any

import numpy as np

from autograd import nn, ops

from ..datasets import Dataset, photograph, pixels, reduced, split
from ..problem import Problem, Supervised, Target, psnr
from ..seeds import Streams

WIDTH, OMEGA = 48, 20.0


class Sine(nn.Module):
    """sin(ω (Wx + b)) with the initialisation of Sitzmann et al. (NeurIPS 2020), section 3.2."""

    def __init__(self, inputs: int, outputs: int, first: bool, rng: np.random.Generator, dtype: str):
        super().__init__()
        self.linear = nn.Linear(inputs, outputs, rng=rng, dtype=dtype)
        bound = 1.0 / inputs if first else np.sqrt(6.0 / inputs) / OMEGA
        self.linear.weight.data = nn.init.uniform((outputs, inputs), rng, -bound, bound, dtype)

    def forward(self, x: Any) -> Any:
        return ops.sin(self.linear(x) * OMEGA)


def start(streams: Streams, dtype: str) -> Supervised:
    image = reduced(photograph("flower")[80:360, 160:440], 5)
    places, values = pixels(image)
    data = Dataset("flower", "scikit-learn load_sample_image", 2.0 * places / (np.array(image.shape) - 1) - 1.0, values)
    parts = split(data, streams("split"), held=len(values) // 5, dtype=dtype)
    rng = streams("init")
    layers = (Sine(2, WIDTH, True, rng, dtype), Sine(WIDTH, WIDTH, False, rng, dtype))
    model = nn.Sequential(*layers, nn.Linear(WIDTH, 1, rng=rng, dtype=dtype))
    return Supervised(parts, model, nn.losses.mse_loss, psnr, batch_size=256, rng=streams("batches"))


PROBLEM = Problem(
    name="image_siren",
    title="SIREN, image",
    about="sines 2-48-48-1 that give the value of a pixel of a flower, 56×56, from its place",
    data="scikit-learn load_sample_image: 2,509 pixels to train on, 627 held out",
    start=start,
    steps=400,
    eval_every=10,
    batch_size=256,
    loss="held-out mean squared error",
    metric="PSNR (dB)",
    target=Target(
        0.00604, "targets.yaml: 8 of 10 scoring seeds of momentum, the best baseline, reach it within 200 of 400 steps"
    ),
)
