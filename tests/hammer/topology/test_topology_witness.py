"""The lazy witness complex beside its definition, beside gudhi's witness complex, and on shapes that are known."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autograd import DiffTensor
from hammer import topology
from hammer.topology import farthest_points, rips, witness, witness_times

SEEDS = st.integers(0, 2**32 - 1)


def cloud(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Points, some of them on a lattice, and places of landmarks."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((30, 2)) if seed % 2 else rng.integers(0, 4, (30, 2)).astype(float)
    return x, rng.permutation(30)[: rng.integers(2, 9)]


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.integers(0, 4))
def test_edges_come_when_the_definition_says(seed, nearest):
    x, marks = cloud(seed)
    nearest = min(nearest, len(marks))
    d = np.linalg.norm(x[marks][:, None] - x[None], axis=2)
    free = np.sort(d, axis=0)[nearest - 1] if nearest else np.zeros(30)
    wanted = np.zeros((len(marks), len(marks)))
    for a, b in itertools.permutations(range(len(marks)), 2):
        wanted[a, b] = max(min(max(d[a, w], d[b, w]) - free[w] for w in range(30)), 0.0)
    np.testing.assert_allclose(witness_times(x, marks, nearest), wanted, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_of_all_points_edges_come_between_half_their_length_and_all_of_it(seed):
    x, _ = cloud(seed)
    d, everything = topology.distances(x), np.arange(30)
    times = witness_times(x, everything, 0)
    assert (times >= d / 2 - 1e-12).all() and (times <= d + 1e-12).all()
    assert np.array_equal(witness_times(x, everything, 1), times)  # each is its own nearest landmark


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_gudhis_edges_come_between_those_of_two_choices(seed):
    """Its relaxed weak witnesses compare an edge with the nearest landmark outside it: between ν = 2 and ν = 1, and as ν = 2 at 0."""
    gudhi = pytest.importorskip("gudhi")
    rng = np.random.default_rng(seed)
    x, n = rng.standard_normal((40, 2)), int(rng.integers(3, 9))
    marks = rng.permutation(40)[:n]
    d = np.linalg.norm(x[:, None] - x[marks][None], axis=2)
    table = [[(int(k), float(row[k])) for k in np.argsort(row)] for row in d]
    tree = gudhi.WitnessComplex(table).create_simplex_tree(max_alpha_square=1e9, limit_dimension=1)
    theirs = np.full((n, n), np.inf)
    for simplex, value in tree.get_skeleton(1):
        if len(simplex) == 2:
            theirs[simplex[0], simplex[1]] = theirs[simplex[1], simplex[0]] = value
    one, two = witness_times(x, marks, 1), witness_times(x, marks, 2)
    off = ~np.eye(n, dtype=bool)
    assert (two[off] <= theirs[off] + 1e-12).all() and (theirs[off] <= one[off] + 1e-12).all()
    assert np.array_equal(two[off] == 0, theirs[off] == 0)


def test_a_circle_is_seen_by_few_landmarks():
    pytest.importorskip("gudhi")
    rng = np.random.default_rng(0)
    angle = rng.random(1500) * 2 * np.pi
    x = np.stack([np.cos(angle), np.sin(angle)], axis=1) * (1 + 0.05 * rng.standard_normal((1500, 1)))
    marks = farthest_points(x, 24)
    (parts, loops), (_, coarse) = witness(x, marks), rips(x[marks.indices])
    first, *rest = loops.longest(2).pairs.tolist() if len(loops.pairs) > 1 else [*loops.pairs.tolist()]
    assert len(parts.essential) == 1 and first[1] - first[0] > 0.4 and all(b - a < 0.1 for a, b in rest)
    assert first[0] < 0.5 * coarse.longest(1).pairs[0, 0]  # the ring closes earlier than landmarks alone say


def test_chunks_and_other_input(monkeypatch):
    x, marks = cloud(3)
    times = witness_times(x, marks)
    monkeypatch.setattr("hammer.topology.witnesses.CHUNK", 7)
    assert np.array_equal(witness_times(x, marks), times)
    assert np.array_equal(witness_times(x.tolist(), marks), times)
    (cut,) = witness(x, marks, (0,), threshold=1e-9)
    assert len(cut.essential) == len(rips(times, (0,), "precomputed", 1e-9)[0].essential)
    assert witness_times(x, np.empty(0, int), 0).shape == (0, 0)
    for bad, message in (([1, 1], "different"), ([0.5], "different"), ([30], "from 0 to 29"), ([-1], "from 0 to 29")):
        with pytest.raises(ValueError, match=message):
            witness(x, bad)
    with pytest.raises(ValueError, match="at most"):
        witness(x, [1, 2], nearest=3)
    with pytest.raises(ValueError, match="nearest"):
        witness(x, [1, 2], nearest=-1)
    recorded = DiffTensor(x, requires_grad=True)
    with pytest.raises(TypeError, match="derivative"):
        witness(recorded * 1.0, marks)
