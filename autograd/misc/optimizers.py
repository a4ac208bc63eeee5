"""HIPS autograd's three optimizers, with its arguments: pure loops over ``grad(x, i)``, for any tree of arrays.

For training use ``autograd.optim``, which has states that can be saved. These are as HIPS defines them (RMSProp starts
its mean square at one, momentum is scaled by ``1 - mass``), so that a program gives the numbers that it gave.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import ops
from .flatten import flatten

Gradient = Callable[[Any, int], Any]
Callback = Callable[[Any, int, Any], Any]


def unflatten_optimizer(optimize: Callable) -> Callable:
    """Decorator: an optimizer of vectors as one of trees."""

    @functools.wraps(optimize)
    def of_trees(grad: Gradient, x0: Any, callback: Callback | None = None, *args: Any, **kwargs: Any) -> Any:
        start, unflatten = flatten(x0)
        gradient = lambda x, i: flatten(grad(unflatten(x), i))[0]
        told = None if callback is None else lambda x, i, g: callback(unflatten(x), i, unflatten(g))
        return unflatten(optimize(gradient, start, told, *args, **kwargs))

    return of_trees


@unflatten_optimizer
def sgd(
    grad: Gradient,
    x: Any,
    callback: Callback | None = None,
    num_iters: int = 200,
    step_size: float = 0.1,
    mass: float = 0.9,
) -> Any:
    """Gradient descent with momentum: v ← mass v - (1 - mass) g, x ← x + step_size v. Returns the last x."""
    velocity: Any = np.zeros_like(x)
    for i in range(num_iters):
        g = grad(x, i)
        if callback is not None:
            callback(x, i, g)
        velocity = mass * velocity - (1.0 - mass) * g
        x = x + step_size * velocity
    return x


@unflatten_optimizer
def rmsprop(
    grad: Gradient, x: Any, callback: Callback | None = None, num_iters: int = 100, step_size: float = 0.1,
    gamma: float = 0.9, eps: float = 1e-8,
) -> Any:  # fmt: skip
    """Steps divided by the root of a running mean of the squared gradient (Tieleman & Hinton 2012). Returns the last x."""
    square: Any = np.ones_like(x)
    for i in range(num_iters):
        g = grad(x, i)
        if callback is not None:
            callback(x, i, g)
        square = gamma * square + (1.0 - gamma) * g**2
        x = x - step_size * g / (ops.sqrt(square) + eps)
    return x


@unflatten_optimizer
def adam(
    grad: Gradient, x: Any, callback: Callback | None = None, num_iters: int = 100, step_size: float = 0.001,
    b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8,
) -> Any:  # fmt: skip
    """Adam (Kingma & Ba 2014, arXiv 1412.6980, algorithm 1). Returns the last x."""
    mean: Any = np.zeros_like(x)
    square: Any = np.zeros_like(x)
    for i in range(num_iters):
        g = grad(x, i)
        if callback is not None:
            callback(x, i, g)
        mean = b1 * mean + (1.0 - b1) * g
        square = b2 * square + (1.0 - b2) * g**2
        step = mean / (1.0 - b1 ** (i + 1))
        x = x - step_size * step / (ops.sqrt(square / (1.0 - b2 ** (i + 1))) + eps)
    return x
