"""Modules and layers: the tree of names, state, modes and hooks; values and gradients against formulas and PyTorch."""

import copy

import numpy as np
import pytest

from autograd import DiffTensor, grad, hvp, nn, no_grad, ops
from autograd.nn import init, module


def close(actual, expected, rtol=1e-10, atol=1e-12):
    np.testing.assert_allclose(np.asarray(actual), np.asarray(expected), rtol=rtol, atol=atol)


def network(rng=0, dtype=np.float64):
    rng = np.random.default_rng(rng)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, rng=rng, dtype=dtype),
        nn.BatchNorm2d(4, dtype=dtype),
        nn.Sequential({"act": nn.ReLU(), "pool": nn.MaxPool2d(2)}),
        nn.Flatten(),
        nn.Linear(16, 3, rng=rng, dtype=dtype),
    )


IMAGES = np.random.default_rng(1).normal(size=(5, 2, 6, 6))


# ---- the tree ----


def test_names_are_dotted_and_in_order():
    model = network()
    assert [name for name, _ in model.named_parameters()] == [
        "0.weight", "0.bias", "1.weight", "1.bias", "4.weight", "4.bias",
    ]  # fmt: skip
    assert [name for name, _ in model.named_buffers()] == ["1.running_mean", "1.running_var", "1.num_batches_tracked"]
    assert [name for name, _ in model.named_modules()] == ["", "0", "1", "2", "2.act", "2.pool", "3", "4"]
    assert [name for name, _ in model.named_children()] == ["0", "1", "2", "3", "4"]
    assert len(list(model.parameters())) == 6
    assert all(p.requires_grad and p.is_leaf for p in model.parameters())


def test_a_shared_module_counts_once_but_is_saved_under_both_names():
    layer = nn.Linear(2, 2, rng=0)
    model = nn.Sequential(layer, nn.Tanh(), layer)
    assert [name for name, _ in model.named_parameters()] == ["0.weight", "0.bias"]
    assert list(model.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    ops.sum(model(np.ones((1, 2), np.float32))).backward()
    assert layer.weight.grad.shape == (2, 2)


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter([2.0, 3.0])
        self.inner = nn.Linear(2, 2, rng=0, dtype=np.float64)
        self.constant = DiffTensor([1.0, 1.0])
        self.name = "scaled"

    def forward(self, x, shift=0.0):
        return self.inner(x) * self.scale + self.constant + shift


def test_attributes_register_themselves():
    model = Scaled()
    assert [name for name, _ in model.named_parameters()] == ["scale", "inner.weight", "inner.bias"]
    model.scale = nn.Parameter([5.0, 5.0])
    assert [name for name, _ in model.named_parameters()] == ["scale", "inner.weight", "inner.bias"]
    model.inner = None
    assert [name for name, _ in model.named_parameters()] == ["scale"]
    del model.scale
    assert not list(model.parameters())
    assert not hasattr(model, "scale")


def test_keyword_arguments_reach_forward():
    model = Scaled()
    close(model(np.zeros((1, 2)), shift=1.0).numpy() - model(np.zeros((1, 2))).numpy(), np.ones((1, 2)))


def test_mistakes_in_registration_are_named():
    class Early(nn.Module):
        def __init__(self):
            self.layer = nn.ReLU()

    with pytest.raises(AttributeError, match=r"super\(\).__init__\(\).*'layer'"):
        Early()
    model = Scaled()
    with pytest.raises(TypeError, match=r"scale is a parameter.*not list"):
        model.scale = [1.0]
    with pytest.raises(TypeError, match="inner is a module"):
        model.inner = 3
    with pytest.raises(TypeError, match="detach"):
        model.scale = model.scale * 2.0
    with pytest.raises(TypeError, match=r"blocks.*Sequential\(\*modules\)"):
        model.blocks = [nn.ReLU(), nn.ReLU()]
    with pytest.raises(TypeError, match="leaf DiffTensor"):
        model.register_parameter("p", model.scale * 2.0)
    with pytest.raises(TypeError, match="no gradient"):
        model.register_buffer("b", nn.Parameter([1.0]))
    with pytest.raises(ValueError, match="dot"):
        model.register_buffer("a.b", [1.0])
    with pytest.raises(NotImplementedError, match="Module needs a method forward"):
        nn.Module()(1.0)


def test_frozen_parameters_stay_parameters():
    model = network().requires_grad_(False)
    assert len(list(model.parameters())) == 6
    assert not any(p.requires_grad for p in model.parameters())
    assert model(IMAGES).node is None
    model.requires_grad_()
    assert model(IMAGES).node is not None
    frozen = nn.Module()
    frozen.register_parameter("w", nn.Parameter([1.0], requires_grad=False))
    assert list(frozen.state_dict()) == ["w"]


def test_apply_reaches_children_before_parents():
    seen = []
    model = network()
    assert model.apply(lambda module: seen.append(type(module).__name__)) is model
    assert seen == ["Conv2d", "BatchNorm2d", "ReLU", "MaxPool2d", "Sequential", "Flatten", "Linear", "Sequential"]


def test_zero_grad_forgets():
    model = network()
    ops.sum(model(IMAGES)).backward()
    assert model[0].weight.grad is not None
    model.zero_grad()
    assert all(p.grad is None for p in model.parameters())


def test_repr_shows_the_tree():
    assert repr(network()) == (
        "Sequential(\n"
        "  (0): Conv2d(2, 4, kernel_size=(3, 3), stride=(1, 1), padding=0, dilation=(1, 1), groups=1, bias=True)\n"
        "  (1): BatchNorm2d(4, eps=1e-05, momentum=0.1, affine=True, track_running_stats=True)\n"
        "  (2): Sequential(\n"
        "    (act): ReLU()\n"
        "    (pool): MaxPool2d(kernel_size=2, stride=2, padding=0)\n"
        "  )\n"
        "  (3): Flatten(start_dim=1, end_dim=-1)\n"
        "  (4): Linear(in_features=16, out_features=3, bias=True)\n"
        ")"
    )


def test_sequential_is_a_sequence():
    model = network()
    assert len(model) == 5
    assert [type(m).__name__ for m in model] == ["Conv2d", "BatchNorm2d", "Sequential", "Flatten", "Linear"]
    assert model[-1] is model[4]
    head = model[:2]
    assert isinstance(head, nn.Sequential)
    assert head[0] is model[0]
    assert list(model[3:].state_dict()) == ["4.weight", "4.bias"]
    model[2] = nn.Tanh()
    assert isinstance(model[2], nn.Tanh)
    assert model(IMAGES[:, :, :4, :4]).shape == (5, 3)
    model.append(nn.Softmax())
    close(ops.sum(model(IMAGES[:, :, :4, :4]), axis=1).numpy(), np.ones(5))
    with pytest.raises(IndexError):
        model[6]
    with pytest.raises(TypeError, match="not a Module"):
        nn.Sequential(np.tanh)
    with pytest.raises(TypeError, match=r"Sequential\(\*modules\)"):
        nn.Sequential([nn.ReLU()])
    with pytest.raises(TypeError, match="not a Module"):
        model[0] = 3


# ---- hooks ----


def test_forward_hooks_see_replace_and_can_be_removed():
    layer = nn.Linear(2, 2, rng=0)
    x = np.ones((1, 2), np.float32)
    plain, seen = layer(x).numpy(), []
    first = layer.register_forward_hook(lambda module, args, output: seen.append((module, args, output)))
    second = layer.register_forward_hook(lambda _module, _args, output: output * 2.0)
    third = layer.register_forward_hook(lambda _module, _args, output: output + 1.0)
    close(layer(x).numpy(), plain * 2.0 + 1.0)
    assert seen[0][0] is layer
    assert seen[0][1] == (x,)
    second()
    close(layer(x).numpy(), plain + 1.0)
    first()
    third()
    third()
    assert layer(x).numpy().tolist() == plain.tolist()
    assert len(seen) == 2


def test_hooks_of_one_module_are_not_another_s():
    a, b, calls = nn.ReLU(), nn.ReLU(), []
    a.register_forward_hook(lambda *_: calls.append("a"))
    b(1.0)
    assert calls == []


# ---- state ----


def test_state_dict_round_trip():
    a, b = network(0), network(1)
    a(IMAGES)  # moves the running statistics
    state = a.state_dict()
    assert all(type(v) is np.ndarray for v in state.values())
    references = list(b.parameters())
    b.load_state_dict(state)
    for name, value in b.state_dict().items():
        np.testing.assert_array_equal(value, state[name])
    assert all(p is q for p, q in zip(references, b.parameters(), strict=True))  # an optimizer's references hold
    close(a.eval()(IMAGES).numpy(), b.eval()(IMAGES).numpy(), rtol=0, atol=0)
    state["0.weight"][...] = 0.0  # copies: neither model changes
    assert a[0].weight.numpy().any()
    assert b[0].weight.numpy().any()


def test_loading_casts_to_the_modules_dtype():
    a, b = network(0, np.float64), network(1, np.float32)
    b.load_state_dict(a.state_dict())
    assert b[0].weight.dtype == np.float32
    close(b[0].weight.numpy(), a[0].weight.numpy(), rtol=1e-6)


def test_a_bad_state_lists_everything_and_loads_nothing():
    model = network()
    before = model.state_dict()
    state = {k: v + 1 for k, v in before.items()}
    del state["0.bias"]
    state["extra"] = np.zeros(3)
    state["4.weight"] = np.zeros((3, 17))
    state["1.bias"] = np.array(["a", "b", "c", "d"])
    state["4.bias"] = np.zeros(3, complex)
    with pytest.raises(ValueError) as error:
        model.load_state_dict(state)
    message = str(error.value)
    for part in (
        "nothing was loaded", "missing: 0.bias (4,)", "unexpected: extra (3,)",
        "4.weight: shape (3, 17) in the state, (3, 16) in the module", "1.bias: dtype <U1", "4.bias: dtype complex128",
    ):  # fmt: skip
        assert part in message
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    del state["4.weight"], state["1.bias"], state["4.bias"]
    model.load_state_dict(state, strict=False)
    np.testing.assert_array_equal(model[0].weight.numpy(), before["0.weight"] + 1)
    np.testing.assert_array_equal(model[0].bias.numpy(), before["0.bias"])


def test_a_copy_is_independent():
    model = network()
    twin = copy.deepcopy(model)
    twin[0].weight.data = np.zeros_like(twin[0].weight.numpy())
    assert model[0].weight.numpy().any()
    ops.sum(twin(IMAGES)).backward()
    assert twin[4].weight.grad is not None
    assert model[4].weight.grad is None


def test_to_converts_in_place_and_takes_gradients_along():
    model = network(0, np.float64)
    ops.sum(model(IMAGES)).backward()
    weight, gradient = model[4].weight, model[4].weight.grad
    assert model.to(np.float32) is model
    assert model[4].weight is weight
    assert weight.dtype == weight.grad.dtype == np.float32
    close(weight.grad, gradient, rtol=1e-6)
    assert model[1].running_mean.dtype == np.float32
    assert model[1].num_batches_tracked.dtype == np.int64
    assert model(IMAGES.astype(np.float32)).dtype == np.float32
    model.to("float64")
    assert weight.dtype == np.float64
    model.to("cpu")
    assert weight.device == "cpu"
    y = ops.sum(model(IMAGES))
    model.to(np.float32)
    with pytest.raises(ValueError, match="changed in place"):
        y.backward()
    with pytest.raises(TypeError, match="floating"):
        model.to(int)
    with pytest.raises(ValueError, match="device 'tpu'"):
        model.to("tpu")


# ---- randomness ----


def test_initialisation_is_a_function_of_the_seed():
    a, b, c = network(0).state_dict(), network(0).state_dict(), network(1).state_dict()
    assert all((a[k] == b[k]).all() for k in a)
    assert (a["0.weight"] != c["0.weight"]).any()
    seed = np.random.SeedSequence(3)
    assert (
        nn.Linear(3, 3, rng=seed).weight.numpy() == nn.Linear(3, 3, rng=np.random.default_rng(seed)).weight.numpy()
    ).all()
    assert (nn.Linear(3, 3).weight.numpy() != nn.Linear(3, 3).weight.numpy()).any()


@pytest.mark.parametrize(
    ("layer", "fan"),
    [
        (nn.Linear(50, 400, rng=0), 50),
        (nn.Conv1d(10, 400, 5, rng=0), 50),
        (nn.Conv2d(10, 400, (1, 5), groups=2, rng=0), 25),
        (nn.ConvTranspose2d(400, 10, (1, 5), rng=0), 50),
    ],
)
def test_default_weights_are_uniform_within_one_over_root_fan_in(layer, fan):
    bound = fan**-0.5
    for values in (layer.weight.numpy(), layer.bias.numpy()):
        assert values.dtype == np.float32
        assert np.abs(values).max() <= bound * (1 + 1e-6)
    assert np.abs(layer.weight.numpy()).max() > 0.99 * bound
    assert abs(layer.weight.numpy().std() / (bound / 3**0.5) - 1) < 0.02


def test_initialisers_have_their_moments():
    rng = np.random.default_rng(0)
    shape = (300, 40, 5)
    assert init.fans(shape) == (200, 1500)
    for values, std in [
        (init.kaiming_uniform(shape, rng), (2 / 200) ** 0.5),
        (init.kaiming_normal(shape, rng, mode="fan_out", nonlinearity="relu"), (2 / 1500) ** 0.5),
        (init.kaiming_normal(shape, rng, a=1.0), (1 / 200) ** 0.5),
        (init.xavier_uniform(shape, rng, gain=init.gain("tanh")), 5 / 3 * (2 / 1700) ** 0.5),
        (init.xavier_normal(shape, rng), (2 / 1700) ** 0.5),
        (init.normal(shape, rng, 0.0, 0.3), 0.3),
        (init.uniform(shape, rng, -0.6, 0.6), 0.6 / 3**0.5),
    ]:
        assert values.dtype == np.float32
        assert abs(values.std() / std - 1) < 0.02
        assert abs(values.mean()) < 0.02 * std
    for size in ((6, 2, 2), (3, 4)):
        q = init.orthogonal(size, rng, gain=2.0, dtype=np.float64).reshape(size[0], -1)
        gram = q.T @ q if q.shape[0] > q.shape[1] else q @ q.T
        close(gram, 4.0 * np.eye(len(gram)), atol=1e-12)
    with pytest.raises(ValueError, match="two axes"):
        init.xavier_normal((3,), rng)
    with pytest.raises(ValueError, match=r"swish.*leaky_relu"):
        init.gain("swish")
    with pytest.raises(ValueError, match="fan_in"):
        init.kaiming_normal((3, 3), rng, mode="in")


def test_dropout():
    layer, x = nn.Dropout(0.25, rng=0), DiffTensor(np.ones((200, 200)), requires_grad=True)
    y = layer(x)
    kept = y.numpy() != 0
    assert set(np.unique(y.numpy())) == {0.0, 4.0 / 3.0}
    assert abs(kept.mean() - 0.75) < 0.01
    ops.sum(y).backward()
    np.testing.assert_array_equal(x.grad, y.numpy())
    assert (layer(x).numpy() != y.numpy()).any()
    np.testing.assert_array_equal(nn.Dropout(0.25, rng=0)(x).numpy(), y.numpy())
    assert layer.eval()(x) is x
    assert nn.Dropout(0.0)(x) is x
    assert not nn.Dropout(1.0)(x).numpy().any()
    assert ops.dropout(np.ones(4, np.float32), 0.5, np.random.default_rng(0)).dtype == np.float32
    with pytest.raises(ValueError, match=r"1.5"):
        nn.Dropout(1.5)


# ---- normalisation ----


def test_batch_norm_statistics_and_modes():
    layer = nn.BatchNorm1d(3, dtype=np.float64)
    x = np.random.default_rng(2).normal(2.0, 3.0, size=(7, 3, 5))
    y = layer(x).numpy()
    close(y.mean(axis=(0, 2)), np.zeros(3), atol=1e-12)
    close(y.var(axis=(0, 2)), np.ones(3), rtol=1e-5)
    mean, var = x.mean(axis=(0, 2)), x.var(axis=(0, 2), ddof=1)
    close(layer.running_mean.numpy(), 0.1 * mean)
    close(layer.running_var.numpy(), 0.9 + 0.1 * var)
    layer(x)
    close(layer.running_mean.numpy(), 0.19 * mean)
    assert layer.num_batches_tracked.item() == 2
    layer.eval()
    state = layer.state_dict()
    close(layer(x).numpy(), (x - state["running_mean"][:, None]) / np.sqrt(state["running_var"][:, None] + 1e-5))
    for name, value in layer.state_dict().items():
        np.testing.assert_array_equal(value, state[name])
    assert not any(b.requires_grad for b in layer.buffers())


def test_batch_norm_with_cumulative_average_and_without_statistics():
    layer = nn.BatchNorm2d(2, momentum=None, affine=False, dtype=np.float64)
    xs = np.random.default_rng(3).normal(size=(4, 6, 2, 3, 3))
    for x in xs:
        layer(x)
    close(layer.running_mean.numpy(), np.mean([x.mean(axis=(0, 2, 3)) for x in xs], axis=0))
    close(layer.running_var.numpy(), np.mean([x.var(axis=(0, 2, 3), ddof=1) for x in xs], axis=0))
    assert not list(layer.parameters())
    bare = nn.BatchNorm2d(2, track_running_stats=False, dtype=np.float64)
    assert not bare.state_dict().keys() & {"running_mean", "running_var", "num_batches_tracked"}
    close(bare.eval()(xs[0]).numpy(), bare.train()(xs[0]).numpy())


def test_running_statistics_keep_their_dtype_and_leave_no_graph():
    layer = nn.BatchNorm1d(3)
    x = DiffTensor(np.random.default_rng(4).normal(size=(8, 3)), requires_grad=True)
    layer(x)
    assert layer.running_mean.dtype == layer.running_var.dtype == np.float32
    assert layer.running_mean.node is None
    with no_grad():
        assert layer(x).node is None


def test_batch_norm_refuses_what_it_cannot_do():
    layer = nn.BatchNorm2d(3)
    with pytest.raises(ValueError, match=r"\(2, 4, 5, 5\).*\(N, 3, \.\.\.\)"):
        layer(np.ones((2, 4, 5, 5)))
    with pytest.raises(ValueError, match="4 axes"):
        layer(np.ones((2, 3, 5)))
    with pytest.raises(ValueError, match="one value for each channel"):
        layer(np.ones((1, 3, 1, 1)))
    with pytest.raises(TypeError, match=r"symbolic.*eval"):
        layer(DiffTensor.symbol((2, 3, 4, 4)))
    assert layer.eval()(DiffTensor.symbol((2, 3, 4, 4))).shape == (2, 3, 4, 4)
    assert layer.train()(np.ones((0, 3, 4, 4), np.float32)).shape == (0, 3, 4, 4)
    assert layer.num_batches_tracked.item() == 0


def test_layer_and_group_norm_by_their_formulas():
    x = np.random.default_rng(5).normal(size=(4, 6, 5))
    close(ops.layer_norm(x, (6, 5)), (x - x.mean((1, 2), keepdims=True)) / np.sqrt(x.var((1, 2), keepdims=True) + 1e-5))
    close(ops.layer_norm(x, 5, eps=0.1), (x - x.mean(2, keepdims=True)) / np.sqrt(x.var(2, keepdims=True) + 0.1))
    g = x.reshape(4, 3, 10)
    close(
        ops.group_norm(x, 3),
        ((g - g.mean(2, keepdims=True)) / np.sqrt(g.var(2, keepdims=True) + 1e-5)).reshape(x.shape),
    )
    with pytest.raises(ValueError, match=r"\(4, 6, 5\).*\(6,\)"):
        ops.layer_norm(x, 6)
    with pytest.raises(ValueError, match=r"6 channels.*4 groups"):
        ops.group_norm(x, 4)
    with pytest.raises(ValueError, match=r"weight.*\(5,\).*\(6,\)"):
        ops.group_norm(x, 3, np.ones(5))
    with pytest.raises(ValueError, match="both"):
        ops.batch_norm(x, np.ones(6))


@pytest.mark.parametrize("axes", [(0,), (1,), (-1,), (0, 2), (-2, -1), (0, 1, 2)])
def test_standardize_first_and_second_derivatives(axes):
    x, v, c = np.random.default_rng(6).normal(size=(3, 3, 4, 5))

    def f(x):
        z, mean, var = ops.standardize(x, axes=axes, eps=0.1)
        return ops.sum(c * z**3) + ops.sum(ops.sin(mean)) + ops.sum(var**2)

    h = 1e-5
    gradient = grad(f)
    close(np.vdot(gradient(x), v), (f(x + h * v) - f(x - h * v)) / (2 * h), rtol=1e-8)
    close(hvp(f)(x, v), (gradient(x + h * v) - gradient(x - h * v)) / (2 * h), rtol=1e-6, atol=1e-8)


def test_standardize_keeps_only_its_outputs():
    from autograd.table import OPS

    assert OPS["standardize"].keeps(1) == (True, False)
    x = DiffTensor(np.random.default_rng(7).normal(size=(4, 5)), requires_grad=True)
    for k in range(3):  # any one of the outputs can be differentiated alone
        x.grad = None
        ops.sum(ops.standardize(x, axes=(1,))[k]).backward()
        assert x.grad.shape == (4, 5)


def test_float16_is_standardized_without_overflow():
    x = np.array([[300.0, -300.0, 600.0, 0.0]], np.float16)
    t = DiffTensor(x, requires_grad=True)
    z, mean, var = ops.standardize(t, axes=(1,))
    assert z.dtype == np.float16
    assert mean.dtype == var.dtype == np.float32
    close(var.numpy(), [[112500.0]])  # beyond float16
    close(z.numpy(), (x - x.mean(dtype=float)) / x.astype(float).std(), rtol=2e-3)
    z.backward(np.array([[1.0, 0.0, 0.0, 0.0]], np.float16))
    assert t.grad.dtype == np.float16
    assert t.grad.any()


# ---- against the defining formulas, layer by layer ----


def test_layers_without_parameters():
    x = np.random.default_rng(8).normal(size=(2, 3, 4, 4))
    e = np.exp(x - x.max(axis=1, keepdims=True))
    for layer, expected in [
        (nn.ReLU(), np.maximum(x, 0)),
        (nn.LeakyReLU(0.2), np.where(x > 0, x, 0.2 * x)),
        (nn.ELU(0.5), np.where(x > 0, x, 0.5 * np.expm1(x))),
        (nn.Sigmoid(), 1 / (1 + np.exp(-x))),
        (nn.SiLU(), x / (1 + np.exp(-x))),
        (nn.Tanh(), np.tanh(x)),
        (nn.Softplus(2.0), np.log1p(np.exp(2 * x)) / 2),
        (nn.Softplus(), np.log1p(np.exp(x))),
        (nn.GELU("tanh"), 0.5 * x * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3)))),
        (nn.Softmax(1), e / e.sum(axis=1, keepdims=True)),
        (nn.LogSoftmax(1), np.log(e / e.sum(axis=1, keepdims=True))),
        (nn.Flatten(), x.reshape(2, 48)),
        (nn.Flatten(0, 2), x.reshape(24, 4)),
        (nn.MaxPool2d(2), x.reshape(2, 3, 2, 2, 2, 2).max(axis=(3, 5))),
        (nn.AvgPool2d(2), x.reshape(2, 3, 2, 2, 2, 2).mean(axis=(3, 5))),
    ]:
        close(layer(x), expected)
        close(layer(DiffTensor(x)).numpy(), expected)
        assert not list(layer.parameters())
    for bad in (
        lambda: nn.GELU("erf"),
        lambda: nn.Softplus(0.0),
        lambda: nn.Conv2d(3, 4, 2, groups=2),
        lambda: nn.GroupNorm(2, 3),
    ):
        with pytest.raises(ValueError):
            bad()


def test_channelwise_scaling():
    layer = nn.ChannelwiseScaling(3, dtype=np.float64)
    x = np.random.default_rng(9).normal(size=(2, 3, 4))
    close(layer(x).numpy(), x)
    layer.gamma.data, layer.beta.data = [1.0, 2.0, 3.0], [0.5, 0.0, -0.5]
    close(layer(x).numpy(), x * np.array([1.0, 2.0, 3.0])[:, None] + np.array([0.5, 0.0, -0.5])[:, None])
    ops.sum(layer(x)).backward()
    close(layer.gamma.grad, x.sum(axis=(0, 2)))
    close(layer.beta.grad, np.full(3, 8.0))
    with pytest.raises(ValueError, match=r"\(2, 4\)"):
        layer(np.ones((2, 4)))


def test_embedding_adds_up_repeated_rows():
    layer = nn.Embedding(5, 3, rng=0, dtype=np.float64)
    ids = np.array([[1, 1, 4], [0, 1, 4]])
    close(layer(ids).numpy(), layer.weight.numpy()[ids])
    ops.sum(layer(ids)).backward()
    close(layer.weight.grad, np.repeat([[1.0], [3.0], [0.0], [0.0], [2.0]], 3, axis=1))
    assert layer([1, 2]).shape == (2, 3)
    for bad, kind in ((np.array([5]), IndexError), (np.array([-1]), IndexError), (np.array([1.0]), TypeError)):
        with pytest.raises(kind, match="embedding: ids"):
            layer(bad)


def test_a_model_trains_on_another_device():
    strict = pytest.importorskip("array_api_strict")
    device = strict.Device("device1")
    model, there = network(), network()
    loss = nn.CrossEntropyLoss(label_smoothing=0.1)
    target = np.array([0, 2, 1, 1, 0])
    loss(model(IMAGES), target).backward()
    for tensor in (*there.parameters(), *there.buffers()):
        module._replace(tensor, lambda array: strict.asarray(array, device=device))  # what Module.to does
    loss(there(DiffTensor(strict.asarray(IMAGES, device=device))), strict.asarray(target, device=device)).backward()
    for (name, a), b in zip(model.named_parameters(), there.parameters(), strict=True):
        assert b.grad.device == device, name
        close(strict.asarray(b.grad, device=strict.Device("CPU_DEVICE")), a.grad, rtol=1e-8)
    assert there[1].running_mean.raw.device == device


# ---- PyTorch ----


def pair(ours, theirs, torch):
    """The two layers with one state; ours has the same names."""
    state = {k: np.random.default_rng(i).normal(size=v.shape) for i, (k, v) in enumerate(theirs.state_dict().items())}
    state = {
        k: np.abs(v) + 0.1 if k.endswith("var") else np.int64(3) if k.endswith("tracked") else v
        for k, v in state.items()
    }
    ours.load_state_dict(state)
    theirs.load_state_dict({k: torch.as_tensor(v) for k, v in state.items()})
    return ours, theirs


LAYERS = {
    "linear": (lambda m, **k: m.Linear(6, 4, **k), (3, 5, 6)),
    "linear without bias": (lambda m, **k: m.Linear(6, 4, bias=False, **k), (5, 6)),
    "conv1d": (lambda m, **k: m.Conv1d(4, 6, 3, 2, 1, 2, 2, **k), (3, 4, 9)),
    "conv2d": (lambda m, **k: m.Conv2d(4, 6, (3, 2), (2, 1), (1, 0), 1, 2, **k), (9, 4, 7, 6)),
    "conv2d same": (lambda m, **k: m.Conv2d(2, 3, (3, 5), padding="same", bias=False, **k), (2, 2, 7, 6)),
    "conv_transpose2d": (lambda m, **k: m.ConvTranspose2d(4, 6, 3, 2, 1, 1, 2, **k), (2, 4, 5, 4)),
    "batch_norm1d": (lambda m, **k: m.BatchNorm1d(4, **k), (9, 4)),
    "batch_norm1d of sequences": (lambda m, **k: m.BatchNorm1d(4, 1e-3, 0.3, **k), (3, 4, 5)),
    "batch_norm2d": (lambda m, **k: m.BatchNorm2d(4, momentum=None, **k), (9, 4, 3, 2)),
    "layer_norm": (lambda m, **k: m.LayerNorm((4, 3), **k), (5, 4, 3)),
    "group_norm": (lambda m, **k: m.GroupNorm(2, 6, **k), (3, 6, 4, 2)),
}


@pytest.mark.peers
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", LAYERS)
def test_layers_are_torchs(name, training):
    torch = pytest.importorskip("torch")
    make, shape = LAYERS[name]
    ours, theirs = pair(make(nn, dtype=np.float64), make(torch.nn, dtype=torch.float64), torch)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.train(training), theirs.train(training)
    rng = np.random.default_rng(10)
    x = rng.normal(size=shape)
    a, b = DiffTensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    y, z = ours(a), theirs(b)
    g = rng.normal(size=y.shape)
    y.backward(g)
    z.backward(torch.tensor(g))
    close(y.numpy(), z.detach())
    close(a.grad, b.grad, atol=1e-11)
    for (key, p), (_, q) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        np.testing.assert_allclose(p.grad, q.grad, rtol=1e-10, atol=1e-11, err_msg=key)
    for key, value in theirs.state_dict().items():  # running statistics
        np.testing.assert_allclose(ours.state_dict()[key], value, rtol=1e-12, err_msg=key)


ACTIVATIONS = [
    ("ReLU", {}), ("LeakyReLU", {"negative_slope": 0.2}), ("ELU", {"alpha": 0.7}), ("GELU", {}), ("GELU", {"approximate": "tanh"}),
    ("SiLU", {}), ("Sigmoid", {}), ("Tanh", {}), ("Softplus", {}), ("Softmax", {"dim": 1}), ("LogSoftmax", {"dim": 1}),
    ("AvgPool2d", {"kernel_size": 2, "stride": 1, "padding": 1}), ("MaxPool2d", {"kernel_size": 2, "stride": 1, "padding": 1}),
    ("Flatten", {"start_dim": 1, "end_dim": 2}),
]  # fmt: skip


@pytest.mark.peers
@pytest.mark.parametrize(("name", "arguments"), ACTIVATIONS)
def test_layers_without_parameters_are_torchs(name, arguments):
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(11).normal(size=(2, 3, 4, 5)) * 3
    a, b = DiffTensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    y, z = getattr(nn, name)(**arguments)(a), getattr(torch.nn, name)(**arguments)(b)
    g = np.random.default_rng(12).normal(size=y.shape)
    y.backward(g)
    z.backward(torch.tensor(g))
    close(y.numpy(), z.detach())
    close(a.grad, b.grad)
