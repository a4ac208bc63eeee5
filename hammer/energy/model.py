"""The cost model as a source: joules of operations, worked out from the op table's cost column and a technology table.

    model = Modelled("45nm", static_watts=10.0)
    with Meter(model) as meter, HammerContext(energy=meter), meter.window("step") as step:
        loss(batch).backward()

``HammerContext`` charges what it hears: operations of the forward pass by ``forward_work``, which is what ``Row.cost`` says, and
derivative rules, whose inner operations run on raw arrays and are not heard, by ``backward_work``. Work on raw arrays (optimizers) is
charged by hand: ``model.charge``.
"""

import functools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import optree

from autograd.shapes import numpy_dtype, shape_of

from .meter import Kind, Source
from .technologies import Technology, technology


@dataclass(frozen=True)
class Work:
    """Counted work: floating-point operations of a dtype, and bytes moved."""

    flops: float
    bytes: float
    dtype: str

    def __add__(self, other: "Work") -> "Work":
        return Work(self.flops + other.flops, self.bytes + other.bytes, self.dtype)


def forward_work(row: Any, inputs: Sequence[Any], params: dict, outputs: Sequence[Any]) -> Work:
    """What one call of an operation costs by its row: FLOPs, and each input read and output written once."""
    flops, moved = row.cost(outputs if len(outputs) > 1 else outputs[0], *inputs, **params)
    return Work(flops, moved, _dtype((*outputs, *inputs)))


def backward_work(g: Any, node: Any, parent: Any, d: Any) -> Work:
    """What the derivative rule of ``node`` for its input ``parent`` costs, that has turned the gradient ``g`` into ``d``.

    A rule that reads values is charged as many FLOPs as the forward operation: a product of matrices has one such product for each input. One
    that reads none (of a bias, of a sum) adds up or spreads: an operation for each element. Bytes: the gradients and what is
    read, each once. That is exact for matrix products, convolutions and elementwise products, and near for other rows (benchmarks/energy.py
    compares whole steps); ``UniversalGraph`` counts gradients operation by operation.
    """
    gradients = [x for x in g if x is not None] if isinstance(g, (list, tuple)) else [g]
    reads = node.row.reads[node.parents.index(parent)]
    inputs = node.saved[1:]
    moved = sum(map(_bytes, (*gradients, d, *(inputs[i - 1] for i in reads if i))))
    if reads:
        if isinstance(node.dtype, tuple):
            flops, _ = node.row.cost(tuple(map(_Like, node.shape, node.dtype)), *inputs, **node.params)
        else:
            flops, _ = node.row.cost(_Like(node.shape, node.dtype), *inputs, **node.params)
    else:
        flops = float(max(math.prod(shape_of(x)) for x in (*gradients, d)))
    return Work(flops, moved, _dtype((d,)))


def optimizer_work(optimizer: Any) -> Work:
    """About what an optimizer's step costs, whose arithmetic on raw arrays is not heard: each state array read and written once, and
    parameters and gradients read and parameters written; two operations an element, and four more for each state array of
    the parameter's shape. Exact for plain SGD; the laboratory counts others operation by operation."""
    flops = moved = 0.0
    shapes = {tuple(p.shape) for p in optimizer.params}
    leaves = [leaf for leaf in optree.tree_leaves(optimizer.state) if hasattr(leaf, "dtype") and hasattr(leaf, "shape")]
    for p in optimizer.params:
        flops, moved = flops + 2.0 * p.size, moved + 3.0 * _bytes(p.raw)
    for leaf in leaves:
        moved += 2.0 * _bytes(leaf)
        flops += 4.0 * math.prod(shape_of(leaf)) if tuple(shape_of(leaf)) in shapes else 0.0
    return Work(flops, moved, _dtype([p.raw for p in optimizer.params]))


def recomputation(work: Work | Sequence[Work], kept: float, live: float, table: Technology) -> float:
    """Joules that are saved by computing activations again in the backward pass instead of keeping them; below 0: keeping is cheaper.

    Args:
        work: of computing them again, its bytes included (``forward_work`` of the operations in question): a sum, or one for each operation,
            whose arrays then come from the level that holds them.
        kept: bytes of what would be kept: written once in the forward pass, and read once in the backward pass.
        live: bytes that go through memory between the two, which decide the level that they come back from.
        table: a technology.
    """
    works = [work] if isinstance(work, Work) else work
    again = sum(sum(table.joules(w.flops, w.bytes, w.dtype)) for w in works)
    return table.joules(0.0, 2 * kept, working_set=live)[1] - again


class _Like:
    """A shape and dtype, for cost columns."""

    def __init__(self, shape: tuple, dtype: Any):
        self.shape, self.dtype, self.ndim = shape, dtype, len(shape)
        self.size = math.prod(shape)


def _bytes(x: Any) -> int:
    return math.prod(shape_of(x)) * numpy_dtype(x.dtype).itemsize if hasattr(x, "dtype") else 0


def _dtype(values: Sequence[Any]) -> str:
    """The dtype that is computed in: the first inexact one, outputs before inputs."""
    first = None
    for v in values:
        if hasattr(v, "dtype"):
            name, inexact = _name(v.dtype)
            if inexact:
                return name
            first = first or name
    return first or "float64"


@functools.lru_cache(maxsize=64)
def _name(dtype: Any) -> tuple[str, bool]:
    """A dtype's name in any library, and whether it is inexact."""
    name = str(dtype).rpartition(".")[2]
    return name, name.startswith(("float", "bfloat", "complex"))


class Modelled(Source):
    """The cost model as a source of a ``Meter``.

    Args:
        table: a ``Technology``, or the name or file of one.
        static_watts: in place of the table's.
        clock: seconds for the static power.

    The domains are "arithmetic", "memory" and "static".

    Attributes:
        flops, bytes: what was charged until the latest reading, and since.
        owing: functions that are called before a reading, and charge what has not been charged yet.
    """

    kind: Kind = "modelled"

    def __init__(
        self,
        table: Technology | str = "45nm",
        static_watts: float | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ):
        super().__init__()
        self.table = table if isinstance(table, Technology) else technology(table)
        self.static = self.table.static.value if static_watts is None else static_watts
        if not (math.isfinite(self.static) and self.static >= 0):
            raise ValueError(f"Modelled: static_watts must be finite and at least 0, not {static_watts!r}")
        self.name = f"cost model, {self.table.name}, static {self.static:g} W"
        self.flops = self.bytes = self._arithmetic = self._memory = 0.0
        self.owing: list[Callable[[], None]] = []
        self._clock = clock
        self._start = self._last = clock()

    def charge(self, work: Work) -> tuple[float, float]:
        """Add counted work; returns its joules of arithmetic and of memory traffic."""
        arithmetic, memory = self.table.joules(work.flops, work.bytes, work.dtype)
        self.add(work.flops, work.bytes, arithmetic, memory)
        return arithmetic, memory

    def add(self, flops: float, moved: float, arithmetic: float, memory: float) -> None:
        """Add work whose joules are known."""
        self.flops, self.bytes = self.flops + flops, self.bytes + moved
        self._arithmetic, self._memory = self._arithmetic + arithmetic, self._memory + memory

    def read(self) -> dict[str, float | None]:
        for charge in self.owing:
            charge()
        now = self._clock()
        if now < self._last and not self.faults:
            self.faults.append("static is not modelled any more: the clock went backwards")
        self._last = now
        static = None if self.faults else self.static * (now - self._start)
        return {"arithmetic": self._arithmetic, "memory": self._memory, "static": static}
