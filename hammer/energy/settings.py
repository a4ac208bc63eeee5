"""The section ``energy`` of a config file: a meter by name, and what is decided by it."""

from pathlib import Path
from typing import Any, Literal

from .counters import find
from .ledger import BUDGET
from .meter import Meter
from .model import Modelled
from .optimizer import EnergyOptimizer


class _Reporting(EnergyOptimizer):
    """Writes what was found when ``fit`` ends: energy.html, energy.json and decisions.json in a folder; of several ranks the first one's."""

    folder: Path | None = None

    def on_fit_end(self, trainer: Any) -> None:
        super().on_fit_end(trainer)
        leads = trainer.agents is None or trainer.agents.leads
        if self.folder is not None and self.report is not None and leads:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.report.save_html(self.folder / "energy.html")
            self.report.save_json(self.folder / "energy.json")
            self.save_decisions(self.folder / "decisions.json")


def energy(
    source: Literal["auto", "rapl", "hwmon", "nvml", "zeus", "model"] = "auto",
    table: str = "45nm",
    static_watts: float | None = None,
    budget: float | None = None,
    target: float | None = None,
    batch: bool = False,
    precisions: list[Literal["fp32", "fp16", "bf16"]] | None = None,
    rise: float = 0.01,
    recompute: bool = False,
    share: float = BUDGET,
    report: str | None = None,
) -> EnergyOptimizer:
    """A meter for the run, and what is decided by it.

    Args:
        source: what tells joules: "auto" takes the counters there are, and measures nothing where there are none; "model" is the cost model.
        table: of the cost model: 45nm, 7nm, or a file of `hammer energy calibrate`; also what layers are decided by.
        static_watts: of the cost model, in place of the table's.
        budget: joules after which the run ends, with its epoch.
        target: the validation loss wanted; with a budget, a run that will not get there is given up.
        batch: whether to choose the batch size.
        precisions: what each layer may run in, by the joules it saves; none: layers stay as they are.
        rise: by what share of the first batch's loss all layers' precisions may raise it.
        recompute: whether the model's children may compute their activations again instead of keeping them.
        share: of the run's time, that hearing operations may cost.
        report: the folder for a flame graph, the figures and the decisions.
    """
    chosen = Modelled(table, static_watts) if source == "model" else find(*(() if source == "auto" else (source,)))
    found = _Reporting(
        Meter(chosen), budget=budget, target=target, batch=batch, precisions=precisions or (), rise=rise, recompute=recompute,
        table=table, share=share,
    )  # fmt: skip
    found.folder = None if report is None else Path(report)
    return found
