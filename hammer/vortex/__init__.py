"""VortexGrad: a bank of gradient memories, each let through as far as its gradients agree.

For every parameter and every memory k with decay β_k, phase φ_k and gain λ_k, after t gradients g_1 … g_t:

    m_k ← β_k e^{iφ_k} m_k + (1 − β_k) g    the memory, 0 at first; bias-corrected m̂_k = m_k / (1 − β_k^t)
    v_k ← β_k v_k + (1 − β_k) (g² + ε)      mean square,             v̂_k = v_k / (1 − β_k^t)
    c_k = |m̂_k|² / v̂_k  ∈ [0, 1]            coherence: 1 if all gradients were equal and φ = 0 (Cauchy–Schwarz)
    c0_k = (1 − β_k)(1 + β_k^t) / ((1 + β_k)(1 − β_k^t))
                                            what c_k is on average if the gradients are noise (independent, mean zero)
    r_k = clip((c_k − c0_k) / (1 − c0_k), 0, 1)^γ, and 0 at t = 1
                                            resonance: how far the memory is above the noise; or, with ``significance=s``, 1 if
                                            m̂_k is more than s standard errors from 0, else 0
    h   = a0 g + Σ_k λ_k r_k Re m̂_k         what goes on to the optimizer

The resonance is taken per coordinate, per tensor (sums of |m̂|² and v̂ over the tensor in c), or not at all (r = 1). ``normalize``
divides h by a0 + Σ λ_k r_k. The gain is bounded, |h_i| ≤ (a0 + Σ λ_k) max over s ≤ t of |g_s,i|, and with all gains 0 and
a0 = 1 the transform is the identity, bit for bit. Known methods are special cases with fixed resonance (``presets``). Without a
gate, h is a linear filter of the gradients; its gains, its frequency response and the largest stable learning rate are
known (docs/vortex.md has the theorem and its proof).

``settings`` holds ``VortexGrad``, the settings, which make the transform; ``bank`` is the arithmetic of decaying memories, ``buffers``
of memories that keep gradients as they are; ``filters`` the theory of the linear filter; ``presets`` known methods; ``recipes``
optimizers; ``pictures`` a Bode plot and a map of coherence over training.

    optimizer = Optimizer(model.parameters(), chain(vortex(), adamw(1e-3)))        # a link like any other
    optimizer = VortexSGD(model.parameters(), lr=0.1, bank=presets.grokfast_ema())  # or a recipe
"""

from . import presets
from .filters import StabilityWarning
from .pictures import CoherenceMap
from .recipes import VortexAdamW, VortexSGD, vortex_adamw, vortex_sgd
from .settings import VortexGrad, vortex

__all__ = [
    "CoherenceMap", "StabilityWarning", "VortexAdamW", "VortexGrad", "VortexSGD", "presets", "vortex", "vortex_adamw", "vortex_sgd",
]  # fmt: skip
