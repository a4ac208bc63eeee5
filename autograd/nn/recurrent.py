"""Recurrent layers: RNN, GRU and LSTM. Names, arguments, shapes and initial distributions are PyTorch's.

The products with the inputs of all times are one product; what is left for a step is the product with the hidden state.
The steps are a ``scan``, so a gradient goes back through all of them (truncate a long sequence by detaching the state).
"""

import math
from typing import Any

from .. import backend, ops
from ..control import scan
from ..tensor import DiffTensor
from . import init
from .init import Seed
from .layers import FLOAT32
from .module import Module, Parameter


class _Recurrent(Module):
    """Layers of one kind of cell, each running over the outputs of the one below.

    Args:
        input_size: numbers in an input.
        hidden_size: numbers in a hidden state, H.
        num_layers: how many layers are stacked.
        bias: whether cells have the two biases.
        batch_first: inputs and outputs are (N, T, ...) instead of (T, N, ...). States are not affected.
        rng: generator or seed of the weights, which are uniform on ±1/√H.
        dtype: of the parameters.
    """

    gates: int

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        *,
        rng: Seed = None,
        dtype: Any = FLOAT32,
    ):
        super().__init__()
        if input_size < 1 or hidden_size < 1 or num_layers < 1:
            raise ValueError(
                f"{type(self).__name__}: input_size, hidden_size and num_layers must be at least 1, not {input_size}, "
                f"{hidden_size} and {num_layers}"
            )
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.batch_first = bias, batch_first
        rng, bound = init.generator(rng), 1.0 / math.sqrt(hidden_size)
        rows = self.gates * hidden_size
        for layer in range(num_layers):
            shapes: dict[str, tuple[int, ...]] = {
                "weight_ih": (rows, input_size if layer == 0 else hidden_size),
                "weight_hh": (rows, hidden_size),
            }
            if bias:
                shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
            for name, shape in shapes.items():
                setattr(self, f"{name}_l{layer}", Parameter(init.uniform(shape, rng, -bound, bound, dtype)))

    def _start(self, x: Any, state: Any, what: str) -> list[Any]:
        """The first states of the layers: those given, or zeros of the input's library, device and dtype."""
        n, h = x.shape[1], self.hidden_size
        if state is None:
            raw, zeros = x.raw if isinstance(x, DiffTensor) else x, None
            if raw is not None:
                zeros = backend.xp(raw).zeros_like(raw[0, :, :1])
            else:  # of a symbol: computed from it, so that a graph of any number of sequences has them
                first = x[0, :, :1]
                zeros = ops.astype(ops.less(first, first), dtype=x.dtype)
            return [ops.broadcast_to(zeros, shape=(n, h))] * self.num_layers
        if tuple(state.shape) != (self.num_layers, n, h):
            raise ValueError(
                f"{type(self).__name__}: {what} has shape {tuple(state.shape)}; it must be (num_layers, N, H) = "
                f"{(self.num_layers, n, h)}"
            )
        return [state[layer] for layer in range(self.num_layers)]

    def _checked(self, x: Any) -> Any:
        if x.ndim != 3 or x.shape[2] != self.input_size or 0 in x.shape[:2]:
            order = "(N, T" if self.batch_first else "(T, N"
            raise ValueError(
                f"{type(self).__name__}: input {tuple(x.shape)} must be {order}, {self.input_size}), with at least one "
                "sequence and one step"
            )
        return ops.swapaxes(x, 0, 1) if self.batch_first else x

    def _run(self, x: Any, starts: list[Any]) -> tuple[Any, list[Any]]:
        """The last layer's outputs (T, N, H), and the last state of each layer."""
        lasts = []
        for layer, start in enumerate(starts):
            w_x, w_h, b_x, b_h = (
                getattr(self, f"{name}_l{layer}", None) for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            last, x = scan(self._cell(w_h, b_h), start, self._inputs(ops.linear(x, w_x, b_x)))
            lasts.append(last)
        return (ops.swapaxes(x, 0, 1) if self.batch_first else x), lasts

    def _inputs(self, x: Any) -> Any:
        """What a step takes of the inputs' products (T, N, gates · H)."""
        return x

    def _cell(self, w: Any, b: Any) -> Any:
        raise NotImplementedError

    def extra_repr(self) -> str:
        return (
            f"{self.input_size}, {self.hidden_size}, num_layers={self.num_layers}, bias={self.bias}, "
            f"batch_first={self.batch_first}"
        )


class _OneState(_Recurrent):
    """A layer whose state is its output."""

    def forward(self, x: Any, h_0: Any = None) -> tuple[Any, Any]:
        x = self._checked(x)
        output, lasts = self._run(x, self._start(x, h_0, "h_0"))
        return output, ops.stack(lasts)


class RNN(_OneState):
    """h ← tanh(W_ih x + b_ih + W_hh h + b_hh) (Elman 1990).

    ``output, h_n = RNN(input_size, hidden_size)(x, h_0=None)`` for x (T, N, input_size): output (T, N, H) is the last
    layer's h at every time; h_0 and h_n (num_layers, N, H) are the states before and after, h_0 zeros if not given.

    Raises:
        ValueError: shapes that do not fit.
    """

    gates = 1

    def _cell(self, w: Any, b: Any) -> Any:
        def step(h: Any, x: Any) -> tuple[Any, Any]:
            h = ops.tanh(x + ops.linear(h, w, b))
            return h, h

        return step


class GRU(_OneState):
    """Gated recurrent unit (Cho et al. 2014, with the reset gate after the product).

    r, z = σ(W_ih x + b_ih + W_hh h + b_hh);  n = tanh(W_in x + b_in + r (W_hn h + b_hn));  h ← (1 - z) n + z h.
    Arguments, shapes and errors as in ``RNN``; the rows of the weights are those of r, z and n.
    """

    gates = 3

    def _inputs(self, x: Any) -> Any:
        return ops.split(x, sections=(2 * self.hidden_size,), axis=2)

    def _cell(self, w: Any, b: Any) -> Any:
        first = (2 * self.hidden_size,)

        def step(h: Any, x: Any) -> tuple[Any, Any]:
            gates, candidate = ops.split(ops.linear(h, w, b), sections=first, axis=1)
            r, z = ops.split(ops.sigmoid(x[0] + gates), sections=2, axis=1)
            n = ops.tanh(x[1] + r * candidate)
            h = n + z * (h - n)
            return h, h

        return step


class LSTM(_Recurrent):
    """Long short-term memory (Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000).

    i, f, o = σ(...);  g = tanh(...), each of W_ih x + b_ih + W_hh h + b_hh;  c ← f c + i g;  h ← o tanh(c).
    ``output, (h_n, c_n) = LSTM(input_size, hidden_size)(x, (h_0, c_0)=None)``, shapes and errors as in ``RNN``; the rows of
    the weights are those of i, f, g and o.
    """

    gates = 4

    def forward(self, x: Any, state: tuple[Any, Any] | None = None) -> tuple[Any, tuple[Any, Any]]:
        x = self._checked(x)
        h_0, c_0 = (None, None) if state is None else state
        output, lasts = self._run(x, [*zip(self._start(x, h_0, "h_0"), self._start(x, c_0, "c_0"), strict=True)])
        h_n, c_n = (ops.stack(list(part)) for part in zip(*lasts, strict=True))
        return output, (h_n, c_n)

    def _cell(self, w: Any, b: Any) -> Any:
        def step(state: tuple[Any, Any], x: Any) -> tuple[tuple[Any, Any], Any]:
            h, c = state
            i, f, g, o = ops.split(x + ops.linear(h, w, b), sections=4, axis=1)
            c = ops.sigmoid(f) * c + ops.sigmoid(i) * ops.tanh(g)
            h = ops.sigmoid(o) * ops.tanh(c)
            return (h, c), h

        return step
