"""Does the topology of the loss around a minimum tell which optimizer found it? See README.md."""

import itertools
import math
from functools import cache
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from autograd import grad, ops
from autograd.gradients import chain
from autograd.optim import adam, sgd
from hammer.drawing import Line, Panel, picture
from hammer.lab.stats import holm, signed_rank
from hammer.lab.studies import Outcome, Table, Work
from hammer.topology import basins, cubical, loss_landscape, loss_path, random_directions
from hammer.vortex import vortex

TITLE = "Landscapes of the minima that SGD, Adam and VortexGrad find"
CLAIM = (
    "The topology of the loss around a minimum tells which optimizer found it: one at least of four measures (the barrier on the line between two "
    "seeds, the same with units matched, the depth of the basin in random slices, the number of basins in the plane through three seeds) differs between two "
    "of SGD with momentum, Adam, and VortexGrad before Adam by a fifth or more in the median, in the same direction on both problems, with p at most 0.05 on "
    "both after Holm's correction for all 24 tests."
)
FALSIFIED_IF = "no measure and no pair of optimizers does so on both problems."

DATA = {"digits": 1000, "breast_cancer": 400}
"""Training examples; the others are held out."""
HIDDEN, BATCH, DECAY = 32, 32, 1e-3
OPTIMIZERS = {"SGD": 0.01, "Adam": 0.0005, "VortexGrad": 0.0005}
"""The lowest of its rates; each is twice the one before."""
RATES, TUNING, STEPS = 10, 4, 3000
SEEDS, POINTS, SLICES, CELLS, RADIUS = 36, 41, 3, 21, 1.0
PLANE, PLANE_CELLS = (-0.25, 1.25), 31
"""Coordinates in the plane through three minima, which are at 0 and 1, on cells of the grid."""
DEEP = 0.01
"""Basins of a plane count if they are deeper, in nats."""
MEASURES = {"barrier": 2, "barrier, units matched": 2, "depth in slices": 1, "basins in planes": 3}
"""Of how many seeds one value is; no seed is in two values."""
LEAST = 1.2


@cache
def data(name: str) -> tuple[np.ndarray, ...]:
    """Standardised inputs and one-hot labels, training and held out."""
    from sklearn import datasets

    x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    scale = x.std(axis=0)
    x, y = ((x - x.mean(axis=0)) / np.where(scale > 0, scale, 1.0))[order], np.eye(int(y.max()) + 1)[y[order]]
    return x[: DATA[name]], y[: DATA[name]], x[DATA[name] :], y[DATA[name] :]


# ---- networks, several side by side: parameters (networks, in, out) ----


def outputs(params: list, x: Any) -> Any:
    w, b, v, c = params
    return ops.matmul(ops.relu(ops.matmul(x, w) + b), v) + c


def objective(params: list, x: Any, labels: Any) -> Any:
    """The sum over networks of mean cross-entropy and DECAY/2 times the squared norm: each network's gradient is its own."""
    fit = -ops.sum(ops.log_softmax(outputs(params, x), axis=-1) * labels) / x.shape[-2]
    return fit + 0.5 * DECAY * sum(ops.sum(p * p) for p in params)


def transform_of(optimizer: str) -> Any:
    """The updates at a rate of 1; all three are linear in it."""
    if optimizer == "SGD":
        return sgd(1.0, momentum=0.9)
    return adam(1.0) if optimizer == "Adam" else chain(vortex(), adam(1.0))


def train(name: str, optimizer: str, rates: np.ndarray, seeds: list[int], steps: int) -> list[np.ndarray]:
    """A network for each seed, with a rate of its own that falls to 0 along a cosine. A seed fixes start and batches."""
    x, y, _, _ = data(name)
    rngs = [np.random.default_rng([seed, 1]) for seed in seeds]
    drawn = [
        (r.standard_normal((x.shape[1], HIDDEN)) * math.sqrt(2 / x.shape[1]), np.zeros((1, HIDDEN)),
         r.standard_normal((HIDDEN, y.shape[1])) * math.sqrt(1 / HIDDEN), np.zeros((1, y.shape[1]))) for r in rngs
    ]  # fmt: skip
    params = [np.stack(parts) for parts in zip(*drawn, strict=True)]
    transform, gradient = transform_of(optimizer), grad(objective)
    state = transform.init(params)
    with np.errstate(all="ignore"):  # a rate that is too high is a result
        for step in range(steps):
            places = np.stack([r.integers(0, len(x), BATCH) for r in rngs])
            updates, state = transform.update(gradient(params, x[places], y[places]), state, params)
            now = 0.5 * (1 + math.cos(math.pi * step / steps)) * rates[:, None, None]
            params = [p + now * u for p, u in zip(params, updates, strict=True)]
    return params


def of(params: list, k: int) -> list[np.ndarray]:
    """One of the networks."""
    return [p[k] for p in params]


def tuned(name: str, optimizer: str, steps: int) -> dict[str, Any]:
    """For each rate the median over the tuning seeds of the objective at the end."""
    rates = OPTIMIZERS[optimizer] * 2.0 ** np.arange(RATES)
    params = train(name, optimizer, np.repeat(rates, TUNING), [1000 + s for s in range(TUNING)] * RATES, steps)
    x, y, _, _ = data(name)
    with np.errstate(all="ignore"):
        ends = np.array([float(objective(of(params, k), x, y)) for k in range(RATES * TUNING)]).reshape(RATES, TUNING)
    medians = np.nan_to_num(np.median(ends, axis=1), nan=np.inf)
    return {"rates": rates, "ends": medians, "best": int(np.argmin(medians))}


# ---- what is measured ----


def matched(a: list, b: list) -> list:
    """b with its hidden units in the order that brings its weights nearest to a's (Ainsworth et al. 2023)."""
    alike = a[0].T @ b[0] + a[1].T @ b[1] + a[2] @ b[2].T
    _, order = linear_sum_assignment(-alike)
    return [b[0][:, order], b[1][:, order], b[2][order], b[3]]


def barrier(values: np.ndarray) -> float:
    """The longest life of a component of the sublevel sets along a path that dies: how deep the second basin is."""
    (components,) = cubical(values, (0,))
    return float(components.lifetimes.max(initial=0.0))


def depth(values: np.ndarray) -> float:
    """How far the level rises above the lowest cell until its component reaches the edge of the slice; 0 for a lowest cell at the edge.

    What is outside counts as lower than all cells, so that it is the elder of the two components that meet.
    """
    tree = basins(np.pad(values, 1, constant_values=values.min() - 1.0))
    return float(tree.depths[1:][tree.births[1:].argmin()]) if len(tree.births) > 1 else 0.0


def measured(
    name: str, optimizer: str, rate: float, steps: int, seeds: int, cells: int, plane_cells: int
) -> dict[str, Any]:
    """Train a network for each seed and look at each, at pairs and at triples of seeds."""
    x, y, x_out, y_out = data(name)
    params = train(name, optimizer, np.full(seeds, rate), list(range(seeds)), steps)
    nets = [of(params, k) for k in range(seeds)]
    value = lambda p: objective(p, x, y)
    found: dict[str, list] = {m: [] for m in (*MEASURES, "basins in slices", "objective", "slope", "norm", "held_out")}
    for k, mine in enumerate(nets):
        rng = np.random.default_rng([k, 2])  # the same for each optimizer
        seen = [
            loss_landscape(value, mine, random_directions(mine, 2, rng, axis=-1), RADIUS, cells).values
            for _ in range(SLICES)
        ]
        found["depth in slices"].append(np.mean([depth(v) for v in seen]))
        found["basins in slices"].append(np.mean([basins(v).count(DEEP) for v in seen]))
        found["objective"].append(float(value(mine)))
        found["slope"].append(math.sqrt(sum(float(np.sum(g * g)) for g in grad(objective)(mine, x, y))))
        found["norm"].append(math.sqrt(sum(float(np.sum(p * p)) for p in mine)))
        found["held_out"].append(float((outputs(mine, x_out).argmax(axis=-1) != y_out.argmax(axis=-1)).mean()))
    for a, b in zip(nets[::2], nets[1::2], strict=True):
        found["barrier"].append(barrier(loss_path(value, a, b, POINTS).values))
        found["barrier, units matched"].append(barrier(loss_path(value, a, matched(a, b), POINTS).values))
    for a, b, c in zip(nets[::3], nets[1::3], nets[2::3], strict=True):
        directions = [[q - p for p, q in zip(a, other, strict=True)] for other in (b, c)]
        plane = loss_landscape(value, a, directions, [PLANE] * 2, plane_cells)
        found["basins in planes"].append(basins(plane.values).count(DEEP))
    return {key: np.array(values, np.float64) for key, values in found.items()}


# ---- statistics ----


def ratio_of(a: np.ndarray, b: np.ndarray) -> float:
    """Median of a over median of b; of barriers that are all 0, 1."""
    top, bottom = float(np.median(a)), float(np.median(b))
    return top / bottom if bottom > 0 else (1.0 if top == 0 else math.inf)


def run(work: Work) -> Outcome:
    steps, seeds, cells, plane = (60, 6, 7, 7) if work.quick else (STEPS, SEEDS, CELLS, PLANE_CELLS)
    each = list(itertools.product(DATA, OPTIMIZERS))
    tuning = work.parts(tuned, {f"tuned-{d}-{o}": {"name": d, "optimizer": o, "steps": steps} for d, o in each})
    rate = {(d, o): float(tuning[f"tuned-{d}-{o}"]["rates"][tuning[f"tuned-{d}-{o}"]["best"]]) for d, o in each}
    parts = work.parts(measured, {
        f"{d}-{o}": {"name": d, "optimizer": o, "rate": rate[d, o], "steps": steps, "seeds": seeds, "cells": cells, "plane_cells": plane} for d, o in each
    })  # fmt: skip
    pairs = list(itertools.combinations(OPTIMIZERS, 2))
    tests = list(itertools.product(MEASURES, pairs, DATA))
    of_test = lambda m, pair, d: tuple(parts[f"{d}-{o}"][m] for o in pair)
    p_values = holm(np.array([signed_rank(np.subtract(*of_test(*t))) for t in tests]))
    rng, rows, figures = np.random.default_rng(0), [], {}
    ratios, p_of = {}, dict(zip(tests, p_values.tolist(), strict=True))
    for measure, pair in itertools.product(MEASURES, pairs):
        row: list[Any] = [measure, f"{pair[0]} / {pair[1]}"]
        for d in DATA:
            a, b = of_test(measure, pair, d)
            drawn = rng.integers(len(a), size=(4000, len(a)))
            low, high = np.quantile(
                [ratio_of(a[places], b[places]) for places in drawn], [0.025, 0.975], method="inverted_cdf"
            )
            middle = ratios[measure, pair, d] = ratio_of(a, b)
            p = p_of[measure, pair, d]
            figures[f"{measure}, {pair[0]} / {pair[1]}, {d}"] = {"ratio": [middle, float(low), float(high)], "p": p}
            row.append(f"{middle:.2f} [{low:.2f}, {high:.2f}], p {p:.2g}")
        rows.append(row)
    told = []
    for measure, pair in itertools.product(MEASURES, pairs):
        r = [ratios[measure, pair, d] for d in DATA]
        sure = all(p_of[measure, pair, d] <= 0.05 for d in DATA)
        if sure and (min(r) >= LEAST or max(r) <= 1 / LEAST):
            told.append(f"{measure}: {pair[0]} has {' and '.join(f'{v:.2f}' for v in r)} times that of {pair[1]}")
    levels = [
        [d, o, f"{rate[d, o]:g}{' (edge)' if tuning[f'tuned-{d}-{o}']['best'] in (0, RATES - 1) else ''}",
         *(float(np.median(parts[f"{d}-{o}"][m])) for m in ("objective", "slope", "norm", "held_out", *MEASURES)),
         float(parts[f"{d}-{o}"]["basins in slices"].max())] for d, o in each
    ]  # fmt: skip
    figures["tuning"] = {f"{d}, {o}": tuning[f"tuned-{d}-{o}"]["ends"] for d, o in each}
    panels = [
        Panel(f"{d}: {m}", "place among the seeds, by size", [
            Line(o, np.linspace(0, 1, len(v)), np.sort(v)) for o in OPTIMIZERS for v in [parts[f"{d}-{o}"][m]]
        ]) for d in DATA for m in MEASURES if m != "basins in planes"
    ]  # fmt: skip
    count = len(pairs) * len(MEASURES)
    summary = (
        f"of {count} measures and pairs {len(told)} differ on both problems{': ' if told else ''}{'; '.join(told)}."
    )
    return Outcome(
        "holds" if told else "falsified", summary, figures,
        [
            Table(f"Ratios of medians [95 %], p of the signed-rank test (Holm, {len(tests)} tests)", ["measure", "optimizers", *DATA], rows),
            Table(
                "Medians over seeds", ["problem", "optimizer", "rate", "objective", "gradient's norm", "weights' norm", "held-out error", *MEASURES, "most basins in a slice"],
                levels,
            ),
        ],
        {"measures.svg": picture(panels)},
        [
            f"The rate is the best of {RATES} (factor 2) by the median training objective of {TUNING} other seeds, for each optimizer. {seeds} seeds; of pairs and triples no "
            f"seed is in two. Slices: {SLICES} of each minimum, filter-normalised, to a radius of {RADIUS:g}, {cells} cells a side; depth is how far the level rises until "
            f"the component of the lowest cell reaches the slice's edge. Basins count from a depth of {DEEP:g} nats on. Intervals draw pairs of values again; a "
            "count of basins has few different values, so that its test has little power."
        ],
    )  # fmt: skip
