"""HIPS autograd's core, under the names that programs import from it: ``make_vjp(fun, x)`` and ``make_jvp(fun, x)`` of a function
of one argument, vector spaces, and the ways to state derivatives (``autograd.extend``)."""

from collections.abc import Callable
from typing import Any

from . import differential
from .extend import (
    JVPNode,
    SparseObject,
    VJPNode,
    VSpace,
    def_linear,
    defjvp,
    defjvp_argnum,
    defjvp_argnums,
    defvjp,
    defvjp_argnum,
    defvjp_argnums,
    primitive,
    vspace,
)

__all__ = [
    "JVPNode", "SparseObject", "VJPNode", "VSpace", "def_linear", "defjvp", "defjvp_argnum", "defjvp_argnums", "defvjp",
    "defvjp_argnum", "defvjp_argnums", "make_jvp", "make_vjp", "primitive", "vspace",
]  # fmt: skip


def make_vjp(fun: Callable, x: Any) -> tuple[Callable, Any]:
    """The pair of the pullback of ``fun`` at ``x`` (cotangents of the output to gradients of x) and ``fun(x)``."""
    return differential.make_vjp(fun)(x)  # type: ignore[no-any-return]


def make_jvp(fun: Callable, x: Any) -> Callable:
    """The function of a direction v that returns the pair of ``fun(x)`` and the derivative of ``fun`` at ``x`` along v."""
    return differential.make_jvp(fun)(x)  # type: ignore[no-any-return]
