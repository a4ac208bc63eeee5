"""The programs that ``benchmarks/clients.py`` runs on HIPS autograd and on ours: here on ours alone, and the comparison itself."""

import importlib
import math
import sys
from pathlib import Path
from types import ModuleType

import numpy as onp
import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


def load(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(FOLDER)
    return sys.modules.get(name) or importlib.import_module(name)


@pytest.mark.parametrize(
    "name",
    [
        "neural_net",
        "gaussian_process",
        "differential_equation",
        "equilibrium",
        "recurrent_net",
        "variational_inference",
    ],
)
def test_programs_run(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = load("hips_programs", monkeypatch).PROGRAMS
    assert len(programs) == 6
    numbers = [float(v) for v in programs[name]()]
    assert len(numbers) > 5 and all(map(math.isfinite, numbers))
    if name == "neural_net":
        assert numbers[3] < 0.5 * numbers[0]  # it learns
    if name == "equilibrium":
        onp.testing.assert_allclose(numbers[-2:], [0.5 * 3**-0.5, -0.25 * 3**-1.5])


def test_the_difference_of_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    difference = load("clients", monkeypatch).difference
    assert difference([1.0, 2.0], [1.0, 2.0]) == 0.0
    assert difference([1.0, 2.02], [1.0, 2.0]) == pytest.approx(0.01)
    assert difference([1.0], [1.0, 2.0]) == math.inf and difference([math.nan], [1.0]) == math.inf
