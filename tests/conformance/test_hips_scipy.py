"""``autograd.scipy``: SciPy's values for plain arrays and tensors alike, and right gradients."""

from collections.abc import Callable
from typing import Any

import numpy as onp
import pytest
import scipy.integrate
import scipy.linalg
import scipy.signal
import scipy.special
import scipy.stats

import autograd.numpy as np
import autograd.scipy as asp
from autograd import DiffTensor, grad, jacobian
from autograd.scipy.integrate import odeint
from autograd.scipy.signal import convolve
from autograd.test_util import check_grads

_rng = onp.random.default_rng(8)
X = _rng.uniform(0.2, 0.9, 4)
A = _rng.standard_normal((4, 4))
S = A @ A.T + 4.0 * onp.eye(4)
BANDS = _rng.standard_normal((4, 5)) + onp.array([0.0, 0.0, 6.0, 0.0])[:, None]

STATS: dict[str, tuple[tuple, tuple[int, ...]]] = {
    "norm.pdf": ((X, 0.3, 1.2), (0, 1, 2)), "norm.cdf": ((X, 0.3, 1.2), (0, 1, 2)), "norm.sf": ((X, 0.3, 1.2), (0, 1, 2)),
    "norm.logpdf": ((X, 0.3, 1.2), (0, 1, 2)), "norm.logcdf": ((X - 20.0, 0.3, 1.2), (0, 1, 2)), "norm.logsf": ((X + 20.0, 0.3, 1.2), (0, 1, 2)),
    "beta.pdf": ((X, 2.3, 1.2), (0, 1, 2)), "beta.logpdf": ((X, 2.3, 1.2, 0.1, 1.5), (0, 1, 2, 3, 4)), "beta.cdf": ((X, 2.0, 3.0), (0,)),
    "gamma.pdf": ((X, 2.3), (0, 1)), "gamma.logpdf": ((X, 2.3, 0.1, 1.5), (0, 1, 2, 3)), "gamma.cdf": ((X, 2.0), (0,)),
    "chi2.pdf": ((X, 2.3), (0, 1)), "chi2.logpdf": ((X, 2.3), (0, 1)), "chi2.cdf": ((X, 3.0), (0,)),
    "t.pdf": ((X, 2.3, 0.1, 1.2), (0, 1, 2, 3)), "t.logpdf": ((X, 2.3, 0.1, 1.2), (0, 1, 2, 3)),
    "t.cdf": ((onp.array([-1.0, 0.0, 2.0]), 2.3, 0.0, 1.2), (0, 2, 3)), "t.logcdf": ((X, 2.3), (0,)),
    "poisson.pmf": ((onp.array([0, 1, 4]), 2.2), (1,)), "poisson.logpmf": ((onp.array([0, 1, 4]), 2.2), (1,)),
    "poisson.cdf": ((onp.array([0.0, 1.5, 4.0]), 2.2), (1,)),
    "dirichlet.logpdf": ((X / X.sum(), X + 1.0), (1,)), "dirichlet.pdf": ((X / X.sum(), X + 1.0), (1,)),
    "multivariate_normal.logpdf": ((A[:2], X, S), (0, 1)), "multivariate_normal.pdf": ((A[0], X, S), (0, 1)),
    "multivariate_normal.entropy": ((X, S), (1,)),
}  # fmt: skip


@pytest.mark.parametrize("name", STATS)
def test_distributions(name: str) -> None:
    distribution, method = name.split(".")
    function = getattr(getattr(asp.stats, distribution), method)
    theirs = getattr(getattr(scipy.stats, distribution), method)
    args, numbers = STATS[name]
    onp.testing.assert_array_equal(function(*args), theirs(*args))
    tracked = [DiffTensor(a, requires_grad=True) if i in numbers else a for i, a in enumerate(args)]
    onp.testing.assert_allclose(function(*tracked).numpy(), theirs(*args), rtol=1e-10)
    symmetric = lambda *xs: function(*(0.5 * (x + x.T) if np.shape(x) == (4, 4) else x for x in xs))
    order = 1 if "cdf" in name and distribution in ("t", "beta") else 2
    check_grads(lambda *xs: np.sum(symmetric(*xs)), numbers, modes=["rev"], order=order)(*args)


def test_outside_of_the_support() -> None:
    stats = asp.stats
    for f in (stats.gamma.logpdf, stats.chi2.logpdf):
        value, slope = (
            f(DiffTensor([-1.0]), DiffTensor(2.0, requires_grad=True)),
            grad(lambda a, f=f: np.sum(f(-1.0 * np.ones(1), a)))(2.0),
        )
        assert value.numpy().tolist() == [-onp.inf] and slope == 0.0
    assert stats.beta.logpdf(DiffTensor([1.5], requires_grad=True), 2.0, 3.0).numpy().tolist() == [-onp.inf]
    assert (
        stats.poisson.logpmf(onp.array([0.5, -1.0]), DiffTensor(2.0, requires_grad=True)).numpy().tolist()
        == [-onp.inf] * 2
    )


def test_multivariate_normal_forms_of_the_covariance() -> None:
    f, theirs = asp.stats.multivariate_normal, scipy.stats.multivariate_normal
    t = DiffTensor(X, requires_grad=True)
    for cov in (2.0, X + 1.0, S):
        onp.testing.assert_allclose(f.logpdf(t, X * 0.5, cov).numpy(), theirs.logpdf(X, X * 0.5, cov))
    onp.testing.assert_allclose(f.logpdf(t, 0.5, 2.0).numpy(), theirs.logpdf(X, 0.5, 2.0))
    flat = onp.outer(X, X)
    onp.testing.assert_allclose(
        f.logpdf(2.0 * t, onp.zeros(4), flat, True).numpy(),
        theirs.logpdf(2 * X, onp.zeros(4), flat, allow_singular=True),
    )
    with pytest.raises(NotImplementedError, match="allow_singular"):
        grad(lambda c: f.logpdf(X, onp.zeros(4), c, True))(S)


SPECIAL: dict[str, tuple] = {
    **dict.fromkeys(["gammaln", "gamma", "digamma", "psi", "rgamma", "j0", "j1", "y0", "y1", "i0", "i1", "i0e", "i1e", "erf", "erfc", "erfcx", "erfinv", "erfcinv", "logit", "expit", "ndtr", "log_ndtr", "ndtri", "entr", "log_expit", "softmax", "log_softmax"], (X,)),
    **dict.fromkeys(["beta", "betaln", "xlogy", "xlog1py", "rel_entr", "kl_div"], (X, X + 1.0)),
    "logsumexp": (A,),
}  # fmt: skip


@pytest.mark.parametrize("name", SPECIAL)
def test_special_functions(name: str) -> None:
    ours, theirs, args = getattr(asp.special, name), getattr(scipy.special, name), SPECIAL[name]
    onp.testing.assert_array_equal(ours(*args), theirs(*args))
    tracked = ours(*(DiffTensor(a, requires_grad=True) for a in args))
    onp.testing.assert_allclose(tracked.numpy(), theirs(*args), rtol=1e-12)
    check_grads(lambda *xs: np.sum(np.sin(ours(*xs))), tuple(range(len(args))), modes=["rev"], order=1)(*args)


@pytest.mark.parametrize(
    ("name", "first", "x"),
    [("polygamma", 1, X), ("jn", 2, X), ("jv", 2, X), ("yn", 2, X), ("iv", 2, X), ("ive", 2, X), ("gammainc", 2.5, X), ("gammaincc", 2.5, X), ("zeta", 3.0, X)],
)  # fmt: skip
def test_special_functions_with_a_parameter(name: str, first: float, x: onp.ndarray) -> None:
    ours, theirs = getattr(asp.special, name), getattr(scipy.special, name)
    onp.testing.assert_allclose(ours(first, DiffTensor(x, requires_grad=True)).numpy(), theirs(first, x), rtol=1e-12)
    check_grads(lambda x: ours(first, x), order=1)(x)


def test_logsumexp_with_weights_and_the_rest() -> None:
    b = onp.array([1.0, -0.2, 0.5, 2.0])
    f = lambda a: asp.special.logsumexp(a, axis=1, b=b, keepdims=True)
    onp.testing.assert_allclose(
        f(DiffTensor(A, requires_grad=True)).numpy(), scipy.special.logsumexp(A, axis=1, b=b, keepdims=True)
    )
    check_grads(f, order=2)(A)
    check_grads(lambda a, b: asp.misc.logsumexp(a, b=b), (0, 1))(A[0], b)
    check_grads(lambda a: asp.special.multigammaln(a, 3), order=1)(X + 2.0)
    check_grads(lambda x: asp.special.betainc(2.0, 3.0, x), order=1)(X)
    assert asp.special.gammasgn(DiffTensor([-0.5], requires_grad=True)).tolist() == [-1.0]


@pytest.mark.parametrize(
    ("ours", "theirs", "args"),
    [
        (lambda s: asp.linalg.sqrtm(s), scipy.linalg.sqrtm, (S,)),
        (lambda s, a, q: asp.linalg.solve_sylvester(s, a, q), scipy.linalg.solve_sylvester, (S, S[:2, :2], A[:, :2])),
        (lambda ab, b: asp.linalg.solve_banded((1, 2), ab, b), lambda ab, b: scipy.linalg.solve_banded((1, 2), ab, b), (BANDS, A[0, :].repeat(2)[:5])),
        (lambda ab, b: asp.linalg.solve_banded((2, 1), ab, b), lambda ab, b: scipy.linalg.solve_banded((2, 1), ab, b), (BANDS[[0, 2, 1, 3]], BANDS.T)),
        (lambda s, b: asp.linalg.solve_triangular(s, b, trans=1, lower=True), lambda s, b: scipy.linalg.solve_triangular(s, b, trans=1, lower=True), (S, X)),
        (lambda s: asp.linalg.expm(s), scipy.linalg.expm, (0.2 * S,)),
        (lambda s: asp.linalg.cholesky(s + s.T), lambda s: scipy.linalg.cholesky(s + s.T), (S,)),
        (lambda s, b: asp.linalg.solve(s, b), scipy.linalg.solve, (S, X)),
        (lambda s: asp.linalg.inv(s), scipy.linalg.inv, (S,)),
        (lambda a, s: asp.linalg.block_diag(a[:2], s), lambda a, s: scipy.linalg.block_diag(a[:2], s), (A, S)),
    ],
)  # fmt: skip
def test_linear_algebra(ours: Callable, theirs: Callable, args: tuple) -> None:
    onp.testing.assert_allclose(ours(*args), theirs(*args))
    onp.testing.assert_allclose(ours(*(DiffTensor(a, requires_grad=True) for a in args)).numpy(), theirs(*args))
    check_grads(lambda *xs: np.sum(np.sin(ours(*xs))), tuple(range(len(args))), modes=["rev"], order=2)(*args)


def test_jacobians_of_solvers() -> None:
    assert jacobian(asp.linalg.sqrtm)(S).shape == (4, 4, 4, 4)


@pytest.mark.parametrize("mode", ["full", "same", "valid"])
def test_convolve(mode: str) -> None:
    small = A[:2, :3]
    for a, b in ((A, small), (small, A)):
        onp.testing.assert_allclose(convolve(a, b, mode=mode), scipy.signal.convolve(a, b, mode=mode))
        check_grads(lambda a, b: np.sum(convolve(a, b, mode=mode) ** 2), (0, 1), modes=["rev"])(a, b)


def test_convolve_over_chosen_axes() -> None:
    images, filters = _rng.standard_normal((2, 3, 5, 6)), _rng.standard_normal((3, 4, 2, 2))
    f = lambda x, w: convolve(x, w, axes=([2, 3], [2, 3]), dot_axes=([1], [0]), mode="valid")
    out = f(images, filters)
    assert out.shape == (2, 4, 4, 5)
    expected = sum(scipy.signal.convolve(images[1, c], filters[c, 2], mode="valid") for c in range(3))
    onp.testing.assert_allclose(out[1, 2], expected)
    check_grads(lambda x, w: np.sum(f(x, w) ** 2), (0, 1), modes=["rev"], order=1)(images, filters)
    with pytest.raises(ValueError, match="valid"):
        convolve(A[:1], A[:, :2], mode="valid")


def test_odeint() -> None:
    def motion(y: Any, t: Any, k: Any, p: Any) -> Any:
        return np.array([y[1], -k * np.sin(y[0]) - p["drag"] * y[1] + np.cos(t)])

    y0, times, k, p = onp.array([0.4, -0.1]), onp.array([0.0, 0.3, 0.8, 1.5]), 1.3, {"drag": 0.2}
    solve = lambda y0, t, k, p: odeint(motion, y0, t, (k, p), rtol=1e-11, atol=1e-11)
    onp.testing.assert_allclose(
        solve(y0, times, k, p), scipy.integrate.odeint(motion, y0, times, (k, p), rtol=1e-11, atol=1e-11)
    )
    check_grads(lambda *a: np.sum(np.sin(solve(*a))), (0, 1, 2, 3), modes=["rev"], order=1)(y0, times, k, p)
    decay = lambda a: odeint(lambda y, t, a: -a * y, onp.ones(1), onp.array([0.0, 1.0]), (a,), rtol=1e-11, atol=1e-11)[
        1, 0
    ]
    assert grad(grad(decay))(0.7) == pytest.approx(onp.exp(-0.7), rel=1e-7)
    with pytest.raises(TypeError, match="full_output"):
        odeint(motion, y0, times, (k, p), full_output=True)
