"""Mapper: shapes that are known, and a direct way to have its graph."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.csgraph import connected_components

from hammer import topology
from hammer.topology import mapper

SEEDS = st.integers(0, 2**32 - 1)


def circle(n: int = 200) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, n, endpoint=False)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def test_a_circle_has_one_loop():
    rng = np.random.default_rng(0)
    x = circle() + 0.01 * rng.standard_normal((200, 2))
    for intervals, overlap in itertools.product((5, 8, 10), (0.2, 0.3, 0.5)):
        for angle in (0.0, 1.0):
            graph = mapper(x, x @ [np.cos(angle), np.sin(angle)], intervals, overlap)
            assert (graph.parts, graph.loops) == (1, 1) and set(graph.degrees) == {2}


def test_two_blobs_are_two_parts():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(0, 1, (80, 2)), rng.normal(0, 1, (80, 2)) + [0, 15]])
    graph = mapper(x, x[:, 0], intervals=4, cut=2.0)
    assert graph.parts == 2
    for part in range(2):
        own = np.concatenate([m for m, k in zip(graph.members, graph.labels(), strict=True) if k == part])
        assert set(own) in (set(range(80)), set(range(80, 160)))
    for members in mapper(x, x[:, 0], intervals=3).members:  # by the rule
        assert len(set(members < 80)) == 1


def test_a_figure_of_y_has_three_ends_that_meet():
    t = np.linspace(0, 1, 60)[1:]
    arms = [np.outer(t, [np.sin(a), np.cos(a)]) for a in (np.pi, np.pi / 4, -np.pi / 4)]
    x = np.concatenate([[[0.0, 0.0]], *arms])
    graph = mapper(x, x[:, 1], intervals=9)
    assert (graph.parts, graph.loops) == (1, 0)
    assert sorted(graph.degrees)[-1] == 3 and (graph.degrees == 1).sum() == 3 and (graph.degrees == 3).sum() == 1
    meeting = int(np.argmax(graph.degrees))
    assert abs(graph.lens[meeting, 0]) < 0.2
    distance = np.linalg.norm(x, axis=1)  # from the middle: another lens, the same figure
    other = mapper(x, distance, intervals=6)
    assert (other.parts, other.loops) == (1, 0) and (other.degrees == 1).sum() == 3


def test_two_lenses_cover_a_plane():
    rng = np.random.default_rng(0)
    x = rng.random((400, 2))
    graph = mapper(x, x, intervals=3, cut=0.5)
    assert len(graph.members) == 9 and graph.parts == 1 and graph.cells.tolist() == list(map(list, np.ndindex(3, 3)))
    assert graph.loops == 20 - 9 + 1  # neighbours, diagonal ones too


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_the_graph_is_what_its_definition_says(seed):
    rng = np.random.default_rng(seed)
    n, intervals, overlap = int(rng.integers(1, 40)), int(rng.integers(1, 7)), float(rng.uniform(0.05, 0.5))
    x = rng.standard_normal((n, 2)) if seed % 2 else rng.integers(0, 5, (n, 2)).astype(float)
    lens, cut = x[:, 0], float(rng.uniform(0.2, 2))
    graph = mapper(x, lens, intervals, overlap, cut)
    d, span = topology.distances(x), np.ptp(lens)
    length = span / (intervals - (intervals - 1) * overlap)
    seen = set()
    for members, (cell,) in zip(graph.members, graph.cells, strict=True):
        start = lens.min() + cell * length * (1 - overlap)
        assert (lens[members] >= start - 1e-9).all() and (lens[members] <= start + length + 1e-9).all()
        assert connected_components(d[np.ix_(members, members)] <= cut)[0] == 1
        seen |= set(members.tolist())
    assert seen == set(range(n))
    for cell in set(graph.cells[:, 0]):  # clusters of one interval are farther apart than the cut
        own = [m for m, (c,) in zip(graph.members, graph.cells, strict=True) if c == cell]
        assert [m[0] for m in own] == sorted(m[0] for m in own)
        for a, b in itertools.combinations(own, 2):
            assert d[np.ix_(a, b)].min() > cut
    wanted = [
        [i, j]
        for i, j in itertools.combinations(range(len(graph.members)), 2)
        if set(graph.members[i].tolist()) & set(graph.members[j].tolist())
    ]
    assert graph.edges.tolist() == wanted
    np.testing.assert_allclose(graph.lens[:, 0], [lens[m].mean() for m in graph.members])


@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_scale_shift_and_distances_do_not_matter(seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((30, 3))
    lens = x[:, 0]
    graph = mapper(x, lens)
    for other in (
        mapper(4.0 * x, lens), mapper(x, 8.0 * lens + 0.0), mapper(topology.distances(x), lens, metric="precomputed"),
    ):  # fmt: skip
        assert other.edges.tolist() == graph.edges.tolist()
        assert [m.tolist() for m in other.members] == [m.tolist() for m in graph.members]


@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_with_one_interval_nodes_are_the_components_of_rips(seed):
    x = np.random.default_rng(seed).standard_normal((25, 2))
    cut = 0.5
    graph = mapper(x, x[:, 0], intervals=1, cut=cut)
    assert len(graph.members) == len(topology.rips(x, (0,), threshold=cut)[0].essential)
    assert len(graph.edges) == 0


def test_evenly_spaced_points_stay_together_and_gaps_are_found():
    line = np.linspace(0, 1, 30)[:, None]
    assert len(mapper(line, line, intervals=1).members) == 1
    assert len(mapper(np.concatenate([line, line + 3]), np.zeros(60), intervals=4).members) == 2  # a constant lens
    few = np.array([0.0, 1.0, 2.0, 6.0, 7.0, 8.0])[:, None]
    assert [m.tolist() for m in mapper(few, np.zeros(6)).members] == [[0, 1, 2], [3, 4, 5]]
    assert len(mapper(np.zeros((5, 2)), np.zeros(5)).members) == 1
    empty = mapper(np.empty((0, 2)), np.empty(0))
    assert (len(empty.members), empty.parts, empty.loops) == (0, 0, 0)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"intervals": 0}, "intervals"), ({"overlap": 0.0}, "overlap"), ({"overlap": 0.6}, "overlap"), ({"cut": -1.0}, "cut"),
        ({"lens": np.zeros(3)}, "each of 4 points"), ({"metric": "other"}, "metric"),
    ],
)  # fmt: skip
def test_bad_settings_are_refused(bad, message):
    with pytest.raises(ValueError, match=message):
        mapper(**({"points": np.zeros((4, 2)), "lens": np.zeros(4)} | bad))
