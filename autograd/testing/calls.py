"""A strategy of calls for every row of the op table: its inputs, drawn from the row's domain, and its parameters.

Elementwise rows get theirs from the number of their inputs and their domain, with the parameters registered by
``parameters``; every other row has a function registered by ``strategy`` (in ``structured`` and ``neural``). A row
without one fails the suite.
To test a row of your own: ``@strategy("name")`` over a function ``(draw, row) -> (inputs, params)``.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from ..backend import is_array, scalar
from ..ops import activations, elementwise
from ..table import OPS, Row
from .strategies import Draw, arrays, broadcasting, st

ELEMENTWISE = frozenset((*elementwise.__all__, *activations.__all__, "stop_gradient"))
_BUILDERS: dict[str, Callable[[Draw, Row], tuple[tuple, dict]]] = {}
_PARAMETERS: dict[str, dict[str, st.SearchStrategy]] = {}
EXEMPT: dict[tuple[str, str], str] = {}
"""Why a row (by name) is exempt from a check (of ``rows.CHECKS``)."""
UNIQUE: dict[str, Callable[..., tuple]] = {}
"""Of rows whose outputs are not unique for complex inputs: what is unique, as a function of the outputs."""


@dataclass(frozen=True)
class Call:
    """One call of a row: ``inputs`` are arrays (float64, int64 or bool) or Python numbers, ``params`` all parameters."""

    row: Row
    inputs: tuple
    params: dict[str, Any]

    def run(self, *inputs: Any) -> Any:
        """Call the row on other inputs, with the same parameters."""
        return (
            self.row.apply(list(inputs), **self.params) if self.row.variadic else self.row.apply(*inputs, **self.params)
        )

    @property
    def inexact(self) -> list[int]:
        """The places of the inputs that are floating-point or complex arrays."""
        return [i for i, a in enumerate(self.inputs) if is_array(a) and np.dtype(a.dtype).kind in "fc"]

    @property
    def tracked(self) -> list[int]:
        """The places of the inputs that have a derivative rule."""
        rules = self.row.vjps * (len(self.inputs) if self.row.variadic else 1)
        return [i for i in self.inexact if rules[i] is not None]

    def astype(self, dtype: Any) -> "Call":
        """The call with its floating-point inputs in another dtype: complex ones get imaginary parts, integers are rounded."""
        return replace(
            self, inputs=tuple(_cast(a, np.dtype(dtype)) if i in self.inexact else a for i, a in enumerate(self.inputs))
        )

    def _repr_pretty_(self, printer: Any, _cycle: bool) -> None:  # how hypothesis prints it
        printer.text(repr(self))

    def __repr__(self) -> str:
        given = [*map(repr, self.inputs), *(f"{k}={v!r}" for k, v in self.params.items())]
        return f"{self.row.name}({', '.join(given)})".replace("\n", "")


def _cast(a: Any, dtype: np.dtype) -> Any:
    if dtype.kind == "c":
        return scalar(np.asarray(a + 0.25j * np.flip(a)).astype(dtype))
    if dtype.kind in "iub":
        return scalar(np.where(np.abs(a) < 0.5, np.sign(a), np.rint(a)).astype(dtype))
    return scalar(np.asarray(a).astype(dtype))


def strategy(*names: str) -> Callable[[Callable], Callable]:
    """Register ``(draw, row) -> (inputs, params)`` as what calls of these rows are drawn by."""

    def enter(build: Callable) -> Callable:
        _BUILDERS.update(dict.fromkeys(names, build))
        return build

    return enter


def parameters(name: str, **values: st.SearchStrategy) -> None:
    """Register what the parameters of an elementwise row are drawn from."""
    _PARAMETERS[name] = values


def exempt(check: str, *names: str, reason: str) -> None:
    """Leave a check of ``rows.CHECKS`` out for some rows, for a stated reason."""
    EXEMPT.update(dict.fromkeys(((name, check) for name in names), reason))


def missing() -> Iterator[str]:
    """The rows of the table that no strategy is registered for."""
    return (name for name, row in OPS.items() if not _has(name, row))


def _has(name: str, row: Row) -> bool:
    return name in _BUILDERS or (name in ELEMENTWISE and set(row.params) <= set(_PARAMETERS.get(name, ())))


@lru_cache  # making a strategy costs more than drawing from it
@st.composite
def calls(draw: Draw, name: str) -> Call:
    """Calls of the row ``name``."""
    row = OPS[name]
    if not _has(name, row):
        raise LookupError(f'row {name!r} has no strategy; register one with @autograd.testing.calls.strategy("{name}")')
    inputs, params = _BUILDERS.get(name, _elementwise)(draw, row)
    return Call(row, tuple(inputs), {**row.params, **params})


def _elementwise(draw: Draw, row: Row) -> tuple[tuple, dict]:
    inputs = draw(arrays(draw(broadcasting(len(row.vjps))), row.domain))
    numbers = [i for i, a in enumerate(inputs) if np.ndim(a) == 0 and row.domain[i].kind == "inexact"]
    if len(inputs) > 1 and numbers and draw(st.booleans()):  # a Python number beside arrays
        others = [a for i, a in enumerate(inputs) if i != numbers[0] and row.domain[i].kind == "inexact"]
        if any(map(is_array, others)):
            inputs[numbers[0]] = float(inputs[numbers[0]])
    return tuple(inputs), {k: draw(s) for k, s in _PARAMETERS.get(row.name, {}).items()}


parameters("clip", low=st.sampled_from([-1.0, -1, None]), high=st.sampled_from([1.0, 1, None]))
parameters("leaky_relu", slope=st.sampled_from([0.01, 0.3]))
parameters("elu", alpha=st.sampled_from([1.0, 0.5]))
parameters("gelu", approximate=st.sampled_from(["none", "tanh"]))
parameters("replace_zero", by=st.sampled_from([1.0, 2.0]))
parameters("dropout_mask", scale=st.sampled_from([1.0, 2.0, 1.25]))

from . import calculus, neural, structured  # noqa: E402, F401  (they register the strategies of the rows of ``autograd.ops``)
