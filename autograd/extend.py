"""Functions with derivative rules of one's own, under the names of HIPS autograd: ``primitive``, ``defvjp``, ``defjvp``, …

    >>> import numpy as np
    >>> from autograd import grad
    >>> from autograd.extend import defvjp, primitive
    >>> @primitive
    ... def cube(x):
    ...     return x**3
    >>> defvjp(cube, lambda ans, x: lambda g: g * 3 * x**2)
    >>> grad(cube)(2.0)
    np.float64(12.0)

A *primitive* is called with plain arrays in place of tensors, so its body may use any library. Positional arguments may be
trees (lists, tuples, dicts) of arrays, and so may its result. On the tape a call is two nodes: one whose single parent's
gradient is a bundle of the gradients of all arguments, as a rule may compute them together, and one that hands them out.
The engine sums them over broadcast axes and rounds them to the arguments' dtypes; rules need not.

Forward mode is here the derivative of the backward pass: ``defjvp`` is used, transposed, for primitives without ``defvjp``.
Rules written with ``autograd.numpy`` (or any operations of tensors) can be differentiated again.
"""

import functools
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from typing import Any

import optree

from . import backend, batching, ops
from .batch import Batch
from .context import _current, current
from .tape import PICK, Node, Spec
from .tensor import DiffTensor
from .transforms import vjp as _vjp
from .vspaces import SparseObject, VSpace, vspace

__all__ = [
    "Box", "JVPNode", "SparseObject", "VJPNode", "VSpace", "def_linear", "defjvp", "defjvp_argnum", "defjvp_argnums", "defvjp",
    "defvjp_argnum", "defvjp_argnums", "notrace_primitive", "primitive", "register_notrace", "vspace",
]  # fmt: skip

Box = DiffTensor
JVPNode = VJPNode = Node
_flatten: Callable[[Any], tuple[list[Any], Any]] = optree.tree_flatten  # type: ignore[assignment]
_map: Callable = optree.tree_map


class Primitive:
    """What is known of a primitive: its function and its rules, in the form that takes several argument numbers at once."""

    def __init__(self, fun: Callable):
        self.fun, self.name = fun, getattr(fun, "__name__", type(fun).__name__)
        self.vjp: Callable | None = None
        self.jvp: Callable | None = None
        self.known: set[int] | None = None  # the arguments that have a rule; None: it takes any
        self.constant = False

    def rule_for(self, argnums: tuple[int, ...]) -> Callable:
        """The reverse rule. Raises NotImplementedError if an argument has none."""
        missing = [] if self.known is None else [i for i in argnums if i not in self.known]
        maker = self.vjp or (None if self.jvp is None else self._transposed)
        if maker is None or missing:
            which = "" if maker is None else f" with respect to argument {missing[0]}"
            raise NotImplementedError(f"the primitive {self.name} has no derivative rule{which}; state one with defvjp")
        return maker

    def _transposed(self, argnums: tuple[int, ...], ans: Any, args: tuple, kwargs: dict) -> Callable:
        """A tangent rule is linear in its tangents, so its own vector-Jacobian product is the reverse rule."""

        def tangent(*gs: Any) -> Any:
            assert self.jvp is not None
            return self.jvp(argnums, gs, ans, args, kwargs)

        return lambda g: _vjp(tangent, *(vspace(args[i]).zeros() for i in argnums))[1](g)


class _Bundle:
    """The gradients of all leaves of a call's arguments, on their way from the call's node to those of the leaves."""

    shape, dtype = ("one for each argument",), "bundle"
    __slots__ = ("parts",)

    def __init__(self, parts: list):
        self.parts = parts

    @property
    def raw(self) -> tuple:
        return tuple(getattr(p, "raw", p) for p in self.parts)


class _Row:
    """The row of a node of this module; unlike the op table's it belongs to one call, which ``apply`` makes again."""

    outputs, differentiable, complex, variadic = 1, 1, True, False

    def __init__(self, name: str, vjps: Sequence[Callable], apply: Callable | None = None):
        self.name, self.vjps, self.apply = name, tuple(vjps), apply

    def cost(self, output: Any, *inputs: Any, **_params: Any) -> tuple[float, int]:
        """Unknown FLOPs; the bytes of inputs and outputs."""
        values = (*(output if isinstance(output, tuple) else (output,)), *inputs)
        return 0.0, sum(int(getattr(v, "nbytes", 0)) for v in values)


class _Call:
    """One call: its arguments as raw arrays, and what its rule needs to run on them, or on tensors."""

    def __init__(self, owner: Primitive, args: tuple, kwargs: dict):
        self.owner, self.kwargs = owner, kwargs
        self.args = list(args)
        self.trees: dict[int, tuple[list, list, Any]] = {}  # argument -> raw leaves, their nodes or None, structure
        self.level: Any = None  # the innermost vmap among the arguments
        context = current()
        for i, a in enumerate(args):
            leaves, tree = ([a], None) if type(a) is DiffTensor else _flatten(a) if _is_container(a) else ([], None)
            if not any(type(x) is DiffTensor for x in leaves):
                continue
            raws = [x._value(owner.name) if type(x) is DiffTensor else x for x in leaves]
            nodes = [x.node if type(x) is DiffTensor else None for x in leaves]
            if context is not None and context.levels:
                batching.lift(raws, nodes, context.levels)
            levels: list[Any] = [x.level for x in raws if type(x) is Batch] + [self.level] * (self.level is not None)
            self.level = max(levels, key=lambda level: level.serial) if levels else None
            self.args[i] = self._joined(raws, tree)
            if any(n is not None for n in nodes):
                self.trees[i] = raws, nodes, tree
        self.argnums = tuple(self.trees)
        self.parents = [n for _, nodes, _ in self.trees.values() for n in nodes if n is not None]

    @staticmethod
    def _joined(leaves: list, tree: Any) -> Any:
        return leaves[0] if tree is None else optree.tree_unflatten(tree, leaves)

    def arguments(self, recorded: bool) -> tuple:
        """The arguments as the rule sees them."""
        if not recorded:
            return tuple(self.args)
        args = list(self.args)
        for i, (raws, nodes, tree) in self.trees.items():
            handles = [r if n is None else DiffTensor._wrap(r, n) for r, n in zip(raws, nodes, strict=True)]
            args[i] = self._joined(handles, tree)
        return tuple(args)

    def replaced(self, leaves: Iterable) -> tuple:
        """The arguments with others in the place of the leaves of those that have tracked ones."""
        args, left = list(self.args), iter(leaves)
        for i, (raws, _, tree) in self.trees.items():
            args[i] = self._joined([next(left) for _ in raws], tree)
        return tuple(args)

    def gradients(self, found: Any) -> _Bundle:
        """What the rule returned, for each tracked leaf."""
        parts: list = []
        for i, g in zip(self.argnums, found, strict=True):
            raws, nodes, tree = self.trees[i]
            g = g.dense() if isinstance(g, SparseObject) else g
            leaves = [g] if tree is None else optree.tree_leaves(g, none_is_leaf=True)
            if len(leaves) != len(raws):
                raise ValueError(
                    f"the rule of {self.owner.name} for argument {i} returned {len(leaves)} arrays; the argument has {len(raws)}"
                )
            for leaf, raw, node in zip(leaves, raws, nodes, strict=True):
                if node is not None:
                    leaf = leaf.dense() if isinstance(leaf, SparseObject) else leaf
                    parts.append(raw * 0 if leaf is None else leaf if hasattr(leaf, "dtype") else backend.asarray(leaf))
        return _Bundle(parts)


def _record(call: _Call, outputs: list, tree: Any) -> list:
    """The two nodes of a call; returns the tensors of its outputs."""
    owner, maker = call.owner, call.owner.rule_for(call.argnums)
    single = len(outputs) == 1

    def rule(g: Any, out: Any, _arguments: Any) -> _Bundle:
        values, seeds = ([out], [g]) if single else (list(out), list(g))
        recorded = any(type(v) is DiffTensor for v in values)
        seeds = [v * 0 if s is None else s for s, v in zip(seeds, values, strict=True)]
        ans, cotangent = (optree.tree_unflatten(tree, v) for v in (values, seeds))
        args = call.arguments(recorded)
        one = lambda ans, args, cotangent: maker(call.argnums, ans, args, call.kwargs)(cotangent)
        level = None if recorded else _innermost((ans, args, cotangent))
        found = one(ans, args, cotangent) if level is None else one_by_one(level, _dense(one), ans, args, cotangent)
        return call.gradients(found)

    share = Node(
        _Row(f"{owner.name}: arguments", [_share(i) for i in range(len(call.parents))]),
        tuple(call.parents), (None, *(Spec(n.shape, n.dtype) for n in call.parents)), {}, _Bundle.shape, _Bundle.dtype,
    )  # fmt: skip
    shapes, dtypes = tuple(o.shape for o in outputs), tuple(o.dtype for o in outputs)
    saved, shape, dtype = (outputs[0], shapes[0], dtypes[0]) if single else (tuple(outputs), shapes, dtypes)
    node = Node(_Row(owner.name, [rule]), (share,), (saved, Spec(_Bundle.shape, _Bundle.dtype)), {}, shape, dtype)
    if single:
        return [DiffTensor._wrap(outputs[0], node)]
    return [
        DiffTensor._wrap(o, Node(PICK, (node,), (), {"index": i}, o.shape, o.dtype))
        if backend.is_inexact(o.dtype)
        else o
        for i, o in enumerate(outputs)
    ]


def _is_container(value: Any) -> bool:
    return isinstance(value, list | tuple | dict)


def _dense(rule: Callable) -> Callable:
    """A rule whose gradients are whole, so that they can be stacked."""
    whole = lambda g: g.dense() if isinstance(g, SparseObject) else g
    return lambda *args: _map(whole, list(rule(*args)))


def _innermost(values: Any) -> Any:
    """The innermost level of vmap among the raw arrays of a tree, or None."""
    levels = [x.level for x in optree.tree_leaves(values) if type(x) is Batch]
    return max(levels, key=lambda level: level.serial) if levels else None


def one_by_one(level: Any, function: Callable, *values: Any) -> Any:
    """A function of raw values of which some are batches, called outside of the level for each example, and its results
    stacked: the body and the rules of a primitive may be of any library, so nothing better is known to be right."""
    context = current()
    assert context is not None

    def example(k: int) -> Any:
        def one(x: Any) -> Any:
            if type(x) is not Batch or x.level is not level:
                return x
            physical = x.value[k] if x.mapped else x.value
            return physical if physical.node is not None or type(physical.raw) is Batch else physical.raw

        return function(*_map(one, values))

    token = _current.set(context.outside(level))
    try:
        results = [example(k) for k in range(level.size)]
        flat = [_flatten(r)[0] for r in results]
        stacked = [
            ops.stack([x if hasattr(x, "shape") else backend.asarray(x) for x in leaves], axis=0)
            for leaves in zip(*flat, strict=True)
        ]
    finally:
        _current.reset(token)
    leaves = [Batch(x if type(x) is DiffTensor else DiffTensor._wrap(x, None), level) for x in stacked]
    return optree.tree_unflatten(_flatten(results[0])[1], leaves)


def _share(i: int) -> Callable:
    return lambda g, *_: g.parts[i]


_PRIMITIVES: dict[Callable, Primitive] = {}


def primitive(f_raw: Callable) -> Callable:
    """Decorator: a function that the tape records as one operation. Its derivative is stated with ``defvjp`` (or ``defjvp``).

    Without tracked tensors among the positional arguments it is just called. A tracked tensor in a keyword argument, or
    one that the function takes from its surroundings, is a TypeError: its gradient would be lost.
    """
    owner = Primitive(f_raw)

    def call(*args: Any, **kwargs: Any) -> Any:
        if not any(type(a) is DiffTensor or _is_container(a) for a in args) and not kwargs:
            return f_raw(*args)
        here = _Call(owner, args, {k: _plain(owner, f"the keyword {k!r}", v) for k, v in kwargs.items()})
        if here.level is not None:
            out = one_by_one(here.level, lambda *inner: call(*inner, **here.kwargs), *here.args)
        else:
            out = _plain(owner, "the result, through a variable of its surroundings,", f_raw(*here.args, **here.kwargs))
        context = current()
        leaves, tree = _flatten(out)
        if not here.parents or owner.constant or (context is not None and not context.recording):
            return (
                out if here.level is None else optree.tree_unflatten(tree, [DiffTensor._wrap(x, None) for x in leaves])
            )
        leaves = [x if type(x) is Batch else backend.scalar(backend.asarray(x)) for x in leaves]
        if not any(backend.is_inexact(leaf.dtype) for leaf in leaves):
            return out
        results = _record(here, leaves, tree)
        if context is not None and here.level is None:
            inputs = tuple(r for raws, _, _ in here.trees.values() for r in raws)
            tensors = tuple(r for r in results if type(r) is DiffTensor)
            again = lambda *xs: tuple(_flatten(call(*here.replaced(xs), **here.kwargs))[0])
            context.saw(_Row(owner.name, (), again), inputs, {}, tuple(leaves), tensors)
        return optree.tree_unflatten(tree, results)

    try:
        functools.update_wrapper(call, f_raw)
    except AttributeError:  # a callable object without a name
        call.__name__ = owner.name
    call.fun = f_raw  # type: ignore[attr-defined]
    _PRIMITIVES[call] = owner
    return call


def _plain(owner: Primitive, place: str, value: Any) -> Any:
    """A value with constant tensors replaced by arrays; a tracked one is a TypeError."""

    def one(x: Any) -> Any:
        if type(x) is not DiffTensor:
            return x
        if x.node is not None:
            raise TypeError(f"{owner.name}: {place} holds a tracked tensor; pass tensors as positional arguments")
        return x.raw

    if type(value) is DiffTensor:
        return one(value)
    return _map(one, value) if _is_container(value) else value


def _owner(fun: Callable) -> Primitive:
    owner = _PRIMITIVES.get(fun)
    if owner is None:
        name = getattr(fun, "__name__", repr(fun))
        raise TypeError(f"{name} is not a primitive; make one of it first: {name} = autograd.extend.primitive({name})")
    return owner


# ---- reverse rules ----


def defvjp_argnums(fun: Callable, vjpmaker: Callable) -> None:
    """State the reverse rule of a primitive: ``vjpmaker(argnums, ans, args, kwargs)`` returns a function of the
    cotangent ``g`` that returns a gradient for each of ``argnums``."""
    owner = _owner(fun)
    owner.vjp, owner.known = vjpmaker, None


def defvjp_argnum(fun: Callable, vjpmaker: Callable) -> None:
    """As ``defvjp_argnums``, with a rule ``vjpmaker(argnum, ans, args, kwargs)`` for one argument at a time."""

    def of_all(argnums: Sequence[int], *call: Any) -> Callable:
        vjps = [vjpmaker(i, *call) for i in argnums]
        return lambda g: [vjp(g) for vjp in vjps]

    defvjp_argnums(fun, of_all)


def defvjp(fun: Callable, *vjpmakers: Callable | None, argnums: Iterable[int] | None = None) -> None:
    """State the reverse rules of a primitive, one for each argument: ``vjpmaker(ans, *args, **kwargs)`` returns a
    function of the cotangent ``g``. None stands for a gradient of zero. ``argnums``: which arguments, if not the first."""
    makers = dict(zip(count() if argnums is None else argnums, vjpmakers, strict=False))

    def of_one(argnum: int, ans: Any, args: tuple, kwargs: dict) -> Callable:
        maker = makers[argnum]
        return (lambda _g: vspace(args[argnum]).zeros()) if maker is None else maker(ans, *args, **kwargs)

    defvjp_argnum(fun, of_one)
    _owner(fun).known = set(makers)


# ---- tangent rules ----


def defjvp_argnums(fun: Callable, jvpmaker: Callable) -> None:
    """State the tangent rule of a primitive: ``jvpmaker(argnums, gs, ans, args, kwargs)`` returns the result's tangent
    for the tangents ``gs`` of ``argnums``."""
    owner = _owner(fun)
    owner.jvp = jvpmaker
    if owner.vjp is None:
        owner.known = None


def defjvp_argnum(fun: Callable, jvpmaker: Callable) -> None:
    """As ``defjvp_argnums``, with a rule ``jvpmaker(argnum, g, ans, args, kwargs)`` for one argument at a time."""

    def of_all(argnums: Sequence[int], gs: Sequence[Any], *call: Any) -> Any:
        tangents = [jvpmaker(i, g, *call) for i, g in zip(argnums, gs, strict=True)]
        return functools.reduce(lambda a, b: _map(lambda x, y: x + y, a, b), tangents)

    defjvp_argnums(fun, of_all)


def defjvp(fun: Callable, *jvpfuns: Callable | str | None, argnums: Iterable[int] | None = None) -> None:
    """State the tangent rules of a primitive, one for each argument: ``jvpfun(g, ans, *args, **kwargs)``; "same" where
    the function is linear in that argument, None where the tangent is zero."""
    owner, rules = _owner(fun), dict(zip(count() if argnums is None else argnums, jvpfuns, strict=False))

    def of_one(argnum: int, g: Any, ans: Any, args: tuple, kwargs: dict) -> Any:
        rule = rules[argnum]
        if rule is None:
            return vspace(ans).zeros()
        if rule == "same":
            return owner.fun(*args[:argnum], g, *args[argnum + 1 :], **kwargs)  # the body: it is what gets transposed
        assert callable(rule)
        return rule(g, ans, *args, **kwargs)

    defjvp_argnum(fun, of_one)
    if owner.vjp is None:
        owner.known = set(rules)


def def_linear(fun: Callable) -> None:
    """State that a primitive is linear in each of its arguments. Its body must then be made of differentiable operations,
    or have a rule of its own (``defvjp``)."""
    raw = _owner(fun).fun
    defjvp_argnum(fun, lambda i, g, _ans, args, kwargs: raw(*args[:i], g, *args[i + 1 :], **kwargs))


# ---- functions without derivative ----


def notrace_primitive(f_raw: Callable) -> Callable:
    """Decorator: a function of the arguments' plain values; its result is a constant."""
    call = primitive(f_raw)
    _PRIMITIVES[call].constant = True
    return call


def register_notrace(_trace_type: Any, primitive_fun: Callable) -> None:
    """State that a primitive's result is a constant. There is one tape, so the first argument is not used."""
    _owner(primitive_fun).constant = True
