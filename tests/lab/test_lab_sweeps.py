"""A finished comparison is recognised, the store's index, estimates, reports written again and merged, the live page."""

import argparse
import contextlib
import http.client
import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from hammer.lab import config, current, environment, index, plan, reports, sweep, watch
from hammer.lab.cli import main
from hammer.lab.comparison import Comparison
from hammer.lab.index import Index
from hammer.lab.plan import Plan
from hammer.lab.store import Store

CONFIG = """
workloads: [quadratic, rosenbrock]
optimizers: [momentum, adam]
trials: 2
tuning_seeds: 1
seeds: 2
steps: 30
targets: derived
resamples: 100
"""
TOTAL = 2 * 2 * (2 + 2) + 2 * 2 * 2


def compare(folder: Path, *options: str, name: str = "small", content: str = CONFIG) -> int:
    (folder / f"{name}.yaml").write_text(content)
    where = ["--out", str(folder / "reports"), "--store", str(folder / "runs"), "--executor", "serial"]
    return main(["compare", str(folder / f"{name}.yaml"), *where, *options])


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished comparison, and another of one optimizer more on the same problems."""
    folder = tmp_path_factory.mktemp("done")
    assert compare(folder) == 0
    assert compare(folder, name="more", content=CONFIG.replace("momentum, adam", "vortex, sgd")) == 0
    return folder


@pytest.fixture
def copy(done: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may change."""
    return Path(shutil.copytree(done, tmp_path / "copy"))


# ---- a finished comparison ----


def ran_anew(folder: Path, monkeypatch: pytest.MonkeyPatch, *options: str) -> bool:
    """Whether a comparison was computed anew instead of being recognised as finished."""
    seen = []

    def summarise(comparison: Comparison) -> Any:
        seen.append(comparison)
        return whole(comparison)

    from hammer.lab import analysis

    whole = analysis.summarise
    with monkeypatch.context() as patch:
        patch.setattr(analysis, "summarise", summarise)
        assert compare(folder, *options) == 0
    return bool(seen)


def test_a_finished_comparison_is_recognised_and_says_the_same(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ran_anew(copy, monkeypatch)  # in another folder, so the command that the report states is another one
    first = capsys.readouterr().out.splitlines()
    assert not ran_anew(copy, monkeypatch)
    again = capsys.readouterr().out.splitlines()
    assert f"{TOTAL} trials, {TOTAL} of them done already" in again[1]
    assert again[2:-1] == [line for line in first[2:-1] if not line.startswith("[")]  # ranking, verdict, controls
    assert not (copy / "runs" / index.FILE).exists() or again[-1].startswith(f"{TOTAL} of {TOTAL} trials")


@pytest.mark.parametrize(
    "what", ["trial damaged", "trial gone", "page edited", "file gone", "note damaged", "config", "source", "own"]
)
def test_a_report_that_is_not_current_is_made_anew(what: str, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compare(copy)
    assert not ran_anew(copy, monkeypatch)
    report = copy / "reports/small"
    trial = Store(copy / "runs").path(json.loads((report / current.FILE).read_text())["trials"].popitem()[0])
    options = []
    if what == "trial damaged":
        content = bytearray(trial.read_bytes())
        content[100] ^= 1
        trial.write_bytes(content)
    elif what == "trial gone":
        trial.unlink()
    elif what == "page edited":
        (report / "index.html").write_text("edited")
    elif what == "file gone":
        (report / "pairs.csv").unlink()
    elif what == "note damaged":
        (report / current.FILE).write_text('{"trials": []}')
    elif what == "config":
        options = ["--seeds", "1"]
    elif what == "source":
        monkeypatch.setattr(current, "_hashes", lambda files: [[str(f), ""] for f in files])
    elif what == "own":
        (copy / "lab/optimizers").mkdir(parents=True)
        options = ["--from", str(copy / "lab")]
    assert ran_anew(copy, monkeypatch, *options)


def test_every_source_file_and_the_arithmetic_count(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    chosen, hashed = config.shipped("smoke"), []
    before = current.inputs(chosen, "command")
    assert current.inputs(chosen, "command") == before != current.inputs(chosen, "other command")
    monkeypatch.setattr(current, "_hashes", lambda files: hashed.extend(str(f) for f in files) or [])
    current.inputs(chosen, "command")
    for name in (
        "autograd/tape.py",
        "hammer/lab/stats/robust.py",
        "hammer/lab/report/html.py",
        "hammer/lab/data/sonnets.txt",
    ):
        assert any(file.endswith(name) for file in hashed)
    monkeypatch.undo()
    monkeypatch.setattr(environment, "arithmetic", lambda: {"canary": "another"})
    assert current.inputs(chosen, "command") != before


def test_hashes_of_code_are_looked_up_by_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, kept = tmp_path / "a.py", tmp_path / "code.json"
    source.write_text("x = 1")
    monkeypatch.setattr(environment, "_hashes", {})
    with environment.code_hashes(kept):
        one = environment._code.__wrapped__(source)
    assert json.loads(kept.read_text()).popitem()[1] == one.hex()
    monkeypatch.setattr(environment, "_hashes", {})
    with environment.code_hashes(kept), monkeypatch.context() as patch:
        patch.setattr(environment.ast, "parse", lambda _: pytest.fail("it was parsed again"))
        assert environment._code.__wrapped__(source) == one
    source.write_text("x = 2")
    with environment.code_hashes(kept):
        assert environment._code.__wrapped__(source) != one
    for damaged in ("", "[]", '{"a": 1}', '{"a": "xyz"}'):
        kept.write_text(damaged)
        with environment.code_hashes(kept):
            source.write_text("x = 1  # a comment does not count")
            assert environment._code.__wrapped__(source) == one


# ---- the index ----


def test_the_index_follows_the_files(copy: Path) -> None:
    store = Store(copy / "runs")
    keys = store.all_keys()
    (store.folder / index.FILE).unlink(missing_ok=True)
    rows = Index(store).rows()
    assert [row.key for row in rows] == keys
    record = store.record(keys[0])
    assert record is not None
    assert (rows[0].problem, rows[0].number, rows[0].done) == (
        record["spec"]["problem"],
        record["spec"]["index"],
        record["steps"],
    )
    assert rows[0].seconds == record["elapsed_seconds"]
    store.path(keys[0]).unlink()
    store.path(keys[1]).write_bytes(b"nonsense")
    assert [row.key for row in Index(store).rows()] == keys[2:]
    assert store.complaints == []


@pytest.mark.parametrize("how", ["missing", "empty", "nonsense", "cut", "old", "other table", "folder"])
def test_an_index_that_cannot_be_used_is_made_again(how: str, copy: Path) -> None:
    store = Store(copy / "runs")
    rows, path = Index(store).rows(), copy / "runs" / index.FILE
    content = path.read_bytes()
    path.unlink()
    if how == "folder":
        path.mkdir()  # it can be neither read nor removed: the table is made in memory
    elif how in ("old", "other table"):
        connection = sqlite3.connect(path)
        connection.execute("CREATE TABLE trials (key TEXT)" if how == "old" else "CREATE TABLE others (x TEXT)")
        connection.execute("PRAGMA user_version = 7")
        connection.close()
    elif how != "missing":
        path.write_bytes({"empty": b"", "nonsense": b"nonsense" * 1000, "cut": content[: len(content) // 2]}[how])
    assert Index(store).rows() == rows
    if how != "folder":
        with contextlib.closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA user_version").fetchone() == (index.VERSION,)
            assert connection.execute("SELECT count(*) FROM trials").fetchone() == (len(rows),)


def test_an_index_that_is_up_to_date_reads_no_trial(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(copy / "runs")
    rows = Index(store).rows()
    monkeypatch.setattr(Store, "record", lambda *_: pytest.fail("a trial was read"))
    assert Index(store).rows() == rows


# ---- the plan ----


def test_times_are_estimated_from_similar_trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        index.Indexed(str(i), problem, optimizer, 0, 30, dtype, "finished", 10, seconds)
        for i, (problem, optimizer, dtype, seconds) in enumerate(
            [("quadratic", "adam", "float64", 1.0), ("quadratic", "adam", "float64", 3.0), ("quadratic", "adam", "float64", 2.0),
             ("quadratic", "adam", "float32", 99.0), ("rosenbrock", "sgd", "float64", 5.0)]
        )
    ]  # fmt: skip
    monkeypatch.setattr(Index, "rows", lambda _: rows)
    chosen = config.parse(CONFIG + "control: false\ndtype: float64\n", "test", "test")
    # quadratic adam: the median, 0.2 s a step; quadratic momentum: of the other optimizer; rosenbrock: sgd's 0.5 s
    each = 2 + 2  # trials of a pair
    wanted = each * 30 * (0.2 + 0.2 + 0.5 + 0.5)
    made = Plan(Comparison(chosen, Store(tmp_path)), 2)
    assert made.seconds() == (pytest.approx(wanted / 2), [], False)
    assert made.said() == f"about {round(wanted / 2 + plan.AROUND)} s"
    monkeypatch.setattr(Index, "rows", lambda _: rows[:3])
    monkeypatch.setattr(plan, "_reference", dict)
    seconds, unknown, _ = Plan(Comparison(chosen, Store(tmp_path)), 1).seconds()
    assert (seconds, unknown) == (pytest.approx(each * 30 * 0.4), ["rosenbrock"])
    assert "unknown time for rosenbrock" in Plan(Comparison(chosen, Store(tmp_path)), 1).said()
    monkeypatch.setattr(Index, "rows", lambda _: [])
    assert Plan(Comparison(chosen, Store(tmp_path)), 1).said() == "unknown: quadratic, rosenbrock never ran here"
    monkeypatch.undo()
    assert "reference machine" in Plan(Comparison(chosen, Store(tmp_path)), 1).said()


def test_every_shipped_problem_has_a_reference_time() -> None:
    from hammer.lab import problems

    assert set(plan._reference()) == {*problems._built_in()} and min(plan._reference().values()) > 0


def test_durations() -> None:
    assert [plan.duration(s) for s in (0.2, 20.4, 99, 100, 3600, 5999, 6000, 7800)] == [
        "1 s", "20 s", "99 s", "2 min", "60 min", "1 h 40 min", "1 h 40 min", "2 h 10 min"
    ]  # fmt: skip


def test_a_dry_run_says_what_is_left(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(p.name for p in (done / "reports").iterdir())
    assert compare(done, "--seeds", "4", "--dry-run", "--name", "never") == 0
    said = capsys.readouterr().out
    total = 2 * 2 * (2 + 4) + 2 * 2 * 4
    assert f"{total} trials, {TOTAL} of them done already" in said and "estimated time: about 8 s" in said
    assert sorted(p.name for p in (done / "reports").iterdir()) == before


# ---- what is compared ----


def dry(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert main([*argv, "--dry-run", "--store", "nowhere", "--out", "nowhere"]) == 0
    return capsys.readouterr().out.splitlines()[0]


def test_suites_name_problems(capsys: pytest.CaptureFixture[str]) -> None:
    light = len(config.shipped("light").workloads)
    said = dry(capsys, "compare", "vortex", "adam", "sgd", "--problems", "light", "--trials", "16", "--seeds", "10")
    assert (
        said
        == f"vortex-adam-sgd-on-light: 3 optimizers on {light} workloads, 16 settings × 2 tuning seeds, then 10 scoring seeds"
    )
    assert dry(capsys, "bench", "--suite", "light") == dry(capsys, "compare", "light")
    assert dry(capsys, "bench", "--suite", "light", "adam").startswith(f"light-adam: 1 optimizer on {light} workloads")
    assert dry(capsys, "compare", "--problems", "quadratic,rosenbrock").startswith("quick-on-quadratic-rosenbrock: 4 ")
    assert dry(capsys, "compare", "--workloads", "quadratic", "--name", "mine").startswith(
        "mine: 4 optimizers on 1 workload"
    )


def test_help_and_wrong_options_import_nothing_heavy() -> None:
    for argv, code, said in ((["--help"], 0, "compare"), (["compare", "--help"], 0, "--problems"), (["compare", "--trails"], 2, "--trials"),
                             (["comparr"], 2, "did you mean 'compare'"), (["bench", "--suite", "lite"], 2, "light")):  # fmt: skip
        script = f"""
import sys
from hammer.lab.cli import main
try:
    code = main({argv!r})
except SystemExit as stop:
    code = stop.code
print(code, sorted({{"numpy", "autograd", "scipy", "rich"}} & set(sys.modules)))
"""
        run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
        assert run.stdout.endswith(f"{code} []\n") and said in run.stdout + run.stderr


# ---- reports written again, and merged ----


def report(folder: Path, *argv: str) -> int:
    return main(["report", *argv, "--store", str(folder / "runs")])


def test_a_report_is_written_again_from_what_it_holds(copy: Path) -> None:
    folder = copy / "reports/small"
    before = {
        name: (folder / name).read_bytes()
        for name in ("results.json", "trials.csv", "curves.npz", "canary.npz", "tables.tex")
    }
    page = (folder / "index.html").read_text()
    for name in ("index.html", "summary.md", "tables.tex"):
        (folder / name).unlink()
    shutil.rmtree(copy / "runs")  # the store may be gone
    assert report(copy, str(folder)) == 0
    assert {name: (folder / name).read_bytes() for name in before} == before
    assert "SGD with momentum" in page and "SGD with momentum" in (folder / "index.html").read_text()
    assert json.loads((folder / "environment.json").read_text())["of"] == [str(folder)]


def test_an_archive_is_written_again(copy: Path) -> None:
    archive = copy / "small.zip"
    assert main(["export", str(copy / "reports/small"), "--store", str(copy / "runs"), "--out", str(archive)]) == 0
    assert report(copy, str(archive), "--out", str(copy / "elsewhere")) == 0
    one, two = ((copy / where / "small/results.json").read_bytes() for where in ("reports", "elsewhere"))
    assert one == two


def test_runs_are_merged_as_if_they_had_been_one(copy: Path) -> None:
    small, more = (str(copy / "reports" / name) for name in ("small", "more"))
    assert report(copy, small, more, "--out", str(copy / "merged")) == 0
    whole = CONFIG.replace("momentum, adam", "momentum, adam, vortex, sgd")
    assert compare(copy, name="whole", content=whole) == 0
    merged = json.loads((copy / "merged/small-and-more/results.json").read_text())
    assert merged == json.loads((copy / "reports/whole/results.json").read_text())
    assert merged["done"] == merged["total"] == TOTAL + 2 * 2 * (2 + 2)  # one pair of controls
    kept = config.load(copy / "merged/small-and-more/config.yaml")
    assert kept.optimizers == ("momentum", "adam", "vortex", "sgd") and kept.name == "small-and-more"


@pytest.mark.parametrize(
    "change, said",
    [
        ("seeds: 2>seeds: 1", "different rules: seeds 2 and 1"),
        ("steps: 30>steps: 20", "different rules: steps 30 and 20"),
        ("resamples: 100>resamples: 100\ndtype: float32", "different rules: dtype None and float32"),
        ("momentum, adam>adam", None),
        ("quadratic, rosenbrock>quadratic", "none of the runs has vortex on rosenbrock"),
    ],
)
def test_runs_that_cannot_be_merged_are_refused(
    change: str, said: str | None, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = change.split(">")
    content = CONFIG.replace("momentum, adam", "vortex") if said else CONFIG
    assert compare(copy, name="other", content=content.replace(old, new)) == 0
    code = report(copy, *(str(copy / "reports" / name) for name in ("small", "other")), "--out", str(copy / "merged"))
    assert code == (2 if said else 0)
    assert (said or "") in capsys.readouterr().err
    assert (copy / "merged").exists() == (said is None)


def test_runs_of_other_code_and_arithmetic_are_refused(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small, more = (copy / "reports" / name for name in ("small", "more"))
    lines = (more / "trials.csv").read_text()
    code = next(iter(reports._finished(*reports.report_files(str(more)), Store(copy / "none")).code["quadratic"]))
    (more / "trials.csv").write_text(lines.replace(code, "0" * 16))
    assert report(copy, str(small), str(more)) == 2
    assert "the trials on quadratic ran different code" in capsys.readouterr().err
    (more / "trials.csv").write_text(lines)
    made = (more / "environment.json").read_text()
    (more / "environment.json").write_text(json.dumps({**json.loads(made), "canary": "0123"}))
    assert report(copy, str(small), str(more)) == 2
    assert "different arithmetic" in capsys.readouterr().err
    (more / "environment.json").write_text(made)
    (more / "config.yaml").write_text((more / "config.yaml").read_text().replace("trials: 2", "trials: 1"))
    assert report(copy, str(more)) == 2
    assert "are not what the config asks for now" in capsys.readouterr().err
    assert report(copy, str(small), str(small)) == 2
    assert "given twice" in capsys.readouterr().err
    assert report(copy, str(copy / "runs")) == 2
    assert "not a report's folder" in capsys.readouterr().err


# ---- the live page ----


def get(port: int, path: str = "/", host: str = "127.0.0.1") -> tuple[int, str, str | None]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", path, headers={"Host": host})
    answer = connection.getresponse()
    return answer.status, answer.read().decode(), answer.getheader("Refresh")


def test_the_live_page_shows_a_sweep(copy: Path) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in (copy / "runs").iterdir()}
    server = watch.serve(Store(copy / "runs"))
    assert server.server_address[0] == "127.0.0.1"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        port = server.server_port
        status, page, refresh = get(port)
        assert status == 200 and refresh is not None and f"{TOTAL} of {TOTAL}" in page and "finished" in page
        path = sweep.path(copy / "runs", "small")
        state = json.loads(path.read_text())
        failure = {"problem": "quadratic", "optimizer": "adam", "hyper": {"lr": 0.1}, "why": "ValueError: <b>bad</b>"}
        state |= {
            "state": "running",
            "trials": state["trials"][:9],
            "failures": [failure],
            "seconds_left": 7200.0,
            "unknown": ["mine"],
        }
        path.write_text(json.dumps(state))
        status, page, refresh = get(port)
        assert refresh == "2" and f"9 of {TOTAL}" in page and "unknown for mine, else about 2 h 0 min" in page
        assert "ValueError: &lt;b&gt;bad&lt;/b&gt;" in page and "<b>bad" not in page
        assert page.count("<figure>") >= 1 and 'class="curve s0"' in page and "quadratic" in page
        assert "http:" not in page and "https:" not in page
        path.write_text(json.dumps({**state, "updated": state["updated"] - 600}))
        assert "silent for 10 min" in get(port)[1]
        assert get(port, "/etc/passwd")[0] == 404
        assert get(port, host="example.org")[0] == 403
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    after = {path.name: path.stat().st_mtime_ns for path in (copy / "runs").iterdir()}
    assert {name for name in after if after[name] != before.get(name)} == {"sweep-small.json"}  # it only reads


@pytest.mark.skipif(sys.platform == "win32", reason="sends a POSIX signal")
def test_ctrl_c_ends_the_live_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [sys.executable, "-m", "hammer.lab", "watch", "--store", str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    address = process.stdout.readline()
    assert "No sweep has run here yet" in get(int(address.split(":")[2].split("/")[0]))[1]
    process.send_signal(signal.SIGINT)
    said, err = process.communicate(timeout=20)
    assert (process.returncode, said, err) == (0, "ended\n", "")
    assert main(["watch", "--store", str(tmp_path / "none")]) == 2
    assert "there is no folder" in capsys.readouterr().err
    taken = watch.serve(Store(tmp_path))
    try:
        assert watch_fails(tmp_path, taken.server_port)
    finally:
        taken.server_close()


def watch_fails(store: Path, port: int) -> bool:
    with pytest.raises(watch.UsageError, match=f"cannot listen on port {port}"):
        watch.watch(argparse.Namespace(store=store, port=port))
    return True


def test_an_interrupted_sweep_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noted = []

    def note(self: sweep.Sweep) -> None:
        noted.append(self)
        if len(noted) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(sweep.Sweep, "note", note)
    assert compare(tmp_path) == 130
    (state,) = sweep.read(Store(tmp_path / "runs"))
    assert (state["state"], len(state["trials"]), state["total"]) == ("interrupted", 3, TOTAL)
    assert not (tmp_path / "reports/small" / current.FILE).exists()
