"""Checkpoints change what is in memory, and nothing else."""

import numpy as np
import pytest

from autograd import BackwardPass, DiffTensor, checkpoint, checkpoint_sequential, nn


def layers():
    rng = np.random.default_rng(1)
    return [
        nn.Sequential(nn.Linear(8, 8, rng=rng), nn.BatchNorm1d(8), nn.Dropout(0.3, rng=rng), nn.Tanh())
        for _ in range(9)
    ]


def run(wrap):
    made = layers()
    plain, x = nn.Sequential(*made), DiffTensor(np.random.default_rng(0).normal(size=(32, 8)), requires_grad=True)
    out = wrap(made)(x)
    loss = (out * out).sum() + x.sum()
    held = BackwardPass((loss,)).bytes_retained
    loss.backward()
    draws = [m[2].rng.random() for m in made]
    return [x.grad, *(p.grad for p in plain.parameters()), *(b.numpy() for b in plain.buffers()), *draws], held


@pytest.mark.parametrize(
    "wrap",
    [
        lambda made: checkpoint(nn.Sequential(*made)),
        lambda made: checkpoint_sequential(made, segments="auto"),
        lambda made: checkpoint_sequential(made, budget=30_000),
    ],
)
def test_gradients_masks_and_statistics_are_those_of_a_plain_run(wrap):
    (found, held), (expected, all_held) = run(wrap), run(lambda made: nn.Sequential(*made))
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
    assert held < 0.7 * all_held


def test_a_budget_that_is_too_small_names_the_least_possible():
    with pytest.raises(ValueError, match="least possible is"):
        run(lambda made: checkpoint_sequential(made, budget=100))
