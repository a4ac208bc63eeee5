"""Neural networks: modules, layers, losses and initialisers, under PyTorch's names.

    >>> import numpy as np
    >>> from autograd import nn
    >>> rng = np.random.default_rng(0)
    >>> model = nn.Sequential(nn.Linear(4, 8, rng=rng), nn.ReLU(), nn.Linear(8, 3, rng=rng))
    >>> loss = nn.CrossEntropyLoss()(model(np.ones((2, 4), np.float32)), np.array([0, 2]))
    >>> loss.backward()
    >>> [p.grad.shape for p in model.parameters()]
    [(8, 4), (8,), (3, 8), (3,)]

``module`` has Module, ``layers`` the layers with parameters or state, ``recurrent``, ``attention`` and ``state_space`` those for sequences,
``containers`` the rest, ``losses`` the losses, as functions too, and ``init`` the initialisers.
"""

from . import init, losses
from .attention import (
    MultiheadAttention,
    PositionalEmbedding,
    TransformerEncoderLayer,
    scaled_dot_product_attention,
    sinusoids,
)
from .containers import (
    ELU,
    GELU,
    AvgPool2d,
    Flatten,
    LeakyReLU,
    LogSoftmax,
    MaxPool2d,
    ReLU,
    Residual,
    Sequential,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)
from .layers import (
    BatchNorm1d,
    BatchNorm2d,
    ChannelwiseScaling,
    Conv1d,
    Conv2d,
    ConvTranspose2d,
    Dropout,
    Embedding,
    GroupNorm,
    LayerNorm,
    Linear,
)
from .losses import (
    BCELoss,
    BCEWithLogitsLoss,
    ClassNLLLoss,
    CrossEntropyLoss,
    HuberLoss,
    L1Loss,
    MSELoss,
    NLLLoss,
    SmoothL1Loss,
)
from .module import Module, Parameter
from .recurrent import GRU, LSTM, RNN
from .state_space import DiagonalSSM

__all__ = [
    "ELU",
    "GELU",
    "GRU",
    "LSTM",
    "RNN",
    "AvgPool2d",
    "BCELoss",
    "BCEWithLogitsLoss",
    "BatchNorm1d",
    "BatchNorm2d",
    "ChannelwiseScaling",
    "ClassNLLLoss",
    "Conv1d",
    "Conv2d",
    "ConvTranspose2d",
    "CrossEntropyLoss",
    "DiagonalSSM",
    "Dropout",
    "Embedding",
    "Flatten",
    "GroupNorm",
    "HuberLoss",
    "L1Loss",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "LogSoftmax",
    "MSELoss",
    "MaxPool2d",
    "Module",
    "MultiheadAttention",
    "NLLLoss",
    "Parameter",
    "PositionalEmbedding",
    "ReLU",
    "Residual",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "SmoothL1Loss",
    "Softmax",
    "Softplus",
    "Tanh",
    "TransformerEncoderLayer",
    "init",
    "losses",
    "scaled_dot_product_attention",
    "sinusoids",
]  # fmt: skip
