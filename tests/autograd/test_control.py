"""scan, fori_loop and cond: equal to Python's loops and conditions, in values and derivatives."""

import numpy as np
import pytest

from autograd import DiffTensor, cond, fori_loop, grad, hessian, ops, scan, vmap
from autograd.testing import check_grads

RNG = np.random.default_rng(np.random.SeedSequence(3))
A = RNG.normal(size=(3, 3)) * 0.5
X = RNG.normal(size=(6, 3))


def close(found, expected, rtol=1e-10):
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=rtol, atol=1e-12)


def _step(a):
    def step(h, x):
        new = ops.tanh(a @ h["h"] + x["x"])
        return {"h": new}, (ops.sum(new), new * 2.0)

    return step


def by_scan(a, x, reverse=False):
    carry, (s, y) = scan(_step(a), {"h": np.zeros(3)}, {"x": x}, reverse=reverse)
    return ops.sum(carry["h"] ** 2) + ops.sum(s * np.arange(6)) + ops.sum(y[2] ** 2)


def by_loop(a, x, reverse=False):
    h, ys = np.zeros(3), [None] * 6
    for k in reversed(range(6)) if reverse else range(6):
        h = ys[k] = ops.tanh(a @ h + x[k])
    return ops.sum(h**2) + sum(ops.sum(y) * k for k, y in enumerate(ys)) + ops.sum((ys[2] * 2.0) ** 2)


@pytest.mark.parametrize("reverse", [False, True])
def test_scan(reverse):
    close(by_scan(A, X, reverse), by_loop(A, X, reverse))
    for k in (0, 1):
        close(grad(by_scan, k)(A, X, reverse), grad(by_loop, k)(A, X, reverse))
    close(hessian(by_scan)(A, X, reverse), hessian(by_loop)(A, X, reverse), 1e-9)


def test_scan_and_vmap():
    several = np.stack([X, 2 * X])
    close(vmap(by_scan, (None, 0))(A, several), [by_loop(A, x) for x in several])
    close(vmap(grad(by_scan, 1), (None, 0))(A, several), np.stack([grad(by_loop, 1)(A, x) for x in several]))
    check_grads(lambda x: by_scan(A, x), X, order=2)


def test_scan_without_arrays():
    carry, ys = scan(lambda c, _: (c * 2.0, None), 1.0, length=5)
    assert carry == 32.0 and ys is None
    close(scan(lambda c, x: (c + x, c), 0.0, [1.0, 2.0][0] * np.arange(3.0))[1], [0.0, 0.0, 1.0])


def test_scan_errors():
    for call, words in (
        (lambda: scan(lambda c, x: (c, x), 0.0), "number of steps"),
        (lambda: scan(lambda c, x: (c, x), 0.0, {"a": X, "b": X[:3]}), "one length"),
        (lambda: scan(lambda c, x: (c, x), 0.0, X, length=4), "one length"),
        (lambda: scan(lambda c, x: c, 0.0, X), "pair"),
        (lambda: scan(lambda c, x: (x, x), 0.0, X), "step 0 turned a carry"),
        (lambda: scan(lambda c, x: (c, x), 0.0, X[:0]), "no steps"),
    ):
        with pytest.raises(ValueError, match=words):
            call()


def test_fori_loop():
    assert fori_loop(0, 5, lambda i, v: v * (i + 1), 1.0) == 120.0
    assert fori_loop(3, 3, lambda i, v: v * 0.0, 1.0) == 1.0
    close(grad(lambda x: fori_loop(0, 4, lambda i, v: v * x + i, 1.0))(2.0), 38.0)  # of x⁴ + x² + 2x + 3
    with pytest.raises(TypeError, match="upper must be an integer"):
        fori_loop(0, 2.5, lambda i, v: v, 1.0)
    with pytest.raises(TypeError, match=r"upper must be an integer.*inside vmap"):
        vmap(lambda n: fori_loop(0, n, lambda i, v: v, 1.0))(np.array([1, 2]))
    with pytest.raises(ValueError, match="step 0"):
        fori_loop(0, 2, lambda i, v: np.ones(2), 1.0)


def branch(x):
    return cond(x > 0, lambda x, k: {"y": ops.sin(x) * k}, lambda x, k: {"y": x * x}, x, 3.0)["y"]


def test_cond_runs_one_branch_where_it_can():
    ran = []
    assert cond(np.True_, lambda: ran.append(1) or 1.0, lambda: ran.append(2) or 2.0) == 1.0 and ran == [1]
    close(grad(branch)(2.0), 3 * np.cos(2.0))
    close(grad(branch)(-2.0), -4.0)
    close(grad(grad(branch))(-2.0), 2.0)


def test_cond_selects_between_both_where_it_must():
    x = np.array([2.0, -3.0, 0.5])
    close(vmap(branch)(x), [branch(v) for v in x])
    close(vmap(grad(branch))(x), [grad(branch)(v) for v in x])
    close(grad(lambda x: ops.sum(vmap(branch)(x)))(x), [grad(branch)(v) for v in x])
    s = DiffTensor.symbol((), np.float64)
    assert grad(branch)(s).raw is None
    close(vmap(lambda x: cond(ops.astype(x, int), lambda: 1.0, lambda: 2.0))(np.array([0.0, 5.0])), [2.0, 1.0])
    # one condition for all examples: one branch
    close(vmap(lambda x: cond(True, lambda: x, lambda: 1 / 0))(x), x)


def test_cond_errors():
    with pytest.raises(TypeError, match="one boolean"):
        cond(X > 0, lambda: 1.0, lambda: 2.0)
    for other in (lambda x: {"a": x}, lambda x: ops.stack([x, x])):
        with pytest.raises(ValueError, match="both branches run here"):
            vmap(lambda x, other=other: cond(x > 0, lambda x: x, other, x))(X[0])
