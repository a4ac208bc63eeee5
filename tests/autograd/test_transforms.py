"""Function transforms against analytic results: nested in any order, over trees, with perturbation confusion ruled out."""

import itertools

import numpy as np
import pytest

from autograd import DiffTensor, grad, hessian, hvp, jacobian, jvp, no_grad, ops, value_and_grad, vjp
from autograd.testing import check_grads


def forward(f):
    """The derivative of a scalar function of a number, by forward mode."""
    return lambda x: jvp(f, (x,), (1.0,))[1]


def backward(f):
    return lambda x: vjp(f, x)[1](1.0)[0]


def by_jacobian(f):
    return jacobian(f)


MODES = {"grad": grad, "jvp": forward, "vjp": backward, "jacobian": by_jacobian}


# ---- values ----


def test_results_are_plain_for_plain_arguments_and_tensors_for_tensors():
    assert isinstance(grad(lambda x: x * x)(3.0), np.float64)
    assert isinstance(grad(ops.sum)(np.ones(2)), np.ndarray)
    assert isinstance(grad(ops.sum)(DiffTensor(np.ones(2))), DiffTensor)
    value, g = value_and_grad(lambda x: x * x)(3.0)
    assert (value, g) == (9.0, 6.0) and not isinstance(value, DiffTensor)
    assert grad(lambda x: x * x)(3) == 6.0  # a Python integer is meant as a number
    assert grad(ops.sum)(np.ones(2, np.float32)).dtype == np.float32


def test_argnum_and_kwargs():
    def f(x, y, *, scale=1.0):
        return x * x * y * scale

    assert grad(f, 1)(2.0, 3.0) == 4.0
    assert grad(f, (0, 1))(2.0, 3.0) == (12.0, 4.0)
    assert grad(f, (1, 0))(2.0, 3.0, scale=2.0) == (8.0, 24.0)
    assert grad(f, -1)(2.0, 3.0) == 4.0
    assert value_and_grad(f, (0,))(2.0, 3.0) == (12.0, (12.0,))
    with pytest.raises(TypeError, match="argument 2 is to be differentiated, but only 2"):
        grad(f, 2)(1.0, 2.0)


def test_trees():
    params = {"w": np.array([[1.0, 2.0]]), "layers": [np.array([3.0]), (4.0, np.float32(5.0))], "none": None}

    def f(p, x):
        return ops.sum(p["w"] * x) + p["layers"][0][0] ** 2 * p["layers"][1][0] + p["layers"][1][1]

    g = grad(f)(params, 10.0)
    assert set(g) == {"w", "layers", "none"} and g["none"] is None
    np.testing.assert_array_equal(g["w"], [[10.0, 10.0]])
    np.testing.assert_array_equal(g["layers"][0], [24.0])
    assert g["layers"][1][0] == 9.0 and g["layers"][1][1] == 1.0
    assert g["layers"][1][1].dtype == np.float32
    with pytest.raises(TypeError, match="holds str"):
        grad(f)({"w": "x"}, 1.0)


def test_has_aux():
    def f(x):
        return (x**2).sum(), {"twice": x * 2, "text": "kept"}

    g, aux = grad(f, has_aux=True)(np.array([1.0, 2.0]))
    np.testing.assert_array_equal(g, [2.0, 4.0])
    np.testing.assert_array_equal(aux["twice"], [2.0, 4.0])
    assert isinstance(aux["twice"], np.ndarray) and aux["text"] == "kept"
    (value, aux), g = value_and_grad(f, has_aux=True)(np.array([1.0, 2.0]))
    assert value == 5.0 and aux["text"] == "kept"


def test_a_function_that_does_not_depend_on_its_argument():
    np.testing.assert_array_equal(grad(lambda x: 3.0)(np.ones(2)), np.zeros(2))
    np.testing.assert_array_equal(grad(lambda x: ops.sum(x.detach()))(np.ones(2)), np.zeros(2))
    np.testing.assert_array_equal(jacobian(lambda x: np.ones(2))(np.ones(3)), np.zeros((2, 3)))
    assert jvp(lambda x: 2.0, (1.0,), (1.0,)) == (2.0, 0.0)
    np.testing.assert_array_equal(vjp(lambda x: np.ones(2), np.ones(3))[1](np.ones(2))[0], np.zeros(3))
    np.testing.assert_array_equal(hvp(lambda x: ops.sum(x))(np.ones(3), np.ones(3)), np.zeros(3))
    assert grad(grad(lambda x: 2.0 * x))(1.0) == 0.0


def test_errors():
    with pytest.raises(TypeError, match=r"must return a scalar, not an array of shape \(2,\)"):
        grad(lambda x: x)(np.ones(2))
    with pytest.raises(TypeError, match="int64"):
        grad(lambda x: ops.sum(x))(np.ones(2, int))
    with pytest.raises(ValueError, match=r"tangent of shape \(3,\) for a primal of shape \(2,\)"):
        jvp(ops.exp, (np.ones(2),), (np.ones(3),))
    with pytest.raises(TypeError, match="structure"):
        vjp(lambda x: {"a": x}, 1.0)[1]([1.0])


def test_functions_that_return_constants():
    assert grad(lambda x: np.float64(3.0))(1.0) == 0.0
    assert grad(lambda x: np.array(3.0))(1.0) == 0.0
    assert value_and_grad(lambda x: 3)(1.0) == (3, 0.0)
    for constant in (np.ones(2), "text", [1.0, 2.0]):
        with pytest.raises(TypeError, match="must return a scalar"):
            grad(lambda x, c=constant: c)(1.0)


def test_a_scalar_in_an_array_counts_as_a_scalar():
    np.testing.assert_array_equal(grad(lambda x: x[:1] * 2.0)(np.ones(2)), [2.0, 0.0])


# ---- products with Jacobians ----


def test_vjp_and_jvp_of_several_outputs():
    def f(x, y):
        return {"product": x * y, "sum": ops.sum(x)}

    x, y = np.array([1.0, 2.0]), np.array([3.0, 4.0])
    value, pullback = vjp(f, x, y)
    np.testing.assert_array_equal(value["product"], [3.0, 8.0])
    gx, gy = pullback({"product": np.array([1.0, 10.0]), "sum": 100.0})
    np.testing.assert_array_equal(gx, [103.0, 140.0])
    np.testing.assert_array_equal(gy, [1.0, 20.0])
    value, tangent = jvp(f, (x, y), (np.array([1.0, 0.0]), np.array([0.0, 1.0])))
    np.testing.assert_array_equal(tangent["product"], [3.0, 2.0])
    assert tangent["sum"] == 1.0
    assert value["sum"] == 3.0


def test_a_pullback_may_be_called_again_and_later():
    x = np.array([1.0, 2.0])
    _, pullback = vjp(lambda x: x * x, x)
    x[:] = 1e9
    for scale in (1.0, 2.0):
        np.testing.assert_array_equal(pullback(np.full(2, scale))[0], scale * np.array([2.0, 4.0]))


def test_jacobians_and_hessians():
    a = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(jacobian(lambda x: a @ x)(np.ones(3)), a)
    j = jacobian(lambda x: ops.outer(x, x))(np.array([1.0, 2.0]))
    assert j.shape == (2, 2, 2)
    np.testing.assert_array_equal(j[:, :, 0], [[2.0, 2.0], [2.0, 0.0]])
    q = a.T @ a + np.diag([1.0, 2.0, 3.0])
    np.testing.assert_allclose(hessian(lambda x: 0.5 * (x @ q @ x))(np.ones(3)), q)
    m = np.arange(4.0).reshape(2, 2) + 1
    assert hessian(lambda m: ops.sum(m**3))(m).shape == (2, 2, 2, 2)
    np.testing.assert_allclose(np.einsum("ijij->ij", hessian(lambda m: ops.sum(m**3))(m)), 6 * m)
    assert jacobian(lambda x: x[:0])(np.ones(3)).shape == (0, 3)
    many = jacobian(lambda x: ops.concat([x * k for k in range(50)]))(np.ones(4))
    np.testing.assert_array_equal(many, np.concatenate([k * np.eye(4) for k in range(50)]))
    tree = jacobian(lambda p: {"s": p["a"].sum() * p["b"]})({"a": np.ones(2), "b": 3.0})
    np.testing.assert_array_equal(tree["s"]["a"], [3.0, 3.0])
    assert tree["s"]["b"] == 2.0


def test_hvp_is_the_hessian_times_a_vector():
    rng = np.random.default_rng(0)
    x, v = rng.normal(size=4), rng.normal(size=4)

    def f(x):
        return ops.sum(ops.sin(x) * x[::-1] ** 2)

    np.testing.assert_allclose(hvp(f)(x, v), hessian(f)(x) @ v)
    params = {"a": x, "b": 2.0}
    found = hvp(lambda p: ops.sum(p["a"] ** 2) * p["b"] ** 2)(params, {"a": v, "b": 1.0})
    np.testing.assert_allclose(found["a"], 8 * v + 8 * x)
    np.testing.assert_allclose(found["b"], 8 * x @ v + 2 * x @ x)


# ---- nesting ----


@pytest.mark.parametrize(
    "names",
    list(itertools.product(MODES, repeat=2))
    + [
        ("grad", "jvp", "vjp"),
        ("jvp", "jvp", "jvp"),
        ("vjp", "grad", "jvp"),
        ("jacobian", "jvp", "grad"),
        ("grad",) * 4,
    ],
)
def test_derivatives_nest_in_any_order(names):
    f = ops.exp
    for name in names:
        f = MODES[name](f)
    np.testing.assert_allclose(f(0.7), np.exp(0.7), rtol=1e-12)

    def g(x):
        return x**5

    factor, power = 1.0, 5
    for name in names:
        g = MODES[name](g)
        factor, power = factor * power, power - 1
    np.testing.assert_allclose(g(2.0), factor * 2.0**power, rtol=1e-12)


@pytest.mark.parametrize(("outer", "inner"), list(itertools.product(MODES, repeat=2)))
def test_perturbations_are_not_confused(outer, inner):
    # d/dx [x · d/dy (x + y)] = 1, and not 2 (Siskind & Pearlmutter 2008)
    d_outer, d_inner = MODES[outer], MODES[inner]
    assert d_outer(lambda x: x * d_inner(lambda y: x + y)(1.0))(1.0) == 1.0
    # d/dx [x · d/dy (x · y)] = 2x
    assert d_outer(lambda x: x * d_inner(lambda y: x * y)(2.0))(3.0) == 6.0
    # the same point inside and outside: d/dx [d/dy (x y²) at y = x] = 4x
    assert d_outer(lambda x: d_inner(lambda y: x * y * y)(x))(3.0) == 12.0
    # a derivative with respect to a variable that the function closes over at the same time
    assert d_outer(lambda x: d_inner(lambda y: x * x * x)(x))(3.0) == 0.0


def test_closures_over_tracked_tensors():
    w = DiffTensor(3.0, requires_grad=True)
    g = grad(lambda x: w * x * x)(2.0)
    assert isinstance(g, DiffTensor) and g.item() == 12.0
    g.backward()
    assert w.grad == 4.0
    w.grad = None
    value, tangent = jvp(lambda x: w * w * x, (2.0,), (1.0,))
    (value + tangent).backward()
    assert w.grad == 2 * 3 * 2 + 2 * 3
    w.grad = None
    j = jacobian(lambda x: w * x)(np.ones(2))
    j.sum().backward()
    assert w.grad == 2.0


def test_a_tracked_argument_keeps_its_place_on_the_outer_tape():
    x = DiffTensor([1.0, 2.0], requires_grad=True)
    g = grad(lambda x: ops.sum(x**3))(x * 2.0)
    np.testing.assert_array_equal(g.numpy(), 3 * np.array([2.0, 4.0]) ** 2)
    assert x.grad is None  # the transform leaves it alone
    g.sum().backward()
    np.testing.assert_array_equal(x.grad, 24.0 * np.array([1.0, 2.0]))
    value, g = value_and_grad(lambda x: ops.sum(x**3))(x)
    (value + ops.sum(g)).backward()


def test_transforms_inside_no_grad_record_nothing_outside():
    w = DiffTensor(3.0, requires_grad=True)
    with no_grad():
        g = grad(lambda x: w * x * x)(2.0)
        assert getattr(g, "node", None) is None and float(g) == 12.0
        assert grad(lambda x: x * grad(lambda y: x * y)(2.0))(3.0) == 6.0
        assert hessian(lambda x: x**3)(2.0) == 12.0
        np.testing.assert_array_equal(hvp(lambda x: ops.sum(x**3))(np.ones(2), np.ones(2)), [6.0, 6.0])


def test_no_grad_inside_a_transform_makes_constants():
    def f(x):
        with no_grad():
            c = x * x
        return c * x

    assert grad(f)(3.0) == 9.0
    assert forward(f)(3.0) == 9.0


def test_third_derivatives_of_several_variables():
    t = jacobian(hessian(lambda x: x[0] ** 2 * x[1] * x[2]))(np.array([1.0, 2.0, 3.0]))
    assert t.shape == (3, 3, 3)
    np.testing.assert_allclose(t, np.transpose(t, (2, 0, 1)))
    assert t[0, 0, 1] == 6.0 and t[0, 1, 2] == 2.0 and t[1, 1, 1] == 0.0


def test_gradient_of_a_step_of_gradient_descent():
    def loss(w):
        return ops.sum((w - np.array([1.0, 2.0])) ** 4)

    def after(rate, w):
        return loss(w - rate * grad(loss)(w))

    check_grads(after, 0.01, np.array([3.0, -1.0]))


# ---- complex numbers ----


def test_the_gradient_convention_of_complex_arguments():
    z = 1.0 + 2.0j
    assert grad(lambda z: ops.real(z))(z) == 1.0
    assert grad(lambda z: ops.imag(z))(z) == -1j  # ∂f/∂x - i ∂f/∂y
    assert grad(lambda z: ops.abs(z) ** 2)(z) == 2.0 - 4.0j
    np.testing.assert_allclose(grad(lambda z: ops.real(z * z * z))(z), 3 * z * z)  # holomorphic: the derivative itself


def test_jvp_and_vjp_of_holomorphic_functions_multiply_by_the_derivative():
    z, v = np.array([0.3 + 0.4j, -1.0 + 0.5j]), np.array([1.0 - 2.0j, 0.5j])
    for fn, derivative in ((ops.exp, np.exp), (ops.sin, np.cos), (lambda z: z**3, lambda z: 3 * z**2)):
        np.testing.assert_allclose(jvp(fn, (z,), (v,))[1], derivative(z) * v)
        np.testing.assert_allclose(vjp(fn, z)[1](v)[0], derivative(z) * v)  # the transpose, without conjugation


def test_complex_functions_that_are_not_holomorphic():
    z = np.array([0.3 + 0.4j, -1.0 + 0.5j])
    for fn in (
        ops.abs,
        ops.real,
        ops.imag,
        ops.conj,
        ops.norm,
        ops.var,
        ops.std,
        lambda z: z * ops.conj(z),
        lambda z: ops.real(z) * z,
    ):
        check_grads(fn, z, order=1)


def test_a_complex_path_between_real_ends():
    check_grads(lambda x: ops.abs(ops.sum(x * np.array([1 + 2j, 3 - 1j]))) ** 2, np.array([0.5, -1.5]))
