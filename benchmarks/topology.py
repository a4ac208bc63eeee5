"""Persistent homology beside gudhi, ripser, SciPy, scikit-learn and persim: time; and what has to hold of it: calibrations, gradients, a budget.

* **Time**: Rips complexes of normal points in the plane, components of points (their single linkage in SciPy and scikit-learn), sublevel sets of a
  smooth random function (scipy.ndimage's Gaussian filter of noise, σ = 8), distances of two random diagrams, and landmarks. Every library gets the
  same arrays in this process, on one thread, in turns; a cell is the median of its times, a ratio the median of ratios within a round. That
  all find the same is checked first.
  "With places" finds *which* points or cells each feature comes from too, on which the derivative rests; no peer does.
* **Calibration**: the persistent-homology dimension of sets whose dimension is known, the median over seeds.
* **Gradients**: of Σ lifetime² beside central differences along random directions, at points in general position: the worst relative difference.
* **Monitor**: what share of the time of training ``Monitor`` uses, with its budget of 10 %.

Libraries that are not installed are left out. The last line is JSON.
"""

import importlib
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # before NumPy comes

import common  # noqa: E402
import numpy as np  # noqa: E402
import scipy  # noqa: E402
from scipy.cluster.hierarchy import linkage  # noqa: E402
from scipy.ndimage import gaussian_filter  # noqa: E402
from scipy.spatial.distance import pdist  # noqa: E402

from autograd import DiffTensor, nn  # noqa: E402
from autograd.train import Trainer  # noqa: E402
from hammer import topology  # noqa: E402

KNOWN = {
    "line": 1.004,
    "square": 1.90,
    "cube": 2.84,
    "circle in 10 dimensions": 1.015,
    "Brownian path": 2.08,
    "Sierpiński triangle": 1.60,
}
"""What an earlier program of ours found."""


def optional(name: str) -> Any:
    """A module, or None where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def lifetimes(diagram: Any) -> np.ndarray:
    """The finite lifetimes, ascending, those of 0 left out."""
    d = np.asarray(diagram, np.float64).reshape(-1, 2)
    lives = (d[:, 1] - d[:, 0])[np.isfinite(d[:, 1])]
    return np.sort(lives[lives > 1e-6])


def clouds(n: int, dimensions: tuple[int, ...], rng: np.random.Generator) -> dict[str, Callable[[], Any]]:
    x = rng.standard_normal((n, 2))
    found: dict[str, Callable[[], Any]] = {"hammer": lambda: [d.array() for d in topology.rips(x, dimensions)]}
    if optional("gudhi"):
        transform = importlib.import_module("gudhi.sklearn.rips_persistence").RipsPersistence(list(dimensions))
        found["gudhi"] = lambda: transform.fit_transform([x])[0]
    found["hammer, with places"] = lambda: [d.array() for d in topology.rips(x, dimensions, places=True)]
    if ripser := optional("ripser"):
        found["ripser"] = lambda: ripser.ripser(x, maxdim=max(dimensions))["dgms"]
    if dimensions == (0,):
        column = lambda deaths: [np.stack([np.zeros(len(deaths)), deaths], axis=1)]
        found["scipy linkage"] = lambda: column(linkage(pdist(x), "single")[:, 2])
        if cluster := optional("sklearn.cluster"):
            single = cluster.AgglomerativeClustering(linkage="single", compute_distances=True)
            found["scikit-learn"] = lambda: column(single.fit(x).distances_)
    return found


def landscapes(side: int, rng: np.random.Generator, all_of_gudhi: bool) -> dict[str, Callable[[], Any]]:
    values = gaussian_filter(rng.standard_normal((side, side)), 8)
    values /= values.std()
    found: dict[str, Callable[[], Any]] = {"hammer": lambda: [d.array() for d in topology.cubical(values)]}
    if gudhi := optional("gudhi"):
        transform = importlib.import_module("gudhi.sklearn.cubical_persistence").CubicalPersistence([0, 1])
        found["gudhi"] = lambda: transform.fit_transform([values])[0]
        if all_of_gudhi:

            def whole() -> list:
                complex_ = gudhi.CubicalComplex(top_dimensional_cells=values)
                complex_.compute_persistence()
                return [complex_.persistence_intervals_in_dimension(k) for k in (0, 1)]

            found["gudhi CubicalComplex"] = whole
    found["hammer, with places"] = lambda: [d.array() for d in topology.cubical(values, places=True)]
    return found


def pits(side: int, rng: np.random.Generator) -> dict[str, Callable[[], Any]]:
    values = gaussian_filter(rng.standard_normal((side, side)), 8)
    values /= values.std()
    found: dict[str, Callable[[], Any]] = {
        "hammer": lambda: [topology.cubical(values, (0,))[0].array()],
        "hammer, with places, no gudhi": lambda: [topology.cubical(values, (0,), places=True)[0].array()],
    }
    if optional("gudhi"):
        transform = importlib.import_module("gudhi.sklearn.cubical_persistence").CubicalPersistence([0])
        found["gudhi"] = lambda: transform.fit_transform([values])[0]
    return found


def distances(k: int, rng: np.random.Generator, which: str) -> dict[str, Callable[[], Any]]:
    a, b = (np.stack([x, x + rng.exponential(0.1, k)], axis=1) for x in rng.random((2, k)))
    found: dict[str, Callable[[], Any]] = {"hammer": lambda: float(getattr(topology, which)(a, b))}
    gudhi, persim = optional("gudhi"), optional("persim")
    if gudhi and which == "bottleneck":
        found["gudhi (GPL)"] = lambda: gudhi.bottleneck_distance(a, b)
    if gudhi and which == "wasserstein":
        hera = importlib.import_module("gudhi.hera")
        found["gudhi hera, 1 %"] = lambda: hera.wasserstein_distance(a, b, order=1, internal_p=np.inf, delta=0.01)
    if persim and which == "bottleneck":
        found["persim"] = lambda: persim.bottleneck(a, b)
    return found


def landmarks(n: int, rng: np.random.Generator) -> dict[str, Callable[[], Any]]:
    x = rng.standard_normal((n, 10))
    found: dict[str, Callable[[], Any]] = {"hammer": lambda: float(topology.farthest_points(x, 200).radius)}
    if optional("gudhi"):
        subsampling = importlib.import_module("gudhi.subsampling")

        def theirs() -> float:
            picked = np.asarray(subsampling.choose_n_farthest_points(points=x, nb_points=200, starting_point=0))
            return float(np.linalg.norm(x[:, None] - picked[None], axis=2).min(axis=1).max())

        found["gudhi"] = theirs
    return found


def agree(case: str, results: dict[str, Any]) -> None:
    """Stop if libraries have found different things."""
    ours = results["hammer"]
    for name, theirs in results.items():
        if isinstance(ours, float):
            if not np.isclose(ours, theirs, rtol=2e-2 if "%" in name else 1e-5):
                raise AssertionError(f"{case}: {name} found {theirs}, we found {ours}")
            continue
        for a, b in zip(ours, theirs, strict=True):
            x, y = lifetimes(a), lifetimes(b)
            if len(x) != len(y) or not np.allclose(x, y, rtol=1e-3, atol=1e-5):  # ripser works in float32
                raise AssertionError(f"{case}: {name} found {len(y)} features, we found {len(x)}, or other lifetimes")


def timed(case: str, calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    agree(case, {name: call() for name, call in calls.items()})  # and warm
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    names = list(calls)
    for r in range(rounds):
        for name in names[r % len(names) :] + names[: r % len(names)]:
            start = time.perf_counter()
            calls[name]()
            seconds[name].append(time.perf_counter() - start)
    return seconds


# ---- what has to hold ----


def known_sets(rng: np.random.Generator, n: int = 1000) -> dict[str, np.ndarray]:
    angle, plane = rng.uniform(0, 2 * np.pi, n), np.linalg.qr(rng.standard_normal((10, 2)))[0]
    corners, p, triangle = np.array([[0, 0], [1, 0], [0.5, np.sqrt(0.75)]]), np.zeros(2), np.empty((n + 20, 2))
    for k in range(n + 20):
        p = triangle[k] = (p + corners[rng.integers(3)]) / 2
    sets = (
        rng.random((n, 1)), rng.random((n, 2)), rng.random((n, 3)), np.stack([np.cos(angle), np.sin(angle)], axis=1) @ plane.T,
        np.cumsum(rng.standard_normal((n, 10)), axis=0), triangle[20:],
    )  # fmt: skip
    return dict(zip(KNOWN, sets, strict=True))


def calibrated(seeds: int) -> dict[str, float]:
    found: dict[str, list[float]] = {name: [] for name in KNOWN}
    for seed in range(seeds):
        for name, points in known_sets(np.random.default_rng(seed)).items():
            found[name].append(topology.ph_dimension(points, np.random.default_rng([seed, 1])).dimension)
    return {name: statistics.median(values) for name, values in found.items()}


def worst_gradient(points: int) -> dict[str, float]:
    """The worst relative difference of directional derivatives and central differences, each over so many generic points."""
    total = lambda diagrams: sum(topology.total_persistence(d, 2.0) for d in diagrams)
    dimensions = (0, 1) if optional("gudhi") else (0,)
    cases: dict[str, tuple[tuple[int, int], Callable, Callable]] = {
        "grid": ((6, 7), lambda v: v, lambda v: total(topology.cubical(v, dimensions))),
        "cloud": ((10, 2), pdist, lambda v: total(topology.rips(v, dimensions))),
    }
    worst = {}
    for name, (shape, numbers, value) in cases.items():
        rng, off = np.random.default_rng(0), []
        while len(off) < points:
            x, direction = rng.standard_normal(shape), rng.standard_normal(shape)
            if np.diff(np.sort(np.ravel(numbers(x)))).min() < 1e-4:
                continue  # a difference would cross a tie
            t = DiffTensor(x, requires_grad=True)
            value(t).backward()
            h = 1e-6
            difference = (float(value(x + h * direction)) - float(value(x - h * direction))) / (2 * h)
            off.append(abs(float(np.sum(t.grad * direction)) - difference) / max(abs(difference), 1e-3))
        worst[name] = max(off)
    return worst


def monitored(epochs: int) -> dict[str, float]:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2048, 64)).astype(np.float32), rng.integers(0, 10, 2048)
    model = nn.Sequential(nn.Linear(64, 256, rng=rng), nn.ReLU(), nn.Linear(256, 10, rng=rng))
    monitor = topology.Monitor("gradients")
    trainer = Trainer(model, "cross_entropy", "sgd", lr=0.1, callbacks=[monitor])
    trainer.fit((x, y), epochs=epochs, batch_size=64)
    return {
        "share": monitor.share,
        "points": monitor.seen,
        "steps": trainer.step,
        "reports": len(monitor.state["reports"]),
    }


def main(argv: list[str] | None = None) -> None:
    options = common.parser(__doc__, threads=1).parse_args(argv)
    rng = np.random.default_rng(0)
    quick, gudhi = options.quick, optional("gudhi")
    rounds = 3 if quick else 7
    cases: dict[str, tuple[dict[str, Callable[[], Any]], int]] = {}
    for n in (300,) if quick else (500, 2000):
        if gudhi:
            cases[f"Rips, H0 and H1, {n} points"] = clouds(n, (0, 1), rng), rounds if n < 2000 else 3
    for n in (1000,) if quick else (1000, 4000):
        cases[f"components of {n} points"] = clouds(n, (0,), rng), rounds
    for side in (256,) if quick else (256, 1024):
        if gudhi:
            cases[f"landscape {side}², H0 and H1"] = landscapes(side, rng, side < 1024), rounds
        cases[f"landscape {side}², H0"] = pits(side, rng), rounds
    k = 100 if quick else 400
    cases[f"bottleneck, {k} and {k} pairs"] = distances(k, rng, "bottleneck"), rounds
    cases[f"Wasserstein, {k} and {k} pairs"] = distances(k, rng, "wasserstein"), rounds
    cases["200 landmarks of 5,000 points"] = landmarks(5000, rng), rounds
    seconds = {case: timed(case, *given) for case, given in cases.items()}
    table, figures = [], {}
    for case, there in seconds.items():
        middle = {name: statistics.median(times) for name, times in there.items()}
        ratios = {name: common.ratio(there, "hammer", name) for name in there if name != "hammer"}
        figures[case] = {"seconds": middle, "hammer / other": ratios}
        others = "; ".join(f"{name} {1e3 * middle[name]:.3g} ms ({r:.2f})" for name, r in ratios.items()) or "–"
        table.append([case, 1e3 * middle["hammer"], others])
    dimensions, gradients = calibrated(1 if quick else 5), worst_gradient(50 if quick else 200)
    watch = monitored(2 if quick else 20)
    versions = [f"NumPy {np.__version__}", f"SciPy {scipy.__version__}"]
    for name in ("gudhi", "ripser", "persim", "sklearn"):
        module = optional(name)
        versions.append(
            f"{name} {getattr(module, '__version__', '(version unknown)')}"
            if module
            else f"{name} left out: not installed"
        )
    about = common.machine()
    lines = [
        f"Machine: {about['cpu']}, {about['cores']} cores, {about['system']}, load average {about['load']}; one thread. Python "
        f"{platform.python_version()}, {', '.join(versions)}.",
        "",
        *common.table(["case", "hammer, ms", "others (hammer's time divided by theirs)"], table),
        "",
        "## Persistent-homology dimension of known sets, 1,000 points",
        "",
        *common.table(["set", "found", "earlier"], [[name, dimensions[name], KNOWN[name]] for name in KNOWN]),
        "",
        "## Gradients and the monitor",
        "",
        f"Worst relative difference of gradients and differences over {50 if quick else 200} points: "
        + ", ".join(f"{name} {value:.1e}" for name, value in gradients.items()) + ".",
        f"The monitor looked at {watch['points']} of {watch['steps']} steps, made {watch['reports']} reports and used {100 * watch['share']:.1f} % of the time.",
    ]  # fmt: skip
    print("\n".join(lines))
    common.finish(
        options, "topology", lines, {"times": figures, "dimension": dimensions, "gradient": gradients, "monitor": watch}
    )


if __name__ == "__main__":
    sys.exit(main())
