"""Makes a failing call of a function as small as it can be, so that a person can see through it.

First sizes: an element is taken out along a drawn size, of all arguments that have it, as long as the call still fails; and
an axis that was drawn and has one element is taken away. Then numbers: each array is rounded to as few digits as still
fail. Numbers come from domains, and equal sizes stay equal, which a general shrinker does not know.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from .arguments import Argument

Call = dict[str, np.ndarray]
TRIES = 200
"""How many calls are tried at the most."""
DIGITS = range(5)
"""Digits after the point that numbers are rounded to: the first that fails is taken."""


def shrink(call: Call, arguments: Sequence[Argument], fails: Callable[[Call], bool]) -> Call:
    """The smallest call found for which ``fails`` is true, as it is for ``call``."""
    tries = 0

    def try_(candidate: Call) -> bool:
        nonlocal tries
        tries += 1
        return tries <= TRIES and fails(candidate)

    shrunk = True
    while shrunk and tries < TRIES:
        found = next(filter(try_, _smaller(call, arguments)), None)
        shrunk, call = found is not None, found or call
    for a in arguments:
        if a.domain.kind == "inexact":
            rounded = (
                np.asarray(np.round(call[a.name], digits) + 0.0) for digits in DIGITS
            )  # + 0.0: no negative zeros
            candidates = ({**call, a.name: array.astype(a.dtype)} for array in rounded if a.holds(array))
            call = next(filter(try_, candidates), call)
    return call


def _smaller(call: Call, arguments: Sequence[Argument]) -> Iterator[Call]:
    """The calls with one element less along one size, or with one axis less."""
    free = [a.name for a in arguments if a.shape is None]  # they have one drawn shape
    axes = range(call[free[0]].ndim) if free else range(0)
    for axis in axes:
        if call[free[0]].shape[axis] == 1:
            yield {name: np.squeeze(x, axis) if name in free else x for name, x in call.items()}
    sizes: dict[int | str, list[tuple[str, int]]] = {axis: [(name, axis) for name in free] for axis in axes}
    for a in arguments:
        for axis, side in enumerate(a.shape or ()):
            if isinstance(side, str):
                sizes.setdefault(side, []).append((a.name, axis))
    for places in sizes.values():
        name, axis = places[0]
        size = call[name].shape[axis]
        for k in range(size if size > 1 else 0):
            smaller = dict(call)
            for name, axis in places:
                smaller[name] = np.delete(smaller[name], k, axis)
            yield smaller
