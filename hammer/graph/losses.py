"""A loss traced with its gradients: the part of a training step that comes before the optimizer."""

from collections.abc import Callable, Sequence

import numpy as np

from autograd.context import AutogradContext
from autograd.effects import Effects
from autograd.ops.index import _SPARSE_TAKE
from autograd.optim import Optimizer
from autograd.shapes import numpy_dtype
from autograd.tape import BackwardPass, Leaf, ancestors
from autograd.tensor import DiffTensor

from .compiled import _is_array
from .execute import class_of
from .ir import GraphError, constant, input_node
from .trace import Lowering, Spec, Traced, traced


class TracedLoss:
    """A loss function traced: its graph, and the gradients of the optimizer's parameters.

    Args:
        function: of the leaves of the arguments.
        leaves: these, arrays and other things.
        held: the tensors that it holds, the optimizer's parameters among them, by name.
        seeded: whether the loss's cotangent is an input of its own, the last; else it is 1.

    Attributes:
        arrays: which of the leaves are arrays.
        held: which of the held tensors the graph reads, by their places, and the nodes that stand for them.
        params: the symbols of the optimizer's parameters; None for those that the loss does not reach.
        grads: their gradients; None where there is none.
        updates: which of the held tensors are buffers that get new values, by their places.
        dtype: of the loss.

    Raises:
        GraphError, NoValueError: it cannot be traced, or its first result is not one real number.
    """

    def __init__(
        self,
        function: Callable,
        leaves: list,
        held: Sequence[tuple[str, DiffTensor]],
        optimizer: Optimizer,
        name: str,
        seeded: bool = False,
    ):
        self.arrays = [i for i, x in enumerate(leaves) if _is_array(x)]
        specs = [
            Spec(tuple(x.shape), numpy_dtype(x.dtype), f"x{i}") if _is_array(x) else x for i, x in enumerate(leaves)
        ]
        self.made: Traced = traced(function, specs, name, held, Effects())
        graph, results = self.made.graph, self.made.results
        place_of = {id(t): i for i, (_, t) in enumerate(held)}
        self.held = {place_of[id(graph.parameters[label])]: node for label, node in graph.parameter_nodes.items()}
        self.updates = [place_of[id(buffer)] for buffer in self.made.updates]
        symbols = {i: DiffTensor._wrap(None, self.made.symbols[node]) for i, node in self.held.items()}
        self.params = [symbols.get(place_of[id(p)]) for p in optimizer.params]
        order = {place: k for k, place in enumerate(self.held)}
        self.param_places = [order.get(place_of[id(p)]) for p in optimizer.params]
        loss = results[0] if results else None
        if not isinstance(loss, DiffTensor) or loss.raw is not None or loss.node is None:
            raise GraphError("what it returns first, the loss, does not depend on anything that is tracked")
        if loss.shape != () or numpy_dtype(loss.dtype).kind != "f":
            raise GraphError(
                f"what it returns first, the loss, is {loss.dtype}{tuple(loss.shape)}; it must be one real number: reduce it, "
                "with mean or sum"
            )
        if any(n.row is _SPARSE_TAKE and isinstance(n.parents[0], Leaf) for n in ancestors([loss.node])):
            raise GraphError("an embedding has sparse=True: its gradient is a RowSparse, which graphs do not have")
        wanted = [s for s, p in zip(self.params, optimizer.params, strict=True) if s is not None and p.node is not None]
        self.dtype = numpy_dtype(loss.dtype)
        seed = DiffTensor.symbol((), loss.dtype)
        self.inputs = list(graph.inputs)
        # a constant would be NumPy's, and so would what is computed from constants alone
        self.seeded = seeded or class_of([p.raw for p in optimizer.params]) is not np.ndarray
        if self.seeded:
            self.inputs.append(input_node("seed:", (), loss.dtype))
        self._seed = seed.node, self.inputs[-1] if self.seeded else constant(np.ones((), loss.dtype)[()])
        with AutogradContext(precision="fp32"):  # as eager rules run: mixed precision is one of the forward pass
            found = BackwardPass([loss], wanted).run([seed]) if wanted else {}
        self.grads = [None if s is None else found.get(s.node) for s in self.params]  # type: ignore[arg-type]
        if all(g is None for g in self.grads):
            raise GraphError("the loss reaches no parameter of the optimizer")

    def lowering(self) -> Lowering:
        """A lowering that goes on from the function's graph."""
        lowering = Lowering(self.made.lowering.made, self.made.lowering.since, custom=True)
        lowering.made[self._seed[0]] = self._seed[1]  # type: ignore[index]
        return lowering
