"""Checkpoints change what is in memory, and nothing else."""

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from autograd import (
    BackwardPass,
    DiffTensor,
    checkpoint,
    checkpoint_sequential,
    custom_vjp,
    grad,
    hessian,
    hvp,
    jacobian,
    jvp,
    nn,
    no_grad,
    ops,
    vmap,
)
from autograd.testing.programs import Plain, Rows, gradients
from autograd.testing.strategies import programs


class Attention(nn.Module):
    """x + attention(norm(x)), then a feed-forward layer, with dropout in both."""

    def __init__(self, rng):
        super().__init__()
        self.norm, self.after = nn.LayerNorm(8), nn.LayerNorm(8)
        self.attend = nn.MultiheadAttention(8, 2, dropout=0.2, batch_first=True, rng=rng)
        self.wide, self.narrow, self.drop = (
            nn.Linear(8, 16, rng=rng),
            nn.Linear(16, 8, rng=rng),
            nn.Dropout(0.2, rng=rng),
        )

    def forward(self, x):
        h = self.norm(x)
        x = x + self.attend(h, h, h, need_weights=False, is_causal=True)[0]
        return x + self.drop(self.narrow(ops.relu(self.wide(self.after(x)))))


def mlp():
    rng = np.random.default_rng(1)
    made = [
        nn.Sequential(nn.Linear(8, 8, rng=rng), nn.BatchNorm1d(8), nn.Dropout(0.3, rng=rng), nn.Tanh())
        for _ in range(9)
    ]
    return made, (32, 8)


def convolutions():
    rng = np.random.default_rng(2)
    made = [
        nn.Sequential(nn.Conv2d(c, 6, 3, padding=1, rng=rng), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.25, rng=rng))
        for c in (3, 6, 6, 6)
    ]
    return [*made, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(96, 5, rng=rng)], (4, 3, 8, 8)


def attention():
    rng = np.random.default_rng(3)
    return [Attention(rng) for _ in range(4)], (3, 5, 8)


def run(wrap, build, times=1):
    """Gradients, running statistics and what the generators draw next; and bytes held before the backward pass."""
    made, shape = build()
    plain, x = nn.Sequential(*made), DiffTensor(np.random.default_rng(0).normal(size=shape), requires_grad=True)
    model = wrap(made)
    for _ in range(times):
        out = model(x)
        loss = (out * out).sum() + x.sum()
        held = BackwardPass((loss,)).bytes_retained
        loss.backward()
    draws = [m.rng.random() for m in plain.modules() if isinstance(getattr(m, "rng", None), np.random.Generator)]
    return [x.grad, *(p.grad for p in plain.parameters()), *(b.numpy() for b in plain.buffers()), *draws], held


def same(found, expected):
    return all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


WRAPS = {
    "one": lambda made: checkpoint(nn.Sequential(*made)),
    "each": lambda made: nn.Sequential(*(Checkpointed(m) for m in made)),
    "auto": lambda made: checkpoint_sequential(made, segments="auto"),
    "segments": lambda made: checkpoint_sequential(nn.Sequential(*made), 3),
    "budget": lambda made: checkpoint_sequential(made, budget=110_000 if len(made) == 7 else 30_000),
    "nested": lambda made: checkpoint(checkpoint_sequential([checkpoint(m) for m in made], segments=2)),
    "in segments": lambda made: checkpoint_sequential([checkpoint_sequential(made[:2], 2), *map(checkpoint, made[2:])], 2),
}  # fmt: skip


class Checkpointed(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return checkpoint(self.inner)(x)


@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize("build", [mlp, convolutions, attention])
def test_gradients_masks_statistics_and_generators_are_those_of_a_plain_run(wrap, build):
    found, held = run(WRAPS[wrap], build, times=2)
    expected, all_held = run(lambda made: nn.Sequential(*made), build, times=2)
    assert same(found, expected)
    assert held < (0.9 if wrap == "budget" else 0.75) * all_held


# ---- every order, and other transforms ----

A, B = np.random.default_rng(4).normal(size=(2, 4, 4)) / 2


def inner(x):
    return ops.tanh(ops.matmul(A, x)) * ops.exp(-x * x)


def plain(x):
    return ops.sum(ops.sin(ops.matmul(B, inner(inner(x)))) ** 3)


def kept_in_part(x):
    piece = checkpoint(inner)
    return ops.sum(checkpoint(lambda y: ops.sin(ops.matmul(B, piece(y))) ** 3)(piece(x)))


X, V = np.random.default_rng(5).normal(size=(2, 4))


@pytest.mark.parametrize(
    "transform",
    [
        grad,
        hessian,
        lambda f: lambda x: hvp(f)(x, V),
        lambda f: grad(lambda x: ops.sum(grad(f)(x) ** 2)),
        lambda f: lambda x: grad(grad(grad(lambda t: f(x * t))))(0.7),
        lambda f: lambda x: jvp(grad(f), (x,), (V,))[1],
        lambda f: lambda x: vmap(grad(f))(np.stack([x, V, x - V])),
        lambda f: lambda x: vmap(hessian(f))(np.stack([x, V])),
        lambda f: jacobian(lambda x: vmap(f)(ops.stack([x, x * V]))),
        lambda f: grad(checkpoint(f)),
        lambda f: hessian(checkpoint(f)),
        lambda f: checkpoint(grad(f)),
        lambda f: grad(lambda x: ops.sum(checkpoint(grad(f))(x) ** 2)),
    ],
)  # fmt: skip
def test_all_orders_and_transforms_give_the_same_bits(transform):
    expected, found = np.asarray(transform(plain)(X)), np.asarray(transform(kept_in_part)(X))
    assert np.array_equal(found, expected) and np.any(found)


def test_second_order_through_a_chain_with_a_budget():
    rng = np.random.default_rng(6)
    made = [nn.Sequential(nn.Linear(4, 4, rng=rng, dtype=np.float64), nn.Tanh()) for _ in range(6)]
    model = checkpoint_sequential(made, budget=220)
    for _ in range(2):  # measured at first, then planned
        for transform in (hessian, lambda f: grad(lambda x: ops.sum(grad(f)(x) ** 3))):
            expected, found = (transform(lambda x, m=m: ops.sum(m(x) ** 2))(X) for m in (nn.Sequential(*made), model))
            assert np.array_equal(found.numpy(), expected.numpy()) and np.any(found.numpy())
    assert model.plan.cost > 1 and model.chain.calls


def test_two_passes_over_one_graph():
    x = DiffTensor(X, requires_grad=True)
    made, held = [], []
    for f in (plain, kept_in_part):
        y = f(x)
        before = BackwardPass((y,)).bytes_retained
        made.append([BackwardPass((y,)).run()[x.node] for _ in range(2)])
        held.append((before, BackwardPass((y,)).bytes_retained))
    assert np.array_equal(made[0][0], made[1][0]) and np.array_equal(*made[1])
    assert held[1][0] == held[1][1] < held[0][0]  # what was made again is gone again


@settings(
    max_examples=40, database=None, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],
)  # fmt: skip
@given(programs(max_steps=8, depth=1, transforms=("checkpoint", "vmap", "jvp", "cond")))
def test_random_programs_in_checkpoints_in_chains(program):
    class Nested(Rows):
        def checkpoint(self, fun, *xs):
            return checkpoint_sequential([lambda ys: checkpoint(fun)(*ys), checkpoint(tuple)], segments=2)(xs)

    (values, grads), (plain_values, plain_grads) = gradients(program, Nested()), gradients(program, Plain())
    for a, b in zip([*values, *grads], [*plain_values, *plain_grads], strict=True):
        assert np.array_equal(a, b, equal_nan=True), (a, b)


# ---- what happens once, and what is an input ----


def test_the_function_is_called_once_and_its_rows_twice():
    calls = []

    def fun(x):
        calls.append(1)
        return ops.sin(ops.exp(x))

    grad(lambda x: checkpoint(fun)(x).sum())(X)
    assert len(calls) == 1


def test_random_numbers_of_the_users_own_are_kept():
    def noisy(x, rng):
        return ops.exp(x * rng.normal(size=4)) * rng.random()

    found, expected = (
        grad(lambda x, f=f: ops.sum(f(x, np.random.default_rng(8))))(X) for f in (checkpoint(noisy), noisy)
    )
    assert np.array_equal(found, expected)


def test_an_array_that_is_changed_afterwards_is_not_read_again():
    factor, x = np.arange(1.0, 5.0), DiffTensor(X, requires_grad=True)
    y = checkpoint(lambda x: ops.exp(x + factor))(x).sum()
    factor[:] = 100.0
    y.backward()
    assert np.array_equal(x.grad, np.exp(X + np.arange(1.0, 5.0)))


def test_parameters_from_the_surroundings_get_gradients_and_trees_pass():
    w = nn.Parameter(B)

    def fun(tree, *, scale):
        return {"a": ops.tanh(ops.matmul(w, tree["x"])) * scale, "b": [tree["x"] ** 2, "text"]}

    found = []
    for f in (fun, checkpoint(fun)):
        w.grad, x = None, DiffTensor(X, requires_grad=True)
        out = f({"x": x}, scale=3.0)
        assert out["b"][1] == "text"
        (out["a"] + out["b"][0]).sum().backward()
        found.append((x.grad, w.grad))
    assert same(*found) and np.any(found[0][1])


def test_rules_of_their_own_and_blocks_without_recording():
    @custom_vjp
    def clipped(x):
        return x

    clipped.defvjp(lambda x: (x, x), lambda x, g: (ops.clip(g, -0.1, 0.1) * x,))

    def fun(x):
        with no_grad():
            shift = ops.exp(x)
        return clipped(ops.sin(x + shift)) ** 2

    found, expected = (grad(lambda x, f=f: ops.sum(f(x)))(X) for f in (checkpoint(fun), fun))
    assert np.array_equal(found, expected) and np.any(found)
    with no_grad():
        assert checkpoint(fun)(DiffTensor(X)).node is None


# ---- errors ----


def test_an_error_inside_leaves_nothing_behind():
    def fails(x):
        raise KeyError("mine")

    x = DiffTensor(X, requires_grad=True)
    for f in (
        checkpoint(fails),
        checkpoint_sequential([ops.exp, fails], 2),
        checkpoint_sequential([fails], budget=900),
    ):
        with pytest.raises(KeyError, match="mine"):
            f(x)
    y = ops.exp(x)
    assert type(y.node).__name__ == "Node"  # not in a checkpoint
    y.sum().backward()
    assert np.array_equal(x.grad, np.exp(X))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "give either segments .* or budget"),
        ({"segments": 2, "budget": 9}, "give either segments .* or budget"),
        ({"segments": 0}, "segments must be an integer of at least 1, not 0"),
        ({"segments": True}, "segments must be an integer of at least 1, not True"),
        ({"segments": "some"}, "segments must be an integer of at least 1, not 'some'"),
        ({"budget": 2.5}, "budget must be an integer of at least 1, not 2.5"),
    ],
)
def test_settings_that_make_no_sense(given, message):
    with pytest.raises(ValueError, match=message):
        checkpoint_sequential([nn.Tanh()], **given)


def test_layers_must_be_callable_and_none_are_allowed():
    with pytest.raises(TypeError, match="layer 1 is 3"):
        checkpoint_sequential([nn.Tanh(), 3], 1)
    x = DiffTensor(X, requires_grad=True)
    assert checkpoint_sequential([], 1)(x) is x
    checkpoint_sequential([ops.exp], 5)(x).sum().backward()
    assert np.array_equal(x.grad, np.exp(X))
