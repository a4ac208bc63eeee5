"""Compression: bytes on the wire, what is known of each codec's error, and error feedback."""

import itertools
import math
import tracemalloc

import array_api_strict as strict
import numpy as np
import optree
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from autograd import DiffTensor, optim
from autograd import gradients as gt
from autograd.gradients import codecs
from autograd.gradients.codecs import PowerSGD, Quantize, RandomK, Sign, Threshold, TopK
from autograd.sparse import RowSparse

CODECS = {
    "topk": TopK(0.1),
    "topk_count": TopK(3),
    "randomk": RandomK(0.25),
    "threshold": Threshold(0.5),
    "sign": Sign(),
    "quantize2": Quantize(2, 7),
    "quantize3": Quantize(3, 64),
    "quantize4": Quantize(4),
    "quantize8": Quantize(8, 100),
    "powersgd": PowerSGD(1),
}
every_codec = pytest.mark.parametrize("name", CODECS)
SHAPES = [(), (1,), (0,), (13,), (300,), (20, 15), (6, 4, 3, 3), (4, 0)]


def rng(*seed):
    return np.random.default_rng(seed)


def sent(codec, x, generator=None, state=None):
    generator = generator or rng(0)
    state = codec.start(x.shape, x.dtype, generator) if state is None else state
    payload = codec.encode(x, state, generator)
    return payload, codec.decode(payload, x.shape, x.dtype)


def bits(tree):
    return [np.asarray(x).tobytes() for x in optree.tree_leaves(tree)]


vectors = hnp.arrays(np.float64, st.integers(1, 40), elements=st.floats(-1e3, 1e3, allow_subnormal=False))
# ---- bytes ----


@every_codec
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_bytes_are_those_of_the_wire(name, shape, dtype):
    codec, x = CODECS[name], rng(1).standard_normal(shape).astype(dtype)
    x = np.asarray(x)
    before = x.copy()
    payload, decoded = sent(codec, x)
    data = payload.to_bytes()
    assert len(data) == payload.nbytes == (codec.wire_bytes(shape, dtype) or payload.nbytes)
    again = codec.from_bytes(data, shape, dtype)
    assert bits(again.arrays) == bits(payload.arrays) and [a.dtype for a in again.arrays] == [
        a.dtype for a in payload.arrays
    ]
    assert bits([codec.decode(again, shape, x.dtype)]) == bits([decoded])
    assert decoded.shape == shape and decoded.dtype == dtype and bits([x]) == bits([before])
    with pytest.raises(ValueError, match="are no payload of a"):
        codec.from_bytes(data + b"1", shape, dtype)


def test_bytes_by_hand():
    for codec, shape, expected in [
        (TopK(0.01), (100_000,), 1000 * (4 + 4)),  # places of 4 bytes
        (TopK(0.01), (1000,), 10 * (2 + 4)),  # of 2
        (TopK(0.01), (200,), 2 * (1 + 4)),  # of 1
        (RandomK(0.01), (1000,), 8 + 10 * 4),  # a seed
        (Sign(), (1001,), 4 + 126),
        (Quantize(4, 512), (1000,), 2 * 4 + 500),
        (Quantize(3, 512), (1000,), 2 * 4 + 375),
        (PowerSGD(2), (100, 50), 2 * 150 * 4),
        (PowerSGD(2), (100,), 400),  # as it is
        (PowerSGD(2), (3, 6), 72),  # thin factors would be no shorter
    ]:
        assert codec.wire_bytes(shape, np.float32) == expected
        assert len(sent(codec, rng(0).standard_normal(shape).astype(np.float32))[0].to_bytes()) == expected
    x = np.array([0.1, -3.0, 0.5, 0.6])
    payload, _ = sent(Threshold(0.5), x)
    assert payload.nbytes == 2 * (1 + 8) and Threshold(0.5).wire_bytes(x.shape, x.dtype) is None


@given(st.integers(1, 8), st.integers(0, 60), st.integers(0, 9))
def test_packing_of_bits(width, n, seed):
    codes = rng(seed).integers(0, 2**width, n, dtype=np.uint8)
    data = codecs.packed(codes, width)
    assert data.size == -(-n * width // 8) and np.array_equal(codecs.unpacked(data, width, n), codes)


# ---- the error ----


@given(vectors, st.sampled_from([TopK(0.3), TopK(1), Sign(), Threshold(10.0)]))
def test_contractions(x, codec):
    _, decoded = sent(codec, x)
    error, square = np.sum((decoded - x) ** 2), np.sum(x**2)
    assert error <= (1 - codec.contraction(x.size)) * square * (1 + 1e-12)
    if isinstance(codec, Sign):
        assert math.isclose(error, square - np.sum(abs(x)) ** 2 / x.size, rel_tol=1e-9, abs_tol=1e-9 * square)
    if isinstance(codec, Threshold):
        assert error <= x.size * codec.threshold**2


@given(hnp.arrays(np.float64, 12, elements=st.sampled_from([0.0, 1.0, -1.0, 2.0, np.nan, np.inf])), st.integers(1, 12))
def test_ties_and_nan_among_the_largest(x, k):
    places, values = sent(TopK(k), x)[0].arrays
    size = np.where(np.isnan(x), np.inf, abs(x))
    assert len(set(places.tolist())) == k and np.array_equal(values, x[places], equal_nan=True)
    assert np.array_equal(np.sort(size[places]), np.sort(size)[12 - k :])
    assert np.isnan(values).sum() == min(k, np.isnan(x).sum())


@given(vectors, st.integers(1, 40))
def test_the_largest_are_kept(x, k):
    payload, decoded = sent(TopK(k), x)
    kept = np.flatnonzero(decoded)
    assert np.array_equal(decoded[kept], x[kept]) and payload.arrays[0].size == min(k, x.size)
    assert np.sum(abs(decoded)) == pytest.approx(np.sum(np.sort(abs(x))[::-1][:k]), rel=1e-12)


UNBIASED = [RandomK(0.3), RandomK(2), Quantize(2, 16), Quantize(3, 5), Quantize(4, 512), Quantize(8, 7)]


@pytest.mark.parametrize("codec", UNBIASED, ids=repr)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_unbiased_codecs(codec, dtype):
    """The mean of many draws is near x, their spread within the bound, and shrunken they contract."""
    x = rng(3).standard_normal(40).astype(dtype)
    generator, draws = rng(5), 1500
    found = np.array([sent(codec, x, generator)[1] for _ in range(draws)], np.float64)
    omega, square = codec.variance(x.size), float(np.sum(x.astype(float) ** 2))
    spread = float(np.mean(np.sum((found - x) ** 2, axis=1)))
    assert 0.1 * omega * square < spread <= omega * square * 1.05
    assert np.sum((found.mean(0) - x) ** 2) <= 2 * spread / draws  # 1 on average, were it unbiased
    shrunken = np.mean(np.sum((found / (1 + omega) - x) ** 2, axis=1))
    assert shrunken <= (1 - codec.contraction(x.size)) * square * 1.02


@given(vectors, st.sampled_from([2, 3, 4, 8]), st.integers(1, 50))
def test_quantisation_is_to_a_neighbouring_level(x, width, bucket):
    codec = Quantize(width, bucket)
    _, decoded = sent(codec, x)
    for a in range(0, x.size, bucket):
        part = x[a : a + bucket]
        step = np.max(abs(part)) / codec.levels
        assert np.all(abs(decoded[a : a + bucket] - part) <= step * (1 + 1e-12))
        assert np.all(abs(decoded[a : a + bucket]) <= np.max(abs(part)) * (1 + 1e-12))


def test_low_rank_is_a_projection_and_its_warm_start_finds_the_best():
    generator = rng(0)
    m = rng(1).standard_normal((12, 10)) @ np.diag(0.5 ** np.arange(10)) @ rng(2).standard_normal((10, 15))
    codec, square = PowerSGD(3), np.sum(m**2)
    state, errors = codec.start(m.shape, m.dtype, generator), []
    for _ in range(60):
        payload, decoded = sent(codec, m, generator, state)
        errors.append(np.sum((decoded - m) ** 2))
        assert math.isclose(errors[-1], square - np.sum(payload.arrays[1] ** 2), rel_tol=1e-6)
    best = np.sum(np.linalg.svd(m, compute_uv=False)[3:] ** 2)
    assert errors[-1] == pytest.approx(best, rel=1e-6) and errors[0] > 1.05 * best
    flat = m.reshape(12, 3, 5)
    assert sent(PowerSGD(3), flat)[1].shape == flat.shape


def test_low_rank_of_low_rank_is_exact_and_recovers_from_zeros():
    a, b = rng(1).standard_normal((20, 2)), rng(2).standard_normal((2, 30))
    codec, generator = PowerSGD(2), rng(0)
    state = codec.start((20, 30), np.dtype(float), generator)
    np.testing.assert_allclose(sent(codec, a @ b, generator, state)[1], a @ b, atol=1e-12)
    for nothing in (0.0, np.nan):
        sent(codec, np.full((20, 30), nothing), generator, state)
        late = np.zeros((20, 30))
        late[10:] = (a @ b)[10:]
        sent(codec, late, generator, state)
        np.testing.assert_allclose(sent(codec, a @ b, generator, state)[1], a @ b, atol=1e-10)


@every_codec
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_not_hidden(name, bad):
    x = rng(0).standard_normal((20, 15))
    x[3, 4] = bad
    found = [sent(CODECS[name], x, rng(seed))[1] for seed in range(20)]
    assert any(not np.isfinite(f).all() for f in found) and (name == "randomk" or not np.isfinite(found[0]).all())


# ---- the link ----


def run(codec, feedback, grads, **how):
    rule = gt.compress(codec, feedback, seed=1)
    params = optree.tree_map(np.zeros_like, grads[0])
    state, updates = rule.init(params), []
    for g in grads:
        u, state = rule.update(g, state, params)
        updates.append(u)
    return updates, state


@every_codec
def test_error_feedback_loses_nothing(name):
    """The updates add up to the gradients, but for what is still in memory; and what was sent is counted."""
    grads = [[rng(t).standard_normal((20, 15)), rng(t, 1).standard_normal(9)] for t in range(20)]
    updates, state = run(CODECS[name], True, grads)
    for i in range(2):
        np.testing.assert_allclose(
            sum(u[i] for u in updates) + state["memory"][i], sum(g[i] for g in grads), atol=1e-10
        )
    each = [CODECS[name].wire_bytes(g.shape, g.dtype) for g in grads[0]]
    assert state["dense_bytes"] == 20 * 8 * 309
    if None not in each:
        assert state["bytes"] == 20 * sum(each)
    assert 0 < state["bytes"] < state["dense_bytes"]


@pytest.mark.parametrize("feedback", [True, "ef21", False])
def test_small_elements_come_through_with_feedback_only(feedback):
    g = np.array([10.0, 1.0, 0.1])
    updates, _ = run(TopK(1), feedback, [[g]] * 600)
    mean = np.mean([u[0] for u in updates[300:]], axis=0)
    if feedback:
        np.testing.assert_allclose(mean, g, rtol=0.1)
    else:
        assert mean.tolist() == [10.0, 0.0, 0.0]


@every_codec
def test_ef21_tracks_a_constant_gradient(name):
    g = rng(0).standard_normal((20, 15))
    updates, state = run(CODECS[name], "ef21", [[g]] * 60)
    errors = [np.linalg.norm(u[0] - g) for u in updates]
    floor = 0.5 * math.sqrt(g.size) if name == "threshold" else 0.0  # an absolute error
    assert errors[-1] < 0.7 * errors[0] or errors[-1] <= floor
    assert np.array_equal(updates[-1][0], state["memory"][0])


def test_without_feedback_it_is_the_codec():
    x = rng(0).standard_normal(50)
    updates, state = run(Sign(), False, [[x]])
    assert np.array_equal(updates[0][0], sent(Sign(), x)[1]) and "memory" not in state


@every_codec
@pytest.mark.parametrize("feedback", [True, "ef21", False])
def test_it_saves_and_resumes_bit_for_bit(name, feedback):
    def make():
        params = [DiffTensor(np.ones(s), requires_grad=True) for s in ((6, 9), (5,), ())]
        seed = np.random.SeedSequence(7, spawn_key=(3,))
        return params, optim.Optimizer(params, gt.chain(gt.compress(CODECS[name], feedback, seed), optim.sgd(0.1, 0.9)))

    def train(params, optimizer, steps):
        for t in steps:
            for i, p in enumerate(params):
                p.grad = rng(t, i).standard_normal(p.shape)
            optimizer.step()
        return bits([p.numpy() for p in params])

    whole = train(*make(), range(6))
    params, optimizer = make()
    train(params, optimizer, range(3))
    saved = optimizer.state_dict()
    assert all(type(v) in (int, float) or isinstance(v, np.ndarray) for v in saved.values())
    others, resumed = make()
    for p, old in zip(others, params, strict=True):
        p.data = old.numpy()
    resumed.load_state_dict(saved)
    assert train(others, resumed, range(3, 6)) == whole


def test_streams_differ_by_leaf_step_and_seed():
    x, draws = np.ones(500), []
    for seed in (0, 2, np.random.SeedSequence(1)):
        rule = gt.compress(RandomK(5), False, seed)
        state = rule.init([x, x])
        for _ in range(3):
            updates, state = rule.update([x, x], state, [x, x])
            draws += bits(updates)
    assert len(set(draws)) == 3 * 3 * 2
    one, two = (run(Quantize(2), True, [[np.arange(500.0)]] * 2)[0] for _ in range(2))
    assert bits(one) == bits(two)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@every_codec
def test_dtypes_and_scalars(name, dtype):
    grads = [[rng(0).standard_normal((6, 9)).astype(dtype), dtype(0.5), None, np.zeros((0, 3), dtype)]]
    rule, params = gt.compress(CODECS[name], True, seed=0), [np.zeros((6, 9), dtype), dtype(0), dtype(0), grads[0][3]]
    updates, state = rule.update(grads[0], rule.init(params), params)
    assert updates[2] is None and isinstance(updates[1], np.generic)
    assert [u.dtype for u in updates if u is not None] == [dtype] * 3 and updates[0].shape == (6, 9)
    assert state["memory"][0].dtype == (np.float32 if dtype is np.float16 else dtype)


def test_other_array_libraries():
    there = strict.Device("device1")
    g = rng(0).standard_normal((6, 9))
    move = lambda x: strict.asarray(x, device=there)
    for codec, feedback in itertools.product((TopK(0.2), Quantize(4), PowerSGD(1)), (True, "ef21", False)):
        rule = gt.compress(codec, feedback, seed=0)
        here, moved = rule.init([g]), rule.init([move(g)])
        for _ in range(3):
            (u,), here = rule.update([g], here, [g])
            (m,), moved = rule.update([move(g)], moved, [move(g)])
        assert m.device == there
        np.testing.assert_allclose(np.from_dlpack(strict.asarray(m, device=strict.Device("CPU_DEVICE"))), u, rtol=1e-12)


def test_a_skipped_step_leaves_the_memory_alone():
    rule = gt.chain(gt.compress(TopK(0.5)), gt.clip_by_global_norm(1.0, nonfinite="skip"))
    params = [np.zeros(6)]
    state = rule.init(params)
    _, state = rule.update([rng(0).standard_normal(6)], state, params)
    before = bits(state[0])
    updates, state = rule.update([np.full(6, np.nan)], state, params)
    assert updates == [None] and bits(state[0]) == before and np.isfinite(state[0]["memory"][0]).all()


@every_codec
@pytest.mark.parametrize("feedback", [True, "ef21", False])
def test_sparse_gradients_are_encoded_by_rows(name, feedback):
    table, places = np.zeros((3000, 8)), np.arange(0, 300, 7)
    rows = rng(0).standard_normal((len(places), 8))
    rule = gt.compress(CODECS[name], feedback, seed=0)
    state = rule.init([table])
    (u,), state = rule.update([RowSparse(places, rows, table.shape)], state, [table])
    assert type(u) is RowSparse and np.array_equal(u.indices, places)
    assert state["dense_bytes"] == rows.nbytes + 2 * len(places)
    if CODECS[name].wire_bytes(rows.shape, float):
        assert state["bytes"] == CODECS[name].wire_bytes(rows.shape, float) + 2 * len(places)
    if feedback == "ef":
        np.testing.assert_allclose(u.rows + state["memory"][0][places], rows)
    if feedback:
        rest = np.setdiff1d(np.arange(3000), places)
        assert state["memory"][0][places].any() and not state["memory"][0][rest].any()
    (u,), state = rule.update([RowSparse([5, 7], rows[:2], table.shape)], state, [table])
    assert u.indices.tolist() == [5, 7]


def test_sparse_gradients_make_no_dense_array():
    table = np.zeros((100_000, 8))
    g = RowSparse(np.arange(100), np.ones((100, 8)), table.shape)
    for codec, feedback in itertools.product((TopK(0.2), Quantize(4), PowerSGD(1), Sign()), (True, "ef21")):
        rule = gt.compress(codec, feedback, seed=0)
        state = rule.init([table])
        tracemalloc.start(1)
        try:
            for _ in range(2):
                _, state = rule.update([g], state, [table])
            assert tracemalloc.get_traced_memory()[1] < table.nbytes / 10
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: gt.compress("topk"), TypeError, r"needs a codec, such as codecs.TopK\(0.01\), not 'topk'"),
        (lambda: gt.compress(RandomK(0.1)), ValueError, "RandomK draws random numbers: pass seed"),
        (lambda: gt.compress(Sign(), "EF"), ValueError, 'must be True, False, "ef" or "ef21", not \'EF\''),
        (lambda: TopK(0.0), ValueError, r"TopK: an amount that is no count must be in \(0, 1\], not 0.0"),
        (lambda: RandomK(0), ValueError, r"a fraction in \(0, 1\] or a count from 1, not 0"),
        (
            lambda: Quantize(1),
            ValueError,
            r"bits must be a whole number from 2 to 8, not 1; for one bit there is Sign\(\)",
        ),
        (lambda: Quantize(4, 0), ValueError, "bucket must be a whole number"),
        (lambda: PowerSGD(0), ValueError, "rank must be a whole number"),
        (lambda: Threshold(-1), ValueError, "threshold must be in"),
        (lambda: TopK(0.1).variance(10), TypeError, "TopK is biased"),
        (lambda: Quantize().encode(np.ones(3), {}), ValueError, "pass rng"),
    ],
)
def test_bad_settings(make, error, message):
    with pytest.raises(error, match=message):
        make()
