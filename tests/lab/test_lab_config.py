"""Configs and the command's answers to bad input: one line that names field, value and what is allowed; exit code 2."""

import subprocess
import sys
from pathlib import Path

import pytest

from hammer.lab import config, environment, optimizers, problems
from hammer.lab.cli import main

GOOD = "workloads: [quadratic]\noptimizers: [adam]\n"

BAD_FILES = {
    "unknown optimizer": ("workloads: [quadratic]\noptimizers: [adm]", ["optimizers[0]", "'adm'", "did you mean 'adam'", "momentum"]),
    "unknown workload": ("workloads: [quadratc]\noptimizers: [adam]", ["workloads[0]", "'quadratc'", "did you mean 'quadratic'"]),
    "unknown field": (GOOD + "seedz: 3", ["'seedz'", "did you mean 'seed'", "tuning_seeds"]),
    "field that is no text": (GOOD + "3: 3", ["unknown field 3"]),
    "missing field": ("optimizers: [adam]", ["'workloads'", "missing"]),
    "bad YAML": ("workloads: [quadratic]\noptimizers: [adam", ["bad.yaml:2", "not valid YAML"]),
    "tab in YAML": ("workloads:\n\t- quadratic", ["bad.yaml:2", "not valid YAML"]),
    "field given twice": (GOOD + "seeds: 3\nseeds: 4", ["bad.yaml:4", "seeds"]),
    "not allowed character": (GOOD + "name: a\x00b", ["not valid YAML"]),
    "list instead of fields": ("- quadratic", ["fields with values", "list"]),
    "text instead of list": ("workloads: quadratic\noptimizers: [adam]", ["workloads", "list", "'quadratic'"]),
    "empty list": ("workloads: [quadratic]\noptimizers: []", ["optimizers", "one or more"]),
    "listed twice": ("workloads: [quadratic]\noptimizers: [adam, adam]", ["optimizers[1]", "'adam'", "twice"]),
    "number as a name": ("workloads: [quadratic]\noptimizers: [7]", ["optimizers[0]", "unknown optimizer 7"]),
    "negative seeds": (GOOD + "seeds: -3", ["seeds", "at least 1", "-3"]),
    "no seeds": (GOOD + "seeds: 0", ["seeds", "at least 1"]),
    "negative root seed": (GOOD + "seed: -1", ["seed", "at least 0", "-1"]),
    "fraction of a seed": (GOOD + "seeds: 2.5", ["seeds", "whole number", "2.5"]),
    "truth as a number": (GOOD + "trials: true", ["trials", "whole number", "True"]),
    "text as a number": (GOOD + "trials: many", ["trials", "whole number", "'many'"]),
    "no steps": (GOOD + "steps: 0", ["steps", "at least 1", "or null"]),
    "unknown dtype": (GOOD + "dtype: float23", ["dtype", "float32, float64", "did you mean float32"]),
    "unknown target rule": (GOOD + "targets: frozn", ["targets", "frozen, derived", "did you mean frozen"]),
    "number as a truth": (GOOD + "control: 1", ["control", "true, false", "1"]),
    "confidence of one": (GOOD + "confidence: 1.0", ["confidence", "below 1"]),
    "folder as a name": (GOOD + "name: ../x", ["name", "'../x'"]),
    "too few resamples": (GOOD + "resamples: 10", ["resamples", "at least 100"]),
    "empty file": ("", ["empty", "workloads and optimizers"]),
    "only a comment": ("# nothing", ["empty"]),
}  # fmt: skip


def refused(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run the command, which must refuse: exit code 2, one line on standard error, nothing on standard output."""
    try:
        code = main(argv)
    except SystemExit as exit_:
        code = exit_.code
    captured = capsys.readouterr()
    assert code == 2
    assert captured.out == ""
    assert captured.err.startswith("hammer compare: ")
    assert captured.err.count("\n") == 1
    return captured.err


@pytest.mark.parametrize("content, said", BAD_FILES.values(), ids=BAD_FILES.keys())
def test_a_bad_file_is_refused_with_one_line(
    content: str, said: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(content, encoding="utf-8")
    line = refused(["compare", str(path), "--out", str(tmp_path / "out"), "--store", str(tmp_path / "store")], capsys)
    for part in ["bad.yaml", *said]:
        assert part in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "argv, said",
    [
        (["nowhere.yaml"], ["nowhere.yaml", "no such file"]),
        (["quik"], ["'quik'", "did you mean 'quick'", "adamw"]),
        (["adm"], ["did you mean 'adam'"]),
        (["quick", "smoke"], ["one config at most", "quick and smoke"]),
        (["."], [".", "folder"]),
        (["--seeds", "-1"], ["--seeds", "at least 1", "-1"]),
        (["--seeds", "many"], ["--seeds", "invalid int value: 'many'"]),
        (["--trials", "0"], ["--trials", "at least 1"]),
        (["--jobs", "0"], ["--jobs", "at least 1"]),
        (["--workloads", "quadratic,rosenbrok"], ["--problems[1]", "did you mean 'rosenbrock'"]),
        (["--workloads", ""], ["--problems[0]", "unknown problem or suite ''"]),
        (["--problems", "lite"], ["--problems[0]", "did you mean 'light'"]),
        (["SGD", "Vortx"], ["unknown config or optimizer 'SGD'", "did you mean 'sgd'"]),
        (["vortex", "adan", "sgd"], ["'adan'", "did you mean 'adam'"]),
        (["--trails", "3"], ["'--trails'", "did you mean --trials?"]),
        (["--executor", "thread"], ["--executor", "serial", "processes", "mpi"]),
        (["--name", "a/b"], ["--name", "'a/b'"]),
        (["--frobnicate"], ["unknown argument '--frobnicate'", "hammer compare --help"]),
        (["--out", "{file}/below"], ["--out", "cannot write to the folder", "Not a directory"]),
        (["--store", "{file}"], ["--store", "cannot write to the folder"]),
    ],
    ids=" ".join,
)  # fmt: skip
def test_bad_arguments_are_refused_with_one_line(
    argv: list[str],
    said: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "file"
    file.write_text("")
    line = refused(["compare", *(a.replace("{file}", str(file)) for a in argv)], capsys)
    for part in said:
        assert part in line


def test_a_file_that_is_not_text_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    assert "UTF-8" in refused(["compare", str(path)], capsys)


def test_missing_libraries_are_named_with_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(environment, "find", lambda module: module != "mlxtend")
    assert (
        refused(["compare"], capsys)
        .strip()
        .endswith('the laboratory needs mlxtend; install with: pip install "hammer-grad[lab]"')
    )


def test_yaml_numbers_mean_what_they_look_like(tmp_path: Path) -> None:
    path = tmp_path / "my study.yaml"
    path.write_text(GOOD + "confidence: 9e-1\nsteps: 100\ncontrol: false\n")
    read = config.load(path)
    assert (read.confidence, read.steps, read.control, read.name) == (0.9, 100, False, "my-study")


def test_a_written_config_reads_back_as_itself(tmp_path: Path) -> None:
    for name in config.SHIPPED:
        original = config.override(config.shipped(name), {"steps": 7, "dtype": "float64", "control": False})
        path = tmp_path / "config.yaml"
        path.write_text(original.to_yaml())
        assert config.load(path) == original


def test_shipped_configs_are_sound() -> None:
    quick, full, long = (config.shipped(name) for name in ("quick", "full", "long"))
    assert {*full.workloads, *long.workloads} == set(problems.names())
    assert {*quick.workloads, *config.shipped("light").workloads} < {*full.workloads}
    assert any(not optimizers.get(name).baseline for name in quick.optimizers)
    targets = config.shipped("targets")
    assert all(optimizers.get(name).baseline for name in targets.optimizers)
    assert set(targets.workloads) == set(problems.names())
    assert targets.targets == "derived" and targets.seed != quick.seed


def test_optimizers_named_on_the_command_line_replace_those_of_the_config(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [
        "compare",
        "smoke",
        "sgd",
        "--workloads",
        "quadratic",
        "--dry-run",
        "--store",
        str(tmp_path / "s"),
        "--out",
        str(tmp_path),
    ]
    assert main(argv) == 0
    out = capsys.readouterr().out
    assert "smoke-sgd-on-quadratic: 1 optimizer on 1 workload, 3 settings × 1 tuning seed, then 3 scoring seeds" in out
    assert "12 trials, 0 of them done" in out  # 3 settings × 1 tuning seed, 3 scoring seeds, 3 of each control


def test_help_and_version_load_nothing_heavy() -> None:
    program = (
        "import sys\nfrom hammer.lab.cli import main\n"
        "for argv in (['--help'], ['compare', '--help'], ['--version']):\n"
        "    try: main(argv)\n"
        "    except SystemExit as e: assert e.code == 0\n"
        "heavy = ('scipy.stats', 'sklearn', 'mlxtend', 'rich', 'ruamel.yaml', 'pandas', 'autograd.nn', 'hammer.vortex')\n"
        "print([m for m in heavy if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "exit codes:" in done.stdout and "130" in done.stdout and "hammer 0." in done.stdout


@pytest.mark.parametrize(
    "what, names",
    [
        (["workloads"], problems.names()),
        (["optimizers"], list(optimizers.ENTRIES)),
        ([], [*problems.names(), *optimizers.ENTRIES]),
    ],
)
def test_list_names_everything(what: list[str], names: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", *what]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines() if line] == names
