"""Milliseconds per training step, beside PyTorch, JAX, MyGrad and HIPS autograd.

What is measured: one full step in float32, that is forward, softmax cross-entropy (mean), backward and SGD update, on

* ``mlp_tiny``: 64-64-64-10, batch 32;  ``mlp_small``: 784-256-256-10, batch 128;  ``mlp_wide``: 784-2048-2048-10, batch 512;
* ``cnn``: conv 3×3 (1→32), ReLU, conv 3×3 (32→64), ReLU, max-pool 2, linear 128, ReLU, linear 10 on 28×28, batch 64.

How: every library is used in its own idiom (modules and an optimizer where it has them, ``jit`` with donated parameters in
JAX), in a process of its own with the same number of threads, from the same weights on the same batch. First the losses of
the first four steps are compared, so that all do the same work. Then short blocks of all libraries are interleaved (see
``workers``), each after a pause in which the other library's threads fall asleep, and an untimed step. HIPS autograd
has no convolution layer, so it is left out of ``cnn``.

Run it as ``env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE python benchmarks/training_step.py`` (overrides of OpenBLAS's own
choice slow down NumPy's matrix products on some machines; the script prints the kernel in use), on a quiet machine.

The last line is JSON: ``{workload: {library: milliseconds}}``, medians over rounds (of the fastest part of each block).
"""

import itertools
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import common
import workers

MLPS = {
    "mlp_tiny": ((64, 64, 64, 10), 32),
    "mlp_small": ((784, 256, 256, 10), 128),
    "mlp_wide": ((784, 2048, 2048, 10), 512),
}
WORKLOADS = (*MLPS, "cnn")
RATE, STEPS_CHECKED = 0.05, 4


def problem(workload: str) -> tuple[list[Any], Any, Any]:
    """Weights (weight, bias, weight, bias, …; linear weights are (out, in)), inputs and labels: equal for all libraries."""
    import numpy as np

    rng = np.random.default_rng(11)
    if workload == "cnn":
        shapes, x = (
            [(32, 1, 3, 3), (64, 32, 3, 3), (128, 64 * 12 * 12), (10, 128)],
            rng.standard_normal((64, 1, 28, 28)),
        )
    else:
        sizes, batch = MLPS[workload]
        shapes, x = [(n, m) for m, n in itertools.pairwise(sizes)], rng.standard_normal((batch, sizes[0]))
    weights: list[Any] = []
    for shape in shapes:
        fan_in = int(np.prod(shape[1:]))
        weights += [rng.standard_normal(shape) * (3 * fan_in) ** -0.5, 0.01 * rng.standard_normal(shape[0])]
    return [w.astype(np.float32) for w in weights], x.astype(np.float32), rng.integers(0, 10, len(x))


def build(library: str, workload: str) -> Callable[[], Any]:
    """A function that makes one training step and returns the loss before it."""
    weights, x, labels = problem(workload)
    return getattr(sys.modules[__name__], f"_{library}")(workload == "cnn", weights, x, labels)


def _ours(cnn: bool, weights: list[Any], x: Any, labels: Any) -> Callable[[], Any]:
    from autograd import DiffTensor, nn, optim

    if cnn:
        layers = [
            nn.Conv2d(1, 32, 3),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(9216, 128),
            nn.ReLU(),
            nn.Linear(128, 10),
        ]
    else:
        layers = [layer for w in weights[::2] for layer in (nn.Linear(*w.shape[::-1]), nn.ReLU())][:-1]
    model = nn.Sequential(*layers)
    model.load_state_dict(dict(zip(model.state_dict(), weights, strict=True)))
    loss_of, optimizer = nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=RATE)
    inputs, targets = DiffTensor(x), DiffTensor(labels)

    def step() -> Any:
        optimizer.zero_grad()
        loss = loss_of(model(inputs), targets)
        loss.backward()
        optimizer.step()
        return loss

    return step


def _torch(cnn: bool, weights: list[Any], x: Any, labels: Any) -> Callable[[], Any]:
    import torch
    from torch import nn

    if cnn:
        layers = [
            nn.Conv2d(1, 32, 3),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(9216, 128),
            nn.ReLU(),
            nn.Linear(128, 10),
        ]
    else:
        layers = [layer for w in weights[::2] for layer in (nn.Linear(*w.shape[::-1]), nn.ReLU())][:-1]
    model = nn.Sequential(*layers)
    with torch.no_grad():
        for parameter, w in zip(model.parameters(), weights, strict=True):
            parameter.copy_(torch.from_numpy(w))
    loss_of, optimizer = nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), lr=RATE)
    inputs, targets = torch.from_numpy(x), torch.from_numpy(labels)

    def step() -> Any:
        optimizer.zero_grad()
        loss = loss_of(model(inputs), targets)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def _jax(cnn: bool, weights: list[Any], x: Any, labels: Any) -> Callable[[], Any]:
    import jax
    import jax.numpy as jnp
    from jax import lax

    def convolved(h: Any, w: Any, b: Any) -> Any:
        return (
            lax.conv_general_dilated(h, w, (1, 1), "VALID", dimension_numbers=("NCHW", "OIHW", "NCHW"))
            + b[:, None, None]
        )

    def loss_of(p: list[Any], h: Any, targets: Any) -> Any:
        if cnn:
            h = jax.nn.relu(convolved(h, p[0], p[1]))
            h = jax.nn.relu(convolved(h, p[2], p[3]))
            h = lax.reduce_window(h, -jnp.inf, lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID").reshape(len(h), -1)
            p = p[4:]
        for w, b in zip(p[:-2:2], p[1:-2:2], strict=True):
            h = jax.nn.relu(h @ w.T + b)
        logs = jax.nn.log_softmax(h @ p[-2].T + p[-1])
        return -jnp.mean(jnp.take_along_axis(logs, targets[:, None], axis=1))

    def update(p: list[Any], h: Any, targets: Any) -> Any:
        loss, g = jax.value_and_grad(loss_of)(p, h, targets)
        return loss, [a - RATE * d for a, d in zip(p, g, strict=True)]

    jitted = jax.jit(update, donate_argnums=0)
    parameters, inputs, targets = [jnp.array(w) for w in weights], jnp.asarray(x), jnp.asarray(labels)

    def step() -> Any:
        nonlocal parameters
        loss, parameters = jitted(parameters, inputs, targets)
        jax.block_until_ready(parameters)
        return loss

    return step


def _mygrad(cnn: bool, weights: list[Any], x: Any, labels: Any) -> Callable[[], Any]:
    import mygrad as mg
    from mygrad.nnet.activations import relu
    from mygrad.nnet.layers import conv_nd, max_pool
    from mygrad.nnet.losses import softmax_crossentropy

    parameters = [mg.tensor(w) for w in weights]

    def loss_of(h: Any) -> Any:
        p = parameters
        if cnn:
            h = relu(conv_nd(h, p[0], stride=1) + p[1].reshape(-1, 1, 1))
            h = relu(conv_nd(h, p[2], stride=1) + p[3].reshape(-1, 1, 1))
            h = max_pool(h, (2, 2), 2).reshape(len(x), -1)
            p = p[4:]
        for w, b in zip(p[:-2:2], p[1:-2:2], strict=True):
            h = relu(h @ w.T + b)
        return softmax_crossentropy(h @ p[-2].T + p[-1], labels)

    def step() -> Any:
        loss = loss_of(x)
        loss.backward()
        for p in parameters:
            p.data -= RATE * p.grad
        return loss

    return step


def _hips(cnn: bool, weights: list[Any], x: Any, labels: Any) -> Callable[[], Any]:
    if cnn:
        raise workers.Missing("HIPS autograd has no convolution layer")
    from autograd import numpy as np
    from autograd import value_and_grad

    rows = np.arange(len(labels))

    def loss_of(p: list[Any]) -> Any:
        h = x
        for w, b in p[:-1]:
            h = np.maximum(np.dot(h, w.T) + b, 0)
        w, b = p[-1]
        z = np.dot(h, w.T) + b
        z = z - np.max(z, axis=1, keepdims=True)
        return np.mean(np.log(np.sum(np.exp(z), axis=1)) - z[rows, labels])

    both = value_and_grad(loss_of)
    parameters = list(zip(weights[::2], weights[1::2], strict=True))

    def step() -> Any:
        nonlocal parameters
        loss, g = both(parameters)
        parameters = [(w - RATE * dw, b - RATE * db) for (w, b), (dw, db) in zip(parameters, g, strict=True)]
        return loss

    return step


def agree(values: dict[str, dict[str, list[float]]]) -> None:
    """All libraries must have found the same losses in the first steps, or the times compare different work."""
    for workload, there in values.items():
        first = next(iter(there), None)
        for library, found in there.items():
            for i, (a, b) in enumerate(zip(found, there[first or library], strict=True)):
                if not abs(a - b) <= 1e-4 * abs(b):
                    raise AssertionError(f"{workload}, step {i}: the loss of {library} is {a}, that of {first} {b}")


def _spread(seconds: list[float]) -> float:
    """Upper quartile by lower quartile."""
    low, _, high = statistics.quantiles(seconds, n=4) if len(seconds) > 1 else seconds * 3
    return high / low


def summarise(seconds: dict[str, dict[str, list[float]]]) -> tuple[dict[str, dict[str, float]], list[str]]:
    """The figures of the last line, and the table's lines."""
    times = common.medians(seconds, 1e3)
    libraries = [library for library in workers.LIBRARIES if any(library in there for there in times.values())]
    peers = [library for library in libraries if library != "ours"]
    rows = []
    for workload, there in seconds.items():
        ratios = [common.ratio(there, "ours", peer) if {"ours", peer} <= there.keys() else None for peer in peers]
        spread = max((_spread(s) for s in there.values()), default=1.0)
        rows.append([workload, *(times[workload].get(library) for library in libraries), *ratios, spread])
    header = [
        "workload",
        *(workers.TITLES[library] for library in libraries),
        *(f"ours/{peer}" for peer in peers),
        "spread",
    ]
    lines = ["", "Milliseconds per step (medians); ratios (medians within rounds; below 1 Hammer is faster); the widest ratio of", "upper to lower quartile among the libraries, which says how quiet the machine was.", "", *common.table(header, rows)]  # fmt: skip
    return {
        workload: {library: float(f"{t:.4g}") for library, t in there.items()} for workload, there in times.items()
    }, lines


def main(argv: list[str] | None = None) -> None:
    p = common.parser(__doc__)
    p.add_argument("--rounds", type=int, help="rounds of blocks (default: 25, with --quick 7)")
    p.add_argument("--workloads", default=",".join(WORKLOADS), help="which workloads (default: %(default)s)")
    options = p.parse_args(argv)
    if options.worker:
        workers.serve(options.worker, build)
        return
    start = time.monotonic()
    with workers.start(options, __file__) as (running, left_out):
        lines = common.describe(running, left_out, options.threads)
        print("\n".join(lines), flush=True)
        values, more = workers.prepare(
            running, options.workloads.split(","), 0.02 if options.quick else 0.1, STEPS_CHECKED
        )
        agree(values)
        rounds = options.rounds or (7 if options.quick else 25)
        seconds = workers.interleave(running, values, rounds, start + (30 if options.quick else 1200), pause=0.03)
    figures, rows = summarise(seconds)
    rows = [*(f"Left out: {what} ({reason})." for what, reason in more.items()), *rows]
    print("\n".join(rows))
    details = {
        "losses of the first steps": values,
        "fastest rounds": {w: {library: min(t) * 1e3 for library, t in there.items()} for w, there in seconds.items()},
        "rounds": len(next(iter(next(iter(seconds.values())).values()))),
        "left_out": left_out | more,
    }
    common.finish(options, "training_step", lines + rows, figures, details)


if __name__ == "__main__":
    main()
