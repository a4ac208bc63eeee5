"""What a function is called with: its parameters, and the shapes, domains and dtypes to draw them from.

The options are ``--shape x=3,4``, ``--domain x=positive``, ``--dtype x=float32`` and ``--value axis=0``. Names in a shape stand
for sizes, the same wherever they appear: with ``--shape x=n,4 --shape w=4,k`` the sizes n and k are drawn, and shrunk. What
has no shape gets a drawn one, the same for all such arguments.
"""

import ast
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from autograd.table import Domain
from autograd.testing.strategies import Draw, arrays, shapes, st

from ..errors import UsageError, unknown

DOMAINS = {
    "reals": Domain(),
    "positive": Domain(0.1, 3.0),
    "negative": Domain(-3.0, -0.1),
    "nonzero": Domain(avoid=(0.0,)),
    "unit": Domain(0.05, 0.95),
    "int": Domain(-3, 3, kind="int"),
    "bool": Domain(kind="bool"),
}
"""Domains by name; an interval is written LOW:HIGH."""
DTYPES = ("float32", "float64", "complex64", "complex128")
MAX_SIDE = 4  # of drawn sizes


@dataclass(frozen=True)
class Argument:
    """A parameter to draw: ``shape`` holds numbers and names of sizes, or is None for a shape that is drawn as well."""

    name: str
    shape: tuple[int | str, ...] | None = None
    domain: Domain = DOMAINS["reals"]
    dtype: str = "float64"

    def holds(self, array: np.ndarray) -> bool:
        """Whether all real and imaginary parts of an array are in the domain."""
        low, high = self.domain.low, self.domain.high
        parts = (array.real, array.imag) if array.dtype.kind == "c" else (array,)
        inside = all(np.all((p >= low) & (p <= high)) for p in parts)
        return inside and not any(np.any(np.abs(array - a) < self.domain.gap) for a in self.domain.avoid)


@dataclass(frozen=True)
class Arguments:
    """The parameters to draw, and those with one value for all calls."""

    drawn: tuple[Argument, ...]
    values: Mapping[str, Any]

    def strategy(self) -> st.SearchStrategy[dict[str, np.ndarray]]:
        """Draws the arrays by name."""
        return _calls(self.drawn)


@st.composite
def _calls(draw: Draw, drawn: Sequence[Argument]) -> dict[str, np.ndarray]:
    sizes = {side: 0 for a in drawn for side in a.shape or () if isinstance(side, str)}
    sizes = {name: draw(st.integers(1, MAX_SIDE), label=name) for name in sizes}
    common = draw(shapes(max_ndim=2, min_side=1)) if any(a.shape is None for a in drawn) else ()
    found = [
        common if a.shape is None else tuple(sizes[s] if isinstance(s, str) else s for s in a.shape) for a in drawn
    ]
    reals = draw(arrays(found, [a.domain for a in drawn]))
    imaginary = draw(arrays(found, [a.domain for a in drawn])) if any(a.dtype[0] == "c" for a in drawn) else reals
    return {a.name: _cast(x, y, a) for a, x, y in zip(drawn, reals, imaginary, strict=True)}


def _cast(x: Any, y: Any, argument: Argument) -> np.ndarray:
    if argument.domain.kind != "inexact":
        return np.asarray(x)
    return np.asarray(x + 1j * y if argument.dtype[0] == "c" else x).astype(argument.dtype)


def arguments_of(
    fn: Callable,
    shape: Sequence[str] = (),
    domain: Sequence[str] = (),
    dtype: Sequence[str] = (),
    value: Sequence[str] = (),
) -> Arguments:
    """The arguments of ``fn`` from the texts of the options.

    Parameters with a default that no option names keep it. Raises UsageError for a text that cannot be read, for a name that
    is no parameter, and where nothing would be differentiated.
    """
    names, needed = _parameters(fn)
    given = {
        "--shape": _pairs("--shape", shape, _shape), "--domain": _pairs("--domain", domain, _domain),
        "--dtype": _pairs("--dtype", dtype, _dtype), "--value": _pairs("--value", value, _value),
    }  # fmt: skip
    for option, texts in given.items():
        for name in texts:
            if names is not None and name not in names:
                raise UsageError(f"{option}: {unknown('parameter', name, names)}")
    values = given.pop("--value")
    for option, texts in given.items():
        for name in texts:
            if name in values:
                raise UsageError(f"{option} {name}: has a --value, so it is not drawn")
    named = set().union(*given.values())
    drawn = [Argument(n) for n in names or (*needed, *sorted(named)) if n not in values and (n in needed or n in named)]
    for field, option in (("shape", "--shape"), ("domain", "--domain"), ("dtype", "--dtype")):
        drawn = [replace(a, **{field: given[option][a.name]}) if a.name in given[option] else a for a in drawn]
    if not any(a.domain.kind == "inexact" for a in drawn):
        raise UsageError(
            "no argument with floating-point numbers is drawn: there is nothing to differentiate; name one, as in --shape x=3,4"
        )
    return Arguments(tuple(drawn), values)


def _parameters(fn: Callable) -> tuple[list[str] | None, list[str]]:
    """The names of the parameters (None: it takes any), and of those that need a value."""
    try:
        parameters = inspect.signature(fn).parameters.values()
    except (TypeError, ValueError):
        raise UsageError("the function does not tell its parameters; wrap it: def f(x): return ...") from None
    named = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    if any(p.kind == p.POSITIONAL_ONLY for p in named):
        raise UsageError("the function takes arguments by position only; wrap it: def f(x): return ...")
    if not named:
        raise UsageError("the function has no named parameters to draw; wrap it: def f(x): return ...")
    free = any(p.kind == p.VAR_KEYWORD for p in parameters)
    return None if free else [p.name for p in named], [p.name for p in named if p.default is p.empty]


def _pairs(option: str, texts: Sequence[str], read: Callable[[str], Any]) -> dict[str, Any]:
    found = {}
    for text in texts:
        name, equals, rest = text.partition("=")
        if not equals or not name.isidentifier():
            raise UsageError(f"{option} {text}: write NAME=..., as in {option} {_EXAMPLES[option]}")
        if name in found:
            raise UsageError(f"{option} {text}: {name} is given twice")
        try:
            found[name] = read(rest)
        except ValueError as error:
            raise UsageError(f"{option} {text}: {error}") from None
    return found


_EXAMPLES = {"--shape": "x=3,4", "--domain": "x=positive", "--dtype": "x=float32", "--value": "axis=0"}


def _shape(text: str) -> tuple[int | str, ...]:
    sides = [s.strip() for s in text.strip("() ").split(",") if s.strip()]
    if not all(s.isdecimal() or s.isidentifier() for s in sides):
        raise ValueError(
            "a shape is sizes and names of sizes with commas between, as in x=3,4 or x=n,4; x=() is a number"
        )
    return tuple(int(s) if s.isdecimal() else s for s in sides)


def _domain(text: str) -> Domain:
    if ":" in text:
        low, _, high = text.partition(":")
        try:
            found = Domain(float(low), float(high))
        except ValueError:
            raise ValueError("an interval is written LOW:HIGH, as in x=-1:1") from None
        if not -np.inf < found.low < found.high < np.inf:
            raise ValueError("LOW must be less than HIGH, and both finite")
        return found
    if text not in DOMAINS:
        raise ValueError(unknown("domain", text, [*DOMAINS, "LOW:HIGH"]))
    return DOMAINS[text]


def _dtype(text: str) -> str:
    if text not in DTYPES:
        raise ValueError(unknown("dtype", text, DTYPES))
    return text


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        raise ValueError("write a Python literal: a number, a text in quotes, None, True, a tuple") from None
