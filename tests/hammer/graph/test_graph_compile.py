"""hammer.compile: one trace for each signature, the gradients and bits of eager code, and a fall back that says why."""

import copy
import warnings

import numpy as np
import pytest
from graph_checks import same

import hammer
from autograd import (
    AutogradContext,
    DiffTensor,
    custom_jvp,
    custom_vjp,
    grad,
    hessian,
    jvp,
    nn,
    no_grad,
    ops,
    value_and_grad,
    vmap,
)
from autograd.errors import NoValueError
from autograd.optim import Adam
from hammer.graph import CompileWarning, GraphError, UniversalGraph

RNG = np.random.default_rng(0)


def x(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def test_a_trace_for_each_signature():
    f = hammer.compile(lambda a, k=2.0: a * k)
    for args in ((x(3),), (x(3),), (x(4),), (x(3).astype(np.float64),), (x(3), 3.0), (x(3), 3.0)):
        same(f(*args), f.function(*args))
    assert f.traces == 4
    assert isinstance(f(x(3)), np.ndarray) and isinstance(f(DiffTensor(x(3))), DiffTensor)


def test_the_cache_is_bounded():
    f = hammer.compile(cache=2)(lambda a: a + 1.0)
    for n in (1, 2, 3, 1, 1):
        f(x(n))
    assert f.traces == 4 and "2 signatures" in repr(f)
    with pytest.raises(ValueError, match="one signature or more"):
        hammer.compile(lambda a: a, cache=0)


def test_training_with_a_compiled_loss_is_training():
    ends = []
    for compiled in (False, True):
        rng = np.random.default_rng(1)
        model = nn.Sequential(nn.Linear(5, 7, rng=rng), nn.LayerNorm(7), nn.Tanh(), nn.Linear(7, 3, rng=rng))
        optimizer = Adam(model.parameters(), lr=0.01)

        def loss(a, y, model=model):
            return ops.mean(ops.cross_entropy(model(a), y))

        step = hammer.compile(loss, fallback=False) if compiled else loss
        for k in range(6):
            data = np.random.default_rng(k)
            a, y = data.normal(size=(8 - k % 2, 5)).astype(np.float32), data.integers(0, 3, 8 - k % 2)
            optimizer.zero_grad()
            step(a, y).backward()
            optimizer.step()
        ends.append([p.raw for p in model.parameters()])
        if compiled:
            assert step.traces == 2
    for a, b in zip(*ends, strict=True):
        same(a, b)


def test_modes_and_members_are_guarded():
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)).eval()
    f = hammer.compile(lambda a: model(a))
    a = x(4, 3)
    same(f(a), model(a))
    model[0].weight.data = model[0].weight.raw * 3
    same(f(a), model(a))
    model[0].weight = DiffTensor(x(3, 3), requires_grad=True)
    same(f(a), model(a))
    assert f.traces == 1
    twin = copy.deepcopy(model).train()
    model.train()
    for _ in range(2):
        same(f(a), twin(a))
        for one, other in zip(model.buffers(), twin.buffers(), strict=True):
            same(one, other)
    assert f.traces == 2


def test_derivatives_of_every_order():
    f = hammer.compile(lambda a: ops.sum(ops.sin(a) * ops.exp(a)))
    g = f.function
    a = np.array([0.3, -0.7])
    same(grad(f)(a), grad(g)(a))
    np.testing.assert_allclose(hessian(f)(a), hessian(g)(a), rtol=1e-12)
    np.testing.assert_allclose(jvp(f, (a,), (a,))[1], jvp(g, (a,), (a,))[1], rtol=1e-12)
    np.testing.assert_allclose(vmap(f)(np.stack([a, a])), [g(a), g(a)], rtol=1e-12)


def test_gradients_taken_inside():
    f = hammer.compile(lambda w, a: grad(lambda w: ops.sum(ops.tanh(a @ w)))(w))
    w, a = x(3, 2), x(4, 3)
    same(f(w, a), f.function(w, a))


def test_outputs_that_are_arguments_constants_or_integers():
    t = DiffTensor(x(3), requires_grad=True)
    f = hammer.compile(lambda a: {"a": a, "n": ops.argmax(a), "c": np.ones(2), "s": a * 2.0})
    out = f(t)
    assert int(out["n"].raw) == int(np.argmax(t.raw)) and out["c"].tolist() == [1.0, 1.0]
    (ops.sum(out["s"]) + ops.sum(out["a"])).backward()
    same(t.grad, np.full(3, 3, np.float32))


def test_gradients_that_lie_in_memory_in_several_ways_are_added_up_as_in_eager_code():
    """Added in place, the sum would keep the layout of the first, in which the sum over the broadcast axes adds up otherwise."""

    def loss(a, u, v, w):
        b = ops.broadcast_to(a, (30, 5, 7, 5))
        turned = lambda: ops.permute(b, axes=(3, 0, 2, 1))
        return ops.sum(b * w) + ops.sum(turned() * u) + ops.sum(turned() * v)

    arrays = x(5), x(5, 30, 7, 5), x(5, 30, 7, 5), x(30, 5, 7, 5)
    same(grad(hammer.compile(loss, fallback=False))(*arrays), grad(loss)(*arrays))


def test_without_recording_nothing_is_tracked():
    t = DiffTensor(x(3), requires_grad=True)
    f = hammer.compile(lambda a: a * 2.0)
    with no_grad():
        assert f(t).node is None
    assert f(t).node is not None


def test_precision_is_guarded():
    layer = nn.Linear(4, 2)
    f = hammer.compile(lambda a: layer(a))
    a = x(3, 4)
    assert f(a).dtype == np.float32
    with AutogradContext(precision="fp16"):
        same(f(a), layer(a))
    assert f.traces == 2


def branching(a):
    if ops.sum(a) > 0:
        return a
    return -a


def test_what_cannot_be_traced_runs_uncompiled_and_says_so_once():
    f = hammer.compile(branching)
    with pytest.warns(
        CompileWarning,
        match=r"(?s)branching cannot be compiled: .*no value.*at .*test_graph_compile.py:\d+ in branching",
    ):
        same(f(np.ones(3)), np.ones(3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        same(f(-np.ones(3)), np.ones(3))
    assert "uncompiled" in repr(f) and "no value" in f.reason
    with pytest.raises(GraphError, match="branching cannot be compiled"):
        hammer.compile(branching, fallback=False)(np.ones(3))


def test_random_masks_are_drawn_at_each_call():
    model = nn.Sequential(nn.Linear(3, 3, rng=0), nn.Dropout(0.5, rng=1), nn.BatchNorm1d(3))
    twin = copy.deepcopy(model)
    f = hammer.compile(lambda a: model(a), fallback=False)
    for k in range(3):
        a = DiffTensor(x(5, 3), requires_grad=True)
        b = DiffTensor(a.raw, requires_grad=True)
        out, expected = f(a), twin(b)
        same(out, expected)
        ops.sum(out * out).backward()
        ops.sum(expected * expected).backward()
        same(a.grad, b.grad)
        same(model[2].running_var, twin[2].running_var)
        model[1].p = twin[1].p = 0.5 - k / 10
    assert f.traces == 3
    with pytest.raises(NoValueError, match="draws no random numbers"):
        UniversalGraph.trace(model, x(5, 3))


def test_errors_of_the_function_are_its_own():
    f = hammer.compile(lambda a: [a][1])
    with pytest.raises(IndexError, match="list index"):
        f(x(2))
    with pytest.raises(TypeError, match="cannot be compared"):
        f(x(2), {1, 2})


def test_outputs_that_depend_on_nothing():
    f = hammer.compile(lambda a: np.float64(3.0) + 0.0, fallback=False)
    value, gradient = value_and_grad(lambda a: f(a) + ops.sum(a))(np.ones(2))
    assert value == 5.0
    same(gradient, np.ones(2))


@custom_vjp
def scaled(a, w):
    return a * w, ops.exp(a)


def scaled_forward(a, w):
    out = scaled.fun(a, w)
    return out, (a, w, out[1])


def scaled_backward(kept, g):
    a, w, e = kept
    return g[0] * w * 2.0 + g[1] * e, ops.sum(g[0] * a * 3.0, axis=0)


scaled.defvjp(scaled_forward, scaled_backward)


@custom_jvp
def sine(a):
    return ops.sin(a)


sine.defjvp(lambda primals, tangents: (sine(*primals), ops.cos(primals[0]) * tangents[0] * 5.0))


def test_rules_of_ones_own():
    def loss(a, w):
        y, e = scaled(a, w)
        return ops.sum(sine(y) * e)

    f = hammer.compile(loss, fallback=False)
    for _ in range(2):
        a, w = x(4, 3), x(3)
        same(f(a, w), loss(a, w))
        for one, other in zip(grad(f, (0, 1))(a, w), grad(loss, (0, 1))(a, w), strict=True):
            same(one, other)
    inner = hammer.compile(lambda a, w: grad(loss, 1)(a, w), fallback=False)
    same(grad(lambda w: ops.sum(inner(a, w)))(w), grad(lambda w: ops.sum(grad(loss, 1)(a, w)))(w))
    with pytest.raises(GraphError, match="cannot be differentiated again"):
        hessian(f, 1)(a, w)
