"""Datasets and batches: every batch is a function of (seed, epoch, number of the batch), and of nothing else.

A *dataset* has a length and ``dataset[i]``, an example: a tuple of arrays, numbers or strings, the target last. Two methods
are optional: ``batch(indices)`` makes a whole batch at once, where that is faster, and ``example(i, rng)`` an example with
random augmentation. A ``Loader`` makes batches of one. It keeps no position: ``loader.batches(epoch, start)`` yields the
batches of an epoch from number ``start`` on, so a run that was interrupted goes on where it was, and worker processes
(``workers``) change nothing but the time.

    >>> import numpy as np
    >>> from autograd.train import ArrayDataset, Loader, split
    >>> data = ArrayDataset(np.arange(10.0), np.arange(10) % 2)
    >>> train, val = split(data, 0.2, seed=0, stratify=True)
    >>> len(train), sorted(val.targets.tolist())
    (8, [0, 1])
    >>> loader = Loader(train, batch_size=3, shuffle=True, seed=0)
    >>> [len(y) for x, y in loader.batches(epoch=0)]
    [3, 3, 2]
"""

import pickle
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from .. import backend
from ..tensor import DiffTensor
from .workers import Pool

ORDER, AUGMENT = 0, 1
"""The spawn keys of a loader's two kinds of streams: the order of an epoch, and the augmentation of each place in it."""


class DataError(ValueError):
    """Data that cannot be used; the message names the file and line, or the example, and the reason."""


class ArrayDataset:
    """Arrays of one length; example i is the tuple of their rows i, and the last array has the targets.

    Args:
        arrays: NumPy arrays, arrays of another library (batches are then of that library, on its device), tensors, or
            sequences of numbers.
    """

    def __init__(self, *arrays: Any):
        if not arrays:
            raise DataError("ArrayDataset: give at least one array")
        raws = [a.raw if isinstance(a, DiffTensor) else a for a in arrays]
        self.arrays = tuple(a if backend.is_array(a) else np.asarray(a) for a in raws)
        lengths = [a.shape[0] if a.shape else None for a in self.arrays]
        if None in lengths or len(set(lengths)) > 1:
            raise DataError(
                f"ArrayDataset: the arrays need one length, not {' and '.join(str(tuple(a.shape)) for a in self.arrays)}"
            )

    def __len__(self) -> int:
        return int(self.arrays[0].shape[0])

    def __getitem__(self, i: int) -> tuple:
        return tuple(a[int(i)] for a in self.arrays)

    def batch(self, indices: np.ndarray) -> tuple:
        return tuple(_rows(a, indices) for a in self.arrays)

    @property
    def targets(self) -> Any:
        return self.arrays[-1]


def _rows(array: Any, indices: np.ndarray) -> Any:
    if type(array) is np.ndarray:
        return array[indices]
    return backend.xp(array).take(array, backend.to_device(indices, backend.place_of(array)), axis=0)


class Subset:
    """The examples of a dataset at ``indices``, in that order."""

    def __init__(self, dataset: Any, indices: Sequence[int] | np.ndarray):
        self.dataset, self.indices = dataset, np.asarray(indices, np.int64)
        if self.indices.size and not (self.indices.min() >= 0 and self.indices.max() < len(dataset)):
            raise DataError(f"Subset: indices must be from 0 to {len(dataset) - 1}")
        if hasattr(dataset, "batch"):
            self.batch = lambda places: dataset.batch(self.indices[places])
        if hasattr(dataset, "example"):
            self.example = lambda i, rng: dataset.example(int(self.indices[i]), rng)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, i: int) -> Any:
        return self.dataset[int(self.indices[i])]

    @property
    def targets(self) -> Any:
        return _rows(self.dataset.targets, self.indices)

    def __reduce__(self) -> tuple:  # workers get the parts and make the functions themselves
        return Subset, (self.dataset, self.indices)


def _labels(dataset: Any, what: str) -> np.ndarray:
    if not hasattr(dataset, "targets"):
        raise DataError(f"{what}: the dataset needs an attribute targets, an array of classes for all its examples")
    labels = np.asarray(
        backend.to_device(dataset.targets, "cpu") if backend.is_array(dataset.targets) else dataset.targets
    )
    if labels.ndim != 1 or labels.dtype.kind == "f":
        raise DataError(
            f"{what}: targets must be classes, one for each example, not {labels.dtype} of shape {labels.shape}"
        )
    return labels


def split(dataset: Any, fraction: float = 0.2, *, seed: int = 0, stratify: bool = False) -> tuple[Subset, Subset]:
    """Cut a dataset at random into a training part and a validation part, which depend on ``seed`` and the length only.

    Args:
        dataset: any dataset.
        fraction: the share of the validation part, rounded to whole examples.
        seed: of the draw.
        stratify: keep the shares of the classes, to within one example, in both parts; needs ``dataset.targets``.

    Raises:
        DataError: a part would be empty.
    """
    n = len(dataset)
    held = round(n * fraction)
    if not 0 < fraction < 1 or not 0 < held < n:
        raise DataError(
            f"split: {fraction} of {n} examples leaves a part empty; use a share between 0 and 1 of more examples"
        )
    order = np.random.default_rng(np.random.SeedSequence(seed)).permutation(n)
    if not stratify:
        return Subset(dataset, np.sort(order[held:])), Subset(dataset, np.sort(order[:held]))
    labels = _labels(dataset, "split(stratify=True)")
    classes, counts = np.unique(labels, return_counts=True)
    exact = counts * (held / n)
    quota = np.floor(exact).astype(int)
    largest = np.argsort(quota - exact, kind="stable")  # the largest remainders get the examples left over
    quota[largest[: held - quota.sum()]] += 1
    chosen = np.concatenate([order[labels[order] == c][:k] for c, k in zip(classes, quota, strict=True)])
    return Subset(dataset, np.setdiff1d(np.arange(n), chosen)), Subset(dataset, np.sort(chosen))


def collate(examples: Sequence[Any]) -> Any:
    """Examples as one batch: arrays and numbers are stacked along a new first axis, strings listed, tuples and dicts kept.

    Raises:
        DataError: arrays of several shapes.
    """
    first = examples[0]
    if isinstance(first, (tuple, list)):
        return tuple(collate([e[i] for e in examples]) for i in range(len(first)))
    if isinstance(first, dict):
        return {key: collate([e[key] for e in examples]) for key in first}
    if isinstance(first, str):
        return list(examples)
    arrays = [e.raw if isinstance(e, DiffTensor) else np.asarray(e) if not backend.is_array(e) else e for e in examples]
    odd = next((i for i, a in enumerate(arrays) if a.shape != arrays[0].shape), None)
    if odd is not None:
        raise DataError(
            f"collate: example {odd} of the batch has shape {tuple(arrays[odd].shape)}, the first {tuple(arrays[0].shape)}; "
            "bring them to one shape in the dataset, or give the loader a collate function that pads"
        )
    return backend.xp(arrays[0]).stack(arrays)


class Loader:
    """Batches of a dataset.

    Args:
        dataset: see the module.
        batch_size: examples in a batch; the last one may have fewer.
        shuffle: another order in each epoch, from (seed, epoch).
        seed: of the order and of augmentation.
        drop_last: leave out a last batch that is not full.
        balance: draw as many examples as there are, with replacement, each class being equally likely; needs
            ``dataset.targets``.
        augment: whether ``dataset.example(i, rng)`` gets a stream, or None; the default is as ``shuffle`` or ``balance``.
        collate: makes a batch of a list of examples.
        workers: processes that make batches ahead. The dataset is sent to them, so it must be picklable, and the script
            that starts them needs ``if __name__ == "__main__":``. Close the loader, or let it go, to end them.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int = 32,
        *,
        shuffle: bool = False,
        seed: int = 0,
        drop_last: bool = False,
        balance: bool = False,
        augment: bool | None = None,
        collate: Callable[[Sequence[Any]], Any] = collate,
        workers: int = 0,
    ):
        if batch_size < 1 or workers < 0:
            raise DataError(
                f"Loader: batch_size must be at least 1 and workers at least 0, not {batch_size} and {workers}"
            )
        if not len(dataset):
            raise DataError("Loader: the dataset is empty")
        self.dataset, self.batch_size, self.drop_last, self.workers = dataset, batch_size, drop_last, workers
        weights = None
        if balance:
            labels = _labels(dataset, "Loader(balance=True)")
            _, which, counts = np.unique(labels, return_inverse=True, return_counts=True)
            weights = 1.0 / (len(counts) * counts[which])
        augment = (shuffle or balance) if augment is None else augment
        self._make = _Make(dataset, batch_size, shuffle, seed, weights, augment, collate)
        self._pool: Pool | None = None
        if not len(self):
            raise DataError(
                f"Loader: {len(dataset)} examples do not fill one batch of {batch_size}; use drop_last=False"
            )

    def __len__(self) -> int:
        """Batches in an epoch."""
        full, rest = divmod(len(self.dataset), self.batch_size)
        return full + bool(rest and not self.drop_last)

    @property
    def examples(self) -> int:
        """Examples in an epoch."""
        return min(len(self) * self.batch_size, len(self.dataset))

    def order(self, epoch: int) -> np.ndarray:
        """The indices of an epoch's examples in their order."""
        return self._make.order(epoch)

    def batches(self, epoch: int = 0, start: int = 0) -> Iterator[Any]:
        """The batches of an epoch from number ``start`` on."""
        tasks = [(epoch, b) for b in range(start, len(self))]
        if not self.workers:
            return map(self._make, tasks)
        if self._pool is None:
            try:
                self._pool = Pool(self._make, self.workers)
            except (AttributeError, TypeError, pickle.PicklingError) as error:
                raise DataError(
                    f"Loader: workers need a dataset that can be pickled ({error}); or use workers=0"
                ) from None
        return self._pool.map(tasks)

    def __iter__(self) -> Iterator[Any]:
        return self.batches()

    def close(self) -> None:
        """End the worker processes."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None


class _Make:
    """Makes a batch from (epoch, number of the batch): what workers run."""

    def __init__(
        self,
        dataset: Any,
        size: int,
        shuffle: bool,
        seed: int,
        weights: np.ndarray | None,
        augment: bool,
        collate: Callable[[Sequence[Any]], Any],
    ):
        self.dataset, self.size, self.shuffle, self.seed, self.weights = dataset, size, shuffle, seed, weights
        self.augment, self.collate = augment, collate
        self._order: tuple[int, np.ndarray] = (-1, np.arange(0))  # of the last epoch asked for

    def order(self, epoch: int) -> np.ndarray:
        if self._order[0] != epoch:
            n = len(self.dataset)
            rng = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(ORDER, epoch)))
            if self.weights is not None:
                order = rng.choice(n, n, p=self.weights)
            else:
                order = rng.permutation(n) if self.shuffle else np.arange(n)
            self._order = epoch, order
        return self._order[1]

    def __call__(self, task: tuple[int, int]) -> Any:
        epoch, number = task
        first, data = number * self.size, self.dataset
        indices = self.order(epoch)[first : first + self.size]
        if hasattr(data, "example"):
            return self.collate([data.example(int(i), self._rng(epoch, first + k)) for k, i in enumerate(indices)])
        if hasattr(data, "batch") and self.collate is collate:
            return data.batch(indices)
        return self.collate([data[int(i)] for i in indices])

    def _rng(self, epoch: int, place: int) -> np.random.Generator | None:
        if not self.augment:
            return None
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(AUGMENT, epoch, place)))


def as_loader(data: Any, batch_size: int, *, shuffle: bool, seed: int) -> Any:
    """A loader from what ``fit`` takes as data: a loader, a dataset, an array, a tuple of arrays, or an iterable of batches."""
    if hasattr(data, "batches"):
        return data
    if isinstance(data, (tuple, list)) and data and all(hasattr(a, "shape") for a in data):
        data = ArrayDataset(*data)
    elif backend.is_array(data) or isinstance(data, DiffTensor):
        data = ArrayDataset(data)
    if hasattr(data, "__len__") and hasattr(data, "__getitem__") and not isinstance(data, list):
        return Loader(data, batch_size, shuffle=shuffle, seed=seed)
    if hasattr(data, "__iter__") and not hasattr(data, "__next__"):
        return _Batches(data)
    raise TypeError(
        f"data: a Loader, a dataset with a length and [i], a tuple of arrays (x, y), or a list of batches is needed, not "
        f"{type(data).__name__}; an iterator is used up after one epoch: make it a list"
    )


class _Batches:
    """Any iterable of batches as a loader; to go on inside an epoch, the batches that were seen are passed over."""

    def __init__(self, batches: Any):
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)  # a TypeError where the iterable has no length

    def batches(self, epoch: int = 0, start: int = 0) -> Iterator[Any]:
        for i, batch in enumerate(self._batches):
            if i >= start:
                yield batch
