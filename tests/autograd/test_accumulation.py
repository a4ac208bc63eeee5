"""Accumulation: micro-batches beside the big batch, as a link and as a function transform."""

import itertools
import tracemalloc

import array_api_strict as strict
import numpy as np
import optree
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autograd import DiffTensor, grad, nn, ops, optim, value_and_grad
from autograd import gradients as gt
from autograd.sparse import RowSparse


def loss(params, x, y):
    """A small network with a mean loss."""
    hidden = ops.relu(ops.matmul(x, params["w"]) + params["b"])
    return ops.mean((ops.matmul(hidden, params["v"]) - y) ** 2)


def problem(seed, n, whole=False, dtype=np.float64):
    """Parameters and a batch; ``whole`` numbers are so small that no sum of the network's gradients rounds."""
    rng = np.random.default_rng(seed)
    draw = (
        (lambda *s: rng.integers(-3, 4, s).astype(dtype))
        if whole
        else (lambda *s: rng.standard_normal(s).astype(dtype))
    )
    return {"w": draw(5, 4), "b": draw(4), "v": draw(4, 2)}, draw(n, 5), draw(n, 2)


def gathered(grads, sizes=None, every=None, rule=None):
    """What the link lets through after these gradients."""
    rule = rule or gt.accumulate(every or len(grads))
    params = optree.tree_map(np.zeros_like, grads[0])
    state = rule.init(params)
    for i, g in enumerate(grads):
        if sizes is not None:
            gt.weigh(state, sizes[i], last=i == len(grads) - 1)
        updates, state = rule.update(g, state, params)
        if i < len(grads) - 1:
            assert all(u is None for u in optree.tree_leaves(updates, none_is_leaf=True))
    return updates, state


def parts(sizes, *arrays):
    ends = list(itertools.accumulate(sizes))
    return [[a[e - s : e] for a in arrays] for s, e in zip(sizes, ends, strict=True)]


def bits(tree):
    return [np.asarray(x).tobytes() for x in optree.tree_leaves(tree)]


# ---- how equal ----


@pytest.mark.parametrize("sizes", [[8, 8, 8, 8], [16, 8, 4, 4], [32], [1] * 32])
def test_bit_for_bit_where_no_sum_rounds(sizes):
    params, x, y = problem(0, 32, whole=True)
    big = grad(loss)(params, x, y)
    found, _ = gathered([grad(loss)(params, *part) for part in parts(sizes, x, y)], sizes)
    assert bits(found) == bits(big)
    if len(set(sizes)) == 1:
        assert bits(accumulated_of(len(sizes))(params, x, y)[1]) == bits(big)


def accumulated_of(k, **how):
    return gt.accumulated(value_and_grad(loss), k, **how)


@given(st.integers(0, 99), st.integers(1, 40))
def test_bit_for_bit_where_examples_are_added_one_by_one(seed, n):
    """NumPy sums the first axis row by row, so micro-batches of one example are the same additions."""
    rng = np.random.default_rng(seed)
    w, x = rng.standard_normal(7), rng.standard_normal((n, 7))
    total = lambda w, x: ops.sum(w * x)
    big = grad(total)(w, x) / n
    assert bits(gt.accumulated(grad(total), n)(w, x)) == bits(big)
    assert bits(gathered([grad(total)(w, x[i : i + 1]) for i in range(n)])[0]) == bits(big)


@pytest.mark.parametrize(("dtype", "bound"), [(np.float64, 4), (np.float32, 4)])
@pytest.mark.parametrize("sizes", [[8, 8, 8, 8], [10, 10, 10, 2], [13, 19], [7, 1, 20, 3, 1]])
def test_otherwise_within_a_few_ulps_of_the_sum_of_magnitudes(dtype, bound, sizes):
    for seed in range(10):
        params, x, y = problem(seed, 32, dtype=dtype)
        big = grad(loss)(params, x, y)
        one_by_one = [grad(loss)(params, *part) for part in parts([1] * 32, x, y)]
        found, _ = gathered([grad(loss)(params, *part) for part in parts(sizes, x, y)], sizes)
        for name in params:
            magnitude = sum(abs(g[name]) for g in one_by_one) / 32
            assert found[name].dtype == dtype
            assert np.all(abs(found[name] - big[name]) <= bound * np.finfo(dtype).eps * magnitude)


def test_weights_matter():
    params, x, y = problem(1, 12)
    big = grad(loss)(params, x, y)["w"]
    grads = [grad(loss)(params, *part) for part in parts([5, 5, 2], x, y)]
    np.testing.assert_allclose(gathered(grads, [5, 5, 2])[0]["w"], big, rtol=1e-12)
    assert not np.allclose(gathered(grads)[0]["w"], big, rtol=1e-3)


# ---- the link ----


def test_later_links_and_parameters_rest_until_the_group_is_full():
    w = DiffTensor(np.ones(3), requires_grad=True)
    rule = gt.chain(
        gt.accumulate(3), gt.clip_by_global_norm(1.0), gt.trace(0.9), gt.scale_by_lr(lambda t: 0.1 / (t + 1))
    )
    optimizer = optim.Optimizer([w], rule)
    reference = DiffTensor(np.ones(3), requires_grad=True)
    plain = optim.Optimizer(
        [reference], gt.chain(*(gt.clip_by_global_norm(1.0), gt.trace(0.9), gt.scale_by_lr(lambda t: 0.1 / (t + 1))))
    )
    rng = np.random.default_rng(0)
    for t in range(9):
        before, states = w.numpy().tobytes(), bits(optimizer.state[1:])
        w.grad = g = rng.standard_normal(3)
        reference.grad = g if t % 3 == 0 else reference.grad + g
        optimizer.step()
        if t % 3 == 2:
            reference.grad = reference.grad / 3.0
            plain.step()
            assert optimizer.state[3]["step"] == (t + 1) // 3
        else:
            assert (w.numpy().tobytes(), bits(optimizer.state[1:])) == (before, states)
        assert w.numpy().tobytes() == reference.numpy().tobytes()
    norm = optimizer.state[1]["norm"]
    assert norm > 0 and optimizer.lr == 0.1 / 4


def test_it_saves_and_resumes_in_the_middle_of_a_group():
    def make():
        tensors = [DiffTensor(a, requires_grad=True) for a in (np.ones((4, 2)), np.float64(1.0))]
        return tensors, optim.Optimizer(tensors, gt.chain(gt.accumulate(3), optim.adam(0.1)))

    def run(tensors, optimizer, steps):
        for t in steps:
            rng = np.random.default_rng(t)
            tensors[0].grad = (
                RowSparse([t % 4, 1], rng.standard_normal((2, 2)), (4, 2)) if t % 2 else rng.standard_normal((4, 2))
            )
            tensors[1].grad = rng.standard_normal()
            gt.weigh(optimizer.state, 1 + t)
            optimizer.step()

    for stop in range(1, 8):
        tensors, optimizer = make()
        run(tensors, optimizer, range(stop))
        saved, values = optimizer.state_dict(), [p.numpy().copy() for p in tensors]
        run(tensors, optimizer, range(stop, 9))
        others, resumed = make()
        for p, value in zip(others, values, strict=True):
            p.data = value
        resumed.load_state_dict(saved)
        run(others, resumed, range(stop, 9))
        assert bits([p.numpy() for p in tensors]) == bits([p.numpy() for p in others])
        assert bits(optimizer.state) == bits(resumed.state)


def test_missing_gradients_count_as_zero():
    rule, params = gt.accumulate(2), [np.zeros(1), np.zeros(1), np.zeros(1)]
    state = rule.init(params)
    for grads in ([np.ones(1), None, None], [np.ones(1), np.ones(1), None]):
        updates, state = rule.update(grads, state, params)
    assert updates[0] == 1.0 and updates[1] == 0.5 and updates[2] is None
    updates, state = rule.update([np.ones(1)] * 3, state, params)
    updates, state = rule.update([np.ones(1)] * 3, state, params)
    assert [u.item() for u in updates] == [1.0, 1.0, 1.0]  # the buffers were emptied


def test_a_nan_does_not_stay():
    grads = [{"w": np.array([np.nan, 1.0])}, {"w": np.ones(2)}]
    rule = gt.chain(gt.accumulate(2), gt.clip_by_global_norm(1.0, nonfinite="skip"))
    updates, state = gathered(grads, rule=rule)
    assert updates["w"] is None and state[1]["skips"] == 1
    for g in (grads[1], grads[1]):
        updates, state = rule.update(g, state, {"w": np.zeros(2)})
    np.testing.assert_allclose(updates["w"], np.ones(2) / np.sqrt(2))  # the next group is a fresh one


def test_a_skip_before_it_does_not_count():
    rule, params = gt.chain(gt.clip_by_global_norm(9.0, nonfinite="skip"), gt.accumulate(2)), [np.zeros(1)]
    state = rule.init(params)
    for g in (1.0, np.inf, 3.0):
        updates, state = rule.update([np.array([g])], state, params)
    assert updates[0].item() == 2.0


def test_half_precision_is_summed_in_single():
    g = np.float16([0.1, 3.0])
    (found,), state = gathered([[g] for _ in range(3000)])
    assert found.dtype == np.float16 and state["sums"][0].dtype == np.float32
    np.testing.assert_allclose(found, g, rtol=1e-3)


def test_other_array_libraries():
    there = strict.Device("device1")
    move = lambda x: strict.asarray(x, device=there)
    rule, a, b = gt.accumulate(2), np.arange(6.0).reshape(3, 2), np.ones((1, 2))
    state = rule.init([move(a), move(a)])
    for _ in range(2):
        sparse = RowSparse(move(np.array([2])), move(b), (3, 2))
        for _ in range(2):
            updates, state = rule.update([move(a), sparse], state, [move(a), move(a)])
        back = [
            np.from_dlpack(strict.asarray(x, device=strict.Device("CPU_DEVICE"))) for x in (updates[0], updates[1].rows)
        ]
        assert np.array_equal(back[0], a) and np.array_equal(back[1], b) and updates[0].device == there


def test_sparse_gradients_stay_sparse_unless_a_dense_one_comes():
    table, g = np.zeros((6, 2)), lambda *places: RowSparse(list(places), np.ones((len(places), 2)), (6, 2))
    rule = gt.accumulate(2)
    state = rule.init([table])
    for _ in range(2):
        _, state = rule.update([g(1, 4, 4)], state, [table])
        (u,), state = rule.update([g(1, 2)], state, [table])
        assert type(u) is RowSparse and u.indices.tolist() == [1, 2, 4] and u.rows[:, 0].tolist() == [1.0, 0.5, 1.0]
    for order in ([g(1), np.ones((6, 2))], [np.ones((6, 2)), g(1)]):
        for one in order:
            (u,), state = rule.update([one], state, [table])
        assert isinstance(u, np.ndarray) and u[:, 0].tolist() == [0.5, 1.0, 0.5, 0.5, 0.5, 0.5]
        assert not state["sums"][0].any() and not state["used"][0].any()


def test_sparse_gradients_make_no_dense_array():
    table = np.zeros((100_000, 8))
    rule = gt.chain(gt.accumulate(2), optim.adam(0.1))
    state = rule.init([table])
    g = RowSparse(np.arange(0, 1000, 7), np.ones((143, 8)), table.shape)
    tracemalloc.start(1)
    try:
        for _ in range(4):
            (u,), state = rule.update([g], state, [table])
        assert tracemalloc.get_traced_memory()[1] < table.nbytes / 20 and type(u) is RowSparse
    finally:
        tracemalloc.stop()


def test_bad_settings():
    for bad in (0, -1, 1.5, True):
        with pytest.raises(ValueError, match="every must be a whole number, at least 1"):
            gt.accumulate(bad)
    rule = gt.chain(gt.scale(1.0), optim.sgd(0.1))
    with pytest.raises(ValueError, match="no accumulator"):
        gt.weigh(rule.init([np.ones(1)]), 3)
    with pytest.raises(ValueError, match="examples must be in"):
        gt.weigh(gt.accumulate(2).init([np.ones(1)]), 0)


# ---- the function transform ----


@given(st.integers(1, 30), st.integers(1, 12), st.integers(0, 50))
def test_accumulated_is_the_function_of_the_whole_batch(n, k, seed):
    params, x, y = problem(seed, n)
    value, grads = value_and_grad(loss)(params, x, y)
    found, summed = accumulated_of(k)(params, x, y)
    assert np.isclose(found, value, rtol=1e-12)
    for name in params:
        np.testing.assert_allclose(summed[name], grads[name], rtol=1e-9, atol=1e-12)
    assert bits(accumulated_of(k)(params, x, y)) == bits((found, summed))


def test_it_is_the_link_bit_for_bit():
    params, x, y = problem(3, 24)
    grads = [grad(loss)(params, *part) for part in parts([8, 8, 8], x, y)]
    assert bits(accumulated_of(3)(params, x, y)[1]) == bits(gathered(grads, [8, 8, 8])[0]) == bits(gathered(grads)[0])


def test_how_it_splits_and_when_it_synchronizes():
    seen = []

    def function(a, batch, scale):
        seen.append((len(batch["x"]), gt.synchronizing()))
        return {"mean": ops.mean(batch["x"]) * scale, "aux": (float(np.sum(a)), None)}

    result = gt.accumulated(function, 4, argnums=1)(np.ones(3), {"x": np.arange(10.0)}, scale=2.0)
    assert [s for s, _ in seen] == [3, 3, 2, 2] and [s for _, s in seen] == [False, False, False, True]
    assert result["mean"] == 9.0 and result["aux"] == (3.0, None) and gt.synchronizing()
    with gt.no_sync():
        assert not gt.synchronizing()
    assert gt.synchronizing()
    with pytest.raises(KeyError), gt.no_sync():
        raise KeyError
    assert gt.synchronizing()


def test_it_nests_and_is_differentiated():
    params, x, y = problem(4, 12)
    once, twice = accumulated_of(6)(params, x, y), gt.accumulated(accumulated_of(3), 2)(params, x, y)
    np.testing.assert_allclose(once[1]["w"], twice[1]["w"], rtol=1e-12)
    mean_loss = gt.accumulated(loss, 3)
    np.testing.assert_allclose(grad(mean_loss)(params, x, y)["v"], grad(loss)(params, x, y)["v"], rtol=1e-12)


def test_half_precision_results_keep_their_dtype():
    values = np.full((4096, 1), 0.1, np.float16)
    result = gt.accumulated(lambda a, x: x[0, 0], 4096)(0, values)
    assert result.dtype == np.float16 and result == np.float16(0.1)


def test_bad_batches_and_results():
    run = lambda *args, function=loss, **how: gt.accumulated(function, 2, **how)(*args)
    params, x, y = problem(0, 4)
    for call, kind, message in [
        (lambda: run(params, x, y[:3]), ValueError, r"arrays of \[3, 4\] examples"),
        (lambda: run(params, x[:0], y[:0]), ValueError, "an empty batch"),
        (lambda: run(params), ValueError, "no batch to split"),
        (lambda: run(params, x, 1.0), TypeError, r"holds float 1\.0, which has no axis"),
        (
            lambda: run(params, x, function=lambda p, x: 3),
            TypeError,
            "returned int 3; results must be floating-point means",
        ),
        (lambda: run(params, np.arange(4), function=lambda p, x: [1.0] * (1 + x[0])), ValueError, "for one part"),
    ]:
        with pytest.raises(kind, match=message):
            call()


# ---- layers that look at the batch ----


def test_batch_normalisation_sees_micro_batches():
    rng = np.random.default_rng(0)
    x, weights = rng.standard_normal((8, 3)), rng.standard_normal((8, 3))

    def run(training, sizes):
        layer = nn.BatchNorm1d(3, dtype=np.float64)
        layer.weight.data, layer.bias.data = np.array([1.0, 2.0, 3.0]), np.ones(3)
        layer.train(training)
        w = DiffTensor(np.ones(3), requires_grad=True)
        grads = []
        for part, c in parts(sizes, x, weights):
            w.grad = None
            ops.mean(layer(part * w) ** 2 * c).backward()
            grads.append([w.grad])
        return gathered(grads, sizes)[0][0], layer

    (big, one), (small, two) = run(True, [8]), run(True, [4, 4])
    assert not np.allclose(big, small, rtol=1e-3)  # other statistics, another gradient
    assert int(one.num_batches_tracked.item()) == 1 and int(two.num_batches_tracked.item()) == 2
    mean = np.zeros(3)
    for part in (x[:4], x[4:]):
        mean = 0.9 * mean + 0.1 * part.mean(0)
    np.testing.assert_allclose(two.running_mean.numpy(), mean)
    np.testing.assert_allclose(run(False, [8])[0], run(False, [3, 5])[0], rtol=1e-12)  # in eval mode it is the same


def test_layer_normalisation_does_not_look_at_the_batch():
    params, x, y = problem(5, 8)
    normed = lambda p, x, y: loss(p, ops.layer_norm(x, (5,), None, None, 1e-5), y)
    big = grad(normed)(params, x, y)
    found = gt.accumulated(grad(normed), 4)(params, x, y)
    np.testing.assert_allclose(found["w"], big["w"], rtol=1e-12)
