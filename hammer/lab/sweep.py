"""What a sweep says about itself while it runs: a small file in the store that `hammer watch` reads.

``sweep-NAME.json`` holds the config, how many trials are planned and done, the failures, the time left, and the process.
It is written at most once a second, and stays when the sweep has ended.
"""

import json
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from autograd.atomic import write_atomically

from .comparison import Comparison
from .plan import Plan
from .store import Store

PERIOD = 1.0
"""The least number of seconds between two writes."""


def path(folder: Path, name: str) -> Path:
    """The file of a sweep in a store's folder."""
    return folder / f"sweep-{name}.json"


class Sweep:
    """Writes the file; a context manager around ``Comparison.run``."""

    def __init__(self, comparison: Comparison, plan: Plan):
        self.comparison, self.plan = comparison, plan
        self._written = 0.0

    def __enter__(self) -> Self:
        self._write("running")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._write("done" if kind is None else "interrupted")

    def note(self) -> None:
        """A trial has ended."""
        if time.monotonic() - self._written >= PERIOD:
            self._write("running")

    def _write(self, state: str) -> None:
        comparison = self.comparison
        seconds, unknown, _ = self.plan.seconds()
        content: dict[str, Any] = {
            "name": comparison.config.name, "state": state, "process": os.getpid(), "started": self.plan.started, "updated": time.time(),
            "config": comparison.config.to_yaml(), "total": comparison.total, "reused": len(comparison.reused),
            "seconds_left": seconds, "unknown": unknown, "trials": list(comparison.trials),
            "failures": [_failure(t.record) for t in comparison.trials.values() if t.status != "finished"],
        }  # fmt: skip
        write_atomically(
            path(comparison.store.folder, comparison.config.name), json.dumps(content, ensure_ascii=False) + "\n"
        )
        self._written = time.monotonic()


def _failure(record: dict[str, Any]) -> dict[str, Any]:
    spec = record["spec"]
    why = record["error"] if record["status"] == "error" else f"diverged after {record['diverged_at']} steps"
    return {"problem": spec["problem"], "optimizer": spec["optimizer"], "hyper": spec["hyper"], "why": why}


def read(store: Store) -> list[dict[str, Any]]:
    """The sweeps of a store, the one that was written last first; files that cannot be read are left out."""
    found = []
    for file in store.folder.glob("sweep-*.json"):
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # gone in this moment, or damaged
            continue
        found.append(content)
    return sorted(found, key=lambda sweep: -sweep["updated"])
