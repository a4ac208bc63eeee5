"""Summaries of comparisons whose trials are made up, so that the right answer is known."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hammer.lab import analysis, environment, problems, stats
from hammer.lab.analysis import Summary
from hammer.lab.comparison import Comparison
from hammer.lab.config import Config
from hammer.lab.protocol import Trial
from hammer.lab.seeds import phase_of
from hammer.lab.store import Store
from hammer.lab.trial import TrialSpec

SEEDS = 8
CONFIG = Config(
    ("quadratic", "rosenbrock"), ("adam", "sgd", "momentum"), trials=2, tuning_seeds=1, seeds=SEEDS, resamples=500
)


def summarised(tmp_path: Path, hit_at: Callable[[TrialSpec, str, int], float], config: Config = CONFIG) -> Summary:
    """The summary if every trial reaches its target after ``hit_at(spec, phase, number of the seed)`` steps."""
    comparison = Comparison(config, Store(tmp_path))

    def made_up(spec: TrialSpec) -> Trial:
        target = problems.get(spec.problem).target.loss
        step = np.arange(0, 101)
        at = hit_at(spec, *phase_of(spec.index))
        arrays = {
            "eval_step": step,
            "loss": np.where(step >= at, 0.5, 2.0) * target,
            "seconds": step * 0.5,
            "metric": step * 1.0,
        }
        record: dict[str, Any] = {"spec": spec.described(), "status": "finished", "wall_seconds": 50.0, "steps": 100}
        return Trial(record, arrays)

    for pair in comparison.pairs:
        while missing := comparison.missing(*pair):
            comparison.trials.update({key: made_up(spec) for key, spec in missing})
    assert comparison.complete
    return analysis.summarise(comparison)


def test_ranking_leads_and_cells(tmp_path: Path) -> None:
    steps = {"adam": 10.0, "sgd": 20.0, "momentum": 40.0}
    summary = summarised(tmp_path, lambda spec, phase, number: steps[spec.optimizer])
    assert [row.optimizer for row in summary.ranking] == ["adam", "sgd", "momentum"]
    assert [row.speed.value for row in summary.ranking] == [1.0, 0.5, 0.25]
    assert [row.rank.value for row in summary.ranking] == [1.0, 2.0, 3.0]
    leads = [row.lead for row in summary.ranking]
    assert leads[0] is None and [lead.value for lead in leads[1:]] == [0.5, 0.75]  # type: ignore[union-attr]
    assert all(lead.low == lead.high == lead.value for lead in leads[1:])  # type: ignore[union-attr]
    assert [(row.hits, row.runs, row.failed) for row in summary.ranking] == [(16, 16, 0)] * 3
    cell = summary.cells["quadratic", "sgd"]
    assert (cell.steps.value, cell.seconds.value, cell.hits, cell.step_milliseconds) == (20.0, 10.0, SEEDS, 500.0)  # type: ignore[union-attr]
    assert summary.verdict.startswith("Adam reaches the targets fastest") and "SGD (difference 0.50" in summary.verdict
    assert summary.control is not None and summary.control.passed and summary.control.difference.value == 0.0
    assert summary.trial_seconds == 50.0 * summary.total


def test_misses_count_as_zero_speed_and_infinite_steps(tmp_path: Path) -> None:
    def hit_at(spec: TrialSpec, phase: str, number: int) -> float:
        return math.inf if spec.optimizer == "sgd" and number % 2 else 10.0

    summary = summarised(tmp_path, hit_at)
    cell = summary.cells["rosenbrock", "sgd"]
    assert (cell.hits, cell.runs) == (SEEDS // 2, SEEDS) and cell.steps is not None and cell.steps.value == math.inf
    row = next(row for row in summary.ranking if row.optimizer == "sgd")
    assert row.speed.value == 0.5 and row.hits == SEEDS


def test_the_setting_with_the_fastest_tuning_runs_is_scored(tmp_path: Path) -> None:
    def hit_at(spec: TrialSpec, phase: str, number: int) -> float:
        return 10.0 if (spec.hyper["lr"] > 0.01) == (spec.problem == "quadratic") else 30.0

    summary = summarised(tmp_path, hit_at)
    settings = [s.hyper["lr"] for s in summary.cells["quadratic", "adam"].tuning]
    assert min(settings) < 0.01 < max(settings)
    assert summary.cells["quadratic", "adam"].hyper == {"lr": max(settings)}
    assert summary.cells["rosenbrock", "adam"].hyper == {"lr": min(settings)}


def test_the_control_notices_a_difference_that_is_there(tmp_path: Path) -> None:
    summary = summarised(tmp_path, lambda spec, phase, number: 20.0 if phase == "control" else 10.0)
    assert summary.control is not None and not summary.control.passed
    assert (summary.control.optimizer, summary.control.difference.value) == ("adam", 0.5)
    assert "The A/A control failed: Adam" in summary.verdict


def test_leads_are_corrected_for_several_comparisons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    interval = stats.interval
    monkeypatch.setattr(
        stats,
        "interval",
        lambda values, confidence: asked.append((values.shape, confidence)) or interval(values, confidence),
    )
    summarised(tmp_path, lambda spec, phase, number: 10.0)
    three = [confidence for shape, confidence in asked if shape == (500, 3)]  # speed, rank, and the leads
    assert sorted(three) == pytest.approx([0.95, 0.95, 0.975])


def test_a_close_race_has_no_winner(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(10, 40, size=(3, 2, SEEDS))

    def hit_at(spec: TrialSpec, phase: str, number: int) -> float:
        if phase != "scoring":
            return 20.0
        return float(noise[CONFIG.optimizers.index(spec.optimizer), CONFIG.workloads.index(spec.problem), number])

    assert summarised(tmp_path, hit_at).verdict.startswith("No clear winner: ")


def test_workloads_without_all_scoring_runs_are_not_ranked(tmp_path: Path) -> None:
    comparison = Comparison(CONFIG, Store(tmp_path))
    summary = analysis.summarise(comparison)
    assert summary.ranked_workloads == () and summary.ranking == [] and summary.control is None
    assert (
        summary.verdict
        == f"Unfinished: 0 of {comparison.total} trials are done. No verdict: no workload has all its scoring runs yet."
    )
    assert comparison.total == 2 * 3 * (2 + SEEDS) + 2 * SEEDS


def test_the_environment_is_known() -> None:
    arithmetic = environment.arithmetic()
    assert all(arithmetic[name] for name in ("python", "machine", "libraries", "blas", "simd"))
    assert arithmetic["libraries"]["numpy"] == np.__version__ and len(arithmetic["blas"][0]) == 3
    described = environment.describe()
    assert described["simd"] == arithmetic["simd"] and described["cores"] >= 1


def test_code_versions_ignore_comments_and_follow_the_problem(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert environment.code_version("quadratic") != environment.code_version("rosenbrock")
    file = tmp_path / "a.py"

    def version(text: str) -> bytes:
        file.write_text(text)
        environment._code.cache_clear()
        return environment._code(file)

    assert version("x = 1  # one\n") == version("# a comment\nx   = 1\n") != version("x = 2\n")
