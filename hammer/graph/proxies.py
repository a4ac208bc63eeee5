"""Stand-ins for arrays with which the code of a gradient transform is traced, and run again without arrays.

A link of a chain is Python on raw arrays: ``m *= beta``, ``backend.xp(p).sqrt(v)``, numbers computed from the state.
A ``Tape`` runs it on ``Proxy`` objects in two ways. *Tracing*, each operation is done on the symbolic tensor that a proxy
stands for (in-place ones give it another), and is noted. A Python number that meets a floating-point array becomes a *slot*:
an input without axes, of that array's dtype, as which NumPy takes the number too. *Replaying*, the code runs again on the same
proxies: each operation is only compared with the one noted, and the numbers that come are the slots' new values. So whatever the
code does with numbers is done by the code itself, at every step, and code that goes another way is noticed: ``Mismatch``.

A proxy has no value: code that asks for one (``float(x)``, ``if x > 0``) cannot be traced, and gets a ``NoValueError``.
"""

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy as np

from autograd import array_api, backend, ops
from autograd.errors import NoValueError
from autograd.shapes import numpy_dtype
from autograd.tensor import DiffTensor

from .ir import GraphError
from .proxy_ops import BINARY, CLIPS, FIXED, UFUNC_NAMES, UNARY, VIEWS, norm_row


class Mismatch(Exception):
    """Code that was replayed did something else than when it was traced."""


SLOT = object()
"""Stands for a number in the note of an operation."""


class _Fixed:
    """A number in the note of an operation that must come again."""

    __slots__ = ("value",)

    def __init__(self, value: Any):
        self.value = value

    def is_same(self, other: Any) -> bool:
        return type(other) is type(self.value) and bool(other == self.value)


class Tape:
    """One run of a piece of code, noted.

    Attributes:
        symbols: the slots' symbolic tensors, in the order in which the numbers come.
        numbers: their values in the latest run.
        shaped: whether the code has looked at a shape, so that it may do something else for other shapes.
        result: what the code returned.
    """

    def __init__(self) -> None:
        self.symbols: list[DiffTensor] = []
        self.numbers: list[Any] = []
        self.shaped = False
        self.result: Any = None
        self.tracing = True
        self._notes: list[tuple] = []
        self._at = 0
        self._serial = 0
        self._reused: Sequence[DiffTensor] | None = None

    def trace(self, code: Callable[[], Any], symbols: Sequence[DiffTensor] | None = None) -> Any:
        """Run code on proxies of this tape and note it. ``symbols``: of another tape of the same code, to be used again."""
        self._reused = symbols
        self.result = code()
        self.tracing = False
        self._notes.append((None, None, None, None))  # so that one operation more is seen
        return self.result

    def replay(self, code: Callable[[], Any]) -> Any:
        """Run the code again, for its numbers.

        Raises:
            Mismatch: it does something else.
        """
        self._at = 0
        self.numbers.clear()
        found = code()
        if self._at != len(self._notes) - 1:
            raise Mismatch
        return found

    @property
    def signature(self) -> tuple:
        """What was done, as a value: equal for runs that differ in slots' numbers only."""
        return tuple(tuple(map(_told, note)) for note in self._notes)

    def proxy(self, tensor: DiffTensor | None, weak: bool = False) -> "Proxy":
        self._serial += 1
        return Proxy(self, tensor, self._serial, weak)

    # ---- tracing ----

    def operation(self, name: str, function: Callable, args: tuple, into: "Proxy | None" = None) -> Any:
        """An operation whose numbers may be slots; ``into``: the proxy that is changed in place."""
        if not self.tracing:
            return self._again(name, args)
        like = _partner(args)
        slots = name not in FIXED and like is not None
        notes, given = zip(*[self._operand(a, like, slots) for a in args], strict=True)
        out = function(*given)
        weak = all(type(a) is not Proxy or a.weak for a in args)
        if into is None:
            result = self.proxy(out, weak)
        else:
            result = into.put(out)
        self._notes.append((name, *notes, result))
        return result

    def _operand(self, a: Any, like: "Proxy | None", slots: bool) -> tuple[Any, Any]:
        """The note of an operand, and what the operation on tensors is given for it."""
        kind = type(a)
        if kind is Proxy:
            tensor = a.read()
            if a.weak and like is not None and not like.weak and backend.is_inexact(tensor.dtype):
                tensor = ops.astype(tensor, dtype=like.tensor.dtype)
            return a, tensor
        if kind in (float, int):
            if slots and like is not None:
                return SLOT, self._slot(a, numpy_dtype(like.tensor.dtype))
            return _Fixed(a), a
        if kind is bool or a is None:
            return _Fixed(a), a
        if isinstance(a, np.floating):
            return kind, self._slot(a, a.dtype)
        raise GraphError(
            f"it uses a {kind.__name__} that is neither a gradient, a parameter, nor in its state; keep arrays in the state"
        )

    def _slot(self, value: Any, dtype: np.dtype) -> DiffTensor:
        symbol = DiffTensor.symbol((), dtype) if self._reused is None else self._reused[len(self.symbols)]
        self.symbols.append(symbol)
        self.numbers.append(value)
        return symbol

    def call(self, name: str, function: Callable, args: tuple, kwargs: dict) -> Any:
        """A function of arrays whose other arguments are part of the graph."""
        key = (_key(args), _key(tuple(sorted(kwargs.items()))))
        if not self.tracing:
            note = self._notes[self._at]
            if note[0] != name or note[1] != key:
                raise Mismatch
            self._at += 1
            return note[3]
        found = function(*_tensors(args), **{k: _tensors(v) for k, v in kwargs.items()})
        base = next((a for a in args if type(a) is Proxy), None) if name in VIEWS else None
        result = tuple(self._made(f, base) for f in found) if isinstance(found, tuple) else self._made(found, base)
        self._notes.append((name, key, None, result))
        return result

    def _made(self, value: Any, base: "Proxy | None") -> Any:
        if not isinstance(value, DiffTensor):
            return value
        result = self.proxy(value)
        if base is not None:
            result.base, result.seen = base, base.version
        return result

    # ---- replaying ----

    def _again(self, name: str, args: tuple) -> Any:
        note = self._notes[self._at]
        if note[0] != name or len(note) != len(args) + 2:
            raise Mismatch
        numbers = self.numbers
        for i, a in enumerate(args, 1):
            told = note[i]
            if told is a:
                continue
            kind = type(a)
            if told is SLOT:
                if kind is not float and kind is not int:
                    raise Mismatch
                numbers.append(a)
            elif told is kind and kind is not Proxy:
                numbers.append(a)
            elif type(told) is not _Fixed or not told.is_same(a):
                raise Mismatch
        self._at += 1
        return note[-1]


def _partner(args: tuple) -> "Proxy | None":
    """The floating-point array that gives numbers beside it their dtype."""
    found = None
    for a in args:
        if type(a) is Proxy and getattr(a.tensor.dtype, "kind", "") == "f":
            if not a.weak:
                return a
            found = a
    return found


def _told(note: Any) -> Any:
    if isinstance(note, tuple):
        return tuple(map(_told, note))
    if type(note) is Proxy:
        return ("proxy", note.serial)
    return ("fixed", type(note.value), note.value) if type(note) is _Fixed else note


def _key(value: Any) -> Any:
    """An argument as a value that can be compared."""
    if type(value) is Proxy:
        return ("proxy", value.serial)
    if isinstance(value, (tuple, list)):
        return (type(value), *map(_key, value))
    if isinstance(value, slice):
        return ("slice", value.start, value.stop, value.step)
    if isinstance(value, np.ndarray):
        raise GraphError("it uses an array that is neither a gradient, a parameter, nor in its state")
    return (type(value), value)


def _tensors(value: Any) -> Any:
    if type(value) is Proxy:
        return value.read()
    return type(value)(map(_tensors, value)) if isinstance(value, (tuple, list)) else value


def _operator(name: str, function: Callable, swapped: bool = False, in_place: bool = False) -> Callable:
    label = f"i{name}" if in_place else name

    def method(self: "Proxy", other: Any) -> Any:
        tape = self.tape
        if not tape.tracing:  # as _again, for the case that is met at every step
            note = tape._notes[tape._at]
            if note[0] is label and note[1 + swapped] is self:
                told = note[2 - swapped]
                if told is SLOT:
                    if type(other) is float:
                        tape.numbers.append(other)
                        tape._at += 1
                        return note[3]
                elif told is other:
                    tape._at += 1
                    return note[3]
        return tape.operation(label, function, (other, self) if swapped else (self, other), self if in_place else None)

    return method


def _of_one(name: str, function: Callable) -> Callable:
    return lambda self: self.tape.operation(name, function, (self,))


class Proxy:
    """Stands for an array (see the module). ``weak``: for a number that is known when the graph runs, which takes the dtype of
    the array it meets, as Python's numbers do."""

    __slots__ = ("base", "seen", "serial", "tape", "tensor", "version", "weak")

    def __init__(self, tape: Tape, tensor: Any, serial: int, weak: bool):
        self.tape, self.tensor, self.serial, self.weak = tape, tensor, serial, weak
        self.version = 0  # how often it was changed in place
        self.base: Proxy | None = None  # what it may be a view of, and the version of that which it saw
        self.seen = 0

    def read(self) -> DiffTensor:
        """The tensor as it is now."""
        if self.base is not None and self.base.version != self.seen:
            raise GraphError("it changes an array in place and then reads a view of it; read it before, or copy it")
        return self.tensor  # type: ignore[no-any-return]

    def put(self, tensor: DiffTensor) -> "Proxy":
        """Take another tensor, because of what was done in place."""
        own = self.tensor
        if self.base is not None:
            raise GraphError("it changes a view of an array in place; change the array itself")
        if tensor.shape != own.shape:
            tensor = ops.broadcast_to(tensor, shape=own.shape)
        self.tensor = tensor if tensor.dtype == own.dtype else ops.astype(tensor, dtype=own.dtype)
        self.version += 1
        return self

    # ---- what it is ----

    @property
    def shape(self) -> tuple[int, ...]:
        self.tape.shaped = True
        return self.tensor.shape  # type: ignore[no-any-return]

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        self.tape.shaped = True
        return self.tensor.size  # type: ignore[no-any-return]

    @property
    def dtype(self) -> Any:
        return self.tensor.dtype

    @property
    def T(self) -> "Proxy":
        return library.permute_dims(self, tuple(range(self.ndim))[::-1])  # type: ignore[no-any-return]

    def __len__(self) -> int:
        return self.shape[0]

    def _no_value(self, *_: Any) -> NoReturn:
        raise NoValueError("it looks at a value of an array (float(x), if x > 0), which a graph has only when it runs")

    __bool__ = __float__ = __int__ = __index__ = __complex__ = __iter__ = __array__ = item = tolist = _no_value

    def __getitem__(self, index: Any) -> "Proxy":
        return self.tape.call("getitem", lambda x, i: x[i], (self, index), {})  # type: ignore[no-any-return]

    def __setitem__(self, index: Any, value: Any) -> None:
        if index is not Ellipsis and index != slice(None):
            raise GraphError(
                f"it assigns to a part of an array, x[{index!r}] = ...; a graph's arrays are assigned whole"
            )
        self.tape.operation(
            "set", lambda _own, x: x if isinstance(x, DiffTensor) else np.asarray(x), (self, value), self
        )

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        """NumPy's functions, also of numbers of NumPy's and a proxy."""
        name = UFUNC_NAMES.get(ufunc.__name__, ufunc.__name__)
        function = (BINARY if len(inputs) == 2 else UNARY).get(name)
        out = kwargs.pop("out", (None,))[0]
        kwargs.pop("casting", None)
        if function is None or method != "__call__" or kwargs or not (out is None or type(out) is Proxy):
            raise GraphError(f"it calls numpy.{ufunc.__name__} in a way that is not traced")
        return self.tape.operation(name if out is None else f"i{name}", function, inputs, out)

    __hash__ = object.__hash__


for _name in ("add", "sub", "mul", "truediv", "pow", "floordiv", "mod", "matmul", "and", "or", "xor"):
    setattr(Proxy, f"__{_name}__", _operator(_name, BINARY[_name]))
    setattr(Proxy, f"__r{_name}__", _operator(_name, BINARY[_name], swapped=True))
    setattr(Proxy, f"__i{_name}__", _operator(_name, BINARY[_name], in_place=True))
for _name in ("lt", "le", "gt", "ge", "eq", "ne"):
    setattr(Proxy, f"__{_name}__", _operator(_name, BINARY[_name]))
for _name in ("neg", "abs", "invert"):
    setattr(Proxy, f"__{_name}__", _of_one(_name, UNARY[_name]))


# ---- the library that proxies belong to ----


class _Library:
    """The array API's functions on proxies."""

    __name__ = "traced arrays"

    @staticmethod
    def where(condition: Any, x: Any, y: Any) -> Any:
        return condition.tape.operation("where", ops.where, (condition, x, y))

    @staticmethod
    def clip(x: Any, low: Any = None, high: Any = None) -> Any:
        bounds = [b for b in (low, high) if b is not None]
        if not bounds:
            return x
        row = CLIPS[low is not None, high is not None]
        return x.tape.operation(row.name, row.apply, (x, *bounds))

    @staticmethod
    def global_norm(arrays: Sequence[Any], norm_type: float) -> Any:
        row = norm_row(len(arrays))
        tape = arrays[0].tape
        found = tape.call(row.name, row.apply, (*arrays,), {"norm_type": norm_type})
        found.weak = True
        return found

    @staticmethod
    def known_later(x: Any) -> Any:
        """As ``float(x)``: a number of double precision, which takes the dtype of what it meets."""
        found = x.tape.call("known_later", lambda t: ops.astype(t, dtype=np.float64), (x,), {})
        found.weak = True
        return found

    @staticmethod
    def full_like(x: Any, value: Any, dtype: Any = None) -> Any:
        kind = numpy_dtype(x.dtype if dtype is None else dtype)

        def made(like: DiffTensor, number: Any) -> Any:
            return ops.broadcast_to(ops.astype(number, dtype=kind), shape=like.shape)

        return x.tape.operation(f"full_like {kind}", made, (x, value))

    @classmethod
    def zeros_like(cls, x: Any, dtype: Any = None) -> Any:
        return cls.full_like(x, 0, dtype)

    @classmethod
    def ones_like(cls, x: Any, dtype: Any = None) -> Any:
        return cls.full_like(x, 1, dtype)

    @staticmethod
    def asarray(x: Any, dtype: Any = None, copy: bool | None = None, device: Any = None) -> Any:
        if dtype is None or numpy_dtype(dtype) == numpy_dtype(x.dtype):
            return x if not copy else x.tape.call("copy", lambda t: t, (x,), {})
        return _Library.astype(x, dtype)

    @staticmethod
    def astype(x: Any, dtype: Any) -> Any:
        return x.tape.call("astype", lambda t, kind: ops.astype(t, dtype=kind), (x, numpy_dtype(dtype)), {})

    def __getattr__(self, name: str) -> Any:
        if name in UNARY:
            return lambda x: x.tape.operation(name, UNARY[name], (x,))
        if name in ("maximum", "minimum"):
            return lambda a, b: next(p for p in (a, b) if type(p) is Proxy).tape.operation(name, BINARY[name], (a, b))
        function = getattr(array_api, name, None)
        if function is None:
            raise GraphError(f"it calls {name}, which traced arrays do not have")
        if not callable(function) or isinstance(function, type):
            return function

        def call(*args: Any, **kwargs: Any) -> Any:
            inside = [a for part in args for a in (part if isinstance(part, (list, tuple)) else (part,))]
            first = next((a for a in inside if type(a) is Proxy), None)
            return function(*args, **kwargs) if first is None else first.tape.call(name, function, args, kwargs)

        return call


library = _Library()
backend.adopt(Proxy, library)
