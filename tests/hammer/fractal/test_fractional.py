"""Fractional orders: special cases, the semigroup, closed forms; memories with power-law kernels and their stated error."""

import math

import array_api_strict as strict
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import binom

from autograd import gradients as gt
from autograd import jacobian, ops
from hammer.fractal import (
    caputo,
    fractional_difference,
    fractional_memory,
    fractional_weights,
    power_law,
    power_law_memory,
)

quick = settings(max_examples=40, deadline=None)
orders = st.floats(-3, 3)


def run(transform, grads):
    params = np.zeros_like(grads[0])
    state, found = transform.init(params), []
    for g in grads:
        h, state = transform.update(g, state, params)
        found.append(np.array(h))
    return np.array(found)


@quick
@given(orders, st.integers(1, 40))
def test_weights_are_binomials(alpha, n):
    wanted = [(-1) ** k * binom(alpha, k) for k in range(n)]
    np.testing.assert_allclose(fractional_weights(alpha, n), wanted, rtol=1e-9, atol=1e-12)


def test_orders_0_1_and_minus_1():
    x = np.random.default_rng(0).normal(size=(3, 50))
    np.testing.assert_allclose(fractional_difference(x, 0.0), x, atol=1e-13)
    np.testing.assert_allclose(fractional_difference(x, 1.0, 0.5), np.diff(x, prepend=0) / 0.5, atol=1e-12)
    np.testing.assert_allclose(fractional_difference(x, -1.0, axis=0), np.cumsum(x, axis=0), atol=1e-12)
    assert list(fractional_weights(2.0, 5)) == [1, -2, 1, 0, 0]


@quick
@given(orders, orders, st.integers(1, 60))
def test_semigroup(a, b, n):
    both = np.convolve(fractional_weights(a, n), fractional_weights(b, n))[:n]
    scale = np.convolve(abs(fractional_weights(a, n)), abs(fractional_weights(b, n)))[:n].max()
    np.testing.assert_allclose(both, fractional_weights(a + b, n), atol=1e-13 * scale)
    x = np.random.default_rng(n).normal(size=n)
    twice = fractional_difference(fractional_difference(x, a, 0.7), b, 0.7)
    largest = abs(twice).max() + scale * abs(x).max() * n * 0.7 ** -(a + b)
    np.testing.assert_allclose(twice, fractional_difference(x, a + b, 0.7), atol=1e-11 * largest)


def test_the_derivative_of_a_power_in_closed_form():
    """D^α t^p = Γ(p + 1) / Γ(p + 1 − α) t^{p − α}, to first order in the step."""
    t = np.linspace(0, 1, 2001)
    for alpha in (0.5, 0.8, -0.5):
        wanted = math.gamma(3) / math.gamma(3 - alpha) * t ** (2 - alpha)
        np.testing.assert_allclose(fractional_difference(t**2, alpha, t[1]), wanted, atol=2e-3)


@pytest.mark.parametrize("alpha", [0.2, 0.5, 0.9])
def test_caputo_is_exact_on_lines_and_of_order_2_minus_alpha(alpha):
    t = np.linspace(0, 1, 65)
    line = 3.0 - 2.0 * t
    np.testing.assert_allclose(caputo(line, alpha, t[1]), -2.0 * t ** (1 - alpha) / math.gamma(2 - alpha), atol=1e-12)
    errors = []
    for n in (200, 400):
        t = np.linspace(0, 1, n + 1)
        errors.append(abs(caputo(t**2, alpha, t[1]) - 2 * t ** (2 - alpha) / math.gamma(3 - alpha)).max())
    assert abs(math.log2(errors[0] / errors[1]) - (2 - alpha)) < 0.15


@pytest.mark.parametrize("make", [lambda x: fractional_difference(x, 0.4), lambda x: caputo(x, 0.4)])
def test_differentiable_along_any_axis_in_any_dtype_and_library(make):
    x = np.random.default_rng(1).normal(size=(4, 6))
    matrix = jacobian(lambda v: make(ops.reshape(v, (1, 6)))[0])(x[0])
    np.testing.assert_allclose(matrix @ x[0], make(x)[0], atol=1e-12)
    assert make(x.astype(np.float32)).dtype == np.float32
    moved = make(strict.asarray(x, device=strict.Device("device1")))
    np.testing.assert_allclose(
        np.from_dlpack(strict.asarray(moved, device=strict.Device("CPU_DEVICE"))), make(x), atol=1e-12
    )


@quick
@given(st.floats(-1, 1), st.integers(1, 7), st.integers(1, 20))
def test_the_window_is_exact_within_it(alpha, window, steps):
    grads = np.random.default_rng(steps).normal(size=(steps, 2, 3))
    weights = np.zeros(steps)
    weights[:window] = fractional_weights(alpha, max(window, steps))[: min(window, steps)]
    wanted = [sum(weights[k] * grads[t - k] for k in range(t + 1)) for t in range(steps)]
    np.testing.assert_allclose(run(fractional_memory(alpha, window), grads), wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("alpha", [-0.1, -0.3, -0.5, -0.7, -0.9])
@pytest.mark.parametrize("horizon", [100, 1000])
def test_exponential_memories_hold_the_stated_error(alpha, horizon):
    kernel = power_law(alpha, horizon)
    wanted = fractional_weights(alpha, horizon)
    error = abs(kernel.weights(horizon) / wanted - 1).max()
    assert error == pytest.approx(kernel.error, rel=1e-9) and kernel.error < {100: 0.002, 1000: 0.02}[horizon]
    assert (kernel.gains >= 0).all() and (np.diff(kernel.poles) > 0).all() and kernel.poles[-1] < 1
    assert power_law(alpha, horizon, 12).error < 5e-4
    steps = 60
    grads = np.random.default_rng(0).normal(size=(steps, 4))
    exact, found = run(fractional_memory(alpha, steps), grads), run(power_law_memory(alpha, horizon), grads)
    bound = kernel.error * np.array([sum(abs(grads[t - k]) * wanted[k] for k in range(t + 1)) for t in range(steps)])
    assert (abs(found - exact) <= bound * (1 + 1e-9) + 1e-12).all()


@pytest.mark.parametrize("make", [lambda: fractional_memory(-0.5, 4), lambda: power_law_memory(-0.5, 50)])
def test_memories_in_chains_keep_dtypes_and_libraries(make):
    rng, there = np.random.default_rng(0), strict.Device("device1")
    rule = gt.chain(make(), gt.scale_by_lr(0.1))
    params = {"w": np.ones((2, 3), np.float32), "b": np.float32(1)}
    moved = {k: strict.asarray(v, device=there) for k, v in params.items()}
    state, other = rule.init(params), rule.init(moved)
    for _ in range(6):
        grads = {"w": rng.normal(size=(2, 3)).astype(np.float32), "b": np.float32(rng.normal())}
        h, state = rule.update(grads, state, params)
        o, other = rule.update({k: strict.asarray(v, device=there) for k, v in grads.items()}, other, moved)
    for name in params:
        assert h[name].dtype == np.float32 and o[name].device == there
        back = np.from_dlpack(strict.asarray(o[name], device=strict.Device("CPU_DEVICE")))
        np.testing.assert_allclose(back, h[name], rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: fractional_difference(np.ones(3), "half"), TypeError, "alpha must be a number"),
        (lambda: fractional_difference(np.ones(3, int), 0.5), TypeError, "a real floating-point array"),
        (lambda: fractional_difference(np.ones(3), 0.5, axis=1), ValueError, r"no axis 1 in a signal of shape \(3,\)"),
        (lambda: fractional_difference(np.ones(3), 0.5, step=0), ValueError, r"step must be in \(0, inf\)"),
        (lambda: caputo(np.ones(3), 1.0), ValueError, r"alpha must be in \(0, 1\)"),
        (lambda: caputo(np.ones(1), 0.5), ValueError, "1 samples along axis -1; at least 2 are needed"),
        (lambda: power_law(0.5, 10), ValueError, r"alpha must be in \(-1, 0\)|must be in"),
        (lambda: power_law(-0.5, 1), ValueError, "horizon must be a whole number, at least 2"),
        (lambda: fractional_memory(-0.5, 0), ValueError, "window must be a whole number"),
    ],
)
def test_bad_settings_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()
