"""The rows of neural networks for ``accuracy``: losses of logits, normalisation, convolution, pooling. See ``accuracy_arrays``."""

from typing import Any

import numpy as np
from accuracy_arrays import Instances, arrays, exp, logits, moments, numbers, total
from mpmath import mp

# ---- losses ----


def with_classes(at: Instances, *before: bool) -> Instances:
    """The instances with a class for each, which is not the likeliest; the class axis is the only one."""

    def of(dtype: np.dtype, rng: np.random.Generator) -> list[tuple[np.ndarray, ...]]:
        return [(*xs, np.array(int(rng.integers(len(xs[-1]))))) for xs in at(dtype, rng)]

    return of


def loss(x: np.ndarray, target: Any) -> tuple[np.ndarray, np.ndarray]:
    p = exp(x) / total(exp(x))
    return np.array([mp.log(total(exp(x))) - x[int(target)]], dtype=object), p


arrays(
    "cross_entropy",
    lambda x, t: loss(x, t)[0],
    with_classes(logits),
    params={"axis": 0, "smoothing": 0.0},
    untracked=(1,),
    normwise=True,
    ours=lambda o, x, t: o.cross_entropy(x, t),
    torch=lambda t, x, c: t.nn.functional.cross_entropy(x, c),
    jax=lambda j, x, c: j.nn.logsumexp(x) - x[c],
)


def loss_rule(g: np.ndarray, p: np.ndarray, target: Any) -> np.ndarray:
    hit = np.array([int(i == int(target)) for i in range(len(p))], dtype=object)
    return g.reshape(()).item() * (p - hit) if g.ndim == 0 else g * (p - hit)


def _probabilities(dtype: np.dtype, rng: np.random.Generator) -> list[tuple[np.ndarray, ...]]:
    return [
        (np.asarray(rng.random() + 0.5).astype(dtype), p.astype(dtype), np.array(2))
        for p in rng.dirichlet(np.ones(5), 6)
    ]


arrays(
    "cross_entropy_rule", loss_rule, _probabilities, params={"axis": 0, "smoothing": 0.0}, untracked=(2,), normwise=True
)

# ---- normalisation ----


def standardized(x: np.ndarray) -> np.ndarray:
    d = x - total(x) / len(x)
    return d / mp.sqrt(total(d * d) / len(x) + mp.mpf(1e-5))


def projected(g: np.ndarray, z: np.ndarray) -> np.ndarray:
    return g - total(g) / len(g) - z * (total(g * z) / len(g))


_one_row = lambda at: lambda dtype, rng: [(x[None],) for (x,) in at(dtype, rng)]
arrays(
    "standardize", lambda x: standardized(x[0]), _one_row(lambda d, r: moments(d, r)[:5]), ours=lambda o, x: o.standardize(x, axes=(1,), eps=1e-5)[0][0], normwise=True,
    torch=lambda t, x: t.nn.functional.layer_norm(x, x.shape[1:])[0], jax=lambda j, x: j.nn.standardize(x, axis=1, epsilon=1e-5)[0],
)  # fmt: skip
arrays("project_out", projected, numbers((9,), (9,)), params={"axes": (0,)}, normwise=True)

# ---- convolution and pooling: one sample, two channels, one axis ----

STEP, PAD = 2, 1


def _padded(x: np.ndarray) -> np.ndarray:
    zeros = np.full((*x.shape[:2], PAD), mp.mpf(0), dtype=object)
    return np.concatenate([zeros, x, zeros], axis=2)


def convolved(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    x, k = _padded(x), w.shape[2]
    places = range(0, x.shape[2] - k + 1, STEP)
    return np.array([[[total(x[0, :, p : p + k] * f) for p in places] for f in w]], dtype=object)


def spread_back(g: np.ndarray, w: np.ndarray, n: int) -> np.ndarray:
    out, k = np.full((1, w.shape[1], n + 2 * PAD), mp.mpf(0), dtype=object), w.shape[2]
    for c in range(w.shape[0]):
        for i in range(g.shape[2]):
            out[0, :, STEP * i : STEP * i + k] += g[0, c, i] * w[c]
    return out[:, :, PAD : n + PAD]


def weight_gradient(x: np.ndarray, g: np.ndarray, k: int) -> np.ndarray:
    x, out = _padded(x), np.full((g.shape[1], x.shape[1], k), mp.mpf(0), dtype=object)
    for c in range(g.shape[1]):
        for i in range(g.shape[2]):
            out[c] += g[0, c, i] * x[0, :, STEP * i : STEP * i + k]
    return out


GEOMETRY: dict[str, Any] = {"stride": (STEP,), "padding": ((PAD, PAD),), "dilation": (1,), "groups": 1}
SIZE, KERNEL = 9, 3
arrays(
    "conv", convolved, numbers((1, 2, SIZE), (3, 2, KERNEL)), params=GEOMETRY, normwise=True, torch=lambda t, x, w: t.nn.functional.conv1d(x, w, stride=STEP, padding=PAD),
    jax=lambda j, x, w: j.lax.conv_general_dilated(x, w, (STEP,), ((PAD, PAD),)),
)  # fmt: skip
arrays(
    "conv_transpose", lambda g, w: spread_back(g, w, SIZE), numbers((1, 3, 5), (3, 2, KERNEL)), params={**GEOMETRY, "size": (SIZE,)}, normwise=True,
    torch=lambda t, g, w: t.nn.functional.conv_transpose1d(g, w, stride=STEP, padding=PAD),
)  # fmt: skip
arrays(
    "conv_weight", lambda x, g: weight_gradient(x, g, KERNEL), numbers((1, 2, SIZE), (1, 3, 5)), params={**GEOMETRY, "kernel": (KERNEL,)}, normwise=True,
    torch=lambda t, x, g: t.nn.grad.conv1d_weight(x, (3, 2, KERNEL), g, stride=STEP, padding=PAD),
)  # fmt: skip


def averaged(x: np.ndarray) -> np.ndarray:
    return np.array([[[total(c[i : i + 3]) / 3 for i in range(0, len(c) - 2, STEP)] for c in x[0]]], dtype=object)


def spread_evenly(g: np.ndarray) -> np.ndarray:
    out = np.full((1, g.shape[1], SIZE), mp.mpf(0), dtype=object)
    for i in range(g.shape[2]):
        out[:, :, STEP * i : STEP * i + 3] += g[:, :, i : i + 1] / 3
    return out


WINDOW: dict[str, Any] = {"kernel": (3,), "stride": (STEP,), "padding": ((0, 0),)}
arrays(
    "avg_pool", averaged, numbers((1, 2, SIZE)), params=WINDOW, normwise=True, torch=lambda t, x: t.nn.functional.avg_pool1d(x, 3, STEP),
    jax=lambda j, x: j.lax.reduce_window(x, 0.0, j.lax.add, (1, 1, 3), (1, 1, STEP), "VALID") / 3,
)  # fmt: skip
arrays("spread_window", spread_evenly, numbers((1, 2, 4)), params={**WINDOW, "size": (SIZE,)}, normwise=True)
