"""EnergyOptimizer: a Trainer's run, booked and steered: layers that do with less, the batch size that costs least, a budget, hopeless runs given up.

    steering = EnergyOptimizer(Meter(find()), budget=500.0, target=0.1)
    Trainer(model, ..., callbacks=[steering]).fit(data, val=..., epochs=100)
    for decision in steering.decisions: print(decision)

Every decision is kept with what it was predicted to do and, once that can be told, what came of it. What acts on gradients instead of on the
loop is a link: ``energy_gate`` (``price``).
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from autograd.atomic import write_atomically
from autograd.tape import BackwardPass
from autograd.train.batches import count

from .batch import StepEnergy, best_batch, saving
from .callback import EnergyCallback
from .decision import Decision
from .layers import Layers
from .ledger import BUDGET
from .meter import Meter
from .noise import NoiseScale, from_parts
from .technologies import Technology

PRECISE = 0.05
"""The meter's uncertainty over its reading at which a mean over steps is taken to be known."""


@dataclass
class _Stretch:
    """Steps of one batch size: examples and joules in all, and the loss at its ends."""

    steps: int = 0
    examples: int = 0
    losses: list[float] = field(default_factory=list)
    mark: Any = None
    joules: float | None = None

    @property
    def batch(self) -> float:
        return self.examples / self.steps

    def gained(self) -> float:
        """By how much the loss fell from the first third of the stretch to the last."""
        third = max(1, len(self.losses) // 3)
        return float(np.mean(self.losses[:third]) - np.mean(self.losses[-third:]))


class EnergyOptimizer(EnergyCallback):
    """Books a run as ``EnergyCallback`` does, and decides.

    Args:
        meter: what tells joules. Where it measures nothing, nothing is decided, and ``decisions`` says so.
        budget: joules for the run, from ``fit`` on; None: no limit. Training ends with the epoch in which it is used up.
        target: the loss wanted (``monitor``); with a budget, a run that will not get there is given up.
        monitor: the value of an epoch that is compared with ``target``.
        batch: whether to choose the batch size. It is a whole number of the loader's batches, whose gradients are accumulated.
        window: steps over which the energy of a step is measured, first as it is and then with twice the batch. If the meter is too slow
            for so few, more.
        probe_every: steps from one estimate of the gradient noise to the next; each costs about one more batch.
        most: the largest number of the loader's batches in a step.
        rescale: whether a new batch size b changes a constant learning rate by 1/(1 + B/b), as McCandlish et al. (2018, equation 2.6).
        precisions: what each layer may run in, ("bf16", "fp32") for example; empty: layers stay as they are.
        rise: by what share of a batch's loss all layers' precisions may raise it, added up.
        recompute: whether the model's children may compute their activations again instead of keeping them.
        table: what precisions and recomputation are priced by (``technologies``); the meter cannot tell before they are tried.
        share: see ``HammerContext``'s ``budget``.

    Layers are decided on the first step's batch, before the energy of a step is measured. The batch size is chosen once. Following the noise
    scale all the time was tried: it cost more (docs/energy.md).

    Attributes:
        decisions: a list of ``Decision``.
        noise: the ``NoiseScale``, in examples.
    """

    def __init__(
        self, meter: Meter, *, budget: float | None = None, target: float | None = None, monitor: str = "val_loss",
        batch: bool = True, window: int = 50, probe_every: int = 5, most: int = 64, rescale: bool = True,
        precisions: Sequence[str] = (), rise: float = 0.01, recompute: bool = False, table: Technology | str = "7nm",
        share: float | None = BUDGET,
    ):  # fmt: skip
        super().__init__(meter, share)
        for name, value, low in (("window", window, 2), ("probe_every", probe_every, 1), ("most", most, 1)):
            if value < low:
                raise ValueError(f"EnergyOptimizer: {name} must be at least {low}, not {value!r}")
        if budget is not None and not budget > 0:
            raise ValueError(f"EnergyOptimizer: budget must be above 0 joules, not {budget!r}")
        self.joule_budget, self.target, self.monitor = budget, target, monitor
        self.window, self.probe_every, self.most, self.rescale = window, probe_every, most, rescale
        self.decisions: list[Decision] = []
        self.noise = NoiseScale(decay=0.98)
        self.layers = Layers(precisions, rise, recompute, table)
        self.state = {
            "stage": 0 if batch else 3,
            "accumulate": 0,
            "used": 0.0,
            "noise": self.noise.state,
            "layers": self.layers.state,
        }
        self._stretches: list[_Stretch] = []
        self._curve: list[tuple[float, float]] = []
        self._examples = 0
        self._batch: Any = None

    def check_ranks(self, ranks: int) -> None:
        """Whether a run on so many ranks is possible: one at most, unless all it does is to book.

        Raises:
            ValueError: it is not.
        """
        decides = self.state["stage"] < 3 or self.joule_budget is not None or self.layers
        if decides and ranks > 1:
            raise ValueError(
                "EnergyOptimizer: several ranks would each decide by their own meter, and differently; train on one rank, or leave "
                "out budget, precisions and recompute, and give batch=False: it then only books"
            )

    # ---- what the Trainer tells ----

    def on_fit_start(self, trainer: Any) -> None:
        if trainer.agents is not None:
            self.check_ranks(trainer.agents.comm.size)
        if self.layers and trainer._compiled is not None:
            raise ValueError(
                "EnergyOptimizer: a compiled step cannot change its layers; leave out precisions and recompute, or compile"
            )
        self._compute: Callable[[Any], Any] = trainer.compute
        self.layers.resume(trainer.model)
        if self.state["accumulate"]:  # a resumed run goes on with what was chosen
            trainer.accumulate = self.state["accumulate"]
        super().on_fit_start(trainer)
        self._before = self.state["used"]
        if trainer._compiled is None:
            self._remember(trainer, "compute", lambda args: args[0])
        else:  # compute is called to be traced, with symbols
            self._remember(trainer._compiled, "gradients", lambda args: args[0][0])
        self._stretches = [_Stretch(mark=self.meter.mark())]
        if self._used() is None:
            self.state["stage"] = 3
            self._decide(trainer, "nothing", "no decisions", f"joules are not known: {self.meter.read()}")

    def _remember(self, owner: Any, name: str, pick: Callable[[tuple], Any]) -> None:
        inner = getattr(owner, name)

        def run(*args: Any, **kwargs: Any) -> Any:
            if not self._context.ledger.nested:  # neither in evaluate nor in a probe
                self._batch = pick(args)
                self._examples += count(self._batch[-1] if isinstance(self._batch, (tuple, list)) else self._batch)
            return inner(*args, **kwargs)

        setattr(owner, name, run)

        def undo() -> None:  # before the callback's own wrapping is taken away
            setattr(owner, name, inner)

        self._undo.append(undo)

    def on_gradients(self, trainer: Any) -> None:
        super().on_gradients(trainer)
        if self.layers and not self.layers.state:
            with self._context.ledger.phase("probe"):
                self.decisions += self.layers.decide(trainer.model, self._loss, trainer.step)
        if self.state["stage"] < 2 and trainer.step % self.probe_every == 0:
            ledger = self._context.ledger
            with ledger.phase("probe"):
                self._probe(trainer)

    def on_step_end(self, trainer: Any) -> None:
        super().on_step_end(trainer)
        stretch = self._stretches[-1]
        stretch.steps += 1
        stretch.examples += self._examples
        self._examples = 0
        stretch.losses.append(trainer.last["loss"])
        if self.state["stage"] < 3 and stretch.steps >= self.window:
            self._look(trainer, stretch)

    def on_epoch_end(self, trainer: Any, row: dict[str, Any]) -> None:
        super().on_epoch_end(trainer, row)
        used = self._used()
        if used is None:
            return
        self.state["used"] = used
        if self.joule_budget is None:
            return
        if used >= self.joule_budget:
            self._decide(
                trainer, "stop", "stop", f"the budget of {self.joule_budget:.4g} J is used up", {"joules": used}
            )
            trainer.stop(f"{used:.4g} J were used, of a budget of {self.joule_budget:.4g} J")
        elif self.target is not None and self.monitor in row:
            self._hopeless(trainer, used, float(row[self.monitor]))

    def on_fit_end(self, trainer: Any) -> None:
        self._realise(self._stretches[-1] if self._stretches else None)
        self.layers.release()
        super().on_fit_end(trainer)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.noise.state = self.state["noise"]
        self.layers.state = self.state["layers"]

    # ---- measuring ----

    def _used(self) -> float | None:
        joules = self.meter.since(self._start).joules
        return None if joules is None else self._before + joules

    def _loss(self) -> Any:
        return self._compute(self._batch)[-1]

    def _probe(self, trainer: Any) -> None:
        """An estimate of the noise from the two halves of the last batch, in evaluation mode: no running statistics, no random draws."""
        parts = self._batch if isinstance(self._batch, (tuple, list)) else (self._batch,)
        half = count(parts[-1]) // 2
        if half < 1:
            return
        found = []
        with trainer.model.evaluating():
            for part in (slice(0, half), slice(half, 2 * half)):
                *_, loss = self._compute(tuple(p[part] for p in parts))
                grads = BackwardPass([loss], [p for p in trainer.optimizer.params if p.requires_grad]).run()
                found.append([grads.get(p.node) for p in trainer.optimizer.params])
        self.noise.observe(from_parts(found, half))

    def _look(self, trainer: Any, stretch: _Stretch) -> None:
        """A stretch is long enough: go on to the next stage, if its joules are known well enough."""
        reading = self.meter.since(stretch.mark)
        if reading.joules is None:
            self.state["stage"] = 3
            self._decide(trainer, "nothing", "no decisions", f"joules are not known any more: {reading}")
            return
        if reading.uncertainty is not None and reading.uncertainty > PRECISE * reading.joules:
            return
        stretch.joules = reading.joules
        stage = self.state["stage"]
        self.state["stage"] += 1
        if stage == 0:
            self._set(trainer, 2 * trainer.accumulate)
        elif stage == 1:
            self._choose_batch(trainer)
        else:
            self._realise(stretch)
        self._stretches.append(_Stretch(mark=self.meter.mark()))

    # ---- deciding ----

    def _decide(
        self, trainer: Any, what: str, choice: float | str, reason: str, predicted: dict[str, float] | None = None
    ) -> Decision:
        self.decisions.append(Decision(trainer.step, what, choice, reason, predicted or {}))
        return self.decisions[-1]

    def _choose_batch(self, trainer: Any) -> None:
        one, two = self._stretches[-2:]
        now, loader = one.batch, two.batch / trainer.accumulate
        per_step = [s.joules / s.steps for s in (one, two)]  # type: ignore[operator]
        scale = self.noise.scale
        if scale is None or scale < 0 or two.batch <= now:
            self._set(trainer, max(1, trainer.accumulate // 2))
            self._decide(trainer, "batch size", now, "the noise scale could not be estimated")
            return
        energy = StepEnergy.fit([one.batch, two.batch], per_step)
        best = best_batch(scale, energy)
        parts = int(min(max(1, round(best / loader) if math.isfinite(best) else self.most), self.most))
        self._set(trainer, parts)
        then = parts * loader
        ratio = saving(now, then, scale, energy)
        if self.rescale and then != now and math.isfinite(scale):
            self._rescale(trainer, (1 + scale / now) / (1 + scale / then))
        reason = f"B {scale:.4g}, a step {energy.fixed:.3g} J + {energy.each:.3g} J an example, so b* {best:.4g}"
        predicted = {"joules of a step": energy(then), "joules to a target, relative": ratio}
        self._decide(trainer, "batch size", then, reason, predicted)

    def _realise(self, stretch: _Stretch | None) -> None:
        """What came of the choice of the batch size: joules of a step, and loss per joule beside that of before."""
        open_ = [d for d in self.decisions if d.what == "batch size" and d.predicted and d.realised is None]
        if not open_ or stretch is None or not stretch.steps:
            return
        joules = stretch.joules if stretch.joules is not None else self.meter.since(stretch.mark).joules
        if joules is None:
            return
        before = self._stretches[0]
        realised = {"joules of a step": joules / stretch.steps}
        if before.joules and joules:
            realised |= {
                "loss per joule before": before.gained() / before.joules,
                "loss per joule after": stretch.gained() / joules,
            }
        open_[0].realised = realised

    def _set(self, trainer: Any, parts: int) -> None:
        trainer.accumulate = self.state["accumulate"] = parts

    def _rescale(self, trainer: Any, factor: float) -> None:
        """Change a constant learning rate; one that follows a schedule is left alone."""
        places = trainer.rates()
        if trainer.schedule is None and places and not any("step" in place for place in places):
            for place in places:
                place["lr"] *= factor
            self._decide(trainer, "learning rate", places[0]["lr"], f"times {factor:.4g}, for the new batch size")

    def _hopeless(self, trainer: Any, used: float, value: float) -> None:
        """Give the run up if even the mean rate of the last epochs, kept to the budget's end, misses the target: curves flatten, so that is generous."""
        self._curve.append((used, value))
        if len(self._curve) < 4 or value <= self.target:  # type: ignore[operator]
            return
        joules, values = np.array(self._curve[-4:]).T
        if (values <= 0).any() or not np.isfinite(values).all() or joules[-1] <= joules[0]:
            return
        slope = float(np.polyfit(joules, np.log(values), 1)[0])
        reached = value * math.exp(min(slope, 0.0) * (self.joule_budget - used))  # type: ignore[operator]
        if reached > self.target:  # type: ignore[operator]
            reason = f"{self.monitor} would be {reached:.4g} at the end of the budget, above {self.target:.4g}"
            self._decide(trainer, "stop", "stop", reason, {self.monitor: reached})
            trainer.stop(f"hopeless: {reason}")

    def save_decisions(self, path: str | Path) -> None:
        """Write the decisions as JSON."""
        write_atomically(Path(path), json.dumps([asdict(d) for d in self.decisions], indent=1) + "\n")
