"""Elementwise terms as expressions of CUDA C.

The functions are CUDA's own, which keep to a few units in the last place (CUDA C++ Programming Guide, "Mathematical functions");
nothing is compiled with fast-math. Maximum and minimum pass on NaN, as NumPy's do, and integers wrap around.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

TYPES = {
    "float32": "float", "float64": "double", "bool": "bool", "uint8": "unsigned char", "int32": "int", "int64": "long long",
}  # fmt: skip
COMPARE = {"less": "<", "less_equal": "<=", "greater": ">", "greater_equal": ">=", "equal": "==", "not_equal": "!="}
ARITHMETIC = {"add": "+", "subtract": "-", "multiply": "*"}
UNSIGNED = {"int": "unsigned int", "long long": "unsigned long long"}
LOGICAL = {"and": "&&", "or": "||", "xor": "!="}
FUNCTIONS = {
    "exp": "exp", "log": "log", "log1p": "log1p", "expm1": "expm1", "tanh": "tanh", "erf": "erf", "erfc": "erfc", "sqrt": "sqrt",
    "sin": "sin", "cos": "cos", "floor": "floor", "ceil": "ceil", "trunc": "trunc", "abs": "fabs",
}  # fmt: skip
"""By the name in CUDA, which has an f behind it for float32."""
OPERATORS = {"add": "Add", "multiply": "Multiply", "maximum": "Maximum", "minimum": "Minimum"}
"""What reductions are made with: structures of the prelude."""

PRELUDE = """\
struct Add { template <class T> __device__ static T of(T x, T y) { return x + y; } };
struct Multiply { template <class T> __device__ static T of(T x, T y) { return x * y; } };
struct Maximum { template <class T> __device__ static T of(T x, T y) { return x > y || x != x ? x : y; } };
struct Minimum { template <class T> __device__ static T of(T x, T y) { return x < y || x != x ? x : y; } };

// the logistic function, without overflow
__device__ inline float sigmoidf(float x) { const float e = expf(-fabsf(x)); return (x < 0.0f ? e : 1.0f) / (1.0f + e); }
__device__ inline double sigmoid(double x) { const double e = exp(-fabs(x)); return (x < 0.0 ? e : 1.0) / (1.0 + e); }

// an index within n elements, whatever the array holds
__device__ inline long long within(long long i, long long n) {
    i = i < 0 ? i + n : i;
    return i < 0 ? 0 : i >= n ? n - 1 : i;
}

// what the 32 threads of a warp hold, put together in a fixed order; each of them gets it
template <class F, class T> __device__ T warp_joined(T x) {
    for (int d = 16; d > 0; d >>= 1) x = F::of(x, __shfl_xor_sync(0xffffffffu, x, d));
    return __shfl_sync(0xffffffffu, x, 0);
}

// the same of the THREADS of a block
template <class F, int THREADS, class T> __device__ T block_joined(T x) {
    __shared__ T parts[THREADS / 32];
    x = warp_joined<F>(x);
    __syncthreads();
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = x;
    __syncthreads();
    x = parts[0];
    for (int i = 1; i < THREADS / 32; ++i) x = F::of(x, parts[i]);
    return x;
}

// the same of the threads of a block that work on one column: those with the same index modulo WIDE. The first WIDE get it
template <class F, int THREADS, int WIDE, class T> __device__ T column_joined(T x) {
    if (THREADS == WIDE) return x;
    __shared__ T parts[THREADS];
    __syncthreads();
    parts[threadIdx.x] = x;
    __syncthreads();
    if (threadIdx.x < WIDE)
        for (int i = threadIdx.x + WIDE; i < THREADS; i += WIDE) x = F::of(x, parts[i]);
    return x;
}
"""


def literal(value: Any, dtype: Any) -> str:
    """A number in C."""
    if dtype.kind == "b":
        return "true" if value else "false"
    if dtype.kind in "iu":
        low = int(value) == np.iinfo(np.int64).min  # C has no literal of it
        return f"({TYPES[dtype.name]})({int(value) + low}ll{' - 1' * low})"
    value = float(dtype.type(value))
    if math.isfinite(value):
        return f"({value.hex()}{'f' if dtype.itemsize == 4 else ''})"
    bits = np.asarray(value, np.float64).view(np.int64).item()
    return f"({TYPES[dtype.name]})__longlong_as_double({bits + 1}ll - 1)"


def identity(kind: str, dtype: Any) -> str:
    """The number that a reduction begins with."""
    value: float = {"add": 0, "multiply": 1, "maximum": -math.inf, "minimum": math.inf}[kind]
    if dtype.kind in "iu" and math.isinf(value):
        value = np.iinfo(dtype).min if value < 0 else np.iinfo(dtype).max
    return literal(value, dtype)


def apply(op: str, dtype: Any, given: Any, args: Sequence[str]) -> str:
    """A function of arguments of dtype ``given`` (of several, the last one's), with a result of ``dtype``."""
    kind, single = TYPES[dtype.name], "f" if dtype.itemsize == 4 else ""
    x = args[0]
    if op == "copy":
        return x
    if op == "cast":
        return f"{x} != 0" if dtype.kind == "b" else f"({kind}){x}"
    if op == "where":
        return f"{x} ? {args[1]} : {args[2]}"
    if op in COMPARE:
        return f"{x} {COMPARE[op]} {args[1]}"
    if op in LOGICAL:
        return f"{x} {LOGICAL[op]} {args[1]}"
    if op in ("maximum", "minimum"):
        return f"{OPERATORS[op]}::of({x}, {args[1]})"
    if dtype.kind == "f":
        if op in ARITHMETIC or op == "divide":
            return f"{x} {ARITHMETIC.get(op, '/')} {args[1]}"
        if op == "negative":
            return f"-{x}"
        return f"{FUNCTIONS.get(op, op)}{single}({x})"
    wide = UNSIGNED.get(kind, "int")  # unsigned numbers wrap around
    if op in ARITHMETIC:
        return f"({kind})(({wide}){x} {ARITHMETIC[op]} ({wide}){args[1]})"
    if op == "negative":
        return f"({kind})(({wide})0 - ({wide}){x})"
    assert op == "abs", op
    return x if kind == "unsigned char" else f"{x} < 0 ? ({kind})(({wide})0 - ({wide}){x}) : {x}"
