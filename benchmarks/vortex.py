"""VortexGrad: what it adds to a step of AdamW, beside PyTorch's AdamW; errors of its special cases; its theorem and its noise floor.

* **Time**: one step of the optimizer on one float32 parameter of 1M and of 10M numbers, gradients given: AdamW alone, and a bank of two
  memories (β 0.98 and 0.998) in front of it, without a gate, with a gate per coordinate (the default), with factored squares, and with a gate
  per tensor. *Eager* is ``optimizer.step``; *compiled* is the optimizer's part of ``hammer.training_step(..., exact=False)``
  (``hammer.graph.Update``). PyTorch's is ``torch.optim.AdamW``, the fastest of its implementations here (default and ``fused=True``). Blocks of
  all cases are interleaved; ratios are medians of the ratios within a round.
* **Traffic**: a step must read and write every state array: AdamW moves 7 arrays of the parameter's size, each memory adds 2, each
  memory's squares 2 more. Where arrays do not fit the caches, that is a bound on the ratio to compiled AdamW, and it is printed beside it.
* **Special cases**: the largest difference, relative to the largest value, between each preset and the published formula written out.
* **Theorem**: for random banks of real poles, spectral radii of descent on h just below and just above 2 / (L H(−1)).
* **Noise**: the mean coherence of independent normal gradients over its stated value c0, measured and by integration.

The last line is JSON: ratios by size and case, ``special_case_error``, ``theorem_violations``, ``noise_floor_error``.
"""

import collections
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import common
import workers

SIZES = {"1M": (1000, 1000), "10M": (10_000, 1000)}
BANKS: dict[str, dict[str, Any] | None] = {
    "AdamW": None,
    "no gate": {"gate": "none"},
    "gate per coordinate": {},
    "factored": {"second_moment": "factored"},
    "gate per tensor": {"gate": "tensor"},
}
TRAFFIC = {"AdamW": 7, "no gate": 11, "gate per coordinate": 15}
"""Arrays read or written in one pass over the parameter; the other gates need a second pass."""
WAYS = ("eager", "compiled")
MEMORIES = ((0.98, 0.998), (5.0, 20.0))


# ---- time ----


def build(library: str, case: str) -> Callable[[], float]:
    """One step of an optimizer; it returns one of the parameters."""
    import numpy as np

    size, name, way = case.split("/")
    rng = np.random.default_rng(0)
    start, gradient = (rng.standard_normal(SIZES[size]).astype(np.float32) for _ in range(2))
    if library == "torch":
        return _torch(start, gradient, way)
    from autograd import DiffTensor
    from autograd.gradients import chain
    from autograd.optim import Optimizer, adamw
    from hammer.graph import Update
    from hammer.vortex import vortex

    settings = BANKS[name]
    links = [] if settings is None else [vortex(*MEMORIES, **settings)]
    weight = DiffTensor(start, requires_grad=True)
    optimizer = Optimizer([weight], chain(*links, adamw(1e-3)))
    step = optimizer.step if way == "eager" else Update(optimizer, exact=False)

    def run() -> float:
        step([gradient])
        return float(weight.raw[0, 0])

    return run


def _torch(start: Any, gradient: Any, way: str) -> Callable[[], float]:
    import torch

    weight = torch.from_numpy(start).requires_grad_()
    weight.grad = torch.from_numpy(gradient)
    optimizer = torch.optim.AdamW([weight], 1e-3, fused=way == "compiled")

    def run() -> float:
        optimizer.step()
        return float(weight[0, 0].item())

    return run


# ---- exactness ----


def special_cases() -> Iterator[tuple[str, Any, Any]]:
    """Name, h of the preset, h of the formula."""
    import numpy as np

    from hammer.vortex import VortexGrad, presets

    grads = np.random.default_rng(0).standard_normal((300, 50))

    def ours(bank: Any) -> Any:
        transform, params, out = bank(), [np.zeros(50)], []
        state = transform.init(params)
        for g in grads:
            (h,), state = transform.update([g], state, params)
            out.append(np.array(h))
        return np.array(out)

    def over(step: Callable[[Any, int, Any], tuple[Any, Any]], state: Any) -> Any:
        out = []
        for t, g in enumerate(grads, 1):
            h, state = step(g, t, state)
            out.append(h)
        return np.array(out)

    yield "SGD", ours(VortexGrad((), ())), grads

    def ema(g: Any, t: int, m: Any) -> Any:
        m = 0.98 * (g if m is None else m) + 0.02 * g
        return g + 2.0 * m, m

    yield "Grokfast-EMA", ours(presets.grokfast_ema()), over(ema, None)

    def ma(g: Any, t: int, queue: Any) -> Any:
        queue.append(g)
        return (g + 5.0 * sum(queue) / 100 if len(queue) == 100 else g), queue

    yield "Grokfast-MA", ours(presets.grokfast_ma()), over(ma, collections.deque(maxlen=100))

    def ball(g: Any, t: int, v: Any) -> Any:
        return (0.9 * v + g,) * 2

    yield "heavy ball", ours(presets.heavy_ball()), over(ball, 0.0)

    def qhm(g: Any, t: int, m: Any) -> Any:
        m = 0.999 * m + 0.001 * g
        return 0.3 * g + 0.7 * m, m

    yield "QHM", ours(presets.quasi_hyperbolic()), over(qhm, 0.0)

    def aggmo(g: Any, t: int, vs: Any) -> Any:
        vs = [b * v + g for b, v in zip((0.0, 0.9, 0.99), vs, strict=True)]
        return sum(vs) / 3, vs

    yield "AggMo", ours(presets.aggregated()), over(aggmo, [0.0] * 3)

    def mix(g: Any, t: int, both: Any) -> Any:
        fast, slow = 0.9 * both[0] + 0.1 * g, 0.9999 * both[1] + 0.0001 * g
        return fast / (1 - 0.9**t) + 5.0 * slow, (fast, slow)

    yield "AdEMAMix numerator", ours(presets.ademamix()), over(mix, (0.0, 0.0))

    def turning(g: Any, t: int, v: Any) -> Any:
        v = 0.8 * np.exp(1j * np.pi / 8) * v + g
        return v.real, v

    yield "complex momentum", ours(presets.complex_momentum()), over(turning, 0.0)


def theorem(banks: int, seed: int = 0) -> int:
    """How many random banks break the rule: stable for all curvatures below the bound, unstable above it."""
    import numpy as np

    from hammer.vortex import VortexGrad, filters

    rng, broken = np.random.default_rng(seed), 0
    for _ in range(banks):
        count = int(rng.integers(1, 4))
        betas = 1 - 10 ** rng.uniform(-3, 0, count)
        gains = 10 ** rng.uniform(-2, 2, count)
        bank = VortexGrad(
            betas, gains, rng.choice([0.0, 1.0, rng.uniform(0, 3)]), "none", normalize=bool(rng.random() < 0.3)
        )
        largest = 10 ** rng.uniform(-2, 2)
        lr = bank.max_stable_lr(largest)
        radius = lambda part, bank=bank, step=lr * largest: filters.spectral_radius(bank, part * step)
        above = all(radius(part) > 1 for part in (1.001, 1.1, 3.0))
        below = all(radius(part) < 1 + 1e-12 for part in (0.999, *rng.uniform(0, 0.999, 5)))
        broken += not (above and below)
    return broken


def noise(samples: int) -> list[list[Any]]:
    """Rows: decay, steps, E[c] / c0 − 1 of so many normal gradients in all, its standard error, and its exact value."""
    import numpy as np

    from hammer.vortex import VortexGrad

    rng, found = np.random.default_rng(0), []
    for beta, steps in ((0.9, 10), (0.9, 100), (0.98, 50), (0.98, 400), (0.998, 400)):
        count = max(samples // steps, 20_000)
        bank, params = VortexGrad((beta,), (1.0,)), [np.zeros(count)]
        transform = bank()
        state = transform.init(params)
        for _ in range(steps):
            _, state = transform.update([rng.standard_normal(count)], state, params)
        c = bank.coherence(state)[0][0] / bank.noise_floor(0, steps)
        found.append(
            [f"β {beta}, {steps} steps", float(c.mean() - 1), float(c.std() / count**0.5), exactly(beta, steps)]
        )
    return found


def exactly(beta: float, steps: int) -> float:
    """E[c] / c0 − 1 for normal noise: E[m² / v] is the integral of E[m² exp(−l v)] over l, and that a product over gradients."""
    import numpy as np
    from scipy.integrate import quad

    w = beta ** np.arange(steps)
    w /= w.sum()

    def inside(u: float) -> float:
        x = np.exp(u)
        return float(np.exp(-0.5 * np.log1p(2 * x * w).sum()) * (w**2 / (1 + 2 * x * w)).sum() * x)

    return float(quad(inside, -30, 30, limit=500, epsabs=1e-12)[0] / (w**2).sum() - 1)


# ---- the report ----


def main(argv: list[str] | None = None) -> None:
    options = common.parser(__doc__, libraries="ours,torch").parse_args(argv)
    if options.worker:
        workers.serve(options.worker, build)
        return
    sys.path.insert(0, str(workers.ROOT))
    import numpy as np

    sizes, rounds, banks = (["1M"], 7, 1000) if options.quick else ([*SIZES], 25, 10_000)
    ours = [(size, name, way) for size in sizes for name in BANKS for way in WAYS]
    seconds: dict[tuple[str, str, str], list[float]] = collections.defaultdict(list)
    with workers.start(options, __file__) as (running, left_out):
        lines = common.describe(running, left_out, options.threads)
        for size in sizes:
            cases = [(w, c) for w in running for c in ours if c[0] == size and (w == "ours" or c[1] == "AdamW")]
            for library, case in cases:
                running[library].ask("prepare", case="/".join(case), seconds=0.05, checks=1)
            for _ in range(rounds):
                for library, case in cases:
                    took = running[library].ask("time", case="/".join(case))
                    seconds[(size, case[1], case[2]) if library == "ours" else (size, "torch", case[2])].append(took)
                    workers.settled(running.values(), 0.2)
            for library, case in cases:
                running[library].ask("forget", case="/".join(case))

    ratio = lambda a, b: statistics.median(x / y for x, y in zip(seconds[a], seconds[b], strict=True))
    figures: dict[str, Any] = {}
    rows = []
    for size in sizes:
        there: dict[str, Any] = {}
        for name in BANKS:
            for way in WAYS:
                one = (size, name, way)
                bound = TRAFFIC.get(name, 0) / TRAFFIC["AdamW"] if name != "AdamW" and way == "compiled" else None
                beside = {"AdamW eager": (size, "AdamW", "eager"), "AdamW compiled": (size, "AdamW", "compiled")}
                found = {title: ratio(one, base) for title, base in beside.items()}
                torch = [ratio(one, (size, "torch", w)) for w in WAYS if seconds.get((size, "torch", w))]
                rows.append([
                    f"{size}: {name}, {way}", statistics.median(seconds[one]) * 1e3, *found.values(), max(torch, default=None), bound or None
                ])  # fmt: skip
                there[f"{name}, {way}"] = {
                    "ms": statistics.median(seconds[one]) * 1e3, **found, "torch": max(torch, default=None)
                }  # fmt: skip
        rows += [
            [f"{size}: PyTorch AdamW, {'fused' if way == 'compiled' else 'default'}", statistics.median(seconds[size, "torch", way]) * 1e3]
            + [ratio((size, "torch", way), (size, "AdamW", w)) for w in WAYS] + [None, None]
            for way in WAYS if seconds.get((size, "torch", way))
        ]  # fmt: skip
        figures[size] = there
    start = time.monotonic()
    errors = {name: float(np.abs(a - b).max() / np.abs(b).max()) for name, a, b in special_cases()}
    broken, floors = theorem(banks), noise(4_000_000 if options.quick else 40_000_000)
    figures |= {
        "special_case_error": max(errors.values()), "theorem_banks": banks, "theorem_violations": broken,
        "noise_floor_error": max(abs(row[1]) for row in floors), "noise_floor_error_exact": max(abs(row[3]) for row in floors),
    }  # fmt: skip
    head = [
        "case",
        "ms per step",
        "over AdamW eager",
        "over AdamW compiled",
        "over PyTorch's faster AdamW",
        "bound by traffic",
    ]
    lines += ["", *common.table(head, rows), ""]
    lines += [f"Largest relative difference from the published formula, 300 steps: {max(errors.values()):.1e}.", ""]
    lines += common.table(["special case", "difference"], [[k, f"{v:.1e}"] for k, v in errors.items()])
    lines += ["", f"Stability theorem: {broken} violations in {banks:,} random banks of one to three memories.", ""]
    head = ["coherence of noise", "E[c] / c0 − 1", "standard error", "exact, for normal noise"]
    lines += common.table(head, [[name, *(f"{v:+.4f}" for v in values)] for name, *values in floors])
    lines += ["", f"Exactness took {time.monotonic() - start:.0f} s."]
    print("\n".join(lines))
    common.finish(options, "vortex", lines, figures, {"rows": rows, "errors": errors, "noise": floors})


if __name__ == "__main__":
    main()
