"""The boundary between trainings that converge and trainings that do not, of small networks (Sohl-Dickstein 2024)."""

from pathlib import Path

import numpy as np

from autograd import grad, ops, value_and_grad
from autograd.train.files import load_state, save_state
from hammer.drawing import Line, Panel, picture
from hammer.fractal import Axis, Field, Grid, Training, boundary, descent, zoom
from hammer.lab.studies import Outcome, Table, Work

TITLE = "Fractal boundary of trainability"
CLAIM = (
    "At zoom levels 4 to 6 of a fixed policy the boundary between learning rates that train a tanh network and those that do not has a "
    "box-counting dimension that exceeds that of the linear network's by .2 or more."
)
FALSIFIED_IF = (
    "the mean difference over the paths is below .2. Undecided if it is not, but its 95 % interval includes 0."
)
CONDITIONS = ("tanh", "relu", "linear", "single datum", "minibatch", "offset")
PAPER = {"tanh": 1.66, "relu": 1.20, "linear": 1.17, "single datum": 1.41, "minibatch": 1.55, "offset": 1.98}
"""Median dimensions that Sohl-Dickstein reports, at width 16 and about 50 zooms chosen by hand; the range over all is 1.17 to 1.98."""
BATCHES = 4


def training(condition: str, width: int, steps: int) -> Training:
    """A network of one hidden layer; the settings are the learning rates of its two layers (of both, and the first's offset, for "offset")."""
    rng = np.random.default_rng(np.random.SeedSequence(0))
    n = 1 if condition == "single datum" else width * (width + 1)
    x, y = rng.standard_normal((n, width)), rng.standard_normal(n)
    first, second = rng.standard_normal((width, width)), rng.standard_normal(width)
    active = {"relu": ops.relu, "linear": lambda z: z}.get(condition, lambda z: ops.tanh(2.0**0.5 * z))
    scale = width**-0.5

    def loss(params, x=x, y=y):
        hidden = active(ops.matmul(x, params[0]) * scale)
        return ops.mean((ops.sum(hidden * params[1], axis=-1) * scale - y) ** 2)

    if condition == "minibatch":
        xs, ys = x.reshape(BATCHES, -1, width), y.reshape(BATCHES, -1)

        def step(state, a, b):
            (w0, w1), t = state
            # the batch whose turn it is, by weights, since every network has a count of its own
            turn = ops.equal(ops.remainder(t, BATCHES), np.arange(BATCHES))
            on = ops.astype(turn, np.float64)
            batch = ops.tensordot(on, xs, axes=1), ops.tensordot(on, ys, axes=1)
            g0, g1 = grad(lambda p: loss(p, *batch))((w0, w1))
            return ((w0 - a * g0, w1 - b * g1), t + 1), loss((w0, w1))  # all examples judge

        return Training(lambda a, b: ((first, second), np.zeros((), np.int64)), step, steps)
    if condition == "offset":

        def step(state, a, b):
            value, (g0, g1) = value_and_grad(loss)(state)
            return (state[0] - a * g0, state[1] - a * g1), value

        return Training(lambda a, b: (first + b, second), step, steps)
    return descent(loss, (first, second), steps)


def frame_of(condition: str, pixels: int) -> Grid:
    return Grid(Axis(-3, 6), Axis(-3, 3, log=False) if condition == "offset" else Axis(-3, 6), pixels)


def stored(field: Field) -> dict:
    x, y = field.grid.x, field.grid.y
    axes = {"x": [x.low, x.high], "y": [y.low, y.high], "log": [int(x.log), int(y.log)], "pixels": field.grid.pixels}
    return {"ratio": field.ratio, "speed": field.speed, **axes}


def restored(state: dict) -> Field:
    log = state["log"]
    grid = Grid(Axis(*state["x"], log=bool(log[0])), Axis(*state["y"], log=bool(log[1])), state["pixels"])
    return Field(grid, state["ratio"], state["speed"])


def frame(condition: str, width: int, steps: int, pixels: int) -> dict:
    """The full frame."""
    return stored(boundary(training(condition, width, steps), frame_of(condition, pixels)))


def path(condition: str, seed: int, width: int, steps: int, pixels: int, levels: int, folder: Path) -> dict:
    """A zoom path; each level is kept in ``folder``, so that a path that was interrupted goes on with the level it was in."""
    net, known = training(condition, width, steps), []
    for level in range(levels + 1):
        file = folder / f"level{level}.safetensors"
        if file.exists():
            known.append(restored(load_state(file)))
            continue
        here = (
            zoom(net, known[0], seed, level, known=known[1:])
            if known
            else zoom(net, frame_of(condition, pixels), seed, 0)
        )
        if len(here.fields) == len(known):
            break  # it has ended
        known.append(here.fields[-1])
        save_state(file, stored(known[-1]), {})
    estimates = [f.dimension() if f.edges().any() else None for f in known]
    return {
        "dimension": [e.value if e else 0.0 for e in estimates],
        "density": [f.density for f in known],
        "last": stored(known[-1]),
    }


def mean_of(values: list[float]) -> tuple[float, float]:
    """The mean and half of its 95 % interval."""
    from scipy import special

    n = len(values)
    if n < 2:
        return (values[0] if values else float("nan")), float("inf")
    return float(np.mean(values)), float(special.stdtrit(n - 1, 0.975) * np.std(values, ddof=1) / np.sqrt(n))


def run(work: Work) -> Outcome:
    quick = work.quick
    conditions = ("tanh", "linear") if quick else CONDITIONS
    large = {"width": 8, "steps": 60, "pixels": 65} if quick else {"width": 16, "steps": 500, "pixels": 513}
    small = {"width": 4, "steps": 40, "pixels": 33} if quick else {"width": 8, "steps": 100, "pixels": 257}
    window = small | {"pixels": 33 if quick else 129}
    seeds, levels, deep = (range(2), 2, 1) if quick else (range(8), 6, 4)
    frames = {"frame-tanh-large": {"condition": "tanh", **large}}
    frames |= {f"frame-{c}".replace(" ", "-"): {"condition": c, **small} for c in conditions}
    fields = {name: restored(state) for name, state in work.parts(frame, frames).items()}
    ways = {
        f"path-{c}-{s}".replace(" ", "-"): {"condition": c, "seed": s, "levels": levels, **window}
        for c in conditions
        for s in seeds
    }
    paths = work.parts(path, ways)
    of = lambda c: [paths[f"path-{c}-{s}".replace(" ", "-")] for s in seeds]
    ends = {c: [float(np.mean(p["dimension"][deep:])) for p in of(c) if len(p["dimension"]) > deep] for c in conditions}
    means = {c: mean_of(values) for c, values in ends.items()}
    pairs = [
        float(np.mean(a["dimension"][deep:]) - np.mean(b["dimension"][deep:]))
        for a, b in zip(of("tanh"), of("linear"), strict=True)
        if min(len(a["dimension"]), len(b["dimension"])) > deep
    ]
    difference, half = mean_of(pairs)
    holds = difference >= 0.2 and difference - half > 0
    first = {c: fields[f"frame-{c}".replace(" ", "-")] for c in conditions}
    full = {c: f.dimension() if f.edges().any() else None for c, f in first.items()}
    rows = [
        [
            c, str(full[c]) if full[c] else "no boundary", f"{means[c][0]:.2f} ± {means[c][1]:.2f}", str(len(ends[c])),
            f"{PAPER[c]:.2f}",
        ]
        for c in conditions
    ]  # fmt: skip
    by_level = []
    for c in conditions:
        mean = [
            np.mean([p["dimension"][j] for p in of(c) if len(p["dimension"]) > j] or [np.nan])
            for j in range(levels + 1)
        ]
        by_level.append(Line(c, np.arange(levels + 1), np.array(mean)))
    deepest = max(of("tanh"), key=lambda p: len(p["dimension"]))["last"]
    return Outcome(
        "holds" if holds else "falsified" if difference < 0.2 else "undecided",
        f"tanh exceeds linear by {difference:.2f} ± {half:.2f} at levels {deep} to {levels} ({len(pairs)} pairs of paths).",
        {
            "difference": difference, "difference_half_interval": half, "full_frame": {c: e.value if e else 0.0 for c, e in full.items()},
            "deep": {c: list(m) for c, m in means.items()}, "by_level": {line.label: list(line.y) for line in by_level},
        },
        [Table("Box-counting dimension", ["condition", "full frame", f"levels {deep} to {levels}", "paths", "paper's median"], rows)],
        {
            "boundary.png": fields["frame-tanh-large"].picture(),
            "deep.png": restored(deepest).picture(2),
            "levels.svg": picture([Panel("dimension by zoom level", "level", by_level)]),
        },
        [
            f"The picture: tanh, width {large['width']}, {large['steps']} steps, {large['pixels']}² trainings; log10 learning rates of the first layer (across) and the "
            f"second (up) from −3 to 6; blue where training converges, orange where it does not, paler the slower. Table: width {small['width']}, {small['steps']} steps; full frames of {small['pixels']}² trainings, windows of {window['pixels']}².",
            "Zoom policy: a window eight times smaller about an edge cell drawn evenly, seeds 0 to 7; a path ends where more than half of the cells are edges.",
        ],
    )  # fmt: skip
