"""The tape: what operations leave behind, and the backward pass over it.

A ``Node`` is one recorded operation (or one instruction of a graph, if its values are symbolic). It points at the nodes
of its inputs and at the raw arrays that the derivative rules read, never at a tensor: there are no reference cycles, and
memory falls when the last tensor of a graph does. A ``Leaf`` is where gradients end. Nodes are numbered as they are
made, so creation order is a topological order: nothing recurses, however long the chain.

``BackwardPass`` walks the nodes from newest to oldest. One loop serves first-order gradients (rules run on raw arrays)
and recorded or symbolic ones (the same rules run on tensors, and record themselves).
"""

import threading
from collections.abc import Callable, Container, Iterable, Sequence
from itertools import count
from operator import attrgetter
from typing import Any

import numpy as np

from . import backend
from .context import current, enable_grad
from .shapes import numpy_dtype
from .sparse import RowSparse

next_serial = count().__next__
_by_serial = attrgetter("serial")


class Node:
    """One recorded operation.

    Attributes:
        row: the op table's row; ``None`` in a leaf, ``PICK`` where one output of several is taken.
        parents: the nodes of the inputs, ``None`` for those that are not tracked.
        saved: the output and the inputs for the derivative rules: raw arrays where a rule reads them, else only a
            stand-in that has their shape and dtype (``None`` for the output).
        params: the operation's parameters.
        shape, dtype: of the output (tuples of them for a row with several outputs).
        serial: the node's number in creation order.
        hooks: functions called with the gradient when it is complete, or None.
        source: the line of the caller's source (in anomaly mode only).
    """

    __slots__ = ("__weakref__", "dtype", "hooks", "params", "parents", "row", "saved", "serial", "shape", "source")

    row: Any
    parents: tuple
    saved: tuple
    params: dict
    shape: Any
    dtype: Any
    serial: int
    hooks: list[Callable] | None
    source: str

    def __init__(self, row: Any, parents: tuple, saved: tuple, params: dict, shape: Any, dtype: Any):
        self.row, self.parents, self.saved, self.params = row, parents, saved, params
        self.shape, self.dtype, self.serial, self.hooks = shape, dtype, next_serial(), None

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def name(self) -> str:
        return "leaf" if self.row is None else "output" if self.row is PICK else self.row.name

    @property
    def held(self) -> tuple:
        """Those of the saved values that are in memory now; all, unless they are made again when they are read."""
        return self.saved

    @property
    def bytes_retained(self) -> int:
        """Bytes of the arrays kept for the derivative rules (an array kept by two nodes counts in both)."""
        return sum(map(_bytes, arrays_among(self.held)))

    def __repr__(self) -> str:
        return f"<{self.name} #{self.serial} {self.dtype}{self.shape}>"


class Leaf(Node):
    """Where a gradient ends: a variable or a parameter. ``grad`` is its accumulated gradient, a raw array or None.

    ``stale`` is set when the array was changed in place after use: graphs that read it can no longer be differentiated.
    """

    __slots__ = ("grad", "stale")

    def __init__(self, shape: tuple, dtype: Any):
        # written out: a leaf is made anew for every parameter at every optimizer step
        self.row, self.parents, self.saved, self.params = None, (), (), {}
        self.shape, self.dtype, self.serial, self.hooks = shape, dtype, next_serial(), None
        self.grad: Any = None
        self.stale = False


class Spec:
    """Shape and dtype of an array that is not kept."""

    __slots__ = ("dtype", "shape")

    def __init__(self, shape: tuple, dtype: Any):
        self.shape, self.dtype = shape, dtype

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __repr__(self) -> str:
        return f"Spec({self.shape}, {self.dtype})"


class _Pick:
    """The row of a node that stands for one output of an operation with several; ``params["index"]`` says which."""

    name = "output"


PICK = _Pick()


class _Remaking(threading.local):
    """The keepers (autograd.checkpointing) that have made values again for the backward pass that is under way."""

    def __init__(self) -> None:
        self.keepers: list | None = None  # None outside of a pass


_remaking = _Remaking()


def remaking(keeper: Any) -> None:
    """Have ``keeper.rest()`` called when the backward pass that is under way has ended."""
    if _remaking.keepers is not None and keeper not in _remaking.keepers:
        _remaking.keepers.append(keeper)


def arrays_among(values: Iterable) -> Iterable:
    """The arrays among saved values: not the stand-ins, nor Python numbers."""
    for value in values:
        if isinstance(value, tuple):
            yield from arrays_among(value)
        elif value is not None and type(value) not in _NOT_ARRAYS:
            yield value


def _bytes(array: Any) -> int:
    return int(array.size) * numpy_dtype(array.dtype).itemsize


def ancestors(roots: Iterable[Node]) -> list[Node]:
    """The nodes that ``roots`` depend on, and themselves, newest first."""
    order = list(dict.fromkeys(roots))
    seen = set(order)
    for node in order:  # the list grows while it is walked
        for parent in node.parents:
            if parent is not None and parent not in seen:
                seen.add(parent)
                order.append(parent)
    order.sort(key=_by_serial, reverse=True)
    return order


class BackwardPass:
    """One backward pass, prepared: inspect it (``order``, ``bytes_retained``, ``print(it)``), then ``run()`` it.

    Args:
        outputs: the tensors to differentiate.
        inputs: the tensors to differentiate with respect to, tracked ones; None for every leaf.
        record: whether the pass itself is recorded, so that its results can be differentiated again. Symbolic outputs
            always are.

    Raises:
        ValueError: no output is tracked, or a leaf was changed in place after it was used.
    """

    def __init__(self, outputs: Sequence[Any], inputs: Sequence[Any] | None = None, record: bool = False):
        self.outputs = tuple(outputs)
        roots = [t.node for t in self.outputs if t.node is not None]
        if not roots:
            raise ValueError(
                "backward: the output does not depend on anything tracked; make the inputs with requires_grad=True, "
                "and check that no detach(), no_grad() or integer stands between"
            )
        self.symbolic = any(t.raw is None for t in self.outputs)
        self.record = record or self.symbolic
        self.order = ancestors(roots)
        for node in self.order:  # also those that no wanted gradient passes: rules read their arrays
            if node.row is None and node.stale:
                raise ValueError(
                    f"backward: a leaf of shape {node.shape} was changed in place after this graph had used it; "
                    "compute the output again, or call backward() before the change"
                )
        self.wanted: frozenset | None = None
        self.needed: set = set()  # the nodes that lead to a wanted one, if not all are wanted
        self.resumed: Container = ()  # nodes whose cotangents are complete, and have been through their hooks
        if inputs is not None:
            self._restrict([t.node for t in inputs])

    def _restrict(self, wanted: list) -> None:
        """Leave out every node that does not lead to a wanted one."""
        self.wanted = frozenset(wanted)
        self.needed = needed = set(self.wanted)
        for node in reversed(self.order):
            if not needed.isdisjoint(node.parents):
                needed.add(node)
        self.order = [node for node in self.order if node in needed]

    @property
    def bytes_retained(self) -> int:
        """Bytes of all arrays kept for this pass, each counted once."""
        return sum({id(array): _bytes(array) for node in self.order for array in arrays_among(node.held)}.values())

    @property
    def leaves(self) -> list[Leaf]:
        return [node for node in self.order if isinstance(node, Leaf)]

    def __repr__(self) -> str:
        lines = [f"BackwardPass of {len(self.order)} nodes retaining {self.bytes_retained:,} bytes"]
        lines += [
            f"  {node.name:<20}{node.dtype!s:<12}{node.shape!s:<20}{node.bytes_retained:>14,} B"
            for node in self.order[:40]
        ]
        return "\n".join(lines + ([f"  … and {len(self.order) - 40} more"] if len(self.order) > 40 else []))

    def run(self, seeds: Sequence[Any] | None = None) -> dict[Node, Any]:
        """Run it. Returns the gradient of each wanted node that the outputs depend on (of each leaf, if none was named).

        Args:
            seeds: for each output its cotangent, of the output's shape. None stands for one, for scalar outputs.

        The gradients are raw arrays, or tensors if the pass is recorded; ``.grad`` of leaves is not touched. Raw arrays
        are the caller's own: no two of them share memory. They are dense (``backward()`` keeps sparse ones as they are).
        """
        found = self._run(seeds)
        return found if self.record else _apart(found)

    def _run(self, seeds: Sequence[Any] | None) -> dict[Node, Any]:
        grads: dict[Node, Any] = {}
        for output, seed in zip(self.outputs, seeds if seeds is not None else [None] * len(self.outputs), strict=True):
            if output.node is not None:
                seed = self._seed(output, seed)
                grads[output.node] = grads[output.node] + seed if output.node in grads else seed
        return self._run_from(grads)

    def _run_from(self, grads: dict[Node, Any]) -> dict[Node, Any]:
        """Walk down from the cotangents of some nodes."""
        outer, _remaking.keepers = _remaking.keepers, []
        try:
            if not self.record:
                return self._walk(grads)
            with enable_grad():
                return self._walk(grads)
        finally:
            for keeper in _remaking.keepers or ():
                keeper.rest()
            _remaking.keepers = outer

    def _seed(self, output: Any, seed: Any) -> Any:
        if seed is None:
            if output.shape != ():
                raise ValueError(
                    f"backward: the output has shape {tuple(output.shape)}; pass a gradient of that shape, or reduce the "
                    "output to a scalar first, with .sum() or .mean()"
                )
            seed = (
                output.dtype.type(1)
                if isinstance(output.raw, np.generic) or output.raw is None
                else backend.xp(output.raw).ones_like(output.raw)
            )
        is_tensor = type(seed) is type(output)
        raw = seed.raw if is_tensor else seed if isinstance(seed, np.generic) else backend.asarray(seed)
        if type(raw) is np.ndarray and not self.record:
            raw = raw.copy()  # a gradient may be the cotangent itself, and the caller may change that
        shape = seed.shape if is_tensor else raw.shape
        if tuple(shape) != tuple(output.shape):
            raise ValueError(
                f"backward: the gradient has shape {tuple(shape)}, the output {tuple(output.shape)}; they must be equal"
            )
        if not self.record:
            return raw if raw.dtype == output.dtype else backend.xp(raw).astype(raw, output.dtype)
        return seed if is_tensor else type(output)._wrap(raw, None)

    def _results(self) -> dict[Node, Any]:
        """Where a walk puts the gradients that it finds."""
        return {}

    def _walk(self, grads: dict[Node, Any]) -> dict[Node, Any]:
        record, wanted, resumed, context = self.record, self.wanted, self.resumed, current()
        needed = None if wanted is None else self.needed
        tensor = type(self.outputs[0])
        found = self._results()
        owned: set[Node] = set()  # nodes whose gradient is a fresh sum that nobody else holds
        for node in self.order:
            g = grads.pop(node, None)
            if g is None:
                continue
            if node.hooks is not None and node not in resumed:
                g = _run_hooks(node, g)
            row = node.row
            if wanted is None:
                if row is None:
                    found[node] = g
                    continue
            elif node in wanted:
                found[node] = g
                if row is None:
                    continue
            parents, params = node.parents, node.params
            saved: Any = node.saved
            if row is PICK:
                parts, i = grads.setdefault(parents[0], [None] * len(parents[0].shape)), params["index"]
                parts[i] = g if parts[i] is None else parts[i] + g
                continue
            if record:
                saved = _handles(node, tensor)
            for parent, rule in zip(parents, row.vjps):  # noqa: B905 (strict= costs more than some rules do)
                if parent is None or rule is None or (needed is not None and parent not in needed):
                    continue
                d = rule(g, *saved, **params) if params else rule(g, *saved)
                if d.shape != parent.shape or (d.dtype is not parent.dtype and d.dtype != parent.dtype):
                    d = match(d, parent.shape, parent.dtype)
                if context is not None:
                    context.differentiated(node, parent, g, d)
                previous = grads.get(parent)
                if previous is None:
                    grads[parent] = d
                elif type(d) is RowSparse:  # on the left: not every library's arrays leave + to it
                    grads[parent] = d + previous
                elif parent in owned and _laid_out_alike(previous, d):
                    grads[parent] += d
                else:
                    grads[parent] = previous + d
                    if not record:
                        owned.add(parent)
        return found


def _laid_out_alike(a: Any, b: Any) -> bool:
    """Whether ``a + b`` would lie in memory as ``a`` does. If not, adding in place would leave another order of elements than a recorded
    pass, or a graph, has, and a later sum would add them up in another order."""
    return type(a) is not np.ndarray or type(b) is not np.ndarray or a.strides == b.strides


def _apart(found: dict[Node, Any]) -> dict[Node, Any]:
    """Gradients of which each has memory of its own, that can be written to."""
    roots = set()
    for node, g in found.items():
        if type(g) is RowSparse:
            found[node] = g.dense()
        elif type(g) is np.ndarray:
            root = g
            while type(root.base) is np.ndarray:
                root = root.base
            if id(root) in roots or not g.flags.writeable:
                found[node] = root = g.copy()
            roots.add(id(root))
    return found


def match(d: Any, shape: tuple, dtype: Any) -> Any:
    """Bring a gradient to the shape and dtype of its input: sum over the axes along which the input was broadcast,
    take the real part where the input is real, and round to the input's precision."""
    if d.shape != shape:
        d = rows.sum_to(d, shape=shape)
    return d if d.dtype == dtype else rows.astype(d, dtype=dtype)


rows: Any = None
"""The module autograd.ops.layout, once it is imported: the engine itself needs its sum_to and astype."""


def _run_hooks(node: Node, g: Any) -> Any:
    for hook in node.hooks or ():
        changed = hook(g)
        if changed is not None:
            if tuple(changed.shape) != tuple(node.shape):
                raise ValueError(
                    f"a hook turned a gradient of shape {tuple(node.shape)} into one of shape {tuple(changed.shape)}"
                )
            g = changed
    return g


def _handles(node: Node, tensor: Any) -> list:
    """What a node saved, as tensors in their places on the tape, so that the rules are recorded."""
    out, *inputs = node.saved
    if isinstance(out, tuple):  # several outputs: each is taken from the node anew
        out = tuple(
            tensor._wrap(o, Node(PICK, (node,), (), {"index": i}, s, t))
            for i, (o, s, t) in enumerate(zip(out, node.shape, node.dtype, strict=True))
        )
    else:
        out = tensor._wrap(out, node)
    return [
        out,
        *(x if type(x) in _NOT_ARRAYS else tensor._wrap(x, p) for x, p in zip(inputs, node.parents, strict=True)),
    ]


_NOT_ARRAYS = {Node, Leaf, Spec, bool, int, float, complex}
