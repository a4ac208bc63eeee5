"""Fusion: which terms are stored, and which loop nests compute them.

A term is stored if somebody needs it in memory (an output, a product of matrices), if it is a reduction, or if several places read it
and it costs more to compute again than to load. All else is computed where it is read.

Stored terms that have the same frame (the shape that is iterated over) and do not wait for each other become one ``Nest``: a loss and
its gradient, a layer's gradient and its sum over the batch, all of a normalisation with its parameters' gradients. Reductions whose
axes have the innermost one among them (mode "row") are done for each point of the other axes at once, in phases: what
reads a reduction's result is in a later phase than that. Where it is not (mode "column"), sums are kept in memory, and only the
end of the nest knows them. A nest may have both, ``cut`` into rows, and the sums over its rows are then made for parts of the rows.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .lazy import Term, term
from .lowering import Lowered
from .views import VIEWS, ZERO, Index, Position, aligned, beneath, combined, contiguous, reshaped, strided, variable

HEAVY = frozenset(("exp", "log", "tanh", "sigmoid", "erf", "erfc", "log1p", "expm1", "sin", "cos"))
COSTS = {
    **dict.fromkeys(HEAVY, 10),
    "divide": 4,
    "sqrt": 4,
    "number": 0,
    "iota": 0,
    "stretch": 0,
    "permute": 0,
    "reshape": 0,
    "slice": 0,
}
RECOMPUTED = 3
"""The cost up to which a term that is read in several places is computed in each of them."""
LARGEST = 150
"""The cost beyond which a term is stored: loops become no longer than that."""
NEAR = 40
"""How many steps back a nest is looked for that a term may join."""
STORES, READS = 48, 24
"""The most terms that one nest computes, and the most arrays that it reads."""


DIVIDED = 16_384
"""Elements from which sums over rows, and over everything, are made for parts of them, which threads share."""
MANY, WIDEST = 64, 8192
"""The fewest rows, and the most elements of one, where sums over rows are made for parts of the rows."""


@dataclass(eq=False)
class Root:
    """A stored term, in a nest: ``phase`` says in which pass over a row it is computed, ``reads`` the stored terms it is made from.

    A part of a ``join`` is written into that one's memory: ``into``, from ``offset`` on, in elements.
    """

    term: Term
    phase: int
    reads: list[tuple[Term, Index]]
    into: Term | None = None
    offset: int = 0

    @property
    def expression(self) -> Term:
        return self.term.args[0] if self.term.op == "reduce" else self.term

    @property
    def axes(self) -> tuple[int, ...]:
        return self.term.attrs[1] if self.term.op == "reduce" else ()


@dataclass(eq=False)
class Nest:
    """One loop nest over ``frame``, with reductions over ``axes``."""

    frame: tuple[int, ...]
    axes: tuple[int, ...] = ()
    roots: list[Root] = field(default_factory=list)
    made: dict[Term, Root] = field(default_factory=dict)

    @property
    def mode(self) -> str:
        if not self.axes:
            return "map"
        last = max((a for a, n in enumerate(self.frame) if n != 1), default=0)
        return "row" if last in self.axes else "column"

    @property
    def size(self) -> int:
        return int(np.prod(self.frame, dtype=np.int64))

    @property
    def divided(self) -> bool:
        """Whether it is one large reduction over everything, whose parts threads share. It has one phase."""
        return (
            self.mode == "row"
            and self.size >= DIVIDED
            and all(n == 1 or a in self.axes for a, n in enumerate(self.frame))
        )

    @property
    def sums(self) -> set[tuple[int, ...]]:
        """The axes of its reductions."""
        return {r.axes for r in self.roots if r.axes}

    @property
    def cut(self) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
        """The axes that count the rows and those of a row, where sums over the rows are made for parts of them; else None."""
        sums = self.sums
        if not sums or (len(sums) == 1 and (self.mode == "row" or self.size < DIVIDED)):
            return None
        return cut(self.frame, sums)


@dataclass(eq=False)
class Schedule:
    """The steps of a program, in order, and what is stored."""

    lowered: Lowered
    steps: list[Any] = field(default_factory=list)
    stored: set[Term] = field(default_factory=set)
    outputs: list[Term] = field(default_factory=list)


def schedule(lowered: Lowered, mixed: bool = True) -> Schedule:
    """The steps for a graph's terms; ``mixed``: whether a nest may have reductions along its rows and over them at once."""
    return _Scheduler(lowered, mixed).run()


def cut(frame: tuple[int, ...], sums: Iterable[tuple[int, ...]]) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """How a frame comes apart into the axes that count rows and those of a row, such that each reduction is along the rows, over
    them, or both; None where it does not, or has few rows or long ones."""
    used = tuple(a for a, n in enumerate(frame) if n != 1)
    kinds = {tuple(a for a in axes if frame[a] != 1) for axes in sums}
    for i in range(1, len(used)):
        rows, row = used[:i], used[i:]
        if kinds <= {rows, row, used} and kinds != {used}:
            fits = math.prod(frame[a] for a in rows) >= MANY and math.prod(frame[a] for a in row) <= WIDEST
            return (rows, row) if fits else None
    return None


class Puller:
    """Walks an expression from a position in it to the stored terms it reads. ``leaf`` and ``node`` say what becomes of them."""

    def __init__(
        self, stored: Callable[[Term], bool], leaf: Callable[[Term, Index, Any], Any], node: Callable[..., Any]
    ):
        self.stored, self.leaf, self.node = stored, leaf, node
        self.memo: dict[tuple[Term, Position], Any] = {}

    def __call__(self, t: Term, at: Position) -> Any:
        key = (t, at)
        if key not in self.memo:
            self.memo[key] = self._pulled(t, at)
        return self.memo[key]

    def _pulled(self, t: Term, at: Position) -> Any:
        if self.stored(t):
            return self.leaf(t, combined([(p, s) for p, s in zip(at, contiguous(t.shape), strict=True)]), at)
        if t.op in VIEWS:
            under = beneath(t, at)
            if under is not None:
                return self(t.args[0], under)
            base, offset, strides = strided(t, self.stored)
            return self.leaf(base, combined([(p, s) for p, s in zip(at, strides, strict=True)], offset), None)
        if t.op == "iota":
            return self.node(t, at[t.attrs[0]])
        if t.op == "at":
            x, index = t.args
            (axis,) = t.attrs
            name = self.node(t, self(index, aligned(index.shape, at)))
            place = list(aligned(x.shape, at))
            place[axis] = variable(name)
            return self(x, tuple(place))
        if t.op == "number":
            return self.node(t)
        return self.node(t, *(self(x, aligned(x.shape, at)) for x in t.args))


def whole(t: Term) -> Position:
    """The position that runs over all of a term: one variable for each axis."""
    return tuple(ZERO if n == 1 else variable(a) for a, n in enumerate(t.shape))


def address(t: Term) -> Index:
    """Where in its own memory the element lies that a nest is at."""
    return combined([(p, s) for p, s in zip(whole(t), contiguous(t.shape), strict=True)])


class _Scheduler:
    def __init__(self, lowered: Lowered, mixed: bool):
        self.lowered, self.mixed = lowered, mixed
        self.roots: set[Term] = set()
        self.done = Schedule(lowered)

    def run(self) -> Schedule:
        self.done.outputs = [self._output(t) for t in self.lowered.outputs]
        order = self._needed()
        self._store(order)
        self._place(order)
        self._contract()
        self.done.stored = self.roots
        return self.done

    def stored(self, t: Term) -> bool:
        return t.op in ("buffer", "call") or t in self.roots

    # ---- what is stored ----

    def _output(self, t: Term) -> Term:
        """The term whose memory an output is: the term itself, or what it is a reshape of; never an input's own."""
        if t.op == "reshape" and t.args[0].op not in ("buffer", "number"):
            (t,) = t.args
        if t.op == "buffer":
            t = term(t.pool, "copy", (t,), t.shape, t.dtype)
        self.roots.add(t)
        return t

    def _needed(self) -> list[Term]:
        """The terms that the outputs need, each after its arguments."""
        seen = dict.fromkeys(self.done.outputs)
        order = list(seen)
        for t in order:  # grows while it is walked
            for x in t.args:
                if x not in seen:
                    seen[x] = None
                    order.append(x)
        return [t for t in self.lowered.pool.values() if t in seen]

    def _store(self, order: list[Term]) -> None:
        cost: dict[Term, float] = {}
        for t in order:
            if t.op in ("buffer", "call", "reduce", "join"):
                cost[t] = 1
                if t.op in ("reduce", "join"):
                    self.roots.add(t)
                if t.op == "call":
                    for x in t.args:
                        self._in_memory(t, x)
            else:
                cost[t] = COSTS.get(t.op, 1) + sum(cost[x] for x in t.args)
                if cost[t] > LARGEST:
                    self.roots.add(t)
                    cost[t] = 1
            for x in t.args:
                y = x
                while y.op in VIEWS:
                    (y,) = y.args
                if cost[y] > RECOMPUTED and not self.stored(y) and repeats(x.shape, t.shape):
                    self.roots.add(y)
                    cost[y] = 1
            if t.op == "reshape" and reshaped(t.args[0].shape, t.shape, whole(t)) is None:
                self._base(t)
        readers: dict[Term, set[Term]] = {t: set() for t in order}
        for t in reversed(order):
            if t in self.roots:
                pass
            elif t.op not in VIEWS and not self.stored(t) and len(readers[t]) > 1 and cost[t] > RECOMPUTED:
                self.roots.add(t)
            above = {t} if self.stored(t) else readers[t]
            for x in t.args:
                readers[x] |= above

    def _base(self, t: Term) -> None:
        """Have what a reshape reads stored, if its index is no linear form of that."""
        base, _, _ = strided(t, lambda x: x is not t and self.stored(x))
        if base.op != "buffer":
            self.roots.add(base)

    def _in_memory(self, call: Term, x: Term) -> None:
        """Have the argument of a step stored, such that it can be read there."""
        base, _, strides = strided(x, self.stored)
        ok = base.op != "number"
        kind = call.attrs[0]
        if kind == "gemm":
            ok &= is_matrix(x.shape, strides)
        elif kind.startswith("conv"):
            ok &= strides == contiguous(x.shape)
        if not ok and x.op != "buffer":
            self.roots.add(x)
        elif base.op != "buffer":
            self.roots.add(base)

    # ---- where it is computed ----

    def _place(self, order: list[Term]) -> None:
        self.at: dict[Term, int] = {}  # the step that makes a stored term
        for t in order:
            if t.op == "call":
                call = self.lowered.calls.get(t)
                if call is None:  # another output of a call
                    kind, number, _ = t.attrs
                    call = next(c for c in self.lowered.calls.values() if c.outputs[0].attrs[:2] == (kind, number))
                if call.outputs[0] not in self.at:
                    self.done.steps.append(call)
                    for out in call.outputs:
                        self.at[out] = len(self.done.steps) - 1
            elif t in self.roots and t.op == "join":
                self._join(t)
            elif t in self.roots:
                self._put(t)

    def _join(self, t: Term) -> None:
        (axis,) = t.attrs
        strides, offset, last = contiguous(t.shape), 0, 0
        for part in t.args:
            copy = term(t.pool, "copy", (part,), part.shape, part.dtype, (t.attrs, offset, id(t)))
            self.roots.add(copy)
            last = max(last, self._put(copy, t, offset))
            offset += part.shape[axis] * strides[axis]
        self.at[t] = last

    def reads(self, expression: Term, but: Term) -> list[tuple[Term, Index]]:
        """The stored terms that a term is computed from, with the addresses at which they are read."""
        found: dict[tuple[Term, Index], None] = {}
        puller = Puller(
            lambda t: t is not but and self.stored(t),
            lambda t, at, _: found.setdefault((t, at), None),
            lambda t, *_: id(t),
        )
        puller(expression, whole(expression))
        return list(found)

    def _put(self, t: Term, into: Term | None = None, offset: int = 0) -> int:
        """Have a stored term computed by a nest, one that there is or a new one; returns its place among the steps."""
        root = Root(t, 0, [], into, offset)
        root.reads = self.reads(root.expression, t)
        shape = root.expression.shape
        last = max((self.at.get(x, -1) for x, _ in root.reads), default=-1)
        steps = self.done.steps
        for i in range(len(steps) - 1, max(len(steps) - 1 - NEAR, -1), -1):
            nest = steps[i]
            if isinstance(nest, Nest) and self._joins(root, shape, nest, i):
                return self._enter(root, nest, i)
            if i < last and not (isinstance(nest, Nest) and any(x in nest.made for x, _ in root.reads)):
                break
        nest = Nest(tuple(shape), root.axes)
        steps.append(nest)
        return self._enter(root, nest, len(steps) - 1)

    def _enter(self, root: Root, nest: Nest, i: int) -> int:
        nest.axes = self._axes(nest, root) or ()
        root.phase = max((nest.made[x].phase + (x.op == "reduce") for x, _ in root.reads if x in nest.made), default=0)
        nest.roots.append(root)
        nest.made[root.term] = root
        self.at[root.term] = i
        return i

    def _axes(self, nest: Nest, root: Root) -> tuple[int, ...] | None:
        """The axes of a nest's reductions when a root has joined it: those along its rows, if there are such; None if it cannot join."""
        if not root.axes or not nest.axes or root.axes == nest.axes:
            return nest.axes or root.axes
        sums = {*nest.sums, root.axes}
        parts = cut(nest.frame, sums) if self.mixed else None
        if parts is None:
            return None
        along = [axes for axes in sums if tuple(a for a in axes if nest.frame[a] != 1) == parts[1]]
        over = [axes for axes in sums if tuple(a for a in axes if nest.frame[a] != 1) == parts[0]]
        return (along or over)[0]

    def _joins(self, root: Root, shape: tuple[int, ...], nest: Nest, i: int) -> bool:
        if len(shape) != len(nest.frame) or len(nest.roots) >= STORES:
            return False
        inner, arrays = False, {x for r in nest.roots for x, _ in r.reads}
        if shape != nest.frame:  # one value for each row
            axes = {a for a, (n, m) in enumerate(zip(shape, nest.frame, strict=True)) if n != m}
            if (
                nest.mode != "row"
                or root.axes
                or not all(shape[a] == 1 for a in axes)
                or axes != {a for a in nest.axes if nest.frame[a] != 1}
            ):
                return False
        axes_after = self._axes(nest, root)
        if axes_after is None:
            return False
        after = Nest(nest.frame, axes_after)
        if root.axes and not nest.axes and any(r.term.shape != nest.frame for r in nest.roots):
            return False
        for x, at in root.reads:
            if x in nest.made:
                same = x.ndim == len(nest.frame) and at == address(x)
                if not same or (x.op == "reduce" and (after.mode != "row" or nest.made[x].axes != axes_after)):
                    return False
                inner = True
            elif self.at.get(x, -1) >= i:
                return False
            elif x in arrays and x.size >= nest.size:
                inner = True
        if after.divided and (shape != nest.frame or any(x in nest.made and x.op == "reduce" for x, _ in root.reads)):
            return False
        return inner and len(arrays | {x for x, _ in root.reads}) <= READS

    def _contract(self) -> None:
        """What only its own nest reads is not stored."""
        readers: dict[Term, set[int]] = {}
        for i, step in enumerate(self.done.steps):
            for x in self._read_by(step):
                readers.setdefault(x, set()).add(i)
        outputs = set(self.done.outputs)
        for i, step in enumerate(self.done.steps):
            if isinstance(step, Nest):
                for root in [*step.roots]:
                    t = root.term
                    if root.into is None and t not in outputs and readers.get(t, set()) <= {i} and t.op != "reduce":
                        self.roots.discard(t)
                        step.roots.remove(root)
                        del step.made[t]
        for step in self.done.steps:
            if isinstance(step, Nest):
                for root in step.roots:  # what is not stored any more is computed from what is
                    root.reads = self.reads(root.expression, root.term)

    def _read_by(self, step: Any) -> Iterator[Term]:
        if isinstance(step, Nest):
            for root in step.roots:
                yield from (x for x, _ in root.reads)
        else:
            for x in step.args:
                yield strided(x, self.stored)[0]


def repeats(shape: tuple[int, ...], frame: tuple[int, ...]) -> bool:
    """Whether an argument of an elementwise term is needed again and again in its inner loops: not so one value for each row."""
    if len(shape) > len(frame):
        return False
    shape = (1,) * (len(frame) - len(shape)) + shape
    last = max((a for a, n in enumerate(shape) if n != 1), default=-1)
    return any(n == 1 and m != 1 for n, m in zip(shape[: last + 1], frame[: last + 1], strict=True))


def is_matrix(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    """Whether the last two axes are those of a matrix that BLAS can read."""
    (m, n), (a, b) = shape[-2:], strides[-2:]
    return ((b == 1 or n == 1) and (a >= n or m == 1)) or ((a == 1 or m == 1) and (b >= m or n == 1))
