"""`hammer run FOLDER`: parts are computed once, resumed, made again when they must be, and reported."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from hammer.lab import studies
from hammer.lab.cli import main
from hammer.lab.studies import Outcome, Work

STUDY = """
from pathlib import Path
from hammer.lab.studies import Outcome, Table

TITLE, CLAIM, FALSIFIED_IF = "Squares", "A square is not negative.", "one is."

def square(x, log):
    with Path(log).open("a") as file:
        file.write(f"{x}\\n")
    return {"square": x * x, "many": [float(x)] * 3}

def run(work):
    numbers = range(2 if work.quick else 4)
    log = str(Path(__file__).with_name("log"))
    found = work.parts(square, {f"x{x}": {"x": x, "log": log} for x in numbers})
    if Path(__file__).with_name("stop").exists():
        raise KeyboardInterrupt
    total = sum(f["square"] for f in found.values())
    return Outcome("holds", "None is.", {"total": total, "inf": float("inf")},
        [Table("Squares", ["x", "x²"], [[k, f["square"]] for k, f in found.items()])], {"picture.svg": "<svg/>"}, ["A note."])
"""


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "experiments" / "squares"
    folder.mkdir(parents=True)
    (folder / "study.py").write_text(STUDY)
    return folder


def runs(study):
    path = study / "log"
    return sorted(path.read_text().split()) if path.exists() else []


def test_a_study_is_run_reported_and_not_computed_twice(study, tmp_path, capsys):
    assert main(["run", str(study)]) == 0
    assert "The claim holds: None is." in capsys.readouterr().out
    report = tmp_path / "reports" / "squares"
    record = json.loads((report / "results.json").read_text())
    assert record["verdict"] == "holds" and record["figures"] == {"total": 14, "inf": "inf"} and not record["quick"]
    summary = (report / "summary.md").read_text()
    for said in (
        "# Squares",
        "![Squares](picture.svg)",
        "A square is not negative.",
        "one is.",
        "| x3 | 9 |",
        "A note.",
    ):
        assert said in summary
    assert (report / "picture.svg").read_text() == "<svg/>"
    assert main(["run", str(study)]) == 0
    assert runs(study) == ["0", "1", "2", "3"]


def test_an_interrupted_study_goes_on_where_it_was(study, tmp_path, capsys):
    (study / "stop").touch()
    assert main(["run", str(study)]) == 130
    assert "to go on:" in capsys.readouterr().err and not (tmp_path / "reports" / "squares" / "summary.md").exists()
    (study / "stop").unlink()
    assert main(["run", str(study)]) == 0
    assert runs(study) == ["0", "1", "2", "3"]


def test_quick_runs_go_elsewhere(study, tmp_path):
    assert main(["run", str(study), "--quick"]) == 0
    assert not (tmp_path / "reports" / "squares").exists()
    assert "no verdict" in (tmp_path / "runs" / "quick" / "squares" / "summary.md").read_text()
    assert runs(study) == ["0", "1"]


def test_changed_code_settings_and_damaged_parts_are_made_again(study, tmp_path, capsys):
    assert main(["run", str(study), "--quick"]) == 0
    part = tmp_path / "runs" / "studies" / "squares" / "quick" / "x1.safetensors"
    part.write_bytes(part.read_bytes()[:50])
    assert main(["run", str(study), "--quick"]) == 0
    assert runs(study) == ["0", "1", "1"] and "x1: made again" in capsys.readouterr().out
    work = Work(study, tmp_path / "runs", quick=True)
    square = studies.load(study).square
    assert work.part("x1", square, x=1, log=str(study / "log"))["square"] == 1 and len(runs(study)) == 3
    assert work.part("x1", square, x=5, log=str(study / "log"))["square"] == 25 and len(runs(study)) == 4
    (study / "helper.py").write_text("")
    assert main(["run", str(study), "--quick"]) == 0
    assert len(runs(study)) == 6


def test_parts_in_processes_give_the_same(study, tmp_path):
    assert main(["run", str(study), "--jobs", "2", "--out", "there"]) == 0
    assert json.loads((tmp_path / "there" / "squares" / "results.json").read_text())["figures"]["total"] == 14
    assert runs(study) == ["0", "1", "2", "3"]


@pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX signals")
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGKILL])
def test_processes_end_with_a_command_that_is_killed(study, tmp_path, sent):
    slow = STUDY.replace('    return {"square"', '    import time\n    time.sleep(300)\n    return {"square"')
    (study / "study.py").write_text(slow)
    command = [sys.executable, "-m", "hammer.lab", "run", str(study), "--jobs", "2"]
    environment = os.environ | {"PYTHONPATH": str(Path(studies.__file__).parents[2])}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        deadline = time.monotonic() + 60
        while len(runs(study)) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert len(runs(study)) == 2
        process.send_signal(sent)
        process.communicate(timeout=60)  # returns when nobody can write into the pipe any more
        assert process.returncode == -sent


def test_parts_return_arrays_and_may_keep_checkpoints(study, tmp_path):
    (study / "study.py").write_text(
        STUDY + "\ndef keeps(value, folder):\n    import numpy as np\n    (folder / 'checkpoint').write_text('here')\n"
        "    return {'array': np.arange(3.0) * value}\n"
    )
    work = Work(study, tmp_path / "runs")
    found = work.part("own", studies.load(study).keeps, value=2.0)
    assert np.array_equal(found["array"], [0, 2, 4])
    assert (work.folder / "own" / "checkpoint").read_text() == "here"


def test_what_is_no_study_is_refused(study, tmp_path, capsys):
    cases = [
        (["run", str(tmp_path)], "folder without a study.py"),
        (["run", str(study), "a=b"], "takes no settings"),
        (["run", str(study), "--jobs", "0"], "--jobs: must be"),
        (["run", "some.yaml", "--quick"], "--quick and --out are for studies"),
    ]
    for argv, said in cases:
        assert main(argv) == 2 and said in capsys.readouterr().err
    (study / "study.py").write_text("TITLE = 'a'\nCLAIM = 'b'\n")
    assert main(["run", str(study)]) == 2 and "FALSIFIED_IF is missing" in capsys.readouterr().err


def test_bad_outcomes_and_parts_are_refused(study, tmp_path):
    with pytest.raises(ValueError, match="verdict must be one of"):
        Outcome("true", "", {})
    with pytest.raises(ValueError, match=r"NAME\.svg or NAME\.png"):
        Outcome("holds", "", {}, pictures={"../a.svg": ""})
    work = Work(study, tmp_path / "runs")
    with pytest.raises(ValueError, match="letters, digits"):
        work.part("../up", int)
    with pytest.raises(ValueError, match=r"must be a def of the study's file"):
        work.part("a", lambda: 0)
