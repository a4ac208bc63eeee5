"""How the threads of a GPU share a loop nest. It depends on sizes alone, not on the device, and so do the bits of results."""

import math
from dataclasses import dataclass

from ..native.schedule import Nest, Root

WARP = 32
BLOCK = 256
"""Threads of a block, but for rows."""
SHORT = 512
"""Elements up to which a row is a warp's."""
LONG = 16
"""Elements from which a column is shared by several threads."""
FEW = 256
"""The number of blocks below which reductions are cut into parts, and what the parts of one come to at most."""
PART = 4096
"""Elements that a part has at least."""


@dataclass(frozen=True)
class Layout:
    """How threads share a nest: of ``kept`` and of ``reduced`` elements; a team of ``team`` threads works on each kept one, or, in
    column mode, ``wide`` neighbouring ones are worked on by a block."""

    kept: int
    reduced: int
    team: int
    wide: int
    block: int
    parts: int


def layout(nest: Nest) -> Layout:
    """The layout of a nest; it depends on sizes alone."""
    kept = math.prod(n for a, n in enumerate(nest.frame) if a not in nest.axes)
    reduced = math.prod(n for a, n in enumerate(nest.frame) if a in nest.axes)
    if nest.mode == "map":
        return Layout(kept, 1, 1, 1, BLOCK, 1)
    if nest.mode == "row":
        team = WARP if reduced <= SHORT else 128 if reduced <= 2048 else BLOCK if reduced <= 8192 else 512
        block, wide, step = max(team, 128), 1, team
        blocks = -(-kept // (block // team))
    else:
        shared = reduced >= LONG and kept < FEW * BLOCK
        team, wide, block = 1, WARP if shared else BLOCK, BLOCK
        blocks, step = -(-kept // wide), block // wide
    parts, blocks = 1, max(1, blocks)
    if blocks < FEW and all(r.phase == 0 and (r.term.op == "reduce" or r.term.shape == nest.frame) for r in nest.roots):
        parts = max(1, min(FEW // blocks, reduced // max(step * 8, PART // max(1, min(wide, kept)))))
    return Layout(kept, reduced, team, wide, block, parts)


def between(nest: Nest) -> tuple[int, dict[Root, int]]:
    """Bytes between the two stages of a nest, and where those of each reduction begin; 0 if there is one stage."""
    shape, size, found = layout(nest), 0, {}
    if shape.parts > 1:
        for root in nest.roots:
            if root.term.op == "reduce":
                found[root] = size
                size += -(-shape.parts * shape.kept * root.term.dtype.itemsize // 16) * 16
    return size, found
