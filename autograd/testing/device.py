"""A pretend device: array-api-strict's second device stands in for a GPU that nobody may copy from by accident.

Its arrays refuse ``np.asarray`` and NumPy's functions by themselves. ``guarded`` closes the other doors to the host:
float(), int(), bool(), complex(), DLPack and the buffer protocol.
"""

import contextlib
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

try:
    import array_api_strict as strict
except ImportError:
    raise ImportError(
        'the pretend device needs array-api-strict; install it with: pip install "hammer-grad[test]"'
    ) from None

DEVICE = strict.Device("device1")
Array = type(strict.asarray(0.0))
DOORS = (
    "__array__",
    "__array_interface__",
    "__buffer__",
    "__bool__",
    "__complex__",
    "__dlpack__",
    "__float__",
    "__index__",
    "__int__",
    "tolist",
)
_HOME = strict.__name__


class HiddenCopy(AssertionError):
    """An array of the pretend device was copied to the host without being asked to."""


def _closed(door: str, original: Any) -> Any:
    def refuse(self: Any, *args: Any, **kwargs: Any) -> Any:
        caller = sys._getframe(1).f_globals.get("__name__", "")
        if self.device != DEVICE or caller.partition(".")[0] == _HOME:  # the library's own use is not ours
            return original(self, *args, **kwargs)
        raise HiddenCopy(
            f"a {self.dtype} array of shape {self.shape} on the pretend device was read by the host, through {door}"
        )

    return refuse


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """A block in which an array of the pretend device cannot reach the host; the newest array API is in force."""
    kept = {door: Array.__dict__[door] for door in DOORS if callable(Array.__dict__.get(door))}
    newest = max(strict._flags.supported_versions)
    try:
        for door, original in kept.items():
            setattr(Array, door, _closed(door, original))
        with strict.ArrayAPIStrictFlags(
            api_version=newest, boolean_indexing=True, data_dependent_shapes=True, enabled_extensions=("linalg", "fft")
        ):
            yield
    finally:
        for door, original in kept.items():
            setattr(Array, door, original)


@contextlib.contextmanager
def lent(rows: Iterable[Any]) -> Iterator[None]:
    """A block in which rows whose kernels the array API lacks run NumPy's, by an open copy to the host and back.

    So the rules of such a row can be run on the pretend device, which are to work wherever somebody adds a kernel.
    """
    rows = list(rows)

    def through_host(kernel: Any) -> Any:
        return lambda *xs, **params: put(kernel(*(get(x) if isinstance(x, Array) else x for x in xs), **params))

    for row in rows:
        row.kernels[Array] = through_host(row.kernels[np.ndarray])
    try:
        yield
    finally:
        for row in rows:
            del row.kernels[Array]


def put(value: Any) -> Any:
    """NumPy arrays, and those inside tuples, on the pretend device; anything else as it is."""
    if isinstance(value, tuple):
        return tuple(map(put, value))
    return strict.asarray(np.asarray(value), device=DEVICE) if isinstance(value, (np.ndarray, np.generic)) else value


def get(value: Any) -> np.ndarray:
    """An array of the pretend device as a NumPy array (this is the asked-for copy: call it outside ``guarded``)."""
    if not isinstance(value, Array):
        raise AssertionError(f"expected an array on the pretend device, not {type(value).__name__}")
    if value.device != DEVICE:
        raise AssertionError(f"expected an array on the pretend device, not on {value.device}")
    return np.asarray(value.to_device(strict.Device("CPU_DEVICE")))
