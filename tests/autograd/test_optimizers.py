"""The methods by element: each against its paper's formula written here, against its public implementation, and its face."""

import inspect
import math
import types

import numpy as np
import pytest
from test_optim import advance, gradient

from autograd import DiffTensor, optim
from autograd import gradients as gt
from autograd.optim import Optimizer, modern, recipes, schedules, second_order

SHAPES = [(3, 2), (4,), (), (2, 3, 2, 2)]
STEPS = 60


# ---- the formulas: (parameter, gradient, what is remembered, t-th update of this parameter, k-th of all, options) -> parameter ----


def sgd(p, g, s, t, k, lr, momentum, nesterov=False, weight_decay=0.0):
    g = g + weight_decay * p
    s["m"] = momentum * s.get("m", 0) + g
    return p - lr * (g + momentum * s["m"] if nesterov else s["m"])


def adam_moments(g, s, b1, b2):
    s["m"] = b1 * s.get("m", 0) + (1 - b1) * g
    s["v"] = b2 * s.get("v", 0) + (1 - b2) * g**2


def nadam(
    p, g, s, t, k, lr, betas=(0.9, 0.999), eps=1e-8, momentum_decay=4e-3, weight_decay=0.0, decoupled_weight_decay=False
):
    if decoupled_weight_decay:
        p = p - lr * weight_decay * p
    else:
        g = g + weight_decay * p
    adam_moments(g, s, *betas)
    mu = lambda i: betas[0] * (1 - 0.96 ** (i * momentum_decay) / 2)
    product = math.prod(mu(i) for i in range(1, t + 1))
    mean = mu(t + 1) * s["m"] / (1 - product * mu(t + 1)) + (1 - mu(t)) * g / (1 - product)
    return p - lr * mean / (np.sqrt(s["v"] / (1 - betas[1] ** t)) + eps)


def radam(p, g, s, t, k, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, decoupled_weight_decay=False):
    if decoupled_weight_decay:
        p = p - lr * weight_decay * p
    else:
        g = g + weight_decay * p
    adam_moments(g, s, *betas)
    m, last = s["m"] / (1 - betas[0] ** t), 2 / (1 - betas[1]) - 1
    rho = last - 2 * t * betas[1] ** t / (1 - betas[1] ** t)
    if rho <= 5:
        return p - lr * m
    r = np.sqrt((rho - 4) * (rho - 2) * last / ((last - 4) * (last - 2) * rho))
    return p - lr * m * r * np.sqrt(1 - betas[1] ** t) / (np.sqrt(s["v"]) + eps)


def adamax(p, g, s, t, k, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
    g = g + weight_decay * p
    s["m"] = betas[0] * s.get("m", 0) + (1 - betas[0]) * g
    s["w"] = np.maximum(betas[1] * s.get("w", 0), np.abs(g) + eps)
    return p - lr / (1 - betas[0] ** t) * s["m"] / s["w"]


def adagrad(p, g, s, t, k, lr, lr_decay=0.0, weight_decay=0.0, initial_accumulator_value=0.0, eps=1e-10):
    g = g + weight_decay * p
    s["sum"] = s.get("sum", initial_accumulator_value) + g**2
    return p - lr / (1 + (t - 1) * lr_decay) * g / (np.sqrt(s["sum"]) + eps)


def adadelta(p, g, s, t, k, lr, rho=0.9, eps=1e-6, weight_decay=0.0):
    g = g + weight_decay * p
    s["v"] = rho * s.get("v", 0) + (1 - rho) * g**2
    u = np.sqrt(s.get("d", 0) + eps) / np.sqrt(s["v"] + eps) * g
    s["d"] = rho * s.get("d", 0) + (1 - rho) * u**2
    return p - lr * u


def lion(p, g, s, t, k, lr, betas=(0.9, 0.99), weight_decay=0.0):
    m = s.get("m", 0)
    s["m"] = betas[1] * m + (1 - betas[1]) * g
    return p - lr * (np.sign(betas[0] * m + (1 - betas[0]) * g) + weight_decay * p)


def ademamix(p, g, s, t, k, lr, betas=(0.9, 0.999, 0.9999), alpha=5.0, eps=1e-8, weight_decay=0.0, warmup=None):
    b1, b2, b3 = betas
    if warmup is not None:
        half = lambda b: math.log(0.5) / math.log(b)  # the half-life grows linearly: appendix A.1
        x = min(t / warmup, 1)
        b3 = 0.5 ** (1 / ((1 - x) * half(b1) + x * half(b3)))
        alpha *= x
    adam_moments(g, s, b1, b2)
    s["n"] = b3 * s.get("n", 0) + (1 - b3) * g
    u = (s["m"] / (1 - b1**t) + alpha * s["n"]) / (np.sqrt(s["v"] / (1 - b2**t)) + eps)
    return p - lr * (u + weight_decay * p)


def lookahead(p, g, s, t, k, every, alpha, **options):
    slow, fast = s.setdefault("slow", p), sgd(p, g, s, t, k, **options)
    if t % every == 0:
        s["slow"] = fast = slow + alpha * (fast - slow)
    return fast


def schedule_free(p, d, s, t, k, lr, beta, warmup_steps=0, r=0.0, weight_lr_power=2.0):
    """Algorithm 1 with x and z; y, where gradients are taken, is the parameter."""
    rates = [lr * min(1, i / warmup_steps) if warmup_steps else lr for i in range(1, k + 1)]
    weights = [i**r * max(rates[:i]) ** weight_lr_power for i in range(1, k + 1)]
    c = weights[-1] / sum(weights)
    z, x = s.get("z", p), s.get("x", p)
    s["z"] = z - rates[-1] * d
    s["x"] = (1 - c) * x + c * s["z"]
    return (1 - beta) * s["z"] + beta * s["x"]


def schedule_free_sgd(p, g, s, t, k, lr, momentum=0.9, weight_decay=0.0, **options):
    return schedule_free(p, g + weight_decay * p, s, t, k, lr, momentum, **options)


def schedule_free_adamw(p, g, s, t, k, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, **options):
    s["v"] = betas[1] * s.get("v", 0) + (1 - betas[1]) * g**2
    d = g / (np.sqrt(s["v"] / (1 - betas[1] ** t)) + eps) + weight_decay * p
    return schedule_free(p, d, s, t, k, lr, betas[0], **options)


def wrapped(k, alpha, **options):
    return optim.lookahead(optim.sgd(**options), k, alpha)


CASES = {
    "heavy-ball": (optim.sgd, sgd, {"lr": 0.02, "momentum": 0.9, "weight_decay": 0.1}),
    "nesterov": (optim.sgd, sgd, {"lr": 0.02, "momentum": 0.9, "nesterov": True}),
    "NAdam": (optim.nadam, nadam, {"lr": 0.01}),
    "NAdam-L2": (optim.nadam, nadam, {"lr": 0.01, "betas": (0.8, 0.9), "weight_decay": 0.1, "momentum_decay": 0.1}),
    "NAdam-decoupled": (optim.nadam, nadam, {"lr": 0.01, "eps": 1e-3, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    "RAdam": (optim.radam, radam, {"lr": 0.01}),
    "RAdam-L2": (optim.radam, radam, {"lr": 0.01, "betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.1}),
    "RAdam-decoupled": (optim.radam, radam, {"lr": 0.01, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    "Adamax": (optim.adamax, adamax, {"lr": 0.01}),
    "Adamax-all": (optim.adamax, adamax, {"lr": 0.01, "betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.1}),
    "Adagrad": (optim.adagrad, adagrad, {"lr": 0.1}),
    "Adagrad-all": (
        optim.adagrad,
        adagrad,
        {"lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.5, "eps": 1e-3},
    ),
    "Adadelta": (optim.adadelta, adadelta, {"lr": 1.0}),
    "Adadelta-all": (optim.adadelta, adadelta, {"lr": 0.5, "rho": 0.8, "eps": 1e-3, "weight_decay": 0.1}),
    "Lion": (optim.lion, lion, {"lr": 0.01}),
    "Lion-decay": (optim.lion, lion, {"lr": 0.01, "betas": (0.8, 0.9), "weight_decay": 0.1}),
    "AdEMAMix": (optim.ademamix, ademamix, {"lr": 0.01}),
    "AdEMAMix-warmup": (
        optim.ademamix,
        ademamix,
        {"lr": 0.01, "betas": (0.8, 0.9, 0.99), "alpha": 3.0, "eps": 1e-3, "weight_decay": 0.1, "warmup": 40},
    ),
    "Lookahead": (wrapped, lookahead, {"k": 5, "alpha": 0.4, "lr": 0.02, "momentum": 0.9}),
    "ScheduleFreeSGD": (optim.schedule_free_sgd, schedule_free_sgd, {"lr": 0.1}),
    "ScheduleFreeSGD-all": (
        optim.schedule_free_sgd,
        schedule_free_sgd,
        {"lr": 0.1, "momentum": 0.7, "weight_decay": 0.1, "warmup_steps": 10, "r": 1.0, "weight_lr_power": 1.0},
    ),
    "ScheduleFreeAdamW": (optim.schedule_free_adamw, schedule_free_adamw, {"lr": 0.01}),
    "ScheduleFreeAdamW-all": (
        optim.schedule_free_adamw,
        schedule_free_adamw,
        {"lr": 0.01, "betas": (0.95, 0.9), "eps": 1e-3, "weight_decay": 0.1, "warmup_steps": 10, "r": 0.5},
    ),
}  # fmt: skip
every_case = pytest.mark.parametrize("name", CASES)
skipping = pytest.mark.parametrize("skip", [False, True], ids=["", "skipping"])


def start(dtype=np.float64, shapes=SHAPES):
    rng = np.random.default_rng(1)
    return [DiffTensor(rng.standard_normal(s).astype(dtype), requires_grad=True) for s in shapes]


@every_case
@skipping
def test_follows_the_formula(name, skip):
    recipe, formula, options = CASES[name]
    params = start()
    optimizer = Optimizer(params, recipe(**options))
    said = {("every" if formula is lookahead and key == "k" else key): value for key, value in options.items()}
    values = [np.array(p.numpy()) for p in params]
    memory, counts = [{} for _ in params], [0] * len(params)
    for k in range(STEPS):
        advance(optimizer, params, k, 1, skip)
        for i, g in enumerate(gradient(values, k, skip)):
            if g is not None:
                counts[i] += 1
                values[i] = formula(values[i], g, memory[i], counts[i], k + 1, **said)
        for ours, theirs in zip(params, values, strict=True):
            np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-10, atol=1e-12, err_msg=f"step {k}")


# ---- public implementations ----

TORCH = [name for name in CASES if name.startswith(("NAdam", "RAdam", "Ada"))]


def follow(ours, params, peer, theirs, skip, steps=STEPS, rtol=1e-10, each=lambda t: None):
    """Step both on the same gradients and compare."""
    import torch

    for t in range(steps):
        advance(ours, params, t, 1, skip)
        for p, g in zip(theirs, gradient([p.detach().numpy() for p in theirs], t, skip), strict=True):
            p.grad = g if g is None else torch.tensor(g)
        peer.step()
        each(t)
        for a, b in zip(params, theirs, strict=True):
            np.testing.assert_allclose(a.numpy(), b.detach().numpy(), rtol=rtol, atol=1e-13, err_msg=f"step {t}")


def copies(torch, params):
    return [torch.tensor(np.array(p.numpy()), requires_grad=True) for p in params]


@pytest.mark.peers
@pytest.mark.parametrize("name", TORCH)
@skipping
def test_equals_pytorch(name, skip, double):
    recipe, _, options = CASES[name]
    params = start()
    theirs = copies(double, params)
    peer = getattr(double.optim, name.partition("-")[0])(theirs, **options)
    follow(Optimizer(params, recipe(**options)), params, peer, theirs, skip)


@pytest.mark.peers
@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("ScheduleFree")])
def test_equals_schedulefree(name, double):
    theirs_too = pytest.importorskip("schedulefree")
    recipe, _, options = CASES[name]
    params = start()
    theirs = copies(double, params)
    face = {"ScheduleFreeSGD": "SGDScheduleFree", "ScheduleFreeAdamW": "AdamWScheduleFree"}[name.partition("-")[0]]
    peer = getattr(theirs_too, face)(theirs, **options)
    peer.train()
    ours = Optimizer(params, recipe(**options))

    def each(t):
        if t % 7 == 3:
            peer.eval()
            with ours.evaluation():
                for a, b in zip(params, theirs, strict=True):
                    np.testing.assert_allclose(a.numpy(), b.detach().numpy(), rtol=1e-10, atol=1e-13)
            peer.train()

    follow(ours, params, peer, theirs, False, each=each)


@pytest.mark.peers
@pytest.mark.parametrize("name", ["Lion", "Lion-decay", "AdEMAMix", "AdEMAMix-warmup"])
def test_equals_pytorch_optimizer(name, double):
    theirs_too = pytest.importorskip("pytorch_optimizer")
    recipe, _, options = CASES[name]
    params = start()
    theirs = copies(double, params)
    extra = {"weight_decouple": True}
    if name == "AdEMAMix-warmup":
        extra["t_alpha_beta3"] = options["warmup"]
    said = {key: value for key, value in options.items() if key != "warmup"}
    peer = getattr(theirs_too, name.partition("-")[0])(theirs, **said, **extra)
    follow(Optimizer(params, recipe(**options)), params, peer, theirs, False)


@pytest.mark.peers
def test_lookahead_equals_pytorch_optimizer(double):
    theirs_too = pytest.importorskip("pytorch_optimizer")
    params = start()
    theirs = copies(double, params)
    peer = theirs_too.Lookahead(double.optim.Adam(theirs, lr=0.01), k=4, alpha=0.3)
    follow(optim.Lookahead(params, optim.adam(0.01), k=4, alpha=0.3), params, peer, theirs, False)


# ---- the parameters to judge a model by ----


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_evaluation_puts_the_average_in_place_for_a_while(dtype):
    params = start(dtype)
    optimizer = optim.ScheduleFreeAdamW(params, lr=0.05)
    average = [p.numpy().astype(np.float64) for p in params]
    for t in range(20):
        advance(optimizer, params, t, 1)
        z = optimizer.state[-1]["z"]
        average = [x + (np.asarray(b) - x) / (t + 1) for x, b in zip(average, z, strict=True)]
    before = [p.numpy().copy() for p in params]
    loss = (params[0] * params[0]).sum()
    with optimizer.evaluation():
        for p, x in zip(params, average, strict=True):
            np.testing.assert_allclose(p.numpy(), x, rtol=2e-4 if dtype is np.float32 else 1e-12)
            assert p.dtype == dtype and p.raw.dtype == dtype
        with optimizer.evaluation():  # one in another changes nothing
            np.testing.assert_allclose(params[0].numpy(), average[0], rtol=2e-4)
        with pytest.raises(RuntimeError, match="evaluation"):
            advance(optimizer, params, 99, 1)
        with pytest.raises(ValueError, match="changed in place"):
            loss.backward()
    assert all(np.array_equal(a, p.numpy()) for a, p in zip(before, params, strict=True))
    with pytest.raises(KeyError), optimizer.evaluation():
        raise KeyError
    assert all(np.array_equal(a, p.numpy()) for a, p in zip(before, params, strict=True))
    advance(optimizer, params, 20, 1)


def test_evaluation_of_lookahead_in_groups_and_of_others():
    params = start()
    groups = [{"params": params[:2], "k": 3}, {"params": params[2:], "k": 100}]
    optimizer = optim.Lookahead(groups, optim.sgd(0.1))
    first = [p.numpy().copy() for p in params]
    advance(optimizer, params, 0, 3)
    at_three = params[0].numpy().copy()
    advance(optimizer, params, 3, 2)
    with optimizer.evaluation():
        assert np.array_equal(params[0].numpy(), at_three) or np.allclose(params[0].numpy(), at_three, rtol=1e-15)
        assert not np.allclose(params[0].numpy(), first[0])
        assert np.array_equal(params[3].numpy(), first[3]) and params[2].item() == first[2]
    assert not np.allclose(params[0].numpy(), at_three)
    plain = optim.Adam(params)
    raws = [p.raw for p in params]
    with plain.evaluation():
        assert all(p.raw is raw for p, raw in zip(params, raws, strict=True))


def test_evaluation_params_of_a_tree():
    rule = optim.lookahead(optim.sgd(0.5), k=10)
    params = {"w": np.ones(2), "none": None}
    state = rule.init(params)
    updates, state = rule.update({"w": np.ones(2), "none": None}, state, params)
    moved = gt.apply_updates(params, updates)
    assert moved["w"].tolist() == [0.5, 0.5]
    judged = gt.evaluation_params(rule, state, moved)
    assert judged["w"].tolist() == [1.0, 1.0] and judged["none"] is None
    plain = optim.sgd(0.1)
    assert gt.evaluation_params(plain, plain.init(moved), moved)["w"] is moved["w"]


# ---- faces ----

FACES = {
    name: face for name, face in vars(optim).items() if inspect.isclass(face) and issubclass(face, Optimizer) and face not in (Optimizer, optim.LBFGS)
}  # fmt: skip
RECIPES = {
    name: recipe
    for module in (recipes, modern, second_order)
    for name, recipe in vars(module).items()
    if isinstance(recipe, types.FunctionType) and recipe.__module__ == module.__name__ and name in optim.__all__
}
LETTERS = {name.replace("_", ""): name for name in RECIPES}


def test_every_recipe_has_a_face():
    assert {LETTERS[name.lower()] for name in FACES} == set(RECIPES) - {"lbfgs"}
    assert len(FACES) == 17 and set(FACES) <= set(optim.__all__)


@pytest.mark.parametrize("name", FACES)
def test_a_face_has_the_signature_of_its_recipe(name):
    face, recipe = FACES[name], RECIPES[LETTERS[name.lower()]]
    signature = inspect.signature(face)
    assert next(iter(signature.parameters)) == "params"
    assert list(signature.parameters.values())[1:] == list(inspect.signature(recipe).parameters.values())
    assert face.__doc__ and face.__init__.__doc__ == recipe.__doc__ and recipe.__name__ in face.__doc__
    first = list(signature.parameters)[1]
    assert first == ("transform" if name == "Lookahead" else "lr")


@pytest.mark.parametrize("name", FACES)
def test_a_face_steps_as_its_recipe_and_resumes_to_the_bit(name):
    face, recipe = FACES[name], RECIPES[LETTERS[name.lower()]]
    options = (
        {"transform": optim.adamw(0.01)}
        if name == "Lookahead"
        else {"lr": schedules.warmup(3, schedules.constant(0.01))}
    )
    one, other = start(np.float32), start(np.float32)
    a, b = face(one, **options), Optimizer(other, recipe(**options))
    advance(a, one, 0, 8, skip=True)
    advance(b, other, 0, 5, skip=True)
    half = [DiffTensor(p.numpy(), requires_grad=True) for p in other]
    resumed = face(half, **options)
    resumed.load_state_dict(b.state_dict())
    advance(resumed, half, 5, 3, skip=True)
    advance(b, other, 5, 3, skip=True)
    for p, q, r in zip(one, other, half, strict=True):
        assert np.array_equal(p.numpy(), q.numpy()) and np.array_equal(p.numpy(), r.numpy())
        assert p.dtype == np.float32 and np.isfinite(p.numpy()).all()
    assert repr(a).startswith(f"{name}(4 parameters")


@pytest.mark.parametrize("name", FACES)
def test_a_face_trains(name):
    """A convex problem that every method must nearly solve with its best rate out of three."""
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((30, 4)), rng.standard_normal((30, 3))
    best = np.linalg.lstsq(a, b, rcond=None)[0]
    floor, zero = ((a @ best - b) ** 2).mean(), (b**2).mean()
    losses = []
    for lr in (3.0, 0.1, 0.02):
        w = DiffTensor(np.zeros((4, 3)), requires_grad=True)
        options = {"transform": optim.adam(lr)} if name == "Lookahead" else {"lr": lr}
        optimizer = FACES[name]([w], **options)
        if not name.startswith("Schedule") and name != "Lookahead":
            optimizer = FACES[name]([w], lr=schedules.cosine(lr, 200))
        for _ in range(200):
            optimizer.zero_grad()
            w.grad = 2 * a.T @ (a @ w.numpy() - b) / b.size
            optimizer.step()
        with optimizer.evaluation():
            losses.append(((a @ w.numpy() - b) ** 2).mean())
    assert min(losses) - floor < 0.02 * (zero - floor), losses


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda p: optim.Lion(p, betas=(0.9, 1.0)), ValueError, r"b2 must be in \[0, 1\)"),
        (
            lambda p: optim.Lion(p, momentum=0.9),
            TypeError,
            "Lion: .*'momentum'; its options are lr, betas, weight_decay",
        ),
        (lambda p: optim.Lookahead(p), TypeError, "Lookahead: .*'transform'"),
        (lambda p: optim.Lookahead(p, 0.1), TypeError, "init and update"),
        (lambda p: optim.Lookahead(p, optim.sgd(0.1), k=0), ValueError, "k must be a whole number, at least 1, not 0"),
        (lambda p: optim.Lookahead(p, optim.sgd(0.1), alpha=1.5), ValueError, "alpha must be"),
        (lambda p: optim.ScheduleFreeSGD(p, momentum=0.0), ValueError, r"momentum must be in \(0, 1\)"),
        (lambda p: optim.ScheduleFreeAdamW(p, warmup_steps=1.5), ValueError, "warmup_steps must be a whole number"),
        (lambda p: optim.AdEMAMix(p, betas=(0.0, 0.9, 0.99), warmup=10), ValueError, "raises b3 from b1"),
        (lambda p: optim.Adadelta(p, rho=1.2), ValueError, "decay must be"),
        (lambda p: gt.scale_by_rms(centered=True, corrected=True), ValueError, "choose one"),
        (lambda p: optim.Adagrad([{"params": p, "decay": 1.0}]), ValueError, "unknown option 'decay'.*lr_decay"),
    ],
)
def test_bad_arguments_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make(start())


def test_partition_by_a_function_of_the_parameter():
    rule = gt.partition({"wide": gt.scale(2.0), "other": gt.scale(3.0)}, lambda p: "wide" if p.ndim > 1 else "other")
    params = {"a": np.ones((2, 2)), "b": np.ones(2), "none": None}
    updates, _ = rule.update(params, rule.init(params), params)
    assert updates["a"][0, 0] == 2.0 and updates["b"][0] == 3.0 and updates["none"] is None
    with pytest.raises(ValueError, match="no transform for the label 'x'"):
        gt.partition({"a": gt.scale(1.0)}, lambda p: "x").init(params)
