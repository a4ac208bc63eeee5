"""Are networks from different seeds in one basin? By the zeroth homology of sublevel sets along paths. See README.md."""

import math
from functools import cache
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from autograd import grad, no_grad, ops
from autograd.optim import adamw
from hammer.drawing import Line, Panel, picture
from hammer.lab.studies import Outcome, Table, Work
from hammer.topology import cubical

TITLE = "Mode connectivity between seeds by the zeroth homology of paths"
CLAIM = (
    "Two networks trained from different seeds are two basins on the straight line between them and nearly one along a trained curve: the "
    "median over pairs of the curve's barrier over the line's, on the training loss, is below 0.1."
)
FALSIFIED_IF = "that median is 0.1 or more, and the interval of the median (pairs drawn again) lies above 0.1."

WIDTHS, WIDTH = (16, 64), 64
PAIRS, TRAIN = 10, 1000
STEPS, RATE, DECAY = 400, 0.01, 0.01
POINTS = 61
PATHS = ("line", "matched", "curve")
LIMIT = 0.1


@cache
def digits() -> tuple[np.ndarray, ...]:
    """Training and held-out inputs and one-hot labels, shuffled by a fixed seed."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    x, y = (x[order] - x.mean()) / x.std(), np.eye(10)[y[order]]
    return x[:TRAIN], y[:TRAIN], x[TRAIN:], y[TRAIN:]


def loss(params: list, x: np.ndarray, labels: np.ndarray) -> Any:
    """Mean cross-entropy of a network with one hidden layer."""
    w, b, v, c = params
    return -ops.sum(ops.log_softmax(ops.matmul(ops.relu(ops.matmul(x, w) + b), v) + c, axis=-1) * labels) / len(x)


def start(width: int, rng: np.random.Generator) -> list[np.ndarray]:
    return [
        rng.standard_normal((64, width)) * math.sqrt(2 / 64), np.zeros(width),
        rng.standard_normal((width, 10)) * math.sqrt(1 / width), np.zeros(10),
    ]  # fmt: skip


def descend(params: list, objective: Any, steps: int, rng: np.random.Generator, decay: float = DECAY) -> list:
    """AdamW on ``objective(params, x, labels, t)``, batches of 100, t uniform in [0, 1]."""
    x, y, _, _ = digits()
    transform, gradient = adamw(RATE, weight_decay=decay), grad(objective)
    state = transform.init(params)
    for _ in range(steps):
        chosen = rng.permutation(len(x))[:100]
        updates, state = transform.update(gradient(params, x[chosen], y[chosen], rng.random()), state, params)
        params = [p + u for p, u in zip(params, updates, strict=True)]
    return params


def matched(a: list, b: list) -> list:
    """b with its hidden units in the order that brings its weights nearest to a's (Ainsworth et al. 2023)."""
    alike = a[0].T @ b[0] + np.outer(a[1], b[1]) + a[2] @ b[2].T
    _, order = linear_sum_assignment(-alike)
    return [b[0][:, order], b[1][order], b[2][order], b[3]]


def bend(a: list, middle: list, b: list, t: float) -> list:
    """The quadratic Bézier curve from a to b (Garipov et al. 2018)."""
    return [(1 - t) ** 2 * p + 2 * t * (1 - t) * m + t**2 * q for p, m, q in zip(a, middle, b, strict=True)]


def barrier(values: np.ndarray) -> float:
    """The longest life of a component of the sublevel sets that dies: how deep the second basin of the path is."""
    (components,) = cubical(values, (0,))
    return float(components.lifetimes.max(initial=0.0))


def pair(width: int, number: int, steps: int) -> dict[str, Any]:
    """Train two networks and a curve between them; losses along three paths."""
    x, y, x_out, y_out = digits()
    plain = lambda params, inputs, labels, t: loss(params, inputs, labels)
    ends = [
        descend(start(width, np.random.default_rng([number, k])), plain, steps, np.random.default_rng([number, k, 1]))
        for k in range(2)
    ]
    a, b = ends
    along = lambda middle, inputs, labels, t: loss(bend(a, middle, b, t), inputs, labels)
    middle = [(p + q) / 2 for p, q in zip(a, b, strict=True)]
    middle = descend(middle, along, steps, np.random.default_rng([number, 2]), decay=0.0)
    straight = lambda p, q, t: [(1 - t) * u + t * v for u, v in zip(p, q, strict=True)]
    near = matched(a, b)
    paths = {"line": lambda t: straight(a, b, t), "matched": lambda t: straight(a, near, t), "curve": lambda t: bend(a, middle, b, t)}  # fmt: skip
    found: dict[str, Any] = {}
    with no_grad():
        for name, path in paths.items():
            points = [path(t) for t in np.linspace(0, 1, POINTS)]
            for part, inputs, labels in (("train", x, y), ("held_out", x_out, y_out)):
                found[f"{name}_{part}"] = np.array([float(loss(p, inputs, labels)) for p in points])
    return found


def median_interval(values: np.ndarray, draws: int = 4000) -> tuple[float, float, float]:
    """The median and a 95 % interval, by drawing pairs again."""
    rng = np.random.default_rng(0)
    medians = np.median(rng.choice(values, (draws, len(values))), axis=1)
    low, high = np.quantile(medians, [0.025, 0.975])
    return float(np.median(values)), float(low), float(high)


def run(work: Work) -> Outcome:
    widths, pairs, steps = ((WIDTHS[0],), 3, 150) if work.quick else (WIDTHS, PAIRS, STEPS)
    parts = work.parts(pair, {
        f"{w}-{k}": {"width": w, "number": k, "steps": steps} for w in widths for k in range(pairs)
    })  # fmt: skip
    rows, figures, panels = [], {}, []
    for width in widths:
        mine = [parts[f"{width}-{k}"] for k in range(pairs)]
        for part in ("train", "held_out"):
            heights = {p: np.array([barrier(one[f"{p}_{part}"]) for one in mine]) for p in PATHS}
            row: list[Any] = [f"{width}, {part.replace('_', '-')}"]
            for p in PATHS:
                middle, low, high = median_interval(heights[p])
                row.append(f"{middle:.3g} [{low:.2g}, {high:.2g}]")
            for p in PATHS[1:]:
                ratio = median_interval(heights[p] / heights["line"])
                figures[f"{p}_over_line_{part}_{width}"] = list(ratio)
                row.append(f"{ratio[0]:.3f} [{ratio[1]:.3f}, {ratio[2]:.3f}]")
            rows.append(row)
        t = np.linspace(0, 1, POINTS)
        lines = []
        for p in PATHS:
            low, middle, high = np.quantile([one[f"{p}_train"] for one in mine], [0.1, 0.5, 0.9], axis=0)
            lines.append(Line(p, t, middle, low, high))
        panels.append(Panel(f"width {width}: training loss", "along the path", lines))
    value, low, high = figures[f"curve_over_line_train_{widths[-1]}"]
    verdict = "falsified" if value >= LIMIT and low > LIMIT else "holds" if high < LIMIT else "undecided"
    ends = np.median([one["line_train"][[0, -1]].max() for one in parts.values()])
    line, matching = rows[-2][1], figures[f"matched_over_line_train_{widths[-1]}"]
    summary = (
        f"at width {widths[-1]} the curve's barrier is {value:.3f} [{low:.3f}, {high:.3f}] of the line's, which is {line}; matched units alone leave "
        f"{matching[0]:.2f} [{matching[1]:.2f}, {matching[2]:.2f}] of it."
    )
    return Outcome(
        verdict, summary, figures,
        [Table(
            "Barriers (longest life of a component that dies), medians over pairs [95 %]",
            ["width, loss", "line", "line, units matched", "curve", "matched / line", "curve / line"], rows,
        )],
        {"paths.svg": picture(panels)},
        [
            f"{pairs} pairs of each width, no network in two of them. Loss at the worse end: median {ends:.3g}. Bands: the middle 80 % of pairs. "
            f"A path is seen at {POINTS} points, so that narrow barriers between them are missed."
        ],
    )  # fmt: skip
