"""A fractal boundary of trainability from a quadratic and a cosine (Liu 2024)."""

import math

import numpy as np

from hammer.drawing import Line, Panel, colours, picture, png
from hammer.fractal import box_counting
from hammer.lab.studies import Outcome, Table, Work

TITLE = "Fractal from a cosine"
CLAIM = (
    "For gradient descent on x² + ε cos(2πx/λ) the learning rates that end above the loss they began with are divided from the others by one "
    "point while θ = ε/λ² is at most θ_c = 1/(2π²), where the loss stops being convex, and by a fractal set of dimension above .7 at 2θ_c."
)
FALSIFIED_IF = "there is more than one boundary point at θ ≤ .95 θ_c, or the box-counting slope at 2θ_c is below .7."
CRITICAL = 1 / (2 * math.pi**2)
WAVELENGTH, START, STEPS, LOW, HIGH = 0.1, 1.0, 2000, 0.99, 1.13
FAR = 1e3
"""At rates up to 1 no |x| gets beyond 1 + 2,000 · the largest pull of the ripple, below 200; at rates above 1 it never comes back from here."""
BLOCK = 1 << 13
"""Learning rates that are iterated together: as many as stay in the cache."""


def labels(theta: float, power: int, scale: float = 1.0) -> dict:
    """Which of 2^power + 1 equally spaced learning rates end above the loss they began with; ``theta`` in units of θ_c.

    ``scale`` renormalises: x, λ → scale · x, scale · λ and ε → scale² · ε is the same map in other units.
    """
    wavelength, first = WAVELENGTH * scale, START * scale
    epsilon = theta * CRITICAL * WAVELENGTH**2 * scale**2
    wave = 2 * math.pi / WAVELENGTH / scale
    pull = epsilon * wave
    rates = np.linspace(LOW, HIGH, (1 << power) + 1)
    loss = lambda x: x * x + epsilon * np.cos(2 * math.pi * x / wavelength)
    above = np.ones(rates.shape, bool)
    for i in range(0, len(rates), BLOCK):
        places = np.arange(i, min(i + BLOCK, len(rates)))
        rate, x = rates[places], np.full(len(places), first)
        for step in range(STEPS):
            if step % 25 == 0:  # those that are far for good are above, and need not be iterated
                near = np.abs(x) < FAR * scale
                places, rate, x = places[near], rate[near], x[near]
                turn = np.empty_like(x)
            np.multiply(x, wave, out=turn)
            np.sin(turn, out=turn)
            turn *= pull
            turn -= 2.0 * x
            turn *= rate
            x += turn
        above[places] = ~(loss(x) < loss(first))
    return {"above": above}


def strip(above: np.ndarray, width: int = 1024, height: int = 24) -> np.ndarray:
    """A row of pixels: the share of learning rates that end above."""
    shares = above[: len(above) // width * width].reshape(width, -1).mean(axis=1)
    return np.repeat(colours(2 * shares - 1, -1, 1, "diverging")[None], height, axis=0)


def run(work: Work) -> Outcome:
    power = 13 if work.quick else 19
    thetas = [0.5, 0.95, 1.0, 1.05, 1.5, 2.0]
    settings = {f"theta{theta:g}": {"theta": theta, "power": power} for theta in thetas}
    found = work.parts(labels, settings | {"renormalised": {"theta": 2.0, "power": power, "scale": 0.25}})
    above = {theta: found[f"theta{theta:g}"]["above"] for theta in thetas}
    edges = {theta: a[1:] != a[:-1] for theta, a in above.items()}
    counts = {theta: int(e.sum()) for theta, e in edges.items()}
    slopes = {theta: box_counting(e) for theta, e in edges.items() if e.sum() > 1}
    same = bool((found["renormalised"]["above"] == above[2.0]).all())
    holds = all(counts[t] == 1 for t in thetas if t <= 0.95) and 2.0 in slopes and slopes[2.0].value >= 0.7
    two = slopes.get(2.0)
    summary = (
        f"{counts[0.95]} boundary point{'s' * (counts[0.95] != 1)} at .95 θ_c, {counts[1.05]:,} at 1.05 θ_c, {counts[2.0]:,} at 2 θ_c, where the "
        f"box-counting slope is {two if two else 'not to be had'}; labels of the renormalised map are {'bit for bit the same' if same else 'NOT the same'}."
    )
    rows = [[f"{t:g}", f"{counts[t]:,}", str(slopes[t]) if t in slopes else "–"] for t in thetas]
    panels = [
        Panel(
            "boxes with a boundary point in them", "box side (learning rates)",
            [Line(f"{t:g} θ_c", slopes[t].scales, slopes[t].measures) for t in slopes], log_x=True, log_y=True,
        )
    ]  # fmt: skip
    gap = np.full((6, 1024, 3), 255, np.uint8)
    image = np.concatenate([row for t in thetas for row in (strip(above[t]), gap)][:-1])
    return Outcome(
        "holds" if holds else "falsified",
        summary,
        {
            "boundary_points": counts,
            "slopes": {t: [e.value, e.low, e.high] for t, e in slopes.items()},
            "renormalised_same": same,
        },
        [Table("By θ/θ_c", ["θ/θ_c", "boundary points", "box-counting slope [95 % of the fit]"], rows)],
        {"labels.png": png(image)} | ({"boxes.svg": picture(panels)} if slopes else {}),
        [
            f"λ = {WAVELENGTH:g}, x₀ = {START:g}, {STEPS:,} steps, 2^{power} + 1 learning rates in [{LOW:g}, {HIGH:g}]. The picture has a strip for each "
            f"θ/θ_c ({', '.join(f'{t:g}' for t in thetas)}), learning rates from left to right: blue where the loss at the end is below that at the start, orange where not.",
            "Renormalised: λ and x₀ a quarter, ε a sixteenth, all exact in binary.",
        ],
    )
