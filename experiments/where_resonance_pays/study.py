"""Where does resonance pay? Regimes × rules, each tuned alike, scored on fresh seeds, and again on held-out problems."""

import numpy as np
import regimes
import rules

from autograd.gradients import apply_updates, chain
from autograd.optim import adamw
from hammer.drawing import colours, png
from hammer.lab.stats import holm, signed_rank
from hammer.lab.studies import Outcome, Table, Work

TITLE = "Where resonance pays"
CLAIM = (
    "In at least one regime (gradient noise, batch size, delay, wrong labels, moving targets, heterogeneous agents, sparse rewards, a game) some gated "
    "memory in front of AdamW ends at a lower loss than AdamW alone at equal tuning, on the development problem and on the held-out one."
)
FALSIFIED_IF = "no pair of regime and gated rule is better on both problems, each with a signed-rank p-value below 0.05 after Holm's correction for all pairs."
STEPS, RATES, SCALES = 300, (0.001, 0.003, 0.01, 0.03, 0.1, 0.3), (0.3, 1.0)
TUNING_SEEDS, SEEDS = 2, 16


def end(regime: str, held: bool, rule: str, lr: float, scale: float, seed: int, steps: int) -> float:
    """The log of the mean loss over the last fifth of a run; a run that leaves the floats counts as a loss of 10⁶."""
    task = regimes.task(regime, seed, held)
    gains = [scale * g for g in rules.GAINS]
    transform = chain(rules.RULES[rule](gains), adamw(lr, weight_decay=0.0))
    params, losses = task.start, []
    state = transform.init(params)
    with np.errstate(all="ignore"):  # a learning rate that is too high is a result
        for t in range(steps):
            updates, state = transform.update(task.gradient(params, t), state, params)
            params = apply_updates(params, updates)
            if t >= 0.8 * steps and t % 5 == 0:
                losses.append(task.loss(params))
        mean = float(np.mean(losses))
    return float(np.log(np.clip(mean if np.isfinite(mean) else 1e6, 1e-12, 1e6)))


def cell(regime: str, held: bool, rule: str, steps: int, seeds: int) -> dict:
    """Tune on two seeds (12 trials for every rule: AdamW alone has a finer grid of rates), score on fresh ones."""
    if rule == "none":
        trials = [(float(lr), 1.0) for lr in np.geomspace(RATES[0], RATES[-1], len(RATES) * len(SCALES))]
    else:
        trials = [(lr, scale) for lr in RATES for scale in SCALES]
    run = lambda trial, seed: end(regime, held, rule, *trial, seed, steps)
    tuned = min(trials, key=lambda trial: np.median([run(trial, 1000 + s) for s in range(TUNING_SEEDS)]))
    return {"scores": np.array([run(tuned, s) for s in range(seeds)]), "lr": tuned[0], "scale": tuned[1]}


def run(work: Work) -> Outcome:
    places = ["quadratic, noise 3", "game"] if work.quick else [*regimes.REGIMES]
    names = ["none", "coordinate", "t-test"] if work.quick else [*rules.RULES]
    steps, seeds = (40, 3) if work.quick else (STEPS, SEEDS)
    settings = {
        f"{'held' if held else 'dev'}-{places.index(p)}-{names.index(r)}": {"regime": p, "held": held, "rule": r, "steps": steps, "seeds": seeds}
        for held in (False, True) for p in places for r in names
    }  # fmt: skip
    found = work.parts(cell, settings)
    score = {(s["held"], s["regime"], s["rule"]): found[key]["scores"] for key, s in settings.items()}
    tried = [(p, r) for p in places for r in names if r != "none"]
    gain, p_value = {}, {}
    for held in (False, True):
        differences = {(p, r): score[held, p, r] - score[held, p, "none"] for p, r in tried}
        corrected = holm(np.array([signed_rank(d) for d in differences.values()]))
        for pair, d, p in zip(tried, differences.values(), corrected, strict=True):
            gain[held, *pair], p_value[held, *pair] = float(np.median(d)), float(p)
    sure = lambda pair, sign: all(sign * gain[h, *pair] < 0 and p_value[h, *pair] < 0.05 for h in (False, True))
    wins = [pair for pair in tried if sure(pair, 1)]
    losses = [pair for pair in tried if sure(pair, -1)]
    gated = [pair for pair in wins if pair[1] != "no gate"]
    mark = lambda held, p, r: f"{np.exp(gain[held, p, r]):.2f}" + ("*" if p_value[held, p, r] < 0.05 else "")
    tables = [
        Table(f"Loss over AdamW's, {'held-out' if held else 'development'} problems", ["regime", *names[1:]],
              [[p, *(mark(held, p, r) for r in names[1:])] for p in places])
        for held in (False, True)
    ]  # fmt: skip
    values = np.array([[[gain[h, p, r] for r in names[1:]] for p in places] for h in (False, True)])
    drawn = png(
        colours(np.concatenate([values[0], np.full((len(places), 1), np.nan), values[1]], 1), -1, 1, "diverging"), 22
    )
    said = ", ".join(f"{r} in {p!r}" for p, r in gated) or "none"
    words = f"Gated rules that are better on both problems: {said}. Of {len(tried)} pairs, {len(wins)} win on both, {len(losses)} lose on both, the rest are undecided."
    return Outcome(
        "holds" if gated else "falsified",
        words,
        {"wins": [list(p) for p in wins], "losses": [list(p) for p in losses], "pairs": len(tried)},
        tables,
        {"map.png": drawn},
        [
            "Numbers are medians over seeds of the ratio of final losses (below 1: better than AdamW); a star: p < 0.05 after Holm's correction for all pairs "
            "of that table. The map has regimes as rows and rules as columns, development problems left, held-out right; blue is better, orange worse."
        ],
    )
