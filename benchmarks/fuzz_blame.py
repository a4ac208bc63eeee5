"""Which row makes two libraries differ, and which of them is wrong.

A program that differs is taken apart: each of its steps is made a program of its own, with the inputs that it had, and run
on both libraries. A step whose values or gradients differ is to blame; the bodies of transforms are taken apart as well,
and under ``grad`` and ``jvp`` second derivatives of a step are compared too.

Then a referee decides: for a step in float32 the same step in float64, if both libraries agree there; in float64 mpmath
with 40 digits (``REFEREES``), else the other peer.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import mpmath
import numpy as np
from fuzz_model import Difference, Model, compare

from autograd.table import OPS
from autograd.testing.generation import SIGNS
from autograd.testing.programs import TRANSFORMS, Name, Program, Rows, Step, gradients, inexact, waves

DERIVATIVES = ("grad", "jvp")


@dataclass
class Blame:
    """What is to blame for a disagreement.

    Attributes:
        what: the row or transform, and "values", "gradients" or "second derivatives".
        verdict: "ours", "theirs", "both", or "undecided".
        by: the referee.
        difference: the worst difference of that step. errors: of ours and theirs in ulps, as the referee finds them.
    """

    what: str
    part: str
    difference: Difference
    verdict: str = "undecided"
    by: str = ""
    errors: tuple[float, float] = (np.nan, np.nan)
    program: Program | None = field(default=None, repr=False)


def alone(step: Step, values: dict[str, Any]) -> Program | None:
    """A step as a program: its floating-point inputs are leaves, complex ones made of two; it returns real numbers."""
    leaves: dict[str, Any] = {}
    steps: list[Step] = []
    inputs: list[Any] = []
    for k, x in enumerate(step.inputs):
        value = values[x] if isinstance(x, Name) else x
        kind = value.dtype.kind if hasattr(value, "dtype") else ""
        if kind == "f":
            leaves[f"x{k}"] = value
            inputs.append(Name(f"x{k}"))
        elif kind == "c":
            leaves |= {f"x{k}": np.real(value)[()], f"y{k}": np.imag(value)[()]}
            steps.append(Step((f"i{k}",), "multiply", (Name(f"y{k}"), value.dtype.type(1j)), {}))
            steps.append(Step((f"z{k}",), "add", (Name(f"x{k}"), Name(f"i{k}")), {}))
            inputs.append(Name(f"z{k}"))
        else:
            inputs.append(value)
    if not leaves:
        return None
    names = tuple(f"r{k}" for k in range(len(step.names)))
    steps.append(Step(names, step.op, tuple(inputs), step.params))
    outputs: list[str] = []
    certain = SIGNS.get(step.op, (None,) * len(names))
    for name, own, sign in zip(names, step.names, certain, strict=True):
        if sign is not None or values[own].dtype.kind == "c":
            for part in (sign,) if sign is not None else ("real", "imag"):
                steps.append(Step((part + name,), part, (Name(name),), {}))
                outputs.append(part + name)
        else:
            outputs.append(name)
    return Program(leaves, tuple(steps), tuple(outputs))


def second(program: Program) -> Program | None:
    """The derivative of a program along a direction, as a program: its gradients are second derivatives."""
    made = values_of(program)
    kept = tuple(n for n in program.outputs if inexact(made[n]))
    if not kept:
        return None
    body = Program(program.leaves, program.steps, kept)
    tangents = {f"t{k}": w for k, w in enumerate(waves(list(program.leaves.values())))}
    step = Step(
        tuple(f"d{k}" for k in range(len(kept))),
        "jvp",
        (*map(Name, program.leaves), *map(Name, tangents)),
        {"body": body},
    )
    return Program({**program.leaves, **tangents}, (step,), step.names)


def values_of(program: Program) -> dict[str, Any]:
    """Every value of a program, on our rows."""
    made = dict(program.leaves)
    library = Rows()
    for step in program.steps:
        found = library.step(step, [made[x] if isinstance(x, Name) else x for x in step.inputs])
        made.update(zip(step.names, (getattr(v, "raw", v) for v in found), strict=True))
    return made


def pieces(program: Program, derived: bool = False) -> Iterator[tuple[str, Program, bool]]:
    """Each step of a program on its own, and whether it stands under a derivative; bodies before the transforms of them."""
    values = values_of(program)
    for step in program.steps:
        for body in step.bodies:
            inputs = [values[x] if isinstance(x, Name) else x for x in step.inputs]
            for arguments in _arguments(step, body, inputs):
                named = dict(zip(body.leaves, arguments, strict=True))
                yield from pieces(Program(named, body.steps, body.outputs), derived or step.op in DERIVATIVES)
        piece = alone(step, values)
        if piece is not None:
            yield step.op, piece, derived and step.op not in TRANSFORMS


def _arguments(step: Step, body: Program, inputs: list) -> Iterator[list]:
    """What the body of a transform was called with."""
    if step.op == "vmap":
        yield from ([x[k] for x in inputs] for k in range(len(inputs[0])))
    elif step.op == "scan":
        carry = inputs[0]
        for x in inputs[1]:
            yield [carry, x]
            carry = body.run(Rows(), carry, x)[0]
    else:
        yield inputs[1:] if step.op == "cond" else inputs[: len(body.leaves)]


def blame(program: Program, dtype: str, peer: Any, others: list[Any]) -> list[Blame]:
    """What is to blame for a disagreement between us and ``peer`` on a program (in ``dtype``)."""
    found: list[Blame] = []
    seen: set[str] = set()
    for op, piece, derived in pieces(program.astype("float64")):
        if seen and op in TRANSFORMS:
            continue  # its body has been found guilty
        for candidate, order in ((piece, 1), (second(piece) if derived else None, 2)):
            if candidate is None:
                continue
            try:
                differences = _differences(candidate, dtype, peer)
            except Exception:  # noqa: BLE001 - a peer that refuses a step on its own leaves it unblamed
                continue
            if not differences:
                continue
            worst = max(differences, key=lambda d: d.excess)
            part = ("values" if "values" in worst.what else "gradients") if order == 1 else "second derivatives"
            seen.add(op)
            found.append(_judge(Blame(op, part, worst, program=candidate), dtype, peer, others))
            break
    return found


def _run(program: Program, dtype: str, peer: Any) -> tuple[list, list, int]:
    ours = gradients(program.astype(dtype))
    theirs = peer.gradients(program.astype(dtype))
    return [*ours[0], *ours[1]], [*theirs[0], *theirs[1]], len(ours[0])


def _differences(program: Program, dtype: str, peer: Any) -> list[Difference]:
    program = program.astype(dtype).astype("float64")
    ours, theirs, outputs = _run(program, dtype, peer)
    return compare(ours, theirs, Model(program, dtype), outputs)[0]


def _judge(found: Blame, dtype: str, peer: Any, others: list[Any]) -> Blame:
    program = found.program
    assert program is not None
    program = program.astype(dtype).astype("float64")
    ours, theirs, outputs = _run(program, dtype, peer)
    truth = None
    if dtype == "float32":
        wide, also, _ = _run(program, "float64", peer)
        if not compare(wide, also, Model(program, "float64"), outputs)[0]:
            truth, found.by = wide, "both libraries in float64"
    if truth is None and len(program.steps) == 1 and program.steps[0].op in REFEREES:
        truth, found.by = exact(program), "mpmath"
    if truth is None:
        for other in others:
            if program.steps[-1].op not in other.lacks and all(s.op not in other.lacks for s in program.all_steps()):
                try:
                    _, truth, _ = _run(program, dtype, other)
                    found.by = other.name
                    break
                except Exception as error:  # noqa: BLE001 - a peer may refuse in any way; then it is no referee
                    found.by = f"{other.name} refused: {type(error).__name__}"
                    truth = None
    if truth is None:
        return found
    model = Model(program, dtype)
    errors = []
    for side in (ours, theirs):
        wrong = compare([np.asarray(t) for t in truth], side, model, outputs)[0]
        errors.append(max((d.ulps for d in wrong), default=0.0))
    found.errors = (errors[0], errors[1])
    found.verdict = {(True, False): "ours", (False, True): "theirs", (True, True): "both"}.get(
        (errors[0] > 0, errors[1] > 0), "undecided"
    )
    return found


# ---- mpmath ----

mp = mpmath.mp


def _gelu(x: Any, approximate: str) -> Any:
    if approximate == "none":
        return x * mp.erfc(-x / mp.sqrt(2)) / 2
    return x / 2 * (1 + mp.tanh(mp.sqrt(2 / mp.pi) * (x + mp.mpf(0.044715) * x**3)))


def _ndtri(p: Any) -> Any:
    return mp.sqrt(2) * mp.erfinv(2 * p - 1)


REFEREES: dict[str, Callable] = {
    "digamma": mp.digamma, "gammaln": lambda x: mp.log(abs(mp.gamma(x))), "loggamma": lambda x: mp.log(mp.gamma(x)),
    "gamma": mp.gamma, "rgamma": mp.rgamma, "polygamma": lambda n, x: mp.polygamma(int(n), x),
    "zeta": lambda s, a: mp.zeta(int(s), a), "beta": mp.beta, "betaln": lambda x, y: mp.log(mp.beta(x, y)),
    "gammainc": lambda a, x: mp.gammainc(int(a), 0, x, regularized=True),
    "gammaincc": lambda a, x: mp.gammainc(int(a), x, regularized=True),
    "betainc": lambda a, b, x: mp.betainc(int(a), int(b), 0, x, regularized=True),
    "erf": mp.erf, "erfc": mp.erfc, "erfcx": lambda x: mp.exp(x * x) * mp.erfc(x), "erfinv": mp.erfinv,
    "erfcinv": lambda x: mp.erfinv(1 - x), "ndtr": mp.ncdf, "log_ndtr": lambda x: mp.log(mp.ncdf(x)), "ndtri": _ndtri,
    "i0": lambda x: mp.besseli(0, x), "i1": lambda x: mp.besseli(1, x), "i0e": lambda x: mp.exp(-abs(x)) * mp.besseli(0, x),
    "i1e": lambda x: mp.exp(-abs(x)) * mp.besseli(1, x), "logit": lambda x: mp.log(x / (1 - x)),
    "entr": lambda x: -x * mp.log(x), "xlogy": lambda x, y: x * mp.log(y), "xlog1py": lambda x, y: x * mp.log1p(y),
    "rel_entr": lambda x, y: x * mp.log(x / y), "kl_div": lambda x, y: x * mp.log(x / y) - x + y,
    "gelu": _gelu, "silu": lambda x: x / (1 + mp.exp(-x)), "sigmoid": lambda x: 1 / (1 + mp.exp(-x)),
    "softplus": lambda x: mp.log1p(mp.exp(x)), "sinc": lambda x: mp.sinc(mp.pi * x), "cbrt": lambda x: mp.sign(x) * mp.cbrt(abs(x)),
    "tanh": mp.tanh, "sinh": mp.sinh, "expm1": mp.expm1, "log1p": mp.log1p, "log": mp.log, "log2": lambda x: mp.log(x, 2),
    "log10": lambda x: mp.log(x, 10), "exp2": lambda x: mp.power(2, x), "tan": mp.tan, "asin": mp.asin, "acos": mp.acos,
    "atanh": mp.atanh, "asinh": mp.asinh, "acosh": mp.acosh, "power": mp.power, "hypot": mp.hypot, "atan2": mp.atan2,
    "logaddexp": lambda x, y: mp.log(mp.exp(x) + mp.exp(y)), "divide": lambda x, y: x / y, "reciprocal": lambda x: 1 / x,
    "elu": lambda x, alpha: x if x > 0 else alpha * mp.expm1(x), "square": lambda x: x * x, "exp": mp.exp, "cos": mp.cos,
    "sin": mp.sin, "cosh": mp.cosh, "atan": mp.atan, "sqrt": mp.sqrt, "rsqrt": lambda x: 1 / mp.sqrt(x),
    "binary_cross_entropy": lambda p, t: -(t * mp.log(p) + (1 - t) * mp.log1p(-p)),
}  # fmt: skip
"""Elementwise rows as functions of mpmath."""


def exact(program: Program) -> list[np.ndarray]:
    """The value and the gradients of a program of one elementwise step, by mpmath: rounded from 40 digits."""
    (step,) = program.steps
    f = REFEREES[step.op]
    inputs = [program.leaves[x] if isinstance(x, Name) else x for x in step.inputs]
    params = {k: v for k, v in step.params.items() if k in OPS[step.op].params}
    full = np.broadcast_arrays(*inputs)
    shape = full[0].shape
    value = np.zeros(shape)
    slopes = [np.zeros(shape) for _ in inputs]
    with mp.workdps(40):
        for at in np.ndindex(shape):
            point = [mp.mpf(float(a[at])) for a in full]
            value[at] = float(f(*point, **params))
            for k, x in enumerate(step.inputs):
                if isinstance(x, Name):
                    along = lambda t, k=k, point=point: f(*[t if j == k else p for j, p in enumerate(point)], **params)
                    slopes[k][at] = float(mp.diff(along, point[k]))
    seed = waves([value])[0]
    found = []
    for x, slope, a in zip(step.inputs, slopes, inputs, strict=True):
        if isinstance(x, Name):
            product = np.asarray(seed * slope)
            lead = tuple(range(product.ndim - np.ndim(a)))
            product = product.sum(axis=lead)
            ones = tuple(i for i, n in enumerate(np.shape(a)) if n == 1 and product.shape[i] != 1)
            found.append(product.sum(axis=ones, keepdims=True))
    return [value, *found]
