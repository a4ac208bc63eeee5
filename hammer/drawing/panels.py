"""Line charts side by side in one stand-alone SVG picture, which follows the reader's light or dark page."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import style, svg

WIDTH, HEIGHT = 360, 240
"""Of one chart, in SVG units."""

LEFT, RIGHT, TOP, BOTTOM = 46, 10, 10, 34
GAP = 22
POINTS = 240
"""A line shows at most about this many of its points."""


@dataclass(frozen=True)
class Line:
    """One line of a chart, or its points alone.

    Args:
        label: what the key calls it. Lines of one label have one colour in all charts of a picture.
        x, y: equally long sequences of numbers; a point that is not finite interrupts nothing, it is left out.
        low, high: the edges of a band around it, as long as ``y``; both or neither.
        dots: whether to draw the points and no line.
    """

    label: str
    x: Any
    y: Any
    low: Any = None
    high: Any = None
    dots: bool = False

    def __post_init__(self) -> None:
        for name in ("x", "y", "low", "high"):
            values = getattr(self, name)
            if values is not None:
                object.__setattr__(self, name, np.asarray(values, np.float64).ravel())
        lengths = {len(v) for v in (self.x, self.y, self.low, self.high) if v is not None}
        if len(lengths) != 1:
            raise ValueError(f"line {self.label!r}: x, y and the band differ in length: {sorted(lengths)}")
        if (self.low is None) != (self.high is None):
            raise ValueError(f"line {self.label!r}: a band needs both low and high")


@dataclass(frozen=True)
class Panel:
    """A chart of lines.

    Args:
        title: above it.
        x: the name of the horizontal axis; the vertical one is named by the title.
        lines: what it shows.
        log_x, log_y: whether the axes are logarithmic; points that are not positive are left out then.
        marks: vertical dotted lines: position -> what it is.
        levels: horizontal dotted lines: value -> what it is.
        y_range: the vertical axis's ends; None: those of the values.
    """

    title: str
    x: str
    lines: Sequence[Line]
    log_x: bool = False
    log_y: bool = False
    marks: Sequence[tuple[float, str]] = ()
    levels: Sequence[tuple[float, str]] = ()
    y_range: tuple[float, float] | None = None


def picture(panels: Sequence[Panel], columns: int = 3, note: str = "") -> str:
    """The charts as the text of an SVG file, with one key above them.

    Raises:
        ValueError: there is no chart, or there are more labels than colours.
    """
    if not panels:
        raise ValueError("picture: there is no panel to draw")
    labels = [*dict.fromkeys(line.label for panel in panels for line in panel.lines)]
    if len(labels) > style.SERIES:
        raise ValueError(f"picture: {len(labels)} different labels, but there are {style.SERIES} colours")
    series = {label: f"s{i}" for i, label in enumerate(labels)}
    columns = max(1, min(columns, len(panels)))
    width, places, at, below = columns * (WIDTH + GAP) + GAP, [], float(GAP), 28.0
    for label in labels:
        room = 62 + 7.2 * len(label)
        if at + room > width and at > GAP:
            at, below = float(GAP), below + 22
        places.append((label, at, below))
        at += room
    head = below + (24 if note else 4)
    height = head + 6 + math.ceil(len(panels) / columns) * (HEIGHT + 30) + 8
    parts = [f'<rect width="{width}" height="{height:.0f}" rx="10" style="fill:var(--page)"/>']
    for label, x, y in places:
        parts.append(svg.line((x, x + 30), (y, y), f"curve {series[label]}"))
        parts.append(svg.words(x + 38, y + 4, label, "key"))
    if note:
        parts.append(svg.words(GAP, head, note, "label"))
    for i, panel in enumerate(panels):
        left, top = GAP + (i % columns) * (WIDTH + GAP), head + 6 + (i // columns) * (HEIGHT + 30)
        title = svg.words(LEFT, 18, panel.title, "name")
        drawn = f'<g transform="translate(0,22)">{chart(panel, series)}</g>'
        parts.append(f'<g transform="translate({left},{top:.0f})">{title}{drawn}</g>')
    label = " · ".join(panel.title for panel in panels)
    return document(width, height, "".join(parts), label)


def document(width: float, height: float, content: str, label: str) -> str:
    """An SVG file of its own, with the colours of all reports."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}" '
        f'role="img" aria-label="{svg.escape(label, quote=True)}"><style>{style.VARIABLES}{style.CHART}</style>{content}</svg>\n'
    )


def chart(panel: Panel, series: dict[str, str]) -> str:
    """One chart of ``WIDTH`` by ``HEIGHT``, as an SVG fragment; ``series``: the style class of each label."""
    shown = [(line, _kept(line, panel)) for line in panel.lines]
    xs = [v for line, kept in shown for v in line.x[kept]] + [m for m, _ in panel.marks]
    ys = [v for line, kept in shown for a in (line.y, line.low, line.high) if a is not None for v in a[kept]]
    ys += [level for level, _ in panel.levels]
    finite = [v for v in xs if math.isfinite(v) and (v > 0 or not panel.log_x)]
    if not finite:
        return svg.words(WIDTH / 2, HEIGHT / 2, "nothing to show", "label", "middle")
    ends = (min(finite), max(finite))
    if ends[0] == ends[1]:
        ends = svg.span(finite, panel.log_x)
    x = svg.Axis(*ends, LEFT, WIDTH - RIGHT, panel.log_x)
    y = svg.Axis(*(panel.y_range or svg.span(ys, panel.log_y)), HEIGHT - BOTTOM, TOP, panel.log_y)
    parts = [svg.frame(x, y, panel.x)]
    for value, what in panel.marks:
        parts.append(svg.line((x.at(value),) * 2, (y.start, y.end), "goal", what))
        parts.append(svg.words(x.at(value) + 4, y.end + 10, what, "label"))
    for value, what in panel.levels:
        parts.append(svg.line((x.start, x.end), (y.at(value),) * 2, "goal", what))
        parts.append(svg.words(x.end, y.at(value) - 4, what, "label", "end"))
    for line, kept in shown:
        if line.low is not None:
            rows = kept[svg.every(kept, POINTS)] if len(kept) else kept
            low, high = ([y.at(v) for v in edge[rows]] for edge in (line.low, line.high))
            parts.append(svg.band([x.at(v) for v in line.x[rows]], low, high, f"band {series[line.label]}"))
    for line, kept in shown:
        if not len(kept):
            continue
        rows = kept if line.dots else kept[svg.every(kept, POINTS)]
        points = [x.at(v) for v in line.x[rows]], [y.at(v) for v in line.y[rows]]
        css = series[line.label]
        if line.dots:
            parts += [svg.dot(a, b, 3, f"mark {css}", line.label) for a, b in zip(*points, strict=True)]
        else:
            parts.append(svg.line(*points, f"curve {css}", line.label))
    return "".join(parts)


def _kept(line: Line, panel: Panel) -> np.ndarray:
    """The places of the points that can be drawn."""
    good = np.isfinite(line.x) & np.isfinite(line.y)
    if panel.log_x:
        good &= line.x > 0
    if panel.log_y:
        good &= line.y > 0
    return np.flatnonzero(good)
