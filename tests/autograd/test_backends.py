"""Array libraries: whole computations on the pretend device, moves between devices, and CuPy where there is a GPU.

Each row runs on the pretend device in ``test_rows``; here are compositions, the transforms and the guard itself.
"""

import importlib.util

import array_api_strict as strict
import numpy as np
import pytest

from autograd import BackwardPass, DiffTensor, backend, grad, hessian, hvp, jacobian, jvp, ops, vjp
from autograd.testing import device


def put(*arrays):
    return [device.put(np.asarray(a)) for a in arrays]


def loss(w, v, x, y):
    h = ops.tanh(ops.matmul(x, w))  # array-api-strict's own operators refuse a tensor on the right
    h = h / (1.0 + ops.norm(h, axis=1, keepdims=True))
    z = ops.log_softmax(h @ v, axis=-1)
    return -ops.mean(ops.take_along_axis(z, y, axis=-1)) + 0.1 * ops.sum(w * w) + ops.max(v)


RNG = np.random.default_rng(0)
W, V, X = RNG.normal(size=(4, 5)), RNG.normal(size=(5, 3)), RNG.normal(size=(6, 4))
Y = RNG.integers(0, 3, (6, 1))


def test_a_training_step_never_touches_the_host():
    expected = grad(loss, (0, 1))(W, V, X, Y)
    w, v, x, y = put(W, V, X, Y)
    with device.guarded():
        tw, tv = DiffTensor(w, requires_grad=True), DiffTensor(v, requires_grad=True)
        loss(tw, tv, x, y).backward()
        found = [tw.grad, tv.grad]
        tw.add_(-0.1 * tw.grad)
        loss(tw, tv, x, y).backward()
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(device.get(a), b, rtol=1e-12)
    np.testing.assert_allclose(device.get(tw.raw), W - 0.1 * expected[0], rtol=1e-12)
    assert tw.device == str(device.DEVICE)


def test_transforms_never_touch_the_host():
    w, v, x, y = put(W, V, X, Y)

    def f(a):
        there = isinstance(a, device.Array) or isinstance(a.raw, device.Array)
        return loss(a, *((v, x, y) if there else (V, X, Y)))

    expected = [
        grad(f)(W), jvp(f, (W,), (W,))[1], hvp(f)(W, W), vjp(f, W)[1](np.float64(2.0))[0], jacobian(lambda a: ops.sum(a, axis=0))(W),
        grad(lambda a: ops.sum(grad(f)(a) ** 2))(W), hessian(lambda a: ops.sum(ops.exp(a[:1, :2])))(W),
    ]  # fmt: skip
    two = device.put(np.float64(2.0))
    with device.guarded():
        found = [
            grad(f)(w), jvp(f, (w,), (w,))[1], hvp(f)(w, w), vjp(f, w)[1](two)[0], jacobian(lambda a: ops.sum(a, axis=0))(w),
            grad(lambda a: ops.sum(grad(f)(a) ** 2))(w), hessian(lambda a: ops.sum(ops.exp(a[:1, :2])))(w),
        ]  # fmt: skip
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(device.get(a), b, rtol=1e-11)


def test_a_convolutional_network_never_touches_the_host():
    x, k, b = RNG.normal(size=(2, 3, 6, 6)), RNG.normal(size=(4, 3, 3, 3)), RNG.normal(size=4)

    def f(x, k, b):
        h = ops.relu(ops.conv2d(x, k, b, padding=1))
        return ops.sum(ops.max_pool2d(ops.batch_norm(h), 2) ** 2)

    expected = grad(f, (0, 1, 2))(x, k, b)
    on_device = put(x, k, b)
    with device.guarded():
        found = grad(f, (0, 1, 2))(*on_device)
    for a, e in zip(found, expected, strict=True):
        np.testing.assert_allclose(device.get(a), e, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "copy",
    [float, bool, np.asarray, np.from_dlpack, lambda a: np.add(a, 1), lambda a: complex(a), lambda a: [1, 2][a.astype(int)] if hasattr(a, "astype") else a.__index__(), memoryview],
    ids=["float", "bool", "asarray", "from_dlpack", "ufunc", "complex", "index", "buffer"],
)  # fmt: skip
def test_the_guard_catches_every_way_to_the_host(copy):
    (a,) = put(1.0)
    with device.guarded(), pytest.raises((device.HiddenCopy, TypeError, RuntimeError, BufferError)):
        copy(a)
    here = strict.asarray(1.0)
    with device.guarded():
        assert float(here) == 1.0  # arrays on the host are free to go
    assert float(a) == 1.0, "the guard must be gone"


def test_the_guard_lets_the_library_itself_work():
    (a,) = put(np.arange(3.0))
    with device.guarded():
        repr(a)
        assert (a + 1).device == device.DEVICE


def test_a_hidden_copy_in_a_kernel_is_found():
    (a,) = put(1.0)
    with device.guarded(), pytest.raises(device.HiddenCopy, match=r"float64 array of shape \(\).*through __float__"):
        float(DiffTensor(a).raw)


def test_arrays_and_numpy_numbers_mix():
    (a,) = put(np.arange(3.0))
    t = DiffTensor(a, requires_grad=True)
    with device.guarded():
        y = ops.sum(2.0 * t**2 - t / 4 + (1 - t))
        y.backward()
    np.testing.assert_allclose(device.get(t.grad), 4 * np.arange(3.0) - 0.25 - 1)


def test_arrays_of_two_libraries_do_not_mix():
    (a,) = put(np.arange(3.0))
    with pytest.raises((TypeError, RuntimeError), match="multiply"):
        _ = DiffTensor(a) * np.arange(3.0)


def test_moving_to_the_host_and_back():
    (a,) = put(np.arange(3.0))
    t = DiffTensor(a, requires_grad=True)
    there = t * 2.0
    here = there.to("cpu")
    assert here.device == "cpu" and type(here.raw) is np.ndarray
    np.testing.assert_array_equal(here.numpy(), [0.0, 2.0, 4.0])
    np.testing.assert_array_equal(there.numpy(), [0.0, 2.0, 4.0])
    ops.sum(here * np.array([1.0, 10.0, 100.0])).backward()
    np.testing.assert_array_equal(device.get(t.grad), [2.0, 20.0, 200.0])


def test_reading_tensors_of_the_device():
    (a,) = put(np.array([1.5, 2.5]))
    t = DiffTensor(a)
    assert t.sum().item() == 4.0 and t.tolist() == [1.5, 2.5] and len(t) == 2
    assert repr(
        t
    ) == f"DiffTensor([1.5, 2.5], dtype=array_api_strict.float64, device={t.device!r})" or "device=" in repr(t)


def test_what_is_no_array_library_is_refused():
    class Fake:
        shape, dtype = (), "float64"

    with pytest.raises(TypeError, match="array API standard"):
        backend.xp(Fake())


def test_integer_dtypes_of_any_library_have_no_gradient():
    (a,) = put(np.arange(3))
    with pytest.raises(TypeError, match="floating-point and complex"):
        DiffTensor(a, requires_grad=True)


cupy_works = pytest.mark.skipif(importlib.util.find_spec("cupy") is None, reason="CuPy is not installed")


@pytest.mark.gpu
@cupy_works
def test_a_training_step_on_a_gpu():
    import cupy

    if not cupy.cuda.is_available():
        pytest.skip("no GPU")
    expected = grad(loss, (0, 1))(W, V, X, Y)
    w, v = DiffTensor(W, device="cuda", requires_grad=True), DiffTensor(V, device="cuda", requires_grad=True)
    loss(w, v, cupy.asarray(X), cupy.asarray(Y)).backward()
    assert isinstance(w.grad, cupy.ndarray)
    np.testing.assert_allclose(w.grad.get(), expected[0], rtol=1e-10)
    np.testing.assert_allclose(v.grad.get(), expected[1], rtol=1e-10)
    assert w.to("cpu").device == "cpu" and w.device == "cuda:0"


@pytest.mark.gpu
@cupy_works
def test_every_kernel_runs_on_a_gpu():
    import cupy

    if not cupy.cuda.is_available():
        pytest.skip("no GPU")
    x = cupy.linspace(0.1, 0.9, 12).reshape(3, 4)
    for fn in (
        ops.erf,
        ops.softmax,
        ops.cumprod,
        ops.sort,
        ops.std,
        lambda x: ops.take(x, cupy.asarray([0, 0, 2]), axis=0),
        lambda x: x[[0, 0]],
        lambda x: ops.linear(x, x),
    ):
        t = DiffTensor(x, requires_grad=True)
        out = fn(t)
        (g,) = BackwardPass((out,), (t,)).run((cupy.ones_like(out.raw),)).values()
        h = DiffTensor(x.get(), requires_grad=True)
        index_free = fn in (ops.erf, ops.softmax, ops.cumprod, ops.sort, ops.std)
        if index_free:
            expected = BackwardPass((fn(h),), (h,)).run((np.ones(out.shape),))[h.node]
            np.testing.assert_allclose(g.get(), expected, rtol=1e-10)
        assert isinstance(g, cupy.ndarray)
