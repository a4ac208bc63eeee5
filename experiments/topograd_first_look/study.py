"""Does TopoGrad in front of SGD lower the loss when both may choose their rate? See README.md."""

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from autograd import grad, ops
from autograd.gradients import chain, scale_by_lr
from hammer.lab.studies import Outcome, Table, Work
from hammer.topology import TopoGrad

TITLE = "A first look at TopoGrad"
CLAIM = (
    "With rates tuned for each on the same trials, TopoGrad before SGD ends at a lower loss than SGD alone on one of three problems at least: "
    "the median ratio over fresh seeds is below 0.9."
)
FALSIFIED_IF = "on none of the three the median ratio is below 0.9 with an interval (seeds drawn again) below 1."

RATES = {
    "digits, whole batch": (0.1, 0.3, 0.6, 1.0, 1.5),
    "digits, batches of 32": (0.03, 0.1, 0.3, 0.6, 1.0),
    "two camps": (0.01, 0.03, 0.1, 0.3, 1.0),
}
METHODS = ("sgd", "topograd")
STEPS, TUNING, FRESH = 250, 3, 10
WIDTH, TRAIN = 32, 1000
CURVATURES, CAMP, NOISE = np.logspace(-2, 0, 20), 5.0, 0.05

Problem = tuple[list[np.ndarray], Callable[[list, np.random.Generator], list], Callable[[list], float]]
"""The start, the gradient at a step, and the loss."""


@cache
def digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))[:TRAIN]
    return (x[order] - x.mean()) / x.std(), np.eye(10)[y[order]]


def loss(params: list, x: np.ndarray, labels: np.ndarray) -> Any:
    """Mean cross-entropy of a network with one hidden layer."""
    w, b, v, c = params
    return -ops.sum(ops.log_softmax(ops.matmul(ops.relu(ops.matmul(x, w) + b), v) + c, axis=-1) * labels) / len(x)


def of_digits(rng: np.random.Generator, batch: int) -> Problem:
    x, y = digits()
    gradient = grad(loss)
    start = [
        rng.standard_normal((64, WIDTH)) * math.sqrt(2 / 64), np.zeros(WIDTH),
        rng.standard_normal((WIDTH, 10)) * math.sqrt(1 / WIDTH), np.zeros(10),
    ]  # fmt: skip

    def at(params: list, draws: np.random.Generator) -> list:
        chosen = draws.permutation(len(x))[:batch] if batch < len(x) else slice(None)
        return gradient(params, x[chosen], y[chosen])  # type: ignore[no-any-return]

    return start, at, lambda params: float(loss(params, x, y))


def of_camps(rng: np.random.Generator) -> Problem:
    """A quadratic whose gradients come from two camps that pull in opposite directions, at random, and a little noise."""
    pull = rng.standard_normal(20)
    pull *= CAMP / np.linalg.norm(pull)

    def at(params: list, draws: np.random.Generator) -> list:
        return [CURVATURES * params[0] + draws.choice([-1.0, 1.0]) * pull + NOISE * draws.standard_normal(20)]

    return [3.0 * rng.standard_normal(20)], at, lambda params: float(0.5 * (CURVATURES * params[0] ** 2).sum())


def train(problem: str, method: str, rate: float, seed: int, steps: int) -> tuple[float, float]:
    """The last loss, and the share of steps that TopoGrad made smaller."""
    rng = np.random.default_rng([seed, 0])
    batch = TRAIN if "whole" in problem else 32
    params, at, value = of_camps(rng) if problem == "two camps" else of_digits(rng, batch)
    draws = np.random.default_rng([seed, 1])
    transform = chain(*([TopoGrad()()] if method == "topograd" else []), scale_by_lr(rate))
    state, damped = transform.init(params), 0
    for _ in range(steps):
        updates, state = transform.update(at(params, draws), state, params)
        params = [p + u for p, u in zip(params, updates, strict=True)]
        damped += method == "topograd" and state[0]["factor"] < 1.0
    return value(params), damped / steps


def tuned(problem: str, method: str, steps: int, fresh: int) -> dict[str, Any]:
    """The rate that is best by the median of the tuning seeds, and losses of fresh seeds with it."""
    medians = [np.median([train(problem, method, r, s, steps)[0] for s in range(TUNING)]) for r in RATES[problem]]
    rate = RATES[problem][int(np.argmin(medians))]
    ends = [train(problem, method, rate, 100 + s, steps) for s in range(fresh)]
    return {"rate": np.array(rate), "losses": np.array([e[0] for e in ends]), "damped": np.array([e[1] for e in ends])}


def run(work: Work) -> Outcome:
    steps, fresh = (60, 3) if work.quick else (STEPS, FRESH)
    problems = list(RATES)
    parts = work.parts(tuned, {
        f"{k}-{m}": {"problem": p, "method": m, "steps": steps, "fresh": fresh} for k, p in enumerate(problems) for m in METHODS
    })  # fmt: skip
    rng = np.random.default_rng(0)
    rows, figures, wins = [], {}, []
    for k, problem in enumerate(problems):
        plain, topo = (parts[f"{k}-{m}"] for m in METHODS)
        ratios = topo["losses"] / plain["losses"]
        low, high = np.quantile(np.median(rng.choice(ratios, (4000, fresh)), axis=1), [0.025, 0.975])
        middle, damped = float(np.median(ratios)), float(topo["damped"].mean())
        figures[problem] = {"ratio": [middle, low, high], "rates": [plain["rate"], topo["rate"]], "damped": damped}
        if middle < 0.9 and high < 1:
            wins.append(problem)
        rows.append([
            problem, f"{float(plain['rate']):g}", f"{float(topo['rate']):g}", float(np.median(plain["losses"])), float(np.median(topo["losses"])),
            f"{middle:.2f} [{low:.2f}, {high:.2f}]", f"{damped:.1%}",
        ])  # fmt: skip
    told = "; ".join(f"{row[0]} {row[5]} (steps made smaller: {row[6]})" for row in rows)
    return Outcome(
        "holds" if wins else "falsified", f"ratios of the last loss, TopoGrad over SGD: {told}.", figures,
        [Table(
            "Tuned on the same trials, fresh seeds", ["problem", "rate, SGD", "rate, TopoGrad", "loss, SGD", "loss, TopoGrad", "ratio [95 %]", "steps made smaller"], rows,
        )],
        {},
        [f"{len(next(iter(RATES.values())))} rates, {TUNING} tuning seeds and {fresh} fresh ones each; {steps} steps. TopoGrad has its default settings."],
    )  # fmt: skip
