"""The study of the front of loss against joules: its pieces by hand, and a small run from end to end."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autograd import DiffTensor
from autograd.nn import losses
from hammer.lab import studies

FOLDER = Path(__file__).resolve().parents[3] / "experiments" / "energy_front"


@pytest.fixture(scope="module")
def study() -> Any:
    pytest.importorskip("ml_dtypes")
    return studies.load(FOLDER)


def test_the_largest_elements_of_each_example_go_on(study: Any) -> None:
    g = np.array([[1.0, -4.0, 3.0, 0.5], [0.0, 2.0, 9.0, -8.0]], np.float32)
    assert study.sparse(g, 0.5).tolist() == [[0.0, -4.0, 3.0, 0.0], [0.0, 0.0, 9.0, -8.0]]
    assert study.sparse(g, 0.01).tolist() == [[0.0, -4.0, 0.0, 0.0], [0.0, 0.0, 9.0, 0.0]] and g[0, 0] == 1.0
    x, y, *_ = study.data()
    grads = []
    for share in (1.0, 1 / 16):
        model = study.Net(np.random.default_rng(0), share)
        losses.cross_entropy(model(DiffTensor(x[:1])), y[:1]).backward()
        grads.append([p.grad for p in model.parameters()])
    assert (grads[1][1] != 0).sum() == 16 < (grads[0][1] != 0).sum()  # the first layer's bias, one example
    assert np.array_equal(grads[0][2], grads[1][2])  # the second layer's gradient is whole


def test_joules_fall_with_precision_and_sparsity_and_are_saved_in_the_first_layer_alone(study: Any) -> None:
    joules = {(p, s): study.energy(p, s, 16) for p in study.PRECISIONS for s in study.SHARES}
    assert all(found["dense"] == joules[p, 1.0]["joules"] for (p, _), found in joules.items())
    for p in study.PRECISIONS:
        dense, quarter, sixteenth = (joules[p, s]["joules"] for s in study.SHARES)
        looked = 1e-12 * 16 * 256 * 0.03
        saved = (dense - quarter + looked) / (1 - 1 / 4)
        assert 0 < saved < 0.6 * dense and dense - sixteenth == pytest.approx(saved * 15 / 16 - looked)
    assert joules["bf16", 1.0]["joules"] < joules["fp32", 1.0]["joules"]


def test_budgets_are_kept_and_diverged_runs_said_to_be(study: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "BUDGETS", (1.0, 2.0, 4.0))
    steps = []

    class Counted(study.SGD):
        def step(self, *args: Any) -> None:
            steps.append(1)
            super().step(*args)

    monkeypatch.setattr(study, "SGD", Counted)
    good = study.train("fp32", 1.0, 32, 0.5, 0, joules=0.1)
    assert len(steps) == 40 and len(good) == 3 and good[0] > good[1] > good[2] > 0
    assert good == study.train("fp32", 1.0, 32, 0.5, 0, joules=0.1)
    assert study.train("fp32", 1.0, 32, 1e30, 0, joules=0.1)[-1] == math.inf
    value, low, high = study.ratio(np.array([1.0, 1.2, 0.8]), np.array([2.0, 2.0, 2.0]))
    assert value == pytest.approx(0.5) and 0.4 <= low < 0.5 < high <= 0.6


def test_the_report_of_the_whole(study: Any) -> None:
    class Made:
        """Parts whose losses fall with the joules that a step saves, sparse ones more than that."""

        quick = False

        def parts(self, function: Any, settings: dict) -> dict:
            return {name: getattr(self, function.__name__)(**given) for name, given in settings.items()}

        def energy(self, precision: str, share: float, batch: int) -> dict:
            return {"joules": 1e-6 * batch * share * (1.0 if precision == "fp32" else 0.5), "dense": 1e-6 * batch}

        def tune(self, rates: list[float], joules: float, **_: Any) -> dict:
            return {"lr": [rates[0]] * 5, "loss": [1e6 * joules] * 5, "edge": [True, False, False, False, False]}

        def judge(self, joules: float, count: int, **_: Any) -> dict:
            return {"losses": [[1e6 * joules * (1 + 0.1 * seed)] * 5 for seed in range(count)]}

    outcome = study.run(Made())
    assert (
        outcome.verdict == "holds" and [row[1:4:2] for row in outcome.tables[0].rows] == [["fp32-1-4", "bf16-16-4"]] * 5
    )
    assert outcome.figures["ratios"][0][0] == pytest.approx(1 / 32)
    assert outcome.tables[0].rows[0][6:] == pytest.approx([0.5, 1 / 16])
    assert outcome.figures["rates_at_the_edge"] == 24 and len(outcome.tables[1].rows) == 6
    assert all(text.startswith("<svg") for text in outcome.pictures.values())


def test_a_small_run(study: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "BUDGETS", (2e-5, 4e-5))
    outcome = study.run(studies.Work(FOLDER, tmp_path, quick=True))
    ratios = [r[0] for r in outcome.figures["ratios"]]
    assert len(ratios) == 2 and all(low <= value <= high for value, low, high in outcome.figures["ratios"])
    assert outcome.verdict == ("holds" if max(ratios) <= study.BOUND else "falsified")
    assert len(outcome.figures["losses"]) == 8 and "bf16-16-64" in outcome.figures["joules_of_a_step"]
