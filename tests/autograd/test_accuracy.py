"""Values and gradients where a plain formula loses all its digits: tails, seams, overflow, cancellation.

``benchmarks/accuracy.py`` measures every row against references of many digits; here are the cases that once were wrong, with
true values computed by mpmath at 60 digits.
"""

import math

import numpy as np
import pytest

from autograd import grad, ops


def slope(f, x):
    return grad(lambda x: ops.sum(f(x)))(np.array([x]))[0]


@pytest.mark.parametrize(
    ("f", "x", "true"),
    [
        (ops.asin, -0.9999999795854092, 4948.896402612804),
        (ops.acos, -0.9999999795854092, -4948.896402612804),
        (ops.atanh, -0.9999999795854092, 24492289.87092139),
        (ops.expm1, -87.3, 1.2200571905766424e-38),
        (ops.log10, 1.5e308, 2.8952965460216786e-309),
        (ops.erf, 21.970355342901186, 1.5176384149637546e-210),
        (ops.erfc, -8.603900909423828, -8.0424060655446e-33),
        (ops.ndtr, -33.13632368922168, 1.2063404398230757e-239),
        (ops.ndtri, 0.9999999999999976, 50932824486661.01),
        (ops.log_ndtr, -711.707034154272, 711.7084392168985),
        (ops.log_ndtr, 24.358916020249247, 4.904042906089124e-130),
        (ops.gelu, -12.445873260498047, -1.143182229498e-33),
        (ops.rgamma, 1e-310, 1.0),
        (ops.i1, 1e-310, 0.5),
        (ops.sinc, 137907.5625, -2.7840126049e-6),
    ],
)
def test_slopes(f, x, true):
    mp = pytest.importorskip("mpmath").mp
    assert mp.dps > 0
    assert slope(f, x) == pytest.approx(true, rel=1e-9)
