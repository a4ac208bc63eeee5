"""When do ranks that meet every twenty steps keep up with ranks that meet in every step? See README.md."""

import math
from functools import cache
from typing import Any

import numpy as np

from autograd import nn
from autograd.gradients import chain
from autograd.optim import Optimizer, adamw, sgd
from hammer import agents
from hammer.drawing import Line, Panel, picture
from hammer.lab.datasets import sonnets
from hammer.lab.studies import Outcome, Table, Work

TITLE = "Local steps: when DiLoCo keeps up with data parallel training"
CLAIM = (
    "On text, with batches of 32 and of 128 examples at each of 8 ranks, DiLoCo with H = 20 reaches the loss that data parallel AdamW has after 800 steps "
    "within 1.1 times its steps, and hands over at most 1/20 of its bytes."
)
FALSIFIED_IF = "for one of the two batch sizes the 95 % interval of that ratio over fresh seeds lies above 1.1, or DiLoCo hands over more than 1/20."

RANKS, EVERY, GOAL, STEPS = 8, 20, 800, 1200
"""Threads; steps from one meeting, and one evaluation, to the next; the step that sets the target; the steps of a run."""
BATCHES, CLAIMED = (8, 32, 128), (32, 128)
FACTOR, SHARE = 1.1, 1 / 20
TUNING, FRESH = (100, 101), (0, 1, 2, 3, 4)
RATES = {"data parallel": (0.002, 0.004, 0.008, 0.016), "DiLoCo": (0.001, 0.002, 0.004, 0.008)}
T95 = {2: 12.706, 5: 2.776}
"""Student's t for a 95 % interval of the mean of so many numbers."""
CONTEXT, EMBEDDED, HIDDEN, HELD = 8, 16, 128, 0.05


@cache
def text() -> tuple[np.ndarray, int, int]:
    """The sonnets as numbers, how many characters there are, and where the held-out part begins."""
    numbers, alphabet = sonnets()
    return numbers, len(alphabet), round(len(numbers) * (1 - HELD))


def examples(starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Contexts (N, ``CONTEXT``) that begin there, and the characters after them."""
    numbers = text()[0]
    return numbers[starts[:, None] + np.arange(CONTEXT)], numbers[starts + CONTEXT]


def model(rng: np.random.Generator) -> nn.Sequential:
    """Embedding, one hidden layer, and the next character's logits (Bengio et al. 2003)."""
    letters = text()[1]
    return nn.Sequential(
        nn.Embedding(letters, EMBEDDED, rng=rng), nn.Flatten(),
        nn.Linear(CONTEXT * EMBEDDED, HIDDEN, rng=rng), nn.ReLU(), nn.Linear(HIDDEN, letters, rng=rng),
    )  # fmt: skip


def link(method: str, comm: agents.Communicator, lr: float) -> Any:
    if method == "DiLoCo":
        return chain(adamw(lr), agents.local_steps(comm, EVERY, sgd(0.7, 0.9, nesterov=True)))
    return chain(agents.all_reduce(comm, deterministic=False), adamw(lr))


def train(comm: agents.Communicator, method: str, batch: int, seed: int, lr: float, steps: int) -> dict[str, Any]:
    """One rank's run: held-out loss (nats for a character) every ``EVERY`` steps, when all ranks' models are equal, and bytes."""
    numbers, _, cut = text()
    weights, draws = np.random.SeedSequence(seed).spawn(2)
    draw = np.random.default_rng(draws.spawn(comm.size)[comm.rank])
    net, loss = model(np.random.default_rng(weights)), nn.CrossEntropyLoss()
    optimizer, held = (
        Optimizer(net.parameters(), link(method, comm, lr)),
        examples(np.arange(cut, len(numbers) - CONTEXT)),
    )
    found = []
    for step in range(1, steps + 1):
        x, y = examples(draw.integers(0, cut - CONTEXT, batch))
        optimizer.zero_grad()
        loss(net(x), y).backward()
        optimizer.step()
        if step % EVERY == 0 and comm.rank == 0:
            found.append(float(loss(net(held[0]), held[1])))
    return {"loss": found, "bytes": comm.sent}


def runs(method: str, batch: int, rates: list[float], seeds: list[int], steps: int) -> dict[str, np.ndarray]:
    """Losses by rate, seed and evaluation, and the bytes of one rank."""
    made = [[agents.run(RANKS, train, method, batch, seed, lr, steps)[0] for seed in seeds] for lr in rates]
    return {"loss": np.array([[one["loss"] for one in row] for row in made]), "bytes": np.array(made[0][0]["bytes"])}


def reached(losses: np.ndarray, target: float) -> float:
    """Steps to the target, by a straight line between evaluations; of a run that did not reach it, one evaluation after its end."""
    there = np.flatnonzero(losses <= target)
    if not len(there):
        return float((len(losses) + 1) * EVERY)
    k = int(there[0])
    if k == 0:
        return float(EVERY)
    return EVERY * (k + float((losses[k - 1] - target) / (losses[k - 1] - losses[k])))


def interval(values: np.ndarray) -> tuple[float, float, float]:
    """Mean, and its 95 % interval by Student's t."""
    half = T95[len(values)] * values.std(ddof=1) / math.sqrt(len(values))
    return float(values.mean()), float(values.mean() - half), float(values.mean() + half)


def edge(chosen: int, rates: list[float]) -> str:
    return " (an end of its grid)" if chosen in (0, len(rates) - 1) else ""


def run(work: Work) -> Outcome:
    batches, goal, steps = (BATCHES[1:2], 40, 80) if work.quick else (BATCHES, GOAL, STEPS)
    tuning, fresh = (list(TUNING[:1]), list(FRESH[:2])) if work.quick else (list(TUNING), list(FRESH))
    rates = {name: list(grid[1:3] if work.quick else grid) for name, grid in RATES.items()}
    cells = [(method, batch) for batch in batches for method in RATES]
    part = lambda what, method, batch: f"{what}-{method.replace(' ', '-')}-{batch}"
    tuned = work.parts(runs, {
        part("tune", m, b): {"method": m, "batch": b, "rates": rates[m], "seeds": tuning, "steps": steps} for m, b in cells
    })  # fmt: skip
    curves = {(m, b): tuned[part("tune", m, b)]["loss"].mean(axis=1) for m, b in cells}
    goals = {b: float(curves["data parallel", b][:, goal // EVERY - 1].min()) for b in batches}
    steps_by_rate = {
        (m, b): [np.mean([reached(one, goals[b]) for one in row]) for row in tuned[part("tune", m, b)]["loss"]] for m, b in cells
    }  # fmt: skip
    best = {cell: int(np.argmin(found)) for cell, found in steps_by_rate.items()}
    judged = work.parts(runs, {
        part("fresh", m, b): {"method": m, "batch": b, "rates": [rates[m][best[m, b]]], "seeds": fresh, "steps": steps} for m, b in cells
    })  # fmt: skip
    rows, figures, ratios, shares = [], {}, {}, {}
    for b in batches:
        losses = {m: judged[part("fresh", m, b)]["loss"][0] for m in RATES}
        took = {m: np.array([reached(one, goals[b]) for one in losses[m]]) for m in RATES}
        sent = {m: int(judged[part("fresh", m, b)]["bytes"]) for m in RATES}
        ratios[b] = tuple(np.exp(interval(np.log(took["DiLoCo"] / took["data parallel"]))))
        apart = interval(losses["DiLoCo"][:, -1] - losses["data parallel"][:, -1])
        shares[b] = sent["DiLoCo"] / sent["data parallel"]
        for m in RATES:
            missed = int(sum(one.min() > goals[b] for one in losses[m]))
            rows.append([
                b, m, f"{rates[m][best[m, b]]:g}{edge(best[m, b], rates[m])}", f"{goals[b]:.3f}",
                f"{took[m].mean():.0f}" + (f" ({missed} not)" if missed else ""),
                "{:.2f} [{:.2f}, {:.2f}]".format(*ratios[b]) if m == "DiLoCo" else "1",
                f"{losses[m][:, -1].mean():.3f}", "{:+.3f} [{:+.3f}, {:+.3f}]".format(*apart) if m == "DiLoCo" else "0", f"{sent[m]:,}",
            ])  # fmt: skip
        figures[str(b)] = {
            "target": goals[b], "ratio": [float(v) for v in ratios[b]], "share": shares[b], "loss_apart": list(apart),
            "steps": {m: took[m].tolist() for m in RATES}, "rate": {m: rates[m][best[m, b]] for m in RATES},
        }  # fmt: skip
    claimed = [b for b in batches if b in CLAIMED]
    bad = [b for b in claimed if ratios[b][1] > FACTOR]
    unsure = [b for b in claimed if ratios[b][1] <= FACTOR < ratios[b][2]]
    verdict = "falsified" if bad or max(shares.values()) > SHARE else "undecided" if unsure else "holds"
    summary = (
        "; ".join(
            "with batches of {} DiLoCo takes {:.2f} [{:.2f}, {:.2f}] times the steps".format(b, *ratios[b])
            for b in batches
        )
        + f". It hands over {max(shares.values()):.4f} of the bytes at most."
    )
    at = EVERY * np.arange(1, 1 + steps // EVERY)
    pictures = {
        f"batch_{b}.svg": picture([
            Panel("held-out loss, nats", "steps", [Line(m, at, judged[part("fresh", m, b)]["loss"][0].mean(axis=0)) for m in RATES])
        ]) for b in batches
    }  # fmt: skip
    return Outcome(
        verdict, summary, figures,
        [Table(
            f"{RANKS} ranks; the target is what data parallel training has after {goal} steps on the tuning seeds; means over {len(fresh)} fresh seeds",
            ["batch", "method", "rate", "target", "steps to it", "over data parallel [95 %]", f"loss after {steps} steps", "apart [95 %]", "bytes a rank"],
            rows,
        )],
        pictures,
        [f"A run that did not reach the target counts as {EVERY} steps longer than it was. All losses are of the ranks' common model."],
    )  # fmt: skip
