"""Optimisation: small pure functions from a graph to a graph that computes the same with less.

Two of the classical passes are not here, because graphs cannot be otherwise: what no output needs is not in a graph, and equal
nodes are one node. What is left of them, and of the rest:

* ``fold`` computes what depends on constants alone;
* ``merge`` finds equal operations whose inputs stand in another order;
* ``algebra.simplify`` replaces patterns, ``algebra.regroup`` associates chains of matrix products by their cost.

``fold`` and ``merge`` keep every bit, and so does ``simplify`` unless it is allowed more (see there); ``regroup`` rounds otherwise.
Every pass may be repeated without effect, and none adds an operation. ``optimize`` runs them in turn until nothing changes.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from autograd import backend

from .algebra import regroup, simplify, simplify_exactly
from .graph import UniversalGraph, is_number
from .ir import CONSTANT, PICK, Node, apply, constant, node_of

Pass = Callable[[UniversalGraph], UniversalGraph]

COMMUTATIVE = frozenset((
    "add", "multiply", "equal", "not_equal", "logical_and", "logical_or", "logical_xor", "bitwise_and", "bitwise_or", "bitwise_xor",
))  # fmt: skip
"""Operations with one result, to the bit, for both orders of real inputs. Not maximum: of 0.0 and -0.0 it takes the second."""


def rebuilt(node: Node, inputs: tuple[Node, ...]) -> Node:
    """A node with other inputs of the same shapes and dtypes."""
    if all(a is b for a, b in zip(inputs, node.inputs, strict=True)):
        return node
    if node.is_operation and tuple(map(_aval, inputs)) != tuple(map(_aval, node.inputs)):
        return apply(node.row, inputs, node.attributes, node.source)
    return node_of(node.row, node.attributes, inputs, node.shape, node.dtype, node.value, node.source)


def _aval(node: Node) -> tuple:
    return node.shape, node.dtype, is_number(node)


def fold(graph: UniversalGraph) -> UniversalGraph:
    """Operations on constants alone become constants, computed by the same kernels.

    Not where that would make a large constant out of small ones, as broadcasting does: it is quicker to compute than to load.
    An operation that fails is left, to fail when the graph runs.
    """
    values: dict[Node, Any] = {}

    def change(node: Node, inputs: tuple[Node, ...]) -> Node:
        if node.row is CONSTANT:
            values[node] = node.value
            return node
        node = rebuilt(node, inputs)
        if not inputs or not all(n in values for n in inputs):
            return node
        given = [values[n] for n in inputs]
        if node.row is PICK:
            value = given[0][node.attributes["index"]]
        else:
            try:
                with np.errstate(all="ignore"):
                    value = node.row.apply(*((given,) if node.row.variadic else given), **node.attributes)
            except (ArithmeticError, ImportError, IndexError, MemoryError, RuntimeError, TypeError, ValueError):
                return node
        if node.several:
            values[node] = value
            return node
        if (node.size > 1 and node.nbytes > sum(n.nbytes for n in inputs)) or value.dtype != node.dtype:
            return node
        folded = constant(backend.scalar(value), node.source)
        values[folded] = folded.value
        return folded

    return graph.map(change)


def merge(graph: UniversalGraph) -> UniversalGraph:
    """Equal operations whose inputs stand in another order become one: ``b + a`` is ``a + b`` where both are computed."""
    first: dict[tuple, Node] = {}

    def change(node: Node, inputs: tuple[Node, ...]) -> Node:
        node = rebuilt(node, inputs)
        if node.op not in COMMUTATIVE or any(np.dtype(n.dtype).kind == "c" for n in inputs):
            return node
        return first.setdefault((node.row, frozenset(inputs)), node)

    return graph.map(change)


EXACT: tuple[Pass, ...] = (fold, merge, simplify_exactly)
"""Passes that keep every bit."""
ALL: tuple[Pass, ...] = (fold, simplify, regroup, merge)
"""All passes: results may differ by rounding."""
ROUNDS = 20
"""A bound on how often ``optimize`` goes round; each round but the last makes the graph smaller or cheaper."""


def optimize(
    graph: UniversalGraph, exact: bool = True, watch: Callable[[str, UniversalGraph], None] | None = None
) -> UniversalGraph:
    """The graph after all passes, repeated until none changes it.

    Args:
        exact: whether every bit must stay; else results may differ by rounding, as of another order of summation.
        watch: called as ``watch(pass_name, graph)`` after each pass that has changed something.
    """
    for _ in range(ROUNDS):
        before = graph.key
        for one in EXACT if exact else ALL:
            changed = one(graph)
            if watch is not None and changed.key != graph.key:
                watch(one.__name__, changed)
            graph = changed
        if graph.key == before:
            break
    return graph
