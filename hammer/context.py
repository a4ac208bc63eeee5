"""HammerContext: an ``AutogradContext`` with Hammer's observers attached.

    meter = Meter(energy.find())
    with HammerContext(energy=meter, model=model, optimizer=optimizer) as hammer:
        for batch in data:
            loss(batch).backward()
            with hammer.phase("optimizer"):
                optimizer.step()
            hammer.step()
    print(hammer.report())

Observers that are not asked for cost nothing, and outside the block there is nothing at all. Inside, the context is in force only
while operations are watched (see ``hammer.energy.ledger``): in other steps operations run as if it were not there.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Self

from autograd.context import AutogradContext, _current, current

from .energy.ledger import BUDGET, Ledger
from .energy.meter import Meter
from .energy.report import Report


class HammerContext(AutogradContext):
    """Books joules by phase, layer and operation.

    Args:
        energy: a ``Meter``; None: nothing is booked.
        model: a ``Module`` whose submodules are told apart; None: layers are not.
        optimizer: an ``Optimizer`` whose steps are charged to the cost model in the phase "optimizer".
        budget: share of the run's time that hearing operations may cost; None: every step is heard, whatever it costs.
            It needs ``step()`` at the end of each step: until the first one, everything is heard.
        settings: those of ``AutogradContext``.
    """

    def __init__(
        self, *, energy: Meter | None = None, model: Any = None, optimizer: Any = None, budget: float | None = BUDGET, **settings: Any
    ):  # fmt: skip
        self._settings, self._energy, self._model = dict(settings), energy, model
        self._options = {"budget": budget, "optimizer": optimizer}
        self.ledger = None if energy is None else Ledger(energy, budget, optimizer=optimizer)
        self._own_observer: Callable | None = settings.pop("observer", None)
        super().__init__(**settings, observer=self._heard if self.ledger is not None else self._own_observer)
        self._direct = False
        self._remove: Callable[[], None] = lambda: None
        self._plain: AutogradContext | None = None

    def _recreate_cm(self) -> Self:
        return type(self)(energy=self._energy, model=self._model, **self._options, **self._settings)

    def __enter__(self) -> Self:
        if self.ledger is not None:
            self.ledger.check_unused()
        super().__enter__()
        if self.ledger is not None:
            self._plain = self._outer
            if any(value is not None for value in self._asked) or self.track or self._own_observer is not None:
                self._plain = plain = AutogradContext(**self._settings)
                plain.__dict__.update(
                    {k: v for k, v in self.__dict__.items() if k in plain.__dict__ and k != "observer"}
                )
                plain._token = None
            self.ledger.on_watch = self._watch
            if self._model is not None:
                self._remove = self.ledger.layers(self._model)
            self.ledger.open()
        return self

    def __exit__(self, *exc: object) -> None:
        if self.ledger is not None:
            self.ledger.close()
            self._remove()
        super().__exit__(*exc)

    def phase(self, name: str) -> AbstractContextManager[None]:
        """``with hammer.phase("optimizer"): ...``: what the block spends is booked under that name."""
        return (self.ledger or self._booked()).phase(name)

    def step(self) -> None:
        """Say that a training step has ended."""
        (self.ledger or self._booked()).step()

    def report(self) -> Report:
        """What was spent, so far or in all."""
        return self._booked().report()

    def _booked(self) -> Ledger:
        if self.ledger is None:
            raise ValueError("HammerContext: nothing is booked; give it energy=Meter(...)")
        return self.ledger

    def _watch(self, on: bool) -> None:
        """Be in force, or not. Not if a context inside this one is: then the choice waits."""
        if current() in (self, self._plain):
            _current.set(self if on else self._plain)

    # ---- what operations call ----

    def _heard(self, row: Any, inputs: tuple, params: dict, outputs: tuple) -> None:
        if self._own_observer is not None:
            self._own_observer(row, inputs, params, outputs)
        if self.ledger is not None and params.get("backward") is not True:
            self.ledger.heard(row, inputs, params, outputs)

    def differentiated(self, node: Any, parent: Any, g: Any, d: Any) -> None:
        if self.ledger is not None:
            self.ledger.heard_rule(node, parent, g, getattr(d, "raw", d))
        super().differentiated(node, parent, g, d)
