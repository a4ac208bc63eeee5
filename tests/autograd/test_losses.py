"""Losses: against their formulas, at extreme inputs, for bad arguments, and against PyTorch."""

import numpy as np
import pytest

from autograd import DiffTensor, grad, hvp, nn, ops
from autograd.nn import losses
from autograd.table import OPS

REDUCTIONS = ["mean", "sum", "none"]


def close(actual, expected, rtol=1e-10, atol=1e-12):
    np.testing.assert_allclose(np.asarray(actual), np.asarray(expected), rtol=rtol, atol=atol)


def softmax(x, axis=1):
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def reduced(values, reduction):
    return {"mean": values.mean, "sum": values.sum, "none": lambda: values}[reduction]()


# ---- formulas ----


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_regression_losses_by_their_formulas(reduction):
    x, t = np.random.default_rng(0).normal(size=(2, 4, 5)) * 2
    d = x - t
    for loss, values in [
        (nn.MSELoss(reduction), d**2),
        (nn.L1Loss(reduction), np.abs(d)),
        (nn.HuberLoss(reduction, delta=0.7), np.where(np.abs(d) <= 0.7, d**2 / 2, 0.7 * (np.abs(d) - 0.35))),
        (nn.SmoothL1Loss(reduction, beta=0.7), np.where(np.abs(d) < 0.7, d**2 / 1.4, np.abs(d) - 0.35)),
        (nn.SmoothL1Loss(reduction, beta=0.0), np.abs(d)),
    ]:
        close(loss(x, t), reduced(values, reduction))


@pytest.mark.parametrize("shape", [(6, 4), (6, 4, 5), (2, 4, 3, 5), (4,)])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_cross_entropy_by_its_formula(shape, smoothing, weighted):
    rng = np.random.default_rng(1)
    axis = 1 if len(shape) > 1 else 0
    x, weight = rng.normal(size=shape), rng.uniform(0.5, 2.0, 4) if weighted else None
    target = rng.integers(0, 4, shape[:axis] + shape[axis + 1 :])
    hot = np.moveaxis(np.eye(4)[target], -1, axis)
    q = (1 - smoothing) * hot + smoothing / 4
    w = (np.ones(4) if weight is None else weight).reshape((4,) + (1,) * (len(shape) - axis - 1))
    values = -(q * w * np.log(softmax(x, axis))).sum(axis=axis)
    expected = {"none": values, "sum": values.sum(), "mean": values.sum() / (w * hot).sum()}
    for reduction in REDUCTIONS:
        close(nn.CrossEntropyLoss(weight, reduction, smoothing)(x, target), expected[reduction])
    close(losses.cross_entropy(np.moveaxis(x, axis, -1), target, weight, "sum", smoothing, axis=-1), expected["sum"])
    close(ops.cross_entropy(x, q, weight), values)  # the same probabilities, given densely
    gradient = grad(lambda x: losses.cross_entropy(x, target, weight, "sum", smoothing))(x)
    close(gradient, softmax(x, axis) * (q * w).sum(axis=axis, keepdims=True) - q * w)


def test_nll_is_cross_entropy_without_softmax():
    rng = np.random.default_rng(2)
    x, target, weight = rng.normal(size=(6, 4, 3)), rng.integers(0, 4, (6, 3)), rng.uniform(0.5, 2.0, 4)
    for w in (None, weight):
        for reduction in REDUCTIONS:
            close(nn.NLLLoss(w, reduction)(nn.LogSoftmax(1)(x), target), nn.CrossEntropyLoss(w, reduction)(x, target))
    assert nn.ClassNLLLoss is nn.NLLLoss


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_binary_losses_by_their_formulas(reduction):
    rng = np.random.default_rng(3)
    x, t, pos = rng.normal(size=(4, 5)), rng.uniform(size=(4, 5)), rng.uniform(0.5, 2.0, 5)
    p = 1 / (1 + np.exp(-x))
    close(nn.BCELoss(reduction)(p, t), reduced(-t * np.log(p) - (1 - t) * np.log(1 - p), reduction))
    close(nn.BCEWithLogitsLoss(reduction)(x, t), reduced(-t * np.log(p) - (1 - t) * np.log(1 - p), reduction))
    close(
        nn.BCEWithLogitsLoss(reduction, pos)(x, t), reduced(-pos * t * np.log(p) - (1 - t) * np.log(1 - p), reduction)
    )


@pytest.mark.parametrize(
    "loss",
    [
        nn.MSELoss(), nn.HuberLoss(delta=0.5), nn.SmoothL1Loss(beta=0.5), nn.BCEWithLogitsLoss(),
        lambda x, t: nn.BCELoss()(ops.sigmoid(x), t),
        lambda x, t: nn.CrossEntropyLoss()(x, np.array([0, 3, 1])),
        lambda x, t: nn.CrossEntropyLoss(np.arange(1.0, 5.0), label_smoothing=0.2)(x, np.array([0, 3, 1])),
        lambda x, t: nn.CrossEntropyLoss(label_smoothing=0.2)(x, np.array([0, 3, 1])),
        lambda x, t: ops.sum(ops.cross_entropy(x, np.array([0, 3, 1]), label_smoothing=0.2) ** 3),
        lambda x, t: ops.sum(OPS["cross_entropy"].apply(x, np.array([0, 3, 1]), axis=1, smoothing=0.2)[1] ** 3),
        lambda x, t: nn.NLLLoss()(ops.log_softmax(x, axis=1) ** 2, np.array([0, 3, 1])),
    ],
)  # fmt: skip
def test_first_and_second_derivatives(loss):
    rng = np.random.default_rng(4)
    x, v = rng.normal(size=(2, 3, 4))
    t = rng.uniform(0.1, 0.9, size=(3, 4))

    def f(x):
        return loss(x, t)

    h = 1e-5
    gradient = grad(f)
    close(np.vdot(gradient(x), v), (f(x + h * v) - f(x - h * v)) / (2 * h), rtol=1e-7)
    close(hvp(f)(x, v), (gradient(x + h * v) - gradient(x - h * v)) / (2 * h), rtol=1e-5, atol=1e-9)


def test_targets_of_regression_have_gradients_too():
    x, t = DiffTensor([1.0, 5.0]), DiffTensor([2.0, 2.0], requires_grad=True)
    nn.MSELoss("sum")(x, t).backward()
    close(t.grad, [2.0, -6.0])
    p, q = DiffTensor([0.3]), DiffTensor([0.4], requires_grad=True)
    nn.BCELoss()(p, q).backward()
    close(q.grad, np.log(0.7 / 0.3), rtol=1e-10)


# ---- extremes ----


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_extreme_logits_are_exact_in_value_and_gradient(dtype):
    x = DiffTensor(np.array([[1e4, 0.0, -1e4], [1e4, 0.0, -1e4], [1e4, 0.0, -1e4]], dtype), requires_grad=True)
    y = nn.CrossEntropyLoss(reduction="none")(x, np.array([0, 1, 2]))
    assert y.dtype == dtype
    close(y.numpy(), [0.0, 1e4, 2e4], rtol=1e-7)
    y.backward(np.ones(3, dtype))
    close(x.grad, [[0, 0, 0], [1, -1, 0], [1, 0, -1]])
    z = DiffTensor(np.array([1e4, 1e4, -1e4, -1e4, 0.0], dtype), requires_grad=True)
    t = np.array([1.0, 0.0, 1.0, 0.0, 0.5], dtype)
    y = nn.BCEWithLogitsLoss("none")(z, t)
    close(y.numpy(), [0.0, 1e4, 1e4, 0.0, np.log(2.0)], rtol=1e-7)
    y.backward(np.ones(5, dtype))
    close(z.grad, [0.0, 1.0, -1.0, 0.0, 0.0])
    for loss in (nn.HuberLoss("sum"), nn.SmoothL1Loss("sum")):
        w = DiffTensor(np.array([3e38, -3e38, 0.0], dtype), requires_grad=True)
        loss(w * 0.5, np.zeros(3, dtype)).backward()
        close(w.grad, [0.5, -0.5, 0.0])


def test_small_losses_keep_their_digits():
    """At x = ±50 the loss is e⁻⁵⁰: log(1 + e⁵⁰) - 50 would be 0."""
    x = DiffTensor(np.array([50.0, -50.0]), requires_grad=True)
    y = nn.BCEWithLogitsLoss("none")(x, np.array([1.0, 0.0]))
    close(y.numpy(), np.full(2, np.exp(-50.0)), rtol=1e-12, atol=0)
    y.backward(np.ones(2))
    close(x.grad, [-np.exp(-50.0), np.exp(-50.0)], rtol=1e-12, atol=0)
    p = np.array([1e-30, 1e-10])
    close(nn.BCELoss("none")(p, np.zeros(2)), p, rtol=1e-9, atol=0)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_saturated_probabilities_are_finite(dtype):
    p = DiffTensor(np.array([0.0, 0.0, 1.0, 1.0, 0.5], dtype), requires_grad=True)
    y = nn.BCELoss("none")(p, np.array([0.0, 1.0, 0.0, 1.0, 0.5], dtype))
    assert y.dtype == dtype
    close(y.numpy(), [0.0, 100.0, 100.0, 0.0, np.log(2.0)], rtol=1e-3)
    y.backward(np.ones(5, dtype))
    assert np.isfinite(p.grad).all()
    assert (np.sign(p.grad) == [0, -1, 1, 0, 0]).all()


def test_masked_logits_have_no_gradient_and_make_no_nan():
    x = DiffTensor(np.array([[0.0, -np.inf, 1.0]]), requires_grad=True)
    y = nn.CrossEntropyLoss()(x, np.array([2]))
    close(y.numpy(), np.log(1 + np.exp(-1.0)))
    y.backward()
    assert x.grad[0, 1] == 0.0
    assert np.isfinite(x.grad).all()


def test_float16_cross_entropy_is_computed_in_float32():
    x = np.random.default_rng(5).normal(size=(2, 5000)).astype(np.float16)
    t = DiffTensor(x, requires_grad=True)
    y = nn.CrossEntropyLoss(reduction="none")(t, np.array([3, 7]))
    assert y.dtype == np.float16
    exact = -np.log(softmax(x.astype(float)))[[0, 1], [3, 7]]
    close(y.numpy(), exact, rtol=1e-3)
    y.backward(np.ones(2, np.float16))
    assert t.grad.dtype == np.float16


def test_no_position_at_all():
    x = DiffTensor(np.zeros((0, 3)), requires_grad=True)
    y = nn.CrossEntropyLoss(reduction="sum")(x, np.zeros(0, int))
    y.backward()
    assert y.item() == 0.0
    assert x.grad.shape == (0, 3)


# ---- bad arguments ----

X = np.zeros((2, 3))


@pytest.mark.parametrize(
    ("call", "kind", "parts"),
    [
        (lambda: nn.MSELoss("avg"), ValueError, ["MSELoss", "avg", "mean, sum, none"]),
        (lambda: losses.mse_loss(X, X, "avg"), ValueError, ["avg", "mean, sum, none"]),
        (lambda: nn.MSELoss()(X, np.zeros((3, 2))), ValueError, ["mse_loss", "(2, 3)", "(3, 2)"]),
        (lambda: nn.BCEWithLogitsLoss()(X, np.zeros(3)), ValueError, ["(2, 3)", "(3,)"]),
        (lambda: nn.CrossEntropyLoss()(X, np.array([0, 1, 2])), ValueError, ["(2, 3)", "(3,)", "(2,)"]),
        (lambda: nn.CrossEntropyLoss()(X, np.array([0, 3])), IndexError, ["from 0 to 2", "to 3"]),
        (lambda: nn.CrossEntropyLoss()(X, np.array([0, -1])), IndexError, ["from 0 to 2", "-1"]),
        (lambda: nn.CrossEntropyLoss(np.ones(3), label_smoothing=0.1)(X, np.array([0, -1])), IndexError, ["from 0 to 2"]),
        (lambda: nn.CrossEntropyLoss()(X, np.array([True, False])), TypeError, ["integers", "bool"]),
        (lambda: nn.CrossEntropyLoss()(X, np.array([0.0, 1.0])), ValueError, ["probabilities (2,)", "(2, 3)"]),
        (lambda: nn.CrossEntropyLoss(np.ones(2))(X, np.array([0, 1])), ValueError, ["weight", "(2,)", "(3,)"]),
        (lambda: nn.CrossEntropyLoss(label_smoothing=2.0)(X, np.array([0, 1])), ValueError, ["label_smoothing", "2.0"]),
        (lambda: nn.NLLLoss()(X, np.array([[0], [1]])), ValueError, ["nll_loss", "(2, 1)", "(2,)"]),
        (lambda: nn.NLLLoss()(X, np.array([0, 3])), IndexError, ["nll_loss", "from 0 to 2"]),
        (lambda: nn.NLLLoss(np.ones(2))(X, np.array([0, 1])), ValueError, ["weight", "(2,)", "(3,)"]),
        (lambda: nn.BCELoss()(X - 0.1, X), ValueError, ["from 0 to 1", "with_logits"]),
        (lambda: nn.HuberLoss(delta=0.0)(X, X), ValueError, ["delta", "0.0"]),
        (lambda: nn.SmoothL1Loss(beta=-1.0)(X, X), ValueError, ["beta", "-1.0"]),
    ],
)  # fmt: skip
def test_bad_arguments_get_one_clear_message(call, kind, parts):
    with pytest.raises(kind) as error:
        call()
    for part in parts:
        assert part in str(error.value)


# ---- other arrays ----


def test_losses_run_on_another_device():
    strict = pytest.importorskip("array_api_strict")
    device = strict.Device("device1")
    rng = np.random.default_rng(6)
    x, q, target = rng.normal(size=(5, 4)), rng.uniform(0.1, 0.9, size=(5, 4)), rng.integers(0, 4, 5)

    def there(array):
        return strict.asarray(array, device=device)

    for loss, other in [
        (nn.CrossEntropyLoss(), target), (nn.CrossEntropyLoss(label_smoothing=0.1), target), (nn.CrossEntropyLoss(), q),
        (nn.BCEWithLogitsLoss(), q), (lambda a, b: nn.BCELoss()(ops.sigmoid(a), b), q), (nn.HuberLoss(delta=0.3), q),
        (lambda a, b: nn.NLLLoss()(ops.log_softmax(a), b), target),
    ]:  # fmt: skip
        a, b = DiffTensor(x, requires_grad=True), DiffTensor(there(x), requires_grad=True)
        y, z = loss(a, other), loss(b, there(other))
        y.backward()
        z.backward()
        assert b.grad.device == device
        close(float(z), float(y))
        close(strict.asarray(b.grad, device=strict.Device("CPU_DEVICE")), a.grad)


def test_symbolic_losses():
    x, t = DiffTensor.symbol((5, 4)), DiffTensor(np.arange(5) % 4)
    for loss in (nn.CrossEntropyLoss(), nn.CrossEntropyLoss(np.ones(4, np.float32), label_smoothing=0.1)):
        gradient = grad(lambda x, loss=loss: loss(x, t))(x)
        assert gradient.shape == (5, 4)
        assert gradient.raw is None
    assert nn.NLLLoss()(x, DiffTensor.symbol((5,), np.int64)).shape == ()


# ---- PyTorch ----

SMOOTH = {"SmoothL1Loss": {"beta": 0.7}, "HuberLoss": {"delta": 0.7}}


def compare(ours, theirs, x, *targets):
    import torch

    a, b = DiffTensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    y, z = ours(a, *targets), theirs(b, *map(torch.tensor, targets))
    g = np.random.default_rng(7).normal(size=y.shape)
    y.backward(g)
    z.backward(torch.tensor(g))
    close(y.numpy(), z.detach())
    close(a.grad, b.grad)


@pytest.mark.peers
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_losses_are_torchs(reduction, scale):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(8)
    x, t, p = rng.normal(size=(6, 4)) * scale, rng.normal(size=(6, 4)), rng.uniform(size=(6, 4))
    for name in ("MSELoss", "L1Loss", "SmoothL1Loss", "HuberLoss"):
        arguments = {"reduction": reduction, **SMOOTH.get(name, {})}
        compare(getattr(nn, name)(**arguments), getattr(torch.nn, name)(**arguments), x, t)
    compare(nn.BCELoss(reduction), torch.nn.BCELoss(reduction=reduction), rng.uniform(0.01, 0.99, size=(6, 4)), p)
    for pos in (None, rng.uniform(0.5, 2.0, 4)):
        theirs = torch.nn.BCEWithLogitsLoss(reduction=reduction, pos_weight=None if pos is None else torch.tensor(pos))
        compare(nn.BCEWithLogitsLoss(reduction, pos), theirs, x, p)


@pytest.mark.peers
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", [(6, 4), (6, 4, 5), (2, 4, 3, 5), (4,)])
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_class_losses_are_torchs(reduction, shape, scale):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(9)
    x, q = rng.normal(size=shape) * scale, rng.uniform(size=shape)
    target = rng.integers(0, 4, shape[:1] + shape[2:] if len(shape) > 1 else ())
    for weight in (None, rng.uniform(0.5, 2.0, 4)):
        w = None if weight is None else torch.tensor(weight)
        compare(nn.NLLLoss(weight, reduction), torch.nn.NLLLoss(w, reduction=reduction), x, target)
        for smoothing in (0.0, 0.1):
            ours = nn.CrossEntropyLoss(weight, reduction, smoothing)
            theirs = torch.nn.CrossEntropyLoss(w, reduction=reduction, label_smoothing=smoothing)
            compare(ours, theirs, x, target)
            if reduction != "mean":
                compare(ours, theirs, x, q)
