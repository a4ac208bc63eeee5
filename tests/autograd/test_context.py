"""AutogradContext: recording, defaults, anomaly mode, tracking, observers; nesting and threads."""

import asyncio
import gc
import threading

import numpy as np
import pytest

from autograd import AnomalyError, AutogradContext, BackwardPass, DiffTensor, enable_grad, grad, no_grad, ops
from autograd.context import current


@pytest.fixture
def x():
    return DiffTensor([1.0, 2.0], requires_grad=True)


# ---- recording ----


def test_nothing_is_recorded_inside_no_grad(x):
    with no_grad():
        y = ops.exp(x) * x + ops.sum(x, axis=0)
        assert y.node is None
        a, b = ops.split(x, 2)
        assert a.node is None and b.node is None
    assert (x * x).node is not None


def test_blocks_nest(x):
    with no_grad():
        with enable_grad():
            assert (x * x).node is not None
            with AutogradContext(anomaly=True):  # what is not said is taken from outside
                assert (x * x).node is not None
        assert (x * x).node is None
        with AutogradContext(anomaly=True):
            assert (x * x).node is None
    assert current() is None


def test_a_block_ends_with_an_exception(x):
    with pytest.raises(ZeroDivisionError), no_grad():
        1 / 0  # noqa: B018
    assert current() is None
    assert (x * x).node is not None


def test_as_a_decorator(x):
    @no_grad()
    def double(t, depth=0):
        assert (t * 2.0).node is None
        return t * 2.0 if depth == 3 else double(t, depth + 1)  # entered again while active

    assert double(x).node is None
    assert double.__name__ == "double"
    assert (x * 2.0).node is not None


def test_one_object_is_entered_many_times_but_not_twice_at_once():
    context = no_grad()
    for _ in range(2):
        with context:
            pass
    with context, pytest.raises(RuntimeError, match="active already"), context:
        pass
    assert current() is None


def test_transforms_work_inside_no_grad():
    with no_grad():
        assert grad(lambda x: x**3)(2.0) == 12.0
        assert grad(grad(lambda x: x**3))(2.0) == 12.0


# ---- defaults ----


def test_the_default_dtype_is_for_python_numbers():
    with AutogradContext(dtype="float32"):
        assert DiffTensor(1.5).dtype == np.float32
        assert DiffTensor([1.0, 2.0]).dtype == np.float32
        assert DiffTensor([1, 2]).dtype == np.int64
        assert DiffTensor(np.array([1.0, 2.0])).dtype == np.float64
        assert DiffTensor(1.5, dtype=np.float16).dtype == np.float16
        with AutogradContext(dtype="float16"):
            assert DiffTensor(1.5).dtype == np.float16
        assert DiffTensor(1.5).dtype == np.float32
    assert DiffTensor(1.5).dtype == np.float64


def test_the_default_device():
    with AutogradContext(device="cpu"):
        assert DiffTensor([1.0]).device == "cpu"
    with AutogradContext(device="moon"), pytest.raises(ValueError, match=r'"cpu", "cuda" or "cuda:N"'):
        DiffTensor([1.0])


# ---- anomalies ----


def test_anomaly_mode_names_the_operation_and_the_line_forward(x):
    with AutogradContext(anomaly=True), np.errstate(all="ignore"):
        ops.log(x)
        with pytest.raises(AnomalyError) as caught:
            ops.log(x - 1.0)  # here
    message = str(caught.value)
    assert "log made the first NaN or infinity" in message
    assert f"{__file__}:{line_of('here')}" in message
    assert "float64(2,) with magnitudes from 0 to 1" in message


def test_anomaly_mode_describes_numbers_and_empty_arrays():
    with AutogradContext(anomaly=True), np.errstate(all="ignore"):
        with pytest.raises(AnomalyError, match=r"divide made .*inputs: 1\.0, float64\(\) with magnitudes from 0 to 0"):
            1.0 / DiffTensor(0.0)
        with (
            pytest.raises(AnomalyError, match=r"mean made .*inputs: array\(\[\], dtype=float64\)"),
            pytest.warns(RuntimeWarning),
        ):
            ops.mean(DiffTensor(np.zeros(0)))


def test_anomaly_mode_names_the_operation_and_the_line_backward(x):
    with AutogradContext(anomaly=True), np.errstate(all="ignore"):
        y = ops.power(x - 1.0, 0.5)  # there
        with pytest.raises(AnomalyError) as caught:
            y.sum().backward()
    message = str(caught.value)
    assert "the derivative of power" in message
    assert f"{__file__}:{line_of('there')}" in message


def test_anomalies_that_come_in_are_not_blamed_on_who_passes_them_on():
    bad = DiffTensor([np.nan, np.inf], requires_grad=True)
    with AutogradContext(anomaly=True):
        (bad * 2.0).sum()


def test_without_anomaly_mode_nothing_is_raised(x):
    with np.errstate(all="ignore"):
        assert np.isneginf(ops.log(x - 1.0).numpy()[0])


def line_of(mark):
    with open(__file__, encoding="utf-8") as file:
        return next(i for i, line in enumerate(file, 1) if line.rstrip().endswith(f"# {mark}"))


# ---- tracking and observing ----


def test_tracking_lists_what_is_alive(x):
    with AutogradContext(track=True) as context:
        y = ops.exp(x) * x
        z = y.sum()
        del y
        gc.collect()
        assert [n.name for n in context.nodes] == ["exp", "multiply", "sum"]
        assert [t.shape for t in context.tensors] == [()]
        assert context.ops == {"exp": 1, "multiply": 1, "sum": 1}
        assert "3 operations; alive: 3 nodes, 1 tensors" in context.summary()
        del z
        gc.collect()
        assert context.nodes == []


def test_tracking_an_outer_block_sees_the_inner_ones(x):
    with AutogradContext(track=True) as outer:
        with no_grad():
            ops.exp(x)
        ops.sin(x)
    ops.cos(x)
    assert outer.ops == {"exp": 1, "sin": 1}


def test_an_observer_sees_each_operation_with_raw_arrays(x):
    seen = []
    with AutogradContext(
        observer=lambda row, inputs, params, outputs: seen.append((row.name, inputs, params, outputs))
    ):
        y = ops.sum(x * 2.0, axis=0)
        y.backward()
    names = [s[0] for s in seen]
    assert names[:2] == ["multiply", "sum"]
    assert seen[0][1][0] is x.raw and seen[0][1][1] == 2.0
    assert seen[1][2] == {"axis": 0, "keepdims": False}
    np.testing.assert_array_equal(seen[0][3][0], [2.0, 4.0])
    backward = [s for s in seen if s[2].get("backward")]
    assert [s[0] for s in backward] == ["sum", "multiply"]
    np.testing.assert_array_equal(backward[-1][3][0], [2.0, 2.0])


# ---- threads and tasks ----


def test_threads_do_not_see_each_others_contexts(x):
    entered, checked = threading.Event(), threading.Event()
    found = []

    def other():
        entered.wait(10)
        found.append((current(), (x * x).node is not None))
        with AutogradContext(dtype="float16"):
            found.append(DiffTensor(1.0).dtype)
        checked.set()

    thread = threading.Thread(target=other)
    thread.start()
    with no_grad():
        entered.set()
        assert checked.wait(10)
        assert (x * x).node is None
    thread.join()
    assert found == [(None, True), np.float16]


def test_many_threads_differentiate_at_once():
    def work(seed, results):
        rng = np.random.default_rng(seed)
        for _ in range(20):
            w = DiffTensor(rng.normal(size=(8, 8)), requires_grad=True)
            loss = ops.sum(ops.tanh(w @ w) ** 2)
            loss.backward()
            expected = grad(lambda w: ops.sum(ops.tanh(w @ w) ** 2))(w.numpy())
            results.append(np.array_equal(w.grad, expected))

    results = []
    threads = [threading.Thread(target=work, args=(i, results)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert results == [True] * 80


def test_tasks_do_not_see_each_others_contexts(x):
    async def recording():
        await asyncio.sleep(0)
        return (x * x).node is not None

    async def not_recording():
        with no_grad():
            await asyncio.sleep(0)
            return (x * x).node is not None

    async def both():
        return await asyncio.gather(not_recording(), recording(), not_recording())

    assert asyncio.run(both()) == [False, True, False]


def test_backward_of_what_was_recorded_outside_works_inside_no_grad(x):
    y = (x * x).sum()
    with no_grad():
        y.backward()
    np.testing.assert_array_equal(x.grad, [2.0, 4.0])
    z = (x * x * x).sum()
    with no_grad():
        first = BackwardPass((z,), (x,), record=True).run()[x.node]
    assert first.node is not None
