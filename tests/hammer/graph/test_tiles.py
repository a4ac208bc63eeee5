"""Chains of elementwise operations run tile by tile, and no bit tells."""

import numpy as np
import pytest
from graph_checks import same

from autograd import nn, ops, optim
from hammer.graph import Spec, UniversalGraph, Update
from hammer.graph.execute import Plan, make_plan, ufunc_of
from hammer.graph.tiles import LARGE, TILE, regions

RNG = np.random.default_rng(0)


def arrays(*shape, count=3):
    return [RNG.normal(size=shape).astype(np.float32) for _ in range(count)]


def program(a, b, c):
    m = a * 0.9 + b
    root = ops.sqrt(ops.abs(m) + 0.1)
    u = m / root
    chosen = ops.maximum(u, c) - ops.minimum(u, c) * 2.0
    return m, chosen, chosen > 0.5, ops.sum(u, axis=0), u + c


@pytest.mark.parametrize("n", [LARGE, LARGE + 1, 3 * TILE - 7, 2 * LARGE])
@pytest.mark.parametrize("order", "CF")
def test_tiles_change_no_bit(n, order):
    xs = [np.array(x, order=order) for x in arrays(n // 7 + 1, 7)]
    graph = UniversalGraph.trace(program, *xs)
    assert "tiles" in make_plan(graph).source
    for a, b in zip(make_plan(graph)(xs), Plan(graph, reuse=False)(xs), strict=True):
        same(a, b)
    for a, b in zip(graph(*xs), program(*xs), strict=True):
        same(a, b)


def test_results_are_written_where_they_belong():
    xs = arrays(300, 200)
    graph = UniversalGraph.trace(program, *xs)
    expected = [np.array(v) for v in make_plan(graph)([x.copy() for x in xs])]
    for writes in ({0: 0}, {0: 0, 1: 2}, {1: 0, 4: 1}, {0: 1, 4: 0}):
        given = [x.copy() for x in xs]
        for k, (a, b) in enumerate(zip(make_plan(graph, writes=writes)(given), expected, strict=True)):
            same(a, b)
            assert (k not in writes) or a is given[writes[k]]


def test_what_comes_between_ends_a_region():
    def function(a, b):
        x = a * 2.0 + b
        y = ops.reshape(ops.cumsum(ops.reshape(x, (-1,)), axis=0), x.shape)  # no elementwise operation
        return x * y + a, x - b

    xs = arrays(300, 200, count=2)
    graph = UniversalGraph.trace(function, *xs)
    order, found = regions(graph.nodes, graph.outputs, ufunc_of)
    done = set()
    for node in order:
        assert all(n in done for n in node.inputs)
        done.add(node)
    assert len(order) == len(graph.nodes) and len(set(map(id, found.values()))) == 2
    for a, b in zip(graph(*xs), function(*xs), strict=True):
        same(a, b)


def test_broadcast_inputs_small_arrays_and_other_functions_stay_outside():
    graph = UniversalGraph.trace(lambda a, b: ops.exp(a + b) * b, Spec((300, 200)), Spec((200,)))
    assert "tiles" not in make_plan(graph).source
    graph = UniversalGraph.trace(lambda a: a * 2.0 + 1.0, Spec((30, 20)))
    assert "tiles" not in make_plan(graph).source


def test_an_update_of_a_large_leaf_is_one_loop():
    ends = []
    for compiled in (False, True):
        p = nn.Parameter(np.ones((300, 201), np.float32))
        optimizer = optim.AdamW([p], lr=0.1)
        update = Update(optimizer) if compiled else optimizer.step
        for k in range(3):
            update([np.random.default_rng(k).normal(size=p.shape).astype(np.float32)])
        ends.append([p.raw, *optimizer.state_dict().values()])
        if compiled:
            (stage,) = update._stages.values()
            assert stage.source.count("def tiles") == 1
    for a, b in zip(*ends, strict=True):
        same(a, b)
