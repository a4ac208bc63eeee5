"""Checks of graphs: what a function builds from symbolic tensors must compute what it computes eagerly.

``evaluate`` runs a recorded graph node by node, on raw arrays, by the kernels of the rows: the plainest interpreter that
there can be, for other ways to run a graph to be held against.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import optree

from ..backend import is_array, is_inexact
from ..table import Row
from ..tape import PICK, BackwardPass, Node
from ..tensor import DiffTensor
from .programs import waves


def evaluate(tensors: Sequence[DiffTensor], values: Mapping[Node, Any]) -> list[Any]:
    """The values of symbolic tensors, as raw arrays.

    Args:
        tensors: what to compute; a tensor with a value has it already.
        values: arrays for the nodes where the graph begins (``symbol.node``).

    Raises:
        KeyError: a symbol that the graph begins with has no value. TypeError: a node is not an operation of the table, but
        a derivative rule of ``custom_vjp`` or ``primitive``, which graphs do not compute.
    """
    made = dict(values)
    roots = [t.node for t in tensors if t.raw is None and t.node is not None]
    for node in reversed(_needed(roots, values)):
        row = node.row
        if row is None:
            raise KeyError(f"evaluate: no value was given for {node!r}")
        if row is PICK:
            made[node] = made[node.parents[0]][node.params["index"]]
            continue
        if not isinstance(row, Row):
            raise TypeError(
                f"evaluate: {row.name} is a custom derivative rule, not an operation of the table; graphs do not compute it"
            )
        inputs = [made[p] if x is None else x for x, p in zip(node.saved[1:], node.parents, strict=True)]
        made[node] = row.apply(inputs, **node.params) if row.variadic else row.apply(*inputs, **node.params)
    return [made[t.node] if t.raw is None else t.raw for t in tensors]  # type: ignore[index]


def _needed(roots: Sequence[Node], given: Mapping[Node, Any]) -> list[Node]:
    """The nodes to compute for ``roots``, oldest last: not what came before an input whose value was saved."""
    order = [node for node in dict.fromkeys(roots) if node not in given]
    seen = {*order, *given}
    for node in order:  # the list grows while it is walked
        saved = node.saved[1:] if node.row is not PICK else [None]
        for x, parent in zip(saved, node.parents, strict=True):
            if x is None and parent not in seen:
                seen.add(parent)
                order.append(parent)
    return sorted(order, key=lambda node: node.serial, reverse=True)


def assert_graph_equals_eager(fun: Callable, *args: Any, ulps: float = 0.0) -> None:
    """Check that the graph of ``fun``, and the graph of its gradient, compute what ``fun`` and its backward pass compute.

    Args:
        fun: a function of arrays, or trees of them, that returns an array or a tree of them. It is called with symbolic
            tensors (``DiffTensor.symbol``) in the place of floating-point and complex leaves: it must not look at values.
        ulps: the difference allowed, in units in the last place of the largest element of each array. None is needed
            as long as a graph runs the same kernels in the same order.

    Raises:
        AssertionError: naming what differs. TypeError: ``fun`` needs a value where a symbol has none, or has custom
        derivative rules, which graphs do not compute.
    """
    leaves, tree = optree.tree_flatten(args)  # type: ignore[arg-type,var-annotated]
    leaves = [x.raw if isinstance(x, DiffTensor) else x for x in leaves]
    active = [i for i, x in enumerate(leaves) if is_array(x) and is_inexact(x.dtype)]

    def run(variables: list[DiffTensor]) -> list[Any]:
        full = list(leaves)
        for i, v in zip(active, variables, strict=True):
            full[i] = v
        return optree.tree_leaves(fun(*optree.tree_unflatten(tree, full)))

    eager = [DiffTensor(leaves[i], requires_grad=True) for i in active]
    symbols = [DiffTensor.symbol(np.shape(leaves[i]), leaves[i].dtype) for i in active]
    values = {s.node: e.raw for s, e in zip(symbols, eager, strict=True)}
    found, expected = run(symbols), run(eager)
    if len(found) != len(expected):
        raise AssertionError(f"the graph has {len(found)} outputs, the function {len(expected)}")
    results = evaluate([f if isinstance(f, DiffTensor) else DiffTensor(f) for f in found], values)  # type: ignore[arg-type]
    for k, (f, e, value) in enumerate(zip(found, expected, results, strict=True)):
        _same(f"output {k}", value, e.raw if isinstance(e, DiffTensor) else e, ulps)
        if isinstance(f, DiffTensor) and (tuple(f.shape), f.dtype) != (np.shape(value), value.dtype):
            raise AssertionError(
                f"output {k}: the graph says {f.dtype}{tuple(f.shape)}, its value is {value.dtype}{np.shape(value)}"
            )
    kept = [
        k for k, (f, e) in enumerate(zip(found, expected, strict=True))
        if isinstance(e, DiffTensor) and e.node is not None and isinstance(f, DiffTensor) and f.node is not None and is_inexact(e.dtype)
    ]  # fmt: skip
    if not kept:
        return
    seeds = waves([expected[k].raw for k in kept])
    starts = [DiffTensor.symbol(np.shape(s), s.dtype) for s in seeds]
    backward = BackwardPass([expected[k] for k in kept], eager).run(seeds)
    graph = BackwardPass([found[k] for k in kept], symbols).run(starts)
    values |= {s.node: seed for s, seed in zip(starts, seeds, strict=True)}
    wanted = [i for i, e in enumerate(eager) if e.node in backward]
    if [i for i, s in enumerate(symbols) if s.node in graph] != wanted:
        raise AssertionError("the graph's gradient reaches other arguments than the backward pass")
    for i, value in zip(wanted, evaluate([graph[symbols[i].node] for i in wanted], values), strict=True):  # type: ignore[arg-type,index]
        _same(f"the gradient of leaf {active[i]}", value, backward[eager[i].node], ulps)  # type: ignore[index]


def _same(what: str, found: Any, expected: Any, ulps: float) -> None:
    a, b = np.asarray(found), np.asarray(expected)
    if a.shape != b.shape or a.dtype != b.dtype:
        raise AssertionError(f"{what}: {a.dtype}{a.shape} from the graph, {b.dtype}{b.shape} eagerly")
    if np.array_equal(a, b, equal_nan=a.dtype.kind in "fc"):
        return
    allowed = ulps * np.spacing(np.max(np.abs(b), initial=0.0)) if b.dtype.kind in "fc" else 0.0
    if not np.all((a == b) | (np.abs(a - b) <= allowed)):
        raise AssertionError(f"{what}: {a!r} from the graph, {b!r} eagerly")
