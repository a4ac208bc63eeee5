"""scipy.integrate.odeint, differentiable by the adjoint method."""

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.integrate as _integrate

from .. import ops
from ..differential import make_vjp
from ..extend import defvjp_argnums, primitive
from ..misc.flatten import flatten

__all__ = ["odeint"]


@primitive
def _solve(func: Callable, y0: Any, t: Any, args: tuple, **options: Any) -> Any:
    return _integrate.odeint(func, y0, t, args, **options)


def odeint(func: Callable, y0: Any, t: Any, args: tuple = (), **options: Any) -> Any:
    """The solution of dy/dt = func(y, t, *args), y(t[0]) = y0, at the times ``t``: an array (times, dimensions).

    Differentiable in ``y0``, ``t`` and ``args`` (a tuple of arrays or trees of them), to every order. The gradient is found by
    solving the adjoint equation backwards from one time to the one before (Fröhlich et al. 2017, arXiv 1711.08079, section
    2.4.2), so memory does not grow with the solver's steps, and accuracy is that of the solver: ``options`` (``rtol``, ``atol``,
    ``mxstep``, …) are scipy.integrate.odeint's and hold for both directions.
    """
    if options.get("full_output") or options.get("tfirst"):
        raise TypeError("odeint: full_output and tfirst are not supported here; call scipy.integrate.odeint for them")
    return _solve(func, y0, t, tuple(args), **options)


def _rule(argnums: tuple[int, ...], ys: Any, call: tuple, options: dict[str, Any]) -> Callable:
    func, _y0, times, args = call
    n = ys.shape[1]
    vector, unflatten = flatten(args)

    def flat(y: Any, t: Any, parameters: Any) -> Any:
        return _vector(func(y, t, *unflatten(parameters)))

    def backwards(state: Any, t: Any, parameters: Any) -> Any:
        """The equation of the state (y, its cotangent, those of the time and of the parameters)."""
        pull, slope = make_vjp(flat, (0, 1, 2))(state[:n], t, parameters)
        gy, gt, gp = pull(-state[n : 2 * n])
        return ops.concat([slope, gy, ops.reshape(gt, shape=(1,)), gp], axis=0)

    def pull(g: Any) -> list:
        gy, gp, gt0 = g[-1], vector * 0.0, ys[0, 0] * 0.0
        at_times: list[Any] = []
        for i in range(len(times) - 1, 0, -1):
            moved = ops.sum(flat(ys[i], times[i], vector) * g[i])  # of measuring a little later
            at_times.append(moved)
            gt0 = gt0 - moved
            state = ops.concat([ys[i], gy, ops.reshape(gt0, shape=(1,)), gp], axis=0)
            state = odeint(backwards, state, ops.stack([times[i], times[i - 1]], axis=0), (vector,), **options)[1]
            gy, gt0, gp = state[n : 2 * n] + g[i - 1], state[2 * n], state[2 * n + 1 :]
        gradients = {1: gy, 2: ops.stack([gt0, *at_times[::-1]], axis=0), 3: unflatten(gp)}
        return [gradients[i] for i in argnums]

    return pull


def _vector(slope: Any) -> Any:
    """What a user's function returns, as a vector: a list of numbers or tensors is allowed."""
    if isinstance(slope, list | tuple):
        return ops.stack([s if hasattr(s, "shape") else np.asarray(s)[()] for s in slope], axis=0)
    return slope


defvjp_argnums(_solve, _rule)
