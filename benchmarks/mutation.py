"""Break derivative rules on purpose, one at a time, and see whether the table's property tests notice.

What is measured: ``mutants.py`` makes broken versions of the rules' source text (another sign, a factor, a dropped term,
the wrong saved value, …). A seeded choice of them, each of another rule and the kinds in equal parts, is tried: the
package is copied into a temporary folder with that one change, and in a fresh process
``autograd.testing.check_row(row, examples=...)``, which is what the test suite runs for every row, checks the row that
was broken. The mutant is killed if that raises AssertionError, or anything else (counted apart: a rule that crashes is
noticed easily), or does not end in time; else it survived, and the tests have a gap. If the check does not even begin
(the mutated package cannot be imported) the mutant is invalid and does not count. First the same checks run on an
unchanged copy: they must pass there, or nothing would be shown; rows where they do not are left out, and said so.

Run it as ``python benchmarks/mutation.py`` (more: ``--mutants 300 --kinds all``; ``--list`` prints all mutants; ``--row exp``
tries those of some rows only).

The last line is JSON: ``mutants`` (how many were tried), ``killed``, ``survived`` (their descriptions).
"""

import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import common
import workers
from mutants import KINDS, Mutant, mutants

PACKAGE = workers.ROOT / "autograd"
DEFAULT_KINDS = tuple(k for k in KINDS if k != "tie")
CHECK = """
import sys, warnings
import autograd
from autograd.testing import check_row
from hypothesis import Phase, settings
settings.register_profile("mutation", phases=[Phase.explicit, Phase.generate])  # no shrinking of failures: it takes long
settings.load_profile("mutation")
assert autograd.__file__.startswith(sys.argv[1]), f"checked {autograd.__file__}, not the copy in {sys.argv[1]}"
warnings.simplefilter("error")  # as the test suite runs them
failed = 0
for row in sys.argv[3:]:
    try:
        check_row(row, examples=int(sys.argv[2]))
    except AssertionError as error:
        failed = 10
        print("FAILED", row, str(error).replace(chr(10), " ")[:300], flush=True)
    except Exception as error:
        failed = failed or 11
        print("RAISED", row, type(error).__name__, str(error).replace(chr(10), " ")[:300], flush=True)
sys.exit(failed)
"""


@dataclass(frozen=True)
class Verdict:
    """How a mutant ended: "check" (killed by an AssertionError), "error", "timeout", "survived" or "invalid"."""

    mutant: Mutant
    outcome: str
    message: str
    seconds: float


def _copy(package: Path, folder: str) -> Path:
    return Path(shutil.copytree(package, Path(folder) / "autograd", ignore=shutil.ignore_patterns("__pycache__")))


def _check(folder: str, rows: list[str], examples: int, timeout: float) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": folder, "OPENBLAS_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, "-c", CHECK, os.path.realpath(folder), str(examples), *rows],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout, check=False,
    )  # fmt: skip


def failing(package: Path, rows: list[str], examples: int, jobs: int) -> dict[str, str]:
    """Rows whose checks do not pass on the unchanged package, with what they say."""
    found: dict[str, str] = {}
    with ThreadPoolExecutor(jobs) as pool:
        shares = [share for share in (rows[i::jobs] for i in range(jobs)) if share]
        for done in pool.map(lambda share: _check(str(package.parent), share, examples, 600), shares):
            failed = {
                line.split()[1]: line for line in done.stdout.splitlines() if line.startswith(("FAILED ", "RAISED "))
            }
            if done.returncode and not failed:
                raise SystemExit(f"the checks of the unchanged package did not run:\n{done.stderr[-2000:]}")
            found |= failed
    return found


def choose_sound(
    package: Path, found: list[Mutant], count: int, options: Any, deadline: float
) -> tuple[list[Mutant], dict[str, str]]:
    """A choice among the rows whose checks pass without a change, and the rows passed over, with what their checks say."""
    order = choose(found, len(found), options.seed)
    broken: dict[str, str] = {}
    known: set[str] = set()
    while True:
        chosen = [m for m in order if m.row not in broken][:count]
        new = sorted({m.row for m in chosen} - known)
        if not new or time.monotonic() > deadline:
            return [m for m in chosen if m.row in known], broken
        broken |= failing(package, new, options.examples, options.jobs)
        known |= set(new)


def try_mutant(package: Path, mutant: Mutant, examples: int, timeout: float) -> Verdict:
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        folder = os.path.realpath(folder)
        path = _copy(package, folder) / mutant.file
        path.write_bytes(mutant.applied(path.read_bytes()))
        try:
            done = _check(folder, [mutant.row], examples, timeout)
        except subprocess.TimeoutExpired:
            return Verdict(mutant, "timeout", f"no end within {timeout:.0f} s", time.perf_counter() - start)
    outcome = {0: "survived", 10: "check", 11: "error"}.get(
        done.returncode, "invalid" if done.returncode > 0 else "error"
    )
    lines = (done.stdout.strip() or done.stderr.strip()).splitlines()
    return Verdict(mutant, outcome, lines[-1] if lines else "", time.perf_counter() - start)


def choose(found: list[Mutant], count: int, seed: int) -> list[Mutant]:
    """A seeded choice: another rule each time until every rule had its turn, and the kinds as evenly as they come."""
    rng = random.Random(seed)
    by_rule: dict[tuple[str, int], list[Mutant]] = {}
    for mutant in found:
        by_rule.setdefault((mutant.row, mutant.rule), []).append(mutant)
    used: Counter[str] = Counter()
    chosen: list[Mutant] = []
    while by_rule and len(chosen) < count:
        rules = sorted(by_rule)
        rng.shuffle(rules)
        for rule in rules[: count - len(chosen)]:
            left = by_rule[rule]
            least = min(used[m.kind] for m in left)
            pick = rng.choice([m for m in left if used[m.kind] == least])
            used[pick.kind] += 1
            chosen.append(pick)
            left.remove(pick)
            if not left:
                del by_rule[rule]
    return chosen


def run(package: Path, chosen: list[Mutant], options: Any, deadline: float) -> Iterator[Verdict]:
    """Verdicts as they come; mutants that could not be started before the deadline are not tried."""

    def one(mutant: Mutant) -> Verdict | None:
        return try_mutant(package, mutant, options.examples, options.timeout) if time.monotonic() < deadline else None

    with ThreadPoolExecutor(options.jobs) as pool:
        yield from (v for v in pool.map(one, chosen) if v is not None)


def main(argv: list[str] | None = None) -> None:
    p = common.parser(__doc__)
    p.add_argument("--mutants", type=int, help="how many (default: 60, with --quick 20)")
    p.add_argument("--seed", type=int, default=0, help="of the choice (default: %(default)s)")
    p.add_argument("--kinds", default=",".join(DEFAULT_KINDS), help="kinds of mutants, or all (default: %(default)s)")
    p.add_argument("--row", action="append", help="only mutants of this row (may be repeated)")
    p.add_argument("--examples", type=int, help="drawn calls for each check (default: 20, with --quick 10)")
    p.add_argument("--timeout", type=float, default=120.0, help="seconds for a mutant (default: %(default)s)")
    p.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes at a time (default: %(default)s)")
    p.add_argument("--list", action="store_true", help="print the mutants and stop")
    options = p.parse_args(argv)
    options.examples = options.examples or (10 if options.quick else 20)
    deadline = time.monotonic() + (42 if options.quick else 3600)
    kinds = KINDS if options.kinds == "all" else tuple(options.kinds.split(","))
    if not set(kinds) <= set(KINDS):
        raise SystemExit(f"--kinds: {options.kinds!r}; choose from {', '.join(KINDS)}, or all")
    with tempfile.TemporaryDirectory() as folder:
        package = _copy(PACKAGE, os.path.realpath(folder))  # so that it does not matter if the sources change meanwhile
        found = [m for m in mutants(package) if m.kind in kinds and (not options.row or m.row in options.row)]
        of_rules = f"{len(found)} mutants of {len({(m.row, m.rule) for m in found})} rules"
        if options.list:
            print("\n".join([*map(str, found), of_rules]))
            return
        count = options.mutants or (20 if options.quick else 60)
        chosen, broken = choose_sound(package, found, count, options, deadline)
        lines = [
            common.describe({}, {}, 1)[0],
            f"{of_rules}; {len(chosen)} chosen with seed {options.seed}, {options.examples} examples for each check.",
            *(f"Left out: {row}, whose checks fail without any change: {why}" for row, why in broken.items()),
        ]
        print("\n".join(lines), flush=True)
        verdicts = []
        for verdict in run(package, chosen, options, deadline):
            verdicts.append(verdict)
            print(f"{verdict.outcome:9}{verdict.seconds:5.1f} s  {verdict.mutant}", flush=True)
    figures, body = summarise(verdicts, kinds)
    if len(verdicts) < len(chosen):
        body.append(f"Not tried for lack of time: {len(chosen) - len(verdicts)}.")
    print("\n".join(body))
    tried = [{"mutant": str(v.mutant), "outcome": v.outcome, "message": v.message} for v in verdicts]
    common.finish(options, "mutation", lines + body, figures, {"seed": options.seed, "verdicts": tried})


def summarise(verdicts: list[Verdict], kinds: tuple[str, ...]) -> tuple[dict[str, Any], list[str]]:
    """The figures of the last line, and the lines of the report."""
    valid = [v for v in verdicts if v.outcome != "invalid"]
    survived = [str(v.mutant) for v in valid if v.outcome == "survived"]
    counts = Counter(v.outcome for v in verdicts)
    rows = []
    for kind in kinds:
        outcomes = [v.outcome for v in valid if v.mutant.kind == kind]
        rows.append([kind, len(outcomes), sum(o != "survived" for o in outcomes)])
    lines = ["", *common.table(["kind", "mutants", "killed"], rows), ""]
    killed = (
        f"Killed by a check {counts['check']}, by an error {counts['error']}, by the time limit {counts['timeout']}"
    )
    lines.append(f"{killed}; survived {counts['survived']}; invalid {counts['invalid']}.")
    lines += [f"Survived: {text}" for text in survived]
    lines += [f"Invalid: {v.mutant}: {v.message}" for v in verdicts if v.outcome == "invalid"]
    figures = {
        "mutants": len(valid),
        "killed": len(valid) - len(survived),
        "survived": survived,
        "rules": len({(v.mutant.row, v.mutant.rule) for v in valid}),
    }
    return figures, lines


if __name__ == "__main__":
    main()
