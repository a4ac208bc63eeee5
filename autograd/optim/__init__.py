"""Optimizers: chains of gradient transforms, and a face that steps parameters with them.

``recipes`` has the chains (``sgd``, ``rmsprop``, ``adam``, ``adamw``), ``optimizer`` the faces (``SGD`` and so on),
``schedules`` learning rates as functions of the step, ``plateau`` one that follows a metric.

    >>> from autograd import DiffTensor, ops, optim
    >>> w = DiffTensor([3.0, 4.0], requires_grad=True)
    >>> optimizer = optim.SGD([w], lr=0.1, momentum=0.9)
    >>> for _ in range(200):
    ...     optimizer.zero_grad()
    ...     ops.sum(w * w).backward()
    ...     optimizer.step()
    >>> bool(abs(w.numpy()).max() < 1e-3)
    True
"""

from . import schedules
from .optimizer import SGD, Adam, AdamW, Optimizer, RMSprop
from .plateau import ReduceOnPlateau
from .recipes import adam, adamw, rmsprop, sgd

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "Optimizer",
    "RMSprop",
    "ReduceOnPlateau",
    "adam",
    "adamw",
    "rmsprop",
    "schedules",
    "sgd",
]
