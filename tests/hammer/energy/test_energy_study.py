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


def test_tuning_gives_up_what_cannot_win_and_finds_the_same(study: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rates = [0.01, 0.1, 1.0, 10.0, 100.0]
    took, asked = {0.01: 500, 0.1: 40, 1.0: 30, 10.0: 30, 100.0: math.inf}, []

    def train(_workload: str, _batch: int, lr: float, _seed: int, most: float = math.inf) -> dict:
        asked.append((lr, most))
        return {"steps": float(took[lr]) if took[lr] <= most else math.inf}

    monkeypatch.setattr(study, "train", train)
    assert study.tune("mlp", 32, rates) == {"lr": 1.0, "steps": 30.0, "edge": False}
    assert asked == [(1.0, math.inf), (10.0, 30.0), (0.1, 30.0), (100.0, 30.0), (0.01, 30.0)]
    took[0.1] = 20
    assert study.tune("mlp", 32, rates)["lr"] == 0.1
    assert study.tune("mlp", 32, [0.1, 1.0])["edge"]


def test_a_run_is_given_up_after_so_many_steps(study: Any) -> None:
    whole = study.train("logistic", 32, 0.6, 0)["steps"]
    assert study.train("logistic", 32, 0.6, 0, most=whole)["steps"] == whole
    assert study.train("logistic", 32, 0.6, 0, most=whole - 1)["steps"] == math.inf


def test_an_interrupted_part_goes_on_with_the_run_it_was_in(
    study: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = []

    def train(_workload: str, _batch: int, _lr: float, seed: int, most: float = math.inf) -> dict:
        ran.append(seed)
        if seed == 2 and ran.count(2) == 1:
            raise KeyboardInterrupt
        return {"steps": math.inf if seed == 1 else 10.0 * seed}

    monkeypatch.setattr(study, "train", train)
    with pytest.raises(KeyboardInterrupt):
        study.seeds("mlp", 32, 0.1, 4, tmp_path)
    assert study.seeds("mlp", 32, 0.1, 4, tmp_path)["steps"] == [0.0, math.inf, 20.0, 30.0]
    assert ran == [0, 1, 2, 2, 3]
    monkeypatch.setattr(study, "code_of", lambda _folder: "another")
    study.seeds("mlp", 32, 0.1, 1, tmp_path)
    assert ran[5:] == [0]  # results of other code are not taken


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
