"""The rows that only move, pick or compare for ``accuracy``: their values and gradients must be right to the last bit.

A row that moves is first run on labels, the numbers 1, 2, 3, ...: the output says which element went where, and 0 where a
constant came in. Then it is run on hard numbers (subnormal, huge, -0.0, infinite), which must arrive unchanged, bit by bit;
and the gradient of each element must be the sum of what the places of its label are given, which are integers, so that sums
are exact. Rows of booleans and integers are compared with Python's operators on all combinations.
"""

import bisect
import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from accuracy_libraries import ours

Shapes = tuple[tuple[int, ...], ...]
PLACES = np.array([[2, 0], [1, -1]])
WINDOW: dict[str, Any] = {"kernel": (2,), "stride": (2,), "padding": ((0, 0),)}

MOVES: dict[str, tuple[tuple, dict[str, Any]]] = {
    "astype": (((3, 2),), {"dtype": float}),
    "to_device": (((3,),), {"device": "cpu", "source": "cpu"}),
    "real": (((3,),), {}),
    "conj": (((3,),), {}),
    "reshape": (((3, 4),), {"shape": (2, 6)}),
    "permute": (((2, 3, 4),), {"axes": (2, 0, 1)}),
    "broadcast_to": (((3, 1),), {"shape": (2, 3, 4)}),
    "squeeze": (((3, 1),), {"axis": 1}),
    "expand_dims": (((3,),), {"axis": 0}),
    "concat": (((2, 3), (2, 1)), {"axis": 1}),
    "stack": (((3,), (3,)), {"axis": 1}),
    "split": (((6, 2),), {"sections": 3, "axis": 0}),
    "pad": (((3,),), {"width": 2, "value": 0.0}),
    "flip": (((3, 2),), {"axis": 0}),
    "roll": (((5,),), {"shift": 2, "axis": 0}),
    "tile": (((3,),), {"reps": (2, 2)}),
    "repeat": (((3, 2),), {"repeats": 3, "axis": 0}),
    "tril": (((4, 4),), {"k": 0}),
    "triu": (((4, 4),), {"k": 1}),
    "diagonal": (((4, 4),), {"k": 1}),
    "put_diagonal": (((3,),), {"k": 0, "shape": (3, 3)}),
    "getitem": (((4, 3),), {"index": (slice(None, None, -2), np.array([2, 0, 0]))}),
    "scatter": (((3,),), {"index": np.array([4, 0, 2]), "shape": (6,)}),
    "put": (((5,), (2,)), {"index": np.array([3, 1])}),
    "take": (((4, 3), PLACES), {"axis": 0}),
    "index_add": (((4, 3), np.array([2, 0, 5, 3])), {"axis": 0, "shape": (6, 3)}),
    "take_along_axis": (((3, 2), PLACES), {"axis": 0}),
    "scatter_along_axis": (((2, 2), np.array([[2, 0], [1, 3]])), {"axis": 0, "n": 4}),
    "where": ((np.array([True, False, True]), (3,), (3,)), {}),
    "dropout_mask": (((4,), np.array([True, False, True, True])), {"scale": 1.0}),
    "share": (((3,), np.array([3.0, 1.0, 5.0]), np.array([2.0, 4.0, 1.0])), {}),
    "sort": (((7,),), {"axis": 0}),
    "max_pool": (((1, 2, 6),), WINDOW),
    "place_window": (((1, 2, 3), np.array([[[1, 0, 1], [0, 0, 1]]])), {**WINDOW, "size": (6,)}),
    "pick_window": (((1, 2, 6), np.array([[[1, 0, 1], [0, 0, 1]]])), WINDOW),
    "stop_gradient": (((3,),), {}),
}  # fmt: skip

ADDS = (
    "scatter",
    "scatter_along_axis",
    "index_add",
    "place_window",
)  # what meets in a place is added, so -0.0 becomes 0.0
_BITS = np.array([False, True])
_A, _B = (x.ravel() for x in np.meshgrid(_BITS, _BITS))
_M, _N = (x.ravel() for x in np.meshgrid(*[np.array([-9, -1, 0, 1, 6, 2**40])] * 2))
_HARD = lambda dtype: np.array(
    [0.0, -0.0, 1.5, np.finfo(dtype).max, np.finfo(dtype).smallest_subnormal, np.inf, -np.inf, np.nan], dtype
)
_S, _T = (x.ravel() for x in np.meshgrid(np.array([-9, -1, 0, 1, 6]), np.array([0, 1, 5])))
_STEPS = lambda dtype: (_HARD(dtype)[:6], np.array([1.0, -1.0, 1.5, 0.0, 0.0, 0.0], dtype))
_SORTED, _SOUGHT = np.array([-1.0, 0.5, 0.5, 3.0]), np.array([-2.0, -1.0, 0.5, 1.0, 3.0, 4.0])
_TIED = np.array([[3.0, 1.0, 3.0, -2.0], [0.5, 7.0, 6.0, 7.0]])


def _next(x: Any, y: Any, dtype: np.dtype) -> float:
    """The float beside x on the way to y, by counting bit patterns."""
    if x == y or x != x:
        return float(y)
    if x == 0:
        return math.copysign(float(np.finfo(dtype).smallest_subnormal), y)
    word = np.dtype(f"i{dtype.itemsize}")
    step = 1 if (y > x) == (x > 0) else -1  # away from zero, or towards it
    return float((np.array(x, dtype).view(word) + word.type(step)).view(dtype))


TESTS: dict[str, Callable[[Any, np.dtype], tuple[Any, Any]]] = {
    "logical_and": lambda f, d: (f(_A, _B), [a and b for a, b in zip(_A, _B, strict=True)]),
    "logical_or": lambda f, d: (f(_A, _B), [a or b for a, b in zip(_A, _B, strict=True)]),
    "logical_xor": lambda f, d: (f(_A, _B), [a != b for a, b in zip(_A, _B, strict=True)]),
    "logical_not": lambda f, d: (f(_A), [not a for a in _A]),
    "bitwise_and": lambda f, d: (f(_M, _N), [operator.and_(int(m), int(n)) for m, n in zip(_M, _N, strict=True)]),
    "bitwise_or": lambda f, d: (f(_M, _N), [operator.or_(int(m), int(n)) for m, n in zip(_M, _N, strict=True)]),
    "bitwise_xor": lambda f, d: (f(_M, _N), [operator.xor(int(m), int(n)) for m, n in zip(_M, _N, strict=True)]),
    "bitwise_invert": lambda f, d: (f(_M), [~int(m) for m in _M]),
    "bitwise_left_shift": lambda f, d: (f(_S, _T), [int(m) << int(n) for m, n in zip(_S, _T, strict=True)]),
    "bitwise_right_shift": lambda f, d: (f(_S, _T), [int(m) >> int(n) for m, n in zip(_S, _T, strict=True)]),
    "signbit": lambda f, d: (f(_HARD(d)[:7]), [math.copysign(1.0, x) < 0 for x in _HARD(d)[:7].tolist()]),
    "nextafter": lambda f, d: (f(*_STEPS(d)), [_next(x, y, d) for x, y in zip(*_STEPS(d), strict=True)]),
    "searchsorted": lambda f, d: (f(_SORTED.astype(d), _SOUGHT.astype(d), side="right"), [bisect.bisect_right(_SORTED.tolist(), v) for v in _SOUGHT.tolist()]),
    "isnan": lambda f, d: (f(_HARD(d)), [x != x for x in _HARD(d).tolist()]),
    "isinf": lambda f, d: (f(_HARD(d)), [abs(x) == float("inf") for x in _HARD(d).tolist()]),
    "isfinite": lambda f, d: (f(_HARD(d)), [abs(x) < float("inf") for x in _HARD(d).tolist()]),
    "imag": lambda f, d: (f(_HARD(d)[:5]), [0.0] * 5),
    "argmax": lambda f, d: (f(_TIED.astype(d), axis=1), [max(range(4), key=lambda i, r=r: (r[i], -i)) for r in _TIED.tolist()]),
    "argmin": lambda f, d: (f(_TIED.astype(d), axis=1), [min(range(4), key=lambda i, r=r: (r[i], i)) for r in _TIED.tolist()]),
    "argsort": lambda f, d: (f(_TIED.astype(d), axis=1), [sorted(range(4), key=lambda i, r=r: (r[i], i)) for r in _TIED.tolist()]),
    "all": lambda f, d: (f(_A.reshape(2, 2), axis=1), [all(r) for r in _A.reshape(2, 2).tolist()]),
    "any": lambda f, d: (f(_A.reshape(2, 2), axis=0), [any(c) for c in _A.reshape(2, 2).T.tolist()]),
}  # fmt: skip
"""For each row of booleans or integers: what it returns, and what Python's own operators say."""


def moves_exactly(row: Any, dtype: np.dtype) -> tuple[bool, bool | None]:
    """Whether a row of ``MOVES`` is right to the last bit in its values and (None: it has none) in its gradients."""
    given, params = MOVES[row.name]
    params = {k: dtype if v is float else v for k, v in params.items()}
    info, start, labels = np.finfo(dtype), 1, []
    for a in given:
        if isinstance(a, tuple):
            labels.append(np.arange(start, start + np.prod(a, dtype=int)).reshape(a).astype(dtype))
            start += labels[-1].size
    tracked = [
        i for i, a in enumerate(given) if isinstance(a, tuple) and (row.vjps[0] if row.variadic else row.vjps[i])
    ]
    kept = slice(1) if row.name == "max_pool" else slice(None)  # its second output are places
    seeds: list[np.ndarray] = []

    def run(values: list, wanted: list[int]) -> Any:
        left = iter(values)
        parts = [next(left) if isinstance(a, tuple) else a.astype(dtype) if a.dtype.kind == "f" else a for a in given]

        def cotangents(outputs: list) -> list:
            seeds[:] = [np.arange(3, 3 + v.size).reshape(v.shape).astype(dtype) for v in outputs[kept]]
            return [*seeds, *([None] * (len(outputs) - len(seeds)))]

        return ours(row, params)(parts, wanted, cotangents)

    where = np.concatenate([v.ravel() for v in run(labels, [])[0][kept]]).astype(int)
    hard = np.array(
        [info.smallest_subnormal, -info.tiny / 2, -0.0, info.max, 1 / 3, -info.max, np.pi, np.inf, -1e-30], dtype
    )
    table = np.concatenate([[0], np.resize(hard, start - 1)]).astype(dtype)
    if row.name in ("sort", "max_pool"):  # what goes where depends on the values
        table = np.concatenate([[0], np.sort(np.arange(start - 1) * 0.37 - 1).astype(dtype)]).astype(dtype)
    moved, grads = run([table[x.astype(int)] for x in labels], tracked)
    got, wanted = np.concatenate([v.ravel() for v in moved[kept]]), table[where]
    if row.name in ADDS:
        got, wanted = got + 0.0, wanted + 0.0
    bits = f"i{dtype.itemsize}"
    values_right = got.dtype == dtype and bool(np.array_equal(got.view(bits), wanted.view(bits)))
    if not tracked or grads is None:
        return values_right, None
    given_back = np.bincount(where, np.concatenate([s.ravel() for s in seeds]), start)
    right = all(np.array_equal(g, given_back[labels[k].astype(int)]) for k, g in enumerate(grads))
    return values_right, right


def compares_exactly(row: Any, dtype: np.dtype) -> bool:
    """Whether a row of ``TESTS`` agrees with Python."""
    with np.errstate(all="ignore"):
        found, expected = TESTS[row.name](row.apply, dtype)
    return bool(np.array_equal(np.asarray(found), np.asarray(expected)))
