"""Optimizers: step for step those of PyTorch, and saving, groups, schedules and errors of our own."""

import io
import math

import array_api_strict as strict
import numpy as np
import pytest

from autograd import DiffTensor, gradients, ops
from autograd.optim import SGD, Adam, AdamW, Optimizer, RMSprop, schedules
from autograd.optim import adam as adam_recipe

CASES = {
    "SGD": (SGD, {"lr": 0.1}),
    "SGD-decay": (SGD, {"lr": 0.1, "weight_decay": 0.1}),
    "SGD-momentum": (SGD, {"lr": 0.05, "momentum": 0.9}),
    "SGD-dampening": (SGD, {"lr": 0.05, "momentum": 0.9, "dampening": 0.4}),
    "SGD-dampening-alone": (SGD, {"lr": 0.05, "dampening": 0.4}),
    "SGD-nesterov": (SGD, {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    "SGD-all": (SGD, {"lr": 0.05, "momentum": 0.7, "dampening": 0.2, "weight_decay": 0.1}),
    "RMSprop": (RMSprop, {"lr": 0.01}),
    "RMSprop-alpha-eps": (RMSprop, {"lr": 0.01, "alpha": 0.8, "eps": 1e-3}),
    "RMSprop-momentum": (RMSprop, {"lr": 0.01, "momentum": 0.9}),
    "RMSprop-centered": (RMSprop, {"lr": 0.01, "centered": True}),
    "RMSprop-all": (RMSprop, {"lr": 0.01, "alpha": 0.9, "centered": True, "momentum": 0.8, "weight_decay": 0.1}),
    "Adam": (Adam, {"lr": 0.01}),
    "Adam-betas-eps": (Adam, {"lr": 0.01, "betas": (0.7, 0.95), "eps": 1e-3}),
    "Adam-amsgrad": (Adam, {"lr": 0.01, "betas": (0.9, 0.9), "amsgrad": True}),
    "Adam-decay": (Adam, {"lr": 0.01, "weight_decay": 0.1}),
    "AdamW": (AdamW, {"lr": 0.01}),
    "AdamW-no-decay": (AdamW, {"lr": 0.01, "weight_decay": 0.0}),
    "AdamW-all": (AdamW, {"lr": 0.01, "betas": (0.8, 0.9), "eps": 1e-4, "weight_decay": 0.3, "amsgrad": True}),
}
every_case = pytest.mark.parametrize("name", CASES)
SHAPES = [(3, 2), (4,), ()]


def start(dtype=np.float64):
    rng = np.random.default_rng(1)
    return [DiffTensor(rng.standard_normal(s).astype(dtype), requires_grad=True) for s in SHAPES]


def gradient(values, t, skip=False):
    """Gradients that depend on where the parameters are, with noise; with ``skip``, some parameters have none at times."""
    rng = np.random.default_rng(1000 + t)
    grads = [np.sin(v) + 0.3 * v + rng.standard_normal(np.shape(v)) for v in values]
    return [None if skip and (t + 2 * i) % 5 < 2 else g for i, g in enumerate(grads)]


def advance(optimizer, params, first, steps, skip=False):
    for t in range(first, first + steps):
        for p, g in zip(params, gradient([p.numpy() for p in params], t, skip), strict=True):
            p.grad = g if g is None else g.astype(p.dtype)
        optimizer.step()


@pytest.mark.peers
@every_case
@pytest.mark.parametrize("skip", [False, True], ids=["", "skipping"])
def test_equals_pytorch_for_100_steps(name, skip):
    torch = pytest.importorskip("torch")
    face, options = CASES[name]
    params = start()
    theirs = [torch.tensor(np.array(p.numpy()), requires_grad=True) for p in params]
    ours, peer = face(params, **options), getattr(torch.optim, face.__name__)(theirs, **options)
    for t in range(100):
        advance(ours, params, t, 1, skip)
        for p, g in zip(theirs, gradient([p.detach().numpy() for p in theirs], t, skip), strict=True):
            p.grad = g if g is None else torch.tensor(g)
        peer.step()
        for a, b in zip(params, theirs, strict=True):
            np.testing.assert_allclose(a.numpy(), b.detach().numpy(), rtol=1e-10, err_msg=f"step {t}")


@pytest.mark.peers
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (schedules.step_decay(0.5, 7, 0.3), lambda torch, o: torch.optim.lr_scheduler.StepLR(o, 7, 0.3)),
        (schedules.exponential(0.5, 0.9), lambda torch, o: torch.optim.lr_scheduler.ExponentialLR(o, 0.9)),
        (schedules.cosine(0.5, 40, 0.01), lambda torch, o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 40, 0.01)),
        (schedules.linear(0.5, 40, 0.05), lambda torch, o: torch.optim.lr_scheduler.LinearLR(o, 1.0, 0.1, 40)),
    ],
    ids=["step", "exponential", "cosine", "linear"],
)
def test_schedules_equal_pytorch(ours, theirs):
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    scheduler = theirs(torch, optimizer)
    for step in range(41):
        assert math.isclose(ours(step), optimizer.param_groups[0]["lr"], rel_tol=1e-9), step
        optimizer.step()
        scheduler.step()


def by_formula(face, o, p, grads):
    """One number under each optimizer, from the papers' recursions in Python floats."""
    m = v = mean = largest = 0.0
    for t, noise in enumerate(grads, 1):
        g = math.sin(p) + noise
        if face is not AdamW:
            g += o.get("weight_decay", 0.0) * p
        if face is SGD:
            mu = o.get("momentum", 0.0)
            m = g if t == 1 else mu * m + (1 - o.get("dampening", 0.0)) * g
            p -= o["lr"] * (g + mu * m if o.get("nesterov") else m if mu else g)
        elif face is RMSprop:
            a = o.get("alpha", 0.99)
            v, mean = a * v + (1 - a) * g * g, a * mean + (1 - a) * g
            m = o.get("momentum", 0.0) * m + g / (
                math.sqrt(v - (mean**2 if o.get("centered") else 0)) + o.get("eps", 1e-8)
            )
            p -= o["lr"] * m
        else:
            b1, b2 = o.get("betas", (0.9, 0.999))
            m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
            largest = max(largest, v)
            root = math.sqrt((largest if o.get("amsgrad") else v) / (1 - b2**t))
            decay = o.get("weight_decay", 0.01) if face is AdamW else 0.0
            p -= o["lr"] * (m / (1 - b1**t) / (root + o.get("eps", 1e-8)) + decay * p)
    return p


@every_case
def test_a_number_follows_the_formula(name):
    face, options = CASES[name]
    p = DiffTensor(1.5, requires_grad=True)
    optimizer, noise = face([p], **options), np.random.default_rng(3).standard_normal(50)
    for x in noise:
        p.grad = math.sin(p.item()) + x
        optimizer.step()
    assert math.isclose(p.item(), by_formula(face, options, 1.5, noise), rel_tol=1e-11)
    assert isinstance(p.raw, np.float64)


@every_case
def test_saving_and_loading_resumes_to_the_bit(name):
    face, options = CASES[name]
    options = {**options, "lr": schedules.warmup_cosine(options["lr"], 5, 40)}
    whole = start(np.float32)
    advance(face(whole, **options), whole, 0, 30, skip=True)

    params = start(np.float32)
    optimizer = face(params, **options)
    advance(optimizer, params, 0, 13, skip=True)
    saved, file = optimizer.state_dict(), io.BytesIO()
    np.savez(file, **saved)
    halfway = [DiffTensor(p.numpy(), requires_grad=True) for p in params]
    resumed = face(halfway, **options)
    file.seek(0)
    with np.load(file, allow_pickle=False) as arrays:
        loaded = dict(arrays)
    resumed.load_state_dict(loaded)
    advance(optimizer, params, 13, 17, skip=True)
    advance(resumed, halfway, 13, 17, skip=True)
    for a, b, c in zip(whole, halfway, params, strict=True):
        assert np.array_equal(a.numpy(), b.numpy()) and np.array_equal(a.numpy(), c.numpy())
        assert a.dtype == b.dtype == np.float32
    assert all(np.array_equal(saved[name], loaded[name]) for name in saved)  # copies: stepping on changed neither
    assert any(not np.array_equal(saved[name], x) for name, x in resumed.state_dict().items())


def test_trains_through_the_engine():
    rng = np.random.default_rng(0)
    x, truth = rng.standard_normal((50, 3)), np.array([1.0, -2.0, 0.5])
    w, b, unused = (DiffTensor(np.zeros(s), requires_grad=True) for s in ((3,), (), (2,)))
    optimizer = Adam((p for p in (w, b, unused)), lr=0.1)
    for _ in range(300):
        optimizer.zero_grad()
        assert w.grad is None
        error = ops.matmul(DiffTensor(x), w) + b - DiffTensor(x @ truth + 3)
        ops.mean(error * error).backward()
        optimizer.step()
    np.testing.assert_allclose(w.numpy(), truth, atol=1e-4)
    assert abs(b.item() - 3) < 1e-4 and unused.numpy().tolist() == [0, 0]
    assert optimizer.state[0]["t"] == [300, 300, 0]


def test_a_step_without_any_gradient_changes_nothing():
    params = start()
    optimizer = Adam(params, lr=schedules.linear(0.1, 10))
    before = optimizer.state_dict()
    optimizer.step()
    assert all(np.array_equal(before[k], v) for k, v in optimizer.state_dict().items())


def test_an_old_graph_is_stale_after_a_step():
    w = DiffTensor([1.0, 2.0], requires_grad=True)
    loss = ops.sum(w * w)
    loss.backward()
    SGD([w], lr=0.1).step()
    with pytest.raises(ValueError, match="changed in place"):
        loss.backward()


def test_parameter_groups_have_their_own_options():
    params = start()
    optimizer = SGD([{"params": params[:1], "lr": 0.5}, {"params": iter(params[1:]), "momentum": 0.9}], lr=0.1)
    alone = start()
    one, two = SGD(alone[:1], lr=0.5), SGD(alone[1:], lr=0.1, momentum=0.9)
    for t in range(3):
        advance(optimizer, params, t, 1)
        for p, g in zip(alone, gradient([p.numpy() for p in alone], t), strict=True):
            p.grad = g
        one.step()
        two.step()
    assert all(np.array_equal(a.numpy(), b.numpy()) for a, b in zip(params, alone, strict=True))
    with pytest.raises(ValueError, match=r"several learning rates, \[0.1, 0.5\]"):
        _ = optimizer.lr
    optimizer.lr = 0.25
    assert optimizer.lr == 0.25 and repr(optimizer) == "SGD(3 parameters, lr=0.25, 0.25)"
    assert {"0.0.lr", "1.0.m.1", "1.1.lr"} <= set(optimizer.state_dict())


def test_lr_can_be_set_between_steps():
    w = DiffTensor([1.0], requires_grad=True)
    optimizer = SGD([w], lr=0.1)
    for rate in (0.1, 0.4):
        optimizer.lr = rate
        w.grad = np.ones(1)
        optimizer.step()
    assert optimizer.lr == 0.4 and w.numpy()[0] == 1.0 - 0.1 - 0.4
    with pytest.raises(ValueError, match="lr must be"):
        optimizer.lr = -1
    with pytest.raises(AttributeError, match="no learning rate"):
        _ = Optimizer([w], gradients.trace(0.9)).lr


def test_any_chain_and_any_array_library():
    there = strict.Device("device1")
    w = DiffTensor(strict.asarray([3.0, 4.0], device=there), requires_grad=True)
    optimizer = Optimizer([w], gradients.chain(gradients.clip_by_global_norm(1.0), adam_recipe(0.1)))
    w.grad = strict.asarray([30.0, 40.0], device=there)
    optimizer.step()
    saved = optimizer.state_dict()
    assert saved["0.norm"] == 50.0 and isinstance(saved["1.m.0"], np.ndarray) and optimizer.lr == 0.1
    optimizer.load_state_dict(saved)
    assert w.raw.device == there == optimizer.state[1]["m"][0].device
    w.grad = strict.asarray([1.0, 1.0], device=there)
    optimizer.step()
    assert float(w.raw[0]) < 2.9


def test_schedules():
    assert [schedules.constant(0.2)(s) for s in (0, 9)] == [0.2, 0.2]
    rise = schedules.warmup(4, schedules.step_decay(1.0, 2, 0.5))
    assert [rise(s) for s in range(9)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 0.5, 0.5, 0.25]
    for make in (schedules.warmup_cosine, schedules.warmup_linear):
        rate = make(1.0, 10, 110, end=0.1)
        assert rate(0) == 0.1 and rate(9) == rate(10) == 1.0
        assert math.isclose(rate(60), 0.55) and rate(110) == 0.1 == rate(1000)
        assert all(rate(s) >= rate(s + 1) for s in range(10, 120))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda w: SGD([], lr=0.1), ValueError, "params is empty"),
        (lambda w: Adam(iter(()), lr=0.1), ValueError, "params is empty"),
        (lambda w: SGD(w, lr=0.1), TypeError, r"write \[parameter\]"),
        (lambda w: SGD([w, np.ones(2)], lr=0.1), TypeError, r"params\[1\] is ndarray"),
        (lambda w: SGD([w * 2], lr=0.1), ValueError, "only leaves"),
        (lambda w: SGD([w, w], lr=0.1), ValueError, "same parameter twice"),
        (lambda w: SGD([{"params": [w]}, {"params": [w]}]), ValueError, "same parameter twice"),
        (lambda w: SGD([DiffTensor.symbol((2,))], lr=0.1), ValueError, "symbolic"),
        (lambda w: SGD([DiffTensor([1, 2])], lr=0.1), TypeError, "not on int64"),
        (lambda w: SGD([w], lr=-0.1), ValueError, r"lr must be in \[0, inf\), not -0.1"),
        (lambda w: AdamW([w], betas=(0.9, 1.0)), ValueError, "b2 must be"),
        (lambda w: RMSprop([w], weight_decay=-1), ValueError, "weight_decay must be"),
        (lambda w: SGD([w], nesterov=True), ValueError, "nesterov needs momentum"),
        (
            lambda w: SGD([{"params": [w], "learning_rate": 1}]),
            ValueError,
            "unknown option 'learning_rate'.* lr, momentum",
        ),
        (lambda w: SGD([w, {"params": [w]}]), TypeError, r"params\[0\]: with parameter groups"),
        (lambda w: Optimizer([w], 0.1), TypeError, "init and update"),
        (lambda w: schedules.cosine(0.1, 0), ValueError, "steps must be a whole number"),
        (lambda w: schedules.warmup_cosine(0.1, 10, 10), ValueError, "above warmup"),
    ],
)
def test_bad_arguments_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make(DiffTensor([1.0, 2.0], requires_grad=True))


def test_a_state_that_does_not_fit_is_refused_and_changes_nothing():
    params = start()
    optimizer = Adam(params, lr=0.1)
    advance(optimizer, params, 0, 2)
    good = optimizer.state_dict()
    for change, error, message in [
        ({"9.x": 1.0}, KeyError, "unknown entry '9.x'"),
        ({"0.m.0": np.zeros((2, 3))}, ValueError, r"'0.m.0' has shape \(3, 2\) here, but \(2, 3\)"),
        ({"0.m.0": np.zeros((3, 2), np.float32)}, ValueError, "'0.m.0' is float64 here, but float32"),
        ({"1.lr": np.zeros(2)}, ValueError, "'1.lr' is a number here"),
    ]:
        with pytest.raises(error, match=message):
            optimizer.load_state_dict({**good, **change})
    with pytest.raises(KeyError, match=r"lacks '0\.v\.1'"):
        optimizer.load_state_dict({k: v for k, v in good.items() if k != "0.v.1"})
    assert all(np.array_equal(v, good[k]) for k, v in optimizer.state_dict().items())


@pytest.mark.parametrize("make", [lambda p: SGD(p, lr=0.1), lambda p: AdamW(p, lr=0.1)])
def test_a_large_parameter_is_stepped_in_place_and_its_old_graphs_are_refused(make):
    p = DiffTensor(np.ones((300, 200), np.float32), requires_grad=True)  # larger than a tile
    memory = p.raw
    loss = (p * p).sum()
    loss.backward()
    optimizer = make([p])
    optimizer.step()
    assert p.raw is memory and (p.numpy() < 1).all()
    with pytest.raises(ValueError, match="changed in place"):
        loss.backward()
