"""H0 without gudhi: spanning trees, the elder rule, basins, graphs, landmarks; each beside an independent way to have it."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree
from scipy.spatial.distance import pdist, squareform

from autograd import DiffTensor, nn, ops
from hammer import topology
from hammer.graph import UniversalGraph
from hammer.topology.components import labels, merges, spanning_forest, spanning_tree

SEEDS = st.integers(0, 2**32 - 1)


def cloud(seed: int, most: int = 25) -> np.ndarray:
    """Points in general position, or on a lattice with many equal distances and equal points."""
    rng = np.random.default_rng(seed)
    shape = rng.integers(2, most), rng.integers(1, 4)
    return rng.standard_normal(shape) if seed % 2 else rng.integers(0, 4, shape).astype(float)


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_lifetimes_are_the_edges_of_a_minimum_spanning_tree(seed):
    x = cloud(seed)
    (components,) = topology.rips(x, (0,))
    assert np.all(components.pairs[:, 0] == 0) and len(components.essential) == 1
    ours = np.sort(components.pairs[:, 1])
    apart = np.unique(x, axis=0)  # SciPy takes a distance of 0 for no edge
    edges = minimum_spanning_tree(squareform(pdist(apart))).data
    np.testing.assert_allclose(ours, np.sort(edges), rtol=1e-12)
    (placed,) = topology.rips(x, (0,), places=True)  # by our own Prim
    np.testing.assert_allclose(np.sort(placed.pairs[:, 1]), ours, rtol=1e-12)
    i, j = placed.places[:, 1].T
    np.testing.assert_allclose(np.linalg.norm(x[i] - x[j], axis=1), placed.pairs[:, 1], rtol=1e-12)


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_components_are_those_of_each_threshold(seed):
    x = cloud(seed)
    (components,) = topology.rips(x, (0,))
    d = squareform(pdist(x))
    for t in np.quantile(d, [0.1, 0.3, 0.5, 0.9]) + 1e-9:
        assert topology.betti_curve(components, [t])[0] == connected_components(d <= t)[0]
        (cut,) = topology.rips(x, (0,), threshold=t)
        assert len(cut.essential) == connected_components(d <= t)[0]


def test_points_apart_and_single_points():
    d = np.full((4, 4), np.inf)
    d[:2, :2] = d[2:, 2:] = 1.0
    np.fill_diagonal(d, 0.0)
    assert len(spanning_tree(d)) == 2  # infinite edges are none
    for n in (0, 1):
        (one,) = topology.rips(np.zeros((n, 3)), (0,))
        assert one.pairs.shape == (0, 2) and len(one.essential) == n


def kruskal(count, edges, times):
    part = list(range(count))
    kept = []
    for e in np.argsort(times, kind="stable"):
        a, b = part[edges[e][0]], part[edges[e][1]]
        if a != b:
            kept.append(int(e))
            part = [a if p == b else p for p in part]
    return kept, part


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_forests_with_parallel_edges_loops_and_equal_times(seed):
    rng = np.random.default_rng(seed)
    count, m = int(rng.integers(1, 12)), int(rng.integers(0, 30))
    edges, times = rng.integers(0, count, (m, 2)), rng.integers(-3, 3, m).astype(float)
    kept, part = kruskal(count, edges, times)
    np.testing.assert_array_equal(np.sort(times[spanning_forest(count, edges, times)]), np.sort(times[kept]))
    ours = labels(count, edges)
    assert len(set(zip(ours.tolist(), part, strict=True))) == len(set(part)) == len(set(ours.tolist()))


def test_the_older_component_lives_on():
    tree = merges(np.array([3.0, 1.0, 2.0]), np.array([[0, 1], [1, 2]]), np.array([5.0, 4.0]))
    assert tree.tolist() == [[2, 1, 1], [0, 1, 0]]  # vertex 2 dies at edge 1, vertex 0 at edge 0; both join vertex 1


# ---- basins ----


def pits(grid):
    """Births and deaths of components of sublevel sets, cell by cell, with the union-find of textbooks."""
    order = sorted(np.ndindex(grid.shape), key=lambda c: (grid[c], c))
    age = {c: k for k, c in enumerate(order)}
    root: dict = {}
    found = []
    for c in order:
        root[c] = c
        for step in itertools.product((-1, 0, 1), repeat=grid.ndim):
            n = tuple(i + s for i, s in zip(c, step, strict=True))
            if n in root and n != c:
                a, b = (age_of(root, v) for v in (c, n))
                if a != b:
                    young, old = (a, b) if age[a] > age[b] else (b, a)
                    root[young] = old
                    found.append((grid[young], grid[c]))
    return sorted(p for p in found if p[1] > p[0])


def age_of(root, v):
    while root[v] != v:
        v = root[v]
    return v


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_basins_are_those_of_union_find(seed):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 8, rng.integers(1, 4)))
    grid = rng.standard_normal(shape) if seed % 2 else rng.integers(0, 4, shape).astype(float)
    tree = topology.basins(grid)
    lives = [p for p in sorted(zip(tree.births[1:], tree.deaths, strict=True)) if p[1] > p[0]]
    assert lives == pits(grid)
    assert tree.births[0] == grid.min() and np.all(tree.parents < np.arange(1, len(tree.births)))
    assert np.all(grid[tuple(tree.minima.T)] == tree.births) and np.all(grid[tuple(tree.saddles.T)] == tree.deaths)
    assert np.all(tree.births[tree.parents] <= tree.births[1:]) and np.all(np.diff(tree.deaths) <= 0)
    for b in range(len(tree.births)):
        assert grid[tree.labels == b].min() == tree.births[b] and tree.labels[tuple(tree.minima[b])] == b


def test_two_wells():
    x = np.linspace(-2, 2, 401)
    tree = topology.basins((x**2 - 1) ** 2 + 0.1 * x)
    assert tree.count() == 2 and x[tree.minima[0, 0]] == pytest.approx(-1.0, abs=0.03)
    assert x[tree.saddles[0, 0]] == pytest.approx(0.025, abs=0.02) and tree.depths[1] == pytest.approx(0.9, abs=0.01)
    assert tree.count(depth=1.0) == 1


# ---- graphs ----


def test_components_of_a_graph_by_hand():
    edges = [[0, 1], [1, 2], [0, 2], [3, 4]]
    diagram = topology.graph_components(6, edges, [5.0, 3.0, 4.0, 1.0])
    assert diagram.pairs.tolist() == [[0, 1], [0, 4]] and len(diagram.essential) == 3
    assert diagram.places[:, 1].tolist() == [[0, 2], [3, 4]]
    up = topology.graph_components(6, edges, [5.0, 3.0, 4.0, 1.0], strongest_first=False)
    assert up.pairs.tolist() == [[0, 2], [0, 3]]
    with pytest.raises(ValueError, match="edges name vertices"):
        topology.graph_components(2, [[0, 2]], [1.0])


def test_neural_persistence_is_the_published_formula():
    rng = np.random.default_rng(0)
    w = rng.standard_normal((7, 4))
    size = np.abs(w) / np.abs(w).max()
    full = np.zeros((11, 11))
    full[:7, 7:] = 2 - size  # a maximum spanning tree; 2 − w, because SciPy takes 0 for no edge
    lives = minimum_spanning_tree(full).data - 1
    wanted = np.sqrt(np.sum(lives**2)) / np.sqrt(10)
    assert float(topology.neural_persistence(w)) == pytest.approx(wanted, rel=1e-12)
    assert float(topology.neural_persistence(np.ones((3, 3)))) == 0.0
    assert 0 <= topology.neural_persistence(rng.standard_normal((5, 2, 3, 3))) <= 1
    tensor = DiffTensor(w, requires_grad=True)
    topology.neural_persistence(tensor).backward()
    step = 1e-6 * rng.standard_normal(w.shape)
    difference = topology.neural_persistence(w + step) - topology.neural_persistence(w - step)
    assert np.sum(tensor.grad * step) * 2 == pytest.approx(float(difference), rel=1e-5)


def test_a_computation_graph_is_a_weighted_graph():
    def program(x, w):
        return ops.sum(ops.tanh(ops.matmul(x, w)))

    graph = UniversalGraph.trace(program, np.ones((64, 32)), np.ones((32, 2)))
    nodes, edges, weights = topology.computation_edges(graph)
    assert len(nodes) == len(graph.nodes) and len(edges) == len(weights) == 4
    assert sorted(weights) == sorted([64 * 32 * 8.0, 32 * 2 * 8.0, 64 * 2 * 8.0, 64 * 2 * 8.0])
    diagram = topology.graph_components(len(nodes), edges, weights)
    assert diagram.pairs[-1, 1] == 64 * 32 * 8 - 32 * 2 * 8  # the small weight hangs on the fewest bytes


# ---- landmarks and distances ----


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_landmarks_cover_and_their_bound_holds(seed):
    x = cloud(seed, most=40)
    marks = topology.farthest_points(x, max(1, len(x) // 3))
    d = squareform(pdist(x))
    for k in range(len(marks.indices)):
        assert marks.radii[k] == pytest.approx(d[:, marks.indices[: k + 1]].min(axis=1).max(), abs=1e-12)
    same = topology.farthest_points(d, len(marks.indices), metric="precomputed")
    np.testing.assert_allclose(same.radii, marks.radii, atol=1e-12)
    all_of_them, few = (topology.rips(p, (0,))[0] for p in (x, x[marks.indices]))
    assert topology.bottleneck(all_of_them, few) <= marks.rips_bound + 1e-9


def test_distances_by_products_keep_their_digits():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 200))
    x[30:] = x[:30] + 1e-7 * rng.standard_normal((30, 200))  # pairs that products alone would lose
    x += 100.0
    x[5] = x[7]
    d = topology.distances(x)
    exact = squareform(pdist(x))
    np.testing.assert_allclose(d, exact, rtol=1e-8)
    assert np.array_equal(d, d.T) and d[5, 7] == 0.0


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="NaN or infinite"):
        topology.rips(np.array([[0.0], [np.nan]]), (0,))
    with pytest.raises(ValueError, match="shape"):
        topology.rips(np.zeros(5), (0,))
    with pytest.raises(ValueError, match="symmetric"):
        topology.rips(np.array([[0.0, 1.0], [2.0, 0.0]]), (0,), metric="precomputed")
    with pytest.raises(TypeError, match="real numbers"):
        topology.rips(np.zeros((3, 2), complex), (0,))
    with pytest.raises(ValueError, match="dimensions"):
        topology.rips(np.zeros((3, 2)), (0, 0))
    with pytest.raises(ValueError, match="count"):
        topology.farthest_points(np.zeros((3, 2)), 4)


def test_clouds_of_a_model():
    rng = np.random.default_rng(0)
    model = nn.Sequential(nn.Linear(3, 5, rng=rng), nn.Tanh(), nn.Linear(5, 2, rng=rng))
    x = rng.standard_normal((11, 3)).astype(np.float32)
    found = topology.activation_clouds(model, x)
    assert {k: v.shape for k, v in found.items()} == {"0": (11, 5), "1": (11, 5), "2": (11, 2)}
    np.testing.assert_allclose(found["2"], model(x).numpy(), rtol=1e-6)
    assert all(module._hooks is None for module in model.modules()) and model.training
    with pytest.raises(KeyError, match="no module 'x'"):
        topology.activation_clouds(model, x, names=["x"])

    def loss(w, a, b):
        return (ops.sum(w * a) - b) ** 2

    a, b, w = rng.standard_normal((6, 4)), rng.standard_normal(6), rng.standard_normal(4)
    np.testing.assert_allclose(topology.gradient_cloud(loss, w, a, b), 2 * (a @ w - b)[:, None] * a, rtol=1e-12)


def test_a_trajectory_keeps_the_last_points_in_order():
    kept = topology.Trajectory(length=3, dtype=np.float64)
    for k in range(5):
        kept.add({"a": np.array([k]), "b": np.full((2,), 10.0 * k)})
        assert kept.points()[-1].tolist() == [k, 10 * k, 10 * k]
    assert kept.points()[:, 0].tolist() == [2, 3, 4]


def test_windows():
    t = np.arange(10.0)
    found = topology.sliding_windows(t, 2, delay=3)
    assert found.shape == (4, 3) and found[1].tolist() == [1, 4, 7]
    standard = topology.sliding_windows(t, 2, delay=3, standardize=True)
    np.testing.assert_allclose(standard.sum(axis=1), 0, atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(standard, axis=1), 1)
    assert not topology.sliding_windows(np.ones(9), 2, standardize=True).any()
    with pytest.raises(ValueError, match="takes 31 steps"):
        topology.sliding_windows(t, 10, delay=3)
