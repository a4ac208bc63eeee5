"""A loop nest as ``__global__`` functions of CUDA C.

In a nest without reductions each thread does elements of the flattened frame. Reductions are done by *teams* of threads, each of which
adds up every so-manieth element; what the threads hold is then put together in an order that is always the same, so results are
the same in every run and on every device. No atomics are used.

* "row" nests: a team works on one row, of the kept axes; a warp on a short row, a block on a long one. Phase by phase: every thread of the
  team gets a phase's results.
* "column" nests: neighbouring threads work on neighbouring columns, so that they read neighbouring memory; several on each, if
  columns are long.
* Where there are too few teams to fill a device, the reduced elements are cut into ``parts``; each is put together in memory of
  its own, and a second function puts the parts together.

Neighbouring axes that every address runs through alike are one, so there are few divisions to find an element's indices.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..native.lazy import Term
from ..native.schedule import Nest, Puller, Root, address, whole
from ..native.views import Index, combined, contiguous
from .expressions import OPERATORS, TYPES, apply, identity, literal
from .layout import BLOCK, WARP, between, layout

BLOCKS = 1 << 16
"""The most blocks that are launched: each does several elements or rows then."""


@dataclass(frozen=True)
class Kernel:
    """A function of the program and how it is launched.

    Attributes:
        text: its C, with NAME for its name.
        places: of the arrays that its arguments point to; None is the memory between the two stages of a reduction.
        grid, block: the launch's sizes.
    """

    text: str
    places: tuple[Any, ...]
    grid: tuple[int, int]
    block: int


class Axes:
    """Neighbouring axes of the frame as one, with the C name of its index."""

    def __init__(self, axis: int, size: int, reduced: bool):
        self.last, self.size, self.reduced = axis, size, reduced
        self.name = f"i{axis}"


class KernelWriter:
    """Writes the functions of one nest.

    Args:
        stored: whether a term is in memory.
        places: where stored terms lie; arrays in one place are one argument, so that C may take different ones not to overlap.
    """

    def __init__(self, nest: Nest, stored: Callable[[Term], bool], places: dict[Term, Any]):
        self.nest, self.stored, self.places = nest, stored, places
        self.layout = layout(nest)
        self.own: Term | None = None  # what is being computed, which is not to be read then
        self.count = 0
        self._begin()

    def kernels(self) -> list[Kernel]:
        """The function, or the two functions, that compute the nest."""
        self._merge()
        kept = [x for x in self.axes if not x.reduced]
        if self.nest.mode == "map":
            self._map(kept)
        elif self.nest.mode == "row":
            self._rows(kept)
        else:
            self._columns(kept)
        blocks = -(-self.layout.kept * max(self.layout.team, 1) // self.layout.block)
        if self.nest.mode == "column":
            blocks = -(-self.layout.kept // self.layout.wide)
        found = [self._end(blocks, self.layout.parts, self.layout.block)]
        if self.layout.parts > 1:
            self._begin()
            self._together(kept)
            found.append(self._end(-(-self.layout.kept * WARP // 128), 1, 128))
        return found

    # ---- text ----

    def _begin(self) -> None:
        self.lines: list[str] = []
        self.depth = 1
        self.arrays: dict[Any, tuple[str, str]] = {}  # place -> name and type
        self.written: set[str] = set()

    def _end(self, blocks: int, parts: int, block: int) -> Kernel:
        arguments = [
            f"{'' if name in self.written else 'const '}{kind}* __restrict__ {name}"
            for name, kind in self.arrays.values()
        ]
        head = f'extern "C" __global__ void __launch_bounds__({block}) NAME({", ".join(arguments)}) {{'
        return Kernel(
            "\n".join([head, *self.lines, "}"]), tuple(self.arrays), (max(1, min(blocks, BLOCKS)), parts), block
        )

    def put(self, line: str) -> None:
        self.lines.append("    " * self.depth + line)

    def open(self, line: str) -> None:
        self.put(line + " {")
        self.depth += 1

    def close(self) -> None:
        self.depth -= 1
        self.put("}")

    def value(self, expression: str, dtype: Any) -> str:
        self.count += 1
        self.put(f"const {TYPES[dtype.name]} v{self.count} = {expression};")
        return f"v{self.count}"

    # ---- memory ----

    def pointer(self, t: Term) -> str:
        return self.arrays.setdefault(self.places[t], (f"a{len(self.arrays)}", TYPES[t.dtype.name]))[0]

    def partial(self, root: Root) -> str:
        """Where the parts of a reduction lie."""
        _, offsets = between(self.nest)
        name = self.arrays.setdefault(None, ("parts", "unsigned char"))[0]
        return f"(({TYPES[root.term.dtype.name]}*)({name} + {offsets[root]}))"

    def linear(self, at: Index) -> str:
        """The value of an index where the loops are open."""
        constant, terms = at
        found = [f"({k}) * {name}" for name, k in terms if isinstance(name, str)]
        for axis, k in ((n, k) for n, k in terms if not isinstance(n, str)):
            # of axes that are one, the coefficients are multiples of the last one's
            group = next((x for x in self.axes if x.last == axis), None)
            if group is not None:
                found.append(group.name if k == 1 else f"({k}) * {group.name}")
        return " + ".join([*found, str(constant)] if constant or not found else found)

    def target(self, root: Root) -> tuple[Term, Index]:
        """Where a root's value goes."""
        if root.into is not None:
            steps = contiguous(root.into.shape)
            return root.into, combined([(p, s) for p, s in zip(whole(root.term), steps, strict=True)], root.offset)
        return root.term, address(root.term)

    def store(self, root: Root, value: str, condition: str = "") -> None:
        t, at = self.target(root)
        name = self.pointer(t)
        self.written.add(name)
        self.put(f"{condition}{name}[{self.linear(at)}] = {value};")

    # ---- indices ----

    def _merge(self) -> None:
        """Find neighbouring axes that every address runs through alike."""
        forms = [self.target(r)[1] for r in self.nest.roots]

        def leaf(t: Term, at: Any, _: Any = None) -> str:
            forms.append(at)
            return "v"

        def node(t: Term, *args: Any) -> Any:
            if t.op == "iota":
                forms.append(args[0])
            return f"v{id(t)}"

        for root in self.nest.roots:
            own = root.term if root.term.op != "reduce" else None
            stored = lambda t, own=own: t is not own and self.stored(t)
            Puller(stored, leaf, node)(root.expression, whole(root.expression))
        frame = self.nest.frame
        self.axes: list[Axes] = []
        for a, n in enumerate(frame):
            if n == 1:
                continue
            last = self.axes[-1] if self.axes else None
            if (
                last
                and last.reduced == (a in self.nest.axes)
                and all(_factor(f, last.last) == _factor(f, a) * n for f in forms)
            ):
                last.last, last.name = a, f"i{a}"
                last.size *= n
            else:
                self.axes.append(Axes(a, n, a in self.nest.axes))
        largest = max((_reach(f, frame) for f in forms), default=0)
        self.index = "int" if max(largest, self.nest.size) < 1 << 30 else "long long"

    def split(self, axes: Sequence[Axes], flat: str) -> None:
        """Name the indices of axes that are counted through together."""
        for x in reversed(axes[1:]):
            self.put(f"const {self.index} {x.name} = {flat} % {x.size};")
            rest = f"r{x.name}"
            self.put(f"const {self.index} {rest} = {flat} / {x.size};")
            flat = rest
        for x in axes[:1]:
            self.put(f"const {self.index} {x.name} = {flat};")

    # ---- values ----

    def puller(self, values: dict[Term, str]) -> Puller:
        def leaf(t: Term, at: Any, _: Any = None) -> str:
            return values[t] if t in values else self.value(f"{self.pointer(t)}[{self.linear(at)}]", t.dtype)

        def node(t: Term, *args: Any) -> str:
            if t.op == "number":
                return literal(t.attrs[1], t.dtype)
            if t.op == "iota":
                return self.value(self.linear(args[0]), t.dtype)
            if t.op == "at":
                (axis,) = t.attrs
                self.count += 1
                self.put(f"const long long v{self.count} = within({args[0]}, {t.args[0].shape[axis]}ll);")
                return f"v{self.count}"
            return self.value(apply(t.op, t.dtype, t.args[-1].dtype, args), t.dtype)

        return Puller(lambda t: t is not self.own and self.stored(t), leaf, node)

    def compute(self, root: Root, puller: Puller) -> str:
        self.own = root.term if root.term.op != "reduce" else None
        return puller(root.expression, whole(root.expression))  # type: ignore[no-any-return]

    def elements(self, phase: int, values: dict[Term, str], sums: dict[Root, str]) -> None:
        """One element of each root of a phase; those of reductions are added to ``sums``."""
        values = dict(values)
        puller = self.puller(values)
        for root in self.nest.roots:
            if root.phase == phase and (root in sums or root.term.shape == self.nest.frame):
                value = self.compute(root, puller)
                if root in sums:
                    self.put(f"{sums[root]} = {OPERATORS[root.term.attrs[0]]}::of({sums[root]}, {value});")
                else:
                    values[root.term] = value
                    self.store(root, value)

    def sums(self, phase: int) -> dict[Root, str]:
        """A variable for each reduction of a phase."""
        found: dict[Root, str] = {}
        for root in self.nest.roots:
            if root.phase == phase and root.term.op == "reduce":
                self.count += 1
                found[root] = f"s{self.count}"
                self.put(
                    f"{TYPES[root.term.dtype.name]} s{self.count} = {identity(root.term.attrs[0], root.term.dtype)};"
                )
        return found

    def result(self, root: Root, value: str, leader: str, kept: str) -> None:
        """Store what one thread of a team has put together."""
        if self.layout.parts == 1:
            self.store(root, value, f"if ({leader}) ")
        else:
            self.written.add("parts")
            self.put(
                f"if ({leader}) {self.partial(root)}[blockIdx.y * (long long){self.layout.kept} + {kept}] = {value};"
            )

    # ---- the three modes ----

    def _map(self, kept: Sequence[Axes]) -> None:
        self.open(
            f"for ({self.index} i = blockIdx.x * {BLOCK} + threadIdx.x; i < {self.layout.kept}; i += gridDim.x * {BLOCK})"
        )
        self.split(kept, "i")
        self.elements(0, {}, {})
        self.close()

    def _rows(self, kept: Sequence[Axes]) -> None:
        shape, reduced = self.layout, [x for x in self.axes if x.reduced]
        teams = shape.block // shape.team
        joined = "warp_joined<{}>" if shape.team == WARP else f"block_joined<{{}}, {shape.block}>"
        self.put(f"const int lane = threadIdx.x % {shape.team};")
        self.open(
            f"for ({self.index} row = blockIdx.x * {teams} + threadIdx.x / {shape.team}; row < {shape.kept}; row += gridDim.x * {teams})"
        )
        self.split(kept, "row")
        values: dict[Term, str] = {}
        for phase in sorted({r.phase for r in self.nest.roots}):
            inner = False
            for root in self.nest.roots:
                if (
                    root.phase == phase and root.term.op != "reduce" and root.term.shape != self.nest.frame
                ):  # one value for each row
                    values[root.term] = self.compute(root, self.puller(values))
                    self.store(root, values[root.term], "if (lane == 0) ")
                inner |= root.phase == phase and (root.term.op == "reduce" or root.term.shape == self.nest.frame)
            if not inner:
                continue
            sums = self.sums(phase)
            self.open(
                f"for ({self.index} r = blockIdx.y * {shape.team} + lane; r < {shape.reduced}; r += {shape.team * shape.parts})"
            )
            self.split(reduced, "r")
            self.elements(phase, values, sums)
            self.close()
            for root, name in sums.items():
                self.put(f"{name} = {joined.format(OPERATORS[root.term.attrs[0]])}({name});")
                self.result(root, name, "lane == 0", "row")
                values[root.term] = name
        self.close()

    def _columns(self, kept: Sequence[Axes]) -> None:
        shape, reduced = self.layout, [x for x in self.axes if x.reduced]
        tall = shape.block // shape.wide
        self.open(
            f"for ({self.index} first = blockIdx.x * {shape.wide}; first < {shape.kept}; first += gridDim.x * {shape.wide})"
        )
        self.put(f"const {self.index} column = first + threadIdx.x % {shape.wide};")
        self.split(kept, "column")
        sums = self.sums(0)
        self.open(f"if (column < {shape.kept})")
        self.open(
            f"for ({self.index} r = blockIdx.y * {tall} + threadIdx.x / {shape.wide}; r < {shape.reduced}; r += {tall * shape.parts})"
        )
        self.split(reduced, "r")
        self.elements(0, {}, sums)
        self.close()
        self.close()
        for root, name in sums.items():
            self.put(f"{name} = column_joined<{OPERATORS[root.term.attrs[0]]}, {shape.block}, {shape.wide}>({name});")
            self.result(root, name, f"threadIdx.x < {shape.wide} && column < {shape.kept}", "column")
        self.close()

    def _together(self, kept: Sequence[Axes]) -> None:
        """The second stage: a warp for each result."""
        shape = self.layout
        self.put(f"const int lane = threadIdx.x % {WARP};")
        self.open(
            f"for ({self.index} row = (blockIdx.x * 128 + threadIdx.x) / {WARP}; row < {shape.kept}; row += gridDim.x * {128 // WARP})"
        )
        self.split(kept, "row")
        for root, name in self.sums(0).items():
            how = OPERATORS[root.term.attrs[0]]
            part = f"{self.partial(root)}[p * (long long){shape.kept} + row]"
            self.put(f"for (int p = lane; p < {shape.parts}; p += {WARP}) {name} = {how}::of({name}, {part});")
            self.put(f"{name} = warp_joined<{how}>({name});")
            self.store(root, name, "if (lane == 0) ")
        self.close()


def _factor(at: Index, axis: int) -> int:
    return next((k for name, k in at[1] if name == axis), 0)


def _reach(at: Index, frame: Sequence[int]) -> int:
    """The largest address that an index comes to, of what is known."""
    return at[0] + sum(abs(k) * frame[name] for name, k in at[1] if not isinstance(name, str))
