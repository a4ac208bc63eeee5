"""The front of loss against joules: precision, sparsity of the backward pass, and batch size, beside batch size alone."""

import math

import numpy as np

from autograd import AutogradContext, DiffTensor, nn, no_grad
from autograd.nn import losses
from autograd.optim import SGD
from hammer.context import HammerContext
from hammer.drawing import Line, Panel, picture
from hammer.energy import Meter, Modelled, technology
from hammer.lab import datasets
from hammer.lab.studies import Outcome, Table, Work

TITLE = "Loss against joules: precision, sparsity and batch size"
CLAIM = (
    "With the same modelled joules (7 nm), the best of 24 settings of precision, backward sparsity and batch size ends at a held-out loss of at most "
    "0.95 times that of the best batch size with float32 and dense gradients, under each of five budgets; an MLP on the digits, settings and "
    "learning rates chosen on one seed, judged on five others."
)
FALSIFIED_IF = "Under any of the five budgets the ratio of mean held-out losses over the five fresh seeds is above 0.95, or their mean is not finite."
PRECISIONS, SHARES, BATCHES = ("fp32", "bf16"), (1.0, 1 / 4, 1 / 16), (4, 16, 64, 256)
RATES = tuple(float(r) for r in 0.1 * 2.0 ** np.arange(6))
"""Learning rates at a batch of 64; at others times √(batch/64)."""
BUDGETS = tuple(float(b) for b in 5e-5 * 2.0 ** np.arange(5))
"""Joules."""
HIDDEN, HELD, SEEDS, TUNING_SEED = 256, 497, 5, 1000
BOUND = 0.95


def data() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Inputs (n, 64) float32 and labels for training and, the same for all, held out."""
    digits = datasets.digits()
    x, y = np.asarray(digits.x, np.float32).reshape(len(digits.x), -1), np.asarray(digits.y)
    order = np.random.default_rng(0).permutation(len(x))
    return x[order[HELD:]], y[order[HELD:]], x[order[:HELD]], y[order[:HELD]]


def sparse(g: np.ndarray, share: float) -> np.ndarray:
    """The largest share of each example's elements, the others 0 (meProp, Sun et al. 2017)."""
    keep = max(1, round(share * g.shape[1]))
    rest = np.argpartition(np.abs(np.asarray(g, np.float32)), -keep, axis=1)[:, :-keep]
    found = np.array(g)
    np.put_along_axis(found, rest, 0, axis=1)
    return found


class Net(nn.Module):
    """64-256-10; the gradient of the hidden layer's sums is made sparse."""

    def __init__(self, rng: np.random.Generator, share: float):
        super().__init__()
        self.first, self.second, self.share = nn.Linear(64, HIDDEN, rng=rng), nn.Linear(HIDDEN, 10, rng=rng), share

    def forward(self, x: DiffTensor) -> DiffTensor:
        z = self.first(x)
        if self.share < 1 and z.node is not None:
            z.register_hook(lambda g: sparse(g, self.share))
        return self.second(z.relu())


def energy(precision: str, share: float, batch: int) -> dict:
    """Joules of a step by the 7 nm model, operation by operation.

    A gradient of which a share is left is charged so much of the arithmetic and traffic of the first layer's rules, and a comparison for
    each element that was looked at. That supposes a processor that leaves zeros out.
    """
    model, table = Net(np.random.default_rng(0), 1.0), technology("7nm")
    optimizer, x, y = SGD(model.parameters(), lr=0.0), *data()[:2]
    meter = Meter(Modelled(table))
    with HammerContext(energy=meter, model=model, optimizer=optimizer, budget=None, precision=precision) as context:
        losses.cross_entropy(model(DiffTensor(x[:batch])), y[:batch]).backward()
        with context.phase("optimizer"):
            optimizer.step()
        context.step()
    rows = context.report().rows
    saved = sum(r.joules for r in rows if r.phase == "backward" and r.layer == "first" and r.op == "linear′") * (
        1 - share
    )
    looked = 0.0 if share == 1 else 1e-12 * batch * HIDDEN * table.add["int"].value
    whole = sum(r.joules for r in rows)
    return {"joules": whole - saved + looked, "dense": whole}


def train(precision: str, share: float, batch: int, lr: float, seed: int, joules: float) -> list[float]:
    """SGD with steps of so many joules: the mean held-out loss when each budget is used up (infinite where it diverged)."""
    init, order = map(np.random.default_rng, np.random.SeedSequence(seed).spawn(2))
    x, y, held_x, held_y = data()
    model = Net(init, share)
    optimizer = SGD(model.parameters(), lr=lr)
    found: list[float] = []
    steps = [int(budget / joules) for budget in BUDGETS]
    with np.errstate(all="ignore"), AutogradContext(precision=precision):
        for step in range(1, steps[-1] + 1):
            places = order.integers(0, len(x), batch)
            optimizer.zero_grad()
            losses.cross_entropy(model(DiffTensor(x[places])), y[places]).backward()
            optimizer.step()
            if step in steps:
                with no_grad():
                    value = losses.cross_entropy(model(DiffTensor(held_x)), held_y).item()
                if not math.isfinite(value):
                    break
                found += [value] * steps.count(step)
    return found + [math.inf] * (len(BUDGETS) - len(found))


def tune(precision: str, share: float, batch: int, rates: list[float], joules: float) -> dict:
    """For each budget the rate with the lowest held-out loss on the tuning seed, and that loss."""
    found = np.array([train(precision, share, batch, lr, TUNING_SEED, joules) for lr in rates])
    best = found.argmin(0)
    return {
        "lr": [rates[i] for i in best],
        "loss": found.min(0).tolist(),
        "edge": [int(i) in (0, len(rates) - 1) for i in best],
    }


def judge(precision: str, share: float, batch: int, rates: list[float], joules: float, count: int) -> dict:
    """Losses of fresh seeds (seeds, budgets), each budget with its own rate."""
    runs = {
        lr: [train(precision, share, batch, lr, seed, joules) for seed in range(count)] for lr in sorted(set(rates))
    }
    return {"losses": [[runs[lr][seed][k] for k, lr in enumerate(rates)] for seed in range(count)]}


def ratio(a: np.ndarray, b: np.ndarray, draws: int = 4000) -> tuple[float, float, float]:
    """mean(a)/mean(b) with a 95 % bootstrap interval over paired seeds."""
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return math.inf, math.inf, math.inf
    drawn = np.random.default_rng(0).integers(0, len(a), (draws, len(a)))
    low, high = np.percentile(a[drawn].mean(1) / b[drawn].mean(1), [2.5, 97.5])
    return float(a.mean() / b.mean()), float(low), float(high)


def named(precision: str, share: float, batch: int) -> str:
    return f"{precision}-{round(1 / share)}-{batch}"


def run(work: Work) -> Outcome:
    batches, shares, rates, count = (
        ((16, 64), (1.0, 1 / 16), RATES[2:4], 2) if work.quick else (BATCHES, SHARES, RATES, SEEDS)
    )
    settings = [{"precision": p, "share": s, "batch": b} for p in PRECISIONS for s in shares for b in batches]
    names = [named(**s) for s in settings]
    joules = work.parts(energy, {f"joules-{n}": s for n, s in zip(names, settings, strict=True)})
    cost = {n: joules[f"joules-{n}"]["joules"] for n in names}
    tuned = work.parts(
        tune, {f"tune-{n}": s | {"rates": [r * (s["batch"] / 64) ** 0.5 for r in rates], "joules": cost[n]} for n, s in zip(names, settings, strict=True)}
    )  # fmt: skip
    judged = work.parts(
        judge, {f"judge-{n}": s | {"rates": tuned[f"tune-{n}"]["lr"], "joules": cost[n], "count": count} for n, s in zip(names, settings, strict=True)}
    )  # fmt: skip
    losses_ = {n: np.array(judged[f"judge-{n}"]["losses"]) for n in names}

    def best(k: int, start: str = "", end: str = "") -> str:
        """Of the settings of a name the one that the tuning seed says is best under a budget."""
        return min(
            (n for n in names if n.startswith(start) and n.endswith(end)), key=lambda n: tuned[f"tune-{n}"]["loss"][k]
        )

    rows, ratios, moved = [], [], []
    for k, budget in enumerate(BUDGETS):
        whole, dense = best(k), best(k, "fp32-1-")
        r = ratio(losses_[whole][:, k], losses_[dense][:, k])
        ratios.append(r)
        alone = [
            best(k, "bf16-1-"),
            min((best(k, f"fp32-{round(1 / s)}-") for s in shares), key=lambda n: tuned[f"tune-{n}"]["loss"][k]),
        ]
        moved.append([losses_[n][:, k].mean() / losses_[dense][:, k].mean() for n in alone])
        rows.append([1e6 * budget, dense, losses_[dense][:, k].mean(), whole, losses_[whole][:, k].mean(), f"{r[0]:.3g} ({r[1]:.3g} to {r[2]:.3g})", *moved[-1]])  # fmt: skip
    lines = []
    for p in PRECISIONS:
        for s in shares:
            values = [losses_[best(k, f"{p}-{round(1 / s)}-")][:, k].mean() for k in range(len(BUDGETS))]
            lines.append(
                Line(
                    f"{p}, {'dense' if s == 1 else f'1/{round(1 / s)} of the gradient'}",
                    [1e6 * b for b in BUDGETS],
                    values,
                )
            )
    by_batch = [Line(f"batch {b}", [1e6 * x for x in BUDGETS], losses_[named("fp32", 1.0, b)].mean(0)) for b in batches]
    worst = max(r[0] for r in ratios)
    edges = sum(sum(tuned[f"tune-{n}"]["edge"]) for n in names)
    return Outcome(
        "holds" if worst <= BOUND else "falsified",
        f"The best setting's held-out loss is {min(r[0] for r in ratios):.3g} to {worst:.3g} times that of the best batch size alone, over five budgets.",
        figures={"ratios": ratios, "joules_of_a_step": cost, "losses": {n: v.mean(0) for n, v in losses_.items()}, "rates_at_the_edge": edges},
        tables=[
            Table("Held-out loss at the end of each budget", ["budget, µJ", "dense fp32", "its loss", "best of all", "its loss", "over dense fp32 (95 %)", "bf16 alone", "sparsity alone"], rows),
            Table("Joules of a step, µJ", ["precision", "share of the gradient", *(f"batch {b}" for b in batches)], [[p, f"1/{round(1 / s)}", *(1e6 * cost[named(p, s, b)] for b in batches)] for p in PRECISIONS for s in shares]),
        ],
        pictures={
            "front.svg": picture([Panel("held-out loss, best batch size", "µJ", lines, log_x=True, log_y=True)]),
            "batch_sizes.svg": picture([Panel("held-out loss, float32, dense", "µJ", by_batch, log_x=True, log_y=True)]),
        },
        notes=[
            "Settings are named by precision, one over the share of the hidden gradient that is kept, and batch size. \"bf16 alone\" and \"sparsity alone\" "
            "are ratios too, of the best settings with only that changed.",
            "Joules are modelled (7 nm table, no static power), not measured. bf16 is that of products; master weights, loss and update are float32. Sparsity "
            "is meProp's (Sun et al. 2017): of the hidden layer's gradient the largest elements of each example go on, and the first layer's rules "
            "are charged for these alone, which supposes a processor that leaves zeros out.",
            f"Each setting has {len(rates)} learning rates, factor 2, and each budget its own; {edges} of {len(names) * len(BUDGETS)} lie at an edge of the rates. All settings "
            "together have six times as many trials as the batch sizes alone; fresh seeds judge, so this favours neither mean, only the choice.",
        ],
    )  # fmt: skip
