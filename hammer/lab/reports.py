"""``hammer report``: the report of a finished run written again, or one report of several runs.

A report holds its trials (``trials.csv``, ``curves.npz``), so that it can be written again without the store and without the
code its trials ran: with today's statistics and page. Runs are merged if they followed the same rules (every field of
their configs but the name, the workloads and the optimizers), ran the same code on each workload they share, in the same
arithmetic, and together have every optimizer on every workload. Anything else would compare what cannot be compared,
and is refused.
"""

import argparse
import csv
import io
import json
import time
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from . import analysis, config, environment, problems
from .commands import command_of, writable
from .comparison import Comparison
from .config import Config
from .errors import UsageError, missing
from .protocol import Trial
from .runs import Reader, report_files, spec_of_row
from .seeds import phase_of
from .store import Store, key_of
from .trial import TrialSpec

OF_SPEC = ("workload", "optimizer", "hyper", "root", "seed_index", "step_limit", "eval_every", "dtype")
"""The columns of ``trials.csv`` that are of the spec; the others are of the record, or derived from it."""

TEXTS = ("key", "phase", "status", "bits", "code", "data", "peak_since", "error")
"""Those of the record that are text, also where it looks like a number."""


@dataclass(frozen=True)
class Finished:
    """A run with all that its report holds. ``trials`` are by key, ``code`` has the hashes of code that ran, by workload."""

    source: Path
    config: Config
    environment: dict[str, Any]
    targets: dict[str, float | None]
    trials: dict[str, Trial] = field(repr=False)
    code: dict[str, set[str]]
    canary: bytes = field(repr=False)


def report(arguments: argparse.Namespace) -> int:
    """Write a report again, or of several runs; returns the exit code."""
    if lacking := environment.missing_libraries():
        raise UsageError(missing(lacking))
    from . import report as pages
    from .progress import show

    started, store = time.perf_counter(), Store(arguments.store)
    found = [_finished(*report_files(name), store) for name in arguments.runs]
    if len({one.source.resolve() for one in found}) < len(found):
        raise UsageError(f"a run is given twice: {', '.join(arguments.runs)}")
    chosen = merged(found, arguments.name)
    comparison = _comparison(found, chosen, store)
    out = arguments.out
    if out is None:
        out = found[0].source.parent if len(found) == 1 and found[0].source.is_dir() else Path("reports")
    folder = out / chosen.name
    writable("--out", folder)
    summary = analysis.summarise(comparison)
    page = pages.write(folder, comparison, summary, _environment(found), command_of(folder), found[0].canary)
    show(pages.shown(summary), page, time.perf_counter() - started, store.complaints)
    return 0


def merged(found: Sequence[Finished], name: str | None = None) -> Config:
    """The config of several runs together.

    Raises:
        UsageError: they cannot be merged; the message says why.
    """
    first = found[0]
    for other in found[1:]:
        both = f"{first.source} and {other.source} cannot be merged"
        a, b = (asdict(replace(one.config, name="", workloads=(), optimizers=())) for one in (first, other))
        if differ := [f"{key} {a[key]} and {b[key]}" for key in a if a[key] != b[key]]:
            raise UsageError(f"{both}: they followed different rules: {', '.join(differ)}")
        if first.environment["canary"] != other.environment["canary"]:
            raise UsageError(
                f"{both}: they were computed in different arithmetic (canary {first.environment['canary']} and {other.environment['canary']})"
            )
    code: dict[str, dict[str, Path]] = {}
    for one in found:
        for workload, hashes in one.code.items():
            code.setdefault(workload, {}).update(dict.fromkeys(hashes, one.source))
    for workload, ran in code.items():
        if len(ran) > 1:
            said = ", ".join(f"{digest} in {source}" for digest, source in ran.items())
            raise UsageError(
                f"cannot be merged: the trials on {workload} ran different code: {said}; run the older one again"
            )
    pairs = {(w, o) for one in found for w in one.config.workloads for o in one.config.optimizers}
    workloads = tuple(dict.fromkeys(w for one in found for w in one.config.workloads))
    optimizers = tuple(dict.fromkeys(o for one in found for o in one.config.optimizers))
    if absent := [f"{o} on {w}" for w in workloads for o in optimizers if (w, o) not in pairs]:
        more = ", ..." if len(absent) > 3 else ""
        raise UsageError(
            f"cannot be merged: every optimizer has to be there on every workload, and none of the runs has {', '.join(absent[:3])}{more}"
        )
    joined = name or "-and-".join(one.config.name for one in found)[:80].rstrip("-._")
    return config.override(replace(first.config, workloads=workloads, optimizers=optimizers), {"name": joined})


def _comparison(found: Sequence[Finished], chosen: Config, store: Store) -> Comparison:
    """The comparison of the runs' trials, which are found by their specs: the code may have changed since, and the keys with it."""
    trials = {key: trial for one in found for key, trial in one.trials.items()}
    keys = {_identity(t.record["spec"]): key for key, t in trials.items()}

    def key(spec: TrialSpec) -> str:
        identity = _identity(spec.described())
        return keys.get(identity, identity)

    for one in found:
        for workload, target in one.targets.items():
            frozen = problems.get(workload).target if chosen.targets == "frozen" else None
            if frozen is not None and target is not None and frozen.loss != target:
                raise UsageError(
                    f"{one.source}: the target of {workload} was {target:g} and is {frozen.loss:g} now; `hammer compare` runs it again"
                )
    comparison = Comparison(chosen, store, key)
    comparison.trials |= trials
    for pair in comparison.pairs:
        comparison.pair(*pair)
    left = [t for k, t in trials.items() if k not in comparison.phases]
    if len(found) > 1:  # the controls of the second run's first baseline may not be those of all runs together
        left = [t for t in left if t.record["phase"] not in ("control", "handicap")]
    if left:
        raise UsageError(
            f"{len(left)} of the trials are not what the config asks for now (the settings tried, the step limit or a choice has "
            f"changed since), such as {_said(left[0])}; `hammer compare` runs it again"
        )
    for key_ in [*comparison.trials]:
        if key_ not in comparison.phases:
            del comparison.trials[key_]
    return comparison


def _said(trial: Trial) -> str:
    spec = trial.record["spec"]
    return f"{spec['problem']} {spec['optimizer']} {spec['hyper']} {' seed '.join(map(str, phase_of(spec['index'])))}"


def _identity(spec: dict[str, Any]) -> str:
    """A trial's spec without what the optimizer's entry fixes, which belongs to the code."""
    return key_of({name: value for name, value in spec.items() if name != "fixed"})


def _environment(found: Sequence[Finished]) -> dict[str, Any]:
    """What the report says of versions and machine: where runs differ in a text, all of theirs."""
    result = dict(found[0].environment)
    for one in found[1:]:
        for name, value in one.environment.items():
            was = result.get(name)
            if isinstance(was, str) and isinstance(value, str) and value not in was.split("; "):
                result[name] = f"{was}; {value}"
    written = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return {**result, "written_again": written, "of": [str(one.source) for one in found]}


def _finished(source: Path, read: Reader, store: Store) -> Finished:
    try:
        chosen = config.parse(read("config.yaml").decode(), f"{source}: config.yaml", source.stem)
        made = json.loads(read("environment.json"))
        targets = json.loads(read("results.json"))["targets"]
        rows = list(csv.DictReader(io.StringIO(read("trials.csv").decode())))
        with np.load(io.BytesIO(read("curves.npz")), allow_pickle=False) as file:
            curves = dict(file)
        places = {
            key: (name.removesuffix(".key"), i)
            for name in curves if name.endswith(".key") for i, key in enumerate(curves[name].tolist())
        }  # fmt: skip
        trials = {row["key"]: _trial(row, curves, places.get(row["key"]), store) for row in rows}
        losses = {name: None if target is None else float(target["loss"]) for name, target in targets.items()}
    except (KeyError, ValueError, TypeError, zipfile.BadZipFile) as error:
        raise UsageError(f"{source}: not a report that can be written again, or damaged ({error!r})") from None
    code: dict[str, set[str]] = {}
    for row in rows:
        if row["code"]:
            code.setdefault(row["workload"], set()).add(row["code"])
    return Finished(source, chosen, made, losses, trials, code, read("canary.npz"))


def _trial(row: dict[str, str], curves: dict[str, np.ndarray], place: tuple[str, int] | None, store: Store) -> Trial:
    """A trial from a report; its record is the store's if that has one with the same bits, which knows more."""
    kept = {n: text if n in TEXTS else _value(text) for n, text in row.items() if n not in OF_SPEC and text != ""}
    record = {**kept, "spec": spec_of_row(row).described(), "diverged_at": kept.get("diverged_at")}
    whole = store.record(row["key"])
    if whole is not None and whole.get("bits") == row["bits"]:
        record |= {**whole, "phase": row["phase"]}
    arrays = {}
    if place is not None:
        workload, number = place
        arrays = {
            name.removeprefix(f"{workload}."): array if name.endswith(".eval_step") else array[number]
            for name, array in curves.items() if name.startswith(f"{workload}.") and not name.endswith(".key")
        }  # fmt: skip
    return Trial(record, arrays)


def _value(text: str) -> Any:
    """A number from a cell of a table, or its text."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
