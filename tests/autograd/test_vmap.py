"""vmap is the loop over examples: for every row, in every nesting with other transforms."""

import warnings

import numpy as np
import pytest

from autograd import (
    OPS,
    AutogradContext,
    DiffTensor,
    functional_call,
    grad,
    gradient_noise_scale,
    gradient_signal_to_noise,
    hessian,
    jacobian,
    jvp,
    nn,
    no_grad,
    ops,
    per_example_gradients,
    per_example_norms,
    vjp,
    vmap,
)
from autograd.batching import rule_of
from autograd.table import op
from autograd.testing import assert_vmap_equals_loop, check_batching

RNG = np.random.default_rng(np.random.SeedSequence(0))
X = RNG.normal(size=(5, 3))
A = RNG.normal(size=(4, 3))
W = RNG.normal(size=3)


def close(found, expected, rtol=1e-10):
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=rtol, atol=1e-12)


def t(x):
    """A tensor, for methods that arrays lack."""
    return x if isinstance(x, DiffTensor) else DiffTensor(x)


# ---- every row ----


@pytest.mark.parametrize("name", ["multiply", "getitem", "concat", "conv", "eigh"])
def test_row_equals_loop(name):  # check_row does it for every row
    check_batching(name)


def test_no_row_runs_example_by_example():
    assert [name for name, row in OPS.items() if rule_of(row) is None] == []


def test_a_row_without_a_rule_runs_example_by_example_and_says_so():
    try:
        shout = op(
            "shout",
            lambda x, *, loud=2.0: x * loud,
            lambda x, loud: (x.shape, x.dtype),
            lambda g, _y, _x, loud: g * loud,
        )
        with pytest.warns(UserWarning, match="shout has no batching rule, so it runs 5 times"):
            assert_vmap_equals_loop(lambda x: shout(x, loud=3.0), X)
        assert np.array_equal(jacobian(lambda x: shout(x, loud=3.0))(np.ones(6)), 3.0 * np.eye(6))  # no warning
        with pytest.raises(ValueError, match="no examples"):
            vmap(shout)(X[:0])
    finally:
        OPS.pop("shout", None)


def test_a_row_may_bring_its_rule():
    try:
        tripled = op(
            "tripled", lambda x, *, k=3.0: x * k, lambda x, k: (x.shape, x.dtype), lambda g, _y, _x, k: g * k,
            batch=lambda call, x, *, k: call.apply(x, k=k),
        )  # fmt: skip
        assert_vmap_equals_loop(lambda x: tripled(x), X)
    finally:
        OPS.pop("tripled", None)


@pytest.mark.parametrize("both", [(0, 0), (0, None), (None, 0)])
@pytest.mark.parametrize(
    "shapes", [((3,), (3,)), ((3,), (3, 2)), ((2, 3), (3,)), ((4, 3), (3, 2)), ((2, 4, 3), (3,)), ((3,), (2, 3, 4)), ((2, 1, 4, 3), (5, 3, 2))]
)  # fmt: skip
def test_matmul(shapes, both):
    args = [RNG.normal(size=(3, *s) if axis == 0 else s) for s, axis in zip(shapes, both, strict=True)]
    assert_vmap_equals_loop(lambda x, y: ops.matmul(x, y), *args, in_axes=both)
    if len(shapes[0]) > 0 and len(shapes[1]) == 2:
        assert_vmap_equals_loop(
            lambda x, y, b: ops.linear(x, ops.swapaxes(y, -1, -2), b),
            *args,
            RNG.normal(size=(3, shapes[1][1])),
            in_axes=(*both, 0),
        )


@pytest.mark.parametrize("axes", [(0, 0, 0), (None, 0, 0), (0, 0, None), (None, None, 0)])
def test_indices_that_differ_between_examples(axes):
    x, i, j = RNG.normal(size=(3, 4, 5)), np.array([0, 3, -1]), np.array([[0, 1], [-2, 3], [3, 3]])
    args = [a if axis == 0 else a[1] for a, axis in zip((x, i, j), axes, strict=True)]
    for pick in (
        lambda x, i, j: t(x)[t(i)],
        lambda x, i, j: t(x)[:, t(j)],
        lambda x, i, j: t(x)[t(i), t(j)],
        lambda x, i, j: t(x)[..., t(j)],
        lambda x, i, j: t(x)[None, 1:3, t(j)],
        lambda x, i, j: t(x)[t(i), 2],
        lambda x, i, j: t(x)[t(i), -2:],
        lambda x, i, j: t(x)[t(j), [1, 2]],
    ):
        assert_vmap_equals_loop(pick, *args, in_axes=axes)


@pytest.mark.parametrize("index", [(slice(None), 0, np.array([1, 0])), (0, slice(None), np.array([1, 0])), (np.array([[True, False, True]] * 2), slice(1)), (None, np.int64(1), ...), (np.array([1, 1]), slice(None), np.array([2, 0]))])  # fmt: skip
def test_index_expressions(index):
    x = RNG.normal(size=(4, 2, 3, 5))
    assert_vmap_equals_loop(lambda x: t(x)[index], x)
    picked = np.empty((2, 3, 5))[index].shape
    assert_vmap_equals_loop(lambda v: ops.scatter(v, index=index, shape=(2, 3, 5)), RNG.normal(size=(4, *picked)))
    if not (isinstance(index[0], np.ndarray) and index[0].dtype == int):
        for axes in ((0, 0), (0, None), (None, 0)):
            for shape in (picked, picked[1:]):
                args = [x if axes[0] == 0 else x[0], RNG.normal(size=(4, *shape) if axes[1] == 0 else shape)]
                assert_vmap_equals_loop(lambda x, v: ops.put(x, v, index=index), *args, in_axes=axes)


@pytest.mark.parametrize("reps", [2, (3, 1), (2, 1, 3), (2, 1, 1, 3)])
def test_tile(reps):
    assert_vmap_equals_loop(lambda x: ops.tile(x, reps=reps), RNG.normal(size=(4, 2, 3, 2)))


# ---- nesting ----


def test_gradients_of_examples():
    close(vmap(grad(lambda v: ops.sum(ops.sin(v) * v)))(X), np.cos(X) * X + np.sin(X))
    close(vmap(grad(lambda w, v: ops.sum(ops.sin(v * w))), in_axes=(None, 0))(W, X), np.cos(X * W) * X)
    close(vmap(lambda v: grad(lambda u: ops.sum(u * u * 3.0))(W))(X), np.broadcast_to(6 * W, X.shape))


def test_gradient_through_vmap():
    close(grad(lambda w: ops.sum(vmap(lambda v: ops.sum(ops.sin(v * w)))(X)))(W), (np.cos(X * W) * X).sum(0))
    tracked = DiffTensor(X, requires_grad=True)
    ops.sum(vmap(lambda v: ops.sum(v**3))(tracked)).backward()
    close(tracked.grad, 3 * X**2)


def test_gradient_through_gradients_of_examples():
    def inside(w):
        return ops.sum(vmap(lambda v: grad(lambda v: ops.sum(ops.sin(v * w)))(v))(X) ** 2)

    def by_hand(w):
        return ops.sum((ops.cos(X * w) * w) ** 2)

    close(grad(inside)(W), grad(by_hand)(W))
    close(hessian(inside)(W), hessian(by_hand)(W))
    # the outer variable is also the inner one's
    close(
        grad(lambda w: ops.sum(vmap(grad(lambda w, v: ops.sum(ops.sin(v * w))), (None, 0))(w, X) ** 3))(W),
        grad(lambda w: ops.sum((ops.cos(X * w) * X) ** 3))(W),
    )


def test_two_levels():
    close(vmap(lambda a: vmap(lambda b: ops.sum(a * b) * a)(X))(A), np.einsum("ik,jk,il->ijl", A, X, A))
    close(vmap(lambda a: vmap(lambda _: 2.0 * a)(X))(A), np.repeat(2 * A[:, None], 5, 1))

    def inside(w):
        return ops.sum(vmap(lambda a: vmap(lambda b: grad(lambda c: ops.sum(ops.sin(a * b * c)))(w * a))(X))(A))

    def by_hand(w):
        return sum(ops.sum(ops.cos(a * b * w * a) * a * b) for a in A for b in X)

    close(grad(inside)(W), grad(by_hand)(W))


def test_gradient_between_two_levels():
    def inside(w):
        return ops.sum(
            vmap(lambda a: grad(lambda a: ops.sum(vmap(lambda b: ops.sum(ops.sin(a * b * w)))(X)))(a))(A) ** 2
        )

    def by_hand(w):
        return sum(ops.sum(sum(ops.cos(a * b * w) * b * w for b in X) ** 2) for a in A)

    close(grad(inside)(W), grad(by_hand)(W))
    close(hessian(inside)(W), hessian(by_hand)(W))


def test_other_transforms_inside():
    def f(v):
        return ops.sin(v) * v[1] * W

    close(vmap(lambda v: jvp(f, (v,), (v * 2,))[1])(X), np.stack([jvp(f, (v,), (v * 2,))[1] for v in X]))
    close(vmap(jacobian(f))(X), np.stack([jacobian(f)(v) for v in X]))
    close(vmap(hessian(lambda v: ops.sum(f(v))))(X), np.stack([hessian(lambda v: ops.sum(f(v)))(v) for v in X]))
    close(vmap(lambda v: vjp(f, v)[1](v)[0])(X), np.stack([vjp(f, v)[1](v)[0] for v in X]))
    close(jvp(vmap(f), (X,), (X,))[1], np.stack([jvp(f, (v,), (v,))[1] for v in X]))


def test_detach_and_no_grad_inside():
    close(grad(lambda x: ops.sum(vmap(lambda v: v.detach() * v)(x)))(X), X)
    close(vmap(grad(lambda v: ops.sum(v.detach() * v)))(X), X)

    def half_constant(v):
        with no_grad():
            c = v * 2.0
        return ops.sum(c * v)

    close(grad(lambda x: ops.sum(vmap(half_constant)(x)))(X), 2 * X)
    close(vmap(grad(half_constant))(X), 2 * X)


def test_symbolic():
    s = DiffTensor.symbol((5, 3))
    g = vmap(grad(lambda v: ops.sum(v**3)))(s)
    assert g.raw is None and g.shape == (5, 3) and g.dtype == np.float32


def test_what_is_observed_is_done_once():
    seen = []
    with AutogradContext(observer=lambda row, inputs, params, outputs: seen.append((row.name, outputs[0].shape))):
        vmap(lambda v: ops.sin(v * W))(X)
    assert seen == [("multiply", (5, 3)), ("sin", (5, 3))]


def test_anomaly_is_found_inside():
    with AutogradContext(anomaly=True), np.errstate(all="ignore"), pytest.raises(FloatingPointError, match="log"):
        grad(lambda x: ops.sum(vmap(ops.log)(x)))(-X * 0.0 - 1.0)


# ---- arguments and results ----


def test_axes():
    out = vmap(
        lambda d, k: {"a": d["x"] * k, "b": (d["y"], k)}, in_axes=({"x": 1, "y": None}, None), out_axes={"a": 1, "b": 0}
    )({"x": X.T.copy().T, "y": W}, 2.0)
    close(out["a"], X * 2.0)
    assert out["b"][0].shape == (3, 3) and np.array_equal(out["b"][1], [2.0, 2.0, 2.0])
    close(vmap(lambda v: v, in_axes=-1, out_axes=-1)(X), X)
    close(vmap(lambda v: W, out_axes=None)(X), W)
    close(vmap(lambda v, k: v * k)(X, k=2.0), X * 2.0)
    assert vmap(lambda v: v * 2)(X[:0]).shape == (0, 3)
    assert isinstance(vmap(lambda v: v)(X), np.ndarray) and isinstance(vmap(lambda v: v)(DiffTensor(X)), DiffTensor)
    assert vmap(lambda v: v * 2.0)(X.astype(np.float32)).dtype == np.float32
    texts = []
    vmap(lambda v: texts.append(repr(v)) or v)(X)
    assert texts == ["DiffTensor(Batch(5 × float64(3,)))"]


@pytest.mark.parametrize(
    "call, error, words",
    [
        (lambda: vmap(lambda x: x if x.sum() > 0 else -x)(X), TypeError, "bool.*inside vmap.*where"),
        (lambda: vmap(lambda x: float(x.sum()))(X), TypeError, "float.*inside vmap"),
        (lambda: vmap(lambda x: x.numpy())(X), TypeError, "asarray.*inside vmap"),
        (lambda: vmap(lambda x: x.sum().item())(X), TypeError, "inside vmap"),
        (lambda: vmap(lambda x, y: x)(X, X[:2]), ValueError, "different numbers of examples"),
        (lambda: vmap(lambda x: x)(1.0), ValueError, "no axis 0 to map"),
        (lambda: vmap(lambda x: x, in_axes=None)(X), TypeError, "no argument is mapped"),
        (lambda: vmap(lambda x: x, in_axes=(0, 1))(X), ValueError, "in_axes"),
        (lambda: vmap(lambda x: x, in_axes=1.5)(X), TypeError, "integers and None"),
        (lambda: vmap(lambda x: x, out_axes=7)(X), ValueError, "out_axes=7"),
        (lambda: vmap(lambda x: x, out_axes=None)(X), ValueError, "differs between the examples"),
        (lambda: vmap(lambda x: ops.sum(x, axis=5))(X), ValueError, r"sum\(float64\(3,\), axis=5.*out of range"),
        (lambda: vmap(lambda x: DiffTensor(x, requires_grad=True) * 2)(X), ValueError, "tracks itself"),
        (lambda: vmap(lambda x, i: x[i])(X, np.array([0, 1, 3, 0, 0])), IndexError, "places from 0 to 3"),
        (lambda: vmap(lambda x: x[x > 0])(X), IndexError, "mask"),
        (lambda: vmap(lambda x, i: x.at[i].set(0.0))(X, np.zeros(5, int)), TypeError, "where"),
        (lambda: vmap(lambda w, i: nn.Embedding(3, 2, rng=0)(i), (None, 0))(W, np.array([0, 3])), IndexError, "from 0 to 2"),
    ],
)  # fmt: skip
def test_errors(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_a_leaked_value_is_refused():
    leaked = []
    vmap(lambda x: leaked.append(x) or x)(X)
    with pytest.raises(TypeError, match="outside of it"):
        leaked[0] * 2.0


def test_what_is_the_same_for_all_examples_can_be_read():
    w = DiffTensor(2.0, requires_grad=True)
    close(vmap(lambda x: x * 2 if w * 3.0 > 5.0 else x)(X), X * 2)


# ---- jacobian by vmap ----


@pytest.mark.parametrize("n", [1, 4, 5, 150])
def test_jacobian_is_the_loop_over_rows(n):
    m = RNG.normal(size=(6, n))

    def f(x):
        return ops.tanh(x["u"] @ m) * ops.sum(x["v"])

    x = {"u": RNG.normal(size=6), "v": RNG.normal(size=(2, 2))}
    found = jacobian(f)(x)
    rows = [vjp(f, x)[1](row)[0] for row in np.eye(n)]
    for key in x:
        close(found[key], np.stack([r[key] for r in rows]))
    assert jacobian(lambda x: np.ones(7))(W).shape == (7, 3) and not jacobian(lambda x: np.ones(7))(W).any()
    assert jacobian(ops.sin)(DiffTensor.symbol((7,))).shape == (7, 7)


# ---- examples one by one ----


def loss(p, x, y):
    return ops.cross_entropy(ops.tanh(x @ p["w"] + p["b"]) @ p["v"], y)


P = {"w": RNG.normal(size=(3, 4)), "b": RNG.normal(size=4), "v": RNG.normal(size=(4, 2))}
Y = np.array([0, 1, 1, 0, 1])


def test_per_example_gradients_and_norms():
    found = per_example_gradients(loss, P, X, Y)
    each = [grad(loss)(P, x, y) for x, y in zip(X, Y, strict=True)]
    for key in P:
        close(found[key], np.stack([g[key] for g in each]))
    close(per_example_norms(loss, P, X, Y), [np.sqrt(sum(np.sum(g[k] ** 2) for k in P)) for g in each])


def test_noise_scale_and_signal_to_noise():
    g = per_example_gradients(loss, P, X, Y)
    flat = np.concatenate([g[k].reshape(5, -1) for k in P], axis=1)
    noise = gradient_noise_scale(loss, P, X, Y)
    trace = np.trace(np.cov(flat.T))
    true = np.sum(flat.mean(0) ** 2) - trace / 5
    close([noise.trace, noise.gradient, noise.examples], [trace, true, 5])
    close(noise.scale, trace / true if true > 0 else np.inf)
    same = gradient_noise_scale(loss, P, X[[0, 0]], Y[[0, 0]])
    assert abs(same.scale) < 1e-12
    ratio = gradient_signal_to_noise(loss, P, X, Y)
    close(ratio["b"], g["b"].mean(0) ** 2 / g["b"].var(0, ddof=1))
    constant = gradient_signal_to_noise(
        lambda p, x: p["a"] + 0.0 * ops.sum(p["z"] * x[:2]), {"a": 1.0, "z": np.zeros(2)}, X
    )
    assert constant["a"] == np.inf and not constant["z"].any()
    with pytest.raises(ValueError, match="at least two examples"):
        gradient_noise_scale(loss, P, X[:1], Y[:1])


def test_per_example_gradients_of_a_module():
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, rng=0), nn.GroupNorm(2, 4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 3, rng=1)
    )
    params = {name: p.data.astype(np.float64) for name, p in model.named_parameters()}
    x, y = RNG.normal(size=(4, 1, 1, 6, 6)), np.array([0, 1, 2, 1])

    def of(p, x, y):
        return ops.sum(ops.cross_entropy(functional_call(model, p, x), y))

    before = [p.raw for p in model.parameters()]
    found = per_example_gradients(of, params, x, y[:, None])
    for key in params:
        close(found[key], np.stack([grad(of)(params, x[k], y[k, None])[key] for k in range(4)]), 1e-7)
    assert all(a is b for a, b in zip(before, (p.raw for p in model.parameters()), strict=True))
    with pytest.raises(ValueError, match="no parameter 'nope'"):
        functional_call(model, {"nope": W}, x[0])
    with pytest.raises(ValueError, match="has shape"):
        functional_call(model, {"0.bias": W}, x[0])


def test_no_warnings_in_normal_use():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vmap(grad(lambda v: ops.sum(ops.softmax(v))))(X)
