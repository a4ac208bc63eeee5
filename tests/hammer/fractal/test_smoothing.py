"""smooth and multiscale: exact cases, unbiasedness, closed forms, and that they nest with the other transforms."""

import math

import array_api_strict as strict
import numpy as np
import optree
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autograd import grad, hessian, hvp, jvp, ops, value_and_grad, vmap
from hammer import fractal
from hammer.fractal import dyadic, gated, multiscale, smooth

SEED = np.random.SeedSequence(3)
quick = settings(max_examples=25, deadline=None)
vectors = st.lists(st.floats(-3, 3), min_size=3, max_size=3).map(np.array)
combines = st.sampled_from(["coarse", "average", "gate"])


def quadratic(matrix, line):
    return lambda x: 0.5 * ops.sum(x * (x @ matrix)) + ops.sum(line * x)


def symmetric(seed):
    a = np.random.default_rng(seed).normal(size=(3, 3))
    return a + a.T


def ripples(x):
    return 0.5 * ops.sum(x * x) + ops.sum(1.0 - ops.cos(2 * np.pi * x))


@quick
@given(
    vectors, st.integers(0, 99), st.floats(0, 50), st.sampled_from([1, 2, 8]), st.sampled_from(["sobol", "gaussian"])
)
def test_exact_on_quadratics_for_every_scale_and_number_of_directions(x, seed, sigma, n, kind):
    matrix, line = symmetric(seed), np.arange(3.0)
    f = smooth(quadratic(matrix, line), sigma, n, rng=np.random.default_rng(seed), directions=kind)
    tolerance = 1e-12 * (1 + sigma) * 100
    np.testing.assert_allclose(grad(f)(x), matrix @ x + line, atol=tolerance)
    np.testing.assert_allclose(hvp(f)(x, line), matrix @ line, atol=tolerance)


@quick
@given(vectors, st.integers(0, 99), combines, st.floats(0.01, 3))
def test_every_combination_is_exact_on_quadratics(x, seed, combine, sigma):
    matrix = symmetric(seed)
    f = multiscale(quadratic(matrix, 0.0), dyadic(sigma, 3), combine, n=4, rng=SEED)
    np.testing.assert_allclose(grad(f)(x), matrix @ x, atol=1e-10)


@quick
@given(
    vectors,
    st.floats(-2, 2),
    st.floats(-2, 2),
    st.sampled_from([0, 1]),
    st.sampled_from(["coarse", "average"]),
    st.booleans(),
)
def test_linear_in_the_function(x, a, b, order, combine, antithetic):
    make = lambda f: multiscale(f, (0.5, 0.2), combine, n=8, rng=SEED, order=order, antithetic=antithetic)
    g, h = ripples, lambda x: ops.sum(ops.exp(-x * x))
    both = grad(make(lambda x: a * g(x) + b * h(x)))(x)
    np.testing.assert_allclose(both, a * grad(make(g))(x) + b * grad(make(h))(x), atol=1e-9)


@quick
@given(vectors, st.floats(0.05, 2), st.integers(0, 99))
def test_order_0_is_its_definition(x, sigma, seed):
    """Z_σ f = mean of [f(x + σu) − f(x − σu)] u / 2σ, and Stein's second-order estimator with the baseline f(x)."""
    from hammer.fractal.directions import generator, normal

    source = np.random.SeedSequence(seed)
    u = normal(8, 3, generator(source, "test"))
    plus, minus = (np.array([ripples(x + s * sigma * v) for v in u]) for s in (1, -1))
    f = smooth(ripples, sigma, 8, rng=source, order=0)
    value, gradient = value_and_grad(f)(x)
    np.testing.assert_allclose(value, np.mean([plus, minus]), rtol=1e-12)
    np.testing.assert_allclose(gradient, ((plus - minus) / (2 * sigma)) @ u / 8, rtol=1e-9, atol=1e-9)
    outer = u[:, :, None] * u[:, None, :] - np.eye(3)
    wanted = np.mean(((plus + minus) / 2 - ripples(x))[:, None, None] * outer, axis=0) / sigma**2
    np.testing.assert_allclose(hessian(f)(x), wanted, rtol=1e-7, atol=1e-7 / sigma**2)


def test_order_0_differentiates_what_has_no_derivative():
    """E floor(x + σu) has the derivative Σ_k φ((k − x)/σ)/σ."""
    sigma, x = 0.7, np.array([0.3])
    f = smooth(lambda x: ops.sum(ops.floor(x)), sigma, 1 << 14, rng=SEED, order=0)
    wanted = sum(math.exp(-(((k - 0.3) / sigma) ** 2) / 2) for k in range(-9, 9)) / (sigma * math.sqrt(2 * math.pi))
    assert abs(float(grad(f)(x)[0]) - wanted) < 2e-3


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("antithetic", [True, False])
def test_unbiased(order, antithetic):
    """The smoothed rippled bowl in closed form: its ripples are damped by exp(−ω²σ²/2)."""
    x, sigma, omega = np.array([0.4, -0.8]), 0.2, 2 * np.pi
    damped = math.exp(-((omega * sigma) ** 2) / 2)
    wanted = x + omega * damped * np.sin(omega * x)
    rng = np.random.default_rng(1)
    f = smooth(ripples, sigma, 8, rng=rng, antithetic=antithetic, order=order, directions="gaussian")
    found = np.array([grad(f)(x) for _ in range(500)])
    error = found.std(axis=0) / math.sqrt(len(found))
    assert (abs(found.mean(axis=0) - wanted) < 4 * error).all() and (error < 0.5).all()


def test_quasi_random_directions_are_less_noisy():
    x = np.array([0.4, -0.8, 0.1])
    spread = {}
    for kind in ("sobol", "gaussian"):
        rng = np.random.default_rng(0)
        f = smooth(ripples, 0.1, 64, rng=rng, directions=kind)
        spread[kind] = np.std([grad(f)(x) for _ in range(40)], axis=0)
    assert (spread["sobol"] < 0.3 * spread["gaussian"]).all()


def test_a_seed_sequence_makes_a_fixed_function_and_a_generator_does_not():
    x = np.array([0.3, 0.4])
    fixed, fresh = (smooth(ripples, 0.3, 4, rng=rng) for rng in (np.random.SeedSequence(5), np.random.default_rng(5)))
    assert fixed(x) == fixed(x) and fresh(x) != fresh(x)
    step = 1e-6
    differences = [(fixed(x + step * e) - fixed(x - step * e)) / (2 * step) for e in np.eye(2)]
    np.testing.assert_allclose(grad(fixed)(x), differences, rtol=1e-7)


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("combine", ["coarse", "average", "gate"])
def test_nests_with_the_other_transforms(combine, order):
    x, v = np.array([0.3, -0.4]), np.array([1.0, 2.0])
    f = multiscale(ripples, (0.3, 0.1), combine, n=4, rng=SEED, order=order)
    g = grad(f)(x)
    np.testing.assert_allclose(jvp(f, (x,), (v,))[1], g @ v, rtol=1e-10)
    np.testing.assert_allclose(vmap(grad(f))(np.stack([x, v]))[0], g, rtol=1e-12)
    h = hessian(f)(x)
    np.testing.assert_allclose(hvp(f)(x, v), h @ v, rtol=1e-10)
    np.testing.assert_allclose(jvp(grad(f), (x,), (v,))[1], h @ v, rtol=1e-10)
    if order == 1:
        step = 1e-5
        rows = [(grad(f)(x + step * e) - grad(f)(x - step * e)) / (2 * step) for e in np.eye(2)]
        np.testing.assert_allclose(h, np.stack(rows, axis=1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("combine", ["coarse", "average", "gate"])
@pytest.mark.parametrize("order", [0, 1])
def test_other_arguments_keep_their_gradients(combine, order):
    def f(x, weights, k):
        return ops.sum(ops.cos(x) * weights["w"][k])

    x, weights, k = np.array([0.3, 0.4]), {"w": np.ones((2, 2)), "n": 3}, np.array([0, 1])
    m = multiscale(lambda x, w, k: f(x, w, k).sum(), (0.5, 0.25), combine, n=8, rng=SEED, order=order)
    gx, gw = grad(lambda x, w: m(x, {"w": w, "n": 3}, k), (0, 1))(x, weights["w"])
    np.testing.assert_allclose(gx, grad(m)(x, weights, k), rtol=1e-12)
    alone = grad(lambda w: m(x, {"w": w, "n": 3}, k))(weights["w"])
    np.testing.assert_allclose(gw, alone, rtol=1e-12)
    assert (gw > 0.5).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("combine", ["coarse", "average", "gate"])
def test_trees_dtypes_and_other_libraries(dtype, order, combine):
    rng = np.random.default_rng(0)
    x = {"a": rng.normal(size=(2, 3)).astype(dtype), "b": [rng.normal(size=4).astype(dtype), dtype(0.5)]}

    def f(t):
        return ops.sum(t["a"] ** 2) + ops.sum(ops.sin(t["b"][0])) + t["b"][1] ** 3

    m = multiscale(f, (0.5, 0.25), combine, n=4, rng=SEED, order=order)
    value, gradient = value_and_grad(m)(x)
    assert value.dtype == dtype and {str(a.dtype) for a in optree.tree_leaves(gradient)} == {np.dtype(dtype).name}
    there = strict.Device("device1")
    moved = optree.tree_map(lambda a: strict.asarray(a, device=there), x)
    other = grad(m)(moved)
    for a, b in zip(optree.tree_leaves(gradient), optree.tree_leaves(other), strict=True):
        assert b.device == there
        b = np.from_dlpack(strict.asarray(b, device=strict.Device("CPU_DEVICE")))
        np.testing.assert_allclose(a, b, rtol=2e-4 if dtype == np.float32 else 1e-10, atol=1e-5)


@quick
@given(st.lists(st.lists(st.floats(-4, 4), min_size=4, max_size=4).map(np.array), min_size=2, max_size=4))
def test_the_gate_by_its_words(gradients):
    found = gated(gradients)
    for i in range(4):
        entered = [gradients[0][i]]
        for finer in gradients[1:]:
            before = entered[-1]
            if before * finer[i] > 0 and abs(finer[i]) <= 2 * abs(before):
                entered.append(finer[i])
            else:
                break
        assert math.isclose(found[i], sum(entered) / len(entered), rel_tol=1e-12, abs_tol=1e-300)
    assert (found * gradients[0] >= 0).all()


def test_the_gate_opens_up_to_twice_and_stays_shut():
    levels = [
        np.array([1.0, 1.0, 1.0, 1.0, 0.0]),
        np.array([2.0, 2.1, -0.5, 0.5, 1.0]),
        np.array([3.0, 1.0, 0.5, 0.25, 1.0]),
    ]
    np.testing.assert_allclose(gated(levels), [2.0, 1.0, 1.0, 1.75 / 3, 0.0], rtol=1e-15)


def test_the_directions_are_one_call():
    calls = []

    def f(x):
        calls.append(1)
        return ops.sum(x * x)

    grad(smooth(f, 0.1, 64, rng=SEED))(np.ones(2))
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: smooth(ripples, -1.0, rng=SEED), ValueError, r"smooth: sigma must be in \[0, inf\), not -1.0"),
        (lambda: smooth(ripples, 0.0, rng=SEED, order=0), ValueError, r"smooth: sigma must be in \(0, inf\)"),
        (lambda: smooth(ripples, 1.0, 0, rng=SEED), ValueError, "smooth: n must be a whole number"),
        (lambda: smooth(ripples, 1.0, rng=0), TypeError, "rng must be a numpy.random.Generator"),
        (lambda: smooth(ripples, 1.0, rng=SEED, order=2), ValueError, "order must be 0 or 1, not 2"),
        (lambda: smooth(ripples, 1.0, 6, rng=SEED)(np.ones(2)), ValueError, "powers of two; write 8"),
        (lambda: smooth(ripples, 1.0, 4, rng=SEED)(np.ones(30_000)), ValueError, "up to 21,201 elements"),
        (lambda: smooth(ripples, 1.0, 4, rng=SEED)(np.ones(2, int)), TypeError, "leaf 0 of the argument is int64"),
        (
            lambda: smooth(ripples, 1.0, 4, rng=SEED, directions="halton")(np.ones(2)),
            ValueError,
            "'sobol' or 'gaussian'",
        ),
        (lambda: multiscale(ripples, (1.0, 1.0), rng=SEED), ValueError, "scales must be one or more falling numbers"),
        (lambda: multiscale(ripples, (), rng=SEED), ValueError, "scales must be one or more falling numbers"),
        (lambda: multiscale(ripples, (1.0,), "mean", rng=SEED), ValueError, "combine must be"),
    ],
)
def test_bad_settings_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


# ---- roughness ----


def test_roughness_of_a_gradient_of_known_exponent():
    """The gradient is a Weierstrass function, Σ 2^(−Hk) cos(2^k x + k²), whose Hölder exponent is H."""
    for exponent in (0.3, 0.7):
        f = lambda x, h=exponent: ops.sum(sum(2.0 ** (-(h + 1) * k) * ops.sin(2.0**k * x + k * k) for k in range(18)))
        found = fractal.roughness(f, np.linspace(0.0, 3.0, 12), [2.0**-k for k in range(1, 9)], 128, rng=SEED)
        assert abs(found.exponent - exponent) < 0.06
        assert abs(np.mean(found.by_coordinate) - exponent) < 0.08 and found.by_coordinate.shape == (12,)


def test_roughness_of_smooth_functions():
    scales = dyadic(0.1, 4)
    smooth_, square = lambda x: ops.sum(ops.sin(x)), lambda x: ops.sum(x * x)
    assert abs(fractal.roughness(smooth_, np.array([0.5, 1.0]), scales, rng=SEED).exponent - 2.0) < 0.02
    for dtype in (np.float32, np.float64):
        assert fractal.roughness(square, np.array([0.5, 1.0], dtype), scales, rng=SEED).exponent == math.inf
    mixed = fractal.roughness(lambda x: ops.sin(x[0]) + x[1] ** 2, np.array([0.5, 1.0]), scales, rng=SEED)
    assert abs(mixed.by_coordinate[0] - 2.0) < 0.02 and mixed.by_coordinate[1] == math.inf
    with pytest.raises(ValueError, match="two different scales"):
        fractal.roughness(square, np.ones(2), (0.1,), rng=SEED)


def test_the_gates_gradient_is_times_what_comes_from_above():
    f = lambda x: ops.sum(ops.cos(3.0 * x) + x * x)
    seen = multiscale(f, (0.5, 0.25), "gate", 4, rng=np.random.SeedSequence(3))
    x = np.array([0.3, -0.8, 1.7])
    np.testing.assert_allclose(grad(lambda x: -2.0 * seen(x))(x), -2.0 * np.asarray(grad(seen)(x)), rtol=1e-13)
