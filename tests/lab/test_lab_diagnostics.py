"""Diagnostics: each counts, the rule that decides it is enforced, and spoiled gradients are what they are said to be."""

from dataclasses import replace

import numpy as np
import pytest

from autograd import ops, optim
from hammer.lab.cli import main
from hammer.lab.diagnostics import ALL, oracles, verdict
from hammer.lab.diagnostics.landscape import Diagnostic, descend, random_search
from hammer.lab.seeds import Streams


def test_the_difficulties_are_all_there() -> None:
    assert set(ALL) == {
        "saddle", "monkey_saddle", "plateau", "cliff", "layer_scales", "scale_invariant", "moving_target", "heavy_tails",
        "delay", "sparse", "quantised", "reddi",
    }  # fmt: skip


@pytest.mark.parametrize(
    "name", [name for name in ALL if name != "reddi"]
)  # that one takes 20 s; `hammer diagnose` holds it too
def test_every_diagnostic_counts(name: str) -> None:
    found = verdict.controls(ALL[name])
    assert found.fault is None
    assert found.counts and not found.random.passed and not found.one_trial.passed and found.reference.passed


def bowl(**changes: object) -> Diagnostic:
    base = Diagnostic(
        "bowl", "none", lambda x, t: 0.5 * ops.sum(x * x, axis=-1), lambda rng: rng.normal(size=2), (-1.0, 1.0), 50, 0.01, "adam"
    )  # fmt: skip
    return replace(base, **changes)


def test_what_asks_nothing_or_too_much_does_not_count() -> None:
    steep = bowl(value=lambda x, t: 10.0 * ops.sum(x * x, axis=-1), goal=0.1)  # the one rate that SGD has overshoots
    assert verdict.controls(steep).fault == "random search passes"
    easy = verdict.controls(bowl(goal=0.5))
    assert not easy.counts and easy.fault == "random search passes and SGD with one setting passes"
    assert verdict.controls(bowl(goal=-1.0)).fault == "the reference fails"


def test_a_run_is_gradient_descent_on_what_it_is_given() -> None:
    seen = []

    def spoil(g: np.ndarray, places: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
        seen.append((g, places[-1]))
        return g

    streams = Streams(0, "bowl", 0)
    start = np.random.default_rng(streams.sequence("init")).normal(size=2)
    loss = descend(bowl(steps=4, spoil=spoil), optim.sgd(lr=0.1), streams)
    assert loss == pytest.approx(0.5 * np.sum((start * 0.9**4) ** 2))
    np.testing.assert_allclose([g for g, _ in seen], [start * 0.9**t for t in range(4)])
    seen.clear()
    descend(bowl(steps=4, spoil=spoil, delay=2), optim.sgd(lr=0.1), streams)
    np.testing.assert_allclose(seen[3][0], seen[1][1])  # the gradient of two steps ago
    assert descend(bowl(), optim.sgd(lr=1e6), streams) == np.inf
    held = bowl(project=lambda x: np.clip(x, 3.0, 4.0))
    assert descend(held, optim.sgd(lr=0.1), streams) == pytest.approx(9.0)


def test_random_search_takes_the_best_point() -> None:
    few, many = (random_search(bowl(), n, Streams(0, "bowl", 0)) for n in (10, 1000))
    assert many < few < 1.0 and many < 0.01


def test_gradients_are_spoiled_as_said() -> None:
    g, rng = np.linspace(-1.0, 2.0, oracles.N), np.random.default_rng(0)
    rounded = np.array([oracles._quantised(g, [], rng) for _ in range(4000)])
    levels = rounded * 1.5
    np.testing.assert_allclose(levels, np.round(levels), atol=1e-9)
    assert np.abs(levels).max() <= 3.0 + 1e-9
    np.testing.assert_allclose(rounded.mean(axis=0), g, atol=0.05)
    seen = np.array([oracles._sparse(g, [], rng) for _ in range(4000)]) != 0.0
    np.testing.assert_allclose(seen.mean(axis=0), oracles._RARITY, atol=0.03)
    slopes = sum(oracles._reddi(np.eye(oracles.N), t) for t in range(oracles.PERIOD)) * oracles.N
    np.testing.assert_allclose(slopes, oracles.RARE - (oracles.PERIOD - 1))  # positive: -1 is best for each


def test_the_command_prints_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diagnose", "sgd", "adam", "--only", "layer_scales,plateau"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["sgd", "adam", "reference"]
    assert lines[1].split() == ["layer_scales", "fail", "pass", "adam"]
    assert lines[3].split()[-3:] == ["2", "of", "2"]
    assert main(["diagnose", "adm"]) == 2
    assert "did you mean 'adam'" in capsys.readouterr().err
    assert main(["diagnose", "adam", "--only", "cliffs"]) == 2
    assert "did you mean 'cliff'" in capsys.readouterr().err
