"""Lazy gradients: ``loss.backward(lazy=True)`` computes nothing; each leaf's gradient is computed when ``.grad`` is read.

A ``LazyPass`` is a backward pass that runs in parts. Reading a leaf's gradient walks the nodes that lead to it. Every
consumer of such a node leads to the leaf too, so a cotangent is either complete or not begun, and it is summed in the
order of the eager pass: the bits are the same. A cotangent that unread leaves still need is kept, so that no derivative
rule runs twice, in whatever order the gradients are read. (A rule's first reading of a checkpoint's inside computes that
again, for each reading of a ``.grad``; ``gradients()``, and so every optimizer, reads them all in one walk.)

Until it is read, a leaf is a ``LazyLeaf``: the same object under another class, whose ``grad`` is a property. Ordinary
leaves do not know of it. What is pending is computed before the leaf's own value changes; where the value of another leaf of
the graph has changed, reading is an error, as a late ``backward()`` is.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from . import backend
from .batch import Batch
from .sparse import RowSparse
from .tape import _NOT_ARRAYS, BackwardPass, Leaf, Node, _by_serial, next_serial


class LazyLeaf(Leaf):
    """A leaf whose gradient is yet to be computed, wholly or in part. Reading or setting ``grad`` makes it a ``Leaf`` again."""

    __slots__ = ()

    @property
    def grad(self) -> Any:  # type: ignore[override]
        before, passes = pending = _pending(self)
        for p in passes:  # all, before anything is taken: where one fails, all stays as it was
            p.compute((self,))
        if self.__class__ is LazyLeaf and _pending(self) is pending:
            found = before
            for p in passes:
                found = added(found, p.take(self))
            _settle(self, found)
        return self.grad

    @grad.setter
    def grad(self, value: Any) -> None:
        for p in _pending(self).passes:
            p.take(self)
        _settle(self, value)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """For copies: they have the gradient, not what is pending."""
        _ = self.grad
        return self.__reduce_ex__(protocol)  # of a Leaf now


_NOT_ARRAYS.add(LazyLeaf)


class LazyPass(BackwardPass):
    """A backward pass whose gradients are computed one by one. ``defer()`` leaves it with the leaves.

    Args:
        output: the tensor to differentiate.
        seed: its cotangent, of its shape; None stands for one, for a tensor of no axes.

    Raises:
        ValueError: as ``BackwardPass``. TypeError: the output is symbolic, or batched by ``vmap``.
    """

    def __init__(self, output: Any, seed: Any = None):
        if output.raw is None:
            raise TypeError(
                "backward(lazy=True): the output is symbolic, nothing is computed before its graph runs anyway; write backward()"
            )
        if type(output.raw) is Batch:
            raise TypeError(
                "backward(lazy=True) cannot outlive vmap; inside of it write backward(), or use vmap(grad(f))"
            )
        super().__init__((output,))
        self.cotangents: dict[Node, Any] = {}  # of the nodes reached that unread leaves still need
        self._root, self._seed_of_root = output.node, self._seed(output, seed)
        self._unread = {node for node in self.order if isinstance(node, Leaf)}
        self._ready: dict[Node, Any] = {}  # gradients computed, and not taken yet
        self._consumers: dict[Node, list[Node]] = {node: [] for node in self.order}
        self._waiting: dict[Node, int] = {}  # of each node, how many of its inputs are not reached yet
        for node in self.order:
            inputs = node.parents
            if len(inputs) > 1 or None in inputs:
                inputs = tuple({p for p in inputs if p is not None})
            self._waiting[node] = len(inputs)
            for p in inputs:
                self._consumers[p].append(node)
        self._all_leaves = tuple(self._unread)
        self._checked = next_serial()
        self._running = False

    def defer(self) -> None:
        """Have the leaves compute their gradients by this pass when they are read."""
        for node in self._all_leaves:
            if type(node) is LazyLeaf:
                _pending(node).passes.append(self)
            else:
                before = node.grad
                node.__class__ = LazyLeaf
                _put(node, Pending(before, [self]))

    def compute(self, leaves: Sequence[Leaf]) -> None:
        """Compute the gradients of some leaves, in one walk.

        Raises:
            ValueError: a leaf of the graph was changed in place. RuntimeError: called by a hook of this very pass.
        """
        leaves = [node for node in leaves if node in self._unread and node not in self._ready]
        if not leaves:
            return
        if self._running:
            raise RuntimeError(
                "a hook read a .grad that the backward pass it runs in has yet to compute; read it before, or after the pass"
            )
        self._check()
        fresh: set[Node] = set(leaves)  # not reached before
        met: set[Node] = set()  # reached before, and they lead to those
        queue: list[Node] = list(leaves)
        for node in queue:  # the list grows while it is walked
            for consumer in self._consumers[node]:
                if consumer in self.cotangents:
                    met.add(consumer)
                elif consumer not in fresh:
                    fresh.add(consumer)
                    queue.append(consumer)
        consumers = self._consumers  # of what is still open
        kept = [node for node in queue if any(p in consumers and p not in fresh for p in node.parents)]
        grads = {node: self.cotangents[node] for node in met}
        if self._root in fresh:
            grads[self._root] = self._seed_of_root
        self.order = sorted((*queue, *met), key=_by_serial, reverse=True)
        self.needed, self.resumed, self.wanted = fresh, met, frozenset((*leaves, *kept))
        self._running = True
        try:
            found = self._run_from(grads)
        finally:
            self._running = False
        for node in kept:
            self.cotangents[node] = found.get(node)
        for node in leaves:
            self._ready[node] = found.get(node)
        self._reached(queue)

    def take(self, leaf: Leaf) -> Any:
        """The gradient of a leaf (None where none arrives, or it was not computed), which this pass then forgets."""
        self._unread.discard(leaf)
        if leaf not in self._ready:
            self._reached((leaf,))
        found = self._ready.pop(leaf, None)
        if not self._unread:
            self._release()
        return found

    def _reached(self, nodes: Iterable[Node]) -> None:
        """Some nodes, and those that lead to nothing else, need nothing more of their consumers."""
        queue = list(nodes)
        for node in queue:
            for consumer in self._consumers.pop(node, ()):
                self._waiting[consumer] -= 1
                if not self._waiting[consumer] and self.cotangents.pop(consumer, self) is self:
                    queue.append(consumer)

    def _check(self) -> None:
        now = next_serial()
        if now != self._checked + 1:  # a changed leaf gets a new node, so there is one if there is anything new to see
            for node in self._all_leaves:
                if node.stale:
                    raise ValueError(
                        f"grad: a leaf of shape {tuple(node.shape)} was changed in place after backward(lazy=True), and before "
                        "this gradient of the same graph was read; read every .grad that is needed (autograd.lazy.gradients "
                        "reads many at once) before the change, forget it by zero_grad(), or call backward() without lazy"
                    )
        self._checked = now

    def _release(self) -> None:
        self.outputs, self.order, self.wanted, self._all_leaves = (), [], frozenset(), ()
        self.needed, self.resumed, self._root, self._seed_of_root = set(), (), None, None
        for store in (self.cotangents, self._ready, self._consumers, self._waiting):
            store.clear()


class Pending(NamedTuple):
    """What lies in the place of a gradient: the gradient accumulated before, and the passes that add to it."""

    before: Any
    passes: list[LazyPass]


_pending: Callable[[Leaf], Pending] = Leaf.__dict__["grad"].__get__
_put: Callable[[Leaf, Any], None] = Leaf.__dict__["grad"].__set__


def _settle(leaf: Leaf, grad: Any) -> None:
    leaf.__class__ = Leaf
    leaf.grad = grad


def added(before: Any, g: Any) -> Any:
    """A gradient, read-only, accumulated to the one before; None stands for none."""
    if g is None:
        return before
    if before is not None:  # a RowSparse on the left: not every library's arrays leave + to it
        g = g + before if type(g) is RowSparse else before + g
    return backend.freeze(g)


def gradients(tensors: Iterable[Any]) -> list[Any]:
    """The ``.grad`` of tensors; those that are pending are computed together, in one walk of each backward pass."""
    tensors = list(tensors)
    passes: dict[LazyPass, list[Leaf]] = {}
    for t in tensors:
        if type(t.node) is LazyLeaf:
            for p in _pending(t.node).passes:
                passes.setdefault(p, []).append(t.node)
    for p, leaves in passes.items():
        p.compute(leaves)
    return [t.grad for t in tensors]
