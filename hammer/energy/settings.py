"""The section ``energy`` of a config file: a meter by name, and what is decided by it."""

from pathlib import Path
from typing import Literal

from .counters import find
from .meter import Meter
from .model import Modelled
from .optimizer import EnergyOptimizer


class _Reporting(EnergyOptimizer):
    """Writes what was found when ``fit`` ends: energy.html, energy.json and decisions.json in a folder."""

    folder: Path | None = None

    def on_fit_end(self, trainer: object) -> None:
        super().on_fit_end(trainer)
        if self.folder is not None and self.report is not None:
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
    share: float = 0.02,
    report: str | None = None,
) -> EnergyOptimizer:
    """A meter for the run, and what is decided by it.

    Args:
        source: what tells joules: "auto" takes the counters there are, and measures nothing where there are none; "model" is the cost model.
        table: of the cost model: 45nm, 7nm, or a file of `hammer energy calibrate`.
        static_watts: of the cost model, in place of the table's.
        budget: joules after which the run ends, with its epoch.
        target: the validation loss wanted; with a budget, a run that will not get there is given up.
        batch: whether to choose the batch size.
        share: of the run's time, that hearing operations may cost.
        report: the folder for a flame graph, the figures and the decisions.
    """
    chosen = Modelled(table, static_watts) if source == "model" else find(*(() if source == "auto" else (source,)))
    found = _Reporting(Meter(chosen), budget=budget, target=target, batch=batch, share=share)
    found.folder = None if report is None else Path(report)
    return found
