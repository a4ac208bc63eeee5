"""Symbolic sizes: a graph whose batch size is a name is a family of graphs, one for each size.

A derivative rule may use a size anywhere: in a shape, in a factor 1/n. So the family is not made by computing with symbols, which
every rule would have to know of. It is *fitted*: the function is traced at several sizes, the graphs are compared part by
part, and where they differ a formula is found: a number that is a polynomial in the sizes (of degree one in each), or a
float that is a constant over such a polynomial. At a further size the formulas must give the graph that is traced there,
to the bit; else the error says which part depends on the size in another way. Everything that is done to a family
(``grad``, ``optimize``) is done to graphs of known sizes, and fitted again.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import optree

from .files import from_state, save, to_state
from .graph import UniversalGraph
from .ir import GraphError

SAMPLES = ((13, 17, 37), (19, 23, 41), (29, 31, 43))
"""Sizes that the first, second and third symbol are traced at: two for the fit, the last for the proof. Primes, so that no
formula holds by the luck of a common divisor."""
KEPT = 64
"""How many graphs of known sizes a family keeps."""


@dataclass(frozen=True)
class Size:
    """A formula of sizes: Σ coefficient · product of symbols; or, with a numerator, numerator / Σ, a float."""

    terms: tuple[tuple[Fraction, tuple[str, ...]], ...]
    numerator: float | None = None
    dtype: str | None = None  # of a NumPy number; None: a Python number

    def at(self, sizes: Mapping[str, int]) -> Any:
        """Its value for sizes by name.

        Raises:
            GraphError: it is not a whole number there.
        """
        value = sum((c * prod(sizes[s] for s in names) for c, names in self.terms), Fraction(0))
        if value.denominator != 1:
            raise GraphError(f"{self} is not a whole number where {_told(sizes)}")
        found = int(value) if self.numerator is None else self.numerator / int(value)
        return found if self.dtype is None else np.dtype(self.dtype).type(found)

    @property
    def symbol(self) -> str | None:
        """The name, if it is one symbol and nothing else."""
        if self.numerator is None and len(self.terms) == 1 and self.terms[0][0] == 1 and len(self.terms[0][1]) == 1:
            return self.terms[0][1][0]
        return None

    def __repr__(self) -> str:
        parts = ["*".join([*([str(c)] if c != 1 or not names else []), *names]) for c, names in self.terms]
        text = " + ".join(parts) or "0"
        return text if self.numerator is None else f"{self.numerator!r}/({text})"


def _told(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{k}={v}" for k, v in sizes.items())


# ---- fitting ----


def _interpolated(values: Sequence[Fraction], symbols: Sequence[str], points: Sequence[tuple]) -> dict[tuple, Fraction]:
    """The coefficients of the polynomial, of degree one in each symbol, through values on the grid of two points for each."""
    if not symbols:
        return {(): values[0]}
    half, (a, b) = len(values) // 2, points[0][:2]
    low = _interpolated(values[:half], symbols[1:], points[1:])
    high = _interpolated(values[half:], symbols[1:], points[1:])
    found: dict[tuple, Fraction] = {}
    for names in low.keys() | high.keys():
        f, g = low.get(names, Fraction(0)), high.get(names, Fraction(0))
        slope = (g - f) / (b - a)
        found[symbols[0], *names] = slope
        found[names] = f - slope * a
    return {k: v for k, v in found.items() if v}


def fitted(values: Sequence[Any], symbols: Sequence[str], where: str) -> Any:
    """What values at the points of the grid have in common: itself where they are equal, a ``Size`` where they are not.

    Raises:
        GraphError: they differ in another way; ``where`` says in which part.
    """
    first = values[0]
    kind = type(first)
    if any(type(v) is not kind for v in values):
        raise _differs(where, symbols)
    if kind in (list, tuple):
        if any(len(v) != len(first) for v in values):
            raise _differs(f"the number of parts of {where}", symbols)
        return kind([fitted(parts, symbols, f"{where}[{i}]") for i, parts in enumerate(zip(*values, strict=True))])
    if kind is dict:
        if any(v.keys() != first.keys() for v in values):
            raise _differs(where, symbols)
        named = f"{where}, {first['op']}" if "op" in first else where
        return {k: fitted([v[k] for v in values], symbols, f"{named}: {k}") for k in first}
    if isinstance(first, np.floating):
        if all(v.tobytes() == first.tobytes() for v in values):
            return first
        return _reciprocal(values, symbols, where, first.dtype)
    if isinstance(first, (np.ndarray, np.generic)):
        if any(v.shape != first.shape or v.dtype != first.dtype or v.tobytes() != first.tobytes() for v in values):
            raise _differs(f"{where} (a constant array; compute it from the arguments instead)", symbols)
        return first
    if all(v == first and repr(v) == repr(first) for v in values):
        return first
    if kind is int:
        return _size(_interpolated([Fraction(v) for v in values], symbols, SAMPLES[: len(symbols)]))
    if kind is float:
        return _reciprocal(values, symbols, where, None)
    raise _differs(where, symbols)


def _reciprocal(values: Sequence[Any], symbols: Sequence[str], where: str, dtype: np.dtype | None) -> Size:
    """Floats that are a constant over a polynomial, to the bit."""
    number: Callable = float if dtype is None else dtype.type
    if all(v and np.isfinite(v) for v in values):
        for numerator in (1.0, -1.0, 2.0, -2.0, 0.5, -0.5, 4.0, -4.0):
            wholes = [round(numerator / float(v)) for v in values]
            if all(w and number(numerator / w) == v for w, v in zip(wholes, values, strict=True)):
                coefficients = _interpolated([Fraction(w) for w in wholes], symbols, SAMPLES[: len(symbols)])
                return _size(coefficients, numerator, None if dtype is None else dtype.name)
    raise _differs(where, symbols)


def _size(coefficients: Mapping[tuple, Fraction], numerator: float | None = None, dtype: str | None = None) -> Size:
    order = sorted(coefficients.items(), key=lambda item: (-len(item[0]), item[0]))
    return Size(tuple((c, names) for names, c in order), numerator, dtype)


def _differs(where: str, symbols: Sequence[str]) -> GraphError:
    return GraphError(
        f"{where} depends on {' and '.join(symbols)} in a way that a graph of symbolic sizes cannot hold; trace it with known sizes, "
        "or use hammer.compile, which makes a graph for each"
    )


def _bound(template: Any, sizes: Mapping[str, int]) -> Any:
    """A template with its formulas replaced by their values."""
    if isinstance(template, Size):
        return template.at(sizes)
    if isinstance(template, (list, tuple)):
        return type(template)([_bound(v, sizes) for v in template])
    return {k: _bound(v, sizes) for k, v in template.items()} if isinstance(template, dict) else template


# ---- families of graphs ----


class SizedGraph:
    """A family of graphs, one for each choice of sizes. Made by ``UniversalGraph.trace`` and ``Builder.build``.

    Call it as a graph: the sizes are read off the arguments. ``bind(B=32)`` is the graph of known sizes.
    """

    def __init__(self, template: Mapping[str, Any], symbols: Sequence[str], parameters: Mapping[str, Any]):
        self.template, self.symbols, self.parameters = dict(template), tuple(symbols), dict(parameters)
        self.name: str = template["name"]
        self._graphs: dict[tuple, UniversalGraph] = {}

    @classmethod
    def fit(cls, make: Callable[[dict[str, int]], UniversalGraph], symbols: Sequence[str]) -> "SizedGraph":
        """The family of what ``make(sizes)`` makes.

        Raises:
            GraphError: the graphs depend on the sizes in a way that is not fitted, or there are more than three symbols.
        """
        if len(symbols) > len(SAMPLES):
            raise GraphError(
                f"a graph may have {len(SAMPLES)} symbolic sizes, not {len(symbols)}: {', '.join(symbols)}"
            )
        grid = [
            dict(zip(symbols, p, strict=True)) for p in itertools.product(*(s[:2] for s in SAMPLES[: len(symbols)]))
        ]
        graphs = [make(sizes) for sizes in grid]
        states = [to_state(g) for g in graphs]
        counts = [len(s["nodes"]) for s in states]
        if len(set(counts)) > 1:
            raise _differs(f"{graphs[0].name}: the number of operations, {counts}", symbols)
        family = cls(fitted(states, symbols, graphs[0].name), symbols, graphs[0].parameters)
        proof = dict(zip(symbols, (s[2] for s in SAMPLES), strict=False))
        if family.bind(**proof) != make(proof):
            raise _differs(
                f"{family.name}: what is right for {_told(grid[0])} is wrong for {_told(proof)}; something in it",
                symbols,
            )
        return family

    def bind(self, **sizes: int) -> UniversalGraph:
        """The graph of known sizes, given by name.

        Raises:
            GraphError: a size is missing, unknown or below 1, or the graph does not exist for it.
        """
        if sizes.keys() != set(self.symbols) or any(int(v) < 1 for v in sizes.values()):
            raise GraphError(
                f"{self.name}: bind needs {', '.join(self.symbols)}, each at least 1, not {_told(sizes) or 'nothing'}"
            )
        key = tuple(int(sizes[s]) for s in self.symbols)
        if key not in self._graphs:
            if len(self._graphs) >= KEPT:
                self._graphs.pop(next(iter(self._graphs)))
            self._graphs[key] = from_state(
                _bound(self.template, dict(zip(self.symbols, key, strict=True))), self.parameters
            )
        return self._graphs[key]

    def sizes_of(self, *args: Any) -> dict[str, int]:
        """The sizes that arguments have.

        Raises:
            GraphError: they do not agree, or are of another structure.
        """
        places, tree = optree.tree_flatten(self.template["arguments"])
        try:
            leaves: list[Any] = tree.flatten_up_to(tuple(args))  # type: ignore[arg-type]
        except ValueError as error:
            raise GraphError(f"{self.name}: the arguments are not of the graph's structure: {error}") from None
        found: dict[str, int] = {}
        for place, leaf in zip(places, leaves, strict=True):
            if isinstance(place, str):
                continue
            entry = self.template["nodes"][self.template["inputs"][place]]
            name, shape = entry["attributes"]["name"], tuple(leaf.shape) if hasattr(leaf, "shape") else np.shape(leaf)
            if len(shape) != len(entry["shape"]):
                raise GraphError(
                    f"{self.name}: the input {name!r} has shape {tuple(entry['shape'])}, the value given {shape}"
                )
            for n, size in zip(shape, entry["shape"], strict=True):
                symbol = size.symbol if isinstance(size, Size) else None
                if symbol is not None and found.setdefault(symbol, n) != n:
                    raise GraphError(
                        f"{self.name}: {symbol} is {found[symbol]} elsewhere, but {n} in the input {name!r}"
                    )
        return found

    def __call__(self, *args: Any, **parameters: Any) -> Any:
        """The outputs; see ``UniversalGraph.__call__``."""
        return self.bind(**self.sizes_of(*args))(*args, **parameters)

    def grad(self, loss: Any = None, wrt: Any = None, value: bool = False) -> "SizedGraph":
        """The family of gradients; see ``UniversalGraph.grad``."""
        return self.lift(lambda graph: graph.grad(loss, wrt, value))

    def optimize(self, exact: bool = True) -> "SizedGraph":
        """The family, optimised; see ``UniversalGraph.optimize``."""
        return self.lift(lambda graph: graph.optimize(exact))

    def select(self, choose: Callable[[Any], Any]) -> "SizedGraph":
        """The family of some of the outputs; see ``UniversalGraph.select``."""
        return self.lift(lambda graph: graph.select(choose))

    def lift(self, change: Callable[[UniversalGraph], UniversalGraph]) -> "SizedGraph":
        """The family of what a function makes of each graph."""
        return SizedGraph.fit(lambda sizes: change(self.bind(**sizes)), self.symbols)

    def view(self) -> UniversalGraph:
        """The graph with formulas in the place of numbers: to be printed and drawn, not run."""
        return from_state(self.template, self.parameters, checked=False)

    def save(self, path: Path | str) -> None:
        """Keep it as one file; see ``UniversalGraph.save``."""
        save(path, {"symbols": self.symbols, "template": _packed(self.template)}, self.parameters)

    def __str__(self) -> str:
        return str(self.view())

    def __repr__(self) -> str:
        return repr(self.view()).replace("<UniversalGraph", f"<SizedGraph of {', '.join(self.symbols)}:", 1)


def _packed(template: Any) -> Any:
    """A template whose formulas are plain data."""
    if isinstance(template, Size):
        terms = [(c.numerator, c.denominator, names) for c, names in template.terms]
        return {"size": (terms, template.numerator, template.dtype)}
    if isinstance(template, (list, tuple)):
        return type(template)([_packed(v) for v in template])
    return {k: _packed(v) for k, v in template.items()} if isinstance(template, dict) else template


def _unpacked(template: Any) -> Any:
    if isinstance(template, (list, tuple)):
        return type(template)([_unpacked(v) for v in template])
    if isinstance(template, dict):
        if template.keys() == {"size"}:
            terms, numerator, dtype = template["size"]
            return Size(tuple((Fraction(a, b), tuple(names)) for a, b, names in terms), numerator, dtype)
        return {k: _unpacked(v) for k, v in template.items()}
    return template


def of_file(state: Mapping[str, Any], parameters: Mapping[str, Any]) -> Any:
    """The graph, or the family, of a file's content."""
    if "template" in state:
        return SizedGraph(_unpacked(state["template"]), state["symbols"], parameters)
    return from_state(state, parameters)


def trace_sized(
    function: Callable, specs: Sequence[Any], name: str | None, held: Sequence[tuple[str, Any]] | None = None
) -> SizedGraph | None:
    """The family of a function's graphs, if names are among the sizes of the specs."""
    from .trace import Spec, trace_once

    leaves, tree = optree.tree_flatten(tuple(specs))  # type: ignore[arg-type,var-annotated]
    symbols = list(dict.fromkeys(n for s in leaves if isinstance(s, Spec) for n in s.shape if isinstance(n, str)))
    if not symbols:
        return None

    def known(spec: Any, sizes: Mapping[str, int]) -> Any:
        if not isinstance(spec, Spec):
            return spec
        return Spec(tuple(sizes[n] if isinstance(n, str) else n for n in spec.shape), spec.dtype, spec.name)

    def make(sizes: dict[str, int]) -> UniversalGraph:
        given: Any = optree.tree_unflatten(tree, [known(s, sizes) for s in leaves])
        return trace_once(function, given, name, held)

    return SizedGraph.fit(make, symbols)
