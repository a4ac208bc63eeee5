"""The parts of ``agents.py`` that run on MPI ranks: ``mpiexec -n 2 python agents_ranks.py steps``. The first rank prints what it found
as one line of JSON."""

import argparse
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SIZES = {"4 KB": 1 << 10, "1 MB": 1 << 18, "64 MB": 1 << 24}
STEPS = 8


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
    """What the parameters come to after training, as a hash, for each model; and how many ranks of which MPI that were."""
    import numpy as np
    from mpi4py import MPI

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
    vendor, numbers = MPI.get_vendor()
    out: dict[str, Any] = {"ranks": comm.size, "MPI": f"{vendor} {'.'.join(map(str, numbers))}"}
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


def main(argv: list[str] | None = None) -> None:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("part", choices=PARTS)
    p.add_argument("--quick", action="store_true")
    options = p.parse_args(argv)
    from hammer import agents

    with agents.world(survive=options.part == "agreement") as comm:
        found = PARTS[options.part](comm, options.quick)
        if comm.rank == 0:
            print("\n" + json.dumps(found), flush=True)


if __name__ == "__main__":
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
