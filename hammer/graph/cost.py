"""What a graph costs: operations and bytes by the table's cost column. What it takes is in ``profile``."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from .graph import UniversalGraph
from .ir import Node, described


@dataclass(frozen=True)
class NodeCost:
    """Of one operation: floating-point operations, and bytes moved (inputs read, outputs written)."""

    node: Node
    flops: float
    bytes: int

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

    def by_operation(self) -> dict[str, float]:
        """FLOPs by the name of the operation, the largest first."""
        found: Counter[str] = Counter()
        for row in self.rows:
            found[row.node.op] += row.flops  # type: ignore[assignment]
        return dict(found.most_common())

    def __str__(self) -> str:
        lines = [f"{'operation':<24}{'result':<28}{'FLOPs':>14}{'bytes':>14}{'FLOP/B':>9}"]
        lines += [
            f"{r.node.op:<24}{described(r.node):<28.27}{r.flops:>14,.0f}{r.bytes:>14,}{r.intensity:>9.2f}"
            for r in self.rows
        ]
        return "\n".join([*lines, f"{'total':<52}{self.flops:>14,.0f}{self.bytes:>14,}{self.intensity:>9.2f}"])


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
