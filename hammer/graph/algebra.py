"""Algebraic rewriting: local rules that replace a node by an equal one that costs less, and matrix products by cost.

A rule is a function of a node whose inputs are rewritten already; it returns the node to use instead, or None.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from autograd.table import OPS

from .execute import VIEWS, in_order, surely_in_order
from .graph import UniversalGraph, is_number, users_of
from .ir import CONSTANT, Node, apply, constant

Rule = Callable[[Node], Node | None]


def _number(node: Node) -> Any:
    """The value of a constant of no axes, else None."""
    return node.value if node.row is CONSTANT and node.shape == () else None


def _is(node: Node, value: float, sign: float = 0.0) -> bool:
    """Whether a node is a constant number (of a given sign, if that is not 0)."""
    found = _number(node)
    return found is not None and found == value and (not sign or math.copysign(1.0, found.real) == sign)


def _like(found: Node, node: Node) -> Node | None:
    """``found`` in the place of ``node``, if it has its shape and dtype and is no weak number."""
    return found if found.shape == node.shape and found.dtype == node.dtype and not is_number(found) else None


# ---- rules that keep every bit of every element ----


def neutral(node: Node) -> Node | None:
    """x·1, x/1, x-0, x+(-0), x¹ are x."""
    if len(node.inputs) != 2:
        return None
    x, y = node.inputs
    if node.op == "multiply":
        found = x if _is(y, 1) else y if _is(x, 1) else None
    elif node.op == "add":
        found = x if _is(y, 0, -1.0) else y if _is(x, 0, -1.0) else None
    elif node.op in ("divide", "power"):
        found = x if _is(y, 1) else None
    elif node.op == "subtract":
        found = x if _is(y, 0, 1.0) else None
    else:
        return None
    return None if found is None else _like(found, node)


def unchanged(node: Node) -> Node | None:
    """Casts to the dtype, and reshapes, broadcasts, sums and permutations to the shape, that a value has already; --x."""
    if not node.inputs:
        return None
    x = node.inputs[0]
    if node.op in ("astype", "reshape", "broadcast_to", "sum_to"):
        return _like(x, node)
    if node.op == "permute" and _axes(node) == tuple(range(node.ndim)):
        return x
    if node.op == "negative" and x.op == "negative":
        return _like(x.inputs[0], node)
    return None


def pairs(node: Node) -> Node | None:
    """Two permutations, or two reshapes, in a row are one."""
    if node.op == "permute" and node.inputs[0].op == "permute":
        inner = node.inputs[0]
        axes = tuple(_axes(inner)[a] for a in _axes(node))
        x = inner.inputs[0]
        return x if axes == tuple(range(node.ndim)) else apply(node.row, (x,), {"axes": axes}, node.source)
    if node.op == "reshape" and node.inputs[0].op == "reshape":
        return apply(node.row, node.inputs[0].inputs, {"shape": node.shape}, node.source)
    return None


def _axes(node: Node) -> tuple[int, ...]:
    axes = node.attributes["axes"]
    return tuple(reversed(range(node.ndim))) if axes is None else tuple(a % node.ndim for a in axes)


# ---- rules that round otherwise ----


def zero_sum(node: Node) -> Node | None:
    """x+0 is x (and -0 stays -0, which the sum would make 0)."""
    if node.op != "add":
        return None
    x, y = node.inputs
    found = x if _is(y, 0) else y if _is(x, 0) else None
    return None if found is None else _like(found, node)


def stable(node: Node) -> Node | None:
    """log Σ eˣ is logsumexp(x), eˣ / Σ eˣ is softmax(x), and log softmax(x) is log_softmax(x): quicker, and without overflow."""
    if node.op == "log":
        x = node.inputs[0]
        if x.op == "sum" and _is_exp(x.inputs[0]):
            return apply(OPS["logsumexp"], x.inputs[0].inputs, x.attributes, node.source)
        if x.op == "softmax":
            return apply(OPS["log_softmax"], x.inputs, x.attributes, node.source)
    if node.op == "divide":
        e, total = node.inputs
        axis = total.attributes.get("axis")
        if total.op == "sum" and total.inputs[0] is e and _is_exp(e) and total.attributes["keepdims"]:
            axis = axis[0] if isinstance(axis, tuple) and len(axis) == 1 else axis
            if type(axis) is int:
                return apply(OPS["softmax"], e.inputs, {"axis": axis}, node.source)
    return None


def _is_exp(node: Node) -> bool:
    return node.op == "exp" and np.dtype(node.dtype).kind == "f" and node.inputs[0].dtype == node.dtype


def scaled_twice(node: Node) -> Node | None:
    """(x·a)·b is x·(a·b), for numbers a and b."""
    if node.op != "multiply":
        return None
    outer = _scaling(node)
    inner = None if outer is None else _scaling(outer[0])
    if outer is None or inner is None or outer[0].dtype != node.dtype:
        return None
    factor = constant(type(inner[1])(inner[1] * outer[1]))
    return apply(node.row, (inner[0], factor), {}, node.source)


def _scaling(node: Node) -> tuple[Node, Any] | None:
    """A value and the Python number that it is multiplied by."""
    if node.op != "multiply":
        return None
    x, y = node.inputs
    if is_number(y) and type(y.value) is float and not is_number(x) and np.dtype(x.dtype).kind in "fc":
        return x, y.value
    if is_number(x) and type(x.value) is float and not is_number(y) and np.dtype(y.dtype).kind in "fc":
        return y, x.value
    return None


EXACT: tuple[Rule, ...] = (neutral, unchanged, pairs)
ROUNDING: tuple[Rule, ...] = (zero_sum, stable, scaled_twice)


def simplify(graph: UniversalGraph) -> UniversalGraph:
    """All rules, wherever they apply. Elements may differ by rounding, and later sums over other memory orders too."""
    return _rewritten(graph, EXACT + ROUNDING, None)


def simplify_exactly(graph: UniversalGraph) -> UniversalGraph:
    """The rules that keep every bit, where no later sum can tell: for arguments in C order, and values surely in it.

    An operation that changes no element may still change the memory order of what it is applied to, as ``x·1`` does for a slice
    x, and the order is the order in which NumPy adds up.
    """
    return _rewritten(graph, EXACT, in_order(graph.nodes))


def _rewritten(graph: UniversalGraph, rules: tuple[Rule, ...], ordered: set[Node] | None) -> UniversalGraph:
    from .passes import rebuilt

    def change(node: Node, inputs: tuple[Node, ...]) -> Node:
        was_ordered = ordered is not None and node in ordered
        node = rebuilt(node, inputs)
        if ordered is not None and (was_ordered or surely_in_order(node, ordered)):
            ordered.add(node)
        while True:  # each rule takes away an operation, or brings one nearer to its inputs
            candidates = (rule(node) for rule in rules)
            found = next(
                (f for f in candidates if f is not None and (ordered is None or _safe(node, f, ordered))), None
            )
            if found is None:
                return node
            node = found

    return graph.map(change)


def _safe(node: Node, found: Node, ordered: set[Node]) -> bool:
    """Whether ``found`` has the memory order that ``node`` has: it is in C order, and so is the other, or the same view of one."""
    if found in ordered:
        return True
    if found.op in VIEWS and found.inputs[0] in ordered:
        ordered.add(found)
        return True
    return node.op == found.op == "permute" and found.inputs[0] in ordered


# ---- chains of matrix products ----


def regroup(graph: UniversalGraph) -> UniversalGraph:
    """Chains of matrix products (of matrices, with a vector at an end) are multiplied in the order of least FLOPs.

    Only products that nothing else uses are regrouped, and only if that is cheaper. (The classical dynamic program; see Cormen
    et al., Introduction to Algorithms, section 15.2.)
    """
    from .passes import rebuilt

    users = users_of(graph.nodes)
    single = {n for n, used in users.items() if len(used) == 1 and n not in graph.outputs and _is_product(n)}
    inner = {n for node in graph.nodes if _is_product(node) for n in node.inputs if n in single}
    made: dict[Node, Node] = {}
    for node in graph.nodes:
        if _is_product(node) and node not in inner:
            chain, flops = _chain(node, single)
            order = _best(chain, flops) if len(chain) > 2 else None
            if order is not None:
                made[node] = _multiplied([made[n] for n in chain], order, node)
                continue
        made[node] = rebuilt(node, tuple([made[n] for n in node.inputs]))
    return graph.with_outputs(graph.rebuild(made[n] for n in graph.outputs), order=made.values())


def _is_product(node: Node) -> bool:
    if node.op != "matmul":
        return False
    x, y = node.inputs
    return x.ndim in (1, 2) and y.ndim in (1, 2) and x.dtype == y.dtype == node.dtype and node.ndim > 0


def _chain(node: Node, single: set[Node]) -> tuple[list[Node], int]:
    """The factors of a product, products that only it uses taken apart, and the multiplications that it costs as written."""
    found: list[Node] = []
    stack, cost = [node], 0
    while stack:
        n = stack.pop()
        if n is node or n in single:
            stack += [n.inputs[1], n.inputs[0]]
            cost += n.size * n.inputs[0].shape[-1]
        else:
            found.append(n)
    return found, cost


def _best(chain: list[Node], cost_as_written: int) -> dict[tuple[int, int], int] | None:
    """Where to split each part of a chain, or None if that is not cheaper. A vector at an end is a matrix of one row or column."""
    first, last = chain[0], chain[-1]
    if any(n.ndim != 2 for n in chain[1:-1]):
        return None
    rows = [1 if first.ndim == 1 else first.shape[0], *(n.shape[0] for n in chain[1:])]
    sizes = [*rows, 1 if last.ndim == 1 else last.shape[-1]]
    n = len(chain)
    cost = {(i, i): 0 for i in range(n)}
    split: dict[tuple[int, int], int] = {}
    for width in range(1, n):
        for i in range(n - width):
            j = i + width
            costs = [cost[i, k] + cost[k + 1, j] + sizes[i] * sizes[k + 1] * sizes[j + 1] for k in range(i, j)]
            cost[i, j] = min(costs)
            split[i, j] = i + costs.index(cost[i, j])
    return split if cost[0, n - 1] < cost_as_written else None


def _multiplied(chain: list[Node], split: dict[tuple[int, int], int], node: Node) -> Node:
    def product(i: int, j: int) -> Node:  # as deep as the chain is long
        if i == j:
            return chain[i]
        k = split[i, j]
        return apply(node.row, (product(i, k), product(k + 1, j)), {}, node.source)

    return product(0, len(chain) - 1)
