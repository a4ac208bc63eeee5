"""Energy: what a step costs in joules, measured or modelled and always labelled, and decisions that spend less.

* Meters (``meter``): one interface over counters (``counters``: RAPL, NVML, hwmon, zeus), the cost model (``model``, with tables of
  ``technologies``, fitted to a machine by ``calibration``) and nothing ("not measured"). ``hardware`` counts instructions and cache misses.
* Attribution (``ledger``, ``report``): ``hammer.HammerContext(energy=meter)`` books joules by phase, layer and operation.
* Decisions: ``noise`` and ``batch`` (which batch size costs least), ``price`` (a price on joules under a budget), ``jobs`` (recurring
  jobs), ``optimizer`` (all of it in a Trainer, with a log of what was predicted and what came of it).
"""

from .calibration import Fit, calibrate, fit
from .counters import counter_file, find, hwmon, nvml, rapl, zeus
from .hardware import EventCounters
from .meter import Meter, NotMeasured, Reading, Source, Unavailable, grams
from .model import Modelled, Work
from .technologies import Technology, technology

__all__ = [
    "EventCounters", "Fit", "Meter", "Modelled", "NotMeasured", "Reading", "Source", "Technology", "Unavailable", "Work", "calibrate",
    "counter_file", "find", "fit", "grams", "hwmon", "nvml", "rapl", "technology", "zeus",
]  # fmt: skip
