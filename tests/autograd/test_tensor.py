"""DiffTensor: making, reading, operators beside NumPy's arrays and numbers, and the ways in which it refuses."""

import operator
import sys
import weakref

import numpy as np
import pytest

from autograd import DiffTensor, grad, ops

BINARY = [operator.add, operator.sub, operator.mul, operator.truediv, operator.floordiv, operator.mod, operator.pow]
COMPARE = [operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge]
OTHERS = [
    2,
    2.5,
    np.float64(2.5),
    np.float32(2.5),
    np.int64(2),
    np.array([2.0, 3.0]),
    np.array(2.5),
    np.array([[1.0], [2.0]], np.float32),
]


@pytest.fixture
def t():
    return DiffTensor(np.array([1.5, 2.5]), requires_grad=True)


# ---- making ----


@pytest.mark.parametrize(
    ("data", "dtype", "shape"),
    [(1, "int64", ()), (1.5, "float64", ()), (True, "bool", ()), (1j, "complex128", ()), ([1.0, 2.0], "float64", (2,)), ([[1], [2]], "int64", (2, 1)),
     (np.float32(1), "float32", ()), (np.zeros((2, 0), np.float16), "float16", (2, 0)), ([], "float64", (0,)), (np.array(3.0), "float64", ())],
)  # fmt: skip
def test_from_data(data, dtype, shape):
    found = DiffTensor(data)
    assert (str(found.dtype), found.shape, found.ndim, found.size) == (dtype, shape, len(shape), int(np.prod(shape)))
    assert found.nbytes == found.size * np.dtype(dtype).itemsize
    np.testing.assert_array_equal(found.numpy(), data)


def test_from_a_tensor_copies_and_detaches(t):
    again = DiffTensor(t * 2.0)
    assert again.node is None and again.raw is not t.raw
    assert DiffTensor(t, dtype=np.float32).dtype == np.float32


def test_sharing_memory_is_asked_for():
    values = np.zeros(2)
    assert np.shares_memory(DiffTensor(values, copy=False).raw, values)
    assert not np.shares_memory(DiffTensor(values).raw, values)


@pytest.mark.parametrize(
    "data", ["text", None, [1.0, "x"], np.array([object()]), np.array(["2020-01-01"], "M8[D]"), {"a": 1}]
)
def test_what_is_not_numbers_is_refused(data):
    with pytest.raises(TypeError, match="numbers"):
        DiffTensor(data)


def test_ragged_sequences_are_refused():
    with pytest.raises(ValueError, match="does not make an array"):
        DiffTensor([[1.0], [1.0, 2.0]])


def test_only_inexact_tensors_are_tracked():
    for data in (1, [True], np.ones(2, int)):
        with pytest.raises(TypeError, match="floating-point and complex"):
            DiffTensor(data, requires_grad=True)
    for dtype in (np.float16, np.float32, np.complex64):
        assert DiffTensor(np.ones(2, dtype), requires_grad=True).requires_grad


def test_requires_grad_can_be_switched_on_leaves(t):
    t.requires_grad = False
    assert not t.requires_grad and (t * 2.0).node is None
    t.requires_grad = True
    assert (t * 2.0).requires_grad and t.is_leaf and not (t * 2.0).is_leaf
    with pytest.raises(ValueError, match="detach"):
        (t * 2.0).requires_grad = False


# ---- operators ----


@pytest.mark.parametrize("other", OTHERS, ids=repr)
@pytest.mark.parametrize("op", BINARY + COMPARE, ids=lambda op: op.__name__)
def test_operators_beside_numbers_and_arrays_on_both_sides(op, other, t):
    for found, expected in ((op(t, other), op(t.numpy(), other)), (op(other, t), op(other, t.numpy()))):
        assert type(found) is DiffTensor
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("op", [operator.add, operator.mul, operator.truediv, operator.pow])
def test_gradients_pass_through_reflected_operators(op):
    a = np.array([2.0, 3.0])
    found = grad(lambda t: ops.sum(op(a, t)))(np.array([1.5, 2.5]))
    h = 1e-6
    expected = (op(a, np.array([1.5, 2.5]) + h) - op(a, np.array([1.5, 2.5]) - h)) / (2 * h)
    np.testing.assert_allclose(found, expected, rtol=1e-8)


def test_matmul_on_both_sides(t):
    m = np.arange(4.0).reshape(2, 2)
    np.testing.assert_array_equal((m @ t).numpy(), m @ t.numpy())
    np.testing.assert_array_equal((t @ m).numpy(), t.numpy() @ m)
    assert (m @ t).node is not None


def test_unary_operators(t):
    np.testing.assert_array_equal((-t).numpy(), [-1.5, -2.5])
    np.testing.assert_array_equal((+t).numpy(), [1.5, 2.5])
    np.testing.assert_array_equal(abs(-t).numpy(), [1.5, 2.5])
    np.testing.assert_array_equal((~DiffTensor([True, False])).numpy(), [False, True])


def test_bitwise_operators():
    a, b = DiffTensor([True, True, False]), np.array([True, False, False])
    for op in (operator.and_, operator.or_, operator.xor):
        np.testing.assert_array_equal(op(a, b).numpy(), op(a.numpy(), b))
        np.testing.assert_array_equal(op(b, a).numpy(), op(b, a.numpy()))


def test_in_place_operators_make_new_tensors(t):
    before = u = t
    u *= 2.0
    assert u is not before
    np.testing.assert_array_equal(before.numpy(), [1.5, 2.5])
    np.testing.assert_array_equal(u.numpy(), [3.0, 5.0])


def test_an_array_does_not_swallow_a_tensor(t):
    a = np.array([1.0, 1.0])
    with pytest.raises(TypeError):
        a += t
    assert type(a * t) is DiffTensor
    with pytest.raises(TypeError, match="lose its gradient"):
        np.asarray(t)
    with pytest.raises(TypeError, match="lose its gradient"):
        np.array([1.0, 2.0])[:] = t
    np.testing.assert_array_equal(np.asarray(t.detach()), [1.5, 2.5])


# ---- NumPy's functions ----


@pytest.mark.parametrize(
    "name",
    [
        "sin",
        "exp",
        "log",
        "sqrt",
        "tanh",
        "arctan",
        "absolute",
        "square",
        "log1p",
        "sign",
        "floor",
        "negative",
        "isfinite",
        "cbrt",
        "rint",
    ],
)
def test_numpys_functions_of_one_variable(name, t):
    found = getattr(np, name)(t)
    assert type(found) is DiffTensor
    np.testing.assert_allclose(found.numpy(), getattr(np, name)(t.numpy()), rtol=1e-12)


@pytest.mark.parametrize(
    "name", ["add", "maximum", "hypot", "arctan2", "logaddexp", "power", "less", "matmul", "true_divide"]
)
def test_numpys_functions_of_two_variables(name, t):
    other = np.array([2.0, 1.0])
    for args in ((t, other), (other, t), (t, t)):
        plain = [a.numpy() if isinstance(a, DiffTensor) else a for a in args]
        found = getattr(np, name)(*args)
        assert type(found) is DiffTensor
        np.testing.assert_allclose(found.numpy(), getattr(np, name)(*plain), rtol=1e-12)


def test_a_numpy_function_without_a_derivative_says_so(t):
    for call in (lambda: np.gcd(t, t), lambda: np.ldexp(t, 2), lambda: np.add(t, t, out=np.ones(2))):
        with pytest.raises(TypeError):
            call()


# ---- reading ----


def test_reading_values(t):
    assert t.sum().item() == 4.0 and isinstance(t.sum().item(), float)
    assert t.tolist() == [1.5, 2.5]
    assert float(t[:1]) == 1.5 and int(t[1]) == 2 and complex(t[0]) == 1.5 + 0j
    assert [10, 20, 30][DiffTensor(1)] == 20
    assert DiffTensor([[3]]).item() == 3
    assert f"{t.sum().item():.2f}" == "4.00"


def test_truth():
    assert DiffTensor(1.0) and not DiffTensor([[0.0]])
    with pytest.raises(ValueError, match=r"shape \(2,\) is not defined; write \.any\(\) or \.all\(\)"):
        bool(DiffTensor([1.0, 2.0]))
    with pytest.raises(ValueError, match="not defined"):
        bool(DiffTensor([]))


def test_conversions_need_one_element(t):
    for convert in (float, int, complex, operator.index):
        with pytest.raises(TypeError, match="one element"):
            convert(t)
    with pytest.raises(ValueError, match=r"item\(\) needs a tensor of one element; this one has shape \(2,\)"):
        t.item()
    with pytest.raises(TypeError):
        operator.index(DiffTensor(1.0))


def test_length_and_iteration(t):
    assert len(t) == 2
    a, b = t
    assert a.shape == () and b.item() == 2.5 and a.node is not None
    assert [r.shape for r in DiffTensor(np.ones((3, 2)))] == [(2,)] * 3
    with pytest.raises(TypeError, match="without axes"):
        len(DiffTensor(1.0))
    with pytest.raises(TypeError, match="without axes"):
        list(DiffTensor(1.0))


def test_repr(t):
    assert repr(t) == "DiffTensor([1.5, 2.5], requires_grad=True)"
    assert repr(t * 2.0) == "DiffTensor([3., 5.], from=multiply)"
    assert repr(DiffTensor(np.float32(1.5))) == "DiffTensor(1.5, dtype=float32)"
    assert repr(DiffTensor([1, 2])) == "DiffTensor([1, 2])"
    assert "shape=(10, 10)" in repr(DiffTensor(np.zeros((10, 10)))) and "..." in repr(DiffTensor(np.zeros((10, 10))))
    assert repr(DiffTensor.symbol((2, 3))) == "DiffTensor(symbolic, shape=(2, 3), dtype=float32)"


def test_identity_is_the_hash(t):
    assert len({t, t, DiffTensor([1.5, 2.5])}) == 2
    assert weakref.ref(t)() is t


def test_no_attributes_can_be_added(t):
    with pytest.raises(AttributeError):
        t.extra = 1


def test_a_symbolic_tensor_has_no_value():
    s = DiffTensor.symbol((2,))
    y = s * 2.0 + 1.0
    assert y.shape == (2,) and y.dtype == np.float32 and y.device == "symbolic"
    for read in (
        lambda: y.numpy(),
        lambda: y.data,
        lambda: bool(y.sum() > 0),
        lambda: y.sum().item(),
    ):
        with pytest.raises(TypeError, match="symbolic tensor has no value"):
            read()
    assert y.detach().node.name == "stop_gradient"


# ---- methods ----


def test_methods_are_rows(t):
    m = DiffTensor(np.arange(6.0).reshape(2, 3), requires_grad=True)
    for found, expected in (
        (m.sum(axis=0), m.numpy().sum(0)), (m.mean(), 2.5), (m.reshape(3, 2), m.numpy().reshape(3, 2)), (m.reshape((-1,)), np.arange(6.0)),
        (m.T, m.numpy().T), (m.transpose(1, 0), m.numpy().T), (m.mT, m.numpy().T), (m.max(1), [2.0, 5.0]), (m[1, ::2], [3.0, 5.0]), (m.flatten(), np.arange(6.0)),
        (m.astype(np.float32), m.numpy()), (m.real, m.numpy()), (m.imag, np.zeros((2, 3))), (m.std(axis=1), m.numpy().std(1)), (m.clip(1.0, 2.0), m.numpy().clip(1, 2)),
        (m[m > 2.0], [3.0, 4.0, 5.0]), (m[DiffTensor([1, 0])], m.numpy()[[1, 0]]), (m[[0, 0]], m.numpy()[[0, 0]]), (m[None, ..., 0], m.numpy()[None, ..., 0]),
    ):  # fmt: skip
        assert type(found) is DiffTensor
        np.testing.assert_allclose(found.numpy(), expected)


def test_changed_copies_in_place_of_assignment(t):
    np.testing.assert_array_equal(t.at[0].set(9.0).numpy(), [9.0, 2.5])
    np.testing.assert_array_equal(t.at[:].add(1.0).numpy(), [2.5, 3.5])
    np.testing.assert_array_equal(t.at[[1, 1]].add(1.0).numpy(), [1.5, 4.5])
    np.testing.assert_array_equal(t.at[np.array([True, False])].set(0.0).numpy(), [0.0, 2.5])
    np.testing.assert_array_equal(t.numpy(), [1.5, 2.5])
    v = DiffTensor(4.0, requires_grad=True)
    (t.at[0].set(v * 2.0) * np.array([10.0, 1.0])).sum().backward()
    assert v.grad == 20.0
    np.testing.assert_array_equal(t.grad, [0.0, 1.0])
    m = DiffTensor(np.zeros((2, 3)))
    np.testing.assert_array_equal(m.at[1].add(np.array([1.0, 2.0, 3.0])).numpy(), [[0, 0, 0], [1, 2, 3]])
    np.testing.assert_array_equal(m.at[:, 0].set(7.0).numpy(), [[7, 0, 0], [7, 0, 0]])


def test_setting_an_integer_tensor_keeps_its_dtype():
    assert DiffTensor([1, 2]).at[0].set(5).dtype == np.int64


# ---- gradients ----


def test_grad_can_be_set_and_is_copied(t):
    g = np.array([1.0, 2.0])
    t.grad = g
    g[:] = 9.0
    np.testing.assert_array_equal(t.grad, [1.0, 2.0])
    t.grad = None
    assert t.grad is None
    with pytest.raises(ValueError, match=r"shape \(2,\), the gradient \(3,\)"):
        t.grad = np.ones(3)
    with pytest.raises(ValueError, match="tracked leaf"):
        DiffTensor([1.0]).grad = np.ones(1)
    assert (t * 2.0).grad is None


def test_detach(t):
    d = (t * t).detach()
    assert d.node is None
    np.testing.assert_array_equal(d.numpy(), [2.25, 6.25])


def test_add_in_place_for_optimizers(t):
    t.add_(np.array([0.5, 0.5], np.float32))
    np.testing.assert_array_equal(t.numpy(), [2.0, 3.0])
    assert t.requires_grad
    half = DiffTensor(np.ones(2, np.float32), requires_grad=True)
    half.add_(np.array([0.5, 0.5]))
    assert half.dtype == np.float32
    number = DiffTensor(1.0, requires_grad=True)
    number.add_(2.0)
    assert number.item() == 3.0 and number.dtype == np.float64


# ---- devices ----


def test_to_a_dtype_and_to_where_it_is_already(t):
    assert t.to("cpu") is t
    single = t.to(np.float32)
    assert single.dtype == np.float32 and single.node is not None
    assert t.to("float32").dtype == np.float32
    single.sum().backward()
    assert t.grad.dtype == np.float64


def test_to_cuda_without_cupy_names_the_extra(t, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)  # as if it were not installed
    for call in (lambda: t.to("cuda"), lambda: t.to("cuda:1"), lambda: DiffTensor([1.0], device="cuda")):
        with pytest.raises(ImportError, match=r'pip install "hammer-grad\[cuda\]"'):
            call()


def test_an_unknown_device(t):
    with pytest.raises(ValueError, match=r'write "cpu", "cuda" or "cuda:N"'):
        t.to("tpu")
