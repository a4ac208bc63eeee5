"""Trainer: the loop that trains a model, and everything that changes while it does.

    trainer = Trainer(model, "cross_entropy", AdamW(model.parameters(), lr=1e-3), metrics=["accuracy"], clip=1.0)
    history = trainer.fit((x, y), val=(x_val, y_val), epochs=10)

One step: the model's output on a batch, the loss, backward; the gradients of ``accumulate`` batches become one mean,
weighted by their examples; they are unscaled, checked and clipped by a chain of gradient transforms (``before``) and go to
the optimizer. Data comes from a ``Loader``, whose batches are a function of (seed, epoch, number), so the position in the data
is two numbers. With those, the parameters, the optimizer's state, the model's random streams, and what metrics and callbacks
remember, ``state_dict`` holds all that the rest of a run depends on: a run that goes on from it, also from the middle of
an epoch, ends with the same bits as one that was never stopped.

``batch_gradients`` has what a step computes of its batches, this module the loop around it. To change what happens to a batch,
override ``compute``; to look on, write a ``Callback``.
"""

import copy
import itertools
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal

from ..context import no_grad
from ..gradients import GradientTransform, loss_scale
from ..lazy import gradients
from ..optim import Optimizer
from ..tensor import DiffTensor
from .batch_gradients import BatchGradients
from .batches import beside, host, length
from .callbacks import Callback, monitored
from .data import as_loader
from .folder import CheckpointFolder
from .interrupt import Asked, Interrupted, finishing_steps
from .metrics import Loss, Metric, metric
from .state import History, put_state, state_of

MOST_SKIPPED = 50
"""Steps in a row that may be called off because of gradients that are not finite."""


class NonFiniteError(FloatingPointError):
    """A loss or a gradient that is NaN or infinite; the message names the batch and what to try."""


class Trainer(BatchGradients):
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
        compile: whether steps run as graphs that are compiled; needs ``import hammer``. What cannot be compiled runs as it is,
            after a warning that says why. Gradients are then computed before it is known whether the loss is finite.
        exact: whether compiled steps have the bits of uncompiled ones; if not, they differ by rounding and may be faster.
        checkpoints: a folder, or a ``CheckpointFolder``, to save to at the end of each epoch.
        save_every: steps from one save to the next inside an epoch.
        monitor: the value of an epoch that picks the best one; None: val_loss, or train_loss without validation data.
        mode: "min" or "max": which way ``monitor`` is better.
        about: what checkpoints say of the run beside its state, such as its config: JSON values.
        agents: ranks that share the work of every batch, a ``hammer.agents.Team``. Each rank makes an equal trainer and calls
            ``fit`` with equal data; the first one alone tells the loggers and saves. With ``accumulate`` the batches of a step are
            held at a time, and the ranks talk once for all of them.

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
        compile: bool = False,
        exact: bool = True,
        checkpoints: str | os.PathLike | CheckpointFolder | None = None,
        save_every: int | None = None,
        monitor: str | None = None,
        mode: Literal["min", "max"] = "min",
        about: dict[str, Any] | None = None,
        agents: Any = None,
    ):
        for name, given in (("accumulate", accumulate), ("log_every", log_every), ("save_every", save_every)):
            if given is not None and given < 1:
                raise ValueError(f"Trainer: {name} must be at least 1, not {given!r}")
        if mode not in ("min", "max"):
            raise ValueError(f'Trainer: mode must be "min" or "max", not {mode!r}')
        super().__init__(
            model, loss, optimizer, lr, precision=precision, scaling=scaling, accumulate=accumulate, clip=clip, nonfinite=nonfinite,
            compile=compile, exact=exact,
        )  # fmt: skip
        self.agents = agents
        self.metrics = [metric(m) for m in metrics]
        self.schedule, self.seed = schedule, seed
        self.callbacks, self.log_every, self.save_every = [*callbacks, *loggers], log_every, save_every
        self._silent = () if agents is None or agents.leads else tuple(loggers)
        if isinstance(checkpoints, (str, os.PathLike)):
            checkpoints = CheckpointFolder(os.fspath(checkpoints), mode=mode)
        self.checkpoints, self.monitor, self.mode, self.about = checkpoints, monitor, mode, about or {}
        self.epoch = self.batch = self.step = self.logged = self.skipped = 0
        self.epochs = 0
        self.batches: int | None = None
        self.history = History()
        self.last: dict[str, float] = {}
        self.gradients: list[Any] = []
        self.best: dict[str, Any] | None = None
        self.stopped: str | None = None
        self.watched = [Loss(), *(copy.deepcopy(m) for m in self.metrics)]  # over the training batches of the epoch
        self._asked = Asked()

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
        if self.agents is not None:
            self.agents.join(self)
        if resume:
            self.resume()
        self.epochs, self.batches = epochs, length(train)
        try:
            self._tell("on_fit_start")
            with finishing_steps(self._asked):
                while self.epoch < epochs and not self.stopped and (max_steps is None or self.step < max_steps):
                    self._run_epoch(train, val, max_steps)
        finally:
            self._tell("on_fit_end")
        return self.history

    def _run_epoch(self, train: Any, val: Any, max_steps: int | None) -> None:
        started, first = time.perf_counter(), self.batch
        if first == 0:
            for m in self.watched:
                m.reset()
        self.model.train()
        seen = 0
        for window in self._windows(iter(train.batches(self.epoch, first))):
            seen += sum(n for n, _ in window)
            self._step(window)
            if max_steps is not None and self.step >= max_steps:
                break
            self._pause()
        if self.batch == 0:
            raise ValueError("fit: the training data has no batches")
        seconds = time.perf_counter() - started
        row: dict[str, Any] = {"epoch": self.epoch + 1, "step": self.step}
        row |= {f"train_{m.name}": m.value() for m in self.watched}
        if val is not None:
            row |= {f"val_{name}": value for name, value in self.evaluate(val).items()}
        rates = [place["lr"] for place in self.rates()]
        row |= {"lr": float(max(rates))} if rates else {}
        row |= {"seconds": time.perf_counter() - started, "examples_per_second": seen / max(seconds, 1e-9)}
        row = row if self.agents is None else self.agents.same(row)  # decisions follow from it
        whole = self.batches is None or self.batch == self.batches
        value = None
        if whole:
            self.epoch, self.batch = self.epoch + 1, 0
            value = self._see_best(row)
            self._tell("on_epoch_end", row)
        self.history.rows.append(row)  # of a part of an epoch too, where max_steps ends the run
        self.log(row)
        self.save(value, end_of_epoch=whole)
        self._check_interrupt(self._to_stop())

    def _windows(self, batches: Iterator[Any]) -> Iterator[list[tuple[int, float]]]:
        """The windows of an epoch: for each step the examples and the loss of its batches, once their gradients are there. The last
        may have fewer batches."""
        while window := self._backward(itertools.islice(batches, self.accumulate)):
            yield window

    def _backward(self, batches: Iterator[Any]) -> list[tuple[int, float]]:
        """Forward and backward of the batches of a step, which leave its gradients in the parameters' ``.grad``."""
        window: list[tuple[int, float]] = []
        found: Iterable[tuple[int, float, list[tuple]]]
        if self.agents is None:
            found = (self.differentiate(batch, window) for batch in batches)  # one is held at a time
        else:
            found = self.agents.differentiate(self, list(batches))
        for n, value, seen in found:
            if not math.isfinite(value) and self.nonfinite == "error" and not self.scaled:
                raise NonFiniteError(f"the loss of {self._where(self.batch + 1)} is {value:g}; {self._advice()}")
            for prediction, target, loss in seen:  # nothing, if the loss is not finite: _step leaves the whole step out
                for m in self.watched:
                    m.update(prediction, target, loss)
            self.batch += 1
            window.append((n, value))
        return window

    def _step(self, window: list[tuple[int, float]]) -> None:
        """The step that a window of batches makes."""
        if not all(math.isfinite(loss) for _, loss in window):
            self.gradients = [None] * len(self.optimizer.params)
        elif self.agents is None:
            self.gradients = self.mean_gradients(window)
        else:  # whose mean is that of the whole window
            self.gradients = gradients(self.optimizer.params)
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
            (self.optimizer.step if self._compiled is None else self._compiled.update)(updates)
        self.step += 1
        loss = sum(n * loss for n, loss in window) / sum(n for n, _ in window)
        self.last = {
            "loss": loss,
            "grad_norm": float(self.before.state[int(self.scaled)]["norm"]),
            "skipped": float(skipped),
        }
        self._tell("on_step_end")
        if self.log_every is not None and self.step % self.log_every == 0:
            self.log({f"step_{name}": value for name, value in self.last.items()})

    def _pause(self) -> None:
        """Between two steps of an epoch: save if it is time, and stop if Ctrl-C was pressed."""
        to_stop = self._to_stop()
        if to_stop or (self.save_every is not None and self.step % self.save_every == 0):
            self.save()
        self._check_interrupt(to_stop)

    def _to_stop(self) -> bool:
        """Whether Ctrl-C was pressed, on any rank."""
        return self._asked.to_stop if self.agents is None else self.agents.agree(self._asked.to_stop)

    def stop(self, reason: str) -> None:
        """End training after the present epoch; for callbacks."""
        self.stopped = self.stopped or reason

    # ---- evaluation ----

    def evaluate(self, data: Any, *, batch_size: int = 256) -> dict[str, float]:
        """The mean loss and the metrics over data, in evaluation mode and without recording; the mode is restored.

        The parameters are those that the optimizer would be judged by; see ``Optimizer.evaluation``.
        """
        measured = [Loss(), *(copy.deepcopy(m) for m in self.metrics)]
        for m in measured:
            m.reset()
        with self.model.evaluating(), self.optimizer.evaluation(), no_grad(), self._casting:
            for batch in as_loader(data, batch_size, shuffle=False, seed=self.seed).batches():
                prediction, target, loss = self.compute(batch)
                on_host = host(prediction), host(target)
                for m in measured:
                    m.update(*on_host, float(loss))
        return {m.name: m.value() for m in measured}

    def predict(self, x: Any, batch_size: int | None = None) -> Any:
        """The model's output on ``x`` (a tuple: on several inputs), by batches, with the parameters of ``evaluate``; see ``Module.infer``."""
        inputs = x if isinstance(x, tuple) else (x,)
        like = self.optimizer.params[0].raw
        with self.optimizer.evaluation():
            return self.model.infer(*(beside(part, like) for part in inputs), batch_size=batch_size)

    # ---- what is logged and saved ----

    def log(self, row: dict[str, Any]) -> None:
        """Give a row of figures to the loggers; it gets the epoch and the step."""
        row = {"epoch": self.epoch + bool(self.batch), "step": self.step} | row
        self._tell("on_log", row)
        self.logged += 1
        if self._silent:
            self.agents.owe("row", row)

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
        return state_of(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a state of ``state_dict`` of an equal trainer.

        Raises:
            ValueError, KeyError: it is of another model, optimizer, or set of metrics or callbacks; nothing is changed then.
        """
        put_state(self, state)

    def save(self, metric: float | None = None, *, end_of_epoch: bool = False) -> None:
        """Save to the folder of checkpoints, if there is one; of several ranks the first one does."""
        if self.checkpoints is None:
            return
        if self.agents is not None and not self.agents.leads:
            self.agents.owe("save", (metric, end_of_epoch))
            return
        self.checkpoints.save(
            self.state_dict(), step=self.step, epoch=self.epoch, metric=metric, end_of_epoch=end_of_epoch
        )

    def take_over(self, owed: Sequence[tuple[str, Any]]) -> None:
        """Be the first of the agents' ranks, after the loss of the former one: tell the loggers and save from now on.

        Args:
            owed: the rows and saves that it may not have finished.
        """
        new, self._silent = self._silent, ()
        self.logged -= sum(what == "row" for what, _ in owed)
        for c in new:
            c.on_fit_start(self)  # goes on as after a resumption: rows that are there already are not written twice
        for what, value in owed:
            if what == "save":
                self.save(value[0], end_of_epoch=value[1])
                continue
            for c in new:
                c.on_log(self, value)
            self.logged += 1

    def resume(self) -> bool:
        """Go on from the newest whole checkpoint of the folder; whether there was one."""
        if self.checkpoints is None:
            raise ValueError("resume: the Trainer has no folder; give it checkpoints=...")
        found = self.checkpoints.latest()
        if found is not None:
            self.load_state_dict(found[1])
        return found is not None

    def _tell(self, moment: str, *values: Any) -> None:
        for c in self.callbacks:
            if c not in self._silent:
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

    def _check_interrupt(self, to_stop: bool) -> None:
        if to_stop:
            where = f"interrupted after step {self.step}, in epoch {self.epoch + bool(self.batch)}"
            if self.checkpoints is None:
                raise Interrupted(f"{where}; nothing was saved: give the Trainer checkpoints=...")
            raise Interrupted(f"{where}; saved to {self.checkpoints.folder}: fit(..., resume=True) goes on from there")
