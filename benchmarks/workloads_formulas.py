"""The workloads as formulas: JAX (jit), MyGrad and HIPS autograd, over the functions that they have as NumPy has them.

``LOSSES`` has the loss of each workload as a function of a ``Formulas`` (the layers), the weights and the data. A library overrides
the layers that it has a function of its own for. ``step_of(library, workload)`` is a
``workloads.Step``.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy
import workers
from workloads import FUNCTIONS, RATE, TRANSFORMER, Problem, Step, chain, fastest, problem


class Formulas:
    """Layers put together from the functions of a namespace ``np``."""

    def __init__(self, np: Any):
        self.np = np
        self.tanh, self.sqrt, self.exp, self.mean = np.tanh, np.sqrt, np.exp, np.mean

    def relu(self, x: Any) -> Any:
        return self.np.maximum(x, 0)

    def sigmoid(self, x: Any) -> Any:
        return 1.0 / (1.0 + self.np.exp(-x))

    def linear(self, x: Any, w: Any, b: Any) -> Any:
        return self.np.matmul(x, w.T) + b

    def softmax(self, x: Any) -> Any:
        z = self.np.exp(x - self.np.max(x, axis=-1, keepdims=True))
        return z / self.np.sum(z, axis=-1, keepdims=True)

    def cross_entropy(self, x: Any, labels: Any) -> Any:
        z = x - self.np.max(x, axis=1, keepdims=True)
        return self.np.mean(self.np.log(self.np.sum(self.np.exp(z), axis=1)) - z[numpy.arange(len(labels)), labels])

    def layer_norm(self, x: Any, w: Any, b: Any) -> Any:
        x = x - self.np.mean(x, axis=-1, keepdims=True)
        return x / self.np.sqrt(self.np.mean(x * x, axis=-1, keepdims=True) + 1e-5) * w + b

    def attention(self, q: Any, k: Any, v: Any) -> Any:
        """Causal, over the last two axes."""
        n, d = q.shape[-2:]
        mask = numpy.triu(numpy.full((n, n), -numpy.inf, numpy.float32), 1)
        scores = self.np.matmul(q * (1.0 / math.sqrt(d)), self.np.swapaxes(k, -1, -2)) + mask
        return self.np.matmul(self.softmax(scores), v)

    def images(self, x: Any) -> Any:
        """(N, C, H, W) in the layout that convolutions work in, and ``flat`` the way back, to (N, C H W)."""
        return x

    def flat(self, x: Any) -> Any:
        return x.reshape((x.shape[0], -1))

    def conv(self, x: Any, w: Any, b: Any) -> Any:
        raise workers.Missing("it has no convolution layer")

    def max_pool(self, x: Any) -> Any:
        raise workers.Missing("it has no pooling layer")

    def lstm(self, cell: Callable, start: tuple, xs: Any) -> Any:
        """The last h of h, c ← cell((h, c), x) over the first axis of xs."""
        state = start
        for t in range(len(xs)):
            state = cell(state, xs[t])
        return state[0]

    def recurrence(self, decay: Any, inputs: Any) -> Any:
        """All h of h ← decay h + input over axis 1 of the inputs (N, T, D)."""
        h, states = inputs[:, 0], []
        states = [h]
        for t in range(1, inputs.shape[1]):
            h = decay * h + inputs[:, t]
            states.append(h)
        return self.np.stack(states, axis=1)


# ---- the losses ----


def _mlp(f: Formulas, p: list, x: Any, y: Any) -> Any:
    for w, b in zip(p[:-2:2], p[1:-2:2], strict=True):
        x = f.relu(f.linear(x, w, b))
    return f.cross_entropy(f.linear(x, p[-2], p[-1]), y)


def _cnn(f: Formulas, p: list, x: Any, y: Any) -> Any:
    x = f.relu(f.conv(f.images(x), p[0], p[1]))
    x = f.max_pool(f.relu(f.conv(x, p[2], p[3])))
    return _mlp(f, p[4:], f.flat(x), y)


def _lstm(f: Formulas, p: list, x: Any, y: Any) -> Any:
    w_x, w_h, b_x, b_h, w, b = p
    n = w_h.shape[1]

    def cell(state: tuple, x: Any) -> tuple:
        h, c = state
        z = x + f.np.matmul(h, w_h.T)
        i, o = f.sigmoid(z[:, :n]), f.sigmoid(z[:, 3 * n :])
        c = f.sigmoid(z[:, n : 2 * n]) * c + i * f.np.tanh(z[:, 2 * n : 3 * n])
        return o * f.np.tanh(c), c

    zero = numpy.zeros((x.shape[1], n), numpy.float32)
    return f.cross_entropy(f.linear(f.lstm(cell, (zero, zero), f.linear(x, w_x, b_x + b_h)), w, b), y)


def _transformer(f: Formulas, p: list, x: Any, y: Any) -> Any:
    heads, (n, t, width) = TRANSFORMER["heads"], x.shape
    for k in range(TRANSFORMER["layers"]):
        w_in, b_in, w_out, b_out, w1, b1, w2, b2, g1, s1, g2, s2 = p[12 * k : 12 * (k + 1)]
        z = f.linear(x, w_in, b_in).reshape((n, t, 3, heads, width // heads))
        q, k_, v = (f.np.transpose(z[:, :, i], (0, 2, 1, 3)) for i in range(3))
        joined = f.np.transpose(f.attention(q, k_, v), (0, 2, 1, 3)).reshape((n, t, width))
        x = f.layer_norm(x + f.linear(joined, w_out, b_out), g1, s1)
        x = f.layer_norm(x + f.linear(f.relu(f.linear(x, w1, b1)), w2, b2), g2, s2)
    return f.cross_entropy(f.linear(x, p[-2], p[-1]).reshape((n * t, -1)), y)


def _ssm(f: Formulas, p: list, x: Any, y: Any) -> Any:
    alpha, b, c, d, w, bias = p
    h = f.recurrence(f.sigmoid(alpha), b * x)
    return f.cross_entropy(f.linear(f.mean(c * h + d * x, axis=1), w, bias), y)


LOSSES: dict[str, Callable] = {
    **dict.fromkeys(("mlp_tiny", "mlp_small", "mlp_wide"), _mlp),
    "cnn": _cnn,
    "lstm": _lstm,
    "transformer": _transformer,
    "ssm": _ssm,
    "chain": lambda f, p: chain(f, p[0]),
    "softmax_cross_entropy": lambda f, p, y: f.cross_entropy(p[0], y),
    "layer_norm": lambda f, p, t: f.mean(f.layer_norm(*p) * t),
}


def step_of(library: str, workload: str) -> Step:
    return {"jax": _jax, "mygrad": _mygrad, "hips": _hips}[library](workload, problem(workload))


# ---- JAX ----


def _jax_layers(way: str) -> Formulas:
    import jax
    import jax.numpy as jnp
    from jax import lax, nn

    class Layers(Formulas):
        def relu(self, x: Any) -> Any:
            return nn.relu(x)

        def sigmoid(self, x: Any) -> Any:
            return nn.sigmoid(x)

        def softmax(self, x: Any) -> Any:
            return nn.softmax(x)

        def cross_entropy(self, x: Any, labels: Any) -> Any:
            return -jnp.mean(jnp.take_along_axis(nn.log_softmax(x), labels[:, None], axis=1))

        def images(self, x: Any) -> Any:
            return jnp.transpose(x, (0, 2, 3, 1)) if way == "NHWC" else x

        def flat(self, x: Any) -> Any:
            return super().flat(jnp.transpose(x, (0, 3, 1, 2)) if way == "NHWC" else x)

        def conv(self, x: Any, w: Any, b: Any) -> Any:
            y = lax.conv_general_dilated(x, w, (1, 1), "VALID", dimension_numbers=(way, "OIHW", way))
            return y + (b if way == "NHWC" else b[:, None, None])

        def max_pool(self, x: Any) -> Any:
            window = (1, 2, 2, 1) if way == "NHWC" else (1, 1, 2, 2)
            return lax.reduce_window(x, -jnp.inf, lax.max, window, window, "VALID")

        def lstm(self, cell: Callable, start: tuple, xs: Any) -> Any:
            return lax.scan(lambda s, x: (cell(s, x), None), start, xs)[0][0]

        def recurrence(self, decay: Any, inputs: Any) -> Any:
            if way == "associative_scan":
                join = lambda a, b: (a[0] * b[0], b[0] * a[1] + b[1])
                return lax.associative_scan(join, (jnp.broadcast_to(decay, inputs.shape), inputs), axis=1)[1]

            def step(h: Any, u: Any) -> tuple:
                h = decay * h + u
                return h, h

            return jnp.swapaxes(lax.scan(step, jnp.zeros_like(inputs[:, 0]), jnp.swapaxes(inputs, 0, 1))[1], 0, 1)

    assert jax.default_backend() == "cpu"
    return Layers(jnp)


def _jax(workload: str, given: Problem) -> Step:
    ways = {
        "cnn": {"NCHW": "in the layout NCHW", "NHWC": "in the layout NHWC"},
        "ssm": {"scan": "by lax.scan", "associative_scan": "by lax.associative_scan"},
    }.get(workload)
    if ways is None:
        return _jax_step(workload, given, "")
    return fastest([(note, lambda way=way: _jax_step(workload, given, way)) for way, note in ways.items()])


def _jax_step(workload: str, given: Problem, way: str) -> Step:
    import jax
    import jax.numpy as jnp

    layers, loss_of = _jax_layers(way), LOSSES[workload]
    both = jax.value_and_grad(lambda p, *data: loss_of(layers, p, *data))
    data = [jnp.asarray(a) for a in given.data]
    weights = [jnp.array(w) for w in given.weights]
    if workload in FUNCTIONS:
        jitted, found = jax.jit(both), list[Any]()

        def function() -> Any:
            loss, found[:] = jax.block_until_ready(jitted(weights, *data))
            return loss

        return Step(function, lambda: [numpy.asarray(g) for g in found])

    def updated(p: list, *data: Any) -> tuple:
        loss, g = both(p, *data)
        return loss, [a - RATE * d for a, d in zip(p, g, strict=True)]

    update = jax.jit(updated, donate_argnums=0)

    def step() -> Any:
        nonlocal weights
        loss, weights = jax.block_until_ready(update(weights, *data))
        return loss

    return Step(step, lambda: [numpy.array(w) for w in weights])


# ---- MyGrad ----


def _mygrad(workload: str, given: Problem) -> Step:
    import mygrad as mg
    from mygrad.nnet import activations, layers, losses

    class Layers(Formulas):
        def relu(self, x: Any) -> Any:
            return activations.relu(x)

        def sigmoid(self, x: Any) -> Any:
            return activations.sigmoid(x)

        def softmax(self, x: Any) -> Any:
            return activations.softmax(x)

        def cross_entropy(self, x: Any, labels: Any) -> Any:
            return losses.softmax_crossentropy(x, labels)

        def conv(self, x: Any, w: Any, b: Any) -> Any:
            return layers.conv_nd(x, w, stride=1) + b.reshape(-1, 1, 1)

        def max_pool(self, x: Any) -> Any:
            return layers.max_pool(x, (2, 2), 2)

    f, loss_of = Layers(mg), LOSSES[workload]
    weights = [mg.tensor(w) for w in given.weights]

    def step() -> Any:
        loss = loss_of(f, weights, *given.data)
        loss.backward()
        if workload not in FUNCTIONS:
            for w in weights:
                w.data -= RATE * w.grad
        return loss

    return Step(step, lambda: [numpy.array(w.grad if workload in FUNCTIONS else w.data) for w in weights])


# ---- HIPS autograd ----


def _hips(workload: str, given: Problem) -> Step:
    from autograd import numpy as np
    from autograd import value_and_grad

    f, loss_of = Formulas(np), LOSSES[workload]
    both = value_and_grad(lambda p: loss_of(f, p, *given.data))
    weights, found = list(given.weights), list[Any]()

    def step() -> Any:
        nonlocal weights
        loss, found[:] = both(weights)
        if workload not in FUNCTIONS:
            weights = [w - RATE * g for w, g in zip(weights, found, strict=True)]
        return loss

    return Step(step, lambda: [numpy.asarray(a) for a in (found if workload in FUNCTIONS else weights)])
