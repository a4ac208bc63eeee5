"""NumPy's protocols on tensors: ufuncs and their methods, functions, and refusals that say what to use instead."""

from collections.abc import Callable

import numpy as np
import pytest
import scipy.special

from autograd import DiffTensor, grad
from autograd.test_util import check_grads

T = np.random.default_rng(5).uniform(0.5, 2.0, (2, 3))


def tracked() -> DiffTensor:
    return DiffTensor(T, requires_grad=True)


@pytest.mark.parametrize(
    "call",
    [
        lambda t: np.add.reduce(t),
        lambda t: np.add.reduce(t, axis=None),
        lambda t: np.add.reduce(t, axis=1, keepdims=True, initial=2.0, where=np.array([True, False, True])),
        lambda t: np.multiply.reduce(t, axis=1),
        lambda t: np.maximum.reduce(t, axis=(0, 1)),
        lambda t: np.minimum.reduce(t),
        lambda t: np.logaddexp.reduce(t, axis=1),
        lambda t: np.hypot.reduce(t, axis=1),
        lambda t: np.add.accumulate(t, axis=1),
        lambda t: np.multiply.accumulate(t),
        lambda t: np.add.reduceat(t, [0, 2, 1, 1], axis=1),
        lambda t: np.add.reduceat(t, np.array([1, 0])),
        lambda t: np.nextafter(t, 1.0),
        lambda t: np.cumulative_sum(t, axis=1, include_initial=True),
        lambda t: np.unstack(t, axis=1)[2],
        lambda t: np.unique_values(t),
        lambda t: np.linalg.cross(t, np.arange(3.0)) + np.linalg.vecdot(t, t)[:, None],
        lambda t: np.multiply.outer(t, np.arange(4.0)),
        lambda t: np.power.outer(2.0, t),
        lambda t: np.divide(1.0, t, dtype=np.float64),
        lambda t: np.arange(3.0) * t - t / np.ones((2, 1)),
        lambda t: scipy.special.gammaln(t) + scipy.special.expit(t),
    ],
)
def test_ufuncs(call: Callable) -> None:
    out = call(tracked())
    assert isinstance(out, DiffTensor) and out.requires_grad
    np.testing.assert_allclose(out.numpy(), call(T), rtol=1e-13)
    check_grads(lambda t: call(t).sum() if np.ndim(T) else call(t), modes=["rev"], order=2)(T)


def test_dtype_of_a_ufunc() -> None:
    assert np.sin(tracked(), dtype=np.float32).dtype == np.float32
    assert np.logical_and.reduce(tracked() > 0.6).shape == (3,)


def test_functions_keep_the_gradient_and_say_plain_things_plainly() -> None:
    gradient = grad(
        lambda t: np.sum(np.einsum("ij,kj->ik", t, t)) + np.linalg.norm(np.concatenate([t, np.ones((1, 3))]))
    )(T)
    expected = 2 * T.sum(axis=0) + T / np.linalg.norm(np.concatenate([T, np.ones((1, 3))]))
    np.testing.assert_allclose(gradient, expected)
    assert np.shape(tracked()) == (2, 3) and np.argmax(tracked()) == T.argmax() and np.allclose(tracked(), T)
    assert isinstance(np.sin(DiffTensor(T)), DiffTensor)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda t: np.cov(t), "cov has no derivative here.*mean, matmul.*numpy()"),
        (lambda t: np.unique(t), "unique.*sort"),
        (lambda t: np.linalg.tensorsolve(t, t), "linalg.tensorsolve.*linalg.solve"),
        (lambda t: np.subtract.reduce(t), "subtract.reduce.*add.reduce"),
        (lambda t: np.maximum.accumulate(t), "maximum.accumulate"),
        (lambda t: np.add.at(t, 0, 1.0), r"add.at changes.*t.at\[index\].add"),
        (lambda t: np.add.at(np.zeros(3), 0, t), "add.at changes"),
        (lambda t: np.multiply.reduceat(t, [0, 1]), "multiply.reduceat.*split, prod"),
        (lambda t: np.sin(t, out=np.zeros((2, 3))), "sin: .*out=.*a = sin"),
        (lambda t: np.sum(t, out=np.zeros(())), "sum: .*out="),
        (lambda t: np.add(T, T, out=(t,)), "cannot be changed in place"),
        (lambda t: np.sin(t, where=T > 1), "leaves elements undefined"),
        (lambda t: np.asarray(t), "lose its gradient"),
        (lambda t: np.sin(t, signature="d->d"), "takes no signature"),
        (lambda t: np.maximum.reduce(t, where=T > 1, initial=0.0), r"where\(...\) before"),
    ],
)
def test_refusals(call: Callable, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        call(tracked())


def test_a_plain_array_takes_no_tensor() -> None:
    plain = np.zeros((2, 3))
    with pytest.raises(TypeError, match="plain array"):
        plain += tracked()
    with pytest.raises(TypeError, match="lose its gradient"):
        plain[:] = tracked()
    assert not plain.any()
