"""A program: a graph's steps as the functions of one LLVM module, and where in memory everything lies.

Stored terms that are no inputs or outputs lie in one arena, planned by their lifetimes (``hammer.graph.memory``); an elementwise result
takes the place of an operand that nobody reads any more. The module has one function for each *segment*, a run of steps between two
that only a row's kernel for NumPy can do. All threads run a segment together (``team``): each does its part of a step, and
between steps they wait for each other. How a step is cut into parts depends on nothing but the program, so results do not
depend on which threads were there.

The function's argument is a table: the arena's address, the addresses of the array objects of inputs, constants, outputs and of
what NumPy computed, and the addresses of BLAS's functions.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..memory import ALIGNMENT, plan
from .blas import Blas
from .calls import convolution, gemm, scan
from .lazy import Term
from .lowering import Call, Lowered
from .nests import Kernel, NestWriter
from .schedule import Nest, Schedule, address
from .views import strided

ALONE = 12_000
"""The work below which a step is done by one thread, and its neighbours with it."""
TOGETHER = 800_000
"""The work below which a whole program is done by one thread."""


@dataclass(frozen=True)
class Slot:
    """The memory of an array object, by its place in the table."""

    index: int


@dataclass(frozen=True)
class Offset:
    """A place in the arena, in bytes."""

    bytes: int


@dataclass(eq=False)
class Native:
    """Steps that are compiled together; ``index`` is the number of their function. With each step go its kernel, and where in the
    arena its threads' own memory and what they share begin."""

    index: int
    kernels: list[tuple[Any, Kernel, int, int]] = field(default_factory=list)

    @property
    def work(self) -> float:
        return sum(kernel.work for _, kernel, *_ in self.kernels)


@dataclass(eq=False)
class Program:
    """What is made of a schedule.

    Attributes:
        text: the module.
        parts: segments and calls for NumPy, in order.
        places: where each stored term lies.
        arena: its bytes.
        slots: entries of the table: 0 is the arena; inputs, constants, outputs, NumPy's results and BLAS's functions follow.
        first_output, first_function: where those begin.
        made: slots of what NumPy computes.
        threads: how many work on it at most.
        donated: outputs that are written into an input's memory: output number -> input number.
        bound: bytes of the arena that are in use at one step, at most.
    """

    text: str
    parts: list[Any]
    places: dict[Term, Any]
    arena: int
    slots: int
    first_output: int
    first_function: int
    made: dict[Term, int]
    threads: int
    donated: dict[int, int]
    bound: int


def program(
    schedule: Schedule, blas: Blas, threads: int, writes: dict[int, int] | None = None, apart: bool = False
) -> Program:
    """The program of a schedule for at most so many threads; with ``apart`` each step has a function of its own."""
    return _Maker(schedule, blas, threads, writes or {}).run(apart)


class _Maker:
    def __init__(self, schedule: Schedule, blas: Blas, threads: int, writes: dict[int, int]):
        self.schedule, self.blas, self.threads, self.writes = schedule, blas, threads, writes
        self.lowered: Lowered = schedule.lowered
        self.stored = lambda t: t.op in ("buffer", "call") or t in schedule.stored
        self.functions: dict[str, str] = {}

    def run(self, apart: bool) -> Program:
        kernels = [self._kernels(step) for step in self.schedule.steps]
        work = sum(k.work for found in kernels for k in found)
        if work < TOGETHER:
            self.threads = 1
        self._slots()
        self._memory(kernels)
        parts: list[Any] = []
        for i, (step, found) in enumerate(zip(self.schedule.steps, kernels, strict=True)):
            if not found:
                parts.append(step)
                continue
            if apart or not parts or not isinstance(parts[-1], Native):
                parts.append(Native(sum(isinstance(p, Native) for p in parts)))
            parts[-1].kernels += [
                (step, k, self.scratch.get((i, j), 0), self.shared.get(i, 0)) for j, k in enumerate(found)
            ]
        segments = [self._segment(p) for p in parts if isinstance(p, Native)]
        text = "\n\n".join([*self.functions.values(), *segments])
        return Program(
            text, parts, self.places, self.arena, self.table, self.first_output, self.first_function, self.made, self.threads, self.donated, self.bound,
        )  # fmt: skip

    def _kernels(self, step: Any) -> list[Kernel]:
        if not isinstance(step, Call):
            return NestWriter(step, self.schedule).kernels()
        if step.kind == "gemm":
            return [gemm(step, [strided(x, self.stored) for x in step.args], self.blas.integer, self.threads)]
        if step.kind == "scan":
            return [scan(step, [strided(x, self.stored) for x in step.args])]
        if step.kind == "python":
            return []
        return convolution(step, [strided(x, self.stored) for x in step.args], self.blas.integer, self.threads)

    # ---- memory ----

    def _slots(self) -> None:
        self.places: dict[Term, Any] = {t: Slot(1 + i) for i, t in enumerate(self.lowered.inputs)}
        self.places |= {t: Slot(1 + len(self.places) + i) for i, t in enumerate(self.lowered.constants)}
        self.first_output = n = 1 + len(self.places)
        self.donated: dict[int, int] = {}
        ends = self._ends()
        for i, t in enumerate(self.schedule.outputs):
            source = self.writes.get(i)
            if t in self.places:
                continue
            if source is not None and self._may_overwrite(t, self.lowered.inputs[source], ends):
                self.places[t] = self.places[self.lowered.inputs[source]]
                self.donated[i] = source
            else:
                self.places[t] = Slot(n + i)
        n += len(self.schedule.outputs)
        self.made: dict[Term, int] = {}
        for step in self.schedule.steps:
            if isinstance(step, Call) and step.kind == "python":
                for t in step.outputs:
                    self.made[t] = n
                    self.places.setdefault(t, Slot(n))
                    n += 1
        self.first_function = n
        self.table = n + 2

    def _reads(self, step: Any) -> list[Term]:
        if isinstance(step, Nest):
            return [x for root in step.roots for x, _ in root.reads]
        return [strided(x, self.stored)[0] for x in step.args]

    def _makes(self, step: Any) -> list[Term]:
        if isinstance(step, Nest):
            return [r.term if r.into is None else r.into for r in step.roots]
        return step.outputs  # type: ignore[no-any-return]

    def _ends(self) -> dict[Term, int]:
        """The step that reads each stored term last."""
        ends: dict[Term, int] = {}
        for i, step in enumerate(self.schedule.steps):
            for t in (*self._makes(step), *self._reads(step)):
                ends[t] = i
        return ends

    def _may_overwrite(self, t: Term, old: Term, ends: dict[Term, int]) -> bool:
        """Whether a term may take the place of another, which is read before it is written only, or at the same element."""
        if t.dtype != old.dtype or t.size != old.size or any(t is x for x in self.lowered.inputs):
            return False
        at = next(i for i, step in enumerate(self.schedule.steps) if any(t is x for x in self._makes(step)))
        last = ends.get(old, -1)
        return last < at or (last == at and self._same_element(self.schedule.steps[at], t, old))

    def _same_element(self, step: Any, t: Term, old: Term) -> bool:
        """Whether a nest that makes t reads the old term at the element of t that it is at, and no later than it writes t."""
        if not isinstance(step, Nest) or t not in step.made or t.op == "reduce" or t.shape != step.frame:
            return False
        root = step.made[t]
        reads = [(r, at) for r in step.roots for x, at in r.reads if x is old]
        return (
            any(r is root for r, _ in reads)
            and all(at == address(t) and r.phase <= root.phase for r, at in reads)
            and not any(x is old and r.phase == root.phase and not r.reads for r in step.roots for x, _ in r.reads)
        )

    def _memory(self, kernels: Sequence[Sequence[Kernel]]) -> None:
        ends = self._ends()
        outputs = set(self.schedule.outputs)
        owner: dict[Term, Term] = {}  # whose memory a term is written over
        first: dict[Term, int] = {}
        last: dict[Term, int] = {}
        for i, step in enumerate(self.schedule.steps):
            taken: set[Term] = set()
            for t in self._makes(step):
                if t in self.places or t in first:
                    continue
                end = ends[t] if t not in outputs else len(self.schedule.steps)
                for old in dict.fromkeys(self._reads(step)):
                    if (
                        first.get(old, i) < i and ends[old] == i and old not in taken and old.nbytes == t.nbytes and old.dtype == t.dtype
                        and self._same_element(step, t, old)
                    ):  # fmt: skip
                        taken.add(old)
                        own = owner.get(old, old)
                        owner[t] = own
                        last[own] = max(last[own], end)
                        break
                first[t] = i
                if t not in owner:
                    last[t] = end
        buffers: list[tuple[int, int, int]] = [(t.nbytes, first[t], last[t]) for t in first if t not in owner]
        names: list[Any] = [t for t in first if t not in owner]
        for i, found in enumerate(kernels):
            for j, kernel in enumerate(found):
                if kernel.scratch:
                    names.append((i, j))
                    buffers.append((self.threads * _rounded(kernel.scratch), i, i))
            if any(k.shared for k in found):
                names.append(i)
                buffers.append((found[0].shared, i, i))
        made = plan(buffers, ALIGNMENT)
        self.arena, self.bound = made.peak, made.bound
        self.scratch: dict[tuple[int, int], int] = {}
        self.shared: dict[int, int] = {}
        for name, offset in zip(names, made.offsets, strict=True):
            if isinstance(name, Term):
                self.places[name] = Offset(offset)
            elif isinstance(name, tuple):
                self.scratch[name] = offset
            else:
                self.shared[name] = offset
        self.places |= {t: self.places[own] for t, own in owner.items()}

    # ---- the functions ----

    def _segment(self, part: Native) -> str:
        head: dict[Any, str] = {}
        lines: list[str] = []

        def pointer(place: Any) -> str:
            found = head.get(place)
            if found is None:
                found = head[place] = f"%p{len(head)}"
            return found

        team = self.threads > 1
        before = False  # whether the step before was everybody's
        first = True
        for _, kernel, scratch, shared in part.kernels:
            arrays, name = self._function(kernel)
            alone = not team or kernel.work < ALONE or kernel.units == 1
            if team and not first and (before or not alone):
                lines.append("  call void %barrier(ptr %sync, i64 %n)")
            arguments = [f"ptr {pointer(self.places[t])}" for t in arrays]
            if kernel.shared:
                arguments.append(f"ptr {pointer(Offset(shared))}")
            n = len(lines)
            if kernel.scratch:
                base = pointer(Offset(scratch))
                lines.append(f"  %o{n} = mul i64 %t, {_rounded(kernel.scratch)}")
                lines.append(f"  %s{n} = getelementptr i8, ptr {base}, i64 %o{n}")
                arguments.append(f"ptr %s{n}")
            if "%f(" in kernel.text:
                arguments.append(f"ptr {pointer(('blas', self._dtype(kernel)))}")
            if alone:
                call = f"call void @{name}({', '.join([*arguments, 'i64 0', f'i64 {kernel.units}'])})"
                if team:
                    lines += [
                        f"  br i1 %mine, label %do{n}, label %skip{n}",
                        f"do{n}:",
                        f"  {call}",
                        f"  br label %skip{n}",
                        f"skip{n}:",
                    ]
                else:
                    lines.append(f"  {call}")
            else:
                for what, t in (("lo", "%t"), ("hi", "%u")):
                    lines += [
                        f"  %{what}a{n} = mul i64 {t}, {kernel.units}",
                        f"  %{what}b{n} = udiv i64 %{what}a{n}, %n",
                    ]
                    if kernel.grain > 1:
                        lines += [
                            f"  %{what}c{n} = udiv i64 %{what}b{n}, {kernel.grain}",
                            f"  %{what}d{n} = mul i64 %{what}c{n}, {kernel.grain}",
                        ]
                lo, hi = (f"%lod{n}", f"%hid{n}") if kernel.grain > 1 else (f"%lob{n}", f"%hib{n}")
                if kernel.grain > 1:
                    lines.append(f"  %hie{n} = select i1 %isl, i64 {kernel.units}, i64 {hi}")
                    hi = f"%hie{n}"
                lines.append(f"  call void @{name}({', '.join([*arguments, f'i64 {lo}', f'i64 {hi}'])})")
            before, first = not alone, False
        if team:
            lines.append("  call void %barrier(ptr %sync, i64 %n)")
        loads = ["  %arena = load ptr, ptr %table"]
        for place, name in head.items():
            if isinstance(place, Offset):
                loads.append(f"  {name} = getelementptr i8, ptr %arena, i64 {place.bytes}")
            elif isinstance(place, Slot):
                loads += [
                    f"  {name}s = getelementptr i8, ptr %table, i64 {8 * place.index}",
                    f"  {name}o = load ptr, ptr {name}s",
                    f"  {name}d = getelementptr i8, ptr {name}o, i64 {object.__basicsize__}",  # where NumPy keeps the data's address
                    f"  {name} = load ptr, ptr {name}d",
                ]
            else:
                index = self.first_function + (place[1] == "float64")
                loads += [
                    f"  {name}s = getelementptr i8, ptr %table, i64 {8 * index}",
                    f"  {name} = load ptr, ptr {name}s",
                ]
        setup = ["  %u = add i64 %t, 1", "  %mine = icmp eq i64 %t, 0", "  %isl = icmp eq i64 %u, %n"]
        if team:
            setup += [
                f"  %bs = getelementptr i8, ptr %table, i64 {8 * self.table}",
                "  %barrier = load ptr, ptr %bs",
            ]
        return "\n".join(
            [
                f"define void @run{part.index}(ptr noalias %table, i64 %t, i64 %n, ptr %sync) {{",
                "entry:",
                *setup,
                *loads,
                *lines,
                "  ret void",
                "}",
            ]
        )

    def _function(self, kernel: Kernel) -> tuple[list[Term], str]:
        """The arrays of a kernel and its name in the module. Arrays that lie in one place become one: as two, they would be promised
        not to overlap."""
        text, arrays = kernel.text, []
        seen: dict[Any, int] = {}
        for i, t in enumerate(kernel.arrays):
            before = seen.setdefault(self.places[t], i)
            if before == i:
                arrays.append(t)
                continue
            text = re.sub(rf"ptr [a-z ]*%a{i}, ", "", text, count=1)
            text = re.sub(rf"%a{i}\b", f"%a{before}", text)
        digest = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
        name = f"k{digest}"
        self.functions.setdefault(name, text.replace("@NAME(", f"@{name}(", 1))
        return arrays, name

    @staticmethod
    def _dtype(kernel: Kernel) -> str:
        return kernel.arrays[0].dtype.name


def _rounded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def readable(text: str) -> str:
    """The module with short names for its functions, to be read."""
    names: dict[str, str] = {}
    return re.sub(r"@k[0-9a-f]{16}", lambda m: names.setdefault(m[0], f"@kernel{len(names)}"), text)
