"""L-DoG: the paper's formula step for step, and what it is for."""

import numpy as np
import pytest

from autograd import DiffTensor, ops
from autograd.optim import Optimizer
from hammer.dog import ldog


def by_formula(x: np.ndarray, gradients: list[np.ndarray], reps: float, eps: float) -> list[np.ndarray]:
    """Ivgi, Hinder & Carmon 2023, equation (DoG), of one tensor: all iterates, from all earlier ones."""
    found = [x]
    for t in range(len(gradients)):
        far = max([reps * (1 + np.linalg.norm(x)), *(np.linalg.norm(y - x) for y in found)])
        rate = far / np.sqrt(sum(np.linalg.norm(g) ** 2 for g in gradients[: t + 1]) + eps)
        found.append(found[-1] - rate * gradients[t])
    return found


@pytest.mark.parametrize("dtype, rtol", [("float64", 1e-12), ("float32", 1e-4)])
def test_the_formula_step_for_step(dtype: str, rtol: float) -> None:
    rng = np.random.default_rng(0)
    starts = [rng.normal(size=shape).astype(dtype) for shape in ((3, 4), (5,), ())]
    tensors = [DiffTensor(x, requires_grad=True) for x in starts]
    gradients = [[rng.normal(size=x.shape).astype(dtype) for x in starts] for _ in range(12)]
    optimizer = Optimizer(tensors, ldog(reps=1e-2, eps=1e-3))
    wanted = [
        by_formula(x.astype(float), [g[i].astype(float) for g in gradients], 1e-2, 1e-3) for i, x in enumerate(starts)
    ]
    for t, step in enumerate(gradients):
        optimizer.zero_grad()
        sum(
            (ops.sum(x * g) for x, g in zip(tensors[1:], step[1:], strict=True)), ops.sum(tensors[0] * step[0])
        ).backward()
        optimizer.step()
        for x, iterates in zip(tensors, wanted, strict=True):
            assert x.dtype == dtype
            np.testing.assert_allclose(x.numpy(), iterates[t + 1], rtol=rtol, atol=rtol)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_one_setting_serves_every_scale(scale: float) -> None:
    x = DiffTensor(np.array([3.0, -2.0]), requires_grad=True)
    optimizer = Optimizer([x], ldog())
    for _ in range(300):
        optimizer.zero_grad()
        (scale * ops.sum((x - 1.0) ** 2)).backward()
        optimizer.step()
    np.testing.assert_allclose(x.numpy(), 1.0, atol=0.05)


def test_a_state_that_was_saved_goes_on_to_the_bit() -> None:
    def steps(optimizer: Optimizer, x: DiffTensor, count: int) -> None:
        for _ in range(count):
            optimizer.zero_grad()
            ops.sum((x - 1.0) ** 4).backward()
            optimizer.step()

    whole, half = (DiffTensor(np.array([3.0, -2.0]), requires_grad=True) for _ in range(2))
    one, first = Optimizer([whole], ldog()), Optimizer([half], ldog())
    steps(one, whole, 20)
    steps(first, half, 12)
    rest = DiffTensor(half.numpy().copy(), requires_grad=True)
    second = Optimizer([rest], ldog())
    second.load_state_dict(first.state_dict())
    steps(second, rest, 8)
    assert (whole.numpy() == rest.numpy()).all()


@pytest.mark.parametrize("settings", [{"reps": 0.0}, {"reps": -1.0}, {"eps": 0.0}, {"eps": "small"}])
def test_bad_settings_are_named(settings: dict) -> None:
    with pytest.raises((ValueError, TypeError), match=f"ldog: {next(iter(settings))}"):
        ldog(**settings)
