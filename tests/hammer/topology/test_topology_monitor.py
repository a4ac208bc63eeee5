"""The monitor sees what it says, keeps its budget, and changes no bit of a run."""

import time

import numpy as np
import pytest

from autograd import DiffTensor, nn, ops
from autograd.gradients import chain, clip_by_global_norm
from autograd.optim import Optimizer, adamw
from autograd.sparse import RowSparse
from autograd.train import Trainer
from hammer import topology
from hammer.topology.monitor import BEFORE, Monitor, unusual


def fitted(callbacks, epochs=4):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((96, 6)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int64)
    model = nn.Sequential(nn.Linear(6, 16, rng=rng), nn.Dropout(0.2, rng=rng), nn.Linear(16, 2, rng=rng))
    trainer = Trainer(model, "cross_entropy", "adamw", lr=1e-2, callbacks=callbacks, seed=3)
    history = trainer.fit((x, y), epochs=epochs, batch_size=8)
    return [p.numpy() for p in model.parameters()], history


@pytest.mark.parametrize("what", ["weights", "gradients"])
def test_a_trainer_with_a_monitor_makes_the_same_bits(what):
    monitor = Monitor(what, budget=None)
    plain, _ = fitted([])
    watched, history = fitted([monitor])
    assert all(np.array_equal(a, b) for a, b in zip(plain, watched, strict=True))
    row = history.rows[-1]
    assert row["topology_persistence"] > 0 and 0 < row["topology_entropy"] <= 1 and row["topology_longest"] >= 1
    assert row["topology_change"] > 0 and monitor.seen == 48 and monitor.skipped == 0
    assert len(monitor.state["reports"]) == 4 - (history.rows[0].get("topology_entropy") is None)


def test_a_chain_with_a_monitor_makes_the_same_bits():
    def run(*links):
        rng = np.random.default_rng(1)
        w = DiffTensor(rng.standard_normal((300, 200)), requires_grad=True)  # large enough to be worked on in tiles
        optimizer = Optimizer([w], chain(clip_by_global_norm(1.0), *links, adamw(1e-2)))
        for _ in range(5):
            optimizer.zero_grad()
            ops.sum(w**4).backward()
            optimizer.step()
        return w.numpy(), optimizer

    monitor = Monitor(budget=None)
    plain, watched = run()[0], run(monitor.link())
    assert np.array_equal(plain, watched[0]) and monitor.seen == 5
    assert monitor.report() == {}  # too few points
    assert len(watched[1].state_dict()) == len(run()[1].state_dict())


def test_points_are_exact_or_sketches_of_the_right_size():
    rng = np.random.default_rng(0)
    few, many = Monitor(budget=None), Monitor(budget=None, width=512)
    points = rng.standard_normal((40, 5000))
    for p in points:
        few.observe([p[:100], None, p[100:120].reshape(4, 5)])
        many.observe([p])
    assert np.array_equal(np.stack(few._points), points[:, :120])
    wanted, found = topology.distances(points), topology.distances(np.stack(many._points))
    off = np.triu_indices(40, 1)
    assert np.mean((found[off] / wanted[off]) ** 2) == pytest.approx(1.0, abs=0.05)
    assert np.std((found[off] / wanted[off]) ** 2) < 2 * np.sqrt(2 / 512)
    (direct,) = topology.rips(points[:, :120], (0,))
    report = few.report()
    assert report["topology_persistence"] == pytest.approx(float(direct.lifetimes.mean()))
    assert report["topology_longest"] == pytest.approx(float(direct.lifetimes.max() / direct.lifetimes.mean()))


def test_sparse_and_spoiled_gradients():
    monitor = Monitor(budget=None)
    monitor.observe([RowSparse(np.array([1]), np.array([[2.0, 3.0]]), (3, 2))])
    assert monitor._points[0].tolist() == [0, 0, 2, 3, 0, 0]
    monitor.observe([np.array([np.nan] * 6)])
    assert monitor.seen == 1 and monitor.skipped == 1


def test_the_budget_is_kept(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    monitor = Monitor(budget=0.05, window=64)
    sketched = monitor._sketched

    def slow(arrays):
        clock[0] += 2.0
        return sketched(arrays)

    monkeypatch.setattr(monitor, "_sketched", slow)
    for _ in range(200):
        monitor.observe([np.ones(3)])
        clock[0] += 10.0
        assert monitor.seen == 1 or monitor.share <= 0.05
    assert monitor.seen == 52 and monitor.skipped == 148  # 104 s of 2,104


def test_reports_use_fewer_points_when_time_is_short(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    monitor = Monitor(budget=0.1, window=100)
    for p in np.random.default_rng(0).standard_normal((100, 3)):
        monitor.observe([p])
        clock[0] += 1.0
    figures = monitor._figures
    used = []

    def slow(points):
        used.append(len(points))
        clock[0] += 1e-3 * len(points) ** 2
        return figures(points)

    monkeypatch.setattr(monitor, "_figures", slow)
    monitor.report()  # 10 s: all that 100 s allow
    monitor.report()  # after 110 s, 1 s is left
    clock[0] += 30.0
    monitor.report()
    assert used == [100, 31, 55] and monitor.share == pytest.approx(0.1, abs=0.01)
    monitor.report()
    assert monitor.report() == {} and len(used) == 4  # a fifth would be of too few points


def test_a_change_of_regime_is_an_alert():
    rng = np.random.default_rng(0)
    assert (
        not unusual(100.0, [1.0] * (BEFORE - 1))
        and unusual(2.0, [1.0, 1.1] * BEFORE)
        and not unusual(1.2, [1.0, 1.1] * BEFORE)
    )
    monitor = Monitor(budget=None, window=40)
    for epoch in range(16):
        for _ in range(40):  # from the 14th epoch on the points fall into two parts
            part = 200.0 * rng.integers(2) if epoch >= 13 else 0.0
            monitor.observe([rng.standard_normal(3) + part])
        monitor.report()
    assert monitor.state["alerts"] == [13]


def test_bad_settings_are_refused():
    for bad, message in (
        ({"what": "x"}, "what"),
        ({"window": 3}, "window"),
        ({"budget": 0}, "budget"),
        ({"width": 0}, "width"),
    ):
        with pytest.raises(ValueError, match=message):
            Monitor(**bad)
