"""When do ranks that meet every twenty steps keep up with ranks that meet in every step? See README.md."""

from functools import cache
from typing import Any

import numpy as np

from autograd import nn
from autograd.gradients import chain
from autograd.optim import Optimizer, adamw, sgd
from hammer import agents
from hammer.drawing import Line, Panel, picture
from hammer.lab.datasets import sonnets
from hammer.lab.stats import mean_interval, reached
from hammer.lab.studies import Outcome, Table, Work

TITLE = "Local steps: after how many meetings DiLoCo keeps up with data parallel training"
CLAIM = (
    "On text, with batches of 32 examples at each of 8 ranks, DiLoCo with H = 20 reaches the loss that data parallel AdamW has after 800 steps within 1.1 times "
    "its steps, and hands over at most 1/20 of its bytes."
)
FALSIFIED_IF = "the 95 % interval of that ratio over fresh seeds lies above 1.1, or DiLoCo hands over more than 1/20."

RANKS, EVERY, STEPS = 8, 20, 1200
"""Threads; steps from one meeting, and one evaluation, to the next; steps of a run."""
GOALS, BATCHES, CLAIMED = (200, 400, 800), (8, 32), 32
"""The steps of data parallel training that set the targets, and the examples of each rank in a step."""
FACTOR, SHARE = 1.1, 1 / 20
TUNING, FRESH = (100, 101), (0, 1, 2, 3, 4)
Trial = tuple[float, float, float]
"""The rate of AdamW, and the rate and the momentum of the outer step (0, 0: there is none)."""
TRIALS: dict[str, list[Trial]] = {
    "data parallel": [(lr, 0.0, 0.0) for lr in (0.001, 0.002, 0.003, 0.004, 0.006, 0.008, 0.012, 0.016)],
    "DiLoCo": [(lr, *outer) for outer in ((0.7, 0.9), (1.0, 0.5)) for lr in (0.002, 0.004, 0.008, 0.016)],
}
"""Eight each; DiLoCo's are the paper's outer step and one with less momentum."""
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


def link(comm: agents.Communicator, trial: Trial) -> Any:
    lr, outer, momentum = trial
    if outer:
        return chain(adamw(lr), agents.local_steps(comm, EVERY, sgd(outer, momentum, nesterov=True)))
    return chain(agents.all_reduce(comm, deterministic=False), adamw(lr))


def train(comm: agents.Communicator, trial: Trial, batch: int, seed: int, steps: int) -> dict[str, Any]:
    """One rank's run: held-out loss (nats for a character) every ``EVERY`` steps, when all ranks' models are equal, and bytes."""
    numbers, _, cut = text()
    weights, draws = np.random.SeedSequence(seed).spawn(2)
    draw = np.random.default_rng(draws.spawn(comm.size)[comm.rank])
    net, loss = model(np.random.default_rng(weights)), nn.CrossEntropyLoss()
    optimizer, held = Optimizer(net.parameters(), link(comm, trial)), examples(np.arange(cut, len(numbers) - CONTEXT))
    found = []
    for step in range(1, steps + 1):
        x, y = examples(draw.integers(0, cut - CONTEXT, batch))
        optimizer.zero_grad()
        loss(net(x), y).backward()
        optimizer.step()
        if step % EVERY == 0 and comm.rank == 0:
            found.append(float(loss(net(held[0]), held[1])))
    return {"loss": found, "bytes": comm.sent}


def runs(trials: list[list[float]], batch: int, seeds: list[int], steps: int) -> dict[str, np.ndarray]:
    """Losses by trial, seed and evaluation, and the bytes of one rank."""
    made = [[agents.run(RANKS, train, tuple(trial), batch, seed, steps)[0] for seed in seeds] for trial in trials]
    return {"loss": np.array([[one["loss"] for one in row] for row in made]), "bytes": np.array(made[0][0]["bytes"])}


def said(trial: Trial) -> str:
    lr, outer, momentum = trial
    return f"{lr:g}" + (f"; {outer:g}, {momentum:g}" if outer else "")


def run(work: Work) -> Outcome:
    batches, goals, steps = ((CLAIMED,), (40,), 80) if work.quick else (BATCHES, GOALS, STEPS)
    tuning, fresh = (list(TUNING[:1]), list(FRESH[:2])) if work.quick else (list(TUNING), list(FRESH))
    trials = {name: grid[3:5] if work.quick else grid for name, grid in TRIALS.items()}
    cells = [(method, batch) for batch in batches for method in TRIALS]
    name = lambda what, cell: f"{what}-{cell[0].replace(' ', '-')}-{cell[1]}"
    settings = lambda cell, chosen, seeds: {
        "trials": [list(t) for t in chosen],
        "batch": cell[1],
        "seeds": seeds,
        "steps": steps,
    }
    tuned = work.parts(runs, {name("tune", cell): settings(cell, trials[cell[0]], tuning) for cell in cells})
    losses = {cell: tuned[name("tune", cell)]["loss"] for cell in cells}  # trial, seed, evaluation
    targets = {  # what data parallel training has by the best of its trials
        (b, goal): float(losses["data parallel", b].mean(axis=1)[:, goal // EVERY - 1].min()) for b in batches for goal in goals
    }  # fmt: skip
    best = {
        (m, b, goal): int(np.argmin([np.mean([reached(one, targets[b, goal], EVERY) for one in seeds]) for seeds in losses[m, b]]))
        for m, b in cells for goal in goals
    }  # fmt: skip
    chosen = {(m, b): sorted({best[m, b, goal] for goal in goals}) for m, b in cells}
    judged = work.parts(runs, {
        name("fresh", (m, b)): settings((m, b), [trials[m][k] for k in chosen[m, b]], fresh) for m, b in cells
    })  # fmt: skip
    curve = lambda m, b, goal: judged[name("fresh", (m, b))]["loss"][chosen[m, b].index(best[m, b, goal])]
    rows, figures, ratios, shares, pictures = [], {}, {}, {}, {}
    at = EVERY * np.arange(1, 1 + steps // EVERY)
    for b in batches:
        sent = {m: int(judged[name("fresh", (m, b))]["bytes"]) for m in TRIALS}
        shares[b] = sent["DiLoCo"] / sent["data parallel"]
        for goal in goals:
            target = targets[b, goal]
            took = {m: np.array([reached(one, target, EVERY) for one in curve(m, b, goal)]) for m in TRIALS}
            ratios[b, goal] = tuple(map(float, np.exp(mean_interval(np.log(took["DiLoCo"] / took["data parallel"])))))
            missed = {m: int(sum(one.min() > target for one in curve(m, b, goal))) for m in TRIALS}
            rows.append([
                b, f"{target:.3f}", *(said(trials[m][best[m, b, goal]]) for m in TRIALS),
                *(f"{took[m].mean():.0f}" + (f" ({missed[m]} not)" if missed[m] else "") for m in TRIALS),
                "{:.2f} [{:.2f}, {:.2f}]".format(*ratios[b, goal]), f"{took['data parallel'].mean() / EVERY:.0f}",
            ])  # fmt: skip
            figures[f"{b}, {goal}"] = {
                "target": target, "ratio": list(ratios[b, goal]), "steps": {m: took[m].tolist() for m in TRIALS}, "missed": missed,
                "trial": {m: list(trials[m][best[m, b, goal]]) for m in TRIALS},
            }  # fmt: skip
        figures[str(b)] = {"share": shares[b], "bytes": sent}
        pictures[f"batch_{b}.svg"] = picture([
            Panel("held-out loss, nats", "steps", [Line(m, at, curve(m, b, goals[-1]).mean(axis=0)) for m in TRIALS])
        ])  # fmt: skip
    ratio = ratios[CLAIMED, goals[-1]]
    share = max(shares.values())
    verdict = "falsified" if ratio[1] > FACTOR or share > SHARE else "undecided" if ratio[2] > FACTOR else "holds"
    summary = (
        f"with batches of {CLAIMED} DiLoCo takes "
        + ", ".join("{:.2f} [{:.2f}, {:.2f}]".format(*ratios[CLAIMED, goal]) for goal in goals)
        + f" times the steps to what data parallel training has after {', '.join(map(str, goals))}; it hands over {share:.4f} of the bytes."
    )
    return Outcome(
        verdict, summary, figures,
        [Table(
            f"{RANKS} ranks that meet every {EVERY} steps; means over {len(fresh)} fresh seeds",
            ["batch", "target, nats", "rate of data parallel", "of DiLoCo; outer step", "steps of data parallel", "of DiLoCo", "ratio [95 %]", "meetings"],
            rows,
        )],
        pictures,
        [
            f"A target is the least mean loss of data parallel training after {', '.join(map(str, goals))} steps on the tuning seeds; each method's trial is chosen "
            f"for each target there. A run that did not reach it counts as {EVERY} steps longer than it was. Meetings: of DiLoCo, in the steps that data parallel "
            "training takes."
        ],
    )  # fmt: skip
