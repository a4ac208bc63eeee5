"""Optimizers: chains of gradient transforms, and a face that steps parameters with them.

``recipes`` has the classic chains (``sgd``, ``adam``, ...), ``modern`` and ``second_order`` the later ones, ``faces`` their
optimizers (``SGD`` and so on), ``line_search`` L-BFGS, ``schedules`` learning rates as functions of the step, ``plateau`` one
that follows a metric. docs/optimizers.md has a table of all.

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
from .faces import (
    SGD,
    SOAP,
    Adadelta,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    AdEMAMix,
    Lion,
    Lookahead,
    Muon,
    NAdam,
    RAdam,
    RMSprop,
    ScheduleFreeAdamW,
    ScheduleFreeSGD,
    Shampoo,
)
from .line_search import LBFGS
from .modern import ademamix, lion, lookahead, schedule_free_adamw, schedule_free_sgd
from .optimizer import Optimizer
from .plateau import ReduceOnPlateau
from .recipes import adadelta, adagrad, adam, adamax, adamw, nadam, radam, rmsprop, sgd
from .second_order import lbfgs, muon, shampoo, soap

__all__ = [
    "LBFGS", "SGD", "SOAP", "AdEMAMix", "Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "Lion", "Lookahead", "Muon",
    "NAdam", "Optimizer", "RAdam", "RMSprop", "ReduceOnPlateau", "ScheduleFreeAdamW", "ScheduleFreeSGD", "Shampoo", "adadelta", "adagrad",
    "adam", "adamax", "adamw", "ademamix", "lbfgs", "lion", "lookahead", "muon", "nadam", "radam", "rmsprop",
    "schedule_free_adamw", "schedule_free_sgd", "schedules", "sgd", "shampoo", "soap",
]  # fmt: skip
