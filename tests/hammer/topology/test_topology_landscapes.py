"""The loss around parameters and between two of them, beside formulas."""

import numpy as np
import pytest

from autograd import DiffTensor, nn, ops
from autograd.per_example import functional_call
from hammer import topology


def test_directions_have_the_norms_of_filters():
    rng = np.random.default_rng(0)
    params = {"w": rng.standard_normal((5, 3)), "b": rng.standard_normal(3), "k": rng.standard_normal((2, 2, 4))}
    one, other = topology.random_directions(params, 2, rng)
    np.testing.assert_allclose(np.linalg.norm(one["w"], axis=0), np.linalg.norm(params["w"], axis=0))
    np.testing.assert_allclose((one["k"] ** 2).sum(axis=(0, 1)), (params["k"] ** 2).sum(axis=(0, 1)))
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
    assert found.coordinates[0].tolist() == [-0.5, -0.25, 0.0, 0.25, 0.5]
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
