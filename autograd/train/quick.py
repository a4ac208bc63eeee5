"""Training in one line."""

from collections.abc import Callable, Sequence
from typing import Any

from ..gradients import GradientTransform
from ..nn import losses
from .choices import LOSSES
from .data import Loader, as_loader, split
from .loggers import ConsoleLogger
from .metrics import Metric
from .state import History
from .trainer import Trainer

USUAL: dict[Any, tuple[str, ...]] = {
    losses.cross_entropy: ("accuracy",), losses.nll_loss: ("accuracy",), losses.mse_loss: ("r2",),
    losses.binary_cross_entropy_with_logits: ("accuracy",),
}  # fmt: skip
"""The metrics that go with a loss."""


def fit(
    model: Any,
    data: Any,
    loss: str | Callable[..., Any] | None = "cross_entropy",
    optimizer: str | GradientTransform | Any = "adamw",
    epochs: int = 10,
    *,
    val: Any = 0.2,
    lr: float = 1e-3,
    batch_size: int = 32,
    metrics: Sequence[str | Metric] | None = None,
    seed: int = 0,
    quiet: bool = False,
    **options: Any,
) -> History:
    """Train ``model`` on ``data`` and return the history, whose ``final`` has the last losses and metrics.

    Args:
        model: a Module; it is trained in place.
        data: ``(x, y)`` arrays, a dataset, or a ``Loader``.
        loss, optimizer, lr: as for ``Trainer``.
        val: validation data, or the share of the data to hold out for it, or None.
        metrics: None: those that go with the loss.
        seed: of the order of the data, and of what is held out.
        quiet: say nothing.
        options: more of ``Trainer``'s arguments, such as ``clip`` or ``callbacks``.

    >>> import numpy as np
    >>> from autograd import nn, train
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(200, 2)).astype(np.float32)
    >>> model = nn.Sequential(nn.Linear(2, 16, rng=rng), nn.ReLU(), nn.Linear(16, 2, rng=rng))
    >>> history = train.fit(model, (x, (x[:, 0] * x[:, 1] > 0).astype(int)), epochs=40, lr=0.02, quiet=True)
    >>> history.final["val_accuracy"] > 0.9
    True
    """
    if isinstance(val, float) and not hasattr(data, "batches"):
        data = as_loader(data, batch_size, shuffle=False, seed=seed)
        if not isinstance(data, Loader):
            raise TypeError("fit: a list of batches cannot be split; give val=... of its own, or val=None")
        data, val = split(data.dataset, val, seed=seed)
    elif isinstance(val, float):
        raise TypeError("fit: a Loader's data is not split; give val=... of its own, or val=None")
    if metrics is None:
        metrics = USUAL.get(LOSSES.get(loss) if isinstance(loss, str) else loss, ())
    loggers = [] if quiet else [ConsoleLogger()]
    trainer = Trainer(model, loss, optimizer, lr=lr, metrics=metrics, seed=seed, **{"loggers": loggers} | options)
    return trainer.fit(data, val, epochs, batch_size=batch_size)
