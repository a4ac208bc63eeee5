"""How far gradients agree while an ordinary network is trained: a map over tensors and time."""

import numpy as np

from autograd import nn, ops, optim
from autograd.gradients import chain, scale_by_lr
from autograd.optim import Optimizer
from hammer.drawing import Line, Panel, picture
from hammer.lab.studies import Outcome, Table, Work
from hammer.vortex import CoherenceMap, VortexGrad

TITLE = "Coherence of gradients over training"
CLAIM = (
    "In ordinary minibatch training gradients agree only at the start: for an MLP on handwritten digits (batch 32, AdamW 10⁻³), the excess of coherence over "
    "the noise floor in the memory of β = 0.98, averaged over the weights, is above 0.1 in steps 20 to 100 and below 0.03 in the last third of 3,000 steps."
)
FALSIFIED_IF = "either mean, the median over seeds, is on the other side of its bound."
DECAYS = (0.9, 0.98, 0.998)
EARLY, BOUNDS = (20, 100), (0.1, 0.03)


def watch(seed: int, steps: int) -> dict:
    """Train, with a bank that looks on: its memories see the gradients, and its learning rate is 0."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x = (x / 16.0).astype(np.float32)
    weights, order = (np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(2))
    model = nn.Sequential(
        nn.Linear(64, 64, rng=weights),
        nn.Tanh(),
        nn.Linear(64, 64, rng=weights),
        nn.Tanh(),
        nn.Linear(64, 10, rng=weights),
    )
    bank = VortexGrad(DECAYS, (1.0, 1.0, 1.0))
    optimizer = optim.AdamW(model.parameters(), lr=1e-3)
    looking = Optimizer(model.parameters(), chain(bank(), scale_by_lr(0.0)))
    names = [name for name, _ in model.named_parameters()]
    seen, losses = CoherenceMap(bank, looking, names), []
    for _ in range(steps):
        some = order.choice(len(x), 32)
        optimizer.zero_grad()
        loss = ops.mean(ops.cross_entropy(model(x[some]), y[some]))
        loss.backward()
        looking.step([p.grad for p in model.parameters()])
        optimizer.step()
        seen.record(every=10)
        losses.append(float(loss.numpy()))
    sizes = np.array([p.size for p in model.parameters()])
    return {
        "values": seen.values, "steps": seen.steps, "picture": seen.picture(), "loss": np.array(losses),
        "mean": (seen.values * sizes[:, None]).sum(1) / sizes.sum(),
    }  # fmt: skip


def run(work: Work) -> Outcome:
    steps, seeds = (300, 2) if work.quick else (3000, 5)
    found = work.parts(watch, {f"seed{s}": {"seed": s, "steps": steps} for s in range(seeds)})
    at = next(iter(found.values()))["steps"]
    mean = np.stack([f["mean"] for f in found.values()])  # (seeds, memories, records)
    early = mean[:, :, (at >= EARLY[0]) & (at <= EARLY[1])].mean(-1)
    late = mean[:, :, at > steps * 2 / 3].mean(-1)
    first, last = float(np.median(early[:, 1])), float(np.median(late[:, 1]))
    holds = first > BOUNDS[0] and last < BOUNDS[1]
    lines = [
        Line(
            f"β = {b}", at[1:], np.median(mean[:, k, 1:], 0), np.nanmin(mean[:, k, 1:], 0), np.nanmax(mean[:, k, 1:], 0)
        )
        for k, b in enumerate(DECAYS)
    ]
    loss = np.median([f["loss"] for f in found.values()], 0)
    smooth = np.convolve(loss, np.ones(20) / 20, "valid")
    drawn = picture([
        Panel("excess coherence, mean over all weights", "steps", lines, log_x=True, levels=[(BOUNDS[0], "claimed above, early"), (BOUNDS[1], "claimed below, late")]),
        Panel("training loss (mean of 20 steps)", "steps", [Line("loss", np.arange(len(smooth)) + 20, smooth)], log_x=True, log_y=True),
    ], columns=2, note="median over seeds; bands: least and most")  # fmt: skip
    rows = [[f"{b}", *(float(np.median(part[:, k])) for part in (early, late))] for k, b in enumerate(DECAYS)]
    words = f"At β = 0.98 the excess is {first:.3f} in steps {EARLY[0]} to {EARLY[1]} and {last:.4f} in the last third (medians over {seeds} seeds)."
    return Outcome(
        "holds" if holds else "falsified",
        words,
        {
            "early": {str(b): r[1] for b, r in zip(DECAYS, rows, strict=True)},
            "late": {str(b): r[2] for b, r in zip(DECAYS, rows, strict=True)},
        },
        [
            Table(
                "(c − c0) / (1 − c0), mean over all weights",
                ["β", f"steps {EARLY[0]} to {EARLY[1]}", "last third"],
                rows,
            )
        ],
        {"picture.svg": drawn, "map.svg": found["seed0"]["picture"]},
        [
            "The map is of seed 0. What a gate lets through is r λ: with an excess near 0, memories stay out, and VortexGrad is the optimizer behind it."
        ],
    )
