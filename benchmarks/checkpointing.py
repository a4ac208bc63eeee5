"""Checkpoints of chains: bytes of activations, how often layers run, and time, beside PyTorch and the binomial optimum.

A layer is Linear, LayerNorm and Tanh, 64 wide, float32; chains have 10, 100 and 1,000 of them. What is kept:

* ``plain``: everything that rules read (two activations for each layer);
* ``√n``: ``checkpoint_sequential(layers, segments="auto")``; PyTorch's ``checkpoint_sequential`` with as many segments;
* ``budget k``: ``checkpoint_sequential(layers, budget=...)`` of so many bytes as k activations have;
* ``eviction k``: the plain chain in ``rematerialize(budget=...)`` of as many bytes, which does not know that it is a chain, nor
  where it ends. What an operation allocates in passing is not in that budget, so the peak may be above it.

What is measured, for each:

* **held**: the most bytes that are held for the backward pass at any time, counted array by array (memory that several
  values look into counts once); parameters, the input and the output are not counted;
* **arrays**: the peak by tracemalloc over forward and backward, so with all work in passing, minus the peak of the same chain on
  one row of input: that is what nodes and other Python objects take. The backward pass goes to the input only: gradients of
  parameters are no activations;
* **peak ÷ budget**: arrays divided by the bytes that were asked for;
* **runs**: how often a row of the op table runs, relative to plain, where it is once; beside it the *optimum*. For √n
  that is 2 - 1/segments; for a budget the binomial one (Griewank & Walther 2000) with as many boundaries as fit beside one
  inside and the work of one stage, which the budget is also for. A plan may be cheaper, as it may keep insides too;
* **time** of forward and backward, all gradients, as a multiple of the same library's plain chain (medians of interleaved runs;
  with ``--quick`` the chain of 1,000 is not timed).

Run it as ``env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE python benchmarks/checkpointing.py``. The last line is JSON.
"""

import gc
import math
import sys
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import common
import workers

WIDTH, ROWS, QUICK_ROWS = 64, 512, 64
SQRT = "√n"
BOTH = ("plain", SQRT)
KINDS = {
    10: (*BOTH, "budget 8", "budget 12", "eviction 12"),
    100: (*BOTH, "budget 9", "budget 12", "budget 20", "budget 60", "eviction 20", "eviction 60"),
    1000: (*BOTH, "budget 12", "budget 20", "budget 60", "budget 200", "eviction 60", "eviction 200"),
}
QUICK_KINDS = {
    10: (*BOTH, "budget 12", "eviction 12"),
    100: (*BOTH, "budget 20", "eviction 20"),
    1000: ("budget 60",),
}


def cases(kinds: dict[int, tuple[str, ...]]) -> list[str]:
    return [f"{n}, {what}" for n, there in kinds.items() for what in there]


class Evicting:
    """A chain in a ``rematerialize`` block."""

    def __init__(self, chain: Any, budget: int):
        from autograd import rematerialize

        self.chain, self.block, self.parameters = chain, rematerialize(budget), chain.parameters

    def __call__(self, x: Any) -> Any:
        with self.block:
            return self.chain(x)


def weights(n: int) -> list[Any]:
    import numpy as np

    return list(np.random.default_rng(n).normal(0, 1 / math.sqrt(WIDTH), (n, WIDTH, WIDTH)).astype(np.float32))


def batch(rows: int) -> Any:
    import numpy as np

    return np.random.default_rng(0).normal(size=(rows, WIDTH)).astype(np.float32)


def model(case: str, rows: int) -> Any:
    """A chain of ours; its budget is for so many rows of input."""
    from autograd import checkpoint_sequential, nn

    n, what = case.split(", ")
    layers = []
    for w in weights(int(n)):
        linear = nn.Linear(WIDTH, WIDTH)
        linear.weight.data = w
        linear.bias.data = 0 * w[0]
        layers.append(nn.Sequential(linear, nn.LayerNorm(WIDTH), nn.Tanh()))
    if what == "plain":
        return nn.Sequential(*layers)
    if what == SQRT:
        return checkpoint_sequential(layers, segments="auto")
    kind, k = what.split()
    budget = int(k) * rows * WIDTH * 4
    return (
        Evicting(nn.Sequential(*layers), budget) if kind == "eviction" else checkpoint_sequential(layers, budget=budget)
    )


def build(library: str, case: str, rows: int) -> Callable[[], float]:
    """A step, forward and backward; it returns the sum of the outputs."""
    if library == "torch":
        return _torch(case, rows)
    from autograd import DiffTensor

    chain, x = model(case, rows), DiffTensor(batch(rows), requires_grad=True)
    parameters = [x, *chain.parameters()]

    def step() -> float:
        for p in parameters:
            p.grad = None
        loss = chain(x).sum()
        loss.backward()
        return float(loss)

    return step


def _torch(case: str, rows: int) -> Callable[[], float]:
    import torch
    from torch.utils.checkpoint import checkpoint_sequential

    n, what = int(case.split(", ")[0]), case.split(", ")[1]
    if what not in ("plain", SQRT):
        raise workers.Missing("PyTorch's checkpoint_sequential has no budget")
    layers = []
    for w in weights(n):
        linear = torch.nn.Linear(WIDTH, WIDTH)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(w))
            linear.bias.zero_()
        layers.append(torch.nn.Sequential(linear, torch.nn.LayerNorm(WIDTH), torch.nn.Tanh()))
    chain, x = torch.nn.Sequential(*layers), torch.from_numpy(batch(rows)).requires_grad_()
    segments = max(1, round(math.sqrt(n)))

    def step() -> float:
        for p in (x, *chain.parameters()):
            p.grad = None
        out = chain(x) if what == "plain" else checkpoint_sequential(chain, segments, x, use_reentrant=False)
        loss = out.sum()
        loss.backward()
        return float(loss.detach())

    return step


# ---- memory ----


def measure(case: str, rows: int) -> dict[str, Any]:
    """Bytes held and allocated at most, and how often rows ran, of the second call (a budget's first call measures)."""
    from autograd import AutogradContext, DiffTensor

    n, what = case.split(", ")
    chain, x = model(case, rows), DiffTensor(batch(rows), requires_grad=True)
    start = time.perf_counter()
    if what.startswith("budget"):
        chain(x)
    found: dict[str, Any] = {"first_seconds": time.perf_counter() - start}
    peak, held = _traced(chain, x)
    few = model(case, 1)
    small = DiffTensor(batch(1), requires_grad=True)
    if what.startswith("budget"):
        few(small)
    found["objects"], _ = _traced(few, small)
    found["arrays"], found["held"] = peak - found["objects"], held
    found["activation"] = rows * WIDTH * 4
    if what == "plain":
        found["runs"] = found["optimum"] = 1.0
        return found
    if what.startswith("eviction"):
        store, rows_called = chain.block.store, 0

        def count(row: Any, _inputs: tuple, params: dict, _outputs: tuple) -> None:
            nonlocal rows_called
            rows_called += "backward" not in params

        with AutogradContext(observer=count):
            chain.chain(x)
        found["held"], found["runs"] = store.held.peak, 1 + store.calls / rows_called
        found["optimum"], found["peak_over_budget"] = None, found["arrays"] / store.budget
        return found
    recorded = sum(len(stage.nodes) for stage in chain.chain.stages)
    found["held"], found["runs"] = chain.chain.held.peak, 1 + chain.chain.calls / recorded
    if what == SQRT:
        found["optimum"] = 2 - 1 / chain.segments
        return found
    from autograd.checkpointing import binomial_cost
    from autograd.checkpointing.schedule import WORK

    sizes, budget = chain.plan.sizes[0], chain.budget
    slots = (budget - sizes.inside - WORK * sizes.largest) // sizes.boundary
    found["optimum"] = 1 + binomial_cost(int(n), slots) / int(n)
    found["planned"], found["peak_over_budget"] = chain.plan.cost, found["arrays"] / budget
    return found


def _traced(chain: Any, x: Any) -> tuple[int, int]:
    """The peak by tracemalloc over one call, forward and backward to the input; and the bytes held between the two."""
    from autograd import BackwardPass
    from autograd.checkpointing.replay import bytes_of

    gc.collect()
    tracemalloc.start(1)
    try:
        start = tracemalloc.get_traced_memory()[0]
        loss = chain(x).sum()
        prepared = BackwardPass((loss,), (x,))
        known = [x.raw, *(p.raw for p in chain.parameters())]
        held = bytes_of([*known, *(node.held for node in prepared.order)]) - bytes_of(known)
        prepared.run()
        return tracemalloc.get_traced_memory()[1] - start, held
    finally:
        tracemalloc.stop()


# ---- the report ----


def main(argv: list[str] | None = None, kinds: dict[int, tuple[str, ...]] | None = None) -> None:
    p = common.parser(__doc__, threads=1, libraries="ours,torch")
    options = p.parse_args(argv)
    rows = QUICK_ROWS if options.quick else ROWS
    if options.worker:
        workers.serve(options.worker, lambda library, case: build(library, case, rows), measure=lambda case: measure(case, rows))  # fmt: skip
        return
    start = time.monotonic()
    chosen = kinds or (QUICK_KINDS if options.quick else KINDS)
    names = cases(chosen)
    with workers.start(options, __file__, ["--quick"] if options.quick else []) as (running, left_out):
        if "ours" not in running:
            raise SystemExit("--libraries must have ours in it")
        lines = common.describe(running, left_out, options.threads)
        print("\n".join(lines), flush=True)
        memory = {}
        for case in names:
            memory[case] = running["ours"].ask("measure", case=case)
            print(f"{case}: {memory[case]['runs']:.3f} runs", flush=True)
        timed = [case for case in names if not options.quick or int(case.split(", ")[0]) <= 100]
        values, more = workers.prepare(running, timed, 0.02)
        agree(values)
        seconds = workers.interleave(running, values, 3 if options.quick else 9, start + (15 if options.quick else 200))
    figures, body = summarise(memory, seconds)
    figures["seconds"] = round(time.monotonic() - start, 1)
    body += [
        "",
        *(f"Left out: {what} ({reason})." for what, reason in more.items() if not reason.endswith("has no budget")),
    ]
    print("\n".join(body))
    common.finish(options, "checkpointing", lines + body, figures, {"memory": memory, "seconds": seconds, "rows": rows})


def agree(values: dict[str, dict[str, list[float]]]) -> None:
    """Stop where a checkpoint changes the result, or a library computes another one (of short chains: rounding grows)."""
    for case, there in values.items():
        n = case.split(", ")[0]
        (plain,) = values[f"{n}, plain"]["ours"]
        if there["ours"] != [plain]:
            raise AssertionError(f"{case}: the sum of the outputs is {there['ours'][0]}, without checkpoints {plain}")
        if n == "10" and "torch" in there and not math.isclose(there["torch"][0], plain, rel_tol=1e-3, abs_tol=0.1):
            raise AssertionError(f"{case}: PyTorch's sum of the outputs is {there['torch'][0]}, ours {plain}")


def summarise(memory: dict[str, dict[str, Any]], seconds: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    figures: dict[str, Any] = {"peak_over_budget_most": None, "chains": {}}
    table, over, evicted = [], [], []
    for case, found in memory.items():
        n, what = case.split(", ")
        there, plain = seconds.get(case, {}), seconds.get(f"{n}, plain", {})
        times = {
            library: common.ratio({"a": there[library], "b": plain[library]}, "a", "b")
            for library in ("ours", "torch")
            if there.get(library)
        }
        beside = common.ratio(there, "ours", "torch") if there.get("torch") else None
        one, over_budget = found["activation"], found.get("peak_over_budget")
        table.append(
            [
                n, what, found["held"] / one, found["arrays"] / one, over_budget, found["runs"], found["optimum"],
                times.get("ours"), times.get("torch"), beside,
            ]
        )  # fmt: skip
        figures["chains"].setdefault(n, {})[what] = {
            "held_bytes": found["held"],
            "array_bytes": found["arrays"],
            "peak_over_budget": over_budget and round(over_budget, 3),
            "recompute": round(found["runs"], 3),
            "optimum": found["optimum"] and round(found["optimum"], 3),
            "time_over_plain": round(times["ours"], 2) if times else None,
            "torch_time_over_plain": round(times["torch"], 2) if "torch" in times else None,
            "time_over_torch": beside and round(beside, 2),
        }
        if over_budget is not None:
            (evicted if what.startswith("eviction") else over).append(over_budget)
    figures["peak_over_budget_most"] = round(max(over), 3) if over else None
    figures["eviction_peak_over_budget_most"] = round(max(evicted), 3) if evicted else None
    body = [
        "",
        f"Held and arrays are in activations, of {one:,} bytes each.",
        "",
        *common.table(
            ["layers", "kept", "held", "arrays", "peak ÷ budget", "runs", "optimum", "time ÷ plain", "PyTorch: time ÷ plain", "Hammer ÷ PyTorch"],
            table,
        ),
        "",
        f"The largest peak ÷ budget is {figures['peak_over_budget_most']} (of eviction {figures['eviction_peak_over_budget_most']}); "
        "1.3 is what may be.",
    ]  # fmt: skip
    return figures, body


if __name__ == "__main__":
    sys.exit(main())
