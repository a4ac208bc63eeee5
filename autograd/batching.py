"""vmap: a function of one example becomes a function of many, by running every operation on all examples at once.

``vmap`` calls the function once, with tensors whose arrays are of the class ``Batch`` (see ``autograd.batch``). Operations
meet them in ``autograd.dispatch``, which calls ``run`` here: it takes the physical tensors out, applies the row's *batching
rule* to them outside of this level, and makes the result a batch again. The tape of whatever is transformed inside
(``vmap(grad(f))``) records batches; the tape of whatever is outside (``grad(vmap(f))``) records the physical operations.

A batching rule is a column of the op table, ``op(..., batch=rule)``; those of ``autograd.ops`` stand together in
``autograd.batching_rules``::

    @batches("softmax", "sort")
    def _along(call, x, *, axis):
        return call.apply(x, axis=inner(axis, x.ndim - 1))

It gets the inputs with the examples along their first axis, where ``call.mapped`` says so (others are shared by all
examples), and the parameters as the user wrote them for one example; it returns the output with the examples along the
first axis. A row without parameters whose shape rule is elementwise needs no rule, and a row that has none is run
example by example, with a warning.

The design follows the interpreters of JAX (Bradbury et al. 2018) and functorch (He & Zou 2021).
"""

import functools
import importlib
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import optree

from . import backend, shapes
from .batch import Batch, Level
from .context import AutogradContext, _current, current
from .tape import Node
from .tensor import DiffTensor

_ELEMENTWISE = tuple(
    f for name, f in vars(shapes).items() if name.startswith(("stretched", "same")) or name == "compared"
)


class Call:
    """One call of a row on batches, as its batching rule sees it."""

    __slots__ = ("level", "mapped", "row")

    def __init__(self, row: Any, level: Level, mapped: Sequence[bool]):
        self.row, self.level, self.mapped = row, level, tuple(mapped)

    @property
    def size(self) -> int:
        """The number of examples."""
        return self.level.size

    @property
    def apply(self) -> Callable:
        """The row as a function of physical tensors."""
        return self.row.apply  # type: ignore[no-any-return]

    def shape(self, i: int, x: Any) -> tuple[int, ...]:
        """The shape of input ``i`` in one example."""
        return shapes.shape_of(x)[1:] if self.mapped[i] else shapes.shape_of(x)

    def spread(self, *xs: Any) -> list:
        """All inputs with the examples along their first axis: those that are shared are stretched (views)."""
        return [x if m else spread(x, self.size) for x, m in zip(xs, self.mapped, strict=True)]


def rule_of(row: Any) -> Callable | None:
    """The batching rule of a row: its own, or that of elementwise rows if it is one, or None."""
    rules = _rules()
    if row.batch is None and not row.params and row.outputs == 1 and row.infer in _ELEMENTWISE:
        row.batch = rules.elementwise
    return row.batch  # type: ignore[no-any-return]


@functools.cache
def _rules() -> Any:
    """The modules in which rows get their rules; not before they are needed, and once: looking for a module takes as long as a row."""
    importlib.import_module(".batching_index", __package__)
    return importlib.import_module(".batching_rules", __package__)


def lift(raw: list, parents: list[Node | None], levels: tuple[Level, ...]) -> bool:
    """Make batches (in place) of the tracked inputs of a call that come from outside a vmap: constants inside of it."""
    found = False
    for i, node in enumerate(parents):
        if node is not None and node.serial < levels[-1].serial:
            raw[i], parents[i], found = Batch(DiffTensor._wrap(raw[i], node), levels[-1], mapped=False), None, True
    return found


def run(row: Any, raw: Sequence[Any], params: dict[str, Any]) -> Any:
    """A row on raw arrays of which some are batches: a batch of the innermost level among them, or a tuple of such."""
    level = max((a.level for a in raw if type(a) is Batch), key=lambda level: level.serial)
    context = current()
    if context is None or level not in context.levels:
        raise TypeError("a value from inside vmap was used outside of it; return it from the mapped function instead")
    if any(a is None for a in raw):
        raise TypeError("a symbolic tensor that was made inside vmap cannot be mixed with its values; make it outside")
    own = [type(a) is Batch and a.level is level for a in raw]
    mapped = [mine and a.mapped for mine, a in zip(own, raw, strict=True)]
    inputs = [a.value if mine else a for mine, a in zip(own, raw, strict=True)]
    token = _current.set(context.outside(level))
    try:
        if not any(mapped):
            out = row.apply(inputs, **params) if row.variadic else row.apply(*inputs, **params)
        else:
            rule = rule_of(row)
            call = Call(row, level, mapped)
            out = one_by_one(call, *inputs, **params) if rule is None else rule(call, *inputs, **params)
    finally:
        _current.reset(token)
    if isinstance(out, tuple):
        return tuple(Batch(o, level, any(mapped)) for o in out)
    return Batch(out, level, any(mapped))


def one_by_one(call: Call, *xs: Any, **params: Any) -> Any:
    """What stands for a missing batching rule: the row on each example."""
    if not call.size:
        raise ValueError(f"vmap: {call.row.name} has no batching rule, so it cannot run on no examples")
    if not call.level.quiet:
        warnings.warn(
            f"vmap: {call.row.name} has no batching rule, so it runs {call.size} times, example by example",
            stacklevel=2,
        )
    pick, stack = DiffTensor.__dict__["__getitem__"], importlib.import_module(".ops.layout", __package__).stack
    found = []
    for k in range(call.size):
        inputs = [pick(x, k) if m else x for x, m in zip(xs, call.mapped, strict=True)]
        found.append(call.apply(inputs, **params) if call.row.variadic else call.apply(*inputs, **params))
    if isinstance(found[0], tuple):
        return tuple(stack(list(outs), axis=0) for outs in zip(*found, strict=True))
    return stack(found, axis=0)


def spread(x: Any, size: int) -> DiffTensor:
    """One array for each of ``size`` examples: a view, where the library has them."""
    layout = importlib.import_module(".ops.layout", __package__)
    x = x if isinstance(x, DiffTensor) else DiffTensor._wrap(backend.asarray(x), None)
    return layout.broadcast_to(x, shape=(size, *x.shape))  # type: ignore[no-any-return]


class _Inside(AutogradContext):
    """The context of a call of ``vmap``."""

    def __init__(self, level: Level):
        super().__init__()
        self._level = level

    def __enter__(self) -> "_Inside":
        super().__enter__()
        self.levels = (*self.levels, self._level)
        self._outsides[self._level] = self._outer  # nothing else differs, and no context at all is fastest
        return self


def _flat(tree: Any) -> tuple[list, Any]:
    return optree.tree_flatten(tree, none_is_leaf=True)  # type: ignore[return-value]


def _prefix(axes: Any, tree: Any, name: str) -> list:
    """An axis for each leaf of a tree, from a prefix of the tree."""
    try:
        found = optree.broadcast_prefix(axes, tree, none_is_leaf=True)
    except ValueError as error:
        raise ValueError(
            f"vmap: {name}={axes!r} does not fit the structure of what it is for; write one axis (or None) for each of its "
            f"parts, or one for all ({str(error).partition(';')[0]})"
        ) from None
    for axis in found:
        if axis is not None and not isinstance(axis, int):
            raise TypeError(f"vmap: {name} must hold integers and None, not {type(axis).__name__} {axis!r}")
    return found


def vmap(fun: Callable, in_axes: Any = 0, out_axes: Any = 0) -> Callable:
    """A function that applies ``fun`` to each of many examples at once, and stacks the results.

    Args:
        fun: a function of arrays, or trees of them, that returns an array or a tree of them.
        in_axes: along which axis of its arguments the examples lie: an integer for all, or a tuple with an entry for each
            argument: an integer, None (the argument is the same for all examples), or a tree of these that the
            argument's tree begins with.
        out_axes: along which axis the results are stacked; an integer, or a tree of them that the result's tree begins
            with. None returns a result that is the same for all examples as it is.

    It nests with every other transform: ``vmap(grad(f))`` are the gradients of each example, ``grad`` of a function that
    uses ``vmap`` is one backward pass, ``vmap(vmap(f))`` maps over two axes. Results are plain arrays if no tensor was
    passed in and nothing outside is tracked. Keyword arguments are the same for all examples.

    Inside, an array has the shape of one example and its value cannot be read: ``if``, ``float()`` and ``.numpy()`` raise
    a TypeError. Random numbers drawn from a generator inside are the same for all examples.

    Raises:
        ValueError: the examples differ in number, or there is no such axis. TypeError: nothing is mapped.
    """

    return mapped(fun, in_axes, out_axes)


def mapped(fun: Callable, in_axes: Any = 0, out_axes: Any = 0, quiet: bool = False) -> Callable:
    """``vmap``; ``quiet`` does not warn of rows that run example by example."""

    @functools.wraps(fun)
    def over_examples(*args: Any, **kwargs: Any) -> Any:
        leaves, tree = _flat(args)
        axes = _prefix(tuple(in_axes) if isinstance(in_axes, list) else in_axes, args, "in_axes")
        leaves = [
            x if axis is None or isinstance(x, DiffTensor) else backend.asarray(x)
            for x, axis in zip(leaves, axes, strict=True)
        ]
        level = Level(_size(leaves, axes), quiet)
        inputs = [
            x if axis is None else DiffTensor._wrap(Batch(_first(x, axis), level), None)
            for x, axis in zip(leaves, axes, strict=True)
        ]
        with _Inside(level):
            results, out_tree = _flat(fun(*optree.tree_unflatten(tree, inputs), **kwargs))
        plain = not any(isinstance(x, DiffTensor) for x in leaves)
        places = _prefix(out_axes, optree.tree_unflatten(out_tree, results), "out_axes")
        return optree.tree_unflatten(
            out_tree, [_outcome(r, level, axis, plain) for r, axis in zip(results, places, strict=True)]
        )

    return over_examples


def _size(leaves: list, axes: list) -> int:
    sizes = {}
    for i, (x, axis) in enumerate(zip(leaves, axes, strict=True)):
        if axis is not None:
            if not -x.ndim <= axis < x.ndim:
                raise ValueError(
                    f"vmap: there is no axis {axis} to map in leaf {i} of the arguments, of shape {tuple(x.shape)}; "
                    "use in_axes=None for what is the same for all examples"
                )
            sizes[i] = x.shape[axis]
    if not sizes:
        raise TypeError("vmap: no argument is mapped; give at least one an axis in in_axes")
    if len(set(sizes.values())) > 1:
        raise ValueError(f"vmap: the arguments have different numbers of examples: {sizes} (leaf: examples)")
    return next(iter(sizes.values()))


def _first(x: Any, axis: int) -> DiffTensor:
    """x as a tensor with an axis moved to the front."""
    x = x if isinstance(x, DiffTensor) else DiffTensor._wrap(x, None)
    return x if axis % x.ndim == 0 else _rearranged(x, axis, 0)


def _rearranged(x: DiffTensor, source: int, destination: int) -> DiffTensor:
    return importlib.import_module(".ops.layout", __package__).moveaxis(x, source, destination)  # type: ignore[no-any-return]


def _outcome(value: Any, level: Level, axis: int | None, plain: bool) -> Any:
    """A result as it is seen outside."""
    if value is None:
        return None
    if isinstance(value, DiffTensor):
        if value.node is not None and value.node.serial > level.serial:
            raise ValueError(
                "vmap: the function returned a tensor that it tracks itself (requires_grad=True); return its detach(), or "
                "track the arguments of vmap"
            )
        raw = value.raw
    elif type(value) is Batch:
        raw = value
    else:
        value = DiffTensor._wrap(backend.asarray(value), None)
        raw = value.raw
    if type(raw) is Batch and raw.level is level:
        value, stacked = raw.value, raw.mapped
    else:
        stacked = False
    if not isinstance(value, DiffTensor):
        value = DiffTensor._wrap(value, None)
    if axis is None:
        if stacked:
            raise ValueError("vmap: out_axes=None for a result that differs between the examples; give it an axis")
    else:
        value = value if stacked else spread(value, level.size)
        if not -value.ndim <= axis < value.ndim:
            raise ValueError(f"vmap: out_axes={axis} for a result of {value.ndim - 1} axes in one example")
        value = value if axis % value.ndim == 0 else _rearranged(value, 0, axis)
    return value.raw if plain and value.node is None and type(value.raw) not in (Batch, type(None)) else value


__all__ = ["Batch", "Call", "vmap"]
