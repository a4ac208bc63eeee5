"""The ten workloads of ``compiled_step``: sizes, initial values and data, equal for all libraries.

Seven are models: one step is forward, mean softmax cross-entropy, backward and an SGD update of the parameters. Three are
functions: one step is the value and the gradient with respect to its inputs. What they compute is written twice: with the
layers of PyTorch's kind in ``workloads_layers`` (Hammer, PyTorch), and as formulas in ``workloads_formulas`` (JAX, MyGrad, HIPS).

This file needs NumPy alone, because all workers read it.
"""

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

MLPS = {
    "mlp_tiny": ((64, 64, 64, 10), 32),
    "mlp_small": ((784, 256, 256, 10), 128),
    "mlp_wide": ((784, 2048, 2048, 10), 512),
}
LSTM = {"steps": 64, "batch": 32, "inputs": 64, "hidden": 128, "classes": 10}
TRANSFORMER = {"batch": 8, "length": 128, "width": 128, "heads": 4, "inner": 512, "layers": 2, "classes": 64}
SSM = {"batch": 8, "steps": 1024, "channels": 64, "classes": 10}
FUNCTIONS = ("chain", "softmax_cross_entropy", "layer_norm")
WORKLOADS = (*MLPS, "cnn", "lstm", "transformer", "ssm", *FUNCTIONS)
ABOUT = {
    "mlp_tiny": "MLP 64-64-64-10 with ReLU, batch 32",
    "mlp_small": "MLP 784-256-256-10, batch 128",
    "mlp_wide": "MLP 784-2048-2048-10, batch 512",
    "cnn": "conv 3×3 (1→32), ReLU, conv 3×3 (32→64), ReLU, max-pool 2, linear 128, ReLU, linear 10 on 28×28, batch 64",
    "lstm": "LSTM of 64 inputs and 128 hidden units over 64 steps, batch 32; linear 10 on the last state",
    "transformer": "2 encoder layers (post-norm, ReLU), width 128, 4 heads, inner width 512, 128 tokens, causal, batch 8; linear 64 on each token",
    "ssm": "diagonal state-space model of 64 channels over 1,024 steps, batch 8: h ← σ(α) h + b x, y = c h + d x; linear 10 on the mean of y",
    "chain": "mean of a chain of 12 elementwise operations on 10⁶ numbers",
    "softmax_cross_entropy": "mean cross-entropy of 512 rows of 32,768 scores",
    "layer_norm": "mean of a fixed array times LayerNorm of 4096×1024, gradient also of weight and bias",
}
RATE = 0.05


@dataclass
class Problem:
    """What is trained, or differentiated with respect to; and the constants that the loss is given beside it."""

    weights: list[Any]
    data: tuple[Any, ...]

    @property
    def compulsory_bytes(self) -> int:
        """What any program must read or write once, with no cache: all inputs, and the new weights or the gradients."""
        return sum(a.nbytes for a in (*self.weights, *self.data, *self.weights))


@dataclass
class Step:
    """A workload in a library.

    ``run()`` makes one step and returns the loss before it. ``state()`` is what the libraries are compared by: the weights
    as they are now, or the gradients of the last step, as NumPy arrays. ``note`` says how the library does it, where there
    are several ways.
    """

    run: Callable[[], Any]
    state: Callable[[], list[Any]]
    note: str = ""


def fastest(ways: Sequence[tuple[str, Callable[[], Step]]]) -> Step:
    """The fastest of several ways in which a library can make a step, made anew."""
    seconds = []
    for _, make in ways:
        step, times = make(), []
        step.run()
        for _ in range(3):
            start = time.perf_counter()
            step.run()
            times.append(time.perf_counter() - start)
        seconds.append(min(times))
    note, make = ways[seconds.index(min(seconds))]
    step = make()
    step.note = note
    return step


def _random(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape, dtype=np.float32)


def _linear(rng: np.random.Generator, outputs: int, *inputs: int) -> list[np.ndarray]:
    """Weight and bias; PyTorch's scale of the weight."""
    bound = (3 * int(np.prod(inputs))) ** -0.5
    return [_random(rng, outputs, *inputs) * np.float32(bound), 0.01 * _random(rng, outputs)]


def problem(workload: str) -> Problem:
    """Weights in the order in which PyTorch lists the model's parameters, and data."""
    rng = np.random.default_rng(11)
    if workload in MLPS:
        sizes, batch = MLPS[workload]
        weights = [w for m, n in itertools.pairwise(sizes) for w in _linear(rng, n, m)]
        return Problem(weights, (_random(rng, batch, sizes[0]), rng.integers(0, 10, batch)))
    if workload == "cnn":
        weights = [*_linear(rng, 32, 1, 3, 3), *_linear(rng, 64, 32, 3, 3), *_linear(rng, 128, 9216), *_linear(rng, 10, 128)]  # fmt: skip
        return Problem(weights, (_random(rng, 64, 1, 28, 28), rng.integers(0, 10, 64)))
    if workload == "lstm":
        p = LSTM
        (w_x, b_x), (w_h, b_h) = (_linear(rng, 4 * p["hidden"], m) for m in (p["inputs"], p["hidden"]))
        weights = [w_x, w_h, b_x, b_h, *_linear(rng, p["classes"], p["hidden"])]
        data = _random(rng, p["steps"], p["batch"], p["inputs"]), rng.integers(0, p["classes"], p["batch"])
        return Problem(weights, data)
    if workload == "transformer":
        p, weights = TRANSFORMER, []
        width = p["width"]
        for _ in range(p["layers"]):
            for n, m in ((3 * width, width), (width, width), (p["inner"], width), (width, p["inner"])):
                weights += _linear(rng, n, m)
            weights += [np.ones(width, np.float32), np.zeros(width, np.float32)] * 2
        weights = [w.copy() for w in weights] + _linear(rng, p["classes"], width)
        x = _random(rng, p["batch"], p["length"], width)
        return Problem(weights, (x, rng.integers(0, p["classes"], p["batch"] * p["length"])))
    if workload == "ssm":
        p = SSM
        n = p["channels"]
        decay = np.linspace(1.0, 5.0, n, dtype=np.float32)
        weights = [decay, *(0.5 * _random(rng, n) for _ in range(3)), *_linear(rng, p["classes"], n)]
        return Problem(weights, (_random(rng, p["batch"], p["steps"], n), rng.integers(0, p["classes"], p["batch"])))
    if workload == "chain":
        return Problem([_random(rng, 1_000_000)], ())
    if workload == "softmax_cross_entropy":
        return Problem([_random(rng, 512, 32768)], (rng.integers(0, 32768, 512),))
    if workload == "layer_norm":
        weight = 1 + 0.1 * _random(rng, 1024)
        return Problem([_random(rng, 4096, 1024), weight, 0.1 * _random(rng, 1024)], (_random(rng, 4096, 1024),))
    raise ValueError(f"there is no workload {workload!r}; choose from {', '.join(WORKLOADS)}")


def chain(of: Any, x: Any) -> Any:
    """Twelve elementwise operations (numbered), then the mean; ``of`` has them as functions."""
    b = x * 0.5 + 0.25  # 1, 2
    c = of.tanh(b)  # 3
    d = c * x  # 4
    e = d - b  # 5
    h = of.sqrt(e * e + 1.0)  # 6, 7, 8
    k = of.exp(c / h) * d  # 9, 10, 11
    return of.mean(of.relu(k))  # 12
