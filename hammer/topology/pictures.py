"""Pictures of diagrams and landscapes for papers, without a plotting library: SVG as text, images as the bytes of PNG files.

    Path("bars.svg").write_text(pictures.barcode(topology.rips(points)))
    Path("slice.png").write_bytes(pictures.image(landscape.values, scale=8))
    hammer.drawing.save("bars.pdf", pictures.barcode(topology.rips(points)))  # PDF and PNG of any of the charts: by matplotlib

Colours are those of all of Hammer's charts, one for each dimension of homology. ``page`` beside this file draws the same for a browser.
"""

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..drawing import Line, Panel, colours, picture, png, style, svg
from ..drawing.numbers import number
from ..drawing.panels import BOTTOM, GAP, HEIGHT, LEFT, RIGHT, TOP, WIDTH, document
from .basins import Basins, basins
from .diagram import Diagram, host_of
from .metric import host
from .slices import as_landscape
from .summaries import betti_curve

NAMES = ("components", "loops", "voids")
"""What the features of dimensions 0, 1 and 2 are called; beyond, "dimension k"."""
MOST = 200
"""Of each dimension at most so many bars are drawn, the longest-lived."""
CURVE = 240
"""Values at which Betti curves are drawn."""


def name_of(dimension: int) -> str:
    return NAMES[dimension] if dimension < len(NAMES) else f"dimension {dimension}"


def as_diagrams(diagrams: Any, what: str) -> tuple[Diagram, ...]:
    """One Diagram or a sequence of them (what ``rips``, ``alpha`` and ``cubical`` return) as a tuple, by dimension."""
    found = (diagrams,) if isinstance(diagrams, Diagram) else tuple(diagrams)
    if not found or not all(isinstance(d, Diagram) for d in found):
        raise TypeError(f"{what}: needs a Diagram or a sequence of them, such as rips(points), not {diagrams!r:.60}")
    found = tuple(sorted(found, key=lambda d: d.dimension))
    if len({d.dimension for d in found}) < len(found):
        raise ValueError(f"{what}: two diagrams have the same dimension; draw them one by one")
    if found[-1].dimension >= style.SERIES:
        raise ValueError(f"{what}: dimensions go up to {style.SERIES - 1} here, not {found[-1].dimension}")
    return found


def ends_of(diagrams: Sequence[Diagram]) -> tuple[float, float]:
    """The range of all births and deaths; an interval of length 1 at least where they are all equal."""
    parts = [host_of(part).reshape(-1) for d in diagrams for part in (d.pairs, d.essential)]
    values = np.concatenate(parts) if parts else np.empty(0)
    if len(values) == 0:
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    return (low, high) if high > low else (low, low + 1.0)


def barcode(diagrams: Any, most: int = MOST) -> str:
    """A bar from birth to death for each feature, dimension by dimension, as an SVG file's text.

    Bars come in the order of their births. What never dies reaches the right edge and ends in an arrow.

    Args:
        diagrams: a Diagram, or several of different dimensions.
        most: of each dimension, the longest-lived so many are drawn; the key says how many there are.
    """
    given = as_diagrams(diagrams, "barcode")
    low, high = ends_of(given)
    x = svg.Axis(low, high + 0.06 * (high - low), LEFT, WIDTH - RIGHT)
    rows, labels = [], []
    for d in given:
        shown = d.longest(most).array()
        shown = shown[np.lexsort((shown[:, 1], shown[:, 0]))]
        rows += [(d.dimension, birth, death) for birth, death in shown]
        labels.append((d.dimension, f"{name_of(d.dimension)}: {len(shown)} of {len(d)}"))
    step = (HEIGHT - TOP - BOTTOM) / max(len(rows), 1)
    thick = min(3.0, 0.8 * step)
    parts = []
    for value in x.ticks():
        at = x.at(value)
        parts += [svg.line((at, at), (TOP, HEIGHT - BOTTOM), "grid"), svg.words(at, HEIGHT - BOTTOM + 16, svg.tick_text(value, False), "tick", "middle")]  # fmt: skip
    for k, (dimension, birth, death) in enumerate(rows):
        y = HEIGHT - BOTTOM - (k + 0.5) * step
        endless = death == np.inf
        title = f"{number(birth)} to {number(death)}"
        bar = svg.line((x.at(birth), x.end if endless else x.at(death)), (y, y), f"bar s{dimension}", title)
        parts.append(bar.replace("<path ", f'<path style="stroke-width:{thick:.2f};stroke-linecap:butt" ', 1))
        if endless:
            parts.append(f'<path class="mark s{dimension}" d="M{x.end - 7:.1f} {y - 3.5:.1f}L{x.end:.1f} {y:.1f}L{x.end - 7:.1f} {y + 3.5:.1f}Z"/>')  # fmt: skip
    parts.append(svg.line((x.start, x.end), (HEIGHT - BOTTOM,) * 2, "axis"))
    return _alone("".join(parts), labels, "barcode")


def persistence_diagram(diagrams: Any, most: int = MOST) -> str:
    """The points (birth, death) of the features above the diagonal, as an SVG file's text; what never dies is on a line at the top.

    Args:
        diagrams, most: as in ``barcode``.
    """
    given = as_diagrams(diagrams, "persistence_diagram")
    low, high = ends_of(given)
    room = 0.04 * (high - low)
    x = svg.Axis(low - room, high + room, LEFT, WIDTH - RIGHT)
    y = svg.Axis(low - room, high + 4 * room, HEIGHT - BOTTOM, TOP)
    parts, top = [svg.frame(x, y, "birth")], high + 2.5 * room
    parts.append(svg.line((x.at(x.low), x.at(x.high)), (y.at(x.low), y.at(x.high)), "axis"))
    labels = []
    if any(d.essential.shape[0] for d in given):
        parts += [svg.line((x.start, x.end), (y.at(top),) * 2, "goal"), svg.words(x.end, y.at(top) - 4, "never dies", "label", "end")]  # fmt: skip
    for d in given:
        for birth, death in d.longest(most).array():
            at = y.at(top if death == np.inf else death)
            parts.append(svg.dot(x.at(birth), at, 3.2, f"mark s{d.dimension}", f"{number(birth)} to {number(death)}"))
        labels.append((d.dimension, name_of(d.dimension)))
    parts.append(svg.words(LEFT, TOP - 1, "death", "label"))
    return _alone("".join(parts), labels, "persistence diagram")


def betti_curves(diagrams: Any) -> str:
    """How many features of each dimension are alive at each value, as an SVG file's text."""
    given = as_diagrams(diagrams, "betti_curves")
    at = np.linspace(*ends_of(given), CURVE)
    lines = [Line(name_of(d.dimension), at, betti_curve(d, at)) for d in given]
    return picture([Panel("features alive", "value", lines)])


def merge_tree(tree: Basins, depth: float = 0.0) -> str:
    """The tree in which the basins of a landscape merge as the level rises, as an SVG file's text.

    A leaf is a minimum at the height of its value; two branches meet at the height of the pass between their basins.

    Args:
        depth: basins that are not deeper are left out.
    """
    order = tree_order(tree, depth)
    births, deaths = tree.births, np.concatenate([[tree.deaths.max(initial=tree.births[0])], tree.deaths])
    low, high = float(births[0]), float(deaths.max())
    room = 0.06 * (high - low) or 0.5
    y = svg.Axis(low - room, high + room, HEIGHT - BOTTOM, TOP)
    x = svg.Axis(-0.7, len(order) - 0.3, LEFT, WIDTH - RIGHT)
    place = {basin: x.at(k) for k, basin in enumerate(order)}
    ticks = [(y.at(v), svg.tick_text(v, False)) for v in y.ticks()]
    parts = [svg.line((x.start, x.end), (at, at), "grid") + svg.words(x.start - 6, at + 3.5, text, "tick", "end") for at, text in ticks]  # fmt: skip
    for basin in order:
        here, top = place[basin], y.at(y.high if basin == 0 else deaths[basin])
        parts.append(svg.line((here, here), (y.at(births[basin]), top), "curve s0", f"minimum {number(births[basin])}"))
        if basin:
            parts.append(svg.line((here, place[tree.parents[basin - 1]]), (top, top), "curve s0", f"pass {number(deaths[basin])}"))  # fmt: skip
        parts.append(svg.dot(here, y.at(births[basin]), 3.2, "mark s0", f"minimum {number(births[basin])}"))
    return _alone("".join(parts), [(0, f"{len(order)} of {len(births)} basins")], "merge tree")


def tree_order(tree: Basins, depth: float = 0.0) -> list[int]:
    """The basins deeper than ``depth`` from left to right, so that no branch of their merge tree crosses another.

    Each has to its right those that merge into it, the lowest pass first, with all that merges into those.
    """
    kept = np.nonzero(tree.depths > depth)[0]
    children: dict[int, list[int]] = {int(b): [] for b in kept}
    for b in kept[kept > 0]:  # a basin that is merged into is deeper than what merges, so it is kept too
        children[int(tree.parents[b - 1])].append(int(b))
    found, waiting = [], [0]
    while waiting:
        basin = waiting.pop()
        found.append(basin)
        waiting += sorted(children[basin], key=lambda b: -tree.deaths[b - 1])
    return found


def landscape(values: Any, depth: float = 0.0) -> str:
    """A slice of a loss as a map, as an SVG file's text: dots for minima, crosses for passes, and the path of a run to a ring at its end.

    Args:
        values: a ``Landscape`` of two axes, or a 2-D array; the first axis goes up.
        depth: basins that are not deeper get no marks.
    """
    shape = as_landscape(values)
    grid, (rows, columns) = shape.values, shape.coordinates
    y, x = svg.Axis(*_edges(rows), HEIGHT - BOTTOM, TOP), svg.Axis(*_edges(columns), LEFT, WIDTH - RIGHT)
    heat = base64.b64encode(image(grid)).decode()
    parts = [
        svg.frame(x, y, "second direction"), svg.words(LEFT, TOP - 1, "first direction", "label"),
        f'<image x="{LEFT}" y="{TOP}" width="{x.end - x.start}" height="{y.start - y.end}" preserveAspectRatio="none" '
        f'style="image-rendering:pixelated" href="data:image/png;base64,{heat}"/>',
    ]  # fmt: skip
    tree = basins(grid)
    place = lambda cell: (x.at(float(columns[cell[1]])), y.at(float(rows[cell[0]])))
    if shape.path is not None:
        way = [(x.at(float(b)), y.at(float(a))) for a, b in shape.path]
        at = "L".join(f"{a:.1f} {b:.1f}" for a, b in way)
        for ink, width in (("#000", 3.4), ("#fff", 1.6)):
            look = f'style="fill:none;stroke:{ink};stroke-width:{width};stroke-linejoin:round"'
            parts += [
                f'<path {look} d="M{at}"/>',
                f'<circle {look} cx="{way[-1][0]:.1f}" cy="{way[-1][1]:.1f}" r="6"/>',
            ]
    for b in np.nonzero(tree.depths > depth)[0]:
        if b:
            u, v = place(tree.saddles[b - 1])
            for ink, width in (("#000", 3.2), ("#fff", 1.4)):
                parts.append(f'<path style="fill:none;stroke:{ink};stroke-width:{width}" d="M{u - 3:.1f} {v - 3:.1f}L{u + 3:.1f} {v + 3:.1f}M{u - 3:.1f} {v + 3:.1f}L{u + 3:.1f} {v - 3:.1f}"/>')  # fmt: skip
        u, v = place(tree.minima[b])
        parts.append(f'<circle style="fill:#fff;stroke:#000;stroke-width:1" cx="{u:.1f}" cy="{v:.1f}" r="3"/>')
    count = tree.count(depth)
    said = f"{number(float(grid.min()))} (dark) to {number(float(grid.max()))}; {count} basin{'s' * (count != 1)}"
    return _alone("".join(parts), [(0, said)], "landscape")


def _edges(coordinates: np.ndarray) -> tuple[float, float]:
    """Where the first of evenly spaced cells begins and the last one ends."""
    half = 0.5 * float(coordinates[1] - coordinates[0]) if len(coordinates) > 1 else 0.5
    return float(coordinates[0]) - half, float(coordinates[-1]) + half


def image(values: Any, scale: int = 1, name: str = "heat") -> bytes:
    """A grid of numbers (a landscape's ``values``, a persistence image) as the bytes of a PNG file, the first row at the bottom.

    Args:
        values: (rows, columns), finite.
        scale: pixels along the side of a cell.
        name: of the colours, "heat" or "diverging", from the least value to the greatest.
    """
    grid = host(values, "image")
    if grid.ndim != 2 or grid.size == 0:
        raise ValueError(f"image: needs a grid with two axes, not shape {grid.shape}")
    low, high = float(grid.min()), float(grid.max())
    return png(colours(grid[::-1], low, high if high > low else low + 1.0, name), scale)


def _alone(content: str, labels: list[tuple[int, str]], what: str) -> str:
    """A chart as a picture of its own, with a key above it."""
    key, at = "", float(GAP)
    for series, label in labels:
        key += svg.dot(at + 5, 20, 4.5, f"mark s{series}") + svg.words(at + 16, 24, label, "key")
        at += 40 + 7.2 * len(label)
    width, height = max(WIDTH + 2 * GAP, at), HEIGHT + 46
    body = f'<rect width="{width:.0f}" height="{height}" rx="10" style="fill:var(--page)"/>{key}<g transform="translate({GAP},36)">{content}</g>'
    return document(width, height, body, what)
