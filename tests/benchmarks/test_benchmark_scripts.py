"""The benchmark scripts: their helpers, their protocol with the workers, and the shape of their last line."""

import functools
import importlib.util
import json
import math
import multiprocessing
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module", autouse=True)
def on_path():
    sys.path.insert(0, str(BENCHMARKS))
    yield
    sys.path.remove(str(BENCHMARKS))


def last_line(capsys) -> dict:
    return json.loads(capsys.readouterr().out.strip().splitlines()[-1])


# ---- common ----


def test_table_aligns_and_marks_what_is_absent():
    import common

    lines = common.table(["op", "a"], [["x", 1234.5], ["longer", None], ["y", 0.01234]])
    assert lines == [
        "| op     |      a |",
        "|--------|-------:|",
        "| x      |  1,234 |",
        "| longer |      – |",
        "| y      | 0.0123 |",
    ]


def test_ratios_are_taken_within_rounds():
    import common

    there = {"a": [1.0, 10.0, 4.0], "b": [1.0, 5.0, 1.0]}
    assert common.ratio(there, "a", "b") == 2.0
    assert common.medians({"case": there}, 2.0) == {"case": {"a": 8.0, "b": 2.0}}


def test_interleaving_rotates_the_order_and_stops_at_the_deadline():
    import workers

    asked = []

    def worker(name):
        return SimpleNamespace(ask=lambda do, case: asked.append((name, case)) or len(asked))

    running = {"a": worker("a"), "b": worker("b")}
    seconds = workers.interleave(running, {"k": {"a": [], "b": []}}, rounds=3, deadline=time.monotonic() + 60)
    assert [name for name, _ in asked] == ["a", "b", "b", "a", "a", "b"]
    assert seconds == {"k": {"a": [1, 4, 5], "b": [2, 3, 6]}}
    late = workers.interleave(running, {"k": {"a": []}}, rounds=3, deadline=time.monotonic() - 1)
    assert late == {"k": {"a": [7]}}  # the first round goes past any deadline


def test_a_block_is_the_fastest_part_and_is_cut_short_when_it_takes_too_long(monkeypatch):
    import workers

    now, costs = [0.0], iter([1.0] * 3 + [100.0] + [2.0] * 2 + [1.0] * 2 + [3.0] * 4)
    monkeypatch.setattr(workers.time, "perf_counter", lambda: now[0])

    def run():
        now[0] += next(costs)
        return 1.0

    state = workers._State(lambda library, case: run, "ours")
    assert state.prepare("case", seconds=10.0, checks=1) == {"values": [1.0], "calls": 10}
    state.calls["case"] = 4
    assert state.time("case") == 1.0  # an untimed call of 100 seconds, then parts of one call: 2, 2, 1, 1
    assert workers._timed(run, 4, 5.0) == 3.0  # stops after two calls, at 6 seconds
    assert list(costs) == [3.0, 3.0]


def test_reports_are_written_whole_or_not_at_all(tmp_path, monkeypatch):
    import common

    target = tmp_path / "deep" / "report.md"
    common.write(target, "first\n")
    with monkeypatch.context() as m:
        m.setattr(common.os, "fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            common.write(target, "second\n")
    assert target.read_text() == "first\n"
    assert list(target.parent.iterdir()) == [target]


def test_a_peer_that_is_not_there_is_left_out_with_a_reason(monkeypatch, tmp_path):
    import common
    import overhead
    import workers

    monkeypatch.setattr(workers, "HIPS_HOME", tmp_path)
    monkeypatch.setitem(workers._MODULES, "torch", "no_such_module")
    options = common.parser(None, threads=1).parse_args(["--libraries", "torch,hips"])
    options.hips_python = None
    with workers.start(options, overhead.__file__) as (running, left_out):
        assert running == {}
    assert "not installed" in left_out["torch"]
    assert "--make-hips" in left_out["hips"]
    with pytest.raises(workers.Missing, match="not there"):
        workers.hips_python(str(tmp_path / "python"), make=False)
    lines = common.describe({}, left_out, 1)
    assert sum(line.startswith("Left out: ") for line in lines) == 2


def test_workers_answer_fail_and_end_as_they_should():
    import common
    import overhead
    import workers

    options = common.parser(None, threads=1).parse_args(["--libraries", "ours"])
    with workers.start(options, overhead.__file__) as (running, left_out):
        worker = running["ours"]
        assert not left_out
        assert worker.info["numpy"] == np.__version__
        values, more = workers.prepare(running, ["multiply scalar", "sin scalar"], 0.001)
        seconds = workers.interleave(running, values, 2, time.monotonic() + 60)
        assert not more
        assert all(s > 0 for there in seconds.values() for s in there["ours"])
        with pytest.raises(RuntimeError, match="no such op"):
            worker.ask("prepare", case="no such op 64", seconds=0.001, checks=1)
        worker._process.kill()
        with pytest.raises(RuntimeError, match="ended with exit code -9"):
            worker.ask("time", case="sin scalar")


def test_hips_worker_refuses_our_package():
    import common
    import overhead
    import workers

    options = common.parser(None, threads=1).parse_args(["--libraries", "hips", "--hips-python", sys.executable])
    with workers.start(options, overhead.__file__) as (running, left_out):
        assert not running
    assert "not HIPS autograd" in left_out["hips"]


# ---- overhead ----


def test_overhead_chains_have_the_right_derivatives():
    import overhead

    x = float(overhead.initial("multiply", "scalar"))
    assert math.isclose(float(overhead.build("ours", "multiply scalar")()), 101 * x**100)
    assert float(overhead.build("ours", "add scalar")()) == 101.0
    assert math.isclose(float(overhead.build("ours", "times number 64")()), 4096 * 1.01**100, rel_tol=1e-4)
    for case in overhead.CASES:
        value = float(overhead.build("ours", case)())
        assert math.isfinite(value), case
        assert value != 0, case


def test_overhead_summary_has_the_figures_of_the_last_line():
    import overhead

    times = {"ours": 1.0, "torch": 2.0, "jax": 0.5, "mygrad": 4.0, "hips": 3.0}
    seconds = {case: {library: [t] * 3 for library, t in times.items()} for case in overhead.CASES}
    figures, lines = overhead.summarise(seconds)
    want = {"hips_over_ours": 3.0, "mygrad_over_ours": 4.0, "ours_over_torch": 0.5, "ours_over_jax": 2.0}
    assert figures == {f"{name}_{size}": value for name, value in want.items() for size in ("scalar", "64")}
    assert sum(line.startswith("| geometric mean") for line in lines) == 2
    without = {case: {k: v for k, v in there.items() if k != "hips"} for case, there in seconds.items()}
    assert not any("hips" in name for name in overhead.summarise(without)[0])


def test_overhead_refuses_to_compare_different_work():
    import overhead

    overhead.agree({"sin scalar": {"ours": [1.0], "torch": [1.0 + 1e-12]}})
    with pytest.raises(AssertionError, match="sin scalar: torch"):
        overhead.agree({"sin scalar": {"ours": [1.0], "torch": [1.0 + 1e-6]}})


def test_overhead_writes_its_report_and_prints_json(tmp_path, capsys, monkeypatch):
    import overhead

    monkeypatch.setattr(overhead, "CASES", ["add scalar", "add 64"])
    overhead.main(["--quick", "--libraries", "ours", "--rounds", "1", "--out", str(tmp_path)])
    assert last_line(capsys) == {}  # nothing to compare with
    assert json.loads((tmp_path / "overhead.json").read_text())["microseconds"]["add 64"]["ours"] > 0
    assert "| add " in (tmp_path / "overhead.md").read_text()


# ---- training_step ----


@pytest.mark.parametrize("workload", ["mlp_tiny", "mlp_small"])
def test_training_step_is_the_step_it_says(workload):
    """Against the same step by hand in NumPy, in float64."""
    import training_step

    weights, x, labels = training_step.problem(workload)
    w = [a.astype(float) for a in weights]
    step = training_step.build("ours", workload)
    for _ in range(3):
        hs = [x.astype(float)]
        for a, b in zip(w[:-2:2], w[1:-2:2], strict=True):
            hs.append(np.maximum(hs[-1] @ a.T + b, 0))
        z = hs[-1] @ w[-2].T + w[-1]
        z -= z.max(axis=1, keepdims=True)
        p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        loss = -np.log(p[np.arange(len(x)), labels]).mean()
        assert math.isclose(float(step()), loss, rel_tol=1e-4)
        p[np.arange(len(x)), labels] -= 1
        g = p / len(x)
        for i in range(len(w) - 2, -1, -2):
            below = g @ w[i] * (hs[i // 2] > 0)
            w[i], w[i + 1] = w[i] - training_step.RATE * g.T @ hs[i // 2], w[i + 1] - training_step.RATE * g.sum(axis=0)
            g = below


def test_training_step_builds_the_cnn():
    import training_step

    step = training_step.build("ours", "cnn")
    losses = [float(step()) for _ in range(2)]
    assert losses[1] < losses[0]


def test_training_step_summary_and_comparison_of_losses():
    import training_step

    seconds = {"mlp_tiny": {"ours": [1e-3] * 3, "torch": [2e-3] * 3}, "cnn": {"torch": [0.1] * 3}}
    figures, lines = training_step.summarise(seconds)
    assert figures == {"mlp_tiny": {"ours": 1.0, "torch": 2.0}, "cnn": {"torch": 100.0}}
    assert any("0.5" in line for line in lines if line.startswith("| mlp_tiny"))
    training_step.agree({"cnn": {"ours": [2.0, 1.0], "torch": [2.0, 1.0001]}})
    with pytest.raises(AssertionError, match="step 1"):
        training_step.agree({"cnn": {"ours": [2.0, 1.0], "torch": [2.0, 1.1]}})


# ---- memory and import_time ----


def test_memory_of_chained_adds_and_of_tanh(monkeypatch):
    import memory

    adds = memory.measure("ours", "chained_adds")
    assert 1.9 < adds["forward"] / memory.ARRAY < 2.1
    assert adds["retained"] < 0.1 * memory.ARRAY
    tanh = memory.measure("ours", "tanh_layers")
    assert 19.9 < tanh["retained"] / memory.ARRAY < 20.1
    memory.tracemalloc.stop()
    monkeypatch.setattr(memory, "LENGTH", 1000)
    with pytest.raises(AssertionError, match="came out as"):  # the check of the derivative's value works
        monkeypatch.setattr(memory, "_long", lambda x: x * 2.0)
        memory.long_chain("ours")
    monkeypatch.undo()
    assert memory.long_chain("ours")["ok"] is True


def test_import_time_finds_what_must_not_be_loaded(monkeypatch):
    import import_time

    assert import_time.forbidden() == []
    monkeypatch.setattr(import_time, "FORBIDDEN", ("csv", "torch"))
    assert import_time.forbidden("import csv") == ["csv"]


# ---- mutation ----

SOURCE = '''
"""Rows, with letters of more than one byte before them: Σ √."""
exp = op("exp", "exp", same, lambda g, y, _x: g * y)
relu = op("relu", "relu", same, lambda g, y, _x: where(greater(y, 0), g, 0.0))
where = op("where", "where", shape, None, None, None)
greater = op("greater", "greater", shape, None, None)
choose = op("choose", _forward, shape, None, _rule)


def _forward(c, x):
    return _shared(x)


def _shared(x):
    return exp(x) + x


def _rule(g, _y, _c, x):
    shape = _lengths(x) + (1,)
    return _helper(g, x) - _shared(x)


def _lengths(x):
    return (1,) + (2,)


def _helper(g, x):
    return g * exp(x)
'''


def made(tmp_path):
    import mutants

    (tmp_path / "rows.py").write_text(SOURCE)
    return mutants.mutants(tmp_path)


def test_mutants_of_a_small_table(tmp_path):
    found = made(tmp_path)
    of_exp = {(m.kind, m.after) for m in found if m.row == "exp"}
    assert of_exp == {
        ("sign", "(-(g * y))"), ("factor", "(2.0 * (g * y))"), ("operator", "((g) / (y))"), ("drop", "(g)"), ("drop", "(y)"),
        ("saved", "(lambda g, _y, x: g * x)"),
    }  # fmt: skip
    of_relu = {(m.kind, m.before, m.after) for m in found if m.row == "relu"}
    assert ("tie", "greater", "greater_equal") in of_relu
    assert ("branches", "0.0", "1.0") in of_relu
    assert not any(kind == "saved" for kind, _, _ in of_relu)  # max(x, 0) > 0 just where x > 0
    of_choose = [m for m in found if m.row == "choose"]
    assert any(
        m.before == "g * exp(x)" and m.kind == "operator" for m in of_choose
    )  # in a private function of the rule
    assert not any(
        m.before in ("exp(x) + x", "(1,) + (2,)", "_lengths(x) + (1,)") for m in of_choose
    )  # forward, and shapes
    assert {m.rule for m in of_choose} == {1}


def test_mutants_change_one_place_and_still_parse(tmp_path):
    found = made(tmp_path)
    source = SOURCE.encode()
    for mutant in found:
        changed = mutant.applied(source).decode()
        compile(changed, "rows.py", "exec")
        assert changed != SOURCE
        assert " ".join(source[mutant.start : mutant.end].decode().split()) == mutant.before


def test_choice_is_seeded_and_takes_another_rule_each_time():
    import mutation

    found = mutation.mutants(mutation.PACKAGE)
    chosen = mutation.choose(found, 40, seed=3)
    assert chosen == mutation.choose(found, 40, seed=3) != mutation.choose(found, 40, seed=4)
    assert len({(m.row, m.rule) for m in chosen}) == 40
    assert len({m.kind for m in chosen}) >= 6
    assert len(set(mutation.choose(found, 10**6, seed=0))) == len(found)


def test_equivalent_mutants_are_mutants_and_have_reasons():
    import mutation

    keys = {mutation.key(m) for m in mutation.mutants(mutation.PACKAGE)}
    assert mutation.equivalents() and set(mutation.equivalents()) <= keys
    assert all(len(reason) > 20 for reason in mutation.equivalents().values())


def test_most_rows_with_a_derivative_have_mutants():
    import mutation

    from autograd import OPS

    found = {m.row for m in mutation.mutants(mutation.PACKAGE)}
    rows = {name for name, row in OPS.items() if any(rule is not None for rule in row.vjps)}
    assert len(rows - found) <= 0.05 * len(rows), sorted(rows - found)


@pytest.mark.skipif(importlib.util.find_spec("hypothesis") is None, reason="check_row needs hypothesis")
def test_a_broken_rule_is_killed_an_unbroken_one_survives_and_bad_syntax_does_not_count():
    import mutation

    exp = [m for m in mutation.mutants(mutation.PACKAGE) if m.row == "exp"]
    wrong = next(m for m in exp if m.kind == "drop")
    same, broken = (mutation.Mutant(**{**vars(wrong), "after": after}) for after in (wrong.before, "("))
    try_ = functools.partial(mutation.try_mutant, mutation.PACKAGE, examples=2, timeout=60)
    # mutants run in forks, which a process with JAX's threads, as this may be, must not make
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        verdicts = list(pool.map(try_, (wrong, same, broken)))
    assert [v.outcome for v in verdicts] == ["check", "survived", "invalid"], [v.message for v in verdicts]
    assert verdicts[0].stage == "few" and verdicts[0].killed
    figures, lines = mutation.summarise(verdicts, ("drop", "sign"), {})
    assert figures == {"mutants": 2, "killed": 1, "equivalent": 0, "score": 0.5, "survivors": [str(same)], "rules": 1}
    assert f"- Survived: {same}" in lines
    figures, lines = mutation.summarise(verdicts, ("drop", "sign"), {mutation.key(same): "it is the same"})
    assert figures["score"] == 1.0 and figures["equivalent"] == 1 and figures["survivors"] == []
    with pytest.raises(SystemExit, match="said to be equivalent, but killed"):
        mutation.summarise(verdicts, ("drop",), {mutation.key(wrong): "a mistake"})
    with pytest.raises(ValueError, match="is not the source"):
        wrong.applied(b" " + (mutation.PACKAGE / wrong.file).read_bytes())


# ---- checkpointing ----


def test_checkpointing_counts_and_compares(tmp_path, capsys):
    import checkpointing

    kinds = {6: (*checkpointing.BOTH, "budget 9", "eviction 9")}
    checkpointing.main(["--quick", "--libraries", "ours", "--out", str(tmp_path)], kinds)
    figures = last_line(capsys)
    plain, root, budget = (figures["chains"]["6"][what] for what in ("plain", checkpointing.SQRT, "budget 9"))
    one = 4 * checkpointing.WIDTH * checkpointing.QUICK_ROWS
    assert 12 * one < plain["held_bytes"] < 12.5 * one  # two activations for each layer, and LayerNorm's statistics
    assert budget["held_bytes"] < root["held_bytes"] < plain["held_bytes"] <= plain["array_bytes"]
    assert plain["recompute"] == 1.0 < root["recompute"] < budget["recompute"] <= budget["optimum"]
    assert figures["peak_over_budget_most"] == budget["peak_over_budget"] < 1.3
    evicted = figures["chains"]["6"]["eviction 9"]
    assert evicted["held_bytes"] <= 9 * one and 1.0 < evicted["recompute"] < 2.0
    assert "| 6 " in (tmp_path / "checkpointing.md").read_text()


def test_checkpointing_refuses_other_results():
    import checkpointing

    checkpointing.agree({"10, plain": {"ours": [2.0], "torch": [2.0001]}, "10, √n": {"ours": [2.0]}})
    for wrong in ({"ours": [2.1]}, {"ours": [2.0], "torch": [2.5]}):
        with pytest.raises(AssertionError, match="10, √n: "):
            checkpointing.agree({"10, plain": {"ours": [2.0]}, "10, √n": wrong})


@pytest.mark.parametrize("name", ["overhead", "training_step", "memory", "import_time", "mutation", "checkpointing"])
def test_every_script_explains_itself(name):
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / f"{name}.py"), "--help"], capture_output=True, text=True, check=True
    )
    assert "--quick" in done.stdout
    assert "The last line is JSON" in done.stdout
