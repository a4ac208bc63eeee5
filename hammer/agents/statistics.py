"""Batch normalisation over the examples of all ranks: ``sync_statistics(comm, model)``.

Each rank alone normalises by the mean and variance of its own examples, which few examples make noisy. Synchronised, a layer
uses those of all ranks' examples, in the forward pass and in the derivative: the sum over ranks is an operation like
another, whose derivative is the sum over ranks of the cotangents. A layer so sends 4 C + 1 numbers a step, in three messages forward and
two backward, none of which can be hidden.

    agents.sync_statistics(comm, model)
    agents.backward(comm, loss(model(x), y), optimizer.params)      # one batch for each rank, all of the same length

Gradients are then those of one process with the whole batch, to rounding. ``Team`` computes micro-batches one after the other, so
there is nothing to synchronise: it refuses such a model, and averages running statistics instead.
"""

from typing import Any

import numpy as np

from autograd import DiffTensor, backend, nn, ops
from autograd.extend import defvjp, primitive

from .buckets import host
from .communicator import Communicator


@primitive
def total(x: Any, comm: Communicator) -> Any:
    """The sum of the ranks' arrays, which can be differentiated: all ranks call it, and differentiate what follows, alike."""
    found = comm.all_reduce(host(x)).wait()
    return backend.scalar(backend.to_device(np.asarray(found), backend.place_of(x)))


defvjp(total, lambda ans, x, comm: lambda g: total(g, comm), argnums=(0,))


def _tensor(x: Any) -> DiffTensor:
    """Of what is not tracked a primitive's result is a plain array."""
    return x if isinstance(x, DiffTensor) else DiffTensor(x, copy=False)


class _Synced:
    """What is put before a class of batch normalisation."""

    comm: Communicator

    def forward(self: Any, x: Any) -> Any:
        if not self.training:
            return super().forward(x)  # type: ignore[misc]
        x = _tensor(x)
        axes, shape = (0, *range(2, x.ndim)), (1, -1, *[1] * (x.ndim - 2))
        n = int(self.comm.all_reduce(np.array(x.size // self.num_features)).wait())
        if n < 2:
            raise ValueError(
                f"{type(self).__name__}: all ranks together have {n} values for each channel; training needs 2"
            )
        mean = ops.reshape(_tensor(total(ops.sum(x, axis=axes), self.comm)), shape) * (1 / n)
        apart = x - mean
        var = ops.reshape(_tensor(total(ops.sum(apart * apart, axis=axes), self.comm)), shape) * (1 / n)
        if self.running_mean is not None:
            self._observe(mean, var, n)
        z = apart / ops.sqrt(var + self.eps)
        return z if self.weight is None else z * ops.reshape(self.weight, shape) + ops.reshape(self.bias, shape)


class SyncedBatchNorm1d(_Synced, nn.BatchNorm1d):
    """``BatchNorm1d`` over the examples of all ranks."""


class SyncedBatchNorm2d(_Synced, nn.BatchNorm2d):
    """``BatchNorm2d`` over the examples of all ranks."""


SYNCED: dict[type, type] = {nn.BatchNorm1d: SyncedBatchNorm1d, nn.BatchNorm2d: SyncedBatchNorm2d}


def sync_statistics(comm: Communicator, model: nn.Module) -> int:
    """Make every batch normalisation of a model one over the examples of all ranks. Parameters and running statistics stay.

    Args:
        comm: the ranks; in training all of them run the model forward and backward equally often.
        model: changed in place.

    Returns:
        How many layers were changed.
    """
    found = [m for m in model.modules() if type(m) in SYNCED]
    for m in found:
        object.__setattr__(m, "__class__", SYNCED[type(m)])
        m.comm = comm
    return len(found)


def is_synced(model: Any) -> bool:
    """Whether a model has layers that ``sync_statistics`` has changed."""
    return isinstance(model, nn.Module) and any(isinstance(m, _Synced) for m in model.modules())
