"""Thin products of matrices: right for every shape, layout and share of the work, and made without BLAS where they are thin."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autograd import ops
from hammer.graph import Spec, UniversalGraph
from hammer.graph.native import NativePlan, products, unavailable

pytestmark = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))


def plan(f, arrays, threads=1):
    specs = [Spec(a.shape, a.dtype, f"x{i}") for i, a in enumerate(arrays)]
    return NativePlan(UniversalGraph.trace(f, *specs).optimize(exact=False), threads=threads)


def bound(a, b):
    """How far a product may be from the exact one, whatever the order of its sums (Higham 2002, section 3.5)."""
    k, unit = a.shape[-1], np.finfo(a.dtype).eps / 2
    return (k * unit / (1 - k * unit)) * (abs(a.astype(float)) @ abs(b.astype(float))) + np.finfo(a.dtype).tiny


def check(made, a, b):
    exact = a.astype(np.longdouble) @ b.astype(np.longdouble)
    assert made.shape == exact.shape and made.dtype == a.dtype
    assert (abs(made - exact) <= bound(a, b) * 1.01).all()


SIZES = st.one_of(st.integers(1, 14), st.sampled_from([16, 24, 31, 32, 33, 64, 67]))


@settings(max_examples=120, deadline=None)
@given(
    st.tuples(SIZES, SIZES, SIZES), st.sampled_from(["float32", "float64"]), st.booleans(), st.booleans(),
    st.sampled_from([(), (1,), (3,)]), st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_every_product_is_right(sizes, dtype, left, right, stack, seed):
    m, n, k = sizes
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((*stack, k, m) if left else (*stack, m, k)).astype(dtype)
    b = rng.standard_normal((*stack, n, k) if right else (*stack, k, n)).astype(dtype)
    flip = lambda x, on: ops.swapaxes(x, -1, -2) if on else x
    (made,) = plan(lambda a, b: flip(a, left) @ flip(b, right), [a, b])([a, b])
    check(made, a.swapaxes(-1, -2) if left else a, b.swapaxes(-1, -2) if right else b)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sums_of_whole_numbers_are_exact(dtype):
    """Each element, and none twice: with small whole numbers nothing is rounded."""
    rng = np.random.default_rng(0)
    for m, n, k in [(1, 8, 1), (12, 24, 3), (13, 25, 16), (32, 7, 100), (5, 100, 32), (100, 3, 64), (40, 40, 31)]:
        for right in (False, True):
            a = rng.integers(-4, 5, (m, k)).astype(dtype)
            b = rng.integers(-4, 5, (n, k) if right else (k, n)).astype(dtype)
            (made,) = plan((lambda a, b: a @ b.T) if right else (lambda a, b: a @ b), [a, b])([a, b])
            np.testing.assert_array_equal(made, a @ (b.T if right else b), err_msg=f"{(m, n, k, right)}")


@pytest.mark.parametrize(
    ("shapes", "own"),
    [
        (((256, 16), (16, 272)), True),
        (((16, 4096), (4096, 16)), True),
        (((8, 256), (256, 64)), True),
        (((256, 256), (256, 256)), False),  # not thin
        (((4096, 32), (32, 4096)), False),  # thin, but large
        (((64, 5), (5, 1)), False),  # no vectors in it
    ],
)
def test_blas_makes_what_is_not_thin(shapes, own):
    arrays = [np.zeros(s) for s in shapes]
    assert ("ptr %f" not in plan(lambda a, b: a @ b, arrays).source) == own


@pytest.mark.parametrize("shapes", [((4000, 16), (16, 24)), ((8, 32), (32, 4000)), ((50, 64, 16), (50, 16, 24))])
def test_threads_share_it_and_change_no_bit(shapes, monkeypatch):
    monkeypatch.setattr("hammer.graph.native.program.TOGETHER", 0)
    monkeypatch.setattr("hammer.graph.native.program.ALONE", 0)
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(s) for s in shapes)
    alone, together = (plan(lambda a, b: a @ b, [a, b], threads) for threads in (1, 2))
    assert "ptr %f" not in together.source and together.program.threads == 2
    (first,), (second,) = alone([a, b]), together([a, b])
    check(first, a, b)
    np.testing.assert_array_equal(first, second)


def test_tiles_keep_twelve_sums():
    for n in (4, 8, 12, 40):
        rows, columns = products.Product("double", 64, n, 16, False).tile
        lanes = products.Product("double", 64, n, 16, False).lanes
        assert rows * -(-columns // lanes) == 12


def test_runs_repeated_on_their_own_results():
    """What a run writes into its inputs is what the next one reads."""
    p = NativePlan(UniversalGraph.trace(lambda x, k: (x * k, ops.sum(x)), Spec((3,), np.float64, "x"), Spec((), np.float64, "k")).optimize(exact=False), {0: 0}, threads=1)  # fmt: skip
    x = np.array([1.0, 2.0, 3.0])
    np.testing.assert_array_equal(p.repeat([x, np.array(2.0)], 4), [6.0, 12.0, 24.0, 48.0])
    np.testing.assert_array_equal(x, [16.0, 32.0, 48.0])
