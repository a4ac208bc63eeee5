"""Functions that make tensors. New values are constants; what is made of tracked tensors keeps their gradient.

A constant made beside a tensor (``zeros_like(x)``, ...) is of x's array library and on its device. What is made of numbers
alone is a NumPy array, or CuPy's if ``device`` says so; its dtype and device are those of the ``AutogradContext`` if one is set.
"""

from typing import Any

import numpy as np

from .. import backend, ops
from ..shapes import numpy_dtype
from ..tensor import DiffTensor
from ._arrays import beside, constant, default_float, dtype_of, number, tensor
from .dtypes import astype
from .manipulation import broadcast_arrays

__all__ = [
    "arange", "asarray", "empty", "empty_like", "eye", "from_dlpack", "full", "full_like", "linspace", "meshgrid", "ones", "ones_like",
    "tril", "triu", "zeros", "zeros_like",
]  # fmt: skip


def asarray(obj: Any, /, *, dtype: Any = None, device: str | None = None, copy: bool | None = None) -> DiffTensor:
    """A tensor of numbers, (nested) sequences of numbers and tensors, an array, or another tensor.

    Tensors keep their gradient, also inside sequences. A tensor comes back itself if it is of the dtype and on the device,
    unless ``copy`` is True. An array of another owner is copied unless ``copy`` is False: then do not write to it any more.

    Raises:
        ValueError: ``copy=False``, but only a copy can be of that dtype, or made of a sequence.
        TypeError: not numbers; or an array that has to come in by ``from_dlpack``.
    """
    dtype = dtype_of(dtype)
    if type(obj) is DiffTensor:
        return _as_tensor(obj, dtype, device, copy)
    if copy is False and not backend.is_array(obj):
        raise ValueError(
            f"asarray: a tensor made of {type(obj).__name__} needs memory of its own; leave copy=False out"
        )
    if isinstance(obj, list | tuple) and _holds(obj):
        return _as_tensor(_joined(obj), dtype, device, None)
    if not backend.is_array(obj):
        obj = _numbers(obj, dtype)
    elif copy is False and dtype is not None and numpy_dtype(obj.dtype) != dtype:
        raise ValueError(
            f"asarray: an array of {obj.dtype} becomes one of {dtype} only by a copy; leave copy=False out"
        )
    return DiffTensor(obj, dtype=dtype, device="cpu" if device == "symbolic" else device, copy=copy is not False)


def _as_tensor(x: DiffTensor, dtype: np.dtype | None, device: str | None, copy: bool | None) -> DiffTensor:
    other = (dtype is not None and numpy_dtype(x.dtype) != dtype) or (device is not None and device != x.device)
    if copy is False and other:
        raise ValueError(
            f"asarray: a tensor of {x.dtype} on {x.device} comes to {dtype or x.dtype} on {device or x.device} only by a copy"
        )
    return astype(x, dtype or x.dtype, copy=copy is True, device=device)


def _holds(obj: Any) -> bool:
    return type(obj) is DiffTensor or (isinstance(obj, list | tuple) and any(map(_holds, obj)))


def _joined(obj: Any) -> Any:
    """Nested sequences that hold tensors, as the tensor of them."""
    if isinstance(obj, list | tuple):
        return ops.stack([_joined(part) for part in obj], axis=0) if _holds(obj) else _numbers(obj, None)
    return obj if hasattr(obj, "shape") else _numbers(obj, None)


def _numbers(obj: Any, dtype: np.dtype | None) -> Any:
    """Numbers and sequences of them as a NumPy array; floats are of the default dtype."""
    array = backend.asarray(obj, dtype=dtype)
    return (
        array.astype(default_float())
        if dtype is None and array.dtype.kind == "f" and not hasattr(obj, "dtype")
        else array
    )


def from_dlpack(x: Any, /, *, device: str | None = None, copy: bool | None = None) -> DiffTensor:
    """The array of another library (NumPy, PyTorch, JAX, CuPy, ...) as a constant that shares its memory, unless ``copy`` is True.

    Hammer never writes to memory that it got so; do not write to it either as long as the tensor is used. A tensor is taken
    as ``asarray`` takes it.

    Args:
        x: anything with ``__dlpack__``, on the CPU or a CUDA device. One that is tracked by its library must be detached there.
        device: "cpu", "cuda" or "cuda:N"; where x is if None.
        copy: whether to copy; None if it must be.

    Raises:
        BufferError: x's library does not hand it out (tracked, or on a device of its own), or not without a copy.
        RuntimeError: a dtype that NumPy does not have: convert bfloat16 before, to float32.
    """
    if type(x) is DiffTensor:
        return asarray(x, device=device, copy=copy)
    return DiffTensor._wrap(backend.from_dlpack(x, device, copy), None)


# ---- by shape ----


def _shape(shape: Any) -> tuple[int, ...]:
    return tuple(int(n) for n in shape) if isinstance(shape, list | tuple) else (int(shape),)


def full(shape: Any, fill_value: Any, *, dtype: Any = None, device: str | None = None) -> DiffTensor:
    """A tensor of one value, which may be a tensor of no axes and then keeps its gradient."""
    shape, dtype = _shape(shape), dtype_of(dtype)
    if type(fill_value) is DiffTensor:
        return ops.broadcast_to(_as_tensor(fill_value, dtype, device, None), shape=shape)
    if dtype is None and isinstance(fill_value, float):
        dtype = default_float()
    return constant(np.full(shape, fill_value, dtype), device)


def zeros(shape: Any, *, dtype: Any = None, device: str | None = None) -> DiffTensor:
    return constant(np.zeros(_shape(shape), dtype_of(dtype) or default_float()), device)


def ones(shape: Any, *, dtype: Any = None, device: str | None = None) -> DiffTensor:
    return constant(np.ones(_shape(shape), dtype_of(dtype) or default_float()), device)


def empty(shape: Any, *, dtype: Any = None, device: str | None = None) -> DiffTensor:
    """``zeros``: what is not initialised could not be filled later."""
    return zeros(shape, dtype=dtype, device=device)


def full_like(x: Any, /, fill_value: Any, *, dtype: Any = None, device: str | None = None) -> DiffTensor:
    """A tensor of x's shape, dtype and device of one value, which may be a tensor of no axes and then keeps its gradient."""
    x = tensor(x)
    dtype = numpy_dtype(x.dtype) if dtype is None else numpy_dtype(dtype)
    if type(fill_value) is DiffTensor:
        return full(x.shape, fill_value, dtype=dtype, device=device)
    return beside(x, np.full(x.shape, fill_value, dtype), device)


def zeros_like(x: Any, /, *, dtype: Any = None, device: str | None = None) -> DiffTensor:
    return full_like(x, 0, dtype=dtype, device=device)


def ones_like(x: Any, /, *, dtype: Any = None, device: str | None = None) -> DiffTensor:
    return full_like(x, 1, dtype=dtype, device=device)


def empty_like(x: Any, /, *, dtype: Any = None, device: str | None = None) -> DiffTensor:
    """``zeros_like``: what is not initialised could not be filled later."""
    return full_like(x, 0, dtype=dtype, device=device)


def eye(
    n_rows: int, n_cols: int | None = None, /, *, k: int = 0, dtype: Any = None, device: str | None = None
) -> DiffTensor:
    return constant(np.eye(n_rows, n_cols, k, dtype_of(dtype) or default_float()), device)


# ---- by range ----


def arange(
    start: Any, /, stop: Any = None, step: Any = 1, *, dtype: Any = None, device: str | None = None
) -> DiffTensor:
    """Numbers from ``start`` (0 if there is one argument) in steps, up to but without ``stop``. Plain numbers only: how many
    there are has no gradient; of tracked ones write start + step * arange(n)."""
    start, stop, step = (number(v, name) for v, name in ((start, "start"), (stop, "stop"), (step, "step")))
    start, stop = (0, start) if stop is None else (start, stop)
    real = dtype is None and any(isinstance(v, float) for v in (start, stop, step))
    kind: Any = default_float() if real else dtype_of(dtype)
    return constant(np.arange(start, stop, step, kind), device)  # type: ignore[call-overload]


def linspace(
    start: Any, stop: Any, /, num: int, *, dtype: Any = None, device: str | None = None, endpoint: bool = True
) -> DiffTensor:
    """``num`` equally spaced numbers from ``start`` to ``stop`` (without it if not ``endpoint``), which may be tensors of no
    axes and then keep their gradients."""
    if DiffTensor not in (type(start), type(stop)):
        kind = complex if isinstance(start, complex) or isinstance(stop, complex) else default_float()
        return constant(np.linspace(start, stop, num, endpoint, dtype=dtype_of(dtype) or kind), device)
    first: Any
    last: Any
    first, last = (asarray(v, device=device) for v in (start, stop))
    kind = np.result_type(np.float32, numpy_dtype(first.dtype), numpy_dtype(last.dtype))
    t: Any = beside(first, np.arange(num, dtype=kind) / max(num - endpoint, 1))
    found = ops.add(first * (1.0 - t), last * t)  # both ends are exact
    return found if dtype is None else astype(found, dtype)


def meshgrid(*arrays: Any, indexing: str = "xy") -> list[DiffTensor]:
    """Coordinate matrices of coordinate vectors; "xy" has the first along the second axis, "ij" along the first."""
    if indexing not in ("xy", "ij"):
        raise ValueError(f'meshgrid: indexing must be "xy" or "ij", not {indexing!r}')
    n = len(arrays)
    order = [1, 0, *range(2, n)] if indexing == "xy" and n > 1 else list(range(n))
    xs = [
        ops.reshape(tensor(x), shape=tuple(-1 if a == order[i] else 1 for a in range(n))) for i, x in enumerate(arrays)
    ]
    return broadcast_arrays(*xs)


def tril(x: Any, /, *, k: int = 0) -> DiffTensor:
    """The lower triangle of the last two axes, up to diagonal k; 0 above."""
    return ops.tril(tensor(x), k=k)


def triu(x: Any, /, *, k: int = 0) -> DiffTensor:
    """The upper triangle of the last two axes, from diagonal k; 0 below."""
    return ops.triu(tensor(x), k=k)
