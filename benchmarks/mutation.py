"""Break derivative rules on purpose, one at a time, and see whether the table's property tests notice.

What is measured: ``mutants.py`` makes broken versions of the rules' source text (another sign, a factor, a dropped term,
swapped operands, the wrong saved value, another axis, …). For each of them a process in which NumPy, SciPy and hypothesis
are loaded already forks a child, which imports ``autograd`` with that one module changed and runs
``autograd.testing.check_row`` on the row that was broken, in stages: few drawn calls, then many, then (``tests``) those files of
pointed tests (``POINTED``) that name the row. The mutant is killed at the stage where a check fails, an error is raised or time is
up; else it survived. A mutant whose package cannot be imported is invalid and does not count. First the unchanged package goes through
the first two stages for every row concerned: rows that do not pass are left out, and said so.

A survivor is a gap in the tests, or it computes the same: such mutants are listed in ``equivalent_mutants.toml``, each group
with the reason. They are counted apart; the score is killed / (mutants that are not equivalent). One that is killed is an error.

Verdicts are kept in a store, by mutant and a hash of the package's and the tests' sources, so that a run can be resumed. Run it
as ``python benchmarks/mutation.py`` (all mutants); ``--list`` prints them, ``--row exp`` tries some rows', ``--quick`` as many as 40
seconds allow, by a seeded choice of other rules each time.

The last line is JSON: ``mutants`` (how many were tried), ``killed``, ``equivalent``, ``score``, ``survivors`` (their descriptions).
"""

import contextlib
import hashlib
import importlib.machinery
import importlib.util
import io
import json
import multiprocessing
import os
import random
import re
import signal
import sys
import time
import tomllib
import warnings
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import common
import workers
from mutants import KINDS, Mutant, mutants

PACKAGE = workers.ROOT / "autograd"
TESTS = workers.ROOT / "tests" / "autograd"
EQUIVALENT = Path(__file__).with_name("equivalent_mutants.toml")
STAGES = ("few", "many", "tests")


class Verdict(NamedTuple):
    """How a mutant ended: "check" (killed by an AssertionError), "error", "timeout", "survived" or "invalid"; and where."""

    mutant: Mutant
    outcome: str
    stage: str
    message: str
    seconds: float

    @property
    def killed(self) -> bool:
        return self.outcome in ("check", "error", "timeout")


# ---- in the child ----


class Overlay(importlib.machinery.SourceFileLoader):
    """Loads a module from changed source."""

    def __init__(self, name: str, path: str, changed: bytes):
        super().__init__(name, path)
        self.changed = changed

    def get_code(self, fullname: str) -> Any:
        return compile(self.changed, self.path, "exec", dont_inherit=True)


class Finder:
    """Finds one module of the package, by its file, in changed form."""

    def __init__(self, package: Path, file: str, changed: bytes):
        name = ".".join([package.name, *Path(file).with_suffix("").parts]).removesuffix(".__init__")
        self.name, self.path, self.changed = name, str(package / file), changed

    def find_spec(self, name: str, _path: Any = None, _target: Any = None) -> Any:
        if name != self.name:
            return None
        return importlib.util.spec_from_file_location(name, self.path, loader=Overlay(name, self.path, self.changed))


def _imported(package: Path, mutant: Mutant | None) -> None:
    """Import the package from its folder, with one change."""
    sys.dont_write_bytecode = True
    for name in [n for n in sys.modules if n.partition(".")[0] == package.name]:  # in case the parent has imported it
        del sys.modules[name]
    sys.path.insert(0, str(package.parent))
    if mutant is not None:
        sys.meta_path.insert(0, Finder(package, mutant.file, mutant.applied((package / mutant.file).read_bytes())))  # type: ignore[arg-type]
    import autograd

    if Path(autograd.__file__).parent != package:
        raise ImportError(f"{autograd.__file__} was imported, not the package in {package}")


def _stage(stage: str, row: str, examples: int) -> None:
    """Raise if a stage fails."""
    from hypothesis import Phase, settings

    if stage == "tests":
        return _run_tests(row)
    settings.register_profile("mutation", phases=[Phase.explicit, Phase.generate], derandomize=True, database=None)
    settings.load_profile("mutation")
    from autograd.testing import check_row

    with warnings.catch_warnings():
        warnings.simplefilter("error")  # as the test suite runs them
        check_row(row, examples=examples)
    return None


POINTED = ("test_accuracy.py", "test_conventions.py", "test_special.py")
"""The test files of single points: tails, corners, ties, poles. They are quick; the others hold whole programs against each other."""


def concerning(row: str) -> list[str]:
    """The files of pointed tests that name a row, which ``check_row`` does not stand for."""
    word = re.compile(rf"\b{re.escape(row)}\b")
    return [str(TESTS / f) for f in POINTED if word.search((TESTS / f).read_text(encoding="utf-8"))]


def _run_tests(row: str) -> None:
    import pytest

    files = concerning(row)
    if not files:
        return
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-m", "not peers", "-W", "ignore::pytest.PytestAssertRewriteWarning", "--deselect", f"{TESTS}/test_rows.py::test_row", "-k", "not check_row and not exemption", f"--rootdir={workers.ROOT}", *files])  # fmt: skip
    if code == 1:
        failed = [line for line in said.getvalue().splitlines() if line.startswith(("FAILED", "ERROR"))]
        raise AssertionError(failed[0] if failed else "a test failed")
    if code not in (0, 5):
        raise RuntimeError(f"pytest ended with {code}: {said.getvalue()[-300:]}")


def _child(package: Path, mutant: Mutant | None, rows: list[str], stages: list[tuple[str, int]], pipe: Any) -> None:
    """Say (row, outcome, stage, message) for each row: at most one stage fails."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 1)
    os.dup2(devnull, 2)
    try:
        _imported(package, mutant)
    except BaseException as error:  # noqa: BLE001 - a change that does not even import is no mutant
        pipe.send((rows[0], "invalid", "import", f"{type(error).__name__}: {error}"[:300]))
        os._exit(0)
    for row in rows:
        outcome, reached, message = "survived", stages[-1][0], ""
        for stage, examples in stages:
            pipe.send((row, "timeout", stage, "no end in time"))
            try:
                _stage(stage, row, examples)
            except BaseException as error:  # noqa: BLE001 - whatever happens in a broken package, it was noticed
                outcome, reached = "check" if isinstance(error, AssertionError) else "error", stage
                message = " ".join(f"{type(error).__name__}: {error}".split())[:300]
                break
        pipe.send((row, outcome, reached, message))
    os._exit(0)


# ---- in the parent ----


def warm() -> None:
    """Load what every child needs, except the package under test."""
    for name in ("numpy", "scipy.special", "scipy.linalg", "scipy.integrate", "hypothesis", "hypothesis.extra.numpy", "optree", "array_api_strict", "pytest"):  # fmt: skip
        importlib.import_module(name)


def forked(
    package: Path, mutant: Mutant | None, rows: list[str], stages: list[tuple[str, int]], timeout: float
) -> dict[str, tuple[str, str, str]]:
    """(outcome, stage, message) of each row, in a child of its own."""
    fork = multiprocessing.get_context("fork")
    here, there = fork.Pipe(duplex=False)
    process = fork.Process(target=_child, args=(package, mutant, rows, stages, there), daemon=True)
    process.start()
    there.close()
    found: dict[str, tuple[str, str, str]] = {}
    end = time.monotonic() + timeout
    try:
        while here.poll(max(end - time.monotonic(), 0.0)):
            row, *verdict = here.recv()
            found[row] = tuple(verdict)  # type: ignore[assignment]
    except EOFError:
        pass
    if process.is_alive() and process.pid is not None:
        process.join(0.5)
        if process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
    process.join()
    if process.exitcode and not found:
        found[rows[0]] = ("error", stages[0][0], f"the process ended with {process.exitcode}")
    return found


def try_mutant(
    package: Path, mutant: Mutant, examples: int, timeout: float, stages: tuple[str, ...] = STAGES[:2]
) -> Verdict:
    """One mutant through the stages; the first draws a fifth of the examples."""
    start = time.perf_counter()
    numbers = {"few": max(examples // 5, 2), "many": examples, "tests": 0}
    found = forked(package, mutant, [mutant.row], [(s, numbers[s]) for s in stages], timeout)
    outcome, stage, message = found[mutant.row]
    return Verdict(mutant, outcome, stage, message, time.perf_counter() - start)


def failing_tests(package: Path, timeout: float) -> str:
    """What the pointed tests say of the unchanged package if they fail: then they cannot kill a mutant."""
    outcome, _, message = forked(package, None, [""], [("tests", 0)], timeout)[""]  # the name "" is in every file
    return "" if outcome == "survived" else message


def failing(package: Path, rows: list[str], examples: int, jobs: int) -> dict[str, str]:
    """Rows whose checks do not pass on the unchanged package, with what they say."""
    stages = [("few", max(examples // 5, 2)), ("many", examples)]
    shares = [share for share in (rows[i::jobs] for i in range(jobs)) if share]
    found: dict[str, str] = {}
    with ThreadPoolExecutor(jobs) as pool:
        for share in pool.map(lambda share: forked(package, None, share, stages, 900), shares):
            found |= {row: message for row, (outcome, _, message) in share.items() if outcome != "survived"}
    return found


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


def sources() -> str:
    """A hash of what verdicts depend on: the package and its tests."""
    digest = hashlib.sha256()
    for folder in (PACKAGE, TESTS):
        for path in sorted(folder.rglob("*.py")):
            digest.update(path.relative_to(workers.ROOT).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


class Store:
    """Verdicts on disk, one line of JSON each, for one state of the sources."""

    def __init__(self, path: Path | None, state: str):
        self.path, self.state, self.known = path, state, {}
        if path is not None and path.exists():
            lines = map(json.loads, path.read_text(encoding="utf-8").splitlines())
            self.known = {line["mutant"]: line for line in lines if line["sources"] == state}

    def get(self, mutant: Mutant) -> Verdict | None:
        line = self.known.get(f"{mutant} @{mutant.start}")
        return line and Verdict(mutant, line["outcome"], line["stage"], line["message"], line["seconds"])

    def add(self, v: Verdict) -> None:
        if self.path is None:
            return
        line = {"sources": self.state, "mutant": f"{v.mutant} @{v.mutant.start}", **v._asdict()} | {
            "mutant": f"{v.mutant} @{v.mutant.start}"
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def run(
    package: Path, chosen: list[Mutant], options: Any, deadline: float, store: Store, stages: tuple[str, ...]
) -> Iterator[Verdict]:
    """Verdicts as they come; mutants that could not be started before the deadline are not tried."""

    def one(mutant: Mutant) -> Verdict | None:
        known, left = store.get(mutant), stages
        if known is not None and known.outcome == "survived":
            left = stages[STAGES.index(known.stage) + 1 :]
        if (known is not None and (known.outcome != "survived" or not left)) or time.monotonic() >= deadline:
            return known
        verdict = try_mutant(package, mutant, options.examples, options.timeout, left)
        store.add(verdict)
        return verdict

    with ThreadPoolExecutor(options.jobs) as pool:
        yield from (v for v in pool.map(one, chosen) if v is not None)


def equivalents() -> dict[str, str]:
    """The mutants that compute the same, as ``key`` names them, and why."""
    if not EQUIVALENT.exists():
        return {}
    groups = tomllib.loads(EQUIVALENT.read_text(encoding="utf-8"))["group"]
    return {mutant: group["reason"] for group in groups for mutant in group["mutants"]}


def key(mutant: Mutant) -> str:
    """A mutant by what it changes, not where: it stays the same when lines move."""
    return f"{mutant.row}, rule {mutant.rule} ({mutant.kind}): {mutant.before}  →  {mutant.after}"


def main(argv: list[str] | None = None) -> None:
    p = common.parser(__doc__)
    p.add_argument("--mutants", type=int, help="how many, by a seeded choice (default: all)")
    p.add_argument("--seed", type=int, default=0, help="of the choice (default: %(default)s)")
    p.add_argument("--kinds", default="all", help="kinds of mutants, or all (default: %(default)s)")
    p.add_argument("--row", action="append", help="only mutants of this row (may be repeated)")
    p.add_argument("--examples", type=int, help="drawn calls at the second stage (default: 25, with --quick 10)")
    p.add_argument("--timeout", type=float, default=120.0, help="seconds for a mutant (default: %(default)s)")
    p.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes at a time (default: %(default)s)")
    p.add_argument("--store", type=Path, help="file of verdicts, to resume a run from")
    p.add_argument(
        "--rows-only", action="store_true", help="leave out the third stage, the pointed tests that name the row"
    )
    p.add_argument("--list", action="store_true", help="print the mutants and stop")
    options = p.parse_args(argv)
    options.examples = options.examples or (10 if options.quick else 25)
    deadline = time.monotonic() + (38 if options.quick else 6 * 3600)
    kinds = KINDS if options.kinds == "all" else tuple(options.kinds.split(","))
    if not set(kinds) <= set(KINDS):
        raise SystemExit(f"--kinds: {options.kinds!r}; choose from {', '.join(KINDS)}, or all")
    found = [m for m in mutants(PACKAGE) if m.kind in kinds and (not options.row or m.row in options.row)]
    of_rules = f"{len(found)} mutants of {len({(m.row, m.rule) for m in found})} rules"
    if options.list:
        print("\n".join([*map(str, found), of_rules]))
        return
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    warm()
    chosen = choose(found, options.mutants or (300 if options.quick else len(found)), options.seed)
    broken = {} if options.quick else failing(PACKAGE, sorted({m.row for m in chosen}), options.examples, options.jobs)
    chosen = [m for m in chosen if m.row not in broken]
    lines = [
        common.describe({}, {}, 1)[0],
        f"{of_rules}; {len(chosen)} chosen, {options.examples} examples at the second stage.",
        *(f"Left out: {row}, whose checks fail without any change: {why}" for row, why in broken.items()),
    ]
    print("\n".join(lines), flush=True)
    verdicts, store = [], Store(options.store, sources())
    stages = STAGES[:2]
    for verdict in run(PACKAGE, chosen, options, deadline, store, stages):
        verdicts.append(verdict)
        print(f"{verdict.outcome:9}{verdict.stage:7}{verdict.seconds:5.1f} s  {verdict.mutant}", flush=True)
    if not (options.quick or options.rows_only):
        left = [v.mutant for v in verdicts if v.outcome == "survived" and key(v.mutant) not in equivalents()]
        if fault := failing_tests(PACKAGE, 4 * options.timeout):
            raise SystemExit(f"the pointed tests fail without any change: {fault}")
        later = {v.mutant: v for v in run(PACKAGE, left, options, deadline, store, STAGES)}
        for verdict in later.values():
            print(f"{verdict.outcome:9}{verdict.stage:7}{verdict.seconds:5.1f} s  {verdict.mutant}", flush=True)
        verdicts = [later.get(v.mutant, v) for v in verdicts]
    figures, body = summarise(verdicts, kinds, equivalents())
    if len(verdicts) < len(chosen):
        body.append(f"Not tried for lack of time: {len(chosen) - len(verdicts)}.")
    print("\n".join(body))
    tried = [
        {"mutant": str(v.mutant), "outcome": v.outcome, "stage": v.stage, "message": v.message}
        for v in verdicts
        if not v.killed
    ]
    common.finish(options, "mutation", lines + body, figures, {"seed": options.seed, "not_killed": tried})


def summarise(
    verdicts: list[Verdict], kinds: tuple[str, ...], same: dict[str, str]
) -> tuple[dict[str, Any], list[str]]:
    """The figures of the last line, and the lines of the report; ``same`` says which mutants are equivalent, and why."""
    valid = [v for v in verdicts if v.outcome != "invalid"]
    told = [v for v in valid if v.killed and key(v.mutant) in same]
    if told:
        raise SystemExit(f"said to be equivalent, but killed: {told[0].mutant}: {told[0].message}")
    equivalent = [v for v in valid if key(v.mutant) in same]
    survivors = [str(v.mutant) for v in valid if not v.killed and key(v.mutant) not in same]
    rows = []
    for kind in kinds:
        of_kind = [v for v in valid if v.mutant.kind == kind]
        stages = [sum(v.killed and v.stage == stage for v in of_kind) for stage in STAGES]
        rows.append([kind, len(of_kind), *stages, sum(v.mutant.kind == kind for v in equivalent), sum(not v.killed and key(v.mutant) not in same for v in of_kind)])  # fmt: skip
    header = ["kind", "mutants", "killed by few examples", "by many", "by other tests", "equivalent", "survived"]
    lines = ["", *common.table(header, rows), ""]
    counts = Counter(v.outcome for v in verdicts)
    killed, counted = sum(v.killed for v in valid), len(valid) - len(equivalent)
    lines.append(
        f"Killed by a check {counts['check']}, by an error {counts['error']}, by the time limit {counts['timeout']}; invalid {counts['invalid']}."
    )
    score = killed / counted if counted else 1.0
    with_all = killed / len(valid) if valid else 1.0
    lines.append(
        f"Score: {score:.2%} of the {counted} mutants that are not equivalent ({with_all:.2%} of all {len(valid)})."
    )
    lines += ["", *(f"- Survived: {text}" for text in survivors)]
    lines += [f"- Equivalent: {v.mutant}: {same[key(v.mutant)]}" for v in equivalent]
    lines += [f"- Invalid: {v.mutant}: {v.message}" for v in verdicts if v.outcome == "invalid"]
    figures = {
        "mutants": len(valid),
        "killed": killed,
        "equivalent": len(equivalent),
        "score": round(score, 4),
        "survivors": survivors,
        "rules": len({(v.mutant.row, v.mutant.rule) for v in valid}),
    }
    return figures, lines


if __name__ == "__main__":
    main()
