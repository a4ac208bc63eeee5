"""What a ``Trainer`` computes of a step, which knows nothing of epochs, data and logs: the gradients of its batches."""

import contextlib
import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from ..compiling import compiler
from ..context import AutogradContext
from ..gradients import GradientTransform, chain, clip_by_global_norm, scale_loss, unscale
from ..lazy import added, gradients
from ..optim import Optimizer
from ..tensor import DiffTensor
from .batches import beside, count, host, tensor
from .choices import LOSSES, model_and_optimizer, named


class BatchGradients:
    """Forward and backward of batches, and what gradients go through before the optimizer. The arguments are those of ``Trainer``."""

    def __init__(
        self, model: Any, loss: str | Callable[..., Any] | None, optimizer: str | GradientTransform | Optimizer, lr: Any, *,
        precision: str, scaling: GradientTransform | None, accumulate: int, clip: float | GradientTransform | None, nonfinite: str,
        compile: bool, exact: bool,
    ):  # fmt: skip
        if nonfinite not in ("error", "skip"):
            raise ValueError(f'Trainer: nonfinite must be "error" or "skip", not {nonfinite!r}')
        if not (exact or compile):
            raise ValueError("Trainer: exact=False says how steps are compiled; give compile=True with it")
        self.accumulate, self.nonfinite = accumulate, nonfinite
        self._casting = contextlib.nullcontext() if precision == "fp32" else AutogradContext(precision=precision)
        self.loss = named("loss", loss, LOSSES) if isinstance(loss, str) else loss
        self.model, self.optimizer = model_and_optimizer(model, optimizer, lr)
        self.scaled = precision == "fp16" or scaling is not None
        self.before = self._chain_before(clip, (scaling or unscale()) if self.scaled else None)
        self._compiled = self._compiled_step(exact) if compile else None

    def compute(self, batch: Any) -> tuple[Any, Any, Any]:
        """A batch's prediction, target and mean loss. Override it for batches, models or losses of another form.

        A batch is a tuple of the model's inputs and, last, the target; without a loss function all of it goes to the model.
        The length of the target is the number of examples: the batch's weight in means.
        """
        parts = tuple(batch) if isinstance(batch, (tuple, list)) else (batch,)
        like = self.optimizer.params[0].raw
        parts = tuple(beside(part, like) for part in parts)
        if self.loss is None:
            return None, parts[-1], self.model(*map(tensor, parts))
        if len(parts) < 2:
            raise ValueError(
                "a batch must be a tuple of the model's inputs and, last, the target; or give the Trainer loss=None"
            )
        prediction = self.model(*map(tensor, parts[:-1]))
        return prediction, parts[-1], self.loss(prediction, parts[-1])

    def differentiate(self, batch: Any, window: list) -> tuple[int, float, list[tuple]]:
        """Forward and, if the loss is finite, backward of a batch, or of a part of one: adds to the parameters' ``.grad``, unless it is
        the first of its window.

        Args:
            batch: what ``compute`` takes.
            window: the examples and losses of the batches before it that make one mean with it; see ``mean_gradients``.

        Returns:
            Its examples, its mean loss, and what metrics see: a list of predictions, targets (on the host) and loss.
        """
        if not window:
            self.optimizer.zero_grad()
        scaling = np.errstate(over="ignore", invalid="ignore") if self.scaled else contextlib.nullcontext()
        compiled = None
        if self._compiled is not None:
            with self._casting, scaling:
                compiled = self._compiled.gradients((batch,), lambda dtype: self._seed(dtype, batch, window))
        if compiled is None:
            with self._casting:
                prediction, target, loss = self.compute(batch)
        else:
            (loss, prediction, target), grads = compiled
        value, n = float(loss), count(target)
        if not math.isfinite(value):
            return n, value, []
        if compiled is None:
            with scaling:
                self._weighted(loss, n, window).backward()
        else:
            for p, g in zip(self.optimizer.params, grads, strict=True):
                if g is not None:
                    p.node.grad = added(p.node.grad, g)  # type: ignore[union-attr]
        return n, value, [(host(prediction), host(target), value)]

    def _weighted(self, loss: Any, examples: int, window: list) -> Any:
        """A batch's loss as its gradient is taken: weighted by its examples, and scaled."""
        weight = examples / (window[0][0] if window else examples)
        return scale_loss(loss if weight == 1.0 else loss * weight, self.before.state)

    def _seed(self, dtype: Any, batch: Any, window: list) -> Any:
        """The derivative of ``_weighted`` with respect to the loss."""
        loss = DiffTensor(np.ones((), dtype)[()], requires_grad=True)
        examples = count(batch[-1] if isinstance(batch, (tuple, list)) else batch) if window else 1
        with AutogradContext(precision="fp32"):
            self._weighted(loss, examples, window).backward()
        return loss.grad

    def mean_gradients(self, window: list[tuple[int, float]]) -> list[Any]:
        """The mean gradients of a window that ``differentiate`` has gone through, for each parameter; None where there is none."""
        counts = [n for n, _ in window]
        total, found = sum(counts) / counts[0], gradients(self.optimizer.params)
        return found if total == 1.0 else [g if g is None else g / total for g in found]

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

    def _compiled_step(self, exact: bool) -> Any:
        """What computes gradients and steps the optimizer, compiled."""
        if self.accumulate > 1 and type(self).compute is not BatchGradients.compute:
            raise ValueError(
                "Trainer: with compile=True and accumulate, how many examples a batch has must be known before compute() has run, "
                "so compute() cannot be overridden; leave one of the three out"
            )

        def step(batch: Any, model: Any = self.model, loss: Any = self.loss) -> Any:  # the defaults show what it holds
            prediction, target, value = self.compute(batch)
            return value, prediction, target

        return compiler()(step, self.optimizer, exact)
