"""Random programs, eager and compiled: values and gradients must be the same.

Program i is a function of (seed, i), over all rows of the op table and all transforms that graphs compute. Every second one
is in float32, the others in float64; the third and fourth of four run on many examples at once (``vmap``), so that arrays are large
enough for loops to have a middle and a tail. A compiler is a function that takes a function and returns one:

    python benchmarks/random_programs.py                                    # 5,000 programs, with hammer.compile, exact and not
    python benchmarks/random_programs.py --compiler mymodule:compile        # yours, within the error model
    python benchmarks/random_programs.py --start 4711 --programs 1 --print  # one program, as Python text

Each program is compiled in two ways: as it is, so that its gradients come from the compiler's backward pass ("around"), and
together with its gradients, as one function ("whole"). Compiled with ``exact=True`` every bit must be that of eager code. Otherwise results
must agree within the error model of ``fuzz_model``: up to 64 units in the last place need no explanation, and beyond that the
program's measured sensitivity is the bound. A compiled function is called again with other arguments, and with the first ones: it must not
write over what it has returned, and must return the same bits again.

A mismatch is reported with the smallest program that still shows it, as Python text.
"""

import argparse
import contextlib
import importlib
import json
import multiprocessing
import os
import platform
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # matrices are small: threads would wait for each other

import numpy as np
from common import finish, machine, table, write
from fuzz_model import NEAR, Model, compare
from hypothesis import HealthCheck, given, settings
from smaller_programs import smaller

import hammer
from autograd.backend import scalar
from autograd.table import OPS
from autograd.tape import BackwardPass
from autograd.tensor import DiffTensor
from autograd.testing.programs import TRANSFORMS, Name, Program, Rows, Step, gradients, inexact, waves
from autograd.testing.strategies import programs
from autograd.transforms import vjp

Compiler = Callable[[Callable], Callable]
COMPILERS: dict[str, Compiler] = {
    "exact": lambda f: hammer.compile(f, fallback=False),
    "rounding": lambda f: hammer.compile(f, exact=False, fallback=False),
}
"""By name; any other name is ``module:function``. Only of "exact" every bit is asked."""
WAYS = ("around", "whole")
EXAMPLES = 67
"""How many examples a program that is mapped runs on: no power of two, so that loops have a tail."""
BLOCK = 50  # programs that are done together
STEPS = (0, 1, 4, 16, NEAR)  # of the histogram of differences


def compiler_of(name: str) -> Compiler:
    """A compiler by name.

    Raises:
        SystemExit: there is none.
    """
    if name in COMPILERS:
        return COMPILERS[name]
    module, _, function = name.partition(":")
    try:
        return getattr(importlib.import_module(module), function)  # type: ignore[no-any-return]
    except (ImportError, AttributeError, ValueError) as error:
        raise SystemExit(f"--compiler {name}: {error}; it is {', '.join(COMPILERS)} or module:function") from error


# ---- programs ----


@cache
def _source() -> tuple[Callable, list[Program]]:
    """A function of bytes that draws a program, and the list that it puts it into."""
    made: list[Program] = []

    @settings(database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(programs(transforms=[t for t in TRANSFORMS if t != "custom_vjp"], empty=False, max_steps=8))
    def collect(program: Program) -> None:
        made.append(program)

    return collect.hypothesis.fuzz_one_input, made


def program_of(seed: int, i: int, examples: int = EXAMPLES) -> tuple[Program, str]:
    """Program i and its precision."""
    draw, made = _source()
    made.clear()
    attempt = 0
    while not made:  # a drawn program is refused if it needs more bytes than these: then take others
        draw(np.random.default_rng(np.random.SeedSequence([seed, i, attempt])).bytes(8000))
        attempt += 1
    program, dtype = made[-1], ("float64", "float32")[i % 2]
    if i % 4 > 1:
        wide = mapped(program, np.random.default_rng(np.random.SeedSequence([seed, i])), examples)
        program = program if wide is None else wide
    return program.astype(dtype), dtype


def mapped(program: Program, rng: np.random.Generator, examples: int) -> Program | None:
    """The program on several examples near its own; None if it leaves the domain of a row there, or a row has no batching rule."""
    leaves = {
        name: np.stack([a * f for f in rng.uniform(0.999, 1.001, examples)]) for name, a in program.leaves.items()
    }
    step = Step(program.outputs, "vmap", tuple(map(Name, leaves)), {"body": program})
    wide = Program(leaves, (step,), program.outputs)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        warnings.filterwarnings("error", message="vmap: .* has no batching rule")
        try:
            values = wide(*leaves.values())
            gradients(wide)
        except (ArithmeticError, TypeError, ValueError, UserWarning):
            return None
    return wide if all(np.all(np.isfinite(v)) for v in values if inexact(v)) else None


# ---- one program, compiled ----


def compiled(program: Program, way: str, compiler: Compiler, seeds: Sequence[Any]) -> Callable[..., list]:
    """A function of the leaves that gives outputs and gradients (for the cotangents ``seeds``, one or None for each output), as arrays."""
    plain = lambda *xs: program.run(Rows(), *xs)
    kept = [k for k, s in enumerate(seeds) if s is not None]
    cotangents = [s for s in seeds if s is not None]

    def whole(*xs: Any) -> tuple:
        found = vjp(lambda *a: tuple(plain(*a)[k] for k in kept), *xs)[1](tuple(cotangents)) if kept else ()
        return tuple(plain(*xs)), tuple(found)

    function = compiler(plain if way == "around" else whole)

    def around(*xs: Any) -> tuple:
        variables = [DiffTensor(x, requires_grad=True) for x in xs]
        values = function(*variables)
        tracked = [k for k in kept if isinstance(values[k], DiffTensor) and values[k].node is not None]
        if not tracked:
            return values, ()
        found = BackwardPass([values[k] for k in tracked], variables).run([seeds[k] for k in tracked])
        return values, [found.get(v.node) for v in variables]  # type: ignore[arg-type]

    def flat(*xs: Any) -> list:
        values, found = (around if way == "around" else function)(*map(np.asarray, xs))
        grads = [np.zeros_like(x) if g is None else g for x, g in zip(xs, [*found] or [None] * len(xs), strict=True)]
        return [scalar(np.asarray(v.raw if isinstance(v, DiffTensor) else v)) for v in (*values, *grads)]

    return flat


class Mismatch(Exception):
    """What a compiled program does otherwise; ``ulps`` in units in the last place."""

    def __init__(self, what: str, ulps: float = float("inf")):
        super().__init__(what)
        self.ulps = ulps


def check(program: Program, dtype: str, way: str, compiler: Compiler, exact: bool, seed: int = 0) -> float:
    """The largest difference from eager code, in units in the last place.

    Raises:
        Mismatch: it is more than is allowed, or the compiled program raises an error where eager code does not.
    """
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        leaves = list(program.leaves.values())
        values = [v.raw if isinstance(v, DiffTensor) else v for v in program(*leaves)]
        seeds = [waves([v])[0] if inexact(v) else None for v in values]
        eager = compiled(program, way, lambda f: f, seeds)(*leaves)
        try:
            function = compiled(program, way, compiler, seeds)
            found = function(*leaves)
        except Exception as error:  # eager code has run: whatever the compiled one raises is a finding
            raise Mismatch(f"raised {type(error).__name__}: {error}") from error
        before = [np.array(x) for x in found]
        with contextlib.suppress(ArithmeticError, ValueError):  # it may be outside of the domain of a row
            function(*(a * 0.999 for a in leaves))
        after = [np.array(x) for x in found]
        again = function(*leaves)
        names = [f"output {name}" for name in program.outputs] + [f"the gradient of {x}" for x in program.leaves]
        for name, a, b, c in zip(names, before, after, again, strict=True):
            if not _same(a, b):
                raise Mismatch(f"{name} was written over by a later call")
            if not _same(a, c):
                raise Mismatch(f"{name} is not the same in the next call")
        for name, e, f in zip(names, eager, before, strict=True):
            if np.shape(e) != np.shape(f) or e.dtype != f.dtype:
                raise Mismatch(f"{name}: {f.dtype}{np.shape(f)}, eagerly {e.dtype}{np.shape(e)}")
            if exact and not _same(e, f):
                at = tuple(map(int, np.argwhere(~((e == f) | ((e != e) & (f != f))))[0]))
                raise Mismatch(f"{name}{list(at)}: {f[at]!r}, eagerly {e[at]!r}", _ulps(e, f))
        if exact:
            return 0.0
        if all(map(_same, eager, before)):
            return 0.0
        differences, largest, _ = compare(eager, before, Model(program.astype("float64"), dtype, seed), len(values))
        if differences:
            worst = max(differences, key=lambda d: d.excess)
            raise Mismatch(
                f"{names[worst.array]}{list(worst.index)}: {worst.theirs!r}, eagerly {worst.ours!r}; {worst.ulps:.3g} units in the "
                f"last place, {worst.allowed:.3g} are allowed",
                worst.ulps,
            )
        return largest


def _same(a: Any, b: Any) -> bool:
    return np.array_equal(a, b, equal_nan=np.asarray(a).dtype.kind in "fc")


def _ulps(a: Any, b: Any) -> float:
    if a.dtype.kind != "f":
        return float("inf")
    error = np.abs(a.astype(np.float64) - b) / np.spacing(np.maximum(np.abs(a), np.abs(b)))
    return float(
        np.max(
            np.where(np.isfinite(error), error, np.inf), initial=0.0, where=~((a == b) | (np.isnan(a) & np.isnan(b)))
        )
    )


# ---- many programs ----


def shown(program: Program, dtype: str, way: str, compiler: Compiler, exact: bool) -> str:
    """The smallest program that shows a mismatch, as text."""

    def fails(p: Program) -> bool:
        try:
            check(p, dtype, way, compiler, exact)
        except Mismatch:
            return True
        except Exception:  # noqa: BLE001 - a smaller program may leave the domain of a row in any way
            return False
        return False

    return smaller(program, fails).source()


def examine(seed: int, i: int, names: Sequence[str], shrink: bool = True, examples: int = EXAMPLES) -> dict[str, Any]:
    """What the compilers make of program i."""
    program, dtype = program_of(seed, i, examples)
    total: dict[str, Any] = {"ops": Counter(s.op for s in program.all_steps()), "mismatches": [], "largest": []}
    for name in names:
        compiler, exact = compiler_of(name), name == "exact"
        for way in WAYS:
            told = {"program": i, "compiler": name, "way": way, "dtype": dtype}
            try:
                total["largest"].append([name, check(program, dtype, way, compiler, exact, seed)])
            except Mismatch as error:
                text = shown(program, dtype, way, compiler, exact) if shrink else program.source()
                total["mismatches"].append({**told, "what": str(error), "ulps": error.ulps, "smallest": text})
    return total


def _block(job: tuple[int, int, int, tuple[str, ...], int, str | None]) -> dict[str, Any]:
    """Programs from ``start`` to ``stop``: what they show, from the folder of state if it is there."""
    seed, start, stop, names, examples, state = job
    told = "-".join(map(str, (seed, start, stop, examples, *names))).replace(":", ".")
    path = Path(state) / f"{told}.json" if state else None
    if path is not None and path.exists():
        return json.loads(path.read_text())  # type: ignore[no-any-return]
    total: dict[str, Any] = {
        "programs": stop - start, "ops": Counter(), "mismatches": [], "runs": Counter(), "worst": Counter(), "histogram": Counter(),
    }  # fmt: skip
    for i in range(start, stop):
        found = examine(seed, i, names, examples=examples)
        total["ops"].update(found["ops"])
        total["mismatches"] += found["mismatches"]
        for name, largest in found["largest"]:
            if largest <= NEAR:
                total["worst"][name] = max(total["worst"][name], largest)
            total["histogram"][f"{name} {next((str(s) for s in STEPS if largest <= s), f'> {NEAR}')}"] += 1
        for name in names:
            total["runs"][name] += len(WAYS)
    if path is not None:
        write(path, json.dumps(total))
    return total


def run(options: argparse.Namespace) -> dict[str, Any]:
    """All blocks, in order, by as many processes as there are jobs."""
    stop = options.start + options.programs
    state = str(options.state) if options.state else None
    jobs = [
        (options.seed, k, min(k + BLOCK, stop), tuple(options.compiler), options.examples, state)
        for k in range(options.start, stop, BLOCK)
    ]
    total: dict[str, Any] = {"programs": 0, "mismatches": []}
    total |= {key: Counter() for key in ("ops", "runs", "worst", "histogram")}
    began = time.perf_counter()  # of --quick
    pool = multiprocessing.get_context("spawn").Pool(options.jobs) if options.jobs > 1 else None
    try:
        for found in pool.imap(_block, jobs) if pool else map(_block, jobs):
            worst = {n: max(total["worst"][n], w) for n, w in found.pop("worst").items()}
            total["worst"].update({n: w - total["worst"][n] for n, w in worst.items()})
            for key, value in found.items():
                if isinstance(total[key], Counter):
                    total[key].update(value)
                else:
                    total[key] += value
            for m in found["mismatches"]:
                print(
                    f"program {m['program']}, {m['compiler']}, {m['way']}, {m['dtype']}: {m['what']}", file=sys.stderr
                )
            if total["programs"] % 500 == 0:
                print(
                    f"{total['programs']} programs, {len(total['mismatches'])} mismatches", file=sys.stderr, flush=True
                )
            if options.seconds and time.perf_counter() - began > options.seconds:
                break
    finally:
        if pool:
            pool.terminate()
            pool.join()
    return total


def main(arguments: list[str] | None = None) -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument(
        "--quick", action="store_true", help="end within 50 seconds; no report is written unless --out is given"
    )
    p.add_argument(
        "--out", type=Path, help="folder for the report (default reports/benchmarks, of 5,000 programs or more)"
    )
    p.add_argument("--programs", type=int, help="how many programs (default 5000; with --quick as many as fit)")
    p.add_argument("--start", type=int, default=0, help="the first program (default 0)")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument(
        "--examples",
        type=int,
        default=EXAMPLES,
        help="on how many examples every other program runs (default %(default)s)",
    )
    p.add_argument("--jobs", type=int, default=1, help="processes (default 1)")
    p.add_argument("--state", type=Path, help="folder in which finished blocks are kept, to resume from")
    p.add_argument(
        "--compiler",
        action="append",
        help=f"{', '.join(COMPILERS)} (the default are these), or module:function; may be given again",
    )
    p.add_argument("--print", action="store_true", help="print the programs instead of running them")
    options = p.parse_args(arguments)
    options.compiler = options.compiler or list(COMPILERS)
    options.seconds = 25.0 if options.quick else None
    options.programs = options.programs or 5000
    options.partial = options.start > 0 or options.programs < 5000
    for name in options.compiler:
        compiler_of(name)  # raises, if there is none
    if options.print:
        for i in range(options.start, options.start + options.programs):
            program, dtype = program_of(options.seed, i, options.examples)
            print(f"# program {i} of seed {options.seed}, {dtype}\n{program}")
        return
    if not options.quick:
        chosen = "" if options.compiler == list(COMPILERS) else "".join(f" --compiler {n}" for n in options.compiler)
        chosen += "" if options.examples == EXAMPLES else f" --examples {options.examples}"
        options.command = (
            f"python benchmarks/random_programs.py --seed {options.seed} --programs {options.programs}{chosen}"
        )
    total = run(options)
    counts = Counter(m["compiler"] for m in total["mismatches"])
    figures = {
        "programs": total["programs"], "rows": len([n for n in total["ops"] if n in OPS]), "mismatches": len(total["mismatches"]),
        "compiled": {
            n: {"runs": total["runs"][n], "mismatches": counts[n], "worst_ulp": float(f"{total['worst'][n]:.4g}"),
                "ill_conditioned": total["histogram"][f"{n} > {NEAR}"]} for n in options.compiler
        },
        "seed": options.seed,
    }  # fmt: skip
    finish(options, "random_programs", _lines(total, figures, options), figures, {
        "histogram": dict(sorted(total["histogram"].items())), "ops": dict(sorted(total["ops"].items())), "mismatches": total["mismatches"],
    })  # fmt: skip


def _lines(total: dict[str, Any], figures: dict[str, Any], options: argparse.Namespace) -> list[str]:
    def row(name: str) -> list[Any]:
        there = figures["compiled"][name]
        spread = [total["histogram"][f"{name} {s}"] for s in (*map(str, STEPS), f"> {NEAR}")]
        return [name, there["runs"], there["mismatches"], *spread, there["worst_ulp"]]

    about = machine()
    lines = [
        f"{figures['programs']:,} random programs (seed {options.seed}, from {options.start}) over {figures['rows']} rows of the op table and all "
        f"transforms that graphs compute, half of them in float32, half of them (unless they leave a domain there) on {options.examples} examples at once, each compiled as it is and together "
        f"with its gradients. **{figures['mismatches']} mismatches.**", "",
        *table(["compiler", "runs", "mismatches", *(f"≤ {s} ulp" for s in STEPS), f"> {NEAR} ulp, as the program's sensitivity allows", "worst of the others, ulp"],
               [row(n) for n in options.compiler]), "",
        f"Machine: {about['cpu']}, {about['cores']} cores, {about['system']}; Python {platform.python_version()}, NumPy {np.__version__}, BLAS on one thread.", "",
        "Columns of ulp count runs by the largest difference of any element of any value or gradient. What is allowed is said in "
        "`benchmarks/random_programs.py`.",
    ]  # fmt: skip
    for m in total["mismatches"]:
        lines += [
            "",
            f"## Program {m['program']}, {m['compiler']}, {m['way']}, {m['dtype']}",
            "",
            m["what"],
            "",
            "```python",
            m["smallest"],
            "```",
        ]
    return lines


if __name__ == "__main__":
    main()
