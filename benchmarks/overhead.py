"""Microseconds per operation, forward and backward, beside PyTorch, JAX, MyGrad and HIPS autograd.

What is measured: for each operation a chain of 100 (on one tracked input, values kept tame: a chain neither overflows nor
dies out), reduced to a scalar, then differentiated with respect to the input; the time of all that, divided by 100. On
scalars (float64, what Python numbers become) and on 64×64 float32. Two operations take turns where one alone would not
stay tame (log and exp) or changes the shape (sum, then division by it); each counts.

How: every library runs the same chain in its own idiom (``y.backward()`` in Hammer, PyTorch and MyGrad, ``grad(f)(x)`` in
HIPS autograd, ``jit(value_and_grad(f))(x)`` in JAX, which fuses the whole chain and is given for reference), in a process
of its own, with one thread, garbage collection as it is by default. Short blocks of all libraries are interleaved; see
``workers``. Where two inputs are tracked (``y + x``), both derivatives are computed.

Run it as ``env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE python benchmarks/overhead.py`` (overrides of OpenBLAS's own
choice slow down NumPy's matrix products on some machines; the script prints the kernel in use), on a quiet machine. With
``--profile`` it prints instead where Hammer's own time goes (cProfile).

The last line is JSON: geometric means over the operations of HIPS/ours, MyGrad/ours and ours/PyTorch (and ours/JAX).
"""

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import common
import workers

LENGTH = 100  # operations in a chain

# Each program takes the library's operations `o`, the chain so far `y` and the tracked input `x`, and is so many
# operations long; `o.low` is a constant of the input's shape, below all values (at ties conventions differ). The input is near 1, or 0.5 for the trigonometric functions; for matmul it is orthogonal.
PROGRAMS: dict[str, tuple[int, Callable[[Any, Any, Any], Any]]] = {
    "add": (1, lambda o, y, x: y + x),
    "subtract": (1, lambda o, y, x: y - x),
    "multiply": (1, lambda o, y, x: y * x),
    "divide": (1, lambda o, y, x: y / x),
    "times number": (1, lambda o, y, x: y * 1.01),
    "negative": (1, lambda o, y, x: -y),
    "square": (1, lambda o, y, x: o.square(y)),
    "sqrt": (1, lambda o, y, x: o.sqrt(y)),
    "log, exp": (2, lambda o, y, x: o.exp(o.log(y))),
    "sin": (1, lambda o, y, x: o.sin(y)),
    "tanh": (1, lambda o, y, x: o.tanh(y)),
    "relu": (1, lambda o, y, x: o.relu(y)),
    "maximum": (1, lambda o, y, x: o.maximum(y, o.low)),
    "sum, divide": (2, lambda o, y, x: x / o.rows(y)),
    "transpose": (1, lambda o, y, x: y.T),
    "reshape": (2, lambda o, y, x: y.reshape((32, 128)).reshape((64, 64))),
    "matmul": (1, lambda o, y, x: y @ x),
}
MATRIX_ONLY = {"sum, divide", "transpose", "reshape", "matmul"}
CASES = [f"{op} scalar" for op in PROGRAMS if op not in MATRIX_ONLY] + [f"{op} 64" for op in PROGRAMS]


class Ops:
    """A library's operations under the names that the programs use."""

    def __init__(self, **functions: Any):
        self.__dict__.update(functions)


def initial(op: str, size: str) -> Any:
    """The input of a case as NumPy has it: the same for every library."""
    import numpy as np

    rng = np.random.default_rng(7)
    if op == "matmul":
        return np.linalg.qr(rng.standard_normal((64, 64)))[0].astype(np.float32)
    x = 1.0 + 0.01 * rng.uniform(-1, 1, (64, 64))
    if op in ("square", "sin", "tanh"):
        x = x * (0.5 if op != "square" else 0.0) + (1.0 if op == "square" else 0.0)
    return x.astype(np.float32) if size == "64" else np.float64(x[0, 0])


def chain(o: Ops, step: Callable, count: int, scalar: bool) -> Callable[[Any], Any]:
    times = range(LENGTH // count)

    def f(x: Any) -> Any:
        y = x
        for _ in times:
            y = step(o, y, x)
        return y if scalar else o.sum(y)

    return f


def build(library: str, case: str) -> Callable[[], Any]:
    """A function that runs the chain and its derivative once, and returns the derivative's sum."""
    op, _, size = case.rpartition(" ")
    count, step = PROGRAMS[op]
    value = initial(op, size)
    return getattr(sys.modules[__name__], f"_{library}")(value, step, count, size == "scalar")


def _ours(value: Any, step: Callable, count: int, scalar: bool) -> Callable[[], Any]:
    from autograd import DiffTensor, ops

    o = Ops(
        square=ops.square, sqrt=ops.sqrt, exp=ops.exp, log=ops.log, sin=ops.sin, tanh=ops.tanh, relu=ops.relu,
        maximum=ops.maximum, low=DiffTensor(value * 0 - 9), sum=ops.sum, rows=lambda y: ops.sum(y, axis=0, keepdims=True),
    )  # fmt: skip
    f, x = chain(o, step, count, scalar), DiffTensor(value, requires_grad=True)

    def run() -> Any:
        x.grad = None
        f(x).backward()
        return Lazy(lambda: x.grad.sum())

    return run


def _torch(value: Any, step: Callable, count: int, scalar: bool) -> Callable[[], Any]:
    import torch

    o = Ops(
        square=torch.square, sqrt=torch.sqrt, exp=torch.exp, log=torch.log, sin=torch.sin, tanh=torch.tanh,
        relu=torch.relu, maximum=torch.maximum, low=torch.tensor(value * 0 - 9), sum=torch.sum, rows=lambda y: torch.sum(y, dim=0, keepdim=True),
    )  # fmt: skip
    f, x = chain(o, step, count, scalar), torch.tensor(value, requires_grad=True)

    def run() -> Any:
        x.grad = None
        f(x).backward()
        return Lazy(lambda: x.grad.sum())

    return run


def _mygrad(value: Any, step: Callable, count: int, scalar: bool) -> Callable[[], Any]:
    import mygrad as mg
    from mygrad.nnet.activations import relu

    o = Ops(
        square=mg.square, sqrt=mg.sqrt, exp=mg.exp, log=mg.log, sin=mg.sin, tanh=mg.tanh, relu=relu,
        maximum=mg.maximum, low=mg.tensor(value * 0 - 9, constant=True), sum=mg.sum, rows=lambda y: mg.sum(y, axis=0, keepdims=True),
    )  # fmt: skip
    f, x = chain(o, step, count, scalar), mg.tensor(value)

    def run() -> Any:
        x.null_grad()
        f(x).backward()
        return Lazy(lambda: x.grad.sum())

    return run


def _hips(value: Any, step: Callable, count: int, scalar: bool) -> Callable[[], Any]:
    from autograd import grad
    from autograd import numpy as np

    o = Ops(
        square=np.square, sqrt=np.sqrt, exp=np.exp, log=np.log, sin=np.sin, tanh=np.tanh,
        relu=lambda y: np.maximum(y, 0), maximum=np.maximum, low=value * 0 - 9, sum=np.sum, rows=lambda y: np.sum(y, axis=0, keepdims=True),
    )  # fmt: skip
    gradient = grad(chain(o, step, count, scalar))

    def run() -> Any:
        d = gradient(value)
        return Lazy(lambda: d.sum())

    return run


def _jax(value: Any, step: Callable, count: int, scalar: bool) -> Callable[[], Any]:
    import jax
    import jax.numpy as np

    jax.config.update("jax_enable_x64", True)
    o = Ops(
        square=np.square, sqrt=np.sqrt, exp=np.exp, log=np.log, sin=np.sin, tanh=np.tanh, relu=jax.nn.relu,
        maximum=np.maximum, low=np.asarray(value * 0 - 9), sum=np.sum, rows=lambda y: np.sum(y, axis=0, keepdims=True),
    )  # fmt: skip
    both, x = jax.jit(jax.value_and_grad(chain(o, step, count, scalar))), np.asarray(value)

    def run() -> Any:
        d = jax.block_until_ready(both(x))[1]
        return Lazy(lambda: d.sum())

    return run


class Lazy:
    """A check value that costs nothing until it is asked for."""

    __slots__ = ("value",)

    def __init__(self, value: Callable[[], Any]):
        self.value = value

    def __float__(self) -> float:
        return float(self.value())


def agree(values: dict[str, dict[str, list[float]]]) -> None:
    """All libraries must have computed the same derivative, or the times compare different work."""
    for case, there in values.items():
        want = there.get("ours", next(iter(there.values()), None))
        for library, found in there.items():
            tolerance = 1e-9 if case.endswith("scalar") else 2e-3
            if want is not None and abs(found[0] - want[0]) > tolerance * max(abs(want[0]), 1e-30):
                raise AssertionError(f"{case}: {library} finds the derivative {found[0]}, the first library {want[0]}")


PAIRS = {
    "hips_over_ours": ("hips", "ours"),
    "mygrad_over_ours": ("mygrad", "ours"),
    "ours_over_torch": ("ours", "torch"),
    "ours_over_jax": ("ours", "jax"),
}


def summarise(seconds: dict[str, dict[str, list[float]]]) -> tuple[dict[str, float], list[str]]:
    """The figures of the last line, and the table's lines."""
    figures: dict[str, float] = {}
    lines: list[str] = []
    libraries = [library for library in workers.LIBRARIES if any(library in there for there in seconds.values())]
    times = common.medians(seconds, 1e6 / LENGTH)
    for size in ("scalar", "64"):
        cases = [case for case in seconds if case.rpartition(" ")[2] == size]
        pairs = {
            name: [common.ratio(seconds[c], *pair) for c in cases if set(pair) <= seconds[c].keys()]
            for name, pair in PAIRS.items()
        }
        pairs = {name: r for name, r in pairs.items() if r}
        rows: list[list[Any]] = []
        for i, case in enumerate(cases):
            rows.append(
                [
                    case.rpartition(" ")[0],
                    *(times[case].get(library) for library in libraries),
                    *(r[i] for r in pairs.values()),
                ]
            )
        means = [statistics.geometric_mean([times[c][library] for c in cases]) for library in libraries]
        geometric = {f"{name}_{size}": statistics.geometric_mean(r) for name, r in pairs.items()}
        rows.append(["geometric mean", *means, *geometric.values()])
        figures |= {name: round(value, 3) for name, value in geometric.items()}
        lines += [
            "",
            f"## {'Scalars, float64' if size == 'scalar' else '64×64, float32'}: µs per operation, forward + backward",
            "",
        ]
        lines += common.table(
            [
                "operation",
                *(workers.TITLES[library] for library in libraries),
                *(name.replace("_over_", "/") for name in pairs),
            ],
            rows,
        )
    return figures, lines


def profile() -> None:
    """Print where the time goes in our own chains."""
    import cProfile
    import pstats

    workers.load("ours")
    for case in ("multiply scalar", "tanh scalar", "multiply 64", "sum, divide 64"):
        run = build("ours", case)
        run()
        with cProfile.Profile() as p:
            for _ in range(200):
                run()
        print(case)
        pstats.Stats(p).sort_stats("tottime").print_stats(12)


def main(argv: list[str] | None = None) -> None:
    p = common.parser(__doc__, threads=1)
    p.add_argument("--profile", action="store_true", help="profile Hammer's own chains instead")
    p.add_argument("--rounds", type=int, help="rounds of blocks (default: 15, with --quick 7)")
    options = p.parse_args(argv)
    if options.worker:
        workers.serve(options.worker, build)
        return
    if options.profile:
        profile()
        return
    start = time.monotonic()
    with workers.start(options, __file__) as (running, left_out):
        lines = common.describe(running, left_out, options.threads)
        print("\n".join(lines), flush=True)
        values, more = workers.prepare(running, CASES, 0.008 if options.quick else 0.025)
        agree(values)
        rounds = options.rounds or (7 if options.quick else 15)
        seconds = workers.interleave(running, values, rounds, start + (38 if options.quick else 1200))
    figures, rows = summarise(seconds)
    rows = [*(f"Left out: {what} ({reason})." for what, reason in more.items()), *rows]
    print("\n".join(rows))
    common.finish(
        options,
        "overhead",
        lines + rows,
        figures,
        {"microseconds": common.medians(seconds, 1e6 / LENGTH), "left_out": left_out | more},
    )


if __name__ == "__main__":
    main()
