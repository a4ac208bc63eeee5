"""Nodes, tracing, builders, symbolic sizes, plans, files: what a graph is, and what it says when something does not fit."""

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest

from autograd import OPS, AutogradContext, DiffTensor, custom_vjp, nn, no_grad, ops, stop_gradient
from autograd.errors import NoValueError
from autograd.testing.calls import calls
from autograd.testing.strategies import HealthCheck, given, settings
from autograd.train.structure import CheckpointError, DamagedCheckpoint
from hammer.graph import Builder, GraphError, Model, Plan, SizedGraph, Spec, UniversalGraph
from hammer.graph.execute import FRESH
from hammer.graph.ir import apply, constant, input_node

RNG = np.random.default_rng(0)


def x(*shape):
    return RNG.normal(size=shape).astype(np.float32)


# ---- nodes ----


def test_equal_nodes_are_one():
    a, b = input_node("a", (2, 3), np.float32), input_node("b", (3,), np.float32)
    total = apply(OPS["add"].apply.row, (a, b), {})
    assert total is apply(OPS["add"], (a, b), {}) and total is not apply(OPS["add"], (b, a), {})
    assert apply(OPS["sum"], (a,), {"axis": [0], "keepdims": False}) is apply(
        OPS["sum"], (a,), {"axis": (0,), "keepdims": False}
    )
    assert copy.deepcopy(total) is total
    with pytest.raises(TypeError, match="save"):
        pickle.dumps(total)


@pytest.mark.parametrize(
    ("u", "v"),
    [
        (0.0, -0.0),
        (1, True),
        (1, 1.0),
        (1.0, np.float64(1.0)),
        (np.float32(1), np.float64(1)),
        (np.zeros(2), np.zeros((1, 2))),
    ],
)
def test_constants_that_differ_are_two(u, v):
    assert constant(u) is not constant(v)
    assert constant(u) is constant(copy.copy(u))


def test_a_constant_is_a_copy_that_cannot_change():
    array = np.ones(3)
    node = constant(array)
    array[0] = 5
    assert node.value[0] == 1
    with pytest.raises(ValueError, match="read-only"):
        node.value[0] = 2


def test_keys_are_those_of_other_processes():
    program = (
        "import numpy as np; from autograd import ops; from hammer.graph import UniversalGraph, Spec; "
        "print(UniversalGraph.trace(lambda x: ops.sum(x[1:] * 2.0, axis=0), Spec((3, 2)), name='f').key)"
    )
    found = {
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    }
    own = UniversalGraph.trace(lambda x: ops.sum(x[1:] * 2.0, axis=0), Spec((3, 2)), name="f").key
    assert found == {own + "\n"}


def test_parameters_that_are_code_are_refused():
    with pytest.raises(GraphError, match=r"the parameter axis is a builtins\.function"):
        apply(OPS["sum"], (input_node("a", (2,), np.float32),), {"axis": lambda: 0, "keepdims": False})


# ---- tracing, and what it says ----


def test_nothing_is_computed_while_tracing():
    calls_made = []
    with AutogradContext(
        observer=lambda row, _, params, __: calls_made.append(row.name) if "backward" not in params else None
    ):
        UniversalGraph.trace(lambda a, b: ops.tanh(a @ b).sum(), Spec((2, 3)), Spec((3, 4))).grad(wrt="a")
    assert calls_made == []


def test_shapes_that_do_not_fit_are_explained():
    def model(a, w):
        h = ops.tanh(a)
        return h @ w

    with pytest.raises(GraphError) as caught:
        UniversalGraph.trace(model, Spec((8, 3)), Spec((4, 2)))
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("matmul(float32(8, 3), float32(4, 2)): ")
    assert __file__ in lines[1] and lines[1].endswith(" in model")
    assert [line.split(",")[0].strip() for line in lines[2:]] == [
        "from tanh float32(8",
        "from input 'w' float32(4",
        "from input 'a' float32(8",
    ]


def test_data_dependent_branches_are_refused_where_they_are():
    with pytest.raises(NoValueError, match="a symbolic tensor has no value"):
        UniversalGraph.trace(lambda a: a if a.sum() > 0 else -a, Spec((3,)))


def test_what_holds_gradients_must_be_an_argument():
    hidden = [DiffTensor([1.0, 2.0], requires_grad=True)]
    with pytest.raises(GraphError, match=r"tracked tensor of shape \(2,\) .* pass it"):
        UniversalGraph.trace(lambda a: a * hidden[0], Spec((2,)))
    graph = UniversalGraph.trace(lambda a: a * hidden[0].detach(), Spec((2,), np.float64))
    np.testing.assert_array_equal(graph(np.ones(2)), [1.0, 2.0])


def test_custom_rules_are_refused():
    twice = custom_vjp(lambda a: a * 2.0).defvjp(lambda a: (a * 2.0, ()), lambda _, g: (g * 3.0,))
    with pytest.raises(GraphError, match="derivative rule of its own"):
        UniversalGraph.trace(twice, Spec((2,)))


def test_no_gradient_flows_where_none_is_recorded():
    def f(a):
        with no_grad():
            b = a * 2.0
        return ops.sum(a * b + stop_gradient(a) + a.detach())

    np.testing.assert_array_equal(UniversalGraph.trace(f, np.ones(2)).grad(wrt="a")(np.full(2, 3.0)), [6.0, 6.0])


def test_parameters_are_found_and_followed():
    layer = nn.Linear(3, 2)
    scale = DiffTensor(np.float32(2.0), requires_grad=True)
    graph = UniversalGraph.trace(lambda a: layer(a) * scale, Spec((4, 3)))
    assert set(graph.parameters) == {"weight", "bias", "scale"}
    a = x(4, 3)
    before = graph(a)
    layer.weight.data = layer.weight.raw * 2
    np.testing.assert_array_equal(graph(a), (layer(a) * scale).raw)
    assert not np.array_equal(graph(a), before)
    assert UniversalGraph.trace(layer.forward, a)(a).shape == (4, 2)
    np.testing.assert_array_equal(graph(a, weight=np.zeros((2, 3), np.float32)), np.tile(layer.bias.raw * 2, (4, 1)))


def test_trees_of_arguments_and_outputs():
    graph = UniversalGraph.trace(lambda p, s: {"y": [p["w"] * s, p["b"]], "n": 3.0}, {"w": x(2), "b": x(3)}, 2.0)
    assert [n.name for n in graph.inputs] == ["p.b", "p.w"]
    w, b = x(2), x(3)
    out = graph({"w": w, "b": b}, 2.0)
    np.testing.assert_array_equal(out["y"][0], w * np.float32(2))
    assert out["n"] == 3.0 and out["y"][1] is b
    assert len(graph.select(lambda o: o["y"][1])) == 0
    with pytest.raises(GraphError, match=r"traced with the argument 2\.0, so it cannot be run with 3\.0"):
        graph({"w": w, "b": b}, 3.0)
    with pytest.raises(GraphError, match="structure"):
        graph({"w": w}, 2.0)
    with pytest.raises(GraphError, match=r"'p.w' is float32\(2,\), the value given float32\(3,\)"):
        graph({"w": b, "b": b}, 2.0)


def test_graphs_within_graphs():
    inner = UniversalGraph.trace(lambda a: ops.sin(a) * a, Spec((3,)))
    outer = UniversalGraph.trace(lambda b: ops.sum(inner(b * 2.0)), Spec((3,)))
    b = x(3)
    np.testing.assert_array_equal(outer(b), np.sum(np.sin(b * 2) * (b * 2)))
    assert {n.op for n in outer.nodes} == {"input", "constant", "multiply", "sin", "sum"}


def test_the_loss_of_a_gradient_is_chosen():
    graph = UniversalGraph.trace(lambda a: {"loss": ops.sum(a * a), "other": a}, Spec((2,)))
    np.testing.assert_array_equal(graph.grad("loss", "a")(np.ones(2, np.float32)), [2, 2])
    with pytest.raises(GraphError, match="name it with loss="):
        graph.grad()
    with pytest.raises(GraphError, match="one real number, not float32"):
        graph.grad("other")
    with pytest.raises(GraphError, match="there is no output 'x'"):
        graph.grad("x")
    with pytest.raises(GraphError, match="no input has the name 'b'; it has 'a'"):
        graph.grad("loss", "b")
    with pytest.raises(GraphError, match="only floating-point"):
        UniversalGraph.trace(lambda a: ops.sum(a * 1.5), Spec((2,), np.int64)).grad(wrt="a")


# ---- builders ----


def test_a_graph_node_by_node():
    graph = Builder()
    a, w = graph.input("a", ("B", 3)), graph.parameter("w", x(3, 2))
    q, r = graph.add("qr", graph.add("matmul", w, w.builder.constant(x(2, 2))))
    built = graph.build(
        {"y": graph.add("softmax", graph.add("matmul", a, q)), "r": graph.add("concat", [r, r], axis=1)}
    )
    assert isinstance(built, SizedGraph) and built(x(5, 3))["y"].shape == (5, 2)
    assert built.view().tree["y"].shape[0].symbol == "B"
    assert built.bind(B=4).tree["r"].shape == (2, 4)


def test_a_builder_refuses_at_once():
    graph = Builder()
    a = graph.input("a", (2, 3))
    with pytest.raises(
        GraphError, match=r"(?s)matmul\(float32\(2, 3\), float32\(2, 3\)\).*at .*in test_a_builder.*from input 'a'"
    ):
        graph.add("matmul", a, a)
    with pytest.raises(GraphError, match="unknown operation 'matmull'; did you mean 'matmul'"):
        graph.add("matmull", a, a)
    with pytest.raises(GraphError, match="'a' is taken"):
        graph.parameter("a", 1.0)
    with pytest.raises(GraphError, match="another builder"):
        Builder().add("exp", a)
    with pytest.raises(GraphError, match="values of this builder"):
        graph.build([3])


def test_models_layer_by_layer():
    model = Model().add(nn.Linear(4, 3)).add(nn.ReLU()).add("softmax", axis=-1).add(lambda a: a * 2.0)
    built = model.build()
    a = x(6, 4)
    np.testing.assert_array_equal(built(a), (ops.softmax(model.layers[1](model.layers[0](a))) * 2.0).raw)
    assert set(built.parameters) == {"0.weight", "0.bias"}
    assert len(Model().add(built).add("exp").build("B", 4).bind(B=2)) == len(built.bind(B=2)) + 1
    with pytest.raises(GraphError, match="no layers"):
        Model().build()
    with pytest.raises(GraphError, match="needs the shape"):
        Model().add("exp").build()
    with pytest.raises(TypeError, match="not int"):
        Model().add(3)


# ---- symbolic sizes ----


def test_a_family_is_right_for_every_size():
    def loss(a, t):
        h = ops.reshape(a, shape=(a.shape[0] * 2, 3))
        return ops.mean(ops.sum(h * h, axis=1)) + ops.mean(t)

    family = UniversalGraph.trace(loss, Spec(("B", 6)), Spec(("B", "T")))
    assert "float32(2*B, 3)" in str(family) and repr(family).startswith("<SizedGraph of B, T: loss(")
    gradient = family.grad(value=True).optimize()
    for b, t in ((1, 1), (2, 5), (7, 3)):
        a, u = x(b, 6), x(b, t)
        value, grads = gradient(a, u)
        ta, tu = DiffTensor(a, requires_grad=True), DiffTensor(u, requires_grad=True)
        expected = loss(ta, tu)
        expected.backward()
        assert value == expected.raw
        np.testing.assert_array_equal(grads["a"], ta.grad)
        np.testing.assert_array_equal(grads["t"], tu.grad)
    with pytest.raises(GraphError, match="B is 2 elsewhere, but 3 in the input 't'"):
        family(x(2, 6), x(3, 2))
    with pytest.raises(GraphError, match=r"bind needs B, T"):
        family.bind(B=2)


@pytest.mark.parametrize(
    ("fun", "message"),
    [
        (lambda a: a * a.shape[0] ** 0.5, "depends on B in a way"),
        (lambda a: sum((a[i] for i in range(a.shape[0])), 0.0), "the number of operations"),
        (lambda a: a + np.arange(a.shape[0], dtype=np.float32), "constant array"),
        (lambda a: a[: a.shape[0] ** 2 // 50], "wrong for B=37"),
    ],
)
def test_what_a_symbol_cannot_stand_for(fun, message):
    with pytest.raises(GraphError, match=message):
        UniversalGraph.trace(fun, Spec(("B",)))


# ---- plans ----


def test_dead_values_are_written_over_and_nothing_else():
    def chain(a):
        b = ops.exp(a)
        c = b + 1.0
        d = ops.reshape(c, shape=(-1,))
        e = ops.tanh(c)
        return ops.sqrt(e * e) + 1.0, d

    graph = UniversalGraph.trace(chain, Spec((64, 64)))
    plan = graph.plan()
    assert plan.source.count("out=") >= 3
    a = x(64, 64)
    first = graph(a)
    kept = [np.array(o) for o in first]
    graph(a * 2)
    for o, k, e in zip(first, kept, chain(a), strict=True):
        np.testing.assert_array_equal(o, k)
        np.testing.assert_array_equal(o, e)


def test_arguments_in_another_order_give_eager_bits():
    def fun(a, b):
        return ops.sum((a * b + 1.0) * 2.0, axis=0), ops.sum(a * 1.0)

    graph = UniversalGraph.trace(fun, Spec((50, 70)), Spec((50, 70)))
    for a, b in ((x(70, 50).T, x(50, 70)), (x(70, 50).T, x(70, 50).T), (x(50, 140)[:, ::2], x(50, 70))):
        for found, expected in zip(graph(a, b), fun(a, b), strict=True):
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", sorted(FRESH))
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_fresh_rows_return_memory_of_their_own(name):
    @settings(max_examples=6, database=None, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(calls(name))
    def law(call):
        arrays = [a for a in call.inputs if isinstance(a, np.ndarray)]
        out = call.run(*call.inputs)
        for o in out if isinstance(out, tuple) else (out,):
            assert not any(np.shares_memory(o, a) for a in arrays)

    law()


def test_errors_name_the_operation_its_inputs_and_the_line():
    graph = UniversalGraph.trace(lambda a: ops.cholesky(a) * 2.0, Spec((2, 2), np.float64))
    with pytest.raises(Exception, match=r"cholesky\(float64\(2, 2\)\).*\n  at .*test_graph_core.py") as caught:
        graph(-np.eye(2))
    assert caught.value.__cause__ is not None


def test_plans_of_other_libraries():
    xp = pytest.importorskip("array_api_strict")
    graph = UniversalGraph.trace(lambda a: ops.sum(ops.exp(a) * 2.0, axis=1), Spec((2, 3), np.float64))
    a = np.arange(6.0).reshape(2, 3)
    out = graph(xp.asarray(a))
    assert type(out).__module__.startswith("array_api_strict")
    np.testing.assert_allclose(np.asarray(out), graph(a))


def test_a_plan_without_reuse():
    graph = UniversalGraph.trace(lambda a: ops.exp(a + 1.0) * 2.0, Spec((40, 40)))
    plan = Plan(graph, reuse=False)
    assert "out=" not in plan.source
    a = x(40, 40)
    np.testing.assert_array_equal(plan([a])[0], graph(a))


# ---- files ----


def everything(a, k):
    b = a[1:, ..., None] + np.asfortranarray(np.arange(6.0, dtype=np.float32).reshape(3, 2))[0, 1]
    q, _ = ops.qr(ops.astype(a, dtype=np.float64))
    return {"b": [ops.concat([b, b], axis=0), ops.take(a, k, axis=1)], "q": ops.sum(q * (1 + 2j)) * True}


def test_a_saved_graph_is_the_same_graph(tmp_path):
    layer = nn.Linear(4, 3)
    for graph, args in (
        (UniversalGraph.trace(everything, x(3, 4), np.array([0, 2])), (x(3, 4), np.array([0, 2]))),
        (UniversalGraph.trace(lambda a: ops.mean(layer(a)), Spec(("B", 4))).grad(value=True), (x(5, 4),)),
    ):
        path = tmp_path / "graph.safetensors"
        graph.save(path)
        loaded = UniversalGraph.load(path)
        assert str(loaded) == str(graph) and type(loaded) is type(graph)
        a, b = graph(*args), loaded(*args)
        assert repr(a) == repr(b)
        again = tmp_path / "again.safetensors"
        loaded.save(again)
        assert again.read_bytes() == path.read_bytes()


def test_mixed_precision_is_kept(tmp_path):
    layer = nn.Linear(4, 3)
    with AutogradContext(precision="fp16"):
        graph = UniversalGraph.trace(lambda a: ops.exp(layer(a)), Spec((2, 4)))
    graph.save(tmp_path / "g.safetensors")
    a = x(2, 4)
    with AutogradContext(precision="fp16"):
        expected = ops.exp(layer(a)).raw
    assert graph.outputs[0].dtype == expected.dtype
    np.testing.assert_array_equal(graph(a), expected)
    np.testing.assert_array_equal(UniversalGraph.load(tmp_path / "g.safetensors")(a), expected)


def test_bad_files_are_refused(tmp_path):
    from autograd.train.files import load_state, save_state

    path = tmp_path / "g.safetensors"
    UniversalGraph.trace(lambda a: ops.exp(a), Spec((2,))).save(path)
    content = load_state(path)
    for change, message in (
        (lambda g: g.update(version=99), "version 99"),
        (lambda g: g["nodes"][1].update(op="system"), "unknown operation 'system'"),
        (lambda g: g["nodes"][1].update(shape=[3]), "but it is"),
        (lambda g: g["nodes"][1].update(attributes={"axis": 0}), "has the parameters"),
        (lambda g: g["nodes"][1].update(inputs=[7]), "makes no sense"),
    ):
        changed = copy.deepcopy(content)
        change(changed["graph"])
        save_state(path, changed)
        with pytest.raises(GraphError, match=message):
            UniversalGraph.load(path)
    save_state(path, {"model": {}})
    with pytest.raises(GraphError, match="not of a graph"):
        UniversalGraph.load(path)
    path.write_bytes(path.read_bytes()[:-9] + b"123456789")
    with pytest.raises(DamagedCheckpoint):
        UniversalGraph.load(path)
    with pytest.raises(CheckpointError, match="ends with"):
        UniversalGraph.trace(lambda a: a, Spec((2,))).save(tmp_path / "g.json")


# ---- looking and weighing ----


def test_drawings_and_costs():
    graph = UniversalGraph.trace(lambda a, w: ops.exp(a @ w) * 2.0, Spec((4, 3)), Spec((3, 5)))
    assert str(graph).splitlines()[1] == "    %0: float32(4, 5) = matmul(a, w)"
    dot, mermaid = graph.to_dot(), graph.to_mermaid()
    assert dot.count("->") == mermaid.count("-->") == 4 and '"a\\nfloat32(4, 3)"' in dot and "multiply 2.0" in mermaid
    cost = graph.cost()
    assert cost.flops == 2 * 4 * 3 * 5 + 20 * 10 + 20 and cost.bytes == 4 * (12 + 15 + 20 + 40 + 40)
    assert cost.intensity == cost.flops / cost.bytes and list(cost.by_operation()) == ["exp", "matmul", "multiply"]
    assert str(cost).splitlines()[-1].startswith("total")


def test_memory_order_is_that_of_eager_code():
    def fun(a):
        total = ops.sum(ops.exp(a) * 1.5)
        return total, ops.sum(ops.permute(a, axes=(1, 0)) * 2.0), (ops.permute(a, axes=(1, 0)) + 0.5) * 3.0

    graph = UniversalGraph.trace(fun, Spec((61, 61)))
    assert "flags.c_contiguous" in graph.plan().source
    a = x(61, 61)
    for found, expected in zip(graph(a), fun(a), strict=True):
        np.testing.assert_array_equal(found, expected)
        assert found.strides == expected.strides
