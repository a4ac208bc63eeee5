"""``NativePlan``: a graph made ready to run by machine code. It is called as ``hammer.graph.execute.Plan`` is."""

import ctypes
import functools
import os
import threading
from collections.abc import Sequence
from sys import getrefcount
from typing import Any

import numpy as np

from autograd import backend

from ..graph import UniversalGraph
from . import jit
from .blas import blas
from .lazy import Term, Unlowered
from .lowering import Call, lowered
from .program import Native, Offset, Slot, program, readable
from .schedule import schedule
from .team import Team
from .views import strided
from .work import work

KEPT = 1 << 18
"""Bytes from which an output's memory is used again when nobody has the array any more: new memory costs more than to fill it.
Of each output the last two are kept, since a caller who says ``y = plan(x)`` has the one before until the call ends."""


WORTH_SHARING = 1e5
"""The work from which a part that one thread runs lets Python's other threads run meanwhile; below, that costs more than it gives."""
_AS_THEY_LIE = 0x101  # NumPy's flags for arrays in C order that are aligned
_NOTHING = object()
_UNSIGNED = {1: np.uint8, 4: np.uint32, 8: np.uint64}


def unavailable() -> str | None:
    """Why there is no native executor here, or None."""
    if os.name == "nt":
        return "its threads are written for POSIX systems"
    if not jit.available():
        return "llvmlite is not installed: pip install 'hammer-grad[compile]'"
    if blas() is None:
        return "NumPy is not built with OpenBLAS here"
    return None


def cores() -> int:
    """How many cores this process may use."""
    given = os.environ.get("HAMMER_THREADS")
    if given is not None:
        if not given.isdecimal() or int(given) < 1:
            raise ValueError(f"HAMMER_THREADS is {given!r}; it must be a number of threads, 1 or more")
        return int(given)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.lru_cache(maxsize=1)
def team(threads: int) -> Team:
    """The threads of this process."""
    found = blas()
    assert found is not None
    return Team(threads, found.get_threads, found.set_threads)


class NativePlan:
    """A graph as machine code.

    Args:
        graph: of known sizes.
        writes: outputs that are to be written into the array of an input: output number -> input number (inputs and
            parameters in their order).
        threads: how many may work on it; None: as many as this process has cores (``HAMMER_THREADS`` overrides it).

    Attributes:
        source: the program, in LLVM's language.
        peak: bytes of its arena; ``bound`` is the most that are alive at one step.

    Raises:
        Unlowered: the graph has dtypes that no programs are generated for.
    """

    def __init__(
        self,
        graph: UniversalGraph,
        writes: dict[int, int] | None = None,
        threads: int | None = None,
        _apart: bool = False,
    ):
        found = blas()
        assert found is not None
        self.graph = graph
        self._inputs = (*graph.inputs, *graph.parameter_nodes.values())
        self.lowered = lowered(graph)
        self.schedule = schedule(self.lowered)
        self.writes = writes or {}
        self.program = program(self.schedule, found, threads or cores(), self.writes, _apart)
        self.peak, self.bound = self.program.arena, self.program.bound
        self._library = jit.Library(self.program.text)
        self._table_of(found)
        self._lock = threading.Lock()
        self._steps: NativePlan | None = None
        self._lasting = frozenset(self.writes.values())  # what is written is there at the next call, most likely
        self._known: list[Any] = [_NOTHING] * len(self._inputs)  # these, as they are in the table

    @property
    def source(self) -> str:
        return readable(self.program.text)

    def __str__(self) -> str:
        """The steps, one a line, with what they store."""
        lines = [f"{self.graph.name}: {self.peak:,} bytes, {self.program.threads} threads at most"]
        for i, step in enumerate(self.schedule.steps):
            made = (
                step.outputs if isinstance(step, Call) else [r.term if r.into is None else r.into for r in step.roots]
            )
            stored = ", ".join(f"{t.dtype}{t.shape}" for t in dict.fromkeys(made))
            lines.append(f"  {i}: {_label(step)} -> {stored}")
        return "\n".join(lines)

    def _table_of(self, found: Any) -> None:
        p = self.program
        self._arena = np.empty(p.arena + 64, np.uint8)
        start = -self._arena.ctypes.data % 64
        self._arena = self._arena[start : start + p.arena]
        self._table = (ctypes.c_size_t * (p.slots + 1))()
        self._table[0] = self._arena.ctypes.data
        self._constants = [*self.lowered.constants.values()]
        n = len(self._inputs)
        for i, array in enumerate(self._constants):
            self._table[1 + n + i] = id(array)
        self._table[p.first_function] = found.gemm["float32"]
        self._table[p.first_function + 1] = found.gemm["float64"]
        self._address = ctypes.addressof(self._table)
        self._team = team(cores()) if p.threads > 1 else None
        if self._team is not None:
            self._table[p.slots] = self._team.barrier
        arguments = (None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)
        short, long = ctypes.PYFUNCTYPE(*arguments), ctypes.CFUNCTYPE(*arguments)  # short ones keep Python's lock
        self._parts: list[Any] = []
        for part in p.parts:
            if isinstance(part, Native):
                address = self._library.address(f"run{part.index}")
                alone = long if part.work > WORTH_SHARING else short
                self._parts.append((address, part.work) if self._team is not None else alone(address))
            else:
                self._parts.append(self._numpy_call(part))
        self._outputs: list[tuple[int, Any, tuple[int, ...], Any]] = []
        self._given: dict[int, tuple[np.ndarray, ...]] = {}
        done: dict[Term, int] = {}
        for i, (t, node) in enumerate(zip(self.schedule.outputs, self.graph.outputs, strict=True)):
            how: Any = "fresh"
            place = p.places[t]
            if i in p.donated:
                how = ("input", p.donated[i])
            elif t in done:
                how = ("copy", done[t])
            elif place.index != p.first_output + i:
                how = ("made", place.index)
            done.setdefault(t, i)
            self._outputs.append((p.first_output + i, how, node.shape, node.dtype))

    def __call__(self, values: Sequence[Any]) -> tuple:
        """The outputs, as raw arrays, of raw arrays for the inputs and the parameters, which have their shapes and dtypes."""
        with self._lock:
            return self._run(values)

    def repeat(self, values: Sequence[Any], times: int, output: int = -1) -> np.ndarray:
        """Run so many times on the same arrays: what a run writes into its inputs is what the next one reads.

        Returns:
            The output of this number of every run, of shape (times, *its shape).
        """
        node = self.graph.outputs[output]
        found = np.empty((times, *node.shape), node.dtype)
        with self._lock:
            for i in range(times):
                if i == 0 or self.lowered.checks:  # indices may have changed
                    arrays, slots, out = self._begin(values)
                for part in self._parts:
                    self._one(part, arrays, slots)
                found[i] = self._end(values, arrays, slots, list(out))[output]
        return found

    def _run(self, values: Sequence[Any]) -> tuple:
        arrays, slots, out = self._begin(values)
        for part in self._parts:
            self._one(part, arrays, slots)
        return self._end(values, arrays, slots, out)

    def _begin(self, values: Sequence[Any]) -> tuple[list, dict[int, Any], list]:
        """Fill the table."""
        table, known = self._table, self._known
        arrays = list(values)
        for i, v in enumerate(arrays):
            if v is known[i]:
                continue
            if type(v) is not np.ndarray:
                arrays[i] = v = np.array(v)
            elif v.flags.num & _AS_THEY_LIE != _AS_THEY_LIE:
                arrays[i] = v = np.ascontiguousarray(v).reshape(v.shape)
            if i in self._lasting:
                known[i] = v
            table[1 + i] = id(v)
        for i, n, name in self.lowered.checks:
            index = arrays[i]
            # as unsigned numbers, negative ones are the largest
            if index.size and np.maximum.reduce(index.view(_UNSIGNED[index.itemsize]), axis=None) >= n:
                bad = index.min() if index.min() < 0 else index.max()
                raise IndexError(f"{name}: {bad} is no index of {n} elements; indices are 0 to {n - 1}")
        slots: dict[int, Any] = {}
        out: list[Any] = []
        for slot, how, shape, dtype in self._outputs:
            if how == "fresh":
                given = self._given.get(slot, ())
                array = next(
                    (a for a in given if getrefcount(a) <= 3), None
                )  # held by the tuple, the name and the call
                if array is None:
                    array = np.empty(shape, dtype)
                    if array.nbytes >= KEPT:
                        self._given[slot] = (*given[-1:], array)
                table[slot] = id(array)
                slots[slot] = array
                out.append(array)
            elif how[0] == "input":
                out.append(arrays[how[1]])
            else:
                out.append(how)
        return arrays, slots, out

    def _one(self, part: Any, arrays: list, slots: dict[int, Any]) -> None:
        """Run one segment, or one row's kernel for NumPy."""
        if type(part) is tuple:
            address, work = part
            self._team.run(address, self._address, self.program.threads, work)  # type: ignore[union-attr]
        elif isinstance(part, ctypes._CFuncPtr):
            part(self._address, 0, 1, None)
        else:
            part(arrays, slots)

    def _end(self, values: Sequence[Any], arrays: list, slots: dict[int, Any], out: list) -> tuple:
        for i, how in enumerate(out):
            if type(how) is tuple:
                made = out[how[1]] if how[0] == "copy" else slots[how[1]]
                out[i] = np.array(made).reshape(self._outputs[i][2])
        for i, source in self.writes.items():
            target = values[source]
            if out[i] is not target:
                np.copyto(target, out[i].reshape(target.shape))
                out[i] = target
        return tuple([o if o.ndim else o[()] for o in out])

    def steps(self, values: Sequence[Any]) -> list[Any]:
        """The steps of a run on these values, each to be run alone (see ``hammer.graph.profile``); by all threads, as in a run."""
        from ..profile import PlanStep

        if self._steps is None:
            self._steps = NativePlan(self.graph, self.writes, self.program.threads, _apart=True)
        apart = self._steps
        arrays, slots, out = apart._begin(values)
        found = []
        for part, run in zip(apart.program.parts, apart._parts, strict=True):
            step = part.kernels[0][0] if isinstance(part, Native) else part
            found.append(
                PlanStep(
                    _label(step), (), functools.partial(apart._one, run, arrays, slots), *work(step, apart._stored)
                )
            )
        return [*found, PlanStep("results", (), functools.partial(apart._end, values, arrays, slots, out))]

    def _stored(self, t: Term) -> bool:
        return t.op in ("buffer", "call") or t in self.schedule.stored

    def _numpy_call(self, call: Call) -> Any:
        """A function that calls a row's kernel for NumPy on views of what the program has computed."""
        node = call.node
        assert node is not None
        kernel = node.row.kernels[np.ndarray]
        attributes, variadic, several = dict(node.attributes), node.row.variadic, node.several
        readers = [self._reader(x, self._stored) for x in call.args]
        targets = [(t, self.program.made[t], self.program.places[t]) for t in call.outputs if t in self.program.made]

        def run(arrays: list, slots: dict[int, Any]) -> None:
            given = [read(arrays, slots) for read in readers]
            made = kernel(given, **attributes) if variadic else kernel(*given, **attributes)
            for value, (t, slot, place) in zip(made if several else [made], targets, strict=True):
                array = np.ascontiguousarray(value, t.dtype).reshape(t.shape)
                if array.base is not None or any(array is x for x in given):
                    array = array.copy()  # a view of memory that will be used for something else
                slots[slot] = array
                self._table[slot] = id(array)
                if place.index != slot:
                    slots[place.index][...] = array.reshape(slots[place.index].shape)

        return run

    def _reader(self, x: Term, stored: Any) -> Any:
        base, offset, strides = strided(x, stored)
        if 0 in x.shape:  # an empty slice may lie outside of what it was cut from
            offset, strides = 0, (0,) * x.ndim
        place, item = self.program.places[base], base.dtype.itemsize
        steps = tuple(s * item for s in strides)
        first = len(self._inputs) + 1
        if isinstance(place, Offset):
            view = np.ndarray(x.shape, x.dtype, self._arena.data, place.bytes + offset * item, steps)
            return lambda arrays, slots: backend.scalar(view)
        assert isinstance(place, Slot)
        index = place.index

        def read(arrays: list, slots: dict[int, Any]) -> Any:
            array = (
                arrays[index - 1]
                if index < first
                else self._constants[index - first]
                if index < self.program.first_output
                else slots[index]
            )
            return backend.scalar(
                np.ndarray(x.shape, x.dtype, array.data, offset * item, steps) if array.size else array.reshape(x.shape)
            )

        return read


def _label(step: Any) -> str:
    """A step in a few words."""
    if isinstance(step, Call):
        shapes = " × ".join(str(x.shape) for x in step.args)
        return f"{step.kind if step.node is None else step.node.op} {shapes}"
    made = [f"{r.term.attrs[0]} over {r.axes}" if r.axes else r.term.op for r in step.roots]
    return f"loop over {step.frame}: {', '.join(made)}"


__all__ = ["NativePlan", "Unlowered", "team", "unavailable"]
