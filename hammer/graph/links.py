"""The links of a gradient transform on symbolic tensors, and their numbers at every later step.

``LinkTrace`` runs links on proxies (``proxies``): each kernel of a leaf-wise link for each leaf, any other link as a whole. What
they make of gradients and state becomes part of a graph; what they do with numbers stays Python: ``numbers`` runs the code
again at each step. Leaves of which a kernel makes the same numbers (of one dtype, at one count) share one run.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import optree

from autograd import backend
from autograd.errors import NoValueError
from autograd.gradients.base import Leafwise, Link, _Chain, list_spec
from autograd.gradients.partition import _Partition
from autograd.shapes import numpy_dtype
from autograd.tensor import DiffTensor

from .ir import GraphError
from .proxies import Mismatch, Proxy, Tape

Leaves = list[DiffTensor | None]
UNTRACEABLE = (GraphError, NoValueError, TypeError, AttributeError)
"""Errors of a link that is traced that mean that it cannot be; if it is wrong itself, it says so again when it runs uncompiled."""


def links_of(link: Link) -> tuple[Link, ...]:
    """The links of a chain; any other link is a chain of one."""
    return link.links if isinstance(link, _Chain) else (link,)


class StateArray:
    """An array of a state: where it is (keys from the list of the links' states on), its symbol, and its new value."""

    __slots__ = ("new", "path", "symbol")

    def __init__(self, path: tuple, array: Any):
        self.path, self.symbol = path, DiffTensor.symbol(tuple(array.shape), numpy_dtype(array.dtype))
        self.new = self.symbol


class LinkTrace:
    """Some links of a chain, traced.

    Args:
        links: the links.
        states: theirs, a list; numbers in it move on as they do in a step.
        grads: the gradients, symbolic; None where there is none.
        params: the parameters, symbolic.
        raws: the parameters' arrays.

    Attributes:
        updates: what the links made of the gradients.
        arrays: the state's arrays.
        found: numbers of the state that are known only when the graph has run: their places, and symbolic values.
        slots: the symbols of the numbers.
        first: their values in this step.

    Raises:
        GraphError, NoValueError, TypeError, AttributeError: a link cannot be traced; the error's ``link`` is its place.
    """

    def __init__(self, links: Sequence[Link], states: list, grads: Leaves, params: Leaves, raws: list):
        self.arrays: list[StateArray] = []
        self.found: list[tuple[tuple, DiffTensor]] = []
        self._pieces: list[_Kernels | _Whole] = []
        self.updates = self._chain(links, (), states, grads, params, raws)
        tapes = [tape for piece in self._pieces for tape in piece.tapes]
        self.slots = [s for tape in tapes for s in tape.symbols]
        self.first = [n for tape in tapes for n in tape.numbers]

    def numbers(self, bound: list) -> list:
        """The slots' values in the next step; the state's numbers move on.

        Args:
            bound: of ``bind``.

        Raises:
            Mismatch: the links do something else now. The state's numbers may have moved on.
        """
        found: list = []
        for piece, own in zip(self._pieces, bound, strict=True):
            piece.replay(own, found)
        return found

    def bind(self, states: list) -> list:
        """What ``numbers`` takes, for a list of states."""
        return [piece.bind(_at(states, piece.path)) for piece in self._pieces]

    def constants(self, states: list) -> list[bool]:
        """For each slot, whether its number seems not to depend on the state: the links are run on states with other numbers."""
        kept = [True] * len(self.first)
        for change in (1, 2):
            end = 0
            for piece in self._pieces:
                begin, end = end, end + sum(len(tape.symbols) for tape in piece.tapes)
                other: Any = optree.tree_map(
                    lambda x, k=change: _changed(x, k), _at(states, piece.path), none_is_leaf=True
                )
                found: list = []
                try:
                    piece.replay(piece.bind(other), found)
                except (Mismatch, ArithmeticError, ValueError, TypeError, AttributeError):  # out of its range, perhaps
                    found = [None] * (end - begin)
                for i, number in enumerate(found, begin):
                    kept[i] = kept[i] and number == self.first[i]
        return kept

    # ---- tracing ----

    def _chain(
        self, links: Sequence[Link], path: tuple, states: Any, grads: Leaves, params: Leaves, raws: list
    ) -> Leaves:
        for i, link in enumerate(links):
            if all(g is None for g in grads):
                break
            try:
                grads = self._one(link, (*path, i), states[i], grads, params, raws)
            except UNTRACEABLE as error:
                if not path:
                    error.link = i  # type: ignore[union-attr]
                raise
        return grads

    def _one(self, link: Link, path: tuple, state: Any, grads: Leaves, params: Leaves, raws: list) -> Leaves:
        if isinstance(link, _Chain):
            if link.may_skip:
                raise GraphError("it may call the step off")
            return self._chain(link.links, path, state, grads, params, raws)
        if isinstance(link, _Partition):
            updates = list(grads)
            for label, (places, _) in link._groups(raws).items():
                part = [[x[i] for i in places] for x in (grads, params, raws)]
                if any(g is not None for g in part[0]):
                    some = self._one(link.links[label], (*path, label), state[label], *part)
                    for i, u in zip(places, some, strict=True):
                        updates[i] = u
            return updates
        piece: _Kernels | _Whole = _Kernels(link, path) if isinstance(link, Leafwise) else _Whole(link, path)
        updates = piece.trace(self, state, grads, params)
        self._pieces.append(piece)
        return updates

    def array(self, path: tuple, array: Any) -> StateArray:
        found = StateArray(path, array)
        self.arrays.append(found)
        return found


def _changed(x: Any, change: int) -> Any:
    """Another number in the place of one of a state."""
    if type(x) is int:
        return x + change
    return x * (1.0 + change / 8) if type(x) is float else x


def _at(tree: Any, path: Sequence) -> Any:
    for key in path:
        tree = tree[key]
    return tree


def _tensor(value: Any) -> Any:
    if value is None:
        return None
    if type(value) is not Proxy:
        raise GraphError(f"its update is a {type(value).__name__}, which does not come from a gradient")
    return value.read()


class _Kernels:
    """A leaf-wise link: a tape for each group of leaves that its kernel treats alike."""

    def __init__(self, link: Leafwise, path: tuple):
        self.link, self.path = link, path
        self.tapes: list[Tape] = []
        self._groups: list[tuple[Tape, tuple, list, list[int]]] = []  # tape, (g, p), buffers, leaves
        self._active: list[int] = []

    def trace(self, trace: LinkTrace, state: dict, grads: Leaves, params: Leaves) -> Leaves:
        link = self.link
        kernel = link.begin(state)
        updates: Leaves = []
        kinds: dict[tuple, tuple[Tape, list[int]]] = {}
        for i, (g, p) in enumerate(zip(grads, params, strict=True)):
            if g is None or p is None:
                updates.append(None)
                continue
            self._active.append(i)
            t: tuple = ()
            if link.buffers:
                state["t"][i] += 1
                t = (state["t"][i],)
            own = []
            for name in link.buffers:
                paths, leaves, spec = optree.tree_flatten_with_path(state[name][i], none_is_leaf=True)
                own.append((spec, [
                    x if x is None else trace.array((*self.path, name, i, *path), x) for path, x in zip(paths, leaves, strict=True)
                ]))  # fmt: skip
            kind = (t, g.dtype, p.dtype, *(x and x.symbol.dtype for _, leaves in own for x in leaves))
            shapes = (g.shape, p.shape, *(x and x.symbol.shape for _, leaves in own for x in leaves))
            like = kinds.get(kind) or kinds.get((kind, shapes))
            found = None if like is None else self._traced(kernel, g, p, t, own, like[0].symbols)
            if found is not None and like is not None and _same(found[0], like[0]):
                like[1].append(i)
            else:
                found = self._traced(kernel, g, p, t, own, None)
                assert found is not None
                tape, args, buffers = found
                group = (tape, args, buffers, [i])
                self._groups.append(group)
                self.tapes.append(tape)
                kinds[(kind, shapes) if tape.shaped else kind] = (tape, group[3])
            tape, _, buffers = found
            updates.append(_tensor(tape.result))
            for (_, leaves), tree in zip(own, buffers, strict=True):
                for x, proxy in zip(leaves, optree.tree_leaves(tree, none_is_leaf=True), strict=True):
                    if x is not None:
                        x.new = proxy.read()
        return updates

    def _traced(
        self, kernel: Any, g: Any, p: Any, t: tuple, own: list, symbols: Any
    ) -> tuple[Tape, tuple, list] | None:
        """The kernel on one leaf; None if it needs other slots than those given."""
        tape = Tape()
        args = tape.proxy(g), tape.proxy(p)
        buffers = [
            optree.tree_unflatten(spec, [x if x is None else tape.proxy(x.symbol) for x in leaves])
            for spec, leaves in own
        ]
        try:
            tape.trace(lambda: kernel(*args, *t, *buffers), symbols)
        except IndexError:
            if symbols is None:
                raise
            return None
        return tape, args, buffers

    def bind(self, state: Any) -> Any:
        return state

    def replay(self, state: Any, numbers: list) -> None:
        kernel = self.link.begin(state)
        counts = None
        if self.link.buffers:
            counts = state["t"]
            for i in self._active:
                counts[i] += 1
        for tape, args, buffers, leaves in self._groups:
            if counts is None:
                found = tape.replay(lambda a=args, b=buffers: kernel(*a))  # type: ignore[misc]
            else:
                t = counts[leaves[0]]
                for i in leaves:
                    if counts[i] != t:
                        raise Mismatch
                found = tape.replay(lambda a=args, t=t, b=buffers: kernel(*a, t, *b))  # type: ignore[misc]
            if found is not tape.result:
                raise Mismatch
            numbers += tape.numbers


def _same(a: Tape, b: Tape) -> bool:
    return a.numbers == b.numbers and len(a.symbols) == len(b.symbols) and a.signature == b.signature


class _Whole:
    """Any other link, on all leaves and its whole state."""

    def __init__(self, link: Link, path: tuple):
        self.link, self.path = link, path
        self.tape = Tape()
        self.tapes = [self.tape]

    def trace(self, trace: LinkTrace, state: Any, grads: Leaves, params: Leaves) -> Leaves:
        tape = self.tape
        self._g = [g if g is None else tape.proxy(g) for g in grads]
        self._p = [p if p is None else tape.proxy(p) for p in params]
        paths, leaves, self._tree = optree.tree_flatten_with_path(state, none_is_leaf=True)
        self._paths = paths
        arrays = [
            trace.array((*self.path, *path), x) if backend.is_array(x) else None
            for path, x in zip(paths, leaves, strict=True)
        ]
        self._proxies = [a if a is None else tape.proxy(a.symbol) for a in arrays]
        bound = self.bind(state)
        updates, self._new = tape.trace(lambda: self._run(bound))
        for path, old, array, new in zip(paths, leaves, arrays, self._new, strict=True):
            if array is not None:
                if type(new) is not Proxy:
                    raise GraphError(f"it replaces an array of its state by a {type(new).__name__}")
                array.new = new.read()
            elif type(new) is Proxy:
                if not new.weak:
                    raise GraphError("it replaces a number of its state by an array")
                trace.found.append(((*self.path, *path), new.read()))
            elif new is not old and not isinstance(new, (bool, int, float, str, type(None), np.generic)):
                raise GraphError(f"it puts a {type(new).__name__} into its state")
        self._put(bound, self._new)
        return [_tensor(u) for u in updates]

    def _run(self, bound: list) -> tuple[list, list]:
        given = [container[key] if p is None else p for p, (container, key) in zip(self._proxies, bound, strict=True)]
        state = optree.tree_unflatten(self._tree, given)
        updates, new = self.link.step(list(self._g), state, list(self._p), list_spec(self._p))
        leaves, tree = optree.tree_flatten(new, none_is_leaf=True)
        if tree != self._tree:
            raise GraphError("the structure of its state changes")
        return updates, leaves

    def bind(self, state: Any) -> Any:
        return [(_at(state, path[:-1]), path[-1]) for path in self._paths]

    def replay(self, bound: Any, numbers: list) -> None:
        updates, new = self.tape.replay(lambda: self._run(bound))
        before = [*self.tape.result[0], *(n for n in self._new if type(n) is Proxy)]
        if not all(a is b for a, b in zip(before, [*updates, *(n for n in new if type(n) is Proxy)], strict=False)):
            raise Mismatch
        numbers += self.tape.numbers
        self._put(bound, new)

    @staticmethod
    def _put(bound: list, new: list) -> None:
        for (container, key), value in zip(bound, new, strict=True):
            if type(value) is not Proxy and container[key] is not value:
                if isinstance(container, tuple):
                    raise GraphError("it keeps a number that changes in a tuple; keep it in a dict or a list")
                container[key] = value
