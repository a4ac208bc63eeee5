"""``hammer reproduce``: trials of a finished run, run again and compared bit for bit."""

import argparse
import secrets
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import canary, environment
from .errors import UsageError, missing, unknown
from .executors import Processes
from .report import text
from .runs import Run, Stored, open_run
from .store import Store

TRIALS = 3
"""How many trials are run again unless the command says otherwise."""


@dataclass(frozen=True)
class Finding:
    """Whether a trial came out with equal bits, and what to say about it."""

    identical: bool
    said: str


def reproduce(arguments: argparse.Namespace) -> int:
    """Run trials again and say whether their bits are the same; returns the exit code: 1 if any differ."""
    if lacking := environment.missing_libraries():
        raise UsageError(missing(lacking))
    for option in ("trials", "jobs"):
        value = getattr(arguments, option)
        if value is not None and value < 1:
            raise UsageError(f"--{option}: must be a whole number of at least 1; got {value}")
    name, _, trial = arguments.run.partition("@")
    run = open_run(name)
    chosen = _chosen(run, trial, arguments)
    if chosen:
        _say_what_differs(run, chosen)
    findings = again(chosen, arguments.jobs or environment.usable_cores())
    for stored in chosen:
        print(f"{stored.key} {stored.spec}: {findings[stored.key].said}")
    for line in run.complaints:
        print(f"skipped: {line}")
    good = sum(finding.identical for finding in findings.values())
    print(f"{good} of {text.count(len(chosen), 'trial')} bit-identical")
    return 0 if chosen and good == len(chosen) else 1


def _chosen(run: Run, trial: str, arguments: argparse.Namespace) -> list[Stored]:
    if trial:
        keys = [key for key in run.keys if key.startswith(trial)]
        if not keys:
            raise UsageError(
                f"{run.source}: {unknown('trial', trial, run.keys[:8])}{', ...' if len(run.keys) > 8 else ''}"
            )
        if len(keys) > 1:
            raise UsageError(
                f"{run.source}: {len(keys)} trials begin with {trial!r}: {', '.join(keys[:4])}; write more digits"
            )
        order = keys
    else:
        seed = arguments.seed if arguments.seed is not None else secrets.randbelow(2**32)
        order = [run.keys[i] for i in np.random.default_rng(seed).permutation(len(run.keys))]
        print(
            f"{min(arguments.trials or TRIALS, len(order))} of {text.count(len(order), 'trial')} of {run.source}, drawn with --seed {seed}"
        )
    wanted = 1 if trial else arguments.trials or TRIALS
    found: list[Stored] = []
    for key in order:  # a damaged trial is named, and the next one takes its place
        stored = run.load(key) if len(found) < wanted else None
        if stored is not None:
            found.append(stored)
    return found


def _say_what_differs(run: Run, chosen: list[Stored]) -> None:
    """What a reader should know before the bits are compared: other arithmetic, other code."""
    mine = canary.digest()
    for theirs in sorted({stored.canary for stored in chosen}):
        if theirs == mine:
            print(f"canary {mine}: the same arithmetic, so equal bits are promised")
            continue
        kept = run.canaries(theirs)
        how = canary.compare(canary.results(), kept) if kept else "its results were not kept"
        print(f"canary {mine} here, {theirs} in the run: the arithmetic differs ({how}), so bits may differ")
    changed = sorted({s.spec.problem for s in chosen if s.code != environment.code_version(s.spec.problem)[:16]})
    if changed:
        print(f"the code has changed since: {', '.join(changed)} may differ for that reason")


def again(chosen: list[Stored], jobs: int) -> dict[str, Finding]:
    """Run trials in worker processes, as a comparison does, and compare each with what was stored."""
    by_key, findings = {stored.key: stored for stored in chosen}, {}
    with tempfile.TemporaryDirectory(prefix="hammer-") as folder:
        store = Store(Path(folder))
        workers = Processes(min(jobs, max(1, len(chosen))), store.folder, environment.describe())
        for stored in chosen:
            workers.submit(stored.key, stored.spec)

        def done(record: dict[str, Any]) -> None:
            key = record["key"]
            if record["status"] == "error":
                findings[key] = Finding(False, f"raised an error: {record['error']}")
                return
            loaded = store.load(key)
            if loaded is None:
                findings[key] = Finding(False, f"could not be read back: {store.complaints[-1]}")
                return
            findings[key] = difference(by_key[key], *loaded)

        workers.run(done)
    return findings


def difference(stored: Stored, record: dict[str, Any], arrays: dict[str, np.ndarray]) -> Finding:
    """Compare a trial with what was stored: the loss of every step, every evaluation, the final parameters."""
    old, new = stored.arrays, arrays
    if stored.data and record["data"] and stored.data != record["data"][:16]:
        return Finding(False, "the data differ from those of the run")
    for name in ("train_loss", "loss", "metric"):
        if old[name].shape != new[name].shape or old[name].dtype != new[name].dtype:
            return Finding(
                False,
                f"the stored {name} is {old[name].dtype}{old[name].shape}, this one {new[name].dtype}{new[name].shape}",
            )
    total = len(old["train_loss"]) if stored.diverged_at is None else stored.diverged_at
    train = canary.ulps(old["train_loss"], new["train_loss"])
    if train.any():
        first, worst = int(np.flatnonzero(train)[0]), int(np.argmax(train))
        return Finding(
            False,
            f"{first}/{total} steps are bit-identical; the loss of step {first} differs by {_ulp(train[first])}, "
            f"and by {_ulp(train[worst])} at most (step {worst})",
        )
    for name in ("loss", "metric"):
        judged = canary.ulps(old[name], new[name])
        if judged.any():
            first = int(np.flatnonzero(judged)[0])
            said = f"the batches' losses are bit-identical, but the judged {name} differs by {_ulp(judged[first])} at step {old['eval_step'][first]}"
            return Finding(False, said)
    if record["bits"] != stored.bits:
        return Finding(False, f"all losses of {total} steps are bit-identical, but the final parameters differ")
    ending = f", then it diverges as it did (step {stored.diverged_at})" if stored.diverged_at is not None else ""
    return Finding(True, f"bit-identical {total}/{total} steps{ending}")


def _ulp(distance: float) -> str:
    return "more than any number of ulp (one is not a number)" if np.isinf(distance) else f"{distance:,.0f} ulp"
