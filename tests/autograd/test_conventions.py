"""What derivatives are by convention where there is none: at ties, corners, zeros, and of arrays without elements.

Drawn calls never land there, as differences say nothing there; so each convention is written down here.
"""

import numpy as np
import pytest

from autograd import grad, ops


@pytest.mark.parametrize(
    ("f", "x", "slopes"),
    [
        (ops.relu, [-1.0, 0.0, 2.0], [0.0, 0.0, 1.0]),
        (lambda x: ops.leaky_relu(x, 0.1), [-1.0, 0.0, 2.0], [0.1, 0.1, 1.0]),
        (lambda x: ops.elu(x, 0.5), [0.0, 2.0], [0.5, 1.0]),
        (lambda x: ops.clip(x, -1.0, 2.0), [-1.5, -1.0, 0.0, 2.0, 2.5], [0.0, 1.0, 1.0, 1.0, 0.0]),
        (ops.abs, [-1.0, 0.0, 2.0], [-1.0, 0.0, 1.0]),
        (ops.max, [1.0, 3.0, 3.0, 2.0], [0.0, 0.5, 0.5, 0.0]),
        (ops.min, [3.0, 1.0, 1.0, 1.0], [0.0, 1 / 3, 1 / 3, 1 / 3]),
        (lambda x: ops.maximum(x, 1.0), [0.0, 1.0, 2.0], [0.0, 0.5, 1.0]),
        (lambda x: ops.minimum(1.0, x), [0.0, 1.0, 2.0], [1.0, 0.5, 0.0]),
        (ops.std, [2.0, 2.0, 2.0], [0.0, 0.0, 0.0]),
        (ops.var, [2.0, 2.0, 2.0], [0.0, 0.0, 0.0]),
        (ops.norm, [0.0, 0.0], [0.0, 0.0]),
        (ops.prod, [0.0, 2.0, 3.0], [6.0, 0.0, 0.0]),
        (ops.prod, [0.0, 2.0, 0.0], [0.0, 0.0, 0.0]),
        (lambda x: ops.astype(x, "int64") * x, [1.5, -2.5], [1.0, -2.0]),
    ],
)
def test_slopes_where_there_is_a_corner(f, x, slopes):
    np.testing.assert_allclose(grad(lambda x: ops.sum(f(x)))(np.array(x)), slopes, rtol=1e-15)


def test_matmul_of_a_batch_and_a_vector():
    """The sum over the batch is the engine's; the rule's part is the outer product."""
    rng = np.random.default_rng(0)
    a, v, g = rng.normal(size=(2, 3, 4)), rng.normal(size=4), rng.normal(size=(2, 3))
    da, dv = grad(lambda a, v: ops.sum(ops.matmul(a, v) * g), (0, 1))(a, v)
    np.testing.assert_allclose(da, g[..., None] * v, rtol=1e-14)
    np.testing.assert_allclose(dv, np.einsum("bij,bi->j", a, g), rtol=1e-14)
    b, w, h = rng.normal(size=(2, 4, 3)), rng.normal(size=4), rng.normal(size=(2, 3))
    dw, db = grad(lambda w, b: ops.sum(ops.matmul(w, b) * h), (0, 1))(w, b)
    np.testing.assert_allclose(dw, np.einsum("bij,bj->i", b, h), rtol=1e-14)
    np.testing.assert_allclose(db, w[:, None] * h[:, None, :], rtol=1e-14)


def test_dot_of_two_vectors():
    x, y = np.array([1.0, -2.0, 3.0]), np.array([0.5, 4.0, -1.0])
    dx, dy = grad(lambda x, y: 3.0 * ops.matmul(x, y), (0, 1))(x, y)
    assert dx.tolist() == [1.5, 12.0, -3.0] and dy.tolist() == [3.0, -6.0, 9.0]


@pytest.mark.parametrize(("f", "y"), [(ops.xlogy, 0.0), (ops.xlog1py, -1.0), (ops.rel_entr, 0.0)])
def test_nothing_of_the_logarithm_of_nothing(f, y):
    assert grad(lambda y: ops.sum(f(np.zeros(1), y)))(np.array([y])).tolist() == [0.0]


def test_power_of_nothing_to_nothing():
    dx, dy = grad(lambda x, y: ops.sum(ops.power(x, y) * 3.0), (0, 1))(np.array([0.0, 2.0]), np.array([0.0, 0.0]))
    assert dx.tolist() == [0.0, 0.0] and dy[1] == 3.0 * np.log(2.0)


def test_power_of_scalars_has_the_bits_of_arrays():
    """With AVX-512 NumPy's arrays take another function than its scalars."""
    rng = np.random.default_rng(0)
    x, y = rng.uniform(0.1, 3, 300).astype(np.float32), rng.uniform(-3, 3, 300).astype(np.float32)
    of_all = lambda f: np.array([f(a, b) for a, b in zip(x, y, strict=True)]).tobytes()
    assert of_all(ops.power) == ops.power(x, y).tobytes()
    assert of_all(lambda a, b: ops.power(2.5, b)) == ops.power(2.5, y).tobytes()
    assert of_all(lambda a, b: ops.power(a, 1.7)) == ops.power(x, 1.7).tobytes()
    assert of_all(grad(ops.power)) == grad(lambda v: ops.power(v, y).sum())(x).tobytes()
