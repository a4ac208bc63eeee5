"""``odeint``: solutions of ordinary differential equations, differentiable by the adjoint method.

The forward solution is SciPy's (``scipy.integrate.solve_ivp``: adaptive Dormand-Prince and others). Its gradient is
another differential equation, for the adjoint a(t) = dL/dy(t), solved backwards in time (Pontryagin et al. 1962; Chen et
al. 2018, Neural Ordinary Differential Equations, algorithm 1)::

    dy/dt = f(y, t, args)    da/dt = -(∂f/∂y)ᵀ a    d(dL/dargs)/dt = -(∂f/∂args)ᵀ a

restarted at each output time from the stored y. It is solved by ``odeint`` itself, so derivatives of every order exist,
and the memory does not grow with the number of steps.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import optree
import scipy.integrate

from . import backend
from .batch import Batch, physical
from .custom import constant, custom_vjp, is_variable
from .implicit import ConvergenceError
from .ops.layout import stack
from .packing import Packing, is_tracked, tensor
from .tensor import DiffTensor
from .transforms import finish, vjp

_map: Callable = optree.tree_map
_flatten: Callable[[Any], tuple[list[Any], Any]] = optree.tree_flatten  # type: ignore[assignment]


def odeint(
    f: Callable,
    y0: Any,
    t: Any,
    *args: Any,
    rtol: float = 1e-8,
    atol: float = 1e-10,
    method: str = "DOP853",
    **options: Any,
) -> Any:
    """The solution of dy/dt = f(y, t, *args), y(t[0]) = y0, at the times t; differentiable in y0, t and ``args``.

    Args:
        f: a function of y (a tree of arrays), the time (a tensor without axes) and ``args`` that returns a tree of y's
            structure and shapes.
        y0: the tree of initial values.
        t: times, ascending or descending: a vector of at least two.
        args: everything tracked that f depends on; trees.
        rtol, atol: local error allowed, relative and absolute, of the solution and of its adjoint.
        method, options: of ``scipy.integrate.solve_ivp``: "DOP853" (order 8), "RK45" (Dormand & Prince 1980), "RK23",
            and for stiff equations "Radau", "BDF" or "LSODA".

    Returns:
        A tree like y0 with an axis more, the first: the times.

    Inside ``vmap`` the examples are solved as one system, with common steps; the times must be the same for all.

    Raises:
        ConvergenceError: the solver gave up. ValueError: f does not return y's structure and shapes, depends on something
        tracked that is not in ``args``, or the times are not monotonic.
    """
    settings = {"rtol": rtol, "atol": atol, "method": method, **options}

    def solve(y0: Any, t: Any, args: tuple) -> Any:
        times = _times(t)
        where = _packing(f, y0, times[0], args)

        def rate(s: float, v: np.ndarray) -> np.ndarray:
            return where.pack(f(where.unpack(v), tensor(s), *args))

        start = where.pack(y0)
        if not start.size:
            return _map(lambda y: stack([y] * len(times), axis=0), where.unpack(start))
        found = scipy.integrate.solve_ivp(rate, (times[0], times[-1]), start, t_eval=times, **settings)
        if not found.success:
            raise ConvergenceError(f"odeint: {found.message}")
        return _map(lambda *ys: stack(list(ys), axis=0), *(where.unpack(v) for v in found.y.T))

    def forward(y0: Any, t: Any, args: tuple) -> tuple:
        ys = solve(constant(y0), constant(t), constant(args))
        return ys, (ys, t, args)

    def backward(kept: tuple, g: Any) -> tuple:
        ys, t, args = kept
        return _adjoint(f, ys, t, args, g, settings)

    solved = custom_vjp(lambda y0, t, args: solve(constant(y0), constant(t), constant(args))).defvjp(forward, backward)
    plain = not any(isinstance(leaf, DiffTensor) for leaf in _flatten((y0, t, args))[0])
    ys = solved(_map(tensor, y0), tensor(t), args)
    return _map(lambda y: finish(y, plain), ys)


def _adjoint(f: Callable, ys: Any, t: Any, args: tuple, g: Any, settings: dict) -> tuple:
    """Gradients of y0, t and args, from the cotangents of the solution at all times."""
    leaves, tree = _flatten(args)
    places = [i for i, a in enumerate(leaves) if is_variable(a)]
    variables = [tensor(leaves[i]) for i in places]

    def with_args(y: Any, s: Any, variables: list) -> Any:
        full = list(leaves)
        for i, v in zip(places, variables, strict=True):
            full[i] = v
        return f(y, s, *optree.tree_unflatten(tree, full))  # type: ignore[misc]

    def rates(state: tuple, s: Any, variables: list) -> tuple:
        y, a, _ = state
        dy, pull = vjp(lambda y, v: with_args(y, s, v), y, variables)
        da, dv = pull(_map(lambda x: -x, a))
        return dy, da, dv

    def at(tree: Any, i: int) -> Any:
        return _map(lambda x: x[i], tree)

    def along(a: Any, i: int) -> Any:
        """⟨a, dy/dt⟩ at a time."""
        products = _map(lambda u, v: (u * v).sum(), a, _map(tensor, with_args(at(ys, i), t[i], variables)))
        return sum(optree.tree_leaves(products))

    n = t.shape[0]
    total, adjoint = [_map(lambda v: v * 0.0, v) for v in variables], at(g, n - 1)
    of_times: list = [None] * n
    for i in range(n - 1, 0, -1):
        of_times[i] = along(at(g, i), i)
        state = (at(ys, i), adjoint, total)
        _, adjoint, total = at(odeint(rates, state, stack([t[i], t[i - 1]], axis=0), variables, **settings), 1)
        if i > 1:
            adjoint = _map(lambda a, b: a + b, adjoint, at(g, i - 1))
    of_times[0] = -along(adjoint, 0)
    found: list = [None] * len(leaves)
    for i, d in zip(places, total, strict=True):
        found[i] = d
    of_y0 = _map(lambda a, b: a + b, adjoint, at(g, 0))
    return of_y0, stack(of_times, axis=0), optree.tree_unflatten(tree, found)  # type: ignore[arg-type]


def _times(t: DiffTensor) -> np.ndarray:
    raw = t.raw
    while type(raw) is Batch:
        if raw.mapped:
            raise TypeError(
                "odeint: the times must be the same for all examples of vmap; rescale the time of each instead"
            )
        raw = raw.value.raw
    times = np.asarray(backend.to_device(physical(raw), "cpu"), dtype=float)
    steps = np.diff(times)
    if times.ndim != 1 or len(times) < 2 or not (np.all(steps > 0) or np.all(steps < 0)):
        raise ValueError(
            f"odeint: t must be a vector of at least two times, ascending or descending, not {times!r:.80}"
        )
    return times


def _packing(f: Callable, y0: Any, start: float, args: tuple) -> Packing:
    dy = f(y0, tensor(start), *args)
    if any(map(is_tracked, optree.tree_leaves(dy))):
        raise ValueError("odeint: the function depends on something tracked that is not in args; pass it there")
    where = Packing(y0, dy)
    try:
        where.pack(dy)
    except ValueError as error:
        raise ValueError(f"odeint: the function must return the structure and shapes of y: {error}") from None
    return where
