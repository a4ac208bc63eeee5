"""The accuracy script: its references against themselves, its rule, and, with the peers, the shape of its last line."""

import importlib.util
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
pytest.importorskip("mpmath")


@pytest.fixture(scope="module", autouse=True)
def on_path():
    sys.path.insert(0, str(BENCHMARKS))
    yield
    sys.path.remove(str(BENCHMARKS))


def test_ulps():
    import mpmath
    from accuracy_reference import ulps

    single, double = np.dtype(np.float32), np.dtype(np.float64)
    third = mpmath.mpf(1) / 3
    assert (
        ulps(np.float32(1 / 3), third, single)
        < 0.5
        < ulps(np.nextafter(np.float32(1 / 3), np.float32(1)), third, single)
    )
    assert ulps(5e-324, mpmath.mpf(0), double) == 1.0  # subnormal numbers have one spacing
    assert ulps(0.0, mpmath.ldexp(1, -1080), double) < 0.5
    assert ulps(math.inf, mpmath.mpf(1e300), double) == math.inf == ulps(math.nan, third, double)
    assert ulps(math.inf, mpmath.mpf(10) ** 400, double) == 0.0
    assert ulps(float(np.finfo(double).max), mpmath.mpf(10) ** 400, double) == 1.0


def test_cancellation_does_not_spoil_a_reference():
    """At 60 digits the square of 1e-70 is nothing beside 1; so is what is left of it."""
    from accuracy_reference import Undecided, certain

    assert float(certain(lambda x: (1 + x * x) - 1, 1e-70)[0]) == pytest.approx(1e-140, rel=1e-12)
    assert certain(lambda x: x - x, 0.3) == [0]
    with pytest.raises(Undecided):
        certain(lambda x: 1 / x, 0.0)


def test_slopes_of_references_are_those_of_their_values():
    """Each slope against a difference of its value, at the tamest of its points."""
    from accuracy_functions import FUNCTIONS
    from accuracy_reference import Undecided, certain
    from mpmath import mp

    checked = 0
    for name, f in FUNCTIONS.items():
        points = [
            p
            for p in f.at(np.dtype(np.float32), 1)
            if all((0.05 < abs(x) < 4 and x != round(x)) or i + 1 < len(p) for i, x in enumerate(p))
        ]
        for k, slope in enumerate(f.slopes):
            if slope is None or not points:
                continue
            point = points[len(points) // 2]
            try:
                expected = certain(slope, *point)[0]
            except Undecided:
                continue
            with mp.workdps(80):
                h = mp.mpf(10) ** -25
                up, down = ([mp.mpf(x) + sign * h * (i == k) for i, x in enumerate(point)] for sign in (1, -1))
                found = (f.value(*up) - f.value(*down)) / (2 * h)
            assert abs(found - expected) <= 1e-18 * max(abs(expected), 1e-12), (name, k, point)
            checked += 1
    assert checked > 80


def test_best_or_equal():
    from accuracy import holds, verdicts

    assert holds({"ours": 1.9, "torch": 0.5}) and not holds({"ours": 2.1, "torch": 0.5, "jax": 9.0})
    assert holds({"ours": 11.0, "torch": 10.0}) and not holds({"ours": 11.2, "torch": 10.0})
    assert holds({"ours": 8.0}) and not holds({"ours": 8.1}) and holds({}) and not holds({"torch": 1.0})
    case = {"row": "f", "normwise": False, "value": {"ours": 0.5, "jax": 0.5}, "gradient": {"ours": 3.0, "jax": 2.0}}
    figures = verdicts([case, {**case, "row": "g", "normwise": True}], {"move": True})
    assert (figures["rows"], figures["best_or_equal"], figures["worse"]) == (3, 2, ["f"])


def test_a_row_that_moves_wrongly_is_seen(monkeypatch):
    import accuracy_moves as moves

    from autograd import OPS

    double = np.dtype(np.float64)
    assert moves.moves_exactly(OPS["flip"], double) == (True, True)
    monkeypatch.setitem(
        OPS["flip"].kernels, np.ndarray, lambda x, axis: np.flip(x, axis) + 0.0 * 1e-300
    )  # -0.0 becomes 0.0
    assert moves.moves_exactly(OPS["flip"], double)[0] is False
    assert moves.compares_exactly(OPS["argmax"], double)


def last_line(capsys):
    return json.loads(capsys.readouterr().out.strip().splitlines()[-1])


def test_ours_alone(capsys):
    import accuracy

    accuracy.main(["--quick", "--only", "asin,norm,flip", "--libraries", "ours"])
    figures = last_line(capsys)
    assert (
        figures["rows"] == 3 and figures["exact"] == [1, 1] and figures["alone"][1] == 2 and figures["beside"] == [0, 0]
    )
    assert figures["worse"] == []


@pytest.mark.peers
def test_beside_peers(capsys, tmp_path):
    if importlib.util.find_spec("torch") is None or importlib.util.find_spec("jax") is None:
        pytest.skip("PyTorch and JAX are not both installed")
    import accuracy

    accuracy.main(["--quick", "--only", "atanh,logsumexp", "--out", str(tmp_path)])
    assert last_line(capsys)["beside"] == [2, 2]
    cases = json.loads((tmp_path / "accuracy.json").read_text())["cases"]
    assert {c["dtype"] for c in cases} == {"float32", "float64"}
    assert all(set(c["value"]) == {"ours", "torch", "jax"} for c in cases)
    assert "| atanh" in (tmp_path / "accuracy.md").read_text()
