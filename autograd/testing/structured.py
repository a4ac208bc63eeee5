"""Strategies of the rows that are not elementwise: layout, indexing, reductions and linear algebra."""

from typing import Any

import numpy as np

from ..backend import scalar
from ..shapes import axes_of, length
from ..table import REALS, Domain, Row
from .calls import exempt, strategy
from .strategies import Draw, arrays, axes, axis, broadcasting, generator, index_expressions, shapes, st


def some(draw: Draw, domain: Domain = REALS, **limits: Any) -> Any:
    """One array."""
    return draw(arrays([draw(shapes(**limits))], domain))[0]


# ---- layout ----


@strategy("astype")
def _astype(draw: Draw, row: Row) -> tuple[tuple, dict]:
    return (some(draw),), {"dtype": draw(st.sampled_from([np.dtype("float64"), "f", float, np.float32, "complex128"]))}


@strategy("to_device")
def _to_device(draw: Draw, row: Row) -> tuple[tuple, dict]:
    return (some(draw),), {"device": "cpu", "source": "cpu"}


exempt(
    "kernel on device",
    "to_device",
    reason="it is the copy between devices; tests/autograd/test_backends.py has its tests",
)


@strategy("reshape")
def _reshape(draw: Draw, row: Row) -> tuple[tuple, dict]:
    x = some(draw)
    kind = draw(st.sampled_from(["flat", "number", "last", "same"]))
    if kind == "number":
        return (x,), {"shape": x.size}
    if kind == "flat":
        return (x,), {"shape": (-1,) if x.size else (0,)}
    shape = draw(st.permutations((*x.shape, 1)))
    if kind == "last" and x.size:
        shape[-1] = -1
    return (x,), {"shape": tuple(shape)}


@strategy("permute")
def _permute(draw: Draw, row: Row) -> tuple[tuple, dict]:
    x = some(draw)
    order = draw(st.none() | st.permutations(range(x.ndim)))
    return (x,), {"axes": None if order is None else tuple(a - x.ndim if draw(st.booleans()) else a for a in order)}


@strategy("sum_to")
def _sum_to(draw: Draw, row: Row) -> tuple[tuple, dict]:
    x, small = _broadcast_pair(draw)
    return (draw(arrays([x]))[0],), {"shape": small}


@strategy("broadcast_to")
def _broadcast_to(draw: Draw, row: Row) -> tuple[tuple, dict]:
    full, small = _broadcast_pair(draw)
    return (draw(arrays([small]))[0],), {"shape": full}


def _broadcast_pair(draw: Draw) -> tuple[tuple, tuple]:
    full, small = draw(broadcasting(2))
    return np.broadcast_shapes(full, small), small


@strategy("squeeze")
def _squeeze(draw: Draw, row: Row) -> tuple[tuple, dict]:
    x = draw(arrays([tuple(draw(st.lists(st.sampled_from([1, 2, 1, 3, 0]), max_size=4)))]))[0]
    ones = [a - x.ndim if draw(st.booleans()) else a for a, n in enumerate(x.shape) if n == 1]
    chosen = draw(st.none() | st.lists(st.sampled_from(ones), unique=True)) if ones else None
    return (x,), {"axis": chosen[0] if chosen and len(chosen) == 1 else chosen if chosen is None else tuple(chosen)}


@strategy("expand_dims")
def _expand_dims(draw: Draw, row: Row) -> tuple[tuple, dict]:
    x = some(draw)
    return (x,), {
        "axis": draw(axis(x.ndim + 1)) if draw(st.booleans()) else draw(st.sampled_from([(0, 1), (0, -1), (-1, -2)]))
    }


@strategy("concat")
def _concat(draw: Draw, row: Row) -> tuple[tuple, dict]:
    shape = draw(shapes(min_ndim=1))
    a = draw(axis(len(shape)))
    lengths = draw(st.lists(st.integers(0, 3), min_size=1, max_size=3))
    return tuple(draw(arrays([(*shape[: a % len(shape)], n, *shape[a % len(shape) + 1 :]) for n in lengths]))), {
        "axis": a
    }


@strategy("stack")
def _stack(draw: Draw, row: Row) -> tuple[tuple, dict]:
    shape = draw(shapes(max_ndim=2))
    return tuple(draw(arrays([shape] * draw(st.integers(1, 3))))), {"axis": draw(axis(len(shape) + 1))}


@strategy("split")
def _split(draw: Draw, row: Row) -> tuple[tuple, dict]:
    x = some(draw, min_ndim=1)
    a = draw(axis(x.ndim))
    n = x.shape[a]
    equal = [k for k in range(1, n + 1) if n % k == 0]
    cuts = st.lists(st.integers(-n - 1, n + 1), max_size=3).map(tuple)
    return (x,), {"sections": draw(st.sampled_from(equal) | cuts if equal else cuts), "axis": a}


@strategy("pad")
def _pad(draw: Draw, row: Row) -> tuple[tuple, dict]:
    x = some(draw, min_ndim=1)
    width = st.integers(0, 2)
    pairs = st.tuples(*[st.tuples(width, width)] * x.ndim)
    return (x,), {"width": draw(width | st.tuples(width, width) | pairs), "value": draw(st.sampled_from([0.0, 1.5]))}


@strategy("flip")
def _flip(draw: Draw, row: Row) -> tuple[tuple, dict]:
    x = some(draw)
    return (x,), {"axis": draw(axes(x.ndim))}


@strategy("roll")
def _roll(draw: Draw, row: Row) -> tuple[tuple, dict]:
    x = some(draw)
    a = draw(axes(x.ndim))
    shift = st.integers(-5, 5)
    return (x,), {"shift": draw(st.tuples(*[shift] * len(a)) if isinstance(a, tuple) else shift), "axis": a}


@strategy("tile")
def _tile(draw: Draw, row: Row) -> tuple[tuple, dict]:
    return (some(draw, max_ndim=2),), {
        "reps": draw(st.integers(0, 3) | st.lists(st.integers(1, 2), max_size=3).map(tuple))
    }


@strategy("repeat")
def _repeat(draw: Draw, row: Row) -> tuple[tuple, dict]:
    x = some(draw)
    return (x,), {"repeats": draw(st.integers(0, 3)), "axis": draw(st.none() | axis(x.ndim)) if x.ndim else None}


@strategy("tril", "triu", "diagonal")
def _triangle(draw: Draw, row: Row) -> tuple[tuple, dict]:
    return (some(draw, min_ndim=2),), {"k": draw(st.integers(-3, 3))}


@strategy("put_diagonal")
def _put_diagonal(draw: Draw, row: Row) -> tuple[tuple, dict]:
    rows, columns = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    k = draw(st.integers(1 - rows, columns - 1))
    n = min(rows - max(-k, 0), columns - max(k, 0))
    return (draw(arrays([(*draw(shapes(max_ndim=1)), n)]))[0],), {"k": k, "shape": (rows, columns)}


# ---- index ----


@strategy("getitem")
def _getitem(draw: Draw, row: Row) -> tuple[tuple, dict]:
    x = some(draw)
    return (x,), {"index": draw(index_expressions(x.shape))}


@strategy("scatter")
def _scatter(draw: Draw, row: Row) -> tuple[tuple, dict]:
    shape = draw(shapes())
    index = draw(index_expressions(shape))
    return tuple(draw(arrays([np.empty(shape)[index].shape]))), {"index": index, "shape": shape}


@strategy("put")
def _put(draw: Draw, row: Row) -> tuple[tuple, dict]:
    shape = draw(shapes())
    index = draw(index_expressions(shape, repeats=False))
    target = np.empty(shape)[index].shape
    values = target[draw(st.integers(0, len(target))) :] if draw(st.booleans()) else target
    return tuple(draw(arrays([shape, values]))), {"index": index}


def _places(draw: Draw, n: int, shape: tuple[int, ...]) -> Any:
    """Integers that name places of an axis of length ``n``, counted from either end."""
    rng = generator(draw)
    return scalar(np.asarray(rng.integers(-n, n, shape) if n else np.zeros(shape, int)))


@strategy("take")
def _take(draw: Draw, row: Row) -> tuple[tuple, dict]:
    x = some(draw, min_ndim=1, min_side=1)
    a = draw(st.none() | axis(x.ndim))
    return (x, _places(draw, x.size if a is None else x.shape[a], draw(shapes(max_ndim=2)))), {"axis": a}


@strategy("index_add")
def _index_add(draw: Draw, row: Row) -> tuple[tuple, dict]:
    shape, places = draw(shapes(min_ndim=1, min_side=1)), draw(shapes(max_ndim=2))
    a = draw(axis(len(shape)))
    k = a % len(shape)
    x = draw(arrays([(*shape[:k], *places, *shape[k + 1 :])]))[0]
    return (x, _places(draw, shape[a], places)), {"axis": a, "shape": shape}


@strategy("take_along_axis")
def _take_along_axis(draw: Draw, row: Row) -> tuple[tuple, dict]:
    x = some(draw, min_ndim=1, min_side=1)
    a = draw(axis(x.ndim))
    k = a % x.ndim
    return (x, _places(draw, x.shape[a], (*x.shape[:k], draw(st.integers(0, 4)), *x.shape[k + 1 :]))), {"axis": a}


@strategy("scatter_along_axis")
def _scatter_along_axis(draw: Draw, row: Row) -> tuple[tuple, dict]:
    x = some(draw, min_ndim=1)
    n = draw(st.integers(1, 4))
    return (x, _places(draw, n, x.shape)), {"axis": draw(axis(x.ndim)), "n": n}


@strategy("sort", "argsort", "softmax", "log_softmax")
def _along(draw: Draw, row: Row) -> tuple[tuple, dict]:
    x = some(draw, min_ndim=1, min_side=0 if row.name in ("sort", "argsort") else 1)
    return (x,), {"axis": draw(axis(x.ndim))}


@strategy("searchsorted")
def _searchsorted(draw: Draw, row: Row) -> tuple[tuple, dict]:
    x, values = draw(arrays([draw(shapes(min_ndim=1, max_ndim=1)), draw(shapes(max_ndim=2))]))
    if np.size(values) and x.size and draw(st.booleans()):  # a value that is there
        values = scalar(np.where(np.arange(np.size(values)).reshape(np.shape(values)) % 2, values, x[0]))
    return (np.sort(x), values), {"side": draw(st.sampled_from(["left", "right"]))}


# ---- reductions ----


@strategy("sum", "prod", "all", "any", "norm", "mean", "max", "min", "logsumexp")
def _reduction(draw: Draw, row: Row) -> tuple[tuple, dict]:
    x, a = _reduced(draw, row, 0 if row.name in ("sum", "prod", "all", "any", "norm") else 1)
    if row.name == "prod" and x.ndim and x.size and draw(st.booleans()):
        x.flat[: draw(st.integers(0, 2))] = 0.0
    return (x,), {"axis": a, "keepdims": draw(st.booleans())}


def _reduced(draw: Draw, row: Row, least: int) -> tuple[Any, Any]:
    """An array and axes of it over which at least so many elements are reduced into one."""
    shape = draw(shapes())
    a = draw(axes(len(shape)))
    if length(shape, a) < least:
        lacking = axes_of(a, len(shape))
        shape = tuple(max(n, least) if i in lacking else n for i, n in enumerate(shape))
    if length(shape, a) < least:  # a number has no axes to lengthen
        shape, a = (least,), None
    return draw(arrays([shape], row.domain[0]))[0], a


@strategy("var", "std")
def _moment(draw: Draw, row: Row) -> tuple[tuple, dict]:
    correction = draw(st.sampled_from([0, 1]))
    x, a = _reduced(draw, row, 1 + correction)
    return (x,), {"axis": a, "keepdims": draw(st.booleans()), "correction": correction}


@strategy("argmax", "argmin")
def _place_of_extremum(draw: Draw, row: Row) -> tuple[tuple, dict]:
    x = some(draw, min_ndim=1, min_side=1)
    return (x,), {"axis": draw(st.none() | axis(x.ndim)), "keepdims": draw(st.booleans())}


@strategy("cumsum", "cumprod")
def _scan(draw: Draw, row: Row) -> tuple[tuple, dict]:
    x = some(draw)
    if row.name == "cumprod" and x.ndim and x.size and draw(st.booleans()):
        x.flat[: draw(st.integers(0, 2))] = 0.0
    return (x,), {"axis": draw(st.none() | axis(x.ndim)) if x.ndim else None}


@strategy("linear_scan")
def _linear_scan(draw: Draw, row: Row) -> tuple[tuple, dict]:
    full, small = draw(shapes(min_ndim=1)), draw(st.integers(0, 15))
    ndim = len(full)
    # each bit of ``small`` makes an axis of one input 1, so that it is broadcast; 0, which is simplest, none
    a = tuple(1 if small >> i & 1 and full[i] else n for i, n in enumerate(full))
    pair = [a[1:] if small & 1 and ndim > 1 else a, full]
    params = {"axis": draw(axis(ndim)), "reverse": draw(st.booleans())}
    return tuple(draw(arrays(pair if draw(st.booleans()) else pair[::-1]))), params


# ---- linear algebra ----


@strategy("matmul")
def _matmul(draw: Draw, row: Row) -> tuple[tuple, dict]:
    m, k, n = (draw(st.sampled_from([2, 3, 1, 2, 3, 2, 1, 3, 2, 0])) for _ in range(3))
    left, right = (shape[-2:] for shape in draw(broadcasting(2)))
    kind = draw(
        st.sampled_from(["batches", "matrices", "vector right", "vector left", "batch left", "batch right", "vectors"])
    )
    a = (k,) if kind in ("vectors", "vector left") else (m, k) if kind in ("matrices", "batch right") else (*left, m, k)
    b = (
        (k,)
        if kind in ("vectors", "vector right")
        else (k, n)
        if kind in ("matrices", "batch left")
        else (*right, k, n)
    )
    return tuple(draw(arrays([a, b]))), {}


@strategy("linear")
def _linear(draw: Draw, row: Row) -> tuple[tuple, dict]:
    lead, k, n = draw(shapes(max_ndim=2)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    return tuple(draw(arrays([(*lead, k), (n, k), (n,)]))), {}


@strategy("outer")
def _outer(draw: Draw, row: Row) -> tuple[tuple, dict]:
    return tuple(draw(arrays([draw(shapes(max_ndim=2)), draw(shapes(max_ndim=2))]))), {}


@strategy("tensordot")
def _tensordot(draw: Draw, row: Row) -> tuple[tuple, dict]:
    shared, left, right = (draw(shapes(max_ndim=2)) for _ in range(3))
    if draw(st.booleans()):
        return tuple(draw(arrays([(*left, *shared), (*shared, *right)]))), {"axes": len(shared)}
    first = draw(st.permutations(range(len(left) + len(shared))))[: len(shared)]
    second = draw(st.permutations(range(len(right) + len(shared))))[: len(shared)]
    x, y = iter(left), iter(right)
    a = tuple(shared[first.index(i)] if i in first else next(x) for i in range(len(left) + len(shared)))
    b = tuple(shared[second.index(i)] if i in second else next(y) for i in range(len(right) + len(shared)))
    signed = tuple(i - len(a) if draw(st.booleans()) else i for i in first)
    return tuple(draw(arrays([a, b]))), {"axes": (signed, tuple(second))}


@strategy("einsum")
def _einsum(draw: Draw, row: Row) -> tuple[tuple, dict]:
    lengths = {c: draw(st.sampled_from([2, 3, 1])) for c in "abcd"}
    terms = [
        "".join(draw(st.lists(st.sampled_from("abcd"), max_size=3, unique=True)))
        for _ in range(draw(st.integers(1, 3)))
    ]
    output = "".join(c for c in draw(st.permutations(sorted(set("".join(terms))))) if draw(st.booleans()))
    return tuple(draw(arrays([tuple(lengths[c] for c in t) for t in terms]))), {
        "subscripts": ",".join(terms) + "->" + output
    }
