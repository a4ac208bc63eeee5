"""Gradients that are handed over while a backward pass goes on: each leaf's as soon as it is complete.

    EarlyPass(loss).tell(lambda leaf, gradient: ...)

A backward pass visits nodes from the newest to the oldest, and leaves, which are older than what was made of them, come last, though the
gradients of a network's last layers have been complete for long. Here each leaf is visited right after the last node that uses it, in
the same walk, so nothing is computed twice and no bit changes. Whoever has something to do with a gradient, such as sending it to
other processes (``hammer.agents.backward``), can begin while the walk goes on.
"""

from collections.abc import Callable
from typing import Any

from .batch import Batch
from .tape import BackwardPass, Leaf, Node


class _Told(dict):
    """The gradients that a walk finds, handed over instead of kept."""

    def __init__(self, ready: Callable[[Leaf, Any], None]):
        self.ready = ready

    def __setitem__(self, node: Node, gradient: Any) -> None:
        if isinstance(node, Leaf):
            self.ready(node, gradient)


class EarlyPass(BackwardPass):
    """A backward pass in whose ``order`` leaves come as early as they can. ``tell`` runs it, once.

    Args:
        output: the tensor to differentiate.

    Raises:
        ValueError: as ``BackwardPass``. TypeError: the output is symbolic, or batched by ``vmap``.
    """

    def __init__(self, output: Any):
        if output.raw is None or type(output.raw) is Batch:
            kind = "symbolic" if output.raw is None else "batched by vmap"
            raise TypeError(
                f"EarlyPass: the output is {kind}, so no gradient is there before all are; write backward()"
            )
        super().__init__((output,))
        last = {parent: node for node in self.order for parent in node.parents if isinstance(parent, Leaf)}
        done: dict[Node, list[Node]] = {}
        for leaf, node in last.items():
            done.setdefault(node, []).append(leaf)
        self.order = [
            one for node in self.order if node not in last for one in (node, *done.get(node, ()))
        ]  # a leaf that is the output itself has no user, and keeps its place

    def tell(self, ready: Callable[[Leaf, Any], None], seed: Any = None) -> None:
        """Run the pass, and call ``ready(leaf, gradient)`` for each leaf that a gradient arrives at.

        Args:
            ready: may keep the gradient (a raw array, or a ``RowSparse``), and must not write to it: others may have the same one.
            seed: the output's cotangent; None: 1, for an output of no axes.
        """
        self._ready = ready
        self._run((seed,))

    def _results(self) -> dict[Node, Any]:
        return _Told(self._ready)
