"""What each layer of a run does for less: its precision, and whether its activations are kept. Decided on a batch, in force until released.

``predicted`` is what a layer's choice does alone, ``realised`` what it does beside those of the layers before it, both on that batch.

``EnergyOptimizer`` asks at a run's first step; ``precision`` and ``recompute`` are the two decisions by themselves.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

from autograd.context import PRECISIONS
from autograd.nn import Module

from .decision import Decision
from .precision import layer_joules, layer_precisions, loss_of, precisions
from .price import least
from .recompute import recompute_or_keep, recomputed
from .technologies import Technology, technology


class Layers:
    """Decisions for the layers of a model, and the wrapping that carries them out.

    Args:
        names: the precisions that a layer may have; empty: they stay as they are.
        rise: by what share of a batch's loss all layers' precisions may raise it, added up.
        recompute: whether the model's children may compute their activations again.
        table: the prices of both.

    Attributes:
        state: what was chosen, as a checkpoint keeps it: empty before; "precisions" and "recompute".
    """

    def __init__(self, names: Sequence[str], rise: float, recompute: bool, table: Technology | str):
        unknown = sorted(set(names) - set(PRECISIONS))
        if unknown:
            raise ValueError(f"EnergyOptimizer: precisions may be {', '.join(PRECISIONS)}, not {unknown[0]!r}")
        if not rise >= 0:
            raise ValueError(f"EnergyOptimizer: rise must be at least 0, not {rise!r}")
        self.names, self.rise, self.recompute = tuple(names), rise, recompute
        self.table = table if isinstance(table, Technology) else technology(table)
        self.state: dict[str, Any] = {}
        self._stack = ExitStack()

    def __bool__(self) -> bool:
        return bool(self.names) or self.recompute

    def decide(self, model: Module, loss: Callable[[], Any], step: int) -> list[Decision]:
        """Choose by a batch, and put in force. First the precisions, as activations of fewer bytes are cheaper to keep."""
        self.state |= {"precisions": {}, "recompute": []}
        found = self._precisions(model, loss) if self.names else []
        self._stack.enter_context(layer_precisions(model, self.state["precisions"]))
        if self.recompute:
            kept = recompute_or_keep(model, loss, self.table)
            self.state["recompute"] = [path for path, d in kept.items() if d.choice == "recompute"]
            found += kept.values()
        self._stack.enter_context(recomputed(model, self.state["recompute"]))
        for decision in found:
            decision.step = step
        return found

    def resume(self, model: Module) -> None:
        """Put in force what an earlier part of the run chose."""
        if self.state:
            self._stack.enter_context(layer_precisions(model, self.state["precisions"]))
            self._stack.enter_context(recomputed(model, self.state["recompute"]))

    def release(self) -> None:
        """Layers are again as they were."""
        self._stack.close()

    def _precisions(self, model: Module, loss: Callable[[], Any]) -> list[Decision]:
        options = precisions(model, loss, self.names, self.table)
        now = lambda: (loss_of(loss), layer_joules(model, loss, self.table))
        found, chosen = [], self.state["precisions"]
        with model.evaluating():
            plain, own = before = now()
            reason = (
                f"the fewest joules for which all layers raise the loss of {plain:.4g} by at most {self.rise:.3g} of it"
            )
            for path, name in least(options, self.rise * abs(plain)).items():
                action = options[path][name]
                chosen[path] = name
                with layer_precisions(model, chosen):
                    after = now()
                # Beside the layers chosen before it: casts between neighbours come and go with their precisions.
                realised = {"loss": after[0] - before[0], "joules": sum(after[1].values()) - sum(before[1].values())}
                predicted = {"loss": -action.gain, "joules": action.joules - own[path]}
                found.append(
                    Decision(0, f"precision of {path or type(model).__name__}", name, reason, predicted, realised)
                )
                before = after
        return found
