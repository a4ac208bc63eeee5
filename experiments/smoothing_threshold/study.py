"""At what scale does smoothing remove the spurious minima of a rippled bowl?"""

import math

import numpy as np
from scipy import optimize

from autograd import grad, ops, vmap
from hammer.drawing import Line, Panel, picture
from hammer.fractal import dyadic, multiscale
from hammer.lab.studies import Outcome, Table, Work

TITLE = "Smoothing threshold of the rippled bowl"
CLAIM = (
    "On f = ½|x|² + Σ(1 − cos 2πx_i), descent on D_σ finds the bottom for σ above √(2 ln(.21723·ω²))/ω = 0.330 and not below, with the scale "
    "halved over time (coarse) and with the gate; the average of fixed scales σ, σ/2, σ/4 succeeds only from the scale that the formula with the averaged factor gives."
)
FALSIFIED_IF = (
    "the success probability at σ = .30 is above 5 % or at .35 below 95 % for coarse or gate, or the average's transition is not within "
    "10 % of the scale that its formula gives."
)
OMEGA = 2 * math.pi
SLOPE = 1 / 0.21723
"""−1 / min(sin z / z) = 4.603: x + (s/ω) sin ωx has no root but 0 if and only if s is below it."""
DIMENSIONS, STARTS, REACH, DIRECTIONS, STEPS = 8, 25, 4.0, 64, 400
TIMES, LEVELS = 4, 3
"""Coarse halves the scale so often in a run; average and gate look at so many scales."""


def factor(scales: list[float]) -> float:
    """By how much smoothing at these scales, averaged, damps the ripples."""
    return float(np.mean([math.exp(-((OMEGA * s) ** 2) / 2) for s in scales]))


def predicted(levels: int) -> float:
    """The largest scale below which spurious minima exist, with ``levels`` dyadic scales averaged."""
    excess = lambda sigma: OMEGA**2 * factor(list(dyadic(sigma, levels))) - SLOPE
    return float(optimize.brentq(excess, 0.05, 5.0))


def bowl(x):
    """Of one coordinate: the function is a sum over them."""
    return 0.5 * x * x + (1.0 - ops.cos(OMEGA * x))


def success(combine: str, sigma: float, starts: int) -> dict:
    """Descend from ``starts`` random points; a run succeeds if every coordinate ends within .1 of 0.

    Coordinates do not know of each other, so all of them, of all starts, are one batch. A step is .9 / (1 + the ripples' largest curvature
    at the scale), which descends without jumping over a ripple.
    """
    rng = np.random.default_rng(np.random.SeedSequence(0, spawn_key=(round(sigma * 1e6),)))
    x = rng.uniform(-REACH, REACH, size=starts * DIMENSIONS)
    directions = np.random.SeedSequence(1)
    for step in range(STEPS):
        level = min(step * TIMES // STEPS, TIMES - 1) if combine == "coarse" else 0
        scales = (sigma * 2.0**-level,) if combine == "coarse" else dyadic(sigma, LEVELS)
        function = multiscale(bowl, scales, combine, n=DIRECTIONS, rng=directions)
        x = x - 0.9 / (1 + OMEGA**2 * factor([min(scales)])) * vmap(grad(function))(x)
    runs = abs(x.reshape(starts, DIMENSIONS)).max(axis=1) < 0.1
    return {"success": float(runs.mean()), "left": float((abs(x) >= 0.1).mean())}


def run(work: Work) -> Outcome:
    starts = 4 if work.quick else STARTS
    star, averaged = predicted(1), predicted(LEVELS)
    near = [0.30, 0.35] if work.quick else [0.25, 0.28, 0.30, 0.32, 0.325, 0.335, 0.34, 0.35, 0.40]
    around = [0.9, 1.1] if work.quick else [0.4, 0.6, 0.8, 0.9, 0.97, 1.03, 1.1, 1.2]
    scales = {"coarse": near, "gate": near, "average": [round(averaged * r, 4) for r in around]}
    settings = {
        f"{combine}-{sigma:g}": {"combine": combine, "sigma": sigma, "starts": starts}
        for combine, sigmas in scales.items()
        for sigma in sigmas
    }
    found = work.parts(success, settings)
    rate = {combine: [found[f"{combine}-{s:g}"]["success"] for s in sigmas] for combine, sigmas in scales.items()}
    at = lambda combine, sigma: rate[combine][scales[combine].index(sigma)]
    low, high = (scales["average"][around.index(r)] for r in (0.9, 1.1))
    holds = all(at(c, 0.30) <= 0.05 and at(c, 0.35) >= 0.95 for c in ("coarse", "gate"))
    holds = holds and at("average", low) <= 0.05 and at("average", high) >= 0.95
    summary = (
        f"Predicted σ* = {star:.4f} for coarse and gate: success {at('coarse', 0.30):.0%} and {at('gate', 0.30):.0%} at .30, {at('coarse', 0.35):.0%} and "
        f"{at('gate', 0.35):.0%} at .35. Predicted {averaged:.3f} for the average of {LEVELS} scales: {at('average', low):.0%} at {low:.3f}, "
        f"{at('average', high):.0%} at {high:.3f}."
    )
    lines = [Line(c, np.array(scales[c]), np.array(rate[c])) for c in scales]
    marks = [[(star, "predicted")], [(averaged, "predicted")]]
    panels = [
        Panel("coarse and gate: success", "σ", lines[:2], marks=marks[0], y_range=(-0.05, 1.05)),
        Panel("average: success", "coarsest σ", lines[2:], marks=marks[1], y_range=(-0.05, 1.05)),
    ]
    rows = [[c, s, found[f"{c}-{s:g}"]["success"], found[f"{c}-{s:g}"]["left"]] for c in scales for s in scales[c]]
    return Outcome(
        "holds" if holds else "falsified",
        summary,
        {"predicted": star, "predicted_average": averaged, "scales": scales, "success": rate},
        [
            Table(
                "Success by scale", ["combination", "σ", "runs that end at the bottom", "coordinates that do not"], rows
            )
        ],
        {"picture.svg": picture(panels)},
        [
            f"Each run has {DIMENSIONS} coordinates that start evenly in ±{REACH:g}; {starts} runs at each scale, {STEPS} steps, {DIRECTIONS} "
            f"quasi-random pairs of directions. Coarse halves σ {TIMES - 1} times during the run; gate and average look at {LEVELS} scales σ, σ/2, σ/4."
        ],
    )
