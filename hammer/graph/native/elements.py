"""Code for the elements of a loop nest: its loops, the addresses in them, and the values that are pulled from what is stored.

Neighbouring axes that every array runs through alike become one loop. Loops are written with variables in memory, which LLVM's first
passes turn into registers.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .lazy import Term
from .maths import MEMORY, TYPES, Code, literal
from .schedule import HEAVY, Nest, Puller, Root, Schedule, address, whole
from .views import Index, combined, contiguous

UNROLLED = 4
"""The most iterations of an innermost loop that are written out."""
IDENTITY = {"add": 0, "multiply": 1, "maximum": -np.inf, "minimum": np.inf}


class Loop:
    """Neighbouring axes of the frame as one loop."""

    def __init__(self, axes: list[int], size: int, reduced: bool):
        self.axes, self.size, self.reduced = axes, size, reduced
        self.var = ""  # the name of its index, where code is being written


class Elements:
    """Writes what a nest does at each of its elements."""

    def __init__(self, step: Nest, schedule: Schedule):
        self.nest = step
        self.inner = step.cut[1] if step.cut else step.axes
        self.kept = schedule.stored
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
            reduced = a in self.inner
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
        axes = [a for a in self.inner if self.nest.frame[a] != 1]
        steps = contiguous([self.nest.frame[a] for a in axes])
        return (0, tuple((a, s) for a, s in zip(axes, steps, strict=True)))

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
