"""Known methods as settings of a bank: each function returns a ``VortexGrad`` (call it, or give it to a recipe).

All have a fixed resonance, ``gate="none"``. They are step for step the published update (tests: to 1e-12, against the formulas
written out), as the direction that an optimizer takes.
"""

import math
from collections.abc import Sequence

from .settings import VortexGrad


def grokfast_ema(alpha: float = 0.98, lamb: float = 2.0) -> VortexGrad:
    """Grokfast-EMA (Lee et al. 2024, algorithm 2): λ times a running mean, which starts at the first gradient, is added."""
    return VortexGrad((alpha,), (lamb,), gate="none", initial="gradient", bias_correction=False)


def grokfast_ma(window: int = 100, lamb: float = 5.0, warmup: bool = True) -> VortexGrad:
    """Grokfast-MA (Lee et al. 2024, algorithm 1): λ times the mean of the last gradients is added; with ``warmup`` once there are
    ``window`` of them."""
    return VortexGrad((0.0,), (lamb,), gate="none", memory="window", capacity=window, wait=warmup)


def heavy_ball(beta: float = 0.9) -> VortexGrad:
    """The heavy ball (Polyak 1964): ``v ← β v + g``."""
    return VortexGrad((beta,), (1 / (1 - beta),), direct=0.0, gate="none", bias_correction=False)


def quasi_hyperbolic(beta: float = 0.999, nu: float = 0.7) -> VortexGrad:
    """Quasi-hyperbolic momentum (Ma & Yarats 2019, eq. 3 and 4): ``(1 − ν) g + ν m``."""
    return VortexGrad((beta,), (nu,), direct=1 - nu, gate="none", bias_correction=False)


def aggregated(betas: Sequence[float] = (0.0, 0.9, 0.99)) -> VortexGrad:
    """Aggregated momentum (Lucas et al. 2019, eq. 4): the mean of several velocities."""
    gains = [1 / (len(betas) * (1 - b)) for b in betas]
    return VortexGrad(betas, gains, direct=0.0, gate="none", bias_correction=False)


def ademamix(beta1: float = 0.9, beta3: float = 0.9999, alpha: float = 5.0) -> VortexGrad:
    """The numerator of AdEMAMix (Pagliardini et al. 2024, eq. 1): a corrected fast mean and α times a slow one that is not corrected."""
    return VortexGrad((beta1, beta3), (1.0, alpha), direct=0.0, gate="none", bias_correction=(True, False))


def complex_momentum(beta: float = 0.8, phase: float = math.pi / 8) -> VortexGrad:
    """Complex momentum (Lorraine et al. 2021): the real part of ``v ← β e^{iφ} v + g``."""
    gain = 1 / (1 - beta)
    return VortexGrad((beta,), (gain,), direct=0.0, gate="none", bias_correction=False, phases=(phase,))


def critical_gradients(capacity: int = 5, decay: float = 0.7, kappa: float = 1.0) -> VortexGrad:
    """Critical gradients (McRae et al. 2022), aggregated as a sum: κ times the mean of the gradients of largest norm is added."""
    return VortexGrad((decay,), (kappa,), gate="none", memory="critical", capacity=capacity)
