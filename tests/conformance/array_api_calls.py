"""A call of every function of the array API standard: ``CALLS[name]`` are functions of a namespace and its arrays.

``of(xp)`` makes the same arrays in any namespace. ``DIFFERENTIABLE`` names the functions whose result has a gradient in
``a.x`` (and ``a.y``); all others of ``CALLS`` give constants.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

RNG = np.random.default_rng(7)
VALUES = {
    "x": RNG.permutation(np.linspace(-0.9, 0.85, 12)).reshape(3, 4),  # no two equal, none 0
    "y": RNG.permutation(np.linspace(0.3, 1.9, 12)).reshape(3, 4),
    "i": RNG.integers(-5, 6, (3, 4)),
    "k": RNG.integers(0, 4, (3, 4)),
    "small": RNG.integers(0, 100, (3, 4)).astype(np.int8),
    "b": RNG.integers(0, 2, (3, 4)).astype(bool),
    "c": RNG.integers(0, 2, (3, 4)).astype(bool),
    "places": np.array([2, 0, 2]),
    "rows": np.array([[0, 2, 1, 1], [2, 2, 0, 1]]),
    "sorted": np.array([-0.8, -0.2, 0.1, 0.1, 0.7]),
    "special": np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1.5, -2.5, 0.5]),
}
Call = Callable[[Any, Any], Any]


def of(xp: Any, **others: Any) -> SimpleNamespace:
    """The arrays in a namespace; ``others`` replaces some."""
    return SimpleNamespace(**{name: xp.asarray(value) for name, value in VALUES.items()} | others)


def matrices(xp: Any, a: Any) -> Any:
    """Well-conditioned square matrices that depend smoothly on x and y."""
    return xp.eye(3) * 3.0 + xp.matmul(a.x, xp.matrix_transpose(a.y)) * 0.3


def definite(xp: Any, a: Any) -> Any:
    m = matrices(xp, a)
    return xp.matmul(m, xp.matrix_transpose(m))


def _complex(xp: Any, a: Any) -> Any:
    return a.x + a.y * 1j


def unary(name: str, argument: Call = lambda xp, a: a.x) -> Call:
    return lambda xp, a: getattr(xp, name)(argument(xp, a))


def binary(name: str, left: str = "x", right: str = "y") -> list[Call]:
    def beside(array: Any) -> Any:  # a Python number of the array's kind
        return {"x": 0.4, "y": 0.4, "b": True, "c": False, "i": 2, "k": 2}[array]

    function = lambda xp: getattr(xp, name)
    return [
        lambda xp, a: function(xp)(getattr(a, left), getattr(a, right)),
        lambda xp, a: function(xp)(getattr(a, left), getattr(a, right)[0, :]),
        lambda xp, a: function(xp)(getattr(a, left), beside(right)),
        lambda xp, a: function(xp)(beside(left), getattr(a, right)),
    ]


def _over(name: str, *more: Call) -> list[Call]:
    function = lambda xp: getattr(xp, name)
    return [
        lambda xp, a: function(xp)(a.x),
        lambda xp, a: function(xp)(a.x, axis=1, keepdims=True),
        lambda xp, a: function(xp)(a.x * a.y, axis=(0, -1)),
        *more,
    ]


def _inside(xp: Any, a: Any) -> Any:
    return a.y * 0.5


def _above(xp: Any, a: Any) -> Any:
    return a.y + 1.0


CALLS: dict[str, list[Call]] = {
    **{name: [unary(name)] for name in (
        "abs", "acos", "asin", "asinh", "atan", "atanh", "cos", "cosh", "exp", "expm1", "log1p", "negative", "positive", "reciprocal",
        "sin", "sinh", "square", "tan", "tanh", "ceil", "floor", "round", "trunc", "sign", "signbit", "isfinite", "isinf", "isnan",
    )},
    **{name: [unary(name, _above)] for name in ("acosh", "log", "log10", "log2", "sqrt")},
    **{name: [unary(name, _complex)] for name in ("conj", "imag", "real")},
    **{name: binary(name) for name in (
        "add", "atan2", "copysign", "divide", "equal", "floor_divide", "greater", "greater_equal", "hypot", "less", "less_equal",
        "logaddexp", "maximum", "minimum", "multiply", "nextafter", "not_equal", "remainder", "subtract",
    )},
    **{name: binary(name, "b", "c") for name in ("logical_and", "logical_or", "logical_xor")},
    **{name: binary(name, "i", "k") for name in (
        "bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_left_shift", "bitwise_right_shift",
    )},
    "bitwise_invert": [lambda xp, a: xp.bitwise_invert(a.i), lambda xp, a: xp.bitwise_invert(a.b)],
    "logical_not": [lambda xp, a: xp.logical_not(a.b)],
    "pow": [lambda xp, a: xp.pow(a.y, a.x), lambda xp, a: xp.pow(a.y, 2.5), lambda xp, a: xp.pow(2.0, a.x), lambda xp, a: xp.pow(a.i, a.k)],
    "clip": [
        lambda xp, a: xp.clip(a.x, -0.5, 0.4), lambda xp, a: xp.clip(a.x, max=0.3), lambda xp, a: xp.clip(a.i, min=-2, max=a.k),
        lambda xp, a: xp.clip(a.x, a.y - 1.3, xp.asarray(0.77)), lambda xp, a: xp.clip(a.x),
    ],
    # creation
    "arange": [lambda xp, a: xp.arange(5), lambda xp, a: xp.arange(1, 7, 2), lambda xp, a: xp.arange(0.5, 3, 0.5, dtype=xp.float32), lambda xp, a: xp.arange(5, 1, -1)],
    "asarray": [lambda xp, a: xp.asarray([[1, 2], [3, 4]], dtype=xp.float32), lambda xp, a: xp.asarray(True), lambda xp, a: xp.asarray(a.x, copy=True)],
    "empty": [lambda xp, a: xp.empty((2, 3), dtype=xp.int16) * 0],
    "empty_like": [lambda xp, a: xp.empty_like(a.i) * 0],
    "eye": [lambda xp, a: xp.eye(3), lambda xp, a: xp.eye(2, 4, k=1, dtype=xp.int32)],
    "from_dlpack": [lambda xp, a: xp.from_dlpack(VALUES["x"])],
    "full": [lambda xp, a: xp.full((2, 2), 3), lambda xp, a: xp.full(3, True), lambda xp, a: xp.full((), 1j), lambda xp, a: xp.full((2,), 0.5)],
    "full_like": [lambda xp, a: xp.full_like(a.x, 2.5), lambda xp, a: xp.full_like(a.x, 2, dtype=xp.int8)],
    "linspace": [lambda xp, a: xp.linspace(0, 1, 5), lambda xp, a: xp.linspace(1.0, 2.0, 4, endpoint=False, dtype=xp.float32), lambda xp, a: xp.linspace(0, 1, 1)],
    "meshgrid": [lambda xp, a: xp.meshgrid(a.sorted, a.x[0, :]), lambda xp, a: xp.meshgrid(a.x[:, 0], a.y[0, :], a.sorted, indexing="ij")],
    "ones": [lambda xp, a: xp.ones(3), lambda xp, a: xp.ones((2, 1), dtype=xp.uint8)],
    "ones_like": [lambda xp, a: xp.ones_like(a.i), lambda xp, a: xp.ones_like(a.i, dtype=xp.float64)],
    "tril": [lambda xp, a: xp.tril(a.x), lambda xp, a: xp.tril(a.x, k=-1)],
    "triu": [lambda xp, a: xp.triu(a.x), lambda xp, a: xp.triu(a.x, k=1)],
    "zeros": [lambda xp, a: xp.zeros((0, 2)), lambda xp, a: xp.zeros(2, dtype=xp.bool)],
    "zeros_like": [lambda xp, a: xp.zeros_like(a.x), lambda xp, a: xp.zeros_like(a.b)],
    # dtypes
    "astype": [lambda xp, a: xp.astype(a.x, xp.complex128), lambda xp, a: xp.astype(a.x, xp.float64, copy=False)],
    # manipulation
    "broadcast_arrays": [lambda xp, a: xp.broadcast_arrays(a.x, a.y[0, :])],
    "broadcast_to": [lambda xp, a: xp.broadcast_to(a.x, (2, 3, 4))],
    "concat": [lambda xp, a: xp.concat([a.x, a.y], axis=1), lambda xp, a: xp.concat((a.x, a.y), axis=None), lambda xp, a: xp.concat([a.x, xp.astype(a.y, xp.float32)])],
    "expand_dims": [lambda xp, a: xp.expand_dims(a.x, axis=0), lambda xp, a: xp.expand_dims(a.x, axis=-1)],
    "flip": [lambda xp, a: xp.flip(a.x), lambda xp, a: xp.flip(a.x, axis=(0, 1)), lambda xp, a: xp.flip(a.x, axis=-1)],
    "moveaxis": [lambda xp, a: xp.moveaxis(a.x, 0, 1), lambda xp, a: xp.moveaxis(xp.reshape(a.x, (3, 2, 2)), (0, 1), (2, 0))],
    "permute_dims": [lambda xp, a: xp.permute_dims(xp.reshape(a.x, (3, 2, 2)), (2, 0, 1))],
    "repeat": [lambda xp, a: xp.repeat(a.x, 2), lambda xp, a: xp.repeat(a.x, a.places, axis=0), lambda xp, a: xp.repeat(a.x, 3, axis=1)],
    "reshape": [lambda xp, a: xp.reshape(a.x, (2, -1)), lambda xp, a: xp.reshape(a.x, (6, 2), copy=True)],
    "roll": [lambda xp, a: xp.roll(a.x, 2), lambda xp, a: xp.roll(a.x, (1, -1), axis=(0, 1)), lambda xp, a: xp.roll(a.x, 1, axis=1)],
    "squeeze": [lambda xp, a: xp.squeeze(xp.reshape(a.x, (3, 1, 4)), axis=1), lambda xp, a: xp.squeeze(xp.reshape(a.x, (1, 12, 1)), axis=(0, 2))],
    "stack": [lambda xp, a: xp.stack([a.x, a.y]), lambda xp, a: xp.stack((a.x, a.y), axis=-1)],
    "tile": [lambda xp, a: xp.tile(a.x, (2, 1)), lambda xp, a: xp.tile(a.x, (2, 1, 3)), lambda xp, a: xp.tile(a.x, (2,))],
    "unstack": [lambda xp, a: xp.unstack(a.x), lambda xp, a: xp.unstack(a.x, axis=-1)],
    "take": [lambda xp, a: xp.take(a.x, a.places, axis=1), lambda xp, a: xp.take(a.x[0, :], a.places)],
    "take_along_axis": [lambda xp, a: xp.take_along_axis(a.x, a.rows, axis=0), lambda xp, a: xp.take_along_axis(a.x, xp.argsort(a.y))],
    # searching, sorting, sets
    "argmax": [lambda xp, a: xp.argmax(a.x), lambda xp, a: xp.argmax(a.x, axis=1, keepdims=True)],
    "argmin": [lambda xp, a: xp.argmin(a.x), lambda xp, a: xp.argmin(a.x, axis=0)],
    "count_nonzero": [lambda xp, a: xp.count_nonzero(a.i), lambda xp, a: xp.count_nonzero(a.b, axis=1, keepdims=True), lambda xp, a: xp.count_nonzero(a.x)],
    "nonzero": [lambda xp, a: xp.nonzero(a.i), lambda xp, a: xp.nonzero(a.b)],
    "searchsorted": [
        lambda xp, a: xp.searchsorted(a.sorted, a.x[0, :]), lambda xp, a: xp.searchsorted(a.sorted, a.sorted, side="right"),
        lambda xp, a: xp.searchsorted(a.y[0, :], a.x[1, :], sorter=xp.argsort(a.y[0, :])),
    ],
    "where": [lambda xp, a: xp.where(a.b, a.x, a.y), lambda xp, a: xp.where(a.b, a.x, 0.5), lambda xp, a: xp.where(a.b, 0.0, a.x)],
    "argsort": [lambda xp, a: xp.argsort(a.x), lambda xp, a: xp.argsort(a.i, axis=0, descending=True)],
    "sort": [lambda xp, a: xp.sort(a.x), lambda xp, a: xp.sort(a.x, axis=0, descending=True), lambda xp, a: xp.sort(a.i)],
    "unique_all": [lambda xp, a: xp.unique_all(a.x), lambda xp, a: xp.unique_all(a.i)],
    "unique_counts": [lambda xp, a: xp.unique_counts(a.x)],
    "unique_inverse": [lambda xp, a: xp.unique_inverse(a.x), lambda xp, a: xp.unique_inverse(a.i)],
    "unique_values": [lambda xp, a: xp.sort(xp.unique_values(a.x))],
    # statistics and utilities
    "cumulative_sum": [
        lambda xp, a: xp.cumulative_sum(a.x, axis=1), lambda xp, a: xp.cumulative_sum(a.x[0, :], include_initial=True),
        lambda xp, a: xp.cumulative_sum(a.small, axis=0), lambda xp, a: xp.cumulative_sum(a.small, axis=0, dtype=xp.float32),
    ],
    "cumulative_prod": [lambda xp, a: xp.cumulative_prod(a.x, axis=-1, include_initial=True), lambda xp, a: xp.cumulative_prod(a.i, axis=0)],
    "max": _over("max"),
    "mean": _over("mean"),
    "min": _over("min"),
    "prod": _over("prod", lambda xp, a: xp.prod(a.i, axis=0), lambda xp, a: xp.prod(a.x, dtype=xp.complex128)),
    "std": _over("std", lambda xp, a: xp.std(a.x, axis=0, correction=1)),
    "sum": _over("sum", lambda xp, a: xp.sum(a.small), lambda xp, a: xp.sum(a.small, dtype=xp.int8), lambda xp, a: xp.sum(a.x, dtype=xp.complex128)),
    "var": _over("var", lambda xp, a: xp.var(a.x, axis=0, correction=0.5)),
    "all": [lambda xp, a: xp.all(a.b), lambda xp, a: xp.all(a.b, axis=0, keepdims=True), lambda xp, a: xp.all(a.x, axis=(0, 1))],
    "any": [lambda xp, a: xp.any(a.b), lambda xp, a: xp.any(a.b, axis=1), lambda xp, a: xp.any(a.i)],
    "diff": [lambda xp, a: xp.diff(a.x), lambda xp, a: xp.diff(a.x, axis=0, n=2), lambda xp, a: xp.diff(a.x, prepend=a.y, append=a.y[:, :1])],
    # linear algebra
    "matmul": [lambda xp, a: xp.matmul(a.x, xp.matrix_transpose(a.y)), lambda xp, a: xp.matmul(a.x, a.y[0, :])],
    "matrix_transpose": [lambda xp, a: xp.matrix_transpose(a.x)],
    "tensordot": [lambda xp, a: xp.tensordot(a.x, a.y), lambda xp, a: xp.tensordot(a.x, a.y, axes=((1,), (1,))), lambda xp, a: xp.tensordot(a.x[:, 0], a.y[:, 0], axes=0)],
    "vecdot": [lambda xp, a: xp.vecdot(a.x, a.y), lambda xp, a: xp.vecdot(a.x, a.y, axis=-2), lambda xp, a: xp.vecdot(a.small, a.small)],
}  # fmt: skip

LINALG: dict[str, list[Call]] = {
    "cholesky": [lambda xp, a: xp.linalg.cholesky(definite(xp, a)), lambda xp, a: xp.linalg.cholesky(definite(xp, a), upper=True)],
    "cross": [lambda xp, a: xp.linalg.cross(a.x, a.y, axis=-2), lambda xp, a: xp.linalg.cross(a.x[:, :3], a.y[0, :3])],
    "det": [lambda xp, a: xp.linalg.det(matrices(xp, a))],
    "diagonal": [lambda xp, a: xp.linalg.diagonal(a.x), lambda xp, a: xp.linalg.diagonal(a.x, offset=-1)],
    "eigh": [lambda xp, a: xp.linalg.eigh(definite(xp, a)).eigenvalues, lambda xp, a: xp.abs(xp.linalg.eigh(definite(xp, a)).eigenvectors)],
    "eigvalsh": [lambda xp, a: xp.linalg.eigvalsh(definite(xp, a))],
    "inv": [lambda xp, a: xp.linalg.inv(matrices(xp, a))],
    "matmul": CALLS["matmul"],
    "matrix_norm": [
        (lambda xp, a, ord=ord: xp.linalg.matrix_norm(a.x, ord=ord, keepdims=ord == 1)) for ord in ("fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf)
    ],
    "matrix_power": [lambda xp, a: xp.linalg.matrix_power(matrices(xp, a), 3), lambda xp, a: xp.linalg.matrix_power(matrices(xp, a), -2)],
    "matrix_rank": [lambda xp, a: xp.linalg.matrix_rank(a.x), lambda xp, a: xp.linalg.matrix_rank(xp.stack([a.x, a.x * 0]))],
    "matrix_transpose": CALLS["matrix_transpose"],
    "outer": [lambda xp, a: xp.linalg.outer(a.x[0, :], a.y[:, 0])],
    "pinv": [lambda xp, a: xp.linalg.pinv(a.x), lambda xp, a: xp.linalg.pinv(a.x, rtol=1e-3)],
    "qr": [lambda xp, a: xp.abs(xp.linalg.qr(a.x).Q), lambda xp, a: xp.abs(xp.linalg.qr(a.x, mode="complete").R)],
    "slogdet": [lambda xp, a: xp.linalg.slogdet(matrices(xp, a)).logabsdet, lambda xp, a: xp.linalg.slogdet(matrices(xp, a)).sign * xp.sum(a.x)],
    "solve": [lambda xp, a: xp.linalg.solve(matrices(xp, a), a.x), lambda xp, a: xp.linalg.solve(matrices(xp, a), a.x[:, 0])],
    "svd": [lambda xp, a: xp.linalg.svd(a.x, full_matrices=False).S, lambda xp, a: xp.abs(xp.linalg.svd(matrices(xp, a)).U)],
    "svdvals": [lambda xp, a: xp.linalg.svdvals(a.x)],
    "tensordot": CALLS["tensordot"],
    "trace": [lambda xp, a: xp.linalg.trace(a.x), lambda xp, a: xp.linalg.trace(a.x, offset=1), lambda xp, a: xp.linalg.trace(a.small)],
    "vecdot": CALLS["vecdot"],
    "vector_norm": [
        lambda xp, a: xp.linalg.vector_norm(a.x), lambda xp, a: xp.linalg.vector_norm(a.x, axis=1, ord=1, keepdims=True),
        lambda xp, a: xp.linalg.vector_norm(a.x, axis=0, ord=3.5), lambda xp, a: xp.linalg.vector_norm(a.x, ord=np.inf),
    ],
}  # fmt: skip

FFT: dict[str, list[Call]] = {
    **{name: [
        lambda xp, a, name=name: getattr(xp.fft, name)(_complex(xp, a)),
        lambda xp, a, name=name: getattr(xp.fft, name)(_complex(xp, a), n=5, axis=0, norm="ortho"),
    ] for name in ("fft", "ifft", "irfft", "hfft")},
    **{name: [
        lambda xp, a, name=name: getattr(xp.fft, name)(a.x), lambda xp, a, name=name: getattr(xp.fft, name)(a.x, n=3, axis=0, norm="forward"),
    ] for name in ("rfft", "ihfft")},
    **{name: [
        lambda xp, a, name=name: getattr(xp.fft, name)(_complex(xp, a)),
        lambda xp, a, name=name: getattr(xp.fft, name)(_complex(xp, a), s=(2, 6), axes=(1, 0), norm="ortho"),
    ] for name in ("fftn", "ifftn", "irfftn")},
    "rfftn": [lambda xp, a: xp.fft.rfftn(a.x), lambda xp, a: xp.fft.rfftn(a.x, s=(5,), axes=(0,))],
    "fftfreq": [lambda xp, a: xp.fft.fftfreq(5), lambda xp, a: xp.fft.fftfreq(4, d=0.5, dtype=xp.float32)],
    "rfftfreq": [lambda xp, a: xp.fft.rfftfreq(5), lambda xp, a: xp.fft.rfftfreq(4, d=0.5)],
    "fftshift": [lambda xp, a: xp.fft.fftshift(a.x), lambda xp, a: xp.fft.fftshift(a.x, axes=(1,))],
    "ifftshift": [lambda xp, a: xp.fft.ifftshift(a.x), lambda xp, a: xp.fft.ifftshift(a.x, axes=(0,))],
}  # fmt: skip

CONSTANT = {
    "arange", "bitwise_and", "bitwise_invert", "bitwise_left_shift", "bitwise_or", "bitwise_right_shift", "bitwise_xor", "ceil", "equal",
    "floor", "floor_divide", "greater", "greater_equal", "isfinite", "isinf", "isnan", "less", "less_equal", "logical_and", "logical_not",
    "logical_or", "logical_xor", "not_equal", "round", "sign", "signbit", "trunc", "argmax", "argmin", "count_nonzero", "nonzero",
    "searchsorted", "argsort", "all", "any", "empty", "empty_like", "eye", "from_dlpack", "full", "full_like", "linspace", "ones",
    "ones_like", "zeros", "zeros_like", "matrix_rank", "fftfreq", "rfftfreq",
}  # fmt: skip
"""Functions of which every call in the tables gives constants."""
