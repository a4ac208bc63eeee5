"""Where the arrays of a program lie: inputs, constants and outputs in arrays of their own, everything else in one arena.

The arena is planned by the lifetimes of what lies in it (``hammer.graph.memory``). An elementwise result takes the place of an
operand that nobody reads any more, if each thread reads just the element that it writes.
"""

from dataclasses import dataclass, field
from typing import Any

from ..memory import plan
from ..native.lazy import Term
from ..native.lowering import Call
from ..native.schedule import Nest, Schedule, address
from ..native.views import strided
from .layout import between

ALIGNMENT = 256
"""Bytes that an array's address is a multiple of, as CUDA's own allocations are."""


@dataclass(frozen=True)
class Slot:
    """An array of its own, by its number: inputs and parameters, constants, outputs, and what rows' kernels have made."""

    index: int


@dataclass(frozen=True)
class Offset:
    """A place in the arena, in bytes."""

    bytes: int


@dataclass(eq=False)
class Memory:
    """Places of all stored terms.

    Attributes:
        arena, bound: bytes of the arena, and the most that are alive at one step.
        slots: how many arrays of their own there are.
        constants, outputs: the number of the first of each kind.
        donated: outputs that are written into an input's memory: output number -> input number.
        between: by step, the places of what reductions keep between their two stages.
    """

    places: dict[Term, Any] = field(default_factory=dict)
    arena: int = 0
    bound: int = 0
    slots: int = 0
    constants: int = 0
    outputs: int = 0
    donated: dict[int, int] = field(default_factory=dict)
    between: dict[int, Offset] = field(default_factory=dict)


def memory(schedule: Schedule, writes: dict[int, int]) -> Memory:
    """The places for a schedule; ``writes``: outputs that are to end in an input's array, output number -> input number."""
    lives = _Lives(schedule)
    found = Memory()
    for t in (*schedule.lowered.inputs, *schedule.lowered.constants):
        found.places[t] = Slot(len(found.places))
    found.constants, found.outputs = len(schedule.lowered.inputs), len(found.places)
    for i, t in enumerate(schedule.outputs):
        old = schedule.lowered.inputs[writes[i]] if i in writes else None
        if t in found.places:
            continue
        if old is not None and lives.may_overwrite(t, old):
            found.places[t], found.donated[i] = found.places[old], writes[i]
        else:
            found.places[t] = Slot(found.outputs + i)
    found.slots = found.outputs + len(schedule.outputs)
    for step in schedule.steps:
        if isinstance(step, Call) and step.kind == "python":
            for t in step.outputs:
                if t not in found.places:
                    found.places[t] = Slot(found.slots)
                    found.slots += 1
    _arena(found, schedule, lives)
    return found


class _Lives:
    """Which steps make and read each stored term."""

    def __init__(self, schedule: Schedule):
        self.steps: list[Any] = schedule.steps
        self.stored = lambda t: t.op in ("buffer", "call") or t in schedule.stored
        self.made: dict[Term, int] = {}
        self.ends: dict[Term, int] = {}
        for i, step in enumerate(self.steps):
            for t in made_by(step):
                self.made.setdefault(t, i)
                self.ends[t] = i
            for t in self.read_by(step):
                self.ends[t] = i
        for t in schedule.outputs:
            self.ends[t] = len(self.steps)

    def read_by(self, step: Any) -> list[Term]:
        if isinstance(step, Nest):
            return [x for root in step.roots for x, _ in root.reads]
        return [strided(x, self.stored)[0] for x in step.args]

    def may_overwrite(self, t: Term, old: Term) -> bool:
        """Whether a term may lie where another does: that one is read no later than t is made, and then at the same element only."""
        if t.dtype != old.dtype or t.size != old.size or t not in self.made:
            return False
        at, last = self.made[t], self.ends.get(old, -1)
        return last < at or (last == at and self._same_element(self.steps[at], t, old))

    def _same_element(self, step: Any, t: Term, old: Term) -> bool:
        if not isinstance(step, Nest) or t not in step.made or t.op == "reduce" or t.shape != step.frame:
            return False
        order = sorted(step.roots, key=lambda root: root.phase)  # in which a thread computes them
        last = order.index(step.made[t])
        reads = [(i, at) for i, root in enumerate(order) for x, at in root.reads if x is old]
        return all(i <= last and at == address(t) for i, at in reads)


def made_by(step: Any) -> list[Term]:
    """The stored terms that a step makes; of a part of a join, that one."""
    if isinstance(step, Nest):
        return [r.term if r.into is None else r.into for r in step.roots]
    return step.outputs  # type: ignore[no-any-return]


def _arena(found: Memory, schedule: Schedule, lives: _Lives) -> None:
    owner: dict[Term, Term] = {}  # whose memory a term is written over
    buffers: dict[Any, list[int]] = {}
    for i, step in enumerate(schedule.steps):
        taken: set[Term] = set()
        for t in made_by(step):
            if t in found.places or t in buffers or t in owner:
                continue
            read = (x for x in lives.read_by(step) if x not in taken and owner.get(x, x) in buffers)
            old = next((x for x in read if lives.may_overwrite(t, x)), None)
            if old is not None:
                taken.add(old)
                owner[t] = owner.get(old, old)
                buffers[owner[t]][2] = max(buffers[owner[t]][2], lives.ends[t])
            else:
                buffers[t] = [t.nbytes, i, lives.ends[t]]
        if isinstance(step, Nest) and between(step)[0]:
            buffers[i] = [between(step)[0], i, i]
    made = plan([tuple(b) for b in buffers.values()], ALIGNMENT)  # type: ignore[misc]
    found.arena, found.bound = made.peak, made.bound
    for name, offset in zip(buffers, made.offsets, strict=True):
        if isinstance(name, Term):
            found.places[name] = Offset(offset)
        else:
            found.between[name] = Offset(offset)
    found.places |= {t: found.places[own] for t, own in owner.items()}
