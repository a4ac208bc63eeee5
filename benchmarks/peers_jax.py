"""JAX's side of the differential fuzzer: rows and transforms of random programs as JAX's functions.

A program is compiled as a whole, with its gradient: JAX compiles anything that it runs, and one program at once costs less
than its operations one by one. ``LACKS`` says which rows JAX has no function for, ``COMPOSED`` which are put together
from several.
"""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

os.environ.setdefault(  # compiling fast matters more here than running fast: this is 4 times faster
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_cpu_multi_thread_eigen=false --xla_cpu_use_fusion_emitters=false "
    "--xla_cpu_parallel_codegen_split_count=1 --xla_llvm_disable_expensive_passes=true",
)

import jax
import jax.numpy as jnp
import jax.scipy.special as special
import numpy as np
from jax import lax, nn

from autograd.testing.programs import Fun, Library, Program, inexact, waves

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_platforms", "cpu")

LACKS = {
    "searchsorted": "values in a program need not be sorted; held against NumPy in the tests of the array API",
    **dict.fromkeys(("erfcx", "erfcinv"), "no such function"),
    **dict.fromkeys(
        ("j0", "j1", "y0", "y1", "jv", "yv", "iv", "ive"), "no Bessel function of this kind with a derivative"
    ),
    **dict.fromkeys(("place_window", "pick_window"), "a rule's helper; reached through max_pool"),
}
"""Rows that are not compared with JAX, and why."""
COMPOSED = (
    "share", "replace_zero", "dropout_mask", "put_diagonal", "index_add", "scatter_along_axis", "linear_scan", "conv_weight",
    "conv_transpose", "adjugate", "cross_entropy", "cross_entropy_rule", "binary_cross_entropy", "standardize", "project_out",
    "spread_window", "avg_pool", "max_pool", "norm", "loggamma", "rgamma", "linear", "sum_to",
)  # fmt: skip
"""Rows that are put together from several of JAX's functions."""


class Jax(Library):
    """Programs on JAX's CPU arrays."""

    name = "JAX"
    lacks = LACKS

    def call(self, row: str, inputs: Sequence[Any], params: Mapping[str, Any]) -> Any:
        return ROWS[row](*(jnp.asarray(x) if isinstance(x, np.generic) and inexact(x) else x for x in inputs), **params)

    def grad(self, fun: Fun, *xs: Any) -> Any:
        return jax.grad(lambda *a: fun(*a)[0])(*xs)

    def jvp(self, fun: Fun, primals: tuple, tangents: tuple) -> tuple:
        return jax.jvp(fun, primals, tangents)[1]  # type: ignore[no-any-return]

    def vmap(self, fun: Fun, *xs: Any) -> tuple:
        return jax.vmap(fun)(*xs)  # type: ignore[no-any-return]

    def checkpoint(self, fun: Fun, *xs: Any) -> tuple:
        return jax.checkpoint(fun)(*xs)  # type: ignore[no-any-return]

    def custom_vjp(self, fun: Fun, *xs: Any) -> tuple:
        return tuple(
            0.5 * y + lax.stop_gradient(0.5 * y) if jnp.issubdtype(y.dtype, jnp.floating) else y for y in fun(*xs)
        )

    def cond(self, condition: Any, on_true: Fun, on_false: Fun, *xs: Any) -> tuple:
        return lax.cond(jnp.asarray(condition), on_true, on_false, *xs)  # type: ignore[no-any-return]

    def scan(self, fun: Fun, carry: Any, xs: Any) -> tuple:
        return lax.scan(fun, carry, xs)

    def gradients(self, program: Program) -> tuple[list[Any], list[Any]]:
        """The outputs of a program, and the gradients of its leaves for the cotangents ``waves``, as NumPy arrays."""

        def both(*leaves: Any) -> tuple:
            def kept(*xs: Any) -> tuple:
                outputs = program.run(self, *xs)
                return tuple(o for o in outputs if o is not None and inexact(o)), outputs

            found, pullback, outputs = jax.vjp(kept, *leaves, has_aux=True)
            return outputs, pullback(tuple(jnp.asarray(w) for w in waves(found)))

        outputs, found = jax.jit(both)(*(jnp.asarray(a) for a in program.leaves.values()))
        return [None if o is None else np.asarray(o) for o in outputs], [np.asarray(g) for g in found]


def _t(value: Any, n: int) -> tuple[int, ...]:
    return (value,) * n if isinstance(value, int) else tuple(value)


def _sum_to(x: Any, shape: Any) -> Any:
    lead = x.ndim - len(shape)
    axes = [*range(lead), *(a for a in range(lead, x.ndim) if shape[a - lead] == 1)]
    return jnp.sum(x, axis=tuple(axes), keepdims=True).reshape(shape)


def _put_diagonal(x: Any, k: int, shape: Any) -> Any:
    i, j = (np.arange(x.shape[-1]) + max(s, 0) for s in (-k, k))
    return jnp.zeros((*x.shape[:-1], *shape), x.dtype).at[..., i, j].set(x)


def _index_add(x: Any, i: Any, axis: int, shape: Any) -> Any:
    axis %= len(shape)
    flat = x.reshape((*shape[:axis], np.size(i), *shape[axis + 1 :]))
    return jnp.zeros(shape, x.dtype).at[(slice(None),) * axis + (np.reshape(i, -1),)].add(flat)


def _scatter_along(x: Any, i: Any, axis: int, n: int) -> Any:
    axis %= x.ndim
    shape = tuple(n if a == axis else m for a, m in enumerate(x.shape))
    index = list(np.indices(x.shape, sparse=True))
    index[axis] = np.broadcast_to(i, x.shape)
    return jnp.zeros(shape, x.dtype).at[tuple(index)].add(x)


def _linear_scan(a: Any, b: Any, axis: int, reverse: bool) -> Any:
    a, b = (jnp.moveaxis(x, axis, -1) for x in jnp.broadcast_arrays(a, b))
    y, ys = jnp.zeros_like(b[..., 0]), []
    for k in range(a.shape[-1])[:: -1 if reverse else 1]:
        y = a[..., k] * y + b[..., k]
        ys.append(y)
    return jnp.moveaxis(jnp.stack(ys[:: -1 if reverse else 1], -1), -1, axis)


def _conv(x: Any, w: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> Any:
    n = x.ndim - 2
    dtype = jnp.result_type(x, w)
    return lax.conv_general_dilated(
        x.astype(dtype), w.astype(dtype), _t(stride, n), list(padding), rhs_dilation=_t(dilation, n), feature_group_count=groups,
        precision="highest",
    )  # fmt: skip


def _conv_transpose(g: Any, w: Any, size: Any, **params: Any) -> Any:
    zero = jnp.zeros((g.shape[0], w.shape[1] * params["groups"], *size), g.dtype)
    return jax.vjp(lambda x: _conv(x, w, **params), zero)[1](g)[0]


def _conv_weight(x: Any, g: Any, kernel: Any, **params: Any) -> Any:
    zero = jnp.zeros((g.shape[1], x.shape[1] // params["groups"], *kernel), g.dtype)
    return jax.vjp(lambda w: _conv(x, w, **params), zero)[1](g)[0]


def _window(x: Any, start: float, combine: Callable, kernel: Any, stride: Any, padding: Any) -> Any:
    return lax.reduce_window(
        x, np.array(start, x.dtype), combine, (1, 1, *kernel), (1, 1, *stride), [(0, 0), (0, 0), *padding]
    )


def _avg_pool(x: Any, kernel: Any, stride: Any, padding: Any) -> Any:
    return _window(x, 0.0, lax.add, kernel, stride, padding) / math.prod(kernel)


def _spread_window(g: Any, size: Any, **params: Any) -> Any:
    zero = jnp.zeros((*g.shape[:2], *size), g.dtype)
    return jax.vjp(lambda x: _avg_pool(x, **params), zero)[1](g)[0]


def _solve(a: Any, b: Any) -> Any:
    if b.ndim == 1:
        return jnp.linalg.solve(a, b[:, None])[..., 0]
    batch = jnp.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    return jnp.linalg.solve(jnp.broadcast_to(a, batch + a.shape[-2:]), jnp.broadcast_to(b, batch + b.shape[-2:]))


def _solve_triangular(a: Any, b: Any, lower: bool, unit_diagonal: bool) -> Any:
    c = b[:, None] if b.ndim == 1 else b
    batch = jnp.broadcast_shapes(a.shape[:-2], c.shape[:-2])
    a, c = jnp.broadcast_to(a, batch + a.shape[-2:]), jnp.broadcast_to(c, batch + c.shape[-2:])
    z = lax.linalg.triangular_solve(a, c, left_side=True, lower=lower, unit_diagonal=unit_diagonal)
    return z[..., 0] if b.ndim == 1 else z


def _hit(target: Any, n: int, axis: int, dtype: Any) -> Any:
    return jnp.moveaxis(nn.one_hot(target, n, dtype=dtype), -1, axis)


def _cross_entropy(x: Any, target: Any, axis: int, smoothing: float) -> Any:
    n = x.shape[axis]
    q = (1.0 - smoothing) * _hit(target, n, axis, x.dtype) + smoothing / n
    return -jnp.sum(q * nn.log_softmax(x, axis), axis), nn.softmax(x, axis)


def _cross_entropy_rule(g: Any, p: Any, target: Any, axis: int, smoothing: float) -> Any:
    n = p.shape[axis]
    return jnp.expand_dims(g, axis) * (p - (1.0 - smoothing) * _hit(target, n, axis, p.dtype) - smoothing / n)


def _standardize(x: Any, axes: Any, eps: float) -> Any:
    mean, var = jnp.mean(x, axes, keepdims=True), jnp.var(x, axes, keepdims=True)
    return (x - mean) / jnp.sqrt(var + eps), mean, var


def _project_out(g: Any, z: Any, axes: Any) -> Any:
    mean = lambda t: jnp.mean(t, axes, keepdims=True)
    return g - mean(g) - z * mean(g * z)


def _numbered(f: Callable) -> Callable:
    """With integer arrays in the dtype of the floating-point inputs, as JAX's special functions need them."""

    def of(*xs: Any) -> Any:
        dtype = next(x.dtype for x in xs if inexact(x))
        return f(*(jnp.asarray(x, dtype) for x in xs))

    return of


ROWS: dict[str, Callable] = {
    **{name: getattr(jnp, name) for name in (
        "add", "subtract", "multiply", "divide", "negative", "positive", "square", "reciprocal", "floor_divide", "remainder",
        "power", "equal", "not_equal", "less", "less_equal", "greater", "greater_equal", "logical_and", "logical_or",
        "logical_xor", "logical_not", "bitwise_and", "bitwise_or", "bitwise_xor", "isnan", "isinf", "isfinite", "sign", "floor",
        "ceil", "round", "trunc", "where", "maximum", "minimum", "sqrt", "exp", "expm1", "log", "log1p", "log2", "log10",
        "logaddexp", "sin", "cos", "tan", "sinh", "cosh", "tanh", "hypot", "abs", "real", "imag", "conj", "exp2", "cbrt", "sinc",
        "copysign", "matmul", "outer", "tensordot", "reshape", "broadcast_to", "squeeze", "expand_dims", "flip", "roll", "tile",
        "tril", "triu", "take", "take_along_axis", "sum", "mean", "prod", "max", "min", "argmax", "argmin", "all",
        "any", "cumsum", "cumprod",
    )},
    **{name: getattr(jnp, "arc" + name[1:]) for name in ("asin", "acos", "atan", "asinh", "acosh", "atanh", "atan2")},
    **{name: getattr(special, name) for name in (
        "erf", "gamma", "gammaln", "digamma", "beta", "betaln", "erfc", "ndtr", "log_ndtr", "ndtri", "i0", "i1", "i0e", "i1e",
        "logit", "xlogy", "xlog1py", "entr", "rel_entr", "kl_div", "erfinv",
    )},
    **{name: _numbered(getattr(special, name)) for name in ("zeta", "gammainc", "gammaincc", "betainc")},
    **{name: getattr(jnp.linalg, name) for name in ("inv", "det")},
    "polygamma": special.polygamma,
    "bitwise_invert": jnp.invert, "bitwise_left_shift": jnp.left_shift, "bitwise_right_shift": jnp.right_shift,
    "nextafter": jnp.nextafter, "signbit": jnp.signbit,
    "share": lambda g, x, y: jnp.where(x > y, g, jnp.where(x == y, 0.5 * g, 0.0)),
    "clip": lambda x, low, high: jnp.clip(x, low, high),
    "rsqrt": lax.rsqrt, "sigmoid": nn.sigmoid, "softplus": nn.softplus, "relu": nn.relu, "silu": nn.silu,
    "replace_zero": lambda x, by: jnp.where(x == 0, by, x),
    "leaky_relu": lambda x, slope: nn.leaky_relu(x, slope), "elu": lambda x, alpha: nn.elu(x, alpha),
    "gelu": lambda x, approximate: nn.gelu(x, approximate=approximate == "tanh"),
    "dropout_mask": lambda x, mask, scale: x * mask * scale,
    "astype": lambda x, dtype: jnp.asarray(x).astype(dtype), "to_device": lambda x, device, source: x,
    "stop_gradient": lax.stop_gradient,
    # layout and index
    "permute": lambda x, axes: jnp.transpose(x, axes), "sum_to": _sum_to,
    "split": lambda x, sections, axis: tuple(jnp.split(x, sections, axis)),
    "pad": lambda x, width, value: jnp.pad(x, width, constant_values=value),
    "repeat": lambda x, repeats, axis: jnp.repeat(x, repeats, axis=axis),
    "diagonal": lambda x, k: jnp.diagonal(x, k, -2, -1), "put_diagonal": _put_diagonal,
    "getitem": lambda x, index: jnp.asarray(x)[index],
    "scatter": lambda x, index, shape: jnp.zeros(shape, x.dtype).at[index].add(x),
    "put": lambda x, values, index: jnp.asarray(x).at[index].set(values),
    "index_add": _index_add, "scatter_along_axis": _scatter_along,
    "argsort": lambda x, axis: jnp.argsort(x, axis=axis, stable=True), "sort": lambda x, axis: jnp.sort(x, axis=axis, stable=True),
    # reductions
    "var": lambda x, axis, keepdims, correction: jnp.var(x, axis, keepdims=keepdims, ddof=correction),
    "std": lambda x, axis, keepdims, correction: jnp.std(x, axis, keepdims=keepdims, ddof=correction),
    "norm": lambda x, axis, keepdims: jnp.sqrt(jnp.sum(jnp.real(x * jnp.conj(x)), axis, keepdims=keepdims)),
    "logsumexp": lambda x, axis, keepdims: special.logsumexp(x, axis=axis, keepdims=keepdims),
    "softmax": lambda x, axis: nn.softmax(x, axis), "log_softmax": lambda x, axis: nn.log_softmax(x, axis),
    "linear_scan": _linear_scan,
    # linear algebra
    "linear": lambda x, w, b: x @ w.T + b,
    "conv": _conv, "conv_transpose": _conv_transpose, "conv_weight": _conv_weight,
    "max_pool": lambda x, **params: (_window(x, -math.inf, lax.max, **params), None),
    "avg_pool": _avg_pool, "spread_window": _spread_window,
    "solve": _solve, "solve_triangular": _solve_triangular,
    "slogdet": lambda x: tuple(jnp.linalg.slogdet(x)),
    "pinv": lambda x, rtol: jnp.linalg.pinv(x, rtol=rtol),
    "adjugate": lambda x: jnp.linalg.det(x)[..., None, None] * jnp.linalg.inv(x),
    "expm": jax.scipy.linalg.expm,
    "cholesky": jnp.linalg.cholesky, "qr": lambda x: tuple(jnp.linalg.qr(x)),
    "svd": lambda x: tuple(jnp.linalg.svd(x, full_matrices=False)), "eigh": lambda x, uplo: tuple(jnp.linalg.eigh(x)),
    "eig": lambda x: tuple(lax.linalg.eig(x, compute_left_eigenvectors=False, enable_eigvec_derivs=True)),
    "fftn": lambda x, axes, norm: jnp.fft.fftn(x, axes=axes, norm=norm) if axes else x * (1 + 0j),
    "ifftn": lambda x, axes, norm: jnp.fft.ifftn(x, axes=axes, norm=norm) if axes else x * (1 + 0j),
    "rfft": lambda x, axis, norm: jnp.fft.rfft(x, axis=axis, norm=norm),
    "irfft": lambda x, n, axis, norm: jnp.fft.irfft(x, n, axis=axis, norm=norm),
    # losses and special functions
    "cross_entropy": _cross_entropy, "cross_entropy_rule": _cross_entropy_rule,
    "binary_cross_entropy": lambda p, t: -(t * jnp.log(p) + (1.0 - t) * jnp.log1p(-p)),
    "standardize": _standardize, "project_out": _project_out,
    "loggamma": special.gammaln, "rgamma": lambda x: 1.0 / special.gamma(x),
    "concat": lambda *xs, axis: jnp.concatenate(xs, axis), "stack": lambda *xs, axis: jnp.stack(xs, axis),
    "einsum": lambda *xs, subscripts: jnp.einsum(subscripts, *xs),
}  # fmt: skip
"""A function of JAX for each row, called as the row is: inputs, then parameters by name."""
