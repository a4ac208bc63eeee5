"""V1: how much sooner does Grokfast generalise, when what it is compared with may choose its weight decay?"""

from collections.abc import Callable

import numpy as np
from grokking_model import PARAMETERS, Decoder, examples, loss_of

import hammer
from autograd import nn, no_grad, ops, optim
from autograd.gradients import chain
from autograd.optim import Optimizer
from hammer.drawing import Line, Panel, picture
from hammer.lab.studies import Outcome, Table, Work
from hammer.vortex import VortexGrad, presets

TITLE = "Grokking: Grokfast against tuned weight decay"
CLAIM = (
    "On x·y mod 97 (Power et al. 2022, in the setting of Lee et al. 2024), the published speed-up of Grokfast, 44 to 50 times, is for the most part that of "
    "weight decay: against no filter with its weight decay tuned, the ratio of median steps to 95 % validation accuracy is at most 3."
)
FALSIFIED_IF = "that ratio is above 10 (between 3 and 10: undecided)."
LR, BETAS, WARMUP, BATCH, BUDGET, EVERY, GOAL = 1e-3, (0.9, 0.98), 10, 512, 4000, 20, 0.95
SEEDS, CONTENDERS_SEEDS = 3, 5
RUNS = {
    # name: filter, L2 (added after the filter, as torch.optim.Adam does) or decoupled decay, how much
    "none, wd 0": ("none", "l2", 0.0),
    "none, L2 0.0005": ("none", "l2", 0.0005),
    "none, L2 0.005/3": ("none", "l2", 0.005 / 3),
    "none, L2 0.005": ("none", "l2", 0.005),
    "none, AdamW 0.3": ("none", "adamw", 0.3),
    "none, AdamW 1": ("none", "adamw", 1.0),
    "none, AdamW 3": ("none", "adamw", 3.0),
    "EMA, wd 0": ("ema", "l2", 0.0),
    "EMA, L2 0.005 (published)": ("ema", "l2", 0.005),
    "EMA, AdamW 1": ("ema", "adamw", 1.0),
    "MA, L2 0.01 (published)": ("ma", "l2", 0.01),
    "Vortex, L2 0.005": ("vortex", "l2", 0.005),
    "Vortex, AdamW 1": ("vortex", "adamw", 1.0),
}
FILTERS = {
    "none": VortexGrad((), ()),
    "ema": presets.grokfast_ema(),
    "ma": presets.grokfast_ma(),
    "vortex": VortexGrad(),
}
BASES = {"l2": optim.adam, "adamw": optim.adamw}
PUBLISHED = {"none, wd 0": 39_890, "EMA, L2 0.005 (published)": 910, "MA, L2 0.01 (published)": 790}


def rate(step: int) -> float:
    return LR * min(step / WARMUP, 1.0)


def train(run: str, seed: int, budget: int) -> dict:
    """One run: the step of the first evaluation (every 20 steps) with 95 % of the validation examples right, and the curves."""
    kind, base, decay = RUNS[run]
    split, weights, order = (np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(3))
    model = Decoder(weights)
    assert sum(p.size for p in model.parameters()) == PARAMETERS
    ids, results = examples()
    places = split.permutation(len(ids))
    trained, held = places[: len(ids) // 2], places[len(ids) // 2 :]
    optimizer = Optimizer(
        model.parameters(), chain(FILTERS[kind](), BASES[base](rate, betas=BETAS, weight_decay=decay))
    )
    step = hammer.training_step(loss_of(model), optimizer, exact=False)
    predict = hammer.compile(model, exact=False)
    steps, accuracies, losses = [], [], []
    batches: list = []
    for t in range(budget):
        if not batches:
            batches = [*np.split(order.permutation(trained), range(BATCH, len(trained), BATCH))]
        batch = batches.pop(0)
        loss = float(step(ids[batch], results[batch]).numpy())
        if (t + 1) % EVERY == 0:
            steps.append(t + 1)
            accuracies.append(accuracy(predict, ids[held], results[held]))
            losses.append(loss)
            if accuracies[-1] >= GOAL:
                break
    reached = accuracies[-1] >= GOAL
    return {
        "step": steps[-1] if reached else None, "steps": np.array(steps), "accuracy": np.array(accuracies), "loss": np.array(losses),
    }  # fmt: skip


def accuracy(predict: Callable, ids: np.ndarray, results: np.ndarray) -> float:
    """The share of right answers, four equal pieces one after the other."""
    with no_grad():
        found = [predict(piece).numpy().argmax(-1) for piece in np.split(ids, 4)]
    return float(np.mean(np.concatenate(found) == results))


# ---- the version that takes seconds: (a + b) mod 47, one hidden layer ----


def small(decay: float, seed: int, steps: int) -> dict:
    """Half of the pairs (a + b) mod 47, all at once, one hidden layer of 256 squares, AdamW: accuracies on both halves by step."""
    p = 47
    split, weights = (np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(2))
    pairs = np.indices((p, p)).reshape(2, -1).T
    x = np.concatenate([np.eye(p, dtype=np.float32)[pairs[:, i]] for i in range(2)], 1)
    y = pairs.sum(1) % p
    places = split.permutation(len(x))
    parts = places[: len(x) // 2], places[len(x) // 2 :]
    hidden, head = nn.Linear(2 * p, 256, bias=False, rng=weights), nn.Linear(256, p, bias=False, rng=weights)
    forward = lambda a: head(hidden(a) ** 2)
    optimizer = optim.AdamW([hidden.weight, head.weight], lr=0.01, weight_decay=decay, betas=(0.9, 0.98))
    found = {"steps": [], "train": [], "held": []}
    for t in range(steps):
        optimizer.zero_grad()
        ops.mean(ops.cross_entropy(forward(x[parts[0]]), y[parts[0]])).backward()
        optimizer.step()
        if (t + 1) % 20 == 0:
            with no_grad():
                scores = [float((forward(x[i]).numpy().argmax(-1) == y[i]).mean()) for i in parts]
            for name, value in zip(found, (t + 1, *scores), strict=True):
                found[name].append(value)
    return {name: np.array(values) for name, values in found.items()}


def quick(work: Work) -> Outcome:
    runs = work.parts(small, {f"small-{d}": {"decay": d, "seed": 0, "steps": 400} for d in (0.0, 1.0)})
    lines = [
        Line(f"{part}, weight decay {d}", f["steps"], f[part])
        for d, f in zip((0, 1), runs.values(), strict=True)
        for part in ("train", "held")
    ]
    last = [float(f["held"][-1]) for f in runs.values()]
    return Outcome(
        "undecided",
        f"(a + b) mod 47: held-out accuracy {last[0]:.2f} without weight decay, {last[1]:.2f} with it, after 400 steps.",
        {"held_without": last[0], "held_with": last[1]},
        pictures={"picture.svg": picture([Panel("accuracy", "steps", lines)])},
    )


def run(work: Work) -> Outcome:
    if work.quick:
        return quick(work)
    settings = lambda run, seed: {"run": run, "seed": seed, "budget": BUDGET}
    key = lambda run, seed: "".join(c if c.isalnum() else "_" for c in run) + f"-{seed}"
    first = {key(r, s): settings(r, s) for s in range(SEEDS) for r in RUNS}
    work.parts(train, first)
    results = {r: [work.part(key(r, s), train, **settings(r, s)) for s in range(SEEDS)] for r in RUNS}
    median = lambda r: float(np.median([np.inf if f["step"] is None else f["step"] for f in results[r]]))
    plain = min((r for r in RUNS if r.startswith("none")), key=median)
    fast = min((r for r in RUNS if r.startswith(("EMA", "MA"))), key=median)
    more = {key(r, s): settings(r, s) for s in range(SEEDS, CONTENDERS_SEEDS) for r in (plain, fast)}
    work.parts(train, more)
    for r in (plain, fast):
        results[r] += [work.part(key(r, s), train, **settings(r, s)) for s in range(SEEDS, CONTENDERS_SEEDS)]
    ratio = median(plain) / median(fast)
    verdict = "holds" if ratio <= 3 else "falsified" if ratio > 10 else "undecided"
    rows = [
        [
            r,
            str(PUBLISHED.get(r, "–")),
            ", ".join("–" if f["step"] is None else str(f["step"]) for f in results[r]),
            median(r),
            median(r) / median(fast),
        ]
        for r in RUNS
    ]
    shown = ["none, wd 0", "none, L2 0.005/3", plain, "EMA, wd 0", fast, "Vortex, L2 0.005", "Vortex, AdamW 1"]
    lines = [Line(r, results[r][0]["steps"], results[r][0]["accuracy"]) for r in dict.fromkeys(shown)]
    drawn = picture(
        [Panel("validation accuracy, seed 0", "steps", lines, log_x=True, levels=[(GOAL, "95 %")])], columns=1
    )
    words = (
        f"The best run without a filter is {plain!r}, median {median(plain):.0f} steps; the best Grokfast is {fast!r}, median {median(fast):.0f}: "
        f"ratio {ratio:.2f} over {CONTENDERS_SEEDS} seeds. The published ratio, 44 to 50, is against weight decay 0."
    )
    return Outcome(
        verdict,
        words,
        {"ratio": ratio, "steps": {r: [f["step"] for f in results[r]] for r in RUNS}},
        [
            Table(
                "Steps to 95 % validation accuracy",
                ["run", "published", "by seed", "median", "over the best Grokfast"],
                rows,
            )
        ],
        {"picture.svg": drawn},
        [
            f"A dash: not within {BUDGET} steps. Evaluated every {EVERY} steps. L2 is added after the filter, as PyTorch's Adam does, decoupled decay after all."
        ],
    )
