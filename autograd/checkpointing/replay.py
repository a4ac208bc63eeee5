"""Nodes that do not keep what their rules read, and how it is made again.

Inside a block with a *keeper* (``AutogradContext.keeper``) ``autograd.dispatch`` shows every call of a row to it. The keeper
turns the node into a ``Remade``: in the place of arrays it has a ``Recipe``, which says where the row's inputs come from:
another node of the keeper, or an array from outside. Reading ``node.saved``, as a backward pass does, asks the keeper,
which calls the rows again as far as it must. The functions of the user are not called again, only rows are. So nothing
that a function does beside computing happens twice: random numbers are not drawn anew, running statistics move once,
parameters read from the surroundings are inputs like any other. And as the nodes, their order and their rules are those
of a plain recording, gradients of every order are equal to the plain ones to the last bit.

What has no node but was computed from nodes (a mask from a comparison, a detached value) is remembered by the identity of
its array, and is made again as well.
"""

import math
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from .. import backend, batching
from ..backend import HOST_SCALARS
from ..batch import Batch, physical
from ..context import current
from ..shapes import numpy_dtype
from ..tape import _NOT_ARRAYS, PICK, Node, arrays_among

Key = tuple[int, int]
"""Of a value: the serial of the node that computes it, and which of its outputs it is (-1: all it returned)."""


class Ref:
    """The place of a value that a node computes."""

    __slots__ = ("index", "key", "node")

    def __init__(self, node: Node, index: int = -1):
        self.node, self.index, self.key = node, index, (node.serial, index)


class Recipe:
    """How a node's value is made, and what its rules read.

    Attributes:
        keeper: who has the values.
        group: the part of the keeper's block that the node belongs to.
        inputs: for each input of the row a ``Ref``, or the array or number itself.
        slots: what ``node.saved`` is made of: a ``Ref``, a key (of the node's own value), or what it holds anyway.
    """

    __slots__ = ("group", "inputs", "keeper", "slots")

    def __init__(self, keeper: "Keeper", group: int, inputs: tuple, slots: tuple):
        self.keeper, self.group, self.inputs, self.slots = keeper, group, inputs, slots


class Remade(Node):
    """A node that has a recipe in the place of the arrays that its rules read."""

    __slots__ = ()

    @property
    def saved(self) -> tuple:  # type: ignore[override]
        recipe = recipe_of(self)
        return recipe.keeper.saved(self, recipe)

    @property
    def held(self) -> tuple:
        recipe = recipe_of(self)
        values = [recipe.keeper.value(key_of(s)) if type(s) in _PLACES else s for s in recipe.slots]
        return tuple(v for v in values if v is not MISSING)


_NOT_ARRAYS.add(Remade)

recipe_of: Callable[[Node], Recipe] = Node.saved.__get__  # type: ignore[attr-defined, misc]
"""The recipe of a ``Remade``: it lies where other nodes have their arrays."""

MISSING: Any = object()
_PLACES = (Ref, tuple)


def key_of(slot: Any) -> Key:
    return slot.key if type(slot) is Ref else slot


class Drawn:
    """In the place of a row: random numbers that can be drawn again, from a copy of their generator."""

    name, variadic = "random numbers", False

    def __init__(self, draw: Callable[[], Any]):
        self.draw = draw

    def cost(self, output: Any, **_params: Any) -> tuple[float, int]:
        """Ten operations for each number; the bytes written."""
        return 10.0 * math.prod(output.shape), nbytes(output)


class _Made(NamedTuple):
    array: weakref.ref
    node: Callable[[], Node | None]
    output: int


class Keeper:
    """What all keepers share: recipes of the calls that they are shown."""

    def __init__(self) -> None:
        self._made: dict[int, _Made] = {}  # the arrays computed in the block, by identity

    # ---- what subclasses define ----

    def reach(self, node: Node) -> "Keeper | None":
        """Which keeper has, or can make again, the value of a node (this one or one around it); None if none has."""
        raise NotImplementedError

    def want(self, key: Key, value: Any) -> None:
        """A rule reads this value."""
        raise NotImplementedError

    def lend(self, key: Key) -> None:
        """A keeper inside of this one takes this value as an input."""
        raise NotImplementedError

    def note(self, node: Node, recipe: Recipe, value: Any) -> None:
        """A call was recorded: ``value`` is what it returned."""
        raise NotImplementedError

    def value(self, key: Key) -> Any:
        """A value that is held, or ``MISSING``."""
        raise NotImplementedError

    def saved(self, node: Node, recipe: Recipe) -> tuple:
        """What the rules of a node read."""
        raise NotImplementedError

    @property
    def group(self) -> int:
        return 0

    # ---- called by autograd.dispatch ----

    def recorded(
        self, row: Any, node: Node | None, raw: list, parents: list, foreign: int, params: dict, out: Any
    ) -> None:
        """A row was called. ``node`` is None if that was not recorded; ``foreign`` has the bits of the user's own arrays."""
        inputs: list[Any] = []
        owners: list[Keeper | None] = []
        found = False
        for i, (a, parent) in enumerate(zip(raw, parents, strict=True)):
            ref, owner = self._place(a, parent)
            if ref is None and foreign >> i & 1:
                kept = node.saved[i + 1] if node is not None else None
                if type(kept) is not type(a):
                    if type(a) is np.ndarray and not (a.flags.c_contiguous or a.flags.f_contiguous):
                        return  # a copy would have another layout, and the row perhaps other bits
                    kept = backend.xp(a).asarray(a, copy=True)
                a = kept
            found = found or ref is not None
            if ref is not None and owner is not None and owner is not self:
                owner.lend(ref.key)
            inputs.append(a if ref is None else ref)
            owners.append(owner)
        if (node is None and not found) or not all(map(_is_constant, out if isinstance(out, tuple) else (out,))):
            return
        if node is None:
            several = isinstance(out, tuple)
            shape, dtype = (
                (tuple(o.shape for o in out), tuple(o.dtype for o in out)) if several else (out.shape, out.dtype)
            )
            unrecorded = Node(row, (), (), params, shape, dtype)
            unrecorded.saved = Recipe(self, self.group, tuple(inputs), ())  # type: ignore[assignment]
            self.note(unrecorded, unrecorded.saved, out)  # type: ignore[arg-type]
            self._remember(unrecorded, out, lambda: unrecorded)
            return
        own = (node.serial, -1)
        template: list[Any] = [None if node.saved[0] is None else own]
        for s, x, a, owner in zip(node.saved[1:], inputs, raw, owners, strict=True):
            read = type(x) is Ref and s is a
            template.append(x if read else s)
            if read:
                assert owner is not None
                owner.want(x.key, a)
        if template[0] is not None:
            self.want(own, out)
        recipe = Recipe(self, self.group, tuple(inputs), tuple(template))
        node.saved = recipe  # type: ignore[assignment]
        node.__class__ = Remade
        self.note(node, recipe, out)
        self._remember(node, out, weakref.ref(node))

    def drawn(self, array: Any, draw: Callable[[], Any]) -> None:
        """``array`` holds random numbers (or what was made of them) that ``draw()`` makes again."""
        node = Node(Drawn(draw), (), (), {}, array.shape, array.dtype)
        node.saved = Recipe(self, self.group, (), ())  # type: ignore[assignment]
        self.note(node, node.saved, array)  # type: ignore[arg-type]
        self._remember(node, array, lambda: node)

    def _place(self, a: Any, parent: Node | None) -> tuple[Ref | None, "Keeper | None"]:
        if parent is not None:
            node, index = (parent.parents[0], parent.params["index"]) if parent.row is PICK else (parent, -1)
        else:
            made = self._made.get(id(a))
            node = made.node() if made is not None and made.array() is a else None
            index = made.output if made is not None else -1
        owner = None if node is None or not isinstance(_slot(node), Recipe) else self.reach(node)
        return (None, None) if owner is None else (Ref(node, index), owner)

    def _remember(self, node: Node, out: Any, pointer: Callable[[], Node | None]) -> None:
        for i, o in enumerate(out) if isinstance(out, tuple) else ((-1, out),):
            if type(o) not in HOST_SCALARS:
                place = id(o)
                forget = lambda _ref, place=place, made=self._made: made.pop(place, None)
                self._made[place] = _Made(weakref.ref(o, forget), pointer, i)


_slot: Callable[[Node], Any] = Node.saved.__get__  # type: ignore[attr-defined, misc]


def _is_constant(value: Any) -> bool:
    """Whether a value is an array; not one of vmap's that something outside tracks, or that has no value."""
    while type(value) is Batch:
        if value.value.node is not None:
            return False
        value = value.value.raw
    return value is not None


def again(node: Node, inputs: list) -> Any:
    """Call a node's row again. Observers see it."""
    row, params = node.row, node.params
    if type(row) is Drawn:
        return row.draw()
    cls: type = np.ndarray
    for a in inputs:
        if type(a) not in HOST_SCALARS and cls is not Batch:
            cls = type(a)
    if cls is Batch:
        return batching.run(row, inputs, params)
    kernel = row.kernels[cls]
    out = kernel(inputs, **params) if row.variadic else kernel(*inputs, **params)
    context = current()
    if context is not None:
        context.saw(row, tuple(inputs), params, out if isinstance(out, tuple) else (out,), ())
    return out


def part(value: Any, index: int) -> Any:
    return value if index < 0 else value[index]


def root(array: Any) -> Any:
    """The array whose memory an array looks into."""
    array = physical(array)
    while type(array) is np.ndarray and type(array.base) is np.ndarray:
        array = array.base
    return array


def nbytes(array: Any) -> int:
    return math.prod(array.shape) * numpy_dtype(array.dtype).itemsize


def bytes_of(values: Iterable[Any]) -> int:
    """Bytes of the memory of some values, each piece counted once."""
    return sum({id(r): nbytes(r) for r in map(root, arrays_among(values))}.values())


class Held:
    """Values by key, and the bytes of their memory, now and at most. Memory that several of them look into counts once."""

    def __init__(self) -> None:
        self._values: dict[Key, Any] = {}
        self._roots: dict[int, list] = {}  # identity of a piece of memory -> how many values look into it, its bytes
        self.bytes = self.peak = 0

    def __contains__(self, key: Key) -> bool:
        return key in self._values

    def __iter__(self) -> Iterator[Key]:
        return iter(self._values)

    def get(self, key: Key) -> Any:
        return self._values.get(key, MISSING)

    def put(self, key: Key, value: Any) -> None:
        if self._values.get(key, MISSING) is value:
            return
        self.drop(key)
        self._values[key] = value
        for array in arrays_among((value,)):
            memory = root(array)
            place = self._roots.setdefault(id(memory), [0, nbytes(memory)])
            place[0] += 1
            if place[0] == 1:
                self.bytes += place[1]
        self.peak = max(self.peak, self.bytes)

    def extra(self, value: Any) -> int:
        """Bytes that would come on top with a value: those of memory that none of the values looks into yet."""
        roots = {id(r): nbytes(r) for r in map(root, arrays_among((value,)))}
        return sum(size for place, size in roots.items() if place not in self._roots)

    def drop(self, key: Key) -> None:
        value = self._values.pop(key, MISSING)
        if value is not MISSING:
            for array in arrays_among((value,)):
                place = self._roots[id(root(array))]
                place[0] -= 1
                if not place[0]:
                    del self._roots[id(root(array))]
                    self.bytes -= place[1]

    def sort(self) -> None:
        """Put the values in the order of their nodes."""
        self._values = dict(sorted(self._values.items()))

    def drop_from(self, serial: int) -> None:
        """Drop the newest values, as far as they are of this node or later ones."""
        while self._values and (key := next(reversed(self._values)))[0] >= serial:
            self.drop(key)
