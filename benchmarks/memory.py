"""Live arrays and peak bytes, beside PyTorch, JAX, MyGrad and HIPS autograd.

What is measured, in units of one 4 MB array (2²⁰ float32) for the first two:

* ``chained_adds``: 20 times ``y = y + x`` on a tracked input, then ``y.sum()`` and backward. No rule of addition reads a
  value, so a tape need keep nothing: two arrays live at the peak beyond the input (the old and the new ``y``). The peak is
  taken over the forward part (``forward``), and over forward and backward (``total``).
* ``tanh_layers``: 20 times ``y = tanh(y)``, sum and backward. The rule reads each output, so 20 arrays are retained; the
  table gives what is live after the forward part (``retained``) and the peak of forward and backward (``total``).
* ``mlp_small``, ``mlp_wide``: one training step of ``training_step.py`` (which see), after a first one; peak bytes beyond
  weights and batch. "Needed" are the bytes of the gradients of all weights and of one activation for each layer.
* ``chain_200000``: whether backward through a chain of 200,000 operations on a scalar, and freeing it, succeeds.

How: each library in a process of its own, which is warmed up first. Hammer, MyGrad and HIPS autograd allocate through NumPy,
which reports every array to ``tracemalloc``: the figures are its peaks minus what was live at the start. PyTorch: the
allocations and frees that its own profiler records (``profile_memory=True``), summed up in order. JAX: XLA's plan for
the compiled function (temporaries and outputs), which is known before anything runs; it fuses the chains, so that figure
is not about a tape. ``chain_200000`` runs in a second process, so that a crash is a result; JAX is left out of it
(compiling an unrolled chain of that length does not end in useful time); the libraries run at the same time there, so its
seconds are rough.

The last line is JSON: ``chained_adds_peak_arrays`` and ``chain_200000_ok`` of Hammer, and all figures by measure and library.
"""

import gc
import itertools
import sys
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import common
import training_step
import workers

ELEMENTS, LAYERS, LENGTH = 1 << 20, 20, 200_000
ARRAY = 4 * ELEMENTS
MEASURES = ("chained_adds", "tanh_layers", "mlp_small", "mlp_wide")
TRACED = ("ours", "mygrad", "hips")


def program(library: str, measure: str) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
    """Two functions: forward, whose result holds the tape, and backward from that result to the gradient."""
    import numpy as np

    value = np.full(ELEMENTS, 0.5, np.float32)
    if library == "hips":
        import autograd.numpy as anp
        from autograd.core import make_vjp

        step = (lambda y, x: y + x) if measure == "chained_adds" else (lambda y, x: anp.tanh(y))
        return lambda: make_vjp(lambda x: anp.sum(_chain(step, x)), value), lambda made: made[0](np.float32(1))
    if library == "ours":
        from autograd import DiffTensor, ops

        x, tanh = DiffTensor(value, requires_grad=True), ops.tanh
    elif library == "mygrad":
        import mygrad

        x, tanh = mygrad.tensor(value), mygrad.tanh
    else:
        import torch

        x, tanh = torch.from_numpy(value).requires_grad_(), torch.tanh
    step = (lambda y, x: y + x) if measure == "chained_adds" else (lambda y, x: tanh(y))

    def backward(loss: Any) -> Any:
        loss.backward()
        return x.grad

    return lambda: _chain(step, x).sum(), backward


def _chain(step: Callable[[Any, Any], Any], x: Any) -> Any:
    y = x
    for _ in range(LAYERS):
        y = step(y, x)
    return y


def measure_traced(library: str, measure: str) -> dict[str, float]:
    """Peaks by tracemalloc, in bytes beyond what was live at the start."""
    if measure.startswith("mlp"):
        step = training_step.build(library, measure)
        start = _trace()
        step()
        tracemalloc.reset_peak()
        step()
        return {"total": _peak(start)}
    forward, backward = program(library, measure)
    start = _trace()
    loss = forward()
    found = {"forward": _peak(start), "retained": tracemalloc.get_traced_memory()[0] - start}
    tracemalloc.reset_peak()
    gradient = backward(loss)
    found["total"] = max(found["forward"], _peak(start))
    if gradient is None:
        raise AssertionError(f"{library}, {measure}: no gradient came back")
    return found


def _trace() -> int:
    gc.collect()
    if not tracemalloc.is_tracing():
        tracemalloc.start(1)
    tracemalloc.reset_peak()
    return tracemalloc.get_traced_memory()[0]


def _peak(start: int) -> int:
    return tracemalloc.get_traced_memory()[1] - start


def measure_torch(measure: str) -> dict[str, float]:
    """Peaks from the allocations and frees that PyTorch's profiler records."""
    import torch

    def profiled(first: Callable[[], Any], second: Callable[[Any], Any]) -> tuple[list[int], list[int]]:
        """Bytes live after each allocation and each free of ``first()``, and of ``second()`` with its result."""
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as p:
            result = first()
            with torch.profiler.record_function("second"):
                second(result)
        events = sorted(
            (e.start_ns(), e.name() == "second", e.nbytes())
            for e in p.profiler.kineto_results.events()
            if e.name() in ("[memory]", "second")
        )
        middle = next(i for i, (_, is_second, _) in enumerate(events) if is_second)
        live = list(itertools.accumulate(0 if is_second else n for _, is_second, n in events))
        return live[:middle], live[middle:]

    if measure.startswith("mlp"):
        step = training_step.build("torch", measure)
        return {"total": max(profiled(step, lambda _: step())[1])}
    first, second = profiled(*program("torch", measure))
    return {"forward": max(first), "retained": first[-1], "total": max(first + second)}


def measure_jax(measure: str) -> dict[str, float]:
    """What XLA plans to allocate: temporaries and outputs (for a training step, donated weights are reused for the new ones)."""
    import jax
    import jax.numpy as jnp

    if measure.startswith("mlp"):
        raise workers.Missing("XLA's plan is given for the chains only")
    step = (lambda y, x: y + x) if measure == "chained_adds" else (lambda y, x: jnp.tanh(y))
    x = jnp.full(ELEMENTS, 0.5, jnp.float32)
    plan = jax.jit(jax.grad(lambda x: _chain(step, x).sum())).lower(x).compile().memory_analysis()
    return {"total": plan.temp_size_in_bytes + plan.output_size_in_bytes}


def measure(library: str, name: str) -> dict[str, float]:
    if library in TRACED:
        return measure_traced(library, name)
    return measure_torch(name) if library == "torch" else measure_jax(name)


def long_chain(library: str) -> dict[str, Any]:
    """Differentiate a chain of 200,000 operations, and free it."""
    start = time.perf_counter()
    if library == "jax":
        raise workers.Missing("an unrolled chain of 200,000 operations does not compile in useful time")
    if library == "hips":
        from autograd import grad

        gradient = grad(_long)(1.0)
    else:
        x, found = _scalar(library)
        _long(x).backward()
        gradient = found()
    gc.collect()
    if not abs(float(gradient) - 1.0) < 1e-9:
        raise AssertionError(f"{library}: the derivative of x + 200000 · 0.001 came out as {gradient}")
    return {"ok": True, "seconds": time.perf_counter() - start}


def _long(x: Any) -> Any:
    y = x
    for _ in range(LENGTH):
        y = y + 0.001
    return y


def _scalar(library: str) -> tuple[Any, Callable[[], Any]]:
    if library == "ours":
        from autograd import DiffTensor

        x: Any = DiffTensor(1.0, requires_grad=True)
    elif library == "torch":
        import torch

        x = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    else:
        import mygrad

        x = mygrad.tensor(1.0)
    return x, lambda: x.grad


def theory(name: str) -> dict[str, float]:
    """What the measure cannot go below, for a tape that keeps just what rules read: the column "needed"."""
    if name == "chained_adds":
        return {"forward": 2 * ARRAY, "retained": 0, "total": 2 * ARRAY}
    if name == "tanh_layers":
        return {"forward": LAYERS * ARRAY, "retained": LAYERS * ARRAY, "total": (LAYERS + 1) * ARRAY}
    sizes, batch = training_step.MLPS[name]
    weights = sum(m * n + n for m, n in itertools.pairwise(sizes))
    return {"total": 4 * (weights + batch * sum(sizes[1:]))}


def main(argv: list[str] | None = None) -> None:
    p = common.parser(__doc__)
    options = p.parse_args(argv)
    if options.worker:
        workers.serve(options.worker, build=training_step.build, measure=lambda name: measure(options.worker, name), chain=lambda: long_chain(options.worker))  # fmt: skip
        return
    found: dict[str, dict[str, dict[str, float]]] = {name: {} for name in MEASURES}
    chains: dict[str, Any] = {}
    with workers.start(options, __file__) as (running, left_out):
        lines = common.describe(running, left_out, options.threads)
        print("\n".join(lines), flush=True)
        for name in MEASURES:
            for library, worker in running.items():
                try:
                    found[name][library] = worker.ask("measure", name=name)
                except workers.Missing as error:
                    left_out[f"{name}, {library}"] = str(error)
        there = ",".join(running)
    options.libraries = there
    with workers.start(options, __file__) as (running, _):
        for worker in running.values():
            worker.send("chain")
        for library, worker in running.items():
            try:
                chains[library] = worker.receive()
            except workers.Missing as error:
                left_out[f"chain_200000, {library}"] = str(error)
            except (RuntimeError, TimeoutError) as error:  # a crash of a peer (recursion) is a result
                chains[library] = {"ok": False, "error": str(error).strip().splitlines()[-1]}
    libraries = [library for library in workers.LIBRARIES if library in there.split(",")]
    rows: list[list[Any]] = []
    for name in MEASURES:
        unit, scale = ("4 MB arrays", ARRAY) if not name.startswith("mlp") else ("MB", 1e6)
        for part in ("forward", "retained", "total"):
            if part in theory(name):
                values = [found[name].get(library, {}).get(part) for library in libraries]
                rows.append(
                    [
                        f"{name}, {part}",
                        unit,
                        theory(name)[part] / scale,
                        *(None if v is None else v / scale for v in values),
                    ]
                )
    rows.append(
        [
            "chain_200000",
            "seconds",
            None,
            *(chains[lib].get("seconds", "fails") if lib in chains else None for lib in libraries),
        ]
    )
    body = [
        "",
        *common.table(["measure", "unit", "needed", *(workers.TITLES[library] for library in libraries)], rows),
        "",
    ]
    body += [f"{library} fails the chain of 200,000: {c['error']}" for library, c in chains.items() if not c["ok"]]
    body += [f"Left out: {what} ({reason})." for what, reason in left_out.items() if ", " in what]
    print("\n".join(body))
    figures: dict[str, Any] = {"chain_200000_ok": chains.get("ours", {}).get("ok")}
    if "ours" in found["chained_adds"]:
        figures["chained_adds_peak_arrays"] = round(found["chained_adds"]["ours"]["forward"] / ARRAY, 3)
        figures["chained_adds_total_peak_arrays"] = round(found["chained_adds"]["ours"]["total"] / ARRAY, 3)
        figures["tanh_retained_arrays"] = round(found["tanh_layers"]["ours"]["retained"] / ARRAY, 3)
    common.finish(
        options,
        "memory",
        lines + body,
        {**figures, "bytes": found, "chain_200000": chains},
        {"needed": {n: theory(n) for n in MEASURES}},
    )


if __name__ == "__main__":
    sys.exit(main())
