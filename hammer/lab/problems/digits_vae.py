"""A variational autoencoder on the digits: its gradient is noisy by construction."""

from typing import Any

import numpy as np

from autograd import DiffTensor, nn, no_grad, ops

from ..datasets import Dataset, digits, split
from ..problem import Problem, Supervised, Target
from ..seeds import Streams

LATENT = 8


class VAE(nn.Module):
    """Encoder to a normal of ``LATENT`` dimensions, decoder to the logits of pixels between 0 and 1."""

    def __init__(self, rng: np.random.Generator, dtype: str):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Linear(64, 48, rng=rng, dtype=dtype), nn.ReLU(), nn.Linear(48, 2 * LATENT, rng=rng, dtype=dtype)
        )
        self.decoder = nn.Sequential(
            nn.Linear(LATENT, 48, rng=rng, dtype=dtype), nn.ReLU(), nn.Linear(48, 64, rng=rng, dtype=dtype)
        )

    def forward(self, x: Any, noise: np.ndarray) -> tuple[Any, Any, Any]:
        mean, log_variance = ops.split(self.encoder(x), sections=2, axis=1)
        return self.decoder(mean + ops.exp(0.5 * log_variance) * noise), mean, log_variance


class Variational(Supervised):
    """The negative evidence lower bound in nats for an image (Kingma & Welling 2014, equation 10)."""

    def __init__(self, streams: Streams, dtype: str):
        images = digits()
        data = Dataset("digits", images.source, images.x, images.x)
        parts = split(data, streams("split"), held=400, dtype=dtype)
        model = VAE(streams("init"), dtype)
        super().__init__(parts, model, self._bound, lambda *_: 0.0, batch_size=64, rng=streams("batches"))
        self._noise = streams("noise")
        # Judged with the same noise in every run, so that a target means the same for all.
        self._held_noise = streams("split").normal(size=(len(parts.x_held), LATENT)).astype(dtype)

    def _parts(self, x: np.ndarray, noise: np.ndarray) -> tuple[Any, Any]:
        logits, mean, log_variance = self.model(DiffTensor(x, copy=False), noise)
        pixels = nn.losses.binary_cross_entropy_with_logits(logits, x, reduction="sum")
        divergence = -0.5 * ops.sum(1.0 + log_variance - mean * mean - ops.exp(log_variance))
        return pixels * (1.0 / len(x)), divergence * (1.0 / len(x))

    def _bound(self, x: np.ndarray, noise: np.ndarray) -> Any:
        pixels, divergence = self._parts(x, noise)
        return pixels + divergence

    def loss(self) -> DiffTensor:
        x = self.parts.x[next(self._batches)]
        return self._bound(x, self._noise.normal(size=(len(x), LATENT)).astype(x.dtype))

    def evaluate(self) -> tuple[float, float]:
        with no_grad():
            pixels, divergence = self._parts(self.parts.x_held, self._held_noise)
        return float(pixels + divergence), float(divergence)


PROBLEM = Problem(
    name="digits_vae",
    title="VAE, digits",
    about="variational autoencoder 64-48-8-48-64 with ReLU on 8×8 digits",
    data="scikit-learn load_digits: 1,397 to train on, 400 held out",
    start=Variational,
    steps=400,
    eval_every=10,
    batch_size=64,
    loss="held-out negative evidence lower bound (nats for an image)",
    metric="KL divergence (nats)",
    target=Target(
        26, "targets.yaml: 8 of 10 scoring seeds of adam, the best baseline, reach it within 200 of 400 steps"
    ),
)
