"""What ranks did when: spans of computing, waiting and communicating, as a page, a trace, and figures.

A ``Recorder`` makes a ``Timeline`` of its ranks' notes. All ranks call the same operations in the same order, so the n-th
operation is the same one everywhere, and it cannot end before the last rank has called it. A rank that stands still in it

    waits            until the last rank that it needs has called the operation: that rank is *whom* it waits for;
    communicates     from then on, and while it starts operations;
    computes         all the rest of the time.

*Parallel efficiency* is the part of the ranks' time in which they compute. It says nothing of work that is done twice, and
threads of one process (``agents.run``) take turns, so theirs is at most 1 / n.

Clocks of ranks on one machine are the same. Those of different machines are laid over each other by barriers, which leaves
an error of about the time a barrier takes.
"""

import html
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from autograd.atomic import write_atomically

KINDS = ("compute", "wait", "communicate")
SHOWN = 20_000
"""Spans that a page shows, the last ones: more make it slow to open."""


class Span(NamedTuple):
    """What a rank did from ``start`` to ``end``, in seconds since the first rank began.

    ``kind`` is one of ``KINDS``; ``what`` the operation (empty: computing); ``whom`` the rank that is waited for, or -1.
    """

    kind: str
    start: float
    end: float
    what: str = ""
    whom: int = -1

    @property
    def seconds(self) -> float:
        return self.end - self.start


class Operation(NamedTuple):
    """An operation of one rank: its number, bytes handed over, steps done before, four moments (the last two None if its
    result was never asked for), and the ranks that it needs (None: all)."""

    number: int
    kind: str
    nbytes: int
    step: int
    called: float
    posted: float
    asked: float | None
    done: float | None
    source: list[int] | None


@dataclass(frozen=True)
class RankNotes:
    """What one rank noted: its first and last moment, the ends of its last steps with the bytes sent until then, how many it has
    done in all, and its operations."""

    begin: float
    end: float
    steps: list[tuple[float, int]]
    operations: list[Operation]
    count: int

    @classmethod
    def shifted(
        cls,
        begin: float,
        end: float,
        shift: float,
        steps: Sequence[Sequence[Any]],
        count: int,
        operations: Sequence[Sequence[Any]],
    ) -> "RankNotes":
        """With all moments moved by ``shift``, onto the common clock."""
        moved = []
        for number, kind, nbytes, step, *times, source in operations:
            called, posted, asked, done = (None if t is None else float(t) + shift for t in times)
            assert called is not None and posted is not None
            moved.append(Operation(number, kind, nbytes, step, called, posted, asked, done, source))
        return cls(begin + shift, end + shift, [(t + shift, sent) for t, sent in steps], moved, count)


class Timeline:
    """The spans of all ranks.

    Args:
        notes: of each rank.

    Attributes:
        spans: for each rank its spans, in order and without gaps.
        seconds: from the first moment noted to the last.
        steps: how many steps every rank has marked.
    """

    def __init__(self, notes: Sequence[RankNotes]):
        self.notes = list(notes)
        kept = [n.operations[0].number for n in self.notes if n.operations]
        first = max(kept, default=0)
        cut = first > 0  # older operations were dropped on some rank: begin where all have theirs
        self._operations = [[o for o in n.operations if o.number >= first] for n in self.notes]
        begins = [
            ops[0].called if cut and ops else n.begin for n, ops in zip(self.notes, self._operations, strict=True)
        ]
        self._zero = min(begins)
        self.seconds = max(n.end for n in self.notes) - self._zero
        self.steps = min(n.count for n in self.notes)
        called: dict[int, dict[int, float]] = defaultdict(dict)
        for rank, operations in enumerate(self._operations):
            for o in operations:
                called[o.number][rank] = o.called
        self.spans = [self._spans(rank, begins[rank], called) for rank in range(len(self.notes))]

    def _spans(self, rank: int, begin: float, called: dict[int, dict[int, float]]) -> list[Span]:
        busy: list[tuple[str, float, float, str, int]] = []
        for o in self._operations[rank]:
            if o.posted > o.called:
                busy.append(("communicate", o.called, o.posted, o.kind, -1))
            if o.asked is None or o.done is None:
                continue
            there = {r: t for r, t in called[o.number].items() if r != rank and (o.source is None or r in o.source)}
            whom = max(there, key=lambda r: (there[r], -r), default=-1)
            until = min(max(there[whom], o.asked), o.done) if there else o.asked
            if until > o.asked:
                busy.append(("wait", o.asked, until, o.kind, whom))
            if o.done > until:
                busy.append(("communicate", until, o.done, o.kind, -1))
        found, at = [], begin
        for kind, start, end, what, whom in sorted(busy, key=lambda one: one[1]):
            if start > at:
                found.append(Span("compute", at - self._zero, start - self._zero))
            start = max(start, at)
            if end > start:
                found.append(Span(kind, start - self._zero, end - self._zero, what, whom))
                at = end
        last = self.notes[rank].end
        return [*found, Span("compute", at - self._zero, last - self._zero)] if last > at else found

    # ---- figures ----

    def totals(self) -> list[dict[str, float]]:
        """Seconds of each kind, for each rank."""
        return [{kind: sum(s.seconds for s in spans if s.kind == kind) for kind in KINDS} for spans in self.spans]

    @property
    def efficiency(self) -> float:
        """The part of the ranks' time in which they compute; see the module."""
        every = [sum(total.values()) for total in self.totals()]
        return sum(total["compute"] for total in self.totals()) / max(sum(every), 1e-300)

    def waited(self) -> dict[tuple[int, int], float]:
        """Seconds that a rank has waited for another: (who, for whom) -> seconds, the longest first."""
        found: dict[tuple[int, int], float] = defaultdict(float)
        for rank, spans in enumerate(self.spans):
            for s in spans:
                if s.kind == "wait":
                    found[rank, s.whom] += s.seconds
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    def bytes_per_step(self) -> list[float]:
        """Bytes that each rank has handed over in a step, on average over the steps marked; nan without any."""
        return [n.steps[-1][1] / n.count if n.steps else float("nan") for n in self.notes]

    def stragglers(self, part: float = 0.1) -> list[str]:
        """A line for each rank for which another has waited more than this part of the time, the worst first."""
        worst: dict[int, tuple[float, int]] = {}
        for (who, whom), seconds in self.waited().items():
            worst[whom] = max(worst.get(whom, (0.0, -1)), (seconds, who))
        return [
            f"rank {whom} is late: rank {who} waited {seconds:.3g} s for it, {seconds / self.seconds:.0%} of {self.seconds:.3g} s"
            for whom, (seconds, who) in sorted(worst.items(), key=lambda item: -item[1][0])
            if seconds > part * self.seconds
        ]

    def __str__(self) -> str:
        lines = [f"{'rank':>4}{'compute':>11}{'wait':>11}{'communicate':>13}{'bytes a step':>15}"]
        for rank, (total, sent) in enumerate(zip(self.totals(), self.bytes_per_step(), strict=True)):
            lines.append(
                f"{rank:>4}{total['compute']:>9.3g} s{total['wait']:>9.3g} s{total['communicate']:>11.3g} s{sent:>15,.0f}"
            )
        lines.append(f"{self.seconds:.3g} s, {self.steps} steps; parallel efficiency {self.efficiency:.1%}")
        return "\n".join(lines + self.stragglers())

    # ---- files ----

    def save(self, path: str | Path) -> list[Path]:
        """Write the page and, beside it, the trace (``path`` ends in ``.html``), or the trace alone (``.json``).

        Returns:
            The files written.

        Raises:
            ValueError: another ending; nothing is written.
        """
        path = Path(path)
        if path.suffix not in (".html", ".json"):
            raise ValueError(f"Timeline.save: the path must end in .html or .json, not {str(path)!r}")
        files = [path] if path.suffix == ".json" else [path, path.with_suffix(".json")]
        for file in files:
            (self.save_html if file.suffix == ".html" else self.save_trace)(file)
        return files

    def trace(self) -> dict[str, Any]:
        """The Trace Event Format of Chrome (chrome://tracing, Perfetto): a thread for each rank, times in microseconds.

        Operations under way, from their call to their result, are asynchronous events of the category "under way".
        """
        events: list[dict[str, Any]] = []
        for rank, spans in enumerate(self.spans):
            place = {"pid": 0, "tid": rank}
            events.append({"ph": "M", "name": "thread_name", "args": {"name": f"rank {rank}"}, **place})
            for s in spans:
                event = {
                    "ph": "X",
                    "name": s.what or s.kind,
                    "cat": s.kind,
                    "ts": 1e6 * s.start,
                    "dur": 1e6 * s.seconds,
                }
                events.append(event | place | ({"args": {"waits for": s.whom}} if s.kind == "wait" else {}))
            for o in self._operations[rank]:
                if o.done is not None:
                    about = {"name": o.kind, "cat": "under way", "id": f"{rank}.{o.number}", **place}
                    args = {"bytes": o.nbytes, "step": o.step}
                    events.append({"ph": "b", "ts": 1e6 * (o.called - self._zero), "args": args, **about})
                    events.append({"ph": "e", "ts": 1e6 * (o.done - self._zero), **about})
        return {"traceEvents": events, "displayTimeUnit": "ms"}

    def save_trace(self, path: str | Path) -> None:
        """Write ``trace`` as JSON."""
        write_atomically(Path(path), json.dumps(self.trace()) + "\n")

    def save_html(self, path: str | Path, title: str = "Timeline", notes: str = "") -> None:
        """Write one page that needs no network: a lane for each rank, and the figures below. The wheel zooms, dragging moves.

        Args:
            path: of the page.
            title: its heading.
            notes: more text to show below the figures, such as a ``scaling.Prediction``.
        """
        each = max(1, SHOWN // len(self.spans))
        lanes = [
            [
                [KINDS.index(s.kind), round(1e6 * s.start, 1), round(1e6 * s.seconds, 1), s.what, s.whom]
                for s in spans[-each:]
            ]
            for spans in self.spans
        ]
        steps = [round(1e6 * (t - self._zero), 1) for t, _ in self.notes[0].steps[-each:]]
        data = json.dumps({"lanes": lanes, "steps": steps, "end": 1e6 * self.seconds}).replace("</", "<\\/")
        page = (resources.files(__package__) / "timeline.html").read_text("utf-8")
        figures = html.escape("\n\n".join(filter(None, [str(self), notes])))
        page = page.replace("TITLE", html.escape(title)).replace("FIGURES", figures).replace('"DATA"', data)
        write_atomically(Path(path), page)
