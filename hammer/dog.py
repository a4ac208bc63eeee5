"""L-DoG: gradient descent that finds its own step size, "distance over gradients".

For every parameter x with start x_0 and gradients g_0 … g_t (Ivgi, Hinder & Carmon, "DoG is SGD's best friend", ICML 2023,
the variant for each layer; norms are over the tensor):

    η_t = max(r_ε, max over i ≤ t of ‖x_i − x_0‖) / √(Σ_{i ≤ t} ‖g_i‖² + ε)        r_ε = reps (1 + ‖x_0‖)
    x_{t+1} = x_t − η_t g_t

Nothing is left to be tuned: r_ε is only how far the first step goes, and is outgrown within a few of them. So it can take
part in comparisons under the rules "self-tuning". It is a link like any other, and the last of its chain.
"""

from typing import Any

from autograd import backend
from autograd.gradients import GradientTransform, leafwise
from autograd.gradients.scaling import number


def ldog(reps: float = 1e-6, eps: float = 1e-8) -> GradientTransform:
    """The gradient transform of L-DoG.

    Args:
        reps: how far the first step goes at most, as a part of 1 + ‖x_0‖; above 0.
        eps: ε, in units of the gradient squared; above 0.

    State of each parameter: a count, ``start`` of its shape, and the numbers ``far`` and ``squares``.

    Raises:
        ValueError, TypeError: a setting out of range; the message names it.
    """
    first, small = number("ldog: reps", reps, "(0, inf)"), number("ldog: eps", eps, "(0, inf)")

    def kernel(g: Any, p: Any, _t: int, start: Any, far: Any, squares: Any) -> Any:
        xp = backend.xp(g)
        moved = p - start
        far[...] = xp.maximum(far, xp.sqrt(xp.sum(moved * moved)))
        squares += xp.sum(g * g)
        return g * (-far / xp.sqrt(squares + small))

    def as_it_is(p: Any) -> Any:
        return backend.xp(p).asarray(p, copy=True)

    def first_step(p: Any) -> Any:
        xp = backend.xp(p)
        return xp.asarray(first * (1.0 + xp.sqrt(xp.sum(p * p))), dtype=p.dtype)

    def nothing(p: Any) -> Any:
        return backend.xp(p).zeros((), dtype=p.dtype)

    return leafwise(kernel, {"start": as_it_is, "far": first_step, "squares": nothing}, elementwise=False)
