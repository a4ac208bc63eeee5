"""Lazy gradients: the bits of the eager ones, each rule run once and only where it is needed, and never a wrong value."""

import copy
import gc
import warnings
import weakref
from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from autograd import AutogradContext, DiffTensor, checkpoint, custom_vjp, nn, no_grad, ops, optim, vmap
from autograd.gradients import clip_grad_norm_
from autograd.gradients.base import TILE
from autograd.lazy import LazyLeaf, _pending, gradients
from autograd.sparse import RowSparse
from autograd.testing.strategies import programs

ORDERS = {"forward": lambda n: range(n), "backward": lambda n: range(n - 1, -1, -1), "shuffled": lambda n: np.random.default_rng(3).permutation(n)}  # fmt: skip


def same(a, b):
    if type(a) is RowSparse or type(b) is RowSparse:
        return type(a) is type(b) and np.array_equal(a.indices, b.indices) and np.array_equal(a.rows, b.rows)
    return (a is None and b is None) or (a.dtype == b.dtype and np.array_equal(a, b, equal_nan=True))


def mlp(depth=3):
    layers = [layer for _ in range(depth) for layer in (nn.Linear(6, 6), nn.Tanh())]
    return nn.Sequential(*layers, nn.Linear(6, 2))


def data(shape=(5, 6), dtype=np.float32):
    return np.random.default_rng(1).standard_normal(shape).astype(dtype)


class Conv(nn.Module):
    """A convolutional net with a skip connection, a norm, and one weight that is used twice."""

    def __init__(self):
        super().__init__()
        self.first, self.again = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.norm, self.last = nn.BatchNorm2d(4), nn.Linear(4 * 4 * 4, 3)

    def forward(self, x):
        h = ops.relu(self.norm(self.first(x)))
        h = h + self.again(h)
        return self.last(ops.tanh(self.again(h)).reshape((len(x), -1)))


def eager(model, loss):
    model.zero_grad()
    loss.backward()
    found = [p.grad for p in model.parameters()]
    model.zero_grad()
    return found


class Rules(AutogradContext):
    """Counts calls of derivative rules, by row and the input's shape."""

    def __init__(self):
        self.calls = Counter()
        super().__init__(observer=self.see)

    def see(self, row, _inputs, params, outputs):
        if params.get("backward"):
            self.calls[row.name, tuple(outputs[0].shape)] += 1


# ---- the same bits ----


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("make", [mlp, Conv])
def test_the_bits_and_the_rule_calls_are_those_of_the_eager_pass(make, order):
    model = make()
    loss = (model(data() if make is mlp else data((3, 2, 4, 4))) ** 2).mean()
    with Rules() as plain:
        expected = eager(model, loss)
    loss.backward(lazy=True)
    params = list(model.parameters())
    with Rules() as rules:
        for i in ORDERS[order](len(params)):
            assert same(params[i].grad, expected[i])
            assert params[i].grad is params[i].grad
    assert rules.calls == plain.calls


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(programs())
def test_random_programs(program):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for order in ORDERS.values():
            leaves = [DiffTensor(a, requires_grad=True) for a in program.leaves.values()]
            outputs = [o for o in program(*leaves) if getattr(o, "node", None) is not None]
            if not outputs:
                return
            seeds = [np.cos(np.arange(o.size, dtype=o.dtype)).reshape(o.shape).astype(o.dtype) for o in outputs]
            for o, seed in zip(outputs, seeds, strict=True):
                o.backward(seed)
            expected = [x.grad for x in leaves]
            for x in leaves:
                x.grad = None
            for o, seed in zip(outputs, seeds, strict=True):  # the gradients accumulate
                o.backward(seed, lazy=True)
            for i in order(len(leaves)):
                assert same(leaves[i].grad, expected[i])


def test_several_outputs_and_hooks_inside():
    calls = []

    def doubled(g):
        calls.append(g)
        return g * 2

    a, b, c = (DiffTensor(data((3, 3), float) + np.eye(3) * k, requires_grad=True) for k in (5, 6, 7))

    def loss():
        values, vectors = ops.eigh(a + a.T)
        y = values * b
        y.register_hook(doubled)
        return (y * c).sum() + (vectors * c).sum()

    loss().backward()
    expected = [x.grad for x in (a, b, c)]
    for x in (a, b, c):
        x.grad = None
    calls.clear()
    loss().backward(lazy=True)
    assert same(b.grad, expected[1])
    assert same(a.grad, expected[0])  # the hooked gradient is taken up again, not hooked again
    assert same(c.grad, expected[2])
    assert len(calls) == 1


def test_a_loss_that_is_a_leaf_and_gradients_that_never_arrive():
    x = DiffTensor(2.0, requires_grad=True)
    x.backward(lazy=True)
    assert x.grad == 1.0
    y = DiffTensor(3.0, requires_grad=True)
    rule = custom_vjp(lambda a, b: a * b)
    rule.defvjp(lambda a, b: (a * b, ()), lambda _res, g: (g, None))
    x.grad = None
    rule(x, y).backward()
    expected = x.grad, y.grad
    x.grad = y.grad = None
    rule(x, y).backward(lazy=True)
    assert (y.grad, x.grad) == (expected[1], expected[0])


def test_a_leaf_that_two_neighbours_use():
    x, w = (DiffTensor([2.0, 3.0], requires_grad=True) for _ in range(2))
    ((x * w) * w).sum().backward(lazy=True)
    assert x.grad.tolist() == [4.0, 9.0]
    assert w.grad.tolist() == [8.0, 18.0]  # the cotangent of x * w is known by now, and must not be summed again


# ---- what is not read costs nothing ----


def test_nothing_runs_before_a_gradient_is_read_and_then_only_what_leads_to_it():
    model = mlp()
    loss = model(data()).sum()
    last = list(model.parameters())[-1]
    with Rules() as rules:
        loss.backward(lazy=True)
        assert not rules.calls
        _ = last.grad  # of the last bias: neither of the matrix products is differentiated
        assert rules.calls and not any(
            "matmul" in name or "linear" in name for name, shape in rules.calls if shape != (2,)
        )
        before = rules.calls.total()
        model.zero_grad()
        assert rules.calls.total() == before


@pytest.mark.parametrize("owner", ["model", "optimizer"])
def test_zero_grad_forgets_without_computing_and_releases_the_graph(owner):
    model = mlp()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    gc.disable()
    try:
        x = DiffTensor(data())
        middle = model(x)
        loss = middle.sum()
        node = weakref.ref(middle.node)
        with Rules() as rules:
            loss.backward(lazy=True)
            del middle, loss
            assert node() is not None
            (model if owner == "model" else optimizer).zero_grad()
        assert not rules.calls and node() is None
        assert all(p.grad is None for p in model.parameters())
    finally:
        gc.enable()


def test_the_graph_and_the_cotangents_are_released_when_all_is_read():
    model = mlp()
    gc.disable()
    try:
        loss = model(data()).sum()
        node = weakref.ref(loss.node)
        loss.backward(lazy=True)
        del loss
        first, *rest = model.parameters()
        _ = first.grad
        assert node() is not None
        for p in rest[:-1]:
            _ = p.grad
        rest[-1].grad = None
        assert node() is None
    finally:
        gc.enable()


def test_cotangents_live_as_long_as_unread_leaves_need_them():
    a, b, c = (DiffTensor(data((4,), float), requires_grad=True) for _ in range(3))
    loss = ((a * b) * c).sum()
    loss.backward(lazy=True)
    (run,) = _pending(a.node).passes
    assert not run.cotangents
    _ = a.grad
    assert {n.name for n in run.cotangents} == {"multiply"} and len(run.cotangents) == 2
    b.grad = None
    assert len(run.cotangents) == 1
    _ = c.grad
    assert not run.cotangents and not run.order


# ---- accumulation ----


@pytest.mark.parametrize("kinds", [(True, True), (True, False), (False, True), (True, False, True)])
def test_passes_accumulate_in_their_order(kinds):
    model = mlp()
    losses = [(model(data() + k) ** 2).mean() for k in range(len(kinds))]
    for loss in losses:
        loss.backward()
    expected = [p.grad for p in model.parameters()]
    model.zero_grad()
    for loss, lazy in zip(losses, kinds, strict=True):
        loss.backward(lazy=lazy)
    assert all(same(p.grad, e) for p, e in zip(model.parameters(), expected, strict=True))


def test_sparse_gradients_stay_sparse():
    table = nn.Embedding(7, 3, sparse=True)
    ids = np.array([[1, 4], [4, 6]])
    loss = (table(ids) ** 2).sum()
    expected = eager(table, loss)
    loss.backward(lazy=True)
    assert type(expected[0]) is RowSparse and same(table.weight.grad, expected[0])
    loss.backward(lazy=True)
    assert same(table.weight.grad, expected[0] + expected[0])


# ---- in-place changes ----


def change_add(w, _model):
    w.add_(np.ones(w.shape, w.dtype))


def change_data(w, _model):
    w.data = np.ones(w.shape)


def change_renew(w, _model):
    w.renew()


def change_load(_w, model):
    model.load_state_dict({k: v * 2 for k, v in model.state_dict().items()})


def change_to(_w, model):
    model.to("float64")


def change_step(w, _model):
    optim.SGD([w], lr=0.5).step([np.ones(w.shape, w.dtype)])


def change_adam(_w, model):
    optim.Adam(model.parameters(), lr=0.5).step()


@pytest.mark.parametrize(
    "change", [change_add, change_data, change_renew, change_step, change_adam, change_load, change_to]
)
def test_a_pending_gradient_is_computed_before_its_leaf_changes(change):
    model = mlp()
    loss = (model(data()) ** 2).mean()
    expected = eager(model, loss)
    loss.backward(lazy=True)
    params = list(model.parameters())
    change(params[2], model)
    assert type(params[2].node) is not LazyLeaf
    assert same(params[2].grad.astype(np.float32), expected[2])
    if change in (change_adam, change_load, change_to):
        assert all(same(p.grad.astype(np.float32), e) for p, e in zip(params, expected, strict=True))
        return
    for other in (params[0], params[-1]):
        with pytest.raises(
            ValueError, match=r"shape \(6, 6\) was changed in place after backward\(lazy=True\).*read every"
        ):
            _ = other.grad
        with pytest.raises(ValueError, match="changed in place"):
            gradients([other])
        with pytest.raises(ValueError, match="changed in place"):
            other.add_(1.0)
    values = [np.array(p.data) for p in params]
    with pytest.raises(ValueError, match="changed in place"):
        model.load_state_dict(model.state_dict())
    with pytest.raises(ValueError, match="changed in place"):
        model.to("float64")
    with pytest.raises(ValueError, match="changed in place"):
        optim.SGD(params, lr=0.5).step()
    assert all(same(p.data, v) for p, v in zip(params, values, strict=True))
    model.zero_grad()
    assert all(p.grad is None for p in params)
    (model(data()) ** 2).mean().backward(lazy=True)
    assert params[0].grad is not None


def test_a_change_after_a_part_was_read_is_seen():
    model = mlp()
    loss = model(data()).sum()
    loss.backward(lazy=True)
    params = list(model.parameters())
    _ = params[-1].grad
    params[-1].add_(1.0)
    with pytest.raises(ValueError, match="changed in place"):
        _ = params[0].grad


@pytest.mark.parametrize("size", [2, TILE + 1])  # the larger one is changed tile by tile, in place
def test_a_step_with_other_gradients_computes_the_pending_one_first(size):
    w = DiffTensor(np.arange(1.0, size + 1), requires_grad=True)
    (w * w).sum().backward(lazy=True)
    optim.SGD([w], lr=0.5).step([np.ones(size)])
    assert np.array_equal(w.data, np.arange(0.5, size)) and np.array_equal(w.grad, 2 * np.arange(1.0, size + 1))


def test_a_constant_that_is_changed_does_not_change_the_gradient():
    w, k = DiffTensor([1.0, 2.0], requires_grad=True), DiffTensor([3.0, 4.0])
    loss = (w * k).sum()
    loss.backward(lazy=True)
    k.add_(10.0)
    assert k.tolist() == [13.0, 14.0] and w.grad.tolist() == [3.0, 4.0]
    with pytest.raises(TypeError, match="same_kind"):
        DiffTensor([1, 2]).add_(0.5)


def test_a_stale_graph_is_refused_at_once():
    w = DiffTensor([1.0], requires_grad=True)
    loss = (w * w).sum()
    w.add_(1.0)
    with pytest.raises(ValueError, match="changed in place after this graph had used it"):
        loss.backward(lazy=True)
    assert w.grad is None


# ---- training ----


def test_training_is_the_same_and_reads_all_in_one_walk():
    def run(lazy):
        rng = np.random.default_rng(0)
        model = mlp()
        for p in model.parameters():
            p.data = rng.standard_normal(p.shape)
        optimizer = optim.Adam(model.parameters(), lr=0.01)
        for _ in range(3):
            optimizer.zero_grad()
            (model(data()) ** 2).mean().backward(lazy=lazy)
            norm = clip_grad_norm_(model.parameters(), 0.1)
            optimizer.step()
        return [norm, *[np.array(p.data) for p in model.parameters()]]

    for a, b in zip(run(False), run(True), strict=True):
        assert np.array_equal(a, b)


def test_checkpoints():
    model = mlp(4)
    inside = checkpoint(model)
    loss = (inside(data()) ** 2).mean()
    expected = eager(model, (model(data()) ** 2).mean())
    for order in ORDERS.values():
        loss.backward(lazy=True)
        params = list(model.parameters())
        for i in order(len(params)):
            assert same(params[i].grad, expected[i])
        model.zero_grad()
    loss.backward(lazy=True)
    with Rules() as rules:
        assert all(same(g, e) for g, e in zip(gradients(model.parameters()), expected, strict=True))
    with Rules() as plain:
        eager(model, loss)
    assert rules.calls == plain.calls
    loss.backward(lazy=True)
    params[0].add_(1.0)  # what the checkpoint would compute again has changed
    with pytest.raises(ValueError, match="changed in place"):
        _ = params[-1].grad


def test_no_grad_does_not_matter():
    w = DiffTensor([1.0, 2.0], requires_grad=True)
    loss = (w * w).sum()
    with no_grad():
        loss.backward(lazy=True)
        assert w.grad.tolist() == [2.0, 4.0]


def test_leaf_hooks_run_when_the_gradient_is_computed():
    w = DiffTensor([1.0, 2.0], requires_grad=True)
    loss = (w * w).sum()
    calls = []
    loss.backward(lazy=True)
    w.register_hook(lambda g: calls.append(1) or g * 3)
    assert not calls
    assert w.grad.tolist() == [6.0, 12.0] == w.grad.tolist()
    assert calls == [1]


def test_a_pending_leaf_is_a_leaf_everywhere():
    w = DiffTensor([1.0, 2.0], requires_grad=True)
    (w * w).sum().backward(lazy=True)
    assert type(w.node) is LazyLeaf and w.is_leaf and "requires_grad=True" in repr(w)
    module = nn.Module()
    module.w = w
    assert list(module.parameters()) == [w]
    twin = copy.deepcopy(w)
    assert twin.grad.tolist() == [2.0, 4.0] and type(twin.node) is not LazyLeaf
    (w * w).sum().backward(lazy=True)
    assert (w * 3).sum().node.parents[0].bytes_retained == 0
    assert w.grad.tolist() == [4.0, 8.0]


def test_gradients_are_read_only():
    w = DiffTensor([1.0, 2.0], requires_grad=True)
    (w * w).sum().backward(lazy=True)
    with pytest.raises(ValueError, match="read-only"):
        w.grad[0] = 1


# ---- what is refused ----


def test_refusals():
    with pytest.raises(TypeError, match=r"symbolic.*write backward\(\)"):
        DiffTensor.symbol(()).backward(lazy=True)
    with pytest.raises(ValueError, match="depend on anything tracked"):
        DiffTensor(1.0).backward(lazy=True)
    w = DiffTensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(ValueError, match=r"shape \(2,\)"):
        (w * w).backward(lazy=True)
    with pytest.raises(ValueError, match="must be equal"):
        (w * w).backward(np.ones(3), lazy=True)
    assert w.grad is None and type(w.node) is not LazyLeaf

    def batched(x):
        y = (x * w).sum()
        y.backward(lazy=True)
        return y

    with pytest.raises(TypeError, match="cannot outlive vmap"):
        vmap(batched)(np.ones((3, 2)))


def test_a_hook_cannot_read_what_its_own_pass_has_yet_to_compute():
    a, b = (DiffTensor([1.0, 2.0], requires_grad=True) for _ in range(2))
    remove = a.register_hook(lambda g: b.grad and g)
    (a * b).sum().backward(lazy=True)
    with pytest.raises(RuntimeError, match=r"a hook read a \.grad"):
        _ = a.grad
    remove()
    assert a.grad.tolist() == b.grad.tolist() == [1.0, 2.0]
