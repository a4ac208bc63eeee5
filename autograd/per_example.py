"""What the examples of a batch say one by one: gradients, their norms, their noise.

All of it is ``vmap`` of a gradient. ``loss(params, *example)`` is the loss of *one* example: the arrays after ``params``
hold the examples along their first axis, and the function gets them without it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import optree

from . import backend, ops
from .batching import vmap
from .packing import tensor
from .shapes import shape_of
from .tensor import DiffTensor
from .transforms import grad

_map: Callable = optree.tree_map


def per_example_gradients(loss: Callable, params: Any, *examples: Any) -> Any:
    """The gradient of ``loss(params, *example)`` with respect to ``params`` for each example.

    Args:
        loss: a function of the parameters (a tree of arrays) and of one example that returns a number.
        params: the tree of parameters.
        examples: trees of arrays with the examples along their first axis.

    Returns:
        A tree like ``params`` with an axis more, the first: the examples. It holds as many numbers as there are parameters
        *times* examples; ``per_example_norms`` returns only one number for each example.
    """
    return vmap(grad(loss), (None, *(0 for _ in examples)))(params, *examples)


def per_example_norms(loss: Callable, params: Any, *examples: Any) -> Any:
    """The Euclidean norm, over all parameters, of each example's gradient: (examples,). See ``per_example_gradients``."""

    def norm(*example: Any) -> Any:
        return ops.sqrt(_square(grad(loss)(params, *example)))

    return vmap(norm)(*examples)


def _square(tree: Any) -> Any:
    """The sum of the squared magnitudes of all elements of a tree."""
    total: Any = 0.0
    for g in optree.tree_leaves(tree):
        size = ops.abs(g) if backend.is_complex(g.dtype) else g
        total = total + ops.sum(size * size)
    return total


def functional_call(module: Any, params: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
    """``module(*args, **kwargs)`` with other values in the place of its parameters: a function of them, for transforms.

    Args:
        module: an ``autograd.nn.Module``. Put it into ``eval()`` mode if it has batch normalisation.
        params: arrays or tensors by the parameters' names (``dict(module.named_parameters())`` has them all); parameters
            that are not named keep their values.

    ``per_example_gradients(lambda p, x, y: loss(functional_call(model, p, x), y), params, xs, ys)`` are the gradients of a
    model. The module is changed while it runs, so it must not be used by two threads at once.

    Raises:
        ValueError: a name that no parameter has, or another shape.
    """
    own = dict(module.named_parameters())
    for name, value in params.items():
        if name not in own:
            raise ValueError(f"functional_call: there is no parameter {name!r}; there are {', '.join(own) or 'none'}")
        if shape_of(value) != tuple(own[name].shape):
            raise ValueError(
                f"functional_call: {name} has shape {tuple(own[name].shape)}, the new value {shape_of(value)}"
            )
    before = [(own[name], own[name].raw, own[name].node) for name in params]
    try:
        for (parameter, _, _), value in zip(before, params.values(), strict=True):
            new = tensor(value)
            parameter.raw, parameter.node = new.raw, new.node
        taken = {id(parameter) for parameter, _, _ in before}
        return _map(lambda x: DiffTensor._wrap(x.raw, x.node) if id(x) in taken else x, module(*args, **kwargs))
    finally:
        for parameter, raw, node in before:
            parameter.raw, parameter.node = raw, node


class NoiseScale(NamedTuple):
    """The noise of the gradient of one example against the gradient itself.

    Attributes:
        scale: the simple noise scale tr Σ / |G|²: around as many examples make a batch whose noise is as large as its
            gradient, and beyond that a larger batch pays off less and less. Infinite where |G|² is estimated as 0 or less.
        trace: tr Σ, the summed variance of one example's gradient, estimated.
        gradient: |G|², the squared norm of the true gradient, estimated without bias (so it may be negative).
        examples: how many examples it was estimated from.
    """

    scale: float
    trace: float
    gradient: float
    examples: int


def gradient_noise_scale(loss: Callable, params: Any, *examples: Any) -> NoiseScale:
    """The gradient noise scale B = tr Σ / |G|² (McCandlish et al. 2018, An Empirical Model of Large-Batch Training, eq. 2.9).

    With the gradients gᵢ of n examples and their mean ḡ: tr Σ = (mean |gᵢ|² - |ḡ|²) · n / (n - 1), and
    |G|² = |ḡ|² - tr Σ / n, which are without bias (their appendix A.1 with batches of 1 and n). The gradients of all
    examples are held at once.

    Raises:
        ValueError: fewer than two examples.
    """
    gradients = per_example_gradients(loss, params, *examples)
    n = _count("gradient_noise_scale", gradients)
    each = float(_square(gradients)) / n
    mean = float(_square(_map(lambda g: ops.mean(g, axis=0), gradients)))
    trace = max(each - mean, 0.0) * n / (n - 1)
    true = mean - trace / n
    return NoiseScale(trace / true if true > 0 else np.inf, trace, true, n)


def gradient_signal_to_noise(loss: Callable, params: Any, *examples: Any, eps: float = 0.0) -> Any:
    """The squared mean of each parameter's gradient over the examples, divided by its variance (plus eps).

    The gradient signal-to-noise ratio of Liu et al. 2020 (Understanding Why Neural Networks Generalize Well Through GSNR of
    Parameters, eq. 1), with the unbiased variance: a tree like ``params``. It is 0 where both are 0, and infinite where
    only the variance is.

    Raises:
        ValueError: fewer than two examples.
    """
    gradients = per_example_gradients(loss, params, *examples)
    _count("gradient_signal_to_noise", gradients)

    def ratio(g: Any) -> Any:
        mean, var = ops.abs(ops.mean(g, axis=0)), ops.var(g, axis=0, correction=1) + eps
        nothing = ops.equal(var, 0)
        certain = ops.where(ops.equal(mean, 0), 0.0, np.inf)
        return ops.where(nothing, ops.astype(certain, var.dtype), mean * mean / ops.where(nothing, 1.0, var))

    return _map(ratio, gradients)


def _count(name: str, gradients: Any) -> int:
    leaves = optree.tree_leaves(gradients)
    if not leaves:
        raise ValueError(f"{name}: there are no parameters")
    n = shape_of(leaves[0])[0]
    if n < 2:
        raise ValueError(f"{name}: a variance needs at least two examples, not {n}")
    return n
