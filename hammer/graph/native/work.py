"""What a step of a native program has to do: floating-point operations, and bytes that come in and go out, for its roofline."""

import math
from collections.abc import Callable
from typing import Any

from ..cost import cost_of
from .lazy import Term
from .lowering import Call
from .schedule import HEAVY, Nest
from .views import VIEWS, strided

FREE = frozenset((*VIEWS, "buffer", "number", "iota", "at", "call", "join"))
"""Terms that take no arithmetic."""
FUNCTION = 10.0
"""FLOPs of an elementwise function, as in the table's cost column."""


def work(step: Call | Nest, stored: Callable[[Term], bool]) -> tuple[float, int, Any]:
    """FLOPs, bytes and the dtype of a step. What is computed at several places of it counts once.

    Args:
        step: of a schedule.
        stored: whether a term is in memory.
    """
    made = [r.term for r in step.roots] if isinstance(step, Nest) else step.outputs
    of = _of_nest(step, stored) if isinstance(step, Nest) else _of_call(step, stored)
    return *of, max((t.dtype for t in made), key=lambda d: (d.kind == "f", d.itemsize))


def _of_call(call: Call, stored: Callable[[Term], bool]) -> tuple[float, int]:
    moved = sum(min(x.nbytes, strided(x, stored)[0].nbytes) for x in call.args) + sum(t.nbytes for t in call.outputs)
    if call.node is not None:
        return cost_of(call.node).flops, moved
    if call.kind == "gemm":
        return 2.0 * call.outputs[0].size * call.args[0].shape[-1], moved
    if call.kind == "scan":
        return 2.0 * call.outputs[0].size, moved
    fit, whole, weight = call.given  # a convolution, or one of its two transposes: as many products each
    return 2.0 * whole[0] * weight[0] * math.prod(fit.out) * math.prod(weight[1:]), moved


def _of_nest(nest: Nest, stored: Callable[[Term], bool]) -> tuple[float, int]:
    flops, read, seen = 0.0, dict[Term, int](), set[Term]()
    made = {r.term for r in nest.roots}
    for root in nest.roots:
        if root.term.op == "reduce":
            flops += root.expression.size
        todo = [root.expression]
        while todo:
            t = todo.pop()
            if t in seen:
                continue
            seen.add(t)
            if t is not root.expression and (t in made or stored(t)):
                continue
            if t.op not in FREE and t.op != "reduce":
                flops += min(t.size, nest.size) * (
                    FUNCTION if t.op in HEAVY else 1.0
                )  # of what is indexed, less than all
            todo += t.args
        for t, _ in root.reads:
            if t not in made:
                read[t] = min(t.nbytes, nest.size * t.dtype.itemsize)
    return flops, sum(read.values()) + sum(t.nbytes for t in made)
