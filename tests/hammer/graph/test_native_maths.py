"""Elementwise functions of generated code, against mpmath: within a few units in the last place, with NumPy's special values."""

import math
from collections.abc import Callable

import mpmath
import numpy as np
import pytest

from autograd import ops
from hammer.graph import Spec, UniversalGraph

native = pytest.importorskip("hammer.graph.native")
pytestmark = pytest.mark.skipif(native.unavailable() is not None, reason=str(native.unavailable()))

mpmath.mp.dps = 40
FUNCTIONS: dict[str, tuple[Callable, Callable, float, float]] = {
    "exp": (ops.exp, mpmath.exp, -110.0, 90.0),
    "expm1": (ops.expm1, mpmath.expm1, -30.0, 40.0),
    "log": (ops.log, mpmath.log, 1e-30, 1e30),
    "log1p": (ops.log1p, mpmath.log1p, -0.999, 1e6),
    "tanh": (ops.tanh, mpmath.tanh, -12.0, 12.0),
    "sigmoid": (ops.sigmoid, lambda x: 1 / (1 + mpmath.exp(-x)), -80.0, 80.0),
    "erf": (ops.erf, mpmath.erf, -5.0, 5.0),
    "erfc": (ops.erfc, mpmath.erfc, -4.0, 9.0),
    "sqrt": (ops.sqrt, mpmath.sqrt, 0.0, 1e20),
}
ULPS = {"erfc": 6.0, "expm1": 4.0, "log1p": 4.0}  # the others: 3
SPECIAL = (0.0, -0.0, math.inf, -math.inf, math.nan, 1.0, -1.0, 1e-30, -1e-30, 200.0, -200.0)


def points(low: float, high: float, dtype: np.dtype) -> np.ndarray:
    """Points over the whole range, evenly and by orders of magnitude, and near 0."""
    rng = np.random.default_rng(7)
    even = rng.uniform(low, high, 1200)
    size = 10.0 ** rng.uniform(-12, math.log10(max(abs(low), abs(high))), 1200)
    signed = np.where(rng.random(1200) < 0.5, -size, size)
    return np.concatenate([even, signed[(signed >= low) & (signed <= high)]]).astype(dtype)


def compiled(function: Callable, x: np.ndarray) -> np.ndarray:
    graph = UniversalGraph.trace(function, Spec(x.shape, x.dtype))
    plan = native.NativePlan(graph)
    assert "kernel" in plan.source, "nothing was generated"
    assert all(part.__class__.__name__ == "Native" for part in plan.program.parts)
    return plan([x])[0]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_within_units_in_the_last_place(name: str, dtype: str) -> None:
    function, exact, low, high = FUNCTIONS[name]
    x = points(low, high, np.dtype(dtype))
    got = compiled(function, x)
    assert got.dtype == x.dtype
    true = [exact(mpmath.mpf(float(v))) for v in x]
    with np.errstate(over="ignore"):
        rounded = np.array([float(t) for t in true]).astype(dtype)
    normal = np.isfinite(rounded) & (np.abs(rounded) >= np.finfo(dtype).tiny)
    errors = np.array([float(abs(mpmath.mpf(float(g)) - t)) for g, t, ok in zip(got, true, normal, strict=True) if ok])
    errors /= np.spacing(np.abs(rounded[normal])).astype(float)
    assert errors.max() <= ULPS.get(name, 3.0), (errors.max(), x[normal][errors.argmax()])
    tiny = ~normal & np.isfinite(rounded)  # results without all their bits: within two of the smallest
    assert np.all(
        np.abs(got[tiny].astype(float) - rounded[tiny].astype(float)) <= 2 * np.finfo(dtype).smallest_subnormal
    )
    assert np.array_equal(got[np.isinf(rounded)], rounded[np.isinf(rounded)])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_special_values_are_those_of_numpy(name: str, dtype: str) -> None:
    function, *_ = FUNCTIONS[name]
    x = np.array(SPECIAL, dtype)
    with np.errstate(all="ignore"):
        want = np.asarray(function(x))
    got = compiled(function, x)
    assert np.array_equal(np.isnan(got), np.isnan(want)), (got, want)
    assert np.array_equal(np.isinf(got), np.isinf(want)), (got, want)
    ok = np.isfinite(want)
    assert np.allclose(got[ok], want[ok], rtol=1e-6 if dtype == "float32" else 1e-14, atol=0)


def test_what_has_no_choice_of_rounding_has_the_bits_of_numpy() -> None:
    rng = np.random.default_rng(1)
    x, y = (rng.normal(size=(37, 53)).astype(np.float32) for _ in range(2))

    def function(x: np.ndarray, y: np.ndarray) -> object:
        z = (x * y + x - y / (x * x + 1.5)) * ops.sqrt(abs(y))
        return ops.where(z > 0.25, ops.maximum(z, y), ops.minimum(x, -y)) * 3.0 - 0.125

    plan = native.NativePlan(UniversalGraph.trace(function, Spec(x.shape), Spec(y.shape)))
    assert np.array_equal(plan([x, y])[0], np.asarray(function(x, y)))


def test_maximum_and_minimum_pass_nan_on() -> None:
    x = np.array([math.nan, 1.0, -0.0, math.inf], np.float32)
    got = compiled(lambda x: ops.maximum(x, 0.5), x)
    assert np.array_equal(got, np.maximum(x, np.float32(0.5)), equal_nan=True)
    got = native.NativePlan(UniversalGraph.trace(lambda x: ops.max(x, axis=0), Spec((4,))))([x])[0]
    assert np.isnan(got)
