"""Array libraries: which one an array belongs to, and how arrays move between them.

Nothing here imports CuPy or any other array library: a library is found through the class of an array it made, so it
is already loaded when it is needed. NumPy is the exception, being the home of Python numbers. A library serves if it
follows the Python array API standard, as NumPy 2, CuPy 14 and array-api-strict do.
"""

import importlib
import sys
from types import ModuleType
from typing import Any

import numpy as np

HOST_SCALARS: set[type] = {bool, int, float, complex, *np.sctypeDict.values()}
"""Classes of numbers that any array library accepts beside its own arrays."""

_namespaces: dict[type, Any] = dict.fromkeys(HOST_SCALARS | {np.ndarray}, np)
_adopted: set[type] = set()


def adopt(cls: type, library: Any) -> None:
    """Make an array class known that belongs to no importable library; ``library`` has the functions it needs."""
    _namespaces[cls] = library
    _adopted.add(cls)


def namespace(cls: type) -> ModuleType:
    """The array library that an array class belongs to: its functions under the array API's names."""
    found = _namespaces.get(cls)
    if found is None and issubclass(cls, np.generic):  # a number of a dtype that came later, as bfloat16
        HOST_SCALARS.add(cls)
        found = _namespaces[cls] = np
    if found is None:
        home = sys.modules.get(cls.__module__.partition(".")[0])
        if home is None or not hasattr(home, "permute_dims"):
            raise TypeError(
                f"{cls.__module__}.{cls.__qualname__} is not an array of a library that follows the array API standard "
                "(NumPy 2 or CuPy 14, for example); convert it first, with autograd.array_api.from_dlpack(...) or numpy.asarray(...)"
            )
        found = _namespaces[cls] = home
    return found


def xp(array: Any) -> ModuleType:
    """The array library of one array (or number)."""
    cls = type(array)
    return _namespaces.get(cls) or namespace(cls)


def special(array: Any) -> ModuleType | None:
    """SciPy's special functions for the array's library, or None where it has none."""
    library = xp(array).__name__
    if library == "numpy":
        return importlib.import_module("scipy.special")
    if library == "cupy":
        return importlib.import_module("cupyx.scipy.special")
    return None


def is_array(value: Any) -> bool:
    """Whether ``value`` is an array of some library (a NumPy scalar counts: it is NumPy's array of no axes)."""
    if isinstance(value, (np.ndarray, np.generic)) or type(value) in _adopted:
        return True
    return (
        hasattr(value, "shape")
        and hasattr(value, "dtype")
        and hasattr(sys.modules.get(type(value).__module__.partition(".")[0]), "permute_dims")
    )


def asarray(value: Any, dtype: Any = None, copy: bool | None = None) -> Any:
    """``value`` as an array of the library it belongs to; Python numbers and sequences become NumPy arrays.

    NumPy arrays without axes come back as NumPy scalars: they cannot be changed in place and compute five times faster.
    Objects, strings and dates are refused with a TypeError.
    """
    if is_array(value) and not isinstance(value, (np.ndarray, np.generic)):
        return xp(value).asarray(value, dtype=dtype, copy=copy)
    if hasattr(value, "__dlpack__") and not isinstance(value, np.ndarray):
        raise TypeError(
            f"an array of {type(value).__module__.partition('.')[0]} ({type(value).__qualname__}) is not copied unasked: share its "
            "memory with autograd.array_api.from_dlpack(x), or copy it with numpy.asarray(x)"
        )
    try:
        array = np.array(value, dtype=dtype, copy=copy)
    except ValueError as error:
        raise ValueError(f"this {type(value).__name__} does not make an array: {error}") from None
    if array.dtype.kind not in "biufcV" or (array.dtype.kind == "V" and array.dtype.names is not None):
        raise TypeError(f"an array of numbers is needed, not one of dtype {array.dtype}")
    return array[()] if array.ndim == 0 else array


def freeze(array: Any) -> Any:
    """Make an array read-only where its library can (NumPy); returns it."""
    if type(array) is np.ndarray:
        array.flags.writeable = False
    return array


def device_of(array: Any) -> str:
    """Where an array lives: "cpu", "cuda:0", or what its library calls the place."""
    library = xp(array).__name__
    if library == "numpy":
        return "cpu"
    return f"cuda:{array.device.id}" if library == "cupy" else str(array.device)


def place_of(array: Any) -> Any:
    """What to give ``to_device`` to bring another array beside this one: its device's name, or, for libraries other than
    NumPy and CuPy, the library and the device."""
    library = xp(array)
    return device_of(array) if library.__name__ in ("numpy", "cupy") else (library, array.device)


def to_device(array: Any, device: Any) -> Any:
    """The array on ``device``: "cpu" (NumPy), "cuda" or "cuda:N" (CuPy), or a ``place_of``. Copies only if it has to move."""
    if isinstance(device, tuple):
        return device[0].asarray(array, device=device[1])
    kind, _, index = str(device).partition(":")
    if kind == "cpu":
        if xp(array) is np:
            return array
        return (
            array.get() if xp(array).__name__ == "cupy" else np.from_dlpack(xp(array).from_dlpack(array, device=None))
        )
    if kind == "cuda":
        cupy = _cupy()
        with cupy.cuda.Device(int(index or 0)):
            return cupy.asarray(array)
    raise ValueError(f'device {device!r} is not known; write "cpu", "cuda" or "cuda:N"')


def to_dlpack(
    array: Any, stream: Any, max_version: tuple[int, int] | None, dl_device: tuple[int, int] | None, copy: bool | None
) -> Any:
    """An array as a DLPack capsule: its memory is shared, and marked read-only where the protocol can say so (from 1.0 on).

    A consumer of the older protocol gets a read-only array as a copy. NumPy scalars are copied: they have no memory to share.
    """
    if xp(array) is not np:
        return array.__dlpack__(stream=stream, max_version=max_version, dl_device=dl_device, copy=copy)
    if not isinstance(array, np.ndarray):
        if copy is False:
            raise BufferError("a tensor without axes holds a number, not memory that could be shared; leave copy out")
        array = np.asarray(array)
    elif max_version is not None and max_version[0] >= 1:
        array = freeze(array.view())
    elif not array.flags.writeable and copy is None:
        copy = True
    return array.__dlpack__(stream=stream, max_version=max_version, dl_device=dl_device, copy=copy)


def from_dlpack(value: Any, device: str | None = None, copy: bool | None = None) -> Any:
    """The array of another library (PyTorch, JAX, ...) as NumPy's, or CuPy's if it is on a GPU; its memory is shared if ``copy``
    is not True. NumPy's is read-only, so nothing here can change what belongs to another."""
    if not hasattr(value, "__dlpack__"):
        raise TypeError(
            f"from_dlpack needs an array with a method __dlpack__, not {type(value).__name__}; use asarray()"
        )
    here = value.__dlpack_device__()[0] in _HOST
    if here if device is None else device == "cpu":
        array = np.from_dlpack(value, device=None if here else "cpu", copy=copy)
        if array.ndim == 0 and copy is False:
            raise BufferError(
                "an array without axes is kept as a number, so its memory cannot be shared; leave copy out"
            )
        return scalar(freeze(array))
    return to_device(_cupy().from_dlpack(value, copy=copy), device or "cuda")


_HOST = (1, 3)  # DLPack's numbers of the CPU, and of memory that CUDA has pinned for it


def _cupy() -> Any:
    try:
        import cupy
    except ImportError:
        raise ImportError('device "cuda" needs CuPy; install it with: pip install "hammer-grad[cuda]"') from None
    if not cupy.cuda.is_available():
        raise RuntimeError(
            'device "cuda": CuPy is installed but finds no usable GPU; check the driver, or use device "cpu"'
        )
    return cupy


def is_complex(dtype: Any) -> bool:
    """Whether a dtype, of any library, is complex."""
    if isinstance(dtype, np.dtype) and dtype.kind in "biufc":
        return dtype.kind == "c"
    return "complex" in str(dtype)


def is_inexact(dtype: Any) -> bool:
    """Whether a dtype, of any library, is a floating-point or complex one: only such values have gradients."""
    if isinstance(dtype, np.dtype) and dtype.kind in "biufc":
        return dtype.kind in "fc"
    name = str(dtype)
    return "float" in name or "complex" in name


def inexact(value: Any) -> Any:
    """An array or a number as a floating-point or complex array: integers and booleans become float64."""
    if not hasattr(value, "dtype"):
        value = asarray(value)
    if is_inexact(value.dtype):
        return value
    library = xp(value)
    return library.astype(value, library.float64)


def scalar(array: Any) -> Any:
    """NumPy arrays without axes as NumPy scalars; anything else as it is."""
    return array[()] if type(array) is np.ndarray and array.ndim == 0 else array
