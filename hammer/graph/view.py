"""A graph as one HTML page to look around in: zoom, search, and what each operation costs. It needs nothing but itself.

Python computes what is shown and where (``layout``); ``view.html`` beside this file draws it. What a graph says of itself (names,
source lines) reaches the page as data only, never as HTML.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from autograd.atomic import write_atomically

from .cost import cost_of
from .execute import last_uses
from .graph import UniversalGraph, is_number
from .ir import CONSTANT, INPUT, Node, described
from .layout import columns_of, rows_of
from .profile import Profile
from .show import names_of, short, titles_of

WIDTH, HEIGHT, ROW, GAP = 176, 40, 76, 120
"""Of a node, from row to row, and between the forward and the backward part; in units of the drawing."""
MEASURES = (
    ("flops", "FLOPs", "FLOPs"),
    ("bytes", "bytes moved", "B"),
    ("result", "bytes of the result", "B"),
    ("live", "bytes held meanwhile", "B"),
)
"""By what nodes can be coloured and listed: the key, what it is called, the unit."""
TIME = ("seconds", "time", "s")


def to_html(graph: UniversalGraph, backward: UniversalGraph | None = None, profile: Profile | None = None) -> str:
    """The page of a graph; with ``backward``, a graph of its gradient, what only that has stands beside it and goes upwards;
    with ``profile``, of either, each operation that is a step of its own has its time.
    """
    seconds = {} if profile is None else {r.nodes[0]: r.seconds for r in profile.rows if len(r.nodes) == 1}
    first = list(graph.nodes)
    known = set(first)
    second = [] if backward is None else [n for n in backward.nodes if n not in known]
    outputs = {*graph.outputs, *(backward.outputs if backward is not None else ())}
    parameters = {*graph.parameter_nodes.values(), *(backward.parameter_nodes.values() if backward is not None else ())}
    shown = [n for n in (*first, *second) if not is_number(n) or n in outputs]
    number = {n: i for i, n in enumerate(shown)}
    live = live_bytes((*first, *second), outputs)
    names, titles = names_of((*first, *second)), titles_of((*first, *second))
    places = _places(shown, number, known)
    nodes = []
    for node, (x, y) in zip(shown, places, strict=True):
        weight = cost_of(node) if node.is_operation else None
        kind = "parameter" if node in parameters else "input" if node.row is INPUT else "constant" if node.row is CONSTANT else "output" if node in outputs else "operation"  # fmt: skip
        nodes.append(
            {
                "name": names[node],
                "title": titles[node],
                "op": node.op,
                "kind": kind,
                "type": described(node),
                "x": round(x, 1),
                "y": round(y, 1),
                "inputs": list(dict.fromkeys(number[n] for n in node.inputs if n in number)),
                "flops": float(weight.flops) if weight else 0.0,
                "bytes": int(weight.bytes) if weight else 0,
                "result": int(node.nbytes),
                "live": live.get(node, 0),
                "seconds": round(seconds.get(node, 0.0), 9),
                "source": node.source or "",
                "attributes": {k: short(v) for k, v in node.attributes.items()} if node.row is not INPUT else {},
                "backward": node not in known,
            }
        )
    data = {
        "name": graph.name,
        "node": [WIDTH, HEIGHT],
        "parts": ["forward", "backward"] if second else [],
        "measures": [*MEASURES, *([TIME] if seconds else [])],
        "operations": sum(n.is_operation for n in shown),
        "nodes": nodes,
    }
    # in a script element only "</script" and "<!--" end or change the text; "<" as an escape of JSON is neither
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    template = Path(__file__).with_name("view.html").read_text(encoding="utf-8")
    title = graph.name.replace("&", "&amp;").replace("<", "&lt;")
    return template.replace("{{title}}", title).replace("{{data}}", text)


def save_html(
    graph: UniversalGraph,
    path: Path | str,
    backward: UniversalGraph | None = None,
    profile: Profile | None = None,
) -> None:
    """Write the page of a graph, as a whole or not at all."""
    write_atomically(Path(path), to_html(graph, backward, profile))


def live_bytes(nodes: Sequence[Node], outputs: set[Node]) -> dict[Node, int]:
    """Bytes that are held while each operation runs, if each value is made when its node comes and let go after its last use.

    Inputs, parameters and constants are not counted; a value that may be a view keeps what it may be a view of.
    """
    _, memory = last_uses(nodes, outputs)
    ends: dict[int, int] = {}
    found, held = {}, 0
    for i, node in enumerate(nodes):
        size = node.nbytes if node.is_operation else 0
        held += size
        if node.is_operation:
            found[node] = held
        ends[memory.get(node, i)] = ends.get(memory.get(node, i), 0) + size
        held -= ends.pop(i, 0)
    return found


def _places(shown: Sequence[Node], number: dict[Node, int], forward: set[Node]) -> list[tuple[float, float]]:
    """The middle of each node. The backward part has its first row at the bottom, and the height of the forward part."""
    parts = [[n for n in shown if (n in forward) is side] for side in (True, False)]
    found: dict[Node, tuple[float, float]] = {}
    left, height = 0.0, 0.0
    for k, part in enumerate(parts):
        if not part:
            continue
        own = {n: i for i, n in enumerate(part)}
        inputs = [[own[n] for n in dict.fromkeys(node.inputs) if n in own] for node in part]
        rows = rows_of(inputs)
        columns = columns_of(rows, inputs)
        count = max(rows)
        pitch = ROW if k == 0 else max(ROW, height / max(count, 1))
        height = max(height, count * pitch)
        for node, row, column in zip(part, rows, columns, strict=True):
            found[node] = (left + column * (WIDTH + 16), row * pitch if k == 0 else (count - row) * pitch)
        left += (max(columns) + 1) * (WIDTH + 16) + GAP
    return [found[n] for n in shown]
