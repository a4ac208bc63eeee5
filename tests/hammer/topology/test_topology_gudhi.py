"""Loops, voids and cubical complexes beside gudhi's own complexes, which are other code; and what holds of any persistence."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autograd import DiffTensor, ops
from hammer import topology

SEEDS = st.integers(0, 2**32 - 1)


def test_without_gudhi_the_error_names_the_extra():
    code = (
        "import sys; sys.modules['gudhi'] = None\n"
        "import numpy as np; from hammer import topology\n"
        "topology.cubical(np.random.default_rng(0).random((5, 5)), (0,)); topology.rips(np.eye(3), (0,))\n"
        "for f in (lambda: topology.rips(np.eye(3)), lambda: topology.cubical(np.eye(3)), lambda: topology.alpha(np.eye(3))):\n"
        "    try: f()\n"
        "    except ImportError as e: assert 'hammer-grad[topology]' in str(e), e\n"
        "    else: raise AssertionError('no error')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def rows(a):
    return a[np.lexsort(a.T)]


def lasting(found):
    found = np.asarray(found).reshape(-1, 2)
    return rows(found[found[:, 1] > found[:, 0]])


@pytest.mark.parametrize("shape", [(9,), (5, 6), (1, 9), (2, 7), (7, 2), (4, 5, 3), (3, 2, 3, 2)])
@pytest.mark.parametrize("ties", [False, True])
def test_cubical_beside_gudhi(shape, ties):
    gudhi = pytest.importorskip("gudhi")
    for seed in range(5):
        values = np.random.default_rng(seed).standard_normal(shape)
        values = np.round(values * 2) if ties else values
        theirs = gudhi.CubicalComplex(top_dimensional_cells=values)
        theirs.compute_persistence()
        for ours, direct in zip(topology.cubical(values, places=True), topology.cubical(values), strict=True):
            assert direct.places is None and np.array_equal(rows(direct.array()), rows(ours.array()))
            assert np.array_equal(
                rows(ours.array()), lasting(theirs.persistence_intervals_in_dimension(ours.dimension))
            )
            for k in (0, 1):  # the places are where the values are, in the order of the array's own axes
                assert np.array_equal(values[tuple(ours.places[:, k].T)], ours.pairs[:, k])
    (alone,) = topology.cubical(values, (0,), places=True)  # by basins
    (other,) = topology.cubical(values, (0, 1), places=True)[:1]  # by gudhi
    assert np.array_equal(rows(alone.array()), rows(other.array()))


@pytest.mark.parametrize("n, d", [(25, 2), (30, 3), (20, 30), (15, 1)])
def test_rips_and_alpha_beside_gudhi(n, d):
    gudhi = pytest.importorskip("gudhi")
    x = np.random.default_rng(n).standard_normal((n, d))
    theirs = gudhi.RipsComplex(points=x).create_simplex_tree(max_dimension=3)
    theirs.compute_persistence()
    for points, metric in ((x, "euclidean"), (topology.distances(x), "precomputed")):
        asked, direct = (topology.rips(points, (0, 1, 2), metric=metric, places=p) for p in (True, None))
        for ours, same in zip(asked, direct, strict=True):
            np.testing.assert_allclose(rows(same.array()), rows(ours.array()), rtol=1e-9)
            wanted = lasting(theirs.persistence_intervals_in_dimension(ours.dimension))
            np.testing.assert_allclose(rows(ours.array()), wanted, rtol=1e-9)
    if d in (2, 3):
        theirs = gudhi.AlphaComplex(points=x, precision="exact").create_simplex_tree(output_squared_values=False)
        theirs.compute_persistence()
        for ours in topology.alpha(x, (0, 1, 2)):
            wanted = lasting(theirs.persistence_intervals_in_dimension(ours.dimension))
            np.testing.assert_allclose(
                rows(ours.above(1e-9).array()), wanted[wanted[:, 1] > wanted[:, 0] + 1e-9], rtol=1e-7
            )


def test_rips_with_a_threshold_keeps_what_lives_on():
    gudhi = pytest.importorskip("gudhi")
    angle = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    x = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    for places in (True, False):
        components, loops = topology.rips(x, (0, 1), threshold=1.0, places=places)
        assert len(loops.pairs) == 0 and loops.essential == pytest.approx([2 * np.sin(np.pi / 12)])
        assert len(components) == 12 and len(topology.rips(x, (0,), threshold=0.5, places=places)[0].essential) == 12
    (loops,) = topology.rips(x, (1,), places=True)
    assert loops.pairs[0] == pytest.approx(
        [2 * np.sin(np.pi / 12), np.sqrt(3)]
    )  # the longest edge of a triangle around
    i, j = loops.places[0, 1]
    assert np.linalg.norm(x[i] - x[j]) == loops.pairs[0, 1]
    (whole,) = topology.alpha(x, (1,))
    assert whole.pairs[0] == pytest.approx([np.sin(np.pi / 12), 1.0])
    assert gudhi


def test_alpha_of_lattices_and_what_it_refuses():
    pytest.importorskip("gudhi")
    square = np.stack(np.meshgrid(np.arange(4.0), np.arange(4.0)), axis=-1).reshape(-1, 2)
    components, loops = topology.alpha(np.concatenate([square, square[:3]]))
    assert np.allclose(components.pairs, [[0, 0.5]] * 15) and len(components.essential) == 1
    assert np.allclose(loops.pairs, [[0.5, np.sqrt(0.5)]] * 9)
    cube = np.stack(np.meshgrid(*[np.arange(2.0)] * 3), axis=-1).reshape(-1, 3)
    (void,) = topology.alpha(cube, (2,))
    assert void.pairs == pytest.approx(np.array([[np.sqrt(0.5), np.sqrt(0.75)]]))
    with pytest.raises(ValueError, match="no triangulation"):
        topology.alpha(np.zeros((5, 2)))
    with pytest.raises(TypeError, match="no derivative"):
        topology.alpha(DiffTensor(square, requires_grad=True))


# ---- what holds of any persistence (SCIENCE: stability, isometry, scaling, permutation) ----


@settings(max_examples=30)
@given(SEEDS)
def test_stability_of_landscapes(seed):
    pytest.importorskip("gudhi")
    rng = np.random.default_rng(seed)
    f = rng.standard_normal(tuple(rng.integers(2, 8, 2)))
    g = f + rng.uniform(-0.3, 0.3, f.shape)
    for a, b in zip(topology.cubical(f), topology.cubical(g), strict=True):
        assert topology.bottleneck(a, b) <= np.abs(f - g).max() + 1e-12


@settings(max_examples=20)
@given(SEEDS)
def test_stability_isometry_scale_and_permutation_of_clouds(seed):
    pytest.importorskip("gudhi")
    rng = np.random.default_rng(seed)
    n, d = int(rng.integers(4, 22)), int(rng.integers(2, 5))
    x = rng.standard_normal((n, d))
    q = np.linalg.qr(rng.standard_normal((d, d)))[0]
    y = x + rng.uniform(-0.1, 0.1, x.shape)
    moved = np.linalg.norm(x - y, axis=1).max()
    diagrams = topology.rips(x, (0, 1))
    for k, a in enumerate(diagrams):
        assert topology.bottleneck(a, topology.rips(y, (k,))[0]) <= 2 * moved + 1e-12  # an edge changes by at most that
        assert topology.bottleneck(a, topology.rips(x @ q + 3.0, (k,))[0]) < 1e-9
        assert np.array_equal(topology.rips(2 * x, (k,))[0].array(), 2 * a.array())
        assert np.array_equal(rows(topology.rips(x[rng.permutation(n)], (k,))[0].array()), rows(a.array()))
        assert 0 <= topology.persistence_entropy(a) <= np.log(max(len(a.pairs), 1)) + 1e-12
    marks = topology.farthest_points(x, n // 2 + 1)
    for k, a in enumerate(diagrams):
        assert topology.bottleneck(a, topology.rips(x[marks.indices], (k,))[0]) <= marks.rips_bound + 1e-12
    if d <= 3 and n > 2 * d + 4:
        for a, b in zip(topology.alpha(x), topology.alpha(x[marks.indices]), strict=True):
            assert topology.bottleneck(a, b) <= marks.alpha_bound + 1e-9


def test_a_periodic_series_is_told_from_noise():
    pytest.importorskip("gudhi")
    rng = np.random.default_rng(0)
    t = np.arange(240)
    wave = np.sin(2 * np.pi * t / 24)
    assert topology.periodicity(wave, 22) == pytest.approx(1 - 2 * np.sin(np.pi / 24) / np.sqrt(3), rel=0.02)
    assert topology.periodicity(wave + 0.2 * rng.standard_normal(240), 22) > 0.5
    assert topology.periodicity(rng.standard_normal(240), 22) < 0.3
    assert topology.periodicity(3 * wave + 0.01 * t, 22, landmarks=60) > 0.7


# ---- derivatives through loops and holes ----


def generic(values, least):
    return np.diff(np.sort(values.ravel())).min() > least


def directional(value, x, rng, h):
    direction = rng.standard_normal(x.shape)
    t = DiffTensor(x, requires_grad=True)
    value(t).backward()
    difference = (float(value(x + h * direction)) - float(value(x - h * direction))) / (2 * h)
    return float(np.sum(t.grad * direction)), difference


def test_gradients_beside_differences_at_200_generic_points():
    """Relative to differences: at most 1e-6. No two values (distances) are so near that a difference would cross them."""
    pytest.importorskip("gudhi")
    rng = np.random.default_rng(0)
    done = {"cubical": 0, "rips": 0}
    while min(done.values()) < 100:
        grid = rng.standard_normal((5, 7))
        x = rng.standard_normal((9, 2))
        cases = {
            "cubical": (grid, grid, lambda v: sum(topology.total_persistence(d, 2.0) for d in topology.cubical(v))),
            "rips": (
                x,
                topology.distances(x)[np.triu_indices(9, 1)],
                lambda v: sum(topology.total_persistence(d, 2.0) for d in topology.rips(v)),
            ),
        }
        for name, (point, numbers, value) in cases.items():
            if done[name] < 100 and generic(numbers, 1e-4):
                ours, difference = directional(value, point, rng, 1e-6)
                assert ours == pytest.approx(difference, rel=1e-6, abs=1e-7), (name, done)
                done[name] += 1


def test_loops_open_when_asked():
    pytest.importorskip("gudhi")
    rng = np.random.default_rng(1)
    angle = rng.uniform(0, 2 * np.pi, 24)
    x = DiffTensor(
        np.stack([np.cos(angle), np.sin(angle)], axis=1) * rng.uniform(0.6, 1.0, (24, 1)), requires_grad=True
    )
    before = float(topology.rips(x, (1,))[0].lifetimes.numpy().max())
    for _ in range(30):
        (loops,) = topology.rips(x, (1,))
        loss = topology.prescribed(loops, 1, power=1.0)
        loss.backward()
        x = DiffTensor(x.numpy() - 0.02 * x.grad, requires_grad=True)
    assert float(topology.rips(x, (1,))[0].lifetimes.numpy().max()) > before + 0.2


def test_float32_stays_and_a_grid_becomes_smooth():
    pytest.importorskip("gudhi")
    rng = np.random.default_rng(0)
    start = rng.standard_normal((6, 6)).astype(np.float32)
    v = DiffTensor(start, requires_grad=True)
    loss = topology.smoothness(v, keep=1)
    loss.backward()
    assert loss.dtype == v.grad.dtype == np.float32
    lower = topology.smoothness(start - 0.01 * v.grad, keep=1)
    assert float(lower) < float(loss.numpy())
    assert topology.rips(start)[1].pairs.dtype == np.float32
    assert ops.sum(topology.cubical(start)[1].pairs).dtype == np.float32
