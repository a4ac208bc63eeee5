"""Compressed gradients: bytes on the wire, error, final accuracy, and the time of encoding.

* **Training**: a 64-128-10 network on scikit-learn's handwritten digits (1,797 images; 60 % for training, 20 % to choose the
  learning rate, 20 % held out), SGD with momentum 0.9, batches of 32, every gradient through a codec: without error
  feedback, with it, and with EF21. Every entry, the dense one included, has the same tuning: the best of the same learning
  rates by accuracy on the validation part, mean over two seeds; then the held-out accuracy over fresh seeds. A seed draws
  weights, order and the codec's random numbers.
* **Bytes** are those of the payloads that were made, over those of the gradients in float32. **Error** is
  ‖C(g) − g‖ / ‖g‖, the mean over gradients taken along a dense run, each encoded for itself.
* **Time**: to encode and decode a 1024 × 1024 float32 matrix once, beside copying it in NumPy, and beside the same steps
  in PyTorch where it has them (top-k: ``topk``, gather and scatter; low rank: two products, QR, and the product back).

The last line is JSON: for each codec its bytes and error, accuracies by feedback, and times as ratios.
"""

import functools
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import common
import workers

N = 1024
CODECS = {
    "top-k 1 %": ("TopK", 0.01),
    "top-k 10 %": ("TopK", 0.1),
    "random-k 10 %": ("RandomK", 0.1),
    "threshold 0.005": ("Threshold", 0.005),
    "sign": ("Sign",),
    "2 bits": ("Quantize", 2, 128),
    "4 bits": ("Quantize", 4, 128),
    "8 bits": ("Quantize", 8, 512),
    "rank 1": ("PowerSGD", 1),
    "rank 4": ("PowerSGD", 4),
}
MODES = {"none": False, "ef": "ef", "ef21": "ef21"}
RATES = (0.01, 0.05, 0.25)
QUICK = ("top-k 1 %", "top-k 10 %", "sign", "4 bits", "rank 1")
TORCH = ("copy", "top-k 1 %", "top-k 10 %", "rank 1", "rank 4")


def codec_of(name: str) -> Any:
    from autograd.gradients import codecs

    kind, *settings = CODECS[name]
    return getattr(codecs, kind)(*settings)


# ---- time ----


def build(library: str, case: str) -> Callable[[], float]:
    """What one call of a case runs; it returns a number to look at."""
    import numpy as np

    x = np.random.default_rng(0).standard_normal((N, N)).astype(np.float32)
    if library == "torch":
        return _torch(case, x)
    if case == "copy":
        return lambda: float(x.copy()[0, 0])
    codec, rng = codec_of(case), np.random.default_rng(1)
    state = codec.start(x.shape, x.dtype, rng)
    return lambda: float(codec.decode(codec.encode(x, state, rng), x.shape, x.dtype)[0, 0])


def _torch(case: str, x: Any) -> Callable[[], float]:
    import torch

    if case not in TORCH:
        raise workers.Missing("PyTorch has no such operation")
    t = torch.from_numpy(x)
    if case == "copy":
        return lambda: float(t.clone()[0, 0])
    if case.startswith("top"):
        k = -int(-CODECS[case][1] * t.numel() // 1)

        def top() -> float:
            flat = t.reshape(-1)
            places = torch.topk(flat.abs(), k, sorted=False).indices
            out = torch.zeros_like(flat)
            out[places] = flat[places]
            return float(out[0])

        return top
    q = [torch.from_numpy(x[:, : CODECS[case][1]].copy())]

    def low() -> float:
        p = torch.linalg.qr(t @ q[0])[0]
        q[0] = t.T @ p
        return float((p @ q[0].T)[0, 0])

    return low


# ---- training ----


@functools.cache
def digits() -> Any:
    """Images and classes of the three parts."""
    import numpy as np
    from sklearn.datasets import load_digits

    data = load_digits()
    x, y = (data.data / 16.0).astype(np.float32), data.target
    order = np.random.default_rng(2024).permutation(len(x))
    a, b = int(0.6 * len(x)), int(0.8 * len(x))
    return [(x[i], y[i]) for i in np.split(order, [a, b])]


def train(name: str, mode: str, seed: int, lr: float, epochs: int, keep: int = 0) -> dict[str, Any]:
    """One run. Accuracies on the validation and the held-out part (0 where the loss left the floats), and bytes."""
    import numpy as np

    from autograd import gradients as gt
    from autograd import nn, optim

    (x, y), *held = digits()
    weights, order, noise = np.random.SeedSequence(seed).spawn(3)
    rng, shuffle = np.random.default_rng(weights), np.random.default_rng(order)
    model = nn.Sequential(nn.Linear(64, 128, rng=rng), nn.ReLU(), nn.Linear(128, 10, rng=rng))
    links = [] if name == "dense" else [gt.compress(codec_of(name), MODES[mode], noise)]
    optimizer = optim.Optimizer(model.parameters(), gt.chain(*links, optim.sgd(lr, 0.9)))
    loss, gradients = nn.CrossEntropyLoss(), []
    with np.errstate(all="ignore"):  # a rate that is too high is a result
        for _ in range(epochs):
            places = shuffle.permutation(len(x))
            for start in range(0, len(x), 32):
                part = places[start : start + 32]
                optimizer.zero_grad()
                loss(model(x[part]), y[part]).backward()
                if keep and len(gradients) < keep and start % 320 == 0:
                    gradients.append([p.grad for p in model.parameters()])
                optimizer.step()
        scores = [float((model(a).numpy().argmax(1) == b).mean()) for a, b in held]
    if not all(np.isfinite(p.numpy()).all() for p in model.parameters()):
        scores = [0.0, 0.0]
    state = {} if name == "dense" else optimizer.state[0]
    return {
        "validation": scores[0],
        "test": scores[1],
        "bytes": state.get("bytes", 1) / state.get("dense_bytes", 1),
        **({"gradients": gradients} if keep else {}),
    }


@functools.cache
def _gradients() -> list:
    found: list = train("dense", "none", 99, 0.1, 12, keep=40)["gradients"]
    return found


def error(name: str) -> float:
    """The mean relative error of gradients of a dense run."""
    import numpy as np

    codec, rng, found = codec_of(name), np.random.default_rng(3), []
    states = [codec.start(g.shape, g.dtype, rng) for g in _gradients()[0]]
    for grads in _gradients():
        lost = total = 0.0
        for g, state in zip(grads, states, strict=True):
            decoded = codec.decode(codec.encode(g, state, rng), g.shape, g.dtype)
            lost += float(np.sum((decoded - g).astype(float) ** 2))
            total += float(np.sum(g.astype(float) ** 2))
        found.append((lost / total) ** 0.5)
    return statistics.mean(found)


def accuracy(
    worker: Any, name: str, mode: str, seeds: Sequence[int], epochs: int, rates: Sequence[float]
) -> dict[str, Any]:
    """The best rate on the validation part, and with it the held-out accuracies of fresh seeds."""
    run = lambda seed, lr: worker.ask("train", name=name, mode=mode, seed=seed, lr=lr, epochs=epochs)
    lr = rates[0]
    if len(rates) > 1:
        lr = max(rates, key=lambda rate: statistics.mean(run(seed, rate)["validation"] for seed in (1000, 1001)))
    runs = [run(seed, lr) for seed in seeds]
    scores = [r["test"] for r in runs]
    return {
        "lr": lr,
        "accuracy": statistics.mean(scores),
        "spread": statistics.stdev(scores),
        "scores": scores,
        "bytes": statistics.mean(r["bytes"] for r in runs),
    }


# ---- the report ----


def main(argv: list[str] | None = None) -> None:
    p = common.parser(__doc__, threads=1, libraries="ours,torch")
    options = p.parse_args(argv)
    if options.worker:
        workers.serve(options.worker, build, train=train, error=error)
        return
    start = time.monotonic()
    names = QUICK if options.quick else tuple(CODECS)
    seeds, epochs, rates = (range(2), 3, RATES[1:2]) if options.quick else (range(5), 10, RATES)
    results: dict[str, dict[str, Any]] = {}
    with workers.start(options, __file__) as (running, left_out):
        if "ours" not in running:
            raise SystemExit("--libraries must have ours in it")
        lines = common.describe(running, left_out, options.threads)
        print("\n".join(lines), flush=True)
        values, _ = workers.prepare(running, ("copy", *names), 0.02)
        seconds = workers.interleave(running, values, 5 if options.quick else 15, start + (8 if options.quick else 40))
        worker = running["ours"]
        dense = accuracy(worker, "dense", "none", seeds, epochs, rates)
        for name in names:
            modes = {mode: accuracy(worker, name, mode, seeds, epochs, rates) for mode in MODES}
            results[name] = {"error": worker.ask("error", name=name), "modes": modes}
            print(f"{name}: " + ", ".join(f"{mode} {r['accuracy']:.4f}" for mode, r in modes.items()), flush=True)
    milliseconds = common.medians(seconds, 1e3)
    figures: dict[str, Any] = {"dense_accuracy": round(dense["accuracy"], 4), "codecs": {}}
    rows: list[list[Any]] = [["dense", 1.0, 0.0, _shown(dense), "–", "–"]]
    times: list[list[Any]] = []
    for name, found in results.items():
        modes, there = found["modes"], seconds[name]
        sent = modes["ef"]["bytes"]
        rows.append([name, sent, found["error"], *(_shown(modes[m]) for m in ("none", "ef", "ef21"))])
        beside = common.ratio({"a": there["ours"], "b": seconds["copy"]["ours"]}, "a", "b")
        torch = common.ratio(there, "ours", "torch") if "torch" in there else None
        times.append([name, milliseconds[name]["ours"], beside, milliseconds[name].get("torch"), torch])
        figures["codecs"][name] = {
            "bytes": round(sent, 5),
            "error": round(found["error"], 4),
            "accuracy": {m: round(r["accuracy"], 4) for m, r in modes.items()},
            "time_over_copy": round(beside, 2),
            "time_over_torch": None if torch is None else round(torch, 3),
        }
    figures["seconds"] = round(time.monotonic() - start, 1)
    body = [
        "",
        f"Held-out accuracy in per cent, mean ± standard deviation over {len(seeds)} seeds (and the learning rate that was chosen), "
        f"{epochs} epochs. Bytes: share of the dense gradients', with error feedback. Error: of a single gradient.",
        "",
        *common.table(["codec", "bytes", "error", "no feedback", "error feedback", "EF21"], rows),
        "",
        f"A spread of one standard deviation over seeds is about {100 * dense['spread']:.1f} points for dense gradients, and one image "
        f"of the held-out part is {100 / len(digits()[2][1]):.2f}: smaller differences mean nothing.",
        "",
        f"Encode and decode a {N} × {N} float32 matrix, milliseconds; copying it takes {milliseconds['copy']['ours']:.3g} ms.",
        "",
        *common.table(["codec", "Hammer", "beside a NumPy copy", "PyTorch", "Hammer / PyTorch"], times),
    ]
    print("\n".join(body))
    common.finish(
        options,
        "compression",
        lines + body,
        figures,
        {"dense": dense, "results": results, "milliseconds": milliseconds},
    )


def _shown(run: dict[str, Any]) -> str:
    return f"{100 * run['accuracy']:.1f} ± {100 * run['spread']:.1f} ({run['lr']:g})"


if __name__ == "__main__":
    sys.exit(main())
