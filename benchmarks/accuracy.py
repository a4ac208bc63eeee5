"""The worst error of every row's value and gradient, in ulps, on hard inputs, beside PyTorch and JAX on the same inputs.

What is measured: |computed - true| in units in the last place of the true result (its spacing in float32 or float64;
correct rounding is at most 0.5), the largest over the inputs. The truth is mpmath's, at 60 digits or more, and evaluated again
at doubled precision until two agree (``accuracy_reference``). NaN, or infinity where the truth is finite, counts as inf. Points
where the derivative does not exist are left out.

Three kinds of rows: elementwise ones (``accuracy_functions``), on inputs from the smallest subnormal to the largest finite
number and closing in on zeros, poles, seams and thresholds (``accuracy_points``); rows on whole arrays (``accuracy_arrays``,
``accuracy_layers``), some of them in ulps of the largest element, which the table marks with *; and rows that only move, pick
or compare (``accuracy_moves``), where any bit that differs counts as inf and peers are not asked. Real numbers only.

**Best or equal** is an error that is at most 2 ulp, or at most the better peer's plus 0.5 ulp, or at most 1.1 times it; of rows
marked *, twice it, as the order of a BLAS's additions decides that much. A quantity that no peer has is held to 8 ulp. A row
counts if its value and gradient in both dtypes do.

Every library runs in this process, on the CPU with one thread, JAX compiled and with x64 enabled. With ``--only sin,erf`` some
rows only. The last line is JSON: ``rows``, ``best_or_equal`` and their ``share``; the same of rows ``beside`` a peer, of those
``alone`` and of the ``exact`` ones; ``strict``, what would count with 1 ulp instead of 2 and 1.1 times for all; and the ``worse``
ones.
"""

import math
import os
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

import itertools

import accuracy_libraries as libraries
import accuracy_reference as reference
import common
import mpmath
import numpy as np
from accuracy_arrays import ARRAYS, Arrays
from accuracy_functions import FUNCTIONS, Function
from mpmath import mp

GOOD, SLACK, FACTOR, TWICE, ALONE = 2.0, 0.5, 1.1, 2.0, 8.0
DTYPES = (np.dtype(np.float32), np.dtype(np.float64))
Worst = dict[str, Any]  # of a case and dtype: see ``measured``


# ---- one case ----


def sampled(f: Callable, points: Sequence[tuple]) -> list:
    """The true values at points; None where there is none."""
    out = []
    for p in points:
        try:
            out.append(reference.certain(f, *p)[0])
        except reference.Undecided:
            out.append(None)
    return out


def elementwise(case: Function, dtype: np.dtype, count: int) -> Iterator[tuple]:
    """What an elementwise case is run on: its inputs, the places of tracked ones, true values and gradients, and cotangents."""
    points = case.at(dtype, count)
    tracked = [i for i, slope in enumerate(case.slopes) if slope is not None]
    slopes = [sampled(case.slopes[i], points) for i in tracked]
    inputs = [np.array(column, dtype) for column in zip(*points, strict=True)]
    yield inputs, tracked, [sampled(case.value, points)], slopes, lambda outputs: [np.ones(o.shape) for o in outputs]


def structured(case: Arrays, dtype: np.dtype, count: int) -> Iterator[tuple]:
    """The same for each instance of a case on arrays."""
    rng = np.random.default_rng(30)
    instances = case.at(dtype, rng)
    for inputs in instances[: max(2, count)] if count < 6 else instances:
        tracked = [i for i in range(len(inputs)) if i not in case.untracked]
        with mp.workdps(case.digits):
            exact = [np.array([mpmath.mpf(float(v)) for v in x.ravel()], dtype=object).reshape(x.shape) for x in inputs]
            shapes, sizes = [x.shape for x in inputs], [x.size for x in inputs]

            def flat(values: Any) -> list[list]:
                return [
                    [mpmath.mpmathify(e) for e in np.ravel(v)]
                    for v in (values if isinstance(values, (tuple, list)) else [values])
                ]

            def of(
                xs: list, exact: Any = exact, shapes: Any = shapes, sizes: Any = sizes, tracked: Any = tracked
            ) -> list:
                parts, start = list(exact), 0
                for i in tracked:
                    parts[i] = np.array(xs[start : start + sizes[i]], dtype=object).reshape(shapes[i])
                    start += sizes[i]
                return [v for part in flat(case.value(*parts)) for v in part]

            values = flat(case.value(*exact))
            seeds = [np.round(8 * (rng.random(len(v)) + 0.5)) / 8 * rng.choice([-1, 1], len(v)) for v in values]
            weights = [mpmath.mpf(float(c)) for s in seeds for c in s]
            d = reference.differences(of, [v for i in tracked for v in exact[i].ravel()], weights, case.digits)
        cuts = np.cumsum([0, *(sizes[i] for i in tracked)])
        slopes = [d[a:b] for a, b in itertools.pairwise(cuts)]
        yield (
            inputs,
            tracked,
            values,
            slopes,
            lambda outputs, seeds=seeds: (
                [s.reshape(o.shape) for s, o in zip(seeds, outputs, strict=False)]
                + [None] * (len(outputs) - len(seeds))
            ),
        )


def measured(name: str, modules: dict[str, Any], dtype: np.dtype, count: int) -> Worst:
    """The worst errors of one case: of "value" and "gradient" by library, and our worst inputs."""
    from autograd import OPS

    case: Any = FUNCTIONS.get(name) or ARRAYS[name]
    row = OPS[name.partition(":")[0]]
    on_arrays = isinstance(case, Arrays)
    runs = {"ours": libraries.ours(row, case.params, case.ours if on_arrays else None)}
    for library, module in modules.items():
        if library != "ours":
            f = libraries.resolve(library, module, row.name, getattr(case, library))
            runs |= {library: getattr(libraries, library)(module, f)} if f is not None else {}
    found: Worst = {
        "row": row.name,
        "case": name,
        "dtype": dtype.name,
        "normwise": on_arrays and case.normwise,
        "points": 0,
        "value": {},
        "gradient": {},
        "worst": {},
    }
    for inputs, tracked, values, slopes, cotangents in (structured if on_arrays else elementwise)(case, dtype, count):
        found["points"] += 1 if on_arrays else len(values[0])
        for library, run in runs.items():
            got, grads = run(inputs, tracked, cotangents)
            for what, have, true in (("value", got, values), ("gradient", grads, slopes)):
                if have is None:
                    continue
                for h, t in zip(have, true, strict=False):
                    error, place = reference.worst(h.ravel(), t, dtype, found["normwise"])
                    if error >= found[what].get(library, 0.0):
                        found[what][library] = error
                        if library == "ours":
                            found["worst"][what] = _shown(inputs, place, on_arrays)
    return found


def _shown(inputs: list, place: int, on_arrays: bool) -> str:
    if on_arrays:
        x = inputs[0].ravel()
        return "[" + ", ".join(f"{v:.4g}" for v in x[:3]) + (", ..." if x.size > 3 else "") + "]"
    return ", ".join(f"{float(x[place]):.9g}" for x in inputs)


# ---- verdicts ----


def holds(errors: dict[str, float], good: float = GOOD, factor: float = FACTOR) -> bool:
    """Whether our error is best or equal, by the rule of the module's docstring."""
    if "ours" not in errors:
        return not errors
    mine, peers = errors["ours"], [e for library, e in errors.items() if library != "ours"]
    if not peers:
        return mine <= ALONE
    return mine <= max(good, min(peers) + SLACK, min(peers) * factor)


def fits(case: Worst, strict: bool = False) -> dict[str, bool]:
    """Whether a case's value and gradient hold; strictly, with 1 ulp for good and no allowance for the order of additions."""
    factor = TWICE if case["normwise"] and not strict else FACTOR
    return {what: holds(case[what], 1.0 if strict else GOOD, factor) for what in ("value", "gradient")}


def verdicts(cases: list[Worst], exact: dict[str, bool], strict: bool = False) -> dict[str, Any]:
    """The figures of the last line."""
    held: dict[str, bool] = {}
    beside: set[str] = set()
    for c in cases:
        ok = all(fits(c, strict).values())
        held[c["row"]] = held.get(c["row"], True) and ok
        if len(c["value"]) > 1 or len(c["gradient"]) > 1:
            beside.add(c["row"])
    alone = held.keys() - beside
    every = held | exact
    return {
        "rows": len(every),
        "best_or_equal": sum(every.values()),
        "share": round(sum(every.values()) / max(len(every), 1), 3),
        "beside": [sum(held[r] for r in beside), len(beside)],
        "alone": [sum(held[r] for r in alone), len(alone)],
        "exact": [sum(exact.values()), len(exact)],
        "worse": sorted(r for r, ok in every.items() if not ok),
    }


# ---- the report ----


def _cell(errors: dict[str, float], library: str) -> str:
    e = errors.get(library)
    return "–" if e is None else "inf" if math.isinf(e) else f"{e:.2f}" if e < 100 else f"{e:.1e}"


def tables(cases: list[Worst], exact: dict[str, bool]) -> list[str]:
    lines = []
    for title, chosen in (("Worse than a peer, or past the bound", False), ("Best or equal", True)):
        rows = []
        for c in cases:
            held = fits(c)
            if all(held.values()) == chosen:
                bad = [what for what, ok in held.items() if not ok] or ["value", "gradient"]
                worst = max((w for w in bad if w in c["worst"]), key=lambda w, c=c: c[w]["ours"], default=None)
                cells = [
                    _cell(c[what], library) for what in ("value", "gradient") for library in ("ours", "torch", "jax")
                ]
                rows.append(
                    [
                        c["case"] + " *" * c["normwise"],
                        c["dtype"],
                        *cells,
                        f"{worst}: {c['worst'][worst]}" if worst else "",
                    ]
                )
        if rows:
            lines += [
                "",
                f"## {title}",
                "",
                *common.table(
                    [
                        "row",
                        "dtype",
                        "value: Hammer",
                        "PyTorch",
                        "JAX",
                        "gradient: Hammer",
                        "PyTorch",
                        "JAX",
                        "our worst input",
                    ],
                    rows,
                ),
            ]
    right = [r for r, ok in exact.items() if ok]
    lines += ["", f"## Exact to the last bit: {len(right)} of {len(exact)} rows", "", ", ".join(right) + "."]
    return lines


def main(argv: list[str] | None = None) -> None:
    p = common.parser(__doc__, threads=1, libraries="ours,torch,jax")
    p.add_argument("--only", help="rows to measure, separated by commas (default: all; with --quick every sixth)")
    options = p.parse_args(argv)
    start = time.monotonic()
    import accuracy_layers  # noqa: F401  (it registers its rows)
    import accuracy_moves as moves

    warnings.filterwarnings("ignore", category=RuntimeWarning)
    modules = libraries.load(options.libraries.split(","))
    from autograd import OPS

    names = [*FUNCTIONS, *ARRAYS]
    if options.only:
        wanted = options.only.split(",")
        names = [n for n in names if n in wanted or n.partition(":")[0] in wanted]
        moving = [n for n in (*moves.MOVES, *moves.TESTS) if n in wanted]
    else:
        names, moving = names[:: 6 if options.quick else 1], [*moves.MOVES, *moves.TESTS]
    missing = sorted(
        OPS.keys() - {n.partition(":")[0] for n in (*FUNCTIONS, *ARRAYS)} - moves.MOVES.keys() - moves.TESTS.keys()
    )
    exact = {}
    for name in moving:
        row = OPS[name]
        exact[name] = all(
            moves.compares_exactly(row, d)
            if name in moves.TESTS
            else all(ok is not False for ok in moves.moves_exactly(row, d))
            for d in DTYPES
        )
    cases: list[Worst] = []
    for name in names:
        for dtype in DTYPES:
            before = time.monotonic()
            cases.append(measured(name, modules, dtype, 3 if options.quick else 8))
            cases[-1]["seconds"] = round(time.monotonic() - before, 2)
        if options.quick and time.monotonic() - start > 32:
            break
    figures = verdicts(cases, exact)
    figures["strict"] = verdicts(cases, exact, strict=True)["best_or_equal"]
    figures["seconds"] = round(time.monotonic() - start, 1)
    about = common.machine()
    versions = ", ".join(
        f"{n} {m.__version__}"
        for n, m in (("NumPy", np), ("mpmath", mpmath), *((k, v) for k, v in modules.items() if k != "ours"))
    )
    lines = [
        f"Machine: {about['cpu']}, {about['system']}. {versions}, CPU, one thread; JAX compiled, x64 enabled.",
        "",
        f"**{figures['best_or_equal']} of {figures['rows']} rows are best or equal**: {figures['beside'][0]} of {figures['beside'][1]} beside a peer, {figures['alone'][0]} of {figures['alone'][1]} "
        f"that no peer has, {figures['exact'][0]} of {figures['exact'][1]} that must be exact.",
        "",
        f"The worst error in ulps over all inputs; at most 0.5 is correct rounding. Best or equal is at most {GOOD:g} ulp, or the better peer's error plus {SLACK} or times {FACTOR} (rows marked *: times {TWICE:g}); without a peer at most "
        f"{ALONE:g} ulp. Rows marked * are measured in ulps of the largest element of the result. A dash: the library lacks it.",
        *([f"Not measured: {', '.join(missing)}."] if missing else []),
        *tables(cases, exact),
    ]
    print("\n".join(lines))
    for c in cases:
        for what in ("value", "gradient"):
            c[what] = {k: e if math.isfinite(e) else "inf" for k, e in c[what].items()}
    common.finish(options, "accuracy", lines, figures, {"cases": cases, "exact": exact, "missing": missing})


if __name__ == "__main__":
    main()
