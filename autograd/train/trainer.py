"""Trainer: the loop that trains a model, and everything that changes while it does.

    trainer = Trainer(model, "cross_entropy", AdamW(model.parameters(), lr=1e-3), metrics=["accuracy"], clip=1.0)
    history = trainer.fit((x, y), val=(x_val, y_val), epochs=10)

One step: the model's output on a batch, the loss, backward; the gradients of ``accumulate`` batches become one mean,
weighted by their examples; they are unscaled, checked and clipped by a chain of gradient transforms (``before``) and go to
the optimizer. Data comes from a ``Loader``, whose batches are a function of (seed, epoch, number), so the position in the data
is two numbers. With those, the parameters, the optimizer's state, the model's random streams, and what metrics and callbacks
remember, ``state_dict`` holds all that the rest of a run depends on: a run that goes on from it, also from the middle of
an epoch, ends with the same bits as one that was never stopped.

To change what happens to a batch, override ``compute``; to look on, write a ``Callback``.
"""

import contextlib
import copy
import difflib
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import numpy as np

from .. import backend, optim
from ..context import AutogradContext, no_grad
from ..gradients import GradientTransform, chain, clip_by_global_norm, loss_scale, scale_loss, unscale
from ..halves import is_half, single
from ..nn import Module, losses
from ..optim import Optimizer
from ..tensor import DiffTensor
from .callbacks import Callback, monitored
from .data import as_loader
from .folder import CheckpointFolder
from .metrics import Loss, Metric, metric
from .state import Function, History, load_streams, streams_state

LOSSES: dict[str, Callable[..., Any]] = {
    "cross_entropy": losses.cross_entropy, "nll": losses.nll_loss, "mse": losses.mse_loss, "l1": losses.l1_loss,
    "huber": losses.huber_loss, "smooth_l1": losses.smooth_l1_loss, "bce": losses.binary_cross_entropy,
    "bce_with_logits": losses.binary_cross_entropy_with_logits,
}  # fmt: skip
"""Losses by the names that ``Trainer`` and configs know: functions ``loss(prediction, target) -> mean over the batch``."""
RECIPES: dict[str, Callable[..., GradientTransform]] = {
    "sgd": optim.sgd, "rmsprop": optim.rmsprop, "adam": optim.adam, "adamw": optim.adamw,
}  # fmt: skip
"""Optimizers by name."""
MOST_SKIPPED = 50
"""Steps in a row that may be called off because of gradients that are not finite."""


class NonFiniteError(FloatingPointError):
    """A loss or a gradient that is NaN or infinite; the message names the batch and what to try."""


class Interrupted(KeyboardInterrupt):
    """Training was interrupted by Ctrl-C, after a whole step; the message says where it was saved."""


class Trainer:
    """Trains a model.

    Args:
        model: a Module, or a function of a batch's inputs whose parameters the optimizer has.
        loss: ``loss(prediction, target) -> mean over the batch``, a name of ``LOSSES``, or None: the model's output is the loss.
        optimizer: an ``Optimizer``, a gradient transform such as ``adamw(1e-3)``, or a name of ``RECIPES`` with ``lr``.
        lr: the learning rate for an optimizer given by name.
        metrics: names or ``Metric`` objects, measured in training and validation beside the loss.
        schedule: a function step -> learning rate, for all parameters; None: the optimizer's own.
        precision: "fp32", or "fp16" or "bf16" for mixed precision.
        scaling: for "fp16", how the loss is scaled: a ``gradients.unscale`` with settings of your own.
        accumulate: batches whose gradients make one step.
        clip: the largest global norm of a step's gradients, or any gradient transform.
        nonfinite: "error" stops at a loss or gradient that is not finite, "skip" leaves that step out.
        callbacks, loggers: objects of ``Callback``; loggers are told last.
        log_every: steps from one row of training figures to the next; None: a row for each epoch only.
        seed: of the order of data that is not in a ``Loader`` yet.
        checkpoints: a folder, or a ``CheckpointFolder``, to save to at the end of each epoch.
        save_every: steps from one save to the next inside an epoch.
        monitor: the value of an epoch that picks the best one; None: val_loss, or train_loss without validation data.
        mode: "min" or "max": which way ``monitor`` is better.
        about: what checkpoints say of the run beside its state, such as its config: JSON values.

    Attributes:
        epoch, batch, step: epochs done, batches of the present one done, and steps done in all.
        history: the rows of the epochs.
        best: the best value of ``monitor``, with its epoch and step; None before the first epoch ends.
        stopped: why training was ended early, or None.
        last: figures of the last step.
    """

    def __init__(
        self,
        model: Any,
        loss: str | Callable[..., Any] | None = "cross_entropy",
        optimizer: str | GradientTransform | Optimizer = "adamw",
        *,
        lr: float | Callable[[int], float] = 1e-3,
        metrics: Sequence[str | Metric] = (),
        schedule: Callable[[int], float] | None = None,
        precision: str = "fp32",
        scaling: GradientTransform | None = None,
        accumulate: int = 1,
        clip: float | GradientTransform | None = None,
        nonfinite: str = "error",
        callbacks: Sequence[Callback] = (),
        loggers: Sequence[Callback] = (),
        log_every: int | None = None,
        seed: int = 0,
        checkpoints: str | os.PathLike | CheckpointFolder | None = None,
        save_every: int | None = None,
        monitor: str | None = None,
        mode: Literal["min", "max"] = "min",
        about: dict[str, Any] | None = None,
    ):
        for name, count in (("accumulate", accumulate), ("log_every", log_every), ("save_every", save_every)):
            if count is not None and count < 1:
                raise ValueError(f"Trainer: {name} must be at least 1, not {count!r}")
        if nonfinite not in ("error", "skip"):
            raise ValueError(f'Trainer: nonfinite must be "error" or "skip", not {nonfinite!r}')
        if mode not in ("min", "max"):
            raise ValueError(f'Trainer: mode must be "min" or "max", not {mode!r}')
        self._casting = contextlib.nullcontext() if precision == "fp32" else AutogradContext(precision=precision)
        self.loss = _named("loss", loss, LOSSES) if isinstance(loss, str) else loss
        self.model, self.optimizer = _model_and_optimizer(model, optimizer, lr)
        self.metrics = [metric(m) for m in metrics]
        self.schedule, self.accumulate, self.nonfinite, self.seed = schedule, accumulate, nonfinite, seed
        self.callbacks, self.log_every, self.save_every = [*callbacks, *loggers], log_every, save_every
        if isinstance(checkpoints, (str, os.PathLike)):
            checkpoints = CheckpointFolder(os.fspath(checkpoints), mode=mode)
        self.checkpoints, self.monitor, self.mode, self.about = checkpoints, monitor, mode, about or {}
        self.scaled = precision == "fp16" or scaling is not None
        self.before = self._chain_before(clip, (scaling or unscale()) if self.scaled else None)
        self.epoch = self.batch = self.step = self.logged = self.skipped = 0
        self.epochs = 0
        self.batches: int | None = None
        self.history = History()
        self.last: dict[str, float] = {}
        self.gradients: list[Any] = []
        self.best: dict[str, Any] | None = None
        self.stopped: str | None = None
        self._watched = [Loss(), *(copy.deepcopy(m) for m in self.metrics)]  # over the training batches of the epoch
        self._interrupted = False

    def _chain_before(self, clip: float | GradientTransform | None, scaling: GradientTransform | None) -> Optimizer:
        """What gradients go through before the optimizer: unscaling, a link that measures their norm and sees to NaN, clipping."""
        limit, custom = sys.float_info.max, ()  # the largest norm is none: it is only measured
        if isinstance(clip, GradientTransform):
            custom = (clip,)  # type: ignore[assignment]
        elif clip is not None:
            limit = clip
        watch = clip_by_global_norm(limit, nonfinite={"error": "raise", "skip": "skip"}[self.nonfinite])
        links = (*(() if scaling is None else (scaling,)), watch, *custom)
        return Optimizer(self.optimizer.params, chain(*links))

    # ---- training ----

    def fit(
        self,
        train: Any,
        val: Any = None,
        epochs: int = 1,
        *,
        batch_size: int = 32,
        max_steps: int | None = None,
        resume: bool = False,
    ) -> History:
        """Train until ``epochs`` epochs are done in all, and return the history.

        Args:
            train, val: a ``Loader``, a dataset, a tuple of arrays ``(x, y)``, or a list of batches. A batch is a tuple of
                the model's inputs and, last, the target.
            epochs: after which to end; those of earlier calls, and of the checkpoint, count.
            batch_size: for data that is in no ``Loader`` yet; training data is then shuffled.
            max_steps: end after so many steps, if that is sooner.
            resume: go on from the newest checkpoint, if there is one.

        Raises:
            NonFiniteError: a loss or gradient that is NaN or infinite (with ``nonfinite="error"``), or too many in a row.
            Interrupted: after Ctrl-C; the step was finished, and saved if there is a folder for checkpoints. A second
                Ctrl-C stops at once.
        """
        train = as_loader(train, batch_size, shuffle=True, seed=self.seed)
        val = val if val is None else as_loader(val, batch_size, shuffle=False, seed=self.seed)
        if resume:
            self.resume()
        self.epochs, self.batches = epochs, len(train) if hasattr(train, "__len__") else None
        try:
            self._tell("on_fit_start")
            with self._finishing_steps():
                while self.epoch < epochs and not self.stopped and (max_steps is None or self.step < max_steps):
                    self._run_epoch(train, val, max_steps)
        finally:
            self._tell("on_fit_end")
        return self.history

    def _run_epoch(self, train: Any, val: Any, max_steps: int | None) -> None:
        started, first = time.perf_counter(), self.batch
        if first == 0:
            for m in self._watched:
                m.reset()
        self.model.train()
        window: list[tuple[int, float]] = []  # examples and loss of each batch since the last step
        seen = 0
        for batch in train.batches(self.epoch, first):
            window.append(self._backward(batch, window))
            seen += window[-1][0]
            self.batch += 1
            if len(window) == self.accumulate:
                self._step(window)
                if max_steps is not None and self.step >= max_steps:
                    break
                self._pause()
        if window:  # the last step of an epoch may have fewer batches
            self._step(window)
        if self.batch == 0:
            raise ValueError("fit: the training data has no batches")
        seconds = time.perf_counter() - started
        row: dict[str, Any] = {"epoch": self.epoch + 1, "step": self.step}
        row |= {f"train_{m.name}": m.value() for m in self._watched}
        if val is not None:
            row |= {f"val_{name}": value for name, value in self.evaluate(val).items()}
        rates = [place["lr"] for place in self.rates()]
        row |= {"lr": float(max(rates))} if rates else {}
        row |= {"seconds": time.perf_counter() - started, "examples_per_second": seen / max(seconds, 1e-9)}
        whole = self.batches is None or self.batch == self.batches
        value = None
        if whole:
            self.epoch, self.batch = self.epoch + 1, 0
            value = self._see_best(row)
            self._tell("on_epoch_end", row)
        self.history.rows.append(
            row
        )  # also of a part of an epoch, where max_steps ends the run; it can go on from there
        self.log(row)
        self.save(value, end_of_epoch=whole)
        self._check_interrupt()

    def _backward(self, batch: Any, window: list) -> tuple[int, float]:
        """Forward and backward of one batch: adds its part of the step's mean gradient to the parameters' ``.grad``."""
        if not window:
            self.optimizer.zero_grad()
        with self._casting:
            prediction, target, loss = self.compute(batch)
        value, count = float(loss), _count(target)
        if not math.isfinite(value):
            if self.nonfinite == "error" and not self.scaled:
                raise NonFiniteError(f"the loss of {self._where(self.batch + 1)} is {value:g}; {self._advice()}")
            return count, value  # without backward; _step leaves the whole step out
        weight = count / (window[0][0] if window else count)
        with np.errstate(over="ignore", invalid="ignore") if self.scaled else contextlib.nullcontext():
            scale_loss(loss if weight == 1.0 else loss * weight, self.before.state).backward()
        host = _host(prediction), _host(target)
        for m in self._watched:
            m.update(*host, value)
        return count, value

    def compute(self, batch: Any) -> tuple[Any, Any, Any]:
        """A batch's prediction, target and mean loss. Override it for models or losses of another form; the length of the target is
        the number of examples, which is the batch's weight in means.

        A batch is a tuple of the model's inputs, and the target last; without a loss function, all are the model's.
        """
        parts = tuple(batch) if isinstance(batch, (tuple, list)) else (batch,)
        like = self.optimizer.params[0].raw
        parts = tuple(_beside(part, like) for part in parts)
        if self.loss is None:
            return None, parts[-1], self.model(*map(_tensor, parts))
        if len(parts) < 2:
            raise ValueError(
                "a batch must be a tuple of the model's inputs and, last, the target; or give the Trainer loss=None"
            )
        prediction = self.model(*map(_tensor, parts[:-1]))
        return prediction, parts[-1], self.loss(prediction, parts[-1])

    def _step(self, window: list[tuple[int, float]]) -> None:
        """The step that a window of batches makes; the window is empty afterwards."""
        counts = [n for n, _ in window]
        total = sum(counts) / counts[0]
        self.gradients = [p.grad for p in self.optimizer.params]
        if not all(math.isfinite(loss) for _, loss in window):
            self.gradients = [None] * len(self.gradients)
        elif total != 1.0:
            self.gradients = [g if g is None else g / total for g in self.gradients]
        self._tell("on_gradients")
        try:
            updates = self.before.transformed(self.gradients)
        except FloatingPointError:
            raise NonFiniteError(f"a gradient of {self._where(self.batch)} is not finite; {self._advice()}") from None
        skipped = all(u is None for u in updates)
        self.skipped = self.skipped + 1 if skipped else 0
        if self.skipped >= MOST_SKIPPED:
            raise NonFiniteError(
                f"{self.skipped} steps in a row had gradients that are not finite, up to {self._where(self.batch)}; {self._advice()}"
            )
        if not skipped:
            if self.schedule is not None:
                self.optimizer.lr = self.schedule(self.step)
            self.optimizer.step(updates)
        self.step += 1
        loss = sum(n * loss for n, loss in window) / sum(counts)
        self.last = {
            "loss": loss,
            "grad_norm": float(self.before.state[int(self.scaled)]["norm"]),
            "skipped": float(skipped),
        }
        window.clear()
        self._tell("on_step_end")
        if self.log_every is not None and self.step % self.log_every == 0:
            self.log({f"step_{name}": value for name, value in self.last.items()})

    def _pause(self) -> None:
        """Between two steps of an epoch: save if it is time, and stop if Ctrl-C was pressed."""
        if self._interrupted or (self.save_every is not None and self.step % self.save_every == 0):
            self.save()
        self._check_interrupt()

    def stop(self, reason: str) -> None:
        """End training after the present epoch; for callbacks."""
        self.stopped = self.stopped or reason

    # ---- evaluation ----

    def evaluate(self, data: Any, *, batch_size: int = 256) -> dict[str, float]:
        """The mean loss and the metrics over data, in evaluation mode and without recording; the mode is restored."""
        measured = [Loss(), *(copy.deepcopy(m) for m in self.metrics)]
        for m in measured:
            m.reset()
        with self.model.evaluating(), no_grad(), self._casting:
            for batch in as_loader(data, batch_size, shuffle=False, seed=self.seed).batches():
                prediction, target, loss = self.compute(batch)
                host = _host(prediction), _host(target)
                for m in measured:
                    m.update(*host, float(loss))
        return {m.name: m.value() for m in measured}

    def predict(self, x: Any, batch_size: int | None = None) -> Any:
        """The model's output on ``x`` (a tuple: on several inputs), by batches; see ``Module.infer``."""
        inputs = x if isinstance(x, tuple) else (x,)
        like = self.optimizer.params[0].raw
        return self.model.infer(*(_beside(part, like) for part in inputs), batch_size=batch_size)

    # ---- what is logged and saved ----

    def log(self, row: dict[str, Any]) -> None:
        """Give a row of figures to the loggers; it gets the epoch and the step."""
        row = {"epoch": self.epoch + bool(self.batch), "step": self.step} | row
        self._tell("on_log", row)
        self.logged += 1

    def rates(self) -> list[dict[str, Any]]:
        """The places in the optimizer's state that hold a learning rate, under ``"lr"``; empty if there is none."""
        try:
            return self.optimizer.rates()
        except AttributeError:  # a chain without a learning rate
            return []

    def named_gradients(self) -> Iterator[tuple[str, DiffTensor, Any]]:
        """Name, parameter and this step's gradient of every parameter that has one."""
        names, scale = {id(p): name for name, p in self.model.named_parameters()}, loss_scale(self.before.state)
        for p, g in zip(self.optimizer.params, self.gradients, strict=True):
            if g is not None:
                yield names.get(id(p), ""), p, g if scale == 1.0 else g * (1.0 / scale)

    def _see_best(self, row: dict[str, Any]) -> float:
        name = self.monitor or ("val_loss" if "val_loss" in row else "train_loss")
        value = monitored(row, name, "Trainer(monitor=...)")
        sign = 1.0 if self.mode == "min" else -1.0
        if self.best is None or sign * value < sign * self.best["value"]:
            self.best = {"name": name, "value": value, "epoch": self.epoch, "step": self.step}
        return value

    def state_dict(self) -> dict[str, Any]:
        """All that the rest of the run depends on: nested dicts of arrays on the host and JSON values."""
        return {
            "about": copy.deepcopy(self.about),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "before": self.before.state_dict(),
            "streams": streams_state(self.model),
            "metrics": {m.name: m.state_dict() for m in self._watched},
            "callbacks": {name: c.state_dict() for name, c in self._remembering().items()},
            "history": copy.deepcopy(self.history.rows),
            "best": copy.deepcopy(self.best),
            "stopped": self.stopped,
            "place": {name: getattr(self, name) for name in ("epoch", "batch", "step", "logged", "skipped")},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a state of ``state_dict`` of an equal trainer.

        Raises:
            ValueError, KeyError: it is of another model, optimizer, or set of metrics or callbacks.
        """
        remembering, watched = self._remembering(), {m.name: m for m in self._watched}
        for what, own in (("callbacks", remembering), ("metrics", watched)):
            if own.keys() != state[what].keys():
                raise ValueError(
                    f"load_state_dict: the saved {what} are {', '.join(state[what]) or 'none'}, this trainer's {', '.join(own) or 'none'}; "
                    "make the trainer as it was when it was saved"
                )
        put_streams = load_streams(self.model, state["streams"])
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.before.load_state_dict(state["before"])
        put_streams()
        for what, own in (("callbacks", remembering), ("metrics", watched)):
            for name, one in own.items():
                one.load_state_dict(state[what][name])
        self.history, self.best, self.stopped = (
            History(state["history"]),
            copy.deepcopy(state["best"]),
            state["stopped"],
        )
        for name, value in state["place"].items():
            setattr(self, name, int(value))

    def save(self, metric: float | None = None, *, end_of_epoch: bool = False) -> None:
        """Save to the folder of checkpoints, if there is one."""
        if self.checkpoints is not None:
            self.checkpoints.save(
                self.state_dict(), step=self.step, epoch=self.epoch, metric=metric, end_of_epoch=end_of_epoch
            )

    def resume(self) -> bool:
        """Go on from the newest whole checkpoint of the folder; whether there was one."""
        if self.checkpoints is None:
            raise ValueError("resume: the Trainer has no folder; give it checkpoints=...")
        found = self.checkpoints.latest()
        if found is not None:
            self.load_state_dict(found[1])
        return found is not None

    def _remembering(self) -> dict[str, Callback]:
        """The callbacks that have a state, by name."""
        found: dict[str, Callback] = {}
        for c in self.callbacks:
            if c.state:
                name = base = type(c).__name__
                n = 1
                while name in found:
                    n += 1
                    name = f"{base}_{n}"
                found[name] = c
        return found

    def _tell(self, moment: str, *values: Any) -> None:
        for c in self.callbacks:
            getattr(c, moment)(self, *values)

    # ---- messages and interruption ----

    def _where(self, batch: int) -> str:
        return f"batch {batch} of epoch {self.epoch + 1} (step {self.step + 1})"

    def _advice(self) -> str:
        rates = sorted({place["lr"] for place in self.rates()})
        now = f" (now {', '.join(f'{r:g}' for r in rates)})" if rates else ""
        return (
            f"try a lower learning rate{now}, clip=1.0, or look for NaN in the data; AutogradContext(anomaly=True) around "
            'fit names the operation; nonfinite="skip" leaves such steps out'
        )

    @contextlib.contextmanager
    def _finishing_steps(self) -> Iterator[None]:
        """Ctrl-C lets the present step end; a second one does not."""
        self._interrupted = False
        if (
            threading.current_thread() is not threading.main_thread()
            or signal.getsignal(signal.SIGINT) is not signal.default_int_handler
        ):
            yield
            return

        def note(*_: Any) -> None:
            self._interrupted = True
            signal.signal(signal.SIGINT, signal.default_int_handler)

        signal.signal(signal.SIGINT, note)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _check_interrupt(self) -> None:
        if self._interrupted:
            where = f"interrupted after step {self.step}, in epoch {self.epoch + bool(self.batch)}"
            if self.checkpoints is None:
                raise Interrupted(f"{where}; nothing was saved: give the Trainer checkpoints=...")
            raise Interrupted(f"{where}; saved to {self.checkpoints.folder}: fit(..., resume=True) goes on from there")


def _named(kind: str, name: str, known: dict[str, Any]) -> Any:
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        raise ValueError(
            f"unknown {kind} {name!r}{f'; did you mean {near[0]!r}?' if near else ';'} there are {', '.join(known)}"
        )
    return known[name]


def _model_and_optimizer(model: Any, optimizer: Any, lr: Any) -> tuple[Module, Optimizer]:
    if not callable(model):
        raise TypeError(f"Trainer: the model must be a Module or a function, not {type(model).__name__}")
    if isinstance(optimizer, Optimizer):
        return model if isinstance(model, Module) else Function(model, optimizer.params), optimizer
    if not isinstance(model, Module):
        raise TypeError(
            "Trainer: a model that is a function needs an Optimizer, which has its parameters: AdamW([w, b], lr=1e-3)"
        )
    if isinstance(optimizer, str):
        optimizer = _named("optimizer", optimizer, RECIPES)(lr)
    if not isinstance(optimizer, GradientTransform):
        raise TypeError(
            f"Trainer: the optimizer must be an Optimizer, a gradient transform such as adamw(1e-3), or one of "
            f"{', '.join(RECIPES)}, not {type(optimizer).__name__} {optimizer!r:.60}"
        )
    return model, Optimizer([p for p in model.parameters() if p.requires_grad], optimizer)


def _count(target: Any) -> int:
    """The number of examples of a batch."""
    shape = getattr(target, "shape", None)
    return int(shape[0]) if shape else len(target) if hasattr(target, "__len__") else 1


def _tensor(part: Any) -> Any:
    return DiffTensor(part, copy=False) if backend.is_array(part) else part


def _beside(part: Any, like: Any) -> Any:
    """An array on the device of the parameters; anything else as it is."""
    raw = part.raw if isinstance(part, DiffTensor) else part
    if not backend.is_array(raw) or type(raw) is type(like):
        return raw
    return backend.to_device(raw, backend.place_of(like))


def _host(x: Any) -> Any:
    raw = x.raw if isinstance(x, DiffTensor) else x
    raw = backend.to_device(raw, "cpu") if backend.is_array(raw) else raw
    return single(raw) if backend.is_array(raw) and is_half(raw.dtype) else raw
