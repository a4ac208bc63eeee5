"""Functions smoothed at a scale, and gradients put together from several scales.

``smooth(f, σ)`` is the function f_σ(x) = E f(x + σu) for standard normal u, estimated from n directions (Nesterov & Spokoiny 2017;
graduated optimization: Hazan, Levy & Shalev-Shwartz 2016)::

    D_σ f(x) = mean over u of ½ [∇f(x + σu) + ∇f(x − σu)]         its gradient of order 1
    Z_σ f(x) = mean over u of [f(x + σu) − f(x − σu)] u / 2σ       its gradient of order 0, which needs no derivative of f

Both are *functions*: ``value_and_grad(smooth(f, σ))`` and ``hvp(smooth(f, σ))`` are what they say, in any order and inside of any
other transform. All 2n points are one call of f, by ``vmap``.

Order 0 needs no rule of its own. With y = stop(x) + σu the estimate is written as a mean over weights that are 1 now and move with x,
w(x) = p(y; x) / p(y; stop(x)) = exp(u·δ/σ − |δ|²/2σ²), δ = x − stop(x); every derivative of w is a score function, so every derivative
of the estimate is Stein's (Stein 1981; the trick is that of Foerster et al. 2018). f(x) is the baseline of the second order and above.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import optree

from autograd import custom_vjp, grad, ops, stop_gradient, vmap
from autograd.custom import is_variable
from autograd.gradients.scaling import number, whole

from .directions import Kind, Source, directions, generator

Combine = Literal["coarse", "average", "gate"]
_map: Callable = optree.tree_map


def smooth(
    f: Callable,
    sigma: float,
    n: int = 16,
    *,
    rng: Source,
    antithetic: bool = True,
    order: Literal[0, 1] = 1,
    directions: Kind = "sobol",
) -> Callable:
    """f averaged over normal perturbations of its first argument, of standard deviation ``sigma``.

    Args:
        f: a function whose first argument is a real floating-point array or a tree of them; it returns an array or a tree. Of order 0 it
            may be flat almost everywhere (steps, counts): it is differentiated only in its other arguments.
        sigma: the scale, at least 0 (above 0 for order 0), in units of the argument.
        n: how many directions; a power of two for "sobol".
        rng: a Generator (new directions at every call) or a SeedSequence (the same at every call, so a fixed, smooth function).
        antithetic: whether each direction is used with both signs, 2n points. Order 1 is then exact on quadratics for every σ and n.
        order: 1: derivatives are those of f, averaged; 0: they are made of values of f alone (n or 2n, and one more).
        directions: "sobol" (quasi-random, up to 21,201 elements) or "gaussian".

    Returns:
        A function like f. float32 stays float32.

    Raises:
        ValueError, TypeError: a setting out of range, or (when called) an argument that is not real floating-point.
    """
    scale = number("smooth: sigma", sigma, "[0, inf)" if order else "(0, inf)")
    count = whole("smooth: n", n)
    if order not in (0, 1):
        raise ValueError(f"smooth: order must be 0 or 1, not {order!r}")
    generator(rng, "smooth")

    @functools.wraps(f)
    def smoothed(x: Any, *args: Any, **kwargs: Any) -> Any:
        u = _drawn(x, count, rng, antithetic, directions)
        return _mean(f, x, u, scale, order, args, kwargs)

    return smoothed


def _drawn(x: Any, n: int, rng: Source, antithetic: bool, kind: Kind) -> Any:
    u = directions(x, n, generator(rng, "smooth"), kind, "smooth")
    return _map(lambda a: ops.concat([a, -a], axis=0), u) if antithetic else u


def _mean(f: Callable, x: Any, u: Any, scale: float, order: int, args: tuple, kwargs: dict) -> Any:
    if order:
        values = vmap(lambda v: f(_map(lambda a, b: a + scale * b, x, v), *args, **kwargs))(u)
        return _map(lambda a: ops.mean(a, axis=0), values)
    here = stop_gradient(x)
    values = vmap(lambda v: f(_map(lambda a, b: a + scale * b, here, v), *args, **kwargs))(u)
    base = f(here, *args, **kwargs)
    moved = optree.tree_leaves(_map(lambda a, b: ops.subtract(a, b) / scale, x, here))
    score: Any = 0.0
    square: Any = 0.0
    for v, delta in zip(optree.tree_leaves(u), moved, strict=True):
        axes = tuple(range(1, len(v.shape)))
        score = score + ops.sum(ops.multiply(v, delta), axis=axes)
        square = square + ops.sum(ops.square(delta))
    weights = ops.exp(score - 0.5 * square)  # one number for each point; all are 1, their derivatives are not

    def estimate(at: Any, b: Any) -> Any:
        w = ops.reshape(weights, (*weights.shape, *(1,) * (len(at.shape) - 1)))
        return ops.add(b, ops.mean(ops.multiply(ops.subtract(at, b), w), axis=0))

    return _map(estimate, values, base)


def multiscale(
    f: Callable,
    scales: Sequence[float],
    combine: Combine = "average",
    n: int = 16,
    *,
    rng: Source,
    antithetic: bool = True,
    order: Literal[0, 1] = 1,
    directions: Kind = "sobol",
) -> Callable:
    """f seen at several scales at once.

    Args:
        f: as for ``smooth``; for "gate" it returns one number.
        scales: σ_0 > σ_1 > …, for example ``dyadic(σ_0, levels)``.
        combine: "coarse": f at σ_0 alone, which one lowers over time (see ``recipes``). "average": the mean of f over the scales, and so of
            its derivatives. "gate": the value of "average", and a gradient that begins with D_σ0; each finer scale in turn enters a
            coordinate if it agrees in sign with the scale before it and is at most twice as large, and the gradient is the mean of what
            has entered; where a scale does not enter, no finer one does. So no sign of D_σ0 is ever turned. It is the gradient of no function:
            its own derivative (``hvp``) is that of the scales that enter.
        n, rng, antithetic, order, directions: as for ``smooth``; all scales use the same directions.

    Returns:
        A function like f.

    Raises:
        ValueError: no scales, or scales that do not fall.
    """
    levels = [number(f"multiscale: scales[{j}]", s, "[0, inf)" if order else "(0, inf)") for j, s in enumerate(scales)]
    if not levels or any(a <= b for a, b in itertools.pairwise(levels)):
        raise ValueError(f"multiscale: scales must be one or more falling numbers, not {list(scales)}")
    if combine not in ("coarse", "average", "gate"):
        raise ValueError(f"multiscale: combine must be 'coarse', 'average' or 'gate', not {combine!r}")
    count = whole("multiscale: n", n)
    generator(rng, "multiscale")
    used = levels[:1] if combine == "coarse" else levels

    @functools.wraps(f)
    def seen(x: Any, *args: Any, **kwargs: Any) -> Any:
        u = _drawn(x, count, rng, antithetic, directions)

        def at(scale: float) -> Callable:
            return lambda y, *rest: _mean(f, y, u, scale, order, rest, kwargs)

        def average(y: Any, *rest: Any) -> Any:
            return _average([at(s)(y, *rest) for s in used])

        if combine != "gate" or len(used) == 1:
            return average(x, *args)

        def backward(given: tuple, g: Any) -> tuple:
            y, *rest = given
            own = _map(lambda d: g * d, gated([grad(at(s))(y, *rest) for s in used]))
            others = [
                _of_variables(lambda a, i=i: average(y, *rest[:i], a, *rest[i + 1 :]), a, g) for i, a in enumerate(rest)
            ]
            return (own, *others)

        ruled = custom_vjp(average)
        ruled.defvjp(lambda *given: (average(*given), given), backward)
        return ruled(x, *args)

    return seen


def _average(values: list) -> Any:
    return _map(lambda *v: functools.reduce(lambda a, b: a + b, v) * (1.0 / len(v)), *values)


def _of_variables(value: Callable, argument: Any, g: Any) -> Any:
    """g times the gradient of ``value`` with respect to those leaves of an argument that can have one; None for the others."""
    leaves, spec = optree.tree_flatten(argument, none_is_leaf=True)
    places = [i for i, x in enumerate(leaves) if is_variable(x)]

    def of(some: list) -> Any:
        full = list(leaves)
        for i, x in zip(places, some, strict=True):
            full[i] = x
        return value(optree.tree_unflatten(spec, full))

    found: list = [None] * len(leaves)
    for i, d in zip(places, grad(of)([leaves[i] for i in places]) if places else [], strict=True):
        found[i] = g * d
    return optree.tree_unflatten(spec, found)


def gated(gradients: Sequence[Any]) -> Any:
    """Gradients at falling scales, as trees of one structure, put together by the gate of ``multiscale``."""

    def one(*leaves: Any) -> Any:
        total, before = leaves[0], leaves[0]
        entered: Any = 1.0
        count: Any = 1.0
        for finer in leaves[1:]:
            a, b = stop_gradient(before), stop_gradient(finer)
            agrees = ops.logical_and(ops.greater(a * b, 0.0), ops.less_equal(ops.abs(b), 2.0 * ops.abs(a)))
            entered = ops.astype(agrees, finer.dtype) * entered
            total, count, before = total + entered * finer, count + entered, finer
        return total / count

    return _map(one, *gradients)


def dyadic(sigma: float, levels: int) -> tuple[float, ...]:
    """The scales σ, σ/2, σ/4, …: ``levels`` of them."""
    first = number("dyadic: sigma", sigma, "(0, inf)")
    return tuple(first * 2.0**-j for j in range(whole("dyadic: levels", levels)))
