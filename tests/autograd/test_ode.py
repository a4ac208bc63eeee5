"""odeint against closed solutions: values, and gradients by the adjoint, of first and second order."""

import numpy as np
import pytest

from autograd import DiffTensor, grad, jacobian, odeint, ops, vmap
from autograd.implicit import ConvergenceError
from autograd.testing import check_grads

T = np.array([0.1, 0.6, 1.4])
TIGHT = {"rtol": 1e-10, "atol": 1e-12}


def close(found, expected, rtol=1e-6):
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=rtol, atol=1e-8)


def solved(y0, t, k):
    return odeint(lambda y, t, k: -k * y * (1.0 + t), y0, t, k, **TIGHT)


def exact(y0, t, k):
    return y0 * ops.exp(-k * ((t + t * t / 2.0) - (t[0] + t[0] * t[0] / 2.0)))


def loss(solution):
    return lambda y0, t, k: ops.sum(solution(y0, t, k) * np.array([1.0, 2.0, -3.0])) ** 2


@pytest.mark.parametrize("t", [T, T[::-1].copy()])
def test_gradients(t):
    given = (2.0, t, 0.7)
    close(solved(*given), exact(*given))
    for i in range(3):
        close(grad(loss(solved), i)(*given), grad(loss(exact), i)(*given))


@pytest.mark.parametrize("i, j", [(0, 0), (1, 1), (2, 2), (1, 2), (2, 0)])
def test_second_order(i, j):
    given = (2.0, T[:2], 0.7)

    def of(solution):
        return lambda y0, t, k: ops.sum(solution(y0, t, k) * np.array([1.0, 2.0])) ** 2

    close(jacobian(grad(of(solved), i), j)(*given), jacobian(grad(of(exact), i), j)(*given), 1e-5)


def test_vmap_on_both_sides():
    k = np.array([0.3, 0.7, 1.1])
    each = [grad(lambda k: loss(exact)(2.0, T, k))(v) for v in k]
    close(vmap(lambda k: solved(2.0, T, k))(k), np.stack([exact(2.0, T, v) for v in k]))
    close(vmap(grad(lambda k: loss(solved)(2.0, T, k)))(k), each)
    close(grad(lambda k: ops.sum(vmap(lambda k: loss(solved)(2.0, T, k))(k)))(k), each)


def oscillator(w, method="DOP853"):
    def f(y, t, p):
        return {"x": y["v"], "v": -(p["w"] ** 2) * y["x"]}

    return odeint(f, {"x": 1.0, "v": 0.0}, T - T[0], {"w": w, "label": "not an array"}, method=method)["x"]


@pytest.mark.parametrize("method", ["DOP853", "RK45", "LSODA"])
def test_trees_and_methods(method):
    t = T - T[0]
    close(oscillator(1.5, method), np.cos(1.5 * t), 1e-5)
    close(grad(lambda w: ops.sum(oscillator(w, method)))(1.5), -np.sum(t * np.sin(1.5 * t)), 1e-5)


def test_vectors_and_closures_without_gradients():
    a = np.array([[0.0, 1.0], [-2.0, -0.3]])
    y = odeint(lambda y, t: a @ y, np.array([1.0, 0.0]), T)
    assert isinstance(y, np.ndarray) and y.shape == (3, 2)
    check_grads(lambda y0: odeint(lambda y, t: ops.sin(a @ y), y0, T, **TIGHT), np.array([1.0, 0.5]), order=1)
    assert odeint(lambda y, t: y, np.zeros(0), T).shape == (3, 0)
    assert odeint(lambda y, t: -y, np.ones(2, np.float32), T).dtype == np.float32


def test_errors():
    w = DiffTensor(2.0, requires_grad=True)
    for call, error, words in (
        (lambda: odeint(lambda y, t: y * w, 1.0, T), ValueError, "tracked that is not in args"),
        (lambda: odeint(lambda y, t: np.ones(2), 1.0, T), ValueError, "structure and shapes of y"),
        (lambda: odeint(lambda y, t: y, 1.0, T[[0, 2, 1]]), ValueError, "ascending or descending"),
        (lambda: odeint(lambda y, t: y, 1.0, T[:1]), ValueError, "at least two"),
        (lambda: vmap(lambda t: odeint(lambda y, t: y, 1.0, t))(np.stack([T, T])), TypeError, "same for all examples"),
        (lambda: odeint(lambda y, t: y * y, 1.0, np.array([0.0, 2.0])), ConvergenceError, "odeint: "),
    ):
        with pytest.raises(error, match=words), np.errstate(all="ignore"):
            call()
