"""Activations, and the error function, which ``gelu`` is made of.

``relu``, ``leaky_relu`` and ``elu`` take the derivative from the left at 0.
"""

import math
from typing import Any

import numpy as np

from .. import backend
from ..backend import xp
from ..halves import above_zero, is_half_array, without_negative
from ..shapes import result_dtype, same_float, shape_of
from ..table import op
from .elementwise import FUNCTION, NOT_ZERO, ROOT, clip, exp, greater, minimum, round, where

__all__ = ["elu", "erf", "gelu", "leaky_relu", "relu", "sigmoid", "silu", "softplus"]


def _sigmoid(x: Any) -> Any:
    x = backend.inexact(x)
    library = xp(x)
    e = library.exp(-abs(x))  # never overflows, and keeps the relative accuracy of small values
    return backend.scalar(library.where(x >= 0, 1.0, e)) / (1.0 + e)


def _erf(x: Any) -> Any:
    x = backend.inexact(x)
    special = backend.special(x)
    if special is not None:
        return special.erf(x).astype(x.dtype)  # float16 is computed in float32
    # erf(x) = 2/√π e^{-x²} Σ 2ⁿ x^{2n+1} / (2n+1)!! (Abramowitz & Stegun 7.1.6): every term is positive
    library = xp(x)
    z = library.clip(x, -6.0, 6.0)  # erf is ±1 to the last bit from there on
    term = total = z
    for n in range(1, 130):
        term = term * (2.0 * z * z / (2 * n + 1))
        total = total + term
    return total * library.exp(-z * z) * (2.0 / math.sqrt(math.pi))


def _erfc(x: Any) -> Any:
    x = backend.inexact(x)
    special = backend.special(x)
    return 1.0 - _erf(x) if special is None else special.erfc(x).astype(x.dtype)


def _erfc_far(x: Any) -> Any:
    """``_erfc``; beyond 0.5 erfcx(x) e^{-x²}, as SciPy's is 1 - erf(x) up to 1 and then off by the rounding of x², and 0 beyond 26.6."""
    out = _erfc(x)
    special = backend.special(out)
    if special is None or np.dtype(out.dtype) != np.float64 or not (far := x > 0.5).any():
        return out
    return backend.scalar(xp(out).where(far, special.erfcx(xp(out).where(far, x, 0.5)) * gaussian(xp(out).asarray(x, dtype=out.dtype), -1.0), out))


_HARMLESS = 40.0  # e^{-x²/2} is 0 in float64 from 38.6 on


def gaussian(x: Any, factor: float) -> Any:
    """exp(factor · x²) for a factor of ±1 or ±0.5, accurate to the last bits however large x² is: to round it, as it is
    multiplied by itself, would be an error of that size (Cephes, ``expx2``). Here x² is a square that is exact, that of x rounded
    to 1/128, and the small rest. Rounding is a constant to the gradient, and the derivatives are still right."""
    if backend.is_complex(x.dtype):
        return exp(factor * (x * x))
    x = clip(x, low=-_HARMLESS, high=_HARMLESS)
    near = round(x * 128.0) * (1.0 / 128.0)
    return exp(factor * (near * near)) * exp(factor * ((x - near) * (x + near)))


erf = op("erf", _erf, same_float, lambda g, _y, x: g * gaussian(x, -1.0) * (2.0 / math.sqrt(math.pi)), flops=2 * FUNCTION, complex=False, doc="The error function.")
erfc = op("erfc", _erfc_far, same_float, lambda g, _y, x: g * gaussian(x, -1.0) * (-2.0 / math.sqrt(math.pi)), flops=2 * FUNCTION, doc="1 - erf(x), accurate for large x (with SciPy or CuPy).")
sigmoid = op("sigmoid", _sigmoid, same_float, lambda g, y, _x: g * y * (1.0 - y), flops=FUNCTION + ROOT, complex=False, precision="inputs", doc="1 / (1 + e⁻ˣ).")
softplus = op("softplus", lambda x: xp(x).logaddexp(x, 0.0), same_float, lambda g, _y, x: g * sigmoid(x), flops=2 * FUNCTION, complex=False, doc="log(1 + eˣ).")


def _np_relu(x: np.ndarray) -> np.ndarray:
    """NumPy's maximum with a number is slow; with a row of zeros it is twice as fast."""
    if is_half_array(x):
        return without_negative(x)  # type: ignore[no-any-return]
    return np.maximum(x, np.zeros(x.shape[1:], x.dtype) if type(x) is np.ndarray and x.ndim > 1 and x.dtype.kind == "f" else 0)


relu = op("relu", lambda x: xp(x).maximum(x, 0), lambda x: (shape_of(x), result_dtype(x, 0)), lambda g, y, _x: where(above_zero(y) if is_half_array(y) else greater(y, 0), g, 0.0), domain=NOT_ZERO, complex=False, precision="any", doc="max(x, 0); derivative 0 at 0.")
relu.row.kernels[np.ndarray] = _np_relu


def _leaky(x: Any, *, slope: float = 0.01) -> Any:
    return backend.scalar(xp(x).where(x > 0, x, x * slope))


def _elu(x: Any, *, alpha: float = 1.0) -> Any:
    library = xp(x)
    return backend.scalar(library.where(x > 0, x, alpha * library.expm1(library.minimum(x, 0.0))))


leaky_relu = op(
    "leaky_relu", _leaky, lambda x, **_: same_float(x),
    lambda g, _y, x, slope: where(greater(x, 0), g, g * slope),
    domain=NOT_ZERO, complex=False, precision="inputs", doc="x where positive, else slope · x.",
)  # fmt: skip
elu = op(
    "elu", _elu, lambda x, **_: same_float(x),
    lambda g, _y, x, alpha: where(greater(x, 0), g, g * alpha * exp(minimum(x, 0.0))),
    domain=NOT_ZERO, flops=FUNCTION, complex=False, precision="inputs", doc="x where positive, else alpha · (eˣ - 1) (Clevert et al. 2016).",
)  # fmt: skip
silu = op(
    "silu", lambda x: x * _sigmoid(x), same_float, lambda g, _y, x: _silu_rule(g, x, sigmoid(x)),
    flops=FUNCTION + ROOT + 1, complex=False, precision="inputs", doc="x · sigmoid(x).",
)  # fmt: skip


def _silu_rule(g: Any, x: Any, s: Any) -> Any:
    return g * (s * (1.0 + x * (1.0 - s)))


_SQRT_HALF, _SQRT_2_PI = math.sqrt(0.5), math.sqrt(2.0 / math.pi)


def _gelu(x: Any, *, approximate: str = "none") -> Any:
    if approximate == "tanh":
        return x * _sigmoid(2.0 * _SQRT_2_PI * (x + 0.044715 * x * x * x))  # (1 + tanh u) / 2, without its cancellation
    if approximate == "none":
        return 0.5 * x * _erfc(x * -_SQRT_HALF)
    raise ValueError(f'approximate must be "none" or "tanh", not {approximate!r}')


def _gelu_rule(g: Any, _y: Any, x: Any, approximate: str) -> Any:
    if approximate == "tanh":
        s = sigmoid(2.0 * _SQRT_2_PI * (x + 0.044715 * x * x * x))
        return g * (s * (1.0 + x * (1.0 - s) * (2.0 * _SQRT_2_PI * (1.0 + 0.134145 * x * x))))
    return g * (0.5 * erfc(x * -_SQRT_HALF) + x * exp(-0.5 * (x * x)) * (0.5 * _SQRT_2_PI))


gelu = op(
    "gelu", _gelu, lambda x, **_: same_float(x), _gelu_rule, flops=2 * FUNCTION, complex=False,
    precision="inputs", doc='x · Φ(x) (Hendrycks & Gimpel 2016): exactly, or by tanh with approximate="tanh".',
)  # fmt: skip

UFUNCS = {"erf": erf, "expit": sigmoid}
"""Rows by the name of the SciPy ufunc that they differentiate."""
