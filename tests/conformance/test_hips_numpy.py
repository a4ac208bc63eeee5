"""``autograd.numpy``: NumPy's values, right gradients, HIPS autograd's conventions."""

import numpy as onp
import pytest
from calls import CALLS, T, X, total

import autograd.numpy as np
from autograd import DiffTensor, grad, jacobian
from autograd.test_util import check_grads


@pytest.mark.parametrize("name", CALLS)
def test_values_and_gradients(name: str) -> None:
    call, args = CALLS[name]
    expected = call(onp, *args)
    plain = call(np, *args)
    assert not isinstance(plain, DiffTensor)
    onp.testing.assert_array_equal(plain, expected)
    tracked = call(np, *(DiffTensor(a, requires_grad=True) for a in args))
    assert isinstance(tracked, DiffTensor) and tracked.requires_grad
    assert tracked.dtype == onp.asarray(expected).dtype
    onp.testing.assert_allclose(tracked.numpy(), expected, rtol=1e-12, atol=1e-13)
    check_grads(lambda *xs: total(call(np, *xs)), tuple(range(len(args))), modes=["rev", "fwd"], order=1)(*args)


@pytest.mark.parametrize("name", CALLS)
def test_numpy_itself_finds_the_same_rules(name: str) -> None:
    call, args = CALLS[name]
    numbers = tuple(range(len(args)))
    ours = grad(lambda *xs: total(call(np, *xs)), numbers)(*args)
    through_numpy = grad(lambda *xs: total(call(onp, *xs)), numbers)(*args)
    for a, b in zip(ours, through_numpy, strict=True):
        onp.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "name", ["sin", "power", "std", "norm", "solve", "einsum", "rfft", "cumprod", "where", "svd vectors"]
)
def test_second_order(name: str) -> None:
    call, args = CALLS[name]
    check_grads(lambda *xs: total(call(np, *xs)), tuple(range(len(args))), modes=["rev"], order=2)(*args)


@pytest.mark.parametrize("name", ["sin", "hypot", "var", "concatenate", "matmul", "norm", "inv", "clip", "interp"])
def test_float32_stays_float32(name: str) -> None:
    if name == "interp":  # a sum with a Python number on the way, where HIPS widens the gradient
        call, args = (lambda n, x: 2.0 * x / (1.0 + n.exp(-x))), (X,)
    else:
        call, args = CALLS[name]
    args = tuple(a.astype(onp.float32) for a in args)
    gradients = grad(lambda *xs: total(call(np, *xs)).astype(onp.float32), tuple(range(len(args))))(*args)
    assert all(g.dtype == onp.float32 for g in gradients)


def test_every_function_that_hips_differentiates_is_there() -> None:
    names = [
        "abs",
        "absolute",
        "acos",
        "acosh",
        "add",
        "amax",
        "amin",
        "angle",
        "append",
        "arccos",
        "arccosh",
        "arcsin",
        "arcsinh",
        "arctan",
        "arctan2",
        "arctanh",
        "array",
        "array_split",
        "asin",
        "asinh",
        "astype",
        "atan",
        "atan2",
        "atanh",
        "atleast_1d",
        "atleast_2d",
        "atleast_3d",
        "broadcast_to",
        "c_",
        "clip",
        "column_stack",
        "concatenate",
        "conj",
        "conjugate",
        "cos",
        "cosh",
        "cross",
        "cumsum",
        "deg2rad",
        "degrees",
        "diag",
        "diagonal",
        "diff",
        "divide",
        "dot",
        "dsplit",
        "einsum",
        "exp",
        "exp2",
        "expand_dims",
        "expm1",
        "fabs",
        "fliplr",
        "flipud",
        "fmax",
        "fmin",
        "full",
        "gradient",
        "hsplit",
        "hstack",
        "hypot",
        "imag",
        "inner",
        "kron",
        "linspace",
        "log",
        "log10",
        "log1p",
        "log2",
        "logaddexp",
        "logaddexp2",
        "make_diagonal",
        "matmul",
        "max",
        "maximum",
        "mean",
        "min",
        "minimum",
        "mod",
        "moveaxis",
        "multiply",
        "nan_to_num",
        "negative",
        "outer",
        "pad",
        "partition",
        "permute_dims",
        "pow",
        "power",
        "prod",
        "r_",
        "rad2deg",
        "radians",
        "ravel",
        "real",
        "real_if_close",
        "reciprocal",
        "remainder",
        "repeat",
        "reshape",
        "roll",
        "rollaxis",
        "rot90",
        "row_stack",
        "select",
        "sin",
        "sinc",
        "sinh",
        "sort",
        "split",
        "sqrt",
        "square",
        "squeeze",
        "stack",
        "std",
        "subtract",
        "sum",
        "swapaxes",
        "tan",
        "tanh",
        "tensordot",
        "tile",
        "trace",
        "transpose",
        "tril",
        "triu",
        "true_divide",
        "var",
        "vsplit",
        "vstack",
        "where",
    ]
    assert [n for n in names if not hasattr(np, n)] == []
    assert [n for n in np.__all__ if not hasattr(np, n)] == []
    linalg = ["cholesky", "det", "eig", "eigh", "inv", "norm", "pinv", "slogdet", "solve", "svd"]
    fft = [
        "fft",
        "fft2",
        "fftn",
        "fftshift",
        "ifft",
        "ifft2",
        "ifftn",
        "ifftshift",
        "irfft",
        "irfft2",
        "irfftn",
        "rfft",
        "rfft2",
        "rfftn",
    ]
    assert [n for n in linalg if not hasattr(np.linalg, n)] + [n for n in fft if not hasattr(np.fft, n)] == []
    assert np.random.default_rng is onp.random.default_rng and np.float32 is onp.float32 and np.pi == onp.pi


def test_arrays_of_lists_that_hold_tensors() -> None:
    def f(x: DiffTensor) -> DiffTensor:
        made = np.array([[x[0], 1.0], [x[1] * x[2], x[3]]])
        assert made.shape == (2, 2)
        return np.sum(made * np.array([[1.0, 2.0], [3.0, 4.0]])) + np.sum([x[0], x[1]]) + np.mean([x, 2 * x])

    onp.testing.assert_allclose(grad(f)(X), [2 + 0.375, 3 * X[2] + 1 + 0.375, 3 * X[1] + 0.375, 4 + 0.375])
    assert grad(lambda x: np.sum(np.concatenate(x * k for k in (1.0, 2.0))))(X).tolist() == [3.0] * 4
    assert grad(lambda x: np.sum(np.r_[x[0], x, 5.0] ** 2))(X)[0] == 4 * X[0]
    assert np.c_[DiffTensor(X), X].shape == (4, 2)
    assert np.array(DiffTensor(X), ndmin=2).shape == (1, 4)
    assert grad(lambda x: np.sum(np.full((2, 3), x)))(1.0) == 6.0


def test_constant_results_are_plain() -> None:
    t = DiffTensor(T, requires_grad=True)
    assert type(np.argmax(t)) is onp.int64 and type(np.greater(t, 0)) is onp.ndarray
    assert type(np.floor(t)) is onp.ndarray and np.allclose(t, T) is True
    assert np.shape(t) == T.shape and np.ndim(t) == 3 and np.size(t) == 24 and not np.iscomplexobj(t)
    assert type(np.zeros_like(t)) is onp.ndarray and type(np.sin(DiffTensor(X))) is onp.ndarray
    assert np.where(True, 1.0, 2.0) == 1.0 and type(np.where(True, 1.0, 2.0)) is float


def test_attributes_and_methods_of_arrays() -> None:
    def f(x: DiffTensor) -> DiffTensor:
        assert x.shape == (2, 3, 4) and x.ndim == 3 and x.size == 24 and len(x) == 2 and x.dtype == float
        parts = [
            x.T.sum(),
            x.mean(axis=0).std(),
            x.var(ddof=1),
            x.reshape(4, -1, order="F").max(axis=0).min(),
            x[0].trace(),
        ]
        parts += [
            x.clip(min=-0.5).prod(),
            x.ravel().cumsum()[3],
            x.flatten().take([1, 2]).dot(np.ones(2)),
            x.astype(complex).real.sum(),
        ]
        parts += [
            x.swapaxes(0, 1).squeeze().diagonal().sum(),
            x.compress([True, False], axis=0).sum(),
            np.ptp(x),
            x.repeat(2).sum(),
        ]
        parts += [
            sum(np.sum(row) ** 2 for row in x),
            abs(x).sum(),
            (-x % 1.5).sum(),
            (2.0**x).sum(),
            (x @ x[0].T).sum(),
        ]
        assert (x > 0).any() and x.argmax() == T.argmax() and bool(x[0, 0, 0] < x[0, 1, 0])
        assert [len(axis) for axis in x.nonzero()] == [24, 24, 24]
        return sum(parts)

    check_grads(f, order=1)(T)


@pytest.mark.parametrize("zero", [0.0, onp.zeros(3), onp.zeros((2, 3))])
def test_the_norm_of_zero_has_the_gradient_zero(zero: onp.ndarray) -> None:
    assert onp.all(grad(np.linalg.norm)(zero) == 0.0) if onp.ndim(zero) else True
    assert onp.all(grad(lambda x: np.sqrt(np.sum(x**2)))(zero) == 0.0)


def test_errors_of_linear_algebra_are_numpys() -> None:
    with pytest.raises(onp.linalg.LinAlgError):
        grad(lambda a: np.sum(np.linalg.inv(a)))(onp.zeros((2, 2)))
    with pytest.raises(onp.linalg.LinAlgError):
        grad(lambda a: np.sum(np.linalg.cholesky(a)))(-onp.eye(2))
    with pytest.raises(NotImplementedError, match="full_matrices=False"):
        grad(lambda a: np.sum(np.linalg.svd(a)[1]))(onp.ones((3, 2)))


def test_complex_numbers_follow_the_convention_of_hips() -> None:
    z = onp.array([1.0 + 2.0j, -0.5 + 0.3j])
    onp.testing.assert_allclose(grad(lambda z: np.sum(np.real(z)))(z), [1, 1])
    onp.testing.assert_allclose(grad(lambda z: np.sum(np.imag(z)))(z), [-1j, -1j])
    onp.testing.assert_allclose(grad(lambda z: np.sum(np.abs(z) ** 2))(z), 2 * onp.conj(z))
    assert grad(lambda x: np.real((x + 1j) ** 2))(3.0) == 6.0  # real in, real out


def test_a_jacobian_of_an_array_program() -> None:
    j = jacobian(lambda x: np.outer(x, np.flip(x)))(X)
    assert j.shape == (4, 4, 4)
    assert j[0, 3, 0] == 2 * X[0] and j[1, 0, 3] == X[1]


@pytest.mark.parametrize("uplo", ["L", "U", "u"])
def test_eigenvectors_are_those_that_numpy_finds_whichever_triangle_it_reads(uplo: str) -> None:
    a = onp.random.default_rng(3).normal(size=(6, 6))
    w, v = np.linalg.eigh(DiffTensor(a, requires_grad=True), uplo)
    expected = onp.linalg.eigh(a, uplo)
    onp.testing.assert_allclose(w.numpy(), expected[0], rtol=1e-12)
    onp.testing.assert_allclose(v.numpy(), expected[1], rtol=1e-9, atol=1e-12)  # their signs, too
    check_grads(lambda a: tuple(np.linalg.eigh(a, uplo)))(a)


def test_where_takes_its_arguments_by_name() -> None:
    condition = onp.array([True, False, True, True])
    onp.testing.assert_array_equal(np.where(condition=condition, x=X, y=-X), onp.where(condition, X, -X))
    onp.testing.assert_array_equal(grad(lambda x: np.sum(np.where(condition, x=x, y=2.0 * x)))(X), [1.0, 2.0, 1.0, 1.0])
