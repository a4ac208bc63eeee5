"""The pair (init, update), how pairs compose, and how they run quickly.

Outside, a transform is a ``GradientTransform``: two functions over trees of arrays. Inside, it is a ``Link``, which sees
the tree as the flat list of its leaves, so a chain flattens once however many links it has. A ``Leafwise`` link is a
*kernel*: arithmetic on one leaf and its state buffers. Neighbouring kernels run leaf by leaf, and where all of them are
elementwise a large NumPy leaf is cut into tiles that stay in the processor's cache, so the temporaries of a kernel
cost no memory traffic and kernels can be written as plain arithmetic. A sparse gradient (``RowSparse``) is worked on in the
same way, as if its rows were one tile (``autograd.gradients.sparse`` says what that means). A pair of functions from outside is a link too: ``_OnTree``.

*No update this step.* A link that returns None for every leaf ends the step: the links after it are not called, so their
state stays as it is, and so do the parameters. An accumulator does that until it has gathered enough. A link that calls
a step off (a norm that is not finite, a loss scale that overflowed) does it too and says ``may_skip``: the chain then also
puts the state of the links *before* it back to what it was, but for those that have handed their gradients on
(``undone`` is False). Inside ``partition`` both hold for the group alone.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import optree

from .. import backend
from ..sparse import RowSparse, put_rows, take_rows

TILE = 32768
"""Elements of a tile. Fewer, and the calls cost more than the work; more, and the arrays of a kernel leave the cache."""


class GradientTransform(NamedTuple):
    """A pair of functions that turns gradients into updates; updates are what is *added* to the parameters.

    Attributes:
        init: ``init(params) -> state``. ``params`` is a tree (nested dicts, lists, tuples) of real floating-point arrays
            of any supported library; the state is a tree of arrays and Python numbers.
        update: ``update(grads, state, params) -> (updates, state)``. ``grads`` has the structure and the shapes of
            ``params``, or None where there is no gradient: such a leaf gets the update None, and its state stays as it is.
            A gradient may also be a ``RowSparse``, whose update is one too.

    Gradients and parameters are never modified. The state passed in is given away: its buffers are reused, so go on
    with the state that is returned. Updates may share memory with gradients or with the state: read them before the
    next call, and do not write to them.
    """

    init: Callable[[Any], Any]
    update: Callable[[Any, Any, Any], tuple[Any, Any]]


class Link:
    """What a transform does to the flat list of a tree's leaves. ``init`` and ``update`` are the same for whole trees."""

    may_skip: bool = False
    """Whether the link may call a step off, by returning no update at all: a chain then undoes what links before it did."""
    undone: bool = True
    """Whether this link's state goes back to what it was when a later link calls the step off."""

    def start(self, params: list, spec: Any) -> Any:
        """The first state. ``spec`` is optree's structure of the tree."""
        raise NotImplementedError

    def step(self, grads: list, state: Any, params: list, spec: Any, apply: bool = False) -> tuple[list, Any]:
        """Updates and the new state; ``grads`` holds None where there is no gradient.

        With ``apply`` the link may add updates to the parameters themselves, where that saves memory traffic, and return
        ``APPLIED`` in their places. Only ``Optimizer`` asks for that: it owns its parameters.
        """
        raise NotImplementedError

    def evaluation(self, state: Any, params: list) -> list:
        """The parameters to judge a model by, where this link keeps better ones than those it steps (see ``averaging``)."""
        return params

    def transform(self) -> GradientTransform:
        return GradientTransform(self.init, self.update)

    def init(self, params: Any) -> Any:
        leaves, spec = _flatten(params, "init: params")
        for p in leaves:
            if p is not None and "float" not in str(p.dtype):
                raise TypeError(
                    f"init: gradient transforms work on real floating-point arrays, not on {p.dtype}; convert integers, and "
                    "hold the real and imaginary parts of complex parameters as two arrays"
                )
        return self.start(leaves, spec)

    def update(self, grads: Any, state: Any, params: Any) -> tuple[Any, Any]:
        g, spec = _flatten(grads, "update: grads")
        p, structure = _flatten(params, "update: params")
        if spec != structure:
            raise ValueError(f"update: grads and params differ in structure: {spec} and {structure}")
        for i, (one, parameter) in enumerate(zip(g, p, strict=True)):
            if one is not None and one.shape != parameter.shape:
                raise ValueError(
                    f"update: leaf {i} has a gradient of shape {tuple(one.shape)} for a parameter of shape {tuple(parameter.shape)}"
                )
        updates, state = self.step(g, state, p, spec)
        return optree.tree_unflatten(spec, updates), state


def _flatten(tree: Any, what: str) -> tuple[list, Any]:
    leaves, spec = optree.tree_flatten(tree, none_is_leaf=True)
    for leaf in leaves:
        if leaf is not None and not backend.is_array(leaf):
            raise TypeError(
                f"{what} holds {type(leaf).__name__} {leaf!r:.60}; the leaves must be arrays: numpy.asarray(...) of a "
                "number, .data or .grad of a DiffTensor"
            )
    return leaves, spec


def list_spec(leaves: list) -> Any:
    """The structure of a flat list."""
    return optree.tree_structure(leaves, none_is_leaf=True)  # type: ignore[arg-type]


def link_of(transform: GradientTransform) -> Link:
    """The link behind a transform."""
    link = getattr(getattr(transform, "update", None), "__self__", None)
    if isinstance(link, Link):
        return link
    if not callable(getattr(transform, "init", None)) or not callable(getattr(transform, "update", None)):
        raise TypeError(f"a gradient transform has functions init and update; {transform!r:.80} has not")
    return _OnTree(transform)


class _OnTree(Link):
    """A pair of functions written for trees."""

    def __init__(self, transform: GradientTransform):
        self.outer = transform

    def start(self, params: list, spec: Any) -> Any:
        return self.outer.init(optree.tree_unflatten(spec, params))

    def step(self, grads: list, state: Any, params: list, spec: Any, apply: bool = False) -> tuple[list, Any]:
        trees = optree.tree_unflatten(spec, grads), optree.tree_unflatten(spec, params)
        updates, state = self.outer.update(trees[0], state, trees[1])
        leaves, structure = optree.tree_flatten(updates, none_is_leaf=True)
        if structure != spec:
            raise ValueError(
                f"update: a link of the chain returned updates of structure {structure} for gradients of structure {spec}"
            )
        return leaves, state


class Leafwise(Link):
    """A kernel for one leaf; see ``leafwise``. State: ``{"t": [updates so far of each leaf], name: [buffers], number: …}``."""

    def __init__(
        self,
        begin: Callable[[dict], Callable],
        buffers: Mapping[str, Callable[[Any], Any]],
        numbers: Mapping[str, float],
        elementwise: bool,
    ):
        self.begin, self.buffers, self.numbers, self.elementwise = begin, dict(buffers), dict(numbers), elementwise
        self.tiles = elementwise and bool(buffers)  # without buffers there is one pass, and tiles gain nothing

    def start(self, params: list, spec: Any) -> dict:
        state: dict[str, Any] = dict(self.numbers)
        if self.buffers:
            state["t"] = [0] * len(params)
        return state | {name: [p if p is None else make(p) for p in params] for name, make in self.buffers.items()}

    def step(self, grads: list, state: Any, params: list, spec: Any, apply: bool = False) -> tuple[list, Any]:
        apply = apply and self.elementwise
        return _run((self,), grads, (state,), params, self.tiles or apply, apply), state


def zeros_like(p: Any) -> Any:
    """A state buffer: zeros of the parameter's shape, dtype and library, and an array even for a number."""
    return backend.xp(p).zeros_like(p)


def wide_zeros_like(p: Any) -> Any:
    """A buffer for sums: as ``zeros_like``, of a 16-bit parameter in float32."""
    library = backend.xp(p)
    return library.zeros_like(p, dtype=library.float32) if "16" in str(p.dtype) else library.zeros_like(p)


def leafwise(
    kernel: Callable | None = None,
    buffers: Mapping[str, Callable[[Any], Any]] | Sequence[str] = (),
    *,
    numbers: Mapping[str, float] | None = None,
    begin: Callable[[dict], Callable] | None = None,
    elementwise: bool = True,
) -> GradientTransform:
    """A transform that treats every leaf by itself.

    Args:
        kernel: ``kernel(g, p) -> update`` for one leaf, or, with buffers, ``kernel(g, p, t, *buffers) -> update``. ``t``
            counts the updates of this leaf, 1 at the first. It changes buffers in place (``m *= beta``), and nothing else.
        buffers: names of the state arrays kept for every leaf, zeros at first; or name -> function of the parameter.
        numbers: numbers in the state, at the start.
        begin: instead of ``kernel``: ``begin(state) -> kernel``, called once per update; it may read and set the numbers.
        elementwise: whether an element of the update depends on that element of the inputs only. A large array is then
            worked on in tiles: the kernel sees parts of it.
    """
    if begin is None:
        if kernel is None:
            raise TypeError("leafwise: give either kernel or begin")
        fixed: Callable = kernel
        begin = lambda _state: fixed
    elif kernel is not None:
        raise TypeError("leafwise: give either kernel or begin, not both")
    made = buffers if isinstance(buffers, Mapping) else dict.fromkeys(buffers, zeros_like)
    return Leafwise(begin, made, numbers or {}, elementwise).transform()


def _run(
    links: Sequence[Leafwise], grads: list, states: Sequence[dict], params: list, tiles: bool, apply: bool
) -> list:
    """Run neighbouring kernels over every leaf: large leaves tile by tile (if ``tiles``), all the others link by link."""
    kernels = [link.begin(state) for link, state in zip(links, states, strict=True)]
    parts = [
        i for i, g in enumerate(grads) if (type(g) is np.ndarray and tiles and g.size > TILE) or type(g) is RowSparse
    ]
    updates = grads
    if parts:
        updates = [None if i in parts else g for i, g in enumerate(grads)]
    for link, kernel, state in zip(links, kernels, states, strict=True):
        if not link.buffers:
            updates = [g if g is None else kernel(g, p) for g, p in zip(updates, params, strict=True)]
            continue
        counts, lists = state["t"], [state[name] for name in link.buffers]
        given, updates = updates, []
        for i, (g, p, *arrays) in enumerate(zip(given, params, *lists, strict=True)):
            if g is not None:
                counts[i] += 1
                g = kernel(g, p, counts[i], *arrays)
            updates.append(g)
    for i in parts:
        work: list[tuple[Callable, tuple, list]] = []
        for link, kernel, state in zip(links, kernels, states, strict=True):
            if link.buffers:
                state["t"][i] += 1
            work.append((kernel, (state["t"][i],) if link.buffers else (), [state[name][i] for name in link.buffers]))
        if type(grads[i]) is RowSparse:
            updates[i] = _on_rows(work, grads[i], params[i], links)
            continue
        updates[i] = _tiled(
            work, grads[i], params[i], apply and type(params[i]) is np.ndarray and params[i].flags.writeable
        )
    return updates


def _tiled(work: list[tuple[Callable, tuple, list]], g: np.ndarray, p: np.ndarray, apply: bool) -> Any:
    """Run kernels a few rows of a leaf at a time. Tiles are rows because a gradient may have any strides."""
    out = None
    tile = TILE if any(arrays for _, _, arrays in work) else 4 * TILE  # fewer arrays, longer tiles
    rows = max(1, tile // (g.size // len(g)))
    for a in range(0, len(g), rows):
        part = slice(a, a + rows)
        u, q = g[part], p[part]
        for kernel, t, arrays in work:
            u = kernel(u, q, *t, *[x[part] for x in arrays])
        if apply:
            np.add(q, u, out=q, casting="same_kind")
            continue
        if out is None:
            out = np.empty(g.shape, u.dtype)
        out[part] = u
    return APPLIED if apply else out


def _on_rows(work: list[tuple[Callable, tuple, list]], g: RowSparse, p: Any, links: Sequence[Leafwise]) -> RowSparse:
    """Run kernels on the rows that a sparse gradient has; other rows of the buffers stay as they are."""
    if not links[0].elementwise:
        raise TypeError(
            "this link looks at a whole leaf at once and cannot take a RowSparse gradient; make the embedding with "
            "sparse=False, or put the weight into a group of its own with partition()"
        )
    u, q = g.rows, take_rows(p, g.indices)
    for kernel, t, arrays in work:
        rows = [take_rows(x, g.indices) for x in arrays]
        u = kernel(u, q, *t, *rows)
        for x, changed in zip(arrays, rows, strict=True):
            put_rows(x, g.indices, changed)
    return RowSparse._made(g.indices, u, g.shape)


APPLIED: Any = object()
"""Stands for an update that was added to its parameter already."""


class _Chain(Link):
    def __init__(self, links: Sequence[Link]):
        self.links = tuple(links)
        # Leafwise neighbours run together (a slice; and whether in tiles), any other link by itself (its place).
        self.runs: list[tuple[slice | int, bool]] = []
        kinds = [link.elementwise if isinstance(link, Leafwise) else None for link in self.links]
        for kind, run in groupby(range(len(kinds)), kinds.__getitem__):
            places = list(run)
            if kind is None:
                self.runs += [(i, False) for i in places]
            else:
                part = slice(places[0], places[-1] + 1)
                self.runs.append((part, any(link.tiles for link in self.links[part])))  # type: ignore[attr-defined]
        skipping = [i for i, link in enumerate(self.links) if link.may_skip]
        self.undoable = [i for i in range(max(skipping, default=0)) if self.links[i].undone]
        self.may_skip, self.undone = bool(skipping), all(link.undone for link in self.links)

    def start(self, params: list, spec: Any) -> tuple:
        return tuple(link.start(params, spec) for link in self.links)

    def step(self, grads: list, state: Any, params: list, spec: Any, apply: bool = False) -> tuple[list, Any]:
        states = list(state)
        if len(states) != len(self.links):
            raise ValueError(
                f"update: the chain has {len(self.links)} links, the state {len(states)}; use the state made by this chain's init"
            )
        before = {i: _copied(states[i]) for i in self.undoable}
        for n, (place, tiles) in enumerate(self.runs, 1):
            if _nothing(grads):
                break
            last = apply and n == len(self.runs)
            if type(place) is slice:
                links: Any = self.links[place]
                last = last and links[0].elementwise
                grads = _run(links, grads, states[place], params, tiles or last, last)
            else:
                grads, states[place] = self.links[place].step(grads, states[place], params, spec, last)
                if self.links[place].may_skip and _nothing(grads):
                    states = [before[i] if i in before and i < place else state for i, state in enumerate(states)]
        return grads, tuple(states)

    def evaluation(self, state: Any, params: list) -> list:
        for link, own in zip(self.links, state, strict=True):
            params = link.evaluation(own, params)
        return params


def _nothing(updates: list) -> bool:
    return all(u is None for u in updates)


def _copied(state: Any) -> Any:
    """A state tree with arrays of its own."""
    return optree.tree_map(lambda x: backend.xp(x).asarray(x, copy=True) if backend.is_array(x) else x, state)


def chain(*transforms: GradientTransform) -> GradientTransform:
    """The transforms one after another; the state is the tuple of their states.

    Where one returns None for every leaf, the step ends: those after it are not called, and their states stay as they are.
    A chain in a chain is the chain of all their links: ``chain(chain(a, b), c)`` is ``chain(a, b, c)``.
    """
    links: list[Link] = []
    for t in transforms:
        link = link_of(t)
        links += link.links if isinstance(link, _Chain) else (link,)
    return _Chain(links).transform()


def identity() -> GradientTransform:
    """The transform that changes nothing: the empty chain."""
    return chain()


def stateless(fn: Callable[[Any, Any], Any]) -> GradientTransform:
    """A transform without state: ``fn(grads, params) -> updates``, on whole trees."""
    return GradientTransform(lambda params: (), lambda grads, state, params: (fn(grads, params), state))


def apply_updates(params: Any, updates: Any) -> Any:
    """``params + updates`` leaf by leaf, as a new tree in the dtypes of ``params``; an update None leaves the leaf as it is."""

    def add(p: Any, u: Any) -> Any:
        if u is None:
            return p
        total = u + p if type(u) is RowSparse else p + u
        return total if total.dtype == p.dtype else backend.xp(total).astype(total, p.dtype)

    return optree.tree_map(add, params, updates, none_is_leaf=True)
