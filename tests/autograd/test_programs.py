"""Random programs obey the laws of differentiation, and each check of a law finds a row that breaks it."""

import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, find, given, settings

import autograd
from autograd import OPS, DiffTensor, checkpoint, custom_vjp, jvp, ops, stop_gradient
from autograd.batching import rule_of
from autograd.testing import (
    assert_graph_equals_eager,
    assert_hessian_symmetric,
    assert_jvp_vjp_dual,
    assert_vmap_equals_loop,
    check_grads,
    strategies,
)
from autograd.testing import programs as data
from autograd.testing.programs import Library, Name, Plain, Program, Rows, Step, gradients
from autograd.testing.strategies import programs

TRUE = tuple(t for t in data.TRANSFORMS if t != "custom_vjp")  # those whose derivative is that of the value
GRAPHS = TRUE  # those that graphs compute

# ---- laws, each a function of a program ----


def right(program):
    check_grads(program, *program.leaves.values(), order=1, modes=("rev",), undecided="pass")


def dual(program):
    assert_jvp_vjp_dual(program, *program.leaves.values())


def symmetric(program):
    assert_hessian_symmetric(program, *program.leaves.values())


def mapped(program):
    factors = np.random.default_rng(0).uniform(0.999, 1.001, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # rows without a batching rule say so
        assert_vmap_equals_loop(program, *(np.stack([a * f for f in factors]) for a in program.leaves.values()))


def graph(program):
    assert_graph_equals_eager(program, *program.leaves.values())


def recomputed(program):
    (values, grads), (plain_values, plain_grads) = gradients(program, Rows()), gradients(program, Plain())
    for a, b in zip([*values, *grads], [*plain_values, *plain_grads], strict=True):
        assert np.array_equal(a, b, equal_nan=True), (a, b)


def printed(program):
    space: dict = {}
    exec(program.source(), space)
    for a, b in zip(space["program"](*program.leaves.values()), program(*program.leaves.values()), strict=True):
        assert np.array_equal(a, b, equal_nan=True) and a.dtype == b.dtype


def single(program):
    """In float32 nothing becomes float64, and all values are those of float64, roughly."""
    narrow = program.astype(np.float32)
    found, expected = gradients(narrow), gradients(narrow.astype(np.float64))
    for leaf, g in zip(narrow.leaves.values(), found[1], strict=True):
        assert leaf.dtype == g.dtype == np.float32
    for a, b in zip(found[0], expected[0], strict=True):
        assert a.shape == b.shape and a.dtype.kind == b.dtype.kind


def holds(law, examples, **options):
    """Check a law on random programs."""
    quiet = settings(
        max_examples=examples, database=None, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False, phases=[Phase.generate],
    )  # fmt: skip
    quiet(given(programs(max_steps=6, **options))(law))()


@pytest.mark.parametrize(
    ("law", "examples", "transforms"),
    [
        (right, 4, TRUE), (dual, 20, TRUE), (symmetric, 20, TRUE), (mapped, 20, TRUE), (graph, 25, GRAPHS),
        (recomputed, 25, data.TRANSFORMS), (printed, 25, data.TRANSFORMS), (single, 25, data.TRANSFORMS),
    ],
    ids=lambda x: getattr(x, "__name__", ""),
)  # fmt: skip
def test_random_programs_obey(law, examples, transforms):
    holds(law, examples, transforms=transforms)


# ---- and the checks find what breaks them ----


def once_wrong(g, _y, x):
    return g * ops.cos(x) * 1.0001


def not_linear(g, _y, x):
    return g * ops.cos(x) * (1.0 + ops.abs(g))


def not_again(g, _z, _x, y):
    return g * stop_gradient(y)


def other_in_graphs(g, _y, x):
    return g * ops.cos(x) * (1.0 if getattr(x, "raw", x) is not None else 2.0)


@pytest.mark.parametrize(
    ("law", "row", "rule", "message"),
    [
        (right, "sin", once_wrong, "wrong derivative"),
        (dual, "sin", not_linear, "disagree"),
        (symmetric, "multiply", not_again, "not symmetric"),
        (graph, "sin", other_in_graphs, "from the graph"),
    ],
)
def test_a_broken_rule_is_found(monkeypatch, law, row, rule, message):
    monkeypatch.setattr(OPS[row], "vjps", (rule, *OPS[row].vjps[1:]))
    with pytest.raises(AssertionError, match=message):
        holds(law, 40, rows=("sin", "multiply", "sum"), transforms=())


def test_a_broken_batching_rule_is_found(monkeypatch):
    assert rule_of(OPS["cumsum"]) is not None  # the rules are in place, and the broken one is not written over
    monkeypatch.setattr(OPS["cumsum"], "batch", lambda call, x, axis: call.apply(x, axis=0))
    with pytest.raises(AssertionError, match="vmap"):
        holds(mapped, 40, rows=("cumsum", "sin"), transforms=())


def test_a_broken_checkpoint_is_found(monkeypatch):
    monkeypatch.setattr(data, "checkpoint", lambda fun: lambda *xs: tuple(y * (1.0 + 2e-16) for y in fun(*xs)))
    with pytest.raises(AssertionError):
        holds(recomputed, 40, rows=("sin",), transforms=("checkpoint",))


def test_a_wrong_text_is_found(monkeypatch):
    monkeypatch.setattr(data, "_literal", lambda value: "1" if isinstance(value, int) else repr(value))
    with pytest.raises((AssertionError, NameError, ValueError)):
        holds(printed, 40, rows=("reshape", "sin"))


# ---- programs as data ----

PAIR = Program(
    {"x": np.array([0.5, -1.0]), "y": np.array([2.0, 3.0])},
    (
        Step(("z",), "multiply", (Name("x"), Name("y")), {}),
        Step(("w",), "sum", (Name("z"),), {"axis": None, "keepdims": False}),
    ),
    ("w",),
)


def test_programs_shrink():
    smallest = find(
        programs(min_steps=1, max_steps=4, rows=("exp", "sin", "add"), transforms=()),
        lambda p: any(s.op == "exp" for s in p.steps), settings=settings(database=None, max_examples=100),
    )  # fmt: skip
    assert [s.op for s in smallest.all_steps()] == ["exp"] and smallest.leaves


def test_a_program_runs_on_any_library():
    class Names(Library):
        def call(self, row, inputs, params):
            return f"{row}({', '.join(map(str, inputs))})"

    assert PAIR.run(Names(), "a", "b") == ("sum(multiply(a, b))",)
    with pytest.raises(NotImplementedError):
        PAIR.run(Library(), 1.0, 2.0)


def test_gradients_of_a_program():
    values, (gx, gy) = gradients(PAIR)
    assert values == [-2.0]
    assert np.array_equal(gx, 1.1 * PAIR.leaves["y"]) and np.array_equal(gy, 1.1 * PAIR.leaves["x"])


def test_transforms_nest_in_programs():
    found = []

    def collect(program):
        found.extend(s.op for step in program.steps for body in step.bodies for s in body.all_steps())

    holds(collect, 60, rows=("sin", "multiply"))
    assert set(found) & set(data.TRANSFORMS)


def test_unknown_rows_are_refused():
    with pytest.raises(LookupError, match="'nothing'"):
        find(programs(rows=("nothing",)), lambda p: True)


def test_dtypes_of_kinds():
    assert find(strategies.dtypes("f"), lambda d: True) == np.float64
    assert find(strategies.dtypes("ui"), lambda d: d.itemsize == 1 and d.kind == "i") == np.int8


# ---- graphs ----


def test_graphs_of_functions_of_trees():
    def loss(parameters, x, scale):
        return {"loss": ops.sum(ops.tanh(x @ parameters["w"]) * scale), "x": x}

    assert_graph_equals_eager(loss, {"w": np.ones((2, 3))}, np.array([[0.5, -1.0]]), 2.0)


def test_a_graph_needs_no_values():
    with pytest.raises(TypeError, match="symbolic"):
        assert_graph_equals_eager(lambda x: x * 2.0 if x.sum() > 0 else x, np.ones(2))


@pytest.mark.parametrize("rule", [lambda f: custom_vjp(f).defvjp(lambda x: (f(x), x), lambda x, g: (g,))])
def test_custom_rules_have_no_graph(rule):
    with pytest.raises(TypeError, match=r"custom|symbolic|no value"):
        assert_graph_equals_eager(rule(ops.sin), np.ones(2))


def test_a_graph_that_forgets_an_argument_is_found():
    def fun(x):
        return ops.sin(x) if x.raw is not None else ops.sin(x) * 1.0 + 0.0 * stop_gradient(x)

    with pytest.raises(AssertionError, match="from the graph"):
        assert_graph_equals_eager(lambda x: ops.sin(x) if x.raw is not None else ops.cos(x), np.ones(2))
    assert_graph_equals_eager(fun, np.ones(2))


def test_tangents_may_be_symbols():
    assert_graph_equals_eager(lambda x, t: autograd.jvp(ops.sin, (x,), (t,))[1], np.ones(3), np.arange(3.0))
    with pytest.raises(ValueError, match="a tangent of shape"):
        autograd.jvp(ops.sin, (np.ones(3),), (DiffTensor.symbol((2,), np.float64),))


def test_functions_with_primitives_can_be_checked():
    check_grads(lambda x: checkpoint(lambda y: ops.sin(y) * y)(x), np.array([0.5, -1.0]), order=1)


def test_symmetry_is_for_real_functions():
    with pytest.raises(TypeError, match="real"):
        assert_hessian_symmetric(ops.sin, np.array([1.0 + 1.0j]))


# ---- what random programs have found ----


def test_windows_that_padding_shifts_do_not_tile(monkeypatch):
    """Where padding shifts windows, the last element is in none: its gradient was whatever the memory held."""
    monkeypatch.setattr(np, "empty_like", lambda *args, **kwargs: np.full_like(*args, fill_value=np.nan, **kwargs))
    x = DiffTensor(np.array([[[3.0, 1.0]]]), requires_grad=True)
    params = {"kernel": (2,), "stride": (2,), "padding": ((1, 0),)}
    ops.avg_pool(x, **params).sum().backward()
    assert x.grad.tolist() == [[[0.5, 0.0]]]
    y = DiffTensor(x.raw, requires_grad=True)
    ops.max_pool(y, **params)[0].sum().backward()
    assert y.grad.tolist() == [[[1.0, 0.0]]]


def test_a_graph_ends_where_a_value_is_known():
    """Inside, the derivative is taken at a constant: the graph needs its value, not how it was come by."""

    def directional(x):
        def outer(y):
            return jvp(ops.j1, (np.float64(-1.8),), (y,))[1]

        return jvp(outer, (x[0],), (x[1],))[1]

    assert_graph_equals_eager(directional, np.array([0.5, 2.0]))
