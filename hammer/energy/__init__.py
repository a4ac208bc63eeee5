"""Energy: what a step costs in joules, measured or modelled and always labelled, and decisions that spend less.

* Meters (``meter``): one interface over counters (``counters``: RAPL, NVML, hwmon, zeus), the cost model (``model``, with tables of
  ``technologies``, fitted to a machine by ``calibration``) and nothing ("not measured"). ``hardware`` counts instructions and cache misses.
* Attribution (``ledger``, ``report``): ``hammer.HammerContext(energy=meter)`` books joules by phase, layer and operation.
* Decisions: ``noise`` and ``batch`` (which batch size costs least), ``price`` (a price on joules under a budget), ``jobs`` (recurring
  jobs), ``recompute`` (activations kept or computed again), ``precision``, ``layers`` (both for a run), ``optimizer`` (a Trainer's run, with a
  log of what was predicted and what came of it: ``decision``).
"""

from .batch import StepEnergy, StepsToTarget, best_batch
from .calibration import Fit, calibrate, fit
from .callback import EnergyCallback
from .counters import counter_file, find, hwmon, nvml, rapl, zeus
from .hardware import EventCounters
from .jobs import RecurringJob
from .meter import Meter, NotMeasured, Reading, Source, Unavailable, grams
from .model import Modelled, Work
from .noise import NoiseScale
from .optimizer import EnergyOptimizer
from .price import Action, Price, energy_gate
from .recompute import recompute_or_keep, recomputed
from .technologies import Technology, technology

__all__ = [
    "Action", "EnergyCallback", "EnergyOptimizer", "EventCounters", "Fit", "Meter", "Modelled", "NoiseScale", "NotMeasured", "Price", "Reading",
    "RecurringJob", "Source", "StepEnergy", "StepsToTarget", "Technology", "Unavailable", "Work", "best_batch", "calibrate",
    "counter_file", "energy_gate", "find", "fit", "grams", "hwmon", "nvml", "rapl", "recompute_or_keep", "recomputed", "technology", "zeus",
]  # fmt: skip
