"""The LLVM function of a loop nest.

``define void @nest(ptr a0, ptr a1, ..., i64 lo, i64 hi)``: the arrays it touches, and the part of the nest that the calling thread
works on. Neighbouring axes that every array runs through alike become one loop, and the innermost loop is left to LLVM to
vectorise. Loops are written with variables in memory, which LLVM's first passes turn into registers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .lazy import Term
from .maths import MEMORY, TYPES, Code, literal
from .schedule import HEAVY, Nest, Puller, Root, Schedule, address, whole
from .views import Index, combined, contiguous

ENOUGH = 64
"""How many iterations are shared by threads at least, where there are as many."""
UNROLLED = 4
"""The most iterations of an innermost loop that are written out."""
LINE = 64
"""Bytes of a cache line, which threads do not share."""
IDENTITY = {"add": 0, "multiply": 1, "maximum": -np.inf, "minimum": np.inf}


@dataclass
class Kernel:
    """The text of a function (with ``@NAME`` for its name), what its pointers are, and over how many units threads share it.

    Attributes:
        arrays: the stored terms whose memory the pointers are of.
        scratch: bytes that each thread needs for itself; their pointer comes after the arrays'.
        units: how many iterations there are to share.
        work: elements times a rough cost of each.
        grain: parts begin at multiples of it.
        shared: bytes that all threads share; their pointer comes after the arrays'.
    """

    text: str
    arrays: list[Term]
    scratch: int
    units: int
    work: float
    grain: int
    shared: int = 0


class Loop:
    """Neighbouring axes of the frame as one loop."""

    def __init__(self, axes: list[int], size: int, reduced: bool):
        self.axes, self.size, self.reduced = axes, size, reduced
        self.var = ""  # the name of its index, where code is being written


class NestWriter:
    """Writes the function of one nest."""

    def __init__(self, step: Nest, schedule: Schedule, threads: int):
        self.nest = step
        self.kept, self.threads = schedule.stored, threads
        self.code = Code()
        self.arrays: list[Term] = []
        self.work = 0

    # ---- memory ----

    def pointer(self, t: Term) -> str:
        for i, x in enumerate(self.arrays):
            if x is t:
                return f"%a{i}"
        self.arrays.append(t)
        return f"%a{len(self.arrays) - 1}"

    def index(self, at: Index) -> str:
        """The value of an index in the loops that are open."""
        constant, parts = at
        by_loop: dict[str, int] = {}
        for name, k in parts:
            if isinstance(name, str):
                by_loop[name] = by_loop.get(name, 0) + k
            elif self.loop_of[name].axes[-1] == name:  # coefficients of the axes before are multiples of the last one's
                by_loop[self.loop_of[name].var] = by_loop.get(self.loop_of[name].var, 0) + k
        return self.code.linear([*by_loop.items()], constant)

    def load(self, pointer: str, dtype: Any, at: Index) -> str:
        kind = MEMORY[dtype.name]
        place = self.code.element(kind, pointer, self.index(at))
        value = self.code.put(f"load {kind}, ptr {place}")
        return self.code.put(f"icmp ne i8 {value}, 0") if dtype.name == "bool" else value

    def store(self, pointer: str, dtype: Any, at: Index, value: str) -> None:
        kind = MEMORY[dtype.name]
        place = self.code.element(kind, pointer, self.index(at))
        if dtype.name == "bool":
            value = self.code.put(f"zext i1 {value} to i8")
        self.code.do(f"store {kind} {value}, ptr {place}")

    # ---- loops ----

    def loop(self, loop: Loop, low: str, high: str, body: Callable[[], None]) -> None:
        def inside(x: str) -> None:
            loop.var = x
            body()

        self.code.loop(low, high, inside)

    def loops(self, loops: Sequence[Loop], body: Callable[[], None]) -> None:
        if not loops:
            body()
        elif len(loops) == 1 and loops[0].size <= UNROLLED and len(self.found) > 1:
            for i in range(loops[0].size):  # so that the loop around it is vectorised
                loops[0].var = str(i)
                body()
        else:
            self.loop(loops[0], "0", str(loops[0].size), lambda: self.loops(loops[1:], body))

    # ---- what is read, and where ----

    def address(self, root: Root) -> tuple[Term, Index]:
        """Where a root's value goes."""
        if root.into is not None:
            steps = contiguous(root.into.shape)
            return root.into, combined([(p, s) for p, s in zip(whole(root.term), steps, strict=True)], root.offset)
        return root.term, address(root.term)

    def stored(self, t: Term) -> bool:
        return t.op in ("buffer", "call") or t in self.kept

    def survey(self) -> None:
        """Find the loops: which axes every address runs through alike. And what is worth keeping from phase to phase."""
        forms: list[Index] = [self.address(r)[1] for r in self.nest.roots]
        heavy: dict[Term, set[Any]] = {}
        frame = self.nest.frame
        full = tuple((0, ()) if n == 1 else (0, ((a, 1),)) for a, n in enumerate(frame))
        for root in self.nest.roots:
            own = root.term if root.term.op != "reduce" else None

            def node(t: Term, *args: Any, root: Root = root) -> Any:
                self.work += 1
                if t.op == "iota":
                    forms.append(args[0])
                if t.op in HEAVY:
                    self.work += 8
                return f"%{id(t)}"

            def leaf(t: Term, at: Index, _: Any) -> str:
                forms.append(at)
                return "%x"

            puller = Puller(lambda t, own=own: t is not own and self.stored(t), leaf, node)  # type: ignore[misc]
            puller(root.expression, whole(root.expression))
            if self.nest.mode == "row":
                for t, at in puller.memo:
                    if t.op in HEAVY and t.shape == frame and not self.stored(t):
                        heavy.setdefault(t, set()).add(root.phase if at == full else None)
        self.scratch = [t for t, phases in heavy.items() if len(phases) > 1 and None not in phases]
        self.first = {t: min(heavy[t]) for t in self.scratch}
        axes = [a for a, n in enumerate(frame) if n != 1]
        found: list[Loop] = []
        for a in axes:
            reduced = a in self.nest.axes
            if found and found[-1].reduced == reduced:
                before = found[-1].axes[-1]
                if all(coefficient(f, before) == coefficient(f, a) * frame[a] for f in forms):
                    found[-1].axes.append(a)
                    found[-1].size *= frame[a]
                    continue
            found.append(Loop([a], frame[a], reduced))
        self.found = found or [Loop([0], 1, False)]
        self.loop_of = {a: loop for loop in self.found for a in loop.axes}

    # ---- values ----

    def puller(self, phase: int, own: Term | None, values: dict[Term, str]) -> Puller:
        code = self.code

        def stored(t: Term) -> bool:
            return t is not own and (self.stored(t) or (t in self.first and self.first[t] < phase and own is not t))

        def leaf(t: Term, at: Index, position: Any) -> str:
            if t in values:
                return values[t]
            if t in self.first:
                return self.load(self.scratch_pointer(t), t.dtype, self.scratch_index())
            return self.load(self.pointer(t), t.dtype, at)

        def node(t: Term, *args: Any) -> str:
            if t.op == "number":
                return literal(t.attrs[1], TYPES[t.dtype.name])
            if t.op == "iota":
                return self.index(args[0])
            if t.op == "at":
                return self.clamped(t, args[0])
            value = code.apply(t.op, t.dtype, t.args[-1].dtype, list(args))
            if self.first.get(t) == phase and t not in values:
                self.store(self.scratch_pointer(t), t.dtype, self.scratch_index(), value)
            return value

        return Puller(stored, leaf, node)

    def clamped(self, t: Term, index: str) -> str:
        """An index as i64, within bounds whatever the array holds."""
        x, given = t.args
        (axis,) = t.attrs
        kind = TYPES[given.dtype.name]
        wide = index if kind == "i64" else self.code.put(f"sext {kind} {index} to i64")
        n = x.shape[axis]
        negative = self.code.put(f"icmp slt i64 {wide}, 0")
        wide = self.code.select(negative, "i64", self.code.put(f"add i64 {wide}, {n}"), wide)
        wide = self.code.put(f"call i64 @llvm.smax.i64(i64 {wide}, i64 0)")
        return self.code.put(f"call i64 @llvm.smin.i64(i64 {wide}, i64 {n - 1})")

    def scratch_pointer(self, t: Term) -> str:
        before = self.scratch[: next(i for i, x in enumerate(self.scratch) if x is t)]
        return self.code.element("i8", "%scratch", sum(self.row * x.dtype.itemsize for x in before))

    def scratch_index(self) -> Index:
        axes = [a for a in self.nest.axes if self.nest.frame[a] != 1]
        steps = contiguous([self.nest.frame[a] for a in axes])
        return (0, tuple((a, s) for a, s in zip(axes, steps, strict=True)))

    # ---- the function ----

    def kernels(self) -> list[Kernel]:
        """The function of the nest; of a divided reduction one for the parts and one that puts them together."""
        self.survey()
        if self.nest.divided and self.threads > 1:
            return self._divided()
        nest, code = self.nest, self.code
        self.row = int(np.prod([nest.frame[a] for a in nest.axes], dtype=np.int64))
        scratch = sum(self.row * t.dtype.itemsize for t in self.scratch)
        kept = [loop for loop in self.found if not loop.reduced]
        reduced = [loop for loop in self.found if loop.reduced]
        grain = 1
        if nest.mode == "column":
            grain, units = self._columns(kept, reduced)
        elif nest.mode == "row":
            units = self._rows(kept, reduced)
        else:
            cut = next((i for i in range(1, len(kept)) if np.prod([x.size for x in kept[:i]]) >= ENOUGH), len(kept) - 1)
            outer, inner = (kept[:cut], kept[cut:]) if len(kept) > 1 else (kept, [])
            units = self._shared(outer, lambda: self.loops(inner, lambda: self._values(0, {})))
            grain = 1 if inner else 16
        arguments = [f"ptr noalias nocapture %a{i}" for i in range(len(self.arrays))]
        arguments += ["ptr noalias nocapture %scratch"] * bool(scratch) + ["i64 %lo", "i64 %hi"]
        text = code.function("NAME", arguments)
        return [Kernel(text, self.arrays, scratch, units, self.work * nest.size, grain)]

    def _shared(self, loops: list[Loop], body: Callable[[], None]) -> int:
        """Loops whose iterations, counted through, are shared by the threads. Returns how many there are."""
        if not loops:
            flat = Loop([], 1, False)
            self.loop(flat, "%lo", "%hi", body)
            return 1
        if len(loops) == 1:
            self.loop(loops[0], "%lo", "%hi", body)
            return loops[0].size
        flat = Loop([], int(np.prod([x.size for x in loops], dtype=np.int64)), False)

        def split() -> None:
            rest = flat.var
            for x in reversed(loops[1:]):
                x.var = self.code.put(f"urem i64 {rest}, {x.size}")
                rest = self.code.put(f"udiv i64 {rest}, {x.size}")
            loops[0].var = rest
            body()

        self.loop(flat, "%lo", "%hi", split)
        return flat.size

    def _values(
        self, phase: int, values: dict[Term, str], accumulate: Callable[[Root, str], None] | None = None
    ) -> None:
        """One element of each root of a phase."""
        values = dict(values)
        shared: Puller | None = None
        for root in self.nest.roots:
            if root.phase != phase or (root.term.op != "reduce" and root.term.shape != self.nest.frame):
                continue
            own = root.term if root.term.op != "reduce" else None
            puller = self.puller(phase, own, values)
            if shared is not None:
                puller.memo = {k: v for k, v in shared.memo.items() if k[0] is not own}
            value = puller(root.expression, whole(root.expression))
            shared = puller
            if root.term.op == "reduce":
                assert accumulate is not None
                accumulate(root, value)
            else:
                values[root.term] = value
                t, at = self.address(root)
                self.store(self.pointer(t), t.dtype, at, value)

    def _rows(self, kept: list[Loop], reduced: list[Loop]) -> int:
        code = self.code
        phases = sorted({r.phase for r in self.nest.roots})

        def row() -> None:
            values: dict[Term, str] = {}
            for phase in phases:
                for root in self.nest.roots:  # one value for each row
                    if root.phase == phase and root.term.op != "reduce" and root.term.shape != self.nest.frame:
                        value = self.puller(phase, root.term, values)(root.term, whole(root.term))
                        values[root.term] = value
                        t, at = self.address(root)
                        self.store(self.pointer(t), t.dtype, at, value)
                inner = [
                    r
                    for r in self.nest.roots
                    if r.phase == phase and (r.term.op == "reduce" or r.term.shape == self.nest.frame)
                ]
                if not inner:
                    continue
                sums, add = self._sums(inner)
                self.loops(reduced, lambda phase=phase, values=values, add=add: self._values(phase, values, add))  # type: ignore[misc]
                for root, place in sums.items():
                    value = code.put(f"load {TYPES[root.term.dtype.name]}, ptr {place}")
                    values[root.term] = value
                    t, at = self.address(root)
                    self.store(self.pointer(t), t.dtype, at, value)

        return self._shared(kept, row)

    def _sums(self, roots: Sequence[Root]) -> tuple[dict[Root, str], Callable[[Root, str], None]]:
        """A variable for each reduction, and what adds to it."""
        code, sums = self.code, {}
        for root in roots:
            if root.term.op == "reduce":
                kind = TYPES[root.term.dtype.name]
                sums[root] = code.variable(kind)
                code.do(f"store {kind} {self.identity(root)}, ptr {sums[root]}")

        def add(root: Root, value: str) -> None:
            kind = TYPES[root.term.dtype.name]
            before = code.put(f"load {kind}, ptr {sums[root]}")
            code.do(f"store {kind} {self.joined(root, before, value)}, ptr {sums[root]}")

        return sums, add

    def _divided(self) -> list[Kernel]:
        """Parts of the outermost loop, each with its own sums in memory that all share; then the parts' sums, in their order."""
        code, parts = self.code, self.threads
        first, *rest = self.found
        roots = [r for r in self.nest.roots if r.term.op == "reduce"]

        def part(p: str) -> None:
            sums, add = self._sums(roots)
            low = code.put(f"udiv i64 {code.linear([(p, first.size)])}, {parts}")
            high = code.put(f"udiv i64 {code.linear([(p, first.size)], first.size)}, {parts}")
            self.loop(first, low, high, lambda: self.loops(rest, lambda: self._values(0, {}, add)))
            for i, root in enumerate(roots):
                kind = TYPES[root.term.dtype.name]
                place = code.element("i8", "%shared", code.linear([(p, LINE)], i * parts * LINE))
                code.do(f"store {kind} {code.put(f'load {kind}, ptr {sums[root]}')}, ptr {place}")

        code.loop("%lo", "%hi", part)
        arguments = [f"ptr noalias nocapture %a{i}" for i in range(len(self.arrays))]
        text = code.function("NAME", [*arguments, "ptr noalias nocapture %shared", "i64 %lo", "i64 %hi"])
        shared = len(roots) * parts * LINE
        kernel = Kernel(text, self.arrays, 0, parts, self.work * self.nest.size, 1, shared)
        self.code, self.arrays = Code(), []
        for i, root in enumerate(roots):
            kind, total = TYPES[root.term.dtype.name], self.identity(root)
            for p in range(parts):
                place = self.code.element("i8", "%shared", (i * parts + p) * LINE)
                total = self.joined(root, total, self.code.put(f"load {kind}, ptr {place}"))
            t, at = self.address(root)
            self.store(self.pointer(t), t.dtype, at, total)
        arguments = [f"ptr noalias nocapture %a{i}" for i in range(len(self.arrays))]
        text = self.code.function("NAME", [*arguments, "ptr noalias nocapture %shared", "i64 %lo", "i64 %hi"])
        return [kernel, Kernel(text, self.arrays, 0, 1, 1, 1, shared)]

    def _columns(self, kept: list[Loop], reduced: list[Loop]) -> tuple[int, int]:
        """Sums along outer axes: kept in memory, a row of them at a time."""
        inner, outer = kept[-1], kept[:-1]
        roots = [r for r in self.nest.roots if r.term.op == "reduce"]
        before = self.found[: self.found.index(reduced[0])]
        outer_first = [loop for loop in outer if loop in before]
        between = [loop for loop in outer if loop not in before]
        split = not outer_first
        low, high = ("%lo", "%hi") if split and not between else ("0", str(inner.size))

        def row(body: Callable[[], None]) -> Callable[[], None]:
            return lambda: self.loop(inner, low, high, body)

        def clear() -> None:
            for root in roots:
                t, at = self.address(root)
                self.store(self.pointer(t), t.dtype, at, self.identity(root))

        def add(root: Root, value: str) -> None:
            t, at = self.address(root)
            before = self.load(self.pointer(t), t.dtype, at)
            self.store(self.pointer(t), t.dtype, at, self.joined(root, before, value))

        def work() -> None:
            row(clear)()
            self.loops(reduced, row(lambda: self._values(0, {}, add)))

        if split and not between:
            work()
            return 16, inner.size
        return 1, self._shared([*outer_first, *between], work)

    def identity(self, root: Root) -> str:
        kind, dtype = root.term.attrs[0], root.term.dtype
        value = IDENTITY[kind]
        if dtype.kind in "iu" and kind in ("maximum", "minimum"):
            value = np.iinfo(dtype).min if kind == "maximum" else np.iinfo(dtype).max
        return literal(value, TYPES[dtype.name])

    def joined(self, root: Root, x: str, y: str) -> str:
        kind, dtype = root.term.attrs[0], root.term.dtype
        name = TYPES[dtype.name]
        if dtype.kind == "f" and kind in ("add", "multiply"):
            return self.code.put(f"f{kind[:3]} reassoc contract {name} {x}, {y}")
        return self.code.apply(kind, dtype, dtype, [x, y])


def coefficient(at: Index, axis: int) -> int:
    return next((k for name, k in at[1] if name == axis), 0)
