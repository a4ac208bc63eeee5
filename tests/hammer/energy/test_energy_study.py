"""The study of batch sizes: its pieces by hand, and a small run from end to end."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hammer.lab import studies

FOLDER = Path(__file__).resolve().parents[3] / "experiments" / "energy_batch_size"


@pytest.fixture(scope="module")
def study() -> Any:
    return studies.load(FOLDER)


def test_joules_are_linear_with_one_memory(study: Any) -> None:
    joules = study.energy("mlp", [8, 16, 24], study.ONE)["joules"]
    assert joules[1] - joules[0] == pytest.approx(joules[2] - joules[1], rel=1e-6) and joules[0] > 0
    assert study.energy("mlp", [8], study.LEVELS)["joules"][0] != joules[0]


def test_runs_end_at_the_target_or_say_that_they_did_not(study: Any) -> None:
    assert study.train("logistic", 32, 0.6, 0)["steps"] < 1000
    with np.errstate(all="ignore"):
        assert study.train("logistic", 32, 1e6, 0)["steps"] == math.inf
    assert study.train("logistic", 32, 0.6, 0, probe=20)["noise"] > 1.0
    low, high = study.interval(np.array([1.0, 1.2, 0.8]), np.array([2.0, 2.0, 2.0]))
    assert 0.4 <= low < 0.5 < high <= 0.6


def test_a_small_run(study: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    easy = replace(study.WORKLOADS["logistic"], target=0.8, judged=256)
    monkeypatch.setitem(study.WORKLOADS, "logistic", easy)
    outcome = study.run(studies.Work(FOLDER, tmp_path, quick=True))
    one, levels = outcome.figures["workloads"]
    assert (one["table"], levels["table"]) == (study.ONE, study.LEVELS)
    assert one["found"] > 0 and one["low"] <= one["ratio"] <= one["high"]
    assert outcome.verdict == ("holds" if one["ratio"] <= 1.15 else "falsified")
    assert one["predicted"] == pytest.approx(
        one["least"] * (1 + one["B"] / one["best"]) * (one["fixed"] + one["each"] * one["best"])
    )
