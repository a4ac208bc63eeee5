"""Fourier transforms: NumPy's values for every function and norm, derivatives through cutting and padding, messages."""

import numpy as np
import pytest

from autograd import grad, ops, vjp
from autograd.testing import check_grads

NORMS = pytest.mark.parametrize("norm", [None, "backward", "ortho", "forward"])
ONE = ("fft", "ifft", "rfft", "irfft", "hfft", "ihfft")
TWO = ("fft2", "ifft2", "rfft2", "irfft2")
MANY = ("fftn", "ifftn", "rfftn", "irfftn")
REAL = ("rfft", "ihfft", "rfft2", "rfftn")


def signal(name, *shape, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=shape)
    return x if name in REAL else x + 1j * rng.normal(size=shape)


def loss(y):
    weights = np.cos(np.arange(y.size) * 1.3).reshape(y.shape) + 1j * np.sin(np.arange(y.size) + 0.2).reshape(y.shape)
    return ops.sum(ops.real(y * weights)) + ops.sum(ops.square(ops.abs(y)))


@NORMS
@pytest.mark.parametrize("name", ONE)
@pytest.mark.parametrize(("n", "axis"), [(None, -1), (2, 0), (5, 1), (1, 0)])
def test_one_axis(name, n, axis, norm):
    x = signal(name, 3, 4)
    expected = getattr(np.fft, name)(x, n, axis, norm)
    np.testing.assert_allclose(getattr(ops, name)(x, n, axis, norm), expected, atol=1e-12)
    if norm == "ortho":
        check_grads(lambda x: loss(getattr(ops, name)(x, n, axis, norm)), x, order=1, modes=("rev",))


@NORMS
@pytest.mark.parametrize("name", TWO + MANY)
@pytest.mark.parametrize(("s", "axes"), [(None, (-2, -1)), ((3, 2), (1, 0)), ((1, 4), (0, 2)), (None, (2,))])
def test_several_axes(name, s, axes, norm):
    x = signal(name, 2, 2, 3)
    expected = getattr(np.fft, name)(x, s, axes, norm)
    np.testing.assert_allclose(getattr(ops, name)(x, s, axes, norm), expected, atol=1e-12)
    if norm == "forward":
        check_grads(lambda x: loss(getattr(ops, name)(x, s, axes, norm)), x, order=1, modes=("rev",))


@pytest.mark.parametrize("name", MANY)
def test_all_axes(name):
    x = signal(name, 2, 3)
    np.testing.assert_allclose(getattr(ops, name)(x), getattr(np.fft, name)(x), atol=1e-12)
    np.testing.assert_allclose(getattr(ops, name)(x, (4, 6)), getattr(np.fft, name)(x, (4, 6), (0, 1)), atol=1e-12)
    check_grads(lambda x: loss(getattr(ops, name)(x)), x, order=2, modes=("rev",))


@pytest.mark.parametrize("name", ["fftshift", "ifftshift"])
@pytest.mark.parametrize("axes", [None, 0, -1, (0, 1), ()])
def test_shifts(name, axes):
    x = signal("rfft", 4, 5)
    np.testing.assert_array_equal(getattr(ops, name)(x, axes), getattr(np.fft, name)(x, axes))
    np.testing.assert_array_equal(ops.ifftshift(ops.fftshift(x, axes), axes), x)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 8])
def test_parseval(n):
    """The energy of a signal is that of its spectrum, so its gradient is twice the signal."""
    x = signal("rfft", n)
    np.testing.assert_allclose(grad(lambda x: ops.sum(ops.square(ops.abs(ops.fft(x, norm="ortho")))))(x), 2 * x)


@NORMS
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 8])
def test_transposes(n, norm):
    """⟨u, F v⟩ = ⟨Fᵀ u, v⟩, in the bilinear form, for the real transforms."""
    x, y = signal("rfft", n), signal("fft", n // 2 + 1, seed=1)
    spectrum, pull = vjp(lambda x: ops.rfft(x, norm=norm), x)
    np.testing.assert_allclose(np.sum(pull(y)[0] * x), np.sum(y * spectrum).real)
    back, pull = vjp(lambda y: ops.irfft(y, n, norm=norm), y)
    np.testing.assert_allclose(np.sum(pull(x)[0] * y).real, np.sum(x * back))


def test_precision():
    for dtype, wide in (
        (np.float16, np.complex64),
        (np.float32, np.complex64),
        (np.float64, np.complex128),
        (np.uint8, np.complex128),
    ):
        x = np.arange(6).astype(dtype)
        for name in ("fft", "rfft", "fftn"):
            assert getattr(ops, name)(x).dtype == wide
    assert ops.irfft(np.ones(3, np.complex64)).dtype == np.float32
    assert grad(lambda x: loss(ops.rfft(x)))(np.ones(4, np.float32)).dtype == np.float32


def test_gradient_of_a_filter():
    x, kernel = signal("rfft", 16), signal("rfft", 16, seed=2)

    def convolved(x, kernel):
        return ops.irfft(ops.rfft(x) * ops.rfft(kernel), 16)

    direct = [sum(x[(i - j) % 16] * kernel[j] for j in range(16)) for i in range(16)]
    np.testing.assert_allclose(convolved(x, kernel), direct, atol=1e-12)
    check_grads(convolved, x, kernel, order=2, modes=("rev",))


def test_messages():
    x = np.ones((3, 4))
    with pytest.raises(ValueError, match='norm must be "backward", "ortho" or "forward", not \'unit\''):
        ops.hfft(x, norm="unit")
    with pytest.raises(ValueError, match="transform of length 0 is not possible"):
        ops.fft(x, 0)
    with pytest.raises(ValueError, match="axis 5 is out of range"):
        ops.fft(x, 3, axis=5)
    with pytest.raises(ValueError, match=r"1 lengths \(3,\) were given for 2 axes"):
        ops.fft2(x, (3,))
    with pytest.raises(TypeError, match=r"rfft.*a real array is needed, not one of dtype complex128; use fft"):
        ops.rfft(x + 1j)
    with pytest.raises(ValueError, match="at least one axis"):
        ops.rfftn(x, axes=())


@pytest.mark.peers
@pytest.mark.parametrize("name", ONE)
def test_gradients_are_pytorchs(name):
    torch = pytest.importorskip("torch")
    x = signal(name, 3, 6)
    ours = grad(lambda x: ops.sum(ops.abs(getattr(ops, name)(x, 7)) ** 3))(x)
    t = torch.tensor(x, requires_grad=True)
    (getattr(torch.fft, name)(t, 7).abs() ** 3).sum().backward()
    np.testing.assert_allclose(ours, np.conj(t.grad.numpy()), rtol=1e-9, atol=1e-9)
