"""How much of what data parallel training sends is needed? See README.md."""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from autograd import nn
from autograd.gradients import chain, codecs
from autograd.optim import Optimizer, adamw, schedules, sgd
from hammer import agents
from hammer.drawing import Line, Panel, picture
from hammer.lab import datasets
from hammer.lab.stats import mean_interval, reached
from hammer.lab.studies import Outcome, Table, Work

TITLE = "Talking less: what local steps and compression cost in steps and in accuracy"
CLAIM = "PowerSGD of rank 2 and the top 1 % with error feedback end within 1 point of the held-out accuracy of data parallel SGD."
FALSIFIED_IF = "for one of the two the 95 % interval over fresh seeds lies below -1 point."

RANKS, BATCH, EVERY = 8, 8, 20
"""Threads, examples of each in a step, and steps from one meeting (of methods that meet) and one evaluation to the next."""
STEPS, TARGET, POINTS, LAST = 900, 0.95, 1.0, 5
"""LAST: evaluations at the end whose mean is a run's accuracy at the end."""
TUNING, FRESH = range(100, 104), range(30, 54)
RATES = {"adamw": (0.01, 0.02, 0.04, 0.08, 0.16), "sgd": (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)}
"""At the start; they fall to 0 by a cosine."""

Rule = Callable[[agents.Communicator, int, Callable[[int], float]], Any]


def methods() -> dict[str, tuple[str, Rule]]:
    """Name -> its optimizer, and the chain of a rank for a seed and a rate as a function of the step."""
    plain = lambda comm: agents.all_reduce(comm, deterministic=False)
    wire = lambda codec: ("sgd", lambda comm, seed, lr: chain(agents.compressed(comm, codec, True, seed), sgd(lr, 0.9)))
    local = lambda outer: ("adamw", lambda comm, _seed, lr: chain(adamw(lr), agents.local_steps(comm, EVERY, outer)))
    return {
        "data parallel AdamW": ("adamw", lambda comm, _seed, lr: chain(plain(comm), adamw(lr))),
        "DiLoCo": local(sgd(0.7, 0.9, nesterov=True)),
        "averaging": local(sgd(1.0)),
        "gossip": ("adamw", lambda comm, _seed, lr: chain(adamw(lr), agents.gossip(comm, agents.exponential(comm.size)))),
        "data parallel SGD": ("sgd", lambda comm, _seed, lr: chain(plain(comm), sgd(lr, 0.9))),
        "PowerSGD": wire(codecs.PowerSGD(2)),
        "top 1 %": wire(codecs.TopK(0.01)),
        "sign": wire(codecs.Sign()),
        "4 bits": wire(codecs.Quantize(4, 128)),
    }  # fmt: skip


@cache
def digits() -> tuple[np.ndarray, np.ndarray]:
    data = datasets.digits()
    return data.x.astype(np.float32), data.y


def train(comm: agents.Communicator, rule: Rule, seed: int, lr: float, steps: int) -> dict[str, list[float]]:
    """One rank's run: held-out accuracy of the ranks' mean model every ``EVERY`` steps, and bytes handed over until then."""
    x, y = digits()
    split, weights, draws = np.random.SeedSequence(seed).spawn(3)
    order, rng = np.random.default_rng(split).permutation(len(x)), np.random.default_rng(weights)
    kept, held = np.split(order, [3 * len(x) // 4])
    draw = np.random.default_rng(draws.spawn(comm.size)[comm.rank])
    net = nn.Sequential(nn.Linear(64, 64, rng=rng), nn.ReLU(), nn.Linear(64, 10, rng=rng))
    loss, optimizer = nn.CrossEntropyLoss(), Optimizer(net.parameters(), rule(comm, seed, schedules.cosine(lr, steps)))
    found: dict[str, list[float]] = {"accuracy": [], "bytes": []}
    apart = 0  # bytes of looking on
    with np.errstate(all="ignore"):  # a rate that is too large is a result
        for step in range(1, steps + 1):
            i = draw.choice(kept, BATCH)
            optimizer.zero_grad()
            loss(net(x[i]), y[i]).backward()
            optimizer.step()
            if step % EVERY == 0:
                before = comm.sent
                w, b, v, c = (comm.all_reduce(p.numpy()).wait() / comm.size for p in net.parameters())
                apart += comm.sent - before
                said = np.maximum(x[held] @ w.T + b, 0) @ v.T + c
                found["accuracy"].append(float((said.argmax(1) == y[held]).mean()))
                found["bytes"].append(comm.sent - apart)
    return found


def judged(method: str, steps: int, rates: list[float], tuning: list[int], fresh: list[int]) -> dict[str, Any]:
    """Choose a method's rate by the mean accuracy at the end, on some seeds, and run it on others."""
    _, rule = methods()[method]
    one = lambda seed, lr: agents.run(RANKS, train, rule, seed, lr, steps)[0]
    scores = [float(np.mean([one(seed, lr)["accuracy"][-LAST:] for seed in tuning])) for lr in rates]
    lr = rates[int(np.argmax(scores))]
    runs = [one(seed, lr) for seed in fresh]
    return {
        "rate": lr, "scores": scores, "accuracy": np.array([r["accuracy"] for r in runs]), "bytes": np.array(runs[0]["bytes"], np.float64),
    }  # fmt: skip


def run(work: Work) -> Outcome:
    steps, rates, tuning, fresh = (
        (80, slice(2, 4), TUNING[:1], FRESH[:3]) if work.quick else (STEPS, slice(None), TUNING, FRESH)
    )
    names = {name.replace(" ", "-").replace("%", "percent"): name for name in methods()}
    parts = work.parts(judged, {
        part: {
            "method": name, "steps": steps, "rates": list(RATES[methods()[name][0]][rates]),
            "tuning": list(tuning), "fresh": list(fresh),
        } for part, name in names.items()
    })  # fmt: skip
    found = {names[part]: result for part, result in parts.items()}
    base = {"adamw": found["data parallel AdamW"], "sgd": found["data parallel SGD"]}
    rows, figures, points = [], {}, {}
    for name, result in found.items():
        like, all_steps = base[methods()[name][0]], np.array([reached(-a, -TARGET, EVERY) for a in result["accuracy"]])
        ratio = np.exp(mean_interval(np.log(all_steps / [reached(-a, -TARGET, EVERY) for a in like["accuracy"]])))
        final, best = (r["accuracy"][:, -LAST:].mean(axis=1) for r in (result, like))
        apart = mean_interval(100 * (final - best))
        share = float(result["bytes"][-1] / like["bytes"][-1])
        missed = int(sum(a.max() < TARGET for a in result["accuracy"]))
        points[name] = apart
        edge = " (an end of its grid)" if np.argmax(result["scores"]) in (0, len(result["scores"]) - 1) else ""
        is_base = result is like
        rows.append([
            name, f"{result['rate']:g}{edge}", f"{np.mean(all_steps):.0f}" + (f" ({missed} not)" if missed else ""),
            "1" if is_base else "{:.2f} [{:.2f}, {:.2f}]".format(*ratio), f"{100 * final.mean():.2f}",
            "0" if is_base else "{:+.2f} [{:+.2f}, {:+.2f}]".format(*apart), f"{result['bytes'][-1]:,.0f}", f"{share:.4f}",
        ])  # fmt: skip
        figures[name] = {
            "rate": result["rate"], "steps": float(np.mean(all_steps)), "steps_over": list(map(float, ratio)), "missed": missed,
            "accuracy": float(final.mean()), "points": list(apart), "bytes": float(result["bytes"][-1]), "share": share,
        }  # fmt: skip
    claimed = ("PowerSGD", "top 1 %")
    word = lambda name: "false" if points[name][2] < -POINTS else "holds" if points[name][1] >= -POINTS else "undecided"
    words = {name: word(name) for name in claimed}
    verdict = "falsified" if "false" in words.values() else "undecided" if "undecided" in words.values() else "holds"
    summary = (
        "; ".join(
            f"{name} ends "
            + "{:+.2f} [{:+.2f}, {:+.2f}] points from data parallel SGD".format(*points[name])
            + f" ({words[name]})"
            for name in claimed
        )
        + "."
    )
    at = EVERY * np.arange(1, 1 + steps // EVERY)
    middle = lambda name: Line(name, at, 100 * found[name]["accuracy"].mean(axis=0))
    pictures = {
        f"{kind}.svg": picture([
            Panel("held-out accuracy, %", "steps", [middle(n) for n in found if methods()[n][0] == kind])
        ]) for kind in base
    }  # fmt: skip
    return Outcome(
        verdict, summary, figures,
        [Table(
            f"{RANKS} ranks, {steps} steps, means over {len(fresh)} fresh seeds; the share of bytes and all differences are those from data parallel with the same optimizer",
            ["method", "rate", "steps to 95 %", "over data parallel [95 %]", "accuracy at the end, %", "points [95 %]", "bytes a rank", "share"], rows,
        )],
        pictures,
        [
            f"Bytes are what one rank hands over in {steps} steps. A run that did not reach the target counts as {EVERY} steps longer than it was."
        ],
    )  # fmt: skip
