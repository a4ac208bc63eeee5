"""The checkers themselves: they accept what is right, and find every kind of fault that is planted here."""

import functools
import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autograd import OPS, DiffTensor, no_grad, ops
from autograd.backend import xp
from autograd.shapes import same, same_float, stretched
from autograd.table import Domain, op
from autograd.testing import assert_jvp_vjp_dual, assert_vjp, calls, check_grads, check_row, rows, strategies
from autograd.testing.numeric import analytic, complex_step, differences, rounded


@pytest.fixture
def row():
    """A function that enters rows which leave the table after the test."""
    names = []

    def enter(name, *args, draw=None, **kwargs):
        names.append(name)
        entered = op(name, *args, **kwargs)

        @calls.strategy(name)
        def build(d, row):
            return (draw or calls._elementwise)(d, row) if draw is None else draw(d, row)

        return entered

    yield enter
    for name in names:
        OPS.pop(name, None)
        calls._BUILDERS.pop(name, None)


def identity(row, rule, name="faulty", **columns):
    """A row that multiplies by one, with a rule of choice."""
    return row(name, lambda x: x * 1.0, same_float, rule, **columns)


# ---- check_grads: what is right ----

RNG = np.random.default_rng(0)
X, W = RNG.normal(size=(3, 4)), RNG.normal(size=(4, 2))


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e-3, 1.0, 1e12])
@pytest.mark.parametrize(
    "fn",
    [ops.sin, lambda x: ops.abs(x) * x, lambda x: ops.relu(x), lambda x: ops.exp(x).sum()],
    ids=["analytic", "|x|x", "relu", "sum"],
)
def test_right_derivatives_pass_at_any_scale(fn, scale):
    check_grads(lambda x: fn(x) * scale, np.array([0.7, -1.3, 2.0]))
    if scale != 1e-30 and scale < 1e3:
        check_grads(lambda x: fn(x / scale), np.array([0.7, -1.3, 2.0]) * scale)


def test_trees_names_and_other_leaves():
    params = {"w": X, "n": 3, "name": "kept", "b": [np.float32(1.5), None]}
    seen = []

    def fn(p, ids, y):
        seen.append((p["n"], p["name"], type(ids)))
        return {"a": ops.tanh(p["w"] @ y) * p["n"], "b": (p["w"][ids].sum() * p["b"][0], ids)}

    check_grads(fn, params, np.array([0, 0]), W)
    assert set(seen) == {(3, "kept", np.ndarray)}


def test_numbers_and_tensors_as_arguments():
    check_grads(lambda x, y: x * y + x**2, 2.0, DiffTensor(3.0))
    check_grads(lambda x: 3.0 * x, np.float32(2.0))
    check_grads(lambda x, n: x**n, 2.0, 3)  # an integer is a constant


def test_only_the_arguments_named():
    def wrong_in_y(x, y):
        return x * x + getattr(y, "detach", lambda: y)() * y

    check_grads(wrong_in_y, 1.5, 2.0, argnums=0)
    check_grads(wrong_in_y, 1.5, 2.0, argnums=[-2])
    with pytest.raises(AssertionError, match="argument 1"):
        check_grads(wrong_in_y, 1.5, 2.0)


def test_single_precision_is_checked_in_double():
    seen = []

    def fn(x):
        seen.append(x.dtype)
        return ops.sin(x)

    check_grads(fn, X.astype(np.float32), rtol=1e-9)
    assert set(map(str, seen)) <= {"float64", "complex128"}


def test_a_function_that_insists_on_single_precision():
    def fn(x):
        if x.dtype not in (np.float32, np.complex64):
            raise TypeError("single precision only")
        return ops.sin(x) * x

    check_grads(fn, X.astype(np.float32), order=1, rtol=1e-3)
    with pytest.raises(AssertionError, match="wrong derivative"):
        check_grads(lambda x: fn(x) * x.detach(), X.astype(np.float32), order=1, rtol=1e-3)


def test_complex_arguments_and_results():
    z = X[0] + 1j * X[1]
    check_grads(lambda z: ops.exp(z) * z, z)
    check_grads(lambda z: ops.real(z * ops.conj(z)), z)
    with pytest.raises(AssertionError, match="imaginary part"):
        check_grads(lambda z: ops.real(z) + 1j * ops.imag(z).detach(), z, order=1)


def test_large_arrays_by_random_directions():
    big = RNG.normal(size=(60, 20))
    check_grads(lambda x: ops.log_softmax(x) ** 2, big, order=1)
    with pytest.raises(AssertionError, match="wrong derivative"):
        check_grads(lambda x: ops.log_softmax(x) * x.detach(), big, order=1)


# ---- check_grads: what is wrong ----


@pytest.mark.parametrize("scale", [1e-280, 1e-30, 1e-12, 1e-9, 1.0, 1e12])
@pytest.mark.parametrize("factor", [0.0, -1.0, 2.0, 1.0001])
def test_a_wrong_gradient_of_any_size_is_found(row, factor, scale):
    faulty = identity(row, lambda g, _y, _x: g * factor)
    for fn in (
        lambda x: faulty(x) * scale,
        lambda x: ops.abs(faulty(x)) * scale,
        lambda x: ops.sum(ops.sin(faulty(x))) * scale,
    ):
        with pytest.raises(AssertionError, match="wrong derivative"):
            check_grads(fn, np.array([1.5, -0.5]))


def test_a_tiny_gradient_beside_a_large_one(row):
    double, none = identity(row, lambda g, _y, _x: g * 2.0), identity(row, lambda g, _y, _x: g * 0.0, "none")
    for faulty, fn in itertools.product(
        (double, none),
        (
            lambda f, x, y: ops.sin(x) * 1e6 + f(y) * 1e-9,
            lambda f, x, y: ops.abs(x) + f(y) * 1e-9,
            lambda f, x, y: 1.0 + 1e-9 * f(ops.sin(x * y)),
        ),
    ):
        with pytest.raises(AssertionError, match=r"wrong derivative .*argument [01]: the tape gives"):
            check_grads(functools.partial(fn, faulty), 1.0, 2.0)
    with pytest.raises(AssertionError, match="cannot be decided"):  # 1e-15 of the function, which is not analytic
        check_grads(lambda x, y: ops.abs(x) * 1e6 + none(y) * 1e-9, 1.0, 2.0)
    together = np.array([1.0, 2.0])
    with pytest.raises(AssertionError, match=r"argument 0\[1\]"):
        check_grads(lambda x: ops.abs(x[0]) + double(x[1]) * 1e-9, together)


def test_a_wrong_second_derivative(row):
    faulty = row(
        "faulty_square",
        lambda x: x * x,
        same,
        lambda g, _y, x: g * 2.0 * (x.detach() if isinstance(x, DiffTensor) else x),
    )
    check_grads(faulty, np.array([1.5]), order=1)
    with pytest.raises(AssertionError, match=r"wrong derivative \(order 2, mode rev over rev\)"):
        check_grads(faulty, np.array([1.5]))
    check_grads(lambda x: ops.exp(x) * x, 0.5, order=3)


def test_a_wrong_forward_mode(row):
    # the rule is right on raw arrays, wrong when it is recorded, which only forward mode and higher orders see
    faulty = identity(row, lambda g, _y, _x: g * (3.0 if isinstance(g, DiffTensor) else 1.0))
    check_grads(faulty, 1.5, order=1, modes=("rev",))
    with pytest.raises(AssertionError, match=r"order 1, mode fwd"):
        check_grads(faulty, 1.5, order=1)
    with pytest.raises(AssertionError, match="disagree"):
        assert_jvp_vjp_dual(faulty, np.array([1.5, 2.5]))


def test_a_broken_tape_is_found():
    def with_no_grad(x):
        with no_grad():
            y = x * x
        return y * x

    for fn in (lambda x: x.detach() * x, lambda x: np.asarray(x.detach()) * x, with_no_grad, lambda x: x * float(x[0])):
        with pytest.raises(AssertionError, match="wrong derivative"):
            check_grads(fn, np.array([1.5, 2.5]))


def test_the_message_says_what_where_and_by_how_much(row):
    faulty = identity(row, lambda g, _y, _x: g * 2.0)
    with pytest.raises(AssertionError) as caught:
        check_grads(lambda p, y: {"loss": 3.0 * faulty(p["w"]) * y}, {"w": X}, 1.0, modes=("rev",))
    assert "order 1, mode rev" in str(caught.value)
    assert "of output['loss'][0, 0] with respect to argument 0['w'][0, 0]: the tape gives 6, complex step 3 ±" in str(
        caught.value
    )
    assert "(relative error 0.5)" in str(caught.value)


# ---- check_grads: what cannot be decided ----


@pytest.mark.parametrize(
    ("fn", "left", "right"),
    [(ops.relu, "0", "1"), (ops.abs, "-1", "1"), (lambda x: ops.maximum(x, x * 0.5), "0.5", "1")],
)
def test_a_kink_is_reported_as_such(fn, left, right):
    with pytest.raises(
        AssertionError, match=rf"not differentiable here .* are {left} and {right}; the tape gives"
    ) as caught:
        check_grads(fn, np.array([1.0, 0.0]))
    assert "argument 0[1]" in str(caught.value)


def test_a_zero_that_is_seen_to_be_one_passes():
    check_grads(lambda x: x**3, np.array([0.0, 1.0]))
    check_grads(lambda x: ops.cos(x), 0.0)
    check_grads(lambda x: ops.relu(x) * 1.0, np.array([-1.0, 2.0]))
    check_grads(lambda x: x * 0.0, 1.0)


def test_a_zero_by_cancellation_is_the_callers_decision():
    def fn(x):
        return ops.softmax(x).sum()

    with pytest.raises(AssertionError, match='undecided="pass"'):
        check_grads(fn, np.array([1.0, 2.0]))
    check_grads(fn, np.array([1.0, 2.0]), undecided="pass")


def test_a_function_that_is_not_finite():
    with pytest.raises(ValueError, match=r"not finite .* output\[1\] is nan"), np.errstate(all="ignore"):
        check_grads(lambda x: ops.log(x), np.array([1.0, -1.0]))
    with pytest.raises(AssertionError, match="the tape gives inf"), np.errstate(all="ignore"):
        check_grads(lambda x: x**0.3, 0.0)


def test_the_value_may_be_undefined_nearby():
    check_grads(ops.log, np.array([1e-3, 1.0]))
    check_grads(lambda x: ops.sqrt(x - 0.999), np.array([1.0]))


def test_a_random_function_is_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="different values at the same arguments"):
        check_grads(lambda x: x * rng.normal(), 1.0)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [({"modes": ("reverse",)}, ValueError, "modes"), ({"modes": "rev"}, ValueError, "modes"), ({"modes": ()}, ValueError, "modes"), ({"order": 0}, ValueError, "order"), ({"undecided": "?"}, ValueError, "undecided")],
)  # fmt: skip
def test_options_are_checked(options, error, message):
    with pytest.raises(error, match=message):
        check_grads(ops.sin, 1.0, **options)


def test_nothing_to_differentiate():
    with pytest.raises(TypeError, match="no argument holds floating-point"):
        check_grads(lambda n: n, 3)
    with pytest.raises(TypeError, match="returned nothing with floating-point"):
        check_grads(lambda x: x > 1, 3.0)
    with pytest.raises(TypeError, match="pass NumPy arrays"):
        import array_api_strict

        check_grads(ops.sin, array_api_strict.asarray(1.0))


def test_the_parts_on_their_own(row):
    assert_vjp(lambda x: ops.sin(x) * x, X)
    assert_jvp_vjp_dual(lambda x, w: ops.tanh(x @ w), X, W)
    with pytest.raises(AssertionError, match="mode rev"):
        assert_vjp(identity(row, lambda g, _y, _x: -g), X)


# ---- derivatives by evaluation ----


@pytest.mark.parametrize(
    ("f", "derivative"),
    [(np.exp, np.exp), (np.sin, np.cos), (lambda x: 1 / x, lambda x: -1 / x**2), (lambda x: x**7, lambda x: 7 * x**6), (lambda x: np.sin(100 * x), lambda x: 100 * np.cos(100 * x)), (np.abs, np.sign)],
)  # fmt: skip
@pytest.mark.parametrize("at", [0.3, 1.7, -2.5, 1e-6])
def test_differences_are_as_good_as_they_say(f, derivative, at):
    x = rounded(np.array([at]), 53)
    found = differences(f, x, np.array([2.0 ** math.floor(math.log2(abs(at)))]))
    expected = derivative(x) * 2.0 ** math.floor(math.log2(abs(at)))
    assert found.error[0] <= 1e-6 * abs(expected[0]) + 1e-12
    assert abs(found.value[0] - expected[0]) <= 4 * found.error[0] + 1e-13 * abs(expected[0])


def test_complex_steps_lose_nothing():
    x, v = np.array([0.3, 1e-9, 5.0]), np.array([0.25, 1e-9, 4.0])
    found = complex_step(lambda x: np.exp(x) * np.sin(x), x, v)
    np.testing.assert_allclose(found.value, np.exp(x) * (np.sin(x) + np.cos(x)) * v, rtol=1e-14)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("exp", True),
        ("multiply", True),
        ("matmul", True),
        ("power", True),
        ("where", True),
        ("einsum", True),
        ("abs", False),
        ("conj", False),
        ("real", False),
        ("imag", False),
        ("norm", False),
        ("var", False),
        ("maximum", False),
        ("relu", False),
        ("sort", False),
    ],
)
def test_which_rows_are_analytic_is_measured(name, expected):
    @strategies.settings(max_examples=5)
    @given(calls.calls(name))
    def check(call):
        if call.inexact and all(np.size(a) for a in call.inputs):
            assert analytic(call.row, call.inputs, call.params) == expected

    check()


# ---- strategies ----


@given(st.data())
def test_index_expressions_fit(data):
    shape = data.draw(strategies.shapes())
    np.empty(shape)[data.draw(strategies.index_expressions(shape))]


@given(st.data())
def test_index_expressions_without_repeats(data):
    shape = data.draw(strategies.shapes())
    counts = np.zeros(shape, int)
    np.add.at(counts, data.draw(strategies.index_expressions(shape, repeats=False)), 1)
    assert counts.max(initial=0) <= 1


@given(st.data(), st.integers(1, 3))
def test_broadcasting_shapes_broadcast(data, n):
    np.broadcast_shapes(*data.draw(strategies.broadcasting(n)))


@given(
    st.integers(0, 60),
    st.sampled_from([Domain(), Domain(avoid=(0.0,)), Domain(0.2, 3.0), Domain(avoid=(-1.0, 1.0)), Domain(-0.9, 0.9)]),
)
def test_numbers_are_in_the_domain_and_differ(n, domain):
    x = strategies.spread(np.random.default_rng(n), n, domain)
    assert x.shape == (n,) and np.all((x >= domain.low) & (x <= domain.high))
    assert all(np.all(np.abs(x - a) >= domain.gap) for a in domain.avoid)
    assert n < 2 or np.diff(np.sort(x)).min() > 1e-3


def test_strategies_reach_every_corner():
    shapes, kinds = [], set()

    @strategies.settings(max_examples=200)
    @given(strategies.shapes(), st.data())
    def collect(shape, data):
        shapes.append(shape)
        index = data.draw(strategies.index_expressions(shape))
        for part in index if isinstance(index, tuple) else (index,):
            kinds.add(str(part.dtype.kind) if isinstance(part, np.ndarray) else type(part).__name__)

    collect()
    assert (
        () in shapes
        and any(0 in s for s in shapes)
        and any(len(s) == 3 for s in shapes)
        and any(1 in s for s in shapes)
    )
    assert kinds == {"b", "i", "slice", "int", "NoneType", "ellipsis"}


# ---- check_row: every check finds its fault ----

PLANTED = {
    "derivative": (lambda x: x * x * 1.0, same_float, lambda g, _y, x: g * x, {}, "derivatives that evaluations give"),
    "second derivative": (lambda x: x * x * 1.0, same_float, lambda g, _y, x: g * 2.0 * (x.detach() if getattr(x, "raw", None) is not None else x), {}, "order 2"),
    "not linear in g": (lambda x: x * 1.0, same_float, lambda g, _y, _x: ops.where(ops.greater(ops.abs(g), 0.9), g, 0.5 * g), {}, "derivatives|disagree"),
    "complex": (lambda x: x * (1j if "complex" in str(x.dtype) else 1.0), same_float, lambda g, _y, _x: g, {}, "complex inputs"),
    "dtype": (lambda x: x * 1.0, same, lambda g, _y, _x: g, {}, "inferred bool"),
    "shape": (lambda x: xp(x).sum(x, axis=-1) if x.ndim > 1 else x, same_float, lambda g, _y, _x: g, {}, "hape and dtype are known"),
    "float32 forward": (lambda x: x * np.float64(1.0), lambda x: (same_float(x)[0], np.result_type(x, np.float64) if x.dtype.kind != "c" else x.dtype), lambda g, _y, _x: g, {"complex": False}, "float32 became float64"),
    "float32 in the rule": (lambda x: x * 1.0, same_float, lambda g, _y, _x: g * np.float64(1.0), {}, "float32 became float64"),
    "kept but not read": (lambda x: x * 1.0, same_float, lambda g, _y, x: g, {}, "never reads x"),
    "output kept but not read": (lambda x: x * 1.0, same_float, lambda g, y, _x: g, {}, "never reads y"),
    "read but not kept": (lambda x: x * x * 1.0, same_float, lambda g, _y, _x: g * 2.0 * _x, {}, "unsupported operand type.* and '(Leaf|Spec|Node)'"),
    "host copy": (lambda x: x * float(1.0 + 0.0 * np.asarray(x).sum()) if not hasattr(x, "_array") else x * (1.0 + 0.0 * float(xp(x).sum(x))), same_float, lambda g, _y, _x: g, {"complex": False}, "pretend device|another device"),
    "values on the device": (lambda x: x * (1.0 if isinstance(x, (np.ndarray, np.generic)) else 1.5), same_float, lambda g, _y, _x: g, {}, "on the device"),
    "NumPy in the rule": (lambda x: x * x * 1.0, same_float, lambda g, _y, x: g * np.multiply(np.asarray(getattr(x, "raw", x)), 2.0), {"complex": False}, "without a value|another device|order 2"),
    "cost": (lambda x: x * 1.0, same_float, lambda g, _y, _x: g, {"flops": math.nan}, "The cost is finite"),
    "writes into its input": (lambda x: np.multiply(x, 1.0, out=x) if isinstance(x, np.ndarray) else x * 1.0, same_float, lambda g, _y, _x: g, {}, "read-only"),
}  # fmt: skip


@pytest.mark.parametrize("fault", PLANTED)
def test_check_row_finds(row, unshrunk, fault):
    forward, infer, rule, columns, message = PLANTED[fault]
    row("planted", forward, infer, rule, **columns)
    with pytest.raises(AssertionError, match=message) as caught:
        check_row("planted", 30)
    assert "planted" in str(caught.value) and "Row(" not in str(caught.value)


def test_check_row_says_what_it_did(row):
    seen = []
    row("right", lambda x: x * x * 1.0, same_float, lambda g, _y, x: g * 2.0 * x, complex=False)
    report = check_row("right", 10, watch=lambda report: seen.append((report.calls, report.seconds)))
    assert report.row == "right" and report.calls == 10 and report.failed is None and not report.lacking
    assert seen == sorted(seen) and len(seen) == 11
    assert set(report.ran) == set(rows.CHECKS) and report.exempt == {"complex": "it takes no complex numbers"}
    assert report.ran["derivatives"] == 10 and report.ran["reading"] == report.ran["cycles"] == 1
    assert report.ran["complex"] == 0 < report.ran["batching"] < 10

    row("wrong", lambda x: x * x * 1.0, same_float, lambda g, _y, x: g * x)
    with pytest.raises(AssertionError, match="wrong derivative"):
        check_row("wrong", 2, watch=seen.append)
    assert seen[-1].failed == "derivatives" and seen[-1].ran["inference"] and not seen[-1].ran["derivatives"]

    row(
        "never",
        lambda x, y: x * y,
        stretched,
        None,
        lambda g, _z, x, _y: g * x,
        draw=lambda _draw, _row: ((np.ones(2), 2), {}),
    )
    with pytest.raises(AssertionError, match=r"none of 1 drawn calls went through: .*derivatives \(The rules give the"):
        check_row("never", 10)


def test_check_row_finds_a_batching_rule_that_is_not_the_loop(row):
    row("planted", lambda x: x * 1.0, same_float, lambda g, _y, _x: g, batch=lambda _call, x: x * 2.0)
    with pytest.raises(AssertionError, match="vmap is the loop"):
        check_row("planted", 5)


def test_check_row_finds_reference_cycles(row, unshrunk):
    class Loop:
        def __init__(self):
            self.me = self

    def forward(x):
        Loop()
        return x * 1.0

    row("planted", forward, same_float, lambda g, _y, _x: g)
    with pytest.raises(AssertionError, match="reference cycles"):
        check_row("planted", 5)


def test_check_row_of_a_right_row(row, unshrunk):
    row("cube", lambda x: x * x * x, same_float, lambda g, _y, x: g * 3.0 * x * x, domain=Domain(avoid=(0.0,)))
    with pytest.raises(AssertionError, match="inferred"):  # NumPy: the cube of a boolean is a boolean
        check_row("cube", 5)
    row("right", lambda x: x * x * (x * 1.0), same_float, lambda g, _y, x: g * 3.0 * x * x, domain=Domain(avoid=(0.0,)))
    check_row("right", 10)


def test_check_row_needs_a_row_and_a_strategy():
    with pytest.raises(LookupError, match="no row 'nonsense'"):
        check_row("nonsense")
    entered = op("lonely", lambda x: x, same, lambda g, _y, _x: g)
    try:
        assert "lonely" in list(calls.missing())
        with pytest.raises(
            LookupError, match=r"no strategy; register one with @autograd.testing.calls.strategy\(\"lonely\"\)"
        ):
            check_row("lonely")
    finally:
        del OPS[entered.row.name]


# ---- soundness: right code is never called wrong, wrong gradients are ----

POINT = np.array([0.7, -1.3, 2.0])
SCALES = [1e-6, 1e-4, 1e-2, 1.0, 30.0, 1e3, 1e6]
SCALED = {
    **{name: getattr(ops, name) for name in ("tanh", "sigmoid", "softplus", "gelu", "silu", "erf", "softmax", "logsumexp", "norm", "var", "sin", "cos", "square", "atan", "log_softmax", "asinh")},
    "exp": lambda x: ops.exp(-ops.abs(x)),
    "abs": lambda x: ops.abs(x) * x,
    "relu": lambda x: ops.relu(x) * x,
    "maximum": lambda x: ops.maximum(x, 0.5 * x) * x,
    "sqrt": lambda x: ops.sqrt(ops.abs(x)),
    "log1p": lambda x: ops.log1p(ops.abs(x)),
    "rational": lambda x: x / (1.0 + x * x),
    "elu": lambda x: ops.elu(x, alpha=0.5),
}  # fmt: skip


@pytest.mark.parametrize("name", SCALED)
def test_right_code_is_never_called_wrong(name):
    for scale in SCALES:
        with np.errstate(all="ignore"):
            check_grads(lambda x, s=scale: SCALED[name](s * x), POINT, undecided="pass")
            check_grads(SCALED[name], scale * POINT, undecided="pass")


@pytest.mark.parametrize("name", ["tanh", "softplus", "gelu", "silu", "erf", "softmax", "logsumexp"])
def test_saturation_is_decided(name):
    for scale in (1e-4, 1e-2, 1.0, 30.0, 1e3):
        with np.errstate(all="ignore"):
            check_grads(lambda x, s=scale: SCALED[name](s * x), POINT)


@pytest.mark.parametrize(
    ("fn", "x"),
    [
        (ops.cholesky, np.array([[1.0, 0.9], [0.9, 1.0]])),
        (ops.cholesky, np.array([[1.0, 0.999], [0.999, 1.0]])),
        (lambda x: ops.log(x) + ops.log1p(-x), np.array([1e-3, 1 - 1e-3, 0.5])),
        (ops.asin, np.array([0.999, -0.9999, 0.5])),
        (ops.acosh, np.array([1.001, 1.1])),
        (ops.atanh, np.array([0.9999, 0.5])),
        (ops.sqrt, np.array([1e-9, 1.0])),
        (lambda x: ops.abs(x - 0.999), np.array([1.0])),
    ],
)  # fmt: skip
def test_near_the_border_of_the_domain(fn, x):
    with np.errstate(all="ignore"):
        check_grads(fn, x)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(
    "wrong",
    [
        lambda g, x: g * (1.0 + 1e-5) * 2.0 * x,
        lambda g, x: -g * 2.0 * x,
        lambda g, x: g * x,
        lambda g, x: g * 2.0 * x * ops.where(ops.equal(ops.abs(x), ops.max(ops.abs(x))), 1.0 + 1e-5, 1.0),
    ],
    ids=["1e-5", "sign", "term", "one element"],
)
def test_wrong_gradients_are_found_at_every_scale(row, wrong, scale):
    faulty = row("faulty", lambda x: x * x, same, lambda g, _y, x: wrong(g, x))
    for fn in (faulty, lambda x: faulty(x) + ops.abs(faulty(x))):
        with pytest.raises(AssertionError, match="wrong derivative"):
            check_grads(fn, scale * POINT, order=1)
