"""Distances, summaries, dimension, losses and derivatives that need no gudhi."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from autograd import DiffTensor, grad, hessian, ops, vmap
from hammer import compile, topology
from hammer.topology import Diagram

SEEDS = st.integers(0, 2**32 - 1)


def diagram(rng, most=9, ties=False):
    k = int(rng.integers(0, most))
    return np.sort(rng.integers(0, 9, (k, 2)).astype(float) if ties else rng.random((k, 2)), axis=1)


def padded(a, b, norm):
    """Costs with a place on the diagonal for everyone, as textbooks have it."""
    n, m = len(a), len(b)
    factor = 0.5 if norm == np.inf else 2 ** (1 / norm - 1)
    costs = np.zeros((n + m, n + m))
    costs[:n, :m] = [[np.linalg.norm(p - q, norm) for q in b] for p in a] if n and m else 0
    costs[:n, m:] = ((a[:, 1] - a[:, 0]) * factor)[:, None]
    costs[n:, :m] = ((b[:, 1] - b[:, 0]) * factor)[None]
    return costs


def brute_bottleneck(a, b):
    costs = padded(a, b, np.inf)
    for r in np.unique(costs):
        i, j = linear_sum_assignment(costs > r)
        if not (costs[i, j] > r).any():
            return r
    return 0.0


@settings(max_examples=40)
@given(SEEDS)
def test_distances_are_those_of_the_padded_assignment(seed):
    rng = np.random.default_rng(seed)
    a, b = (diagram(rng, ties=bool(seed % 2)) for _ in range(2))
    assert float(topology.bottleneck(a, b)) == pytest.approx(brute_bottleneck(a, b), abs=1e-12)
    for order, norm in ((1, np.inf), (2, 2), (1.5, 1)):
        costs = padded(a, b, norm) ** order
        i, j = linear_sum_assignment(costs)
        wanted = costs[i, j].sum() ** (1 / order)
        assert float(topology.wasserstein(a, b, order, norm)) == pytest.approx(wanted, abs=1e-12)
    for matching in (topology.bottleneck_matching(a, b), topology.wasserstein_matching(a, b)):
        assert sorted(matching.pairs[matching.pairs[:, 0] >= 0, 0]) == list(range(len(a)))
        assert sorted(matching.pairs[matching.pairs[:, 1] >= 0, 1]) == list(range(len(b)))


@settings(max_examples=25)
@given(SEEDS)
def test_distances_are_metrics(seed):
    rng = np.random.default_rng(seed)
    a, b, c = (diagram(rng) for _ in range(3))
    for d in (topology.bottleneck, topology.wasserstein, lambda x, y: topology.wasserstein(x, y, 2, 2)):
        assert d(a, rng.permutation(a)) == pytest.approx(0, abs=1e-12)
        assert d(a, b) == pytest.approx(d(b, a), abs=1e-12)
        assert d(a, c) <= d(a, b) + d(b, c) + 1e-12
    assert topology.bottleneck(a, b) <= topology.wasserstein(a, b, 2) + 1e-12 <= topology.wasserstein(a, b) + 2e-12


def test_what_never_dies_is_matched_by_birth():
    a, b = Diagram(0, np.empty((0, 2)), np.array([0.0, 1.0])), Diagram(0, np.array([[0.0, 0.5]]), np.array([1.5, 0.1]))
    assert float(topology.bottleneck(a, b)) == 0.5
    assert float(topology.wasserstein(a, b)) == pytest.approx(0.1 + 0.5 + 0.25)
    assert topology.bottleneck(a, Diagram(0, np.empty((0, 2)))) == math.inf == topology.wasserstein(a, np.empty((0, 2)))
    with pytest.raises(ValueError, match="infinite deaths"):
        topology.bottleneck([[0.0, np.inf]], b)
    with pytest.raises(ValueError, match="before its birth"):
        topology.total_persistence([[1.0, 0.0]])


def test_summaries_by_hand():
    d = np.array([[0.0, 4.0], [1.0, 2.0], [1.0, 4.0]])
    assert topology.total_persistence(d) == 8 and topology.total_persistence(d, 2) == 26
    assert topology.total_persistence(d, skip=1) == 4 and topology.total_persistence(d, 2, skip=2) == 1
    p = np.array([4, 1, 3]) / 8
    assert topology.persistence_entropy(d) == pytest.approx(-np.sum(p * np.log(p)))
    assert topology.persistence_entropy([[0, 1], [5, 6]], normalize=True) == pytest.approx(1)
    assert topology.betti_curve(d, [-1, 0, 1, 2, 3.9, 4]).tolist() == [0, 1, 3, 2, 2, 0]
    assert topology.betti_curve(Diagram(0, d, np.array([0.5])), [0.4, 9]).tolist() == [1, 1]
    assert topology.persistence_landscape(d, [2.0, 2.5], 4).tolist() == [[2, 1.5], [1, 1.5], [0, 0], [0, 0]]


@settings(max_examples=40)
@given(SEEDS)
def test_landscapes_and_images_are_stable(seed):
    rng = np.random.default_rng(seed)
    a, b = diagram(rng), diagram(rng)
    t = np.linspace(0, 1, 50)
    gap = np.abs(topology.persistence_landscape(a, t) - topology.persistence_landscape(b, t)).max()
    assert gap <= topology.bottleneck(a, b) + 1e-12
    images = [topology.persistence_image(x, (-1, 2), (0, 2), 0.2) for x in (a, b)]
    assert np.abs(images[0] - images[1]).sum() <= topology.image_bound(0.2, 2.0) * topology.wasserstein(a, b) + 1e-12


def test_images_integrate_their_gaussians():
    image = topology.persistence_image([[0.3, 0.8], [0.2, 0.3]], (-3, 3), (0, 4), 0.1, pixels=400)
    assert image.sum() == pytest.approx((0.5 + 0.1 * 0.841344746) / 4, rel=1e-6)  # a part of the second lies below 0
    row, column = np.unravel_index(image.argmax(), image.shape)
    assert (row + 0.5) / 100 == pytest.approx(0.5, abs=0.02) and -3 + (column + 0.5) * 6 / 400 == pytest.approx(
        0.3, abs=0.02
    )


# ---- derivatives ----


def test_derivatives_of_all_that_is_computed_of_diagrams():
    rng = np.random.default_rng(0)
    x, target = rng.standard_normal((8, 3)), np.sort(rng.random((4, 2)), axis=1) + [0.0, 0.5]
    t = np.linspace(0.1, 1.0, 7)
    first = lambda x: topology.rips(x, (0,))[0]
    for value in (
        lambda x: topology.total_persistence(first(x), 1.5),
        lambda x: topology.persistence_entropy(first(x)),
        lambda x: topology.persistence_entropy(first(x), normalize=True),
        lambda x: ops.sum(ops.sin(topology.persistence_image(first(x), (-1, 1), (0, 3), 0.3, 4))),
        lambda x: ops.sum(topology.persistence_landscape(first(x), t, 3) ** 2),
        lambda x: topology.wasserstein(first(x), Diagram(0, target, np.zeros(1)), 2),
        lambda x: topology.bottleneck(first(x), Diagram(0, target, np.zeros(1))),
        lambda x: topology.connectivity(x, 2),
        lambda x: topology.separation(x, 3),
        topology.spread,
        lambda x: topology.prescribed(first(x), 2),
        lambda x: topology.to_target(first(x), Diagram(0, target, np.zeros(1))),
        lambda x: topology.total_persistence(topology.cubical(x, (0,))[0], 2.0),
        lambda x: topology.smoothness(x[0], keep=1),
    ):
        direction = rng.standard_normal(x.shape)
        step = 1e-6
        difference = (float(value(x + step * direction)) - float(value(x - step * direction))) / (2 * step)
        assert np.sum(grad(value)(x) * direction) == pytest.approx(difference, rel=1e-6, abs=1e-8)


def test_second_derivatives():
    rng = np.random.default_rng(3)
    x = rng.standard_normal((5, 2))
    value = lambda x: topology.total_persistence(topology.rips(x, (0,))[0], 2.0)
    found = hessian(value)(x)
    # Σ |x_i − x_j|² over the tree: its Hessian is twice the graph's Laplacian
    tree = topology.rips(x, (0,), places=True)[0].places[:, 1]
    laplacian = np.zeros((5, 5))
    for i, j in tree:
        laplacian[[i, j], [i, j]] += 2
        laplacian[[i, j], [j, i]] -= 2
    np.testing.assert_allclose(found, np.einsum("ij,ab->iajb", laplacian, np.eye(2)), atol=1e-9)


def test_ties_and_equal_points_have_finite_derivatives():
    x = DiffTensor(np.array([[0.0], [0.0], [1.0], [2.0]]), requires_grad=True)
    topology.total_persistence(topology.rips(x, (0,))[0]).backward()
    assert np.sort(x.grad.ravel()).tolist() == [-1, 0, 0, 1]  # the length of the tree is x3 − x0 (or x3 − x1)
    d = DiffTensor(np.array([[0.0, 2.0, 1.0], [2.0, 0.0, 4.0], [1.0, 4.0, 0.0]]), requires_grad=True)
    topology.total_persistence(topology.rips(d, (0,), metric="precomputed")[0]).backward()
    assert d.grad.sum() == 2 and d.grad[1, 2] == 0


def test_where_no_values_are_the_error_says_so():
    x = np.random.default_rng(0).standard_normal((3, 6, 2))
    with pytest.raises(TypeError, match="inside vmap"):
        vmap(topology.connectivity)(x)
    with pytest.raises(Exception, match="depends on the values"):
        compile(lambda x: topology.connectivity(x), fallback=False)(x[0])


def test_other_array_libraries():
    strict = pytest.importorskip("array_api_strict")
    x = np.random.default_rng(0).standard_normal((9, 2))
    other = strict.asarray(x)
    ours, theirs = topology.rips(x, (0,))[0], topology.rips(other, (0,))[0]
    assert type(theirs.pairs) is type(other)
    np.testing.assert_allclose(np.asarray(theirs.pairs), ours.pairs, rtol=1e-14)
    assert float(topology.persistence_entropy(theirs)) == pytest.approx(float(topology.persistence_entropy(ours)))
    assert float(topology.wasserstein(theirs, theirs.longest(3))) > 0
    t = DiffTensor(other, requires_grad=True)
    topology.connectivity(t).backward()
    assert type(t.grad) is type(other)


def test_two_clusters_are_separated():
    rng = np.random.default_rng(0)
    x = DiffTensor(rng.standard_normal((20, 2)), requires_grad=True)
    before = topology.separation(x.numpy(), 2)
    for _ in range(40):
        loss = topology.connectivity(x, 2) * 0.2 - topology.separation(x, 2)
        loss.backward()
        x = DiffTensor(x.numpy() - 0.05 * x.grad, requires_grad=True)
    assert topology.separation(x.numpy(), 2) > 2 * before


# ---- dimension ----


def sierpinski(rng, n):
    corners, p = np.array([[0, 0], [1, 0], [0.5, np.sqrt(0.75)]]), np.zeros(2)
    found = []
    for k in range(n + 20):
        p = (p + corners[rng.integers(3)]) / 2
        found += [p] * (k >= 20)
    return np.array(found)


def test_the_dimension_of_known_sets():
    """Line 1.004, square 1.90, cube 2.84, circle in R¹⁰ 1.015, Brownian path 2.08, Sierpiński triangle 1.60; Cantor dust 1.00, for
    the estimate with α = 1 cannot say less.
    """
    rng = np.random.default_rng(0)
    n = 1000
    angle, plane = rng.uniform(0, 2 * np.pi, n), np.linalg.qr(rng.standard_normal((10, 2)))[0]
    sets = {
        "line": (rng.random((n, 1)), 1.0, 0.05),
        "square": (rng.random((n, 2)), 1.90, 0.12),
        "cube": (rng.random((n, 3)), 2.84, 0.25),
        "circle": (np.stack([np.cos(angle), np.sin(angle)], axis=1) @ plane.T, 1.015, 0.05),
        "path": (np.cumsum(rng.standard_normal((n, 10)), axis=0), 2.08, 0.25),
        "triangle": (sierpinski(rng, n), 1.60, 0.12),
        "dust": (rng.integers(0, 2, (n, 30)) @ (2.0 / 3.0 ** np.arange(1, 31))[:, None], 1.00, 0.02),
    }
    for name, (points, wanted, off) in sets.items():
        found = topology.ph_dimension(points, np.random.default_rng(1))
        assert found.dimension == pytest.approx(wanted, abs=off), name
        assert found.low <= found.dimension <= found.high


def test_the_dimension_is_that_of_scaled_and_turned_points_too():
    rng = np.random.default_rng(0)
    x = rng.random((120, 3))
    turned = 7.0 * x @ np.linalg.qr(rng.standard_normal((3, 3)))[0]
    sizes = range(40, 121, 20)
    found = [topology.ph_dimension(p, np.random.default_rng(1), sizes, repeats=3) for p in (x, turned)]
    assert found[0].dimension == pytest.approx(found[1].dimension, rel=1e-9) and found[0].low < found[0].high
    given = topology.ph_dimension(
        topology.distances(x), np.random.default_rng(1), sizes, repeats=3, metric="precomputed"
    )
    assert given.dimension == pytest.approx(found[0].dimension, rel=1e-9)
    with pytest.raises(ValueError, match="fewer than the largest size"):
        topology.ph_dimension(x, np.random.default_rng(0))
    with pytest.raises(ValueError, match="equal"):
        topology.ph_dimension(np.ones((120, 2)), np.random.default_rng(0), sizes)
