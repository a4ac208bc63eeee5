"""`hammer check autograd`: rows in worker processes, what a wrong rule leads to, and the report."""

import html.parser
import json
from pathlib import Path

import pytest

from autograd import OPS, ops
from autograd.testing.rows import CHECKS
from hammer.lab.checks import command, report, show, table
from hammer.lab.checks.table import RowOutcome, check_one
from hammer.lab.cli import main
from hammer.lab.environment import describe


def test_rows_are_checked_and_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--rows", "exp,equal", "--examples", "3", "--jobs", "1", "--out", str(tmp_path), "--name", "two"]
    assert main(["check", "autograd", *options]) == 0
    out = capsys.readouterr().out
    assert "[2/2] equal: 3 calls" in out and "2 rows, 6 drawn calls: no check failed; 2 with every check" in out
    found = json.loads((tmp_path / "two" / "results.json").read_text())
    assert (found["rows"], found["complete"], found["failed"], found["examples"]) == (2, 2, 0, 3)
    exp, equal = found["results"]
    assert exp["row"] == "exp" and set(exp["ran"]) == set(CHECKS) and exp["ran"]["derivatives"] == 3
    assert equal["exempt"]["derivatives"] == "it has no derivative"
    summary = (tmp_path / "two" / "summary.md").read_text()
    assert "hammer check autograd --examples 3 --rows exp,equal" in summary and "it has no derivative" in summary
    page = (tmp_path / "two" / "index.html").read_text()
    assert page.count("<tr>") > len(CHECKS) and 'title="it has no derivative"' in page and "http" not in page
    html.parser.HTMLParser().feed(page)


def test_a_wrong_rule_fails_with_a_small_call_and_a_test_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    row = OPS["sinh"]
    monkeypatch.setattr(row, "vjps", (lambda g, _out, x: g * ops.cosh(x) * 1.001,))
    monkeypatch.setattr(row, "_keeps", {})
    found = check_one("sinh", 5)
    assert found.failed == "derivatives" and not found.complete and "sinh(" in found.message
    with pytest.raises(AssertionError, match="wrong derivative"):
        _run(found.test)
    monkeypatch.undo()
    _run(found.test)


def _run(test: str) -> None:
    """Run a pasted test."""
    names: dict = {}
    exec(test, names)
    next(f for name, f in names.items() if name.startswith("test_"))()


@pytest.mark.parametrize("name", ["concat", "where", "getitem", "einsum", "conv"])
def test_pasted_tests_of_all_kinds_of_rows_run(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from autograd.testing.rows import RowCheck

    def fail(self: RowCheck, call: object) -> bool:
        raise AssertionError("pretended")

    monkeypatch.setattr(RowCheck, "derivatives", fail)
    found = check_one(name, 3)
    assert found.failed == "derivatives" and "pretended" in found.message
    monkeypatch.undo()
    _run(found.test)


def test_a_rule_that_crashes_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(g, _out, x):
        raise ZeroDivisionError("in a rule")

    monkeypatch.setattr(OPS["sinh"], "vjps", (crash,))
    found = check_one("sinh", 3)
    assert found.failed and "in a rule" in found.message


def test_failures_are_shown_and_make_exit_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = RowOutcome("exp", 1, {"cost": 1}, {}, 0.1, "derivatives", "row 'exp': not true <&>", "def test_it(): ...\n")

    def rows(rows, examples, jobs, done):
        done(bad)
        done(RowOutcome("sin", 2, dict.fromkeys(CHECKS, 2), {}, 0.1))

    monkeypatch.setattr(table, "check_rows", rows)
    assert main(["check", "autograd", "--rows", "exp,sin", "--out", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert "exp: FAILED: derivatives" in out and "row 'exp': not true <&>" in out and "def test_it" in out
    assert "1 row failed: exp." in out
    page = (tmp_path / "check" / "index.html").read_text()
    assert "not true &lt;&amp;&gt;" in page and ">failed</td>" in page
    assert "def test_it" in (tmp_path / "check" / "summary.md").read_text()


def test_an_interruption_keeps_what_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def rows(rows, examples, jobs, done):
        done(RowOutcome("exp", 2, dict.fromkeys(CHECKS, 2), {}, 0.1))
        raise KeyboardInterrupt

    monkeypatch.setattr(table, "check_rows", rows)
    assert main(["check", "autograd", "--out", str(tmp_path)]) == 130
    assert f"Interrupted after 1 of {len(OPS)} rows" in capsys.readouterr().out
    assert json.loads((tmp_path / "check" / "results.json").read_text())["rows"] == 1


def test_a_check_that_was_not_made_is_not_complete() -> None:
    ran = dict.fromkeys(CHECKS, 2) | {"batching": 0}
    assert not RowOutcome("exp", 2, ran).complete
    assert RowOutcome("exp", 2, ran, {"batching": "no rule"}).complete
    run = report.Run([RowOutcome("exp", 2, ran)], 1, 2, 1, 0.1, describe(), "hammer check autograd")
    assert run.complete == 0 and "0 with every check made" in run.verdict


def test_a_dying_worker_costs_only_its_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = (
        "import os\n"
        "from hammer.lab.checks import table\n"
        "def dying(name, examples):\n"
        "    if name == 'sin': os._exit(3)\n"
        "    return table.RowOutcome(name, 1)\n"
    )
    (tmp_path / "dying_worker.py").write_text(script)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    import dying_worker

    monkeypatch.setattr(table, "check_one", dying_worker.dying)
    found: dict[str, RowOutcome] = {}
    table.check_rows(["exp", "sin", "cos"], 1, 2, lambda o: found.update({o.row: o}))
    assert set(found) == {"exp", "sin", "cos"}
    assert "process died" in found["sin"].message and not found["exp"].failed and not found["cos"].failed


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--rows", "matmull"], "unknown row 'matmull'; did you mean 'matmul'?"),
        (["--jobs", "0"], "--jobs: must be a whole number of at least 1"),
        (["--seed", "3"], "--seed: is for a function, MODULE:FUNCTION"),
    ],
)
def test_bad_input(options: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "autograd", *options]) == 2
    assert said in capsys.readouterr().err


def test_a_live_table_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console

    monkeypatch.setattr(show, "console", lambda: Console(force_terminal=True, width=100))
    with show.LiveTable(2, 3, 1) as live:
        live.add(RowOutcome("exp", 3, dict.fromkeys(CHECKS, 3)))
    assert "derivatives" in capsys.readouterr().out and command.ONLY_TABLE
