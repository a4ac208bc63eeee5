"""``hammer diagnose``."""

import argparse

from .. import optimizers
from ..errors import UsageError, unknown
from . import ALL
from .landscape import Diagnostic
from .verdict import SEEDS, TRIALS, attempt, controls


def _chosen(names: str | None) -> list[Diagnostic]:
    if names is None:
        return list(ALL.values())
    for name in names.split(","):
        if name not in ALL:
            raise UsageError(f"--only: {unknown('diagnostic', name, ALL)}")
    return [ALL[name] for name in names.split(",")]


def diagnose(arguments: argparse.Namespace) -> int:
    """Print a table of who passes what; returns 0, or 1 if a diagnostic does not count."""
    for name in arguments.optimizers:
        if name not in optimizers.names():
            raise UsageError(unknown("optimizer", name, optimizers.names()))
    chosen = _chosen(arguments.only)
    width = max(10, *(len(name) + 2 for name in arguments.optimizers))
    print(f"{'':<17}" + "".join(f"{name:<{width}}" for name in arguments.optimizers) + "reference")
    passed, counted = dict.fromkeys(arguments.optimizers, 0), 0
    for d in chosen:
        fault = controls(d).fault
        counted += fault is None
        row = ""
        for name in arguments.optimizers:
            tried = controls(d).reference if name == d.reference else attempt(d, name)
            passed[name] += tried.passed and fault is None
            row += f"{'pass' if tried.passed else 'fail':<{width}}"
        print(f"{d.name:<17}{row}{d.reference}" + (f"; does not count: {fault}" if fault else ""), flush=True)
    print(f"{'passed':<17}" + "".join(f"{f'{passed[n]} of {counted}':<{width}}" for n in arguments.optimizers))
    print(
        f"\nBest of {TRIALS} settings on a tuning seed, then {SEEDS} fresh seeds, of which four fifths must reach the goal."
    )
    return 0 if counted == len(chosen) else 1
