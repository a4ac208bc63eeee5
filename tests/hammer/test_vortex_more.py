"""VortexGrad's other memories: phases, windows, critical gradients, factored squares; in any library, compiled, saved, seen."""

import io
import math
import xml.etree.ElementTree as ET

import array_api_strict as strict
import numpy as np
import optree
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import hammer
from autograd import DiffTensor, nn, ops, optim
from autograd import gradients as gt
from autograd.gradients import base
from autograd.optim import Optimizer, adamw
from hammer.graph import CompileWarning, Update
from hammer.vortex import CoherenceMap, VortexGrad, presets

G = np.random.default_rng(5).standard_normal((40, 3, 4)) + np.linspace(-1, 1, 4)
BANKS = {
    "phases": VortexGrad(phases=(0.0, 0.3)),
    "phases by tensor": VortexGrad((0.9,), (2.0,), gate="tensor", phases=(-0.7,)),
    "window": VortexGrad((0.0,), (2.0,), memory="window", capacity=6),
    "window waits": presets.grokfast_ma(6),
    "critical": VortexGrad((0.7, 0.9), (1.0, 2.0), memory="critical", capacity=(3, 5)),
    "critical by tensor": VortexGrad((0.8,), (1.0,), gate="tensor", memory="critical", normalize=True, exponent=2.0),
    "factored": VortexGrad(second_moment="factored"),
    "t-test": VortexGrad(significance=2.0),
    "t-test by tensor": VortexGrad((0.9,), (2.0,), gate="tensor", significance=1.5),
    "t-test of a window": VortexGrad((0.0,), (2.0,), memory="window", capacity=6, significance=2.0),
}
BUFFERED = [name for name, bank in BANKS.items() if bank.memory != "exponential"]


def run(bank, grads):
    """h for a sequence of gradients of one tensor."""
    transform, params = bank(), [np.zeros(grads.shape[1:], grads.dtype)]
    state, out = transform.init(params), []
    for g in grads:
        (h,), state = transform.update([g], state, params)
        out.append(np.array(h))
    return np.array(out)


# ---- the formulas ----


def resonance(c, floor, exponent=1.0):
    return np.clip((c - floor) / (1 - floor), 0, 1) ** exponent if floor < 1 else 0.0


@pytest.mark.parametrize("gate", ["coordinate", "tensor", "none"])
@pytest.mark.parametrize(("correct", "normalize", "exponent"), [(True, False, 1.0), (False, True, 2.0)])
def test_phases_equal_their_definition(gate, correct, normalize, exponent):
    """With explicit complex weights: a gradient s steps old counts (1 − β) β^s e^{iφs}."""
    decays, gains, phases = (0.9, 0.5), (2.0, 3.0), (0.4, -2.5)
    expected = []
    for t in range(1, len(G) + 1):
        h, total = 0.7 * G[t - 1], 0.7
        for beta, gain, phase in zip(decays, gains, phases, strict=True):
            age = np.arange(t - 1, -1, -1.0)
            size = (1 - beta) * beta**age
            m = np.tensordot(size * np.exp(1j * phase * age), G[:t], 1) / size.sum()
            v = np.tensordot(size, G[:t] ** 2, 1) / size.sum()
            c = (abs(m) ** 2).sum() / v.sum() if gate == "tensor" else abs(m) ** 2 / v
            assert np.all(c <= 1 + 1e-12)
            r = 1.0 if gate == "none" else 0.0 if t == 1 else resonance(c, (size**2).sum() / size.sum() ** 2, exponent)
            h = h + gain * r * m.real * (1.0 if correct else size.sum())
            total = total + gain * r
        expected.append(h / total if normalize else h)
    bank = VortexGrad(decays, gains, 0.7, gate, exponent, normalize, bias_correction=correct, phases=phases, eps=1e-300)
    np.testing.assert_allclose(run(bank, G), expected, rtol=1e-9, atol=1e-11)


def test_a_significant_window_is_students_t_test():
    from scipy import stats

    h = run(VortexGrad((0.0,), (2.0,), memory="window", capacity=6, significance=1.7, eps=1e-300), G)
    opened = 0
    for t in range(2, len(G) + 1):
        past = G[max(0, t - 6) : t]
        expected = abs(stats.ttest_1samp(past, 0.0).statistic) > 1.7
        np.testing.assert_allclose(h[t - 1], G[t - 1] + 2.0 * expected * past.mean(0), rtol=1e-12, atol=1e-14)
        opened += int(expected.sum())
    assert 100 < opened < 400  # of 468: it says both


@pytest.mark.parametrize("gate", ["coordinate", "tensor"])
def test_significance_equals_its_definition(gate):
    """t² = c (n − 1)/(1 − c) with n = 1/c0, from explicit weights."""
    bank = VortexGrad((0.9, 0.5), (2.0, 3.0), 0.7, gate, significance=1.2, eps=1e-300)
    expected, opened = [], []
    for t in range(1, len(G) + 1):
        h = 0.7 * G[t - 1]
        for beta, gain in zip(bank.decays, bank.gains, strict=True):
            w = beta ** np.arange(t - 1, -1, -1.0)
            w /= w.sum()
            m, v = np.tensordot(w, G[:t], 1), np.tensordot(w, G[:t] ** 2, 1)
            c = (m**2).sum() / v.sum() if gate == "tensor" else m**2 / v
            n = 1 / (w**2).sum()
            is_open = t > 1 and c * (n - 1) / (1 - c) > 1.2**2
            opened.append(np.mean(is_open))
            h = h + gain * np.where(is_open, m, 0.0)
        expected.append(h)
    np.testing.assert_allclose(run(bank, G), expected, rtol=1e-9, atol=1e-11)
    assert 0.1 < np.mean(opened) < 0.95


@pytest.mark.parametrize("gate", ["coordinate", "tensor", "none"])
@pytest.mark.parametrize("memory", ["window", "critical"])
def test_kept_gradients_equal_their_definition(memory, gate):
    kept, expected = [], []
    for g in G:
        if memory == "window":
            kept = [*kept, (0.0, g)][-6:]
        h, n = 0.5 * g, len(kept)
        if n:
            past = np.array([x for _, x in kept])
            mean, square = past.mean(0), (past**2).mean(0)
            c = (mean**2).sum() / square.sum() if gate == "tensor" else mean**2 / square
            h = h + 2.0 * (1.0 if gate == "none" else resonance(c, 1 / n, 0.5)) * mean
        expected.append(h)
        if memory == "critical":
            lowest = min(range(n), key=lambda j: kept[j][0]) if n == 6 else None
            norm = np.linalg.norm(g)
            if lowest is None:
                kept.append((norm, g))
            elif norm > kept[lowest][0]:
                kept[lowest] = (norm, g)
            kept = [(0.95 * p, x) for p, x in kept]
    bank = VortexGrad((0.95,), (2.0,), 0.5, gate, 0.5, eps=1e-300, memory=memory, capacity=6)
    np.testing.assert_allclose(run(bank, G), expected, rtol=1e-9, atol=1e-11)


def test_factored_squares_are_rows_times_columns():
    """Shazeer & Stern 2018: exact where the squares have rank one; else their product over the mean."""
    rng = np.random.default_rng(1)
    signs = np.sign(rng.standard_normal((30, 3, 4)) + 0.8)
    rank_one = signs * np.array([[0.5], [1.0], [3.0]]) * np.array([1.0, 0.1, 2.0, 4.0])
    full, factored = (VortexGrad(second_moment=kind, eps=1e-300) for kind in ("full", "factored"))
    np.testing.assert_allclose(run(factored, rank_one), run(full, rank_one), rtol=1e-9)
    vector = G[:, 0]
    assert np.array_equal(run(factored, vector), run(full, vector))  # kept whole
    rows, columns = 0.0, 0.0
    for t, g in enumerate(G, 1):
        rows, columns = 0.98 * rows + 0.02 * (g**2).mean(1), 0.98 * columns + 0.02 * (g**2).mean(0)
        v = np.outer(rows, columns) / rows.mean() / (1 - 0.98**t)
    weights = 0.02 * 0.98 ** np.arange(len(G) - 1, -1, -1.0)
    m = np.tensordot(weights, G, 1) / weights.sum()
    bank = VortexGrad((0.98,), (3.0,), second_moment="factored")
    floor = (weights**2).sum() / weights.sum() ** 2
    np.testing.assert_allclose(run(bank, G)[-1], G[-1] + 3.0 * resonance(m**2 / v, floor) * m, rtol=1e-9)


def test_a_memory_with_a_phase_answers_to_gradients_that_turn():
    t = np.arange(400)
    turning = np.stack([np.cos(0.5 * t), np.sin(0.5 * t)], -1)
    for phase, open_ in ((0.5, True), (0.0, False)):
        bank = VortexGrad((0.98,), (1.0,), phases=(phase,))
        transform, params = bank(), [np.zeros(2)]
        state = transform.init(params)
        for g in turning:
            _, state = transform.update([g], state, params)
        ((c,),) = bank.coherence(state)
        assert (c > 0.45).all() if open_ else (c < 0.02).all()  # half of a real wave turns the other way


# ---- properties ----

some = st.floats(-10, 10, allow_subnormal=False)
sequences = arrays(np.float64, st.tuples(st.integers(1, 12), st.integers(1, 3), st.integers(1, 3)), elements=some)
quick = settings(max_examples=25, deadline=None)


@pytest.mark.parametrize("name", BANKS)
@quick
@given(grads=sequences)
def test_the_gain_is_bounded(name, grads):
    bank = BANKS[name]
    most = 1.0 if bank.normalize else bank.direct + sum(bank.gains)
    assert (abs(run(bank, grads)) <= most * np.maximum.accumulate(abs(grads)) * (1 + 1e-9) + 1e-300).all()


@pytest.mark.parametrize("name", BANKS)
@quick
@given(grads=sequences, power=st.integers(-8, 8), seed=st.integers(0, 99))
def test_scale_sign_and_order_go_through(name, grads, power, seed):
    grads = np.where(abs(grads) < 1e-3, 0.0, grads)
    bank, rng = VortexGrad(**{**vars(BANKS[name]), "eps": 1e-200}), np.random.default_rng(seed)
    h, size = run(bank, grads), abs(grads).max() + 1e-300
    np.testing.assert_allclose(run(bank, 2.0**power * grads), 2.0**power * h, rtol=0, atol=1e-10 * 2.0**power * size)
    signs, order = rng.choice([-1.0, 1.0], grads.shape[1:]), rng.permutation(grads.shape[2])
    np.testing.assert_allclose(run(bank, grads * signs), h * signs, rtol=0, atol=1e-10 * size)
    if "critical" not in name:  # another order of a sum may let another gradient in
        np.testing.assert_allclose(run(bank, grads[:, :, order]), h[:, :, order], rtol=0, atol=1e-7 * size)


# ---- as a link ----


@pytest.mark.parametrize("name", BANKS)
def test_saving_and_loading_resumes_to_the_bit(name):
    def make():
        rng = np.random.default_rng(2)
        params = [DiffTensor(rng.standard_normal(s).astype(np.float32), requires_grad=True) for s in ((4, 3), (5,), ())]
        return params, Optimizer(params, gt.chain(BANKS[name](), adamw(1e-2)))

    def advance(params, optimizer, steps):
        for t in steps:
            optimizer.step([np.random.default_rng([t, i]).standard_normal(p.shape).astype(np.float32) for i, p in enumerate(params)])  # fmt: skip

    whole, optimizer = make()
    advance(whole, optimizer, range(20))
    params, optimizer = make()
    advance(params, optimizer, range(8))
    file = io.BytesIO()
    np.savez(file, **optimizer.state_dict())
    file.seek(0)
    again = Optimizer(params, gt.chain(BANKS[name](), adamw(1e-2)))
    with np.load(file, allow_pickle=False) as saved:
        again.load_state_dict(dict(saved))
    advance(params, again, range(8, 20))
    assert all(a.numpy().tobytes() == b.numpy().tobytes() for a, b in zip(whole, params, strict=True))


@pytest.mark.parametrize("name", BANKS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_any_tree_dtype_and_library(name, dtype, monkeypatch):
    monkeypatch.setattr(base, "TILE", 8)
    rng, there = np.random.default_rng(0), strict.Device("device1")
    params = {"w": np.zeros((5, 4), dtype), "b": [np.zeros(3, dtype), dtype(0)], "none": None}
    move = lambda tree: optree.tree_map(lambda x: strict.asarray(x, device=there), tree)
    transform = BANKS[name]()
    state, moved = transform.init(params), transform.init(move(params))
    for _ in range(8):
        grads = optree.tree_map(lambda p: (rng.standard_normal(p.shape) + 0.5).astype(dtype)[()], params)
        h, state = transform.update(grads, state, params)
        other, moved = transform.update(move(grads), moved, move(params))
    for a, b in zip(optree.tree_leaves(h), optree.tree_leaves(other), strict=True):
        assert a.dtype == dtype and b.device == there
        back = np.from_dlpack(strict.asarray(b, device=strict.Device("CPU_DEVICE")))
        np.testing.assert_allclose(back, a, rtol=1e-4, atol=1e-5)
    for leaf in optree.tree_leaves(state):
        assert not isinstance(leaf, np.ndarray) or leaf.dtype == dtype


@pytest.mark.parametrize("name", BANKS)
def test_compiled_steps_have_the_eager_bits(name):
    """Also the state; what keeps gradients runs as it is, between two plans, and says so once."""

    def make():
        rng = np.random.default_rng(0)
        model = nn.Sequential(nn.Linear(8, 16, rng=rng), nn.Tanh(), nn.Linear(16, 4, rng=rng))
        return model, Optimizer(model.parameters(), gt.chain(BANKS[name](), adamw(1e-2)))

    (plain, eager), (other, compiled) = make(), make()
    step = hammer.training_step(lambda x, y: ops.mean(ops.cross_entropy(other(x), y)), compiled)
    for t in range(9):
        rng = np.random.default_rng(t)
        x, y = rng.standard_normal((6, 8)).astype(np.float32), rng.integers(0, 4, 6)
        eager.zero_grad()
        ops.mean(ops.cross_entropy(plain(x), y)).backward()
        eager.step()
        if t == 0 and name in BUFFERED:
            with pytest.warns(CompileWarning, match="cannot be traced"):
                step(x, y)
        else:
            step(x, y)
    assert step.reason is None and (0 in step.links) == (name in BUFFERED)
    for a, b in zip(plain.parameters(), other.parameters(), strict=True):
        assert a.numpy().tobytes() == b.numpy().tobytes()
    first, second = eager.state_dict(), compiled.state_dict()
    assert first.keys() == second.keys()
    assert all(np.asarray(first[k]).tobytes() == np.asarray(second[k]).tobytes() for k in first)


@pytest.mark.parametrize("name", ["phases", "factored", "phases by tensor", "t-test", "t-test by tensor"])
def test_machine_code_is_near_the_eager_step(name):
    pytest.importorskip("llvmlite")
    shapes = [(6, 5), (7,)]
    eager, other = (
        Optimizer([DiffTensor(np.ones(s, np.float32), requires_grad=True) for s in shapes], gt.chain(BANKS[name](), adamw(1e-2)))
        for _ in range(2)
    )  # fmt: skip
    compiled = Update(other, exact=False)
    for t in range(12):
        rng = np.random.default_rng(t)
        grads = [(rng.standard_normal(s) + 0.5).astype(np.float32) for s in shapes]
        eager.step(grads)
        compiled(grads)
    assert compiled.reason is None
    for a, b in zip(eager.params, other.params, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=2e-5, atol=2e-6)


def test_what_memories_cost():
    shape = (64, 32)
    for bank, expected in (
        (VortexGrad(), 4.0),
        (VortexGrad(gate="none"), 2.0),
        (VortexGrad(gate="tensor"), 2 + 2 / 2048),
        (VortexGrad(second_moment="factored"), 2 + 2 * (64 + 32) / 2048),
        (VortexGrad(phases=(0.1, 0.0)), 5.0),
        (VortexGrad(gains=(0.0, 1.0)), 2.0),
        (VortexGrad(gains=(0.0, 0.0)), 0.0),
        (presets.grokfast_ma(100), 100.0),
        (presets.critical_gradients(5), 5 + 5 / 2048),
    ):
        assert bank.buffers_per_parameter(shape) == expected
        state = bank().init([np.zeros(shape)])
        held = sum(x.size for x in optree.tree_leaves(state) if isinstance(x, np.ndarray))
        assert held == expected * 2048


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"phases": (0.1,)}, "2 gains, one for each memory, but 1 entries in phases"),
        ({"phases": (0.1, 0.2), "memory": "window"}, "phases belong to decaying memories"),
        ({"phases": (0.1, 0.2), "initial": "gradient"}, "memories without a phase"),
        ({"memory": "critical", "initial": "gradient"}, "starts empty"),
        ({"memory": "ring"}, "memory must be one of 'exponential', 'window', 'critical'"),
        ({"memory": "window", "capacity": 0}, "capacity must be a whole number, at least 1"),
        ({"capacity": (1, 2, 3)}, "3 entries in capacity"),
        ({"wait": True}, "wait is for windows"),
        ({"significance": 0.0}, "significance must be"),
        ({"significance": 2.0, "gate": "none"}, "it needs one"),
        ({"significance": 2.0, "exponent": 2.0}, "takes the place of exponent"),
        ({"second_moment": "factored", "gate": "tensor"}, "needs gate=\"coordinate\""),
        ({"memory": "window", "gate": "none", "direct": 0.0, "normalize": True}, "set direct above 0"),
    ],
)  # fmt: skip
def test_settings_that_contradict_each_other_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        VortexGrad(**options)


# ---- what it has seen ----


@pytest.mark.parametrize("name", BANKS)
def test_coherence_is_what_the_gate_uses(name):
    bank = VortexGrad(**{**vars(BANKS[name]), "gate": BANKS[name].gate if BANKS[name].gate != "none" else "coordinate"})
    p, q = (DiffTensor(np.zeros((3, 4)), requires_grad=True) for _ in range(2))
    optimizer = Optimizer([p, q], gt.chain(gt.scale(1.0), bank(), optim.sgd(0.1)))
    for g in G:
        optimizer.step([g, None])
    found = bank.coherence(optimizer)
    assert len(found) == len(bank.gains)
    for c, none in found:
        assert none is None and np.shape(c) == (() if bank.gate == "tensor" else (3, 4))
        assert np.all(c >= 0) and (name == "factored" or np.all(c <= 1 + 1e-9))
    drift = np.broadcast_to(np.array([2.0, -1.0, 0.5, 3.0]), (3, 4))
    same = Optimizer([DiffTensor(np.zeros((3, 4)), requires_grad=True)], gt.chain(bank(), optim.sgd(0.1)))
    for _ in range(12):
        same.step([drift])
    if not any(bank.phases):
        assert all(np.allclose(row[0], 1.0) for row in bank.coherence(same))


def test_coherence_is_refused_where_it_is_not_known():
    p = DiffTensor(np.zeros(3), requires_grad=True)
    with pytest.raises(ValueError, match="keeps no squares"):
        VortexGrad(gate="none").coherence({})
    with pytest.raises(ValueError, match="does not have this bank"):
        VortexGrad().coherence(optim.SGD([p], lr=0.1))
    with pytest.raises(TypeError, match="an Optimizer, not list"):
        VortexGrad().coherence([])


def test_a_map_of_coherence_tells_drift_from_noise():
    rng, bank = np.random.default_rng(0), VortexGrad((0.9,), (1.0,))
    params = [DiffTensor(np.zeros(500), requires_grad=True) for _ in range(2)]
    optimizer = Optimizer(params, gt.chain(bank(), adamw(1e-3)))
    seen = CoherenceMap(bank, optimizer, ["drift", "noise"])
    with pytest.raises(ValueError, match="nothing is recorded"):
        _ = seen.values
    for _ in range(60):
        optimizer.step([np.full(500, 0.3), rng.standard_normal(500)])
        seen.record(every=3)
    assert seen.values.shape == (1, 2, 20) and list(seen.steps[:2]) == [3, 6]
    assert (seen.values[0, 0] > 0.999).all() and (abs(seen.values[0, 1]) < 0.15).all()
    assert abs(seen.values[0, 1, 10:].mean()) < 0.015  # the noise floor, 0.053, is taken off
    root = ET.fromstring(seen.picture(columns=7))
    text = [e.text for e in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"drift", "noise", "memory 0: β 0.9", "step 3 to 60"} <= set(text)
    with pytest.raises(ValueError, match="1 names for 2 parameters"):
        CoherenceMap(bank, optimizer, ["one"])


@pytest.mark.parametrize("name", ["phases", "window", "factored"])
def test_a_bode_plot_is_drawn(name):
    root = ET.fromstring(BANKS[name].bode())
    text = " ".join(e.text or "" for e in root.iter("{http://www.w3.org/2000/svg}text"))
    assert "gain (dB)" in text and "phase (degrees)" in text and f"{BANKS[name].nyquist_gain():.3g}" in text
    assert math.isfinite(float(root.get("width")))
