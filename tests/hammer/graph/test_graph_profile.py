"""Profiles: the steps that are timed are the plan's, and the bounds are those of the roofline."""

import numpy as np
import pytest

from autograd import nn, ops
from hammer.graph import Peaks, PlanStep, UniversalGraph, profile_plan
from hammer.graph.execute import make_plan
from hammer.graph.native import unavailable
from hammer.graph.profile import SHOWN, measured_peaks, steps_of

PEAKS = Peaks(flops=2e9, bandwidth=1e9, double=5e8)


def mlp():
    model = nn.Sequential(nn.Linear(6, 5, rng=1), nn.LayerNorm(5), nn.Tanh(), nn.Linear(5, 3, rng=2))
    x, y = np.random.default_rng(3).standard_normal((4, 6)).astype(np.float32), np.arange(4) % 3
    graph = UniversalGraph.trace(lambda x, y: ops.mean(ops.cross_entropy(model(x), y)), x, y)
    return graph.grad(value=True), x, y


@pytest.mark.parametrize("order", ["C", "F"])
def test_the_steps_of_a_plan_make_what_the_plan_makes(order):
    graph, x, y = mlp()
    x = np.asarray(x, order=order)
    values = [x, y, *(p.raw for p in graph.parameters.values())]
    plan = graph.plan()
    steps = steps_of(plan, values)
    assert [n for s in steps for n in s.nodes if n.is_operation] == [n for n in graph.nodes if n.is_operation]
    for step in steps:
        step.run()
    made = steps[-1].run.args[1]
    for found, node in zip(plan(values), graph.outputs, strict=True):
        np.testing.assert_array_equal(made[plan.var[node]], found)


def test_steps_on_arrays_that_are_not_in_c_order_are_those_of_a_plan_for_them():
    """In a plan for arrays in C order exp(a) would be written over exp(b), and be in C order itself."""

    def f(a, b):
        return ops.sum(ops.exp(b)), ops.exp(a)

    b = np.random.default_rng(1).standard_normal((40, 50))
    a = np.asarray(b, order="F")
    graph = UniversalGraph.trace(f, a, b)
    assert "out=" in graph.plan().source
    steps = steps_of(graph.plan(), [a, b])
    for step in steps:
        step.run()
    made = steps[-1].run.args[1][graph.plan().var[graph.outputs[1]]]
    assert made.strides == graph(a, b)[1].strides == a.strides


def test_every_operation_has_its_cost_and_its_bound():
    def f(a, w):
        return ops.exp(a @ w) * 2.0

    a, w = np.ones((4, 3), np.float32), np.ones((3, 5), np.float32)
    graph = UniversalGraph.trace(f, a, w)
    found = graph.profile(a, w, repeats=3, peaks=PEAKS)
    product, exp, _ = found.rows
    assert [r.label for r in found.rows] == ["matmul", "exp", "multiply"]
    assert product.flops == 120
    assert product.bytes == 4 * (12 + 15 + 20)
    assert product.bound == max(120 / 2e9, 188 / 1e9)
    assert exp.bound == max(200 / 2e9, 160 / 1e9)
    assert found.flops == graph.cost().flops
    assert found.bytes == graph.cost().bytes
    assert found.bound == sum(r.bound for r in found.rows)
    assert all(r.seconds > 0 and r.reached == r.bound / r.seconds for r in found.rows)
    assert found.whole > 0
    assert set(found.by_label()) == {"matmul", "exp", "multiply"}

    slow = UniversalGraph.trace(f, a.astype(np.float64), w.astype(np.float64))
    rows = slow.profile(a.astype(np.float64), w.astype(np.float64), repeats=1, peaks=PEAKS).rows
    assert rows[1].bound == max(200 / 5e8, 320 / 1e9)


@pytest.mark.parametrize("exact", [True, False])
def test_a_plan_that_writes_into_its_inputs_leaves_them_alone_when_it_is_timed(exact):
    w, x = np.ones((30, 40), np.float32), np.full((30, 40), 2.0, np.float32)
    graph = UniversalGraph.trace(lambda w, x: w - 0.5 * ops.exp(x), w, x)
    plan = make_plan(graph, np.ndarray, exact, writes={0: 0})
    found = profile_plan(plan, [w, x], repeats=2, peaks=PEAKS)
    assert found.seconds > 0
    np.testing.assert_array_equal(w, 1.0)
    (out,) = plan([w, x])
    assert out is w
    assert w[0, 0] < 1.0


def test_views_move_nothing():
    graph = UniversalGraph.trace(lambda a: ops.sum(ops.permute(a, axes=(1, 0))), np.ones((3, 4), np.float32))
    view, total = graph.profile(np.ones((3, 4), np.float32), repeats=1, peaks=PEAKS).rows
    assert (view.bytes, view.bound) == (0, 0.0)
    assert total.bytes == 52


class Fused:
    """A plan of two steps, one of several operations."""

    def __init__(self, graph):
        self.graph, self.calls = graph, []
        *self.first, self.last = [n for n in graph.nodes if n.is_operation]

    def __call__(self, values):
        self.calls.append("whole")

    def steps(self, values):
        given = self.calls.append
        return [
            PlanStep("kernel", tuple(self.first), lambda: given(("kernel", len(values)))),
            PlanStep("sum", (self.last,), lambda: given("sum")),
        ]


def test_a_plan_of_fused_kernels_offers_its_steps():
    """Of a fused step only what comes in and goes out is moved; what is made and read inside is not."""

    def f(a, b):
        c = ops.exp(a * 2.0) + b
        return ops.sum(ops.tanh(c) * c)

    a = np.ones(1000, np.float32)
    graph = UniversalGraph.trace(f, a, a)
    plan = graph._plans[np.ndarray, False] = Fused(graph)
    found = graph.profile(a, a, repeats=2, exact=False, peaks=PEAKS)
    assert plan.calls == ["whole", "whole", ("kernel", 2), "sum", "whole", ("kernel", 2), "sum"]
    kernel, total = found.rows
    assert (kernel.label, total.label) == ("kernel", "sum")
    assert kernel.bytes == 3 * 4000
    assert kernel.flops == sum(r.flops for r in graph.cost().rows[:-1])
    assert kernel.bound == max(kernel.flops / 2e9, 12000 / 1e9)
    assert total.bytes == 4004


def test_any_other_plan_is_one_step():
    a = np.ones(5, np.float32)
    graph = UniversalGraph.trace(lambda x: ops.exp(ops.exp(x)), a)

    class Opaque:
        def __init__(self):
            self.graph = graph

        def __call__(self, values):
            return (np.exp(np.exp(values[0])),)

    (step,) = steps_of(Opaque(), [a])
    assert step.nodes == tuple(n for n in graph.nodes if n.is_operation)
    np.testing.assert_array_equal(step.run()[0], np.exp(np.exp(a)))


@pytest.mark.skipif(unavailable() is not None, reason=f"no native plans: {unavailable()}")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_kernels_of_a_native_plan_have_their_work(dtype):
    """A fused kernel moves what it reads and writes; products of matrices and functions count as in the table."""

    def f(a, w):
        h = ops.tanh(a @ w)
        return ops.sum(h * h + 1.0)

    a, w = (np.random.default_rng(k).standard_normal(s).astype(dtype) for k, s in enumerate(((40, 30), (30, 50))))
    graph = UniversalGraph.trace(f, a, w)
    plan = graph.plan(exact=False)
    steps = steps_of(plan, [a, w])
    product, kernel = steps[0], steps[1]
    item = a.itemsize
    assert (product.flops, product.bytes) == (2 * 40 * 30 * 50, item * (1200 + 1500 + 2000))
    inside = 2000 * (10 + 1 + 1 + 1)  # tanh, product, sum with 1, and the total
    assert inside <= sum(s.flops for s in steps[1:] if s.flops) <= inside + 100
    assert item * 2000 < kernel.bytes < item * 2100
    out = [s.run() for s in steps][-1]
    np.testing.assert_allclose(out[0], f(a, w), rtol=1e-5)
    rows = graph.profile(a, w, repeats=1, exact=False, peaks=PEAKS).rows
    assert rows[0].bound == max(product.flops / (5e8 if dtype is np.float64 else 2e9), product.bytes / 1e9)


def test_the_table_shows_what_takes_longest():
    def f(x):
        for i in range(SHOWN + 5):
            x = ops.sin(x) * (i + 0.5)
        return x

    x = np.ones(10)
    found = UniversalGraph.trace(f, x).profile(x, repeats=1, peaks=PEAKS)
    lines = str(found).splitlines()
    assert len(lines) == 1 + SHOWN + 3
    shown = [float(line.split()[-8]) for line in lines[1 : 1 + SHOWN]]
    assert shown == sorted(shown, reverse=True)
    assert lines[-3].startswith(f"{2 * (SHOWN + 5) - SHOWN} others")
    assert lines[-1].endswith("bounds by 2 GFLOP/s, 1 GB/s")
    with pytest.raises(ValueError, match="at least 1, not 0"):
        UniversalGraph.trace(f, x).profile(x, repeats=0, peaks=PEAKS)


def test_peaks_are_measured():
    """Not how fast: that they are there, once, in the right order of magnitude of any machine."""
    found = measured_peaks(64, 1)
    assert 1e7 < found.double < 1e13
    assert 1e7 < found.flops < 1e14
    assert 1e7 < found.bandwidth < 1e13
    assert measured_peaks(64, 1) is found
    assert Peaks(4.0, 1.0).of(np.float64) == Peaks(4.0, 1.0).of(np.complex128) == 2.0
    assert Peaks(4.0, 1.0).of(np.complex64) == Peaks(4.0, 1.0).of(np.int64) == 4.0
