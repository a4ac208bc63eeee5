"""L-BFGS with a line search: an optimizer that evaluates the loss as often as it needs to.

    optimizer = LBFGS(model.parameters())

    def closure():
        optimizer.zero_grad()
        loss = loss_of(model(x), y)
        loss.backward()
        return loss

    optimizer.step(closure)  # up to max_iter iterations

It is for losses without noise: all data at once. ``lbfgs`` (in ``second_order``) is the same direction as a gradient
transform with a fixed step.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple

from .. import backend
from ..gradients import curvature
from ..gradients.base import Link
from ..gradients.scaling import number, whole
from ..tensor import DiffTensor
from .optimizer import Optimizer


class Point(NamedTuple):
    """A point on the line: the step, the loss there, its slope along the line, and the gradient."""

    t: float
    loss: float
    slope: float
    gradient: Any


class LBFGS(Optimizer):
    """L-BFGS (Liu & Nocedal 1989), step for step that of PyTorch.

    Args:
        params: the parameters, all of one array library and device; no groups.
        lr: the step; with a line search the one that is tried first.
        max_iter: iterations in one call of ``step``.
        max_eval: evaluations of the closure in one call of ``step``; ``max_iter · 5/4`` if None.
        tolerance_grad: end where no element of the gradient is larger.
        tolerance_change: end where neither the loss nor any parameter changes by more.
        memory: pairs of changes that are kept.
        line_search: "strong_wolfe", or None for the fixed step.

    Attributes:
        state: as ``gradients.scale_by_lbfgs`` has it, ``"evaluations"`` so far, and ``"lr"``.
    """

    def __init__(
        self,
        params: Iterable[DiffTensor],
        lr: float = 1.0,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        memory: int = 100,
        line_search: Literal["strong_wolfe"] | None = "strong_wolfe",
    ):
        if line_search not in ("strong_wolfe", None):
            raise ValueError(f"line_search must be 'strong_wolfe' or None, not {line_search!r}")
        self.max_iter = whole("max_iter", max_iter)
        self.max_eval = self.max_iter * 5 // 4 if max_eval is None else whole("max_eval", max_eval)
        self.tolerance_grad = number("tolerance_grad", tolerance_grad)
        self.tolerance_change = number("tolerance_change", tolerance_change)
        self.line_search = line_search
        super().__init__(params, _State(whole("memory", memory), number("lr", lr)).transform())

    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Up to ``max_iter`` iterations.

        Args:
            closure: forgets the gradients, computes the loss and its gradients (``backward``) and returns the loss.

        Returns:
            The loss at the start, as the closure returned it.
        """
        if closure is None:
            raise TypeError(
                "LBFGS.step needs a closure that computes the loss: def closure(): zero_grad, backward, return loss"
            )
        if self._evaluating:
            raise RuntimeError("step: inside evaluation(); step after its with-block has ended")
        state = self.state
        budget = self.max_eval
        dtype = state["x"].dtype
        probe = lambda: self._evaluate(closure)
        first = probe()
        here, x = first, curvature.flatten([p.raw for p in self.params], dtype)
        budget -= 1
        if here.largest <= self.tolerance_grad:
            return first.returned
        for n in range(1, self.max_iter + 1):
            curvature.remember(state, x, here.gradient)
            down = -curvature.direction(state)
            slope = float(here.gradient @ down)
            if slope > -self.tolerance_change:
                break
            before, used = here, 0
            origin, start = x, Point(0.0, here.loss, slope, here.gradient)
            if self.line_search is None:
                t = state["lr"]
                x = self._move(origin, down, t)
                if n < self.max_iter:  # the last gradient would not be used
                    here, used = probe(), 1
            else:

                def look(t: float, origin: Any = origin, down: Any = down) -> Point:
                    self._move(origin, down, t)
                    found = probe()
                    return Point(t, found.loss, float(found.gradient @ down), found.gradient)

                found, used = strong_wolfe(
                    look, start, state["lr"], _largest(down), budget, tolerance=self.tolerance_change
                )
                t = found.t
                x = self._move(origin, down, t)
                here = _Evaluation(found.loss, found.gradient, _largest(found.gradient), None)
            budget -= used
            if (
                budget <= 0
                or here.largest <= self.tolerance_grad
                or _largest(down) * t <= self.tolerance_change
                or abs(here.loss - before.loss) < self.tolerance_change
            ):
                break
        return first.returned

    def _evaluate(self, closure: Callable[[], Any]) -> "_Evaluation":
        returned = closure()
        grads = [p.grad for p in self.params]
        if not [g for g in grads if g is not None]:
            raise ValueError("LBFGS: after the closure no parameter has a gradient; call loss.backward() in it")
        self.state["evaluations"] += 1
        raws = [p.raw for p in self.params]
        gradient = curvature.flatten(curvature.with_zeros(grads, raws), self.state["x"].dtype)
        loss = float(returned.item() if isinstance(returned, DiffTensor) else returned)
        return _Evaluation(loss, gradient, _largest(gradient), returned)

    def _move(self, origin: Any, down: Any, t: float) -> Any:
        """Set the parameters to ``origin + t · down``, which is returned."""
        x = origin + down * t
        for p, value in zip(self.params, curvature.unflatten(x, [p.raw for p in self.params]), strict=True):
            p.data = value
        return x


class _Evaluation(NamedTuple):
    loss: float
    gradient: Any
    largest: float
    returned: Any


class _State(Link):
    """Makes the state; ``LBFGS.step`` does what a link's step would."""

    def __init__(self, memory: int, lr: float):
        self.memory, self.lr = memory, lr

    def start(self, params: list, spec: Any) -> dict:
        return {**curvature.start(params, self.memory), "evaluations": 0, "lr": self.lr}


def _largest(vector: Any) -> float:
    return float(backend.xp(vector).max(abs(vector))) if math.prod(vector.shape) else 0.0


# ---- the line search ----


def strong_wolfe(
    look: Callable[[float], Point],
    start: Point,
    t: float,
    size: float,
    budget: int,
    armijo: float = 1e-4,
    flat: float = 0.9,
    tolerance: float = 1e-9,
) -> tuple[Point, int]:
    """A step that satisfies the strong Wolfe conditions, or the best one found (Nocedal & Wright 2006, algorithms 3.5 and 3.6).

    ``loss(t) ≤ loss(0) + armijo · t · slope(0)`` and ``|slope(t)| ≤ −flat · slope(0)``. Trial steps are minima of cubics, held
    away from the ends of the bracket as in Schmidt's minFunc. A loss that is not finite counts as too high.

    Args:
        look: evaluates a step.
        start: the point at step 0; its slope is negative.
        t: the first step to try.
        size: the largest element of the direction; a bracket of less than ``tolerance / size`` ends the search.
        budget: evaluations after the first.

    Returns:
        The point, and how often ``look`` was called.
    """

    def tried(t: float) -> Point:
        point = look(t)
        return point if math.isfinite(point.loss) else point._replace(loss=math.inf)

    too_high = lambda p: p.loss > start.loss + armijo * p.t * start.slope
    done = lambda p: abs(p.slope) <= -flat * start.slope
    before, now, calls = start, tried(t), 1
    while calls <= budget:  # go on until a minimum lies between two points
        if too_high(now) or (calls > 2 and now.loss >= before.loss):
            break
        if done(now):
            return now, calls
        if now.slope >= 0:
            break
        t = _cubic_minimum(before, now, (now.t + 0.01 * (now.t - before.t), now.t * 10))
        before, now, calls = now, tried(t), calls + 1
    else:
        before = start
    low, high = (before, now) if before.loss <= now.loss else (now, before)
    crowded = False
    while calls <= budget and abs(high.t - low.t) * size >= tolerance:  # the minimum lies between low and high
        left, right = min(low.t, high.t), max(low.t, high.t)
        t, margin = _cubic_minimum(low, high), 0.1 * (right - left)
        near = min(right - t, t - left) < margin
        if near and (crowded or not left < t < right):  # twice near an end, or at it: step away
            t = right - margin if right - t < t - left else left + margin
            near = False
        crowded = near
        now, calls = tried(t), calls + 1
        if too_high(now) or now.loss >= low.loss:
            low, high = (low, now) if low.loss <= now.loss else (now, low)
            continue
        if done(now):
            return now, calls
        if now.slope * (high.t - low.t) >= 0:
            high = low
        low = now
    return low, calls


def _cubic_minimum(a: Point, b: Point, bounds: tuple[float, float] | None = None) -> float:
    """The step at which the cubic with the losses and slopes of two points is least, within the bounds (else between the points);
    the middle where there is no minimum (Nocedal & Wright 2006, equation 3.59)."""
    low, high = bounds or (min(a.t, b.t), max(a.t, b.t))
    if a.t > b.t:
        a, b = b, a
    d1 = a.slope + b.slope - 3 * (a.loss - b.loss) / (a.t - b.t)
    square = d1 * d1 - a.slope * b.slope
    if not 0 <= square < math.inf:
        return (low + high) / 2
    d2 = math.sqrt(square)
    if b.slope - a.slope + 2 * d2 == 0.0:  # a straight line
        return high
    t = b.t - (b.t - a.t) * ((b.slope + d2 - d1) / (b.slope - a.slope + 2 * d2))
    return min(max(t, low), high)
