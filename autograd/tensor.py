"""DiffTensor: an array and its place on the tape.

``raw`` is the backend's own array, ``node`` the tape's node (None for a constant). A tensor with a node and no array is
symbolic: operations on it append to a graph and compute nothing. Operators and most methods are rows of the op table,
attached by ``autograd.ops``; this file has what is not an operation: making tensors, moving them, reading them, and
the ways in which they refuse to be changed.
"""

import importlib
from collections.abc import Callable
from typing import Any, Self

import numpy as np

from . import backend
from .batch import Batch
from .context import current
from .errors import NoValueError
from .lazy import LazyPass, added
from .shapes import numpy_dtype
from .tape import BackwardPass, Leaf, Node


class DiffTensor:
    """An array whose operations can be differentiated.

    Args:
        data: an array of any supported library, a number, or nested sequences of numbers; or another DiffTensor.
        requires_grad: whether to track it: operations on it are then recorded, and ``backward()`` fills ``grad``.
        dtype: convert to this dtype. Python floats become the context's default dtype (float64 if none is set).
        device: "cpu", "cuda" or "cuda:N"; where the array is if None.
        copy: whether to copy an array. ``copy=False`` shares its memory: then do not write to it any more.

    Raises:
        TypeError: ``requires_grad`` for integers or booleans, or data that are not numbers.
        ImportError: ``device="cuda"`` without CuPy.
    """

    __slots__ = ("__weakref__", "node", "raw")
    __hash__ = object.__hash__

    raw: Any
    node: Node | None

    def __init__(
        self, data: Any, requires_grad: bool = False, *, dtype: Any = None, device: str | None = None, copy: bool = True
    ):
        context = current()
        if isinstance(data, DiffTensor):
            data = data.raw
        if context is not None:
            if dtype is None and context.dtype is not None and not backend.is_array(data):
                dtype = context.dtype if np.asarray(data).dtype.kind == "f" else None
            device = context.device if device is None else device
        array = backend.asarray(data, dtype=dtype, copy=copy or None)
        self.raw = array if device is None else backend.to_device(array, device)
        self.node = None
        if requires_grad:
            self.requires_grad = True

    @classmethod
    def _wrap(cls, raw: Any, node: Node | None) -> Self:
        """A tensor for an array that is ours already."""
        self = object.__new__(cls)
        self.raw, self.node = raw, node
        return self

    @classmethod
    def symbol(cls, shape: tuple[int, ...], dtype: Any = np.float32) -> Self:
        """A symbolic tensor: it has a shape and a dtype but no value, and operations on it build a graph."""
        return cls._wrap(None, Leaf(tuple(shape), np.dtype(dtype)))

    # ---- what it is ----

    @property
    def shape(self) -> tuple[int, ...]:
        return self.raw.shape if self.raw is not None else self.node.shape  # type: ignore[union-attr]

    @property
    def dtype(self) -> Any:
        return self.raw.dtype if self.raw is not None else self.node.dtype  # type: ignore[union-attr]

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        size = 1
        for n in self.shape:
            size *= n
        return size

    @property
    def nbytes(self) -> int:
        return self.size * np.dtype(str(self.dtype).rpartition(".")[2]).itemsize

    @property
    def device(self) -> str:
        return "symbolic" if self.raw is None else backend.device_of(self.raw)

    @property
    def is_leaf(self) -> bool:
        return self.node is None or isinstance(self.node, Leaf)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("a tensor without axes has no length")
        return self.shape[0]

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))  # type: ignore[index]

    def __repr__(self) -> str:
        if self.raw is None:
            return f"DiffTensor(symbolic, shape={self.shape}, dtype={self.dtype})"
        if type(self.raw) is Batch:
            return f"DiffTensor({self.raw!r})"
        text = np.array2string(self.numpy(), separator=", ", threshold=60, prefix="DiffTensor(")
        notes = [] if str(numpy_dtype(self.dtype)) in ("float64", "int64", "bool") else [f"dtype={self.dtype}"]
        notes += [f"shape={self.shape}"] if self.size > 60 else []
        notes += [] if self.device == "cpu" else [f"device={self.device!r}"]
        notes += (
            []
            if self.node is None
            else ["requires_grad=True"]
            if isinstance(self.node, Leaf)
            else [f"from={self.node.name}"]
        )
        return f"DiffTensor({', '.join([text, *notes])})"

    # ---- its value ----

    @property
    def data(self) -> Any:
        """The array itself, read-only. Assign to it to replace the value (of a leaf)."""
        view = self._value("data")
        return backend.freeze(view.view()) if type(view) is np.ndarray else view

    @data.setter
    def data(self, value: Any) -> None:
        array = backend.asarray(value.raw if isinstance(value, DiffTensor) else value, dtype=self.dtype, copy=True)
        if tuple(array.shape) != tuple(self.shape):
            raise ValueError(
                f"data: the tensor has shape {tuple(self.shape)}, the new value {tuple(array.shape)}; make a new tensor instead"
            )
        self.renew()
        self.raw = array

    def numpy(self) -> np.ndarray:
        """The value as a NumPy array on the host, read-only; no gradient flows through it. Use ``.copy()`` to change it."""
        return np.asarray(self.to("cpu").data)

    def item(self) -> Any:
        """The value of a tensor of one element, as a Python number."""
        if self.size != 1:
            raise ValueError(f"item() needs a tensor of one element; this one has shape {tuple(self.shape)}")
        return self.numpy().reshape(()).item()

    def tolist(self) -> Any:
        return self.numpy().tolist()

    def _value(self, what: str) -> Any:
        if self.raw is None:
            raise NoValueError(
                f"{what}: a symbolic tensor has no value; use operations and where() instead, and run the graph to get one"
            )
        return self.raw

    def __float__(self) -> float:
        return float(self._one("float()"))

    def __int__(self) -> int:
        return int(self._one("int()"))

    def __complex__(self) -> complex:
        return complex(self._one("complex()"))

    def __index__(self) -> int:
        value = self._one("an index")
        if "int" not in str(value.dtype):
            raise TypeError(f"an index must be an integer, not a tensor of {value.dtype}")
        return int(value)

    def __bool__(self) -> bool:
        if self.size != 1:
            raise ValueError(
                f"the truth of a tensor of shape {tuple(self.shape)} is not defined; write .any() or .all()"
            )
        return bool(self._value("bool()"))

    def _one(self, what: str) -> Any:
        if self.size != 1:
            raise TypeError(f"{what} needs a tensor of one element; this one has shape {tuple(self.shape)}")
        value = self._value(what)
        return backend.xp(value).reshape(value, ())[()]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if self.node is not None:
            raise TypeError(
                "numpy.asarray() of a tracked tensor would lose its gradient; write .numpy() if that is meant"
            )
        return np.array(self.numpy(), dtype=dtype, copy=copy)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        """NumPy's functions on tensors are the rows of the same name; ``np.array([..]) * tensor`` comes here too."""
        row = _UFUNCS.get(ufunc.__name__)
        if row is None or method != "__call__" or kwargs:
            return importlib.import_module(".protocols", __package__).ufunc(ufunc, method, inputs, kwargs)
        return row(*inputs)

    def __array_function__(self, func: Callable, types: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        """NumPy's other functions: the rules of ``autograd.numpy``, or a TypeError that names the nearest."""
        return importlib.import_module(".protocols", __package__).function(func, args, kwargs)

    def __array_namespace__(self, /, *, api_version: str | None = None) -> Any:
        """The functions of the Python array API standard on tensors: ``autograd.array_api``."""
        return importlib.import_module(".array_api", __package__).of_version(api_version)

    def __dlpack__(
        self, /, *, stream: Any = None, max_version: Any = None, dl_device: Any = None, copy: bool | None = None
    ) -> Any:
        """The value for other libraries' ``from_dlpack``: shared memory, which they must not write to.

        Raises:
            BufferError: the tensor is tracked, so that its gradient would be lost; or the value cannot be shared as asked.
        """
        return backend.to_dlpack(self._constant("DLPack"), stream, max_version, dl_device, copy)

    def __dlpack_device__(self, /) -> tuple[int, int]:
        raw = self._value("DLPack")
        return raw.__dlpack_device__() if hasattr(raw, "__dlpack_device__") else (1, 0)  # type: ignore[no-any-return]

    def _constant(self, what: str) -> Any:
        """The raw array, of a tensor that is not tracked and has one value."""
        raw = self._value(what)
        if type(raw) is Batch:
            return raw._read(what, lambda value: value._constant(what))
        if self.node is not None:
            raise BufferError(
                f"{what}: sharing a tracked tensor would lose its gradient; write .detach() if that is meant"
            )
        return raw

    def to_device(self, device: str, /, *, stream: Any = None) -> "DiffTensor":
        """The tensor on a device, as the array API standard has it; ``to`` does the same. There are no streams."""
        if stream is not None:
            raise ValueError(f"to_device: streams are not supported; leave stream={stream!r} out")
        return self if device == self.device else _to_device(self, device=device)

    def __setitem__(self, index: Any, value: Any) -> None:
        """Refused with a TypeError that says what to write instead, except inside ``autograd.array_api.in_place()``."""
        importlib.import_module(".array_api.assignment", __package__).assign(self, index, value)

    # ---- gradients ----

    @property
    def requires_grad(self) -> bool:
        return self.node is not None

    @requires_grad.setter
    def requires_grad(self, wanted: bool) -> None:
        if not self.is_leaf:
            raise ValueError("requires_grad can be set on a leaf only, not on the result of an operation; use detach()")
        if wanted and self.node is None:
            self.node = leaf(self.raw)
        elif not wanted:
            self.node = None

    @property
    def grad(self) -> Any:
        """The gradient that ``backward()`` has accumulated: a read-only array of the backend, a ``RowSparse``, or None."""
        return self.node.grad if isinstance(self.node, Leaf) else None

    @grad.setter
    def grad(self, value: Any) -> None:
        if not isinstance(self.node, Leaf):
            raise ValueError("grad can be set on a tracked leaf only")
        if value is not None:
            value = backend.asarray(getattr(value, "raw", value), copy=True)
            if tuple(value.shape) != tuple(self.shape):
                raise ValueError(f"grad: the tensor has shape {tuple(self.shape)}, the gradient {tuple(value.shape)}")
        self.node.grad = backend.freeze(value)

    def backward(self, gradient: Any = None, *, lazy: bool = False) -> None:
        """Add to ``grad`` of every leaf the gradient of this tensor with respect to it.

        Args:
            gradient: the cotangent, of this tensor's shape; None (one) for a tensor of no axes.
            lazy: whether to compute each gradient only when its ``grad`` is read (see ``autograd.lazy``).
        """
        if lazy:
            LazyPass(self, gradient).defer()
            return
        for node, g in BackwardPass((self,))._run((gradient,)).items():
            if isinstance(node, Leaf):
                node.grad = added(node.grad, g)

    def register_hook(self, hook: Callable[[Any], Any]) -> Callable[[], None]:
        """Call ``hook(gradient)`` when this tensor's gradient is complete; what it returns, unless None, replaces it.

        Returns a function that removes the hook.
        """
        node = self.node
        if node is None:
            raise ValueError("register_hook: the tensor is not tracked, so it has no gradient")
        node.hooks = hooks = [*(node.hooks or ()), hook] if node.hooks is None else node.hooks
        if hook not in hooks:
            hooks.append(hook)
        return lambda: hooks.remove(hook) if hook in hooks else None

    def detach(self) -> Self:
        """The same value as a constant; of a symbolic tensor ``stop_gradient`` of it."""
        if self.raw is None:
            return importlib.import_module(".custom", __package__).stop_gradient(self)  # type: ignore[no-any-return]
        raw = self.raw
        return self._wrap(raw.detached() if type(raw) is Batch else raw, None)

    def to(self, where: Any) -> "DiffTensor":
        """The tensor on a device ("cpu", "cuda", "cuda:N") or in a dtype; gradients flow back through the move."""
        if not isinstance(where, str) or where in np.sctypeDict:
            return self.astype(where)  # type: ignore[attr-defined,no-any-return]
        if where == self.device:
            return self
        return _to_device(self, device=where)

    def add_(self, update: Any) -> None:
        """Add to the value in place; for optimizers. Graphs that used the old value can no longer be differentiated."""
        if not self.is_leaf:
            raise ValueError("add_: only a leaf can be changed in place, not the result of an operation")
        self.renew()
        if (
            type(self.raw) is np.ndarray
        ):  # what came by DLPack is not ours to change, and no graph would see a constant change
            own = self.node is not None and self.raw.flags.writeable
            out = self.raw if own else np.empty_like(self.raw)
            self.raw = np.add(self.raw, update, out=out, casting="same_kind")
        else:
            self.raw = backend.xp(self.raw).astype(self.raw + update, self.dtype)

    def renew(self) -> None:
        """Give a leaf a new node, because its array is changed in place: graphs that used the old value are refused."""
        old = self.node
        if isinstance(old, Leaf):
            grad = old.grad  # if it is pending it is computed here, while the graph has the old value
            self.node = new = Leaf(old.shape, old.dtype)
            new.grad, new.hooks, old.stale = grad, old.hooks, True


def leaf(array: Any) -> Leaf:
    """A new leaf for a raw array. Only floating-point and complex arrays have gradients."""
    if not backend.is_inexact(array.dtype):
        raise TypeError(f"only floating-point and complex arrays have gradients, not {array.dtype}; use .astype(float)")
    return Leaf(array.shape, array.dtype)


_UFUNCS: dict[str, Callable] = {}
"""Rows by the name of NumPy's ufunc; filled by ``autograd.ops``."""
_to_device: Any = None
