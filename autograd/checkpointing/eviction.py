"""``rematerialize``: any graph within a budget of bytes, by greedy eviction.

The values that rules read are held as long as the budget allows. When it does not, the one is dropped that is cheap to make
again, large, and has not been used for long: the least (its cost + that of its dropped neighbourhood) / (bytes · staleness).
When a rule asks for a dropped value its row is called again, after those of its inputs that are dropped too. This is Dynamic
Tensor Rematerialization with the heuristic h_DTR^eq (Kirisame et al. 2021, arXiv 2006.09616): the neighbourhood is kept in a
union-find structure, in which a value that comes back takes its own cost away but does not split its set. Costs are those
of the op table.

Nothing here knows when a graph is used for the last time. But a backward pass goes from new nodes to old ones, so what is
newer than the node that it has reached is dropped before anything else.
"""

import weakref
from collections import Counter
from typing import Any, Self

from ..context import AutogradContext, current
from ..tape import Node, next_serial, remaking
from .regions import Keeping, row_cost, specs
from .replay import MISSING, Held, Keeper, Key, Recipe, Ref, again, bytes_of, key_of, nbytes, part, recipe_of


class _Set:
    """A set of a union-find structure: neighbours that are not held, and what they would cost together."""

    __slots__ = ("cost", "joined")

    def __init__(self, cost: float):
        self.cost = cost
        self.joined: _Set | None = None

    def top(self) -> "_Set":
        top = self
        while top.joined is not None:
            top = top.joined
        here = self
        while here.joined is not None:
            here.joined, here = top, here.joined
        return top


class _Item:
    """What is known of a node: its cost, its neighbours, which of its values are read and held, and its set if none is."""

    __slots__ = ("bytes", "cost", "held", "neighbours", "node", "read", "used", "where")

    def __init__(self) -> None:
        self.node: weakref.ref | None = None
        self.cost = self.bytes = self.used = 0.0
        self.neighbours: list[int] = []
        self.read = False
        self.held: set[int] = set()
        self.where: _Set | None = None


class Store(Keeper):
    """The values of a block, as many as the budget allows.

    Attributes:
        held: the values, and their bytes now and at most.
        evictions: how often the values of an operation were dropped.
        calls: how many operations were called again.
    """

    def __init__(self, budget: int):
        super().__init__()
        self.budget, self.held = budget, Held()
        self.evictions = self.calls = 0
        self._items: dict[int, _Item] = {}
        self._there: dict[int, _Item] = {}  # those that have values
        self._pinned: Counter[int] = Counter()
        self._clock = 0
        self._passed: tuple[float, float] = (float("inf"), 0)  # a backward pass came from the second node to the first

    # ---- recording ----

    def reach(self, node: Node) -> "Store | None":
        return self if recipe_of(node).keeper is self and node.serial in self._items else None

    def want(self, key: Key, value: Any) -> None:
        made = self._made.get(id(value))
        if made is not None and not isinstance(made.node, weakref.ref):  # from now on its reader holds the node
            node = made.node()
            if node is not None:
                self._made[id(value)] = made._replace(node=weakref.ref(node))
        self._items.setdefault(key[0], _Item()).read = True
        if self.value(key) is MISSING:
            self._hold(key, value)

    def note(self, node: Node, recipe: Recipe, _value: Any) -> None:
        serial, me = node.serial, weakref.ref(self)

        def forget(_ref: Any) -> None:
            store = me()
            if store is not None:
                store._forget(serial)

        item = self._items.setdefault(serial, _Item())
        item.node, item.cost = weakref.ref(node, forget), row_cost(node)
        item.neighbours = list({x.key[0] for x in recipe.inputs if type(x) is Ref})
        for parent in item.neighbours:
            self._items[parent].neighbours.append(serial)
            self._use(self._items[parent])
        self._use(item)
        if not item.held:
            self._leave(item)

    def _use(self, item: _Item) -> None:
        self._clock += 1
        item.used = self._clock

    def _forget(self, serial: int) -> None:
        item = self._items.pop(serial)
        self._there.pop(serial, None)
        for index in item.held:
            self.held.drop((serial, index))
        for other in item.neighbours:
            if other in self._items:
                self._items[other].neighbours.remove(serial)

    # ---- holding and dropping ----

    def _hold(self, key: Key, value: Any) -> None:
        item = self._items[key[0]]
        self._pinned[key[0]] += 1
        self._fit(self.held.extra(value))
        self._pinned[key[0]] -= 1
        self.held.put(key, value)
        item.held.add(key[1])
        item.bytes = bytes_of(self.held.get((key[0], i)) for i in item.held)
        self._there[key[0]] = item
        self._use(item)
        if item.where is not None:
            item.where.top().cost -= item.cost
            item.where = None

    def _drop(self, serial: int) -> None:
        item = self._there.pop(serial)
        for index in item.held:
            self.held.drop((serial, index))
        item.held.clear()
        self._leave(item)

    def _leave(self, item: _Item) -> None:
        """Nothing of a node is held: it joins the sets of its neighbours."""
        item.where = _Set(item.cost)
        for other in self._around(item):
            other.joined = mine = item.where.top()
            mine.cost += other.cost

    def _around(self, item: _Item) -> "list[_Set]":
        """The sets of a node's neighbours, each once, without its own."""
        sets = (self._items[s].where for s in item.neighbours if s in self._items)
        found = {id(top): top for top in (s.top() for s in sets if s is not None)}
        if item.where is not None:
            found.pop(id(item.where.top()), None)
        return list(found.values())

    def _fit(self, more: int) -> None:
        """Drop values until there is room for so many bytes more, or nothing is left that may be dropped."""
        while self.held.bytes + more > self.budget:
            free = [s for s in self._there if not self._pinned[s]]
            if not free:
                return
            low, high = self._passed
            serial = max((s for s in free if low < s < high), default=None)
            if serial is None:
                serial = min(free, key=self._score)
            self._drop(serial)
            self.evictions += 1

    def _score(self, serial: int) -> float:
        item = self._there[serial]
        cost = item.cost + sum(s.cost for s in self._around(item))
        return cost / (max(item.bytes, 1) * (self._clock + 1 - item.used))

    # ---- making again ----

    def value(self, key: Key) -> Any:
        found = self.held.get(key)
        if found is MISSING and key[1] >= 0 and (whole := self.held.get((key[0], -1))) is not MISSING:
            return part(whole, key[1])
        return found

    def saved(self, node: Node, recipe: Recipe) -> tuple:
        remaking(self)
        start = next_serial() if self._passed[1] == 0 else self._passed[1]
        self._passed = (node.serial, start)
        places = [(s.node if type(s) is Ref else node, key_of(s)) for s in recipe.slots if type(s) in (Ref, tuple)]
        self._pinned.update(key[0] for _, key in places)
        try:
            missing = [n for n, key in places if self.value(key) is MISSING]
            if missing:
                self._remake(missing)
            return tuple(self.value(key_of(s)) if type(s) in (Ref, tuple) else s for s in recipe.slots)
        finally:
            for _, key in places:
                self._unpin(key[0])

    def _remake(self, goals: list[Node]) -> None:
        """Call the rows of some nodes again, and before them those of their inputs that are not held."""
        needed: dict[int, Node] = {}
        while goals:
            node = goals.pop()
            if node.serial in needed:
                continue
            needed[node.serial] = node
            for x in recipe_of(node).inputs:
                if type(x) is Ref:
                    self._pinned[x.key[0]] += 1
                    if self.value(x.key) is MISSING:
                        goals.append(x.node)
        for serial, node in sorted(needed.items()):
            inputs = [self.value(x.key) if type(x) is Ref else x for x in recipe_of(node).inputs]
            self._fit(sum(map(nbytes, specs(node))))
            out = again(node, inputs)
            self.calls += 1
            self._hold((serial, -1), out)
            del inputs, out
            for x in recipe_of(node).inputs:
                if type(x) is Ref:
                    self._unpin(x.key[0])

    def _unpin(self, serial: int) -> None:
        self._pinned[serial] -= 1
        if not self._pinned[serial]:
            del self._pinned[serial]
            if serial in self._there and not self._items[serial].read:  # it was only there to make others
                self._drop(serial)

    def rest(self) -> None:
        """A backward pass is over.

        Values without a node of their own, such as running statistics, are from now on arrays like those from outside:
        otherwise the statistics of a step would hold the graphs of all steps before.
        """
        self._passed = (float("inf"), 0)
        for place in [i for i, made in self._made.items() if not isinstance(made.node, weakref.ref)]:
            del self._made[place]


class rematerialize(Keeping):
    """A block in which the values kept for the backward pass take at most ``budget`` bytes; what does not fit is computed again
    when it is read (Dynamic Tensor Rematerialization, Kirisame et al. 2021, arXiv 2006.09616).

    For graphs of any form, with nothing to annotate: for a chain of layers ``checkpoint_sequential`` plans ahead, and does better.
    Gradients of every order are equal to the plain ones to the last bit; see ``checkpoint`` for dropout, running
    statistics and what is kept in any case. The backward pass may run inside or outside of the block.

    Args:
        budget: bytes of values that rules read. Parameters and what else comes from outside the block are not counted,
            nor what an operation allocates in passing. It is exceeded where more than that has to be in memory together:
            the inputs of one operation, or results that are dropped and that making a single value again takes.

    Attributes:
        store: ``store.held.bytes`` are in memory now, ``store.held.peak`` were at most, ``store.calls`` operations ran again.

    Inside of a checkpoint it has no effect, nor has a checkpoint inside of it.

    Raises:
        ValueError: the budget is no integer of at least 1.
    """

    def __init__(self, budget: int):
        if not isinstance(budget, int) or isinstance(budget, bool) or budget < 1:
            raise ValueError(f"rematerialize: budget must be an integer of at least 1, not {budget!r}")
        self.store = Store(budget)
        super().__init__(self.store)

    def _recreate_cm(self) -> Self:
        return type(self)(self.store.budget)

    def __enter__(self) -> Self:
        outer = current()
        AutogradContext.__enter__(self)
        if outer is None or outer.keeper is None:
            self.keeper = self.store
        return self

    def __exit__(self, *exc: object) -> None:
        super().__exit__(*exc)
        self.store._made.clear()
