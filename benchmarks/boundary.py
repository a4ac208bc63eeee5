"""Grids of whole trainings, beside PyTorch (``torch.func.vmap``) and JAX (``vmap`` and ``jit``).

The program is that of the boundary of trainability (Sohl-Dickstein 2024): a network of one hidden tanh layer of 16 units, 272 weights and 272
examples, float64, full-batch gradient descent for 100 steps, on a grid of 128 × 128 pairs of learning rates from 10⁻³ to 10⁶. Every
library computes the loss of one network, differentiates it, and maps the step over networks: Hammer by ``hammer.fractal.boundary``, JAX as
one jitted scan, PyTorch step by step, as it runs.

What is measured is network-trainings per second, on networks drawn evenly from the grid (512 of them; with ``--quick`` 128, and 20 steps),
since networks cost the same wherever they are. Each library first chooses what suits it: how many networks it trains together, JAX also in how many threads, and
how the network is written (the output layer as a product of matrices, as a sum of products, or that with an example a column). Then blocks of all libraries take turns; ratios are medians within
rounds. Which networks converged must agree between libraries, but for one in fifty (near the boundary rounding decides).

``--grid`` also times Hammer on the whole grid once. The last line is JSON: trainings per second by library, and how many times as many
Hammer makes as each peer.
"""

import functools
import itertools
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import common
import workers

WIDTH, STEPS, TAIL, PIXELS = 16, 100, 20, 128
TITLE = f"width {WIDTH}, tanh"
FORMS = ("product", "sum", "columns")
SIZES = {"ours": (8, 16, 32), "jax": (16, 32, 128), "torch": (128, 512)}
FEW, TRIES = 10, 5


def problem(form: str) -> tuple[Any, ...]:
    """Inputs, targets and the first weights: x (n, width), y (n,), w0 (width, width), w1 (width,)."""
    import numpy as np

    rng = np.random.default_rng(0)
    n = WIDTH * WIDTH + WIDTH
    x, y, w0, w1 = (rng.standard_normal(shape) for shape in ((n, WIDTH), (n,), (WIDTH, WIDTH), (WIDTH,)))
    return x, y, np.ascontiguousarray(w0.T) if form == "columns" else w0, w1


def rates(networks: int) -> tuple[Any, Any]:
    """Learning rates of networks drawn evenly from the grid."""
    import numpy as np

    place = np.random.default_rng(1).permutation(PIXELS * PIXELS)[:networks]
    axis = 10.0 ** np.linspace(-3, 6, PIXELS)
    return axis[place % PIXELS], axis[place // PIXELS]


def loss_of(form: str, x: Any, y: Any, tanh: Callable, matmul: Callable, total: Callable, mean: Callable) -> Callable:
    """The loss of one network, in any library."""
    scale = WIDTH**-0.5
    columns = x.T

    def loss(params: tuple) -> Any:
        if form == "columns":  # an example is a column, and the weights are transposed: long axes lie in memory
            hidden = tanh(matmul(params[0], columns) * (2.0**0.5 * scale))
            out = total(hidden * params[1].reshape((WIDTH, 1)), 0)
        else:
            hidden = tanh(matmul(x, params[0]) * (2.0**0.5 * scale))
            out = matmul(hidden, params[1]) if form == "product" else total(hidden * params[1], -1)
        return mean((out * scale - y) ** 2)

    return loss


Trainer = Callable[[Any, Any], Any]
"""A function of the learning rates that returns the losses, (steps, networks)."""


def ours(form: str, size: int, steps: int, threads: int) -> Trainer:
    from autograd import ops
    from hammer.fractal import Trainings, descent

    x, y, w0, w1 = problem(form)
    loss = loss_of(form, x, y, ops.tanh, ops.matmul, lambda a, axis: ops.sum(a, axis=axis), ops.mean)
    return Trainings(descent(loss, (w0, w1), steps, min(TAIL, steps)), size, threads=threads).losses


@functools.cache
def jax(form: str, steps: int) -> Trainer:
    import jax
    import jax.numpy as jnp
    import numpy as np

    jax.config.update("jax_enable_x64", True)
    x, y, w0, w1 = map(jnp.asarray, problem(form))
    loss = loss_of(form, x, y, jnp.tanh, jnp.matmul, jnp.sum, jnp.mean)

    def train(a: Any, b: Any) -> Any:
        def step(p: tuple, _: None) -> tuple:
            value, g = jax.value_and_grad(loss)(p)
            return (p[0] - a * g[0], p[1] - b * g[1]), value

        return jax.lax.scan(step, (w0, w1), None, length=steps)[1]

    together = jax.jit(jax.vmap(train, out_axes=1))
    return lambda a, b: np.asarray(together(a, b))


def torch(form: str, steps: int) -> Trainer:
    import numpy as np
    import torch as library

    x, y, w0, w1 = map(library.from_numpy, problem(form))
    loss = loss_of(form, x, y, library.tanh, library.matmul, library.sum, library.mean)

    def step(p: tuple, a: Any, b: Any) -> tuple:
        g, value = library.func.grad_and_value(loss)(p)
        return (p[0] - a * g[0], p[1] - b * g[1]), value

    together = library.func.vmap(step)

    def train(a: Any, b: Any) -> Any:
        a, b = library.from_numpy(a), library.from_numpy(b)
        p = w0.expand(len(a), *w0.shape), w1.expand(len(a), *w1.shape)
        losses = []
        for _ in range(steps):
            p, value = together(p, a, b)
            losses.append(value)
        return np.stack([v.numpy() for v in losses])

    return train


def in_chunks(train: Trainer, size: int, threads: int) -> Trainer:
    """All networks, ``size`` at a time, by so many threads."""
    import numpy as np

    def all_of_them(a: Any, b: Any) -> Any:
        parts = [(a[i : i + size], b[i : i + size]) for i in range(0, len(a), size)]
        if min(threads, len(parts)) == 1:
            return np.concatenate([train(*part) for part in parts], axis=1)
        with ThreadPoolExecutor(threads) as pool:
            return np.concatenate(list(pool.map(lambda part: train(*part), parts)), axis=1)

    return all_of_them


def trainer(library: str, form: str, size: int, threads: int, steps: int) -> Trainer:
    """A library's way of training any number of networks."""
    if library == "ours":
        return ours(form, size, steps, threads)
    return in_chunks({"jax": jax, "torch": torch}[library](form, steps), size, threads)


def choose(library: str, networks: int, steps: int, threads: int) -> dict[str, Any]:
    """Choose how a library trains these networks, and do so once. Returns what was chosen and which networks converged."""
    global _RUN
    import numpy as np

    a, b = rates(networks)
    sizes = [s for s in SIZES[library] if s <= networks] or [networks]
    if library == "torch":
        sizes = sizes[-1:]  # the more the better, up to all of these, as trials showed; and it takes long
    seconds: dict[tuple[str, int, int], float] = {}
    for form, size, many in itertools.product(
        FORMS, sizes, {"ours": (threads,), "jax": (1, threads), "torch": (1,)}[library]
    ):
        short = trainer(library, form, size, many, FEW)
        few = (a[: max(sizes[-1], 128)], b[: max(sizes[-1], 128)])
        short(*few)
        tries = []
        for _ in range(TRIES):
            start = time.perf_counter()
            short(*few)
            tries.append(time.perf_counter() - start)
        seconds[form, size, many] = min(tries)
    form, size, many = min(seconds, key=seconds.__getitem__)
    train = trainer(library, form, size, many, steps)
    _RUN = lambda: train(a, b)
    with np.errstate(all="ignore"):
        losses = _RUN()
        ratio = (losses / losses[0])[-min(TAIL, steps) :].mean(axis=0)
    chosen = {"form": form, "together": size, "threads": many}
    return {**chosen, "converged": (ratio < 1).tolist(), "tried": [[*k, v] for k, v in seconds.items()]}


_RUN: Callable[[], Any] | None = None


def block() -> float:
    """Seconds for all networks once."""
    assert _RUN is not None
    start = time.perf_counter()
    _RUN()
    return time.perf_counter() - start


def whole_grid(form: str, together: int, threads: int) -> float:
    """Seconds of Hammer for the grid of 128 × 128 trainings."""
    from autograd import ops
    from hammer.fractal import Axis, Grid, boundary, descent

    x, y, w0, w1 = problem(form)
    loss = loss_of(form, x, y, ops.tanh, ops.matmul, lambda a, axis: ops.sum(a, axis=axis), ops.mean)
    start = time.perf_counter()
    boundary(descent(loss, (w0, w1), STEPS), Grid(Axis(-3, 6), Axis(-3, 6), PIXELS), chunk=together, threads=threads)
    return time.perf_counter() - start


def agree(converged: dict[str, list[bool]]) -> None:
    """Which networks converged must be nearly the same for all libraries, or the times compare different work."""
    first = next(iter(converged))
    for library, found in converged.items():
        other = sum(a != b for a, b in zip(found, converged[first], strict=True))
        if other > max(1, len(found) // 50):
            raise AssertionError(f"{library} and {first} disagree on {other} of {len(found)} networks")


def summarise(
    seconds: dict[str, list[float]], networks: int, chosen: dict[str, dict[str, Any]]
) -> tuple[dict[str, Any], list[str]]:
    """The figures of the last line, and the table's lines."""
    per_second = {library: networks / statistics.median(s) for library, s in seconds.items()}
    ratios = {
        library: statistics.median(theirs / ours for theirs, ours in zip(s, seconds["ours"], strict=True))
        for library, s in seconds.items()
        if library != "ours" and "ours" in seconds
    }
    rows = [
        [
            workers.TITLES[library] if library != "torch" else "PyTorch (vmap)", per_second[library], ratios.get(library),
            chosen[library]["form"], str(chosen[library]["together"]), str(chosen[library]["threads"]),
        ]
        for library in seconds
    ]  # fmt: skip
    lines = [
        "",
        *common.table(
            [
                "library",
                "trainings per second",
                "Hammer makes × as many",
                "written as",
                "networks together",
                "chunks at a time",
            ],
            rows,
        ),
        "",
    ]
    figures = {
        "trainings_per_second": {k: float(f"{v:.4g}") for k, v in per_second.items()},
        "ratio": {k: round(v, 3) for k, v in ratios.items()},
        "ratio_to_faster_peer": round(min(ratios.values()), 3) if ratios else None,
    }
    return figures, lines


def main(argv: list[str] | None = None) -> None:
    p = common.parser(__doc__, libraries="ours,jax,torch")
    p.add_argument("--rounds", type=int, help="rounds of blocks (default: 5, with --quick 3)")
    p.add_argument("--grid", action="store_true", help="also time Hammer on the whole grid once")
    options = p.parse_args(argv)
    if options.worker:
        workers.serve(
            options.worker,
            lambda library, case: lambda: 0.0,
            choose=lambda networks, steps: choose(options.worker, networks, steps, options.threads),
            block=block,
            grid=whole_grid,
        )
        return
    networks, steps = (128, 20) if options.quick else (512, STEPS)
    with workers.start(options, __file__, ["--threads", str(options.threads)]) as (running, left_out):
        lines = common.describe(running, left_out, options.threads)
        print("\n".join(lines), flush=True)
        chosen = {library: worker.ask("choose", networks=networks, steps=steps) for library, worker in running.items()}
        agree({library: c.pop("converged") for library, c in chosen.items()})
        tried = {library: c.pop("tried") for library, c in chosen.items()}
        seconds: dict[str, list[float]] = {library: [] for library in running}
        for r in range(options.rounds or (3 if options.quick else 5)):
            order = list(running)
            for library in order[r % len(order) :] + order[: r % len(order)]:
                workers.settled(running.values())
                seconds[library].append(running[library].ask("block"))
        figures, rows = summarise(seconds, networks, chosen)
        if options.grid and "ours" in running:
            figures["grid_seconds"] = round(running["ours"].ask("grid", **chosen["ours"]), 2)
            rows.append(
                f"The whole grid of {PIXELS} × {PIXELS} trainings of {STEPS} steps: {figures['grid_seconds']} s with Hammer."
            )
    said = f"{TITLE}: {networks} networks of the grid, {steps} steps of full-batch gradient descent, float64; {len(next(iter(seconds.values())))} rounds."
    print("\n".join([said, *rows]))
    details = {
        "seconds": seconds,
        "chosen": chosen,
        "tried: form, together, threads, seconds of a few steps": tried,
        "left_out": left_out,
        "networks": networks,
        "steps": steps,
    }
    common.finish(options, "boundary", [*lines, "", said, *rows], figures, details)


if __name__ == "__main__":
    main()
