"""The ledger: seconds and joules by phase, layer and operation, at a stated cost of its own.

Three things happen while it is open. *Phases* ("forward", "backward", "optimizer", "data", "communication", "evaluation", or any
name) are marked as they begin and end; that costs a microsecond or two. *Operations* are heard one by one, but only in *watched* steps: hearing costs
microseconds an operation, so steps are watched as often as ``budget``, a share of the run's time, allows. *The meter* is read at most
every ``resolution`` seconds, and what it says is shared out over the phases since, by seconds.

At the end the watched steps stand for the others: a phase's seconds and joules are those of all its visits, and its
operations share them as they did when they were watched, joules of a counter by their seconds, joules of the cost model by
what each operation is charged. So the parts add up to the whole.
"""

import functools
import time
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from autograd.tape import next_serial

from .meter import Meter
from .model import Modelled, Work, backward_work, forward_work, optimizer_work
from .own_cost import own_cost
from .report import Report, Row

STEP = "step"
"""The phase that time belongs to while no other is marked: its operations are told apart as "forward" and "backward"."""
UPDATE = "update"
"""What stands for an optimizer's step, whose arithmetic is not heard."""
LISTENING = "listening"
"""The phase of what the ledger itself takes to hear operations."""
BUDGET = 0.01
"""The share of a run's time that watching may cost if nothing else is said. It comes out up to a third higher: what a heard operation pushes out of
the processor's caches is not seen."""


@dataclass
class _Spent:
    calls: int = 0
    seconds: float = 0.0
    flops: float = 0.0
    bytes: float = 0.0
    arithmetic: float = 0.0  # joules by the cost model, without static power
    memory: float = 0.0

    def add(self, work: Work, charged: tuple[float, float]) -> None:
        self.calls += 1
        self.flops, self.bytes = self.flops + work.flops, self.bytes + work.bytes
        self.arithmetic, self.memory = self.arithmetic + charged[0], self.memory + charged[1]

    @property
    def joules(self) -> float:
        return self.arithmetic + self.memory


@dataclass(slots=True)
class _Phase:
    name: str
    visits: int = 0
    seconds: float = 0.0
    shared: float = 0.0  # of these, seconds whose joules by the meter are known
    joules: float | None = 0.0  # by the meter
    watched_visits: int = 0
    watched_seconds: float = 0.0
    parts: dict[tuple[str, str, str], _Spent] = field(default_factory=lambda: defaultdict(_Spent))
    charged_visits: int = 0  # visits that were not watched, and that the cost model has been charged for

    def owed(self) -> tuple[float, ...] | None:
        """What the cost model is to be charged for visits that were not watched, by the mean of those that were: FLOPs, bytes, and
        joules of arithmetic and memory. None: nothing."""
        visits = self.visits - self.watched_visits - self.charged_visits
        if not (visits and self.watched_visits):
            return None
        self.charged_visits += visits
        parts, times = self.parts.values(), visits / self.watched_visits
        return tuple(
            times * sum(getattr(s, name) for s in parts) for name in ("flops", "bytes", "arithmetic", "memory")
        )


class Ledger:
    """See the module. ``HammerContext`` opens one and feeds it.

    Args:
        meter: what tells joules.
        budget: share of the run's time that watching may cost; None: every step is watched, whatever it costs.
        resolution: seconds from one reading of the meter to the next.
        optimizer: an ``Optimizer`` whose steps are charged to the cost model in the phase "optimizer".
    """

    def __init__(self, meter: Meter, budget: float | None = BUDGET, resolution: float = 0.05, optimizer: Any = None):
        if budget is not None and not 0 < budget <= 1:
            raise ValueError(f"energy: budget is a share of the run's time, above 0 and at most 1, not {budget!r}")
        self.meter, self.budget, self.resolution, self.optimizer = meter, budget, resolution, optimizer
        self.model = meter.source if isinstance(meter.source, Modelled) else None
        self.steps = self.watched_steps = 0
        self.watching = True
        self.on_watch: Callable[[bool], None] = lambda _on: None
        self._phases: dict[str, _Phase] = {}
        self._blocks: dict[str, _Block] = {}
        self._stack: list[_Phase] = []  # the present phases, the innermost last
        self._forced: list[bool] = []  # of each phase inside the outermost: whether watching began for its sake
        self._marks = self._own = self._own_step = (
            0.0  # seconds spent on marks of phases and steps, and on hearing: in all, in this step
        )
        self._modules: list[
            tuple[Any, Any, Callable]
        ] = []  # with their own forward in place of their class's, and the marked one
        self._layers: list[str] = []
        self._serials, self._names_of_serials = [0], [""]
        self._open = False

    # ---- opening and closing ----

    def check_unused(self) -> None:
        """Raises RuntimeError if the ledger was opened before."""
        if self._open or self._phases:
            raise RuntimeError("energy: a ledger can be opened once; make another context")

    def open(self) -> None:
        """Begin; the first step is watched."""
        self.check_unused()
        self._dispatch, self._mark = own_cost() if self.budget is not None else (0.0, 0.0)
        self._stack = [self._phase(STEP)]
        self._begin = self._read = self.meter.mark()
        self._first = self._last = time.perf_counter()
        if self.model is not None:
            self.model.owing.append(self._charge)
        self._open, self.watching = True, True

    def close(self) -> None:
        """End: the last stretch of time is booked."""
        if self._open:
            self._book_time()
            self._share_out()
            if self.model is not None:
                self.model.owing.remove(self._charge)
            self._end, self._open = self._read, False

    # ---- phases and steps ----

    def phase(self, name: str) -> "_Block":
        """Book a with-block as a phase of this name."""
        return self._blocks.get(name) or self._blocks.setdefault(name, _Block(self, name))

    def begin(self, name: str) -> None:
        """A phase begins inside the present one."""
        self._book_time()
        phase = self._phases.get(name) or self._phase(name)
        self._stack.append(phase)
        before = self.watching
        self._enter(phase)
        self._forced.append(self.watching is not before)

    def end(self) -> None:
        """The innermost phase ends."""
        if not self._forced:
            raise RuntimeError("energy: end() without begin()")
        self._book_time()
        self._stack.pop()
        if self._forced.pop():
            self._watch(False)

    @property
    def nested(self) -> bool:
        """Whether a phase is open inside the outermost."""
        return len(self._stack) > 1

    def switch(self, name: str) -> None:
        """The outermost phase ends and another begins, for loops that have no with-blocks."""
        self._book_time()
        self._stack[0] = phase = self._phase(name)
        self._enter(phase)

    def _phase(self, name: str) -> _Phase:
        if name not in self._phases:
            self._phases[name] = _Phase(name)
        return self._phases[name]

    def _enter(self, phase: _Phase) -> None:
        self._marks += self._mark
        if not self.watching:
            if phase.watched_visits:
                phase.visits += 1
                return
            self._watch(True)  # the first visit of a phase is watched in any case
        phase.visits += 1
        phase.watched_visits += 1
        if phase.name == "optimizer" and self.optimizer is not None:
            work = optimizer_work(self.optimizer)
            charged = self.model.charge(work) if self.model is not None else (0.0, 0.0)
            phase.parts["optimizer", "", UPDATE].add(work, charged)

    def _charge(self) -> None:
        """The cost model is about to be read, or means to change: charge it for visits that were not watched."""
        for phase in self._phases.values():
            owed = phase.owed()
            if owed is not None:
                self.model.add(*owed)  # type: ignore[union-attr]

    def step(self) -> None:
        """A training step has ended. Decides whether the next one is watched."""
        self._book_time()
        self.steps += 1
        self._marks += self._mark
        outermost = self._stack[0]
        if outermost.name == STEP:
            outermost.visits += 1
            outermost.watched_visits += self.watching
        if self.watching:
            self.watched_steps += 1
            self._own += self._own_step
            self._own_step = 0.0
            del self._serials[1:], self._names_of_serials[1:]
        if not 0.0 <= self._last - self._read[0] < self.resolution:
            self._share_out()
        if self.budget is None:
            allowed = True
        else:
            once_more = self._own + self._own / max(self.watched_steps, 1)
            allowed = self._marks + once_more <= self.budget * (self._last - self._first)
        if allowed != self.watching:
            self._watch(allowed)

    def _watch(self, on: bool) -> None:
        if on and self.model is not None:
            self._charge()
        self.watching = on
        self._mark_layers(on)
        self.on_watch(on)

    def _book_time(self) -> None:
        now = time.perf_counter()
        seconds = now - self._last
        self._last = now
        if seconds > 0.0:
            phase = self._stack[-1]
            phase.seconds += seconds
            if self.watching:
                phase.watched_seconds += seconds

    def _share_out(self) -> None:
        """Read the meter, and share what was spent over the phases since the last reading, by seconds."""
        mark = self.meter.mark()
        spent = self.meter.between(self._read, mark).joules
        self._read = mark
        total = sum(phase.seconds - phase.shared for phase in self._phases.values())
        for phase in self._phases.values():
            seconds = phase.seconds - phase.shared
            if seconds > 0.0:
                known = phase.joules is not None and spent is not None
                phase.joules = phase.joules + spent * (seconds / total) if known else None  # type: ignore[operator]
                phase.shared = phase.seconds

    # ---- operations ----

    def heard(self, row: Any, inputs: Sequence[Any], params: dict, outputs: Sequence[Any]) -> None:
        """An operation has run."""
        now = time.perf_counter()
        if self.watching:
            phase = self._stack[-1]
            kind = "forward" if phase.name == STEP else phase.name
            layer = self._layers[-1] if self._layers else ""
            self._book(phase, (kind, layer, row.name), forward_work(row, inputs, params, outputs), now)

    def heard_rule(self, node: Any, parent: Any, g: Any, d: Any) -> None:
        """The derivative rule of a node for its input ``parent`` has run."""
        now = time.perf_counter()
        if self.watching:
            phase = self._stack[-1]
            kind = "backward" if phase.name == STEP else phase.name
            layer = self._names_of_serials[bisect_right(self._serials, node.serial) - 1]
            self._book(phase, (kind, layer, f"{node.name}′"), backward_work(g, node, parent, d), now)

    def _book(self, phase: _Phase, key: tuple[str, str, str], work: Work, now: float) -> None:
        seconds = max(0.0, now - self._last)
        spent = phase.parts[key]
        spent.seconds += seconds
        spent.add(work, self.model.charge(work) if self.model is not None else (0.0, 0.0))
        phase.seconds += seconds
        phase.watched_seconds += seconds
        self._last = after = time.perf_counter()
        own = max(0.0, after - now)
        self._phase(LISTENING).seconds += own
        self._own_step += own + self._dispatch

    # ---- layers ----

    def layers(self, model: Any) -> Callable[[], None]:
        """Tell operations apart by the module of ``model`` that ran them. Returns a function that takes the marks away again. Marks are
        on the modules only while operations are watched."""
        self._modules = [
            (module, module.__dict__.get("forward"), self._marked(module.forward, path or type(module).__name__))
            for path, module in model.named_modules()
        ]
        self._mark_layers(True)

        def remove() -> None:
            self._mark_layers(False)
            self._modules = []

        return remove

    def _mark_layers(self, on: bool) -> None:
        for module, own, marked in self._modules:
            before, after = (own, marked) if on else (marked, own)
            if module.__dict__.get("forward") is not before:
                continue  # somebody else has put another there since
            if after is None:
                del module.__dict__["forward"]
            else:
                module.__dict__["forward"] = after

    def _marked(self, forward: Callable, path: str) -> Callable:
        @functools.wraps(forward, updated=())
        def run(*args: Any, **kwargs: Any) -> Any:
            if not self.watching:
                return forward(*args, **kwargs)
            self._layers.append(path)
            self._from_here(path)
            try:
                return forward(*args, **kwargs)
            finally:
                self._layers.pop()
                self._from_here(self._layers[-1] if self._layers else "")

        return run

    def _from_here(self, path: str) -> None:
        self._serials.append(next_serial())
        self._names_of_serials.append(path)

    # ---- the report ----

    def report(self) -> Report:
        """What was spent so far, or in all if the context has ended."""
        if self._open:
            self._book_time()
            self._share_out()
        end = self._read if self._open else self._end
        whole = self.meter.between(self._begin, end)
        seconds = sum(p.seconds for p in self._phases.values())
        rows: list[Row] = []
        dynamic = 0.0
        for name, phase in self._phases.items():
            found, charged = _rows(name, phase, self.model is not None)
            rows += found
            dynamic += charged
        if self.model is not None:
            # What is charged to the operations is theirs; the rest, static power, is shared by seconds.
            charged = sum((whole.domains.get(d) or 0.0) for d in ("arithmetic", "memory"))
            scale = charged / dynamic if dynamic else 0.0
            rest = None if whole.joules is None else whole.joules - scale * dynamic
            for row in rows:
                share = row.seconds / seconds if seconds else 1.0 / len(rows)
                row.joules = None if rest is None or row.joules is None else scale * row.joules + rest * share
        return Report(
            tuple(rows), whole, self.steps, self.watched_steps, self._marks + self._own + self._own_step, self.budget
        )


def _rows(name: str, phase: _Phase, modelled: bool) -> tuple[list[Row], float]:
    """The rows of a phase. Their joules are shares of the phase's by seconds, or, summed up as the second result, what the model charges."""
    charged = sum(s.joules for s in phase.parts.values())
    times = phase.visits / phase.watched_visits if phase.watched_visits else 1.0
    stretch = phase.seconds / phase.watched_seconds if phase.watched_seconds else 0.0
    per_second = None if phase.joules is None else phase.joules / phase.seconds if phase.seconds else 0.0
    found = []
    for (kind, layer, op), s in phase.parts.items():
        seconds = s.seconds * stretch
        joules = times * s.joules if modelled else None if per_second is None else per_second * seconds
        found.append(Row(kind, layer, op, s.calls * times, seconds, joules, s.flops * times, s.bytes * times))
    left = phase.seconds - sum(row.seconds for row in found)
    if (
        name == "optimizer" and len(found) == 1 and found[0].op == UPDATE
    ):  # nothing else was heard: all the time is the update's
        found[0].seconds = phase.seconds
        if not modelled:
            found[0].joules = phase.joules
    elif left > 1e-9 * phase.seconds or not found:
        joules = 0.0 if modelled else None if per_second is None else per_second * left
        found.append(Row("other" if name == STEP else name, "", "(between operations)", 0.0, left, joules, 0.0, 0.0))
    return found, times * charged


class _Block:
    """A phase as a with-block; a context manager made of a generator would take twice as long."""

    __slots__ = ("ledger", "name")

    def __init__(self, ledger: Ledger, name: str):
        self.ledger, self.name = ledger, name

    def __enter__(self) -> None:
        self.ledger.begin(self.name)

    def __exit__(self, *exc: object) -> None:
        self.ledger.end()
