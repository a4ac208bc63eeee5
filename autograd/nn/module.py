"""Module: a function with parameters, and the tree of such functions that a model is.

Assigning to an attribute registers it: a Module as a submodule, a tracked leaf tensor as a parameter. They stay ordinary
attributes, so reading them costs nothing; the module only remembers the names. Buffers (tensors that are state but have no
gradient, such as running statistics) are registered by ``register_buffer``. Names of nested members are joined by dots,
as in PyTorch: ``model.state_dict()["0.weight"]``.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self

import numpy as np
import optree

from .. import backend
from ..context import no_grad
from ..lazy import gradients
from ..sparse import RowSparse
from ..tape import Leaf
from ..tensor import DiffTensor

PARAMETER, BUFFER, MODULE = "parameter", "buffer", "module"


def Parameter(data: Any, requires_grad: bool = True, *, dtype: Any = None) -> DiffTensor:
    """A tensor to be trained: assigned to an attribute of a Module it becomes one of the module's parameters.

    It is an ordinary leaf tensor. Without ``requires_grad`` it would be taken for a constant, so register a parameter that
    is frozen from the start with ``module.register_parameter(name, tensor)``.
    """
    return DiffTensor(data, requires_grad=requires_grad, dtype=dtype)


class Module:
    """A function with parameters: subclass it, assign parameters and modules to attributes, and define ``forward``.

    >>> class Affine(Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.scale = Parameter([2.0])
    ...         self.shift = Parameter([1.0])
    ...     def forward(self, x):
    ...         return x * self.scale + self.shift
    >>> Affine()(np.array([3.0])).tolist()
    [7.0]
    """

    training: bool = True
    """Whether the module is being trained; dropout and batch normalisation behave differently then."""
    _hooks: "list[Callable] | None" = None
    _members: dict[str, str]  # names of parameters, buffers and modules, in order of registration, and which they are

    def __init__(self) -> None:
        self.__dict__["_members"] = {}

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes; subclasses define it."""
        raise NotImplementedError(f"{type(self).__name__} needs a method forward(self, ...)")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._hooks is None:
            return self.forward(*args, **kwargs)
        output = self.forward(*args, **kwargs)
        for hook in tuple(self._hooks):
            changed = hook(self, args, output)
            output = output if changed is None else changed
        return output

    # ---- registration ----

    def __setattr__(self, name: str, value: Any) -> None:
        kind = None
        if isinstance(value, Module):
            kind = MODULE
        elif type(value) is DiffTensor:
            kind = self._kind_of(name)
            if kind is None and isinstance(value.node, Leaf):
                kind = PARAMETER
            if (kind == PARAMETER and not value.is_leaf) or (kind == BUFFER and value.node is not None):
                raise TypeError(
                    f"{type(self).__name__}.{name} is a {kind}, and this tensor is the result of recorded operations; "
                    "assign tensor.detach()"
                )
        elif isinstance(value, (list, tuple, dict)):
            inside = value.values() if isinstance(value, dict) else value
            if any(isinstance(v, Module) or (type(v) is DiffTensor and isinstance(v.node, Leaf)) for v in inside):
                raise TypeError(
                    f"{type(self).__name__}.{name}: modules or parameters inside a {type(value).__name__} would not be found; "
                    "wrap modules as Sequential(*modules), and give each parameter an attribute of its own"
                )
        self._register(name, value, kind)

    def _register(self, name: str, value: Any, kind: str | None) -> None:
        if kind is not None and "_members" not in self.__dict__:
            raise AttributeError(
                f"{type(self).__name__}: call super().__init__() before assigning parameters or modules (here {name!r})"
            )
        if kind is None and value is not None and self._kind_of(name) is not None:
            raise TypeError(
                f"{type(self).__name__}.{name} is a {self._kind_of(name)}; assign a tensor or a module, or None, not "
                f"{type(value).__name__}"
            )
        if kind is not None:
            if "." in name or not name:
                raise ValueError(f"the name {name!r} of a {kind} must not be empty or contain a dot")
            self._members[name] = kind
        self.__dict__[name] = value

    def _kind_of(self, name: str) -> str | None:
        return self.__dict__.get("_members", {}).get(name)

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        self._members.pop(name, None)

    def register_parameter(self, name: str, tensor: DiffTensor | None) -> None:
        """Make a leaf tensor a parameter, whether or not it is tracked; or keep a place for one, with None."""
        if tensor is not None and (type(tensor) is not DiffTensor or not tensor.is_leaf):
            raise TypeError(f"{type(self).__name__}.{name}: a parameter must be a leaf DiffTensor, not {tensor!r:.60}")
        self._register(name, tensor, PARAMETER)

    def register_buffer(self, name: str, value: Any) -> None:
        """Make a tensor (or what makes one) a buffer: state that is saved and moved with the module, without gradient."""
        tensor = value if value is None or type(value) is DiffTensor else DiffTensor(value)
        if tensor is not None and tensor.node is not None:
            raise TypeError(
                f"{type(self).__name__}.{name}: a buffer has no gradient; use detach(), or make it a parameter"
            )
        self._register(name, tensor, BUFFER)

    def register_forward_hook(self, hook: Callable[["Module", tuple, Any], Any]) -> Callable[[], None]:
        """Call ``hook(module, args, output)`` after each forward; what it returns, unless None, replaces the output.

        Returns a function that removes the hook.
        """
        hooks = [*(self._hooks or ()), hook]
        self.__dict__["_hooks"] = hooks

        def remove() -> None:
            rest = [h for h in self._hooks or () if h is not hook]
            self.__dict__["_hooks"] = rest or None

        return remove

    # ---- the tree ----

    def _own(self, kind: str) -> Iterator[tuple[str, Any]]:
        for name, found in self._members.items():
            if found == kind and self.__dict__[name] is not None:
                yield name, self.__dict__[name]

    def named_children(self) -> Iterator[tuple[str, "Module"]]:
        """The modules directly below this one, by name."""
        return self._own(MODULE)

    def children(self) -> Iterator["Module"]:
        return (module for _, module in self.named_children())

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, "Module"]]:
        """This module (under the empty name) and all below it, by dotted name; each once."""
        seen: set[int] = set()
        stack: list[tuple[str, Module]] = [(prefix, self)]
        while stack:
            path, module = stack.pop()
            if id(module) not in seen:
                seen.add(id(module))
                yield path, module
                stack.extend(reversed([(_joined(path, name), child) for name, child in module.named_children()]))

    def modules(self) -> Iterator["Module"]:
        return (module for _, module in self.named_modules())

    def _named(self, kind: str, once: bool = True) -> Iterator[tuple[str, DiffTensor]]:
        seen: set[int] = set()
        for path, module in self.named_modules() if once else self._paths():
            for name, tensor in module._own(kind):
                if not once or id(tensor) not in seen:
                    seen.add(id(tensor))
                    yield _joined(path, name), tensor

    def _paths(self, prefix: str = "") -> Iterator[tuple[str, "Module"]]:
        """As ``named_modules``, but under every name that a module has."""
        yield prefix, self
        for name, child in self.named_children():
            yield from child._paths(_joined(prefix, name))

    def named_parameters(self) -> Iterator[tuple[str, DiffTensor]]:
        """The parameters of this module and all below it, by dotted name; one that is shared comes once."""
        return self._named(PARAMETER)

    def parameters(self) -> Iterator[DiffTensor]:
        return (tensor for _, tensor in self.named_parameters())

    def named_buffers(self) -> Iterator[tuple[str, DiffTensor]]:
        """The buffers of this module and all below it, by dotted name."""
        return self._named(BUFFER)

    def buffers(self) -> Iterator[DiffTensor]:
        return (tensor for _, tensor in self.named_buffers())

    def apply(self, function: Callable[["Module"], Any]) -> Self:
        """Call a function with every module of the tree, children before their parents; returns the module."""
        for child in self.children():
            child.apply(function)
        function(self)
        return self

    # ---- modes ----

    def train(self, mode: bool = True) -> Self:
        """Set ``training`` in every module of the tree; returns the module."""
        for module in self.modules():
            module.__dict__["training"] = bool(mode)
        return self

    def eval(self) -> Self:
        return self.train(False)

    @contextlib.contextmanager
    def evaluating(self) -> Iterator[Self]:
        """A block in which every module of the tree is in evaluation mode; then each has the mode that it had."""
        modes = [(module, module.training) for module in self.modules()]
        try:
            yield self.eval()
        finally:
            for module, training in modes:
                module.__dict__["training"] = training

    def infer(self, *inputs: Any, batch_size: int | None = None) -> Any:
        """The output on arrays, in evaluation mode and without recording, ``batch_size`` examples at a time.

        Args:
            inputs: arrays or tensors with one first axis, that of the examples.
            batch_size: None: all at once.

        Returns:
            An array (or a tree of arrays, as ``forward`` returns tensors): the outputs of all examples along the first axis.
        """
        raws = [x.raw if isinstance(x, DiffTensor) else backend.asarray(x) for x in inputs]
        if not raws or any(not x.shape or x.shape[0] != raws[0].shape[0] for x in raws):
            raise ValueError(
                f"infer: the inputs need one first axis, that of the examples, not the shapes {[tuple(x.shape) for x in raws]}"
            )
        count = int(raws[0].shape[0])
        size = max(count, 1) if batch_size is None else batch_size
        if size < 1:
            raise ValueError(f"infer: batch_size must be at least 1, not {batch_size!r}")
        outputs = []
        with self.evaluating(), no_grad():
            for first in range(0, max(count, 1), size):
                output = self(*(DiffTensor(x[first : first + size, ...], copy=False) for x in raws))
                outputs.append(optree.tree_map(lambda leaf: leaf.raw if isinstance(leaf, DiffTensor) else leaf, output))
        return optree.tree_map(lambda *parts: backend.xp(parts[0]).concat(parts, axis=0), *outputs)

    def requires_grad_(self, wanted: bool = True) -> Self:
        """Track every parameter, or freeze them all; returns the module."""
        for tensor in self.parameters():
            tensor.requires_grad = wanted
        return self

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters (they become None)."""
        for tensor in self.parameters():
            if tensor.requires_grad:
                tensor.grad = None

    def to(self, where: Any) -> Self:
        """Move all parameters and buffers to a device ("cpu", "cuda", "cuda:N"), or convert the inexact ones to a dtype.

        The tensors stay the same objects, so an optimizer's references hold; gradients go with them.
        """
        dtype = None if isinstance(where, str) and where not in np.sctypeDict else np.dtype(where)
        if dtype is not None and not backend.is_inexact(dtype):
            raise TypeError(f"to({dtype}): parameters need a floating-point or complex dtype")

        def change(array: Any) -> Any:
            if type(array) is RowSparse:
                places = array.indices if dtype is not None else backend.to_device(array.indices, where)
                return RowSparse._made(places, change(array.rows), array.shape)
            if dtype is None:
                return backend.to_device(array, where)
            return backend.asarray(array, dtype=getattr(backend.xp(array), dtype.name))

        gradients(self.parameters())  # pending ones need the tensors as they are
        for tensor in (*self.parameters(), *self.buffers()):
            if dtype is None or backend.is_inexact(tensor.dtype):
                _replace(tensor, change)
        return self

    # ---- state ----

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies, on the host, of all parameters and buffers, by dotted name. Shared ones come under each of their names."""
        return {
            name: np.array(tensor.numpy())
            for kind in (PARAMETER, BUFFER)
            for name, tensor in self._named(kind, once=False)
        }

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> None:
        """Set parameters and buffers to the values of ``state_dict()``; values are copied, and cast to each one's dtype.

        Args:
            state: arrays (or tensors) by dotted name.
            strict: whether every name must be in both.

        Raises:
            ValueError: names that are missing or unexpected, shapes that differ, or values that are no numbers of the
                kind. All are listed, and then nothing has been changed.
        """
        own = dict(self._named(PARAMETER, once=False)) | dict(self._named(BUFFER, once=False))
        wrong, found = [], {}
        if strict:
            wrong += [f"missing: {name} {tuple(tensor.shape)}" for name, tensor in own.items() if name not in state]
            wrong += [
                f"unexpected: {name} {tuple(np.shape(value))}" for name, value in state.items() if name not in own
            ]
        for name, tensor in own.items():
            if name in state:
                try:
                    found[name] = _value_for(tensor, state[name])
                except (TypeError, ValueError) as error:
                    wrong.append(f"{name}: {error}")
        if wrong:
            raise ValueError(f"load_state_dict of {type(self).__name__}: nothing was loaded.\n  " + "\n  ".join(wrong))
        gradients(own.values())  # pending ones need the values that are about to go
        for name, value in found.items():
            own[name].data = value

    # ---- what it looks like ----

    def extra_repr(self) -> str:
        """The module's own settings, for its repr; subclasses define it."""
        return ""

    def __repr__(self) -> str:
        children = [f"({name}): {child!r}".replace("\n", "\n  ") for name, child in self.named_children()]
        if not children:
            return f"{type(self).__name__}({self.extra_repr()})"
        return "\n  ".join([f"{type(self).__name__}({self.extra_repr()}", *children]) + "\n)"


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _replace(tensor: DiffTensor, change: Callable[[Any], Any]) -> None:
    """Change the array of a leaf, whose dtype or library may become another; its gradient and hooks go with it."""
    old = tensor.node
    tensor.raw = raw = change(tensor.raw)
    if isinstance(old, Leaf):
        tensor.node = new = Leaf(raw.shape, raw.dtype)
        new.hooks, old.stale = old.hooks, True
        if old.grad is not None:
            new.grad = backend.freeze(change(old.grad))


def _value_for(tensor: DiffTensor, value: Any) -> Any:
    """A saved value as an array for a tensor: checked, cast, in the tensor's library and on its device."""
    array = value.numpy() if isinstance(value, DiffTensor) else np.asarray(value)
    if array.dtype.kind not in "biufc":
        raise TypeError(f"dtype {array.dtype} in the state is not numeric")
    if tuple(array.shape) != tuple(tensor.shape):
        raise ValueError(f"shape {tuple(array.shape)} in the state, {tuple(tensor.shape)} in the module")
    if not np.can_cast(array.dtype, np.dtype(str(tensor.dtype).rpartition(".")[2]), "same_kind"):
        raise TypeError(f"dtype {array.dtype} in the state cannot become {tensor.dtype} without loss")
    library = backend.xp(tensor.raw)
    if library is np:
        return array
    moved = library.asarray(array) if library.__name__ == "cupy" else library.asarray(array, device=tensor.raw.device)
    return library.astype(moved, tensor.dtype)
