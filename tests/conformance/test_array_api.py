"""The array API standard on tensors: names, signatures, values and dtypes as array-api-strict has them, and every gradient."""

import inspect
import itertools
from typing import Any

import array_api_strict as strict
import numpy as np
import pytest
from array_api_calls import CALLS, CONSTANT, FFT, LINALG, VALUES, of

import autograd.array_api as xp
from autograd import AutogradContext, DiffTensor, grad, hessian, jvp, ops, vmap
from autograd.testing import assert_vmap_equals_loop, check_grads, device

NEWER = {"broadcast_shapes", "isin"}  # of 2025.12
OWN = {name for name in strict.__all__ if "flags" in name.lower()} | {"Device", "__version__"}
EVERY = {**CALLS, **{f"linalg.{k}": v for k, v in LINALG.items()}, **{f"fft.{k}": v for k, v in FFT.items()}}
NOT_COMPARED = {"can_cast", "finfo", "iinfo", "isdtype", "result_type"}  # of dtypes: they have tests of their own


@pytest.fixture(autouse=True)
def version() -> Any:
    with strict.ArrayAPIStrictFlags(
        api_version="2024.12", boolean_indexing=True, data_dependent_shapes=True, enabled_extensions=("linalg", "fft")
    ):
        yield


def namespaces() -> list[tuple[Any, Any]]:
    return [(strict, xp), (strict.linalg, xp.linalg), (strict.fft, xp.fft)]


def test_every_name_of_the_standard_is_there() -> None:
    for theirs, ours in namespaces():
        wanted = set(theirs.__all__) - NEWER - OWN
        assert wanted <= set(dir(ours)) and wanted <= set(ours.__all__)
    assert set(xp.__all__) - set(strict.__all__) == {"in_place"}
    assert xp.__array_api_version__ == "2024.12"
    with pytest.raises(AttributeError, match=r"has no 'softmax'; autograd.ops has softmax"):
        _ = xp.softmax


def test_signatures() -> None:
    def told(function: Any) -> list:
        parameters = inspect.signature(function).parameters.values()
        return [(p.name, p.kind, None if "Undef" in repr(p.default) else p.default) for p in parameters]

    for theirs, ours in namespaces():
        functions = [n for n in theirs.__all__ if inspect.isfunction(getattr(theirs, n)) and n not in NEWER | OWN]
        assert len(functions) >= 14
        for name in functions:
            assert told(getattr(ours, name)) == told(getattr(theirs, name)), name


def test_the_tables_of_calls_have_every_function() -> None:
    functions = {n for n in xp.__all__ if inspect.isfunction(getattr(xp, n))} - NOT_COMPARED
    assert functions - {"in_place", "__array_namespace_info__"} == set(CALLS)
    assert set(xp.linalg.__all__) == set(LINALG) and set(xp.fft.__all__) == set(FFT)


# ---- values and dtypes ----


def same(found: Any, expected: Any) -> None:
    if isinstance(expected, tuple | list):
        assert len(found) == len(expected) and type(found) is not DiffTensor
        assert getattr(found, "_fields", None) == getattr(expected, "_fields", None)
        for a, b in zip(found, expected, strict=True):
            same(a, b)
        return
    assert type(found) is DiffTensor
    assert found.shape == expected.shape and str(found.dtype) == str(expected.dtype).rpartition(".")[2]
    expected = np.asarray(expected)
    if expected.dtype.kind in "fc":
        eps = np.finfo(expected.dtype).eps
        np.testing.assert_allclose(found.numpy(), expected, rtol=50 * eps, atol=20 * eps)
    else:
        np.testing.assert_array_equal(found.numpy(), expected)


@pytest.mark.parametrize("name", EVERY)
def test_values(name: str) -> None:
    ours, theirs = of(xp), of(strict)
    for call in EVERY[name]:
        same(call(xp, ours), call(strict, theirs))


@pytest.mark.parametrize(
    "name", ["abs", "ceil", "exp", "floor", "isfinite", "isinf", "isnan", "log1p", "round", "sign", "signbit", "sqrt", "square", "tanh", "trunc"]
)  # fmt: skip
def test_special_values(name: str) -> None:
    with np.errstate(all="ignore"):
        same(getattr(xp, name)(of(xp).special), getattr(strict, name)(of(strict).special))
        z = np.array([0j, complex(-0.0, 0.0), complex(np.inf, 1.0), 3 - 4j])
        if name in ("abs", "sign", "square"):
            same(getattr(xp, name)(xp.asarray(z)), getattr(strict, name)(strict.asarray(z)))


def test_promotion_of_every_pair_that_the_standard_defines() -> None:
    defined = 0
    for a, b in itertools.product(xp.DTYPES, repeat=2):
        try:
            expected = strict.result_type(getattr(strict, a), getattr(strict, b))
        except TypeError:
            continue
        defined += 1
        wanted = str(expected).rpartition(".")[2]
        assert xp.result_type(getattr(xp, a), getattr(xp, b)) == getattr(xp, wanted)
        x, y = xp.ones(2, dtype=getattr(xp, a)), xp.ones(2, dtype=getattr(xp, b))
        assert xp.result_type(x, y) == getattr(xp, wanted)
        assert xp.where(xp.asarray([True, False]), x, y).dtype == getattr(xp, wanted)
        assert a == b == "bool" or (x * y).dtype == xp.multiply(x, y).dtype == getattr(xp, wanted)
    assert defined == 73
    assert xp.result_type(xp.float32, 1.0, 2) == xp.float32 and xp.result_type(xp.ones(1, dtype=xp.int8), 1) == xp.int8


def test_functions_of_dtypes() -> None:
    for name, kind in itertools.product(xp.DTYPES, ["bool", "signed integer", "unsigned integer", "integral", "real floating", "complex floating", "numeric"]):  # fmt: skip
        assert xp.isdtype(getattr(xp, name), kind) == strict.isdtype(getattr(strict, name), kind)
    assert xp.isdtype(xp.float32, (xp.float64, "integral", "real floating"))
    for name in ("float32", "float64", "complex64"):
        ours, theirs = xp.finfo(getattr(xp, name)), strict.finfo(getattr(strict, name))
        for field in ("bits", "eps", "max", "min", "smallest_normal"):
            assert getattr(ours, field) == getattr(theirs, field) and type(getattr(ours, field)) in (int, float)
        assert str(ours.dtype) == str(theirs.dtype).rpartition(".")[2]
    assert xp.iinfo(xp.uint8).max == 255 and xp.iinfo(xp.ones(1, dtype=xp.int16))[:3] == (16, 32767, -32768)
    assert xp.can_cast(xp.float32, xp.float64) and not xp.can_cast(xp.ones(1), xp.float32)
    with pytest.raises(TypeError, match=r"complex tensor does not become float64; write real\(x\)"):
        xp.astype(xp.asarray([1j]), xp.float64)


def test_inspection() -> None:
    info = xp.__array_namespace_info__()
    assert info.capabilities()["max dimensions"] == 64 and info.default_device() in info.devices()
    assert info.dtypes(kind="real floating") == {"float32": xp.float32, "float64": xp.float64}
    assert set(info.dtypes()) == set(strict.__array_namespace_info__().dtypes())
    assert info.default_dtypes() == {"real floating": xp.float64, "complex floating": xp.complex128, "integral": xp.int64, "indexing": xp.int64}  # fmt: skip
    with AutogradContext(dtype=np.float32):
        assert info.default_dtypes()["complex floating"] == xp.complex64
        for made in (
            xp.zeros(2),
            xp.asarray([0.5]),
            xp.linspace(0, 1, 3),
            xp.arange(0.0, 2.0),
            xp.full(2, 0.5),
            xp.eye(2),
        ):
            assert made.dtype == xp.float32


# ---- gradients ----


def leaves(value: Any) -> list:
    return [v for part in value for v in leaves(part)] if isinstance(value, tuple | list) else [value]


@pytest.mark.parametrize("name", EVERY)
def test_gradients(name: str) -> None:
    constant = name.rpartition(".")[2] in CONSTANT
    x, y = VALUES["x"], VALUES["y"]
    for call in EVERY[name]:
        tracked = {k: DiffTensor(v, requires_grad=True) for k, v in (("x", x), ("y", y))}
        found = leaves(call(xp, of(xp, **tracked)))
        if all(t.node is None for t in found):
            touched = constant or name == "asarray" or not _depends(call)
            assert touched, f"{name} loses the gradient"
            continue
        assert not constant
        check_grads(_along(call), 0.0, order=1)


def _along(call: Any) -> Any:
    """A random sum over a call's inexact results as a function of one number, by which x and y move in a random direction.
    (The rows were checked element by element; here they only have to be the right ones, with nothing lost between them.)"""
    rng = np.random.default_rng(11)
    dx, dy = rng.uniform(0.5, 1.5, (2, *VALUES["x"].shape)) * rng.choice([-1.0, 1.0], (2, 1, 4))

    def moved(t: Any) -> Any:
        total, weights = 0.0, np.random.default_rng(12)
        for found in leaves(call(xp, of(xp, x=VALUES["x"] + t * dx, y=VALUES["y"] + t * dy))):
            if xp.isdtype(found.dtype, ("real floating", "complex floating")):
                w = xp.asarray(weights.uniform(0.5, 1.5, found.shape))
                total = total + xp.sum((xp.real(found) + 2 * xp.imag(found)) * w)
        return total

    return moved


def _depends(call: Any) -> bool:
    """Whether a call's inexact results change with x or y."""
    with np.errstate(all="ignore"):
        before, after = (
            [
                t.numpy()
                for t in leaves(call(xp, of(xp, x=xp.asarray(x), y=xp.asarray(VALUES["y"]))))
                if xp.isdtype(t.dtype, "numeric")
            ]
            for x in (VALUES["x"], VALUES["x"] * 0.999)
        )
    return any(a.dtype.kind in "fc" and not np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_gradients_beyond_the_tables() -> None:
    w = np.array([1.5, -0.7, 2.0])
    check_grads(lambda a: xp.asarray([a[0], [1.0, a[1]][1], 2]) ** 2, w)
    check_grads(lambda a: xp.full((2, 3), a[0]) * xp.full_like(a, a[1] * a[2]), w)
    check_grads(lambda a: xp.linspace(a[0], a[2], 5) ** 2, w)
    check_grads(lambda a: xp.linspace(0.0, a[2], 4, endpoint=False) ** 2, w)
    check_grads(lambda a: xp.sign(a + 1j * a[::-1]), w)
    check_grads(lambda a: xp.reshape(xp.asarray(a, copy=True), (3, 1), copy=True) * a, w)
    check_grads(lambda a: xp.from_dlpack(a).to_device("cpu") ** 2, w)
    check_grads(lambda a: xp.linalg.cholesky(xp.eye(3) * 4 + xp.linalg.outer(a, a) * (1 + 0.1j) * 0.1, upper=True), w)
    check_grads(lambda a: xp.unique_values(xp.concat([a, a * 2])) * xp.asarray([1.0, 2, 3, 4, 5, 6]), w)


def test_a_gradient_is_never_lost_silently() -> None:
    t = DiffTensor(VALUES["x"], requires_grad=True)
    with pytest.raises(TypeError, match=r"svd: the vectors that complete a basis.*full_matrices=False"):
        xp.linalg.svd(t)
    with pytest.raises(TypeError, match=r'qr: the vectors.*mode="reduced"'):
        xp.linalg.qr(xp.matrix_transpose(t), mode="complete")
    with pytest.raises(TypeError, match=r"stop has no gradient here.*stop.detach\(\)"):
        xp.arange(0, t[0, 0])
    with pytest.raises(TypeError, match="correction has no gradient"):
        xp.var(t, correction=t[0, 0])
    assert xp.linalg.svd(t.detach()).U.shape == (3, 3) and xp.linalg.svd(t.detach()).Vh.shape == (4, 4)


# ---- the array object ----


def test_the_array_object() -> None:
    x = xp.asarray([[1.0, 2.0], [3.0, 4.0]])
    assert x.__array_namespace__() is xp and x.__array_namespace__(api_version="2022.12") is xp
    with pytest.raises(ValueError, match=r"2024.12, not '2030.01'"):
        x.__array_namespace__(api_version="2030.01")
    assert (x.device, x.ndim, x.size, x.T.shape, x.mT.shape) == ("cpu", 2, 4, (2, 2), (2, 2))
    assert x.to_device("cpu") is x
    with pytest.raises(ValueError, match="streams are not supported"):
        x.to_device("cpu", stream=1)
    with pytest.raises(ValueError, match="not known"):
        xp.zeros(2, device="moon")
    i = xp.asarray([1, 2, 3])
    assert ((i << 2).tolist(), (i >> 1).tolist(), (1 << i).tolist(), (16 >> i).tolist()) == (
        [4, 8, 12],
        [0, 1, 1],
        [2, 4, 8],
        [8, 4, 2],
    )
    assert [10, 20, 30][xp.asarray(1)] == 20 and complex(xp.asarray(1j)) == 1j and bool(xp.asarray(True))
    kept = x
    x += 1.0  # another tensor under the same name
    assert kept.tolist() == [[1.0, 2.0], [3.0, 4.0]] and x.tolist() == [[2.0, 3.0], [4.0, 5.0]]


@pytest.mark.parametrize(
    "call", [lambda: xp.sin([1.0]), lambda: xp.add(1.0, 2), lambda: xp.concat([[1.0]]), lambda: xp.where(True, 1, 2)]
)
def test_what_is_not_a_tensor_is_refused(call: Any) -> None:
    with pytest.raises(TypeError, match=r"asarray\(\)"):
        call()


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda x: xp.expand_dims(x, axis=4), IndexError), (lambda x: xp.squeeze(x, axis=0), ValueError), (lambda x: xp.moveaxis(x, 0, 5), IndexError),
        (lambda x: xp.moveaxis(x, (0, 1), 0), ValueError), (lambda x: xp.take(x, xp.asarray([0])), ValueError),
        (lambda x: xp.cumulative_sum(x), ValueError), (lambda x: xp.nonzero(x[0, 0]), ValueError), (lambda x: xp.meshgrid(x[0], indexing="yx"), ValueError),
        (lambda x: xp.linalg.outer(x, x), ValueError), (lambda x: xp.linalg.vecdot(x, x[:, :2]), ValueError), (lambda x: xp.matrix_transpose(x[0]), ValueError),
        (lambda x: xp.linalg.qr(x, mode="r"), ValueError), (lambda x: xp.searchsorted(x[0], x, side="up"), ValueError),
        (lambda x: xp.asarray(x, dtype=xp.float32, copy=False), ValueError), (lambda x: xp.asarray([1.0], copy=False), ValueError),
        (lambda x: xp.asarray(VALUES["x"], dtype=xp.float32, copy=False), ValueError), (lambda x: xp.reshape(x.T, (12,), copy=False), ValueError),
    ],
)  # fmt: skip
def test_errors(call: Any, error: type) -> None:
    with pytest.raises(error):
        call(xp.asarray(VALUES["x"]))


def test_memory() -> None:
    array = np.ones(3)
    assert np.shares_memory(xp.asarray(array, copy=False).raw, array) and not np.shares_memory(
        xp.asarray(array).raw, array
    )
    t = xp.asarray(array)
    assert xp.asarray(t) is t and xp.astype(t, xp.float64, copy=False) is t
    assert not np.shares_memory(xp.asarray(t, copy=True).raw, t.raw)
    assert not np.shares_memory(xp.asarray(xp.asarray([True]), copy=True).raw, t.raw)


# ---- code written against the standard, under every transform ----


def softmax_loss(w: Any, x: Any, labels: Any) -> Any:
    """The loss of softmax regression: nothing but the namespace of its argument."""
    nx = x.__array_namespace__()
    z = nx.matmul(x, w)
    top = nx.max(z, axis=-1, keepdims=True)
    normal = nx.log(nx.sum(nx.exp(z - top), axis=-1)) + nx.squeeze(top, axis=-1)
    chosen = nx.sum(nx.where(nx.arange(z.shape[-1]) == nx.expand_dims(labels, axis=-1), z, nx.zeros_like(z)), axis=-1)
    return nx.mean(normal - chosen) + 0.01 * nx.linalg.vector_norm(w) ** 2


RNG = np.random.default_rng(3)
W, X, LABELS = RNG.normal(size=(4, 3)), RNG.normal(size=(6, 4)), RNG.integers(0, 3, 6)


def test_softmax_regression_under_every_transform() -> None:
    x, labels = xp.asarray(X), xp.asarray(LABELS)
    assert float(softmax_loss(strict.asarray(W), strict.asarray(X), strict.asarray(LABELS))) == pytest.approx(
        float(softmax_loss(xp.asarray(W), x, labels))
    )
    check_grads(lambda w: softmax_loss(w, x, labels), W)
    p = np.exp(X @ W) / np.exp(X @ W).sum(axis=1, keepdims=True)
    expected = X.T @ (p - np.eye(3)[LABELS]) / 6 + 0.02 * W
    np.testing.assert_allclose(grad(softmax_loss)(W, x, labels), expected, rtol=1e-10)
    per_example = vmap(grad(softmax_loss), (None, 0, 0))(W, X[:, None], LABELS[:, None])
    np.testing.assert_allclose(per_example.mean(axis=0), expected, rtol=1e-10)
    h = hessian(softmax_loss)(W, x, labels)
    np.testing.assert_allclose(h, np.moveaxis(h, (0, 1), (2, 3)), rtol=1e-9, atol=1e-12)
    v = RNG.normal(size=W.shape)
    along = jvp(lambda w: grad(softmax_loss)(w, x, labels), (W,), (v,))[1]
    np.testing.assert_allclose(along, np.tensordot(h, v, 2), rtol=1e-9)
    shape = softmax_loss(DiffTensor.symbol((4, 3), np.float32), DiffTensor.symbol((6, 4), np.float32), labels)
    assert shape.raw is None and shape.shape == () and shape.dtype == np.float32


@pytest.mark.parametrize(
    "name",
    sorted(set(EVERY) - {"nonzero", "unique_all", "unique_counts", "unique_inverse", "unique_values", "asarray"}),
)
def test_vmap_is_the_loop(name: str) -> None:
    xs, ys = (np.stack([VALUES[k], VALUES[k][::-1]]) for k in "xy")
    for call in EVERY[name]:
        whole = lambda x, y, call=call: tuple(leaves(call(xp, of(xp, x=xp.asarray(x), y=xp.asarray(y)))))
        if name.rpartition(".")[2] in CONSTANT and not any(
            type(t.raw).__name__ == "Batch" for t in _inside(whole, xs, ys)
        ):
            continue
        assert_vmap_equals_loop(whole, xs, ys, in_axes=(0, 0))


def _inside(function: Any, xs: Any, ys: Any) -> list:
    found: list = []
    vmap(lambda x, y: found.extend(function(x, y)) or x)(xs, ys)
    return found


def test_what_depends_on_values_is_refused_where_there_are_none() -> None:
    for call in (xp.nonzero, xp.unique_all, xp.unique_values, lambda x: xp.repeat(x, xp.astype(x, xp.int64))):
        with pytest.raises(TypeError, match="inside vmap: the value differs"):
            vmap(call)(np.ones((2, 3)))
        with pytest.raises(TypeError, match="symbolic tensor has no value"):
            call(DiffTensor.symbol((3,)))


def test_another_library_on_a_device_of_its_own() -> None:
    w, x = (DiffTensor(device.put(v)) for v in (W, X))
    labels = DiffTensor(device.put(LABELS))
    with device.guarded():
        nx = w.__array_namespace__()
        made = [
            nx.zeros_like(w),
            nx.full_like(w, 2.0),
            nx.cumulative_sum(w, axis=0, include_initial=True),
            nx.linspace(w[0, 0], w[1, 0], 3),
        ]
        w.requires_grad = True
        z = nx.matmul(x, w)
        chosen = nx.take_along_axis(z, nx.expand_dims(labels, axis=-1), axis=-1)
        nx.sum(nx.logaddexp(chosen, nx.zeros_like(chosen)) + nx.tril(nx.matmul(x, x.T))).backward()
        assert all(t.device == str(device.DEVICE) for t in [*made, z, chosen])
        assert w.grad.device == device.DEVICE


# ---- assignment ----


def test_assignment_is_refused_by_default() -> None:
    t = xp.zeros(3)
    with pytest.raises(TypeError, match=r"t.at\[index\].set\(value\).*in_place\(\)"):
        t[0] = 1.0
    assert t.tolist() == [0.0, 0.0, 0.0]


def test_assignment_in_place_is_recorded() -> None:
    @xp.in_place()
    def f(x: Any, v: Any) -> Any:
        out = xp.zeros((3, 4))
        out[:, 0] = v  # gradients flow to what is put in,
        y = xp.asarray(x, copy=True) * 2.0
        before = y * y  # what was recorded keeps the old value,
        y[xp.asarray(VALUES["b"])] = 0.5
        y[0, 1:] += v[:2][0]
        y[1, ...] = out[0, :] * v[1]
        out[2, 1] = xp.sum(y)
        return before * out + y  # and to what is left

    def functional(x: Any, v: Any) -> Any:
        out = ops.stack([v, v * 0, v * 0, v * 0], axis=1)
        y = DiffTensor(x) * 2.0 if isinstance(x, np.ndarray) else x * 2.0
        before = y * y
        y = ops.where(VALUES["b"], 0.5, y)
        y = y.at[0, 1:].add(v[0]).at[1].set(out[0] * v[1])
        return before * out.at[2, 1].set(ops.sum(y)) + y

    x, v = VALUES["x"], np.array([1.2, -0.3, 0.8])
    np.testing.assert_allclose(
        f(xp.asarray(x), xp.asarray(v)).numpy(), functional(DiffTensor(x), DiffTensor(v)).numpy()
    )
    check_grads(f, x, v)
    assert_vmap_equals_loop(f, np.stack([x, -x]), np.stack([v, v + 1.0]), in_axes=(0, 0))
    expected = hessian(lambda v: ops.sum(functional(x, v) ** 2))(v)
    np.testing.assert_allclose(hessian(lambda v: ops.sum(f(x, v) ** 2))(v), expected, rtol=1e-9)


def test_assignment_like_numpy() -> None:
    rng = np.random.default_rng(1)
    for index in (
        0,
        (slice(None), 1),
        (..., -1),
        (slice(None, None, -2), [3, 0]),
        VALUES["b"],
        (),
        xp.asarray(VALUES["b"]),
        (2, 3),
    ):
        plain, t = rng.normal(size=(3, 4)).astype(np.float32), None
        t = xp.asarray(plain)
        kept = t.raw
        with xp.in_place():
            t[index] = 2.5
        plain[getattr(index, "raw", index)] = 2.5
        np.testing.assert_array_equal(t.numpy(), plain)
        assert t.dtype == np.float32 and not np.shares_memory(kept, t.raw)
    number = xp.asarray(1.0)
    with xp.in_place():
        number[()] = 3
    assert float(number) == 3.0 and isinstance(number.raw, np.float64)


def test_assignment_that_would_be_unsound_is_refused() -> None:
    leaf, before = DiffTensor([1.0, 2.0], requires_grad=True), DiffTensor([1.0], requires_grad=True) * 2.0
    with xp.in_place():
        for t in (leaf, before):
            with pytest.raises(TypeError, match=r"asarray\(x, copy=True\)"):
                t[0] = 0.0
        whole = xp.zeros(2, dtype=xp.int64)
        with pytest.raises(TypeError, match="lose the gradient"):
            whole[0] = leaf[0]
        inside = leaf * 1.0
        with ops_off(), pytest.raises(TypeError, match="no_grad"):
            inside[0] = 1.0
        with pytest.raises(ValueError, match="names a place twice"):
            inside[[1, 1]] = xp.asarray([3.0, 4.0])
        assert inside.tolist() == [1.0, 2.0]
    with pytest.raises(TypeError, match="cannot be changed in place"):
        inside[0] = 0.0  # the block has ended
    with pytest.raises(TypeError, match="leaf"):
        grad(xp.in_place()(_assigning))(np.ones(2))


def ops_off() -> Any:
    return AutogradContext(recording=False)


def _assigning(x: Any) -> Any:
    x[0] = 1.0
    return xp.sum(x)
