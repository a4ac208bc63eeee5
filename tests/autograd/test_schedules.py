"""Schedules beside PyTorch's, step by step; ReduceOnPlateau, its state, and its place over another schedule."""

import math

import numpy as np
import pytest

from autograd import DiffTensor
from autograd.optim import SGD, ReduceOnPlateau, adamw, schedules
from autograd.optim.optimizer import Optimizer

CYCLES = {
    "default": {},
    "linear": {"anneal": "linear", "pct_start": 0.25},
    "three": {"three_phase": True, "pct_start": 0.4, "div_factor": 10.0},
    "three-linear": {"three_phase": True, "anneal": "linear", "final_div_factor": 50.0},
    "short-rise": {"pct_start": 0.05},
}


@pytest.mark.peers
@pytest.mark.parametrize("steps", [7, 60])
@pytest.mark.parametrize("name", CYCLES)
def test_one_cycle_equals_pytorch(name, steps):
    torch = pytest.importorskip("torch")
    options = dict(CYCLES[name])
    if options.get("pct_start", 0.3) * steps < 1.5:
        pytest.skip("PyTorch's rise would have no length")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = {"anneal_strategy" if key == "anneal" else key: value for key, value in options.items()}
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.5, total_steps=steps, cycle_momentum=False, **theirs)
    ours = schedules.one_cycle(0.5, steps, **options)
    for step in range(steps):
        assert math.isclose(ours(step), optimizer.param_groups[0]["lr"], rel_tol=1e-9), step
        optimizer.step()
        if step < steps - 1:
            scheduler.step()
    assert ours(steps) == ours(10 * steps) == ours(steps - 1)


def test_one_cycle_of_any_length_stays_between_its_ends():
    for steps in range(1, 40):
        for three in (False, True):
            rate = schedules.one_cycle(1.0, steps, pct_start=0.3, three_phase=three)
            values = [rate(s) for s in range(steps + 3)]
            assert all(0.04 / 1e4 * 0.999 <= v <= 1.0 for v in values), steps
            assert math.isclose(values[-1], 0.04 / 1e4)


def test_one_cycle_says_what_is_wrong():
    with pytest.raises(ValueError, match=r"pct_start must be in \(0, 0.5\]"):
        schedules.one_cycle(1.0, 10, pct_start=0.6, three_phase=True)
    with pytest.raises(ValueError, match="pct_start"):
        schedules.one_cycle(1.0, 10, pct_start=1.0)
    with pytest.raises(ValueError, match="anneal must be"):
        schedules.one_cycle(1.0, 10, anneal="exp")
    with pytest.raises(ValueError, match="steps must be a whole number"):
        schedules.one_cycle(1.0, 0)


# ---- plateau ----

PLATEAUS = {
    "default": {},
    "patience-0": {"patience": 0, "factor": 0.5},
    "abs": {"threshold_mode": "abs", "threshold": 0.05, "patience": 2},
    "cooldown": {"patience": 1, "cooldown": 3, "factor": 0.3},
    "min_lr": {"patience": 0, "factor": 0.2, "min_lr": 0.01},
    "max": {"mode": "max", "patience": 2, "factor": 0.7},
    "max-abs": {"mode": "max", "threshold_mode": "abs", "threshold": 0.1, "patience": 1},
}


def parameters():
    return [DiffTensor(np.zeros(2), requires_grad=True), DiffTensor(np.zeros(3), requires_grad=True)]


def metrics(n=120):
    """A noisy fall with plateaus, and a few values that are not finite."""
    rng = np.random.default_rng(5)
    values = 2.0 * np.exp(-np.arange(n) / 25) + 0.3 * rng.standard_normal(n) ** 2 + 0.2
    values[[30, 31]] = math.nan, math.inf
    return values.tolist()


@pytest.mark.peers
@pytest.mark.parametrize("name", PLATEAUS)
def test_plateau_equals_pytorch(name):
    torch = pytest.importorskip("torch")
    options = PLATEAUS[name]
    groups = [{"params": [torch.zeros(1, requires_grad=True)], "lr": lr} for lr in (0.5, 0.05)]
    peer = torch.optim.SGD(groups, lr=0.5)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(peer, eps=0.0, **options)
    a, b = parameters()
    ours, plateau = SGD([{"params": [a], "lr": 0.5}, {"params": [b], "lr": 0.05}]), ReduceOnPlateau(**options)
    reductions = 0
    for value in metrics():
        scheduler.step(value)
        before = [place["lr"] for place in ours.rates()]
        reduced = plateau.observe(value, ours)
        reductions += reduced
        now = [place["lr"] for place in ours.rates()]
        np.testing.assert_allclose(now, [group["lr"] for group in peer.param_groups], rtol=1e-12)
        assert reduced or now == before
    assert reductions > 1


def test_a_saved_plateau_goes_on_as_if_never_stopped():
    values = metrics()
    whole, rate = ReduceOnPlateau(patience=1, cooldown=2, factor=0.5), []
    optimizer = SGD(parameters(), lr=1.0)
    for value in values:
        whole.observe(value, optimizer)
        rate.append(optimizer.lr)
    first, optimizer = ReduceOnPlateau(patience=1, cooldown=2, factor=0.5), SGD(parameters(), lr=1.0)
    for value in values[:47]:
        first.observe(value, optimizer)
    resumed, again = ReduceOnPlateau(patience=1, cooldown=2, factor=0.5), SGD(parameters(), lr=1.0)
    resumed.load_state_dict(first.state_dict())
    again.load_state_dict(optimizer.state_dict())
    for at, value in enumerate(values[47:], 47):
        resumed.observe(value, again)
        assert again.lr == rate[at]
    assert resumed.state_dict() == whole.state_dict()


def test_reductions_last_under_a_schedule():
    plateau = ReduceOnPlateau(factor=0.25, patience=0, min_lr=0.01)
    rate = plateau.over(schedules.warmup(4, schedules.constant(0.8)))
    params = parameters()
    optimizer = Optimizer(params, adamw(rate))
    seen = []
    for step in range(8):
        seen.append(optimizer.lr)
        for p in params:
            p.grad = np.ones(p.shape)
        optimizer.step()
        if step == 5:
            assert [plateau.observe(1.0, optimizer) for _ in range(2)] == [False, True]
    np.testing.assert_allclose(seen, [0.2, 0.4, 0.6, 0.8, 0.8, 0.8, 0.2, 0.2])
    for _ in range(3):
        plateau.observe(1.0, optimizer)
    assert optimizer.lr == rate(20) == 0.01
    assert rate(0) == 0.01  # also the warm-up's first rates are above min_lr


def test_a_rate_below_min_lr_is_not_raised():
    plateau, optimizer = ReduceOnPlateau(factor=0.5, patience=0, min_lr=0.1), SGD(parameters(), lr=0.02)
    plateau.observe(1.0, optimizer)
    assert plateau.observe(1.0, optimizer) and optimizer.lr == 0.02


def test_a_negative_metric_that_stays_is_no_improvement():
    plateau, optimizer = ReduceOnPlateau(factor=0.5, patience=1), SGD(parameters(), lr=1.0)
    assert [plateau.observe(-3.0, optimizer) for _ in range(3)] == [False, False, True]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"factor": 1.0}, "factor must be in"),
        ({"patience": -1}, "patience must be a whole number"),
        ({"cooldown": 1.5}, "cooldown must be a whole number"),
        ({"mode": "least"}, "mode must be 'min' or 'max'"),
        ({"threshold_mode": "share"}, "threshold_mode must be 'rel' or 'abs'"),
    ],
)
def test_plateau_says_what_is_wrong(options, message):
    with pytest.raises(ValueError, match=message):
        ReduceOnPlateau(**options)


def test_plateau_takes_only_a_whole_state():
    plateau = ReduceOnPlateau()
    before = plateau.state_dict()
    with pytest.raises(KeyError, match="needs best, bad, cooling, scale"):
        plateau.load_state_dict({"best": 1.0})
    assert plateau.state_dict() == before
