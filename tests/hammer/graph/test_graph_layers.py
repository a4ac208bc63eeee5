"""Every layer and loss of ``autograd.nn``, compiled: the bits of eager code, forward and backward, or its numbers up to rounding."""

import numpy as np
import pytest
from graph_checks import flat, near, same

import hammer
from autograd import DiffTensor, nn, ops
from autograd.backend import is_inexact

RNG = np.random.default_rng
VECTORS, IMAGES, SERIES, TIMES = (
    (96, 4),
    (5, 4, 8, 8),
    (12, 4, 9),
    (9, 12, 4),
)  # 1 kB and more, so that plans use memory again


def real(*shape):
    return lambda rng: rng.normal(size=shape).astype(np.float32)


def places(count, *shape):
    return lambda rng: rng.integers(0, count, shape)


def chances(*shape):
    return lambda rng: rng.uniform(0.1, 0.9, shape).astype(np.float32)


CASES = {
    "ELU": (lambda: nn.ELU(0.7), real(*VECTORS)), "GELU": (lambda: nn.GELU("tanh"), real(*VECTORS)),
    "LeakyReLU": (nn.LeakyReLU, real(*VECTORS)), "ReLU": (nn.ReLU, real(*VECTORS)), "SiLU": (nn.SiLU, real(*VECTORS)),
    "Sigmoid": (nn.Sigmoid, real(*VECTORS)), "Softplus": (lambda: nn.Softplus(2.0), real(*VECTORS)), "Tanh": (nn.Tanh, real(*VECTORS)),
    "Softmax": (lambda: nn.Softmax(1), real(*VECTORS)), "LogSoftmax": (lambda: nn.LogSoftmax(0), real(*VECTORS)),
    "AvgPool2d": (lambda: nn.AvgPool2d(3, 2, 1), real(*IMAGES)), "MaxPool2d": (lambda: nn.MaxPool2d(3, 2, 1), real(*IMAGES)),
    "Flatten": (nn.Flatten, real(*IMAGES)), "Dropout": (lambda: nn.Dropout().eval(), real(*VECTORS)),
    "Sequential": (lambda: nn.Sequential(nn.Linear(4, 3, rng=0), nn.Tanh()), real(*VECTORS)),
    "Residual": (lambda: nn.Residual(nn.Linear(4, 3, rng=0), nn.Linear(4, 3, rng=1)), real(*VECTORS)),
    "BatchNorm1d": (lambda: nn.BatchNorm1d(4, track_running_stats=False), real(*VECTORS)),
    "BatchNorm2d": (lambda: nn.BatchNorm2d(4).eval(), real(*IMAGES)),
    "ChannelwiseScaling": (lambda: nn.ChannelwiseScaling(4), real(*IMAGES)), "LayerNorm": (lambda: nn.LayerNorm((8, 8)), real(*IMAGES)),
    "GroupNorm": (lambda: nn.GroupNorm(2, 4), real(*IMAGES)), "Linear": (lambda: nn.Linear(4, 5, rng=0), real(2, *VECTORS)),
    "Conv1d": (lambda: nn.Conv1d(4, 6, 3, padding=2, dilation=2, groups=2, rng=0), real(*SERIES)),
    "Conv2d": (lambda: nn.Conv2d(4, 5, 3, stride=2, padding=1, rng=0), real(*IMAGES)),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(4, 3, 3, stride=2, padding=1, rng=0), real(*IMAGES)),
    "Embedding": (lambda: nn.Embedding(5, 3, rng=0), places(5, 20, 6)),
    "PositionalEmbedding": (lambda: nn.PositionalEmbedding(12, 4, rng=0), real(*TIMES)),
    "RNN": (lambda: nn.RNN(4, 3, 2, rng=0), real(*TIMES)), "GRU": (lambda: nn.GRU(4, 3, batch_first=True, rng=0), real(*TIMES)),
    "LSTM": (lambda: nn.LSTM(4, 3, 2, bias=False, rng=0), real(*TIMES)), "DiagonalSSM": (lambda: nn.DiagonalSSM(4, 3, rng=0), real(*TIMES)),
    "MultiheadAttention": (lambda: nn.MultiheadAttention(4, 2, rng=0), *[real(*TIMES)] * 3),
    "TransformerEncoderLayer": (lambda: nn.TransformerEncoderLayer(4, 2, 6, dropout=0.0, rng=0), real(*TIMES)),
    "BCELoss": (nn.BCELoss, chances(*VECTORS), chances(*VECTORS)),
    "BCEWithLogitsLoss": (nn.BCEWithLogitsLoss, real(*VECTORS), chances(*VECTORS)),
    "CrossEntropyLoss": (lambda: nn.CrossEntropyLoss(label_smoothing=0.1), real(*VECTORS), places(4, 96)),
    "ClassNLLLoss": (nn.ClassNLLLoss, real(*VECTORS), places(4, 96)), "NLLLoss": (nn.NLLLoss, real(*VECTORS), places(4, 96)),
    "HuberLoss": (nn.HuberLoss, real(*VECTORS), real(*VECTORS)), "L1Loss": (nn.L1Loss, real(*VECTORS), real(*VECTORS)),
    "MSELoss": (nn.MSELoss, real(*VECTORS), real(*VECTORS)), "SmoothL1Loss": (nn.SmoothL1Loss, real(*VECTORS), real(*VECTORS)),
}  # fmt: skip


def test_no_layer_is_left_out():
    layers = {n for n in nn.__all__ if isinstance(getattr(nn, n), type) and issubclass(getattr(nn, n), nn.Module)}
    assert layers - {"Module"} == set(CASES)


@pytest.mark.parametrize("exact", [True, False], ids=["exact", "rounding"])
@pytest.mark.parametrize("name", list(CASES))
def test_compiled(name, exact):
    make, *inputs = CASES[name]
    runs = []
    for compiled in (False, True):
        layer, rng = make(), RNG(1)
        function = hammer.compile(layer, exact=exact, fallback=False) if compiled else layer
        found = []
        for _ in range(2):
            arrays = [draw(rng) for draw in inputs]
            given = [DiffTensor(a, requires_grad=True) if is_inexact(a.dtype) else a for a in arrays]
            layer.zero_grad()
            outputs = [o for o in flat(function(*given)) if o is not None]
            total = sum(ops.sum(o * RNG(2).normal(size=o.shape).astype(np.float32)) for o in outputs)
            total.backward()
            found += [*outputs, *(t.grad for t in (*given, *layer.parameters()) if isinstance(t, DiffTensor))]
        runs.append(found)
        assert not compiled or function.traces == 1
    for e, c in zip(*runs, strict=True):
        same(c, e) if exact else near(c, e, ulps=256)
