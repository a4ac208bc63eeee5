"""The filter that a bank is: gains, frequency response, the stability theorem, and warnings of learning rates above its bound."""

import itertools
import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autograd import DiffTensor
from autograd import gradients as gt
from autograd.optim import schedules
from hammer import VortexAdamW, VortexSGD
from hammer.vortex import StabilityWarning, VortexGrad, filters, presets

quick = settings(max_examples=60, deadline=None)


def run(transform, grads):
    """h for a sequence of gradients of one tensor."""
    params = [np.zeros(grads.shape[1:])]
    state, out = transform.init(params), []
    for g in grads:
        (h,), state = transform.update([g], state, params)
        out.append(np.array(h))
    return np.array(out)


# ---- the filter: gains and the stability theorem ----


def test_gains_of_the_filter():
    grokfast = VortexGrad((0.98,), (2.0,), gate="none")
    assert grokfast.dc_gain() == 3.0 and math.isclose(grokfast.max_stable_lr(1.0), 1.960, abs_tol=5e-4)
    bank = VortexGrad((0.5, 0.9), (1.0, 2.0), direct=0.5)
    assert math.isclose(bank.dc_gain(0.5), 2.0) and math.isclose(bank.nyquist_gain(), 0.5 + 1 / 3 + 2 / 19)
    assert math.isclose(bank.max_stable_lr(4.0), 2 / (4 * bank.nyquist_gain()))
    normal = VortexGrad((0.5, 0.9), (1.0, 2.0), normalize=True)
    assert math.isclose(normal.dc_gain(), 1.0) and math.isclose(normal.nyquist_gain(), (1 + 1 / 3 + 2 / 19) / 4)
    assert normal.max_stable_lr(1.0) == 2.0  # a closed gate is plain descent
    assert VortexGrad((), (), direct=0.0).max_stable_lr(1.0) == math.inf


@pytest.mark.parametrize("normalize", [False, True])
def test_the_filter_has_the_gains_it_states(normalize):
    bank = VortexGrad((0.8, 0.5), (3.0, 1.0), direct=0.7, gate="none", normalize=normalize)
    constant, alternating = np.ones((200, 1)), (-1.0) ** np.arange(200)[:, None]
    assert math.isclose(run(bank(), constant)[-1, 0], bank.dc_gain(), rel_tol=1e-12)
    assert math.isclose(run(bank(), alternating)[-1, 0] * alternating[-1, 0], bank.nyquist_gain(), rel_tol=1e-12)


@quick
@given(
    st.lists(st.tuples(st.floats(0, 0.995), st.floats(0, 30)), min_size=1, max_size=3),
    st.floats(0.05, 2),
    st.floats(0.1, 10),
)
def test_descent_is_stable_exactly_below_the_bound(memories, direct, largest):
    betas, gains = map(np.array, zip(*memories, strict=True))
    bound = VortexGrad(betas, gains, direct, gate="none").max_stable_lr(largest)

    def radius(lr, eigenvalue):
        """Of the linear map (x, m) → (x, m) that one step of descent on h is, for a quadratic of this curvature."""
        memory = np.column_stack([(1 - betas) * eigenvalue, np.diag(betas)])
        h = gains @ memory + np.r_[direct * eigenvalue, np.zeros(len(betas))]
        step = np.vstack([np.r_[1.0, np.zeros(len(betas))] - lr * h, memory])
        return abs(np.linalg.eigvals(step)).max()

    assert radius(bound * 1.001, largest) > 1
    assert all(radius(bound * 0.999, largest * part) < 1 + 1e-12 for part in (1.0, 0.7, 0.3, 0.05))


def test_the_bound_holds_for_the_transform_itself():
    bank = VortexGrad((0.9, 0.5), (3.0, 1.0), gate="none")
    for part, stable in ((0.99, True), (1.01, False)):
        rule = gt.chain(bank(), gt.scale_by_lr(part * bank.max_stable_lr(10.0)))
        x = [np.array([1.0, 1.0])]
        state = rule.init(x)
        for _ in range(4000):
            updates, state = rule.update([np.array([10.0, 2.0]) * x[0]], state, x)
            x = gt.apply_updates(x, updates)
        assert (abs(x[0]) < 1e-3).all() if stable else abs(x[0][0]) > 1e3


UNGATED = {"gate": "none", "bias_correction": False}
FILTERS = {
    "bank": VortexGrad((0.8, 0.5), (3.0, 1.0), direct=0.7, **UNGATED),
    "normalized": VortexGrad((0.8, 0.5), (3.0, 1.0), direct=0.7, normalize=True, **UNGATED),
    "complex": VortexGrad((0.8, 0.6), (3.0, 1.0), direct=0.7, phases=(0.4, -2.0), **UNGATED),
    "half turn": VortexGrad((0.7,), (2.0,), phases=(math.pi,), **UNGATED),
    "window": VortexGrad((0.0,), (5.0,), memory="window", capacity=7, **UNGATED),
}


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("omega", [0.0, 0.3, 1.7, math.pi])
def test_the_frequency_response_is_what_the_transform_does(name, omega):
    bank, t = FILTERS[name], np.arange(150)
    h = run(bank(), np.stack([np.cos(omega * t), np.sin(omega * t)], -1))
    z = bank.frequency_response(omega)
    expected = z * np.exp(1j * omega * t[-1])
    np.testing.assert_allclose(h[-1], [expected.real, expected.imag], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose([bank.dc_gain(), bank.nyquist_gain()], bank.frequency_response([0, math.pi]), rtol=1e-12)


@pytest.mark.parametrize("name", FILTERS)
def test_the_step_map_is_descent_on_the_transform(name):
    """The matrix whose eigenvalues decide stability, run beside the transform itself."""
    bank, step = FILTERS[name], 0.3
    matrix = filters.step_map(bank, step)
    vector, x = np.eye(len(matrix))[0], [np.array([1.0])]
    rule = bank()
    state = rule.init(x)
    for _ in range(25):
        vector = matrix @ vector
        (h,), state = rule.update([x[0].copy()], state, x)
        x[0] = x[0] - step * h
        np.testing.assert_allclose(x[0][0], vector[0], rtol=1e-9)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0.05, 0.99), st.floats(0.1, 20), st.floats(-3.1, 3.1)), min_size=1, max_size=2),
    st.floats(0.0, 2.0),
)
def test_descent_with_complex_poles_is_stable_below_the_bound_and_not_just_above(memories, direct):
    decays, gains, phases = zip(*memories, strict=True)
    bank = VortexGrad(decays, gains, direct, gate="none", phases=phases)
    bound = bank.max_stable_lr(1.0)
    assert filters.spectral_radius(bank, bound * 1.001) > 1 - 1e-9  # a root on the circle may only touch it
    for part in (0.999, 0.9, 0.6, 0.3, 0.1):
        assert filters.spectral_radius(bank, bound * part) < 1 + 1e-9


def test_complex_poles_break_the_rule_of_real_ones():
    """2 / H(−1) is not the bound with phases: it may be far too large."""
    bank = presets.complex_momentum(0.95, 1.0)
    rule, bound = 2 / bank.nyquist_gain(), bank.max_stable_lr(1.0)
    assert bound < 0.5 * rule
    assert filters.spectral_radius(bank, 0.99 * bound) < 1 < filters.spectral_radius(bank, 0.99 * rule)


def test_a_window_has_a_bound_of_its_own():
    bank = presets.grokfast_ma(10, 5.0)
    bound = bank.max_stable_lr(1.0)
    assert filters.spectral_radius(bank, 0.999 * bound) < 1 < filters.spectral_radius(bank, 1.001 * bound)


def test_with_a_gate_the_bound_is_the_smallest_over_resonances():
    bank = VortexGrad((0.9, 0.7), (4.0, 2.0), phases=(0.5, 0.0))
    bounds = [bank.max_stable_lr(1.0, r) for r in itertools.product((0.0, 1.0), repeat=2)]
    assert bank.max_stable_lr(1.0) == min(bounds) and len(set(bounds)) == 4
    with pytest.raises(ValueError, match="one for each of the 2 memories, not 3"):
        bank.dc_gain((1.0, 1.0, 1.0))
    with pytest.raises(ValueError, match=r"resonance must be in \[0, 1\]"):
        bank.dc_gain(1.5)
    with pytest.raises(ValueError, match="no linear filter"):
        presets.critical_gradients().nyquist_gain()


def weight():
    return DiffTensor(np.ones(2), requires_grad=True)


def test_a_learning_rate_above_the_bound_warns_with_the_number():
    bank = presets.grokfast_ema()
    bound = bank.max_stable_lr(10.0)
    with pytest.warns(StabilityWarning, match=f"0.2 is not below {bound:.6g}.* up to 10") as caught:
        VortexSGD([weight()], lr=0.2, bank=bank, largest_eigenvalue=10.0)
    assert caught[0].filename == __file__
    with pytest.warns(StabilityWarning, match="0.195.* up to 10.5"):  # regularisation adds to every eigenvalue
        VortexSGD([weight()], lr=0.195, bank=bank, weight_decay=0.5, largest_eigenvalue=10.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        VortexSGD([weight()], lr=0.195, bank=bank, largest_eigenvalue=10.0)
        VortexSGD([weight()], lr=100.0, bank=bank)


def test_a_schedule_or_a_new_rate_that_comes_to_the_bound_warns_once():
    optimizer = VortexSGD(
        [weight()],
        lr=schedules.warmup(10, schedules.constant(1.0)),
        bank=presets.heavy_ball(0.5),
        largest_eigenvalue=5.0,
    )
    with pytest.warns(StabilityWarning) as caught:
        for _ in range(20):
            optimizer.step([np.zeros(2)])
    assert len(caught) == 1
    optimizer = VortexSGD([weight()], lr=0.1, bank=presets.heavy_ball(0.5), largest_eigenvalue=5.0)
    optimizer.step([np.zeros(2)])
    optimizer.lr = 0.7
    with pytest.warns(StabilityWarning, match=r"0.7 is not below 0.6"):
        optimizer.step([np.zeros(2)])


def test_recipes_are_the_chains_they_say():
    grads = np.random.default_rng(0).standard_normal((6, 2))
    bank = VortexGrad(gate="tensor")
    for face, chain in (
        (
            lambda p: VortexSGD([p], lr=0.1, bank=bank, weight_decay=0.2),
            gt.chain(gt.add_decayed_weights(0.2), bank(), gt.scale_by_lr(0.1)),
        ),
        (
            lambda p: VortexAdamW([p], lr=0.1, bank=bank, betas=(0.8, 0.9), weight_decay=0.3),
            gt.chain(bank(), gt.scale_by_adam(0.8, 0.9), gt.add_decayed_weights(0.3), gt.scale_by_lr(0.1)),
        ),
    ):
        p, x = weight(), [np.ones(2)]
        optimizer, state = face(p), chain.init(x)
        for g in grads:
            optimizer.step([g])
            u, state = chain.update([g], state, x)
            x = gt.apply_updates(x, u)
        assert np.array_equal(p.numpy(), x[0])
