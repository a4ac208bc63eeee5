"""The LLVM functions of a loop nest.

``define void @nest(ptr a0, ptr a1, ..., i64 lo, i64 hi)``: the arrays it touches, and the part of the nest that the calling thread
works on. The innermost loop is left to LLVM to vectorise. Where a nest makes sums over its rows, it has two functions: one makes
them for parts of the rows, the other puts the parts together.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .elements import Elements, Loop
from .lazy import Term
from .maths import TYPES, Code
from .schedule import Root, address, whole

ENOUGH = 64
"""How many iterations are shared by threads at least, where there are as many."""
LINE = 64
"""Bytes of a cache line, which threads do not share."""
PARTS = 16
"""Into how many parts rows are divided where sums over them are made: a number that does not depend on the machine."""


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


class NestWriter(Elements):
    """Writes the functions of one nest."""

    def kernels(self) -> list[Kernel]:
        """The function of the nest; of one with sums over rows one for the parts and one that puts them together."""
        self.survey()
        nest = self.nest
        self.row = int(np.prod([nest.frame[a] for a in self.inner], dtype=np.int64))
        if nest.divided:
            return self._parts(self.found[:1], self.found[1:])
        kept = [loop for loop in self.found if not loop.reduced]
        reduced = [loop for loop in self.found if loop.reduced]
        if nest.cut:
            return self._parts(kept, reduced)
        scratch = sum(self.row * t.dtype.itemsize for t in self.scratch)
        grain = 1
        if nest.mode == "column":
            grain, units = self._columns(kept, reduced)
        elif nest.mode == "row":
            units = self._shared(kept, self._row(reduced, {}))
        else:
            cut = next((i for i in range(1, len(kept)) if np.prod([x.size for x in kept[:i]]) >= ENOUGH), len(kept) - 1)
            outer, inner = (kept[:cut], kept[cut:]) if len(kept) > 1 else (kept, [])
            units = self._shared(outer, lambda: self.loops(inner, lambda: self._values(0, {})))
            grain = 1 if inner else 16
        text = self._function(*["%scratch"] * bool(scratch))
        return [Kernel(text, self.arrays, scratch, units, self.work * nest.size, grain)]

    def _shared(self, loops: list[Loop], body: Callable[[], None], low: str = "%lo", high: str = "%hi") -> int:
        """Loops whose iterations, counted through, are shared by the threads. Returns how many there are."""
        if not loops:
            flat = Loop([], 1, False)
            self.loop(flat, low, high, body)
            return 1
        if len(loops) == 1:
            self.loop(loops[0], low, high, body)
            return loops[0].size
        flat = Loop([], int(np.prod([x.size for x in loops], dtype=np.int64)), False)

        def split() -> None:
            rest = flat.var
            for x in reversed(loops[1:]):
                x.var = self.code.put(f"urem i64 {rest}, {x.size}")
                rest = self.code.put(f"udiv i64 {rest}, {x.size}")
            loops[0].var = rest
            body()

        self.loop(flat, low, high, split)
        return flat.size

    def _row(self, reduced: list[Loop], over: dict[Root, Callable[[Root, str], None]]) -> Callable[[], None]:
        """What is done for one row; ``over`` has the reductions that go on from row to row, with what adds to them."""
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
                sums, add_row = self._sums([r for r in inner if r not in over])

                def add(root: Root, value: str, add_row: Callable = add_row) -> None:
                    over.get(root, add_row)(root, value)

                self.loops(reduced, lambda phase=phase, values=values, add=add: self._values(phase, values, add))  # type: ignore[misc]
                for root, place in sums.items():
                    value = code.put(f"load {TYPES[root.term.dtype.name]}, ptr {place}")
                    values[root.term] = value
                    t, at = self.address(root)
                    self.store(self.pointer(t), t.dtype, at, value)

        return row

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

    def _parts(self, rows: list[Loop], row: list[Loop]) -> list[Kernel]:
        """Reductions over rows, or over everything: the rows in parts, each with sums of its own in memory that all share; then the
        parts' sums, in their order."""
        code = self.code
        along = self.nest.axes if self.nest.cut and self.nest.mode == "row" else None
        over = [r for r in self.nest.roots if r.term.op == "reduce" and r.axes != along]
        single = {r for r in over if all(self.nest.frame[a] == 1 or a in r.axes for a in range(len(self.nest.frame)))}
        places, size = {}, 0
        for root in over:
            places[root] = size
            n = 1 if root in single else self.row
            size += -(-n * root.term.dtype.itemsize // LINE) * LINE

        def part(p: str) -> None:
            mine = {r: code.element("i8", "%shared", code.linear([(p, size)], places[r])) for r in over}
            wide = [r for r in over if r not in single]

            def clear() -> None:
                for r in wide:
                    self.store(mine[r], r.term.dtype, address(r.term), self.identity(r))

            def add(r: Root, value: str) -> None:
                if r in single:
                    add_single(r, value)
                else:
                    before = self.load(mine[r], r.term.dtype, address(r.term))
                    self.store(mine[r], r.term.dtype, address(r.term), self.joined(r, before, value))

            if wide:
                self.loops(row, clear)
            sums, add_single = self._sums([r for r in over if r in single])
            count = int(np.prod([x.size for x in rows], dtype=np.int64))
            low = code.put(f"udiv i64 {code.linear([(p, count)])}, {PARTS}")
            high = code.put(f"udiv i64 {code.linear([(p, count)], count)}, {PARTS}")
            self._shared(rows, self._row(row, dict.fromkeys(over, add)), low, high)
            for r, place in sums.items():
                kind = TYPES[r.term.dtype.name]
                code.do(f"store {kind} {code.put(f'load {kind}, ptr {place}')}, ptr {mine[r]}")

        code.loop("%lo", "%hi", part)
        scratch = sum(self.row * t.dtype.itemsize for t in self.scratch)
        text = self._function("%shared", *["%scratch"] * bool(scratch))
        first = Kernel(text, self.arrays, scratch, PARTS, self.work * self.nest.size, 1, PARTS * size)
        self.code, self.arrays = Code(), []
        for root in over:

            def total(root: Root = root) -> None:
                kind, at = root.term.dtype, (0, ()) if root in single else address(root.term)
                value = self.identity(root)
                for p in range(PARTS):
                    value = self.joined(
                        root, value, self.load(self.code.element("i8", "%shared", p * size + places[root]), kind, at)
                    )
                t, into = self.address(root)
                self.store(self.pointer(t), kind, into, value)

            self.loops([] if root in single else row, total)
        text = self._function("%shared")
        return [first, Kernel(text, self.arrays, 0, 1, 1, 1, PARTS * size)]

    def _function(self, *more: str) -> str:
        """The text of the function whose code has been written."""
        arguments = [f"ptr noalias nocapture {name}" for name in (*(f"%a{i}" for i in range(len(self.arrays))), *more)]
        return self.code.function("NAME", [*arguments, "i64 %lo", "i64 %hi"])

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
