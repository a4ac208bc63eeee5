"""Primitives with rules of one's own (``autograd.extend``), vector spaces, and the helpers of ``autograd.misc``."""

from collections import Counter
from typing import Any

import numpy as onp
import pytest
import scipy.special

import autograd.numpy as np
from autograd import AutogradContext, DiffTensor, grad, hessian, jacobian, make_jvp, no_grad
from autograd.batching import vmap
from autograd.extend import (
    SparseObject,
    def_linear,
    defjvp,
    defjvp_argnum,
    defvjp,
    defvjp_argnum,
    defvjp_argnums,
    notrace_primitive,
    primitive,
    register_notrace,
    vspace,
)
from autograd.misc import flatten, flatten_func
from autograd.misc.fixed_points import fixed_point
from autograd.misc.optimizers import adam, rmsprop, sgd
from autograd.test_util import check_grads

X = onp.array([0.3, -1.2, 2.0])


def _erf() -> Any:
    """A primitive whose body only takes plain arrays."""

    @primitive
    def erf(x: Any) -> Any:
        assert not isinstance(x, DiffTensor)
        return scipy.special.erf(x)

    defvjp(erf, lambda ans, x: lambda g: g * np.exp(-(x**2)) * 2.0 / onp.sqrt(onp.pi))
    return erf


def test_a_primitive_has_derivatives_of_every_order() -> None:
    erf = _erf()
    check_grads(erf, order=3)(X)
    assert type(erf(X)) is onp.ndarray and erf.__name__ == "erf" and erf.fun(0.0) == 0.0
    onp.testing.assert_allclose(
        hessian(lambda x: np.sum(erf(x)))(X), onp.diag(-4 * X * onp.exp(-(X**2)) / onp.sqrt(onp.pi))
    )


def test_the_engine_sums_over_broadcast_axes_and_keeps_dtypes() -> None:
    product = primitive(lambda x, y: x * y)
    defvjp(product, lambda ans, x, y: lambda g: g * y, lambda ans, x, y: lambda g: g * x)
    ones = onp.ones((4, 3), onp.float32)
    a, b = grad(lambda x, y: np.sum(product(x, y)), (0, 1))(X.astype(onp.float32), ones)
    assert a.shape == (3,) and b.shape == (4, 3) and a.dtype == b.dtype == onp.float32
    onp.testing.assert_array_equal(a, [4, 4, 4])


def test_arguments_and_results_may_be_trees() -> None:
    @primitive
    def moments(p: dict, k: int) -> tuple:
        return p["a"].sum() ** k, {"b": p["b"][0] * 2.0, "n": onp.arange(3)}

    def rule(argnums: tuple, ans: Any, args: tuple, kwargs: dict) -> Any:
        p, k = args
        return lambda g: [{"a": g[0] * k * np.sum(p["a"]) ** (k - 1) * np.ones(3), "b": [g[1]["b"] * 2.0]}]

    defvjp_argnums(moments, rule)

    def f(p: dict) -> Any:
        total, more = moments(p, 2)
        assert type(more["n"]) is onp.ndarray
        return total + np.sum(more["b"] ** 2)

    point = {"a": X, "b": [X[:2]]}
    found = grad(f)(point)
    onp.testing.assert_allclose(found["a"], 2 * X.sum() * onp.ones(3))
    onp.testing.assert_allclose(found["b"][0], 8 * X[:2])
    assert grad(lambda p: moments(p, 3)[0])(point)["b"][0].tolist() == [0.0, 0.0]  # the part that was not used
    check_grads(f, order=2, modes=["rev"])(point)


def test_rules_for_chosen_arguments() -> None:
    f = primitive(lambda x, n, y: x**n * y)
    defvjp(f, None, lambda ans, x, n, y: lambda g: g * x**n, argnums=(0, 2))
    assert grad(f, (0, 2))(2.0, 3, 5.0) == (0.0, 8.0)
    with pytest.raises(NotImplementedError, match="argument 1"):
        grad(f, 1)(2.0, 3.0, 5.0)
    with pytest.raises(NotImplementedError, match="no derivative rule"):
        grad(primitive(lambda x: x))(1.0)
    each = primitive(lambda *xs: sum(xs))
    defvjp_argnum(each, lambda i, ans, args, kwargs: lambda g: g * (i + 1.0))
    assert grad(each, (0, 2))(1.0, 1.0, 1.0) == (1.0, 3.0)
    with pytest.raises(TypeError, match="make one of it first"):
        defvjp(onp.sin, None)


def test_tangent_rules_serve_where_there_is_no_reverse_rule() -> None:
    f = primitive(lambda x, y: np.sin(x) * y)
    defjvp(f, lambda g, ans, x, y: g * np.cos(x) * y, "same")
    check_grads(lambda x, y: f(x, y), (0, 1), order=2)(X, X + 3.0)
    linear = primitive(lambda x: np.dot(onp.arange(6.0).reshape(2, 3), x))
    def_linear(linear)
    onp.testing.assert_array_equal(jacobian(linear)(X), onp.arange(6.0).reshape(2, 3))
    power = primitive(lambda x, n: x**n)
    defjvp_argnum(power, lambda i, g, ans, args, kwargs: g * args[1] * args[0] ** (args[1] - 1) if i == 0 else 0.0 * g)
    assert grad(power)(2.0, 3.0) == 12.0
    assert make_jvp(power)(2.0, 3.0)(1.0) == (8.0, 12.0)


def test_gradients_are_never_lost_silently() -> None:
    erf = _erf()
    with pytest.raises(TypeError, match="keyword 'x'"):
        grad(lambda x: erf(x=x))(0.5)
    outside = DiffTensor(2.0, requires_grad=True)
    leak = primitive(lambda x: x * outside)
    defvjp(leak, lambda ans, x: lambda g: g * 2.0)
    with pytest.raises(TypeError, match="surroundings"):
        grad(leak)(1.0)
    short = primitive(lambda p: p[0] + p[1])
    defvjp(short, lambda ans, p: lambda g: [g])
    with pytest.raises(ValueError, match="returned 1 arrays; the argument has 2"):
        grad(lambda x: short([x, x]))(1.0)


def test_contexts_see_primitives() -> None:
    erf = _erf()
    t = DiffTensor(X, requires_grad=True)
    with no_grad():
        assert type(erf(t)) is onp.ndarray
    seen: Counter = Counter()
    with AutogradContext(observer=lambda row, *_: seen.update([row.name])):
        np.sum(erf(t)).backward()
    assert seen["erf"] == 2  # forward and its rule
    onp.testing.assert_allclose(t.grad, onp.exp(-(X**2)) * 2 / onp.sqrt(onp.pi))


def test_primitives_under_vmap() -> None:
    erf = _erf()
    batch = onp.stack([X, 2 * X])
    slope = lambda x: onp.exp(-(x**2)) * 2 / onp.sqrt(onp.pi)
    onp.testing.assert_allclose(vmap(erf)(batch), scipy.special.erf(batch))
    onp.testing.assert_allclose(vmap(grad(lambda x: np.sum(erf(x))))(batch), slope(batch))
    found = grad(lambda w: np.sum(vmap(lambda x: erf(w * x))(batch)))(0.7)
    onp.testing.assert_allclose(found, onp.sum(batch * slope(0.7 * batch)))


def test_functions_without_gradient() -> None:
    count = notrace_primitive(lambda x: float(onp.sum(x > 0)))
    assert grad(lambda x: count(x) * np.sum(x))(X).tolist() == [2.0] * 3
    other = primitive(lambda x: x * 3.0)
    register_notrace(None, other)
    assert grad(lambda x: np.sum(other(x) * x))(X).tolist() == (3 * X).tolist()


def test_sparse_gradients_become_dense() -> None:
    first = primitive(lambda x: x[0])

    def rule(ans: Any, x: Any) -> Any:
        def pull(g: Any) -> SparseObject:
            def mut_add(a: onp.ndarray) -> onp.ndarray:
                a[0] += g
                return a

            return SparseObject(vspace(x), mut_add)

        return pull

    defvjp(first, rule)
    assert grad(lambda x: first(x) ** 2)(X).tolist() == [2 * X[0], 0.0, 0.0]


def test_vector_spaces() -> None:
    tree = {"a": X, "b": [1.0, onp.array([1j, 2.0])]}
    space = vspace(tree)
    assert space.size == 3 + 1 + 4 and space.iscomplex and space == vspace(tree) and space != vspace(X)
    assert len(list(space.standard_basis())) == space.size
    assert space.ones()["b"][1][0] == 1 + 1j and space.zeros()["a"].shape == (3,)
    other = space.randn(onp.random.default_rng(3))
    flat = lambda t: onp.concatenate([t["a"], [t["b"][0]], t["b"][1].real, t["b"][1].imag])
    assert space.inner_prod(tree, other) == pytest.approx(flat(tree) @ flat(other))
    doubled = space.add(tree, space.scalar_mul(tree, 1.0))
    assert doubled["b"][0] == 2.0 and space.mut_add(None, tree) is tree and space.covector(tree)["b"][1][0] == -1j
    assert vspace(X).ndim == 1 and vspace(X).dtype == float and "shape=(3,)" in repr(vspace(X))
    with pytest.raises(TypeError, match="no vector"):
        vspace("text")


def test_flatten() -> None:
    tree = {"b": [onp.ones((2, 2), onp.float32), 3.0], "a": (X, {"c": onp.array(2.0)})}
    vector, unflatten = flatten(tree)
    onp.testing.assert_array_equal(vector, [*X, 2.0, 1, 1, 1, 1, 3.0])
    again = unflatten(2 * vector)
    assert again["b"][0].dtype == onp.float32 and again["b"][0].shape == (2, 2) and again["b"][1] == 6.0
    assert isinstance(again["a"], tuple) and list(again) == list(tree)
    check_grads(lambda v: np.sum(unflatten(v)["a"][0] ** 2) * unflatten(v)["b"][1])(vector)
    check_grads(lambda t: np.sum(np.sin(flatten(t)[0])), modes=["rev"])({"x": X, "y": 1.0})
    assert flatten([])[0].shape == (0,)
    with pytest.raises(ValueError, match="9 elements"):
        unflatten(vector[1:])
    double, back, start = flatten_func(lambda p: {"x": p["x"] * 2.0}, {"x": X})
    onp.testing.assert_array_equal(back(double(start))["x"], 2 * X)


def test_optimizers_step_as_hips_defines_them() -> None:
    target = {"x": X, "y": onp.array(1.0)}
    gradient = grad(lambda p, i: np.sum((p["x"] - target["x"]) ** 2) + (p["y"] - target["y"]) ** 2)
    start = {"x": onp.zeros(3), "y": 0.0}
    seen: list = []
    callback = lambda p, i, g: seen.append((i, p["x"].copy(), g["y"]))
    one = sgd(gradient, start, callback, num_iters=1, step_size=0.5, mass=0.8)
    onp.testing.assert_allclose(one["x"], 0.5 * 0.2 * 2 * X)
    assert seen[0][0] == 0 and seen[0][1].tolist() == [0.0] * 3 and seen[0][2] == -2.0
    two = rmsprop(gradient, start, num_iters=1, step_size=0.5, gamma=0.9)
    onp.testing.assert_allclose(two["x"], 0.5 * 2 * X / (onp.sqrt(0.9 + 0.1 * 4 * X**2) + 1e-8))
    three = adam(gradient, start, num_iters=1, step_size=0.5)
    onp.testing.assert_allclose(three["x"], 0.5 * onp.sign(X), rtol=1e-6)
    for optimizer in (sgd, rmsprop, adam):
        end = optimizer(gradient, start, num_iters=500, step_size=0.05)
        onp.testing.assert_allclose(end["x"], X, atol=0.05)


def test_fixed_points() -> None:
    heron = lambda a: lambda x: 0.5 * (x + a / x)
    root = lambda a: fixed_point(heron, a, 1.0, lambda x, y: abs(x - y), 1e-12)
    assert root(2.0) == pytest.approx(2**0.5)
    assert grad(root)(2.0) == pytest.approx(0.5 * 2**-0.5)
    assert grad(grad(root))(2.0) == pytest.approx(-0.25 * 2**-1.5)
    step = lambda p: lambda x: np.tanh(np.dot(p["w"], x) + p["b"])
    p = {"w": 0.2 * onp.cos(onp.arange(9.0)).reshape(3, 3), "b": X}
    solve = lambda p: fixed_point(step, p, onp.zeros(3), lambda x, y: onp.max(onp.abs(x - y)), 1e-13)
    check_grads(lambda p: np.sum(solve(p) ** 2), modes=["rev"], order=1)(p)
    assert grad(lambda x0: fixed_point(heron, 2.0, x0, lambda x, y: abs(x - y), 1e-12))(1.0) == 0.0
