"""The op table: a row becomes a function.

A *row* is everything there is to know about an operation: its forward kernel, its shape-and-dtype rule, one derivative
rule for each input, its cost, and the domain that its tests draw from::

    mul = op("mul", operator.mul, stretched,
             lambda g, _z, _x, y: g * y,
             lambda g, _z, x, _y: g * x)

A derivative rule is called as ``rule(g, output, *inputs, **params)`` and returns the vector-Jacobian product for its
input (complex numbers: the transpose without conjugation, as in HIPS autograd and JAX). It is ordinary arithmetic on
array-likes, and runs on three kinds of them: on raw arrays it is the first-order backward pass; on tensors it records
itself, so that derivatives of every order exist; on symbolic tensors it appends graph nodes. So a rule uses operators
and other rows only, never NumPy. Three conventions keep rules short:

* **Names say what is kept.** A parameter whose name starts with an underscore is not kept for the backward pass; the
  rule may read its ``shape``, ``dtype`` and ``ndim`` (of an input; of the output nothing).
* **The engine sums over broadcast axes** and rounds to the input's dtype; a rule returns the shape of the output.
* **A forward kernel that is a string** is looked up, when an array class is first met, in that array's own library.
  ``row.kernels[cls] = function`` overrides it for one array class.
"""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

import numpy as np

from . import backend
from .dispatch import function_of
from .shapes import shape_of

OPS: dict[str, "Row"] = {}
"""Every row by name."""


class Kernels(dict):
    """Forward kernels by array class, found when a class is first met."""

    def __init__(self, forward: str | Callable):
        super().__init__()
        self.forward = forward

    def __missing__(self, cls: type) -> Callable:
        if issubclass(cls, np.generic):  # a NumPy scalar is an array of no axes
            self[cls] = numbers = self[np.ndarray]
            return numbers
        library = backend.namespace(cls)
        self[cls] = found = attrgetter(self.forward)(library) if isinstance(self.forward, str) else self.forward
        return found


@dataclass(frozen=True)
class Domain:
    """Where an operation's tests draw an input from: real numbers in [low, high] at least ``gap`` away from ``avoid``.

    ``kind`` is "inexact" for differentiable inputs, else "bool" or "int".
    """

    low: float = -3.0
    high: float = 3.0
    avoid: tuple[float, ...] = ()
    gap: float = 0.1
    kind: str = "inexact"


REALS = Domain()


@dataclass(eq=False)
class Row:
    """A row of the op table. See the module's docstring for the columns."""

    name: str
    forward: str | Callable
    infer: Callable
    vjps: tuple[Callable | None, ...]
    flops: float | Callable = 1.0
    domain: tuple[Domain, ...] = (REALS,)
    outputs: int | None = 1  # None: a tuple whose length the parameters decide
    variadic: bool = False
    complex: bool = True
    batch: Callable | None = None  # the batching rule (see autograd.batching)
    precision: str | tuple[str, ...] = (
        "float32"  # what a policy of mixed precision makes of it (see autograd.precision)
    )
    params: dict[str, Any] = field(default_factory=dict)
    kernels: Kernels = field(init=False, repr=False)
    apply: Callable = field(init=False, repr=False)
    forms: dict[Any, "Row"] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.kernels = Kernels(self.forward)
        self.reads = tuple(None if rule is None else _reads(rule, len(self.vjps)) for rule in self.vjps)
        self._keeps: dict[int, tuple[bool, ...]] = {}
        self._of_arity: dict[int, Row] = {}
        self.differentiable = sum(1 << i for i, rule in enumerate(self.vjps) if rule is not None)

    def keeps(self, mask: int) -> tuple[bool, ...]:
        """Whether the output and each input are kept, if the inputs whose bits are set in ``mask`` are tracked."""
        found = self._keeps.get(mask)
        if found is None:
            read = set().union(*(r for i, r in enumerate(self.reads) if r is not None and mask >> i & 1))
            found = self._keeps[mask] = tuple(i in read for i in range(len(self.vjps) + 1))
        return found

    def of_arity(self, n: int) -> "Row":
        """A variadic row's form for ``n`` inputs."""
        found = self._of_arity.get(n)
        if found is None:
            (rule,) = self.vjps
            assert rule is not None
            found = Row(
                self.name,
                self.forward,
                self.infer,
                (rule,) * n,
                self.flops,
                self.domain,
                complex=self.complex,
                params=self.params,
                precision=self.precision,
            )
            keeps_output, keeps_inputs = (_names(rule)[i][0] != "_" for i in (1, 2))
            found.reads = ({*([0] if keeps_output else ()), *(range(1, n + 1) if keeps_inputs else ())},) * n
            found.vjps = tuple(_spread(rule, i) for i in range(n))
            found.variadic, found.kernels, found.apply = True, self.kernels, self.apply
            self._of_arity[n] = found
        return found

    def cost(self, output: Any, *inputs: Any, **params: Any) -> tuple[float, int]:
        """Floating-point operations and bytes moved (each input read and each output written once) of one call.

        ``output`` and ``inputs`` are anything with a shape and dtype; ``output`` is a tuple for several outputs.
        """
        outputs = output if isinstance(output, tuple) else (output,)
        flops = self.flops(output, *inputs, **params) if callable(self.flops) else self.flops * _size(outputs[0])
        moved = sum(_size(x) * np.dtype(x.dtype).itemsize for x in (*outputs, *inputs) if hasattr(x, "dtype"))
        return float(flops), moved

    def failure(self, error: Exception, inputs: tuple, params: dict) -> Exception:
        """The error to raise instead of ``error``: the same type, naming the operation, its inputs and parameters."""
        given = ", ".join(
            [
                *(f"{x.dtype}{shape_of(x)}" if hasattr(x, "dtype") else repr(x) for x in inputs),
                *(f"{k}={v!r}" for k, v in params.items()),
            ]
        )
        message = f"{self.name}({given}): {error}"
        if isinstance(error, np.exceptions.AxisError):
            return ValueError(message)
        kinds = (IndexError, ValueError, TypeError, ImportError, MemoryError)
        return next((kind for kind in kinds if isinstance(error, kind)), RuntimeError)(message)

    def __repr__(self) -> str:
        return f"<row {self.name}>"


def _size(x: Any) -> int:
    return math.prod(shape_of(x))


def _names(rule: Callable) -> list[str]:
    if inspect.isfunction(rule):  # several times faster than a signature, and there are hundreds of rules to import
        return list(rule.__code__.co_varnames[: rule.__code__.co_argcount])
    return [
        p.name
        for p in inspect.signature(rule).parameters.values()
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]


def _reads(rule: Callable, inputs: int) -> set[int]:
    """What a rule reads, by its parameters' names: 0 is the output, i the i-th input."""
    return {i for i, name in enumerate(_names(rule)[1 : inputs + 2]) if name[0] != "_"}


def _spread(rule: Callable, index: int) -> Callable:
    return lambda g, out, *xs, **params: rule(g, out, xs, index, **params)


def op(
    name: str,
    forward: str | Callable,
    infer: Callable,
    *vjps: Callable | None,
    doc: str = "",
    domain: Any = REALS,
    **columns: Any,
) -> Callable:
    """Enter a row into the table and return it as a function.

    Args:
        name: the operation's name, unique in the table.
        forward: a name in the array's own library, or a function of arrays. Its keyword parameters are the
            operation's, with their defaults.
        infer: ``(*inputs, **params) -> (shape, dtype)``, for values not yet computed (see ``autograd.shapes``).
        vjps: for each input its derivative rule, or None if it has no gradient.
        doc: the public docstring.
        domain: what the tests draw inputs from: a ``Domain`` for all inputs or a tuple of one for each.
        columns: ``flops`` (a number per element of the output, or a function of output, inputs and params),
            ``outputs`` (how many; None for a tuple whose length depends on the parameters), ``variadic`` (any number
            of inputs, passed as a sequence; the one rule is called as ``rule(g, out, xs, index, **params)``),
            ``complex`` (whether complex inputs are allowed), ``batch`` (the batching rule for ``vmap``, see ``autograd.batching``),
            ``precision`` (what a policy of mixed precision makes of the operation: "low", "inputs", "any", or "float32",
            which is safe for all and the default; see ``autograd.precision``).
    """
    if name in OPS:
        raise ValueError(f"the op table has a row {name!r} already")
    inputs, params = list("xyz"[: len(vjps)]), {}
    if inspect.isfunction(forward):
        kernel = inspect.unwrap(forward)
        code, defaults = kernel.__code__, kernel.__kwdefaults__ or {}
        inputs = _names(kernel) or inputs
        named = code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
        params = {p: defaults.get(p, inspect.Parameter.empty) for p in named}
    domains = domain if isinstance(domain, tuple) else (domain,) * len(vjps)
    row = Row(name, forward, infer, vjps, domain=domains, params=params, **columns)
    row.apply = apply = function_of(row)
    apply.__name__ = apply.__qualname__ = name
    apply.__doc__ = doc or None
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    apply.__signature__ = inspect.Signature(
        [inspect.Parameter("arrays" if row.variadic else x, kind) for x in inputs]
        + [inspect.Parameter(k, kind, default=d) for k, d in params.items()],
        __validate_parameters__=False,
    )
    apply.row = row
    OPS[name] = row
    return apply
