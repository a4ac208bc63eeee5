"""Matrix factorisation: an image as the product of two thin matrices, learned from some of its pixels."""

from typing import Any

from autograd import DiffTensor, nn, ops

from ..datasets import Dataset, photograph, pixels, reduced, split
from ..problem import Problem, Supervised, Target, psnr
from ..seeds import Streams

RANK = 8


class Factors(nn.Module):
    """The value at row i and column j is ``rows[i] · columns[j]``."""

    def __init__(self, shape: tuple[int, int], streams: Streams, dtype: str):
        super().__init__()
        rng = streams("init")
        self.rows, self.columns = (
            nn.Parameter(nn.init.normal((n, RANK), rng, std=RANK**-0.5, dtype=dtype)) for n in shape
        )

    def forward(self, places: DiffTensor) -> Any:
        i, j = places.raw[:, 0], places.raw[:, 1]
        return ops.sum(ops.embedding(i, self.rows) * ops.embedding(j, self.columns), axis=1, keepdims=True)


def start(streams: Streams, dtype: str) -> Supervised:
    image = reduced(photograph("china"), 6)
    places, values = pixels(image - image.mean())
    data = Dataset("china", "scikit-learn load_sample_image", places, values)
    parts = split(data, streams("split"), held=len(values) // 5, dtype=dtype)
    model = Factors(image.shape, streams, dtype)
    return Supervised(parts, model, nn.losses.mse_loss, psnr, batch_size=512, rng=streams("batches"))


PROBLEM = Problem(
    name="image_factorisation",
    title="Matrix factorisation, image",
    about="the photograph of a temple, 71×106 pixels, as a product of rank 8, from four fifths of its pixels",
    data="scikit-learn load_sample_image: 6,021 pixels to train on, 1,505 held out",
    start=start,
    steps=400,
    eval_every=10,
    batch_size=512,
    loss="held-out mean squared error",
    metric="PSNR (dB)",
    target=Target(
        0.00767, "targets.yaml: 8 of 10 scoring seeds of adamw, the best baseline, reach it within 200 of 400 steps"
    ),
)
