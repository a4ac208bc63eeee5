"""Control flow as functions: ``scan``, ``fori_loop`` and ``cond``.

Python's own loops and conditions work on tensors, and are recorded as they run. These functions say the same thing as a
value: they fit code written for JAX's ``lax``, split and join their arrays once instead of at every step, and ``cond`` also
works where a condition has no single value, inside ``vmap`` and in graphs.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import optree

from . import backend
from .batch import Batch
from .ops.elementwise import logical_not, where
from .ops.layout import reshape, split, stack
from .shapes import shape_of
from .tensor import DiffTensor

_flatten: Callable[[Any], tuple[list[Any], Any]] = optree.tree_flatten  # type: ignore[assignment]


def scan(
    step: Callable, init: Any, xs: Any = None, length: int | None = None, reverse: bool = False
) -> tuple[Any, Any]:
    """A loop that carries a value along: ``carry, y = step(carry, x)`` for each x along the first axis of ``xs``.

    Args:
        step: a function of the carry and of a slice of ``xs`` that returns the next carry, of the same structure, and
            an output (or None).
        init: the first carry, a tree.
        xs: a tree of arrays with one length along their first axis; or None, then ``length`` says how many steps.
        reverse: whether to go from the last to the first; outputs keep their places.

    Returns:
        The last carry, and the outputs stacked along a new first axis.

    The loop is recorded as it runs: a gradient through it keeps what the rules of every step read, so its memory grows with
    the number of steps. Compose with a checkpoint inside ``step`` where that is too much.

    Raises:
        ValueError: lengths that differ, no length, or a step that changes the structure or the shapes of the carry.
    """
    leaves, tree = _flatten(xs)
    lengths = {shape_of(x)[0] if shape_of(x) else None for x in leaves} | ({length} if length is not None else set())
    if len(lengths) != 1 or None in lengths:
        raise ValueError(
            f"scan: the arrays of xs need one length along their first axis, equal to length if that is given, not {lengths}"
            if lengths
            else "scan: give xs, or the number of steps as length"
        )
    n = int(lengths.pop())  # type: ignore[arg-type]
    columns = [_slices(x, n) for x in leaves]
    carry, outputs, out_tree = init, [None] * n, None
    wanted = _aval(init)
    for k in reversed(range(n)) if reverse else range(n):
        result = step(carry, optree.tree_unflatten(tree, [c[k] for c in columns]))
        if not isinstance(result, tuple) or len(result) != 2:
            raise ValueError(f"scan: a step must return a pair (carry, output), not {type(result).__name__}")
        carry, y = result
        if _aval(carry) != wanted:
            raise ValueError(f"scan: step {k} turned a carry of {_told(wanted)} into one of {_told(_aval(carry))}")
        outputs[k], found = _flatten(y)  # type: ignore[call-overload]
        if out_tree not in (None, found):
            raise ValueError(f"scan: the steps return outputs of different structures, {out_tree} and {found}")
        out_tree = found
    if not n:
        raise ValueError("scan: no steps, so the structure of the outputs is not known")
    joined = [stack(list(column), axis=0) for column in zip(*outputs, strict=True)]  # type: ignore[arg-type]
    return carry, optree.tree_unflatten(out_tree, joined)  # type: ignore[arg-type]


def _slices(x: Any, n: int) -> list:
    """The slices along the first axis, cut at once: the gradients are joined at once too."""
    if not n:
        return []
    x = x if hasattr(x, "dtype") else backend.asarray(x)
    return [reshape(part, shape=shape_of(x)[1:]) for part in split(x, sections=n, axis=0)]


def _aval(tree: Any) -> tuple:
    leaves, structure = _flatten(tree)
    return structure, tuple(shape_of(x) for x in leaves)


def _told(aval: tuple) -> str:
    return f"structure {aval[0]} and shapes {aval[1]}"


def fori_loop(lower: int, upper: int, body: Callable, init: Any) -> Any:
    """``value = body(i, value)`` for i from ``lower`` to ``upper`` - 1, starting with ``init``; i is a Python integer.

    Recorded as it runs, as ``scan`` is. The number of steps must be known: for a loop that ends by a condition on values
    use Python's ``while`` (outside of ``vmap``), or ``fixed_point``.

    Raises:
        TypeError: a bound is not an integer. ValueError: the body changes the structure or the shapes of the value.
    """
    bounds = []
    for what, bound in (("lower", lower), ("upper", upper)):
        try:
            bounds.append(bound.__index__())
        except (AttributeError, TypeError) as error:
            raise TypeError(
                f"fori_loop: {what} must be an integer known before the loop runs, not {bound!r}: {error}"
            ) from None
    value, wanted = init, _aval(init)
    for i in range(*bounds):
        value = body(i, value)
        if _aval(value) != wanted:
            raise ValueError(f"fori_loop: step {i} turned a value of {_told(wanted)} into one of {_told(_aval(value))}")
    return value


def cond(condition: Any, on_true: Callable, on_false: Callable, *operands: Any) -> Any:
    """``on_true(*operands)`` if the condition is true, else ``on_false(*operands)``.

    A condition with a value runs one of the branches, as ``if`` does, and only that is recorded.

    A condition without a value of its own, symbolic or different between the examples of ``vmap``, runs *both* branches and
    selects between their results with ``where``. That has limits: both must return the same structure and shapes; both
    must end and raise no error for any operands; and an infinite derivative in the branch that is not taken makes the
    gradient NaN, as with ``where``: keep such operands away from it (``log(where(x > 0, x, 1.0))``).

    Raises:
        TypeError: the condition is not one boolean or number. ValueError: the branches do not return the same structure
        and shapes.
    """
    if shape_of(condition) != ():
        raise TypeError(
            f"cond: the condition must be one boolean, not an array of shape {shape_of(condition)}; use where()"
        )
    raw = condition.raw if isinstance(condition, DiffTensor) else condition
    if not (raw is None or (type(raw) is Batch and raw.mapped)):
        return on_true(*operands) if bool(condition) else on_false(*operands)
    mask = condition if np.dtype(str(condition.dtype).rpartition(".")[2]) == bool else logical_not(condition == 0)
    yes, no = on_true(*operands), on_false(*operands)
    (a, tree), (b, other) = _flatten(yes), _flatten(no)
    if tree != other or [shape_of(x) for x in a] != [shape_of(x) for x in b]:
        raise ValueError(
            f"cond: both branches run here, so they must return the same structure and shapes, not {_told(_aval(yes))} and "
            f"{_told(_aval(no))}"
        )
    return optree.tree_unflatten(tree, [where(mask, x, y) for x, y in zip(a, b, strict=True)])
