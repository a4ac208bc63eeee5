"""Zeroth homology of weighted graphs: of layers, and of a computation graph's own.

Weights are strengths here: edges enter from the strongest to the weakest, so that a component that joins late hangs on a weak edge.
"""

from typing import Any

import numpy as np

from autograd import ops
from autograd.tensor import DiffTensor

from .components import spanning_forest
from .diagram import Diagram, beside, pick
from .metric import host


def graph_components(count: int, edges: Any, weights: Any, strongest_first: bool = True) -> Diagram:
    """The H0 diagram of a graph whose vertices are there from the start and whose edges come by weight.

    Args:
        count: vertices.
        edges: (m, 2), numbers of vertices.
        weights: (m,), an array or DiffTensor.
        strongest_first: whether edges come from the largest weight to the smallest (lifetimes then are top − weight, top being the
            largest weight, at which vertices are born) or from the smallest up (born at the smallest).

    Returns:
        Births and deaths as *times*: 0 at the first edge, and growing. Edges of equal time as the first die at once and are left out.
        ``places`` holds the vertices of the edge at which each component dies.
    """
    e = np.asarray(edges, np.int64).reshape(-1, 2)
    w = host(weights, "graph_components").reshape(-1)
    if len(e) != len(w):
        raise ValueError(f"graph_components: there are {len(e)} edges and {len(w)} weights")
    if count < 1 or (len(e) and (e.min() < 0 or e.max() >= count)):
        raise ValueError(f"graph_components: edges name vertices from 0 to {count - 1}, and there must be one at least")
    times = -w if strongest_first else w
    tree = spanning_forest(count, e, times)
    parts = count - len(tree)
    x = weights if hasattr(weights, "dtype") and "float" in str(weights.dtype) else w
    line = ops.reshape(x, (len(w),))
    first = int(np.argmin(times)) if len(times) else 0
    late = tree[times[tree] > times[first]] if len(times) else tree
    span = pick(line, np.full(len(late), first)) - pick(line, late)
    deaths = span if strongest_first else -span
    pairs = ops.stack([deaths * 0.0, deaths], axis=1)
    places = np.stack([np.full((len(late), 2), -1), e[late]], axis=1)
    return Diagram(0, pairs, beside(np.zeros(parts), deaths), places, np.full((parts, 2), -1))


def layer_components(weight: Any) -> Diagram:
    """The H0 diagram of one layer as a bipartite graph: inputs and outputs, joined by |weight| / max |weight|, strongest first.

    Args:
        weight: (inputs, outputs), or convolution kernels (outputs, inputs, …), whose first axis is then one side and all others the other.
    """
    x = weight if hasattr(weight, "dtype") and "float" in str(weight.dtype) else host(weight, "layer_components")
    if len(x.shape) < 2:
        raise ValueError(f"layer_components: needs a matrix of weights, not shape {tuple(x.shape)}")
    rows = x.shape[0]
    columns = int(np.prod(x.shape[1:]))
    size = ops.abs(ops.reshape(x, (rows * columns,)))
    top = ops.max(size)
    if float(top.raw if isinstance(top, DiffTensor) else top) == 0.0:
        raise ValueError("layer_components: all weights are zero, so that no edge is stronger than another")
    edges = np.stack([np.repeat(np.arange(rows), columns), np.tile(np.arange(columns), rows) + rows], axis=1)
    return graph_components(rows + columns, edges, size / top)


def neural_persistence(weight: Any, norm: float = 2.0, normalize: bool = True) -> Any:
    """The neural persistence of a layer: the p-norm of the lifetimes of its components (Rieck et al. 2019).

    Args:
        weight: see ``layer_components``.
        norm: p, at least 1.
        normalize: whether to divide by the largest it can be, (vertices − 1) ** (1 / p), so that it is in [0, 1].
    """
    if not norm >= 1:
        raise ValueError(f"neural_persistence: norm must be at least 1, not {norm!r}")
    diagram = layer_components(weight)
    vertices = weight.shape[0] + int(np.prod(weight.shape[1:]))
    lives = diagram.lifetimes
    if lives.shape[0] == 0:  # all weights are equally strong
        return ops.sum(lives)
    total = ops.sum(lives**norm) ** (1.0 / norm)
    return total / (vertices - 1) ** (1.0 / norm) if normalize else total


def computation_edges(graph: Any) -> tuple[list[Any], np.ndarray, np.ndarray]:
    """A UniversalGraph as a weighted graph: its nodes, the edges from each value to what reads it, and their bytes.

    Args:
        graph: a ``hammer.graph.UniversalGraph`` of known sizes (``graph.bind(B=…)`` gives one).

    Returns:
        The nodes in order; (m, 2) numbers of nodes; (m,) bytes of the value that goes along the edge.

    ``graph_components(len(nodes), edges, np.log2(1 + bytes))`` joins first what much data goes between; the components that die last
    hang on values of few bytes: there the graph can be cut with little to carry over.
    """
    if hasattr(graph, "bind"):
        raise TypeError(
            "computation_edges: the graph has sizes that are symbols; give them numbers first, with graph.bind(...)"
        )
    nodes = list(graph.nodes)
    number = {node: k for k, node in enumerate(nodes)}
    edges = [(number[source], k) for k, node in enumerate(nodes) for source in node.inputs]
    weights = np.array([float(nodes[source].nbytes) for source, _ in edges])
    return nodes, np.array(edges, np.int64).reshape(-1, 2), weights
