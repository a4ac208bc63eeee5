"""A graph computes what eager code does, to the bit, and so does its gradient: for every row, for random programs, for layers."""

import numpy as np
import pytest
from graph_checks import check_graph, near, same
from hypothesis import HealthCheck, Phase, given, settings

from autograd import OPS, nn, ops
from autograd.backend import is_array
from autograd.testing.calls import calls
from autograd.testing.generation import programs
from autograd.testing.programs import Rows
from hammer.graph import UniversalGraph

QUIET = {
    "database": None,
    "deadline": None,
    "derandomize": True,
    "suppress_health_check": list(HealthCheck),
    "phases": [Phase.generate],
}


@pytest.mark.parametrize("name", list(OPS))
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_every_row(name):
    @settings(max_examples=3, **QUIET)
    @given(calls(name))
    def law(call):
        places = [i for i, x in enumerate(call.inputs) if is_array(x)]

        def fun(*arrays):
            inputs = list(call.inputs)
            for i, a in zip(places, arrays, strict=True):
                inputs[i] = a
            return call.run(*inputs)

        if places:
            check_graph(fun, *(call.inputs[i] for i in places))

    law()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@settings(max_examples=40, **QUIET)
@given(programs(transforms=("grad", "scan", "cond", "jvp"), max_steps=8, empty=False))
def test_random_programs(program):
    leaves = [np.asarray(x)[()] for x in program.leaves.values()]
    check_graph(lambda *xs: program.run(Rows(), *xs), *leaves, bits=False)


def losses(model, x, y):
    return lambda x, y: ops.mean(ops.cross_entropy(model(x), y))


def models():
    rng = np.random.default_rng(0)
    yield (
        "normalised",
        nn.Sequential(nn.Linear(6, 8, rng=rng), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 3, rng=rng)),
        (5, 6),
    )
    yield "convolutional", nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1, rng=rng), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12, 3, rng=rng)
    ), (4, 2, 4, 4)  # fmt: skip
    yield (
        "batch norm",
        nn.Sequential(nn.Linear(6, 4, rng=rng), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 3, rng=rng)).eval(),
        (5, 6),
    )


@pytest.mark.parametrize(("model", "shape"), [pytest.param(m, s, id=n) for n, m, s in models()])
def test_layers(model, shape):
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=shape).astype(np.float32), rng.integers(0, 3, shape[0])

    def loss(x, y):
        return ops.mean(ops.cross_entropy(model(x), y))

    graph = UniversalGraph.trace(loss, x, y).grad(value=True)
    value, grads = graph(x, y)
    model.zero_grad()
    expected = loss(x, y)
    expected.backward()
    same(value, expected)
    assert grads.keys() == {n for n, _ in model.named_parameters()}
    for name, parameter in model.named_parameters():
        same(grads[name], parameter.grad)
    value, grads = graph.optimize()(x, y)
    for name, parameter in model.named_parameters():
        same(grads[name], parameter.grad)
    for name, g in graph.optimize(exact=False)(x, y)[1].items():
        near(g, grads[name])


def test_layer_norms_gamma_and_beta_by_formula():
    rng = np.random.default_rng(2)
    x, gamma, beta, c = rng.normal(size=(4, 5)), rng.normal(size=5), rng.normal(size=5), rng.normal(size=(4, 5))
    layer = nn.LayerNorm(5, dtype=np.float64)
    layer.weight.data, layer.bias.data = gamma, beta
    graph = UniversalGraph.trace(lambda x, c: ops.sum(layer(x) * c), x, c)
    found = graph.grad(wrt=["weight", "bias", "x"])(x, c)
    z = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + layer.eps)
    np.testing.assert_allclose(found["weight"], (c * z).sum(0), rtol=1e-12)
    np.testing.assert_allclose(found["bias"], c.sum(0), rtol=1e-12)
    h = 1e-6
    moved = x.copy()
    moved[1, 2] += h
    difference = (graph(moved, c) - graph(x, c)) / h
    np.testing.assert_allclose(found["x"][1, 2], difference, rtol=1e-4)


def test_a_gradient_can_be_differentiated_again_and_again():
    graph = UniversalGraph.trace(lambda x: ops.sin(x) * ops.exp(x), np.float64(0.7))
    for k in range(1, 6):
        graph = graph.grad(wrt="x")
        expected = np.imag((1 + 1j) ** k * np.exp((1 + 1j) * 0.7))
        np.testing.assert_allclose(graph(np.float64(0.7)), expected, rtol=1e-12)


def test_a_derivative_that_is_zero_everywhere():
    graph = UniversalGraph.trace(lambda x, y: ops.sum(x), np.ones(3), np.ones((2, 2)))
    same(graph.grad(wrt="y")(np.ones(3), np.ones((2, 2))), np.zeros((2, 2)))
