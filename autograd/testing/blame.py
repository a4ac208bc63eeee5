"""``wrong_ops``: which operation of a function has the wrong derivative.

A function's derivative is wrong because a rule is wrong, or because the gradient was lost between the operations (by
``.numpy()``, ``detach`` or ``stop_gradient``, or a number taken out of a tensor). Every operation that the function runs
is seen by an observer, with the arrays it ran on, and its own derivative is checked there, alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import optree

from ..backend import is_array
from ..batch import Batch
from ..context import AutogradContext, caller
from ..tensor import DiffTensor
from .check import NotDifferentiable, Options, Undecided, WrongDerivative, check_problem
from .numeric import NOT_FOR_COMPLEX
from .problem import Problem


@dataclass(frozen=True)
class WrongOp:
    """An operation whose derivative is wrong at the arrays that it was seen with.

    Attributes:
        name: of the row of the op table, the primitive or the custom function.
        inputs: the raw arrays and numbers that it ran on.
        params: its parameters.
        where: ``file:line in function`` of the call.
        message: what is wrong, as ``check_grads`` says it.
    """

    name: str
    inputs: tuple
    params: dict[str, Any]
    where: str
    message: str

    def __str__(self) -> str:
        shapes = [f"{x.dtype}{tuple(x.shape)}" if is_array(x) else repr(x) for x in self.inputs]
        given = ", ".join([*shapes, *(f"{k}={v!r}" for k, v in self.params.items())])
        return f"{self.name}({given}) at {self.where}: {self.message}"


def wrong_ops(fn: Callable, *args: Any, rtol: float = 1e-6, most: int = 1000) -> list[WrongOp]:
    """The operations that ``fn`` runs at ``args`` whose own first derivative is wrong there, in the order they ran.

    Args:
        fn, args: as for ``check_grads``.
        rtol: the relative error allowed.
        most: after so many operations the rest is not looked at.

    Operations inside of ``vmap`` are not looked at. An empty list, though ``check_grads`` finds the derivative of ``fn``
    wrong, means that the gradient is lost between operations.
    """
    problem = Problem.of(fn, args)
    seen: list[tuple[Any, tuple, dict, str]] = []

    def see(row: Any, inputs: tuple, params: dict, _outputs: tuple) -> None:
        if len(seen) < most and "backward" not in params and not any(type(x) is Batch for x in inputs):
            seen.append((row, inputs, params, caller()))

    with AutogradContext(observer=see):
        problem.fn(*(DiffTensor(a, requires_grad=True) for a in problem.arrays))
    found = ((_complaint(row, inputs, params, rtol), row, inputs, params, where) for row, inputs, params, where in seen)
    return [WrongOp(row.name, inputs, params, where, said) for said, row, inputs, params, where in found if said]


def _complaint(row: Any, inputs: tuple, params: dict, rtol: float) -> str:
    """What is wrong with the derivative of one call; empty if nothing is, or if that cannot be told."""
    rules = getattr(row, "vjps", ())
    tracked = [
        i
        for i, x in enumerate(inputs)
        if is_array(x) and np.dtype(x.dtype).kind in "fc" and (len(rules) != len(inputs) or rules[i] is not None)
    ]
    if not tracked:
        return ""

    def outputs(*tensors: Any) -> tuple:
        full = list(inputs)
        for i, t in zip(tracked, tensors, strict=True):
            full[i] = t
        out = row.apply(full, **params) if row.variadic else row.apply(*full, **params)
        leaves: list[Any] = optree.tree_leaves(out)  # type: ignore[arg-type]
        return tuple(o for o in leaves if hasattr(o, "dtype") and np.dtype(o.dtype).kind in "fc")

    try:
        one = Problem(outputs, [inputs[i] for i in tracked], [f"input {i}" for i in tracked])
        check_problem(one, 1, Options(modes=("rev",), rtol=rtol), np.random.default_rng(0))
    except WrongDerivative as error:
        return str(error)
    except (NotDifferentiable, Undecided, *NOT_FOR_COMPLEX):  # nothing can be said of this call
        return ""
    return ""
