"""Chains of elementwise operations on large arrays, done tile by tile: the values in between stay in the processor's cache.

An optimizer's update reads and writes each of its arrays once instead of once for each operation. Only ufuncs whose every
element is rounded exactly take part, so tiles change no bit. ``regions`` finds the chains; ``Region.lines`` writes their loops.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from .ir import Node

TILE = 16384
"""Elements of a tile."""
LARGE = 2 * TILE
"""Elements from which an array is worked on in tiles."""

SAFE = frozenset((
    np.add, np.subtract, np.multiply, np.true_divide, np.negative, np.positive, np.absolute, np.sqrt, np.square, np.sign,
    np.maximum, np.minimum, np.less, np.less_equal, np.greater, np.greater_equal, np.equal, np.not_equal,
))  # fmt: skip
"""Ufuncs whose results are the nearest numbers, or no numbers of their own: the same wherever an element lies in an array."""


class Region:
    """Operations on arrays of one shape that are done together.

    Attributes:
        nodes: the operations, in order.
        outputs: those whose values are used elsewhere.
        arrays: the inputs of the shape.
        numbers: the inputs without axes.
    """

    def __init__(self, shape: tuple[int, ...]):
        self.shape = shape
        self.nodes: list[Node] = []
        self.members: set[Node] = set()
        self.outputs: list[Node] = []
        self.arrays: dict[Node, None] = {}
        self.numbers: dict[Node, None] = {}
        self.open = True

    def add(self, node: Node) -> None:
        self.nodes.append(node)
        self.members.add(node)
        for n in node.inputs:
            if n not in self.members:
                (self.arrays if n.shape == self.shape else self.numbers)[n] = None

    def takes(self, node: Node) -> bool:
        """Whether a node works on arrays of this region."""
        return (
            self.open
            and self.shape == node.shape
            and any(n in self.members or n in self.arrays for n in node.inputs if n.shape)
        )

    def lines(
        self, name: str, var: Mapping[Node, str], into: Mapping[Node, str], function: Callable[[Any], str]
    ) -> list:
        """The program of a function that is called with the arrays, the numbers, and the arrays to write into.

        Args:
            var: the variables' names.
            into: of outputs that are written into one of the region's arrays, its name.
            function: gives a name to a value of the program.
        """
        size = int(np.prod(self.shape))
        empty = function(np.empty)
        targets = [v for v in dict.fromkeys(into.values()) if v not in {var[n] for n in self.arrays}]
        head = [f"def {name}({', '.join([*(var[n] for n in (*self.arrays, *self.numbers)), *targets])}):"]
        tile: dict[Node, str] = {}
        loop = []
        for v in [*(var[n] for n in self.arrays), *targets]:
            head.append(f"    f_{v} = {v}.reshape(-1)")
            loop.append(f"        s_{v} = f_{v}[a:b]")
        tile |= {n: f"s_{var[n]}" for n in self.arrays} | {n: var[n] for n in self.numbers}
        for n in self.outputs:
            tile[n] = f"s_{into[n]}" if n in into else f"s_{var[n]}"
            if n not in into:
                head.append(f"    {var[n]} = {empty}({self.shape!r}, {function(n.dtype)})")
                head.append(f"    f_{var[n]} = {var[n]}.reshape(-1)")
                loop.append(f"        s_{var[n]} = f_{var[n]}[a:b]")
        last = {n: i for i, node in enumerate(self.nodes) for n in node.inputs}
        free: dict[Any, list[str]] = {}
        spaces: list[str] = []
        for i, node in enumerate(self.nodes):
            for n in dict.fromkeys(node.inputs):  # a ufunc may write over what it reads
                if n in self.members and last[n] == i and tile[n].startswith("w"):
                    free.setdefault(n.dtype, []).append(tile[n])
            if node not in tile:
                waiting = free.get(node.dtype)
                if not waiting:
                    waiting = [f"w{len(spaces)}"]
                    spaces.append(f"    w{len(spaces)} = {empty}({TILE}, {function(node.dtype)})")
                tile[node] = waiting.pop()
            given = ", ".join([*(tile[n] for n in node.inputs), f"out={tile[node]}"])
            loop.append(f"        {function(node)}({given})")
        short = [f"            w{i} = w{i}[: {size} - a]" for i in range(len(spaces))]
        results = "".join(f"{into.get(n, var[n])}, " for n in self.outputs)
        return [
            *head, *spaces, f"    for a in range(0, {size}, {TILE}):", f"        b = a + {TILE}",
            *([f"        if b > {size}:", *short] if short and size % TILE else []), *loop, f"    return ({results})", "",
        ]  # fmt: skip


def regions(
    nodes: Sequence[Node], outputs: Iterable[Node], ufunc_of: Callable[[Node], np.ufunc | None]
) -> tuple[list[Node], dict[Node, Region]]:
    """The regions of a program, by their members, and the program with the members of each standing together.

    A region stands where its last member was. It ends before anything else needs one of its values, so all that it needs comes
    before it.
    """
    found: list[Region] = []  # those that are open
    place = {node: i for i, node in enumerate(nodes)}
    region_of: dict[Node, Region] = {}
    for node in nodes:
        own = None
        if _is_tiled(node, ufunc_of):
            near = [r for r in found if r.takes(node)]
            own = Region(node.shape)
            for n in sorted((n for r in near for n in r.nodes), key=place.__getitem__):
                own.add(n)  # regions that are still open can be one: nothing between them needs their values
                region_of[n] = own
            found = [r for r in found if r.open and r not in near] + [own]
        for n in node.inputs:
            other = region_of.get(n)
            if other is not None and other is not own:
                other.open = False
        if own is not None:
            own.add(node)
            region_of[node] = own
    region_of = {n: r for n, r in region_of.items() if len(r.nodes) > 1}
    wanted = set(outputs)
    for node in nodes:
        wanted |= {n for n in node.inputs if n in region_of and region_of[n] is not region_of.get(node)}
    order: list[Node] = []
    for node in nodes:
        own = region_of.get(node)
        if own is None:
            order.append(node)
        elif node is own.nodes[-1]:
            order += own.nodes
            own.outputs = [n for n in own.nodes if n in wanted]
    return order, region_of


def _is_tiled(node: Node, ufunc_of: Callable[[Node], np.ufunc | None]) -> bool:
    return (
        node.is_operation
        and not node.several
        and node.size >= LARGE
        and ufunc_of(node) in SAFE
        and all(n.shape in (node.shape, ()) for n in node.inputs)
    )
