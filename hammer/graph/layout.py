"""Places for the nodes of a graph: a row for each depth, and within a row as near to what they are joined with as there is room.

It is the layered drawing of Sugiyama, Tagawa and Toda (1981) with one idea for order and coordinates together: in each sweep
a row is sorted by the mean place of its neighbours in the rows before (or behind), and then given the places nearest to those
means, in the least squares sense, that keep the order and a distance. That is isotonic regression, solved by pooling
adjacent violators (Ayer et al. 1955).
"""

from collections.abc import Sequence

SWEEPS = 12


def rows_of(inputs: Sequence[Sequence[int]]) -> list[int]:
    """The row of each node: below all it is computed from, and above all that is computed from it.

    Where there is room, it is moved to the side to which more lines go. If as many go to both, it is a link of a chain, and moves
    away from the end where the chain is one of many: what is split off for a step of a loop stands at that step.

    Args:
        inputs: for each node those that it is computed from, by number; each number is smaller than the node's own.
    """
    users: list[list[int]] = [[] for _ in inputs]
    for i, given in enumerate(inputs):
        for j in given:
            users[j].append(i)
    rows, before, behind = [0] * len(inputs), [0] * len(inputs), [0] * len(inputs)
    for i, given in enumerate(inputs):
        rows[i] = 1 + max((rows[j] for j in given), default=-1)
        before[i] = max((max(len(users[j]), before[j] * (len(inputs[j]) == 1)) for j in given), default=0)
    for i in reversed(range(len(inputs))):
        behind[i] = max((max(len(inputs[j]), behind[j] * (len(users[j]) == 1)) for j in users[i]), default=0)
        if users[i] and (len(users[i]), before[i]) >= (len(inputs[i]), behind[i] * (len(inputs[i]) == len(users[i]))):
            rows[i] = min(rows[j] for j in users[i]) - 1
    return rows


def spaced(wanted: Sequence[float], distance: float) -> list[float]:
    """The places nearest to those wanted, in the least squares sense, that ascend by ``distance`` or more."""
    blocks: list[
        tuple[float, int]
    ] = []  # (mean, count) of what is pooled, of wanted places less the distances before them
    for i, place in enumerate(wanted):
        mean, count = place - i * distance, 1
        while blocks and blocks[-1][0] > mean:
            other, n = blocks.pop()
            mean, count = (mean * count + other * n) / (count + n), count + n
        blocks.append((mean, count))
    flat = [mean for mean, count in blocks for _ in range(count)]
    return [place + i * distance for i, place in enumerate(flat)]


def columns_of(rows: Sequence[int], inputs: Sequence[Sequence[int]]) -> list[float]:
    """The place of each node in its row, from 0, such that two in a row are 1 or more apart."""
    above: list[list[int]] = [list(given) for given in inputs]
    below: list[list[int]] = [[] for _ in inputs]
    for i, given in enumerate(inputs):
        for j in given:
            below[j].append(i)
    members: dict[int, list[int]] = {}
    for i, row in enumerate(rows):
        members.setdefault(row, []).append(i)
    x = [0.0] * len(rows)
    for there in members.values():
        for place, i in enumerate(there):
            x[i] = place - (len(there) - 1) / 2
    for sweep in range(SWEEPS):
        neighbours = above if sweep % 2 == 0 else below
        for number in sorted(members, reverse=sweep % 2 == 1):
            wanted = {i: _mean([x[j] for j in neighbours[i]], x[i]) for i in members[number]}
            order = members[number] = sorted(members[number], key=wanted.__getitem__)
            for i, near in zip(order, spaced([wanted[i] for i in order], 1.0), strict=True):
                x[i] = near
    least = min(x, default=0.0)
    return [place - least for place in x]


def _mean(places: Sequence[float], otherwise: float) -> float:
    return sum(places) / len(places) if places else otherwise
