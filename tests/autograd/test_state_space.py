"""linear_scan against the loop; the state-space layer against the exact solution of its differential equation, and a convolution."""

import numpy as np
import pytest
import scipy.signal

from autograd import AutogradContext, DiffTensor, grad, nn, ops, vmap
from autograd.ops.reduce import _linear_scan
from autograd.tape import ancestors
from autograd.testing import check_grads

RNG = np.random.default_rng


def looped(a, b, axis, reverse):
    a, b = (np.moveaxis(x, axis, 0) for x in np.broadcast_arrays(a, b))
    out = np.empty(b.shape, np.result_type(a, b))
    for k in range(len(b))[:: -1 if reverse else 1]:
        before = k + 1 if reverse else k - 1
        out[k] = a[k] * out[before] + b[k] if 0 <= before < len(b) else b[k]
    return np.moveaxis(out, 0, axis)


SHAPES = [
    ((6, 3, 4), (6, 3, 4)), ((4,), (6, 3, 4)), ((6, 1, 4), (3, 1)), ((1, 3, 4), (6, 3, 4)), ((6, 3, 20), (6, 3, 20)), ((5,), (5,)),
    ((1,), (1,)), ((2, 0), (2, 1)), ((300,), (2, 300)),
]  # fmt: skip


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("a", "b"), SHAPES, ids=str)
@pytest.mark.parametrize("dtypes", [("f", "f"), ("d", "d"), ("F", "f"), ("d", "D"), ("e", "e"), ("q", "d")])
def test_the_scan_is_the_loop(a, b, dtypes, reverse):
    rng = RNG(0)
    a, b = (
        rng.normal(size=s) + (1j * rng.normal(size=s) if d in "FD" else 0) for s, d in zip((a, b), dtypes, strict=True)
    )
    a, b = (x.astype(d) for x, d in zip((a, b), dtypes, strict=True))
    for axis in range(-max(a.ndim, b.ndim), max(a.ndim, b.ndim)):
        expected = looped(a, b, axis, reverse)
        for found in (
            ops.linear_scan(a, b, axis=axis, reverse=reverse),
            _linear_scan(a, b, axis=axis, reverse=reverse),
        ):
            assert found.dtype == expected.dtype
            if expected.dtype.kind == "c":  # NumPy multiplies one complex number as it may not multiply eight
                np.testing.assert_allclose(found, expected, rtol=8 * np.finfo(expected.dtype).eps)
            else:
                np.testing.assert_array_equal(found, expected)
    turned = np.asfortranarray(b)
    np.testing.assert_array_equal(
        ops.linear_scan(a, turned, reverse=reverse), ops.linear_scan(a, b.copy(), reverse=reverse)
    )


def test_the_scan_reads_nothing_before_its_beginning():
    a, b = np.array([np.nan, 0.5, 0.5]), np.array([1.0, 1.0, 1.0])
    assert ops.linear_scan(a, b).tolist() == [1.0, 1.5, 1.75]
    assert grad(lambda b: ops.sum(ops.linear_scan(a, b)))(b).tolist() == [1.75, 1.5, 1.0]
    assert grad(lambda a: ops.sum(ops.linear_scan(a, b)))(a).tolist() == [0.0, 1.5, 1.5]


def test_where_the_scan_cannot_run():
    with pytest.raises(ValueError, match=r"linear_scan\(.*axis 2 is out of range for an array of 1 axes"):
        ops.linear_scan(np.ones(3), np.ones(3), axis=2)
    with pytest.raises(ValueError, match="axis -1 is out of range for an array of 0 axes"):
        ops.linear_scan(DiffTensor.symbol((), np.float64), np.float64(1.0))


@pytest.mark.peers
def test_the_scan_is_jaxs_associative_scan():
    jax = pytest.importorskip("jax")
    with jax.enable_x64(True):
        a, b = RNG(0).uniform(0.3, 1.0, (7, 3)), RNG(1).normal(size=(7, 3))
        join = lambda x, y: (x[0] * y[0], y[0] * x[1] + y[1])
        loss = lambda a, b: (jax.lax.associative_scan(join, (a, b))[1] ** 2).sum()
        expected = jax.jit(jax.grad(loss, (0, 1)))(a, b)
    found = grad(lambda a, b: ops.sum(ops.linear_scan(a, b, axis=0) ** 2), (0, 1))(a, b)
    for f, e in zip(found, expected, strict=True):
        np.testing.assert_allclose(f, e, rtol=1e-12)


# ---- the layer ----


def ssm(**options):
    return nn.DiagonalSSM(3, 4, (0.05, 0.5), rng=0, dtype=np.float64, **options)


def complex_parts(layer):
    p = layer.state_dict()
    return (
        -np.exp(p["log_decay"]) + 1j * p["frequency"],
        np.exp(p["log_step"]),
        p["B"][0] + 1j * p["B"][1],
        p["C"][0] + 1j * p["C"][1],
        p["D"],
    )


def test_the_layer_solves_its_differential_equation():
    """Each pair of conjugate states is a real system of two, which SciPy discretises by the exponential of a matrix."""
    layer, x = ssm(), RNG(1).normal(size=(9, 2, 3))
    a, step, b, c, d = complex_parts(layer)
    expected = d * x
    for s in range(4):
        system = np.array([[a[s].real, -a[s].imag], [a[s].imag, a[s].real]])
        inputs, outputs = np.stack([b[s].real, b[s].imag]), 2 * np.stack([c[:, s].real, -c[:, s].imag], axis=1)
        phi, gamma, *_ = scipy.signal.cont2discrete((system, inputs, outputs, np.zeros((3, 3))), step[s])
        for n in range(2):
            h = np.zeros(2)
            for k in range(9):
                h = phi @ h + gamma @ x[k, n]
                expected[k, n] += outputs @ h
    np.testing.assert_allclose(layer(x).raw, expected, rtol=1e-11, atol=1e-12)
    turned = ssm(batch_first=True)
    np.testing.assert_array_equal(turned(np.swapaxes(x, 0, 1)).raw, np.swapaxes(layer(x).raw, 0, 1))


def test_the_layer_is_a_convolution():
    layer, x = ssm(), RNG(1).normal(size=(9, 2, 3))
    a, step, b, c, d = complex_parts(layer)
    bar = np.exp(a * step)
    kernel = 2 * np.einsum("os,ks,si->koi", c, bar ** np.arange(9)[:, None], ((bar - 1) / a)[:, None] * b).real
    expected = np.stack([sum(x[k - j] @ kernel[j].T for j in range(k + 1)) for k in range(9)]) + d * x
    np.testing.assert_allclose(layer(x).raw, expected, rtol=1e-11, atol=1e-12)


def test_the_layers_gradients_of_two_orders():
    layer, x = nn.DiagonalSSM(2, 1, (0.05, 0.5), rng=0, dtype=np.float64), RNG(1).normal(size=(3, 1, 2))
    names = [n for n, _ in layer.named_parameters()]

    def run(x, *values):
        for name, value in zip(names, values, strict=True):
            object.__setattr__(layer, name, value)
        return layer(x)

    check_grads(run, x, *(p.raw for p in layer.parameters()), order=2, modes=("rev",))


def test_a_long_sequence_is_as_many_nodes_as_a_short_one():
    layer = nn.DiagonalSSM(3, 4, rng=0)
    counts = [len(ancestors([layer(np.ones((t, 1, 3), np.float32)).node])) for t in (2, 1024)]
    assert counts[0] == counts[1] < 60


def test_the_layer_in_its_settings():
    layer = nn.DiagonalSSM(64, 128, rng=0)
    x = RNG(0).normal(size=(5, 2, 64)).astype(np.float32)
    y = layer(x)
    assert y.dtype == np.float32 and y.shape == x.shape
    ops.sum(y).backward()
    assert {p.grad.dtype for p in layer.parameters()} == {np.dtype(np.float32)}
    with AutogradContext(precision="fp16"):
        assert np.all(np.isfinite(layer(x).raw.astype(np.float32)))
    np.testing.assert_allclose(vmap(layer)(np.stack([x, 2 * x])).raw[1], 2 * y.raw, rtol=1e-4, atol=1e-4)
    p = {k: v.astype(float) for k, v in layer.state_dict().items()}
    np.testing.assert_allclose(-np.exp(p["log_decay"]), -0.5, rtol=1e-6)
    np.testing.assert_allclose(p["frequency"], np.pi * np.arange(128), rtol=1e-6)
    assert np.log(0.001) <= p["log_step"].min() < -6 and -3 < p["log_step"].max() <= np.log(0.1)
    np.testing.assert_allclose([p["B"].std() * 128**0.5, p["C"].std() * 256**0.5], 1.0, rtol=0.05)
    assert "64, 128" in repr(layer)


def test_a_small_step_keeps_its_digits():
    layers = [nn.DiagonalSSM(3, 4, (1e-5, 1e-5), rng=0, dtype=d) for d in (np.float32, np.float64)]
    layers[1].load_state_dict(layers[0].state_dict())
    narrow, wide = (layer.discretised()[1].raw for layer in layers)
    assert np.max(np.abs(narrow - wide) / np.abs(wide)) < 1e-6


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda: nn.DiagonalSSM(0, 4), "at least 1"),
        (lambda: nn.DiagonalSSM(3, 4, (0.1, 0.01)), "ascending"),
        (lambda: ssm()(np.ones((5, 3))), r"input \(5, 3\) must be \(T, N, 3\)"),
        (lambda: ssm(batch_first=True)(np.ones((5, 3, 4))), r"must be \(N, T, 3\)"),
        (lambda: nn.Residual(nn.Linear(3, 1))(np.ones((2, 3), np.float32)), r"turned \(2, 3\) into \(2, 1\)"),
    ],
)
def test_what_does_not_fit_is_refused(run, message):
    with pytest.raises(ValueError, match=message):
        run()


# ---- residual blocks ----


def test_residual_blocks_add():
    x = RNG(0).normal(size=(2, 3)).astype(np.float32)
    body, shortcut = nn.Linear(3, 3, rng=0), nn.Linear(3, 3, bias=False, rng=1)
    np.testing.assert_array_equal(nn.Residual(body)(x).raw, body(x).raw + x)
    block = nn.Residual(body, shortcut)
    np.testing.assert_array_equal(block(x).raw, body(x).raw + shortcut(x).raw)
    assert [n for n, _ in block.named_parameters()] == ["body.weight", "body.bias", "shortcut.weight"]
    ops.sum(nn.Residual(nn.Sequential())(DiffTensor(x, requires_grad=True))).backward()


@pytest.mark.peers
def test_a_residual_block_with_batch_norm_is_pytorchs():
    torch = pytest.importorskip("torch")
    body = nn.Sequential(
        nn.Conv2d(3, 5, 3, stride=2, padding=1, bias=False, rng=0), nn.BatchNorm2d(5), nn.ReLU(),
        nn.Conv2d(5, 5, 3, padding=1, bias=False, rng=1), nn.BatchNorm2d(5),
    )  # fmt: skip
    block = nn.Residual(body, nn.Sequential(nn.Conv2d(3, 5, 1, stride=2, bias=False, rng=2), nn.BatchNorm2d(5)))
    x = RNG(0).normal(size=(4, 3, 6, 6)).astype(np.float32)
    tn = torch.nn
    theirs = tn.ModuleDict({
        "body": tn.Sequential(tn.Conv2d(3, 5, 3, 2, 1, bias=False), tn.BatchNorm2d(5), tn.ReLU(), tn.Conv2d(5, 5, 3, 1, 1, bias=False), tn.BatchNorm2d(5)),
        "shortcut": tn.Sequential(tn.Conv2d(3, 5, 1, 2, bias=False), tn.BatchNorm2d(5)),
    })  # fmt: skip
    theirs.load_state_dict({k: torch.tensor(v) for k, v in block.state_dict().items()})
    y, t = block(x), torch.tensor(x)
    expected = theirs["body"](t) + theirs["shortcut"](t)
    np.testing.assert_allclose(y.raw, expected.detach().numpy(), rtol=1e-4, atol=1e-5)
    ops.sum(ops.sin(y)).backward()
    expected.sin().sum().backward()
    for (name, p), q in zip(block.named_parameters(), theirs.parameters(), strict=True):
        np.testing.assert_allclose(p.grad, q.grad.numpy(), rtol=1e-3, atol=2e-5, err_msg=name)
