"""The optimizers: their gradient is that of multiscale, their scale follows its schedule, and they resume to the bit."""

import numpy as np
import pytest

from autograd import DiffTensor, grad, nn, ops
from autograd.optim import schedules
from hammer.fractal import FractalAdamW, FractalSGD, dyadic, multiscale


def ripples(x):
    return 0.5 * ops.sum(x * x) + ops.sum(1.0 - ops.cos(2 * np.pi * x))


@pytest.mark.parametrize("combine", ["coarse", "average", "gate"])
@pytest.mark.parametrize("order", [0, 1])
def test_a_step_is_the_gradient_of_multiscale(combine, order):
    x = DiffTensor(np.array([0.7, -1.2]), requires_grad=True)
    optimizer = FractalSGD(
        [x], lr=0.1, sigma=0.3, seed=4, levels=2, combine=combine, n=8, order=order, directions="sobol"
    )
    before = x.numpy().copy()
    value = optimizer.step(lambda: ripples(x))
    seed = np.random.SeedSequence(4, spawn_key=(0,))
    seen = multiscale(lambda v: ripples(v), dyadic(0.3, 2), combine, n=8, rng=seed, order=order)
    np.testing.assert_allclose(x.numpy(), before - 0.1 * grad(seen)(before), rtol=1e-12)
    np.testing.assert_allclose(value, seen(before), rtol=1e-12)


def test_graduated_descent_finds_the_bottom_where_plain_descent_stays():
    found = {}
    for sigma in (0.0, schedules.step_decay(0.5, 90, 0.5)):
        x = DiffTensor(np.array([2.2, -3.1, 1.4]), requires_grad=True)
        optimizer = FractalSGD([x], lr=0.04, sigma=sigma, seed=0, n=32)
        for _ in range(400):
            optimizer.step(lambda x=x: ripples(x))
        found[callable(sigma)] = abs(x.numpy()).max()
    assert found[True] < 1e-3 and found[False] > 0.5


def test_a_model_is_trained_and_resumes_to_the_bit():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(16, 3)).astype(np.float32)
    y = np.sin(x[:, :1])

    def make():
        model = nn.Sequential(
            nn.Linear(3, 8, rng=np.random.default_rng(1)), nn.Tanh(), nn.Linear(8, 1, rng=np.random.default_rng(2))
        )
        settings = {"sigma": schedules.exponential(0.2, 0.9), "seed": 7, "combine": "gate", "levels": 2, "n": 4}
        return model, FractalAdamW(model.parameters(), 1e-2, weight_decay=0.0, **settings)

    def advance(model, optimizer, count):
        return [float(optimizer.step(lambda: ops.mean((model(x) - y) ** 2))) for _ in range(count)]

    whole, optimizer = make()
    losses = advance(whole, optimizer, 40)
    assert losses[-1] < 0.3 * losses[0]
    model, first = make()
    advance(model, first, 15)
    assert first.sigma == pytest.approx(0.2 * 0.9**15)
    other, second = make()
    for a, b in zip(other.parameters(), model.parameters(), strict=True):
        a.raw = b.numpy().copy()
    second.load_state_dict(first.state_dict())
    advance(other, second, 25)
    for a, b in zip(whole.parameters(), other.parameters(), strict=True):
        assert a.numpy().dtype == np.float32 and a.numpy().tobytes() == b.numpy().tobytes()


def test_errors_leave_the_parameters_alone():
    x = DiffTensor(np.ones(2), requires_grad=True)
    optimizer = FractalSGD([x], sigma=0.1, seed=0, n=4)

    def broken():
        raise RuntimeError("no loss")

    with pytest.raises(RuntimeError, match="no loss"):
        optimizer.step(broken)
    assert (x.numpy() == 1).all() and x.is_leaf and optimizer.state[0]["step"] == 0
    with pytest.raises(TypeError, match="needs the loss as a function"):
        optimizer.step()
    with pytest.raises(ValueError, match="sigma must be in"):
        FractalSGD([x], sigma=-1.0, seed=0)
    with pytest.raises(ValueError, match="combine must be"):
        FractalSGD([x], sigma=1.0, seed=0, combine="mean")
