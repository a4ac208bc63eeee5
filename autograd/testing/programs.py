"""Programs as data: what a random test of an automatic-differentiation library runs.

A ``Program`` is a list of steps. Each applies a row of the op table, or a transform of smaller programs, to values made
before it::

    Program(leaves={"x0": array}, steps=(Step(("v1",), "sin", (Name("x0"),), {}), ...), outputs=("v1",))

It runs on a ``Library``, which says what the rows and the transforms are; ``Rows`` is ours, and ``benchmarks/fuzz.py`` has
PyTorch's and JAX's. ``print(program)`` gives a Python function that is ready to paste into a test.
``autograd.testing.strategies.programs()`` draws them (see ``generation``).
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from .. import ops
from ..backend import is_array, scalar
from ..batching import vmap
from ..checkpointing import checkpoint
from ..control import cond, scan
from ..custom import custom_vjp
from ..table import OPS
from ..tensor import DiffTensor
from ..transforms import grad, jvp, vjp

Fun = Callable[..., tuple]


class Name(str):
    """An input of a step that is a value of the program; any other input is a constant."""

    __slots__ = ()


@dataclass(frozen=True)
class Step:
    """One line of a program: ``names = op(*inputs, **params)``.

    ``op`` is a row's name or one of ``TRANSFORMS``; a transform's parameters are ``body``, a Program whose leaves are its
    arguments, and for "cond" ``other``, the branch that is taken where the first input is false.
    """

    names: tuple[str, ...]
    op: str
    inputs: tuple
    params: Mapping[str, Any]

    @property
    def bodies(self) -> "tuple[Program, ...]":
        return tuple(v for v in self.params.values() if isinstance(v, Program))


TRANSFORMS = ("grad", "jvp", "vmap", "checkpoint", "custom_vjp", "cond", "scan")
"""Transforms that steps apply to programs: "grad" of the first output by the first argument; "jvp", whose inputs are the
primals and then the tangents, gives the tangents; "vmap" maps all arguments; "checkpoint"; "custom_vjp", whose rule gives
half of the true gradient; "cond"; "scan", whose inputs are the carry and the array that it runs over."""


@dataclass(frozen=True)
class Program:
    """A function of arrays, as data.

    Attributes:
        leaves: arguments by name, and the values to run it at: floating-point arrays (or numbers without axes).
        steps: what is done, in order.
        outputs: the names of the values that are returned.
    """

    leaves: Mapping[str, Any]
    steps: tuple[Step, ...]
    outputs: tuple[str, ...]

    def run(self, library: "Library", *values: Any) -> tuple:
        """The outputs on a library, for values of the leaves of that library."""
        made = dict(zip(self.leaves, values, strict=True))
        for step in self.steps:
            found = library.step(step, [made[x] if isinstance(x, Name) else x for x in step.inputs])
            made.update(zip(step.names, found, strict=True))
        return tuple(made[name] for name in self.outputs)

    def __call__(self, *values: Any) -> tuple:
        """The outputs, on our own rows: ``check_grads(program, *program.leaves.values())``."""
        return self.run(Rows(), *values)

    def astype(self, dtype: Any) -> Self:
        """The program in another precision: leaves, constants and conversions."""
        dtype = np.dtype(dtype)
        return replace(
            self,
            leaves={name: _converted(a, dtype) for name, a in self.leaves.items()},
            steps=tuple(
                replace(
                    s,
                    inputs=tuple(x if isinstance(x, Name) else _converted(x, dtype) for x in s.inputs),
                    params={k: _converted(v, dtype) for k, v in s.params.items()},
                )
                for s in self.steps
            ),
        )

    def all_steps(self) -> Iterator[Step]:
        """The steps, and those of the programs in them."""
        for step in self.steps:
            yield step
            for body in step.bodies:
                yield from body.all_steps()

    def source(self, name: str = "program") -> str:
        """Python text that defines the program as a function, and its arguments."""
        lines = ["import numpy as np", "", "from autograd import OPS, checkpoint, cond, custom_vjp, grad, jvp, ops, scan, vjp, vmap", "", ""]  # fmt: skip
        lines += _function(self, name)
        lines += ["", "", *(f"{leaf} = {_literal(a)}" for leaf, a in self.leaves.items())]
        return "\n".join([*lines, f"{name}({', '.join(self.leaves)})"]) + "\n"

    __str__ = source

    def __repr__(self) -> str:
        return f"<Program of {len(self.steps)} steps: {', '.join(s.op for s in self.steps)}>"

    def _repr_pretty_(self, printer: Any, _cycle: bool) -> None:  # how hypothesis prints it
        printer.text(self.source())


def _converted(value: Any, dtype: np.dtype) -> Any:
    if isinstance(value, Program):
        return value.astype(dtype)
    complex_dtype = np.result_type(dtype, np.complex64)
    if isinstance(value, np.dtype) and value.kind in "fc":  # a parameter of ``astype``
        return dtype if value.kind == "f" else complex_dtype
    if is_array(value) and value.dtype.kind in "fc":
        return scalar(np.asarray(value).astype(dtype if value.dtype.kind == "f" else complex_dtype))
    return value


# ---- what programs run on ----


class Library:
    """What a program runs on. A library of yours overrides ``call`` and the transforms that it has.

    A function ``fun`` that is given to a transform takes values of the library and returns a tuple of them.
    """

    def call(self, row: str, inputs: Sequence[Any], params: Mapping[str, Any]) -> Any:
        """A row of the op table: one value, or a tuple if the row has several outputs (None for one that is not there).

        Inputs that are values of the program are values of the library; constants are NumPy arrays or Python numbers.
        """
        raise NotImplementedError

    def grad(self, fun: Fun, *xs: Any) -> Any:
        """The gradient of the first output with respect to the first argument."""
        raise NotImplementedError

    def jvp(self, fun: Fun, primals: tuple, tangents: tuple) -> tuple:
        """The tangents of the outputs."""
        raise NotImplementedError

    def vmap(self, fun: Fun, *xs: Any) -> tuple:
        raise NotImplementedError

    def checkpoint(self, fun: Fun, *xs: Any) -> tuple:
        raise NotImplementedError

    def custom_vjp(self, fun: Fun, *xs: Any) -> tuple:
        """The outputs, with half of the true gradient."""
        raise NotImplementedError

    def cond(self, condition: Any, on_true: Fun, on_false: Fun, *xs: Any) -> tuple:
        raise NotImplementedError

    def scan(self, fun: Fun, carry: Any, xs: Any) -> tuple:
        """``carry, y = fun(carry, x)`` for each x: the last carry, and the stacked ys."""
        raise NotImplementedError

    def step(self, step: Step, inputs: list) -> tuple:
        """The values of a step."""
        if step.op not in TRANSFORMS:
            found = self.call(step.op, inputs, step.params)
            return found if isinstance(found, tuple) else (found,)
        fun, *others = [self._function(body) for body in step.bodies]
        if step.op == "grad":
            return (self.grad(fun, *inputs),)
        if step.op == "jvp":
            n = len(inputs) // 2
            return self.jvp(fun, tuple(inputs[:n]), tuple(inputs[n:]))
        if step.op == "cond":
            return self.cond(inputs[0], fun, *others, *inputs[1:])
        return getattr(self, step.op)(fun, *inputs)  # type: ignore[no-any-return]

    def _function(self, body: Program) -> Fun:
        return lambda *xs: body.run(self, *xs)


class Rows(Library):
    """Our own rows and transforms: on tensors, arrays and numbers."""

    def call(self, row: str, inputs: Sequence[Any], params: Mapping[str, Any]) -> Any:
        entry = OPS[row]
        return entry.apply(list(inputs), **params) if entry.variadic else entry.apply(*inputs, **params)

    def grad(self, fun: Fun, *xs: Any) -> Any:
        return grad(lambda *a: fun(*a)[0])(*xs)

    def jvp(self, fun: Fun, primals: tuple, tangents: tuple) -> tuple:
        return jvp(fun, primals, tangents)[1]  # type: ignore[no-any-return]

    def vmap(self, fun: Fun, *xs: Any) -> tuple:
        return vmap(fun)(*xs)  # type: ignore[no-any-return]

    def checkpoint(self, fun: Fun, *xs: Any) -> tuple:
        return checkpoint(fun)(*xs)  # type: ignore[no-any-return]

    def custom_vjp(self, fun: Fun, *xs: Any) -> tuple:
        return custom_vjp(fun).defvjp(lambda *a: (fun(*a), a), lambda a, g: _halves(vjp(fun, *a)[1](g)))(*xs)  # type: ignore[no-any-return]

    def cond(self, condition: Any, on_true: Fun, on_false: Fun, *xs: Any) -> tuple:
        return cond(condition, on_true, on_false, *xs)  # type: ignore[no-any-return]

    def scan(self, fun: Fun, carry: Any, xs: Any) -> tuple:
        return scan(fun, carry, xs)


def _halves(gradients: tuple) -> tuple:
    return tuple(0.5 * g for g in gradients)


class Plain(Rows):
    """Our rows, with checkpoints that keep everything: what programs with checkpoints must equal to the last bit."""

    def checkpoint(self, fun: Fun, *xs: Any) -> tuple:
        return fun(*xs)


def inexact(value: Any) -> bool:
    """Whether a value (of a program run on our rows) is floating-point."""
    return hasattr(value, "dtype") and np.dtype(value.dtype).kind == "f"


def waves(values: Sequence[Any]) -> list[Any]:
    """Cotangents for values: nowhere zero and everywhere different."""
    return [
        scalar((np.cos(np.arange(math.prod(np.shape(v))) * 2.4) + 0.1).astype(np.dtype(v.dtype)).reshape(np.shape(v)))
        for v in values
    ]


def gradients(program: Program, library: Rows | None = None) -> tuple[list[Any], list[Any]]:
    """A program's outputs on our rows, and the gradients of its leaves (for the cotangents ``waves``), as raw arrays."""
    chosen = library or Rows()
    values = [_raw(o) for o in program.run(chosen, *program.leaves.values())]
    kept = [k for k, v in enumerate(values) if inexact(v)]
    if not kept:
        return values, [np.zeros_like(a) for a in program.leaves.values()]
    _, pullback = vjp(
        lambda *xs: tuple(program.run(chosen, *xs)[k] for k in kept), *map(np.asarray, program.leaves.values())
    )
    return values, [_raw(g) for g in pullback(tuple(waves([values[k] for k in kept])))]


def _raw(value: Any) -> Any:
    return value.raw if isinstance(value, DiffTensor) else value


# ---- printing ----


def _function(program: Program, name: str) -> list[str]:
    lines = [f"def {name}({', '.join(program.leaves)}):"]
    for step in program.steps:
        names = [f"{label}_{step.names[0]}" for label in ("body", "other")[: len(step.bodies)]]
        for body, label in zip(step.bodies, names, strict=True):
            lines += ["    " + line if line else "" for line in ["", *_function(body, label), ""]]
        xs = [str(x) if isinstance(x, Name) else _literal(x) for x in step.inputs]
        left = ", ".join(step.names)
        left += "," if len(step.names) == 1 and (step.op in TRANSFORMS[1:] or _outputs(step.op) != 1) else ""
        lines.append(f"    {left} = {_call(step, names, xs)}")
    returned = ", ".join(program.outputs)
    return [*lines, f"    return ({returned},)" if len(program.outputs) == 1 else f"    return {returned or '()'}"]


def _outputs(op: str) -> int | None:
    return OPS[op].outputs if op in OPS else 1


def _call(step: Step, names: list[str], xs: list[str]) -> str:
    given = ", ".join(xs)
    if step.op == "grad":
        return f"grad(lambda *a: {names[0]}(*a)[0])({given})"
    if step.op == "jvp":
        n = len(xs) // 2
        return f"jvp({names[0]}, ({', '.join(xs[:n])},), ({', '.join(xs[n:])},))[1]"
    if step.op == "custom_vjp":
        rule = f"lambda a, g: tuple(0.5 * d for d in vjp({names[0]}, *a)[1](g))"
        return f"custom_vjp({names[0]}).defvjp(lambda *a: ({names[0]}(*a), a), {rule})({given})"
    if step.op == "cond":
        return f"cond({xs[0]}, {', '.join(names)}, {', '.join(xs[1:])})"
    if step.op == "scan":
        return f"scan({names[0]}, {given})"
    if step.op in TRANSFORMS:
        return f"{step.op}({names[0]})({given})"
    row = OPS[step.op]
    function = f"ops.{step.op}" if getattr(ops, step.op, None) is row.apply else f'OPS["{step.op}"].apply'
    arguments = [f"[{given}]"] if row.variadic else list(xs)
    return f"{function}({', '.join([*arguments, *(f'{k}={_literal(v)}' for k, v in step.params.items())])})"


def _literal(value: Any) -> str:
    """A value as Python text."""
    if isinstance(value, np.generic):
        return f"np.{type(value).__name__}({value.item()!r})"
    if isinstance(value, np.ndarray):
        kind = (
            ""
            if value.size and value.dtype in (np.float64, np.int64, np.bool_, np.complex128)
            else f", np.{value.dtype.name}"
        )
        shape = "" if value.size else f".reshape({value.shape})"
        return f"np.array({value.tolist() if value.size else []!r}{kind}){shape}"
    if isinstance(value, np.dtype):
        return f'np.dtype("{value.name}")'
    if isinstance(value, type):
        return value.__name__ if value in (float, complex, int, bool) else f"np.{value.__name__}"
    if isinstance(value, (tuple, list)):
        inside = ", ".join(map(_literal, value))
        return f"({inside}{',' * (len(value) == 1)})" if isinstance(value, tuple) else f"[{inside}]"
    return repr(value)
