"""Monitor: the topology of the last gradients or weights of a run, as a Trainer callback or a link of a chain, within a budget of time.

    Trainer(model, callbacks=[Monitor("weights")])                 # figures in every epoch's row
    optimizer = Optimizer(params, chain(monitor.link(), adamw(1e-3)))   # of gradients, without a Trainer; monitor.report() tells

It changes nothing: gradients, parameters and random streams are those of a run without it, to the bit. Points are
sketches of ``width`` numbers (see ``sketch``).
"""

import time
from typing import Any

import numpy as np

from autograd.gradients import GradientTransform
from autograd.gradients.base import Link
from autograd.train.callbacks import Callback

from .clouds import rips
from .matching import wasserstein
from .sketch import Sketch
from .summaries import persistence_entropy, total_persistence

FEWEST = 16
"""Points below which there is no report."""
LONGEST = 64
"""How many components are compared between reports."""
BEFORE = 8
"""Changes that have to be known before one can be called unusual."""
UNUSUAL = 6.0
"""Of how many scaled median deviations from the median a change is unusual."""


class Monitor(Callback):
    """Watches the shape of the last ``window`` points.

    Args:
        what: "weights" after each step, or "gradients" before it. As a link it sees what passes through, whatever this says.
        window: points to keep.
        width: numbers of a sketch. With no more parameters than that, points are exact.
        budget: the share of the time since the start that it may use. Points are skipped, and reports use fewer points or are put off, to
            stay below; the first point and the first report cannot be foreseen and are always made. None: no limit.
        seed: of the sketch.

    Each report (at the end of an epoch, or by ``report()``) has ``topology_persistence``, the total persistence of H0 divided by the
    number of pairs (the mean edge of the spanning tree), ``topology_entropy``, normalised, ``topology_longest``, the longest life divided by the mean,
    ``topology_change``, the Wasserstein distance of the longest lives (divided by their mean) from those of the report before,
    ``topology_alert``, 1.0 if that change is unusual, and ``topology_share``, the share of time that the monitor has used.

    Attributes:
        state: ``reports``, a list of them with their ``points``, and ``alerts``, the numbers of those with an alert.
        seen, skipped: points that were looked at, and that were left out for the budget or because they were not finite.
    """

    def __init__(
        self, what: str = "weights", window: int = 256, width: int = 256, budget: float | None = 0.1, seed: int = 0
    ):
        super().__init__()
        if what not in ("weights", "gradients"):
            raise ValueError(f'Monitor: what must be "weights" or "gradients", not {what!r}')
        if window < FEWEST:
            raise ValueError(f"Monitor: window must be at least {FEWEST} points, not {window!r}")
        if width < 1:
            raise ValueError(f"Monitor: width must be at least 1, not {width!r}")
        if budget is not None and not 0 < budget <= 1:
            raise ValueError(f"Monitor: budget is a share of time, above 0 and at most 1, not {budget!r}")
        self.what, self.window, self.width, self.budget, self.seed = what, window, width, budget, seed
        self.state = {"reports": [], "alerts": []}
        self.seen = self.skipped = 0
        self._points: list[np.ndarray] = []
        self._sketch = Sketch(width, seed)
        self._began: float | None = None
        self._spent = self._point_cost = self._report_cost = 0.0
        self._lives: np.ndarray | None = None

    # ---- the moments of a Trainer ----

    def on_fit_start(self, trainer: Any) -> None:
        """A new stretch of time; what was used before does not count."""
        self._began, self._spent = time.perf_counter(), 0.0

    def on_gradients(self, trainer: Any) -> None:
        if self.what == "gradients":
            self.observe(trainer.gradients)

    def on_step_end(self, trainer: Any) -> None:
        if self.what == "weights":
            self.observe([p.raw for p in trainer.optimizer.params])

    def on_epoch_end(self, trainer: Any, row: dict[str, Any]) -> None:
        row.update({name: value for name, value in self.report().items() if name != "points"})

    # ---- a link of a chain ----

    def link(self) -> GradientTransform:
        """A transform that returns the very gradients it is given, having looked at them. It has no state."""
        return _Observing(self).transform()

    # ---- what it does ----

    @property
    def share(self) -> float:
        """The share of the time since the start that the monitor has used."""
        return 0.0 if self._began is None else self._spent / max(time.perf_counter() - self._began, 1e-9)

    def observe(self, arrays: list) -> None:
        """Look at a list of arrays (None: nothing there), unless the budget is used up."""
        start = time.perf_counter()
        if self._began is None:
            self._began = start
        within = self.budget is None or self._spent + self._point_cost <= self.budget * (start - self._began)
        if not within and self.seen:
            self.skipped += 1
            return
        point = self._sketched(arrays)
        if np.isfinite(point).all():
            self.seen += 1
            self._points.append(point)
            del self._points[: -self.window]
        else:
            self.skipped += 1
        self._point_cost = time.perf_counter() - start
        self._spent += self._point_cost

    def report(self) -> dict[str, float]:
        """Figures of the points that are kept; empty if there are too few, or no time for as many as are needed."""
        start = time.perf_counter()
        count = len(self._points)
        began = start if self._began is None else self._began
        if self._report_cost and self.budget is not None:  # measured per squared number of points
            left = self.budget * (start - began) - self._spent
            count = min(count, int(np.sqrt(max(left, 0.0) / self._report_cost)))
        if count < FEWEST:
            return {}
        points = np.stack(self._points)[np.linspace(0, len(self._points) - 1, count).astype(int)]
        found = self._figures(points)
        seconds = time.perf_counter() - start
        self._spent += seconds
        self._report_cost = seconds / count**2
        found["topology_share"] = self.share
        self.state["reports"].append({**found, "points": float(count)})
        return found

    def _figures(self, points: np.ndarray) -> dict[str, float]:
        (components,) = rips(points, (0,))
        pairs = len(components.pairs)
        mean = float(total_persistence(components)) / max(pairs, 1)
        found = {
            "topology_persistence": mean,
            "topology_entropy": float(persistence_entropy(components, normalize=True)),
            "topology_longest": float(components.lifetimes.max() / mean) if pairs else 0.0,
        }
        lives = components.longest(LONGEST).pairs / (mean or 1.0)
        if self._lives is not None:
            change = float(wasserstein(self._lives, lives))
            before = [r["topology_change"] for r in self.state["reports"] if "topology_change" in r]
            found["topology_change"] = change
            found["topology_alert"] = float(unusual(change, before))
            if found["topology_alert"]:
                self.state["alerts"].append(len(self.state["reports"]))
        self._lives = lives
        return found

    def _sketched(self, arrays: list) -> np.ndarray:
        before = self._sketch.length
        point = self._sketch(arrays)
        if self._sketch.length != before:
            self._points.clear()  # those before are of other numbers
        return point


def unusual(value: float, before: list[float]) -> bool:
    """Whether a number lies above the median of earlier ones by more than ``UNUSUAL`` scaled median absolute deviations."""
    if len(before) < BEFORE:
        return False
    middle = float(np.median(before))
    return value > middle + UNUSUAL * 1.4826 * float(np.median(np.abs(np.array(before) - middle)))


class _Observing(Link):
    def __init__(self, monitor: Monitor):
        self.monitor = monitor

    def start(self, params: list, spec: Any) -> tuple:
        return ()

    def step(self, grads: list, state: Any, params: list, spec: Any, apply: bool = False) -> tuple[list, Any]:
        self.monitor.observe(grads)
        return grads, state
