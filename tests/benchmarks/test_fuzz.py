"""The differential fuzzer: its programs are repeatable, it finds a wrong rule, and its model excuses what it should."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from autograd import OPS
from autograd.testing.programs import Name, Program, Step, gradients

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
pytest.importorskip("torch")
pytest.importorskip("mpmath")
pytestmark = pytest.mark.peers


@pytest.fixture(scope="module", autouse=True)
def on_path():
    sys.path.insert(0, str(BENCHMARKS))
    yield
    sys.path.remove(str(BENCHMARKS))


def last_line(capsys) -> dict:
    return json.loads(capsys.readouterr().out.strip().splitlines()[-1])


def fuzz(tmp_path, *options):
    import fuzz

    fuzz.main(["--programs", "12", "--jax-every", "0", "--out", str(tmp_path), *options])


@pytest.fixture
def without_jax(monkeypatch):
    import fuzz

    monkeypatch.setattr(fuzz, "_lines", lambda *_: [])
    return fuzz


def test_programs_are_functions_of_seed_and_number(without_jax):
    a, b, c = (str(without_jax.program_of(seed, i, 0)[0]) for seed, i in ((1, 5), (1, 5), (2, 5)))
    assert a == b != c


def test_it_agrees_and_resumes(tmp_path, capsys, without_jax, monkeypatch):
    state = ["--state", str(tmp_path / "state")]
    fuzz(tmp_path, *state)
    first = last_line(capsys)
    assert first["programs"] == 12 and first["unexplained"] == 0 and sum(first["compared"].values()) >= 10
    monkeypatch.setattr(without_jax, "examine", None)  # nothing is done again
    fuzz(tmp_path, *state)
    assert {**last_line(capsys), "seconds": 0} == {**first, "seconds": 0}


def test_it_finds_a_wrong_rule_and_blames_the_row(tmp_path, capsys, without_jax, monkeypatch):
    monkeypatch.setattr(OPS["tanh"], "vjps", (lambda g, y, _x: g * (1.0 - y * y) * 1.000001,))
    fuzz(tmp_path)
    figures = last_line(capsys)
    assert figures["unexplained"] > 0
    report = json.loads((tmp_path / "fuzz.json").read_text())
    blamed = {(b["row"], b["verdict"]) for f in report["disagreements"] for b in f["blames"]}
    assert ("tanh", "ours") in blamed


def one(row, *leaves, **params):
    names = [f"x{k}" for k in range(len(leaves))]
    step = Step(("y",), row, tuple(map(Name, names)), {**OPS[row].params, **params})
    return Program(dict(zip(names, leaves, strict=True)), (step,), ("y",))


def test_the_model_excuses_cancellation_and_nothing_else():
    from fuzz_model import Model, compare

    program = one("subtract", np.float64(1.0 + 2.0**-30), np.float64(1.0))
    values, grads = gradients(program)
    near = [values[0] * (1.0 + 2.0**-24), *grads]  # an error of the size of the rounding of the inputs
    far = [values[0] * (1.0 + 2.0**-10), *grads]
    model = Model(program, "float64")
    assert not compare([*values, *grads], near, model, 1)[0]
    assert compare([*values, *grads], far, model, 1)[0]
    exact = one("multiply", np.float64(3.0), np.float64(2.0))
    values, grads = gradients(exact)
    assert compare([*values, *grads], [values[0] * (1.0 + 1e-12), *grads], Model(exact, "float64"), 1)[0]


def test_mpmath_is_the_referee():
    from fuzz_blame import exact

    x = np.array([0.3, 2.5])
    value, gradient = exact(one("digamma", x))
    assert np.allclose(value, [-3.5025242222, 0.7031566406], rtol=1e-9)
    assert np.allclose(gradient / [1.1, np.cos(2.4) + 0.1], [12.2453645, 0.4903577561], rtol=1e-6)


def test_every_row_is_compared_or_left_out_for_a_reason():
    from peers_torch import COMPOSED, LACKS, ROWS

    assert {*ROWS} | {*LACKS} == {*OPS} and not {*ROWS} & {*LACKS} and {*COMPOSED} <= {*ROWS}
    pytest.importorskip("jax")
    import peers_jax

    assert {*peers_jax.ROWS} | {*peers_jax.LACKS} == {*OPS} and not {*peers_jax.ROWS} & {*peers_jax.LACKS}
