"""What a function does beside computing its result, while it is traced: it draws random numbers, and gives buffers new values.

Dropout and batch normalisation call ``recorded()``: inside of a trace that keeps such effects it gives an ``Effects``, on which
they leave what is to be done at every run of the graph; elsewhere None.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from .tensor import DiffTensor


class Effects:
    """The effects of one traced function, in their order.

    Attributes:
        draws: of each random array the function that draws it anew, and the symbolic tensor that stands for it.
        updates: of each buffer that gets a new value: the buffer, and that symbolic value.
    """

    def __init__(self) -> None:
        self.draws: list[tuple[Callable[[], Any], DiffTensor]] = []
        self._buffers: dict[tuple[int, str], tuple[Any, str, DiffTensor]] = {}

    def draw(self, make: Callable[[], Any], shape: tuple[int, ...], dtype: Any) -> DiffTensor:
        """A random array, symbolic; ``make()`` draws it, on the host."""
        symbol = DiffTensor.symbol(shape, np.dtype(dtype))
        self.draws.append((make, symbol))
        return symbol

    def update(self, module: Any, name: str, value: DiffTensor) -> None:
        """Give a module's buffer its next value, for the rest of the trace; ``restored`` takes it back."""
        key = id(module), name
        first = self._buffers[key][2] if key in self._buffers else getattr(module, name)
        self._buffers[key] = module, name, first
        module.__dict__[name] = value

    def restored(self) -> list[tuple[DiffTensor, DiffTensor]]:
        """The buffers that got new values, put back, and those values."""
        found = []
        for module, name, buffer in self._buffers.values():
            found.append((buffer, module.__dict__[name]))
            module.__dict__[name] = buffer
        self._buffers.clear()
        return found


_recorded: ContextVar[Effects | None] = ContextVar("effects", default=None)
recorded = _recorded.get


@contextmanager
def recording(effects: Effects | None) -> Iterator[None]:
    """A block whose effects are kept."""
    token = _recorded.set(effects)
    try:
        yield
    finally:
        _recorded.reset(token)
