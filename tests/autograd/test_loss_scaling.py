"""Dynamic loss scaling: what it saves, when it skips, how it adapts, and that its state saves and resumes."""

import math

import numpy as np
import optree
import pytest

from autograd import DiffTensor, autocast, nn, ops
from autograd.gradients import (
    accumulate,
    chain,
    clip_by_global_norm,
    loss_scale,
    partition,
    scale,
    scale_by_adam,
    scale_by_lr,
    scale_loss,
    trace,
    unscale,
)
from autograd.optim import Optimizer, adamw


def params():
    return {"w": np.array([1.0, 2.0], np.float32), "b": np.array([3.0], np.float32)}


def grads(value=1.0, b=1.0):
    return {"w": np.array([value, 2.0], np.float32), "b": np.array([b], np.float32)}


def snapshot(tree):
    return optree.tree_map(lambda x: x.copy() if isinstance(x, np.ndarray) else x, tree)


def equal(a, b):
    return all(np.array_equal(x, y) for x, y in zip(optree.tree_leaves(a), optree.tree_leaves(b), strict=True))


def test_small_gradients_are_lost_in_float16_without_scaling_and_kept_with_it():
    w = DiffTensor(np.full((8, 8), 0.5, np.float32), requires_grad=True)
    x = DiffTensor(np.full((4, 8), 1e-3, np.float32))

    def gradient(state):
        w.grad = None
        with autocast("fp16"):
            loss = ops.mean(ops.linear(x, w, DiffTensor(np.zeros(8, np.float32)))) * 1e-4
        scale_loss(loss, state).backward()
        return w.grad

    exact = 1e-4 * 1e-3 / 8
    assert exact < 2.0**-24 / 2 and not gradient(()).any()
    rule = chain(unscale(2.0**16))
    state = rule.init({"w": w.raw})
    updates, state = rule.update({"w": gradient(state)}, state, {"w": w.raw})
    np.testing.assert_allclose(updates["w"], exact, rtol=5e-3)
    assert updates["w"].dtype == np.float32


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
def test_overflow_backs_off_and_leaves_parameters_and_states_untouched(bad):
    rule = chain(trace(0.9), unscale(1024.0), clip_by_global_norm(1.0), scale_by_adam(), scale_by_lr(0.1))
    p = params()
    state = rule.init(p)
    _, state = rule.update(grads(), state, p)
    before = snapshot(state)
    updates, state = rule.update(grads(b=bad), state, p)
    assert optree.tree_leaves(updates, none_is_leaf=True) == [None, None]
    assert (state[1]["loss_scale"], state[1]["good_steps"], state[1]["skips"]) == (512.0, 0, 1)
    assert equal([s for i, s in enumerate(state) if i != 1], [s for i, s in enumerate(before) if i != 1])


def test_an_optimizer_skips_the_step():
    w = DiffTensor(np.ones(3, np.float32), requires_grad=True)
    optimizer = Optimizer([w], chain(unscale(8.0), adamw(0.1)))
    w.grad = np.array([1.0, np.inf, 1.0], np.float32)
    optimizer.step()
    assert np.array_equal(w.numpy(), np.ones(3)) and loss_scale(optimizer.state) == 4.0
    w.grad = np.full(3, 4.0, np.float32)
    optimizer.step()
    assert not np.array_equal(w.numpy(), np.ones(3)) and optimizer.state[0]["good_steps"] == 1


def test_the_scale_grows_after_so_many_good_steps_in_a_row():
    rule = unscale(4.0, growth=2.0, backoff=0.5, interval=3)
    p, seen = params(), []
    state = rule.init(p)
    for b in (1, 1, 1, 1, math.inf, 1, 1, 1, 1):
        _, state = rule.update(grads(b=b), state, p)
        seen.append(state["loss_scale"])
    assert seen == [4, 4, 8, 8, 4, 4, 4, 8, 8]


def test_gradients_are_divided_by_the_scale_that_the_loss_had_also_when_it_grows():
    rule = unscale(4.0, interval=1)
    p = params()
    state = rule.init(p)
    for factor in (4.0, 8.0, 16.0):
        assert loss_scale(state) == factor
        updates, state = rule.update(grads(factor), state, p)
        assert updates["w"][0] == 1.0


def test_clipping_after_it_sees_true_gradients():
    rule = chain(unscale(2.0**10), clip_by_global_norm(1.0))
    p = params()
    given = {"w": np.array([3.0, 0.0], np.float32) * 1024, "b": np.array([4.0], np.float32) * 1024}
    updates, state = rule.update(given, rule.init(p), p)
    assert state[1]["norm"] == 5.0
    np.testing.assert_allclose(updates["w"], [0.6, 0.0], rtol=1e-6)


def test_a_finite_gradient_whose_sum_overflows_is_no_overflow():
    rule = unscale(2.0)
    p = params()
    updates, state = rule.update({"w": np.full(2, 3e38, np.float32), "b": p["b"]}, rule.init(p), p)
    assert state["skips"] == 0 and np.isfinite(updates["w"]).all()


def test_missing_gradients_stay_missing():
    rule = unscale(2.0)
    p = params()
    updates, _ = rule.update({"w": None, "b": p["b"]}, rule.init(p), p)
    assert updates["w"] is None and updates["b"][0] == 1.5


def test_it_goes_before_accumulation():
    rule = chain(unscale(4.0), accumulate(2), scale(1.0))
    p = params()
    state = rule.init(p)
    _, state = rule.update(grads(4.0), state, p)
    updates, state = rule.update(grads(12.0), state, p)
    assert updates["w"][0] == 2.0


def test_a_scale_that_never_helps_ends_at_a_floor():
    rule = unscale(2.0**-120, backoff=0.25)
    p = params()
    state = rule.init(p)
    for _ in range(10):
        _, state = rule.update(grads(math.nan), state, p)
    assert state["loss_scale"] == 2.0**-126 and state["skips"] == 10


def train(steps, resume_at=None):
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((64, 16)).astype(np.float32), rng.integers(0, 4, 64)

    def make():
        model = nn.Sequential(nn.Linear(16, 32, rng=np.random.default_rng(1)), nn.ReLU(), nn.Linear(32, 4, rng=np.random.default_rng(2)))  # fmt: skip
        return model, Optimizer(model.parameters(), chain(unscale(2.0**30, interval=5), clip_by_global_norm(1.0), adamw(1e-2)))  # fmt: skip

    model, optimizer = make()
    for i in range(steps):
        if i == resume_at:
            saved = model.state_dict(), optimizer.state_dict()
            model, optimizer = make()
            model.load_state_dict(saved[0])
            optimizer.load_state_dict(saved[1])
        optimizer.zero_grad()
        with autocast("fp16"):
            loss = nn.CrossEntropyLoss()(model(DiffTensor(x)), DiffTensor(y))
        scale_loss(loss, optimizer.state).backward()
        optimizer.step()
    return float(loss), model, optimizer


def test_training_finds_its_scale_and_resumes_bit_for_bit():
    loss, model, optimizer = train(60)
    state = optimizer.state[0]
    assert state["skips"] > 0 and 2.0**8 < state["loss_scale"] < 2.0**30 and loss < 1.0
    again, other, resumed = train(60, resume_at=23)
    assert again == loss and resumed.state[0] == state
    assert all(np.array_equal(a.raw, b.raw) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_a_loss_of_half_precision_is_scaled_in_float32():
    state = unscale(2.0**16).init(params())
    assert float(scale_loss(DiffTensor(np.float16(100.0)), state)) == 100.0 * 2**16


def test_where_the_scale_is_looked_for():
    assert loss_scale(chain(scale(1.0), clip_by_global_norm(1.0)).init(params())) == 1.0
    loss = DiffTensor(np.float32(2.0))
    assert scale_loss(loss, ()) is loss
    groups = partition({"a": unscale(2.0), "b": unscale(4.0)}, {"w": "a", "b": "b"})
    with pytest.raises(ValueError, match=r"\[2.0, 4.0\]; a loss has one scale"):
        loss_scale(groups.init(params()))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"init_scale": 0.0}, r"init_scale must be in \(0, inf\)"),
        ({"growth": 0.5}, r"growth must be in \[1, inf\)"),
        ({"backoff": 1.5}, r"backoff must be in \(0, 1\]"),
        ({"interval": 0}, "interval must be an integer of at least 1, not 0"),
    ],
)
def test_settings_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        unscale(**options)
