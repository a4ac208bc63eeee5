"""TopoGrad, experimental: smaller steps while the last gradients fall into groups that do not agree.

The last ``window`` gradients g_1 … g_n are points (sketches, see ``sketch``). Cut the edges of their minimum spanning tree that are longer than
``gap`` times its mean edge, that is the components of H0 whose lifetime stands out so far. What is left of the tree are groups;
those of fewer than ``share`` of the points are outliers and do not count. Of groups with sizes n_c and means μ_c:

    c = |Σ w_c μ_c|² / Σ w_c |μ_c|²  ∈ [0, 1],    w_c = n_c / Σ n_c         how far the groups' means agree (Jensen)
    h = max(c, floor) · g    with two groups or more;    h = g, the very same arrays, with fewer

So two groups of opposite gradients (a step that jumps across a valley, two batches that want different things) shrink the step, and
noise about one mean, however large, does not: that is what it differs in from a coherence of single gradients, as VortexGrad's.
Where the rate can be tuned it did not help (experiments/topograd_first_look).
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from autograd.gradients import GradientTransform
from autograd.gradients.base import Link
from autograd.gradients.scaling import number, whole

from .components import labels, spanning_tree
from .metric import distances
from .sketch import Sketch


@dataclass(frozen=True)
class TopoGrad:
    """The settings of the transform; call it to make one: ``chain(TopoGrad()(), sgd(0.1))``.

    Args:
        window: n, how many gradients to keep, at least 4. Until so many have come, they pass as they are.
        gap: how many mean edges an edge must exceed to be cut, above 1 and below window − 1, which no edge reaches.
        share: the least part of the points that a group must have to count, in (0, 1/2].
        floor: the least factor, in [0, 1].
        width: numbers of a sketch; with no more parameters than that, points are exact.
        seed: of the sketch.

    With the defaults 16 Gaussian gradients are taken for several groups 1.5 times in 100 in one dimension, and less than once in 400
    from two on. Two groups are found from a distance of about six times the spread of each (√(2 d) σ between two of its points).

    Before ``accumulate(k)`` with ``window=k`` the cloud is that of the micro-batches. Before an optimizer that divides by the size of gradients
    (Adam), a factor counts only where it changes; behind one the cloud is that of its updates. State: ``points``
    (window, width), how many came (``count``), and of the last step ``parts``, the number of groups, and ``factor``. A gradient that is
    not finite passes as it is and is not kept; one that is missing counts as zeros.

    Raises:
        ValueError, TypeError: a setting out of range; the message names it.
    """

    window: int = 16
    gap: float = 4.0
    share: float = 0.25
    floor: float = 0.1
    width: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        whole("TopoGrad: window", self.window, 4)
        number("TopoGrad: gap", self.gap, f"(1, {self.window - 1})")
        number("TopoGrad: share", self.share, "(0, 0.5]")
        number("TopoGrad: floor", self.floor, "[0, 1]")
        whole("TopoGrad: width", self.width)
        whole("TopoGrad: seed", self.seed, 0)

    def __call__(self) -> GradientTransform:
        """The gradient transform."""
        return _Damping(self).transform()


def groups(points: Any, gap: float = 4.0, share: float = 0.25) -> np.ndarray:
    """The groups of a cloud that its spanning tree falls into where edges longer than ``gap`` mean edges are cut.

    Args:
        points: (n, d).
        gap: see ``TopoGrad``.
        share: groups of fewer than so many of the points are none.

    Returns:
        (n,) integers: 0, 1, … by group, in the order of their first points; −1 for the points that are in none.
    """
    d = distances(points)
    edges = spanning_tree(d)
    lengths = d[edges[:, 0], edges[:, 1]]
    found = labels(len(d), edges[lengths <= gap * lengths.mean()] if len(edges) else edges)
    sizes = np.bincount(found)
    kept = np.nonzero(sizes >= share * len(d))[0]
    number_of = np.full(len(sizes), -1)
    number_of[kept] = np.arange(len(kept))
    return number_of[found]


def agreement(points: np.ndarray, group: np.ndarray) -> float:
    """How far the means of groups agree, from 0 to 1: c of the module; 1 for fewer than two groups. Points of group −1 do not count."""
    if group.max(initial=-1) < 1:
        return 1.0
    sizes = np.bincount(group[group >= 0])
    means = np.stack([points[group == k].mean(axis=0) for k in range(len(sizes))])
    weights = sizes / sizes.sum()
    size = float(weights @ np.square(means).sum(axis=1))
    return min(float(np.square(weights @ means).sum()) / size, 1.0) if size > 0 else 1.0


class _Damping(Link):
    def __init__(self, settings: TopoGrad):
        self.settings, self.sketch = settings, Sketch(settings.width, settings.seed)

    def start(self, params: list, spec: Any) -> dict:
        width = min(self.settings.width, sum(math.prod(p.shape) for p in params if p is not None))
        return {"points": np.zeros((self.settings.window, width)), "count": 0, "parts": 1, "factor": 1.0}

    def step(self, grads: list, state: Any, params: list, spec: Any, apply: bool = False) -> tuple[list, Any]:
        s = self.settings
        point = self.sketch(
            [np.zeros(p.shape) if g is None and p is not None else g for g, p in zip(grads, params, strict=True)]
        )
        state["parts"], state["factor"] = 1, 1.0
        if not np.isfinite(point).all():
            return grads, state
        points = state["points"]
        points[state["count"] % s.window] = point
        state["count"] += 1
        if state["count"] < s.window:
            return grads, state
        size = float(np.abs(points).max())
        if size == 0.0:
            return grads, state
        scaled = points / size  # so that no square overflows or vanishes
        group = groups(scaled, s.gap, s.share)
        state["parts"] = max(int(group.max()) + 1, 1)
        state["factor"] = factor = max(agreement(scaled, group), s.floor)
        if factor == 1.0:
            return grads, state
        return [g if g is None else g * factor for g in grads], state
