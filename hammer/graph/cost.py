"""What a graph costs: operations and bytes by the table's cost column, and time as measured."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .execute import given_values
from .graph import UniversalGraph
from .ir import PICK, Node, described
from .trace import replay


@dataclass(frozen=True)
class NodeCost:
    """Of one operation: floating-point operations, bytes moved (inputs read, outputs written), and seconds if measured."""

    node: Node
    flops: float
    bytes: int
    seconds: float | None = None

    @property
    def intensity(self) -> float:
        """FLOPs for each byte."""
        return self.flops / self.bytes if self.bytes else 0.0


@dataclass(frozen=True)
class Cost:
    """Of a graph, operation by operation; bytes as if each operation read and wrote memory, as they do one by one."""

    rows: tuple[NodeCost, ...]

    @property
    def flops(self) -> float:
        return sum(r.flops for r in self.rows)

    @property
    def bytes(self) -> int:
        return sum(r.bytes for r in self.rows)

    @property
    def intensity(self) -> float:
        """FLOPs for each byte."""
        return self.flops / self.bytes if self.bytes else 0.0

    @property
    def seconds(self) -> float | None:
        """The time of all operations, if measured."""
        return None if any(r.seconds is None for r in self.rows) else sum(r.seconds or 0.0 for r in self.rows)

    def by_operation(self) -> dict[str, float]:
        """FLOPs by the name of the operation, the largest first."""
        found: Counter[str] = Counter()
        for row in self.rows:
            found[row.node.op] += row.flops  # type: ignore[assignment]
        return dict(found.most_common())

    def __str__(self) -> str:
        timed = self.seconds is not None
        head = f"{'operation':<24}{'result':<28}{'FLOPs':>14}{'bytes':>14}{'FLOP/B':>9}" + (
            f"{'µs':>11}" if timed else ""
        )
        lines = [head]
        for r in self.rows:
            line = f"{r.node.op:<24}{described(r.node):<28.27}{r.flops:>14,.0f}{r.bytes:>14,}{r.intensity:>9.2f}"
            lines.append(line + (f"{1e6 * (r.seconds or 0.0):>11.2f}" if timed else ""))
        total = f"{'total':<52}{self.flops:>14,.0f}{self.bytes:>14,}{self.intensity:>9.2f}"
        return "\n".join([*lines, total + (f"{1e6 * (self.seconds or 0.0):>11.2f}" if timed else "")])


class _Output:
    """What the cost column reads of one of several outputs."""

    def __init__(self, shape: Any, dtype: Any):
        self.shape, self.dtype = shape, dtype


def cost_of(node: Node) -> NodeCost:
    """The cost of one operation."""
    output: Any = tuple(map(_Output, node.shape, node.dtype)) if node.several else node
    operands = [n.operand for n in node.inputs]
    flops, moved = node.row.cost(output, *operands, **node.attributes)
    return NodeCost(node, flops, moved)


def cost(graph: UniversalGraph) -> Cost:
    """What a graph costs by the table."""
    return Cost(tuple(cost_of(n) for n in graph.nodes if n.is_operation))


def profile(graph: UniversalGraph, args: Sequence[Any], parameters: dict[str, Any], repeats: int) -> Cost:
    """The cost with the time of each operation, run one by one on these arguments: the median of some runs."""
    values = given_values(graph, args, parameters)
    starts = dict(zip((*graph.inputs, *graph.parameter_nodes.values()), values, strict=True))
    times: dict[Node, list[float]] = {n: [] for n in graph.nodes if n.is_operation}
    for _ in range(max(repeats, 1)):
        made = dict(starts)
        for node in graph.nodes:
            begin = time.perf_counter()
            replay((node,), made)
            if node.row is not PICK and node in times:
                times[node].append(time.perf_counter() - begin)
    rows = (cost_of(n) for n in times)
    return Cost(tuple(NodeCost(r.node, r.flops, r.bytes, float(np.median(times[r.node]))) for r in rows))
