"""What checkpoints hold: counted array by array, and planned as well as can be."""

import functools
import heapq
import itertools
import math

import numpy as np
import pytest

from autograd import AutogradContext, BackwardPass, DiffTensor, checkpoint, checkpoint_sequential, nn, ops
from autograd.checkpointing import binomial_cost
from autograd.checkpointing.regions import Size
from autograd.checkpointing.schedule import WORK, Schedule
from autograd.tape import arrays_among

# ---- what is held ----


def root(array):
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


class Count:
    """Bytes that live nodes hold for their rules, beside some known arrays, at every operation and every rule."""

    def __init__(self, known):
        self.known = {id(root(a)) for a in known}
        self.context = AutogradContext(track=True, observer=lambda *_: self.look())
        self.peak = 0

    def now(self):
        arrays = (root(a) for node in self.context.nodes for a in arrays_among(node.held) if isinstance(a, np.ndarray))
        return sum({id(a): a.nbytes for a in arrays if id(a) not in self.known}.values())

    def look(self):
        self.peak = max(self.peak, self.now())


def blocks(n, width=16, drop=0.0):
    rng = np.random.default_rng(n)
    return [
        nn.Sequential(nn.Linear(width, width, rng=rng), nn.Tanh(), nn.Dropout(drop, rng=rng), nn.Linear(width, width, rng=rng))
        for _ in range(n)
    ]  # fmt: skip


def counted(model, batch=32, width=16):
    """One step: the most bytes held, and those held when it is over."""
    x = DiffTensor(np.random.default_rng(0).normal(size=(batch, width)).astype(np.float32), requires_grad=True)
    count = Count([x.raw, *(p.raw for p in model.parameters())])
    with count.context:
        out = model(x)
        count.known.add(id(root(out.raw)))
        loss = (out * 1.0).sum()
        loss.backward()
    return count.peak, count.now()


@pytest.mark.parametrize("drop", [0.0, 0.4])
@pytest.mark.parametrize(("n", "activations"), [(3, 9), (12, 10), (12, 14), (12, 25), (25, 12), (70, 15)])
def test_no_more_is_held_than_the_budget(n, activations, drop):
    budget = activations * 32 * 16 * 4
    model = checkpoint_sequential(blocks(n, drop=drop), budget=budget)
    for _ in range(2):  # measured, then planned
        peak, after = counted(model)
        assert peak <= model.chain.held.peak and after <= peak
        assert peak <= budget - WORK * 32 * 16 * 4  # which is for the work of one stage
    plain = nn.Sequential(*blocks(n, drop=drop))
    expected = counted(plain)[0]
    assert peak < expected or expected <= budget
    rows = n * (5 if drop else 3)  # the drawing of random numbers is one
    assert 1 + model.chain.calls / rows <= model.plan.cost * (1 + 1e-6)


def test_segments_hold_their_boundaries_and_one_inside():
    n, one = 36, 32 * 16 * 4
    model = checkpoint_sequential(blocks(n), segments="auto")
    peak, _ = counted(model)
    inside = 2 * n // 6  # of each block the input of the second layer, which is the output of tanh, and of the first
    assert model.segments == 6 and 5 * one < peak <= (5 + inside + 1) * one
    assert counted(nn.Sequential(*blocks(n)))[0] >= (2 * n - 1) * one
    assert model.chain.calls <= 3 * n  # each row once more, but for the last segment


def test_a_checkpoint_holds_nothing_but_its_inputs_until_it_is_read():
    x = DiffTensor(np.ones(1000), requires_grad=True)
    y = checkpoint(lambda x: functools.reduce(lambda y, _: ops.tanh(y), range(10), x))(x)
    assert BackwardPass((y.sum(),)).bytes_retained == 0  # the first tanh reads its output only
    assert y.node.saved[0] is not None
    assert BackwardPass((y.sum(),)).bytes_retained == 72_000  # what is left for the other nine


def test_only_boundaries_are_left_when_a_pass_is_over():
    model = checkpoint_sequential(blocks(9), segments=3)
    x = DiffTensor(np.ones((32, 16), np.float32), requires_grad=True)
    loss = model(x).sum()
    boundaries = {k for stage in model.chain.stages for k in stage.boundary}
    for i in (4, 1):  # passes that end on the way
        BackwardPass((loss,), (model[i][3].weight,)).run()
        assert set(model.chain.held) <= boundaries and (set(model.chain.held) or i < 3), i


def test_less_memory_than_was_planned_changes_no_gradient():
    found = []
    for budget in (10**9, 25_000, 25_000):
        model = checkpoint_sequential(blocks(8, drop=0.2), budget=25_000)
        x = DiffTensor(np.ones((32, 16), np.float32), requires_grad=True)
        model(x)
        model.forward(x)
        loss = model(x).sum()
        model.chain.budget = 0 if len(found) == 2 else budget
        loss.backward()
        found.append([x.grad, *(p.grad for p in model.parameters())])
    for other in found[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_a_budget_that_is_too_small_names_the_least_which_then_does():
    make = lambda budget: checkpoint_sequential(blocks(6), budget=budget)
    with pytest.raises(
        ValueError, match=r"a budget of 100 bytes is too small .* least possible is [\d,]+ bytes"
    ) as error:
        counted(make(100))
    least = int(str(error.value).split()[-2].replace(",", ""))
    assert counted(make(least))[0] <= least
    with pytest.raises(ValueError, match="least possible"):
        counted(make(int(0.95 * least)))


# ---- plans ----


def stages(n, inside=3, boundary=1, largest=1, cost=1.0):
    return [Size(cost, inside, boundary, largest)] * n


@pytest.mark.parametrize("slots", [1, 2, 3, 5])
@pytest.mark.parametrize("n", [1, 2, 5, 10, 21, 60, 100])
def test_the_cost_of_boundaries_alone_is_the_binomial_optimum(n, slots):
    # twice the inside does not fit, so that no inside is kept while another stage runs. There is memory for the input, which
    # is not counted, and for more boundaries, of which one is that before the stage whose turn it is
    planned = Schedule(stages(n, inside=100), 100 + WORK + slots)
    assert planned.cost * n == pytest.approx(binomial_cost(n, slots) + n)


@pytest.mark.parametrize(
    ("length", "slots", "steps"), [(1, 1, 0), (2, 1, 1), (5, 1, 10), (10, 3, 15), (10, 9, 9), (10, 20, 9), (100, 5, 316)]
)  # fmt: skip
def test_binomial_cost(length, slots, steps):
    @functools.cache
    def least(n, s):
        if n == 1:
            return 0
        return n * (n - 1) // 2 if s == 1 else min(k + least(k, s) + least(n - k, s - 1) for k in range(1, n))

    assert binomial_cost(length, slots) == least(length, slots) == steps
    for wrong in ((0, 1), (1, 0)):
        with pytest.raises(ValueError, match="at least 1"):
            binomial_cost(*wrong)


def shortest(sizes, budget):
    """The least cost of any schedule at all, by Dijkstra's algorithm over everything that memory may hold.

    A state is which insides and boundaries are held, and how many stages are still to be reversed. From a held value one may
    run any number of stages, keeping of each what one likes, if it fits; anything may be dropped at any time. An inside is held
    together with the boundary before it (or the inside before, which has that): its stage is reversed with both.
    """
    n = len(sizes)
    size = lambda held: sum(sizes[i].inside if inside else sizes[i - 1].boundary for inside, i in held)
    queue, done, ticket = [(0.0, 0, n, frozenset())], set(), itertools.count(1)
    while queue:
        cost, _, left, held = heapq.heappop(queue)
        if (left, held) in done:
            continue
        done.add((left, held))
        if left == 0:
            return cost
        last = left - 1
        if not all(i == 0 or (False, i) in held or (True, i - 1) in held for inside, i in held if inside):
            continue
        if (True, last) in held and size(held) + WORK * sizes[last].largest <= budget:
            rest = frozenset(h for h in held if h != (True, last) and h[1] <= last)
            heapq.heappush(queue, (cost, next(ticket), last, rest))
        for h in held:
            heapq.heappush(queue, (cost, next(ticket), left, held - {h}))
        for start in {0, *(i for inside, i in held if not inside), *(i + 1 for inside, i in held if inside)}:
            for stop in range(start + 1, left + 1):  # run on from start; keep nothing but what comes last
                spent = cost + sum(s.cost for s in sizes[start:stop])
                options = [(True, stop - 1)] + ([(False, stop)] if stop < left else [])
                for kept in options:
                    new = held | {kept}
                    if new != held and size(new) <= budget:
                        heapq.heappush(queue, (spent, next(ticket), left, new))
    return math.inf


@pytest.mark.parametrize("inside", [1, 2, 3])
@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_no_schedule_of_a_chain_of_equal_stages_is_cheaper_than_the_plan(n, inside):
    sizes = stages(n, inside=inside)
    for budget in range(inside + WORK + 1, n * inside + WORK + 1):
        assert Schedule(sizes, budget).cost * n == pytest.approx(shortest(sizes, budget))


def formula(sizes, budget):
    """The formula of ``schedule`` in bytes."""
    n = len(sizes)

    @functools.cache
    def c(i, j, m):
        if m < 0:
            return math.inf
        if j == i + 1:
            return sizes[i].cost if m >= sizes[i].inside + WORK * sizes[i].largest else math.inf
        cuts = (
            sum(s.cost for s in sizes[i:k]) + c(k, j, m - sizes[k - 1].boundary) + c(i, k, m) for k in range(i + 1, j)
        )
        return min(sizes[i].cost + c(i + 1, j, m - sizes[i].inside), *cuts)

    return c(0, n, budget)


@pytest.mark.parametrize("seed", range(12))
def test_plans_of_unequal_stages_follow_the_formula(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 12))
    sizes = [
        Size(float(rng.integers(1, 9)), int(rng.integers(b, 4 * b)), int(b), int(b)) for b in rng.integers(50, 400, n)
    ]
    least = max(s.inside + WORK * s.largest for s in sizes) + max(s.boundary for s in sizes)
    for budget in np.linspace(1.1 * least, sum(s.inside for s in sizes) + 4 * 400, 8).astype(int):
        run_once = sum(s.cost for s in sizes)
        planned = Schedule(sizes, int(budget)).cost * run_once
        assert formula(sizes, int(budget)) <= planned * (1 + 1e-6)
        assert planned <= formula(sizes, int(budget / 1.1)) * (1 + 1e-6)  # memory is planned in units


def test_a_step_is_taken_as_planned():
    """What the steps of a plan add up to, replayed in a memory of the budget's size, is its cost."""
    rng = np.random.default_rng(0)
    unequal = [Size(float(c), int(3 * b), int(b), int(b)) for c, b in zip(*rng.integers(1, 9, (2, 30)), strict=True)]
    for sizes, budget in ((stages(30), 16), (stages(30), 40), (unequal, 100), (unequal, 150), (stages(200), 24)):
        plan, held, cost = Schedule(sizes, budget), {}, 0.0
        for j in reversed(range(len(sizes))):
            if ("inside", j) not in held:
                start = max((i for kind, i in held if kind == "boundary" and i <= j), default=0)
                start = max([start, *(i + 1 for kind, i in held if kind == "inside" and i < j)])
                free = budget - sum(held.values())
                for i, (inside, boundary) in zip(range(start, j + 1), plan.steps(start, j + 1, free), strict=True):
                    cost += sizes[i].cost
                    if inside:
                        held["inside", i] = sizes[i].inside
                    elif boundary:
                        held["boundary", i + 1] = sizes[i].boundary
            assert sum(held.values()) + WORK * sizes[j].largest <= budget
            del held["inside", j]
            held.pop(("boundary", j), None)
        assert cost <= plan.cost * sum(s.cost for s in sizes) * (1 + 1e-6)


def test_a_thousand_stages_and_groups_of_unequal_ones():
    assert Schedule(stages(1000), 20).cost <= binomial_cost(1000, 14) / 1000 + 1
    assert Schedule(stages(1000), 3 * 1000 + 2 * WORK).cost == 1.0
    period = [Size(1.0, 40, 10, 10), Size(5.0, 80, 20, 20)] * 60  # a chain that repeats two layers
    plan = Schedule(period, 800)
    assert plan.uniform and len(plan.forward) == 120
    rng = np.random.default_rng(1)
    unequal = [Size(float(rng.integers(1, 9)), int(3 * b), int(b), int(b)) for b in rng.integers(10, 500, 130)]
    plan = Schedule(unequal, 20_000)
    assert not plan.uniform and len(plan.forward) == 130 and 1.0 < plan.cost < 5.0
