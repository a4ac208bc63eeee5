"""``checkpoint_sequential``: a chain of layers whose activations are kept in part."""

import math
from collections.abc import Callable, Iterable
from typing import Any, Literal

import optree

from .. import nn
from ..nn.module import Module
from ..shapes import shape_of
from .regions import Boundaries, Chain, Plan, Size, checkpointing
from .schedule import Schedule


class _Function(Module):
    """A function as a layer."""

    def __init__(self, function: Callable):
        super().__init__()
        self.function = function

    def forward(self, x: Any) -> Any:
        return self.function(x)

    def extra_repr(self) -> str:
        return getattr(self.function, "__name__", type(self.function).__name__)


class CheckpointSequential(nn.Sequential):
    """A ``Sequential`` that keeps only some of its activations; see ``checkpoint_sequential``.

    Attributes:
        segments: how many segments there are; None with a budget.
        budget: bytes, or None.
        chain: of the latest call what was kept: ``chain.held.bytes`` are in memory now, ``chain.held.peak`` were at most,
            ``chain.calls`` operations were run again. None before the first call.
        plan: with a budget, how it is spent (``plan.cost`` is the planned cost as a multiple of running each layer once).
    """

    def __init__(self, layers: dict[str, Module], segments: int | None, budget: int | None):
        super().__init__(layers)
        self.segments, self.budget = segments, budget
        self.chain: Chain | None = None
        self.plan: Plan | None = None
        self._plans: dict[Any, Schedule] = {}  # by what came in, and by the sizes that were found

    def forward(self, x: Any) -> Any:
        if not checkpointing() or not len(self):
            return super().forward(x)
        return self._segmented(x) if self.budget is None else self._budgeted(x, self.budget)

    def _segmented(self, x: Any) -> Any:
        layers, n = list(self), min(self.segments or 1, len(self))
        self.chain = chain = Chain(Boundaries(), lambda j: (j == n - 1, j < n - 1))
        for j in range(n):
            with chain.stage():
                for layer in layers[len(self) * j // n : len(self) * (j + 1) // n]:
                    x = layer(x)
                chain.carry(x)
        return x

    def _budgeted(self, x: Any, budget: int) -> Any:
        arrays = optree.tree_leaves(x)  # type: ignore[arg-type]
        about = (
            tuple((shape_of(a), str(getattr(a, "dtype", ""))) for a in arrays),
            tuple(m.training for m in self.modules()),
        )
        known = self._plans.get(about)
        nothing = (False, False)
        self.chain = chain = Chain(known, lambda j: nothing if known is None else known.forward[j], budget)
        sizes: list[Size] = []
        for layer in self:
            with chain.stage():
                x = layer(x)
                chain.carry(x)
                sizes.append(chain.size())
        if known is None or known.sizes != tuple(sizes):
            key = tuple(sizes)
            known = self._plans[key] = self._plans[about] = self._plans.get(key) or Schedule(sizes, budget)
        self.plan = chain.plan = known
        return x

    def extra_repr(self) -> str:
        return f"budget={self.budget:,}" if self.budget is not None else f"segments={self.segments}"


def checkpoint_sequential(
    layers: Iterable[Callable], segments: int | Literal["auto"] | None = None, *, budget: int | None = None
) -> CheckpointSequential:
    """A chain of layers, called one after the other, that keeps only some of its activations for the backward pass.

    Args:
        layers: a ``nn.Sequential`` (parameters keep their names), or any iterable of Modules or functions of one argument,
            which may be a tree. The layers are shared, not copied.
        segments: keep what is between so many segments of equal numbers of layers, and run each segment once more in the
            backward pass, but for the last: "auto" takes the square root of the number of layers, which needs about
            2 √n activations (Chen et al. 2016).
        budget: keep what costs the least time within so many bytes, running layers more than once if need be (see
            ``autograd.checkpointing.schedule``). They are for values that layers hand on or that rules read, and for the
            work of one layer in passing; parameters, their gradients, the input and the output are not counted.

    Give one of the two. With a budget the first call for a new shape of input measures the layers and keeps nothing; so its
    backward pass runs each once more than the later ones do.

    Values and gradients are those of ``Sequential`` to the last bit; see ``checkpoint`` for dropout, running statistics and
    what is kept in any case. A layer should be the unit that is kept or dropped: a block rather than an activation.

    Raises:
        ValueError: neither or both of segments and budget, or less than one; in a call, a budget that is too small for the
            input: the message has the least that is possible.
    """
    if (segments is None) == (budget is None):
        raise ValueError('checkpoint_sequential: give either segments (a number or "auto") or budget=bytes')
    named = dict(layers.named_children()) if isinstance(layers, nn.Sequential) else dict(_named(layers))
    if segments == "auto":
        segments = max(1, round(math.sqrt(len(named))))
    for what, value in (("segments", segments), ("budget", budget)):
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise ValueError(f"checkpoint_sequential: {what} must be an integer of at least 1, not {value!r}")
    return CheckpointSequential(named, segments, budget)  # type: ignore[arg-type]


def _named(layers: Iterable[Callable]) -> Iterable[tuple[str, Module]]:
    for i, layer in enumerate(layers):
        if not callable(layer):
            raise TypeError(f"checkpoint_sequential: layer {i} is {layer!r:.60}; layers must be Modules or functions")
        yield str(i), layer if isinstance(layer, Module) else _Function(layer)
