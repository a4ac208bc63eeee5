"""A graph as a program for a GPU: its steps, their source, and where everything lies. No GPU and no CuPy is needed to make one."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..graph import UniversalGraph
from ..native.lazy import Unlowered
from ..native.lowering import Call, Lowered, lowered
from ..native.schedule import Nest, Schedule, schedule
from .expressions import PRELUDE
from .kernels import Kernel, KernelWriter
from .memory import Memory, memory

APART = frozenset(("conv", "conv_weight", "conv_transpose", "linear_scan"))
"""Rows that their own kernels for CuPy do, though terms could express them."""


@dataclass(frozen=True)
class Launch:
    """One launch of a function of the program: its name and places of its arguments; ``step`` is the nest it belongs to."""

    name: str
    kernel: Kernel
    places: tuple[Any, ...]
    step: Nest


@dataclass(eq=False)
class Program:
    """What is made of a graph.

    Attributes:
        source: the program's functions, in CUDA C.
        steps: launches and calls, in order. A call of kind "gemm" is a product of matrices, one of kind "python" a row's own kernel.
        stored: whether a term is in memory.
    """

    lowered: Lowered
    schedule: Schedule
    memory: Memory
    source: str
    steps: list[Launch | Call]

    def stored(self, t: Any) -> bool:
        return t.op in ("buffer", "call") or t in self.schedule.stored

    @property
    def names(self) -> list[str]:
        """The functions' names."""
        return list(dict.fromkeys(s.name for s in self.steps if isinstance(s, Launch)))


def program(graph: UniversalGraph, writes: Mapping[int, int] | None = None) -> Program:
    """The program of a graph of known sizes.

    Args:
        writes: outputs that are to end in the array of an input: output number -> input number (parameters after the inputs).

    Raises:
        Unlowered: the graph has dtypes that no programs are generated for, or moves values between devices.
    """
    if any(node.is_operation and node.op == "to_device" for node in graph.nodes):
        raise Unlowered("a program has all its memory on one device")
    made = Program(
        low := lowered(graph, APART, checked=False),
        (plan := schedule(low, mixed=False)),
        memory(plan, dict(writes or {})),
        "",
        [],
    )
    texts: dict[str, str] = {}
    for i, step in enumerate(plan.steps):
        if isinstance(step, Call):
            made.steps.append(step)
            continue
        if not step.size:
            continue
        for kernel in KernelWriter(step, made.stored, made.memory.places).kernels():
            name = f"k{hashlib.blake2b(kernel.text.encode(), digest_size=8).hexdigest()}"
            texts.setdefault(name, kernel.text.replace(" NAME(", f" {name}(", 1))
            places = tuple(made.memory.between[i] if p is None else p for p in kernel.places)
            made.steps.append(Launch(name, kernel, places, step))
    made.source = "\n".join([PRELUDE, *(text + "\n" for text in texts.values())])
    return made
