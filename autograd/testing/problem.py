"""A function of trees of arrays, seen as a map of real vectors.

That is the view in which derivatives can be compared: ``value`` evaluates the function, ``pull`` and ``push`` are its
derivative as the tape gives it, ``estimate`` as evaluations give it. A complex number counts as two real ones.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
import optree

from .. import backend
from ..context import AutogradContext
from ..tensor import DiffTensor
from ..transforms import jvp, vjp
from .numeric import NOT_FOR_COMPLEX, Estimate, Vector, analytic, complex_step, differences, plausible, rounded, sizes

BITS = {2: 11, 4: 24, 8: 53}  # of the mantissa, by the bytes of a real number


class Space:
    """Lists of arrays of given shapes and dtypes, and the vectors that stand for them; ``names`` are for messages."""

    def __init__(self, arrays: Sequence[Any], names: Sequence[str]):
        self.specs = [(np.shape(a), np.result_type(a)) for a in arrays]
        self.names = list(names)
        self.lengths = [int(np.prod(shape)) * (2 if dtype.kind == "c" else 1) for shape, dtype in self.specs]
        self.size = sum(self.lengths)
        self.owner = np.repeat(np.arange(len(self.lengths)), self.lengths)  # the number of the array of each component
        self.real = all(dtype.kind == "f" for _, dtype in self.specs)
        self.bits = min((BITS[np.finfo(dtype).dtype.itemsize] for _, dtype in self.specs), default=53)

    def join(self, arrays: Sequence[Any]) -> Vector:
        """Arrays as one vector of doubles; in a complex step, where real arrays have become complex, of complex ones."""
        parts = []
        for array, (shape, dtype) in zip(arrays, self.specs, strict=True):
            a = np.asarray(array.raw if isinstance(array, DiffTensor) else array)
            if a.shape != shape:
                raise AssertionError(f"an array of shape {shape} was expected, not {a.shape}")
            if dtype.kind == "c":
                a = np.stack([a.real, a.imag], axis=-1)
            parts.append(a.reshape(-1).astype(np.result_type(a.dtype, np.float64)))
        return np.concatenate([np.zeros(0), *parts])

    def split(self, x: Vector) -> list[Any]:
        found, start = [], 0
        for (shape, dtype), n in zip(self.specs, self.lengths, strict=True):
            part, start = x[start : start + n], start + n
            if dtype.kind == "c":
                part = part[0::2] + 1j * part[1::2]
            kind = np.result_type(dtype, np.complex64) if part.dtype.kind == "c" else dtype
            found.append(backend.scalar(part.astype(kind).reshape(shape)))
        return found

    def name(self, i: int) -> str:
        """What component ``i`` of a vector is: the array, the place in it, the part of a complex number."""
        for name, (shape, dtype), n in zip(self.names, self.specs, self.lengths, strict=True):
            if i < n:
                parts = 2 if dtype.kind == "c" else 1
                place = f"[{', '.join(str(int(k)) for k in np.unravel_index(i // parts, shape))}]" if shape else ""
                return name + place + ("" if parts == 1 else (", real part", ", imaginary part")[i % 2])
            i -= n
        raise IndexError(i)


class Problem:
    """A function of arrays (called with tensors) to a sequence of arrays, at one point.

    Gradients follow the convention of HIPS autograd and JAX: a gradient g pairs with a direction v as Re Σ gv, so that
    as a vector it is (re, -im).
    """

    def __init__(
        self,
        fn: Callable[..., Sequence[Any]],
        arrays: Sequence[Any],
        names: Sequence[str],
        outputs: Sequence[str] | None = None,
    ):
        self.fn, self.inputs, self.arrays = fn, Space(arrays, names), list(arrays)
        self.x = rounded(self.inputs.join(arrays), self.inputs.bits)
        first = [o.raw if isinstance(o, DiffTensor) else o for o in self._run(self.x)]
        self.outputs = Space(first, outputs or [f"output {k}" for k in range(len(first))])
        self.bits = min(self.inputs.bits, self.outputs.bits)
        if not np.array_equal(self.outputs.join(first), self.value(self.x), equal_nan=True):
            raise ValueError(
                "the function gave different values at the same arguments; let it make its own seeded generator on each call"
            )
        self._analytic: bool | None = None
        self.terms = np.zeros(self.outputs.size)  # of a derivative: the size of what its terms may cancel from

    @classmethod
    def of(cls, fn: Callable, args: tuple, argnums: int | Sequence[int] | None = None) -> Self:
        """The problem of a user's function of trees. float16 and float32 leaves become float64, unless ``fn`` refuses."""
        leaves: list[Any]
        leaves, tree = optree.tree_flatten(args)  # type: ignore[arg-type]
        leaves = [leaf.raw if isinstance(leaf, DiffTensor) else leaf for leaf in leaves]
        wanted = range(len(args)) if argnums is None else (argnums,) if isinstance(argnums, int) else argnums
        chosen = {a % len(args) for a in wanted}
        accessors = optree.tree_accessors(args)  # type: ignore[arg-type]
        active = [
            i
            for i, (leaf, a) in enumerate(zip(leaves, accessors, strict=True))
            if a[0].entry in chosen and _inexact(leaf)
        ]
        if not active:
            raise TypeError("no argument holds floating-point or complex numbers: there is nothing to differentiate")
        names = [accessors[i][1:].codify(f"argument {accessors[i][0].entry}") for i in active]
        out: list[str] = []

        def inner(*tensors: Any) -> tuple:
            values = list(leaves)
            for i, t in zip(active, tensors, strict=True):
                values[i] = t
            result = fn(*optree.tree_unflatten(tree, values))
            found = optree.tree_leaves(result)
            kept = [k for k, o in enumerate(found) if _inexact(o)]
            if not kept:
                raise TypeError(f"the function returned nothing with floating-point or complex numbers: {result!r:.80}")
            out[:] = [optree.tree_accessors(result)[k].codify("output") for k in kept]
            return tuple(found[k] for k in kept)

        given = [np.asarray(leaves[i]) for i in active]
        wide = [a.astype(np.complex128 if a.dtype.kind == "c" else np.float64) for a in given]
        try:
            problem = cls(inner, wide, names, None)
        except (TypeError, ValueError):
            if all(a.dtype == b.dtype for a, b in zip(given, wide, strict=True)):
                raise
            problem = cls(inner, given, names, None)
        problem.outputs.names = list(out)
        value = problem.value(problem.x)
        for i in map(int, np.flatnonzero(~np.isfinite(value))[:1]):
            raise ValueError(f"the function is not finite at these arguments: {problem.outputs.name(i)} is {value[i]}")
        return problem

    def _run(self, x: Vector) -> Sequence[Any]:
        return self.fn(*(DiffTensor._wrap(a, None) for a in self.inputs.split(x)))

    def value(self, x: Vector) -> Vector:
        return self.outputs.join(self._run(x))

    def magnitude(self) -> Vector:
        """For each output the size of the largest in its array: it may itself be a small difference of such numbers."""
        found = np.fmax(np.abs(self.value(self.x)), self.terms)
        top = np.zeros(len(self.outputs.names))
        np.fmax.at(top, self.outputs.owner, found)
        return top[self.outputs.owner]

    def pull(self, x: Vector, u: Vector) -> Vector:
        """Jᵀu, in reverse mode."""
        cotangents = tuple(np.conj(a) for a in self.outputs.split(u))
        return self.inputs.join([np.conj(_raw(g)) for g in vjp(self.fn, *self.inputs.split(x))[1](cotangents)])

    def push(self, x: Vector, v: Vector) -> Vector:
        """Jv, in forward mode."""
        return self.outputs.join(jvp(self.fn, self.inputs.split(x), self.inputs.split(v))[1])

    def pulled(self, u: Vector) -> "Problem":
        """The gradient, for a fixed cotangent, as a function again: its derivative is of the next order."""
        cotangents = tuple(np.conj(a) for a in self.outputs.split(u))
        names = [f"gradient of {name}" for name in self.inputs.names]
        found = Problem(lambda *a: vjp(self.fn, *a)[1](cotangents), self.inputs.split(self.x), self.inputs.names, names)
        found.terms = np.abs(u) @ self.magnitude() / sizes(self.x)
        return found

    def pushed(self, v: Vector) -> "Problem":
        """The tangent, for a fixed direction, as a function again."""
        tangents = self.inputs.split(v)
        names = [f"tangent of {name}" for name in self.outputs.names]
        found = Problem(lambda *a: jvp(self.fn, a, tangents)[1], self.inputs.split(self.x), self.inputs.names, names)
        found.terms = self.magnitude()
        return found

    @property
    def analytic(self) -> bool:
        """Whether all arrays are real and every row that runs is analytic: then complex steps are valid."""
        if self._analytic is None:
            self._analytic = self.inputs.real and self.outputs.real
            if self._analytic:
                variables = [DiffTensor(a, requires_grad=True) for a in self.inputs.split(self.x)]
                with AutogradContext(observer=self._see):
                    self.fn(*variables)
        return self._analytic

    def _see(self, row: Any, inputs: tuple, params: dict, _outputs: tuple) -> None:
        if self._analytic and "backward" not in params:
            self._analytic = analytic(row, inputs, params)

    def estimate(self, v: Vector, x: Vector | None = None) -> Estimate:
        """The derivative along v: by a complex step if that is valid and differences do not contradict it."""
        x, exact = self.x if x is None else x, None
        if self.analytic:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("error", np.exceptions.ComplexWarning)
                    exact = complex_step(self.value, x, v, self.bits)
            except NOT_FOR_COMPLEX:  # not through a row: something in the function itself, such as float(x)
                self._analytic = False
            if exact is not None and plausible(self.value, x, v, exact, self.bits):
                return exact
        found = differences(self.value, x, v, self.bits)
        if exact is not None and not found.kink.any():
            gap = np.abs(exact.value - found.value)
            near = gap <= 4 * (found.error + exact.error) + 1e-6 * np.abs(exact.value)
            if np.all(np.isfinite(found.error) & (near | (found.moved == 0))):  # what never moves contradicts nothing
                return exact
        return found


def _raw(value: Any) -> Any:
    return value.raw if isinstance(value, DiffTensor) else value


def _inexact(leaf: Any) -> bool:
    if isinstance(leaf, (float, complex)):
        return True
    if not hasattr(leaf, "dtype") or not backend.is_inexact(leaf.dtype):
        return False
    if isinstance(leaf, (DiffTensor, np.ndarray, np.generic)):
        return True
    raise TypeError(f"arrays of {type(leaf).__module__.partition('.')[0]} cannot be checked here; pass NumPy arrays")
