"""HIPS autograd's function transforms, under its names and with its results."""

from typing import Any

import numpy as onp
import pytest

import autograd
import autograd.numpy as np
from autograd import (
    checkpoint,
    deriv,
    egrad,
    elementwise_grad,
    grad,
    grad_and_aux,
    grad_named,
    hessian,
    hessian_tensor_product,
    hessian_vector_product,
    holomorphic_grad,
    jacobian,
    make_ggnvp,
    make_hvp,
    make_jvp,
    make_jvp_reversemode,
    make_vjp,
    multigrad_dict,
    tensor_jacobian_product,
    value_and_grad,
    vector_jacobian_product,
)
from autograd.test_util import check_equivalent, check_grads, check_jvp, check_vjp, combo_check, scalar_close

X, V = onp.array([0.3, -1.2, 2.0]), onp.array([1.0, 0.5, -2.0])
A = onp.array([[1.0, 2.0, 0.5], [0.1, -1.0, 3.0]])


def f(x: Any) -> Any:
    return np.sin(x) * x**2


def g(x: Any, k: float = 2.0) -> Any:
    return k * np.sum(f(x))


def slope(x: Any) -> Any:
    return onp.cos(x) * x**2 + 2 * x * onp.sin(x)


def test_first_derivatives() -> None:
    assert type(grad(g)(X)) is onp.ndarray
    onp.testing.assert_allclose(grad(g)(X, 3.0), 3 * slope(X))
    onp.testing.assert_allclose(grad(g, 1)(X, 3.0), onp.sum(onp.sin(X) * X**2))
    value, gradient = value_and_grad(g)(X)
    assert value == g(X) and onp.allclose(gradient, 2 * slope(X))
    onp.testing.assert_allclose(elementwise_grad(f)(X), slope(X))
    assert egrad is elementwise_grad
    onp.testing.assert_allclose(deriv(f)(2.0), slope(2.0))
    onp.testing.assert_allclose(jacobian(f)(X), onp.diag(slope(X)))
    gradient, aux = grad_and_aux(lambda x: (g(x), {"x": x[0]}))(X)
    assert onp.allclose(gradient, 2 * slope(X)) and aux["x"] == X[0]
    assert grad_named(lambda a, b: a * b**2, "b")(2.0, 3.0) == 12.0
    assert grad(lambda x: x**2)(3) == 6.0  # a Python integer is a number; HIPS refuses it
    a, c = grad(lambda a, b, c: np.sum(a * b * c), (0, 2))(X, V, 2.0)
    assert onp.allclose(a, 2 * V) and onp.isclose(c, X @ V)


def test_higher_derivatives() -> None:
    second = 2 * onp.sin(X) + 4 * X * onp.cos(X) - X**2 * onp.sin(X)
    onp.testing.assert_allclose(hessian(g)(X), onp.diag(2 * second))
    assert hessian(lambda x: np.outer(x, x)[0])(X).shape == (3, 3, 3)
    onp.testing.assert_allclose(elementwise_grad(elementwise_grad(f))(X), second)
    assert grad(grad(grad(lambda x: x**5)))(1.5) == 60 * 1.5**2
    onp.testing.assert_allclose(hessian_vector_product(g)(X, V), 2 * second * V)
    assert hessian_tensor_product is hessian_vector_product
    product, gradient = make_hvp(g)(X)
    onp.testing.assert_allclose(product(V), 2 * second * V)
    onp.testing.assert_allclose(gradient, 2 * slope(X))


def test_products_with_jacobians() -> None:
    h = lambda x: np.tanh(np.dot(A, x))
    j = jacobian(h)(X)
    pull, value = make_vjp(h)(X)
    onp.testing.assert_allclose(pull(onp.array([1.0, -2.0])), onp.array([1.0, -2.0]) @ j)
    onp.testing.assert_allclose(value, h(X))
    value, tangent = make_jvp(h)(X)(V)
    onp.testing.assert_allclose(tangent, j @ V)
    onp.testing.assert_allclose(make_jvp_reversemode(h)(X)(V), j @ V)
    onp.testing.assert_allclose(vector_jacobian_product(h)(X, onp.array([1.0, -2.0])), onp.array([1.0, -2.0]) @ j)
    outer = lambda x: np.outer(x, x)
    onp.testing.assert_allclose(tensor_jacobian_product(outer)(X, V), onp.tensordot(V, jacobian(outer)(X), 1))
    onp.testing.assert_allclose(make_ggnvp(h)(X)(V), j.T @ j @ V)
    loss = lambda y: np.sum(np.exp(y))
    onp.testing.assert_allclose(make_ggnvp(h, loss)(X)(V), j.T @ onp.diag(onp.exp(h(X))) @ j @ V)


def test_complex_functions() -> None:
    z = 1.0 + 2.0j
    onp.testing.assert_allclose(holomorphic_grad(lambda z: z**3 * np.exp(z))(z), (3 * z**2 + z**3) * onp.exp(z))
    with pytest.raises(TypeError, match="real"):
        holomorphic_grad(lambda z: z**3)(1.0)
    with pytest.raises(TypeError, match="real numbers"):
        elementwise_grad(lambda z: z**3)(z)


def test_multigrad_dict() -> None:
    def h(a, b=3.0, *rest, c=2.0, **more):
        return a**2 * b + sum(rest) * c + more["d"] ** 2

    found = multigrad_dict(h)(1.0, 2.0, 5.0, 6.0, d=4.0)
    assert found == {"a": 4.0, "b": 1.0, "rest": (2.0, 2.0), "c": 11.0, "more": {"d": 8.0}}
    assert multigrad_dict(lambda a, b=3.0: a * b)(2.0) == {"a": 3.0, "b": 2.0}


def test_trees_nest() -> None:
    p = {"w": A, "list": [X, (V, 2.0)]}
    found = grad(lambda p: np.sum(np.dot(p["w"], p["list"][0])) * p["list"][1][1] + np.sum(p["list"][1][0] ** 2))(p)
    assert found["list"][1][1] == pytest.approx(onp.sum(A @ X))
    onp.testing.assert_allclose(found["list"][1][0], 2 * V)
    assert isinstance(found["list"], list) and isinstance(found["list"][1], tuple)


def test_an_inner_transform_of_plain_arrays_does_not_leak_its_variables() -> None:
    inner = lambda a, t: egrad(lambda a, t: np.exp(-a * t), 1)(a, t)
    value, gradient = value_and_grad(lambda a: np.sum(inner(a, X)))(0.5)
    assert isinstance(value, float) and isinstance(gradient, float)
    onp.testing.assert_allclose(gradient, onp.sum(onp.exp(-0.5 * X) * (0.5 * X - 1)))


def test_the_state_after_an_exception() -> None:
    def fails(x):
        np.sin(x)
        raise RuntimeError("stop")

    for _ in range(2):
        with pytest.raises(RuntimeError, match="stop"):
            grad(lambda x: grad(fails)(x))(1.0)
    assert grad(lambda x: x * grad(lambda y: x * y**2)(3.0))(2.0) == 24.0
    assert type(np.sin(X)) is onp.ndarray


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(TypeError, match="argument 2"):
        grad(lambda x, y: x * y, 2)(1.0, 2.0)
    with pytest.raises(TypeError, match="make_vjp: argument 1"):
        make_vjp(lambda x: x, 1)(1.0)
    with pytest.raises(TypeError, match="no argument 'c'"):
        grad_named(lambda a, b: a, "c")
    with pytest.raises(TypeError, match="scalar"):
        grad(lambda x: x**2)(X)


def test_checkpoint_computes_again() -> None:
    calls = []

    def layer(p, x):
        calls.append(1)
        return np.tanh(np.dot(p["w"], x) + p["b"])

    p = {"w": A, "b": onp.array([0.1, 0.2])}
    loss = lambda run: lambda p, x: np.sum(run(p, x) ** 2)
    expected = grad(loss(layer), (0, 1))(p, X)
    calls.clear()
    found = grad(loss(checkpoint(layer)), (0, 1))(p, X)
    assert len(calls) == 1  # HIPS autograd calls it again; here its operations run again
    onp.testing.assert_array_equal(found[0]["w"], expected[0]["w"])
    onp.testing.assert_array_equal(found[1], expected[1])
    check_grads(lambda w, x: loss(checkpoint(layer))({"w": w, "b": p["b"]}, x), (0, 1), order=2)(A, X)
    assert grad(lambda x: checkpoint(lambda y: y * x)(2.0 * x))(3.0) == 12.0  # x is read from the surroundings


def test_the_places_where_libraries_look_for_names() -> None:
    from autograd.differential_operators import make_jvp_reversemode as there

    from autograd import differential_operators, wrap_util
    from autograd.builtins import DictBox, isinstance, list, tuple, type
    from autograd.numpy.numpy_boxes import ArrayBox
    from autograd.numpy.numpy_vjps import unbroadcast_f
    from autograd.tracer import getval, isbox

    assert differential_operators is wrap_util and there is make_jvp_reversemode
    assert wrap_util.unary_to_nary(lambda fun, x: fun(x) + 1)(lambda a, b: a * b, 1)(2.0, 3.0) == 7.0
    seen = {}

    def look(p):
        seen["dict"] = isinstance(p, DictBox) and isinstance(p, autograd.dict)
        seen["array"] = isinstance(p["x"], onp.ndarray) and type(p["x"]) is onp.ndarray and isinstance(p["x"], ArrayBox)
        seen["box"] = isbox(p["x"]) and not isbox(getval(p["x"]))
        seen["containers"] = isinstance(list([1]), list) and isinstance(tuple([1]), tuple)
        return np.sum(p["x"])

    grad(look)({"x": X})
    assert seen == {"dict": True, "array": True, "box": True, "containers": True}
    onp.testing.assert_array_equal(unbroadcast_f(X[None, :1], lambda g: g * A)(1.0), [[A.sum()]])


def test_check_grads_finds_a_wrong_rule() -> None:
    from autograd.extend import defvjp, primitive

    wrong = primitive(lambda x: x**2)
    defvjp(wrong, lambda ans, x: lambda g: g * x)
    with pytest.raises(AssertionError, match="by rule"):
        check_vjp(wrong, X)
    with pytest.raises(AssertionError):
        check_jvp(wrong, X)
    with pytest.raises(AssertionError):
        check_grads(wrong)(X)
    with pytest.raises(AssertionError, match="different spaces"):
        check_equivalent(X, X[:2])
    assert scalar_close(1.0, 1.0 + 1e-7) and not scalar_close(1.0, 1.01) and not scalar_close(1.0, float("nan"))
    combo_check(lambda x, k, scale=1.0: scale * x**k, 0)([X, 2.0 * X], [2, 3], scale=[1.0, -0.5])
    with pytest.raises(ValueError, match="modes"):
        check_grads(f, modes=["backward"])(X)


def test_a_complex_output_has_no_gradient() -> None:
    for fun in (lambda x: x * (1.0 + 0.2j), lambda x: np.sum(np.fft.fft(np.array([x, 1.0])))):
        with pytest.raises(TypeError, match="complex number"):
            grad(fun)(1.0)
    with pytest.raises(TypeError, match="complex number"):
        grad(lambda x: 1j)(1.0)


def test_the_core_under_its_own_names() -> None:
    from autograd import core

    pull, value = core.make_vjp(f, X)
    onp.testing.assert_array_equal(value, f(X))
    onp.testing.assert_allclose(pull(V), V * (onp.cos(X) * X**2 + onp.sin(X) * 2 * X))
    assert core.make_jvp(f, X)(V)[1].shape == X.shape and core.vspace(X).size == 3


def test_a_failed_check_names_the_function() -> None:
    def foo(x: Any) -> Any:
        return x * float(x)

    with pytest.raises(AssertionError, match=r"\(VJP\) check of foo failed"):
        check_grads(foo, modes=["rev"], order=1)(1.0)
