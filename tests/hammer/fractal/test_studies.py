"""The studies of fractal gradients and the benchmark of grids: what they compute, at sizes of a second."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest

from hammer.fractal import zoom
from hammer.lab import studies

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def threshold():
    return studies.load(ROOT / "experiments" / "smoothing_threshold")


@pytest.fixture
def cosine():
    return studies.load(ROOT / "experiments" / "fractal_cosine")


@pytest.fixture
def networks():
    return studies.load(ROOT / "experiments" / "fractal_boundary")


def test_the_predicted_scale(threshold):
    omega = 2 * math.pi
    assert math.isclose(threshold.predicted(1), math.sqrt(2 * math.log(0.21723 * omega**2)) / omega, rel_tol=1e-5)
    assert abs(threshold.predicted(1) - 0.330) < 5e-4 and threshold.predicted(3) > 2 * threshold.predicted(1)
    z = np.linspace(3.5, 5.5, 100_001)
    assert abs(-np.min(np.sin(z) / z) - 1 / threshold.SLOPE) < 1e-5


@pytest.mark.parametrize(
    "combine, below, above", [("coarse", 0.25, 0.45), ("gate", 0.25, 0.45), ("average", 0.45, 1.3)]
)
def test_descent_finds_the_bottom_above_it_only(threshold, combine, below, above, monkeypatch):
    monkeypatch.setattr(threshold, "STEPS", 200)
    monkeypatch.setattr(threshold, "DIRECTIONS", 16)
    assert threshold.success(combine, below, 2)["success"] == 0.0
    assert threshold.success(combine, above, 2)["success"] == 1.0


def test_labels_of_the_cosine_map(cosine):
    edges = lambda theta: int(np.count_nonzero(np.diff(cosine.labels(theta, 9)["above"])))
    assert edges(0.95) == 1 and edges(2.0) > 10
    np.testing.assert_array_equal(cosine.labels(2.0, 9)["above"], cosine.labels(2.0, 9, 0.25)["above"])


def test_labels_are_those_of_the_plain_iteration(cosine):
    theta, rates = 2.0, np.linspace(cosine.LOW, cosine.HIGH, (1 << 5) + 1)
    epsilon, wave = theta * cosine.CRITICAL * cosine.WAVELENGTH**2, 2 * math.pi / cosine.WAVELENGTH
    for rate, above in zip(rates, cosine.labels(theta, 5)["above"], strict=True):
        x = cosine.START
        for _ in range(cosine.STEPS):
            if abs(x) > 1e9:
                break
            x = x + rate * (math.sin(x * wave) * (epsilon * wave) - 2.0 * x)
        loss = lambda x: x * x + epsilon * math.cos(wave * x)
        if abs(x) > 1e3 or rate < 1 or theta < 1:  # elsewhere libraries' sines may part ways
            assert above == (loss(x) >= loss(cosine.START))


def test_conditions_of_the_networks(networks):
    from hammer.fractal import boundary

    for condition in networks.CONDITIONS:
        field = boundary(
            networks.training(condition, 3, 22), networks.frame_of(condition, 9), chunk=81, compiled=condition == "tanh"
        )
        assert field.converged.any() and not field.converged.all(), condition
        back = networks.restored(networks.stored(field))
        assert back.grid == field.grid and (back.ratio == field.ratio).all() and (back.speed == field.speed).all()


def test_minibatches_take_turns(networks):
    training, whole = networks.training("minibatch", 3, 22), networks.training("tanh", 3, 22)
    first = whole.start(0.0, 0.0)
    (everything, _), loss = whole.step(first, 1.0, 1.0)
    moves = []
    for t in range(8):
        ((moved, _), after), value = training.step((first, np.int64(t)), 1.0, 1.0)
        assert after == t + 1 and value == loss
        moves.append(moved - first[0])
    assert all((a == b).all() for a, b in zip(moves[:4], moves[4:], strict=True))
    assert len({m.tobytes() for m in moves}) == 4
    np.testing.assert_allclose(np.mean(moves[:4], axis=0), everything - first[0], atol=1e-14)


def test_a_path_goes_on_with_the_level_it_was_in(networks, tmp_path, monkeypatch):
    whole = networks.path("tanh", 1, 3, 25, 17, 2, tmp_path)
    (tmp_path / "level2.safetensors").unlink()
    calls = []
    monkeypatch.setattr(networks, "zoom", lambda *a, **k: calls.append(a[3]) or zoom(*a, **k))
    again = networks.path("tanh", 1, 3, 25, 17, 2, tmp_path)
    assert calls == [2] and again["dimension"] == whole["dimension"] and len(whole["dimension"]) == 3


def test_the_benchmark_measures_what_it_says(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    sys.modules.pop("boundary", None)
    import boundary

    monkeypatch.setattr(boundary, "SIZES", {"ours": (4,)})
    monkeypatch.setattr(boundary, "FORMS", ("sum",))
    chosen = boundary.choose("ours", 6, 8, 2)
    assert (
        chosen["form"] == "sum" and chosen["together"] == 4 and len(chosen["converged"]) == 6 and boundary.block() > 0
    )
    figures, lines = boundary.summarise(
        {"ours": [1.0, 2.0], "jax": [3.0, 3.0], "torch": [10.0, 10.0]},
        6,
        {k: {"form": "sum", "together": 4, "threads": 1} for k in ("ours", "jax", "torch")},
    )
    assert figures["ratio"] == {"jax": 2.25, "torch": 7.5} and figures["ratio_to_faster_peer"] == 2.25
    assert figures["trainings_per_second"]["ours"] == 4.0 and any("Hammer" in line for line in lines)
    boundary.agree({"ours": [True] * 100, "jax": [True] * 99 + [False]})
    with pytest.raises(AssertionError, match="disagree on 3 of 100"):
        boundary.agree({"ours": [True] * 100, "jax": [True] * 97 + [False] * 3})


@pytest.mark.peers
@pytest.mark.parametrize("library", ["jax", "torch"])
def test_the_peers_train_the_same_networks(library, monkeypatch):
    pytest.importorskip(library)
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import boundary

    a, b = (r[:3] for r in boundary.rates(64))
    small = a < 10, b < 10
    found = {
        name: boundary.trainer(name, form, 2, 2, 6)(a, b) for name, form in ((library, "product"), ("ours", "sum"))
    }
    tame = small[0] & small[1]
    np.testing.assert_allclose(found[library][:2], found["ours"][:2], rtol=1e-9)
    np.testing.assert_allclose(found[library][:, tame], found["ours"][:, tame], rtol=1e-6)
