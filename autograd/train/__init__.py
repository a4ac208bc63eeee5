"""Training: a loop, its data, what it measures, and what it writes.

    >>> import numpy as np
    >>> from autograd import nn, train
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(64, 3)).astype(np.float32)
    >>> y = x @ np.ones((3, 1), np.float32)
    >>> history = train.fit(nn.Linear(3, 1, rng=0), (x, y), loss="mse", lr=0.1, epochs=50, quiet=True)
    >>> history.final["val_loss"] < 0.01
    True

``trainer`` has the loop, ``state`` what it keeps, ``choices`` the names it knows, ``quick`` the one line above. ``data``, ``images`` and ``workers`` make batches,
``metrics`` measures, ``callbacks`` look on and stop, ``loggers`` write. ``config`` is the file that describes a run, ``files``
and ``folder`` are checkpoints on disk. See docs/training.md.
"""

from . import callbacks, config, data, loggers, metrics
from .callbacks import Callback, EarlyStopping, ReduceLROnPlateau, Statistics
from .data import ArrayDataset, DataError, Loader, Subset, as_loader, collate, split
from .files import CheckpointError, load_state, save_state
from .folder import CheckpointFolder
from .images import ImageFolder
from .interrupt import Interrupted
from .loggers import ConsoleLogger, CSVLogger, JSONLLogger, TensorBoardLogger, WandbLogger
from .metrics import Metric
from .quick import fit
from .state import Function, History
from .trainer import NonFiniteError, Trainer
from .workers import WorkerError

__all__ = [
    "ArrayDataset", "CSVLogger", "Callback", "CheckpointError", "CheckpointFolder", "ConsoleLogger", "DataError", "EarlyStopping",
    "Function", "History", "ImageFolder", "Interrupted", "JSONLLogger", "Loader", "Metric", "NonFiniteError", "ReduceLROnPlateau",
    "Statistics", "Subset", "TensorBoardLogger", "Trainer", "WandbLogger", "WorkerError", "as_loader", "callbacks", "collate",
    "config", "data", "fit", "load_state", "loggers", "metrics", "save_state", "split",
]  # fmt: skip
