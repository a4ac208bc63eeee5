"""Robust aggregation: what the rules are, what attacks do to them, and that nothing but finite numbers gets through."""

import functools

import numpy as np
import pytest

from autograd import nn, optim
from autograd.gradients import chain, scale_by_lr
from hammer import agents
from hammer.agents.attacks import Alie, Broken, InnerProduct, Noise, SignFlip, Stale, flipped
from hammer.agents.rules import (
    RULES,
    Bucketing,
    CenteredClipping,
    CoordinateMedian,
    GeometricMedian,
    Krum,
    Mean,
    NearestNeighborMixing,
    TrimmedMean,
    distances,
)

ROBUST = [name for name in RULES if name != "mean"]


def rows(n=9, d=4, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d))


# ---- what the rules are ----


@pytest.mark.parametrize("name", RULES)
def test_rules_commute_with_permutations_shifts_and_scales(name):
    x, center = rows(), np.zeros(4)
    rule = RULES[name](2)
    expected = rule(x, center)
    np.testing.assert_allclose(rule(x[::-1], center), expected, rtol=1e-12)
    np.testing.assert_allclose(
        rule(3.0 * x, center), 3.0 * expected, rtol=1e-4
    )  # the smoothing of the geometric median is absolute
    shift = np.array([5.0, -1.0, 0.0, 2.0])
    np.testing.assert_allclose(rule(x + shift, center + shift), expected + shift, rtol=1e-9)
    assert rule(x.astype(np.float32), center.astype(np.float32)).dtype == np.float32


@pytest.mark.parametrize("name", RULES)
def test_rules_agree_where_all_rows_do(name):
    x = np.tile([1.0, -2.0], (9, 1))
    np.testing.assert_allclose(RULES[name](2)(x, np.zeros(2)), [1.0, -2.0], rtol=1e-12)


@pytest.mark.parametrize("name", ROBUST)
def test_two_rows_at_infinity_do_not_matter_much(name):
    x, center = rows(), np.zeros(4)
    x[[1, 5]] = 1e12
    assert np.linalg.norm(RULES[name](2)(x, center)) < 3.0
    assert np.linalg.norm(Mean()(x, center)) > 1e11


def test_krum_takes_the_most_central_rows():
    x = np.array([[0.0], [0.1], [0.2], [0.3], [5.0], [9.0], [20.0]])
    center = np.zeros(1)
    scores = []
    for i in range(7):
        squares = sorted((x[i, 0] - x[j, 0]) ** 2 for j in range(7) if j != i)
        scores.append(sum(squares[: 7 - 2 - 2]))
    best = np.argsort(scores, kind="stable")
    assert Krum(2)(x, center) == x[best[0]] and Krum(2, 3)(x, center) == pytest.approx(x[best[:3]].mean())
    np.testing.assert_allclose(distances(x), np.abs(x - x.T))


def test_the_trimmed_mean_is_sorted_and_cut():
    x = rows(7)
    np.testing.assert_allclose(TrimmedMean(2)(x, np.zeros(4)), np.sort(x, axis=0)[2:5].mean(axis=0))
    np.testing.assert_allclose(TrimmedMean(2)(x[:6], np.zeros(4), 1), np.sort(x[:6], axis=0)[1:5].mean(axis=0))


def test_the_geometric_median_has_the_least_sum_of_distances():
    x = rows(9, 3)
    total = lambda v: np.linalg.norm(x - v, axis=1).sum()
    for start in ("median", "mean"):
        v = GeometricMedian(200, start=start)(x, np.zeros(3))
        assert all(total(v) <= total(v + 1e-3 * s) for s in np.random.default_rng(1).standard_normal((50, 3)))


def test_centered_clipping_follows_the_formula():
    x, v = rows(), np.full(4, 0.5)
    expected = v.copy()
    for _ in range(2):
        expected = expected + np.mean([(r - expected) * min(1, 0.7 / np.linalg.norm(r - expected)) for r in x], axis=0)
    np.testing.assert_allclose(CenteredClipping(0.7, 2)(x, v), expected, rtol=1e-12)
    np.testing.assert_allclose(CenteredClipping(1e9)(x, v), x.mean(axis=0), rtol=1e-12)


def test_bucketing_aggregates_means_of_a_random_partition():
    x, rng = rows(6), np.random.default_rng(3)
    order = np.random.default_rng(3).permutation(6)
    expected = np.median(x[order].reshape(3, 2, 4).mean(axis=1), axis=0)
    np.testing.assert_allclose(Bucketing(CoordinateMedian(), 2)(x, np.zeros(4), 0, rng), expected)
    with pytest.raises(ValueError, match="seed"):
        Bucketing(CoordinateMedian(), 2)(x, np.zeros(4))


def test_mixing_sees_the_means_of_each_rows_nearest():
    x, center = rows(8), np.zeros(4)

    def means(near):
        nearest = [sorted(range(8), key=lambda j: np.linalg.norm(x[i] - x[j]))[:near] for i in range(8)]
        return np.array([x[each].mean(axis=0) for each in nearest])

    np.testing.assert_allclose(NearestNeighborMixing(CoordinateMedian(), 3)(x, center), np.median(means(5), axis=0))
    np.testing.assert_allclose(NearestNeighborMixing(Krum(3), 3)(x, center, 2), Krum(3)(means(7), center, 2))
    with pytest.raises(ValueError, match="NearestNeighborMixing: 4 faulty of 8 rows"):
        NearestNeighborMixing(Mean(), 4).check(8)


@pytest.mark.parametrize("rule", [CoordinateMedian(), TrimmedMean(2), Krum(2)])
def test_after_mixing_rows_that_are_far_away_cost_nothing(rule):
    x, honest = rows(), np.delete(np.arange(9), [1, 5])
    x[[1, 5]] = [[1e12], [-1e12]]
    expected = x[honest].mean(axis=0)
    np.testing.assert_allclose(NearestNeighborMixing(rule, 2)(x, np.zeros(4)), expected, rtol=1e-12)
    assert not np.allclose(rule(x, np.zeros(4)), expected)


def test_rules_without_attackers_on_signs():
    """A1: 25 ranks that send ±1. The mean is near 0, as √(2 / 25 π) says; rules that look for a majority are not."""
    x = np.random.default_rng(0).choice([-1.0, 1.0], (500, 25, 1))
    size = lambda rule: np.mean([abs(rule(one, np.zeros(1))[0]) for one in x])
    assert size(Mean()) == pytest.approx(np.sqrt(2 / (25 * np.pi)), rel=0.1)
    assert size(CoordinateMedian()) == size(Krum(5)) == 1.0
    assert size(GeometricMedian(start="mean")) == pytest.approx(0.72, abs=0.05)
    assert size(TrimmedMean(5)) == pytest.approx(0.26, abs=0.03)
    assert size(CenteredClipping(1.0, 3)) == pytest.approx(0.24, abs=0.03)


# ---- attacks ----


def test_attacks_send_what_they_say():
    honest, own = rows(6), rows(2, seed=1)
    call = lambda attack, rng=None: np.asarray(attack(honest, own, attack.start(2, 4, np.dtype(float)), rng))
    assert np.array_equal(call(SignFlip(2.0)), -2 * own)
    assert np.allclose(call(InnerProduct(0.5)), -0.5 * honest.mean(axis=0))
    assert np.allclose(call(Alie(1.5)), honest.mean(axis=0) - 1.5 * honest.std(axis=0))
    assert np.isnan(call(Broken())).all() and not call(Broken(0.0)).any()
    noise = call(Noise(10.0), np.random.default_rng(0)) - own
    assert 3 < noise.std() < 30
    assert flipped([0, 3, 9], 10).tolist() == [9, 6, 0]
    with pytest.raises(ValueError, match="largest label"):
        flipped([10], 10)


def test_the_deviations_of_alie():
    assert Alie.deviations(20, 5) == pytest.approx(0.2533, abs=1e-4)  # Φ⁻¹(0.6): 8 of 20 honest rows lie beyond


def test_stale_gradients_are_old_ones():
    attack = Stale(2)
    state = attack.start(1, 1, np.dtype(float))
    sent = [float(attack(np.zeros((1, 1)), np.array([[float(i)]]), state, None)[0, 0]) for i in range(1, 6)]
    assert sent == [0.0, 0.0, 1.0, 2.0, 3.0]


def logistic(rule, momentum, attack, steps=150, workers=25, hostile=5):
    """The loss of softmax regression on clouds around ten centres: 25 workers of one example each, the first of them hostile."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((10, 16))
    y = rng.integers(0, 10, 600)
    x = centres[y] + 1.2 * rng.standard_normal((600, 16))
    w, m, center, state = (
        np.zeros((16, 10)),
        np.zeros((workers, 160)),
        np.zeros(160),
        attack.start(hostile, 160, np.dtype(float)),
    )
    for t in range(steps):
        i = rng.integers(0, len(x), workers)
        p = np.exp(x[i] @ w)
        p = p / p.sum(axis=1, keepdims=True) - np.eye(10)[y[i]]
        g = (x[i][:, :, None] * p[:, None, :]).reshape(workers, -1)
        m = g if t == 0 else momentum * m + (1 - momentum) * g
        sent = m.copy()
        sent[:hostile] = attack(m[hostile:], m[:hostile], state, rng)
        center = rule(sent, center, 0, rng)
        w = w - 0.3 * center.reshape(w.shape)
    scores = x @ w
    top = scores.max(axis=1)
    return float(np.mean(np.log(np.exp(scores - top[:, None]).sum(axis=1)) + top - scores[np.arange(len(y)), y]))


def test_worker_momentum_takes_the_cover_from_a_little_is_enough():
    """A2: a rule that forgets is bent by attackers who stay inside the honest noise; momentum leaves them less of it."""
    for rule in (CoordinateMedian(), TrimmedMean(5)):
        without, with_momentum = (logistic(rule, beta, Alie(1.5)) for beta in (0.0, 0.9))
        assert without > 2 * with_momentum


# ---- the link ----

STEPS, RANKS, HOSTILE = 20, 7, (2, 5)


def trained(comm, rule, attack=None, hostile=(), momentum=0.9, steps=STEPS):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 90)
    x = (np.eye(3)[y] * 2 + rng.standard_normal((90, 3))).astype(np.float32)
    draw, model = np.random.default_rng([7, comm.rank]), nn.Linear(3, 3, rng=rng)
    link = agents.aggregate(comm, rule, momentum=momentum, attack=attack, hostile=hostile, seed=5)
    optimizer, loss = optim.Optimizer(model.parameters(), chain(link, scale_by_lr(0.3))), nn.CrossEntropyLoss()
    for _ in range(steps):
        i = draw.integers(0, 90, 8)
        optimizer.zero_grad()
        loss(model(x[i]), y[i]).backward()
        optimizer.step()
    return (
        float(loss(model(x), y)),
        b"".join(p.numpy().tobytes() for p in model.parameters()),
        optimizer.state[0]["rejected"],
    )


@pytest.mark.parametrize(
    "attack",
    [SignFlip(5.0), Noise(50.0), InnerProduct(5.0), Alie(1.0), Broken(), Broken(np.inf), Broken(0.0), Stale(5)],
)
def test_training_goes_on_under_attack(attack):
    rule = Krum(2, 3) if isinstance(attack, Noise | Stale) else CenteredClipping()
    found = agents.run(RANKS, trained, rule, attack, HOSTILE)
    assert len({bits for _, bits, _ in found}) == 1  # all ranks alike
    assert found[0][0] < 1.3 * clean()
    finite = not isinstance(attack, Broken) or np.isfinite(attack.value)
    assert found[0][2] == (0 if finite else 2 * STEPS)


@functools.cache
def clean():
    return agents.run(RANKS, trained, Mean())[0][0]


@pytest.mark.parametrize("attack", [SignFlip(5.0), Noise(50.0), InnerProduct(5.0)])
def test_the_mean_is_bent(attack):
    assert agents.run(RANKS, trained, Mean(), attack, HOSTILE)[0][0] > 2 * clean()


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nothing_but_finite_numbers_gets_through(name, bad):
    def step(comm):
        rule = agents.aggregate(comm, RULES[name](1), momentum=0.5)
        params = [np.ones(3), np.ones((), np.float32)]
        state = rule.init(params)
        found = []
        for broken in ((2,), range(comm.size), ()):
            g = [np.ones(3), np.float32(1.0)]
            if comm.rank in broken:
                g[0][1] = bad
            updates, state = rule.update(g, state, params)
            found.append(updates)
        return found, state["rejected"]

    for (one, all_, after), rejected in agents.run(7, step):
        np.testing.assert_allclose(one[0], np.ones(3), rtol=1e-6)
        assert all_ == [None, None] and rejected == 8
        np.testing.assert_allclose(after[0], np.ones(3), rtol=1e-6)  # and the memory of a rank that had one is whole


def test_a_sum_of_finite_rows_that_overflows_is_no_update():
    def step(comm):
        rule = agents.aggregate(comm, Mean())
        return rule.update(
            [np.full(2, 3e38, np.float32)], rule.init([np.zeros(2, np.float32)]), [np.zeros(2, np.float32)]
        )[0]

    assert agents.run(2, step) == [[None]] * 2


def test_leaves_without_gradient():
    def step(comm):
        rule = agents.aggregate(comm, Mean())
        params = [np.zeros(2), np.zeros(1), np.zeros(1)]
        return rule.update([np.ones(2), np.ones(1) if comm.rank else None, None], rule.init(params), params)[0]

    for a, b, c in agents.run(2, step):
        assert a.tolist() == [1, 1] and b.tolist() == [0.5] and c is None


def test_misuse_is_named():
    comm = agents.Alone()
    for rule, said in ((TrimmedMean(1), "at least 3 rows"), (Krum(0), "at least 3 rows")):
        with pytest.raises(ValueError, match=said):
            agents.aggregate(comm, rule)
    with pytest.raises(ValueError, match="choose must be at most the 5 honest"):
        Krum(2, 6).check(7)
    with pytest.raises(TypeError, match="CoordinateMedian"):
        agents.aggregate(comm, "median")
    with pytest.raises(ValueError, match="different ranks from 0 to 0"):
        agents.aggregate(comm, Mean(), attack=SignFlip(), hostile=[1])
    with pytest.raises(ValueError, match="go together"):
        agents.aggregate(comm, Mean(), attack=SignFlip())
    with pytest.raises(ValueError, match="pass seed"):
        agents.run(2, lambda c: agents.aggregate(c, Mean(), attack=Noise(), hostile=[1]))
