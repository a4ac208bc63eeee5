"""The script of spoiled files: it judges as it says, and a few files of each mutation are refused."""

import json
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def script():
    sys.path.insert(0, str(BENCHMARKS))
    import bad_files

    yield bad_files
    sys.path.remove(str(BENCHMARKS))


def test_a_few_of_each_are_refused(script, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["bad_files.py", "--quick", "--count", "32", "--seed", "5"])
    script.main()
    figures = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert figures == {"tried": 64, "refused": 64, "crashed": 0, "accepted": 0, "equal": 0}


def test_mutations_are_seeded_and_differ(script):
    made = script.spoil(script.CONFIGS, script.YAML, 64, seed=1)
    assert (
        made
        == script.spoil(script.CONFIGS, script.YAML, 64, seed=1)
        != script.spoil(script.CONFIGS, script.YAML, 64, seed=2)
    )
    assert len({data for _, data in made}) == 64 and {kind for kind, _ in made} == set(script.CONFIGS)


@pytest.mark.parametrize(
    ("load", "outcome"),
    [
        (lambda path: 1, "equal"),
        (lambda path: 2, "accepted"),
        (lambda path: {}["x"], "crashed"),
        (lambda path: (_ for _ in ()).throw(ValueError("unclear")), "crashed"),
        (lambda path: (_ for _ in ()).throw(ValueError(f"{path}: is bad")), "refused"),
        (lambda path: (_ for _ in ()).throw(ValueError(f"{path}: is bad\nin two lines")), "crashed"),
        (lambda path: path.write_text("") or (_ for _ in ()).throw(ValueError(f"{path}: is bad")), "crashed"),
    ],
)  # fmt: skip
def test_files_are_judged(script, tmp_path, load, outcome):
    assert script.judge(tmp_path / "x", b"spoiled", load, ValueError, 1)[0] == outcome
