"""Derivative rules of your own: ``custom_vjp``, ``custom_jvp``, and ``stop_gradient``.

A call of a custom function leaves two nodes on the tape. The upper one turns the cotangents of all outputs into those of
all inputs at once, by your rule; the lower one has the inputs' nodes as its parents and hands each its part. Inside
``vmap`` the function, its forward and its backward rule are themselves mapped, so that they may be differentiated outside.
"""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import optree

from . import backend
from .batch import Batch, Level, physical
from .batching import lift, mapped
from .context import _current, current
from .dispatch import _pick
from .shapes import same, shape_of
from .table import op
from .tape import _NOT_ARRAYS, Node, Spec
from .tensor import DiffTensor
from .transforms import vjp

_flatten: Callable[[Any], tuple[list[Any], Any]] = optree.tree_flatten  # type: ignore[assignment]

_stop = op("stop_gradient", lambda x: x, same, None, flops=0, precision="any", doc="x as a constant to the gradient.")


def stop_gradient(tree: Any) -> Any:
    """The same arrays as constants: no gradient flows through, in any mode or order, inside ``vmap`` or a graph as well."""
    return optree.tree_map(lambda x: _stop(x) if isinstance(x, DiffTensor) else x, tree)


stop_gradient.row = _stop.row  # type: ignore[attr-defined]


def is_variable(x: Any) -> bool:
    """Whether a leaf of a tree can have a gradient: a floating-point or complex array, tensor or number."""
    return isinstance(x, (float, complex)) or (hasattr(x, "dtype") and backend.is_inexact(x.dtype))


def constant(tree: Any) -> Any:
    """A tree with its tensors detached."""
    return optree.tree_map(lambda x: x.detach() if isinstance(x, DiffTensor) else x, tree)


class _Cotangents(tuple):
    """The cotangents of all inputs, on their way from the upper node to the lower one."""

    shape: tuple = ()
    dtype: Any = "cotangents"


class _Rule:
    """What stands for a row in the two nodes of a custom function, and before observers, for whom ``apply`` calls it again."""

    complex, variadic = True, False
    primal: "list[DiffTensor] | None" = (
        None  # of an upper node whose values are symbolic: the outputs as they are computed
    )

    def __init__(self, name: str, vjps: tuple[Callable, ...], apply: Callable | None = None):
        self.name, self.vjps, self.apply = name, vjps, apply

    def cost(self, *_: Any, **__: Any) -> tuple[float, int]:
        """None: what the rules do is seen when they do it."""
        return 0.0, 0


class _Residuals(tuple):
    """What a forward rule hands to its backward rule: the arrays; ``rebuild`` puts them into their structure."""

    rebuild: Callable[[Sequence], Any]
    outputs: dict[int, int]  # which of them are outputs of the function, and which ones


_NOT_ARRAYS.add(_Residuals)


def _residuals(tree: Any, outputs: list) -> _Residuals:
    leaves, structure = _flatten(tree)
    arrays = [i for i, x in enumerate(leaves) if hasattr(x, "dtype")]
    names = {id(o): k for k, o in enumerate(outputs) if hasattr(o, "dtype")}
    own = {j: names[id(leaves[i])] for j, i in enumerate(arrays) if id(leaves[i]) in names}

    def rebuild(values: Sequence) -> Any:
        full = list(leaves_kept)
        for i, v in zip(arrays, values, strict=True):
            full[i] = v
        return optree.tree_unflatten(structure, full)

    leaves_kept = [None if i in arrays else x for i, x in enumerate(leaves)]
    found = _Residuals(0 if j in own else leaves[i] for j, i in enumerate(arrays))
    found.rebuild, found.outputs = rebuild, own
    return found


class custom_vjp:
    """A function with a vector-Jacobian product of your own::

        @custom_vjp
        def clipped(x):
            return ops.clip(x, -1.0, 1.0)

        def forward(x):
            return clipped.fun(x), x                          # the output and residuals (any tree)

        def backward(x, g):                                   # the residuals and the cotangent of the output
            return (g * ops.exp(-x * x),)                     # a gradient for each argument

        clipped.defvjp(forward, backward)

    The rules get tensors. Gradients have the structure and shapes of their arguments; None stands for zero. Arguments that
    are not arrays are passed on as they are.

    It may be differentiated again: then so is the backward rule, and the residuals by the operations that made them (an
    output among the residuals: by this rule). So write the rules with operations of ``autograd.ops``. The graph of the
    residuals is kept as long as that of the output.

    Raises:
        TypeError: it is called before ``defvjp``. ValueError: the backward rule returns something that does not fit.
    """

    def __init__(self, fun: Callable):
        functools.update_wrapper(self, fun)
        self.fun = fun
        self.forward: Callable | None = None
        self.backward: Callable | None = None

    @property
    def name(self) -> str:
        return getattr(self.fun, "__name__", "custom function")

    def defvjp(self, forward: Callable, backward: Callable) -> "custom_vjp":
        """Set the rules; returns the function."""
        self.forward, self.backward = forward, backward
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.forward is None or self.backward is None:
            raise TypeError(f"{self.name} has no derivative rule yet; give it one first")
        if kwargs:
            bound = inspect.signature(self.fun).bind(*args, **kwargs)
            bound.apply_defaults()
            args = bound.args
        leaves, tree = _flatten(args)
        context = current()
        if context is not None and context.levels:
            leaves = _lifted(leaves, context.levels)
            args = optree.tree_unflatten(tree, leaves)  # type: ignore[assignment]
        tracked = [i for i, x in enumerate(leaves) if isinstance(x, DiffTensor) and x.node is not None]
        if tracked and (context is None or context.recording):
            return self._recorded(args, leaves, tree, tracked)
        levels = [x.raw.level for x in leaves if isinstance(x, DiffTensor) and type(x.raw) is Batch]
        if levels:
            return self._on_batches(leaves, tree, max(levels, key=lambda level: level.serial))
        return self.fun(*args)

    def _recorded(self, args: tuple, leaves: list, tree: Any, tracked: list[int]) -> Any:
        """The output, and the two nodes."""
        assert self.forward is not None
        out, kept = self.forward(*args)
        made, out_tree = _flatten(out)
        outputs = [_tensor(o) for o in made]
        if any(isinstance(x, DiffTensor) and _tracked_outside(x.raw) for x in leaves):
            # inside a vmap, and differentiated outside of it too: there the output must follow this rule as well
            bare = [_bare(x) if isinstance(x, DiffTensor) else x for x in leaves]
            outputs = [_tensor(o) for o in _flatten(self(*optree.tree_unflatten(tree, bare)))[0]]
        rule = _upper_rule(self, out_tree, [_flatten(a)[1] for a in args], [shape_of(x) for x in leaves], tracked)
        specs = [Spec(leaves[i].shape, leaves[i].dtype) for i in tracked]
        lower = Node(
            _Rule(f"inputs of {self.name}", tuple(_part(k) for k in range(len(tracked)))),
            tuple(leaves[i].node for i in tracked), (None, *specs), {}, _Cotangents.shape, _Cotangents.dtype,
        )  # fmt: skip
        upper = Node(
            _Rule(self.name, (rule,)), (lower,), (tuple(o.raw for o in outputs), _residuals(kept, made)), {},
            tuple(tuple(o.shape) for o in outputs), tuple(o.dtype for o in outputs),
        )  # fmt: skip
        if any(o.raw is None for o in outputs):
            upper.row.primal = outputs
        found = [_pick(o.raw, upper, k) for k, o in enumerate(outputs)]
        context, inputs = current(), tuple(leaves[i].raw for i in tracked)
        if context is not None and not any(x is None or type(x) is Batch for x in inputs):

            def again(*xs: Any) -> Any:
                full = list(leaves)
                for i, x in zip(tracked, xs, strict=True):
                    full[i] = x
                return tuple(_flatten(self(*optree.tree_unflatten(tree, full)))[0])

            context.saw(_Rule(self.name, (), again), inputs, {}, tuple(o.raw for o in outputs), tuple(found))
        return optree.tree_unflatten(out_tree, found)

    def _on_batches(self, leaves: list, tree: Any, level: Level) -> Any:
        """The function on physical tensors, outside of a level of ``vmap``: it and its rules are mapped there."""
        context = current()
        if context is None or level not in context.levels:
            raise TypeError(
                "a value from inside vmap was used outside of it; return it from the mapped function instead"
            )
        inputs = list(leaves)
        axes: list[int | None] = [None] * len(leaves)
        for i, x in enumerate(leaves):
            if isinstance(x, DiffTensor) and type(x.raw) is Batch and x.raw.level is level:
                inputs[i], axes[i] = x.raw.value, 0 if x.raw.mapped else None
        outer = self if axes == [None] * len(axes) else _mapped_custom(self, tree, tuple(axes))
        token = _current.set(context.outside(level))
        try:
            out = outer(*optree.tree_unflatten(tree, inputs)) if outer is self else outer(*inputs)
        finally:
            _current.reset(token)
        return optree.tree_map(lambda o: DiffTensor._wrap(Batch(_tensor(o), level, outer is not self), None), out)


def _upper_rule(custom: custom_vjp, out_tree: Any, trees: list, shapes: list, tracked: list[int]) -> Callable:
    """The rule of the upper node: cotangents of all outputs to those of the tracked inputs."""

    def rule(gs: list, outs: tuple, kept: _Residuals) -> _Cotangents:
        recorded = isinstance(outs[0], DiffTensor)
        given = _tensor if recorded else _bare
        values = [given(outs[kept.outputs[j]] if j in kept.outputs else x) for j, x in enumerate(kept)]
        seeds = [_zeros(given(o), o.shape) if g is None else given(g) for g, o in zip(gs, outs, strict=True)]
        found = custom.backward(kept.rebuild(values), optree.tree_unflatten(out_tree, seeds))  # type: ignore[misc]
        parts = _parts(custom.name, found, trees)
        for i in tracked:
            if parts[i] is not None and shape_of(parts[i]) != tuple(shapes[i]):
                raise ValueError(
                    f"{custom.name}: the backward rule returned a gradient of shape {shape_of(parts[i])} for an input of "
                    f"shape {tuple(shapes[i])}"
                )
        made = [_zeros(given(outs[0]), shapes[i]) if parts[i] is None else _tensor(parts[i]) for i in tracked]
        return _Cotangents(made if recorded else (d.raw for d in made))

    return rule


def _parts(name: str, found: Any, trees: list) -> list:
    """What a backward rule returned, as one gradient (or None) for each leaf of the arguments."""
    if not isinstance(found, (tuple, list)) or len(found) != len(trees):
        raise ValueError(
            f"{name}: the backward rule must return a tuple of {len(trees)} gradients, one for each argument, not "
            f"{type(found).__name__}{f' of {len(found)}' if isinstance(found, (tuple, list)) else ''}"
        )
    parts: list = []
    for i, (g, tree) in enumerate(zip(found, trees, strict=True)):
        try:
            parts += [None] * tree.num_leaves if g is None else tree.flatten_up_to(g)
        except ValueError:
            raise ValueError(
                f"{name}: gradient {i} of the backward rule has not the structure of its argument, {tree}"
            ) from None
    return parts


def _part(k: int) -> Callable:
    return lambda g, *_: g[k]


def _mapped_custom(custom: custom_vjp, tree: Any, axes: tuple) -> custom_vjp:
    """A custom function mapped over the axes of its flattened arguments, and its rules with it."""

    @functools.wraps(custom.fun)
    def fun(*flat: Any) -> Any:
        return mapped(lambda *xs: custom.fun(*optree.tree_unflatten(tree, xs)), axes)(*flat)

    def forward(*flat: Any) -> tuple:
        seen: list = []

        def of_example(*xs: Any) -> tuple:
            out, kept = custom.forward(*optree.tree_unflatten(tree, xs))  # type: ignore[misc]
            residuals = _residuals(kept, [])
            seen.append((residuals.rebuild, [0 if _differs(x) else None for x in residuals]))
            return out, list(residuals)

        out, arrays = mapped(of_example, axes)(*flat)
        rebuild, places = seen[0]
        return out, ([x if p == 0 else x[0] for x, p in zip(arrays, places, strict=True)], places, rebuild)

    def backward(kept: tuple, g: Any) -> list:
        arrays, places, rebuild = kept
        trees = [_flatten(a)[1] for a in optree.tree_unflatten(tree, [0] * len(axes))]

        def of_example(arrays: list, g: Any) -> list:
            return _parts(custom.name, custom.backward(rebuild(arrays), g), trees)  # type: ignore[misc]

        found = mapped(of_example, (places, 0))(arrays, g)
        return [d if axis == 0 or d is None else d.sum(axis=0) for d, axis in zip(found, axes, strict=True)]

    return custom_vjp(fun).defvjp(forward, backward)


def _differs(x: Any) -> bool:
    """Whether a value inside the innermost ``vmap`` is different for its examples."""
    level = current().levels[-1]  # type: ignore[union-attr]
    raw = x.raw if isinstance(x, DiffTensor) else x
    return level.size == 0 or (type(raw) is Batch and raw.level is level and raw.mapped)


def custom_jvp(fun: Callable) -> "_CustomJvp":
    """A function with a Jacobian-vector product of your own; reverse mode is its transpose::

        @custom_jvp
        def f(x, y):
            return ops.sin(x) * y

        @f.defjvp
        def rule(primals, tangents):
            (x, y), (tx, ty) = primals, tangents
            return f(x, y), ops.cos(x) * y * tx + ops.sin(x) * ty

    The rule gets tuples, and the tangents in the structure of the arguments (None for what is not a floating-point or
    complex array). The tangent that it returns must be linear in the tangents, and computed with operations of
    ``autograd.ops``. It may be differentiated again.
    """
    return _CustomJvp(fun)


class _CustomJvp(custom_vjp):
    def defjvp(self, rule: Callable) -> Callable:
        """Set the rule; returns it."""

        def forward(*args: Any) -> tuple:
            return self.fun(*args), args

        def backward(args: tuple, g: Any) -> tuple:
            leaves, tree = _flatten(args)
            places = [i for i, x in enumerate(leaves) if is_variable(x)]

            def along(*tangents: Any) -> Any:
                full: list = [None] * len(leaves)
                for i, t in zip(places, tangents, strict=True):
                    full[i] = t
                return rule(args, optree.tree_unflatten(tree, full))[1]

            found: list = [None] * len(leaves)
            zeros = [_zeros(_tensor(leaves[i]), shape_of(leaves[i])) for i in places]
            for i, d in zip(places, vjp(along, *zeros)[1](g), strict=True):
                found[i] = d
            return optree.tree_unflatten(tree, found)  # type: ignore[return-value]

        self.defvjp(forward, backward)
        return rule


def _lifted(leaves: list, levels: tuple[Level, ...]) -> list:
    """Tensors tracked outside of a ``vmap`` as constant batches."""
    raw = [x.raw if isinstance(x, DiffTensor) else x for x in leaves]
    nodes = [x.node if isinstance(x, DiffTensor) else None for x in leaves]
    lift(raw, nodes, levels)
    return [
        DiffTensor._wrap(r, n) if isinstance(x, DiffTensor) else x for x, r, n in zip(leaves, raw, nodes, strict=True)
    ]


def _tracked_outside(raw: Any) -> bool:
    """Whether a batch holds what is tracked outside of its ``vmap``."""
    while type(raw) is Batch:
        if raw.value.node is not None:
            return True
        raw = raw.value.raw
    return False


def _tensor(x: Any) -> DiffTensor:
    return x if isinstance(x, DiffTensor) else DiffTensor._wrap(backend.asarray(x), None)


def _bare(x: Any) -> DiffTensor:
    """As a tensor that is not tracked at this level."""
    return DiffTensor._wrap(x.raw if isinstance(x, DiffTensor) else backend.asarray(x), None)


def _zeros(like: DiffTensor, shape: tuple[int, ...]) -> DiffTensor:
    """Zeros of a shape, of the dtype, library and device of a tensor."""
    raw = physical(like.raw)
    library = np if raw is None else backend.xp(raw)
    place = {} if library.__name__ in ("numpy", "cupy") else {"device": raw.device}
    return DiffTensor._wrap(backend.scalar(library.zeros(tuple(shape), dtype=like.dtype, **place)), None)
