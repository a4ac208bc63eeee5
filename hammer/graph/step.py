"""``hammer.training_step``: a whole training step as one graph: forward, backward, the optimizer's chain, and what they change.

The graph's inputs are the batch, random masks, parameters and buffers, the arrays of the optimizer's state, and the numbers of its
step; parameters and state are written in place when it runs (``execute.make_plan``). What Python makes of numbers stays Python:
counts, schedules and corrections are computed at each step by the links themselves (``links``). A link that
cannot be traced runs uncompiled, between two plans, and a function that cannot be runs so altogether; one warning says why.

``Parts`` has the two halves apart, for loops that do something between them: ``Trainer(compile=True)`` trains with it.
"""

import warnings
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import optree

from autograd.context import current
from autograd.errors import NoValueError
from autograd.optim import Optimizer
from autograd.tape import Leaf
from autograd.tensor import DiffTensor

from .compiled import CompileWarning, _guard, _Held
from .ir import GraphError
from .losses import TracedLoss
from .stages import Stage, Update
from .trace import line_of

_ARRAYS: dict[int, Any] = {n: optree.tree_structure(((0,) * n, {})) for n in range(1, 9)}  # type: ignore[arg-type]
"""The structure of so many positional arguments without parts."""
_LEAVES = frozenset((np.ndarray, DiffTensor))


def training_step(
    loss: Callable | None = None,
    optimizer: Optimizer | None = None,
    *,
    exact: bool = True,
    cache: int = 16,
    fallback: bool = True,
) -> Any:
    """A function of a batch that makes one training step and returns what ``loss`` returns, as constants.

    ``step(x, y)`` does what these lines do, compiled (but gradients are not left in ``.grad``)::

        optimizer.zero_grad()
        value = loss(x, y)          # or, of several things that it returns, the first
        value.backward()
        optimizer.step()

    Parameters, buffers, the optimizer's state and random generators are then what they are after these lines, so compiled
    and uncompiled steps, checkpoints and changed learning rates mix freely.

    Args:
        loss: of arrays, tensors, or trees of them; returns one real number, or a tuple of it and more. Modules that it holds are
            found as by ``hammer.compile``.
        optimizer: an ``autograd.optim.Optimizer``.
        exact: whether every bit must be that of the uncompiled step (for arguments in C order).
        cache: how many signatures (see ``hammer.compile``) are kept.
        fallback: whether what cannot be traced runs uncompiled, after one ``CompileWarning``; else that is an error.

    Returns:
        A ``TrainingStep``; without ``optimizer``, a decorator.
    """
    if loss is None or optimizer is None:
        if optimizer is None and not isinstance(loss, Optimizer):
            raise TypeError("training_step: give it a loss function and an Optimizer")
        given = optimizer if optimizer is not None else loss
        return lambda function: TrainingStep(function, given, exact, cache, fallback)
    return TrainingStep(loss, optimizer, exact, cache, fallback)


class _Signatures:
    """A function that is traced once for each signature of its arguments, the modules that it holds, and the context."""

    def __init__(self, function: Callable, optimizer: Optimizer, exact: bool, cache: int, fallback: bool):
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"the optimizer must be an autograd.optim.Optimizer, not {type(optimizer).__name__}")
        if cache < 1:
            raise ValueError(f"the cache needs room for one signature or more, not {cache}")
        self.function, self.optimizer, self.exact, self.size, self.fallback = (
            function,
            optimizer,
            exact,
            cache,
            fallback,
        )
        self.name = str(getattr(function, "__name__", type(function).__name__))
        self.traces = 0
        self.reason: str | None = None
        self._entries: OrderedDict[Any, Any] = OrderedDict()
        self._holding = _Held(function)
        self._held: list[tuple[str, DiffTensor]] = []
        self._found: Any = None
        self._latest: tuple | None = (
            None  # of the entry used last: arguments' structure, settings, arguments, and itself
        )

    def entry(self, leaves: list, tree: Any) -> Any:
        """What was made for the signature of some arguments; made now if it is new."""
        context = current()
        if context is not None and (context.levels or context.anomaly or context.keeper or not context.recording):
            raise GraphError("inside of vmap, checkpointing, no_grad or anomaly mode a step is not compiled")
        if type(self.optimizer).step is not Optimizer.step:
            raise GraphError(f"{type(self.optimizer).__name__} has a step of its own")
        held = self._tensors()
        setting = [
            context and context.low,
            self._holding.changes,
            *[m.training for m in self._holding.modules],
            *[None if t.node is None else not t.node.hooks for _, t in held],
        ]
        if self._latest is not None and self._latest[1] == setting and self._latest[0] == tree:
            for x, (kind, shape, dtype) in zip(leaves, self._latest[2], strict=True):
                if type(x) is not kind:
                    break
                raw = x.raw if kind is DiffTensor else x
                if type(raw) is not np.ndarray or raw.dtype is not dtype or raw.shape != shape:
                    break
            else:
                return self._latest[3]
        key = tree, tuple([_guard(x) for x in leaves]), *setting
        found = self._entries.get(key)
        if found is None:
            if any(t.node is not None and t.node.hooks for _, t in held):
                raise GraphError("a parameter has a hook, which is called with its gradient")
            for x in leaves:
                if isinstance(x, DiffTensor) and x.node is not None:
                    raise GraphError(
                        "an argument is tracked; a step's gradients go to the parameters alone, so pass x.detach()"
                    )
            self.traces += 1
            found = self._made(leaves, held, tree)
            self._entries[key] = found
            if len(self._entries) > self.size:
                self._entries.popitem(last=False)
        else:
            self._entries.move_to_end(key)
        kinds = [(type(x), getattr(x, "shape", None), getattr(x, "dtype", None)) for x in leaves]
        self._latest = tree, setting, kinds, found
        return found

    def _made(self, leaves: list, held: list, tree: Any) -> Any:
        raise NotImplementedError

    def _flat(self, tree: Any) -> Callable:
        def flat(*given: Any) -> Any:
            args, kwargs = optree.tree_unflatten(tree, given)
            return self.function(*args, **kwargs)

        return flat

    def _tensors(self) -> list[tuple[str, DiffTensor]]:
        """The tensors that the function holds, and the optimizer's parameters."""
        found = self._holding.tensors()
        if found is not self._found:
            own = {id(t) for _, t in found}
            held = [*found, *((f"parameter{i}", p) for i, p in enumerate(self.optimizer.params) if id(p) not in own)]
            before = [(name, t if isinstance(t.node, Leaf) else None) for name, t in self._held]
            if before != [(name, t if isinstance(t.node, Leaf) else None) for name, t in held]:
                self._entries.clear()
                self._latest = None
            self._found, self._held = found, held
        return self._held

    def uncompiled(self, error: Exception) -> None:
        """Take note that the function cannot be compiled, and say so."""
        where = line_of(error)
        reason = f"the training step of {self.name} cannot be compiled: {error}"
        reason += f"\n  at {where}" if where and where not in reason else ""
        if not self.fallback:
            raise GraphError(reason) from error
        self.reason, self._latest = reason, None
        self._entries.clear()
        warnings.warn(f"{reason}\nIt runs uncompiled.", CompileWarning, stacklevel=3)


class TrainingStep(_Signatures):
    """A compiled training step; see ``training_step``.

    Attributes:
        traces: how often the loss was traced.
        reason: why it runs uncompiled, or None.
        links: why links of the optimizer's chain run uncompiled, by their place in it.
    """

    def __init__(self, function: Callable, optimizer: Optimizer, exact: bool, cache: int, fallback: bool):
        super().__init__(function, optimizer, exact, cache, fallback)
        self.links: dict[int, str] = {}
        self._news: list[str] = []

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.reason is None:
            leaves: list
            if not kwargs and _LEAVES.issuperset(map(type, args)):
                leaves, tree = list(args), _ARRAYS.get(len(args))
            else:
                tree = None
            if tree is None:
                leaves, tree = optree.tree_flatten((args, kwargs))  # type: ignore[arg-type]
            try:
                found = self.entry(leaves, tree).run(leaves, self._held)
            except (GraphError, NoValueError) as error:
                self.uncompiled(error)
            else:
                while self._news:
                    reason = f"{self._news.pop()}\nIt runs uncompiled, between two plans."
                    warnings.warn(reason, CompileWarning, stacklevel=2)
                return found
        return self._plainly(args, kwargs)

    def _plainly(self, args: tuple, kwargs: dict) -> Any:
        self.optimizer.zero_grad()
        found = self.function(*args, **kwargs)
        value = optree.tree_leaves(found)[0]  # type: ignore[arg-type]
        value.backward()
        self.optimizer.step()
        return optree.tree_map(lambda x: x.detach() if isinstance(x, DiffTensor) else x, found)

    def _made(self, leaves: list, held: list, tree: Any) -> "_Steps":
        loss = TracedLoss(self._flat(tree), leaves, held, self.optimizer, self.name)
        return _Steps(loss, self.optimizer, self.exact, self._told)

    def _told(self, place: int, link: Any, error: Exception) -> None:
        """A link cannot be traced."""
        reason = f"the link {type(link).__name__.strip('_')} of the optimizer's chain cannot be traced: {error}"
        if not self.fallback:
            raise GraphError(reason) from error
        if place not in self.links:
            self.links[place] = reason
            self._news.append(reason)

    @property
    def source(self) -> str:
        """The program of the latest plan, to be read."""
        return next(reversed(self._entries.values())).first.source if self._entries else ""

    def __repr__(self) -> str:
        state = "runs uncompiled" if self.reason else f"{len(self._entries)} signatures"
        return f"<training step of {self.name}: {state}>"


class _Steps:
    """What one signature runs: a plan of forward, backward and the links that are traced, and what follows."""

    def __init__(
        self, loss: TracedLoss, optimizer: Optimizer, exact: bool, told: Callable[[int, Any, Exception], None]
    ):
        self.optimizer = optimizer
        self.first = Stage(optimizer, 0, exact, told, loss=loss)
        self.rest = Update(optimizer, exact, told)

    def run(self, leaves: list, held: list[tuple[str, DiffTensor]]) -> Any:
        if self.optimizer._evaluating:
            raise RuntimeError("step: the parameters are those of evaluation(); step after its with-block has ended")
        found, updates = self.first.run_loss(leaves, held)
        if updates is not None:
            self.rest.from_link(self.first.stop, updates)
        return found


class Parts(_Signatures):
    """A training step in two parts: ``gradients(...)`` of a function, and ``update(gradients)``.

    Args:
        function: of a batch; the first of what it returns is the loss.
    """

    def __init__(
        self, function: Callable, optimizer: Optimizer, exact: bool = True, cache: int = 16, fallback: bool = True
    ):
        super().__init__(function, optimizer, exact, cache, fallback)
        self.update = Update(optimizer, exact, self._told)
        self._places: set[int] = set()

    def _told(self, place: int, link: Any, error: Exception) -> None:
        """A link cannot be traced; said once."""
        if place not in self._places:
            self._places.add(place)
            name = type(link).__name__.strip("_")
            warnings.warn(
                f"the link {name} of the optimizer's chain cannot be traced: {error}\nIt runs uncompiled, between two plans.",
                CompileWarning,
                stacklevel=2,
            )

    def gradients(self, args: tuple, seed: Callable[[Any], Any]) -> tuple[Any, list] | None:
        """What the function returns, as constants, and the gradients of the loss, in the order of the optimizer's parameters.

        Args:
            args: the batch.
            seed: ``seed(dtype)`` is the loss's cotangent, a number of its dtype.

        Returns:
            None if the function cannot be compiled: then nothing has happened, but a ``CompileWarning``.
        """
        if self.reason is not None:
            return None
        leaves, tree = optree.tree_flatten((args, {}))  # type: ignore[arg-type,var-annotated]
        try:
            found, grads = self.entry(leaves, tree).run_loss(leaves, self._held, seed)
        except (GraphError, NoValueError) as error:
            self.uncompiled(error)
            return None
        return found, grads

    def _made(self, leaves: list, held: list, tree: Any) -> Stage:
        loss = TracedLoss(self._flat(tree), leaves, held, self.optimizer, self.name, seeded=True)
        return Stage(self.optimizer, 0, self.exact, lambda place, link, error: None, loss=loss, steps=False)
