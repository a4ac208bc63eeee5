"""How random programs are drawn: calls of rows, whose inputs are made from the values that are there already.

A step begins as a call of a row, drawn by the row's own strategy, so that its parameters and shapes fit and its inputs lie
in its domain. Then each input is replaced, or left as a new leaf. A value stands in for it after it has been brought to the
shape (``reshape``, ``broadcast_to`` or ``take``) and into the domain, in the cheapest of three ways: as it is, if all its
elements are there; squeezed into the domain by a sigmoid; or, where the domain is more than bounds on elements (a regular
matrix, numbers without ties), as a small change of the drawn input, ``drawn + 0.03 tanh(value)``. So every row of the table
takes part, and a program is differentiable where it is drawn.

Values are computed as they are drawn; a step that is not finite, or large, is dropped.
"""

import itertools
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from ..backend import is_array, scalar
from ..table import OPS, Domain, Row
from ..tensor import DiffTensor
from .calls import Call, calls
from .programs import TRANSFORMS, Name, Program, Rows, Step, inexact, waves
from .strategies import Draw, generator, shapes, st

MAX_SIZE, MAX_VALUE = 96, 1e4
CHANGE = 0.03  # how far a drawn input is changed by a value, where it must stay regular

SHAPED = frozenset(
    ("adjugate", "cholesky", "det", "eig", "eigh", "inv", "pinv", "qr", "slogdet", "solve", "solve_triangular", "svd")
)
ORDERED = frozenset(
    ("argmax", "argmin", "argsort", "max", "max_pool", "maximum", "min", "minimum", "norm", "sort", "std", "share")
)
"""Rows whose domain is more than bounds on elements: regular matrices; numbers without ties, not all equal."""
SIGNS = {"qr": ("abs", "abs"), "svd": ("abs", None, "abs"), "eigh": (None, "abs"), "eig": ("real", "abs")}
"""What is taken of outputs that are determined up to a sign or a phase."""
ENTIRE = frozenset(
    ("add", "subtract", "multiply", "negative", "positive", "square", "exp", "sin", "cos", "sinh", "cosh", "conj",
     "matmul", "outer", "tensordot", "linear", "sum", "mean", "cumsum", "fftn", "ifftn", "reshape", "permute", "flip", "roll",
     "concat", "stack", "pad", "tile", "repeat", "tril", "triu", "diagonal", "getitem", "take", "expand_dims", "real", "imag")
)  # fmt: skip
"""Rows that are given complex values as they are: linear ones and those without branch cuts."""


@st.composite
def programs(
    draw: Draw, *, rows: Collection[str] | None = None, transforms: Collection[str] = TRANSFORMS, min_steps: int = 3,
    max_steps: int = 12, empty: bool = True, depth: int = 2,
) -> Program:  # fmt: skip
    """Random programs over the op table.

    Args:
        rows: the rows that steps apply (rows that bring values into shape and domain come on top); all by default.
        transforms: the transforms that steps apply, of ``TRANSFORMS``; () for none.
        min_steps, max_steps: how many steps are drawn, not counting those that bring values into shape and domain.
        empty: whether arrays of no elements may occur.
        depth: how deeply transforms nest.

    Leaves are float64 (see ``Program.astype``), outputs floating-point, integer or boolean, at least one of them
    floating-point; a program is differentiable where its leaves are.
    """
    unknown = [*({*(rows or ())} - {*OPS}), *({*transforms} - {*TRANSFORMS})]
    if unknown:
        raise LookupError(f"programs: there are no rows or transforms {', '.join(map(repr, unknown))}")
    names = sorted(OPS if rows is None else rows)
    builder = _Builder(draw, names, [t for t in TRANSFORMS if t in transforms], empty, depth, itertools.count())
    builder.grow(draw(st.integers(min_steps, max_steps)))
    builder.ensure_inexact()
    return builder.program()


class _Builder:
    """A program in the making: leaves, steps, and the values of all names."""

    def __init__(self, draw: Draw, rows: list[str], transforms: list[str], empty: bool, depth: int, counter: Any):
        self.draw, self.rows, self.transforms, self.empty, self.depth = draw, rows, transforms, empty, depth
        self.counter, self.library = counter, Rows()
        self.leaves: dict[str, Any] = {}
        self.steps: list[Step] = []
        self.values: dict[str, Any] = {}

    # ---- growing ----

    def grow(self, count: int) -> None:
        for _ in range(count):
            before = dict(self.leaves), list(self.steps), dict(self.values)
            apply_transform = self.transforms and self.depth > 0 and self.draw(st.integers(0, 7)) == 7
            if not (self._transform() if apply_transform else self._row()):
                self.leaves, self.steps, self.values = before

    def ensure_inexact(self) -> None:
        """See to it that there is something to differentiate, and something to differentiate by."""
        if not self.leaves:
            self._leaf(np.array([0.7, -1.3]))
        used = {x for s in self.steps for x in s.inputs if isinstance(x, Name)}
        if not any(v.dtype.kind in "fc" for n, v in self.values.items() if n not in used):
            self._emit("sin", (Name(next(iter(self.leaves))),))

    def program(self, outputs: Sequence[str] | None = None) -> Program:
        """The program whose outputs are the values that no step uses; complex ones as real and imaginary parts."""
        if outputs is None:
            used = {x for s in self.steps for x in s.inputs if isinstance(x, Name)}
            found: list[str] = []
            for name in [n for n in self.values if n not in used]:
                parts = ("real", "imag") if self.values[name].dtype.kind == "c" else ()
                found += [self._emit(p, (Name(name),))[0] for p in parts] or [name]  # type: ignore[index]
            outputs = found
        return Program(dict(self.leaves), tuple(self.steps), tuple(outputs))

    def _leaf(self, array: Any) -> Name:
        name = Name(f"x{next(self.counter)}")
        self.leaves[name] = self.values[name] = scalar(np.asarray(array))
        return name

    def _emit(self, op: str, inputs: tuple, **params: Any) -> list[Name] | None:
        """Append a step and return the names of its values; None if they are not finite, too large or too many."""
        step = Step((), op, inputs, {**OPS[op].params, **params} if op in OPS else params)
        with np.errstate(all="ignore"):
            try:
                made = self.library.step(step, [self.values[x] if isinstance(x, Name) else x for x in inputs])
            except ValueError:
                if op not in TRANSFORMS:
                    raise
                return None  # a body is drawn at one example: at another, values may leave the domain of a row
        made = tuple(v.raw if isinstance(v, DiffTensor) else v for v in made)
        if not all(self._fit(v) for v in made):
            return None
        names = [Name(f"v{next(self.counter)}") for _ in made]
        self.steps.append(Step(tuple(names), op, inputs, step.params))
        self.values.update(zip(names, made, strict=True))
        return names

    def _fit(self, v: Any) -> bool:
        if v.size > MAX_SIZE or v.ndim > 5 or (not v.size and not self.empty):
            return False
        return v.dtype.kind not in "fc" or bool(np.all(np.abs(v) <= MAX_VALUE))

    def _one_of(self, values: Sequence[Any]) -> Any:
        return values[self.draw(st.integers(0, len(values) - 1))]  # strategies of integers are cached by hypothesis

    # ---- rows ----

    def _row(self) -> bool:
        name = self._one_of(self.rows)
        call: Call = self.draw(calls(name))
        params = dict(call.params)
        if name == "astype":  # one precision in a program; ``Program.astype`` converts it
            params["dtype"] = np.dtype("complex128" if np.dtype(params["dtype"]).kind == "c" else "float64")
        if not self.empty and any(is_array(a) and not a.size for a in call.inputs):
            return False
        inputs = tuple(self._input(call, i) for i in range(len(call.inputs)))
        made = self._emit(name, inputs, **params)
        if made is None:
            return False
        for value, part in zip(made, SIGNS.get(name, ()), strict=False):
            if part is not None:
                self._emit(part, (value,))
                del self.values[value]  # nothing else may depend on it
        return True

    def _input(self, call: Call, i: int) -> Any:
        drawn, row = call.inputs[i], call.row
        if not is_array(drawn):
            return drawn
        kind = drawn.dtype.kind
        wanted = "b" if kind == "b" else "fc" if kind == "f" else ""
        candidates = [
            n for n, v in self.values.items() if v.dtype.kind in (wanted or "none") and v.size >= min(drawn.size, 1)
        ]
        if not candidates or not self.draw(st.integers(0, 3)):
            return drawn if kind != "f" else self._leaf(drawn)
        value = Name(self._one_of(candidates[::-1]))  # shrinks towards the newest
        if kind == "b":
            return value if self.values[value].shape == drawn.shape else drawn
        found = self._shaped(value, drawn.shape)
        found = found and self._within(found, drawn, row, row.domain[0 if row.variadic else i])
        return self._leaf(drawn) if found is None else found

    def _shaped(self, value: Name, shape: tuple[int, ...]) -> Name | None:
        """A value brought to a shape."""
        v = self.values[value]
        if v.shape == shape:
            return value
        size = int(np.prod(shape))
        if v.size == size:
            made = self._emit("reshape", (value,), shape=shape)
        elif _stretches(v.shape, shape):
            made = self._emit("broadcast_to", (value,), shape=shape)
        else:
            places = scalar(np.arange(size).reshape(shape) % max(v.size, 1))
            made = self._emit("take", (value, places), axis=None)
        return made and made[0]  # type: ignore[return-value]

    def _within(self, value: Name, drawn: Any, row: Row, domain: Domain) -> Name | None:
        """A value brought into the domain of a row's input."""
        v = self.values[value]
        shaped = row.name in SHAPED or row.name in ORDERED
        if v.dtype.kind == "c":
            if row.name in ENTIRE and not shaped and np.all(np.abs(v) <= domain.high):
                return value
            made = self._emit(self._one_of(["real", "imag"]), (value,))
            if made is None:
                return None
            (value,) = made
            v = self.values[value]
        if not shaped and _inside(v, domain):
            return value
        if shaped or domain.avoid:
            names = self._emit("tanh", (value,))
            change = names and self._emit("multiply", (names[0], CHANGE))
            names = change and self._emit("add", (self._leaf(drawn), change[0]))
        else:
            names = self._emit("sigmoid", (value,))
            names = names and self._emit("multiply", (names[0], 0.98 * (domain.high - domain.low)))
            names = names and self._emit("add", (names[0], domain.low + 0.01 * (domain.high - domain.low)))
        return names and names[0]  # type: ignore[return-value]

    # ---- transforms ----

    def _transform(self) -> bool:
        kind = self._one_of(self.transforms)
        return getattr(self, "_" + kind)()  # type: ignore[no-any-return]

    def _argument(self, shape: tuple[int, ...]) -> Any:
        """A value between -3 and 3 of a shape: one that is there, or a new leaf."""
        candidates = [n for n, v in self.values.items() if v.dtype.kind == "f" and v.size]
        if candidates and self.draw(st.integers(0, 3)):
            found = self._shaped(Name(self._one_of(candidates[::-1])), shape)
            if found is not None and _inside(self.values[found], Domain()):
                return found
            squeezed = found and self._emit("tanh", (found,))
            if squeezed:
                return squeezed[0]
        return self._leaf(generator(self.draw).uniform(-2.0, 2.0, shape))

    def _shape(self) -> tuple[int, ...]:
        return self.draw(shapes(max_ndim=2, min_side=1, max_side=3))  # type: ignore[no-any-return]

    def _inner(self, arguments: Sequence[Any]) -> "_Builder":
        """The beginning of a body with leaves at these values."""
        inner = _Builder(self.draw, self.rows, self.transforms, False, self.depth - 1, self.counter)
        for a in arguments:
            inner._leaf(a)
        return inner

    def _closed(self, inner: "_Builder", arguments: int) -> bool:
        """Turn the leaves that a body has besides its arguments into constants of its steps."""
        extra = dict(list(inner.leaves.items())[arguments:])
        inner.leaves = dict(list(inner.leaves.items())[:arguments])
        inner.steps = [
            Step(s.names, s.op, tuple(extra.get(x, x) if isinstance(x, Name) else x for x in s.inputs), s.params)
            for s in inner.steps
        ]
        inner.values = {n: v for n, v in inner.values.items() if n not in extra}
        return bool(inner.steps)

    def _results(self, inner: "_Builder", last: bool = False) -> list[Name]:
        """The floating-point values of a body that no step uses, and that depend on its arguments."""
        used = {x for s in inner.steps for x in s.inputs if isinstance(x, Name)}
        depends = set(inner.leaves)
        for s in inner.steps:
            if not depends.isdisjoint(x for x in s.inputs if isinstance(x, Name)):
                depends.update(s.names)
        found = [
            Name(n)
            for n, v in inner.values.items()
            if n in depends and n not in used and n not in inner.leaves and inexact(v)
        ]
        return found[-1:] if last else found

    def _total(self, inner: "_Builder") -> Name | None:
        """A weighted sum of all results of a body."""
        total: Name | None = None
        for name in self._results(inner):
            made = inner._emit("multiply", (name, *waves([inner.values[name]])))
            made = made and inner._emit("sum", (made[0],))
            made = made and (made if total is None else inner._emit("add", (total, made[0])))
            if made is None:
                return None
            total = made[0]
        return total

    def _body(self, arguments: Sequence[Any], scalar_valued: bool = False) -> Program | None:
        inner = self._inner(arguments)
        inner.grow(self.draw(st.integers(1, 4)))
        if not self._closed(inner, len(arguments)):
            return None
        if scalar_valued:
            total = self._total(inner)
            return total and inner.program([total])  # type: ignore[return-value]
        outputs = self._results(inner)
        return inner.program(outputs) if outputs else None

    def _arguments(self, least: int = 1) -> list[Any]:
        return [self._argument(self._shape()) for _ in range(self.draw(st.integers(least, 2)))]

    def _applied(self, kind: str, inputs: Sequence[Any], **bodies: Program | None) -> bool:
        return None not in bodies.values() and self._emit(kind, tuple(inputs), **bodies) is not None

    def _grad(self) -> bool:
        xs = self._arguments()
        return self._applied("grad", xs, body=self._body([self.values[x] for x in xs], scalar_valued=True))

    def _jvp(self) -> bool:
        xs = self._arguments()
        tangents = [self._argument(self.values[x].shape) for x in xs]
        return self._applied("jvp", [*xs, *tangents], body=self._body([self.values[x] for x in xs]))

    def _vmap(self) -> bool:
        n = self.draw(st.integers(2, 3))
        xs = [self._argument((n, *self._shape()[:1])) for _ in range(self.draw(st.integers(1, 2)))]
        return self._applied("vmap", xs, body=self._body([self.values[x][0] for x in xs]))

    def _plain(self, kind: str) -> bool:
        xs = self._arguments()
        return self._applied(kind, xs, body=self._body([self.values[x] for x in xs]))

    def _checkpoint(self) -> bool:
        return self._plain("checkpoint")

    def _custom_vjp(self) -> bool:
        return self._plain("custom_vjp")

    def _cond(self) -> bool:
        conditions = [n for n, v in self.values.items() if v.dtype.kind == "b" and v.ndim == 0]
        condition = Name(self._one_of(conditions)) if conditions else np.True_
        xs = self._arguments()
        values = [self.values[x] for x in xs]
        return self._applied(
            "cond", [condition, *xs], body=self._body(values, scalar_valued=True), other=self._body(values, scalar_valued=True)
        )  # fmt: skip

    def _scan(self) -> bool:
        carry, xs = self._argument(self._shape()), self._argument((self.draw(st.integers(2, 3)), *self._shape()[:1]))
        arguments = [self.values[carry], self.values[xs][0]]
        inner = self._inner(arguments)
        inner.grow(self.draw(st.integers(1, 3)))
        if not self._closed(inner, 2) or not (results := self._results(inner)):
            return False
        new = inner._shaped(results[-1], self.values[carry].shape)
        squeezed = new and inner._emit("tanh", (new,))
        return bool(squeezed) and self._applied("scan", (carry, xs), body=inner.program([squeezed[0], results[0]]))  # type: ignore[index]


def _stretches(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    return len(shape) <= len(to) and all(a in (1, b) for a, b in zip(shape[::-1], to[::-1], strict=False))


def _inside(v: Any, domain: Domain) -> bool:
    """Whether all elements are in a domain, away from what it avoids."""
    ok = (v >= domain.low) & (v <= domain.high)
    for point in domain.avoid:
        ok = ok & (np.abs(v - point) >= domain.gap)
    return bool(np.all(ok))
