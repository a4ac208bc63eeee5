"""Linear algebra: values, derivatives of complex and degenerate matrices, limits and messages.

``check_row`` holds every row to its derivatives on matrices drawn at random; here is what it does not draw.
"""

import math

import numpy as np
import pytest
import scipy.linalg

from autograd import DiffTensor, grad, hessian, ops
from autograd.testing import check_grads


def matrix(seed, *shape, kind=float):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=shape)
    return x + 1j * rng.normal(size=shape) if kind is complex else x


def definite(seed, n, kind=float):
    x = matrix(seed, n, n, kind=kind)
    return x @ x.conj().T + n * np.eye(n)


def h(x):
    return ops.conj(ops.swapaxes(x, -1, -2))


def loss(x):
    """A real number that depends on every element, its phase included."""
    n = math.prod(x.shape)
    weights = np.cos(np.arange(n) + 0.5).reshape(x.shape) + 1j * np.sin(2.0 * np.arange(n)).reshape(x.shape)
    return ops.sum(ops.real(x * weights)) + ops.sum(ops.square(ops.abs(x)))


KINDS = pytest.mark.parametrize("kind", [float, complex])


# ---- values ----


@KINDS
@pytest.mark.parametrize("shape", [(3, 3), (2, 4, 2), (2, 4), (0, 3, 2), (3, 0)])
def test_factors_multiply_to_the_matrix(shape, kind):
    x = matrix(0, *shape, kind=kind)
    q, r = ops.qr(x)
    u, s, vh = ops.svd(x)
    np.testing.assert_allclose(q @ r, x, atol=1e-12)
    np.testing.assert_allclose((u * s[..., None, :]) @ vh, x, atol=1e-12)
    np.testing.assert_allclose(ops.svdvals(x), s)
    np.testing.assert_allclose(x @ ops.pinv(x) @ x, x, atol=1e-12)


@KINDS
def test_square_functions_agree_with_numpy(kind):
    x, spd = matrix(1, 2, 3, 3, kind=kind), definite(2, 3, kind)
    np.testing.assert_allclose(ops.inv(x), np.linalg.inv(x))
    np.testing.assert_allclose(ops.det(x), np.linalg.det(x))
    np.testing.assert_allclose(ops.adjugate(x), np.linalg.det(x)[:, None, None] * np.linalg.inv(x), rtol=1e-9)
    np.testing.assert_allclose(ops.slogdet(x)[0] * np.exp(ops.slogdet(x)[1]), np.linalg.det(x))
    np.testing.assert_allclose(ops.cholesky(spd), np.linalg.cholesky(spd))
    np.testing.assert_allclose(ops.eigvalsh(spd), np.linalg.eigvalsh(spd))
    w, v = ops.eig(x)
    np.testing.assert_allclose(x @ v, v * w[:, None, :], atol=1e-12)
    np.testing.assert_allclose(ops.eigvals(x), w)
    assert w.dtype == v.dtype == np.complex128


@pytest.mark.parametrize("trans", [0, 1, 2, "N", "T", "C"])
@pytest.mark.parametrize("lower", [False, True])
@pytest.mark.parametrize("unit_diagonal", [False, True])
def test_triangular_systems(trans, lower, unit_diagonal):
    import scipy.linalg

    a, b = matrix(3, 2, 2, kind=complex) + 3 * np.eye(2), matrix(4, 2, 2, kind=complex)
    expected = scipy.linalg.solve_triangular(a, b, trans=trans, lower=lower, unit_diagonal=unit_diagonal)
    np.testing.assert_allclose(ops.solve_triangular(a, b, trans, lower, unit_diagonal), expected)
    batch = ops.solve_triangular(np.stack([a, 2 * a]), b[:, 0], trans, lower, unit_diagonal)
    np.testing.assert_allclose(batch[0], expected[:, 0])
    check_grads(
        lambda a, b: loss(ops.solve_triangular(a, b, trans, lower, unit_diagonal)), a, b, order=1, modes=("rev",)
    )


@pytest.mark.parametrize(
    "name", ["inv", "det", "cholesky", "expm", "pinv", "qr", "svd", "eigh", "eig", "slogdet", "adjugate"]
)
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_precision_is_kept(name, dtype):
    out = getattr(ops, name)(definite(5, 3).astype(dtype))
    for part in out if isinstance(out, tuple) else (out,):
        assert part.dtype == (np.complex64 if name == "eig" else dtype)


def test_integers_count_as_float64():
    x = np.array([[2, 1], [1, 3]], np.uint8)
    assert ops.inv(x).dtype == np.float64
    np.testing.assert_allclose(ops.inv(x) @ x, np.eye(2), atol=1e-12)
    np.testing.assert_allclose(ops.det(x), 5.0)


# ---- derivatives of complex matrices: functions that do not depend on phases ----


def test_complex_gradients():
    x = matrix(6, 2, 2, kind=complex)
    for f in (ops.inv, ops.det, ops.adjugate, ops.expm, lambda x: ops.slogdet(x)[0], lambda x: ops.slogdet(x)[1]):
        check_grads(lambda x, f=f: loss(f(x)), x, order=2, modes=("rev",))


@KINDS
def test_functions_of_eigenvectors(kind):
    x = matrix(7, 2, 2, kind=kind) if kind is complex else matrix(7, 3, 3)

    def exponential(x):
        w, v = ops.eigh(x)
        return loss((v * ops.exp(w)) @ h(v)) + ops.sum(w * np.arange(1.0, len(x) + 1.0))

    def general(x):
        w, v = ops.eig(x)
        return loss((v * ops.sin(w)) @ ops.inv(v)) + ops.sum(ops.abs(w * w)) + ops.sum(ops.abs(v[:, 1]) ** 3)

    check_grads(exponential, x, order=2, modes=("rev",))
    check_grads(general, x, order=2, modes=("rev",))
    np.testing.assert_allclose(grad(exponential)(x), np.conj(grad(exponential)(x)).T)  # the gradient is Hermitian


@KINDS
@pytest.mark.parametrize("shape", [(2, 2), (3, 2), (2, 3)])
def test_functions_of_singular_vectors(shape, kind):
    def function(x):
        u, s, vh = ops.svd(x)
        return loss((u * ops.sin(s)) @ vh) + ops.sum(ops.abs(u[0]) ** 3) + ops.sum(ops.abs(vh[:, 0]) ** 3)

    x = matrix(8, *shape, kind=kind)
    check_grads(function, x, order=2, modes=("rev",))
    check_grads(lambda x: loss(ops.pinv(x)), x, order=2, modes=("rev",))


@pytest.mark.parametrize("shape", [(3, 2), (2, 3)])
def test_each_output_of_qr_alone(shape):
    x = matrix(9, *shape, kind=complex)
    check_grads(lambda x: loss(ops.qr(x)[0]), x, order=2, modes=("rev",))
    check_grads(lambda x: loss(ops.qr(x)[1]), x, order=2, modes=("rev",))


def test_complex_cholesky_and_systems():
    x, b = definite(10, 2, complex), matrix(11, 2, kind=complex)
    check_grads(lambda x: loss(ops.cholesky(x)), x, order=2, modes=("rev",))
    check_grads(lambda x, b: loss(ops.solve(x, b)), x, b, order=2, modes=("rev",))
    check_grads(lambda x, b: loss(ops.lstsq(x[:, :1], b)), x, b, order=1)


# ---- singular points ----


def test_gradient_of_det_at_singular_matrices():
    rank2 = matrix(12, 3, 2) @ matrix(13, 2, 3)
    cofactors = [
        [(-1) ** (i + j) * np.linalg.det(np.delete(np.delete(rank2, i, 0), j, 1)) for j in range(3)] for i in range(3)
    ]
    np.testing.assert_allclose(grad(ops.det)(rank2), cofactors, rtol=1e-9)
    np.testing.assert_array_equal(grad(ops.det)(np.zeros((3, 3))), np.zeros((3, 3)))
    np.testing.assert_allclose(grad(ops.det)(np.array([[5.0]])), [[1.0]])


def test_equal_values_have_finite_gradients():
    eye = np.eye(3)
    np.testing.assert_allclose(grad(lambda x: ops.sum(ops.svdvals(x) ** 3))(2 * eye), 12 * eye, atol=1e-12)
    np.testing.assert_allclose(grad(lambda x: ops.sum(ops.exp(ops.eigvalsh(x))))(eye), math.e * eye, atol=1e-12)
    c = matrix(14, 3, 3)
    x = np.diag([1.0, 1.0, 4.0])  # the projection on the space of the equal values is differentiable

    def projected(x):
        v = ops.eigh(x)[1][:, :2]
        return ops.sum((v @ h(v)) * c)

    assert np.isfinite(grad(lambda x: loss(ops.eigh(x)[1]))(x)).all()
    assert np.isfinite(grad(lambda x: loss(ops.svd(x)[0]) + loss(ops.svd(x)[2]))(2 * eye)).all()
    nearly = np.diag([1.0, 1.0 + 1e-5, 4.0])
    np.testing.assert_allclose(grad(projected)(x), grad(projected)(nearly), atol=1e-4)


def test_unused_vectors_cost_no_division():
    x = np.zeros((2, 3))
    assert np.isfinite(grad(lambda x: ops.sum(ops.svdvals(x)))(x)).all()
    assert np.isfinite(grad(lambda x: loss(ops.svd(x)[0]))(x)).all()


def test_pinv_at_lower_rank():
    check_grads(lambda u, v: loss(ops.pinv(ops.outer(u, v))), matrix(15, 3), matrix(16, 2), order=1)


def test_second_derivative_of_logdet():
    x, d = definite(17, 3), matrix(18, 3, 3)
    found = np.einsum("ij,ijkl,kl->", d, hessian(lambda x: ops.slogdet(x)[1])(x), d)
    np.testing.assert_allclose(found, -np.trace(np.linalg.inv(x) @ d @ np.linalg.inv(x) @ d))


def test_third_order():
    x = definite(19, 2) / 3
    for f in (ops.inv, ops.cholesky, ops.expm, lambda x: ops.svd(x)[1], lambda x: ops.qr(x)[1]):
        check_grads(lambda x, f=f: loss(f(x)), x, order=3, modes=("rev",))


def test_expm_keeps_accuracy_under_large_cotangents():
    x, c = matrix(38, 3, 3), matrix(39, 3, 3)
    plain, large = (grad(lambda x, k=k: ops.sum(ops.expm(x) * c) * k)(x) for k in (1.0, 1e18))
    np.testing.assert_allclose(large / 1e18, plain, rtol=1e-13)


def test_zero_size():
    for f in (
        ops.inv,
        ops.cholesky,
        ops.expm,
        ops.adjugate,
        ops.det,
        lambda x: ops.svd(x)[0],
        lambda x: ops.eigh(x)[1],
    ):
        for shape in ((0, 3, 3), (2, 0, 0)):
            assert grad(lambda x, f=f: ops.sum(f(x)))(np.zeros(shape)).shape == shape
    assert ops.det(np.zeros((0, 0))) == 1.0


# ---- functions over rows ----


def test_products():
    a, b = matrix(20, 2, 3), matrix(21, 4, 1, 2)
    np.testing.assert_allclose(ops.kron(a, b), np.kron(a, b))
    np.testing.assert_allclose(ops.kron(a[0], a), np.kron(a[0], a))
    np.testing.assert_allclose(ops.inner(a, matrix(22, 4, 5, 3)), np.inner(a, matrix(22, 4, 5, 3)))
    c, d = matrix(23, 4, 3, kind=complex), matrix(24, 4, 3, kind=complex)
    np.testing.assert_allclose(ops.vdot(c, d), np.vdot(c, d))
    np.testing.assert_allclose(ops.vecdot(c, d), np.vecdot(c, d))
    np.testing.assert_allclose(ops.cross(c, d), np.cross(c, d))
    np.testing.assert_allclose(ops.cross(c.T, d.T, axis=0), np.cross(c.T, d.T, axis=0))
    np.testing.assert_allclose(ops.trace(b @ b.swapaxes(-1, -2)), np.trace(b @ b.swapaxes(-1, -2), axis1=-2, axis2=-1))
    chain = [matrix(25, 3), matrix(26, 3, 5), matrix(27, 5, 2), matrix(28, 2)]
    np.testing.assert_allclose(ops.multi_dot(chain), np.linalg.multi_dot(chain))
    check_grads(lambda a, b: loss(ops.kron(a, b)), a, b, order=2)
    check_grads(lambda c, d: loss(ops.cross(c, d)), c, d, order=1)


@pytest.mark.parametrize("n", [-2, -1, 0, 1, 2, 5])
def test_matrix_power(n):
    x = definite(29, 3) / 4
    np.testing.assert_allclose(ops.matrix_power(x, n), np.linalg.matrix_power(x, n))
    if n:
        check_grads(lambda x: loss(ops.matrix_power(x, n)), x, order=2)
    else:
        np.testing.assert_array_equal(grad(lambda x: loss(ops.matrix_power(x, 0)))(x), np.zeros((3, 3)))


@pytest.mark.parametrize("ord", ["fro", "nuc", 1, -1, 2, -2, math.inf, -math.inf])
@pytest.mark.parametrize("axis", [(0, 1), (2, 0), (-1, -2)])
def test_matrix_norm(ord, axis):
    x = matrix(30, 2, 2, 3)
    for keepdims in (False, True):
        expected = np.linalg.norm(x, ord, axis, keepdims)
        np.testing.assert_allclose(ops.matrix_norm(x, ord, axis, keepdims), expected)
    check_grads(lambda x: loss(ops.matrix_norm(x, ord, axis)), x, order=1, modes=("rev",))


@pytest.mark.parametrize("ord", [2, 1, 3, 0.5, 0, -1, math.inf, -math.inf])
def test_vector_norm(ord):
    x = matrix(31, 2, 3)
    for axis in (None, 1, (0, 1)):
        expected = np.linalg.vector_norm(x, axis=axis, ord=ord, keepdims=True)
        np.testing.assert_allclose(ops.vector_norm(x, ord, axis, keepdims=True), expected)
    if ord:
        check_grads(lambda x: loss(ops.vector_norm(x, ord, 1)), x, order=2 if abs(ord) != math.inf else 1)
    if ord in (2, 1, 3):
        assert np.isfinite(grad(lambda x: ops.vector_norm(x, ord))(np.zeros(3))).all()


def test_lstsq_agrees_with_numpy():
    a, b = matrix(32, 5, 3), matrix(33, 5, 2)
    np.testing.assert_allclose(ops.lstsq(a, b), np.linalg.lstsq(a, b)[0])
    rank1 = np.outer(matrix(34, 5), matrix(35, 3))
    np.testing.assert_allclose(ops.lstsq(rank1, b), np.linalg.lstsq(rank1, b)[0], atol=1e-12)


# ---- messages ----


def test_messages():
    tall, singular = matrix(36, 3, 2), np.ones((2, 2))
    with pytest.raises(ValueError, match=r"inv\(float64\(3, 2\)\): .*square"):
        ops.inv(tall)
    with pytest.raises(
        ValueError, match=r"square matrices of shape \(..., n, n\) are needed, not an array of shape \(3, 2\)"
    ):
        ops.expm(tall)
    with pytest.raises(ValueError, match=r"inv.*[Ss]ingular"):
        ops.inv(DiffTensor(singular, requires_grad=True))
    with pytest.raises(ValueError, match=r"cholesky.*not positive definite"):
        ops.cholesky(-np.eye(2))
    with pytest.raises(ValueError, match=r"solve: matrices of shape .* do not fit: 3 rows against 2"):
        ops.solve(DiffTensor.symbol((3, 3)), DiffTensor.symbol((2, 1)))
    with pytest.raises(ValueError, match='trans must be 0, 1, 2, "N", "T" or "C", not 3'):
        ops.solve_triangular(np.eye(2), np.ones(2), trans=3)
    with pytest.raises(ValueError, match='ord must be "fro"'):
        ops.matrix_norm(tall, ord=3)
    with pytest.raises(ValueError, match="3 components"):
        ops.cross(tall, tall)


@pytest.mark.parametrize("scale", [0.0, 1e-9, 1.0, 30.0, 600.0])
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_expm_is_scipys_whatever_the_norm(scale, dtype):
    x = np.random.default_rng(0).normal(size=(3, 4, 4)).astype(dtype)
    x = (
        scale * (x - np.swapaxes(x, -1, -2).conj()) / 2
    )  # antihermitian: the exponential is unitary, however large the norm
    x[1] *= 1e-3  # matrices of a batch are scaled one by one
    expected = scipy.linalg.expm(x)
    np.testing.assert_allclose(ops.expm(x), expected, rtol=0, atol=1e-14 * max(scale, 1.0))
    with np.errstate(all="ignore"):
        assert np.isnan(ops.expm(np.full((2, 2), np.inf))).all()
    assert ops.expm(np.zeros((0, 0))).shape == (0, 0)


# ---- beside PyTorch ----


@pytest.mark.peers
@KINDS
@pytest.mark.parametrize(
    ("name", "peer"),
    [
        ("inv", "linalg.inv"), ("det", "linalg.det"), ("cholesky", "linalg.cholesky"), ("pinv", "linalg.pinv"),
        ("expm", "linalg.matrix_exp"), ("qr", "linalg.qr"), ("slogdet", "linalg.slogdet"), ("eigvalsh", "linalg.eigvalsh"),
        ("svdvals", "linalg.svdvals"), ("eigvals", "linalg.eigvals"),
    ],
)  # fmt: skip
def test_gradients_are_pytorchs(name, peer, kind):
    torch = pytest.importorskip("torch")
    x = definite(37, 4, kind) / 8

    def total(parts, absolute):
        parts = parts if isinstance(parts, tuple) else (parts,)
        return sum((absolute(p) ** 3).sum() for p in parts)

    ours = grad(lambda x: total(getattr(ops, name)(x), ops.abs))(x)
    t = torch.tensor(x, requires_grad=True)
    out = eval("torch." + peer)(t)
    total(out if torch.is_tensor(out) else tuple(out), torch.abs).backward()
    theirs = np.conj(t.grad.numpy())  # PyTorch's gradient is the conjugate of ours
    if name == "cholesky":
        theirs = (theirs + np.conj(theirs).T) / 2
    np.testing.assert_allclose(ours, theirs, rtol=1e-8, atol=1e-9 * np.abs(theirs).max())
