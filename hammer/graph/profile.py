"""Where a plan spends its time: each step of it as measured, beside the least time that the machine needs for such a step.

A plan is profiled through one protocol. What has a method ``steps(values)`` that returns a list of ``PlanStep`` is timed step by
step; ``execute.Plan`` is, by its statements; any other plan is one step. A step is ``(label, nodes, run)``: running all steps of one
list in order is one run of the plan on the values given.

The bound is the roofline of Williams, Waterman and Patterson (2009): a step of F floating-point operations that moves B bytes takes at
least max(F / peak, B / bandwidth). Peak is that of a large matrix product and bandwidth that of a large copy, on all threads,
given or measured (``Peaks``). A step may beat its bound if what it reads is in the caches.
"""

import functools
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import CodeType
from typing import Any, NamedTuple

import numpy as np

from autograd import backend
from autograd.shapes import numpy_dtype

from .cost import cost_of
from .execute import Plan, class_of, given_values
from .graph import UniversalGraph, is_number
from .ir import Node, described

VIEWS = frozenset(("reshape", "expand_dims", "squeeze", "permute", "broadcast_to", "flip", "split", "stop_gradient"))
"""Rows that need move nothing: their values may be views of their inputs."""

SHOWN = 40
"""Rows that ``str`` shows of a profile: those that take longest."""


class PlanStep(NamedTuple):
    """A step of a plan: what it is called, the nodes that it computes, and a function without arguments that does it, once.

    ``flops``, ``bytes`` and the ``dtype`` it computes in: its work; None: what the table's cost column says of the nodes.
    """

    label: str
    nodes: tuple[Node, ...]
    run: Callable[[], Any]
    flops: float | None = None
    bytes: int | None = None
    dtype: Any = np.float32


# ---- the roofs ----


@dataclass(frozen=True)
class Peaks:
    """What the machine does at most.

    Attributes:
        flops: floating-point operations a second, of float32.
        bandwidth: bytes a second that a copy reads and writes, in all.
        double: floating-point operations a second of float64 and complex128; None: half of ``flops``.
    """

    flops: float
    bandwidth: float
    double: float | None = None

    def of(self, dtype: Any) -> float:
        """Operations a second on values of a dtype; those of 8 bytes or more, parts of complex numbers singly, count as double."""
        dtype = numpy_dtype(dtype)
        wide = dtype.itemsize >= (16 if dtype.kind == "c" else 8) and dtype.kind in "fc"
        return (self.flops / 2 if self.double is None else self.double) if wide else self.flops

    def __str__(self) -> str:
        return f"{self.flops / 1e9:.4g} GFLOP/s, {self.bandwidth / 1e9:.3g} GB/s"


@functools.lru_cache(maxsize=1)
def measured_peaks(rows: int = 1024, megabytes: int = 64) -> Peaks:
    """The peaks of this machine as NumPy reaches them, measured once in a process: the best of some products and copies.

    Args:
        rows: of the square matrices that are multiplied.
        megabytes: that are copied, by as many threads as there are cores.
    """
    found = {}
    for dtype in (np.float32, np.float64):
        a = np.ones((rows, rows), dtype)
        out = np.empty_like(a)
        found[dtype] = 2.0 * rows**3 / _fastest(lambda a=a, out=out: np.matmul(a, a, out=out))  # type: ignore[misc]
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    source, target = np.ones(megabytes << 17), np.zeros(megabytes << 17)
    parts = list(zip(np.array_split(target, threads), np.array_split(source, threads), strict=True))
    with ThreadPoolExecutor(threads) as pool:
        copied = _fastest(lambda: list(pool.map(lambda part: np.copyto(*part), parts)))
    return Peaks(found[np.float32], 2.0 * source.nbytes / copied, found[np.float64])


def _fastest(run: Callable[[], Any], times: int = 5) -> float:
    return min(_seconds(run) for _ in range(times))


def _seconds(run: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


# ---- what is measured ----


@dataclass(frozen=True)
class StepTime:
    """One step: seconds as measured (a median), the work by the table's cost column, and the bound in seconds."""

    label: str
    nodes: tuple[Node, ...]
    seconds: float
    flops: float
    bytes: int
    bound: float

    @property
    def reached(self) -> float:
        """The bound as a part of the time: 1 is as fast as the machine."""
        return self.bound / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class Profile:
    """A plan's time step by step. Print it: what takes longest comes first.

    Attributes:
        rows: the steps in the order of the plan.
        whole: seconds of the plan run as it is, not step by step (a median).
        peaks: what the bounds were computed with.
    """

    rows: tuple[StepTime, ...]
    whole: float
    peaks: Peaks

    @property
    def seconds(self) -> float:
        """Of all steps. More than ``whole`` by what timing each costs."""
        return sum(r.seconds for r in self.rows)

    @property
    def flops(self) -> float:
        return sum(r.flops for r in self.rows)

    @property
    def bytes(self) -> int:
        return sum(r.bytes for r in self.rows)

    @property
    def bound(self) -> float:
        """Seconds that the steps need at least, one after another."""
        return sum(r.bound for r in self.rows)

    def by_label(self) -> dict[str, float]:
        """Seconds by the steps' labels, the longest first."""
        found: dict[str, float] = defaultdict(float)
        for r in self.rows:
            found[r.label] += r.seconds
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    def __str__(self) -> str:
        order = sorted(self.rows, key=lambda r: -r.seconds)
        head = f"{'step':<54}{'µs':>11}{'part':>8}{'FLOPs':>15}{'bytes':>14}{'GFLOP/s':>9}{'GB/s':>8}{'bound, µs':>11}{'reached':>9}"  # fmt: skip
        lines = [head, *(self._line(_told(r), r) for r in order[:SHOWN])]
        if len(order) > SHOWN:
            rest = order[SHOWN:]
            parts = [sum(getattr(r, name) for r in rest) for name in ("seconds", "flops", "bytes", "bound")]
            lines.append(self._line(f"{len(rest)} others", StepTime("", (), *parts)))
        lines.append(self._line("all steps", StepTime("", (), self.seconds, self.flops, self.bytes, self.bound)))
        lines.append(f"the plan as a whole: {1e6 * self.whole:.2f} µs; bounds by {self.peaks}")
        return "\n".join(lines)

    def _line(self, text: str, r: StepTime) -> str:
        rate = lambda amount: amount / r.seconds / 1e9 if r.seconds else 0.0
        part = r.seconds / self.seconds if self.seconds else 0.0
        return (
            f"{text:<54.53}{1e6 * r.seconds:>11.2f}{part:>8.1%}{r.flops:>15,.0f}{r.bytes:>14,}"
            f"{rate(r.flops):>9.2f}{rate(r.bytes):>8.2f}{1e6 * r.bound:>11.2f}{r.reached:>9.1%}"
        )


def _told(row: StepTime) -> str:
    return f"{row.label:<27.27} {described(row.nodes[-1])}" if row.nodes else row.label


def profile(
    graph: UniversalGraph,
    args: Sequence[Any],
    parameters: dict[str, Any],
    repeats: int = 5,
    exact: bool = True,
    peaks: Peaks | None = None,
) -> Profile:
    """A graph's plan, timed on these arguments; see ``UniversalGraph.profile``."""
    values = given_values(graph, args, parameters)
    return profile_plan(graph.plan(class_of(values), exact), values, repeats, peaks)


def profile_plan(plan: Any, values: Sequence[Any], repeats: int = 5, peaks: Peaks | None = None) -> Profile:
    """The time of each step of a plan, beside its roofline.

    Args:
        plan: of ``graph.plan`` or ``execute.make_plan``, or of your own: called with the values, with a graph as ``plan.graph``.
        values: raw arrays for its inputs and parameters. A plan that writes into them gets copies.
        repeats: how often it is run step by step, and as a whole; times are medians.
        peaks: None: measured, once in a process.
    """
    if repeats < 1:
        raise ValueError(f"profile: repeats must be at least 1, not {repeats}")
    if getattr(plan, "writes", None):
        values = [backend.asarray(v, copy=True) for v in values]
    plan(values)  # what is done at first only
    times: dict[int, list[float]] = defaultdict(list)
    whole, steps = [], list[PlanStep]()
    for _ in range(repeats):
        whole.append(_seconds(lambda: plan(values)))
        steps = steps_of(plan, values)
        for i, step in enumerate(steps):
            times[i].append(_seconds(step.run))
    peaks = peaks or measured_peaks()
    outside = _readers(plan.graph)
    rows = []
    for i, step in enumerate(steps):
        flops, moved, busy = _work(step.nodes, outside, peaks)
        if step.flops is not None:
            flops, busy = step.flops, step.flops / peaks.of(step.dtype)
        moved = moved if step.bytes is None else step.bytes
        bound = max(busy, moved / peaks.bandwidth)
        rows.append(StepTime(step.label, step.nodes, float(np.median(times[i])), flops, moved, bound))
    return Profile(tuple(rows), float(np.median(whole)), peaks)


def steps_of(plan: Any, values: Sequence[Any]) -> list[PlanStep]:
    """The steps of one run of a plan on these values, to be run in order, each once."""
    if hasattr(plan, "steps"):
        return list(plan.steps(values))
    if isinstance(plan, Plan):
        return _statements(plan, values)
    nodes = tuple(n for n in plan.graph.nodes if n.is_operation)
    return [PlanStep(f"the whole of {plan.graph.name}", nodes, lambda: plan(values))]


def _statements(plan: Plan, values: Sequence[Any]) -> list[PlanStep]:
    """The statements of a plan of NumPy calls, each with what is let go behind it."""
    if plan.reuse and not all(v.flags.c_contiguous for v in values):
        return _statements(Plan(plan.graph, plan.array_class, reuse=False, writes=plan.writes), values)
    room = dict(plan._names)
    room.update(zip([plan.var[n] for n in plan._inputs], values, strict=True))
    return [PlanStep(label, nodes, functools.partial(exec, code, room)) for label, nodes, code in _compiled(plan)]


@functools.lru_cache(maxsize=2)
def _compiled(plan: Plan) -> list[tuple[str, tuple[Node, ...], CodeType]]:
    lines = plan.source.splitlines()
    starts = sorted(plan._lines)
    found: list[tuple[str, tuple[Node, ...], CodeType]] = []
    for k, number in enumerate(starts):
        end = starts[k + 1] if k + 1 < len(starts) else len(lines) + 1
        texts = [line.strip() for line in lines[number - 1 : end - 1]]
        text = "\n".join(t for t in texts if not t.startswith("return"))
        node = plan._lines[number]
        found.append((node.op, (node,), compile(text, f"<step of {plan.graph.name}>", "exec")))
    return found


# ---- the work of a step ----


def _readers(graph: UniversalGraph) -> dict[Node, set[Node | None]]:
    """For each node, those that read it; None among them: it is an output."""
    found: dict[Node, set[Node | None]] = defaultdict(set)
    for node in graph.nodes:
        for n in node.inputs:
            found[n].add(node)
    for node in graph.outputs:
        found[node].add(None)
    return found


def _work(nodes: Sequence[Node], readers: dict[Node, set[Node | None]], peaks: Peaks) -> tuple[float, int, float]:
    """FLOPs, bytes, and the seconds that the FLOPs take at least. A step of one operation moves what the table says; of several, what comes in and goes out."""
    costs = [cost_of(n) for n in nodes if n.is_operation]
    flops = sum(c.flops for c in costs)
    if all(c.node.op in VIEWS for c in costs):
        moved = 0
    elif len(costs) == 1:
        moved = costs[0].bytes
    else:
        own = set(nodes)
        read = {n for node in nodes for n in node.inputs if n not in own and not is_number(n)}
        written = [n for n in nodes if not n.several and not readers[n] <= own]
        moved = sum(n.nbytes for n in (*read, *written))
    busy = sum(c.flops / peaks.of(_dtype(c.node)) for c in costs)
    return flops, moved, busy


def _dtype(node: Node) -> Any:
    """The dtype that an operation computes in: the widest of what it reads and makes that has a fraction."""
    found: Iterable[Any] = [*(n.dtype for n in node.inputs if not n.several and not is_number(n)), *(node.dtype if node.several else [node.dtype])]  # fmt: skip
    return max(map(numpy_dtype, found), key=lambda d: (d.kind in "fc", d.itemsize))
