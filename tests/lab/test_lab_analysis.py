"""Summaries of comparisons whose trials are made up, so that the right answer is known."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hammer.lab import analysis, environment, evidence, meters, problems, protocol, stats
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
            "cpu_seconds": step * 0.25,
            "flops": step * 100.0,
            "bytes_moved": step * 8.0,
            "joules": np.full(101, np.nan),
        }
        record: dict[str, Any] = {"spec": spec.described(), "status": "finished", "wall_seconds": 50.0, "steps": 100}
        record |= {"cpu_seconds": 25.0, "flops": 1e4, "bytes_moved": 800.0, "peak_bytes": 10**8, "mpi_bytes": 0}
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
    leads = [row.lead.difference for row in summary.ranking if row.lead is not None]
    assert summary.ranking[0].lead is None and [lead.value for lead in leads] == [0.5, 0.75]
    assert all(lead.low == lead.high == lead.value for lead in leads)
    assert [(row.hits, row.runs, row.failed) for row in summary.ranking] == [(16, 16, 0)] * 3
    cell = summary.cells["quadratic", "sgd"]
    to_target, costs = ({name: e.value for name, e in costs.items()} for costs in (cell.to_target, cell.costs))
    estimate = meters.estimate(2000.0, 160.0)
    assert cell.hits == SEEDS and (summary.energy, "joules" in to_target) == ("joules_estimate", False)
    assert to_target == {"steps": 20, "seconds": 10, "cpu_seconds": 5, "flops": 2000, "joules_estimate": estimate}
    of_a_step = {"cpu_seconds": 0.25, "wall_seconds": 0.5, "flops": 100, "bytes_moved": 8}
    assert costs == of_a_step | {"peak_bytes": 1e8, "mpi_bytes": 0}
    assert summary.verdict.startswith("Adam reaches the targets fastest") and "SGD (difference 0.50" in summary.verdict
    same, slow = summary.controls
    assert (same.kind, same.passed, same.difference.value) == ("A/A", True, 0.0)
    assert (slow.kind, slow.passed, slow.difference.value) == ("handicap", False, 0.0)  # it reached the target as soon
    assert (
        "A control did not behave: Adam at a tenth of its learning rate was not found to be slower." in summary.verdict
    )
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
    same = summary.controls[0]
    assert not same.passed and (same.optimizer, same.difference.value) == ("adam", 0.5)
    assert "A control did not behave: Adam differs from itself on other seeds" in summary.verdict


def test_the_handicapped_adam_is_detected(tmp_path: Path) -> None:
    tuned: dict[str, set[float]] = {}

    def hit_at(spec: TrialSpec, phase: str, number: int) -> float:
        if spec.optimizer == "adam" and phase == "scoring":
            tuned.setdefault(spec.problem, set()).add(spec.hyper["lr"])
            return 30.0 + number if spec.hyper["lr"] < max(tuned[spec.problem]) else 10.0 + number
        return 20.0 + number

    summary = summarised(tmp_path, hit_at)
    assert all(min(lrs) == float(f"{max(lrs) / 10:.6g}") and len(lrs) == 2 for lrs in tuned.values())
    slow = summary.controls[1]
    assert (slow.kind, slow.optimizer) == ("handicap", "adam") and slow.passed and slow.difference.value > 0.3
    assert sorted(set(summary.phases.values())) == ["control", "handicap", "scoring", "tuning"]


def test_who_is_handicapped() -> None:
    assert protocol.handicapped(CONFIG) == "adam"
    assert protocol.handicapped(replace(CONFIG, optimizers=("vortex", "momentum", "sgd"))) == "momentum"
    assert protocol.handicapped(replace(CONFIG, optimizers=("vortex",))) is None
    assert protocol.handicapped(replace(CONFIG, control=False)) is None
    assert protocol.handicap({"lr": 0.0123, "beta": 0.9}) == {"lr": 0.00123, "beta": 0.9}


def test_every_pair_has_a_verdict(tmp_path: Path) -> None:
    noise = np.random.default_rng(3).permuted(np.tile(np.arange(SEEDS), (2, 1)), axis=1)

    def hit_at(spec: TrialSpec, phase: str, number: int) -> float:
        if phase != "scoring":
            return 20.0
        base = {"adam": 20.0, "sgd": 20.0 + 0.1 * (number % 2), "momentum": 60.0}[spec.optimizer]
        return base + noise[CONFIG.workloads.index(spec.problem), number]

    summary = summarised(tmp_path, hit_at)
    words = {(p.first, p.second): p.verdict.word for p in summary.pairings}
    assert words == {("adam", "sgd"): "equal", ("adam", "momentum"): "better", ("sgd", "momentum"): "better"}
    pair = summary.pairings[1]
    assert pair.improvement.value == 1.0 and pair.difference.low > 0.5
    # All eight seeds of both workloads are faster: p = 2/2^8, twice that after the correction for two workloads.
    assert [(w.workload, w.p, w.corrected) for w in pair.workloads] == [(w, 2 / 256, 4 / 256) for w in CONFIG.workloads]
    other = evidence.turned(pair)
    assert (other.first, other.second, other.verdict.word) == ("momentum", "adam", "worse")
    assert (other.difference.low, other.difference.high) == (-pair.difference.high, -pair.difference.low)
    assert other.improvement.value == 0.0 and evidence.turned(other).difference == pair.difference
    assert "practically equal" in summary.verdict and summary.verdict.startswith("No clear winner: ")
    assert summary.friedman is not None and summary.friedman[0] > 2.0


def test_profiles_and_budget_of_a_comparison(tmp_path: Path) -> None:
    steps = {"adam": 10.0, "sgd": 20.0, "momentum": 40.0}

    def hit_at(spec: TrialSpec, phase: str, number: int) -> float:
        return steps[spec.optimizer] if spec.hyper["lr"] > 0.01 else 80.0

    summary = summarised(tmp_path, hit_at)
    profiles = summary.profiles
    assert profiles is not None
    assert [s.value for s in profiles.scores] == pytest.approx([1.0, 2 / 3, 0.0])
    assert profiles.share[:, 0].tolist() == [1.0, 0.0, 0.0] and profiles.share[:, -1].tolist() == [1.0] * 3
    assert (profiles.low <= profiles.share).all() and (profiles.share <= profiles.high).all()
    # Of two settings one reaches the target after 80 steps: speeds 10/80 and 1 for Adam, 10/80 and 10/20 for SGD.
    assert summary.budget["adam"].tolist() == [(0.125 + 1.0) / 2, 1.0]
    assert summary.budget["sgd"].tolist() == [(0.125 + 0.5) / 2, 0.5]


def test_optimizers_that_reach_nothing_are_not_called_equal(tmp_path: Path) -> None:
    summary = summarised(tmp_path, lambda spec, phase, number: 10.0 if spec.optimizer == "adam" else math.inf)
    verdicts = {(p.first, p.second): p.verdict for p in summary.pairings}
    assert verdicts["sgd", "momentum"].word == "undecided" and verdicts["adam", "sgd"].word == "better"


def test_few_seeds_leave_every_pair_undecided(tmp_path: Path) -> None:
    steps = {"adam": 10.0, "sgd": 20.0, "momentum": 40.0}
    few = replace(CONFIG, seeds=3)
    summary = summarised(tmp_path, lambda spec, phase, number: steps[spec.optimizer], few)
    assert {p.verdict.word for p in summary.pairings} == {"undecided"}
    assert all(p.verdict.needed == 5 for p in summary.pairings)
    assert (
        evidence.controls_sentence(few, summary.controls) == "Controls were run, but 3 seeds are too few to judge them."
    )


def test_pairs_are_corrected_for_several_comparisons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    judge = stats.judge
    monkeypatch.setattr(stats, "judge", lambda *arguments: asked.append(arguments[2:]) or judge(*arguments))
    summarised(tmp_path, lambda spec, phase, number: 10.0)
    corrected, equal = (stats.expanded(1.0 - t / 3, SEEDS, 2) for t in (0.05, 0.10))
    assert asked == [(SEEDS, corrected, equal, CONFIG.delta)] * 3  # three pairs


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
    assert summary.ranked_workloads == () and summary.ranking == [] and summary.controls == []
    assert (
        summary.verdict
        == f"Unfinished: 0 of {comparison.total} trials are done. No verdict: no workload has all its scoring runs yet."
    )
    assert comparison.total == 2 * 3 * (2 + SEEDS) + 2 * 2 * SEEDS


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
