"""Data for configs: a *source* is a dataset with what a model must know of it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from autograd.train import ArrayDataset, DataError, ImageFolder, Subset
from autograd.train.config import Config

from .. import datasets
from ..datasets import Dataset
from . import text


@dataclass(frozen=True)
class Source:
    """Data to train on.

    Attributes:
        train: a dataset (see ``autograd.train.data``).
        val: the part to validate on; None: a part of ``train`` is held out.
        shape: of one input, without the axis of the examples.
        outputs: numbers that the model gives for an example (a place of it, in language modelling): classes, or targets.
        standardise: whether inputs, and real targets, are brought to mean 0 and deviation 1 of the training part.
        about: what it is, for people.
    """

    train: Any
    val: Any = None
    shape: tuple[int, ...] = ()
    outputs: int = 1
    standardise: bool = False
    about: str = field(default="", compare=False)


def mnist() -> Source:
    """5,000 handwritten digits, (1, 28, 28), in [0, 1]; ten classes."""
    return _arrays(datasets.mnist())


def digits() -> Source:
    """1,797 handwritten digits, 64 numbers each, in [0, 1]; ten classes."""
    return _arrays(datasets.digits())


def diabetes() -> Source:
    """442 patients, 10 measurements; the progress of the disease after a year."""
    return _arrays(datasets.diabetes(), standardise=True)


def _arrays(data: Dataset, standardise: bool = False) -> Source:
    classes = data.y.dtype.kind == "i"
    x, y = data.x.astype(np.float32), data.y if classes else data.y.astype(np.float32)
    outputs = int(y.max()) + 1 if classes else y.shape[1]
    return Source(ArrayDataset(x, y), None, x.shape[1:], outputs, standardise, data.source)


def images(config: Config) -> Source:
    """The images of ``data.images_dir`` by the rows of ``data.labels_file``."""
    data, classes = config.data, config.task == "classification"
    assert data.images_dir is not None and data.labels_file is not None
    folder = ImageFolder(data.images_dir, data.labels_file, kind="class" if classes else "number", size=data.image_size)
    if not classes:
        folder.targets = folder.targets.reshape(-1, 1)
    outputs = len(folder.classes) if classes else 1
    return Source(folder, None, (3, data.image_size, data.image_size), outputs, False, str(data.images_dir))


def of_config(config: Config, named: Any) -> Source:
    """The source that a config asks for; ``named`` builds what ``data.dataset`` names.

    Raises:
        DataError: there is none, or what a person's own function gave is no data.
    """
    data = config.data
    if data.dataset is not None:
        return _as_source(named(data.dataset), data.dataset.name, config)
    if data.images_dir is not None:
        return images(config)
    if data.text_file is not None:
        words = text.read(Path(data.text_file))
        return _as_source(words, data.text_file, config)
    raise DataError("data.dataset: the config names no data; give data.dataset, data.images_dir or data.text_file")


def _as_source(made: Any, name: str, config: Config) -> Source:
    if isinstance(made, Source):
        return made
    if isinstance(made, str):
        train, val, vocabulary = text.sequences(made, config, name)
        about = f"{name}: {len(vocabulary)} words in the vocabulary"
        return Source(train, val, (config.data.sequence_length,), len(vocabulary), False, about)
    if isinstance(made, tuple) and len(made) == 2:
        x, y = (np.asarray(part) for part in made)
        if y.ndim == 1 and config.task == "regression":
            y = y[:, None]
        x = x.astype(np.float32) if x.dtype.kind == "f" else x
        y = y.astype(np.float32) if config.task == "regression" else y
        made = ArrayDataset(x, y)
    if not (hasattr(made, "__len__") and hasattr(made, "__getitem__") and hasattr(made, "targets")):
        raise DataError(
            f"data.dataset: {name} gave {type(made).__name__}; it must return a tuple of arrays (x, y), a text, a dataset with "
            "targets, or a hammer.lab.training.Source"
        )
    targets = np.asarray(made.targets)
    outputs = int(targets.max()) + 1 if config.task != "regression" else int(np.prod(targets.shape[1:]))
    return Source(made, None, tuple(np.shape(made[0][0])), outputs, False, name)


def standardised(train: Any, val: Any) -> tuple[Any, Any]:
    """Both parts with the inputs (and real targets) shifted and scaled by the mean and deviation of the training part."""
    parts = [_columns(train), _columns(val) if val is not None else None]
    scaled: list[list[np.ndarray]] = [[], []]
    for i, column in enumerate(parts[0] or ()):
        real = column.dtype.kind == "f"
        mean = column.mean(axis=0, dtype=np.float64) if real else 0
        deviation = column.std(axis=0, dtype=np.float64) if real else 1
        deviation = np.where(deviation > 0, deviation, 1.0)
        for part, out in zip(parts, scaled, strict=True):
            if part is not None:
                out.append(((part[i] - mean) / deviation).astype(column.dtype) if real else part[i])
    return ArrayDataset(*scaled[0]), None if val is None else ArrayDataset(*scaled[1])


def _columns(part: Any) -> tuple[np.ndarray, ...]:
    if isinstance(part, Subset) and isinstance(part.dataset, ArrayDataset):
        return part.dataset.batch(part.indices)
    assert isinstance(part, ArrayDataset)
    return part.arrays
