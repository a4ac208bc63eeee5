"""Which rules stand which attacks? See README.md."""

import math
from functools import cache
from typing import Any

import numpy as np

from autograd import nn
from autograd.gradients import chain
from autograd.optim import Optimizer, sgd
from hammer import agents
from hammer.agents.attacks import Alie, Attack, Broken, InnerProduct, Noise, SignFlip, Stale, flipped
from hammer.agents.rules import RULES, Bucketing, CenteredClipping, Rule
from hammer.lab.studies import Outcome, Table, Work

TITLE = "Two hostile agents of eight: every attack against every rule"
CLAIM = (
    "With 2 of 8 agents hostile, one rule, chosen on other seeds, ends within 2 points of the accuracy that the mean reaches among honest agents, for "
    "every attack, while the plain mean collapses (loses more than 20 points) under at least four attacks."
)
FALSIFIED_IF = "for that rule and some attack the 95 % interval of the loss lies above 2 points, or the plain mean collapses under fewer than four attacks."

RANKS, HOSTILE, BATCH, STEPS, MOMENTUM = 8, (2, 5), 8, 120, 0.9
TUNING, FRESH = (100, 101), (0, 1, 2, 3, 4)
RATES = (0.4, 0.8, 1.6, 3.2)
POINTS, COLLAPSE, FOUR = 2.0, 20.0, 4
T95 = {2: 12.706, 5: 2.776}
"""Student's t for a 95 % interval of the mean of so many numbers."""
PLAIN = "plain mean"

ATTACKS: dict[str, Attack | str | None] = {
    "none": None, "sign flip x5": SignFlip(5.0), "noise 10": Noise(10.0), "inner product x5": InnerProduct(5.0), "ALIE 1.5": Alie(1.5),
    "NaN": Broken(), "infinity": Broken(math.inf), "zero": Broken(0.0), "stale 50": Stale(50), "label flip": "flip",
}  # fmt: skip


def rules() -> dict[str, Rule | None]:
    """Every rule for two faulty rows, and the mean as it is without a guard against NaN (None)."""
    made: dict[str, Rule | None] = {PLAIN: None}
    return (
        made
        | {name: make(len(HOSTILE)) for name, make in RULES.items()}
        | {"bucketing, clipping": Bucketing(CenteredClipping(), 2)}
    )


@cache
def digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return (x / 16).astype(np.float32), y


def train(comm: agents.Communicator, rule: str, attack: str, seed: int, lr: float, steps: int) -> float:
    """One rank's run; returns the held-out accuracy of the parameters, which are the same on every rank."""
    x, y = digits()
    split, weights, draws = np.random.SeedSequence(seed).spawn(3)
    kept, held = np.split(np.random.default_rng(split).permutation(len(x)), [3 * len(x) // 4])
    rng, draw = np.random.default_rng(weights), np.random.default_rng(draws.spawn(comm.size)[comm.rank])
    net = nn.Sequential(nn.Linear(64, 64, rng=rng), nn.ReLU(), nn.Linear(64, 10, rng=rng))
    what, found = ATTACKS[attack], rules()[rule]
    labels = flipped(y, 10) if what == "flip" and comm.rank in HOSTILE else y
    fill = what.value if isinstance(what, Broken) and found is None and comm.rank in HOSTILE else None
    if found is None and isinstance(what, Broken):
        link = agents.all_reduce(comm, deterministic=False)
    else:  # of finite rows, and without an attack, the guarded mean is the plain one
        given = {"attack": what, "hostile": HOSTILE} if isinstance(what, Attack) else {}
        link = agents.aggregate(
            comm, rules()["mean"] if found is None else found, momentum=MOMENTUM, seed=seed, **given
        )  # type: ignore[arg-type]
    loss, optimizer = nn.CrossEntropyLoss(), Optimizer(net.parameters(), chain(link, sgd(lr)))
    with np.errstate(all="ignore"):  # what an attack does to a mean is a result
        for _ in range(steps):
            i = draw.choice(kept, BATCH)
            optimizer.zero_grad()
            loss(net(x[i]), labels[i]).backward()
            if fill is not None:
                for p in net.parameters():
                    p.node.grad = np.full_like(p.grad, fill)
            optimizer.step()
        return float((net(x[held]).numpy().argmax(1) == y[held]).mean()) if comm.rank == 0 else math.nan


def judged(
    rule: str, steps: int, rates: list[float], tuning: list[int], fresh: list[int], attacks: list[str]
) -> dict[str, Any]:
    """Choose a rule's rate where nobody is hostile; held-out accuracy under each attack, on the seeds of that choice and on others."""
    one = lambda attack, seed, lr: agents.run(RANKS, train, rule, attack, seed, lr, steps)[0]
    scores = [float(np.mean([one("none", seed, lr) for seed in tuning])) for lr in rates]
    lr = rates[int(np.argmax(scores))]
    accuracy = lambda seeds: {attack: np.array([one(attack, seed, lr) for seed in seeds]) for attack in attacks}
    return {"rate": lr, "scores": scores, "tuning": accuracy(tuning), "fresh": accuracy(fresh)}


def interval(values: np.ndarray) -> tuple[float, float, float]:
    """Mean, and its 95 % interval by Student's t."""
    half = T95[len(values)] * values.std(ddof=1) / math.sqrt(len(values))
    return float(values.mean()), float(values.mean() - half), float(values.mean() + half)


def run(work: Work) -> Outcome:
    names = [PLAIN, "mean", "centered clipping"] if work.quick else list(rules())
    attacks = ["none", "sign flip x5", "NaN"] if work.quick else list(ATTACKS)
    settings = {
        "steps": 40 if work.quick else STEPS, "rates": list(RATES[1:3] if work.quick else RATES), "tuning": list(TUNING[: 1 if work.quick else 2]),
        "fresh": list(FRESH[: 2 if work.quick else 5]), "attacks": attacks,
    }  # fmt: skip
    parts = work.parts(judged, {
        name.replace(" ", "-").replace(",", ""): {"rule": name} | settings for name in names
    })  # fmt: skip
    found = dict(zip(names, parts.values(), strict=True))
    lost = {  # points, from the clean run of the mean with the same seed
        name: {a: {s: 100 * (found["mean"][s]["none"] - one[s][a]) for s in ("tuning", "fresh")} for a in attacks} for name, one in found.items()
    }  # fmt: skip
    worst = lambda name, seeds: max(float(lost[name][a][seeds].mean()) for a in attacks)
    chosen = min((n for n in names if n != PLAIN), key=lambda n: worst(n, "tuning"))
    intervals = {a: interval(lost[chosen][a]["fresh"]) for a in attacks}
    collapsed = [a for a in attacks if lost[PLAIN][a]["fresh"].mean() > COLLAPSE]
    bad = [a for a in attacks if intervals[a][1] > POINTS]
    unsure = [a for a in attacks if intervals[a][1] <= POINTS < intervals[a][2]]
    verdict = "falsified" if bad or len(collapsed) < FOUR else "undecided" if unsure else "holds"
    most = max(attacks, key=lambda a: intervals[a][0])
    summary = (
        f"the rule chosen on the tuning seeds is {chosen}; it loses most under {most}: "
        + "{:.2f} [{:.2f}, {:.2f}] points. ".format(*intervals[most])
        + (f"Beyond 2 points: {', '.join(bad)}. " if bad else "")
        + (f"Not decided: {', '.join(unsure)}. " if unsure else "")
        + f"The plain mean collapses under {len(collapsed)} attacks" + (f" ({', '.join(collapsed)})." if collapsed else ".")
    )  # fmt: skip
    rows = [[a, *(f"{100 * found[n]['fresh'][a].mean():.1f}" for n in names)] for a in attacks]
    rows += [
        ["most points lost", *(f"{worst(n, 'fresh'):.1f}" for n in names)],
        ["the same, tuning seeds", *(f"{worst(n, 'tuning'):.1f}" for n in names)],
        ["rate", *(f"{found[n]['rate']:g}" for n in names)],
    ]
    figures = {
        "chosen": chosen, "lost": {a: list(v) for a, v in intervals.items()}, "collapsed": collapsed,
        "accuracy": {n: {a: float(found[n]["fresh"][a].mean()) for a in attacks} for n in names}, "rates": {n: found[n]["rate"] for n in names},
    }  # fmt: skip
    return Outcome(
        verdict, summary, figures,
        [
            Table(f"Held-out accuracy, %, mean over {len(settings['fresh'])} fresh seeds", ["attack", *names], rows),
            Table(
                f"Points that {chosen} loses against the mean among honest agents [95 %]", ["attack", "points"],
                [[a, "{:.2f} [{:.2f}, {:.2f}]".format(*v)] for a, v in intervals.items()],
            ),
        ],
        notes=[
            "The plain mean is `agents.all_reduce`, which lets NaN through; \"mean\" and all other rules leave out what is not finite. Attackers know what "
            "honest agents send and act together. Rates are chosen where nobody is hostile, for nobody knows the attack."
        ],
    )  # fmt: skip
