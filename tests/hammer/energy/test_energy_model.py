"""Technology tables, the cost model, and calibration: figures by hand, and coefficients that are put in and come out."""

import json
from pathlib import Path

import numpy as np
import pytest

from autograd import DiffTensor, ops
from hammer.energy import Meter, Modelled, Work, fit, technology
from hammer.energy.calibration import Run, Wall, calibrate, load_runs, read_wall, record, save_runs
from hammer.energy.meter import Source
from hammer.energy.model import backward_work, forward_work, recomputation
from hammer.energy.technologies import MARKS, Technology


@pytest.mark.parametrize("name", ["45nm", "7nm"])
def test_shipped_tables(name: str, tmp_path: Path) -> None:
    table = technology(name)
    figures = [*table.add.values(), *table.multiply.values(), *(level.access for level in table.memory), table.static]
    assert all(f.mark in MARKS[:3] for f in figures) and "20" in table.about
    assert all(f.note for f in figures if f.mark == "derived")
    table.save(tmp_path / "own.json")
    assert technology(tmp_path / "own.json") == table


def test_figures_of_45_nm() -> None:
    table = technology("45nm")
    assert table.operation("float32") == pytest.approx(2.3)  # (0.9 + 3.7) / 2
    assert table.operation("complex64") == table.operation("float32")
    assert table.operation("bfloat16") == table.operation("float16") == pytest.approx(0.75)  # the next wider there is
    assert technology("7nm").operation("bfloat16") == pytest.approx(0.16)
    assert table.operation("int8") == table.operation("bool") == pytest.approx(1.6)
    assert [table.level(n).name for n in (0, 8192, 8193, 32769, 1 << 20, (1 << 20) + 1)] == ["8 KB", "8 KB", "32 KB", "1 MB", "1 MB", "DRAM"]  # fmt: skip
    assert table.joules(1e12, 0.0) == (pytest.approx(2.3), 0.0)
    assert table.joules(0.0, 8e9)[1] == pytest.approx(1e9 * 1950e-12)
    assert table.joules(0.0, 8e9, working_set=1e6)[1] == pytest.approx(0.1)


def test_tables_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"neither a shipped table \(45nm, 7nm\) nor a file"):
        technology("3nm")
    good = json.loads(Path(__file__).parents[3].joinpath("hammer/energy/tables/45nm.json").read_text())
    for spoil, said in (
        (lambda t: t.pop("memory"), "'memory' is missing"),
        (lambda t: t["memory"].reverse(), "must list levels by size"),
        (lambda t: t["add"]["float32"].update(pj=-1), "at least 0"),
        (lambda t: t["add"]["float32"].update(mark="guessed"), "mark of a figure"),
        (lambda t: t["add"].pop("float32"), "no figures for float32"),
    ):
        table = json.loads(json.dumps(good))
        spoil(table)
        (tmp_path / "bad.json").write_text(json.dumps(table))
        with pytest.raises(ValueError, match=said):
            technology(tmp_path / "bad.json")


def test_the_model_is_a_source() -> None:
    now = [0.0]
    model = Modelled("45nm", static_watts=2.0, clock=lambda: now[0])
    meter = Meter(model, clock=lambda: now[0])
    spent = model.charge(Work(1000.0, 800.0, "float32"))
    assert spent == pytest.approx((1000 * 2.3e-12, 100 * 10e-12))
    now[0] = 3.0
    reading = meter.read()
    assert (
        reading.kind == "modelled" and reading.uncertainty is None and reading.source == "cost model, 45 nm, static 2 W"
    )
    assert reading.domains == pytest.approx({"arithmetic": 2.3e-9, "memory": 1e-9, "static": 6.0})
    now[0] = 1.0
    reading = meter.read()
    assert (
        reading.joules is None
        and reading.domains["static"] is None
        and reading.domains["memory"] == pytest.approx(1e-9)
    )
    with pytest.raises(ValueError, match="static_watts must be finite"):
        Modelled(static_watts=float("inf"))


def test_work_of_an_operation_and_of_its_rules() -> None:
    a, b = (DiffTensor(np.ones(shape, np.float32), requires_grad=True) for shape in ((8, 3), (3, 5)))
    out = a @ b
    row = ops.matmul.row
    assert forward_work(row, (a.raw, b.raw), {}, (out.raw,)) == Work(2.0 * 8 * 3 * 5, 4 * (24 + 15 + 40), "float32")
    g, d = np.ones((8, 5), np.float32), np.ones((8, 3), np.float32)
    work = backward_work(g, out.node, a.node, d)  # reads g and b
    assert work == Work(2.0 * 8 * 3 * 5, 4 * (40 + 24 + 15), "float32")
    bias = DiffTensor(np.ones((1, 5), np.float32), requires_grad=True)
    moved = out + bias
    assert backward_work(g, moved.node, bias.node, bias.raw) == Work(40.0, 4 * (40 + 5), "float32")  # reads g alone


def test_rules_of_operations_with_several_outputs() -> None:
    x = DiffTensor(np.diag([2.0, 3.0]), requires_grad=True)
    node = ops.slogdet(x)[1].node.parents[0]
    work = backward_work([None, np.ones(())], node, x.node, x.raw)
    flops, _ = node.row.cost((np.ones(()), np.ones(())), x.raw)
    assert work == Work(flops, 8 * (1 + 4 + 4), "float64") and flops > 0


def test_recomputing_pays_where_memory_is_far() -> None:
    table = technology("45nm")
    n = 1000  # of an elementwise operation on float32: read once, written once
    work = Work(float(n), 8.0 * n, "float32")
    again = 1e-12 * n * (2.3 + 10)  # from 8 KB: 10 pJ for 8 bytes
    assert recomputation(work, 4.0 * n, 1e9, table) == pytest.approx(1e-12 * n * 1950 - again)  # DRAM: it pays
    assert recomputation(work, 4.0 * n, 8e3, table) == pytest.approx(
        1e-12 * n * 10 - again
    )  # still in the cache: it does not
    assert recomputation(work, 4.0 * n, 1e9, table) > 0 > recomputation(work, 4.0 * n, 8e3, table)


# ---- calibration ----

TRUE = {"seconds": 25.0, "float32": 3e-12, "float64": 9e-12, "cached": 5e-12, "streamed": 60e-12}


def truth(run: Run) -> float:
    return sum(value * getattr(run, term) for term, value in TRUE.items())


def runs(noise: float = 0.0, repeats: int = 3) -> list[Run]:
    rng = np.random.default_rng(0)
    found = []
    for k in range(repeats):
        for i, work in enumerate(({}, {"float32": 4e11, "cached": 1e10}, {"float64": 2e11, "cached": 1e10}, {"cached": 8e10}, {"streamed": 2e10}, {"float32": 2e9, "streamed": 1.6e10})):  # fmt: skip
            start = 1e9 + 100.0 * (6 * k + i)
            run = Run(f"w{i}", start, start + 2.0 + 0.01 * k, **work)
            joules = truth(run) * (1 + noise * rng.standard_normal())
            found.append(Run(run.name, run.start, run.end, **work, joules=joules))
    return found


def test_coefficients_come_out_as_they_were_put_in(tmp_path: Path) -> None:
    found = fit(runs())
    assert {k: v for k, (v, _) in found.coefficients.items()} == pytest.approx(TRUE, rel=1e-6) and found.residual < 1e-9
    assert found.table.operation("float32") == pytest.approx(3.0) and found.table.static.value == pytest.approx(25.0)
    assert found.table.memory[-1].access.value == pytest.approx(480.0) and found.table.memory[0].access.mark == "fitted"
    found.table.save(tmp_path / "mine.json")
    assert technology(tmp_path / "mine.json") == found.table
    assert Modelled(technology(tmp_path / "mine.json")).static == pytest.approx(25.0)


def test_intervals_hold_the_truth() -> None:
    inside = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        noisy = [Run(r.name, r.start, r.end, r.float32, r.float64, r.cached, r.streamed, truth(r) + 0.5 * rng.standard_normal()) for r in runs(repeats=6)]  # fmt: skip
        found = fit(noisy)
        for term, (value, error) in found.coefficients.items():
            inside += error is not None and abs(value - TRUE[term]) <= 2 * error
    assert 0.88 <= inside / 200 <= 1.0  # ± 2 standard errors: 95 % of 200
    assert "W  ±" in str(found) and "pJ ±" in str(found)


def test_what_cannot_be_fitted() -> None:
    without = [Run(r.name, r.start, r.end, r.float32, r.float64, r.cached, r.streamed) for r in runs()]
    with pytest.raises(ValueError, match="no joules"):
        fit(without)
    with pytest.raises(ValueError, match="do not tell 5 terms apart"):
        fit(runs()[:5])
    with pytest.raises(ValueError, match="do not tell 5 terms apart"):
        fit([r for r in runs() if r.name != "w2"])  # nothing in float64


def test_a_log_of_the_wall_socket(tmp_path: Path) -> None:
    asked = [Run(r.name, r.start, r.end, r.float32, r.float64, r.cached, r.streamed) for r in runs()]
    lines = ["Time, Watts"]
    for run in asked:
        watts = truth(run) / run.seconds
        lines += [f"{t!r},{watts!r}" for t in (run.start - 1.0, run.start, run.start + 1.0, run.end, run.end + 1.0)]
    (tmp_path / "watts.csv").write_text("\n".join(lines).replace("Time, Watts", "Time,Watts"))
    save_runs(tmp_path / "runs.json", asked)
    found = fit(load_runs(tmp_path / "runs.json"), read_wall(tmp_path / "watts.csv"))
    assert {k: v for k, (v, _) in found.coefficients.items()} == pytest.approx(TRUE, rel=1e-5)
    assert Wall(np.array([0.0, 10.0]), np.array([5.0, 15.0])).joules(2.0, 4.0) == pytest.approx(16.0)
    with pytest.raises(ValueError, match="does not hold the run"):
        Wall(np.array([0.0, 10.0]), np.array([5.0, 5.0])).joules(5.0, 11.0)
    with pytest.raises(ValueError, match="gap of over 30 s"):
        Wall(np.array([0.0, 100.0]), np.array([5.0, 5.0])).joules(5.0, 11.0)
    for text, said in (
        ("time,power\n1,2\n", "must name the columns time and watts"),
        ("time,watts\n1,2\n2,x\n", "line 3"),
        ("time,watts\n1,2\n2,nan\n", "line 3: nan watts"),
        ("time,watts\n1,2\n1,2\n", "each later than the one before"),
    ):
        (tmp_path / "bad.csv").write_text(text)
        with pytest.raises(ValueError, match=said):
            read_wall(tmp_path / "bad.csv")
    (tmp_path / "iso.csv").write_text("time,watts\n2026-01-01T00:00:00+00:00,1\n2026-01-01T00:00:10+00:00,1\n")
    assert np.diff(read_wall(tmp_path / "iso.csv").times) == 10.0
    (tmp_path / "no.json").write_text("[{}]")
    with pytest.raises(ValueError, match="does not hold runs of calibrate"):
        load_runs(tmp_path / "no.json")


def test_workloads_run_and_say_what_they_did() -> None:
    found = record(seconds=0.02, repeats=1)
    done = {run.name: run for run in found}
    assert done["idle"].float32 == done["idle"].streamed == 0.0 and done["idle"].seconds >= 0.02
    assert done["products, float32"].float32 >= 2 * 256**3 and done["products, float64"].float64 >= 2 * 256**3
    assert done["copies in memory"].streamed >= 1 << 27 and done["copies in the cache"].cached >= 1 << 19
    assert all(run.joules is None for run in found)


def test_calibration_needs_a_meter_that_measures() -> None:
    class Falling(Source):
        name, kind = "steady", "measured"

        def read(self) -> dict[str, float | None]:
            import time

            return {"all": 10.0 * time.perf_counter()}

    with pytest.raises(ValueError, match="does not measure here: not measured"):
        calibrate(Meter(), seconds=0.01, repeats=1)
    found = calibrate(Meter(Falling()), seconds=0.02, repeats=2)  # ten watts whatever is done
    assert found.coefficients["seconds"][0] == pytest.approx(10.0, rel=0.2) and isinstance(found.table, Technology)
