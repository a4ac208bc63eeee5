"""Gradient transforms: what happens to gradients between the backward pass and the parameters.

A transform is a pair of functions, ``init(params) -> state`` and ``update(grads, state, params) -> (updates, state)``;
``chain`` composes them, and an optimizer is a chain (``autograd.optim``). ``base`` has the pair, the chain and
``leafwise``, from which most links are made; ``scaling`` has what optimizers are made of, ``clipping`` the limits,
``accumulation`` gradients gathered over micro-batches, ``compression``, ``codec`` and ``codecs`` what goes over a wire, ``sparse`` the
gradients of embeddings, ``loss_scaling`` what half precision needs. ``adaptive`` has further directions by element, ``matrices``
those that see a matrix, ``curvature`` L-BFGS, ``averaging`` links that keep better parameters than those they step, and
``partition`` groups of parameters.

    >>> import numpy as np
    >>> from autograd import gradients as gt
    >>> rule = gt.chain(gt.clip_by_global_norm(1.0), gt.trace(0.9), gt.scale_by_lr(0.1))
    >>> params = {"w": np.array([3.0, 4.0])}
    >>> state = rule.init(params)
    >>> updates, state = rule.update({"w": np.array([6.0, 8.0])}, state, params)
    >>> gt.apply_updates(params, updates)
    {'w': array([2.94, 3.92])}
"""

from . import codecs
from .accumulation import accumulate, accumulated, no_sync, synchronizing, weigh
from .adaptive import (
    scale_by_adadelta,
    scale_by_adagrad,
    scale_by_adamax,
    scale_by_ademamix,
    scale_by_lion,
    scale_by_nadam,
    scale_by_radam,
)
from .averaging import evaluation_params, schedule_free, slow_weights
from .base import (
    GradientTransform,
    apply_updates,
    chain,
    identity,
    leafwise,
    stateless,
)
from .clipping import (
    clip_adaptively,
    clip_by_global_norm,
    clip_by_parameter_norm,
    clip_by_value,
    clip_grad_norm_,
    global_norm,
)
from .compression import compress
from .curvature import scale_by_lbfgs
from .loss_scaling import loss_scale, scale_loss, unscale
from .matrices import graft, orthogonalize, scale_by_shampoo, scale_by_soap
from .partition import partition
from .scaling import add_decayed_weights, scale, scale_by_adam, scale_by_lr, scale_by_rms, trace
from .sparse import RowSparse

__all__ = [
    "GradientTransform", "RowSparse", "accumulate", "accumulated", "add_decayed_weights", "apply_updates", "chain",
    "clip_adaptively", "clip_by_global_norm", "clip_by_parameter_norm", "clip_by_value", "clip_grad_norm_", "codecs",
    "compress", "evaluation_params", "global_norm", "graft", "identity", "leafwise", "loss_scale", "no_sync",
    "orthogonalize", "partition", "scale", "scale_by_adadelta", "scale_by_adagrad", "scale_by_adam", "scale_by_adamax",
    "scale_by_ademamix", "scale_by_lbfgs", "scale_by_lion", "scale_by_lr", "scale_by_nadam", "scale_by_radam",
    "scale_by_rms", "scale_by_shampoo", "scale_by_soap", "scale_loss", "schedule_free", "slow_weights", "stateless",
    "synchronizing", "trace", "unscale", "weigh",
]  # fmt: skip
