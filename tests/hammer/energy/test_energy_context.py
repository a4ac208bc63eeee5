"""HammerContext and the ledger: parts add up, phases and layers are told apart, and results stay the same to the bit."""

import json
import re
import time
from pathlib import Path

import numpy as np
import pytest

import hammer
from autograd import AutogradContext, DiffTensor, checkpoint, nn, no_grad, ops, optim
from autograd.context import current
from autograd.nn import losses
from autograd.train import Trainer
from hammer.context import HammerContext
from hammer.energy import Meter, Modelled, rapl
from hammer.energy.callback import EnergyCallback
from hammer.energy.ledger import Ledger
from hammer.energy.meter import Source
from hammer.energy.own_cost import own_cost
from hammer.energy.report import Report
from hammer.energy.simulate import SimulatedRapl


class Steady(Source):
    """Ten watts, whatever is done."""

    name, kind = "steady", "measured"

    def read(self) -> dict[str, float | None]:
        return {"all": 10.0 * time.perf_counter()}


def net(seed: int = 0) -> nn.Sequential:
    rng = np.random.default_rng(seed)
    return nn.Sequential(nn.Linear(8, 16, rng=rng), nn.ReLU(), nn.Linear(16, 3, rng=rng))


X, Y = np.random.default_rng(0).standard_normal((96, 8)).astype(np.float32), np.arange(96) % 3


def loop(hammer: HammerContext, model: nn.Module, optimizer: optim.Optimizer, steps: int, sleep: float = 0.0) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        losses.cross_entropy(model(DiffTensor(X)), Y).backward()
        with hammer.phase("optimizer"):
            optimizer.step()
        with hammer.phase("data"):
            time.sleep(sleep)
        hammer.step()


def run(source: Source, steps: int = 40, budget: float | None = 0.02, sleep: float = 0.0) -> Report:
    model = net()
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    with HammerContext(energy=Meter(source), model=model, optimizer=optimizer, budget=budget) as context:
        loop(context, model, optimizer, steps, sleep)
    return context.report()


@pytest.mark.parametrize("make", [Steady, lambda: Modelled("45nm", 3.0), lambda: Modelled("7nm")])
@pytest.mark.parametrize("budget", [None, 0.02])
def test_parts_add_up_to_the_whole(make, budget: float | None) -> None:
    report = run(make(), budget=budget)
    total = report.joules
    assert total is not None and total > 0
    for names in (("phase",), ("layer",), ("op",), ("phase", "layer", "op")):
        assert sum(report.by(*names).values()) == pytest.approx(total, rel=0.01)  # type: ignore[arg-type]
    assert report.steps == 40 and (report.watched == 40) == (budget is None)
    assert report.seconds == pytest.approx(report.whole.seconds, rel=0.05)
    assert {"forward", "backward", "optimizer", "data"} <= report.by("phase").keys()
    assert {"0", "1", "2", ""} == report.by("layer").keys()
    assert [(r.op, r.seconds > 0) for r in report.rows if r.phase == "optimizer"] == [("update", True)]


def test_work_is_what_a_pencil_says() -> None:
    rows = {(r.phase, r.layer, r.op): r for r in run(Modelled("45nm"), steps=3, budget=None).rows}
    first, rules = rows["forward", "0", "linear"], rows["backward", "0", "linear′"]
    cost = ops.linear.row.cost(
        np.empty((96, 16), np.float32), X, np.empty((16, 8), np.float32), np.empty(16, np.float32)
    )
    assert first.calls == 3 and first.flops == 3 * cost[0] >= 3 * 2 * 96 * 8 * 16 and first.bytes == 3 * cost[1]
    assert rules.calls == 6  # weight and bias: nobody asked for the gradient of X
    assert rows["backward", "2", "linear′"].calls == 9
    assert (
        rows["backward", "", "cross_entropy′"].calls == rows["forward", "", "cross_entropy"].calls == 3
    )  # of no layer
    update = rows["optimizer", "", "update"]
    n = 8 * 16 + 16 + 16 * 3 + 3
    assert update.flops == 3 * (2 + 2 * 4) * n and update.bytes == 3 * 4 * n * (3 + 2 * 2)


def test_steps_that_are_not_watched_are_taken_to_be_like_the_others() -> None:
    all_, few = (run(Modelled("45nm"), steps=60, budget=budget) for budget in (None, 0.001))
    assert few.watched < 10
    work = [
        {(r.phase, r.layer, r.op): (r.calls, r.flops, r.bytes) for r in report.rows if r.calls}
        for report in (all_, few)
    ]
    assert work[0].keys() == work[1].keys()
    for key, amounts in work[0].items():
        assert work[1][key] == pytest.approx(amounts), key
    assert few.joules == pytest.approx(all_.joules, rel=1e-6)  # no static power: counted work alone


def test_the_first_visit_of_a_phase_is_watched_and_no_longer() -> None:
    with HammerContext(energy=Meter(Modelled()), budget=1e-6) as context:
        ops.exp(DiffTensor(1.0))
        context.step()
        for _ in range(2):
            with context.phase("evaluation"):
                ops.tanh(DiffTensor(1.0))
            assert current() is None
            ops.exp(DiffTensor(1.0))
            context.step()
    calls = {(r.phase, r.op): r.calls for r in context.report().rows if r.calls}
    assert calls == {("forward", "exp"): 3.0, ("evaluation", "tanh"): 2.0}


def test_the_model_is_charged_for_steps_that_are_not_watched_before_it_is_read() -> None:
    source = Modelled("45nm")
    meter, model = Meter(source), net()
    optimizer = optim.SGD(model.parameters(), lr=0.01)
    with HammerContext(energy=meter, model=model, optimizer=optimizer, budget=1e-6) as context:
        loop(context, model, optimizer, 1)
        with meter.window("one") as one:
            loop(context, model, optimizer, 1)
        with meter.window("three") as three:
            loop(context, model, optimizer, 3)
    assert context.ledger.watched_steps == 1
    assert one.reading.joules > 0 and three.reading.joules == pytest.approx(3 * one.reading.joules)
    assert not source.owing


def test_marks_count_against_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hammer.energy.ledger.own_cost", lambda: (0.0, 1e-3))
    with HammerContext(energy=Meter(), budget=0.5) as context:
        for _ in range(5):
            with context.phase("nothing"):  # a mark, and a step is another
                pass
            context.step()
        assert context.ledger.watched_steps == 1  # ten marks of a millisecond are all the time there is
    assert context.report().own_seconds >= 0.01


def test_marks_of_layers_come_and_go_with_watching_and_leave_others_alone() -> None:
    model = net()
    with HammerContext(energy=Meter(Modelled()), model=model, budget=1e-6) as context:
        assert "forward" in model[0].__dict__
        model(DiffTensor(X))
        context.step()
        assert not any("forward" in m.__dict__ for m in model.modules())
        mine = lambda x: x * 2.0
        model[0].__dict__["forward"] = mine
        with context.phase("evaluation"):
            assert "forward" in model[2].__dict__ and model[0].__dict__["forward"] is mine
            model[2](DiffTensor(np.ones((1, 16), np.float32)))
        assert "forward" not in model[2].__dict__
    assert model[0].__dict__.pop("forward") is mine
    rows = {(r.phase, r.layer) for r in context.report().rows}
    assert ("evaluation", "2") in rows and ("forward", "0") in rows


def test_what_booking_costs_is_measured() -> None:
    each, mark = own_cost()
    assert 0 < each < 1e-3 and 0 < mark < 1e-3


def test_a_phase_gets_the_joules_of_its_time() -> None:
    report = run(Steady(), steps=8, sleep=0.02)
    seconds = sum(row.seconds for row in report.rows if row.phase == "data")
    assert seconds >= 8 * 0.02 and report.by("phase")["data"] == pytest.approx(10.0 * seconds, rel=0.05)
    with pytest.raises(ValueError, match="phase"):
        report.by("module")


def test_power_that_differs_between_phases_is_told_apart(tmp_path: Path) -> None:
    machine = SimulatedRapl(tmp_path)
    with HammerContext(energy=Meter(rapl(tmp_path)), budget=None) as context:
        for _ in range(3):
            with context.phase("data"):
                machine.spend(1.0)
                time.sleep(0.06)
            context.step()
            with context.phase("communication"):
                machine.spend(5.0)
                time.sleep(0.06)
            context.step()
    by = context.report().by("phase")
    assert sum(by.values()) == pytest.approx(18.0)  # type: ignore[arg-type]
    assert by["communication"] > 3 * by["data"] > 3.0  # type: ignore[operator]  # by time alone they would be alike


def test_what_is_not_measured_is_not_made_up(tmp_path: Path) -> None:
    report = run(Source())
    assert report.joules is None and set(report.by("phase").values()) == {None} and report.carbon(100.0) is None
    assert all(row.joules is None for row in report.rows) and "not measured" in str(report)
    machine = SimulatedRapl(tmp_path)
    with HammerContext(energy=Meter(rapl(tmp_path, machine.read))) as context:
        context.step()
        machine.deny()
        machine.deny("dram-0")
    lost = context.report()
    assert lost.joules is None and "not measured any more" in str(lost)
    report.save_html(tmp_path / "seconds.html")
    assert '"unit": "s"' in (tmp_path / "seconds.html").read_text("utf-8")


def test_results_are_the_same_to_the_bit_and_the_model_is_left_as_it_was() -> None:
    models = [net(), net()]
    optimizers = [optim.Adam(m.parameters(), lr=0.01) for m in models]
    with HammerContext(energy=Meter(Modelled()), model=models[0], optimizer=optimizers[0], budget=0.5) as context:
        loop(context, models[0], optimizers[0], 20)
    for _ in range(20):
        optimizers[1].zero_grad()
        losses.cross_entropy(models[1](DiffTensor(X)), Y).backward()
        optimizers[1].step()
    assert all(
        np.array_equal(a.raw, b.raw) for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True)
    )
    assert current() is None and not any("forward" in m.__dict__ for m in models[0].modules())


def test_the_context_is_not_in_force_between_watched_steps() -> None:
    seen = set()
    with AutogradContext(dtype=np.float32) as outer, HammerContext(energy=Meter(), budget=1e-6) as context:
        for _ in range(3):
            seen.add(current())
            _ = DiffTensor([1.0]) + 1.0
            context.step()
        assert current() is outer
        assert DiffTensor([1.0]).dtype == np.float32
    assert seen == {context, outer} and current() is None
    with HammerContext(energy=Meter(), budget=1e-6, recording=False, anomaly=True) as context:
        x = DiffTensor(1.0, requires_grad=True)
        _ = x + 1.0
        context.step()
        inside = current()
        assert inside is not context and inside is not None and inside.anomaly and not inside.recording
        assert (x + 1.0).node is None
    assert current() is None


def test_settings_and_observers_of_your_own_go_through() -> None:
    heard = []
    with HammerContext(observer=lambda row, *_: heard.append(row.name)) as context:
        ops.exp(DiffTensor(1.0))
        with pytest.raises(ValueError, match=r"give it energy=Meter"):
            context.report()
    with HammerContext(energy=Meter(), observer=lambda row, *_: heard.append(row.name), budget=1e-6) as context:
        for _ in range(2):
            with no_grad():
                ops.tanh(DiffTensor(1.0))
            context.step()
    assert heard == ["exp", "tanh", "tanh"]

    @HammerContext(energy=Meter())
    def decorated() -> None:
        assert isinstance(current(), HammerContext)

    decorated()
    decorated()


def test_contexts_inside_and_checkpoints_are_heard() -> None:
    with HammerContext(energy=Meter(Modelled()), budget=None) as context:
        x = DiffTensor(X, requires_grad=True)
        with AutogradContext(anomaly=True):
            y = ops.sum(ops.tanh(x))
        y.backward()
        ops.sum(checkpoint(lambda a: ops.exp(ops.sin(a)))(x)).backward()
    calls = {(r.phase, r.op): r.calls for r in context.report().rows}
    assert calls["forward", "tanh"] == 1 and calls["backward", "tanh′"] == 1 and calls["backward", "exp′"] == 1


def test_a_ledger_is_opened_once_and_phases_end() -> None:
    context = HammerContext(energy=Meter())
    with context, pytest.raises(RuntimeError, match=r"end\(\) without begin"):
        context.ledger.end()
    with pytest.raises(RuntimeError, match="opened once"), context:
        pass
    assert current() is None
    with pytest.raises(ValueError, match="budget is a share"):
        Ledger(Meter(), budget=0.0)


def test_an_error_inside_leaves_everything_as_it_was() -> None:
    model = net()
    with pytest.raises(ValueError, match="linear"), HammerContext(energy=Meter(), model=model):
        model(DiffTensor(np.ones((2, 5), np.float32)))
    assert current() is None and not any("forward" in m.__dict__ for m in model.modules())


def test_the_pages_and_tables(tmp_path: Path) -> None:
    report = run(Modelled("45nm", 1.0))
    report.save_html(tmp_path / "flame.html", "a </script> title")
    page = (tmp_path / "flame.html").read_text("utf-8")
    data = json.loads(re.search(r"const data = (.*), box =", page)[1])  # type: ignore[index]
    assert data["unit"] == "J" and data["tree"]["value"] == pytest.approx(report.joules)

    def check(node: dict) -> None:
        if node["inside"]:
            assert sum(n["value"] for n in node["inside"]) == pytest.approx(node["value"], rel=1e-9)
        for inner in node["inside"]:
            check(inner)

    check(data["tree"])
    assert "&lt;/script&gt; title" in page and page.count("</script>") == 1 and "http" not in page
    assert json.loads(json.dumps(report.as_dict()))["whole"]["kind"] == "modelled"
    assert "forward" in str(report) and "modelled: cost model, 45 nm, static 1 W" in str(report)
    assert report.carbon(360.0) == pytest.approx(report.joules / 1e4)  # type: ignore[operator]
    assert hammer.HammerContext is HammerContext


# ---- in a Trainer ----


def trained(callbacks: list, **options) -> Trainer:
    trainer = Trainer(net(), "cross_entropy", "adam", callbacks=callbacks, **options)
    trainer.fit((X, Y), val=(X[:32], Y[:32]), epochs=4, batch_size=16)
    return trainer


@pytest.mark.parametrize("options", [{}, {"accumulate": 2}, {"compile": True}])
def test_a_trainer(options: dict) -> None:
    callback = EnergyCallback(Meter(Modelled("45nm", 2.0)))
    with_, without = trained([callback], **options), trained([], **options)
    assert all(
        np.array_equal(a.raw, b.raw) for a, b in zip(with_.model.parameters(), without.model.parameters(), strict=True)
    )
    report = callback.report
    assert report is not None and report.steps == with_.step
    phases = report.by("phase")
    assert sum(phases.values()) == pytest.approx(report.joules, rel=0.01)  # type: ignore[arg-type]
    assert {"optimizer", "data", "evaluation"} <= phases.keys()
    assert ({"compiled step"} if options.get("compile") else {"forward", "backward"}) <= phases.keys()
    rows = {(r.phase, r.layer, r.op): r for r in report.rows}
    if not options:
        assert rows["forward", "0", "linear"].calls == pytest.approx(24.0)
        assert rows["backward", "2", "linear′"].calls == pytest.approx(72.0)
        assert rows["evaluation", "2", "linear"].calls == pytest.approx(8.0)
    joules = [row["joules"] for row in with_.history.rows]
    assert joules == sorted(joules) and 0 < joules[0] < joules[-1] <= report.joules
    assert "compute" not in with_.__dict__ and "evaluate" not in with_.__dict__ and current() is None


def test_a_trainer_that_fails() -> None:
    callback = EnergyCallback(Meter())
    trainer = Trainer(net(), "cross_entropy", "adam", callbacks=[callback])
    with pytest.raises(ValueError, match="linear"):
        trainer.fit((X[:, :5], Y), epochs=1)
    assert current() is None and "compute" not in trainer.__dict__ and callback.report is not None
    trainer.fit((X, Y), epochs=1)  # once more, with a ledger of its own
    assert callback.report.steps == 3
