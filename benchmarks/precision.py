"""Mixed precision: accuracy, what is kept for the backward pass, and time, beside PyTorch's autocast on the CPU.

* **Accuracy** on held-out data after training in fp32, fp16 (with dynamic loss scaling) and bf16 from the same seeds: an MLP
  64-128-128-10 on the 8×8 digits (Adam), and a CNN (conv 8, batch normalisation, ReLU, max-pool, conv 16, ReLU, max-pool, linear)
  on 1,500 MNIST digits. The mean difference to fp32 comes with its standard error over seeds, paired.
* **Bytes** that are kept for the backward pass of ``mlp_wide`` and ``cnn`` of ``training_step.py`` (which see): in all, and
  without the parameters and the batch, which are there anyway.
* **Milliseconds** of a full training step of the two, and of the same step in PyTorch with ``torch.autocast("cpu", bfloat16)``;
  libraries in processes of their own, in turn.

This is a CPU without units for half precision: products are computed by float32 BLAS on rounded numbers, so what half
precision costs here is rounding, and what it gains is memory. PyTorch's bfloat16 has kernels of its own.

Run it as ``env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE python benchmarks/precision.py``. The last line is JSON.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import common
import training_step
import workers

POLICIES = ("fp32", "fp16", "bf16")
WORKLOADS = ("mlp_wide", "cnn")
LEARNED = ("digits MLP", "MNIST CNN")


def build(library: str, case: str) -> Callable[[], Any]:
    """A training step of a workload under a policy: ``case`` is "workload, policy"."""
    workload, policy = case.split(", ")
    if library == "ours":
        return _ours(workload, policy, *training_step.problem(workload))[0]
    if policy == "fp16":
        raise workers.Missing("fp16 is left to GPUs there")
    import torch

    plain = training_step.build("torch", workload)
    if policy == "fp32":
        return plain

    def cast() -> Any:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return plain()  # its backward pass too, which changes nothing: that follows the forward pass's dtypes

    return cast


def _ours(workload: str, policy: str, weights: list[Any], x: Any, labels: Any) -> tuple[Callable[[], Any], Callable]:
    from autograd import DiffTensor, autocast, nn
    from autograd.gradients import chain, scale_loss, unscale
    from autograd.optim import Optimizer, sgd

    if workload == "cnn":
        layers: list[Any] = [
            nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
            nn.Linear(9216, 128), nn.ReLU(), nn.Linear(128, 10),
        ]  # fmt: skip
    else:
        layers = [layer for w in weights[::2] for layer in (nn.Linear(*w.shape[::-1]), nn.ReLU())][:-1]
    model = nn.Sequential(*layers)
    model.load_state_dict(dict(zip(model.state_dict(), weights, strict=True)))
    rule = sgd(training_step.RATE)
    optimizer = Optimizer(model.parameters(), chain(unscale(2.0**12), rule) if policy == "fp16" else rule)
    loss_of, inputs, targets = nn.CrossEntropyLoss(), DiffTensor(x), DiffTensor(labels)

    def forward() -> Any:
        with autocast(policy):
            return loss_of(model(inputs), targets)

    def step() -> Any:
        optimizer.zero_grad()
        loss = forward()
        scale_loss(loss, optimizer.state).backward()
        optimizer.step()
        return loss

    return step, lambda: (forward(), [inputs, targets, *model.parameters()])


def kept(workload: str, policy: str) -> dict[str, int]:
    """Bytes kept for the backward pass: all, and without the parameters and the batch."""
    import numpy as np

    from autograd import BackwardPass

    loss, there = _ours(workload, policy, *training_step.problem(workload))[1]()
    prepared = BackwardPass((loss,))
    known = {id(t.raw) for t in there}
    own = {id(a): a.nbytes for node in prepared.order for a in node.saved if isinstance(a, np.ndarray) and id(a) not in known}  # fmt: skip
    parts = {id(a): a.nbytes for node in prepared.order for s in node.saved if isinstance(s, tuple) for a in s if isinstance(a, np.ndarray)}  # fmt: skip
    return {"all": prepared.bytes_retained, "activations": sum({**own, **parts}.values())}


def learn(task: str, policy: str, seed: int, epochs: int) -> float:
    """Held-out accuracy after training."""
    import numpy as np

    sys.path.insert(0, str(workers.ROOT))
    from autograd import DiffTensor, autocast, nn, no_grad
    from autograd.gradients import chain, scale_loss, unscale
    from autograd.optim import Optimizer, adam
    from hammer.lab import datasets

    rng = np.random.default_rng([seed, 5])
    if task == "digits MLP":
        part = datasets.split(datasets.digits(), rng, 400, "float32")
        layers: list[Any] = [nn.Linear(64, 128, rng=rng), nn.ReLU(), nn.Linear(128, 128, rng=rng), nn.ReLU(), nn.Linear(128, 10, rng=rng)]  # fmt: skip
    else:
        part = datasets.split(datasets.mnist(), rng, 500, "float32", 1500)
        layers = [
            nn.Conv2d(1, 8, 3, rng=rng), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3, rng=rng), nn.ReLU(),
            nn.MaxPool2d(2), nn.Flatten(), nn.Linear(400, 10, rng=rng),
        ]  # fmt: skip
    model, loss_of = nn.Sequential(*layers), nn.CrossEntropyLoss()
    rule = adam(3e-3)
    optimizer = Optimizer(model.parameters(), chain(unscale(interval=100), rule) if policy == "fp16" else rule)
    for _ in range(epochs):
        order = rng.permutation(len(part.x))
        for start in range(0, len(order) - 63, 64):
            at = order[start : start + 64]
            optimizer.zero_grad()
            with autocast(policy):
                loss = loss_of(model(DiffTensor(part.x[at])), DiffTensor(part.y[at]))
            scale_loss(loss, optimizer.state).backward()
            optimizer.step()
    model.eval()
    with no_grad(), autocast(policy):
        found = model(DiffTensor(part.x_held)).astype(np.float32).numpy().argmax(axis=1)
    return float((found == part.y_held).mean())


def accuracies(worker: Any, seeds: int, epochs: int) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for task in LEARNED:
        runs = {p: [worker.ask("learn", task=task, policy=p, seed=s, epochs=epochs) for s in range(seeds)] for p in POLICIES}  # fmt: skip
        found[task] = {p: statistics.mean(values) for p, values in runs.items()}
        for p in POLICIES[1:]:
            apart = [a - b for a, b in zip(runs[p], runs["fp32"], strict=True)]
            found[task][f"{p} - fp32"] = statistics.mean(apart)
            found[task][f"{p} standard error"] = statistics.stdev(apart) / len(apart) ** 0.5
    return found


def main(argv: list[str] | None = None) -> None:
    p = common.parser(__doc__, libraries="ours,torch")
    p.add_argument("--rounds", type=int, help="rounds of timed steps (default: 9, with --quick 2)")
    p.add_argument("--seeds", type=int, help="seeds of each training (default: 8, with --quick 2)")
    options = p.parse_args(argv)
    if options.worker:
        workers.serve(options.worker, build, kept=kept, learn=learn)
        return
    options.command = " ".join(["python benchmarks/precision.py", *(sys.argv[1:] if argv is None else argv)])
    start = time.monotonic()
    timed = (
        WORKLOADS[1:] if options.quick else WORKLOADS
    )  # one bf16 step of the wide MLP takes PyTorch 17 s on some CPUs
    cases = [f"{w}, {policy}" for w in timed for policy in POLICIES]
    seeds, epochs = options.seeds or (2 if options.quick else 8), 2 if options.quick else 10
    alone = argparse.Namespace(
        **{**vars(options), "threads": 1, "libraries": "ours"}
    )  # small models are slower with two
    with workers.start(alone, __file__) as (running, _):
        learned = accuracies(running["ours"], seeds, epochs)
    with workers.start(options, __file__) as (running, left_out):
        lines = common.describe(running, left_out, options.threads)
        print("\n".join(lines), flush=True)
        bytes_kept = {case: running["ours"].ask("kept", workload=case.split(", ")[0], policy=case.split(", ")[1]) for case in cases}  # fmt: skip
        values, more = workers.prepare(running, cases, 0.02, 2)
        rounds = options.rounds or (2 if options.quick else 9)
        seconds = workers.interleave(running, values, rounds, start + (25 if options.quick else 150), pause=0.03)
    times = common.medians(seconds, 1e3)
    header = ["task", *POLICIES, "fp16 - fp32", "± standard error", "bf16 - fp32", "± standard error"]
    keys = [*POLICIES, "fp16 - fp32", "fp16 standard error", "bf16 - fp32", "bf16 standard error"]
    body = ["", "Held-out accuracy (means over seeds):", "", *common.table(header, [[t, *(f[k] for k in keys)] for t, f in learned.items()])]  # fmt: skip
    rows, figures = [], {}
    for case in cases:
        workload = case.split(", ")[0]
        base = f"{workload}, fp32"
        by_fp32 = {
            library: statistics.median(
                a / b for a, b in zip(seconds[case][library], seconds[base][library], strict=True)
            )
            for library in seconds[case]
        }
        rows.append([
            case, bytes_kept[case]["all"] / 1e6, bytes_kept[case]["activations"] / 1e6,
            bytes_kept[case]["activations"] / bytes_kept[base]["activations"], times[case]["ours"], by_fp32["ours"],
            times[case].get("torch"), by_fp32.get("torch"),
        ])  # fmt: skip
        figures[case] = {
            "bytes": bytes_kept[case], "milliseconds": times[case], "time_by_fp32": by_fp32,
        }  # fmt: skip
    header = [
        "step",
        "MB kept",
        "MB of activations",
        "by fp32's",
        "ms, ours",
        "by fp32's",
        "ms, PyTorch",
        "by its fp32's",
    ]
    body += ["", "Kept for the backward pass, and milliseconds for a training step (medians; ratios within rounds):", "", *common.table(header, rows), ""]  # fmt: skip
    body += [f"Left out: {what} ({reason})." for what, reason in more.items()]
    print("\n".join(body))
    common.finish(options, "precision", lines + body, {"accuracy": learned, "steps": figures})


if __name__ == "__main__":
    main()
