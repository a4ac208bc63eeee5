"""A price on joules: dual ascent on a budget, and choices by what is gained less what is paid.

    choice = argmax over actions of  gain(action) − μ · joules(action)
    μ ← max(0, μ + ρ (joules of the step − what is left of the budget / steps that are left))

The price μ (loss per joule) rises while a run spends faster than its budget allows, and falls while it spends less. Maximising gain under
Σ joules ≤ budget is the primal problem; this is subgradient ascent on its dual (Boyd & Vandenberghe, "Convex Optimization", section 5).
The subgradient is that of one step. A price that moved by *all* overspending so far would integrate twice, and swing: over uniform
gains with a budget for 30 % of the steps it takes steps of mean gain .65, this one .83, the best possible .85.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from autograd import backend
from autograd.gradients import global_norm
from autograd.gradients.base import GradientTransform, Link


@dataclass(frozen=True)
class Action:
    """What may be done: by how much it is expected to lower the loss, and its joules."""

    gain: float
    joules: float


class Price:
    """The price of a joule.

    Args:
        budget: joules for the whole run.
        steps: T, the steps that the budget is for.
        rate: ρ, in loss per joule squared; None: such that overspending by a step's budget moves the price by a twentieth of
            the mean gain per joule seen so far.
        start: the first price.
    """

    def __init__(self, budget: float, steps: int, rate: float | None = None, start: float = 0.0):
        if not (budget > 0 and steps >= 1 and start >= 0 and (rate is None or rate > 0)):
            raise ValueError(f"Price: budget and rate must be above 0, steps at least 1, start at least 0; not {budget!r}, {rate!r}, {steps!r}, {start!r}")  # fmt: skip
        self.budget, self.steps, self.rate = float(budget), steps, rate
        self.state: dict[str, float] = {"price": float(start), "used": 0.0, "step": 0, "gain": 0.0, "joules": 0.0}

    @property
    def price(self) -> float:
        return self.state["price"]

    @property
    def used(self) -> float:
        return self.state["used"]

    def choose(self, actions: Mapping[str, Action]) -> str:
        """The action with the largest gain − μ · joules; of equals the one that costs least, and of those the first."""
        if not actions:
            raise ValueError("Price.choose: there are no actions")
        best = max(actions.values(), key=lambda a: a.gain)
        self.state["gain"] += max(0.0, best.gain)
        self.state["joules"] += best.joules
        return min(
            actions, key=lambda name: (self.price * actions[name].joules - actions[name].gain, actions[name].joules)
        )

    def spend(self, joules: float) -> None:
        """A step has used so many joules: the price moves."""
        if not (math.isfinite(joules) and joules >= 0):
            raise ValueError(f"Price.spend: joules must be finite and at least 0, not {joules!r}")
        s = self.state
        left = (self.budget - s["used"]) / max(1, self.steps - s["step"])
        s["used"] += joules
        s["step"] += 1
        share = self.budget / self.steps
        worth = s["gain"] / s["joules"] if s["joules"] else 0.0
        rate = self.rate if self.rate is not None else 0.05 * worth / share
        s["price"] = max(0.0, s["price"] + rate * (joules - left))


class _Gate(Link):
    may_skip = True
    undone = False

    def __init__(self, budget: float, steps: int, costs: Mapping[float, float], lr: float, rate: float | None):
        self.make = lambda: Price(budget, steps, rate)
        self.costs, self.lr = dict(sorted(costs.items(), reverse=True)), lr
        self.make()  # settings are checked here

    def start(self, params: list, spec: Any) -> dict:
        return self.make().state | {"kept": 1.0, "predicted": 0.0, "skipped": 0}

    def step(self, grads: list, state: Any, params: list, spec: Any, apply: bool = False) -> tuple[list, Any]:
        price = self.make()
        price.state = {name: state[name] for name in price.state}
        square = global_norm([g for g in grads if g is not None]) ** 2
        sparse = {share: _largest(grads, share) for share in self.costs if 0 < share < 1}
        gains = {
            share: self.lr * (square if share == 1 else _square(sparse[share]) if share else 0.0)
            for share in self.costs
        }
        chosen = float(price.choose({str(share): Action(gains[share], joules) for share, joules in self.costs.items()}))
        price.spend(self.costs[chosen])
        state = price.state | {"kept": chosen, "predicted": gains[chosen], "skipped": state["skipped"] + (chosen == 0)}
        if chosen == 0:
            return [None] * len(grads), state
        return (grads if chosen == 1 else sparse[chosen]), state


def _square(grads: list) -> float:
    return global_norm([g for g in grads if g is not None]) ** 2


def _largest(grads: list, share: float) -> list:
    """Gradients with all but about that share of each one's elements, the largest, set to 0."""
    found: list[Any] = []
    for g in grads:
        if g is None:
            found.append(None)
            continue
        xp = backend.xp(g)
        size = abs(g)
        flat = xp.sort(xp.reshape(size, (-1,)))
        keep = max(1, math.ceil(share * flat.shape[0])) if flat.shape[0] else 0
        found.append(g if not keep else xp.where(size >= flat[flat.shape[0] - keep], g, xp.zeros_like(g)))
    return found


def energy_gate(
    budget: float, steps: int, costs: Mapping[float, float], lr: float, rate: float | None = None
) -> GradientTransform:
    """A link that lets a whole gradient through, its largest elements, or nothing, by a price on joules.

    Args:
        budget: joules for ``steps`` steps.
        costs: joules of a step by the share of gradient elements that go on: 1 (all), 0 (the step is skipped), and any between.
            What comes after this link is what they save: communication, compression, the update. The backward pass is done.
        lr: of the optimizer; a step of plain descent along what is kept is expected to lower the loss by lr · |kept gradient|².
        rate: see ``Price``.

    State: the numbers of ``Price``, and of the last step ``kept``, the share, and ``predicted``, its expected gain; ``skipped`` counts.
    Skipped steps leave the links after this one as they are.
    """
    if 1 not in costs or any(not 0 <= share <= 1 or joules < 0 for share, joules in costs.items()):
        raise ValueError(f"energy_gate: costs must hold shares from 0 to 1, 1 among them, with joules of at least 0, not {dict(costs)!r}")  # fmt: skip
    if not lr > 0:
        raise ValueError(f"energy_gate: lr must be above 0, not {lr!r}")
    return _Gate(budget, steps, {float(k): float(v) for k, v in costs.items()}, lr, rate).transform()


def per_layer(options: Mapping[str, Mapping[str, Action]], price: float) -> dict[str, str]:
    """For each layer the option (a precision, say) with the largest gain − price · joules; losses are gains below 0."""
    if price < 0:
        raise ValueError(f"per_layer: the price must be at least 0, not {price!r}")
    return {
        layer: min(actions, key=lambda name: (price * actions[name].joules - actions[name].gain, actions[name].joules))
        for layer, actions in options.items()
    }


def within(options: Mapping[str, Mapping[str, Action]], budget: float) -> tuple[dict[str, str], float]:
    """The choice of ``per_layer`` at the lowest price at which its joules stay within ``budget``, and that price.

    Raises:
        ValueError: even the cheapest options cost more.
    """
    spent: Callable[[dict[str, str]], float] = lambda chosen: sum(
        options[layer][name].joules for layer, name in chosen.items()
    )
    cheapest = sum(min(a.joules for a in actions.values()) for actions in options.values())
    if cheapest > budget:
        raise ValueError(f"within: the cheapest options take {cheapest:.4g} J, more than the budget of {budget:.4g} J")
    price = next(p for p in _turns(options) if spent(per_layer(options, p)) <= budget)
    return per_layer(options, price), price


def least(options: Mapping[str, Mapping[str, Action]], rise: float) -> dict[str, str]:
    """The choice of ``per_layer`` at the highest price at which gains add up to at least -rise: the fewest joules for that loss.

    Raises:
        ValueError: even the options that lose least lose more.
    """
    gained = lambda chosen: sum(options[layer][name].gain for layer, name in chosen.items())
    for price in reversed(_turns(options)):
        chosen = per_layer(options, price)
        if gained(chosen) >= -rise:
            return chosen
    best = sum(max(a.gain for a in actions.values()) for actions in options.values())
    raise ValueError(f"least: the best options raise the loss by {-best:.4g}, more than {rise:.4g}")


def _turns(options: Mapping[str, Mapping[str, Action]]) -> list[float]:
    """All prices that matter, rising: where the prices of the gains of two options of a layer meet, and 0."""
    turns = {
        (a.gain - b.gain) / (a.joules - b.joules)
        for actions in options.values()
        for a in actions.values()
        for b in actions.values()
        if a.joules > b.joules and a.gain > b.gain
    }
    return [0.0, *sorted(turns)]
