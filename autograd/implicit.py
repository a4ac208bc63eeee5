"""Implicit differentiation: solutions of equations as differentiable functions of what the equations depend on.

``root`` solves f(x, *args) = 0, ``fixed_point`` x = f(x, *args), and ``linear_solve`` A(x, *args) = b for a function A
that is linear in x. How the solution was found is not differentiated: by the implicit function theorem,
dx = -(∂f/∂x)⁻¹ (∂f/∂args) dargs, the gradient of a loss with cotangent g is -(∂f/∂args)ᵀ w, where (∂f/∂x)ᵀ w = g is
solved by ``linear_solve`` (Christianson 1994; Blondel et al. 2022, Efficient and Modular Implicit Differentiation). The
memory does not grow with the number of iterations, and since ``linear_solve`` is differentiable in the same way,
derivatives of every order exist.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import optree
import scipy.optimize
import scipy.sparse.linalg

from .custom import constant, custom_vjp, is_variable
from .packing import Packing, is_tracked, tensor
from .tensor import DiffTensor
from .transforms import finish, vjp

_map: Callable = optree.tree_map
_flatten: Callable[[Any], tuple[list[Any], Any]] = optree.tree_flatten  # type: ignore[assignment]
_SMALL = 200  # unknowns for which a dense Jacobian is affordable


class ConvergenceError(RuntimeError):
    """A solver did not converge; the message has its residual."""


def root(
    f: Callable,
    x0: Any,
    args: tuple = (),
    *,
    method: str | None = None,
    tol: float | None = None,
    options: dict[str, Any] | None = None,
) -> Any:
    """x with f(x, *args) = 0, near x0; differentiable in ``args`` (not in x0).

    Args:
        f: a function of x (a tree of arrays) and ``args`` that returns a tree of x's structure and shapes.
        x0: where to start.
        args: everything tracked that f depends on.
        method: of ``scipy.optimize.root``: by default "hybr" for up to 200 unknowns and "krylov" for more.
        tol: the solver's tolerance; by default the dtype's precision to the power 3/4 (2e-12 in float64).
        options: passed to the solver.

    ∂f/∂x must be invertible at the solution. Inside ``vmap`` the examples are solved as one system.

    Raises:
        ConvergenceError: there is no convergence. ValueError: f does not return x's structure and shapes, or depends on
        something tracked that is not in ``args``.
    """

    def solve(args: tuple) -> Any:
        where = _packing("root", f, x0, args)
        tolerance = where.eps**0.75 if tol is None else tol

        def residual(v: np.ndarray) -> np.ndarray:
            return where.pack(f(where.unpack(v), *args))

        start = where.pack(x0)
        if not start.size:
            return where.unpack(start)
        how = method or ("hybr" if start.size <= _SMALL else "krylov")
        found = scipy.optimize.root(residual, start, method=how, tol=tolerance, options=options)
        if not found.success:
            size = float(np.max(np.abs(residual(found.x))))
            raise ConvergenceError(
                f"root: {how} stopped with a residual of {size:.3g}: {' '.join(str(found.message).split())}"
            )
        return where.unpack(found.x)

    return _implicit(f, solve, x0, args)


def fixed_point(f: Callable, x0: Any, args: tuple = (), *, tol: float | None = None, max_steps: int = 10_000) -> Any:
    """x = f(x, *args) by repeating it from x0; differentiable in ``args`` (not in x0).

    Args:
        f: a contraction near the solution: a function of x (a tree of arrays) and ``args`` that returns a tree of x's
            structure and shapes.
        x0: where to start.
        args: everything tracked that f depends on.
        tol: the largest change in a step, relative to 1 + |x|, at which it ends; by default the dtype's precision to the
            power 3/4 (2e-12 in float64).
        max_steps: after so many steps it gives up.

    Raises:
        ConvergenceError: there is no convergence. ValueError: f does not return x's structure and shapes, or depends on
        something tracked that is not in ``args``.
    """

    def solve(args: tuple) -> Any:
        where = _packing("fixed_point", f, x0, args)
        tolerance = where.eps**0.75 if tol is None else tol
        x, change = where.pack(x0), 0.0
        for _ in range(max_steps):
            new = where.pack(f(where.unpack(x), *args))
            if not np.all(np.isfinite(new)):
                change = np.inf
                break
            change = float(np.max(np.abs(new - x) / (1.0 + np.abs(new)), initial=0.0))
            x = new
            if change <= tolerance:
                return where.unpack(x)
        raise ConvergenceError(
            f"fixed_point: the last step changed x by {change:.3g}, more than {tolerance:.3g}; f may be no contraction here (use "
            "root() then), or max_steps be too few"
        )

    return _implicit(lambda x, *args: _map(lambda a, b: a - tensor(b), f(x, *args), x), solve, x0, args)


def linear_solve(
    matvec: Callable,
    b: Any,
    args: tuple = (),
    *,
    method: str = "gmres",
    tol: float | None = None,
    max_steps: int | None = None,
) -> Any:
    """x with A(x, *args) = b, for a function A that is linear in x; differentiable in b and ``args``.

    Args:
        matvec: A: takes x (of b's structure and shapes) and ``args``, and returns a tree of b's structure and shapes.
        b: the right side, a tree of arrays.
        args: everything tracked that A depends on.
        method: "gmres", or "cg" if A is symmetric (Hermitian) and positive definite: SciPy's.
        tol: of the residual relative to b; by default the dtype's precision to the power 3/4 (2e-12 in float64).
        max_steps: after so many iterations it gives up (10 times the number of unknowns by default).

    Inside ``vmap`` the examples are solved as one system.

    Raises:
        ConvergenceError: there is no convergence. ValueError: ``matvec`` does not return b's structure and shapes, or
        depends on something tracked that is not in ``args``.
    """
    if method not in ("gmres", "cg"):
        raise ValueError(f'linear_solve: method must be "gmres" or "cg", not {method!r}')

    def solve(b: Any, args: tuple) -> Any:
        where = _packing("linear_solve", matvec, b, args)
        right, n = where.pack(b), where.size
        operator = scipy.sparse.linalg.LinearOperator(
            (n, n), matvec=lambda v: where.pack(matvec(where.unpack(v), *args)), dtype=right.dtype
        )
        rtol = where.eps**0.75 if tol is None else tol
        steps = 10 * n if max_steps is None else max_steps
        if not np.any(right):
            return where.unpack(right)
        if method == "cg":
            x, failed = scipy.sparse.linalg.cg(operator, right, rtol=rtol, atol=0.0, maxiter=steps)
        else:
            restart = min(n, 100)
            x, failed = scipy.sparse.linalg.gmres(
                operator, right, rtol=rtol, atol=0.0, restart=restart, maxiter=-(-steps // restart)
            )
        if failed:
            size = float(np.linalg.norm(operator.matvec(x) - right) / np.linalg.norm(right))
            raise ConvergenceError(
                f"linear_solve: {method} stopped with a relative residual of {size:.3g}, more than {rtol:.3g}"
            )
        return where.unpack(x)

    def forward(b: Any, args: tuple) -> tuple:
        x = solve(constant(b), constant(args))
        return x, (x, args)

    def backward(kept: tuple, g: Any) -> tuple:
        x, args = kept

        def transposed(u: Any, x: Any, args: tuple) -> Any:
            return vjp(lambda v: matvec(v, *args), constant(x))[1](u)[0]

        w = linear_solve(transposed, g, (constant(x), args), method=method, tol=tol, max_steps=max_steps)
        return w, _pulled(matvec, x, args, w)

    solved = custom_vjp(lambda b, args: solve(constant(b), constant(args))).defvjp(forward, backward)
    return _plain(solved(_map(tensor, b), tuple(args)), b, args)


def _implicit(f: Callable, solve: Callable, x0: Any, args: tuple) -> Any:
    """The solution of f(x, *args) = 0 that ``solve`` finds, with its derivative."""

    def forward(args: tuple) -> tuple:
        x = solve(constant(args))
        return x, (x, args)

    def backward(kept: tuple, g: Any) -> tuple:
        x, args = kept

        def transposed(u: Any, x: Any, args: tuple) -> Any:
            return vjp(lambda v: f(v, *args), x)[1](u)[0]

        return (_pulled(f, x, args, linear_solve(transposed, g, (x, args))),)

    solved = custom_vjp(lambda args: solve(constant(args))).defvjp(forward, backward)
    return _plain(solved(tuple(args)), x0, args)


def _plain(x: Any, *given: Any) -> Any:
    """A solution as plain arrays, if no tensor was passed in and nothing is tracked."""
    plain = not any(isinstance(leaf, DiffTensor) for leaf in _flatten(given)[0])
    return _map(lambda leaf: finish(leaf, plain), x)


def _pulled(f: Callable, x: Any, args: tuple, w: Any) -> tuple:
    """-(∂f/∂args)ᵀ w, with None for what has no gradient."""
    leaves, tree = _flatten(args)
    places = [i for i, a in enumerate(leaves) if is_variable(a)]
    found: list = [None] * len(leaves)

    def of(*variables: Any) -> Any:
        full = list(leaves)
        for i, v in zip(places, variables, strict=True):
            full[i] = v
        return f(x, *optree.tree_unflatten(tree, full))  # type: ignore[misc]

    if places:
        for i, d in zip(places, vjp(of, *(leaves[i] for i in places))[1](_map(lambda u: -u, w)), strict=True):
            found[i] = d
    return optree.tree_unflatten(tree, found)  # type: ignore[return-value]


def _packing(name: str, f: Callable, x0: Any, args: tuple) -> Packing:
    """How to pack x, for a solver; also checks what f returns."""
    x0 = constant(_map(tensor, x0))
    Packing(x0)  # a symbolic x0 has no value to start from, and is refused here
    y = f(x0, *args)
    leaves = optree.tree_leaves(y)
    if any(map(is_tracked, leaves)):
        raise ValueError(f"{name}: the function depends on something tracked that is not in args; pass it there")
    where = Packing(x0, y)
    try:
        where.pack(y)
    except ValueError as error:
        raise ValueError(
            f"{name}: the function must return the structure and shapes of its first argument: {error}"
        ) from None
    return where
