"""Gradients where there is none: what each library gives at kinks, ties, singular points and at the ends of domains."""

from typing import Any

import numpy as np

from autograd.table import OPS
from autograd.testing.programs import Name, Program, Step, gradients

ONE, ZERO = np.float64(1.0), np.float64(0.0)
POINTS: list[tuple[str, str, tuple, dict[str, Any], str]] = [
    ("relu at 0", "relu", (ZERO,), {}, "from the left, as everywhere in deep learning"),
    ("leaky_relu at 0, slope 0.3", "leaky_relu", (ZERO,), {"slope": 0.3}, "from the left"),
    ("elu at 0, alpha 0.5", "elu", (ZERO,), {"alpha": 0.5}, "from the left"),
    ("abs at 0", "abs", (ZERO,), {}, "the middle of the subdifferential"),
    ("maximum of equal numbers", "maximum", (ONE, ONE), {}, "shared, so that exchanging them changes nothing"),
    ("minimum of equal numbers", "minimum", (ONE, ONE), {}, "shared"),
    ("max of (1, 1, 0)", "max", (np.array([1.0, 1.0, 0.0]),), {}, "shared by ties"),
    ("clip at a bound", "clip", (ONE,), {"low": -1.0, "high": 1.0}, "passed on both bounds"),
    ("sqrt at 0", "sqrt", (ZERO,), {}, "0 instead of inf: no NaN from 0 · inf"),
    ("rsqrt at 0", "rsqrt", (ZERO,), {}, "poles keep their infinity"),
    ("cbrt at 0", "cbrt", (ZERO,), {}, "poles keep their infinity"),
    ("log at 0", "log", (ZERO,), {}, "poles keep their infinity"),
    ("hypot at (0, 0)", "hypot", (ZERO, ZERO), {}, "0: no NaN"),
    ("atan2 at (0, 0)", "atan2", (ZERO, ZERO), {}, "0: no NaN"),
    ("norm of (0, 0)", "norm", (np.zeros(2),), {}, "0: the middle of the subdifferential"),
    ("std of (1, 1)", "std", (np.ones(2),), {}, "0: the middle of the subdifferential"),
    ("0 to the power 0", "power", (ZERO, ZERO), {}, "0: no NaN"),
    ("0 to the power 2", "power", (ZERO, np.float64(2.0)), {}, "0 with respect to the exponent: no NaN"),
    ("prod of (0, 2)", "prod", (np.array([0.0, 2.0]),), {}, "the true derivative"),
    ("xlogy at (0, 0.5)", "xlogy", (ZERO, np.float64(0.5)), {}, "log y, the true derivative"),
    ("sinc at 0", "sinc", (ZERO,), {}, "the true derivative"),
    ("remainder of 4 by 2", "remainder", (np.float64(4.0), np.float64(2.0)), {}, "from the right"),
    ("floor at 1", "floor", (ONE,), {}, "a constant to the gradient"),
    ("copysign(2, -1)", "copysign", (np.float64(2.0), -ONE), {}, "a constant with respect to the sign"),
    ("logaddexp at (-inf, -inf)", "logaddexp", (np.float64(-np.inf), np.float64(-np.inf)), {}, "undefined"),
    ("det of zeros (2, 2)", "det", (np.zeros((2, 2)),), {}, "the cofactors, right for singular matrices"),
]  # fmt: skip


def conventions(*peers: Any) -> list[list[str]]:
    """A row of a table for each point: where, our gradients, each peer's, and why ours are so."""
    rows = []
    for where, row, inputs, params, why in POINTS:
        leaves = {f"x{k}": a for k, a in enumerate(inputs)}
        step = Step(("y",), row, tuple(map(Name, leaves)), {**OPS[row].params, **params})
        program = Program(leaves, (step,), ("y",))
        with np.errstate(all="ignore"):
            found = [_told(gradients(program)[1], inputs)]
            for peer in peers:
                try:
                    found.append(_told(peer.gradients(program)[1], inputs))
                except Exception as error:  # noqa: BLE001 - a peer may refuse in any way
                    found.append(f"raises {type(error).__name__}")
        rows.append([where, *found, why])
    return rows


def _told(grads: list[Any], inputs: tuple) -> str:
    """Gradients for a cotangent of one (``waves`` begin with 1.1), a list for each input."""
    numbers = [[f"{v / 1.1 + 0.0:.3g}" for v in np.asarray(g).reshape(-1)] for g in grads]
    return "; ".join("(" + ", ".join(n) + ")" if np.ndim(a) else n[0] for n, a in zip(numbers, inputs, strict=True))
