"""Terms: lazy arrays, in which operations of the table are expressed by a few primitive ones.

A ``Term`` is an array of the graph that is not computed. Because it is an array class with a namespace, the rows' own kernels,
written once for any array library, run on terms too, and what they leave behind is their decomposition: ``softmax`` becomes a
maximum, an exponential, a sum and a division, without a word here about softmax. Only rows that are worth more than their
decomposition (products of matrices, convolutions), or whose kernel looks at values, have an entry in ``lowering``.

A term's ``op`` is one of

* an elementwise function (see ``maths``) of arguments that are broadcast;
* ``buffer``, an array in memory, and ``number``, a Python number;
* ``add``, ``multiply``, ``maximum`` or ``minimum`` *reduced* (``reduce``) over axes, which stay, with length 1;
* a view: ``permute``, ``stretch`` (broadcast), ``reshape``, ``slice``, ``at`` (one element along an axis, chosen by an integer term);
* ``iota``, the index along an axis;
* ``join``: arguments side by side along an axis; and ``call``: what a step of its own computes (see ``lowering``).
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


class Unlowered(AttributeError, TypeError):
    """What cannot be expressed in terms: the operation is then done by its kernel for NumPy."""


NUMBERS = (bool, int, float)
DTYPES = frozenset(map(np.dtype, ("bool", "uint8", "int32", "int64", "float32", "float64")))
"""Those of arrays that programs are generated for."""


class Term:
    """One lazy array. Equal terms of a program are one object: they are made by ``term``, in the pool of their arguments."""

    __slots__ = ("args", "attrs", "dtype", "op", "pool", "shape")

    def __init__(self, op: str, args: tuple["Term", ...], shape: tuple[int, ...], dtype: Any, attrs: tuple, pool: dict):
        self.op, self.args, self.shape, self.dtype, self.attrs, self.pool = op, args, shape, dtype, attrs, pool

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    def __repr__(self) -> str:
        return f"<{self.op} {self.dtype}{self.shape}{' ' + repr(self.attrs) if self.attrs else ''}>"

    def __bool__(self) -> bool:
        raise Unlowered("a term has no value yet")

    __int__ = __float__ = __index__ = __len__ = __iter__ = __array__ = __bool__  # type: ignore[assignment]
    __hash__ = object.__hash__
    __array_ufunc__ = None  # NumPy's numbers leave it to the methods below

    def __add__(self, y: Any) -> "Term":
        return elementwise("add", self, y)

    def __radd__(self, y: Any) -> "Term":
        return elementwise("add", y, self)

    def __sub__(self, y: Any) -> "Term":
        return elementwise("subtract", self, y)

    def __rsub__(self, y: Any) -> "Term":
        return elementwise("subtract", y, self)

    def __mul__(self, y: Any) -> "Term":
        return elementwise("multiply", self, y)

    def __rmul__(self, y: Any) -> "Term":
        return elementwise("multiply", y, self)

    def __truediv__(self, y: Any) -> "Term":
        return divide(self, y)

    def __rtruediv__(self, y: Any) -> "Term":
        return divide(y, self)

    def __pow__(self, y: Any) -> "Term":
        return power(self, y)

    def __neg__(self) -> "Term":
        return elementwise("negative", self)

    def __pos__(self) -> "Term":
        return self

    def __abs__(self) -> "Term":
        return elementwise("abs", self)

    def __lt__(self, y: Any) -> "Term":
        return compare("less", self, y)

    def __le__(self, y: Any) -> "Term":
        return compare("less_equal", self, y)

    def __gt__(self, y: Any) -> "Term":
        return compare("greater", self, y)

    def __ge__(self, y: Any) -> "Term":
        return compare("greater_equal", self, y)

    def __eq__(self, y: Any) -> "Term":  # type: ignore[override]
        return compare("equal", self, y)

    def __ne__(self, y: Any) -> "Term":  # type: ignore[override]
        return compare("not_equal", self, y)

    def __and__(self, y: Any) -> "Term":
        return logical("and", self, y)

    def __or__(self, y: Any) -> "Term":
        return logical("or", self, y)

    def __xor__(self, y: Any) -> "Term":
        return logical("xor", self, y)

    def __invert__(self) -> "Term":
        return logical("xor", self, True)

    def __getitem__(self, index: Any) -> "Term":
        return getitem(self, index)


def term(pool: dict, op: str, args: Sequence[Term], shape: Sequence[int], dtype: Any, attrs: tuple = ()) -> Term:
    """The term with these parts."""
    dtype = np.dtype(dtype)
    if dtype not in DTYPES:
        raise Unlowered(f"no programs are generated for {dtype}")
    key = (op, tuple(map(id, args)), tuple(shape), dtype, attrs)
    found = pool.get(key)
    if found is None:
        found = pool[key] = Term(op, tuple(args), tuple(shape), dtype, attrs, pool)
    return found


def number(pool: dict, value: Any, dtype: Any) -> Term:
    """A number as a term of no axes, in the dtype of what it meets."""
    value = np.dtype(dtype).type(value)
    return term(pool, "number", (), (), dtype, (value.tobytes(), value.item()))


# ---- elementwise ----


def _operands(*values: Any) -> tuple[list[Term], Any]:
    """The arguments as terms, and the dtype of what they are together (Python's numbers do not widen it)."""
    pool = next(v.pool for v in values if isinstance(v, Term))
    for v in values:
        if not isinstance(v, (Term, np.generic, *NUMBERS)) and not (isinstance(v, np.ndarray) and v.ndim == 0):
            raise Unlowered(f"a {type(v).__name__} among terms")
    dtype = np.result_type(*(v.dtype if hasattr(v, "dtype") else v for v in values))
    return [v if isinstance(v, Term) else number(pool, v, getattr(v, "dtype", dtype)) for v in values], dtype


def _apply(name: str, args: Sequence[Term], dtype: Any) -> Term:
    return term(args[0].pool, name, args, np.broadcast_shapes(*(a.shape for a in args)), dtype)


def cast(x: Term, dtype: Any) -> Term:
    dtype = np.dtype(dtype)
    if x.dtype == dtype:
        return x
    if x.op == "number":
        return number(x.pool, x.attrs[1], dtype)
    return term(x.pool, "cast", (x,), x.shape, dtype)


def elementwise(name: str, *values: Any) -> Term:
    """A function whose result has the arguments' common dtype."""
    args, dtype = _operands(*values)
    if dtype.kind == "b":
        raise Unlowered(f"{name} of truth values")
    return _apply(name, [cast(a, dtype) for a in args], dtype)


def floating(name: str, x: Term) -> Term:
    """A function of floating-point numbers."""
    if x.dtype.kind != "f":
        raise Unlowered(f"{name} of {x.dtype}")
    return _apply(name, [x], x.dtype)


def divide(x: Any, y: Any) -> Term:
    args, dtype = _operands(x, y)
    if dtype.kind != "f":
        raise Unlowered(f"a division of {dtype}")
    return _apply("divide", [cast(a, dtype) for a in args], dtype)


def compare(name: str, x: Any, y: Any) -> Term:
    args, dtype = _operands(x, y)
    return _apply(name, [cast(a, dtype) for a in args], np.bool)


def logical(name: str, x: Any, y: Any) -> Term:
    args, dtype = _operands(x, y)
    if dtype.kind != "b":
        raise Unlowered(f"bitwise {name} of {dtype}")
    return _apply(name, args, dtype)


def where(condition: Any, x: Any, y: Any) -> Term:
    if not isinstance(condition, Term):
        raise Unlowered("a condition that is no term")
    if not isinstance(x, Term) and not isinstance(y, Term):
        args, dtype = _operands(condition, x, y)
        args, dtype = args[1:], np.result_type(*(v.dtype if hasattr(v, "dtype") else v for v in (x, y)))
    else:
        args, dtype = _operands(x, y)
    if condition.dtype.kind != "b":
        condition = condition != 0
    return _apply("where", [condition, *(cast(a, dtype) for a in args)], dtype)


def power(x: Any, y: Any) -> Term:
    """Powers with the constant exponents that are quicker without a logarithm; the others by their kernel for NumPy."""
    if not isinstance(x, Term) or x.dtype.kind != "f":
        raise Unlowered("power with such a base")
    exponent = y if isinstance(y, NUMBERS) else y.attrs[1] if isinstance(y, Term) and y.op == "number" else None
    known: dict[Any, Callable[[], Term]] = {
        0.5: lambda: floating("sqrt", x), 1: lambda: x, 2: lambda: x * x, 3: lambda: x * x * x, -1: lambda: 1.0 / x,
        -0.5: lambda: 1.0 / floating("sqrt", x), 4: lambda: (x * x) * (x * x),
    }  # fmt: skip
    if exponent not in known or (isinstance(y, Term) and y.dtype != x.dtype):
        raise Unlowered(f"power {exponent}")
    return known[exponent]()


# ---- reductions ----


def axes_of(axis: Any, ndim: int) -> tuple[int, ...]:
    if axis is None:
        return tuple(range(ndim))
    return tuple(sorted({a % ndim for a in (axis if isinstance(axis, (tuple, list)) else (axis,))}))


def reduce(kind: str, x: Term, axis: Any, keepdims: bool) -> Term:
    """A reduction over axes."""
    axes = axes_of(axis, x.ndim)
    if x.size == 0 or x.dtype.kind not in "fi":
        raise Unlowered(f"a reduction of {x.dtype}{x.shape}")
    kept = tuple(1 if a in axes else n for a, n in enumerate(x.shape))
    axes = tuple(a for a in axes if x.shape[a] != 1)
    found = term(x.pool, "reduce", (x,), kept, x.dtype, (kind, axes)) if axes else x
    return (
        found if keepdims else reshape(found, tuple(n for a, n in enumerate(x.shape) if a not in axes_of(axis, x.ndim)))
    )


# ---- views ----


def reshape(x: Term, shape: Any, copy: Any = None) -> Term:
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    if -1 in shape:
        known = -math.prod(shape)
        shape = tuple(x.size // known if n == -1 else n for n in shape)
    if x.op == "reshape":
        (x,) = x.args
    return x if shape == x.shape else term(x.pool, "reshape", (x,), shape, x.dtype)


def permute(x: Term, axes: Any) -> Term:
    axes = tuple(a % x.ndim for a in axes)
    if axes == tuple(range(x.ndim)):
        return x
    if x.op == "permute":
        return permute(x.args[0], tuple(x.attrs[a] for a in axes))
    return term(x.pool, "permute", (x,), tuple(x.shape[a] for a in axes), x.dtype, axes)


def stretch(x: Term, shape: Any) -> Term:
    """x broadcast to a shape."""
    shape = tuple(shape)
    if x.op == "stretch":
        (x,) = x.args
    return x if shape == x.shape else term(x.pool, "stretch", (x,), shape, x.dtype)


def expand_dims(x: Term, axis: Any) -> Term:
    axes = axis if isinstance(axis, (tuple, list)) else (axis,)
    places = {a % (x.ndim + len(axes)) for a in axes}
    rest = iter(x.shape)
    return reshape(x, tuple(1 if i in places else next(rest) for i in range(x.ndim + len(axes))))


def squeeze(x: Term, axis: Any = None) -> Term:
    axes = axes_of(axis, x.ndim) if axis is not None else tuple(a for a, n in enumerate(x.shape) if n == 1)
    return reshape(x, tuple(n for a, n in enumerate(x.shape) if a not in axes))


def getitem(x: Term, index: Any) -> Term:
    """Basic indexing: numbers, slices, None and an ellipsis."""
    parts = list(index) if isinstance(index, tuple) else [index]
    for p in parts:
        if not (
            p is None
            or p is Ellipsis
            or isinstance(p, slice)
            or (isinstance(p, (int, np.integer)) and not isinstance(p, bool))
        ):
            raise Unlowered(f"an index of {type(p).__name__}")
    used = sum(p is not None and p is not Ellipsis for p in parts)
    if Ellipsis in parts:
        at = parts.index(Ellipsis)
        parts[at : at + 1] = [slice(None)] * (x.ndim - used)
    else:
        parts += [slice(None)] * (x.ndim - used)
    cuts, sizes, shape, axis = [], [], [], 0
    for p in parts:
        if p is None:
            shape.append(1)
            continue
        n = x.shape[axis]
        axis += 1
        if isinstance(p, slice):
            start, stop, step = p.indices(n)
            length = len(range(start, stop, step))
            cuts.append((start, step))
            sizes.append(length)
            shape.append(length)
        else:
            cuts.append((int(p) % n, 1))
            sizes.append(1)
    found = x
    if any(c != (0, 1) for c in cuts) or tuple(sizes) != x.shape:
        found = term(x.pool, "slice", (x,), sizes, x.dtype, tuple(cuts))
    return reshape(found, shape)


def flip(x: Term, axis: Any = None) -> Term:
    axes = axes_of(axis, x.ndim)
    return getitem(x, tuple(slice(None, None, -1) if a in axes else slice(None) for a in range(x.ndim)))


def iota(x: Term, axis: int, ndim: int, n: int) -> Term:
    """The index 0, 1, … along one axis, of length 1 along the others."""
    return term(x.pool, "iota", (), tuple(n if a == axis else 1 for a in range(ndim)), np.int64, (axis,))


def take_along_axis(x: Term, index: Term, axis: int = -1) -> Term:
    axis %= x.ndim
    if index.shape[axis] != 1 or index.ndim != x.ndim:
        raise Unlowered("take_along_axis of several elements")
    shape = np.broadcast_shapes(index.shape, tuple(1 if a == axis else n for a, n in enumerate(x.shape)))
    return term(x.pool, "at", (x, index), shape, x.dtype, (axis,))


def concat(xs: Any, axis: Any = 0) -> Term:
    xs = list(xs)
    axis %= xs[0].ndim
    dtype = np.result_type(*(x.dtype for x in xs))
    xs = [cast(x, dtype) for x in xs]
    shape = list(xs[0].shape)
    shape[axis] = sum(x.shape[axis] for x in xs)
    return xs[0] if len(xs) == 1 else term(xs[0].pool, "join", xs, shape, dtype, (axis,))


def stack(xs: Any, axis: int = 0) -> Term:
    xs = list(xs)
    axis %= xs[0].ndim + 1
    return concat([expand_dims(x, axis) for x in xs], axis)


def roll(x: Term, shift: Any, axis: Any = None) -> Term:
    """x with its elements moved in a circle."""
    if axis is None or not isinstance(shift, int):
        raise Unlowered("roll of several axes")
    axis, n = axis % x.ndim, x.shape[axis % x.ndim]
    k = shift % n if n else 0
    at = (slice(None),) * axis
    return concat([x[(*at, slice(n - k, None))], x[(*at, slice(0, n - k))]], axis) if k else x


def pad(x: Term, pairs: Sequence[tuple[int, int]], value: float) -> Term:
    """x with a border of a number."""
    for axis, (before, after) in enumerate(pairs):
        parts = [x]
        for n, place in ((before, 0), (after, len(parts) + (before > 0))):
            if n:
                shape = (*x.shape[:axis], n, *x.shape[axis + 1 :])
                parts.insert(place, stretch(number(x.pool, value, x.dtype), shape))
        x = concat(parts, axis)
    return x
