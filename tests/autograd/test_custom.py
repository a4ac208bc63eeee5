"""Derivative rules of one's own: used in every mode, at every order, on both sides of vmap."""

import gc

import numpy as np
import pytest

from autograd import (
    BackwardPass,
    DiffTensor,
    custom_jvp,
    custom_vjp,
    grad,
    hessian,
    jacobian,
    jvp,
    no_grad,
    ops,
    stop_gradient,
    vmap,
)
from autograd.testing import check_grads

X = np.random.default_rng(np.random.SeedSequence(1)).normal(size=(4, 2))
x = X[0]


def close(found, expected, rtol=1e-10):
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=rtol, atol=1e-12)


# ---- custom_vjp ----


def _pair(x, y):
    return {"s": ops.sin(x) * y["a"], "p": x + y["b"]}


@custom_vjp
def pair(x, y):
    """A pair."""
    return _pair(x, y)


def _forward(x, y):
    return _pair(x, y), (x, y, "a label")


def _backward(kept, g):
    x, y, label = kept
    assert label == "a label" and isinstance(x, DiffTensor)
    # twice the derivative of s: to be told from what the tape would find
    return g["s"] * ops.cos(x) * y["a"] * 2.0 + g["p"], {"a": (g["s"] * ops.sin(x)).sum(), "b": None}


pair.defvjp(_forward, _backward)
Y = {"a": 2.0, "b": np.array([1.0, 2.0])}


def loss(x, y=Y):
    out = pair(x, y)
    return ops.sum(out["s"] * x + out["p"] ** 2)


def test_the_rule_is_used():
    gx, gy = grad(loss, (0, 1))(x, Y)
    close(gx, 4 * x * np.cos(x) + 2 * np.sin(x) + 2 * (x + Y["b"]))
    close(gy["a"], np.sum(np.sin(x) * x))
    close(gy["b"], np.zeros(2))
    close(grad(lambda x: ops.sum(pair(x, y=Y)["s"]))(x), 4 * np.cos(x))
    close(jvp(lambda x: pair(x, Y)["s"], (x,), (x,))[1], 4 * np.cos(x) * x)
    assert pair.__name__ == "pair" and pair.__doc__ == "A pair."
    close(pair(x, Y)["p"], x + Y["b"])
    tracked = DiffTensor(x, requires_grad=True)
    loss(tracked).backward()
    close(tracked.grad, gx)
    with no_grad():
        assert loss(tracked).node is None


def test_the_rule_is_differentiated():
    # d/dx of 4 x cos x + s(x) + 2 (x + b), where s has twice its derivative
    close(hessian(loss)(x), np.diag(8 * np.cos(x) - 4 * x * np.sin(x) + 2))


def test_the_rule_and_vmap():
    close(vmap(grad(loss), (0, None))(X, Y), np.stack([grad(loss)(x) for x in X]))
    close(grad(lambda X: ops.sum(vmap(loss)(X)))(X), np.stack([grad(loss)(x) for x in X]))
    close(vmap(hessian(loss))(X), np.stack([hessian(loss)(x) for x in X]))
    gy = grad(lambda y: ops.sum(vmap(loss, (0, None))(X, y)))(Y)
    close(gy["a"], sum(grad(loss, 1)(x, Y)["a"] for x in X))

    def twice(X):
        return ops.sum(vmap(grad(loss))(X) ** 2)

    close(grad(twice)(X), grad(lambda X: sum(ops.sum(grad(loss)(X[i]) ** 2) for i in range(4)))(X))
    close(vmap(lambda a: vmap(grad(loss))(X * a))(np.array([1.0, 2.0]))[1], vmap(grad(loss))(2 * X))


def test_a_forward_rule_that_leaves_the_tape():
    """Its output is among the residuals, so the second derivative follows the rule, not the operations."""

    def by_numpy(x):
        return DiffTensor(np.exp(x.numpy() if isinstance(x, DiffTensor) else x))

    def forward(x):
        y = by_numpy(x)
        return y, y

    e = custom_vjp(by_numpy).defvjp(forward, lambda y, g: (g * y,))
    for order in range(1, 4):
        f = e
        for _ in range(order):
            f = grad(f)
        close(f(0.7), np.exp(0.7))


def test_several_outputs_of_which_some_are_not_used_or_not_differentiable():
    f = custom_vjp(lambda x: (x * 2.0, x * 3.0, ops.argmax(x))).defvjp(
        lambda x: ((x * 2.0, x * 3.0, ops.argmax(x)), x), lambda x, g: (g[0] * 2.0 + g[1] * 3.0,)
    )
    close(grad(lambda x: ops.sum(f(x)[1]))(x), [3.0, 3.0])
    close(grad(lambda x: ops.sum(f(x)[0] * f(x)[1]))(x), 12 * x)
    assert f(DiffTensor(x, requires_grad=True))[2].node is None


def test_what_is_kept_is_counted_and_nothing_is_left():
    tracked = DiffTensor(x, requires_grad=True)
    f = custom_vjp(lambda x: x * 1.0).defvjp(lambda x: (x * 1.0, ops.sin(x)), lambda s, g: (g * s,))
    assert BackwardPass([f(tracked)]).bytes_retained >= x.nbytes
    gc.collect()
    gc.disable()
    try:
        loss(tracked).backward()
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_errors():
    same = custom_vjp(lambda x: x)
    with pytest.raises(TypeError, match="no derivative rule"):
        same(x)
    for backward, words in (
        (lambda r, g: g, "tuple of 1 gradients"),
        (lambda r, g: (g, g), "of 2"),
        (lambda r, g: (g[0],), r"gradient of shape \(\) for an input of shape \(2,\)"),
        (lambda r, g: ({"a": g},), "shape"),
    ):
        with pytest.raises(ValueError, match=words):
            grad(lambda x, b=backward: ops.sum(custom_vjp(lambda x: x).defvjp(lambda x: (x, None), b)(x)))(x)
    with pytest.raises(ValueError, match="structure"):
        grad(
            lambda x: ops.sum(
                custom_vjp(lambda d: d["a"]).defvjp(lambda d: (d["a"], None), lambda r, g: ([g],))({"a": x})
            )
        )(x)


# ---- custom_jvp ----


@custom_jvp
def wave(x, k):
    return ops.sin(x) ** k


@wave.defjvp
def _along(primals, tangents):
    (x, k), (tx, tk) = primals, tangents
    assert k == 2 and tk is None
    return wave(x, k), 3.0 * ops.cos(x) * tx


def test_custom_jvp():
    def f(x):
        return ops.sum(wave(x, 2))

    close(wave(x, 2), np.sin(x) ** 2)
    close(grad(f)(x), 3 * np.cos(x))
    close(jvp(lambda x: wave(x, 2), (x,), (x,))[1], 3 * np.cos(x) * x)
    close(hessian(f)(x), np.diag(-3 * np.sin(x)))
    close(vmap(grad(f))(X), 3 * np.cos(X))
    close(grad(lambda X: ops.sum(vmap(f)(X)))(X), 3 * np.cos(X))
    close(vmap(hessian(f))(X), np.stack([np.diag(-3 * np.sin(x)) for x in X]))
    s = DiffTensor.symbol((3,))
    assert grad(f)(s).raw is None


def test_custom_jvp_of_trees():
    @custom_jvp
    def f(d):
        return {"y": d["a"] * d["b"]}

    @f.defjvp
    def _(primals, tangents):
        (d,), (t,) = primals, tangents
        return f(d), {"y": t["a"] * d["b"] + d["a"] * t["b"]}

    check_grads(lambda d: f(d)["y"], {"a": x, "b": X[1]})
    close(jacobian(lambda d: f(d)["y"])({"a": x, "b": X[1]})["a"], np.diag(X[1]))


# ---- stop_gradient ----


def test_stop_gradient():
    close(grad(lambda x: ops.sum(stop_gradient(x) * x))(x), x)
    close(hessian(lambda x: ops.sum(stop_gradient(x) * x * x))(x), np.diag(2 * x))
    close(grad(lambda d: ops.sum(stop_gradient(d)["a"] * d["a"]))({"a": x})["a"], x)
    close(vmap(grad(lambda x: ops.sum(stop_gradient(x) * x)))(X), X)
    close(grad(lambda X: ops.sum(vmap(lambda x: stop_gradient(x) * x)(X)))(X), X)
    close(jvp(lambda x: stop_gradient(x) * x, (x,), (x,))[1], x * x)
    s = DiffTensor.symbol((2,))
    assert grad(lambda s: ops.sum(stop_gradient(s) * s))(s).shape == (2,)
    assert stop_gradient({"n": 3, "x": x})["x"] is x
