"""Checks of ``vmap``: it must be the loop over the examples, in values and in gradients.

``assert_vmap_equals_loop(fun, *args)`` checks a function of yours and needs nothing but NumPy. ``check_batching(name)``
checks the batching rule of a row of the op table, on calls drawn as ``check_row`` draws them, with every choice of mapped
and shared inputs.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import optree

from ..backend import is_array, scalar
from ..batching import vmap
from ..ops import decomposition, inverses
from ..tensor import DiffTensor
from ..transforms import vjp

SIZE = 3  # examples of a row's call


def assert_vmap_equals_loop(
    fun: Callable, *args: Any, in_axes: Sequence[int | None] | int = 0, rtol: float = 1e-9
) -> None:
    """Check that ``vmap(fun, in_axes)(*args)`` is the stack of ``fun`` on each example, and so are the gradients.

    Args:
        fun: a function of arrays (one for each of ``args``) that returns an array or a tree of them.
        in_axes: 0 or None for each argument.
        rtol: the difference allowed, relative to the largest element of each result.

    Gradients are checked in both orders: ``vmap`` of the pullback, and the pullback of ``vmap``.

    Raises:
        AssertionError: naming what differs.
    """
    axes = (in_axes,) * len(args) if isinstance(in_axes, int) else tuple(in_axes)
    size = next(np.shape(a)[0] for a, axis in zip(args, axes, strict=True) if axis is not None)
    examples = [
        tuple(a if axis is None else scalar(np.asarray(a)[k]) for a, axis in zip(args, axes, strict=True))
        for k in range(size)
    ]
    expected = _stacked([_leaves(fun(*example)) for example in examples])
    _compare("values", _leaves(vmap(fun, axes)(*args)), expected, rtol)
    inputs = [i for i, a in enumerate(args) if is_array(a) and np.dtype(a.dtype).kind in "fc"]
    outputs = [k for k, e in enumerate(expected) if e.dtype.kind in "fc"]
    if not inputs or not outputs:
        return

    def pulled(function: Callable, seeds: Any, *given: Any) -> tuple:
        """Gradients of the floating-point inputs, from cotangents of the floating-point outputs."""

        def of(*tracked: Any) -> tuple:
            full = list(given)
            for i, x in zip(inputs, tracked, strict=True):
                full[i] = x
            leaves = _leaves(function(*full))
            return tuple(leaves[k] for k in outputs)

        return vjp(of, *(given[i] for i in inputs))[1](tuple(seeds))  # type: ignore[no-any-return]

    seeds = tuple(_wave(expected[k]) for k in outputs)
    each = _stacked([pulled(fun, (scalar(s[k]) for s in seeds), *example) for k, example in enumerate(examples)])
    found = vmap(lambda s, *given: pulled(fun, s, *given), (0, *axes))(seeds, *args)
    _compare("gradients of each example", found, each, rtol)
    total = [g if axes[i] is not None else g.sum(0) for i, g in zip(inputs, each, strict=True)]
    _compare("gradients of the mapped function", pulled(vmap(fun, axes), seeds, *args), total, rtol)


def _leaves(tree: Any) -> list:
    return optree.tree_leaves(tree)


def _stacked(each: list) -> list[np.ndarray]:
    return [np.stack([np.asarray(_raw(x)) for x in leaf]) for leaf in zip(*each, strict=True)]


def _raw(value: Any) -> Any:
    return value.raw if isinstance(value, DiffTensor) else value


def _compare(what: str, found: Sequence, expected: Sequence, rtol: float) -> None:
    if len(found) != len(expected):
        raise AssertionError(f"{what}: {len(found)} arrays from vmap, {len(expected)} from the loop")
    for i, (a, b) in enumerate(zip(found, expected, strict=True)):
        a = np.asarray(_raw(a))
        if a.shape != b.shape or a.dtype != b.dtype:
            raise AssertionError(f"{what}, {i}: {a.dtype}{a.shape} from vmap, {b.dtype}{b.shape} from the loop")
        scale = np.max(np.abs(b), initial=0.0) if b.dtype.kind in "fc" else 0.0
        same = np.allclose(a, b, rtol=0.0, atol=rtol * scale, equal_nan=True) if scale else np.array_equal(a, b)
        if not same:
            raise AssertionError(f"{what}, {i}: {a!r} from vmap, {b!r} from the loop")


def _wave(like: np.ndarray) -> np.ndarray:
    """Cotangents that are nowhere zero and everywhere different."""
    return (np.cos(np.arange(like.size) * 2.4) + 0.1).astype(like.dtype).reshape(like.shape)


def check_batching(name: str, examples: int = 3) -> None:
    """Check the batching rule of a row of the op table on so many drawn calls.

    Raises:
        AssertionError: with the smallest call found for which ``vmap`` is not the loop.
        LookupError: there is no such row, or it has no strategy (see ``autograd.testing.calls``).
    """
    from .calls import calls
    from .strategies import HealthCheck, given, settings

    quiet = settings(
        max_examples=examples,
        database=None,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )

    def one(call: Any) -> None:
        check_batching_of(call)

    quiet(given(calls(name))(one))()


def check_batching_of(call: Any) -> bool:
    """Check the batching rule on one call, with every choice of mapped and shared inputs; False if no input is an array."""
    arrays = [i for i, a in enumerate(call.inputs) if is_array(a)]
    for chosen in itertools.product([True, False], repeat=len(arrays)):
        mapped = [i for i, c in zip(arrays, chosen, strict=True) if c]
        if mapped:
            _check_call(call, mapped)
    return bool(arrays)


def _check_call(call: Any, mapped: list[int]) -> None:
    args = [_several(a, call) if i in mapped else a for i, a in enumerate(call.inputs)]
    axes = tuple(0 if i in mapped else None for i in range(len(args)))
    try:
        assert_vmap_equals_loop(call.run, *args, in_axes=axes)
    except Exception as error:
        raise AssertionError(f"vmap of row {call.row.name!r} over inputs {mapped}: {error}\n    in {call!r}") from error


def _several(array: Any, call: Any) -> np.ndarray:
    """``SIZE`` examples: an array of a call, and others with the same elements in another order."""
    if call.row.name == "searchsorted" and array is call.inputs[0]:  # a sorted vector stays one
        return np.stack([array + k for k in range(SIZE)])
    matrices = call.row.name in (*decomposition.__all__, *inverses.__all__) and np.ndim(array) > 1
    axes = (-2, -1) if matrices else None  # a symmetric matrix stays one, as does one that its diagonal dominates
    return np.stack([np.roll(array, (k, k) if matrices else k, axes) for k in range(SIZE)])
