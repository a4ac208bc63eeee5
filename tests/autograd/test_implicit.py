"""Solutions of equations: their derivatives against analytic ones, unrolled iterations and direct solvers."""

import numpy as np
import pytest

from autograd import DiffTensor, fixed_point, grad, hessian, linear_solve, ops, root, vmap
from autograd.implicit import ConvergenceError
from autograd.testing import check_grads

RNG = np.random.default_rng(np.random.SeedSequence(2))
M = RNG.normal(size=(4, 4)) * 0.2 + 2 * np.eye(4)
B = RNG.normal(size=4)
A = np.array([2.0, 3.0, 5.0])


def close(found, expected, rtol=1e-8):
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=rtol, atol=1e-10)


def by_root(a):
    return root(lambda x, a: x * x - a, 1.0, (a,))


def by_krylov(a):
    return root(lambda x, a: x * x - a, 1.0, (a,), method="krylov")


def by_heron(a):
    return fixed_point(lambda x, a: 0.5 * (x + a / x), 1.0, (a,))


@pytest.mark.parametrize("sqrt", [by_root, by_krylov, by_heron])
def test_square_root_to_the_third_order(sqrt):
    assert isinstance(sqrt(2.0), np.floating)
    close(sqrt(2.0), 2**0.5)
    close(grad(sqrt)(2.0), 0.5 * 2**-0.5)
    close(grad(grad(sqrt))(2.0), -0.25 * 2**-1.5)
    close(grad(grad(grad(sqrt)))(2.0), 0.375 * 2**-2.5)
    assert grad(sqrt)(np.float32(2.0)).dtype == np.float32


@pytest.mark.parametrize("sqrt", [by_root, by_heron])
def test_vmap_on_both_sides(sqrt):
    close(vmap(sqrt)(A), A**0.5)
    close(vmap(grad(sqrt))(A), 0.5 * A**-0.5)
    close(vmap(grad(grad(sqrt)))(A), -0.25 * A**-1.5)
    close(grad(lambda a: ops.sum(vmap(sqrt)(a)))(A), 0.5 * A**-0.5)
    close(grad(lambda a: ops.sum(vmap(grad(sqrt))(a)))(A), -0.25 * A**-1.5)
    # the gradient of sqrt(a)² a holds the solution itself, which must be followed outside too
    close(grad(lambda a: ops.sum(vmap(grad(lambda a: sqrt(a) ** 2 * a))(a) ** 2))(A), 8 * A)


def test_linear_solve():
    def ours(m, b):
        return ops.sum(linear_solve(lambda x, m: m @ x, b, (m,)) ** 3)

    def direct(m, b):
        return ops.sum(ops.solve(m, b) ** 3)

    close(linear_solve(lambda x: M @ x, B), np.linalg.solve(M, B))
    for k in (0, 1):
        close(grad(ours, k)(M, B), grad(direct, k)(M, B))
    close(hessian(lambda b: ours(M, b))(B), hessian(lambda b: direct(M, b))(B))
    s = np.array([2.0, 1.0, 1.0, 1.5])
    close(hessian(lambda s: ours(M * s, B * s[0]))(s), hessian(lambda s: direct(M * s, B * s[0]))(s), 1e-7)
    spd = M @ M.T
    close(
        grad(lambda m: ops.sum(linear_solve(lambda x, m: m @ x, B, (m,), method="cg")))(spd),
        grad(lambda m: ops.sum(ops.solve(m, B)))(spd),
    )
    close(linear_solve(lambda x: M @ x, 0.0 * B), np.zeros(4))
    bs = RNG.normal(size=(3, 4))
    close(vmap(lambda b: linear_solve(lambda x: M @ x, b))(bs), np.linalg.solve(M, bs.T).T)


def test_complex_linear_solve():
    m, b = M + 0.3j * M.T, B + 1j * B[::-1]
    close(linear_solve(lambda x, m: m @ x, b, (m,)), np.linalg.solve(m, b))
    check_grads(lambda b: linear_solve(lambda x, m: m @ x, b, (m,)), b, order=1)


def _step(x, p, extra):
    return {"u": ops.tanh(x["v"] @ p["w"]) * extra["k"], "v": ops.sin(x["u"]) + p["b"]}


P = {"w": RNG.normal(size=(3, 3)) * 0.2, "b": RNG.normal(size=3)}
START = {"u": np.zeros(3), "v": np.zeros(3)}
EXTRA = {"k": 0.5, "label": "not an array"}


def unrolled(p):
    x = {k: DiffTensor(v) for k, v in START.items()}
    for _ in range(60):
        x = _step(x, p, EXTRA)
    return ops.sum(x["u"] ** 2)


def by_fixed_point(p):
    return ops.sum(fixed_point(_step, START, (p, EXTRA))["u"] ** 2)


def by_root_of_trees(p):
    return ops.sum(root(lambda x, p: {k: v - x[k] for k, v in _step(x, p, EXTRA).items()}, START, (p,))["u"] ** 2)


@pytest.mark.parametrize("solved", [by_fixed_point, by_root_of_trees])
def test_trees_against_the_unrolled_iteration(solved):
    found, expected = grad(solved)(P), grad(unrolled)(P)
    for key in P:
        close(found[key], expected[key])
    found, expected = (grad(lambda p, f=f: ops.sum(grad(f)(p)["w"] ** 2))(P) for f in (solved, unrolled))
    for key in P:
        close(found[key], expected[key], 1e-6)


def test_many_unknowns():
    n = 300
    c = RNG.uniform(1.0, 2.0, n)
    close(
        grad(lambda c: ops.sum(root(lambda x, c: x**3 + x - c, np.zeros(n), (c,))))(c),
        1 / (3 * _cubic(c) ** 2 + 1),
        1e-6,
    )
    assert root(lambda x: x, np.zeros(0)).shape == (0,)


def _cubic(c):
    x = np.ones_like(c)
    for _ in range(60):
        x -= (x**3 + x - c) / (3 * x**2 + 1)
    return x


def test_check_grads():
    check_grads(by_heron, 1.7, order=2)


def test_errors():
    w = DiffTensor(2.0, requires_grad=True)
    for call, error, words in (
        (lambda: root(lambda x: x * x - w, 1.0), ValueError, "tracked that is not in args"),
        (lambda: fixed_point(lambda x: x * w * 0.1, 1.0), ValueError, "tracked that is not in args"),
        (
            lambda: grad(lambda w: ops.sum(vmap(lambda a: root(lambda x, a: x * x - w * a, 1.0, (a,)))(A)))(2.0),
            ValueError, "tracked that is not in args",
        ),
        (lambda: fixed_point(lambda x: 1.0 - x, 0.0, max_steps=7), ConvergenceError, "last step changed x by 0.5"),
        (lambda: root(lambda x: x * x + 1, 1.0), ConvergenceError, "residual of 1"),
        (lambda: root(lambda x: np.ones(2), 1.0), ValueError, r"shape \(\), not \(2,\)"),
        (lambda: root(lambda x: {"a": x}, 1.0), ValueError, "structure"),
        (lambda: linear_solve(lambda x: x * 0.0, np.ones(2)), ConvergenceError, "relative residual of 1"),
        (lambda: linear_solve(lambda x: x, np.ones(2), method="lu"), ValueError, "gmres"),
        (lambda: root(lambda x: x, np.array([1, 2])), TypeError, "floating-point"),
        (lambda: root(lambda x: x, DiffTensor.symbol((2,))), TypeError, "symbolic"),
    ):  # fmt: skip
        with pytest.raises(error, match=words):
            call()
