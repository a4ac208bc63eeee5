"""Fixed points with derivatives by the implicit function theorem."""

from collections.abc import Callable
from typing import Any

from ..differential import make_vjp
from ..extend import defvjp_argnums, primitive
from ..vspaces import vspace

Distance = Callable[[Any, Any], Any]


@primitive
def fixed_point(f: Callable, a: Any, x0: Any, distance: Distance, tol: float) -> Any:
    """x with f(a)(x) = x, by iteration from ``x0`` until ``distance(x, previous x) <= tol``.

    Differentiable in ``a``; the start has no influence. With J = ∂f/∂x at the solution the gradient is that of f(a)(x) in a,
    for the cotangent w that solves w = g + Jᵀ w, which is found by the same iteration (Christianson 1994).
    """
    step = f(a)
    previous, x = x0, step(x0)
    while distance(x, previous) > tol:
        previous, x = x, step(x)
    return x


def _rule(argnums: tuple[int, ...], ans: Any, args: tuple, _kwargs: dict) -> Callable:
    f, a, x0, distance, tol = args

    def pull(g: Any) -> list:
        space = vspace(x0)

        def adjoint(parameters: tuple) -> Callable:
            b, x, cotangent = parameters
            back, _ = make_vjp(f(b))(x)
            return lambda w: space.add(back(w), cotangent)

        found: dict[int, Any] = {i: vspace(args[i]).zeros() for i in argnums if i != 1}
        if 1 in argnums:
            w = fixed_point(adjoint, (a, ans, g), space.zeros(), distance, tol)
            found[1] = make_vjp(lambda b: f(b)(ans))(a)[0](w)
        return [found[i] for i in argnums]

    return pull


defvjp_argnums(fixed_point, _rule)
