"""What decides: noise scales against their truth, b* against a grid, prices against enumeration, Thompson sampling against fixed arms."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest

from autograd import DiffTensor, ops, per_example_gradients, per_example_norms
from autograd.gradients import chain
from autograd.optim import Optimizer, sgd
from hammer.energy import Action, NoiseScale, Price, RecurringJob, StepEnergy, StepsToTarget, best_batch, energy_gate
from hammer.energy.batch import accumulation, joules_to_target, least_joules, saving
from hammer.energy.jobs import cost
from hammer.energy.noise import Moments, from_examples, from_parts, from_two_batches
from hammer.energy.price import least, per_layer, within

# ---- the noise scale ----


def test_moments_are_unbiased() -> None:
    rng = np.random.default_rng(0)
    truth, sigma, n = rng.standard_normal(20), np.linspace(0.5, 3.0, 20), 4000
    signal, noise = float(truth @ truth), float((sigma**2).sum())
    parts, two = NoiseScale(decay=1), NoiseScale(decay=1)
    for _ in range(n):
        g = truth + sigma * rng.standard_normal((16, 20))
        parts.observe(from_parts([[g[4 * k : 4 * k + 4].mean(0)] for k in range(4)], 4))
        two.observe(from_two_batches(float((g[:2].mean(0) ** 2).sum()), float((g.mean(0) ** 2).sum()), 2, 16))
    for found in (parts, two):
        assert found.moments is not None
        assert found.moments.signal == pytest.approx(signal, rel=0.04)
        assert found.moments.noise == pytest.approx(noise, rel=0.04)
        assert found.scale == pytest.approx(noise / signal, rel=0.06)


def test_moments_of_examples_are_those_of_the_covariance() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((12, 3)), rng.standard_normal(12)
    loss = lambda w, xi, yi: (ops.sum(w * xi) - yi) ** 2
    w = np.ones(3)
    each = per_example_gradients(loss, w, x, y)
    found = from_examples(per_example_norms(loss, w, x, y), each.mean(0))
    assert found.noise == pytest.approx(np.trace(np.cov(each.T)))
    assert found.signal == pytest.approx((each.mean(0) ** 2).sum() - np.trace(np.cov(each.T)) / 12)


def test_moments_of_trees_and_what_they_refuse() -> None:
    trees = [{"a": np.ones(2), "b": None}, {"a": np.ones(2), "b": None}]
    found = from_parts(trees, 3)
    assert (found.signal, found.noise) == (pytest.approx(2.0), pytest.approx(0.0, abs=1e-12))
    assert Moments(-1.0, 2.0).scale == math.inf
    with pytest.raises(ValueError, match="at least two parts"):
        from_parts(trees[:1], 3)
    with pytest.raises(ValueError, match="different size"):
        from_two_batches(1.0, 1.0, 4, 4)
    with pytest.raises(ValueError, match="decay"):
        NoiseScale(1.5)
    empty = NoiseScale()
    assert empty.scale is None
    empty.observe(Moments(2.0, 6.0))
    assert empty.scale == pytest.approx(3.0)  # corrected for its start
    for _ in range(200):
        empty.observe(Moments(1.0, 10.0))
    assert empty.scale == pytest.approx(10.0, rel=1e-3)


# ---- the batch size ----


def test_the_best_batch_is_the_grids() -> None:
    energy, steps = StepEnergy(37.6e-6, 1.37e-6), StepsToTarget(100.0, 27.6)
    grid = np.geomspace(1, 1000, 20001)
    joules = [joules_to_target(b, steps, energy) for b in grid]
    b = best_batch(27.6, energy)
    assert b == pytest.approx(27.5, abs=0.1)  # as in the first study of this model
    assert b == pytest.approx(grid[int(np.argmin(joules))], rel=1e-3)
    assert (
        joules_to_target(b, steps, energy)
        == pytest.approx(least_joules(steps, energy), rel=1e-12)
        == pytest.approx(min(joules))
    )
    assert saving(8.0, b, 27.6, energy) == pytest.approx(
        least_joules(steps, energy) / joules_to_target(8.0, steps, energy)
    )
    assert saving(8.0, 16.0, math.inf, energy) == pytest.approx(energy(16) / 16 / (energy(8) / 8))
    assert (
        best_batch(0.0, energy) == 1.0
        and best_batch(5.0, StepEnergy(0.0, 1.0)) == 1.0
        and best_batch(math.inf, energy) == math.inf
    )


def test_what_is_put_in_comes_out_of_the_fits() -> None:
    energy, steps = StepEnergy(3e-5, 2e-6), StepsToTarget(150.0, 40.0)
    sizes = [4, 16, 64, 256]
    fitted = StepEnergy.fit(sizes, [energy(b) for b in sizes])
    assert (fitted.fixed, fitted.each) == (pytest.approx(3e-5), pytest.approx(2e-6))
    found = StepsToTarget.fit(sizes, [steps(b) for b in sizes])
    assert (found.least, found.noise_scale) == (pytest.approx(150.0), pytest.approx(40.0))
    assert StepEnergy.fit([1, 10], [1.0, 30.0]).fixed == 0.0  # grows faster than the batch: the bound
    falling = StepEnergy.fit([1, 10], [2.0, 1.0])
    assert falling.each == 0.0 and 1.0 < falling.fixed < 2.0 and best_batch(5.0, falling) == math.inf
    for call, said in (
        (lambda: StepEnergy.fit([4, 4], [1.0, 1.0]), "two batch sizes"),
        (lambda: StepsToTarget.fit([4, 8], [10.0, math.inf]), "finite steps"),
        (lambda: StepsToTarget.fit([4, 8], [100.0, 10.0]), "faster than 1/b"),
        (lambda: StepEnergy(-1.0, 1.0), "must be at least 0"),
        (lambda: best_batch(-1.0, energy), "noise scale"),
    ):
        with pytest.raises(ValueError, match=said):
            call()


def test_accumulation_costs_more_than_a_large_batch() -> None:
    energy = StepEnergy(10.0, 1.0)
    assert accumulation(32, 64, 4.0, energy) == (1, energy(32))
    assert accumulation(32, 10, 4.0, energy) == (4, 4 * 6 + 4 + 32)
    with pytest.raises(ValueError, match="once from 0"):
        accumulation(32, 10, 11.0, energy)


# ---- the price ----


def test_a_budget_is_kept_and_spent_where_it_gains_most() -> None:
    rng = np.random.default_rng(0)
    price, taken = Price(budget=300.0, steps=1000), []
    for _ in range(1000):
        gain = rng.uniform(0, 1)
        chosen = price.choose({"step": Action(gain, 1.0), "skip": Action(0.0, 0.0)})
        price.spend(float(chosen == "step"))
        taken.append((gain, chosen == "step"))
    assert price.used == pytest.approx(300.0, rel=0.05)
    late = taken[300:]  # once the price has been found, the best 30 % are taken
    assert np.mean([g for g, t in late if t]) > 0.8 and np.mean([g for g, t in late if not t]) < 0.4


def test_choices_and_prices() -> None:
    price = Price(10.0, 10, rate=0.5, start=2.0)
    assert price.choose({"a": Action(5.0, 2.0), "b": Action(2.5, 0.5), "c": Action(0.0, 0.0)}) == "b"  # 1, 1.5, 0
    assert price.choose({"dear": Action(2.0, 1.0), "nothing": Action(0.0, 0.0)}) == "nothing"  # equal: what costs less
    price.spend(3.0)
    assert price.price == pytest.approx(2.0 + 0.5 * (3.0 - 1.0))
    price.spend(0.0)  # seven joules are left for nine steps
    assert price.price == pytest.approx(3.0 - 0.5 * 7 / 9)
    for _ in range(10):
        price.spend(0.0)
    assert price.price == 0.0
    for call, said in (
        (lambda: Price(0.0, 10), "budget"),
        (lambda: price.choose({}), "no actions"),
        (lambda: price.spend(math.nan), "finite"),
        (lambda: per_layer({}, -1.0), "price"),
    ):
        with pytest.raises(ValueError, match=said):
            call()


def test_precisions_within_a_budget_are_the_best_by_enumeration_where_the_price_allows() -> None:
    rng = np.random.default_rng(2)
    for _ in range(50):
        options = {
            f"layer{i}": {
                "fp32": Action(0.0, 4.0 + i),
                "bf16": Action(-rng.uniform(0, 1), 2.0 + i),
                "int8": Action(-rng.uniform(0.5, 3), 1.0),
            }
            for i in range(4)
        }
        budget = rng.uniform(8.0, 22.0)
        chosen, price = within(options, budget)
        spent = sum(options[layer][name].joules for layer, name in chosen.items())
        assert spent <= budget
        best = max(
            sum(options[f"layer{i}"][n].gain for i, n in enumerate(names))
            for names in itertools.product(*(options[f"layer{i}"] for i in range(4)))
            if sum(options[f"layer{i}"][n].joules for i, n in enumerate(names)) <= spent
        )
        gained = sum(options[layer][name].gain for layer, name in chosen.items())
        assert gained == pytest.approx(
            best
        )  # no choice that costs as much or less gains more (weak duality is tight there)
        assert price >= 0
        rise = rng.uniform(0.0, 8.0)
        frugal = least(options, rise)
        lost = -sum(options[layer][name].gain for layer, name in frugal.items())
        assert lost <= rise
        cheapest = min(
            sum(options[f"layer{i}"][n].joules for i, n in enumerate(names))
            for names in itertools.product(*(options[f"layer{i}"] for i in range(4)))
            if -sum(options[f"layer{i}"][n].gain for i, n in enumerate(names)) <= lost
        )
        assert sum(options[layer][name].joules for layer, name in frugal.items()) == pytest.approx(cheapest)
    with pytest.raises(ValueError, match="cheapest options take"):
        within(options, 3.0)
    with pytest.raises(ValueError, match=r"the best options raise the loss by 1, more than 0\.5"):
        least({"one": {"bf16": Action(-1.0, 1.0), "int8": Action(-2.0, 0.5)}}, 0.5)


# ---- the link ----


def gated(costs: dict, budget: float, steps: int = 50) -> tuple:
    w = DiffTensor(np.linspace(-3.0, 3.0, 40), requires_grad=True)
    optimizer = Optimizer([w], chain(energy_gate(budget, steps, costs, lr=0.05), sgd(0.05)))
    kept = []
    for _ in range(steps):
        optimizer.zero_grad()
        (0.5 * (w * w).sum()).backward()
        before = w.numpy().copy()
        optimizer.step()
        kept.append((optimizer.state[0]["kept"], np.count_nonzero(w.numpy() != before)))
    return optimizer, w, kept


def test_the_gate_lets_through_what_it_says() -> None:
    optimizer, _, kept = gated({1: 1.0, 0.25: 0.3, 0: 0.0}, budget=20.0)
    state = optimizer.state[0]
    assert state["used"] <= 20.0 * 1.1 and {share for share, _ in kept} == {1.0, 0.25, 0.0}
    for share, changed in kept:
        assert changed == {1.0: 40, 0.25: 10, 0.0: 0}[share]
    assert state["skipped"] == sum(share == 0 for share, _ in kept)
    saved = optimizer.state_dict()
    assert all(isinstance(v, (int, float, np.ndarray)) for v in saved.values())


def test_a_gate_with_budget_enough_changes_no_bit() -> None:
    _, w, kept = gated({1: 1.0, 0: 0.0}, budget=1e6)
    v = DiffTensor(np.linspace(-3.0, 3.0, 40), requires_grad=True)
    plain = Optimizer([v], sgd(0.05))
    for _ in range(50):
        plain.zero_grad()
        (0.5 * (v * v).sum()).backward()
        plain.step()
    assert all(share == 1.0 for share, _ in kept) and np.array_equal(v.numpy(), w.numpy())


def test_the_gate_refuses_what_it_cannot_use() -> None:
    for costs in ({0: 0.0}, {1: -1.0}, {1: 1.0, 2: 1.0}):
        with pytest.raises(ValueError, match="costs must hold shares"):
            energy_gate(1.0, 10, costs, 0.1)
    with pytest.raises(ValueError, match="lr must be above 0"):
        energy_gate(1.0, 10, {1: 1.0}, 0.0)
    with pytest.raises(ValueError, match="Price: budget"):
        energy_gate(-1.0, 10, {1: 1.0}, 0.1)


# ---- recurring jobs ----


def test_thompson_sampling_finds_the_cheap_batch_size() -> None:
    means = {8: 10.0, 32: 6.0, 128: 8.0, 512: 20.0}
    shares, regrets = [], []
    for seed in range(20):
        rng, noise = np.random.default_rng(seed), np.random.default_rng(100 + seed)
        job, used = RecurringJob(list(means), eta=1.0), []
        for _ in range(40):
            b = job.choose(rng)
            job.observe(b, max(0.1, noise.normal(means[b], 1.0)), 0.0, True)
            used.append(b)
        shares.append(np.mean([b == 32 for b in used[20:]]))
        regrets.append(np.mean([means[b] for b in used]) - 6.0)
    assert np.mean(shares) > 0.8  # of the second half
    assert np.mean(regrets) < 0.5 * (np.mean(list(means.values())) - 6.0)  # half that of taking turns


def test_runs_that_cost_too_much_are_given_up_and_hopeless_sizes_dropped() -> None:
    job, rng = RecurringJob([8, 64], eta=0.5, max_watts=100.0), np.random.default_rng(0)
    assert not job.hopeless(1e9, 1e9)  # nothing to compare with yet
    assert job.observe(8, 10.0, 0.2, True) == 0.5 * 10 + 0.5 * 100 * 0.2 == 15.0
    assert job.limit == 30.0 and job.hopeless(40.0, 0.2) and not job.hopeless(30.0, 0.2)
    assert job.choose(rng) == 8 and job.observe(8, 11.0, 0.2, True)
    for _ in range(2):
        assert job.choose(rng) == 64
        job.observe(64, 40.0, 0.2, False)
    assert {job.choose(rng) for _ in range(50)} == {8}
    never = RecurringJob([8], least=1)
    never.observe(8, 1.0, 1.0, False)
    with pytest.raises(ValueError, match="no batch size has reached the target"):
        never.choose(rng)


def test_jobs_are_kept_between_runs(tmp_path: Path) -> None:
    job = RecurringJob([8, 64], eta=0.7, max_watts=50.0)
    job.observe(8, 10.0, 1.0, True)
    job.save(tmp_path / "job.json")
    again = RecurringJob.load(tmp_path / "job.json")
    assert again.runs == job.runs and vars(again) == vars(job)
    (tmp_path / "job.json").write_text('{"runs": 3}')
    with pytest.raises(ValueError, match="does not hold a recurring job"):
        RecurringJob.load(tmp_path / "job.json")
    for call, said in (
        (lambda: RecurringJob([8, 8]), "different numbers"),
        (lambda: RecurringJob([8], stop=1.0), "stop must be above 1"),
        (lambda: RecurringJob([8], eta=2.0), "eta"),
        (lambda: job.observe(9, 1.0, 1.0, True), "none of the batch sizes"),
        (lambda: job.observe(8, math.nan, 1.0, True), "finite"),
        (lambda: cost(1.0, 1.0, 0.5, -1.0), "max_watts"),
    ):
        with pytest.raises(ValueError, match=said):
            call()
