"""Mixed precision: conversions to the bit, every class of rows against float64 references rounded once, master weights,
memory, higher order, and how policies nest."""

import sys

import numpy as np
import pytest

from autograd import (
    OPS,
    AnomalyError,
    AutogradContext,
    BackwardPass,
    DiffTensor,
    autocast,
    grad,
    halves,
    hessian,
    nn,
    no_grad,
    ops,
    optim,
    value_and_grad,
    vmap,
)
from autograd.context import current

ml_dtypes = pytest.importorskip("ml_dtypes")
HALVES = {"fp16": np.dtype(np.float16), "bf16": np.dtype(ml_dtypes.bfloat16)}
POLICIES = list(HALVES)


@pytest.fixture
def rng():
    return np.random.default_rng(20)


def single(rng, *shape, scale=1.0):
    return (scale * rng.standard_normal(shape)).astype(np.float32)


def rounded(x, dtype):
    """Exact numbers rounded to half precision and read as float64; NumPy's and ml_dtypes's casts are the reference."""
    with np.errstate(over="ignore"):
        return np.asarray(x, np.float64).astype(dtype).astype(np.float64)


def tracked(x):
    return DiffTensor(x, requires_grad=True)


# ---- conversions ----


def all_halves(dtype):
    return np.arange(65536, dtype=np.uint16).view(dtype)


@pytest.mark.parametrize("dtype", HALVES.values(), ids=POLICIES)
def test_every_number_of_half_precision_widens_exactly(dtype):
    x = all_halves(dtype)
    assert np.array_equal(halves.single(x), x.astype(np.float32), equal_nan=True)
    finite = np.tile(
        x[np.isfinite(x.astype(np.float32))], 2
    )  # without an infinity, the fast way is taken for every tile
    assert np.array_equal(halves.single(finite).view(np.uint32), finite.astype(np.float32).view(np.uint32))


@pytest.mark.parametrize("dtype", HALVES.values(), ids=POLICIES)
def test_rounding_is_to_nearest_even_with_subnormal_numbers_and_overflow(dtype, rng):
    finite = np.sort(all_halves(dtype).astype(np.float32))
    finite = finite[np.isfinite(finite)]
    middle = ((finite[:-1].astype(np.float64) + finite[1:]) / 2).astype(np.float32)  # ties
    bits = rng.integers(0, 1 << 32, 300_000, np.uint32).view(np.float32)
    for x in (
        middle,
        np.nextafter(middle, np.float32(0)),
        np.nextafter(middle, np.float32(np.inf)),
        bits[np.isfinite(bits)],
    ):
        for limit in (np.inf, 65535.0, 60000.0):  # below these every tile takes the fast way of float16
            part = x[np.abs(x) <= limit]
            with np.errstate(over="ignore"):
                expected = part.astype(dtype)
            assert np.array_equal(halves.half(part, dtype).view(np.uint16), expected.view(np.uint16))
            assert np.array_equal(halves.rounded(part, dtype), expected.astype(np.float32))


def test_not_finite_numbers_stay_what_they_are():
    x = np.tile(np.array([1.5, np.inf, -np.inf, np.nan, -7e4, 65519.9, 65520.0], np.float32), 20_000)
    expected = np.tile(np.array([1.5, np.inf, -np.inf, np.nan, -np.inf, 65504, np.inf], np.float32), 20_000)
    for found in (halves.rounded(x, halves.HALF), halves.single(halves.half(x, halves.HALF))):
        assert np.array_equal(found, expected, equal_nan=True)


@pytest.mark.parametrize("dtype", HALVES.values(), ids=POLICIES)
def test_conversions_keep_the_order_of_memory(dtype, rng):
    x = np.moveaxis(single(rng, 20, 30, 40), 0, -1)
    h = halves.half(x, dtype)
    assert [2 * s for s in h.strides] == list(x.strides) and np.array_equal(h, x.astype(dtype))
    assert halves.single(h).strides == x.strides
    sliced = x[::2, :, ::3]
    assert np.array_equal(halves.half(sliced, dtype), sliced.astype(dtype))
    assert np.array_equal(halves.rounded(sliced, dtype), sliced.astype(dtype).astype(np.float32))


@pytest.mark.parametrize("dtype", HALVES.values(), ids=POLICIES)
def test_signs_are_read_from_the_bits(dtype):
    x = all_halves(dtype)
    wide = x.astype(np.float32)
    assert np.array_equal(halves.above_zero(x), wide > 0)
    assert np.array_equal(halves.without_negative(x).astype(np.float32), np.maximum(wide, 0), equal_nan=True)


# ---- the classes of rows ----


def test_every_row_says_a_class_or_has_the_safe_one():
    for row in OPS.values():
        kinds = row.precision if isinstance(row.precision, tuple) else (row.precision,)
        assert set(kinds) <= {"low", "float32", "inputs", "any"}, row
        assert len(kinds) in (1, row.outputs), row


@pytest.mark.parametrize("policy", POLICIES)
def test_products_round_inputs_accumulate_in_float32_and_round_the_result_once(policy, rng):
    dtype = HALVES[policy]
    x, w = single(rng, 37, 300), single(rng, 300, 23)
    a, b = tracked(x), tracked(w)
    with autocast(policy):
        y = a @ b
    assert y.dtype == dtype
    exact = rounded(x, dtype) @ rounded(w, dtype)
    # float32 sums of products that are exact in float32: a few of its eps away before the one rounding
    error = np.abs(y.numpy().astype(np.float64) - exact)
    half_ulp = np.abs(exact) * float(ml_dtypes.finfo(dtype).eps) / 2
    assert (error <= 1.01 * half_ulp + 300 * 2**-24 * (np.abs(rounded(x, dtype)) @ np.abs(rounded(w, dtype)))).all()
    assert np.mean(y.numpy().astype(np.float64) == rounded(exact, dtype)) > 0.99  # the others lie at a tie

    g = single(rng, 37, 23).astype(dtype)
    y.backward(g)
    for leaf, expected in ((a, rounded(g, dtype) @ rounded(w, dtype).T), (b, rounded(x, dtype).T @ rounded(g, dtype))):
        assert leaf.grad.dtype == np.float32
        assert np.array_equal(leaf.grad, leaf.grad.astype(dtype).astype(np.float32))  # what such hardware stores
        assert np.mean(leaf.grad == rounded(expected, dtype)) > 0.99


LOW = {
    "linear": (lambda x, w, b: ops.linear(x, w, b), [(8, 32), (16, 32), (16,)]),
    "matmul": (lambda x, w: ops.matmul(x, w), [(3, 8, 32), (32, 16)]),
    "einsum": (lambda x, w: ops.einsum("bij,kj->bik", x, w), [(3, 8, 32), (16, 32)]),
    "tensordot": (lambda x, w: ops.tensordot(x, w, axes=1), [(8, 32), (32, 16)]),
    "outer": (lambda x, w: ops.outer(x, w), [(50,), (40,)]),
    "conv": (lambda x, w: ops.conv2d(x, w, stride=2, padding=1), [(9, 3, 8, 8), (4, 3, 3, 3)]),
    "conv_transpose": (lambda x, w: ops.conv_transpose2d(x, w), [(9, 3, 5, 5), (3, 4, 3, 3)]),
}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", LOW)
def test_each_low_row_against_float64_on_rounded_inputs(name, policy, rng):
    fn, shapes = LOW[name]
    dtype = HALVES[policy]
    xs = [single(rng, *shape) for shape in shapes]
    low = [tracked(x) for x in xs]
    exact = [tracked(rounded(x, dtype)) for x in xs]
    with autocast(policy):
        y = fn(*low)
    reference = fn(*exact)
    assert y.dtype == dtype and y.shape == reference.shape
    assert np.mean(y.numpy().astype(np.float64) == rounded(reference.numpy(), dtype)) > 0.98
    g = single(rng, *y.shape).astype(dtype)
    y.backward(g)
    reference.backward(g.astype(np.float64))
    for a, b in zip(low, exact, strict=True):
        assert a.grad.dtype == np.float32
        assert np.mean(a.grad == rounded(b.grad, dtype)) > 0.98


FOLLOWING = {
    "add": lambda x, y: x + y,
    "subtract": lambda x, y: x - y,
    "multiply": lambda x, y: x * y,
    "divide": lambda x, y: x / y,
    "maximum": lambda x, y: ops.maximum(x, y),
    "tanh": lambda x, y: ops.tanh(x),
    "sigmoid": lambda x, y: ops.sigmoid(x),
    "relu": lambda x, y: ops.relu(x),
    "gelu": lambda x, y: ops.gelu(x),
    "silu": lambda x, y: ops.silu(x),
    "leaky_relu": lambda x, y: ops.leaky_relu(x),
    "where": lambda x, y: ops.where(np.arange(40) % 3 == 0, x, y),
    "clip": lambda x, y: ops.clip(x, low=-0.5, high=0.5),
    "a Python number": lambda x, y: 1.5 * x + 2,
    "broadcasting": lambda x, y: x * y[0],
}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", FOLLOWING)
def test_elementwise_rows_follow_half_inputs_and_round_once(name, policy, rng):
    dtype = HALVES[policy]
    x, y = single(rng, 60, 40), single(rng, 60, 40)
    values = [x.astype(dtype), (y + np.sign(y) / 2).astype(dtype)]  # y stays away from 0, for the quotient
    low, exact = [tracked(x) for x in values], [tracked(x.astype(np.float64)) for x in values]
    with autocast(policy):
        y = FOLLOWING[name](*low)
    reference = FOLLOWING[name](*exact)
    assert y.dtype == dtype
    if name != "a Python number":  # two roundings there
        assert np.mean(y.numpy().astype(np.float64) == rounded(reference.numpy(), dtype)) > 0.999
    g = single(rng, *y.shape).astype(dtype)
    y.backward(g)
    reference.backward(g.astype(np.float64))
    for a, b in zip(low, exact, strict=True):
        if b.grad is not None:
            assert a.grad.dtype == dtype
            if name in ("divide", "tanh", "sigmoid"):  # their rules read the output, which is rounded
                eps = float(ml_dtypes.finfo(dtype).eps)
                atol = 1e-6 + 2 * eps * (np.abs(g.astype(np.float64)) if name != "divide" else np.abs(b.grad))
                assert (np.abs(a.grad.astype(np.float64) - b.grad) <= atol + eps * np.abs(b.grad)).all()
            elif name != "a Python number":
                assert np.mean(a.grad.astype(np.float64) == rounded(b.grad, dtype)) > 0.995


WIDE = {
    "sum": lambda x: ops.sum(x, axis=0),
    "mean": lambda x: ops.mean(x, axis=1),
    "var": lambda x: ops.var(x),
    "max": lambda x: ops.max(x, axis=0),
    "norm": lambda x: ops.norm(x),
    "cumsum": lambda x: ops.cumsum(x, axis=1),
    "logsumexp": lambda x: ops.logsumexp(x, axis=1),
    "softmax": lambda x: ops.softmax(x, axis=1),
    "log_softmax": lambda x: ops.log_softmax(x, axis=1),
    "exp": lambda x: ops.exp(x),
    "log": lambda x: ops.log(ops.abs(x) + 1.0),
    "power": lambda x: ops.abs(x) ** 1.7,
    "square": lambda x: ops.square(x),
    "erf": lambda x: ops.erf(x),
    "cross_entropy": lambda x: ops.cross_entropy(x, np.arange(60) % 40),
    "binary_cross_entropy": lambda x: ops.binary_cross_entropy_with_logits(x, np.full((60, 40), 0.3, np.float32)),
    "mse": lambda x: nn.MSELoss()(x, np.zeros((60, 40), np.float32)),
}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", WIDE)
def test_sensitive_rows_compute_and_return_float32(name, policy, rng):
    dtype = HALVES[policy]
    x = single(rng, 60, 40).astype(dtype)
    low, exact = tracked(x), tracked(x.astype(np.float64))
    with autocast(policy):
        y = WIDE[name](low)
    reference = WIDE[name](exact)
    assert y.dtype == np.float32
    tolerance = 1e-5 if name != "log" and name != "power" else 1e-2  # an elementwise row, rounded, comes first in these
    np.testing.assert_allclose(y.numpy(), reference.numpy(), rtol=tolerance, atol=tolerance)
    g = single(rng, *y.shape)
    y.backward(g)
    reference.backward(g.astype(np.float64))
    assert low.grad.dtype == dtype
    eps = float(ml_dtypes.finfo(dtype).eps)
    np.testing.assert_allclose(
        low.grad.astype(np.float64),
        reference_grad := exact.grad,
        rtol=2 * eps,
        atol=2 * eps * np.abs(reference_grad).max(),
    )


@pytest.mark.parametrize("policy", POLICIES)
def test_normalisation_has_float32_statistics_and_follows_its_input(policy, rng):
    dtype = HALVES[policy]
    x = (100.0 + single(rng, 64, 8)).astype(dtype)
    with autocast(policy):
        z, mean, var = ops.standardize(DiffTensor(x), axes=(0,), eps=1e-5)
    assert (z.dtype, mean.dtype, var.dtype) == (dtype, np.float32, np.float32)
    np.testing.assert_allclose(mean.numpy()[0], x.astype(np.float64).mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(var.numpy()[0], x.astype(np.float64).var(axis=0), rtol=1e-4)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_long_sum_of_a_broadcast_gradient_does_not_stick(policy):
    """In half precision 1 + 1 + … ends at 2048 (float16) or 256 (bfloat16)."""
    b = tracked(np.zeros(3, HALVES[policy]))
    with autocast(policy):
        y = DiffTensor(np.ones((5000, 3), HALVES[policy])) + b
    y.backward(np.ones((5000, 3), np.float32))
    assert np.allclose(b.grad.astype(np.float64), 5000, rtol=4e-3)
    c = tracked(np.zeros(3, HALVES[policy]))
    ops.broadcast_to(c, shape=(5000, 3)).backward(np.ones((5000, 3), np.float32))
    assert np.allclose(c.grad.astype(np.float64), 5000, rtol=4e-3)


@pytest.mark.parametrize("policy", POLICIES)
def test_gathered_rows_add_up_in_float32(policy):
    w = tracked(np.ones((2, 3), HALVES[policy]))
    for gathered in (lambda: w[np.zeros(5000, int)], lambda: ops.take(w, np.zeros(5000, int), axis=0)):
        w.grad = None
        with autocast(policy):
            y = gathered()
        y.backward(np.ones((5000, 3), np.float32))
        assert w.grad.dtype == HALVES[policy] and np.allclose(w.grad[0].astype(np.float64), 5000, rtol=4e-3)


def test_what_is_neither_float32_nor_half_is_left_alone(rng):
    x = rng.standard_normal((4, 4))
    with autocast("bf16"):
        assert (DiffTensor(x) @ DiffTensor(x)).dtype == np.float64
        assert (DiffTensor(x + 1j) @ DiffTensor(x)).dtype == np.complex128
        assert (DiffTensor(np.eye(2, dtype=int)) @ DiffTensor(np.eye(2, dtype=int))).dtype == np.int64
        assert (DiffTensor(x) @ DiffTensor(x.astype(np.float32))).dtype == np.float64
        half = DiffTensor(single(rng, 4, 4)) @ DiffTensor(single(rng, 4, 4))
        assert (half + DiffTensor(x)).dtype == np.float64
        assert (half + DiffTensor(single(rng, 4, 4))).dtype == np.float32
        assert (half + DiffTensor(single(rng, 4, 4).astype(np.float16))).dtype == np.float32
        assert ops.concat([half, half]).dtype == half.dtype
        assert (half > 0.5).dtype == np.bool


# ---- models ----


def mlp(rng):
    return nn.Sequential(
        nn.Linear(64, 96, rng=rng), nn.ReLU(), nn.Linear(96, 96, rng=rng), nn.Tanh(), nn.Linear(96, 10, rng=rng)
    )


def cnn(rng):
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, rng=rng), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.1, rng=3),
        nn.Flatten(), nn.LayerNorm(8 * 9), nn.Linear(8 * 9, 10, rng=rng),
    )  # fmt: skip


def losses_of(make, shape, policy, rng):
    model = make(np.random.default_rng(5))
    x, y = DiffTensor(single(rng, *shape)), DiffTensor(rng.integers(0, 10, shape[0]))
    with autocast(policy):
        loss = nn.CrossEntropyLoss()(model(x), y)
    return model, loss, {id(a.raw) for a in (x, y, *model.parameters())}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("make, shape", [(mlp, (256, 64)), (cnn, (64, 1, 8, 8))])
def test_master_weights_get_float32_gradients_and_activations_take_half_the_memory(make, shape, policy, rng):
    seed = rng.integers(1 << 30)
    kept, retained, gradients = {}, {}, {}
    for precision in ("fp32", policy):
        model, loss, own = losses_of(make, shape, precision, np.random.default_rng(seed))
        assert loss.dtype == np.float32
        prepared = BackwardPass((loss,))
        kept[precision] = sum(
            {
                id(a): a.nbytes
                for node in prepared.order
                for a in node.saved
                if isinstance(a, np.ndarray) and id(a) not in own
            }.values()
        )
        retained[precision] = prepared.bytes_retained
        loss.backward()
        assert all(p.dtype == p.grad.dtype == np.float32 for p in model.parameters())
        gradients[precision] = np.concatenate([p.grad.ravel() for p in model.parameters()])
    assert retained[policy] < retained["fp32"]
    assert kept[policy] < 0.6 * kept["fp32"]  # masks, statistics and the loss's probabilities stay as they are
    a, b = gradients.values()
    assert 1e-5 < np.linalg.norm(a - b) / np.linalg.norm(a) < (0.01 if policy == "fp16" else 0.05)


def test_a_weight_is_not_copied_for_the_backward_pass(rng):
    layer = nn.Linear(50, 40, rng=rng)
    with autocast("bf16"):
        y = layer(tracked(single(rng, 8, 50)))
    assert any(saved is layer.weight.raw for saved in y.node.saved)


def test_training_with_bf16_learns_what_float32_learns(rng):
    x, y = single(rng, 200, 64), rng.integers(0, 10, 200)
    found = {}
    for policy in ("fp32", "bf16"):
        model = mlp(np.random.default_rng(1))
        optimizer = optim.Adam(model.parameters(), lr=1e-2)
        for _ in range(30):
            optimizer.zero_grad()
            with autocast(policy):
                loss = nn.CrossEntropyLoss()(model(DiffTensor(x)), DiffTensor(y))
            loss.backward()
            optimizer.step()
        found[policy] = float(loss)
        assert all(p.dtype == np.float32 for p in model.parameters())
    assert found["bf16"] < 0.1 and abs(found["bf16"] - found["fp32"]) < 0.05


# ---- transforms ----


@pytest.mark.parametrize("policy", POLICIES)
def test_higher_orders_agree_with_float32_and_with_each_other(policy, rng):
    x = single(rng, 4, 4, scale=0.3)

    def plain(a):
        return ops.sum(ops.tanh(a @ a) ** 2)

    def mixed(a):
        with autocast(policy):
            return plain(a)

    tolerance = 3e-3 if policy == "fp16" else 3e-2
    value, gradient = value_and_grad(mixed)(x)
    assert value.dtype == gradient.dtype == np.float32
    np.testing.assert_allclose(gradient, grad(plain)(x), atol=tolerance)
    second = hessian(mixed)(x)
    assert second.dtype == np.float32
    np.testing.assert_allclose(second, hessian(plain)(x), atol=3 * tolerance)
    assert not np.array_equal(second, hessian(plain)(x))
    v = single(rng, 4, 4)
    by_product = grad(lambda a: ops.sum(grad(mixed)(a) * v))(x)
    np.testing.assert_allclose(by_product, np.tensordot(second, v, 2), atol=10 * tolerance)


def test_vmap_and_a_policy_in_either_order(rng):
    xs = single(rng, 5, 4, 4)

    def f(a):
        return ops.sum(ops.tanh(a @ a))

    def inside(a):
        with autocast("bf16"):
            return f(a)

    loop = np.stack([inside(DiffTensor(x)).numpy() for x in xs])
    assert np.allclose(vmap(inside)(xs), loop, atol=1e-6)
    with autocast("bf16"):
        assert np.allclose(vmap(f)(DiffTensor(xs)).numpy(), loop, atol=1e-6)
    each = np.stack([grad(inside)(x) for x in xs])
    assert np.allclose(vmap(grad(inside))(xs), each, atol=2e-2)


def test_symbolic_tensors_have_the_shapes_and_dtypes_of_real_ones(rng):
    shape, weight = (6, 3, 8, 8), single(rng, 4, 3, 3, 3)

    def f(x, w):
        y = ops.relu(ops.conv2d(x, w))
        z, _, v = ops.standardize(y, axes=(0, 2, 3), eps=1e-5)
        return z, v, ops.softmax(z, axis=1), ops.max_pool2d(z * 2.0, 2), ops.mean(z)

    with autocast("fp16"):
        real = f(DiffTensor(single(rng, *shape)), DiffTensor(weight))
        symbolic = f(DiffTensor.symbol(shape, np.float32), DiffTensor.symbol(weight.shape, np.float32))
    for a, b in zip(real, symbolic, strict=True):
        assert (tuple(a.shape), a.dtype) == (tuple(b.shape), b.dtype)


# ---- the policy itself ----


def test_policies_nest_and_end(rng):
    x = DiffTensor(single(rng, 3, 3))
    with autocast("bf16"):
        assert (x @ x).dtype == HALVES["bf16"]
        with autocast("fp32"):
            assert (x @ x).dtype == np.float32
            with AutogradContext(precision="fp16", anomaly=True):
                assert (x @ x).dtype == np.float16
        with no_grad():  # what is not said is taken from outside
            assert (x @ x).dtype == HALVES["bf16"]
    assert current() is None and (x @ x).dtype == np.float32


def test_as_a_decorator(rng):
    @autocast("fp16")
    def product(a):
        return a @ a

    x = DiffTensor(single(rng, 3, 3))
    assert product(x).dtype == np.float16 and (x @ x).dtype == np.float32


def test_overflow_is_infinite_without_a_warning_and_anomaly_mode_names_it():
    x = DiffTensor(np.full((2, 2), 300.0, np.float32))
    with autocast("fp16"):
        assert np.isinf((x @ x).numpy()).all()
    with AutogradContext(precision="fp16", anomaly=True), pytest.raises(AnomalyError, match="matmul"):
        x @ x
    with AutogradContext(precision="bf16", anomaly=True):
        assert np.isfinite((x @ x).numpy().astype(np.float32)).all()


def test_a_wrong_name_is_refused():
    with pytest.raises(ValueError, match="'fp32', 'fp16', 'bf16', not 'half'"):
        autocast("half")


def test_without_ml_dtypes_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(ImportError, match=r"hammer-grad\[precision\]"):
        autocast("bf16")
    with autocast("fp16"):
        assert (DiffTensor(np.eye(2, dtype=np.float32)) @ np.eye(2, dtype=np.float32)).dtype == np.float16


def test_numbers_of_bfloat16_are_tensors_without_a_policy():
    x = tracked(np.array(1.5, HALVES["bf16"]))
    assert x.shape == () and x.dtype == HALVES["bf16"] and float(x) == 1.5
    (x * x).backward()
    assert float(x.grad) == 3.0
    assert "bfloat16" in repr(DiffTensor(np.ones(3, HALVES["bf16"])))
    assert x.astype(np.float32).dtype == np.float32
