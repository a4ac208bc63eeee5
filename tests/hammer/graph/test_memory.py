"""The static memory plan: what must hold of every plan, the published figures, and the smallest arena where it can be found."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hammer.graph import memory
from hammer.graph.memory import Buffer, optimum, plan

SETTINGS = settings(max_examples=60, deadline=None)
buffer = st.tuples(st.integers(0, 300), st.integers(0, 15), st.integers(0, 8)).map(lambda b: (b[0], b[1], b[1] + b[2]))
buffers = st.lists(buffer, max_size=30)


def ends(sizes, offsets):
    return max((o + s for s, o in zip(sizes, offsets, strict=True)), default=0)


def assert_apart(live, offsets):
    """No byte belongs to two buffers at one step, found by writing every byte of every step down."""
    for step in range(30):
        taken = [i for i, (size, first, last) in enumerate(live) if size and first <= step <= last]
        for i, j in itertools.combinations(taken, 2):
            a, b = offsets[i], offsets[j]
            assert a + live[i][0] <= b or b + live[j][0] <= a, f"buffers {i} and {j} share bytes at step {step}"


@SETTINGS
@given(buffers, st.sampled_from([1, 4, 64]))
def test_live_buffers_share_no_byte_and_the_peak_is_between_its_bounds(live, alignment):
    found = plan(live, alignment)
    assert_apart(live, found.offsets)
    rounded = [-(-size // alignment) * alignment for size, *_ in live]
    most = max(
        (sum(r for r, (_, a, b) in zip(rounded, live, strict=True) if a <= t <= b) for t in range(30)), default=0
    )
    assert found.naive == sum(rounded)
    assert found.bound == most
    assert found.bound <= found.peak <= found.naive
    assert found.peak == ends(rounded, found.offsets)
    assert all(o % alignment == 0 for o in found.offsets)


@SETTINGS
@given(buffers)
def test_the_plan_is_as_small_as_each_greedy_order(live):
    live = [Buffer(*b) for b in live]
    for order in memory.ORDERS.values():
        chosen = order(live)
        assert sorted(chosen) == list(range(len(live)))
        assert plan(live).peak <= ends([b.size for b in live], memory._place(live, chosen))


@SETTINGS
@given(buffers, st.integers(1, 9))
def test_a_plan_is_a_function_of_sizes_and_order_of_steps_alone(live, scale):
    assert plan(live) == plan(list(live))
    stretched = plan([(scale * size, 7 * a + 3, 7 * b + 3) for size, a, b in live])
    assert stretched.offsets == tuple(scale * o for o in plan(live).offsets)


def smallest_by_grid(live):
    """The smallest arena, by trying every offset of every buffer: for sizes of a few units."""
    for arena in itertools.count(memory.lower_bound(live)):
        for offsets in itertools.product(*(range(arena - size + 1) for size, *_ in live)):
            spans = list(zip(live, offsets, strict=True))
            if all(
                a[2] < b[1] or b[2] < a[1] or p + a[0] <= q or q + b[0] <= p
                for (a, p), (b, q) in itertools.combinations(spans, 2)
            ):
                return arena
    raise AssertionError


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=5))
def test_the_optimum_is_the_smallest_arena_of_a_full_search(spans):
    live = [(size, first, first + more) for size, first, more in spans]
    assert optimum(live) == smallest_by_grid(live)


def test_an_optimum_above_the_lower_bound():
    """Every step has 6 units live at most, but no arena of 6 holds them all: the optimum must not stop at the bound."""
    live = [(5, 0, 0), (3, 1, 1), (1, 0, 2), (2, 2, 2), (2, 1, 3), (3, 3, 3), (1, 2, 7), (5, 4, 7)]
    assert memory.lower_bound(live) == 6
    assert optimum(live) == smallest_by_grid(live) == plan(live).peak == 7


def test_an_optimum_below_the_plan():
    """The greedy orders do not find the smallest arena of these five buffers: the optimum must not be the plan's peak."""
    live = [(4, 0, 1), (3, 1, 3), (1, 1, 4), (3, 2, 5), (3, 3, 5)]
    assert optimum(live) == smallest_by_grid(live) == 10
    assert plan(live).peak == 11


def test_a_buffer_takes_the_smallest_gap_that_it_fits():
    """Between those that stay there are gaps of 5 and of 3; the last to choose needs 3."""
    live = [Buffer(*b) for b in [(9, 0, 9), (5, 0, 1), (8, 0, 9), (3, 0, 1), (7, 0, 9), (3, 2, 9)]]
    assert memory._place(live, [0, 1, 2, 3, 4, 5]) == [0, 9, 14, 22, 25, 22]


def test_plans_of_small_programs_are_rarely_above_the_optimum():
    rng = np.random.default_rng(1)
    excess = []
    for _ in range(200):
        first = rng.integers(0, 10, 8)
        live = [
            (int(s), int(a), int(a + d))
            for s, a, d in zip(rng.integers(1, 65, 8), first, rng.integers(0, 6, 8), strict=True)
        ]
        excess.append(plan(live).peak / optimum(live) - 1)
    assert np.mean(excess) < 0.005 and max(excess) < 0.25


def test_a_chain_needs_two_values_and_a_skip_connection_a_third():
    chain = [(100, i, i + 1) for i in range(20)]
    assert plan(chain).peak == 200
    assert plan([*chain, (100, 0, 20)]).peak == 300


def test_bad_buffers_and_too_many_are_refused():
    with pytest.raises(ValueError, match="buffer 1 has -1 bytes"):
        plan([(1, 0, 0), (-1, 0, 0)])
    with pytest.raises(ValueError, match="buffer 0 has 1 bytes from step 3 to 2"):
        plan([(1, 3, 2)])
    with pytest.raises(ValueError, match="alignment"):
        plan([], 0)
    with pytest.raises(ValueError, match="11 buffers are too many"):
        optimum([(1, 0, 0)] * 11)
    assert plan([]) == memory.Plan((), 0, 0, 0)
