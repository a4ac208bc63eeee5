"""E1, second part: the lowest loss under a budget of joules, with the batch size tuned, chosen once, or followed all the time."""

import math

import numpy as np

from autograd import DiffTensor, nn, no_grad
from autograd.nn import losses
from autograd.optim import SGD
from autograd.tape import BackwardPass
from hammer.drawing import Line, Panel, picture
from hammer.energy import NoiseScale, StepEnergy, best_batch
from hammer.energy.noise import from_parts
from hammer.lab import datasets
from hammer.lab.studies import Outcome, Table, Work

TITLE = "A budget of joules: the batch size tuned, chosen once, or followed"
CLAIM = (
    "Under a budget of modelled joules and with equally many trials of random search, choosing the batch size once from the measured noise scale "
    "(b* = √(B e0/e1), only the learning rate is searched) ends at a training loss of at most 1.1 times that of fixed settings (batch size and "
    "learning rate searched), on the digits with an MLP and with logistic regression."
)
FALSIFIED_IF = (
    "On either workload the ratio of mean final losses over ten fresh seeds, chosen once over fixed, is above 1.1."
)
METHODS = {"fixed": "fixed, batch size searched", "once": "chosen once", "online": "followed all the time"}
WORKLOADS = {
    "mlp": ("MLP 64-256-10", StepEnergy(5.02e-6, 0.328e-6), 2.5e-3),
    "logistic": ("logistic regression", StepEnergy(0.1656e-6, 0.01654e-6), 0.25e-3),
}
"""Title; joules of a step, as the study energy_batch_size works them out (45 nm, one memory of 1 MB), rounded; the budget in joules."""
START, WINDOW, PROBE, HALF = 16, 40, 4, 16
"""Of what chooses: the first batch size, steps before (and between) choices, steps between probes, examples of each half of a probe."""
SEEDS, TUNING_SEED = 10, 1000


def _model(workload: str, rng: np.random.Generator) -> nn.Module:
    if workload == "logistic":
        return nn.Linear(64, 10, rng=rng)
    return nn.Sequential(nn.Linear(64, 256, rng=rng), nn.ReLU(), nn.Linear(256, 10, rng=rng))


def train(workload: str, method: str, batch: int, lr: float, seed: int) -> dict:
    """SGD until the budget is used up: the final mean training loss, and the batch sizes that were used. Probes are paid for."""
    _, energy, budget = WORKLOADS[workload]
    init, order = map(np.random.default_rng, np.random.SeedSequence(seed).spawn(2))
    data = datasets.digits()
    x, y = np.asarray(data.x, np.float32).reshape(len(data.x), -1), np.asarray(data.y)
    model = _model(workload, init)
    optimizer = SGD(model.parameters(), lr=lr)
    noise, used, step, sizes, chosen = NoiseScale(decay=0.98), 0.0, 0, [batch], False

    def gradient(places: np.ndarray) -> list[np.ndarray]:
        found = BackwardPass([losses.cross_entropy(model(DiffTensor(x[places])), y[places])], optimizer.params).run()
        return [found[p.node] for p in optimizer.params]

    with np.errstate(all="ignore"):
        while used + energy(batch) <= budget:
            if method != "fixed" and not chosen and step % PROBE == 0:
                noise.observe(from_parts([gradient(order.integers(0, len(x), HALF)) for _ in range(2)], HALF))
                used += 2 * energy(HALF)
            optimizer.step(gradient(order.integers(0, len(x), batch)))
            used, step = used + energy(batch), step + 1
            if method != "fixed" and not chosen and step % WINDOW == 0:
                scale = noise.scale or 0.0
                best = best_batch(scale, energy) if scale > 0 else float(batch)
                new = int(min(max(1, round(min(best, 1e6))), len(x)))
                if math.isfinite(scale) and scale > 0:
                    optimizer.lr = optimizer.lr * (1 + scale / batch) / (1 + scale / new)
                batch, chosen = new, method == "once"
                sizes.append(batch)
        with no_grad():
            final = losses.cross_entropy(model(DiffTensor(x)), y).item()
    return {"loss": final if math.isfinite(final) else math.inf, "sizes": sizes, "steps": step, "used": used}


def search(workload: str, method: str, trials: int) -> dict:
    """The setting with the lowest final loss on the tuning seed, of so many drawn at random."""
    rng = np.random.default_rng(np.random.SeedSequence([7, sorted(METHODS).index(method)]))
    found = []
    for _ in range(trials):
        batch = int(2 ** rng.integers(1, 10)) if method == "fixed" else START
        lr = float(np.exp(rng.uniform(np.log(0.02), np.log(3.0))))
        found.append((train(workload, method, batch, lr, TUNING_SEED)["loss"], batch, lr))
    loss, batch, lr = min(found)
    return {"loss": loss, "batch": batch, "lr": lr}


def score(workload: str, method: str, batch: int, lr: float, seeds: int) -> dict:
    runs = [train(workload, method, batch, lr, seed) for seed in range(seeds)]
    return {"losses": [r["loss"] for r in runs], "last": [r["sizes"][-1] for r in runs], "steps": [r["steps"] for r in runs], "path": runs[0]["sizes"]}  # fmt: skip


def ratio(a: list[float], b: list[float], draws: int = 4000) -> tuple[float, float, float]:
    """mean(a)/mean(b) with a 95 % bootstrap interval over paired seeds."""
    pairs = np.array([a, b])
    if not np.isfinite(pairs).all():
        return math.inf, math.inf, math.inf
    drawn = pairs[:, np.random.default_rng(0).integers(0, len(a), (draws, len(a)))].mean(-1)
    low, high = np.percentile(drawn[0] / drawn[1], [2.5, 97.5])
    return float(pairs[0].mean() / pairs[1].mean()), float(low), float(high)


def run(work: Work) -> Outcome:
    trials, seeds = (2, 2) if work.quick else (24, SEEDS)
    asked = {f"{w}-{m}": {"workload": w, "method": m} for w in WORKLOADS for m in METHODS}
    tuned = work.parts(search, {f"search-{k}": s | {"trials": trials} for k, s in asked.items()})
    best = {k: {name: tuned[f"search-{k}"][name] for name in ("batch", "lr")} for k in asked}
    found = work.parts(score, {f"score-{k}": s | best[k] | {"seeds": seeds} for k, s in asked.items()})
    head = ["workload", "batch size", "budget, mJ", "lr", "last batch size", "steps", "loss", "over fixed (95 %)"]
    rows, ratios, panels = [], {}, []
    for w, (title, _, budget) in WORKLOADS.items():
        fixed = found[f"score-{w}-fixed"]["losses"]
        for m, called in METHODS.items():
            one = found[f"score-{w}-{m}"]
            value, low, high = ratios[w, m] = ratio(one["losses"], fixed)
            beside = "–" if m == "fixed" else f"{value:.3g} ({low:.3g} to {high:.3g})"
            rows.append([title, called, 1e3 * budget, best[f"{w}-{m}"]["lr"], float(np.median(one["last"])), float(np.median(one["steps"])), float(np.mean(one["losses"])), beside])  # fmt: skip
        panels.append(Panel(f"{title}: last batch size, seed by seed", "seed", [Line(METHODS[m], list(range(seeds)), found[f"score-{w}-{m}"]["last"], dots=True) for m in METHODS]))  # fmt: skip
    worst = max(ratios[w, "once"][0] for w in WORKLOADS)
    online = " and ".join(f"{ratios[w, 'online'][0]:.3g} ({WORKLOADS[w][0]})" for w in WORKLOADS)
    once = " and ".join(f"{ratios[w, 'once'][0]:.3g} ({WORKLOADS[w][0]})" for w in WORKLOADS)
    return Outcome(
        "holds" if worst <= 1.1 else "falsified",
        f"Chosen once, the final loss is {once} times that of fixed settings; followed all the time, {online}.",
        figures={f"{w} {m}": {"ratio": r[0], "low": r[1], "high": r[2]} for (w, m), r in ratios.items()},
        tables=[Table("Final training loss at the end of the budget", head, rows)],
        pictures={"sizes.svg": picture(panels)},
        notes=[
            "Joules are modelled, not measured: e0 + e1 b with the figures of the study energy_batch_size. Each method has 24 trials of random search "
            "on one seed, then ten fresh seeds, the same for all. What chooses starts at a batch of 16, probes every fourth step with two halves of "
            "16 examples, pays for that, and chooses after 40 steps (once), or after every 40 steps from a fading mean (followed).",
            "The noise scale at the beginning of training is that of the beginning: it rises later, so a size that is chosen early is "
            "smaller than the best for the whole run.",
        ],
    )
