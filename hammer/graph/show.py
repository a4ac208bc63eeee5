"""Graphs to look at: as text, as a drawing for Graphviz, as a diagram for Mermaid."""

from collections.abc import Iterable
from itertools import count
from typing import Any

from .graph import UniversalGraph, is_number
from .ir import CONSTANT, INPUT, PICK, Node, described

SHOWN = 60
"""Characters of an attribute's value that are shown."""


def names_of(nodes: Iterable[Node]) -> dict[Node, str]:
    """A name for each node: inputs' own, numbers' values, and %0, %1, ... in their order."""
    names: dict[Node, str] = {}
    numbered = count()
    for node in nodes:
        if node.row is INPUT:
            names[node] = node.name
        elif is_number(node):
            names[node] = repr(node.value)
        else:
            names[node] = f"%{next(numbered)}"
    return names


def _call(node: Node, names: dict[Node, str]) -> str:
    if node.row is PICK:
        return f"{names[node.inputs[0]]}[{node.attributes['index']}]"
    if node.row is CONSTANT:
        return f"constant {short(node.value.tolist() if hasattr(node.value, 'tolist') else node.value)}"
    given = [names[n] for n in node.inputs]
    given += [f"{k}={short(v)}" for k, v in node.attributes.items()]
    return f"{node.op}({', '.join(given)})"


def short(value: Any) -> str:
    """A value as text, cut where it gets long."""
    text = " ".join(repr(value).split())
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


def text(graph: UniversalGraph, sources: bool = False) -> str:
    """The graph as a program, one node a line; with the line of the source that made each, if wanted."""
    names = names_of(graph.nodes)
    lines = [f"{graph.name}({', '.join(f'{n.name}: {described(n)}' for n in graph.inputs)}):"]
    lines += [f"    parameter {n.name}: {described(n)}" for n in graph.parameter_nodes.values()]
    for node in graph.nodes:
        if node.row is INPUT or is_number(node):
            continue
        line = f"    {names[node]}: {described(node)} = {_call(node, names)}"
        lines.append(line + (f"  # {node.source}" if sources and node.source else ""))
    lines.append(f"    return {graph.rebuild(_Name(names[n]) for n in graph.outputs)!r}")
    return "\n".join(lines)


class _Name(str):
    """A name that prints without quotes."""

    def __repr__(self) -> str:
        return str(self)


def titles_of(nodes: Iterable[Node]) -> dict[Node, str]:
    """What stands in a drawn node: an input's name, or the operation and the numbers among its inputs."""
    nodes = list(nodes)
    names, titles = names_of(nodes), {}
    for node in nodes:
        numbers = [names[n] for n in node.inputs if is_number(n)]
        numbers += [str(node.attributes["index"])] if node.row is PICK else []
        titles[node] = names[node] if node.row is INPUT or is_number(node) else " ".join([node.op, *numbers])
    return titles


def _drawn(graph: UniversalGraph) -> tuple[list[tuple[str, str, str]], list[tuple[str, str]]]:
    """Nodes as (id, label, kind) and edges as (from, to), without numbers, which stand in the labels."""
    titles = titles_of(graph.nodes)
    ids = {node: f"n{i}" for i, node in enumerate(graph.nodes)}
    nodes, edges = [], []
    for node in graph.nodes:
        if is_number(node) and node not in graph.outputs:
            continue
        kind = (
            "input"
            if node.row is INPUT
            else "constant"
            if node.row is CONSTANT
            else "output"
            if node in graph.outputs
            else "op"
        )
        kind = "parameter" if node in graph.parameter_nodes.values() else kind
        nodes.append((ids[node], f"{titles[node]}\n{described(node)}", kind))
        edges += [(ids[n], ids[node]) for n in node.inputs if not is_number(n)]
    return nodes, edges


_SHAPES = {"input": "ellipse", "parameter": "cylinder", "constant": "note", "op": "box", "output": "doubleoctagon"}


def to_dot(graph: UniversalGraph) -> str:
    """The graph in the DOT language of Graphviz: ``dot -Tsvg``."""
    nodes, edges = _drawn(graph)
    lines = [f'digraph "{_quoted(graph.name)}" {{', "  rankdir=TB; node [fontname=monospace];"]
    lines += [f'  {i} [label="{_quoted(label)}" shape={_SHAPES[kind]}];' for i, label, kind in nodes]
    lines += [f"  {a} -> {b};" for a, b in edges]
    return "\n".join([*lines, "}"]) + "\n"


def _quoted(label: str) -> str:
    return label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


_BRACKETS = {
    "input": ("([", "])"),
    "parameter": ("[(", ")]"),
    "constant": ("[/", "/]"),
    "op": ("[", "]"),
    "output": ("[[", "]]"),
}


def to_mermaid(graph: UniversalGraph) -> str:
    """The graph as a flowchart of Mermaid, which Markdown of code hosts draws."""
    nodes, edges = _drawn(graph)
    lines = ["flowchart TD"]
    for i, label, kind in nodes:
        left, right = _BRACKETS[kind]
        safe = label.replace('"', "#quot;").replace("\n", "<br/>")
        lines.append(f'  {i}{left}"{safe}"{right}')
    return "\n".join(lines + [f"  {a} --> {b}" for a, b in edges]) + "\n"
