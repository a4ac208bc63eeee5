"""TopoGrad: a test for each thing that it says of itself."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import fcluster, linkage

from autograd import DiffTensor, ops
from autograd.gradients import accumulate, chain, scale_by_lr
from autograd.optim import Optimizer, adamw
from autograd.sparse import RowSparse
from autograd.train import load_state, save_state
from hammer import topology
from hammer.topology import Monitor, TopoGrad
from hammer.topology.sketch import Sketch
from hammer.topology.topograd import agreement, groups

SEEDS = st.integers(0, 2**32 - 1)
SHAPES = [(3, 2), (5,), ()]


def leaves(point: np.ndarray) -> list[np.ndarray]:
    return [point[:6].reshape(3, 2), point[6:11], point[11:].reshape(())]


PARAMS = leaves(np.zeros(12))


def cloud(seed: int, steps: int = 40) -> np.ndarray:
    """Gradients about one to four means, in any order: (steps, 12)."""
    rng = np.random.default_rng(seed)
    means = rng.standard_normal((rng.integers(1, 5), 12)) * 10.0 ** rng.uniform(-2, 2)
    return means[rng.integers(0, len(means), steps)] + rng.standard_normal((steps, 12)) * 10.0 ** rng.uniform(-3, 1)


def run(points: np.ndarray, transform=None, state=None) -> tuple[list, list, object]:
    """Factors, updates and the last state."""
    transform = TopoGrad()() if transform is None else transform
    state = transform.init(PARAMS) if state is None else state
    factors, updates = [], []
    for point in points:
        update, state = transform.update(leaves(point), state, PARAMS)
        factors.append(state["factor"])
        updates.append(np.concatenate([u.reshape(-1) for u in update]))
    return factors, updates, state


def two(a: np.ndarray, b: np.ndarray, steps: int = 24, noise: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.where(np.arange(steps)[:, None] % 2, a, b) + noise * rng.standard_normal((steps, 12))


# ---- identity ----


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_gradients_about_one_mean_pass_as_the_very_same_arrays(seed):
    rng = np.random.default_rng(seed)
    points = rng.standard_normal(12) * rng.uniform(0, 3) + rng.standard_normal((40, 12))
    transform = TopoGrad()()
    state = transform.init(PARAMS)
    for point in points:
        given_ = leaves(point)
        update, state = transform.update(given_, state, PARAMS)
        assert all(u is g for u, g in zip(update, given_, strict=True)) and state["parts"] == 1


def test_until_the_window_is_full_and_without_noise_gradients_pass():
    a = np.ones(12)
    factors, _, _ = run(two(a, -a), TopoGrad(window=10)())
    assert factors == [1.0] * 9 + [0.1] * 15
    for constant in (np.zeros(12), a):
        assert run(np.tile(constant, (20, 1)))[0] == [1.0] * 20


def test_how_often_noise_is_taken_for_groups():
    """As the docstring says, for the defaults."""
    rng = np.random.default_rng(0)
    split = lambda d: np.mean([groups(rng.standard_normal((16, d))).max() > 0 for _ in range(500)])
    assert split(1) < 0.03 and split(2) <= 0.008 and split(20) == 0.0
    spread = np.sqrt(2 * 20)
    parts = lambda far: groups(rng.standard_normal((16, 20)) + far * spread * np.eye(20)[0] * (np.arange(16)[:, None] % 2)).max()  # fmt: skip
    assert all(parts(7) == 1 for _ in range(50)) and all(parts(2) == 0 for _ in range(50))


# ---- what a factor is ----


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_groups_are_those_of_single_linkage(seed):
    points = cloud(seed, 16)
    tree = linkage(points, "single")
    wanted = fcluster(tree, 4.0 * tree[:, 2].mean(), "distance")
    found = groups(points)
    for k in set(wanted):
        members = found[wanted == k]
        assert len(set(members)) == 1 and (members[0] >= 0) == (len(members) >= 4)
    assert set(found) - {-1} == set(range(found.max() + 1))


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_updates_are_gradients_times_a_factor_between_floor_and_one(seed):
    points = cloud(seed)
    factors, updates, state = run(points, TopoGrad(floor=0.2)())
    assert all(0.2 <= f <= 1.0 for f in factors)
    for factor, update, point in zip(factors, updates, points, strict=True):
        assert np.array_equal(update, point if factor == 1.0 else point * factor)
    assert state["count"] == 40


def test_the_factor_is_how_far_the_means_agree():
    a, b = np.eye(12)[0], np.eye(12)[1]
    for one, other, wanted in ((a, -a, 0.0), (a, b, 0.5), (a, 3 * a, 0.8), (a, 0 * a, 0.5)):
        assert run(two(one, other), TopoGrad(floor=0.0)())[0][-1] == pytest.approx(wanted, abs=1e-12)
    three_to_one = np.concatenate([np.tile(a, (12, 1)), np.tile(-a, (4, 1))])
    assert run(three_to_one)[0][-1] == pytest.approx(0.25)
    assert run(np.concatenate([np.tile(a, (13, 1)), np.tile(-a, (3, 1))]))[0][-1] == 1.0  # outliers are no group
    assert agreement(np.array([[1.0], [1.0], [9.0]]), np.array([0, 1, -1])) == 1.0


# ---- symmetries ----


@settings(max_examples=12, deadline=None)
@given(SEEDS)
def test_factors_do_not_depend_on_scale_sign_or_order_of_parameters(seed):
    points = cloud(seed)
    factors = run(points)[0]
    for scale in (2.0**-600, -1.0, 2.0**500):
        assert run(points * scale)[0] == factors
    mixed = points[:, np.random.default_rng(seed).permutation(12)]
    np.testing.assert_allclose(run(mixed)[0], factors, rtol=1e-9)
    transform = TopoGrad()()
    state, whole = transform.init([np.zeros(12)]), []
    for point in points:  # one leaf instead of three
        _, state = transform.update([point], state, [np.zeros(12)])
        whole.append(state["factor"])
    assert whole == factors


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_the_last_factor_does_not_depend_on_the_order_of_the_window(seed):
    points = cloud(seed, 16)
    shuffled = np.random.default_rng(seed).permutation(points)
    assert run(points)[0][-1] == pytest.approx(run(shuffled)[0][-1], rel=1e-9)


# ---- state ----


@settings(max_examples=10, deadline=None)
@given(SEEDS, st.integers(1, 39))
def test_a_saved_state_goes_on_with_the_same_bits(tmp_path_factory, seed, cut):
    path = tmp_path_factory.mktemp("state") / "s.safetensors"
    points = cloud(seed)
    factors, updates, _ = run(points)
    _, _, state = run(points[:cut])
    save_state(path, {"state": state})
    again = run(points[cut:], state=load_state(path)["state"])
    assert again[0] == factors[cut:] and all(map(np.array_equal, again[1], updates[cut:]))


def test_an_optimizer_resumes():
    def made(start):
        w = DiffTensor(start, requires_grad=True)
        return w, Optimizer([w], chain(TopoGrad(window=6)(), adamw(0.1)))

    def steps(w, optimizer, first, last):
        for k in range(first, last):
            optimizer.zero_grad()
            ops.sum(w * (10.0 if k % 2 else -9.0) + 0.01 * w**2).backward()
            optimizer.step()

    w, optimizer = made(np.full(3, 2.0))
    steps(w, optimizer, 0, 9)
    v, other = made(w.numpy().copy())
    other.load_state_dict(optimizer.state_dict())
    steps(w, optimizer, 9, 20)
    steps(v, other, 9, 20)
    assert np.array_equal(w.numpy(), v.numpy()) and optimizer.state[0]["factor"] == 0.1


def test_gradients_that_are_not_finite_pass_and_are_not_kept():
    a = np.ones(12)
    transform = TopoGrad()()
    _, _, state = run(two(a, -a), transform)
    before = state["points"].copy()
    bad = leaves(np.full(12, np.nan))
    update, state = transform.update(bad, state, PARAMS)
    assert all(u is g for u, g in zip(update, bad, strict=True))
    assert np.array_equal(state["points"], before) and state["count"] == 24


def test_missing_and_sparse_gradients():
    table = np.zeros((6, 2))
    transform = TopoGrad(window=4, gap=2.0)()
    state = transform.init([table, np.zeros(2)])
    for k in range(5):
        sparse = RowSparse(np.array([1]), np.array([[1.0, 2.0]]) * (-1) ** k, (6, 2))
        update, state = transform.update([sparse, None], state, [table, np.zeros(2)])
    assert state["factor"] == 0.1 and update[1] is None and type(update[0]) is RowSparse
    np.testing.assert_allclose(update[0].dense()[1], [0.1, 0.2])
    assert state["points"].shape == (4, 14) and np.count_nonzero(state["points"]) == 8


def test_sketches_of_many_parameters_see_the_same_groups():
    rng = np.random.default_rng(0)
    params = [np.zeros((300, 200), np.float32), np.zeros(40000, np.float32)]
    mean = [rng.standard_normal(p.shape).astype(np.float32) for p in params]
    transform = TopoGrad()()
    state = transform.init(params)
    for k in range(16):
        noisy = [((-1) ** k * m + 0.05 * rng.standard_normal(m.shape)).astype(np.float32) for m in mean]
        update, state = transform.update(noisy, state, params)
    assert state["points"].shape == (16, 256) and state["parts"] == 2 and state["factor"] == 0.1
    assert update[0].dtype == np.float32


def test_a_sketch_of_several_arrays_is_that_of_their_line():
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape) for shape in ((50, 30), (0,), (700,), ())]
    line = np.concatenate([a.reshape(-1) for a in arrays])
    assert np.array_equal(Sketch(64, 3)([arrays[0], None, *arrays[1:]]), Sketch(64, 3)([line]))
    monitor = Monitor(budget=None)
    for size in (3, 3, 4):
        monitor.observe([np.ones(size)])
    assert len(monitor._points) == 1  # points of other numbers cannot be compared


# ---- what it does ----


def test_a_step_that_jumps_across_a_valley_gets_smaller():
    """Curvature 1 and rate 2.02: descent doubles every 35 steps; with TopoGrad it converges."""
    found = {}
    for name, links in (("plain", ()), ("damped", (TopoGrad()(),))):
        x, curvature = np.array([1.0, 0.3]), np.array([1.0, 0.05])
        transform = chain(*links, scale_by_lr(2.02))
        state = transform.init([x])
        for _ in range(400):
            (update,), state = transform.update([curvature * x], state, [x])
            x = x + update
        found[name] = float(np.abs(x).max())
    assert found["plain"] > 1e3 and found["damped"] < 1e-6


def test_before_an_accumulator_the_cloud_is_that_of_the_micro_batches():
    a, p = np.ones(12), np.zeros(12)
    transform = chain(TopoGrad(window=8)(), accumulate(8))
    state = transform.init([p])
    rng = np.random.default_rng(0)
    for k in range(24):
        (update,), state = transform.update([(3 * a if k % 2 else -a) + 0.01 * rng.standard_normal(12)], state, [p])
    assert state[0]["parts"] == 2
    np.testing.assert_allclose(update, 0.2 * a, atol=0.01)  # |mean|² = 1 of the mean square 5, and the mean is a


@pytest.mark.parametrize(
    "bad", [{"window": 3}, {"gap": 1.0}, {"gap": 15.0}, {"share": 0.0}, {"share": 0.6}, {"floor": 1.1}, {"width": 0}, {"seed": -1}]
)  # fmt: skip
def test_bad_settings_are_refused(bad):
    with pytest.raises(ValueError, match=f"TopoGrad: {next(iter(bad))}"):
        topology.TopoGrad(**bad)
