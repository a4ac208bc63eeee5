"""When two libraries may differ: the error model of the differential fuzzer.

Two libraries that compute the same program round differently, and a program may magnify what rounding does. So a difference
means something only beside the program's own sensitivity, which is *measured*: the program is run again in float64 with a
small random relative change of every input of every row, and of every output. Since these changes are factors, the
backward pass runs through them too and changes every cotangent in the same way. That is stochastic arithmetic (Vignes
1993; Parker 1997, "Monte Carlo arithmetic") with changes larger than rounding, so that what is measured is the first-order
propagation and not the rounding of the measurement:

    bound of an element = SAFETY · spread of the element · (unit roundoff / size of the changes)

where the spread is the root mean square over ``FEW`` runs; an element beyond its bound is looked at again with ``MANY``
runs, whose largest change counts. Outputs change by ``allowance(row)`` units, inputs by one: an implementation of a row is
expected to be right to so many units in the last place of its result, or to be the right result for inputs changed by
one (backward stable). Matrix functions and Fourier transforms are right in norm only, so there each element changes by a
random multiple of a random sum of the others as well. A program that comes so near to a kink or a branch that the changes cross it has an accordingly
large spread: it is ill-conditioned there. Integers and booleans are equal, or some run changes them too.
"""

import dataclasses
import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from autograd import ops, stop_gradient
from autograd.backend import scalar
from autograd.dispatch import function_of
from autograd.ops import bessel, decomposition, inverses, special
from autograd.table import OPS, Row
from autograd.testing.programs import Program, Rows, gradients, inexact

NEAR = 64
"""Elements that agree to so many units in the last place need no explanation, and the model is not asked."""
TERMS = 4
"""Elements that differ by less than so many units of the largest element of their array are what is left of terms of that
size; so is what is exactly zero in one library, and differs by less than so many units of the largest number of the program (at least 1)."""
SAFETY, FEW, MANY = 16.0, 3, 24
CHANGES = {"float64": 2.0**-40, "float32": 2.0**-21}
"""The size of the changes, for programs compared in each precision: a little larger than its rounding."""

MATRICES = frozenset(name for name in (*decomposition.__all__, *inverses.__all__) if name in OPS)
MIXING = MATRICES | {"fftn", "ifftn", "rfft", "irfft"}
FUNCTIONS = frozenset(name for name in (*special.__all__, *bessel.__all__) if name in OPS)


def allowance(row: str) -> float:
    """The units in the last place to which an implementation of a row is expected to be right."""
    return 32.0 if row in FUNCTIONS else 16.0 if row in MATRICES else 4.0


class Noisy(Rows):
    """Our rows, with random relative changes of their inputs and outputs.

    An output is changed inside of the row, so that derivative rules that read it read what a rounded one would be; inputs
    are changed on their way into the row. The cotangents of both are changed too, independently, on their way back.
    """

    def __init__(self, size: float, rng: np.random.Generator):
        self.size, self.rng = size, rng
        self.rows: dict[str, Any] = {}

    def call(self, row: str, inputs: Sequence[Any], params: Any) -> Any:
        entry = self.rows.get(row)
        if entry is None:
            entry = self.rows[row] = dataclasses.replace(OPS[row], forward=partial(self._kernel, OPS[row]))
            entry.apply = function_of(entry)
        changed = [self._passed(x, row in MIXING) for x in inputs]
        found = entry.apply(changed, **params) if entry.variadic else entry.apply(*changed, **params)
        return tuple(map(self._back, found)) if isinstance(found, tuple) else self._back(found)

    def _kernel(self, row: Row, *inputs: Any, **params: Any) -> Any:
        of_arrays = row.kernels[np.ndarray]
        found = of_arrays(*inputs, **params)
        units, mixing = allowance(row.name), row.name in MIXING
        if isinstance(found, tuple):
            return tuple(self._changed(y, units, mixing) for y in found)
        return self._changed(found, units, mixing)

    def _changed(self, x: Any, units: float, mixing: bool) -> Any:
        """An array with rounding, so to speak."""
        if x.dtype.kind not in "fc" or not x.size:
            return x
        noise = lambda: self.rng.uniform(-1.0, 1.0, x.shape)
        change = x * noise()
        if mixing:
            change = change + np.sum(x * noise()) / math.sqrt(x.size) * noise()
        return scalar(np.asarray(x + (self.size * units) * change))

    def _back(self, y: Any) -> Any:
        """The same value, whose cotangent is changed."""
        if getattr(y, "node", None) is None:
            return y
        noise = self.size * self.rng.uniform(-1.0, 1.0, tuple(y.shape))
        return y * (1.0 + noise) - stop_gradient(y * noise)

    def _passed(self, x: Any, mixing: bool) -> Any:
        """A value whose value and cotangent are changed, each in its own way."""
        if not hasattr(x, "dtype") or np.dtype(x.dtype).kind not in "fc" or not x.size:
            return x
        shape = tuple(x.shape)
        noise = lambda: self.size * self.rng.uniform(-1.0, 1.0, shape)
        back = noise()
        changed = x * (1.0 + back) + stop_gradient(x * (noise() - back))
        if mixing:
            mixed = ops.sum(x * noise()) * (noise() / (self.size * math.sqrt(x.size)))
            changed = changed + mixed + stop_gradient(ops.sum(x * noise()) * (noise() / self.size) - mixed)
        return changed


class Model:
    """The sensitivity of a program, measured when it is asked for.

    Args:
        program: in float64 (with leaves that are float32 numbers, to compare in float32).
        dtype: the precision that is compared.
    """

    def __init__(self, program: Program, dtype: str, seed: int = 0):
        self.program, self.dtype = program, dtype
        self.rng = np.random.default_rng(np.random.SeedSequence([seed, 7]))
        self.unit = float(np.finfo(dtype).eps)
        self.clean = _flat(gradients(program))
        self.runs: list[list[Any]] = []

    def _more(self, count: int) -> None:
        while len(self.runs) < count:
            with np.errstate(all="ignore"):
                self.runs.append(_flat(gradients(self.program, Noisy(CHANGES[self.dtype], self.rng))))

    def bound(self, k: int, count: int = FEW) -> Any:
        """By how much element by element two computations of array ``k`` (of outputs, then gradients) may differ."""
        self._more(count)
        clean = np.asarray(self.clean[k])
        if clean.dtype.kind != "f":
            return np.any([run[k] != clean for run in self.runs], axis=0)
        with np.errstate(all="ignore"):
            moved = np.abs(np.stack([np.asarray(run[k]) for run in self.runs[:count]]) - clean)
            spread = np.sqrt(np.mean(moved**2, axis=0)) if count == FEW else np.max(moved, axis=0)
        return SAFETY * np.where(np.isfinite(spread), spread, np.inf) * (self.unit / CHANGES[self.dtype])


def _flat(found: tuple[list, list]) -> list:
    return [*found[0], *found[1]]


class Difference:
    """Where two results differ most, of one array.

    Attributes:
        index: the element. ours, theirs: its values.
        ulps: their difference in units in the last place. allowed: the model's bound in the same units.
    """

    def __init__(self, array: int, what: str, index: tuple, ours: Any, theirs: Any, ulps: float, allowed: float):
        self.array, self.what, self.index, self.ours, self.theirs = array, what, index, ours, theirs
        self.ulps, self.allowed = ulps, allowed

    @property
    def excess(self) -> float:
        return self.ulps / max(self.allowed, 1.0)


def _size(a: Any) -> float:
    """The size of the largest finite number of an array."""
    a = np.asarray(a)
    return float(np.abs(a).max(initial=0.0, where=np.isfinite(a))) if a.dtype.kind == "f" else 0.0


def compare(ours: list, theirs: list, model: Model, outputs: int) -> tuple[list[Difference], float, int]:
    """Differences beyond the model's bounds, the largest difference in ulps, and how many elements needed the model.

    ``ours`` and ``theirs`` are outputs and then gradients; a None among theirs is not compared.
    """
    found: list[Difference] = []
    largest, asked = 0.0, 0
    sizes = [_size(a) for a in ours]
    most = max(1.0, *sizes, *map(_size, model.program.leaves.values()))
    for k, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        if b is None:
            continue
        a, b = np.asarray(a), np.asarray(b)
        what = "values" if k < outputs else "gradients"
        if a.shape != b.shape or (a.dtype.kind == "f") != (b.dtype.kind == "f"):
            found.append(
                Difference(k, f"{what} (shape or kind)", (), f"{a.dtype}{a.shape}", f"{b.dtype}{b.shape}", np.inf, 0.0)
            )
            continue
        if not a.size:
            continue
        if a.dtype.kind != "f":
            differ = (a != b) & ~model.bound(k, MANY) if np.any(a != b) else np.zeros(a.shape, bool)
            asked += int(np.sum(a != b))
            if differ.any():
                at = tuple(map(int, np.argwhere(differ)[0])) if a.ndim else ()
                found.append(Difference(k, f"{what} (counted)", at, a[at].item(), b[at].item(), np.inf, 0.0))
            continue
        a, b = a.astype(np.float64), b.astype(np.float64)
        with np.errstate(all="ignore"):
            same = (a == b) | (np.isnan(a) & np.isnan(b))
            error = np.where(same, 0.0, np.abs(a - b))
            error = np.where(np.isnan(error), np.inf, error)
            unit = np.maximum(np.maximum(np.abs(a), np.abs(b)) * (model.unit / 2), float(np.finfo(model.dtype).tiny))
            unit = np.where(np.isfinite(unit), unit, 1.0)
            ulps = error / unit
        largest = max(largest, float(ulps.max()))
        beyond = ulps > NEAR
        if not beyond.any():
            continue
        asked += int(beyond.sum())
        terms = np.where((a == 0) | (b == 0), most, sizes[k])
        beyond &= ~(error <= np.maximum(model.bound(k), TERMS * model.unit * terms))
        if beyond.any():
            bound = model.bound(k, MANY)
            beyond &= ~(error <= bound)
        if beyond.any():
            at = tuple(map(int, np.unravel_index(np.argmax(np.where(beyond, ulps, -1.0)), a.shape)))
            found.append(
                Difference(k, what, at, float(a[at]), float(b[at]), float(ulps[at]), float(bound[at] / unit[at]))
            )
    return found, largest, asked


__all__ = ["CHANGES", "NEAR", "Difference", "Model", "Noisy", "allowance", "compare", "inexact"]
