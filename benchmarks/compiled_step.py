"""Milliseconds per step of ten workloads: Hammer compiled and eager, beside PyTorch (eager and compiled), JAX, MyGrad, HIPS autograd.

What is measured: one training step in float32 (forward, mean softmax cross-entropy, backward, SGD update) of seven models, and
value and gradient of three functions; ``workloads.ABOUT`` says which. Every library does it in its own idiom: modules and
an optimizer in Hammer and PyTorch, ``jit`` with donated parameters in JAX, formulas in MyGrad and HIPS autograd.

How: each library is in a process of its own with the same number of threads and starts from the same weights on the same
data. First the losses of some steps and the weights after them (of functions the gradients) are compared, the weights by
their norm and their product with a random direction; one that computes something else is left out (and
the exit status is 1 if that is Hammer). Then short blocks of all libraries are interleaved, workload by
workload; before each block the others must have stopped to use the processor (Linux; elsewhere there is a pause).

Roofs, measured in the same run by the same processes, before all steps and after them: the fastest product of two 2,048² matrices and the fastest copy of 256 MB
(bytes read and bytes written count), on one thread and on all. FLOPs are the table's (``graph.cost()``); the bytes are those
that any program must move (inputs and weights read, weights or gradients written), so a workload that needs more than its
compulsory traffic reaches less than 100 %, and one that fits the caches may reach more.

Run it as ``env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE python benchmarks/compiled_step.py`` on a quiet machine. PyTorch's
compiler needs a C++ compiler.

The last line is JSON: ``{workload: {library: milliseconds}}``, medians over rounds (of the fastest part of each block), beside
``gemm_peak`` (GFLOP/s), ``copy_bandwidth`` (GB/s) by threads, ``fractions`` of both by workload, ``compile_seconds``,
``ours_by_fastest_peer`` and its geometric mean.
"""

import contextlib
import ctypes
import gc
import importlib
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import common
import workers
import workloads

LIBRARIES = ("ours", "ours_eager", "torch", "torch_compile", "jax", "mygrad", "hips")
QUICK = ("ours", "ours_eager", "torch", "jax")
QUICK_WORKLOADS = ("mlp_tiny", "mlp_small", "lstm", "transformer", "chain", "layer_norm")
WRONG = "it computes something else"
QUICK_SECONDS = 28
"""After which a quick run begins no further workload: the slowest takes some ten seconds on a busy machine."""
STEPS_CHECKED = 4
START = "cnn"
"""The workload whose first step is timed in a process that starts with what another has compiled."""
MATRIX, COPIED = 2048, 1 << 28
"""Rows of the square matrices, and bytes copied, that the roofs are measured with."""


# ---- a worker's side ----


class Bench:
    """What a worker holds: one step for each workload that it was asked to make."""

    def __init__(self, library: str):
        self.library = library
        self.steps: dict[str, workloads.Step] = {}

    def make(self, case: str) -> dict[str, Any]:
        """Build a workload and run its first steps: seconds of the first, losses, what it is compared by, peak memory."""
        import numpy as np

        kind = "workloads_layers" if self.library in (*workers.OURS, "torch", "torch_compile") else "workloads_formulas"
        _give_back()
        before = _resident()
        start = time.perf_counter()
        step = self.steps[case] = importlib.import_module(kind).step_of(self.library, case)
        losses = [float(step.run())]
        first = time.perf_counter() - start
        gc.collect()
        _reset_peak()
        start = time.perf_counter()
        losses += [float(step.run()) for _ in range(STEPS_CHECKED - 1)]
        later = (time.perf_counter() - start) / (STEPS_CHECKED - 1)
        peak = _resident("VmHWM")
        state = step.state()
        if case not in workloads.FUNCTIONS:
            state = [a - w for a, w in zip(state, workloads.problem(case).weights, strict=True)]
        rng, prints = np.random.default_rng(5), []
        for a in state:
            flat = a.astype(np.float64).ravel()
            norm = float(np.linalg.norm(flat))
            prints.append([norm, float(flat @ rng.standard_normal(flat.size))])
        megabytes = None if peak is None or before is None else (peak - before) / 1e6
        return {"losses": losses, "prints": prints, "first": first, "later": later, "megabytes": megabytes, "note": step.note}  # fmt: skip

    def first(self, case: str) -> float:
        """Seconds of building a workload and its first step, Hammer's own imports included."""
        from workloads_layers import step_of

        start = time.perf_counter()
        step_of(self.library, case).run()
        return time.perf_counter() - start

    def build(self, _library: str, case: str) -> Any:
        return self.steps[case].run

    def drop(self, case: str) -> None:
        self.steps.pop(case, None)

    def weigh(self, case: str) -> dict[str, float]:
        """FLOPs and bytes of a step by the table's cost column, and the bytes that any program must move (Hammer only)."""
        from workloads_layers import our_function, our_model

        from autograd import value_and_grad
        from hammer.graph import UniversalGraph

        given = workloads.problem(case)
        if case in workloads.FUNCTIONS:
            both = value_and_grad(our_function(case, given.data), tuple(range(len(given.weights))))
            cost = UniversalGraph.trace(both, *given.weights).optimize().cost()
            flops, moved = cost.flops, float(cost.bytes)
        else:
            _, loss_of = our_model(case, given.weights)
            cost = UniversalGraph.trace(loss_of, *given.data).grad(value=True).optimize().cost()
            count = sum(w.size for w in given.weights)
            flops, moved = cost.flops + 2 * count, cost.bytes + 12.0 * count  # and w - rate * g of each weight
        return {"flops": flops, "bytes": moved, "compulsory_bytes": float(given.compulsory_bytes)}

    def roofs(self, threads: int, times: int) -> dict[str, float]:
        """GFLOP/s of a matrix product and GB/s of a copy, the best of some, on a number of threads."""
        ways = _torch_roofs(threads) if self.library == "torch" else _numpy_roofs(threads)
        found = {}
        for name, (run, amount) in ways.items():
            seconds = []
            for _ in range(times):
                start = time.perf_counter()
                run()
                seconds.append(time.perf_counter() - start)
            found[name] = amount / min(seconds) / 1e9
        return found


def _numpy_roofs(threads: int) -> dict[str, tuple[Any, float]]:
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np
    from threadpoolctl import threadpool_limits

    a = np.ones((MATRIX, MATRIX), np.float32)
    out, source, target = np.empty_like(a), np.ones(COPIED // 4, np.float32), np.zeros(COPIED // 4, np.float32)
    pool = ThreadPoolExecutor(threads)
    parts = [(t, s) for t, s in zip(np.array_split(target, threads), np.array_split(source, threads), strict=True)]

    def product() -> None:
        with threadpool_limits(threads, "blas"):
            np.matmul(a, a, out=out)

    return {
        "gemm": (product, 2.0 * MATRIX**3),
        "copy": (lambda: list(pool.map(lambda p: np.copyto(*p), parts)), 2.0 * COPIED),
    }


def _torch_roofs(threads: int) -> dict[str, tuple[Any, float]]:
    import torch

    a, source, target = torch.ones(MATRIX, MATRIX), torch.ones(COPIED // 4), torch.zeros(COPIED // 4)
    out, usual = torch.empty_like(a), torch.get_num_threads()

    def product() -> None:
        torch.set_num_threads(threads)
        torch.matmul(a, a, out=out)
        torch.set_num_threads(usual)

    def copy() -> None:
        torch.set_num_threads(threads)
        target.copy_(source)
        torch.set_num_threads(usual)

    return {"gemm": (product, 2.0 * MATRIX**3), "copy": (copy, 2.0 * COPIED)}


def _resident(what: str = "VmRSS") -> int | None:
    """Bytes of this process's memory that are resident, or the peak of them; None where Linux does not say."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    return next(int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if line.startswith(what))


def _give_back() -> None:
    """Free memory goes back to the system, so that a later growth can be seen (glibc only)."""
    gc.collect()
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def _reset_peak() -> None:
    reset = Path("/proc/self/clear_refs")
    if reset.exists():
        reset.write_text("5")


# ---- the parent's side ----


def difference(found: dict[str, Any], due: dict[str, Any]) -> str | None:
    """How what a library has found differs from what another has, in words; None where they agree.

    The second number of a print is a product with a random direction: where two arrays differ by a norm of d, it does by about d.
    """
    for i, (a, b) in enumerate(zip(found["losses"], due["losses"], strict=True)):
        if not abs(a - b) <= 1e-4 * abs(b) + 1e-7:
            return f"the loss of step {i} is {a:.7g}, not {b:.7g}"
    for i, (a, b) in enumerate(zip(found["prints"], due["prints"], strict=True)):
        if not max(abs(a[0] - b[0]), abs(a[1] - b[1]) / 3) <= 2e-3 * b[0]:
            return f"weight or gradient {i} has the norm and the product {a}, not {b}"
    return None


def make_all(running: dict[str, workers.Worker], case: str) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Let all workers make a workload, one after another, because first steps are timed. One that computes something else than
    PyTorch (or, without it, Hammer's eager code) is left out, with the reason.
    """
    made, left_out = {}, {}
    for library, worker in running.items():
        try:
            made[library] = worker.ask("make", case=case)
        except workers.Missing as error:
            left_out[f"{case}, {library}"] = str(error)
    due = made.get("torch") or made.get("ours_eager") or next(iter(made.values()))
    for library, found in list(made.items()):
        wrong = difference(found, due)
        if wrong:
            left_out[f"{case}, {library}"] = f"{WRONG}: {wrong}"
            del made[library]
            running[library].ask("drop", case=case)
    return made, left_out


def measured_roofs(
    running: dict[str, workers.Worker], threads: int, times: int
) -> tuple[dict[str, float], dict[str, float]]:
    """The fastest product and the fastest copy of some that NumPy and PyTorch have made, by number of threads."""
    asked = [running[library] for library in (*workers.OURS, "torch") if library in running]
    asked = asked[1:] if "ours" in running and "ours_eager" in running else asked  # NumPy once
    gemm: dict[str, float] = {}
    copy: dict[str, float] = {}
    for count in sorted({1, threads}):
        found = [worker.ask("roofs", threads=count, times=times) for worker in asked]
        if found:
            gemm[str(count)], copy[str(count)] = (round(max(f[k] for f in found), 1) for k in ("gemm", "copy"))
    return gemm, copy


@contextlib.contextmanager
def fresh_cache() -> Iterator[None]:
    """Workers find nothing that Hammer has compiled in earlier runs."""
    usual = os.environ.get("HAMMER_CACHE")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HAMMER_CACHE"] = folder
        try:
            yield
        finally:
            if usual is None:
                del os.environ["HAMMER_CACHE"]
            else:
                os.environ["HAMMER_CACHE"] = usual


def second_start(options: Any, case: str) -> dict[str, float]:
    """Seconds that a workload takes Hammer in a process of its own that finds what an earlier one has compiled: from the start of the
    process to the end of the first step, and of that building, compiling and running the step.
    """
    found = {}
    for _ in range(2):  # the first one fills the cache
        start = time.perf_counter()
        worker = workers.Worker("ours", __file__, sys.executable, options.threads)
        try:
            worker.ask("load")
            found = {"first_step": worker.ask("first", case=case)}
        finally:
            found["process"] = time.perf_counter() - start
            worker.close()
    return {k: round(v, 3) for k, v in found.items()}


def summarise(
    seconds: dict[str, dict[str, list[float]]],
    made: dict[str, dict[str, dict[str, Any]]],
    costs: dict[str, dict[str, float]],
    gemm: dict[str, float],
    copy: dict[str, float],
    threads: int,
) -> tuple[dict[str, Any], list[str]]:
    """The figures of the last line, and the report's tables."""
    times = common.medians(seconds, 1e3)
    libraries = [library for library in LIBRARIES if any(library in there for there in times.values())]
    rows, ratios = [], {}
    for case, there in times.items():
        peers = [library for library in there if library not in workers.OURS]
        fastest = min(peers, key=lambda library: there[library], default=None)
        if fastest is not None and "ours" in there:
            ratios[case] = common.ratio(seconds[case], "ours", fastest)
        rows.append([case, *(there.get(library) for library in libraries), ratios.get(case), fastest or "–"])
    header = ["workload", *(workers.TITLES[library] for library in libraries), "ours / fastest peer", "fastest peer"]
    mean = math.exp(statistics.fmean(map(math.log, ratios.values()))) if ratios else None
    lines = ["", "Milliseconds per step (medians); the ratio is the median of those within a round (below 1 Hammer is faster).", ""]  # fmt: skip
    lines += common.table(header, rows)
    if mean is not None:
        lines += ["", f"Geometric mean of ours / fastest peer over {len(ratios)} workloads: {mean:.3g}; the worst: {max(ratios.values()):.3g}."]  # fmt: skip
    fractions: dict[str, dict[str, float]] = {}
    if gemm and costs:
        peak, bandwidth = gemm[str(threads)], copy[str(threads)]
        parts = []
        for case, cost in costs.items():
            took = times[case].get("ours", times[case].get("ours_eager"))
            if took is None:
                continue
            flops, moved = cost["flops"] / took / 1e6, cost["compulsory_bytes"] / took / 1e6
            least = 1e3 * max(cost["flops"] / peak, cost["compulsory_bytes"] / bandwidth) / 1e9
            fractions[case] = {"gemm_peak": round(flops / peak, 3), "copy_bandwidth": round(moved / bandwidth, 3)}
            parts.append([case, cost["flops"] / 1e6, cost["bytes"] / 1e6, cost["compulsory_bytes"] / 1e6, flops, moved, f"{flops / peak:.0%}", f"{moved / bandwidth:.0%}", least])  # fmt: skip
        lines += ["", "Roofs: " + "; ".join(f"{n} thread{'s' * (n != '1')}: {gemm[n]:g} GFLOP/s, copy {copy[n]:g} GB/s" for n in gemm) + ".", ""]  # fmt: skip
        lines += ["Hammer beside them. Bytes: as if every operation by itself read and wrote memory; compulsory: what any program must move. The bound", "is the milliseconds that the nearer roof allows.", ""]  # fmt: skip
        lines += common.table(["workload", "MFLOP", "MB", "compulsory MB", "GFLOP/s", "GB/s", "of GEMM peak", "of copy bandwidth", "bound, ms"], parts)  # fmt: skip
    compiling = {case: {k: round(m["first"] - m["later"], 3) for k, m in there.items()} for case, there in made.items()}
    lines += ["", "Seconds that building and the first step take beyond a later step (tracing and compiling; nothing is found that earlier runs have compiled):", ""]  # fmt: skip
    lines += common.table(header[:-2], [[case, *(compiling[case].get(k) for k in libraries)] for case in compiling])
    if any(m["megabytes"] is not None for there in made.values() for m in there.values()):
        lines += ["", "Megabytes by which a worker's peak resident size during steps exceeds that from before the model was made:", ""]  # fmt: skip
        lines += common.table(header[:-2], [[case, *(there[k]["megabytes"] if k in there else None for k in libraries)] for case, there in made.items()])  # fmt: skip
    notes = {f"{case}, {workers.TITLES[k]}": m["note"] for case, there in made.items() for k, m in there.items() if m["note"]}  # fmt: skip
    lines += ["", *(f"{where}: {note}." for where, note in notes.items()), "", *(f"{case}: {workloads.ABOUT[case]}." for case in times)]  # fmt: skip
    figures: dict[str, Any] = {
        case: {library: float(f"{t:.4g}") for library, t in there.items()} for case, there in times.items()
    }
    figures |= {"gemm_peak": gemm, "copy_bandwidth": copy, "fractions": fractions, "compile_seconds": compiling}
    figures |= {"ours_by_fastest_peer": {k: round(r, 3) for k, r in ratios.items()}, "geometric_mean": mean and round(mean, 3)}  # fmt: skip
    return figures, lines


def main(argv: list[str] | None = None) -> int:
    p = common.parser(__doc__, libraries=None)
    p.add_argument("--rounds", type=int, help="rounds of blocks (default: 15, with --quick 3)")
    p.add_argument("--only", action="append", metavar="NAME", help=f"only this workload, may be repeated; of {', '.join(workloads.WORKLOADS)}")  # fmt: skip
    options = p.parse_args(argv)
    if options.worker:
        bench = Bench(options.worker)
        workers.serve(options.worker, bench.build, make=bench.make, first=bench.first, drop=bench.drop, weigh=bench.weigh, roofs=bench.roofs)  # fmt: skip
        return 0
    begin = time.monotonic()
    cases = options.only or list(QUICK_WORKLOADS if options.quick else workloads.WORKLOADS)
    for case in cases:
        if case not in workloads.WORKLOADS:
            raise SystemExit(f"--only: {case!r} is not known; choose from {', '.join(workloads.WORKLOADS)}")
    options.libraries = options.libraries or ",".join(QUICK if options.quick else LIBRARIES)
    rounds = options.rounds or (3 if options.quick else 15)
    seconds: dict[str, dict[str, list[float]]] = {}
    made: dict[str, dict[str, dict[str, Any]]] = {}
    costs: dict[str, dict[str, float]] = {}
    with fresh_cache(), workers.start(options, __file__) as (running, left_out):
        lines = common.describe(running, left_out, options.threads)
        print("\n".join(lines), flush=True)
        more: dict[str, str] = {}
        gemm, copy = measured_roofs(running, options.threads, 3 if options.quick else 12)
        weigher = next((running[library] for library in workers.OURS if library in running), None)
        for case in cases:
            if options.quick and not options.only and time.monotonic() - begin > QUICK_SECONDS:
                more[case] = "no time in a quick run"
                continue
            made[case], missing = make_all(running, case)
            more |= missing
            if weigher is not None:
                costs[case] = weigher.ask("weigh", case=case)
            there = {library: running[library] for library in made[case]}
            values, _ = workers.prepare(there, [case], 0.02 if options.quick else 0.1, 0)
            seconds |= workers.interleave(there, values, rounds, time.monotonic() + (3 if options.quick else 240), settle=True)  # fmt: skip
            print(f"{case}: " + ", ".join(f"{library} {1e3 * statistics.median(s):.3g} ms" for library, s in seconds[case].items()), flush=True)  # fmt: skip
            for worker in there.values():
                worker.ask("forget", case=case)
                worker.ask("drop", case=case)
        after = measured_roofs(running, options.threads, 3 if options.quick else 12)
        gemm, copy = ({n: max(one[n], two[n]) for n in one} for one, two in zip((gemm, copy), after, strict=True))
        figures, rows = summarise(seconds, made, costs, gemm, copy, options.threads)
        if START in made and "ours" in made[START] and not options.quick:
            again = figures["second_start"] = {START: second_start(options, START)}
            rows += ["", f"A second process that finds what the first has compiled ({START}): {again[START]['first_step']:.3g} s to trace, load and run the first step, {again[START]['process']:.3g} s with starting Python and importing Hammer."]  # fmt: skip
    rows = [*(f"Left out: {what} ({reason})." for what, reason in more.items()), *rows]
    print("\n".join(rows))
    details = {
        "losses of the first steps": {case: {k: m["losses"] for k, m in there.items()} for case, there in made.items()},
        "fastest rounds": {case: {k: min(t) * 1e3 for k, t in there.items()} for case, there in seconds.items()},
        "peak megabytes": {case: {k: m["megabytes"] for k, m in there.items()} for case, there in made.items()},
        "costs": costs,
        "rounds": {case: len(next(iter(there.values()), [])) for case, there in seconds.items()},
        "left_out": left_out | more,
    }
    common.finish(options, "compiled_step", lines + rows, figures, details)
    return int(any(where.split(", ")[-1] in workers.OURS and why.startswith(WRONG) for where, why in more.items()))


if __name__ == "__main__":
    sys.exit(main())
