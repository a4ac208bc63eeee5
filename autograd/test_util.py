"""HIPS autograd's gradient checks, for test suites that use them. New tests: see ``autograd.testing``.

Each compares a product of the derivative with random vectors, from a generator of a fixed seed, with central differences.
A failure is an AssertionError that gives both numbers.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .differential import make_jvp, make_vjp, unary_to_nary
from .vspaces import VSpace, vspace

__all__ = [
    "EPS",
    "RTOL",
    "TOL",
    "check_equivalent",
    "check_grads",
    "check_jvp",
    "check_vjp",
    "combo_check",
    "scalar_close",
]

TOL = RTOL = EPS = 1e-6


def scalar_close(a: float, b: float) -> bool:
    """Whether two numbers agree to ``TOL``, or to ``RTOL`` of their sum. NaN agrees with nothing."""
    return bool(abs(a - b) < TOL or abs(a - b) < RTOL * abs(a + b))


def _numerical_jvp(f: Callable, x: Any, v: Any) -> Any:
    space, out = vspace(x), vspace(f(x))
    ahead, behind = (f(space.add(x, space.scalar_mul(v, sign * EPS / 2))) for sign in (1.0, -1.0))
    return out.scalar_mul(out.add(ahead, out.scalar_mul(behind, -1.0)), 1.0 / EPS)


def _vectors(*spaces: VSpace) -> list[Any]:
    rng = np.random.default_rng(20)
    return [space.randn(rng) for space in spaces]


def check_vjp(f: Callable, x: Any) -> None:
    """Check the reverse derivative of a function of one argument (an array, or a tree of them)."""
    pull, y = make_vjp(f)(x)
    space, out = vspace(x), vspace(y)
    v, w = _vectors(space, out)
    pulled = space.covector(pull(out.covector(w)))
    assert vspace(pulled) == space, f"{_name(f)}: the gradient lives in {vspace(pulled)}, the argument in {space}"
    exact, numeric = space.inner_prod(v, pulled), out.inner_prod(w, _numerical_jvp(f, x, v))
    assert scalar_close(numeric, exact), (
        f"Derivative (VJP) check of {_name(f)} failed at {x}: by rule {exact}, by differences {numeric}"
    )


def check_jvp(f: Callable, x: Any) -> None:
    """Check the forward derivative of a function of one argument (an array, or a tree of them)."""
    (v,) = _vectors(vspace(x))
    check_equivalent(make_jvp(f)(x)(v)[1], _numerical_jvp(f, x, v))


def check_equivalent(x: Any, y: Any) -> None:
    """Check that two values have the same structure, shapes and dtypes, and the same product with a random vector."""
    space = vspace(x)
    assert space == vspace(y), f"the values live in different spaces: {space} and {vspace(y)}"
    (v,) = _vectors(space)
    a, b = space.inner_prod(x, v), space.inner_prod(y, v)
    assert scalar_close(a, b), f"the values differ: {x} and {y}"


@unary_to_nary
def check_grads(f: Callable, x: Any, modes: Sequence[str] = ("fwd", "rev"), order: int = 2) -> None:
    """``check_grads(fun, argnum, modes=..., order=...)(*args)``: check derivatives of ``fun`` up to an order, in forward
    ("fwd") and reverse ("rev") mode and, above the first order, all mixtures of them."""
    if not set(modes) <= {"fwd", "rev"}:
        raise ValueError(f'check_grads: modes are "fwd" and "rev", not {modes!r}')
    if "fwd" in modes:
        check_jvp(f, x)
        if order > 1:
            (v,) = _vectors(vspace(x))
            check_grads(lambda x, v: make_jvp(f)(x)(v)[1], (0, 1), modes, order=order - 1)(x, v)
    if "rev" in modes:
        check_vjp(f, x)
        if order > 1:
            (w,) = _vectors(vspace(f(x)))
            pulled = lambda x, w: make_vjp(f)(x)[0](w)
            pulled.__name__ = f"vjp_{_name(f)}"
            check_grads(pulled, (0, 1), modes, order=order - 1)(x, w)


def combo_check(fun: Callable, *options: Any, **named: Any) -> Callable:
    """``combo_check(fun, argnums, ...)(*lists, **lists)``: ``check_grads`` for every combination of one argument from each
    list, positional and named."""

    def check(*choices: Sequence[Any], **named_choices: Sequence[Any]) -> None:
        for args in itertools.product(*choices):
            for values in itertools.product(*named_choices.values()):
                check_grads(fun, *options, **named)(*args, **dict(zip(named_choices, values, strict=True)))

    return check


def _name(f: Callable) -> str:
    return getattr(f, "__name__", repr(f))
