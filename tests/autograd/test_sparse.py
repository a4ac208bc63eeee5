"""Sparse gradients: the class, the backward pass, every link, and that nothing of the table's size is ever made."""

import functools
import itertools
import math
import tracemalloc

import array_api_strict as strict
import numpy as np
import optree
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autograd import AutogradContext, DiffTensor, grad, nn, ops, optim
from autograd import gradients as gt
from autograd.sparse import RowSparse
from autograd.tape import BackwardPass

N, D = 7, 3


def rows(seed, k, dtype=np.float64):
    return np.random.default_rng(seed).standard_normal((k, D)).astype(dtype)


def dense_of(indices, values, shape=(N, D)):
    out = np.zeros(shape, values.dtype)
    np.add.at(out, indices, values)
    return out


places = st.lists(st.integers(0, N - 1), max_size=12).map(lambda x: np.array(x, np.int64))


# ---- the class ----


@given(places, places, st.integers(0, 99))
def test_arithmetic_is_that_of_the_dense_array(one, other, seed):
    a, b = RowSparse(one, rows(seed, len(one)), (N, D)), RowSparse(other, rows(seed + 1, len(other)), (N, D))
    x, y = dense_of(one, rows(seed, len(one))), dense_of(other, rows(seed + 1, len(other)))
    assert a.indices.tolist() == sorted(set(one.tolist())) and a.shape == (N, D) and a.dtype == np.float64
    close = lambda got, want: np.testing.assert_allclose(got, want, rtol=1e-13, atol=1e-13)
    close(a.dense(), x)
    close((a + b).dense(), x + y)
    close((-a * 2.0 / 4).dense(), -x / 2)
    close(y + a, x + y)
    close(a + y, x + y)
    assert isinstance(a + y, np.ndarray) and a.nbytes == len(a.indices) * (8 + 8 * D)


def test_of_numbers_and_of_more_axes():
    assert RowSparse([2, 2], [1.0, 3.0], (4,)).dense().tolist() == [0, 0, 4, 0]
    whole = RowSparse([1, 1], np.ones((2, 2, 2)), (3, 2, 2)).dense()
    assert whole[1].tolist() == [[2, 2], [2, 2]] and whole.sum() == 8
    assert RowSparse([], np.ones((0, 2)), (3, 2)).dense().tolist() == [[0, 0]] * 3


def test_what_does_not_fit_is_refused():
    ones, g = np.ones((2, D)), RowSparse([1], np.ones((1, D)), (N, D))
    for make, kind, message in [
        (lambda: RowSparse([0, N], ones, (N, D)), IndexError, "outside 0 to 6"),
        (lambda: RowSparse([-1, 0], ones, (N, D)), IndexError, "outside"),
        (lambda: RowSparse([0.0, 1.0], ones, (N, D)), TypeError, "must be integers, not float64"),
        (lambda: RowSparse([0], ones, (N, D)), ValueError, r"indices \(1,\) and rows \(2, 3\) do not fit"),
        (lambda: g + RowSparse([0], np.ones((1, D)), (N + 1, D)), ValueError, "shapes must be equal"),
        (lambda: g + 1.0, TypeError, "add an array of that shape"),
        (lambda: g + np.ones(D), TypeError, "add an array of that shape"),
        (lambda: g * np.ones(D), TypeError, r"\* ndarray of shape \(3,\): only numbers"),
        (lambda: np.asarray(g), TypeError, r"write \.dense\(\)"),
        (lambda: np.exp(g), TypeError, "RowSparse"),
    ]:
        with pytest.raises(kind, match=message):
            make()


def test_other_array_libraries():
    there = strict.Device("device1")
    move = lambda x: strict.asarray(x, device=there)
    back = lambda x: np.from_dlpack(strict.asarray(x, device=strict.Device("CPU_DEVICE")))
    i, v, w = np.array([4, 1, 4]), rows(0, 3), rows(1, N)
    here, moved = RowSparse(i, v, (N, D)), RowSparse(move(i), move(v), (N, D))
    np.testing.assert_allclose(back(moved.dense()), here.dense())
    np.testing.assert_allclose(back(moved + move(w)), w + here)
    rule = gt.chain(gt.clip_adaptively(0.1), optim.adamw(0.1))
    (one, two), params = (rule.init([p]) for p in (w, move(w))), (w.copy(), move(w))
    for _ in range(3):
        (u,), one = rule.update([here], one, [params[0]])
        (m,), two = rule.update([moved], two, [params[1]])
        assert type(m) is RowSparse and m.rows.device == there
        np.testing.assert_allclose(back(m.rows), u.rows, rtol=1e-12)


# ---- the backward pass ----


@given(st.integers(0, 99), st.sampled_from([(), (5,), (4, 3), (0,)]), st.sampled_from([np.float32, np.float64]))
def test_the_gradient_is_the_dense_one_bit_for_bit(seed, shape, dtype):
    rng = np.random.default_rng(seed)
    ids, weight, seedling = (
        rng.integers(0, N, shape),
        rows(seed, N, dtype),
        rng.standard_normal((*shape, D)).astype(dtype),
    )
    found = []
    for sparse in (False, True):
        w = DiffTensor(weight, requires_grad=True)
        for _ in range(2):  # and .grad accumulates
            ops.embedding(ids, w, sparse).backward(seedling)
        found.append(w.grad)
    assert type(found[1]) is RowSparse and found[1].dtype == dtype
    assert set(found[1].indices.tolist()) == set(np.ravel(ids).tolist())
    np.testing.assert_allclose(found[1].dense(), found[0], rtol=1e-6 if dtype == np.float32 else 1e-14)
    if not shape or shape == (5,):
        w = DiffTensor(weight, requires_grad=True)
        ops.embedding(ids, w, True).backward(seedling)
        d = DiffTensor(weight, requires_grad=True)
        ops.embedding(ids, d).backward(seedling)
        assert np.array_equal(w.grad.dense(), d.grad)


def test_used_twice_and_used_densely():
    w = DiffTensor(rows(0, N), requires_grad=True)
    (ops.sum(ops.embedding([1, 2], w, True)) + ops.sum(ops.embedding([2, 3], w, True) * 2.0)).backward()
    assert type(w.grad) is RowSparse and w.grad.rows[:, 0].tolist() == [1, 3, 2]
    w.grad = None
    uses = [
        lambda: ops.sum(ops.embedding([1, 1], w, True)),
        lambda: ops.sum(w),
        lambda: ops.sum(w * 1.0),
        lambda: ops.sum(ops.embedding([2], w, True)),
    ]
    for order in itertools.permutations(uses):  # tied to dense uses: before, after, between
        for separately in (False, True):
            w.grad = None
            losses = [use() for use in order]
            if separately:
                for loss in losses:
                    loss.backward()
            else:
                functools.reduce(lambda a, b: a + b, losses).backward()
            assert isinstance(w.grad, np.ndarray) and w.grad[:4, 0].tolist() == [2, 4, 3, 2]


def test_where_it_is_dense():
    w = DiffTensor(rows(0, N), requires_grad=True)
    loss = lambda weight: ops.sum(ops.embedding([1, 2, 2], weight, True) ** 3)
    expected = 3 * dense_of([1, 2, 2], rows(0, N)[[1, 2, 2]] ** 2)
    np.testing.assert_allclose(grad(loss)(rows(0, N)), expected)  # function transforms return arrays
    (found,) = BackwardPass((loss(w),)).run().values()
    assert isinstance(found, np.ndarray)
    loss(w * 1.0).backward()  # the weight is a result, not a leaf
    assert isinstance(w.grad, np.ndarray)
    np.testing.assert_allclose(w.grad, expected)
    second = grad(lambda v: ops.sum(grad(loss)(v)))(rows(0, N))  # recorded
    np.testing.assert_allclose(second, 6 * dense_of([1, 2, 2], rows(0, N)[[1, 2, 2]]))


def test_hooks_anomaly_mode_and_assignment():
    w = DiffTensor(rows(0, N), requires_grad=True)
    w.register_hook(lambda g: g * 2.0)
    with AutogradContext(anomaly=True):
        ops.sum(ops.embedding([1], w, True)).backward()
    assert w.grad.rows.tolist() == [[2.0] * D]
    w.grad = RowSparse([3], np.ones((1, D)), (N, D))
    assert w.grad.indices.tolist() == [3]
    with pytest.raises(ValueError, match="the gradient"):
        w.grad = RowSparse([3], np.ones((1, D)), (N + 1, D))


def test_the_layer():
    layer = nn.Embedding(N, D, sparse=True, rng=0)
    assert repr(layer) == "Embedding(7, 3, sparse=True)"
    ops.sum(layer([[1, 1], [5, 1]])).backward()
    g = layer.weight.grad
    assert type(g) is RowSparse and g.indices.tolist() == [1, 5] and g.rows[:, 0].tolist() == [3, 1]
    layer.to(np.float64)
    assert layer.weight.grad.dtype == np.float64 and layer.weight.grad.indices.dtype == np.int64
    layer.to("cpu").zero_grad()
    assert layer.weight.grad is None


# ---- links and optimizers ----

OPTIMIZERS = {
    "sgd": lambda p: optim.SGD(p, lr=0.1),
    "momentum": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "rmsprop": lambda p: optim.RMSprop(p, lr=0.1),
    "adam": lambda p: optim.Adam(p, lr=0.1),
    "adamw": lambda p: optim.AdamW(p, lr=0.1, weight_decay=0.1),
    "clipped": lambda p: optim.Optimizer(
        p, gt.chain(gt.clip_by_global_norm(0.1), gt.clip_by_value(0.05), optim.adam(0.1))
    ),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_rows_with_a_gradient_move_as_in_a_dense_step_and_others_rest(name):
    """A table of which every step uses the same rows is the small table of those rows."""
    weight, used = rows(0, N), np.array([1, 4, 5])
    big, small = (DiffTensor(w, requires_grad=True) for w in (weight, weight[used]))
    one, two = OPTIMIZERS[name]([big]), OPTIMIZERS[name]([small])
    for t in range(5):
        big.grad, small.grad = RowSparse(used, rows(t, 3), (N, D)), rows(t, 3)
        one.step()
        two.step()
    assert np.array_equal(big.numpy()[used], small.numpy())
    rest = np.setdiff1d(np.arange(N), used)
    assert np.array_equal(big.numpy()[rest], weight[rest])
    for a, b in zip(optree.tree_leaves(one.state), optree.tree_leaves(two.state), strict=True):
        assert np.array_equal(a[used], b) and not a[rest].any() if isinstance(a, np.ndarray) else a == b


def test_plain_sgd_is_the_dense_one_bit_for_bit():
    found = []
    for sparse in (False, True):
        layer = nn.Embedding(N, D, sparse=sparse, rng=0)
        optimizer = optim.SGD(layer.parameters(), lr=0.1)
        for t in range(10):
            ids = np.random.default_rng(t).integers(0, N, 4)
            optimizer.zero_grad()
            ops.sum(layer(ids) ** 2).backward()
            optimizer.step()
        found.append(layer.weight.numpy().tobytes())
    assert found[0] == found[1]


@pytest.mark.peers
def test_adam_is_sparse_adam():
    torch = pytest.importorskip("torch")
    weight = rows(0, N)
    ours = nn.Embedding(N, D, sparse=True, dtype=np.float64)
    ours.weight.data = weight
    theirs = torch.nn.Embedding.from_pretrained(torch.tensor(weight), freeze=False, sparse=True)
    one, two = (
        optim.Adam(ours.parameters(), lr=0.05, eps=1e-15),
        torch.optim.SparseAdam(theirs.parameters(), lr=0.05, eps=1e-15),
    )
    for t in range(20):
        ids = np.random.default_rng(t).integers(0, N, 3)
        one.zero_grad()
        two.zero_grad()
        ops.sum(ours(ids) ** 3).backward()
        (theirs(torch.tensor(ids)) ** 3).sum().backward()
        one.step()
        two.step()
    np.testing.assert_allclose(ours.weight.numpy(), theirs.weight.detach().numpy(), rtol=1e-9)


def test_norms_count_each_row_once():
    g = RowSparse([1, 1, 2], np.ones((3, D)), (N, D))
    for order in (1, 2, math.inf):
        assert math.isclose(gt.global_norm([g], order), np.linalg.norm(g.dense().ravel(), order))
    for rule in (gt.clip_adaptively(0.01), gt.clip_by_parameter_norm(0.1), gt.clip_by_value(0.1)):
        p = [rows(3, N)]
        (u,), _ = rule.update([g], rule.init(p), p)
        (d,), _ = rule.update([g.dense()], rule.init(p), p)
        assert type(u) is RowSparse
        np.testing.assert_allclose(u.dense(), d, rtol=1e-13)


def test_pairs_of_functions_and_whole_leaf_links():
    g, p = RowSparse([1], np.ones((1, D)), (N, D)), np.zeros((N, D))
    rule = gt.chain(gt.stateless(lambda grads, params: [x.map(np.negative) for x in grads]), gt.scale(2.0))
    updates, _ = rule.update([g], rule.init([p]), [p])
    (moved,) = gt.apply_updates([p], updates)
    assert moved[1].tolist() == [-2.0] * D and p[1, 0] == 0
    rule = gt.leafwise(lambda g, p: g, elementwise=False)
    with pytest.raises(TypeError, match="looks at a whole leaf"):
        rule.update([g], rule.init([p]), [p])


# ---- nothing of the table's size ----

BIG = 200_000


def guarded(make, steps=3):
    """The largest allocation total, in bytes, of steps of training on a large table, after a first one."""
    layer = nn.Embedding(BIG, 8, sparse=True, rng=0)
    optimizer = make(layer.parameters())

    def step(t):
        for half in (0, 1):  # two backward passes accumulate in .grad
            ops.sum(layer(np.random.default_rng(2 * t + half).integers(0, BIG, 64)) ** 2).backward()
        optimizer.step()
        optimizer.zero_grad()

    step(0)
    tracemalloc.start(1)
    try:
        start = tracemalloc.get_traced_memory()[0]
        for t in range(steps):
            step(t)
        return tracemalloc.get_traced_memory()[1] - start
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_no_dense_array_is_made(name):
    assert guarded(OPTIMIZERS[name]) < BIG * 8 * 4 / 20


def test_the_guard_notices_a_dense_array():
    densely = gt.stateless(lambda grads, params: [g.dense() for g in grads])
    assert guarded(lambda p: optim.Optimizer(p, gt.chain(densely, optim.sgd(0.1)))) > BIG * 8 * 4
