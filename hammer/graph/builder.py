"""Graphs made node by node, and models made layer by layer.

    graph = Builder()
    x = graph.input("x", ("B", 64))
    w = graph.parameter("w", np.zeros((64, 10), np.float32))
    scores = graph.add("softmax", graph.add("matmul", x, w))
    built = graph.build(scores)

A builder notes what it is told, and runs it on symbols at once, so that an operation whose inputs do not fit is refused where it is
added. Nothing is computed. ``build`` traces the notes like any function, so symbolic sizes work as they do there.
"""

from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
import optree

from autograd import backend
from autograd.context import caller
from autograd.errors import unknown
from autograd.shapes import numpy_dtype
from autograd.table import OPS
from autograd.tensor import DiffTensor

from .graph import UniversalGraph
from .held import tensors_of
from .ir import GraphError, input_node
from .sizes import SAMPLES, SizedGraph, trace_sized
from .trace import Fixed, Lowering, Spec, explained, symbolic, trace_once


class Value:
    """One value of a graph that is being built; a number of them can be given to ``Builder.add``.

    ``shape`` and ``dtype`` are known at once; where a size is symbolic, ``shape`` has a sample of it.
    """

    def __init__(self, builder: "Builder", place: int, symbol: Any):
        self.builder, self.place, self._symbol = builder, place, symbol

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self._symbol.shape)

    @property
    def dtype(self) -> np.dtype:
        return numpy_dtype(self._symbol.dtype)

    def __repr__(self) -> str:
        return f"<value {self.place} {self.dtype}{self.shape}>"


class Builder:
    """Builds a graph node by node.

    Args:
        name: the graph's.
    """

    def __init__(self, name: str = "graph"):
        self.name = name
        self._specs: list[Spec] = []
        self._held: list[tuple[str, DiffTensor]] = []
        self._of_modules: list[tuple[str, DiffTensor]] = []
        self._steps: list[
            Callable[[list[Any], Any], Any]
        ] = []  # each appends the next value to the list of those before
        self._values: list[Any] = []  # symbols: at the sample of every symbolic size
        self._lowering = Lowering({})
        self._sizes: dict[str, int] = {}

    def input(self, name: str, shape: Sequence[int | str], dtype: Any = np.float32) -> Value:
        """An argument of the graph. A name among the sizes, as "B", stands for a size that is known when the graph runs.

        Raises:
            GraphError: the name is taken.
        """
        self._check_name(name)
        for size in shape:
            if isinstance(size, str) and size not in self._sizes:
                if len(self._sizes) == len(SAMPLES):
                    raise GraphError(
                        f"input {name!r}: a graph may have {len(SAMPLES)} symbolic sizes, and {size!r} is one more"
                    )
                self._sizes[size] = SAMPLES[len(self._sizes)][0]
        spec, place = Spec(tuple(shape), np.dtype(dtype), name), len(self._specs)
        self._specs.append(spec)
        symbol = DiffTensor.symbol(tuple(self._sizes[n] if isinstance(n, str) else n for n in shape), spec.dtype)
        self._start(name, symbol)
        return self._noted(lambda values, args: args[place], symbol)

    def parameter(self, name: str, value: Any) -> Value:
        """An input with a value of its own: an array (copied), or a DiffTensor, which the graph follows as it changes.

        Raises:
            GraphError: the name is taken.
        """
        self._check_name(name)
        tensor = value if isinstance(value, DiffTensor) else DiffTensor(value)
        self._held.append((name, tensor))
        symbol = DiffTensor.symbol(tuple(tensor.shape), numpy_dtype(tensor.dtype))
        self._start(name, symbol)
        return self._noted(lambda values, args: tensor, symbol)

    def _check_name(self, name: str) -> None:
        if name in [s.name for s in self._specs] + [n for n, _ in self._held]:
            raise GraphError(f"the name {name!r} is taken; give each input and parameter one of its own")

    def _start(self, name: str, symbol: DiffTensor) -> None:
        assert symbol.node is not None
        self._lowering.made[symbol.node] = input_node(name, symbol.shape, symbol.dtype)

    def constant(self, value: Any) -> Value:
        """An array that is part of the graph."""
        array = backend.asarray(value, copy=True)
        return self._noted(
            lambda values, args: DiffTensor._wrap(None, Fixed(array)), DiffTensor._wrap(None, Fixed(array))
        )

    def add(self, operation: Any, *inputs: Any, **parameters: Any) -> Any:
        """The value of an operation: its inputs first, its parameters by name.

        Args:
            operation: a name of the op table (``autograd.OPS``), a graph, a Module, or any function of tensors.
            inputs: values of this builder, arrays, or numbers; of an operation of any number of inputs, one list of them.

        Returns:
            A ``Value``, or, where there are several, a tree of them.

        Raises:
            GraphError: there is no such operation, or its inputs do not fit (the message has the shapes, the line, and the chain of
                nodes that led there).
        """
        if isinstance(operation, str):
            if operation not in OPS:
                raise GraphError(unknown("operation", operation, OPS))
            function: Callable = OPS[operation].apply
        else:
            function = operation
        label = getattr(operation, "name", type(operation).__name__)
        self._of_modules += [(f"{label}{len(self._steps)}.{name}", t) for name, t in tensors_of(operation)]
        places, tree = optree.tree_flatten(inputs)  # type: ignore[arg-type,var-annotated]
        for v in places:
            if isinstance(v, Value) and v.builder is not self:
                raise GraphError(f"{v!r} belongs to another builder")

        def run(values: list[Any], args: Any) -> Any:
            given = [values[v.place] if isinstance(v, Value) else v for v in places]
            return function(*optree.tree_unflatten(tree, given), **parameters)

        try:
            with symbolic(self._of_modules):
                for name, t in self._of_modules:
                    self._start(name, t)
                out = run(self._values, ())
        except Exception as error:
            raise explained(error, self._lowering, caller()) from error
        leaves, out_tree = optree.tree_flatten(out)
        whole = len(self._values)
        self._steps.append(run)
        self._values.append(out)
        if len(leaves) == 1 and leaves[0] is out:
            return Value(self, whole, out)
        return optree.tree_unflatten(out_tree, [self._noted(_leaf(whole, i), leaf) for i, leaf in enumerate(leaves)])

    def _noted(self, step: Callable, symbol: Any) -> Value:
        self._steps.append(step)
        self._values.append(symbol)
        return Value(self, len(self._values) - 1, symbol)

    def build(self, outputs: Any) -> UniversalGraph | SizedGraph:
        """The graph whose outputs are some values, in any tree.

        Raises:
            GraphError: a value is another builder's, or sizes are used in a way that symbols cannot stand for.
        """
        wanted, tree = optree.tree_flatten(outputs)
        for v in wanted:
            if not isinstance(v, Value) or v.builder is not self:
                raise GraphError(f"build needs values of this builder, not {v!r:.60}")

        def run(*args: Any) -> Any:
            values: list[Any] = []
            for step in self._steps:
                values.append(step(values, args))
            return optree.tree_unflatten(tree, [values[v.place] for v in wanted])

        run.__name__ = self.name
        held = self._held + self._of_modules
        return trace_sized(run, self._specs, self.name, held) or trace_once(run, self._specs, self.name, held)


def _leaf(whole: int, index: int) -> Callable:
    return lambda values, args: optree.tree_leaves(values[whole])[index]


class Model:
    """Layers one after another: ``Model().add(Linear(64, 32)).add(ReLU()).build("B", 64)``.

    A layer is a Module, a graph of one argument, a function of a tensor, or a name of the op table.
    """

    def __init__(self, name: str = "model"):
        self.name = name
        self.layers: list[Any] = []

    def add(self, layer: Any, **parameters: Any) -> Self:
        """Put a layer at the end; ``parameters`` are those of an operation of the table. Returns the model.

        Raises:
            GraphError: there is no such operation. TypeError: it cannot be called.
        """
        if isinstance(layer, str):
            if layer not in OPS:
                raise GraphError(unknown("operation", layer, OPS))
            row = OPS[layer].apply
            self.layers.append(lambda x: row(x, **parameters))
        elif callable(layer):
            self.layers.append(layer)
        else:
            raise TypeError(
                f"a layer is a Module, a graph, a function or an operation's name, not {type(layer).__name__}"
            )
        return self

    def build(self, *shape: int | str, dtype: Any = np.float32) -> UniversalGraph | SizedGraph:
        """The graph for an input "x" of a shape; without one it is (B, n), if the first layer is a Linear of n inputs.

        Raises:
            GraphError: no layers, no shape, or layers that do not fit.
        """
        if not self.layers:
            raise GraphError(f"{self.name} has no layers; add some")
        if not shape:
            features = getattr(self.layers[0], "in_features", None)
            if features is None:
                raise GraphError(f'{self.name}: build needs the shape of its input, as build("B", 3, 32, 32)')
            shape = ("B", features)
        spec = [Spec(tuple(shape), np.dtype(dtype), "x")]
        held = [(f"{i}.{n}", t) for i, f in enumerate(self.layers) for n, t in tensors_of(f)]

        def run(x: Any) -> Any:
            for layer in self.layers:
                x = layer(x)
            return x

        return trace_sized(run, spec, self.name, held) or trace_once(run, spec, self.name, held)
