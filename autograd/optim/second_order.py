"""Methods that see matrices or curvature, as chains: Muon, Shampoo, SOAP, and L-BFGS with a fixed step."""

from typing import Literal

from .. import gradients as gt
from ..gradients import GradientTransform, chain
from ..gradients.scaling import Schedule
from .recipes import adamw, regularised, when


def muon(
    lr: float | Schedule = 1e-3,
    momentum: float = 0.95,
    nesterov: bool = True,
    weight_decay: float = 0.1,
    ns_steps: int = 5,
    adjust: Literal["original", "match_rms_adamw"] | None = "match_rms_adamw",
    adamw_lr: float | Schedule | None = None,
    betas: tuple[float, float] = (0.9, 0.95),
    eps: float = 1e-8,
) -> GradientTransform:
    """Muon for parameters of two axes or more, AdamW for the others (Jordan et al. 2024; Liu et al. 2025).

    The momentum of a matrix is orthogonalized by ``ns_steps`` Newton–Schulz steps; a kernel of a convolution counts as the matrix
    of its first axis by all others. With ``adjust`` "match_rms_adamw" both parts take the same learning rate;
    with "original", rates near 0.02 are usual for Muon, and ``adamw_lr`` gives the other part its own. Embeddings and
    output layers are matrices too, but do better under AdamW: see docs/optimizers.md.

    Args:
        lr, weight_decay: of both parts; the decay is decoupled.
        momentum, nesterov, ns_steps, adjust: of Muon; see ``gradients.orthogonalize``.
        adamw_lr: the rate of the other part, ``lr`` if None.
        betas, eps: of AdamW.
    """
    matrices = regularised(
        chain(gt.trace(momentum, nesterov=nesterov), gt.orthogonalize(ns_steps, adjust)),
        lr,
        weight_decay,
        decoupled=True,
    )
    others = adamw(lr if adamw_lr is None else adamw_lr, betas, eps, weight_decay)
    return gt.partition({"muon": matrices, "adamw": others}, lambda p: "muon" if p.ndim > 1 else "adamw")


def shampoo(
    lr: float | Schedule = 1e-3,
    momentum: float = 0.9,
    decay: float = 0.99,
    eps: float = 1e-12,
    weight_decay: float = 0.0,
    every: int = 10,
    max_size: int = 1024,
    graft: bool = True,
) -> GradientTransform:
    """Shampoo (Gupta et al. 2018) as it is used: running means, RMSprop's step size for each parameter, momentum after that,
    decoupled weight decay (Anil et al. 2020; Shi et al. 2023).

    ``shampoo(lr, momentum=0, decay=1.0, eps=1e-4, every=1, graft=False)`` is the method of the paper.

    Args:
        momentum: decay of the running mean of updates.
        decay: of the statistics, and of RMSprop's.
        eps: added to the eigenvalues of the statistics.
        every: updates from one computation of the matrix roots to the next.
        max_size: axes of more elements are not preconditioned.
        graft: whether each parameter's update gets the norm of RMSprop's.
    """
    direction = gt.scale_by_shampoo(decay, eps, every, max_size)
    if graft:
        direction = gt.graft(direction, gt.scale_by_rms(decay, corrected=True))
    smoothed = chain(direction, *when(momentum, gt.trace(momentum, dampening=momentum)))
    return regularised(smoothed, lr, weight_decay, decoupled=True)


def soap(
    lr: float | Schedule = 3e-3,
    betas: tuple[float, float] = (0.95, 0.95),
    shampoo_beta: float | None = None,
    eps: float = 1e-8,
    weight_decay: float = 0.01,
    every: int = 10,
    max_size: int = 10000,
    vectors: bool = False,
) -> GradientTransform:
    """Adam in the eigenbases of Shampoo, with decoupled weight decay (Vyas et al. 2024); see ``gradients.scale_by_soap``."""
    return regularised(
        gt.scale_by_soap(*betas, shampoo_beta, eps, every, max_size, vectors), lr, weight_decay, decoupled=True
    )


def lbfgs(lr: float | Schedule = 1.0, memory: int = 10) -> GradientTransform:
    """L-BFGS with a fixed step, for gradients without noise (Liu & Nocedal 1989); ``LBFGS`` has a line search."""
    return chain(gt.scale_by_lbfgs(memory), gt.scale_by_lr(lr))
