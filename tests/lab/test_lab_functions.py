"""The classical test functions: minima are minima, and gradients by hand are the tape's, at drawn points."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autograd import DiffTensor, grad, ops
from hammer.lab import functions

NAMES = functions.names()


def test_there_are_enough() -> None:
    assert len(NAMES) >= 17
    with pytest.raises(KeyError, match="did you mean 'rastrigin'"):
        functions.get("rastrigen")


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=30)
@given(data=st.data())
def test_the_gradient_by_hand_is_the_tapes(name: str, data: st.DataObject) -> None:
    f = functions.get(name)
    x = np.array([data.draw(st.floats(low, high)) for low, high in f.box])
    if name == "ackley" and np.linalg.norm(x) < 1e-6:
        return  # a cone: no gradient at its tip
    by_hand, by_tape = f.gradient(x), grad(f)(x)
    scale = max(1.0, float(np.abs(by_hand).max()))
    np.testing.assert_allclose(by_tape, by_hand, rtol=1e-9, atol=1e-10 * scale)


@pytest.mark.parametrize("name", NAMES)
def test_minima_are_minima(name: str) -> None:
    f, rng = functions.get(name), np.random.default_rng(0)
    low, high = f.box.T
    for point in map(np.array, f.minima):
        assert point.shape == (f.dimensions,) and np.all((low <= point) & (point <= high))
        assert float(f(point)) == pytest.approx(f.minimum, abs=2e-9)
        np.testing.assert_allclose(f.gradient(point), 0.0, atol=1e-6)
        near = point + rng.normal(scale=1e-3, size=(100, f.dimensions))
        assert min(float(f(x)) for x in near) > f.minimum - 1e-12
    anywhere = rng.uniform(low, high, size=(500, f.dimensions))
    assert min(float(f(x)) for x in anywhere) >= f.minimum
    assert np.all((low <= np.array(f.start)) & (np.array(f.start) <= high))
    assert float(f(np.array(f.start))) > f.minimum + 1e-3
    assert isinstance(f(DiffTensor(np.array(f.start))), DiffTensor)


@pytest.mark.parametrize("name", [n for n in NAMES if functions.get(n).scalable])
def test_scalable_functions_keep_their_minimum_in_other_dimensions(name: str) -> None:
    f = functions.get(name)
    point = np.full(7, f.minima[0][0])
    assert float(f(point)) == pytest.approx(f.minimum, abs=1e-12)
    x = np.random.default_rng(1).uniform(*f.domain[0], size=7)
    np.testing.assert_allclose(grad(lambda v: ops.sum(f(v)))(x), f.gradient(x), rtol=1e-8, atol=1e-8)
