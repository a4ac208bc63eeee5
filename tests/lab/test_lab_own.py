"""A user's own problems and optimizers: `hammer new` writes files that work, and `--from FOLDER` finds them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hammer.lab import discovery, optimizers, problems, protocol
from hammer.lab.cli import main
from hammer.lab.errors import UsageError
from hammer.lab.trial import TrialSpec

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A folder with a new problem and a new optimizer."""
    for kind, name in (("problem", "my_digits"), ("optimizer", "my_ball")):
        assert main(["new", kind, name, "--in", str(tmp_path / "own")]) == 0
    assert "compare it: hammer compare my_ball adam --from" in capsys.readouterr().out
    return tmp_path / "own"


def test_the_written_tests_pass(folder: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder / "tests")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0 and "2 passed" in done.stdout, done.stdout + done.stderr
    path = folder / "optimizers" / "my_ball.py"
    path.write_text(path.read_text().replace("return -lr * m", "return lr * m"))  # uphill
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1 and "1 failed, 1 passed" in done.stdout


def test_they_are_listed_compared_and_diagnosed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "problems", "--from", str(folder)]) == 0
    assert "\nmy_digits " in capsys.readouterr().out
    assert main(["list", "optimizers", "--from", str(folder)]) == 0
    assert "\nmy_ball " in capsys.readouterr().out
    where = ["--out", str(folder / "reports"), "--store", str(folder / "runs"), "--jobs", "1"]
    small = ["--workloads", "my_digits,quadratic", "--trials", "1", "--seeds", "1", "--name", "own"]
    assert main(["compare", "smoke", "my_ball", "adam", *small, *where, "--from", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "my_digits my_ball" in out and "error" not in out
    assert f"--from {folder}" in (folder / "reports/own/index.html").read_text()
    assert discovery.VARIABLE not in os.environ  # nothing is left behind
    assert "my_ball" not in optimizers.names() and "my_digits" not in problems.names()
    assert main(["compare", "smoke", "my_ball", *where]) == 2
    assert main(["diagnose", "my_ball", "--only", "plateau", "--from", str(folder)]) == 0


def test_a_trial_depends_on_the_code_of_its_files(folder: Path) -> None:
    def keys() -> tuple[str, str, str]:
        with discovery.looking_in([folder]):
            specs = (("my_digits", "adam"), ("quadratic", "my_ball"), ("quadratic", "adam"))
            first, second, third = (protocol.key(TrialSpec(p, o, {"lr": 0.1}, 0, 0, 5, 5, "float64")) for p, o in specs)
            return first, second, third

    def forget() -> None:
        protocol.code_version.cache_clear()
        environment_code.cache_clear()

    from hammer.lab.environment import _code as environment_code

    before = keys()
    for path in (folder / "problems/my_digits.py", folder / "optimizers/my_ball.py"):
        path.write_text(path.read_text() + "# a comment\n")
    forget()
    assert keys() == before
    for path in (folder / "problems/helper.py", folder / "optimizers/my_ball.py"):
        path.write_text((path.read_text() if path.exists() else "") + "CONSTANT = 1\n")
    forget()
    after = keys()
    assert after[0] != before[0] and after[1] != before[1] and after[2] == before[2]
    forget()


def test_bad_names_files_and_folders_are_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for argv, said in (
        (["new", "problem", "My-Problem"], "'My-Problem' cannot be a name"),
        (["new", "problem", "class"], "cannot be a name"),
        (["new", "optimizer", "adam"], "built-in optimizer 'adam'"),
        (["new", "problem", "my_digits", "--in", str(folder)], "is there already"),
        (["list", "problems", "--from", str(folder / "nowhere")], "is not a folder"),
        (["list", "problems", "--from", str(folder / "tests")], "neither a folder problems"),
    ):
        assert main(argv) == 2
        assert said in capsys.readouterr().err
    (folder / "problems/empty.py").write_text("")
    (folder / "optimizers/other.py").write_text((folder / "optimizers/my_ball.py").read_text())
    with discovery.looking_in([folder]):
        with pytest.raises(UsageError, match="must define PROBLEM"):
            problems.get("empty")
        with pytest.raises(UsageError, match="describes 'my_ball'"):
            optimizers.get("other")
