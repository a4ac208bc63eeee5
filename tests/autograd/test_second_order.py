"""Muon, Shampoo, SOAP and L-BFGS: each against its paper's formula written here, and against public implementations."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from test_optim import advance, gradient
from test_optimizers import STEPS, copies, follow, start

from autograd import DiffTensor, ops, optim
from autograd import gradients as gt
from autograd.optim import LBFGS, Optimizer
from autograd.optim.line_search import Point, strong_wolfe

# ---- the formulas, as in test_optimizers ----


def newton_schulz(m, steps):
    """The polynomial on the singular values, which is what the iteration does to a matrix."""
    u, s, vt = np.linalg.svd(m, full_matrices=False)
    s = s / math.sqrt((s**2).sum())
    for _ in range(steps):
        s = 3.4445 * s - 4.775 * s**3 + 2.0315 * s**5
    return u @ np.diag(s) @ vt


def muon(p, g, s, t, lr, momentum=0.95, nesterov=True, weight_decay=0.1, ns_steps=5, adjust="match_rms_adamw", betas=(0.9, 0.95), adamw_lr=None, eps=1e-8):  # fmt: skip
    if p.ndim < 2:
        s["m"] = betas[0] * s.get("m", 0) + (1 - betas[0]) * g
        s["v"] = betas[1] * s.get("v", 0) + (1 - betas[1]) * g**2
        rate = lr if adamw_lr is None else adamw_lr
        u = s["m"] / (1 - betas[0] ** t) / (np.sqrt(s["v"] / (1 - betas[1] ** t)) + eps)
        return p - rate * (u + weight_decay * p)
    s["m"] = momentum * s.get("m", 0) + (1 - momentum) * g
    matrix = ((1 - momentum) * g + momentum * s["m"] if nesterov else s["m"]).reshape(len(g), -1)
    rows, columns = matrix.shape
    factor = {"original": math.sqrt(max(1, rows / columns)), None: 1.0}.get(adjust, 0.2 * math.sqrt(max(rows, columns)))
    return p * (1 - lr * weight_decay) - lr * factor * newton_schulz(matrix, ns_steps).reshape(p.shape)


def unfold(g, i):
    return np.moveaxis(g, i, 0).reshape(g.shape[i], -1)


def multiplied(g, i, matrix):
    """``matrix`` times g along axis i."""
    letters = "abcd"[: g.ndim]
    return np.einsum(f"z{letters[i]},{letters}->{letters.replace(letters[i], 'z')}", matrix, g)


def shampoo_direction(g, s, t, decay=1.0, eps=1e-4, every=1, max_size=1024):
    shape, g = g.shape, np.atleast_1d(g)
    axes = [i for i, n in enumerate(g.shape) if n <= max_size]
    for i in axes:
        fresh = unfold(g, i) @ unfold(g, i).T
        s[i] = s.get(i, 0) + fresh if decay == 1 else decay * s.get(i, 0) + (1 - decay) * fresh
    for i in axes:
        if (t - 1) % every == 0:
            values, vectors = np.linalg.eigh(s[i] / (1 if decay == 1 else 1 - decay**t))
            s["root", i] = vectors @ np.diag((np.abs(values) + eps) ** (-1 / (2 * len(axes)))) @ vectors.T
        g = multiplied(g, i, s["root", i])
    return g.reshape(shape)


def shampoo(p, g, s, t, lr, momentum=0.9, decay=0.99, eps=1e-12, weight_decay=0.0, every=10, max_size=1024, graft=True):
    u = shampoo_direction(g, s, t, decay, eps, every, max_size)
    if graft:
        s["v"] = decay * s.get("v", 0) + (1 - decay) * g**2
        u = u * np.linalg.norm(g / (np.sqrt(s["v"] / (1 - decay**t)) + 1e-8)) / np.linalg.norm(u)
    s["m"] = u if t == 1 else momentum * s["m"] + (1 - momentum) * u
    return p - lr * (s["m"] + weight_decay * p)


def soap(p, g, s, t, lr, betas=(0.95, 0.95), shampoo_beta=None, eps=1e-8, weight_decay=0.01, every=10, max_size=10000, vectors=False):  # fmt: skip
    """Algorithm 3, with the authors' first step; bases as matrices that are multiplied from the left."""
    beta = betas[1] if shampoo_beta is None else shampoo_beta
    axes = [i for i, n in enumerate(g.shape) if n <= max_size and (g.ndim > 1 or vectors)]

    def statistics():
        for i in axes:
            s["s", i] = beta * s.get(("s", i), 0) + (1 - beta) * unfold(g, i) @ unfold(g, i).T

    def turned(x, back=False):
        for i in axes:
            x = multiplied(x, i, s["q", i] if back else s["q", i].T)
        return x

    if t == 1:
        statistics()
        for i in axes:
            s["q", i] = np.linalg.eigh(s["s", i])[1][:, ::-1]
        return p - lr * weight_decay * p
    k = t - 1
    s["m"] = betas[0] * s.get("m", 0) + (1 - betas[0]) * g
    s["v"] = betas[1] * s.get("v", 0) + (1 - betas[1]) * turned(g) ** 2
    u = turned(turned(s["m"]) / (np.sqrt(s["v"]) + eps), back=True)
    u = u * np.sqrt(1 - betas[1] ** k) / (1 - betas[0] ** k)
    p = p - lr * (u + weight_decay * p)
    statistics()
    if k % every == 0:
        for i in axes:
            order = np.argsort(-np.diag(s["q", i].T @ s["s", i] @ s["q", i]))
            s["v"] = np.take(s["v"], order, i)
            s["q", i] = np.linalg.qr((s["s", i] @ s["q", i])[:, order])[0]
    return p


PAPER = {"momentum": 0.0, "decay": 1.0, "eps": 1e-4, "every": 1, "graft": False}
CASES = {
    "Muon": (optim.muon, muon, {"lr": 0.02}),
    "Muon-original": (optim.muon, muon, {"lr": 0.02, "adjust": "original", "weight_decay": 0.0, "adamw_lr": 0.003}),
    "Muon-plain": (optim.muon, muon, {"lr": 0.02, "nesterov": False, "momentum": 0.8, "ns_steps": 3, "adjust": None}),
    "Shampoo-paper": (optim.shampoo, shampoo, {"lr": 0.05, **PAPER}),
    "Shampoo": (optim.shampoo, shampoo, {"lr": 0.02, "weight_decay": 0.1, "eps": 1e-6}),
    "Shampoo-one-sided": (optim.shampoo, shampoo, {"lr": 0.02, "max_size": 2, "eps": 1e-6, "every": 3}),
    "SOAP": (optim.soap, soap, {"lr": 0.02}),
    "SOAP-vectors": (optim.soap, soap, {"lr": 0.02, "shampoo_beta": 0.8, "weight_decay": 0.1, "every": 4, "max_size": 3, "vectors": True}),
}  # fmt: skip
every_case = pytest.mark.parametrize("name", CASES)
# Bases are arbitrary where a statistic has several zero eigenvalues, as that of a vector has at first: none here has more than one.
SHAPES = [(3, 2), (4,), (), (2, 3, 2, 2), (2, 3)]


@every_case
@pytest.mark.parametrize("skip", [False, True], ids=["", "skipping"])
def test_follows_the_formula(name, skip):
    recipe, formula, options = CASES[name]
    params = start(shapes=[s for s in SHAPES if len(s) != 1] if name == "SOAP-vectors" else SHAPES)
    optimizer = Optimizer(params, recipe(**options))
    values, memory, counts = [np.array(p.numpy()) for p in params], [{} for _ in params], [0] * len(params)
    for k in range(STEPS):
        advance(optimizer, params, k, 1, skip)
        for i, g in enumerate(gradient(values, k, skip)):
            if g is not None:
                counts[i] += 1
                values[i] = formula(values[i], g, memory[i], counts[i], **options)
        for ours, theirs in zip(params, values, strict=True):
            np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-9, atol=1e-10, err_msg=f"step {k}")
    assert max(memory[0].get("v", np.ones(1)).ravel()) > 0


# ---- public implementations ----


@pytest.mark.peers
@pytest.mark.parametrize("adjust", ["original", "match_rms_adamw"])
def test_muon_equals_pytorch(adjust, double, monkeypatch):
    monkeypatch.setattr(double.Tensor, "bfloat16", double.Tensor.double)  # theirs iterates in 16 bits
    params = start(shapes=[(3, 2), (2, 5), (4, 4)])
    theirs = copies(double, params)
    peer = double.optim.Muon(theirs, lr=0.02, weight_decay=0.1, adjust_lr_fn=adjust)
    follow(optim.Muon(params, lr=0.02, adjust=adjust), params, peer, theirs, True, rtol=1e-9)


@pytest.mark.peers
def test_shampoo_equals_pytorch_optimizer(double):
    theirs_too = pytest.importorskip("pytorch_optimizer")
    params = start(shapes=[(3, 2), (4,), (2, 5)])
    theirs = copies(double, params)
    peer = theirs_too.Shampoo(theirs, lr=0.05, matrix_eps=1e-4)
    follow(optim.Shampoo(params, lr=0.05, **PAPER), params, peer, theirs, False, rtol=1e-7)


@pytest.mark.peers
def test_soap_equals_pytorch_optimizer(double, monkeypatch):
    theirs_too = pytest.importorskip("pytorch_optimizer")
    from pytorch_optimizer.optimizer import soap as module

    params = start(shapes=[(3, 2), (4,), (), (2, 3, 2, 2)])
    theirs = copies(double, params)
    peer = theirs_too.SOAP(theirs, lr=0.02, weight_decay=0.0, precondition_frequency=3)
    names = {name: getattr(double, name) for name in dir(double)} | {
        "float32": double.float64
    }  # theirs has QR in float32
    monkeypatch.setattr(module, "torch", SimpleNamespace(**names))
    follow(optim.SOAP(params, lr=0.02, weight_decay=0.0, every=3), params, peer, theirs, False, rtol=1e-8)


# ---- what the formulas do not say ----


def test_orthogonalize_brings_singular_values_near_one():
    g = np.random.default_rng(0).standard_normal((20, 8)) @ np.diag(np.logspace(0, -1.5, 8))
    for matrix in (g, g.T, g.astype(np.float32)):
        rule = gt.orthogonalize()
        (u,), _ = rule.update([matrix], rule.init([matrix]), [matrix])
        values = np.linalg.svd(u, compute_uv=False)
        assert values.min() > 0.6 and values.max() < 1.25 and u.dtype == matrix.dtype and u.shape == matrix.shape
        overlap = np.linalg.svd(matrix, full_matrices=False)
        assert np.trace(u.T @ (overlap[0] @ overlap[2])) > 0.9 * values.sum()
    zero = np.zeros((3, 2))
    assert not gt.orthogonalize().update([zero], gt.orthogonalize().init([zero]), [zero])[0][0].any()
    for empty in (np.zeros((0, 3)), np.zeros((3, 0))):
        rule = optim.muon(0.1)
        assert rule.update([empty], rule.init([empty]), [empty])[0][0].shape == empty.shape


def test_rounding_of_ill_conditioned_statistics_does_not_become_the_direction():
    """Gradients of low rank, over ten orders of magnitude, under Shampoo with an eps far below rounding."""
    rng = np.random.default_rng(0)
    left, right = rng.standard_normal((12, 2)), rng.standard_normal((2, 9))
    grads = [
        left @ np.diag(rng.standard_normal(2) * [1, 1e-2]) @ right * 10.0 ** rng.integers(-5, 5) for _ in range(12)
    ]
    results = []
    for dtype in (np.float32, np.float64):
        rule, p = optim.shampoo(0.1, every=2), [np.zeros((12, 9), dtype)]
        state = rule.init(p)
        for g in grads:
            updates, state = rule.update([g.astype(dtype)], state, p)
            p = gt.apply_updates(p, updates)
        assert p[0].dtype == dtype and np.isfinite(p[0]).all()
        results.append(p[0])
    space = np.linalg.qr(left)[0]
    for p in results:  # every gradient's columns lie in a plane; so must the way gone
        assert np.linalg.norm(p - space @ (space.T @ p)) < 0.05 * np.linalg.norm(p)


@pytest.mark.parametrize("name", ["shampoo", "soap", "muon"])
def test_a_gradient_that_is_not_finite_shows(name):
    params = start(shapes=[(3, 2)])
    optimizer = Optimizer(params, getattr(optim, name)(0.1))
    advance(optimizer, params, 0, 2)
    params[0].grad = np.full((3, 2), np.nan)
    optimizer.step()
    params[0].grad = np.ones((3, 2))
    optimizer.step()
    assert np.isnan(params[0].numpy()).all()


def test_bad_arguments_are_refused():
    vector = start(shapes=[(3,)])
    for make, error, message in [
        (lambda: gt.orthogonalize().update([np.ones(3)], gt.orthogonalize().init([np.ones(3)]), [np.ones(3)]), TypeError, "shape .3,. is no matrix"),
        (lambda: optim.Muon(vector, adjust="rms"), ValueError, "adjust must be None, 'original'"),
        (lambda: optim.Muon(vector, ns_steps=-1), ValueError, "steps must be a whole number, at least 0"),
        (lambda: optim.Shampoo(vector, decay=0.0), ValueError, r"decay must be in \(0, 1\]"),
        (lambda: optim.SOAP(vector, every=0), ValueError, "every must be a whole number"),
        (lambda: optim.lbfgs(memory=0), ValueError, "memory must be a whole number"),
        (lambda: LBFGS(vector, line_search="armijo"), ValueError, "line_search must be 'strong_wolfe'"),
        (lambda: LBFGS(vector).step(), TypeError, "needs a closure"),
        (lambda: LBFGS(vector).step(lambda: 1.0), ValueError, "no parameter has a gradient"),
        (lambda: gt.scale_by_lbfgs().init({"a": None}), ValueError, "no parameters"),
    ]:  # fmt: skip
        with pytest.raises(error, match=message):
            make()


# ---- L-BFGS ----


def rosenbrock(x):
    return ops.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


def problem(dtype=np.float64):
    """Parameters of several shapes, one of which has no gradient, and their loss."""
    rng = np.random.default_rng(4)
    a, b = rng.standard_normal((20, 6)), rng.standard_normal((20, 2))
    params = [DiffTensor(x.astype(dtype), requires_grad=True) for x in (rng.standard_normal((6, 2)), np.zeros(2), np.float64(0.5), np.ones(3))]  # fmt: skip
    design, target = DiffTensor(a.astype(dtype)), DiffTensor(b.astype(dtype))

    def loss():
        w, bias, scale, _ = params
        return ops.mean((ops.tanh(design @ w) * scale + bias - target) ** 2) + 0.01 * ops.sum(w * w)

    return params, loss


def closing(optimizer, loss):
    def closure():
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    return closure


def dense(g, pairs):
    """The inverse Hessian's estimate as a dense matrix: the BFGS update (Nocedal & Wright, equation 6.17), pair by pair."""
    n = len(g)
    s, y = pairs[-1]
    h = np.eye(n) * (s @ y) / (y @ y)
    for s, y in pairs:
        v = np.eye(n) - np.outer(y, s) / (s @ y)
        h = v.T @ h @ v + np.outer(s, s) / (s @ y)
    return h @ g


@pytest.mark.parametrize("memory", [3, 100])
def test_lbfgs_as_a_transform_follows_the_dense_update(memory):
    params, loss = problem()
    optimizer = Optimizer(params, optim.lbfgs(0.5, memory))
    flat = lambda: np.concatenate([p.numpy().ravel() for p in params])
    points, gradients = [], []
    for t in range(50):
        closing(optimizer, loss)()
        before = flat()
        points.append(before)
        gradients.append(np.concatenate([(np.zeros(3) if p.grad is None else p.grad).ravel() for p in params]))
        optimizer.step()
        g = gradients[-1]
        pairs = [(points[i + 1] - points[i], gradients[i + 1] - gradients[i]) for i in range(t)]
        pairs = [(s, y) for s, y in pairs if s @ y > 0][-memory:]
        expected = -0.5 * (dense(g, pairs) if t else g * min(1, 1 / np.abs(g).sum()))
        np.testing.assert_allclose(flat() - before, expected, rtol=1e-6, atol=1e-9 * np.abs(expected).max())
    assert params[3].numpy().tolist() == [1, 1, 1] and np.abs(g).max() < (1e-5 if memory == 100 else 1e-2)


@pytest.mark.parametrize("search", ["strong_wolfe", None])
def test_lbfgs_finds_minima(search):
    params, loss = problem()
    optimizer = LBFGS(params, max_iter=200, memory=10, line_search=search, tolerance_change=0.0)
    closure = closing(optimizer, loss)
    first = optimizer.step(closure)
    assert isinstance(first, DiffTensor) and first.item() > loss().item()
    closure()
    assert max(np.abs(p.grad).max() for p in params[:3]) < 1e-5
    assert optimizer.lr == 1.0 and optimizer.state["evaluations"] < 260


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_lbfgs_on_rosenbrock_needs_few_evaluations(dtype):
    x = DiffTensor(np.full(10, -1.2, dtype), requires_grad=True)
    optimizer = LBFGS([x], max_iter=200, max_eval=250, tolerance_change=0.0)
    optimizer.step(closing(optimizer, lambda: rosenbrock(x)))
    np.testing.assert_allclose(x.numpy(), 1.0, rtol=2e-3 if dtype is np.float32 else 1e-6)
    assert x.dtype == dtype and optimizer.state["s"].dtype == dtype


@pytest.mark.peers
@pytest.mark.parametrize("search", ["strong_wolfe", None])
@pytest.mark.parametrize("iterations", [1, 4])
def test_lbfgs_equals_pytorch(search, iterations, double):
    params, loss = problem()
    theirs = [p.detach().requires_grad_() for p in copies(double, params)]
    rng = np.random.default_rng(4)
    a, b = (double.tensor(rng.standard_normal(s)) for s in ((20, 6), (20, 2)))

    def their_loss():
        w, bias, scale, _ = theirs
        return ((double.tanh(a @ w) * scale + bias - b) ** 2).mean() + 0.01 * (w * w).sum()

    options = {"lr": 0.8, "max_iter": iterations}
    ours = LBFGS(params, memory=5, line_search=search, **options)
    peer = double.optim.LBFGS(theirs, history_size=5, line_search_fn=search, **options)
    steps = 0
    for _ in range(50 // iterations):
        mine, other = ours.step(closing(ours, loss)), peer.step(closing(peer, their_loss))
        assert math.isclose(mine.item(), other.item(), rel_tol=1e-9)
        if np.abs(params[0].grad).max() < 1e-6:
            break
        for p, q in zip(params, theirs, strict=True):
            np.testing.assert_allclose(p.numpy(), q.detach().numpy(), rtol=1e-6, atol=1e-9)
        steps += iterations
    assert steps >= 8 and ours.state["evaluations"] == peer.state[theirs[0]]["func_evals"]


@pytest.mark.peers
def test_lbfgs_line_search_equals_pytorch_on_rosenbrock(double):
    """A curved valley: the search extrapolates, zooms and steps away from ends."""
    x = DiffTensor(np.full(6, -1.2), requires_grad=True)
    y = double.full((6,), -1.2, requires_grad=True)
    ours, peer = LBFGS([x], max_iter=1), double.optim.LBFGS([y], max_iter=1, max_eval=25, line_search_fn="strong_wolfe")
    ours.max_eval = 25
    for _ in range(50):
        ours.step(closing(ours, lambda: rosenbrock(x)))
        peer.step(closing(peer, lambda: (100.0 * (y[1:] - y[:-1] ** 2) ** 2 + (1.0 - y[:-1]) ** 2).sum()))
        if np.abs(x.grad).max() < 1e-4:
            break
        np.testing.assert_allclose(x.numpy(), y.detach().numpy(), rtol=1e-6)
    assert ours.state["pairs"] >= 20 and ours.state["evaluations"] == peer.state[y]["func_evals"]


def test_lbfgs_resumes_to_the_bit():
    runs = []
    for interrupted in (False, True):
        params, loss = problem()
        optimizer = LBFGS(params, max_iter=3, memory=4)
        for step in range(6):
            if interrupted and step == 3:
                saved = optimizer.state_dict()
                optimizer = LBFGS(params, max_iter=3, memory=4)
                optimizer.load_state_dict(saved)
            optimizer.step(closing(optimizer, loss))
        runs.append([p.numpy() for p in params])
    assert all(np.array_equal(a, b) for a, b in zip(*runs, strict=True))


@pytest.mark.parametrize(
    ("line", "first"),
    [
        (lambda t: ((t - 3) ** 2, 2 * (t - 3)), 0.01),  # must extrapolate
        (lambda t: ((t - 3) ** 2, 2 * (t - 3)), 50.0),  # must zoom
        (lambda t: (-t / (t * t + 2), (t * t - 2) / (t * t + 2) ** 2), 1e-3),  # Moré & Thuente 1994, function 1
        (lambda t: ((t + 0.004) ** 5 - 2 * (t + 0.004) ** 4, 5 * (t + 0.004) ** 4 - 8 * (t + 0.004) ** 3), 1e-1),  # 2
        (lambda t: (-math.log(1 + t) if t < 4 else math.inf, -1 / (1 + t) if t < 4 else math.nan), 100.0),
        (lambda t: (math.nan if t > 1 else -t + t**2, -1 + 2 * t), 64.0),
    ],
)
def test_the_line_search_satisfies_the_strong_wolfe_conditions(line, first):
    start_ = Point(0.0, *line(0.0), None)
    asked = []

    def look(t):
        asked.append(t)
        return Point(t, *line(t), None)

    found, calls = strong_wolfe(look, start_, first, 1.0, 40)
    assert calls == len(asked) <= 41 and found.t > 0
    assert found.loss <= start_.loss + 1e-4 * found.t * start_.slope
    assert abs(found.slope) <= 0.9 * abs(start_.slope) or not math.isfinite(line(4.0)[0])


def test_the_line_search_ends_with_its_budget_at_the_best_point():
    found, calls = strong_wolfe(lambda t: Point(t, -t, -1.0, None), Point(0.0, 0.0, -1.0, None), 1.0, 1.0, 3)
    assert calls == 4 and found.t == 1000.0
