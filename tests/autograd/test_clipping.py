"""Clipping: each limit against its formula, and what a norm that is not finite does to the whole chain."""

import math

import array_api_strict as strict
import numpy as np
import optree
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autograd import DiffTensor, ops, optim
from autograd import gradients as gt

CLIPS = {
    "global_l2": lambda **how: gt.clip_by_global_norm(0.5, **how),
    "global_l1": lambda **how: gt.clip_by_global_norm(0.5, 1, **how),
    "global_inf": lambda **how: gt.clip_by_global_norm(0.5, math.inf, **how),
    "parameter": lambda **how: gt.clip_by_parameter_norm(0.5, **how),
    "value": lambda **how: gt.clip_by_value(0.5, **how),
    "adaptive": lambda **how: gt.clip_adaptively(0.1, **how),
}
every_clip = pytest.mark.parametrize("name", CLIPS)


def tree(seed, dtype=np.float64):
    rng = np.random.default_rng(seed)
    return [
        rng.standard_normal((4, 3)).astype(dtype),
        rng.standard_normal(5).astype(dtype),
        dtype(rng.standard_normal()),
    ]


def flat(arrays):
    return np.concatenate([np.ravel(a) for a in arrays])


def bits(state):
    return [np.asarray(leaf).tobytes() for leaf in optree.tree_leaves(state)]


# ---- the limits ----


@pytest.mark.parametrize("order", [1, 2, math.inf])
@given(scale=st.floats(0.01, 100), seed=st.integers(0, 99))
def test_global_norms(order, scale, seed):
    grads = [g * scale for g in tree(seed)]
    norm = np.linalg.norm(flat(grads), order)
    rule = gt.clip_by_global_norm(2.0, order)
    updates, state = rule.update([*grads, None], rule.init([*grads, np.ones(2)]), [*grads, np.ones(2)])
    assert math.isclose(state["norm"], norm, rel_tol=1e-12)
    assert updates[3] is None
    np.testing.assert_allclose(flat(updates[:3]), flat(grads) * min(1.0, 2.0 / norm), rtol=1e-12)


def test_each_parameter_by_its_own_norm():
    grads = [np.array([3.0, 4.0]), None, np.array([0.3, 0.4])]
    rule, params = gt.clip_by_parameter_norm(1.0), [np.zeros(2)] * 3
    updates, state = rule.update(grads, rule.init(params), params)
    np.testing.assert_allclose(updates[0], [0.6, 0.8])
    assert updates[1] is None and updates[2] is grads[2]
    np.testing.assert_allclose(state["norm"], [5.0, 0.0, 0.5])


def test_values_are_bounded_and_the_largest_reported():
    rule, g = gt.clip_by_value(1.0), [np.array([-3.0, 0.5, np.inf])]
    (u,), state = rule.update(g, rule.init(g), g)
    assert u.tolist() == [-1.0, 0.5, 1.0] and state["norm"] == math.inf


@pytest.mark.parametrize("shape", [(), (6,), (4, 6), (3, 2, 2, 2)])
def test_adaptive_clipping_is_by_unit(shape):
    rng = np.random.default_rng(1)
    p, g = rng.standard_normal(shape), rng.standard_normal(shape) * 3
    if len(shape) > 1:
        p[0], g[1] = 0.0, g[1] * 1e-6  # a unit that starts at zero, and one that needs no limit
    rule = gt.clip_adaptively(0.5, eps=1e-2)
    (u,), state = rule.update([g], rule.init([p]), [p])
    units = lambda x: np.asarray(x).reshape(shape[0] if len(shape) > 1 else 1, -1)
    for got, before, weight in zip(units(u), units(g), units(p), strict=True):
        norm, bound = np.linalg.norm(before), 0.5 * max(np.linalg.norm(weight), 1e-2)
        np.testing.assert_allclose(got, before * min(1.0, bound / norm), rtol=1e-12)
    assert math.isclose(state["norm"][0], np.linalg.norm(g), rel_tol=1e-12)


def test_adaptive_clipping_of_extreme_units():
    g = np.array([[1e30, 1e30], [np.inf, 1.0], [1e-30, 0.0], [0.0, 0.0]], np.float32)
    p = np.full_like(g, 3.0)
    rule = gt.clip_adaptively(0.1)
    (u,), _ = rule.update([g], rule.init([p]), [p])
    np.testing.assert_allclose(u[0], np.float32([0.3, 0.3]), rtol=1e-6)
    assert bits(u[1:]) == bits(g[1:])  # what is not finite is not hidden
    empty = np.zeros((3, 0), np.float32)
    assert rule.update([empty], rule.init([empty]), [empty])[0][0].shape == (3, 0)


@pytest.mark.peers
def test_norms_beside_pytorch():
    torch = pytest.importorskip("torch")
    arrays = tree(5, np.float32)[:2]
    for order in (1.0, 2.0, math.inf):
        theirs = [torch.tensor(a, requires_grad=True) for a in arrays]
        ours = [DiffTensor(a, requires_grad=True) for a in arrays]
        for a, t, p in zip(arrays, theirs, ours, strict=True):
            t.grad, p.grad = torch.tensor(a * 2), a * 2
        norm = torch.nn.utils.clip_grad_norm_(theirs, 0.7, order)
        assert math.isclose(gt.clip_grad_norm_(ours, 0.7, order), float(norm), rel_tol=1e-6)
        for t, p in zip(theirs, ours, strict=True):
            np.testing.assert_allclose(p.grad, t.grad.numpy(), rtol=1e-5)  # theirs divides by norm + 1e-6


@every_clip
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_shape_dtype_and_library_are_kept(name, dtype):
    there = strict.Device("device1")
    rule, grads, params = CLIPS[name](), tree(1, dtype), tree(0, dtype)
    updates, _ = rule.update(grads, rule.init(params), params)
    for u, g in zip(updates, grads, strict=True):
        assert u.dtype == g.dtype and u.shape == g.shape and isinstance(u, np.ndarray | np.generic)
    assert bits(updates) != bits(grads)
    if dtype is not np.float16:  # the standard has no float16
        move = lambda leaves: [strict.asarray(x, device=there) for x in leaves]
        moved, _ = rule.update(move(grads), rule.init(move(params)), move(params))
        for u, m in zip(updates, moved, strict=True):
            back = np.from_dlpack(strict.asarray(m, device=strict.Device("CPU_DEVICE")))
            assert m.device == there
            np.testing.assert_allclose(back, u, rtol=1e-6 if dtype is np.float32 else 1e-13)


# ---- norms that are not finite ----


@every_clip
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_skipped_step_changes_neither_parameters_nor_any_state(name, bad):
    clip = CLIPS[name](nonfinite="skip")
    rate = lambda step: 0.1 / (1 + step)
    for links in ([clip, gt.trace(0.9), gt.scale_by_adam(), gt.scale_by_lr(rate)],
                  [gt.trace(0.9), clip, gt.scale_by_lr(rate)],
                  [gt.scale_by_adam(), gt.scale_by_lr(rate), clip]):  # fmt: skip
        place = links.index(clip)
        params = [DiffTensor(a, requires_grad=True) for a in tree(0)]
        optimizer = optim.Optimizer(params, gt.chain(*links))
        skips = 0
        for t in range(6):
            for p, g in zip(params, tree(10 + t), strict=True):
                p.grad = g
            if t in (0, 3):
                params[1].grad = np.array([1.0, bad, 1.0, 1.0, 1.0])
                skips += 1
            before = [p.numpy().copy() for p in params], bits([s for i, s in enumerate(optimizer.state) if i != place])
            with np.errstate(invalid="ignore"):  # Adam before the clip divides infinity by infinity
                optimizer.step()
            after = [p.numpy().copy() for p in params], bits([s for i, s in enumerate(optimizer.state) if i != place])
            unchanged = bits(before[0]) == bits(after[0]) and before[1] == after[1]
            assert unchanged == (t in (0, 3)), (place, t)
            assert optimizer.state[place]["skips"] == skips


def test_a_skip_is_as_if_the_step_had_not_been():
    def run(steps):
        rule, params = (
            gt.chain(gt.trace(0.9), gt.clip_by_global_norm(0.5, nonfinite="skip"), gt.scale_by_adam()),
            tree(0),
        )
        state = rule.init(params)
        for t in steps:
            grads = tree(t) if t >= 0 else [g * np.nan for g in tree(1)]
            updates, state = rule.update(grads, state, params)
            if t >= 0:
                params = gt.apply_updates(params, updates)
            else:
                assert updates == [None] * 3
        return params

    assert bits(run([1, -1, 2, -1, -1, 3])) == bits(run([1, 2, 3]))


def test_the_other_policies():
    g = [np.ones(2), np.array([1.0, np.nan])]
    for make in CLIPS.values():
        rule = make(nonfinite="keep")
        updates, _ = rule.update(g, rule.init(g), g)
        assert np.isnan(updates[1][1])
        rule = make(nonfinite="raise")
        with pytest.raises(FloatingPointError, match=r"leaf 1, of shape \(2,\) \(1 of 2 leaves\)"):
            rule.update(g, rule.init(g), g)
        with pytest.raises(ValueError, match="nonfinite must be one of 'keep', 'skip', 'raise', not 'drop'"):
            make(nonfinite="drop")
    with pytest.raises(ValueError, match=r"norm_type must be 1, 2 or math\.inf, not 3"):
        gt.clip_by_global_norm(1.0, 3)


def test_a_group_skips_by_itself():
    clip = gt.chain(gt.clip_by_global_norm(1.0, nonfinite="skip"), gt.trace(0.9))
    rule, params = gt.partition({"a": clip, "b": clip}, ["a", "b"]), [np.ones(2), np.ones(2)]
    state = rule.init(params)
    updates, state = rule.update([np.full(2, np.inf), np.ones(2)], state, params)
    assert updates[0] is None and updates[1] is not None
    assert [state[k][0]["skips"] for k in "ab"] == [1, 0] and [state[k][1]["t"] for k in "ab"] == [[0], [1]]


def test_a_pair_of_functions_ends_the_step_too():
    nothing = gt.stateless(lambda grads, params: [None for _ in grads])
    rule, params = gt.chain(gt.trace(0.9), nothing, gt.scale_by_lr(lambda step: 1.0)), [np.ones(2)]
    updates, state = rule.update([np.ones(2)], rule.init(params), params)
    assert updates == [None] and state[2]["step"] == 0 and state[0]["t"] == [1]  # it does not say that it may skip


# ---- the function ----


def test_clip_grad_norm_scales_gradients_in_place_and_returns_the_norm():
    w, b, unused = (DiffTensor(a, requires_grad=True) for a in ([3.0, 4.0], [0.0], [1.0]))
    (ops.sum(w * w) * 0.5 + ops.sum(b)).backward()
    norm = gt.clip_grad_norm_([w, b, unused], 1.0)
    assert math.isclose(norm, math.sqrt(26)) and unused.grad is None
    np.testing.assert_allclose([*w.grad, *b.grad], np.array([3.0, 4.0, 1.0]) / math.sqrt(26))
    assert gt.clip_grad_norm_(w, 100.0) < 1.0 and gt.clip_grad_norm_([unused], 1.0) == 0.0
    w.grad = np.array([np.nan, 1.0])
    with pytest.raises(FloatingPointError, match="leaf 0"):
        gt.clip_grad_norm_([w], 1.0, nonfinite="raise")
    assert math.isnan(gt.clip_grad_norm_([w, b], 1.0)) and w.grad is not None
    assert math.isnan(gt.clip_grad_norm_([w, b], 1.0, nonfinite="skip")) and w.grad is None and b.grad is None
