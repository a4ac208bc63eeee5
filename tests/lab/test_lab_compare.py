"""Whole comparisons, small ones: bits, resuming, failures, and what the report holds."""

import csv
import html.parser
import io
import json
import math
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hammer.lab import config, executors, progress, protocol, trial
from hammer.lab.cli import main
from hammer.lab.comparison import Comparison
from hammer.lab.environment import describe
from hammer.lab.report.text import amount
from hammer.lab.store import Store
from hammer.lab.trial import TIMES, TrialSpec

TINY = """
workloads: [quadratic, digits_logistic]
optimizers: [momentum, vortex_adamw]
trials: 2
tuning_seeds: 1
seeds: 2
steps: 20
targets: derived
resamples: 200
"""
SURFACES = TINY.replace("digits_logistic", "rosenbrock")  # needs no dataset, so its workers start faster
TOTAL = 2 * 2 * (2 * 1 + 2) + 2 * 2 * 2  # pairs × (tuning + scoring) + two controls


def compare(folder: Path, *options: str, store: str = "store", content: str = TINY) -> int:
    """Run `hammer compare` in a folder."""
    file = folder / "tiny.yaml"
    if not file.exists():
        file.write_text(content)
    return main(["compare", str(file), "--out", str(folder / "reports"), "--store", str(folder / store), *options])


def results(store: Path) -> dict[str, tuple[Any, ...]]:
    """All that is not a time, of every trial in a store, by key."""
    found = {}
    for key in Store(store).all_keys():
        loaded = Store(store).load(key)
        assert loaded is not None
        record, arrays = loaded
        kept = {name: a.tobytes() for name, a in arrays.items() if name not in TIMES}
        found[key] = (record["spec"], record["status"], record["steps"], record["bits"], kept)
    return found


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished tiny comparison."""
    folder = tmp_path_factory.mktemp("done")
    assert compare(folder, "--jobs", "2") == 0
    return folder


def test_one_job_and_two_jobs_give_equal_bits(done: Path, tmp_path: Path) -> None:
    assert compare(tmp_path, "--jobs", "1") == 0
    one, two = results(tmp_path / "store"), results(done / "store")
    assert len(two) == TOTAL
    assert one == two


def test_finished_trials_are_not_run_again(
    done: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def changed() -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in (done / "store").glob("*.npz")}

    before = changed()
    monkeypatch.setattr(executors.Processes, "_drain", lambda *_: pytest.fail("a trial was run"))
    for name in ("tiny", "afresh"):  # the report is there, and it is not
        assert compare(done, "--name", name) == 0
        assert f"{TOTAL} trials, {TOTAL} of them done already" in capsys.readouterr().out
    assert changed() == before


def test_optimizers_are_paired(done: Path) -> None:
    seen: dict[tuple, set] = {}
    for spec, _, _, _, arrays in results(done / "store").values():
        start = (np.frombuffer(arrays["loss"])[0], np.frombuffer(arrays["train_loss"], spec["dtype"])[0])
        seen.setdefault((spec["problem"], spec["index"]), set()).add(start)
    assert all(
        len(starts) == 1 for starts in seen.values()
    )  # the same start and first batch for every optimizer and setting
    assert len({start for starts in seen.values() for start in starts}) == len(seen)  # and another for every seed


def test_damaged_trials_are_named_and_run_again(done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = tmp_path / "store"
    store.mkdir()
    for path in (done / "store").iterdir():
        (store / path.name).write_bytes(path.read_bytes())
    keys = [key for key, found in results(store).items() if found[0]["problem"] == "quadratic"]
    path = [store / f"{key}.npz" for key in keys]
    path[0].write_bytes(path[0].read_bytes()[:-70])
    path[1].write_bytes(b"nonsense")
    path[2].write_bytes(b"")
    path[3].write_bytes(path[4].read_bytes())  # sound, but another trial's
    content = path[5].read_bytes()
    path[5].write_bytes(content[:200] + bytes([content[200] ^ 1]) + content[201:])
    assert compare(tmp_path) == 0
    out = capsys.readouterr().out
    assert all(f"{path[i]}: damaged" in out for i in (0, 1, 2, 3, 5))
    assert len(re.findall(rf"^\[\d+/{TOTAL}\]", out, re.MULTILINE)) == 5  # what depended on them is there still
    assert results(store) == results(done / "store")


def test_an_interrupted_comparison_keeps_what_is_done_and_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = progress.Progress.finished

    def interrupt(self: progress.Progress, comparison: Comparison, finished: protocol.Trial) -> None:
        shown(self, comparison, finished)
        if len(comparison.trials) == 9:
            raise KeyboardInterrupt

    assert compare(tmp_path, store="whole", content=SURFACES) == 0
    with monkeypatch.context() as patch:
        patch.setattr(progress.Progress, "finished", interrupt)
        assert compare(tmp_path) == 130
    out = capsys.readouterr().out
    assert "interrupted" in out and "Unfinished: " in out
    page = (tmp_path / "reports/tiny/index.html").read_text()
    assert "Unfinished: " in page
    kept = len(results(tmp_path / "store"))
    assert 9 <= kept < TOTAL
    assert compare(tmp_path) == 0
    assert f"{kept} of them done already" in capsys.readouterr().out
    assert results(tmp_path / "store") == results(tmp_path / "whole")
    assert "Unfinished" not in (tmp_path / "reports/tiny/index.html").read_text()


@pytest.mark.parametrize("executor", ["serial", "processes"])
def test_ctrl_c_while_a_finished_trial_is_handed_over_does_not_lose_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], executor: str
) -> None:
    load, pressed = Store.load, []

    def press(self: Store, key: str) -> object:
        if not pressed and self.path(key).exists():
            pressed.append(key)
            signal.raise_signal(signal.SIGINT)
        return load(self, key)

    monkeypatch.setattr(Store, "load", press)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert compare(tmp_path, "--executor", executor) == 130
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    (reported,) = map(int, re.findall(rf"(\d+) of {TOTAL} trials, \d+ s", capsys.readouterr().out))
    assert pressed[0] in results(tmp_path / "store")
    assert 1 <= reported <= len(results(tmp_path / "store")) <= reported + 2


@pytest.mark.skipif(sys.platform == "win32", reason="sends a POSIX signal to a process group")
def test_ctrl_c_on_the_command_exits_with_130(tmp_path: Path) -> None:
    (tmp_path / "long.yaml").write_text("workloads: [quadratic]\noptimizers: [adam]\nsteps: 2000\nseeds: 200\n")
    command = [sys.executable, "-m", "hammer.lab", "compare", "long.yaml", "--jobs", "2"]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 60
    while not Store(tmp_path / "runs").all_keys() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # as the terminal does: to the command and its workers
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err == ""
    assert "interrupted: writing a report" in out
    kept = len(results(tmp_path / "runs"))
    (reported,) = map(int, re.findall(r"(\d+) of 616 trials, \d+ s", out))
    assert 1 <= reported <= kept <= reported + 2  # what two workers finished at that moment is kept, if not reported
    assert not list(tmp_path.glob("runs/.*.npz.*"))  # no temporary file is left behind
    assert (tmp_path / "reports/long/index.html").exists()


def test_workers_leave_ctrl_c_to_the_command() -> None:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, executors._start_process, (context.Event(), Path("store"), {})) as pool:
        assert pool.submit(signal.getsignal, signal.SIGINT).result(timeout=60) == signal.SIG_IGN


def test_a_diverging_trial_is_a_row() -> None:
    spec = TrialSpec("rosenbrock", "momentum", {"lr": 1.0}, 0, 0, 50, 5, "float64")
    outcome, arrays = trial.run(spec)
    assert outcome["status"] == "diverged" and 0 < outcome["diverged_at"] == outcome["steps"] < 50
    assert np.isinf(arrays["loss"][-1]) and np.isinf(arrays["train_loss"][-1]) and np.isnan(arrays["metric"][-1])
    assert np.isfinite(arrays["train_loss"][: outcome["diverged_at"]]).all()
    assert np.isfinite(arrays["loss"][0]) and (np.diff(arrays["seconds"]) >= 0).all()


def test_a_trial_is_a_function_of_its_spec() -> None:
    spec = TrialSpec("quadratic", "vortex_adamw", {"lr": 0.01}, 0, 0, 15, 4, "float64")
    (first, arrays), (second, again) = trial.run(spec), trial.run(spec)
    assert first["bits"] == second["bits"]
    assert trial._bits([a for name, a in arrays.items() if name not in TIMES]) != first["bits"]  # parameters count too
    assert arrays["eval_step"].tolist() == [0, 4, 8, 12, 15]
    assert all((arrays[name] == again[name]).all() for name in arrays if name not in TIMES)
    assert trial.run(TrialSpec(**{**spec.__dict__, "index": 1}))[0]["bits"] != first["bits"]
    with pytest.raises(trial.Stopped):
        trial.run(spec, stopped=lambda: True)


def test_training_lowers_the_loss_that_is_judged() -> None:
    for problem in ("digits_logistic", "mnist_cnn", "digits_mlp", "diabetes_mlp"):
        _, arrays = trial.run(TrialSpec(problem, "adam", {"lr": 0.005}, 0, 0, 30, 10, "float32"))
        assert arrays["loss"][-1] < 0.8 * arrays["loss"][0]
        assert arrays["metric"][-1] > arrays["metric"][0]


class Deadly(float):
    """A number that ends the process which unpickles it."""

    def __reduce__(self) -> tuple:
        return os._exit, (1,)


def test_trials_that_raise_or_kill_their_process_are_rows(tmp_path: Path) -> None:
    good = TrialSpec("quadratic", "adam", {"lr": 0.1}, 0, 0, 5, 5, "float64")
    raising = TrialSpec("quadratic", "adam", {"bogus": 1.0}, 0, 0, 5, 5, "float64")
    deadly = TrialSpec("quadratic", "adam", {"lr": Deadly(0.1)}, 0, 0, 5, 5, "float64")
    workers = executors.Processes(2, tmp_path, describe())
    records: dict[str, dict] = {}
    for key, spec in (("a", good), ("b", raising), ("c", deadly), ("d", good)):
        workers.submit(key, spec)
    workers.run(lambda record: records.update({record["key"]: record}))
    assert {key: record["status"] for key, record in records.items()} == {
        "a": "finished",
        "b": "error",
        "c": "error",
        "d": "finished",
    }
    assert "bogus" in records["b"]["error"] and "Traceback" in records["b"]["traceback"]
    assert "process died" in records["c"]["error"]
    assert records["a"]["environment"]["blas"][0]["threads"] == 1
    assert Store(tmp_path).load("b") is None and Store(tmp_path).load("a") is not None


def test_a_comparison_with_errors_finishes_with_exit_code_1(
    done: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def spoil(self: Comparison, workers: executors.Serial, finished: Any) -> None:
        for key, found in list(self.trials.items()):
            if found.record["spec"]["optimizer"] == "momentum" and found.record["spec"]["problem"] == "quadratic":
                self.trials[key] = protocol.Trial(
                    {**found.record, "status": "error", "error": "ValueError: <spoiled>"}, {}
                )

    monkeypatch.setattr(Comparison, "run", spoil)
    assert compare(done, "--name", "spoiled") == 1
    page = (done / "reports/spoiled/index.html").read_text()
    assert "ValueError: &lt;spoiled&gt;" in page and "<spoiled>" not in page
    summary = json.loads((done / "reports/spoiled/results.json").read_text())
    row = next(row for row in summary["ranking"] if row["optimizer"] == "momentum")
    assert row["failed"] == 2 and row["runs"] == 4  # counted, not dropped
    assert len(summary["errors"]) == 8  # two tuning, two scoring, and two of each control


class _Page(html.parser.HTMLParser):
    """Collects what a page refers to, and checks that its elements are closed in order."""

    VOID = ("meta", "link", "br", "circle", "path", "rect")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.references: list[str] = []
        self.headings: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.references += [
            value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "action", "data")
        ]
        if tag not in self.VOID or tag == "circle" or tag == "path":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("h1", "h2"):
            self.headings.append(data)


def test_the_page_has_all_parts_and_needs_nothing_from_outside(done: Path) -> None:
    text = (done / "reports/tiny/index.html").read_text()
    page = _Page()
    page.feed(text)
    assert page.open == []
    assert page.headings == [
        "tiny",
        "Ranking",
        "Pairs",
        "Performance profile",
        "Loss curves",
        "Time to target",
        "What a run costs",
        "Tuning",
        "Failed trials",
        "Workloads",
        "Make it again",
    ]
    assert page.references == ["data:,"]
    assert not re.search(r"https?:|url\(|@import|//[a-z]", text)
    assert "prefers-color-scheme:dark" in text and 'name="viewport"' in text and "@media print" in text
    for part in (
        "Not enough seeds",
        "Controls were run, but 2 seeds are too few to judge them.",
        "not enough seeds: about ",
        "Tuning budget",
        "SGD with momentum",
        "VortexGrad + AdamW",
        "Logistic regression, digits",
        "interquartile mean",
    ):
        assert part in text
    assert (done / "reports/tiny/config.yaml").read_text() in text.replace("&#x27;", "'")
    assert text.count("<figure>") == 6 and text.index("Not enough seeds") < text.index("<table>")
    assert len(text) < 5_000_000


def test_the_picture_stands_alone(done: Path) -> None:
    text = (done / "reports/tiny/report.svg").read_text()
    root = xml.etree.ElementTree.fromstring(text)
    assert root.tag.endswith("svg")
    assert "Ill-conditioned quadratic" in text and "VortexGrad + AdamW" in text
    assert not re.search(r"https?:(?!//www\.w3\.org/2000/svg)|url\(|@import", text)


def test_costs_stand_in_every_form_of_the_tables(done: Path) -> None:
    """Until the target and in all: Markdown, LaTeX, CSV and the page say the same of a run."""
    folder = done / "reports/tiny"
    markdown, latex, page = ((folder / name).read_text() for name in ("summary.md", "tables.tex", "index.html"))
    result = json.loads((folder / "results.json").read_text())
    energy = next(name for name in ("joules", "joules_estimate") if name in result["cells"][0]["to_target"])
    label = {"joules": "Joules", "joules_estimate": "Joules, estimated"}[energy]
    head = ["Hit", "Steps", "Processor seconds", "FLOPs", label, "Final loss"]
    assert f"| {' | '.join(head)} |" in markdown and " & ".join(head) in latex
    shown = "".join(f'<th scope="col"><button>{name}</button></th>' for name in head)
    assert shown in page
    for text in (markdown, latex.replace("}", ""), page):
        assert "Nothing was sent by MPI" in text
        assert ("Joules were not measured" in text) == (energy == "joules_estimate")
        assert all(name in text for name in ("Peak memory", "FLOPs of a step", "Optimizer state"))
    tables = [
        list(csv.DictReader(io.StringIO((folder / f"{n}.csv").read_text()))) for n in ("targets", "costs", "trials")
    ]
    for cell, to_target, costs in zip(result["cells"], *tables[:2], strict=True):
        runs = [
            r
            for r in tables[2]
            if (r["workload"], r["optimizer"], r["phase"]) == (cell["workload"], cell["optimizer"], "scoring")
        ]
        size = {"quadratic": 32 * 8, "digits_logistic": 650 * 4}[cell["workload"]]
        assert float(costs["state_bytes"]) == size * {"momentum": 1, "vortex_adamw": 6}[cell["optimizer"]]
        peak = np.median([float(run["peak_bytes"]) for run in runs])
        assert float(costs["peak_bytes"]) == cell["costs"]["peak_bytes"]["value"] == peak > 1e6
        assert costs["mpi_bytes"] == "0.0" and float(costs["flops_per_step"]) == float(runs[0]["flops"]) / 20
        hits = [float(run["steps_to_target"]) for run in runs]
        assert float(to_target["steps"]) == np.median(hits)
        assert (
            (float(to_target["flops"]) < np.inf) == (float(to_target["cpu_seconds"]) < np.inf) == (max(hits) < np.inf)
        )


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (1.2345e9, "1.23 GB"),
        (999.9e3, "1 MB"),
        (0.0, "0 B"),
        (3.2e-7, "320 nB"),
        (math.inf, "∞"),
        (math.nan, "–"),
        (5.0, "5 B"),
    ],
)
def test_amounts_in_words(value: float, said: str) -> None:
    assert amount(value, "B") == said


def test_summary_tables_and_raw_data_agree(done: Path) -> None:
    folder = done / "reports/tiny"
    result = json.loads((folder / "results.json").read_text())
    rows = list(csv.DictReader(io.StringIO((folder / "trials.csv").read_text())))
    assert len(rows) == TOTAL and result["done"] == result["total"] == TOTAL
    assert {row["phase"] for row in rows} == {"tuning", "scoring", "control", "handicap"}
    with np.load(folder / "curves.npz", allow_pickle=False) as data:
        for workload in ("quadratic", "digits_logistic"):
            of = [row for row in rows if row["workload"] == workload]
            assert data[f"{workload}.key"].tolist() == [row["key"] for row in of]
            assert data[f"{workload}.train_loss"].shape == (len(of), 20)
            assert data[f"{workload}.loss"][:, -1].tolist() == [float(row["final_loss"]) for row in of]
            target = result["targets"][workload]["loss"]
            reached = (data[f"{workload}.loss"] <= target).any(axis=1)
            assert reached.tolist() == [np.isfinite(float(row["steps_to_target"])) for row in of]
            for cell in (c for c in result["cells"] if c["workload"] == workload):
                mine = [
                    ok
                    for ok, row in zip(reached, of, strict=True)
                    if row["optimizer"] == cell["optimizer"] and row["phase"] == "scoring"
                ]
                assert (cell["hits"], cell["runs"]) == (sum(mine), 2)
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["libraries"]["numpy"] == np.__version__ and environment["blas"] and environment["cpu"]
    markdown = (folder / "summary.md").read_text()
    assert result["verdict"] in markdown and "hammer compare" in markdown and "| SGD with momentum |" in markdown
    assert config.load(folder / "config.yaml").seeds == 2


def test_equal_results_give_an_equal_summary(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (done / "reports/tiny/results.json").read_bytes()
    assert compare(done, "--name", "again") == 0
    assert (done / "reports/again/results.json").read_bytes() == before
    assert "again: speed to the targets" in capsys.readouterr().out
