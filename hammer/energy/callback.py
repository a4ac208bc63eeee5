"""EnergyCallback: a Trainer's run, booked by phase, layer and operation.

callback = EnergyCallback(Meter(find()))
Trainer(model, ..., callbacks=[callback]).fit(data, epochs=3)
print(callback.report)
"""

import functools
from collections.abc import Callable
from typing import Any

from autograd.train import Callback

from .ledger import BUDGET
from .meter import Meter
from .report import Report


class EnergyCallback(Callback):
    """Opens a ``HammerContext`` around ``fit`` and marks the Trainer's phases in it.

    Args:
        meter: what tells joules. It is polled while ``fit`` runs.
        budget: see ``HammerContext``.

    Rows of epochs get ``joules``, those since ``fit`` began, where they are measured or modelled. With ``accumulate`` the data of a step's
    later batches is booked under "backward". A compiled step is one phase, "compiled step", without operations.

    Attributes:
        report: of the last ``fit``; None before.
    """

    def __init__(self, meter: Meter, budget: float | None = BUDGET):
        super().__init__()
        self.meter, self.budget = meter, budget
        self.report: Report | None = None
        self._context: Any = None
        self._undo: list[Callable[[], None]] = []

    def on_fit_start(self, trainer: Any) -> None:
        from ..context import HammerContext

        self.meter.__enter__()
        self._context = HammerContext(
            energy=self.meter, model=trainer.model if hasattr(trainer.model, "named_modules") else None,
            optimizer=trainer.optimizer, budget=self.budget,
        )  # fmt: skip
        self._context.__enter__()
        self._start = self.meter.mark()
        ledger = self._context.ledger

        def switch(name: str) -> Callable[[], None]:  # not inside evaluate, which computes too
            return lambda: None if ledger.nested else ledger.switch(name)

        self._wrap(trainer, "compute", switch("forward"), switch("backward"))
        self._wrap(trainer, "evaluate", lambda: ledger.begin("evaluation"), ledger.end)
        if trainer._compiled is not None:
            self._wrap(trainer._compiled, "gradients", switch("compiled step"), switch("between"))
        ledger.switch("data")

    def _wrap(self, owner: Any, name: str, before: Callable[[], None], after: Callable[[], None]) -> None:
        inner = getattr(owner, name)

        @functools.wraps(inner)
        def run(*args: Any, **kwargs: Any) -> Any:
            before()
            try:
                return inner(*args, **kwargs)
            finally:
                after()

        setattr(owner, name, run)
        self._undo.append(lambda: delattr(owner, name))

    def on_gradients(self, trainer: Any) -> None:
        self._context.ledger.switch("optimizer")

    def on_step_end(self, trainer: Any) -> None:
        self._context.step()
        self._context.ledger.switch("data")

    def on_epoch_end(self, trainer: Any, row: dict[str, Any]) -> None:
        joules = self.meter.since(self._start).joules
        if joules is not None:
            row["joules"] = joules

    def on_fit_end(self, trainer: Any) -> None:
        if self._context is None:
            return
        while self._undo:
            self._undo.pop()()
        context, self._context = self._context, None
        context.__exit__(None, None, None)
        self.meter.__exit__(None, None, None)
        self.report = context.report()
