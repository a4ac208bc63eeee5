"""Every row of the op table passes every check; and the conventions where a derivative does not exist."""

import re

import numpy as np
import pytest

from autograd import OPS, DiffTensor, grad, hessian, jacobian, ops
from autograd.testing import assert_jvp_vjp_dual, check_grads, check_row
from autograd.testing.calls import EXEMPT, missing
from autograd.testing.rows import CHECKS

EXAMPLES = 12


def test_every_row_has_a_strategy():
    assert list(missing()) == []


@pytest.mark.parametrize("name", list(OPS))
def test_row(name):
    report = check_row(name, EXAMPLES)
    assert {check for check, times in report.ran.items() if times} | set(report.exempt) == set(CHECKS)


@pytest.mark.parametrize(("name", "check"), list(EXEMPT))
def test_every_exemption_is_needed(monkeypatch, unshrunk, name, check):
    monkeypatch.delitem(EXEMPT, (name, check))
    with pytest.raises(AssertionError, match=re.escape(CHECKS[check])):
        check_row(name, 4)


def gradients(fn, *args):
    """Gradients of the sum of fn with respect to all its arguments."""
    found = grad(lambda *a: ops.sum(fn(*a)), tuple(range(len(args))))(*args)
    return [np.asarray(g) for g in found]


# ---- singular points: the documented conventions, and no NaN ----


@pytest.mark.parametrize(
    ("fn", "args", "expected"),
    [
        (ops.sqrt, (0.0,), (0.0,)),
        (ops.abs, (0.0,), (0.0,)),
        (ops.abs, (0j,), (0.0,)),
        (ops.hypot, (0.0, 0.0), (0.0, 0.0)),
        (ops.atan2, (0.0, 0.0), (0.0, 0.0)),
        (ops.norm, (np.zeros(3),), (np.zeros(3),)),
        (lambda x: ops.norm(x, axis=1), (np.array([[0.0, 0.0], [3.0, 4.0]]),), ([[0.0, 0.0], [0.6, 0.8]],)),
        (ops.std, (np.full(3, 2.0),), (np.zeros(3),)),
        (lambda x: ops.std(x, correction=1), (np.full((2, 2), 2.0),), (np.zeros((2, 2)),)),
        (ops.max, (np.array([1.0, 3.0, 3.0]),), ([0.0, 0.5, 0.5],)),
        (ops.min, (np.array([1.0, 1.0, 1.0, 3.0]),), ([1 / 3, 1 / 3, 1 / 3, 0.0],)),
        (lambda x: ops.max(x, axis=0), (np.array([[1.0, 2.0], [1.0, 0.0]]),), ([[0.5, 1.0], [0.5, 0.0]],)),
        (ops.maximum, (2.0, 2.0), (0.5, 0.5)),
        (ops.minimum, (np.array([2.0, 1.0]), np.array([2.0, 3.0])), ([0.5, 1.0], [0.5, 0.0])),
        (ops.relu, (0.0,), (0.0,)),
        (lambda x: ops.leaky_relu(x, slope=0.25), (0.0,), (0.25,)),
        (lambda x: ops.elu(x, alpha=0.5), (0.0,), (0.5,)),
        (lambda x: ops.clip(x, -1.0, 1.0), (np.array([-1.0, 1.0, 1.5]),), ([1.0, 1.0, 0.0],)),
        (ops.power, (0.0, 0.0), (0.0, 0.0)),
        (ops.power, (0.0, 1.0), (1.0, 0.0)),
        (ops.power, (0.0, 2.0), (0.0, 0.0)),
        (ops.power, (-2.0, 3.0), (12.0, None)),
        (lambda x: x**0, (0.0,), (0.0,)),
        (lambda x: x**1, (0.0,), (1.0,)),
        (lambda x: 0.0**x, (np.array([2.0, 0.0]),), ([0.0, 0.0],)),
        (ops.prod, (np.array([0.0, 2.0, 3.0]),), ([6.0, 0.0, 0.0],)),
        (ops.prod, (np.array([0.0, 2.0, 0.0]),), ([0.0, 0.0, 0.0],)),
        (lambda x: ops.prod(x, axis=(0, 2)), (np.array([[[0.0, 2.0]], [[3.0, 4.0]]]),), ([[[24.0, 0.0]], [[0.0, 0.0]]],)),
        (ops.cumprod, (np.array([2.0, 0.0, 3.0]),), ([1.0, 2.0 + 6.0, 0.0],)),
        (ops.cumprod, (np.array([0.0, 0.0, 3.0]),), ([1.0, 0.0, 0.0],)),
        (lambda x: ops.replace_zero(x, by=1.0), (np.array([0.0, 2.0]),), ([0.0, 1.0],)),
        (ops.sign, (np.array([0.0, 2.0]),), ([0.0, 0.0],)),
        (ops.log, (2.0,), (0.5,)),
        (ops.softplus, (np.array([-800.0, 800.0]),), ([0.0, 1.0],)),
        (ops.sigmoid, (np.array([-800.0, 800.0]),), ([0.0, 0.0],)),
        (lambda x: ops.logsumexp(x), (np.array([1000.0, -np.inf, 1000.0]),), ([0.5, 0.0, 0.5],)),
        (lambda x: ops.softmax(x)[0], (np.array([1e4, -1e4]),), ([0.0, 0.0],)),
        (lambda x: ops.log_softmax(x)[0], (np.array([0.0, 0.0]),), ([0.5, -0.5],)),
    ],
)  # fmt: skip
def test_conventions_at_singular_points(fn, args, expected):
    with np.errstate(invalid="ignore"):  # the exponent's derivative at a negative base
        found = gradients(fn, *args)
    for g, e in zip(found, expected, strict=True):
        if e is not None:
            np.testing.assert_allclose(g, e, rtol=1e-12, atol=0)


def test_a_pole_keeps_its_infinity():
    with np.errstate(divide="ignore"):
        assert gradients(ops.log, 0.0)[0] == np.inf


@pytest.mark.parametrize("fn", [ops.norm, ops.sqrt, ops.std, ops.abs, ops.prod, lambda x: ops.hypot(x, 0.0)])
def test_second_derivatives_at_singular_points_are_no_nan(fn):
    x = np.zeros(3)
    assert np.all(np.isfinite(hessian(lambda x: ops.sum(fn(x)))(x)))


def test_softplus_and_its_kin_at_infinity():
    x = np.array([-np.inf, np.inf])
    for fn, expected in (
        (ops.softplus, [0.0, np.inf]),
        (ops.sigmoid, [0.0, 1.0]),
        (ops.tanh, [-1.0, 1.0]),
        (ops.erf, [-1.0, 1.0]),
    ):
        np.testing.assert_array_equal(fn(x), expected)


# ---- repeated places add up ----


def test_advanced_indexing_accumulates_at_repeated_places():
    x = np.array([1.0, 2.0, 3.0])
    np.testing.assert_array_equal(gradients(lambda x: x[[0, 0, 2]], x)[0], [2.0, 0.0, 1.0])
    np.testing.assert_array_equal(
        gradients(lambda x: x[np.array([[0, -1], [2, 2]])] * np.array([[1.0, 10.0], [100.0, 1000.0]]), x)[0],
        [1.0, 0.0, 1110.0],
    )
    np.testing.assert_array_equal(gradients(lambda x: ops.take(x, np.array([1, 1, 1])), x)[0], [0.0, 3.0, 0.0])
    m = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(gradients(lambda m: m[[0, 0], [1, 1]], m)[0], [[0, 2, 0], [0, 0, 0]])
    np.testing.assert_array_equal(gradients(lambda m: m[[1, 1, 0], ::2], m)[0], [[1, 0, 1], [2, 0, 2]])


def test_scatter_add_adds_up():
    x, places, updates = np.zeros((2, 3)), np.array([2, 0, 2]), np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(ops.scatter_add(x, places, updates, axis=1), [[1.0, 0.0, 2.0], [4.0, 0.0, 8.0]])
    np.testing.assert_array_equal(ops.scatter_add(x, places, updates, axis=-1), [[1.0, 0.0, 2.0], [4.0, 0.0, 8.0]])
    check_grads(lambda x, u: ops.scatter_add(x, places, u, axis=1) ** 3, x + 1.0, updates)
    t = DiffTensor(np.zeros(3))
    np.testing.assert_array_equal(t.at[np.array([1, 1, 0])].add(np.array([1.0, 2.0, 3.0])).numpy(), [3.0, 3.0, 0.0])
    check_grads(lambda x: x.at[[1, 1]].add(x[:2] ** 2) ** 2, np.array([1.0, 2.0, 3.0]))
    check_grads(lambda x: x.at[1:].set(x[:2] ** 2) ** 2, np.array([1.0, 2.0, 3.0]))


# ---- joining and splitting ----


@pytest.mark.parametrize("sections", [3, (2, 4), (-2,), (-5, -1), (2, 2), (0, 6), (4, 2), ()])
def test_split_like_numpy(sections):
    x = np.arange(12.0).reshape(2, 6)
    parts = ops.split(x, sections, axis=-1)
    for a, b in zip(parts, np.split(x, sections, axis=-1), strict=True):
        np.testing.assert_array_equal(a, b)
    check_grads(lambda x: [p**2 for p in ops.split(x, sections, axis=1)], x + 1.0, order=1)
    last = gradients(lambda x: ops.split(x, sections, axis=1)[-1] * 3.0, x)[0]
    np.testing.assert_array_equal(last, np.where(np.isin(x, np.split(x, sections, axis=1)[-1]), 3.0, 0.0))


def test_an_uneven_split_is_an_error():
    with pytest.raises(ValueError, match="length 6 does not divide into 4"):
        ops.split(np.arange(6.0), 4)


def test_joining():
    x, y = np.arange(4.0).reshape(2, 2) + 1, np.arange(2.0).reshape(1, 2) + 1
    check_grads(lambda x, y: ops.concat([x, y * y, x], axis=0) ** 2, x, y)
    check_grads(lambda x, y: ops.stack([x[0], y[0], x[1] * y[0]], axis=-1) ** 2, x, y)
    with pytest.raises(ValueError, match="concat"):
        ops.concat([x, np.ones((2, 3))], axis=0)
    with pytest.raises(ValueError, match="stack"):
        ops.stack([x, y])


# ---- linear algebra: all shapes ----


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 2)), ((2, 3), (3, 2)), ((4, 2, 3), (3, 2)), ((2, 3), (4, 3, 2)),
        ((4, 2, 3), (4, 3, 2)), ((1, 2, 3), (4, 3, 2)), ((5, 1, 2, 3), (4, 3, 2)), ((4, 2, 3), (3,)), ((3,), (4, 3, 2)),
        ((5, 4, 2, 3), (3,)), ((0, 3), (3, 2)), ((2, 0), (0, 3)), ((1, 1), (1, 1)),
    ],
)  # fmt: skip
def test_matmul_of_all_shapes(a, b):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=a), rng.normal(size=b)
    np.testing.assert_allclose(ops.matmul(x, y), x @ y)
    check_grads(lambda x, y: x @ y, x, y, order=1, directions=1)
    assert_jvp_vjp_dual(lambda x, y: ops.sin(x @ y), x, y)


@pytest.mark.parametrize(
    ("subscripts", "shapes"),
    [
        ("ij,jk->ik", [(2, 3), (3, 2)]), ("ij,jk", [(2, 3), (3, 2)]), ("ii", [(3, 3)]), ("ii->i", [(3, 3)]),
        ("iij->j", [(2, 2, 3)]), ("iiii->i", [(2, 2, 2, 2)]), ("i,j,k->kji", [(2,), (3,), (2,)]), ("ij->", [(2, 3)]),
        ("i,i->", [(3,), (3,)]), ("...ij,...jk->...ik", [(4, 2, 3), (3, 2)]), ("...i,...i->...", [(2, 1, 3), (4, 3)]),
        ("i...->...", [(3, 2)]), ("...", [(2, 3)]), ("ij,ij,ij->i", [(2, 3)] * 3),
        ("ab,bc,cd->ad", [(2, 3), (3, 2), (2, 4)]), ("ij,kl->", [(2, 3), (2, 2)]), ("ii,jj->ij", [(2, 2), (3, 3)]),
        ("ij,j->ij", [(2, 3), (1,)]), (" i j , j -> i ", [(2, 3), (3,)]), ("i->i", [(0,)]), ("ij,jk->ik", [(2, 0), (0, 3)]),
    ],
)  # fmt: skip
def test_einsum_like_numpy(subscripts, shapes):
    rng = np.random.default_rng(0)
    xs = [rng.normal(size=s) for s in shapes]
    broadcast = [np.broadcast_to(xs[1], (3,)) if s == (1,) else x for x, s in zip(xs, shapes, strict=True)]
    np.testing.assert_allclose(ops.einsum(subscripts, *xs), np.einsum(subscripts, *broadcast), rtol=1e-12)
    if all(x.size for x in xs):
        check_grads(lambda *xs: ops.einsum(subscripts, *xs), *xs)


@pytest.mark.parametrize(
    ("subscripts", "shapes", "message"),
    [
        ("ij,jk->ik", [(2, 3)], "2 operands in the subscripts, 1 given"),
        ("ij->i", [(2,)], "for an operand of 1 axes"),
        ("ij,jk->ik", [(2, 3), (4, 2)], "lengths 3 and 4"),
        ("ij->iz", [(2, 3)], "output"),
        ("ij->ii", [(2, 3)], "output"),
        ("b...,b...->b", [(2, 3), (2, 3)], "no \\.\\.\\. for the axes"),
    ],
)
def test_einsum_says_what_is_wrong(subscripts, shapes, message):
    with pytest.raises(ValueError, match=message):
        ops.einsum(subscripts, *(np.ones(s) for s in shapes))


def test_dot_like_numpy():
    rng = np.random.default_rng(0)
    for a, b in [
        ((3,), (3,)),
        ((2, 3), (3,)),
        ((2, 3), (3, 4)),
        ((), (3,)),
        ((2, 3), ()),
        ((2, 2, 3), (4, 3, 2)),
        ((2, 3), (4, 3, 2)),
        ((2, 2, 3), (3,)),
    ]:
        x, y = rng.normal(size=a), rng.normal(size=b)
        np.testing.assert_allclose(ops.dot(x, y), np.dot(x, y), rtol=1e-12)
        check_grads(ops.dot, x, y, order=1)


# ---- integers and booleans ----


def test_integers_and_booleans_are_constants():
    x, n, b = np.array([1.5, 2.5]), np.array([2, 3]), np.array([True, False])
    for fn in (
        lambda x: x * n,
        lambda x: n / x,
        lambda x: x**n,
        lambda x: ops.where(b, x, n),
        lambda x: x @ n,
        lambda x: ops.maximum(x, n - 3) * b,
    ):
        check_grads(fn, x)
    for fn in (
        ops.argmax,
        ops.argsort,
        lambda t: t > 1,
        lambda t: t.astype(int),
        ops.floor,
        ops.isnan,
        lambda t: t // 1,
    ):
        t = fn(DiffTensor(x, requires_grad=True))
        assert t.node is None


def test_a_cast_to_integers_has_no_gradient():
    rule = OPS["astype"].vjps[0]
    np.testing.assert_array_equal(rule(np.ones(2), None, np.ones(2), dtype=int), [0.0, 0.0])
    np.testing.assert_array_equal(rule(np.ones(2), None, np.ones(2), dtype="f"), [1.0, 1.0])


def test_integer_tensors_compute_like_numpy():
    a, b = np.array([7, -7, 3]), np.array([2, 2, -2])
    for ours, theirs in (
        (ops.add, np.add),
        (ops.floor_divide, np.floor_divide),
        (ops.remainder, np.remainder),
        (ops.divide, np.divide),
        (ops.power, np.power),
    ):
        x, y = (a, b) if ours is not ops.power else (a, abs(b))
        found = ours(DiffTensor(x), DiffTensor(y))
        assert found.dtype == theirs(x, y).dtype
        np.testing.assert_array_equal(found.numpy(), theirs(x, y))
    for fn in (
        ops.sigmoid,
        ops.softmax,
        ops.log_softmax,
        ops.gelu,
        ops.silu,
        ops.erf,
        ops.softplus,
        ops.mean,
        ops.norm,
        ops.logsumexp,
    ):
        np.testing.assert_allclose(
            fn(np.array([3, 200], np.uint8)), fn(np.array([3.0, 200.0])), rtol=1e-12, err_msg=str(fn)
        )


def test_a_python_number_beside_float32_does_not_widen_it():
    x = DiffTensor(np.array([1.5, 2.5], np.float32), requires_grad=True)
    for fn in (
        lambda x: 2.0**x,
        lambda x: x**2.0,
        lambda x: 1.0 / x,
        lambda x: ops.maximum(x, 2.0),
        lambda x: ops.where(x > 2, x, 1.0),
        lambda x: 0.5 * x - 1,
    ):
        y = fn(x)
        assert y.dtype == np.float32
        assert (
            y.node.row.vjps[0 if y.node.parents[0] is not None else 1](
                np.ones(2, np.float32), *[getattr(s, "raw", s) for s in _whole(y, x)], **y.node.params
            ).dtype
            == np.float32
        )


def _whole(y, x):
    """What a rule is given, with arrays in the place of stand-ins."""
    return [y.raw, *(s if not hasattr(s, "parents") else x.raw for s in y.node.saved[1:])]


def test_where_with_numbers_of_other_kinds():
    for c in (np.True_, np.False_):
        for x, y in (
            (1.5, np.int64(2)),
            (np.int64(2), 1.5),
            (1.5, np.True_),
            (np.float32(1.5), 2.5),
            (2, np.float64(0.5)),
        ):
            found, expected = ops.where(c, x, y), np.where(c, x, y)[()]
            assert found == expected and found.dtype == expected.dtype


def test_errors_name_the_operation_and_shapes():
    with pytest.raises(ValueError, match=r"add\(float64\(2,\), float64\(3,\)\)"):
        DiffTensor([1.0, 2.0]) + DiffTensor([1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="matmul"):
        DiffTensor(np.ones((2, 3))) @ np.ones((2, 3))
    with pytest.raises(IndexError, match="getitem"):
        DiffTensor([1.0])[3]
    with pytest.raises(TypeError, match=r"sum.* has no parameter 'axes'"):
        ops.sum(np.ones(3), axes=1)


def test_jacobian_of_a_cumulative_sum_is_triangular():
    np.testing.assert_array_equal(jacobian(ops.cumsum)(np.ones(3)), np.tri(3))
