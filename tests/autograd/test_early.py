"""Gradients handed over while the walk goes on: those of ``backward()``, as soon as nothing can be added to them."""

import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from autograd import DiffTensor, nn, vmap
from autograd.early import EarlyPass
from autograd.testing.strategies import programs


def told(output, seed=None):
    found = {}
    EarlyPass(output).tell(found.__setitem__, seed)
    return found


def mlp():
    rng = np.random.default_rng(0)
    return nn.Sequential(*[layer for _ in range(4) for layer in (nn.Linear(5, 5, rng=rng), nn.Tanh())])


def test_the_last_layers_come_while_the_first_are_yet_to_be_computed():
    model, events = mlp(), []
    x = np.random.default_rng(1).standard_normal((3, 5)).astype(np.float32)
    params, h = list(model.parameters()), DiffTensor(x)
    for number, layer in enumerate(model):
        h = layer(h)
        h.register_hook(lambda _g, number=number: events.append(f"output {number}"))
    names = {p.node: f"parameter {i}" for i, p in enumerate(params)}
    EarlyPass((h**2).sum()).tell(lambda leaf, _g: events.append(names[leaf]))
    for layer in range(4):  # before the cotangent of what the layer was given has been looked at
        own = max(events.index(f"parameter {2 * layer}"), events.index(f"parameter {2 * layer + 1}"))
        assert events.index(f"output {2 * layer}") < own
        assert layer == 0 or own < events.index(f"output {2 * layer - 1}")
    assert len(events) == 8 + 8


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(programs())
def test_random_programs_have_the_bits_of_backward(program):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        leaves = [DiffTensor(a, requires_grad=True) for a in program.leaves.values()]
        for o in program(*leaves):
            if getattr(o, "node", None) is None:
                continue
            seed = np.cos(np.arange(o.size, dtype=o.dtype)).reshape(o.shape).astype(o.dtype)
            for x in leaves:
                x.grad = None
            o.backward(seed)
            found = told(o, seed)
            assert set(found) == {x.node for x in leaves if x.grad is not None}
            for x in leaves:
                if x.grad is not None:
                    g = found[x.node]
                    assert np.asarray(g).tobytes() == np.asarray(x.grad).tobytes() and g.shape == x.grad.shape


def test_leaves_used_often_hooks_and_a_leaf_alone():
    a, b = (DiffTensor(np.array([1.0, 2.0]), requires_grad=True) for _ in range(2))
    a.register_hook(lambda g: g * 10)
    y = (a * b + a).sum() + (a * a).sum()
    found = told(y)
    assert found[a.node].tolist() == [40.0, 70.0] and found[b.node].tolist() == [1.0, 2.0]
    assert a.grad is None and b.grad is None
    leaf = DiffTensor(np.array(3.0), requires_grad=True)
    assert told(leaf) == {leaf.node: 1.0}


def test_what_cannot_be_early_is_named():
    a = DiffTensor(np.ones((3, 2)), requires_grad=True)
    with pytest.raises(ValueError, match="reduce the output to a scalar"):
        told(a * 2)
    with pytest.raises(TypeError, match="batched by vmap"):
        vmap(lambda x: EarlyPass((x * a[0]).sum()))(np.ones((4, 2)))
