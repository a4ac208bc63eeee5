"""Function transforms: functions of functions that nest in any order, over any tree of arrays (nested dicts, lists, tuples).

Inside a transformed function the differentiated arguments are tensors. Results are plain arrays where nothing outside is
tracked, and tensors where something is: then they can be differentiated again, which is how transforms nest. So
``grad(grad(f))(2.0)`` is a NumPy number, and so is ``jacobian(grad(f))(x)``.

Forward mode is the derivative of the backward pass: a vector-Jacobian product is linear in its cotangent, so its own
backward pass is the Jacobian-vector product, and the table needs no second set of rules.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import optree

from . import backend, batching
from .batch import Batch, physical
from .context import current, enable_grad
from .ops.elementwise import positive
from .ops.layout import concat, reshape, stack
from .shapes import numpy_dtype, shape_of
from .tape import BackwardPass, Node
from .tensor import DiffTensor, leaf

Argnum = int | Sequence[int]
_FEW, _MANY = 5, 128  # rows of a Jacobian: so few are faster in a loop; so many at a time bound the memory
_flatten: Callable[[Any], tuple[list[Any], Any]] = optree.tree_flatten  # type: ignore[assignment]
_map: Callable = optree.tree_map


def _variable(value: Any) -> DiffTensor:
    """A new tracked tensor for a leaf of an argument; on the tape of whatever the value is tracked by."""
    if isinstance(value, DiffTensor):
        if value.node is not None:
            value = positive(value)  # a new node on the same tape: gradients stop here for us, and go on for others
            if value.node is not None:
                return value  # type: ignore[no-any-return]
        value = value.raw  # inside vmap, what is tracked outside of it comes as a constant batch
    array = backend.asarray(value, copy=True)  # the pullback may run after the caller has changed it
    if not backend.is_inexact(array.dtype) and not hasattr(value, "dtype"):
        array = array.astype(float)  # a Python integer is meant as a number
    return DiffTensor._wrap(array, leaf(array))


class _Trace:
    """One call of ``fun`` with the leaves of some arguments replaced by fresh variables."""

    def __init__(self, fun: Callable, argnum: Argnum, args: tuple, kwargs: dict, name: str):
        self.name = name
        self.argnums = (argnum,) if isinstance(argnum, int) else tuple(argnum)
        for a in self.argnums:
            if not -len(args) <= a < len(args):
                raise TypeError(
                    f"{name}: argument {a} is to be differentiated, but only {len(args)} positional arguments were given"
                )
        context = current()
        self.outer_records = context is None or context.recording
        with enable_grad() if not self.outer_records else _nothing:
            leaves, self.tree = _flatten(tuple(args[a] for a in self.argnums))
            self.variables = [self._checked(v) for v in leaves]
            inner = list(args)
            for a, value in zip(self.argnums, optree.tree_unflatten(self.tree, self.variables), strict=True):
                inner[a] = value
            self.output = fun(*inner, **kwargs)
        _finish_variables(self.variables)
        self.plain = not any(isinstance(v, DiffTensor) for v in leaves)

    def _checked(self, value: Any) -> DiffTensor:
        try:
            return _variable(value)
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"{self.name}: an argument to differentiate holds {type(value).__name__} {value!r:.60}: {error}"
            ) from None

    def pullback(self, output: Any, seed: Any = None) -> list[Any]:
        """Gradients of one output with respect to the variables; recorded if anything outside is tracked."""
        if not isinstance(output, DiffTensor) or output.node is None:
            return [_zeros(v) for v in self.variables]
        nodes = [v.node for v in self.variables]
        run = BackwardPass((output,), self.variables)
        run.record = run.record or (self.outer_records and _leads_outside(output, nodes, seed))
        found = run.run((seed,))
        return [found[n] if n in found else _zeros(v) for v, n in zip(self.variables, nodes, strict=True)]

    def rebuild(self, gradients: list[Any], argnum: Argnum) -> Any:
        """Gradients in the shape of the arguments; arrays, unless they are recorded or the arguments were tensors."""
        values = [self._finish(g) for g in gradients]
        tree = optree.tree_unflatten(self.tree, values)
        return tree[0] if isinstance(argnum, int) else tree

    def _finish(self, g: Any) -> Any:
        return finish(g, self.plain)


def finish(value: Any, plain: bool) -> Any:
    """A result as users get it: tensors stay tensors if they are tracked, or tensors were passed in, or inside vmap."""
    if isinstance(value, DiffTensor):
        return value.raw if plain and value.node is None and type(value.raw) is not Batch else value
    return value if plain and type(value) is not Batch else DiffTensor._wrap(value, None)


class _Nothing:
    def __enter__(self) -> None: ...
    def __exit__(self, *_exc: object) -> None: ...


_nothing = _Nothing()


def _zeros(variable: DiffTensor) -> Any:
    if variable.raw is None:
        return np.zeros(variable.shape, variable.dtype)
    return variable.raw * 0 if not isinstance(variable.raw, np.ndarray) else np.zeros_like(variable.raw)


_FINISHED: dict[str, Any] = {"finished": True}
"""The params of a variable whose function has returned. A recorded gradient may still refer to it; it is nothing tracked."""


def _finish_variables(variables: Sequence[DiffTensor]) -> None:
    for v in variables:
        if v.node is not None and v.node.row is None:
            v.node.params = _FINISHED


def _leads_outside(output: DiffTensor, variables: list, seed: Any) -> bool:
    """Whether the output, or the cotangent, depends on anything tracked other than the variables themselves."""
    if isinstance(seed, DiffTensor) and seed.node is not None:
        return True
    own, seen, stack_ = set(variables), set(), [output.node]
    while stack_:
        node: Node | None = stack_.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node in own:
            if node.parents:
                return True
            continue
        if node.row is None:
            if node.params is not _FINISHED:
                return True
            continue
        stack_.extend(node.parents)
    return False


def _scalar(output: Any, name: str) -> Any:
    if isinstance(output, complex) or (hasattr(output, "dtype") and backend.is_complex(output.dtype)):
        raise TypeError(
            f"{name}: the function returns a complex number, and only a real one has a gradient; take its real part or its abs, "
            "or use holomorphic_grad"
        )
    if not isinstance(output, DiffTensor):
        if isinstance(output, (int, float, complex)) or (backend.is_array(output) and tuple(output.shape) == ()):
            return output
        raise TypeError(f"{name}: the function must return a scalar, not {type(output).__name__}")
    shape = tuple(output.shape)
    if shape != ():
        if output.size == 1:
            return output.reshape(())  # type: ignore[attr-defined]
        raise TypeError(
            f"{name}: the function must return a scalar, not an array of shape {shape}; reduce it with .sum(), or use jacobian"
        )
    return output


def value_and_grad(fun: Callable, argnum: Argnum = 0, has_aux: bool = False) -> Callable:
    """A function returning ``(fun(...), gradient)``. See ``grad``."""

    @functools.wraps(fun)
    def value_and_gradient(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        trace = _Trace(fun, argnum, args, kwargs, "grad")
        output, aux = trace.output if has_aux else (trace.output, None)
        gradient = trace.rebuild(trace.pullback(_scalar(output, "grad")), argnum)
        value = _outside(output, trace)
        return ((value, _map(lambda a: _outside(a, trace), aux)), gradient) if has_aux else (value, gradient)

    return value_and_gradient


def _outside(value: Any, trace: _Trace) -> Any:
    """A value computed inside, as seen outside: on the outer tape if it depends on one, else a constant."""
    if not isinstance(value, DiffTensor):
        return value
    tracked = (
        value.node is not None
        and trace.outer_records
        and _leads_outside(value, [v.node for v in trace.variables], None)
    )
    return finish(value if tracked or value.raw is None else DiffTensor._wrap(value.raw, None), trace.plain)


def grad(fun: Callable, argnum: Argnum = 0, has_aux: bool = False) -> Callable:
    """A function returning the gradient of the scalar function ``fun`` with respect to argument ``argnum``.

    Args:
        fun: a function of arrays, or trees of arrays, that returns one number (with ``has_aux``: that and anything else).
        argnum: the number of the argument, or several (then the result is a tuple).

    The gradient has the argument's structure, shapes and dtypes. Of complex arguments it is, as in HIPS autograd and
    JAX, ∂f/∂x - i ∂f/∂y for z = x + iy.

    Raises:
        TypeError: the function does not return a real scalar, or the argument holds something other than numbers.
    """
    both = value_and_grad(fun, argnum, has_aux)

    @functools.wraps(fun)
    def gradient(*args: Any, **kwargs: Any) -> Any:
        value, g = both(*args, **kwargs)
        return (g, value[1]) if has_aux else g

    return gradient


def vjp(fun: Callable, *primals: Any) -> tuple[Any, Callable[[Any], tuple]]:
    """``fun(*primals)`` and its pullback: cotangents of the output (in its structure) to a tuple of gradients of the primals."""
    trace = _Trace(fun, tuple(range(len(primals))), primals, {}, "vjp")
    outputs, tree = _flatten(trace.output)

    def pullback(cotangent: Any) -> tuple:
        total: list[Any] | None = None
        for output, seed in zip(outputs, _like(tree, cotangent, "vjp"), strict=True):
            found = trace.pullback(output, seed)
            total = found if total is None else [a + b for a, b in zip(total, found, strict=True)]
        return tuple(trace.rebuild(total or [], trace.argnums))

    return optree.tree_unflatten(tree, [_outside(o, trace) for o in outputs]), pullback


def _like(tree: Any, value: Any, name: str) -> list:
    leaves, given = _flatten(value)
    if given != tree:
        raise TypeError(f"{name}: expected a value of structure {tree}, not {given}")
    return leaves


def jvp(fun: Callable, primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """``fun(*primals)`` and its directional derivative along ``tangents`` (forward mode), in the output's structure.

    ``tangents`` has the structure and shapes of ``primals``.
    """
    primals, tangents = tuple(primals), tuple(tangents)
    trace = _Trace(fun, tuple(range(len(primals))), primals, {}, "jvp")
    directions = _like(trace.tree, tangents, "jvp")
    for v, t in zip(trace.variables, directions, strict=True):
        if shape_of(t) != tuple(v.shape):
            raise ValueError(f"jvp: a tangent of shape {shape_of(t)} for a primal of shape {tuple(v.shape)}")
    outputs, tree = _flatten(trace.output)
    derivatives = [_push(trace, output, directions) for output in outputs]
    return optree.tree_unflatten(tree, [_outside(o, trace) for o in outputs]), optree.tree_unflatten(tree, derivatives)


def _push(trace: _Trace, output: Any, directions: list) -> Any:
    """The Jacobian-vector product of one output: the pullback is linear in its seed, so differentiate it by the seed."""
    if not isinstance(output, DiffTensor) or output.node is None:
        value = output.raw if isinstance(output, DiffTensor) else output
        return finish(value * 0.0, trace.plain)
    nodes = [v.node for v in trace.variables]
    zero = _zeros(output)
    leaf_node = leaf(zero)
    seed = DiffTensor._wrap(zero, leaf_node)
    found = BackwardPass((output,), trace.variables, record=True).run((seed,))
    _finish_variables([seed])
    pulled = [(found[n], d) for n, d in zip(nodes, directions, strict=True) if n in found and found[n].node is not None]
    if not pulled:
        return finish(zero, trace.plain)
    second = BackwardPass([p for p, _ in pulled], [seed])
    outside = trace.outer_records and (
        _leads_outside(output, nodes, None) or any(isinstance(d, DiffTensor) and d.node is not None for _, d in pulled)
    )
    second.record = second.record or outside
    seeds = [d if isinstance(d, DiffTensor) else backend.asarray(d, dtype=None) for _, d in pulled]
    found = second.run(seeds)
    return finish(found.get(leaf_node, zero), trace.plain)


def jacobian(fun: Callable, argnum: int = 0) -> Callable:
    """A function returning the Jacobian of ``fun``, of shape ``output.shape + argument.shape``.

    The argument and the output may be trees: the result has the output's structure, with the argument's inside it.
    The backward passes for the elements of the output are made together, 128 at a time, by ``vmap``.
    """

    @functools.wraps(fun)
    def jacobian_of(*args: Any, **kwargs: Any) -> Any:
        trace = _Trace(fun, argnum, args, kwargs, "jacobian")
        outputs, tree = _flatten(trace.output)
        return optree.tree_unflatten(tree, [_rows(trace, output, argnum) for output in outputs])

    return jacobian_of


def _rows(trace: _Trace, output: Any, argnum: int) -> Any:
    shape = tuple(getattr(output, "shape", ()))
    output = output if isinstance(output, DiffTensor) else DiffTensor(output)
    raw = physical(output.raw)
    n = int(np.prod(shape))
    if not n:
        return trace.rebuild([np.zeros(shape + tuple(v.shape), v.dtype) for v in trace.variables], argnum)
    seeds = np.eye(n, dtype=numpy_dtype(output.dtype)).reshape(n, *shape)
    found: list[list[Any]] = []
    if n < _FEW:
        found = [trace.pullback(output, _of_library(seed, raw)) for seed in seeds]
    else:
        together = batching.mapped(lambda seed: trace.pullback(output, seed), quiet=True)
        found = [together(_of_library(seeds[i : i + _MANY], raw)) for i in range(0, n, _MANY)]
    join = stack if n < _FEW else concat
    columns = [
        reshape(parts[0] if len(parts) == 1 and n >= _FEW else join(parts, axis=0), shape=shape + tuple(v.shape))
        for parts, v in zip(map(list, zip(*found, strict=True)), trace.variables, strict=True)
    ]
    return trace.rebuild(columns, argnum)


def _of_library(array: np.ndarray, like: Any) -> Any:
    library = np if like is None else backend.xp(like)
    return (
        backend.scalar(array)
        if library is np
        else library.asarray(array, device=like.device)
        if library.__name__ != "cupy"
        else library.asarray(array)
    )


def hessian(fun: Callable, argnum: int = 0) -> Callable:
    """A function returning the Hessian, of shape ``output.shape + argument.shape + argument.shape``."""
    return jacobian(jacobian(fun, argnum), argnum)


def hvp(fun: Callable, argnum: int = 0) -> Callable:
    """A function of the arguments of ``fun`` and then a vector, returning the Hessian-vector product.

    The vector has the structure and shapes of argument ``argnum``. Forward over reverse: the cost is a few gradients.
    """
    gradient = grad(fun, argnum)

    @functools.wraps(fun)
    def product(*args: Any, **kwargs: Any) -> Any:
        *args_, vector = args

        def along(x: Any) -> Any:
            return gradient(*args_[:argnum], x, *args_[argnum + 1 :], **kwargs)

        return jvp(along, (args_[argnum],), (vector,))[1]

    return product
