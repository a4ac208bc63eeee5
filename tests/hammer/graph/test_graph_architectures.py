"""Whole architectures as graphs: built, differentiated, compiled and trained, each held against eager code."""

import warnings

import numpy as np
import pytest
from graph_checks import same

import hammer
from autograd import grad, nn, ops
from autograd.optim import Adam
from hammer.graph import CompileWarning, Model, Spec, UniversalGraph

RNG = np.random.default_rng


class Recurrent(nn.Module):
    """A recurrent layer, read at its last step."""

    def __init__(self, kind, rng):
        super().__init__()
        self.layer, self.head = getattr(nn, kind)(5, 6, num_layers=2, rng=rng), nn.Linear(6, 3, rng=rng)

    def forward(self, x):
        return self.head(self.layer(x)[0][-1])


class Causal(nn.Module):
    """A small language model: at each token the scores of the next."""

    def __init__(self, rng):
        super().__init__()
        self.tokens, self.places = nn.Embedding(7, 8, rng=rng), nn.PositionalEmbedding(6, 8, rng=rng)
        options = {"dim_feedforward": 16, "dropout": 0.0, "activation": "gelu", "batch_first": True, "rng": rng}
        self.first = nn.TransformerEncoderLayer(8, 2, norm_first=True, **options)
        self.second = nn.TransformerEncoderLayer(8, 2, **options)
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 7, rng=rng)

    def forward(self, ids):
        x = self.places(self.tokens(ids))
        return self.head(self.norm(self.second(self.first(x, is_causal=True), is_causal=True)))


class StateSpace(nn.Module):
    """State-space layers in residual blocks, read as the mean over time."""

    def __init__(self, rng):
        super().__init__()
        block = lambda: nn.Residual(
            nn.Sequential(
                nn.LayerNorm(6), nn.DiagonalSSM(6, 4, (0.05, 0.5), rng=rng), nn.GELU(), nn.Linear(6, 6, rng=rng)
            )
        )
        self.blocks = nn.Sequential(nn.Linear(5, 6, rng=rng), block(), block())
        self.head = nn.Linear(6, 3, rng=rng)

    def forward(self, x):
        return self.head(ops.mean(self.blocks(x), axis=0))


def mlp(rng):
    return nn.Sequential(
        nn.Linear(5, 9, rng=rng),
        nn.ReLU(),
        nn.Linear(9, 9, rng=rng),
        nn.LayerNorm(9),
        nn.Tanh(),
        nn.Linear(9, 3, rng=rng),
    )


def residual_cnn(rng):
    conv = lambda i, o, stride=1: nn.Conv2d(i, o, 3, stride, padding=1, bias=False, rng=rng)
    wider = nn.Sequential(nn.Conv2d(4, 6, 1, 2, bias=False, rng=rng), nn.BatchNorm2d(6))
    return nn.Sequential(
        conv(2, 4), nn.BatchNorm2d(4), nn.ReLU(),
        nn.Residual(nn.Sequential(conv(4, 4), nn.BatchNorm2d(4), nn.ReLU(), conv(4, 4), nn.BatchNorm2d(4))), nn.ReLU(),
        nn.Residual(nn.Sequential(conv(4, 6, 2), nn.BatchNorm2d(6), nn.ReLU(), conv(6, 6), nn.BatchNorm2d(6)), wider), nn.ReLU(),
        nn.AvgPool2d(4), nn.Flatten(), nn.Linear(6, 3, rng=rng),
    )  # fmt: skip


MAKERS = {
    "mlp": (mlp, lambda n: (n, 5)), "residual cnn": (residual_cnn, lambda n: (n, 2, 8, 8)),
    "lstm": (lambda rng: Recurrent("LSTM", rng), lambda n: (4, n, 5)), "gru": (lambda rng: Recurrent("GRU", rng), lambda n: (4, n, 5)),
    "transformer": (Causal, lambda n: (n, 6)), "state space": (StateSpace, lambda n: (12, n, 5)),
}  # fmt: skip
each = pytest.mark.parametrize("name", list(MAKERS))


def problem(name, dtype=np.float32, n=6):
    """A model that is not as it was drawn (so that no bias or offset is 0), in evaluation, and a batch of data."""
    make, shape = MAKERS[name]
    model, rng = make(RNG(0)).to(dtype).eval(), RNG(1)
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.dtype == dtype:
            noise = rng.uniform(-0.1, 0.1, tensor.shape).astype(np.float32)
            tensor.data = (tensor.raw + noise).astype(dtype)
    if name == "transformer":
        ids = rng.integers(0, 7, (*shape(n)[:-1], 7))
        return model, ids[:, :-1], ids[:, 1:]
    return model, rng.normal(size=shape(n)).astype(np.float32).astype(dtype), rng.integers(0, 3, n)


def loss_of(model):
    def loss(x, y):
        return ops.mean(
            ops.cross_entropy(ops.reshape(scores := model(x), (-1, scores.shape[-1])), ops.reshape(y, (-1,)))
        )

    return loss


def by_tape(loss, model, x, y):
    """The loss and the gradients that a backward pass leaves."""
    model.zero_grad()
    value = loss(x, y)
    value.backward()
    return [value.raw, *(p.grad for p in model.parameters())]


@each
def test_a_graph_and_its_gradient_are_eager_codes(name):
    model, x, y = problem(name)
    loss = loss_of(model)
    expected = by_tape(loss, model, x, y)
    graph = UniversalGraph.trace(loss, x, y)
    for derived in (graph.grad(value=True), graph.grad(value=True).optimize()):
        value, grads = derived(x, y)
        same(value, expected[0])
        assert list(grads) == [n for n, _ in model.named_parameters()]
        for g, e in zip(grads.values(), expected[1:], strict=True):
            same(g, e)


@each
def test_one_graph_for_every_size_of_batch(name):
    model, _, _ = problem(name)
    loss, shape = loss_of(model), lambda n: [k if k != 17 else "B" for k in MAKERS[name][1](n)]
    kind = np.int64 if name == "transformer" else np.float32
    graph = UniversalGraph.trace(
        loss, Spec(tuple(shape(17)), kind), Spec(("B", 6) if name == "transformer" else ("B",), np.int64)
    ).grad(value=True)
    for n in (2, 5):
        _, x, y = problem(name, n=n)
        value, grads = graph(x, y)
        for found, expected in zip([value, *grads.values()], by_tape(loss, model, x, y), strict=True):
            same(found, expected)


def test_layers_one_after_another_are_the_traced_module():
    model, x, _ = problem("mlp")
    built = Model()
    for layer in model:
        built.add(layer)
    same(built.build("B", 5)(x), model(x))


@each
@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
def test_compiled_is_eager_to_the_last_bit(name, training):
    runs = []
    for compiled in (False, True):
        model, x, y = problem(name, n=37)  # large enough for plans to use memory again
        model.train(training)
        loss = hammer.compile(loss_of(model), fallback=training) if compiled else loss_of(model)
        found = []
        with warnings.catch_warnings():
            if training:  # a layer that counts batches may run uncompiled
                warnings.simplefilter("ignore", CompileWarning)
            for _ in range(2):
                found += by_tape(loss, model, x, y)
        runs.append([*found, *(b.raw for b in model.buffers())])
        assert not compiled or training or loss.traces == 1
    for a, b in zip(*runs, strict=True):
        same(b, a)


def errors(found, truth):
    return [
        float(np.max(np.abs(np.asarray(f, np.float64) - t), initial=0.0)) for f, t in zip(found, truth, strict=True)
    ]


@each
def test_compiled_to_round_otherwise_errs_as_eager_code_does(name):
    """Against the same program in float64: at most four times the error of eager float32, and a rounding of the largest number."""
    wide, x, y = problem(name, np.float64, n=37)
    truth = by_tape(loss_of(wide), wide, x, y)
    model, x, y = problem(name, n=37)
    loss = loss_of(model)
    eager = errors(by_tape(loss, model, x, y), truth)
    compiled = errors(by_tape(hammer.compile(loss, exact=False, fallback=False), model, x, y), truth)
    for a, b, t in zip(compiled, eager, truth, strict=True):
        assert a <= 4 * b + 8 * np.finfo(np.float32).eps * np.max(np.abs(t))


@each
@pytest.mark.parametrize("exact", [True, False])
def test_it_learns(name, exact):
    model, x, y = problem(name)
    loss = hammer.compile(loss_of(model), exact=exact, fallback=False)
    optimizer = Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        value = loss(x, y)
        value.backward()
        optimizer.step()
        losses.append(float(value.raw))
    assert loss.traces == 1 and losses[-1] < 0.9 * losses[0] and losses[-1] < losses[5] < losses[0]


def test_no_token_sees_the_next():
    model, ids, _ = problem("transformer")
    graph = UniversalGraph.trace(lambda ids: model(ids), ids)
    changed = ids.copy()
    changed[:, 4:] = (changed[:, 4:] + 1) % 7
    same(graph(changed)[:, :4], graph(ids)[:, :4])
    assert np.all(np.any(graph(changed)[:, 4:] != graph(ids)[:, 4:], axis=-1))


@pytest.mark.parametrize(
    "order",
    [("gamma",) * 4, ("beta",) * 4, ("gamma", "beta", "gamma", "beta"), ("beta", "gamma", "gamma")],
    ids="-".join,
)
def test_gamma_and_beta_any_number_of_times(order):
    """L = Σ c exp(γ z + β): each derivative by γ brings a factor z, by β none."""
    rng = RNG(2)
    x, c = rng.normal(size=(4, 5)), rng.normal(size=(4, 5))
    gamma, beta = rng.normal(size=5), rng.normal(size=5)
    z = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)
    at = {"x": x, "gamma": gamma, "beta": beta, "c": c}

    def loss(x, gamma, beta, c):
        return ops.sum(ops.exp(ops.layer_norm(x, (5,), gamma, beta, 1e-5)) * c)

    graph, eager, power = UniversalGraph.trace(loss, *at.values()), loss, 0
    for name in order:
        derived = graph.grad(wrt=name)
        power += name == "gamma"
        by_formula = (c * z**power * np.exp(gamma * z + beta)).sum(0)
        np.testing.assert_allclose(derived(*at.values()), by_formula, rtol=1e-11)
        np.testing.assert_allclose(derived.optimize()(*at.values()), by_formula, rtol=1e-11)
        eager = _summed(grad(eager, list(at).index(name)))
        graph = UniversalGraph.trace(_summed(derived), *at.values())
        np.testing.assert_allclose(eager(*at.values()), by_formula.sum(), rtol=1e-11)


def _summed(fun):
    return lambda x, gamma, beta, c: ops.sum(fun(x, gamma, beta, c))
