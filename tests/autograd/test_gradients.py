"""Gradient transforms: how links compose, what they leave alone, and each link against its formula."""

import math

import array_api_strict as strict
import numpy as np
import optree
import pytest

from autograd import DiffTensor
from autograd import gradients as gt
from autograd.gradients import base
from autograd.optim import adam, adamw, lookahead, muon, rmsprop, schedule_free_adamw, sgd, shampoo, soap

RECIPES = {
    "identity": gt.identity(),
    "scale": gt.scale(0.5),
    "decay": gt.add_decayed_weights(0.1),
    "trace": gt.trace(0.9),
    "nesterov": gt.trace(0.9, nesterov=True),
    "rms": gt.scale_by_rms(0.9),
    "rms_centered": gt.scale_by_rms(0.9, centered=True),
    "adam": gt.scale_by_adam(),
    "amsgrad": gt.scale_by_adam(amsgrad=True),
    "clip_norm": gt.clip_by_global_norm(0.5),
    "clip_value": gt.clip_by_value(0.3),
    "sgd": sgd(0.1, 0.9, dampening=0.1, weight_decay=0.01),
    "rmsprop": rmsprop(0.01, momentum=0.9, centered=True),
    "adamw": adamw(1e-2, amsgrad=True),
    "clipped_adam": gt.chain(gt.clip_by_global_norm(1.0), adam(1e-2, weight_decay=0.1)),
    "rms_corrected": gt.scale_by_rms(0.9, corrected=True),
    "nadam": gt.scale_by_nadam(),
    "radam": gt.scale_by_radam(0.9, 0.7),
    "adagrad": gt.scale_by_adagrad(0.1, 0.2),
    "adadelta": gt.scale_by_adadelta(eps=1e-3),
    "adamax": gt.scale_by_adamax(),
    "lion": gt.scale_by_lion(),
    "ademamix": gt.scale_by_ademamix(warmup=4),
    "lookahead": lookahead(adamw(0.1), k=2, alpha=0.7),
    "schedule_free": schedule_free_adamw(0.1, weight_decay=0.1, warmup_steps=3),
    "muon": muon(0.1),
    "shampoo": shampoo(0.1, every=2, weight_decay=0.1),
    "soap": soap(0.1, every=2, vectors=True),
    "lbfgs": gt.scale_by_lbfgs(memory=2),
    "partition": gt.partition({"a": sgd(0.1, 0.9), "b": adam(0.1)}, {"w": "a", "b": ["b", "a"]}),
}
every_recipe = pytest.mark.parametrize("name", RECIPES)
WIDER = ("shampoo", "soap", "lbfgs")
"""Links that keep float32 for 16-bit parameters."""


def tree(seed, dtype=np.float64):
    """A tree with a matrix, a vector and a number."""
    rng = np.random.default_rng(seed)
    return {
        "w": rng.standard_normal((4, 3)).astype(dtype),
        "b": [rng.standard_normal(5).astype(dtype), dtype(rng.standard_normal())],
    }


def train(rule, params, steps=6, state=None, first=0):
    state = rule.init(params) if state is None else state
    for t in range(first, first + steps):
        updates, state = rule.update(tree(100 + t, params["w"].dtype.type), state, params)
        params = gt.apply_updates(params, updates)
    return params, state


def same(a, b):
    """Equal structure and equal bits."""
    (x, one), (y, other) = optree.tree_flatten(a), optree.tree_flatten(b)
    return one == other and all(
        np.asarray(i).dtype == np.asarray(j).dtype and np.array_equal(i, j) for i, j in zip(x, y, strict=True)
    )


# ---- what holds for every transform ----


@every_recipe
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_updates_keep_structure_shape_and_dtype(name, dtype):
    rule, params = RECIPES[name], tree(0, dtype)
    state = rule.init(params)
    for t in range(3):
        updates, state = rule.update(tree(t, dtype), state, params)
    assert optree.tree_structure(updates) == optree.tree_structure(params)
    for u, p in zip(optree.tree_leaves(updates), optree.tree_leaves(params), strict=True):
        assert u.shape == p.shape and u.dtype == p.dtype
    assert isinstance(updates["b"][1], np.generic)  # what has no axes is a NumPy scalar
    for leaf in optree.tree_leaves(state):
        kept = np.float32 if name in WIDER and dtype is np.float16 else dtype
        assert type(leaf) in (int, float) or (isinstance(leaf, np.ndarray) and leaf.dtype in (dtype, kept))


@every_recipe
def test_gradients_and_parameters_are_not_modified(name):
    params, grads = tree(0), tree(1)
    for leaf in optree.tree_leaves((params, grads)):
        if isinstance(leaf, np.ndarray):
            leaf.flags.writeable = False  # a write would raise
    state = RECIPES[name].init(params)
    for _ in range(3):
        _, state = RECIPES[name].update(grads, state, params)
    assert same(params, tree(0)) and same(grads, tree(1))


@every_recipe
def test_a_leaf_without_gradient_keeps_its_state(name):
    if name in ("lbfgs", "schedule_free"):
        pytest.skip("looks at all leaves together, or at the number of all updates")
    rule, params = RECIPES[name], tree(0)
    state = rule.init(params)
    with_gap, steps = rule.init(params), 0
    for t in range(6):
        grads = tree(t)
        if name.startswith("clip"):
            grads["w"] = grads["w"] * 0  # the norm is of all leaves
        gap = {"w": None if t in (0, 3) else grads["w"], "b": grads["b"]}
        updates, with_gap = rule.update(gap, with_gap, params)
        if t in (0, 3):
            assert updates["w"] is None
        else:
            expected, state = rule.update(grads, state, params)
            steps += 1
            assert np.array_equal(updates["w"], expected["w"])
    assert steps == 4


@every_recipe
def test_tiles_change_no_bit(name, monkeypatch):
    monkeypatch.setattr(base, "TILE", 5)
    tiled = train(RECIPES[name], tree(0))
    monkeypatch.setattr(base, "TILE", 10**9)
    assert same(tiled, train(RECIPES[name], tree(0)))


@every_recipe
def test_other_array_libraries_and_devices(name):
    there = strict.Device("device1")
    params, rule = tree(0), RECIPES[name]
    move = lambda t: optree.tree_map(lambda x: strict.asarray(x, device=there), t)
    here, moved = rule.init(params), rule.init(move(params))
    for t in range(3):
        expected, here = rule.update(tree(t), here, params)
        updates, moved = rule.update(move(tree(t)), moved, move(params))
        for u, e in zip(optree.tree_leaves(updates), optree.tree_leaves(expected), strict=True):
            assert u.device == there
            back = np.from_dlpack(strict.asarray(u, device=strict.Device("CPU_DEVICE")))
            np.testing.assert_allclose(back, e, rtol=1e-13)


def test_strided_gradients_in_tiles(monkeypatch):
    monkeypatch.setattr(base, "TILE", 8)
    rule, p = adam(0.1), np.ones((6, 5))
    g = np.random.default_rng(0).standard_normal((5, 6)).T  # column by column
    updates = [rule.update([x], rule.init([p]), [p])[0][0] for x in (g, np.ascontiguousarray(g))]
    assert np.array_equal(*updates) and updates[0].flags.c_contiguous


# ---- composition ----


def test_chain_is_associative():
    a, b, c = gt.clip_by_global_norm(1.0), gt.scale_by_adam(), gt.scale_by_lr(0.1)
    results = [
        train(rule, tree(0)) for rule in (gt.chain(a, b, c), gt.chain(gt.chain(a, b), c), gt.chain(a, gt.chain(b, c)))
    ]
    assert same(results[0], results[1]) and same(results[0], results[2])
    assert len(results[0][1]) == 3


def test_a_chain_does_what_its_links_do_one_by_one():
    links = [gt.add_decayed_weights(0.1), gt.scale_by_rms(0.9), gt.trace(0.8), gt.scale_by_lr(0.1)]
    together, params = gt.chain(*links), tree(0)
    state, states = together.init(params), [link.init(params) for link in links]
    for t in range(4):
        u = tree(t)
        for i, link in enumerate(links):
            u, states[i] = link.update(u, states[i], params)
        updates, state = together.update(tree(t), state, params)
        assert same(updates, u) and same(state, tuple(states))


def test_foreign_links_see_the_tree():
    seen = []

    def freeze_biases(grads, params):
        seen.append((sorted(grads), sorted(params)))
        return {"w": grads["w"], "b": optree.tree_map(np.zeros_like, grads["b"])}

    rule, params = gt.chain(gt.scale(2.0), gt.stateless(freeze_biases), gt.scale_by_lr(0.5)), tree(0)
    updates, state = rule.update(tree(1), rule.init(params), params)
    assert seen == [(["b", "w"], ["b", "w"])]
    assert np.array_equal(updates["w"], -tree(1)["w"]) and not np.any(updates["b"][0])
    assert state[1] == ()

    counting = gt.GradientTransform(lambda p: {"n": 0}, lambda g, s, p: (g, {"n": s["n"] + 1}))
    assert train(gt.chain(counting, gt.scale(1.0)), params, steps=3)[1][0] == {"n": 3}


def test_leaves_that_need_each_other_are_not_cut(monkeypatch):
    monkeypatch.setattr(base, "TILE", 4)
    centre = gt.leafwise(lambda g, p, t, m: g - g.mean(), ("m",), elementwise=False)
    g = np.arange(20.0).reshape(10, 2)
    rule = gt.chain(gt.scale(1.0), centre, gt.scale_by_adam())
    (u,), _ = rule.update([g], rule.init([g]), [g])
    expected = (g - g.mean()) / (abs(g - g.mean()) + 1e-8)
    np.testing.assert_allclose(u, expected, rtol=1e-12)


def test_partition_treats_each_group_by_its_own_rule():
    params, rules = tree(0), {"decay": adamw(0.1, weight_decay=0.5), "plain": adamw(0.1, weight_decay=0.0)}
    got, state = train(gt.partition(rules, {"w": "decay", "b": ["plain", "plain"]}), params)
    assert np.array_equal(got["w"], train(rules["decay"], params)[0]["w"])
    assert same(got["b"], train(rules["plain"], params)[0]["b"])
    assert set(state) == {"decay", "plain"}


def test_identity_returns_the_gradients():
    g = tree(0)
    updates, state = gt.identity().update(g, gt.identity().init(g), g)
    assert all(a is b for a, b in zip(optree.tree_leaves(updates), optree.tree_leaves(g), strict=True)) and state == ()


def test_apply_updates_makes_a_new_tree_in_the_dtypes_of_the_parameters():
    params = {"w": np.float32([1, 2]), "b": None, "c": np.float32(1)}
    new = gt.apply_updates(params, {"w": np.array([0.5, 0.5]), "b": None, "c": None})
    assert new["w"].dtype == np.float32 and new["w"].tolist() == [1.5, 2.5] and params["w"].tolist() == [1, 2]
    assert new["c"] is params["c"]


# ---- the links against their formulas ----

G = np.random.default_rng(7).standard_normal((30, 4))


def run(rule, grads=G, params=None):
    """The updates for a sequence of gradients, at parameters that stay where they are."""
    p = [np.zeros(grads.shape[1:]) if params is None else params]
    state, out = rule.init(p), []
    for g in grads:
        (u,), state = rule.update([g], state, p)
        out.append(np.array(u))
    return np.array(out)


def weighted(x, beta, t):
    """Σ_s β^(t−s) x_s, the closed form of a recursion."""
    return sum(beta ** (t - s) * x[s] for s in range(t + 1))


@pytest.mark.parametrize(("dampening", "nesterov"), [(0.0, False), (0.3, False), (0.0, True)])
def test_trace_is_a_sum_of_powers(dampening, nesterov):
    scaled = G * np.where(np.arange(30) == 0, 1.0, 1.0 - dampening)[:, None]  # the first gradient is not dampened
    m = np.array([weighted(scaled, 0.9, t) for t in range(30)])
    np.testing.assert_allclose(run(gt.trace(0.9, dampening, nesterov)), G + 0.9 * m if nesterov else m, rtol=1e-12)


@pytest.mark.parametrize("centered", [False, True])
def test_scale_by_rms_divides_by_the_running_deviation(centered):
    v = np.array([0.1 * weighted(G**2, 0.9, t) for t in range(30)])
    mean = np.array([0.1 * weighted(G, 0.9, t) for t in range(30)]) if centered else 0.0
    np.testing.assert_allclose(run(gt.scale_by_rms(0.9, 1e-4, centered)), G / (np.sqrt(v - mean**2) + 1e-4), rtol=1e-11)


def test_a_constant_gradient_makes_no_nan_when_centered():
    assert np.isfinite(run(gt.scale_by_rms(0.5, centered=True), np.full((2000, 3), [0.1, 0.7, 1e3]))).all()


@pytest.mark.parametrize("amsgrad", [False, True])
def test_scale_by_adam_is_the_ratio_of_weighted_means(amsgrad):
    grads = G * np.linspace(3, 0.1, 30)[:, None]  # falling, so that the largest v is an old one
    steps = np.arange(1, 31)[:, None]
    m = np.array([0.2 * weighted(grads, 0.8, t) for t in range(30)]) / (1 - 0.8**steps)
    v = np.array([0.05 * weighted(grads**2, 0.95, t) for t in range(30)])
    v = (np.maximum.accumulate(v) if amsgrad else v) / (1 - 0.95**steps)
    np.testing.assert_allclose(
        run(gt.scale_by_adam(0.8, 0.95, 1e-3, amsgrad), grads), m / (np.sqrt(v) + 1e-3), rtol=1e-11
    )


def test_decay_scale_and_clip_by_value():
    p = np.array([1.0, -2.0, 0.0, 5.0])
    assert np.array_equal(run(gt.add_decayed_weights(0.5), params=p), G + 0.5 * p)
    assert np.array_equal(run(gt.scale(-3)), -3 * G)
    assert np.array_equal(run(gt.clip_by_value(0.25)), np.clip(G, -0.25, 0.25))


def test_clip_by_global_norm_bounds_the_norm_of_the_whole_tree():
    rule, grads = gt.clip_by_global_norm(2.0), tree(3)
    state = rule.init(grads)
    norm = np.linalg.norm(np.concatenate([np.ravel(x) for x in optree.tree_leaves(grads)]))
    updates, state = rule.update(grads, state, grads)
    assert math.isclose(state["norm"], norm, rel_tol=1e-14) and norm > 2
    assert math.isclose(gt.global_norm(optree.tree_leaves(updates)), 2.0, rel_tol=1e-14)
    np.testing.assert_allclose(updates["w"], grads["w"] * 2 / norm, rtol=1e-14)
    small = optree.tree_map(lambda x: x * 0.01, grads)
    assert same(rule.update(small, state, grads)[0], small)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("size", [3, 200_000])
def test_global_norm_neither_overflows_nor_vanishes(dtype, size):
    for magnitude in (0.0, float(np.finfo(dtype).tiny), 0.01, 1.0, float(np.finfo(dtype).max) / 2):
        x = np.full(size, magnitude, dtype)
        expected = float(x[0]) * math.sqrt(size)
        assert math.isclose(gt.global_norm([x, None]), expected, rel_tol=1e-6)
    assert math.isclose(
        gt.global_norm([strict.asarray(np.full(size, 3.0, np.float32))]), 3 * math.sqrt(size), rel_tol=1e-5
    )
    assert (
        math.isnan(gt.global_norm([np.array([1, np.nan], dtype)]))
        and gt.global_norm([np.array([1, np.inf], dtype)]) == math.inf
    )
    assert gt.global_norm([]) == 0.0


def test_a_norm_that_is_not_finite_is_reported_and_hides_nothing():
    for bad in (np.nan, np.inf):
        g = np.array([1.0, bad])
        (u,), state = gt.clip_by_global_norm(0.5).update([g], {"norm": 0.0}, [np.zeros(2)])
        assert u is g and not math.isfinite(state["norm"])


def test_the_learning_rate_is_in_the_state():
    rule, p = gt.scale_by_lr(0.5), [np.ones(2)]
    state = rule.init(p)
    assert state == {"lr": 0.5}
    state["lr"] = np.float64(0.25)  # a NumPy number must not widen float32
    (u,), state = rule.update([np.float32([1, 2])], state, p)
    assert u.dtype == np.float32 and u.tolist() == [-0.25, -0.5] and state["lr"] == 0.25


def test_a_schedule_sets_the_rate_of_the_next_update():
    rule, p = gt.scale_by_lr(lambda step: 1.0 / (step + 1)), [np.ones(1)]
    state, used = rule.init(p), []
    for t in range(5):
        assert state["lr"] == 1.0 / (t + 1) and state["step"] == t
        if t == 3:
            state["lr"] = 7.0  # holds for one update
        (u,), state = rule.update([np.ones(1)], state, p)
        used.append(-u[0])
    assert used == [1.0, 1 / 2, 1 / 3, 7.0, 1 / 5]


# ---- bad input ----


def test_trees_that_do_not_fit_are_refused():
    rule, params = adam(0.1), tree(0)
    state = rule.init(params)
    with pytest.raises(ValueError, match="differ in structure"):
        rule.update({"w": params["w"]}, state, params)
    with pytest.raises(ValueError, match=r"leaf 2 has a gradient of shape \(4, 1\) for a parameter of shape \(4, 3\)"):
        rule.update({"w": np.ones((4, 1)), "b": params["b"]}, state, params)
    with pytest.raises(ValueError, match="the chain has 2 links, the state 3"):
        rule.update(params, (*state, {}), params)
    with pytest.raises(TypeError, match=r"params holds float 1\.0"):
        rule.init([1.0])
    with pytest.raises(TypeError, match="holds DiffTensor"):
        rule.init([DiffTensor([1.0])])
    for bad in (np.array([1, 2]), np.array([1j])):
        with pytest.raises(TypeError, match="real floating-point arrays, not on"):
            rule.init([bad])
    with pytest.raises(ValueError, match="structure"):
        train(gt.chain(gt.stateless(lambda g, p: [g["w"]]), gt.scale(1.0)), params)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: gt.scale_by_lr(-0.1), ValueError, r"lr must be in \[0, inf\), not -0.1"),
        (lambda: gt.scale_by_lr("1e-3"), TypeError, "lr must be a number .* str '1e-3'"),
        (lambda: gt.scale_by_lr(lambda step: math.nan), ValueError, "schedule's lr must be"),
        (lambda: gt.scale(math.inf), ValueError, "factor"),
        (lambda: gt.trace(0.0, nesterov=True), ValueError, "nesterov needs momentum above 0"),
        (lambda: gt.trace(0.9, 0.1, nesterov=True), ValueError, "nesterov needs .* dampening 0"),
        (lambda: gt.scale_by_adam(b2=1.0), ValueError, r"b2 must be in \[0, 1\)"),
        (lambda: gt.scale_by_rms(decay=1.1), ValueError, r"decay must be in \[0, 1\]"),
        (lambda: gt.clip_by_global_norm(True), TypeError, "max_norm must be a number"),
        (lambda: gt.chain(gt.scale(1.0), "adam"), TypeError, "'adam' has not"),
        (lambda: gt.leafwise(), TypeError, "either kernel or begin"),
        (lambda: gt.partition({"a": gt.scale(1.0)}, ["a", "b"]), ValueError, "no transform for the label 'b'"),
        (
            lambda: gt.partition({"a": gt.scale(1.0)}, ["a"]).init({"w": np.ones(1)}),
            ValueError,
            "every parameter a label",
        ),
    ],
)
def test_bad_settings_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()
