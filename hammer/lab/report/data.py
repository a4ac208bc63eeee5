"""The raw data of a comparison as files other programs read: CSV, NumPy arrays without pickle, JSON."""

import csv
import io
import json
import math

import numpy as np

from ..analysis import Estimate, Summary
from ..comparison import Comparison
from ..store import npz
from . import tables

COSTS = (
    "gradient_evaluations", "flops", "bytes_moved", "state_bytes", "peak_bytes", "peak_since", "mpi_bytes", "joules", "joules_estimate",
)  # fmt: skip
"""What a record says of a trial's cost. ``joules`` is empty where no counter was readable; the estimate is never a measurement."""


def trials_csv(comparison: Comparison, summary: Summary) -> str:
    """One line for each finished trial, in the order of the config."""
    columns = [
        "key",
        "workload",
        "optimizer",
        "phase",
        "seed_index",
        "hyper",
        "status",
        "steps",
        "final_loss",
        "best_loss",
        "steps_to_target",
    ]
    columns += ["seconds_to_target", "wall_seconds", "cpu_seconds", "bits", "diverged_at", "root", "step_limit"]
    columns += ["eval_every", "dtype", "code", "data", *COSTS, "error"]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    for key, trial in comparison.ordered():
        record, spec = trial.record, trial.record["spec"]
        target = summary.targets[spec["problem"]]
        steps, seconds = (trial.to_target(target[0] if target else None, cost) for cost in ("steps", "seconds"))
        hyper = ";".join(f"{name}={value!r}" for name, value in spec["hyper"].items())
        row = [
            key,
            spec["problem"],
            spec["optimizer"],
            comparison.phases[key],
            spec["index"],
            hyper,
            trial.status,
            record.get("steps", 0),
        ]
        row += [
            trial.final_loss,
            trial.best_loss(),
            steps,
            seconds,
            record.get("wall_seconds", ""),
            record.get("cpu_seconds", ""),
        ]
        row += [record.get("bits", ""), "" if record.get("diverged_at") is None else record["diverged_at"]]
        row += [spec[name] for name in ("root", "steps", "eval_every", "dtype")]
        row += [(record.get(name) or "")[:16] for name in ("code", "data")]
        row += ["" if record.get(name) is None else record[name] for name in COSTS]
        writer.writerow([*row, record.get("error", "")])
    return buffer.getvalue()


def curves_npz(comparison: Comparison) -> bytes:
    """All arrays of all trials, by workload.

    For each workload W: ``W.key`` (n,) the trials' keys as in ``trials.csv``; ``W.train_loss`` (n, steps) the loss of
    each batch; ``W.eval_step`` (e,); ``W.loss``, ``W.metric`` and ``W.seconds`` (n, e) at each evaluation.
    """
    arrays: dict[str, np.ndarray] = {}
    for workload in comparison.config.workloads:
        found = [(key, t) for key, t in comparison.ordered() if t.record["spec"]["problem"] == workload and t.arrays]
        if found:
            arrays[f"{workload}.key"] = np.array([key for key, _ in found])
            arrays[f"{workload}.eval_step"] = found[0][1].arrays["eval_step"]
            for name in ("train_loss", "loss", "metric", "seconds", "cpu_seconds", "flops", "bytes_moved", "joules"):
                arrays[f"{workload}.{name}"] = np.array([t.arrays[name] for _, t in found])
    return npz(arrays)


def results_json(summary: Summary) -> str:
    """Verdict, ranking, targets and the table of workloads and optimizers; infinite numbers are null."""
    result = {
        "verdict": summary.verdict,
        "done": summary.done,
        "total": summary.total,
        "targets": {w: None if t is None else {"loss": t[0], "set_by": t[1]} for w, t in summary.targets.items()},
        "controls": [{"kind": c.kind, "optimizer": c.optimizer, "passed": c.passed, "difference": _estimate(c.difference)} for c in summary.controls],
        "ranking": [
            {"optimizer": r.optimizer, "speed": _estimate(r.speed), "rank": _estimate(r.rank), "behind": _estimate(None if r.lead is None else r.lead.difference), "profile": _estimate(tables.profile_score(summary, r.optimizer)), "hits": r.hits, "runs": r.runs, "failed": r.failed}
            for r in summary.ranking
        ],
        "pairs": [
            {"first": p.first, "second": p.second, "verdict": p.verdict.word, "seeds_needed": p.verdict.needed, "difference": _estimate(p.difference)}
            | {"improvement": _estimate(p.improvement)}
            | {"workloads": {w.workload: {"difference": _estimate(w.difference), "wilcoxon_p": w.p, "holm_p": w.corrected} for w in p.workloads}}
            for p in summary.pairings
        ],
        "friedman": None if summary.friedman is None else {"statistic": summary.friedman[0], "p": summary.friedman[1]},
        "budget": {name: curve.tolist() for name, curve in summary.budget.items()},
        "cells": [
            {"workload": w, "optimizer": o, "hyper": c.hyper, "hits": c.hits, "runs": c.runs, "failed": c.failed}
            | {"to_target": {name: _estimate(e) for name, e in c.to_target.items()}, "costs": {name: _estimate(e) for name, e in c.costs.items()}}
            | {"final_loss": _estimate(c.final), "final_metric": _finite(c.metric)}
            for (w, o), c in summary.cells.items()
        ],
        "errors": [{k: t.record.get(k) for k in ("key", "spec", "error", "traceback")} for t in summary.failures if t.status == "error"],
    }  # fmt: skip
    return json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _estimate(e: Estimate | None) -> dict[str, float | None] | None:
    return None if e is None else {"value": _finite(e.value), "low": _finite(e.low), "high": _finite(e.high)}
