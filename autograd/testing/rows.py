"""``check_row``: everything that a row of the op table must satisfy, on calls drawn from its domain.

Each check is a method of ``RowCheck`` named after what it asserts. Derivatives are held against evaluations; the rest are
promises of the table: shapes and dtypes are known beforehand, precision is kept, what a rule names is what is kept for
it, a rule runs on every kind of array, and nothing is left behind.
"""

import gc
import math
import warnings
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from ..backend import freeze, is_array, scalar
from ..table import OPS, Row, _names
from ..tape import BackwardPass, Spec
from ..tensor import DiffTensor
from . import device
from .calls import EXEMPT, Call, calls
from .check import Options, check_problem, dual
from .numeric import Estimate, Vector, analytic, complex_step
from .problem import Problem
from .strategies import HealthCheck, given, settings

PRECISIONS = ("float16", "float32", "float64", "complex64", "complex128")
COUNTING = ("bool", "uint8", "int32", "int64")
CASTS = ("astype", "to_device")  # rows whose purpose is another dtype


def check_row(name: str, examples: int = 25) -> None:
    """Run every check on a row of the op table.

    Args:
        name: the row's name in ``autograd.OPS``.
        examples: how many calls hypothesis draws.

    Raises:
        AssertionError: naming the check, and the smallest call found that fails it.
        LookupError: there is no such row, or it has no strategy (see ``autograd.testing.calls``).
    """
    if name not in OPS:
        raise LookupError(f"the op table has no row {name!r}")
    check = RowCheck(OPS[name])

    def one(call: Call) -> None:
        check.call(call)

    quiet = settings(
        max_examples=examples,
        database=None,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )
    quiet(given(calls(name))(one))()
    check.finish()


class RowProblem(Problem):
    """A row's call as a problem. A row that is analytic is held against complex steps, any other against differences."""

    def estimate(self, v: Vector, x: Vector | None = None) -> Estimate:
        x = self.x if x is None else x
        return complex_step(self.value, x, v, self.bits) if self.analytic else super().estimate(v, x)


class RowCheck:
    """The checks of one row; ``finish`` has those that need all calls."""

    def __init__(self, row: Row):
        self.row = row
        self.read: set[tuple[int, int]] = set()  # (rule, place) of what rules were seen to read
        self.ran: set[str] = set()
        self.last: Call | None = None

    def call(self, call: Call) -> None:
        """All checks of one call."""
        for a in call.inputs:
            freeze(a)
        checks: list[Callable[[Call], None]] = [self.inferred, self.symbolic, self.costs]
        if call.tracked:
            checks += [self.derivatives, self.precision, self.retention]
            if self.row.complex and not self.exempt("complex") and _lot(call) % 3 == 0:
                checks.append(self.complex_derivatives)
        checks.append(self.on_pretend_device)
        for check in checks:
            try:
                check(call)
            except Exception as error:
                what = (check.__doc__ or "").strip().rstrip(".")
                raise AssertionError(
                    f"row {self.row.name!r}: not true: {what}: {type(error).__name__}: {error}\n    in {call!r}"
                ) from error
        if call.tracked and all(np.size(a) for a in call.inputs):
            self.last = call

    def exempt(self, check: str) -> bool:
        """Whether a check is left out for this row, for a reason stated in ``calls.EXEMPT``."""
        return (self.row.name, check) in EXEMPT

    def finish(self) -> None:
        """The checks that need all calls, or only one."""
        row = self.row
        for i, rule in enumerate(row.vjps):
            if rule is None:
                continue
            names = _names(rule)[1:]
            places = 2 if row.variadic else len(row.vjps) + 1
            unread = [name for j, name in enumerate(names[:places]) if name[0] != "_" and (i, j) not in self.read]
            if unread and self.last is not None:
                raise AssertionError(
                    f"row {row.name!r}: rule {i} never reads {', '.join(unread)}: begin the name with an underscore, so that it is not kept"
                )
        if "pretend device" not in self.ran:
            raise AssertionError(f"row {row.name!r}: no drawn call could be run on the pretend device")
        if self.last is not None:
            self.cycles(self.last)

    # ---- derivatives ----

    def problem(self, call: Call) -> Problem:
        """The outputs of a call that have derivatives, as a function of its inputs that have."""

        def outputs(*tensors: Any) -> tuple:
            inputs = list(call.inputs)
            for i, t in zip(call.tracked, tensors, strict=True):
                inputs[i] = t
            out = call.run(*inputs)
            return tuple(o for o in (out if isinstance(out, tuple) else (out,)) if np.dtype(o.dtype).kind in "fc")

        return RowProblem(outputs, [call.inputs[i] for i in call.tracked], [f"input {i}" for i in call.tracked])

    def derivatives(self, call: Call) -> None:
        """The rules give the derivatives that evaluations give, and so do the rules of the rules."""
        rng = np.random.default_rng(0)
        problem = self.problem(call)
        check_problem(problem, 2, Options(modes=("rev",), directions=1, singly=(16, 6), floor=1e-10), rng)
        dual(problem, 1e-9, rng)

    def complex_derivatives(self, call: Call) -> None:
        """The rules give the derivatives that evaluations give, for complex inputs."""
        rng = np.random.default_rng(0)
        problem = self.problem(call.astype(np.complex128))
        check_problem(problem, 1, Options(modes=("rev",), directions=1, singly=(6, 6), floor=1e-10), rng)
        dual(problem, 1e-9, rng)

    # ---- promises of the table ----

    def inferred(self, call: Call) -> None:
        """Shape and dtype are known before the value is computed."""
        for dtype in PRECISIONS + (() if self.exempt("integers") else COUNTING):
            if dtype[0] == "c" and not self.row.complex:
                continue
            given = call.astype(dtype)
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    found = given.run(*given.inputs)
                except (TypeError, ValueError):
                    if dtype in COUNTING:  # the operation is not defined for these
                        continue
                    raise
            self._same(self.row.infer(*given.inputs, **given.params), found, dtype)

    def _same(self, inferred: Any, found: Any, what: str) -> None:
        inferred, found = (inferred, found) if isinstance(found, tuple) else ([inferred], (found,))
        if len(inferred) != len(found):
            raise AssertionError(f"{what}: {len(inferred)} outputs were inferred, {len(found)} came")
        for (shape, dtype), o in zip(inferred, found, strict=True):
            if tuple(shape) != tuple(o.shape) or dtype != o.dtype:
                raise AssertionError(f"{what}: inferred {dtype}{tuple(shape)}, found {o.dtype}{tuple(o.shape)}")

    def symbolic(self, call: Call) -> None:
        """On symbolic tensors the row infers the same, and its gradient is built without a value."""
        if not call.inexact:
            return
        for dtype in ("float32", "float64"):
            given = call.astype(dtype)
            symbols = [
                DiffTensor.symbol(np.shape(a), a.dtype) if i in call.inexact else a for i, a in enumerate(given.inputs)
            ]
            out = given.run(*symbols)
            self._same(
                [(o.shape, o.dtype) for o in out] if isinstance(out, tuple) else (out.shape, out.dtype),
                given.run(*given.inputs),
                dtype,
            )
            outs = [
                o
                for o in (out if isinstance(out, tuple) else (out,))
                if np.dtype(o.dtype).kind in "fc" and o.node is not None
            ]
            if not call.tracked or not outs:
                continue
            wanted = [symbols[i] for i in call.tracked]
            grads = BackwardPass(outs, wanted).run([DiffTensor.symbol(o.shape, o.dtype) for o in outs])
            for t in wanted:
                g = grads[t.node]  # type: ignore[index]
                if g.raw is not None or tuple(g.shape) != tuple(t.shape) or g.dtype != t.dtype:
                    raise AssertionError(f"{dtype}: the gradient of {t} is {g}")

    def costs(self, call: Call) -> None:
        """The cost is finite and not negative."""
        flops, moved = self.row.cost(call.run(*call.inputs), *call.inputs, **call.params)
        if not (math.isfinite(flops) and flops >= 0 and moved >= 0 and isinstance(moved, int)):
            raise AssertionError(f"{flops} FLOPs, {moved} bytes")

    def precision(self, call: Call) -> None:
        """float32 stays float32, forward and in the rules, and float16 float16; the values are those of float64."""
        exact = self._gradients(call)
        for dtype in ("float32", "float16", "complex64") if self.row.complex else ("float32", "float16"):
            if self.exempt(dtype):
                continue
            given = call.astype(dtype)
            allowed = {np.finfo(dtype).bits}
            if any(
                is_array(a) and a.dtype.kind in "iu" for a in call.inputs
            ):  # 64-bit integers may promote, as in NumPy
                inferred = self.row.infer(*given.inputs, **given.params)
                allowed |= {
                    np.finfo(t).bits
                    for _, t in (inferred if isinstance(inferred, list) else [inferred])
                    if t.kind in "fc"
                }
            for value in self._gradients(given):
                if np.finfo(value.dtype).bits not in allowed and self.row.name not in CASTS:
                    raise AssertionError(f"{dtype} became {value.dtype}")
            if dtype == "float32":
                for a, b in zip(exact, self._gradients(given), strict=True):
                    if not np.allclose(a, b, rtol=1e-3, atol=1e-5 + 1e-3 * np.max(np.abs(a), initial=0.0)):
                        raise AssertionError(f"the values in float32 are {b!r}, those in float64 {a!r}")

    def _gradients(self, call: Call) -> list[Any]:
        """The inexact outputs of a call and what each rule returns for raw arrays, before the engine casts it."""
        out = call.run(*call.inputs)
        outs = out if isinstance(out, tuple) else (out,)
        found = [o for o in outs if np.dtype(o.dtype).kind in "fc"]
        row = self.row.of_arity(len(call.inputs)) if self.row.variadic else self.row
        g: Any = [freeze(_wave(o)) if np.dtype(o.dtype).kind in "fc" else None for o in outs]
        g = g if isinstance(out, tuple) else g[0]
        return found + [
            row.vjps[i](  # type: ignore[misc]
                g, freeze(out) if not isinstance(out, tuple) else out, *call.inputs, **call.params
            )
            for i in call.tracked
        ]

    def retention(self, call: Call) -> None:
        """A rule reads what its parameters' names say, and nodes keep that and nothing else."""
        self._retention(call)
        if self.row.complex and not self.exempt("complex"):
            self._retention(call.astype(np.complex128))

    def _retention(self, call: Call) -> None:
        for i in call.tracked:  # one at a time: what another rule needs is not there
            inputs = [
                DiffTensor(a, requires_grad=True, copy=False) if j == i else DiffTensor(a) if is_array(a) else a
                for j, a in enumerate(call.inputs)
            ]
            raws = [t.raw if isinstance(t, DiffTensor) else t for t in inputs]
            out = call.run(*inputs)
            outs = [o for o in (out if isinstance(out, tuple) else (out,)) if o.node is not None]
            if not outs:
                continue
            node = outs[0].node if not isinstance(out, tuple) else outs[0].node.parents[0]
            reads = node.row.reads[i]
            kept = {id(a): a.nbytes for j, a in enumerate(raws, 1) if j in reads and is_array(a)}
            if 0 in reads:
                kept |= {id(o.raw): o.raw.nbytes for o in (out if isinstance(out, tuple) else (out,))}
            held = BackwardPass(outs).bytes_retained
            numbers = any(
                isinstance(a, np.generic) for a in raws
            )  # NumPy scalars are kept anyway: a stand-in is larger
            if not numbers and held != sum(kept.values()):
                raise AssertionError(f"for input {i} {held} bytes are kept; the names say {sum(kept.values())}")
            seeds = [_wave(o.raw) for o in outs]
            # runs on stand-ins for all that is not kept: fails if they are read
            (together,) = BackwardPass(outs).run(seeds).values()
            if len(outs) > 1:
                parts = [
                    g for o, seed in zip(outs, seeds, strict=True) for g in BackwardPass((o,)).run((seed,)).values()
                ]
                if not np.allclose(together, sum(parts), rtol=1e-9, atol=1e-9):
                    raise AssertionError("the gradient of several outputs is not the sum of the gradients of each")
            self._unread(call, node, i, raws, out)

    def _unread(self, call: Call, node: Any, i: int, raws: list, out: Any) -> None:
        """Replace, one at a time, what a rule says that it reads: if nothing changes it does not."""
        raw_out = tuple(o.raw for o in out) if isinstance(out, tuple) else out.raw
        g: Any = [
            _wave(o) if np.dtype(o.dtype).kind in "fc" else None
            for o in (raw_out if isinstance(out, tuple) else (raw_out,))
        ]
        g = g if isinstance(out, tuple) else g[0]
        rule = node.row.vjps[i]
        expected = np.asarray(rule(g, raw_out, *raws, **call.params))
        groups = (
            {0: [0], 1: list(range(1, len(raws) + 1))} if self.row.variadic else {j: [j] for j in range(len(raws) + 1)}
        )
        at = 0 if self.row.variadic else i
        for place, members in groups.items():
            if (at, place) in self.read:
                continue
            saved = [raw_out, *raws]
            for j in members:
                saved[j] = None if j == 0 else Spec(np.shape(saved[j]), np.result_type(saved[j]))
            try:
                same = np.array_equal(np.asarray(rule(g, *saved, **call.params)), expected)
            except Exception:  # noqa: BLE001 - whatever goes wrong with a stand-in, it was read
                same = False
            if not same:
                self.read.add((at, place))

    def on_pretend_device(self, call: Call) -> None:
        """The row and its rules run on another device without a hidden copy to the host, with NumPy's values."""
        if self.row.name == "to_device" or self.exempt("pretend device"):
            self.ran.add("pretend device")
            return
        call = Call(
            call.row, call.inputs, {k: _whole_index(v, call) if k == "index" else v for k, v in call.params.items()}
        )
        if not _indexable(call):
            return
        there = Call(call.row, call.inputs, {k: device.put(v) for k, v in call.params.items()})
        expected = self._values(call, call.inputs)
        inputs = [device.put(a) for a in call.inputs]
        seeds = [device.put(_wave(o)) for o in expected[0]]
        with device.guarded():
            found = self._values(there, inputs, seeds)
        self.ran.add("pretend device")
        for kind, ours, theirs in zip(("outputs", "gradients"), expected, found, strict=True):
            for a, b in zip(ours, theirs, strict=True):
                b = device.get(b)
                if a.shape != b.shape or a.dtype != b.dtype:
                    raise AssertionError(f"{kind}: {b.dtype}{b.shape} on the device, {a.dtype}{a.shape} with NumPy")
                if not np.allclose(
                    a, b, rtol=1e-10, atol=1e-12 * np.max(np.abs(a), initial=1.0) if a.dtype.kind in "fc" else 0
                ):
                    raise AssertionError(f"{kind}: {b!r} on the device, {a!r} with NumPy")

    def _values(self, call: Call, inputs: Any, seeds: list | None = None) -> tuple[list, list]:
        tensors = [
            DiffTensor(a, requires_grad=i in call.tracked, copy=False) if is_array(a) else a
            for i, a in enumerate(inputs)
        ]
        out = call.run(*tensors)
        outs = list(out) if isinstance(out, tuple) else [out]
        tracked = [k for k, o in enumerate(outs) if o.node is not None]
        grads: list = []
        if tracked:
            seeds = [_wave(o.raw) for o in outs] if seeds is None else seeds
            found = BackwardPass([outs[k] for k in tracked]).run([seeds[k] for k in tracked])
            grads = [found[tensors[i].node] for i in call.tracked]  # type: ignore[index]
        return [o.raw for o in outs], grads

    def cycles(self, call: Call) -> None:
        """No reference cycles."""
        gc.collect()
        gc.disable()
        gc.freeze()
        try:
            self._values(call, call.inputs)
            found = gc.collect()
        finally:
            gc.unfreeze()
            gc.enable()
        if found:
            raise AssertionError(f"row {self.row.name!r}: {found} objects in reference cycles are left after backward")


def _lot(call: Call) -> int:
    """A number that the call's values draw: for checks that only some calls go through."""
    return zlib.crc32(b"".join(np.asarray(a).tobytes() for a in call.inputs))


def _wave(like: Any) -> Any:
    """A cotangent that is nowhere zero and everywhere different, of the shape and dtype of an array."""
    n = int(np.prod(np.shape(like)))
    wave = np.cos(np.arange(n) * 2.4) + 0.1
    dtype = np.dtype(like.dtype)
    return scalar((wave + 0.5j * np.flip(wave) if dtype.kind == "c" else wave).astype(dtype).reshape(np.shape(like)))


def _whole_index(index: Any, call: Call) -> Any:
    """An index expression that says ``...`` where it does not name all axes, as the array API demands."""
    parts = index if isinstance(index, tuple) else (index,)
    if any(isinstance(p, np.ndarray) and p.dtype == bool for p in parts):
        return index
    return parts if any(p is Ellipsis for p in parts) else (*parts, Ellipsis)


def _indexable(call: Call) -> bool:
    """Whether the array API has the call's index expression at all; it leaves out mixtures of arrays and slices."""
    if "index" not in call.params:
        return True
    shape = call.params["shape"] if "shape" in call.params else np.shape(call.inputs[0])
    try:
        with device.guarded():
            target = device.strict.zeros(shape, device=device.DEVICE)
            target[device.put(call.params["index"])]
    except IndexError:
        return False
    return True


__all__ = ["RowCheck", "analytic", "check_row"]
