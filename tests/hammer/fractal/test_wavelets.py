"""The Haar transform: perfect reconstruction and energy; resolutions of gradients over parameters and time."""

import array_api_strict as strict
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autograd import grad, ops
from hammer.fractal import Haar, haar, inverse_haar, scale_by_resolution, scale_by_resolution_over_time

quick = settings(max_examples=50, deadline=None)


def run(transform, grads):
    params = np.zeros_like(grads[0])
    state, found = transform.init(params), []
    for g in grads:
        h, state = transform.update(g, state, params)
        found.append(np.array(h))
    return np.array(found)


@quick
@given(st.integers(1, 40), st.integers(1, 4), st.sampled_from([0, 1, -1, -2]), st.data())
def test_perfect_reconstruction_and_energy(n, m, axis, data):
    x = np.random.default_rng(n * m).normal(size=(n, m) if axis % 2 == 0 else (m, n))
    levels = data.draw(st.integers(0, (n - 1).bit_length()))
    found = haar(x, levels, axis)
    assert len(found.details) == levels
    np.testing.assert_allclose(inverse_haar(found), x, atol=1e-13)
    energy = np.sum(found.approximation**2) + sum(np.sum(d**2) for d in found.details)
    np.testing.assert_allclose(energy, np.sum(x**2), rtol=1e-12)
    assert found.approximation.size + sum(d.size for d in found.details) == x.size


def test_coefficients_by_hand():
    found = haar(np.array([1.0, 3.0, 2.0, 2.0]))
    np.testing.assert_allclose(found.approximation, [4.0])
    np.testing.assert_allclose(found.details[0], np.array([-2.0, 0.0]) / np.sqrt(2))
    np.testing.assert_allclose(found.details[1], [0.0], atol=1e-15)


def test_differentiable():
    x, weights = np.random.default_rng(0).normal(size=(2, 7))

    def f(v):
        found = haar(v, 2)
        return ops.sum(inverse_haar(Haar(found.approximation * 2.0, found.details, -1)) * weights)

    matrix = np.stack(
        [np.array(inverse_haar(Haar(h.approximation * 2.0, h.details, -1))) for h in (haar(e, 2) for e in np.eye(7))]
    )
    np.testing.assert_allclose(grad(f)(x), matrix @ weights, rtol=1e-12)


@pytest.mark.parametrize("shape", [(), (1,), (7,), (4, 6)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("make", [scale_by_resolution, scale_by_resolution_over_time])
def test_gains_of_one_change_nothing(make, dtype, shape):
    grads = np.random.default_rng(0).normal(size=(9, *shape)).astype(dtype)
    found = run(make((1.0, 1.0, 1.0, 1.0)), grads)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, grads, rtol=0, atol=1e-5 if dtype == np.float32 else 1e-14)


def test_over_parameters_blocks_become_their_means():
    g = np.random.default_rng(0).normal(size=(2, 8))
    found = run(scale_by_resolution((0.0, 0.0, 3.0)), g[None])[0]
    means = g.reshape(-1, 4).mean(axis=1)
    np.testing.assert_allclose(found, 3.0 * np.repeat(means, 4).reshape(2, 8), rtol=1e-12)


def test_over_time_the_coarsest_is_the_mean_of_the_last():
    grads = np.random.default_rng(0).normal(size=(20, 3))
    past = np.concatenate([np.repeat(grads[:1], 8, axis=0), grads])
    mean = lambda n: np.array([past[t + 9 - n : t + 9].mean(axis=0) for t in range(20)])
    np.testing.assert_allclose(run(scale_by_resolution_over_time((0, 0, 0, 1)), grads), mean(8), atol=1e-13)
    np.testing.assert_allclose(
        run(scale_by_resolution_over_time((0, 2, 0, 0)), grads), 2 * (mean(2) - mean(4)), atol=1e-13
    )
    assert run(scale_by_resolution_over_time((5,)), grads)[3, 1] == 5 * grads[3, 1]


@pytest.mark.parametrize("make", [scale_by_resolution, scale_by_resolution_over_time])
def test_another_library(make):
    g, there = np.random.default_rng(0).normal(size=(3, 5)), strict.Device("device1")
    transform = make((0.5, 2.0, 1.0))
    moved = strict.asarray(g, device=there)
    h, _ = transform.update(moved, transform.init(moved), moved)
    back = np.from_dlpack(strict.asarray(h, device=strict.Device("CPU_DEVICE")))
    np.testing.assert_allclose(back, run(transform, g[None])[0], rtol=1e-12)


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match=r"5 samples can be halved 3 times, not 4"):
        haar(np.ones(5), 4)
    with pytest.raises(ValueError, match="no axis 2"):
        haar(np.ones(5), 1, 2)
    with pytest.raises(ValueError, match="no samples along axis"):
        haar(np.ones((2, 0)))
    with pytest.raises(ValueError, match="3 details do not fit an approximation of 5"):
        inverse_haar(Haar(np.ones(5), (np.ones(3),), -1))
    with pytest.raises(ValueError, match="gains must hold one number"):
        scale_by_resolution(())
