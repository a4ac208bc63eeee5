"""Callbacks: what looks on during training, and may stop it or lower the learning rate.

A callback is told at five moments, each time with the trainer; what it must remember it keeps in ``state``, a dict of
numbers, which is saved and loaded with the trainer. Loggers (``loggers``) are callbacks too.
"""

import copy
import math
from typing import Any, Literal

from .. import backend
from ..gradients import global_norm
from ..gradients.scaling import Schedule
from ..gradients.sparse import values
from ..optim.plateau import ReduceOnPlateau


class Callback:
    """Does nothing at any moment; subclasses override what they need.

    Attributes:
        state: what it remembers; saved and loaded with the trainer.
    """

    def __init__(self) -> None:
        self.state: dict[str, Any] = {}

    def on_fit_start(self, trainer: Any) -> None:
        """``fit`` begins, at ``trainer.epoch``, ``trainer.batch`` and ``trainer.step``: all 0, or where a checkpoint was."""

    def on_gradients(self, trainer: Any) -> None:
        """The gradients of a step are there, unscaled, and the parameters not yet changed."""

    def on_step_end(self, trainer: Any) -> None:
        """A step was made; ``trainer.last`` has its loss and gradient norm."""

    def on_epoch_end(self, trainer: Any, row: dict[str, Any]) -> None:
        """An epoch and its validation are over; ``row`` has what they gave, and may be added to."""

    def on_log(self, trainer: Any, row: dict[str, Any]) -> None:
        """A row for the logs: of an epoch, or of a step."""

    def on_fit_end(self, trainer: Any) -> None:
        """``fit`` ends, also by an error."""

    def state_dict(self) -> dict[str, Any]:
        return copy.deepcopy(self.state)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.state = copy.deepcopy(state)


def monitored(row: dict[str, Any], name: str, who: str) -> float:
    """A value of an epoch's row by name."""
    if name not in row:
        there = ", ".join(key for key, value in row.items() if isinstance(value, float))
        hint = "; give fit validation data" if name.startswith("val_") else ""
        raise KeyError(f"{who}: the epoch has no {name!r}; it has {there}{hint}")
    return float(row[name])


class EarlyStopping(Callback):
    """Stop when a value no longer improves, or when the training loss leaves the validation loss behind.

    Args:
        monitor: the value of an epoch to watch.
        patience: epochs without an improvement after which training stops.
        min_delta: an improvement is a change by more than this.
        mode: "min" or "max": which way is better.
        track_overfitting: whether to watch the gap ``train_loss - val_loss`` too.
        gap_threshold: an epoch overfits if its gap is below ``-gap_threshold``.
        overfitting_patience: overfitting epochs in a row after which training stops.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        patience: int = 5,
        min_delta: float = 1e-4,
        mode: str = "min",
        *,
        track_overfitting: bool = False,
        gap_threshold: float = 0.5,
        overfitting_patience: int = 3,
    ):
        super().__init__()
        if mode not in ("min", "max"):
            raise ValueError(f'EarlyStopping: mode must be "min" or "max", not {mode!r}')
        if patience < 1 or overfitting_patience < 1:
            raise ValueError("EarlyStopping: patience counts epochs and must be at least 1")
        self.monitor, self.patience, self.min_delta, self.sign = (
            monitor,
            patience,
            min_delta,
            1 if mode == "min" else -1,
        )
        self.track, self.gap_threshold, self.overfitting_patience = (
            track_overfitting,
            gap_threshold,
            overfitting_patience,
        )
        self.state = {"best": math.inf, "waited": 0, "overfitted": 0}

    def on_epoch_end(self, trainer: Any, row: dict[str, Any]) -> None:
        value, state = self.sign * monitored(row, self.monitor, "EarlyStopping"), self.state
        if value < state["best"] - self.min_delta:
            state["best"], state["waited"] = value, 0
        else:
            state["waited"] += 1
        if state["waited"] >= self.patience:
            best = self.sign * state["best"]
            trainer.stop(f"{self.monitor} has not improved on {best:.6g} for {self.patience} epochs")
        if self.track:
            gap = row["gap"] = row["train_loss"] - monitored(row, "val_loss", "EarlyStopping(track_overfitting=True)")
            state["overfitted"] = state["overfitted"] + 1 if gap < -self.gap_threshold else 0
            if state["overfitted"] >= self.overfitting_patience:
                trainer.stop(
                    f"overfitting: train_loss - val_loss is {gap:.4g}, below -{self.gap_threshold:g} for "
                    f"{self.overfitting_patience} epochs"
                )


class ReduceLROnPlateau(Callback):
    """Multiply every learning rate by ``factor`` when a value has not improved for more than ``patience`` epochs.

    ``autograd.optim.plateau.ReduceOnPlateau`` told of each epoch; its arguments are those of that class.

    Args:
        monitor: the value of an epoch to watch.

    The optimizer's rate must be a number, or a schedule that was passed through ``plateau.over``.
    """

    def __init__(
        self,
        factor: float = 0.5,
        patience: int = 2,
        min_lr: float = 1e-7,
        monitor: str = "val_loss",
        mode: Literal["min", "max"] = "min",
        threshold: float = 1e-4,
        threshold_mode: Literal["rel", "abs"] = "rel",
        cooldown: int = 0,
    ):
        self.monitor, self._scheduled = monitor, False
        self.plateau = ReduceOnPlateau(factor, patience, threshold, threshold_mode, cooldown, min_lr, mode)

    @property
    def state(self) -> dict[str, Any]:  # type: ignore[override]
        return self.plateau.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.plateau.load_state_dict(state)

    def over(self, schedule: Schedule) -> Schedule:
        """The schedule with the reductions in it, for an optimizer whose rate moves by itself too (a warm-up)."""
        self._scheduled = True
        return self.plateau.over(schedule)

    def on_fit_start(self, trainer: Any) -> None:
        moving = trainer.schedule is not None or any("step" in place for place in trainer.rates())
        if moving and not self._scheduled:
            raise ValueError(
                "ReduceLROnPlateau lowers a constant learning rate, but this one follows a schedule; make the optimizer "
                "with callback.over(schedule)"
            )

    def on_epoch_end(self, trainer: Any, row: dict[str, Any]) -> None:
        self.plateau.observe(monitored(row, self.monitor, "ReduceLROnPlateau"), trainer.optimizer)


class Statistics(Callback):
    """Logs, every ``every`` steps, for each parameter: the norm of its gradient, its norm, and the share of zeros in the gradient.

    Rows have ``grad_norm/NAME``, ``weight_norm/NAME`` and ``grad_zeros/NAME``, and ``update_ratio/NAME``, the norm of
    the step's change of the parameter divided by its norm before.
    """

    def __init__(self, every: int = 100):
        super().__init__()
        if every < 1:
            raise ValueError(f"Statistics: every counts steps and must be at least 1, not {every!r}")
        self.every = every
        self._before: list[tuple[str, Any, Any]] = []
        self._row: dict[str, float] = {}

    def on_gradients(self, trainer: Any) -> None:
        self._before, self._row = [], {}
        if (trainer.step + 1) % self.every:
            return
        for name, parameter, grad in trainer.named_gradients():
            raw = parameter.raw
            self._before.append((name, parameter, raw + 0))  # a copy, in any library
            self._row[f"grad_norm/{name}"] = global_norm([grad])
            self._row[f"weight_norm/{name}"] = global_norm([raw])
            self._row[f"grad_zeros/{name}"] = 1.0 - _nonzero(grad) / max(parameter.size, 1)

    def on_step_end(self, trainer: Any) -> None:
        for name, parameter, before in self._before:
            norm = self._row[f"weight_norm/{name}"]
            self._row[f"update_ratio/{name}"] = global_norm([parameter.raw - before]) / norm if norm else 0.0
        if self._row:
            trainer.log(self._row)
        self._before, self._row = [], {}


def _nonzero(grad: Any) -> int:
    array = values(grad)
    return int(backend.xp(array).count_nonzero(array))
