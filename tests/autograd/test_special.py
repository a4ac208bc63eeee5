"""Special functions and the rest of NumPy's elementwise functions: values, singular points, limits and messages.

``check_row`` holds every row to its derivatives inside its domain; here is the rest.
"""

import math

import numpy as np
import pytest
import scipy.special

from autograd import OPS, DiffTensor, grad, ops, vjp
from autograd.testing import check_grads

ONE = (
    "digamma", "entr", "erfc", "erfcinv", "erfcx", "erfinv", "gamma", "gammaln", "i0", "i0e", "i1", "i1e", "j0", "j1", "log_expit",
    "log_ndtr", "loggamma", "logit", "ndtr", "ndtri", "psi", "rgamma", "y0", "y1", "expit",
)  # fmt: skip
TWO = ("beta", "betaln", "kl_div", "rel_entr", "xlog1py", "xlogy")
BY_PARAMETER = ("gammainc", "gammaincc", "iv", "ive", "jv", "jn", "polygamma", "yn", "yv", "zeta")


def nth(f, n):
    for _ in range(n):
        f = grad(f)
    return f


# ---- values ----


@pytest.mark.parametrize("name", ONE)
def test_values_of_one_variable(name):
    x = np.array([0.05, 0.3, 0.55, 0.95])
    expected = getattr(scipy.special, name)(x)
    np.testing.assert_allclose(getattr(ops, name)(x), expected, rtol=1e-12)
    single = getattr(ops, name)(x.astype(np.float32))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, expected, rtol=1e-4)
    assert getattr(ops, name)(DiffTensor(x.astype(np.float16))).dtype == np.float16
    assert getattr(ops, name)(np.array([1], np.uint8)[:0]).dtype == np.float64


@pytest.mark.parametrize("name", TWO + BY_PARAMETER)
def test_values_of_two_variables(name):
    x, y = np.array([[2], [3]]), np.array([0.05, 0.5, 2.5], np.float32)
    found = getattr(ops, name)(x, y)
    np.testing.assert_allclose(found, getattr(scipy.special, name)(x, y.astype(float)), rtol=1e-5)
    assert found.dtype == (np.float64 if name in TWO else np.float32)  # an integer order or shape does not widen
    assert grad(lambda y: ops.sum(getattr(ops, name)(x, y)))(y).dtype == np.float32


def test_incomplete_beta_and_multivariate_gamma():
    np.testing.assert_allclose(ops.betainc(2, 3.5, np.array([0.2, 0.7])), scipy.special.betainc(2, 3.5, [0.2, 0.7]))
    check_grads(lambda x: ops.betainc(0.7, 3.5, x), np.array([0.2, 0.7]))
    a = np.array([1.7, 4.0])
    np.testing.assert_allclose(ops.multigammaln(a, 3), scipy.special.multigammaln(a, 3))
    check_grads(lambda a: ops.multigammaln(a, 3), a)


def test_half_integer_orders_and_shapes():
    x = np.array([0.4, 2.3])
    for f in (ops.jv, ops.yv, ops.iv, ops.ive, ops.gammainc, ops.gammaincc, ops.zeta):
        check_grads(lambda x, f=f: f(1.5, x), x)


def test_complex_numbers():
    z = np.array([0.7 + 0.4j, 1.9 - 1.1j])
    for f in (ops.gamma, ops.rgamma, ops.loggamma):
        check_grads(f, z, order=1)
    for f in (ops.erfc, ops.erfcx):
        check_grads(f, z, order=2, modes=("rev",))
    with pytest.raises(TypeError, match="polygamma"):
        grad(lambda z: ops.real(ops.digamma(z)))(z[0])


# ---- derivatives without a closed form are errors, not zeros ----


@pytest.mark.parametrize("name", [n for n in BY_PARAMETER if n != "polygamma"])
def test_no_silent_zero_for_a_parameter(name):
    f = getattr(ops, name)
    with pytest.raises(NotImplementedError, match=f"{f.row.name} has no derivative with respect to"):
        grad(lambda v: f(v, 1.5) * v)(2.5)
    with pytest.raises(NotImplementedError, match="betainc has no derivative with respect to b"):
        grad(lambda v: ops.betainc(2.0, v, 0.5))(2.5)


def test_other_libraries():
    strict = pytest.importorskip("array_api_strict")
    x, y = np.array([-1.0, 0.0, 0.3, 1.5]), np.array([0.5, 0.2, 1.5, 0.9])
    for name in ("entr", "erfc", "kl_div", "rel_entr", "xlogy", "xlog1py"):
        inputs = (x,) if name in ONE else (x, y)
        found = getattr(ops, name)(*map(strict.asarray, inputs))
        np.testing.assert_allclose(np.asarray(found), getattr(scipy.special, name)(*inputs), rtol=1e-12)
    with pytest.raises(TypeError, match=r"gamma.*array_api_strict has no special functions.*use NumPy or CuPy"):
        ops.gamma(strict.asarray(x))


# ---- singular points and limits ----


def test_zero_times_log_zero():
    zero = 0.0
    assert ops.xlogy(zero, zero) == ops.xlog1py(zero, -1.0) == ops.entr(zero) == ops.rel_entr(zero, zero) == 0.0
    for f in (lambda y: ops.xlogy(0.0, y), lambda y: ops.rel_entr(0.0, y), lambda y: ops.xlog1py(0.0, y - 1.0)):
        assert grad(f)(0.0) == 0.0
        assert grad(grad(f))(0.0) == 0.0
    x = np.array([0.0, 2.0])
    _, pull = vjp(ops.xlogy, x, np.array([0.0, 3.0]))
    with np.errstate(divide="ignore"):
        np.testing.assert_allclose(pull(np.ones(2))[0], [-np.inf, np.log(3.0)])
    np.testing.assert_allclose(grad(lambda y: ops.sum(ops.xlogy(x, y)))(np.array([0.0, 4.0])), [0.0, 0.5])


def test_extreme_arguments():
    assert np.isclose(grad(ops.log_sigmoid)(-800.0), 1.0)
    assert np.isclose(ops.log_expit(-800.0), -800.0)
    # the derivative of log Φ is the inverse Mills ratio: x + 1/x - ... for large x (Abramowitz & Stegun 26.2.12)
    assert np.isclose(grad(ops.log_ndtr)(-30.0), 30.0 + 1 / 30.0 - 2 / 30.0**3, rtol=1e-6)
    assert np.isclose(grad(lambda x: ops.gammaincc(3.0, x))(50.0), -(50.0**2) * math.exp(-50.0) / 2)
    assert np.isfinite(grad(lambda x: ops.gammainc(400.0, x))(400.0))
    assert np.isclose(grad(ops.erfcx)(1e4), -1 / (math.sqrt(math.pi) * 1e8), rtol=1e-4)


def test_bessel_functions_at_zero():
    assert [nth(ops.j0, n)(0.0) for n in range(1, 5)] == pytest.approx([0.0, -0.5, 0.0, 0.375])
    assert nth(ops.j1, 1)(0.0) == 0.5
    assert nth(lambda x: ops.jv(2, x), 2)(0.0) == pytest.approx(0.25)
    assert nth(ops.i1, 1)(0.0) == 0.5


def test_sinc_is_smooth_at_zero():
    """Derivatives of sinc at 0 are (-1)^k π^2k / (2k + 1), and there is no step where the rule changes its form."""
    found = [nth(ops.sinc, n)(0.0) for n in range(5)]
    np.testing.assert_allclose(found, [1.0, 0.0, -(math.pi**2) / 3, 0.0, math.pi**4 / 5], atol=1e-12)
    edge = np.array([0.25 - 1e-9, 0.25 + 1e-9, -0.25 + 1e-9, -0.25 - 1e-9])
    for n, tolerance in ((1, 1e-7), (2, 1e-7), (3, 1e-6)):
        derivative = [nth(ops.sinc, n)(x) for x in edge]
        np.testing.assert_allclose(derivative[0::2], derivative[1::2], rtol=tolerance)
    for x in (0.24, 0.6, 1.9, 40.3):
        z = math.pi * x
        np.testing.assert_allclose(grad(ops.sinc)(x), math.pi * (z * math.cos(z) - math.sin(z)) / z**2, rtol=1e-12)
    tiny = 1e-8
    np.testing.assert_allclose(grad(ops.sinc)(tiny), -(math.pi**2) / 3 * tiny, rtol=1e-12)


# ---- the rest of NumPy's functions ----


def test_elementwise_functions_agree_with_numpy():
    x, y = np.array([-2.0, -0.3, 0.0, 0.7, np.nan]), np.array([1.0, -0.3, np.nan, 0.9, np.nan])
    for name in ("exp2", "cbrt", "sinc", "deg2rad", "rad2deg", "nan_to_num"):
        np.testing.assert_allclose(getattr(ops, name)(x), getattr(np, name)(x), rtol=1e-14, atol=1e-16)  # sinc(-2) is 0
        assert getattr(ops, name)(x.astype(np.float32)).dtype == np.float32
    np.testing.assert_allclose(ops.logaddexp2(x[:2] * 1e3, y[:2]), np.logaddexp2(x[:2] * 1e3, y[:2]), rtol=1e-14)
    for name in ("fmax", "fmin", "heaviside", "copysign"):
        np.testing.assert_allclose(getattr(ops, name)(x, y), getattr(np, name)(x, y), rtol=1e-14)
    np.testing.assert_allclose(ops.angle(x[:4] + 1j), np.angle(x[:4] + 1j))
    np.testing.assert_allclose(ops.angle(x[:4] - 1j, deg=True), np.angle(x[:4] - 1j, deg=True))
    assert ops.exp2(np.array([3], np.uint8)).dtype == np.float64


def test_gradients_beside_nan():
    x, y = np.array([1.0, np.nan, 3.0]), np.array([2.0, 5.0, np.nan])
    np.testing.assert_array_equal(grad(lambda x: ops.sum(ops.fmax(x, y)))(x), [0.0, 0.0, 1.0])
    np.testing.assert_array_equal(grad(lambda y: ops.sum(ops.fmin(x, y)))(y), [0.0, 1.0, 0.0])
    z = np.array([1.0, np.nan, np.inf, -np.inf])
    np.testing.assert_array_equal(grad(lambda z: ops.sum(ops.nan_to_num(z)))(z), [1.0, 0.0, 0.0, 0.0])
    np.testing.assert_array_equal(ops.nan_to_num(z, 7.0, 8.0, 9.0), np.nan_to_num(z, nan=7.0, posinf=8.0, neginf=9.0))
    np.testing.assert_array_equal(grad(lambda h: ops.sum(ops.heaviside(np.array([-1.0, 0.0, 2.0]), h)))(0.5), 1.0)


def test_differences():
    x = np.random.default_rng(0).normal(size=(4, 5))
    np.testing.assert_allclose(ops.diff(x, 2, axis=0), np.diff(x, 2, axis=0))
    np.testing.assert_allclose(
        ops.diff(x, prepend=x[:, :1], append=x[:, :2]), np.diff(x, prepend=x[:, :1], append=x[:, :2])
    )
    np.testing.assert_allclose(ops.ediff1d(x, [1.0], [2.0, 3.0]), np.ediff1d(x, [1.0], [2.0, 3.0]))
    np.testing.assert_allclose(ops.ediff1d(x), np.ediff1d(x))
    np.testing.assert_allclose(ops.ptp(x, axis=1), np.ptp(x, axis=1))
    for order in (1, 2):
        for ours, numpys in zip(
            ops.gradient(x, 0.5, 2.0, edge_order=order), np.gradient(x, 0.5, 2.0, edge_order=order), strict=True
        ):
            np.testing.assert_allclose(ours, numpys)
        np.testing.assert_allclose(
            ops.gradient(x, 0.5, axis=-1, edge_order=order), np.gradient(x, 0.5, axis=-1, edge_order=order)
        )
    check_grads(lambda x: ops.square(ops.gradient(x, axis=1, edge_order=2)), x, order=1)
    points = np.cumsum(np.abs(x[0]) + 0.1)
    for given in ((None, 0.3), (points, 1.0)):
        np.testing.assert_allclose(ops.trapezoid(x, *given), np.trapezoid(x, *given))
    np.testing.assert_allclose(
        ops.trapezoid(x, np.cumsum(np.abs(x), axis=0), axis=0), np.trapezoid(x, np.cumsum(np.abs(x), axis=0), axis=0)
    )
    check_grads(lambda y, x: ops.trapezoid(ops.square(y), x), x, points, order=1)
    for k in range(-1, 5):
        np.testing.assert_array_equal(ops.rot90(x, k), np.rot90(x, k))
        np.testing.assert_array_equal(ops.rot90(x[None], k, (2, 1)), np.rot90(x[None], k, (2, 1)))
    np.testing.assert_array_equal(ops.fliplr(ops.flipud(x)), x[::-1, ::-1])


def test_messages_of_differences():
    x = np.ones((3, 2))
    with pytest.raises(ValueError, match="axis 1 has 2 points; edge_order 2 needs 3"):
        ops.gradient(x, edge_order=2)
    with pytest.raises(ValueError, match="coordinates are not supported"):
        ops.gradient(x, np.arange(3.0), 1.0)
    with pytest.raises(ValueError, match="n must be 0 or more, not -1"):
        ops.diff(x, -1)
    with pytest.raises(ValueError, match="name an axis twice"):
        ops.rot90(x, axes=(1, -1))


# ---- beside JAX ----


@pytest.mark.peers
@pytest.mark.parametrize(
    "name",
    [n for n in ONE if n not in ("erfcinv", "erfcx", "loggamma", "psi", "rgamma", "y0", "y1", "j0", "j1", "log_expit")],
)
def test_second_derivatives_are_jaxs(name):
    jax = pytest.importorskip("jax")
    theirs = getattr(jax.scipy.special, name)
    with jax.enable_x64(True):
        expected = float(jax.grad(jax.grad(theirs))(0.45))
    np.testing.assert_allclose(nth(getattr(ops, name), 2)(0.45), expected, rtol=1e-8)


def test_every_row_is_documented():
    from autograd.ops import decomposition, fourier, inverses, matrices, more, special

    for module in (decomposition, fourier, inverses, matrices, more, special):
        for name in module.__all__:
            assert getattr(ops, name).__doc__, name
            assert getattr(ops, name) is getattr(module, name)
    assert {"inv", "fftn", "gamma", "sinc"} <= set(OPS)


@pytest.mark.parametrize("order", [0.5, 1.7, -0.3])
def test_modified_bessel_functions_of_broken_order(order):
    """For whole orders I₋ₙ = Iₙ hides a wrong sign in the order."""
    y = np.array([0.4, 1.3, 5.0])
    for row in (ops.iv, ops.ive):
        check_grads(lambda y, row=row: row(np.float64(order), y), y)


def test_numbers_in_the_place_of_each_argument_of_xlogy():
    x = np.array([0.5, 2.0])
    for row, other in ((ops.xlogy, np.log), (ops.xlog1py, np.log1p)):
        np.testing.assert_allclose(grad(lambda v, row=row: row(v, 1.5).sum())(x), np.full(2, other(1.5)))
        slope = 2.5 / (x if row is ops.xlogy else 1 + x)
        np.testing.assert_allclose(grad(lambda v, row=row: row(2.5, v).sum())(x), slope)
        check_grads(lambda v, row=row: row(v, 1.5) * row(2.5, v), x)
