"""AutogradContext: how operations behave inside a ``with`` block.

Outside any block there is no context at all and an operation pays one look-up for that (about 35 ns). Contexts live
in a ``contextvars.ContextVar``, so threads and asyncio tasks do not see each other's.
"""

import contextlib
import copy
import os
import sys
import weakref
from collections import Counter
from collections.abc import Callable
from contextvars import ContextVar, Token
from typing import Any, Self

import numpy as np

from .backend import is_inexact, xp
from .halves import half_dtype

_current: ContextVar["AutogradContext | None"] = ContextVar("autograd_context", default=None)
current = _current.get
PRECISIONS = ("fp32", "fp16", "bf16")
_OURS = [os.path.dirname(os.path.abspath(__file__)) + os.sep]


class AnomalyError(FloatingPointError):
    """An operation made the first NaN or infinity of a block; the message names it and the source line."""


class AutogradContext(contextlib.ContextDecorator):
    """Settings for the operations of a block; what is left None is taken from the enclosing block.

    Args:
        recording: whether operations on tracked tensors are recorded for backward.
        anomaly: whether to stop, with ``AnomalyError``, at the operation that first makes a NaN or an infinity out
            of finite inputs, forward or backward, naming the operation and the line of the caller's source.
        dtype: the dtype of tensors made from Python numbers and sequences of floats (NumPy's float64 otherwise).
        device: where new tensors are put: "cpu", "cuda" or "cuda:N".
        precision: "bf16" or "fp16": operations run with mixed precision (see ``autograd.precision``); "fp32": without.
        track: whether to list the block's nodes and tensors (``nodes``, ``tensors``, ``summary()``), by weak
            references: tracking keeps nothing alive.
        observer: called as ``observer(row, inputs, params, outputs)`` after each operation, with raw arrays.

    One object may be entered many times, but not again before it was left: make another one for that. As a decorator
    (``@no_grad()``) each call enters a copy.
    """

    def __init__(
        self,
        *,
        recording: bool | None = None,
        anomaly: bool | None = None,
        dtype: Any = None,
        device: str | None = None,
        precision: str | None = None,
        track: bool = False,
        observer: Callable[[Any, tuple, dict, tuple], None] | None = None,
    ):
        if precision not in (None, *PRECISIONS):
            raise ValueError(f"precision must be one of {', '.join(map(repr, PRECISIONS))}, not {precision!r}")
        if precision == "bf16":
            half_dtype(precision)  # where ml_dtypes is missing, say so here
        self._asked = (recording, anomaly, None if dtype is None else np.dtype(dtype), device, precision)
        self.recording: Any = True
        self.anomaly: Any = False
        self.dtype: Any = None
        self.device: Any = None
        self.precision: Any = "fp32"
        self.low: np.dtype | None = None  # the half precision of products; None: no mixed precision
        self.track, self.observer = track, observer
        self.ops: Counter[str] = Counter()
        self._nodes: list[weakref.ref] = []
        self._tensors: list[weakref.ref] = []
        self.keeper: Any = None  # decides what nodes keep (autograd.checkpointing); None: all that is read
        self.levels: tuple = ()  # of the calls of vmap that this block is inside of, outermost first
        self._outsides: dict[Any, AutogradContext | None] = {}
        self._outer: AutogradContext | None = None
        self._token: Token | None = None

    def _recreate_cm(self) -> Self:  # contextlib calls this for each call of a decorated function
        recording, anomaly, dtype, device, precision = self._asked
        return type(self)(
            recording=recording,
            anomaly=anomaly,
            dtype=dtype,
            device=device,
            precision=precision,
            track=self.track,
            observer=self.observer,
        )

    def __enter__(self) -> Self:
        if self._token is not None:
            raise RuntimeError("this context is active already; make another one to enter it again")
        self._outer = outer = current()
        self._token = _current.set(self)
        self.levels, self.keeper, self._outsides = ((), None, {}) if outer is None else (outer.levels, outer.keeper, {})
        base = (
            (True, False, None, None, "fp32")
            if outer is None
            else (outer.recording, outer.anomaly, outer.dtype, outer.device, outer.precision)
        )
        self.recording, self.anomaly, self.dtype, self.device, self.precision = (
            inherited if asked is None else asked for asked, inherited in zip(self._asked, base, strict=True)
        )
        self.low = None if self.precision == "fp32" else half_dtype(self.precision)
        return self

    def __exit__(self, *_exc: object) -> None:
        token, self._token, self._outer = self._token, None, None
        if token is not None:
            _current.reset(token)

    def outside(self, level: Any) -> "AutogradContext | None":
        """This context as it is for what lies outside of a call of vmap: without that level and those inside of it."""
        if level not in self._outsides:
            found = copy.copy(self)
            found.levels, found._outsides = self.levels[: self.levels.index(level)], {}
            self._outsides[level] = found
        return self._outsides[level]

    @property
    def nodes(self) -> list[Any]:
        """The recorded nodes of the block that are still alive, oldest first (needs ``track=True``)."""
        return [node for node in (ref() for ref in self._nodes) if node is not None]

    @property
    def tensors(self) -> list[Any]:
        """The tensors made by operations in the block that are still alive, oldest first (needs ``track=True``)."""
        return [tensor for tensor in (ref() for ref in self._tensors) if tensor is not None]

    def summary(self) -> str:
        """How often each operation ran in the block, and what is still alive (needs ``track=True``)."""
        rows = "\n".join(f"  {name:<24}{count:>8}" for name, count in self.ops.most_common())
        return f"{self.ops.total()} operations; alive: {len(self.nodes)} nodes, {len(self.tensors)} tensors\n{rows}"

    # ---- called by operations (autograd.table) and by the backward pass (autograd.tape) ----

    def saw(self, row: Any, inputs: tuple, params: dict, outputs: tuple, tensors: tuple) -> None:
        """One operation has run; ``inputs`` and ``outputs`` are raw, ``tensors`` the handles about to be returned."""
        context: AutogradContext | None = self
        while context is not None:
            if context.observer is not None:
                context.observer(row, inputs, params, outputs)
            if context.track:
                context.ops[row.name] += 1
                context._tensors.extend(map(weakref.ref, tensors))
                context._nodes.extend(weakref.ref(t.node) for t in tensors if t.node is not None)
            context = context._outer
        if self.anomaly:
            line = caller()
            for tensor in tensors:
                if tensor.node is not None:
                    tensor.node.source = line
            if not all(map(finite, outputs)) and all(map(finite, inputs)):
                raise AnomalyError(f"{row.name} made the first NaN or infinity at {line}; inputs: {_ranges(inputs)}")

    def differentiated(self, node: Any, parent: Any, g: Any, d: Any) -> None:
        """A derivative rule of ``node`` has turned the gradient ``g`` into ``d``, for its input ``parent``."""
        raw = getattr(d, "raw", d)
        context: AutogradContext | None = self
        while context is not None:
            if context.observer is not None:
                context.observer(node.row, (getattr(g, "raw", g),), {**node.params, "backward": True}, (raw,))
            context = context._outer
        if self.anomaly and not finite(raw) and finite(getattr(g, "raw", g)):
            source = getattr(node, "source", "a line that ran outside anomaly mode")
            raise AnomalyError(
                f"the derivative of {node.name} for its input of shape {tuple(parent.shape)} made the first NaN or "
                f"infinity; the operation is at {source}"
            )


def finite(value: Any) -> bool:
    """Whether a value holds no NaN and no infinity; what is not an inexact array holds none."""
    if value is None or isinstance(value, (bool, int, str)):
        return True
    if isinstance(value, (tuple, list)):
        return all(finite(getattr(v, "raw", v)) for v in value)
    if isinstance(value, (float, complex)):
        return bool(np.isfinite(value))
    library = xp(value)
    return not is_inexact(value.dtype) or bool(library.all(library.isfinite(value)))


def not_the_callers(file: str) -> None:
    """Have ``caller`` pass over the folder of a file, as it does over this package."""
    _OURS.append(os.path.dirname(os.path.abspath(file)) + os.sep)


def caller() -> str:
    """``file:line in function`` of the innermost frame outside this package."""
    frame, ours = sys._getframe(1), tuple(_OURS)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(ours):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"


def _ranges(values: tuple) -> str:
    def one(value: Any) -> str:
        if not hasattr(value, "shape") or value.size == 0:
            return repr(value)
        low, high = (float(f(abs(value))) for f in (xp(value).min, xp(value).max))
        return f"{value.dtype}{tuple(value.shape)} with magnitudes from {low:.3g} to {high:.3g}"

    return ", ".join(map(one, values))


def no_grad() -> AutogradContext:
    """A block (or a decorated function) in which nothing is recorded."""
    return AutogradContext(recording=False)


def enable_grad() -> AutogradContext:
    """A block in which operations are recorded again, inside a ``no_grad`` block."""
    return AutogradContext(recording=True)
