"""PyTorch's side of the differential fuzzer: rows and transforms of random programs as PyTorch's functions.

Most rows are one function of PyTorch. Where it has none, a row is put together from several (``COMPOSED`` names those), or
is left out (``LACKS`` says why). Indexing is done by gathering at positions that NumPy finds, because PyTorch has no
negative steps.
"""

import math
import operator
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from autograd.testing.programs import TRANSFORMS, Fun, Library, Program, Step, inexact, waves

LACKS = {
    "searchsorted": "values in a program need not be sorted; held against NumPy in the tests of the array API",
    **dict.fromkeys(("gamma", "rgamma"), "no gamma function"),
    **dict.fromkeys(("betainc", "jv", "yv", "iv", "ive"), "no such function"),
    **dict.fromkeys(("j0", "j1", "y0", "y1"), "the function has no derivative"),
    **dict.fromkeys(("place_window", "pick_window"), "a rule's helper; reached through max_pool"),
}
"""Rows that are not compared with PyTorch, and why."""
COMPOSED = (
    "share", "replace_zero", "dropout_mask", "put_diagonal", "index_add", "scatter_along_axis", "linear_scan", "conv_weight",
    "cbrt", "adjugate", "cross_entropy_rule", "standardize", "project_out", "spread_window", "beta", "betaln", "erfcinv",
    "rel_entr", "kl_div", "polygamma", "getitem", "scatter", "put",
)  # fmt: skip
"""Rows that are put together from several of PyTorch's functions."""

DTYPES = {
    torch.float32: np.float32,
    torch.float64: np.float64,
    torch.complex64: np.complex64,
    torch.complex128: np.complex128,
}


class Torch(Library):
    """Programs on PyTorch's CPU tensors; ``dtype`` is that of numbers."""

    name = "PyTorch"
    lacks = LACKS

    def __init__(self, dtype: torch.dtype = torch.float64):
        self.dtype = dtype
        torch.set_num_threads(1)
        warnings.filterwarnings("ignore", module="torch")

    def step(self, step: Step, inputs: list) -> tuple:
        if step.op == "checkpoint" and any(s.op in TRANSFORMS for s in step.bodies[0].all_steps()):
            return step.bodies[0].run(
                self, *map(self._value, inputs)
            )  # its checkpoint cannot hold torch.func's transforms
        return super().step(step, [self._value(x) for x in inputs])

    def call(self, row: str, inputs: Sequence[Any], params: Mapping[str, Any]) -> Any:
        return ROWS[row](*inputs, **params)

    def _value(self, x: Any) -> Any:
        if isinstance(x, torch.Tensor):
            return x
        if isinstance(x, (float, complex)) and not isinstance(x, np.generic):
            return torch.tensor(x, dtype=self.dtype if isinstance(x, float) else None)
        return torch.as_tensor(np.array(x))

    def grad(self, fun: Fun, *xs: Any) -> Any:
        return torch.func.grad(lambda *a: fun(*a)[0])(*xs)

    def jvp(self, fun: Fun, primals: tuple, tangents: tuple) -> tuple:
        primals, tangents = (tuple(t.clone() for t in ts) for ts in (primals, tangents))  # it refuses broadcast ones
        return torch.func.jvp(fun, primals, tangents)[1]  # type: ignore[no-any-return]

    def vmap(self, fun: Fun, *xs: Any) -> tuple:
        return torch.vmap(fun)(*xs)  # type: ignore[no-any-return]

    def checkpoint(self, fun: Fun, *xs: Any) -> tuple:
        if torch._C._functorch.peek_interpreter_stack() is not None:  # nor be inside of one
            return fun(*xs)
        return checkpoint(fun, *xs, use_reentrant=False)  # type: ignore[no-any-return]

    def custom_vjp(self, fun: Fun, *xs: Any) -> tuple:
        return tuple(0.5 * y + (0.5 * y).detach() if y.is_floating_point() else y for y in fun(*xs))

    def cond(self, condition: Any, on_true: Fun, on_false: Fun, *xs: Any) -> tuple:
        condition = self._value(condition)
        if torch._C._functorch.is_batchedtensor(condition):
            return tuple(torch.where(condition, a, b) for a, b in zip(on_true(*xs), on_false(*xs), strict=True))
        return on_true(*xs) if bool(condition) else on_false(*xs)

    def scan(self, fun: Fun, carry: Any, xs: Any) -> tuple:
        ys = []
        for x in xs.unbind(0):
            carry, y = fun(carry, x)
            ys.append(y)
        return carry, torch.stack(ys)

    def gradients(self, program: Program) -> tuple[list[Any], list[Any]]:
        """The outputs of a program, and the gradients of its leaves for the cotangents ``waves``, as NumPy arrays."""
        leaves = [torch.tensor(np.array(a), requires_grad=True) for a in program.leaves.values()]
        outputs = program.run(self, *leaves)
        values = [None if o is None else _numpy(o) for o in outputs]
        kept = [k for k, v in enumerate(values) if v is not None and inexact(v)]
        seeds = dict(zip(kept, waves([values[k] for k in kept]), strict=True))
        kept = [k for k in kept if outputs[k].requires_grad]
        if not kept:
            return values, [np.zeros_like(a) for a in program.leaves.values()]
        found = torch.autograd.grad(
            [outputs[k] for k in kept], leaves, [torch.as_tensor(np.array(seeds[k])) for k in kept], allow_unused=True
        )
        return values, [
            np.zeros(tuple(a.shape)) if g is None else _numpy(g) for a, g in zip(leaves, found, strict=True)
        ]


def _numpy(x: Any) -> np.ndarray:
    return x.resolve_conj().resolve_neg().numpy(force=True)  # type: ignore[no-any-return]


def _dims(x: Any, axis: Any) -> tuple[int, ...]:
    return tuple(range(x.ndim)) if axis is None else (axis,) if isinstance(axis, int) else tuple(axis)


def _like_numpy(f: Callable, x: Any, **params: Any) -> tuple[int, ...]:
    """The shape that a function of NumPy gives to an array of x's shape."""
    return f(np.empty(x.shape, bool), **params).shape  # type: ignore[no-any-return]


def _indices(shape: Sequence[int], index: Any) -> Any:
    """The flat positions that an index expression names."""
    return torch.as_tensor(np.array(np.arange(math.prod(shape)).reshape(tuple(shape))[index]))


def _pairs(width: Any, ndim: int) -> list[tuple[int, int]]:
    return [(int(a), int(b)) for a, b in np.broadcast_to(np.asarray(width), (ndim, 2))]


def _padded(x: Any, pairs: Sequence[tuple[int, int]], value: float = 0.0) -> Any:
    """Padding of the last axes."""
    flat = [n for pair in reversed(list(pairs)) for n in pair]
    return F.pad(x, flat, value=value) if any(flat) else x


def _promoted(*xs: Any) -> list:
    dtype = xs[0].dtype
    for x in xs[1:]:
        dtype = torch.promote_types(dtype, x.dtype)
    return [x.to(dtype) for x in xs]


def _t(value: Any, n: int) -> tuple[int, ...]:
    return (value,) * n if isinstance(value, int) else tuple(value)


def _conv(x: Any, w: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> Any:
    n = x.ndim - 2
    f = (F.conv1d, F.conv2d)[n - 1]
    return f(_padded(x, padding), w, None, _t(stride, n), 0, _t(dilation, n), groups)


def _conv_transpose(g: Any, w: Any, size: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> Any:
    n = g.ndim - 2
    f = (F.conv_transpose1d, F.conv_transpose2d)[n - 1]
    full = f(g, w, None, _t(stride, n), 0, 0, groups, _t(dilation, n))
    rest = [(0, m + a + b - k) for m, (a, b), k in zip(size, padding, full.shape[2:], strict=True)]
    full = _padded(full, rest)
    return full[(..., *(slice(a, a + m) for m, (a, _) in zip(size, padding, strict=True)))]


def _conv_weight(x: Any, g: Any, kernel: Any, **params: Any) -> Any:
    zero = torch.zeros((g.shape[1], x.shape[1] // params["groups"], *kernel), dtype=g.dtype)
    return torch.func.vjp(lambda w: _conv(x, w, **params), zero)[1](g)[0]


def _max_pool(x: Any, kernel: Any, stride: Any, padding: Any) -> Any:
    f = (F.max_pool1d, F.max_pool2d)[x.ndim - 3]
    return f(_padded(x, padding, -math.inf), kernel, stride), None


def _avg_pool(x: Any, kernel: Any, stride: Any, padding: Any) -> Any:
    return (F.avg_pool1d, F.avg_pool2d)[x.ndim - 3](_padded(x, padding), kernel, stride)


def _spread_window(g: Any, size: Any, **params: Any) -> Any:
    zero = torch.zeros((*g.shape[:2], *size), dtype=g.dtype)
    return torch.func.vjp(lambda x: _avg_pool(x, **params), zero)[1](g)[0]


def _prod(x: Any, axis: Any, keepdims: bool) -> Any:
    shape = _like_numpy(np.prod, x, axis=axis, keepdims=keepdims)
    for a in sorted((a % x.ndim for a in _dims(x, axis)), reverse=True):
        x = torch.prod(x, a)
    return x.reshape(shape)


def _reduced(f: Callable) -> Callable:
    return lambda x, axis, keepdims, **params: f(x, dim=_dims(x, axis), keepdim=keepdims, **params)


def _argreduced(f: Callable, numpys: Callable) -> Callable:
    return lambda x, axis, keepdims: f(
        x if axis is not None else x.reshape(-1), dim=0 if axis is None else axis
    ).reshape(_like_numpy(numpys, x, axis=axis, keepdims=keepdims))


def _roll(x: Any, shift: Any, axis: Any) -> Any:
    if axis is None:
        return torch.roll(x, shift)
    dims = _dims(x, axis)
    return torch.roll(x, _t(shift, len(dims)), dims)


def _linear_scan(a: Any, b: Any, axis: int, reverse: bool) -> Any:
    a, b = (torch.movedim(x, axis, -1) for x in torch.broadcast_tensors(a, b))
    y, ys = torch.zeros_like(b[..., 0]), []
    for k in range(a.shape[-1])[:: -1 if reverse else 1]:
        y = a[..., k] * y + b[..., k]
        ys.append(y)
    return torch.movedim(torch.stack(ys[:: -1 if reverse else 1], -1), -1, axis)


def _take(x: Any, i: Any, axis: Any) -> Any:
    if axis is None:
        x, axis = x.reshape(-1), 0
    axis %= x.ndim
    return torch.index_select(x, axis, i.reshape(-1) % x.shape[axis]).reshape(
        (*x.shape[:axis], *i.shape, *x.shape[axis + 1 :])
    )


def _index_add(x: Any, i: Any, axis: int, shape: Any) -> Any:
    axis %= len(shape)
    flat = x.reshape((*shape[:axis], -1, *shape[axis + 1 :])) if i.numel() else x
    return torch.zeros(shape, dtype=x.dtype).index_add(axis, i.reshape(-1) % shape[axis], flat)


def _put(x: Any, values: Any, index: Any) -> Any:
    places = _indices(x.shape, index)
    flat = torch.broadcast_to(values, places.shape).reshape(-1)
    return x.reshape(-1).scatter(0, places.reshape(-1), flat).reshape(x.shape)


def _rel_entr(x: Any, y: Any) -> Any:
    zero = (x == 0) & (y >= 0)  # where the function is 0, and x / y may be 0 / 0
    return torch.special.xlogy(
        x, torch.where(zero, torch.ones_like(x / y), x / torch.where(zero, torch.ones_like(y), y))
    )


def _tensordot(x: Any, y: Any, axes: Any) -> Any:
    if not isinstance(axes, int):
        axes = tuple([a % t.ndim for a in _t(part, 1)] for part, t in zip(axes, (x, y), strict=True))
    return torch.tensordot(x, y, axes)


def _solve(a: Any, b: Any) -> Any:
    return torch.linalg.solve(a, b[:, None])[..., 0] if b.ndim == 1 else torch.linalg.solve(a, b)


def _solve_triangular(a: Any, b: Any, lower: bool, unit_diagonal: bool) -> Any:
    solve = lambda c: torch.linalg.solve_triangular(a, c, upper=not lower, unitriangular=unit_diagonal)
    return solve(b[:, None])[..., 0] if b.ndim == 1 else solve(b)


def _symmetric(x: Any) -> Any:
    return (x + x.mH) / 2


def _cross_entropy(x: Any, target: Any, axis: int, smoothing: float) -> Any:
    moved = x.movedim(axis, 1) if x.ndim > 1 else x
    return F.cross_entropy(moved, target, reduction="none", label_smoothing=smoothing), torch.softmax(x, axis)


def _cross_entropy_rule(g: Any, p: Any, target: Any, axis: int, smoothing: float) -> Any:
    hit = F.one_hot(target, p.shape[axis]).movedim(-1, axis).to(p.dtype)
    return g.unsqueeze(axis) * (p - (1.0 - smoothing) * hit - smoothing / p.shape[axis])


def _standardize(x: Any, axes: Any, eps: float) -> Any:
    mean, var = torch.mean(x, axes, keepdim=True), torch.var(x, axes, correction=0, keepdim=True)
    return (x - mean) / torch.sqrt(var + eps), mean, var


def _project_out(g: Any, z: Any, axes: Any) -> Any:
    mean = lambda t: torch.mean(t, axes, keepdim=True)
    return g - mean(g) - z * mean(g * z)


def _polygamma(n: Any, x: Any) -> Any:
    n, x = torch.broadcast_tensors(n, x)
    total = torch.zeros_like(x)
    for k in range(4):
        total = torch.where(n == k, torch.special.polygamma(k, x), total)
    return total


def _fft(f: Callable) -> Callable:
    return lambda x, axes, norm: f(x, dim=axes, norm=norm) if axes else x * torch.tensor(1 + 0j, dtype=_complex(x))


def _complex(x: Any) -> torch.dtype:
    return torch.complex64 if x.dtype in (torch.float32, torch.complex64) else torch.complex128


def _numbered(f: Callable) -> Callable:
    """With integer arrays in the dtype of the floating-point ones, as PyTorch's special functions need them."""

    def of(*xs: Any) -> Any:
        dtype = next(x.dtype for x in xs if x.is_floating_point())
        return f(*(x.to(dtype) for x in xs))

    return of


def _bound(x: Any, low: Any, high: Any) -> Any:
    return x if low is None and high is None else torch.clamp(x, low, high)


ROWS: dict[str, Callable] = {
    **{name: getattr(torch, name) for name in (
        "negative", "positive", "square", "reciprocal", "remainder", "isnan", "isinf", "isfinite", "logical_and",
        "logical_or", "logical_xor", "logical_not", "bitwise_and", "bitwise_or", "bitwise_xor", "sign", "floor", "ceil", "round",
        "trunc", "where", "maximum", "minimum", "sqrt", "rsqrt", "exp", "expm1", "log", "log1p", "log2", "log10", "logaddexp",
        "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh", "atan2", "hypot", "abs",
        "erf", "sigmoid", "exp2", "sinc", "copysign", "matmul", "erfc", "erfinv", "logit", "digamma", "greater", "less",
        "greater_equal", "less_equal", "not_equal", "i0", "xlogy",
    )},
    **{name: getattr(torch.special, name) for name in ("ndtr", "log_ndtr", "ndtri", "erfcx", "i1", "i0e", "i1e", "entr", "xlog1py")},
    **{name: getattr(torch.linalg, name) for name in ("inv", "det", "slogdet")},
    "add": operator.add, "subtract": operator.sub, "multiply": operator.mul, "divide": operator.truediv, "power": torch.pow,
    "floor_divide": lambda x, y: torch.floor_divide(x.detach(), y.detach()),  # it has no derivative, instead of zero
    "equal": torch.eq, "bitwise_invert": torch.bitwise_not,
    "bitwise_left_shift": torch.bitwise_left_shift, "bitwise_right_shift": torch.bitwise_right_shift,
    "nextafter": torch.nextafter, "signbit": torch.signbit,
    "share": lambda g, x, y: torch.where(x > y, g, torch.where(x == y, 0.5 * g, torch.zeros_like(g))),
    "clip": _bound,
    "replace_zero": lambda x, by: torch.where(x == 0, torch.full_like(x, by), x),
    "real": lambda x: torch.real(x) if x.is_complex() else x * 1.0,
    "imag": lambda x: torch.imag(x) if x.is_complex() else torch.zeros_like(x),
    "conj": torch.conj_physical,
    "softplus": F.softplus, "relu": torch.relu, "silu": F.silu,
    "leaky_relu": lambda x, slope: F.leaky_relu(x, slope),
    "elu": lambda x, alpha: F.elu(x, alpha),
    "gelu": lambda x, approximate: F.gelu(x, approximate=approximate),
    "dropout_mask": lambda x, mask, scale: x * mask * scale,
    "astype": lambda x, dtype: x.to(torch.as_tensor(np.empty(0, dtype)).dtype),
    "to_device": lambda x, device, source: x,
    "stop_gradient": lambda x: x.detach(),
    # layout
    "reshape": lambda x, shape: torch.reshape(x, (shape,) if isinstance(shape, int) else shape),
    "permute": lambda x, axes: x.permute(tuple(range(x.ndim))[::-1] if axes is None else axes),
    "sum_to": lambda x, shape: x.sum_to_size(shape),
    "broadcast_to": lambda x, shape: torch.broadcast_to(x, shape),
    "squeeze": lambda x, axis: x.reshape(_like_numpy(np.squeeze, x, axis=axis)),
    "expand_dims": lambda x, axis: x.reshape(_like_numpy(np.expand_dims, x, axis=axis)),
    "split": lambda x, sections, axis: tuple(torch.tensor_split(x, sections, axis)),
    "pad": lambda x, width, value: _padded(x, _pairs(width, x.ndim), value),
    "flip": lambda x, axis: torch.flip(x, _dims(x, axis)),
    "roll": _roll,
    "tile": lambda x, reps: torch.tile(x, _t(reps, 1)),
    "repeat": lambda x, repeats, axis: torch.repeat_interleave(x, repeats, dim=axis),
    "tril": lambda x, k: torch.tril(x, k), "triu": lambda x, k: torch.triu(x, k),
    "diagonal": lambda x, k: torch.diagonal(x, k, -2, -1),
    "put_diagonal": lambda x, k, shape: torch.diagonal_scatter(torch.zeros((*x.shape[:-1], *shape), dtype=x.dtype), x, k, -2, -1),
    # index
    "getitem": lambda x, index: x.reshape(-1)[_indices(x.shape, index)],
    "scatter": lambda x, index, shape: torch.zeros(math.prod(shape), dtype=x.dtype).index_add(
        0, _indices(shape, index).reshape(-1), x.reshape(-1)).reshape(shape),
    "put": lambda x, values, index: _put(*_promoted(x, values), index),
    "take": _take, "index_add": _index_add,
    "take_along_axis": lambda x, i, axis: torch.take_along_dim(x, i % x.shape[axis], axis),
    "scatter_along_axis": lambda x, i, axis, n: torch.zeros(
        [n if a == axis % x.ndim else m for a, m in enumerate(x.shape)], dtype=x.dtype
    ).scatter_add(axis, torch.broadcast_to(i % n, x.shape), x),
    "argsort": lambda x, axis: torch.argsort(x, dim=axis, stable=True),
    "sort": lambda x, axis: torch.sort(x, dim=axis, stable=True).values,
    # reductions
    "sum": _reduced(torch.sum), "mean": _reduced(torch.mean), "prod": _prod, "var": _reduced(torch.var), "std": _reduced(torch.std),
    "max": _reduced(torch.amax), "min": _reduced(torch.amin),
    "argmax": _argreduced(torch.argmax, np.argmax), "argmin": _argreduced(torch.argmin, np.argmin),
    "all": _reduced(torch.all), "any": _reduced(torch.any), "norm": _reduced(torch.linalg.vector_norm),
    "logsumexp": _reduced(torch.logsumexp),
    "softmax": lambda x, axis: torch.softmax(x, axis), "log_softmax": lambda x, axis: torch.log_softmax(x, axis),
    "cumsum": lambda x, axis: torch.cumsum(x if axis is not None else x.reshape(-1), axis or 0),
    "cumprod": lambda x, axis: torch.cumprod(x if axis is not None else x.reshape(-1), axis or 0),
    "linear_scan": _linear_scan,
    # linear algebra
    "linear": lambda x, w, b: F.linear(*_promoted(x, w, b)),
    "outer": lambda x, y: torch.outer(x.reshape(-1), y.reshape(-1)),
    "tensordot": lambda x, y, axes: _tensordot(*_promoted(x, y), axes),
    "conv": _conv, "conv_transpose": _conv_transpose, "conv_weight": _conv_weight,
    "max_pool": _max_pool, "avg_pool": _avg_pool, "spread_window": _spread_window,
    "solve": _solve, "solve_triangular": _solve_triangular,
    "pinv": lambda x, rtol: torch.linalg.pinv(x, rtol=rtol),
    "adjugate": lambda x: torch.linalg.det(x)[..., None, None] * torch.linalg.inv(x),
    "expm": torch.linalg.matrix_exp,
    "cholesky": lambda x: torch.linalg.cholesky(_symmetric(x)),
    "qr": lambda x: tuple(torch.linalg.qr(x)),
    "svd": lambda x: tuple(torch.linalg.svd(x, full_matrices=False)),
    "eigh": lambda x, uplo: tuple(torch.linalg.eigh(_symmetric(x))),
    "eig": lambda x: tuple(torch.linalg.eig(x)),
    "fftn": _fft(torch.fft.fftn), "ifftn": _fft(torch.fft.ifftn),
    "rfft": lambda x, axis, norm: torch.fft.rfft(x, dim=axis, norm=norm),
    "irfft": lambda x, n, axis, norm: torch.fft.irfft(x, n, dim=axis, norm=norm),
    # losses and special functions
    "cross_entropy": _cross_entropy, "cross_entropy_rule": _cross_entropy_rule,
    "binary_cross_entropy": lambda p, t: F.binary_cross_entropy(*torch.broadcast_tensors(p, t), reduction="none"),
    "standardize": _standardize, "project_out": _project_out,
    "cbrt": lambda x: torch.sign(x) * torch.abs(x) ** (1.0 / 3.0),
    "gammaln": torch.lgamma, "loggamma": torch.lgamma, "polygamma": _polygamma,
    "zeta": _numbered(torch.special.zeta), "gammainc": _numbered(torch.special.gammainc), "gammaincc": _numbered(torch.special.gammaincc),
    "betaln": lambda x, y: torch.lgamma(x) + torch.lgamma(y) - torch.lgamma(x + y),
    "beta": lambda x, y: torch.exp(torch.lgamma(x) + torch.lgamma(y) - torch.lgamma(x + y)),
    "erfcinv": lambda x: torch.erfinv(1.0 - x),
    "rel_entr": lambda x, y: _rel_entr(x, y),
    "kl_div": lambda x, y: _rel_entr(x, y) - x + y,
}  # fmt: skip
"""A function of PyTorch for each row, called as the row is: inputs, then parameters by name."""


def _joined(f: Callable) -> Callable:
    return lambda *xs, **params: f(_promoted(*xs), **params)


ROWS["concat"] = _joined(lambda xs, axis: torch.cat(xs, axis))
ROWS["stack"] = _joined(lambda xs, axis: torch.stack(xs, axis))
ROWS["einsum"] = _joined(lambda xs, subscripts: torch.einsum(subscripts, *xs))
ROWS["matmul"] = lambda x, y: torch.matmul(*_promoted(x, y))
