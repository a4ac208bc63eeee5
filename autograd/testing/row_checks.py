"""The checks of a row of the op table: each a method of ``RowCheck``, with what it asserts as its first line.

Derivatives are held against evaluations; the rest are promises of the table: shapes and dtypes are known beforehand,
precision is kept, what a rule names is what is kept for it, a rule runs on every kind of array, nothing is left behind, and
``vmap`` is the loop. ``CHECKS`` lists them.
"""

import contextlib
import gc
import math
import warnings
import zlib
from typing import Any

import numpy as np

from ..backend import freeze, is_array, scalar
from ..table import OPS, Row, _names
from ..tape import BackwardPass, Spec
from ..tensor import DiffTensor
from . import device
from .batching import check_batching_of
from .calls import EXEMPT, UNIQUE, Call
from .check import Options, check_problem, dual
from .numeric import Estimate, Vector, complex_step
from .problem import Problem
from .row_report import Report, exemptions

PRECISIONS = ("float16", "float32", "float64", "complex64", "complex128")
COUNTING = ("bool", "uint8", "int32", "int64")
CASTS = ("astype", "to_device")  # rows whose purpose is another dtype


class RowProblem(Problem):
    """A row's call as a problem. A row that is analytic is held against complex steps, any other against differences."""

    def estimate(self, v: Vector, x: Vector | None = None) -> Estimate:
        x = self.x if x is None else x
        return complex_step(self.value, x, v, self.bits) if self.analytic else super().estimate(v, x)


class RowCheck:
    """The checks of one row; ``finish`` has those that need all calls."""

    def __init__(self, row: Row):
        self.row, self.report = row, Report(row.name, ran=dict.fromkeys(CHECKS, 0), exempt=exemptions(row))
        self.read: set[tuple[int, int]] = set()  # (rule, place) of what rules were seen to read
        self.last: Call | None = None

    def call(self, call: Call) -> None:
        """All checks that concern a single call; the dear ones only of some calls, by lot."""
        for a in call.inputs:
            freeze(a)
        for name in OF_CALLS:
            if name not in self.report.exempt and (
                name not in SELDOM or not self.report.ran[name] or _lot(call) % SELDOM[name] == 0
            ):
                self._made(name, call)
        self.report.calls += 1
        if (call.tracked or not self.row.differentiable) and all(np.size(a) for a in call.inputs):
            self.last = call

    def finish(self, complete: bool = True) -> None:
        """The checks that need all calls, or only one; and whether all have been made."""
        for name in ("reading", "cycles"):
            if self.last is not None and name not in self.report.exempt:
                self._made(name, self.last)
        if complete and self.report.lacking:
            lacking = "; ".join(f"{name} ({CHECKS[name]})" for name in self.report.lacking)
            raise AssertionError(
                f"row {self.row.name!r}: none of {self.report.calls} drawn calls went through: {lacking}"
            )

    def _made(self, name: str, call: Call) -> None:
        """Make a check, unless it says (by returning False) that it cannot be made of this call."""
        try:
            made = getattr(self, name.replace(" ", "_"))(call)
        except Exception as error:
            self.report.failed, self.report.failing = name, call
            raise AssertionError(
                f"row {self.row.name!r}: not true: {CHECKS[name]}: {type(error).__name__}: {error}\n    in {call!r}"
            ) from error
        self.report.ran[name] += made is not False

    # ---- derivatives ----

    def problem(self, call: Call) -> Problem:
        """The outputs of a call that have derivatives, as a function of its inputs that have."""
        unique = UNIQUE.get(self.row.name) if any(np.iscomplexobj(a) for a in call.inputs) else None

        def outputs(*tensors: Any) -> tuple:
            inputs = list(call.inputs)
            for i, t in zip(call.tracked, tensors, strict=True):
                inputs[i] = t
            out = call.run(*inputs)
            if unique is not None:
                out = unique(*out)
            return tuple(o for o in (out if isinstance(out, tuple) else (out,)) if np.dtype(o.dtype).kind in "fc")

        return RowProblem(outputs, [call.inputs[i] for i in call.tracked], [f"input {i}" for i in call.tracked])

    def derivatives(self, call: Call) -> bool:
        """The rules give the derivatives that evaluations give, and so do the rules of the rules."""
        if not call.tracked:
            return False
        rng = np.random.default_rng(0)
        problem = self.problem(call)
        check_problem(problem, 2, Options(modes=("rev",), directions=1, singly=(16, 6), floor=1e-10), rng)
        dual(problem, 1e-9, rng)
        return True

    def complex(self, call: Call) -> bool:
        """The rules give the derivatives that evaluations give, for complex inputs."""
        if not call.tracked:
            return False
        rng = np.random.default_rng(0)
        problem = self.problem(call.astype(np.complex128))
        check_problem(problem, 1, Options(modes=("rev",), directions=1, singly=(6, 6), floor=1e-10), rng)
        dual(problem, 1e-9, rng)
        return True

    # ---- promises of the table ----

    def inference(self, call: Call) -> bool:
        """Shape and dtype are known before the value is computed."""
        for dtype in PRECISIONS:
            if dtype[0] != "c" or self.row.complex:
                self._inferred(call.astype(dtype), dtype)
        return True

    def integers(self, call: Call) -> bool:
        """Of integers and booleans, too, shape and dtype are known before the value is computed."""
        for dtype in COUNTING:
            with contextlib.suppress(TypeError, ValueError):  # the operation is not defined for these
                self._inferred(call.astype(dtype), dtype)
        return True

    def _inferred(self, call: Call, what: str) -> None:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = call.run(*call.inputs)
        self._same(self.row.infer(*call.inputs, **call.params), found, what)

    def _same(self, inferred: Any, found: Any, what: str) -> None:
        inferred, found = (inferred, found) if isinstance(found, tuple) else ([inferred], (found,))
        if len(inferred) != len(found):
            raise AssertionError(f"{what}: {len(inferred)} outputs were inferred, {len(found)} came")
        for (shape, dtype), o in zip(inferred, found, strict=True):
            if tuple(shape) != tuple(o.shape) or dtype != o.dtype:
                raise AssertionError(f"{what}: inferred {dtype}{tuple(shape)}, found {o.dtype}{tuple(o.shape)}")

    def symbolic(self, call: Call) -> bool:
        """On symbolic tensors the row infers the same, and its gradient is built without a value."""
        if not call.inexact:
            return False
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
        return True

    def cost(self, call: Call) -> bool:
        """The cost is finite and not negative."""
        flops, moved = self.row.cost(call.run(*call.inputs), *call.inputs, **call.params)
        if not (math.isfinite(flops) and flops >= 0 and moved >= 0 and isinstance(moved, int)):
            raise AssertionError(f"{flops} FLOPs, {moved} bytes")
        return True

    def precision(self, call: Call) -> bool:
        """float32 stays float32, forward and in the rules, with the values of float64; and complex64 stays complex64."""
        if not self._precise(call):
            return False
        for dtype in ("float32", "complex64") if self.row.complex else ("float32",):
            found = self._kept(call.astype(dtype), {32})
            for a, b in zip(self._gradients(call), found, strict=True) if dtype == "float32" else ():
                if not np.allclose(a, b, rtol=1e-3, atol=1e-5 + 1e-3 * np.max(np.abs(a), initial=0.0)):
                    raise AssertionError(f"the values in float32 are {b!r}, those in float64 {a!r}")
        return True

    def float16(self, call: Call) -> bool:
        """float16 stays float16, or becomes complex64, forward and in the rules."""
        if not self._precise(call):
            return False
        given = call.astype(np.float16)
        outs = given.run(*given.inputs)
        smallest = any(o.dtype.kind == "c" for o in (outs if isinstance(outs, tuple) else (outs,)))
        self._kept(given, {16, 32} if smallest else {16})
        return True

    def _precise(self, call: Call) -> bool:
        return bool(call.tracked if self.row.differentiable else call.inexact)

    def _kept(self, call: Call, allowed: set[int]) -> list[Any]:
        """Outputs and gradients of a call, none of which may have another number of bits."""
        if any(is_array(a) and a.dtype.kind in "iu" for a in call.inputs):  # 64-bit integers may promote, as in NumPy
            inferred = self.row.infer(*call.inputs, **call.params)
            dtypes = [dtype for _, dtype in (inferred if isinstance(inferred, list) else [inferred])]
            allowed = allowed | {np.finfo(t).bits for t in dtypes if t.kind in "fc"}
        found = self._gradients(call)
        for value in found:
            if np.finfo(value.dtype).bits not in allowed and self.row.name not in CASTS:
                raise AssertionError(f"{call.inputs[call.inexact[0]].dtype} became {value.dtype}")
        return found

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

    def retention(self, call: Call) -> bool:
        """A rule reads what its parameters' names say, and nodes keep that and nothing else."""
        if not call.tracked:
            return False
        self._retention(call)
        if self.row.complex:
            self._retention(call.astype(np.complex128))
        return True

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
            one_by_one = (
                self.row.name not in UNIQUE or together.dtype.kind != "c"
            )  # else one output's gradient is arbitrary
            if len(outs) > 1 and one_by_one:
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

    def reading(self, _call: Call) -> bool:
        """What a rule's names say that it reads it does read, in one call at least."""
        for i, rule in enumerate(self.row.vjps):
            names = [] if rule is None else _names(rule)[1:]
            places = 2 if self.row.variadic else len(self.row.vjps) + 1
            unread = [name for j, name in enumerate(names[:places]) if name[0] != "_" and (i, j) not in self.read]
            if unread:
                raise AssertionError(
                    f"rule {i} never reads {', '.join(unread)}: begin the name with an underscore, so that it is not kept"
                )
        return True

    def kernel_on_device(self, call: Call) -> bool:
        """The kernel runs on another device, by the array API, without a hidden copy to the host, with NumPy's values."""
        return self._on_device(call, tracked=False)

    def rules_on_device(self, call: Call) -> bool:
        """The rules run on another device, without a hidden copy to the host, with NumPy's values."""
        if "kernel on device" not in self.report.exempt:
            return self._on_device(call, tracked=True)
        with device.lent(OPS[name] for name, check in EXEMPT if check == "kernel on device"):
            return self._on_device(call, tracked=True)

    def _on_device(self, call: Call, tracked: bool) -> bool:
        if tracked and not call.tracked:
            return False
        call = Call(
            call.row, call.inputs, {k: _whole_index(v, call) if k == "index" else v for k, v in call.params.items()}
        )
        if not _indexable(call):
            return False
        there = Call(call.row, call.inputs, {k: device.put(v) for k, v in call.params.items()})
        expected = self._values(call, call.inputs, tracked)
        inputs = [device.put(a) for a in call.inputs]
        seeds = [device.put(_wave(o)) for o in expected[0]]
        with device.guarded():
            found = self._values(there, inputs, tracked, seeds)
        for kind, ours, theirs in zip(("outputs", "gradients"), expected, found, strict=True):
            for a, b in zip(ours, theirs, strict=True):
                b = device.get(b)
                if a.shape != b.shape or a.dtype != b.dtype:
                    raise AssertionError(f"{kind}: {b.dtype}{b.shape} on the device, {a.dtype}{a.shape} with NumPy")
                if not np.allclose(
                    a, b, rtol=1e-10, atol=1e-12 * np.max(np.abs(a), initial=1.0) if a.dtype.kind in "fc" else 0
                ):
                    raise AssertionError(f"{kind}: {b!r} on the device, {a!r} with NumPy")
        return True

    def _values(self, call: Call, inputs: Any, track: bool = True, seeds: list | None = None) -> tuple[list, list]:
        tensors = [
            DiffTensor(a, requires_grad=track and i in call.tracked, copy=False) if is_array(a) else a
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

    def cycles(self, call: Call) -> bool:
        """No reference cycles are left behind."""
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
            raise AssertionError(f"{found} objects in reference cycles are left after backward")
        return True

    def batching(self, call: Call) -> bool:
        """vmap is the loop over the examples, whichever inputs are mapped, in values and in gradients."""
        return check_batching_of(call)


OF_CALLS = (
    "inference", "integers", "symbolic", "cost", "derivatives", "complex", "precision", "float16", "retention",
    "kernel on device", "rules on device", "batching",
)  # fmt: skip
SELDOM = {"complex": 3, "batching": 5}  # made of the first call, and then of every so-manieth
CHECKS: dict[str, str] = {
    name: (getattr(RowCheck, name.replace(" ", "_")).__doc__ or "").strip().rstrip(".")
    for name in (*OF_CALLS, "reading", "cycles")
}
"""What a row goes through: the name of each check, and what it asserts."""


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
