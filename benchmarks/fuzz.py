"""Differential fuzzing: random programs in our library, PyTorch and JAX must give the same values and gradients.

Program i is a function of (seed, i): ``fuzz_model`` says when results may differ (the error model), ``fuzz_blame`` finds
the row that makes them differ and has a referee decide who is wrong, ``peers_torch`` and ``peers_jax`` say what the rows
are in the peers, and which they lack.

    python benchmarks/fuzz.py --programs 20000 --jobs 2 --state fuzz-state    # resumes from the folder when run again
    python benchmarks/fuzz.py --start 4711 --programs 1 --print               # one program, as Python text

Every fourth program is compared in float32, the others in float64. PyTorch runs all programs; JAX, which compiles each of
them (for about half a second), every ``--jax-every``-th, and is the second referee where PyTorch disagrees.

A disagreement is *explained* if each row to blame for it was found, and a referee found the peer wrong and us right, or it
is in ``TRIAGE``, with the reason. Everything else is unexplained: what the referee cannot decide, a program that one of
our rows refuses, a refusal of a peer that ``REFUSALS`` does not name, and where we are wrong.
"""

import argparse
import json
import multiprocessing
import re
import sys
import time
from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from common import finish, table, write
from fuzz_blame import Blame, blame
from fuzz_conventions import conventions
from fuzz_model import NEAR, Model, compare
from hypothesis import HealthCheck, given, settings

from autograd.table import OPS
from autograd.testing.programs import Program, gradients
from autograd.testing.strategies import programs

BLOCK = 100  # programs that are done, and saved, together

_TRIGAMMA = "PyTorch's trigamma function is right to 10 digits only (mpmath: see the gradients of digamma)"
_ONE = (
    "differentiated step by step, √(var + ε) magnifies two terms 316 times that then cancel; we project once. Of one element the exact "
    "gradient is the cotangent of the mean, which is what we give"
)
_STEP = (
    "the float beside x moves as x does: ours passes the gradient on, PyTorch has none for it and counts it as constant"
)
_COFACTORS = (
    "our cofactors are found by singular values, so that singular matrices have them; beside an inverse by LU that costs digits, "
    "here just past the bound"
)
_I1 = "I₁'' is a difference of Bessel functions, of which small arguments leave few digits: both are off"
_STD = "where all elements are equal our derivatives are 0 (the middle of the subdifferential), theirs NaN or infinite"
TRIAGE: dict[tuple[str, str, str], tuple[str, str]] = {
    **{
        ("PyTorch", row, "second derivatives"): ("theirs", _TRIGAMMA)
        for row in ("gammaln", "loggamma", "digamma", "beta", "betaln")
    },
    **{("PyTorch", row, "gradients"): ("theirs", _TRIGAMMA) for row in ("digamma", "polygamma")},
    **{
        (name, "standardize", part): ("theirs", _ONE)
        for name in ("PyTorch", "JAX")
        for part in ("gradients", "second derivatives")
    },
    **{("PyTorch", "nextafter", part): ("convention", _STEP) for part in ("gradients", "second derivatives")},
    ("PyTorch", "det", "gradients"): ("ours", _COFACTORS),
    ("PyTorch", "i1", "second derivatives"): ("ill-conditioned", _I1),
    **{
        (name, "std", part): ("convention", _STD)
        for name in ("PyTorch", "JAX")
        for part in ("gradients", "second derivatives")
    },
}
"""(peer, row, part): the verdict and its reason, where no referee of ``fuzz_blame`` can decide, or it needs words."""

_SOLVE = "PyTorch's vmap of linalg.solve takes a right side that is the same for all examples for a batch of vectors"
BY_HAND: dict[tuple[int, int, str], tuple[str, str]] = {
    (2026, 639, "PyTorch"): ("refused", _SOLVE),
    (2026, 19821, "PyTorch"): ("refused", _SOLVE),
    (2026, 9657, "PyTorch"): (
        "theirs", "the whole difference, 2.57e-10, is that of digamma's gradient, where mpmath finds PyTorch off by it"
    ),
    (2026, 9879, "PyTorch"): (
        "convention", "the eigenvalues of eig come in another order, which is not defined; up to it both agree"
    ),
    (2026, 11862, "PyTorch"): (
        "ill-conditioned", "a tangent of standardize where all elements are equal: terms of 1/√ε cancel to 0, ours leaves their rounding"
    ),
    (2026, 13343, "PyTorch"): ("theirs", "in float64 both give 0.19406444, which is what we give in float32"),
}  # fmt: skip
"""(seed, program, peer): the verdict of a person who looked at a program that the referees could not decide, and the reason."""

REFUSALS = {
    r"has been modified by an inplace operation.*output 0 of MaskedFill": "PyTorch's own derivative writes into an array that it needs",
    r"Differentiation rule for 'nextafter' not implemented": "JAX has no derivative of the function",
    r"ZeroTensors are immutable": "PyTorch's forward mode cannot write into the zero tangents that it makes itself",
    r"don't yet support saved tensor hooks": "PyTorch's checkpoint and torch.func cannot be inside of one another",
    r"forward AD .* has not been implemented": "PyTorch has no forward mode for the function",
    r"derivative for .* is not implemented": "PyTorch has no derivative of the function",
    r"linalg_eig_backward: The eigenvectors in the complex case": "PyTorch refuses gradients of eigenvectors up to their phase",
}
"""Refusals of peers that are limits of theirs, by what their messages say."""

# ---- programs ----


@lru_cache
def _source(peer: str) -> tuple[Any, list]:
    """A function of bytes that draws a program from rows that a peer has, and the list that it puts it into."""
    from peers_jax import LACKS as JAX_LACKS
    from peers_torch import LACKS as TORCH_LACKS

    lacks = {"PyTorch": TORCH_LACKS, "JAX": JAX_LACKS}[peer]
    made: list[Program] = []

    @settings(database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(programs(rows=[n for n in OPS if n not in lacks], empty=False, max_steps=8))
    def collect(program: Program) -> None:
        made.append(program)

    return collect.hypothesis.fuzz_one_input, made


def program_of(seed: int, i: int, jax_every: int) -> tuple[Program, str]:
    """Program i, and the precision that it is compared in. Every jax_every-th consists of rows that JAX has."""
    draw, made = _source("JAX" if _for_jax(i, jax_every) else "PyTorch")
    made.clear()
    attempt = 0
    while not made:  # a drawn program is refused if it needs more bytes than these: then take others
        draw(np.random.default_rng(np.random.SeedSequence([seed, i, attempt])).bytes(8000))
        attempt += 1
    dtype = "float32" if i % 4 == 3 else "float64"
    return made[-1].astype(dtype), dtype


def _for_jax(i: int, jax_every: int) -> bool:
    return jax_every > 0 and i % jax_every == jax_every - 1 - i // jax_every % min(4, jax_every)  # in both precisions


@lru_cache
def peer(name: str, dtype: str) -> Any:
    if name == "PyTorch":
        import torch
        from peers_torch import Torch

        return Torch(getattr(torch, dtype))
    from peers_jax import Jax

    return Jax()


# ---- one program ----


def examine(seed: int, i: int, jax_every: int) -> dict[str, Any]:
    """What comparing program i shows."""
    program, dtype = program_of(seed, i, jax_every)
    steps = [s.op for s in program.all_steps()]
    found: dict[str, Any] = {
        "steps": len(program.steps),
        "ops": dict(Counter(steps)),
        "compared": [],
        "asked": 0,
        "failures": [],
    }
    try:
        values, grads = gradients(program)
    except Exception as error:  # noqa: BLE001 - whatever we raise, it is a finding
        return {**found, "failures": [_failure(i, "ours", dtype, f"raised {type(error).__name__}: {error}", program)]}
    model = Model(program.astype("float64"), dtype, seed)
    for name in ("PyTorch", "JAX") if _for_jax(i, jax_every) else ("PyTorch",):
        library = peer(name, dtype)
        if set(steps) & set(library.lacks):
            continue
        try:
            theirs = library.gradients(program)
        except Exception as error:  # noqa: BLE001 - a peer may refuse in any way
            reason = next((why for text, why in REFUSALS.items() if re.search(text, str(error), re.DOTALL)), None)
            if reason is None:
                found["failures"].append(_failure(i, name, dtype, f"raised {type(error).__name__}: {error}", program))
            else:
                found.setdefault("refused", []).append(f"{name}: {reason}")
            continue
        differences, largest, asked = compare([*values, *grads], [*theirs[0], *theirs[1]], model, len(values))
        found["compared"].append([name, dtype, largest])
        found["asked"] += asked > 0
        if differences:
            worst = max(differences, key=lambda d: d.excess)
            others = [peer(n, dtype) for n in ("PyTorch", "JAX") if n != name and jax_every]
            failure = _failure(
                i, name, dtype, f"{worst.what}{list(worst.index)}: {worst.ours!r} and {worst.theirs!r}", program
            )
            failure |= {"ulps": worst.ulps, "allowed": worst.allowed}
            try:
                failure["blames"] = [_told(b) for b in blame(program, dtype, library, others)]
            except Exception as error:  # noqa: BLE001 - then there is no explanation, and the report says why
                failure["what"] += f" (taking it apart raised {type(error).__name__}: {error})"
            found["failures"].append(failure)
    return found


def _failure(i: int, name: str, dtype: str, what: str, program: Program) -> dict[str, Any]:
    return {"program": i, "peer": name, "dtype": dtype, "what": what, "ops": repr(program), "blames": []}


def _told(b: Blame) -> dict[str, Any]:
    d = b.difference
    return {
        "row": b.what, "part": b.part, "verdict": b.verdict, "by": b.by, "ours": d.ours, "theirs": d.theirs, "ulps": d.ulps,
        "allowed": d.allowed, "ours off": b.errors[0], "theirs off": b.errors[1], "program": b.program.source() if b.verdict != "theirs" else "",
    }  # fmt: skip


def _refusal(failure: dict[str, Any]) -> str | None:
    """The reason in ``REFUSALS`` that a peer did not run a program; None if it did, or for another reason."""
    if "raised" not in failure["what"]:
        return None
    return next((why for text, why in REFUSALS.items() if re.search(text, failure["what"], re.DOTALL)), None)


def verdict_of(failure: dict[str, Any], seed: int | None = None) -> str:
    """The verdict on a disagreement: "theirs", another of ``TRIAGE`` or ``BY_HAND``, or "unexplained"."""
    if (seed, failure["program"], failure["peer"]) in BY_HAND:
        return BY_HAND[seed, failure["program"], failure["peer"]][0]  # type: ignore[index]
    if _refusal(failure) is not None:
        return "refused"
    verdicts = set()
    for b in failure["blames"]:
        key = (failure["peer"], b["row"], b["part"])
        verdicts.add(TRIAGE[key][0] if key in TRIAGE else b["verdict"] if b["verdict"] == "theirs" else "unexplained")
    return (
        "unexplained"
        if not verdicts or "unexplained" in verdicts
        else "theirs"
        if "theirs" in verdicts
        else min(verdicts)
    )


# ---- many programs ----


def _block(job: tuple[int, int, int, int, str | None]) -> dict[str, Any]:
    """Programs from ``start`` to ``stop``: what they show, from the folder of state if it is there."""
    seed, start, stop, jax_every, state = job
    path = Path(state) / f"{seed}-{jax_every}-{start}-{stop}.json" if state else None
    if path is not None and path.exists():
        return json.loads(path.read_text())  # type: ignore[no-any-return]
    total: dict[str, Any] = {
        "programs": stop - start, "steps": 0, "ops": Counter(), "compared": Counter(), "asked": 0, "refused": Counter(),
        "histogram": Counter(), "failures": [],
    }  # fmt: skip
    for i in range(start, stop):
        found = examine(seed, i, jax_every)
        total["steps"] += found["steps"]
        total["asked"] += found["asked"]
        total["ops"].update(found["ops"])
        total["refused"].update(found.get("refused", []))
        total["failures"] += found["failures"]
        for name, dtype, largest in found["compared"]:
            total["compared"][f"{name} {dtype}"] += 1
            total["histogram"][next((str(n) for n in (0, 1, 4, 16, NEAR) if largest <= n), f"> {NEAR}")] += 1
    if path is not None:
        write(path, json.dumps(total))
    return total


def run(options: argparse.Namespace) -> dict[str, Any]:
    """All blocks, in order, by as many processes as there are jobs."""
    stop = options.start + options.programs
    jobs = [
        (options.seed, k, min(k + BLOCK, stop), options.jax_every, str(options.state) if options.state else None)
        for k in range(options.start, stop, BLOCK)
    ]
    total: dict[str, Any] = {"failures": [], "programs": 0, "steps": 0, "asked": 0}
    total |= {key: Counter() for key in ("ops", "compared", "refused", "histogram")}
    began = time.perf_counter()  # of --quick
    pool = multiprocessing.get_context("spawn").Pool(options.jobs) if options.jobs > 1 else None
    try:
        for found in pool.imap(_block, jobs) if pool else map(_block, jobs):
            for key, value in found.items():
                if isinstance(total[key], Counter):
                    total[key].update(value)
                else:
                    total[key] += value
            if total["programs"] % 1000 == 0:
                print(
                    f"{total['programs']} programs, {len(total['failures'])} disagreements", file=sys.stderr, flush=True
                )
            if options.seconds and time.perf_counter() - began > options.seconds:
                break
    finally:
        if pool:
            pool.terminate()
            pool.join()
    return total


# ---- the report ----


def classes(failures: list[dict[str, Any]], seed: int | None = None) -> list[list[Any]]:
    """A row of the report for each class of disagreement: peer, row, part, precision, how many, the worst, verdict, why."""
    groups: dict[tuple, list[dict[str, Any]]] = {}
    for failure in failures:
        reason = _refusal(failure)
        nobody = {"row": "?", "part": failure["what"][:60], "verdict": "unexplained", "by": "", "ulps": 0.0}
        if reason is not None:
            nobody |= {"part": f"refused: {reason}", "verdict": "refused"}
        by_hand = BY_HAND.get((seed, failure["program"], failure["peer"]))  # type: ignore[arg-type]
        if by_hand is not None:
            nobody |= {"part": f"program {failure['program']}: {by_hand[1]}", "verdict": by_hand[0]}
            groups.setdefault((failure["peer"], "by hand", nobody["part"], failure["dtype"]), []).append(nobody)
            continue
        for b in failure["blames"] or [nobody]:
            groups.setdefault((failure["peer"], b["row"], b["part"], failure["dtype"]), []).append(b)
    rows = []
    for (name, row, part, dtype), found in sorted(groups.items()):
        worst = max(found, key=lambda b: min(b["ulps"], 1e15))
        verdicts = Counter(b["verdict"] for b in found)
        referees = ", ".join(sorted({b["by"] for b in found if b["by"]}))
        verdict, reason = TRIAGE.get(
            (name, row, part), (", ".join(sorted(verdicts)), f"referee: {referees}" if referees else "")
        )
        example = f"{worst.get('ours')!r}; {worst.get('theirs')!r}"
        rows.append(
            [f"`{row}`, {part}", name, dtype, len(found), f"{min(worst['ulps'], 9.9e15):.2g}", example, verdict, reason]
        )
    return rows


def main(arguments: list[str] | None = None) -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument(
        "--quick", action="store_true", help="end within 50 seconds; no report is written unless --out is given"
    )
    p.add_argument("--out", type=Path, help="folder for the report (default reports/benchmarks)")
    p.add_argument("--programs", type=int, help="how many programs (default 20000; with --quick as many as fit)")
    p.add_argument("--start", type=int, default=0, help="the first program (default 0)")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--jobs", type=int, default=1, help="processes (default 1)")
    p.add_argument("--jax-every", type=int, default=16, help="JAX runs one program in so many; 0: none (default 16)")
    p.add_argument("--state", type=Path, help="folder in which finished blocks are kept, to resume from")
    p.add_argument("--print", action="store_true", help="print the programs instead of comparing them")
    options = p.parse_args(arguments)
    options.seconds = 25.0 if options.quick else None
    options.programs = options.programs or (10 * BLOCK if options.quick else 20000)
    if options.quick and options.jax_every == 16:
        options.jax_every = 50
    if options.print:
        for i in range(options.start, options.start + options.programs):
            program, dtype = program_of(options.seed, i, options.jax_every)
            print(f"# program {i} of seed {options.seed}, {dtype}\n{program}")
        return
    if not options.quick:
        options.command = f"python benchmarks/fuzz.py --seed {options.seed} --programs {options.programs} --jax-every {options.jax_every}"
    total = run(options)
    verdicts = Counter(verdict_of(f, options.seed) for f in total["failures"])
    figures = {
        "programs": total["programs"], "steps": total["steps"], "rows": len([n for n in total["ops"] if n in OPS]),
        "compared": dict(sorted(total["compared"].items())), "disagreements": len(total["failures"]),
        "unexplained": verdicts["unexplained"], "verdicts": dict(verdicts), "refused": sum(total["refused"].values()),
        "seed": options.seed,
    }  # fmt: skip
    finish(options, "fuzz", _lines(total, figures, options), figures, {
        "refused": dict(total["refused"]), "histogram": dict(total["histogram"]), "ops": dict(sorted(total["ops"].items())),
        "disagreements": [{**f, "verdict": verdict_of(f, options.seed)} for f in total["failures"]],
    })  # fmt: skip


def _lines(total: dict[str, Any], figures: dict[str, Any], options: argparse.Namespace) -> list[str]:
    import jax
    import peers_jax
    import peers_torch
    import torch

    count = sum(total["compared"].values())
    rare = sorted((n, name) for name, n in total["ops"].items())[:5]
    return [
        f"{figures['programs']:,} random programs of {total['steps'] / max(figures['programs'], 1):.1f} steps on average (seed "
        f"{options.seed}, from {options.start}), over {figures['rows']} rows of the op table and all transforms, were run by us and by "
        f"PyTorch {torch.__version__} and JAX {jax.__version__} on the CPU (NumPy {np.__version__}); values and gradients of all leaves "
        f"were compared element by element. **{figures['disagreements']} disagreements, {figures['unexplained']} unexplained.**", "",
        f"Comparisons: {', '.join(f'{k}: {n:,}' for k, n in figures['compared'].items())}. The rarest rows: "
        f"{', '.join(f'{name} ({n})' for n, name in rare)}.", "",
        f"When results may differ is stated in `benchmarks/fuzz_model.py`: up to {NEAR} units in the last place need no explanation, "
        f"beyond that the program's measured sensitivity is the bound; it was asked for {total['asked']:,} of {count:,} comparisons.", "",
        *table(["largest difference of a comparison, units in the last place", "comparisons"],
               [[k if k[0] == ">" else f"at most {k}", total["histogram"][k]] for k in ("0", "1", "4", "16", str(NEAR), f"> {NEAR}")]),
        "", "## Disagreements", "",
        "By the row to blame, which is found by running each step on its own with the inputs that it had. The referee is mpmath with 40 digits, "
        "or (float32) both libraries in float64, or the other peer. Examples are our value and theirs.", "",
        *(table(["what", "peer", "precision", "times", "ulps", "example", "verdict", "why"], classes(total["failures"], options.seed)) or ["None."]),
        "", "## Refusals of peers", "",
        *(table(["what", "programs"], sorted(([k, n] for k, n in total["refused"].items()), key=lambda r: -r[1])) if total["refused"] else ["None."]),
        "", "## Conventions where there is no derivative", "",
        "Gradients at kinks, ties, singular points and branch cuts, which random programs keep away from; what each library gives.", "",
        *table(["at", "ours", "PyTorch", "JAX", "why ours"], conventions(peer("PyTorch", "float64"), peer("JAX", "float64"))),
        "", "## What is not compared", "",
        *(f"- {name}: " + "; ".join(f"{why}: " + ", ".join(f"`{r}`" for r, w in lacks.items() if w == why) for why in dict.fromkeys(lacks.values())) + "."
          for name, lacks in (("PyTorch", peers_torch.LACKS), ("JAX", peers_jax.LACKS))),
        "- Put together from several functions of the peer: PyTorch " + ", ".join(f"`{r}`" for r in peers_torch.COMPOSED)
        + "; JAX " + ", ".join(f"`{r}`" for r in peers_jax.COMPOSED) + ".",
    ]  # fmt: skip


if __name__ == "__main__":
    main()
