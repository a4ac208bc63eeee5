"""The loss around parameters and between two of them, beside formulas."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autograd import DiffTensor, nn, ops
from autograd.per_example import functional_call
from hammer import topology


def test_directions_have_the_norms_of_filters():
    rng = np.random.default_rng(0)
    params = {"w": rng.standard_normal((5, 3)), "b": rng.standard_normal(3), "k": rng.standard_normal((2, 2, 4))}
    one, other = topology.random_directions(params, 2, rng)
    np.testing.assert_allclose(np.linalg.norm(one["w"], axis=1), np.linalg.norm(params["w"], axis=1))
    np.testing.assert_allclose((one["k"] ** 2).sum(axis=(1, 2)), (params["k"] ** 2).sum(axis=(1, 2)))
    (columns,) = topology.random_directions(params, 1, rng, axis=-1)
    np.testing.assert_allclose(np.linalg.norm(columns["w"], axis=0), np.linalg.norm(params["w"], axis=0))
    np.testing.assert_allclose((columns["k"] ** 2).sum(axis=(0, 1)), (params["k"] ** 2).sum(axis=(0, 1)))
    assert not one["b"].any() and not np.allclose(one["w"], other["w"])
    (layer,) = topology.random_directions(params, 1, rng, normalize="layer")
    assert np.linalg.norm(layer["b"]) == pytest.approx(np.linalg.norm(params["b"]))
    with pytest.raises(ValueError, match="normalize"):
        topology.random_directions(params, 1, rng, normalize="x")


def test_a_landscape_of_a_quadratic():
    start = [np.array([1.0, -2.0]), np.array([[0.5]])]
    directions = [[np.array([1.0, 0.0]), np.array([[0.0]])], [np.array([0.0, 0.0]), np.array([[2.0]])]]
    found = topology.loss_landscape(lambda p: ops.sum(p[0] ** 2) + p[1][0, 0], start, directions, 0.5, 5)
    a, b = np.meshgrid(*found.coordinates, indexing="ij")
    np.testing.assert_allclose(found.values, (1 + a) ** 2 + 4 + 0.5 + 2 * b)
    assert found.coordinates[0].tolist() == [-0.5, -0.25, 0.0, 0.25, 0.5] and found.path is None
    boxed = topology.loss_landscape(lambda p: ops.sum(p[0] ** 2) + p[1][0, 0], start, directions, [(0, 1), (-3, -1)], 3)
    assert [c.tolist() for c in boxed.coordinates] == [[0, 0.5, 1], [-3, -2, -1]]
    np.testing.assert_allclose(boxed.values[2], 4 + 4 + 0.5 + 2 * boxed.coordinates[1])
    for bad in (0.0, [(0, 1)], [(0, 1), (1, 1)]):
        with pytest.raises(ValueError, match="radius"):
            topology.loss_landscape(lambda p: 0.0, start, directions, bad)
    with pytest.raises(ValueError, match="another shape"):
        topology.loss_landscape(lambda p: 0.0, [np.zeros(2)], [[np.zeros(3)]])


def test_a_model_is_looked_at_in_its_own_dtype_and_not_changed():
    rng = np.random.default_rng(0)
    model = nn.Linear(3, 2, rng=rng)
    x, y = rng.standard_normal((8, 3)).astype(np.float32), rng.integers(0, 2, 8)
    params = dict(model.named_parameters())
    before = {k: v.numpy().copy() for k, v in params.items()}
    seen = set()

    def loss(p):
        seen.update(str(v.dtype) for v in p.values())
        return nn.losses.cross_entropy(functional_call(model, p, x), y)

    directions = topology.random_directions(params, 2, rng)
    values = topology.loss_landscape(loss, params, directions, 1.0, 3).values
    assert seen == {str(np.dtype(params["weight"].dtype))}
    assert values[1, 1] == pytest.approx(float(nn.losses.cross_entropy(model(x), y).numpy()), rel=1e-6)
    assert all(np.array_equal(v.numpy(), before[k]) and v.grad is None for k, v in params.items())


def test_barriers_between_two_minima():
    loss = lambda p: (p["x"] ** 2 - 1) ** 2 + 0.3 * p["x"]
    path = topology.loss_path(loss, {"x": np.array(-1.0)}, {"x": np.array(1.0)}, 201)
    x = np.linspace(-1, 1, 201)
    assert path.barrier == pytest.approx(1.0) and path.values[0] == pytest.approx(-0.3)
    assert path.saddle == pytest.approx(((x**2 - 1) ** 2 + 0.3 * x).max() - 0.3)
    tree = topology.basins(
        path.values
    )  # mode connectivity: both ends in one component of the sublevel set from there on
    assert tree.deaths[0] == pytest.approx(path.values.max())
    flat = topology.loss_path(lambda p: p["x"] ** 2, {"x": DiffTensor(np.array(-1.0))}, {"x": np.array(1.0)}, 11)
    assert flat.barrier == 0.0 and flat.saddle == 0.0


# ---- the plane in which a run went ----


def tree_of(numbers):
    """Numbers as a tree whose leaves are not in the order in which they were written down."""
    return {"w": numbers[2:8].reshape(2, 3), "b": numbers[:2], "x": [numbers[8:]]}


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_plane_of_a_run_is_that_of_its_principal_components(seed):
    rng = np.random.default_rng(seed)
    trees = [tree_of(p) for p in np.cumsum(rng.standard_normal((int(rng.integers(3, 30)), 12)), axis=0)]
    points = np.stack([topology.flat(t) for t in trees])
    plane = topology.trajectory_plane(points, trees[-1])
    axes = np.stack([topology.flat(d) for d in plane.directions])
    np.testing.assert_allclose(axes @ axes.T, np.eye(2), atol=1e-9)
    np.testing.assert_allclose(plane.path, (points - points[-1]) @ axes.T, atol=1e-9)
    assert (plane.path[0] >= 0).all() and not plane.path[-1].any()
    _, sizes, wanted = np.linalg.svd(points - points.mean(axis=0), full_matrices=False)
    np.testing.assert_allclose(np.abs((axes * wanted[:2]).sum(axis=1)), 1.0, atol=1e-6)
    np.testing.assert_allclose(plane.explained, (sizes**2 / (sizes**2).sum())[:2], rtol=1e-9)
    low, high = np.array(plane.box(0.5)).T
    np.testing.assert_allclose(high - low, 2 * np.ptp(plane.path, axis=0))
    assert (low < plane.path.min(axis=0)).all() and (high > plane.path.max(axis=0)).all()


def test_a_run_in_a_plane_has_its_own_losses_on_the_map():
    """Two steps span a plane, so that all three iterates are in it, and the map at their places is the loss that they had."""
    rng = np.random.default_rng(0)
    trees = [tree_of(p) for p in rng.standard_normal((3, 12))]
    loss = lambda p: float(np.sum(np.cos(p["w"])) + np.sum(p["b"] ** 3) + np.sum(p["x"][0] ** 2))
    plane = topology.trajectory_plane(np.stack([topology.flat(t) for t in trees]), trees[-1])
    assert plane.explained.sum() == pytest.approx(1.0)
    for tree, place in zip(trees, plane.path, strict=True):
        box = [(c, c + 1.0) for c in place]
        seen = topology.loss_landscape(loss, trees[-1], plane.directions, box, 2, plane.path)
        assert seen.values[0, 0] == pytest.approx(loss(tree)) and seen.path is plane.path


def test_iterates_without_a_plane_are_refused():
    rng = np.random.default_rng(0)
    line = np.outer(np.arange(5.0), rng.standard_normal(12))
    for points, message in ((line, "one line"), (np.ones((4, 12)), "one line"), (line[:2], "at least 3"), (rng.random((5, 11)), "11 numbers")):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            topology.trajectory_plane(points, tree_of(np.zeros(12)))
