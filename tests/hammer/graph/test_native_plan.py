"""Plans as machine code: what is fused, where it lies in memory, that threads change nothing, and that object code is kept."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hammer
from autograd import nn, ops
from hammer.graph import CompileWarning, Spec, UniversalGraph, execute

native = pytest.importorskip("hammer.graph.native")
pytestmark = pytest.mark.skipif(native.unavailable() is not None, reason=str(native.unavailable()))

from hammer.graph.native import jit  # noqa: E402
from hammer.graph.native.program import Native, Offset  # noqa: E402
from hammer.graph.native.schedule import Nest  # noqa: E402


def graph_of(function: Callable, *args: np.ndarray) -> UniversalGraph:
    return UniversalGraph.trace(function, *(Spec(a.shape, a.dtype) for a in args)).optimize(exact=False)


def draw(*shapes: tuple[int, ...], seed: int = 0, dtype: Any = np.float32) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=s).astype(dtype) for s in shapes]


def close(got: Any, want: Any) -> bool:
    return np.allclose(got, want, rtol=2e-5, atol=2e-6)


def kinds(plan: Any) -> list[str]:
    return [step.mode if isinstance(step, Nest) else step.kind for step in plan.schedule.steps]


# ---- fusion ----

FUSED: dict[str, tuple[Callable, tuple, list[str]]] = {
    "a chain": (lambda x: ops.tanh(x * 2.0) + ops.exp(-x) / 3.0, ((7, 9),), ["map"]),
    "softmax": (lambda x: ops.softmax(x, axis=-1), ((33, 65),), ["row"]),
    "log_softmax along the first axis": (lambda x: ops.log_softmax(x, axis=0), ((33, 65),), ["column", "map", "column", "map"]),
    "layer norm": (lambda x, w, b: ops.layer_norm(x, (65,), w, b, 1e-5), ((33, 65), (65,), (65,)), ["row"]),
    "variance over everything but channels": (lambda x: ops.var(x, axis=(0, 2, 3)), ((4, 3, 6, 5),), ["row", "map"]),
    "a layer": (lambda x, w, b: ops.relu(ops.linear(x, w, b)), ((8, 5), (6, 5), (6,)), ["gemm", "map"]),
    "a product of transposes": (lambda x, y: x.T @ y.T, ((5, 8), (6, 5)), ["gemm"]),
    "a stack of products": (lambda x, y: ops.permute(x, axes=(1, 0, 2)) @ y, ((4, 3, 5), (3, 5, 6)), ["gemm"]),
    "an axis cut in two": (lambda x: ops.sum(ops.reshape(x, shape=(4, 3, 5)) ** 2, axis=1), ((12, 5),), ["column", "map"]),
    "slices": (lambda x: x[:, 1::2] * x[:, ::2] - x[:, -1:], ((5, 8),), ["map"]),
    "a triangle": (lambda x: ops.tril(x, k=1) * 2.0, ((6, 6),), ["map"]),
}  # fmt: skip


@pytest.mark.parametrize("name", FUSED)
def test_fused_as_it_should_be_and_right(name: str) -> None:
    function, shapes, steps = FUSED[name]
    given = draw(*shapes)
    plan = native.NativePlan(graph_of(function, *given))
    found = kinds(plan)
    assert [s for s in found if s != "map"] == [s for s in steps if s != "map"] and len(found) <= len(steps), found
    want = np.asarray(function(*given))
    got = plan(given)[0]
    assert got.shape == want.shape and got.dtype == want.dtype
    assert close(got, want)


def many(x: Any, w: Any, y: Any) -> Any:
    """Sums along rows, over rows, and over everything."""
    z = ops.exp(x - ops.max(x, axis=1, keepdims=True)) * (ops.abs(w) + 0.5)
    p = z / ops.sum(z, axis=1, keepdims=True)
    return (
        p * y, ops.sum(p * y, axis=0), ops.sum(p), ops.max(p * x, axis=0), ops.min(x, axis=1), ops.min(p, axis=0),
        ops.concat([ops.sum(y * p, axis=0), w]),
    )  # fmt: skip


SUMS: dict[str, tuple[Callable, tuple, list[str]]] = {
    "along and over rows": (many, ((300, 130), (130,), (300, 130)), ["row"]),
    "few rows": (many, ((20, 1300), (1300,), (20, 1300)), ["row", "column", "row", "column"]),
    "over rows first": (lambda x: (ops.sum(x * x, axis=0), x / ops.sum(x * x, axis=1, keepdims=True)), ((300, 130),), ["row"]),
    "over everything first": (lambda x: (ops.sum(x * x), x / ops.sum(x * x, axis=1, keepdims=True)), ((300, 130),), ["row"]),
    "over rows and everything": (lambda x: (ops.sum(x * 2.0), ops.max(ops.exp(x), axis=0)), ((400, 60),), ["column"]),
    "three axes": (lambda x: (ops.sum(x, axis=(0, 1)), ops.mean(x), x - ops.max(x, axis=2, keepdims=True)), ((70, 9, 40),), ["row"]),
    "rows of two axes": (lambda x: (ops.sum(x[:, :, ::2], axis=0), ops.sum(x[:, :, ::2], axis=(1, 2))), ((170, 9, 40),), ["row"]),
    "axes that cross": (lambda x: (ops.sum(x, axis=0), ops.sum(x, axis=(0, 2))), ((170, 9, 40),), ["column", "row"]),
    "what reads a sum over rows": (lambda x: x - ops.mean(x, axis=0), ((300, 130),), ["column"]),
    "long rows": (lambda x: (ops.sum(x, axis=0), ops.sum(x, axis=1)), ((70, 9000),), ["column", "row"]),
}  # fmt: skip


@pytest.mark.parametrize("name", SUMS)
def test_sums_along_rows_and_over_them_are_one_nest(name: str) -> None:
    function, shapes, modes = SUMS[name]
    given = draw(*shapes)
    graph = graph_of(function, *given)
    plan = native.NativePlan(graph)
    assert [s for s in kinds(plan) if s != "map"] == modes
    want = hammer.graph.Plan(graph)(given)
    for got, due in zip(plan(given), want, strict=True):
        np.testing.assert_allclose(got, due, rtol=5e-5, atol=2e-4)
    for threads in (1, 3):
        other = native.NativePlan(graph, threads=threads)(given)
        assert all(np.array_equal(a, b) for a, b in zip(plan(given), other, strict=True))


def test_layer_norm_and_all_its_gradients_are_one_nest() -> None:
    given = draw((256, 96), (96,), (96,), (256, 96))
    graph = UniversalGraph.trace(
        lambda x, w, b, y: ops.mean(ops.layer_norm(x, (96,), w, b, 1e-5) * y), *(Spec(a.shape) for a in given)
    ).grad(wrt=["x", "w", "b"], value=True)
    plan = native.NativePlan(graph.optimize(exact=False))
    assert [s.frame for s in plan.schedule.steps if s.mode != "map"] == [(256, 96)]
    assert plan.peak < given[0].nbytes
    for got, due in zip(plan(given), hammer.graph.Plan(graph)(given), strict=True):
        np.testing.assert_allclose(got, due, rtol=2e-4, atol=1e-8)


def test_a_plan_is_printed_as_its_steps() -> None:
    graph = graph_of(lambda x, w: ops.softmax(x @ w, axis=1), *draw((4, 3), (3, 5)))
    first, gemm, loop = str(graph.plan(exact=False)).splitlines()
    assert "bytes" in first and "1 threads" in first
    assert gemm == "  0: gemm (4, 3) × (3, 5) -> float32(4, 5)"
    assert loop.startswith("  1: loop over (4, 5): maximum over (1,), add over (1,), divide -> float32(4, 1)")


def test_a_loss_and_its_gradient_are_one_nest() -> None:
    x, target = draw((6, 10))[0], np.array([0, 9, 3, 3, 1, 7])
    graph = UniversalGraph.trace(lambda x, t: ops.sum(ops.cross_entropy(x, t)), Spec(x.shape), Spec((6,), np.int64))
    plan = native.NativePlan(graph.grad(wrt="x", value=True).optimize(exact=False))
    assert kinds(plan) == ["row", "row"] or kinds(plan)[0] == "row"
    big = [s for s in plan.schedule.steps if isinstance(s, Nest) and s.frame == (6, 10)]
    assert len(big) == 1 and len(big[0].roots) == 3
    want = hammer.graph.Plan(plan.graph)([x, target])
    assert all(map(close, plan([x, target]), want))


def test_an_index_out_of_bounds_is_refused_and_nothing_is_read() -> None:
    x = draw((4, 3))[0]
    graph = UniversalGraph.trace(lambda x, t: ops.cross_entropy(x, t), Spec(x.shape), Spec((4,), np.int64))
    plan = native.NativePlan(graph)
    for bad in (3, -1, 2**40):
        with pytest.raises(IndexError, match=f"cross_entropy: {bad} is no index of 3 elements"):
            plan([x, np.array([0, bad, 1, 2])])


CONVOLUTIONS = [
    {}, {"stride": 2}, {"padding": 1}, {"stride": (2, 1), "padding": ((1, 0), (2, 1))}, {"dilation": 2, "padding": 2}, {"padding": 3},
]  # fmt: skip


@pytest.mark.parametrize("given", CONVOLUTIONS, ids=str)
def test_convolutions(given: dict[str, Any]) -> None:
    x, w = draw((3, 4, 9, 8), (5, 4, 3, 3))

    def function(x: Any, w: Any) -> Any:
        return ops.sum(ops.conv(x, w, **given) ** 2)

    graph = UniversalGraph.trace(function, Spec(x.shape), Spec(w.shape)).grad(wrt=["x", "w"], value=True)
    plan = native.NativePlan(graph.optimize(exact=False))
    assert {"conv", "conv_transpose", "conv_weight"} <= set(kinds(plan)) and "python" not in kinds(plan)
    assert all(map(close, plan([x, w]), hammer.graph.Plan(graph)([x, w])))


VIEWED: dict[str, tuple[Callable, tuple]] = {
    "of an input": (lambda x: ops.reshape(x, shape=(3, 4, 9, 8)), (3, 4 * 9 * 8)),
    "of what is computed": (lambda x: ops.reshape(ops.tanh(x) * 2.0, shape=(3, 4, 9, 8)), (3, 4 * 9 * 8)),
    "some samples": (lambda x: x[2:5], (6, 4, 9, 8)),
    "some samples of what is computed": (lambda x: ops.reshape(ops.exp(x)[1:4], shape=(3, 4, 9, 8)), (5, 4, 72)),
    "some channels": (lambda x: x[:, 1:5], (3, 6, 9, 8)),
    "in another order": (lambda x: ops.permute(x, axes=(0, 3, 1, 2)), (3, 9, 8, 4)),
}  # fmt: skip


@pytest.mark.parametrize("name", VIEWED)
def test_convolutions_of_views(name: str) -> None:
    view, shape = VIEWED[name]
    x, w = draw(shape, (5 * 4, 9))

    def function(x: Any, w: Any) -> Any:
        y = ops.conv(view(x), ops.reshape(w, shape=(5, 4, 3, 3)), padding=1)
        return ops.sum(ops.reshape(y, shape=(3, -1)) ** 2)

    graph = UniversalGraph.trace(function, Spec(x.shape), Spec(w.shape)).grad(wrt=["x", "w"], value=True)
    plan = native.NativePlan(graph.optimize(exact=False))
    assert {"conv", "conv_transpose", "conv_weight"} <= set(kinds(plan))
    for got, want in zip(plan([x, w]), hammer.graph.Plan(graph)([x, w]), strict=True):
        np.testing.assert_allclose(got, want, rtol=2e-5, atol=1e-4)


def test_what_is_not_lowered_is_done_by_its_kernel() -> None:
    x = draw((6, 6))[0]
    x = x @ x.T + 6 * np.eye(6, dtype=np.float32)
    function = lambda x: ops.tanh(ops.inv(x * 0.5) + 1.0) @ ops.sort(x, axis=1)
    plan = native.NativePlan(graph_of(function, x))
    assert kinds(plan).count("python") == 2
    assert sum(isinstance(p, Native) for p in plan.program.parts) >= 2
    assert close(plan([x])[0], np.asarray(function(x)))


def test_other_dtypes_are_refused_and_run_by_numpy() -> None:
    graph = UniversalGraph.trace(lambda x: x * 2j, Spec((3,), np.complex64))
    with pytest.raises(native.Unlowered, match="complex"):
        native.NativePlan(graph)
    assert isinstance(execute.make_plan(graph, exact=False), hammer.graph.Plan)


# ---- memory ----


def test_an_arena_full_of_nan_changes_nothing() -> None:
    x, w, v = draw((16, 20), (20, 20), (20,))

    def function(x: Any, w: Any, v: Any) -> Any:
        h = ops.layer_norm(ops.tanh(x @ w), (20,), v, v, 1e-5)
        return ops.sum(ops.softmax(h @ w, axis=1) * h), ops.concat([h, x], axis=1)

    plan = native.NativePlan(graph_of(function, x, w, v))
    first = plan([x, w, v])
    plan._arena[:] = 0xFF
    for a, b in zip(first, plan([x, w, v]), strict=True):
        assert np.array_equal(a, b)


def test_arena_lies_between_the_bound_and_what_is_stored() -> None:
    x, w = draw((64, 32), (32, 32))

    def function(x: Any, w: Any) -> Any:
        for _ in range(6):
            x = ops.tanh(x @ w)
        return x

    plan = native.NativePlan(graph_of(function, x, w))
    stored = [t for t, place in plan.program.places.items() if isinstance(place, Offset)]
    assert plan.bound <= plan.peak < sum(t.nbytes for t in stored)
    assert plan.peak == 2 * x.nbytes  # a layer's input and output; tanh is done in place


def test_results_are_not_written_over_while_somebody_has_them() -> None:
    (x,) = draw((300, 400))
    plan = native.NativePlan(graph_of(lambda x: x * 2.0, x))
    kept = [plan([x * k])[0] for k in range(5)]
    view = plan([x * 7])[0][3:5]
    more = [plan([x * (k + 20)])[0] for k in range(3)]
    assert all(np.array_equal(y, x * k * 2) for k, y in enumerate(kept))
    assert np.array_equal(view, (x * 7 * 2)[3:5])
    assert all(np.array_equal(y, x * (k + 20) * 2) for k, y in enumerate(more))
    del kept, view, more

    def address() -> int:
        return plan([x])[0].ctypes.data  # type: ignore[no-any-return]

    first, second = address(), address()
    assert first == second  # now the memory is used again


WRITES: dict[str, Callable] = {
    "in place": lambda p, g: (p - 0.1 * g, ops.sum(g)),
    "read again afterwards": lambda p, g: (p * 0.5, ops.sum(p * g)),
    "read by another element": lambda p, g: (ops.flip(p, axis=1) + g, ops.sum(p)),
    "transposed": lambda p, g: (p.T * 1.5, p @ g),
    "the other's": lambda p, g: (g * 1.0, p + 1.0),
    "itself": lambda p, g: (p, g),
}


@pytest.mark.parametrize("name", WRITES)
def test_outputs_are_written_into_inputs(name: str) -> None:
    p, g = draw((9, 9), (9, 9))
    function = WRITES[name]
    want = [np.asarray(v) for v in function(p, g)]
    plan = native.NativePlan(graph_of(function, p, g), {0: 0})
    into = p.copy()
    got = plan([into, g])
    assert got[0] is into
    assert close(into, want[0]) and close(got[1], want[1])
    turned = np.asfortranarray(p)  # not in C order: written back
    assert plan([turned, g])[0] is turned and close(turned, want[0])


def test_an_input_that_is_written_may_be_another_array_at_each_call() -> None:
    p, g = draw((9, 9), (9, 9))
    plan = native.NativePlan(graph_of(lambda p, g: (p - 0.1 * g, ops.sum(p * g)), p, g), {0: 0})
    first, second, turned = p.copy(), p.copy() * 2, np.asfortranarray(p * 3)
    for into in (first, turned, first, second, first, turned, turned, second.copy(), first):
        want = into - np.float32(0.1) * g, np.sum(into * g)
        got = plan([into, g])
        assert got[0] is into and np.array_equal(into, want[0]) and close(got[1], want[1])


def test_two_parameters_that_change_places() -> None:
    p, q = draw((5, 7), (5, 7))
    plan = native.NativePlan(graph_of(lambda p, q: (q + 0.0, p * 1.0), p, q), {0: 0, 1: 1})
    a, b = p.copy(), q.copy()
    plan([a, b])
    assert np.array_equal(a, q) and np.array_equal(b, p)


# ---- threads ----


def big(x: Any, w: Any, v: Any) -> Any:
    h = ops.relu(ops.linear(x, w, v))
    return ops.softmax(h @ w * 0.01, axis=1), ops.sum(h, axis=0), ops.sum(ops.tanh(h)), ops.mean(h * h, axis=1)


def test_bits_do_not_depend_on_how_many_threads_take_part() -> None:
    given = draw((256, 192), (192, 192), (192,))
    graph = graph_of(big, *given)
    want = native.NativePlan(graph, threads=1)(given)
    plan = native.NativePlan(graph, threads=4)
    assert plan.program.threads == 4
    assert all(map(close, plan(given), want))
    first = [a.copy() for a in plan(given)]
    took = set()
    run = plan._team.run
    plan._team.run = lambda *args: took.add(run(*args))  # type: ignore[func-returns-value]
    try:
        for _ in range(60):
            assert all(np.array_equal(a, b) for a, b in zip(first, plan(given), strict=True))
    finally:
        plan._team.run = run
    assert took <= {1, 2, 3, 4}


def test_the_number_of_threads_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAMMER_THREADS", "two")
    with pytest.raises(ValueError, match="HAMMER_THREADS is 'two'"):
        native.NativePlan(graph_of(lambda x: x * 2.0, *draw((3,))))


def test_plans_run_in_several_threads_at_once() -> None:
    given = draw((200, 150), (150, 150), (150,))
    plans = [
        native.NativePlan(graph_of(big, *given)),
        native.NativePlan(graph_of(lambda x, w, v: ops.tanh(x @ w) + v, *given)),
    ]
    want = [[a.copy() for a in p(given)] for p in plans]
    wrong: list[int] = []

    def work(k: int) -> None:
        for _ in range(30):
            got = plans[k % 2](given)
            if not all(np.array_equal(a, b) for a, b in zip(got, want[k % 2], strict=True)):
                wrong.append(k)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    assert not wrong and not any(t.is_alive() for t in threads)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_forked_process_has_helpers_of_its_own(tmp_path: Path) -> None:
    program = """
import os, numpy as np
from autograd import ops
from hammer.graph import Spec, UniversalGraph
from hammer.graph.native import NativePlan
x = np.random.default_rng(0).normal(size=(400, 400)).astype(np.float32)
plan = NativePlan(UniversalGraph.trace(lambda x: ops.tanh(x @ x), Spec(x.shape)), threads=2)
want = plan([x])[0]
child = os.fork()
same = all(np.array_equal(plan([x])[0], want) for _ in range(20))
if child == 0:
    os._exit(0 if same else 3)
assert same and os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""
    done = subprocess.run([sys.executable, "-c", program], timeout=120, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# ---- object code ----


def test_object_code_is_kept_and_damage_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAMMER_CACHE", str(tmp_path / "cache"))
    x = draw((11, 13))[0]
    graph = graph_of(lambda x: ops.tanh(x) * 1.0625, x)
    want = native.NativePlan(graph)
    assert want._library.compiled
    assert not native.NativePlan(graph)._library.compiled
    (path,) = (tmp_path / "cache").glob("*.o")
    data = path.read_bytes()
    path.write_bytes(data[:-7] + b"damaged")
    again = native.NativePlan(graph)
    assert again._library.compiled  # what does not match its digest is never run
    assert np.array_equal(again([x])[0], want([x])[0])
    assert path.read_bytes() == data


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HAMMER_CACHE", str(tmp_path / "file" / "cache"))
    x = draw((3, 3))[0]
    assert np.array_equal(native.NativePlan(graph_of(lambda x: x * 3.0, x))([x])[0], x * 3)


def test_without_llvmlite_numpy_does_it_and_says_so_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jit, "available", lambda: False)
    monkeypatch.setattr(execute, "_told", set())
    x = draw((3, 3))[0]
    with pytest.warns(CompileWarning, match=r"hammer-grad\[compile\]"):
        plan = execute.make_plan(graph_of(lambda x: x * 3.0, x), exact=False)
    assert isinstance(plan, hammer.graph.Plan)
    execute.make_plan(graph_of(lambda x: x * 4.0, x), exact=False)  # a second warning would be an error


def test_the_training_of_a_network_is_that_of_eager_code() -> None:
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(32, 1, 8, 8)).astype(np.float32), rng.integers(0, 4, 32)

    def trained(compiled: bool) -> list[np.ndarray]:
        own = np.random.default_rng(5)
        net = nn.Sequential(
            nn.Conv2d(1, 6, 3, rng=own), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(54, 16, rng=own), nn.GELU(), nn.Linear(16, 4, rng=own)
        )  # fmt: skip
        from autograd.optim import AdamW

        optimizer = AdamW(net.parameters(), lr=1e-2)
        loss = lambda x, y: nn.CrossEntropyLoss()(net(x), y)
        step = hammer.training_step(loss, optimizer, exact=False, fallback=False)
        for _ in range(5):
            if compiled:
                step(x, y)
            else:
                optimizer.zero_grad()
                loss(x, y).backward()
                optimizer.step()
        return [np.array(p.numpy()) for p in net.parameters()]

    assert all(np.allclose(a, b, rtol=1e-3, atol=1e-4) for a, b in zip(trained(True), trained(False), strict=True))


def test_an_array_of_equal_numbers_is_not_read():
    """As the gradient of a mean begins with; -0.0 is not 0.0."""
    x = np.random.default_rng(1).standard_normal(5000).astype(np.float32)
    equal, zeros = np.full(5000, 0.25, np.float32), np.zeros(5000, np.float32)
    zeros[7] = -0.0
    plan = native.NativePlan(UniversalGraph.trace(lambda x: (x * equal, ops.copysign(x, zeros)), x))
    assert [c.shape for c in plan.lowered.constants.values()] == [(5000,)]
    found = plan([x])
    np.testing.assert_array_equal(found[0], x * equal)
    np.testing.assert_array_equal(found[1], np.copysign(x, zeros))


def test_a_row_that_numpy_computes_may_be_given_an_empty_slice_that_begins_outside_of_its_array() -> None:
    def function(x: Any) -> Any:
        return ops.cumprod(ops.flip(x[:0], axis=0), axis=0), ops.cumprod(ops.flip((x * 2.0)[:0], axis=0), axis=0)

    (x,) = draw((1,))
    for got in native.NativePlan(graph_of(function, x))([x]):
        assert got.shape == (0,)
