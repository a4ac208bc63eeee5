"""Values and gradients where a plain formula loses its digits: tails, seams, overflow, cancellation.

``benchmarks/accuracy.py`` measures every row against references of many digits; here are the cases that once were wrong. The
true values were computed by mpmath at 60 digits.
"""

from fractions import Fraction

import numpy as np
import pytest

from autograd import grad, ops

TANH = {"approximate": "tanh"}


def slope(f, *inputs, argnum=0):
    inputs = [np.array([x]) for x in inputs]
    return grad(lambda *xs: ops.sum(f(*xs)), argnum)(*inputs)[0]


@pytest.mark.parametrize(
    ("f", "x", "true"),
    [
        (ops.asin, -0.9999999795854092, 4948.9682186631865),
        (ops.acos, -0.9999999795854092, -4948.9682186631865),
        (ops.atanh, -0.9999999795854092, 24492286.429338273),
        (ops.expm1, -87.3, 1.2192470959520052e-38),
        (ops.log10, 1.5e308, 2.8952965460216788e-309),
        (ops.erf, 21.970355342901186, 2.6304051218104852e-210),
        (ops.erfc, -8.603900909423828, -7.9963040985914061e-33),
        (ops.ndtr, -33.13632368922168, 1.478347446815105e-239),
        (ops.ndtri, 0.9999999999999976, 51475229861933.221),
        (ops.log_ndtr, -711.707034154272, 711.70843922124987),
        (ops.log_ndtr, 24.358916020249247, 5.6901050787995839e-130),
        (ops.gelu, -12.445873260498047, -1.1404722985657052e-33),
        (lambda x: ops.gelu(x, **TANH), -5.2, -4.0903613483842795e-7),
        (ops.erfinv, 1 - 2.0**-44, 1627387867482.2256),
        (ops.erfcinv, 1e-200, -2.3366534180508822e198),
        (ops.erfcinv, 1e-12, -97321105893.548878),
        (ops.ndtri, 1e-250, 2.9560330787337945e248),
        (ops.rgamma, 1e-310, 1.0),
        (ops.i1, 1e-310, 0.5),
        (ops.sinc, 137907.5625, 1.4146619827707498e-6),
    ],
)
def test_slopes_in_tails_and_beside_singularities(f, x, true):
    assert slope(f, x) == pytest.approx(true, rel=2e-12, abs=0.0)


@pytest.mark.parametrize(
    ("f", "x", "true"),
    [
        (ops.gelu, -12.445873260498047, -9.1641977638181914e-35),
        (lambda x: ops.gelu(x, **TANH), -5.2, -5.6875633336082915e-8),
        (ops.sinc, 137907.5625, -2.263789202828449e-6),
        (ops.log_ndtr, 24.358916020249247, -2.3320263799452388e-131),
        (ops.erfc, 26.716396901054374, 2.186591450880343e-312),
        (ops.gammaln, 1e-310, 713.80137882815417),
        (ops.gammaln, 2.0 + 2.0**-40, 3.84520112764913e-13),
    ],
)
def test_values_in_tails_and_beside_zeros(f, x, true):
    assert f(np.array([x]))[0] == pytest.approx(true, rel=2e-11, abs=0.0)


def test_zeros_of_sinc_are_exact():
    assert not ops.sinc(np.arange(1.0, 2000.0)).any()
    assert not ops.sinc(np.arange(1, 300, dtype=np.float32)).any()


def test_digamma_beside_its_poles():
    """Γ's reflection: near -1 ψ(x) is -1/(x + 1) and ψ(2) and no more."""
    off = 2.0**-50
    assert ops.digamma(np.array([-1.0 + off]))[0] == pytest.approx(-1 / off, rel=1e-14, abs=0.0)
    assert np.isnan(ops.digamma(np.array([-2.0]))[0])


def test_slopes_of_two_variables():
    assert slope(ops.betaln, 1e-10, 1e5, argnum=1) == pytest.approx(-1.0000050000166662e-15, rel=1e-9, abs=0.0)
    assert slope(ops.kl_div, 0.6, 0.6000006) == pytest.approx(-9.9999950002908901e-7, rel=1e-12, abs=0.0)
    assert slope(ops.kl_div, 0.6, 0.6000006, argnum=1) == pytest.approx(9.9999900002975564e-7, rel=1e-12, abs=0.0)
    assert slope(ops.betaln, 1.0, 2e-5) == pytest.approx(-3.2898200522861687e-5, rel=1e-9, abs=0.0)
    assert slope(ops.betaln, 2e-5, 1.0, argnum=1) == pytest.approx(-3.2898200522861687e-5, rel=1e-9, abs=0.0)
    assert slope(ops.beta, 0.5, 1e-5) == pytest.approx(-4.9347864675655428, rel=1e-9, abs=0.0)
    x, y = np.float32(9.289496772911924e-19), np.float32(2.7395902456003536e28)  # their quotient underflows
    assert slope(ops.rel_entr, x, y) == pytest.approx(-106.00042335186267, rel=1e-6, abs=0.0)
    np.testing.assert_allclose(
        [slope(ops.atan2, 3e-200, 4e-200, argnum=k) for k in (0, 1)], [1.6e199, -1.2e199], rtol=1e-14
    )


def test_logsumexp_of_large_numbers_has_shares_that_add_to_one():
    x = 1e5 + np.array([0.125, 0.375, -0.25])
    found = grad(ops.logsumexp)(x)
    np.testing.assert_allclose(found, [0.33655135941058181, 0.43214049950399815, 0.23130814108542004], rtol=1e-14)


@pytest.mark.parametrize("scale", [1e-170, 1e-310, 1e200])
def test_norms_neither_overflow_nor_underflow(scale):
    x = np.array([[3.0, -4.0], [0.0, 0.0], [1.0, 0.0]]) * scale
    np.testing.assert_allclose(ops.norm(x, axis=1), np.array([5.0, 0.0, 1.0]) * scale, rtol=1e-13)
    np.testing.assert_allclose(
        grad(lambda x: ops.sum(ops.norm(x, axis=1)))(x), [[0.6, -0.8], [0, 0], [1, 0]], rtol=1e-13
    )
    assert ops.norm(x[0]).shape == () and ops.norm(x, keepdims=True).shape == (1, 1)
    assert ops.norm(np.array([np.inf, 1.0])) == np.inf and np.isnan(ops.norm(np.array([np.nan, 1e300])))


def test_variance_beside_a_large_mean():
    x = np.array([1.0, 2.0, 4.0]) * 1e-3 + 2e4
    centred = (x - 2e4) - (x - 2e4).mean()
    np.testing.assert_allclose(grad(ops.var)(x), centred * (2 / 3), rtol=1e-12)


@pytest.mark.parametrize("library", ["numpy", "array_api_strict"])
def test_standardize_beside_a_large_mean(library):
    """The rounding of the mean would shift every element by 1e-16 · 1e6 / 1e-3."""
    xp = pytest.importorskip(library)
    x = 1e6 + 1e-3 * np.random.default_rng(0).normal(size=(3, 50))
    exact = [[Fraction(v) for v in row.tolist()] for row in x]
    centred = [[v - sum(row) / len(row) for v in row] for row in exact]
    true = np.array([[float(v) / float(sum(u * u for u in row) / len(row)) ** 0.5 for v in row] for row in centred])
    z, _, v = ops.standardize(xp.asarray(x), axes=(1,), eps=0.0)
    np.testing.assert_allclose(np.asarray(z), true, rtol=1e-14)
    np.testing.assert_allclose(
        np.asarray(v)[:, 0], [float(sum(u * u for u in row) / len(row)) for row in centred], rtol=1e-14
    )


@pytest.mark.parametrize(
    ("f", "true"),
    [
        (lambda: ops.i0e(np.array([-7.06632667e-14])), 0.9999999999999293),
        (lambda: ops.i1e(np.array([7.97859375])), 0.13430286047582275),
        (lambda: slope(ops.i1, 15.1), 350163.30746952146),
        (lambda: ops.zeta(20.0, np.array([9.0])), 9.4068681157951270e-20),
        (lambda: slope(lambda y: ops.zeta(np.float64(1.01), y), 1e5), -8.9125543896606075e-6),
    ],
)
def test_bessel_and_zeta_to_the_last_bits(f, true):
    assert f() == pytest.approx(true, rel=4e-16, abs=0.0)


def test_slope_of_a_damped_bessel_function():
    """Half the sum of I₀ and I₂ less I₁: SciPy's I₂ alone is off by ten units here."""
    assert slope(ops.i1e, 4.4) == pytest.approx(-0.015077909713832684, rel=1e-15, abs=0.0)


@pytest.mark.parametrize(
    ("f", "x", "true"),
    [
        (ops.erfcinv, 1e-30, -6.0908126387528929e28),
        (ops.erfcinv, 1e-100, -3.3115612944614731e98),
        (ops.erfcinv, 1e-200, -2.3366534180508822e198),
        (ops.erfcinv, 1e-290, -1.9390242159012554e288),
        (ops.ndtri, 1e-100, 4.6903754148377414e98),
        (ops.ndtri, 1e-250, 2.9560330787337945e248),
        (ops.ndtri, 1e-290, 2.7436236778767652e288),
        (ops.erfinv, 1 - 2.0**-36, 7047919616.4265743),
        (ops.erfinv, 1 - 2.0**-44, 1627387867482.2256),
        (ops.erfinv, 1 - 2.0**-50, 97539097489305.252),
    ],
)
def test_slopes_of_quantiles(f, x, true):
    """The quantile is rounded, and of its square's exponential that would be an error of up to 80 units; it is made good."""
    assert slope(f, x) == pytest.approx(true, rel=3e-15, abs=0.0)


def test_slopes_beside_equal_arguments():
    assert slope(ops.betaln, 1.0, 1e-9) == pytest.approx(-1.6449340656461696e-9, rel=1e-8, abs=0.0)
    assert slope(ops.beta, 1.0, 1e-9) == pytest.approx(-1.6449340656461695, rel=1e-8, abs=0.0)
    assert slope(ops.rel_entr, 0.6, 0.6000006) == pytest.approx(1.0 - 9.9999950002908901e-7, rel=1e-15, abs=0.0)


@pytest.mark.parametrize("f", [ops.var, ops.std])
def test_slopes_of_the_spread_beside_a_large_mean(f):
    x = 1e7 + 1e-2 * np.random.default_rng(1).normal(size=9)
    exact = [Fraction(v) for v in x.tolist()]
    d = [v - sum(exact) / 9 for v in exact]
    variance = float(sum(u * u for u in d) / 9)
    true = np.array([float(u) for u in d]) * (2 / 9 if f is ops.var else 1 / (9 * variance**0.5))
    np.testing.assert_allclose(grad(lambda x: f(x))(x), true, rtol=1e-9 if f is ops.var else 1e-7)
