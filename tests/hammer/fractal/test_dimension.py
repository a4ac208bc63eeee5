"""Estimators against sets and signals of known dimension, and their intervals against repeated samples."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hammer.fractal import (
    box_counting,
    correlation_dimension,
    dfa,
    fractional_brownian,
    higuchi,
    sierpinski_carpet,
    sierpinski_points,
    sierpinski_triangle,
)


def test_box_counting_is_exact_on_the_carpet_and_the_triangle():
    carpet = box_counting(sierpinski_carpet(5), base=3)
    assert math.isclose(carpet.value, math.log(8) / math.log(3), rel_tol=1e-12) and carpet.high - carpet.low < 1e-10
    assert list(carpet.measures) == [8**5, 8**4, 8**3, 8**2]
    triangle = box_counting(sierpinski_triangle(8))
    assert math.isclose(triangle.value, math.log(3) / math.log(2), rel_tol=1e-12)


@pytest.mark.parametrize("shape, wanted", [((256,), 1), ((64, 64), 2), ((16, 16, 16), 3)])
def test_box_counting_of_full_arrays_and_of_a_line(shape, wanted):
    assert math.isclose(box_counting(np.ones(shape, bool)).value, wanted, rel_tol=1e-12)
    assert math.isclose(box_counting(np.eye(128, dtype=bool)).value, 1.0, rel_tol=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_box_counting_does_not_mind_flips_and_transposes(seed):
    mask = np.random.default_rng(seed).random((32, 32)) < 0.05
    if mask.any():
        one, other, turned = (box_counting(m) for m in (mask, mask[::-1, ::-1], mask.T))
        assert one.value == other.value == turned.value and one.low <= one.value <= one.high


@pytest.mark.parametrize("hurst", [0.3, 0.5, 0.7])
def test_fractional_brownian_motion_has_its_covariance(hurst):
    rng = np.random.default_rng(0)
    paths = np.array([fractional_brownian(64, hurst, rng) for _ in range(4000)])
    t = np.array([0, 9, 31, 63])
    s = t + 1.0
    wanted = 0.5 * (s[:, None] ** (2 * hurst) + s ** (2 * hurst) - abs(s[:, None] - s) ** (2 * hurst))
    found = paths[:, t].T @ paths[:, t] / 4000
    scale = np.sqrt(np.outer(np.diag(wanted), np.diag(wanted)))
    assert (abs(found - wanted) < 0.08 * scale).all()


@pytest.mark.parametrize("hurst, dimension", [(0.3, 1.70), (0.5, 1.50), (0.7, 1.30)])
def test_higuchi_and_dfa_of_fractional_brownian_motion(hurst, dimension):
    rng = np.random.default_rng(7)
    paths = [fractional_brownian(4096, hurst, rng) for _ in range(30)]
    by_length = [higuchi(p) for p in paths]
    assert abs(np.mean([e.value for e in by_length]) - dimension) < 0.03
    assert np.mean([e.low < dimension < e.high for e in by_length]) >= 0.7
    assert max(e.high - e.low for e in by_length) < 0.4
    by_fluctuation = [dfa(np.diff(p)) for p in paths]
    assert abs(np.mean([e.value for e in by_fluctuation]) - hurst) < 0.06


def test_higuchi_of_a_line_is_1_and_of_noise_2():
    x = np.linspace(0, 5, 2000)
    assert abs(higuchi(x).value - 1.0) < 1e-9
    assert abs(higuchi(np.random.default_rng(0).normal(size=4000)).value - 2.0) < 0.02
    assert abs(dfa(np.random.default_rng(0).normal(size=4000)).value - 0.5) < 0.06


def test_dfa_does_not_see_trends_of_its_order():
    x = np.random.default_rng(0).normal(size=2048)
    assert abs(dfa(x + 1e-2 * np.arange(2048), order=2).value - dfa(x, order=2).value) < 1e-8


def test_correlation_dimension_of_known_sets():
    rng = np.random.default_rng(0)
    t = rng.random(2000)
    curve = np.stack([np.cos(6 * t), np.sin(6 * t), 3 * t], axis=1)
    for points, wanted, slack in (
        (curve, 1.0, 0.03), (rng.random((3000, 2)), 2.0, 0.08), (sierpinski_points(3000, rng), math.log(3) / math.log(2), 0.06),
    ):  # fmt: skip
        found = correlation_dimension(points)
        assert (
            abs(found.value - wanted) < slack and found.low < found.value < found.high and found.high - found.low < 0.4
        )
    scaled = correlation_dimension(5.0 * curve[:, ::-1] + 3.0)
    assert math.isclose(scaled.value, correlation_dimension(curve).value, rel_tol=1e-6)


def test_the_jackknife_covers_repeated_samples():
    """The interval is about the mean of the estimator over samples, whose bias it does not know."""
    rng = np.random.default_rng(3)
    radii = np.geomspace(0.02, 0.2, 8)
    found = [correlation_dimension(rng.random((400, 2)), radii) for _ in range(60)]
    middle = np.mean([e.value for e in found])
    assert 0.85 <= np.mean([e.low < middle < e.high for e in found]) <= 1.0
    spread, width = np.std([e.value for e in found]), np.mean([e.high - e.low for e in found])
    assert 0.6 < width / (2 * 2.262 * spread) < 1.7


def test_a_correlation_sum_by_hand():
    points = np.arange(60.0)[:, None]
    found = correlation_dimension(points, [1.5, 3.5])
    np.testing.assert_allclose(found.measures, [2 * 59 / (60 * 59), 2 * (59 + 58 + 57) / (60 * 59)])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: box_counting(np.zeros((8, 8))), "no element of an array of shape"),
        (lambda: box_counting(np.ones((8, 8)), sizes=[2]), "two sizes of boxes or more"),
        (lambda: higuchi(np.ones(500)), "constant"),
        (lambda: higuchi(np.arange(20.0)), "8 segments of 20 samples"),
        (lambda: higuchi(np.ones((3, 500))), r"shape \(n,\), not of shape \(3, 500\)"),
        (lambda: higuchi([math.nan] * 500), "finite numbers"),
        (lambda: dfa(np.arange(40.0)), "8 segments of 40 samples have 5 each"),
        (lambda: dfa(np.random.default_rng(0).normal(size=500), confidence=95), r"confidence must be in \(0, 1\)"),
        (lambda: correlation_dimension(np.ones((60, 2))), "equal points"),
        (lambda: correlation_dimension(np.ones((4, 2))), "n of at least 50"),
        (lambda: fractional_brownian(5, 1.0, np.random.default_rng(0)), r"hurst must be in \(0, 1\)"),
    ],
)
def test_bad_input_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
