"""Diagrams and a landscape as one HTML page to look around in; it needs nothing but itself.

Python computes what is shown (bars, figures, basins and their tree); ``view.html`` beside this file draws it. Names reach the page as
data only, never as HTML.
"""

import json
import re
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from autograd.atomic import write_atomically

from ..drawing.raster import MAPS
from .basins import basins
from .diagram import Diagram, host_of
from .matching import bottleneck
from .pictures import MOST, ends_of, name_of, tree_order
from .slices import Landscape, as_landscape
from .stored import sets_of
from .summaries import persistence_entropy, total_persistence

MOST_BASINS = 60
"""The deepest basins of a landscape, which the page shows."""


def to_html(diagrams: Any = None, landscape: Any = None, title: str = "Topology", about: str = "") -> str:
    """The page as text: barcode beside diagram with a slider over moments; a landscape with its critical points, the path of a
    run if it has one, and its merge tree.

    Args:
        diagrams: what to show: a Diagram or several (``rips(points)``); or moment -> those; or name -> moment -> those, as in
            ``{"layer 1": {"epoch 1": rips(a), "epoch 2": rips(b)}}``.
        landscape: a ``Landscape`` of two axes, or a 2-D array.
        title, about: the heading, and a line below it.

    Raises:
        ValueError: there is nothing to show, or moments of one name with different dimensions. TypeError: something that is no diagram.
    """
    sets, shape = sets_of(diagrams), None if landscape is None else as_landscape(landscape)
    if not sets and shape is None:
        raise ValueError("to_html: there is nothing to show: give diagrams, a landscape, or both")
    data = {
        "sets": [_set(name, moments) for name, moments in sets.items()],
        "landscape": None if shape is None else _landscape(shape),
        "heat": MAPS["heat"],
    }
    # in a script element only "</script" and "<!--" end or change the text; "<" as an escape of JSON is neither
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    template = Path(__file__).with_name("view.html").read_text(encoding="utf-8")
    parts = {"title": escape(title), "about": escape(about), "data": text}
    return re.sub(r"\{\{(title|about|data)\}\}", lambda found: parts[found[1]], template)


def save_html(
    path: Path | str, diagrams: Any = None, landscape: Any = None, title: str = "Topology", about: str = ""
) -> None:
    """Write the page of ``to_html``, as a whole or not at all."""
    write_atomically(Path(path), to_html(diagrams, landscape, title, about))


def _set(name: str, moments: dict[str, tuple[Diagram, ...]]) -> dict[str, Any]:
    low, high = ends_of([d for one in moments.values() for d in one])
    shown: list[list[dict[str, Any]]] = []
    before: tuple[Diagram, ...] | None = None
    for one in moments.values():
        kept = tuple(d.longest(MOST) for d in one)
        shown.append([_shown(d, k, None if before is None else before[i]) for i, (d, k) in enumerate(zip(one, kept, strict=True))])  # fmt: skip
        before = kept
    first = next(iter(moments.values()))
    return {
        "name": name,
        "moments": list(moments),
        "dimensions": [{"number": d.dimension, "name": name_of(d.dimension)} for d in first],
        "low": low,
        "high": high,
        "frames": shown,
    }


def _shown(diagram: Diagram, kept: Diagram, before: Diagram | None) -> dict[str, Any]:
    """A diagram of one moment: its longest bars by birth, and figures of all of it."""
    pairs = host_of(kept.pairs)
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    return {
        "pairs": _rounded(pairs),
        "essential": _rounded(np.sort(host_of(kept.essential))),
        "count": len(diagram),
        "total": _rounded(np.float64(total_persistence(host_of(diagram.pairs)))),
        "entropy": _rounded(np.float64(persistence_entropy(host_of(diagram.pairs)))),
        "longest": _rounded(np.float64(host_of(diagram.lifetimes).max(initial=0.0))),
        "change": None
        if before is None
        else _rounded(np.float64(bottleneck(host_of(before.pairs), host_of(kept.pairs)))),
    }


def _landscape(shape: Landscape) -> dict[str, Any]:
    values = shape.values
    tree = basins(values)
    deep = min(tree.count(), MOST_BASINS)  # those of depth 0 are equal values
    kept = np.argsort(-tree.depths, kind="stable")[:deep]  # parents, as deep or deeper, come before
    number = {int(b): k for k, b in enumerate(kept)}
    found = []
    for b in kept:
        ends = None if b == 0 else tree.saddles[b - 1].tolist()
        found.append(
            {
                "cell": tree.minima[b].tolist(),
                "birth": float(tree.births[b]),
                "saddle": ends,
                "death": None if b == 0 else float(tree.deaths[b - 1]),
                "parent": None if b == 0 else number[int(tree.parents[b - 1])],
            }
        )
    return {
        "values": _rounded(values),
        "coordinates": [_rounded(c) for c in shape.coordinates],
        "basins": found,
        "order": [number[b] for b in tree_order(tree) if b in number],
        "count": tree.count(),
        "path": None if shape.path is None else _rounded(_in_cells(shape)),
    }


def _in_cells(shape: Landscape) -> np.ndarray:
    """The path in numbers of cells along each axis, as the page counts them; what is outside of the slice is put on its edge."""
    places = [np.interp(p, c, np.arange(len(c))) for p, c in zip(shape.path.T, shape.coordinates, strict=True)]  # type: ignore[union-attr]
    return np.stack(places, axis=1)


def _rounded(values: Any) -> Any:
    """Numbers to six digits, as JSON has them."""
    array = np.asarray(values, np.float64)
    size = 10.0 ** (5 - np.floor(np.log10(np.maximum(np.abs(array), 1e-290))))
    with np.errstate(over="ignore", invalid="ignore"):
        rounded = np.rint(array * size) / size
    return np.where(np.isfinite(rounded), rounded, array).tolist()
