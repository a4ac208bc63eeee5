"""Convolution and pooling: against the defining sums, against their own transposes, and against PyTorch."""

import itertools
import math

import numpy as np
import pytest

from autograd import DiffTensor, grad, hvp, ops
from autograd.table import OPS

GEOMETRIES = [  # stride, padding, dilation, groups
    (1, 0, 1, 1),
    (2, 1, 1, 1),
    ((2, 1), (0, 2), 1, 2),
    (1, (2, 1), (1, 2), 4),
    (3, ((1, 2), (0, 1)), 2, 2),
]
KERNELS = [(3, 2), (1, 1), (2, 3)]


def pairs(value, n):
    values = (value,) * n if isinstance(value, int) else value
    return [(v, v) if isinstance(v, int) else v for v in values]


def each(value, n):
    return (value,) * n if isinstance(value, int) else value


def conv_by_sums(x, w, stride, padding, dilation, groups):
    """The definition, one output element at a time (Goodfellow et al. 2016, equation 9.6, with strides and dilation)."""
    n = x.ndim - 2
    x = np.pad(x, [(0, 0), (0, 0), *pairs(padding, n)])
    s, d, k = each(stride, n), each(dilation, n), w.shape[2:]
    out = [(x.shape[i + 2] - d[i] * (k[i] - 1) - 1) // s[i] + 1 for i in range(n)]
    y = np.zeros((x.shape[0], w.shape[0], *out))
    for o, place, at in itertools.product(range(w.shape[0]), np.ndindex(*out), np.ndindex(*k)):
        first = o // (w.shape[0] // groups) * w.shape[1]
        where = tuple(p * s_ + a * d_ for p, s_, a, d_ in zip(place, s, at, d, strict=True))
        y[(slice(None), o, *place)] += (
            x[(slice(None), slice(first, first + w.shape[1]), *where)] @ w[(o, slice(None), *at)]
        )
    return y


def close(actual, expected, rtol=1e-10, atol=1e-12):
    np.testing.assert_allclose(np.asarray(actual), np.asarray(expected), rtol=rtol, atol=atol)


# ---- convolution ----


@pytest.mark.parametrize("batch", [0, 1, 3, 9])
@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("kernel", KERNELS)
def test_conv_is_its_defining_sum(batch, geometry, kernel):
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(batch, 4, 9, 8)), rng.normal(size=(8, 4 // geometry[3], *kernel))
    close(ops.conv(x, w, *geometry), conv_by_sums(x, w, *geometry))


@pytest.mark.parametrize("axes", [1, 3])
def test_conv_over_other_numbers_of_axes(axes):
    rng = np.random.default_rng(1)
    x, w = rng.normal(size=(9, 2, 6, 5, 4)[: axes + 2]), rng.normal(size=(3, 2, 3, 2, 2)[: axes + 2])
    close(ops.conv(x, w, 2, 1, 1, 1), conv_by_sums(x, w, 2, 1, 1, 1))


@pytest.mark.parametrize("batch", [2, 9])
@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("kernel", KERNELS)
def test_the_three_rows_are_transposes_of_one_another(batch, geometry, kernel):
    rng = np.random.default_rng(2)
    x, w = rng.normal(size=(batch, 4, 9, 8)), rng.normal(size=(8, 4 // geometry[3], *kernel))
    params = dict(zip(("stride", "padding", "dilation", "groups"), geometry, strict=True))
    y = ops.conv(x, w, **params)
    g = rng.normal(size=y.shape)
    expected = np.vdot(g, y)
    close(np.vdot(x, ops.conv_transpose(g, w, size=(9, 8), **params)), expected)
    close(np.vdot(w, ops.conv_weight(x, g, kernel=kernel, **params)), expected)


@pytest.mark.parametrize("batch", [2, 9])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_numpy_kernels_agree_with_those_of_the_array_api(batch, geometry):
    rng = np.random.default_rng(3)
    x, w = rng.normal(size=(batch, 4, 9, 8)), rng.normal(size=(8, 4 // geometry[3], 2, 3))
    params = dict(zip(("stride", "padding", "dilation", "groups"), geometry, strict=True))
    y = ops.conv(x, w, **params)
    close(OPS["conv"].forward(x, w, **params), y)
    close(OPS["conv_transpose"].forward(y, w, size=(9, 8), **params), ops.conv_transpose(y, w, size=(9, 8), **params))
    close(OPS["conv_weight"].forward(x, y, kernel=(2, 3), **params), ops.conv_weight(x, y, kernel=(2, 3), **params))


def test_columns_made_in_several_runs(monkeypatch):
    from autograd.ops import convolution

    rng = np.random.default_rng(4)
    x, w = rng.normal(size=(9, 2, 11, 5)), rng.normal(size=(4, 2, 3, 3))
    whole = [
        ops.conv(x, w),
        ops.conv_transpose(ops.conv(x, w), w, size=(11, 5)),
        ops.conv_weight(x, ops.conv(x, w), kernel=(3, 3)),
    ]
    monkeypatch.setattr(convolution, "_COLUMNS", 4 * 2 * 9 * 3 * 9 * 8)  # four rows of windows: 9 = 3 + 3 + 3
    parts = [
        ops.conv(x, w),
        ops.conv_transpose(ops.conv(x, w), w, size=(11, 5)),
        ops.conv_weight(x, ops.conv(x, w), kernel=(3, 3)),
    ]
    for a, b in zip(whole, parts, strict=True):
        close(a, b)
    monkeypatch.setattr(convolution, "_COLUMNS", 5 * 2 * 9 * 3 * 9 * 8)  # 9 = 5 + 4: the last run is shorter
    close(ops.conv(x, w), whole[0])


def test_same_padding_keeps_the_size_and_pads_behind_first():
    x, w = np.arange(1.0, 6.0).reshape(1, 1, 5), np.ones((1, 1, 4))
    y = ops.conv1d(x, w, padding="same")
    assert y.shape == (1, 1, 5)
    close(y, ops.conv1d(x, w, padding=((1, 2),)))
    assert ops.conv1d(x, w, padding="valid").shape == (1, 1, 2)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.complex128])
def test_dtypes_are_kept(dtype):
    rng = np.random.default_rng(5)
    x = DiffTensor(rng.normal(size=(2, 2, 6, 6)).astype(dtype), requires_grad=True)
    w, b = (DiffTensor(rng.normal(size=s).astype(dtype), requires_grad=True) for s in ((4, 2, 3, 3), (4,)))
    results = [ops.conv2d(x, w, b), ops.conv_transpose2d(x, ops.swapaxes(w, 0, 1)), ops.avg_pool2d(x, 2)]
    results += [] if dtype is np.complex128 else [ops.max_pool2d(x, 3, 1, 1)]
    for y in results:
        assert y.dtype == dtype
        y.backward(np.ones(y.shape, dtype))
    assert x.grad.dtype == w.grad.dtype == b.grad.dtype == dtype


def test_float16_is_accumulated_in_float32():
    w = np.full((1, 1, 8, 8), 2.0**-5, np.float16)
    w[0, 0, 0, 0] = 2048.0  # in a sum of float16 the 63 other terms, of 1/32, would be lost one by one
    y = ops.conv_transpose2d(np.ones((1, 1, 8, 8), np.float16), w)
    assert y[0, 0, 7, 7] == np.float16(2048.0 + 63 / 32)


def test_zero_batch_has_zero_gradients():
    x, w = DiffTensor(np.zeros((0, 2, 5, 5)), requires_grad=True), DiffTensor(np.ones((3, 2, 2, 2)), requires_grad=True)
    y = ops.max_pool2d(ops.conv2d(x, w), 2)
    assert y.shape == (0, 3, 2, 2)
    y.sum().backward()
    assert x.grad.shape == (0, 2, 5, 5)
    assert not w.grad.any()


def finite_hvp(f, x, v, h=1e-5):
    gradient = grad(f)
    return (gradient(x + h * v) - gradient(x - h * v)) / (2 * h)


W, IMAGES = np.random.default_rng(20).normal(size=(6, 2, 3, 3)), np.random.default_rng(21).normal(size=(9, 4, 6, 5))
SECOND = {
    "conv input": ((4, 6, 5), lambda x, n: ops.conv2d(x, W, stride=2, padding=1, groups=2)),
    "conv weight": (None, lambda w, n: ops.conv2d(IMAGES[:n], w, stride=2, padding=1, groups=2)),
    "conv_transpose input": ((6, 3, 3), lambda x, n: ops.conv_transpose2d(x, W, stride=2, padding=1, output_padding=1, groups=2)),
    "conv_transpose weight": (None, lambda w, n: ops.conv_transpose2d(IMAGES[:n, [0, 1, 2, 3, 0, 1]], w, stride=2, groups=2)),
    "max_pool": ((4, 6, 5), lambda x, n: ops.max_pool2d(ops.sin(x), 3, 2, 1)),
    "avg_pool": ((4, 6, 5), lambda x, n: ops.avg_pool2d(ops.sin(x), (2, 3), (1, 2), 1, count_include_pad=False)),
}  # fmt: skip


@pytest.mark.parametrize("batch", [2, 9])
@pytest.mark.parametrize("name", SECOND)
def test_second_derivatives(batch, name):
    shape, f = SECOND[name]
    x, v = np.random.default_rng(6).normal(size=(2, *(W.shape if shape is None else (batch, *shape))))

    def cube(x):
        return ops.sum(f(x, batch) ** 3)

    close(hvp(cube)(x, v), finite_hvp(cube, x, v), rtol=1e-6, atol=1e-4 if shape is None else 1e-6)


def test_derivatives_of_every_input_of_the_transposes():
    """Each of the three rows differentiated with respect to each input, by central differences."""
    rng = np.random.default_rng(7)
    params = {"stride": (2, 1), "padding": ((1, 0), (1, 1)), "dilation": (1, 2), "groups": 2}
    x, w = rng.normal(size=(2, 2, 5, 6)), rng.normal(size=(4, 1, 2, 2))
    y = ops.conv(x, w, **params)
    cases = [
        (lambda a, b: ops.conv(a, b, **params), (x, w)),
        (lambda a, b: ops.conv_transpose(a, b, size=(5, 6), **params), (y, w)),
        (lambda a, b: ops.conv_weight(a, b, kernel=(2, 2), **params), (x, y)),
    ]
    for f, args in cases:
        for i in range(2):
            direction = rng.normal(size=args[i].shape)

            def along(t, f=f, args=args, i=i, direction=direction):
                moved = [a + t * direction if j == i else a for j, a in enumerate(args)]
                return ops.sum(ops.sin(f(*moved)))

            h = 1e-6
            close(grad(along)(0.3), (along(0.3 + h) - along(0.3 - h)) / (2 * h), rtol=1e-7)


# ---- pooling ----


def windows_of(x, kernel, stride, padding, fill):
    x = np.pad(x, [(0, 0), (0, 0), *pairs(padding, 2)], constant_values=fill)
    views = np.lib.stride_tricks.sliding_window_view(x, kernel, axis=(2, 3))
    return views[:, :, :: stride[0], :: stride[1]]


POOLS = [((2, 2), (2, 2), 0), ((3, 3), (2, 2), 1), ((2, 3), (1, 2), (1, 0)), ((3, 2), (4, 3), ((0, 1), (1, 1)))]


@pytest.mark.parametrize("batch", [0, 2, 9])
@pytest.mark.parametrize("pool", POOLS)
def test_pools_are_the_maximum_and_mean_of_windows(batch, pool):
    x = np.random.default_rng(8).normal(size=(batch, 3, 8, 7))
    close(ops.max_pool2d(x, *pool), windows_of(x, *pool, -np.inf).max(axis=(-2, -1)))
    close(ops.avg_pool2d(x, *pool), windows_of(x, *pool, 0.0).mean(axis=(-2, -1)))
    counted = windows_of(x, *pool, np.nan)
    close(
        ops.avg_pool2d(x, *pool, count_include_pad=False),
        np.nanmean(counted, axis=(-2, -1)) if batch else counted.sum(axis=(-2, -1)),
    )


@pytest.mark.parametrize("pool", POOLS)
def test_the_first_maximum_has_the_whole_derivative(pool):
    x = np.random.default_rng(9).integers(0, 3, size=(9, 2, 8, 7)).astype(float)  # many ties
    kernel, stride, padding = pool
    views = windows_of(x, kernel, stride, padding, -np.inf)
    first = views.reshape(*views.shape[:4], -1).argmax(axis=-1)
    g = np.random.default_rng(10).normal(size=first.shape)
    expected = np.pad(np.zeros_like(x), [(0, 0), (0, 0), *pairs(padding, 2)])
    for n, c, i, j in np.ndindex(*first.shape):
        a, b = divmod(int(first[n, c, i, j]), kernel[1])
        expected[n, c, i * stride[0] + a, j * stride[1] + b] += g[n, c, i, j]
    (a, b), (c, d) = pairs(padding, 2)
    expected = expected[:, :, a : expected.shape[2] - b, c : expected.shape[3] - d]
    t = DiffTensor(x, requires_grad=True)
    ops.max_pool2d(t, *pool).backward(g)
    close(t.grad, expected)


def test_places_and_their_transposes():
    x = np.random.default_rng(11).normal(size=(2, 3, 6, 6))
    params = {"kernel": (3, 2), "stride": (2, 2), "padding": (1, 0)}
    y, place = ops.max_pool(x, **params)
    close(ops.pick_window(x, place, **params), y)
    g = np.random.default_rng(12).normal(size=y.shape)
    close(np.vdot(x, ops.place_window(g, place, size=(6, 6), **params)), np.vdot(g, y))
    close(np.vdot(x, ops.spread_window(g, size=(6, 6), **params)), np.vdot(g, ops.avg_pool(x, **params)))


def test_large_windows_number_their_places_beyond_a_byte():
    x = np.zeros((1, 1, 20, 20))
    x[0, 0, 19, 19] = 1.0
    y, place = ops.max_pool(x, kernel=20, stride=20)
    assert (y.item(), place.item()) == (1.0, 399)


def test_infinite_gradients_do_not_become_nan():
    t = DiffTensor(np.arange(16.0).reshape(1, 1, 4, 4), requires_grad=True)
    ops.max_pool2d(t, 2).backward(np.full((1, 1, 2, 2), np.inf))
    assert np.isinf(t.grad).sum() == 4
    assert not np.isnan(t.grad).any()


def test_nan_is_not_hidden_by_pooling():
    x = np.arange(16.0).reshape(1, 1, 4, 4)
    x[0, 0, 0, 0] = np.nan
    assert np.isnan(ops.max_pool2d(x, 2)[0, 0, 0, 0])


# ---- memory order ----


def test_results_do_not_depend_on_the_order_of_memory():
    rng = np.random.default_rng(13)
    x, w = rng.normal(size=(10, 3, 8, 8)), rng.normal(size=(4, 3, 3, 3))
    moved = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 0, -1)), -1, 0)
    fortran, sliced = np.asfortranarray(x), np.repeat(x, 2, axis=3)[..., ::2]
    y = ops.conv(x, w, padding=1)
    g = rng.normal(size=(10, 4, 4, 4))
    gradients = []
    for array in (x, moved, fortran, sliced):
        close(ops.conv(array, w, padding=1), y)
        t = DiffTensor(array, requires_grad=True)
        ops.max_pool2d(ops.relu(ops.conv2d(t, w, padding=1)), 2).backward(g)
        gradients.append(t.grad)
    for found in gradients[1:]:
        close(found, gradients[0])


# ---- errors, shapes, symbols, devices ----


@pytest.mark.parametrize(
    ("call", "parts"),
    [
        (lambda: ops.conv2d(np.ones((2, 3, 5, 5)), np.ones((4, 2, 3, 3))), ["(2, 3, 5, 5)", "(4, 2, 3, 3)", "groups=1"]),
        (lambda: ops.conv2d(np.ones((2, 4, 5, 5)), np.ones((3, 2, 3, 3)), groups=2), ["(2, 4, 5, 5)", "(3, 2, 3, 3)", "groups=2"]),
        (lambda: ops.conv2d(np.ones((3, 5, 5)), np.ones((4, 3, 3, 3))), ["conv2d", "(3, 5, 5)", "(4, 3, 3, 3)"]),
        (lambda: ops.conv2d(np.ones((2, 3, 2, 5)), np.ones((4, 3, 3, 3))), ["(2, 3, 2, 5)", "(4, 3, 3, 3)", "larger"]),
        (lambda: ops.conv2d(np.ones((2, 3, 5, 5)), np.ones((4, 3, 3, 3)), np.ones(3)), ["bias", "(3,)", "(2, 4, 3, 3)"]),
        (lambda: ops.conv2d(np.ones((2, 3, 5, 5)), np.ones((4, 3, 3, 3)), stride=0), ["stride", "0"]),
        (lambda: ops.conv2d(np.ones((2, 3, 5, 5)), np.ones((4, 3, 3, 3)), stride=(1, 2, 3)), ["stride", "(1, 2, 3)"]),
        (lambda: ops.conv2d(np.ones((2, 3, 5, 5)), np.ones((4, 3, 3, 3)), padding=-1), ["padding", "-1"]),
        (lambda: ops.conv2d(np.ones((2, 3, 5, 5)), np.ones((4, 3, 3, 3)), padding="reflect"), ["reflect", "same"]),
        (lambda: ops.conv2d(np.ones((2, 3, 5, 5)), np.ones((4, 3, 3, 3)), stride=2, padding="same"), ["same", "stride 1"]),
        (lambda: ops.conv_transpose2d(np.ones((2, 3, 5, 5)), np.ones((4, 2, 3, 3))), ["(2, 3, 5, 5)", "(4, 2, 3, 3)"]),
        (lambda: ops.conv_transpose2d(np.ones((2, 3, 5, 5)), np.ones((3, 2, 3, 3)), output_padding=1), ["output_padding", "stride"]),
        (lambda: ops.conv_transpose2d(np.ones((2, 3, 1, 1)), np.ones((3, 2, 2, 2)), padding=1), ["(2, 3, 1, 1)", "(3, 2, 2, 2)"]),
        (lambda: ops.conv_transpose(np.ones((2, 4, 3, 3)), np.ones((4, 3, 3, 3)), size=(9, 9)), ["(2, 4, 3, 3)", "(2, 4, 7, 7)"]),
        (lambda: ops.max_pool2d(np.ones((3, 5, 5)), 2), ["max_pool2d", "(3, 5, 5)"]),
        (lambda: ops.max_pool2d(np.ones((2, 3, 5, 5)), 6), ["(2, 3, 5, 5)", "(6, 6)"]),
        (lambda: ops.avg_pool2d(np.ones((2, 3, 5, 5)), 2, padding=2), ["(2, 3, 5, 5)", "half"]),
    ],
)  # fmt: skip
def test_bad_shapes_name_the_shapes(call, parts):
    with pytest.raises(ValueError) as error:
        call()
    for part in parts:
        assert part in str(error.value)


ROWS = [
    ("conv", [(2, 4, 6, 5), (6, 2, 3, 3)], {"stride": 2, "padding": 1, "dilation": 1, "groups": 2}),
    (
        "conv_transpose",
        [(2, 6, 3, 3), (6, 2, 3, 3)],
        {"size": (6, 5), "stride": 2, "padding": 1, "dilation": 1, "groups": 2},
    ),
    (
        "conv_weight",
        [(2, 4, 6, 5), (2, 6, 3, 3)],
        {"kernel": (3, 3), "stride": 2, "padding": 1, "dilation": 1, "groups": 2},
    ),
    ("max_pool", [(2, 4, 6, 5)], {"kernel": 3, "stride": 2, "padding": 1}),
    ("avg_pool", [(2, 4, 6, 5)], {"kernel": 3, "stride": 2, "padding": 1}),
    ("spread_window", [(2, 4, 3, 3)], {"size": (6, 5), "kernel": 3, "stride": 2, "padding": 1}),
]


@pytest.mark.parametrize(("name", "shapes", "params"), ROWS)
def test_inferred_is_actual_and_the_cost_counts_products(name, shapes, params):
    inputs = [np.random.default_rng(i).normal(size=s).astype(np.float32) for i, s in enumerate(shapes)]
    row = OPS[name]
    out = row.apply(*inputs, **params)
    inferred = row.infer(*inputs, **params)
    for o, (shape, dtype) in zip(out, inferred, strict=True) if isinstance(out, tuple) else [(out, inferred)]:
        assert (o.shape, o.dtype) == (shape, dtype)
    flops, moved = row.cost(out, *inputs, **params)
    assert flops > 0
    assert moved >= sum(a.nbytes for a in inputs)
    if name == "conv":  # two for each product: C / groups · places in a window for each element of the output
        assert flops == 2 * out.size * 2 * 9


def test_symbolic_tensors_know_their_shapes_and_gradients():
    x, w = DiffTensor.symbol((2, 3, 8, 8), np.float32), DiffTensor.symbol((4, 3, 3, 3), np.float32)
    y = ops.max_pool2d(ops.relu(ops.conv2d(x, w, padding=1)), 2)
    assert y.shape == (2, 4, 4, 4)
    gx, gw = grad(lambda x, w: ops.sum(ops.avg_pool2d(ops.max_pool2d(ops.conv2d(x, w), 2), 3)), (0, 1))(x, w)
    assert (gx.shape, gw.shape) == ((2, 3, 8, 8), (4, 3, 3, 3))


def test_every_row_runs_on_another_device_without_a_host_copy():
    strict = pytest.importorskip("array_api_strict")
    device = strict.Device("device1")
    rng = np.random.default_rng(14)
    raw = rng.normal(size=(3, 4, 6, 6)), rng.normal(size=(6, 2, 3, 3)), rng.normal(size=(6,))

    def f(x, w, b):
        y = ops.max_pool2d(ops.conv2d(x, w, b, padding=1, groups=2), 2, 1)
        z = ops.conv_transpose2d(y, ops.broadcast_to(w, shape=(6, 2, 3, 3)), stride=2)
        return ops.sum(ops.avg_pool2d(z, 3, 2, 1, count_include_pad=False) ** 2)

    here = [DiffTensor(a, requires_grad=True) for a in raw]
    there = [DiffTensor(strict.asarray(a, device=device), requires_grad=True) for a in raw]
    f(*here).backward()
    f(*there).backward()
    for a, b in zip(here, there, strict=True):
        assert b.grad.device == device
        close(strict.asarray(b.grad, device=strict.Device("CPU_DEVICE")), a.grad)


# ---- PyTorch ----


@pytest.mark.peers
@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize("geometry", GEOMETRIES[:4])
@pytest.mark.parametrize("kernel", KERNELS)
def test_conv2d_and_its_gradients_are_torchs(batch, geometry, kernel):
    torch = pytest.importorskip("torch")
    stride, padding, dilation, groups = geometry
    rng = np.random.default_rng(15)
    arrays = rng.normal(size=(batch, 4, 9, 8)), rng.normal(size=(8, 4 // groups, *kernel)), rng.normal(size=8)
    ours = [DiffTensor(a, requires_grad=True) for a in arrays]
    theirs = [torch.tensor(a, requires_grad=True) for a in arrays]
    y = ops.conv2d(*ours, stride=stride, padding=padding, dilation=dilation, groups=groups)
    z = torch.nn.functional.conv2d(*theirs, stride=stride, padding=padding, dilation=dilation, groups=groups)
    g = rng.normal(size=y.shape)
    y.backward(g)
    z.backward(torch.tensor(g))
    close(y.numpy(), z.detach())
    for a, b in zip(ours, theirs, strict=True):
        close(a.grad, b.grad)


@pytest.mark.peers
@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize(
    ("stride", "padding", "output_padding", "dilation", "groups"),
    [(1, 0, 0, 1, 1), (2, 1, 1, 1, 1), ((2, 3), (1, 0), (0, 2), (1, 2), 2), (3, 2, 2, 2, 4)],
)
def test_conv_transpose2d_and_its_gradients_are_torchs(batch, stride, padding, output_padding, dilation, groups):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(16)
    params = {
        "stride": stride,
        "padding": padding,
        "output_padding": output_padding,
        "dilation": dilation,
        "groups": groups,
    }
    arrays = rng.normal(size=(batch, 4, 5, 4)), rng.normal(size=(4, 3, 3, 2)), rng.normal(size=3 * groups)
    ours = [DiffTensor(a, requires_grad=True) for a in arrays]
    theirs = [torch.tensor(a, requires_grad=True) for a in arrays]
    y, z = ops.conv_transpose2d(*ours, **params), torch.nn.functional.conv_transpose2d(*theirs, **params)
    g = rng.normal(size=y.shape)
    y.backward(g)
    z.backward(torch.tensor(g))
    close(y.numpy(), z.detach())
    for a, b in zip(ours, theirs, strict=True):
        close(a.grad, b.grad)


@pytest.mark.peers
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [(2, None, 0), (3, 2, 1), ((2, 3), (1, 2), (1, 0)), (3, (4, 3), 1)]
)
def test_pools_and_their_gradients_are_torchs(kernel, stride, padding):
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    x = np.random.default_rng(17).normal(size=(8, 3, 8, 7)).round(1)  # with ties
    for ours, theirs in [
        (ops.max_pool2d, functional.max_pool2d),
        (ops.avg_pool2d, functional.avg_pool2d),
        (
            lambda *a: ops.avg_pool2d(*a, count_include_pad=False),
            lambda *a: functional.avg_pool2d(*a, count_include_pad=False),
        ),
    ]:
        a, b = DiffTensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
        y, z = ours(a, kernel, stride, padding), theirs(b, kernel, stride, padding)
        g = np.random.default_rng(18).normal(size=y.shape)
        y.backward(g)
        z.backward(torch.tensor(g))
        close(y.numpy(), z.detach())
        close(a.grad, b.grad)


@pytest.mark.peers
def test_conv1d_is_torchs():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(19)
    x, w, b = rng.normal(size=(9, 4, 11)), rng.normal(size=(6, 2, 3)), rng.normal(size=6)
    params = {"stride": 2, "padding": 2, "dilation": 2, "groups": 2}
    close(ops.conv1d(x, w, b, **params), torch.nn.functional.conv1d(*map(torch.tensor, (x, w, b)), **params))


def test_flops_of_a_known_layer():
    """VGG's first convolution: 2 · 64 · 224² · 3 · 9 (He et al. count 87 M multiply-adds)."""
    x, w = DiffTensor.symbol((1, 3, 224, 224)), DiffTensor.symbol((64, 3, 3, 3))
    y = ops.conv2d(x, w, padding=1)
    assert OPS["conv"].cost(y, x, w)[0] == 2 * 64 * 224**2 * 27
    assert math.isclose(OPS["conv"].cost(y, x, w)[0] / 2, 86.7e6, rel_tol=1e-3)
