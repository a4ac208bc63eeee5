"""A check of second derivatives that needs no reference: they are symmetric."""

from collections.abc import Callable
from typing import Any

import numpy as np

from .numeric import direction, sizes
from .problem import Problem


def assert_hessian_symmetric(fun: Callable, *args: Any, rtol: float = 1e-9, seed: int = 0) -> None:
    """Check that ⟨u, Hv⟩ = ⟨v, Hu⟩ for a random weighted sum of the outputs of ``fun``, and random u and v.

    Hv is the forward derivative of the gradient, so this sets both modes, nested, against one another. It finds a rule
    that is right in value but wrong when it is differentiated again.

    Args:
        fun: a function of arrays, or trees of them, that returns an array or a tree of them. Where its own derivative rule
            is not the true derivative (``custom_vjp``), second derivatives need not be symmetric.
        rtol: relative to the sum of the magnitudes of the terms, which may cancel.

    Raises:
        AssertionError: the two products differ. TypeError: complex arguments or outputs.
    """
    problem, rng = Problem.of(fun, args), np.random.default_rng(np.random.SeedSequence(seed))
    if not (problem.inputs.real and problem.outputs.real):
        raise TypeError(
            "assert_hessian_symmetric: the function and its arguments must be real; split complex numbers into parts"
        )
    gradient = problem.pulled(direction(rng, np.ones(problem.outputs.size)))
    u, v = (direction(rng, sizes(problem.x)) for _ in range(2))
    a, b = u * gradient.push(problem.x, v), v * gradient.push(problem.x, u)
    # terms that are zero by cancellation keep the rounding of the gradient's own size
    rounding = 2.0 ** (8 - problem.bits) * float(np.abs(u) @ np.abs(gradient.value(problem.x)))
    if not abs(a.sum() - b.sum()) <= rtol * max(np.abs(a).sum(), np.abs(b).sum()) + rounding:
        raise AssertionError(
            f"second derivatives are not symmetric: ⟨u, Hv⟩ = {a.sum():.17g}, ⟨v, Hu⟩ = {b.sum():.17g}"
        )
