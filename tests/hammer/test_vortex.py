"""VortexGrad: its formula, the known methods inside it, and the properties it promises."""

import collections
import inspect
import io
import math

import array_api_strict as strict
import numpy as np
import optree
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import hammer
from autograd import DiffTensor
from autograd import gradients as gt
from autograd.gradients import base
from autograd.optim import Optimizer, adamw
from hammer.vortex import VortexGrad, presets, vortex

G = np.random.default_rng(5).standard_normal((60, 7))


def run(transform, grads, dtype=np.float64):
    """h for a sequence of gradients of one tensor."""
    params = [np.zeros(grads.shape[1:], dtype)]
    state, out = transform.init(params), []
    for g in grads:
        (h,), state = transform.update([np.asarray(g, dtype)], state, params)
        out.append(np.array(h))
    return np.array(out)


def state_after(bank, grads):
    """The state of a bank's transform after gradients of one tensor."""
    transform, params = bank(), [np.zeros(grads.shape[1:])]
    state = transform.init(params)
    for g in grads:
        _, state = transform.update([g], state, params)
    return state


def by_definition(
    grads,
    decays,
    gains,
    direct=1.0,
    gate="coordinate",
    exponent=1.0,
    normalize=False,
    bias_correction=True,
    initial="zero",
    eps=1e-12,
):
    """The definition with explicit weights: weights[s] is what gradient s counts in the memory after t gradients."""
    out = []
    for t in range(1, len(grads) + 1):
        past, h, total = grads[:t], direct * grads[t - 1], direct
        for beta, gain in zip(decays, gains, strict=True):
            weights = (1 - beta) * beta ** np.arange(t - 1, -1, -1.0)
            if initial == "gradient":
                weights[0] += beta**t
            mass = weights.sum()
            mean = np.tensordot(weights, past, 1) / mass
            square = np.tensordot(weights, past**2, 1) / mass
            if gate == "tensor":
                c = (mean**2).sum() / ((square).sum() + eps)
            else:
                c = mean**2 / (square + eps)
            floor = (weights**2).sum() / mass**2
            r = 1.0 if gate == "none" else 0.0 if t == 1 else np.clip((c - floor) / (1 - floor), 0, 1) ** exponent
            h = h + gain * r * (mean if bias_correction else mean * mass)
            total = total + gain * r
        out.append(h / total if normalize else h)
    return np.array(out)


# ---- the formula ----


@pytest.mark.parametrize("gate", ["coordinate", "tensor", "none"])
@pytest.mark.parametrize("initial", ["zero", "gradient"])
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize(("exponent", "bias_correction"), [(1.0, True), (2.0, True), (0.5, False)])
def test_equals_its_definition(gate, initial, normalize, exponent, bias_correction):
    options = {
        "gate": gate,
        "initial": initial,
        "normalize": normalize,
        "exponent": exponent,
        "bias_correction": bias_correction,
    }
    drift = G + np.linspace(-1, 1, 7)  # some coordinates agree, some are noise
    for decays, gains, direct in [((0.98, 0.998), (5.0, 20.0), 1.0), ((0.5, 0.0, 0.9), (1.0, 3.0, 2.0), 0.3)]:
        got = run(vortex(decays, gains, direct, **options), drift)
        if 0.0 in decays and gate != "none":  # a memory of one gradient has a noise floor of 1: its gate is closed
            decays, gains = (0.5, 0.9), (1.0, 2.0)
        np.testing.assert_allclose(got, by_definition(drift, decays, gains, direct, **options), rtol=1e-9, atol=1e-11)


def test_defaults_are_those_documented():
    np.testing.assert_allclose(run(vortex(), G), by_definition(G, (0.98, 0.998), (5.0, 20.0)), rtol=1e-9, atol=1e-11)
    assert inspect.signature(vortex).parameters == inspect.signature(VortexGrad).parameters
    assert hammer.VortexGrad is VortexGrad


# ---- known methods ----


def close(got, expected):
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)


def test_grokfast_ema():
    """Lee et al. 2024, algorithm 2: the mean starts at the first gradient, and twice of it is added."""
    mean, expected = None, []
    for g in G:
        mean = g.copy() if mean is None else mean
        mean = 0.98 * mean + 0.02 * g
        expected.append(g + 2.0 * mean)
    close(run(presets.grokfast_ema(0.98, 2.0)(), G), expected)


def test_heavy_ball():
    """Polyak 1964: the velocity is β times itself plus the gradient."""
    velocity, expected = np.zeros(7), []
    for g in G:
        velocity = 0.9 * velocity + g
        expected.append(velocity)
    close(run(presets.heavy_ball(0.9)(), G), expected)


def test_quasi_hyperbolic_momentum():
    """Ma & Yarats 2019, eq. 3 and 4, with ν = 0.7, β = 0.999."""
    buffer, expected = np.zeros(7), []
    for g in G:
        buffer = 0.999 * buffer + (1 - 0.999) * g
        expected.append((1 - 0.7) * g + 0.7 * buffer)
    close(run(presets.quasi_hyperbolic(0.999, 0.7)(), G), expected)


def test_aggregated_momentum():
    """Lucas et al. 2019, eq. 4: the mean of several velocities."""
    betas = (0.0, 0.9, 0.99)
    velocities, expected = [np.zeros(7)] * 3, []
    for g in G:
        velocities = [b * v + g for b, v in zip(betas, velocities, strict=True)]
        expected.append(sum(velocities) / 3)
    close(run(presets.aggregated(betas)(), G), expected)


def test_ademamix_numerator():
    """Pagliardini et al. 2024, eq. 1: a bias-corrected fast mean plus α of a slow one that is not corrected."""
    fast, slow, expected = np.zeros(7), np.zeros(7), []
    for t, g in enumerate(G, 1):
        fast, slow = 0.9 * fast + 0.1 * g, 0.9999 * slow + 0.0001 * g
        expected.append(fast / (1 - 0.9**t) + 8.0 * slow)
    close(run(presets.ademamix(0.9, 0.9999, 8.0)(), G), expected)


def test_complex_momentum():
    """Lorraine et al. 2021, eq. 4: the velocity is a complex number; the step is its real part."""
    pole, velocity, expected = 0.8 * np.exp(1j * np.pi / 8), np.zeros(7, complex), []
    for g in G:
        velocity = pole * velocity + g
        expected.append(velocity.real)
    close(run(presets.complex_momentum(0.8, np.pi / 8)(), G), expected)
    close(run(presets.complex_momentum(0.9, 0.0)(), G), run(presets.heavy_ball(0.9)(), G))


@pytest.mark.parametrize("warmup", [True, False])
def test_grokfast_ma(warmup):
    """Lee et al. 2024, algorithm 1, with a queue of 9 gradients."""
    queue, expected = collections.deque(maxlen=9), []
    for g in G:
        queue.append(g)
        expected.append(g + 5.0 * sum(queue) / len(queue) if not warmup or len(queue) == 9 else g)
    close(run(presets.grokfast_ma(9, 5.0, warmup)(), G), expected)


def test_critical_gradients():
    """McRae et al. 2022, as their released code does it: a sorted list of (priority, gradient)."""
    kept, expected, replaced = [], [], 0
    for g in G:
        expected.append(g + 1.5 * sum(x for _, x in kept) / len(kept) if kept else g)
        norm = np.sqrt((g * g).sum())
        if len(kept) < 4:
            kept.append((norm, g))
        elif norm > min(kept, key=lambda e: e[0])[0]:
            kept[[p for p, _ in kept].index(min(p for p, _ in kept))] = (norm, g)
            replaced += 1
        kept = [(0.9 * p, x) for p, x in kept]
    assert 3 < replaced < 50  # of 56: both ways are taken
    close(run(presets.critical_gradients(4, 0.9, 1.5)(), G), expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("gate", ["coordinate", "tensor", "none"])
def test_zero_gain_is_the_identity_to_the_bit(gate, dtype):
    special = np.array([[0.0, -0.0, 1e-30, -3.5, np.inf, np.nan, 7.0]])
    for grads in (G, special):
        h = run(vortex((0.98, 0.998), (0.0, 0.0), gate=gate), grads, dtype)
        assert h.tobytes() == grads.astype(dtype).tobytes()
    assert run(vortex((0.9,), (0.0,), direct=0.3), G, dtype).tobytes() == (G.astype(dtype) * dtype(0.3)).tobytes()


# ---- properties ----

some = st.floats(-10, 10, allow_subnormal=False)
sequences = arrays(np.float64, st.tuples(st.integers(1, 12), st.integers(1, 5)), elements=some)
banks = st.integers(1, 3).flatmap(
    lambda k: st.fixed_dictionaries(
        {
            # between 0 and 0.001 the noise floor comes so near 1 that rounding decides the gate
            "decays": st.lists(st.just(0.0) | st.floats(0.001, 0.999), min_size=k, max_size=k),
            "gains": st.lists(st.floats(0, 20), min_size=k, max_size=k),
            "direct": st.floats(0.1, 2),
            "gate": st.sampled_from(["coordinate", "tensor", "none"]),
            "exponent": st.sampled_from([0.5, 1.0, 3.0]),
            "initial": st.sampled_from(["zero", "gradient"]),
            "bias_correction": st.booleans(),
        }
    )
)
quick = settings(max_examples=60, deadline=None)


@quick
@given(sequences, banks)
def test_the_gain_is_bounded(grads, options):
    bank = VortexGrad(**options)
    bound = bank.dc_gain() * np.maximum.accumulate(abs(grads))
    assert (abs(run(bank(), grads)) <= bound * (1 + 1e-9) + 1e-300).all()


@quick
@given(sequences, banks)
def test_the_normalised_gain_is_at_most_one(grads, options):
    h = run(vortex(**{**options, "normalize": True}), grads)
    assert (abs(h) <= np.maximum.accumulate(abs(grads)) * (1 + 1e-9) + 1e-300).all()


@quick
@given(sequences, st.sampled_from(["coordinate", "tensor"]), st.floats(0, 0.999), st.sampled_from([0.5, 1.0, 3.0]))
def test_the_gate_is_between_closed_and_open(grads, gate, beta, exponent):
    gated = run(vortex((beta,), (1.0,), gate=gate, exponent=exponent), grads) - grads  # r m̂
    memory = run(vortex((beta,), (1.0,), direct=0.0, gate="none"), grads)  # m̂
    slack = 1e-12 * (1 + np.maximum.accumulate(abs(grads)))
    assert (abs(gated) <= abs(memory) + slack).all() and (gated * memory >= -slack * abs(memory)).all()
    assert not gated[0].any()  # closed at the first gradient


@quick
@given(sequences, banks, st.integers(-12, 12), st.floats(1, 2))
def test_homogeneous(grads, options, power, s):
    grads = np.where(abs(grads) < 1e-6, 0.0, grads)
    transform = vortex(**options, eps=1e-200)  # ε is the one absolute scale
    h, size = run(transform, grads), abs(grads).max() + 1e-300
    np.testing.assert_allclose(
        run(transform, 2.0**power * grads), 2.0**power * h, rtol=1e-14, atol=1e-14 * 2.0**power * size
    )
    steep = options["exponent"] < 1  # a root magnifies the rounding of s · g where the gate just opens
    np.testing.assert_allclose(run(transform, s * grads), s * h, rtol=0, atol=(1e-5 if steep else 1e-10) * size)


@quick
@given(sequences, banks, st.data())
def test_sign_and_permutation_equivariant(grads, options, data):
    transform, n = vortex(**options), grads.shape[1]
    signs = np.array(data.draw(st.lists(st.sampled_from([-1.0, 1.0]), min_size=n, max_size=n)))
    order = np.array(data.draw(st.permutations(range(n))))
    h = run(transform, grads)
    assert np.array_equal(run(transform, grads * signs), h * signs)
    permuted = run(transform, grads[:, order])
    if options["gate"] == "tensor":  # the order of a sum changes its rounding
        np.testing.assert_allclose(permuted, h[:, order], rtol=1e-6, atol=1e-6 * abs(h).max() + 1e-300)
    else:
        assert np.array_equal(permuted, h[:, order])


@quick
@given(
    arrays(np.float64, 3, elements=st.floats(0.01, 100)),
    st.floats(0.01, 0.999),
    st.sampled_from(["coordinate", "tensor"]),
)
def test_a_constant_gradient_opens_the_gate(g, beta, gate):
    h = run(vortex((beta,), (4.0,), gate=gate, eps=1e-200), np.tile(g, (8, 1)))
    np.testing.assert_allclose(h[0], g, rtol=1e-15)
    np.testing.assert_allclose(h[1:], np.tile(5.0 * g, (7, 1)), rtol=1e-9)


@pytest.mark.parametrize("initial", ["zero", "gradient"])
@pytest.mark.parametrize(("beta", "steps"), [(0.9, 5), (0.9, 80), (0.98, 30), (0.98, 300)])
def test_coherence_of_noise_is_at_the_noise_floor(beta, steps, initial):
    noise = np.random.default_rng(11).standard_normal((steps, 20_000))
    bank = VortexGrad((beta,), (1.0,), initial=initial)
    ((c,),) = bank.coherence(state_after(bank, noise))
    assert (c <= 1 + 1e-12).all()
    if initial == "zero":
        assert abs(c.mean() / bank.noise_floor(0, steps) - 1) < 0.04
    else:  # one gradient has most of the weight for long: the floor is the ratio of the means, not the mean of the ratio
        weights = (1 - beta) * beta ** np.arange(steps - 1, -1, -1.0)
        weights[0] += beta**steps
        power, square = np.tensordot(weights, noise, 1) ** 2, np.tensordot(weights, noise**2, 1)
        np.testing.assert_allclose(c, power / square, rtol=1e-9)
        assert abs(power.mean() / square.mean() / bank.noise_floor(0, steps) - 1) < 0.04


def test_weak_gradients_close_the_gate_as_eps_says():
    """ε is in units of g²: at |g| = √ε a constant gradient has coherence one half."""
    h = run(vortex((0.5,), (1.0,), eps=1e-4), np.full((40, 1), 1e-2))
    floor = (1 - 0.5) / (1 + 0.5)
    assert math.isclose(h[-1, 0], 1e-2 * (1 + (0.5 - floor) / (1 - floor)), rel_tol=1e-9)


# ---- as a link ----


@pytest.mark.parametrize("gate", ["coordinate", "tensor", "none"])
def test_saving_and_loading_resumes_to_the_bit(gate):
    def make():
        rng = np.random.default_rng(2)
        params = [DiffTensor(rng.standard_normal(s).astype(np.float32), requires_grad=True) for s in ((4, 3), (5,), ())]
        return params, Optimizer(params, gt.chain(vortex(gate=gate), adamw(1e-2)))

    def advance(params, optimizer, steps):
        for t in steps:
            for i, p in enumerate(params):
                p.grad = np.random.default_rng([t, i]).standard_normal(p.shape).astype(np.float32)
            optimizer.step()

    whole, optimizer = make()
    advance(whole, optimizer, range(20))
    params, optimizer = make()
    advance(params, optimizer, range(8))
    file = io.BytesIO()
    np.savez(file, **optimizer.state_dict())
    file.seek(0)
    again = Optimizer(params, gt.chain(vortex(gate=gate), adamw(1e-2)))
    with np.load(file, allow_pickle=False) as saved:
        again.load_state_dict(dict(saved))
    advance(params, again, range(8, 20))
    assert all(a.numpy().tobytes() == b.numpy().tobytes() for a, b in zip(whole, params, strict=True))


@pytest.mark.parametrize("gate", ["coordinate", "tensor", "none"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_any_tree_dtype_library_and_size(gate, dtype, monkeypatch):
    monkeypatch.setattr(base, "TILE", 8)
    rng, there = np.random.default_rng(0), strict.Device("device1")
    params = {"w": np.zeros((5, 4), dtype), "b": [np.zeros(3, dtype), dtype(0)], "none": None}
    fill = lambda: {
        "w": rng.standard_normal((5, 4)).astype(dtype),
        "b": [rng.standard_normal(3).astype(dtype), dtype(0.3)],
        "none": None,
    }
    move = lambda tree: optree.tree_map(lambda x: strict.asarray(x, device=there), tree)
    transform = vortex(gate=gate, exponent=2.0)
    state, moved = transform.init(params), transform.init(move(params))
    for _ in range(4):
        grads = fill()
        h, state = transform.update(grads, state, params)
        other, moved = transform.update(move(grads), moved, move(params))
    for a, b in zip(optree.tree_leaves(h), optree.tree_leaves(other), strict=True):
        assert a.dtype == dtype and b.device == there
        np.testing.assert_allclose(np.from_dlpack(strict.asarray(b, device=strict.Device("CPU_DEVICE"))), a, rtol=1e-5)
    assert isinstance(h["b"][1], np.generic) and h["none"] is None
    assert state["v0"][0].shape == (() if gate == "tensor" else (3,)) if gate != "none" else "v0" not in state


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"decays": (1.0, 0.5)}, ValueError, r"vortex: decays\[0\] must be in \[0, 1\), not 1.0"),
        ({"gains": (5.0, -1)}, ValueError, r"vortex: gains\[1\] must be in \[0, inf\), not -1"),
        ({"decays": 0.9}, TypeError, "decays must be a sequence of numbers"),
        ({"decays": (0.9,)}, ValueError, "2 gains, one for each memory, but 1 entries in decays"),
        ({"bias_correction": (True,)}, ValueError, "1 entries in bias_correction"),
        ({"gate": "channel"}, ValueError, "gate must be one of 'coordinate', 'tensor', 'none', not 'channel'"),
        ({"initial": 0}, ValueError, "initial must be one of"),
        ({"exponent": 0}, ValueError, r"exponent must be in \(0, inf\)"),
        ({"eps": 0.0}, ValueError, r"eps must be in \(0, inf\)"),
        ({"direct": "1"}, TypeError, "direct must be a number"),
        ({"direct": 0.0, "normalize": True}, ValueError, "set direct above 0"),
    ],
)
def test_bad_settings_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        VortexGrad(**options)
